"""The certificate of an exported file, made by opening the file itself, never by repeating settings.

Each line is {"name", "ok", "value", "limit", "remedy"}; `ok` is None where a line does not apply.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from studio import paths
from studio.chat.engine import log_softmax
from studio.chat.session import ENGINE
from studio.child import Child
from studio.data.records import Message
from studio.export.merge import Merged

if TYPE_CHECKING:
    from studio.render.encode import Renderer

#: The largest mean KL of a type to the merged model in float32, nats per token (export.md gives the order of
#: magnitude).
KL_LIMIT = {"F32": 1e-5, "F16": 1e-5, "Q8_0": 0.05, "Q6_K": 0.1, "Q5_K_M": 0.2, "Q4_K_M": 0.5}
STOPS_LIMIT = 0.8
_PROBES = (
    "Hello, world!",
    "  two leading spaces, and a tab\tin between ",
    "It's 12,345.67 in 2024; I'll say: \"don't\".",
    "def f(x):\n    return x ** 2  # done\n\n\n",
    "Größe, naïve café, Ελληνικά, Русский, 日本語, العربية, हिन्दी",
    "emoji 🙂🚀 and combining é, zero\u200bwidth",
    "UPPER lower MiXeD 1st 22nd 333rd 4444th",
    "a" * 60,
    "<|im_end|> </s> [INST] typed by a person",
    "\r\nwindows line\r\n",
)
_CONVERSATIONS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("user", "Hello"),),
    (("user", "  spaces around  "),),
    (("system", "Be brief."), ("user", "Who are you?")),
    (("user", "One"), ("assistant", "Two"), ("user", "Three")),
    (("system", "Say {}"), ("user", "line\nbreak"), ("assistant", "<b>ok</b>"), ("user", "<|im_end|> typed")),
)


@dataclasses.dataclass(frozen=True)
class Reference:
    """What the exported file is compared with: token ids and the merged model's logits for them in a .npy file."""

    rows: list[list[int]]
    logits: Path
    adapter_kl: float | None


def make(
    gguf: Path,
    type_: str,
    renderer: Renderer,
    reference: Reference | None,
    prompts: Sequence[str],
    *,
    tuned: bool,
) -> dict[str, Any]:
    """Check one file: token ids, prompt, beginning, ending, numbers, adapter."""
    child = Child(ENGINE)
    try:
        lines = [
            _token_ids(child, gguf, renderer),
            *_prompt(child, gguf, renderer, tuned),
            _ending(child, gguf, prompts, renderer, tuned),
            _numbers(child, gguf, type_, reference),
            _adapter(reference),
        ]
    finally:
        child.close()
    return {"file": gguf.name, "ok": all(line["ok"] is not False for line in lines), "lines": lines}


def write(certificate: dict[str, Any], gguf: Path) -> Path:
    """Write FILE.certificate.json beside the file."""
    path = gguf.with_name(gguf.name + ".certificate.json")
    paths.write_text(path, json.dumps(certificate, indent=1, ensure_ascii=False) + "\n")
    return path


def make_reference(
    base: Path, adapter: Path | None, renderer: Renderer, texts: Sequence[tuple[str, str]], folder: Path
) -> Reference | None:
    """Run the merged model in transformers (float32) on conversations or plain probes and keep its logits on disk.

    With an adapter, also the mean KL of the merged model to the base on the same ids: what the adapter does. None when
    the machine has not the memory for the model in float32.
    """
    import numpy as np

    merged = Merged(base, adapter)
    if 4.4 * merged.parameters > psutil.virtual_memory().available:
        return None
    if texts and (adapter is not None or not renderer.added):
        talks = [[Message("user", prompt), Message("assistant", answer.strip() or "Yes.")] for prompt, answer in texts]
        rows = [renderer.conversation(talk).ids for talk in talks]
    else:
        rows = [renderer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in _PROBES[:6]]
    rows = [row[:256] for row in rows]
    made = _logits(base, merged, rows)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".npy", delete=False) as file:
        np.save(file, np.concatenate(made))
    return Reference(rows, Path(file.name), None if adapter is None else _distance(made, base, rows))


def _distance(merged: Sequence[Any], base: Path, rows: Sequence[list[int]]) -> float | None:
    """Mean KL(merged || base) in nats per token, over the ids that the base knows too."""
    import numpy as np

    plain = Merged(base)
    size = plain.rows
    known = [(row, logits) for row, logits in zip(rows, merged, strict=True) if max(row) < size]
    if not known:
        return None
    total = 0.0
    for (_, p_logits), q_logits in zip(known, _logits(base, plain, [row for row, _ in known]), strict=True):
        p, q = log_softmax(p_logits[:, :size]), log_softmax(q_logits)
        total += float((np.exp(p) * (p - q)).sum())
    return total / sum(len(row) for row, _ in known)


