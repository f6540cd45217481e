"""What a recipe begins with, by hash: data files, the base's weights; found again, or said what is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import studio
from studio import events
from studio.chat import identity
from studio.data import hubdata
from studio.errors import ConfigError, DataError, ModelError
from studio.feedback.starts import documents
from studio.lab.recipe import Base, Data, Recipe
from studio.models import hub
from studio.runs import Run

_WEIGHTS = "*.safetensors"
#: What of a model's folder decides what it reads and says, beside its weights.
_BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
           "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "adapter_config.json")  # fmt: skip
_LIBRARIES = ("torch", "transformers", "peft", "llama-cpp-python")


def hashed(files: Sequence[Path]) -> str:
    """Give the sha256 of a file, of several that of their hashes in order; "" where one cannot be read."""
    found = [identity.sha256(str(file)) for file in files]
    if len(found) == 1 or not all(found):
        return found[0] if len(found) == 1 else ""
    return hashlib.sha256("".join(found).encode()).hexdigest()


def weights(folder: Path) -> str:
    """Give the sha256 of a model folder's weights."""
    return hashed(sorted(folder.glob(_WEIGHTS)))


def beside(folder: Path) -> str:
    """Give the sha256 of what stands beside a model's weights, "" where there is nothing."""
    found = [folder / name for name in _BESIDE if (folder / name).is_file()]
    return hashlib.sha256("".join(f"{file.name} {hashed([file])}\n" for file in found).encode()).hexdigest()


def parts(place: Path) -> list[Path]:
    """List the files that a place stands for: itself, a model's or an adapter's folder, a folder of documents."""
    if not place.is_dir():
        return [place]
    if model := sorted(place.glob(_WEIGHTS)):
        return [*model, *(place / name for name in _BESIDE if (place / name).is_file())]
    return documents(place)


def base(model: str) -> Base:
    """Describe a model that is here."""
    folder = hub.resolve(model)
    return Base(model, hub.revision(folder), weights(folder), beside(folder))


def trained(run: Run) -> Path | None:
    """Give the folder with the weights that a training run left: its adapter, or a whole model; None without."""
    return next((place for place in (run.dir / "model", run.adapter) if any(place.glob(_WEIGHTS))), None)


def written() -> dict[str, str]:
    """Say with what something is written here: versions, and the processor."""
    said = {"studio": studio.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            said[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return said | {"machine": f"{platform.system()} {platform.machine()}"}


def check(
    recipe: Recipe,
    given: Mapping[str, str],
    model: str = "",
    emit: events.Emit | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[Recipe, dict[str, str]]:
    """Find the base and every file, by hash; give the recipe with the model that is meant, and {name: place}.

    `given` says where files are now (a name, a path or a file's name of the recipe -> a path); `model` the base.
    Raises DataError, ModelError and ConfigError: missing, another file than the recipe's, or nothing to be replaced.
    """
    for old in given:
        if not any(old in _names(one) for one in recipe.data):
            names = ", ".join(one.name for one in recipe.data) or "none"
            raise ConfigError(f"The recipe reads no file {old!r}.", f"Its files are: {names}.", field="data")
    found = dataclasses.replace(recipe, base=_base(recipe.base, model, emit, should_stop))
    return found, {one.name: _found(one, given) for one in recipe.data}


def _names(one: Data) -> tuple[str, str, str]:
    return one.name, one.path, Path(one.path).name


def _found(one: Data, given: Mapping[str, str]) -> str:
    place = next((new for old, new in given.items() if old in _names(one)), one.path)
    remedy, field = f"Say where it is now: --data {one.name}=PATH", f"data.{one.name}"
    path = Path(place).expanduser()
    if path.exists():
        files, whole = parts(path), str(path.resolve())
    elif hubdata.reference(place) is not None:
        files, whole = hubdata.paths_of(place), place
    else:
        raise DataError(f"There is no file {place}.", remedy, file=place, field=field)
    is_ = hashed(files)
    if one.sha256 and is_ != one.sha256:
        raise DataError(
            f"This is not the file of the recipe: its sha256 begins with {is_[:12]}, the recipe's with "
            f"{one.sha256[:12]}.",
            f"{remedy}. To take this one all the same, take its sha256 out of the recipe.",
            file=place,
            field=field,
        )
    return whole


def _base(wanted: Base, model: str, emit: events.Emit | None, should_stop: Callable[[], bool] | None) -> Base:
    name = model or wanted.model
    if not name:
        return wanted
    if not model and wanted.revision and "@" not in name and hub.here(name) is None:
        name = f"{name}@{wanted.revision}"
    remedy = "Name the model where it is now: --model FOLDER (or a hub id)."
    try:
        folder = hub.resolve(name, emit, should_stop)
    except ModelError as error:
        raise ModelError(error.message, remedy, field="base.model") from None
    is_ = weights(folder)
    if wanted.sha256 and is_ != wanted.sha256:
        raise ModelError(
            f"These are not the weights of the recipe's base: their sha256 begins with {is_[:12]}, the recipe's with "
            f"{wanted.sha256[:12]}.",
            f"{remedy} To take these all the same, take the sha256 out of [base].",
            file=str(folder),
            field="base.sha256",
        )
    near = beside(folder)
    if wanted.beside and near != wanted.beside:
        raise ModelError(
            "The weights are those of the recipe's base, but what stands beside them is not: the tokenizer, the chat "
            "template or the config was changed.",
            f"{remedy} To take these all the same, take `beside` out of [base].",
            file=str(folder),
            field="base.beside",
        )
    plain = name if name == "starter" or not Path(name).expanduser().is_dir() else str(folder)
    return Base(plain, hub.revision(folder), is_, near)
