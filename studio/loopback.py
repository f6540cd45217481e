"""Who may talk to a server on this machine: no other web page, and nobody by another name for it (DNS rebinding)."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, MutableMapping
from typing import Any

from studio import paths

ADDRESS = "127.0.0.1"
Scope = MutableMapping[str, Any]


def hosts(port: int) -> set[str]:
    """Give the Host headers of a server that listens on this machine only."""
    return {f"{ADDRESS}:{port}", f"localhost:{port}"}


def headers(scope: Scope) -> dict[str, str]:
    """Give a request's headers by their names in small letters; of several the last."""
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def refusal(scope: Scope, hosts: Collection[str] | None, *, linked: bool = False) -> str:
    """Say why a request is refused; an empty text lets it pass.

    `hosts` are the names that this server goes by (None: any, other than its own page's origin is still refused);
    `linked` lets a link on another page lead here.
    """
    sent = headers(scope)
    host = sent.get("host", "")
    if [name.lower() for name, _ in scope["headers"]].count(b"host") != 1 or (hosts is not None and host not in hosts):
        return "Studio answers on 127.0.0.1 and localhost only. Open the address that the terminal printed."
    origin = sent.get("origin")
    foreign = sent.get("sec-fetch-site", "none") not in ("none", "same-origin") and not linked
    if foreign or (origin is not None and origin != f"http://{host}"):
        return "Another page tried to use this window."
    return ""


def secret(name: str) -> str:
    """Give the secret kept in a file of the data folder, readable by its owner only; made when there is none."""
    path = paths.home() / name
    if path.is_file() and len(text := path.read_text("ascii").strip()) >= 43:
        return text
    text = secrets.token_urlsafe(32)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)
    return text
