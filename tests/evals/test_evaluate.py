"""`studio eval`: sides, answers that are kept, a kill in the middle, and how each input error is told."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from making import make_model, write_jsonl

import studio
from studio import runs, worker
from studio.cli.__main__ import run as command
from studio.cli.evaluate import told
from studio.data import ledger
from studio.errors import ConfigError, DataError, RunError, Stopped
from studio.evals import job
from studio.evals.asking import Kept
from studio.feedback import speakers

SMALL = {"fit": {"max_tokens": "8", "sampled": "4"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A run that learned two steps, with rows held out."""
    folder = tmp_path_factory.mktemp("made")
    rows: list[dict[str, object]] = [{"prompt": f"What is {i} + {i}?", "completion": str(2 * i)} for i in range(40)]
    file = write_jsonl(folder / "sft.jsonl", rows)
    settings = {"max_steps": 2, "held_out": 0.25, "quantize_base": "none"}
    studio.train_model("sft", model=str(tiny), data=file, out=folder / "run", settings=settings)
    return folder / "run"


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Count the answers that are really drawn."""
    seen: list[str] = []
    real = speakers.Llama.ask

    def counted(self: speakers.Llama, asks: Any, *rest: Any) -> Any:
        seen.extend(one.key for one in asks)
        return real(self, asks, *rest)

    monkeypatch.setattr(speakers.Llama, "ask", counted)
    return seen


def test_both_sides_are_asked_in_one_engine_and_the_card_says_through_what(made: Path) -> None:
    found = studio.evaluate(str(made), suites=["fit"], settings=SMALL, seed=3)
    assert (found["of"], found["against"], found["seed"]) == (str(made), "base", 3)
    assert list(found["sides"]) == ["before", "after"]
    before, after = found["sides"]["before"], found["sides"]["after"]
    assert before["sha256"] == after["sha256"] and after["adapter"] and not before["adapter"]
    assert "Q8_0" in found["through"] and after["adapter"] in found["through"]
    figures = {one["measure"]: one for one in found["suites"]["fit"]["figures"]}
    n = figures["stops"]["sides"]["after"]["n"]
    assert n >= 4 and figures["loss"]["difference"]["n"] == n
    assert figures["kl_answer"]["sides"].keys() == {"after"}  # before is the base itself
    assert Path(found["report"]).read_text("utf-8").startswith("<!doctype html>")
    assert len(json.loads((Path(found["dir"]) / "shown.json").read_text("utf-8"))["fit"]) == n
    assert {"worse", "better", "changed", "undecided"} <= found.keys()


def test_a_run_is_compared_with_its_parent_else_with_its_base_and_with_nobody_when_asked(made: Path) -> None:
    child = runs.create(runs.RunConfig("train", "child", method="sft", parent=str(made)))
    assert job.asked(str(made), suites=["fit"]).options["against"] == "base"
    assert job.asked(child.id, suites=["fit"]).options["against"] == str(made)
    assert job.asked(child.id, "base", ["fit"]).options["against"] == "base"
    assert job.asked(child.id, "none", ["fit"]).options["against"] == ""
    assert job.asked("starter", suites=["fit"]).options["against"] == ""
    with pytest.raises(RunError, match="began with"):
        job.asked("starter", "base", ["fit"])


def test_one_side_alone_has_figures_and_nothing_to_compare(made: Path) -> None:
    found = studio.evaluate(str(made), against="none", suites=["fit"], settings=SMALL)
    assert found["against"] is None and found["tested"] == 0
    assert all(one["sides"].keys() <= {"after"} for one in found["suites"]["fit"]["figures"])
    assert "What got worse" not in Path(found["report"]).read_text("utf-8")


def test_what_was_answered_is_not_asked_again_and_the_card_is_the_same(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = asked(monkeypatch)
    first = studio.evaluate(str(made), suites=["fit"], settings=SMALL)
    assert seen
    run = runs.find(first["run"])
    (run.dir / "result.json").unlink()
    seen.clear()
    again = worker.work(run)
    assert seen == [] and again["suites"] == first["suites"]


def test_a_stop_keeps_the_answers_and_a_resume_asks_the_rest_only(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create(job.asked(str(made), suites=["fit"], settings=SMALL))
    with pytest.raises(Stopped):
        worker.work(run, should_stop=lambda: len(Kept(run.dir)._found) >= 3)
    kept = len(Kept(run.dir)._found)
    seen = asked(monkeypatch)
    found = worker.work(run)
    assert kept >= 3 and len(seen) == 2 * found["suites"]["fit"]["figures"][0]["sides"]["after"]["n"] - kept


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_a_kill_in_the_middle_loses_no_answer_and_repeats_none(made: Path, home: Path) -> None:
    words = [sys.executable, "-m", "studio", "eval", str(made), "--suite", "fit", "--json"]
    words += ["--set", "fit.max_tokens=8", "--set", "fit.sampled=4"]
    env = {**os.environ, "STUDIO_HOME": str(home)}
    process = subprocess.Popen(words, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while not (file := next(home.glob("runs/*/answers.jsonl"), None)) or file.read_bytes().count(b"\n") < 3:
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = [line for line in file.read_bytes().split(b"\n")[:-1] if line]
    (run,) = runs.all_runs()
    assert run.status() == "interrupted"
    found = worker.work(run)
    rows = [json.loads(line) for line in file.read_bytes().split(b"\n") if line]
    assert [json.loads(line) for line in before] == rows[: len(before)]
    assert len({row["key"] for row in rows}) == len(rows)
    whole = studio.evaluate(str(made), suites=["fit"], settings=SMALL)
    assert found["suites"] == whole["suites"]


def test_what_is_caughtby_token_is_not_compared_with_a_side_of_another_vocabulary(made: Path, tmp_path: Path) -> None:
    other = make_model(tmp_path / "other", vocab=300)
    found = studio.evaluate(str(made), against=str(other), suites=["fit"], settings=SMALL)
    figures = {one["measure"]: one["sides"].keys() for one in found["suites"]["fit"]["figures"]}
    assert figures["stops"] == {"before", "after"}
    assert [figures[name] for name in ("loss", "accuracy", "length", "kl_answer", "kl_token")] == [{"after"}] * 5
    notes = " ".join(found["suites"]["fit"]["notes"])
    assert "cannot be compared" in notes and "no distance" in notes


def test_a_suite_that_cannot_be_measured_does_not_take_the_others_with_it(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.evals import fit

    def fails(asking: Any) -> Any:
        raise DataError("There is nothing to ask.", "Bring a file.")

    import dataclasses

    monkeypatch.setattr(fit, "BROKEN", dataclasses.replace(fit.SUITE, name="broken", run=fails), raising=False)
    monkeypatch.setitem(job.SUITES, "broken", "studio.evals.fit:BROKEN")
    found = studio.evaluate(str(made), suites=["broken", "fit"], settings=SMALL)
    assert found["suites"]["broken"]["notes"] == ["Not measured: There is nothing to ask. Bring a file."]
    assert found["suites"]["fit"]["figures"][0]["sides"]
    with pytest.raises(DataError, match="nothing to ask"):
        studio.evaluate(str(made), suites=["broken"])


def test_a_full_disk_ends_the_run_and_leaves_no_card_with_holes(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = runs.create(job.asked(str(made), suites=["fit", "refusal"], n=4, settings=SMALL))
    real, count = ledger._append, [0]

    def full(*args: Any) -> None:
        count[0] += 1
        if count[0] > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(*args)

    def tell(item: dict[str, Any]) -> None:
        if count[0] > 3:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ledger, "_append", full)
    with pytest.raises(DataError) as caught:
        worker.work(run, emit=tell)
    assert caught.value.message.startswith("It could not be written: No space left") and run.result() is None
    monkeypatch.setattr(ledger, "_append", real)
    found = worker.work(run)
    assert all(suite["figures"][0]["sides"] for suite in found["suites"].values())


def test_an_item_that_is_too_long_is_named_by_its_words(made: Path, tmp_path: Path) -> None:
    texts = ["Say hi.", f"Which of {'these ' * 3000}is it?"]
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps({"prompt": text, "contains": "x"}) + "\n" for text in texts), encoding="utf-8")
    with pytest.raises(DataError, match=r"“Which of these these .*…”: The conversation is") as caught:
        studio.evaluate(str(made), against="none", suites=["own"], files={"own": file})
    assert caught.value.file == str(file) and "shorten it" in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "field", "said"),
    [
        (["--suite", "nothing"], "suite", "There is no suite 'nothing'"),
        (["--suite", "fit", "--data", "fit=missing.jsonl"], "data", "There is no file"),
        (["--data", "missing.jsonl"], "data", "which suite the file is for"),
        (["--suite", "fit", "--set", "fit.n=0"], "n", "below 1"),
        (["--suite", "lm-eval", "--data", "lm-eval=MADE/config.json"], "data", "reads no file"),
        (["--suite", "own", "--suite", "fit", "--data", "own=MADE/config.json"], "prompt", "No question is asked"),
        (["--suite", "refusal", "--data", "MADE/config.json"], None, "called safe or unsafe"),
        (["--suite", "shift", "--data", "MADE/config.json"], None, "question with a short answer"),
        (["--suite", "redteam", "--data", "MADE/config.json"], None, "is a request"),
        (["--suite", "fit", "--set", "n=3"], "set", "is no setting"),
        (["--suite", "fit", "--max-tokens", "9"], "max_tokens", "--max-tokens is a setting of --suite lm-eval"),
        (["--suite", "fit", "--set", "other.n=3"], "set", "is not evaluated here"),
    ],
)
def test_input_errors_are_caughtbefore_anything_is_written(
    made: Path, capsys: pytest.CaptureFixture[str], words: list[str], field: str | None, said: str
) -> None:
    words = [word.replace("MADE", str(made)) for word in words]
    assert command(["eval", str(made), *words, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == field and said in error["message"] and error["remedy"]
    assert runs.all_runs() == []


def test_n_is_the_most_items_of_every_suite_and_the_words_say_what_got_worse_first(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(made), "--suite", "fit", "--n", "3", "--set", "fit.max_tokens=4", "--set", "fit.sampled=0"]
    assert command(words) == 0
    said = capsys.readouterr().out
    assert said.index("WORSE: ") < said.index("BETTER: ") < said.index("Fit (fit)")
    (run,) = runs.all_runs()
    assert run.result() is not None
    figures = (run.result() or {})["suites"]["fit"]["figures"]
    assert {one["measure"]: one for one in figures}["stops"]["sides"]["after"]["n"] == 3
    assert run.parent() == runs.find(str(made))
    assert all(one.config.kind != "eval" for one in runs.children(runs.find(str(made))))  # it may be deleted


def test_where_nothing_can_be_compared_no_list_says_that_nothing_got_worse() -> None:
    found = {"of": "a", "against": "b", "through": "llama.cpp", "seed": 0, "tested": 0, "suites": {}, "report": "r"}
    said = told({**found, "worse": [], "better": [], "changed": [], "undecided": []})
    assert "WORSE" not in said and "NOTHING TO COMPARE" in said


def test_a_setting_of_another_suite_is_refused(made: Path) -> None:
    with pytest.raises(ConfigError, match="no setting 'nothing'"):
        job.asked(str(made), suites=["fit"], settings={"fit": {"nothing": 1}})
