"""Write a tokenizer into a GGUF file: byte-level BPE from tokenizer.json.

llama.cpp picks how it splits text before merging by a name (`pre`); it is chosen here from the tokenizer's own pre-
tokenizer, and proven afterwards by the certificate, which compares ids on probe texts.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import ModelError
from studio.models import check

if TYPE_CHECKING:
    from gguf import GGUFWriter

_LLAMA3 = (
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*"
    "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
#: the pre-tokenizer as (kinds, regex) -> llama.cpp's name for it
_PRE = {
    (("ByteLevel",), ""): "gpt-2",
    (("Digits", "ByteLevel"), ""): "smollm",
    (("Split", "ByteLevel"), _LLAMA3): "llama-bpe",
    (("Split", "ByteLevel"), _LLAMA3.replace("{1,3}", "")): "qwen2",
}


def pre_tokenizer(tokenizer: dict[str, Any]) -> str:
    """Name the pre-tokenizer of a tokenizer.json as llama.cpp knows it; ModelError when it has no name for it."""
    pre = tokenizer.get("pre_tokenizer") or {}
    parts = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    kinds = tuple(str(part.get("type")) for part in parts)
    regex = next((part["pattern"].get("Regex", "") for part in parts if part.get("type") == "Split"), "")
    name = _PRE.get((kinds, regex))
    if tokenizer.get("model", {}).get("type") != "BPE" or name is None:
        raise ModelError(
            f"This tokenizer ({' + '.join(kinds)}) cannot be written as GGUF yet.",
            "Choose a model with a GPT-2, SmolLM, Llama 3 or Qwen 2 style byte-level tokenizer.",
        )
    return name


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
) -> None:
    """Write tokens, types, merges, special ids and the chat template.

    `rows` is the embedding's height: ids without a token are filled with unused ones. An answer must end at
    `end_of_turn`, so where there is one it is both the eos and the eot of the file; programs that know only eos then
    stop as well.
    """
    from gguf import TokenType

    data = check.read_json(folder / "tokenizer.json")
    pre = pre_tokenizer(data)
    vocabulary = check.read_vocabulary(folder)
    added = {token["content"]: token for token in data.get("added_tokens", [])}
    tokens = [f"[PAD{index}]" for index in range(rows)]
    types = [TokenType.UNUSED] * rows
    for token, index in vocabulary.items():
        tokens[index] = token
        if token in added:
            types[index] = TokenType.CONTROL if added[token]["special"] else TokenType.USER_DEFINED
        else:
            types[index] = TokenType.NORMAL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = data["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    stop = end_of_turn or eos
    if bos in vocabulary:
        writer.add_bos_token_id(vocabulary[bos])
    if stop in vocabulary:
        writer.add_eos_token_id(vocabulary[stop])
    if end_of_turn in vocabulary:
        writer.add_eot_token_id(vocabulary[end_of_turn])
    if pad in vocabulary:
        writer.add_pad_token_id(vocabulary[pad])
    writer.add_add_bos_token(bos in vocabulary and _starts_with_bos(data, bos))
    if template:
        writer.add_chat_template(template)


def _starts_with_bos(data: dict[str, Any], bos: str | None) -> bool:
    """Tell whether the tokenizer itself puts BOS before a text (its post-processor says so)."""
    post = data.get("post_processor") or {}
    parts = post["processors"] if post.get("type") == "Sequence" else [post]
    singles = [part.get("single") or [] for part in parts if part.get("type") == "TemplateProcessing"]
    return any(entry.get("SpecialToken", {}).get("id") == bos for single in singles for entry in single[:1])
