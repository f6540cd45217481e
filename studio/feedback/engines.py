"""What a local speaker is run by: llama.cpp, or transformers on the weights as they were trained.

`auto` is llama.cpp: quick, and what a chat and an exported file answer by. Where it cannot be loaded, or where what is
named has no GGUF form, it is transformers, and the run is told why. All that is named together and is no GGUF file is
run by one of the two, so that no difference between them is one of the engines.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import events
from studio.chat.session import Session
from studio.errors import ConfigError, ToolMissing
from studio.export import speaking

AUTO, LLAMA, TRANSFORMERS = "auto", "llama.cpp", "transformers"
CHOICES = (AUTO, LLAMA, TRANSFORMERS)
#: The help of the setting `engine` of all that has a local speaker.
HELP = (
    "What runs local models: llama.cpp, or transformers (slower, on the weights as they were trained). auto: llama.cpp "
    "where it loads and the model has a GGUF form, else transformers."
)


def check(engine: str) -> str:
    """Give the engine back. Raises ConfigError for one that there is not."""
    if engine not in CHOICES:
        raise ConfigError(f"There is no engine {engine!r}.", f"Choose one of: {', '.join(CHOICES)}.", field="engine")
    return engine


def choose(
    engine: str,
    names: Sequence[str],
    session: Session,
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> set[str]:
    """Give the names that transformers runs, of those of local speakers; `session` is where llama.cpp would be asked.

    Says why where it was not asked for. Raises ConfigError, and what a name that means nothing raises.
    """
    files = [name for name in names if Path(name).suffix == ".gguf"]
    others = [name for name in names if name not in files]
    told = ""
    if check(engine) == AUTO and others:
        told = _missing(session)
        named = (name for name in others if name != "base")
        reasons = (speaking.no_gguf(name, emit, should_stop) for name in named)
        told = told or next(filter(None, reasons), "")
        said = f"Answers come through transformers: {told}."
    elif engine == TRANSFORMERS and files:
        told = ", ".join(Path(name).name for name in files)
        said = f"Through llama.cpp, since it is a GGUF file: {told}. The others are run by transformers."
    if told and emit is not None:
        emit(events.event("note", level="info", code="engine", text=said))
    return set(others) if engine == TRANSFORMERS or (told and engine == AUTO) else set()


def _missing(session: Session) -> str:
    """Say why llama.cpp cannot be asked, "" where it can; it is loaded in its own process only."""
    try:
        if importlib.util.find_spec("llama_cpp") is None:
            return "llama-cpp-python is not installed"
    except (ImportError, ValueError) as error:
        return f"llama-cpp-python does not load here ({error})"
    try:
        session.about()
    except ToolMissing as error:
        return error.message.rstrip(".")
    return ""


def through(who: Mapping[str, Any]) -> str:
    """Say what ran a speaker, and on what, by its identity; "" of nobody."""
    if not who:
        return ""
    beside = f", adapter {who['adapter']}" if who.get("adapter") else ""
    raw = ", asked in plain text" if who.get("raw") else ""
    file = who.get("file") or who.get("name")
    if who.get("engine") == TRANSFORMERS:
        return f"transformers on {file} in {who['dtype']}{beside}{raw}"
    if who.get("endpoint"):
        return f"the endpoint {who['endpoint']}, model {who.get('model')}"
    return f"llama.cpp on the {who.get('type') or '?'} file {file}{beside}{raw}"
