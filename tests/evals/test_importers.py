"""Files of items: one's own with clear errors, public layouts with all of their rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio.errors import DataError
from studio.evals import importers, questions
from studio.evals.checks import Check

PUBLIC = os.environ.get("STUDIO_PUBLIC_DATA", "")
public = pytest.mark.skipif(not PUBLIC, reason="STUDIO_PUBLIC_DATA names no folder of public files")


def read(tmp_path: Path, *rows: dict[str, Any]) -> importers.Imported:
    return importers.read(write_jsonl(tmp_path / "items.jsonl", list(rows)))


def test_ones_own_items_are_prompts_messages_or_turns_with_checks(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes?"}]
    found = read(
        tmp_path,
        {"prompt": "2 + 2?", "number": 4, "tolerance": 0.5, "lacks": "five", "id": "sum"},
        {"messages": [*messages, {"role": "user", "content": "Who?"}], "contains": "me", "system": "Be brief."},
        {"turns": ["Say a.", "Now b."], "exact": "b"},
    )
    one, two, three = found.items
    assert found.layout == "own" and one.key.startswith("sum-") and [item.line for item in found.items] == [1, 2, 3]
    assert set(one.checks) == {Check("number", 4, 0.5), Check("lacks", "five")}
    assert two.before == ({"role": "system", "content": "Be brief."}, *messages) and two.turns == ("Who?",)
    assert three.turns == ("Say a.", "Now b.") and not three.before


@pytest.mark.parametrize(
    ("row", "field", "said"),
    [
        ({"prompt": "a", "contain": "b"}, "contain", "'contain' is no check"),
        ({"prompt": "a"}, "check", "Nothing says what the answer must be"),
        ({"exact": "b"}, "prompt", "No question is asked"),
        ({"prompt": "a", "turns": ["b"], "exact": "c"}, "prompt", "Two things are asked"),
        ({"prompt": 3, "exact": "c"}, "prompt", "A text is needed"),
        ({"turns": ["a", 2], "exact": "c"}, "turns", "no list of texts"),
        ({"messages": [{"role": "assistant", "content": "a"}], "exact": "c"}, "messages", "do not end with the user's"),
        ({"messages": ["a"], "exact": "c"}, "messages", "no list of turns"),
        ({"prompt": "a", "number": "four"}, "number", "a number is needed"),
        ({"prompt": "a", "number": 4, "tolerance": -1}, "tolerance", "no number of 0 or more"),
        ({"prompt": "a", "regex": "("}, "regex", "no pattern"),
        ({"prompt": "a", "schema": {"format": "date"}}, "schema", "'format', which is not checked here"),
    ],
)
def test_a_row_that_is_no_item_is_named_with_its_line_and_field(
    tmp_path: Path, row: dict[str, Any], field: str, said: str
) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, {"prompt": "good", "exact": "x"}, row)
    assert (error.value.line, error.value.field) == (2, field)
    assert said in error.value.message and error.value.remedy and str(error.value.file).endswith("items.jsonl")


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text('{"prompt": "a", "exact": "b"}\n{"prompt": \n', "utf-8")
    with pytest.raises(DataError) as error:
        importers.read(file)
    assert error.value.line == 2


def test_a_grade_school_problem_asks_for_the_number_behind_the_marks(tmp_path: Path) -> None:
    found = read(tmp_path, {"question": "How many?", "answer": "9 * 2 = <<9*2=18>>18\n#### 1,218"})
    assert found.layout == "GSM8K" and found.items[0].checks == (Check("number", 1218.0),)
    with pytest.raises(DataError, match="no number behind"):
        read(tmp_path, {"question": "a", "answer": "#### 3"}, {"question": "How many?", "answer": "#### none"})


def test_a_question_of_truthfulqa_has_its_best_answer_first_and_no_answer_on_both_sides(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(
        "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
        "A,B,Is it? ,No,Yes indeed; No; Maybe;,Yes; Maybe ; Always;,x\n",
        "utf-8",
    )
    (item,) = importers.read(file).items
    assert (item.turns, item.right, item.wrong) == (("Is it?",), ("No", "Yes indeed", "Maybe"), ("Yes", "Always"))


TOLD = {"question": "Is it?", "best_answer": "No"}


@pytest.mark.parametrize(
    "row",
    [
        {"type": "A", **TOLD, "correct_answers": ["No", "Not at all"], "incorrect_answers": ["Yes", "Always"]},
        {**TOLD, "correct_answers": "Not at all; No", "incorrect_answers": "Yes; Always; ", "source": "x"},
        {
            "question": "Is it?",
            "mc1_targets": {"choices": ["No", "Yes", "Always"], "labels": [1, 0, 0]},
            "mc2_targets": {"choices": ["Not at all", "No", "Yes", "Always"], "labels": [1, 1, 0, 0]},
        },
    ],
)
def test_truthfulqa_is_read_as_the_hub_has_it_too(tmp_path: Path, row: dict[str, Any]) -> None:
    (item,) = read(tmp_path, row).items
    assert (item.turns, item.right, item.wrong) == (("Is it?",), ("No", "Not at all"), ("Yes", "Always"))
    (asked,), left = questions.of_file(tmp_path / "items.jsonl")
    assert (asked.right, asked.wrong, asked.by, left) == (("No",), ("Yes",), "yes", 0)


def test_choices_without_the_better_half_of_the_file_are_read_and_odd_ones_named(tmp_path: Path) -> None:
    (item,) = read(tmp_path, {"question": "a", "mc1_targets": {"choices": ["x", "y"], "labels": [0, 1]}}).items
    assert (item.right, item.wrong) == (("y",), ("x",))
    with pytest.raises(DataError):
        read(tmp_path, {"question": "a", "mc1_targets": {"choices": ["x", "y"], "labels": [1]}})


def test_mt_bench_is_read_as_the_hub_has_it_and_turns_with_checks_are_ones_own(tmp_path: Path) -> None:
    found = read(tmp_path, {"prompt": ["Write.", "Again."], "category": "writing", "prompt_id": 7, "reference": []})
    assert (found.layout, found.items[0].turns, found.items[0].rated) == ("MT-bench", ("Write.", "Again."), True)
    mine = read(tmp_path, {"question_id": 81, "category": "b", "turns": ["Write.", "Again."], "contains": "x"})
    assert mine.layout == "own" and mine.items[0].checks == (Check("contains", "x"),)
    assert mine.items[0].key.startswith("81-") and not mine.items[0].rated


def test_instructions_that_are_not_checked_are_counted(tmp_path: Path) -> None:
    names = ["punctuation:no_comma", "language:response_language", "keywords:existence"]
    given: list[dict[str, Any]] = [{}, {"language": "de"}, {"keywords": ["a"]}]
    found = read(tmp_path, {"key": 7, "prompt": "Do.", "instruction_id_list": names, "kwargs": given})
    (item,) = found.items
    assert item.instructions == ((names[0], {}), (names[2], {"keywords": ["a"]}))
    assert item.skipped == (names[1],) and found.skipped == {names[1]: 1} and item.key.startswith("7-")
    with pytest.raises(DataError, match="is not given 'keywords'"):
        read(tmp_path, {"prompt": "Do.", "instruction_id_list": names[2:], "kwargs": [{}]})


@pytest.mark.parametrize(
    ("row", "suite"),
    [
        ({"id": 1, "prompt": "a", "type": "homonyms", "label": "safe"}, "refusal"),
        ({"id_v2": "v2-1", "type": "homonyms", "prompt": "a", "focus": "kill", "note": ""}, "refusal"),
        ({"prompt": [{"type": "human", "content": "a"}], "base": {}, "metadata": {}}, "sycophancy"),
    ],
)
def test_layouts_of_other_suites_are_sent_there(tmp_path: Path, row: dict[str, Any], suite: str) -> None:
    with pytest.raises(DataError) as error:
        read(tmp_path, row)
    assert f"--suite {suite}" in error.value.remedy


@public
def test_all_rows_of_the_public_files_are_read_with_their_counts() -> None:
    folder = Path(PUBLIC)
    gsm8k = importers.read(folder / "gsm8k_test.jsonl")
    assert (gsm8k.layout, len(gsm8k.items)) == ("GSM8K", 1319)
    rows = [json.loads(line) for line in (folder / "gsm8k_test.jsonl").read_text("utf-8").splitlines()]
    finals = [float(row["answer"].split("#### ")[1].replace(",", "")) for row in rows]
    assert [item.checks[0].want for item in gsm8k.items] == finals
    truthful = importers.read(folder / "truthfulqa.csv")
    assert (truthful.layout, len(truthful.items)) == ("TruthfulQA", 817)
    assert all(item.right and item.wrong and not set(item.right) & set(item.wrong) for item in truthful.items)
    ifeval = importers.read(folder / "ifeval_input_data.jsonl")
    checked = sum(len(item.instructions) for item in ifeval.items)
    assert (ifeval.layout, len(ifeval.items), checked, sum(ifeval.skipped.values())) == ("IFEval", 541, 726, 108)
    bench = importers.read(folder / "mtbench_question.jsonl")
    assert (bench.layout, len(bench.items)) == ("MT-bench", 80)
    assert all(len(item.turns) == 2 and item.rated for item in bench.items)
    for made in (gsm8k, truthful, ifeval, bench):
        assert len({item.key for item in made.items}) == len(made.items)
