"""Fetch a model from the hub into huggingface-hub's own cache: only what a model needs, resumed, verified, pinned.

huggingface-hub 2.4 writes each try into a new file and starts it from its first byte (a kill in the middle of 30 MB
cost half of them again), so the transfer is ours: ranges into `blobs/<hash>.incomplete`, the hash of every file checked
against the hub's, the same cache layout. A file that is in the cache by its hash is never fetched twice, and the
snapshot's folder appears when everything in it has arrived, `config.json` last.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from studio import __version__, disk, events, paths
from studio.errors import ModelError, Stopped
from studio.models import folder, listing, refusals
from studio.models.listing import INDEX, SINGLE, Remote
from studio.models.part import Part

T = TypeVar("T")
Asked = Callable[[], bool]

TIMEOUT = 30.0  # seconds without a byte
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0  # seconds between two tries; doubled each time
LONGEST_ASKED = 120.0  # seconds: a server that asks for more is not waited for
TRIES, TRIES_UNREACHED = 6, 3  # in a row, without PROGRESS
PROGRESS = 1 << 20  # bytes that make a try count as progress
AT_ONCE = 4  # files


def fetch(repo: str, revision: str, emit: events.Emit | None = None, should_stop: Asked | None = None) -> Path:
    """Fetch a model and give its snapshot's folder. Raises ModelError with a remedy, and Stopped at once when asked."""
    from huggingface_hub import constants, errors, get_async_session

    if constants.is_offline_mode():
        raise refusals.offline(repo)

    async def work() -> Path:
        async with get_async_session() as client:
            return await _Download(client, repo, revision, emit or (lambda event: None)).run()

    try:
        return asyncio.run(_watched(work(), should_stop or (lambda: False)))
    except errors.OfflineModeIsEnabled:
        raise refusals.offline(repo) from None
    except errors.HTTPError as error:
        raise refusals.told(error, repo, revision, constants.ENDPOINT) from None
    except OSError as error:
        raise refusals.unwritable(error, constants.HF_HUB_CACHE) from None


async def _watched(work: Coroutine[Any, Any, T], should_stop: Asked) -> T:
    """Do the work; look ten times a second whether it should stop."""
    task = asyncio.ensure_future(work)
    while not (await asyncio.wait({task}, timeout=0.1))[0]:
        if should_stop():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            raise Stopped("The download was stopped.", refusals.KEPT)
    return task.result()


