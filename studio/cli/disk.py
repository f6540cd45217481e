"""`studio disk`, `studio delete`, `studio trash`: what lies on the disk, taking it away, putting it back."""

from __future__ import annotations

import argparse
import time
from typing import Any

from studio import runs, stock, trash
from studio.cli.output import Out, table
from studio.disk import held, size
from studio.errors import ConfigError, InputError, RunError

MOST = 40


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    disk = verbs.add_parser("disk", parents=[common], help="list what Studio has on the disk, the largest first")
    disk.set_defaults(do=_disk)
    delete = verbs.add_parser("delete", parents=[common], help="move a run, or its checkpoints, into the trash")
    delete.add_argument(
        "name", metavar="RUN|MODEL", help="a run, a model of the hub's cache, or a NAME of `studio disk`"
    )
    delete.add_argument("--checkpoints", action="store_true", help="only its checkpoints: what was trained stays")
    delete.add_argument("--for-good", action="store_true", help="at once, without the trash")
    delete.set_defaults(do=_delete)
    bin_ = verbs.add_parser("trash", parents=[common], help="list, empty or put back what was deleted")
    what = bin_.add_mutually_exclusive_group()
    what.add_argument("--empty", action="store_true", help="delete for good what is in it")
    what.add_argument("--restore", metavar="ID", help="put one thing back")
    what.add_argument("--after", metavar="DAYS|never", help="empty by itself what is older than so many days")
    bin_.set_defaults(do=_trash)


def _disk(args: argparse.Namespace, out: Out) -> None:
    found = stock.look()
    document = {
        "bytes": found.bytes,
        "free": found.free,
        "total": found.total,
        "kinds": found.kinds(),
        "items": [_described(item) for item in found.items],
    }
    rows = [
        (
            size(item.bytes + item.checkpoint_bytes),
            stock.KINDS[item.kind],
            item.key.partition(":")[2] if item.key.startswith("run:") else item.name,
            _about(item),
            stock.listed(item.needed_by, 2),
        )
        for item in found.items
        if item.bytes or item.checkpoints
    ]
    lines = [table(rows[:MOST], ("SIZE", "KIND", "NAME", "WHAT", "NEEDED BY"))] if rows else ["Nothing yet."]
    if len(rows) > MOST:
        lines.append(f"... and {len(rows) - MOST:,} smaller ones: studio disk --json")
    parts = ", ".join(f"{stock.KINDS[kind]} {size(count)}" for kind, count in found.kinds().items())
    lines.append(f"\n{size(found.bytes)} in all{f' ({parts})' if parts else ''}; {size(found.free)} are free.")
    out.result(document, "\n".join(lines))


def _described(item: stock.Item) -> dict[str, Any]:
    return {
        "key": item.key,
        "kind": item.kind,
        "name": item.name,
        "place": str(item.place),
        "bytes": item.bytes,
        "checkpoints": item.checkpoints,
        "checkpoint_bytes": item.checkpoint_bytes,
        "status": item.status or None,
        "needed_by": list(item.needed_by),
        "refusal": item.refusal or None,
        "trash": not (item.again or item.refusal or item.key.startswith("hub:")),
    }


def _about(item: stock.Item) -> str:
    saved = f", {size(item.checkpoint_bytes)} of it checkpoints" if item.checkpoint_bytes else ""
    return f"{item.about}{saved}"


def _delete(args: argparse.Namespace, out: Out) -> None:
    run = _run(args.name)
    if run is None:
        if args.checkpoints:
            raise RunError(f"{args.name!r} is not a run.", "`studio runs` lists the runs.")
        item = _item(args.name)
        entry, what, count = stock.delete(item.key, args.for_good), item.name, item.bytes
        _deleted(out, {"deleted": what}, what, entry, count)
        return
    place = run.dir / "checkpoints" if args.checkpoints else run.dir
    count = held(place)
    act = stock.delete_checkpoints if args.checkpoints else stock.delete_run
    entry = act(run, args.for_good)
    what = f"the checkpoints of {run.id}" if args.checkpoints else run.id
    _deleted(out, {"deleted": run.id, "checkpoints_only": args.checkpoints}, what, entry, count)


def _deleted(out: Out, document: dict[str, Any], what: str, entry: trash.Entry | None, count: int) -> None:
    document = {**document, "bytes": count, "trash": entry.id if entry else None}
    if entry is None:
        out.result(document, f"Deleted {what}: {size(count)} freed.")
        return
    text = (
        f"Deleted {what}: {size(count)}, in the trash until it is emptied.\n"
        f"Free the room: studio trash --empty. Put it back: studio trash --restore {entry.id}"
    )
    out.result(document, text)


def _run(name: str) -> runs.Run | None:
    """Give the run of a name; None where it is none, but something else of the list may be."""
    try:
        return runs.find(name)
    except RunError:
        if any(name in (item.name, item.key) for item in stock.look().items):
            return None
        raise


def _item(name: str) -> stock.Item:
    fits = [item for item in stock.look().items if name in (item.name, item.key)]
    if len({item.key for item in fits}) > 1:
        keys = ", ".join(item.key for item in fits)
        raise InputError(f"{name!r} is the name of {len(fits)} things.", f"Name one by its key: {keys}.")
    return fits[0]


def _trash(args: argparse.Namespace, out: Out) -> None:
    if args.restore is not None:
        entry = trash.restore(args.restore)
        out.result({"restored": entry.id, "place": entry.place}, f"Put back: {entry.place}")
    elif args.empty:
        freed = trash.empty()
        out.result({"freed": freed}, f"{size(freed)} freed.")
    elif args.after is not None:
        trash.keep(_days(args.after))
        _list(out)
    else:
        _list(out)


def _days(text: str) -> float | None:
    if text == "never":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"{text!r} is not a number of days.", "For instance: studio trash --after 30") from None


def _list(out: Out) -> None:
    trash.tidy()
    found, days = trash.entries(), trash.days()
    document = {
        "days": days,
        "bytes": sum(entry.bytes for entry in found),
        "entries": [{"id": e.id, "what": e.what, "place": e.place, "when": e.when, "bytes": e.bytes} for e in found],
    }
    rows = [(e.id, size(e.bytes), time.strftime("%Y-%m-%d", time.localtime(e.when)), e.what) for e in found]
    text = table(rows, ("ID", "SIZE", "DELETED", "WHAT")) if rows else "The trash is empty."
    rule = "It is emptied only by hand." if days is None else f"What is older than {days:g} days goes by itself."
    out.result(document, f"{text}\n{rule}")
