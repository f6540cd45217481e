"""Placeholders such as {{name}}: found in messages, and given their text."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Record, Text

_PLACEHOLDER = re.compile(r"\{\{\s*(\w+)\s*\}\}")


def texts(record: Record) -> list[str]:
    """Give the text of every message."""
    if isinstance(record, Text):
        return [record.text]
    return [message.content for part in _parts(record) for message in getattr(record, part)]


def names(text: str) -> list[str]:
    """Give the names of the placeholders in a text."""
    return _PLACEHOLDER.findall(text) if "{{" in text else []


def placeholders(record: Record) -> list[str]:
    """Give the names of the placeholders that `fill` can fill."""
    said = [*texts(record), record.reference] if isinstance(record, Prompt) else texts(record)
    return [name for text in said for name in names(text)]


def fill(record: Record, values: Mapping[str, str]) -> Record:
    """Put the given texts in; names that are not given stay as they are."""
    if isinstance(record, Text):
        return dataclasses.replace(record, text=_filled(record.text, values))
    changed: dict[str, Any] = {}
    for part in _parts(record):
        messages: tuple[Message, ...] = getattr(record, part)
        if any("{{" in message.content for message in messages):
            changed[part] = tuple(dataclasses.replace(m, content=_filled(m.content, values)) for m in messages)
    if isinstance(record, Prompt) and "{{" in record.reference:
        return dataclasses.replace(record, reference=_filled(record.reference, values), **changed)
    return dataclasses.replace(record, **changed) if changed else record


def _parts(record: Record) -> tuple[str, ...]:
    if isinstance(record, Conversation):
        return ("messages",)
    if isinstance(record, Preference):
        return ("prompt", "chosen", "rejected")
    return ("prompt", "completion") if isinstance(record, Rated) else ("prompt",)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), text) if "{{" in text else text
