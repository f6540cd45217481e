"""Read the head of a GGUF file: metadata and tensors, checked to the last byte before any library opens the file.

Readers of GGUF have hung and crashed on files made to break them, and llama.cpp aborts its process on some. So every
count is held against what is left of the file, every name against those before it, every tensor against its neighbours
and the file's end; time and memory stay bounded. Numbers are little-endian; layout and rules are those of the format's
specification and, where that leaves room, of what llama.cpp loads.
"""

from __future__ import annotations

import array
import collections
import dataclasses
import math
import os
import re
import stat
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from studio.errors import ModelError
from studio.models import ggufformat as form

_BLOCK = 1 << 20

_DAMAGED = "The file is damaged or was made to break programs: fetch or export it again."
_CUT = "The file is cut off or damaged: fetch or export it again."
_OTHER = "Make it again with a current converter."
_TOKENS, _ALIGNMENT = "tokenizer.ggml.tokens", "general.alignment"
_LAYER = re.compile(r"blk\.(\d+)\.")
_TOKEN_ID = re.compile(r"tokenizer\.ggml\.\w+_token_id")


@dataclasses.dataclass(frozen=True)
class TensorHead:
    """One tensor: its shape as the file has it (fastest dimension first), `offset` from the beginning of the data."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset: int
    nbytes: int


@dataclasses.dataclass(frozen=True)
class Head:
    """What stands before the tensors' data.

    Of `metadata`, arrays of strings are lists and arrays of numbers array.array. `types` names each key's value type
    ("ARRAY OF INT32"), `spans` the bytes in the file from a key to the end of its value, `infos` those of the tensors'
    entries: with them a copy can be written in which everything else stays as it is.
    """

    path: Path
    version: int
    metadata: dict[str, Any]
    types: dict[str, str]
    spans: dict[str, tuple[int, int]]
    tensors: list[TensorHead]
    infos: tuple[int, int]
    alignment: int
    data_offset: int
    size: int

    @property
    def architecture(self) -> str:
        """Give llama.cpp's name of the architecture, "" where none is said."""
        return str(self.metadata.get("general.architecture", ""))

    @property
    def tokens(self) -> list[str]:
        """Give the vocabulary, empty in a file without one."""
        return self.metadata.get(_TOKENS) or []

    def token(self, name: str) -> int | None:
        """Give the id of a special token ("eos", "eot", "bos", "padding", ...), None where the file names none."""
        found = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
        return found if isinstance(found, int) else None


def read(path: str | Path) -> Head:
    """Read and check a file's head: its layout, and whether what it says of the model agrees with itself.

    Raises ModelError that names the key or the tensor at fault. Nothing of the tensors' data is read.
    """
    head = parse(path)
    check(head)
    return head


