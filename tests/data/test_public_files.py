"""Public files get the right reading or the right question; STUDIO_PUBLIC_DATA names the folder that holds them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studio.data import dataset
from studio.data.convert import convert
from studio.data.records import Conversation, Preference, Reading

FOLDER = os.environ.get("STUDIO_PUBLIC_DATA", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="STUDIO_PUBLIC_DATA names no folder of public data files")

#: file, format, kind, rows, records, lines of errors, warnings with their rows
FILES: list[tuple[str, str, str, int, int, tuple[int, ...], dict[str, int]]] = [
    ("fastchat_dummy_conversation.json", "sharegpt", "sft", 500, 500, (), {}),
    ("gsm8k_test.jsonl", "prompt_completion", "sft", 1319, 1319, (), {}),
    ("hh_harmless_base_test.jsonl", "preference", "preference", 726, 724, (87, 517), {}),
    ("ifeval_input_data.jsonl", "prompt", "prompt", 541, 541, (), {}),
    ("lf_dpo_en_demo.json", "preference", "preference", 300, 300, (), {}),
    ("lf_glaive_toolcall_en_demo.json", "sharegpt", "sft", 300, 300, (), {}),
    ("lf_identity.json", "alpaca", "sft", 91, 91, (), {"placeholder": 85}),
    ("lf_kto_en_demo.json", "kto", "kto", 300, 300, (), {}),
    ("mlx_wwdc25_train.jsonl", "prompt_completion", "sft", 648, 648, (), {}),
    ("mlx_wwdc25_valid.jsonl", "prompt_completion", "sft", 144, 144, (), {}),
    ("mtbench_question.jsonl", "prompt", "prompt", 80, 80, (), {"later_turns": 80}),
    ("oasst_en_100_tree.jsonl", "oasst", "sft", 46, 46, (), {}),
    ("openinstruct_eval_instances_tulu1.jsonl", "unclear", "unclear", 145, 0, (), {}),
    ("self_instruct_seed_tasks.jsonl", "self_instruct", "sft", 175, 175, (), {}),
    ("sycobench_delusion.csv", "unclear", "unclear", 20, 0, (), {}),
    ("sycobench_mirror.csv", "unclear", "unclear", 40, 0, (), {}),
    ("sycobench_pickside.csv", "unclear", "unclear", 40, 0, (), {}),
    ("sycobench_whosaid.csv", "unclear", "unclear", 40, 0, (), {}),
    ("truthfulqa.csv", "unclear", "unclear", 817, 0, (), {}),
    ("xstest_prompts.csv", "prompt", "prompt", 450, 450, (), {}),
]


@pytest.mark.parametrize("case", FILES, ids=[case[0] for case in FILES])
def test_a_public_file_is_read_or_asked_about(
    case: tuple[str, str, str, int, int, tuple[int, ...], dict[str, int]],
) -> None:
    name, form, kind, rows, usable, lines, warnings = case
    data = dataset.check(Path(FOLDER) / name)
    assert (data.format, data.kind, data.rows, data.usable) == (form, kind, rows, usable)
    assert tuple(problem.line for problem in data.errors.first) == lines
    told = {warning["code"]: warning["rows"] for warning in data.warnings.to_list()}
    assert {code: told.get(code) for code in warnings} == warnings
    assert (data.found.question is not None) == (kind == "unclear")


def test_every_choice_of_every_question_reads_the_file() -> None:
    for name, _, kind, rows, *_ in FILES:
        if kind != "unclear":
            continue
        question = dataset.check(Path(FOLDER) / name).found.question
        assert question is not None and question.choices
        for _, reading in question.choices:
            data = dataset.check(Path(FOLDER) / name, reading)
            assert data.kind == reading.kind
            assert data.usable + data.errors.count == rows


def test_what_is_odd_in_them_is_read_as_it_is() -> None:
    def records(name: str, **reading: str) -> list[object]:
        return list(dataset.check(Path(FOLDER) / name, Reading(**reading)).records())  # type: ignore[arg-type]

    pairs = [record for record in records("hh_harmless_base_test.jsonl") if isinstance(record, Preference)]
    assert max(len(pair.prompt + pair.chosen) for pair in pairs) == 24
    assert [pair.line for pair in pairs if len(pair.prompt + pair.chosen) % 2] == [668]
    calls = [record for record in records("lf_glaive_toolcall_en_demo.json") if isinstance(record, Conversation)]
    assert sum(len(turn.tool_calls) for record in calls for turn in record.messages) == 211
    assert sum(turn.role == "tool" for record in calls for turn in record.messages) == 211
    assert sorted({len(record.tools) for record in calls}) == [0, 1, 2]
    assert sum(not record.tools for record in calls) == 109
    dpo = [record for record in records("lf_dpo_en_demo.json") if isinstance(record, Preference)]
    assert sum(pair.prompt[0].role == "system" for pair in dpo) == 80
    assert sum(len(pair.chosen[0].content) > len(pair.rejected[0].content) for pair in dpo) == 131
    trees = records("oasst_en_100_tree.jsonl", kind="preference")
    assert all(isinstance(pair, Preference) and pair.chosen != pair.rejected for pair in trees) and len(trees) >= 46


@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("lf_glaive_toolcall_en_demo.json", "messages"),
        ("lf_dpo_en_demo.json", "preference"),
        ("lf_kto_en_demo.json", "kto"),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_a_public_file_converted_is_read_again_as_it_was(tmp_path: Path, name: str, to: str, suffix: str) -> None:
    data = dataset.load(Path(FOLDER) / name)
    assert convert(data, to, tmp_path / f"out{suffix}")["dropped"] == {}
    again = dataset.load(tmp_path / f"out{suffix}")
    before, after = (
        [(getattr(r, "prompt", ()), getattr(r, "messages", ()), getattr(r, "tools", ())) for r in each.records()]
        for each in (data, again)
    )
    assert before == after
