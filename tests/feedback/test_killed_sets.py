"""kill -9 while a set is made, then resume: nothing finished is lost or made twice, and the set is the same."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from test_judge import pairs, scripted, sentence
from test_rejection import prompts, starter_file  # noqa: F401  (a fixture)

from studio import runs
from studio.data import preferences
from studio.data.preferences import Record
from studio.feedback import job, sampling

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
ROOT = Path(__file__).parent.parent.parent


def worker(run: runs.Run) -> subprocess.Popen[bytes]:
    with run.log.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "studio", "worker", str(run.dir)],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def lines(run: runs.Run, name: str) -> list[bytes]:
    path = run.dir / name
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def killed(run: runs.Run, name: str, after: int) -> list[bytes]:
    """Let a worker go until a file has so many lines, kill it, and give the lines that it left."""
    process, end = worker(run), time.monotonic() + 120
    while len(lines(run, name)) < after:
        assert process.poll() is None and time.monotonic() < end, run.log.read_text()
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert run.result() is None
    return lines(run, name)


def finished(run: runs.Run) -> list[Record]:
    process = worker(run)
    assert process.wait(timeout=300) == 0, run.log.read_text()
    return [dataclasses.replace(record, time="") for record in preferences.records(run.dir)]


def made(source: str, data: Path, **settings: Any) -> runs.Run:
    return runs.create(job.asked(source, data, settings))


def test_a_judge_that_is_killed_loses_no_judgement_and_asks_for_none_twice(tmp_path: Path) -> None:
    data = pairs(tmp_path / "p.jsonl", 24)
    with scripted(lambda a, b: 0.9 if sentence(a) else 0.2, seconds=0.02) as server:
        whole = finished(made("judge", data, judge=server.name))
        before = len(server.bodies)
        run = made("judge", data, judge=server.name)
        kept = killed(run, preferences.FILE, 5)
        assert 5 <= len(kept) < 24
        after = finished(run)
        asked = len(server.bodies) - before
    assert after == whole and len(whole) == 24
    assert lines(run, preferences.FILE)[: len(kept)] == kept and len(lines(run, preferences.FILE)) == 24
    # two requests a pair, one at the beginning of either attempt, and at most two of the pair that was under way
    assert 2 * 24 + 2 <= asked <= 2 * 24 + 2 + 2


def test_answers_that_were_drawn_and_scored_before_a_kill_are_not_drawn_or_scored_again(
    tmp_path: Path,
    starter_file: str,  # noqa: F811
) -> None:
    rule, log = tmp_path / "slow.py", tmp_path / "scored"
    rule.write_text(
        "import time\n"
        "def score(prompt, answer, reference, stopped):\n"
        "    time.sleep(0.01)\n"
        f"    open({str(log)!r}, 'a').write(prompt + chr(10))\n"
        "    return len(set(answer))\n"
    )
    data = prompts(tmp_path / "p.jsonl", 16)
    given = {"answers_from": starter_file, "reward": f"{rule}:score", "n": 4, "max_tokens": 24}
    whole = finished(made("rejection", data, **given))
    log.unlink()
    run = made("rejection", data, **given)
    drawn = killed(run, sampling.DRAFTS, 3)
    scored = killed(run, preferences.FILE, 4)
    assert lines(run, sampling.DRAFTS)[: len(drawn)] == drawn and len(lines(run, sampling.DRAFTS)) == 16
    after = finished(run)
    assert after == whole and len(whole) == 16
    assert lines(run, preferences.FILE)[: len(scored)] == scored and len(lines(run, preferences.FILE)) == 16
    seen = log.read_text().splitlines()
    assert 16 * 4 <= len(seen) <= 16 * 4 + 4, "at most the answers of the prompt that was under way"
    assert not (run.dir / sampling.DRAFTS).exists()


def test_rules_that_are_killed_go_on_with_the_next_row(tmp_path: Path) -> None:
    rule = tmp_path / "slow.py"
    rule.write_text(
        "import time\ndef score(prompt, answer, reference, stopped):\n    time.sleep(0.02)\n    return len(answer)\n"
    )
    rows: list[dict[str, object]] = [{"prompt": f"Q{i}", "chosen": "x" * (i + 2), "rejected": "y"} for i in range(20)]
    data = write_jsonl(tmp_path / "p.jsonl", rows)
    whole = finished(made("rules", data, rule=f"{rule}:score"))
    run = made("rules", data, rule=f"{rule}:score")
    kept = killed(run, preferences.FILE, 4)
    assert finished(run) == whole and lines(run, preferences.FILE)[: len(kept)] == kept
    ids = [record.id for record in preferences.records(run.dir)]
    assert len(ids) == len(set(ids)) == len(lines(run, preferences.FILE)) == 20
