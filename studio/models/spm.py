"""Read tokenizer.model, SentencePiece's own file, without its library: pieces, scores, and how text is prepared.

The file is a protobuf message (sentencepiece_model.proto). The few fields that ids depend on are read here, and
checked, for it comes from strangers. Only byte-pair vocabularies are taken: what SentencePiece computes for the others
(Unigram), or does to a text before it cuts it, is nothing that llama.cpp does for a vocabulary of this kind.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from studio.errors import ModelError
from studio.models.folder import inside

NAME = "tokenizer.model"
#: Types of a piece.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
MAX_FILE = 64 << 20  # bytes; the largest known is 4 MB
MAX_PIECES = 1 << 20
_BPE = 2
_KINDS = {1: "Unigram", 3: "Word", 4: "Char"}
_TIKTOKEN = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")

#: A field of a message: its number, and a whole number, 4 or 8 bytes, or a stretch of bytes.
Field = tuple[int, int | bytes]


@dataclasses.dataclass(frozen=True)
class Pieces:
    """A SentencePiece vocabulary: piece, score and type by id; names of special pieces, "" where there is none.

    `prefix`: a space is put in front of a text.
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    types: tuple[int, ...]
    unk: str
    bos: str
    eos: str
    pad: str
    prefix: bool


def read(path: Path) -> Pieces:
    """Read and check a tokenizer.model. Raises ModelError for a damaged one, or one that works in another way."""
    stamp = inside(path).stat()
    return _read(str(path), stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=4)
def _read(name: str, stamp: int, size: int) -> Pieces:
    path = Path(name)

    def bad(what: str, remedy: str = "Download the model again.") -> ModelError:
        return ModelError(f"{path.name} {what}", remedy, file=name)

    if size > MAX_FILE:
        raise bad(f"is larger than {MAX_FILE >> 20} MB.", "It is not a model's.")
    data = path.read_bytes()
    other = "Choose a model with a tokenizer.json."
    if _TIKTOKEN.match(data):
        raise bad("is a tiktoken vocabulary, not SentencePiece's.", other)
    try:
        made, settings = _message(data)
    except (ValueError, TypeError, IndexError, struct.error):
        raise bad("is damaged, or is not SentencePiece's.") from None
    if why := _odd(settings):
        raise bad(f"cannot be used: {why}.", other)
    if why := _damaged(made):
        raise bad(f"is damaged: {why}.")
    if made.prefix and USER_DEFINED in made.types:
        raise bad(
            "cannot be used: it puts a space in front of a text and has pieces that were defined by hand, behind which "
            "llama.cpp would put another.",
            other,
        )
    return made


@dataclasses.dataclass
class _Settings:
    """What the message says of how it was trained and of how text is prepared, with the format's own defaults."""

    kind: int = 1
    suffix: bool = False
    bytes_: bool = False
    ids: dict[str, int] = dataclasses.field(default_factory=lambda: {"unk": 0, "bos": 1, "eos": 2, "pad": -1})
    charsmap: bool = False
    extra: bool = True
    escapes: bool = True


def _message(data: bytes) -> tuple[Pieces, _Settings]:
    pieces: list[str] = []
    scores: list[float] = []
    types: list[int] = []
    found, prefix = _Settings(), True
    for number, value in _fields(data):
        if number == 1:
            piece, score, kind = _piece(_bytes(value))
            pieces.append(piece)
            scores.append(score)
            types.append(kind)
            if len(pieces) > MAX_PIECES:
                raise ValueError("too many pieces")
        elif number == 2:
            _trainer(_bytes(value), found)
        elif number == 3:
            prefix = _normalizer(_bytes(value), found)
    special = {
        name: pieces[at] if 0 <= at < len(pieces) and types[at] in (UNKNOWN, CONTROL) else ""
        for name, at in found.ids.items()
    }
    return Pieces(tuple(pieces), tuple(scores), tuple(types), **special, prefix=prefix), found


def _piece(data: bytes) -> tuple[str, float, int]:
    text, score, kind = "", 0.0, NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = _bytes(value).decode("utf-8")
        elif number == 2:
            (score,) = struct.unpack("<f", _bytes(value))
        elif number == 3:
            kind = _number(value)
    return text, score, kind


def _trainer(data: bytes, found: _Settings) -> None:
    ids = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
    for number, value in _fields(data):
        if number == 3:
            found.kind = _number(value)
        elif number == 24:
            found.suffix = bool(_number(value))
        elif number == 35:
            found.bytes_ = bool(_number(value))
        elif number in ids:
            at = _number(value)
            found.ids[ids[number]] = at if at < 1 << 31 else -1  # a negative number is written in 64 bits


def _normalizer(data: bytes, found: _Settings) -> bool:
    prefix = True
    for number, value in _fields(data):
        if number == 2:
            found.charsmap = bool(_bytes(value))
        elif number == 3:
            prefix = bool(_number(value))
        elif number == 4:
            found.extra = bool(_number(value))
        elif number == 5:
            found.escapes = bool(_number(value))
    return prefix


def _fields(data: bytes) -> Iterator[Field]:
    """Go through the fields of a message; ValueError or IndexError for what is none."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | bytes
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 2, 5):
            size = 8 if kind == 1 else 4
            if kind == 2:
                size, at = _varint(data, at)
            if size > end - at:
                raise ValueError("cut off")
            value, at = data[at : at + size], at + size
        else:
            raise ValueError("no such kind")
        if not number:
            raise ValueError("no number")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise ValueError("too long")


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise TypeError("a number where text is")
    return value


def _number(value: int | bytes) -> int:
    if not isinstance(value, int):
        raise TypeError("text where a number is")
    return value


def _odd(found: _Settings) -> str:
    """Say what of it works otherwise than llama.cpp's SentencePiece, "" where nothing does."""
    if found.kind != _BPE:
        kind = _KINDS.get(found.kind, str(found.kind))
        return f"it is of SentencePiece's kind {kind}, and llama.cpp's SentencePiece joins byte pairs only"
    if found.charsmap:
        return "it rewrites characters before it cuts a text, and llama.cpp does not"
    if found.extra:
        return "it drops spaces at the ends of a text and repeated ones, and llama.cpp does not"
    if found.suffix or not found.escapes:
        return "it treats spaces in a way of its own"
    return "" if found.bytes_ else "it has no bytes to fall back on where a character is unknown"


def _damaged(made: Pieces) -> str:
    known = set(made.pieces)
    if not made.pieces:
        return "it holds no pieces"
    if len(known) != len(made.pieces) or "" in known:
        return "a piece stands there twice, or is empty"
    if not all(map(math.isfinite, made.scores)):
        return "a score is not a number"
    if not set(made.types) <= set(range(1, 7)) or made.types.count(UNKNOWN) != 1:
        return "its types of pieces make no sense"
    bytes_ = {piece for piece, kind in zip(made.pieces, made.types, strict=True) if kind == BYTE}
    if not {f"<0x{byte:02X}>" for byte in range(256)} <= bytes_:
        return "it lacks pieces for some bytes"
    for piece, kind in zip(made.pieces, made.types, strict=True):
        halves = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
        if kind == UNUSED and any(left in known and right in known for left, right in halves):
            return "it has pieces that are not to be used, and that others would be joined to"
    return "" if made.unk else "it has no piece for what is unknown"
