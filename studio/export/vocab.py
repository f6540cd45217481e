"""Write a tokenizer into a GGUF file: byte-level BPE, or SentencePiece pieces with scores.

The certificate compares ids afterwards. What llama.cpp does not know how to do is left out of the comparison by name:
it normalises nothing (Qwen's tokenizers compose accents first).
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from studio.child import Child
from studio.errors import ModelError
from studio.export import probes
from studio.models import check, splitting, tokenizer
from studio.models.ggufhead import Head

if TYPE_CHECKING:
    from gguf import GGUFWriter

_ENGINE = "studio.chat.engine:handle"
_NORMAL, _SAID = 1, (1, 4, 6)  # token types: normal; those that an answer writes (normal, defined by hand, a byte)


def strips(folder: Path) -> bool:
    """Tell whether special tokens take the spaces behind them with them, as Phi-3's do."""
    added = tokenizer.read(folder).get("added_tokens", [])
    return any(token.get("special") and token.get("rstrip") for token in added)


def add_vocabulary(
    writer: GGUFWriter,
    folder: Path,
    rows: int,
    *,
    template: str,
    bos: str | None,
    eos: str | None,
    pad: str | None,
    end_of_turn: str | None,
    opened: bool = False,
    add_bos: bool = False,
    scores: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Write tokens, types, merges or scores, special ids and the chat template.

    `rows` is the embedding's height: ids without a token are filled with unused ones. An answer ends at `end_of_turn`;
    programs that know only an eos stop as well where it is given as that too. `opened` says that a chat begins with a
    special token: a SentencePiece tokenizer that puts a space in front of the first word only then puts none, and
    llama.cpp, which would put one behind every special token, is told to put none either. `add_bos` tells programs to
    put BOS in front. `scores` are those of a tokenizer.model, where the model has that alone. Raises ModelError for a
    tokenizer that llama.cpp cannot be given.
    """
    data = tokenizer.read(folder)
    vocabulary = check.read_vocabulary(folder)
    if why := splitting.problem(data):
        raise ModelError(f"This model cannot be written as GGUF: {why}.", "Choose another model.", file=str(folder))
    if splitting.sentencepiece(data):
        _pieces(writer, data, vocabulary, rows, scores)
        scheme = splitting.spaces(data)
        writer.add_add_space_prefix(scheme == "always" or (scheme == "first" and not opened))
    else:
        _bpe(writer, data, vocabulary, rows, splitting.name(data) or tried(folder))
    for token, add in (
        (bos, writer.add_bos_token_id),
        (eos, writer.add_eos_token_id),
        (end_of_turn, writer.add_eot_token_id),
        (pad, writer.add_pad_token_id),
        (data["model"].get("unk_token"), writer.add_unk_token_id),
    ):
        if token in vocabulary:
            add(vocabulary[token])
    writer.add_add_bos_token(add_bos and bos in vocabulary)
    if template:
        writer.add_chat_template(unmarked(template))


def unmarked(template: str) -> str:
    """Give a template whose `{% generation %}` marks, which llama.cpp's own programs do not know, are conditions.

    Those write nothing either, and leave or take the same spaces around them.
    """
    made = re.sub(r"\{%([-+]?)\s*generation\s*([-+]?)%\}", r"{%\1 if true \2%}", template)
    return re.sub(r"\{%([-+]?)\s*endgeneration\s*([-+]?)%\}", r"{%\1 endif \2%}", made)


def _filled(data: dict[str, Any], vocabulary: dict[str, int], rows: int) -> tuple[list[str], list[Any]]:
    """Give the tokens in their order and their types; ids that no token has are filled."""
    from gguf import TokenType

    added = {token["content"]: token for token in data.get("added_tokens", [])}
    tokens, types = [f"[PAD{index}]" for index in range(rows)], [TokenType.UNUSED] * rows
    for token, index in vocabulary.items():
        if index < rows:  # a picture's token has no row in a text model
            tokens[index] = token
            own = added.get(token)
            types[index] = TokenType.NORMAL
            if own is not None:
                types[index] = TokenType.CONTROL if own["special"] else TokenType.USER_DEFINED
    return tokens, types


def _merges(data: dict[str, Any]) -> list[tuple[str, str]]:
    pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in data["model"]["merges"])
    return [(left, right) for left, right in pairs]


def _bpe(writer: GGUFWriter, data: dict[str, Any], vocabulary: dict[str, int], rows: int, pre: str) -> None:
    tokens, types = _filled(data, vocabulary, rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{left} {right}" for left, right in _merges(data)])


def _pieces(
    writer: GGUFWriter, data: dict[str, Any], vocabulary: dict[str, int], rows: int, scores: Mapping[str, float]
) -> None:
    """Write SentencePiece pieces; llama.cpp joins those with the highest score first.

    Where no scores are known, a score is minus the rank. Added tokens that are made of spaces are found by merging, as
    in the tokenizer itself: it looks for them before spaces are rewritten, and so never meets one.
    """
    from gguf import TokenType

    tokens, types = _filled(data, vocabulary, rows)
    rank: dict[str, int] = {}
    for index, (left, right) in enumerate(_merges(data)):
        rank.setdefault(left + right, index)
    score = scores or {token: -float(index) for token, index in rank.items()}
    last = min(score.values(), default=0.0) - 1
    unknown = data["model"].get("unk_token")
    for index, token in enumerate(tokens):
        if token == unknown:
            types[index] = TokenType.UNKNOWN
        elif len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
            types[index] = TokenType.BYTE
        elif types[index] == TokenType.USER_DEFINED and splitting.SPACE in token and token in rank:
            types[index] = TokenType.NORMAL
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores([score.get(token, last) for token in tokens])
    writer.add_token_types(types)


def others(head: Head, folder: Path) -> list[str]:
    """List the tokens that a file has otherwise than the tokenizer: another text, or one that answers leave out.

    Probes meet a few hundred tokens, an answer may hold any. How a token that was added is marked differs from program
    to program, and so does a space in it; rows that no token has are no one's.
    """
    data, tokens = tokenizer.read(folder), head.tokens
    added = {token["content"] for token in data.get("added_tokens", [])}
    types = head.metadata.get("tokenizer.ggml.token_type") or [_NORMAL] * len(tokens)
    found = []
    for token, index in check.read_vocabulary(folder).items():
        if index < len(tokens):
            same = tokens[index].replace(splitting.SPACE, " ") == token.replace(splitting.SPACE, " ")
            if not same or (
                types[index] not in _SAID and token not in added and token != data["model"].get("unk_token")
            ):
                found.append(token)
    return found


def tried(folder: Path) -> str:
    """Find llama.cpp's name for a tokenizer's cutting by trying: the first under which every probe gives equal ids.

    Raises ModelError when there is none.
    """
    return _tried(str(folder), (folder / "tokenizer.json").stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _tried(folder: str, stamp: int) -> str:
    import gguf
    from transformers import PreTrainedTokenizerFast

    path = Path(folder)
    data = check.read_json(path / "tokenizer.json")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path / "tokenizer.json"))
    texts = probes.texts(tokenizer)
    ours = ids(tokenizer, texts)
    vocabulary = check.read_vocabulary(path)
    child = Child(_ENGINE)
    try:
        with tempfile.TemporaryDirectory() as place:
            for pre in splitting.CANDIDATES:
                file = Path(place) / "vocabulary.gguf"
                writer = gguf.GGUFWriter(file, "llama")
                _bpe(writer, data, vocabulary, max(vocabulary.values()) + 1, pre)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_ti_data_to_file()
                writer.close()
                if child.ask({"op": "tokens", "gguf": str(file), "texts": texts}, timeout=300)["ids"] == ours:
                    return pre
    finally:
        child.close()
    kinds = json.dumps(data.get("pre_tokenizer"))[:120]
    raise ModelError(
        f"llama.cpp has no name for the way in which this tokenizer cuts text ({kinds}).",
        "Choose another model: its GGUF would read text in other tokens than it was trained on.",
        file=str(path / "tokenizer.json"),
    )


def ids(tokenizer: Any, texts: Sequence[str], inside: bool = False) -> list[list[int]]:
    """Tokenise typed texts: control tokens in them are read as text, nothing is added.

    `inside` a chat, a tokenizer that puts a space in front of the first word only puts none.
    """
    splitter = tokenizer.backend_tokenizer.pre_tokenizer
    first = inside and getattr(splitter, "prepend_scheme", "") == "first"
    if first:
        splitter.prepend_scheme = "never"
    try:
        return list(tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"])
    finally:
        if first:
            splitter.prepend_scheme = "first"
