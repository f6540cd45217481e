"""What every training run begins with: its settings, its base and parent, the renderer, the data; then the model."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import config as settings
from studio import events
from studio.data import dataset, kinds, preferences, split
from studio.data.records import Conversation, Message, Reading, Text
from studio.errors import ConfigError, ModelError, RunError, Stopped
from studio.hardware import BF16_FROM, fast_bf16
from studio.methods import METHODS, adviser
from studio.methods.base import Method, TrainConfig
from studio.models import adapter, catalogue, check, experts, hub
from studio.models.check import ModelInfo
from studio.render import cache, encode
from studio.runs import Run, RunConfig
from studio.train import variants

if TYPE_CHECKING:
    from studio.train.policy import Policy

#: What an adapter folder, or a whole trained model's, says about itself beside the files of others: the base that it
#: belongs to or came from, and the one that the lineage began with, the template family that was added, new tokens.
ABOUT = "studio.json"
#: The folder in a run's directory where full fine-tuning leaves the model.
MODEL = "model"
#: All weights learn best at so small a part of an adapter's learning rate (sources on the setting `tuning`).
FULL = 10
#: Held-out questions that parent and child are asked.
ASKED = 20
#: Tokens of room for an answer without which a question is not asked.
LEAST_ANSWER = 8
#: A file of another kind is read as one of these without being asked: nothing is lost that the method could learn.
_READ_AS = {("preference", "kto"), ("preference", "prompt"), ("kto", "prompt"), ("sft", "prompt")}


@dataclasses.dataclass(frozen=True)
class Trained:
    """What a finished run left: an adapter and its base, or (full fine-tuning, `adapter` None) a base of its own."""

    run: Run
    base: Path
    adapter: Path | None
    about: dict[str, Any]

    @classmethod
    def of(cls, run: Run) -> Trained:
        """Read a run's directory. Raises RunError when it has not finished."""
        whole = run.dir / MODEL
        if (whole / ABOUT).is_file():
            return cls(run, whole, None, json.loads((whole / ABOUT).read_text("utf-8")))
        about = adapter_about(run.adapter)
        return cls(run, Path(about["base"]), run.adapter, about)

    @property
    def root(self) -> Path:
        """Give the base that the lineage began with."""
        return Path(self.about.get("root", self.about["base"]))


@dataclasses.dataclass
class Setup:
    """What a run works with, before the model is loaded."""

    run: Run
    method: Method
    config: TrainConfig
    begins: Trained | None
    info: ModelInfo
    folder: Path
    renderer: encode.Renderer
    data: dataset.Dataset
    aside: Collection[int]
    emit: events.Emit
    should_stop: Callable[[], bool]

    @property
    def parent(self) -> Run | None:
        """Give the run that this one goes on from."""
        return self.begins.run if self.begins else None

    def halt(self) -> None:
        """Raise Stopped when somebody asked for it."""
        if self.should_stop():
            raise Stopped("Stopped before the first step.", "Start it again when you like.")

    def note(self, code: str, text: str, level: str = "info") -> None:
        """Tell the user something about the run."""
        self.emit(events.event("note", level=level, code=code, text=text))


def setup(run: Run, emit: events.Emit, should_stop: Callable[[], bool]) -> Setup:
    """Read all that a run needs but the weights. Raises StudioErrors: a bad run ends before anything heavy."""
    from transformers import set_seed

    from studio.train import footprint, model

    asked = run.config
    method = _method(asked.method)
    parent = run.parent()
    info = check.inspect(asked.model, emit, should_stop)
    folder = hub.resolve(asked.model)
    begins = Trained.of(parent) if parent is not None else None
    if begins is not None:
        _same_base(begins, folder)
        _speaks(begins, method)
        if begins.base != folder:
            folder, info = begins.base, check.inspect(str(begins.base))
    mixture = info.shape.experts
    config = model.fill_in(_config(method, asked, begins, info.context), info.parameters, mixture)
    adapts = begins.adapter if begins is not None else None
    variants.check(method, config, continued=adapts is not None, mixture=mixture)
    if not info.exportable:
        known = ", ".join(sorted(check.EXPORTABLE))
        raise ModelError(f"This model {info.use}.", f"Choose another model; Studio exports: {known}.")
    if adapts is not None:
        adapter.check(adapts, info)
    if config.tuning == "full" and "learning_rate" not in asked.settings:
        text = f"All weights learn, so the learning rate is {config.learning_rate:g}: a tenth of the adapter's."
        emit(events.event("note", level="info", code="learning_rate", text=text))
    set_seed(config.seed)
    renderer = encode.load(folder, config.template, now=_day(run))
    data = _data(asked, method, emit, should_stop)
    aside = split.held_out(data.records(), config.held_out, config.seed)
    made = Setup(run, method, config, begins, info, folder, renderer, data, aside, emit, should_stop)
    _tell_rows(made)
    footprint.check(made)
    return made


