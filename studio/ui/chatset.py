"""How answers are asked for: the settings of the chat page, declared once; kept in the choices, shown as they count."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from studio.config import build, setting, settings
from studio.errors import ConfigError
from studio.models.family import FAMILIES
from studio.ui import choice
from studio.ui.live import Scene

THINKING = ("", "on", "off")
#: What stands for the file's own template.
OWN = ""


@dataclasses.dataclass(frozen=True)
class Asked:
    """What a question is asked with; the same for both panes."""

    temperature: float = setting(0.0, "0: always the likeliest token", low=0, high=5)
    max_tokens: int = setting(256, "The longest answer", low=1, high=32_768, unit="tokens")
    seed: int = setting(0, "The same seed gives the same answer again; Retry takes the next one", low=0, high=2**32 - 1)
    top_p: float = setting(0.95, "Draw from the likeliest tokens that hold this share; 1: all", low=0, high=1)
    top_k: int = setting(40, "Draw from so many of the likeliest tokens; 0: all", low=0, high=1_000_000)
    min_p: float = setting(0.05, "Draw from tokens at least this likely beside the likeliest; 0: all", low=0, high=1)
    repeat_penalty: float = setting(1.0, "Above 1 what was said gets less likely", low=0.1, high=10)
    context: int = setting(2048, "Room for a conversation, answers included", low=64, high=1_048_576, unit="tokens")
    thinking: str = setting("", "Whether the model thinks first", choices=THINKING)
    leave_out_oldest: bool = setting(
        False, "When the context is full; never the system prompt. Else a full context is an error"
    )


FIELDS = settings(Asked)
NAMES = tuple(field.name for field in FIELDS)


def read(values: Sequence[Any]) -> Asked:
    """Make settings of what the form holds; ConfigError names what is wrong."""
    return build(Asked, dict(zip(NAMES, values, strict=True)))


def kept(scene: Scene) -> Asked:
    """Give the settings as they were kept; what is wrong with them counts as not set."""
    found = (scene.chosen.get("chat") or {}).get("asked")
    made = Asked()
    for name, value in (found if isinstance(found, Mapping) else {}).items():
        try:
            made = build(Asked, {**dataclasses.asdict(made), name: value})
        except ConfigError:
            continue
    return made


def keep(system: str, values: Sequence[Any]) -> None:
    """Write down what the form holds; a value that is wrong is told when it is used."""
    choice.update(chat={"system": system, "asked": dict(zip(NAMES, values, strict=True))})


def system(scene: Scene) -> str:
    """Give the system prompt."""
    return str((scene.chosen.get("chat") or {}).get("system") or "")


def templates(scene: Scene) -> list[str]:
    """Give the family whose template each pane is asked in, OWN for the file's own."""
    found = (scene.chosen.get("chat") or {}).get("templates")
    both = [str(name) for name in found] if isinstance(found, list) and len(found) == 2 else [OWN, OWN]
    return [name if name in FAMILIES else OWN for name in both]


def strengths(scene: Scene) -> list[float]:
    """Give how strong each pane's adapter is, 0 to 1.5."""
    found = (scene.chosen.get("chat") or {}).get("strengths")
    both = found if isinstance(found, list) and len(found) == 2 else [1.0, 1.0]
    return [min(1.5, max(0.0, float(value))) if isinstance(value, int | float) else 1.0 for value in both]


def put(name: str, pane: int, value: Any, both: Sequence[Any]) -> None:
    """Keep one pane's value beside the other's."""
    choice.update(chat={name: [value if index == pane else old for index, old in enumerate(both)]})


def options(asked: Asked, thinks: bool = False) -> dict[str, Any]:
    """Give what the engine is asked with; thinking is told to templates that know it."""
    known = dataclasses.asdict(asked)
    out = {name: known[name] for name in ("temperature", "max_tokens", "seed", "top_p", "top_k", "min_p")}
    out |= {"repeat_penalty": asked.repeat_penalty, "overflow": "shift" if asked.leave_out_oldest else ""}
    if thinks and asked.thinking:
        out["template_args"] = {"enable_thinking": asked.thinking == "on"}
    return out


def line(asked: Asked, system: str, thinks: bool) -> list[str]:
    """Say what counts now, in a few words each; what has no effect is left out."""
    said = []
    if asked.temperature:
        said += [f"temperature {asked.temperature:g}", f"top-p {asked.top_p:g}"]
        said += [f"top-k {asked.top_k}" if asked.top_k else "no top-k", f"min-p {asked.min_p:g}", f"seed {asked.seed}"]
    else:
        said.append("temperature 0: the likeliest token")
    if asked.repeat_penalty != 1:
        said.append(f"repeat penalty {asked.repeat_penalty:g}")
    said.append(f"at most {asked.max_tokens:,} of {asked.context:,} tokens")
    if thinks and asked.thinking:
        said.append(f"thinking {asked.thinking}")
    if asked.leave_out_oldest:
        said.append("oldest turns left out when full")
    said.append("with a system prompt" if system.strip() else "no system prompt")
    return said
