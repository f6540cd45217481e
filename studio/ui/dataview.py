"""Drawing of the data page: the file, a row with its learned tokens marked, lengths, and what to look at first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from studio.ui import examine, parts, plots, starter
from studio.ui.live import Scene
from studio.ui.parts import esc

_WHAT = {"sft": "conversations", "text": "texts", "preference": "pairs", "kto": "labelled answers", "prompt": "prompts"}
_PAGE = {"train": "Train", "align": "Align"}
MOST_TOKENS = 1500


def bar(scene: Scene) -> str:
    """Draw what file this is, its format and how it was found."""
    file, _, found = looking(scene)
    if not file:
        return ""
    name = esc(file.replace("\\", "/").rsplit("/", 1)[-1])
    if found is None:
        return f'<section class="st-card st-line"><b>{name}</b><span class="st-muted">not read yet</span></section>'
    kind = str(found.get("kind"))
    mapping = ", ".join(f"{a} → {b}" for a, b in (found.get("mapping") or {}).items() if a != b)
    return (
        f'<section class="st-card st-line"><b>{name}</b>{parts.pill(str(found.get("format")) + ", found by its rows")}'
        f"<span>{int(found.get('rows') or 0):,} {esc(_WHAT.get(kind, 'rows'))}</span>"
        f'<span class="st-muted">{esc(mapping, 200)}</span></section>'
    )


def looking(scene: Scene) -> tuple[str, int, Mapping[str, Any] | None]:
    """Give the file and row the page shows, and the file's check if it is there."""
    at = scene.chosen.get("looking") or {}
    file = str(at.get("file") or "")
    return file, int(at.get("index") or 0), examine.known_check(file, examine.model_of(scene)) if file else None


def preview(scene: Scene) -> str:
    """Draw the row as the model will see it."""
    file, index, found = looking(scene)
    if not file or found is None or not found.get("rows"):
        return ""
    step = examine.STEP_OF_KIND.get(str(found.get("kind")), "train")
    row = examine.known_row(file, examine.model_of(scene), index, examine.max_length(scene, step))
    rows = int(found["rows"])
    pager = (
        f'<span class="st-pager">{parts.press("st-row-prev", "‹", "previous row", index <= 0)}'
        f"<span>{index + 1:,} of {rows:,}</span>{parts.press('st-row-next', '›', 'next row', index >= rows - 1)}</span>"
    )
    if row is None:
        return parts.card(f"Row {index + 1}", parts.note("Reading…"), pager)
    if row.get("error"):
        return parts.card(f"Row {index + 1}", parts.note(str(row["error"])), pager)
    if row.get("kind") == "preference":
        sides = "".join(_side(name, row[name], int(row.get("common_prefix") or 0)) for name in ("chosen", "rejected"))
        shared = f"the same for the first {row.get('common_prefix', 0):,} tokens"
        return parts.card(f"Pair {index + 1}", f'<div class="st-sides">{sides}</div>', f"{esc(shared)} {pager}")
    count, trained = int(row.get("count") or 0), int(row.get("trained") or 0)
    said = f"{count:,} tokens, {trained:,} learned ({parts.share(trained / max(1, count))})"
    return parts.card(f"Row {index + 1}", tokens(row.get("tokens") or []), f"{said} {pager}")


def _side(name: str, side: Mapping[str, Any], shared: int) -> str:
    said = f"{side.get('trained', 0):,} learned of {side.get('count', 0):,}"
    tone = "good" if name == "chosen" else "bad"
    return (
        f'<div><div class="st-head">{parts.pill(name, tone)}<span class="st-aside">{esc(said)}</span></div>'
        f"{tokens(side.get('tokens') or [])}</div>"
    )


def tokens(found: Sequence[Mapping[str, Any]]) -> str:
    """Draw tokens: learned ones tinted and underlined, the end of a turn bold, the rest grey."""
    out = []
    for token in found[:MOST_TOKENS]:
        classes = (
            "st-t" + (" st-learned" if token.get("trained") else "") + (" st-eot" if token.get("end_of_turn") else "")
        )
        out.append(
            f'<span class="{classes}" title="token {esc(token.get("id", ""), 12)}">{esc(token.get("text", ""))}</span>'
        )
    more = f"<p class=st-note>and {len(found) - MOST_TOKENS:,} more tokens</p>" if len(found) > MOST_TOKENS else ""
    return f'<div class="st-tokens" dir="auto">{"".join(out)}</div>{more}'


