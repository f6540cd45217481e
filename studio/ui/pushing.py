"""The export page's push to the hub: a repository's name, what is sent, and the run that sends it."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from studio import jobs, runs
from studio.errors import RunError
from studio.export import push
from studio.ui import choice, kit, live, pushview

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def part(tools: kit.Kit) -> None:
    """Lay out the part."""
    with gr.Accordion("Push to the hub", open=False, elem_classes="st-card st-settings", elem_id="st-push") as box:
        trouble = kit.slot(elem_id="st-push-trouble")
        tools.live(kit.slot(elem_id="st-push-card"), pushview.card)
        repo = gr.Textbox(
            label="Repository",
            placeholder="NAME, or ORG/NAME",
            info="It is made where it is not there yet.",
            max_lines=1,
            elem_id="st-push-repo",
        )
        what = gr.Radio([], label="What is sent", elem_id="st-push-what")
        tools.live(kit.slot(elem_id="st-push-sent"), pushview.sent)
        private = gr.Checkbox(
            True, label="Private", info="Only you, or your organisation, can see it.", elem_id="st-push-private"
        )
        with gr.Row(elem_classes="st-buttons"):
            start = gr.Button("Push", elem_id="st-push-start", elem_classes="st-small")
    do = gr.Textbox(elem_id=pushview.DO, elem_classes="st-hidden", show_label=False, container=False)
    tools.live(box, lambda scene: gr.update(visible=pushview.source(scene) is not None))
    tools.live(what, _whats)
    tools.live(start, lambda scene: gr.update(interactive=pushview.ready(scene)))
    tools.after(what.input(lambda picked: choice.update(push={"what": picked}), what, None, queue=False, **_QUIET))
    tools.after(start.click(kit.edge(begin), [repo, what, private], trouble, **_QUIET))
    tools.after(do.change(kit.edge(act), do, trouble, queue=False, **_QUIET))


def _whats(scene: live.Scene) -> Any:
    offered = [(pushview.WHAT[name], name) for name in pushview.offers(scene)]
    return gr.update(choices=offered, value=pushview.chosen(scene) or None)


def begin(repo: str, what: str, private: bool) -> str:
    """Start the push of what is shown. Raises InputError and RunError before anything is made."""
    view = pushview.source(live.look())
    if view is None:
        raise RunError("There is nothing to push yet.", "Train or export first.")
    name = push.check_repo(repo or "")
    push.check_source(view.run, what or "")
    options = {"source": str(view.run.dir), "repo": name, "what": what, "private": bool(private)}
    title = f"push {view.config.title} to {name}"
    kit.begin(runs.RunConfig("push", title, view.config.model, parent=str(view.run.dir), options=options))
    return ""


def act(text: str) -> str:
    """Do what a drawn control says: stop the push that goes."""
    try:
        message = json.loads(text)
    except ValueError:
        return ""
    view = pushview.newest(live.look())
    if isinstance(message, dict) and message.get("do") == "stop" and view is not None and view.running:
        jobs.stop(view.run)
        live.touch()
    return ""
