"""Speakers through transformers: runs, adapters and models in this process, on one copy of each base's weights.

An adapter stands beside others on its base and is switched on for its own answers; the base of a run is the same
weights with the adapter's layers left out. Computed in float32 on a processor that has the room, else in bfloat16.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from studio.chat import identity, prompts
from studio.errors import DataError, ModelError, Stopped
from studio.export import speaking
from studio.export.speaking import Weights
from studio.feedback.engines import TRANSFORMERS
from studio.feedback.speakers import Ask, Draw, Local, Opener, Said, Turn, seed_of, shares, unthought
from studio.models import check

if TYPE_CHECKING:
    import torch

    from studio.train.policy import Policy
    from studio.train.voice import Voice

#: In float32 where the machine's memory is so many times the weights.
_SHARE = 2


class Loaded(Local):
    """A voice (train/voice.py) of weights that are loaded in this process."""

    def __init__(self, name: str, voice: Voice, weights: Weights, context: int) -> None:
        self.name, self.weights, self._voice = name, weights, voice
        most = getattr(voice.policy.base.config.get_text_config(), "max_position_embeddings", None)
        self._context = min(context, most or context)
        self.identity = _identity(name, voice, weights, self._context)

    def ask(
        self, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[int, list[Said]]]:
        """Answer prompts one after the other, the n answers to each together. Raises Stopped at any token."""

        def halt() -> None:
            if should_stop():
                raise Stopped("Stopped; what was finished is kept.", "Resume to go on where it stopped.")

        for number, one in enumerate(asks):
            halt()
            seeds = [seed_of(draw.seed, one, at) for at in range(draw.n)]
            given = self._answers(one.turns, seeds, dataclasses.asdict(draw), halt)
            found = [(unthought(made["text"]), made["tokens"], made["stopped"]) for made in given]
            yield number, [Said(*made, seed) for made, seed in zip(found, seeds, strict=True)]

    def weigh(self, turns: Sequence[Turn], words: Sequence[str]) -> list[float]:
        """Read the probabilities of the words' tokens."""
        prompt, ids = self.prompt(turns), [self._voice.words(word) for word in words]
        if not prompt or not all(ids):
            raise DataError("There is no prompt, or a word without a token.", "Name words of at least one letter.")
        self._fits(len(prompt) + max(map(len, ids)), "The prompt is", "Ask about a shorter text.")
        return shares(self._voice.weigh(prompt, ids))

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Give the tokens of the prompt."""
        return self._voice.prompt(prompts.messages(turns))

    def answer(self, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Answer once: {"who", "text", "tokens", "stopped", "ids"}; `options` are a Draw's, and `raw`."""
        return {"who": self.name, **self._answers(turns, [int(options.get("seed") or 0)], options)[0]}

    def scores(
        self, turns: Sequence[Turn], text: str = "", ids: Sequence[int] = (), like: Local | None = None
    ) -> dict[str, Any]:
        """Tell how likely an answer's tokens are, after the prompt as `like` reads it."""
        prompt, ids = (like or self).prompt(turns), list(ids) or self._voice.words(text)
        if not prompt or not all(0 <= token < self._voice.rows for token in [*prompt, *ids]):
            raise DataError("These are no token ids of this model.", "Compare models of the same base.")
        self._fits(len(prompt) + len(ids), "Question and answer are", "Look at a shorter answer.")
        return self._voice.scores(prompt, ids)

    def _fits(self, tokens: int, what: str, remedy: str, spare: int = 0) -> None:
        """Raise DataError where there is no room; `spare`: to answer with a token, and to see that it ends."""
        if tokens > self._context - spare:
            raise DataError(f"{what} {tokens} tokens long, the context {self._context}.", remedy, field="context")

    def _answers(
        self,
        turns: Sequence[Turn],
        seeds: Sequence[int],
        options: Mapping[str, Any],
        halt: Callable[[], None] = lambda: None,
    ) -> list[dict[str, Any]]:
        from studio.train.voice import Filter

        how = Filter(**{f.name: options[f.name] for f in dataclasses.fields(Filter) if f.name in options})
        prompt = self._voice.prompt(prompts.messages(turns), True if options.get("raw") else None)
        self._fits(len(prompt), "The conversation is", "Ask about a shorter text.", spare=2)
        room = min(int(options.get("max_tokens", Draw.max_tokens)), self._context - len(prompt) - 1)
        once = seeds if how.temperature > 0 else seeds[:1]  # the likeliest tokens are the same for all seeds
        made = self._voice.answers(prompt, once, room, how, halt) if prompt else [([], False)]
        found = [
            {"text": self._voice.text(prompt, ids), "tokens": len(ids), "stopped": stopped, "ids": ids}
            for ids, stopped in made
        ]
        return found if len(found) == len(seeds) else found * len(seeds)


