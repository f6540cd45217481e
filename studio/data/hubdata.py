"""Data sets from the hub, by huggingface-hub alone: their files listed, chosen, and fetched into its own cache.

A data set is named org/name, with what is meant of it: org/name@revision, org/name:split, org/name/file.jsonl,
org/name/subset:split, or its address on the hub.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fnmatch
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from studio import disk, events, paths
from studio.data import preferences
from studio.errors import DataError, Stopped

_NAME = r"[A-Za-z0-9][\w.-]{0,95}"
_ID = re.compile(
    rf"(?P<repo>{_NAME}/{_NAME})(?:@(?P<revision>[\w.-]+))?(?:/(?P<part>[^:@]+?)/?)?(?::(?P<split>[\w.-]+))?"
)
_ADDRESS = re.compile(
    rf"/datasets/(?P<repo>{_NAME}/{_NAME})(?:/(?:tree|blob|resolve|viewer)/(?P<revision>[^/]+)(?:/(?P<part>.+))?)?/?"
)
_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
#: The kinds of files that hold rows, the best first; a data set is often there in several.
_SUFFIXES = (
    (".parquet",),
    (".jsonl", ".ndjson", ".jsonl.gz"),
    (".json", ".json.gz"),
    (".csv", ".tsv", ".csv.gz"),
    (".txt",),
)
_KNOWN = tuple(suffix for group in _SUFFIXES for suffix in group)
_NOT_DATA = re.compile(
    r"(^|/)(\.|dataset_infos?\.json|package(-lock)?\.json|requirements\.txt|licen[cs]e)", re.IGNORECASE
)
_SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is meant of a data set: a file, folder or subset (`part`) of a revision, and a split."""

    repo: str
    revision: str = "main"
    part: str = ""
    split: str = ""


def paths_of(
    name: str | Path, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None
) -> list[Path]:
    """Give the local files that a name means: a path, votes, judged answers, or a data set of the hub.

    What is not here yet is fetched. Of a data set the training split is meant where no other is named. Raises DataError
    with a remedy; where the choice is not clear, it says what there is. Raises Stopped.
    """
    asked = reference(str(name))
    if (made := preferences.named(name)) != Path(name).expanduser():
        return [made]
    return [_local(name)] if asked is None else _fetch(asked, emit, should_stop)


def here(name: str) -> bool:
    """Tell whether a data set of the hub is here; a path is none. Asks nobody."""
    asked = reference(name)
    return asked is not None and bool(_cached(asked))


def reference(name: str) -> Asked | None:
    """Read the name of a data set; None for a path. What may be a mistyped path is never asked for on the hub."""
    if "://" in name:
        return _from_address(name.strip())
    match = _ID.fullmatch(name.strip())
    if match is None or ".." in name or "--" in match["repo"]:
        return None
    try:
        here = Path(name).exists() or Path(name.split("/")[0]).is_dir()
    except OSError:
        here = False
    if here or match["repo"].lower().endswith(_KNOWN):
        return None
    return Asked(match["repo"], match["revision"] or "main", match["part"] or "", match["split"] or "")


def _from_address(text: str) -> Asked:
    from huggingface_hub import constants

    try:
        parts = urlsplit(text)
        host, path = parts.hostname, unquote(parts.path)
    except ValueError:
        host, path = None, ""
    match = _ADDRESS.fullmatch(path)
    if match is None or ".." in path or host not in (*_HOSTS, urlsplit(constants.ENDPOINT).hostname):
        raise DataError(
            f"{text[:200]!r} is not the address of a data set on the hub.",
            "Use a file, or a data set's name such as org/name.",
        )
    return Asked(match["repo"], match["revision"] or "main", match["part"] or "")


