"""lm-eval in a process of its own: it makes the questions of the tasks, and marks the answers that it is given.

It never holds a model. Its LM (lmspoken.py) asks whoever started the process, who answers through the chat
engine (lmasked.py): a request `evaluate` streams {"ask": kind, ...}, a request `reply` gives the answer, the last
message is {"done"}. Code of the tasks' folder, where it was allowed, and templates of the task files run here only;
the environment is set so that nothing is fetched (OFFLINE).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import math
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from studio.errors import DataError, StudioError
from studio.evals.lmspoken import Ask, spoken
from studio.evals.lmtasks import FUNCTION, READERS

OFFLINE = {name: "1" for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE", "DO_NOT_TRACK")}
#: Aggregations whose value is the mean of the items' own.
_MEANS = ("mean", "nanmean")
_SHOWN = 300


class _Talk:
    """A conversation with whoever started this process: questions go out, replies come in."""

    def __init__(self) -> None:
        self.out: queue.Queue[dict[str, Any]] = queue.Queue()
        self.replies: queue.Queue[Any] = queue.Queue()

    def ask(self, kind: str, **parts: Any) -> Any:
        """Ask and wait for the reply."""
        self.out.put({"ask": kind, **parts})
        return self.replies.get()


_talks: dict[str, _Talk] = {}


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Evaluate the tasks of a request, see `evaluated`; or take the reply to a question of one that goes on."""
    if request["op"] == "reply":
        _talks[request["talk"]].replies.put(request["value"])
        yield {"ok": True}
        return
    talk = _talks[request["talk"]] = _Talk()

    def work() -> None:
        try:
            talk.out.put({"done": evaluated(request, talk.ask)})
        except BaseException as error:  # code of others may raise anything, or end itself
            talk.out.put({"error": error})

    threading.Thread(target=work, daemon=True).start()
    while True:
        item = talk.out.get()
        if "error" in item:
            del _talks[request["talk"]]
            raise _told(item["error"], "lm-eval cannot ask these tasks")
        yield item
        if "done" in item:
            del _talks[request["talk"]]
            return


def _told(error: BaseException, what: str) -> StudioError:
    """Tell an error of lm-eval, or of code that it ran, in a sentence."""
    if isinstance(error, StudioError):
        return error
    import traceback

    traceback.print_exception(error)
    said = f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}"
    return DataError(f"{what}: {said}", "Check the task's file and its rows, and its code where it has some.")


def evaluated(request: Mapping[str, Any], ask: Ask) -> dict[str, Any]:
    """Load tasks, ask their questions and mark the answers.

    `request`: "tasks" (configs as lmtasks.py reads them), "limit", "num_fewshot" (None: as they say), "chat" (through
    the chat template), "max_tokens". Gives {"version", "cut", "tasks": {name: {"version", "n_shot", "metrics": {metric:
    {"value", "better", "items"}}, "rows": [{"doc", "asked", "wanted", "said", "marks": {metric: number}}]}}}: `better`
    is whether more is better, `items` whether items have marks of it, `said` texts by filter, `cut` how many questions
    lost their beginning to the context's end.
    """
    import random
    from importlib.metadata import version

    import numpy as np

    _local_only()
    from lm_eval.evaluator import evaluate

    tasks = _tasks(request)
    lm = spoken(ask, int(request["max_tokens"]))
    random.seed(0)
    np.random.seed(1234)  # as the harness itself does
    found = evaluate(
        lm=lm,
        task_dict={"tasks": tasks, "groups": {}, "group_map": {}},
        limit=request["limit"],
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=bool(request["chat"]),
        fewshot_as_multiturn=True,
    )
    made = {name: _task(name, task, found) for name, task in tasks.items()}
    return {"version": version("lm-eval"), "cut": lm.cut, "tasks": made}


def _local_only() -> None:
    """Keep what the environment does not: rows come from files, and templates of task files run in a sandbox."""
    import datasets
    import lm_eval.utils
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    env = ImmutableSandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
    env.filters |= lm_eval.utils.env.filters
    lm_eval.utils.env = env
    if getattr(datasets.load_dataset, "local_only", False):
        return
    real = datasets.load_dataset

    def load(path: str, *args: Any, **options: Any) -> Any:
        if path not in READERS:
            raise DataError(
                f"A task wants the data set {path} of a hub; only local tasks are asked.",
                "Save its rows as JSON lines, and let the task read them.",
            )
        return real(path, *args, **options)

    load.local_only = True  # type: ignore[attr-defined]
    datasets.load_dataset = load


