"""What the models read and what training changed, token by token: the prompt with its ids, an answer as a heat map."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from studio.errors import InputError
from studio.ui import chatset, controls, live, parts, talk
from studio.ui.chatopen import PANES, Opened, Who
from studio.ui.parts import esc
from studio.ui.talk import Turn

DO = "st-chat-do"
#: The log-ratio at which a token is tinted most: 20 times as likely, or a twentieth.
STRONGEST = math.log(20)
#: The least probability that is counted with, so that a ratio stays finite.
_LEAST = 1e-9
_MOST_TOKENS = 1200
_card = ""


def card() -> str:
    """Give what was asked to be looked at last."""
    return _card


def close() -> None:
    """Put it away."""
    _show("")


def close_for(said: list[Turn]) -> None:
    """Put it away when something is asked or gone on with: it is of other answers."""
    if _card and said and not any(said[-1].get("stats") or [None]):
        close()


def _show(drawn: str) -> None:
    global _card
    _card = drawn
    live.touch()


# --- the prompt ------------------------------------------------------------------------------------------------------


def prompt(who: Who, typed: str) -> None:
    """Show the next question, or the last one, as both models read it. Raises InputError, and what the engine says."""
    said = talk.turns()
    if typed.strip():
        said = [*said, {"user": typed}]
    if not said:
        raise InputError("There is no question yet.", "Write one, or ask it.")
    said[-1] = {**said[-1], "system": who.system}

    def work(opened: Opened) -> list[str]:
        sides = []
        for index in sorted(opened.told):
            messages = talk.history(said, index, raw=opened.raw(index))
            asked = _template_options(who, opened, index)
            found = opened.session.prompt(opened.at(index), messages, max_tokens=who.asked.max_tokens, **asked)
            sides.append(_prompt(opened.pane(index).name, found))
        return sides

    _show(_framed("Prompt as the model sees it", f'<div class="st-sides">{"".join(talk.look(who, work))}</div>'))


def _template_options(who: Who, opened: Opened, index: int) -> dict[str, Any]:
    """Give of the settings what changes the prompt."""
    options = chatset.options(who.asked, opened.told[index]["thinks"])
    return {name: options[name] for name in ("template_args", "overflow") if name in options}


def _prompt(name: str, found: dict[str, Any]) -> str:
    tokens = "".join(
        f'<span class="st-id"><span>{_visible(token["text"])}</span><small>{int(token["id"])}</small></span>'
        for token in found["tokens"][:_MOST_TOKENS]
    )
    notes = []
    if len(found["pieces"]) > 1 and any(piece["plain"] for piece in found["pieces"]):
        notes.append("What a person typed and looks like a control token is read as plain text.")
    if found["left_out"]:
        notes.append(f"{found['left_out']} of the oldest turns have no room and are left out.")
    if len(found["tokens"]) > _MOST_TOKENS:
        notes.append(f"The first {_MOST_TOKENS:,} tokens are shown.")
    count = f"{len(found['ids']):,} tokens"
    return (
        f'<div><div class="st-head"><h3>{esc(name, 90)}</h3><span class="st-aside">{count}</span></div>'
        f'<div class="st-ids" tabindex="0" role="group" aria-label="Tokens of the prompt">{tokens}</div>'
        f"{''.join(map(parts.note, notes))}</div>"
    )


def _visible(text: str) -> str:
    """Write a token so that spaces and line ends in it can be seen."""
    shown = esc(text.replace("\t", "⇥"), 200)
    shown = shown.replace(" ", '<i class="st-space">·</i>')
    return shown.replace("\n", '<i class="st-space">↵</i>')


# --- what training changed -------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Token:
    """A token of an answer: its probability before (left pane) and now (right pane), what else was likely."""

    text: str
    before: float
    now: float
    rank_before: int = 0
    rank_now: int = 0
    top_before: tuple[tuple[str, float], ...] = ()
    top_now: tuple[tuple[str, float], ...] = ()

    @property
    def ratio(self) -> float:
        """Give log(now / before)."""
        return math.log(max(self.now, _LEAST) / max(self.before, _LEAST))


def changes(who: Who, index: int = 1) -> None:
    """Show how likely each token of a pane's last answer is under both. Raises InputError, and what the engine says."""
    said = talk.turns()
    turn: Turn = said[-1] if said else {}
    ids = ((turn.get("stats") or [None, None])[index] or {}).get("ids")
    if not ids:
        raise InputError("There is no answer to look at yet.", "Ask a question first.")
    if turn.get("blind") and not turn["blind"].get("choice"):
        raise InputError("The answers are still blind.", "Vote first.")

    def work(opened: Opened) -> str:
        if len(opened.told) < 2:
            raise InputError("It takes two panes to compare.", "Choose one for each pane.")
        messages = talk.history(said, index, raw=opened.raw(index))
        options = _template_options(who, opened, index)
        both = [
            opened.session.scores(opened.at(pane), messages, ids=ids, like=opened.at(index), **options)
            for pane in PANES
        ]
        names = [opened.pane(pane).name for pane in PANES]
        return heat(_tokens(*both), names, index)

    _show(talk.look(who, work))


