"""The card of the model that is shown: what is known of it, what it needs, how its download goes. Pure drawing."""

from __future__ import annotations

from studio import hardware
from studio.models import experts, family
from studio.ui import kit, machines, parts, rail, starter
from studio.ui.live import Scene, View
from studio.ui.modellist import TONES, fits, licence_of
from studio.ui.parts import esc
from studio.ui.picking import Known, known, shown


def it(scene: Scene) -> Known:
    """Give the model that is shown."""
    return known(scene, shown(scene))


def head(scene: Scene) -> str:
    """Draw the name and the state; the state alone is told to those who cannot see it."""
    model = it(scene)
    state = f'<div class="st-aside" role="status">{_state(scene, model)}</div>'
    return f'<div class="st-head"><h2>{esc(model.name)}</h2>{state}</div>'


def facts(scene: Scene) -> str:
    """Draw the facts."""
    return parts.facts(_facts(it(scene)))


def _state(scene: Scene, model: Known) -> str:
    if model.download is not None and model.download.running:
        return parts.pill("downloading")
    if not model.here:
        stopped = model.download is not None and model.download.status in ("interrupted", "stopped")
        return parts.pill("partly here", "warn") if stopped else parts.pill("not downloaded", "plain")
    if scene.model == model.model:
        return parts.pill("in use", "good")
    return parts.pill("ships with Studio" if model.model == starter.NAME else "on this machine", "plain")


def _facts(model: Known) -> list[tuple[str, str]]:
    """List what is known: after the download from its files, before it from the hub and the catalogue."""
    facts = model.facts
    size, exact = model.bytes
    parameters = parts.amount(float(model.get("parameters") or 0)) if model.get("parameters") else ""
    weights = ", ".join(text for text in (parts.size(size) if size else "", str(facts.get("dtype") or "")) if text)
    revision = str(facts.get("revision") or "")
    kind = str(model.get("architecture") or "").removesuffix("ForCausalLM")
    rows = [
        ("Hub id" if not model.here else "", parts.code(model.model) if model.entry is None or not model.here else ""),
        ("Architecture", esc(f"{kind}{f', {model.layers} layers' if model.layers else ''}") if kind else ""),
        ("Size", esc(" · ".join(t for t in (parameters, weights if exact else f"about {weights}") if t))),
        ("Context", f"{int(model.get('context')):,} tokens" if model.get("context") else ""),
        ("Template", esc(_template(model))),
    ]
    rows = [row for row in rows if row[0]]
    if facts:
        stops = facts.get("stop_tokens") or facts.get("stops") or []
        untrained = facts.get("untrained") or []
        rows += [
            ("Stops at", " ".join(parts.code(token) for token in stops[:4])),
            ("Never trained", _untrained(untrained)),
            ("Template problem", esc(facts.get("template_problem") or "", 600)),
        ]
    rows += [
        ("Training", esc(experts.ALONE if model.shape is not None and model.shape.experts else "")),
        ("Export", esc(_export(model))),
        ("Licence", esc(licence_of(model) or "not stated")),
        ("Revision", f'<code title="{esc(revision)}">{esc(revision[:7])}</code>' if revision else ""),
        ("Weights", _numbers(model)),
        ("Folder", _place(str(facts.get("folder") or ""))),
    ]  # fmt: skip
    return rows


def _place(folder: str) -> str:
    if not folder:
        return ""
    return f'<span class="st-clip"><code title="{esc(folder)}">{esc(folder)}</code>{parts.copy_button(folder)}</span>'


def _template(model: Known) -> str:
    """Say which template it has and where that came from; before the download, what its family's is."""
    facts = model.facts
    if facts.get("template"):
        source = str(facts.get("template_source") or "")
        own = facts["template"] == "its own"
        return f"its own, {source}" if own and source else str(facts["template"])
    if model.offer.get("template"):
        return "its own"
    if model.entry is None:
        return ""
    named = model.entry.family.lower()
    titles = [each.title for each in family.FAMILIES.values() if named.startswith(each.title.lower())]
    title = max(titles, key=len, default=model.entry.family)
    return f"{title}; read from its files once they are here"


def _untrained(tokens: list[str]) -> str:
    if not tokens:
        return ""
    count = f"{len(tokens)} control token{'s' if len(tokens) != 1 else ''}"
    return f'<span title="{esc(" ".join(tokens), 400)}">{count}, will be trained too</span>'


def _export(model: Known) -> str:
    if not model.get("architecture") or (model.refusal and not model.here):
        return ""
    trains, use = model.trains
    return "GGUF, all types" if trains else use


def _numbers(model: Known) -> str:
    view = model.numbers
    if not model.here or view is None or view.status != "finished":
        return ""
    return "every number was read, all are finite"


def memory(scene: Scene) -> str:
    """Draw what training an adapter on it needs, part by part."""
    model, on = it(scene), machines.now()
    shape = model.shape
    if on is None or shape is None:
        return ""
    need = hardware.estimate_here(shape, on)
    have = machines.memory(on)
    word = hardware.verdict(need, on)
    rows = [(name[:1].upper() + name[1:], f"{value:.2f} GB") for name, value in need.parts().items()]
    rows.append(("Together", f"<b>{need.total:.1f} GB</b> of {have:.1f} GB"))
    width = min(100.0, 100 * need.total / have) if have else 100.0
    bar = f'<div class="st-need"><i class="st-{TONES[word]}" style="width:{width:.0f}%"></i></div>'
    advice = "" if word == "fits" else parts.note(
        "A shorter max_length or a smaller micro_batch_size takes less; both are on the Train page."
        if need.weights + need.overhead < have
        else "Its weights alone do not fit. Choose a smaller model."
    )  # fmt: skip
    body = bar + f'<div class="st-memory">{parts.facts(rows)}</div>' + advice
    return parts.card("Memory to train it", body, fits(model), "st-memory-card")


