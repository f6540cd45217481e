"""Drawing of the feedback page: the sources as cards, the set that is shown, its records one by one, all sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.config import settings
from studio.data import preferences
from studio.data.preferences import Record
from studio.errors import StudioError
from studio.feedback import report, rubric
from studio.ui import (
    choosing,
    controls,
    feedbackset,
    forms,
    judged,
    kit,
    parts,
    plots,
    rail,
    rankview,
    setsview,
    terminal,
)
from studio.ui.live import Scene, View
from studio.ui.parts import esc
from studio.ui.rankview import DO, SET
from studio.ui.terminal import name_of

#: What a judge is asked where nothing else was written.
_OURS = (rubric.COMPARE, rubric.GRADE)
#: What can be trained on a set: kind of rows -> (page, what it is called there, the method that is chosen).
TRAINS = {"preference": ("align", "DPO", "dpo"), "kto": ("align", "KTO", "kto"), "sft": ("train", "SFT", "sft")}


# --- sources ---------------------------------------------------------------------------------------------------------


def sources(scene: Scene) -> str:
    """Draw a card for each source that is there."""
    chosen = feedbackset.source(scene)
    drawn = "".join(_source(name, name == chosen) for name in feedbackset.sources())
    return f'<ul class="st-sources" aria-label="Where the feedback comes from">{drawn}</ul>'


def _source(name: str, chosen: bool) -> str:
    _, line, needs = feedbackset.ABOUT.get(name, ("", "", ""))
    button = controls.button(
        feedbackset.title(name),
        {"do": "source", "name": name},
        to=SET,
        style="st-row-name",
        extra=f'aria-pressed="{str(chosen).lower()}" data-st-then="#st-page-feedback .st-settings"',
    )
    more = f"<small>Needs {esc(needs)}.</small>" if needs else ""
    shown = (
        f'<li class="st-row st-source{" st-chosen" if chosen else ""}"><h3>{button}</h3><p>{esc(line)}</p>{more}</li>'
    )
    return shown


def fold(scene: Scene) -> str:
    """Draw the line that opens and folds the next set; before the first set there is nothing to fold."""
    if not feedbackset.sets(scene):
        return ""
    names = " · ".join(map(feedbackset.title, feedbackset.sources()))
    return controls.fold("A new set", names, unfolded(scene), DO)


def unfolded(scene: Scene) -> bool:
    """Tell whether the next set's settings are in sight: before the first one, after a failed one, or when opened."""
    view, wanted = feedbackset.shown(scene), feedbackset.kept(scene).get("open")
    if view is None or wanted in ("yes", "no"):
        return view is None or wanted == "yes"
    return view.status == "failed"


def before(scene: Scene) -> str:
    """Draw what the next set starts from."""
    name = feedbackset.source(scene)
    if not name:
        return ""
    file = feedbackset.file(scene)
    missing = '<span class="st-muted">not chosen yet</span>'
    answers = {**feedbackset.begins(scene, name), **feedbackset.typed(scene, name)}.get(feedbackset.ANSWERS)
    who = ", ".join(feedbackset.who_of(scene, one) for one in str(answers or "").split(",") if one.strip())
    has_answers = feedbackset.ANSWERS in feedbackset.begins(scene, name)
    rows = [
        ("Source", esc(feedbackset.title(name))),
        ("Prompts", esc(name_of(file)) if file else missing),
        ("Answers", (esc(who, 200) or "those of the file") if has_answers else ""),
        ("Makes", "pairs, rated answers and answers to imitate"),
    ]
    return parts.card("What it starts from", parts.facts(rows))


# --- the set that is shown -------------------------------------------------------------------------------------------


def figures(scene: Scene) -> str:
    """Draw the set that is shown: how it goes, how it ended, what it gives."""
    view = feedbackset.shown(scene)
    if view is None or rankview.opened(scene):
        return ""
    if view.running:
        return _going(view)
    if view.status != "finished":
        return kit.ended(view)
    found = judged.records(view)
    return _result(view, found)


