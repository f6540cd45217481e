"""Drawing of an evaluation: what got worse first, then better, different, and what cannot be told; all evaluations.

Nothing is computed here: figures, intervals, tests and verdicts are the card's (evals/card.py), read from result.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.evals import card
from studio.feedback import engines
from studio.ui import choosing, controls, evalplots, evalset, kit, parts, rail, terminal
from studio.ui.live import Scene, View
from studio.ui.parts import esc

#: The hidden fields of the page: SET is for what changes inputs, of this page or others.
DO, SET = "st-evaluate-do", "st-evaluate-set"
MOST = 30
#: Of more undecided figures the table is folded.
FOLD = 8
_TONES = {card.WORSE: "bad", card.BETTER: "good", card.DIFFERENT: "accent", card.SAME: "plain"}
_STATES = {"finished": "good", "failed": "bad", "running": "accent", "interrupted": "warn"}
TOP = 'data-st-go="#st-page-evaluate .st-title"'
Document = Mapping[str, Any]


def title(scene: Scene) -> str:
    """Draw the page's title and, of the shown evaluation, who was compared with whom."""
    view = evalset.shown(scene)
    said = "Before against after, item by item. What got worse stands first."
    if view is not None and view.status == "finished":
        of, against = sides(scene, view)
        each = "Each figure with its 95 % interval."
        said = f"{of} against {against}. {each}" if against else f"{of}, compared with nobody. {each}"
    return parts.title("What changed, and what got worse", said)


def sides(scene: Scene, view: View) -> tuple[str, str]:
    """Name who was evaluated, and against whom ("" for nobody)."""
    options = view.config.options
    against = str(options.get("against") or "")
    return evalset.name(scene, str(options.get("of")), view), evalset.name(scene, against, view) if against else ""


# --- how it goes -----------------------------------------------------------------------------------------------------


def result(scene: Scene) -> str:
    """Draw the evaluation that is shown: how it goes, how it ended, what it found."""
    view = evalset.shown(scene)
    if view is None:
        return nothing(scene)
    if view.running:
        return _going(scene, view)
    if view.status != "finished":
        return kit.ended(view)
    return "".join(changes(view.result()))


def nothing(scene: Scene) -> str:
    """Draw what stands here before the first evaluation: the next step."""
    if evalset.of(scene):
        return ""
    why = "An evaluation asks a model the same questions before and after its training. Train one first."
    where = (
        parts.link("train", "Go to Train", filled=True) if scene.model else parts.link("model", "Pick a model", True)
    )
    return parts.card("", parts.empty("Nothing to evaluate yet", why, where))


def _going(scene: Scene, view: View) -> str:
    """Draw the suites with their marks, and how far the one is that is asked now."""
    newest = view.newest() or {}
    names = [name for name in view.config.options.get("suites") or [] if name in evalset.suites()]
    now = str(newest.get("phase") or "").partition(":")[0]
    here = names.index(now) if now in names else -1
    marks = "".join(
        f"<li>{rail.mark('done' if place < here else 'running' if place == here else 'empty')}"
        f"<span>{esc(evalset.suites()[name].title)}</span></li>"
        for place, name in enumerate(names)
    )
    done = view.percent() or 0.0
    bar = (
        f'<div class="st-bar st-rank-bar" role="progressbar" aria-label="this part" aria-valuemin="0" '
        f'aria-valuemax="100" aria-valuenow="{100 * done:.0f}"><i style="width:{100 * done:.0f}%"></i></div>'
    )
    of, against = sides(scene, view)
    said = ", ".join(rail.now(newest))
    note = parts.note("Every answer is kept as it comes: Stop loses none, and Resume asks only the rest.")
    head = f"{of} against {against}" if against else of
    body = f'<ul class="st-eval-steps">{marks}</ul>{bar}<p>{esc(said)}</p>{note}'
    return parts.card(head[:120], body, esc(f"suite {here + 1} of {len(names)}" if here >= 0 else ""))


# --- what changed ----------------------------------------------------------------------------------------------------

