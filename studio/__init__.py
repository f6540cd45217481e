"""Studio turns a base model into an assistant, on one consumer GPU or a plain CPU, and proves what came out.

The Python door: the command line's verbs as functions. Importing it loads no framework; each gives the document that
`--json` prints, tells its progress to `emit` and raises StudioErrors. (`train` and `export` alone are rooms of the
house: a function of such a name would be lost as soon as the room is opened.)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studio.data.records import Reading
    from studio.events import Emit
    from studio.lab.recipe import Recipe
    from studio.models.check import ModelInfo
    from studio.runs import RunConfig

__all__ = [
    "check_data",
    "check_model",
    "evaluate",
    "export_model",
    "make_feedback",
    "merge_model",
    "run_demo",
    "run_lab",
    "run_recipe",
    "train_model",
    "verify_file",
    "write_recipe",
]
__version__ = "0.1.0"


def check_data(path: str | Path, reading: Reading | None = None) -> dict[str, Any]:
    """Find a data file's format and list what is wrong with it."""
    from studio.data import report
    from studio.data.records import Reading

    return report.check(path, reading or Reading()).document


def check_model(model: str) -> ModelInfo:
    """Check a model (`starter`, a folder, a hub id) and describe it; ModelError when it cannot be used."""
    from studio.models import check
    from studio.render import vet

    return vet.inspect(check.inspect(model))


