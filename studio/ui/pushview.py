"""Drawing of the export page's push to the hub: what would be sent, whether the hub knows us, how it goes, the link."""

from __future__ import annotations

import os
from typing import Any

from studio.errors import StudioError
from studio.export import push
from studio.models import hub
from studio.ui import controls, kit, modelcard, parts
from studio.ui.live import Scene, View
from studio.ui.parts import esc

DO = "st-push-do"
#: What can be pushed, as the page names it.
WHAT = {"gguf": "GGUF files", "adapter": "Adapter", "merged": "Merged, 16 bits"}
_MOST = 6
_CARD = "And a model card: what it was made of, settings, figures, certificate. No row of your data is in it."
_LOGIN = "hf auth login"


def source(scene: Scene) -> View | None:
    """Give what is pushed: the export that is shown, else the newest run that was aligned or taught."""
    shown = [scene.line.get("export"), *(view for step in ("align", "train") for view in scene.of_step(step))]
    return next((view for view in shown if view is not None and view.status == "finished"), None)


def offers(scene: Scene) -> list[str]:
    """Name the forms in which it can be pushed."""
    view, found = source(scene), []
    if view is None:
        return []
    for what in WHAT:
        try:
            push.check_source(view.run, what)
        except StudioError:
            continue
        found.append(what)
    return found


def chosen(scene: Scene) -> str:
    """Give the form that is chosen, the first one unless another was; "" where none can be pushed."""
    offered = offers(scene)
    picked = str((scene.chosen.get("push") or {}).get("what") or "")
    return picked if picked in offered else next(iter(offered), "")


def newest(scene: Scene) -> View | None:
    """Give the newest push of the chosen model."""
    return next((view for view in scene.views if view.config.kind == "push" and view.config.model == scene.model), None)


def sent(scene: Scene) -> str:
    """Draw what would be sent, with its sizes."""
    view, what = source(scene), chosen(scene)
    if view is None or not what:
        return ""
    try:
        files = push.planned(view.run, what)
    except (StudioError, OSError) as error:
        return kit.explain(error) if isinstance(error, StudioError) else ""
    rows = [(name, parts.size(count)) for name, count in files[:_MOST]]
    if len(files) > _MOST:
        rows.append((f"{len(files) - _MOST} more", parts.size(sum(count for _, count in files[_MOST:]))))
    total = parts.size(sum(count for _, count in files))
    return (
        f'<div class="st-sent"><p><b>{esc(view.config.title, 60)}</b>, {total}</p>'
        f"{parts.facts(rows)}"
        f"{parts.note(_CARD)}</div>"
    )


def card(scene: Scene) -> str:
    """Draw how a push goes or ended; before one, what is missing for it."""
    view = newest(scene)
    if view is not None and view.running:
        stop = controls.button("Stop the push", {"do": "stop"}, to=DO, disabled=view.run.should_stop())
        return modelcard.bar(view, _name(view), "preparing the files") + parts.actions(stop)
    if missing := _missing():
        return missing
    return _ended(view) if view is not None else ""


def ready(scene: Scene) -> bool:
    """Tell whether a push can begin."""
    view = newest(scene)
    return bool(offers(scene)) and not (view is not None and view.running) and not _missing()


def _missing() -> str:
    """Say why nothing can be sent yet: the hub is switched off, or does not know who sends."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return parts.problem(
            "Asking the hub is switched off.",
            "Start Studio without --offline and without HF_HUB_OFFLINE.",
            head="Nothing can be sent",
        )
    if hub.known():
        return ""
    steps = (
        f"<li><span>Run this once in a terminal, with a token that may write; the hub's own tool keeps it. "
        f"{parts.code(_LOGIN)}</span>{parts.copy_button(_LOGIN)}</li>"
        "<li><span>Or start Studio with the token in HF_TOKEN. Studio itself never keeps or shows it.</span></li>"
    )
    return (
        f'<section class="st-card st-asked" role="status"><h2>The hub does not know you yet</h2>'
        f'<ol class="st-steps">{steps}</ol></section>'
    )


def _name(view: View) -> str:
    return f"Sending to {view.config.options.get('repo')}"


def _ended(view: View) -> str:
    """Draw what came of the newest push."""
    if view.status == "failed":
        return parts.problem_from(view.error, head="The push failed", details=f"The worker's log: {view.run.log}")
    if view.status == "interrupted":
        why = "The machine was turned off, or the system ended it."
        return parts.problem(why, "Push again: only the rest is sent.", head="The push was interrupted")
    if view.status == "stopped":
        said = "The push was stopped; the repository is as it was. What has arrived is kept: push again for the rest."
        return parts.note(said)
    return _done(view.result()) if view.status == "finished" else ""


def _done(result: dict[str, Any]) -> str:
    """Draw the link to what is on the hub now."""
    url, files = str(result.get("url") or ""), result.get("files") or []
    if not url.startswith(("https://", "http://")):
        return ""
    said = f"{len(files)} files, {parts.size(float(result.get('bytes') or 0))}, commit {str(result.get('commit'))[:7]}"
    link = f'<a href="{esc(url)}" target="_blank" rel="noopener noreferrer">{esc(url.partition("://")[2], 120)}</a>'
    return (
        f'<div class="st-pushed" role="status">{parts.pill("on the hub", "good")} {link}'
        f'<span class="st-muted">{esc(said)}</span>{parts.copy_button(url, "Copy link")}</div>'
    )
