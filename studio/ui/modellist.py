"""The list of base models: what each needs on this machine, which are here, which one is shown. Pure drawing."""

from __future__ import annotations

from studio import hardware
from studio.models import catalogue
from studio.ui import controls, machines, parts
from studio.ui.live import Scene
from studio.ui.parts import esc
from studio.ui.picking import Known, Pick, known, others, search, shown

DO = "st-model-do"
TONES = {"fits": "good", "tight": "warn", "too large": "bad"}
_COLUMNS = (
    ("Name", ""),
    ("Size", "st-num st-c-size"),
    ("Needs", "st-c-need"),
    ("", "st-c-fits"),
    ("Licence", "st-c-licence"),
)
#: Licences as their owners write them.
_LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "gemma": "Gemma",
    "llama3.1": "Llama 3.1",
    "llama3.2": "Llama 3.2",
    "qwen-research": "Qwen Research",
}


def listing(scene: Scene) -> str:
    """Draw the list, as far as the query lets it."""
    query = Pick.at(scene.chosen).query
    found = [entry.id for entry in search(query)]
    extra = [name for name in others(scene) if all(word in name.lower() for word in query.lower().split())]
    models = [*found[:1], *extra, *found[1:]] if found[:1] == ["starter"] else [*extra, *found]
    if not models:
        return _head(0, query) + (_hits(scene) or _nothing(query))
    at = shown(scene)
    first = at if at in models else models[0]
    rows = "".join(_row(scene, known(scene, model), model == at, model == first) for model in models)
    heads = "".join(f'<th class="{style}">{text}</th>' for text, style in _COLUMNS)
    table = (
        f'<table class="st-table st-models"><thead><tr>{heads}</tr></thead><tbody data-st-rows>{rows}</tbody></table>'
    )
    return _head(len(models), query) + table + _hits(scene)


def _hits(scene: Scene) -> str:
    """Draw what the hub has for the query beside the list."""
    listed = {entry.id for entry in catalogue.entries()}
    rows = []
    for hit in Pick.at(scene.chosen).hits:
        model = str(hit.get("model"))
        if model in listed:
            continue
        row = "st-row st-chosen" if model == shown(scene) else "st-row"
        button = controls.button(
            model, {"show": model}, to=DO, style="st-row-name", extra='data-st-go="#st-model-card"'
        )
        licence = _LICENCES.get(str(hit.get("licence")), str(hit.get("licence") or "not stated"))
        rows.append(
            f'<tr class="{row}"><td>{button}<small>{int(hit.get("downloads") or 0):,} downloads in a month</small></td>'
            f'<td class="st-c-licence">{esc(licence, 80)}</td></tr>'
        )
    table = f'<table class="st-table st-models"><tbody data-st-rows>{"".join(rows)}</tbody></table>'
    return f'<h3 class="st-hub">On the hub</h3>{table}' if rows else ""


def _head(count: int, query: str) -> str:
    total = len(catalogue.entries())
    clear = controls.button("Show all", {"query": ""}, to=DO, style="st-place")
    aside = (
        f"“{esc(query, 40)}”: {count} of {total} · {clear}"
        if query.strip()
        else "memory to train an adapter, 1,024 tokens a row"
    )
    return f'<div class="st-head"><h2>Models</h2><div class="st-aside">{aside}</div></div>'


def _nothing(query: str) -> str:
    if any(sign in query for sign in "/\\~"):
        button = parts.press("st-model-check", "Look it up")
        return parts.empty(
            "Not in this list", "A hub id, a link or a folder is looked up when you press Enter.", button
        )
    why = "Write another word, or a size such as 3b or < 4b; or press Enter, and the hub is asked."
    return parts.empty("No model of this list fits", why, parts.press("st-model-check", "Search the hub"))


def _row(scene: Scene, it: Known, chosen: bool, first: bool) -> str:
    need, said = needs(it)
    size = parts.amount(float(it.get("parameters") or 0)) if it.get("parameters") else ""
    licence = licence_of(it)
    under = [_kind(it), f"{context(it.get('context'))} context" if it.get("context") else ""]
    trains, _ = it.trains
    limit = "refused" if it.refusal and it.entry else "" if trains else "preview only"
    narrow = f'<span class="st-narrow-only"> · {esc(size)}{f" · {esc(licence)}" if licence else ""}</span>'
    label = f"{it.name}, {size}, {said or 'memory not known yet'}"
    button = controls.button(
        it.name,
        {"show": it.model},
        to=DO,
        style="st-row-name",
        aria=label,
        extra=f'title="{esc(f"{it.model}{chr(10)}{said}".strip())}" aria-pressed="{str(chosen).lower()}" '
        f'tabindex="{0 if first else -1}" data-st-go="#st-model-card"',
    )
    lines = " · ".join(esc(text) for text in (*under, _here(scene, it)) if text)
    gate = parts.pill("licence first", "plain") if it.gated and not it.here else ""
    return (
        f'<tr class="st-row{" st-chosen" if chosen else ""}"><td>{button}<small>{lines}{narrow}</small></td>'
        f'<td class="st-num st-c-size">{esc(size)}</td><td class="st-c-need">{need}</td>'
        f'<td class="st-c-fits">{fits(it)}{f"<small>{limit}</small>" if limit else ""}'
        f'<span class="st-narrow-only">{gate}</span></td>'
        f'<td class="st-c-licence">{esc(licence)}{gate}</td></tr>'
    )


def needs(it: Known) -> tuple[str, str]:
    """Draw the memory that training it needs as a bar of what is here; also in words, part by part."""
    on, shape = machines.now(), it.shape
    if on is None or shape is None:
        return "", ""
    need = hardware.estimate_here(shape, on)
    have = machines.memory(on)
    tone = TONES[hardware.verdict(need, on)]
    width = min(100.0, 100 * need.total / have) if have else 100.0
    bar = f'<div class="st-need"><i class="st-{tone}" style="width:{width:.0f}%"></i></div>'
    words = ", ".join(f"{name} {value:.1f}" for name, value in need.parts().items())
    return f"{bar}<small>{need.total:.1f} GB</small>", f"needs {need.total:.1f} of {have:.1f} GB: {words}"


def fits(it: Known) -> str:
    """Draw whether it fits on this machine."""
    on, shape = machines.now(), it.shape
    if on is None or shape is None:
        return ""
    word = hardware.verdict(hardware.estimate_here(shape, on), on)
    return parts.pill(word, TONES[word])


def context(tokens: object) -> str:
    """Write a number of tokens as people do: 512, 8k, 128k."""
    count = int(str(tokens))
    return f"{count // 1024}k" if count >= 1024 else str(count)


def licence_of(it: Known) -> str:
    """Give the licence as its owner writes it."""
    said = str(it.get("licence") or "")
    return _LICENCES.get(said.lower(), said)


def _kind(it: Known) -> str:
    if it.model == "starter":
        return "ships with Studio"
    return it.entry.kind if it.entry is not None else "yours"


def _here(scene: Scene, it: Known) -> str:
    if it.model == scene.model:
        return "in use"
    return "on this machine" if it.here and it.model != "starter" else ""
