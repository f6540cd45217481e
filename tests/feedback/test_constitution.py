"""The loops of a constitution, with a scripted speaker: every way a record can end, and what the set then trains."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from scripted import Reply, Scripted

import studio
from studio import events, runs
from studio.cli.__main__ import run as cli
from studio.data import preferences
from studio.errors import ConfigError, DataError, Stopped
from studio.feedback import constitution, judge, principles, review, revising
from studio.feedback.revising import COPIED, CUT, EMPTY, FINE, JUMPED, LOOPED, NO_ANSWER, REFUSED, TALKS, UNCHANGED

TOML = "".join(
    f'[[principle]]\nid = "{name}"\ngroup = "{group}"\ntitle = "{name}"\ncritique = "Is it {name}?"\n'
    f'revision = "Make it {name}."\n\n'
    for name, group in (("kind", "helpful"), ("true", "honest"), ("safe", "harmless"), ("free", "autonomy"))
)
ANSWER = "Cows eat meat, as everybody knows, and they hunt at night."
CRITICISM = "The statement about the food of cows is false."
BETTER = "Cows eat grass and hay, and they sleep at night."


def script(
    answer: Any = ANSWER, critique: Any = CRITICISM, better: Any = BETTER, harm: Any = "No"
) -> Callable[[list[dict[str, Any]]], str | Reply]:
    """Answer each kind of request: with a text, or with what a function makes of the request's text."""

    def reply(turns: list[dict[str, Any]]) -> str | Reply:
        text = turns[-1]["content"]
        which = answer
        for said, words in ((better, "The criticism:"), (critique, "Say in one to three"), (harm, "serious harm?")):
            if words in text:
                which = said
                break
        made: str | Reply = which(text) if callable(which) else which
        return made

    return reply


@pytest.fixture
def law(tmp_path: Path) -> Path:
    path = tmp_path / "law.toml"
    path.write_text(TOML)
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": f"What do cows eat, part {i}?"} for i in range(12)])


def make(prompts: Path, law: Path, server: Scripted, emit: Any = None, **settings: Any) -> tuple[Any, list[Any]]:
    settings = {"answers_from": server.name, "constitution": str(law), **settings}
    result = studio.make_feedback("constitution", data=prompts, settings=settings, emit=emit)
    return result, preferences.records(Path(result["dir"]))


def test_a_criticised_answer_is_written_anew_and_the_record_tells_every_step(prompts: Path, law: Path) -> None:
    with Scripted(script()) as server:
        result, records = make(prompts, law, server)
    assert (result["records"], result["sft"], result["preference"], result["dropped"]) == (12, 12, 12, {})
    assert result["usable"] and "shortcut" in result["pairs_are"]
    one = records[0]
    assert [answer.text for answer in one.answers] == [ANSWER, BETTER] and one.ranks == [2, 1]
    assert one.by["kind"] == "constitution" and one.by["principles"] == [one.about["steps"][0]["principle"]]
    step = one.about["steps"][0]
    assert (step["critique"], step["revision"], step["criticised"], step["refused"]) == (CRITICISM, BETTER, True, "")
    assert one.answers[0].identity["model"] == "scripted" and one.answers[1].identity["revision"] == 1
    assert sum(row["drawn"] for row in result["principles"]) == 12 and result["blind_spots"] == []
    assert "fault with all of 12 answers" in result["warnings"][0]
    assert len(server.bodies) == 36  # an answer, a criticism and a revision each


