"""Try a model's own chat template on a plain conversation, before anything is trained with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from studio.data.records import Message
from studio.errors import ModelError, StudioError
from studio.models import check
from studio.models.check import ModelInfo
from studio.render import probes, sandbox
from studio.render.template import Asked, ChatTemplate

_TALK = [
    Message("user", "Where do zebras live?"),
    Message("assistant", "On the plains of Africa."),
    Message("user", "And penguins?"),
    Message("assistant", "In the far south."),
]


def inspect(info: ModelInfo) -> ModelInfo:
    """Say in `template_problem` why the model's own template cannot be trained with, "" when it can.

    That does not refuse the model: a template of Studio's can take its place. The token with which the template is seen
    to end an answer becomes the first of the stop tokens.
    """
    return dataclasses.replace(info, **_tried(Path(info.folder), info.stop_tokens))


def handle(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Answer in a child, for the window: {"folder", "stop_tokens"} -> what `inspect` replaces."""
    yield _tried(Path(request["folder"]), request["stop_tokens"])


def _tried(folder: Path, stops: list[str]) -> dict[str, Any]:
    source = check.read_template(folder)
    try:
        if source:
            template = ChatTemplate(source, check.special_tokens(folder), stops=stops)
            probes.opening(template)
            if end := probes.ending(template, check.control_tokens(folder), stops):
                stops = [end, *(stop for stop in stops if stop != end)]
                template.stops = stops
            (made,) = template.rows([Asked(_TALK, learned=[1, 3], split=True)])
            if isinstance(made, StudioError):
                raise made
    except StudioError as error:
        remedy = error.remedy if isinstance(error, ModelError) else sandbox.CHOOSE
        return {"template_problem": f"{error.message} {remedy}"}
    return {"template_problem": "", "stop_tokens": stops, "end_of_turn": stops[0]}
