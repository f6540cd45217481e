"""Chat: the same question to the base and to the tuned model, side by side."""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import Any

import gradio as gr

from studio.errors import InputError
from studio.ui import chatview, choice, kit, live, talk
from studio.ui.pages.tune import header


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header("Side by side", "The same prompt and the same settings to the base and to what you made of it.")
    with gr.Row(elem_classes="st-panes", equal_height=True):
        panes = [tools.live(kit.slot(elem_id=f"st-pane-{i}"), _draw(i)) for i in talk.PANES]
    trouble = kit.slot()
    tools.live(kit.slot(), lambda scene: chatview.suggestions(scene, talk.turns()))
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
            edit = gr.Button("Edit", elem_id="st-chat-edit", elem_classes="st-small")
            retry = gr.Button("Retry", elem_id="st-chat-retry", elem_classes="st-small")
            clear = gr.Button("New", elem_id="st-chat-clear", elem_classes="st-small")
            halt = gr.Button("Stop", elem_id="st-chat-stop", elem_classes="st-small", visible=False)
            send = gr.Button("Send", elem_id="st-chat-send", variant="primary", elem_classes="st-small")
    with gr.Accordion("Settings", open=False, elem_classes="st-card st-settings"):
        with gr.Row(elem_classes="st-fields"):
            left = gr.Dropdown([], label="Left", min_width=220)
            right = gr.Dropdown([], label="Right", min_width=220)
        system = gr.Textbox(
            label="System prompt", lines=2, max_lines=6, info="Read by the tuned model before the question."
        )
        with gr.Row(elem_classes="st-fields"):
            temperature = gr.Slider(
                0, 2, value=0, step=0.05, label="Temperature", info="0: always the likeliest token."
            )
            tokens = gr.Slider(8, 2048, value=128, step=8, label="Longest answer (tokens)")
            seed = gr.Number(value=0, label="Seed", precision=0, info="The same seed gives the same answer again.")
    asked = [text, system, temperature, tokens, seed]
    shown = [*panes, trouble, text, send, halt]
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    for event in (send.click, text.submit):
        answered = event(ask, asked, shown, concurrency_limit=2, concurrency_id="chat", **quiet)
        tools.after(answered.then(_heard, None, None, queue=False, **quiet))
    answered = retry.click(again, asked, shown, concurrency_limit=2, concurrency_id="chat", **quiet)
    tools.after(answered.then(_heard, None, None, queue=False, **quiet))
    tools.live(send, lambda scene: gr.update(visible=not talk.busy()))
    tools.live(halt, lambda scene: gr.update(visible=talk.busy()))
    halt.click(talk.stop, None, None, queue=False, **quiet)
    tools.after(clear.click(forget, None, None, queue=False, **quiet))
    tools.after(edit.click(back, text, text, queue=False, **quiet))
    for side, box in (("left", left), ("right", right)):
        tools.live(box, functools.partial(_files, side))
        tools.after(box.input(lambda path, side=side: talk.pick(side, path), box, None, queue=False, **quiet))
    settings = [system, temperature, tokens, seed]
    gr.on([system.blur, temperature.release, tokens.release, seed.blur], _keep, settings, None, queue=False, **quiet)
    tools.restore(settings, _kept)


def _draw(index: int) -> Any:
    def draw(scene: live.Scene) -> Any:
        return gr.skip() if talk.hears(kit.tab.get()) else chatview.pane(index, talk.chosen(scene)[index], talk.turns())

    return draw


def _heard(request: gr.Request) -> None:
    talk.heard(request.session_hash or "")


def ask(
    text: str, system: str, temperature: float, tokens: float, seed: float, request: gr.Request
) -> Generator[tuple[Any, ...]]:
    """Ask both and show the answers as they grow."""
    talk.hear(request.session_hash or "")
    yield from _ask(talk.turns(), text, system, temperature, tokens, seed)


def again(
    _text: str, system: str, temperature: float, tokens: float, seed: float, request: gr.Request
) -> Generator[tuple[Any, ...]]:
    """Ask the last question once more."""
    talk.hear(request.session_hash or "")
    said = talk.turns()
    if said:
        yield from _ask(said[:-1], said[-1]["user"], system, temperature, tokens, seed)


def _ask(
    said: list[talk.Turn], text: str, system: str, temperature: float, tokens: float, seed: float
) -> Generator[tuple[Any, ...]]:
    files = talk.chosen(live.look())
    keep_text, busy, idle = (
        gr.skip(),
        (gr.update(visible=False), gr.update(visible=True)),
        (gr.update(visible=True), gr.update(visible=False)),
    )
    try:
        if not text.strip():
            raise InputError("There is no question.", "Write one first.")
        if not any(files):
            raise InputError("There is no file to talk to yet.", "Export a trained run first, on the Export page.")
        settings = {
            "system": system or "",
            "temperature": float(temperature),
            "max_tokens": int(tokens),
            "seed": int(seed or 0),
        }
        said = [*said, {"user": text}]
        for turns in talk.answer(said, files, settings):
            yield (*(chatview.pane(i, files[i], turns) for i in talk.PANES), "", "", *busy)
        yield gr.skip(), gr.skip(), gr.skip(), keep_text, *idle
    except Exception as error:
        yield gr.skip(), gr.skip(), kit.explain(error), keep_text, *idle


def forget() -> None:
    """Begin anew."""
    talk.settle()
    talk.keep([])


def back(text: str) -> str:
    """Take the last turn back into the input."""
    talk.settle()
    said = talk.turns()
    if not said:
        return text
    talk.keep(said[:-1])
    return str(said[-1]["user"])


def _files(side: str, scene: live.Scene) -> Any:
    current = talk.chosen(scene)[("left", "right").index(side)]
    names = [(source.label, source.path) for source in talk.sources(scene)]
    return gr.update(choices=names, value=current.path if current else None)


def _keep(system: str, temperature: float, tokens: float, seed: float) -> None:
    choice.update(chat={"system": system, "temperature": temperature, "max_tokens": tokens, "seed": seed})


def _kept(scene: live.Scene) -> list[Any]:
    kept = scene.chosen.get("chat") or {}
    return [kept.get("system", ""), kept.get("temperature", 0), kept.get("max_tokens", 128), kept.get("seed", 0)]