def _logits(base: Path, merged: Merged, rows: Sequence[list[int]]) -> list[Any]:
    """Give each row's logits (T, V) under the model made of these tensors, in float32 arrays."""
    import torch
    import transformers

    config = transformers.AutoConfig.from_pretrained(base, trust_remote_code=False, local_files_only=True)
    config.vocab_size = merged.rows
    architecture = getattr(transformers, config.architectures[0])
    model = architecture.from_pretrained(None, config=config, state_dict=dict(merged), dtype=torch.float32).eval()
    with torch.no_grad():
        return [model(torch.tensor([row])).logits[0].numpy() for row in rows]


def _line(name: str, ok: bool | None, value: Any, limit: Any = "", remedy: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "value": value, "limit": limit, "remedy": "" if ok is not False else remedy}


def _token_ids(child: Child, gguf: Path, renderer: Renderer) -> dict[str, Any]:
    texts = list(_PROBES)
    theirs = child.ask({"op": "tokens", "gguf": str(gguf), "texts": texts}, timeout=300)["ids"]
    ours = [
        renderer.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"] for text in texts
    ]
    equal = sum(a == b for a, b in zip(ours, theirs, strict=True))
    return _line(
        "token ids",
        equal == len(texts),
        f"{equal} of {len(texts)} probe texts equal",
        "",
        "llama.cpp splits text differently: this tokenizer's pre-tokenizer is not the one the file names.",
    )


def _prompt(child: Child, gguf: Path, renderer: Renderer, tuned: bool) -> list[dict[str, Any]]:
    """Compare prompts rendered in training with prompts rendered from the file, and count BOS."""
    if renderer.added and not tuned:
        return [
            _line("prompt", None, "a base without a template is asked in plain text"),
            _line("beginning", None, "a base without a template is asked in plain text"),
        ]
    talks = [[Message(role, text) for role, text in talk] for talk in _CONVERSATIONS]
    ours: list[list[int]] = []
    kept = []
    for talk in talks:
        try:
            ours.append(renderer.prompt(talk))
        except ValueError:
            continue  # a template that refuses a system turn refuses it in both places
        kept.append([message.to_dict() for message in talk])
    answer = child.ask({"op": "prompt", "gguf": str(gguf), "conversations": kept}, timeout=300)
    equal = sum(a == b for a, b in zip(ours, answer["ids"], strict=True))
    bos = renderer.tokenizer.bos_token_id
    written = renderer.tokenizer.bos_token and renderer.tokenizer.bos_token in renderer.template.text(talks[0], True)
    wanted = int(bool(written)) if bos not in renderer.control_ids else None
    counts = {row.count(bos) for row in answer["ids"] if isinstance(row, list)} if bos is not None else {0}
    return [
        _line(
            "prompt",
            equal == len(kept) and answer["has_template"],
            f"{equal} of {len(kept)} conversations give the same tokens as in training",
            "",
            "The template in the file is not the one used in training: export again.",
        ),
        _line(
            "beginning",
            None if wanted is None else counts == {wanted},
            "the template's own markers begin each turn" if wanted is None else f"{max(counts)} BOS, as in training",
            "",
            "The file adds or lacks a BOS token: export again.",
        ),
    ]


def _ending(child: Child, gguf: Path, prompts: Sequence[str], renderer: Renderer, tuned: bool) -> dict[str, Any]:
    if not tuned or not prompts:
        return _line("ending", None, "not trained here" if not tuned else "no held-out prompts to ask")
    ends: list[str] = []
    stopped = 0
    for prompt in prompts:
        request = {
            "op": "ask",
            "gguf": str(gguf),
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 200,
            "n_ctx": 1024,
        }
        last = child.ask(request, timeout=300)
        stopped += last["stopped"]
        ends.append(last["stop_token"])
    child.ask({"op": "unload"})
    usual = max(set(ends), key=ends.count)
    return _line(
        "ending",
        stopped >= STOPS_LIMIT * len(prompts),
        f"{stopped} of {len(prompts)} answers stopped by themselves" + (f", at {usual}" if usual else ""),
        f"{STOPS_LIMIT:.0%}",
        "The model has not learned to stop: check that the rows end where answers should end, or train longer.",
    )


def _numbers(child: Child, gguf: Path, type_: str, reference: Reference | None) -> dict[str, Any]:
    if reference is None:
        return _line("numbers", None, "not measured: the model in float32 does not fit in this machine's memory")
    found = child.ask(
        {"op": "compare", "gguf": str(gguf), "rows": reference.rows, "reference": str(reference.logits)}, timeout=600
    )
    line = _line(
        "numbers",
        found["kl"] <= KL_LIMIT[type_],
        f"KL to the trained model {found['kl']:.2g}, top-1 {found['top1']:.1%}",
        f"KL {KL_LIMIT[type_]:g}",
        "This type loses too much for this model: choose one with more bits.",
    )
    return {**line, "kl": found["kl"], "top1": found["top1"], "n": found["n"]}


def _adapter(reference: Reference | None) -> dict[str, Any]:
    if reference is None or reference.adapter_kl is None:
        return _line("adapter", None, "no adapter" if reference is not None else "not measured: too little memory")
    return _line(
        "adapter",
        reference.adapter_kl > 1e-6,
        f"applied: KL to the base {reference.adapter_kl:.2g}",
        "",
        "The adapter changes nothing: the run it came from did not learn.",
    )
