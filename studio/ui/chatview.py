"""Drawing of the chat page: two panes, who they are, what was said, speed, length, and why each answer ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.chat.session import why
from studio.models.family import FAMILIES
from studio.ui import chatopen, chatpick, chatset, chatthumbs, chatvote, controls, parts, starter, talk
from studio.ui.chatopen import Facts, Who
from studio.ui.chatpick import SIDES, Source
from studio.ui.chatvote import DO
from studio.ui.live import Scene
from studio.ui.parts import esc
from studio.ui.talk import Turn

GO = "st-chat-go"
_NONE = parts.empty(
    "Nobody to talk to yet",
    "Make your first assistant, or train one of your own.",
    parts.link("model", "Go to Model"),
)
_AFTER = "Who it was stands below the answer; the next question draws lots again."
_TITLES = ("Left pane", "Right pane")


def head(index: int, scene: Scene) -> str:
    """Draw who a pane is: what can be picked, its strength and step, the hashes of its files."""
    if chatvote.on(scene):
        said = talk.turns()
        voted = bool(said) and bool(said[-1].get("blind")) and not chatvote.hidden(said[-1])
        note = parts.note(_AFTER if voted else "Who this is shows after the vote.")
        return f'<div class="st-head"><h2>{chatvote.SIDES[index]}</h2></div>{note}'
    found = chatpick.sources(scene)
    who = Who.now(scene)
    source = who.sources[index]
    if source is None:
        another = controls.button("A file or a folder …", {"do": "other", "pane": index}, to=DO)
        return f'<div class="st-head"><h2>{_TITLES[index]}</h2>{another}</div>'
    listed = [*((other.key, other.label) for other in found), (chatpick.OTHER, "A file or a folder …")]
    shown = chatpick.OTHER if index in chatpick.opening else source.key
    pick = controls.choices(listed, shown, {"do": "pick", "pane": index}, aria=_TITLES[index], to=DO)
    facts = facts_of(index, who)
    return (
        f'<div class="st-who">{pick}<code class="st-aside">{identity(facts, source)}</code></div>'
        + _dials(index, who, source)
        + _marks(index, who, facts)
    )


def opening(index: int, scene: Scene) -> str:
    """Draw the field for something that is not in the list, while one is wanted."""
    if index not in chatpick.opening or chatvote.on(scene):
        return ""
    hint = "A GGUF file, or a folder with an adapter"
    path = controls.named("path", aria=f"Place of a file or a folder, {SIDES[index]} pane", hint=hint)
    opens = controls.button(
        "Open", {"do": "file", "pane": index}, to=DO, aria=f"Open in the {SIDES[index]} pane", filled=True
    )
    keep = controls.button("Cancel", {"do": "keep", "pane": index}, to=DO, aria=f"Cancel, {SIDES[index]} pane")
    note = parts.note("An adapter as peft and others save it stands on the picked model, or on the one that it names.")
    return f'<div class="st-dials st-opens" data-st-group>{path}{keep}{opens}</div>{note}'


def facts_of(index: int, who: Who) -> Facts | None:
    """Give what the engine knows of a pane, if that is who is picked now; its strength as it is set now."""
    opened, source = chatopen.opened(), who.sources[index]
    if opened is None or source is None or index not in opened.told or opened.pane(index).name != source.name:
        return None
    facts = opened.facts(index)
    return {**facts, "strength": who.strengths[index]} if facts["adapter"] else facts


def identity(facts: Facts | None, source: Source | None = None) -> str:
    """Write a pane's file and adapter by the beginnings of their hashes, with type, strength and device."""
    if facts is None:
        return "loading…" if talk.warming() else "not loaded yet" if source else ""
    said = [f"{facts['type']} {facts['sha256'][:6] or '…'}", str(facts["device"])]
    if facts["adapter"]:
        said.insert(1, f"adapter {facts['adapter_sha256'][:6] or '…'} × {facts['strength']:g}")
    return esc(" · ".join(said), 120)


def short(facts: Facts | None) -> str:
    """Write who gave an answer in few characters: the file's hash, the adapter's and its strength."""
    if not facts:
        return ""
    file = facts["sha256"][:6] or "…"
    if facts["adapter"]:
        return f"{file} + {facts['adapter_sha256'][:6] or '…'} × {facts['strength']:g}"
    return file


