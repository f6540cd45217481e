"""The memory for words gives what the tokenizer gives: ids and places, for the patterns of the common families."""

from __future__ import annotations

import random
from typing import Any

import pytest
from making import TEXT
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from studio.render.words import Row, remembering

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = LLAMA3.replace("{1,3}", "")
CL100K = LLAMA3.replace("]?\\p{L}+|", "]?+\\p{L}+|")
BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)


def split(pattern: str) -> Any:
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), BYTES])


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
SPLITTERS = {
    "gpt-2": GPT2,
    "smollm": pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2]),
    "llama-3": split(LLAMA3),
    "qwen": split(QWEN),
    "cl100k": split(CL100K),
}
ENDS = ["<|im_start|>", "<|im_end|>", "<|im_end|><"]


def make(splitter: Any, normalizer: Any = None) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=ENDS, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([*TEXT, "I'LL we'Ve   12345 \n\n\r\n --> ((x)) == don't", *TEXT], trainer)
    tokenizer.add_tokens(["capital of"])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    return tokenizer


def texts(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    words = " ".join(TEXT).split()
    odd = [*map(chr, range(128)), "  ", "\n\n", "\r\n", "'s", "'LL", "é", "二", "🙂", "\u2028", "capital of", *ENDS]
    return [
        "".join(chance.choice(odd if chance.random() < 0.5 else [" " + chance.choice(words)]) for _ in range(60))
        for _ in range(count)
    ]


@pytest.mark.parametrize("name", SPLITTERS)
@pytest.mark.parametrize("normalizer", [None, normalizers.NFC()], ids=["as it is", "nfc"])
def test_rows_are_what_the_tokenizer_makes_of_them(name: str, normalizer: Any) -> None:
    tokenizer = make(SPLITTERS[name], normalizer)
    words = remembering(tokenizer)
    assert words is not None
    given = ["", "".join(map(chr, range(128))), *ENDS, *texts(400, seed=1)]
    given += [text.encode("ascii", "ignore").decode() for text in given]
    for text, ours, theirs in zip(given, words(given), tokenizer.encode_batch(given), strict=True):
        assert ours.ids == theirs.ids, text
    for text, ours in list(zip(given, words(given), strict=True))[:60]:
        theirs = tokenizer.encode(text)
        assert [ours.char_to_token(i) for i in range(len(text) + 1)] == [
            theirs.char_to_token(i) for i in range(len(text) + 1)
        ]
        assert [ours.token_to_chars(i) for i in range(len(ours.ids))] == theirs.offsets == ours.offsets


def test_a_tokenizer_that_works_otherwise_is_left_alone() -> None:
    assert remembering(make(pre_tokenizers.ByteLevel(add_prefix_space=True))) is None
    assert remembering(make(pre_tokenizers.Metaspace())) is None
    assert remembering(make(split(r"\p{Lu}+|\s+|."))) is None
    assert remembering(make(split(r"\p{L}+|\s+"))) is None  # leaves gaps
    assert remembering(make(GPT2, normalizers.Lowercase())) is None
    spelled = make(GPT2)
    spelled.model.dropout = 0.1
    assert remembering(spelled) is None


def test_a_word_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Asked:
        def __init__(self, inner: Tokenizer) -> None:
            self.inner = inner

        def to_str(self) -> str:
            return str(self.inner.to_str())

        def encode(self, text: str, **options: Any) -> Any:
            asked.append(text)
            return self.inner.encode(text, **options)

        def encode_batch(self, some: list[str], **options: Any) -> Any:
            asked.extend(some)
            return self.inner.encode_batch(some, **options)

    words = remembering(Asked(make(GPT2)))
    assert words is not None
    rows: list[Row] = words(["one two one two", "two one"] * 3)
    assert asked == ["one", " two", " one", "two"] and rows[0].ids == rows[2].ids
