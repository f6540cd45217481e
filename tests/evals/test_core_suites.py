"""Win rate, forgetting and your own, with speakers that say what is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from speaking_by_script import Scripted, asking

from studio import runs
from studio.data import preferences, votes
from studio.data.preferences import Record
from studio.data.votes import Answer, Vote
from studio.errors import DataError
from studio.evals import card, checks, fit, forgetting, own, winrate
from studio.evals.asking import Asked
from studio.evals.suite import Outcome, Suite
from studio.feedback.speakers import Said
from studio.runs import Run, RunConfig


def prompts(tmp_path: Path, n: int = 20) -> Path:
    rows: list[dict[str, object]] = [{"prompt": f"Question {i}?", "completion": f"Answer {i}."} for i in range(n)]
    return write_jsonl(tmp_path / "prompts.jsonl", rows)


def long(turns: Sequence[dict[str, Any]]) -> str:
    return "A rather long answer of quite a few words it is."


def short(turns: Sequence[dict[str, Any]]) -> str:
    return "A short one."


def figures(suite: Suite, out: Outcome) -> dict[str, dict[str, Any]]:
    made = card.card([(suite, out)])["suites"][suite.name]["figures"]
    return {figure["measure"]: figure for figure in made}


def shown(text: str, letter: str) -> str:
    """Give the answer that a judge sees under a letter."""
    return text.split(f"Answer {letter}:\n")[1].split("\n")[1]


# --- win rate --------------------------------------------------------------------------------------------------------


def prefers(what: str) -> Scripted:
    """A judge that always finds this text the better one."""
    return Scripted("judge", weigh=lambda text, words: [0.9, 0.1] if what in shown(text, "A") else [0.1, 0.9])


def judged(tmp_path: Path, judge: Scripted | None, before: Any = short, after: Any = long, **cfg: Any) -> Asked:
    sides = Scripted("before", before, sha256="b"), Scripted("after", after, sha256="a")
    return asking(tmp_path, winrate.Config(**cfg), *sides, judge=judge, file=prompts(tmp_path))


def test_the_side_that_the_judge_likes_wins_and_the_other_loses(tmp_path: Path) -> None:
    given = judged(tmp_path, prefers("long"))
    found = figures(winrate.SUITE, winrate.run(given))
    wins = found["wins"]
    assert (wins["sides"]["after"]["value"], wins["sides"]["before"]["value"]) == (1.0, 0.0)
    assert wins["difference"]["value"] == 1.0 and wins["verdict"] == "better" and wins["difference"]["n"] == 20
    assert found["consistent"]["sides"]["after"]["value"] == 1.0
    assert found["longer"]["sides"]["after"]["value"] == 1.0  # what is liked may be the length alone
    assert found["wins_matched"]["sides"] == {}  # no two answers are about equally long


def test_a_judge_that_names_whatever_comes_first_decides_nothing_and_is_called_that(tmp_path: Path) -> None:
    given = judged(tmp_path, Scripted("judge", weigh=lambda text, words: [0.95, 0.05]))
    found = figures(winrate.SUITE, winrate.run(given))
    assert found["wins"]["sides"]["after"]["value"] == 0.5 and found["wins"]["verdict"] == "no significant difference"
    assert found["consistent"]["sides"]["after"]["value"] == 0.0
    assert any("no better than chance" in note for note in given.notes)


def test_answers_that_are_alike_are_ties_and_an_empty_answer_loses(tmp_path: Path) -> None:
    judge = prefers("long")
    (tmp_path / "a").mkdir()
    same = judged(tmp_path / "a", judge, before=long)
    found = figures(winrate.SUITE, winrate.run(same))
    assert found["wins"]["sides"]["after"]["value"] == 0.5 and judge.asked == []
    assert any("answered alike" in note for note in same.notes)
    (tmp_path / "b").mkdir()
    empty = figures(winrate.SUITE, winrate.run(judged(tmp_path / "b", judge, after=lambda turns: "")))
    assert empty["wins"]["sides"]["after"]["value"] == 0.0


def test_lengths_are_of_what_is_read_and_not_of_tokens_that_differ_by_vocabulary(tmp_path: Path) -> None:
    def same(turns: Sequence[dict[str, Any]]) -> str:
        return "A rather long answer of quite a few words it was."

    given = judged(tmp_path, prefers("it is"), before=same)
    counted = given.speakers["before"].ask

    def many(*args: Any) -> Any:  # four tokens to a word, where the other side has one
        for number, said in counted(*args):
            yield number, [Said(one.text, 4 * one.tokens, one.stopped) for one in said]

    given.speakers["before"].ask = many  # type: ignore[method-assign]
    found = figures(winrate.SUITE, winrate.run(given))
    assert found["wins_matched"]["sides"]["after"] == {**found["wins"]["sides"]["after"], "n": 20}
    assert found["longer"]["sides"]["after"]["value"] == 0.0  # "is" is shorter than "was"


def test_judgements_are_kept_and_not_asked_again(tmp_path: Path) -> None:
    judge = prefers("long")
    first = winrate.run(judged(tmp_path, judge))
    count = len(judge.asked)
    again = winrate.run(judged(tmp_path, judge))
    assert count == 40 and len(judge.asked) == count and again.marks == first.marks


def test_a_judge_of_the_same_base_is_called_self_judged(tmp_path: Path) -> None:
    judge = prefers("long")
    judge.identity["sha256"] = "a"
    given = judged(tmp_path, judge)
    winrate.run(given)
    assert any(note.startswith("Self-judged") for note in given.notes)


def test_a_rule_decides_where_no_judge_is_named_and_nobody_is_said(tmp_path: Path) -> None:
    def right(turns: Sequence[dict[str, Any]]) -> str:
        return str(turns[-1]["content"]).replace("Question", "Answer")[:-1] + "."

    given = judged(tmp_path, None, after=right, rule="exact")
    found = figures(winrate.SUITE, winrate.run(given))
    assert found["wins"]["sides"]["after"]["value"] == 1.0 and found["consistent"]["sides"] == {}
    (tmp_path / "b").mkdir()
    nobody = judged(tmp_path / "b", None)
    assert winrate.run(nobody).marks == {} and any("Nobody judges" in note for note in nobody.notes)


def test_peoples_votes_between_the_two_sides_count_and_those_about_others_do_not(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "Which?"}]
    for number, (one, other, choice) in enumerate(
        [("a", "b", "a"), ("b", "a", "b"), ("a", "b", "tie"), ("b", "a", "a"), ("a", "c", "a"), ("a", "b", "bad")]
    ):
        sides = [Answer(f"{who} {number}", {"name": who, "sha256": who}) for who in (one, other)]
        votes.add(Vote(asked, *sides, choice))
    found = figures(winrate.SUITE, winrate.run(judged(tmp_path, None)))
    people = found["people"]["sides"]["after"]
    assert (people["n"], people["value"]) == (4, (1 + 1 + 0.5 + 0) / 4)


def test_peoples_rankings_of_a_set_count_once_each_by_the_pairs_of_the_two_sides(tmp_path: Path, home: Path) -> None:
    asked = [{"role": "user", "content": "Which?"}]
    made = runs.create(RunConfig(preferences.KIND, "ranked", "starter", options={"source": "rank"}))

    def rank(who: str, ranks: list[int], by: str = "person", **more: Any) -> None:
        answers = [Answer(f"{one} {at}", {"name": one, "sha256": one}) for at, one in enumerate(who)]
        name = f"{who}-{ranks}-{by}-{more}"
        preferences.add(made.dir, Record(asked, answers, ranks, by={"kind": by, "name": "Ann"}, id=name, **more))

    rank("ab", [1, 2])  # after is a
    rank("bab", [1, 2, 3])  # above one of before's two answers
    rank("ab", [1, 1])
    rank("ab", [1, 2], by="judge")
    rank("ab", [1, 2], bad=True)
    rank("ac", [1, 2])
    out = winrate.run(judged(tmp_path, None))
    people = figures(winrate.SUITE, out)["people"]["sides"]["after"]
    assert (people["n"], people["value"]) == (3, (1 + 0.5 + 0.5) / 3)
    assert [row["votes"] for row in out.answers] == ["ranked by Ann"] * 3
    assert out.answers[1]["before"] == "b 0" and out.answers[1]["after"] == "a 1"


# --- forgetting ------------------------------------------------------------------------------------------------------

FACTS: list[dict[str, object]] = [
    {"question": "What is the capital of France?", "completion": "The capital of France is", "answers": ["Paris"]},
    {"question": "What is the capital of Italy?", "completion": "The capital of Italy is", "answers": ["Rome"]},
    {"question": "What is the capital of Spain?", "answers": "Madrid"},
]


def knowing(**said: str) -> Any:
    def say(turns: Sequence[dict[str, Any]]) -> str:
        return next((text for country, text in said.items() if country in str(turns[-1]["content"])), "I do not know.")

    return say


def facts(tmp_path: Path, before: Any, after: Any, base: Any = None) -> Asked:
    file = write_jsonl(tmp_path / "facts.jsonl", FACTS)
    sides = Scripted("before", before, sha256="b"), Scripted("after", after, sha256="a")
    beginning = Scripted("base", base or before, sha256="b" if base is None else "c")
    return asking(tmp_path, forgetting.Config(), *sides, file=file, base=beginning)


@pytest.fixture(autouse=True)
def raw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted speakers say the same to a plain text."""
    monkeypatch.setattr(Asked, "_raw", lambda self, speaker: speaker.ask)


