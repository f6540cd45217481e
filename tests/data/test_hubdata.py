"""Data sets from a hub that a local server plays: the right files chosen, fetched once, every refusal with a remedy."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hubserver import HubServer
from huggingface_hub import constants

from studio.data import dataset, hubdata
from studio.data.hubdata import Asked, choose, reference
from studio.errors import DataError, Stopped


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with HubServer() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        template = running.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "tokens"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.chdir(tmp_path)
        yield running


def parquet(first: int, count: int) -> bytes:
    out = io.BytesIO()
    rows = range(first, first + count)
    pq.write_table(pa.table({"question": [f"Q{i}" for i in rows], "answer": [f"A{i}" for i in rows]}), out)
    return out.getvalue()


@pytest.fixture
def shards(server: HubServer) -> HubServer:
    train = {f"data/train-0000{i}-of-00003.parquet": parquet(i * 100, 100) for i in range(3)}
    other = {"data/test-00000-of-00001.parquet": parquet(900, 5), "README.md": b"# data\n", ".gitattributes": b"x"}
    server.add("org/data", {**train, **other})
    return server


def test_the_shards_of_the_training_split_are_read_as_one_and_fetched_once(shards: HubServer) -> None:
    events: list[dict[str, Any]] = []
    data = dataset.load("org/data", emit=events.append)
    assert (data.rows, data.kind) == (300, "sft")
    records = list(data.records())
    assert [record.messages[0].content for record in records] == [f"Q{i}" for i in range(300)]  # type: ignore[union-attr]
    assert [record.line for record in records] == list(range(1, 301))
    assert data.record(257) == records[257]
    assert {e["phase"] for e in events if e["type"] == "progress"} == {"Downloading org/data", "Reading"}
    before = shards.sent
    assert dataset.load("org/data").sha256 == data.sha256 and shards.sent == before
    assert not shards.asked("resolve.*test-0"), "what is not meant is not fetched"


def test_without_a_hub_what_is_here_is_read(shards: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset.load("org/data")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert dataset.load("org/data").rows == 300
    with pytest.raises(DataError) as caught:
        dataset.load("org/data:test")
    assert "HF_HUB_OFFLINE" in caught.value.remedy


def test_a_split_a_file_and_a_revision_can_be_named(shards: HubServer) -> None:
    shards.add("org/data", {"train.jsonl": json.dumps({"text": "new"}).encode()}, revision="v2")
    assert dataset.load("org/data@v2").rows == dataset.load("org/data@v2/train.jsonl").rows == 1


def test_a_download_stops_when_asked(shards: HubServer) -> None:
    with pytest.raises(Stopped):
        hubdata.paths_of("org/data", should_stop=lambda: True)
    assert dataset.load("org/data/data/train-00001-of-00003.parquet").rows == 100
    assert dataset.load("org/data:test").rows == 5


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("org/name", Asked("org/name")),
        ("org/name:test", Asked("org/name", split="test")),
        ("org/name@v1.0:train_sft", Asked("org/name", "v1.0", split="train_sft")),
        ("org/name/main:test", Asked("org/name", part="main", split="test")),
        ("org/name/data/x.jsonl", Asked("org/name", part="data/x.jsonl")),
        ("https://huggingface.co/datasets/org/name", Asked("org/name")),
        ("https://huggingface.co/datasets/org/name/blob/main/a/b.csv", Asked("org/name", "main", "a/b.csv")),
        ("data.jsonl", None),
        ("data/train.jsonl", None),
        ("./org/name", None),
        ("/org/name", None),
        ("../org/name", None),
        ("org/../name", None),
        ("here/name", None),
        ("C:\\org\\name", None),
        ("~/name", None),
        ("org/name/../../x", None),
    ],
)
def test_names_of_data_sets_are_told_from_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, asked: Asked | None
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert reference(name) == asked


@pytest.mark.parametrize(
    "name", ["https://evil.example/datasets/org/x", "https://huggingface.co/org/model", "https://["]
)
def test_other_addresses_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="not the address") as caught:
        reference(name)
    assert caught.value.remedy


CARD = [
    {
        "config_name": "main",
        "data_files": [{"split": "train", "path": "main/train-*"}, {"split": "test", "path": "main/t*t-*"}],
    },
    {"config_name": "other", "data_files": [{"split": "train", "path": ["other/a.csv", "other/b.csv"]}]},
]
FILES = ["main/train-00-of-01.parquet", "main/test-00-of-01.parquet", "other/a.csv", "other/b.csv"]


@pytest.mark.parametrize(
    ("files", "asked", "card", "chosen"),
    [
        (["train.csv", "test.csv", "train.jsonl", "train.parquet"], "o/n", None, ["train.parquet"]),
        (["train.json", "val.json", "dataset_infos.json"], "o/n:validation", None, ["val.json"]),
        (["rows.jsonl", "package.json", ".hidden.json"], "o/n", None, ["rows.jsonl"]),
        (["a_10.jsonl", "a_9.jsonl"], "o/n", None, ["a_9.jsonl", "a_10.jsonl"]),
        (["data/train_sft-0.parquet", "data/train_gen-0.parquet"], "o/n:sft", None, ["data/train_sft-0.parquet"]),
        (FILES, "o/n/main", None, FILES[:1]),
        (FILES, "o/n/main", CARD, FILES[:1]),
        (FILES, "o/n/main:test", CARD, FILES[1:2]),
        (FILES, "o/n", [{**CARD[0], "default": True}, CARD[1]], FILES[:1]),
        (FILES, "o/n", CARD[:1], FILES[:1]),
    ],
)
def test_the_files_of_a_split_are_chosen(files: list[str], asked: str, card: Any, chosen: list[str]) -> None:
    meant = reference(asked)
    assert meant is not None and choose(meant, files, card) == chosen


@pytest.mark.parametrize(
    ("files", "asked", "card", "says", "offers"),
    [
        (FILES, "o/n", CARD, "several subsets", "o/n/main, o/n/other"),
        (FILES, "o/n:dev", CARD[:1], "no split 'dev'", "o/n:train, o/n:test"),
        (["test.csv", "dev.csv"], "o/n", None, "several splits", "o/n:validation, o/n:test"),
        (["train_a.jsonl", "train_b.jsonl"], "o/n", None, "several files", "o/n/train_a.jsonl, o/n/train_b.jsonl"),
        (["model.bin", "README.md"], "o/n", None, "no file", ".parquet"),
        (["train.csv"], "o/n/nothing", None, "nothing at 'nothing'", "train.csv"),
    ],
)
def test_what_is_not_clear_is_asked(files: list[str], asked: str, card: Any, says: str, offers: str) -> None:
    meant = reference(asked)
    assert meant is not None
    with pytest.raises(DataError, match=says) as caught:
        choose(meant, files, card)
    assert offers in caught.value.remedy


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"status": 429}, "too many requests"),
        ({"status": 403}, "403"),
        ({"status": 503}, "503"),
        ({"status": 404, "headers": {"X-Error-Code": "RepoNotFound"}}, "no data set org/data"),
        ({"status": 401, "headers": {"X-Error-Code": "GatedRepo"}}, "accept its terms"),
        ({"status": 401, "headers": {"X-Error-Message": "Invalid credentials in Authorization header"}}, "token"),
        ({"status": 404, "headers": {"X-Error-Code": "RevisionNotFound"}}, "no revision"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_refusal_of_the_hub_has_a_remedy(shards: HubServer, fault: dict[str, Any], says: str) -> None:
    shards.fail("/api/", times=99, **fault)
    with pytest.raises(DataError, match=says) as caught:
        dataset.load("org/data")
    assert caught.value.remedy and caught.value.file == "org/data"


def test_no_network_at_all_is_told(server: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="cannot be reached") as caught:
        dataset.load("org/data")
    assert "network" in caught.value.remedy
