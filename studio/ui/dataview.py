"""Drawing of the data page: the file, what its columns mean, a row as the model sees it, which files are in use."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.data import votes
from studio.data.formats.base import ROLES
from studio.ui import controls, examine, parts, starter
from studio.ui.live import Scene
from studio.ui.looking import PAGES, WORDS, Looking, method_of, model_of, setting, step_of
from studio.ui.parts import esc

Document = Mapping[str, Any]
_LEFT_OUT = {
    "too_long": "This row is left out of training: none of its answers fits into the longest row.",
    "nothing_learned": "This row is left out of training: nothing in it is learned.",
    "template": "This row is left out of training: the template refuses it.",
}


def name_of(file: object) -> str:
    """Give a path's last part."""
    return str(file).replace("\\", "/").rsplit("/", 1)[-1]


def looked(scene: Scene) -> tuple[Looking, Document | None]:
    """Give what the page looks at, and the file's check if it is there."""
    look = Looking.at(scene.chosen)
    return look, examine.known(look.check()) if look.file else None


def ready(scene: Scene) -> tuple[Looking, Document] | None:
    """Give both when the file was checked; None before that, and when it cannot be read."""
    look, found = looked(scene)
    return None if found is None or "error" in found else (look, found)


def bar(scene: Scene) -> str:
    """Draw what file this is, its format and how it was found."""
    if (both := ready(scene)) is None:
        return ""
    look, found = both
    kind, rows, usable = str(found.get("kind")), int(found.get("rows") or 0), int(found.get("usable") or 0)
    count = f"{usable:,} {WORDS[kind][usable != 1]}" if kind in WORDS else f"{rows:,} rows"
    mapping = ", ".join(f"{a} → {b}" for a, b in (found.get("mapping") or {}).items() if a != b)
    unclear = kind == "unclear"
    pill = parts.pill("not clear yet", "warn") if unclear else parts.pill(_format(found))
    toggle = ""
    if not unclear:
        label = "Close" if look.mapping_open else "Change mapping"
        toggle = controls.button(label, {"do": "mapping"}, extra=f'aria-expanded="{str(look.mapping_open).lower()}"')
    return (
        f'<section class="st-card st-line st-file"><b title="{esc(look.file)}">{esc(name_of(look.file), 80)}</b>{pill}'
        f'<span>{esc(count)}</span><span class="st-muted">{esc(mapping, 160)}</span>{toggle}</section>'
    )


def _format(found: Document) -> str:
    reading = found.get("reading") or {}
    how = (
        "as you mapped it" if reading.get("mapping") else "as you said" if reading.get("kind") else "found by its rows"
    )
    return f"{str(found.get('format')).replace('_', ' ')}, {how}"


def mapping(scene: Scene) -> str:
    """Draw the question that is open, and what each column means, on three real rows."""
    look, found = looked(scene)
    seen = examine.known(look.detect()) if look.file else None
    if seen is None or "error" in seen or (found is not None and "error" in found):
        return ""
    checked = found or {}
    unclear = checked.get("kind") == "unclear"
    if not (look.mapping_open or unclear):
        return ""
    out = _question(checked) if unclear else ""
    raw, columns = seen.get("raw") or [], [str(name) for name in seen.get("columns") or []]
    shown = look.draft or look.reading.get("mapping") or seen.get("mapping") or {}
    body = parts.table(
        ("Column", "Is", "In the first rows"), [_column(name, str(shown.get(name) or ""), raw) for name in columns]
    )
    if problem := seen.get("problem"):
        body += f'<p class="st-note" role="status">{parts.pill("not whole yet", "warn")} '
        body += f"{esc(problem.get('message'))} {esc(problem.get('remedy') or '')}</p>"
    if read := seen.get("read"):
        body += "<h3>Read as</h3>" + "".join(map(_read, read))
    changed = look.draft or look.reading.get("mapping") or look.reading.get("kind")
    reset = parts.actions(controls.button("As found", {"do": "as_found"})) if changed else ""
    aside = "" if unclear else esc(checked.get("why") or "", 200)
    return out + parts.card("What the columns mean", body + reset, aside)


