"""The layout that Train and Align share: settings from the method's dataclass, Start, the live run, its result."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from studio import runs
from studio.errors import RunError
from studio.methods import METHODS
from studio.models import catalogue
from studio.ui import choice, kit, live, parts, tuning
from studio.ui.forms import Form

_FROM_MODEL = "the model itself"


class Tune:
    """One of the two pages: its step, its methods and their forms."""

    def __init__(self, step: str, kinds: tuple[str, ...]) -> None:
        self.step = step
        self.methods = [m for m in METHODS.values() if set(m.kinds) & set(kinds) and m.kind == "offline"]
        self.forms = {m.name: Form(m.Config) for m in self.methods}

    def draw(self, tools: kit.Kit, button: str) -> None:
        """Lay the page out below its title."""
        step = self.step
        trouble = kit.slot()
        with gr.Row(elem_classes="st-columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
                tools.live(kit.slot(), lambda scene: tuning.curves(scene.line.get(step)))
                tools.live(kit.slot(), lambda scene: tuning.result(scene.line.get(step)))
                method, parent, inputs = self._settings(tools)
            with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
                tools.live(kit.slot(), lambda scene: tuning.figures(scene, step))
                tools.live(kit.slot(), lambda scene: tuning.samples(scene.line.get(step)))
                picker = self._picker(tools)
                with gr.Row(elem_classes="st-buttons"):
                    tools.live(kit.slot(), lambda scene: _next(scene, step))
                    again = gr.Button(
                        "Resume",
                        elem_id=f"st-{step}-resume",
                        variant="primary",
                        elem_classes="st-small st-last",
                        visible=False,
                    )
                    start = gr.Button(button, elem_id=f"st-{step}-start", variant="primary", elem_classes="st-small")
        tools.live(kit.slot(), lambda scene: tuning.command(scene, step, self.methods[0].name))
        tools.live(again, lambda scene: gr.update(visible=_may_resume(scene, step)))
        tools.live(start, lambda scene: _start(scene, step, button))
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        tools.after(start.click(kit.edge(self.start), [method, parent, *inputs], trouble, **quiet))
        tools.after(again.click(kit.edge(lambda: kit.resume(step)), None, trouble, **quiet))
        tools.after(picker.input(lambda run_id: kit.remember_pick(step, run_id), picker, None, queue=False, **quiet))

    def _settings(self, tools: kit.Kit) -> tuple[Any, Any, list[Any]]:
        """Lay out the method, what it starts from, and one form a method (the others are hidden)."""
        names = [m.name for m in self.methods]
        with gr.Accordion("Settings", elem_classes="st-card st-settings") as box:
            method = gr.Dropdown(
                [(m.title, m.name) for m in self.methods], value=names[0], label="Method", visible=len(names) > 1
            )
            parent = gr.Dropdown([_FROM_MODEL], value=_FROM_MODEL, label="Starts from", visible=self.step == "align")
            groups, inputs = [], []
            for name, form in self.forms.items():
                with gr.Column(visible=name == names[0], elem_classes="st-form") as group:
                    form.draw()
                groups.append(group)
                inputs += form.inputs
                self._remember(name, form)
                tools.restore(form.inputs, functools.partial(_shown, name, form))
        method.change(lambda chosen: [gr.update(visible=chosen == n) for n in names], method, groups, queue=False)
        tools.live(box, lambda scene: _box(scene.line.get(self.step)))
        if self.step == "align":
            tools.live(parent, _parents)
        return method, parent, inputs

    def _remember(self, name: str, form: Form) -> None:
        """Keep what was typed, so that a reload shows it again."""

        def keep(*values: Any) -> None:
            usual = form.shown(catalogue.settings(live.look().model, name))
            typed = zip(form.settings, values, usual, strict=True)
            choice.update(form={name: {s.name: value for s, value, before in typed if value != before}})

        triggers = [item.blur if isinstance(item, gr.Textbox) else item.input for item in form.inputs]
        gr.on(triggers, keep, form.inputs, None, queue=False, show_progress="hidden", api_visibility="private")

    def _picker(self, tools: kit.Kit) -> Any:
        """Lay out the list of earlier runs, shown when there is more than one."""
        picker = gr.Dropdown([], label="Run shown", visible=False, elem_classes="st-picker")

        def draw(scene: live.Scene) -> Any:
            mine = scene.of_step(self.step)
            names = [(f"{view.config.title}, {view.status} ({view.id[:15]})", view.id) for view in mine]
            shown = scene.line.get(self.step)
            return gr.update(choices=names, value=shown.id if shown else None, visible=len(mine) > 1)

        return tools.live(picker, draw)

    def start(self, method: str, parent: str, *values: Any) -> str:
        """Read the form, start the run, show nothing but errors."""
        if method not in self.forms:
            raise RunError("There is no such method.", "Choose one of the list.")
        kit.begin(self._config(live.look(), method, parent, values))
        choice.update(runs={self.step: None})
        return ""

    def _config(self, scene: live.Scene, method: str, parent: str, values: Sequence[Any]) -> runs.RunConfig:
        """Make the run's config from the choices and the form of the chosen method."""
        if not scene.model:
            raise RunError("No model is chosen.", "Pick one on the Model page.")
        if not scene.data(self.step):
            kind = "preference pairs" if self.step == "align" else "conversations"
            raise RunError(f"No data is chosen: this step needs {kind}.", "Choose a file on the Data page.")
        begin = sum(len(self.forms[m.name].inputs) for m in self.methods[: [*self.forms].index(method)])
        form = self.forms[method]
        wanted = catalogue.settings(scene.model, method)
        settings = form.changed(values[begin : begin + len(form.inputs)], wanted)
        file = str(scene.data(self.step)["file"])
        start = next((str(view.run.dir) for view in _taught(scene) if view.id == parent), "")
        title = Path(file).stem.replace("_", " ").replace("-", " ")[:40] or "run"
        reading = scene.data(self.step).get("reading") or {}
        options = {"reading": reading} if reading else {}
        return runs.RunConfig("train", title, scene.model, method, file, start, settings, options)


