"""The conversation of the chat page: what was said, and the two answers that are being given.

What was said is kept in `$STUDIO_HOME/chat.json`, so that a reload shows it again; conversations that were put aside
lie in `$STUDIO_HOME/chats`. Two tabs share it and take turns. A pane's history is its own answers, so that each side
goes on from what it said itself; under blind votes both go on from the answer that won (chatvote.py).

A turn: {"user", "system", "seed", "answers": [text or None, ...], "stats": [what `done` told, ...], "who": [...]}.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio import paths
from studio.chat.session import Session, threads_for
from studio.errors import InputError, StudioError
from studio.ui import chatopen, chatprep, chatset, live
from studio.ui.chatopen import PANES, Opened, Who

Turn = dict[str, Any]
log = logging.getLogger("studio.window")
_one, _answering = threading.Lock(), threading.Lock()
_stop = threading.Event()
_now: list[Turn] | None = None
_thread: threading.Thread | None = None
_asks: tuple[Session, list[str]] | None = None
_numbers = itertools.count(1)
_hearing: set[str] = set()
_ended = 0.0
_warming = False
#: Seconds between two drawings of growing answers, and the characters that make it a second more.
_PACE, _DRAWN = 1 / 25, 50_000
#: Bytes of a model that is loaded before its page is opened: it takes no room that anybody would miss.
TINY = 64 << 20
#: Seconds after an answer's end in which a tab that hears it has drawn its last piece.
_LAST_PIECE = 5.0


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
    """Stop both answers at their next token."""
    _stop.set()
    if (asks := _asks) is not None:
        threading.Thread(target=asks[0].stop, args=(asks[1],), daemon=True).start()


def settle() -> None:
    """Stop an answer that is being given, and wait until it is kept."""
    stop()
    if (thread := _thread) is not None:
        thread.join(60)


def unload() -> None:
    """Give the memory back (a training run is about to need it)."""
    settle()
    with _answering:
        chatopen.close()
    chatprep.close()


def warming() -> bool:
    """Tell whether the weights are being loaded before anybody asks."""
    return _warming


def warm(who: Who) -> None:
    """Load the weights in the background, so that the first question is answered at once; errors wait for it."""
    global _warming
    if busy() or _warming or not chatopen.ready(who):
        return
    _warming = True
    threading.Thread(target=_warm, args=(who,), daemon=True).start()


def ahead() -> None:
    """Load a very small model when the window starts: its first answer then waits for the page alone."""
    scene = live.look()
    if scene.running is None and not scene.queue and chatprep.small(scene, TINY):
        warm(Who.now(scene))


def _warm(who: Who) -> None:
    global _warming
    try:
        with _answering:
            chatopen.open_for(who)
    except StudioError as error:
        log.info("the chat could not be opened ahead: %s", error.message)
    except Exception as error:
        log.error("the chat could not be opened ahead", exc_info=error)
    finally:
        _warming = False
        live.touch()


def answer(said: list[Turn], who: Who, only: int | None = None) -> Iterator[list[Turn]]:
    """Answer the last turn in both panes: gives the turns again as the answers grow, at most 25 times a second, and
    less often the more there is to draw, so that a slow browser keeps up and Stop is heard at once.

    `only` goes on with one pane's unfinished answer. The answering goes on in a thread of its own, whoever listens: a
    reload in the middle loses nothing. Raises InputError.
    """
    global _now, _thread
    before: list[int] | None = None
    with _one:
        if _now is not None:
            raise InputError("An answer is still being given.", "Wait for it, or press Stop.")
        if not any(who.sources):
            raise InputError("There is nobody to talk to yet.", "Choose a model, or train one first.")
        turn = said[-1]
        if only is None:
            turn |= {"answers": ["" if source else None for source in who.sources], "stats": [None, None]}
            turn |= {"who": [None, None], "system": who.system, "seed": turn.get("seed", who.asked.seed)}
        else:
            if not unfinished(turn, only):
                raise InputError("There is no unfinished answer to go on with.", "Ask a question.")
            before = list(turn["stats"][only]["ids"])
            turn["stats"] = [None if index == only else told for index, told in enumerate(turn["stats"])]
        turn["note"] = "Opening…"
        _stop.clear()
        _now = said
    _thread = thread = threading.Thread(target=_work, args=(said, who, only, before), daemon=True)
    thread.start()
    while thread.is_alive():
        yield said
        thread.join(_PACE + sum(len(text or "") for turn in said for text in turn.get("answers") or ()) / _DRAWN)
    yield said


def _work(said: list[Turn], who: Who, only: int | None, before: list[int] | None) -> None:
    """Fill the last turn; an error becomes the pane's answer."""
    global _now, _ended, _asks
    turn, error = said[-1], None
    wanted = [index for index in PANES if who.sources[index] is not None and only in (None, index)]

    def tell(text: str) -> None:
        turn["note"] = text
        live.touch()

    try:
        with _answering:
            opened = chatopen.open_for(who, tell, _stop.is_set)
            turn["note"] = ""
            for index in set(opened.errors) & set(wanted):
                turn["stats"][index] = {"error": opened.errors[index]}
            _listen(opened, turn, [_ask(opened, said, who, index, before) for index in wanted if index in opened.told])
    except StudioError as caught:
        error = caught.to_dict()
    except Exception as caught:
        log.error("an answer failed", exc_info=caught)
        error = {"message": f"Studio made a mistake of its own ({type(caught).__name__}).", "remedy": "Try again."}
    for index in wanted:
        if turn["stats"][index] is None:
            turn["stats"][index] = {"error": error} if error else {"why": "cancelled"}
    _asks = None
    keep(said)
    _now, _ended = None, time.monotonic()
    live.touch()


