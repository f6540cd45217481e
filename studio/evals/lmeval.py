"""lm-eval: task files of EleutherAI's evaluation harness, on local rows, asked of both sides through llama.cpp.

The harness is an optional extra. It makes the questions and marks the answers in a process of its own (lmharness.py);
the sides answer (lmasked.py); figures, intervals and tests are the card's, from the marks of the items.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.config import setting
from studio.errors import ConfigError, ToolMissing
from studio.evals import lmtasks
from studio.evals.suite import Asking, Measure, Outcome, Suite

#: What the extra installs (pyproject.toml).
NEEDS = "lm-eval>=0.4.13,<0.5"


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the suite."""

    tasks_folder: str = setting("", "The folder of your task files (*.yaml, with local rows).", advanced=False)
    tasks: str = setting("", "Tasks, groups or tags of the folder, commas between. Empty: all.", advanced=False)
    n: int = setting(200, "Items of each task, its first ones, at most.", low=1, high=1000000, advanced=False)
    num_fewshot: int | None = setting(
        None, "Worked examples before each item. Empty: as the task says.", low=0, high=100, advanced=False
    )
    apply_chat_template: bool = setting(
        False, "Ask through the chat template, as the harness's flag of this name does; a base is asked in plain text."
    )
    max_tokens: int = setting(
        256, "The longest answer, where a task does not say.", low=1, high=8192, unit="tokens", source="lm-eval"
    )
    allow_folder_code: bool = setting(
        False,
        "Run the Python code that the folder's files name with !function. It can do on this machine all that you can; "
        "read it first.",
    )


def ready(cfg: Config) -> Config:
    """Check folder, tasks and package before anything is loaded. Raises ConfigError, DataError, ToolMissing."""
    if not cfg.tasks_folder.strip():
        raise ConfigError(
            "The suite lm-eval asks tasks of yours, and no folder is named.",
            "Name the folder of the task files: --tasks-folder DIR",
            field="tasks_folder",
        )
    cfg = dataclasses.replace(cfg, tasks_folder=str(Path(cfg.tasks_folder.strip()).expanduser().resolve()))
    _tasks(cfg)
    if importlib.util.find_spec("lm_eval") is None:
        raise ToolMissing("lm-eval is not installed.", f'Install it with: "{sys.executable}" -m pip install "{NEEDS}"')
    return cfg


def _tasks(cfg: Config) -> list[lmtasks.Task]:
    names = [name.strip() for name in cfg.tasks.split(",") if name.strip()]
    return lmtasks.read(Path(cfg.tasks_folder), names, cfg.allow_folder_code)


def run(asking: Asking) -> Outcome:
    """Ask every side the tasks, and mark what the harness marks."""
    from studio.evals import lmasked

    cfg = ready(asking.cfg)
    tasks, out = _tasks(cfg), Outcome()
    found: dict[str, dict[str, Any]] = {}
    with lmasked.Harness() as harness:
        for side in asking.sides:
            found[side] = harness.evaluate(
                asking,
                side,
                tasks=[task.config for task in tasks],
                limit=cfg.n,
                num_fewshot=cfg.num_fewshot,
                chat=_chats(asking, side),
                max_tokens=cfg.max_tokens,
            )
            if cut := found[side]["cut"]:
                asking.note(f"{side}: {cut} questions are longer than the context and lost their beginning.")
    for task in tasks:
        told = {side: one["tasks"][task.name] for side, one in found.items()}
        _marked(task.name, told, out)
        _rows(task.name, told, out)
        _unmarked(asking, task.name, told)
    versions = {name: about["version"] for name, about in _any(found)["tasks"].items()}
    said = ", ".join(f"{name} (version {of})" if of != "Yaml" else name for name, of in versions.items())
    asking.note(f"Marked by lm-eval {_any(found)['version']}: {said}.")
    return out


def _any(found: Mapping[str, Any]) -> Any:
    return next(iter(found.values()))


