"""Find a model: the starter that ships with Studio, a local folder, or a hub id (downloaded once, then local)."""

from __future__ import annotations

import re
from pathlib import Path

from studio import paths
from studio.errors import ModelError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_FILES = ["*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.model", "README.md", "LICENSE*"]


def resolve(model: str) -> Path:
    """Give the folder of a model, downloading a hub id if it is not there yet. Raises ModelError with a remedy."""
    if model == "starter":
        return paths.models() / "starter"
    folder = Path(model).expanduser()
    if model.strip() and folder.is_dir():
        return folder.resolve()
    if _HUB_ID.fullmatch(model):
        return _download(model)
    raise ModelError(
        f"There is no model {model[:200]!r}.", "Use `starter`, a folder with a model, or a hub id such as org/name."
    )


def _download(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except GatedRepoError:
        raise ModelError(
            f"{model} asks you to accept its licence first.",
            f"Open https://huggingface.co/{model}, accept it, then run `hf auth login` once.",
        ) from None
    except RepositoryNotFoundError:
        raise ModelError(f"The hub has no model {model}.", "Check the spelling: organisation/name.") from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"{model} could not be downloaded: {str(error).splitlines()[0][:200]}",
            "Check the network, or choose a folder with the model in it.",
        ) from None
