"""Align: move the taught model towards the answers that people prefer, from pairs."""

from __future__ import annotations

from studio.ui import kit
from studio.ui.pages.tune import Tune, header


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "Teach it which answer is better",
        "From pairs of a chosen and a rejected answer, without a reward model. It starts from what Train made.",
    )
    Tune("align", ("preference", "kto")).draw(tools, "Start aligning")