class _Download:
    """One download of one repository."""

    def __init__(self, client: Any, repo: str, revision: str, emit: events.Emit) -> None:
        from huggingface_hub import constants, get_token

        self.client, self.repo, self.revision, self.emit = client, repo, revision, emit
        self.endpoint, self.cache = constants.ENDPOINT, Path(constants.HF_HUB_CACHE)
        self.home = self.cache / f"models--{repo.replace('/', '--')}"
        token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
        # The token goes to the hub only: the client drops it when it is sent on to another host.
        self.headers = {"user-agent": f"studio/{__version__}", "accept-encoding": "identity"}
        self.headers |= {"authorization": f"Bearer {token}"} if token else {}
        self.reached = False
        self.progress = _Progress(emit, f"Downloading {repo}")
        self.commit = ""

    async def run(self) -> Path:
        """List, check the room, fetch, publish."""
        self.commit, listed = await self._list()
        async with self._alone():
            small = listing.small(list(listed.values()))
            index = listed.get(INDEX)
            if index is not None:
                await self._get(index)
                names = listing.shards(self.home / "blobs" / index.etag, listed, self.repo)
                weights = [listed[name] for name in names]
            else:
                weights = [listed[SINGLE]]
            files = [*small, *([index] if index else []), *weights]
            self._room(files)
            self.progress.start(sum(file.size for file in files), index.size if index else 0)
            await self._get(listed["config.json"])
            folder.refuse_code(folder.read_object(self.home / "blobs" / listed["config.json"].etag), "config.json")
            await self._all(file for file in files if file.name not in ("config.json", INDEX))
            return self._publish(files)

    async def _list(self) -> tuple[str, dict[str, Remote]]:
        """Ask what `HfApi.model_info(files_metadata=True)` asks, in a way that can be broken off."""
        from huggingface_hub.utils import hf_raise_for_status

        url = f"{self.endpoint}/api/models/{self.repo}/revision/{quote(self.revision, safe='')}"

        async def ask() -> Any:
            answer = await self.client.get(url, params={"blobs": True}, headers=self.headers, timeout=TIMEOUT)
            self.reached = True
            hf_raise_for_status(answer)
            try:
                return answer.json()
            except ValueError:
                return {}

        commit, files, names = listing.read(await self._patiently(ask))
        if not commit:
            raise ModelError(
                f"What answers at {self.endpoint} does not speak the hub's language.", "Check HF_ENDPOINT, and proxies."
            )
        listing.refuse({file.name for file in files}, names, self.repo)
        return commit, {file.name: file for file in files}

    @contextlib.asynccontextmanager
    async def _alone(self) -> Any:
        """Hold the repository's lock; wait for another download of it, which may leave all of it here."""
        import filelock

        where = self.cache / ".locks" / self.home.name / "studio.lock"
        where.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(where)
        told = False
        while True:
            try:
                lock.acquire(timeout=0)
                break
            except filelock.Timeout:
                if not told:
                    told = True
                    self._note(f"Another download of {self.repo} is going on; waiting for it.", "warning")
                await asyncio.sleep(0.2)
        try:
            yield
        finally:
            lock.release()

    def _room(self, files: Iterable[Remote]) -> None:
        missing = {f.etag: f for f in files if not self._here(f)}.values()
        need = sum(f.size - min(f.size, Part.size_of(self._part(f))) for f in missing)
        have = disk.free(self.cache)
        if need and need + disk.SPARE > have:
            raise refusals.disk_full(need + disk.SPARE, have, str(self.cache))

    def _here(self, file: Remote) -> bool:
        try:
            return (self.home / "blobs" / file.etag).stat().st_size == file.size
        except OSError:
            return False

    def _part(self, file: Remote) -> Path:
        return self.home / "blobs" / f"{file.etag}.incomplete"

    async def _all(self, files: Iterable[Remote]) -> None:
        """Fetch several files, a few at once; the first failure ends them all."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(file: Remote) -> None:
            async with gate:
                await self._get(file)

        # Two names may hold the same bytes: one blob, fetched once.
        tasks = [asyncio.ensure_future(one(file)) for file in {f.etag: f for f in files}.values()]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _get(self, file: Remote) -> None:
        """Fetch one file into `blobs`, from where an earlier try ended, and verify it."""
        if self._here(file):
            self.progress.add(file.size, fresh=False)
            return
        part = Part(self._part(file), file.size, file.etag, file.sha256)
        try:
            async for amount in part.look():
                self.progress.add(amount, fresh=False)
            resumed = part.have > 0
            while True:
                await self._patiently(lambda: self._stream(file, part), lambda: part.have)
                if part.right():
                    break
                self._discard(part)
                if not resumed:
                    raise refusals.wrong_hash(self.repo, file.name)
                resumed = False
                self._note(f"{file.name}: the part from an earlier try was damaged; it starts again.", "warning")
            part.keep(self.home / "blobs" / file.etag)
        except OSError as error:
            if error.errno not in disk.FULL:
                raise
            have = disk.free(self.cache)
            raise refusals.disk_full(max(file.size - part.have, 0), have, str(self.cache)) from None
        finally:
            part.close()

    async def _stream(self, file: Remote, part: Part) -> None:
        """One request: the rest of a file, or all of it where the server cannot or will not send the rest."""
        from huggingface_hub.utils import hf_raise_for_status

        if part.have == file.size:
            return
        url = f"{self.endpoint}/{self.repo}/resolve/{self.commit}/{quote(file.name)}"
        headers = {**self.headers, "range": f"bytes={part.have}-"} if part.have else self.headers
        async with self.client.stream("GET", url, headers=headers, timeout=TIMEOUT) as answer:
            self.reached = True
            if answer.status_code == 416 and part.have:
                self._discard(part)
                raise _Again(f"{file.name}: the hub refused the rest of it (416); it starts again.")
            if answer.status_code >= 400:
                await answer.aread()
            hf_raise_for_status(answer)
            begins = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
            if part.have and (answer.status_code != 206 or not begins or int(begins[1]) != part.have):
                self._discard(part)
                if answer.status_code == 206:
                    raise _Again(f"{file.name}: the hub sent another part than asked for; it starts again.")
            async for chunk in answer.aiter_bytes():
                part.add(chunk)
                self.progress.add(len(chunk))
                if part.have > file.size:
                    break
        if part.have < file.size:
            raise _Again("")  # the server closed the connection early, and politely

    def _discard(self, part: Part) -> None:
        self.progress.add(-part.have, fresh=False)
        part.discard()

    async def _patiently(self, attempt: Callable[[], Awaitable[T]], have: Callable[[], int] = lambda: 0) -> T:
        """Try again after what may pass: broken connections, 408, 429, 5xx. Gives up after TRIES without progress."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        failed, mark, wait = 0, have(), FIRST_WAIT
        while True:
            try:
                return await attempt()
            except (HTTPError, _Again) as error:
                asked = 0.0
                if isinstance(error, HfHubHTTPError):
                    status = error.response.status_code
                    if status not in (408, 429) and status < 500:
                        raise
                    asked = refusals.retry_after(error.response.headers)
                if have() - mark >= PROGRESS:
                    failed, wait = 0, FIRST_WAIT
                failed, mark = failed + 1, have()
                if failed >= (TRIES if self.reached else TRIES_UNREACHED) or asked > LONGEST_ASKED:
                    if isinstance(error, HfHubHTTPError) or not self.reached:
                        raise
                    raise refusals.breaking(self.repo, failed) from None
                self._tell(error, max(asked, wait))
            await asyncio.sleep(max(asked, wait))
            wait = min(2 * wait, LONGEST_WAIT)

    def _tell(self, error: Exception, wait: float) -> None:
        if isinstance(error, _Again):
            text = str(error) or "The hub closed the connection early; going on from there."
        else:
            status = getattr(getattr(error, "response", None), "status_code", None)
            what = {429: "The hub asks to wait (429)"}.get(status, f"The hub is in trouble ({status})")  # type: ignore[arg-type]
            text = f"{what if status else 'The connection broke'}; trying again in {wait:.0f} s."
        self._note(text, "warning")

    def _note(self, text: str, level: str) -> None:
        self.emit(events.event("note", text=text, level=level, code="download"))

    def _publish(self, files: Iterable[Remote]) -> Path:
        """Link the files into the snapshot's folder, and let the revision's name point to it."""
        snapshot = self.home / "snapshots" / self.commit
        snapshot.mkdir(parents=True, exist_ok=True)
        for file in sorted(files, key=lambda f: f.name == "config.json"):
            _link(self.home / "blobs" / file.etag, snapshot / file.name)
        paths.fsync_dir(snapshot)
        if self.revision != self.commit:
            paths.write_text(self.home / "refs" / self.revision, self.commit)
        self.progress.end()
        return snapshot


