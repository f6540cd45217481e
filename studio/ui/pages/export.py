"""Export: one file that runs elsewhere, with its certificate and the two lines for Ollama."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr

from studio import runs
from studio.errors import InputError, ModelError, RunError
from studio.export import ollama
from studio.models import elsewhere
from studio.models.quants import TYPES
from studio.ui import choice, exportview, kit, live, pushing, qualityview
from studio.ui.pages.tune import header

#: Where an importance matrix comes from, as options["imatrix"] has it; FROM_FILE stands for the file's place.
FROM_FILE = "file"
#: The settings with what they are at first, in the order in which they are laid out; the types stand in three groups.
_NAMES: dict[str, Any] = {"adapter": "", "out": "", "quality": False, "matrix": "", "matrix_file": ""}
_NAMES |= {"recommended": ["Q8_0"], "small": [], "other": []}
MATRICES = [("Where a type needs one", ""), ("For all that take one", "auto"), ("From a file", FROM_FILE)]


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "A file you can trust", "Merged into the 16-bit base, written as GGUF, then checked by opening the file itself."
    )
    trouble = kit.slot()
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"):
            tools.live(kit.slot(), exportview.going)
            tools.live(kit.slot(), exportview.files)
            tools.live(kit.slot(), exportview.quality)
            tools.live(kit.slot(), exportview.certificate)
            with gr.Accordion("Settings", elem_classes="st-card st-settings st-keeps") as box:
                source = gr.Dropdown(
                    [], label="Trained run", info="The newest aligned run, else the newest taught one."
                )
                adapter = gr.Textbox(
                    label="Or an adapter made elsewhere",
                    placeholder="a folder with adapter_config.json, or a hub id",
                    info="A LoRA of the picked model, as peft and others save it; one of the hub that was fetched "
                    "before. It is exported in place of a run.",
                    max_lines=1,
                    elem_id="st-export-adapter",
                )
                picked = [_group("recommended", ["Q8_0"])]
                with gr.Accordion("More types", open=False, elem_classes="st-drawer"):
                    picked += [_group("small"), _group("other")]
                about = kit.slot(qualityview.chosen(["Q8_0"], None))
                quality = gr.Checkbox(
                    label="Measure quality against size",
                    elem_id="st-quality",
                    info="Each file against the 16-bit one, on your held-out rows; takes a few minutes.",
                )
                matrix = gr.Radio(
                    MATRICES,
                    value="",
                    label="Importance matrix",
                    elem_id="st-imatrix",
                    info="Measured on your training rows, which takes a minute or more; better files below 6 bits.",
                )
                matrix_file = gr.Textbox(
                    label="Its file",
                    placeholder="/home/me/imatrix.gguf",
                    info="As llama-imatrix or Studio writes it; used for all types that take one.",
                    max_lines=1,
                    visible=False,
                    elem_id="st-imatrix-file",
                )
                out = gr.Textbox(
                    label="Folder", placeholder="in the run's own folder", max_lines=1, elem_id="st-export-out"
                )
                settings = [adapter, out, quality, matrix, matrix_file, *picked]
                tools.keep(_keep, settings)
                tools.restore(settings, _kept)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right"):
            tools.live(kit.slot(), exportview.ollama)
            making = kit.slot()
            make = gr.Button("Create in Ollama", elem_id="st-ollama", elem_classes="st-small", visible=False)
            tools.live(kit.slot(), exportview.paths_card)
            pushing.part(tools)
            with gr.Row(elem_classes="st-buttons"):
                tools.live(kit.slot(), exportview.onward)
                again = gr.Button("Resume", elem_id="st-export-resume", elem_classes="st-small st-last", visible=False)
                start = gr.Button("Export", elem_id="st-export-start", variant="primary", elem_classes="st-small")
    tools.live(kit.slot(), exportview.command)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    source.change(_offer, [source, *picked], [*picked, about], queue=False, **quiet)
    for group in picked:
        group.change(_about, [source, *picked], about, queue=False, **quiet)
    matrix.change(lambda asked: gr.update(visible=asked == FROM_FILE), matrix, matrix_file, queue=False, **quiet)
    tools.live(source, _sources)
    tools.live(box, _box)
    tools.live(start, _start)
    tools.live(make, lambda s: gr.update(visible=exportview.modelfile(s) is not None and ollama.binary() is not None))
    tools.live(again, lambda s: gr.update(visible=s.running is None and kit.resumable(s.line.get("export"))))
    make.click(kit.edges(into_ollama), None, making, **quiet)
    tools.after(start.click(kit.edge(begin), [source, *settings], trouble, **quiet))
    tools.after(again.click(kit.edge(lambda: kit.resume("export")), None, trouble, **quiet))


def begin(source: str, adapter: str, out: str, quality: bool, matrix: str, matrix_file: str, *picked: list[str]) -> str:
    """Start the export of a trained run, or of an adapter made elsewhere where a folder is named."""
    view = _view(source)
    if view is None and not (adapter or "").strip():
        raise RunError(
            "No trained run is chosen.", "Train first, then choose the run here; or name the folder of an adapter."
        )
    types = _types(picked)
    if not types:
        raise RunError("No type is chosen.", "Tick at least one; Q8_0 is a good start.")
    folder = str(Path(out.strip()).expanduser()) if out and out.strip() else ""
    options = {"quants": types, "out": folder, "base": True, "quality": bool(quality)}
    options["imatrix"] = _matrix(matrix, matrix_file or "", types)
    kit.begin(_foreign(adapter.strip(), options) if view is None or (adapter or "").strip() else _ours(view, options))
    choice.update(runs={"export": None})
    return ""


def _keep(*values: Any) -> None:
    """Keep the settings, so that a reload shows them again."""
    choice.update(export=dict(zip(_NAMES, values, strict=True)))


def _kept(scene: live.Scene) -> list[Any]:
    """Give what the settings show: what was kept, as far as it still fits."""
    found = scene.chosen.get("export")
    kept = found if isinstance(found, dict) else {}
    shown = {name: kept.get(name, usual) for name, usual in _NAMES.items()}
    shown |= {name: usual for name, usual in _NAMES.items() if not isinstance(shown[name], type(usual))}
    if shown["matrix"] not in dict(MATRICES).values():
        shown["matrix"] = ""
    for group in qualityview.GROUPS:
        there = [key for _, key in qualityview.choices(group, None)]
        shown[group] = [one for one in shown[group] if one in there]
    return [*shown.values()]


def _matrix(asked: str, file: str, types: Sequence[str]) -> str:
    """Give what the export is told of an importance matrix; a file is read first. Raises InputError, ExportError."""
    if asked != FROM_FILE:
        return "auto" if asked == "auto" else ""
    if not file.strip():
        raise InputError("No file of an importance matrix is named.", "Write its whole path, or let one be made.")
    from studio.export import imatrix

    return imatrix.choose(file.strip().strip("'\""), types)[0]


def _ours(view: live.View, options: dict[str, Any]) -> runs.RunConfig:
    return runs.RunConfig("export", view.config.title, view.config.model, parent=str(view.run.dir), options=options)


def _foreign(name: str, options: dict[str, Any]) -> runs.RunConfig:
    """Make the export of an adapter's folder; it must fit the picked model. Raises ModelError."""
    folder, base = elsewhere.folder_of(name.strip("'\"")), live.look().model
    if folder is None:
        raise ModelError(f"There is no adapter in {name[:200]!r}.", "Choose the folder with adapter_config.json.")
    if not base:
        raise ModelError("No base is picked for the adapter.", "Pick the model that it was made for on the Model page.")
    elsewhere.inspect(folder, base)
    return runs.RunConfig("export", elsewhere.title(folder), base, options={**options, "adapter": str(folder)})


