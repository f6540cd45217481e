"""Blind votes and the token view: nothing tells who answered before the vote, and nothing of a model is HTML."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import spoken
from test_parts import PAYLOADS

from studio import runs
from studio.data import votes
from studio.errors import InputError
from studio.ui import chatset, chattokens, chatview, chatvote, choice, live, talk
from studio.ui.chatopen import Who
from studio.ui.chattokens import Token

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture
def run(trained: Path, home: Path) -> Iterator[runs.Run]:
    yield spoken.copy(trained, home)
    chattokens.close()
    talk.unload()


def blind(text: str, order: tuple[int, int], before: Any = ()) -> list[talk.Turn]:
    turn = {"user": text, "seed": 0, "blind": {"order": list(order), "choice": "", "on": ""}}
    who = Who.now(live.look(), chatset.Asked(max_tokens=12))
    return list(talk.answer([*before, turn], who))[-1]


@pytest.mark.parametrize(("order", "choice_", "winner"), [((0, 1), "a", 0), ((1, 0), "a", 1), ((1, 0), "b", 0)])
def test_a_vote_keeps_who_stood_where(run: runs.Run, order: tuple[int, int], choice_: str, winner: int) -> None:
    (turn,) = blind("1 + 1?", order)
    chatvote.vote(choice_)
    (vote,) = votes.all()
    assert [vote.a.text, vote.b.text] == [turn["answers"][index] for index in order]
    names = [vote.a.identity["name"], vote.b.identity["name"]]
    assert names == [turn["who"][index]["name"] for index in order] and all(vote.a.identity["sha256"] for _ in names)
    assert vote.prompt == [{"role": "user", "content": "1 + 1?"}] and vote.choice == choice_
    assert talk.turns()[0]["blind"]["on"] == turn["answers"][winner]
    with pytest.raises(InputError):  # each question is judged once
        chatvote.vote("b")
    assert len(votes.all()) == 1


def test_before_the_vote_nothing_tells_who_answered_and_after_it_both_are_named(run: runs.Run) -> None:
    choice.update(chat={"blind": True})
    (turn,) = blind("1 + 1?", (1, 0))
    scene, tuned = live.look(), turn["who"][1]
    page = "".join(chatview.head(s, scene) + chatview.body(s, scene, [turn]) for s in (0, 1)) + chatvote.card(scene)
    telling = (tuned["name"], "Base", tuned["sha256"][:6], tuned["adapter_sha256"][:6], "tokens/s", "first after")
    assert not [word for word in telling if word and word in page]
    chatvote.vote("tie")
    shown = chatview.body(0, live.look(), talk.turns())
    assert tuned["name"].split(" · ")[1] in shown and "tie" in shown


def test_both_sides_go_on_from_the_answer_that_won_or_was_written(run: runs.Run) -> None:
    blind("1 + 1?", (0, 1))
    chatvote.vote("b", "It is 2.")
    assert votes.all()[0].edited == "It is 2."
    turns = [*talk.turns(), {"user": "And 2 + 2?"}]
    said = [[turn["content"] for turn in talk.history(turns, index)] for index in (0, 1)]
    assert said[0] == said[1] == ["1 + 1?", "It is 2.", "And 2 + 2?"]


def test_the_win_rate_is_of_these_two_with_its_interval(run: runs.Run) -> None:
    for choice_ in ("b", "b", "a"):
        blind("1 + 1?", (0, 1))
        chatvote.vote(choice_)
    # Wilson, by hand: p = 2/3, n = 3, z = 1.96: 0.208 to 0.939
    assert "won <b>67 %</b> of 3 votes" in chatvote.rate() and "21 to 94 %" in chatvote.rate()


def test_blind_questions_need_two_that_differ_and_begin_a_conversation(run: runs.Run) -> None:
    talk.keep([{"user": "Hi", "answers": ["a", "b"], "stats": [None, None]}])
    choice.update(chat={"left": f"run:{run.id}"})
    with pytest.raises(InputError, match="the same"):
        chatvote.switch(True)
    choice.update(chat={"left": "base"})
    chatvote.switch(True)
    assert chatvote.on(live.look()) and talk.turns() == []


def test_lots_fall_both_ways() -> None:
    assert {tuple(chatvote.draw_lots()["order"]) for _ in range(100)} == {(0, 1), (1, 0)}


def test_the_token_view_is_of_the_answer_under_both_models(run: runs.Run) -> None:
    who = Who.now(live.look(), chatset.Asked(max_tokens=12))
    (turn,) = list(talk.answer([{"user": "1 + 1?", "seed": 0}], who))[-1]
    chattokens.changes(who, 1)
    assert chattokens.card().count("data-st-says=") == turn["stats"][1]["tokens"] + 1  # and the end
    chattokens.prompt(who, "")
    assert "&lt;|im_start|&gt;" in chattokens.card() and chattokens.card().count('class="st-id"') > 8


def test_tokens_are_tinted_by_their_log_ratio_and_escaped() -> None:
    tokens = [Token("a", 0.01, 0.2), Token("b", 0.5, 0.5), Token("c", 0.4, 0.1), Token("", 0.1, 0.9)]
    drawn = chattokens.heat(tokens, ["<b>left</b>", "right"], 1)
    assert 'st-more" style="--h:100%"' in drawn and 'st-more" style="--h:0%"' in drawn
    assert f'st-less" style="--h:{100 * math.log(4) / math.log(20):.0f}%"' in drawn and "<b>left" not in drawn
    assert "“a”, 1.0 % → 20 %" in chattokens.said(tokens) and "ends here: 10 % → 90 %" in chattokens.said(tokens)
    for wicked in PAYLOADS:
        drawn = chattokens.heat([Token(wicked, 0.1, 0.2, 1, 0, ((wicked, 0.3),)), Token("", 0, 1)], ["a", "b"], 1)
        assert not any(f"<{tag}" in drawn for tag in ("script", "img", "iframe", "form", "svg", "style", "object"))


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(0.0, "as likely"), (math.log(3), "3.0 times as likely"), (-math.log(40), "40 times less likely")],
)
def test_ratios_are_said_in_words(ratio: float, words: str) -> None:
    assert chattokens._times(ratio) == words
