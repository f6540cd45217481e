"""What Train and Align have in common: facts, samples and result of a training run. Pure drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from studio.methods import Method
from studio.ui import choosing, looking, parts
from studio.ui.curves import main_key, measure
from studio.ui.live import Scene, View
from studio.ui.parts import esc, number
from studio.ui.terminal import name_of


def figures(scene: Scene, step: str) -> str:
    """Draw the facts of the run that is shown, as it goes or as it ended; nothing before the first."""
    view = scene.line.get(step)
    if view is None:
        return ""
    last, evaluated = view.last_step() or {}, view.held_out(main_key(view))
    rows = [
        ("Run", esc(view.config.title)),
        ("Model", esc(model_name(scene, view.config.model))),
        ("Data", esc(name_of(view.config.data))),
    ]
    if view.config.parent:
        name = name_of(view.config.parent)
        title = next((other.config.title for other in scene.views if other.id == name), name)
        rows.append(("Starts from", f'<span title="{esc(name)}">{esc(title)}</span>'))
    if reward := str(view.config.options.get("reward") or ""):
        rows.append(("Scored by", esc(choosing.scorer_name(scene, reward), 80)))
    if view.running:
        rows = [
            ("Time left", esc(parts.duration(last.get("seconds_left")))),
            ("Speed", f"{last['tokens_per_s']:,.0f} tokens/s" if last.get("tokens_per_s") else ""),
            ("Epoch", number(last["epoch"], 1) if last.get("epoch") is not None else ""),
            ("Learning rate", number(last["learning_rate"]) if last.get("learning_rate") is not None else ""),
            ("Held out", f"{measure(main_key(view))} {number(evaluated[-1][1])}" if evaluated else ""),
            ("Checkpoint", f"step {view.checkpoint.get('step', 0):,}" if view.checkpoint else ""),
            *rows[1:],
        ]
    else:
        result = view.result()
        rows += [
            ("Steps", f"{last.get('step', 0):,} of {last.get('total', 0):,}" if last else ""),
            ("Time", esc(parts.duration(result.get("seconds")))),
            ("Folder", f"{parts.code(view.run.dir)}"),
        ]
    shown = f'<i data-st-run="{esc(view.id)}" hidden></i>'
    return shown + parts.card("", parts.facts(rows)) + notes(view)


def model_name(scene: Scene, model: str) -> str:
    """Name a model as the Model page does, where that is the chosen one."""
    facts = scene.chosen.get("facts") or {}
    return str(facts.get("name") or model) if facts.get("model") == model else model


def notes(view: View) -> str:
    """Draw what the run tells of itself; what it warns of stands above its curves."""
    quiet = [item for item in view.notes if item.get("level") not in ("warning", "alarm")]
    seen = list(dict.fromkeys(str(item.get("text")) for item in quiet))[-4:]
    if not seen:
        return ""
    lines = "".join(f"<li><span>{esc(text, 600)}</span></li>" for text in seen)
    return parts.card("Notes", f'<ul class="st-list">{lines}</ul>')


def before(scene: Scene, step: str) -> str:
    """Draw what the next run would start from, and how many steps it would take."""
    method = choosing.method(scene, step)
    data, facts = choosing.data(scene, step, method), scene.chosen.get("facts") or {}
    missing = '<span class="st-muted">not chosen yet</span>'
    parent = choosing.parent(scene, step)
    rows = [
        ("Model", esc(facts.get("name") or scene.model) if scene.model else missing),
        ("Starts from", esc(choosing.named(scene, parent), 120) if parent is not None else ""),
        ("Data", f"{esc(name_of(data['file']))}" if data else missing),
        ("Rows", f"{data['rows']:,}" if data.get("rows") else ""),
        ("Learned", f"{data['trained_tokens']:,} tokens an epoch" if data.get("trained_tokens") else ""),
        ("Steps", _steps(scene, method, data)),
    ]
    buttons = ""
    if not scene.model:
        buttons = parts.actions(parts.link("model", "Pick a model"))
    elif not data:
        buttons = parts.actions(parts.link("data", "Choose the data"))
    return parts.card("What it starts from", parts.facts(rows) + buttons)


def _steps(scene: Scene, method: Method, data: Mapping[str, Any]) -> str:
    """Say about how many steps the next run takes, where the rows are what it learns from one by one."""
    if method.kind != "offline" or not data.get("rows") or data.get("kind") not in method.kinds:
        return ""
    batch, epochs, held, most = (
        looking.setting(scene, method, name) for name in ("batch_size", "epochs", "held_out", "max_steps")
    )
    steps = max(1, math.ceil(data["rows"] * (1 - held) / batch * epochs))
    if most and most < steps:
        return f"{most:,}, of about {steps:,} for all rows"
    return f"about {steps:,}, {epochs:g} epoch{'s' if epochs != 1 else ''}"


def samples(view: View | None) -> str:
    """Draw the same prompt as it learns: its first answer and the newest few, an answer that stays once."""
    if view is None or not view.samples:
        return ""
    groups: dict[str, list[tuple[int, str]]] = {}
    for (_, step, prompt), item in sorted(view.samples.items(), key=lambda pair: pair[0][1]):
        groups.setdefault(prompt, []).append((step, str(item.get("text") or "")))
    out = []
    for prompt, answers in list(groups.items())[:2]:
        spans = _spans(answers)
        shown = spans if len(spans) <= 4 else [spans[0], *spans[-3:]]
        lines = "".join(
            f'<li>{parts.pill(steps, "accent" if text is shown[-1][1] else "plain")}<p dir="auto">{said(text)}</p></li>'
            for steps, text in shown
        )
        out.append(f'<div class="st-sample"><small dir="auto">{esc(prompt, 160)}</small><ul>{lines}</ul></div>')
    return parts.card("The same prompt as it learns", "".join(out), "by step")


def _spans(answers: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
    """Put equal answers that follow each other together: (14–134, answer)."""
    found: list[tuple[int, int, str]] = []
    for step, text in answers:
        if found and found[-1][2] == text:
            found[-1] = (found[-1][0], step, text)
        else:
            found.append((step, step, text))
    return [(f"{a:,}" if a == b else f"{a:,}–{b:,}", text) for a, b, text in found]


def result(view: View | None) -> str:
    """Draw what a finished run changed; what got worse stands first."""
    if view is None or view.status != "finished":
        return ""
    found = view.result()
    lines = [
        (f'{esc(name)}<small class="st-narrow-only">{esc(n)}</small>', esc(value), mark, esc(n))
        for _, mark, name, value, n in sorted(_changes(found))
    ]
    text = str(found.get("advice") or "")
    for loud in view.notes:  # what stands above the curves need not be said twice
        text = text.replace(str(loud.get("text")), "") if loud.get("level") in ("warning", "alarm") else text
    advice = f'<p class="st-advice">{parts.pill("advice", "warn")}<span>{esc(text.strip())}</span></p>'
    advice = advice if text.strip() else ""
    table = parts.table(("What", "Before → after", "", "Measured on"), lines) if lines else ""
    shown = parts.card("What changed", advice + table, extra="st-changed") if lines or advice else ""
    return shown + examples(found.get("behaviour") or {})


_WORSE, _PLAIN, _BETTER, _SAME = (
    (0, parts.pill("worse", "bad")),
    (1, ""),
    (2, parts.pill("better", "good")),
    (3, parts.pill("the same", "plain")),
)


def _changes(found: Mapping[str, Any]) -> list[tuple[int, str, str, str, str]]:
    """Give (order, mark, name, value, how many) for each figure of a result."""
    held, behaviour = found.get("heldout") or {}, found.get("behaviour") or {}
    rows: list[tuple[int, str, str, str, str]] = []
    if judge := found.get("reward") or {}:
        rows += _judged(judge)
    elif isinstance(held.get("before"), int | float) and isinstance(held.get("after"), int | float):
        mark = _judge(held["before"], held["after"], falls=not higher_is_better(held))
        pair = change(held["before"], held["after"])
        rows.append((*mark, f"Held-out {measure(held.get('name'))}", pair, f"{held.get('n', '?')} rows"))
    moved = found.get("moved")
    if isinstance(moved, int | float) and not isinstance(moved, bool):
        rows.append((*_PLAIN, "Weights moved by", moved_by(moved), ""))
    n = behaviour.get("n")
    if not isinstance(n, int) or n < 1:
        return rows
    asked = f"{n:,} answers"
    changed = ratio(behaviour.get("changed"), n)
    mark = _PLAIN if changed else (0, parts.pill("nothing changed", "warn"))
    rows.append((*mark, "Answers that changed", parts.share(changed), asked))
    before, after = ratio(behaviour.get("stops_before"), n), ratio(behaviour.get("stops_after"), n)
    mark = _judge(before, after, falls=False)
    rows.append((*mark, "Stops by itself", f"{parts.share(before)} → {parts.share(after)}", asked))
    if behaviour.get("length_after") is not None:
        pair = change(behaviour.get("length_before") or 0, behaviour["length_after"], 0)
        rows.append((*_PLAIN, "Length of an answer", f"{pair} tokens", asked))
    if style := styled(behaviour):
        mark = _judge(behaviour["style"]["before"], behaviour["style"]["after"], falls=False)
        rows.append((*mark, *style, asked))
    return rows


def styled(behaviour: Mapping[str, Any]) -> tuple[str, str] | None:
    """Give (name, before and after) of the style that the data prefers, where one can be told."""
    style = behaviour.get("style") or {}
    before, after = style.get("before"), style.get("after")
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return None
    return f"Preferred style: {style.get('name')}", f"{parts.share(before)} → {parts.share(after)}"


def _judged(judge: Mapping[str, Any]) -> list[tuple[int, str, str, str, str]]:
    """Say how well a judge judges, beside one who only goes by length."""
    right, longer, n = judge.get("accuracy"), judge.get("longer_wins"), f"{judge.get('n', '?')} pairs"
    if not isinstance(right, int | float) or not isinstance(longer, int | float):
        return []
    low, high, length = judge.get("low"), judge.get("high"), max(longer, 1 - longer)
    span, sure = "", (1, parts.pill("not shown", "warn"))
    if isinstance(low, int | float) and isinstance(high, int | float):
        span = f" ({100 * low:.0f} to {parts.share(high)})"
        sure = _BETTER if low > length else sure
    sure = _WORSE if right < length else sure
    return [
        (*sure, "Right on held-out pairs", f"{parts.share(right)}{span}", n),
        (*_PLAIN, "Going by length alone", parts.share(length), n),
    ]


def higher_is_better(held: Mapping[str, Any]) -> bool:
    """Tell which way a held-out figure should go: as the run says, else losses down and all other figures up."""
    if held.get("better") in ("higher", "lower"):
        return bool(held["better"] == "higher")
    name = str(held.get("name") or "loss")
    return "loss" not in name and "perplexity" not in name


def moved_by(per_cent: float) -> str:
    """Write how far the weights moved, in per cent of their size."""
    return f"{per_cent:.2g} %" if per_cent < 10 else f"{per_cent:,.0f} %"


def _judge(before: float, after: float, *, falls: bool) -> tuple[int, str]:
    """Tell worse, same or better; `falls` is for figures that should (losses)."""
    if before == after:
        return _SAME
    return _BETTER if (after < before) == falls else _WORSE


def ratio(value: object, n: int) -> float:
    """Read a count of n, or a share that is one already."""
    if not isinstance(value, int | float):
        return 0.0
    return float(value) if isinstance(value, float) and value <= 1 else value / n


def change(before: float, after: float, digits: int = 2) -> str:
    """Write two values with an arrow, with as many digits as it takes to tell them apart (five at most)."""
    while digits < 5 and before != after and number(before, digits) == number(after, digits):
        digits += 1
    return f"{number(before, digits)} → {number(after, digits)}"


def said(text: object) -> str:
    """Write an answer; one without a visible character says so."""
    return esc(text, 240) if str(text or "").strip() else '<span class="st-muted">(nothing)</span>'


#: So many examples are shown at once; the others are folded away.
_SHOWN = 4


def examples(behaviour: Mapping[str, Any]) -> str:
    """Draw prompts with the answer before and the answer after, side by side; those that changed come first."""
    found = sorted(behaviour.get("examples") or [], key=lambda item: item.get("before") == item.get("after"))
    if not found:
        return ""
    rows = [
        f'<div class="st-pair{"" if item.get("before") != item.get("after") else " st-alike"}">'
        f'<p class="st-prompt" dir="auto">{esc(item.get("prompt", ""), 300)}</p>'
        f'<div><small>before</small><p dir="auto">{said(item.get("before"))}</p></div>'
        f'<div><small>after</small><p dir="auto">{said(item.get("after"))}</p></div></div>'
        for item in found
    ]
    more = f"<details><summary>{len(rows) - _SHOWN} more</summary>{''.join(rows[_SHOWN:])}</details>"
    body = "".join(rows[:_SHOWN]) + (more if len(rows) > _SHOWN else "")
    own = behaviour.get("held_out") is False
    aside = "prompts of the training rows" if own else "prompts that no training row contains"
    return parts.card("Before and after", body, aside)
