"""Drawing of types of files: what each would be before an export, quality against size after it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.models import mixture, quants
from studio.ui import parts, plots
from studio.ui.live import View
from studio.ui.parts import esc

GROUPS = {
    "recommended": ("Recommended", "Made from the 16-bit weights alone."),
    "small": ("Smaller, with an importance matrix", "Measured on your training rows, which takes a minute or more."),
    "other": ("All others", "For special cases."),
}


def names(group: str) -> list[str]:
    """List a group's types, the largest first."""
    return [name for name, made in quants.TYPES.items() if made.group == group]


def model_of(view: View | None) -> mixture.Model | None:
    """Read the shapes of what a run trained, None where its base is not there."""
    if view is None:
        return None
    whole = view.run.dir / "model"
    try:
        if (whole / "config.json").is_file():
            return _model(str(whole))
        return _model(json.loads((view.run.adapter / "studio.json").read_text("utf-8"))["base"])
    except (OSError, ValueError, KeyError, StudioError):
        return None


@functools.lru_cache(maxsize=8)
def _model(folder: str) -> mixture.Model:
    return mixture.of_folder(Path(folder))


def choices(group: str, model: mixture.Model | None) -> list[tuple[str, str]]:
    """Give what the page offers of a group: (type with its predicted size, type); none that this model cannot be."""
    found = [name for name in names(group) if name != "MXFP4_MOE" or (model is not None and model.experts)]
    if model is None:
        return [(name, name) for name in found]
    return [(f"{name} · {parts.size(mixture.predict(name, model).bytes)}", name) for name in found]


def chosen(types: Sequence[str], model: mixture.Model | None) -> str:
    """Say of each chosen type what it is, how large it will be and what llama.cpp will make of this model's rows."""
    rows = []
    for name in types:
        made = quants.TYPES[name]
        notes = [made.says]
        size = "–"
        if model is not None:
            found = mixture.predict(name, model)
            size = parts.size(found.bytes)
            notes += [mixture.told(found.types, found.fallen)] if found.fallen else []
        rows.append((f"<b>{esc(name)}</b>", esc(" ".join(notes)), size))
    if not rows:
        return parts.note("No type is chosen: tick at least one.")
    return f'<div class="st-types">{parts.table(("Type", "What it is", "About"), rows, (2,))}</div>'


def fell(file: Mapping[str, Any]) -> str:
    """Say of a file that was made which tensors fell back, as a note under its type."""
    said = mixture.told(file.get("types") or {}, file.get("fallen") or {})
    return f"<small>{esc(said)}</small>" if said else ""


def table(result: Mapping[str, Any]) -> str:
    """Draw quality against size: the suggestion, a plot, the figures; nothing where it was not measured."""
    found = result.get("quality") or {}
    files = [one for one in found.get("files") or [] if isinstance(one, Mapping)]
    if not files:
        return ""
    best = (found.get("suggestion") or {}).get("type") or ""
    rows = [
        (
            f"<b>{esc(one['type'])}</b>" + (f" {parts.pill('suggested')}" if one["type"] == best else ""),
            parts.size(float(one["bytes"])),
            "0" if not one["kl"] else parts.number(one["kl"], 3),
            f"{100 * one['top1']:.1f} %",
            parts.number(one["perplexity"], 3),
            parts.number(one["tokens_per_s"], 0),
        )
        for one in files
    ]
    heads = ("Type", "Size", "KL, nats", "Same token", "Perplexity", "Tokens/s")
    said = (found.get("suggestion") or {}).get("text") or ""
    where = "held-out rows" if found.get("held_out") else "training rows: none were held out"
    measured = f"Against {found.get('reference')}, on {found.get('tokens', 0):,} tokens of the answers of {where}."
    inner = (f"<p class='st-said'>{esc(said)}</p>" if said else "") + _plot(files, best)
    inner += f'<div class="st-quality">{parts.table(heads, rows, (1, 2, 3, 4, 5))}</div>' + parts.note(measured)
    return parts.card("Quality against size", inner)


def _plot(files: Sequence[Mapping[str, Any]], best: str) -> str:
    points = [(str(one["type"]), float(one["bytes"]), float(one["kl"])) for one in files]
    largest = max(size for _, size, _ in points)
    unit, scale = next((u, s) for u, s in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if largest >= s or s == 1e3)
    scaled = [(name, size / scale, kl) for name, size, kl in points]
    told = "; ".join(f"{name} {size:.3g} {unit}, KL {kl:.2g}" for name, size, kl in scaled)
    return plots.both(
        lambda width: plots.against(
            scaled,
            label=f"KL to the 16-bit file against size: {told}",
            x_name=unit,
            y_name="KL to the 16-bit file, nats",
            chosen=best,
            width=width,
        )
    )
