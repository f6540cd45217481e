"""The ground floor: settings, events, names, children, runs."""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import pickle
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import config, errors, events, paths, runs
from studio.child import Child
from studio.cli.__main__ import run
from studio.errors import ChildCrashed, ConfigError, InputError, RunError
from studio.methods import METHODS
from studio.models import hub
from studio.redact import redact_logs
from studio.ui import choice


@dataclasses.dataclass(frozen=True)
class Sample:
    rate: float = config.setting(0.1, "A rate.", low=0.0, high=1.0)
    count: int | None = config.setting(None, "A count.", low=1)
    kind: str = config.setting("a", "A kind.", choices=("a", "b"))
    on: bool = config.setting(True, "A switch.")


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ({}, Sample()),
        ({"rate": "0.5", "count": "3", "on": "no"}, Sample(rate=0.5, count=3, on=False)),
        ({"count": "", "kind": "b"}, Sample(kind="b")),
        ({"count": 2.0}, Sample(count=2)),
    ],
)
def test_values_from_flags_and_forms_become_settings(given_: dict[str, Any], expected: Sample) -> None:
    assert config.build(Sample, given_) == expected


@pytest.mark.parametrize(
    "bad",
    [
        {"rate": "nan"},
        {"rate": "inf"},
        {"rate": 2},
        {"count": 0},
        {"count": "1.5"},
        {"kind": "c"},
        {"on": "perhaps"},
        {"rat": 1},
        {"rate": None},
        {"rate": "x"},
    ],
)
def test_a_bad_value_names_its_field_and_a_remedy(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        config.build(Sample, bad)
    assert caught.value.field in bad and caught.value.remedy and next(iter(bad)) in caught.value.message


def test_all_problems_are_raised_together() -> None:
    with pytest.raises(ConfigError, match=r"rate.*kind"):
        config.build(Sample, {"rate": 7, "kind": "z"})


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_every_setting_of_every_method_is_declared_whole_and_its_default_is_valid(method: Any) -> None:
    assert config.validate(method.Config()) == []
    for setting in config.settings(method.Config):
        assert setting.help.endswith(".") and setting.type in (int, float, str, bool)
        assert setting.type not in (int, float) or (setting.low is not None and setting.high is not None)


def test_methods_keep_their_own_defaults() -> None:
    assert METHODS["ipo"].Config().learning_rate < METHODS["sft"].Config().learning_rate


def _all_errors(cls: type = errors.StudioError) -> Iterator[type]:
    yield cls
    for child in cls.__subclasses__():
        yield from _all_errors(child)


@pytest.mark.parametrize("cls", list(_all_errors()))
def test_every_error_survives_a_process_border_whole(cls: type[errors.StudioError]) -> None:
    error = pickle.loads(pickle.dumps(cls("what", "do", file="f", line=3, field="x")))
    assert type(error) is cls and error.to_dict() == cls("what", "do", file="f", line=3, field="x").to_dict()
    assert str(error) == "f, line 3, field x: what\n  do"
    assert cls.__name__ in (errors.__doc__ or ""), "the tree in the docstring is incomplete"


def test_a_half_written_line_is_ignored_and_cut_off_by_the_next_writer(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = events.Writer(path)
    writer(events.event("note", text="one", level="info"))
    writer.close()
    path.write_bytes(path.read_bytes() + b'{"type": "note", "tex')
    assert [item["text"] for item in events.read(path)] == ["one"]
    follower = events.Follower(path)
    assert len(follower.read()) == 1 and follower.read() == []
    writer = events.Writer(path)
    writer(events.event("note", text="two", level="info"))
    writer.close()
    assert [item["text"] for item in events.read(path)] == ["one", "two"]


def test_progress_tells_rate_and_time_left() -> None:
    seen: list[events.Event] = []
    progress = events.Progress(seen.append, "Reading", 4, "rows")
    for _ in range(4):
        time.sleep(0.01)
        progress.step()
    assert (seen[0]["done"], seen[-1]["done"], seen[-1]["seconds_left"]) == (0, 4, 0.0)
    assert 0 < seen[-1]["rate"] <= 100


@pytest.mark.parametrize(
    "name", ["../x", "/abs", "C:\\x", "con", "nul.txt", "name.", "a" * 65, "a\nb", "--help", "", "A", ".x"]
)
def test_a_dangerous_name_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        paths.check_name(name)


@given(st.text(max_size=80))
def test_any_text_becomes_a_name_that_is_allowed(text: str) -> None:
    assert paths.check_name(paths.slug(text))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.json"
    paths.write_text(path, "old")

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="space"):
        paths.write_text(path, "new")
    assert path.read_text() == "old"


def echo(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """A child's handler for the tests below."""
    what = request["do"]
    if what == "count":
        for number in range(request["n"]):
            if cancelled():
                return
            time.sleep(0.02)
            yield {"number": number, "pid": os.getpid()}
    elif what == "die":
        os.kill(os.getpid(), signal.SIGSEGV)
        time.sleep(5)
    elif what == "hang":
        time.sleep(60)
    elif what == "eat":
        yield {"size": len(bytearray(2 << 30))}
    elif what == "print":
        print("noise on standard output")
        yield {"ok": True}
    elif what == "raise":
        raise ConfigError("bad", "mend it", field="x")
    else:
        raise ZeroDivisionError("oops")


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    made = Child("test_ground:echo", memory_mb=1500)
    yield made
    made.close()


def test_a_child_answers_several_requests_at_once(child: Child) -> None:
    streams = [child.stream({"do": "count", "n": 5}) for _ in range(2)]
    numbers = [next(stream)["number"] for _ in range(5) for stream in streams]
    assert numbers == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]


def test_a_childs_own_output_does_not_disturb_its_answers(child: Child) -> None:
    assert child.ask({"do": "print"}) == {"ok": True}


def test_an_error_of_ours_crosses_the_border(child: Child) -> None:
    with pytest.raises(ConfigError) as caught:
        child.ask({"do": "raise"})
    assert (caught.value.field, caught.value.remedy) == ("x", "mend it")


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize(("what", "says"), [("die", "signal 11"), ("bug", "ZeroDivisionError")])
def test_a_crash_is_an_answer_and_the_next_request_works(child: Child, what: str, says: str) -> None:
    with pytest.raises(ChildCrashed, match=says):
        child.ask({"do": what})
    assert child.ask({"do": "count", "n": 1})["number"] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("end", ["crash", "close"])
def test_who_waits_hears_of_a_crash_also_when_a_new_request_comes_at_once(child: Child, end: str) -> None:
    """The new request starts a new process before the end of the old one was told."""
    heard: queue.Queue[str] = queue.Queue()

    def wait() -> None:
        try:
            child.ask({"do": "hang"}, timeout=40)
        except ChildCrashed as error:
            heard.put(error.message)

    first = child.ask({"do": "count", "n": 1})["pid"]
    threading.Thread(target=wait, daemon=True).start()
    time.sleep(0.2)  # until it waits
    if end == "crash":
        os.kill(first, signal.SIGKILL)
        while child.pid:
            pass
    else:
        child.close()
    assert child.ask({"do": "count", "n": 1})["pid"] != first
    assert "signal 9" in heard.get(timeout=10)


def test_a_hang_is_ended(child: Child) -> None:
    with pytest.raises(ChildCrashed, match="no answer within"):
        child.ask({"do": "hang"}, timeout=1.0)
    assert child.ask({"do": "count", "n": 1})["number"] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_memory_limit_holds(child: Child) -> None:
    with pytest.raises(ChildCrashed, match="memory"):
        child.ask({"do": "eat"})


def test_a_child_ends_with_its_parent() -> None:
    import subprocess

    places = [str(Path(__file__).parent.parent), str(Path(__file__).parent)]
    code = (
        f"import os, sys; sys.path[:0] = {places!r}\n"
        "from studio.child import Child\n"
        "c = Child('test_ground:echo'); print(c.ask({'do': 'count', 'n': 1})['pid'], flush=True); os._exit(0)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    pid = int(done.stdout)
    import psutil

    end = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < end:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_is_found_by_the_beginning_of_its_id_and_by_its_directory() -> None:
    run = runs.create(runs.RunConfig("train", "My first run!"))
    assert runs.find(run.id).dir == runs.find(run.id[:18]).dir == runs.find(str(run.dir)).dir == run.dir
    assert "my-first-run" in run.id and run.status() == "new"
    with pytest.raises(RunError, match="no run"):
        runs.find("nothing")


def test_status_is_derived_from_lock_and_events() -> None:
    run = runs.create(runs.RunConfig("train", "t"))
    with run.hold():
        assert run.status() == "running" and runs.running() == [run]
    assert run.status() == "interrupted"
    writer = events.Writer(run.dir / "events.jsonl")
    for kind in events.TERMINAL:
        writer(events.event(kind))
        assert run.status() == kind
    writer(events.event("started"))
    assert run.status() == "interrupted"
    writer.close()


def test_a_run_that_another_needs_is_not_deleted() -> None:
    parent = runs.create(runs.RunConfig("train", "parent"))
    child_ = runs.create(runs.RunConfig("train", "child", parent=str(parent.dir)))
    with pytest.raises(RunError, match=child_.id):
        runs.delete(parent)
    runs.delete(child_)
    runs.delete(parent)
    assert runs.all_runs() == []


def test_a_run_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        runs.create(runs.RunConfig("train", "t"), tmp_path)
    assert json.dumps(sorted(os.listdir(tmp_path))) == '["mine.txt"]'


def test_a_pasted_token_is_written_nowhere(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """S13: an address that holds a token goes through a run that fails; nothing on disk or screen has the token."""
    token = "hf_" + "CanaryCanaryCanary0123456789"
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path))
    address = f"https://me:{token}@huggingface.co.example/org/name"
    code = run(["train", "sft", "--model", address, "--data", "x.jsonl", "--title", f"with {token}", "--json"])
    out, err = capfd.readouterr()
    assert code == 2 and token not in out + err
    with pytest.raises(InputError) as caught:
        hub.resolve(address)
    assert token not in str(caught.value)
    choice.update(model=address)
    redact_logs()
    logged = logging.getLogger("somebody").makeRecord("somebody", logging.INFO, "x.py", 1, "asked %s", (address,), None)
    assert logged.getMessage() == "asked https://me:hf_***@huggingface.co.example/org/name"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written and not [path for path in written if token.encode() in path.read_bytes()]
    assert not [path for path in tmp_path.rglob("*") if "canary" in path.name.lower()]
