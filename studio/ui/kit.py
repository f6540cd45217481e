"""What the pages share: live parts, error edges, starting and stopping runs.

A live part is a component and a function that draws it from what is on disk; the shell draws all of them once a second
and sends what has changed. `edge` is the window's edge for errors: cause and remedy on the page, the traceback in
window.log.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from studio import jobs, runs
from studio.errors import RunError, StudioError
from studio.ui import choice, live, parts, talk
from studio.ui.live import Scene, View

log = logging.getLogger("studio.window")
#: The tab that is being drawn, by Gradio's hash of its session.
tab: ContextVar[str] = ContextVar("tab", default="")


@dataclass
class Kit:
    """Collects what the pages register while they are laid out."""

    lives: list[tuple[Any, Callable[[Scene], Any]]] = field(default_factory=list)
    restores: list[tuple[list[Any], Callable[[Scene], list[Any]]]] = field(default_factory=list)
    changes: list[Any] = field(default_factory=list)
    renewals: list[Any] = field(default_factory=list)
    opening: list[tuple[Callable[[], Generator[str]], Any]] = field(default_factory=list)
    acts: list[Callable[[Scene], bool]] = field(default_factory=list)

    def live(self, component: Any, draw: Callable[[Scene], Any]) -> Any:
        """Draw a component from the disk, now and whenever the disk changes."""
        self.lives.append((component, draw))
        return component

    def restore(self, components: list[Any], read: Callable[[Scene], list[Any]]) -> None:
        """Fill inputs from the disk when the page is opened (not later: somebody may be typing)."""
        self.restores.append((components, read))

    def keep(self, handler: Callable[..., None], inputs: list[Any]) -> None:
        """Call a handler with a form's values whenever one of its fields was left or ticked.

        The form is the nearest block with the class `st-keeps` around the place where this is called. The page's script
        tells it by one hidden field: for each component that Gradio draws it goes through all triggers of all events,
        and one a field made a quarter of the time until the window could be used.
        """
        import gradio as gr

        told = gr.Textbox(elem_classes="st-hidden st-keep", show_label=False, container=False)
        quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
        self.after(told.change(handler, inputs, None, **quiet))

    def after(self, event: Any) -> Any:
        """Look at the disk at once after an event."""
        self.changes.append(event)
        return event

    def renew(self, event: Any) -> Any:
        """Fill all inputs again after an event that changes what they start from (another model)."""
        self.renewals.append(event)
        return self.after(event)


def slot(value: Any = None, elem_id: str | None = None) -> Any:
    """Make a place for HTML made in parts.py: no padding, no style and no script of Gradio's."""
    import gradio as gr

    return gr.HTML(
        value, elem_id=elem_id, elem_classes="st-slot", apply_default_css=False, js_on_load=None, padding=False
    )


def opener(name: str, label: str, placeholder: str) -> tuple[Any, Any, Any]:
    """Lay out the ways to a file: its path, the button that opens it, and a place to drop one."""
    import gradio as gr

    with gr.Row(elem_classes="st-pick"):
        path = gr.Textbox(label=label, placeholder=placeholder, max_lines=1, min_width=240, elem_id=f"st-{name}-path")
        read = gr.Button("Open", elem_id=f"st-{name}-open", elem_classes="st-small")
        upload = gr.File(show_label=False, height=38, elem_classes="st-drop", elem_id=f"st-{name}-drop")
    return path, read, upload


def explain(error: Exception) -> str:
    """Draw an error as cause and remedy; one that was not made for the user goes to the log with its traceback."""
    if isinstance(error, StudioError):
        return parts.problem_from(error.to_dict())
    log.error("a handler failed", exc_info=error)
    return parts.problem(
        f"Studio made a mistake of its own ({type(error).__name__}).",
        "Try again. What happened exactly stands in window.log in the data folder.",
    )


