"""Evaluate: what a run does better and worse than before, with intervals and tests; the next evaluation."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr

from studio import jobs
from studio.errors import RunError
from studio.evals.suite import Suite
from studio.feedback import engines
from studio.feedback import job as feedback
from studio.ui import controls, evalform, evalset, evalsuite, evalview, feedbackset, forms, kit, live
from studio.ui.evalset import AUTO, NOBODY
from studio.ui.evalview import DO, SET
from studio.ui.live import Scene

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
Message = Mapping[str, Any]


class Form:
    """The inputs of the next evaluation in a fixed order: who and how, then of each suite its file and settings."""

    def __init__(self) -> None:
        self.suites = {name: forms.Form(suite.Config, f"evaluate-{name}") for name, suite in evalset.suites().items()}
        self.inputs: list[Any] = []
        self.lists: list[tuple[Any, Callable[[Scene], list[tuple[str, str]]]]] = []

    def box(self, made: Any) -> Any:
        """Take an input in."""
        self.inputs.append(made)
        return made

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        """Give what the inputs hold, as it is kept in the choices."""
        of, against, judge, allow, n, seed, engine, *rest = values
        files, typed, at = {}, {}, 0
        for name, form in self.suites.items():
            if evalset.reads_file(name):
                if str(rest[at] or "").strip():
                    files[name] = str(rest[at]).strip()[:4000]
                at += 1
            given = dict(zip((s.name for s in form.settings), rest[at : at + len(form.settings)], strict=True))
            usual = dict(zip(given, form.shown({}), strict=True))
            if changed := {key: value for key, value in given.items() if str(value) != str(usual[key])}:
                typed[name] = changed
            at += len(form.settings)
        words = {"of": of, "against": against or AUTO, "judge": judge or NOBODY, "n": n, "seed": seed, "engine": engine}
        plain = {key: str(value or "").strip()[:4000] for key, value in words.items()}
        return {**plain, "allow": bool(allow), "files": files, "form": typed}

    def show(self, scene: Scene) -> list[Any]:
        """Give what the inputs show."""
        made: list[Any] = [
            evalset.of(scene),
            evalset.word(scene, "against", AUTO),
            evalset.word(scene, "judge", NOBODY),
            bool(evalset.kept(scene).get("allow")),
            evalset.word(scene, "n"),
            evalset.word(scene, "seed"),
            evalset.word(scene, "engine", engines.AUTO),
        ]
        for name, form in self.suites.items():
            if evalset.reads_file(name):
                made.append(evalset.file(scene, name))
            made += form.shown(evalset.typed(scene, name))
        return made


def page(tools: kit.Kit) -> None:
    """Lay out the page: what the shown evaluation found, the suite that is looked at, the next one, all of them."""
    tools.live(kit.slot(), evalview.title)
    trouble = kit.slot(elem_id="st-evaluate-asked")
    tools.live(kit.slot(), evalsuite.beside)
    tools.live(kit.slot(), evalview.result)
    with gr.Row(elem_classes="st-buttons"):
        tools.live(kit.slot(), evalview.onward)
        again = gr.Button("Resume", elem_id="st-evaluate-resume", elem_classes="st-small", visible=False)
    tools.live(again, lambda scene: gr.update(visible=scene.running is None and kit.resumable(evalset.shown(scene))))
    tools.after(again.click(kit.edge(resume), None, trouble, **QUIET))
    tools.live(kit.slot(), evalsuite.card)
    tools.live(kit.slot(), evalsuite.answers)
    tools.live(kit.slot(), evalview.measured)
    tools.live(kit.slot(), evalform.fold)
    _next(tools)
    tools.live(kit.slot(), evalview.listed)
    for name, follow in ((DO, tools.after), (SET, tools.renew)):
        field = gr.Textbox(elem_id=name, elem_classes="st-hidden", show_label=False, container=False)
        follow(field.change(kit.edge(act), field, trouble, queue=False, **QUIET))


def _next(tools: kit.Kit) -> None:
    """Lay out the next evaluation: what is decided at the left, what follows from it and Start at the right."""
    form = Form()
    with gr.Column(elem_classes="st-next", visible=False) as whole, gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left st-keeps"):
            _who(tools, form)
            tools.live(kit.slot(), evalform.cards)
            with (
                gr.Column(elem_classes="st-card st-settings") as box,
                gr.Accordion("Settings of the suites", open=False),
            ):
                for name, suite in evalset.suites().items():
                    _settings(tools, form, name, suite)
            tools.keep(functools.partial(_remember, form), form.inputs)
            tools.live(box, lambda scene: gr.update(visible=bool(evalset.ticked(scene))))
        with gr.Column(scale=3, min_width=280, elem_classes="st-right st-beside"):
            tools.live(kit.slot(), evalform.before)
            trouble = kit.slot()
            tools.live(kit.slot(), evalform.why_not)
            with gr.Row(elem_classes="st-buttons"):
                start = gr.Button("Evaluate", elem_id="st-evaluate-start", variant="primary", elem_classes="st-small")
    tools.live(kit.slot(), evalform.command)
    tools.live(whole, lambda scene: gr.update(visible=evalform.unfolded(scene)))
    tools.live(start, _start)
    tools.restore(form.inputs, form.show)
    tools.after(start.click(kit.edge(functools.partial(_begin, form)), form.inputs, trouble, **QUIET))


def _who(tools: kit.Kit, form: Form) -> None:
    """Lay out who is evaluated, against whom, who judges, on how many items."""
    lists = (
        (
            "of",
            "Who is evaluated",
            "A run, an exported file or a model; choose, or write a name or a path.",
            evalset.who,
        ),
        ("against", "Against", "Who answers the same items, to be compared item by item.", evalset.others),
        (
            "judge",
            "Who judges",
            "Reads free answers where rules cannot; a judge has tastes of its own.",
            evalset.judges,
        ),
    )
    with gr.Column(elem_classes="st-card st-settings"):
        with gr.Row(elem_classes="st-fields st-from"):
            for name, label, info, offers in lists:
                made = gr.Dropdown(
                    [],
                    label=label,
                    info=info,
                    allow_custom_value=True,
                    elem_id=f"st-evaluate-{name}",
                    elem_classes="st-field",
                )
                form.box(made)
                tools.live(made, functools.partial(_offer, offers) if name != "of" else _of)
        allow = gr.Checkbox(
            label="Let the text go to a judge that is not on this machine",
            info="All prompts and answers are sent there; whoever runs it can read and keep them.",
            elem_id="st-evaluate-allow",
        )
        form.box(allow)
        tools.live(allow, lambda scene: gr.update(visible=evalset.elsewhere(scene)))
        with gr.Row(elem_classes="st-fields"):
            for name, label, info, hint in (
                (
                    "n",
                    "Items of each suite, at most",
                    "Fewer are faster; what differs little then stays undecided.",
                    "as each suite says",
                ),
                ("seed", "Seed", "Which items are drawn, and how answers are.", "0"),
            ):
                form.box(
                    gr.Textbox(
                        label=label,
                        info=info,
                        placeholder=hint,
                        max_lines=1,
                        elem_id=f"st-evaluate-{name}",
                        elem_classes="st-field",
                    )
                )
            form.box(
                gr.Dropdown(
                    list(engines.CHOICES),
                    value=engines.AUTO,
                    label="Engine",
                    info=engines.HELP,
                    elem_id="st-evaluate-engine",
                    elem_classes="st-field",
                )
            )


def _settings(tools: kit.Kit, form: Form, name: str, suite: Suite) -> None:
    """Lay out one suite's file and settings, in sight while it is ticked."""
    with gr.Column(visible=False, elem_classes="st-form") as group:
        kit.slot(f"<h3>{suite.title}</h3>")
        with gr.Row(elem_classes="st-fields"):
            if evalset.reads_file(name):
                form.box(
                    gr.Textbox(
                        label="File of your own",
                        info="JSONL, or a layout that is known: XSTest, TruthfulQA, GSM8K, IFEval, MT-bench."
                        if suite.needs_file
                        else "In place of the items that are asked otherwise.",
                        placeholder="a path" if suite.needs_file else "none",
                        max_lines=1,
                        elem_id=f"st-evaluate-{name}-file",
                        elem_classes="st-field",
                    )
                )
            inner = form.suites[name]
            for one in inner.settings:
                form.box(forms.component(one, inner.name))
    tools.live(group, lambda scene: gr.update(visible=name in evalset.ticked(scene)))


