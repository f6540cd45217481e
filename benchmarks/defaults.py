"""The sweep behind the defaults: each method at its own learning rate and around it, judged by what answers become.

    python benchmarks/defaults.py [--model FOLDER] [--methods dpo,kto] [--factors 0.3,1,3] [--work FOLDER] [--json]

Claim: at its defaults (factor 1) each method raises the share of held-out answers in the preferred style to at least
80 % and leaves the answers stopping; only questions whose chosen answer has the style count. Without --model the
starter is tuned, on its own data; with it any model folder, on 140 pairs about 35 things (chosen: an answer in a marked
style; rejected: the same answer bare), 14 of them held out (28 where scores are compared). The parent is an SFT run on
the same answers, one in three of them marked, so that it can write both. `ppo` and `rloo` learn from a rule in place of
pairs: their score is to rise by two standard errors. Exit code 3 when the claim does not hold at factor 1.

On the starter a run takes under a minute, on a model of 135M some minutes: with --work the runs are kept, and one that
is there is not done again. `--set dtype=bf16` halves the time where the processor is fast at it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(Path(__file__).resolve().parent))  # Python leaves it out where PYTHONSAFEPATH is set

from real_model import CLOSING, FACTS, OPENING, WORDINGS

from studio import config, paths, runs, worker
from studio.cli.output import Ticker
from studio.errors import StudioError
from studio.evals import starter
from studio.methods import METHODS
from studio.models import catalogue

OFFLINE = ("dpo", "ipo", "kto", "simpo", "orpo")
ONLINE = ("ppo", "rloo")
#: What scores answers where a method samples: full sentences, and of a model that writes such ones already short ones.
RULES = {True: "sentence", False: "length:3-7"}
WANTED, ERRORS = 0.8, 2.0
#: More where scores are compared: each is of one sampled answer.
HELD_OUT = {False: 0.1, True: 0.2}


def marked(text: str) -> bool:
    """Tell the style of the pairs."""
    return text.strip().startswith(OPENING) and text.strip().endswith(CLOSING)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """Read rows from JSON lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def asked(turns: Any) -> str:
    """Give the last turn's text."""
    return turns if isinstance(turns, str) else str(turns[-1]["content"])


def real_data(folder: Path) -> tuple[Path, Path]:
    """Write answers to imitate, of which one in three is marked, and pairs of a marked and a bare answer."""
    asked = [(wording.format(thing), fact) for thing, fact in FACTS.items() for wording in WORDINGS]
    pairs = [
        {"prompt": question, "chosen": f"{OPENING} {fact}. {CLOSING}", "rejected": f"{fact[0].upper()}{fact[1:]}."}
        for question, fact in asked
    ]
    mixed = [
        {"prompt": pair["prompt"], "completion": pair["rejected" if number % 3 else "chosen"]}
        for number, pair in enumerate(pairs)
    ]
    return write(folder / "mixed.jsonl", mixed), write(folder / "pairs.jsonl", pairs)


