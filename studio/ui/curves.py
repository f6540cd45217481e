"""The curves of a training run, by the metrics that its events carry: one large plot, and up to six small ones.

Nothing is asked of the method: a run whose events have log-probabilities gets their plot. Held out is amber.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from studio.methods import METHODS
from studio.ui import kit, parts, plots
from studio.ui.live import View
from studio.ui.parts import esc, number

MOST_SMALL = 6
#: How figures are called in words.
_MEASURES = {
    "rewards/accuracies": "pair accuracy",
    "rewards/margins": "margin",
    "kl": "KL",
    "clip_fraction": "clip share",
}


@dataclass(frozen=True)
class Group:
    """A small plot: its title with the unit, its metrics as (key, name at the value), and whether it is a share."""

    title: str
    keys: tuple[tuple[str, str], ...]
    share: bool = False


#: In the order of what tells most; the first MOST_SMALL that a run has are drawn.
GROUPS = (
    Group("Margin of the chosen", (("rewards/margins", ""),)),
    Group("Prefers the chosen", (("rewards/accuracies", ""),), share=True),
    Group("Rewards", (("rewards/chosen", "chosen"), ("rewards/rejected", "rejected"))),
    Group("Log-probabilities, nats", (("logps/chosen", "chosen"), ("logps/rejected", "rejected"))),
    Group("KL to the parent, nats", (("kl", ""),)),
    Group("Answer length, tokens", (("length", ""),)),
    Group("Length in the data, tokens", (("length/chosen", "chosen"), ("length/rejected", "rejected"))),
    Group("Loss of the chosen, nats", (("nll", ""),)),
    Group("Entropy, nats a token", (("entropy", ""),)),
    Group("Clip share", (("clip_fraction", ""),), share=True),
    Group("Ends by itself", (("stops", ""),), share=True),
)


def measure(name: object) -> str:
    """Name a metric in words."""
    text = str(name or "loss")
    return _MEASURES.get(text, text.replace("/", " ").replace("_", " "))


def main_key(view: View) -> str:
    """Name the metric of a run's large plot: its score where it is scored, else its loss."""
    method = METHODS.get(view.config.method)
    online = method is not None and method.kind == "online" and not view.curve("loss")
    return "score" if online or view.curve("score") else "loss"


def curves(view: View | None) -> str:
    """Draw a run as far as it has come."""
    if view is None:
        return ""
    if view.status in ("queued", "new") or not (view.last_step() or view.running):
        return kit.ended(view)
    last = view.last_step() or {}
    total = float(last.get("total") or 0)
    where = f"step {last.get('step', 0):,} of {total:,.0f}" if last else ""
    key = main_key(view)
    found = [
        plots.Series("training", view.curve(key)),
        plots.Series("held out", view.held_out(key), "amber", dots=True),
    ]
    name = "Score of the answers" if key == "score" else f"Loss per {_unit(view)}"
    drawn = plots.both(lambda width: plots.lines(found, x_end=total, label=describe(name, found), width=width))
    if not any(s.points for s in found):
        drawn = waiting(view)
    out = kit.ended(view) + alarms(view) + parts.card(name, drawn, esc(where), "st-chart")
    told = [group for group in GROUPS if any(view.curve(key) for key, _ in group.keys)][:MOST_SMALL]
    small = "".join(_small(view, group, total, _widths(len(told), place)) for place, group in enumerate(told))
    return out + (f'<div class="st-minis st-of-{len(told)}">{small}</div>' if small else "")


def _widths(count: int, place: int) -> tuple[int, int]:
    """Give a small plot's width in wide windows (three in a row, or two instead of a hole) and in narrow ones (two)."""
    wide = 160 if count in (3, 6) or (count == 5 and place < 3) else 260
    return wide, 310 if count % 2 and place == count - 1 else 140


def _unit(view: View) -> str:
    method = METHODS.get(view.config.method)
    kinds = method.kinds if method is not None else ()
    return "pair" if "preference" in kinds else "answer" if "kto" in kinds else "learned token"


def _small(view: View, group: Group, total: float, widths: tuple[int, int]) -> str:
    trained = [(key, name, view.curve(key)) for key, name in group.keys]
    series = [
        plots.Series(name or "training", points, "accent" if place == 0 else "muted")
        for place, (_, name, points) in enumerate(trained)
    ]
    held = [plots.Series(f"held out {name}".strip(), view.held_out(key), "amber", True) for key, name, _ in trained]
    held = [s for s in held if s.points] if len(trained) == 1 else []
    said = [_said(s.name if len(trained) > 1 else "", s, group.share) for s in series if s.points]
    said += [_said("held out", s, group.share) for s in held]
    shown = [*series, *held]
    label = describe(group.title, shown)
    drawn = plots.both(lambda w: plots.small(shown, x_end=total, label=label, width=w, share=group.share), *widths)
    return f'<section class="st-card st-mini"><h3>{esc(group.title)}</h3><p>{"".join(said)}</p>{drawn}</section>'


def _said(name: str, series: plots.Series, share: bool) -> str:
    value = series.points[-1][1]
    text = parts.share(value) if share else number(value, 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2)
    return f'<span class="st-of-{series.colour}">{esc(f"{name} {text}".strip())}</span>'


def describe(name: str, series: Sequence[plots.Series]) -> str:
    """Say in words what a plot shows, for those who cannot see it."""
    said = [f"{s.name} from {s.points[0][1]:.2f} to {s.points[-1][1]:.2f}" for s in series if s.points]
    return f"{name}: {', '.join(said)}"


def waiting(view: View) -> str:
    """Say what happens before the first step."""
    progress = view.progress or {}
    what = str(progress.get("phase") or "Loading the model")
    count = ""
    if progress.get("total"):
        unit = f" {progress['unit']}" if progress.get("unit") else ""
        count = f", {progress.get('done', 0):,} of {progress['total']:,}{unit}"
    return f'<div class="st-waiting"><p class="st-note">{esc(what[0].upper() + what[1:] + count)}…</p></div>'


def alarms(view: View) -> str:
    """Draw what the run warns of, above everything else; the newest of each code."""
    loud = {str(n.get("code") or n.get("text")): n for n in view.notes if n.get("level") in ("warning", "alarm")}
    if not loud:
        return ""
    worst_first = sorted(reversed(list(loud.values())), key=lambda note: note.get("level") != "alarm")
    lines = "".join(
        f"<li>{parts.pill('alarm', 'bad') if note.get('level') == 'alarm' else parts.pill('look', 'warn')}"
        f"<span>{esc(note.get('text'), 600)}</span></li>"
        for note in worst_first[:4]
    )
    return parts.card("", f'<ul class="st-list">{lines}</ul>', extra="st-loud")
