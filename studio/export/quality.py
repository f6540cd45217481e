"""Quality against size: how near each file stays to the 16-bit one, on the user's held-out rows.

Over the tokens of the answers, n of them, with p the 16-bit file's distribution of the next token and q the file's:

    KL = 1/n sum p (log p - log q)  in nats,     perplexity = exp(-1/n sum log q(the token that stands there))

and top-1 is the share of tokens where both find the same one likeliest. The 16-bit file's logits are kept on disk while
the others are measured: at most MOST_BYTES.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from studio import events
from studio.chat.engine import log_softmax
from studio.child import Child
from studio.errors import ExportError, Stopped
from studio.export import decode
from studio.export import rows as rowsource
from studio.render.labels import Encoded

MOST_BYTES = 512 << 20
#: What a suggested file keeps to: mean KL in nats, share of equal next tokens.
CLOSE_KL, CLOSE_TOP1 = 0.02, 0.95
#: Answers that are timed, and tokens of each.
_TIMED, _LONG = 5, 24


def measure(
    reference: tuple[str, Path],
    files: Sequence[tuple[str, Path]],
    found: rowsource.Rows,
    folder: Path,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Measure files against the 16-bit one; each is (type, place), `folder` is for the logits.

    Gives {"reference", "tokens", "held_out", "files": [{"type", "bytes", "kl", "top1", "perplexity", "tokens_per_s"}],
    "suggestion": {"type", "text"}}; the reference stands among the files.
    """
    rows = [row for row in found.measured if any(rowsource.predicting(row))]
    if not rows:
        raise ExportError("The held-out rows hold no answer to measure on.", "Leave --quality out.")
    request: dict[str, Any] = {
        "rows": [row.ids for row in rows],
        "wanted": [rowsource.predicting(row) for row in rows],
        "prompts": [_prompt(row) for row in rows[:_TIMED]],
    }
    others = sorted((f for f in files if f[1] != reference[1]), key=lambda f: -f[1].stat().st_size)
    progress = events.Progress(emit, "Measuring quality", (1 + len(others)) * len(rows), "rows") if emit else None
    child = Child("studio.export.quality:handle")
    measured = []
    with tempfile.TemporaryDirectory(dir=folder, prefix="logits-") as place:
        request["reference"] = str(Path(place) / "reference.npy")
        try:
            for type_, path in (reference, *others):
                last: dict[str, Any] = {}
                for last in child.stream({**request, "gguf": str(path), "first": path == reference[1]}, timeout=1800):
                    if should_stop is not None and should_stop():
                        raise Stopped("Stopped while the quality was measured.", "Export again to see it.")
                    if progress:
                        progress.step(last.get("row", 0))
                measured.append({"type": type_, "bytes": path.stat().st_size, **last})
        finally:
            child.close()
    tokens = measured[0].pop("n")
    for one in measured[1:]:
        one.pop("n")
    return {
        "reference": reference[0],
        "tokens": tokens,
        "held_out": found.held_out,
        "files": measured,
        "suggestion": suggest(measured),
    }


