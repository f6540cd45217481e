"""What columns are called: the names that give a column its role, and the names that say nothing."""

from __future__ import annotations

import functools
import re

PROMPTS = (
    "prompt", "instruction", "question", "query", "problem", "user", "human", "input", "request", "user_prompt",
    "inputs",
)  # fmt: skip
ANSWERS = (
    "completion", "response", "answer", "output", "target", "solution", "assistant", "reply", "assistant_response",
    "model_output", "best_answer", "targets",
)  # fmt: skip
#: Pairs that mean prompt and answer only when they stand together.
PAIRS = (
    ("text", "target"),
    ("text", "completion"),
    ("text", "response"),
    ("source", "target"),
    ("human", "bot"),
    ("goal", "target"),
)
CONTEXTS = ("input", "context")
SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction")
MESSAGES = (
    "messages", "conversations", "conversation", "dialog", "dialogue", "dialogs", "chat", "chats", "chat_messages",
    "turns",
)  # fmt: skip
THOUGHTS = ("reasoning", "reasoning_content", "thinking", "complex_cot", "complex_co_t", "cot", "chain_of_thought")
HISTORIES = ("history", "chat_history")
TOOLS = ("tools", "functions", "available_tools")
TEXTS = ("text", "content", "document", "raw_text", "raw_content", "page_content")
REFERENCES = ("reference", "reference_answer", "ground_truth", "gold")
CHOSEN = (
    ("chosen", "rejected"), ("chosen_response", "rejected_response"), ("response_chosen", "response_rejected"),
    ("chosen_answer", "rejected_answer"), ("answer_chosen", "answer_rejected"), ("better", "worse"),
    ("better_response", "worse_response"), ("better_answer", "worse_answer"), ("best", "worst"),
    ("response_j", "response_k"), ("win", "lose"), ("winner", "loser"), ("positive", "negative"),
    ("preferred", "dispreferred"), ("preferred", "rejected"), ("accepted", "rejected"),
    ("preferred_output", "non_preferred_output"), ("preferred_response", "dispreferred_response"),
    ("good_response", "bad_response"), ("good_answer", "bad_answer"), ("pos", "neg"),
)  # fmt: skip
LABELS = (
    "label", "labels", "kto_tag", "rating", "ratings", "stars", "vote", "thumbs", "thumb", "thumbs_up", "feedback",
    "liked", "like", "is_good", "good", "desirable", "is_desirable", "accepted", "upvoted", "preferred",
)  # fmt: skip
_GOOD_MARKS = """
safe helpful helpfulness correct correctness right accurate accuracy valid passed pass success successful solved
acceptable approved verified good quality ok truthful truthfulness honest harmless faithful useful relevant best score
reward liked upvoted preferred desirable wanted
"""
_BAD_MARKS = """
bad toxic toxicity unsafe harmful harmfulness wrong incorrect hallucinated hallucination offensive rejected flagged spam
failed refused refusal disliked downvoted undesirable unwanted false invalid inaccurate unhelpful worst
"""
#: Words in the name of a column that judges an answer by yes or no, and those whose yes says that it is bad.
GOOD_MARKS, BAD_MARKS = frozenset(_GOOD_MARKS.split()), frozenset(_BAD_MARKS.split())
_NOT = frozenset(("not", "non", "no", "never"))
#: Words of columns that judge something else, or name what is right.
_OTHER_MARKS = "lang language prompt question instruction input difficulty complexity similarity id option choice index"
_OTHERS = frozenset(_OTHER_MARKS.split())
#: What stands beside the data and never is the data.
_ASIDE = """
id idx index key uuid source src origin meta metadata lang language category type split topic tags tag model model_name
dataset task task_id task_name date time timestamp created created_at updated_at url license author hash token_count
tokens length len cluster domain theme genre difficulty subject level version focus note notes comment name title
"""
ASIDE = frozenset(_ASIDE.split())
_ANSWER_WORDS = ("answer", "response", "completion", "output", "solution", "reply", "chosen", "rejected")
_SPLIT = re.compile(r"[^a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@functools.cache
def plain(name: str) -> str:
    """Write a column's name in small letters and underscores: "Best Answer" and "bestAnswer" are best_answer."""
    return _SPLIT.sub("_", _CAMEL.sub("_", name.strip()).lower()).strip("_")


def is_aside(name: str) -> bool:
    """Say whether a column's name tells that it stands beside the data."""
    name = plain(name)
    return name in ASIDE or name.endswith(("_id", "_ids", "_url", "_date", "_at", "_score", "_model")) or not name


def judges(name: str) -> bool:
    """Say whether a name promises a judgement of the answer."""
    words = set(plain(name).split("_"))
    if words & _OTHERS or not words & (GOOD_MARKS | BAD_MARKS):
        return False
    return not is_answer(name) or bool(words & {"score", "reward", "quality", "is"})  # correct_answer is an answer


def says_bad(name: str) -> bool:
    """Say whether yes, or a high number, in a column of this name tells that an answer is bad: toxic, is_wrong."""
    words = set(plain(name).split("_"))
    return bool(words & BAD_MARKS) != bool(words & _NOT) and bool(words & BAD_MARKS or words & GOOD_MARKS)


def is_answer(name: str) -> bool:
    """Say whether a name promises an answer."""
    words = plain(name).split("_")
    return any(word.rstrip("s") in _ANSWER_WORDS for word in words) and "id" not in words and "ids" not in words
