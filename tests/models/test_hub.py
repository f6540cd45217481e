"""Models from a hub that a local server plays: found, fetched, resumed, verified, and every refusal with its remedy."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hubserver import HubServer, folder
from huggingface_hub import HfApi, constants, errors, hf_hub_download, snapshot_download

from studio import events
from studio.errors import ModelError, Stopped
from studio.models import check, download, hub

ROOT = Path(__file__).parents[2]
BIG = random.Random(1).randbytes(3 << 20)
SMALL = {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "tokenizer.json": b"{}"}
CANARY = "hf_" + "CanaryThatMustNotSing" * 2


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of our own, an empty cache, no token, and no patience to wait for."""
    with HubServer() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
        yield running


@pytest.fixture
def model(server: HubServer) -> HubServer:
    server.add("org/model", {**SMALL, "model.safetensors": BIG, "README.md": b"---\nlicense: mit\n---\n"})
    return server


def blobs(tmp_path: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (tmp_path / "cache").rglob("blobs/*")}


# --- what is fetched ---


def test_a_model_is_fetched_once_pinned_and_then_needs_no_network(server: HubServer, tiny: Path) -> None:
    commit = server.add("org/tiny", folder(tiny))
    got: list[events.Event] = []
    found = hub.resolve("org/tiny", got.append)
    for file in tiny.iterdir():
        assert (found / file.name).read_bytes() == file.read_bytes(), file.name
    assert (found.name, hub.revision(found), hub.repository(found)) == (commit, commit, "org/tiny")
    info = check.inspect("org/tiny")
    assert (info.revision, info.name, info.layers) == (commit, "org/tiny", 2)
    bars = [item for item in got if item["type"] == "progress"]
    total = sum(file.stat().st_size for file in tiny.iterdir())
    assert (bars[-1]["done"], bars[-1]["total"], bars[-1]["unit"]) == (total, total, "bytes")
    before = len(server.seen)
    assert hub.resolve("org/tiny") == hub.resolve(f"org/tiny@{commit}") == found
    assert len(server.seen) == before, "a model that is here asks nobody"


def test_only_what_a_model_needs_is_fetched(server: HubServer) -> None:
    shards = {f"model-0000{i}-of-00002.safetensors": bytes([i]) * 1000 for i in (1, 2)}
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    unwanted = {
        "consolidated.safetensors": b"the same once more",
        "original/consolidated.00.pth": b"x",
        "onnx/model.safetensors": b"x",
        "pytorch_model.bin": b"x",
        "model.pt": b"x",
        "modeling.py": b"import os",
        "training_args.bin": b"x",
        "model.gguf": b"x",
        "eval.json": b"{}",
    }
    wanted = {**SMALL, **shards, "model.safetensors.index.json": json.dumps(index).encode(), "LICENSE.txt": b"mit"}
    server.add("org/shards", {**wanted, **unwanted})
    assert {path.name for path in hub.resolve("org/shards").iterdir()} == set(wanted)


def test_a_branch_a_tag_and_an_address_lead_to_their_own_commit(model: HubServer) -> None:
    first = model.repos["org/model"].commit
    second = model.add("org/model", {**SMALL, "model.safetensors": BIG[:1000]}, revision="v2/small")
    assert hub.resolve("org/model@v2/small").name == second != first
    for address in (f"https://huggingface.co/org/model/tree/{second}", f"{model.url}/org/model/blob/{second}/x.json"):
        assert hub.resolve(address).name == second


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("org/name", "org/name", "main"),
        (" https://huggingface.co/org/name ", "org/name", "main"),
        ("https://huggingface.co/org/name/tree/main", "org/name", "main"),
        ("https://hf.co/org/name?library=x#files", "org/name", "main"),
        ("https://huggingface.co/org/name/tree/refs%2Fpr%2F1", "org/name", "refs/pr/1"),
        ("org/name@v1.0", "org/name", "v1.0"),
    ],
)
def test_ids_and_addresses_are_read(text: str, repo: str, revision: str) -> None:
    assert hub.reference(text) == hub.Reference(repo, revision)


