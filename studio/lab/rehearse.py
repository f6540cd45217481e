"""A rehearsal before a long run: a few rows go the whole way, and say what all of them will take.

Some twenty rows of the file, the longest among them, are trained on for some steps, exported, and the file is asked
three questions through llama.cpp: what would break at the end of the whole run breaks now, with its own error. Nothing
of it is kept but the figures: time (forecast.py), the peak of memory, and what will lie on the disk.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio import disk, events, paths
from studio.chat.session import Pane, Session
from studio.disk import Need
from studio.errors import Stopped, StudioError, TrainingError
from studio.export import order, quantize
from studio.lab import few, forecast
from studio.lab.forecast import Plan, Size
from studio.methods.online import Online
from studio.models import mixture
from studio.runs import Run, RunConfig
from studio.train import footprint, model, offline, prepare
from studio.train.peak import Peak, in_all
from studio.train.prepare import Setup

Start = Callable[..., dict[str, Any]]

STEPS, MOST_STEPS = 3, 20
QUESTIONS, REPLY_TOKENS = 3, 40
_GB, _GIB = 1e9, 1 << 30


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool], start: Start) -> dict[str, Any]:
    """Rehearse the training run that a config of kind "train" with the same fields would be.

    options: those of the training run, and `place`, the folder whose disk it will write to (by default the runs').
    """
    began = time.monotonic()
    parts = run.dir / "parts"
    shutil.rmtree(parts, ignore_errors=True)
    try:
        result = _rehearse(run, emit, should_stop, start, parts)
    except BaseException as error:
        if type(error) is not StudioError:  # what is our own fault has its traceback there
            shutil.rmtree(parts, ignore_errors=True)
        raise
    return {**result, "took": round(time.monotonic() - began, 1)}


def _rehearse(
    run: Run, emit: events.Emit, should_stop: Callable[[], bool], start: Start, parts: Path
) -> dict[str, Any]:
    asked = run.config
    made = prepare.setup(run, emit, should_stop)
    started = next((item["time"] for item in reversed(run.events()) if item["type"] == "started"), time.time())
    seconds = {"reading": time.time() - started}  # of the whole file, and what is loaded to read it
    rows_of = few.online_rows if made.method.kind == "online" else few.offline_rows
    numbers, held, size = rows_of(made, (made.config.micro_batch_size or 8) * made.config.max_length)
    few.write(made, numbers, parts / "rows.jsonl")
    settings = _settings(made, len(numbers), held)
    options = {**asked.options, "reading": few.reading(made)}
    title = f"Rehearsal of {len(numbers)} rows"
    config = RunConfig(
        "train", title, asked.model, asked.method, str(parts / "rows.jsonl"), asked.parent, settings, options
    )
    device = model.device()
    with Peak(device, sampled=True) as training:
        trained = start(config, "train", parts / "train")
    exported: dict[str, Any] = {}
    answers: list[dict[str, Any]] = []
    export_peak = Peak(device, sampled=True)
    if not made.method.head:
        with export_peak:
            export = RunConfig("export", title, asked.model, parent=trained["dir"], options={"name": "rehearsal"})
            exported = start(export, "export", parts / "export")
            answers = _ask(exported["files"][0]["path"], _questions(trained), should_stop)
    child = Run(parts / "train")
    seconds |= _foresee(made, child, trained, size)
    seconds["export"] = float(exported.get("seconds") or 0.0)
    bytes_ = _bytes(made, child, exported)
    shutil.rmtree(parts, ignore_errors=True)
    place = Path(str(asked.options.get("place") or paths.runs()))
    found = {
        "run": run.id,
        "dir": str(run.dir),
        "method": asked.method,
        "model": asked.model,
        "data": asked.data,
        "parent": asked.parent or None,
        "rows": {"whole": size.rows + size.held_rows, "rehearsed": len(numbers), "held_out": held},
        "steps": _plan(made, size).steps,
        "seconds": {
            "total": round(sum(seconds.values()), 1),
            "train": round(sum(value for name, value in seconds.items() if name != "export"), 1),
            **{name: round(value, 3) for name, value in seconds.items()},
        },
        "memory": {
            "train_gb": round(training.most / _GIB, 2),
            "export_gb": round(export_peak.most / _GIB, 2),
            "have_gb": round(in_all(device) / _GIB, 1),
            "where": "GPU memory" if device.type == "cuda" else "memory",
        },
        "disk": {
            "run_gb": round((bytes_["kept"] + bytes_["left"]) / _GB, 3),
            "export_gb": round(bytes_["files"] / _GB, 3),
            "peak_gb": round((bytes_["most"] + bytes_["left"] + bytes_["making"]) / _GB, 3),
            "free_gb": round(disk.free(place) / _GB, 1),
        },
        "answers": answers,
        "certificate": exported["certificate"]["ok"] if exported else None,
    }
    needs = [
        Need("checkpoints", bytes_["most"], place),
        Need("what was trained", bytes_["left"], place),
        Need("GGUF files", bytes_["making"], place),
    ]
    disk.check(needs, TrainingError, footprint.REMEDY)
    return {**found, "said": sentence(found)}


def _settings(made: Setup, rows: int, held: int) -> dict[str, Any]:
    """Choose the settings of the short run: those of the whole one, but for how long it is and how often it looks."""
    config, train = made.config, max(1, rows - held)
    online = made.method.kind == "online"
    batch = config.batch_size if online else min(config.batch_size, train)
    together = _together(made, batch)
    steps = min(MOST_STEPS, max(STEPS, math.ceil(train / together)))
    return {
        **made.run.config.settings,
        "batch_size": batch,
        "max_steps": steps,
        "epochs": min(100.0, max(1.0, math.ceil((steps + 1) * together / train))),
        "eval_every": steps,
        "save_every": steps,
        "held_out": held / rows if held else 0.0,
    }


def _together(made: Setup, batch: int) -> int:
    """Count the rows of the file that a step takes."""
    method = made.method
    return max(1, batch // method.samples(made.config)) if isinstance(method, Online) else batch


def _plan(made: Setup, size: Size) -> Plan:
    return Plan.of(made.config, size.rows, _together(made, made.config.batch_size), size.held_rows > 0)


def _foresee(made: Setup, child: Run, trained: dict[str, Any], size: Size) -> dict[str, float]:
    """Give the seconds of the whole run by part, from the events of the short one."""
    online = made.method.kind == "online"
    part = forecast.took(child.events())
    n, aside = trained["rows"]["trained"], trained["rows"]["held_out"]
    tokens, held_tokens, learned, room = n, aside, n, 1
    if not online:
        short = prepare.setup(child, lambda _: None, lambda: False)
        train, held = prepare.encoded(short).view(short.aside)
        tokens, held_tokens = int(train.sizes().sum()), int(held.sizes().sum()) if len(held) else 0
        learned = sum(few.learned(train[at]) for at in range(len(train)))
        room = offline.answer_room(train)
    small = Size(n, tokens, learned, aside, held_tokens, trained["behaviour"]["n"], room)
    if made.method.reference and not part.reference:
        part = forecast.unasked(part, small)
    return forecast.whole(part, small, size, _plan(made, size), online=online, judges=bool(made.method.head))


def _bytes(made: Setup, child: Run, exported: dict[str, Any]) -> dict[str, int]:
    """Give what the whole run will keep and have at most, from what the short one wrote."""
    each = max((disk.held(path) for path in child.checkpoints()), default=0)
    left = disk.held(child.dir / prepare.MODEL) + disk.held(child.adapter)
    files = sum(file["bytes"] for file in exported.get("files", ()))
    types = [file["type"] for file in exported.get("files", ())]
    source = order.source(types, mixture.of_folder(made.folder))
    making = files + (quantize.predicted_bytes(made.folder, source) if source and source not in types else 0)
    keep = made.config.keep_checkpoints
    return {"kept": keep * each, "most": (keep + 1) * each, "left": left, "files": files, "making": making}


def _questions(trained: dict[str, Any]) -> list[str]:
    asked = [example["prompt"] for example in trained["behaviour"]["examples"]]
    return (asked or ["Hello."])[:QUESTIONS]


def _ask(gguf: str, questions: list[str], should_stop: Callable[[], bool]) -> list[dict[str, Any]]:
    """Ask the exported file through llama.cpp."""
    session = Session([Pane("rehearsal", gguf)], n_ctx=2048)
    said = []
    try:
        for question in questions:
            if should_stop():
                raise Stopped("Stopped in the rehearsal.", "Rehearse again when you like.")
            answer = session.answer(0, [{"role": "user", "content": question}], max_tokens=REPLY_TOKENS)
            said.append({"prompt": question, "text": answer["text"], "stopped": answer["stopped"]})
    finally:
        session.close()
    return said


def sentence(found: dict[str, Any]) -> str:
    """Say the forecast in two sentences."""
    s, m, d = found["seconds"], found["memory"], found["disk"]
    export = f", of which the export {span(s['export'])}" if s["export"] else ""
    peak = max(m["train_gb"], m["export_gb"] if m["where"] == "memory" else 0.0)
    return (
        f"The whole run takes about {span(s['total'])}{export}: {found['steps']:,} steps. It needs {peak:.1f} GB of "
        f"{m['where']} ({m['have_gb']:.0f} GB are there) and {disk.size(d['peak_gb'] * _GB)} of disk "
        f"({disk.size(d['free_gb'] * _GB)} are free)."
    )


def span(seconds: float) -> str:
    """Write a time roughly, as a forecast is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
