"""The run that pushes a model to the hub: an adapter, merged weights or GGUF files, with a model card.

The transfer is huggingface-hub's own, with its own retries, in a child: a stop ends it at once. Files go one after the
other and are committed together at the end, so that the repository never shows half a model; what has arrived stays
with the hub, and the next push sends only what is missing (whole files, and with hf-xet pieces of them). The token is
read by huggingface-hub alone.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import disk, events, paths, runs
from studio.child import Child
from studio.disk import Need
from studio.errors import ExportError, InputError, ModelError, RunError, Stopped, StudioError
from studio.export import card as cards
from studio.export import merge as merging
from studio.export import send as sending
from studio.models import check, hub
from studio.runs import Run
from studio.train.prepare import ABOUT, Trained

WHAT = ("adapter", "merged", "gguf")
_REPO = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?[A-Za-z0-9](?:[\w.-]{0,94}[A-Za-z0-9_])?")
#: The longest silence of the child, in seconds: it tells how far it is several times a second.
_SILENCE = 300.0


def check_repo(repo: str) -> str:
    """Give a repository's name back if the hub could take it: [ORG/]NAME. Raises InputError."""
    name = repo.strip()
    if not _REPO.fullmatch(name) or "--" in name or ".." in name or name.endswith(".git") or len(name) > 96:
        raise InputError(
            f"{repo[:120]!r} cannot be the name of a repository.",
            "Write ORG/NAME, or NAME for your own account: letters, digits, dots, dashes and underscores.",
            field="repo",
        )
    return name


def check_source(source: Run, what: str) -> None:
    """Raise where a run cannot be pushed as `what`, before anything is made or sent. InputError, RunError."""
    if what not in WHAT:
        raise InputError(f"{what!r} cannot be pushed.", f"Choose one of: {', '.join(WHAT)}.", field="what")
    if what == "gguf":
        _export_of(source)
        return
    trained = _trained(source)
    if what == "adapter" and trained.adapter is None:
        raise RunError(f"All weights of {source.id} were trained: there is no adapter.", "Use --what merged.")
    if what == "adapter" and trained.base != trained.root:
        raise RunError(
            f"The adapter of {source.id} is for weights that were trained here, which the hub does not have.",
            "Use --what merged.",
        )
    if what == "merged" and "scores" in trained.about:
        raise RunError(f"{source.id} is a reward model: it scores answers.", "Use --what adapter.")


