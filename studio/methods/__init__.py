"""Methods of post-training, one file each.

Adding one costs a file, a pure loss if the mathematics is new, and a line here. Methods of other packages come in by
the entry points of the group `studio.methods`, each naming a Method.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys

from studio.methods import dpo, ipo, kto, orpo, ppo, reward, rloo, sft, simpo
from studio.methods.base import Method

GROUP = "studio.methods"

_OWN = (
    sft.METHOD,
    dpo.METHOD,
    ipo.METHOD,
    kto.METHOD,
    orpo.METHOD,
    simpo.METHOD,
    reward.METHOD,
    ppo.METHOD,
    rloo.METHOD,
)
METHODS: dict[str, Method] = {method.name: method for method in _OWN}
#: Entry points that gave no method, with the reason: one broken package must not stop the others.
BROKEN: dict[str, str] = {}

for _entry in importlib.metadata.entry_points(group=GROUP):
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a line of its own would spoil what --json prints
            _found = _entry.load()
        if not isinstance(_found, Method):
            BROKEN[_entry.name] = f"{_entry.value} is no Method"
        elif _found.name in METHODS:
            BROKEN[_entry.name] = f"there is a method {_found.name!r} already"
        else:
            METHODS[_found.name] = _found
    except (Exception, SystemExit) as error:  # whatever another package does wrong
        BROKEN[_entry.name] = f"{type(error).__name__}: {error}"

__all__ = ["BROKEN", "METHODS", "Method"]
