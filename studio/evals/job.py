"""The run that evaluates: suites are asked of both sides by one engine, and come to a card (card.py).

RUN/
├── answers.jsonl   every answer as it came (asking.py): what a resumed run does not ask again
├── shown.json      the answers to read one by one, by suite
├── report.html     the card as a page that opens by itself (report.py)
└── result.json     the card

options: `of` (who is evaluated), `against` ("" for nobody), `suites`, `judge`, `files` {suite: file}, `settings`
{suite: {name: value}}, `seed`, `allow_endpoint`, `engine`, `context`, `device`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import config, events, paths
from studio.data import writers
from studio.errors import ChildCrashed, ConfigError, DataError, RunError, Stopped, StudioError
from studio.evals import report
from studio.evals.asking import Asked, Kept
from studio.evals.card import card
from studio.evals.suite import SUITES, Outcome, Suite, load
from studio.export import meant
from studio.feedback import endpoint, engines
from studio.feedback.speakers import Speaker, Speakers
from studio.runs import Run, RunConfig

KIND = "eval"
#: Tokens of a conversation, answers included.
CONTEXT = 2048
#: What `--against` says when nothing is to be compared.
NOBODY = "none"


def asked(
    of: str,
    against: str = "",
    suites: Sequence[str] = (),
    *,
    judge: str = "",
    files: Mapping[str, str] | None = None,
    n: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    allow_endpoint: bool = False,
    engine: str = engines.AUTO,
) -> RunConfig:
    """Make the config of an evaluation, checked before anything is written.

    `against` "" means the run's parent, else its base; "none" nobody. `files` names a suite's own file, "" the file of
    the only suite. Text goes to a judge that is not on this machine where `allow_endpoint` says so; `engine` runs what
    is local (feedback/engines.py). Raises ConfigError, RunError, ModelError.
    """
    engines.check(engine)
    endpoint.check([judge], allow_endpoint)
    given = {name: str(Path(file).expanduser().resolve()) for name, file in (files or {}).items()}
    chosen = _chosen(list(suites), given)
    for file in given.values():
        if Path(file).is_dir():
            raise ConfigError(f"{file} is a folder.", "Name a file in it.", field="data")
        if not Path(file).is_file():
            raise ConfigError(f"There is no file {file}.", "Name a file that is there.", field="data")
    for name, file in given.items():
        stat = Path(file).stat()
        _reads(name, file, (stat.st_mtime_ns, stat.st_size))
    if unknown := sorted(set(settings or {}) - set(chosen)):
        raise ConfigError(
            f"{unknown[0]!r} is not evaluated here.", f"The suites are: {', '.join(chosen)}.", field="set"
        )
    found = None if Path(of).suffix == ".gguf" else meant.find(of)
    run = found.run if found is not None else None
    built = {}
    for name in chosen:
        values = dict((settings or {}).get(name, {}))
        known = {one.name for one in config.settings(load(SUITES[name]).Config)}
        if n is not None and "n" in known:
            values.setdefault("n", n)
        cfg: Any = config.build(load(SUITES[name]).Config, values)
        ready = load(SUITES[name]).ready
        built[name] = config.to_dict(ready(cfg) if ready is not None else cfg)
    against = _against(of, against, run)
    options: dict[str, Any] = {"of": run.name if run is not None else of, "against": against}
    options |= {"suites": chosen, "judge": judge, "engine": engine}
    return RunConfig(
        KIND,
        f"evaluate {(found.title if found is not None else '') or Path(of).name}",
        found.model if found is not None else "",
        parent=str(run.dir) if run is not None else "",
        options={**options, "files": given, "settings": built, "seed": seed, "allow_endpoint": allow_endpoint},
    )


@functools.lru_cache(maxsize=32)
def _reads(name: str, file: str, version: tuple[int, int]) -> None:
    """Read a suite's file for what is wrong with it, once for as long as it stays as it is: the window asks often."""
    if (reads := load(SUITES[name]).reads) is not None:
        reads(Path(file))


def _chosen(suites: list[str], files: dict[str, str]) -> list[str]:
    """Give the suites in the order of the card; a file without a suite's name is the only suite's."""
    for name in [*suites, *filter(None, files)]:
        if name not in SUITES:
            raise ConfigError(f"There is no suite {name!r}.", f"Choose of: {', '.join(SUITES)}.", field="suite")
    if "" in files:
        if len(suites) != 1:
            raise ConfigError(
                "It is not said which suite the file is for.", "Write --data SUITE=FILE, or one --suite.", field="data"
            )
        files[suites[0]] = files.pop("")
    wanted = suites or [name for name in SUITES if name in files or usual(load(SUITES[name]))]
    for name in files:
        if load(SUITES[name]).named:
            raise ConfigError(f"The suite {name} reads no file of items.", "Leave --data out.", field="data")
    for name in wanted:
        if load(SUITES[name]).needs_file and name not in files:
            raise ConfigError(f"The suite {name} asks a file of yours.", f"Name it: --data {name}=FILE", field="data")
    return [name for name in SUITES if name in wanted]


