"""What the hub and the network answer when something is wrong, told as errors with a remedy.

The token is never part of a message: only status codes, names and addresses are.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Mapping
from typing import Any

from studio import disk
from studio.errors import ModelError

KEPT = "What has arrived is kept: start again and it goes on there."


def told(error: Exception, repo: str, revision: str, endpoint: str) -> ModelError:
    """Turn an HTTP or network error of a download of `repo` at `revision` into a ModelError with its remedy."""
    from huggingface_hub import errors

    page = f"{endpoint}/{repo}"
    if not isinstance(error, errors.HfHubHTTPError):
        return ModelError(
            f"The hub cannot be reached at {endpoint} ({_short(error)}).",
            "Check the network and the proxy. A model that is already here, or a folder with one, needs no network.",
        )
    status = error.response.status_code
    if isinstance(error, errors.GatedRepoError):
        if status == 401:
            return ModelError(
                f"{repo} asks you to accept its licence first, and no token of yours came with the question.",
                f"Open {page}, accept the licence, then run `hf auth login` once.",
            )
        return ModelError(
            f"Your account has no access to {repo} yet.",
            f"Open {page} with the same account and accept the licence; some owners take a while to say yes.",
        )
    if "Invalid credentials" in (error.response.headers.get("X-Error-Message") or ""):
        return ModelError("The hub does not know your token: it has expired or was revoked.", "Run `hf auth login`.")
    if isinstance(error, errors.RepositoryNotFoundError):
        return ModelError(
            f"The hub has no model {repo}, or it is private.",
            "Check the spelling: organisation/name. For a private model run `hf auth login` first.",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelError(
            f"{repo} has no revision {revision!r}.", f"{page}/tree/main lists branches and tags; leave it out for main."
        )
    if isinstance(error, errors.EntryNotFoundError):
        return ModelError(
            f"{repo} lists a file that the hub does not have ({error.response.url.path.rsplit('/', 1)[-1][:80]}).",
            "The repository is being changed or is damaged. Try again in a while, or choose another model.",
        )
    if status == 429:
        wait = retry_after(error.response.headers)
        when = f"in {_span(wait)}" if wait else "in a few minutes"
        return ModelError(
            "The hub has had too many requests from this address (429).",
            f"Start again {when}; with a token (`hf auth login`) the hub allows more. {KEPT}",
        )
    if status == 416:
        return ModelError(
            f"The hub refuses to send {repo} (416: range not satisfiable), also from the start of the file.",
            "The repository is being changed. Try again in a while.",
        )
    if status >= 500:
        return ModelError(
            f"The hub is in trouble (status {status}), and was so each time it was asked.",
            f"https://status.huggingface.co says more. Try again later. {KEPT}",
        )
    if status in (401, 403):
        return ModelError(
            f"The hub refuses access to {repo} (status {status}).",
            f"Open {page} to see what it asks for, and run `hf auth login` with a token that may read.",
        )
    return ModelError(f"The hub refuses {repo} (status {status}).", f"Open {page} to see whether it is still there.")


def breaking(repo: str, tries: int) -> ModelError:
    """Say that the connection keeps breaking."""
    return ModelError(
        f"The connection to the hub kept breaking while {repo} was fetched ({tries} times in a row).",
        f"Check the network. {KEPT}",
    )


def wrong_hash(repo: str, name: str) -> ModelError:
    """Say that a file is not what the hub says it is, and that it was thrown away."""
    return ModelError(
        f"{name} of {repo} arrived whole but is not the file that the hub names (its hash differs). "
        "It was thrown away.",
        "Start again. If it happens again, something between here and the hub changes files: a proxy, or a bad disk.",
        file=name,
    )


def disk_full(need: int, have: int, folder: str) -> ModelError:
    """Say how much room is needed and how much there is; both in bytes."""
    return ModelError(
        f"The disk is too full for this model: it needs {disk.size(need)} more, {folder} has {disk.size(have)} free.",
        f"Free some room, or set HF_HOME to a folder on a larger disk. {KEPT}",
    )


def unwritable(error: OSError, folder: str) -> ModelError:
    """Say that the cache cannot be written to."""
    if error.errno in disk.FULL:
        return ModelError(f"The disk of {folder} is full.", f"Free some room, or set HF_HOME to another disk. {KEPT}")
    return ModelError(
        f"The model cannot be written to {folder} ({error.strerror or type(error).__name__}).",
        "Set HF_HOME to a folder that you may write to.",
        file=error.filename if isinstance(error.filename, str) else None,
    )


def offline(repo: str) -> ModelError:
    """Say that the model is not here and that looking is switched off."""
    return ModelError(
        f"{repo} is not on this machine, and asking the hub is switched off (HF_HUB_OFFLINE is set).",
        f"Unset HF_HUB_OFFLINE and run `studio models get {repo}` once.",
    )


def retry_after(headers: Mapping[str, str]) -> float:
    """Read the seconds that a server asks to wait (Retry-After, or the hub's own rate-limit headers); 0: none given."""
    from huggingface_hub.utils import parse_ratelimit_headers

    said = headers.get("Retry-After", "")
    if said.strip().isdigit():
        return float(said)
    if said:
        try:
            return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
        except (TypeError, ValueError):
            return 0.0
    try:
        limit: Any = parse_ratelimit_headers(headers)
    except (TypeError, ValueError):
        return 0.0
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else 0.0


def _span(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _short(error: Exception) -> str:
    lines = str(error).splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