def into_ollama() -> Generator[str]:
    """Run `ollama create` on the export that is shown, and show what it says as it comes."""
    found = exportview.modelfile(live.look())
    if found is None:
        raise RunError("There is no export to bring into Ollama.", "Export first; its certificate must hold.")
    view, place = found
    name, said = exportview.model_name(view), list[str]()
    yield exportview.creating(name, ["..."])
    for line in ollama.create(name, place.parent):
        said.append(line)
        yield exportview.creating(name, said)
    yield exportview.creating(name, said, done=True)


def _group(name: str, value: Sequence[str] = ()) -> Any:
    label, info = qualityview.GROUPS[name]
    return gr.CheckboxGroup(
        qualityview.choices(name, None), value=list(value), label=label, info=info, elem_id=f"st-quants-{name}"
    )


def _view(source: str) -> live.View | None:
    return next((view for view in trained(live.look()) if view.id == source), None)


def _types(picked: Sequence[list[str]]) -> list[str]:
    """Put the ticks of all groups together, the largest type first."""
    ticked = {name for group in picked for name in group or []}
    return [name for name in TYPES if name in ticked]


def _offer(source: str, *picked: list[str]) -> list[Any]:
    """Write the predicted sizes of the chosen run's model to the types."""
    model = qualityview.model_of(_view(source))
    groups = [gr.update(choices=qualityview.choices(name, model)) for name in qualityview.GROUPS]
    return [*groups, qualityview.chosen(_types(picked), model)]


def _about(source: str, *picked: list[str]) -> str:
    return qualityview.chosen(_types(picked), qualityview.model_of(_view(source)))


def trained(scene: live.Scene) -> list[live.View]:
    """List the finished runs that can be exported: aligned ones first, then taught ones."""
    return [view for step in ("align", "train") for view in scene.of_step(step) if view.status == "finished"]


def _sources(scene: live.Scene) -> Any:
    found = trained(scene)
    names = [(f"{view.config.method.upper()} · {view.config.title} ({view.id[:15]})", view.id) for view in found]
    return gr.update(choices=names, value=names[0][1] if names else None)


def _start(scene: live.Scene) -> Any:
    done = bool(exportview.onward(scene)) and exportview.newest(scene)
    ready = scene.running is None and not scene.queue and bool(scene.model)
    return gr.update(
        value="Export again" if done else "Export",
        variant="secondary" if done else "primary",
        interactive=ready,
        visible=scene.running is None,
    )


def _box(scene: live.Scene) -> Any:
    view = scene.line.get("export")
    if view is None:
        return gr.update(label="Settings", open=bool(trained(scene)), visible=bool(scene.model))
    return gr.update(label="Settings of the next export", open=False, visible=not view.running)