def _chats(asking: Asking, side: str) -> bool:
    """Tell whether a side is asked through its chat template."""
    if not asking.cfg.apply_chat_template:
        return False
    from studio.evals import lmasked

    speaker = lmasked.pane(asking, side)
    pieces = speaker.shown([{"role": "user", "content": "?"}])["pieces"]
    if speaker.identity.get("raw") or all(piece["plain"] for piece in pieces):
        asking.note(f"{side} has no chat template and is asked in plain text.")
        return False
    return True


# --- figures ---------------------------------------------------------------------------------------------------------

_SAYS = {
    "acc": "Share of items whose right answer is the likeliest.",
    "acc_norm": "Share of items whose right answer is the likeliest per character.",
    "acc_bytes": "Share of items whose right answer is the likeliest per byte.",
    "acc_mutual_info": "Share of items whose right answer gains most from the question.",
    "exact_match": "Share of answers that are the wanted text.",
    "bits_per_byte": "How far from certain it is of a text, the mean of the texts.",
}


def _marked(task: str, told: Mapping[str, Any], out: Outcome) -> None:
    """Give every item its marks, and make a measure of each metric whose items have some."""
    for metric in _metrics(told):
        name, better = f"{task}:{metric}", next(one["metrics"].get(metric, {}).get("better") for one in told.values())
        for side, one in told.items():
            for row in one["rows"]:
                if metric in row["marks"]:
                    out.mark(name, side, f"{task}-{row['doc']}", row["marks"][metric])
        marks = [mark for side in out.marks[name].values() for mark in side.values()]
        short = metric.partition(",")[0]
        kind = "share" if set(marks) <= {0.0, 1.0} else "mean"
        way = {True: "more", False: "less"}.get(better, "")
        says = _SAYS.get(short, "As the task's file counts it.")
        unit = "bits" if short == "bits_per_byte" else ""
        out.measures.append(Measure(name, f"{task}: {_named(metric)}", says, way, kind, unit))


def _metrics(told: Mapping[str, Any]) -> list[str]:
    """Name the metrics that items have marks of, in the order of the rows."""
    return list(dict.fromkeys(metric for one in told.values() for row in one["rows"] for metric in row["marks"]))


def _named(metric: str) -> str:
    """Write "exact_match,strict" as people read it; the filter that does nothing is called none."""
    name, _, filtered = metric.partition(",")
    return name if filtered in ("", "none") else f"{name} ({filtered})"


def _unmarked(asking: Asking, task: str, told: Mapping[str, Any]) -> None:
    """Note the metrics that items have no marks of: the harness's own figure, without interval and test."""
    for metric, about in _any(told)["metrics"].items():
        if not about["items"] and about["value"] is not None:
            values = {side: one["metrics"].get(metric, {}).get("value") for side, one in told.items()}
            said = ", ".join(f"{value:.4g} {side}" for side, value in values.items() if value is not None)
            asking.note(f"{task}: {_named(metric)} is one number for all items, so that nothing is tested: {said}.")


# --- answers ---------------------------------------------------------------------------------------------------------


def _rows(task: str, told: Mapping[str, Any], out: Outcome) -> None:
    """Write down the answers, one row an item."""
    first, rows = next(iter(_metrics(told)), ""), dict[int, dict[str, Any]]()
    for side, one in told.items():
        for row in one["rows"]:
            made = rows.setdefault(
                row["doc"],
                {
                    "item": f"{task}-{row['doc']}",
                    "measure": f"{task}:{first}",
                    "asked": row["asked"],
                    "marks": {},
                    "task": task,
                    "wanted": row["wanted"],
                    "figures": {},
                },
            )
            made[side] = "\n\n".join(dict.fromkeys(row["said"].values()))
            if row["asked"] != made["asked"]:
                made.setdefault("asked_as", {})[side] = row["asked"]
            if first in row["marks"]:
                made["marks"][side] = row["marks"][first]
            made["figures"][side] = ", ".join(f"{_named(name)} {mark:.4g}" for name, mark in row["marks"].items())
    out.answers += rows.values()


SUITE = Suite(
    name="lm-eval",
    title="lm-eval tasks",
    says="What EleutherAI's evaluation harness marks on your own task files, with local rows.",
    cannot="What the tasks do not ask; and published figures are made with other files, precisions and examples.",
    measures=(),
    Config=Config,
    run=run,
    named=True,
    ready=ready,
)
