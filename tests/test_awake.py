"""The machine is kept awake while a run goes on, no longer, and a run never fails for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from studio import awake, runs, worker
from studio.errors import StudioError

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the tool of this test is Linux's")


def tool(folder: Path, text: str, name: str = "systemd-inhibit") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def inhibit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemd-inhibit that writes its words and its process id down, then does what it was given."""
    said = tmp_path / "said"
    tool(
        tmp_path / "bin",
        f'printf "%s\\n" $$ "$@" > {said}.tmp; mv {said}.tmp {said}\nfor last; do :; done\nexec "$last"',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return said


def wait(path: Path) -> list[str]:
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)
    return path.read_text().splitlines()


def gone(pid: int) -> bool:
    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_it_is_held_inside_and_let_go_after(inhibit: Path) -> None:
    with awake.awake("train: my\nrun"):
        pid, *words = wait(inhibit)
        assert words[:5] == [
            "--what=idle:sleep",
            "--mode=block",
            "--who=Studio",
            "--why=train: my run",
            shutil.which("cat"),
        ]
        time.sleep(0.2)
        assert psutil.pid_exists(int(pid)), "it lives as long as the work"
    assert gone(int(pid))


def test_it_is_let_go_when_the_work_fails_and_when_it_is_killed(inhibit: Path) -> None:
    with pytest.raises(StudioError), awake.awake("a run"):
        pid = int(wait(inhibit)[0])
        raise StudioError("it broke")
    assert gone(pid)
    inhibit.unlink()
    code = "import time; from studio.awake import awake\nwith awake('a run'): time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    pid = int(wait(inhibit)[0])
    process.kill()
    process.wait()
    assert gone(pid)


@pytest.mark.parametrize("text", ["exit 1", "exec sleep 60 <&-", "kill -9 $$"], ids=["refuses", "hangs", "dies"])
def test_a_tool_that_does_not_work_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    tool(tmp_path / "bin", text)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    began = time.monotonic()
    with awake.awake("a run"):
        time.sleep(0.1)
    assert time.monotonic() - began < 5


def test_without_a_tool_or_with_one_that_cannot_start_the_work_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert awake.command("x") == []
    with awake.awake("a run"):
        pass
    monkeypatch.setattr(awake, "command", lambda why: [str(tmp_path / "nothing")])
    with awake.awake("a run"):
        pass


def test_a_mac_watches_our_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tool(tmp_path / "bin", "exit 0", "caffeinate")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert awake.command("x", "darwin") == [str(path), "-i", "-w", str(os.getpid())]
    assert awake.command("x", "win32") == []


def test_a_run_keeps_the_machine_awake(inhibit: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def job(run: runs.Run, emit: object, should_stop: object) -> dict[str, str]:
        seen.append(psutil.pid_exists(int(wait(inhibit)[0])))
        return {}

    monkeypatch.setattr(worker, "_job", lambda config: job)
    worker.work(runs.create(runs.RunConfig("train", "my run")))
    assert seen == [True] and gone(int(inhibit.read_text().splitlines()[0]))
    assert "--why=train: my run" in inhibit.read_text()
