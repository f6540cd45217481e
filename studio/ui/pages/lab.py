"""Lab: guided experiments on the starter model, each with a plot and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.lab import experiments
from studio.ui import choice, controls, kit, labview, live
from studio.ui.labview import FIELD
from studio.ui.pages.tune import QUIET, header


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header("See it happen", "Five experiments on the starter model: what tuning does besides what you asked for.")
    trouble = kit.slot()
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), labview.result)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), labview.cards)
    field = gr.Textbox(elem_id=FIELD, elem_classes="st-hidden", show_label=False, container=False)
    tools.after(field.change(kit.edge(act), field, trouble, queue=False, **QUIET))


def act(text: str) -> str:
    """Do what a drawn control says."""
    return controls.acted(text, _ACTIONS)


def _start(message: dict[str, Any]) -> None:
    run = kit.begin(experiments.asked(str(message.get("name"))))
    choice.update(lab={"id": run.id})


_ACTIONS: dict[str, Callable[[dict[str, Any]], None]] = {
    "start": _start,
    "resume": lambda message: labview.resume(live.look(), str(message.get("id"))),
    "show": lambda message: labview.show(live.look(), str(message.get("id"))),
}