def _question(found: Document) -> str:
    asked = found.get("question") or {}
    buttons = [
        controls.button(str(choice.get("title")), {"do": "answer", "number": number})
        for number, choice in enumerate(asked.get("choices") or [])
    ]
    text = str(asked.get("text") or "What do the rows hold?")
    why = str(found.get("why") or "").rstrip(".")
    why = f"{why[:1].upper()}{why[1:]}. " if why else ""
    hint = "Choose one; nothing is final." if buttons else "Say below which column is which."
    answers = f'<div class="st-answers">{"".join(buttons)}</div>' if buttons else ""
    return parts.card(text, parts.note(f"{why}{hint}") + answers, extra="st-asks")


def _column(name: str, role: str, raw: Sequence[Mapping[str, str]]) -> tuple[str, str, str]:
    options = [("", "not used"), *((r, r) for r in ROLES)]
    if role and role not in ROLES:
        options.append((role, role))
    box = controls.choices(options, role, {"do": "map", "column": name}, aria=f"What the column {name} is")
    values = "".join(f"<p>{esc(row[name], 120) or '(empty)'}</p>" for row in raw if name in row)
    return f"<b>{esc(name, 60)}</b>", box, f'<div class="st-samples-of" dir="auto">{values}</div>'


def _read(record: Document) -> str:
    turns = "".join(
        f'<p>{parts.pill(str(turn.get("role")), "plain")} <span dir="auto">{esc(turn.get("text"), 160)}</span></p>'
        for turn in (record.get("turns") or [])[:6]
    )
    label = record.get("label")
    pill = f"<p>{wanted(label)}</p>" if label is not None else ""
    return f'<div class="st-read"><small>line {int(record.get("line") or 0):,}</small>{turns}{pill}</div>'


def wanted(label: object) -> str:
    """Draw the label of a rated answer."""
    return parts.pill("✓ wanted", "good") if label else parts.pill("✗ unwanted", "bad")


def preview(scene: Scene) -> str:
    """Draw the row as the model will see it."""
    if (both := ready(scene)) is None or not both[1].get("usable"):
        return ""
    look, found = both
    kind, rows = str(found.get("kind")), int(found.get("usable") or 0)
    row = examine.known(look.row(scene, kind))
    head = f"{WORDS.get(kind, ('row',))[0].capitalize()} {look.index + 1:,}"
    tools = f'<div class="st-tools">{_pager(look, rows)}{_template(scene, kind)}</div>'
    if row is None:
        body = parts.note("Reading…")
    elif "error" in row:
        error = row["error"]
        where = f"line {error['line']}. " if error.get("line") else ""
        body = parts.note(f"{error.get('message')}") + parts.note(f"{where}{error.get('remedy') or ''}")
    else:
        return _card(head, look, row, tools)
    return parts.card(head, body + tools, extra="st-shown")


def _card(head: str, look: Looking, row: Document, tools: str) -> str:
    sides: dict[str, dict[str, Any]] = row.get("sides") or {}
    notes = _notes(look, row)
    where = f"line {row.get('line', 0):,}"
    if "rejected" in sides:
        chosen, rejected = sides["chosen"], sides["rejected"]
        shared = int(row.get("common_prefix") or 0)
        more = int(chosen["count"]) - int(rejected["count"])
        longer = (
            f"chosen is {more:,} tokens longer"
            if more > 0
            else f"chosen is {-more:,} tokens shorter"
            if more
            else "equally long"
        )
        drawn = "".join(_side(name, side, shared) for name, side in (("chosen", chosen), ("rejected", rejected)))
        aside = f"{where} · the same for the first {shared:,} tokens, {longer}"
        return parts.card(head, f'{notes}<div class="st-sides">{drawn}</div>{tools}', esc(aside), "st-shown")
    side: dict[str, Any] = next(iter(sides.values()), {"pieces": [], "count": 0, "learned": 0})
    count, learned = int(side["count"]), int(side["learned"])
    said = f"{where} · {count:,} tokens, {learned:,} learned ({parts.share(learned / max(1, count))})"
    label = f"{wanted(row['label'])} " if "label" in row else ""
    return parts.card(head, f"{notes}{tokens(side['pieces'])}{tools}", f"{label}{esc(said)}", "st-shown")


