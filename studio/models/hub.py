"""Find a model: the starter that ships with Studio, a local folder, or a hub id (downloaded once, then local)."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from studio import events, paths
from studio.errors import ModelError

_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_REVISION = re.compile(r"(?!.*\.\.)[\w][\w./+-]{0,127}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model on the hub: its id, and the branch, tag or commit that is meant."""

    repo: str
    revision: str = "main"


def resolve(model: str, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None) -> Path:
    """Give the folder of a model, downloading what is not here yet.

    `model` is `starter`, a folder, a hub id (org/name, org/name@revision) or its address on the hub
    (https://huggingface.co/org/name[/tree/revision]). What is already here needs no network. `emit` gets progress
    events (bytes, bytes/s, seconds left); `should_stop` is asked ten times a second. Raises ModelError with a remedy,
    Stopped when asked to.
    """
    found = here(model)
    if found is not None:
        return found
    from studio.models import download

    wanted = reference(model)
    return download.fetch(wanted.repo, wanted.revision, emit, should_stop)


def here(model: str) -> Path | None:
    """Give the folder of a model that needs no download, None for one of the hub that is not here. Asks nobody."""
    if model == "starter":
        return paths.models() / "starter"
    return _folder(model) or cached(reference(model))


def reference(model: str) -> Reference:
    """Read a hub id or an address on the hub; ModelError when it is neither."""
    text = model.strip()
    if "://" in text:
        text = _from_address(text)
    repo, at, revision = text.partition("@")
    if _ID.fullmatch(repo) and ".." not in repo and "--" not in repo and (not at or _REVISION.fullmatch(revision)):
        return Reference(repo, revision or "main")
    raise ModelError(
        f"There is no model {model[:200]!r}.", "Use `starter`, a folder with a model, or a hub id such as org/name."
    )


def cached(wanted: Reference) -> Path | None:
    """Give the folder of a model that is already here, whole; None when it is not. Asks nobody."""
    found = snapshot(wanted)
    return found if found is not None and _whole(found) else None


def snapshot(wanted: Reference) -> Path | None:
    """Give the folder of what is in the hub's cache of a repository, whole or not; None when nothing is."""
    from huggingface_hub import constants

    home = Path(constants.HF_HUB_CACHE) / f"models--{wanted.repo.replace('/', '--')}"
    commit = wanted.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (home / "refs" / commit).read_text("ascii").strip()
        except (OSError, ValueError):
            return None
    found = home / "snapshots" / commit
    return found.resolve() if _COMMIT.fullmatch(commit) and found.is_dir() else None


def known() -> bool:
    """Tell whether huggingface-hub has a token to show to the hub; the token itself is not kept by us."""
    from huggingface_hub import get_token

    return bool(get_token())


def revision(folder: Path) -> str:
    """Give the commit that a folder in the hub's cache was made from, "" for any other folder."""
    pinned = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    return folder.name if pinned else ""


def repository(folder: Path) -> str:
    """Give the hub id that a folder in the hub's cache belongs to, "" for any other folder."""
    name = folder.parent.parent.name
    return name.removeprefix("models--").replace("--", "/", 1) if revision(folder) and "--" in name else ""


def _folder(model: str) -> Path | None:
    try:
        folder = Path(model).expanduser()
        return folder.resolve() if model.strip() and folder.is_dir() else None
    except (OSError, ValueError, RuntimeError):  # too long, a NUL, a home that does not exist
        return None


def _from_address(text: str) -> str:
    """Make org/name@revision of an address on the hub."""
    from huggingface_hub import constants

    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        parts, host = urlsplit(""), None
    ours = urlsplit(constants.ENDPOINT).hostname
    words = [unquote(word) for word in parts.path.split("/") if word]
    if host not in (*_HOSTS, ours) or parts.scheme not in ("http", "https"):
        raise ModelError(
            f"{text[:200]!r} is not an address on the hub.", "Use a hub id such as org/name, or its page's address."
        )
    if words[:1] in (["datasets"], ["spaces"]):
        raise ModelError(f"{text[:200]!r} is not a model, but one of the hub's {words[0]}.", "Choose a model.")
    if len(words) >= 4 and words[2] in ("tree", "blob", "resolve", "commit"):
        words = [words[0], f"{words[1]}@{words[3]}"]
    return "/".join(words[:2])


def _whole(snapshot: Path) -> bool:
    """Say whether a snapshot has its config, a tokenizer and all its weights; others than us may have left a part."""
    has = {path.name for path in snapshot.glob("*") if path.is_file()} if snapshot.is_dir() else set()
    if "config.json" not in has or not has & {"tokenizer.json", "tokenizer.model"}:
        return False
    if "model.safetensors.index.json" not in has:
        return "model.safetensors" in has
    try:
        index = json.loads((snapshot / "model.safetensors.index.json").read_text("utf-8"))
        return set(index["weight_map"].values()) <= has
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False