def _dials(index: int, who: Who, source: Source) -> str:
    """Draw an adapter's strength and the checkpoints of its run."""
    opened = chatopen.opened()
    adapted = bool(source.adapter or source.step)
    adapted = adapted or (not source.base and bool(source.run) and (Path(source.run) / "adapter").is_dir())
    if opened is not None and index in opened.told and opened.pane(index).name == source.name:
        adapted = bool(opened.pane(index).adapter)
    drawn = ""
    if adapted:
        message = {"do": "strength", "pane": index}
        value = who.strengths[index]
        drawn = (
            '<label class="st-dial"><span>Strength</span>'
            f'<input type="range" min="0" max="1.5" step="0.05" value="{value:g}" '
            f"{controls.sends(message, DO, f'Adapter strength, {_TITLES[index].lower()}')}>"
            f"<output>{value:.2f}</output></label>"
        )
    if source.steps and not source.base:
        steps = [(step, chatpick.in_words(step)) for step in source.steps]
        steps += [("", "finished")] if source.whole else []
        aria = f"Checkpoint, {_TITLES[index].lower()}"
        chosen = controls.choices(steps, source.step, {"do": "step", "pane": index}, aria=aria, to=DO)
        drawn += f'<label class="st-dial"><span>Checkpoint</span>{chosen}</label>'
    return f'<div class="st-dials">{drawn}</div>' if drawn else ""


def _marks(index: int, who: Who, facts: Facts | None) -> str:
    """Draw what is unusual about a pane: another template, a note of its files, why it is not on the GPU."""
    opened, marks = chatopen.opened(), []
    if wrong := who.templates[index]:
        title = FAMILIES[wrong].title
        marks.append(f'<p class="st-mark-wrong">{parts.pill(f"asked in {title}’s template, not its own", "warn")}</p>')
    if facts is not None and opened is not None:
        for said in (opened.notes.get(index), opened.told[index].get("reason")):
            if said:
                marks.append(parts.note(f"{said[0].upper()}{said[1:].rstrip('.')}."))
    return "".join(marks)


def copies(scene: Scene) -> str:
    """Say how often the weights are in memory."""
    opened = chatopen.opened()
    if opened is None:
        return '<span class="st-muted">Loading the weights…</span>' if talk.warming() else ""
    files = {pane.gguf for pane in opened.session.panes}
    size = parts.size(sum(Path(file).stat().st_size for file in files if Path(file).is_file()))
    if len(files) == 1 and len(opened.session.panes) > 1:
        return f"<span>{parts.pill('one copy of the weights', 'good')} {esc(size)} for both panes</span>"
    what = "two files in memory" if len(files) > 1 else "in memory"
    return f'<span class="st-muted">{esc(size)}, {what}</span>'


def body(side: int, scene: Scene, said: list[Turn]) -> str:
    """Draw what was said on one side of the page; blind answers stand where the lots put them."""
    sources = chatpick.chosen(scene)
    if not any(sources):
        return _NONE if side else parts.empty("The base will stand here", "The same question goes to both.")
    if not said:
        return f'<p class="st-note st-quiet">{esc(_quiet(side, scene, sources[side]))}</p>'
    last, names = len(said) - 1, chatthumbs.ids(said, side)
    drawn = "".join(
        _turn(side, turn, at, at == last, name) for at, (turn, name) in enumerate(zip(said, names, strict=True))
    )
    return f'<div class="st-scrolled"><div class="st-said">{drawn}</div></div>'


def _quiet(side: int, scene: Scene, source: Source | None) -> str:
    if chatvote.on(scene):
        return "The sides are drawn by lot for every question. Ask, then vote with the keys 1 to 4."
    if source is None:
        return "Nobody is picked for this pane."
    opened = chatopen.opened()
    raw = source.base if opened is None or side not in opened.told else opened.raw(side)
    if raw and not chatset.templates(scene)[side]:
        return "It continues the text you write, each time afresh."
    return "It answers, in the template it was trained with."


def _turn(side: int, turn: Turn, number: int, last: bool, name: str) -> str:
    """Draw a question and one side's answer to it; `name` is the answer's (chatthumbs.ids)."""
    blind, index = turn.get("blind"), side
    if blind:
        index = blind["order"][side]
    answers, stats = turn.get("answers") or [None, None], turn.get("stats") or [None, None]
    fork = ""
    if not last and not blind:
        button = controls.button("Fork", {"do": "fork", "count": number + 1}, to=DO, aria=f"Fork {number + 1}")
        fork = f'<div class="st-fork">{button}</div>'
    out = f'<div class="st-user" dir="auto">{esc(turn.get("user", ""))}</div>{fork}'
    if answers[index] is None:
        return out
    ended = bool(stats[index])
    text = esc(answers[index].lstrip("\n"))
    if not answers[index].strip():
        empty = "(nothing)" if ended else str(turn.get("note") or "…")
        text = f'<span class="st-muted">{esc(empty)}</span>'
    more = ""
    if last and ended and talk.unfinished(turn, index) and not talk.busy():
        more = controls.button("Continue", {"do": "continue", "pane": index}, to=GO, aria=f"Continue, {SIDES[side]}")
    more += chatthumbs.drawn(turn, side, number, name)
    more = f'<span class="st-thumbs">{more}</span>' if more else ""
    told = _stats(stats[index], _who(turn, index), more, blind=chatvote.hidden(turn))
    foot = f'{_named(turn, side, index)}<div class="st-told">{told}</div>'
    return f'{out}<div class="st-answer" dir="auto">{text}</div>{foot}'