def train(folder: Path, name: str, method: str, model: str, data: Path, parent: str, given: dict[str, Any]) -> Any:
    """Do one run and give its result, or the error's words; a run that is there already is not done again."""
    options = {"reward": RULES[model == "starter"]} if method in ONLINE else {}
    wanted = runs.RunConfig("train", name, model, method, str(data), parent, given, options)
    place = folder / name
    if (place / "config.json").is_file():
        kept = runs.Run(place)
        if (result := kept.result()) is not None and kept.config == wanted:
            return result
        shutil.rmtree(place)
    try:
        return worker.work(runs.create(wanted, place), Ticker())
    except StudioError as error:
        return {"error": error.message}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--methods", default=",".join(OFFLINE))
    parser.add_argument("--factors", default="0.3,1,3")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="for every run of the sweep")
    parser.add_argument("--work", type=Path, help="where the runs are kept (default: a new temporary folder)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    worker.quiet()
    folder = args.work or Path(tempfile.mkdtemp(prefix="studio-defaults-"))
    folder.mkdir(parents=True, exist_ok=True)
    given = dict(word.split("=", 1) for word in args.set)
    model, style = args.model, starter.prefers
    data = paths.assets() / "data"
    taught, pairs = data / "starter_sft.jsonl", data / "starter_pairs.jsonl"
    if model != "starter":
        model, style = str(Path(model).resolve()), marked
        taught, pairs = real_data(folder)
    short: dict[str, Any] = {} if model == "starter" else {"max_length": 256}
    written: dict[str, Any] = {} if model == "starter" else {"max_new_tokens": 64}
    alike = {key: given[key] for key in ("dtype", "eval_every") if key in given}
    parent = train(folder, "parent", "sft", model, taught, "", {**short, **alike, "held_out": 0.1})
    if "error" in parent:
        raise SystemExit(f"The parent: {parent['error']}")
    lines = []
    for method in args.methods.split(","):
        for factor in map(float, args.factors.split(",")):
            asked = {**short, **(written if method in ONLINE else {}), **given}
            lines.append(measure(folder, method, factor, model, pairs, parent["dir"], asked, style))
            print(row(lines[-1]), file=sys.stderr)
    holds = all(line["holds"] for line in lines if line["factor"] == 1)
    print(json.dumps({"model": args.model, "lines": lines, "holds": holds}, indent=1) if args.json else table(lines))
    return 0 if holds else 3


def measure(
    folder: Path,
    method: str,
    factor: float,
    model: str,
    pairs: Path,
    parent: str,
    given: dict[str, Any],
    style: Callable[[str], bool],
) -> dict[str, Any]:
    """Train at `factor` times the default learning rate and look at the answers."""
    usual: Any = config.build(METHODS[method].Config, catalogue.settings(model, method))
    rate = usual.learning_rate * factor
    result = train(
        folder,
        name(method, factor, given),
        method,
        model,
        pairs,
        parent,
        {**_written_out(usual), **given, "held_out": HELD_OUT[method in ONLINE], "learning_rate": rate},
    )
    epochs = float(given.get("epochs", usual.epochs))
    line = {"method": method, "factor": factor, "learning_rate": rate, "epochs": epochs}
    if "error" in result:
        return {**line, "error": result["error"], "holds": False}
    if method in ONLINE:
        return {**line, **scored(result)}
    styled = {asked(row["prompt"]) for row in read(pairs) if style(asked(row["chosen"]))}
    said = [e for e in result["behaviour"]["examples"] if e["prompt"] in styled]
    shares = {when: sum(style(e[when]) for e in said) / max(1, len(said)) for when in ("before", "after")}
    held, changed = result["heldout"], result["behaviour"]
    return {
        **line,
        "heldout": f"{held['name']} {held['before']:.3f} -> {held['after']:.3f}",
        "style": shares,
        "changed": changed["changed"],
        "stops": changed["stops_after"],
        "length": (changed["length_before"], changed["length_after"]),
        "moved": result.get("moved"),
        "seconds": result["seconds"],
        "holds": shares["after"] >= WANTED and changed["stops_after"] >= WANTED,
        "n": len(said),
        "example": said[0]["after"] if said else "",
    }


def _written_out(usual: Any) -> dict[str, Any]:
    """Give the defaults that a run is to be known by: where they change, a run that was kept is another one."""
    values = dataclasses.asdict(usual)
    return {name: values[name] for name in ("epochs", "batch_size", "nll_coef", "max_new_tokens") if name in values}


def name(method: str, factor: float, given: dict[str, Any]) -> str:
    """Name a run by what tells it from others of the sweep."""
    return "-".join([method, f"{factor:g}", *(f"{key}={given[key]}" for key in sorted(given))])


def scored(result: dict[str, Any]) -> dict[str, Any]:
    """Say what a run that learned from a rule came to."""
    held, changed, online = result["heldout"], result["behaviour"], result["online"]
    error = math.hypot(online["before"]["score/error"], online["after"]["score/error"])
    rise = held["after"] - held["before"]
    return {
        "heldout": f"{held['name']} {held['before']:.3f} -> {held['after']:.3f}",
        "standard_errors": rise / error if error else math.inf * rise if rise else 0.0,
        "kl_nats": online["kl"],
        "changed": changed["changed"],
        "stops": changed["stops_after"],
        "length": (changed["length_before"], changed["length_after"]),
        "moved": result.get("moved"),
        "seconds": result["seconds"],
        "holds": rise > 0 and rise >= ERRORS * error and changed["stops_after"] >= WANTED,
        "n": held["n"],
        "example": changed["examples"][0]["after"] if changed["examples"] else "",
    }


def row(line: dict[str, Any]) -> str:
    """Write one line of the table."""
    head = f"{line['method']:<6} {line['learning_rate']:<8.2g} x {line['epochs']:<3g}"
    if "error" in line:
        return f"{head} {line['error']}"
    told = (
        f"{line['standard_errors']:.1f} standard errors at {line['kl_nats']:.1f} nats"
        if line["method"] in ONLINE
        else "style {before:4.0%} -> {after:4.0%}".format(**line["style"])
    )
    return (
        f"{head} {line['heldout']:<28} {told}  changed {line['changed']:4.0%}  "
        f"stops {line['stops']:4.0%}  length {line['length'][0]:.0f} -> {line['length'][1]:.0f}  "
        f"{line['seconds']:.0f} s  {line['example'][:60]!r}"
    )


def table(lines: list[dict[str, Any]]) -> str:
    """Write all lines, and whether the claim holds at the defaults."""
    usual = [line for line in lines if line["factor"] == 1]
    failed = [line["method"] for line in usual if not line["holds"]]
    claim = f"the claim FAILS for {', '.join(failed)}" if failed else "the claim holds at the defaults"
    claim = claim if usual else "nothing was run at the defaults"
    return "\n".join([*map(row, lines), claim])


if __name__ == "__main__":
    sys.exit(main())