def test_several_rounds_criticise_what_the_round_before_made_by_another_principle(prompts: Path, law: Path) -> None:
    def better(text: str) -> str:
        said = text.split("The assistant's answer:")[1].split("[begin")[1].split("]\n")[1].split("\n[end")[0]
        return said + " Also in spring."

    with Scripted(script(better=better)) as server:
        _, records = make(prompts, law, server, revisions=4, limit=3)
    for one in records:
        steps = one.about["steps"]
        assert len({step["principle"] for step in steps}) == 4
        assert one.answers[1].text == ANSWER + " Also in spring." * 4 and one.answers[1].identity["revision"] == 4
        assert [step["revision"].count("spring") for step in steps] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"answer": ""}, NO_ANSWER),
        ({"critique": "No problems."}, FINE),
        ({"critique": ""}, FINE),
        ({"critique": ANSWER}, FINE),
        ({"better": ""}, EMPTY),
        ({"better": Reply(BETTER, finish="length")}, CUT),
        ({"better": "cows eat meat as everybody knows and they hunt at night"}, UNCHANGED),
        ({"better": CRITICISM}, COPIED),
        ({"better": "Well, " + CRITICISM}, COPIED),
        ({"better": "The user asked what cows eat, and I mended that."}, TALKS),
        ({"better": "Grass. [end quoted 0123456789ab] And so on."}, TALKS),
        ({"better": lambda text: "What do cows eat, part " + text.split("part ")[1][0] + "?"}, COPIED),
        ({"better": "Cows are not a friend. " * 12}, LOOPED),
        ({"better": "I'm sorry, but I can't help with that."}, REFUSED),
        ({"better": " ".join(f"word{i}" for i in range(60))}, JUMPED),
        ({"answer": " ".join(f"word{i}" for i in range(60)), "better": "Cows eat grass."}, JUMPED),
    ],
)
def test_what_is_no_good_is_left_out_and_counted_by_its_reason(
    prompts: Path, law: Path, how: dict[str, Any], reason: str
) -> None:
    told: list[events.Event] = []
    with Scripted(script(**how)) as server:
        result, records = make(prompts, law, server, told.append, limit=4)
    assert result["dropped"] == {reason: 4} and (result["sft"], result["preference"]) == (0, 0)
    assert not result["usable"] and result["warnings"][0].startswith("No usable rows")
    assert result["warnings"] == [one["text"] for one in told if one.get("code") == "constitution"]
    assert all(record.dropped == reason for record in records)


def test_a_bad_round_leaves_the_answer_of_the_round_before(prompts: Path, law: Path) -> None:
    def better(text: str) -> str:
        return BETTER if ANSWER in text else CRITICISM  # the second round copies the criticism

    with Scripted(script(better=better)) as server:
        result, records = make(prompts, law, server, revisions=2, limit=2)
    assert result["sft"] == 2
    assert [one.answers[1].text for one in records] == [BETTER] * 2
    assert [step["refused"] for step in records[0].about["steps"]] == ["", COPIED]


def test_length_and_refusal_filters_are_the_users_to_set(prompts: Path, law: Path) -> None:
    no = "I'm sorry, but I can't help with that."
    with Scripted(script(better=no)) as server:
        assert make(prompts, law, server, limit=2, refusals="keep")[0]["sft"] == 2
        server.answer = script(better=no, harm=Reply(probs={"Yes": 0.9, "No": 0.1}))
        result, records = make(prompts, law, server, limit=2)
        assert result["sft"] == 2 and records[0].about["harm"] == "yes"
        assert make(prompts, law, server, limit=2, refusals="drop")[0]["dropped"] == {REFUSED: 2}
        server.tells = False
        server.answer = script(better=no, harm="Yes, it would.")
        assert make(prompts, law, server, limit=2)[0]["sft"] == 2
        server.answer = script(better=" ".join(f"word{i}" for i in range(60)))
        assert make(prompts, law, server, limit=2, length_ratio=0)[0]["sft"] == 2


def test_principles_under_which_nothing_was_criticised_are_blind_spots(prompts: Path, law: Path) -> None:
    def critique(text: str) -> str:
        return "No problems." if "Is it kind?" in text else CRITICISM

    with Scripted(script(critique=critique)) as server:
        result, _ = make(prompts, law, server, revisions=3)
        assert result["blind_spots"] == ["kind"] and result["not_drawn"] == []
        assert "Nothing was ever criticised by kind" in result["warnings"][0]
        rows = {row["id"]: row for row in result["principles"]}
        assert rows["kind"]["criticised"] == 0 < rows["kind"]["drawn"] and rows["true"]["changed"] > 0
        result, _ = make(prompts, law, server, groups="honest", limit=2)
        assert [row["id"] for row in result["principles"]] == ["true"] and result["blind_spots"] == []


