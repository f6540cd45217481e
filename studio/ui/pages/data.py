"""Data: look at a file as the model will see it, then use it."""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Any

import gradio as gr

from studio.errors import DataError
from studio.ui import choice, dataview, examine, kit, live, parts, starter
from studio.ui.pages.tune import header

_NAMES = {"train": "Train", "align": "Align"}


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "Look at the data as the model will see it",
        "Only the marked tokens are learned. The grey ones are read, not learned.",
    )
    with gr.Column(elem_classes="st-card st-choose"):
        with gr.Row(elem_classes="st-pick"):
            path = gr.Textbox(
                label="File on this machine",
                placeholder="/home/me/conversations.jsonl",
                max_lines=1,
                min_width=240,
                elem_id="st-data-path",
            )
            read = gr.Button("Open", elem_id="st-data-open", elem_classes="st-small")
            upload = gr.File(show_label=False, height=38, elem_classes="st-drop", elem_id="st-data-drop")
        kit.slot(dataview.samples)
    trouble = kit.slot()
    tools.live(kit.slot(), dataview.bar)
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), lambda s: dataview.preview(s) if dataview.looking(s)[0] else dataview.nothing(s))
            tools.live(kit.slot(), dataview.warnings)
            tools.live(kit.slot(), dataview.in_use)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), dataview.side)
            with gr.Row(elem_classes="st-buttons"):
                tools.live(kit.slot(), _onward)
                use = gr.Button(
                    "Use this data", elem_id="st-data-use", variant="primary", elem_classes="st-small", visible=False
                )
    tools.live(use, _button)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for event in (read.click, path.submit):
        tools.after(event(kit.edges(lambda text: open_file(examine.find(text))), path, trouble, **quiet))
    dropped = upload.upload(kit.edges(lambda file: open_file(examine.keep(file))), upload, trouble, **quiet)
    tools.after(dropped.then(lambda: (None, _path()), None, [upload, path], **quiet))
    for step in starter.SAMPLES:
        button = gr.Button(step, elem_id=f"st-sample-{step}", elem_classes="st-hidden")
        opened = button.click(kit.edges(functools.partial(open_sample, step)), None, trouble, **quiet)
        tools.after(opened.then(_path, None, path, **quiet))
    look = gr.Button("look", elem_id="st-open-used", elem_classes="st-hidden")
    tools.after(look.click(kit.edges(open_used), None, trouble, **quiet).then(_path, None, path, **quiet))
    for name, by in (("prev", -1), ("next", 1)):
        button = gr.Button(name, elem_id=f"st-row-{name}", elem_classes="st-hidden")
        tools.after(button.click(kit.edge(functools.partial(turn, by)), None, trouble, **quiet))
    tools.after(use.click(kit.edge(use_data), None, trouble, **quiet))
    tools.opening.append((kit.edges(reopen), trouble))
    tools.restore([path], lambda scene: [_path()])


def _path() -> str:
    return str(choice.get("looking").get("file") or "")


def _button(scene: live.Scene) -> Any:
    file, _, found = dataview.looking(scene)
    if not file or found is None:
        return gr.update(visible=False)
    step = examine.STEP_OF_KIND.get(str(found.get("kind")))
    used = step is not None and scene.data(step).get("file") == file
    ready = step is not None and not found.get("errors") and not used
    return gr.update(
        visible=not used, interactive=ready, value=f"Use this data for {_NAMES.get(step or '', 'training')}"
    )


def _onward(scene: live.Scene) -> str:
    """Draw the way on, once the shown file is in use."""
    file, _, found = dataview.looking(scene)
    step = examine.STEP_OF_KIND.get(str((found or {}).get("kind")), "")
    return (
        parts.link(step, f"Next: {_NAMES[step]}", filled=True) if step and scene.data(step).get("file") == file else ""
    )


def open_file(file: str, index: int = 0) -> Generator[str]:
    """Read a file through the child and show it."""
    scene = live.look()
    model = examine.model_of(scene)
    if examine.known_check(file, model) is None:
        yield parts.card("", parts.note("Reading the file and counting its tokens…"))
    found = examine.check(file, model)
    examine.look_at(file, index)
    if found.get("rows"):
        step = examine.STEP_OF_KIND.get(str(found.get("kind")), "train")
        examine.row(file, model, index, examine.max_length(scene, step))
    yield ""


def open_sample(step: str) -> Generator[str]:
    """Show the data that ships with the starter."""
    yield from open_file(str(starter.sample(step)))


def open_used() -> Generator[str]:
    """Show the file that Train uses, else the one that Align uses."""
    scene = live.look()
    used = scene.data("train") or scene.data("align")
    yield from open_file(examine.find(str(used.get("file") or "")))


def reopen() -> Generator[str]:
    """Show again what was shown before the window was restarted."""
    at = live.look().chosen.get("looking") or {}
    if at.get("file"):
        yield from open_file(str(at["file"]), int(at.get("index") or 0))


def turn(by: int) -> str:
    """Show the next or the previous row."""
    scene = live.look()
    file, index, found = dataview.looking(scene)
    if found is None:
        return ""
    index = max(0, min(int(found["rows"]) - 1, index + by))
    step = examine.STEP_OF_KIND.get(str(found.get("kind")), "train")
    examine.row(file, examine.model_of(scene), index, examine.max_length(scene, step))
    examine.look_at(file, index)
    return ""


def use_data() -> str:
    """Use the file that is shown; its kind decides for which step."""
    file, _, found = dataview.looking(live.look())
    if found is None:
        raise DataError("No file has been read.", "Open one first.")
    step = examine.STEP_OF_KIND.get(str(found.get("kind")))
    if step is None:
        raise DataError(f"Rows of the kind {found.get('kind')!r} cannot be trained on.", "Use conversations, or pairs.")
    if found.get("errors"):
        raise DataError("Some rows cannot be read.", "Repair them first; each stands under “Before training”.")
    choice.update(data={step: examine.summary(file, dict(found))})
    return ""