def parse(path: str | Path) -> Head:
    """Read a file's head and check its layout only: also a file whose stop tokens are to be mended can be read."""
    path = Path(path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelError("This is not a plain file.", "Name a GGUF file.", file=str(path))
        with path.open("rb") as file:
            return _Reader(path, file, os.fstat(file.fileno()).st_size).head()
    except FileNotFoundError:
        raise ModelError("There is no such file.", "Export the model again.", file=str(path)) from None
    except (OSError, ValueError) as error:  # a ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"The file cannot be read ({why}).", "Look at its rights.", file=str(path)) from None


class _Reader:
    """A file read from its beginning, in blocks, never past MAX_HEAD; `at` is where reading goes on."""

    def __init__(self, path: Path, file: BinaryIO, size: int) -> None:
        self.path, self.file, self.size = path, file, size
        self.data, self.at, self.strings = bytearray(), 0, 0

    def fail(self, message: str, remedy: str = _DAMAGED) -> NoReturn:
        raise ModelError(message, remedy, file=str(self.path))

    def need(self, count: int, what: str) -> None:
        """Have `count` bytes from `at` on in memory."""
        end = self.at + count
        if end <= len(self.data):
            return
        if end > self.size:
            left = self.size - self.at
            self.fail(f"{what} takes {count:,} bytes, and the file has {left:,} left.", _CUT)
        if end > form.MAX_HEAD:
            self.fail(f"{what} ends behind the first {form.MAX_HEAD >> 20} MB: no model's metadata are so large.")
        self.data += self.file.read(max(_BLOCK, end - len(self.data)))
        if end > len(self.data):
            self.fail(f"{what} could not be read: the file became shorter meanwhile.", "Wait until it is whole.")

    def number(self, code: str, what: str) -> Any:
        layout = f"<{code}"
        count = struct.calcsize(layout)
        self.need(count, what)
        (value,) = struct.unpack_from(layout, self.data, self.at)
        self.at += count
        return value

    def text(self, what: str) -> str:
        count = self.number("Q", what)
        self.need(count, what)
        raw = self.data[self.at : self.at + count]
        self.at += count
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"{what} is not UTF-8 text.")

    def name(self, what: str, longest: int, seen: Any) -> str:
        found = self.text(what)
        if not found or len(found.encode()) > longest or "\0" in found:
            self.fail(f"{what} is {found[:40]!r}: 1 to {longest:,} bytes without NUL were expected.")
        if found in seen:
            self.fail(f"{what} is {found[:80]!r}, which an earlier one is called too: programs differ in which counts.")
        return found

    def head(self) -> Head:
        version = self._version()
        tensor_count, key_count = self.number("Q", "The number of tensors"), self.number("Q", "The number of keys")
        # the least that an entry takes: a key of 1 byte with 1 of value, a tensor's name of 1 byte with 1 dimension
        for what, count, least in (("keys", key_count, 14), ("tensors", tensor_count, 33)):
            if count > form.MAX_ENTRIES or count * least > self.size - self.at:
                self.fail(f"The file says that it has {count:,} {what}, which do not fit into it.")
        metadata: dict[str, Any] = {}
        types: dict[str, str] = {}
        spans: dict[str, tuple[int, int]] = {}
        for index in range(key_count):
            start = self.at
            key = self.name(f"The name of key {index + 1}", form.MAX_KEY, metadata)
            types[key], metadata[key] = self._value(f"The key {key[:80]!r}")
            spans[key] = (start, self.at)
        alignment = self._alignment(metadata, types)
        start = self.at
        tensors: dict[str, TensorHead] = {}
        for index in range(tensor_count):
            tensor = self._tensor(index, tensors)
            tensors[tensor.name] = tensor
        data_offset = self.at + -self.at % alignment
        found = list(tensors.values())
        made = Head(
            self.path, version, metadata, types, spans, found, (start, self.at), alignment, data_offset, self.size
        )
        self._places(made)
        return made

    def _version(self) -> int:
        self.need(min(4, self.size), "The beginning")
        if self.data[:4] != b"GGUF":
            self.fail(f"This is no GGUF file: it begins with {bytes(self.data[:4])!r}.", "Name a GGUF file.")
        self.at = 4
        version = self.number("I", "The version")
        if version and version & 0xFFFF == 0:
            self.fail("The file is big-endian, and this machine reads little-endian GGUF.", "Convert it with gguf-py.")
        if version not in (2, 3):
            self.fail(f"The file is GGUF version {version}; versions 2 and 3 are known.", _OTHER)
        return int(version)

    def _value(self, what: str) -> tuple[str, Any]:
        kind = self.number("I", what)
        if kind == form.ARRAY:
            return self._array(what)
        if kind not in form.VALUES:
            self.fail(f"{what} has the unknown value type {kind}.")
        name, code = form.VALUES[kind]
        if kind == form.STRING:
            return name, self.text(what)
        value = self.number(code, what)
        if kind == form.BOOL:
            if value > 1:
                self.fail(f"{what} is neither true nor false but {value}.")
            value = bool(value)
        return name, value

    def _array(self, what: str) -> tuple[str, Any]:
        kind, count = self.number("I", what), self.number("Q", what)
        if kind == form.ARRAY:
            self.fail(f"{what} is an array of arrays, which llama.cpp does not read.", _OTHER)
        if kind not in form.VALUES:
            self.fail(f"{what} is an array of the unknown value type {kind}.")
        name, code = form.VALUES[kind]
        each = 8 if kind == form.STRING else struct.calcsize(f"<{code}")
        left = self.size - self.at
        if count * each > left:
            self.fail(f"{what} says that it has {count:,} elements, and the file has {left:,} bytes left.")
        if kind == form.STRING:
            self.strings += count
            if self.strings > form.MAX_STRINGS:
                self.fail(f"{what} makes it more than {form.MAX_STRINGS:,} texts: no vocabulary has so many.")
            return f"ARRAY OF {name}", self._texts(count, what)
        self.need(count * each, what)
        values = array.array(code)
        values.frombytes(self.data[self.at : self.at + count * each])
        if sys.byteorder == "big":
            values.byteswap()
        self.at += count * each
        if kind == form.BOOL and count and max(values) > 1:
            self.fail(f"{what} holds values that are neither true nor false.")
        return f"ARRAY OF {name}", values

    def _texts(self, count: int, what: str) -> list[str]:
        """Read many texts: as `text` does, but a block at a time."""
        found: list[str] = []
        unpack = struct.Struct("<Q").unpack_from
        data, at, ready = self.data, self.at, len(self.data)
        try:
            for _ in range(count):
                if at + 8 > ready:
                    self.at = at
                    self.need(8, what)
                    ready = len(data)
                end = at + 8 + unpack(data, at)[0]
                if end > ready:
                    self.at = at + 8
                    self.need(end - self.at, what)
                    ready = len(data)
                found.append(data[at + 8 : end].decode())
                at = end
        except UnicodeDecodeError:
            self.fail(f"{what} holds a text (number {len(found)}) that is not UTF-8.")
        self.at = at
        return found

    def _alignment(self, metadata: dict[str, Any], types: dict[str, str]) -> int:
        value = metadata.get(_ALIGNMENT, 32)
        fits = (
            types.get(_ALIGNMENT, "UINT32") == "UINT32" and 8 <= value <= form.MAX_ALIGNMENT and not value & (value - 1)
        )
        if not fits:
            self.fail(f"{_ALIGNMENT} is {str(value)[:40]}: a power of 2 from 8 to {form.MAX_ALIGNMENT:,} was expected.")
        return int(value)

    def _tensor(self, index: int, seen: dict[str, TensorHead]) -> TensorHead:
        name = self.name(f"The name of tensor {index + 1}", form.MAX_TENSOR_NAME, seen)
        what = f"The tensor {name!r}"
        dims = self.number("I", what)
        if not 1 <= dims <= form.MAX_DIMS:
            self.fail(f"{what} has {dims} dimensions: 1 to {form.MAX_DIMS} were expected.")
        shape = tuple(self.number("Q", what) for _ in range(dims))
        if 0 in shape:
            self.fail(f"{what} has a dimension of size 0.")
        kind, offset = self.number("I", what), self.number("Q", what)
        if kind not in form.TYPES:
            self.fail(f"{what} has the type {kind}, which is not known.", _OTHER)
        type_name, block, size = form.TYPES[kind]
        count = math.prod(shape)
        if count >= 1 << 63:
            self.fail(f"{what} says that it has {count:,} elements: more than a computer can count.")
        if shape[0] % block:
            self.fail(f"{what} has rows of {shape[0]:,}, which {type_name} cannot hold: it packs {block} at a time.")
        return TensorHead(name, shape, type_name, offset, count // block * size)

    def _places(self, head: Head) -> None:
        """Check that the data follow each other as llama.cpp wants them, and end before the file does."""
        room, expected = self.size - head.data_offset, 0
        for tensor in head.tensors:
            what = f"The data of the tensor {tensor.name!r}"
            if tensor.offset + tensor.nbytes > room:
                end = head.data_offset + tensor.offset + tensor.nbytes
                self.fail(f"{what} end at byte {end:,}, and the file at {self.size:,}.", _CUT)
            if tensor.offset % head.alignment:
                self.fail(f"{what} begin at {tensor.offset:,}, which is no multiple of {head.alignment}.")
            if tensor.offset != expected:
                how = "overlap those of another" if tensor.offset < expected else "leave a gap"
                self.fail(f"{what} {how}: they begin at {tensor.offset:,} in place of {expected:,}.")
            expected += tensor.nbytes + -tensor.nbytes % head.alignment


def check(head: Head) -> None:
    """Check that a head agrees with itself: layers, vocabulary, the ids of special tokens. Raises ModelError."""

    def fail(message: str, remedy: str = _DAMAGED) -> NoReturn:
        raise ModelError(message, remedy, file=str(head.path))

    if head.types.get("general.architecture", "STRING") != "STRING":
        fail("The key 'general.architecture' is not a text.")
    _layers(head, fail)
    if _TOKENS not in head.types:
        return
    if head.types[_TOKENS] != "ARRAY OF STRING":
        fail(f"The key {_TOKENS!r} is no array of texts.")
    count = len(head.tokens)
    for token, times in collections.Counter(filter(None, head.tokens)).most_common(1):
        if times > 1:
            fail(f"The key {_TOKENS!r} has the token {token[:80]!r} twice, on which llama.cpp ends itself.", _OTHER)
    for name in ("scores", "token_type"):
        key = f"tokenizer.ggml.{name}"
        if key in head.types and (not head.types[key].startswith("ARRAY") or len(head.metadata[key]) < count):
            fail(f"The key {key!r} has no value for each of the {count:,} tokens.")
    for key, value in head.metadata.items():
        if _TOKEN_ID.fullmatch(key) and (type(value) is not int or not 0 <= value < count):
            fail(
                f"The key {key!r} is {str(value)[:40]}, and the file has {count:,} tokens.",
                "`studio verify FILE --model M --repair OUT` writes a copy with the right tokens.",
            )
    rows = next((tensor.shape[-1] for tensor in head.tensors if tensor.name == "token_embd.weight"), count)
    if rows != count:
        fail(f"The tensor 'token_embd.weight' has {rows:,} rows, and the file {count:,} tokens.", _OTHER)


def _layers(head: Head, fail: Any) -> None:
    key = f"{head.architecture}.block_count"
    layers = head.metadata.get(key, form.MAX_LAYERS)
    if type(layers) is not int or not 1 <= layers <= form.MAX_LAYERS:
        fail(f"The key {key[:80]!r} is {str(layers)[:40]}: 1 to {form.MAX_LAYERS} layers were expected.")
    for tensor in head.tensors:
        place = _LAYER.match(tensor.name)
        if place and int(place[1]) >= layers:
            fail(f"The tensor {tensor.name!r} belongs to a layer that is not there: the file says it has {layers:,}.")
