"""The rail at the left and the strip on top: what each step has come to, and what is running, wherever one is."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from studio.methods import METHODS
from studio.ui import chatpick, diskview, talk
from studio.ui.curves import measure
from studio.ui.live import Scene, View
from studio.ui.looking import WORDS
from studio.ui.parts import amount, duration, esc, number, pill, share, size

GROUPS = (
    ("Prepare", (("model", "Model"), ("data", "Data"))),
    ("Tune", (("train", "Train"), ("align", "Align"), ("feedback", "Feedback"))),
    ("Prove", (("evaluate", "Evaluate"), ("lab", "Lab"))),
    ("Use", (("export", "Export"), ("chat", "Chat"))),
)
PAGES = tuple(page for _, pages in GROUPS for page, _ in pages)
#: The disk is no step of the path: it stands by itself at the end.
EVERY = (*PAGES, "disk")

#: How the end of a run is announced; who stopped one knows it. Of so many runs the script is told.
_ENDED, _TOLD = {"finished": "✓ Finished:", "failed": "✕ Failed:", "interrupted": "✕ Interrupted:"}, 6
_WORDS = {
    "empty": "nothing yet",
    "ready": "ready",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "stopped": "stopped",
}
_RING = '<circle cx="8" cy="8" r="6.4" fill="none" stroke="currentColor" stroke-width="1.2"/>'
_DISC = '<circle cx="8" cy="8" r="7" fill="currentColor"/>'
_CUT = 'fill="none" style="stroke:var(--st-background,#fff)" stroke-width="1.6" stroke-linecap="round"'
_DISK = (
    '<svg class="st-mark" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" fill="none" '
    'stroke="currentColor" stroke-width="1.2"><ellipse cx="8" cy="4" rx="5.4" ry="2.2"/>'
    '<path d="M2.6 4v8c0 1.2 2.4 2.2 5.4 2.2s5.4-1 5.4-2.2V4M2.6 8c0 1.2 2.4 2.2 5.4 2.2s5.4-1 5.4-2.2"/></svg>'
)
_MARKS = {
    "empty": _RING,
    "ready": f'{_RING}<circle cx="8" cy="8" r="2.6" fill="currentColor"/>',
    "running": '<path d="M8 1.6a6.4 6.4 0 1 0 6.4 6.4" fill="none" stroke="currentColor" stroke-width="1.6"/>',
    "done": f'{_DISC}<path d="m5 8.2 2.1 2.1L11.2 6" {_CUT} stroke-linejoin="round"/>',
    "failed": f'{_DISC}<path d="M5.6 5.6l4.8 4.8m0-4.8-4.8 4.8" {_CUT}/>',
    "stopped": f'{_RING}<rect x="5.6" y="5.6" width="4.8" height="4.8" rx="1" fill="currentColor"/>',
}


def mark(state: str) -> str:
    """Draw the small sign of a state, named for those who cannot see it."""
    return (
        f'<svg class="st-mark st-mark-{state}" viewBox="0 0 16 16" width="16" height="16" role="img" '
        f'aria-label="{_WORDS[state]}">{_MARKS[state]}</svg>'
    )


def rail(scene: Scene) -> str:
    """Draw the rail."""
    out = ['<div class="st-brand">Studio</div>']
    for group, pages in GROUPS:
        out.append(f'<div class="st-group">{group}</div>')
        for page, name in pages:
            state, line = _STATES[page](scene)
            out.append(
                f'<a class="st-nav st-nav-{page}" href="#{page}">{mark(state)}<span><b>{name}</b>'
                f"<small>{esc(line, 80)}</small></span></a>"
            )
    said = f"<b>Disk</b><small>{esc(diskview.line())}</small>"
    out.append(f'<a class="st-nav st-nav-disk" href="#disk">{_DISK}<span>{said}</span></a>')
    return f'<nav class="st-rail" aria-label="Steps">{"".join(out)}</nav>'


def strip(scene: Scene) -> str:
    """Draw the strip: bar, step, loss, time left; or that nothing is running. What has ended is left for the script."""
    return _strip(scene) + ended(scene)


def ended(scene: Scene) -> str:
    """Tell the page's script which runs go, and how those that ended last came out, so that it can announce the end."""
    going = [view.id for view in (scene.running, scene.beside) if view is not None]
    latest = sorted(scene.views, key=lambda view: (view.last or {}).get("time", 0.0), reverse=True)[:_TOLD]
    over = {view.id: f"{_ENDED[view.status]} {view.config.title[:80]}" for view in latest if view.status in _ENDED}
    ask = (
        '<button type="button" class="st-button st-notify" data-st-notify>Tell me when it ends</button>'
        if going
        else ""
    )
    told = f'data-st-going="{esc(json.dumps(going))}" data-st-over="{esc(json.dumps(over))}"'
    return f'{ask}<span class="st-hidden" {told}></span>'


