"""The certificate of an exported file, made by opening the file itself, never by repeating settings.

Each line is {"name", "ok", "value", "limit", "remedy"}; `ok` is None where a line does not apply or is shown only.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

from studio import paths
from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import ModelError
from studio.export import chatlines, ollama, probes, rendered, vocab, weights
from studio.export.chatlines import line
from studio.export.known import ENOUGH, Known
from studio.export.reference import Reference
from studio.models import elsewhere, ggufhead, splitting
from studio.models import tokenizer as words
from studio.models.ggufhead import Head

#: The largest mean KL of a type to the model in float32, nats per token; other types are measured and shown.
KL_LIMIT = {"F32": 1e-4, "F16": 1e-3, "BF16": 1e-3, "Q8_0": 0.01}
_TURN = 128  # tokens of an answer that are waited for at least
_STRANGERS_TURN = 256  # where it is not known how long its answers are
_MARKS = {True: "ok", False: "**FAILS**", None: "-"}


def make(path: Path, known: Known, reference: Reference | None) -> dict[str, Any]:
    """Check one file against what it was made of. Raises ModelError for what is no GGUF file.

    Lines: token ids, prompts, beginning, stop tokens, ending, numbers, tensors, adapter, ollama.
    """
    head = ggufhead.read(path)
    engine, other = Child(ENGINE), Child(rendered.HANDLER)
    try:
        lines = [
            _token_ids(engine, head, known),
            *chatlines.prompts(engine, other, head, known),
            chatlines.stop_tokens(engine, head, known),
            _ending(engine, head, known),
            *_numbers(engine, head, reference),
            _tensors(head, known),
            _ollama(known),
        ]
    finally:
        engine.close()
        other.close()
    order = ("token ids", "prompts", "beginning", "stop tokens", "ending", "numbers", "tensors", "adapter", "ollama")
    lines.sort(key=lambda line: order.index(line["name"]))
    return {"file": path.name, "type": type_of(head), "ok": all(x["ok"] is not False for x in lines), "lines": lines}


def write(certificate: dict[str, Any], gguf: Path) -> Path:
    """Write FILE.certificate.json, and FILE.certificate.md for people, beside the file; gives the first."""
    path = gguf.with_name(gguf.name + ".certificate.json")
    paths.write_text(path, json.dumps(certificate, indent=1, ensure_ascii=False) + "\n")
    paths.write_text(path.with_suffix(".md"), readable(certificate))
    return path


def readable(certificate: dict[str, Any]) -> str:
    """Write a certificate as Markdown: the verdict, a table of the lines, what the file was made of."""
    verdict = "holds" if certificate["ok"] else "does not hold"
    text = [f"# {certificate['file']}: the certificate {verdict}", ""]
    text += ["| | line | found | limit |", "|---|---|---|---|"]
    for one in certificate["lines"]:
        value = f"{one['value']} {one['remedy']}".strip().replace("|", "\\|").replace("\n", " ")
        text.append(f"| {_MARKS[one['ok']]} | {one['name']} | {value} | {one['limit']} |")
    text.append("")
    for name, said in (certificate.get("about") or {}).items():
        if name == "versions":
            text.append("- made with " + ", ".join(f"{library} {version}" for library, version in said.items()))
        elif said["sha256"]:
            text.append(f"- {name}: `{said['sha256']}` {Path(said['name']).name}")
    if "sha256" in certificate:
        text.append(f"- file: `{certificate['sha256']}`")
    if "made" in certificate:
        text.append(f"- checked {certificate['made']}")
    return "\n".join(text) + "\n"


def stamped(certificate: dict[str, Any], path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Add the file's hash, what it was made of (known.about) and the time."""
    now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {**certificate, "sha256": paths.sha256(path), "about": about, "made": now}


def type_of(head: Head) -> str:
    """Name the type of a file as its head does; the type of most of its bytes where it says nothing."""
    from gguf import LlamaFileType

    try:
        name = LlamaFileType(head.metadata.get("general.file_type", -1)).name
        return name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        sizes: dict[str, int] = {}
        for tensor in head.tensors:
            sizes[tensor.type_name] = sizes.get(tensor.type_name, 0) + tensor.nbytes
        return max(sizes, key=lambda kind: sizes[kind])


def _token_ids(engine: Child, head: Head, known: Known) -> dict[str, Any]:
    tokenizer = known.renderer.tokenizer
    texts = probes.texts(tokenizer)
    folder = elsewhere.speaker(known.base, known.adapter)
    data = words.read(folder)
    # where llama.cpp puts no space in front, texts are compared as they stand in a chat: behind a special token
    inside = splitting.sentencepiece(data) and head.metadata.get("tokenizer.ggml.add_space_prefix") is False
    theirs = engine.ask({"op": "tokens", "gguf": str(head.path), "texts": texts}, timeout=300)["ids"]
    ours = vocab.ids(tokenizer, texts, inside)
    differing = [text for text, a, b in zip(texts, ours, theirs, strict=True) if a != b]
    value = f"{len(texts) - len(differing)} of {len(texts)} probe texts equal"
    if texts != list(probes.TEXTS):
        value += " (accents composed, as the tokenizer does and llama.cpp does not)"
    if differing:
        value += f"; not {differing[0][:40]!r}"
    other = vocab.others(head, folder)
    if other:
        value += f"; {len(other):,} tokens are not the tokenizer's: {other[0][:40]!r}"
    return line(
        "token ids",
        not differing and not other,
        value,
        "all",
        "The file has other tokens than the model was trained on: export it again, or choose another model.",
    )


