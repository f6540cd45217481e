"""Align: move the taught model towards the answers that people prefer, or that a judge scores higher."""

from __future__ import annotations

from studio.ui import kit
from studio.ui.pages.tune import Tune, header


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "Teach it which answer is better",
        "From pairs, from thumbs up and down, or from the scores of a judge. It starts from what Train made.",
    )
    Tune("align").draw(tools, "Start aligning")
