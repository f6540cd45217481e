"""One measurement of benchmarks/train.py, in a process of its own: it does one Job and prints one line of JSON.

What is measured is the training alone: not the imports, the loading, the tokens, nor the trainer's set-up. Memory is
what the process takes at most while it trains, above what it took just before (CUDA: torch's own count).
"""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python leaves it out where PYTHONSAFEPATH is set


@dataclasses.dataclass
class Job:
    """What to do: `side` is ours, trl, trl-packed, trl-liger or trl-compiled; the files are those of traindata.py."""

    side: str
    method: str
    model: str
    tokenizer: str
    train: str
    tokens: str
    held: str
    work: str
    settings: dict[str, Any]
    packs: int = 1
    score: bool = False
    profile: bool = False


def ours(job: Job) -> dict[str, Any]:
    """Train as `studio train` does, but for the measurements and answers before and after."""
    import torch

    from studio import runs, worker
    from studio.train import prepare, reference, trainer

    worker.quiet()
    settings = {
        **job.settings,
        **({"nll_coef": 0.0} if job.method == "dpo" else {}),  # the loss as published, as the other side's
        "held_out": 0.0,
        "save_every": 10**6,
        "cut": "none",
        "optimizer": "adamw",
        "dtype": "bf16" if torch.cuda.is_available() else "float32",  # as the other side
    }
    config = runs.RunConfig("train", "benchmark", job.model, job.method, job.train, settings=settings)
    run = runs.create(config, Path(job.work) / "run")
    made = prepare.setup(run, lambda _: None, lambda: False)
    train, held = prepare.encoded(made).view(made.aside)
    policy = prepare.load(made)
    assert not policy.new_tokens
    loop = trainer.StudioTrainer(
        policy,
        made.method,
        made.config,
        train,
        held,
        pad_id=made.renderer.pad_id,
        checkpoints=run.dir / "checkpoints",
        emit=lambda _: None,
        should_stop=lambda: False,
    )
    with Watch(job.profile) as seen:
        if made.method.reference:
            reference.score(made, policy, train, held)
        loop.train()
    policy.save(Path(job.work) / "adapter")
    layout = {"packed": policy.packed, "shared": policy.shared}
    return {**seen.found, "steps": loop.state.global_step, **layout}


def theirs(job: Job) -> dict[str, Any]:
    """Train as TRL's documentation has it, on the same tokens."""
    import torch
    import trl
    from datasets import Dataset, disable_progress_bars
    from peft import LoraConfig
    from transformers import AutoTokenizer

    disable_progress_bars()
    given, cuda = job.settings, torch.cuda.is_available()
    together, passes = given["micro_batch_size"], given["batch_size"] // given["micro_batch_size"]
    more: dict[str, Any] = {}
    if job.side == "trl-packed":
        together, passes, more = 1, job.packs, {"packing": True}
    elif job.side == "trl-liger":
        more = {"use_liger_kernel": True}
    elif job.side == "trl-compiled":
        more = {"torch_compile": True}
    if job.method == "dpo":
        more["beta"] = given["beta"]
    config = (trl.SFTConfig if job.method == "sft" else trl.DPOConfig)(
        output_dir=str(Path(job.work) / "trl"),
        per_device_train_batch_size=together,
        gradient_accumulation_steps=passes,
        learning_rate=given["learning_rate"],
        lr_scheduler_type=given["lr_scheduler"],
        warmup_steps=0,
        num_train_epochs=given["epochs"],
        max_length=given["max_length"],
        gradient_checkpointing=given["gradient_checkpointing"],
        bf16=cuda,
        optim="adamw_torch",
        seed=given["seed"],
        use_cpu=not cuda,
        report_to=[],
        disable_tqdm=True,
        **more,
    )
    torch.manual_seed(given["seed"])
    maker = trl.SFTTrainer if job.method == "sft" else tokenised(trl.DPOTrainer)
    trainer = maker(
        model=base(job),
        args=config,
        train_dataset=Dataset.from_list(json.loads(Path(job.tokens).read_text())),
        processing_class=AutoTokenizer.from_pretrained(job.tokenizer, local_files_only=True),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM",
            target_modules="all-linear",
            r=given["lora_r"],
            lora_alpha=given["lora_alpha"],
            lora_dropout=0.0,
        ),
    )
    with Watch(job.profile) as seen:
        trainer.train()
    trainer.model.save_pretrained(Path(job.work) / "adapter")
    return {**seen.found, "steps": trainer.state.global_step}


