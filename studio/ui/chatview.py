"""Drawing of the chat page: two panes with what was said, speed, length, and why each answer ended."""

from __future__ import annotations

from typing import Any

from studio.ui import parts, starter, talk
from studio.ui.live import Scene
from studio.ui.parts import esc

NAMES = ("Base", "Tuned")
_NONE = (
    parts.empty("The base will stand here", "It is written beside the file when you export."),
    parts.empty(
        "Nobody to talk to yet",
        "Make your first assistant, or export a trained run.",
        parts.link("model", "Go to Model"),
    ),
)


def pane(index: int, source: talk.Source | None, said: list[talk.Turn]) -> str:
    """Draw one pane."""
    if source is None:
        return f'<section class="st-card st-pane">{_NONE[index]}</section>'
    name = NAMES[0] if source.raw else NAMES[1]
    identity = f"{source.label} · {source.sha256[:6]}" if source.sha256 else source.label
    body = "".join(_turn(index, turn) for turn in said)
    if not said:
        text = (
            "It continues the text you write, each time afresh."
            if source.raw
            else "It answers, in the template it was trained with."
        )
        body = f'<p class="st-note st-quiet">{text}</p>'
    head = f'<div class="st-head"><h2>{name}</h2><code class="st-aside">{esc(identity, 90)}</code></div>'
    answers = f'<div class="st-scrolled"><div class="st-said">{body}</div></div>'
    return f'<section class="st-card st-pane">{head}{answers}</section>'


def _turn(index: int, turn: talk.Turn) -> str:
    answers, stats = turn.get("answers") or [None, None], turn.get("stats") or [None, None]
    out = f'<div class="st-user" dir="auto">{esc(turn.get("user", ""))}</div>'
    if answers[index] is None:
        return out
    ended = bool(stats[index])
    text = (
        esc(answers[index].lstrip("\n"))
        if answers[index].strip() or not ended
        else '<span class="st-muted">(nothing)</span>'
    )
    text = text or f'<span class="st-muted">{esc(turn.get("note") or "…")}</span>'
    return f'{out}<div class="st-answer" dir="auto">{text}</div>{_stats(stats[index], answers[index])}'


def _stats(found: dict[str, Any] | None, text: str) -> str:
    if not found:
        return ""
    if error := found.get("error"):
        return parts.problem_from(error, head="No answer")
    if found.get("by_user"):
        return f'<div class="st-stats">{parts.pill("stopped by you", "plain")}</div>'
    said = []
    if found.get("tokens_per_s"):
        said.append(f"{found['tokens_per_s']:.0f} tokens/s")
    if found.get("first_s") is not None:
        said.append(f"first after {found['first_s']:.1f} s")
    if found.get("tokens") is not None:
        said.append(f"{found['tokens']:,} tokens")
    if found.get("stopped"):
        end = parts.pill(
            f"stopped at {found['stop_token']}" if found.get("stop_token") else "stopped by itself", "good"
        )
    else:
        end = parts.pill(f"did not stop: limit of {found.get('tokens', 0):,}", "warn")
    return f'<div class="st-stats">{"".join(f"<span>{esc(s)}</span>" for s in said)}{end}</div>'


def suggestions(scene: Scene, said: list[talk.Turn]) -> str:
    """Draw questions that the starter can answer; choosing one writes it into the input."""
    if scene.model != starter.NAME or not any(talk.chosen(scene)):
        return ""
    chips = "".join(
        f'<li><button type="button" data-st-fill="#st-chat-input" data-st-text="{esc(q)}">{esc(q)}</button></li>'
        for q in starter.questions(6 if not said else 4)
    )
    return f'<ul class="st-chips" aria-label="Questions it can answer">{chips}</ul>' if chips else ""
