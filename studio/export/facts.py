"""What can be said of a GGUF file without the model it was made from: does it load, does it agree with itself.

Gives lines of a certificate (certificate.py). That a file behaves as trained needs a reference; that it lacks a
template, writes two BOS, never stops, or holds noise where weights should be, does not.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import StudioError
from studio.export.repair import TEMPLATE
from studio.export.talks import CONVERSATIONS
from studio.models import ggufhead
from studio.models.ggufhead import Head
from studio.render.template import ChatTemplate

#: A file may be this much worse than guessing, in nats a token, before its numbers count as noise.
SLACK = 1.0
_TEXTS = (
    "Hello, world!",
    "  two leading spaces, and a tab\tin between ",
    "It's 12,345.67 in 2024; I'll say: \"don't\".",
    "def f(x):\n    return x ** 2  # done\n\n\n",
    "Größe, naïve café, Ελληνικά, Русский, 日本語, العربية, हिन्दी",
    "emoji 🙂🚀, zero\u200bwidth",
    "a" * 60,
)
_PLAIN = (
    "The capital of France is Paris, and the capital of Japan is Tokyo. Once upon a time there was a small mouse who "
    "wanted to see the sea. One and one is two, two and two is four. The sun rises in the east."
)
_ANSWER = "Hello, Ada."  # the first answer of the talk "several turns"
_CHAT = ("prompts", "beginning", "stop tokens")
_CONTROL = (3, 4)  # token types: control, and defined by a user
_ABSENT = {
    "ending": "the stop test needs the model that it was made of",
    "tensors": "no model to compare with",
    "adapter": "no base to compare with",
}


def check(gguf: Path) -> dict[str, Any]:
    """Make the certificate of a file without a reference; ModelError for what is no GGUF model."""
    head = ggufhead.read(gguf)
    child = Child(ENGINE)
    try:
        broken = _broken_template(head)
        lines = [_loads(child, head, "tokens" if broken else "load")]
        if lines[0]["ok"]:
            lines += [_tokens(child, head), *_chat_lines(child, head, broken), _numbers(child, head)]
        else:
            names = ("token ids", *_CHAT, "numbers")
            lines += [_line(name, None, "llama.cpp does not load the file") for name in names]
    finally:
        child.close()
    lines += [_line(name, None, why) for name, why in _ABSENT.items()]
    return {"file": gguf.name, "ok": all(line["ok"] is not False for line in lines), "lines": lines}


def end_of_turn(child: Child, head: Head) -> int | None:
    """Give the token that the file's own template writes behind an answer; None where it writes none, or only text."""
    return _behind_answer(head, _rendered(child, head)["several turns"])


def _line(name: str, ok: bool | None, value: Any, limit: Any = "", remedy: str = "") -> dict[str, Any]:
    return {"name": name, "ok": ok, "value": value, "limit": limit, "remedy": remedy if ok is False else ""}


def _broken_template(head: Head) -> str:
    """Say why the template in the file cannot be used, "" where it can, or where there is none."""
    try:
        ChatTemplate(str(head.metadata.get(TEMPLATE, "")), dict.fromkeys(("bos_token", "eos_token", "pad_token"), ""))
    except StudioError as error:
        return error.message
    return ""


def _loads(child: Child, head: Head, op: str) -> dict[str, Any]:
    said = f"GGUF {head.version}, {head.architecture}, {len(head.tensors):,} tensors, {len(head.tokens):,} tokens"
    if not head.tensors:
        remedy = "Take the whole model's file: this one is for programs that only cut text into tokens."
        return _line("loads", False, f"{said}: a vocabulary without a model", "", remedy)
    try:
        child.ask({"op": op, "gguf": str(head.path), "n_ctx": 64, "texts": []}, timeout=600)
        child.ask({"op": "unload"})
    except StudioError as error:
        return _line("loads", False, f"{said}; {error.message}", "", "Make the file again: llama.cpp cannot open it.")
    return _line("loads", True, said)