def push(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Push the run that options["source"] names. options: `repo`, `what`, `private`.

    Gives {"repo", "url", "commit", "what", "files", "bytes"}. Raises InputError with what to do where the hub refuses.
    """
    options = run.config.options
    source, what = runs.find(str(options["source"])), str(options.get("what") or "adapter")
    repo = check_repo(str(options["repo"]))
    check_source(source, what)
    staging = run.dir / "staging"
    staging.mkdir(exist_ok=True)
    files = _FILES[what](source, staging, emit)
    text = cards.write(_card(source, what, repo, files))
    paths.write_text(staging / "README.md", text)
    files = {**files, "README.md": staging / "README.md"}
    if should_stop():
        raise Stopped("Stopped; nothing was sent yet.", "Push again to begin.")
    request = {
        "repo": repo,
        "private": bool(options.get("private")),
        "files": [[name, str(path)] for name, path in files.items()],
        "message": f"{source.config.title or source.id} ({what})",
    }
    done = _send(request, sum(path.stat().st_size for path in files.values()), emit, should_stop)
    shutil.rmtree(staging, ignore_errors=True)
    return {"what": what, **done}


def planned(source: Run, what: str) -> list[tuple[str, int]]:
    """List the names and bytes of what a push would send, before anything is made; the model card comes to it.

    What has to be merged first is named as one, with the bytes that it will have. Raises as `check_source` does.
    """
    check_source(source, what)
    if what == "gguf":
        files = _files_of(_export_of(source).result() or {})
    else:
        trained = _trained(source)
        if what == "merged" and trained.adapter is not None:
            return [("the model in 16 bits", 2 * check.inspect(str(trained.base)).parameters)]
        files = [path for _, path in _plain(trained.adapter if what == "adapter" else trained.base)]
        files = [path for path in files if what == "adapter" or path.name != ABOUT]
    return [(path.name, path.stat().st_size) for path in files]


# --- what is sent ----------------------------------------------------------------------------------------------------


def _trained(source: Run) -> Trained:
    """Give what a training run left; of an export, what it was made from."""
    while source.config.kind in ("export", "merge") and (parent := source.parent()) is not None:
        source = parent
    if source.config.kind != "train":
        raise RunError(f"Run {source.id} is no training run.", "`studio runs` lists the runs.")
    if source.result() is None:
        raise RunError(f"Run {source.id} has not finished.", f"Finish it first: studio resume {source.name}")
    return Trained.of(source)


def _adapter(source: Run, staging: Path, emit: events.Emit) -> dict[str, Path]:
    """Give the adapter's files; what names folders of this machine is written anew."""
    trained = _trained(source)
    assert trained.adapter is not None  # check_source saw to it
    base = hub.repository(trained.root) or _named(source)
    found: dict[str, Path] = {}
    for name, path in _plain(trained.adapter):
        found[name] = path
        if path.suffix == ".json" and path.name in ("adapter_config.json", ABOUT):
            told = json.loads(path.read_text("utf-8"))
            names = {"base_model_name_or_path": base, "base": base, "root": base}
            told |= {key: value for key, value in names.items() if key in told}
            if "revision" in told and (revision := hub.revision(trained.root)):
                told["revision"] = revision
            found[name] = staging / name
            paths.write_text(found[name], json.dumps(told, indent=1, ensure_ascii=False) + "\n")
    return found


def _merged(source: Run, staging: Path, emit: events.Emit) -> dict[str, Path]:
    """Write the merged model (or take the whole trained one) and give its files."""
    trained = _trained(source)
    folder = trained.base
    if trained.adapter is not None:
        folder = staging / "merged"
        need = Need("the model in 16 bits", 2 * check.inspect(str(trained.base)).parameters, staging)
        disk.check([need], ExportError, "Free some disk.")
        shutil.rmtree(folder, ignore_errors=True)
        emit(events.event("note", level="info", code="merge", text="Merging into the 16-bit base."))
        merging.write_model(trained.base, trained.adapter, folder)
    return {name: path for name, path in _plain(folder) if name != ABOUT}


def _gguf(source: Run, staging: Path, emit: events.Emit) -> dict[str, Path]:
    """Give the files of an export with their certificates and the Modelfile; paths in texts become names."""
    found = {path.name: path for path in _files_of(_export_of(source).result() or {})}
    for path in list(found.values()):
        if path.suffix == ".gguf":
            continue
        text = path.read_text("utf-8")
        for place in sorted({str(path.parent), str(paths.home()), str(Path.home())}, key=len, reverse=True):
            text = text.replace(f"{place}{os.sep}", "").replace(place, "")
        found[path.name] = staging / path.name
        paths.write_text(found[path.name], text)
    return found


def _files_of(result: dict[str, Any]) -> list[Path]:
    """List the files of an export, with their certificates and the Modelfile."""
    listed = [Path(str(file["path"])) for file in result["files"]]
    more = [path for file in listed for path in sorted(file.parent.glob(f"{file.name}.certificate.*"))]
    modelfile = Path(str(result.get("modelfile") or ""))
    return [*listed, *more, *([modelfile] if modelfile.is_file() else [])]


def _plain(folder: Path | None) -> list[tuple[str, Path]]:
    """List the ordinary files of a folder by their names; none that is hidden or a link."""
    found = sorted(folder.iterdir()) if folder is not None else []
    return [(p.name, p) for p in found if p.is_file() and not p.is_symlink() and not p.name.startswith(".")]


_FILES = {"adapter": _adapter, "merged": _merged, "gguf": _gguf}


def _export_of(source: Run) -> Run:
    """Give the newest finished export of a run, or the run itself where it is one; its files must be there."""
    exports = [source] if source.config.kind == "export" else []
    exports = exports or [child for child in runs.children(source) if child.config.kind == "export"]
    for export in exports:
        files = (export.result() or {}).get("files") or []
        if files and all(Path(str(file.get("path"))).is_file() for file in files):
            return export
    raise RunError(
        f"There are no GGUF files of {source.id}.", f"Export first: studio export {source.name} --quant Q4_K_M"
    )


def _named(source: Run) -> str:
    """Name a base that is not in the hub's cache: its hub id where the run says one, else its folder's name."""
    model = source.config.model
    return Path(model).name if Path(model).is_absolute() else model


def _hub_id(model: str) -> str:
    try:
        return "" if model == "starter" or Path(model).is_absolute() else hub.reference(model).repo
    except ModelError:
        return ""


def _card(source: Run, what: str, repo: str, files: dict[str, Path]) -> cards.Card:
    """Collect what the card tells."""
    trained = (
        None if what == "gguf" and source.config.kind == "export" and source.parent() is None else _trained(source)
    )
    run = trained.run if trained is not None else source
    root = trained.root if trained is not None else hub.resolve(source.config.model)
    export = (_export_of(source).result() or {}) if what == "gguf" else {}
    hashes = {Path(str(file["path"])).name: str(file.get("sha256") or "") for file in export.get("files") or []}
    line = [one for one in run.lineage() if one.config.kind == "train"]
    try:
        licence = check.inspect(str(root)).licence
    except StudioError:
        licence = ""
    return cards.Card(
        title=source.config.title or source.id,
        what=what,
        line=line,
        base=hub.repository(root) or _hub_id(run.config.model),
        base_name=_named(run),
        revision=hub.revision(root),
        licence=licence.lower(),
        lost=line[0].lost() if line else "",
        scores=trained is not None and "scores" in trained.about,
        files=[(name, path.stat().st_size, hashes.get(name, "")) for name, path in files.items()],
        certificate=(export.get("certificate") or {}).get("lines") or [],
        repo=repo,
    )


# --- sending it ------------------------------------------------------------------------------------------------------


def _send(request: dict[str, Any], total: int, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Let the child send; tell its progress, and end it when asked to stop."""
    child = Child("studio.export.send:send")
    progress = events.Progress(emit, "Sending", total, "bytes")
    sent, last = 0, {}
    try:
        for answer in child.stream(request, timeout=_SILENCE):
            if "sent" in answer:
                progress.step(answer["sent"] - sent)
                sent = answer["sent"]
            if should_stop():
                raise Stopped("The push was stopped; the repository is as it was.", sending.KEPT)
            last = answer
    finally:
        child.close()
    return last