def choose(asked: Asked, files: Iterable[str], configs: Any = None) -> list[str]:
    """Choose the files of one split: by what the data set's card says (`configs`), else by their names.

    Raises DataError where there is none, or several could be meant.
    """
    names = sorted(
        (name for name in files if name.lower().endswith(_KNOWN) and not _NOT_DATA.search(name)), key=_in_order
    )
    if asked.part in names:
        return [asked.part]
    splits = _by_card(asked, names, configs) or _by_name(asked, names)
    if not splits:
        what = f"has nothing at {asked.part!r}" if asked.part else "has no file that can be read"
        listed = _listed(names) if asked.part else f"Studio reads {', '.join(_KNOWN)}."
        raise DataError(f"The data set {asked.repo} {what}.", listed, file=asked.repo)
    wanted = asked.split or ("train" if "train" in splits else "")
    if not wanted and len(splits) == 1:
        (wanted,) = splits
    if wanted not in splits:
        said = f"no split {wanted!r}" if wanted else "several splits"
        choices = [f"{_short(asked)}:{split}" for split in splits if split]
        raise DataError(f"The data set {asked.repo} has {said}.", f"Choose: {', '.join(choices)}.", file=asked.repo)
    found = splits[wanted]
    for group in _SUFFIXES:  # the same rows may be there in several formats
        if best := [name for name in found if name.lower().endswith(group)]:
            found = best
            break
    if len({re.sub(r"\d+", "0", name) for name in found}) > 1:
        raise DataError(
            f"The data set {asked.repo} has several files that could be meant.", _listed(found, asked), file=asked.repo
        )
    return found


