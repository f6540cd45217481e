"""The first screen's whole path: what it will do, how far it is, what came out. Pure drawing."""

from __future__ import annotations

from typing import Any

from studio.ui import curves, kit, modelcard, parts, plots, rail
from studio.ui.live import Scene, View
from studio.ui.parts import esc

PARTS = (
    ("sft", "Teach", "from conversations"),
    ("dpo", "Align", "from pairs of answers"),
    ("export", "Export", "one file, checked"),
    ("questions", "Ask", "questions it never saw"),
)
_ROWS = (
    ("answers", "Answers the question"),
    ("answers_strict", "Answers, word for word right"),
    ("stops", "Stops by itself"),
    ("prefers", "Answers in a full sentence"),
)


def hero(scene: Scene) -> str:
    """Draw the card that begins the path, or follows it."""
    view = scene.demo
    if view is not None and view.running:
        return _going(view)
    if view is not None and view.status == "finished":
        seconds = view.result().get("seconds") or {}
        took = seconds.get("total") if isinstance(seconds, dict) else seconds
        time = f" It took {parts.duration(took)}." if isinstance(took, int | float) else ""
        text = f"Base, taught and aligned, exported and checked.{time} Ask both in the chat."
        return _head("Your first assistant is made", text)
    trouble = kit.ended(view) if view is not None else ""
    text = (
        "Studio takes the small starter model that ships with it through every step: taught to answer, aligned with "
        "preferences, exported to one file, checked, and asked what it never saw. It takes about three minutes on two "
        "cores, and nothing is fetched."
    )
    return trouble + _head("See the whole path once", text) + _steps("", {})


def onward(scene: Scene) -> str:
    """Draw the way on, once the assistant is made."""
    view = scene.demo
    if view is None or view.status != "finished":
        return ""
    return parts.link("chat", "Talk to it", filled=modelcard.leads(scene))


def _head(title: str, text: str) -> str:
    return f'<div class="st-head"><h2>{esc(title)}</h2></div><p>{esc(text)}</p>'


def _going(view: View) -> str:
    newest = view.newest() or {}
    part = str(newest.get("part") or "sft")
    said = ", ".join(rail.now({**newest, "part": ""}))
    curve = [
        plots.Series("teaching", view.curve(part="sft")),
        plots.Series("aligning", view.curve(part="dpo"), "amber"),
    ]
    curve = [s for s in curve if s.points]
    end = max((s.points[-1][0] for s in curve), default=0)
    total = max(end, *(float(item.get("total") or 0) for item in view.steps.values()), 1.0)
    label = curves.describe("Loss", curve)
    drawn = plots.both(lambda width: plots.lines(curve, x_end=total, label=label, width=width, height=220), wide=940)
    text = "Closing this page does not stop it. Train, Align and Export show each step while it goes."
    return _head("Making your first assistant", text) + _steps(part, {part: said}) + (drawn if curve else "")


def _steps(current: str, said: dict[str, str]) -> str:
    """Draw the four parts in a row, with a mark each."""
    order = [name for name, *_ in PARTS]
    place = order.index(current) if current in order else -1
    items = []
    for index, (name, title, what) in enumerate(PARTS):
        state = "empty" if place < 0 or index > place else "running" if index == place else "done"
        items.append(f"<li>{rail.mark(state)}<b>{title}</b><small>{esc(said.get(name) or what)}</small></li>")
    return f'<ol class="st-path">{"".join(items)}</ol>'


def result(scene: Scene) -> str:
    """Draw what the finished path came to: base, taught, aligned, on the same questions."""
    view = scene.demo
    found: dict[str, Any] = view.result() if view is not None and view.status == "finished" else {}
    stages = [found.get(name) or {} for name in ("base", "sft", "dpo")]
    if not any(stages):
        return ""
    rows = []
    for key, title in _ROWS:
        if any(stage.get(key) is not None for stage in stages):
            rows.append([esc(title), *(_cell(stage.get(key)) for stage in stages)])
    count = next((stage["n"] for stage in stages if stage.get("n")), None)
    knows = stages[0].get("knows")
    says = (
        f"The base knew {parts.share(knows)} of it all along: it continues the sentence. Training taught it to answer."
        if (isinstance(knows, int | float))
        else ""
    )
    gguf = found.get("gguf") or {}
    file = f"{gguf.get('type', '')} file, {parts.size(gguf['bytes'])}." if gguf.get("bytes") else ""
    return parts.card(
        "Before and after",
        parts.table(("", "Base", "Taught", "Aligned"), rows, numeric=(1, 2, 3))
        + parts.note(" ".join((says, file)).strip()),
        esc(f"{count:,} questions that no training row contains") if isinstance(count, int) else "",
    )


def _cell(value: object) -> str:
    return parts.share(value) if isinstance(value, int | float) else "–"