def _strip(scene: Scene) -> str:
    view = scene.running or scene.beside
    if view is None and scene.queue:
        text = f"“{scene.queue[0].config.title}” is being started"
        rest = _queue(scene.queue[1:])
        return f'<div class="st-strip"><span class="st-muted" role="status">{esc(text, 120)}</span>{rest}</div>'
    if view is None:
        waiting = next((v for v in scene.views[:1] if v.status in ("interrupted", "failed")), None)
        text = f"“{waiting.config.title}”: {waiting.status}" if waiting else "Nothing is running"
        return f'<div class="st-strip"><span class="st-muted" role="status">{esc(text, 120)}</span></div>'
    done = view.percent()
    percent = "" if done is None else f"{100 * done:.0f}"
    bar = (
        f'<div class="st-bar" role="progressbar" aria-label="done" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{percent}"><i style="width:{percent or 0}%"></i></div>'
    )
    stopping = '<span class="st-muted">stopping at the next step</span>' if view.run.should_stop() else ""
    newest = view.newest()
    if newest and view.config.kind == "download":
        newest = {**newest, "phase": ""}  # the name says it
    spans = "".join(f"<span>{esc(text)}</span>" for text in now(newest))
    what = f'<span role="status">{pill(name(view))}</span>'
    return f'<div class="st-strip">{what}{bar}{spans}{stopping}{_beside(scene)}{_queue(scene.queue)}</div>'


def _queue(waiting: Sequence[View]) -> str:
    """Draw how many runs wait for their turn."""
    names = ", ".join(view.config.title for view in waiting[:8])
    return f'<span title="{esc(names, 400)}">{pill(f"{len(waiting)} waiting", "plain")}</span>' if names else ""


def _beside(scene: Scene) -> str:
    """Draw what goes on beside the run of the strip: a download while something is trained."""
    view = scene.beside
    if view is None or scene.running is None:
        return ""
    done = view.percent()
    return pill(f"{name(view)}{f', {share(done)}' if done is not None else ''}", "plain")


def name(view: View) -> str:
    """Name a run for the strip: its method or kind, and its title."""
    kind = short(view.config.method) if view.config.kind == "train" else view.config.kind.capitalize()
    if view.config.kind == "eval":
        return f"{view.config.title[:1].upper()}{view.config.title[1:48]}"
    return view.config.title if view.config.kind == "demo" else f"{kind} · {view.config.title}"[:48]


def short(name: str) -> str:
    """Name a method as people do, by what stands in its title's brackets: SFT, SimPO, reward model."""
    method = METHODS.get(name)
    found = re.search(r"\(([^()]+)\)\s*$", method.title) if method is not None else None
    return found[1] if found else name


_PARTS = {"sft": "teaching", "dpo": "aligning", "export": "exporting", "questions": "asking questions"}


def now(newest: dict[str, Any] | None) -> list[str]:
    """Say in a few words what a run is doing now, from its newest event."""
    if not newest:
        return ["starting"]
    said = []
    if part := newest.get("part"):
        said.append(_PARTS.get(str(part), str(part)))
    if newest.get("type") == "step":
        said.append(f"step {newest.get('step', 0):,} of {newest.get('total', 0):,}")
        if newest.get("score") is not None:
            said.append(f"score {number(newest['score'])}")
        elif newest.get("loss") is not None:
            said.append(f"loss {number(newest['loss'])}")
    else:
        said.append(str(newest.get("phase") or ""))
        if newest.get("unit") == "bytes" and newest.get("total"):
            said += moved(newest)
        elif newest.get("total"):
            said.append(f"{newest.get('done', 0):,} of {newest['total']:,} {newest.get('unit') or ''}".strip())
    if (left := duration(newest.get("seconds_left"))) and left != "0 s":
        said.append(f"{left} left")
    return [text for text in said if text]


def moved(progress: dict[str, Any]) -> list[str]:
    """Say how many bytes have arrived or were read, and how fast: 1.2 of 3.4 GB, 24.0 MB/s."""
    done, total = size(float(progress.get("done") or 0)), size(float(progress.get("total") or 0))
    same = done.split()[-1:] == total.split()[-1:]
    rate = progress.get("rate")
    return [f"{done.split()[0] if same else done} of {total}", f"{size(rate)}/s" if rate else ""]


