"""IFEval's instructions, as far as they can be checked by their words alone (Zhou et al. 2023, arXiv:2311.07911).

Checked, each as the paper's own code reads it: 22 of its 25 kinds. Not checked, because that takes a sentence splitter,
a word tokenizer or a language detector of a certain make: the number of sentences, the frequency of words in capitals,
the language of the response. "In English" beside small and capital letters is taken for granted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Given = Mapping[str, Any]
_FENCES = ("```json", "```Json", "```JSON", "```")
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")


def known(instruction: str) -> bool:
    """Tell whether an instruction is checked here."""
    return instruction in _CHECKS


def follows(instruction: str, given: Given, answer: str) -> bool:
    """Tell whether an answer follows an instruction; an empty answer follows none."""
    return bool(answer.strip()) and _CHECKS[instruction](answer, given)


def _compared(count: int, relation: Any, limit: Any) -> bool:
    return count < int(limit) if relation == "less than" else count >= int(limit)


def _found(word: str, text: str) -> int:
    return len(re.findall(re.escape(str(word)), text, re.IGNORECASE))


def _existence(answer: str, given: Given) -> bool:
    return all(_found(word, answer) for word in given["keywords"])


def _forbidden(answer: str, given: Given) -> bool:
    words = (re.escape(str(word)) for word in given["forbidden_words"])
    return not any(re.search(rf"\b{word}\b", answer, re.IGNORECASE) for word in words)


def _frequency(answer: str, given: Given) -> bool:
    return _compared(_found(given["keyword"], answer), given["relation"], given["frequency"])


def _letters(answer: str, given: Given) -> bool:
    count = answer.lower().count(str(given["letter"]).lower())
    return _compared(count, given["let_relation"], given["let_frequency"])


def _words(answer: str, given: Given) -> bool:
    return _compared(len(re.findall(r"\w+", answer)), given["relation"], given["num_words"])


def _paragraphs(answer: str, given: Given) -> bool:
    """Paragraphs are parted by ***; an empty one counts at neither end, and is wrong in the middle."""
    parts = re.split(r"\s?\*\*\*\s?", answer)
    middle = parts[1:-1]
    filled = [part for part in parts if part.strip()]
    return all(part.strip() for part in middle) and len(filled) == int(given["num_paragraphs"])


def _first_word(answer: str, given: Given) -> bool:
    """Paragraphs are parted by two line ends; the nth begins with the word."""
    parts = re.split(r"\n\n", answer)
    count, nth = sum(bool(part.strip()) for part in parts), int(given["nth_paragraph"])
    if nth > count or not parts[nth - 1].strip():
        return False
    word = parts[nth - 1].split()[0].lstrip("'").lstrip('"')
    first = re.split(r"[.,?!'\"]", word)[0].lower()
    return count == int(given["num_paragraphs"]) and first == str(given["first_word"]).lower()


def _placeholders(answer: str, given: Given) -> bool:
    return len(re.findall(r"\[.*?\]", answer)) >= int(given["num_placeholders"])


def _postscript(answer: str, given: Given) -> bool:
    marker = str(given["postscript_marker"])
    patterns = {"P.P.S": r"\s*p\.\s?p\.\s?s.*$", "P.S.": r"\s*p\.\s?s\..*$"}
    pattern = patterns.get(marker, rf"\s*{re.escape(marker.lower())}.*$")
    return re.search(pattern, answer.lower(), re.MULTILINE) is not None


def _bullets(answer: str, given: Given) -> bool:
    stars = re.findall(r"^\s*\*[^\*].*$", answer, re.MULTILINE)
    return len(stars) + len(re.findall(r"^\s*-.*$", answer, re.MULTILINE)) == int(given["num_bullets"])


def _highlights(answer: str, given: Given) -> bool:
    single = [one for one in re.findall(r"\*[^\n\*]*\*", answer) if one.strip("*").strip()]
    double = [one for one in re.findall(r"\*\*[^\n\*]*\*\*", answer) if one[2:-2].strip()]
    return len(single) + len(double) >= int(given["num_highlights"])


def _sections(answer: str, given: Given) -> bool:
    parts = re.split(rf"\s?{re.escape(str(given['section_spliter']))}\s?\d+\s?", answer)
    return len(parts) - 1 >= int(given["num_sections"])


def _json(answer: str, given: Given) -> bool:
    text = answer.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(answer: str, given: Given) -> bool:
    return any(one.lstrip("<").rstrip(">").strip() for one in re.findall(r"<<[^\n]+>>", answer))


def _two(answer: str, given: Given) -> bool:
    parts = answer.split("******")
    filled = [part.strip() for part in parts if part.strip()]
    return all(part.strip() for part in parts[1:-1]) and len(filled) == 2 and filled[0] != filled[1]


def _ends(answer: str, given: Given) -> bool:
    return answer.strip().strip('"').lower().endswith(str(given["end_phrase"]).strip().lower())


def _quoted(answer: str, given: Given) -> bool:
    text = answer.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


_CHECKS: dict[str, Callable[[str, Given], bool]] = {
    "keywords:existence": _existence,
    "keywords:forbidden_words": _forbidden,
    "keywords:frequency": _frequency,
    "keywords:letter_frequency": _letters,
    "length_constraints:number_words": _words,
    "length_constraints:number_paragraphs": _paragraphs,
    "length_constraints:nth_paragraph_first_word": _first_word,
    "detectable_content:number_placeholders": _placeholders,
    "detectable_content:postscript": _postscript,
    "detectable_format:number_bullet_lists": _bullets,
    "detectable_format:number_highlighted_sections": _highlights,
    "detectable_format:multiple_sections": _sections,
    "detectable_format:json_format": _json,
    "detectable_format:title": _title,
    "detectable_format:constrained_response": lambda answer, given: any(one in answer for one in _ANSWERS),
    "combination:repeat_prompt": lambda answer, given: (
        answer.strip().lower().startswith(str(given["prompt_to_repeat"]).strip().lower())
    ),
    "combination:two_responses": _two,
    "startend:end_checker": _ends,
    "startend:quotation": _quoted,
    "punctuation:no_comma": lambda answer, given: "," not in answer,
    "change_case:english_lowercase": lambda answer, given: answer.islower(),
    "change_case:english_capital": lambda answer, given: answer.isupper(),
}
#: What is given as a number, and as a list of words; the rest is text.
_NUMBERS = {"frequency", "let_frequency", "num_words", "num_paragraphs", "nth_paragraph"}
_NUMBERS |= {"num_placeholders", "num_bullets", "num_highlights", "num_sections"}
_LISTS = ("keywords", "forbidden_words")


def refuse(instruction: str, given: Given) -> str:
    """Say what is wrong with what an instruction is given, "" for nothing."""
    for name in NEEDS.get(instruction, ()):
        value = given.get(name)
        if value is None:
            return f"{instruction} is not given {name!r}."
        if name in _NUMBERS:
            whole = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value // 1
            fits, what = whole, "a whole number"
        elif name in _LISTS:
            fits, what = isinstance(value, list) and all(isinstance(one, str) for one in value), "a list of words"
        else:
            fits, what = isinstance(value, str), "a text"
        if not fits:
            return f"The {name!r} of {instruction} is not {what}."
    return ""


#: What each checked instruction is given.
NEEDS: dict[str, tuple[str, ...]] = {
    "keywords:existence": ("keywords",),
    "keywords:forbidden_words": ("forbidden_words",),
    "keywords:frequency": ("keyword", "relation", "frequency"),
    "keywords:letter_frequency": ("letter", "let_relation", "let_frequency"),
    "length_constraints:number_words": ("relation", "num_words"),
    "length_constraints:number_paragraphs": ("num_paragraphs",),
    "length_constraints:nth_paragraph_first_word": ("nth_paragraph", "num_paragraphs", "first_word"),
    "detectable_content:number_placeholders": ("num_placeholders",),
    "detectable_content:postscript": ("postscript_marker",),
    "detectable_format:number_bullet_lists": ("num_bullets",),
    "detectable_format:number_highlighted_sections": ("num_highlights",),
    "detectable_format:multiple_sections": ("section_spliter", "num_sections"),
    "combination:repeat_prompt": ("prompt_to_repeat",),
    "startend:end_checker": ("end_phrase",),
}
