"""Chat: the same question to two models, side by side; openly, with thumbs, or blind, with votes."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterator
from typing import Any

import gradio as gr

from studio.errors import ConfigError, InputError
from studio.ui import (
    chatacts,
    chatkept,
    chatopen,
    chatpick,
    chatprep,
    chatset,
    chattalks,
    chatthumbs,
    chattokens,
    chatview,
    chatvote,
    controls,
    forms,
    kit,
    live,
    talk,
)
from studio.ui.chatopen import PANES, Who
from studio.ui.chatview import GO
from studio.ui.chatvote import DO
from studio.ui.pages.tune import header
from studio.ui.parts import esc

_QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
_STREAM: dict[str, Any] = {"concurrency_limit": 2, "concurrency_id": "chat", **_QUIET}


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "Side by side",
        "The same question and the same settings to both; what one training changed is all that differs.",
    )
    with gr.Row(elem_classes="st-panes", equal_height=True):
        bodies = []
        for side in PANES:
            with gr.Column(elem_classes="st-card st-pane", min_width=280):
                tools.live(kit.slot(elem_id=f"st-head-{side}"), functools.partial(chatview.head, side))
                tools.live(kit.slot(elem_id=f"st-open-{side}"), functools.partial(chatview.opening, side))
                bodies.append(tools.live(kit.slot(elem_id=f"st-pane-{side}"), _draw(side)))
    trouble = kit.slot(elem_id="st-chat-trouble")
    tools.live(kit.slot(), chatvote.card)
    tools.live(kit.slot(), lambda scene: chatview.suggestions(scene, talk.turns()))
    text, buttons = _ask_bar(tools)
    tools.live(kit.slot(elem_id="st-chat-bar"), _bar)
    tools.live(kit.slot(elem_id="st-chat-kept"), chatkept.card)
    tools.live(kit.slot(), lambda scene: chattokens.card())
    system, inputs = _advanced(tools)
    asked = [text, system, *inputs]
    shown = [*bodies, trouble, text, buttons["send"], buttons["halt"]]
    act, go = (
        gr.Textbox(elem_id=name, elem_classes="st-hidden", show_label=False, container=False) for name in (DO, GO)
    )

    def streams(event: Any, handler: Any, values: list[Any]) -> None:
        answered = event(handler, values, shown, **_STREAM)
        tools.after(answered.then(_heard, None, None, queue=False, **_QUIET))

    for event in (buttons["send"].click, text.submit):
        streams(event, ask, asked)
    streams(buttons["retry"].click, again, asked)
    streams(go.change, go_on, [go, *asked])
    buttons["halt"].click(talk.stop, None, None, queue=False, **_QUIET)
    tools.after(buttons["new"].click(_new, None, trouble, queue=False, **_QUIET))
    tools.after(buttons["earlier"].click(chatkept.toggle, None, None, queue=False, **_QUIET))
    tools.after(buttons["edit"].click(back, text, text, queue=False, **_QUIET))
    tools.after(act.change(_act, [act, *asked], trouble, concurrency_limit=4, **_QUIET))
    tools.acts.append(chatprep.ahead)


def _ask_bar(tools: kit.Kit) -> tuple[Any, dict[str, Any]]:
    with gr.Row(elem_classes="st-card st-ask"):
        text = gr.Textbox(
            show_label=False,
            label="Question",
            placeholder="Ask both…",
            lines=1,
            max_lines=6,
            scale=5,
            min_width=200,
            elem_id="st-chat-input",
            container=False,
        )
        with gr.Row(elem_classes="st-buttons", scale=0):
            made = {
                name: gr.Button(title, elem_id=f"st-chat-{ident}", elem_classes="st-small", **more)
                for name, title, ident, more in (
                    ("edit", "Edit", "edit", {}),
                    ("retry", "Retry", "retry", {}),
                    ("earlier", "Earlier", "earlier", {"visible": False}),
                    ("new", "New", "clear", {}),
                    ("halt", "Stop", "stop", {"visible": False}),
                    ("send", "Send", "send", {"variant": "primary"}),
                )
            }
    tools.live(made["send"], lambda scene: gr.update(visible=not talk.busy()))
    tools.live(
        made["earlier"], lambda scene: gr.update(value=f"Earlier ({chatkept.count()})", visible=chatkept.count() > 0)
    )
    tools.live(made["halt"], lambda scene: gr.update(visible=talk.busy()))
    return text, made


def _bar(scene: live.Scene) -> str:
    """Draw the bar under the question: votes and thumbs, what else can be looked at."""
    if not any(chatpick.chosen(scene)):
        return ""
    blind = chatvote.on(scene)
    then = 'data-st-then="#st-page-chat .st-looked:has(.st-ids, .st-heat)"'
    looks = controls.button("Prompt as the model sees it", {"do": "prompt"}, to=DO, extra=then) if not blind else ""
    if not blind and all(chatpick.chosen(scene)):
        looks += controls.button("What did training change?", {"do": "changes", "pane": 1}, to=DO, extra=then)
    return (
        f'<section class="st-card st-line st-chat-bar">{chatview.copies(scene) if not blind else ""}'
        f"{chatvote.bar(scene)}{'' if blind else chatthumbs.compared()}"
        f'<span class="st-chat-looks">{looks}</span></section>'
    )


def _advanced(tools: kit.Kit) -> tuple[Any, list[Any]]:
    """Lay out the drawer: system prompt, sampling, context, templates, a file by its path; what counts stands above."""
    with gr.Column(elem_classes="st-card st-settings st-chat-settings"):
        tools.live(kit.slot(elem_id="st-chat-counts"), _counts)
        with gr.Accordion("Advanced", open=False, elem_classes="st-keeps"):
            system = gr.Textbox(
                label="System prompt",
                lines=2,
                max_lines=6,
                info="Read before the question; a base that is asked in plain text has no place for it.",
                elem_id="st-chat-system",
            )
            with gr.Row(elem_classes="st-fields"):
                made = {field.name: forms.component(field, "chat") for field in chatset.FIELDS}
            tools.live(kit.slot(), chatview.more)
            inputs = [made[name] for name in chatset.NAMES]
            tools.keep(_keep, [system, *inputs])
    tools.live(made["thinking"], lambda scene: gr.update(visible=_thinks()))
    tools.restore([system, *inputs], _kept)
    return system, inputs


def _thinks() -> bool:
    opened = chatopen.opened()
    return opened is not None and any(told["thinks"] for told in opened.told.values())


def _counts(scene: live.Scene) -> str:
    said = chatset.line(chatset.kept(scene), chatset.system(scene), _thinks())
    return f'<p class="st-counts">{esc(" · ".join(said))}</p>'


def _draw(side: int) -> Any:
    def draw(scene: live.Scene) -> Any:
        return gr.skip() if talk.hears(kit.tab.get()) else chatview.body(side, scene, talk.turns())

    return draw


def _heard(request: gr.Request) -> None:
    talk.heard(request.session_hash or "")


def ask(request: gr.Request, text: str, system: str, *values: Any) -> Generator[tuple[Any, ...]]:
    """Ask both and show the answers as they grow."""

    def begin() -> Iterator[list[talk.Turn]]:
        who = _who(system, values)
        if not text.strip():
            raise InputError("There is no question.", "Write one first.")
        turn: talk.Turn = {"user": text, "seed": who.asked.seed}
        if chatvote.on(live.look()):
            turn["blind"] = chatvote.draw_lots()
        yield from talk.answer([*talk.turns(), turn], who)

    yield from _stream(request, begin, "")


def again(request: gr.Request, text: str, system: str, *values: Any) -> Generator[tuple[Any, ...]]:
    """Ask the last question once more, with the next seed where tokens are drawn by lot."""

    def begin() -> Iterator[list[talk.Turn]]:
        who, said = _who(system, values), talk.turns()
        if not said:
            raise InputError("There is no question yet.", "Ask one first.")
        turn = {"user": said[-1]["user"], "seed": who.asked.seed}
        if who.asked.temperature:
            turn["seed"] = int(said[-1].get("seed") or 0) + 1
        if "blind" in said[-1]:
            turn["blind"] = chatvote.draw_lots()
        if not talk.busy():
            chatthumbs.again(said, who)
        yield from talk.answer([*said[:-1], turn], who)

    yield from _stream(request, begin, gr.skip())


def go_on(request: gr.Request, sent: str, text: str, system: str, *values: Any) -> Generator[tuple[Any, ...]]:
    """Go on with a pane's unfinished answer."""

    def begin() -> Iterator[list[talk.Turn]]:
        who, said = _who(system, values), talk.turns()
        if said:
            yield from talk.answer(said, who, only=chatacts.pane_of(chatacts.read(sent)))

    yield from _stream(request, begin, gr.skip())


