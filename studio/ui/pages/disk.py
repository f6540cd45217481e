"""Disk: what Studio has on it, what needs what, and taking it away by way of a trash."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from studio import disk, runs, stock, trash
from studio.errors import RunError
from studio.ui import controls, diskview, kit
from studio.ui.diskview import FIELD, question
from studio.ui.pages.tune import header
from studio.ui.parts import size


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header("What lies on the disk", "Nothing goes before you have seen what needs it, and most of it can be put back.")
    asked = kit.slot(elem_id="st-disk-asked")
    tools.live(kit.slot(), diskview.bar)
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), diskview.things)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), diskview.thrown)
    field = gr.Textbox(elem_id=FIELD, elem_classes="st-hidden", show_label=False, container=False)
    tools.after(field.change(kit.edge(act), field, asked, show_progress="hidden", api_visibility="private"))
    tools.acts.append(diskview.watch)


def act(text: str) -> str:
    """Do what a drawn control says; give the question that comes next, or nothing."""
    return controls.acted(text, _ACTIONS)


def _ask(message: dict[str, Any]) -> str:
    """Ask before a thing goes: what it is, who needs it, whether there is a way back."""
    item = stock.look().find(str(message.get("key")))
    said = stock.said_before(item)
    if item.key.startswith("hub:"):
        button = controls.button("Delete from the hub's cache …", {"do": "ask-again", "key": item.key}, to=FIELD)
    elif item.again:
        button = controls.button("Delete", {"do": "delete", "key": item.key}, to=FIELD, filled=True)
    else:
        button = controls.button("Move to the trash", {"do": "delete", "key": item.key}, to=FIELD, filled=True)
    return question(f"Delete “{item.name}”?", said, button)


def _ask_again(message: dict[str, Any]) -> str:
    """Ask a second time, where there is no way back."""
    item = stock.look().find(str(message.get("key")))
    said = f"{size(item.bytes)} are freed at once. To have it again it must be downloaded again."
    if item.needed_by:
        needed = stock.listed(diskview.short(item.needed_by))
        said += f" Without it these cannot be chatted with, exported or gone on from: {needed}."
    button = controls.button("Delete for good", {"do": "delete", "key": item.key, "sure": True}, to=FIELD, filled=True)
    return question(f"Delete “{item.name}” for good?", said, button)


def _ask_checkpoints(message: dict[str, Any]) -> str:
    run = _run(message)
    count, held = len(run.checkpoints()), disk.held(run.dir / "checkpoints")
    amount = "1 checkpoint" if count == 1 else f"{count:,} checkpoints"
    go = "goes" if count == 1 else "go"
    said = (
        f"Its {amount}, {size(held)}, {go} into the trash. What was trained, its figures and its exports stay; "
        "you can no longer talk to an earlier step of this run."
    )
    message = {"do": "checkpoints", "key": message["key"]}
    button = controls.button("Move to the trash", message, to=FIELD, filled=True)
    return question(f"Delete the checkpoints of “{run.config.title}”?", said, button)


def _ask_empty(message: dict[str, Any]) -> str:
    entries = trash.entries()
    things = "1 thing" if len(entries) == 1 else f"{len(entries):,} things"
    total, go = size(sum(entry.bytes for entry in entries)), "is" if len(entries) == 1 else "are"
    said = f"{things}, {total}, {go} deleted for good."
    button = controls.button("Empty the trash", {"do": "empty"}, to=FIELD, filled=True)
    return question("Empty the trash?", said, button)


def _run(message: dict[str, Any]) -> runs.Run:
    """Find a run by its key in the list (what comes from a browser is never used as a path)."""
    found = next((run for run in runs.all_runs() if f"run:{run.id}" == message.get("key")), None)
    if found is None:
        raise RunError("That run is not there any more.", "Look at the list again.")
    return found


def _then_measured(action: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], str]:
    """Do something, then measure, also when it was refused."""

    def wrapped(message: dict[str, Any]) -> str:
        try:
            action(message)
        finally:
            diskview.measure()
        return ""

    return wrapped


def _after(message: dict[str, Any]) -> None:
    trash.keep(None if trash.days() is not None else trash.DAYS)


_ACTIONS: dict[str, Callable[[dict[str, Any]], str]] = {
    "ask": _ask,
    "ask-again": _ask_again,
    "ask-checkpoints": _ask_checkpoints,
    "ask-empty": _ask_empty,
    "keep": lambda message: "",
    "measure": _then_measured(lambda message: None),
    "delete": _then_measured(lambda message: stock.delete(str(message.get("key")), message.get("sure") is True)),
    "checkpoints": _then_measured(lambda message: stock.delete_checkpoints(_run(message))),
    "empty": _then_measured(lambda message: trash.empty()),
    "restore": _then_measured(lambda message: trash.restore(str(message.get("id")))),
    "after": _then_measured(_after),
}
