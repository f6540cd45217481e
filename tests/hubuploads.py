"""The half of the hub's protocol that takes files: repositories, upload modes, large files or parts, commits."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import socket
import time
from collections.abc import Mapping
from math import ceil
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import yaml  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from hubserver import HubServer

Answer = tuple[int, Any, dict[str, str]]


class Store:
    """What has been pushed: `writers` are the tokens, and the account that each may write for."""

    def __init__(self) -> None:
        self.writers: dict[str, str] = {}
        self.stored: dict[str, bytes] = {}  # large files by their sha256, committed or not
        self.parts: dict[str, dict[int, bytes]] = {}
        self.received = 0  # bytes of large files
        self.chunk = 0  # large files come in parts of so many bytes, 0: whole


def take(handler: Any) -> None:
    """Take a POST or PUT from hubserver's handler, with the fault that was asked for."""
    from hubserver import Seen

    hub, path = handler.server.hub, unquote(urlsplit(handler.path).path)
    hub.seen.append(Seen(handler.command, path, {k.lower(): v for k, v in handler.headers.items()}))
    fault = hub.fault(path, False)
    if fault and fault.stall:
        time.sleep(fault.stall)
    length = int(handler.headers.get("Content-Length") or 0)
    if fault and 0 <= fault.cut_after < length:
        _body(handler, fault.cut_after)
        handler.close_connection = True
        with contextlib.suppress(OSError):
            handler.connection.shutdown(socket.SHUT_RDWR)
        return
    body = _body(handler, length)
    if fault and fault.status:
        handler._answer(fault.status, {"error": "as asked for"}, fault.headers)
    else:
        handler._answer(*answer(hub, handler.command, path, body, {k.lower(): v for k, v in handler.headers.items()}))


def _body(handler: Any, length: int) -> bytes:
    """Read a request's body; the bytes of large files are counted, and come at the hub's pace."""
    hub, parts = handler.server.hub, []
    while length > 0 and (data := handler.rfile.read(min(length, 32 << 10))):
        parts.append(data)
        length -= len(data)
        if handler.command == "PUT":
            hub.received += len(data)
            if hub.pace:
                time.sleep(len(data) / hub.pace)
    return b"".join(parts)


