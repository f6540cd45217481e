"""The conversation of the chat page: which files, what was said, and one session that answers in both panes.

What was said is kept in `$STUDIO_HOME/chat.json`, so that a reload shows it again. One session a window: two tabs share
it and take turns. A pane's history is its own answers, so that each side goes on from what it said itself.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import paths
from studio.errors import InputError, StudioError
from studio.ui import choice, live

Turn = dict[str, Any]
PANES = (0, 1)


@dataclass(frozen=True)
class Source:
    """A file that a pane can speak with."""

    label: str
    path: str
    raw: bool
    sha256: str
    run: str


log = logging.getLogger("studio.window")
_one, _answering = threading.Lock(), threading.Lock()
_stop = threading.Event()
_now: list[Turn] | None = None
_thread: threading.Thread | None = None
_session: Any = None
_sums: dict[tuple[str, int, int], str] = {}
_loaded: tuple[tuple[str, bool], ...] = ()
_hearing: set[str] = set()
_ended = 0.0
#: Seconds after an answer's end in which a tab that hears it has drawn its last piece.
_LAST_PIECE = 5.0


def sources(scene: live.Scene) -> list[Source]:
    """List the files of all finished exports of the chosen model, newest first, the base after the tuned ones."""
    tuned: list[Source] = []
    bases: list[Source] = []
    for view in scene.of_step("export"):
        if view.status != "finished":
            continue
        result = view.result()
        for file in result.get("files") or []:
            label = f"{view.config.title} · {file.get('type')} ({view.id[4:13]})"
            tuned.append(Source(label, str(file.get("path")), False, str(file.get("sha256") or ""), view.id))
        if base := result.get("base_file"):
            entry = base if isinstance(base, dict) else {"path": base}
            path = str(entry["path"])
            if path not in [other.path for other in bases]:
                bases.append(Source(f"{view.config.model} base", path, True, _fingerprint(path), view.id))
    return [source for source in (*tuned, *bases) if Path(source.path).is_file()]


def _fingerprint(path: str) -> str:
    """Give a file's sha256; a file that was not read yet is read in the background, and named in the next look."""
    try:
        stat = Path(path).stat()
    except OSError:
        return ""
    key = (path, stat.st_mtime_ns, stat.st_size)
    if key in _sums:
        return _sums[key]
    _sums[key] = ""

    def work() -> None:
        _sums[key] = paths.sha256(Path(path))
        live.touch()

    threading.Thread(target=work, daemon=True).start()
    return ""


def chosen(scene: live.Scene) -> list[Source | None]:
    """Give the two panes' files: what was picked if it is still there, else the base and the newest tuned file."""
    found = sources(scene)
    picked = scene.chosen.get("chat") or {}
    by_path = {source.path: source for source in found}
    left = by_path.get(str(picked.get("left"))) or next((s for s in found if s.raw), None)
    right = by_path.get(str(picked.get("right"))) or next((s for s in found if not s.raw), None)
    return [left, right]


def pick(side: str, path: str | None) -> None:
    """Choose a pane's file from the list."""
    if any(source.path == path for source in sources(live.look())):
        choice.update(chat={side: path})


