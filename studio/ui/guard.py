"""The outermost layer of the window's server: who may talk to it, and what its pages may load.

Covers: DNS rebinding (Host), other web pages and other local web apps (Origin, Sec-Fetch-Site), other users of this
machine (a one-use token in the opened address, exchanged for a cookie), loading from outside and framing (headers).
Does not cover: what a page shows (parts.py escapes it) and what a handler accepts (the engine checks it).
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from studio import loopback

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: Gradio's front end needs inline and eval; everything else stays on this server.
CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    b"content-security-policy": CSP.encode(),
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"x-frame-options": b"DENY",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
MAX_BODY = 512 << 20


class Door:
    """The keys of one window: one-use tokens, and the cookie they are exchanged for."""

    def __init__(self, port: int, secret: str) -> None:
        self.port, self._secret = port, secret
        self.cookie = f"studio-{port}"
        self._tokens: set[str] = set()
        self._lock = threading.Lock()

    def new_link(self) -> str:
        """Make an address that opens the window once."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._tokens.add(token)
        return f"http://127.0.0.1:{self.port}/?token={token}"

    def use(self, token: str) -> bool:
        """Take a token; each works once."""
        with self._lock:
            for known in self._tokens:
                if hmac.compare_digest(known.encode(), token.encode()):
                    self._tokens.discard(known)
                    return True
        return False

    def admits(self, cookies: str) -> bool:
        """Tell whether a Cookie header carries this window's key."""
        for part in cookies.split(";"):
            name, _, value = part.strip().partition("=")
            if name == self.cookie and hmac.compare_digest(value.encode(), self._secret.encode()):
                return True
        return False

    def set_cookie(self) -> bytes:
        """Give the Set-Cookie header's value."""
        return f"{self.cookie}={self._secret}; HttpOnly; SameSite=Strict; Path=/; Max-Age=31536000".encode()


class Guard:
    """An ASGI application around another: refuses, or passes on and adds HEADERS to the reply."""

    def __init__(self, app: Callable[..., Awaitable[None]], door: Door) -> None:
        self._app, self._door = app, door
        self._hosts = loopback.hosts(door.port)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = loopback.headers(scope)
        reason = self._refusal(scope, headers)
        if scope["type"] != "http":
            if reason or not self._door.admits(headers.get("cookie", "")):
                await send({"type": "websocket.close", "code": 1008})
                return
            await self._app(scope, receive, send)
            return
        if reason:
            await _reply(send, 403, _page("Refused", reason))
            return
        if self._door.admits(headers.get("cookie", "")):
            if scope["path"] == "/" and b"token=" in scope.get("query_string", b""):
                await _reply(send, 200, _FORWARD)
                return
            await self._app(scope, receive, _hardened(send))
            return
        token = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and scope["method"] == "GET" and token and self._door.use(token):
            # A page that moves on, not a redirect: a Strict cookie is not sent along a redirect that began elsewhere.
            await _reply(send, 200, _FORWARD, [(b"set-cookie", self._door.set_cookie())])
            return
        await _reply(send, 401, _page("This window is locked", _LOCKED))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str:
        """Say why a request is refused; an empty text lets it pass. A link elsewhere may lead to the first page."""
        top = (
            scope["type"] == "http"
            and scope["method"] == "GET"
            and scope["path"] == "/"
            and headers.get("sec-fetch-mode", "navigate") == "navigate"
            and headers.get("sec-fetch-dest", "document") == "document"
        )
        if reason := loopback.refusal(scope, self._hosts, linked=top):
            return reason
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > MAX_BODY:
            return f"More than {MAX_BODY >> 20} MB at once. Put the file on this machine and write its path instead."
        return ""


def _hardened(send: Send) -> Send:
    """Add HEADERS to a reply, and take away what would let other origins read it."""

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [
                (name, value)
                for name, value in message.get("headers", [])
                if name.lower() not in HEADERS and not name.lower().startswith(b"access-control-")
            ]
            message = {**message, "headers": [*kept, *HEADERS.items()]}
        await send(message)

    return wrapped


async def _reply(send: Send, status: int, body: str, more: list[tuple[bytes, bytes]] | None = None) -> None:
    data = body.encode()
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(data)).encode()),
        (b"cache-control", b"no-store"),
        *HEADERS.items(),
        *(more or []),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


_LOCKED = (
    "Each address that the terminal prints opens one browser. In the terminal where Studio runs, press Enter for a new "
    "address, then open that one."
)
_STYLE = (
    "<style>body{font:14px/1.5 system-ui,sans-serif;color:#18181b;background:#fafafa;display:grid;place-items:center;"
    "min-height:90vh}main{max-width:26rem}h1{font-size:22px;margin:0 0 8px}p{color:#63636b;margin:0}"
    "@media(prefers-color-scheme:dark){body{background:#131316;color:#ececf0}p{color:#a1a1aa}}</style>"
)
_FORWARD = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    f"<title>Studio</title>{_STYLE}<main><p>Opening Studio.</p></main></html>"
)


def _page(title: str, text: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Studio</title>{_STYLE}'
        f"<main><h1>{title}</h1><p>{text}</p></main></html>"
    )
