"""Render a chat template in a sandbox, and keep apart what the template wrote and what people wrote.

The rendered text equals transformers' `apply_chat_template(tokenize=False)`. Text that looks like a control token but
was typed by a person is marked, so that it is tokenised as plain text, in training and in chat alike.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from studio.data.records import Message
from studio.errors import DataError, ModelError

MAX_TEMPLATE_BYTES = 64 << 10
_OPEN, _CLOSE = "\ue0f0", "\ue0f1"  # private-use characters around the number of a typed control token


@dataclasses.dataclass(frozen=True)
class Piece:
    """A stretch of rendered text; `plain` text never becomes a control token."""

    text: str
    plain: bool


class _Generation(Extension):
    """Accept `{% generation %}...{% endgeneration %}` and render what is inside."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own convention

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Give the block's body."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


class ChatTemplate:
    """A Jinja chat template with the special tokens it may name (bos_token, eos_token, ...)."""

    def __init__(self, source: str, tokens: dict[str, str], control_tokens: Sequence[str] = ()) -> None:
        if len(source.encode()) > MAX_TEMPLATE_BYTES:
            raise ModelError("The chat template is larger than 64 KB.", "Choose a template family instead.")
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        env.filters["tojson"] = _tojson
        env.globals["raise_exception"] = _raise
        env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        try:
            self._template = env.from_string(source)
        except TemplateSyntaxError as error:
            raise ModelError(
                f"The chat template has a mistake in line {error.lineno}: {error.message}",
                "Choose a template family instead.",
            ) from None
        self.source, self._tokens = source, dict(tokens)
        self._control = sorted((token for token in control_tokens if token), key=len, reverse=True)

    def text(self, messages: Sequence[Message], generate: bool = False, **extra: Any) -> str:
        """Render to text; `generate` adds the opening of the assistant's turn."""
        return "".join(piece.text for piece in self.pieces(messages, generate, **extra))

    def pieces(
        self, messages: Sequence[Message], generate: bool = False, tools: Sequence[Any] = (), **extra: Any
    ) -> list[Piece]:
        """Render to pieces; control tokens that a person typed come out as plain pieces."""
        typed: list[str] = []
        quoted = [{"role": m.role, "content": self._quote(m.content, typed)} for m in messages]
        try:
            rendered = self._template.render(
                messages=quoted,
                add_generation_prompt=generate,
                tools=list(tools) or None,
                documents=None,
                **{**self._tokens, **extra},
            )
        except TemplateError as error:
            raise DataError(
                f"The chat template refuses this conversation: {error}",
                "Change the conversation's roles to what the model's template takes, or choose another template.",
            ) from None
        except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
            raise ModelError(f"The chat template failed: {error}", "Choose a template family instead.") from None
        return _split(rendered, typed)

    def _quote(self, text: str, typed: list[str]) -> str:
        for token in self._control:
            while token in text:
                text = text.replace(token, f"{_OPEN}{len(typed)}{_CLOSE}", 1)
                typed.append(token)
        return text


def _split(rendered: str, typed: list[str]) -> list[Piece]:
    if not typed:
        return [Piece(rendered, False)] if rendered else []
    pieces = []
    for index, part in enumerate(rendered.split(_OPEN)):
        if index:
            number, _, part = part.partition(_CLOSE)
            pieces.append(Piece(typed[int(number)], True))
        if part:
            pieces.append(Piece(part, False))
    return pieces