def rows_of(
    run: Run, emit: events.Emit, should_stop: Callable[[], bool]
) -> tuple[dataset.Dataset, Collection[int], TrainConfig]:
    """Read the rows of a run again, for what is made of it later: its data, the numbers held out, its settings."""
    config = settled(run)
    data = _data(run.config, _method(run.config.method), emit, should_stop)
    return data, split.held_out(data.records(), config.held_out, config.seed), config


def settled(run: Run) -> TrainConfig:
    """Give all settings of a run as it was asked for; what is chosen for the machine and the model is still None."""
    asked, method, parent = run.config, _method(run.config.method), run.parent()
    begins = Trained.of(parent) if parent is not None else None
    info = check.inspect(str(begins.base) if begins is not None else asked.model)
    return _config(method, asked, begins, info.context)


def _tell_rows(made: Setup) -> None:
    """Say where what is held out is not what was asked for, and where there are more rows than the defaults are for."""
    config, rows, aside = made.config, made.data.usable, len(made.aside)
    if aside > 2 * max(1.0, config.held_out * rows):
        why = "rows that share a prompt stay together, and few prompts differ"
        made.note(
            "held_out", f"Held out are {aside:,} of {rows:,} rows, more than held_out asks for: {why}.", "warning"
        )
    if config.patience and not aside and made.method.kind == "offline":  # online, some prompts are asked in any case
        made.note("patience", "Nothing is held out to measure on, so patience cannot end the run.", "warning")
    if doubt := preferences.doubt(made.run.config.data):
        made.note("doubtful", doubt, "warning")
    said = adviser.many(made.data.kind, rows)
    if said and not made.method.head and "learning_rate" not in made.run.config.settings:
        made.note("many_rows", said, "warning")


def load(made: Setup) -> Policy:
    """Load the base with its adapter, and the head that the method asks for; says where and how."""
    from studio.train import model, proof

    config, where = made.config, model.device()
    bits = "4 bits" if config.quantize_base == "nf4" else config.dtype
    place = {"cpu": "the CPU", "cuda": "the GPU", "mps": "the Apple GPU"}[where.type]
    what = f"all weights, computed in {bits}" if config.tuning == "full" else f"the base in {bits}"
    made.note("device", f"Trains on {place}, {what}.{_quicker(made, where.type)}")
    if made.info.shape.experts:
        made.note("experts", f"This base is a mixture of experts: {experts.ALONE}.")
    parent = made.begins.adapter if made.begins else None
    policy = model.load(made.folder, made.renderer, config, parent, made.run.dir)
    proof.settle(policy, config, made.note)
    if config.tuning == "full" and config.dtype == "bf16":
        policy.autocast = model.compute_dtype(where, config.dtype)
    if made.method.head:
        policy.add_head(made.method.head)
        if parent and (parent / f"head-{made.method.head}.safetensors").is_file():
            policy.load_heads(parent)
    if policy.new_tokens:
        names = " ".join(made.renderer.tokenizer.convert_ids_to_tokens(policy.new_tokens))
        text = f"The base never learned {names}; their embeddings are trained too, or it would never stop."
        made.note("new_tokens", text)
    return policy


def _quicker(made: Setup, device: str) -> str:
    """Say it where bf16 would take half of the time: a CPU that multiplies in it, an adapter, a base of some size."""
    config, asked = made.config, made.run.config.settings.get("dtype")
    if device != "cpu" or asked or config.dtype != "float32" or config.tuning == "full":
        return ""
    slow = config.quantize_base != "none" or made.info.parameters < BF16_FROM or not fast_bf16(device)
    return (
        ""
        if slow
        else " It is fast at bf16: dtype=bf16 takes about half of the time, and learns a little less at first."
    )


def _data(asked: RunConfig, method: Method, emit: events.Emit, should_stop: Callable[[], bool]) -> dataset.Dataset:
    """Read the file as the method needs it: where its kind holds that kind too, it is read as such, and said."""
    reading = Reading.from_dict(asked.options.get("reading") or {})
    data = dataset.load(asked.data, reading, emit=emit, should_stop=should_stop)
    other = next((kind for kind in method.kinds if (data.kind, kind) in _READ_AS), "")
    if data.kind not in method.kinds and other:
        less = kinds.OTHERS[data.kind, other]
        text = f"The file holds {data.kind} rows; they are read as {other}{' without ' + less if less else ''}."
        emit(events.event("note", level="info", code="read_as", text=text))
        data = dataset.load(asked.data, dataclasses.replace(reading, kind=other), emit=emit, should_stop=should_stop)
    data.want(*method.kinds)
    return data


