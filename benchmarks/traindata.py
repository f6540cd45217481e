"""What benchmarks/train.py trains: models with random weights, and rows of mixed length, the same at every call."""

from __future__ import annotations

import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

from data import COMMON

WORDS = COMMON.split()
#: Answers are of few words, so that there is something to learn.
CHOSEN, REJECTED = WORDS[:40], WORDS[40:80]
CONTROL = ["<|im_start|>", "<|im_end|>"]
#: Hidden size, feed-forward size, layers, heads, key/value heads, vocabulary of the models made here.
SHAPES = {
    "tiny": (64, 128, 2, 4, 2, 4096),
    "128k vocabulary": (256, 768, 2, 4, 2, 128_256),
    "Qwen-like 0.5B": (896, 4864, 24, 14, 2, 151_936),
    "Llama-like 1B": (2048, 8192, 16, 32, 8, 128_256),
}


def make_model(name: str, folder: Path) -> Path:
    """Write a Llama with random weights, and a tokenizer that knows the words: its other rows are there to be paid."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    hidden, feed, layers, heads, kv_heads, vocabulary = SHAPES[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2048,
        special_tokens=["<|endoftext|>", "<|pad|>", *CONTROL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([COMMON], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|pad|>")
    fast.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feed,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def learned_rows(model: Path, folder: Path) -> Path:
    """Give a model the embedding rows of control tokens that it never learned; the same folder where there are none.

    Studio would train them beside the adapter, TRL would not: so both train the adapter alone.
    """
    import torch
    from safetensors.torch import load_file, save_file

    from studio.models import check

    info = check.inspect(str(model))
    if not info.untrained:
        return model
    shutil.copytree(model, folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    ids = {**vocabulary["model"]["vocab"], **{one["content"]: one["id"] for one in vocabulary["added_tokens"]}}
    generator = torch.Generator().manual_seed(0)
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        for name in ("model.embed_tokens.weight", "lm_head.weight"):
            if (weight := tensors.get(name)) is not None:
                for token in info.untrained:
                    row = torch.randn(weight.shape[1], generator=generator)
                    weight[ids[token]] = (row * weight.float().norm(dim=1).median() / row.norm()).to(weight.dtype)
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


def write_rows(path: Path, method: str, rows: int, max_length: int, model: Path, seed: int) -> Path:
    """Write conversations (sft) or pairs (dpo), their lengths in the model's tokens spread log-normally.

    The median is a fifth of `max_length`, the longest nine tenths; an answer is a tenth to four tenths of its row.
    """
    from transformers import AutoTokenizer

    rng = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    cost = {word: len(tokenizer(" " + word, add_special_tokens=False)["input_ids"]) for word in WORDS}
    frame = tokenizer("user assistant\n\n" + "".join(CONTROL) * 3, add_special_tokens=False)["input_ids"]

    def text(words: list[str], tokens: float) -> str:
        said, weights = [], [1 / (rank + 3) for rank in range(len(words))]
        while tokens > 0:
            said += rng.choices(words, weights)
            tokens -= cost[said[-1]]
        return " ".join(said)

    made: list[dict[str, Any]] = []
    for _ in range(rows):
        length = min(0.9 * max_length, rng.lognormvariate(math.log(0.2 * max_length), 0.8))
        answer = max(2.0, length * rng.uniform(0.1, 0.4))
        asked = max(4.0, length - answer - len(frame))
        if method == "sft":
            turns = [("user", text(WORDS, asked)), ("assistant", text(CHOSEN, answer))]
            made.append({"messages": [{"role": role, "content": said} for role, said in turns]})
        else:
            other = max(2.0, answer * rng.uniform(0.6, 1.2))
            made.append(
                {"prompt": text(WORDS, asked), "chosen": text(CHOSEN, answer), "rejected": text(REJECTED, other)}
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def tokens(path: Path, model: Path, max_length: int, work: Path) -> list[dict[str, Any]]:
    """Give the tokens of a file as Studio makes them: {"input_ids", "labels"}, of pairs as TRL names their parts."""
    from studio.data import dataset
    from studio.render import cache, encode

    found = cache.build(
        dataset.load(path), encode.load(model), max_length=max_length, cut="none", folder=work / "tokens"
    )
    assert not found.left_out, found.left_out
    made = []
    for example in (found[at] for at in range(len(found))):
        if "text" in example:
            ids, labels = (list(map(int, example["text"][name])) for name in ("ids", "labels"))
            made.append({"input_ids": ids, "labels": labels})
            continue
        sides = {}
        for side in ("chosen", "rejected"):
            ids, labels = (list(map(int, example[side][name])) for name in ("ids", "labels"))
            start = next(at for at, label in enumerate(labels) if label != -100)
            end = max(at for at, label in enumerate(labels) if label != -100) + 1
            assert ids[start:end] == labels[start:end]
            sides["prompt_ids"], sides[f"{side}_ids"] = ids[:start], ids[start:end]
        made.append(sides)
    return made