def usual(suite: Suite) -> bool:
    """Tell whether a suite is asked where none is named."""
    return not (suite.needs_file or suite.named)


def _against(of: str, against: str, run: Run | None) -> str:
    """Name the other side: "" for nobody."""
    if against == NOBODY:
        return ""
    if against in ("", "base"):
        parent = run.parent() if run is not None and run.config.kind == "train" else None
        if parent is not None and not against:
            return parent.name
        rooted = run is not None and (run.config.kind == "train" or run.config.parent or run.config.options)
        if rooted or (run is None and Path(of).suffix != ".gguf" and meant.find(of).adapter is not None):
            return "base"
        if against:
            raise RunError(f"What {of} began with is not known.", "Name another run, model or file with --against.")
        return ""
    if Path(against).suffix == ".gguf":
        if not Path(against).expanduser().is_file():
            raise ConfigError(f"There is no file {against}.", "Name a file that is there.", field="against")
        return str(Path(against).expanduser().resolve())
    other = meant.find(against)
    return other.run.name if other.run is not None else against


def run(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Ask the suites and make the card; see card.py for the figures.

    {"run", "dir", "of", "against", "through", "sides": {side: identity}, "seed", "suites", "worse", "better",
    "changed", "undecided", "tested", "report", "seconds"}
    """
    began, options = time.monotonic(), run.config.options
    names = [options["of"], *filter(None, (options["against"], options.get("judge")))]
    context, device = int(options.get("context") or CONTEXT), str(options.get("device") or "auto")
    opened = Speakers(
        names,
        context=context,
        device=device,
        emit=emit,
        should_stop=should_stop,
        allow_endpoint=bool(options.get("allow_endpoint")),
        engine=str(options.get("engine") or engines.AUTO),
    )
    with opened as speakers:
        by_side: dict[str, Speaker] = {"after": speakers[0]}
        if options["against"]:
            by_side = {"before": speakers[1], **by_side}
        judge = speakers[-1] if options.get("judge") else None
        found = _suites(run, emit, should_stop, by_side, judge, opened)
        identities = {side: by_side[side].identity for side in by_side if side in ("before", "after")}
    made = card(found, int(options["seed"]))
    document = {
        "run": run.id,
        "dir": str(run.dir),
        "of": options["of"],
        "against": options["against"] or None,
        "through": through(identities),
        "sides": identities,
        "judge": judge.identity if judge is not None else None,
        "seed": int(options["seed"]),
        **made,
        "report": str(run.dir / report.FILE),
        "seconds": round(time.monotonic() - began, 1),
    }
    shown = {suite.name: outcome.answers for suite, outcome in found}
    paths.write_text(run.dir / "shown.json", writers.line(shown).decode())
    paths.write_text(run.dir / report.FILE, report.page(document, shown))
    return document


def _suites(
    run: Run,
    emit: events.Emit,
    should_stop: Callable[[], bool],
    by_side: dict[str, Speaker],
    judge: Speaker | None,
    opened: Speakers,
) -> list[tuple[Suite, Outcome]]:
    """Ask one suite after the other; one that cannot be measured says why, and the others go on."""
    options, kept = run.config.options, Kept(run.dir)
    sides, about = tuple(by_side), run.parent()
    found, names = [], list(options["suites"])
    for name in names:
        suite = load(SUITES[name])
        cfg: Any = config.build(suite.Config, options["settings"].get(name, {}))
        file = options["files"].get(name)
        asking = Asked(
            name,
            cfg,
            sides,
            int(options["seed"]),
            about,
            judge,
            Path(file) if file else None,
            by_side,
            opened,
            kept,
            emit,
            should_stop,
        )
        try:
            outcome = suite.run(asking)
        except (Stopped, ChildCrashed):
            raise
        except StudioError as error:
            unkept = str(error.file or "").startswith(str(run.dir))  # no answer can be kept: no suite is to blame
            if len(names) == 1 or file or unkept:
                if file and isinstance(error, DataError) and not error.file:
                    error.file = file
                    if error.field == "context":
                        error.remedy = "A row of this file is too long to be asked: shorten it, or leave it out."
                raise
            outcome = Outcome()
            asking.note(f"Not measured: {error.message} {error.remedy}".strip())
        outcome.notes = [*asking.notes, *(note for note in outcome.notes if note not in asking.notes)]
        found.append((suite, outcome))
        for note in outcome.notes:
            emit(events.event("note", level="info", code=f"eval_{name}", text=f"{suite.title}: {note}"))
    return found


def through(identities: Mapping[str, Mapping[str, Any]]) -> str:
    """Say in a sentence what ran each side, and on which files."""
    return "; ".join(f"{side}: {engines.through(who)}" for side, who in identities.items())
