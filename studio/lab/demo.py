"""The whole path on the starter model: base -> SFT -> DPO -> GGUF, asked the same held-out questions at each stage.

Every figure is measured through llama.cpp on the exported Q8_0 files, with the same code for all three models. The
questions are about subjects that no training row mentions, so what is learned is behaviour and what is answered is the
base's own knowledge.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio import events, paths
from studio.chat.session import Pane, Session
from studio.errors import Stopped
from studio.evals import starter
from studio.runs import Run, RunConfig

Start = Callable[[RunConfig, str], dict[str, Any]]

REPLY_TOKENS = 40
COMPLETION_TOKENS = 8


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool], start: Start) -> dict[str, Any]:
    """Walk the path and measure it.

    options: `seed`; for finding settings `split` (choose instead of report) and `sft`, `dpo` (settings to try).
    """
    options = run.config.options
    seed = int(options.get("seed", 0))
    questions = load_questions(str(options.get("split", "report")))
    data = paths.assets() / "data"
    began = time.monotonic()
    seconds: dict[str, float] = {}

    def timed(part: str, config: RunConfig) -> dict[str, Any]:
        at = time.monotonic()
        result = start(config, part)
        seconds[part] = round(seconds.get(part, 0.0) + time.monotonic() - at, 1)
        return result

    def train(part: str, file: str, parent: str) -> dict[str, Any]:
        given = {**dict(options.get(part) or {}), "seed": seed}
        title = "First assistant: " + ("learn to answer" if part == "sft" else "learn the preferred style")
        return timed(
            part,
            RunConfig(
                "train", title, model="starter", method=part, data=str(data / file), parent=parent, settings=given
            ),
        )

    def export(title: str, parent: str, base: bool) -> dict[str, Any]:
        return timed("export", RunConfig("export", title, model="starter", parent=parent, options=_files(title, base)))

    sft = train("sft", "starter_sft.jsonl", "")
    dpo = train("dpo", "starter_pairs.jsonl", sft["dir"])
    sft_file = export("assistant sft", sft["dir"], base=False)
    dpo_file = export("assistant", dpo["dir"], base=True)

    at = time.monotonic()
    panes = [
        Pane("base", dpo_file["base_file"], raw=True),
        Pane("sft", sft_file["files"][0]["path"]),
        Pane("dpo", dpo_file["files"][0]["path"]),
    ]
    scores = ask(panes, questions, emit, should_stop)
    seconds["questions"] = round(time.monotonic() - at, 1)
    seconds["total"] = round(time.monotonic() - began, 1)
    made = dpo_file["files"][0]
    numbers = next(line for line in dpo_file["certificate"]["lines"] if line["name"] == "numbers")
    return {
        **scores,
        "gguf": {"path": made["path"], "type": made["type"], "bytes": made["bytes"], "kl": numbers.get("kl")},
        "certificate": dpo_file["certificate"]["ok"],
        "seconds": seconds,
        "seed": seed,
        "runs": {"sft": sft["dir"], "dpo": dpo["dir"], "export": str(Path(made["path"]).parent.parent)},
    }


def _files(title: str, base: bool) -> dict[str, Any]:
    return {"quants": ["Q8_0"], "name": title, "base": base}


def load_questions(split: str) -> list[Any]:
    """Read the held-out questions of one split."""
    path = paths.assets() / "data" / "starter_questions.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [row for row in rows if row["split"] == split]


def ask(
    panes: Sequence[Pane],
    questions: Sequence[Any],
    emit: events.Emit,
    should_stop: Callable[[], bool],
) -> dict[str, dict[str, float]]:
    """Ask every file every question, as a completion and as a question, and give the shares: {name: {"knows", ...}}."""
    session = Session(panes, n_ctx=512)
    progress = events.Progress(
        lambda item: emit({**item, "part": "questions"}),
        "Asking held-out questions",
        len(panes) * len(questions),
        "questions",
    )
    scores: dict[str, dict[str, float]] = {}
    try:
        for index, pane in enumerate(panes):
            marks: dict[str, list[bool]] = {
                name: [] for name in ("knows", "answers", "answers_strict", "stops", "prefers")
            }
            for row in questions:
                if should_stop():
                    raise Stopped("Stopped while asking questions.", "The runs made so far are kept.")
                said = session.answer(index, _user(row["completion"]), max_tokens=COMPLETION_TOKENS, raw=True)
                reply = session.answer(index, _user(row["question"]), max_tokens=REPLY_TOKENS)
                marks["knows"].append(starter.knows(said["text"], row))
                marks["answers"].append(starter.answers(reply["text"], row))
                marks["answers_strict"].append(starter.answers_strict(reply["text"], row))
                marks["prefers"].append(starter.prefers(reply["text"]))
                marks["stops"].append(reply["stopped"])
                progress.step()
            scores[pane.name] = {name: round(sum(found) / len(found), 4) for name, found in marks.items()}
            scores[pane.name]["n"] = len(questions)
    finally:
        session.close()
    return scores


def _user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]
