"""`studio push` against a hub of our own: what arrives, what the card says, what resumes, and that no token is left."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml  # type: ignore[import-untyped]
from hubserver import HubServer

import studio
from studio import events, paths, runs, worker
from studio.cli.__main__ import run as command
from studio.errors import InputError, RunError, Stopped
from studio.export import push
from studio.runs import Run, RunConfig

ROOT = Path(__file__).parents[2]
TOKEN = "hf_" + "CanaryThatMustNotSing" * 2
FAST = {"quantize_base": "none", "gradient_checkpointing": False, "max_steps": 2, "max_length": 128}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of our own, which children find by the environment, and a token that may write for `me`."""
    with HubServer() as running:
        for name, value in {
            "HF_ENDPOINT": running.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN,
        }.items():
            monkeypatch.setenv(name, value)
        running.writers[TOKEN] = "me"
        yield running


@pytest.fixture(scope="module")
def taught(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two steps of SFT on a tiny model, in a directory of its own."""
    from making import write_jsonl

    folder = tmp_path_factory.mktemp("taught")
    rows: list[dict[str, object]] = [{"prompt": f"What is {i} + {i}?", "completion": f"{2 * i}."} for i in range(40)]
    data = write_jsonl(folder / "sums.jsonl", rows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUDIO_HOME", str(folder / "home"))
        studio.train_model("sft", data=data, model=str(tiny), out=folder / "sft", title="my sums", settings=FAST)
    return Run(folder / "sft")


@pytest.fixture
def large(home: Path) -> Run:
    """A finished run with two files of 3 MB, as far as a push looks at it."""
    run = runs.create(RunConfig("train", "large", "starter", "sft"))
    run.adapter.mkdir()
    for name in ("adapter_model.safetensors", "more.safetensors"):
        (run.adapter / name).write_bytes(random.Random(name).randbytes(3 << 20))
    starter = str(ROOT / "models" / "starter")
    (run.adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": starter, "r": 4}))
    (run.adapter / "studio.json").write_text(json.dumps({"base": starter, "root": starter, "method": "sft"}))
    (run.dir / "result.json").write_text("{}")
    return run


def pushed(source: Run, repo: str = "me/sums", what: str = "adapter", **more: Any) -> Run:
    options = {"source": str(source.dir), "repo": repo, "what": what, **more}
    return runs.create(RunConfig("push", "push", "starter", parent=str(source.dir), options=options))


def texts(hub: HubServer, repo: str) -> dict[str, str]:
    found = {name: file.data for name, file in hub.repos[repo].files.items()}
    return {
        n: d.decode() for n, d in found.items() if isinstance(d, bytes) and not n.endswith((".safetensors", ".gguf"))
    }


def settled(hub: HubServer) -> int:
    """Wait until the hub has read what was still in the sockets, and give what it received."""
    before = -1
    while before != hub.received:
        before = hub.received
        time.sleep(2.2)
    return before


def sending(process: psutil.Process) -> bool:
    """Tell the child that sends from the one that keeps the machine awake."""
    try:
        return "studio.child" in process.cmdline()
    except psutil.Error:
        return False


def front(card: str) -> dict[str, Any]:
    found = yaml.safe_load(card.split("---\n")[1])
    assert isinstance(found, dict)
    return found


def test_an_adapter_arrives_whole_with_its_card_and_without_a_path_of_this_machine(
    server: HubServer, taught: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["push", str(taught.dir), "--repo", "me/sums", "--private", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["repo"] == "me/sums" and document["url"] == f"{server.url}/me/sums"
    repo = server.repos["me/sums"]
    assert repo.private and document["commit"] == repo.commit
    sent = (taught.adapter / "adapter_model.safetensors").read_bytes()
    assert repo.files["adapter_model.safetensors"].data == sent and server.received >= len(sent)
    assert {file["path"] for file in document["files"]} == set(repo.files) - {".gitattributes"}
    for name, text in texts(server, "me/sums").items():
        for place in (str(taught.dir), str(Path.home()), str(ROOT), "/tmp/"):
            assert place not in text, name
    card = texts(server, "me/sums")["README.md"]
    about = front(card)
    assert about["library_name"] == "peft" and about["pipeline_tag"] == "text-generation"
    assert "base_model" not in about, "a folder of this machine is no model of the hub"
    assert "sft" in about["tags"] and "datasets" not in about


def test_the_card_says_what_it_was_made_of_and_what_was_measured(server: HubServer, taught: Run) -> None:
    worker.work(pushed(taught), lambda item: None)
    card = texts(server, "me/sums")["README.md"]
    result = taught.result() or {}
    held, rows = result["heldout"], result["rows"]
    data = Path(taught.config.data)
    digest = subprocess.run(["sha256sum", str(data)], capture_output=True, text=True, check=True).stdout.split()[0]
    for said in (
        f"sums.jsonl, {rows['trained']} rows trained, {rows['held_out']} held out, sha256 `{digest}`",
        f"loss {held['before']:.3f} → {held['after']:.3f} ({held['n']} rows, lower is better)",
        "max_steps 2",
        "learning_rate 0.0002",
        "## Limits",
        "no benchmark",
        f"{100 * result['behaviour']['changed']:.0f} % of {result['behaviour']['n']} answers",
        'PeftModel.from_pretrained(model, "me/sums")',
    ):
        assert said in card, said
    assert not any(example["prompt"] in card for example in result["behaviour"]["examples"]), "rows stay at home"
    os.utime(data)
    worker.work(pushed(taught), lambda item: None)
    card = texts(server, "me/sums")["README.md"]
    assert "its file was changed since" in card and digest not in card
    made = (taught.dir / "config.json").stat().st_mtime - 10
    os.utime(data, (made, made))


def test_merged_weights_are_pushed_as_a_model_that_loads(server: HubServer, taught: Run, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    run = pushed(taught, what="merged")
    result = worker.work(run, lambda item: None)
    for name, file in server.repos["me/sums"].files.items():
        assert isinstance(file.data, bytes)
        (tmp_path / name).write_bytes(file.data)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, trust_remote_code=False)
    assert model.config.num_hidden_layers == 2 and (tmp_path / "tokenizer.json").is_file()
    assert front((tmp_path / "README.md").read_text())["library_name"] == "transformers"
    assert result["bytes"] == sum(file["bytes"] for file in result["files"])
    assert not (run.dir / "staging").exists(), "the copy goes once it is on the hub"


def test_gguf_files_come_from_the_export_with_their_certificate(server: HubServer, taught: Run, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    with pytest.raises(RunError, match="no GGUF files") as caught:
        push.check_source(taught, "gguf")
    assert "studio export" in caught.value.remedy
    made = studio.export_model(str(taught.dir), quants=["F16", "Q8_0"], out=tmp_path / "files")
    worker.work(pushed(taught, what="gguf"), lambda item: None)
    files = server.repos["me/sums"].files
    for file in made["files"]:
        assert files[Path(file["path"]).name].sha256 == file["sha256"]
        assert f"{Path(file['path']).name}.certificate.json" in files
    assert "Modelfile" in files
    card = texts(server, "me/sums")["README.md"]
    assert "gguf" in front(card)["tags"] and "## Certificate" in card
    for line in made["certificate"]["lines"]:
        assert f"| {line['file']} | {line['name']} | " in card
    red = any(line["ok"] is False for line in made["certificate"]["lines"])
    assert ("does not hold" in card) == red
    for name, text in texts(server, "me/sums").items():
        assert str(tmp_path) not in text and "/tmp/" not in text, name


def test_an_interrupted_push_shows_nothing_and_the_next_sends_only_the_rest(server: HubServer, large: Run) -> None:
    told: list[events.Event] = []
    first, second = 3 << 20, paths.sha256(large.adapter / "more.safetensors")
    server.fail(f"/store/{second}", stall=2.0, cut_after=1 << 20)

    def stop() -> bool:
        return bool(server.asked(f"/store/{second}"))

    with pytest.raises(Stopped, match="repository is as it was") as caught:
        worker.work(pushed(large), told.append, stop)
    assert "only the rest is sent" in caught.value.remedy
    assert set(server.repos["me/sums"].files) == {".gitattributes"}
    bars = [item for item in told if item["type"] == "progress"]
    assert first <= bars[-1]["done"] < bars[-1]["total"] and bars[-1]["unit"] == "bytes"
    assert first <= (before := settled(server)) <= first + (1 << 20)
    worker.work(pushed(large), lambda item: None)
    assert first <= server.received - before < first + 1000, "the first file was there already"
    assert server.repos["me/sums"].files["more.safetensors"].data == (large.adapter / "more.safetensors").read_bytes()
    before = server.received
    commit = server.repos["me/sums"].commit
    assert worker.work(pushed(large), lambda item: None)["commit"] == commit
    assert server.received == before, "pushed again, nothing is sent"


def test_a_worker_that_is_killed_leaves_no_child_that_goes_on(server: HubServer, large: Run) -> None:
    server.pace = 3e5
    run = pushed(large)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-m", "studio", "worker", str(run.dir)], env=env, cwd=ROOT)
    end = time.monotonic() + 60
    while server.received < 1 << 17:
        assert time.monotonic() < end
        time.sleep(0.05)
    (child,) = [p for p in psutil.Process(process.pid).children() if sending(p)]
    process.kill()
    process.wait()
    child.wait(10)
    server.pace = 0.0
    settled(server)
    assert set(server.repos["me/sums"].files) == {".gitattributes"}


@pytest.mark.parametrize("chunk", [0, 1 << 20], ids=["whole", "in parts"])
def test_a_transfer_that_breaks_is_tried_again_by_itself(
    server: HubServer, large: Run, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.chunk = chunk
    server.fail("/store/", cut_after=200_000, times=1)
    server.fail("/store/", 503, times=1)
    worker.work(pushed(large), lambda item: None)
    for name in ("adapter_model.safetensors", "more.safetensors"):
        assert server.repos["me/sums"].files[name].data == (large.adapter / name).read_bytes()
    assert len(server.asked("/complete/")) == (2 if chunk else 0)


@pytest.mark.parametrize(
    ("token", "repo", "message", "remedy"),
    [
        ("", "me/sums", "no token of yours", "hf auth login"),
        ("hf_" + "Expired" * 5, "me/sums", "does not know your token", "hf auth login"),
        (TOKEN, "others/sums", "may not write to others/sums", "right to write"),
    ],
    ids=["no token", "expired", "no right"],
)
def test_what_the_hub_refuses_is_said_with_what_to_do(
    server: HubServer, large: Run, monkeypatch: pytest.MonkeyPatch, token: str, repo: str, message: str, remedy: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(InputError, match=message) as caught:
        worker.work(pushed(large, repo), lambda item: None)
    assert remedy in caught.value.remedy and caught.value.exit_code == 2
    assert server.received == 0 and repo not in server.repos


def test_a_hub_in_trouble_or_out_of_reach_is_said(
    server: HubServer, large: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.fail("/api/repos/create", 500, times=99)
    with pytest.raises(InputError, match="in trouble"):
        worker.work(pushed(large), lambda item: None)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"The connection to the hub at http://127\.0\.0\.1:9 broke"):
        worker.work(pushed(large), lambda item: None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match="switched off"):
        worker.work(pushed(large), lambda item: None)


def test_private_is_never_answered_with_a_public_repository(server: HubServer, large: Run) -> None:
    server.add("me/public", {"a": b"a"})
    with pytest.raises(InputError, match="is there already and is public"):
        worker.work(pushed(large, "me/public", private=True), lambda item: None)
    assert set(server.repos["me/public"].files) == {"a"} and server.received == 0


@pytest.mark.parametrize(
    "repo", ["", "a/b/c", "../x", "me/..", "me/a--b", "me/x.git", "me/ x", "-x", "x" * 97, "me/x\n"]
)
def test_a_name_that_the_hub_cannot_take_is_refused_before_anything_is_made(
    large: Run, repo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["push", large.id, f"--repo={repo}", "--json"]) == 2 or repo == "me/x\n"
    assert "Traceback" not in capsys.readouterr().err
    if repo != "me/x\n":  # white space around a name is taken off
        with pytest.raises(InputError, match="cannot be the name"):
            push.check_repo(repo)
        assert len(runs.all_runs()) == 1


@pytest.mark.parametrize("repo", ["sums", "me/sums", "Me_1/My.Model-7b", " me/sums "])
def test_names_that_the_hub_takes(repo: str) -> None:
    assert push.check_repo(repo) == repo.strip()


def test_what_cannot_be_pushed_is_refused_with_the_way_out(home: Path, large: Run) -> None:
    about = large.adapter / "studio.json"
    told = json.loads(about.read_text())
    about.write_text(json.dumps({**told, "base": "/runs/other/model"}))
    with pytest.raises(RunError, match="weights that were trained here") as caught:
        push.check_source(large, "adapter")
    assert "--what merged" in caught.value.remedy
    about.write_text(json.dumps({**told, "scores": {}}))
    with pytest.raises(RunError, match="reward model"):
        push.check_source(large, "merged")
    (large.dir / "result.json").unlink()
    with pytest.raises(RunError, match="has not finished"):
        push.check_source(large, "adapter")
    with pytest.raises(InputError, match="cannot be pushed"):
        push.check_source(large, "everything")


def test_the_token_stands_in_nothing_that_is_written_printed_or_sent_as_data(
    server: HubServer, large: Run, home: Path, tmp_path: Path
) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "STUDIO_HOME": str(home)}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "studio", *words]
        return subprocess.run(line, env=env, cwd=ROOT, capture_output=True, text=True, check=False)

    done = call("push", large.id, "--repo", "me/sums", "--json")
    assert done.returncode == 0, done.stderr
    failed = call("push", large.id, "--repo", "others/sums")
    assert failed.returncode == 2
    server.fail("/commit/", 500, headers={"X-Error-Message": f"bad token {TOKEN}"}, times=9)
    (large.adapter / "adapter_config.json").write_text("{}")
    broken = call("push", large.id, "--repo", "me/sums")
    assert broken.returncode == 2
    for said in (done, failed, broken):
        assert TOKEN not in said.stdout + said.stderr
    for path in [*home.rglob("*"), *(tmp_path / "hf").rglob("*")]:
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
    assert all(TOKEN not in seen.path for seen in server.seen)
    assert not any("authorization" in seen.headers for seen in server.asked("^/store/")), "the storage needs no token"


def test_a_push_does_not_keep_its_source_from_being_deleted(server: HubServer, large: Run) -> None:
    worker.work(pushed(large), lambda item: None)
    assert runs.children(large) == []
    runs.delete(large)


def test_a_card_cannot_be_broken_by_what_people_typed(home: Path, large: Run) -> None:
    from studio.export import card as cards

    evil = "a | b\n---\nlicense: mit\n<script>alert(1)</script> [x](javascript:1) `"
    text = cards.write(cards.Card(evil, "adapter", [large], base='org/x"\nlicense: mit', licence='evil"\nx: y'))
    about = front(text)
    assert about["base_model"] == 'org/x"\nlicense: mit' and about["license"] == "other"
    assert text.count("\n---\n") == 1 and "<script" not in text and "[x](" not in text