def _offer(offers: Callable[[Scene], list[tuple[str, str]]], scene: Scene) -> Any:
    return gr.update(choices=offers(scene))


def _of(scene: Scene) -> Any:
    """Offer who can be evaluated; as long as nobody is chosen the newest run stands there, also one made since."""
    offered = evalset.who(scene)
    return (
        gr.update(choices=offered)
        if evalset.kept(scene).get("of")
        else gr.update(choices=offered, value=evalset.of(scene))
    )


def _start(scene: Scene) -> Any:
    words, ready, filled = evalform.start(scene)
    return gr.update(value=words, interactive=ready, variant="primary" if filled else "secondary")


def _given(form: Form, values: Sequence[Any], scene: Scene) -> dict[str, Any]:
    """Give what the form holds; the newest run is no choice, so that the next newest takes its place."""
    new = form.read(values)
    return {**new, "of": "" if new["of"] == evalset.newest(scene) else new["of"]}


def _remember(form: Form, *values: Any) -> None:
    scene = live.look()
    new = _given(form, values, scene)
    if any(new[key] != evalset.kept(scene).get(key) for key in new):
        evalset.keep(**new)


def _begin(form: Form, *values: Any) -> str:
    """Keep what the form holds, start the run or let it wait; show nothing but errors."""
    evalset.keep(**_given(form, values, live.look()))
    kit.begin(evalset.config(live.look()))
    evalset.keep(open="", id="", newest="", suite="", measure="", mark="", page=0, beside="")
    return ""