def train_model(
    method: str,
    *,
    data: str | Path,
    model: str = "",
    parent: str = "",
    reward: str = "",
    out: Path | None = None,
    title: str = "",
    settings: Mapping[str, Any] | None = None,
    reading: Reading | None = None,
    rehearse: bool = False,
    processes: int = 1,
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Train with a method; a bad setting is refused before anything is written.

    With `rehearse` a few rows go the whole way instead, and the document says what all of them will take
    (lab/rehearse.py). `data` is a file, "votes" or "thumbs" (of the chat page), or a set of judged answers
    (data/preferences.py); `reading` says how it is read; `parent` is the run to go on from (its model is taken when
    none is named); `reward` is what scores the answers of ppo and rloo, a reward run or a rule (data/rules.py); `out`
    the run's directory. Of several `processes` (train/together.py) each learns from `batch_size` rows in a step.
    """
    from studio import config, runs
    from studio.data import preferences
    from studio.errors import ConfigError
    from studio.methods import METHODS

    if method not in METHODS:
        raise ConfigError(f"There is no method {method!r}.", f"Choose one of: {', '.join(METHODS)}.", field="method")
    given = dict(settings or {})
    checked = config.build(METHODS[method].Config, given)
    before = runs.find(parent) if parent else None
    base = model or (before.config.model if before else "")
    if not base:
        raise ConfigError("No base model was named.", "Name starter, a folder or a hub id.", field="model")
    options: dict[str, Any] = {"reading": reading.to_dict()} if reading else {}
    if METHODS[method].kind == "online":
        options["reward"] = str(runs.find(reward).dir) if reward and runs.is_run(reward) else _rule(reward, method)
    elif reward:
        raise ConfigError(f"{method} has no use for a reward.", "Leave --reward out.", field="reward")
    if processes < 1 or (processes > 1 and METHODS[method].kind == "online"):
        why = f"{method} runs in one process." if processes > 0 else "A run takes at least one process."
        raise ConfigError(why, "Leave --processes out.", field="processes")
    folder = Path(base).expanduser()
    file = preferences.named(
        data, next((kind for kind in preferences.KINDS if kind in METHODS[method].kinds), "preference")
    )
    if processes > 1 and not rehearse:
        options["processes"] = processes
    if rehearse and out is not None:
        options["place"], out = str(Path(out).expanduser().resolve()), None
    made = runs.RunConfig(
        kind="rehearse" if rehearse else "train",
        title=title or f"{method} {file.stem}",
        model=str(folder.resolve()) if base != "starter" and folder.is_dir() else base,
        method=method,
        data=str(file.resolve()),
        parent=str(before.dir) if before else "",
        settings={name: getattr(checked, name) for name in given},
        options=options,
    )
    return _do(made, out, emit, should_stop)


def _rule(spec: str, method: str) -> str:
    """Check a rule before anything is written, and give it as it can be kept."""
    from studio.data import rules
    from studio.errors import ConfigError

    if not spec:
        raise ConfigError(
            f"Nothing says what scores the answers of {method}.",
            f"Name a finished reward run, or a rule: {rules.FORMS}.",
            field="reward",
        )
    rules.rule(spec).close()
    return rules.absolute(spec)


def merge_model(
    source: str,
    out: str | Path,
    *,
    model: str = "",
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Write a run, or an adapter made elsewhere (a PEFT folder, on the base `model`), as an ordinary model folder."""
    made = _of(source, model, "merge", {"out": str(Path(out).expanduser().resolve())})
    return _do(dataclasses.replace(made, title=f"merge {made.title}"), None, emit, should_stop)


def export_model(
    source: str,
    *,
    model: str = "",
    quants: Sequence[str] = (),
    out: str | Path = "",
    system: str = "",
    imatrix: str = "",
    quality: bool = False,
    adapter: bool = False,
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Write a run, an adapter made elsewhere, or a model as GGUF files, each with a certificate, and a Modelfile.

    `model` is the base of an adapter made elsewhere, where its folder does not name it. `imatrix` is "auto" or a file,
    for all types that take an importance matrix (by default one is made where a type needs it); `quality` measures each
    file against the 16-bit one on held-out rows; `adapter` also writes base and adapter as two files.
    """
    options: dict[str, Any] = {"quants": list(quants), "system": system, "imatrix": imatrix, "quality": quality}
    options |= {"apart": True} if adapter else {}
    if out:
        options["out"] = str(Path(out).expanduser().resolve())
    made = _of(source, model, "export", options)
    made.options["name"] = made.title
    return _do(made, None, emit, should_stop)


def verify_file(
    gguf: str | Path,
    *,
    model: str = "",
    base: str = "",
    repair: str | Path = "",
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Make a GGUF file's certificate anew, also of one made elsewhere; `repair` names a copy to mend what fails.

    `model` is what it was made of: a run, a model, or an adapter's folder with its `base`.
    """
    from studio.export import verify

    return verify.verify(gguf, model, repair, emit, should_stop, base)


def evaluate(
    run: str,
    *,
    against: str = "",
    suites: Sequence[str] = (),
    judge: str = "",
    files: Mapping[str, str | Path] | None = None,
    n: int | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    seed: int = 0,
    allow_endpoint: bool = False,
    engine: str = "auto",
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Measure a run, an adapter, a model or a GGUF file with suites (all by default) before and after: its card.

    `against` is `base`, a run, a model or a file; "" the run's parent, else its base; "none" nobody. `judge` answers
    where free answers are judged. `files` {suite: file} are items of your own ("": of the only suite), `n` the most
    items a suite asks, `settings` {suite: {name: value}}; `allow_endpoint` lets a judge elsewhere get the text;
    `engine` is "llama.cpp", "transformers" or "auto" (feedback/engines.py).
    """
    from studio.evals import job

    given = {name: str(file) for name, file in (files or {}).items()}
    made = job.asked(
        run,
        against,
        suites,
        judge=judge,
        files=given,
        n=n,
        settings=settings,
        seed=seed,
        allow_endpoint=allow_endpoint,
        engine=engine,
    )
    return _do(made, None, emit, should_stop)


def make_feedback(
    source: str,
    *,
    data: str | Path = "",
    settings: Mapping[str, Any] | None = None,
    reading: Reading | None = None,
    out: Path | None = None,
    title: str = "",
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Make a set of judged answers by a source (feedback/job.py SOURCES), which every method that fits can train on.

    `data` is a file of prompts or of answers, another set, or "votes"; `settings` are the source's own.
    """
    from studio.feedback import job

    return _do(job.asked(source, data, settings or {}, reading, title), out, emit, should_stop)


def run_demo(
    *, seed: int = 0, emit: Emit | None = None, should_stop: Callable[[], bool] | None = None
) -> dict[str, Any]:
    """Walk the whole path on the starter model and measure every stage on held-out questions."""
    from studio.runs import RunConfig

    return _do(RunConfig("demo", "First assistant", "starter", options={"seed": seed}), None, emit, should_stop)


def run_lab(
    name: str,
    *,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Do one of the guided experiments on the starter model (lab/experiments)."""
    from studio.lab import experiments

    return _do(experiments.asked(name, dict(settings or {})), out, emit, should_stop)


def write_recipe(run: str) -> Recipe:
    """Write down everything that made a run (lab/recipe.py); `.text()` gives it as TOML."""
    from studio import runs
    from studio.lab import recording

    return recording.record(runs.find(run))


def run_recipe(
    file: str | Path,
    *,
    out: Path | None = None,
    data: Mapping[str, str] | None = None,
    model: str = "",
    resume: bool = False,
    emit: Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> dict[str, Any]:
    """Do a recipe again, step by step; what cannot be found or is another file is said before anything starts.

    `data` says where files are now ({name or old path: new path}), `model` where the base is. `resume` goes on with
    the run of this recipe that was stopped last, or with the one in `out`.
    """
    from studio import worker
    from studio.lab import starting

    run = starting.begin(Path(file), out, dict(data or {}), model, resume)
    return worker.work(run, emit, should_stop)


def _of(name: str, base: str, kind: str, options: dict[str, Any]) -> RunConfig:
    """Make the config of a run of this kind for RUN|ADAPTER|MODEL, checked before anything is written."""
    from studio.export import meant
    from studio.models import elsewhere
    from studio.runs import RunConfig

    found = meant.find(name, base)
    if found.adapter is not None:
        elsewhere.inspect(found.adapter, found.model)
        options = {**options, "adapter": str(found.adapter)}
    title = found.title or check_model(found.model).name
    return RunConfig(kind, title, found.model, parent=str(found.run.dir) if found.run else "", options=options)


def _do(
    config: RunConfig, out: Path | None, emit: Emit | None, should_stop: Callable[[], bool] | None
) -> dict[str, Any]:
    from studio import runs, worker

    return worker.work(runs.create(config, out), emit, should_stop)
