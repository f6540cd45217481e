"""Train: teach the base model to answer, from conversations."""

from __future__ import annotations

from studio.ui import kit
from studio.ui.pages.tune import Tune, header


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header("Teach it to answer", "Supervised fine-tuning on your conversations. Closing this page does not stop it.")
    Tune("train").draw(tools, "Start training")
