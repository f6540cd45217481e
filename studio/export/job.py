"""The runs that make files: `merge` writes a model folder, `export` GGUF files with a certificate and a Modelfile."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from studio import disk, events, paths
from studio.disk import Need
from studio.errors import ExportError, RunError, Stopped
from studio.export import certificate, chatfiles, gguf, ollama, quantize
from studio.export import merge as merging
from studio.models import check, hub
from studio.render import encode
from studio.runs import Run
from studio.train.prepare import Trained


def merge(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Write base + adapter, or a whole trained model, as an ordinary 16-bit folder, at options["out"] or RUN/model."""
    base, adapter, _ = _source(run)
    out = _out(run, "model")
    staging = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(staging, ignore_errors=True)
    with _room([Need("the model in 16 bits", 2 * check.inspect(str(base)).parameters, out)], staging):
        text = f"Merging into the 16-bit base at {out}." if adapter else f"Writing the model in 16 bits at {out}."
        emit(events.event("note", level="info", code="merge", text=text))
        files = merging.write_model(base, adapter, staging)
        staging.rename(out)
    return {
        "out": str(out),
        "files": [{"path": str(out / f.name), "bytes": (out / f.name).stat().st_size} for f in files],
    }


def export(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Write one GGUF file per type, check each by opening it, and write the Modelfile.

    options: `quants` (types), `out` (a folder, by default RUN/files), `name`, `system`, `base` (also make the base's
    own file, for chatting side by side).
    """
    began = time.monotonic()
    base, adapter, about = _source(run)
    tuned, options = run.config.parent != "", run.config.options
    types = quantize.check_types(list(options.get("quants") or []))
    info = check.inspect(str(base))
    # A whole trained model carries its template; an adapter's base may be without the one that was trained on.
    renderer = encode.load(base, about.get("template", "") if adapter or not tuned else "")
    out = _out(run, "files", may_exist=True)
    name = paths.slug(str(options.get("name") or run.config.title), "model")
    needs = [Need(t, quantize.predicted_bytes(info.parameters, t), out) for t in wanted_types(types)]
    if options.get("base"):
        size = quantize.predicted_bytes(info.parameters, chatfiles.TYPE)
        needs.append(Need(f"the base's {chatfiles.TYPE}", size, paths.home()))

    def halt() -> None:
        if should_stop():
            raise Stopped("Stopped; files that were finished are kept.", "Export again to make the others.")

    out.mkdir(parents=True, exist_ok=True)
    with _room(needs):
        source_type = "F32" if types == ["F32"] else "F16"
        source = out / f"{name}-{source_type}.gguf"
        gguf.write(base, adapter, source, renderer, name=name, dtype=source_type, emit=emit, should_stop=halt)
        made = []
        progress = events.Progress(emit, "Quantizing", len(types), "files")
        for type_ in types:
            halt()
            path = out / f"{name}-{type_}.gguf"
            if type_ == "F32" and source_type != "F32":
                gguf.write(base, adapter, path, renderer, name=name, dtype="F32", should_stop=halt)
            elif path != source:
                quantize.quantize(source, path, type_)
            made.append((type_, path))
            progress.step()
        if source not in [path for _, path in made]:
            source.unlink()
    texts, prompts = _held_out(run.parent())
    reference = certificate.make_reference(base, adapter, renderer, texts, run.dir)
    progress = events.Progress(emit, "Checking the files", len(made), "files")
    files: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    try:
        for type_, path in made:
            halt()
            proof = certificate.make(path, type_, renderer, reference, prompts, tuned=tuned)
            written = certificate.write({**proof, "sha256": paths.sha256(path)}, path)
            files.append(
                {
                    "path": str(path),
                    "type": type_,
                    "bytes": path.stat().st_size,
                    "sha256": paths.sha256(path),
                    "certificate": str(written),
                }
            )
            lines += [{**line, "file": path.name} for line in proof["lines"]]
            progress.step()
    finally:
        if reference is not None:
            reference.logits.unlink(missing_ok=True)
    modelfile = out / "Modelfile"
    carried = tuned or not renderer.added
    text = ollama.modelfile(
        Path(files[0]["path"]).name,
        renderer.stop_tokens if carried else renderer.stop_tokens[-1:],
        template=renderer.source if carried else "",
        tokens=renderer.template.settings["tokens"],
        system=str(options.get("system") or ""),
        temperature=options.get("temperature"),
        num_ctx=options.get("num_ctx") or _window(run.parent(), info.context),
        license=ollama.license_of(Path(about.get("root", base))),
    )
    paths.write_text(modelfile, text)
    result: dict[str, Any] = {
        "run": run.id,
        "dir": str(out),
        "files": files,
        "modelfile": str(modelfile),
        "certificate": {"ok": all(line["ok"] is not False for line in lines), "lines": lines},
        "seconds": round(time.monotonic() - began, 1),
    }
    if options.get("base"):
        result["base_file"] = str(chatfiles.of_base(Path(about.get("root", base)), emit))
    return result


def _window(parent: Run | None, context: int) -> int | None:
    """Give the context to ask of Ollama: its usual 4096 tokens, or the longest row in training, if the model has it."""
    trained = int(parent.config.settings.get("max_length") or 0) if parent is not None else 0
    return min(context, max(4096, trained)) or None


def wanted_types(types: Sequence[str]) -> list[str]:
    """Give the types of all files that are there at once: those asked for, and the one that they are made from."""
    return list(dict.fromkeys([*types] if list(types) == ["F32"] else ["F16", *types]))


def _source(run: Run) -> tuple[Path, Path | None, dict[str, Any]]:
    """Find base and adapter: from the parent run (a whole trained model is a base without one), or the model alone."""
    parent = run.parent()
    if parent is None:
        return hub.resolve(run.config.model), None, {"template": str(run.config.options.get("template") or "")}
    trained = Trained.of(parent)
    if "scores" in trained.about:
        raise ExportError(
            f"Run {parent.id} is a reward model: it scores answers and writes none, so there is no file to chat with.",
            f"Train with its scores, as `--method ppo --reward {parent.id}`, and export that run.",
        )
    if not trained.base.is_dir():
        raise RunError(f"The base of {parent.id} is gone: {trained.base}", "Put the model back, or train again.")
    return trained.base, trained.adapter, trained.about


def _out(run: Run, default: str, may_exist: bool = False) -> Path:
    chosen = run.config.options.get("out")
    out = Path(chosen).expanduser().resolve() if chosen else run.dir / default
    if not may_exist and out.exists():
        raise RunError(f"{out} is there already.", "Choose another folder.")
    return out


def _held_out(parent: Run | None) -> tuple[list[tuple[str, str]], list[str]]:
    """Give the held-out prompts of the run with its answers, for comparing numbers and for asking the file."""
    result = parent.result() if parent is not None else None
    examples = result["behaviour"]["examples"] if result else []
    return [(e["prompt"], e["after"]) for e in examples], [e["prompt"] for e in examples]


@contextlib.contextmanager
def _room(needs: Sequence[Need], staging: Path | None = None) -> Iterator[None]:
    """Check for room on the disk before; a full disk becomes a clear error and leaves no half-written folder."""
    disk.check(needs, ExportError, "Free some, or let --out name a folder on a larger disk.")
    try:
        yield
    except OSError as error:
        if error.errno not in disk.FULL:
            raise
        raise ExportError("The disk is full.", "Free some disk and export again.") from None
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