@dataclasses.dataclass
class _Asked:
    """What one pane is asked: its number on the page and in the session, its turns and options, what it said before."""

    index: int
    place: int
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    ids: list[int]


def _ask(opened: Opened, said: list[Turn], who: Who, index: int, before: list[int] | None) -> _Asked:
    turn = said[-1]
    turn["who"][index] = opened.facts(index)
    messages = history(said, index, raw=opened.raw(index))
    options = chatset.options(dataclasses.replace(who.asked, seed=turn["seed"]), opened.told[index]["thinks"])
    ids = list(before or [])
    if before is not None:
        messages.append({"role": "assistant", "content": turn["answers"][index], "ids": ids})
        options["continue"] = True
    return _Asked(index, opened.at(index), messages, options, ids)


def _listen(opened: Opened, turn: Turn, asks: list[_Asked]) -> None:
    """Take the pieces of all answers as they come, each pane's stream read by a thread of its own."""
    global _asks
    names = [f"window-{os.getpid()}-{next(_numbers)}" for _ in asks]
    box: queue.Queue[tuple[_Asked, dict[str, Any] | None]] = queue.Queue()
    _asks = (opened.session, names)

    def work(ask: _Asked, name: str) -> None:
        threads = threads_for(len(asks))
        try:
            for item in opened.session.stream(ask.place, ask.messages, ask=name, threads=threads, **ask.options):
                box.put((ask, item))
        except StudioError as error:
            box.put((ask, {"error": error.to_dict()}))
        finally:
            box.put((ask, None))

    for ask, name in zip(asks, names, strict=True):
        threading.Thread(target=work, args=(ask, name), daemon=True).start()
    told, going = time.monotonic(), len(asks)
    while going:
        ask, item = box.get()
        if item is None:
            going -= 1
        elif "error" in item:
            turn["stats"][ask.index] = {"error": item["error"]}
        elif item.get("done"):
            turn["stats"][ask.index] = _told(item, ask.ids)
        else:
            turn["answers"][ask.index] += item["text"]
            if _stop.is_set():  # it may have come before the engine knew of the question
                stop()
        if time.monotonic() - told > 1:  # other tabs look once a second
            told = time.monotonic()
            live.touch()


def _told(done: dict[str, Any], before: list[int]) -> dict[str, Any]:
    """Keep what an answer's end tells, with the tokens that were there before it went on."""
    kept = {name: value for name, value in done.items() if name not in ("done", "pane")}
    return {**kept, "ids": [*before, *done["ids"]], "tokens": len(before) + done["tokens"]}


def history(said: Sequence[Turn], index: int, raw: bool = False) -> list[dict[str, Any]]:
    """Give a pane's conversation as messages, the question last; raw text has no turns, only the question."""
    last = said[-1]
    if raw:
        return [{"role": "user", "content": last["user"]}]
    system = str(last.get("system") or "")
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system.strip() else []
    for turn in said[:-1]:
        if text := went_on(turn, index):
            messages += [{"role": "user", "content": turn["user"]}, {"role": "assistant", "content": text}]
    return [*messages, {"role": "user", "content": last["user"]}]


def went_on(turn: Turn, index: int) -> str:
    """Give the answer that a pane goes on from: its own; after a blind question the one that both go on from.

    One that an error broke off is none.
    """
    blind = turn.get("blind")
    if blind and blind.get("on"):
        return str(blind["on"])
    at = blind["order"][0] if blind else index
    answers, stats = turn.get("answers") or [None, None], turn.get("stats") or [None, None]
    return "" if (stats[at] or {}).get("error") else str(answers[at] or "")


def unfinished(turn: Turn, index: int) -> bool:
    """Tell whether an answer was ended by a limit or by hand, so that it can go on."""
    told = (turn.get("stats") or [None, None])[index]
    answers = turn.get("answers") or [None, None]
    return bool(told and answers[index] and told.get("why") in ("limit", "cancelled") and told.get("ids"))


def look(who: Who, work: Callable[[Opened], Any]) -> Any:
    """Do something with the session while nothing is being answered. Raises StudioError."""
    if busy():
        raise InputError("An answer is still being given.", "Wait for it, or press Stop.")
    with _answering:
        return work(chatopen.open_for(who))