def _tokens(before: dict[str, Any], now: dict[str, Any]) -> list[Token]:
    def tops(token: dict[str, Any]) -> tuple[tuple[str, float], ...]:
        return tuple((other["text"], other["p"]) for other in token["top"])

    found = [
        Token(b["text"], b["p"], n["p"], b["rank"], n["rank"], tops(b), tops(n))
        for b, n in zip(before["tokens"], now["tokens"], strict=True)
    ]
    return [*found, Token("", before["end_p"], now["end_p"])]


def heat(tokens: list[Token], names: list[str], index: int) -> str:
    """Draw an answer's tokens, the last of `tokens` being its end, tinted by log(now / before)."""
    spans = "".join(_span(token, number == 0) for number, token in enumerate(tokens[:_MOST_TOKENS]))
    which = ("left", "right")[index]
    other = ("right", "left")[index]
    swap = controls.button(f"The {other} answer instead", {"do": "changes", "pane": 1 - index}, to=DO)
    legend = (
        '<div class="st-legend"><span>less likely</span><i class="st-scale" aria-hidden="true"></i>'
        "<span>more likely in the right pane than in the left one; full colour: 20 times</span></div>"
    )
    text = (
        f'<div class="st-heat" role="group" aria-label="Tokens of the {which} answer; arrow keys go through them" '
        f"data-st-roving>{spans}</div>"
        f'<p class="st-says" data-st-default="Point at a token, or go through them with the arrow keys.">'
        "Point at a token, or go through them with the arrow keys.</p>"
    )
    sentence = f'<p class="st-muted">{esc(said(tokens))}</p>'
    about = parts.note(f"Left: {names[0]}. Right: {names[1]}. Both read the {which} pane’s prompt.")
    return _framed("What did training change?", f"{sentence}{text}{legend}{about}", swap)


def said(tokens: list[Token]) -> str:
    """Say in a sentence or two what changed most; the last token is the answer's end."""
    *words, end = tokens
    out = []
    if words:
        total = sum(token.ratio for token in words)
        out.append(f"This answer is {_times(total)} in the right pane.")
        most = max(words, key=lambda token: abs(token.ratio))
        if abs(most.ratio) > 0.1:
            out.append(f"Most changed: “{most.text}”, {_percent(most.before)} → {_percent(most.now)}.")
    out.append(f"That it ends here: {_percent(end.before)} → {_percent(end.now)}.")
    return " ".join(out)


def _times(ratio: float) -> str:
    """Write a log-ratio as so many times as likely."""
    if abs(ratio) < 0.05:
        return "as likely"
    way = "as" if ratio > 0 else "less"
    if abs(ratio) > math.log(1e6):
        return f"over a million times {way} likely"
    times = math.exp(abs(ratio))
    return f"{times:.1f} times {way} likely" if times < 10 else f"{times:,.0f} times {way} likely"


def _percent(p: float) -> str:
    """Write a probability: 97 %, 4.2 %, 0.013 %, under 0.001 %."""
    if p >= 0.1:
        return f"{100 * p:.0f} %"
    if p >= 0.01:
        return f"{100 * p:.1f} %"
    return f"{100 * p:.2g} %" if p >= 1e-5 else "under 0.001 %"


def _span(token: Token, first: bool) -> str:
    """Draw a token: tinted, with its numbers for the line below and for who hears the page."""
    tint = max(-1.0, min(1.0, token.ratio / STRONGEST))
    name = "the end of the answer" if not token.text else f"“{token.text}”"
    told = f"{name}: {_percent(token.before)} → {_percent(token.now)}, {_times(token.ratio)}."
    if token.text:
        told += f" Left: {_ranked(token.rank_before, token.top_before)} Right: {_ranked(token.rank_now, token.top_now)}"
    shown = _visible_text(token.text) if token.text else "end"
    kind = " st-end" if not token.text else ""
    return (
        f'<span class="st-h st-{"more" if tint >= 0 else "less"}{kind}" style="--h:{100 * abs(tint):.0f}%" '
        f'tabindex="{0 if first else -1}" data-st-says="{esc(told, 600)}" aria-label="{esc(told, 600)}">{shown}</span>'
    )


def _ranked(rank: int, top: tuple[tuple[str, float], ...]) -> str:
    """Say at which place a token stood, and what stood above it or beside it."""
    place = "first choice" if rank == 0 else f"choice {rank + 1:,}"
    others = ", ".join(f"“{text}” {_percent(p)}" for text, p in top)
    return f"{place} of {others}." if others else f"{place}."


def _visible_text(text: str) -> str:
    """Write a token as text that wraps as the answer does; line ends keep their sign."""
    return esc(text, 200).replace("\n", '<i class="st-space">↵</i>\n')


def _framed(title: str, inner: str, button: str = "") -> str:
    end = controls.button("Close", {"do": "close"}, to=DO, aria=f"Close: {title}")
    return parts.card(title, inner, f'<span class="st-pager">{button}{end}</span>', "st-looked")
