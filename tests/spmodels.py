"""Write tokenizer.model files: SentencePiece's message, encoded here by the format's description."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from pathlib import Path

import pytest
from making import TEXT

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
BYTES = [(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
#: What a Llama of the second generation begins with.
HEAD = [("<unk>", 0.0, UNKNOWN), ("<s>", 0.0, CONTROL), ("</s>", 0.0, CONTROL), *BYTES]


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value % (1 << 64))


def stretch(field: int, data: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    made = bytearray()
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    return bytes([*made, value])


def message(
    pieces: Iterable[tuple[str, float, int]],
    *,
    trainer: dict[int, int] | None = None,
    normalizer: dict[int, int | bytes] | None = None,
) -> bytes:
    """Encode pieces as a byte-pair vocabulary; `trainer` and `normalizer` are further fields by number."""
    made = b""
    for text, score, kind in pieces:
        made += stretch(1, stretch(1, text.encode()) + varint(2 << 3 | 5) + struct.pack("<f", score) + number(3, kind))
    settings: dict[int, int] = {3: 2, 35: 1, **(trainer or {})}
    made += stretch(2, b"".join(number(field, value) for field, value in settings.items()))
    said: dict[int, int | bytes] = {4: 0, **(normalizer or {})}
    parts = (
        stretch(field, value) if isinstance(value, bytes) else number(field, value) for field, value in said.items()
    )
    return made + stretch(3, b"".join(parts))


def trained(path: Path, **settings: object) -> Path:
    """Train a small vocabulary with SentencePiece itself, as Llama's was; skips where it is not installed."""
    spm = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    held = io.BytesIO()
    usual: dict[str, object] = {
        "model_type": "bpe", "vocab_size": 700, "byte_fallback": True, "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False, "split_digits": True, "allow_whitespace_only_pieces": True,
        "hard_vocab_limit": False, "minloglevel": 2,
    }  # fmt: skip
    root = Path(__file__).parents[1]
    lines = [line for file in sorted(root.glob("*.md")) for line in file.read_text("utf-8").splitlines() if line]
    spm.SentencePieceTrainer.train(sentence_iterator=iter(TEXT * 4 + lines), model_writer=held, **{**usual, **settings})
    path.write_bytes(held.getvalue())
    return path


GEMMA = {
    "add_dummy_prefix": False, "user_defined_symbols": ["\n", "\n\n", "<table>", *("\u2581" * n for n in range(2, 9))],
    "control_symbols": ["<start_of_turn>", "<end_of_turn>"], "pad_id": 0, "eos_id": 1, "bos_id": 2, "unk_id": 3,
    "bos_piece": "<bos>", "eos_piece": "<eos>",
}  # fmt: skip
