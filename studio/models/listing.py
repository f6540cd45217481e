"""Which files of a repository are a model's, and which repositories are none."""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import re
from pathlib import Path
from typing import Any

from studio.errors import ModelError

#: A file that is fetched beside the weights, if the repository has it at its top.
SMALL = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "README.md",
    "LICENSE*",
    "NOTICE*",
)
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclasses.dataclass(frozen=True)
class Remote:
    """A file that the hub lists: `etag` is its sha256 (large files) or git's hash, and its name in the cache."""

    name: str
    size: int
    etag: str
    sha256: bool

    def usable(self) -> bool:
        """Say whether size and hash are such."""
        hexed = isinstance(self.etag, str) and re.fullmatch("[0-9a-f]+", self.etag)
        return (
            type(self.size) is int and self.size >= 0 and bool(hexed) and len(self.etag) == (64 if self.sha256 else 40)
        )


def read(answer: dict[str, Any]) -> tuple[str, list[Remote], list[str]]:
    """Read what the hub says about a model: its commit, the files at its top, all names. Anything odd: no commit."""
    from huggingface_hub import ModelInfo

    try:
        info = ModelInfo(**answer)
        siblings = info.siblings or []
        files = [Remote(s.rfilename, s.size, s.lfs.sha256 if s.lfs else s.blob_id, bool(s.lfs)) for s in siblings]
        top = [file for file in files if "/" not in file.name and "\\" not in file.name and file.usable()]
        commit = str(info.sha)
        return commit if re.fullmatch("[0-9a-f]{40}", commit) else "", top, [file.name for file in files]
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", [], []


def small(files: list[Remote]) -> list[Remote]:
    """Choose what is fetched beside the weights."""
    return [file for file in files if any(fnmatch.fnmatchcase(file.name, rule) for rule in SMALL)]


def refuse(names: set[str], everything: list[str], repo: str) -> None:
    """Refuse a repository without the files of a model, with the reason."""
    other = "Choose a repository with safetensors weights."
    if not names & {INDEX, SINGLE}:
        if {"adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"} & names:
            raise ModelError(f"{repo} is an adapter, not a base model.", "Choose the base model that it was made for.")
        if any(name.endswith((".bin", ".pt", ".pth", ".ckpt")) for name in everything):
            raise ModelError(
                f"{repo} has its weights only as pickle files (.bin), which can run any code when they are opened.",
                other,
            )
        if any(name.endswith(".gguf") for name in everything):
            raise ModelError(
                f"{repo} has GGUF files only: those are for chatting, not for training.",
                "Choose the repository that they were made from; its card usually names it (base_model).",
            )
        raise ModelError(f"{repo} has no safetensors weights.", other)
    if "config.json" not in names:
        raise ModelError(f"{repo} has no config.json: it is not a model of the transformers kind.", other)
    if not names & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise ModelError(
            f"{repo} has no tokenizer.", "Choose a repository that holds the tokenizer beside the weights."
        )


def shards(index: Path, listed: dict[str, Remote], repo: str) -> list[str]:
    """Name the shards that an index lists; every one must be in the repository."""
    try:
        found = json.loads(index.read_text("utf-8"))["weight_map"]
        names = sorted(set(found.values()))
        whole = bool(names) and all(name in listed and name.endswith(".safetensors") for name in names)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise ModelError(
            f"The index of {repo} names weights that the repository does not have.", "Choose another repository."
        )
    return names
