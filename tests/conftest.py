"""Shared by all tests: a data folder of their own, tiny random models of real architectures, small data files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from making import make_model, write_jsonl

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny models are as fast on one thread; on several, which wait for each other spinning, they are ten times as slow as
# soon as another process computes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a data folder of its own."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("STUDIO_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base model without a chat template."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without any control token in its vocabulary."""
    return make_model(tmp_path_factory.mktemp("bare") / "model", control=False)


@pytest.fixture
def sft_file(tmp_path: Path) -> Path:
    """Forty conversations of one exchange."""
    rows: list[dict[str, object]] = [
        {
            "messages": [
                {"role": "user", "content": f"What is {i} + {i}?"},
                {"role": "assistant", "content": f"The sum is {2 * i}."},
            ]
        }
        for i in range(40)
    ]
    return write_jsonl(tmp_path / "sft.jsonl", rows)


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """Forty preference pairs."""
    rows: list[dict[str, object]] = [
        {"prompt": f"What is {i} + {i}?", "chosen": f"The sum is {2 * i}.", "rejected": str(2 * i)} for i in range(40)
    ]
    return write_jsonl(tmp_path / "pairs.jsonl", rows)