def tokenised(trainer: Any) -> Any:
    """Let DPOTrainer take rows that are tokens already, as SFTTrainer does."""

    class Tokenised(trainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

    return Tokenised


def base(job: Job) -> Any:
    """Load the base as a user of transformers does: float32 on a CPU, bf16 on CUDA, or in 4 bits."""
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    cuda = torch.cuda.is_available()
    dtype = torch.bfloat16 if cuda else torch.float32
    bits = None
    if job.settings["quantize_base"] == "nf4":
        bits = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return AutoModelForCausalLM.from_pretrained(
        job.model,
        dtype=dtype,
        quantization_config=bits,
        device_map={"": 0 if cuda else "cpu"},
        local_files_only=True,
    )


def held_out_loss(job: Job) -> float:
    """Give the loss of the saved adapter on rows that were not trained, one at a time, by the plain formula.

    SFT: the mean negative log-likelihood of the learned tokens. DPO: the mean of -log sigma(beta margin), the reference
    being the base.
    """
    import peft
    import torch

    model = peft.PeftModel.from_pretrained(base(job), Path(job.work) / "adapter").eval()

    def scored(ids: list[int], labels: list[int]) -> tuple[float, int]:
        row = torch.tensor([ids], device=model.device)
        wanted = torch.tensor(labels[1:], device=model.device)
        logps = model(input_ids=row).logits[0, :-1].float().log_softmax(-1)
        found = logps.gather(-1, wanted.clamp(min=0)[:, None])[:, 0][wanted >= 0]
        return float(found.sum()), len(found)

    total, count = 0.0, 0
    with torch.no_grad():
        for row in json.loads(Path(job.held).read_text()):
            if job.method == "sft":
                score, learned = scored(row["input_ids"], row["labels"])
                total, count = total - score, count + learned
                continue
            margin = 0.0
            for side, sign in (("chosen_ids", 1), ("rejected_ids", -1)):
                ids = row["prompt_ids"] + row[side]
                labels = [-100] * len(row["prompt_ids"]) + row[side]
                now = scored(ids, labels)[0]
                with model.disable_adapter():
                    margin += sign * (now - scored(ids, labels)[0])
            total += float(torch.nn.functional.softplus(torch.tensor(-job.settings["beta"] * margin)))
            count += 1
    return total / count


class Watch:
    """Measure a block: seconds, processor seconds, peak memory in MB; what the time went into where asked."""

    def __init__(self, profile: bool = False) -> None:
        self.profile = profile
        self.found: dict[str, Any] = {}

    def __enter__(self) -> Watch:
        """Begin with what is loaded."""
        import psutil
        import torch

        gc.collect()
        if sys.platform == "linux":
            ctypes.CDLL(None).malloc_trim(0)  # what loading freed would hide what training takes
        self.cuda = torch.cuda.is_available()
        self.profiler = torch.profiler.profile() if self.profile else None
        if self.profiler:
            self.profiler.__enter__()
        if self.cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.start = torch.cuda.memory_allocated()
        else:
            process = psutil.Process()
            self.start = self.most = process.memory_info().rss
            self.ended = threading.Event()
            self.thread = threading.Thread(target=self._sample, args=(process,))
            self.thread.start()
        self.cpu, self.began = sum(os.times()[:2]), time.perf_counter()
        return self

    def _sample(self, process: Any) -> None:
        while not self.ended.wait(0.002):
            self.most = max(self.most, process.memory_info().rss)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End, and put the figures into `found`."""
        import torch

        if self.cuda:
            torch.cuda.synchronize()
        self.found = {"seconds": time.perf_counter() - self.began, "cpu_seconds": sum(os.times()[:2]) - self.cpu}
        if self.cuda:
            self.most = torch.cuda.max_memory_allocated()
        else:
            self.ended.set()
            self.thread.join()
        self.found |= {"peak_mb": (self.most - self.start) / 1e6, "loaded_mb": self.start / 1e6}
        if self.profiler:
            self.profiler.__exit__(kind, error, trace)
            times = {
                one.key: one.self_device_time_total if self.cuda else one.self_cpu_time_total
                for one in self.profiler.key_averages()
            }
            whole = sum(times.values()) or 1
            top = sorted(times.items(), key=lambda pair: -pair[1])[:8]
            self.found["where"] = {name: round(spent / whole, 3) for name, spent in top}


def main(path: str) -> None:
    """Do the job of a file."""
    job = Job(**json.loads(Path(path).read_text()))
    found = ours(job) if job.side == "ours" else theirs(job)
    gc.collect()
    if job.score:
        found["held_out_loss"] = held_out_loss(job)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1])
