"""OpenAI's chat completions as data: read a request, write answers, pieces of answers and errors in its shapes."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from typing import Any

from studio.errors import InputError, StudioError

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
#: Their name -> ours, with the range; the last five are llama.cpp's own, as its server names them.
_NUMBERS: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0.0, 2.0),
    "top_p": ("top_p", 0.0, 1.0),
    "frequency_penalty": ("frequency_penalty", -2.0, 2.0),
    "presence_penalty": ("presence_penalty", -2.0, 2.0),
    "seed": ("seed", -(2.0**63), 2.0**63),
    "max_tokens": ("max_tokens", 1, 2.0**31),
    "max_completion_tokens": ("max_tokens", 1, 2.0**31),
    "top_k": ("top_k", 0, 2.0**31),
    "min_p": ("min_p", 0.0, 1.0),
    "repeat_penalty": ("repeat_penalty", 0.1, 10.0),
}
_WHOLE = {"seed", "max_tokens", "max_completion_tokens", "top_k", "top_logprobs"}
#: What is asked for with these is not there; leaving them out in silence would be a wrong answer.
_ABSENT = ("tools", "functions", "logit_bias", "audio", "prediction")
#: What a template is given by the conversation, and nobody else.
_TAKEN = frozenset({"self", "messages", "tools", "documents", "generate", "add_generation_prompt"})
#: The most likely tokens that may be told beside each token, and the least logarithm, which stands for never.
TOP, NEVER = 20, -9999.0


class Refused(Exception):
    """A request that is answered with an error: HTTP status and OpenAI's four fields."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        kind = "invalid_request_error" if status < 500 else "server_error"
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


@dataclasses.dataclass(frozen=True)
class Question:
    """What was asked: the model's name, turns and options as `Session.stream` takes them, and how to answer.

    `conversation` is what the client calls it (metadata.conversation), "" where it does not say.
    """

    model: str
    turns: list[dict[str, Any]]
    options: dict[str, Any]
    stream: bool
    usage: bool
    conversation: str = ""


def refused(error: StudioError) -> Refused:
    """Put one of our errors into theirs."""
    said = " ".join(part for part in (error.message, error.remedy) if part)
    if not isinstance(error, InputError):
        return Refused(500, said, code="engine_error")
    full = error.field == "context"
    return Refused(400, said, param="messages" if full else None, code="context_length_exceeded" if full else None)


def read(body: bytes) -> Question:
    """Read the body of a request; what it does not name is as OpenAI has it (temperature 1, top-p 1, no limit).

    A conversation that ends with the assistant's turn is gone on with. Raises Refused.
    """
    try:
        asked = json.loads(body)
        json.dumps(asked, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(400, "The body holds half of a character (a surrogate without the other).") from None
    except (ValueError, RecursionError):
        raise Refused(400, "The body is not JSON.") from None
    if not isinstance(asked, dict):
        raise Refused(400, "The body is not a JSON object.")
    if not isinstance(asked.get("model"), str):
        raise Refused(400, "'model' must be the name of a model; GET /v1/models lists them.", param="model")
    for name in _ABSENT:
        if asked.get(name):
            raise Refused(400, f"{name!r} is not supported here.", param=name, code="unsupported_parameter")
    if asked.get("n") not in (None, 1):
        raise Refused(400, "'n': one answer at a time.", param="n", code="unsupported_parameter")
    form = asked.get("response_format")
    if form and (not isinstance(form, dict) or form.get("type") != "text"):
        raise Refused(400, "'response_format': text only.", param="response_format", code="unsupported_parameter")
    turns = _turns(asked.get("messages"))
    options: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "max_tokens": None, "seed": secrets.randbits(32)}
    for name, (ours, low, high) in _NUMBERS.items():
        if (value := asked.get(name)) is not None:
            options[ours] = _number(name, value, low, high)
    options["stop"] = _stops(asked.get("stop"))
    options["logprobs"] = _top(asked)
    arguments = asked.get("chat_template_kwargs") or {}
    if not isinstance(arguments, dict):
        raise Refused(400, "'chat_template_kwargs' must be an object.", param="chat_template_kwargs")
    if taken := sorted(_TAKEN & arguments.keys()):
        said = f"'chat_template_kwargs' cannot hold {taken[0]!r}: the request itself says that."
        raise Refused(400, said, param="chat_template_kwargs")
    options |= {"template_args": arguments, "continue": turns[-1]["role"] == "assistant"}
    more = asked.get("stream_options")
    usage = isinstance(more, dict) and bool(more.get("include_usage"))
    about = asked.get("metadata") or {}
    talk = about.get("conversation") if isinstance(about, dict) else None
    if talk is not None and not isinstance(talk, str):
        raise Refused(400, "'metadata.conversation' must be a text.", param="metadata")
    return Question(asked["model"], turns, options, bool(asked.get("stream")), usage, (talk or "")[:200])


