"""Drawing of one suite of an evaluation: its figures, its pictures, its answers one by one; two evaluations compared.

What a model said is foreign text; what may offend is folded away until it is asked for.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.evals import card as figures
from studio.ui import controls, evalplots, evalset, evalview, parts
from studio.ui.evalview import DO
from studio.ui.live import Scene, View
from studio.ui.parts import esc

PAGE = 10
SIDES = ("before", "after")
#: What a row of shown.json has beside what the suite itself wrote down.
_KNOWN = ("item", "measure", "asked", "before", "after", "marks", "offensive", "title")
#: The filters by mark: name -> title.
MARKS = {
    "": "all answers",
    "differ": "marks that differ",
    "fell": "the mark fell",
    "rose": "the mark rose",
    "yes": "yes after",
    "no": "no after",
}
Row = Mapping[str, Any]


# --- suites ----------------------------------------------------------------------------------------------------------


def chosen(scene: Scene, view: View) -> str:
    """Name the suite that is looked at: the picked one, else the first in which something got worse, else the first."""
    found = view.result()
    suites, picked = found.get("suites") or {}, str(evalset.kept(scene).get("suite") or "")
    if picked in suites:
        return picked
    worse = next((one["suite"] for one in found.get("worse") or []), "")
    return worse or next(iter(suites), "")


def card(scene: Scene) -> str:
    """Draw the suites as a row of buttons, and the one that is looked at."""
    view = evalset.shown(scene)
    if view is None or view.status != "finished" or not (found := view.result()).get("suites"):
        return ""
    name = chosen(scene, view)
    tabs = "".join(_tab(found, one, one == name) for one in found["suites"])
    row = f'<div class="st-tabs" role="group" aria-label="Suites">{tabs}</div>'
    return f"{row}{_suite(scene, view, found['suites'][name])}"


def _tab(found: Mapping[str, Any], name: str, here: bool) -> str:
    worse = sum(one["suite"] == name for one in found.get("worse") or [])
    title = found["suites"][name]["title"]
    aria = f"{title}{f', {worse} worse' if worse else ''}"
    extra = f'aria-pressed="{str(here).lower()}"{f" data-st-worse={worse}" if worse else ""}'
    return controls.button(title, {"do": "suite", "name": name}, to=DO, aria=aria, extra=extra)


def _suite(scene: Scene, view: View, suite: Mapping[str, Any]) -> str:
    of, against = evalview.sides(scene, view)
    measured = [made for made in suite["figures"] if made["sides"]]
    names = {"before": f"before: {against}", "after": f"after: {of}"} if against else {"after": of}
    body = f"<p>{esc(suite['says'])}</p>"
    if measured:
        body += evalplots.key(names) + _figures(measured, bool(against))
    missing = [made["label"] for made in suite["figures"] if not made["sides"]]
    body += "".join(f"<p class=st-eval-note>{esc(note, 1200)}</p>" for note in suite["notes"])
    if missing and measured:
        body += parts.note(f"Not measured here: {', '.join(missing)}.")
    body += "".join(
        f'<h3>{esc(head)}</h3><div class="st-eval-plot">{made}</div>' for head, made in evalplots.drawn(suite)
    )
    cannot = f'<p class="st-note st-cannot"><b>What it cannot show:</b> {esc(suite["cannot"])}</p>'
    return parts.card(str(suite["title"]), body + cannot, "", "st-suite")


def _figures(found: Sequence[dict[str, Any]], compared: bool) -> str:
    """Draw each figure: both sides on their intervals, n, and the verdict where there is one."""
    rows = "".join(_figure(made, compared) for made in found)
    last = "<th>Verdict</th>" if compared else ""
    value = "Before → after" if compared else "Value"
    head = f"<th>Figure</th><th class=st-num>n</th><th>95 % intervals</th><th class=st-num>{value}</th>{last}"
    return (
        f'<div class="st-scroll"><table class="st-table st-figures"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _figure(made: dict[str, Any], compared: bool) -> str:
    sides = [made["sides"][side] for side in SIDES if side in made["sides"]]
    counts = "/".join(f"{n:,}" for n in dict.fromkeys(side["n"] for side in sides))
    value = evalview.both(made) if len(sides) == 2 else esc(figures.value(made, sides[0]["value"]))
    verdict = _verdict(made) if compared else ""
    return (
        f"<tr><td><b>{esc(evalview.capital(made['label']))}</b><small>{esc(made['says'])}</small></td>"
        f"<td class=st-num>{counts}</td><td>{evalplots.levels(made)}</td><td class=st-num>{value}</td>{verdict}</tr>"
    )


def _verdict(made: dict[str, Any]) -> str:
    tones = {"worse": "bad", "better": "good", "different": "accent"}
    word = made["verdict"] or "one side only"
    return f"<td>{parts.pill(word, tones.get(word, 'plain'))}</td>"


# --- answers ---------------------------------------------------------------------------------------------------------


def shown(view: View) -> dict[str, list[dict[str, Any]]]:
    """Read the answers of an evaluation by suite, again only when the file has changed."""
    path = view.run.dir / "shown.json"
    try:
        return _read(path, path.stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@functools.lru_cache(maxsize=2)
def _read(path: Path, version: int) -> dict[str, list[dict[str, Any]]]:
    found = json.loads(path.read_text("utf-8"))
    return found if isinstance(found, dict) else {}


def answers(scene: Scene) -> str:
    """Draw the answers of the suite that is looked at, ten a page, with a filter by figure and by mark."""
    view = evalset.shown(scene)
    if view is None or view.status != "finished":
        return ""
    name = chosen(scene, view)
    rows = shown(view).get(name) or []
    if not rows:
        return ""
    kept = evalset.kept(scene)
    measure, mark = str(kept.get("measure") or ""), str(kept.get("mark") or "")
    listed = wanted(rows, measure, mark)
    pages, page = max(1, -(-len(listed) // PAGE)), kept.get("page")
    at = min(max(page, 0), pages - 1) if isinstance(page, int) else 0
    labels = {one["measure"]: one["label"] for one in view.result()["suites"][name]["figures"]}
    drawn = "".join(_answer(row, labels) for row in listed[at * PAGE : (at + 1) * PAGE])
    none = parts.empty("No answer fits", "Choose another figure or mark above.")
    body = f'<ul class="st-records">{drawn}</ul>' if listed else none
    return parts.card(
        "Answers, one by one", body + _foot(len(listed), at, pages), _filters(rows, labels, measure, mark)
    )


def wanted(rows: Sequence[dict[str, Any]], measure: str, mark: str) -> list[dict[str, Any]]:
    """Choose the rows of a figure ("" for all) whose marks are as asked for."""
    return [row for row in rows if measure in ("", row.get("measure")) and (not mark or mark in kinds(row))]


def kinds(row: Row) -> set[str]:
    """Tell which filters by mark a row fits."""
    marks = row.get("marks") or {}
    before, after = marks.get("before"), marks.get("after")
    found = {"yes"} if after == 1 else {"no"} if after == 0 else set()
    if before is not None and after is not None and before != after:
        found |= {"differ", "rose" if after > before else "fell"}
    return found


def _filters(rows: Sequence[dict[str, Any]], labels: Mapping[str, str], measure: str, mark: str) -> str:
    here = dict.fromkeys(str(row.get("measure") or "") for row in rows)
    figures = [("", "all figures"), *((one, labels.get(one, one.replace("_", " "))) for one in here if one)]
    there = set().union(*(kinds(row) for row in rows if measure in ("", row.get("measure"))))
    marks = [(one, title) for one, title in MARKS.items() if one in ("", mark) or one in there]
    by_figure = controls.choices(figures, measure, {"do": "measure"}, aria="Answers of which figure", to=DO)
    by_mark = controls.choices(marks, mark, {"do": "mark"}, aria="Answers with which mark", to=DO)
    shown_figures = by_figure if len(figures) > 2 else ""
    return f'<span class="st-eval-filters">{shown_figures}{by_mark if len(marks) > 1 else ""}</span>'


def _foot(count: int, at: int, pages: int) -> str:
    back = controls.button("‹", {"do": "page", "page": at - 1}, to=DO, aria="previous page", disabled=at <= 0)
    on = controls.button("›", {"do": "page", "page": at + 1}, to=DO, aria="next page", disabled=at >= pages - 1)
    pager = f'<span class="st-pager">{back}<span>page {at + 1:,} of {pages:,}</span>{on}</span>' if pages > 1 else ""
    return f'<div class="st-foot"><span class="st-muted">{count:,} answer{"s" * (count != 1)}</span>{pager}</div>'


def _answer(row: Row, labels: Mapping[str, str]) -> str:
    """Draw an answer: what was asked and the marks in a line, all of it when it is opened."""
    asked = str(row.get("title") or "") or " ".join(str(row.get("asked") or "").split())
    measure = str(row.get("measure") or "")
    label = f'<span class="st-muted st-wide-cell">{esc(labels.get(measure, measure), 60)}</span>'
    pills = _marks(row)
    texts = _texts(row)
    if row.get("offensive"):
        asked = "A text that may offend"
        texts = f"<details><summary>Show the text; it may offend</summary>{texts}</details>"
    head = f'<summary><span dir="auto">{esc(asked, 140)}</span>{label}{pills}</summary>'
    return f"<li><details>{head}{texts}</details></li>"


def _marks(row: Row) -> str:
    marks = row.get("marks") or {}
    said = [mark(marks[side]) for side in SIDES if side in marks]
    if not said:
        return ""
    return parts.pill(" → ".join(said) if len(said) == 2 and said[0] != said[1] else said[-1], "plain")


def mark(value: Any) -> str:
    """Write a mark: yes, no, half, or a number."""
    if isinstance(value, int | float):
        return {0.0: "no", 1.0: "yes", 0.5: "half"}.get(float(value), f"{value:.3g}")
    return str(value)


def _texts(row: Row) -> str:
    """Draw the question, what each side said, and what the suite wrote down beside."""
    said = [(side, row[side]) for side in SIDES if row.get(side) is not None]
    both = "".join(
        f'<div><p class="st-told"><span class="st-muted">{side}</span>{_side_mark(row, side)}</p>'
        f'<div class="st-answer" dir="auto">{esc(text) if str(text).strip() else _NOTHING}</div></div>'
        for side, text in said
    )
    asked = (
        '<p class="st-told"><span class="st-muted">asked</span></p>'
        f'<div class="st-asked-text" dir="auto">{esc(row.get("asked") or "")}</div>'
    )
    return f'{asked}<div class="st-eval-sides st-of-{len(said)}">{both}</div>{_beside(row)}'


_NOTHING = '<span class="st-muted">(nothing)</span>'


def _side_mark(row: Row, side: str) -> str:
    marks = row.get("marks") or {}
    return parts.pill(mark(marks[side]), "plain") if side in marks else ""


def _beside(row: Row) -> str:
    """Draw all else that a suite wrote down: a text, or one a side."""
    rows = []
    for name, value in row.items():
        if name in _KNOWN or value in (None, "", [], {}):
            continue
        told = list(value.items()) if isinstance(value, Mapping) else [("", value)]
        if all(_plain(one).removeprefix("user: ") == row.get("asked") for _, one in told):
            continue  # what was asked stands above
        lines = "".join(f"<div>{_named(side)}{esc(_plain(one), 4000)}</div>" for side, one in told)
        rows.append((evalview.capital(str(name).replace("_", " ")), lines))
    return f'<div class="st-eval-beside">{parts.facts(rows)}</div>' if rows else ""


def _named(side: object) -> str:
    return f'<span class="st-muted">{esc(side)}: </span>' if side else ""


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return f"{value['role']}: {value['content']}" if {"role", "content"} <= set(value) else json.dumps(value)
    return "\n".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


# --- two evaluations -------------------------------------------------------------------------------------------------


def beside(scene: Scene) -> str:
    """Draw the figures that the shown evaluation and another one both have, side by side."""
    here, other = evalset.shown(scene), evalset.beside(scene)
    if here is None or other is None:
        return ""
    pairs = in_both(here.result(), other.result())
    names = [evalview.sides(scene, view)[0] for view in (here, other)]
    close = controls.button("Leave", {"do": "beside", "id": ""}, to=DO, aria="Leave: show this evaluation alone")
    if not pairs:
        note = parts.note("They have no figure in common: their suites are others.")
        return parts.card("Side by side", note, close)
    drawn = []
    for title, one, two in pairs:
        scale = evalplots.ends([one["sides"]["after"], two["sides"]["after"]])
        cells = [_level(made, scale) for made in (one, two)]
        drawn.append([f"<b>{esc(evalview.capital(one['label']))}</b><small>{esc(title)}</small>", *cells])
    table = parts.table(["Figure", *names], drawn)
    why = (
        "Each after its training, on intervals of 95 %. No test is made between them: evaluate one against the other "
        "for that."
    )
    return parts.card("Side by side", f'<div class="st-beside-two">{table}</div>{parts.note(why)}', close)


def _level(made: dict[str, Any], scale: tuple[float, float]) -> str:
    alone = {**made, "sides": {"after": made["sides"]["after"]}}
    value = esc(figures.value(made, made["sides"]["after"]["value"]))
    return f'<span class="st-level">{evalplots.levels(alone, 130, scale)}<span>{value}</span></span>'


def in_both(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Give the figures of the evaluated side that both have: (suite's title, of one, of the other)."""
    found = []
    for name, suite in (one.get("suites") or {}).items():
        there = {made["measure"]: made for made in ((two.get("suites") or {}).get(name) or {}).get("figures", ())}
        for made in suite["figures"]:
            other = there.get(made["measure"])
            if other is not None and "after" in made["sides"] and "after" in other["sides"]:
                found.append((str(suite["title"]), made, other))
    return found
