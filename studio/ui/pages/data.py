"""Data: look at a file as the model will see it, then use it."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import gradio as gr

from studio.errors import DataError
from studio.ui import choice, dataview, examine, kit, live, parts, starter
from studio.ui.pages.tune import header


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
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), dataview.side)
            tools.live(kit.slot(), dataview.in_use)
            with gr.Row(elem_classes="st-buttons"):
                use = gr.Button(
                    "Use this data", elem_id="st-data-use", variant="primary", elem_classes="st-small", visible=False
                )
    tools.live(use, _button)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for event in (read.click, path.submit):
        tools.after(event(kit.edges(lambda text: open_file(examine.find(text))), path, trouble, **quiet))
    tools.after(
        upload.upload(kit.edges(lambda file: open_file(examine.keep(file))), upload, trouble, **quiet).then(
            lambda: None, None, upload, **quiet
        )
    )
    for step in starter.SAMPLES:
        button = gr.Button(step, elem_id=f"st-sample-{step}", elem_classes="st-hidden")
        tools.after(
            button.click(kit.edges(lambda step=step: open_file(str(starter.sample(step)))), None, trouble, **quiet)
        )
    for name, by in (("prev", -1), ("next", 1)):
        button = gr.Button(name, elem_id=f"st-row-{name}", elem_classes="st-hidden")
        tools.after(button.click(kit.edge(lambda by=by: turn(by)), None, trouble, **quiet))
    tools.after(use.click(kit.edge(use_data), None, trouble, **quiet))
    tools.opening.append((kit.edges(reopen), trouble))
    tools.restore([path], lambda scene: [(scene.chosen.get("looking") or {}).get("file") or ""])


def _button(scene: live.Scene) -> Any:
    file, _, found = dataview.looking(scene)
    if not file or found is None:
        return gr.update(visible=False)
    step = examine.STEP_OF_KIND.get(str(found.get("kind")))
    used = step is not None and scene.data(step).get("file") == file
    ready = step is not None and not found.get("errors") and not used
    text = "In use" if used else f"Use this data for {'Align' if step == 'align' else 'Train'}"
    return gr.update(visible=True, interactive=ready, value=text)


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
