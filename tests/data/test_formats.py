"""Every format in its common dialects is found and read as its records say, written down by hand."""

from __future__ import annotations

from typing import Any

import pytest
from cases import BAD_CHAT, CHAT, GO, HELLO, HH, HI, SFT, SHARE, pair, talk
from morecases import PAIRS, PROMPTS, RATED
from reading import Row, a, call, find, msg, read, refused, s, turn, u

from studio.data.formats import rated
from studio.data.records import Conversation, Preference, Prompt, Rated, Record, Text


@pytest.mark.parametrize(("name", "row", "expected"), [c[1:] for c in SFT], ids=[c[0] for c in SFT])
def test_a_conversation_is_read(name: str, row: Row, expected: Conversation) -> None:
    found = find(row)
    assert found.format is not None
    assert (found.format.name, found.format.kind) == (name, "sft")
    assert read(row) == [expected]
    assert found.mapping and set(found.mapping) <= set(row)
    assert found.why.endswith(".")
    assert read(row, mapping=found.mapping) == [expected]


TRANSCRIPTS = {
    "ChatML": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n",
    "Llama 2": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nHi [/INST] Hello. </s>",
    "Llama 3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>",
    "Zephyr": "<|system|>\nBe kind.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n",
    "Alpaca": "Be kind.\n\n### Instruction:\nHi\n\n### Response:\nHello.",
    "Guanaco": "### System: Be kind.### Human: Hi### Assistant: Hello.",
}


@pytest.mark.parametrize("dialect", TRANSCRIPTS)
def test_a_text_that_is_a_whole_transcript_is_a_conversation(dialect: str) -> None:
    row = {"text": TRANSCRIPTS[dialect]}
    assert read(row) == [talk(s("Be kind."), HI, HELLO)]
    assert read(row, kind="text") == [Text(row["text"], 1)]


def test_transcripts_without_a_system_role_are_conversations() -> None:
    gemma = "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
    alpaca = "Below is an instruction that describes a task.\n\n"
    alpaca += "### Instruction:\nAdd\n\n### Input:\n1, 2\n\n### Response:\n3"
    assert read({"text": gemma}) == read({"text": HH.format("Hello.")}) == [talk(HI, HELLO)]
    assert read({"text": alpaca}) == [talk(u("Add\n\n1, 2"), a("3"))]


@pytest.mark.parametrize(("name", "row"), [c[1:] for c in PAIRS], ids=[c[0] for c in PAIRS])
def test_a_pair_is_read(name: str, row: Row) -> None:
    found = find(row)
    assert found.format is not None
    assert (found.format.name, found.format.kind) == (name, "preference")
    assert read(row) == [pair(HI)]
    assert set(found.mapping) <= set(row)
    assert read(row, mapping=found.mapping) == [pair(HI)]
    assert read(row, kind="sft") == [talk(HI, HELLO)]


def test_a_pair_keeps_its_system_text_and_its_earlier_turns() -> None:
    row = {"system": "Be kind.", "question": "Hi", "chosen": "Hello.", "rejected": "Go."}
    assert read(row) == [pair(s("Be kind."), HI)]
    row = {
        "chosen": HH.format("A\n\nHuman: Hi\n\nAssistant: Hello."),
        "rejected": HH.format("A\n\nHuman: Hi\n\nAssistant: Go."),
    }
    assert read(row) == [pair(HI, a("A"), HI)]


def test_a_system_column_stands_before_conversations_that_have_none_of_their_own() -> None:
    row = {"system": "Be kind.", "prompt": "Hi", "chosen": CHAT, "rejected": BAD_CHAT}
    assert read(row) == [pair(s("Be kind."), HI)]
    own = [msg("system", "Own."), *CHAT]
    assert read({"messages": own, "system": "Be kind."}) == [talk(s("Own."), HI, HELLO)]


def test_answers_that_repeat_their_prompt_lose_it() -> None:
    asks = "What is a greeting?"
    row = {"prompt": asks, "chosen": f"{asks} Hello.", "rejected": f"{asks}\nGo."}
    assert read(row) == [pair(u(asks))]
    row = {"prompt": "I", "chosen": "I Hello.", "rejected": "I Go."}
    assert read(row) == [Preference((u("I"),), (a("I Hello."),), (a("I Go."),), 1)]


def test_a_label_inside_a_turn_is_text_and_two_answers_running_are_two() -> None:
    start = "\n\nHuman: Hi\n\nAssistant: One.\n\nAssistant: Human: two\n\nHuman: Hi\n\nAssistant: "
    assert read({"chosen": start + "Hello.", "rejected": start + "Go."}) == [pair(HI, a("One."), a("Human: two"), HI)]


