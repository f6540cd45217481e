"""Check a GGUF file, also one made elsewhere, against the model that it is said to be; mend what can be mended.

The reference is named, or found: a file that an export made is known by its path or by its bytes. Without one, only
what a file says about itself is checked (facts.py).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from studio import events, paths, runs
from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import CheckFailed, ModelError
from studio.export import certificate, facts, gguf, meant, reference, repair, vocab
from studio.export.known import Known
from studio.models import ggufhead

#: The lines of a certificate that new metadata can mend, and what they need.
MENDABLE = {"prompts": "template", "beginning": "bos", "stop tokens": "stops", "ending": "stops"}


def verify(
    gguf: str | Path,
    model: str = "",
    out: str | Path = "",
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
    base: str = "",
) -> dict[str, Any]:
    """Make a file's certificate; with `out`, write a mended copy there where lines failed, and give the copy's.

    `model` is a model, a run or an adapter's folder (of which `base` names the base, where it does not say itself); ""
    looks for the run that made the file. Raises ModelError for what is no GGUF model,
    CheckFailed where a copy is wanted and nothing that failed can be mended.
    """
    path = Path(gguf).expanduser().absolute()
    head = ggufhead.parse(path)  # a stop token that is no token is a fault to mend, not the end
    if head.metadata.get("general.type") == "adapter":
        raise ModelError("This is a LoRA adapter, not a model.", "Verify the run that it came from.", file=str(path))
    reference = model or _made_by(path)
    known = meant.find(reference, base).known(emit, should_stop) if reference else None
    if not out:
        return _certificate(path, known, emit)
    return _mended(path, Path(out).expanduser().absolute(), known, emit, should_stop)


def _certificate(path: Path, known: Known | None, emit: events.Emit | None) -> dict[str, Any]:
    ggufhead.read(path)
    if known is None:
        return {**facts.check(path), "model": None}
    return {**_compared(path, known), "model": known.name}


def _compared(path: Path, known: Known) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return certificate.make(path, known, reference.make(known, Path(folder)))


def _mended(
    path: Path,
    out: Path,
    known: Known | None,
    emit: events.Emit | None,
    should_stop: Callable[[], bool] | None,
) -> dict[str, Any]:
    """Write the copy with what the failed lines say, and verify it."""
    try:
        found = _certificate(path, known, emit)
        failed = [line["name"] for line in found["lines"] if line["ok"] is False]
    except ModelError as error:
        if known is None or "_token_id" not in error.message:
            raise
        found, failed = {}, ["stop tokens", "beginning"]
    if not failed:
        return {**found, "repaired": None}
    broken = [name for name in failed if name not in MENDABLE]  # wrong weights do not learn to stop by a new flag
    wanted = {MENDABLE[name] for name in failed if name in MENDABLE and not (broken and name == "ending")}
    changes = _from_model(path, known, wanted) if known else _from_itself(path, wanted)
    if not changes:
        raise CheckFailed(
            f"Nothing of what fails can be mended in a copy: {', '.join(failed)}.",
            "Name the model with --model, or export it again." if known is None else "Export the model again.",
            file=str(path),
        )
    repair.repair(path, out, **changes, emit=emit, should_stop=should_stop)
    again = _certificate(out, known, emit)
    return {**again, "repaired": {"path": str(out), "changed": sorted(changes), "failed": failed}}


def _from_model(path: Path, known: Known, wanted: Iterable[str]) -> dict[str, Any]:
    """Give what the file ought to say, by the model: only what is there to be said, of the kinds that are wanted."""
    tokens = {token: index for index, token in enumerate(ggufhead.parse(path).tokens)}
    renderer, stop = known.renderer, known.end
    changes: dict[str, Any] = {}
    if "template" in wanted and known.chats:
        changes["template"] = vocab.unmarked(renderer.source)
    if "stops" in wanted:
        end = tokens.get(stop) if stop else None
        changes |= {"eos": end, **({"eot": end} if known.chats else {})}
    if "bos" in wanted:
        changes["add_bos"] = gguf.begins(renderer, known.chats)
        changes["bos"] = tokens.get(renderer.tokenizer.bos_token)
    return {name: value for name, value in changes.items() if value is not None}


def _from_itself(path: Path, wanted: Iterable[str]) -> dict[str, Any]:
    """Give the stop token that the file's own template writes: the one thing that it says itself."""
    if "stops" not in wanted:
        return {}
    child = Child(ENGINE)
    try:
        found = facts.end_of_turn(child, ggufhead.read(path))
    finally:
        child.close()
    return {} if found is None else {"eos": found, "eot": found}


def _made_by(path: Path) -> str:
    """Find the run whose export made a file: by its certificate, by its path, or by its bytes wherever it lies."""
    beside = path.with_name(path.name + ".certificate.json")
    try:
        said = json.loads(beside.read_text("utf-8"))
    except (OSError, ValueError):
        said = {}
    named = said.get("run") if isinstance(said, dict) else None
    if isinstance(named, str) and runs.is_run(named):
        return str(runs.find(named).dir)
    exports = [(run, run.result()) for run in runs.all_runs() if run.config.kind == "export"]
    made = [(run, file) for run, result in exports if result for file in result.get("files", [])]
    for run, file in made:
        if Path(file["path"]) == path.resolve():
            return str(run.dir)
    size, digest = path.stat().st_size, ""
    for run, file in made:
        if file["bytes"] == size:
            digest = digest or paths.sha256(path)
            if file["sha256"] == digest:
                return str(run.dir)
    return ""