def _tasks(request: Mapping[str, Any]) -> dict[str, Any]:
    """Load the tasks; an error names the one that cannot be."""
    from lm_eval.tasks import TaskManager

    manager, made = TaskManager(include_defaults=False), {}
    for config in request["tasks"]:
        name = config["task"]
        try:
            task = manager.load([_with_code(config)])["tasks"][name]
            if task.get_config("num_fewshot") is None:
                task.set_config("num_fewshot", 0)
            if request["num_fewshot"] is not None:
                task.set_config("num_fewshot", request["num_fewshot"])
            task.set_fewshot_seed(1234)  # as the harness itself does, so that its figures can be compared
        except BaseException as error:
            raise _told(error, f"The task {name} cannot be loaded") from None
        made[name] = task
    return made


def _with_code(config: Any) -> Any:
    """Put in the functions that markers name: of a file beside the task's, else of an installed module."""
    if isinstance(config, list):
        return [_with_code(one) for one in config]
    if not isinstance(config, dict):
        return config
    if FUNCTION not in config:
        return {key: _with_code(value) for key, value in config.items()}
    module, _, name = str(config[FUNCTION]).rpartition(".")
    file = Path(config["folder"], *module.split(".")).with_suffix(".py")
    if not file.is_file():
        return getattr(importlib.import_module(module), name)
    spec = importlib.util.spec_from_file_location(f"lm_eval_folder.{file.stem}", file)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return getattr(made, name)


# --- marks -----------------------------------------------------------------------------------------------------------


def _task(name: str, task: Any, found: Mapping[str, Any]) -> dict[str, Any]:
    """Put together what the harness found of a task: figures, and items with their marks."""
    means = {metric: getattr(how, "__name__", "") for metric, how in (task.aggregation() or {}).items()}
    rows: dict[int, dict[str, Any]] = {}
    for sample in found["samples"][name]:
        row = rows.setdefault(sample["doc_id"], _row(sample))
        which = str(sample["filter"])
        row["said"][which] = _said(sample)
        for metric in sample["metrics"]:
            mark = _mark(metric, sample[metric], means.get(metric, "mean"))
            if mark is not None:
                row["marks"][f"{metric},{which}"] = mark
    marked = {metric for row in rows.values() for metric in row["marks"]}
    better = found["higher_is_better"].get(name) or {}
    metrics = {
        key: {"value": _number(value), "better": better.get(key.partition(",")[0]), "items": key in marked}
        for key, value in found["results"][name].items()
        if "," in key and not key.partition(",")[0].endswith("_stderr")
    }
    shots = found["n-shot"].get(name)
    return {
        "version": str(found["versions"].get(name)),
        "n_shot": shots,
        "metrics": metrics,
        "rows": list(rows.values()),
    }


def _row(sample: Mapping[str, Any]) -> dict[str, Any]:
    asked = [str(one[0]) for one in sample["arguments"]]
    wanted, choices = sample["target"], [str(one[1]) for one in sample["arguments"] if len(one) > 1]
    if isinstance(wanted, int) and len(set(asked)) == 1 and 0 <= wanted < len(choices):
        wanted = choices[wanted].strip()
    return {"doc": int(sample["doc_id"]), "asked": asked[0], "wanted": str(wanted), "said": {}, "marks": {}}


def _said(sample: Mapping[str, Any]) -> str:
    """Tell an answer: a text, or of texts to choose from how likely each is (log p), the likeliest first."""
    answers, asked = sample["filtered_resps"], sample["arguments"]
    if all(isinstance(one, (list, tuple)) and len(one) == 2 for one in answers):
        several = len({str(one[0]) for one in asked}) > 1
        texts = [str(one[0 if several else 1]).strip() for one in asked]
        ranked = sorted(zip(answers, texts, strict=True), key=lambda pair: -float(pair[0][0]))
        return "\n".join(f"{text} ({float(answer[0]):.2f})" for answer, text in ranked)
    return "\n".join(f"log p {one:.2f}" if isinstance(one, float) else str(one) for one in answers)


def _mark(metric: str, value: Any, how: str) -> float | None:
    """Give an item's own mark; None where a metric has none (F1 over all items, say)."""
    if metric == "bits_per_byte" and isinstance(value, tuple):
        return _number(-value[0] / (value[1] * math.log(2))) if value[1] else None
    return _number(value) if how in _MEANS else None


def _number(value: Any) -> float | None:
    with contextlib.suppress(TypeError, ValueError):
        return number if not isinstance(value, str) and math.isfinite(number := float(value)) else None
    return None
