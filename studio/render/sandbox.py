"""Compile and run chat templates in jinja2's sandbox. Imports nothing heavy: foreign templates run this in a child.

The environment is that of transformers' `apply_chat_template`: the same whitespace rules, `raise_exception`,
`strftime_now`, `tojson`, `{% generation %}`, `{% break %}` and `{% continue %}`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from studio.errors import DataError, ModelError, StudioError
from studio.render import turns
from studio.render.turns import Rendered, Turn

MAX_TEMPLATE_BYTES = 64 << 10
MAX_TEXT = 32 << 20
#: Characters of what a template (or a damaged file) says that go into an error.
SAID = 300
CHOOSE = "Choose a template family instead (the setting `template`), for example chatml."


class _Written(str):
    """Text that the template marks as written by the assistant."""


class _Generation(Extension):
    """Render what is inside `{% generation %}...{% endgeneration %}` and mark it."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own convention

    def parse(self, parser: Parser) -> nodes.Node:
        """Give the block as a call, in a scope of its own as in transformers."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        return _Written(caller())


def _raise(message: str) -> None:
    raise TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


class _Namespace(Namespace):
    """jinja2's namespace without names that begin with an underscore: those lead into Python's insides."""

    def __init__(*args: Any, **names: Any) -> None:
        held = dict(*args[1:], **names)
        for name in held:
            _allowed(name)
        Namespace.__init__(args[0], held)

    def __setitem__(self, name: str, value: Any) -> None:
        _allowed(name)
        super().__setitem__(name, value)


def _allowed(name: Any) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r}")


def _dict(*args: Any, **names: Any) -> dict[Any, Any]:
    return dict(*args, **names)


def _short(error: Exception) -> str:
    """Give what an error says, not more than fits a message: a template can say anything."""
    said = str(getattr(error, "message", None) or error) or type(error).__name__
    return said if len(said) <= SAID else said[: SAID - 1] + "…"


class Compiled:
    """A compiled template; `now` is the date that `strftime_now` writes."""

    def __init__(self, source: str, now: datetime) -> None:
        if len(source.encode("utf-8", "replace")) > MAX_TEMPLATE_BYTES:
            raise ModelError("The chat template is larger than 64 KB.", CHOOSE)
        if "\0" in source:
            raise ModelError("The chat template holds a NUL character, which no text does.", CHOOSE)
        env = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        env.filters["tojson"] = _tojson
        env.globals["raise_exception"] = _raise
        env.globals["strftime_now"] = now.strftime
        env.globals["namespace"], env.globals["dict"] = _Namespace, _dict
        try:
            self._template = env.from_string(source)
        except TemplateSyntaxError as error:
            raise ModelError(
                f"The chat template has a mistake in line {error.lineno}: {_short(error)}", CHOOSE
            ) from None
        except (MemoryError, RecursionError, OverflowError, ValueError) as error:
            raise ModelError(f"The chat template cannot be read: {_short(error)}.", CHOOSE) from None

    def render(self, conversation: Sequence[Turn], generate: bool, tools: Sequence[Any], **names: Any) -> Rendered:
        """Render a conversation. Raises DataError when the template refuses it, ModelError when it breaks."""
        parts: list[str] = []
        marks = []
        at = 0
        try:
            for part in self._template.generate(
                messages=list(conversation),
                add_generation_prompt=generate,
                tools=list(tools) or None,
                documents=None,
                **names,
            ):
                parts.append(part)
                if type(part) is _Written:
                    marks.append((at, at + len(part)))
                at += len(part)
                if at > MAX_TEXT:
                    raise ModelError("The chat template writes more than 32 MB for one conversation.", CHOOSE)
        except StudioError:
            raise
        except SecurityError as error:
            raise ModelError(f"The chat template reaches for what it must not: {_short(error)}", CHOOSE) from None
        except TemplateError as error:
            raise DataError(
                f"The chat template refuses this conversation: {_short(error)}",
                "Change the conversation to what the model's template takes, choose another template family, or leave "
                "such rows out.",
            ) from None
        except MemoryError:
            raise ModelError("The chat template needs more memory than it is allowed.", CHOOSE) from None
        except Exception as error:  # a template can make Python raise anything
            raise ModelError(f"The chat template failed: {_short(error)}", CHOOSE) from None
        return Rendered("".join(parts), tuple(marks))


@functools.lru_cache(maxsize=16)
def _compiled(source: str, now: str) -> Compiled:
    return Compiled(source, datetime.fromisoformat(now))


def work(setup: dict[str, Any], jobs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Do jobs with a template; see `answers`."""
    return list(answers(setup, jobs))


def answers(setup: dict[str, Any], jobs: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Do jobs with a template, one after the other: all of it is JSON, so that it can cross to a child.

    `setup` has source, tokens, now, options, stops, linear. A job with `learned` gives {"rows": [[text, spans, upto]]},
    one with `generate` {"text"}, an empty one nothing (it shows that the template compiles). One that fails gives
    {"error"}. Raises ModelError when the template does not compile.
    """
    template = _compiled(setup["source"], setup["now"])
    for job in jobs:
        names = {**setup["tokens"], **setup["options"], **job.get("options", {})}
        tools = job.get("tools", ())

        def render(conversation: Sequence[Turn], generate: bool, names: Any = names, tools: Any = tools) -> Rendered:
            return template.render(conversation, generate, tools, **names)

        try:
            if "learned" in job:
                found = _rows(render, job, setup)
                yield {"rows": [[row.text, row.spans, row.upto] for row in found]}
            elif "generate" in job:
                yield {"text": render(job["turns"], job["generate"]).text}
            else:
                yield {}
        except StudioError as error:
            yield {"error": error.to_dict()}


def _rows(render: turns.Render, job: dict[str, Any], setup: dict[str, Any]) -> list[turns.Row]:
    conversation = job["turns"]
    try:
        return turns.rows(
            render, conversation, job["learned"], setup["stops"], linear=setup["linear"], split=job["split"]
        )
    except DataError as error:
        if error.field is None and (index := _refused(render, conversation)) is not None:
            said = error.message.replace("this conversation", f"this conversation at turn {index + 1}")
            raise DataError(said, error.remedy, field=f"messages[{index}]") from None
        raise


def _refused(render: turns.Render, conversation: Sequence[Turn]) -> int | None:
    """Find the turn at which a template begins to refuse a conversation."""
    for upto in range(1, len(conversation) + 1):
        try:
            render(conversation[:upto], False)
        except DataError:
            return upto - 1
        except StudioError:
            break
    return None