def test_what_the_base_said_and_the_tuned_one_no_longer_says_is_counted_and_named(tmp_path: Path) -> None:
    given = facts(tmp_path, knowing(France="Paris.", Italy="Rome."), knowing(France="It is Paris.", Spain="Madrid."))
    out = forgetting.run(given)
    kept = figures(forgetting.SUITE, out)["kept"]["sides"]
    assert list(kept) == ["after"] and (kept["after"]["n"], kept["after"]["value"]) == (2, 0.5)
    assert any("1 are lost: What is the capital of Italy?" in note for note in given.notes)
    answers = figures(forgetting.SUITE, out)["answers"]["sides"]
    assert (answers["before"]["value"], answers["after"]["value"]) == (2 / 3, 2 / 3)
    goes_on = figures(forgetting.SUITE, out)["goes_on"]["sides"]
    assert (goes_on["before"]["value"], goes_on["after"]["value"]) == (1.0, 0.0)  # "It is Paris" goes on with nothing


def test_a_parent_is_measured_by_what_the_base_knew_too(tmp_path: Path) -> None:
    base = knowing(France="Paris.", Italy="Rome.")
    out = forgetting.run(facts(tmp_path, knowing(France="Paris."), knowing(Spain="Madrid."), base))
    kept = figures(forgetting.SUITE, out)["kept"]["sides"]
    assert (kept["before"]["value"], kept["after"]["value"]) == (0.5, 0.0)


