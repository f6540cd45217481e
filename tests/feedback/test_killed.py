"""A source that is killed in the middle loses no finished record and makes none twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from scripted import Scripted

from studio import runs, worker
from studio.data import preferences
from studio.feedback import job

ROOT = Path(__file__).parent.parent.parent


def answer(turns: list[dict[str, Any]]) -> str:
    text = turns[-1]["content"]
    if "The criticism:" in text:
        return "A mended answer, which is kinder than the first one was."
    if "Say in one to three" in text:
        return "It is unkind to the reader."
    if "Reply with" in text:
        quoted = text.split("]\n")[-2].split("\n[end")[0]
        return f"Explain {quoted} in words that are simple, number {sum(map(ord, quoted))} of its own kind."
    return "A first answer, which is somewhat rude to whoever reads it."


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on Windows")
@pytest.mark.parametrize("source", ["constitution", "synthetic"])
def test_a_kill_in_the_middle_loses_nothing_and_repeats_nothing(source: str, tmp_path: Path) -> None:
    words = [f"topic {chr(97 + i)}{i * 7919}" for i in range(24)]
    prompts = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": f"What is {word}?"} for word in words])
    (tmp_path / "topics.txt").write_text("\n".join(words))
    with Scripted(answer, seconds=0.03) as server:
        settings = {"answers_from": server.name}
        if source == "constitution":
            config = job.asked(source, prompts, settings)
        else:
            config = job.asked(source, "", {**settings, "topics": str(tmp_path / "topics.txt")})
        run = runs.create(config)
        process = subprocess.Popen(
            [sys.executable, "-m", "studio", "worker", str(run.dir)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        deadline = time.monotonic() + 60
        while len(preferences.records(run.dir)) < 9 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        kept = preferences.records(run.dir)
        assert 9 <= len(kept) < 24 and run.result() is None
        lines = (run.dir / "records.jsonl").read_bytes().splitlines()[: len(kept)]
        asked = len(server.bodies)
        result = worker.work(run)
        after = (run.dir / "records.jsonl").read_bytes().splitlines()
        made = preferences.records(run.dir)
        assert after[: len(kept)] == lines and len(after) == 24  # appended to, nothing written twice
        assert result["records"] == 24 and max(Counter(one.id for one in made).values()) == 1
        each = 3 if source == "constitution" else 2
        assert len(server.bodies) - asked == each * (24 - len(kept))  # what was finished was not asked for again
        whole = runs.create(config)
        worker.work(whole)
        assert [(one.id, one.dropped, [a.text for a in one.answers]) for one in preferences.records(whole.dir)] == [
            (one.id, one.dropped, [a.text for a in one.answers]) for one in made
        ]
