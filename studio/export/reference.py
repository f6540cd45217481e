"""What transformers computes for the trained model and for its base, in float32: the numbers a file is held against."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from studio.chat.engine import log_softmax
from studio.data.records import Message
from studio.export import probes
from studio.export.known import Known
from studio.export.merge import Merged

#: tokens of a row, and numbers (tokens x vocabulary) in all, that are compared at most
_ROW, _MOST = 256, 150_000_000


@dataclasses.dataclass(frozen=True)
class Reference:
    """Rows of token ids, and .npy files with the logits (all tokens, V) of the trained model and of its base.

    `base` is None without an adapter. `adapter_kl` is the mean KL(trained || base) in nats per token: what the adapter
    does.
    """

    rows: list[list[int]]
    logits: Path
    base: Path | None
    adapter_kl: float | None

    def remove(self) -> None:
        """Delete the files."""
        for path in (self.logits, self.base):
            if path is not None:
                path.unlink(missing_ok=True)


def make(known: Known, folder: Path) -> Reference | None:
    """Run the model in transformers on held-out conversations or plain probes, and keep its logits in `folder`.

    The base is run with the trained rows of control tokens, which it cannot be told from otherwise. None when the
    machine has not the memory for the model in float32.
    """
    import numpy as np

    merged = Merged(known.base, known.adapter)
    if 4.4 * merged.parameters > psutil.virtual_memory().available:
        return None
    rows = _rows(known, merged.rows)
    made = _logits(known.base, merged, rows)
    if known.adapter is None:
        return Reference(rows, _saved(np.concatenate(made), folder), None, None)
    plain = _logits(known.base, Merged(known.base, known.adapter, rows_only=True), rows)
    total = 0.0
    for p_logits, q_logits in zip(made, plain, strict=True):
        p, q = log_softmax(p_logits), log_softmax(q_logits)
        total += float((np.exp(p) * (p - q)).sum())
    distance = total / sum(map(len, rows))
    return Reference(rows, _saved(np.concatenate(made), folder), _saved(np.concatenate(plain), folder), distance)


def _rows(known: Known, vocabulary: int) -> list[list[int]]:
    """Give held-out conversations as training rendered them; plain probes where there are none."""
    renderer = known.renderer
    answered = [asked for asked in known.questions if asked.after.strip()]
    if answered and known.chats:
        talks = [[Message("user", asked.prompt), Message("assistant", asked.after.strip())] for asked in answered]
        rows = [renderer.conversation(talk).ids for talk in talks]
    else:
        rows = [renderer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in probes.TEXTS[:8]]
    kept: list[list[int]] = []
    left = max(_MOST // vocabulary, 64)
    for row in rows:
        if left <= 0:
            break
        kept.append(row[: min(_ROW, left)])
        left -= len(kept[-1])
    return [row for row in kept if row]


def _saved(logits: Any, folder: Path) -> Path:
    import numpy as np

    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        np.save(file, logits)
    return Path(file.name)


def _logits(base: Path, merged: Merged, rows: Sequence[list[int]]) -> list[Any]:
    """Give each row's logits (T, V) under the model made of these tensors, in float32 arrays."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    config.vocab_size = merged.rows
    architecture = getattr(transformers, config.architectures[0])
    model = architecture.from_pretrained(None, config=config, state_dict=dict(merged), dtype=torch.float32).eval()
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0].float().numpy() for row in rows]
