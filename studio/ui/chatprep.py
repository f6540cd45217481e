"""The files that the chat's panes speak with: made in a child when they are wanted, and known again without it.

The child (export/chatfiles) needs torch and some seconds; what it made is written down with the state of what it was
made from, so that a window that is opened again can answer at once.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from studio import paths
from studio.child import Child
from studio.errors import StudioError
from studio.models import check
from studio.ui import chatpick, live
from studio.ui.chatpick import Source
from studio.ui.live import Scene

Answer = dict[str, Any]
#: The longest silence of the child, in seconds: torch is loaded, a large base is read.
_PATIENCE = 600.0
#: Bytes of a model whose chat files are made before anybody asks for them.
SMALL = 1 << 30

#: What an adapter made elsewhere speaks by.
_OF_ADAPTER = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
)
#: Seconds that the child waits for another request.
_LINGERS = 15.0

log = logging.getLogger("studio.window")
_making, _writing = threading.Lock(), threading.Lock()
_failed: set[str] = set()
_child: Child | None = None
_ending: threading.Timer | None = None


def request(source: Source, other: Source | None, model: str) -> Answer:
    """Say what files a source needs; the base's are those of the run in the other pane, so that both share them."""
    beside = other if source.base and other is not None and other.stands_on(model) else source
    if beside.run:
        return {"run": beside.run, "checkpoint": beside.step, "base": source.base}
    if beside.adapter:
        return {"adapter": beside.adapter, "model": beside.on, "base": source.base}
    return {"model": model, "base": True}


def known(wanted: Answer) -> Answer | None:
    """Give the files if they were made before, of what lies there now."""
    kept = _read().get(_key(wanted))
    if not isinstance(kept, dict) or kept.get("stamp") != _stamp(wanted, kept.get("from") or []):
        return None
    files = [str(kept.get("gguf") or ""), *([str(kept["adapter"])] if kept.get("adapter") else [])]
    return kept if all(Path(file).is_file() for file in files) else None


def make(wanted: Answer, tell: Callable[[Answer], None] = lambda event: None, stopped: Any = None) -> Answer:
    """Give the files, made where they are not known; `tell` hears how far it is. Raises what the child raises."""
    if (found := known(wanted)) is not None:
        return found
    with _making:
        if (found := known(wanted)) is not None:  # somebody else made them meanwhile
            return found
        answers = _borrowed().stream(wanted, timeout=_PATIENCE)
        try:
            for answer in answers:
                if "progress" in answer:
                    tell(answer["progress"])
                else:
                    found = answer
                if stopped is not None and stopped():
                    break
        finally:
            if isinstance(answers, Generator):
                answers.close()
            _give_back()
    if found is None:
        return {}
    kept = {**found, "stamp": _stamp(wanted, found["from"])}
    with _writing:
        paths.write_text(_place(), json.dumps({**_read(), _key(wanted): kept}, indent=1) + "\n")
    return kept


def _borrowed() -> Child:
    """Give the child; it holds torch, so it ends when nobody has wanted it for a while."""
    global _child, _ending
    if _ending is not None:
        _ending.cancel()
    _child = _child or Child("studio.export.chatfiles:handle")
    return _child


def _give_back() -> None:
    global _ending
    _ending = threading.Timer(_LINGERS, close)
    _ending.daemon = True
    _ending.start()


def close() -> None:
    """End the child, once it has made what it is at."""
    global _child
    with _making:
        if _child is not None:
            _child.close()
        _child = None


def ahead(scene: Scene) -> bool:
    """Make the files of a small model's newest run while nothing else goes on, so that the first question need not."""
    if scene.running is not None or scene.queue or not small(scene):
        return False
    sources = chatpick.chosen(scene)
    for source, other in zip(sources, reversed(sources), strict=True):
        if source is None or source.file or not any(one and (one.run or one.adapter) for one in (source, other)):
            continue
        wanted = request(source, other, scene.model)
        key = _key(wanted) + repr(_stamp(wanted, []))
        if key not in _failed and known(wanted) is None and not _making.locked():
            _failed.add(key)  # once is enough: a question says what is wrong
            threading.Thread(target=_quietly, args=(wanted,), daemon=True).start()
    return False


def _quietly(wanted: Answer) -> None:
    try:
        make(wanted)
        live.touch()
    except StudioError as error:
        log.info("chat files could not be made ahead: %s", error.message)
    except Exception as error:
        log.error("chat files could not be made ahead", exc_info=error)


def small(scene: Scene, most: int = SMALL) -> bool:
    """Tell whether the picked model has fewer bytes than that."""
    facts = scene.chosen.get("facts") or {}
    size = facts.get("bytes") if facts.get("model") == scene.model else None
    return isinstance(size, int | float) and size < most


def _key(wanted: Answer) -> str:
    return json.dumps(wanted, sort_keys=True)


def _stamp(wanted: Answer, folders: list[str]) -> list[list[Any]]:
    """Tell the state of what the files are made from: adapter, weights, the template of a base."""
    files: list[Path] = []
    if run := wanted.get("run"):
        name = wanted.get("checkpoint")
        at = Path(run) / "checkpoints" / name if name else Path(run) / "adapter"
        files += [at / "adapter_model.safetensors"]
    if folder := wanted.get("adapter"):
        files += [Path(folder) / name for name in _OF_ADAPTER]
    for weights in dict.fromkeys(folders):
        try:
            files += [*check.weight_files(Path(weights)), Path(weights) / "tokenizer_config.json"]
        except (StudioError, OSError):
            return [["gone", weights]]
    found: list[list[Any]] = []
    for file in files:
        try:
            stat = file.stat()
            found.append([str(file), stat.st_size, stat.st_mtime_ns])
        except OSError:
            found.append([str(file), 0, 0])
    return found


def _place() -> Path:
    return paths.cache() / "chatfiles.json"


def _read() -> dict[str, Any]:
    try:
        found = json.loads(_place().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
