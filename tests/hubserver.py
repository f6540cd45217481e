"""A local server that speaks the hub's protocol, and goes wrong on demand; also `python tests/hubserver.py FOLDER ...`.

    hub = HubServer()
    hub.add("org/name", {"config.json": b"...", "model.safetensors": Path(...)})
    hub.fail("resolve/.*safetensors", cut_after=1000, times=2)
    with hub: ...  # HF_ENDPOINT=hub.url

As the real one it answers /api/models/ID[/revision/REV] and /api/models/ID/tree/REV, HEAD and GET of
/ID/resolve/REV/FILE with ETag, X-Repo-Commit and ranges, sends large files from another host (`cdn`), and keeps gated
files from those who bring no token that it knows. What is pushed goes the hub's way as well (hubuploads.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import hubuploads

SLICE = 32 << 10


@dataclasses.dataclass
class File:
    """One file of a repository: what it holds and what the hub says about it. `lfs`: stored by its sha256."""

    data: bytes | Path
    lfs: bool
    size: int
    sha256: str
    oid: str

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclasses.dataclass
class Repo:
    files: dict[str, File]
    commit: str
    revisions: dict[str, str]
    gated: bool = False
    allowed: frozenset[str] = frozenset()
    private: bool = False


@dataclasses.dataclass
class Fault:
    """What goes wrong with the next `times` requests whose path matches."""

    pattern: str
    status: int = 0
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cut_after: int = -1
    wrong: bool = False
    stall: float = 0.0
    only_ranges: bool = False
    no_ranges: bool = False
    times: int = 1


@dataclasses.dataclass
class Seen:
    method: str
    path: str
    headers: dict[str, str]


class HubServer(hubuploads.Store):
    """The server; a context manager. `sent` counts the bytes of files that it sent, `seen` lists the requests."""

    def __init__(self, pace: float = 0.0, cdn: bool = True) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.sent = 0
        super().__init__()
        self.pace = pace  # bytes/s of a file's body, 0: as fast as it goes
        self._lock = threading.Lock()
        self._servers = [_Server(("127.0.0.1", 0), self) for _ in range(2)]
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in self._servers)
        if not cdn:
            self.cdn = self.url

    def add(
        self,
        repo: str,
        files: Mapping[str, bytes | Path],
        *,
        revision: str = "main",
        gated: bool = False,
        allowed: tuple[str, ...] = (),
    ) -> str:
        """Publish files as a repository, or as its next commit; gives the commit's hash."""
        made = {name: _file(name, data) for name, data in files.items()}
        commit = hashlib.sha1(json.dumps({n: f.etag for n, f in made.items()}).encode()).hexdigest()
        revisions = self.repos[repo].revisions if repo in self.repos else {}
        self.repos[repo] = Repo(made, commit, {**revisions, revision: commit}, gated, frozenset(allowed))
        return commit

    def fail(self, pattern: str, status: int = 0, **values: Any) -> None:
        """Let the next requests that match go wrong."""
        self.faults.append(Fault(pattern, status, **values))

    def fault(self, path: str, ranged: bool) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.times and re.search(fault.pattern, path) and (ranged or not fault.only_ranges):
                    fault.times -= 1
                    return fault
        return None

    def count(self, amount: int) -> None:
        with self._lock:
            self.sent += amount

    def asked(self, pattern: str) -> list[Seen]:
        """List the requests so far whose path matches."""
        return [seen for seen in self.seen if re.search(pattern, seen.path)]

    def __enter__(self) -> HubServer:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], hub: HubServer) -> None:
        self.hub = hub
        super().__init__(address, _Handler)

    def handle_error(self, *_: object) -> None:
        """A client that went away is what is tested here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None: ...

    def setup(self) -> None:
        # Little stays in the kernel, so that what is counted as sent is what a client received.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 64 << 10)
        super().setup()

    do_POST = do_PUT = hubuploads.take

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        path = path.replace("/api/datasets/", "/api/models/").removeprefix(
            "/datasets"
        )  # data sets are kept as models are
        hub.seen.append(Seen(self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        fault = hub.fault(path, "Range" in self.headers)
        if fault and fault.stall:
            time.sleep(fault.stall)
        if fault and fault.status:
            self._answer(fault.status, {"error": "as asked for"}, fault.headers)
        elif path == "/api/models":
            self._search()
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self._info(match[1], match[2] or "main")
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
            self._tree(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(match[1], match[2], match[3], fault)
        elif match := re.fullmatch(r"/cdn/([^/]+/[^/]+)/(.+)", path):
            self._send(hub.repos[match[1]].files[match[2]], {}, fault)
        else:
            self._answer(404, {"error": "Not found"})

    def _find(self, name: str, revision: str) -> Repo | None:
        repo = self.server.hub.repos.get(name)
        if repo is None:
            # What the hub says to those without a token, so that it does not tell which private ones there are.
            status = 404 if "Authorization" in self.headers else 401
            self._answer(status, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
            return None
        if revision not in (*repo.revisions, *repo.revisions.values()):
            words = {"error": f"Invalid rev id: {revision}"}
            self._answer(404, words, {"X-Error-Code": "RevisionNotFound"})
            return None
        return repo

    def _info(self, name: str, revision: str) -> None:
        repo = self._find(name, revision)
        if repo is None:
            return
        siblings: list[dict[str, Any]] = []
        for filename, file in repo.files.items():
            entry: dict[str, Any] = {"rfilename": filename, "size": file.size, "blobId": file.oid}
            if file.lfs:
                entry["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": 134}
            siblings.append(entry)
        self._answer(
            200,
            {
                "_id": "0" * 24,
                "id": name,
                "modelId": name,
                "sha": repo.commit,
                "private": repo.private,
                "gated": "manual" if repo.gated else False,
                "disabled": False,
                "tags": [],
                "downloads": 0,
                "likes": 0,
                "siblings": siblings,
            },
        )

    def _search(self) -> None:
        words = parse_qs(urlsplit(self.path).query).get("search", [""])[0].lower()
        found = [name for name in self.server.hub.repos if words in name.lower()]
        self._answer(200, [{"id": name, "downloads": 7, "tags": ["safetensors", "license:mit"]} for name in found])

    def _tree(self, name: str, revision: str) -> None:
        repo = self._find(name, revision)
        if repo is not None:
            rows: list[dict[str, Any]] = []
            for path, file in repo.files.items():
                row: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.oid}
                if file.lfs:
                    row["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
                rows.append(row)
            self._answer(200, rows)

    def _resolve(self, name: str, revision: str, filename: str, fault: Fault | None) -> None:
        repo = self._find(name, revision)
        if repo is None:
            return
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if repo.gated and token not in repo.allowed:
            status = 403 if token else 401
            words = {"error": f"Access to model {name} is restricted."}
            self._answer(status, words, {"X-Error-Code": "GatedRepo", "X-Error-Message": words["error"]})
        elif filename not in repo.files:
            common = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": repo.commit}
            self._answer(404, {"error": "Entry not found"}, common)
        else:
            file = repo.files[filename]
            common = {"X-Repo-Commit": repo.commit, "ETag": f'"{file.etag}"'}
            if not file.lfs:
                self._send(file, common, fault)
                return
            common |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
            common |= {"Location": f"{self.server.hub.cdn}/cdn/{name}/{filename}"}
            self._answer(302, {}, common)

    def _send(self, file: File, headers: dict[str, str], fault: Fault | None) -> None:
        start, status = 0, 200
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and not (fault and fault.no_ranges):
            start, status = int(asked[1]), 206
            if start >= file.size:
                self._answer(416, {"error": "range"}, {"Content-Range": f"bytes */{file.size}"})
                return
            headers = {**headers, "Content-Range": f"bytes {start}-{file.size - 1}/{file.size}"}
        self.send_response(status)
        for key, value in {"Accept-Ranges": "bytes", "ETag": f'"{file.etag}"', **headers}.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(file.size - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        hub, sent = self.server.hub, 0
        for chunk in _slices(file.data, start):
            if fault and 0 <= fault.cut_after <= sent + len(chunk):
                chunk = chunk[: fault.cut_after - sent]
                self.wfile.write(chunk)
                hub.count(len(chunk))
                self.close_connection = True
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)
                return
            if fault and fault.wrong:
                chunk = bytes([chunk[0] ^ 1]) + chunk[1:]
            self.wfile.write(chunk)
            sent += len(chunk)
            hub.count(len(chunk))
            if hub.pace:
                time.sleep(len(chunk) / hub.pace)

    def _answer(self, status: int, words: Any, headers: Mapping[str, str] | None = None) -> None:
        body = json.dumps(words).encode()
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _slices(data: bytes | Path, start: int) -> Iterator[bytes]:
    if isinstance(data, bytes):
        for at in range(start, len(data), SLICE):
            yield data[at : at + SLICE]
        return
    with data.open("rb") as file:
        file.seek(start)
        while chunk := file.read(SLICE):
            yield chunk


def _file(name: str, data: bytes | Path) -> File:
    size = len(data) if isinstance(data, bytes) else data.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode())
    for chunk in _slices(data, 0):
        sha256.update(chunk)
        git.update(chunk)
    lfs = name.endswith((".safetensors", ".bin", ".gguf", ".model")) or size > 10 << 20
    return File(data, lfs, size, sha256.hexdigest(), git.hexdigest())


def folder(path: Path) -> dict[str, bytes | Path]:
    """Give the files of a model folder as what `add` takes."""
    return {str(file.relative_to(path)): file for file in sorted(path.rglob("*")) if file.is_file()}


if __name__ == "__main__":
    with HubServer() as running:
        for given in sys.argv[1:]:
            running.add(f"local/{Path(given).name}", folder(Path(given)))
        print(f"HF_ENDPOINT={running.url}", flush=True)
        threading.Event().wait()
