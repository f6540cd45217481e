"""Lab: guided experiments on the starter model, each with a plot and what follows from it; and recipes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio.lab import experiments
from studio.ui import choice, controls, kit, labview, live, recipelook, recipeplan, recipeview
from studio.ui.labview import FIELD
from studio.ui.pages.tune import QUIET, header

_ABOUT = (
    "Everything that made a run, as a file: do it again and see whether the same weights come out, or do several "
    "rounds one after the other and keep the best."
)


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "See it happen",
        "Five experiments on the starter model: what tuning does besides what you asked for. Below them recipes, which "
        "do whole runs again.",
    )
    trouble = kit.slot()
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), labview.result)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), labview.cards)
    said = _recipes(tools)
    for name, place in ((FIELD, trouble), (recipeplan.FIELD, said)):
        field = gr.Textbox(elem_id=name, elem_classes="st-hidden", show_label=False, container=False)
        tools.after(field.change(kit.edge(act), field, place, queue=False, **QUIET))


def _recipes(tools: kit.Kit) -> Any:
    """Lay out the recipes: choose one, what it would do, Start; then the run that is shown. Gives the errors' place."""
    with gr.Column(elem_classes="st-card st-choose", elem_id="st-recipes"):
        kit.slot(f'<div class="st-head"><h2>Recipes</h2></div><p class="st-note st-recipe-about">{_ABOUT}</p>')
        path, read, upload = kit.opener("recipe", "Recipe on this machine", "/home/me/recipe.toml")
        kit.slot(recipeplan.samples())
    trouble = kit.slot(elem_id="st-recipe-trouble")
    with gr.Row(elem_classes="st-columns st-recipe-looked"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), recipeplan.plan)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            for draw in (recipeplan.files, recipeplan.onward):
                tools.live(kit.slot(), draw)
    for draw in (recipeplan.line, recipeview.card):
        tools.live(kit.slot(), draw)
    for event in (read.click, path.submit):
        tools.after(event(kit.edge(recipelook.open_file), path, trouble, **QUIET))
    dropped = upload.upload(kit.edge(recipelook.open_upload), upload, trouble, **QUIET)
    tools.after(dropped.then(lambda: None, None, upload, **QUIET))
    return trouble


def act(text: str) -> str:
    """Do what a drawn control says."""
    return controls.acted(text, _ACTIONS)


def _start(message: dict[str, Any]) -> None:
    run = kit.begin(experiments.asked(str(message.get("name"))))
    choice.update(lab={"id": run.id})


def _show(message: dict[str, Any]) -> None:
    """Show a run of the lab, or one of a recipe: other pages do not tell them apart."""
    scene, run_id = live.look(), str(message.get("id"))
    labview.show(scene, run_id)
    recipeview.show(scene, run_id)


def _start_recipe(message: dict[str, Any]) -> None:
    """Start the recipe that is looked at, or let it wait; what it was then stands with its run."""
    run = kit.begin(recipelook.asked(live.look()))
    recipelook.close()
    choice.update(recipe={"id": run.id, "newest": run.id})


def _where(message: dict[str, Any]) -> None:
    recipelook.say_where(live.look(), str(message.get("name")), str(message.get("value") or ""))


_ACTIONS: dict[str, Callable[[dict[str, Any]], str | None]] = {
    "start": _start,
    "resume": lambda message: labview.resume(live.look(), str(message.get("id"))),
    "show": _show,
    "recipe-sample": lambda message: recipelook.open_shipped(str(message.get("name"))),
    "recipe-moved": _where,
    "recipe-again": lambda message: recipelook.again(),
    "recipe-close": lambda message: recipelook.close(),
    "recipe-start": _start_recipe,
    "recipe-resume": lambda message: recipeview.resume(live.look(), str(message.get("id"))),
    "recipe-show": lambda message: recipeview.show(live.look(), str(message.get("value"))),
}
