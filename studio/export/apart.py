"""Base and adapter as two files: the base once in Q8_0, and beside it a LoRA of a few megabytes for each run.

For llama.cpp's --lora and Ollama's ADAPTER. The base's file has the chat template, the stop tokens and the trained rows
of control tokens, which an adapter cannot hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio import events, paths
from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import ExportError
from studio.export import adapter, certificate, chatlines, gguf, ollama
from studio.export.known import Known
from studio.export.reference import Reference

BASE_TYPE = "Q8_0"


def check(known: Known) -> None:
    """Refuse what has no adapter to write, before anything is written."""
    if known.adapter is None:
        raise ExportError(
            f"{known.name} has no adapter: there is nothing to write beside the base.", "Leave --adapter out."
        )


def write(known: Known, out: Path, name: str, emit: events.Emit, **parameters: Any) -> dict[str, Any]:
    """Write NAME-adapter.gguf, NAME-base-Q8_0.gguf and Modelfile.adapter; `parameters` are ollama.modelfile's.

    Gives {"path", "bytes", "sha256", "base", "modelfile"}. Raises ExportError for DoRA.
    """
    assert known.adapter is not None
    lora = adapter.write(known.base, known.adapter, out / f"{name}-adapter.gguf", name=name, rows_in_base=True)
    base = out / f"{name}-base-{BASE_TYPE}.gguf"
    gguf.write(
        known.base,
        known.adapter,
        base,
        known.renderer,
        name=name,
        dtype=BASE_TYPE,
        tuned=True,
        rows_only=True,
        emit=emit,
    )
    modelfile = out / "Modelfile.adapter"
    text = ollama.modelfile(base.name, known.renderer.stop_tokens, adapter=lora.name, **parameters)
    paths.write_text(modelfile, text)
    return {
        "path": str(lora),
        "bytes": lora.stat().st_size,
        "sha256": paths.sha256(lora),
        "base": str(base),
        "modelfile": str(modelfile),
    }


def proof(made: dict[str, Any], reference: Reference | None) -> dict[str, Any]:
    """Compare base and adapter, as llama.cpp puts them together, with the trained model: a certificate's line."""
    if reference is None:
        return chatlines.line("adapter", None, "not measured: too little memory for the model in float32")
    child = Child(ENGINE)
    request = {"op": "compare", "gguf": made["base"], "adapter": made["path"], "rows": reference.rows}
    try:
        found = child.ask({**request, "reference": str(reference.logits)}, timeout=1800)
    finally:
        child.close()
    limit = certificate.KL_LIMIT[BASE_TYPE]
    return chatlines.line(
        "adapter",
        found["kl"] <= limit,
        f"on the {BASE_TYPE} base: KL to the trained model {found['kl']:.2g}, top-1 {found['top1']:.1%}",
        f"KL {limit:g}",
        "The two files together do not compute what the trained model computes: use the merged file.",
    )
