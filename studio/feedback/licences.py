"""The licence of who made data, as far as its files tell: of a model folder, a GGUF file, or the base of a run."""

from __future__ import annotations

from pathlib import Path

from studio.errors import StudioError
from studio.export import meant
from studio.feedback import endpoint
from studio.models import catalogue, check, ggufhead, hub

UNKNOWN = "not known"
NOTE = (
    "The licence of a model, and the terms of a service, may restrict what its answers may be used for, training other "
    "models included. Studio records what it finds and does not judge it."
)


def of(name: str) -> str:
    """Give the licence of one who answers, by name; "not known" where nothing says it."""
    from studio.train.prepare import Trained

    if endpoint.is_endpoint(name):
        return UNKNOWN
    try:
        if Path(name).suffix == ".gguf":
            return _of_gguf(Path(name).expanduser())
        found = meant.find(name)
        model = (
            str(Trained.of(found.run).root)
            if found.run is not None and found.run.config.kind == "train"
            else found.model
        )
        return of_model(model)
    except (StudioError, OSError, ValueError, KeyError):
        return UNKNOWN


def of_model(model: str) -> str:
    """Give a model's licence: as its card says it, else as the catalogue knows it, else the first line of its text."""
    folder = hub.resolve(model)
    try:
        if said := check.inspect(str(folder)).licence:
            return said.lower()
    except StudioError:
        pass
    known = catalogue.find(model)
    if known is not None and known.licence:
        return known.licence
    return next(filter(None, (_headline(path) for path in sorted(folder.glob("LICEN[CS]E*")))), UNKNOWN)


def _of_gguf(file: Path) -> str:
    facts = ggufhead.read(file).metadata
    for key in ("general.license", "general.license.name"):
        if isinstance(said := facts.get(key), str) and said.strip():
            return said.strip().lower()[:80]
    return UNKNOWN


def _headline(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > 200_000:
        return ""
    lines = [line.strip() for line in path.read_text("utf-8", "replace").splitlines()]
    return next((line[:80] for line in lines if line), "")
