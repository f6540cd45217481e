"""Every format in its common dialects is found and read as its records say, written down by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
from reading import Row, a, call, find, msg, read, refused, s, turn, u

from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Record, Text

HI, HELLO, GO = u("Hi"), a("Hello."), a("Go.")
CHAT = [msg("user", "Hi"), msg("assistant", "Hello.")]
BAD_CHAT = [msg("user", "Hi"), msg("assistant", "Go.")]
SHARE = [turn("human", "Hi"), turn("gpt", "Hello.")]
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
ASKED_TOOL = a("", tool_calls=(call("weather", city="Rome"),))
TOOL_TALK = (HI, ASKED_TOOL, Message("tool", "21 C"), HELLO)
HH = "\n\nHuman: Hi\n\nAssistant: {}"


def talk(*messages: Message, tools: tuple[dict[str, Any], ...] = ()) -> Conversation:
    return Conversation(messages, 1, tools)


def pair(*prompt: Message) -> Preference:
    return Preference(prompt, (HELLO,), (GO,), 1)


SFT: list[tuple[str, str, Row, Conversation]] = [
    ("OpenAI", "messages", {"messages": CHAT}, talk(HI, HELLO)),
    ("a conversation of role and content", "messages", {"id": 1, "conversation": CHAT}, talk(HI, HELLO)),
    ("a dialog", "messages", {"dialog": CHAT, "lang": "en"}, talk(HI, HELLO)),
    ("messages under a name of its own", "messages", {"data": CHAT}, talk(HI, HELLO)),
    ("messages as JSON text", "messages", {"messages": json.dumps(CHAT)}, talk(HI, HELLO)),
    (
        "a developer's text",
        "messages",
        {"messages": [msg("developer", "Be kind."), *CHAT]},
        talk(s("Be kind."), HI, HELLO),
    ),
    (
        "content in parts",
        "messages",
        {"messages": [msg("user", [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]), CHAT[1]]},
        talk(HI, HELLO),
    ),
    (
        "a thought apart",
        "messages",
        {"messages": [CHAT[0], msg("assistant", "Hello.", reasoning_content="A greeting.")]},
        talk(HI, a("Hello.", reasoning="A greeting.")),
    ),
    (
        "a thought as a part",
        "messages",
        {
            "messages": [
                CHAT[0],
                msg("assistant", [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Hello."}]),
            ]
        },
        talk(HI, a("Hello.", reasoning="Hm.")),
    ),
    (
        "weights",
        "messages",
        {"messages": [CHAT[0], msg("assistant", "No.", weight=0), CHAT[0], msg("assistant", "Hello.", weight=1)]},
        talk(HI, a("No.", train=False), HI, HELLO),
    ),
    (
        "tool calls with arguments as text, and an answer by id",
        "messages",
        {
            "messages": [
                CHAT[0],
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "c1",
                            "type": "function",
                            "function": {"name": "weather", "arguments": '{"city": "Rome"}'},
                        }
                    ],
                },
                {"role": "tool", "tool_call_id": "c1", "content": "21 C"},
                CHAT[1],
            ],
            "tools": [WEATHER],
        },
        talk(HI, ASKED_TOOL, Message("tool", "21 C", name="weather"), HELLO, tools=(WEATHER,)),
    ),
    (
        "tool calls with arguments as an object, tools as text",
        "messages",
        {
            "messages": [
                CHAT[0],
                {"role": "assistant", "tool_calls": [{"name": "weather", "arguments": {"city": "Rome"}}]},
                msg("tool", "21 C"),
                CHAT[1],
            ],
            "tools": json.dumps([WEATHER["function"]]),
        },
        talk(*TOOL_TALK, tools=(WEATHER,)),
    ),
    (
        "the old function_call",
        "messages",
        {
            "messages": [
                CHAT[0],
                {
                    "role": "assistant",
                    "content": None,
                    "function_call": {"name": "weather", "arguments": '{"city": "Rome"}'},
                },
                msg("function", "21 C", name="weather"),
                CHAT[1],
            ],
            "functions": [WEATHER["function"]],
        },
        talk(HI, ASKED_TOOL, Message("tool", "21 C", name="weather"), HELLO, tools=(WEATHER,)),
    ),
    ("ShareGPT", "sharegpt", {"id": "x", "conversations": SHARE}, talk(HI, HELLO)),
    (
        "ShareGPT with a system column",
        "sharegpt",
        {"conversations": SHARE, "system": "Be kind."},
        talk(s("Be kind."), HI, HELLO),
    ),
    (
        "ShareGPT with a system turn",
        "sharegpt",
        {"conversations": [turn("system", "Be kind."), *SHARE]},
        talk(s("Be kind."), HI, HELLO),
    ),
    (
        "ShareGPT with tools",
        "sharegpt",
        {
            "conversations": [
                SHARE[0],
                turn("function_call", '{"name": "weather", "arguments": {"city": "Rome"}}'),
                turn("observation", "21 C"),
                SHARE[1],
            ],
            "tools": json.dumps([WEATHER["function"]]),
        },
        talk(*TOOL_TALK, tools=(WEATHER,)),
    ),
    (
        "ShareGPT with other names",
        "sharegpt",
        {"conversations": [turn("User", "Hi"), turn("bot", "Hello.")]},
        talk(HI, HELLO),
    ),
    (
        "questions with their answers",
        "exchanges",
        {"conversation": [{"input": "Hi", "output": "Hello."}]},
        talk(HI, HELLO),
    ),
    ("Alpaca", "alpaca", {"instruction": "Hi", "input": "", "output": "Hello."}, talk(HI, HELLO)),
    (
        "Alpaca with an input",
        "alpaca",
        {"instruction": "Add", "input": "1, 2", "output": "3"},
        talk(u("Add\n\n1, 2"), a("3")),
    ),
    (
        "Alpaca with the rendered text",
        "alpaca",
        {"instruction": "Hi", "output": "Hello.", "text": "Below ..."},
        talk(HI, HELLO),
    ),
    (
        "Alpaca with history and system",
        "alpaca",
        {"instruction": "Hi", "output": "Hello.", "history": [["A", "B"]], "system": "Be kind."},
        talk(s("Be kind."), u("A"), a("B"), HI, HELLO),
    ),
    (
        "Dolly",
        "dolly",
        {"instruction": "Hi", "context": "A greeting.", "response": "Hello.", "category": "open_qa"},
        talk(u("Hi\n\nA greeting."), HELLO),
    ),
    ("prompt and completion", "prompt_completion", {"prompt": "Hi", "completion": "Hello."}, talk(HI, HELLO)),
    ("prompt and response", "prompt_completion", {"prompt": "Hi", "response": "Hello."}, talk(HI, HELLO)),
    ("question and answer", "prompt_completion", {"question": "Hi", "answer": "Hello."}, talk(HI, HELLO)),
    ("Question and Answer", "prompt_completion", {"Question": "Hi", "Answer ": "Hello."}, talk(HI, HELLO)),
    ("query and response", "prompt_completion", {"query": "Hi", "response": "Hello."}, talk(HI, HELLO)),
    ("input and output", "prompt_completion", {"input": "Hi", "output": "Hello."}, talk(HI, HELLO)),
    ("text and target", "prompt_completion", {"text": "Hi", "target": "Hello."}, talk(HI, HELLO)),
    ("instruction and response", "prompt_completion", {"instruction": "Hi", "response": "Hello."}, talk(HI, HELLO)),
    ("problem and solution", "prompt_completion", {"problem": "Hi", "solution": "Hello."}, talk(HI, HELLO)),
    ("user and assistant", "prompt_completion", {"user": "Hi", "assistant": "Hello."}, talk(HI, HELLO)),
    (
        "a system prompt beside a question",
        "prompt_completion",
        {"id": "q.1", "system_prompt": "Be kind.", "question": "Hi", "response": "Hello."},
        talk(s("Be kind."), HI, HELLO),
    ),
    (
        "prompt and completion as messages",
        "prompt_completion",
        {"prompt": CHAT[:1], "completion": CHAT[1:]},
        talk(HI, HELLO),
    ),
    ("an answer that is a number", "prompt_completion", {"question": "1+1?", "answer": 2}, talk(u("1+1?"), a("2"))),
    (
        "an answer that is JSON",
        "prompt_completion",
        {"prompt": "Hi", "completion": '[{"a": 1}]'},
        talk(HI, a('[{"a": 1}]')),
    ),
    (
        "a prompt that is a transcript",
        "prompt_completion",
        {"prompt": HH.format("").rstrip(), "completion": " Hello."},
        talk(HI, HELLO),
    ),
    (
        "self-instruct",
        "self_instruct",
        {"id": "t", "instruction": "Hi", "instances": [{"input": "", "output": "Hello."}], "is_classification": False},
        talk(HI, HELLO),
    ),
]


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


PAIRS: list[tuple[str, str, Row]] = [
    ("three texts", "preference", {"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."}),
    ("three lists", "preference", {"prompt": CHAT[:1], "chosen": CHAT[1:], "rejected": BAD_CHAT[1:]}),
    ("single messages", "preference", {"prompt": "Hi", "chosen": CHAT[1], "rejected": BAD_CHAT[1]}),
    ("whole conversations", "preference", {"chosen": CHAT, "rejected": BAD_CHAT}),
    ("whole conversations and the prompt", "preference", {"prompt": "Hi", "chosen": CHAT, "rejected": BAD_CHAT}),
    (
        "UltraFeedback, binarized",
        "preference",
        {"prompt": "Hi", "prompt_id": "x", "chosen": CHAT, "rejected": BAD_CHAT, "messages": CHAT, "score_chosen": 8.0},
    ),
    ("LLaMA-Factory", "preference", {"conversations": SHARE[:1], "chosen": SHARE[1], "rejected": turn("gpt", "Go.")}),
    ("Alpaca with a pair", "preference", {"instruction": "Hi", "input": "", "chosen": "Hello.", "rejected": "Go."}),
    ("StackExchange", "preference", {"question": "Hi", "response_j": "Hello.", "response_k": "Go."}),
    ("better and worse", "preference", {"prompt": "Hi", "better": "Hello.", "worse": "Go."}),
    ("responses", "preference", {"prompt": "Hi", "chosen_response": "Hello.", "rejected_response": "Go."}),
    ("win and lose", "preference", {"query": "Hi", "win": "Hello.", "lose": "Go."}),
    ("positive and negative", "preference", {"query": "Hi", "positive": "Hello.", "negative": "Go."}),
    (
        "OpenAI's preferences",
        "preference",
        {"input": {"messages": CHAT[:1]}, "preferred_output": CHAT[1:], "non_preferred_output": BAD_CHAT[1:]},
    ),
    ("transcripts", "preference", {"chosen": HH.format("Hello."), "rejected": HH.format("Go.")}),
    (
        "an answer that is the chosen one",
        "preference",
        {"prompt": "Hi", "response": "Hello.", "chosen": "Hello.", "rejected": "Go."},
    ),
    (
        "UltraFeedback",
        "scored",
        {
            "instruction": "Hi",
            "completions": [
                {"response": "Go.", "overall_score": 2.0},
                {"response": "Hello.", "overall_score": 8.5},
                {"response": "Hm.", "overall_score": 5},
            ],
        },
    ),
    ("ranks", "scored", {"prompt": "Hi", "answers": [{"answer": "Go.", "rank": 7}, {"answer": "Hello.", "rank": 1}]}),
    ("scores beside", "scored", {"prompt": "Hi", "responses": ["Go.", "Hello."], "scores": [0.1, 0.9]}),
    ("a better id", "compared", {"prompt": "Hi", "response_0": "Go.", "response_1": "Hello.", "better_response_id": 1}),
    ("an arena", "compared", {"conversation_a": CHAT, "conversation_b": BAD_CHAT, "winner": "model_a"}),
]


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


RATED: list[tuple[str, Row]] = [
    ("messages", {"messages": CHAT, "label": True}),
    ("ShareGPT", {"conversations": SHARE, "label": True}),
    ("Alpaca", {"instruction": "Hi", "input": "", "output": "Hello.", "kto_tag": True}),
    ("a vote", {"question": "Hi", "answer": "Hello.", "vote": "up"}),
    ("message lists", {"prompt": CHAT[:1], "completion": CHAT[1:], "label": True}),
]


@pytest.mark.parametrize("row", [c[1] for c in RATED], ids=[c[0] for c in RATED])
def test_a_rated_answer_is_read(row: Row) -> None:
    found = find(row)
    assert (found.format and found.format.kind) == "kto"
    assert read(row) == read(row, mapping=found.mapping) == [Rated((HI,), (HELLO,), True, 1)]


PROMPTS: list[tuple[str, Row, Prompt]] = [
    ("prompt", {"prompt": "Hi"}, Prompt((HI,), 1)),
    ("question", {"id": 3, "question": "Hi"}, Prompt((HI,), 1)),
    ("instruction", {"instruction": "Hi", "category": "x"}, Prompt((HI,), 1)),
    ("instruction and input", {"instruction": "Add", "input": "1, 2"}, Prompt((u("Add\n\n1, 2"),), 1)),
    ("messages", {"prompt": [msg("system", "Be kind."), msg("user", "Hi")]}, Prompt((s("Be kind."), HI), 1)),
    ("a reference", {"prompt": "Hi", "reference": "Hello."}, Prompt((HI,), 1, "Hello.")),
    (
        "MT-Bench",
        {"question_id": 81, "category": "w", "turns": ["Hi", "Again"], "reference": ["", "x"]},
        Prompt((HI,), 1),
    ),
    (
        "IFEval",
        {"key": 1, "prompt": "Hi", "instruction_id_list": ["a:b"], "kwargs": [{"n": 3}]},
        Prompt((HI,), 1),
    ),
    (
        "XSTest",
        {"id": "1", "prompt": "Hi", "type": "homonyms", "label": "safe", "focus": "kill", "note": ""},
        Prompt((HI,), 1),
    ),
]


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
    ("an empty cell", {"question": "Hi", "answer": "A"}, {"question": "Hi", "answer": ""}, "answer", "empty"),
    (
        "a pair of equals",
        {"prompt": "Hi", "chosen": "A", "rejected": "B"},
        {"prompt": "Hi", "chosen": "A", "rejected": "A"},
        "rejected",
        "the same",
    ),
    (
        "no prompt to be found",
        {"chosen": "A b c", "rejected": "A b d"},
        {"chosen": "Yes.", "rejected": "No."},
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


def test_ties_make_no_pair_and_are_told_of() -> None:
    tied = {"prompt": "Hi", "completions": [{"response": "A", "score": 3}, {"response": "B", "score": 3}]}
    told: list[str] = []
    form = find(tied).format
    assert form is not None
    assert form.read(tied, 1, lambda code, remedy: told.append(code)) == []
    assert told == ["tie"]


def test_a_scale_is_read_as_wanted_unwanted_and_neither() -> None:
    rows = [{"prompt": "Hi", "completion": str(n), "rating": n} for n in (1, 2, 3, 4, 5)]
    made: list[Record] = read(*rows, mapping={"prompt": "prompt", "completion": "completion", "rating": "label"})
    assert [(record.completion[0].content, record.label) for record in made if isinstance(record, Rated)] == [
        ("1", False), ("2", False), ("4", True), ("5", True),
    ]  # fmt: skip
