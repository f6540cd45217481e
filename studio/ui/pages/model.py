"""Model: pick what to teach; or let Studio run the whole path once on the starter."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from typing import Any

import gradio as gr

from studio import paths, runs
from studio.errors import ModelError
from studio.ui import choice, demo, kit, parts, starter
from studio.ui.live import Scene
from studio.ui.pages.tune import header
from studio.ui.parts import esc


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header("Pick a base model", "A base model has the knowledge and continues text. You will teach it to answer.")
    kit.slot(machine)
    trouble = kit.slot()
    with gr.Column(elem_classes="st-card st-hero"):
        tools.live(kit.slot(), demo.hero)
        with gr.Row(elem_classes="st-buttons"):
            tools.live(kit.slot(), demo.onward)
            go = gr.Button("Make your first assistant", elem_id="st-demo", variant="primary", elem_classes="st-small")
    tools.live(kit.slot(), demo.result)
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), _starter)
            use = gr.Button("Use the starter", elem_id="st-use-starter", elem_classes="st-hidden")
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            with gr.Column(elem_classes="st-card"):
                kit.slot('<div class="st-head"><h2>Another model</h2></div>')
                name = gr.Textbox(
                    label="Folder or hub id",
                    placeholder=starter.NEXT[0][0],
                    info="A hub id is downloaded once; a folder is used where it is.",
                    max_lines=1,
                    elem_id="st-model-name",
                )
                with gr.Row(elem_classes="st-buttons"):
                    check = gr.Button("Check", elem_id="st-model-check", elem_classes="st-small")
            found = kit.slot()
            tools.live(kit.slot(), _facts)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    tools.live(go, _button)
    tools.renew(go.click(kit.edge(first_assistant), None, trouble, **quiet))
    tools.renew(use.click(kit.edges(lambda: choose(starter.NAME)), None, trouble, **quiet))
    for event in (check.click, name.submit):
        tools.renew(event(kit.edges(choose), name, found, **quiet))
    tools.restore([name], lambda scene: ["" if scene.model == starter.NAME else scene.model])


def first_assistant() -> str:
    """Start the whole path on the starter."""
    if not starter.here():
        raise ModelError("The starter model is not there.", "Get it with the sources: models/starter/*.safetensors.")
    kit.begin(runs.RunConfig("demo", "First assistant", model=starter.NAME))
    _keep(starter.NAME)
    choice.update(data=starter.samples())
    return ""


def choose(name: str) -> Generator[str]:
    """Check a model and use it from now on."""
    name = name.strip()
    if not name:
        raise ModelError("No model is named.", f"Write a folder, or a hub id such as {starter.NEXT[0][0]}.")
    yield parts.card("", parts.note(f"Looking at {name}. A model that is not here yet is downloaded first."))
    _keep(name)
    yield ""


def _keep(name: str) -> None:
    """Look at a model, and keep it and its facts as the choice."""
    from studio.models.check import inspect

    info = inspect(name)
    kept = (
        "name",
        "architecture",
        "parameters",
        "layers",
        "context",
        "bytes",
        "dtype",
        "template",
        "family",
        "licence",
    )
    facts = {key: getattr(info, key) for key in kept}
    facts |= {"model": name, "stops": list(info.stop_tokens), "exportable": info.exportable, "folder": str(info.folder)}
    choice.update(model=name)
    choice.update(facts=facts)


def _button(scene: Scene) -> Any:
    again = scene.demo is not None and scene.demo.status == "finished"
    going = scene.running is not None
    return gr.update(
        value="Make it again" if again else "Make your first assistant",
        visible=not (scene.demo is not None and scene.demo.running),
        variant="secondary" if again or not starter.leads(scene.model) else "primary",
        interactive=not going,
    )


def machine() -> str:
    """Draw what this machine has."""
    from studio.hardware import machine as probe

    try:
        found = probe()
    except Exception as error:
        return kit.explain(error)
    free = shutil.disk_usage(paths.home()).free / 1e9
    gpu = f"{found.gpu}, {found.vram_gb:.0f} GB" if found.gpu else "no GPU: small models, slowly"
    words = [gpu, f"{found.cores} cores", f"{found.ram_gb:.0f} GB memory", f"{free:.0f} GB free"]
    words.append("4-bit works" if found.four_bit else "16 and 32 bit")
    words.append(f"llama.cpp {found.llama}" if found.llama else "no llama.cpp: see studio doctor")
    spans = "".join(f"<span>{esc(word)}</span>" for word in words)
    trouble = parts.pill("look", "warn") + f"<span>{esc(found.problem, 200)}</span>" if found.problem else ""
    return f'<section class="st-card st-line">{parts.pill("This machine")}{spans}{trouble}</section>'


def _starter(scene: Scene) -> str:
    """Draw the starter's card: what it knows, what to ask, where to go from there."""
    chosen = scene.model == starter.NAME
    asked = "".join(f"<li>{esc(q)}</li>" for q in starter.questions())
    ask = f"<h3>It can answer</h3><ul class='st-chips'>{asked}</ul>" if asked else ""
    rows = [(parts.code(name), *map(esc, more)) for name, *more in starter.NEXT]
    beyond = "<h3>Real models, when you have seen the path</h3>" + parts.table(
        ("Hub id", "Size", "Download", "Licence"), rows
    )
    button = "" if chosen else parts.actions(parts.press("st-use-starter", "Use the starter"))
    mark = parts.pill("chosen", "good") if chosen else esc("ships with Studio")
    return parts.card("Studio starter", f"<p>{esc(starter.WORLD)}</p>{ask}{beyond}{button}", mark)


def _facts(scene: Scene) -> str:
    """Draw the facts of the chosen model."""
    facts = scene.chosen.get("facts") or {}
    if not scene.model or facts.get("model") != scene.model:
        return ""
    rows = [
        ("Architecture", esc(f"{facts['architecture']}, {facts['layers']} layers")),
        ("Parameters", esc(parts.amount(facts["parameters"]))),
        ("Weights", esc(f"{parts.size(facts['bytes'])}, {facts['dtype']}")),
        ("Context", f"{facts['context']:,} tokens" if facts.get("context") else ""),
        ("Template", esc(facts["template"])),
        ("Stops at", " ".join(parts.code(token) for token in facts["stops"][:4])),
        ("Export", "GGUF, all types" if facts["exportable"] else "not this architecture yet"),
        ("Licence", esc(facts.get("licence") or "not stated")),
        ("Folder", parts.code(facts["folder"])),
    ]
    button = parts.actions(parts.link("data", "Choose the data", filled=not starter.leads(scene.model)))
    return parts.card(str(facts["name"]), parts.facts(rows), parts.pill("in use", "good")) + button
