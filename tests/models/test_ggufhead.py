"""The head of a GGUF file: read as gguf's own reader reads it, and refused by name where it would break one."""

from __future__ import annotations

import math
import os
import random
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from studio.errors import ModelError
from studio.models import ggufformat, ggufhead

TOKENS = ["<s>", "</s>", "a", "ö", "日本", "", "b"]  # an empty token is allowed: padded vocabularies have them
U64 = struct.Struct("<Q").pack
U32 = struct.Struct("<I").pack


def good(path: Path) -> Path:
    """Write a small file of every kind of value with gguf's own writer."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(2)
    writer.add_uint8("x.u8", 200)
    writer.add_int8("x.i8", -3)
    writer.add_uint16("x.u16", 60_000)
    writer.add_int16("x.i16", -300)
    writer.add_int32("x.i32", -70_000)
    writer.add_uint64("x.u64", 2**63 + 1)
    writer.add_int64("x.i64", -(2**40))
    writer.add_float32("x.f32", 0.5)
    writer.add_float64("x.f64", math.pi)
    writer.add_bool("x.yes", True)
    writer.add_string("x.text", "Größe")
    writer.add_array("x.ints", [1, -2, 3])
    writer.add_array("x.floats", [0.5, 1.5])
    writer.add_array("x.bools", [True, False])
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3, 3, 1, 1, 1, 5, 1])
    writer.add_eos_token_id(1)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("token_embd.weight", np.arange(len(TOKENS) * 32, dtype=np.float32).reshape(len(TOKENS), 32))
    writer.add_tensor("blk.0.ffn_up.weight", np.arange(48, dtype=np.float16).reshape(3, 16))
    raw = np.arange(4 * 34, dtype=np.uint8).reshape(2, 68)  # 2 rows of 2 blocks of Q8_0
    writer.add_tensor("blk.1.ffn_up.weight", raw, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(32, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return U64(len(raw)) + raw


def entry(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + U32(kind) + value


def tensor(name: str, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + U32(len(shape)) + b"".join(map(U64, shape)) + U32(kind) + U64(offset)


def laid(
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: int = 0,
    *,
    version: int = 3,
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """Lay a file out by hand: header, keys, tensors, padding, `data` bytes."""
    keys, tensors = keys or [], tensors or []
    count_tensors, count_keys = counts or (len(tensors), len(keys))
    head = b"GGUF" + U32(version) + U64(count_tensors) + U64(count_keys) + b"".join(keys) + b"".join(tensors)
    return head + bytes(-len(head) % alignment) + bytes(data)


def refused(tmp_path: Path, data: bytes) -> ModelError:
    path = tmp_path / "bad.gguf"
    path.write_bytes(data)
    start = time.perf_counter()
    with pytest.raises(ModelError) as caught:
        ggufhead.read(path)
    assert time.perf_counter() - start < 0.5
    assert caught.value.file == str(path) and caught.value.remedy
    return caught.value


def test_a_good_file_is_read_as_ggufs_own_reader_reads_it(tmp_path: Path) -> None:
    path = good(tmp_path / "good.gguf")
    head, other = ggufhead.read(path), gguf.GGUFReader(path)
    theirs = {key: field.contents() for key, field in other.fields.items() if not key.startswith("GGUF.")}
    ours: dict[str, Any] = {
        key: list(value) if not isinstance(value, str | int | float) else value for key, value in head.metadata.items()
    }
    assert ours == theirs
    assert list(head.metadata) == list(theirs)
    assert head.types["x.u64"] == "UINT64" and head.types["x.ints"] == "ARRAY OF INT32"
    assert head.metadata["x.yes"] is True
    assert [(t.name, t.shape, t.type_name, t.nbytes, head.data_offset + t.offset) for t in head.tensors] == [
        (t.name, tuple(map(int, t.shape)), t.tensor_type.name, int(t.n_bytes), int(t.data_offset))
        for t in other.tensors
    ]
    assert (head.version, head.architecture, head.tokens, head.token("eos"), head.token("bos")) == (
        3,
        "llama",
        TOKENS,
        1,
        None,
    )
    assert (head.alignment, head.size) == (other.alignment, path.stat().st_size)
    raw = path.read_bytes()
    for key, (start, end) in head.spans.items():
        assert raw[start + 8 : end].startswith(key.encode())
    assert head.spans["general.architecture"][0] == 24 and head.infos[0] == max(end for _, end in head.spans.values())


def test_the_sizes_of_types_are_those_of_gguf() -> None:
    ours = {name: (block, size) for name, block, size in ggufformat.TYPES.values()}
    theirs = {kind.name: size for kind, size in gguf.GGML_QUANT_SIZES.items()}
    for name in ("Q8_1", "Q8_K"):  # made while llama.cpp computes: no file holds them
        del theirs[name]
    assert {name: ours[name] for name in theirs} == theirs
    assert {kind.name: int(kind) for kind in gguf.GGMLQuantizationType if kind.name in theirs} == {
        name: number for number, (name, _, _) in ggufformat.TYPES.items() if name in theirs
    }
    assert {int(kind): kind.name for kind in gguf.GGUFValueType} == {k: n for k, (n, _) in ggufformat.VALUES.items()}


HUGE = 1 << 63
LLAMA = entry("general.architecture", 8, text("llama"))
NAMED: dict[str, tuple[bytes, str]] = {
    "4-byte magic": (b"GGUF", "The version takes 4 bytes, and the file has 0 left."),
    "version 999": (laid(version=999), "The file is GGUF version 999; versions 2 and 3 are known."),
    "array 2^63": (
        laid([entry("a", 9, U32(4) + U64(HUGE))]),
        "The key 'a' says that it has 9,223,372,036,854,775,808 elements, and the file has",
    ),
    "string 2^63": (
        laid([entry("abc", 8, U64(HUGE))]),
        "The key 'abc' takes 9,223,372,036,854,775,808 bytes, and the file has",
    ),
    "tensor count 2^63": (
        laid(counts=(HUGE, 0)),
        "The file says that it has 9,223,372,036,854,775,808 tensors, which do not fit into it.",
    ),
    "dim 0": (laid([], [tensor("t", (4, 0))], 64), "The tensor 't' has a dimension of size 0."),
    "dim product overflow": (
        laid([], [tensor("t", (1 << 32, 1 << 32))], 64),
        "The tensor 't' says that it has 18,446,744,073,709,551,616 elements: more than a computer can count.",
    ),
    "offset past EOF": (
        laid([], [tensor("t", (4,), offset=4096)], 64),
        "The data of the tensor 't' end at byte 4,176, and the file at 128.",
    ),
    "block_count 9999": (
        laid([LLAMA, entry("llama.block_count", 4, U32(9999))]),
        "The key 'llama.block_count' is 9999: 1 to 512 layers were expected.",
    ),
    "duplicate key": (
        laid([entry("k", 4, U32(1)), entry("k", 4, U32(2))]),
        "The name of key 2 is 'k', which an earlier one is called too: programs differ in which counts.",
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_file_made_to_break_readers_is_refused_with_the_place(tmp_path: Path, name: str) -> None:
    data, message = NAMED[name]
    assert refused(tmp_path, data).message.startswith(message)


def tokens(*words: str) -> bytes:
    return entry("tokenizer.ggml.tokens", 9, U32(8) + U64(len(words)) + b"".join(map(text, words)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "This is no GGUF file: it begins with b''."),
        (b"PK\x03\x04" + bytes(60), "This is no GGUF file: it begins with b'PK"),
        (laid(version=1), "The file is GGUF version 1; versions 2 and 3 are known."),
        (laid(version=0), "The file is GGUF version 0; versions 2 and 3 are known."),
        (b"GGUF" + struct.pack(">I", 3) + bytes(60), "The file is big-endian"),
        (laid(counts=(0, 70_000)), "The file says that it has 70,000 keys"),
        (laid([entry("a", 13, U32(1))]), "The key 'a' has the unknown value type 13."),
        (laid([entry("a", 9, U32(77) + U64(1))]), "The key 'a' is an array of the unknown value type 77."),
        (laid([entry("a", 9, U32(9) + U64(1) + U32(4) + U64(1) + U32(0))]), "The key 'a' is an array of arrays"),
        (laid([entry("a", 7, b"\2" + bytes(8))]), "The key 'a' is neither true nor false but 2."),
        (laid([entry("a", 9, U32(7) + U64(1) + b"\2")]), "The key 'a' holds values that are neither true nor false."),
        (laid([entry("a", 8, text(b"\xff\xfe"))]), "The key 'a' is not UTF-8 text."),
        (laid([entry("", 4, U32(1))]), "The name of key 1 is ''"),
        (laid([entry("a\0b", 4, U32(1))]), "The name of key 1 is 'a\\x00b'"),
        (laid([entry("k" * 70_000, 4, U32(1))]), "The name of key 1 is 'kkkk"),
        (
            laid([entry("a", 9, U32(8) + U64(2) + text("ok") + text(b"\xc3"))]),
            "The key 'a' holds a text (number 1) that",
        ),
        (laid([entry("general.alignment", 4, U32(48))]), "general.alignment is 48: a power of 2"),
        (laid([entry("general.alignment", 4, U32(0))]), "general.alignment is 0: a power of 2"),
        (laid([entry("general.alignment", 4, U32(1 << 17))]), "general.alignment is 131072: a power of 2"),
        (laid([entry("general.alignment", 8, text("32"))]), "general.alignment is 32: a power of 2"),
        (laid([], [tensor("t", ())], 64), "The tensor 't' has 0 dimensions"),
        (laid([], [tensor("t", (1,) * 5)], 64), "The tensor 't' has 5 dimensions"),
        (laid([], [tensor("t", (4,), kind=4)], 64), "The tensor 't' has the type 4, which is not known."),
        (laid([], [tensor("t", (33,), kind=8)], 64), "The tensor 't' has rows of 33, which Q8_0 cannot hold"),
        (laid([], [tensor("t" * 64, (4,))], 64), "The name of tensor 1 is 'tttt"),
        (laid([], [tensor("t", (4,)), tensor("t", (4,), offset=32)], 64), "The name of tensor 2 is 't'"),
        (laid([], [tensor("t", (4,), offset=8)], 64), "The data of the tensor 't' begin at 8, which is no multiple"),
        (laid([], [tensor("t", (16,)), tensor("u", (4,), offset=32)], 96), "The data of the tensor 'u' overlap those"),
        (laid([], [tensor("t", (4,)), tensor("u", (4,), offset=64)], 96), "The data of the tensor 'u' leave a gap"),
        (laid([LLAMA, entry("llama.block_count", 4, U32(0))]), "The key 'llama.block_count' is 0"),
        (laid([LLAMA, entry("llama.block_count", 8, text("2"))]), "The key 'llama.block_count' is 2"),
        (
            laid([LLAMA, entry("llama.block_count", 4, U32(2))], [tensor("blk.2.ffn_up.weight", (4,))], 32),
            "The tensor 'blk.2.ffn_up.weight' belongs to a layer that is not there: the file says it has 2.",
        ),
        (laid([entry("general.architecture", 4, U32(1))]), "The key 'general.architecture' is not a text."),
        (laid([entry("tokenizer.ggml.tokens", 8, text("a"))]), "The key 'tokenizer.ggml.tokens' is no array of texts."),
        (laid([tokens("a", "b", "a")]), "The key 'tokenizer.ggml.tokens' has the token 'a' twice"),
        (
            laid([tokens("a", "b"), entry("tokenizer.ggml.scores", 9, U32(6) + U64(1) + U32(0))]),
            "The key 'tokenizer.ggml.scores' has no value for each of the 2 tokens.",
        ),
        (
            laid([tokens("a", "b"), entry("tokenizer.ggml.eos_token_id", 4, U32(2))]),
            "The key 'tokenizer.ggml.eos_token_id' is 2, and the file has 2 tokens.",
        ),
        (
            laid([tokens("a", "b"), entry("tokenizer.ggml.bos_token_id", 5, struct.pack("<i", -1))]),
            "The key 'tokenizer.ggml.bos_token_id' is -1, and the file has 2 tokens.",
        ),
        (
            laid([tokens("a", "b")], [tensor("token_embd.weight", (8, 3))], 96),
            "The tensor 'token_embd.weight' has 3 rows, and the file 2 tokens.",
        ),
    ],
)
def test_what_does_not_agree_is_refused_with_the_place(tmp_path: Path, data: bytes, message: str) -> None:
    assert refused(tmp_path, data).message.startswith(message)


def test_every_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    data = good(tmp_path / "good.gguf").read_bytes()
    head = ggufhead.read(tmp_path / "good.gguf")
    last = head.data_offset + head.tensors[-1].offset + head.tensors[-1].nbytes
    for size in range(0, last, 7):
        refused(tmp_path, data[:size])


def test_a_missing_file_a_folder_and_a_pipe_are_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, message in (("none", "There is no such file."), (".", "not a plain file"), ("pipe", "not a plain file")):
        with pytest.raises(ModelError, match=message):
            ggufhead.read(tmp_path / name)
    with pytest.raises(ModelError, match="cannot be read"):
        ggufhead.read("a\0b")


def test_a_43_byte_file_that_names_2_to_the_63_elements_is_answered_at_once(tmp_path: Path) -> None:
    data = b"GGUF" + U32(3) + U64(0) + U64(1) + text("abc") + U32(9) + U32(4) + U64(HUGE)
    start = time.perf_counter()
    refused(tmp_path, data[:43])
    assert time.perf_counter() - start < 0.05


def test_a_file_that_claims_much_takes_little_memory(tmp_path: Path) -> None:
    """Counts that fit into a large file, but into no vocabulary."""
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(laid([entry("a", 9, U32(8) + U64(100_000_000))]))
        file.truncate(2 << 30)  # a hole: takes no room on the disk
    with pytest.raises(ModelError, match="more than 2,000,000 texts"):
        ggufhead.read(path)
    with path.open("r+b") as file:
        file.write(laid([entry("a", 9, U32(0) + U64(1 << 30))]))
    with pytest.raises(ModelError, match="ends behind the first 128 MB"):
        ggufhead.read(path)


def test_a_vocabulary_of_200_000_tokens_is_read_in_well_under_a_second(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    words = [f"token{i}" for i in range(200_000)]
    writer.add_token_list(words)
    writer.add_token_merges([f"{word} x" for word in words])
    writer.add_token_types([1] * len(words))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    start = time.perf_counter()
    head = ggufhead.read(path)
    assert time.perf_counter() - start < 0.8
    assert head.tokens == words


def flip(data: bytearray, dice: random.Random) -> bytearray:
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(min(len(data), 1400))] ^= 1 << dice.randrange(8)
    return data


def truncate(data: bytearray, dice: random.Random) -> bytearray:
    return data[: dice.randrange(len(data))]


def splice(data: bytearray, dice: random.Random) -> bytearray:
    """Copy a stretch of the file over another place: counts and lengths of one thing land in another."""
    start, length, to = dice.randrange(len(data)), dice.randint(1, 64), dice.randrange(len(data))
    data[to : to + length] = data[start : start + length]
    return data


def insert(data: bytearray, dice: random.Random) -> bytearray:
    at = dice.randrange(len(data))
    odd = dice.choice([b"\xff" * 8, b"\0" * 8, U64(HUGE), U64(1 << 40), dice.randbytes(dice.randint(1, 16))])
    data[at : at + dice.choice([0, len(odd)])] = odd
    return data


def test_500_mutated_files_are_read_or_refused_in_bounded_time_and_memory(tmp_path: Path) -> None:
    data = good(tmp_path / "good.gguf").read_bytes()
    kinds: list[Callable[[bytearray, random.Random], bytearray]] = [flip, truncate, splice, insert]
    path, outcomes = tmp_path / "mutated.gguf", {"read": 0, "refused": 0}
    tracemalloc.start()
    for seed in range(500):
        dice = random.Random(seed)
        path.write_bytes(kinds[seed % 4](bytearray(data), dice))
        start = time.perf_counter()
        try:
            ggufhead.read(path)
            outcomes["read"] += 1
        except ModelError as error:
            outcomes["refused"] += 1
            assert error.message and error.remedy and error.file == str(path)
        assert time.perf_counter() - start < 1, seed
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 << 20
    assert outcomes["refused"] > 250 and outcomes["read"] > 20, outcomes
