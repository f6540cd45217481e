"""Constitution and synthetic data with models that are really there: it ends in rows, or says that there are none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

import studio
from studio.data import preferences
from studio.feedback import revising, synthetic

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
MODEL = os.environ.get("STUDIO_REAL_MODEL", "")
ASKED = ("How do I get rid of a headache?", "Should I quit my job?", "Why is the sky blue?", "How can I pick a lock?")
REASONS = {value for name, value in vars(revising).items() if name.isupper() and isinstance(value, str)}


def constitution(who: str, tmp_path: Path, **settings: Any) -> tuple[dict[str, Any], list[preferences.Record]]:
    file = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": text} for text in ASKED])
    settings = {"answers_from": who, "context": 2048, **settings}
    result = studio.make_feedback("constitution", data=file, settings=settings)
    return result, preferences.records(Path(result["dir"]))


def honest(result: dict[str, Any], records: list[preferences.Record]) -> None:
    """Every row that is used was changed; every other one says why; no rows is said in words."""
    assert result["records"] == len(records) == len(ASKED)
    kept = [one for one in records if not one.dropped]
    assert result["sft"] == len(kept) and result["usable"] == bool(kept)
    assert bool(kept) or result["warnings"][0].startswith("No usable rows")
    assert {one.dropped for one in records} <= {"", *REASONS}
    for one in kept:
        first, last = (answer.text for answer in one.answers)
        assert first and last and first != last and one.about["steps"][0]["critique"]
    assert sum(row["drawn"] for row in result["principles"]) == sum(len(one.about["steps"]) for one in records)


def test_the_starter_is_asked_as_a_base_model_and_the_set_tells_what_it_is_worth(tmp_path: Path) -> None:
    result, records = constitution("starter", tmp_path, context=1024, max_tokens=24, critique_tokens=24)
    honest(result, records)
    assert all(one.answers[0].identity["raw"] for one in records)


@pytest.mark.slow
@pytest.mark.skipif(not MODEL, reason="STUDIO_REAL_MODEL names no folder of a real model")
def test_a_real_model_revises_compares_and_makes_rows_or_says_that_it_cannot(tmp_path: Path) -> None:
    honest(*constitution(MODEL, tmp_path, max_tokens=120))
    result, records = constitution(MODEL, tmp_path, mode="comparisons", max_tokens=60)
    assert len(records) == len(ASKED) and result["usable"] == result["report"]["usable"]
    assert all(one.dropped or one.p is not None for one in records)
    (tmp_path / "topics.txt").write_text("bread\nthe moon\nrivers\n")
    settings = {"answers_from": MODEL, "topics": str(tmp_path / "topics.txt"), "max_tokens": 120}
    result = studio.make_feedback("synthetic", settings=settings)
    assert result["records"] == 3 == result["sft"] + sum(result["dropped"].values())
    known = {value for name, value in vars(synthetic).items() if name.isupper() and isinstance(value, str)}
    assert set(result["dropped"]) <= known | set(synthetic.LINT.values())
