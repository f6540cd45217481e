"""What a name on the command line means: a run, the folder of an adapter made elsewhere, or a model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from studio import events, runs
from studio.errors import ModelError
from studio.export import known as knowing
from studio.export.known import Known
from studio.models import elsewhere, hub
from studio.runs import Run


@dataclasses.dataclass(frozen=True)
class Meant:
    """A run, or (`run` None) a model with an adapter made elsewhere on it, or (`adapter` None, too) a model alone.

    `model` is the model's name, of an adapter its base's.
    """

    name: str
    run: Run | None
    model: str
    adapter: Path | None = None

    @property
    def title(self) -> str:
        """Give what files made of it are named after; "" for a model, which has a name of its own."""
        if self.run is not None:
            return self.run.config.title
        return elsewhere.title(self.adapter) if self.adapter is not None else ""

    def known(self, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None) -> Known:
        """Read it as what its files are made of and compared with; a model of the hub is fetched.

        Raises RunError and ModelError.
        """
        if self.run is not None:
            trained = self.run.config.kind == "train"
            made = knowing.of_run(self.run) if trained else knowing.of_job(self.run, emit, should_stop)
            return dataclasses.replace(made, name=self.run.id) if self.run.parent() is None else made
        base = hub.resolve(self.model, emit, should_stop)
        if self.adapter is not None:
            return knowing.of_adapter(self.adapter, base)
        return knowing.of_model(self.name, base)


def find(name: str, base: str = "") -> Meant:
    """Tell what a name means; `base` names an adapter's base, where its folder does not or means another place.

    Raises ModelError for what is none of them, and for an adapter whose base is not known or not here; ConfigError for
    a base of what is no adapter. A model of the hub is not asked for yet.
    """
    folder = elsewhere.folder_of(name)
    if folder is not None and not runs.is_run(name):
        return Meant(name, None, elsewhere.base_of(folder, base), folder)
    elsewhere.refuse_base(name, base)
    if runs.is_run(name):
        run = runs.find(name)
        return Meant(name, run, run.config.model)
    try:
        hub.here(name)
    except ModelError as error:
        if "://" in name:
            raise
        raise ModelError(
            f"There is no run, adapter or model {name[:200]!r}.",
            "`studio runs` lists the runs. A model is `starter`, a folder, or a hub id such as org/name.",
        ) from error
    return Meant(name, None, name)