def _going(view: View) -> str:
    done, said = view.percent() or 0.0, " · ".join(rail.now(view.newest()))
    bar = (
        f'<div class="st-bar st-rank-bar" role="progressbar" aria-label="done" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * done:.0f}"><i style="width:{100 * done:.0f}%"></i></div>'
    )
    made = len(judged.records(view))
    so_far = f"{made:,} record{'s are' if made != 1 else ' is'} kept so far; Stop loses nothing of it."
    kept = parts.note(so_far if made else "Stop loses nothing.")
    name = feedbackset.title(feedbackset.source_of(view))
    return parts.card(f"{name}: {view.config.title}", f"{bar}<p>{esc(said)}</p>{kept}{warnings(view)}")


def _result(view: View, found: Sequence[Record]) -> str:
    """Draw the counts, what the report says, and what was dropped; what warns stands first."""
    counts = judged.counts(view)
    name = feedbackset.title(feedbackset.source_of(view))
    big = "".join(
        f"<div><b>{counts[kind]:,}</b><span>{judged.WORDS[kind][counts[kind] != 1]}</span></div>"
        for kind in preferences.KINDS
    )
    said = _sentences(view, found)
    dropped = "".join(f"<li><span>{esc(why)}</span><b>{n:,}</b></li>" for why, n in counts["dropped"].items())
    left = f'<h3>Left out, by reason</h3><ul class="st-dropped">{dropped}</ul>' if dropped else ""
    wins = rankview.wins(found) if feedbackset.source_of(view) == "rank" else ""
    body = f'{warnings(view)}<div class="st-counts-row">{big}</div>{wins}{said}{left}'
    return parts.card(f"{name}: {view.config.title}", body, esc(choosing.when(view.id)), "st-set")


def warnings(view: View) -> str:
    """Draw what the run warns of."""
    told = [str(n.get("text")) for n in view.notes if n.get("level") in ("warning", "alarm")]
    if (why := judged.doubt(view)) and why not in told:
        told.insert(0, why)
    lines = "".join(
        f"<li>{parts.pill('look', 'warn')}<span>{esc(text, 600)}</span></li>" for text in dict.fromkeys(told)
    )
    return f'<ul class="st-list st-advised">{lines}</ul>' if lines else ""


def _sentences(view: View, found: Sequence[Record]) -> str:
    """Draw the report's sentences: people's rankings as they stand now, else what the run kept."""
    if feedbackset.source_of(view) == "rank":
        told = rankview.sentences(found)
        return f'<div class="st-sentences">{told}</div>'
    result = view.result()
    told_by_run = report.lines(result)[1 + len(result.get("dropped") or ()) :] if "dropped" in result else []
    lines = "".join(f"<p>{esc(text, 600)}</p>" for text in told_by_run if not text.startswith("! "))
    return f'<div class="st-sentences">{lines}</div>{curve(result)}' if lines or result.get("curve") else ""


def curve(result: Mapping[str, Any]) -> str:
    """Draw how the best score rises with the number of answers, where the set tells it."""
    found = [one for one in result.get("curve") or [] if isinstance(one, Mapping)]
    if len(found) < 2:
        return ""
    points = [(float(one["n"]), float(one["score"])) for one in found]
    last = found[-1]
    said = (
        f"Best of {last['n']:.0f}: {parts.number(last['score'])} (95 %: {parts.number(last['low'])} to "
        f"{parts.number(last['high'])}), at most {parts.number(last['kl'])} nats from who answers."
    )
    series = [plots.Series("best of n", points)]
    label = "score against the number of answers"
    drawn = plots.both(
        lambda width: plots.lines(series, x_end=points[-1][0], label=label, width=width, height=220, unit="answers")
    )
    return f"<h3>Score of the best of n answers</h3>{drawn}{parts.note(said)}"


def made(scene: Scene) -> str:
    """Draw how the shown set was made."""
    view = feedbackset.shown(scene)
    if view is None or rankview.opened(scene):
        return ""
    options = view.config.options
    answers = ", ".join(
        feedbackset.who_of(scene, one) for one in str(options.get(feedbackset.ANSWERS) or "").split(",") if one
    )
    judge = feedbackset.judge_of(scene, view)
    more = ", ".join(f"{name.replace('_', ' ')} {str(value)[:60]}" for name, value in _set_otherwise(view))
    rows = [
        ("Prompts", esc(name_of(view.config.data))),
        ("Answers", esc(answers, 300)),
        ("Judged by", esc(judge, 200)),
        ("Time", esc(parts.duration(_seconds(view)))),
        ("Settings", esc(more, 300)),
        ("Name", f'<span class="st-clip"><code>{esc(view.id)}</code>{parts.copy_button(view.id)}</span>'),
    ]
    return parts.card("How it was made", parts.facts(rows))


