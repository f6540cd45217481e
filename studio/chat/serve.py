"""An OpenAI-compatible server on a session's engine and our renderer, so that editors can use a tuned model.

POST /v1/chat/completions (whole or streamed, with the probabilities of tokens where `logprobs` asks for them), GET
/v1/models, /v1/models/ID and /health; where two models are compared in use (data/trial.py) also POST /v1/feedback and
GET /v1/comparison. A plain ASGI application: few paths need no framework. Covers what `ui/guard` does for the window
(other web pages, DNS rebinding) and, where other machines may come in, a key. Requests for one model wait for each
other; a client that goes away stops its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hmac
import itertools
import json
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from typing import Any

from studio import loopback
from studio.chat import protocol
from studio.chat.protocol import Answer, Question, Refused
from studio.chat.session import Session, threads_for
from studio.data.trial import Trial, conversation_of
from studio.errors import StudioError

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
MAX_BODY = 16 << 20
#: Requests that may wait for a model; more are told to come again.
QUEUE = 32
#: The name that stands for the model, or for one of two by their shares.
ANY = "studio"
log = logging.getLogger("studio.serve")
_names = itertools.count(1)


@dataclasses.dataclass
class Served:
    """A pane under a name, with those that wait for it."""

    name: str
    pane: int
    fingerprint: str
    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    waiting: int = 0


def served(session: Session, names: Sequence[str]) -> list[Served]:
    """Name a session's panes; the fingerprint tells file, adapter and its strength."""
    found = []
    for pane, name in enumerate(names):
        who = session.identity(pane)
        adapter = f"-{who['adapter_sha256']}x{who['strength']:g}" if who["adapter"] else ""
        found.append(Served(name, pane, f"fp_{who['sha256']}{adapter}"))
    return found


