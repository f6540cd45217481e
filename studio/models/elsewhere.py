"""An adapter made elsewhere (a PEFT folder): which base it stands on, and whose tokenizer and template speak for it.

What its files may hold is checked in adapter.py; here is what a run of ours would say of itself, and a folder does not.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from studio.errors import ConfigError, ModelError
from studio.models import adapter, check, hub
from studio.models.adapter import AdapterInfo
from studio.models.check import ModelInfo
from studio.models.folder import read_object

CONFIG = "adapter_config.json"
#: What programs call the folder of any adapter.
_SAYS_NOTHING = re.compile(r"(?i)adapters?|lora|peft|model|outputs?|final|checkpoint-\d+|step-\d+")
_NAME_IT = "Name its base: --model FOLDER, or a hub id"


def folder_of(name: str) -> Path | None:
    """Give the folder when a name is that of an adapter's, or its hub id where it was fetched before, else None."""
    try:
        path = Path(name).expanduser()
        if name.strip() and os.path.lexists(path / CONFIG):
            return path.resolve()
        wanted = hub.reference(name)
        found = hub.snapshot(wanted) if hub.cached(wanted) is None else None
        return found if found is not None and os.path.lexists(found / CONFIG) else None
    except (OSError, ValueError, RuntimeError, ModelError):  # too long, a NUL, a home that does not exist, no hub id
        return None


def title(folder: Path) -> str:
    """Name what is made of an adapter: after its folder, and the one around it where that says nothing."""
    if repository := hub.repository(folder):
        return repository.rsplit("/", 1)[-1]
    return f"{folder.parent.name} {folder.name}" if _SAYS_NOTHING.fullmatch(folder.name) else folder.name


def base_of(folder: Path, given: str = "") -> str:
    """Name the base of an adapter: the one that is given, else the one that its config names.

    A base that is named and not on this machine is not fetched unasked. Raises ModelError where there is none.
    """
    if given:
        place = Path(given).expanduser()
        return str(place.resolve()) if given != "starter" and place.is_dir() else given
    config = read_object(folder / CONFIG)
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if not isinstance(named, str) or not named.strip():
        raise ModelError("The adapter does not say which base it was made for.", f"{_NAME_IT}.", file=str(folder))
    try:
        at = f"{named}@{revision}" if isinstance(revision, str) and revision and "@" not in named else named
        wanted = named if hub.here(named) is not None else at if hub.here(at) is not None else ""
    except ModelError:  # a path of another machine
        raise ModelError(
            f"The adapter was made for {named[:200]!r}, which is not on this machine.", f"{_NAME_IT}.", file=str(folder)
        ) from None
    if not wanted:
        remedy = f"Fetch it with `studio models get {at}`. {_NAME_IT}, where it lies under another name."
        raise ModelError(f"The adapter's base, {at}, is not on this machine.", remedy, file=str(folder))
    return wanted


def inspect(folder: Path, given: str = "") -> tuple[AdapterInfo, ModelInfo]:
    """Check an adapter against its base and describe both. Raises ModelError with a remedy when they do not fit."""
    base = check.inspect(base_of(folder, given))
    found = adapter.check(folder, base, merges=True)
    _same_words(folder, base, found)
    return found, base


def refuse_base(name: str, given: str) -> None:
    """Raise ConfigError where a base was named for what is no adapter's folder."""
    if given:
        raise ConfigError(
            f"{name} is no adapter's folder, and --model names an adapter's base.", "Leave --model out.", field="model"
        )


def speaker(base: Path, folder: Path | None) -> Path:
    """Give the folder whose tokenizer is used: the adapter's where it brings one, else the base's."""
    return folder if folder is not None and (folder / "tokenizer.json").is_file() else base


def template(base: Path, folder: Path | None) -> str:
    """Give the chat template that is used: the adapter's own, else the base's; "" where neither has one."""
    return (check.read_template(folder) if folder is not None else "") or check.read_template(base)


def _same_words(folder: Path, base: ModelInfo, found: AdapterInfo) -> None:
    """Compare the tokenizer that an adapter brings with its base's: the same ids, and a row for every new token."""
    if speaker(Path(base.folder), folder) != folder:
        return
    ours, theirs = check.read_vocabulary(Path(base.folder)), check.read_vocabulary(folder)
    where = str(folder / "tokenizer.json")
    for token, index in ours.items():
        if theirs.get(token, index) != index:
            raise ModelError(
                f"The tokenizer beside the adapter is not its base's: {token[:80]!r} is token {theirs[token]} there, "
                f"and {index} in the base.",
                "Choose the base that the adapter was made for: --model.",
                file=where,
            )
    rows = {*range(base.vocab_size), *found.tokens}
    beyond = [token for token, index in theirs.items() if index not in rows and token not in ours]
    if beyond:
        raise ModelError(
            f"The tokenizer beside the adapter has {len(beyond)} tokens more than the base has rows for "
            f"({beyond[0][:80]!r}), and the adapter does not bring them.",
            "Merge it with the library that made it, and use the merged model.",
            file=where,
        )
