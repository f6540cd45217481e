"""What tests make: tiny random models, files of rows."""

from __future__ import annotations

import json
from pathlib import Path

TEXT = [
    "The capital of France is Paris. The capital of Japan is Tokyo. A cat says meow, a dog says woof.",
    "What is the capital of Italy? What do cows eat? How many legs does a spider have? Eight, of course.",
    "Once upon a time there was a small grey mouse who wanted to see the sea, and so it walked for a year.",
    "1 + 2 = 3. 12 + 30 = 42. The opposite of hot is cold; the opposite of up is down. user assistant system",
]


def make_model(folder: Path, *, control: bool = True, vocab: int = 512, seed: int = 0, **config: object) -> Path:
    """Write a tiny random Llama with a byte-level BPE tokenizer; `control` adds ChatML's tokens to its vocabulary."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|pad|>"] + (["<|im_start|>", "<|im_end|>"] if control else [])
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 4, trainer)
    size = tokenizer.get_vocab_size()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>").save_pretrained(
        folder
    )
    torch.manual_seed(seed)
    values: dict[str, object] = {
        "vocab_size": size,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    model = LlamaForCausalLM(LlamaConfig(**{**values, **config}))  # type: ignore[arg-type]
    model.to(torch.bfloat16).save_pretrained(folder)
    return folder


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path