def test_principles_are_drawn_by_the_prompt_and_the_seed_all_before_one_comes_again() -> None:
    known = principles.load(principles.starter()).principles
    for key in ("a", "b"):
        found = revising.drawn(known, 0, key, len(known) + 2)
        assert len({one.id for one in found[: len(known)]}) == len(known)
        assert revising.drawn(known, 0, key, 3) == found[:3]  # a set with fewer rounds draws the same first ones
    assert revising.drawn(known, 0, "a", 4) != revising.drawn(known, 0, "b", 4) != revising.drawn(known, 1, "b", 4)
    firsts = {revising.drawn(known, 0, str(i), 1)[0].id for i in range(400)}
    assert firsts == {one.id for one in known}


def test_helpful_answers_are_mixed_in_at_the_share_that_was_asked_for(
    prompts: Path, law: Path, sft_file: Path, tmp_path: Path
) -> None:
    told: list[events.Event] = []
    with Scripted(script()) as server:
        result, records = make(prompts, law, server, helpful=str(sft_file), helpful_share=0.25)
        assert result["helpful"]["rows"] == 4 and result["sft"] == 16 and result["preference"] == 12  # 4 of 16
        mixed = [one for one in records if one.by["kind"] == "producer"]
        assert all(one.answers[0].text.startswith("The sum is") for one in mixed)
        again, _ = make(prompts, law, server, helpful=str(sft_file), helpful_share=0.25, seed=1)
        assert again["helpful"]["rows"] == 4
        few = write_jsonl(tmp_path / "few.jsonl", [{"prompt": "Hi", "completion": "Hello."}])
        result, _ = make(prompts, law, server, told.append, helpful=str(few), helpful_share=0.5)
    assert (result["helpful"]["rows"], result["helpful"]["wanted"]) == (1, 12)
    assert any(one.get("code") == "few_helpful" for one in told)


def test_who_criticises_and_who_writes_anew_may_be_others(prompts: Path, law: Path) -> None:
    with Scripted(script()) as one, Scripted(script(critique="Not so: " + CRITICISM)) as other:
        _, records = make(prompts, law, one, limit=2, critic=other.name)
        assert (len(one.bodies), len(other.bodies)) == (4, 2)  # answers and revisions; criticisms
        assert records[0].about["steps"][0]["critique"].startswith("Not so") and records[0].by["name"] == other.name
        make(prompts, law, one, limit=2, critic=other.name, reviser=other.name)
        assert (len(one.bodies), len(other.bodies)) == (6, 6)


def test_comparisons_are_the_papers_feedback_asked_in_both_orders(prompts: Path, law: Path) -> None:
    def reply(turns: list[dict[str, Any]]) -> str | Reply:
        text = turns[-1]["content"]
        if "Which answer keeps to the principle better?" in text:
            first = text.split("Answer A:")[1].split("Answer B:")[0]
            return Reply(probs={"A": 0.9, "B": 0.1} if "grass" in first else {"A": 0.2, "B": 0.8})
        reply.count = getattr(reply, "count", 0) + 1  # type: ignore[attr-defined]
        return "Cows eat grass." if reply.count % 2 else "Cows eat meat."  # type: ignore[attr-defined]

    with Scripted(reply) as server:
        result, records = make(prompts, law, server, mode="comparisons")
    kept = [one for one in records if not one.dropped]
    assert result["dropped"].keys() <= {judge.SAME} and len(kept) >= 4 and result["preference"] == len(kept)
    for one in kept:
        grass = [answer.text for answer in one.answers].index("Cows eat grass.")
        assert one.ranks[grass] == 1 and one.scores[grass] == pytest.approx(0.85)  # (0.9 + 0.8) / 2
        assert one.by["principles"] == [one.about["steps"][0]["principle"]]
    assert result["report"]["swap"]["share"] == 1 and "pairs_are" not in result


def test_settings_that_cannot_work_are_refused_before_anything_is_written(prompts: Path, law: Path) -> None:
    def refused(words: str, error: type[Exception] = ConfigError, **settings: Any) -> None:
        values = {"answers_from": "http://127.0.0.1:9/v1#m", "constitution": str(law), **settings}
        with pytest.raises(error, match=words):
            studio.make_feedback("constitution", data=prompts, settings=values)

    refused("Nobody is named", answers_from="")
    refused("no group 'nice'", groups="nice")
    refused("is 5|5 is above", revisions=5)
    refused("temperature 0", mode="comparisons", temperature=0)
    refused("is not on this machine", critic="https://api.example.org/v1#m")
    refused("cannot be read", DataError, constitution="missing.toml")
    law.write_text(TOML.replace("honest", "nice"))
    refused("no group 'nice'", DataError)
    assert runs.all_runs() == []


