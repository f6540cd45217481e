"""How much memory a run of a method needs: what the method does with the base, told to hardware's estimate.

One rule for the window, the command line and the run itself, which compares it with what it measures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from studio import config as settings
from studio import hardware
from studio.errors import ConfigError
from studio.hardware import Estimate, Machine, Work
from studio.methods import METHODS
from studio.methods.base import Method, TrainConfig
from studio.methods.online import Online, OnlineConfig
from studio.models.shape import Shape

#: Held-out questions that an offline run's model answers at once, to show what changed.
_ASKED = 16
#: The settings that memory follows from, by the names that the estimate knows them by.
_KNOWN = (
    "quantize_base",
    "tuning",
    "optimizer",
    "lora_r",
    "lora_dropout",
    "use_dora",
    "max_length",
    "micro_batch_size",
    "batch_size",
    "gradient_checkpointing",
    "dtype",
)


def estimate_run(
    shape: Shape, method: str, given: Mapping[str, Any], on: Machine, longest: int | None = None
) -> Estimate:
    """Estimate a run on a machine, with what Studio would choose there for what is not `given`.

    `longest`: the tokens of the longest row, where they are known; as many shorter rows are in memory at once as take
    the room of those of full length, and no more than a batch has. Values are taken as a form or a flag gives them; one
    that is no value of its setting counts as not given, since somebody may still be typing it. Raises ConfigError where
    there is no such method.
    """
    if method not in METHODS:
        raise ConfigError(f"There is no method {method!r}.", f"Choose one of: {', '.join(METHODS)}.", field="method")
    config = _built(METHODS[method], given)
    chosen = hardware.chosen_on(on, shape, {"tuning": config.tuning})
    if longest is not None and longest < config.max_length:
        room = (config.micro_batch_size or chosen["micro_batch_size"]) * config.max_length
        config = dataclasses.replace(config, max_length=longest, micro_batch_size=-(-room // longest))
    return _estimate(shape, METHODS[method], config, chosen)


def estimate(shape: Shape, method: Method, config: TrainConfig, device: str, tokens: int | None = None) -> Estimate:
    """Estimate a run whose settings are all filled in; `tokens` in memory at once, where they are known."""
    rows = hardware.rows_at_once(device)
    return _estimate(shape, method, config, {"device": device, "micro_batch_size": rows, "tokens": tokens})


def work(method: Method, config: TrainConfig) -> Work:
    """Tell what a method does with the base.

    An online run may ask a reference and a reward model, each an adapter. Of a pair's prompt, of all answers to one,
    it is taken that they are in memory once.
    """
    if isinstance(method, Online) and isinstance(config, OnlineConfig):
        share = min(1.0, config.max_new_tokens / config.max_length)
        return Work(method.samples(config), share, asked=2, critic=method.critic, written=config.batch_size)
    sides = 2 if "preference" in method.kinds else 1
    return Work(sides, 1.0 if method.head else Work.learned, written=0 if method.head else _ASKED)


def _estimate(shape: Shape, method: Method, config: TrainConfig, chosen: Mapping[str, Any]) -> Estimate:
    named = {name: value for name in _KNOWN if (value := getattr(config, name)) is not None}
    return hardware.estimate(shape, **{**chosen, **named}, work=work(method, config))


def _built(method: Method, given: Mapping[str, Any]) -> TrainConfig:
    """Build a config out of those values that are values of their settings."""
    config: TrainConfig = method.Config()
    for name, value in given.items():
        if name in method.Config.__dataclass_fields__ and value != "":
            try:
                one = settings.build(method.Config, {name: value})
            except ConfigError:
                continue
            config = dataclasses.replace(config, **{name: getattr(one, name)})
    return config