def suggest(measured: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Choose a file and say it in a sentence; the first of `measured` is the 16-bit one.

    The rule: the smallest file with a mean KL of at most CLOSE_KL nats whose likeliest next token is the 16-bit file's
    for at least CLOSE_TOP1 of the tokens; where none is so close, the one with the lowest KL, and that is said.
    """
    whole = measured[0]
    smaller = [one for one in measured[1:] if one["bytes"] < whole["bytes"]]
    if not smaller:
        return {"type": "", "text": ""}
    close = [one for one in smaller if one["kl"] <= CLOSE_KL and one["top1"] >= CLOSE_TOP1]
    best = min(close, key=lambda one: one["bytes"]) if close else min(smaller, key=lambda one: one["kl"])
    text = (
        f"{best['type']}: {_share(best['bytes'] / whole['bytes'])} of the size, KL {best['kl']:.2g}, "
        f"{math.floor(100 * best['top1'])} % of next tokens agree."
    )
    far = f"None of these is close to {whole['type']}; the closest is "
    return {"type": best["type"], "text": text if close else far + text}


_WORDS = {
    "half": 1 / 2,
    "a third": 1 / 3,
    "a quarter": 1 / 4,
    "a fifth": 1 / 5,
    "two fifths": 2 / 5,
    "two thirds": 2 / 3,
}


def _share(part: float) -> str:
    """Write a share in words where one is near."""
    word, value = min(_WORDS.items(), key=lambda item: abs(item[1] - part))
    return word if abs(value - part) <= 0.02 else f"{100 * part:.0f} %"


def _prompt(row: Encoded) -> list[int]:
    """Give a row up to its first learned token."""
    return row.ids[: max(1, rowsource.predicting(row).index(True) + 1)]


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Measure one file in the child: {"row": 1} after each row, last its figures.

    The `first` file's logits become the reference; the rows that have no room in it are not measured.
    """
    rows, wanted = request["rows"], request["wanted"]
    decoder = decode.Decoder(request["gguf"], max(map(len, rows)) + _LONG)
    try:
        most = MOST_BYTES // (4 * decoder.vocabulary)
        size = min(most, sum(map(sum, wanted)))
        if request["first"]:
            shape = (size, decoder.vocabulary)
            kept = np.lib.format.open_memmap(request["reference"], mode="w+", dtype=np.float32, shape=shape)
        else:
            kept = np.load(request["reference"], mmap_mode="r")
        if kept.shape[1] != decoder.vocabulary:
            raise ExportError("The files have different vocabularies.", "Export them again.")
        sums = np.zeros(3)
        count = 0
        for row, marks in zip(rows, wanted, strict=True):
            logits = _logits(decoder, row, marks)[: len(kept) - count]
            if request["first"]:
                kept[count : count + len(logits)] = logits
            targets = [row[at + 1] for at, mark in enumerate(marks) if mark][: len(logits)]
            sums += _compared(kept[count : count + len(logits)], logits, targets)
            count += len(logits)
            yield {"row": 1}
            if count == len(kept) or cancelled():
                break
        if request["first"]:
            kept.flush()
        speed = _speed(decoder, request["prompts"])
    finally:
        decoder.close()
    kl, same, surprise = sums / count
    yield {
        "kl": max(0.0, float(kl)),
        "top1": float(same),
        "perplexity": math.exp(min(700.0, float(surprise))),
        "tokens_per_s": round(speed, 1),
        "n": count,
    }


def _logits(decoder: decode.Decoder, row: Sequence[int], marks: Sequence[bool]) -> np.ndarray[Any, Any]:
    """Give the logits (n, V) of the marked tokens of one row."""
    decoder.forget()
    found = []
    for start in range(0, len(row), decoder.batch):
        part = slice(start, start + decoder.batch)
        found.append(decoder.feed([decode.Part(row[part], start=start, wanted=marks[part])]))
    return np.concatenate(found)


def _compared(kept: Any, logits: Any, targets: Sequence[int]) -> np.ndarray[Any, Any]:
    """Sum over tokens: KL(kept || logits), equal likeliest tokens, -log q of the token that stands there."""
    sums = np.zeros(3)
    for start in range(0, len(targets), 64):  # float64 of a large vocabulary takes its room
        part = slice(start, start + 64)
        p = log_softmax(np.asarray(kept[part], dtype=np.float64))
        q = log_softmax(np.asarray(logits[part], dtype=np.float64))
        sums[0] += float((np.exp(p) * (p - q)).sum())
        sums[1] += float((p.argmax(-1) == q.argmax(-1)).sum())
        sums[2] -= float(q[np.arange(len(q)), targets[part]].sum())
    return sums


def _speed(decoder: decode.Decoder, prompts: Sequence[Sequence[int]]) -> float:
    """Time answers, token by token behind the first: tokens a second of the fastest, the least disturbed one."""
    found = []
    for prompt in prompts:
        decoder.forget()
        token = int(_logits(decoder, prompt, [False] * (len(prompt) - 1) + [True])[-1].argmax())
        began = time.monotonic()
        for place in range(len(prompt), len(prompt) + _LONG - 1):
            token = int(decoder.feed([decode.Part([token], start=place)])[0].argmax())
        found.append((_LONG - 1) / max(1e-9, time.monotonic() - began))
    return max(found, default=0.0)