@pytest.mark.parametrize(
    ("one", "other", "prompt"),
    [
        ("What is 2+2? Four", "What is 2+2? Five", "What is 2+2?"),
        ("Once upon a time a king", "Once upon a time a knight", "Once upon a time a"),
        ("Q: Name one.\nA: Rome", "Q: Name one.\nA: Roma", "Q: Name one.\nA:"),
        ("A question\n\nYes", "A question\n\nYour guess", "A question\n\n"),
    ],
)
def test_a_shared_beginning_is_split_at_the_edge_of_a_word(one: str, other: str, prompt: str) -> None:
    expected = Preference((u(prompt),), (a(one[len(prompt) :]),), (a(other[len(prompt) :]),), 1)
    assert read({"chosen": one, "rejected": other}) == [expected]


LABELS = [
    (True, False),
    (1, 0),
    ("1", "0"),
    ("yes", "no"),
    ("Good", "Bad"),
    ("thumbs_up", "thumbs_down"),
    ("👍", "👎🏽"),
    ("true", "False"),
    ("up", "down"),
    (1.0, 0.0),
    (1, -1),
    ("like", "dislike"),
]


@pytest.mark.parametrize(("good", "bad"), LABELS)
def test_a_label_is_read_however_it_is_written(good: Any, bad: Any) -> None:
    rows = [
        {"prompt": "Hi", "completion": "Hello.", "label": good},
        {"prompt": "Hi", "completion": "Go.", "label": bad},
    ]
    assert read(*rows) == [Rated((HI,), (HELLO,), True, 1), Rated((HI,), (GO,), False, 2)]
    assert read(*rows, kind="sft") == [talk(HI, HELLO)]


@pytest.mark.parametrize("row", [c[1] for c in RATED], ids=[c[0] for c in RATED])
def test_a_rated_answer_is_read(row: Row) -> None:
    found = find(row)
    assert (found.format and found.format.kind) == "kto"
    assert read(row) == read(row, mapping=found.mapping) == [Rated((HI,), (HELLO,), True, 1)]


@pytest.mark.parametrize(("row", "expected"), [c[1:] for c in PROMPTS], ids=[c[0] for c in PROMPTS])
def test_a_prompt_alone_is_read(row: Row, expected: Prompt) -> None:
    found = find(row)
    assert (found.format and found.format.kind) == "prompt"
    assert read(row) == read(row, mapping=found.mapping) == [expected]


def test_later_turns_of_a_prompt_are_told_of() -> None:
    row = {"turns": ["Hi", "Again"]}
    told: list[str] = []
    form = find(row).format
    assert form is not None
    form.read(row, 1, lambda code, remedy: told.append(code))
    assert told == ["later_turns"]


@pytest.mark.parametrize("row", [{"text": "A b."}, {"id": 1, "title": "T", "content": "A b."}, {"document": "A b."}])
def test_plain_text_is_read(row: Row) -> None:
    assert read(row) == [Text("A b.", 1)]


def node(text: str, role: str, *replies: Row, **more: Any) -> Row:
    return {"message_id": text, "text": text, "role": role, "replies": list(replies), **more}


TREE = node(
    "Hi",
    "prompter",
    node("Go.", "assistant", rank=2),
    node(
        "Hello.",
        "assistant",
        node("Bye", "prompter", node("A", "assistant", rank=1), node("B", "assistant", rank=0), node("C", "assistant")),
        rank=0,
    ),
    node("Gone.", "assistant", rank=0, deleted=True),
    node("Hm.", "assistant", rank=1),
)
BEST = [talk(HI, HELLO, u("Bye"), a("B"))]
RANKED = [pair(HI), Preference((HI, HELLO, u("Bye")), (a("B"),), (a("A"),), 1)]


def test_the_best_ranked_path_of_a_tree_is_the_conversation_and_its_ranks_are_pairs() -> None:
    row = {"message_tree_id": "Hi", "tree_state": "ready", "prompt": TREE}
    assert read(row) == BEST
    assert read(row, kind="preference") == RANKED
    told: list[str] = []
    form = find(row, kind="preference").format
    assert form is not None
    form.read(row, 1, lambda code, remedy: told.append(code))
    assert told == ["no_rank"]


def test_a_reply_with_a_rank_comes_before_one_without() -> None:
    tree = node("Hi", "prompter", node("Go.", "assistant"), node("Hello.", "assistant", rank=1))
    assert read({"prompt": tree}) == [talk(HI, HELLO)]


def test_flat_messages_are_gathered_by_their_tree() -> None:
    def flat(here: Row, parent: str | None) -> list[Row]:
        row = {"parent_id": parent, "message_tree_id": "Hi", **here}
        replies = row.pop("replies")
        return [row, *(each for reply in replies for each in flat(reply, here["message_id"]))]

    rows = flat(TREE, None)
    found = find(*reversed(rows))
    assert (found.format and found.format.group) == "message_tree_id"
    assert read(*rows) == BEST
    assert read(*reversed(rows), kind="preference")[0] == RANKED[0]


