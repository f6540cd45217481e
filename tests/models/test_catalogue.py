"""The catalogue's facts agree with themselves, can be searched, and what it asks for is a valid setting."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from studio import config, paths, runs
from studio.methods import METHODS
from studio.models import architecture, catalogue, check
from studio.models.catalogue import Entry
from studio.train import prepare

ROWS = [
    (model, method)
    for model, methods in tomllib.loads((paths.models() / "catalogue.toml").read_text("utf-8"))["settings"].items()
    for method in methods
]


@pytest.mark.parametrize(("model", "method"), ROWS)
def test_every_entry_is_a_valid_setting_of_its_method(model: str, method: str) -> None:
    wanted = catalogue.settings(model, method)
    assert wanted and config.build(METHODS[method].Config, wanted)


def test_a_model_without_an_entry_has_none(tmp_path: Path) -> None:
    assert catalogue.settings(str(tmp_path), "sft") == {}


def test_the_user_wins_over_the_base_and_the_base_over_the_method() -> None:
    asked = runs.RunConfig("train", "t", model="starter", method="sft", settings={"learning_rate": 1e-3})
    made = prepare._config(METHODS["sft"], asked, None, context=512)
    assert (made.learning_rate, made.micro_batch_size, made.batch_size) == (1e-3, 16, 16)
    assert (METHODS["sft"].Config().learning_rate, METHODS["sft"].Config().micro_batch_size) == (2e-4, None)
    assert made.max_length == 512, "the starter reads 512 tokens"


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda e: e.id)
def test_the_parameters_follow_from_the_shape(entry: Entry) -> None:
    """An independent count, written out: attention, feed-forward, norms, embeddings."""
    s = entry.shape
    q, k = s.heads * s.head_dim, s.kv_heads * s.head_dim
    attention = s.hidden * q + s.hidden * k + s.hidden * k + q * s.hidden
    layer = attention + 3 * s.hidden * s.ffn + 2 * s.hidden
    embeddings = s.vocab * s.hidden * (1 if s.tied else 2)
    assert s.layers * layer + embeddings + s.hidden == pytest.approx(entry.parameters, rel=0.02)


@pytest.mark.parametrize("entry", catalogue.entries(), ids=lambda e: e.id)
def test_every_entry_is_sane(entry: Entry) -> None:
    assert entry.id == "starter" or entry.id.count("/") == 1
    assert entry.kind in ("base", "instruct") and entry.licence and entry.context >= 512
    assert entry.id == "starter" or 1e8 < entry.parameters < 1.5e10
    assert entry.shape.heads % entry.shape.kv_heads == 0
    assert entry.architecture in architecture.READABLE


def test_the_starters_facts_are_those_of_its_files() -> None:
    info, entry = check.inspect("starter"), catalogue.entries()[0]
    assert entry.id == "starter"
    assert (entry.parameters, entry.context, entry.licence) == (info.parameters, info.context, info.licence)
    assert entry.shape == info.shape and entry.architecture == info.architecture


def test_there_are_enough_and_none_twice() -> None:
    ids = [entry.id for entry in catalogue.entries()]
    assert len(ids) == len(set(ids)) >= 25
    families = {entry.family for entry in catalogue.entries()}
    assert families >= {"Llama 3", "Qwen 2.5", "Qwen 3", "Mistral", "Gemma 2", "Gemma 3", "Phi", "SmolLM3", "OLMo 2"}


@pytest.mark.parametrize(
    ("query", "first", "count"),
    [
        ("", "starter", len(catalogue.entries())),
        ("QWEN 8b", "Qwen/Qwen3-8B-Base", 1),
        ("llama instruct", "meta-llama/Llama-3.2-3B-Instruct", 2),
        ("gemma gated 2.6b", "google/gemma-2-2b", 1),
        ("nothing-like-it", None, 0),
    ],
)
def test_every_word_of_a_query_must_fit(query: str, first: str | None, count: int) -> None:
    found = catalogue.search(query)
    assert len(found) == count and (not found or found[0].id == first)