def _notes(look: Looking, row: Document) -> str:
    """Say what is not plain: several rows of one, beginnings that had to go, rows that are left out."""
    out = []
    if int(row.get("parts") or 1) > 1:
        part, total = int(row.get("part") or 0), int(row["parts"])
        before = controls.button("‹", {"do": "part", "part": part - 1}, aria="previous of its rows", disabled=part == 0)
        after = controls.button(
            "›", {"do": "part", "part": part + 1}, aria="next of its rows", disabled=part == total - 1
        )
        what = "text" if row.get("kind") == "text" else "conversation"
        out.append(
            f'<p class="st-note st-pager">{before}<span>row {part + 1:,} of {total:,} that this {what} becomes</span>'
            f"{after}</p>"
        )
    if reason := str(row.get("left_out") or ""):
        out.append(f'<p class="st-note">{parts.pill("left out", "warn")} {esc(_LEFT_OUT.get(reason, reason))}</p>')
    if gone := max((int(side.get("dropped") or 0) for side in (row.get("sides") or {}).values()), default=0):
        text = f"The first {gone:,} tokens that are struck out had to go to make it fit; the answer's end never does."
        out.append(f'<p class="st-note">{parts.pill("shortened", "warn")} {esc(text)}</p>')
    if row.get("kind") == "prompt":
        out.append(parts.note("A prompt alone: nothing is learned from it. The boxed end opens the answer to come."))
    return "".join(out)


def _pager(look: Looking, rows: int) -> str:
    at = look.index
    before = controls.button("‹", {"do": "row", "index": at - 1}, aria="previous row", disabled=at <= 0)
    after = controls.button("›", {"do": "row", "index": at + 1}, aria="next row", disabled=at >= rows - 1)
    jump = controls.field("", {"do": "line"}, aria="Go to a line of the file", hint="line", width=72, kind="numeric")
    return (
        f'<span class="st-pager">{before}<span>{at + 1:,} of {rows:,}</span>{after}</span>'
        f'<label class="st-jump">Go to {jump}</label>'
    )


def _template(scene: Scene, kind: str) -> str:
    """Draw the template in use, and the others to try; it is the setting of the method, so a run uses it too."""
    from studio.config import settings

    method = method_of(kind)
    families = next(s.choices for s in settings(method.Config) if s.name == "template")
    value = str(setting(scene, method, "template"))
    options = [(str(name), str(name) or "automatic") for name in families]
    box = controls.choices(options, value, {"do": "template"}, aria="Chat template", to=controls.SET)
    return f'<label class="st-jump">Template {box}</label>'


def _side(name: str, side: Document, shared: int) -> str:
    said = f"{side.get('learned', 0):,} learned of {side.get('count', 0):,}"
    sign, tone = ("✓ chosen", "good") if name == "chosen" else ("✗ rejected", "bad")
    return (
        f'<div><div class="st-head">{parts.pill(sign, tone)}<span class="st-aside">{esc(said)}</span></div>'
        f"{tokens(side.get('pieces') or [], shared)}</div>"
    )


def tokens(found: Sequence[Document], shared: int = 0) -> str:
    """Draw the pieces of a row: learned ones tinted and underlined, the end of a turn bold, the rest grey.

    The first `shared` tokens (which both answers of a pair have) are paler than the rest.
    """
    out, at = [], 0
    for piece in found:
        if "gap" in piece:
            out.append(f'<span class="st-gap">… {int(piece["gap"]):,} pieces more …</span>')
            continue
        names = [f"st-{c}" for c in ("learned", "end_of_turn", "dropped", "opening") if piece.get(c)]
        names += ["st-shared"] if at < shared and not piece.get("learned") else []
        ids = piece.get("ids") or []
        at += 0 if piece.get("dropped") else len(ids)
        title = f"token{'s' if len(ids) > 1 else ''} {', '.join(str(int(i)) for i in ids[:12])}"
        title += ", learned" if piece.get("learned") else ", left out" if piece.get("dropped") else ""
        tag = "s" if piece.get("dropped") else "span"
        out.append(f'<{tag} class="{" ".join(["st-t", *names])}" title="{title}">{esc(piece.get("text", ""))}</{tag}>')
    said = 'dir="auto" tabindex="0" role="group" aria-label="The row as tokens"'
    return f'<div class="st-tokens" {said}>{"".join(out)}</div>'