def edge(handler: Callable[..., str]) -> Callable[..., str]:
    """Give what a handler shows, or its error as a card. For handlers with one HTML output."""

    def wrapped(*values: Any) -> str:
        try:
            return handler(*values)
        except Exception as error:
            return explain(error)

    return wrapped


def edges(handler: Callable[..., Generator[str]]) -> Callable[..., Generator[str]]:
    """Do the same for a handler that shows several things one after the other."""

    def wrapped(*values: Any) -> Generator[str]:
        try:
            yield from handler(*values)
        except Exception as error:
            yield explain(error)

    return wrapped


def begin(config: runs.RunConfig) -> runs.Run:
    """Create a run and start its worker; while another one computes it waits for its turn.

    What only fetches or reads does not wait: RunError when something of the kind goes on (then nothing is left behind).
    """
    scene = live.look()
    if not config.light:
        if scene.running is None:
            talk.unload()
        run = runs.create(config)
        jobs.submit(run)
        return run
    if busy := scene.beside:
        raise RunError(f"“{busy.config.title}” is running.", "Wait until it ends, or press Stop.")
    run = runs.create(config)
    try:
        jobs.start(run)
    except RunError:  # another tab or a terminal was faster
        runs.delete(run)
        raise
    return run


def resume(step: str) -> str:
    """Start the run of a step again, from its last checkpoint."""
    view = live.look().line.get(step)
    if view is None:
        raise RunError("There is no run to resume.", "Start one.")
    jobs.submit(view.run)
    return ""


def drain(scene: Scene) -> bool:
    """See to it that the first waiting run is started, should nobody be at it; the page does not wait for that."""
    if scene.queue and scene.running is None and _draining.acquire(blocking=False):
        threading.Thread(target=_drain, daemon=True).start()
    return False


_draining = threading.Lock()


def _drain() -> None:
    try:
        talk.unload()
        jobs.drain(patience=0)
    except Exception as error:  # the next look tries again
        log.error("the queue could not go on", exc_info=error)
    finally:
        _draining.release()
        live.touch()


def stop() -> None:
    """Ask the run that the strip shows to stop at its next step, and to keep what it has."""
    scene = live.look()
    if view := scene.running or scene.beside:
        jobs.stop(view.run)


def resumable(view: View | None) -> bool:
    """Tell whether a run can be taken up again."""
    if view is None:
        return False
    return view.status in ("interrupted", "stopped", "new") or (view.status == "failed" and view.checkpoint is not None)


def ended(view: View) -> str:
    """Draw how a run ended, when it did not finish; empty for other runs."""
    title, again = view.config.title, "Start it again; what was made so far is kept."
    if view.config.kind == "train":
        again = "Resume takes it up from the last checkpoint."
    elif view.config.kind in ("feedback", "eval", "lab", "export"):
        again = "Resume goes on; what was made so far is kept."
    if view.status == "failed":
        return parts.problem_from(view.error, head=f"“{title}” failed", details=_tail(view))
    if view.status == "interrupted":
        why = "The worker ended without a word: the machine was turned off, or the system ended it for its memory."
        return parts.problem(why, again, head=f"“{title}” was interrupted")
    if view.status == "new":
        return parts.card("", parts.note(f"“{title}” was not begun."))
    if view.status == "queued":
        return parts.card("", parts.note(f"“{title}” waits for its turn; it begins by itself."))
    if view.status == "stopped":
        return parts.card("", parts.note(f"“{title}” was stopped. {again}"))
    return ""


def _tail(view: View) -> str:
    """Give the log's place, never its tracebacks."""
    return f"The worker's log: {view.run.log}"


def remember_pick(step: str, run_id: str) -> None:
    """Keep which run of a step the user wants to look at, until a newer one is made."""
    scene = live.look()
    newest = scene.newest(step)
    if newest is not None and any(view.id == run_id for view in scene.of_step(step)):
        choice.update(runs={step: {"id": run_id, "newest": newest.id}})
