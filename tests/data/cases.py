"""Rows of every format in its common dialects, with the records that they mean, written down by hand."""

from __future__ import annotations

import json
from typing import Any

from reading import Row, a, call, msg, s, turn, u

from studio.data.records import Conversation, Message, Preference

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
    ("messages as pandas writes them", "messages", {"messages": str(CHAT)}, talk(HI, HELLO)),
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
        talk(
            HI,
            a("", tool_calls=(call("weather", "c1", city="Rome"),)),
            Message("tool", "21 C", name="weather", tool_call_id="c1"),
            HELLO,
            tools=(WEATHER,),
        ),
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
    (
        "contents in parts, the system's apart",
        "messages",
        {
            "systemInstruction": {"parts": [{"text": "Be kind."}]},
            "contents": [
                {"role": "user", "parts": [{"text": "Hi"}]},
                {"role": "model", "parts": [{"text": "Hel"}, {"text": "lo."}]},
            ],
        },
        talk(s("Be kind."), HI, HELLO),
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
    ("inputs and targets", "prompt_completion", {"inputs": "Hi", "targets": "Hello."}, talk(HI, HELLO)),
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
    (
        "a prompt that is a conversation, of which the completion alone is learned",
        "prompt_completion",
        {"prompt": [*CHAT, CHAT[0]], "completion": CHAT[1:]},
        talk(HI, a("Hello.", train=False), HI, HELLO),
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
