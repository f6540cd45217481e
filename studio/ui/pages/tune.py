"""The layout that Train and Align share: the method and its settings, Start, the live run, its result, the runs."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from studio import runs
from studio.data import rules
from studio.errors import RunError
from studio.methods import Method
from studio.models import catalogue
from studio.ui import (
    choice,
    choosing,
    compare,
    controls,
    curves,
    history,
    kit,
    lineview,
    live,
    methodview,
    parts,
    queueview,
    rehearsal,
    terminal,
    tuning,
)
from studio.ui.forms import Form

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_SCORE_HINT = f"A finished reward run, or a rule: {rules.FORMS}. The A and B of length are words."


class Tune:
    """One of the two pages: its step, its methods and their forms."""

    def __init__(self, step: str) -> None:
        self.step = step
        self.forms = {name: Form(method.Config, name) for name, method in choosing.of_page(step).items()}

    def draw(self, tools: kit.Kit, button: str) -> None:
        """Lay the page out below its title: the run that is shown, the next one, those that wait, all of them."""
        step = self.step
        trouble = kit.slot()
        self._shown(tools, trouble)
        tools.live(kit.slot(), lambda scene: methodview.fold(scene, step))
        self._next(tools, button)
        tools.live(kit.slot(), lambda scene: queueview.waiting(scene, step))
        tools.live(kit.slot(), lambda scene: history.table(scene, step))
        tools.live(kit.slot(), lambda scene: compare.compared(scene, step))
        for name, follow in ((methodview.field_of(step), tools.after), (methodview.set_of(step), tools.renew)):
            field = gr.Textbox(elem_id=name, elem_classes="st-hidden", show_label=False, container=False)
            follow(field.change(kit.edge(self.act), field, trouble, queue=False, **QUIET))

    def _shown(self, tools: kit.Kit, trouble: Any) -> None:
        """Lay out the run that is shown: curves and what came out at the left, facts at the right."""
        step = self.step
        with gr.Row(elem_classes="st-columns st-shown-run"):
            with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
                tools.live(kit.slot(), lambda scene: curves.curves(scene.line.get(step)))
                tools.live(kit.slot(), lambda scene: tuning.result(scene.line.get(step)))
                tools.live(kit.slot(), lambda scene: lineview.card(scene, scene.line.get(step)))
            with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
                tools.live(kit.slot(), lambda scene: tuning.figures(scene, step))
                tools.live(kit.slot(), lambda scene: tuning.samples(scene.line.get(step)))
                with gr.Row(elem_classes="st-buttons"):
                    tools.live(kit.slot(), lambda scene: _onward(scene, step))
                    again = gr.Button(
                        "Resume",
                        elem_id=f"st-{step}-resume",
                        variant="primary",
                        elem_classes="st-small st-last",
                        visible=False,
                    )
        tools.live(kit.slot(), lambda scene: terminal.of_run(scene.line.get(step)))
        tools.live(again, lambda scene: gr.update(visible=_may_resume(scene, step)))
        tools.after(again.click(kit.edge(lambda: kit.resume(step)), None, trouble, **QUIET))

    def _next(self, tools: kit.Kit, button: str) -> None:
        """Lay out the next run: what is decided at the left, what follows from it and Start at the right."""
        step = self.step
        with gr.Row(elem_classes="st-columns st-next"):
            with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
                inputs = self._settings(tools)
            with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
                tools.live(kit.slot(), lambda scene: tuning.before(scene, step))
                tools.live(kit.slot(), lambda scene: methodview.memory(scene, step))
                trouble = kit.slot()
                tools.live(kit.slot(), lambda scene: methodview.wrong(scene, step) or methodview.why_not(scene, step))
                tools.live(kit.slot(), lambda scene: rehearsal.said(scene, step))
                with gr.Row(elem_classes="st-buttons"):
                    rehearse = gr.Button("Rehearse", elem_id=f"st-{step}-rehearse", elem_classes="st-small")
                    start = gr.Button(button, elem_id=f"st-{step}-start", variant="primary", elem_classes="st-small")
        tools.live(start, lambda scene: _start(scene, step, button))
        tools.live(rehearse, lambda scene: gr.update(interactive=_ready(scene, step)))
        tools.after(rehearse.click(kit.edge(self.rehearse), inputs, trouble, **QUIET))
        tools.after(start.click(kit.edge(self.start), inputs, trouble, **QUIET))

    def _settings(self, tools: kit.Kit) -> list[Any]:
        """Lay out the method, what it starts from, what scores it, and one form a method (the others are hidden)."""
        step = self.step
        with gr.Column(elem_classes="st-card st-settings"):
            kit.slot('<div class="st-head"><h2>Settings</h2></div>')
            tools.live(kit.slot(), lambda scene: methodview.methods(scene, step))
            with gr.Row(elem_classes="st-fields st-from"):
                parent = gr.Dropdown(
                    [choosing.THE_MODEL],
                    value=choosing.THE_MODEL,
                    label="Starts from",
                    visible=False,
                    elem_id=f"st-{step}-parent",
                    elem_classes="st-field",
                )
                scorer = gr.Dropdown(
                    [],
                    label="Score the answers with",
                    info=_SCORE_HINT,
                    allow_custom_value=True,
                    visible=False,
                    elem_id=f"st-{step}-reward",
                    elem_classes="st-field",
                )
            inputs: list[Any] = []
            for name, form in self.forms.items():
                with gr.Column(visible=False, elem_classes="st-form st-keeps") as group:
                    form.draw()
                    tools.keep(functools.partial(_remember, name, form), form.inputs)
                tools.live(group, functools.partial(_group, step, name))
                inputs += form.inputs
                tools.restore(form.inputs, functools.partial(_filled, name, form))
            tools.live(kit.slot(), lambda scene: methodview.typed(scene, step))
            tools.live(kit.slot(), lambda scene: terminal.of_next(scene, step))
        tools.live(parent, lambda scene: _parents(scene, step))
        tools.live(scorer, lambda scene: _scorers(scene, step))
        for component, name in ((parent, "parent"), (scorer, "reward")):
            keep = functools.partial(_keep, step, name)
            tools.after(component.input(keep, component, None, queue=False, **QUIET))
        return [parent, scorer, *inputs]

    def act(self, text: str) -> str:
        """Do what a drawn control says."""
        try:
            message = json.loads(text)
            action = _ACTIONS[message["do"]]
        except (ValueError, KeyError, TypeError):
            return ""
        action(live.look(), self.step, message)
        return ""

    def start(self, parent: str, scorer: str, *values: Any) -> str:
        """Read the form, start the run or let it wait, show nothing but errors."""
        scene = live.look()
        folds = {} if scene.running or scene.queue else {"open": ""}  # what waits is often the first of several
        choosing.keep(self.step, parent=str(parent or ""), reward=str(scorer or ""), **folds)
        kit.begin(self._config(live.look(), choosing.method(scene, self.step), str(scorer or ""), values))
        choice.update(runs={self.step: None})
        return ""

    def rehearse(self, parent: str, scorer: str, *values: Any) -> str:
        """Send a few rows the whole way first, with the same settings."""
        choosing.keep(self.step, parent=str(parent or ""), reward=str(scorer or ""))
        scene = live.look()
        config = self._config(scene, choosing.method(scene, self.step), str(scorer or ""), values)
        kit.begin(dataclasses.replace(config, kind="rehearse"))
        return ""

    def _config(self, scene: live.Scene, method: Method, scorer: str, values: Sequence[Any]) -> runs.RunConfig:
        """Make the run's config from the choices and the form of the chosen method."""
        if missing := choosing.missing(scene, self.step, method):
            page = "Model" if not scene.model else "Data"
            raise RunError(missing, f"Choose it on the {page} page.")
        names = list(self.forms)
        begin = sum(len(self.forms[name].inputs) for name in names[: names.index(method.name)])
        form, wanted = self.forms[method.name], catalogue.settings(scene.model, method.name)
        settings = form.changed(values[begin : begin + len(form.inputs)], wanted)
        used = choosing.data(scene, self.step, method)
        file = str(used["file"])
        options: dict[str, Any] = {"reading": used["reading"]} if used.get("reading") else {}
        if method.kind == "online":
            options["reward"] = choosing.check_scorer(scene, scorer)
        start = choosing.start_from(choosing.parent(scene, self.step))
        title = str(used.get("title") or Path(file).stem.replace("_", " ").replace("-", " "))[:40] or "run"
        return runs.RunConfig("train", title, scene.model, method.name, file, start, settings, options)


