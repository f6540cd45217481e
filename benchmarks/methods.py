"""Every method through the command line on the starter: learn, improve on held-out rows, export, certify.

    python benchmarks/methods.py [--methods sft,dpo] [--steps 12] [--work FOLDER] [--json]

Claim: `studio train METHOD --json` and `studio export RUN --json` take the starter from its own data to a chat model
with each method: every run improves its own held-out figure over its parent (`heldout` of its result), and the
certificate of the file made from it is ok. A reward model does not chat and is not exported: its accuracy on held-out
pairs is to beat the judge who goes by length. The parent of all others is the SFT run; `ppo` learns from the reward
run, `rloo` from the rule `sentence`, --steps steps each at most. Exit code 3 when a line does not hold.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "assets" / "data"
METHODS = ("sft", "reward", "dpo", "ipo", "kto", "orpo", "simpo", "ppo", "rloo")


def studio(*words: str) -> dict[str, Any]:
    """Run one command of Studio and give the document that it prints; an error's document stays one."""
    command = [sys.executable, "-m", "studio", *words, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        found = {"error": {"message": f"no document, exit code {done.returncode}: {done.stderr[-1000:]}"}}
    return found


def measure(method: str, folder: Path, steps: int) -> dict[str, Any]:
    """Train, export, and say whether both held."""
    file = DATA / ("starter_sft.jsonl" if method == "sft" else "starter_pairs.jsonl")
    words = ["train", method, "--data", str(file), "--out", str(folder / method)]
    words += ["--model", "starter"] if method == "sft" else ["--parent", str(folder / "sft")]
    if method in ("ppo", "rloo"):
        reward = str(folder / "reward") if method == "ppo" else "sentence"
        words += ["--reward", reward, "--set", f"max_steps={steps}"]
    result = studio(*words)
    if "error" in result:
        return {"method": method, "error": result["error"]["message"], "holds": False}
    held = result["heldout"]
    gain = held["after"] - held["before"] if held["better"] == "higher" else held["before"] - held["after"]
    line = {
        "method": method,
        "figure": held,
        "improved": gain > 0,
        "changed": None if method == "reward" else result["behaviour"]["changed"],
        "style": result["behaviour"].get("style"),
        "stops": result["behaviour"]["stops_after"],
        "seconds": result["seconds"],
        "certificate": None,
    }
    if "online" in result:
        seen = result["online"]
        line["standard_error"] = math.hypot(seen["before"]["score/error"], seen["after"]["score/error"])
    if method != "reward":
        made = studio("export", str(folder / method), "--quant", "Q8_0", "--out", str(folder / f"{method}-files"))
        line["certificate"] = made.get("certificate", {}).get("ok", False)
        line["export_error"] = made.get("error", {}).get("message")
    return {**line, "holds": line["improved"] and line["certificate"] is not False}


def row(line: dict[str, Any]) -> str:
    """Write one line of the table."""
    if "error" in line:
        return f"{line['method']:<7} FAILED: {line['error']}"
    held = line["figure"]
    name = "accuracy, length only -> its own" if line["method"] == "reward" else held["name"]
    error = f" (error {line['standard_error']:.3f})" if "standard_error" in line else ""
    figure = f"{name} {held['before']:.3f} -> {held['after']:.3f}{error}"
    changed = "-" if line["changed"] is None else f"{line['changed']:.0%}"
    certificate = {None: "-", True: "ok", False: f"FAILED {line.get('export_error') or ''}"}[line["certificate"]]
    held_up = "" if line["holds"] else "   DOES NOT HOLD"
    return f"{line['method']:<7} {figure:<48} {changed:>7} {line['seconds']:>7.0f}  {certificate}{held_up}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="of the others, sft and reward are made if needed")
    parser.add_argument("--steps", type=int, default=12, help="of ppo and rloo, at most one pass over the prompts")
    parser.add_argument("--work", type=Path, help="a new or empty folder for the runs (default: a temporary one)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    wanted = set(args.methods.split(",")) | {"sft"}
    wanted |= {"reward"} if "ppo" in wanted else set()
    if not wanted <= set(METHODS):
        parser.error(f"methods are {', '.join(METHODS)}")
    folder = (args.work or Path(tempfile.mkdtemp(prefix="studio-methods-"))).resolve()
    lines = []
    for method in METHODS:
        if method in wanted:
            lines.append(measure(method, folder, args.steps))
            print(row(lines[-1]), file=sys.stderr, flush=True)
    holds = all(line["holds"] for line in lines)
    if args.json:
        print(json.dumps({"lines": lines, "holds": holds}, indent=1))
    else:
        head = f"{'method':<7} {'figure on held-out rows':<48} {'changed':>7} {'seconds':>7}  certificate"
        failed = ", ".join(line["method"] for line in lines if not line["holds"])
        claim = "all hold" if holds else f"does NOT hold: {failed}"
        print("\n".join([head, *map(row, lines), claim]))
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main())