class Server:
    """The application. `hosts`: names this server goes by (None: any); `key`: what clients must bring ("": nothing).

    With a `trial` the conversations that ask for "studio" are shared out among two models, and thumbs are kept.
    `options` go to each request.
    """

    def __init__(
        self,
        session: Session,
        models: Sequence[Served],
        *,
        hosts: Collection[str] | None,
        key: str = "",
        trial: Trial | None = None,
        **options: Any,
    ) -> None:
        self._session, self._models, self._hosts, self._key = session, list(models), hosts, key
        self._trial, self._options, self._started = trial, options, int(time.time())

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return
        try:
            self._admit(scope)
            method, path = scope["method"], scope["path"].rstrip("/")
            if (method, path) == ("POST", "/v1/chat/completions"):
                await self._chat(protocol.read(await _body(scope, receive)), receive, send)
            elif self._trial is not None and (method, path) == ("POST", "/v1/feedback"):
                await _reply(send, 200, await self._rate(*protocol.rating(await _body(scope, receive))))
            elif self._trial is not None and (method, path) == ("GET", "/v1/comparison"):
                await _reply(send, 200, await asyncio.to_thread(self._trial.comparison))
            elif method == "GET" and path == "/health":
                await _reply(send, 200, {"status": "ok"})
            elif method == "GET" and path == "/v1/models":
                await _reply(send, 200, {"object": "list", "data": [self._about(name) for name in self._all()]})
            elif method == "GET" and path.startswith("/v1/models/"):
                await _reply(send, 200, self._about(self._find(path.removeprefix("/v1/models/"))))
            else:
                raise Refused(404, f"There is no {method} {path or '/'} here.", code="not_found")
        except Refused as error:
            await _reply(send, error.status, error.body)
        except Exception:
            log.exception("a request failed")
            await _reply(send, 500, Refused(500, "Studio made a mistake of its own.").body)

    def _admit(self, scope: dict[str, Any]) -> None:
        if reason := loopback.refusal(scope, self._hosts):
            raise Refused(403, reason, code="forbidden")
        given = loopback.headers(scope).get("authorization", "").removeprefix("Bearer ")
        if self._key and not hmac.compare_digest(given.encode(), self._key.encode()):
            raise Refused(401, "This server wants the key that its terminal printed.", code="invalid_api_key")

    def _all(self) -> list[str]:
        return [ANY, *(model.name for model in self._models)]

    def _find(self, name: str) -> str:
        if name not in self._all():
            there = ", ".join(self._all())
            raise Refused(
                404, f"There is no model {name[:80]!r}; there are {there}.", param="model", code="model_not_found"
            )
        return name

    def _about(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._started, "owned_by": "studio"}

    def _choose(self, question: Question) -> Served:
        """Give the model of a name; "studio" is the first one, or the arm of the conversation."""
        if self._find(question.model) != ANY:
            return next(model for model in self._models if model.name == question.model)
        return self._models[self._trial.arm(_conversation(question)) if self._trial is not None else 0]

    async def _rate(self, id: str, rating: str) -> dict[str, Any]:
        assert self._trial is not None
        try:
            await asyncio.to_thread(self._trial.rate, id, rating)
        except StudioError as error:
            unknown = error.field != "rating"
            raise Refused(404 if unknown else 400, f"{error.message} {error.remedy}", param=error.field) from None
        return {"id": id, "rating": rating, "comparison": await asyncio.to_thread(self._trial.comparison)}

    async def _keep(self, answer: Answer, model: Served, question: Question, text: str) -> None:
        """Keep an answer of the comparison; who asked for a model by its name takes no part in it."""
        if self._trial is not None and question.model == ANY:
            about = answer.id, self._models.index(model), _conversation(question), question.turns, text
            await asyncio.to_thread(self._trial.said, *about)

    async def _chat(self, question: Question, receive: Receive, send: Send) -> None:
        """Answer, unless the client goes away."""
        model = self._choose(question)
        if model.waiting >= QUEUE:
            raise Refused(429, f"{QUEUE} requests are waiting already.", code="rate_limit_exceeded")
        model.waiting += 1
        work = asyncio.create_task(self._answer(model, question, send))
        gone = asyncio.create_task(_gone(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            model.waiting -= 1
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _answer(self, model: Served, question: Question, send: Send) -> None:
        answer, begun = Answer(model.name, model.fingerprint), False
        async with model.lock, contextlib.aclosing(self._pieces(model, question)) as pieces:
            text, done, odds = "", dict[str, Any](), list[dict[str, Any]]()
            try:
                async for item in pieces:
                    if question.stream and not begun:
                        begun = True
                        await _begin(send)
                        await _event(send, answer.piece({"role": "assistant", "content": ""}))
                    if "text" in item:
                        text += item["text"]
                        odds += item.get("logprobs", ())
                        if question.stream:
                            await _event(send, answer.piece({"content": item["text"]}, odds=item.get("logprobs")))
                    else:
                        done = item
            except StudioError as error:
                refused = protocol.refused(error)
                if not begun:
                    raise refused from None
                await _event(send, refused.body, last=True)  # the status is sent already
                return
        await self._keep(answer, model, question, text)
        if not question.stream:
            told = None if question.options["logprobs"] is None else odds
            await _reply(send, 200, answer.whole(text, done, told))
            return
        await _event(send, answer.piece({}, protocol.finish(done)))
        if question.usage:
            await _event(send, answer.last(done))
        await _event(send, "[DONE]", last=True)

    async def _pieces(self, model: Served, question: Question) -> AsyncGenerator[dict[str, Any], None]:
        """Give what the session's iterator gives, from a thread of its own; closing this stops the engine."""
        loop, box = asyncio.get_running_loop(), asyncio.Queue[Any]()
        name, gone = f"serve-{next(_names)}", threading.Event()
        options = {"threads": threads_for(len(self._models)), **self._options, **question.options, "ask": name}
        items = self._session.stream(model.pane, question.turns, **options)

        def work() -> None:
            last: Any = None
            try:
                for item in items:
                    loop.call_soon_threadsafe(box.put_nowait, item)
                    if gone.is_set():
                        break
            except StudioError as error:
                last = error
            except RuntimeError:
                return  # the loop is closed: the server has ended
            finally:
                items.close()  # type: ignore[attr-defined]  # a generator: closing it cancels the request
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(box.put_nowait, last)

        threading.Thread(target=work, daemon=True).start()
        ended = False
        try:
            while isinstance(item := await box.get(), dict):
                yield item
            ended = True
            if item is not None:
                raise item
        finally:
            if not ended:
                gone.set()
                threading.Thread(target=self._session.stop, args=([name],), daemon=True).start()


def _conversation(question: Question) -> str:
    return conversation_of(question.turns, question.conversation)


async def _body(scope: dict[str, Any], receive: Receive) -> bytes:
    length = loopback.headers(scope).get("content-length", "0")
    parts, size, more = [], 0, True
    while more:
        if (not length.isdigit()) or max(size, int(length)) > MAX_BODY:
            raise Refused(413, f"A request may be {MAX_BODY >> 20} MB long.")
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message["type"] == "http.request" and bool(message.get("more_body"))
    return b"".join(parts)


async def _gone(receive: Receive) -> None:
    """Wait until the client goes away."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _reply(send: Send, status: int, document: dict[str, Any]) -> None:
    data = json.dumps(document, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": data})


async def _begin(send: Send) -> None:
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})


async def _event(send: Send, document: dict[str, Any] | str, last: bool = False) -> None:
    text = document if isinstance(document, str) else json.dumps(document, ensure_ascii=False)
    await send({"type": "http.response.body", "body": f"data: {text}\n\n".encode(), "more_body": not last})


_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]
