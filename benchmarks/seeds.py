"""How far do runs differ that differ in nothing but their seed: DPO and PPO on the starter, side by side.

    python benchmarks/seeds.py [--seeds 5] [--steps 7] [--reward sentence] [--work FOLDER] [--json]

The question: is DPO the reproducible one of the two? Both start from one SFT run and see the same file; DPO learns from
its pairs (the starter's settings), PPO answers its prompts and is scored by a rule (or by a reward run, its directory
as --reward), --steps steps. The seed decides the order, what is sampled, and which rows are held out. For each seed:
the run's own held-out figure, and, of the same 188 questions whatever the seed, the share of greedy answers in the
style that the pairs choose and the share that is right.

Five runs tell little about a spread: only where one sd is more than 3.1 times the other (the 95 % bound of F(4, 4)) is
it called smaller; else the question stays open. The answer is printed as it comes, and is no failure either way. Two
things to keep in mind: a loss and a score are of different kinds, so that their relative sd says little; and a share
that reaches 1 cannot differ any more, which is marked.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

#: sqrt of the 0.975 quantile of F(n - 1, n - 1), by n: how many times larger an sd must be to be called so.
TELLING = {2: 25.5, 3: 6.24, 4: 3.93, 5: 3.10, 6: 2.67, 7: 2.41, 8: 2.23, 9: 2.11, 10: 2.01}
NAMES = {"figure": "its own held-out figure", "style": "answers in the style", "right": "right answers"}


def one(folder: Path, method: str, seed: int, parent: str, steps: int, reward: str) -> dict[str, Any]:
    """Do one run in a process of its own and give its figures."""
    print(f"{method}, seed {seed}" if parent else "sft, the parent", file=sys.stderr, flush=True)
    words = [sys.executable, __file__, "--child", str(folder), method, str(seed), parent, str(steps), reward]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{method} with seed {seed} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def child(folder: str, method: str, seed: str, parent: str, steps: str, reward: str) -> None:
    """Do the run that `one` asks for."""
    from studio import runs, worker

    worker.quiet()
    given: dict[str, Any] = {"seed": int(seed)}
    options: dict[str, Any] = {}
    if method == "ppo":
        given |= {"max_steps": int(steps), "eval_every": int(steps)}
        options = {"reward": reward}
    name = "starter_pairs.jsonl" if parent else "starter_sft.jsonl"
    data = str(ROOT / "assets" / "data" / name)
    place = Path(folder) / (f"{method}-{seed}" if parent else method)
    run = runs.create(runs.RunConfig("train", method, "starter", method, data, parent, given, options), place)
    result = worker.work(run)
    figures = {"dir": str(run.dir), "name": result["heldout"]["name"], "figure": result["heldout"]["after"]}
    print(json.dumps(figures | asked(run)))


def asked(run: Any) -> dict[str, float]:
    """Ask a run the test questions, greedily."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from studio.data.records import Message
    from studio.evals import starter
    from studio.models import hub
    from studio.render import encode
    from studio.train import generate
    from studio.train.policy import Policy

    rows = map(json.loads, (ROOT / "assets" / "data" / "starter_questions.jsonl").read_text("utf-8").splitlines())
    questions = [row for row in rows if row["split"] == "report"]
    base = AutoModelForCausalLM.from_pretrained(hub.resolve("starter"), dtype=torch.float32)
    policy = Policy(PeftModel.from_pretrained(base, str(run.adapter)), torch.device("cpu"), [])
    prompts = [[Message("user", row["question"])] for row in questions]
    replies = [answer["text"] for answer in generate.answers(policy, encode.load(run.adapter), prompts)]
    return {
        "n": len(replies),
        "style": sum(map(starter.prefers, replies)) / len(replies),
        "right": sum(map(starter.answers_strict, replies, questions)) / len(replies),
    }


def spread(found: list[float]) -> dict[str, float | None]:
    """Say how far figures differ; the relative sd is of the mean."""
    mean, sd = statistics.fmean(found), statistics.stdev(found)
    relative = sd / abs(mean) if mean else None
    return {"mean": mean, "sd": sd, "min": min(found), "max": max(found), "relative_sd": relative}


def verdict(dpo: float, ppo: float, count: int) -> str:
    """Compare two sds of `count` runs each."""
    times = TELLING[count]
    if dpo * times < ppo:
        return "supported"
    if ppo * times < dpo:
        return "NOT supported: PPO's is smaller"
    return f"open: neither sd is {times:g} times the other"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, choices=sorted(TELLING))
    parser.add_argument("--steps", type=int, default=7, help="of PPO, at most one pass over the prompts")
    parser.add_argument("--reward", default="sentence", help="what scores PPO's answers: a rule, or a reward run")
    parser.add_argument("--work", type=Path, help="a new or empty folder for the runs (default: a temporary one)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return 0
    folder = args.work or Path(tempfile.mkdtemp(prefix="studio-seeds-"))
    parent = one(folder, "sft", 0, "", 0, "")
    runs = {
        method: [one(folder, method, seed, parent["dir"], args.steps, args.reward) for seed in range(args.seeds)]
        for method in ("dpo", "ppo")
    }
    spreads = {
        method: {name: spread([float(run[name]) for run in found]) for name in NAMES} for method, found in runs.items()
    }
    verdicts = {
        # figures of different kinds (a loss, a score) can be compared by their relative sd alone
        "figure": verdict(
            spreads["dpo"]["figure"]["relative_sd"] or 0.0, spreads["ppo"]["figure"]["relative_sd"] or 0.0, args.seeds
        ),
        **{
            name: verdict(spreads["dpo"][name]["sd"] or 0.0, spreads["ppo"][name]["sd"] or 0.0, args.seeds)
            for name in ("style", "right")
        },
    }
    if args.json:
        print(json.dumps({"parent": parent, "runs": runs, "spreads": spreads, "dpo_steadier": verdicts}, indent=1))
        return 0
    lines = [f"{'':<28}{'':<10}{'mean':>8}{'sd':>8}{'min':>8}{'max':>8}{'sd/mean':>9}"]
    for name, title in NAMES.items():
        for method in runs:
            s = spreads[method][name]
            own = f"{method} {runs[method][0]['name'] if name == 'figure' else ''}"
            relative = "-" if s["relative_sd"] is None else f"{s['relative_sd']:.1%}"
            lines.append(
                f"{title:<28}{own:<10}{s['mean']:>8.3f}{s['sd']:>8.4f}{s['min']:>8.3f}{s['max']:>8.3f}{relative:>9}"
            )
    full = [f"{method} {name}" for method in runs for name in ("style", "right") if spreads[method][name]["min"] == 1]
    if full:
        lines.append(f"At its limit with every seed, where nothing can differ: {', '.join(full)}.")
    lines.append(f"{args.seeds} seeds each; the same {parent['n']} questions for style and right.")
    lines += [f"DPO is the steadier one, by {NAMES[name]}: {said}" for name, said in verdicts.items()]
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
