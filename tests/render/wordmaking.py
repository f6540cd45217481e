"""Tiny tokenizers of the two kinds that models have: bytes in words (Llama 3, Qwen), and marks for spaces (Llama 2)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from making import TEXT
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from studio.models.family import FAMILIES

ALPHABET = [chr(code) for code in range(32, 127)] + ["\n", "é", "日", "本"]


def byte_words(control: Sequence[str] = (), *, rstrip: bool = False) -> PreTrainedTokenizerFast:
    """A byte-level BPE; `rstrip` makes its control tokens swallow the white space behind them, as Phi-3's do."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    return _finished(tokenizer, ["<|begin|>", "<|endoftext|>", *control], rstrip, bos="<|begin|>", eos="<|endoftext|>")


def marked_words(control: Sequence[str] = (), *, scheme: str = "first") -> PreTrainedTokenizerFast:
    """A BPE over words whose spaces are written as marks; `scheme` is first, always or legacy (Llama 2's own)."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    if scheme == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        initial_alphabet=["▁", *ALPHABET],
        special_tokens=["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))],
        show_progress=False,
    )
    tokenizer.train_from_iterator([word for text in TEXT for word in text.split()], trainer)
    return _finished(tokenizer, ["<unk>", "<s>", "</s>", *control], False, bos="<s>", eos="</s>", unk="<unk>")


def _finished(tokenizer: Tokenizer, control: Sequence[str], rstrip: bool, **names: str) -> PreTrainedTokenizerFast:
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=rstrip) for token in control]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{f"{name}_token": v for name, v in names.items()})


@functools.cache
def _made(kind: str, name: str) -> str:
    make: Any = byte_words if kind == "bytes" else marked_words
    return make(FAMILIES[name].control_tokens).backend_tokenizer.to_str()


def words(kind: str, family: str) -> PreTrainedTokenizerFast:
    """Give a tokenizer of a kind (bytes, marks) that knows a family's control tokens."""
    names = {"bytes": ("<|begin|>", "<|endoftext|>"), "marks": ("<s>", "</s>")}[kind]
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_made(kind, family)), bos_token=names[0], eos_token=names[1]
    )