def _by_card(asked: Asked, names: list[str], configs: Any) -> dict[str, list[str]]:
    """Read the splits of one subset as the card lists them."""
    known = (
        [one for one in configs if isinstance(one, dict) and one.get("data_files")] if isinstance(configs, list) else []
    )
    if asked.part:
        mine = [one for one in known if str(one.get("config_name")) == asked.part]
    else:
        mine = known if len(known) == 1 else [c for c in known if c.get("default") or c.get("config_name") == "default"]
        if known and not mine:
            choices = ", ".join(f"{asked.repo}/{one.get('config_name')}" for one in known[:20])
            raise DataError(f"The data set {asked.repo} has several subsets.", f"Choose: {choices}.", file=asked.repo)
    splits: dict[str, list[str]] = {}
    for entry in _many(mine[0]["data_files"]) if mine else []:
        split, patterns = (entry.get("split"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        for pattern in _many(patterns):
            found = [name for name in names if fnmatch.fnmatch(name, str(pattern).removeprefix("./"))]
            splits.setdefault(str(split or "train"), []).extend(found)
    return {split: found for split, found in splits.items() if found}


def _by_name(asked: Asked, names: list[str]) -> dict[str, list[str]]:
    """Sort files into splits by the words in their names."""
    splits: dict[str, list[str]] = {}
    for name in names:
        if asked.part and not name.startswith(asked.part.rstrip("/") + "/"):
            continue
        words = re.split(r"[^a-z0-9]+", name.lower())
        of = [split for split, spelled in _SPLITS.items() if any(word in spelled for word in words)]
        mine = asked.split in words and asked.split not in of
        splits.setdefault(asked.split if mine else of[0] if of else "", []).append(name)
    return splits


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _in_order(name: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _short(asked: Asked) -> str:
    revision = "" if asked.revision == "main" else f"@{asked.revision}"
    return f"{asked.repo}{revision}{'/' + asked.part if asked.part else ''}"


def _listed(names: list[str], asked: Asked | None = None) -> str:
    start = f"{asked.repo}/" if asked else ""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"Choose one: {', '.join(start + name for name in names[:10])}{more}." if names else "It has no data files."


def _fetch(asked: Asked, emit: events.Emit | None, should_stop: Callable[[], bool] | None) -> list[Path]:
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HTTPError, OfflineModeIsEnabled

    try:
        info = HfApi().dataset_info(asked.repo, revision=asked.revision, files_metadata=True)
    except (HfHubHTTPError, HTTPError, OfflineModeIsEnabled, OSError, ValueError) as error:
        reached = isinstance(error, HfHubHTTPError) and error.response.status_code < 500
        if not reached and (found := _cached(asked)):
            return found
        raise _told(error, asked) from None
    sizes = {file.rfilename: int(file.size or 0) for file in info.siblings or []}
    names = choose(asked, sizes, (info.card_data or {}).get("configs"))
    folder, home = Path(constants.HF_HUB_CACHE), _home(asked.repo)
    missing = sum(sizes[name] for name in names if not (home / "snapshots" / (info.sha or "") / name).exists())
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        if (free := disk.free(folder)) < missing + disk.SPARE:
            raise DataError(
                f"The disk is too full for {asked.repo}: it needs {missing >> 20:,} MB, {free >> 20:,} are free.",
                "Free some room, or set HF_HOME to a folder on a larger disk.",
                file=asked.repo,
            )
    bar = _bar(
        events.Progress(emit, f"Downloading {asked.repo}", missing, "bytes") if emit and missing else None, should_stop
    )
    try:
        found = [
            Path(hf_hub_download(asked.repo, name, repo_type="dataset", revision=info.sha, tqdm_class=bar))
            for name in names
        ]
        if asked.revision != info.sha:  # so that the revision is found again without a hub
            paths.write_text(_home(asked.repo) / "refs" / asked.revision, info.sha)
        return found
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        raise _told(error, asked) from None


def _bar(progress: events.Progress | None, should_stop: Callable[[], bool] | None) -> Any:
    """Make what huggingface-hub tells its progress to."""
    from huggingface_hub.utils import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> bool | None:
            if should_stop is not None and should_stop():
                raise Stopped("The download was stopped.", "Start it again when you like.")
            if progress is not None and n:
                progress.step(int(n))
            return None

    return Bar


def _home(repo: str) -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"datasets--{repo.replace('/', '--')}"


def _cached(asked: Asked) -> list[Path]:
    """Give what is here of a data set, for want of a hub; nothing when that is not what is asked for."""
    commit = asked.revision
    with contextlib.suppress(OSError, ValueError):  # else it is a commit itself
        commit = (_home(asked.repo) / "refs" / commit).read_text("ascii").strip()
    folder = _home(asked.repo) / "snapshots" / commit
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    try:
        return [folder / name for name in choose(asked, files)]
    except DataError:
        return []


def _told(error: Exception, asked: Asked) -> DataError:
    """Say what the hub or the network answered, and what to do; the token is never part of it."""
    from huggingface_hub import constants, errors

    name, page = asked.repo, f"{constants.ENDPOINT}/datasets/{asked.repo}"
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    known = (
        "Invalid credentials" not in (response.headers.get("X-Error-Message") or "") if response is not None else True
    )
    if isinstance(error, errors.OfflineModeIsEnabled):
        said, remedy = f"{name} is not here, and HF_HUB_OFFLINE forbids to fetch it.", "Unset HF_HUB_OFFLINE once."
    elif isinstance(error, errors.GatedRepoError):
        said = f"{name} asks you to accept its terms first."
        remedy = f"Open {page}, accept them, then run `hf auth login` once with that account."
    elif not known:
        said, remedy = "The hub does not know your token: it has expired or was revoked.", "Run `hf auth login`."
    elif isinstance(error, errors.RepositoryNotFoundError):
        said = f"The hub has no data set {name}, or it is private; and there is no such file here."
        remedy = "Check the spelling: organisation/name, or a path. For a private data set run `hf auth login` first."
    elif isinstance(error, errors.RevisionNotFoundError):
        said, remedy = f"{name} has no revision {asked.revision!r}.", f"{page}/tree/main lists branches and tags."
    elif status == 429:
        said = "The hub has had too many requests from this address (429)."
        remedy = "Start again in a few minutes; with a token (`hf auth login`) the hub allows more."
    elif status >= 500:
        said, remedy = (
            f"The hub is in trouble (status {status}).",
            "https://status.huggingface.co says more. Try later.",
        )
    elif status:
        said, remedy = f"The hub refuses {name} (status {status}).", f"Open {page} to see what it asks for."
    elif isinstance(error, errors.HTTPError | errors.LocalEntryNotFoundError):
        said = f"The hub cannot be reached at {constants.ENDPOINT}."
        remedy = "Check the network and the proxy, or choose a file."
    else:
        lines = str(error).splitlines() or [type(error).__name__]
        said, remedy = (
            f"{name} could not be fetched: {lines[0][:200]}",
            "Free some room or check the cache's folder (HF_HOME).",
        )
    return DataError(said, remedy, file=name)


def _local(name: str | Path) -> Path:
    try:
        return Path(name).expanduser().resolve()
    except (OSError, ValueError, RuntimeError) as error:  # a loop of links, a NUL, a home that is not there
        said = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(f"The path cannot be followed: {said}", "Check the path.", file=str(name)) from None
