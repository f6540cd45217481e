"""The frame around the pages: rail, strip, one timer that reads the disk, and the page that the address names."""

from __future__ import annotations

import hashlib
import logging
from typing import Any

import gradio as gr

from studio import paths
from studio.ui import kit, live, rail
from studio.ui.pages import align, chat, data, disk, evaluate, export, feedback, model, train

_PAGES = {
    "model": model.page,
    "data": data.page,
    "train": train.page,
    "align": align.page,
    "feedback": feedback.page,
    "evaluate": evaluate.page,
    "export": export.page,
    "chat": chat.page,
    "disk": disk.page,
}


def build() -> gr.Blocks:
    """Lay out the window."""
    tools = kit.Kit()
    with gr.Blocks(title="Studio", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as window:
        seen = gr.State({})
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
        _wire(window, tools, seen)
    return window


def _wire(window: gr.Blocks, tools: kit.Kit, seen: gr.State) -> None:
    """Draw everything at the opening, and what has changed once a second and after each action."""
    outputs = [seen, *(component for component, _ in tools.lives)]

    def view(known: dict[str, str], request: gr.Request) -> list[Any]:
        kit.tab.set(request.session_hash or "")
        return refresh(tools, known)

    def restore() -> list[Any]:
        scene = live.look()
        return [value for _, read in tools.restores for value in read(scene)]

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    restored = [c for components, _ in tools.restores for c in components]
    window.load(restore, None, restored, **quiet)
    for event in tools.renewals:
        event.then(restore, None, restored, **quiet)
    # One event draws, whoever asks for it: two drawings at once could arrive in the wrong order, and an old part stay.
    asked = gr.Textbox(elem_id="st-look", elem_classes="st-hidden", show_label=False, container=False)
    asked.change(view, seen, outputs, trigger_mode="always_last", **quiet)

    def then_look(event: Any) -> None:
        event(None, None, asked, js="() => String(performance.now())", **quiet)

    then_look(window.load)
    for work, slot in tools.opening:
        then_look(window.load(work, None, slot, show_progress="hidden", api_visibility="private").then)
    then_look(gr.Timer(1).tick)
    for event in tools.changes:
        then_look(event.then)


def refresh(tools: kit.Kit, known: dict[str, str]) -> list[Any]:
    """Give (what is shown now, then each live part or a skip); draws nothing when the disk has not changed."""
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
        shown.append(gr.skip() if known.get(str(index)) == key else value)
    return [now, *shown]


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
