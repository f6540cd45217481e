"""PPO from a rule on the starter: does the score rise, how far does the policy go, and what memory does it take.

    python benchmarks/ppo.py [--method ppo] [--steps 7] [--rounds 3] [--json]

Claim: from an SFT run on the starter, PPO raises the mean score of held-out prompts by at least 2 standard errors at a
KL below 10 nats an answer, and its peak memory above the loaded libraries is at most 1.15 times an SFT run's of the
same batch and length (64 rows, some 2,000 tokens in one pass), the cache of the answers being written included. Each
run is a process of its own. Memory is the process's high-water mark as the system counts it: the median of --rounds
runs of 4 steps, both methods in turn. Exit code 3 where it does not hold.

Found: at first the ratio was 1.42, though both held the same at once (370 MB, seen with an allocator that keeps
nothing). glibc kept what the pass of the value model had freed and served the policy's pass from fresh memory; now it
is handed back between them (studio/train/heap.py).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

SETTINGS = {"batch_size": 64, "max_length": 256, "micro_batch_size": 16, "max_new_tokens": 64}
FACTOR, ERRORS, NATS, MEMORY_STEPS = 1.15, 2.0, 10.0, 4


def one(folder: Path, name: str, method: str, data: str, parent: str, steps: int, reward: str) -> dict[str, Any]:
    """Do one run in a process of its own: its result, and its peak memory above what the libraries take."""
    words = [sys.executable, __file__, "--child", str(folder / name), method, data, parent, str(steps), reward]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(folder: str, method: str, data: str, parent: str, steps: str, reward: str) -> None:
    """Do the run that `one` asks for."""
    from studio import runs, worker

    worker.quiet()
    import peft  # noqa: F401
    import torch  # noqa: F401
    import transformers.trainer  # noqa: F401

    idle = peak()
    given: dict[str, Any] = dict(SETTINGS)
    if method == "sft":
        del given["max_new_tokens"]
    if int(steps):
        given["max_steps"] = int(steps)
    options: dict[str, Any] = {"reward": reward} if reward else {"reading": {"kind": "sft"}}
    file = str(ROOT / "assets" / "data" / data)
    run = runs.create(runs.RunConfig("train", method, "starter", method, file, parent, given, options), Path(folder))
    result = worker.work(run)
    result["behaviour"].pop("examples", None)
    print(json.dumps({"result": result, "peak_mb": peak() - idle}))


def peak() -> float:
    """Give the most memory that this process has taken, in MB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (1e6 if sys.platform == "darwin" else 1e3)


def tell(text: str) -> None:
    """Say on standard error what is being done."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="ppo", choices=("ppo", "rloo"))
    parser.add_argument("--steps", type=int, default=7, help="at most one pass over the prompts, which is 7 with ppo")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each method whose memory is measured")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return 0
    folder = Path(tempfile.mkdtemp(prefix="studio-ppo-"))
    tell("sft, the parent")
    sft = one(folder, "sft", "sft", "starter_sft.jsonl", "", 0, "")
    parent = sft["result"]["dir"]
    tell(f"{args.method}, {args.steps} steps")
    made = one(folder, args.method, args.method, "starter_pairs.jsonl", parent, args.steps, "sentence")
    peaks: dict[str, list[float]] = {"sft": [], args.method: []}
    for number in range(args.rounds):
        tell(f"memory, {number + 1} of {args.rounds}")
        for method, reward in (("sft", ""), (args.method, "sentence")):
            name = f"memory-{method}-{number}"
            done = one(folder, name, method, "starter_pairs.jsonl", parent, MEMORY_STEPS, reward)
            peaks[method].append(done["peak_mb"])
    held_mb = {method: statistics.median(found) for method, found in peaks.items()}
    held, online = made["result"]["heldout"], made["result"]["online"]
    error = math.hypot(online["before"]["score/error"], online["after"]["score/error"])
    figures = {
        "method": args.method,
        "score": (held["before"], held["after"]),
        "n": held["n"],
        "standard_errors": (held["after"] - held["before"]) / error if error else math.inf,
        "kl_nats": online["kl"],
        "peak_mb": peaks,
        "memory_ratio": held_mb[args.method] / held_mb["sft"],
        "seconds": made["result"]["seconds"],
    }
    checks = {
        "score": figures["standard_errors"] >= ERRORS,
        "kl": figures["kl_nats"] < NATS,
        "memory": figures["memory_ratio"] <= FACTOR,
    }
    lines = [
        f"score   {held['before']:.3f} -> {held['after']:.3f} of {held['n']} held-out prompts: "
        f"{figures['standard_errors']:.1f} standard errors (wanted: {ERRORS:g})",
        f"KL      {figures['kl_nats']:.2f} nats an answer (limit: {NATS:g})",
        f"memory  {held_mb[args.method]:.0f} MB, SFT {held_mb['sft']:.0f} MB: {figures['memory_ratio']:.2f} x "
        f"(limit: {FACTOR:g})",
        "; ".join(f"{name} {'held' if ok else 'MISSED'}" for name, ok in checks.items()),
    ]
    print(json.dumps({**figures, "checks": checks}, indent=1) if args.json else "\n".join(lines))
    return 0 if all(checks.values()) else 3


if __name__ == "__main__":
    sys.exit(main())
