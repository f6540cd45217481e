"""What a step of each kind may say, checked when the recipe is read: hours before its turn would come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from studio import config, runs
from studio.data import rules
from studio.errors import ConfigError, InputError
from studio.evals.job import usual
from studio.evals.suite import SUITES, load
from studio.feedback import engines
from studio.feedback import job as feedback
from studio.methods import METHODS
from studio.models import quants

if TYPE_CHECKING:
    from studio.lab.recipe import Step

Wrong = Callable[[str, str, str], ConfigError]
#: Kinds that begin with the base, where nothing else is named.
ON_BASE = ("train", "export", "merge")
_READING = {"mapping": dict, "kind": str, "drop": list, "fill": dict}
#: kind -> its options, each with the type that it has to have.
_OPTIONS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "train": {"reading": dict, "reward": str, "day": str, "processes": int},
    "eval": {"of": str, "against": str, "suites": list, "judge": str, "files": dict, "n": int, "settings": dict,
             "seed": int, "allow_endpoint": bool, "engine": str, "context": int, "device": str},
    "export": {"quants": list, "name": str, "system": str, "base": bool, "temperature": (int, float), "num_ctx": int,
               "apart": bool, "imatrix": str, "quality": bool, "adapter": str, "template": str},
    "merge": {"name": str, "adapter": str, "template": str},
}  # fmt: skip
_USELESS = {
    "feedback": ("method", "model"),
    "eval": ("method", "data", "settings"),
    "export": ("method", "data", "settings"),
    "merge": ("method", "data", "settings"),
}
_WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def check(step: Step, wrong: Wrong) -> None:
    """Check a step's fields, settings and options by its kind; `wrong` makes the error about one of them."""
    for name in _USELESS.get(step.kind, ()):
        if getattr(step, name):
            raise wrong(f"A step of the kind {step.kind} has no use for {name!r}.", "Leave it out.", name)
    if step.kind in _OPTIONS:
        _typed(step.options, _OPTIONS[step.kind], wrong, "options")
    _CHECKS[step.kind](step, wrong)


def _typed(
    given: Mapping[str, Any],
    known: Mapping[str, type | tuple[type, ...]],
    wrong: Wrong,
    where: str,
    what: str = "option",
) -> None:
    for name, value in given.items():
        if name not in known:
            raise wrong(f"There is no {what} {name!r}.", f"Choose of: {', '.join(sorted(known))}.", f"{where}.{name}")
        wanted = known[name]
        of = wanted if isinstance(wanted, tuple) else (wanted,)
        if not isinstance(value, of) or (isinstance(value, bool) and bool not in of):
            said = f"{name!r} is {_WORDS[of[-1]]}, not {value!r}."
            raise wrong(said, f"Write {_WORDS[of[-1]]}.", f"{where}.{name}")


def _built(cls: type[Any], values: Mapping[str, Any], wrong: Wrong, where: Callable[[str], str]) -> Any:
    """Build settings; what is wrong with one is said of the place that it stands in."""
    try:
        return config.build(cls, values)
    except ConfigError as error:
        raise wrong(error.message, error.remedy, where(error.field or "")) from None


def _train(step: Step, wrong: Wrong) -> None:
    if step.method not in METHODS:
        raise wrong(f"There is no method {step.method!r}.", f"Choose one of: {', '.join(METHODS)}.", "method")
    if not step.data:
        raise wrong("A training run needs data.", "Write data = a path or @NAME.", "data")
    method = METHODS[step.method]
    _built(method.Config, step.settings, wrong, lambda name: f"settings.{name}")
    reading, online = step.options.get("reading") or {}, method.kind == "online"
    _typed(reading, _READING, wrong, "options.reading")
    if (processes := step.options.get("processes", 1)) < 1 or (processes > 1 and online):
        why = f"{step.method} runs in one process." if processes > 0 else "A run takes at least one process."
        raise wrong(why, "Leave it out.", "options.processes")
    _reward(step, online, wrong)


