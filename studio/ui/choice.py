"""What the user chose last: `$STUDIO_HOME/window.json`, read at every look, so that tabs and restarts agree.

model    starter, a folder or a hub id          facts   what the last check of it said
data     {"train": {...}, "align": {...}}: the file in use on each page and what its check said
looking  the file and row on the data page      runs    {step: run id} the run picked to look at
form     {method: {setting: value}}             chat    files, adapters, settings
next     {step: method, parent, reward}: of the next run        compare  {step: run ids} ticked to be compared
push     what is sent to the hub                recipe  the one that is looked at, and the run of one that is shown
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from studio import paths
from studio.redact import redact

_lock = threading.Lock()


def path() -> Path:
    """Give the file's place."""
    return paths.home() / "window.json"


def read() -> dict[str, Any]:
    """Read the choices; a file that is missing or broken counts as none."""
    try:
        found = json.loads(path().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def get(name: str) -> dict[str, Any]:
    """Read one group of choices."""
    found = read().get(name)
    return found if isinstance(found, dict) else {}


def update(**values: Any) -> None:
    """Change some choices; a group (a dict) is merged into the group that is there."""
    with _lock:
        chosen = read()
        for name, value in values.items():
            old = chosen.get(name)
            chosen[name] = {**old, **value} if isinstance(old, dict) and isinstance(value, dict) else value
        paths.write_text(path(), redact(json.dumps(chosen, ensure_ascii=False, indent=1)) + "\n")


def forget(name: str) -> None:
    """Drop a group of choices."""
    with _lock:
        chosen = read()
        if chosen.pop(name, None) is not None:
            paths.write_text(path(), json.dumps(chosen, ensure_ascii=False, indent=1) + "\n")
