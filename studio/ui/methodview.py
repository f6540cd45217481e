"""Drawing of the next run: its method, what was typed and what is wrong with it, its memory, what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio import hardware
from studio.config import settings as settings_of
from studio.methods import Method, adviser, needs
from studio.models import catalogue
from studio.ui import choosing, controls, looking, machines, parts, picking, rail
from studio.ui.forms import AUTOMATIC, label, show
from studio.ui.live import Scene
from studio.ui.modellist import TONES
from studio.ui.parts import esc
from studio.ui.terminal import name_of


def field_of(step: str) -> str:
    """Name the hidden field that a page's drawn controls write to."""
    return f"st-{step}-do"


def set_of(step: str) -> str:
    """Name the hidden field of those controls that change what the page's inputs show."""
    return f"st-{step}-set"


def input_of(method: str, name: str) -> str:
    """Name the input of a setting in the form of a method."""
    return f"st-{method}-{name}"


def fold(scene: Scene, step: str) -> str:
    """Draw the line that opens and folds what the next run will be; before the first run there is nothing to fold."""
    if scene.line.get(step) is None:
        return ""
    is_open, method = choosing.unfolded(scene, step), choosing.method(scene, step)
    used, parent = choosing.data(scene, step, method), choosing.parent(scene, step)
    words = [rail.short(method.name), name_of(str(used.get("file") or "")) or "no data yet"]
    words += [f"from {parent.config.title}"] if parent is not None else []
    button = controls.button(
        "The next run",
        {"do": "fold", "open": "no" if is_open else "yes"},
        to=field_of(step),
        style="st-row-name",
        extra=f'aria-expanded="{str(is_open).lower()}"',
    )
    said = f'<span class="st-muted">{esc(" · ".join(words), 200)}</span>'
    return f'<section class="st-card st-row st-fold"><h2>{button}</h2>{said}<i aria-hidden="true"></i></section>'


def typed(scene: Scene, step: str) -> str:
    """Say what the user set, what it would be otherwise, and offer the way back."""
    method = choosing.method(scene, step)
    mine, usual = choosing.saved(scene, method.name), catalogue.settings(scene.model, method.name)
    said = []
    for s in settings_of(method.Config):
        if s.name in mine:
            otherwise = show(s, usual.get(s.name, s.default))
            said.append(f"{esc(label(s))} <b>{_word(mine[s.name])}</b>, not {_word(otherwise)}")
    if not said:
        return ""
    back = controls.button("Use the defaults", {"do": "defaults"}, to=set_of(step))
    return f'<div class="st-typed"><span>You set: {"; ".join(said)}.</span>{back}</div>'


def _word(value: Any) -> str:
    return esc(
        {"": AUTOMATIC, True: "on", False: "off"}.get(value, value) if isinstance(value, str | bool) else value, 80
    )


def wrong(scene: Scene, step: str) -> str:
    """Draw what has to be put right before the start; the page's script says each at its field, too."""
    found, method = choosing.problems(scene, step), choosing.method(scene, step)
    if not found:
        return ""
    names = {s.name: label(s) for s in settings_of(method.Config)} | {"reward": "Score the answers with"}
    lines = "".join(
        f"<li><b>{esc(names[name])}:</b> "
        f'<span data-st-wrong="{esc(_place(step, method, name))}">{esc(what, 200)}</span></li>'
        for name, what in found.items()
    )
    return f'<ul class="st-wrong" role="status">{lines}</ul>'


def _place(step: str, method: Method, name: str) -> str:
    return f"st-{step}-reward" if name == "reward" else input_of(method.name, name)


def methods(scene: Scene, step: str) -> str:
    """Draw the page's methods: the proposed one first with its reason, then what fits the data, then the rest."""
    found, advice, chosen = choosing.of_page(step), choosing.advice(scene, step), choosing.method(scene, step)
    warnings = _warnings([*advice.warnings, *_many(scene, step, chosen)])
    if len(found) < 2:
        return warnings
    kind = str(scene.data(step).get("kind") or "")
    order = [advice.method] if advice.method else []
    order += sorted((n for n in found if n not in order), key=lambda n: bool(kind) and not _fits(scene, step, found[n]))
    rows = "".join(_row(scene, step, found[name], advice, name == chosen.name) for name in order)
    return f'<ul class="st-methods" data-st-rows aria-label="Method">{rows}</ul>{warnings}'


def _fits(scene: Scene, step: str, method: Method) -> bool:
    return bool(choosing.data(scene, step, method))


def _row(scene: Scene, step: str, method: Method, advice: adviser.Advice, chosen: bool) -> str:
    title, _, short = method.title.rstrip(")").rpartition(" (")
    name = controls.button(
        title or method.title,
        {"do": "method", "name": method.name},
        to=set_of(step),
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


def _many(scene: Scene, step: str, method: Method) -> list[str]:
    """Say that the data has many more rows than the chosen method's defaults are for, unless they were changed."""
    data = choosing.data(scene, step, method)
    said = adviser.many(str(data.get("kind")), int(data.get("rows") or 0))
    return [said] if said and not method.head and "learning_rate" not in choosing.saved(scene, method.name) else []


def _warnings(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    lines = "".join(f"<li>{parts.pill('look', 'warn')}<span>{esc(text, 400)}</span></li>" for text in texts)
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
    values, longest = settings(scene, method), _longest(scene, step, method)
    short = longest is not None and longest < values["max_length"]
    counted = parts.note(f"Counted for the longest row of the data, {longest:,} tokens.") if short else ""
    need = needs.estimate_run(shape, method.name, values, on, longest)
    have, word = machines.memory(on), hardware.verdict(need, on)
    width = min(100.0, 100 * need.total / have) if have else 100.0
    rows = [(name[:1].upper() + name[1:], f"{value:.2f} GB") for name, value in need.parts().items() if value >= 0.005]
    rows.append(("Together", f"<b>{need.total:.1f} GB</b> of {have:.1f} GB"))
    bar = f'<div class="st-need"><i class="st-{TONES[word]}" style="width:{width:.0f}%"></i></div>'
    tip = "" if word == "fits" else parts.note("Shorter rows (max length) or a smaller micro batch size take less.")
    body = f'{bar}<div class="st-memory">{parts.facts(rows)}</div>{counted}{tip}'
    return parts.card("Memory it will take", body, parts.pill(word, TONES[word]), "st-memory-card")


def _longest(scene: Scene, step: str, method: Method) -> int | None:
    """Give the tokens of the longest row that the next run learns from; None where they were not counted as it will."""
    data = choosing.data(scene, step, method)
    known = method.kind == "offline" and data.get("kind") in method.kinds and data.get("longest")
    return int(data["longest"]) if known and data.get("counted_by") == looking.counted_by(scene, method) else None


def settings(scene: Scene, method: Method) -> dict[str, Any]:
    """Give the settings of the next run: its memory follows from some of them."""
    return {name: looking.setting(scene, method, name) for name in method.Config.__dataclass_fields__}
