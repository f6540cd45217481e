"""Drawing of the disk page: what takes the room, the list, the question before something is deleted, the trash.

Measuring goes on in the background: at the opening, when runs have begun or ended, after a deletion, and when asked.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from typing import Any

from studio import stock, trash
from studio.ui import choosing, controls, live, parts
from studio.ui.live import Scene
from studio.ui.parts import esc, size

FIELD = "st-disk-do"
MOST = 30
#: A look at the disk is not made more often than this, in seconds, however many runs begin and end.
PAUSE = 20.0
_SMALL = 1e5
_KIND = {"run": "run", "export": "export", "base": "base", "data": "data set", "chat": "chat base", "cache": "cache"}
_ID = re.compile(r"\((\d{8}-\d{6})-[^()]*\)$")

_lock = threading.Lock()
_busy = threading.Lock()
_known: tuple[Any, float, stock.Stock | None, list[trash.Entry]] = (None, 0.0, None, [])


def found() -> stock.Stock | None:
    """Give what was measured last; None before the first time."""
    return _known[2]


def watch(scene: Scene) -> bool:
    """Measure in the background when runs have come, gone or ended since; never makes a page wait."""
    stamp = tuple((view.id, view.status) for view in scene.views)
    if (stamp == _known[0] and found()) or time.monotonic() - _known[1] < PAUSE or not _busy.acquire(blocking=False):
        return False
    threading.Thread(target=_measure_and_tell, args=(stamp,), daemon=True).start()
    return False


def _measure_and_tell(stamp: Any) -> None:
    try:
        measure(stamp)
    except Exception as error:  # the next look tries again
        logging.getLogger("studio.window").error("the disk could not be measured", exc_info=error)
    finally:
        _busy.release()
        live.touch()


def measure(stamp: Any = None) -> None:
    """Measure now."""
    global _known
    with _lock:
        made = stock.look()
        _known = (stamp if stamp is not None else _known[0], time.monotonic(), made, trash.entries())
    live.touch()


def line() -> str:
    """Say in a few words what lies there, for the rail."""
    stocked = found()
    return f"{size(stocked.bytes)}, {size(stocked.free)} free" if stocked else "measuring"


def bar(scene: Scene) -> str:
    """Draw what takes the room, kind by kind."""
    stocked = found()
    again = controls.button("Measure again", {"do": "measure"}, to=FIELD, aria="Measure the disk again")
    if stocked is None:
        return parts.card("What takes the room", parts.note("Measuring …"))
    kinds = sorted(stocked.kinds().items(), key=lambda pair: -pair[1])
    whole = max(1, stocked.bytes)
    shades = {kind: f"st-shade-{place}" for place, kind in enumerate(kind for kind in stock.KINDS)}
    segments = "".join(f'<i class="{shades[kind]}" style="flex-grow:{count / whole:.5f}"></i>' for kind, count in kinds)
    names = "".join(
        f'<li><i class="{shades[kind]}"></i><span>{esc(stock.KINDS[kind])}</span><b>{size(count)}</b></li>'
        for kind, count in kinds
    )
    text = ", ".join(f"{stock.KINDS[kind]} {size(count)}" for kind, count in kinds)
    aside = f"{size(stocked.bytes)} in all, {size(stocked.free)} of {size(stocked.total)} free"
    body = (
        f'<div class="st-room" role="img" aria-label="{esc(text)}">{segments}</div>'
        f'<div class="st-room-foot"><ul class="st-room-names">{names}</ul>{again}</div>'
    )
    return parts.card("What takes the room", body, aside)


def things(scene: Scene) -> str:
    """Draw the list, the largest first."""
    stocked = found()
    if stocked is None:
        return ""
    listed = [item for item in stocked.items if item.kind not in ("trash", "other")]
    if not listed:
        why = "Models that you fetch, runs and files that you make are listed here."
        return parts.card("", parts.empty("Nothing on the disk yet", why, parts.link("model", "Pick a base model")))
    large = [item for item in listed if item.bytes + item.checkpoint_bytes >= _SMALL][:MOST] or listed[:MOST]
    small = listed[len(large) :] if listed[: len(large)] == large else [item for item in listed if item not in large]
    body = f'<ul class="st-list st-things">{"".join(map(_row, large))}</ul>'
    if small:
        total = size(sum(item.bytes + item.checkpoint_bytes for item in small))
        rows = "".join(map(_row, small[:200]))
        body += (
            f"<details><summary>{len(small):,} smaller ones, {total}</summary>"
            f'<ul class="st-list st-things">{rows}</ul></details>'
        )
    return parts.card("Everything", body, "the largest first")


def _row(item: stock.Item) -> str:
    said = [item.about]
    if item.key.startswith("run:"):
        said.append(choosing.when(item.key.removeprefix("run:")))
    if item.checkpoint_bytes:
        said.append(
            f"{size(item.checkpoint_bytes)} of it in {item.checkpoints} checkpoint{'s' * (item.checkpoints != 1)}"
        )
    needed = f"needed by {stock.listed(short(item.needed_by), 3)}" if item.needed_by else ""
    why = item.refusal if item.refusal and item.refusal != stock.OUTSIDE else ""
    where = "not in Studio's folder" if item.refusal == stock.OUTSIDE else ""
    small = "".join(f"<small>{esc(text, 300)}</small>" for text in (" · ".join(said), needed, why, where) if text)
    total = item.bytes + item.checkpoint_bytes
    return (
        f'<li><span class="st-thing"><b title="{esc(item.place)}">{esc(item.name, 80)}</b> '
        f'{parts.pill(_KIND[item.kind], "plain")}{small}</span><span class="st-thing-size">{size(total)}</span>'
        f'<span class="st-repairs">{_buttons(item)}</span></li>'
    )


def _buttons(item: stock.Item) -> str:
    """Draw what can be done with a thing; what is in use or needed has no button."""
    drawn, go = "", 'data-st-go="#st-page-disk .st-title"'
    if item.checkpoints and item.status == "finished":
        label, aria = "Delete checkpoints", f"Delete the checkpoints of “{item.name}”, {item.key}"
        drawn += controls.button(label, {"do": "ask-checkpoints", "key": item.key}, to=FIELD, aria=aria, extra=go)
    if not item.refusal and not (item.key.startswith("run:") and item.needed_by):
        aria = f"Delete “{item.name}”, {item.key}"
        drawn += controls.button("Delete", {"do": "ask", "key": item.key}, to=FIELD, aria=aria, extra=go)
    return drawn


def short(names: tuple[str, ...]) -> tuple[str, ...]:
    """Name runs by title and time instead of their ids, which are long."""
    return tuple(_ID.sub(lambda found: f"({choosing.when(found[1])})", name) for name in names)


def question(head: str, said: str, *buttons: str, keep: str = "Keep it", to: str = FIELD) -> str:
    """Draw what is asked before something goes; the first button keeps it."""
    back = controls.button(keep, {"do": "keep"}, to=to)
    body = f"<p>{esc(said, 2000)}</p>{parts.actions(back, *buttons)}"
    name = f'role="alertdialog" aria-label="{esc(head)}"'
    return f'<section class="st-card st-asked" {name}><h2>{esc(head)}</h2>{body}</section>'


def thrown(scene: Scene) -> str:
    """Draw the trash."""
    days, entries = trash.days(), _known[3]
    rows = "".join(_entry(entry) for entry in entries[:MOST])
    total = sum(entry.bytes for entry in entries)
    if not entries:
        body = parts.note("Nothing is in it. What you delete can be put back from here.")
    else:
        more = parts.note(f"{len(entries) - MOST:,} older ones are listed by: studio trash") if entries[MOST:] else ""
        go = 'data-st-go="#st-page-disk .st-title"'
        empty = controls.button(f"Empty the trash, {size(total)}", {"do": "ask-empty"}, to=FIELD, extra=go)
        body = f'<ul class="st-list st-things">{rows}</ul>{more}{parts.actions(empty)}'
    label = f"Empty by itself what is older than {days or trash.DAYS:g} days"
    tick = controls.tick(days is not None, {"do": "after"}, to=FIELD, aria=label)
    aside = size(total) if entries else ""
    return parts.card("Trash", f'{body}<label class="st-after">{tick}<span>{esc(label)}</span></label>', aside)


def _entry(entry: trash.Entry) -> str:
    back = controls.button(
        "Put back", {"do": "restore", "id": entry.id}, to=FIELD, aria=f"Put back “{entry.what}”, {entry.id}"
    )
    when = time.strftime("%d %b %H:%M", time.localtime(entry.when)).lstrip("0")
    return (
        f'<li><span class="st-thing"><b title="{esc(entry.place)}">{esc(entry.what, 80)}</b>'
        f"<small>{size(entry.bytes)} · {esc(when)}</small></span>"
        f'<span class="st-repairs">{back}</span></li>'
    )
