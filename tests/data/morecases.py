"""Pairs, rated answers and prompts in their common dialects; all the pairs mean the same."""

from __future__ import annotations

from cases import BAD_CHAT, CHAT, HH, HI, SHARE
from reading import Row, msg, s, turn, u

from studio.data.records import Prompt

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
    ("a conversation and the rejected answer", "preference", {"messages": CHAT, "rejected_response": "Go."}),
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
    ("labels beside", "scored", {"prompt": "Hi", "responses": ["Go.", "Hello."], "labels": [False, True]}),
    (
        "two scores",
        "compared",
        {"question": "Hi", "answer_0": "Go.", "answer_1": "Hello.", "score_0": -0.2, "score_1": 0.2},
    ),
    ("texts in turn", "preference", {"chosen": ["Hi", "Hello."], "rejected": ["Hi", "Go."]}),
    ("a conversation and both answers", "preference", {"messages": CHAT, "chosen": "Hello.", "rejected": "Go."}),
    ("an arena", "compared", {"conversation_a": CHAT, "conversation_b": BAD_CHAT, "winner": "model_a"}),
]

RATED: list[tuple[str, Row]] = [
    ("messages", {"messages": CHAT, "label": True}),
    ("ShareGPT", {"conversations": SHARE, "label": True}),
    ("Alpaca", {"instruction": "Hi", "input": "", "output": "Hello.", "kto_tag": True}),
    ("accepted and rejected", {"prompt": "Hi", "response": "Hello.", "accepted": True, "rejected": False}),
    ("a vote", {"question": "Hi", "answer": "Hello.", "vote": "up"}),
    ("message lists", {"prompt": CHAT[:1], "completion": CHAT[1:], "label": True}),
]

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
    ("Arena-Hard", {"question_id": "x", "cluster": "Some words", "turns": [{"content": "Hi"}]}, Prompt((HI,), 1)),
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