def _chat_lines(child: Child, head: Head, broken: str) -> list[dict[str, Any]]:
    """Look at what the file's own template makes of the 12 conversations."""
    why = f"the template in the file is broken: {broken}" if broken else "the file has no chat template"
    if broken or not head.metadata.get(TEMPLATE):
        remedy = (
            "Name the model that it was made from: `studio verify FILE --model M --repair OUT` writes its template."
        )
        return [_line("prompts", False, why, "", remedy), *(_line(name, None, why) for name in _CHAT[1:])]
    answer = _ask_prompts(child, head)
    rendered = dict(zip(CONVERSATIONS, answer["ids"], strict=True))
    return [_prompts(head, rendered), _beginning(head, rendered), _stops(head, rendered, answer["stops"])]


def _ask_prompts(child: Child, head: Head) -> dict[str, Any]:
    talks = [[turn.to_dict() for turn in talk] for talk in CONVERSATIONS.values()]
    return child.ask({"op": "prompt", "gguf": str(head.path), "conversations": talks}, timeout=300)


def _rendered(child: Child, head: Head) -> dict[str, Any]:
    return dict(zip(CONVERSATIONS, _ask_prompts(child, head)["ids"], strict=True))


def _tokens(child: Child, head: Head) -> dict[str, Any]:
    """Do texts come back from their tokens? That they are the training's tokens, only a reference can tell."""
    rows = child.ask({"op": "tokens", "gguf": str(head.path), "texts": list(_TEXTS)}, timeout=300)["ids"]
    if _bytes_of(head) is None:
        kind = head.metadata.get("tokenizer.ggml.model", "unknown")
        return _line("token ids", None, f"not looked at: a vocabulary of kind {kind}")
    back = sum(_spelled(head, row).strip() == text.strip() for row, text in zip(rows, _TEXTS, strict=True))
    remedy = "The vocabulary in the file is damaged or lacks characters: export again."
    return _line(
        "token ids", back == len(_TEXTS), f"{back} of {len(_TEXTS)} texts come back from their tokens", "", remedy
    )


def _prompts(head: Head, rendered: dict[str, Any]) -> dict[str, Any]:
    """Does the template render what it should, with the last question in it?"""
    refused = {name: row["error"] for name, row in rendered.items() if isinstance(row, dict)}
    dropped = [
        name
        for name, row in rendered.items()
        if name not in refused and CONVERSATIONS[name][-1].content.strip() not in _spelled(head, row)
    ]
    done = len(rendered) - len(refused) - len(dropped)
    value = f"{done} of {len(rendered)} conversations are rendered"
    if refused:
        value += f"; the template refuses: {', '.join(refused)} ({next(iter(refused.values()))})"
    if dropped:
        value += f"; the question is missing in: {', '.join(dropped)}"
    remedy = "The template in the file is broken: name the model, and write its own with --repair."
    return _line("prompts", not refused and not dropped, value, "", remedy)


def _beginning(head: Head, rendered: dict[str, Any]) -> dict[str, Any]:
    bos, adds = head.token("bos"), head.metadata.get("tokenizer.ggml.add_bos_token")
    rows = {name: row for name, row in rendered.items() if isinstance(row, list)}
    if bos is None:
        return _line("beginning", None, "the file names no BOS")
    one, many = (rows.get(name, []).count(bos) for name in ("one turn", "several turns"))
    if many > one:
        return _line("beginning", None, f"{head.tokens[bos]} begins each turn here")
    counts = {row.count(bos) for row in rows.values()}
    ok = counts <= {0, 1} and all(row[0] == bos for row in rows.values() if bos in row)
    value = f"the template writes {max(counts, default=0)} BOS"
    if ok and adds is True and counts == {0}:
        return _line("beginning", None, f"{value}, and the file asks programs to add one: some do, others do not")
    return _line("beginning", ok, value, "at most 1", "The template repeats BOS: write the model's own with --repair.")


