"""Two runs beside each other: what was set differently, their curves in one plot, what came out."""

from __future__ import annotations

import dataclasses
from typing import Any

from studio.config import Setting, build
from studio.config import settings as declared
from studio.errors import ConfigError
from studio.methods import METHODS
from studio.models import catalogue
from studio.ui import choosing, controls, history, parts, plots, rail, tuning
from studio.ui.curves import describe, main_key, measure
from studio.ui.forms import AUTOMATIC, label
from studio.ui.live import Scene, View
from studio.ui.methodview import field_of
from studio.ui.parts import esc, number
from studio.ui.terminal import name_of

NAMES = ("A", "B")
COLOURS = ("accent", "text")
_ABSENT = '<span class="st-muted">–</span>'


def compared(scene: Scene, step: str) -> str:
    """Draw the comparison of the two ticked runs; nothing with fewer."""
    both = history.compared(scene, step)
    if len(both) != 2:
        return ""
    heads = (
        "",
        *(f"{n} · {choosing.line(scene, v)} · {choosing.when(v.id)}" for n, v in zip(NAMES, both, strict=True)),
    )
    close = controls.button("Close", {"do": "clear"}, to=field_of(step), aria="Close the comparison")
    body = f"<h3>What was set differently</h3>{parts.table(heads, differences(scene, *both))}"
    body += f"<h3>What came out</h3>{parts.table(heads, outcomes(*both))}"
    drawn = "".join(plot for key, held in _plotted(*both) if (plot := _plot(both, key, held)))
    if main_key(both[0]) == main_key(both[1]) == "loss" and both[0].config.method != both[1].config.method:
        body += parts.note("Losses of two methods measure different things: go by the behaviour.")
    return parts.card("Two runs compared", f'{body}<div class="st-minis st-two">{drawn}</div>', close, "st-compared")


def differences(scene: Scene, a: View, b: View) -> list[tuple[str, str, str]]:
    """List what differs (cells are HTML): method, data, parent, then every setting as the run had it."""
    titles = {view.id: view.config.title for view in scene.views}
    rows: list[tuple[str, str, str]] = []
    for name, values in (
        ("Run", [view.config.title for view in (a, b)]),
        ("Method", [rail.short(view.config.method) for view in (a, b)]),
        ("Data", [name_of(view.config.data) for view in (a, b)]),
        ("Starts from", [_parent(view, titles) for view in (a, b)]),
        ("Scored by", [_scorer(scene, view) for view in (a, b)]),
    ):
        if values[0] != values[1]:
            left_said, right_said = (esc(value, 80) or _ABSENT for value in values)
            rows.append((name, left_said, right_said))
    left, right = settings(a), settings(b)
    named = {s.name: label(s) for view in (a, b) if view.config.method in METHODS for s in _declared(view)}
    for name in dict.fromkeys([*left, *right]):
        if left.get(name, _ABSENT) != right.get(name, _ABSENT):
            rows.append((esc(named.get(name, name)), _value(left, name), _value(right, name)))
    return rows or [("Nothing", _ABSENT, _ABSENT)]


def _declared(view: View) -> list[Setting]:
    return declared(METHODS[view.config.method].Config)


def _parent(view: View, titles: dict[str, str]) -> str:
    name = name_of(view.config.parent)
    return titles.get(name, name) or "the model itself"


def _scorer(scene: Scene, view: View) -> str:
    reward = str(view.config.options.get("reward") or "")
    return choosing.scorer_name(scene, reward) if reward else ""


def settings(view: View) -> dict[str, Any]:
    """Give a run's settings as it had them: the method's defaults, what the base asks for, what was set."""
    method = METHODS.get(view.config.method)
    if method is None:
        return dict(view.config.settings)
    wanted = catalogue.settings(view.config.model, method.name)
    try:
        made: Any = build(method.Config, {**wanted, **view.config.settings})
    except ConfigError:  # of another version
        return dict(view.config.settings)
    return dataclasses.asdict(made)


def _value(found: dict[str, Any], name: str) -> str:
    if name not in found:
        return _ABSENT
    value = found[name]
    return esc(AUTOMATIC if value in (None, "") else f"{value:g}" if isinstance(value, float) else value, 80)


def outcomes(a: View, b: View) -> list[tuple[str, str, str]]:
    """List the figures of both (cells are HTML); a figure that one of them lacks has a dash there."""
    left, right = outcome(a), outcome(b)
    return [
        (esc(name), left.get(name) or _ABSENT, right.get(name) or _ABSENT) for name in dict.fromkeys([*left, *right])
    ]


def outcome(view: View) -> dict[str, str]:
    """Give a run's figures by name, as HTML."""
    found = view.result()
    held, behaviour = found.get("heldout") or {}, found.get("behaviour") or {}
    out = {"Status": esc(view.status)}
    if isinstance(held.get("after"), int | float):
        before, after = held.get("before"), held["after"]
        said = tuning.change(before, after) if isinstance(before, int | float) else number(after)
        out[f"Held-out {measure(held.get('name'))}"] = said
    n = behaviour.get("n")
    if isinstance(n, int) and n > 0:
        before, after = (parts.share(tuning.ratio(behaviour.get(f"stops_{when}"), n)) for when in ("before", "after"))
        out["Answers that changed"] = parts.share(tuning.ratio(behaviour.get("changed"), n))
        out["Stops by itself"] = f"{before} → {after}"
        if behaviour.get("length_after") is not None:
            pair = tuning.change(behaviour.get("length_before") or 0, behaviour["length_after"], 0)
            out["Length of an answer"] = f"{pair} tokens"
    if style := tuning.styled(behaviour):
        out[style[0]] = style[1]
    if isinstance(moved := found.get("moved"), int | float):
        out["Weights moved"] = tuning.moved_by(moved)
    out["Time"] = esc(parts.duration(found.get("seconds")))
    return out


def _plotted(a: View, b: View) -> list[tuple[str, bool]]:
    """Choose what to overlay: (metric, held out or trained), where both have it."""
    keys = dict.fromkeys([main_key(a), main_key(b), "rewards/accuracies", "rewards/margins", "kl", "length"])
    found = [(key, held) for key in keys for held in (False, True)]
    return [(key, held) for key, held in found if _points(a, key, held) and _points(b, key, held)][:4]


def _points(view: View, key: str, held: bool) -> list[tuple[float, float]]:
    return view.held_out(key) if held else view.curve(key)


def _plot(both: list[View], key: str, held: bool) -> str:
    series = [
        plots.Series(name, _points(view, key, held), colour, dots=held)
        for name, colour, view in zip(NAMES, COLOURS, both, strict=True)
    ]
    title = f"{measure(key)}, {'held out' if held else 'training'}"
    title = title[0].upper() + title[1:]
    end = max(s.points[-1][0] for s in series)
    said = describe(title, series)
    drawn = plots.both(lambda w: plots.lines(series, x_end=end, label=said, width=w, height=200), 440, 310)
    return f'<div class="st-mini"><h3>{esc(title)}</h3>{drawn}</div>'