class _Again(Exception):
    """A try that ended early, for a reason that may pass."""


class _Progress:
    """Progress in bytes: the rate (bytes/s) and the time left come from what was received in the last ten seconds."""

    def __init__(self, emit: events.Emit, phase: str) -> None:
        self._emit, self._phase = emit, phase
        self._total, self._done, self._fresh, self._told = 0, 0, 0, 0.0
        self._window: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def start(self, total: int, done: int) -> None:
        self._total, self._done = total, done
        self._send()

    def add(self, amount: int, fresh: bool = True) -> None:
        self._done += amount
        self._fresh += amount if fresh else 0
        if self._total and time.monotonic() - self._told >= 0.3:
            self._send()

    def end(self) -> None:
        self._done = self._total
        self._send()

    def _send(self) -> None:
        now = self._told = time.monotonic()
        while len(self._window) > 1 and now - self._window[0][0] > 10:
            self._window.popleft()
        since, before = self._window[0]
        self._window.append((now, self._fresh))
        rate = (self._fresh - before) / (now - since) if now > since else 0.0
        left = (self._total - self._done) / rate if rate > 0 else None
        facts = {"done": min(self._done, self._total), "total": self._total, "unit": "bytes"}
        self._emit(events.event("progress", phase=self._phase, **facts, rate=rate or None, seconds_left=left))


def _link(blob: Path, pointer: Path) -> None:
    """Link as huggingface-hub does: relative; where a system has no symbolic links, a second name or a copy."""
    with contextlib.suppress(FileNotFoundError):
        pointer.unlink()
    try:
        pointer.symlink_to(os.path.relpath(blob, pointer.parent))
    except OSError:
        try:
            os.link(blob, pointer)
        except OSError:
            shutil.copyfile(blob, pointer)