def test_rows_that_are_messages_are_one_conversation_or_several_told_apart_by_a_column() -> None:
    assert read(*CHAT) == [talk(HI, HELLO)]
    assert find(*CHAT).format.group == "*"  # type: ignore[union-attr]
    assert find(*({"conversation_id": 7, **row} for row in CHAT)).format.group == "conversation_id"  # type: ignore[union-attr]


def test_every_instance_of_a_task_is_a_conversation() -> None:
    row = {"instruction": "Add", "instances": [{"input": "1", "output": "1"}, {"input": "1, 2", "output": "3"}]}
    assert read(row) == [talk(u("Add\n\n1"), a("1")), talk(u("Add\n\n1, 2"), a("3"))]


REFUSED: list[tuple[str, Row, Row, str, str]] = [
    (
        "an empty answer",
        {"messages": CHAT},
        {"messages": [CHAT[0], msg("assistant", " ")]},
        "messages[1].content",
        "empty",
    ),
    ("no role", {"messages": CHAT}, {"messages": [{"content": "Hi"}]}, "messages[0].role", "missing"),
    ("a strange role", {"messages": CHAT}, {"messages": [msg("wizard", "Hi")]}, "messages[0].role", "unknown role"),
    (
        "a picture",
        {"messages": CHAT},
        {"messages": [msg("user", [{"type": "image_url"}])]},
        "messages[0].content[0]",
        "image",
    ),
    ("no answer", {"messages": CHAT}, {"messages": CHAT[:1]}, "messages", "nothing to learn"),
    (
        "no answer that counts",
        {"messages": CHAT},
        {"messages": [CHAT[0], {**CHAT[1], "train": False}]},
        "messages",
        "every answer has weight 0: there is nothing to learn",
    ),
    (
        "no answer that counts beside a prompt",
        {"prompt": "Hi", "completion": CHAT[1:]},
        {"prompt": "Hi", "completion": [{**CHAT[1], "weight": 0}]},
        "completion",
        "every answer has weight 0",
    ),
    *(
        (
            f"a weight of {weight!r}",
            {"messages": CHAT},
            {"messages": [CHAT[0], {**CHAT[1], "weight": weight}]},
            "messages[1].weight",
            "expected a weight of 0 or 1",
        )
        for weight in (0.5, -1, 2, "heavy", [1])
    ),
    (
        "arguments that are no JSON",
        {"messages": CHAT},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
        "messages[0].tool_calls[0].arguments",
        "not valid JSON",
    ),
    (
        "a function call that is no JSON",
        {"conversations": SHARE},
        {"conversations": [SHARE[0], turn("function_call", "f(x)")]},
        "conversations[1].value",
        "not valid JSON",
    ),
    (
        "an object for a text",
        {"prompt": "Hi", "completion": "A"},
        {"prompt": "Hi", "completion": {"a": 1}},
        "completion[0].role",
        "missing",
    ),
    *(
        (
            f"{value!r} for a text",
            {"prompt": "Hi", "completion": "A"},
            {"prompt": "Hi", "completion": value},
            "completion",
            "expected text, found",
        )
        for value in (True, False)
    ),
    ("an empty cell", {"question": "Hi", "answer": "A"}, {"question": "Hi", "answer": ""}, "answer", "empty"),
    (
        "a pair of equals",
        {"prompt": "Hi", "chosen": "A", "rejected": "B"},
        {"prompt": "Hi", "chosen": "A", "rejected": "A"},
        "rejected",
        "the same",
    ),
    (
        "a pair that ends with a user's turn",
        {"chosen": CHAT, "rejected": BAD_CHAT},
        {"chosen": [*CHAT, msg("user", "thx")], "rejected": [*BAD_CHAT, msg("user", "hm")]},
        "chosen",
        "ends with the turn of the user",
    ),
    (
        "a rejected side without an answer",
        {"prompt": "Hi", "chosen": CHAT[1:], "rejected": BAD_CHAT[1:]},
        {"prompt": "Hi", "chosen": CHAT[1:], "rejected": [*BAD_CHAT[1:], msg("user", "hm")]},
        "rejected",
        "ends with the turn of the user",
    ),
    (
        "no prompt to be found",
        {"chosen": "A b c", "rejected": "A b d"},
        {"chosen": "Yes.", "rejected": "No."},
        "chosen",
        "no prompt",
    ),
    (
        "one word is no prompt",
        {"chosen": "A b c", "rejected": "A b d"},
        {"chosen": "The cat", "rejected": "The dog"},
        "chosen",
        "no prompt",
    ),
    (
        "one text is the beginning of the other",
        {"chosen": "A b c", "rejected": "A b d"},
        {"chosen": "A b c d", "rejected": "A b c"},
        "chosen",
        "no prompt",
    ),
    (
        "an empty last turn",
        {"chosen": HH.format("Hello."), "rejected": HH.format("Go.")},
        {"chosen": HH.format(""), "rejected": HH.format("Go.")},
        "chosen",
        "last turn is empty",
    ),
    (
        "a label that says nothing",
        {"prompt": "Hi", "completion": "A", "label": True},
        {"prompt": "Hi", "completion": "A", "label": "maybe"},
        "label",
        "expected a label",
    ),
    (
        "history of the wrong shape",
        {"instruction": "Hi", "output": "A", "history": [["a", "b"]]},
        {"instruction": "Hi", "output": "A", "history": [["a"]]},
        "history[0]",
        "question, answer",
    ),
    (
        "history that is none",
        {"instruction": "Hi", "output": "A", "history": [["a", "b"]]},
        {"instruction": "Hi", "output": "A", "history": True},
        "history",
        "true or false",
    ),
    (
        "instances without an answer",
        {"instruction": "Hi", "instances": [{"input": "", "output": "A"}]},
        {"instruction": "Hi", "instances": [{"input": "", "output": ""}]},
        "instances[0].output",
        "empty",
    ),
]


