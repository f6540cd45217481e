"""What the catalogue asks for is valid, comes before the method's defaults, and after what the user sets."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from studio import config, paths, runs
from studio.methods import METHODS
from studio.models import catalogue
from studio.train import offline

ROWS = [
    (model, method)
    for model, methods in tomllib.loads((paths.models() / "catalogue.toml").read_text("utf-8")).items()
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
    made = offline._config(METHODS["sft"], asked, None, context=512)
    assert (made.learning_rate, made.micro_batch_size, made.batch_size) == (1e-3, 16, 16)
    assert (METHODS["sft"].Config().learning_rate, METHODS["sft"].Config().micro_batch_size) == (2e-4, None)
    assert made.max_length == 512, "the starter reads 512 tokens"