def _set_otherwise(view: View) -> list[tuple[str, Any]]:
    """Give the settings of a set that are not the source's defaults, without who answers and who judges."""
    config = feedbackset.sources().get(feedbackset.source_of(view))
    if config is None:
        return []
    options = view.config.options
    known = [s for s in settings(config) if s.name not in (feedbackset.ANSWERS, *feedbackset.JUDGES)]
    return [
        (s.name, options[s.name]) for s in known if options.get(s.name, s.default) not in (s.default, "", None, *_OURS)
    ]


def _seconds(view: View) -> float | None:
    begin = next((e.get("time") for e in (view.run.events()[:1] if view.status == "finished" else [])), None)
    end = (view.last or {}).get("time")
    return (end - begin) or None if isinstance(begin, float) and isinstance(end, float) else None


def onward(scene: Scene) -> str:
    """Draw the next thing to do with the shown set: to rank it, else to train with what it gives most of."""
    view = _ready(scene)
    if view is None:
        return ""
    first, button = judged.first(view), ""
    if rankview.can(view):
        far = rankview.far(view, scene)
        left = far.done < far.total
        label = "Rank as another" if not left else "Go on ranking" if far.done else "Rank the answers"
        button = controls.button(label, {"do": "rank", "id": view.id}, to=DO, filled=left, extra=setsview.GO)
        first = "" if left else first
    train = _train(view, first, not judged.doubt(view)) if first else ""
    return parts.actions(button, train) if button or train else ""


def use(scene: Scene) -> str:
    """Draw what else can be done with the shown set."""
    view = _ready(scene)
    if view is None or not judged.first(view):
        return ""
    have = [kind for kind in TRAINS if judged.counts(view)[kind]]
    ways = "".join(_train(view, kind, False, TRAINS[kind][1]) for kind in have)
    look = controls.button("Open its rows", {"do": "open", "id": view.id}, to=SET, extra='data-st-page-go="data"')
    rows = [("Train with", f'<span class="st-chips-row">{ways}</span>'), ("On the Data page", look)]
    return f'<section class="st-card st-use">{parts.facts(rows)}</section>'


def _ready(scene: Scene) -> View | None:
    view = feedbackset.shown(scene)
    return view if view is not None and view.status == "finished" and not rankview.opened(scene) else None


def _train(view: View, kind: str, filled: bool, label: str = "") -> str:
    page, name, _ = TRAINS[kind]
    go = "" if judged.doubt(view) else to_next_run(page)
    asks = {"do": "train", "kind": kind, "id": view.id}
    return controls.button(
        label or f"Train with {name}", asks, to=SET, filled=filled, extra=go, aria=f"Train with {name}"
    )


def to_next_run(page: str) -> str:
    """Give the attributes of a button that goes to a page and, below the run that is shown there, to the next one."""
    return f'data-st-page-go="{page}" data-st-then="#st-page-{page} .st-fold"'


def terminal_line(scene: Scene) -> str:
    """Draw the line that does the same as Start; nothing as long as it could not start."""
    name = feedbackset.source(scene)
    if not name:
        return ""
    try:
        feedbackset.check(scene, name)
    except StudioError:
        return ""
    given = {**feedbackset.begins(scene, name), **feedbackset.typed(scene, name)}
    file, words = feedbackset.file(scene), ["feedback", name]
    words += ["--data", file] if file else []
    for s in settings(feedbackset.sources()[name]):
        value, flag = given.get(s.name), f"--{s.name.replace('_', '-')}"
        if str(value) == str(forms.show(s, s.default)):
            continue
        words += [flag if value else f"--no-{flag[2:]}"] if s.type is bool else [flag, str(value)]
    return parts.terminal(terminal.line(words), terminal.THE_SAME)
