"""Sending files to the hub, in a child: huggingface-hub's own transfer, file after file, one commit at the end.

What the hub or the network answers when something is wrong is told with a remedy; the token is never part of it.
"""

from __future__ import annotations

import dataclasses
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from studio.errors import InputError, StudioError

KEPT = "What has arrived is kept: push again, and only the rest is sent."
_BEAT = 0.3


class _Counted(io.BufferedReader):
    """A file that tells how far it was read."""

    def __init__(self, path: str, tell: Callable[[int], None]) -> None:
        super().__init__(io.FileIO(path))
        self._told = tell

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, and tell where that led to."""
        data = super().read(size)
        self._told(self.tell())
        return data


def send(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Send files and commit them, in the child; yields {"sent"} several times a second, at last what was made."""
    state: dict[str, Any] = {"sent": 0}

    def work() -> None:
        try:
            state["done"] = _transfer(request, state)
        except Exception as error:
            state["error"] = error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_BEAT)
        yield {"sent": state["sent"]}
    if "error" in state:
        if isinstance(state["error"], StudioError):
            raise state["error"]
        raise refusal(state["error"], str(request["repo"])) from None
    yield state["done"]


def _transfer(request: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """Do the transfer: the repository is made where it is not there, files are sent, one commit shows them."""
    from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token

    @dataclasses.dataclass
    class Add(CommitOperationAdd):
        """An added file whose reading is counted (where it is sent as one; hf-xet reads by itself)."""

        @contextmanager
        def as_file(self, with_tqdm: bool = False) -> Iterator[Any]:
            before = state["sent"]
            with _Counted(
                str(self.path_or_fileobj), lambda at: state.update(sent=max(state["sent"], before + at))
            ) as f:
                yield f

    if constants.is_offline_mode():
        raise InputError(
            "Asking the hub is switched off (HF_HUB_OFFLINE is set).", "Unset HF_HUB_OFFLINE, then push again."
        )
    if not get_token():
        raise InputError(
            "The hub takes files only from those it knows, and no token of yours is on this machine.",
            "Run `hf auth login` once, with a token that may write, then push again.",
        )
    api = HfApi()
    private = bool(request["private"])
    repo = api.create_repo(request["repo"], private=True if private else None, exist_ok=True).repo_id
    if private and not api.repo_info(repo).private:
        raise InputError(
            f"{repo} is there already and is public.", "Choose another name, or push it as a public one.", field="repo"
        )
    adds, count = [], 0
    for name, path in request["files"]:
        add = Add(path_in_repo=name, path_or_fileobj=path)
        api.preupload_lfs_files(repo, [add], free_memory=False)
        count += add.upload_info.size
        state["sent"] = count
        adds.append(add)
    made = api.create_commit(repo, adds, commit_message=request["message"][:200])
    listed = [{"path": add.path_in_repo, "bytes": add.upload_info.size} for add in adds]
    url = f"{constants.ENDPOINT}/{repo}"
    return {"repo": repo, "url": url, "commit": made.oid, "files": listed, "bytes": count}


def refusal(error: Exception, repo: str) -> StudioError:
    """Turn what huggingface-hub raised into an error with a remedy; the token is in none of them."""
    from huggingface_hub import constants, errors

    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, errors.HfHubHTTPError):
        seen = seen.__cause__
    if seen is None:
        if isinstance(error, ValueError):
            return InputError(f"The hub cannot take {repo}: {_line(error)}", "Choose another name for the repository.")
        return InputError(
            f"The connection to the hub at {constants.ENDPOINT} broke ({_line(error)}).", f"Check the network. {KEPT}"
        )
    status = seen.response.status_code
    if status == 401:
        return InputError(
            "The hub does not know your token: it has expired or was revoked.",
            "Run `hf auth login` once, with a token that may write, then push again.",
        )
    if status == 403:
        return InputError(
            f"Your token may not write to {repo}.",
            "Make one with the right to write (huggingface.co/settings/tokens), run `hf auth login`, or choose a "
            "repository of your own account.",
        )
    if status == 404:
        return InputError(f"The hub has no place for {repo}.", "Check the spelling of the account or the organisation.")
    if status in (402, 413):
        return InputError(f"The hub has no room for this in your account (status {status}).", "Free some there.")
    if status == 429:
        return InputError("The hub has had too many requests (429).", f"Push again in a few minutes. {KEPT}")
    if status >= 500:
        return InputError(
            f"The hub is in trouble (status {status}).", f"https://status.huggingface.co says more. {KEPT}"
        )
    return InputError(
        f"The hub refuses {repo} (status {status}): {_line(seen)}", "Change what it names, then push again."
    )


def _line(error: BaseException) -> str:
    """Give the last line of an error that says something; the hub's own words stand there."""
    lines = [line.strip() for line in str(error.__cause__ or error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
