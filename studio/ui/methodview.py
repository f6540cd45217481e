"""Drawing of the choice of a method, of what it will need in memory, and of what still stands in its way."""

from __future__ import annotations

import inspect
from typing import Any

from studio import hardware
from studio.methods import Method, adviser
from studio.ui import choosing, controls, looking, machines, parts, picking
from studio.ui.live import Scene
from studio.ui.modellist import TONES
from studio.ui.parts import esc


def field_of(step: str) -> str:
    """Name the hidden field that a page's drawn controls write to."""
    return f"st-{step}-do"


def methods(scene: Scene, step: str) -> str:
    """Draw the page's methods: the proposed one first with its reason, then what fits the data, then the rest."""
    found, advice, chosen = choosing.of_page(step), choosing.advice(scene, step), choosing.method(scene, step)
    if len(found) < 2:
        return _warnings(advice)
    kind = str(scene.data(step).get("kind") or "")
    order = [advice.method] if advice.method else []
    order += sorted((n for n in found if n not in order), key=lambda n: bool(kind) and not _fits(scene, step, found[n]))
    rows = "".join(_row(scene, step, found[name], advice, name == chosen.name) for name in order)
    return f'<ul class="st-methods" data-st-rows aria-label="Method">{rows}</ul>{_warnings(advice)}'


def _fits(scene: Scene, step: str, method: Method) -> bool:
    return bool(choosing.data(scene, step, method))


def _row(scene: Scene, step: str, method: Method, advice: adviser.Advice, chosen: bool) -> str:
    title, _, short = method.title.rstrip(")").rpartition(" (")
    name = controls.button(
        title or method.title,
        {"do": "method", "name": method.name},
        to=field_of(step),
        style="st-row-name",
        extra=f'aria-pressed="{str(chosen).lower()}"{"" if chosen else " tabindex=-1"}',
    )
    said = [f"<small>{esc(method.about or adviser.needs(method))}</small>"]
    pill = ""
    if method.name == advice.method:
        pill = parts.pill("suggested", "good")
        said.append(f'<small class="st-reason">{esc(advice.reason)}</small>')
    elif scene.data(step) and not _fits(scene, step, method):
        pill = parts.pill("other data", "plain")
        said.append(f'<small class="st-needs">{esc(choosing.missing(scene, step, method))}</small>')
    elif not scene.data(step):
        said.append(f"<small>Needs {esc(adviser.needs(method))}.</small>")
    tag = f'<span class="st-muted">{esc(short)}</span>' if title else ""
    return (
        f'<li class="st-row st-method{" st-chosen" if chosen else ""}"><i class="st-dot" aria-hidden="true"></i>'
        f"<div><p>{name} {tag} {pill}</p>{''.join(said)}</div></li>"
    )


def _warnings(advice: adviser.Advice) -> str:
    if not advice.warnings:
        return ""
    lines = "".join(f"<li>{parts.pill('look', 'warn')}<span>{esc(text, 400)}</span></li>" for text in advice.warnings)
    return f'<ul class="st-list st-advised">{lines}</ul>'


def why_not(scene: Scene, step: str) -> str:
    """Draw why the next run cannot start yet."""
    missing = choosing.missing(scene, step, choosing.method(scene, step))
    return f'<p class="st-note st-why" role="status">{esc(missing)}</p>' if missing and scene.model else ""


def memory(scene: Scene, step: str) -> str:
    """Draw what the next run needs beside what this machine has."""
    on, shape = machines.now(), picking.known(scene, scene.model).shape if scene.model else None
    if on is None or shape is None:
        return ""
    method = choosing.method(scene, step)
    need = hardware.estimate_here(shape, on, **settings(scene, method))
    have, word = machines.memory(on), hardware.verdict(need, on)
    width = min(100.0, 100 * need.total / have) if have else 100.0
    rows = [(name[:1].upper() + name[1:], f"{value:.2f} GB") for name, value in need.parts().items() if value >= 0.005]
    rows.append(("Together", f"<b>{need.total:.1f} GB</b> of {have:.1f} GB"))
    bar = f'<div class="st-need"><i class="st-{TONES[word]}" style="width:{width:.0f}%"></i></div>'
    tip = "" if word == "fits" else parts.note("Shorter rows (max length) or a smaller micro batch size take less.")
    body = f'{bar}<div class="st-memory">{parts.facts(rows)}</div>{tip}'
    return parts.card("Memory it will take", body, parts.pill(word, TONES[word]), "st-memory-card")


def settings(scene: Scene, method: Method) -> dict[str, Any]:
    """Give the settings of the next run that its memory follows from, as far as the estimate knows them."""
    known = {*inspect.signature(hardware.estimate).parameters, *inspect.signature(hardware.estimate_here).parameters}
    names = {s: s for s in known} | {"checkpointing": "gradient_checkpointing"}
    fields = method.Config.__dataclass_fields__
    found = {
        part: value
        for part, name in names.items()
        if part in known and name in fields and (value := looking.setting(scene, method, name)) not in (None, "")
    }
    return {**found, "method": method.name} if "method" in known else found
