"""Every family on two kinds of tokenizers: ids against transformers, masks by looking for the answers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from wordmaking import words

from studio.data.records import Message
from studio.models.family import FAMILIES
from studio.render.labels import IGNORE
from studio.render.renderer import Renderer

TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}


def system(text: str) -> Message:
    return Message("system", text)


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, **more: Any) -> Message:
    return Message("assistant", text, **more)


TALKS = {
    "one": [user("What is the capital of France?"), answer("Paris.")],
    "system": [system("Be brief."), user("What is the capital of France?"), answer("Paris.")],
    "three": [user("a cat?"), answer("meow"), user("a dog?"), answer("woof"), user("a cow?"), answer("moo")],
    "system and three": [system("Be brief."), user("a cat?"), answer("meow"), user("a dog?"), answer("woof")],
    "spaces": [user("  two  spaces  "), answer("in  the middle")],
    "empty system": [system(""), user("hot?"), answer("cold")],
    "lines": [system("One.\n\nTwo."), user("first\nsecond\n\nthird"), answer("- one\n- two\n\nthree")],
    "untrained": [user("a cat?"), answer("meow", train=False), user("a dog?"), answer("woof")],
    "letters": [user("日本 é ﬁ 🐱?"), answer("é 日本 🐱")],
}
KINDS = ("bytes", "marks")


def theirs(renderer: Renderer, turns: Any, generate: bool = False, tools: Any = None) -> list[int]:
    ids = renderer.tokenizer.apply_chat_template(
        [turn.to_dict() for turn in turns],
        chat_template=renderer.source,
        tools=list(tools) if tools else None,
        add_generation_prompt=generate,
        tokenize=True,
        return_dict=False,
    )
    return list(ids)


@pytest.fixture(params=[(kind, name) for kind in KINDS for name in FAMILIES], ids=lambda p: "-".join(p))
def renderer(request: pytest.FixtureRequest) -> Renderer:
    kind, name = request.param
    return Renderer(words(kind, name), "", wanted=name)


def learned_runs(labels: list[int]) -> list[list[int]]:
    runs: list[list[int]] = []
    inside = False
    for label in labels:
        if label != IGNORE and not inside:
            runs.append([])
        inside = label != IGNORE
        if inside:
            runs[-1].append(label)
    return runs


def said(renderer: Renderer, run: list[int]) -> str:
    """What a learned stretch says, without the token that ends it and without thoughts."""
    assert run[-1] == renderer.stop_ids[0]
    assert renderer.stop_ids[0] not in run[:-1]
    return re.sub(r"<think>.*?</think>", "", renderer.decode(run[:-1], special=True), flags=re.DOTALL).strip()


@pytest.mark.parametrize("talk", TALKS)
def test_ids_are_transformers_and_exactly_the_answers_are_learned(renderer: Renderer, talk: str) -> None:
    messages = TALKS[talk]
    rows = renderer.plans(messages)
    taught = []
    for plan, row in zip(rows, renderer.encode(rows), strict=True):
        assert row.ids == theirs(renderer, plan.turns)
        assert all(label in (IGNORE, token) for token, label in zip(row.ids, row.labels, strict=True))
        learned = [i for i, turn in enumerate(plan.turns) if turn.role == "assistant" and turn.train]
        runs = learned_runs(row.labels)
        assert [said(renderer, run) for run in runs] == [plan.turns[i].content.strip() for i in learned]
        for index in learned:
            prompt = renderer.prompt(plan.turns[:index])
            assert prompt == theirs(renderer, plan.turns[:index], generate=True) == row.ids[: len(prompt)]
            assert row.labels[len(prompt) - 1] == IGNORE != row.labels[len(prompt)]
        taught += learned
    assert taught == [i for i, turn in enumerate(messages) if turn.role == "assistant" and turn.train]
    assert len(rows) == 1 or FAMILIES[renderer.family].rewrites


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.tools])
def test_tools_and_calls_are_written_and_calls_are_learned(kind: str, name: str) -> None:
    renderer = Renderer(words(kind, name), "", wanted=name)
    talk = [
        user("How is Oslo?"),
        answer("", tool_calls=(CALL,)),
        Message("tool", "12 degrees", name="weather"),
        answer("Mild."),
    ]
    rows = renderer.plans(talk, tools=[TOOL])
    runs = []
    for plan, row in zip(rows, renderer.encode(rows), strict=True):
        assert row.ids == theirs(renderer, plan.turns, tools=[TOOL])
        assert "Tells the weather." in row.text
        runs += learned_runs(row.labels)
    call, mild = (said(renderer, run) for run in runs)
    assert '"name": "weather"' in call and '{"city": "Oslo"}' in call and "12 degrees" not in call
    assert mild == "Mild."


def test_a_row_that_is_trusted_is_the_row_that_is_checked(renderer: Renderer) -> None:
    """Families that never rewrite are taken at their marks' word: it is what rendering each beginning finds."""
    if FAMILIES[renderer.family].rewrites:
        pytest.skip("is always checked")
    plans = [renderer.plan(talk) for talk in TALKS.values()]
    renderer.template._linear = False
    assert plans == [renderer.plan(talk) for talk in TALKS.values()]


def test_what_a_family_says_of_itself_is_so(renderer: Renderer) -> None:
    family = FAMILIES[renderer.family]
    text = renderer.template.text([user("QUESTION")], generate=True)
    assert text.startswith(renderer.tokenizer.bos_token) == family.bos
    assert (family.end_of_turn or renderer.tokenizer.eos_token) == renderer.stop_tokens[0]
    both = renderer.template.text([system("SYSTEM"), user("QUESTION"), answer("ANSWER"), user("AGAIN")], generate=True)
    places = {word: both.index(word) for word in ("SYSTEM", "QUESTION", "ANSWER", "AGAIN")}
    assert (places["SYSTEM"] > places["ANSWER"]) == (family.system == "last")
    if not family.injects:
        assert len(text) < 130
    assert "{% generation %}" not in family.template and "generation %" in family.marked
    thought = [user("q"), answer("a", reasoning="deep thought")]
    assert ("deep thought" in renderer.template.text(thought)) == bool(family.thinks) == renderer.thinks
    rewriting = [
        TALKS["three"],
        TALKS["system and three"],
        [user("q"), answer("a", reasoning="hm"), user("q"), answer("b", reasoning="hm")],
    ]
    assert any(len(renderer.plans(talk)) > 1 for talk in rewriting) == bool(family.rewrites)
    assert renderer.rewrites == family.rewrites
