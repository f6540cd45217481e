"""The adviser proposes what the data and the starting point speak for, and says so in words."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.data import report
from studio.methods import METHODS
from studio.methods.adviser import Facts, advise, many, needs
from studio.methods.base import Method

#: Every kind of data with the methods that learn from it, so that a method that is not here yet can be proposed too.
KINDS = {
    "sft": ("sft", "text"),
    "reward": ("preference",),
    "dpo": ("preference",),
    "ipo": ("preference",),
    "simpo": ("preference",),
    "orpo": ("preference",),
    "kto": ("kto",),
    "ppo": ("prompt",),
    "rloo": ("prompt",),
}
ALL = {
    name: dataclasses.replace(METHODS["sft"], name=name, kinds=kinds, kind="online" if "prompt" in kinds else "offline")
    for name, kinds in KINDS.items()
}
PAIRS = Facts("preference", rows=5000, taught=True)


@pytest.mark.parametrize(
    ("facts", "method", "said"),
    [
        (Facts("sft", rows=900), "sft", "first step"),
        (Facts("text", rows=900), "sft", "Texts"),
        (PAIRS, "dpo", "no reward model"),
        (dataclasses.replace(PAIRS, taught=False), "orpo", "one stage"),
        (dataclasses.replace(PAIRS, longer=0.86), "simpo", "longer one in 86%"),
        (dataclasses.replace(PAIRS, longer=0.1), "simpo", "shorter one in 90%"),
        (dataclasses.replace(PAIRS, longer=0.6), "dpo", "DPO"),
        (dataclasses.replace(PAIRS, longer=1.0), "dpo", "DPO"),
        (dataclasses.replace(PAIRS, doubted=250), "ipo", "250 of 5,000"),
        (Facts("prompt", rows=900), "rloo", "a rule, or a reward run"),
        (Facts("kto", rows=900, wanted=450, unwanted=450), "kto", "weighs the two labels"),
    ],
)
def test_the_proposal_follows_the_data(facts: Facts, method: str, said: str) -> None:
    advice = advise(facts, ALL)
    assert advice.method == method and said in advice.reason
    readable = {"preference": {"kto", "prompt"}, "kto": {"prompt"}, "sft": {"prompt"}}.get(facts.kind, set())
    wanted = {name for name, kinds in KINDS.items() if {facts.kind, *readable} & set(kinds)}
    assert {advice.method, *advice.others} == wanted and advice.method not in advice.others


def test_a_scored_prompt_set_needs_no_word_about_scoring() -> None:
    assert "reward run" not in advise(Facts("prompt", rows=900, scored=True), ALL).reason


def test_class_weights_come_from_the_counts() -> None:
    # 100 wanted to 700 unwanted: the wanted are weighted to the middle of 1:1 and 4:3, 7/6 * 700 / 100 = 8.17
    assert "desirable_weight = 8.17" in advise(Facts("kto", rows=800, wanted=100, unwanted=700), ALL).reason


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (dataclasses.replace(PAIRS, rows=199), "199 pairs are few"),
        (Facts("kto", rows=20, wanted=20), "same label"),
        (Facts("sft", rows=12), "12 conversations"),
        (dataclasses.replace(PAIRS, longer=0.7), "mostly the longer ones"),
        (dataclasses.replace(PAIRS, duplicates=500), "500 rows repeat"),
        (dataclasses.replace(PAIRS, longer=1.0), "nearly all the longer ones"),
        (Facts("prompt", rows=900, gpu=False), "no GPU"),
    ],
)
def test_what_deserves_a_look_is_said(facts: Facts, said: str) -> None:
    assert any(said in warning for warning in advise(facts, ALL).warnings)


def test_enough_plain_rows_give_no_warning() -> None:
    assert advise(dataclasses.replace(PAIRS, rows=200, longer=0.5), ALL).warnings == ()


def test_many_rows_are_said_to_want_smaller_steps() -> None:
    assert many("preference", 60_000).startswith("60,000 pairs are many")
    assert many("prompt", 5001).startswith("5,001 prompts are many")
    assert not many("kto", 5000) and not many("sft", 60_000)


def test_only_methods_that_are_there_are_proposed() -> None:
    only = {name: method for name, method in ALL.items() if name in ("dpo", "reward")}
    assert advise(dataclasses.replace(PAIRS, taught=False), only).method == "dpo"
    none = advise(Facts("prompt", rows=900), only)
    assert none.method == "" and "No method learns from prompts here" in none.reason
    assert "not clear" in advise(Facts("unclear"), ALL).reason
    foreign = {"toy": dataclasses.replace(ALL["sft"], name="toy", kinds=("kto",))}
    assert advise(Facts("kto", rows=900), foreign).method == "toy"


def test_every_method_says_what_it_needs() -> None:
    assert needs(ALL["sft"]) == "conversations or texts"
    methods: dict[str, Method] = METHODS
    assert all(needs(method) for method in methods.values())


def test_the_facts_are_read_from_a_checks_document(tmp_path: Path, pairs_file: Path) -> None:
    # in all forty pairs the chosen answer is the longer one
    document = report.check(pairs_file).document
    assert Facts.of(document, taught=True) == Facts("preference", rows=40, longer=1.0, taught=True)
    counted: dict[str, Any] = {"chosen_longer_share": 0.25, "wanted": 3, "unwanted": 4}
    facts = Facts.of(document, counted)
    assert (facts.longer, facts.wanted, facts.unwanted) == (0.25, 3, 4)


def test_the_adviser_loads_no_framework() -> None:
    code = "import studio.methods.adviser, sys; assert not {'torch', 'transformers', 'gradio'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