_ACTIONS: dict[str, Callable[[live.Scene, str, dict[str, Any]], None]] = {
    "method": lambda scene, step, message: choosing.choose(scene, step, str(message.get("name"))),
    "defaults": lambda scene, step, message: choosing.forget(scene, step),
    "again": lambda scene, step, message: choosing.repeat(scene, step, _shown_run(scene, step)),
    "scores": lambda scene, step, message: choosing.score_with(scene, step, _shown_run(scene, step)),
    "fold": lambda scene, step, message: choosing.keep(step, open="yes" if message.get("open") == "yes" else "no"),
    "show": lambda scene, step, message: history.show(scene, step, str(message.get("id"))),
    "compare": lambda scene, step, message: history.compare(scene, step, str(message.get("id"))),
    "clear": lambda scene, step, message: history.clear(step),
    "up": lambda scene, step, message: queueview.up(scene, str(message.get("id"))),
    "remove": lambda scene, step, message: queueview.remove(scene, str(message.get("id"))),
}


def _shown_run(scene: live.Scene, step: str) -> live.View:
    view = scene.line.get(step)
    if view is None:
        raise RunError("There is no run yet.", "Start one.")
    return view


def _remember(name: str, form: Form, *values: Any) -> None:
    """Keep what was typed, so that a reload shows it again."""
    usual = form.shown(catalogue.settings(live.look().model, name))
    typed = zip(form.settings, values, usual, strict=True)
    new = {s.name: value for s, value, before in typed if value != before}
    if new != (choice.get("form").get(name) or {}):
        choice.update(form={name: new})


