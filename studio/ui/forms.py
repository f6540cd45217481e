"""Dataclass <-> components: a method's settings become a form, and a form becomes the values that differ from defaults.

Labels, help, ranges, units and sources are read from the fields; nothing about a setting is written here. What a user
typed goes to the engine as it is, and the engine's own check says what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr

from studio.config import Setting, build, settings

AUTOMATIC = "automatic"


#: So many settings are shown before the drawer is opened.
SIMPLE = 4


def simple(config: type) -> list[Setting]:
    """Choose the settings of the simple view: of those that are not advanced first the method's own.

    A method's own are those that no other config has; then come those for which it has its own default.
    """
    basic = [s for s in settings(config) if not s.advanced]
    ranked = sorted(basic, key=lambda s: (s.name in _shared(config), s.name not in config.__annotations__))
    return [s for s in basic if s in ranked[:SIMPLE]]


def _shared(config: type) -> set[str]:
    """Name the settings that a config has from those it is made of."""
    bases = (base for base in config.__mro__[1:] if hasattr(base, "__dataclass_fields__"))
    return {s.name for base in bases for s in settings(base)}


class Form:
    """The form of one config class; `inputs` are its components in the order of its settings, `name` in their ids."""

    def __init__(self, config: type, name: str = "") -> None:
        self.config, self.name = config, name
        self.settings = settings(config)
        self.inputs: list[Any] = []

    def draw(self) -> None:
        """Lay the form out inside the current block: SIMPLE settings, the rest in a drawer, the method's own first."""
        basic = simple(self.config)
        advanced = sorted((s for s in self.settings if s not in basic), key=lambda s: s.name in _shared(self.config))
        made: dict[str, Any] = {}
        with gr.Row(elem_classes="st-fields"):
            for s in basic:
                made[s.name] = component(s, self.name)
        if advanced:
            with gr.Accordion("Advanced", open=False, elem_classes="st-drawer"), gr.Row(elem_classes="st-fields"):
                for s in advanced:
                    made[s.name] = component(s, self.name)
        self.inputs = [made[s.name] for s in self.settings]

    def changed(self, values: Sequence[Any], wanted: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Give the settings that differ from the defaults, checked; ConfigError names all that is wrong.

        `wanted` is what the base asks for: it stands in the place of the method's defaults.
        """
        made: Any = build(self.config, dict(zip((s.name for s in self.settings), values, strict=True)))
        before: Any = build(self.config, wanted or {})
        names = [s.name for s in self.settings]
        return {name: getattr(made, name) for name in names if getattr(made, name) != getattr(before, name)}

    def shown(self, values: Mapping[str, Any]) -> list[Any]:
        """Give what each component shows when the settings have these values (the rest at their defaults)."""
        return [show(s, values.get(s.name, s.default)) for s in self.settings]


def component(s: Setting, form: str = "") -> Any:
    """Make the component of one setting."""
    common = {"label": label(s), "info": hint(s), "elem_classes": "st-field", "min_width": 150}
    if form:
        common["elem_id"] = f"st-{form}-{s.name}"
    if s.type is bool and not s.optional:
        return gr.Checkbox(value=bool(s.default), **common)
    if s.choices or s.type is bool:
        named = [(str(c) or AUTOMATIC, str(c)) for c in s.choices] or [("on", "True"), ("off", "False")]
        automatic = [(AUTOMATIC, "")] if s.optional else []
        return gr.Dropdown(choices=[*automatic, *named], value=show(s, s.default), **common)
    placeholder = AUTOMATIC if s.optional else None
    return gr.Textbox(value=show(s, s.default), max_lines=1, placeholder=placeholder, **common)


_SPELLED = {
    "n": "answers",
    "lora": "LoRA",
    "rslora": "rsLoRA",
    "dora": "DoRA",
    "neftune": "NEFTune",
    "dtype": "precision",
    "lr": "learning rate",
    "nll": "NLL",
    "kl": "KL",
    "lam": "lambda",
}


def label(s: Setting) -> str:
    """Name a setting as people read it, with its unit: `max_length` -> Max length (tokens)."""
    words = " ".join(_SPELLED.get(word, word) for word in s.name.split("_"))
    words = words[0].upper() + words[1:]
    return f"{words} ({s.unit})" if s.unit and s.unit not in words.lower() else words


def hint(s: Setting) -> str:
    """Say what a setting does, its range and where its default comes from."""
    parts = [s.help.rstrip(".") + ".", _range(s)]
    if s.advanced and s.source:
        parts.append(f"Source: {s.source}.")
    return " ".join(part for part in parts if part)


def _range(s: Setting) -> str:
    """Write a range; bounds so far out that nobody meets them are left out."""
    low = s.low if s.low is None or s.low == 0 or abs(s.low) >= 1e-4 else None
    high = s.high if s.high is None or s.high < 1e6 else None
    if low is not None and high is not None:
        return f"{low:,g} to {high:,g}."
    return f"{low:,g} or more." if low is not None else f"At most {high:,g}." if high is not None else ""


def show(s: Setting, value: Any) -> Any:
    """Write a value as its component shows it."""
    if value is None:
        return ""
    if s.type is bool and not s.optional:
        return bool(value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
