"""A model's tokenizer as the contents of a tokenizer.json, whichever file it is written in.

Older repositories have tokenizer.model alone, SentencePiece's own file. SentencePiece joins the two neighbours whose
piece has the highest score, a tokenizer.json the pair that stands first in its list: every pair that makes a piece,
ordered by the piece's score, is therefore the same vocabulary. Pieces that were defined by hand are found in the text
as it was typed, before anything is joined, and so are control tokens.

A text begins with a space where the file says so; so does what stands behind a control token, as in the tokenizer.json
that such models were published with later, and as in llama.cpp.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.models import spm
from studio.models.folder import read_object

FAST = "tokenizer.json"
_SPACE = "\u2581"
_ADDED, _CONFIG = "added_tokens.json", "tokenizer_config.json"
_MOST = 1 << 31


def file(folder: Path) -> Path:
    """Give the file that a folder's tokenizer is written in; tokenizer.json where there is none at all."""
    fast, own = folder / FAST, folder / spm.NAME
    there = fast.exists() or fast.is_symlink()
    return own if not there and (own.exists() or own.is_symlink()) else fast


def pieces(folder: Path) -> spm.Pieces | None:
    """Read the pieces of a folder whose tokenizer is tokenizer.model; None where there is a tokenizer.json."""
    path = file(folder)
    return spm.read(path) if path.name == spm.NAME else None


def read(folder: Path) -> dict[str, Any]:
    """Give the contents of a folder's tokenizer.json, made from tokenizer.model where there is only that.

    The caller must not change it. Raises ModelError for a damaged file, or one that cannot be used.
    """
    path = file(folder)
    if path.name != spm.NAME:
        return read_object(path)
    stamps = [path.stat().st_mtime_ns if path.exists() else 0 for path in map(folder.joinpath, (spm.NAME, *_BESIDE))]
    return _made(str(folder), *stamps)


_BESIDE = (_ADDED, _CONFIG)


@functools.lru_cache(maxsize=2)
def _made(name: str, *stamps: int) -> dict[str, Any]:
    folder = Path(name)
    found = spm.read(folder / spm.NAME)
    config = read_object(folder / _CONFIG) if (folder / _CONFIG).exists() else {}
    added = _added(found, folder, config)
    vocabulary = {token["content"]: token["id"] for token in added}
    own = {token["id"] for token in added}
    vocabulary |= {piece: index for index, piece in enumerate(found.pieces) if index not in own}
    prefix = found.prefix and config.get("add_prefix_space") is not False
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    steps = [{"type": "Prepend", "prepend": _SPACE}, replace] if prefix else [replace]
    back: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": _SPACE}, "content": " "}]
    back += [{"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        back.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": None,
        "post_processor": _around(found, vocabulary, config),
        "decoder": {"type": "Sequence", "decoders": back},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": found.unk,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": dict(sorted(vocabulary.items(), key=lambda item: item[1])),
            "merges": merges(found),
        },
    }


def merges(found: spm.Pieces) -> list[list[str]]:
    """List the pairs that make a piece of the vocabulary, those of the highest score first."""
    joined = {
        piece: (score, index)
        for index, (piece, score, kind) in enumerate(zip(found.pieces, found.scores, found.types, strict=True))
        if kind == spm.NORMAL
    }
    order = sorted(joined, key=lambda piece: (-joined[piece][0], joined[piece][1]))
    pairs = ([piece[:at], piece[at:]] for piece in order for at in range(1, len(piece)))
    return [pair for pair in pairs if pair[0] in joined and pair[1] in joined]


def scores(folder: Path) -> dict[str, float]:
    """Give the scores of the pieces that are joined, {} where the tokenizer is no tokenizer.model."""
    found = pieces(folder)
    if found is None:
        return {}
    listed = zip(found.pieces, found.scores, found.types, strict=True)
    return {piece: score for piece, score, kind in listed if kind == spm.NORMAL}


def _added(found: spm.Pieces, folder: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    """List the tokens that are found whole in a text: the file's own, and those added beside it."""
    made: dict[int, dict[str, Any]] = {}
    for index, (piece, kind) in enumerate(zip(found.pieces, found.types, strict=True)):
        if kind in (spm.UNKNOWN, spm.CONTROL):
            made[index] = _token(index, piece, True)
        elif kind == spm.USER_DEFINED:
            made[index] = _token(index, piece.replace(_SPACE, " "), False)
    special = {_content(token) for name, token in config.items() if name.endswith("_token")}
    more = config.get("additional_special_tokens")
    special |= {_content(token) for token in more} if isinstance(more, list) else set()
    beside = read_object(folder / _ADDED) if (folder / _ADDED).exists() else {}
    listed = [(index, token, {"special": token in special}) for token, index in beside.items()]
    described = config.get("added_tokens_decoder") or {}
    try:
        listed += [(int(index), token["content"], token) for index, token in described.items()]
        for index, content, flags in listed:
            if type(index) is not int or not 0 <= index < _MOST or not isinstance(content, str) or not content:
                raise ValueError(content)
            known = found.pieces[index] if index < len(found.pieces) else made.get(index, {}).get("content", content)
            if known.replace(_SPACE, " ") != content.replace(_SPACE, " "):
                raise ValueError(content)
            kept = {name: flags[name] for name in ("special", "lstrip", "rstrip") if isinstance(flags.get(name), bool)}
            made[index] = {**_token(index, content, False), **made.get(index, {}), **kept}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelError(
            f"{spm.NAME} and the tokens added to it ({_ADDED}, {_CONFIG}) do not go together.",
            "Take all files of the tokenizer from the same source.",
            file=str(folder / spm.NAME),
        ) from None
    names = [token["content"] for token in made.values()]
    if len(set(names)) != len(names) or set(names) & {p for i, p in enumerate(found.pieces) if i not in made}:
        raise ModelError(
            "An added token has two numbers.", "Take the tokenizer from its source again.", file=str(folder)
        )
    return [made[index] for index in sorted(made)]


def _content(token: Any) -> str:
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str) else ""


def _token(index: int, content: str, special: bool) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": index, "content": content, **flags, "special": special}


def _around(found: spm.Pieces, vocabulary: dict[str, int], config: dict[str, Any]) -> dict[str, Any] | None:
    """Say what is put around a text: BOS in front unless tokenizer_config.json says no, EOS behind if it says so."""
    bos, eos = (_content(config.get(f"{name}_token")) or getattr(found, name) for name in ("bos", "eos"))
    begins = config.get("add_bos_token", True) and bos in vocabulary
    ends = config.get("add_eos_token", False) and eos in vocabulary
    if not (begins or ends):
        return None

    def row(*names: str) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        for at, name in enumerate(names):
            made += [{"SpecialToken": {"id": bos, "type_id": at}}] if begins else []
            made.append({"Sequence": {"id": name, "type_id": at}})
            made += [{"SpecialToken": {"id": eos, "type_id": at}}] if ends else []
        return made

    used = [token for token, wanted in ((bos, begins), (eos, ends)) if wanted]
    special = {token: {"id": token, "ids": [vocabulary[token]], "tokens": [token]} for token in used}
    return {"type": "TemplateProcessing", "single": row("A"), "pair": row("A", "B"), "special_tokens": special}


def text(folder: Path) -> str:
    """Give the tokenizer as the text of a tokenizer.json."""
    return json.dumps(read(folder), ensure_ascii=False)