def test_lost_facts_stand_first_side_by_side_with_what_each_said(tmp_path: Path) -> None:
    before = knowing(France="Paris", Italy="Rome", Spain="Madrid")

    def after(turns: Sequence[dict[str, Any]]) -> str:  # goes on with Italy, and no longer answers about it
        asked = str(turns[-1]["content"])
        return "Paris" if "France" in asked else "Rome" if asked.endswith("is") else "I do not know."

    out = forgetting.run(facts(tmp_path, before, after))
    plot = out.plots["side_by_side"]
    assert plot["columns"] == ["before", "after"]
    assert [row["asked"].split()[-1] for row in plot["rows"]] == ["Spain?", "Italy?", "France?"]
    assert [[one["right"] for one in row["said"]] for row in plot["rows"]] == [[True, False], [True, False], [True] * 2]
    italy = {"text": "I do not know.", "right": False, "goes_on": "The capital of Italy isRome"}
    assert plot["rows"][1]["said"][1] == italy


def test_the_checkpoints_answer_between_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = facts(tmp_path, knowing(France="Paris"), knowing(Italy="Rome"))
    during = Scripted("step-000040", knowing(France="Lyon", Italy="Rome"))
    monkeypatch.setattr(given, "run", runs.create(RunConfig("train", "taught", "starter", "sft", "rows.jsonl")))
    monkeypatch.setattr(Run, "checkpoints", lambda self: [tmp_path / "step-000040"])
    monkeypatch.setattr(given, "add", lambda stage: given.speakers.setdefault(stage.name, during))
    out = forgetting.run(given)
    assert out.plots["side_by_side"]["columns"] == ["before", "step 40", "after"]
    france = next(row for row in out.plots["side_by_side"]["rows"] if "France" in row["asked"])
    assert [one["text"] for one in france["said"]] == ["Paris", "Lyon", "I do not know."]
    assert next(row for row in out.answers if "Italy" in row["asked"])["during"] == {"step 40": "Rome"}