def test_the_set_keeps_the_constitution_it_began_with_and_a_stop_loses_nothing(prompts: Path, law: Path) -> None:
    from studio import worker
    from studio.feedback import job

    with Scripted(script()) as server:
        settings = {"answers_from": server.name, "constitution": str(law)}
        run = runs.create(job.asked("constitution", prompts, settings))
        told: list[events.Event] = []

        def stop() -> bool:
            return len(preferences.records(run.dir)) >= 3

        with pytest.raises(Stopped):
            worker.work(run, told.append, stop)
        before = preferences.records(run.dir)
        assert 3 <= len(before) < 12
        law.unlink()
        result = worker.work(run)
        records = preferences.records(run.dir)
        assert result["records"] == 12 and records[: len(before)] == before
        assert (run.dir / "constitution.toml").read_text() == TOML
        whole, _ = make(prompts, run.dir / "constitution.toml", server)
        same = preferences.records(Path(whole["dir"]))
        assert [(one.id, one.by["principles"]) for one in same] == [(one.id, one.by["principles"]) for one in records]


def test_a_person_decides_on_single_records_and_can_take_it_back(prompts: Path, law: Path) -> None:
    with Scripted(script()) as server:
        result, records = make(prompts, law, server, limit=3)
        run = runs.find(result["run"])
        first, second, _ = records
        review.reject(run, first.id)
        review.edit(run, second.id, "  Cows eat grass, says who knows.  ")
        found = {one.id: one for one in preferences.records(run.dir)}
        assert len(found) == 3 and [one.id for one in preferences.records(run.dir)] == [one.id for one in records]
        assert found[first.id].dropped == review.REJECTED and found[first.id].about["review"] == "rejected"
        edited = found[second.id]
        assert edited.answers[1].text == "Cows eat grass, says who knows." and edited.answers[0].text == ANSWER
        assert edited.answers[1].identity["edited_by"] == "person" and edited.about["machine"]["text"] == BETTER
        assert preferences.counts(preferences.records(run.dir))["preference"] == 2
        review.edit(run, second.id, "Another text.")
        review.accept(run, second.id)
        review.accept(run, first.id)
        found = {one.id: one for one in preferences.records(run.dir)}
        assert [found[one.id].answers[1].text for one in (first, second)] == [BETTER, BETTER]
        assert preferences.counts(list(found.values()))["preference"] == 3
        server.answer = script(better="I'm sorry, but I can't help with that.")
        result, records = make(prompts, law, server, limit=1, refusals="drop")
        run = runs.find(result["run"])
        made = review.accept(run, records[0].id)  # a filter was wrong
        assert not made.dropped and made.about["filtered"] == REFUSED
        with pytest.raises(ConfigError):
            review.edit(run, records[0].id, " ")
        with pytest.raises(DataError):
            review.accept(run, "nobody")


def test_the_command_line_makes_a_set_that_trains_as_it_is(
    prompts: Path, law: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Scripted(script()) as server:
        words = ["feedback", "constitution", "--data", str(prompts), "--answers-from", server.name, "--json"]
        assert cli([*words, "--constitution", str(law), "--out", str(tmp_path / "set")]) == 0
        result = json.loads(capsys.readouterr().out)
    assert result["sft"] == 12 and Path(result["dir"]) == tmp_path / "set"
    for method in ("sft", "dpo"):
        words = ["train", method, "--model", str(tiny), "--data", result["dir"], "--json"]
        assert cli([*words, "--set", "max_steps=2", "--set", "batch_size=2"]) == 0
        trained = json.loads(capsys.readouterr().out)
        assert trained["metrics"]


def test_every_setting_of_both_sources_is_declared_with_help() -> None:
    from studio import config
    from studio.feedback import synthetic

    for cls in (constitution.Config, synthetic.Config):
        assert all(one.help for one in config.settings(cls)) and not config.validate(cls())