def _stops(head: Head, rendered: dict[str, Any], stops: Sequence[str]) -> dict[str, Any]:
    """Does the file stop at the token that its template writes behind an answer, and at no ordinary word?"""
    types = head.metadata.get("tokenizer.ggml.token_type") or []
    for name in ("eos", "eot", "eom"):
        token = head.token(name)
        if token is not None and token < len(types) and types[token] not in _CONTROL:
            value = f"{name} is {head.tokens[token]!r}, an ordinary piece of text, at which answers would be cut off"
            return _line("stop tokens", False, value, "", "Write the model's own stop tokens with --repair.")
    found = _behind_answer(head, rendered["several turns"])
    if found is None:
        return _line("stop tokens", None, f"the template ends a turn with text; the file stops at {', '.join(stops)}")
    end = head.tokens[found]
    if end not in stops:
        value = f"the template ends a turn with {end}, and the file stops at {', '.join(stops) or 'nothing'}"
        return _line("stop tokens", False, value, "", f"Make {end} the file's stop token: add --repair OUT.")
    return _line("stop tokens", True, f"{end} ends a turn, and the file stops at {', '.join(stops)}")


def _behind_answer(head: Head, row: Any) -> int | None:
    """Give the first control token behind the first answer, if no other text than spaces stands between."""
    if not isinstance(row, list):
        return None
    types = head.metadata.get("tokenizer.ggml.token_type") or []
    for end in range(1, len(row)):
        if not _spelled(head, row[:end]).rstrip().endswith(_ANSWER):
            continue
        for token in row[end:]:
            if token < len(types) and types[token] in _CONTROL:
                return int(token)
            if _spelled(head, [token]).strip():
                return None
        return None
    return None


def _numbers(child: Child, head: Head) -> dict[str, Any]:
    """Measure the loss of a plain text: weights that are noise, or not numbers, are worse than guessing.

    The engine compares with distributions that are all but certain of the next token, so that the KL is the loss:
    -log q(next), but for exp(-40) a token of the vocabulary.
    """
    import numpy as np

    (row,) = child.ask({"op": "tokens", "gguf": str(head.path), "texts": [_PLAIN]}, timeout=300)["ids"]
    row = row[:64]
    certain = np.zeros((len(row) - 1, len(head.tokens)), np.float32)
    certain[np.arange(len(row) - 1), row[1:]] = 40
    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder) / "next.npy", certain)
        request = {"op": "compare", "gguf": str(head.path), "rows": [row[:-1]], "reference": f"{folder}/next.npy"}
        try:
            loss = float(child.ask(request, timeout=600)["kl"])
        except StudioError as error:
            return _line("numbers", False, f"llama.cpp could not compute: {error.message}", "", "Make the file again.")
    guess = math.log(len(head.tokens))
    ok = math.isfinite(loss) and loss <= guess + SLACK
    value = f"loss of a plain text {loss:.2f} nats a token; guessing has {guess:.2f}"
    return _line("numbers", ok, value, f"{guess + SLACK:.2f}", "The weights in the file are damaged: make it again.")


def _spelled(head: Head, ids: Sequence[int]) -> str:
    """Write tokens as text, control tokens as they are called."""
    spell = _bytes_of(head)
    if spell is None:
        return "".join(head.tokens[token] for token in ids)
    types = head.metadata.get("tokenizer.ggml.token_type") or []
    raw = b"".join(
        head.tokens[token].encode() if token < len(types) and types[token] in _CONTROL else spell(head.tokens[token])
        for token in ids
    )
    return raw.decode("utf-8", "replace")


def _bytes_of(head: Head) -> Any:
    """Give the function that turns a token into bytes, None for a kind of vocabulary that is not known here."""
    return {"gpt2": _of_bytes, "llama": _of_pieces}.get(str(head.metadata.get("tokenizer.ggml.model")))


def _of_pieces(token: str) -> bytes:
    """SentencePiece: a low line for a space, <0x0A> for a byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()


def _of_bytes(token: str) -> bytes:
    """GPT-2's: a visible character for each byte."""
    table = _visible()
    return bytes(table[c] for c in token) if all(c in table for c in token) else token.encode()


@functools.cache
def _visible() -> dict[str, int]:
    """GPT-2's table: printable bytes stand for themselves, the others for the characters from 256 on, in order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + at): byte for at, byte in enumerate(rest)}
