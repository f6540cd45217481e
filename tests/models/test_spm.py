"""tokenizer.model: read as SentencePiece reads it, cut as SentencePiece cuts, refused where llama.cpp would differ."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spmodels import BYTE, BYTES, CONTROL, GEMMA, HEAD, NORMAL, UNUSED, USER_DEFINED, message, trained, varint
from tokenizers import Tokenizer

from studio.errors import ModelError
from studio.models import spm, tokenizer

WORDS = [
    ("a", -9.0, NORMAL),
    ("b", -8.0, NORMAL),
    ("ab", -1.0, NORMAL),
    ("aba", -2.0, NORMAL),
    ("\u2581", -7.0, NORMAL),
]
_ALPHABET = "aab bcdeeinorst  ..,()<>/|[]0123456789\t\n\u00e9\u00df\u6f22\u5b57\U0001f642T"


def texts(count: int = 1500) -> list[str]:
    """Sentences, repeated characters, and noise: of a small alphabet, and of all characters but the low line."""
    rng = random.Random(0)
    made = Path(__file__).read_text("utf-8").splitlines()
    made += [letter * times for letter in ("a", " ", "=", "\n", "ab", "e\u0301") for times in range(40)]
    made += ["".join(rng.choices(_ALPHABET, k=rng.randint(0, 40))) for _ in range(count)]
    for _ in range(count // 3):
        codes = (rng.choice([rng.randint(1, 0x24FF), rng.randint(0xE000, 0x10FFFF)]) for _ in range(20))
        made.append("".join(map(chr, codes)))
    return made


def of(folder: Path) -> Tokenizer:
    return Tokenizer.from_str(tokenizer.text(folder))


@pytest.mark.parametrize("settings", [{}, GEMMA], ids=["llama", "gemma"])
def test_ids_are_those_of_sentencepiece(settings: dict[str, Any], tmp_path: Path) -> None:
    path = trained(tmp_path / "tokenizer.model", **settings)
    from sentencepiece import SentencePieceProcessor

    theirs, ours, found = SentencePieceProcessor(model_file=str(path)), of(tmp_path), spm.read(path)
    everything = range(len(theirs))
    assert list(found.pieces) == [theirs.id_to_piece(index) for index in everything]
    assert list(found.scores) == [theirs.get_score(index) for index in everything]
    for name, kind in (("unknown", spm.UNKNOWN), ("control", spm.CONTROL), ("byte", spm.BYTE), ("unused", spm.UNUSED)):
        assert {i for i in everything if getattr(theirs, f"is_{name}")(i)} == {
            i for i in everything if found.types[i] == kind
        }
    special = [theirs.id_to_piece(getattr(theirs, f"{name}_id")()) for name in ("unk", "bos", "eos")]
    assert [found.unk, found.bos, found.eos] == special
    given = texts()
    ours.encode_special_tokens = True  # a control token's text is text, as it is to SentencePiece
    wrong = [
        text
        for text in given
        if ours.encode(text, add_special_tokens=False).ids != theirs.encode(text) and "\u2581" not in text
    ]
    assert len(given) > 2000 and wrong == []
    for text in given[:200]:
        ids = theirs.encode(text)
        assert ours.decode(ids) == theirs.decode(ids)


def test_a_pair_is_joined_by_the_score_of_what_it_makes(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(message([*HEAD, *WORDS]))
    # ab (-1) before aba (-2), from the left; a space is put in front
    assert of(tmp_path).encode("ababa", add_special_tokens=False).tokens == ["\u2581", "ab", "aba"]
    assert of(tmp_path).encode("ababa").tokens == ["<s>", "\u2581", "ab", "aba"]
    assert of(tmp_path).encode("</s>c", add_special_tokens=False).tokens == ["</s>", "\u2581", "<0x63>"]
    assert tokenizer.scores(tmp_path) == {piece: score for piece, score, _ in WORDS}


def test_what_stands_beside_it_is_taken_too(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(message([*HEAD, *WORDS]))
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 264, "[tool]": 266}')
    config = {
        "pad_token": {"content": "<pad>"}, "add_bos_token": False, "add_eos_token": True, "add_prefix_space": False,
        "added_tokens_decoder": {"2": {"content": "</s>", "rstrip": True, "special": True}},
    }  # fmt: skip
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    made = of(tmp_path)
    assert made.encode("[tool]ab<pad>").ids == [266, 261, 264, 2]
    found = {token["content"]: token for token in tokenizer.read(tmp_path)["added_tokens"]}
    assert (found["<pad>"]["special"], found["[tool]"]["special"], found["</s>"]["rstrip"]) == (True, False, True)
    for beside in ({"ab": 300}, {"<pad>": 261}, {"<pad>": -1}, {"<pad>": "7"}, {"x": 300, "y": 300}):
        (tmp_path / "added_tokens.json").write_text(json.dumps(beside))
        with pytest.raises(ModelError):
            tokenizer.read(tmp_path)


def _with(*more: tuple[str, float, int], **settings: Any) -> bytes:
    return message([*HEAD, *WORDS, *more], **settings)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (_with(trainer={3: 1}), "SentencePiece's kind Unigram"),
        (_with(trainer={3: 4}), "SentencePiece's kind Char"),
        (_with(normalizer={2: b"\x01"}), "rewrites characters"),
        (_with(normalizer={4: 1}), "drops spaces"),
        (_with(normalizer={5: 0}), "treats spaces in a way of its own"),
        (_with(trainer={24: 1}), "treats spaces in a way of its own"),
        (_with(trainer={35: 0}), "no bytes to fall back on"),
        (_with(("<tool>", 0.0, USER_DEFINED)), "defined by hand"),
        (_with(("bab", -3.0, UNUSED)), "not to be used"),
        (message([*HEAD[:-1], *WORDS]), "lacks pieces for some bytes"),
        (_with(("ab", -3.0, NORMAL)), "stands there twice"),
        (_with(("", -3.0, NORMAL)), "is empty"),
        (_with(("c", float("nan"), NORMAL)), "not a number"),
        (_with(("c", -1.0, 9)), "types of pieces"),
        (message([("c", -1.0, CONTROL), *HEAD[1:], *WORDS]), "types of pieces"),
        (_with(trainer={40: 500}), "no piece for what is unknown"),
        (b"", "Unigram"),
        (_with()[:-1], "is damaged"),
        (b"\x0b\x0c", "is damaged"),
        (b"\xff" * 20, "is damaged"),
        (varint(1 << 3 | 2) + varint(1 << 60) + b"x", "is damaged"),
        (b"aGVsbG8= 0\nd29ybGQ= 1\n", "tiktoken"),
        (json.dumps({"model": {}}).encode(), "is damaged"),
    ],
)
def test_what_is_damaged_or_works_in_another_way_is_refused_with_the_reason(
    data: bytes, said: str, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer.model").write_bytes(data)
    with pytest.raises(ModelError) as caught:
        tokenizer.read(tmp_path)
    assert said in caught.value.message and caught.value.remedy and caught.value.file


def test_a_vocabulary_that_was_filled_up_with_unused_pieces_is_taken(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(_with(("[unused1]", 0.0, UNUSED)))
    assert tokenizer.read(tmp_path)["model"]["vocab"]["[unused1]"] == 264
    assert {BYTE} == {kind for _, _, kind in BYTES}


@pytest.mark.parametrize("change", ["flip", "cut", "insert"])
def test_mutated_files_give_model_errors_or_a_vocabulary(change: str, tmp_path: Path) -> None:
    good, rng = _with(), random.Random(change)
    edits: dict[str, Callable[[int], bytes]] = {
        "flip": lambda at: good[:at] + bytes([good[at] ^ 1 << rng.randrange(8)]) + good[at + 1 :],
        "cut": lambda at: good[:at] + good[at + rng.randrange(1, 9) :],
        "insert": lambda at: good[:at] + rng.randbytes(rng.randrange(1, 9)) + good[at:],
    }
    refused = 0
    for turn in range(150):
        folder = tmp_path / str(turn)
        folder.mkdir()
        (folder / "tokenizer.model").write_bytes(edits[change](rng.randrange(len(good))))
        try:
            of(folder)
        except ModelError:
            refused += 1
    assert refused > 0


def test_a_tokenizer_json_beside_it_is_what_counts(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"nonsense")
    (tmp_path / "tokenizer.json").write_bytes((tiny / "tokenizer.json").read_bytes())
    assert tokenizer.read(tmp_path) == json.loads((tiny / "tokenizer.json").read_text("utf-8"))
    assert tokenizer.scores(tmp_path) == {} and tokenizer.pieces(tmp_path) is None