def rating(body: bytes) -> tuple[str, str]:
    """Read what somebody thought of an answer: {"id": that of a completion, "rating": up, down or none}."""
    try:
        said = json.loads(body)
        id, thumb = said["id"], said["rating"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise Refused(400, 'The body must be {"id": ..., "rating": "up", "down" or "none"}.') from None
    if not isinstance(id, str) or not isinstance(thumb, str):
        raise Refused(400, "'id' and 'rating' must be texts.")
    return id, thumb


def _turns(given: Any) -> list[dict[str, Any]]:
    if not isinstance(given, list) or not given:
        raise Refused(400, "'messages' must be a list of at least one turn.", param="messages")
    turns = []
    for index, turn in enumerate(given):
        where = f"messages[{index}]"
        role = turn.get("role") if isinstance(turn, dict) else None
        if role not in _ROLES:
            raise Refused(400, f"{where}: the role must be one of {', '.join(_ROLES)}.", param=f"{where}.role")
        if turn.get("tool_calls") or turn.get("function_call"):
            said = f"{where}: calls of tools are not supported here."
            raise Refused(400, said, param=f"{where}.tool_calls", code="unsupported_parameter")
        turns.append({"role": _ROLES[role], "content": _text(turn.get("content"), where)})
    return turns


def _text(content: Any, where: str) -> str:
    """Give a turn's text: as it is, or its text parts put together."""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else [] if content is None else [content]
    texts = [part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text"]
    if len(texts) < len(parts) or not all(isinstance(text, str) for text in texts):
        raise Refused(400, f"{where}: this model reads text only.", param=f"{where}.content")
    return "".join(map(str, texts))


def _number(name: str, value: Any, low: float, high: float) -> float:
    right = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not right or (name in _WHOLE and value != int(value)):
        kind = "a whole number" if name in _WHOLE else "a number"
        wanted = "" if name == "seed" else f" from {low:g} to {high:g}"
        raise Refused(400, f"{name!r} must be {kind}{wanted}.", param=name)
    return int(value) if name in _WHOLE else float(value)


def _top(asked: dict[str, Any]) -> int | None:
    """Read how many likely tokens are to be told beside each token; None where no probabilities are wanted."""
    wanted, top = asked.get("logprobs"), asked.get("top_logprobs")
    if wanted is not None and not isinstance(wanted, bool):
        raise Refused(400, "'logprobs' must be true or false.", param="logprobs")
    count = None if top is None else int(_number("top_logprobs", top, 0, TOP))
    if count is not None and not wanted:
        raise Refused(400, "'top_logprobs' needs 'logprobs' to be true.", param="top_logprobs")
    return (count or 0) if wanted else None


def _stops(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else given or []
    if not isinstance(stops, list) or len(stops) > 16 or not all(isinstance(s, str) and s for s in stops):
        raise Refused(400, "'stop' must be a text, or a list of at most 16.", param="stop")
    return stops


class Answer:
    """The frame of one answer: its id, who gives it, and its shapes."""

    def __init__(self, model: str, fingerprint: str) -> None:
        self.id = f"chatcmpl-{secrets.token_hex(12)}"
        self._about = {
            "id": self.id,
            "created": int(time.time()),
            "model": model,
            "system_fingerprint": fingerprint,
        }

    def whole(self, text: str, done: dict[str, Any], odds: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Give the answer in one piece; `odds`: how likely its tokens were, as the engine tells it."""
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": text, "refusal": None},
            "logprobs": _logprobs(odds),
            "finish_reason": finish(done),
        }
        return {**self._about, "object": "chat.completion", "choices": [choice], "usage": usage(done)}

    def piece(
        self, delta: dict[str, Any], finish_reason: str | None = None, odds: list[dict[str, Any]] | None = None
    ) -> dict[str, Any]:
        """Give a piece of a stream; `odds` are those of its tokens."""
        choice = {"index": 0, "delta": delta, "logprobs": _logprobs(odds), "finish_reason": finish_reason}
        return {**self._about, "object": "chat.completion.chunk", "choices": [choice]}

    def last(self, done: dict[str, Any]) -> dict[str, Any]:
        """Give the piece of a stream that tells the usage."""
        return {**self._about, "object": "chat.completion.chunk", "choices": [], "usage": usage(done)}


def _logprobs(odds: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    """Put the engine's probabilities (chat/answers.py `stream`) into OpenAI's layout."""
    if odds is None:
        return None

    def told(one: dict[str, Any]) -> dict[str, Any]:
        return {"token": one["text"], "logprob": max(NEVER, one["logprob"]), "bytes": one["bytes"]}

    content = [{**told(one), "top_logprobs": [told(other) for other in one["top"]]} for one in odds]
    return {"content": content, "refusal": None}


def finish(done: dict[str, Any]) -> str:
    """Say why an answer ended: `stop` by itself or at a stop text, `length` at a limit."""
    return "stop" if done["why"] in ("end", "stop") else "length"


def usage(done: dict[str, Any]) -> dict[str, Any]:
    """Count tokens, those that were evaluated before included; `left_out_turns` is ours: turns that had no room."""
    prompt, made = done["prompt_tokens"], done["tokens"]
    told = {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": done["reused"]},
    }
    return {**told, "left_out_turns": done["left_out"]} if done["left_out"] else told
