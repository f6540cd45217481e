"""One online training run (PPO, RLOO): the policy writes, is scored, and learns from the scores."""

from __future__ import annotations

from typing import Any

from studio.train.prepare import Setup


def learn(made: Setup) -> dict[str, Any]:
    """Train from what the policy itself writes to prompts."""
    raise NotImplementedError