_LISTS = (
    ("worse", "Got worse", "st-got-worse"),
    ("better", "Got better", ""),
    ("changed", "Different, neither better nor worse", ""),
    ("undecided", "No significant difference", "st-same"),
)
_SAME = (
    "These may be chance: the interval says how large a difference could still be hidden. More items make it narrower."
)


def changes(document: Document) -> list[str]:
    """Draw the lists of a card, one card each: what got worse is always there, also when nothing did."""
    tested = int(document.get("tested") or 0)
    if not document.get("against"):
        text = "Nobody stands on the other side, so nothing can have got better or worse. The figures are below."
        return [parts.card("Figures alone", parts.note(text))]
    if not tested:
        text = "No figure could be compared. What each suite says is below; its notes say why."
        return [parts.card("Nothing to compare", parts.note(text))]
    most = evalplots.span([made for suite in document["suites"].values() for made in suite["figures"]])
    drawn = []
    for name, head, style in _LISTS:
        rows = [(document["suites"][one["suite"]], figure(document, one)) for one in document.get(name) or []]
        if not rows and name != "worse":
            continue
        aside = f"{len(rows):,} of {tested:,}"
        if not rows:
            drawn.append(parts.card("Nothing got worse beyond chance", _corrected(tested, most), esc(aside), "st-calm"))
            continue
        body = table(rows, most)
        if name == "worse":
            body += _corrected(tested, most)
        elif len(rows) > FOLD:
            first = "" if name == "undecided" else table(rows[:FOLD], most)
            rest = table(rows[FOLD if first else 0 :], most)
            told = f"Show the other {len(rows) - FOLD:,}" if first else f"Show all {len(rows):,}"
            body = f'{first}<details class="st-more"><summary>{told}</summary>{rest}</details>'
        if name == "undecided":
            body = parts.note(_SAME) + body
        drawn.append(parts.card(head, body, esc(aside), style if rows else ""))
    return drawn


def _corrected(tested: int, most: float) -> str:
    some = "1 figure is" if tested == 1 else f"{tested:,} figures are"
    return parts.note(
        f"{some} compared. A difference counts where p stays below {card.LEVEL:g} after Holm's correction for their "
        f"number; each interval holds 95 % by itself. Lines of shares reach from −{100 * most:.0f} to "
        f"+{100 * most:.0f} points, others as far as they need; the mark in the middle is no difference."
    )


def figure(document: Document, short: Document) -> dict[str, Any]:
    """Find the whole figure that a list of the card names."""
    figures = document["suites"][short["suite"]]["figures"]
    return next(made for made in figures if made["measure"] == short["measure"])


