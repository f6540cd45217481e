"""The run that makes a set of judged answers: one kind of run, one module a source.

options: `source` (SOURCES), and what the source's own Config declares. A source's module has:

    Config          its settings (config.setting), from which the flags, the form and the help follow
    run             the function that SOURCES names
    ready(config)   where there is one: checks the settings before anything is written, and completes them
    NAMES           the settings that name runs, models, files or endpoints (of several, separated by commas), where
                    they are not the usual ones
    NEEDS_DATA      False where it can do without a file
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from studio import config, events, runs
from studio.data import preferences, votes
from studio.data.records import Reading
from studio.errors import ConfigError
from studio.feedback import making
from studio.runs import Run, RunConfig

#: source -> the function that fills a set: (run, emit, should_stop) -> what the result says beside the counts.
SOURCES: dict[str, str] = {
    "rank": "studio.feedback.rank:run",
    "judge": "studio.feedback.judge:run",
    "rejection": "studio.feedback.rejection:run",
    "rules": "studio.feedback.checks:run",
    "constitution": "studio.feedback.constitution:run",
    "synthetic": "studio.feedback.synthetic:run",
    "redteam": "studio.feedback.findings:run",
}
#: The settings that usually name who answers and who judges.
NAMES = ("answers_from", "judge")


def module(source: str) -> ModuleType:
    """Give a source's module; ConfigError where there is no such source. It loads no framework."""
    if source not in SOURCES:
        raise ConfigError(f"There is no source {source!r}.", f"Choose one of: {', '.join(SOURCES)}.", field="source")
    return importlib.import_module(SOURCES[source].partition(":")[0])


def asked(
    source: str,
    data: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    reading: Reading | None = None,
    title: str = "",
) -> RunConfig:
    """Make the config of a set's run: all is checked, and runs are named by their directories.

    The first run that answers or judges is the set's parent. Raises ConfigError, and what the source's `ready` raises.
    """
    made = module(source)
    known = config.build(made.Config, dict(settings or {}))
    if hasattr(made, "ready"):
        known = made.ready(known)
    values, parent = config.to_dict(known), ""
    for name in (name for name in getattr(made, "NAMES", NAMES) if name in values):
        values[name], first = _placed(str(values[name] or ""))
        parent = parent or first
    file = _file(str(data)) if str(data) else ""
    if not file and getattr(made, "NEEDS_DATA", True):
        raise ConfigError("No data is named.", "Name a file of prompts or of answers.", field="data")
    options: dict[str, Any] = {"source": source, **values}
    if reading is not None and (told := reading.to_dict()):
        options["reading"] = told
    return RunConfig(
        kind=preferences.KIND,
        title=title or " ".join(filter(None, (source, Path(file).stem if file else ""))),
        data=file,
        parent=parent,
        options=options,
    )


def _placed(text: str) -> tuple[str, str]:
    """Give names with the directories of runs and the whole paths of files, and the first run's directory."""
    found, first = [], ""
    for name in making.names(text):
        if "://" not in name and runs.is_run(name):
            name = str(runs.find(name).dir)
            first = first or name
        elif "://" not in name and Path(name).expanduser().exists() and name != "starter":
            name = str(Path(name).expanduser().resolve())
        found.append(name)
    return ",".join(found), first


def _file(data: str) -> str:
    """Give what data means as a file: of a set its records, with all that is known of them."""
    if data not in votes.NAMES and (made := preferences.of(data)) is not None:
        return str(made.dir / preferences.FILE)
    named = preferences.named(data)
    return str(named.resolve()) if named.exists() else data


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Fill a set and count what it gives.

    {"run", "dir", "source", "records", "dropped": {reason: n}, "preference", "kto", "sft": rows of each kind}
    """
    options = run.config.options
    source, pairing = str(options.get("source") or ""), str(options.get("pairing") or "all")
    told = getattr(module(source), SOURCES[source].partition(":")[2])(run, emit, should_stop)
    return {
        "run": run.id,
        "dir": str(run.dir),
        "source": source,
        **preferences.counts(preferences.records(run.dir), pairing),
        **told,
    }
