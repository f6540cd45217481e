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
from studio.export import apart, certificate, chatfiles, gguf, ollama, quantize, reference
from studio.export import known as knowing
from studio.export import merge as merging
from studio.export.known import Known
from studio.export.order import Order
from studio.models import check
from studio.runs import Run
from studio.train.prepare import Trained


def merge(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Write base + adapter, or a whole trained model, as an ordinary 16-bit folder, at options["out"] or RUN/model."""
    known = knowing.of_job(run)
    base, adapter = known.base, known.adapter
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
    own file, for chatting side by side), `imatrix` ("auto" or a file, for all types that take one; by default one is
    made where a type needs it), `apart` (also base and adapter as two files), `quality` (measure quality against size
    on held-out rows).
    """
    began = time.monotonic()
    options, parent = run.config.options, run.parent()
    known = knowing.of_job(run)
    base, adapter, renderer = known.base, known.adapter, known.renderer
    info = check.inspect(str(base))
    out = _out(run, "files", may_exist=True)
    name = paths.slug(str(options.get("name") or run.config.title), "model")
    order = Order.of(run, base, renderer, emit, should_stop)
    if options.get("apart"):
        apart.check(known)
    if options.get("system") and known.chats and renderer.template.system == "moved":
        raise ExportError(
            "The model's chat template has no place for a system text: Ollama could render no prompt with one.",
            "Leave the system text out, or write it into the questions.",
        )
    needs = order.needs(out)
    if options.get("base"):
        size = quantize.predicted_bytes(base, chatfiles.TYPE)
        needs.append(Need(f"the base's {chatfiles.TYPE}", size, paths.home()))

    def halt() -> None:
        if should_stop():
            raise Stopped("Stopped; files that were finished are kept.", "Export again to make the others.")

    out.mkdir(parents=True, exist_ok=True)
    with _room(needs):
        writing: dict[str, Any] = {"name": name, "tuned": known.tuned, "emit": emit, "should_stop": halt}

        def write(path: Path, type_: str) -> None:
            gguf.write(base, adapter, path, renderer, dtype=type_, durable=type_ in order.types, **writing)

        made = order.make(out, name, write, emit, should_stop)
    root = Trained.of(parent).root if parent is not None else base
    told = {
        "template": renderer.source if known.chats else "",
        "tokens": renderer.template.settings["tokens"],
        "system": str(options.get("system") or ""),
        "temperature": options.get("temperature"),
        "num_ctx": options.get("num_ctx") or _window(parent, info.context),
        "license": ollama.license_of(root),
    }
    compared, two = reference.make(known, run.dir), None
    try:
        files, lines = _proven(run, known, compared, made, order, emit, halt)
        if options.get("apart"):
            two = apart.write(known, out, name, emit, **told)
            lines.append({**apart.proof(two, compared), "file": Path(two["path"]).name})
    finally:
        if compared is not None:
            compared.remove()
    modelfile = out / "Modelfile"
    stops = renderer.stop_tokens if known.chats else renderer.stop_tokens[-1:]
    paths.write_text(modelfile, ollama.modelfile(Path(files[0]["path"]).name, stops, **told))
    result: dict[str, Any] = {
        "run": run.id,
        "dir": str(out),
        "files": files,
        "modelfile": str(modelfile),
        "certificate": {"ok": all(line["ok"] is not False for line in lines), "lines": lines},
        **order.result(),
        **({"adapter": two} if two else {}),
        "seconds": round(time.monotonic() - began, 1),
    }
    if options.get("base"):
        result["base_file"] = str(chatfiles.of_base(root, emit))
    return result


def _proven(
    run: Run,
    known: Known,
    compared: reference.Reference | None,
    made: Sequence[tuple[str, Path]],
    order: Order,
    emit: events.Emit,
    halt: Callable[[], None],
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Make each file's certificate and write it beside; gives the files and all lines, each with its file."""
    progress = events.Progress(emit, "Checking the files", len(made), "files")
    files: list[dict[str, Any]] = []
    lines: list[dict[str, Any]] = []
    origin = knowing.about(known)
    for type_, path in made:
        halt()
        proof = certificate.stamped(certificate.make(path, known, compared), path, origin)
        about = {
            "path": str(path),
            "type": type_,
            "bytes": path.stat().st_size,
            "sha256": proof["sha256"],
            "certificate": str(certificate.write({**proof, "run": run.id}, path)),
        }
        files.append({**about, **order.about(type_)})
        lines += [{**line, "file": path.name} for line in proof["lines"]]
        progress.step()
    return files, lines


def _window(parent: Run | None, context: int) -> int | None:
    """Give the context to ask of Ollama: its usual 4096 tokens, or the longest row in training, if the model has it."""
    trained = int(parent.config.settings.get("max_length") or 0) if parent is not None else 0
    return min(context, max(4096, trained)) or None


def _out(run: Run, default: str, may_exist: bool = False) -> Path:
    chosen = run.config.options.get("out")
    out = Path(chosen).expanduser().resolve() if chosen else run.dir / default
    if not may_exist and out.exists():
        raise RunError(f"{out} is there already.", "Choose another folder.")
    return out


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