def _model(scene: Scene) -> tuple[str, str]:
    if (view := scene.beside) is not None and view.config.kind == "download":
        done = view.percent()
        return "running", f"fetching {view.config.model.rsplit('/', 1)[-1]}{f', {share(done)}' if done else ''}"
    if not scene.model:
        return "empty", "pick one"
    facts = scene.chosen.get("facts") or {}
    if facts.get("model") != scene.model:
        return "ready", scene.model
    parameters = facts.get("parameters")
    name = str(facts.get("name") or scene.model).rsplit("/", 1)[-1]
    return "done", f"{name}{f', {amount(parameters)}' if parameters else ''}"


def _data(scene: Scene) -> tuple[str, str]:
    used = [scene.data(step) for step in ("train", "align")]
    rows = [f"{data['rows']:,} {'rows' if step == 0 else _word(data)}" for step, data in enumerate(used) if data]
    flagged = sum(int(data.get("flagged") or 0) for data in used)
    if not rows:
        return "empty", "none chosen"
    return "done", ", ".join([*rows, *([f"{flagged} flagged"] if flagged else [])])


def _word(data: dict[str, Any]) -> str:
    return WORDS.get(str(data.get("kind")), ("row", "rows"))[data["rows"] != 1]


def _run(scene: Scene, step: str, ready: str) -> tuple[str, str]:
    """Give the state and line that all three steps with runs share."""
    view = scene.line.get(step)
    if view is None:
        return "empty", ready
    what = short(view.config.method) if view.config.kind == "train" else "Export"
    if view.status == "running":
        done = view.percent()
        return "running", f"{what} running{f', {share(done)}' if done is not None else ''}"
    if view.status == "finished":
        return "done", f"{what} done"
    if view.status in ("queued", "new"):
        return "ready", f"{what} {'waits' if view.status == 'queued' else 'not begun'}"
    state = "failed" if view.status == "failed" else "stopped"
    return state, f"{what} {view.status}"


def _train(scene: Scene) -> tuple[str, str]:
    ready = "ready to start" if scene.model and scene.data("train") else "needs a model and data"
    state, line = _run(scene, "train", ready)
    if state == "empty" and ready.startswith("ready"):
        return "ready", ready
    view = scene.line.get("train")
    loss = (view.result().get("metrics") or {}).get("loss") if view else None
    return state, f"{line}, loss {number(loss)}" if state == "done" and loss is not None else line


def _align(scene: Scene) -> tuple[str, str]:
    taught = (found := scene.line.get("train")) is not None and found.status == "finished"
    ready = "ready to start" if scene.model and scene.data("align") else "next: preferences"
    ready = ready if taught or scene.data("align") else "after training"
    state, line = _run(scene, "align", ready)
    if state == "empty":
        return ("ready" if ready == "ready to start" else "empty"), ready
    view = scene.line.get("align")
    result = view.result() if view else {}
    margin, held = (result.get("metrics") or {}).get("rewards/margins"), result.get("heldout") or {}
    if state == "done" and margin is not None:
        return state, f"{line}, margin {number(margin)}"
    if state != "done" or (after := held.get("after")) is None:
        return state, line
    return state, f"{line}, {measure(held.get('name'))} {number(after)}"


def _export(scene: Scene) -> tuple[str, str]:
    trained = any(
        (view := scene.line.get(step)) is not None and view.status == "finished" for step in ("train", "align")
    )
    state, line = _run(scene, "export", "ready to start" if trained else "after training")
    if state == "empty" and trained:
        return "ready", line
    view = scene.line.get("export")
    if state == "done" and view is not None:
        result = view.result()
        kinds = ", ".join(str(file.get("type")) for file in result.get("files") or [])
        held = (result.get("certificate") or {}).get("ok")
        return ("failed" if held is False else "done"), f"{kinds}, {'does not hold' if held is False else 'checked'}"
    return state, line


def _chat(scene: Scene) -> tuple[str, str]:
    if not any(not source.base for source in chatpick.sources(scene)):
        return "empty", "after training"
    asked = len(talk.turns())
    return ("done", f"{asked:,} question{'s' if asked != 1 else ''} asked") if asked else ("ready", "ask both")


def _evaluate(scene: Scene) -> tuple[str, str]:
    from studio.ui import evalview  # which needs this

    return evalview.line(scene)


def _lab(scene: Scene) -> tuple[str, str]:
    from studio.ui import labview, recipeview  # which need this

    return recipeview.line(scene) or labview.line(scene)


def _feedback(scene: Scene) -> tuple[str, str]:
    from studio.ui import setsview  # which needs this

    return setsview.line(scene)


_STATES = {
    "model": _model,
    "data": _data,
    "train": _train,
    "align": _align,
    "feedback": _feedback,
    "evaluate": _evaluate,
    "lab": _lab,
    "export": _export,
    "chat": _chat,
}