def _who(system: str, values: tuple[Any, ...]) -> Who:
    return Who.now(live.look(), chatset.read(values), system or "")


def _stream(request: gr.Request, begin: Any, typed: Any) -> Generator[tuple[Any, ...]]:
    """Send both panes as they grow; `typed` is what stands in the input from then on. An error is drawn as a card."""
    busy = (gr.update(visible=False), gr.update(visible=True))
    idle = (gr.update(visible=True), gr.update(visible=False))
    scene = live.look()
    talk.hear(request.session_hash or "")
    try:
        for turns in begin():
            chattokens.close_for(turns)
            yield (*(chatview.body(side, scene, turns) for side in PANES), "", typed, *busy)
        yield gr.skip(), gr.skip(), gr.skip(), gr.skip(), *idle
    except Exception as error:
        state = busy if talk.busy() else idle
        yield gr.skip(), gr.skip(), kit.explain(error), gr.skip(), *state


def _act(sent: str, text: str, system: str, *values: Any) -> str:
    """Do what a drawn control says; give an error to draw, or nothing."""
    message = chatacts.read(sent)
    try:
        try:
            asked = chatset.read(values)
        except ConfigError:
            if message.get("do") in ("prompt", "changes"):
                raise
            asked = chatset.Asked()  # a setting that is wrong stops no vote
        chatacts.act(message, Who.now(live.look(), asked, system or ""), text or "")
    except Exception as error:
        return kit.explain(error)
    return ""


def _new() -> str:
    """Begin anew; what was said is put aside."""
    try:
        chattalks.begin()
        chattokens.close()
    except Exception as error:
        return kit.explain(error)
    return ""


def back(text: str) -> str:
    """Take the last turn back into the input."""
    talk.settle()
    said = talk.turns()
    if not said:
        return text
    talk.keep(said[:-1])
    chattokens.close()
    return str(said[-1]["user"])


def _keep(system: str, *values: Any) -> None:
    chatset.keep(system or "", values)


def _kept(scene: live.Scene) -> list[Any]:
    asked = chatset.kept(scene)
    return [chatset.system(scene), *(forms.show(field, getattr(asked, field.name)) for field in chatset.FIELDS)]