def _identity(name: str, voice: Voice, weights: Weights, context: int) -> dict[str, Any]:
    """Tell who a voice is, as Session.identity does; `rows`: whose rows of control tokens a base was given."""
    files = check.weight_files(weights.base)
    sums = [identity.sha256(str(file)) for file in files]
    base = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
    adapter = weights.adapter
    found = {
        "name": name,
        "engine": TRANSFORMERS,
        "file": weights.base.name,
        "sha256": base[: identity.SHORT],
        "bytes": sum(file.stat().st_size for file in files),
        "adapter": "",
        "adapter_sha256": "",
        "strength": 0.0,
        "raw": weights.raw,
        "rows": "",
        "template": "" if weights.raw else hashlib.sha256(weights.renderer.source.encode()).hexdigest()[:12],
        "dtype": str(voice.policy.base.dtype).removeprefix("torch."),
        "context": context,
        "device": str(voice.policy.device),
    }
    if adapter is not None:
        called = adapter.parent.name if adapter.name == "adapter" else adapter.name
        sha = identity.sha256(str(adapter / "adapter_model.safetensors"))[: identity.SHORT]
        on = {"adapter": called, "adapter_sha256": sha, "strength": 1.0}
        found |= {"rows": sha} if weights.rests else on
    return found


@dataclasses.dataclass
class _Copy:
    """A base in memory: the rows of tokens it came with and has, and the names of the adapters on it by folder."""

    policy: Policy
    own: int
    rows: int
    adapters: dict[Path, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Copies(Opener):
    """Opens speakers through transformers."""

    def __post_init__(self) -> None:
        self._copies: list[tuple[Path, _Copy]] = []

    def open(self, names: Sequence[str]) -> dict[str, Local]:
        """Open speakers by name. Raises RunError, ModelError and ConfigError."""
        found = {name: speaking.weights(name, emit=self.emit, should_stop=self.should_stop) for name in names}
        wanted: dict[Path, int] = {}
        for one in found.values():
            wanted[one.base] = max(wanted.get(one.base, 0), _brought(one))
        return {name: self._speaker(name, one, wanted[one.base]) for name, one in found.items()}

    def base(self, tuned: Local) -> Local:
        """Open the same weights with the adapter's layers left out."""
        assert isinstance(tuned, Loaded)
        return self._speaker("base", speaking.weights_of_base(tuned.name, "", tuned.weights))

    def add(self, stage: speaking.Stage) -> Local:
        """Open it as one more adapter on its base."""
        return self._speaker(stage.name, speaking.weights_at(stage))

    def close(self) -> None:
        """Let go of the weights."""
        self._copies.clear()

    def _speaker(self, name: str, weights: Weights, rows: int = 0) -> Local:
        from studio.train.voice import Voice

        copy = self._copy(weights.base, max(rows, _brought(weights)))
        adapter = self._adapter(copy, weights.adapter) if weights.adapter is not None else ""
        known = max(copy.own, _brought(weights))
        voice = Voice(copy.policy, weights.renderer, adapter, weights.rests, weights.raw, known)
        return Loaded(name, voice, weights, self.context)

    def _copy(self, base: Path, rows: int) -> _Copy:
        """Give a base with room for so many tokens, loaded where none is that has."""
        from studio.train import model
        from studio.train.policy import Policy

        for place, copy in self._copies:
            if place == base and copy.rows >= rows:
                return copy
        where = self._where()
        loaded = model.load_base(base, "none", where, _dtype(base, where))
        own = loaded.get_input_embeddings().weight.shape[0]
        if rows > own:
            loaded.resize_token_embeddings(rows, mean_resizing=False)  # an adapter brings what stands in them
        loaded.eval()
        copy = _Copy(Policy(loaded, where, []), own, max(rows, own))
        self._copies.append((base, copy))
        return copy

    def _where(self) -> torch.device:
        import torch

        from studio.train import model

        return torch.device("cpu") if self.device == "cpu" else model.device()

    def _adapter(self, copy: _Copy, folder: Path) -> str:
        """Put an adapter on a base beside those that are there; gives its name."""
        import peft

        from studio.train import adapters, head
        from studio.train.policy import POLICY

        if folder not in copy.adapters:
            policy = copy.policy
            name = POLICY if not copy.adapters else f"{POLICY}-{len(copy.adapters)}"
            if policy.full:
                policy.model = peft.PeftModel.from_pretrained(
                    policy.model, folder, adapter_name=name, is_trainable=False, local_files_only=True
                )
            else:
                adapters.add_saved(policy, name, folder)
            head.lean(policy.model)
            policy.model.eval()
            copy.adapters[folder] = name
        return copy.adapters[folder]


def _brought(weights: Weights) -> int:
    """Count the tokens up to the last one that an adapter brings a row for, or was trained with."""
    return len(weights.renderer.tokenizer) if weights.adapter is not None else 0


def _dtype(base: Path, where: torch.device) -> torch.dtype:
    """Choose the type of the arithmetic; raises ModelError where a processor's memory has no room for the weights.

    By the size of the machine, and not by what is free now: a set that is resumed goes on in the same type.
    """
    import torch

    from studio.train import model

    if where.type != "cpu":
        return model.compute_dtype(where)
    count, memory = sum(math.prod(tensor.shape) for tensor in check.read_tensors(base)), psutil.virtual_memory()
    chosen = torch.float32 if _SHARE * count * torch.float32.itemsize < memory.total else torch.bfloat16
    needed = count * chosen.itemsize
    if needed > memory.available:
        raise ModelError(
            f"{base.name} takes {needed / 2**30:.1f} GiB as transformers loads it, {memory.available / 2**30:.1f} are "
            "free.",
            "Close other programs, or export it to a smaller GGUF file and name that.",
            file=str(base),
        )
    return chosen
