"""Which round of a recipe is kept, what cannot be compared, how far weights are apart, and what a step may say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from studio.errors import ConfigError
from studio.lab import keeping, likeness, recipe, toml

HEAD: dict[str, Any] = {"recipe": 1, "base": {"model": "starter"}, "keep": "best"}
FIT = {"suites": ["fit"], "files": {"fit": "rows.jsonl"}}


def trains(name: str, method: str = "sft", data: str = "a.jsonl", parent: str = "", **settings: Any) -> dict[str, Any]:
    made = {"name": name, "kind": "train", "method": method, "data": data, "parent": parent, "settings": settings}
    return made | ({"options": {"reward": "sentence"}} if method in ("ppo", "rloo") else {})


def looks(name: str, of: str, **options: Any) -> dict[str, Any]:
    return {"name": name, "kind": "eval", "parent": f"@{of}", "options": {**FIT, **options}}


def made(*steps: dict[str, Any], figure: str = "heldout") -> recipe.Recipe:
    return recipe.from_dict({**HEAD, "figure": figure, "step": list(steps)})


# --- the best ---------------------------------------------------------------------------------------------------------


def test_less_loss_more_score_and_the_earlier_of_equals() -> None:
    less = made(trains("a"), trains("b"), trains("c"))
    assert keeping.best(less, ["a", "b", "c"], {"a": 2.0, "b": 1.0, "c": 3.0}) == "b"
    assert keeping.best(less, ["a", "b", "c"], {"a": 1.0, "b": 1.0, "c": 1.0}) == "a"
    assert keeping.best(less, ["a", "b"], {"a": 2.0, "b": 1.5}) == "b", "of those that are done"
    more = made(trains("a", "rloo"), trains("b", "rloo"))
    assert keeping.best(more, ["a", "b"], {"a": 0.9, "b": 0.2}) == "a"
    by = made(trains("a"), looks("l", "a"), trains("b", "dpo"), looks("m", "b"), figure="fit.accuracy")
    assert keeping.best(by, ["a", "l", "b", "m"], {"a": 0.9, "b": 0.2}) == "a", "across methods"
    by = made(trains("a"), looks("l", "a"), trains("b"), looks("m", "b"), figure="fit.loss")
    assert keeping.best(by, ["a", "l", "b", "m"], {"a": 0.9, "b": 0.2}) == "b"


def test_what_was_not_measured_is_never_the_best_and_a_reward_model_neither() -> None:
    by = made(trains("a"), looks("l", "a"), trains("r", "reward"), trains("b", "dpo"), figure="fit.loss")
    assert keeping.best(by, ["a", "l", "r", "b"], {"a": 0.9}) == "a"
    assert keeping.best(by, ["a"], {}) == "a", "nothing was measured yet"
    assert keeping.best(by, [], {}) == ""


def test_held_out_figures_of_other_rows_methods_and_parents_are_not_compared() -> None:
    some = made(trains("a"), trains("b", data="b.jsonl"), trains("c"))
    assert keeping.best(some, ["a", "b", "c"], {"a": 2.0, "b": 0.1, "c": 1.0}) == "c"
    assert keeping.best(some, ["a", "b"], {"a": 0.01, "b": 0.1}) == "b", "nothing compares with b"
    rounds = made(trains("s"), trains("a", "dpo", parent="@s"), trains("b", "dpo", parent="@s", learning_rate=1e-3))
    assert keeping.best(rounds, ["s", "a", "b"], {"s": 0.1, "a": 0.5, "b": 0.6}) == "a"


@pytest.mark.parametrize(
    ("steps", "figure", "field", "says"),
    [
        ([trains("a"), trains("b", data="b.jsonl")], "heldout", "step", "compares with that of no other step"),
        ([trains("s"), trains("a", "dpo", parent="@s"), trains("b", "dpo", parent="@a")], "heldout", "step", "parent"),
        ([trains("a", "dpo", beta=0.1), trains("b", "dpo", beta=0.5)], "heldout", "step", "no other step"),
        ([trains("a"), trains("b")], "fit.loss", "figure", "No step measures fit.loss"),
        ([trains("a"), looks("l", "a", suites=["shift"], files={})], "fit.loss", "figure", "No step measures"),
        ([trains("a"), looks("l", "a")], "fit.length", "figure", "Neither more nor less"),
        ([trains("a"), looks("l", "a")], "fit.gain", "figure", "no measure 'gain'"),
        ([trains("a"), looks("l", "a")], "fitness.loss", "figure", "no suite 'fitness'"),
        (
            [trains("a"), looks("l", "a"), trains("b"), looks("m", "b", seed=1)],
            "fit.loss",
            "step",
            "not measured here as in l",
        ),
        (
            [trains("a"), looks("l", "a", files={}), trains("b", data="b.jsonl"), looks("m", "b", files={})],
            "fit.loss",
            "step.options.files",
            "rows that each run held out",
        ),
        ([trains("r", "reward")], "heldout", "keep", "no training run"),
    ],
)
def test_a_best_that_cannot_be_told_is_refused_before_anything_starts(
    steps: list[dict[str, Any]], figure: str, field: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        made(*steps, figure=figure)
    assert caught.value.field == field and caught.value.remedy


def test_a_round_may_be_measured_through_its_file() -> None:
    export = {"name": "file", "kind": "export", "parent": "@a"}
    found = made(trains("a"), export, looks("l", "file"), figure="fit.loss")
    assert keeping.evaluated(found, found.steps[2]) == "a"
    with pytest.raises(ConfigError, match="No step measures"):
        made(trains("a"), {"name": "l", "kind": "eval", "options": {**FIT, "of": "starter"}}, figure="fit.loss")


def test_a_figure_of_an_evaluation_is_read_by_its_suite_and_measure() -> None:
    figures = [{"measure": "loss", "sides": {"before": {"value": 3.0}, "after": {"value": 2.0}}}]
    none = [{"measure": "loss", "sides": {"after": {"value": None}}}, {"measure": "stops", "sides": {}}]
    assert keeping.measured({"suites": {"fit": {"figures": figures}}}, "fit.loss") == 2.0
    assert keeping.measured({"suites": {"fit": {"figures": none}}}, "fit.loss") is None
    assert keeping.measured({"suites": {"fit": {"figures": none}}}, "fit.stops") is None
    assert keeping.measured({}, "fit.loss") is None


# --- how far apart ---


def saved(folder: Path, **tensors: Any) -> Path:
    import torch
    from safetensors.torch import save_file

    folder.mkdir(exist_ok=True)
    save_file({name: torch.as_tensor(value) for name, value in tensors.items()}, folder / "model.safetensors")
    return folder


def test_the_difference_is_the_largest_of_any_weight_and_a_share_of_all(tmp_path: Path) -> None:
    one, other = (
        saved(tmp_path / name, x=[0.0, 0.0, 0.0], y=[[0.0, value], [2.0, 2.0]])
        for name, value in (("a", 1.0), ("b", 1.5))
    )
    told = likeness.difference(one, other)
    assert told is not None and told.pop("relative") == pytest.approx(0.5 / math.sqrt(1.5**2 + 2 * 2.0**2))
    assert told == {"tensors": 2, "largest": 0.5, "where": "y"}
    assert likeness.difference(one, saved(tmp_path / "b", x=[0.0])) is None


def test_a_sketch_tells_about_how_far_weights_are_apart(tmp_path: Path) -> None:
    """A hundred draws: the squared distance is right on average, each distance within about three of its sds."""
    import torch

    torch.manual_seed(0)
    first, ratios = torch.randn(40, 50), []
    mine = likeness.sketch(saved(tmp_path / "first", w=first))
    assert likeness.sketch(tmp_path / "first") == mine and likeness.apart(mine, mine) == 0.0
    for at in range(100):
        change = 1e-3 * torch.randn(40, 50)
        theirs = likeness.sketch(saved(tmp_path / "other", w=first + change))
        true = float(change.norm() / first.norm())
        found = likeness.apart(theirs, mine)
        assert found is not None, at
        length = math.hypot(*mine) / float(first.norm())  # a sketch's own length is an estimate, too
        ratios.append((found * length / true) ** 2)
    assert sum(ratios) / 100 == pytest.approx(1.0, abs=0.1) and max(ratios) < 2.2
    assert likeness.apart(mine, []) is None


# --- where a mistake stands ---


def test_a_line_is_found_in_braces_in_dotted_keys_and_behind_quotes() -> None:
    text = '[[step]]\nname = "a"\nsettings = { beta = 1 }\noptions.suites = ["fit"]\n'
    text += '[step.options.settings."fit"]\nn = 0\n'
    assert toml.line_of(text, "step", 0, "settings.beta") == 3
    assert toml.line_of(text, "step", 0, "options.suites") == 4
    assert toml.line_of(text, "step", 0, "options.settings.fit.n") == 6
    assert toml.line_of(text, "step", 0, "options.settings.fit.sampled") == 5, "the longest beginning of it"
    assert toml.line_of(text, "step", 1, "name") is None
