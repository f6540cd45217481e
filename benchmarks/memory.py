"""The memory of a training run: what is foreseen from its settings beside what its heaviest pass really takes.

    python benchmarks/memory.py [--model FOLDER ...] [--rows 4] [--length 512] [--json]

Claim: of what learning takes beside the loaded model (adapter, optimizer, activations, logits) the estimate is within
25 % of the measured peak where that is above 200 MB. Each case is a process of its own: a method's step on random rows
of full length, forward, backward and the optimizer's step, the second of two. glibc is told to give freed memory back
(studio/train/heap.py), or its own keeping would be measured: 2 to 4 times as much. Exit code 3 where it does not hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

WITHIN, FROM_MB, MB = 0.25, 200, 1e6
METHODS = ("sft", "dpo", "ppo")


def child(model: str, method_name: str, recompute: str, rows: str, length: str, tuning: str) -> None:
    """Learn twice from one pass and print what it took, in MB."""
    from studio import worker

    worker.quiet()
    import torch

    from studio import config as settings
    from studio.methods import METHODS as KNOWN
    from studio.methods import needs
    from studio.models import check, hub
    from studio.render import encode
    from studio.train import adapters, heap, layout, proof
    from studio.train import model as loading
    from studio.train.peak import Peak

    method, info = KNOWN[method_name], check.inspect(model)
    given = {"max_length": length, "gradient_checkpointing": recompute, "quantize_base": "none", "tuning": tuning}
    given |= {"micro_batch_size": rows, "batch_size": rows}
    if method.kind == "online":
        given["max_new_tokens"] = str(int(length) // 4)
    config = loading.fill_in(settings.build(method.Config, given), info.parameters)
    folder = hub.resolve(model)
    policy = loading.load(folder, encode.load(folder, ""), config)
    proof.settle(policy, config, lambda *_: None)
    critic = getattr(method, "critic", False)
    if critic:
        adapters.add_copy(policy, adapters.VALUE)
        policy.heads[adapters.VALUE] = torch.nn.Linear(info.shape.hidden, 1)
    examples = _examples(method_name, int(rows), int(length), info.shape.vocab)
    batch = layout.to(layout.batch(method, examples, 0, policy.packed, policy.shared), policy.device)
    groups = list(policy.trainable().values())
    if critic:
        groups = [*adapters.parameters(policy).values(), *adapters.parameters(policy, adapters.VALUE).values()]
    optimizer = torch.optim.AdamW(groups, lr=1e-6)

    def learn() -> None:
        if method.kind == "online":
            shape = batch["shape"]
            zeros = torch.zeros(shape, device=policy.device)
            known = {name: zeros for name in ("logps", "ref_logps", "values", "returns", "advantages")}
            counts = {"answers": shape[0], "tokens": float(shape[0] * shape[1])}
            method.update(policy, {**batch, **known, **counts}, config, lambda loss: loss.backward())
        else:
            method.step(policy, batch, config, None).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    heap.lean()
    frozen = sum(p.numel() for p in groups) * 4
    with Peak(policy.device) as seen:
        learn()
        learn()
    tokens = batch["input_ids"].numel()
    need = needs.estimate(info.shape, method, config, policy.device.type, tokens)
    # the adapter's own weights lie in the loaded model already, and nothing is asked beside it here
    foreseen = (need.activations + need.logits) * 2**30 / MB + 3 * frozen / MB
    print(json.dumps({"tokens": tokens, "foreseen": foreseen, "measured": seen.above / MB}))


def _examples(method: str, rows: int, length: int, vocabulary: int) -> list[dict[str, Any]]:
    import torch

    drawing = torch.Generator().manual_seed(0)
    begin = length * 3 // 4

    def row(ids: list[int] | None = None) -> dict[str, list[int]]:
        made = torch.randint(5, vocabulary, (length,), generator=drawing).tolist()
        made[:begin] = ids[:begin] if ids else made[:begin]
        return {"ids": made, "labels": [-100] * begin + made[begin:]}

    if method == "dpo":
        first = [row() for _ in range(max(1, rows // 2))]
        return [{"chosen": one, "rejected": row(one["ids"]), "ref": [-1.0, -1.0]} for one in first]
    return [{"0": row()} for _ in range(rows)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", default=["starter"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--tuning", default="lora", choices=("lora", "full"))
    parser.add_argument("--rows", default="4")
    parser.add_argument("--length", default="512")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--child", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return 0
    found, held = [], True
    for model in args.model:
        for method in args.methods:
            for recompute in ("no", "yes"):
                given = [model, method, recompute, args.rows, args.length, args.tuning]
                words = [sys.executable, __file__, "--child", *given]
                done = subprocess.run(words, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(done.stderr[-2000:])
                case = json.loads(done.stdout.splitlines()[-1])
                case |= {"model": Path(model).name, "method": method, "checkpointing": recompute}
                case["ratio"] = case["foreseen"] / case["measured"]
                case["counts"] = case["measured"] > FROM_MB
                held = held and (not case["counts"] or abs(case["ratio"] - 1) <= WITHIN)
                found.append(case)
                if not args.json:
                    said = "" if case["counts"] else "  (small)"
                    print(
                        f"{case['model']:<10} {method:<5} recomputed {recompute:<3} {case['tokens']:>6} tokens  "
                        f"foreseen {case['foreseen']:>6.0f} MB  measured {case['measured']:>6.0f} MB  "
                        f"ratio {case['ratio']:.2f}{said}",
                        flush=True,
                    )
    print(json.dumps(found, indent=1) if args.json else f"within {WITHIN:.0%}: {'held' if held else 'MISSED'}")
    return 0 if held else 3


if __name__ == "__main__":
    sys.exit(main())
