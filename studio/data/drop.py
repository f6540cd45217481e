"""Leave rows out: the codes of the lint that `Reading.drop` may name, as a filter on records."""

from __future__ import annotations

from collections.abc import Collection

from studio.data import near, same, signs
from studio.data.finding import DROPPABLE
from studio.data.records import Record
from studio.errors import ConfigError


class Dropper:
    """Say of each record, in their order, why it is left out.

    "bad" rows never become records, so nothing is asked here about them. "duplicate" and "near_duplicate" keep the
    first of each kind (exact copies are near ones too): 60 bytes a row, and at most 60 MB of signatures.

    Raises ConfigError for a code that cannot be dropped.
    """

    def __init__(self, codes: Collection[str]) -> None:
        unknown = sorted(set(codes) - DROPPABLE)
        if unknown:
            known = ", ".join(sorted(DROPPABLE))
            raise ConfigError(f"Rows cannot be left out by {unknown[0]!r}.", f"Choose from: {known}.", field="drop")
        self._codes = frozenset(codes)
        self._by_itself = self._codes - {"bad", "duplicate", "near_duplicate"}
        self._seen: set[int] = set()
        self._index = near.Index() if "near_duplicate" in self._codes else None

    def why(self, record: Record) -> str:
        """Give the code that leaves the record out, "" to keep it."""
        if self._by_itself:
            for sign in signs.signs(record):
                if sign.code in self._by_itself:
                    return sign.code
        if "duplicate" in self._codes:
            key = same.whole(record)
            if key in self._seen:
                return "duplicate"
            self._seen.add(key)
        if self._index is not None and self._index.seen(near.signature(same.likeness(record))):
            return "near_duplicate"
        return ""
