"""What the next set of judged answers will be: its source, who answers which prompts, the source's own settings.

Everything follows from SOURCES and each source's `Config`: a source that is not there is not shown. Kept in the choices
under `feedback`: {"source", "data", "form": {source: {setting: value}}, "set", "newest", "open", "ranking", "name",
"page", "only"}.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from studio.config import Setting, build, settings
from studio.data import preferences, votes
from studio.data.records import Reading
from studio.errors import RunError
from studio.feedback import job
from studio.runs import RunConfig
from studio.ui import choice, choosing, examine, forms, live, looking, starter
from studio.ui.live import Scene, View
from studio.ui.terminal import name_of

#: What each source is called, what it does in a line, and what it needs.
ABOUT = {
    "rank": (
        "People rank",
        "You and others put 2 to 4 answers in order, blind.",
        "a run that answers, prompts, people",
    ),
    "judge": (
        "A judge",
        "A model says which of two answers is better, asked in both orders.",
        "a judge; a run that answers, or a file with answers",
    ),
    "constitution": (
        "A constitution",
        "An answer is criticised against a written principle and revised.",
        "a run that answers, prompts, principles",
    ),
    "rejection": (
        "Best of n",
        "Of many answers the best is kept: rejection sampling.",
        "a run that answers, prompts, a reward run, a judge or a rule",
    ),
    "rules": (
        "Rules",
        "What can be checked decides: a form, a length, the right answer, a Python function.",
        "a rule; a run that answers, or a file with answers",
    ),
    "synthetic": (
        "Synthetic data",
        "A larger model writes questions and answers.",
        "a larger model, and seeds, topics or documents",
    ),
    "redteam": (
        "Red team",
        "What the attacks of an evaluation got, and what withstood them.",
        "an evaluation with the suite Red team",
    ),
}
#: Settings that name who or what judges.
JUDGES = ("judge", "reward", "rule", "critic")
ANSWERS = "answers_from"
#: Sources that are nothing without somebody who answers; the others may read the answers of the file.
_ASKS = ("rank", "constitution", "rejection")
#: Questions without answers.
SAMPLE = "starter_questions.jsonl"
#: A form's settings of the simple view: more than a method's, for who answers and judges is among them.
SIMPLE = 6


@functools.cache
def sources() -> dict[str, type]:
    """Give the sources that are there, with their Configs, in the order of ABOUT; others come last."""
    order = [*(name for name in ABOUT if name in job.SOURCES), *(name for name in job.SOURCES if name not in ABOUT)]
    return {name: job.module(name).Config for name in order if hasattr(job.module(name), "Config")}


def title(source: str) -> str:
    """Name a source as people do."""
    return ABOUT[source][0] if source in ABOUT else source.replace("_", " ").capitalize()


def kept(scene: Scene) -> dict[str, Any]:
    """Give the choices of this page."""
    found = scene.chosen.get("feedback")
    return found if isinstance(found, dict) else {}


def keep(**values: Any) -> None:
    """Change choices of this page."""
    choice.update(feedback=values)


def source(scene: Scene) -> str:
    """Give the source of the next set, "" before one was chosen."""
    found = str(kept(scene).get("source") or "")
    return found if found in sources() else ""


# --- the form --------------------------------------------------------------------------------------------------------


def lists(name: str) -> dict[str, Offers]:
    """Give the settings of a source that are chosen from a list: who answers or judges, and what scores."""
    known = {s.name for s in settings(sources()[name])}
    named = [one for one in getattr(job.module(name), "NAMES", job.NAMES) if one in known]
    found: dict[str, Offers] = dict.fromkeys(named, who)
    return {**found, **{setting: offers for setting, offers in _SCORES.items() if setting in known}}


class Form(forms.Form):
    """A source's form: who answers or judges is chosen from a list, or typed."""

    def __init__(self, config: type, name: str) -> None:
        super().__init__(config, f"feedback-{name}")
        self.source = name
        self.lists: dict[str, Any] = {}

    def draw(self) -> None:
        """Lay the form out: who, then what the source thinks of as simple, then the rest in a drawer."""
        basic = [s for s in self.settings if not s.advanced][:SIMPLE]
        made: dict[str, Any] = {}
        with gr.Row(elem_classes="st-fields st-from"):
            for s in basic:
                if s.name in lists(self.source):
                    made[s.name] = self.lists[s.name] = self._list(s)
        with gr.Row(elem_classes="st-fields"):
            for s in basic:
                if s.name not in made:
                    made[s.name] = forms.component(s, self.name)
        with gr.Accordion("Advanced", open=False, elem_classes="st-drawer"), gr.Row(elem_classes="st-fields"):
            for s in self.settings:
                if s.name not in made:
                    made[s.name] = forms.component(s, self.name)
        self.inputs = [made[s.name] for s in self.settings]

    def _list(self, s: Setting) -> Any:
        return gr.Dropdown(
            [],
            value=[] if s.name == ANSWERS else "",
            multiselect=s.name == ANSWERS,
            label="Who answers" if s.name == ANSWERS else forms.label(s),
            info=forms.hint(s).replace(", separated by commas", "; choose or type"),
            allow_custom_value=True,
            elem_id=f"st-{self.name}-{s.name}",
            elem_classes="st-field",
        )

    def values(self, given: Sequence[Any]) -> dict[str, Any]:
        """Give what the components hold, by the settings' names; of a list the names with commas between."""
        plain = [", ".join(map(str, value)) if isinstance(value, list) else value for value in given]
        return dict(zip((s.name for s in self.settings), plain, strict=True))

    def show_all(self, values: Mapping[str, Any]) -> list[Any]:
        """Give what each component shows when the settings have these values."""
        shown = []
        for s in self.settings:
            value = values.get(s.name, s.default)
            if s.name == ANSWERS and s.name in self.lists:
                shown.append([name.strip() for name in str(value or "").split(",") if name.strip()])
            else:
                shown.append(forms.show(s, value))
        return shown


