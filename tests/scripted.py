"""An OpenAI-compatible server whose answers are a function of what it is asked: mechanics without a model.

    def judge(turns):                                     # the messages, as they were sent
        return Reply(probs={"A": 0.9, "B": 0.1})          # or a text

    with Scripted(judge) as server:
        Speakers([server.name])                           # http://127.0.0.1:PORT/v1#scripted
        server.bodies                                     # every request for an answer that came in, failed ones too
        server.failures.extend([429, "reset"])            # what the next requests get instead of an answer

A failure is a status, ("status", headers or body: see FAILURES), or a word of FAILURES.
"""

from __future__ import annotations

import dataclasses
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MODEL = "scripted"
#: reset: the connection breaks off; html: a page; garbage: no JSON; list: JSON, but no object; empty: no choices;
#: huge: more than a client may take; hang: nothing for as long as the server lives; stream: pieces that nobody asked
#: for; packed: said to be gzip, and is not.
FAILURES = ("reset", "html", "garbage", "list", "empty", "huge", "hang", "stream", "packed")


@dataclasses.dataclass(frozen=True)
class Reply:
    """An answer: its text, whether it ended by itself, and the probabilities of its first token."""

    text: str = ""
    finish: str | None = "stop"
    probs: dict[str, float] = dataclasses.field(default_factory=dict)
    message: dict[str, Any] = dataclasses.field(default_factory=dict)


class Scripted:
    """The server, in a thread of its own; a context that ends it.

    `tells`: it gives log-probabilities where they are asked for (a reply without `probs` has its first word, at 1).
    `refuses`: parameters that it answers with status 400, as strict servers do. `key`: what clients must bring.
    `seconds`: how long an answer takes. `tops`: so many of the likeliest tokens it tells, and refuses to tell more.
    """

    def __init__(
        self,
        answer: Callable[[list[dict[str, Any]]], str | Reply] = lambda turns: "Yes.",
        *,
        tells: bool = True,
        refuses: Sequence[str] = (),
        key: str = "",
        seconds: float = 0.0,
        tops: int = 20,
    ) -> None:
        self.tops = tops
        self.answer, self.tells, self.refuses, self.key, self.seconds = answer, tells, tuple(refuses), key, seconds
        self.failures: list[Any] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once, self._now = 0, 0
        self.lock, self.ended = threading.Lock(), threading.Event()
        server = self

        class Handler(_Handler):
            script = server

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.port = int(self._http.server_address[1])
        self.address = f"http://127.0.0.1:{self.port}/v1"
        self.name = f"{self.address}#{MODEL}"
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.ended.set()
        self._http.shutdown()
        self._http.server_close()

    def asked(self, text: str) -> int:
        """Count the requests whose last turn holds a text."""
        return sum(text in body["messages"][-1]["content"] for body in self.bodies)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: Scripted

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._json(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self._json(404, {"error": {"message": f"No {self.path} here."}})

    def do_POST(self) -> None:
        script = self.script
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)))
        with script.lock:
            script.bodies.append(body)
            script.headers.append({name.lower(): value for name, value in self.headers.items()})
            failure = script.failures.pop(0) if script.failures else None
            script._now += 1
            script.most_at_once = max(script.most_at_once, script._now)
        try:
            if script.seconds:
                time.sleep(script.seconds)
            if failure is not None:
                self._fail(failure)
            else:
                self._reply(body)
        finally:
            with script.lock:
                script._now -= 1

    def _reply(self, body: dict[str, Any]) -> None:
        script = self.script
        if self.path != "/v1/chat/completions":
            return self._json(404, {"error": {"message": f"No {self.path} here."}})
        if script.key and self.headers.get("authorization") != f"Bearer {script.key}":
            said = f"Incorrect API key provided: {self.headers.get('authorization')}"
            return self._json(401, {"error": {"message": said, "code": "invalid_api_key"}})
        if body["model"] != MODEL:
            said = f"The model {body['model']} does not exist."
            return self._json(404, {"error": {"message": said, "code": "model_not_found"}})
        for name in script.refuses:
            if name in body:
                more = " Use 'max_completion_tokens' instead." if name == "max_tokens" else ""
                said = f"Unsupported parameter: '{name}' is not supported with this model.{more}"
                return self._json(400, {"error": {"message": said, "param": name, "code": "unsupported_parameter"}})
        if body.get("top_logprobs", 0) > script.tops:
            said = f"top_logprobs must be at most {script.tops}"
            return self._json(400, {"error": {"message": said, "param": "top_logprobs"}})
        made = script.answer(body["messages"])
        reply = made if isinstance(made, Reply) else Reply(made)
        told = None
        if script.tells and body.get("logprobs"):
            words = reply.text.split() or [""]
            probs = reply.probs or {words[0]: 1.0}
            tops = [{"token": token, "logprob": math.log(max(p, 1e-30))} for token, p in probs.items()]
            tops.sort(key=lambda one: -float(str(one["logprob"])))
            told = {"content": [{**tops[0], "top_logprobs": tops[: body.get("top_logprobs") or 0]}]}
        text = reply.text or max(reply.probs, key=lambda token: reply.probs[token], default="")
        message = {"role": "assistant", "content": text, **reply.message}
        choice = {"index": 0, "message": message, "finish_reason": reply.finish, "logprobs": told}
        usage = {"prompt_tokens": 1, "completion_tokens": len(text.split()), "total_tokens": 1 + len(text.split())}
        about = {"id": "x", "object": "chat.completion", "created": 0, "model": "scripted-1"}
        self._json(200, {**about, "choices": [choice], "usage": usage})

    def _fail(self, failure: Any) -> None:
        if isinstance(failure, int):
            return self._json(failure, {"error": {"message": f"told to fail with {failure}"}})
        if isinstance(failure, tuple):  # (status, headers, perhaps a body)
            data = json.dumps(failure[2]).encode() if len(failure) > 2 else b"{}"
            return self._send(failure[0], data, **{"content-type": "application/json", **failure[1]})
        if isinstance(failure, dict):  # a body with status 200
            return self._json(200, failure)
        if failure == "reset":  # a reset, and not an orderly end
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            self.rfile, self.wfile = _Nothing(), _Nothing()  # type: ignore[assignment]
            return None
        if failure == "hang":
            self.script.ended.wait(60)
            self.close_connection = True
            return None
        if failure == "html":
            return self._send(200, b"<html>Hello</html>", **{"content-type": "text/html"})
        if failure == "stream":
            return self._send(200, b"data: {}\n\ndata: [DONE]\n\n", **{"content-type": "text/event-stream"})
        if failure == "packed":
            return self._send(200, b"{}", **{"content-type": "application/json", "content-encoding": "gzip"})
        data = {"garbage": b"{oops", "list": b"[1]", "empty": b'{"choices": []}', "huge": b"x" * (17 << 20)}[failure]
        return self._send(200, data, **{"content-type": "application/json"})

    def _json(self, status: int, document: dict[str, Any]) -> None:
        self._send(status, json.dumps(document).encode(), **{"content-type": "application/json"})

    def _send(self, status: int, data: bytes, **headers: str) -> None:
        try:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)
        except OSError:  # the client has gone
            self.close_connection = True


class _Nothing:
    """A file of a connection that is gone."""

    closed = True

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass

    def write(self, data: bytes) -> int:
        return len(data)

    def readline(self, *_: object) -> bytes:
        return b""