def table(rows: Sequence[tuple[Document, dict[str, Any]]], most: float) -> str:
    """Draw figures that were compared: name, before and after, the difference on its interval, p, the verdict."""
    heads = ("Figure", "Before → after", "Difference, 95 % interval", "p (Holm)", "Verdict")
    top = "".join(f"<th{' class=st-num' if place in (1, 3) else ''}>{head}</th>" for place, head in enumerate(heads))
    body = "".join(_row(suite, made, most) for suite, made in rows)
    return (
        f'<div class="st-scroll"><table class="st-table st-changes"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _row(suite: Document, made: dict[str, Any], most: float) -> str:
    found, tone = made["difference"], _TONES.get(made["verdict"], "plain")
    apart = "" if found["paired"] else ", not paired"
    said = f"{suite['title']} · n {found['n']:,}{apart}"
    pill = parts.pill(made["verdict"], tone)
    return (
        f'<tr><td class="st-ch-figure"><b title="{esc(made["says"])}">{esc(capital(made["label"]))}</b>'
        f'<small>{esc(said)}</small></td><td class="st-num st-ch-sides">{both(made)}</td>'
        f'<td class="st-ch-change"><div>{evalplots.change(made, most)}'
        f'<span class="st-of-{tone}">{change(made)}</span></div></td>'
        f'<td class="st-num st-ch-p"><span class="st-narrow-only">p </span>{p_value(found)}</td>'
        f'<td class="st-ch-verdict">{pill}</td></tr>'
    )


def capital(text: str) -> str:
    """Begin a name with a capital letter."""
    return text[:1].upper() + text[1:]


def both(made: dict[str, Any]) -> str:
    """Write before and after with one unit: 41.0 → 29.0 %."""
    before, after = (card.value(made, made["sides"][side]["value"]) for side in ("before", "after"))
    number, _, unit = before.partition(" ")
    shared = not unit or after.endswith(f" {unit}")
    return esc(f"{number if shared else before} → {after}".replace("-", "−"))


def change(made: dict[str, Any]) -> str:
    """Write a difference and its interval: −12.0 (−20.0 to −4.0) points."""
    found = made["difference"]
    unit = "points" if evalplots.is_share(made) else made["unit"]
    if found["low"] is None or found["high"] is None:
        return esc(f"{signed(made, found['value'])} {unit}, too few for an interval")
    ends = f"{signed(made, found['low'])} to {signed(made, found['high'])}"
    return esc(f"{signed(made, found['value'])} ({ends}) {unit}".strip())


def signed(made: dict[str, Any], number: float) -> str:
    """Write a difference's number with its sign, without its unit."""
    plain = made if evalplots.is_share(made) else {**made, "unit": ""}
    text = card.value(plain, abs(number), difference=True).removesuffix(" points")
    return text if not float(text) else f"{'+' if number > 0 else '−'}{text}"


def p_value(found: Document) -> str:
    """Write a corrected p."""
    return "&lt; 0.001" if found["p_holm"] < 0.001 else f"{found['p_holm']:.3f}"


# --- how it was measured ---------------------------------------------------------------------------------------------


def measured(scene: Scene) -> str:
    """Draw through which files the shown evaluation asked, who judged, and the command that does it again."""
    view = evalset.shown(scene)
    if view is None or view.status != "finished":
        return ""
    found = view.result()
    of, against = sides(scene, view)
    before, after = ((found.get("sides") or {}).get(side) or {} for side in ("before", "after"))
    rows = [
        ("After", f"{esc(of, 120)}<small>{esc(engines.through(after))}</small>"),
        ("Before", f"{esc(against, 120)}<small>{esc(engines.through(before))}</small>" if against else ""),
        ("Judge", _judge(scene, view, found)),
        ("Seed", esc(found.get("seed"))),
        ("Took", esc(parts.duration(found.get("seconds")))),
        ("Name", f'<span class="st-clip"><code>{esc(view.id)}</code>{parts.copy_button(view.id)}</span>'),
    ]
    command = terminal.line(evalset.command(view.config.options, terminal.name_of(str(view.config.options["of"]))))
    return parts.card("How it was measured", parts.facts(rows), "", "st-through") + parts.terminal(command)


def _judge(scene: Scene, view: View, found: Document) -> str:
    judge = found.get("judge") or {}
    if not judge:
        return "nobody: rules alone"
    return f"{esc(evalset.name(scene, str(judge.get('name')), view), 120)}<small>{esc(engines.through(judge))}</small>"


def onward(scene: Scene) -> str:
    """Draw the next things to do with the shown evaluation."""
    view = evalset.shown(scene)
    if view is None or view.status != "finished":
        return ""
    found = view.result()
    report = (
        f'<a class="st-button" href="report/{esc(view.id)}" target="_blank" rel="noopener">Open report.html</a>'
        if (view.run.dir / "report.html").is_file()
        else ""
    )
    worked = _worked(found)
    make = controls.button(
        "Make preference data of the findings",
        {"do": "findings", "id": view.id},
        to=SET,
        filled=bool(worked),
        extra='data-st-page-go="feedback"',
    )
    fresh = controls.button(
        "New evaluation", {"do": "fold", "open": "yes"}, to=DO, extra='data-st-go="#st-page-evaluate .st-fold"'
    )
    return parts.actions(fresh, report, make if worked is not None else "")


def _worked(document: Document) -> int | None:
    """Count the red team's figures with an answer that was got out of the evaluated side; None where it did not run."""
    suite = (document.get("suites") or {}).get("redteam")
    figures = [made["sides"]["after"] for made in (suite or {}).get("figures", ()) if "after" in made["sides"]]
    return sum(side["value"] > 0 for side in figures) if figures else None


# --- all evaluations -------------------------------------------------------------------------------------------------


def listed(scene: Scene) -> str:
    """Draw all evaluations, the newest first."""
    found = evalset.evaluations(scene)
    if not found:
        return ""
    shown, other = evalset.shown(scene), evalset.beside(scene)
    rows = "".join(_one(scene, view, view is shown, view is other, shown) for view in found[:MOST])
    more = parts.note(f"{len(found) - MOST:,} older ones are listed by: studio runs") if len(found) > MOST else ""
    heads = (("Evaluated", ""), ("Against", ' class="st-wide-cell"'), ("Found", ""), ("", ""))
    head = "".join(f"<th{style}>{text}</th>" for text, style in heads)
    body = (
        f'<div class="st-scroll"><table class="st-table st-sets"><thead><tr>{head}</tr></thead>'
        f"<tbody data-st-rows>{rows}</tbody></table></div>{more}"
    )
    return parts.card("Evaluations", body)


def _one(scene: Scene, view: View, here: bool, other: bool, shown: View | None) -> str:
    of, against = sides(scene, view)
    state = f'aria-pressed="{str(here).lower()}"{"" if here else " tabindex=-1"}'
    name = controls.button(of[:60], {"do": "show", "id": view.id}, to=DO, style="st-row-name", extra=f"{state} {TOP}")
    pill = parts.pill(view.status, _STATES.get(view.status, "plain"))
    if view.status == "finished" and shown is not None and shown.status == "finished" and not here:
        label = "Leave" if other else "Beside"
        aria = f"{label}: {of}, {choosing.when(view.id)}"
        pill = controls.button(label, {"do": "beside", "id": "" if other else view.id}, to=DO, aria=aria, extra=TOP)
    return (
        f'<tr class="st-row{" st-chosen" if here else ""}"><td>{name}<small>{esc(choosing.when(view.id))}'
        f'<span class="st-narrow-only"> · {esc(against or "nobody", 60)}</span></small></td>'
        f'<td class="st-wide-cell">{esc(against or "nobody", 80)}</td><td>{esc(found_words(view))}</td>'
        f'<td class="st-over">{pill}</td></tr>'
    )


def found_words(view: View) -> str:
    """Say in a few words what an evaluation found."""
    found = view.result() if view.status == "finished" else {}
    if not found:
        known = evalset.suites()
        return ", ".join(known[one].title if one in known else one for one in view.config.options.get("suites") or [])
    if not found.get("against") or not found.get("tested"):
        return f"{sum(bool(made['sides']) for s in found['suites'].values() for made in s['figures'])} figures"
    worse, better = len(found["worse"]), len(found["better"])
    if not worse and not better:
        return "something differs" if found.get("changed") else card.SAME
    said = f"{worse:,} worse" if worse else "nothing worse"
    return f"{said}, {better:,} better"


def line(scene: Scene) -> tuple[str, str]:
    """Give the rail's state and line."""
    found = evalset.evaluations(scene)
    if (going := next((view for view in found if view.running), None)) is not None:
        done = going.percent()
        name = str((going.newest() or {}).get("phase") or "").partition(":")[0]
        title = evalset.suites()[name].title if name in evalset.suites() else "starting"
        return "running", f"{title}{f', {parts.share(done)}' if done is not None else ''}"
    if not found:
        ready = any(view.config.kind == "train" and view.status == "finished" for view in scene.views)
        return ("ready", "ready to start") if ready else ("empty", "after training")
    view = found[0]
    if view.status != "finished":
        states = {"failed": "failed", "queued": "ready", "new": "ready"}
        return states.get(view.status, "stopped"), {"queued": "waits", "new": "not begun"}.get(view.status, view.status)
    return "done", found_words(view)
