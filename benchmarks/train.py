"""SFT and DPO, side by side with TRL: throughput, memory, and the loss that comes out.

    python benchmarks/train.py [--quick] [--real FOLDER] [--python PATH] [--json]

Claims, on 2 cores: SFT learns at least 2.0 times the response tokens a second of TRL with its defaults and 1.2 times
those of TRL with packing; DPO at least 1.6 times; the peak of memory above the loaded model is at most 0.6 of TRL's at
a vocabulary of 128,000 and 0.85 on a model of 135M; the held-out loss is within 1 %. Exit code 3 when one is missed.

TRL is no part of Studio: `pip install trl==1.16.0` into an environment that has Studio's libraries too, and name its
python with --python where it is not the one that runs this. `--only ours` measures without it.

Alike: model, rows and their tokens and labels, LoRA (all linear layers, rank, alpha, no dropout), AdamW, learning rate
and schedule, rows a step, rows in memory at once (8, the default of TRL), seed, float32 on a CPU and bf16 on CUDA,
gradient checkpointing (as Studio chooses by the model's size), 4 bits (nf4, double quantisation). Control tokens that a
base never learned are given embeddings first, for Studio trains those beside the adapter and TRL does not.

Different, because it is what is compared: TRL pads each 8 rows to the longest; its packing lays rows behind each other
up to the length limit, as many such packs a step as hold the rows of a step, so that its number of steps is about the
same but not its batches; it asks the reference anew in each step of DPO, which Studio asks once (its time counts).
TRL's own defaults of bf16 autocast and checkpointing everywhere are not taken on a CPU. The order of the rows is each
one's own. A step of Studio is looked at and told, TRL logs every tenth; both save once, at the end.

Each measurement is a process of its own; the sides alternate. Counted is the training of one epoch, not imports,
loading, tokens or the trainer's set-up. Ratios are of neighbours in time, and the median of the repetitions; on a busy
machine let those of the processor's seconds decide (--clock cpu_seconds). The held-out loss is the plain formula's on
the saved adapter, a row at a time, by one function for both. With CUDA: shapes of 0.5B and 1B with
random weights, and TRL with Liger (where it is installed) and torch.compile.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python leaves it out where PYTHONSAFEPATH is set

import traindata
from trainjobs import Job

from studio import worker

HERE = Path(__file__).resolve().parent
FASTER, FASTER_PACKED, FASTER_DPO, LOSS = 2.0, 1.2, 1.6, 0.01
MEMORY = {"128k vocabulary": 0.6, "Llama-like 1B": 0.6, "Qwen-like 0.5B": 0.6, "135M": 0.85}
#: The longest row, the rows of SFT and the pairs of DPO.
SIZES = {
    "tiny": (128, 16, 16),
    "128k vocabulary": (128, 32, 16),
    "starter": (512, 64, 32),
    "135M": (384, 32, 16),
    "Qwen-like 0.5B": (1024, 256, 128),
    "Llama-like 1B": (1024, 256, 128),
}
SETTINGS = {
    "sft": {"learning_rate": 2e-4},
    "dpo": {"learning_rate": 2e-5, "beta": 0.1},
}
ALIKE = {
    "batch_size": 16,
    "micro_batch_size": 8,
    "epochs": 1,
    "lr_scheduler": "cosine",
    "warmup_ratio": 0.0,
    "lora_r": 16,
    "lora_alpha": 32,
    "seed": 0,
}


@dataclasses.dataclass
class Case:
    """One comparison: a model and a method, and what its measurements gave, by side."""

    name: str
    method: str
    bits: str
    job: Job
    rows: int
    tokens: int
    learned: int
    clock: str
    rounds: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)

    def ratio(self, name: str, other: str, flip: bool = False) -> float:
        """Give the median of ours over theirs (`flip`: theirs over ours) of a figure, repetition by repetition."""
        pairs = zip(self.rounds["ours"], self.rounds[other], strict=True)
        found = [mine[name] / max(theirs[name], 1e-9) for mine, theirs in pairs]
        return statistics.median(1 / one if flip else one for one in found)

    def middle(self, side: str, name: str) -> float:
        """Give the median of a figure of one side."""
        return statistics.median(one[name] for one in self.rounds[side])

    def claims(self) -> Iterator[tuple[str, float, float, bool]]:
        """Give what is claimed of this comparison: name, found, target, whether more is better."""
        if "trl" in self.rounds:
            target = FASTER if self.method == "sft" else FASTER_DPO
            yield "throughput to TRL", self.ratio(self.clock, "trl", flip=True), target, True
        if "trl-packed" in self.rounds:
            yield "throughput to TRL with packing", self.ratio(self.clock, "trl-packed", flip=True), FASTER_PACKED, True
        if "trl" in self.rounds:
            if self.name in MEMORY:
                yield "memory above the model to TRL", self.ratio("peak_mb", "trl"), MEMORY[self.name], False
            mine, other = (self.rounds[side][0]["held_out_loss"] for side in ("ours", "trl"))
            yield "held-out loss apart", abs(mine / other - 1), LOSS, False


def case(name: str, method: str, bits: str, model: Path, work: Path, clock: str) -> Case:
    """Write the rows and tokens of a comparison, and settle what both sides are told."""
    from studio.methods import METHODS
    from studio.models import check
    from studio.render import encode
    from studio.train.model import fill_in

    work.mkdir()
    longest, *counts = SIZES[name]
    count = counts[method == "dpo"]
    train = traindata.write_rows(work / "train.jsonl", method, count, longest, model, seed=1)
    held = traindata.write_rows(work / "held.jsonl", method, 16, longest, model, seed=2)
    rows = traindata.tokens(train, model, longest, work)
    (work / "tokens.json").write_text(json.dumps(rows))
    (work / "held.json").write_text(json.dumps(traindata.tokens(held, model, longest, work)))
    encode.load(model).save(work / "tokenizer")
    settings = {**ALIKE, **SETTINGS[method], "max_length": longest, "quantize_base": bits}
    config = fill_in(METHODS[method].Config(**settings), check.inspect(str(model)).parameters)
    settings["gradient_checkpointing"] = config.gradient_checkpointing
    if method == "sft":
        sizes = [len(row["input_ids"]) for row in rows]
        learned = sum(label != -100 for row in rows for label in row["labels"][1:])
    else:
        sizes = [len(row["prompt_ids"] + row[side]) for row in rows for side in ("chosen_ids", "rejected_ids")]
        learned = sum(len(row[side]) for row in rows for side in ("chosen_ids", "rejected_ids"))
    files = {"train": "train.jsonl", "tokens": "tokens.json", "held": "held.json", "tokenizer": "tokenizer"}
    job = Job(
        "ours",
        method,
        str(model),
        work="",
        settings=settings,
        packs=max(1, round(sum(sizes) / len(sizes) * ALIKE["batch_size"] / longest)),
        **{key: str(work / file) for key, file in files.items()},
    )
    return Case(name, method, bits, job, count, sum(sizes), learned, clock)


def measure(job: Job, python: str) -> dict[str, Any]:
    """Do a job in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="studio-bench-") as folder:
        path = Path(folder) / "job.json"
        path.write_text(json.dumps(dataclasses.asdict(dataclasses.replace(job, work=folder))))
        command = [sys.executable if job.side == "ours" else python, str(HERE / "trainjobs.py"), str(path)]
        more = {"STUDIO_HOME": folder, "HF_HOME": folder, "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **more})
    if done.returncode:
        raise SystemExit(f"{job.method} of {job.side} failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def sides(method: str, only: list[str], python: str) -> list[str]:
    """List the sides of a comparison."""
    import torch

    found = ["ours", "trl"] + (["trl-packed"] if method == "sft" else [])
    if torch.cuda.is_available():
        liger = subprocess.run([python, "-c", "import liger_kernel"], capture_output=True, check=False)
        found += (["trl-liger"] if liger.returncode == 0 else []) + ["trl-compiled"]
    return [side for side in found if not only or side in only]


def compare(one: Case, repeat: int, chosen: list[str], python: str) -> None:
    """Measure the sides in turn; where we are slower than claimed, look once more at where the time goes."""
    for number in range(repeat):
        turned = chosen[number % len(chosen) :] + chosen[: number % len(chosen)]
        for side in turned:
            job = dataclasses.replace(one.job, side=side, score=number == 0)
            found = measure(job, python)
            one.rounds.setdefault(side, []).append(found)
            print(
                f"{one.name}, {one.method}, {one.bits}, {number + 1} of {repeat}: {side:<12} {found['seconds']:7.1f} s "
                f"({found['cpu_seconds']:.1f} of the processor) {found['peak_mb']:7.0f} MB"
                + (f"   held-out loss {found['held_out_loss']:.4f}" if job.score else ""),
                file=sys.stderr,
                flush=True,
            )
    missed = [name for name, found, target, more in one.claims() if (found < target if more else found > target)]
    if any("throughput" in name for name in missed):
        one.rounds["profile"] = [measure(dataclasses.replace(one.job, profile=True), python)]


def told(one: Case) -> tuple[list[str], dict[str, bool]]:
    """Give the lines about a comparison, and its claims."""
    bits = ", 4 bits" if one.bits == "nf4" else ""
    share = one.learned / one.tokens
    lines = [
        f"{one.name}{bits}, {one.method.upper()}: {one.rows} rows, {one.tokens:,} tokens, {share:.0%} of them learned"
    ]
    for side in one.rounds:
        if side == "profile":
            continue
        seconds, peak = one.middle(side, "seconds"), one.middle(side, "peak_mb")
        line = f"  {side:<13}{seconds:8.1f} s an epoch {one.learned / seconds:9,.0f} response tokens/s {peak:7,.0f} MB"
        if side != "ours" and "ours" in one.rounds:
            line += f"   x {one.ratio('seconds', side, flip=True):.2f}"
            line += (
                f" (processor {one.ratio('cpu_seconds', side, flip=True):.2f}), memory {one.ratio('peak_mb', side):.2f}"
            )
        lines.append(line + f"   loss {one.rounds[side][0]['held_out_loss']:.4f}")
    claims = {}
    for name, found, target, more in one.claims():
        holds = found >= target if more else found <= target
        value, limit = (f"{found:.2%}", f"{target:.0%}") if name.startswith("held") else (f"{found:.2f}", f"{target}")
        verdict = "holds" if holds else f"missed by {abs(found / target - 1):.0%}"
        lines.append(f"    {name}: {value} ({'at least' if more else 'at most'} {limit}): {verdict}")
        claims[f"{one.name}{bits}, {one.method}: {name}"] = holds
    for found in one.rounds.get("profile", []):
        lines.append("    our time goes to: " + ", ".join(f"{key} {part:.0%}" for key, part in found["where"].items()))
    return lines, claims


def models(names: list[str], real: Path | None, work: Path) -> dict[str, Path]:
    """Make the models or find them."""
    from studio.models import hub

    found = {}
    for name in names:
        folder = work / "models" / name.replace(" ", "-")
        if name in traindata.SHAPES:
            found[name] = traindata.make_model(name, folder)
        else:
            given = real if name == "135M" else hub.resolve("starter")
            assert given is not None
            found[name] = traindata.learned_rows(given.resolve(), folder)
    return found


def machine(python: str) -> str:
    """Name the machine and what was compared."""
    import torch

    from studio import hardware

    ask = "import importlib.metadata as m; print(*(n + ' ' + m.version(n) for n in ('trl', 'transformers', 'peft')))"
    libraries = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False).stdout.strip()
    here = hardware.machine()
    where = here.gpu if torch.cuda.is_available() else f"{here.cpu}, {here.cores} cores"
    return f"{where}; torch {torch.__version__}, {libraries or 'no TRL'}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="3 repetitions, two models, no 4 bits (under 10 minutes)")
    parser.add_argument("--real", type=Path, help="the folder of a real model of 135M (SmolLM2), compared too")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that has TRL")
    parser.add_argument("--repeat", type=int, help="repetitions (default: 5; quick: 3)")
    parser.add_argument("--models", help=f"some of: {', '.join(SIZES)}")
    parser.add_argument("--methods", default="sft,dpo")
    parser.add_argument("--only", default="", help="some of the sides: ours, trl, trl-packed, trl-liger, trl-compiled")
    clocks = {"choices": ("seconds", "cpu_seconds"), "default": "seconds"}
    parser.add_argument("--clock", **clocks, help="what throughput is judged by: cpu_seconds on a busy machine")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    worker.quiet()
    only = [side for side in args.only.split(",") if side]
    lacks = subprocess.run([args.python, "-c", "import trl"], capture_output=True, check=False).returncode
    if only != ["ours"] and lacks:
        print("This benchmark compares with TRL (pip install trl==1.16.0); --only ours does without.", file=sys.stderr)
        return 2
    import torch

    names = args.models.split(",") if args.models else ["128k vocabulary", "starter"]
    if not args.models and torch.cuda.is_available():
        names = ["Qwen-like 0.5B", "Llama-like 1B"]
    if args.real and "135M" not in names and not args.quick:
        names.append("135M")
    repeat = args.repeat or (3 if args.quick else 5)
    done: list[Case] = []
    claims: dict[str, bool] = {}
    where = machine(args.python)
    say = sys.stderr if args.json else sys.stdout
    print(f"{where}; medians of {repeat}, throughput by {args.clock}", file=say, flush=True)
    with tempfile.TemporaryDirectory(prefix="studio-bench-") as folder:
        work = Path(folder)
        os.environ["STUDIO_HOME"] = str(work / "home")
        found = models(names, args.real, work)
        for name in names:
            # 4 bits hold rows of 64 weights or a multiple; a small model gains nothing by them.
            four = not args.quick and name in ("135M", "Qwen-like 0.5B", "Llama-like 1B")
            for bits in ["none", "nf4"] if four else ["none"]:
                for method in args.methods.split(","):
                    one = case(name, method, bits, found[name], work / f"{len(done)}", args.clock)
                    compare(one, repeat, sides(method, only, args.python), args.python)
                    said, held = told(one)
                    print("\n".join(said), file=say, flush=True)
                    claims |= held
                    done.append(one)
    ok = all(claims.values())
    if args.json:
        cases = [{**dataclasses.asdict(one), "job": one.job.settings} for one in done]
        print(json.dumps({"machine": where, "cases": cases, "claims": claims, "ok": ok}, indent=1))
    return 0 if ok else 3


if __name__ == "__main__":
    sys.exit(main())
