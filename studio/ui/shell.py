"""The frame around the pages: rail, strip, one timer that reads the disk, and the page that the address names."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import gradio as gr

from studio import paths
from studio.ui import kit, live, rail
from studio.ui.pages import align, chat, data, disk, evaluate, export, feedback, lab, model, train

#: In the order in which the browser is given them, which nobody sees: one is shown at a time, and the rail has an order
#: of its own. For every change Gradio looks for the component from the first one on, so what changes often comes first,
#: and the hundreds of fields of all methods last.
_PAGES = {
    "chat": chat.page,
    "export": export.page,
    "disk": disk.page,
    "feedback": feedback.page,
    "lab": lab.page,
    "evaluate": evaluate.page,
    "model": model.page,
    "data": data.page,
    "train": train.page,
    "align": align.page,
}

#: What a page says when it asks to be drawn: the time, so that it is something new, and whether it was just opened.
_OPENED = "opened"
_LOOK = f"""() => {{
    const first = window.stOpened ? "" : "{_OPENED} ";
    window.stOpened = true;
    return first + performance.now();
}}"""


def build() -> gr.Blocks:
    """Lay out the window."""
    tools = kit.Kit()
    with gr.Blocks(title="Studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as window:
        seen = gr.State({})
        asked = gr.Textbox(elem_id="st-look", elem_classes="st-hidden", show_label=False, container=False)
        timer = gr.Timer(1)
        tools.live(kit.slot(elem_id="st-rail"), rail.rail)
        with gr.Row(elem_id="st-top"):
            tools.live(kit.slot(elem_id="st-strip"), rail.strip)
            stop = gr.Button("Stop", elem_id="st-stop", elem_classes="st-small", visible=False)
            tools.live(stop, lambda scene: gr.update(visible=(scene.running or scene.beside) is not None))
        tools.after(stop.click(kit.stop, queue=False, show_progress="hidden", api_visibility="private"))
        tools.acts.append(kit.drain)
        for name, page in _PAGES.items():
            with gr.Column(elem_id=f"st-page-{name}", elem_classes="st-page"):
                page(tools)
        _wire(window, tools, seen, asked, timer)
    _quieten(window, asked)
    return window


def _quieten(window: gr.Blocks, place: gr.Textbox) -> None:
    """Let what shows no progress show it at a hidden place.

    Gradio writes the state of an event to each of its outputs several times, also where none is to be seen: hundreds of
    searches through the page for every piece of an answer.
    """
    for event in window.fns.values():
        if event.show_progress == "hidden" and event.show_progress_on is None:
            event.show_progress_on = [place]


def _wire(window: gr.Blocks, tools: kit.Kit, seen: gr.State, asked: gr.Textbox, timer: gr.Timer) -> None:
    """Draw everything at the opening, and what has changed once a second and after each action."""
    outputs = [seen, *(component for component, _ in tools.lives)]

    def view(known: dict[str, str], why: str, request: gr.Request) -> list[Any]:
        kit.tab.set(request.session_hash or "")
        return refresh(tools, known, opened=why.startswith(_OPENED))

    def restore() -> list[Any]:
        scene = live.look()
        return [value for _, read in tools.restores for value in read(scene)]

    def fill() -> list[Any]:
        return [_news(c, value) for c, value in zip(restored, restore(), strict=True)]

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    restored = [c for components, _ in tools.restores for c in components]
    window.load(fill, None, restored, **quiet)
    for event in tools.renewals:
        event.then(restore, None, restored, **quiet)
    # One event draws, whoever asks for it: two drawings at once could arrive in the wrong order, and an old part stay.
    asked.change(view, [seen, asked], outputs, trigger_mode="always_last", **quiet)

    def then_look(event: Any) -> None:
        event(None, None, asked, js=_LOOK, **quiet)

    then_look(window.load)
    for work, slot in tools.opening:
        then_look(window.load(work, None, slot, show_progress="hidden", api_visibility="private").then)
    then_look(timer.tick)
    for event in tools.changes:
        then_look(event.then)


def refresh(tools: kit.Kit, known: dict[str, str], opened: bool = False) -> list[Any]:
    """Give (what is shown now, then each live part or a skip); draws nothing when the disk has not changed.

    `opened`: the page was opened just now, and shows what was laid out. An old tab of a window that was started again
    shows something else, though nothing is known of it either.
    """
    scene = live.look()
    if any([act(scene) for act in tools.acts]):
        scene = live.look()
    stamp = hashlib.sha256(repr(live.stamp(scene)).encode()).hexdigest()
    if known.get("stamp") == stamp:
        return [gr.skip()] * (1 + len(tools.lives))
    now, shown = {"stamp": stamp}, []
    for index, (_, draw) in enumerate(tools.lives):
        try:
            value = draw(scene)
        except Exception as error:
            # One part that cannot be drawn must not take the window with it.
            logging.getLogger("studio.window").error("a part could not be drawn", exc_info=error)
            value = kit.explain(error) if isinstance(tools.lives[index][0], gr.HTML) else gr.skip()
        key = now[str(index)] = hashlib.sha256(repr(value).encode()).hexdigest()
        fresh = _news(tools.lives[index][0], value) if opened and not known else value
        shown.append(gr.skip() if known.get(str(index)) == key else fresh)
    return [now, *shown]


def _news(component: Any, value: Any) -> Any:
    """Give what is sent to a page that was just opened: nothing where the component was laid out like that."""
    if isinstance(value, dict) and value.get("__type__") == "update":
        laid_out = all(getattr(component, name, value) == asked for name, asked in value.items() if name != "__type__")
    else:
        own = component.value
        laid_out = value == own or (value == "" and own is None)
    return gr.skip() if laid_out else value


def mount(app: Any, window: gr.Blocks, port: int) -> None:
    """Put the window on a server, with every switch that could widen it off."""
    assets = paths.assets()
    theme = gr.themes.Base(
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )
    style = (assets / "css" / "studio.css").read_text("utf-8")
    script = "".join((assets / "css" / name).read_text("utf-8") for name in ("studio.js", "ranking.js"))
    gr.mount_gradio_app(
        app,
        window,
        path="/",
        server_name="127.0.0.1",
        server_port=port,
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[str(paths.home() / "window.key")],
        favicon_path=str(assets / "icons" / "studio.png"),
        show_error=False,
        max_file_size="512mb",
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        # Not css=: Gradio rewrites those selectors and breaks :is(a, b).
        head=f"<style>{style}</style><script>{script}</script>",
    )
