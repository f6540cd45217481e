"""An OpenAI-compatible server as one who answers: Ollama, llama-server, vLLM, `studio serve`, or a hosted one.

Its name is `ADDRESS#MODEL`. A server on this machine is asked without more; one elsewhere gets the text of prompts and
answers, so it is off unless the user allows it, and a note says where the text goes. The key comes from the environment
(wire.py). Servers that do not know n, a seed, or the probabilities of tokens are used as far as they go.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import threading
import urllib.request
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from studio import events
from studio.errors import ConfigError, ModelError, Stopped, StudioError
from studio.feedback import wire
from studio.feedback.speakers import Ask, Draw, Said, Speaker, Turn, seed_of, shares, unthought

#: The help of the setting `allow_endpoint` that every source with a speaker has.
CONSENT = "May text go to an endpoint that is not on this machine? Prompts, answers and rubrics are sent there."
#: Requests on their way at a time.
PARALLEL = 4
#: The longest text of an answer; a server that knows no limit is cut here.
MAX_TEXT = 200_000
#: What may be left out of a request when a server refuses it; without a temperature answers would be other ones.
_OPTIONAL = ("seed", "top_p", "top_k", "min_p")
_PARTS = ("role", "content", "name", "tool_calls", "tool_call_id")
_ENDED = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete", "completed")
#: So many of the likeliest tokens are asked for; a server that tells fewer is asked for as many as most tell.
_TOP = (20, 5)


def is_endpoint(name: str) -> bool:
    """Tell whether a name means an endpoint."""
    return "://" in name


def check(names: Sequence[str], allowed: bool) -> list[wire.Address]:
    """Read the endpoints among names, without asking them anything; ConfigError where one needs to be allowed."""
    found = [wire.read(name) for name in names if is_endpoint(name)]
    for address in found:
        if (not address.local or address.passed_on) and not allowed:
            who = address.model if address.passed_on else address.host
            raise ConfigError(
                f"{who} is not on this machine: it would get the text of all prompts and answers.",
                "If that is wanted, allow it: --allow-endpoint, or set allow_endpoint.",
                field="allow_endpoint",
            )
    return found


def told(address: wire.Address) -> str:
    """Say in plain words where the text goes."""
    if address.passed_on:
        return (
            f"Prompts and answers leave this machine: {address.host} passes them on to where {address.model} runs. "
            "Whoever runs it can read and keep them."
        )
    if address.local:
        return f"Prompts and answers go to {address.host} (model {address.model}), a server on this machine."
    way = "encrypted" if address.secure else "NOT encrypted: others on the network can read them"
    proxy = ", through the proxy that the environment names" if _proxied(address) else ""
    key = " A key goes with them." if wire.key_for(address) else ""
    return (
        f"Prompts and answers leave this machine: they go to {address.host} (model {address.model}), {way}{proxy}. "
        f"Whoever runs it can read and keep them.{key}"
    )


def _proxied(address: wire.Address) -> bool:
    scheme = "https" if address.secure else "http"
    given = urllib.request.getproxies()
    return (scheme in given or "all" in given) and not urllib.request.proxy_bypass(address.host)


class Endpoint(Speaker):
    """A model behind an address. `served` is the model's name as the server tells it with its last answer."""

    def __init__(self, address: wire.Address, emit: events.Emit | None = None) -> None:
        self.name, self.served = address.name, ""
        self.identity = {"name": address.name, "endpoint": address.host, "model": address.model}
        self._address, self._emit = address, emit
        self._wire = wire.Wire(address)
        self._lock = threading.Lock()
        self._left_out: set[str] = set()
        self._limit = "max_tokens"
        self._weighs: bool | None = None
        self._top = _TOP[0]
        self._notes = [("info", told(address))]
        self._tell()

    def close(self) -> None:
        """Close its connections."""
        self._wire.close()

    @property
    def weighs(self) -> bool:  # type: ignore[override]  # known only when the server was asked
        """Tell whether the server gives probabilities: it is asked once."""
        if self._weighs is None:
            try:
                self._weighs = bool(self._first([{"role": "user", "content": "Answer with one letter: A or B."}]))
            except wire.Rejected:  # it does not know them
                self._weighs = False
        return self._weighs

    def weigh(self, turns: Sequence[Turn], words: Sequence[str]) -> list[float]:
        """Read the words' probabilities from the likeliest first tokens that the server tells (_TOP at most).

        A token counts for the word that it is, blanks aside, so that a judge that continues text may write one first.
        What this approximates: a word that is none of these tokens counts as 0, though it may be as likely as the last
        of them; so does a word of several tokens. Where the words are among them, their shares are those that the
        same model gives here (speakers.py).
        """
        if not self.weighs:
            raise ConfigError(
                f"The endpoint {self._address.host} tells no probabilities of tokens.",
                "Let it answer in words, or take a local model.",
                field="endpoint",
            )
        try:
            found = self._first(turns)
        except wire.Rejected as error:
            raise error.error from None
        return shares([math.fsum(p for token, p in found if token.strip() == word.strip()) for word in words])

    def _first(self, turns: Sequence[Turn]) -> list[tuple[str, float]]:
        """Give the likeliest first tokens of the answer with their probabilities; empty where none are told."""
        try:
            answer = self._send(turns, Draw(max_tokens=1), 0, logprobs=True, top_logprobs=self._top)
        except wire.Rejected as error:
            if "top_logprobs" not in error.about or self._top == _TOP[-1]:
                raise
            self._top = _TOP[-1]
            return self._first(turns)
        choice = self._choice(answer)
        self._tell()
        try:
            first = choice["logprobs"]["content"][0]
            return [(str(one["token"]), math.exp(float(one["logprob"]))) for one in first["top_logprobs"] or [first]]
        except (KeyError, TypeError, IndexError, ValueError, OverflowError):
            return []

    def ask(
        self, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[int, list[Said]]]:
        """Answer prompts, up to PARALLEL requests at a time; every answer is a request with a seed of its own."""
        todo = [(number, at) for number in range(len(asks)) for at in range(draw.n)]
        made: dict[tuple[int, int], Said] = {}
        with contextlib.closing(self._work(asks, draw, todo, should_stop)) as finished:
            for number in range(len(asks)):
                wanted = [(number, at) for at in range(draw.n)]
                while not all(one in made for one in wanted):
                    one, said = next(finished)
                    made[one] = said
                yield number, [made.pop(one) for one in wanted]

    def _work(
        self, asks: Sequence[Ask], draw: Draw, todo: Sequence[tuple[int, int]], should_stop: Callable[[], bool]
    ) -> Generator[tuple[tuple[int, int], Said]]:
        """Give answers as they come. Threads that wait for a server never keep the process: they are daemons."""
        box: queue.Queue[tuple[tuple[int, int], Said | BaseException]] = queue.Queue()
        waiting, under_way = list(reversed(todo)), 0

        def work(one: tuple[int, int]) -> None:
            number, at = one
            try:
                box.put((one, self._said(asks[number], draw, at)))
            except BaseException as error:  # told where it is waited for
                box.put((one, error))

        while waiting or under_way:
            if should_stop():
                raise Stopped("Stopped; what was finished is kept.", "Resume to go on where it stopped.")
            while waiting and under_way < PARALLEL:
                threading.Thread(target=work, args=(waiting.pop(),), daemon=True).start()
                under_way += 1
            try:
                one, said = box.get(timeout=0.2)
            except queue.Empty:
                continue
            under_way -= 1
            self._tell()
            if isinstance(said, BaseException):
                raise said
            yield one, said

    def _said(self, ask: Ask, draw: Draw, at: int) -> Said:
        seed = seed_of(draw.seed, ask, at)
        answer = self._send(ask.turns, draw, seed)
        choice = self._choice(answer)
        message = choice.get("message")
        if not isinstance(message, dict):
            raise self._odd("an answer without a message")
        text = unthought(_text(message))
        usage = answer.get("usage")
        tokens = usage.get("completion_tokens") if isinstance(usage, dict) else None
        whole = len(text) <= MAX_TEXT and str(choice.get("finish_reason")).lower() in _ENDED
        self.served = str(answer.get("model") or "")[:200]
        return Said(text[:MAX_TEXT], tokens if isinstance(tokens, int) else 0, whole, seed)

    def _send(self, turns: Sequence[Turn], draw: Draw, seed: int, **more: Any) -> dict[str, Any]:
        """Send one request; what the server does not know is left out from then on, and said once."""
        while True:
            body = self._body(turns, draw, seed) | more
            try:
                return self._wire.post("/chat/completions", body)
            except wire.Rejected as error:
                if "logprob" in error.about and more:
                    raise
                if not self._adapt(error.about, body):
                    raise error.error from None

    def _body(self, turns: Sequence[Turn], draw: Draw, seed: int) -> dict[str, Any]:
        messages = [_message(turn) for turn in turns]
        body = {"model": self._address.model, "messages": messages, "stream": False, self._limit: draw.max_tokens}
        body |= {"temperature": draw.temperature, "top_p": draw.top_p, "seed": seed}
        # these two are llama.cpp's and vLLM's own; a server that is strict refuses them
        body |= {"top_k": draw.top_k} if draw.top_k else {}
        body |= {"min_p": draw.min_p} if draw.min_p else {}
        return {name: value for name, value in body.items() if name not in self._left_out}

    def _adapt(self, about: str, sent: dict[str, Any]) -> bool:
        """Learn from a refusal; False where nothing in it says what to leave out."""
        if "max_completion_tokens" in about and "max_tokens" in sent:
            self._limit = "max_completion_tokens"
            return True
        named = [name for name in _OPTIONAL if name in sent and re.search(rf"\b{name}\b", about)]
        with self._lock:
            fresh = [name for name in named if name not in self._left_out]
            self._left_out.update(named)
        for name in fresh:
            more = ": a set that is made again will differ" if name == "seed" else ""
            text = f"The endpoint {self._address.host} does not take `{name}`; it is left out{more}."
            self._notes.append(("warning", text))
        return bool(named)

    def _choice(self, answer: dict[str, Any]) -> dict[str, Any]:
        choices = answer.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise self._odd("no answer in its reply (`choices` is empty)")
        return choices[0]

    def _odd(self, what: str) -> StudioError:
        remedy = "Is that an OpenAI-compatible API with chat completions?"
        return ModelError(f"The endpoint {self._address.host} gave {what}.", remedy, field="endpoint")

    def _tell(self) -> None:
        """Emit what is to be said, from the thread that owns the run's events."""
        while self._notes:
            level, text = self._notes.pop(0)
            if self._emit is not None:
                self._emit(events.event("note", level=level, code="endpoint", text=text))


def _message(turn: Turn) -> dict[str, Any]:
    """Give a turn as it is sent: the arguments of calls are JSON texts there."""
    made = {part: turn[part] for part in _PARTS if part in turn}
    if calls := made.get("tool_calls"):
        made["tool_calls"] = [{**call, "function": _called(call["function"])} for call in calls]
    return made


def _called(function: dict[str, Any]) -> dict[str, Any]:
    given = function.get("arguments")
    return function if isinstance(given, str) else {**function, "arguments": json.dumps(given, ensure_ascii=False)}


def _text(message: dict[str, Any]) -> str:
    """Give a message's text: as it is, its text parts, or the refusal that some give in its place.

    Half of a character (a surrogate without the other), as some servers cut one, is none.
    """
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    text = content if isinstance(content, str) and content else str(message.get("refusal") or "")
    return text.encode("utf-8", "replace").decode()