def in_use(scene: Scene) -> str:
    """Draw which files Train and Align use now."""
    rows = []
    for step, page in PAGES.items():
        used = scene.data(step)
        what = WORDS.get(str(used.get("kind")), ("row", "rows"))
        count = int(used.get("rows") or 0)
        text = f"{esc(name_of(used.get('file')))}, {count:,} {what[count != 1]}"
        rows.append((page, text if used else '<span class="st-muted">no file yet</span>'))
    return parts.card("In use", parts.facts(rows))


def samples() -> str:
    """Draw the other ways to data: what ships with the starter, and rows written by hand."""
    names = {"train": "Sample conversations", "align": "Sample pairs"}
    have = [parts.press(f"st-sample-{step}", names[step]) for step in starter.SAMPLES if starter.sample(step).is_file()]
    hand = parts.press("st-hand-open", "Write rows by hand")
    return f'<div class="st-samples"><span class="st-muted">No file at hand?</span>{"".join(have)}{hand}</div>'


def voted(scene: Scene) -> str:
    """Draw the way to the votes of the Chat page, once there are some that make rows."""
    pairs, rated = _votes(*_stamp(votes.file()))
    have = [("preference", f"{pairs:,} pair{'s' * (pairs != 1)}", pairs), ("kto", f"{rated:,} rated answers", rated)]
    found = "".join(parts.press(f"st-votes-{kind}", text) for kind, text, count in have if count)
    return f'<div class="st-samples"><span class="st-muted">Your votes:</span>{found}</div>' if found else ""


def judged_sets(scene: Scene) -> str:
    """Draw the way to the sets of judged answers that give rows, the newest first."""
    from studio.ui import setsview  # which draws with the pages' kit, and that needs this

    found = setsview.openable(scene)
    return f'<div class="st-samples"><span class="st-muted">Your sets:</span>{found}</div>' if found else ""


def made(scene: Scene) -> str:
    """Draw how the file that is open was made, where it is rows of a set; a doubtful one warns."""
    from studio.ui import setsview

    file = Looking.at(scene.chosen).file
    return setsview.of_file(scene, file) if file else ""


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return str(path), 0, 0
    return str(path), stat.st_mtime_ns, stat.st_size


@functools.lru_cache(maxsize=4)
def _votes(path: str, changed: int, size: int) -> tuple[int, int]:
    """Count the pairs and the rated answers of the votes, once for as long as their file stays as it is."""
    found = votes.all() if size else []
    return len(votes.pairs(found)), len(votes.rated(found))


def nothing(scene: Scene) -> str:
    """Draw the empty state of the page: what to look at first."""
    if Looking.at(scene.chosen).file:
        return ""
    used = next((scene.data(step) for step in PAGES if scene.data(step)), None)
    what = "No file is open" if used else "No data yet"
    why = "Conversations teach it to answer; pairs of answers teach it which is better."
    button = parts.press("st-sample-train", "Use the sample data")
    if used:
        button = parts.press("st-open-used", f"Look at {name_of(used.get('file'))}")
    return parts.card("", parts.empty(what, why, button))


def of_model(scene: Scene) -> str:
    """Name the model whose tokens are shown."""
    facts, model = scene.chosen.get("facts") or {}, model_of(scene)
    return str(facts.get("name") if facts.get("model") == model else model)


def usable_for(kind: str) -> str:
    """Name the page that a kind of data is for; empty when none can train on it yet."""
    return PAGES.get(step_of(kind), "")