@pytest.mark.parametrize(("good", "bad", "field", "says"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_a_bad_row_is_refused_with_its_field_and_a_remedy(good: Row, bad: Row, field: str, says: str) -> None:
    error = refused(bad, good, good)
    assert error.field == field
    assert says in error.problem
    assert error.remedy


@pytest.mark.parametrize(("weight", "train"), [(1, True), (1.0, True), ("1", True), ("no", False), (0.0, False)])
def test_a_weight_is_0_or_1_however_it_is_written(weight: Any, train: bool) -> None:
    row = {"messages": [*CHAT, CHAT[0], {**CHAT[1], "weight": weight}]}
    assert read(row) == [talk(HI, HELLO, HI, a("Hello.", train=train))]


def test_calls_and_the_turns_that_answer_them_keep_their_ids_for_the_template() -> None:
    calls = [call("weather", "abcdefghi", city="Rome"), call("clock", "123456789")]
    rows = [msg("assistant", None, tool_calls=calls), msg("tool", "21 C", tool_call_id="123456789"), CHAT[1]]
    (made,) = read({"messages": [CHAT[0], *rows]})
    assert isinstance(made, Conversation)
    assert made.messages[1].to_dict()["tool_calls"] == calls
    assert made.messages[2].to_dict() == {
        "role": "tool", "content": "21 C", "name": "clock", "tool_call_id": "123456789",
    }  # fmt: skip


def test_pairs_that_differ_only_in_the_ids_of_calls_are_the_same() -> None:
    def side(id: str) -> list[Row]:
        return [msg("assistant", "", tool_calls=[call("clock", id)])]

    good = {"prompt": "Hi", "chosen": "A", "rejected": "B"}
    assert "the same" in refused({"prompt": "Hi", "chosen": side("a"), "rejected": side("b")}, good).problem


def test_ties_make_no_pair_and_are_told_of() -> None:
    tied = {"prompt": "Hi", "completions": [{"response": "A", "score": 3}, {"response": "B", "score": 3}]}
    told: list[str] = []
    form = find(tied).format
    assert form is not None
    assert form.read(tied, 1, lambda code, remedy: told.append(code)) == []
    assert told == ["tie"]


@pytest.mark.parametrize(
    ("numbers", "scale"),
    [
        ([1, 3, 5], (1, 5)),
        (["2", "9.5"], (1, 10)),
        ([0.1, 0.9], (0, 1)),
        ([0, 7], (0, 10)),
        ([12, 80], (0, 100)),
        ([0, 1, 4], (0, 4)),  # HelpSteer's: 2 is the middle
        ([0.0, 0.3, 1.5], (0, 1.5)),
        ([-2.5, 3.5], (-2.5, 3.5)),
        ([1, 1, 2], (1, 2)),
    ],
)
def test_numbers_are_on_a_scale_that_people_use_or_on_their_own(numbers: list[Any], scale: tuple[float, float]) -> None:
    assert rated.scale_of(numbers) == scale


def test_a_scale_is_read_as_wanted_unwanted_and_neither() -> None:
    rows = [{"prompt": "Hi", "completion": str(n), "rating": n} for n in (1, 2, 3, 4, 5)]
    made: list[Record] = read(*rows, mapping={"prompt": "prompt", "completion": "completion", "rating": "label"})
    assert [(record.completion[0].content, record.label) for record in made if isinstance(record, Rated)] == [
        ("1", False), ("2", False), ("4", True), ("5", True),
    ]  # fmt: skip
