"""The outermost layer: twelve bad requests, three good ones, a token that works once, headers on every reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from studio.ui.guard import HEADERS, MAX_BODY, Door, Guard

PORT = 7860
HOST = f"127.0.0.1:{PORT}"
SECRET = "s" * 43


async def inner(scope: Any, receive: Any, send: Any) -> None:
    """Stands for Gradio: answers everything, and lets other origins read it."""
    headers = [(b"content-type", b"text/plain"), (b"access-control-allow-origin", b"http://evil.example")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"inside"})


class Client:
    """Speaks ASGI to a guard and reads the reply."""

    def __init__(self) -> None:
        self.door = Door(PORT, SECRET)
        self.guard = Guard(inner, self.door)
        self.cookie = f"studio-{PORT}={SECRET}"

    def ask(self, *headers: tuple[str, str], path: str = "/config", method: str = "GET", query: str = "") -> Any:
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        async def receive() -> Any:
            return {"type": "http.request"}

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers],
        }
        asyncio.run(self.guard(scope, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:])


@pytest.fixture
def client() -> Client:
    return Client()


BAD: dict[str, list[tuple[str, str]]] = {
    "rebinding": [("Host", "evil.example")],
    "rebinding with our port": [("Host", f"evil.example:{PORT}")],
    "no port": [("Host", "127.0.0.1")],
    "another port": [("Host", "127.0.0.1:1234")],
    "no host": [],
    "two hosts": [("Host", HOST), ("Host", "evil.example")],
    "ipv6 host": [("Host", f"[::1]:{PORT}")],
    "foreign origin": [("Host", HOST), ("Origin", "http://evil.example")],
    "another local app": [("Host", HOST), ("Origin", "http://localhost:1234")],
    "opaque origin": [("Host", HOST), ("Origin", "null")],
    "cross-site fetch": [("Host", HOST), ("Sec-Fetch-Site", "cross-site")],
    "same-site fetch": [("Host", HOST), ("Sec-Fetch-Site", "same-site")],
}
GOOD: dict[str, list[tuple[str, str]]] = {
    "typed address": [("Host", HOST), ("Sec-Fetch-Site", "none")],
    "our own page": [("Host", HOST), ("Origin", f"http://{HOST}"), ("Sec-Fetch-Site", "same-origin")],
    "localhost": [("Host", f"localhost:{PORT}"), ("Origin", f"http://localhost:{PORT}")],
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("path", ["/config", "/gradio_api/upload", "/gradio_api/queue/data"])
def test_foreign_requests_are_refused_even_with_the_cookie(client: Client, name: str, path: str) -> None:
    status, _, body = client.ask(*BAD[name], ("Cookie", client.cookie), path=path, method="POST")
    assert status == 403 and b"inside" not in body


@pytest.mark.parametrize("name", GOOD)
def test_our_own_requests_pass(client: Client, name: str) -> None:
    status, _, body = client.ask(*GOOD[name], ("Cookie", client.cookie))
    assert (status, body) == (200, b"inside")


def test_options_is_guarded_too(client: Client) -> None:
    status, headers, _ = client.ask(*BAD["foreign origin"], method="OPTIONS")
    assert status == 403 and b"access-control-allow-origin" not in headers


@pytest.mark.parametrize("path", ["/", "/config", "/gradio_api/upload", "/gradio_api/queue/data", "/gradio_api/file=x"])
def test_without_the_cookie_every_route_is_locked(client: Client, path: str) -> None:
    for cookie in ([], [("Cookie", f"studio-{PORT}=wrong")], [("Cookie", f"studio-1={SECRET}")]):
        status, _, body = client.ask(("Host", HOST), *cookie, path=path)
        assert status == 401 and b"inside" not in body and b"press Enter" in body


def test_a_token_works_once_and_gives_a_strict_cookie(client: Client) -> None:
    query = client.door.new_link().partition("?")[2]
    status, headers, _ = client.ask(("Host", HOST), path="/", query=query)
    cookie = headers[b"set-cookie"].decode()
    assert status == 200 and "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert client.ask(("Host", HOST), ("Cookie", cookie.split(";")[0]))[0] == 200
    assert client.ask(("Host", HOST), path="/", query=query)[0] == 401


def test_a_link_from_another_page_may_open_the_window_but_not_use_it(client: Client) -> None:
    query = client.door.new_link().partition("?")[2]
    cross = [
        ("Host", HOST),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Mode", "navigate"),
        ("Sec-Fetch-Dest", "document"),
    ]
    assert client.ask(*cross, path="/", query=query)[0] == 200
    assert client.ask(*cross, ("Cookie", client.cookie), path="/config")[0] == 403
    framed = [*cross[:3], ("Sec-Fetch-Dest", "iframe")]
    assert client.ask(*framed, ("Cookie", client.cookie), path="/")[0] == 403


def test_a_wrong_token_opens_nothing(client: Client) -> None:
    client.door.new_link()
    assert client.ask(("Host", HOST), path="/", query="token=guess")[0] == 401


@pytest.mark.parametrize(
    "ask",
    [
        lambda c: c.ask(("Host", HOST), ("Cookie", c.cookie)),
        lambda c: c.ask(("Host", HOST)),
        lambda c: c.ask(("Host", "evil.example")),
    ],
)
def test_every_reply_carries_the_headers(client: Client, ask: Callable[[Client], Any]) -> None:
    _, headers, _ = ask(client)
    assert headers.items() >= HEADERS.items()
    csp = headers[b"content-security-policy"].decode()
    assert "default-src 'self'" in csp and "frame-ancestors 'none'" in csp and "http" not in csp
    assert not [name for name in headers if name.startswith(b"access-control-")]


def test_a_body_that_is_too_large_is_refused_before_it_is_read(client: Client) -> None:
    length = ("Content-Length", str(MAX_BODY + 1))
    assert client.ask(("Host", HOST), ("Cookie", client.cookie), length, method="POST")[0] == 403


def test_a_websocket_without_the_cookie_is_closed() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/", "headers": [(b"host", HOST.encode())]}
    asyncio.run(Client().guard(scope, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