def warnings(scene: Scene) -> str:
    """Draw what to look at before training: errors with their lines first, then warnings."""
    file, _, found = looking(scene)
    if not file or found is None:
        return ""
    errors, flags = found.get("errors") or [], found.get("warnings") or []
    items = [
        _item(
            f"line {e.get('line')}" if e.get("line") else "file",
            "bad",
            str(e.get("problem")),
            str(e.get("remedy") or ""),
            field=e.get("field"),
        )
        for e in errors[:20]
    ]
    items += [
        _item(
            _rows(w),
            "warn",
            str(w.get("problem") or w.get("text") or w.get("code")),
            str(w.get("remedy") or ""),
            w.get("lines"),
        )
        for w in flags
    ]
    count = int(found.get("error_count") or len(errors))
    said = (
        f"{count:,} to repair first"
        if errors
        else f"{len(flags)} to look at, nothing blocks"
        if flags
        else "nothing to repair"
    )
    body = (
        f'<ul class="st-list">{"".join(items)}</ul>'
        if items
        else parts.note("Every row can be read and has something to learn.")
    )
    return parts.card("Before training", body, esc(said))


def _rows(warning: Mapping[str, Any]) -> str:
    count = int(warning.get("rows") or 0)
    return "the file" if not count else f"{count:,} row{'s' if count != 1 else ''}"


def _item(
    label: str, tone: str, what: str, remedy: str, lines: Sequence[int] | None = None, field: object = None
) -> str:
    where = f"Field {field}. " if field else ""
    if lines:
        shown = ", ".join(f"{line:,}" for line in lines[:8])
        where += f"Line{'s' if len(lines) > 1 else ''} {shown}{'…' if len(lines) > 8 else ''}. "
    return (
        f"<li>{parts.pill(label, tone)}<span>{esc(what[:1].upper() + what[1:], 400)}"
        f"<small>{esc(where + remedy, 500)}</small></span></li>"
    )


def side(scene: Scene) -> str:
    """Draw the lengths and the counts."""
    file, _, found = looking(scene)
    if not file or found is None:
        return ""
    step = examine.STEP_OF_KIND.get(str(found.get("kind")), "train")
    limit = examine.max_length(scene, step)
    lengths = [int(n) for n in found.get("lengths") or []]
    out = ""
    if lengths:
        over = sum(n > limit for n in lengths)
        label = f"Length of {len(lengths):,} rows: {min(lengths)} to {max(lengths)} tokens, {over} longer than {limit}"
        drawn = plots.histogram(lengths, limit=limit, label=label, width=330)
        out += parts.card("Length", drawn, "tokens")
    facts, model = scene.chosen.get("facts") or {}, examine.model_of(scene)
    total, learned = found.get("tokens"), found.get("trained_tokens")
    rows = [
        ("Learned", f"{parts.share(learned / total)} of {total:,} tokens" if total and learned is not None else ""),
        ("Longest kept", f"{limit:,} tokens, set on {_PAGE[step]}"),
        ("Template", esc(found.get("template") or "")),
        ("Tokens of", esc(facts.get("name") if facts.get("model") == model else model)),
    ]
    return out + parts.card("", parts.facts(rows))


def in_use(scene: Scene) -> str:
    """Draw which files Train and Align use now."""
    rows = []
    for step, page in _PAGE.items():
        used = scene.data(step)
        name = str(used.get("file") or "").replace("\\", "/").rsplit("/", 1)[-1]
        what = _WHAT.get(str(used.get("kind")), "rows")
        rows.append(
            (
                page,
                f"{esc(name)}, {int(used.get('rows') or 0):,} {what}"
                if used
                else '<span class="st-muted">no file yet</span>',
            )
        )
    return parts.card("In use", parts.facts(rows))


def samples() -> str:
    """Draw the buttons for the data that ships with the starter."""
    names = {"train": "Sample conversations", "align": "Sample pairs"}
    have = [parts.press(f"st-sample-{step}", names[step]) for step in starter.SAMPLES if starter.sample(step).is_file()]
    if not have:
        return ""
    return f'<div class="st-samples"><span class="st-muted">No file at hand?</span>{"".join(have)}</div>'


def nothing(scene: Scene) -> str:
    """Draw the empty state of the page: what to look at first."""
    used = next((scene.data(step) for step in _PAGE if scene.data(step)), None)
    what = "No file is open" if used else "No data yet"
    why = "Conversations teach it to answer; pairs of answers teach it which is better."
    button = parts.press("st-sample-train", "Use the sample data")
    if used:
        button = parts.press(
            "st-open-used", f"Look at {str(used.get('file')).replace(chr(92), '/').rsplit('/', 1)[-1]}"
        )
    return parts.card("", parts.empty(what, why, button))
