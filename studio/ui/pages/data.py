"""Data: look at a file as the model will see it, repair it, then use it."""

from __future__ import annotations

import functools
from typing import Any

import gradio as gr

from studio.ui import (
    controls,
    dataacts,
    datahand,
    datalint,
    datatable,
    dataview,
    datawork,
    examine,
    kit,
    live,
    parts,
    starter,
)
from studio.ui.looking import PAGES, Looking, step_of
from studio.ui.pages.tune import header

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "Look at the data as the model will see it",
        "Only the marked tokens are learned. The grey ones are read, not learned.",
    )
    with gr.Column(elem_classes="st-card st-choose"):
        path, read, upload = kit.opener(
            "data",
            "File on this machine, or data set of the hub",
            "/home/me/conversations.jsonl or org/name",
        )
        kit.slot(dataview.samples)
        tools.live(kit.slot(), dataview.voted)
        tools.live(kit.slot(), dataview.judged_sets)
    trouble = kit.slot()

    def opens(event: Any) -> None:
        tools.after(event.then(_path, None, path, queue=False, **QUIET))

    hand = gr.Button("hand", elem_id="st-hand-open", elem_classes="st-hidden")
    datahand.draw(hand, tools, trouble, opens)
    for draw in (datawork.work, dataview.bar, dataview.made, dataview.mapping):
        tools.live(kit.slot(), draw)
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), _errors_first)
            tools.live(kit.slot(), lambda s: dataview.preview(s) or dataview.nothing(s))
            tools.live(kit.slot(), _findings)
            tools.live(kit.slot(), dataview.in_use)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            for draw in (datalint.side, datalint.split):
                tools.live(kit.slot(), draw)
            with gr.Row(elem_classes="st-buttons"):
                tools.live(kit.slot(), _onward)
                use = gr.Button(
                    "Use this data", elem_id="st-data-use", variant="primary", elem_classes="st-small", visible=False
                )
    for draw in (datatable.tools, datatable.table):
        tools.live(kit.slot(), draw)
    tools.live(use, _button)
    tools.after(use.click(kit.edge(dataacts.use), None, trouble, **QUIET))
    tools.restore([path], lambda scene: [_path()])
    for event in (read.click, path.submit):
        opens(event(kit.edge(lambda text: dataacts.open_file(examine.find(text))), path, trouble, **QUIET))
    dropped = upload.upload(kit.edge(lambda file: dataacts.open_file(examine.keep(file))), upload, trouble, **QUIET)
    opens(dropped.then(lambda: None, None, upload, **QUIET))
    for step in starter.SAMPLES:
        button = gr.Button(step, elem_id=f"st-sample-{step}", elem_classes="st-hidden")
        opens(button.click(kit.edge(functools.partial(dataacts.open_sample, step)), None, trouble, **QUIET))
    for kind in ("preference", "kto"):
        button = gr.Button(kind, elem_id=f"st-votes-{kind}", elem_classes="st-hidden")
        opens(button.click(kit.edge(functools.partial(dataacts.open_votes, kind)), None, trouble, **QUIET))
    button = gr.Button("look", elem_id="st-open-used", elem_classes="st-hidden")
    opens(button.click(kit.edge(dataacts.open_used), None, trouble, **QUIET))
    for name, follow in ((controls.DO, tools.after), (controls.SET, tools.renew)):
        field = gr.Textbox(elem_id=name, elem_classes="st-hidden", show_label=False, container=False)
        follow(field.change(kit.edge(dataacts.act), field, trouble, **QUIET))


def _path() -> str:
    return Looking.at(live.look().chosen).file


def _errors_first(scene: live.Scene) -> str:
    """Errors stand above the preview; what only deserves a look stands below it."""
    return datalint.warnings(scene) if _broken(scene) else ""


def _findings(scene: live.Scene) -> str:
    return "" if _broken(scene) else datalint.warnings(scene)


def _broken(scene: live.Scene) -> bool:
    both = dataview.ready(scene)
    return both is not None and bool(both[1].get("error_count")) and not both[1].get("ok")


def _button(scene: live.Scene) -> Any:
    if (both := dataview.ready(scene)) is None or dataacts.in_use(scene, *both):
        return gr.update(visible=False)
    ready = not datalint.blocking(scene, *both)
    where = PAGES.get(step_of(str(both[1].get("kind"))), "")
    return gr.update(visible=True, interactive=ready, value=f"Use this data for {where}" if where else "Use this data")


def _onward(scene: live.Scene) -> str:
    """Draw the way on, once the shown file is in use; before that, what stands in its way."""
    if (both := dataview.ready(scene)) is None:
        return ""
    if dataacts.in_use(scene, *both):
        step = step_of(str(both[1].get("kind")))
        return parts.link(step, f"Next: {PAGES[step]}", filled=True)
    reason = datalint.blocking(scene, *both)
    return f'<p class="st-note st-why" role="status">{parts.esc(reason)}</p>' if reason else ""