def licence(scene: Scene) -> str:
    """Draw what has to be done before the hub gives a gated model out; the token itself is never asked for here."""
    model = it(scene)
    if model.here or not model.gated or model.refusal:
        return ""
    login = "hf auth login"
    steps = (
        f"<li><span>Open its page, sign in and accept the licence. {parts.code(model.page)}</span>"
        f"{parts.copy_button(model.page, 'Copy link')}</li>"
        f"<li><span>Run this once in a terminal; the hub's own tool keeps the token. {parts.code(login)}</span>"
        f"{parts.copy_button(login)}</li>"
    )
    name = licence_of(model)
    return parts.card("Licence first", f'<ol class="st-steps">{steps}</ol>', parts.pill(name, "plain") if name else "")


def progress(scene: Scene) -> str:
    """Draw how the download goes, or how it ended when the model is not here; also a look at every number."""
    model = it(scene)
    numbers = model.numbers
    if numbers is not None and model.here:
        if numbers.running:
            return bar(numbers, "Reading every number of the weights")
        if numbers.status == "failed":
            return parts.problem_from(numbers.error, head="The weights were looked at")
    view = model.download
    if view is not None and view.running:
        return bar(view, "Downloading")
    if model.refusal:
        return parts.problem_from(model.refusal, head="Studio cannot use this model")
    if view is None or model.here:
        return parts.problem_from(model.error) if model.error else ""
    arrived = ", ".join(rail.moved(view.progress)[:1]) if view.progress and view.progress.get("total") else ""
    kept = f"{arrived} are here and are not fetched again." if arrived else "What has arrived is kept."
    if view.status == "failed":
        return parts.problem_from(view.error, head="The download failed", details=f"The worker's log: {view.run.log}")
    if view.status == "interrupted":
        why = "The machine was turned off, or the system ended the download."
        return parts.problem(why, f"Go on with it: {kept}", head="The download was interrupted")
    return parts.note(f"The download was stopped. {kept}") if view.status == "stopped" else ""


def bar(view: View, title: str, before: str = "asking the hub") -> str:
    """Draw bar, bytes, rate and time left, and the last thing that the run wants to be known.

    `before` stands there while nothing is counted yet.
    """
    newest = view.newest() or {}
    done = view.percent() or 0.0
    said = [*rail.moved(newest)] if newest.get("total") else [before]
    if left := parts.duration(newest.get("seconds_left")):
        said.append(f"{left} left")
    if view.run.should_stop():
        said = [*said[:1], "stopping"]
    drawn = (
        f'<div class="st-bar" role="progressbar" aria-label="{esc(title)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * done:.0f}"><i style="width:{100 * done:.1f}%"></i></div>'
    )
    notes = [item for item in view.notes if item.get("level") == "warning"]
    trouble = parts.note(str(notes[-1].get("text"))) if notes and _recent(notes[-1], newest) else ""
    words = " · ".join(esc(text) for text in said if text)
    return f'<div class="st-fetch"><div><b>{esc(title)}</b><span>{words}</span></div>{drawn}{trouble}</div>'


def _recent(note: dict[str, object], newest: dict[str, object]) -> bool:
    """A warning is shown until the work has gone on for ten seconds after it."""
    return float(str(newest.get("time") or 0)) - float(str(note.get("time") or 0)) < 10


def world(scene: Scene) -> str:
    """Draw what the starter knows, and what to ask it."""
    if shown(scene) != starter.NAME:
        return ""
    asked = "".join(f"<li>{esc(question)}</li>" for question in starter.questions(4))
    ask = f"<h3>It can answer</h3><ul class='st-chips'>{asked}</ul>" if asked else ""
    return parts.card("What it knows", f"<p>{esc(starter.WORLD)}</p>{ask}")


def onward(scene: Scene) -> str:
    """Draw the way on, once the shown model is in use."""
    return parts.link("data", "Choose the data", filled=not leads(scene)) if scene.model == shown(scene) else ""


def leads(scene: Scene) -> bool:
    """Tell whether the page leads to the first assistant: until another model than the starter is used or shown."""
    return starter.leads(scene.model) and shown(scene) == starter.NAME


def label(scene: Scene) -> tuple[str, bool]:
    """Give the text of the one button, and whether it can be pressed; an empty text when there is none."""
    model = it(scene)
    if model.here:
        usable = not model.refusal and not model.error
        return ("" if scene.model == model.model else "Use this model"), usable
    view = model.download
    if (view is not None and view.running) or model.refusal or (model.error and model.entry is None):
        return "", False
    free = scene.beside is None
    if kit.resumable(view) or (view is not None and view.status == "failed"):
        return ("Try again" if view is not None and view.status == "failed" else "Go on with the download"), free
    size, exact = model.bytes
    return f"Download {'' if exact else 'about '}{parts.size(size)}" if size else "Download", free