def turns() -> list[Turn]:
    """Give what was said, the answer that is being given included."""
    if (now := _now) is not None:
        return now
    try:
        found = json.loads((paths.home() / "chat.json").read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return found if isinstance(found, list) else []


def keep(said: list[Turn]) -> None:
    """Write what was said."""
    paths.write_text(paths.home() / "chat.json", json.dumps(said, ensure_ascii=False) + "\n")
    live.touch()


def busy() -> bool:
    """Tell whether an answer is being given."""
    return _now is not None


def hear(tab: str) -> None:
    """Remember that a tab is sent the pieces of an answer: a look of its own could overtake one, and then be undone."""
    _hearing.add(tab)


def heard(tab: str) -> None:
    """Forget it: the tab has drawn the last piece, and looks whether that is still what is to be seen."""
    _hearing.discard(tab)
    live.touch()


def hears(tab: str) -> bool:
    """Tell whether a tab still draws the pieces of an answer."""
    return tab in _hearing and (busy() or time.monotonic() - _ended < _LAST_PIECE)


def stop() -> None:
    """Stop both answers at the next piece."""
    _stop.set()


def settle() -> None:
    """Stop an answer that is being given, and wait until it is kept."""
    _stop.set()
    if (thread := _thread) is not None:
        thread.join(60)


def unload() -> None:
    """Give the memory back (a training run is about to need it)."""
    global _session, _loaded
    settle()
    with _answering:
        if _session is not None:
            _session.close()
        _session, _loaded = None, ()


def answer(said: list[Turn], files: list[Source | None], settings: dict[str, Any]) -> Iterator[list[Turn]]:
    """Answer the last turn in both panes: gives the turns again as the answers grow, at most 25 times a second.

    The answering goes on in a thread of its own, whoever listens: a reload in the middle loses nothing.
    """
    global _now, _thread
    with _one:
        if _now is not None:
            raise InputError("An answer is still being given.", "Wait for it, or press Stop.")
        places = [index for index, file in enumerate(files) if file is not None]
        said[-1] |= {"answers": ["" if index in places else None for index in PANES], "stats": [None, None]}
        said[-1]["note"] = "Opening the files…"
        _now = said
        _stop.clear()
    _thread = thread = threading.Thread(target=_work, args=(said, files, places, settings), daemon=True)
    thread.start()
    while thread.is_alive():
        yield said
        thread.join(1 / 25)
    yield said


def _work(said: list[Turn], files: list[Source | None], places: list[int], settings: dict[str, Any]) -> None:
    """Fill the last turn; an error becomes the pane's answer."""
    global _now, _ended
    turn, error = said[-1], None
    try:
        with _answering:
            session = _open([file for file in files if file is not None])
            turn["note"] = ""
            histories = [history(said, index, raw=getattr(files[index], "raw", False)) for index in places]
            _listen(session.ask(histories, **settings), turn, places)
    except StudioError as caught:
        error = caught.to_dict()
    except Exception as caught:
        log.error("an answer failed", exc_info=caught)
        error = {"message": f"Studio made a mistake of its own ({type(caught).__name__}).", "remedy": "Try again."}
    for index in places:
        if turn["stats"][index] is None:
            turn["stats"][index] = {"error": error} if error else {"by_user": True}
    keep(said)
    _now, _ended = None, time.monotonic()
    live.touch()


def _listen(pieces: Iterator[dict[str, Any]], turn: Turn, places: list[int]) -> None:
    told = time.monotonic()
    try:
        for piece in pieces:
            index = places[piece["pane"]]
            if piece.get("error"):
                turn["stats"][index] = {"error": piece["error"]}
            elif piece.get("done"):
                turn["stats"][index] = {key: value for key, value in piece.items() if key not in ("pane", "done")}
            else:
                turn["answers"][index] += piece["text"]
            if _stop.is_set():
                return
            if time.monotonic() - told > 1:  # other tabs look once a second
                told = time.monotonic()
                live.touch()
    finally:
        close: Callable[[], None] | None = getattr(pieces, "close", None)
        if close is not None:
            close()


def history(said: list[Turn], index: int, raw: bool = False) -> list[dict[str, str]]:
    """Give a pane's conversation as messages, the question last; raw text has no turns, only the question."""
    messages: list[dict[str, str]] = []
    if raw:
        return [{"role": "user", "content": said[-1]["user"]}]
    for turn in said[:-1]:
        answers = turn.get("answers") or [None, None]
        if answers[index]:
            messages += [{"role": "user", "content": turn["user"]}, {"role": "assistant", "content": answers[index]}]
    return [*messages, {"role": "user", "content": said[-1]["user"]}]


def _open(files: list[Source]) -> Any:
    """Give a session with these files loaded."""
    global _session, _loaded
    from studio.chat.session import Pane, Session

    wanted = tuple((file.path, file.raw) for file in files)
    if _session is not None and _loaded == wanted:
        return _session
    if _session is not None:
        _session.close()
        _session, _loaded = None, ()
    session = Session([Pane(name=file.label, gguf=file.path, raw=file.raw) for file in files])
    session.load()
    _session, _loaded = session, wanted
    return session
