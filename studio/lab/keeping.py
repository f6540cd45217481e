"""Which training run of a recipe is kept: the last one, or the best one by a figure that all of them can be held to.

A held-out figure compares runs of one method that hold out the same rows and, where the loss is measured from the
frozen parent, have the same parent. A figure of an evaluation (SUITE.MEASURE) compares the runs that were asked alike.
What cannot be compared is refused when the recipe is read; a run that was not measured is never the best. Of equals the
earlier one is kept: what came after it brought nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from studio.errors import ConfigError
from studio.evals.suite import SUITES, Measure, load
from studio.lab import steps
from studio.methods import METHODS
from studio.methods.base import TrainConfig

if TYPE_CHECKING:
    from studio.lab.recipe import Recipe, Step

HELDOUT = "heldout"
#: Settings of every method that decide which rows are held out, and what of them is asked for.
_ROWS = ("held_out", "seed", "max_length", "template", "train_on", "cut")
#: The suite that asks a run's own held-out rows, where it is given no file.
_OWN_ROWS = "fit"
#: Suites whose figures of a run are about the one that it is compared with.
_RELATIVE = ("winrate", "forgetting")

Error = Callable[..., ConfigError]


def trains(step: Step) -> bool:
    """Tell whether a step makes a model that answers."""
    return step.kind == "train" and step.method != "reward"


def best(recipe: Recipe, done: Sequence[str], figures: Mapping[str, float]) -> str:
    """Name the training run that is kept, of those that are done, in their order; "" where there is none."""
    by_name = {step.name: step for step in recipe.steps}
    trained = [name for name in done if trains(by_name[name])]
    if not trained or recipe.keep == "last":
        return trained[-1] if trained else ""
    names = [name for name in trained if name in figures]
    last = by_name[trained[-1]]
    if recipe.figure == HELDOUT:
        names = [name for name in names if _held_to(by_name[name]) == _held_to(last)]
        higher = METHODS[last.method].figure.higher
    else:
        higher = measure(recipe.figure).better == "more"
    choose = max if higher else min  # of equals both give the first
    return choose(names, key=lambda name: figures[name]) if names else trained[-1]


def _held_to(step: Step) -> tuple[Any, ...]:
    """Give what two runs must have in common for their held-out figures to say which is better."""
    method = METHODS[step.method]
    common = TrainConfig.__dataclass_fields__
    own = [] if method.kind == "online" else [name for name in method.Config.__dataclass_fields__ if name not in common]
    told = {name: step.settings.get(name) for name in (*_ROWS, *own)}
    options = {name: step.options.get(name) for name in ("reading", "reward")}
    return step.method, step.model, step.data, told, options, step.parent if method.reference else ""


def measure(figure: str) -> Measure:
    """Give the measure that SUITE.MEASURE names. Raises ConfigError."""
    suite, _, name = figure.partition(".")
    if suite not in SUITES:
        raise ConfigError(f"There is no suite {suite!r}.", f"Choose of: {', '.join(SUITES)}.", field="figure")
    known = {one.name: one for one in load(SUITES[suite]).measures}
    if name not in known:
        said = f"The suite {suite} has no measure {name!r}."
        raise ConfigError(said, f"Choose of: {', '.join(known)}.", field="figure")
    return known[name]


def measured(result: Mapping[str, Any], figure: str) -> float | None:
    """Read the figure SUITE.MEASURE of an evaluation, after; None where it was not measured."""
    suite, _, name = figure.partition(".")
    found = ((result.get("suites") or {}).get(suite) or {}).get("figures") or []
    value = next(
        (one["sides"]["after"]["value"] for one in found if one["measure"] == name and "after" in one["sides"]), None
    )
    return None if value is None else float(value)


def evaluated(recipe: Recipe, step: Step) -> str:
    """Name the training run that a step of the kind eval measures, also from its files; "" for another thing."""
    by_name = {one.name: one for one in recipe.steps}
    name = str(step.options.get("of") or step.parent)
    while name.startswith("@"):
        name = name[1:].partition(":")[0]
        if name not in by_name or by_name[name].kind == "train":
            break
        name = by_name[name].parent
    return name


# --- what cannot be compared -----------------------------------------------------------------------------------------


def check(recipe: Recipe, error: Error) -> None:
    """Refuse a figure that is none, and one by which the runs cannot be compared."""
    if recipe.figure != HELDOUT:
        if not re.fullmatch(r"[\w-]+\.[\w/ -]+", recipe.figure):
            raise error(f"{recipe.figure!r} names no figure.", "Write heldout, or SUITE.MEASURE.", key="figure")
        try:
            of = measure(recipe.figure)
        except ConfigError as wrong:
            raise error(wrong.message, wrong.remedy, key="figure") from None
    if recipe.keep == "last":
        return
    number = {step.name: at for at, step in enumerate(recipe.steps)}
    trained = [step for step in recipe.steps if trains(step)]
    if not trained:
        raise error("There is no training run to keep the best of.", 'Write keep = "last".', key="keep")
    if recipe.figure == HELDOUT:
        if len(trained) > 1 and not any(_held_to(one) == _held_to(trained[-1]) for one in trained[:-1]):
            said = (
                f"The held-out figure of {trained[-1].name} compares with that of no other step: another method, other "
                "rows, or (where the loss is measured from it) another parent."
            )
            remedy = 'Add steps of the kind eval, and write figure = "SUITE.MEASURE", such as "fit.loss".'
            raise error(said, remedy, "step", number[trained[-1].name])
        return
    if not of.better:
        raise error(f"Neither more nor less of {recipe.figure} is better.", "Choose another figure.", key="figure")
    asked = list(_asks(recipe))
    if not any(evaluated(recipe, step) in ("best", *(one.name for one in trained)) for step in asked):
        remedy = "Add a step of the kind eval after each training run."
        raise error(f"No step measures {recipe.figure} of a training run.", remedy, key="figure")
    for step in asked[1:]:
        if _alike(recipe, step) != _alike(recipe, asked[0]):
            said = f"{recipe.figure} is not measured here as in {asked[0].name}, so that the two do not compare."
            raise error(said, "Give both the same settings, files, judge and seed for it.", "step", number[step.name])
    _same_rows(recipe, asked, {step.name: step for step in trained}, error, number)


def _asks(recipe: Recipe) -> Iterator[Step]:
    suite = recipe.figure.partition(".")[0]
    return (step for step in recipe.steps if step.kind == "eval" and suite in steps.suites(step))


def _alike(recipe: Recipe, step: Step) -> tuple[Any, ...]:
    suite, options = recipe.figure.partition(".")[0], step.options
    settings, files = (options.get(name) or {} for name in ("settings", "files"))
    values = {"n": options.get("n"), **settings.get(suite, {})}
    before = ""
    if suite in _RELATIVE:
        parents = {f"@{one.name}": one.parent for one in recipe.steps}
        before = options.get("against") or parents.get(f"@{evaluated(recipe, step)}", "")
    return values, files.get(suite, ""), options.get("seed", 0), options.get("judge", ""), before


def _same_rows(
    recipe: Recipe, asked: Sequence[Step], trained: Mapping[str, Step], error: Error, number: Mapping[str, int]
) -> None:
    """Refuse to compare runs by the rows that each of them held out, where these are not the same ones."""
    suite = recipe.figure.partition(".")[0]
    if suite != _OWN_ROWS or any((step.options.get("files") or {}).get(suite) for step in asked):
        return
    of = [trained[name] for name in (evaluated(recipe, step) for step in asked) if name in trained]
    if len({repr((step.data, *(step.settings.get(name) for name in _ROWS[:2]))) for step in of}) > 1:
        said = f"{recipe.figure} is measured on rows that each run held out, and these runs learn from different ones."
        remedy = f"Name rows that none of them learns from: files = {{ {suite} = @NAME }}."
        raise error(said, remedy, "step", number[asked[0].name], "options.files")