def typed(scene: Scene, name: str) -> dict[str, Any]:
    """Give what was typed into a source's form."""
    found = (kept(scene).get("form") or {}).get(name)
    known = {s.name for s in settings(sources()[name])}
    return {key: value for key, value in found.items() if key in known} if isinstance(found, dict) else {}


def remember(name: str, values: Mapping[str, Any]) -> None:
    """Keep what was typed, where it differs from what the form begins with."""
    scene = live.look()
    usual = begins(scene, name)
    new = {key: value for key, value in values.items() if str(value) != str(usual.get(key))}
    if new != typed(scene, name):
        keep(form={**(kept(scene).get("form") or {}), name: new})


def begins(scene: Scene, name: str) -> dict[str, Any]:
    """Give a form's first values: the defaults; the newest run answers, unless the file may hold answers."""
    first = {s.name: "" if s.default is None else s.default for s in settings(sources()[name])}
    if ANSWERS in first and not first[ANSWERS] and (name in _ASKS or Path(file(scene)).name == SAMPLE):
        first[ANSWERS] = next((value for _, value in who(scene)), "")
    return {key: forms.show(s, first[key]) for key, s in ((s.name, s) for s in settings(sources()[name]))}


def who(scene: Scene) -> list[tuple[str, str]]:
    """List who can answer: (title, name): finished runs that talk, those of the chosen model first, then the model."""
    mine = [v for v in scene.views if v.config.kind == "train" and v.status == "finished" and choosing.talks(v)]
    mine.sort(key=lambda view: view.config.model != scene.model)
    found = [(choosing.named(scene, view), view.id) for view in mine[:40]]
    return [*found, *([(f"{scene.model}, as it is", scene.model)] if scene.model else [])]


def scorers(scene: Scene) -> list[tuple[str, str]]:
    """List what can score: finished reward runs, then rules."""
    scored = [v for v in scene.views if v.config.kind == "train" and v.status == "finished" and not choosing.talks(v)]
    return [*((choosing.named(scene, view), view.id) for view in scored[:20]), *choosing.RULES]


