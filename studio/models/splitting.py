"""How a tokenizer.json cuts text before it merges, under the names that llama.cpp has for it.

llama.cpp knows byte-level BPE by a name (`pre`) that stands for a regular expression built into it, and SentencePiece
vocabularies as such. A tokenizer that cuts in a way without a name here may still be one that llama.cpp knows; that is
found out by trying (export/vocab).
"""

from __future__ import annotations

from typing import Any

SPACE = "\u2581"

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_WORDS = "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
_REST = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
_REST_SLASH = " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
_UP, _LOW = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
_HEAD = "[^\\r\\n\\p{L}\\p{N}]?"
_LLAMA3 = f"{_CONTRACTIONS}|{_WORDS}|\\p{{N}}{{1,3}}|{_REST}"
_QWEN2 = f"{_CONTRACTIONS}|{_WORDS}|\\p{{N}}|{_REST}"
_QWEN35 = (
    f"{_CONTRACTIONS}|[^\\r\\n\\p{{L}}\\p{{N}}]?[\\p{{L}}\\p{{M}}]+|\\p{{N}}"
    "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
)
_TEKKEN = f"{_HEAD}{_UP}*{_LOW}+|{_HEAD}{_UP}+{_LOW}*|\\p{{N}}|{_REST_SLASH}"
_GPT4O = f"{_HEAD}{_UP}*{_LOW}+{_CONTRACTIONS}?|{_HEAD}{_UP}+{_LOW}*{_CONTRACTIONS}?|\\p{{N}}{{1,3}}|{_REST_SLASH}"
_SPLIT = ("Split", "ByteLevel")
#: the steps, the regular expression -> the names with and without `ignore_merges` ("" : llama.cpp has none)
_NAMES: dict[tuple[tuple[str, ...], str], tuple[str, str]] = {
    (("ByteLevel",), ""): ("", "gpt-2"),
    (("Digits", "ByteLevel"), ""): ("", "smollm"),
    (_SPLIT, _LLAMA3): ("llama-bpe", "smaug-bpe"),
    (_SPLIT, _QWEN2): ("", "qwen2"),
    (_SPLIT, _QWEN35): ("", "qwen35"),
    (_SPLIT, _TEKKEN): ("tekken", ""),
    (_SPLIT, _GPT4O): ("", "gpt-4o"),
}
#: Names to try where a tokenizer is none of the above: one for each regular expression that llama.cpp has built in.
CANDIDATES = (
    "gpt-2", "smollm", "smaug-bpe", "qwen2", "deepseek-llm", "deepseek-coder", "deepseek-v3", "gpt-4o", "tekken",
    "llama-bpe", "falcon", "qwen35", "bailingmoe", "seed-coder", "superbpe", "jais-2", "poro-chat", "viking", "glm4",
    "exaone-moe", "tiny_aya", "youtu",
)  # fmt: skip


def sentencepiece(tokenizer: dict[str, Any]) -> bool:
    """Tell whether a tokenizer.json is a SentencePiece vocabulary: BPE on characters, bytes where there is no piece."""
    model = tokenizer.get("model") or {}
    return model.get("type") == "BPE" and bool(model.get("byte_fallback"))


def name(tokenizer: dict[str, Any]) -> str:
    """Name the cutting of a byte-level BPE tokenizer.json as llama.cpp does; "" where that has to be tried."""
    parts = _steps(tokenizer)
    kinds = tuple(str(part.get("type")) for part in parts)
    regex = next((part["pattern"].get("Regex", "") for part in parts if part.get("type") == "Split"), "")
    usual: dict[str, dict[str, Any]] = {
        "Split": {"behavior": "Isolated", "invert": False},
        "Digits": {"individual_digits": True},
        "ByteLevel": {"add_prefix_space": False, "use_regex": kinds != _SPLIT},
    }
    for part, kind in zip(parts, kinds, strict=True):
        if any(part.get(key, value) != value for key, value in usual.get(kind, {}).items()):
            return ""
    ignoring, merging = _NAMES.get((kinds, regex), ("", ""))
    return ignoring if (tokenizer.get("model") or {}).get("ignore_merges") else merging


def _steps(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    pre = tokenizer.get("pre_tokenizer") or {}
    return list(pre.get("pretokenizers", [])) if pre.get("type") == "Sequence" else [pre]


def problem(tokenizer: dict[str, Any]) -> str:
    """Say why a tokenizer.json cannot be written as GGUF, "" where it can (or has to be tried)."""
    model = tokenizer.get("model") or {}
    kind = str(model.get("type"))
    if kind != "BPE":
        return f"its tokenizer is of the kind {kind[:40]}; llama.cpp is given byte-level BPE and SentencePiece BPE only"
    if sentencepiece(tokenizer):
        return "" if spaces(tokenizer) is not None else "its SentencePiece tokenizer treats spaces in a way of its own"
    if not any(part.get("type") == "ByteLevel" for part in _steps(tokenizer)):
        return "its tokenizer is neither byte-level BPE nor SentencePiece"
    return ""


def spaces(tokenizer: dict[str, Any]) -> str | None:
    """Say where a SentencePiece tokenizer puts a space in front that was not written.

    "always": at the beginning and behind every special token; "first": at the beginning only; "never"; None: it does
    not write spaces as SentencePiece does.
    """
    normalizer, pre = tokenizer.get("normalizer") or {}, tokenizer.get("pre_tokenizer") or {}
    steps = normalizer.get("normalizers", []) if normalizer.get("type") == "Sequence" else [normalizer]
    kinds = [str(step.get("type")) for step in steps if step]
    if pre.get("type") == "Metaspace" and not kinds:
        scheme = pre.get("prepend_scheme")
        if scheme is None:
            scheme = "always" if pre.get("add_prefix_space", True) else "never"
        return str(scheme) if pre.get("split", True) is False else None
    replaced = any(step.get("type") == "Replace" and step.get("content") == SPACE for step in steps if step)
    if not replaced or set(kinds) - {"Prepend", "Replace"}:
        return None
    return "always" if "Prepend" in kinds else "never"
