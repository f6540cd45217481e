"""Pre-training: a small Llama, one pass over the corpus, AdamW with a cosine schedule that is run to its end.

Ending the schedule matters: half-way through, tuning on the base gave only four right answers in five.
"""

import math
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from tokenizer import END_OF_TEXT, PAD, VOCAB_SIZE

CONTEXT = 512
BATCH_SIZE = 8
STEPS = 2800
LEARNING_RATE = 1.5e-3
FINAL_FRACTION = 0.05
WARMUP_FRACTION = 0.05
ENCODE_AT_ONCE = 2000


def build_model(tokenizer: Tokenizer, seed: int) -> LlamaForCausalLM:
    """A Llama of about 6 M parameters; each matrix has rows that are a multiple of 256 long, as K-quants need."""
    torch.manual_seed(seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCAB_SIZE,
            hidden_size=256,
            intermediate_size=768,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=CONTEXT,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=tokenizer.token_to_id(END_OF_TEXT),
            pad_token_id=tokenizer.token_to_id(PAD),
        )
    )


def windows(documents: Iterator[str], tokenizer: Tokenizer) -> Iterator[list[int]]:
    """Endless windows of `CONTEXT` + 1 tokens, each of which begins where a document begins.

    What the last document has beyond its window is dropped, so that a prompt's first token is always met as one that
    opens a document: a bare question opens a list of questions.
    """
    end = tokenizer.token_to_id(END_OF_TEXT)
    window: list[int] = []
    while True:
        for encoding in tokenizer.encode_batch([next(documents) for _ in range(ENCODE_AT_ONCE)]):
            window += [*encoding.ids, end]
            if len(window) > CONTEXT:
                yield window[: CONTEXT + 1]
                window = []


def learning_rate(step: int, steps: int) -> float:
    """Linear warm-up, then a cosine down to `FINAL_FRACTION` of the peak."""
    warmup = max(1, round(steps * WARMUP_FRACTION))
    if step < warmup:
        return LEARNING_RATE * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return LEARNING_RATE * (FINAL_FRACTION + (1 - FINAL_FRACTION) * cosine)


def pretrain(documents: Iterator[str], tokenizer: Tokenizer, seed: int, steps: int, folder: Path) -> None:
    """Train from scratch and write the weights in bf16."""
    torch.use_deterministic_algorithms(True)
    model = build_model(tokenizer, seed)
    print(f"{sum(weight.numel() for weight in model.parameters()):,} parameters, {steps} steps", flush=True)
    decayed = [weight for weight in model.parameters() if weight.ndim == 2]
    others = [weight for weight in model.parameters() if weight.ndim != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    forward = torch.compile(model)
    stream = windows(documents, tokenizer)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        batch = torch.tensor([next(stream) for _ in range(BATCH_SIZE)])  # (B, T + 1)
        with torch.autocast("cpu", torch.bfloat16):
            logits: Tensor = forward(input_ids=batch[:, :-1], use_cache=False).logits  # (B, T, V)
        loss = cross_entropy(logits.float().flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 25 == 0 or step + 1 == steps:
            seconds = time.monotonic() - started
            speed = (step + 1) * BATCH_SIZE * CONTEXT / seconds
            progress = f"step {step + 1}/{steps}  loss {loss.item():.4f}"
            print(f"{progress}  {speed:,.0f} tokens/s  {seconds:.0f} s", flush=True)
    model.to(torch.bfloat16).save_pretrained(folder)