@pytest.mark.parametrize(
    "text",
    ["", "../x/y", "/etc/passwd", "C:\\models\\x", "CON", "name.", "x" * 300, "org/na\nme", "--help", "a b/c", "x/y/z",
     "org/..", "org/a--b", "org/name@../x", "org/name@", "https://evil.example/org/name", "file:///etc/passwd",
     "https://huggingface.co/datasets/org/x", "https://[", "org/na\x00me", "~nobody-at-all/x"],
)  # fmt: skip
def test_what_is_no_model_says_what_one_is(text: str) -> None:
    with pytest.raises(ModelError) as caught:
        hub.resolve(text)
    assert caught.value.remedy


def test_two_who_want_the_same_model_fetch_it_once(model: HubServer) -> None:
    model.pace = 3 << 20
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(hub.resolve("org/model"))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] == found[1] and (found[0] / "model.safetensors").read_bytes() == BIG
    assert len(model.asked("/cdn/org/model/model.safetensors")) == 1


def test_the_cache_is_huggingface_hubs_own(server: HubServer, tiny: Path) -> None:
    server.add("org/tiny", folder(tiny))
    ours = hub.resolve("org/tiny")
    asked = len(server.seen)
    theirs = snapshot_download("org/tiny", cache_dir=constants.HF_HUB_CACHE, local_files_only=True)
    assert Path(theirs).resolve() == ours and len(server.seen) == asked
    assert hf_hub_download("org/tiny", "config.json", cache_dir=constants.HF_HUB_CACHE, local_files_only=True)


def test_what_huggingface_hub_left_is_used(server: HubServer, tiny: Path) -> None:
    server.add("org/tiny", folder(tiny))
    theirs = snapshot_download(
        "org/tiny", cache_dir=constants.HF_HUB_CACHE, endpoint=server.url, ignore_patterns=["*.json"]
    )
    server.sent = 0
    ours = hub.resolve("org/tiny")
    assert ours == Path(theirs).resolve() and (ours / "config.json").is_file()
    assert server.sent < 100_000 and not server.asked("^/cdn")[1:], "the weights came once"


@pytest.mark.parametrize(
    ("repo", "filename", "revision", "kind"),
    [
        ("org/gated", "model.safetensors", "main", errors.GatedRepoError),
        ("org/none", "model.safetensors", "main", errors.RepositoryNotFoundError),
        ("org/tiny", "model.safetensors", "v9", errors.RevisionNotFoundError),
        ("org/tiny", "x.json", "main", errors.RemoteEntryNotFoundError),
    ],
)
def test_the_local_server_is_a_hub_to_huggingface_hub_too(
    server: HubServer, tiny: Path, repo: str, filename: str, revision: str, kind: type[Exception]
) -> None:
    server.add("org/tiny", folder(tiny))
    server.add("org/gated", folder(tiny), gated=True)
    api = HfApi(endpoint=server.url)
    info = api.model_info("org/tiny", files_metadata=True)
    sizes = {path.name: path.stat().st_size for path in tiny.iterdir()}
    assert {s.rfilename: s.size for s in info.siblings or []} == sizes
    assert {entry.path: entry.size for entry in api.list_repo_tree("org/tiny")} == sizes  # type: ignore[union-attr]
    with pytest.raises(kind):
        hf_hub_download(repo, filename, revision=revision, endpoint=server.url, cache_dir=constants.HF_HUB_CACHE)