def _keep(step: str, name: str, value: Any) -> None:
    choosing.keep(step, **{name: str(value or "")[:2000]})


def _start(scene: live.Scene, step: str, text: str) -> Any:
    """Fill the button while it is the next thing to do; not while something runs or after it was done."""
    view = scene.line.get(step)
    done, waits = view is not None and view.status == "finished", scene.running is not None or bool(scene.queue)
    words = "Add to the queue" if waits else "Start anew" if kit.resumable(view) else text
    variant = "secondary" if done or waits or kit.resumable(view) else "primary"
    return gr.update(value=words, variant=variant, interactive=_ready(scene, step))


def _ready(scene: live.Scene, step: str) -> bool:
    """Tell whether nothing is missing or wrong of the next run."""
    return not choosing.missing(scene, step, choosing.method(scene, step)) and not choosing.problems(scene, step)


def _onward(scene: live.Scene, step: str) -> str:
    """Draw the way on from the run that is shown: the same once more, and the next page once this step is done."""
    view = scene.line.get(step)
    if view is None or view.running:
        return ""
    to, go = methodview.set_of(step), f'data-st-go="#st-page-{step} .st-fold"'
    said = controls.button("Set up again", {"do": "again"}, to=to, extra=go)
    if view.status == "finished" and not choosing.talks(view):
        said += controls.button("Next: learn from it", {"do": "scores"}, to=to, extra=go, filled=True)
    elif view.status == "finished":
        page, name = ("align", "Align") if step == "train" else ("export", "Export")
        said += parts.link(page, f"Next: {name}", filled=True)
    return parts.actions(said)


def _may_resume(scene: live.Scene, step: str) -> bool:
    return scene.running is None and kit.resumable(scene.line.get(step))


def _filled(method: str, form: Form, scene: live.Scene) -> list[Any]:
    return form.shown({**catalogue.settings(scene.model, method), **choosing.saved(scene, method)})


def _group(step: str, name: str, scene: live.Scene) -> Any:
    return gr.update(visible=choosing.method(scene, step).name == name)


def _parents(scene: live.Scene, step: str) -> Any:
    """Offer every run that can be gone on from, the newest first, and the model itself."""
    offered, chosen = choosing.parents(scene), choosing.parent(scene, step)
    names = [*((choosing.named(scene, view), view.id) for view in offered), (choosing.THE_MODEL, choosing.THE_MODEL)]
    return gr.update(choices=names, value=chosen.id if chosen else choosing.THE_MODEL, visible=bool(offered))


def _scorers(scene: live.Scene, step: str) -> Any:
    online = choosing.method(scene, step).kind == "online"
    found = [(choosing.named(scene, view), view.id) for view in choosing.judges(scene)]
    return gr.update(choices=[*found, *choosing.RULES], value=choosing.scorer(scene, step) or None, visible=online)


def header(text: str, sentence: str) -> Any:
    """Lay out a page's title."""
    return kit.slot(parts.title(text, sentence))