def _ending(engine: Child, head: Head, known: Known) -> dict[str, Any]:
    """Ask the file: do answers end by themselves, and are they those of the run rather than of the base?"""
    asked = list(known.questions)[:ENOUGH]
    if not known.tuned:
        untold = "no chat template: it is not known where its answers end"
        return line("ending", None, "not trained here" if known.adapter is None else untold)
    if not asked:
        return line("ending", None, "no questions to ask")
    tokenizer = known.renderer.tokenizer
    longest = max(len(tokenizer(question.after)["input_ids"]) for question in asked)
    limit = min(max(_STRANGERS_TURN if known.neutral else _TURN, 2 * longest), 1024)
    ends: list[str] = []
    stopped = changed = 0
    for question in asked:
        request = {
            "op": "ask",
            "gguf": str(head.path),
            "messages": [{"role": "user", "content": question.prompt}],
            "max_tokens": limit,
            "n_ctx": 4 * limit,
            **({"template_args": {"enable_thinking": False}} if known.neutral else {}),
        }
        text, last = "", {}
        for item in engine.stream(request, timeout=600):
            text += item.get("text", "")
            last = item
        stopped += bool(last["stopped"])
        changed += bool(question.before) and text.strip() != question.before.strip()
        if last["stopped"]:
            ends.append(last["stop_token"])
    engine.ask({"op": "unload"})
    at = ", ".join(f"{ends.count(end)} at {end}" for end in dict.fromkeys(ends))
    value = f"{stopped} of {len(asked)} answers stopped by themselves" + (f" ({at})" if at else "")
    if known.neutral:
        value += "; its training rows are not here, so they answer questions of Studio's own"
    if compared := sum(bool(question.before) for question in asked):
        value += f"; {changed} of {compared} held-out ones differ from those before the run"
    return line(
        "ending",
        stopped >= len(asked) - (len(asked) >= 10),  # 19 of 20; of a few, all
        value,
        "19 of 20",
        "The model has not learned to stop: check that the rows end where answers should end, or train longer.",
    )


def _numbers(engine: Child, head: Head, reference: Reference | None) -> list[dict[str, Any]]:
    """Compare the next-token distributions with those of the trained model, and with those of its base."""
    small = "not measured: the model in float32 does not fit in this machine's memory"
    if reference is None:
        return [line("numbers", None, small), line("adapter", None, small)]
    request = {"op": "compare", "gguf": str(head.path), "rows": reference.rows}
    found = engine.ask({**request, "reference": str(reference.logits)}, timeout=1800)
    type_ = type_of(head)
    limit = KL_LIMIT.get(type_)
    value = f"KL to the trained model {found['kl']:.2g}, the same next token in {found['top1']:.1%} of {found['n']}"
    numbers = line(
        "numbers",
        None if limit is None and found["kl"] == found["kl"] else found["kl"] <= (limit or 0.0),
        value,
        f"KL {limit:g}" if limit else "shown only",
        "The file does not compute what the trained model computes: export it again.",
    )
    made = [{**numbers, "kl": found["kl"], "top1": found["top1"], "n": found["n"]}]
    if reference.base is None or reference.adapter_kl is None:
        return [*made, line("adapter", None, "no adapter")]
    plain = engine.ask({**request, "reference": str(reference.base)}, timeout=1800)["kl"]
    if not reference.adapter_kl > 1e-6:
        made.append(
            line("adapter", False, "it changes nothing", "", "The run that it came from did not learn: train longer.")
        )
        return made
    made.append(
        line(
            "adapter",
            found["kl"] < plain,
            f"KL to the trained model {found['kl']:.2g}, to the base {plain:.2g}",
            "nearer to the trained model",
            "The file is the base without its adapter, or loses more than was learned: export it again, in more bits.",
        )
    )
    return made


def _tensors(head: Head, known: Known) -> dict[str, Any]:
    remedy = "The weights in the file are not the model's: export it again."
    try:
        found = weights.compare(head, known)
    except ModelError as error:
        return line("tensors", False, error.message, "", error.remedy)
    value = f"{found['tensors']} tensors, the furthest row {found['worst']:.2%} from base and adapter"
    for kind, said in (("wrong", "not the model's"), ("missing", "on one side only")):
        if found[kind]:
            more = f" and {len(found[kind]) - 3} more" if len(found[kind]) > 3 else ""
            value += f"; {said}: {', '.join(found[kind][:3])}{more}"
    if found["unread"]:
        value += f"; {len(found['unread'])} of a type that is not read here"
    return line("tensors", not found["wrong"] and not found["missing"], value, "rounding only", remedy)


def _ollama(known: Known) -> dict[str, Any]:
    """Say whether a Modelfile has a TEMPLATE: it has one only where Go was shown to render what Jinja renders."""
    if not known.chats:
        return line("ollama", None, "a base is continued, it has no template")
    proof = ollama.proven(known.renderer.source)
    if proof is None:
        return line("ollama", None, "no TEMPLATE: none is proven for this template; Ollama runs the file's own")
    return line("ollama", True, f"TEMPLATE {proof.name}: proven on {proof.compared} of 12 conversations")