def test_where_there_are_no_symbolic_links_the_files_stand_there_themselves(
    model: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("not here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    found = hub.resolve("org/model")
    assert (found / "model.safetensors").read_bytes() == BIG and not (found / "model.safetensors").is_symlink()
    assert hub.resolve("org/model") == found


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_is_told(model: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    assert "HF_HOME" in says("org/model").remedy


def test_a_cache_that_is_a_file_is_told(model: HubServer, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("x")
    error = says("org/model")
    assert "cannot be written" in error.message and "HF_HOME" in error.remedy


# --- the eight failure answers, and more: each has its own remedy ---


def says(model: str) -> ModelError:
    with pytest.raises(ModelError) as caught:
        hub.resolve(model)
    assert caught.value.remedy and "Traceback" not in str(caught.value)
    return caught.value


def test_401_a_gated_model_without_a_token(server: HubServer) -> None:
    server.add("org/gated", {**SMALL, "model.safetensors": BIG}, gated=True)
    error = says("org/gated")
    assert "accept its licence" in error.message
    assert "hf auth login" in error.remedy and f"{server.url}/org/gated" in error.remedy


def test_403_a_gated_model_with_a_token_that_has_no_access(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    server.add("org/gated", {**SMALL, "model.safetensors": BIG}, gated=True)
    error = says("org/gated")
    assert "no access" in error.message and "same account" in error.remedy


def test_401_a_token_that_the_hub_does_not_know(model: HubServer) -> None:
    model.fail("/api/models", 401, headers={"X-Error-Message": "Invalid credentials in Authorization header"})
    assert "expired" in says("org/model").message


def test_404_a_wrong_id(server: HubServer) -> None:
    error = says("org/nothing")
    assert "no model org/nothing" in error.message and "spelling" in error.remedy


def test_404_a_wrong_revision(model: HubServer) -> None:
    error = says("org/model@v9")
    assert "no revision 'v9'" in error.message and "/tree/main" in error.remedy


def test_404_a_file_that_is_listed_but_gone(model: HubServer) -> None:
    model.fail("resolve/.*/tokenizer.json", 404, headers={"X-Error-Code": "EntryNotFound"})
    assert "tokenizer.json" in says("org/model").message


def test_416_a_refused_range_starts_that_file_again(model: HubServer, tmp_path: Path) -> None:
    model.fail("/cdn/.*safetensors", cut_after=2 << 20)
    model.fail("/cdn/.*safetensors", 416, only_ranges=True)
    got: list[events.Event] = []
    found = hub.resolve("org/model", got.append)
    assert (found / "model.safetensors").read_bytes() == BIG
    assert any("416" in item.get("text", "") for item in got)
    assert max(item["done"] for item in got if item["type"] == "progress") <= len(BIG) + 2000


def test_416_also_from_the_start_is_told(model: HubServer) -> None:
    model.fail("/cdn/.*safetensors", 416, times=9)
    assert "416" in says("org/model").message


def test_a_server_that_ignores_ranges_sends_the_whole_file_and_it_is_right(model: HubServer) -> None:
    model.fail("/cdn/.*safetensors", cut_after=1 << 20)
    model.fail("/cdn/.*safetensors", no_ranges=True, only_ranges=True)
    assert (hub.resolve("org/model") / "model.safetensors").read_bytes() == BIG


def test_429_is_waited_for_as_long_as_it_asks(model: HubServer) -> None:
    model.fail("/api/models", 429, headers={"Retry-After": "1"})
    got: list[events.Event] = []
    began = time.monotonic()
    hub.resolve("org/model", got.append)
    assert time.monotonic() - began >= 1
    assert any("429" in item.get("text", "") for item in got)


def test_429_for_longer_than_anyone_waits_is_told_with_the_time(model: HubServer) -> None:
    model.fail("/api/models", 429, headers={"Retry-After": "600"}, times=9)
    error = says("org/model")
    assert "429" in error.message and "10 minutes" in error.remedy
    assert len(model.asked("/api/models")) == 1


def test_500_passes_and_is_told_when_it_does_not(model: HubServer) -> None:
    model.fail("/cdn/.*safetensors", 500, times=2)
    assert (hub.resolve("org/model") / "model.safetensors").read_bytes() == BIG
    model.add("org/other", {**SMALL, "model.safetensors": BIG + b"x"})
    model.fail("/cdn/org/other", 503, times=99)
    error = says("org/other")
    assert "503" in error.message and "status.huggingface.co" in error.remedy
    assert len(model.asked("/cdn/org/other/model")) == download.TRIES


def test_a_cut_connection_goes_on_where_it_was(model: HubServer) -> None:
    model.fail("/cdn/.*safetensors", cut_after=1_300_000, times=2)
    got: list[events.Event] = []
    found = hub.resolve("org/model", got.append)
    assert (found / "model.safetensors").read_bytes() == BIG
    ranges = [seen.headers.get("range") for seen in model.asked("/cdn/.*safetensors")]
    assert ranges == [None, "bytes=1300000-", "bytes=2600000-"], "each goes on at the byte where the last one ended"
    assert model.sent - len(BIG) < 2000


def test_a_connection_that_keeps_breaking_is_told_and_what_came_is_kept(model: HubServer, tmp_path: Path) -> None:
    model.fail("/cdn/.*safetensors", cut_after=100_000, times=99)
    error = says("org/model")
    assert "kept breaking" in error.message and "is kept" in error.remedy
    assert len(model.asked("/cdn/")) == download.TRIES
    assert max(blobs(tmp_path).values()) == 100_000 * download.TRIES
    model.faults.clear()
    model.sent = 0
    assert (hub.resolve("org/model") / "model.safetensors").read_bytes() == BIG
    assert model.sent == len(BIG) - 100_000 * download.TRIES


def test_a_wrong_hash_throws_the_file_away_and_says_so(model: HubServer, tmp_path: Path) -> None:
    model.fail("/cdn/.*safetensors", wrong=True, times=9)
    error = says("org/model")
    assert "thrown away" in error.message and error.file == "model.safetensors"
    assert len(model.asked("/cdn/")) == 1
    assert hashlib.sha256(BIG).hexdigest() not in str(blobs(tmp_path))
    assert not list((tmp_path / "cache").rglob("snapshots/*/config.json")), "no half model is left to be found"


def test_a_small_file_is_verified_by_gits_hash(model: HubServer) -> None:
    model.fail("resolve/.*/tokenizer.json", wrong=True)
    error = says("org/model")
    assert "thrown away" in error.message and error.file == "tokenizer.json"


def test_a_damaged_part_of_an_earlier_try_is_fetched_again(model: HubServer, tmp_path: Path) -> None:
    part = tmp_path / "cache/models--org--model/blobs" / f"{hashlib.sha256(BIG).hexdigest()}.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(1 << 20))
    got: list[events.Event] = []
    assert (hub.resolve("org/model", got.append) / "model.safetensors").read_bytes() == BIG
    assert any("damaged" in item.get("text", "") for item in got)
    assert not part.exists()


def test_no_network(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    error = says("org/model")
    assert "cannot be reached" in error.message and "network" in error.remedy


def test_what_answers_is_not_a_hub(server: HubServer) -> None:
    server.fail("/api/models", 200, headers={})
    assert "hub's language" in says("org/model").message


def test_switched_off_says_what_to_run(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    error = says("org/model")
    assert "HF_HUB_OFFLINE" in error.message and "studio models get org/model" in error.remedy
    assert not server.seen


def test_a_disk_without_room_is_told_before_anything_is_fetched(
    model: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1_000_000})
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    error = says("org/model")
    assert "needs 70 MB" in error.message and "1 MB free" in error.message  # 3 MiB and 64 MiB that stay free
    assert "HF_HOME" in error.remedy
    assert not model.asked("resolve")


LIMITED = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
from studio.cli.__main__ import main
main(["models", "get", "org/model", "--json"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_disk_that_fills_up_on_the_way_is_told(model: HubServer, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], env=environment(model, tmp_path), capture_output=True)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["kind"]) == (2, "ModelError")
    assert "too full" in error["message"] and "HF_HOME" in error["remedy"]
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"pytorch_model.bin": b"x"}, "pickle"),
        ({"model-q4.gguf": b"x"}, "GGUF"),
        ({"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"}, "adapter"),
        ({"flax_model.msgpack": b"x"}, "no safetensors"),
        ({"onnx/model.safetensors": b"x"}, "no safetensors"),
        ({"model.safetensors": b"x", "config.json": None}, "no config.json"),
        ({"model.safetensors": b"x", "tokenizer.json": None}, "no tokenizer"),
        ({"model.safetensors": b"x", "config.json": b'{"auto_map": {"AutoModel": "x.Y"}}'}, "auto_map"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "../../x"}}'}, "does not have"),
        ({"model.safetensors.index.json": b'{"weight_map": []}'}, "does not have"),
        ({"model.safetensors.index.json": b'{"weight_map": {"a": "model-1.safetensors"}}'}, "does not have"),
    ],
)
def test_a_repository_that_is_no_model_is_refused_before_its_weights_are_fetched(
    server: HubServer, files: dict[str, bytes | None], reason: str
) -> None:
    server.add("org/odd", {name: data for name, data in {**SMALL, **files}.items() if data is not None})
    assert reason in str(says("org/odd"))
    assert not server.asked("cdn")


def test_names_that_lead_out_of_the_cache_are_never_written(server: HubServer, tmp_path: Path) -> None:
    server.add("org/slip", {**SMALL, "model.safetensors": BIG, "../../../evil.json": b"{}", "LICENSE/../../x": b"x"})
    found = hub.resolve("org/slip")
    assert {path.name for path in found.iterdir()} == {*SMALL, "model.safetensors"}
    assert not list(tmp_path.rglob("evil.json"))


# --- stop, kill, token ---


def test_a_stop_is_obeyed_at_once_even_when_nothing_arrives_and_can_be_resumed(model: HubServer) -> None:
    model.fail("/cdn/.*safetensors", cut_after=2 << 20)
    model.fail("/cdn/.*safetensors", stall=30, only_ranges=True)
    stop = threading.Event()
    ends: list[float] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            hub.resolve("org/model", should_stop=stop.is_set)
        except BaseException as error:
            failed.append(error)
        ends.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    while len(model.asked("/cdn/")) < 2:
        time.sleep(0.01)
    asked = time.monotonic()
    stop.set()
    thread.join(timeout=10)
    assert isinstance(failed[0], Stopped) and ends[0] - asked < 1
    model.sent = 0
    assert (hub.resolve("org/model") / "model.safetensors").read_bytes() == BIG
    assert model.sent == len(BIG) - (2 << 20)


def environment(server: HubServer, tmp_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return {**kept, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "hf"), "PYTHONPATH": str(ROOT)}


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_three_kills_cost_less_than_a_quarter_and_the_file_is_byte_identical(server: HubServer, tmp_path: Path) -> None:
    chance = random.Random(7)
    data = chance.randbytes(20 << 20)
    server.add("org/big", {**SMALL, "model.safetensors": data})
    server.pace = 30 << 20
    command = [sys.executable, "-m", "studio", "models", "get", "org/big", "--json"]
    env = environment(server, tmp_path)
    for at in sorted(chance.sample(range(1 << 20, 19 << 20), 3)):
        child = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while server.sent < at:
            assert child.poll() is None
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, check=True)
    found = Path(json.loads(done.stdout)["folder"])
    assert (found / "model.safetensors").read_bytes() == data
    assert server.sent <= 1.25 * len(data), server.sent / len(data)
    assert not list((tmp_path / "hf").rglob("*.incomplete"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_the_command_with_130_and_keeps_what_came(model: HubServer, tmp_path: Path) -> None:
    model.pace = 1 << 20
    command = [sys.executable, "-m", "studio", "models", "get", "org/model", "--json"]
    child = subprocess.Popen(
        command, env=environment(model, tmp_path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while model.sent < 1 << 19:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=10)
    assert child.returncode == 130 and json.loads(out)["error"]["kind"] == "Stopped"
    assert b"Traceback" not in err
    assert [path.stat().st_size for path in (tmp_path / "hf").rglob("*.incomplete")] >= [1 << 18]


def test_the_token_goes_to_the_hub_alone_and_is_written_nowhere(
    server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, caplog: Any
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    caplog.set_level("DEBUG")
    server.add("org/gated", {**SMALL, "model.safetensors": BIG}, gated=True, allowed=(CANARY,))
    server.add("org/closed", {**SMALL, "model.safetensors": BIG}, gated=True)
    server.fail("/cdn/", 500)
    got: list[events.Event] = []
    found = hub.resolve("org/gated", got.append)
    assert (found / "model.safetensors").read_bytes() == BIG
    error = says("org/closed")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    broken = says("org/none")
    # The hub's own address got it, the host that large files come from did not.
    assert all(CANARY in seen.headers["authorization"] for seen in server.asked("^/(api|org)"))
    assert server.asked("^/cdn") and not any("authorization" in seen.headers for seen in server.asked("^/cdn"))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    words = "".join(map(str, (got, error, broken, capfd.readouterr(), caplog.text)))
    assert CANARY not in words and CANARY.encode() not in written