def test_where_the_base_knew_nothing_there_was_nothing_to_forget(tmp_path: Path) -> None:
    given = facts(tmp_path, knowing(), knowing(France="Paris."))
    assert figures(forgetting.SUITE, forgetting.run(given))["kept"]["sides"] == {}
    assert any("nothing to forget" in note for note in given.notes)


@pytest.mark.parametrize(
    ("row", "field"),
    [({"answers": ["a"]}, "question"), ({"question": "a"}, "answers"), ({"question": "a", "answers": [1]}, "answers")],
)
def test_a_row_that_is_no_fact_is_named(tmp_path: Path, row: dict[str, object], field: str) -> None:
    file = write_jsonl(tmp_path / "facts.jsonl", [FACTS[0], row])
    given = asking(tmp_path, forgetting.Config(), None, Scripted("after", short), file=file)
    with pytest.raises(DataError) as error:
        forgetting.run(given)
    assert (error.value.line, error.value.field) == (2, field)


def test_our_own_facts_are_sixty_or_more_and_each_text_goes_on_with_its_answers() -> None:
    found = forgetting._own()
    assert len(found) >= 60 and len({fact.key for fact in found}) == len({f.question for f in found}) == len(found)
    for fact in found:
        assert fact.answers
        assert all(fact.goes_on(f" {answer}.") and fact.answered(f"{answer}.") for answer in fact.answers)
        assert not fact.answered(f"{fact.completion}."), fact.key  # it does not give the answer away


# --- your own --------------------------------------------------------------------------------------------------------


def items(
    tmp_path: Path, rows: list[dict[str, object]], before: Any, after: Any, judge: Scripted | None = None
) -> Asked:
    file = write_jsonl(tmp_path / "items.jsonl", rows)
    return asking(tmp_path, own.Config(), Scripted("before", before), Scripted("after", after), judge=judge, file=file)


def test_an_item_passes_where_all_of_its_checks_hold(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "Sum?", "number": 4, "lacks": "five"},
        {"prompt": "List?", "schema": {"type": "array"}},
    ]
    given = items(
        tmp_path, rows, lambda turns: "4, not five", lambda turns: "[4]" if "List" in str(turns) else "It is 4."
    )
    out = own.run(given)
    passes = figures(own.SUITE, out)["passes"]["sides"]
    assert (passes["before"]["value"], passes["after"]["value"]) == (0.0, 1.0)
    assert out.answers[0]["checks"] == {"before": "lacks: no, number: yes", "after": "lacks: yes, number: yes"}
    assert out.answers[0]["marks"] == {"before": 0.0, "after": 1.0}


def test_turns_are_asked_one_after_the_other_and_the_last_answer_is_checked(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"turns": ["Say a.", "Now b."], "exact": "b after a"}]

    def say(turns: Sequence[dict[str, Any]]) -> str:
        said = [turn["content"] for turn in turns if turn["role"] == "assistant"]
        return f"b after {said[0]}" if said else "a"

    assert figures(own.SUITE, own.run(items(tmp_path, rows, short, say)))["passes"]["sides"]["after"]["value"] == 1.0


