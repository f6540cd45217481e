"""The command line that does the same as the window: every word of it, so that it runs where it is pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import paths
from studio.ui import choosing, parts
from studio.ui.live import Scene, View

THE_SAME, THIS_RUN = "The same from a terminal", "This run from a terminal"


def line(words: Sequence[str]) -> str:
    """Write words as a line for this system's shell, with our program's place and the data folder where needed."""
    if sys.platform == "win32":
        return subprocess.list2cmdline([*program(), *words])
    home = os.environ.get("STUDIO_HOME")
    before = f"STUDIO_HOME={shlex.quote(str(paths.home()))} " if home else ""
    return before + shlex.join([*program(), *words])


def program() -> list[str]:
    """Give the words that start Studio from anywhere: `studio` where the shell finds this one, else a whole path."""
    name = "studio.exe" if sys.platform == "win32" else "studio"
    beside, found = Path(sys.executable).parent / name, shutil.which("studio")
    if found and Path(found).absolute() == beside.absolute():
        return ["studio"]
    checkout = Path(paths.__file__).resolve().parent.parent
    run = checkout / ("run.bat" if sys.platform == "win32" else "run")
    if run.is_file() and (checkout / "pyproject.toml").is_file():
        return [str(run)]
    return [str(beside)] if beside.is_file() else [sys.executable, "-m", "studio"]


def of_run(view: View | None) -> str:
    """Draw the line that starts a run as it was."""
    if view is None:
        return ""
    c = view.config
    reading, reward = c.options.get("reading") or {}, str(c.options.get("reward") or "")
    words = words_of(c.method, c.model, c.data, c.parent, c.settings, reading, reward)
    return parts.terminal(line(words), THIS_RUN)


def of_next(scene: Scene, step: str) -> str:
    """Draw the line that starts what is chosen; nothing as long as it could not start."""
    method = choosing.method(scene, step)
    if choosing.missing(scene, step, method) or choosing.problems(scene, step):
        return ""
    used, before = choosing.data(scene, step, method), choosing.parent(scene, step)
    words = words_of(
        method.name,
        scene.model,
        str(used["file"]),
        before.id if before is not None else "",
        choosing.saved(scene, method.name),
        used.get("reading") or {},
        choosing.scorer(scene, step) if method.kind == "online" else "",
    )
    return parts.terminal(line(words), THE_SAME)


def words_of(
    method: str,
    model: str,
    data: str,
    parent: str,
    settings: Mapping[str, Any],
    reading: Mapping[str, Any],
    reward: str = "",
) -> list[str]:
    """Give the words of a `train` command; `reading` says how its file is read."""
    words = ["train", method, "--model", model, "--data", data]
    if parent:
        words += ["--parent", name_of(parent)]
    if reward:
        is_rule = ".py:" in reward or not Path(reward).is_absolute()
        words += ["--reward", reward if is_rule else name_of(reward)]
    for name, value in settings.items():
        words += ["--set", f"{name}={'' if value is None else value}"]
    return words + reading_words(reading)


def reading_words(reading: Mapping[str, Any]) -> list[str]:
    """Give the words that say how a file is read."""
    words: list[str] = []
    if mapping := reading.get("mapping"):
        words += ["--map", ",".join(f"{column}={role}" for column, role in mapping.items())]
    if kind := reading.get("kind"):
        words += ["--as", str(kind)]
    for code in reading.get("drop") or ():
        words += ["--drop-bad"] if code == "bad" else ["--drop", str(code)]
    for name, text in (reading.get("fill") or {}).items():
        words += ["--fill", f"{name}={text}"]
    return words


def name_of(path: str) -> str:
    """Give a path's last part, of either system."""
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