def _who(turn: Turn, index: int) -> Facts | None:
    """Give who answered; hashes that were not read yet when it was asked are looked up."""
    facts: Facts | None = (turn.get("who") or [None, None])[index]
    return chatopen.named(facts) if facts else None


def _named(turn: Turn, side: int, index: int) -> str:
    """Say after a vote who a side was, and whether it won."""
    blind, facts = turn.get("blind"), _who(turn, index)
    if not blind or chatvote.hidden(turn) or not facts:
        return ""
    won = {"a": 0, "b": 1}.get(str(blind["choice"]))
    tone, verdict = ("good", "won") if won == side else ("plain", "lost" if won is not None else "")
    verdict = verdict or {"tie": "tie", "bad": "both bad"}.get(str(blind["choice"]), "")
    return f'<p class="st-revealed"><b>{esc(facts["name"], 90)}</b> {parts.pill(verdict, tone)}</p>'


def _stats(found: dict[str, Any] | None, who: Facts | None, more: str, blind: bool) -> str:
    """Draw speed, length, why it ended, and what can be done; of a blind answer nothing that tells who gave it."""
    if not found:
        return ""
    if error := found.get("error"):
        return parts.problem_from(error, head="No answer")
    said = []
    if not blind and found.get("tokens_per_s"):
        said.append(f"{found['tokens_per_s']:,.0f} tokens/s")
    if not blind and found.get("first_s") is not None:
        said.append(f"first after {_soon(found['first_s'])}")
    if found.get("tokens") is not None:
        said.append(f"{found['tokens']:,} token{'s' * (found['tokens'] != 1)}")
    if found.get("left_out"):
        said.append(f"{found['left_out']} of the oldest turns had no room")
    by = "" if blind or not short(who) else f'<code class="st-by">{esc(short(who))}</code>'
    return f'<div class="st-stats">{"".join(f"<span>{esc(s)}</span>" for s in said)}{_end(found)}{by}{more}</div>'


def _soon(seconds: float) -> str:
    """Write the time to the first token: 8 ms, 0.24 s, 3.1 s."""
    if seconds < 0.1:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"


def _end(found: dict[str, Any]) -> str:
    """Draw why an answer ended: by itself is good, at a limit is not, by hand is neither."""
    if found.get("why") == "cancelled" or found.get("by_user"):
        return parts.pill("stopped by you", "plain")
    if found.get("why") in ("end", "stop") or found.get("stopped"):
        return parts.pill(f"stopped at {found.get('stop_token') or 'a stop token'}", "good")
    if found.get("why") == "context":
        return parts.pill(why(found), "warn")
    return parts.pill(f"did not stop: limit of {found.get('tokens', 0):,}", "warn")


def suggestions(scene: Scene, said: list[Turn]) -> str:
    """Draw questions that the starter can answer; choosing one writes it into the input."""
    if scene.model != starter.NAME or not any(chatpick.chosen(scene)):
        return ""
    chips = "".join(
        f'<li><button type="button" data-st-fill="#st-chat-input" data-st-text="{esc(q)}">{esc(q)}</button></li>'
        for q in starter.questions(6 if not said else 4)
    )
    return f'<ul class="st-chips" aria-label="Questions it can answer">{chips}</ul>' if chips else ""


def more(scene: Scene) -> str:
    """Draw what belongs to the panes and is seldom wanted: another template."""
    who = Who.now(scene)
    families = [("", "its own"), *((name, family.title) for name, family in FAMILIES.items())]
    templates = "".join(
        f'<label class="st-dial"><span>{side.capitalize()}</span>'
        + controls.choices(
            families, who.templates[index], {"do": "template", "pane": index}, aria=f"Template, {side} pane", to=DO
        )
        + "</label>"
        for index, side in enumerate(SIDES)
    )
    return (
        f'<div class="st-more"><h3>Template</h3><div class="st-dials">{templates}</div>'
        f"{parts.note('See what happens with the wrong one: a model that was trained in another answers worse.')}</div>"
    )