def test_items_that_need_a_judge_are_asked_and_not_marked_without_one(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"prompt": "Where?", "judge": "It names a city."}]
    given = items(tmp_path, rows, short, lambda turns: "Paris")
    assert own.run(given).marks == {} and any("--judge" in note for note in given.notes)
    (tmp_path / "b").mkdir()
    judge = Scripted("judge", weigh=lambda text, words: [0.9, 0.1] if "Paris" in text else [0.1, 0.9])
    found = figures(own.SUITE, own.run(items(tmp_path / "b", rows, short, lambda turns: "Paris", judge)))
    assert found["passes"]["sides"]["after"]["value"] == 1.0 and found["passes"]["sides"]["before"]["value"] == 0.0


def test_a_pattern_without_an_end_leaves_its_item_unmarked_and_the_others_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "PATTERN_SECONDS", 1.0)
    rows: list[dict[str, object]] = [{"prompt": "Which?", "regex": "^(a+)+$"}, {"prompt": "Sum?", "number": 4}]
    given = items(tmp_path, rows, short, lambda turns: "4" if "Sum" in str(turns) else "a" * 60 + "b")
    out = own.run(given)
    assert list(out.marks["passes"]["after"].values()) == [1.0] and len(out.marks["passes"]["before"]) == 2
    assert out.answers[0]["checks"]["after"] == "regex: not judged"
    assert any("Line 1, not marked" in note and "(a+)+" in note for note in given.notes)


def test_both_turns_of_mt_bench_are_graded(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]}]

    def weigh(text: str, words: Sequence[str]) -> list[float]:
        grade = "9" if "rather long" in text else "2"
        return [float(word == grade) for word in words]

    found = figures(own.SUITE, own.run(items(tmp_path, rows, short, long, Scripted("judge", weigh=weigh))))
    assert found["rating"]["sides"]["before"]["value"] == 2 and found["rating"]["sides"]["after"]["value"] == 9


def test_instructions_are_marked_by_their_share_and_items_with_unchecked_ones_neither_pass_nor_fail(
    tmp_path: Path,
) -> None:
    rows: list[dict[str, object]] = [
        {"prompt": "A", "instruction_id_list": ["punctuation:no_comma", "startend:quotation"], "kwargs": [{}, {}]},
        {
            "prompt": "B",
            "instruction_id_list": ["punctuation:no_comma", "language:response_language"],
            "kwargs": [{}, {}],
        },
    ]
    out = own.run(items(tmp_path, rows, lambda turns: "a, b", lambda turns: "no comma"))
    assert sorted(out.marks["instructions"]["after"].values()) == [0.5, 1.0]
    assert len(out.marks["passes"]["after"]) == 1


# --- fit's own arithmetic --------------------------------------------------------------------------------------------


def test_repetition_is_the_share_of_four_words_that_stood_there_before() -> None:
    assert fit.repeated("a b c d e") == 0.0 and fit.repeated("too short") == 0.0
    assert fit.repeated("a b c d a b c d") == pytest.approx(1 / 5)  # 5 of them, the last one a second time
    assert fit.repeated("x " * 13) == pytest.approx(9 / 10)


def test_fit_says_how_answers_end_and_how_long_they_are(tmp_path: Path) -> None:
    file = prompts(tmp_path, 4)
    out = Outcome()
    found = fit.heldout.rows(asking(tmp_path, fit.Config(), None, Scripted("after", long), file=file), 10)
    said = [Said("one two", 2, True), Said("one two", 2, False), Said("three four", 2, True), Said("", 0, True)]
    fit._behaviour(out, "after", found, said)
    assert sum(out.marks["stops"]["after"].values()) == 3
    assert sorted(out.marks["distinct"]["after"].values()) == [0.5, 0.5, 1.0]  # 2 pairs of words, 3 times said


def test_a_file_of_rows_gives_prompts_with_their_answers_the_same_for_a_seed(tmp_path: Path) -> None:
    given = asking(tmp_path, fit.Config(), None, Scripted("after", long), file=prompts(tmp_path, 30))
    found = fit.heldout.rows(given, 5)
    assert found == fit.heldout.rows(given, 5) and len(found) == 5
    assert all(row.answer == f"Answer {row.line - 1}." for row in found)
    assert [row.line for row in found] == sorted(row.line for row in found)