def resume() -> str:
    """Take the shown evaluation up again: what was answered is not asked again."""
    view = evalset.shown(live.look())
    if view is None:
        raise RunError("There is no evaluation to go on with.", "Start one.")
    jobs.submit(view.run)
    return ""


# --- what the drawn controls do --------------------------------------------------------------------------------------


def act(text: str) -> str:
    """Do what a drawn control says."""
    return controls.acted(text, _ACTIONS, live.look())


def _beside(scene: Scene, message: Message) -> None:
    if wanted := str(message.get("id") or ""):
        evalset.find(scene, wanted)
    evalset.keep(beside=wanted)


def _page(scene: Scene, message: Message) -> None:
    page = message.get("page")
    evalset.keep(page=max(0, page) if isinstance(page, int) else 0)


def _findings(scene: Scene, message: Message) -> None:
    """Make a set of judged answers of what the red team found, and show it on the Feedback page."""
    view = evalset.find(scene, str(message.get("id")))
    title = f"red team of {evalview.sides(scene, view)[0]}"
    kit.begin(feedback.asked("redteam", "", {"evaluation": view.id}, None, title[:80]))
    feedbackset.keep(open="", set="", newest="", ranking="", page=0, only="")


def _looked(name: str) -> Callable[[Scene, Message], None]:
    """Keep which answers are looked at, from their first page on."""
    return lambda scene, message: evalset.keep(**{name: str(message.get("value") or "")[:80], "page": 0})


_ACTIONS: dict[str, Callable[[Scene, Message], None]] = {
    "fold": lambda scene, message: evalset.keep(open="yes" if message.get("open") == "yes" else "no"),
    "tick": lambda scene, message: evalset.tick(scene, str(message.get("name"))),
    "show": lambda scene, message: evalset.pick(scene, str(message.get("id"))),
    "suite": lambda scene, message: evalset.keep(suite=str(message.get("name"))[:80], measure="", mark="", page=0),
    "measure": _looked("measure"),
    "mark": _looked("mark"),
    "page": _page,
    "beside": _beside,
    "findings": _findings,
}