def _start(scene: live.Scene, step: str, text: str) -> Any:
    """Fill the button while it is the next thing to do; not while something runs or after it was done."""
    done = (view := scene.line.get(step)) is not None and view.status == "finished"
    words = (
        "Start anew"
        if kit.resumable(view)
        else {"train": "Train again", "align": "Align again"}[step]
        if done
        else text
    )
    variant = "secondary" if done or kit.resumable(view) else "primary"
    ready = bool(scene.model and scene.data(step))
    return gr.update(value=words, variant=variant, interactive=ready, visible=scene.running is None)


def _next(scene: live.Scene, step: str) -> str:
    """Draw the way on, once the step is done."""
    view = scene.line.get(step)
    if view is None or view.status != "finished":
        return ""
    return (
        parts.link("align", "Next: Align", filled=True)
        if step == "train"
        else parts.link("export", "Next: Export", filled=True)
    )


def _may_resume(scene: live.Scene, step: str) -> bool:
    return scene.running is None and kit.resumable(scene.line.get(step))


def _shown(method: str, form: Form, scene: live.Scene) -> list[Any]:
    return form.shown({**catalogue.settings(scene.model, method), **_saved(scene, method)})


def _saved(scene: live.Scene, method: str) -> dict[str, Any]:
    saved = (scene.chosen.get("form") or {}).get(method)
    return saved if isinstance(saved, dict) else {}


def _box(view: live.View | None) -> Any:
    """Open the settings before the first run, hide them while one goes, fold them away after it."""
    if view is None:
        return gr.update(label="Settings", open=True, visible=True)
    return gr.update(label="Settings of the next run", open=False, visible=not view.running)


def _taught(scene: live.Scene) -> list[live.View]:
    return [view for view in scene.of_step("train") if view.status == "finished"]


def _parents(scene: live.Scene) -> Any:
    taught = _taught(scene)
    names = [(f"{view.config.title} ({view.id[:15]})", view.id) for view in taught]
    return gr.update(choices=[*names, (_FROM_MODEL, _FROM_MODEL)], value=names[0][1] if names else _FROM_MODEL)


def header(text: str, sentence: str) -> Any:
    """Lay out a page's title."""
    return kit.slot(parts.title(text, sentence))