def _reward(step: Step, online: bool, wrong: Wrong) -> None:
    spec, key = str(step.options.get("reward") or ""), "options.reward"
    if spec and not online:
        raise wrong(f"{step.method} has no use for a reward.", "Leave it out.", key)
    if online and not spec:
        said = f"Nothing says what scores the answers of {step.method}."
        raise wrong(said, f"Write reward = the step of a reward run, or a rule: {rules.FORMS}.", key)
    if spec and not spec.startswith("@") and not runs.is_run(spec):
        try:
            rules.rule(spec).close()
        except InputError as error:
            raise wrong(error.message, error.remedy, key) from None


def _feedback(step: Step, wrong: Wrong) -> None:
    options = {**step.options}
    source = options.pop("source", "")
    if not isinstance(source, str) or source not in feedback.SOURCES:
        said = f"There is no source {source!r}." if source else "Nothing says where the judged answers come from."
        raise wrong(said, f"Write source = one of: {', '.join(feedback.SOURCES)}.", "options.source")
    _typed({"reading": options.get("reading", {})}, {"reading": dict}, wrong, "options")
    _typed(options.pop("reading", {}), _READING, wrong, "options.reading")
    made = feedback.module(source)

    def where(name: str) -> str:
        return f"settings.{name}" if name in step.settings else f"options.{name}"

    _built(made.Config, {**options, **step.settings}, wrong, where)
    if not step.data and getattr(made, "NEEDS_DATA", True):
        raise wrong(f"The source {source} needs prompts or answers.", "Write data = a path or @NAME.", "data")


def _eval(step: Step, wrong: Wrong) -> None:
    options = step.options
    if not (options.get("of") or step.parent):
        raise wrong("Nothing is said to be evaluated.", "Write parent = @NAME.", "parent")
    files, settings = options.get("files") or {}, options.get("settings") or {}
    for name in options.get("suites") or ():
        _suite(name, wrong, "options.suites")
    for key, named in (("files", files), ("settings", settings)):
        for name, value in named.items():
            _suite(name, wrong, f"options.{key}.{name}")
            if options.get("suites") and name not in options["suites"]:
                said = f"{name!r} is not evaluated here."
                raise wrong(said, "Add it to suites, or leave this out.", f"options.{key}.{name}")
            _typed({name: value}, {name: str if key == "files" else dict}, wrong, f"options.{key}")
    for name in suites(step):
        suite = load(SUITES[name])
        _built(suite.Config, settings.get(name, {}), wrong, f"options.settings.{name}.{{}}".format)
        if suite.needs_file and name not in files:
            remedy = f"Write files = {{ {name} = @NAME }}."
            raise wrong(f"The suite {name} asks a file of yours.", remedy, "options.files")
    try:
        engines.check(options.get("engine", engines.AUTO))
    except ConfigError as error:
        raise wrong(error.message, error.remedy, "options.engine") from None
    if options.get("n", 1) < 1:
        raise wrong(f"n: {options['n']} is below 1", "The most items that a suite asks.", "options.n")


def suites(step: Step) -> list[str]:
    """Give the suites that a step of the kind eval asks, as `studio eval` chooses them."""
    files = step.options.get("files") or {}
    named = step.options.get("suites") or [name for name in SUITES if name in files or usual(load(SUITES[name]))]
    return [name for name in SUITES if name in named]


def _suite(name: Any, wrong: Wrong, key: str) -> None:
    if not isinstance(name, str) or name not in SUITES:
        raise wrong(f"There is no suite {name!r}.", f"Choose of: {', '.join(SUITES)}.", key)


def _files(step: Step, wrong: Wrong) -> None:
    types = step.options.get("quants") or []
    try:
        quants.check([str(name) for name in types])
    except ConfigError as error:
        raise wrong(error.message, error.remedy, "options.quants") from None


_CHECKS: dict[str, Callable[[Step, Wrong], None]] = {
    "train": _train,
    "feedback": _feedback,
    "eval": _eval,
    "export": _files,
    "merge": _files,
}
