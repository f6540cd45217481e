"""Feedback: who or what says which answer is better; each set of judged answers, and the ranking by people."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from studio import jobs
from studio.data import preferences
from studio.errors import DataError, RunError, StudioError
from studio.ui import (
    choice,
    choosing,
    controls,
    dataacts,
    diskview,
    feedbackset,
    feedbackview,
    judged,
    judgedview,
    kit,
    live,
    parts,
    principlesview,
    rankview,
    reviewview,
    setsview,
)
from studio.ui.feedbackset import Form
from studio.ui.feedbackview import TRAINS
from studio.ui.live import Scene
from studio.ui.pages.tune import header
from studio.ui.rankview import DO, SET

#: The command line's flags in a sentence, which mean nothing here.
_FLAGS = re.compile(r" ?\(--[a-z-]+\)")
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Message = Mapping[str, Any]


def page(tools: kit.Kit) -> None:
    """Lay out the page: the ranking that is open, else the set that is shown, the next one, all of them."""
    header(
        "Say which answer is better", "People, a judge, principles or rules: each makes a set that Align learns from."
    )
    trouble = kit.slot(elem_id="st-feedback-asked")
    tools.live(kit.slot(), rankview.draw)
    with gr.Row(elem_classes="st-columns st-shown-run"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), feedbackview.figures)
            tools.live(kit.slot(), reviewview.draw)
            tools.live(kit.slot(), judgedview.table)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), feedbackview.made)
            tools.live(kit.slot(), feedbackview.use)
            with gr.Row(elem_classes="st-buttons"):
                tools.live(kit.slot(), feedbackview.onward)
                again = gr.Button(
                    "Resume", elem_id="st-feedback-resume", variant="primary", elem_classes="st-small", visible=False
                )
    tools.live(again, lambda scene: gr.update(visible=scene.running is None and kit.resumable(_shown(scene))))
    tools.after(again.click(kit.edge(resume), None, trouble, **QUIET))
    tools.live(kit.slot(), feedbackview.fold)
    _next(tools)
    tools.live(kit.slot(), setsview.sets)
    for name, follow in ((DO, tools.after), (SET, tools.renew)):
        field = gr.Textbox(elem_id=name, elem_classes="st-hidden", show_label=False, container=False)
        follow(field.change(kit.edge(act), field, trouble, queue=False, **QUIET))


def _shown(scene: Scene) -> live.View | None:
    return feedbackset.shown(scene) if rankview.opened(scene) is None else None


def _next(tools: kit.Kit) -> None:
    """Lay out the next set: its source, what is decided at the left, what follows from it and Start at the right."""
    all_forms = {name: Form(config, name) for name, config in feedbackset.sources().items()}
    with gr.Column(elem_classes="st-next"):
        tools.live(kit.slot(), feedbackview.sources)
        with gr.Row(elem_classes="st-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="st-left", visible=False) as left:
                inputs = _settings(tools, all_forms)
            with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
                tools.live(kit.slot(), feedbackview.before)
                trouble = kit.slot()
                tools.live(kit.slot(), _why_not)
                with gr.Row(elem_classes="st-buttons"):
                    start = gr.Button("Start", elem_id="st-feedback-start", variant="primary", elem_classes="st-small")
        tools.live(kit.slot(), principlesview.draw)
    tools.live(left, lambda scene: gr.update(visible=bool(feedbackset.source(scene))))
    tools.live(start, _start)
    begin = functools.partial(_begin, all_forms)
    tools.after(start.click(kit.edge(begin), inputs, trouble, **QUIET))


def _settings(tools: kit.Kit, all_forms: Mapping[str, Form]) -> list[Any]:
    """Lay out the prompts, and one form a source (the others are hidden)."""
    with gr.Column(elem_classes="st-card st-settings"):
        tools.live(kit.slot(), lambda scene: f'<div class="st-head"><h2>{parts.esc(_title(scene))}</h2></div>')
        with gr.Row(elem_classes="st-fields st-from"):
            data = gr.Dropdown(
                [],
                label="Prompts from",
                info="A file on this machine: prompts, pairs, or conversations, whose last question is asked.",
                allow_custom_value=True,
                elem_id="st-feedback-data",
                elem_classes="st-field",
            )
        tools.live(data, lambda scene: gr.update(choices=feedbackset.files(scene)))
        tools.restore([data], lambda scene: [feedbackset.file(scene)])
        tools.after(data.input(lambda value: feedbackset.keep(data=str(value or "")[:4000]), data, None, **QUIET))
        inputs: list[Any] = [data]
        for name, form in all_forms.items():
            with gr.Column(visible=False, elem_classes="st-form st-keeps") as group:
                form.draw()
                tools.keep(functools.partial(_remember, name, form), form.inputs)
            tools.live(group, functools.partial(_group, name))
            for setting, box in form.lists.items():
                tools.live(box, functools.partial(_offer, feedbackset.lists(name)[setting]))
            inputs += form.inputs
            tools.restore(form.inputs, functools.partial(_filled, name, form))
        tools.live(kit.slot(), feedbackview.terminal_line)
    return inputs


def _title(scene: Scene) -> str:
    return feedbackset.title(feedbackset.source(scene)) if feedbackset.source(scene) else "Settings"


def _group(name: str, scene: Scene) -> Any:
    return gr.update(visible=feedbackset.source(scene) == name)


def _offer(offers: Callable[[Scene], list[tuple[str, str]]], scene: Scene) -> Any:
    return gr.update(choices=offers(scene))


def _filled(name: str, form: Form, scene: Scene) -> list[Any]:
    return form.show_all({**feedbackset.begins(scene, name), **feedbackset.typed(scene, name)})


def _remember(name: str, form: Form, *given: Any) -> None:
    feedbackset.remember(name, form.values(given))


def _why_not(scene: Scene) -> str:
    """Say what the next set still needs, or what is wrong with its settings."""
    name = feedbackset.source(scene)
    if not name:
        return ""
    try:
        feedbackset.check(scene, name)
    except StudioError as error:
        said = _FLAGS.sub("", f"{error.message} {error.remedy}".strip())
        return f'<p class="st-note st-why" role="status">{parts.esc(said, 400)}</p>'
    return ""


def _start(scene: Scene) -> Any:
    name = feedbackset.source(scene)
    waits = scene.running is not None or bool(scene.queue)
    words = "Add to the queue" if waits else "Sample the answers" if name == "rank" else "Start"
    ready = bool(name) and not _why_not(scene)
    shown = feedbackset.shown(scene)
    variant = "primary" if shown is None or shown.status in ("failed", "interrupted") else "secondary"
    return gr.update(value=words, variant=variant, interactive=ready, visible=bool(name))


def _begin(all_forms: Mapping[str, Form], data: str, *values: Any) -> str:
    """Read the form of the chosen source, start the run or let it wait; show nothing but errors."""
    scene = live.look()
    name = feedbackset.source(scene)
    at = 0
    given: Sequence[Any] = ()
    for one, form in all_forms.items():
        if one == name:
            given = values[at : at + len(form.inputs)]
        at += len(form.inputs)
    if not name:
        raise RunError("No source is chosen.", "Choose one above.")
    config = feedbackset.config(scene, name, all_forms[name].values(given), str(data or ""))
    kit.begin(config)
    feedbackset.keep(open="", set="", newest="", ranking="", page=0, only="")
    return ""


def resume() -> str:
    """Start the run of the set that is shown again: what is finished is kept."""
    view = feedbackset.shown(live.look())
    if view is None:
        raise RunError("There is no set to go on with.", "Start one.")
    jobs.submit(view.run)
    return ""


# --- what the drawn controls do --------------------------------------------------------------------------------------


def act(text: str) -> str:
    """Do what a drawn control says; give the question that comes next, or nothing."""
    return controls.acted(text, _ACTIONS, live.look())


def _source(scene: Scene, message: Message) -> None:
    name = str(message.get("name"))
    if name not in feedbackset.sources():
        raise RunError("There is no such source.", "Choose one of the cards.")
    feedbackset.keep(source=name, open="yes")


def _show(scene: Scene, message: Message) -> None:
    feedbackset.pick(scene, str(message.get("id")))


def _page(scene: Scene, message: Message) -> None:
    page = message.get("page")
    feedbackset.keep(page=max(0, page) if isinstance(page, int) else 0)


def _train(scene: Scene, message: Message) -> str:
    """Make a set's rows the data of Align or Train, and choose the method; a doubtful set is asked about first."""
    kind, view = str(message.get("kind")), _set(scene, message)
    if kind not in TRAINS:
        raise DataError("There are no such rows.", "Choose one of the buttons.")
    page, name, method = TRAINS[kind]
    if (why := judged.doubt(view)) and message.get("sure") is not True:
        sure = {"do": "train", "kind": kind, "id": view.id, "sure": True}
        go = feedbackview.to_next_run(page)
        button = controls.button(f"Train with {name} all the same", sure, to=SET, extra=go)
        return diskview.question("Train on a doubtful set?", why, button, keep="Leave it", to=DO)
    path = preferences.snapshot(view.run, kind, str(view.config.options.get("pairing") or "all"))
    count = len(path.read_bytes().splitlines())
    used = {"file": str(path), "kind": kind, "format": kind, "rows": count, "flagged": 0, "reading": {}, "fixes": []}
    used["title"] = view.config.title
    choice.update(data={page: used})
    choosing.choose(live.look(), page, method)
    choosing.keep(page, open="yes")
    return ""


def _set(scene: Scene, message: Message) -> live.View:
    view = next((view for view in feedbackset.sets(scene) if view.id == message.get("id")), None)
    if view is None:
        raise RunError("There is no such set.", "Look at the list again.")
    return view


def open_set(scene: Scene, message: Message) -> None:
    """Show a set's rows on the Data page: those of the kind that is named, else of which it has any."""
    view = _set(scene, message)
    kind = str(message.get("kind") or preferences.default(view.run))
    dataacts.open_file(str(preferences.snapshot(view.run, kind, str(view.config.options.get("pairing") or "all"))))


_ACTIONS: dict[str, Callable[[Scene, Message], str | None]] = {
    "source": _source,
    "fold": lambda scene, message: feedbackset.keep(open="yes" if message.get("open") == "yes" else "no"),
    "show": _show,
    "page": _page,
    "only": lambda scene, message: feedbackset.keep(only=str(message.get("value") or "")[:200], page=0),
    "train": _train,
    "open": open_set,
    "keep": lambda scene, message: None,
    **principlesview.ACTIONS,
    **rankview.ACTIONS,
    **reviewview.ACTIONS,
}