def answer(hub: HubServer, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Answer one POST or PUT."""
    if method == "PUT" and (match := re.fullmatch(r"/store/([0-9a-f]{64})(?:/(\d+))?", path)):
        return _store(hub, match[1], match[2], body)
    if match := re.fullmatch(r"/complete/([0-9a-f]{64})", path):
        return _complete(hub, match[1], json.loads(body))
    token = headers.get("authorization", "").removeprefix("Bearer ")
    account = hub.writers.get(token)
    if account is None:
        words = "Invalid credentials in Authorization header" if token else "Invalid username or password."
        return 401, {"error": words}, {"X-Error-Message": words}
    if path == "/api/validate-yaml":
        return _yaml(json.loads(body)["content"])
    if path == "/api/repos/create":
        return _create(hub, account, json.loads(body))
    if match := re.fullmatch(r"/(?:api/models/)?([^/]+/[^/]+?)(?:\.git)?/(preupload|commit|info/lfs)/?(.*)", path):
        repo, act = match[1], match[2]
        if repo not in hub.repos:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        if not repo.startswith(f"{account}/"):
            return 403, {"error": "You have read access but not the required permissions for this operation"}, {}
        if act == "preupload":
            return _modes(hub, repo, json.loads(body))
        if act == "commit":
            return _commit(hub, repo, body)
        return _batch(hub, json.loads(body))
    return 404, {"error": "Not found"}, {}


def _yaml(card: str) -> Answer:
    """Read the front matter of a card as the hub does before a commit."""
    try:
        found = yaml.safe_load(card.split("---\n")[1])
        good = isinstance(found, dict) and isinstance(found.get("tags", []), list)
    except (IndexError, yaml.YAMLError):
        good = False
    errors = [] if good else [{"message": "the metadata is no YAML"}]
    return (200 if good else 400), {"errors": errors, "warnings": []}, {}


def _create(hub: HubServer, account: str, asked: dict[str, Any]) -> Answer:
    owner = asked.get("organization") or account
    name = f"{owner}/{asked['name']}"
    if name in hub.repos:
        return 409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"}, {}
    if owner != account:
        return 403, {"error": f"You don't have the rights to create a model under the namespace {owner!r}"}, {}
    hub.add(name, {".gitattributes": b"*.safetensors filter=lfs\n"})
    hub.repos[name] = dataclasses.replace(hub.repos[name], private=asked.get("visibility") == "private")
    return 200, {"url": f"{hub.url}/{name}", "name": name}, {}


def _modes(hub: HubServer, repo: str, asked: dict[str, Any]) -> Answer:
    """Say of each file whether it goes as a large one, and what the repository has in its place."""
    files = []
    for file in asked["files"]:
        name, there = file["path"], hub.repos[repo].files.get(file["path"])
        lfs = name.endswith((".safetensors", ".gguf")) or file["size"] > 10 << 20
        oid = there.etag if there is not None else None
        files.append({"path": name, "uploadMode": "lfs" if lfs else "regular", "shouldIgnore": False, "oid": oid})
    return 200, {"files": files}, {}


def _batch(hub: HubServer, asked: dict[str, Any]) -> Answer:
    """Say where large files are to be sent: nowhere for those that are stored, else whole or in parts."""
    objects = []
    for one in asked["objects"]:
        oid, size = one["oid"], one["size"]
        found: dict[str, Any] = {"oid": oid, "size": size}
        if oid not in hub.stored:
            upload: dict[str, Any] = {"href": f"{hub.cdn}/store/{oid}"}
            if hub.chunk and size > hub.chunk:
                parts = {str(n): f"{hub.cdn}/store/{oid}/{n}" for n in range(1, ceil(size / hub.chunk) + 1)}
                upload = {"href": f"{hub.url}/complete/{oid}", "header": {"chunk_size": str(hub.chunk), **parts}}
            found["actions"] = {"upload": upload}
        objects.append(found)
    return 200, {"transfer": "basic", "objects": objects}, {}


def _store(hub: HubServer, oid: str, part: str | None, body: bytes) -> Answer:
    if part is None:
        if hashlib.sha256(body).hexdigest() != oid:
            return 400, {"error": "wrong hash"}, {}
        hub.stored[oid] = body
    else:
        hub.parts.setdefault(oid, {})[int(part)] = body
    return 200, {}, {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}


def _complete(hub: HubServer, oid: str, asked: dict[str, Any]) -> Answer:
    parts = hub.parts.pop(oid, {})
    etags = [part["etag"].strip('"') for part in asked["parts"]]
    data = b"".join(parts[number] for number in sorted(parts))
    if [hashlib.md5(parts[n]).hexdigest() for n in sorted(parts)] != etags or hashlib.sha256(data).hexdigest() != oid:
        return 400, {"error": "the parts are not the file"}, {}
    hub.stored[oid] = data
    return 200, {}, {}


def _commit(hub: HubServer, repo: str, body: bytes) -> Answer:
    made: dict[str, Any] = {name: file.data for name, file in hub.repos[repo].files.items()}
    for line in body.splitlines():
        item = json.loads(line)
        value = item["value"]
        if item["key"] == "file":
            made[value["path"]] = base64.b64decode(value["content"])
        elif item["key"] == "lfsFile":
            if value["oid"] not in hub.stored:
                return 400, {"error": f"LFS pointer pointed to a file that does not exist: {value['path']}"}, {}
            made[value["path"]] = hub.stored[value["oid"]]
    private = hub.repos[repo].private
    commit = hub.add(repo, made)
    hub.repos[repo] = dataclasses.replace(hub.repos[repo], private=private)
    return 200, {"commitUrl": f"{hub.url}/{repo}/commit/{commit}", "commitOid": commit, "pullRequestUrl": None}, {}
