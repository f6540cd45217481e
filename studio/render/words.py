"""Tokenise many texts quickly: each word is asked of the tokenizer once, and remembered.

Byte-level BPE cuts a text into words by a pattern and tokenises each word for itself, so a word has the same tokens
wherever it stands. In ASCII text the pattern means the same to Python's `re` as to the tokenizer; what is not ASCII,
and every tokenizer that works otherwise, is left to the tokenizer itself. Ids and places equal `encode_batch`'s.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

MOST, LONGEST, LOOKED_AT = 500_000, 64, 1024
_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_DIGITS_APART = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?![^\s\p{N}])|\s+"
_ASCII = {"L": "A-Za-z", "N": "0-9"}


class Words:
    """A tokenizer with a memory for words; call it with texts, for a Row each."""

    def __init__(self, tokenizer: Any, pattern: str, added: Sequence[str]) -> None:
        self._tokenizer, self._known = tokenizer, _Known(tokenizer)
        self._cut = re.compile(pattern, re.ASCII).findall
        self._alone = functools.lru_cache(LOOKED_AT)(lambda text: tokenizer.encode(text, add_special_tokens=False))
        longest_first = sorted(added, key=len, reverse=True)
        self._added, self._guard = frozenset(added), longest_first[0]
        self._split = re.compile(f"({'|'.join(map(re.escape, longest_first)) or '(?!)'})").split

    def __call__(self, texts: Sequence[str]) -> list[Row]:
        """Tokenise texts, with their control tokens and without adding any."""
        rows = [[part for part in self._split(text) if part] for text in texts]
        foreign = list({part for row in rows for part in row if not part.isascii()})
        made = self._tokenizer.encode_batch([self._guard + part for part in foreign], add_special_tokens=False)
        whole = dict(zip(foreign, made, strict=True))
        return [self._row(row, whole) for row in rows]

    def _row(self, parts: Sequence[str], whole: dict[str, Any]) -> Row:
        words: list[str] = []
        ids: list[list[int]] = []
        for part in parts:
            if part in whole:
                words.append(part)
                ids.append(whole[part].ids[1:])
            elif part in self._added:
                words.append(part)
                ids.append(self._known[part])
            else:
                found = self._cut(part)
                words += found
                ids += map(self._known.__getitem__, found)
        return Row(self._alone, self._guard, whole, words, ids)


class Row:
    """A tokenised text, to be asked as a `tokenizers.Encoding` is.

    Places are found by tokenising the one word again, behind a control token (`guard`) as it stands behind other text:
    whether its spaces count depends on that. `whole` holds what was tokenised so already.
    """

    def __init__(
        self, alone: Callable[[str], Any], guard: str, whole: dict[str, Any], words: list[str], ids: list[list[int]]
    ) -> None:
        self._alone, self._guard, self._whole, self._words = alone, guard, whole, words
        self.ids = list(itertools.chain.from_iterable(ids))
        self._chars = list(itertools.accumulate(map(len, words)))
        self._tokens = list(itertools.accumulate(map(len, ids)))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Give every token's place in the text."""
        made: list[tuple[int, int]] = self._alone("".join(self._words)).offsets
        return made

    def char_to_token(self, place: int) -> int | None:
        """Give the first token that holds a character."""
        at = bisect.bisect_right(self._chars, place)
        if at == len(self._words):
            return None
        encoding, chars, tokens = self._look(at)
        found = encoding.char_to_token(place - chars)
        return None if found is None else found + tokens

    def token_to_chars(self, token: int) -> tuple[int, int] | None:
        """Give a token's place in the text."""
        at = bisect.bisect_right(self._tokens, token)
        if at == len(self._words):
            return None
        encoding, chars, tokens = self._look(at)
        start, end = encoding.token_to_chars(token - tokens)
        return start + chars, end + chars

    def _look(self, at: int) -> tuple[Any, int, int]:
        """Tokenise a word alone; tell how its characters and tokens are counted in the row."""
        word = self._words[at]
        if not at:
            return self._alone(word), 0, 0
        encoding = self._whole.get(word) or self._alone(self._guard + word)
        return encoding, self._chars[at - 1] - len(self._guard), self._tokens[at - 1] - 1


class _Known(dict[str, list[int]]):
    """The tokens of words, asked for at the first look."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self._tokenizer = tokenizer

    def __missing__(self, word: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(word, add_special_tokens=False).ids
        if len(word) <= LONGEST and len(self) < MOST:
            self[word] = ids
        return ids


def remembering(tokenizer: Any) -> Words | None:
    """Give a `tokenizers.Tokenizer` a memory for words; None when it does not work word by word as we know it."""
    about = json.loads(tokenizer.to_str())
    model, normalizer = about["model"], about["normalizer"]
    plain = model["type"] == "BPE" and not model.get("dropout") and (normalizer or {}).get("type") in (None, "NFC")
    pattern = _pattern(about["pre_tokenizer"] or {})
    odd = any(token[name] for token in about["added_tokens"] for name in ("lstrip", "rstrip", "single_word"))
    control = [token["content"] for token in about["added_tokens"]]
    return Words(tokenizer, pattern, control) if plain and not odd and pattern and control else None


def _pattern(splitter: dict[str, Any]) -> str | None:
    """Give the pattern that cuts ASCII text into words."""
    steps = splitter["pretokenizers"] if splitter.get("type") == "Sequence" else [splitter]
    *before, last = steps or [{}]
    if last.get("type") != "ByteLevel" or last["add_prefix_space"]:
        return None
    if last["use_regex"]:
        if not before:
            return _in_ascii(_BYTE_LEVEL)
        digits = len(before) == 1 and before[0]["type"] == "Digits" and before[0]["individual_digits"]
        return _in_ascii(_DIGITS_APART) if digits else None
    if len(before) != 1 or before[0]["type"] != "Split":
        return None
    split = before[0]
    source = split["pattern"].get("Regex")
    return _in_ascii(source) if source and split["behavior"] == "Isolated" and not split["invert"] else None


def _in_ascii(source: str) -> str | None:
    """Write a pattern of the tokenizer's for ASCII text; None for what we do not know, or what could leave a gap."""
    made, inside = "", False
    for part in re.findall(r"\\p\{[^}]*\}|\\.|.", source, re.DOTALL):
        if part.startswith("\\p"):
            letters = _ASCII.get(part[3:-1])
            if letters is None:
                return None
            part = letters if inside else f"[{letters}]"
        elif part.startswith("\\") and part[1] not in "rnsS":
            return None
        inside = part == "[" or (inside and part != "]")
        made += part
    whole = all(re.match(made, chr(code), re.ASCII) for code in range(128))
    return made if whole else None