def _day(run: Run) -> datetime:
    """Give the day on which the run first began: templates that write the date write the same one after a resume.

    The option `day` (a recipe's: 2026-11-27) is another run's.
    """
    if kept := run.config.options.get("day"):
        try:
            return datetime.fromisoformat(str(kept))
        except ValueError:
            raise ConfigError(f"{kept!r} is no day.", "Write it as 2026-11-27.", field="day") from None
    began = next((item["time"] for item in run.events() if item["type"] == "started"), time.time())
    return datetime.fromtimestamp(began).replace(hour=0, minute=0, second=0, microsecond=0)


def _method(name: str) -> Method:
    if name not in METHODS:
        raise ConfigError(f"There is no method {name!r}.", f"Choose one of: {', '.join(METHODS)}.", field="method")
    return METHODS[name]


def _config(method: Method, asked: RunConfig, parent: Trained | None, context: int) -> TrainConfig:
    """Build the config: the method's defaults, then what the base asks for, then the parent's, then what was given.

    From a parent come the adapter's shape and the template. A row is never longer than what the base can read. Learning
    rates that nobody gave are an adapter's, and are divided where all weights learn.
    """
    inherited: dict[str, Any] = {}
    if parent is not None and parent.adapter is not None:
        full = asked.settings.get("tuning") == "full"
        names = ("template",) if full else ("lora_r", "lora_alpha", "use_rslora", "use_dora", "template")
        inherited = {name: parent.about[name] for name in names if name in parent.about}
    wanted = catalogue.settings(asked.model, method.name)
    config = settings.build(method.Config, {**wanted, **inherited, **asked.settings})
    if config.tuning == "full" and "learning_rate" not in asked.settings:
        config = dataclasses.replace(config, learning_rate=config.learning_rate / FULL)
    return dataclasses.replace(config, max_length=min(config.max_length, context or config.max_length))


def adapter_about(adapter: Path) -> dict[str, Any]:
    """Read what an adapter of ours says about itself. Raises RunError when the run has not finished."""
    path = adapter / ABOUT
    if not path.is_file():
        raise RunError(
            f"Run {adapter.parent.name} has no finished adapter.",
            f"Let it finish first: studio resume {Run(adapter.parent).name}",
        )
    about: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return about


def _same_base(parent: Trained, folder: Path) -> None:
    if folder not in (parent.root, parent.base):
        raise ConfigError(
            f"The parent was trained on {parent.root}, this run names {folder}.",
            "Use the parent's model: leave --model out, or choose another parent.",
            field="model",
        )


def _speaks(parent: Trained, method: Method) -> None:
    if "scores" in parent.about and not method.head:
        raise ConfigError(
            f"Run {parent.run.id} is a reward model: it scores answers and has unlearned to write them.",
            f"Choose another parent; its scores are used by `studio train rloo --reward {parent.run.name}`.",
            field="parent",
        )


def encoded(made: Setup) -> cache.Cache:
    """Take the rows' tokens from the cache, made now or before, and say what was left out."""
    config = made.config
    rows = cache.build(
        made.data,
        made.renderer,
        max_length=config.max_length,
        train_on=config.train_on,
        cut=config.cut,
        emit=made.emit,
        should_stop=made.should_stop,
    )
    why = {
        "too_long": f"are longer than {config.max_length} tokens and were left out",
        "nothing_learned": "have nothing to learn and were left out",
        "template": "do not fit the chat template and were left out",
    }
    for code, count in made.data.left_out.items():
        made.note(code, f"{count} rows were left out as asked: {code}.", "warning")
    for reason, rest in rows.left_out.items():
        lines = ", ".join(map(str, rest.lines[:10])) + (", ..." if rest.count > 10 else "")
        made.note(reason, f"{rest.count} rows {why.get(reason, reason)} (lines {lines}).", "warning")
    return rows


def prompts(made: Setup) -> list[list[Message]]:
    """Take the questions of up to ASKED held-out rows (else of any), each up to the last turn that is answered.

    One that leaves no room for an answer in max_length is not asked, and said.
    """
    data, aside = made.data, made.aside
    count = len(aside) or data.usable
    wanted = range(0, count, max(1, count // ASKED))[:ASKED]
    rows = (record for number, record in enumerate(data.records()) if not aside or number in aside)
    chosen = [record for number, record in enumerate(rows) if number in wanted]
    prompts = []
    for record in chosen:
        if isinstance(record, Conversation):
            last = max(index for index, turn in enumerate(record.messages) if turn.role == "assistant")
            prompts.append(list(record.messages[:last]))
        elif not isinstance(record, Text):
            prompts.append(list(record.prompt))
    asked = [prompt for prompt in prompts if prompt]
    most = made.config.max_length - LEAST_ANSWER
    fits = [prompt for prompt in asked if len(made.renderer.prompt(prompt)) <= most]
    if len(fits) < len(asked):
        text = f"{len(asked) - len(fits)} of {len(asked)} questions leave no room for an answer, and are not asked."
        made.note("not_asked", text)
    return fits
