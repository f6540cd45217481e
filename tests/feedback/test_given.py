"""What is judged: the answers that files of many layouts hold, and what these say of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from making import write_jsonl

from studio import events
from studio.data import preferences
from studio.data.records import Reading
from studio.errors import DataError
from studio.feedback import given

AS_IT_IS = Reading()


def texts(task: given.Task) -> list[str]:
    return [answer.text for answer in task.answers]


def test_listed_completions_are_read_with_who_gave_them_whether_scored_or_not(tmp_path: Path) -> None:
    plain = [{"model": "m1", "completion": "One."}, {"model": "m2", "completion": "Two."}, {"completion": "Three."}]
    data = write_jsonl(tmp_path / "a.jsonl", [{"id": "x", "prompt": "Count. ", "completions": plain}])
    (task,) = given.answers(str(data), AS_IT_IS, least=2)
    assert texts(task) == ["One.", "Two.", "Three."] and task.ranks == []
    assert [answer.identity["name"] for answer in task.answers] == ["m1", "m2", "answer 3"]
    scored = [{"response": text, "overall_score": score} for text, score in (("a", 3), ("b", 9), ("c", 3))]
    data = write_jsonl(tmp_path / "b.jsonl", [{"instruction": "Go.", "completions": scored}])
    assert given.answers(str(data), AS_IT_IS)[0].ranks == [2, 1, 2]
    ranked = [{"response": text, "rank": rank} for text, rank in (("a", 2), ("b", 1))]
    data = write_jsonl(tmp_path / "c.jsonl", [{"instruction": "Go.", "completions": ranked}])
    assert given.answers(str(data), AS_IT_IS)[0].ranks == [2, 1], "of ranks the lowest is the best"


def test_two_columns_without_a_verdict_are_two_answers(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": "Why?", "response_a": "So.", "response_b": "Because."}]
    (task,) = given.answers(str(write_jsonl(tmp_path / "a.jsonl", rows)), AS_IT_IS, least=2)
    assert texts(task) == ["So.", "Because."] and task.ranks == [] and task.turns[-1]["content"] == "Why?"


def test_prompts_of_any_file_can_be_answered_anew(tmp_path: Path, pairs_file: Path, sft_file: Path) -> None:
    listed = write_jsonl(tmp_path / "a.jsonl", [{"prompt": "Why?", "completions": ["So.", "Because."]}])
    for file, count in ((listed, 1), (pairs_file, 40), (sft_file, 40)):
        found = given.prompts(str(file), AS_IT_IS)
        assert len(found) == count and all(task.answers == [] and task.ranks == [] for task in found)
    assert given.prompts(str(sft_file), AS_IT_IS, limit=3)[2].reference == "The sum is 4."


def test_pairs_keep_their_two_answers_and_the_same_file_gives_the_same_order(pairs_file: Path) -> None:
    found = given.answers(str(pairs_file), AS_IT_IS, limit=30)
    assert found == given.answers(str(pairs_file), AS_IT_IS, limit=30)
    for task in found:
        better = task.ranks.index(1)
        assert task.answers[better].identity["name"] == "chosen" and texts(task)[better].startswith("The sum is")
    assert len({task.key for task in found}) == 30


def test_a_row_that_cannot_be_read_is_named_or_left_out_as_asked(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "Why?", "completions": ["So.", "Because."]},
        {"prompt": "Why?", "completions": ["So.", ""]},
        {"prompt": "How?", "completions": ["So.", "Thus."]},
    ]
    file = str(write_jsonl(tmp_path / "a.jsonl", rows))
    with pytest.raises(DataError) as caught:
        given.answers(file, AS_IT_IS, least=2)
    assert caught.value.line == 2 and caught.value.field == "completions[1]" and caught.value.remedy
    assert len(given.answers(file, Reading(drop=("bad",)), least=2)) == 2


def test_a_file_without_answers_to_compare_says_what_to_do(tmp_path: Path, sft_file: Path) -> None:
    with pytest.raises(DataError, match="no prompt with several answers") as caught:
        given.answers(str(sft_file), AS_IT_IS, least=2)
    assert "--answers-from" in caught.value.remedy
    alone = write_jsonl(tmp_path / "p.jsonl", [{"prompt": "Why?"}])
    with pytest.raises(DataError, match="no answers to judge"):
        given.answers(str(alone), AS_IT_IS)


def test_prompts_with_too_few_answers_are_told_of(tmp_path: Path) -> None:
    plain = [{"role": "assistant", "content": "Yes."}]
    asked = [{"role": "user", "content": "Well?"}]
    both = ["So.", "Thus."]
    listed: list[dict[str, object]] = [{"prompt": f"{n}?", "completions": both[: n + 1]} for n in range(4)]
    paired: list[dict[str, object]] = [
        {"prompt": asked, "chosen": plain, "rejected": [{"role": "assistant", "content": "No."}]},
        {"prompt": asked, "chosen": plain, "rejected": [*plain, *asked, *plain]},
        {"prompt": asked, "chosen": plain, "rejected": [{"role": "assistant", "content": "Hm."}]},
    ]
    for rows, lines, left in ((listed, "1", 3), (paired, "2", 2)):
        told: list[events.Event] = []
        file = str(write_jsonl(tmp_path / "a.jsonl", rows))
        assert len(given.answers(file, AS_IT_IS, least=2, emit=told.append)) == left
        (note,) = [item for item in told if item.get("code") == "few_answers"]
        assert f"(lines {lines})" in note["text"] and note["level"] == "warning"


PUBLIC = os.environ.get("STUDIO_PUBLIC_DATA", "")


@pytest.mark.skipif(not PUBLIC, reason="set STUDIO_PUBLIC_DATA to a folder of public files")
def test_two_completions_a_prompt_in_a_public_file_are_pairs_to_be_judged() -> None:
    """145 rows of two completions, of which six are the same text twice; who gave each is known."""
    found = given.answers(f"{PUBLIC}/openinstruct_eval_instances_tulu1.jsonl", AS_IT_IS, least=2)
    assert len(found) == 145 and all(len(task.answers) == 2 and not task.ranks for task in found)
    assert {answer.identity["name"] for task in found for answer in task.answers} == {"tulu_65B", "tulu_7B", "chatgpt"}
    assert sum(texts(task)[0] == texts(task)[1] for task in found) == 6
    assert len({preferences.key(task.turns) for task in found}) < 145, "18 prompts stand there twice"