def who_of(scene: Scene, name: str) -> str:
    """Name who answers as people do: a run by its line and title."""
    view = next((view for view in scene.views if name.strip() in (view.id, str(view.run.dir))), None)
    return choosing.named(scene, view) if view is not None else name_of(name.strip())


def all_of(scene: Scene, names: object) -> str:
    """Name several, which stand with commas between."""
    return ", ".join(who_of(scene, name) for name in str(names or "").split(",") if name.strip())


def judge_of(scene: Scene, view: View) -> str:
    """Name who or what judged a set, "" where nobody did but people."""
    options = view.config.options
    found = next((str(options[name]) for name in JUDGES if options.get(name)), "")
    return who_of(scene, found) if found else ""


Offers = Callable[[Scene], list[tuple[str, str]]]
_SCORES: dict[str, Offers] = {"reward": scorers, "rule": lambda scene: list(choosing.RULES)}


# --- the prompts -----------------------------------------------------------------------------------------------------


def files(scene: Scene) -> list[tuple[str, str]]:
    """List files to take prompts from: (title, path): what Train and Align use, and the sample questions."""
    found = []
    for step, page in looking.PAGES.items():
        if file := str(scene.data(step).get("file") or ""):
            found.append((f"{page}'s data: {Path(file).name}", file))
    sample = starter.sample("train").with_name(SAMPLE)
    if starter.leads(scene.model) and sample.is_file():
        found.insert(0, (f"Sample questions: {SAMPLE}", str(sample)))
    return found


def file(scene: Scene) -> str:
    """Give the chosen file of prompts, else the first that is offered."""
    offered = files(scene)
    return str(kept(scene).get("data") or "") or (offered[0][1] if offered else "")


# --- the run ---------------------------------------------------------------------------------------------------------


def config(scene: Scene, name: str, given: Mapping[str, Any], data: str) -> RunConfig:
    """Make the run's config from the form; everything that is wrong is said before anything is written."""
    if name not in sources():
        raise RunError("No source is chosen.", "Choose one above.")
    here = data.strip() and preferences.of(data.strip()) is None and data.strip() not in votes.NAMES
    path = examine.find(data) if here else data.strip()
    used = next((d for step in looking.PAGES if (d := scene.data(step)).get("file") == path), {})
    reading = Reading.from_dict(used.get("reading") or {})
    words = Path(path).stem.replace("_", " ").replace("-", " ")[:40] if path else title(name).lower()
    return job.asked(name, path, given, reading, words)


def check(scene: Scene, name: str) -> None:
    """Raise what is wrong with the next set, as far as may be looked here: no function of the user's is run."""
    given = {**begins(scene, name), **typed(scene, name)}
    if any(".py:" in str(value) for value in given.values()):
        build(sources()[name], given)
        return
    config(scene, name, given, file(scene))


# --- sets ------------------------------------------------------------------------------------------------------------


def sets(scene: Scene) -> list[View]:
    """List the sets, the newest first."""
    return [view for view in scene.views if view.config.kind == preferences.KIND]


def shown(scene: Scene) -> View | None:
    """Give the set that is shown: the picked one until a newer one is made, else the newest."""
    found = sets(scene)
    picked, newest = kept(scene).get("set"), kept(scene).get("newest")
    if not found:
        return None
    if newest == found[0].id:
        return next((view for view in found if view.id == picked), found[0])
    return found[0]


def pick(scene: Scene, set_id: str) -> View:
    """Show a set. Raises RunError for one that is not there."""
    found = sets(scene)
    view = next((view for view in found if view.id == set_id), None)
    if view is None:
        raise RunError("There is no such set.", "Look at the list again.")
    keep(set=set_id, newest=found[0].id, ranking="", page=0, only="", at=0)
    return view


def source_of(view: View) -> str:
    """Name the source that made a set."""
    return str(view.config.options.get("source") or "")
