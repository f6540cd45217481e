"""Drawing of what to look at before training: errors, findings with their repairs, lengths and counts, the split."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from studio.ui import controls, examine, parts, plots
from studio.ui.dataview import Document, of_model, ready
from studio.ui.live import Scene
from studio.ui.looking import WORDS, Looking, max_length, method_of, methods_of, setting
from studio.ui.parts import esc

_LINES = 8
_FLAGS = re.compile(r" with --[\w-]+| \(--[^)]*\)")
_NOT_YET = {"kto": "KTO training", "prompt": "Training on prompts"}


def findings(scene: Scene, look: Looking, found: Document) -> list[dict[str, Any]]:
    """List what is to be looked at, blocking findings first; errors are not among it where bad rows are left out."""
    mine = _all(scene, look, found)
    return [item for item in mine if item.get("level") != "error"] if _drops_bad(look) else mine


def _drops_bad(look: Looking) -> bool:
    return "bad" in (look.reading.get("drop") or ())


def _all(scene: Scene, look: Looking, found: Document) -> list[dict[str, Any]]:
    """List what was found by the count of tokens and by the check."""
    measured = examine.known(look.measure(scene, str(found.get("kind")))) or {}
    mine = [dict(item) for item in measured.get("findings") or []]
    codes = {item.get("code") for item in mine}
    mine += [dict(item) for item in found.get("warnings") or [] if item.get("code") not in codes]
    return sorted(mine, key=lambda item: item.get("level") != "error")


def lines_of(code: str, scene: Scene, look: Looking, found: Document) -> list[int] | None:
    """Give the lines that the table shows for a kind of problem: None for all of them."""
    if not code:
        return None
    items = [item for item in findings(scene, look, found) if code in ("any", item.get("code"))]
    lines = {int(line) for item in items for line in item.get("lines") or []}
    return sorted(
        lines | ({int(e["line"]) for e in found.get("errors") or [] if e.get("line")} if code == "any" else set())
    )


def blocking(scene: Scene, look: Looking, found: Document) -> str:
    """Say what stands in the way of using the file; empty when nothing does."""
    kind = str(found.get("kind"))
    if kind == "unclear":
        return "It is not clear yet what the rows hold."
    if not methods_of(kind):
        return not_yet(kind)
    if not int(found.get("usable") or 0):
        return "No row can be used."
    if not found.get("ok"):
        return "Something has to be repaired first; it stands under “Before training”."
    if any(item.get("level") == "error" for item in findings(scene, look, found)):
        return "Some rows have nothing to learn; repair or leave them out first."
    return ""


def not_yet(kind: str) -> str:
    """Say that no method learns from a kind yet."""
    what = _NOT_YET.get(kind, "Training on such rows")
    return f"{what} is not here yet; the file can be checked, previewed and converted."


def warnings(scene: Scene) -> str:
    """Draw what to look at before training, and what was repaired."""
    if (both := ready(scene)) is None or both[1].get("kind") == "unclear":
        return ""
    look, found = both
    left_out = bool(found.get("ok"))  # what is listed then was left out
    errors = [] if left_out else [_error(error) for error in found.get("errors") or []]
    count = 0 if left_out else int(found.get("error_count") or 0)
    listed = findings(scene, look, found)
    items = errors + [_finding(item) for item in listed]
    head = ""
    if count:
        rest = f" The first {len(errors)} are listed." if count > len(errors) else ""
        button = controls.button(
            f"Leave the {count:,} bad row{'s' if count != 1 else ''} out", {"do": "fix", "code": "bad"}, to=controls.SET
        )
        head = f'<div class="st-offer"><span>{count:,} cannot be used as they are.{rest}</span>{button}</div>'
    blocks = sum(item.get("level") == "error" for item in listed)
    said = (
        f"{count:,} to repair first"
        if count
        else f"{blocks} to repair, {len(listed) - blocks} to look at"
        if blocks
        else f"{len(listed)} to look at, nothing blocks"
        if listed
        else "nothing to repair"
    )
    measured = examine.known(look.measure(scene, str(found.get("kind"))))
    if items:
        body = f'{head}<ul class="st-list st-found">{"".join(items)}</ul>'
    elif measured is None:
        body, said = parts.note("Looking…"), ""
    elif "error" in measured:
        error = measured["error"]
        body, said = parts.note(f"{error.get('message')} {error.get('remedy') or ''}"), "not looked at"
    else:
        learned = " and has something to learn" if methods_of(str(found.get("kind"))) else ""
        body = parts.note(f"Every row can be read{learned}.")
    done = "".join(_fix(number, fix, found.get("left_out") or {}) for number, fix in enumerate(look.fixes))
    if _drops_bad(look):  # what only the tokens showed is left out when a run is made
        done += "".join(_gone(item) for item in _all(scene, look, found) if item.get("level") == "error")
    body += f'<h3>Repaired</h3><ul class="st-list st-found">{done}</ul>' if done else ""
    return parts.card("Before training", body, esc(said))


def _error(error: Document) -> str:
    field = f"Field {error.get('field')}. " if error.get("field") else ""
    excerpt = f"<code>{esc(error['excerpt'], 240)}</code>" if error.get("excerpt") else ""
    line = error.get("line")
    place = parts.pill(f"line {line:,}" if isinstance(line, int) and line else "file", "bad")
    return (
        f"<li>{place}<span>{esc(_sentence(error.get('problem')), 400)}{excerpt}"
        f"<small>{esc(field + _here(error.get('remedy')), 500)}</small></span></li>"
    )


def _finding(item: Document) -> str:
    """Draw one finding: how many rows, what it is, what it does, where, and its repairs."""
    code, rows = str(item.get("code")), int(item.get("rows") or 0)
    tone = "bad" if item.get("level") == "error" else "warn"
    pill = parts.pill(f"{rows:,} row{'s' if rows != 1 else ''}" if rows else "the file", tone)
    title = item.get("title") or item.get("remedy") or code.replace("_", " ")
    why = " ".join(_here(item[key]) for key in ("problem", "remedy") if item.get(key) and item[key] != title)
    if item.get("sampled"):
        why += f" Looked at {int(item['sampled']):,} rows." if item["sampled"] is not True else " Looked at a sample."
    examples = "".join(f"<code>{esc(text, 160)}</code>" for text in (item.get("examples") or [])[:2])
    fixes = fixes_of(item)
    buttons = "".join(_repair(code, number, fix) for number, fix in enumerate(fixes))
    offer = f'<span class="st-repairs" data-st-group>{buttons}</span>' if buttons else ""
    return (
        f"<li>{pill}<span>{esc(_sentence(title), 300)}<small>{esc(why, 700)}</small>{examples}"
        f"{_places(item.get('lines') or [], rows)}</span>{offer}</li>"
    )


def fixes_of(item: Document) -> list[Document]:
    """List the repairs that a finding offers; placeholders can always be filled in."""
    fixes = list(item.get("fixes") or ([item["fix"]] if item.get("fix") else []))
    if item.get("names") and not any(fix.get("fill") for fix in fixes):
        fixes.insert(0, {"title": "Fill in", "fill": list(item["names"])})
    return fixes


def _repair(code: str, number: int, fix: Document) -> str:
    message = {"do": "fix", "code": code, "number": number}
    fields = ""
    if names := fix.get("fill"):
        fields = "".join(controls.named(str(name), aria=f"Text for {name}", hint=str(name)) for name in names)
    return fields + controls.button(str(fix.get("title") or "Repair"), message, to=controls.SET)


def _places(lines: Sequence[int], rows: int) -> str:
    """Draw the lines, each a way to its row."""
    if not lines:
        return ""
    shown = [
        controls.button(
            f"{line:,}",
            {"do": "line", "value": line},
            aria=f"Show line {line}",
            style="st-place",
            extra='data-st-go=".st-shown"',
        )
        for line in lines[:_LINES]
    ]
    more = "…" if max(rows, len(lines)) > len(shown) else ""
    return f'<small class="st-places">Line{"s" if len(lines) > 1 else ""} {", ".join(shown)}{more}</small>'


def _gone(item: Document) -> str:
    rows = int(item.get("rows") or 0)
    pill = parts.pill(f"{rows:,} row{'s' if rows != 1 else ''}", "good")
    return f"<li>{pill}<span>{esc(_sentence(item.get('title')), 200)}: left out</span></li>"


def _fix(number: int, fix: Document, left_out: Document) -> str:
    undo = controls.button("Undo", {"do": "undo", "number": number}, to=controls.SET, aria=f"Undo: {fix.get('title')}")
    rows = sum(int(left_out.get(code) or 0) for code in fix.get("drop") or ()) or int(fix.get("rows") or 0)
    pill = parts.pill(f"{rows:,} row{'s' if rows != 1 else ''}", "good") if rows else parts.pill("set", "good")
    return f'<li>{pill}<span>{esc(fix.get("title"), 200)}</span><span class="st-repairs">{undo}</span></li>'


def _here(remedy: object) -> str:
    """Say a remedy as the page offers it: without the flags of the command line."""
    return _FLAGS.sub("", str(remedy or ""))


def _sentence(text: object) -> str:
    said = str(text or "")
    return said[:1].upper() + said[1:]


def side(scene: Scene) -> str:
    """Draw the lengths with the longest row kept, and the counts."""
    if (both := ready(scene)) is None or not both[1].get("usable"):
        return ""
    look, found = both
    kind = str(found.get("kind"))
    measured = examine.known(look.measure(scene, kind))
    if measured is None:
        return parts.card("Length", parts.note("Counting tokens…"), "tokens")
    if "error" in measured:
        error = measured["error"]
        again = parts.actions(controls.button("Try again", {"do": "again"}))
        return parts.card("Length", parts.note(f"{error.get('message')} {error.get('remedy') or ''}") + again, "tokens")
    found_out = measured.get("statistics") or {}
    return _lengths(found_out, max_length(scene, kind)) + parts.card("", parts.facts(_facts(scene, kind, found_out)))


def _lengths(found: Document, limit: int) -> str:
    lengths = found.get("lengths") or {}
    edges, counts = [int(e) for e in lengths.get("edges") or []], [int(c) for c in lengths.get("counts") or []]
    if not any(counts):
        return ""
    over = int(found.get("too_long") or 0)
    label = f"Length of {sum(counts):,} rows in tokens; {over:,} are longer than {limit:,}"
    marks = ", ".join(f"{name} {_whole(value)}" for name, value in _percentiles(found.get("percentiles")))
    return parts.card(
        "Length", plots.histogram(edges, counts, limit=limit, label=label, width=330) + parts.note(marks), "tokens"
    )


def _percentiles(found: object) -> list[tuple[str, object]]:
    named = {"50": "half up to", "max": "longest"}
    if not isinstance(found, Mapping):
        return []
    return [
        (named.get(key, f"{key} % up to"), value)
        for key, value in ((str(key).removeprefix("p"), value) for key, value in found.items())
        if key in ("50", "90", "99", "max")
    ]


def _whole(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, int | float) else str(value)


def _facts(scene: Scene, kind: str, found: Document) -> list[tuple[str, str]]:
    total, learned, limit = found.get("tokens"), found.get("trained_tokens"), max_length(scene, kind)
    measured, rows = int(found.get("rows_measured") or 0), int(found.get("rows") or 0)
    trained = bool(methods_of(kind))
    out = [
        ("Learned", f"{parts.share(learned / total)} of {total:,} tokens" if total and learned else ""),
        (
            "Packed",
            f"{found['packed_sequences']:,} sequences of {limit:,}"
            if trained and found.get("packed_sequences")
            else "",
        ),
        ("One epoch", f"{found['steps_per_epoch']:,} steps" if trained and found.get("steps_per_epoch") else ""),
        (
            "Chosen longer",
            f"in {parts.share(found['chosen_longer_share'])} of the pairs"
            if found.get("chosen_longer_share") is not None
            else "",
        ),
        (
            "Same start",
            f"{_whole(found['common_prefix'])} tokens" if isinstance(found.get("common_prefix"), int | float) else "",
        ),
        (
            "Wanted",
            f"{int(found['wanted']):,} to {int(found.get('unwanted') or 0):,} unwanted"
            if found.get("wanted") is not None
            else "",
        ),
        (
            "Weights",
            f"{found['desirable_weight']:.3g} wanted, {found.get('undesirable_weight') or 1:.3g} unwanted"
            if found.get("desirable_weight")
            else "",
        ),
        ("Longest kept", f"{limit:,} tokens" if trained else ""),
        ("Template", esc(found.get("template") or "")),
        ("Stops at", "".join(f"<code>{esc(token)}</code> " for token in (found.get("stop_tokens") or [])[:3])),
        ("Tokens of", esc(of_model(scene))),
        ("Counted", f"{measured:,} of {rows:,} rows, the rest is estimated" if measured and measured < rows else ""),
    ]
    return out


def split(scene: Scene) -> str:
    """Draw the share that is held out, and what it takes."""
    if (both := ready(scene)) is None or not both[1].get("usable") or not methods_of(str(both[1].get("kind"))):
        return ""
    look, found = both
    kind = str(found.get("kind"))
    share = float(setting(scene, method_of(kind), "held_out"))
    box = controls.field(
        f"{100 * share:g}",
        {"do": "held_out"},
        aria="Held out, per cent of the rows",
        to=controls.SET,
        width=64,
        kind="decimal",
    )
    aside = examine.known(look.split(scene, kind))
    if aside is None or "error" in aside:
        said = "Counting…" if aside is None else "Not counted."
    elif not aside.get("held_out"):
        said = (
            "No row: the file is too small to give one away."
            if share
            else "No row: nothing will tell how well it learned."
        )
    else:
        rows, prompts = int(aside["held_out"]), int(aside.get("prompts") or 0)
        word = WORDS.get(kind, ("row", "rows"))[rows != 1]
        said = f"{rows:,} {word} with {prompts:,} prompt{'s' if prompts != 1 else ''}; "
        said += f"{int(aside['rows']) - rows:,} to learn from. The same prompt is never on both sides."
    return parts.card(
        "Held out", f'<label class="st-jump">{box} % of the rows</label>{parts.note(said)}', "to measure on"
    )
