"""Who answers and who judges: local runs and files through llama.cpp or transformers, or OpenAI-compatible endpoints.

All have one face, `Speaker`: answers to prompts, n to each, and the probability of words as the next thing said. Those
through llama.cpp share one engine process; those on one base share one copy of its weights, in either engine. An answer
is drawn with a seed of its own, made of the asker's seed, the prompt's key and the answer's number: so it is the same
whatever was asked before it, and a set that is resumed goes on with what an uninterrupted one would have had.
"""

from __future__ import annotations

import abc
import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Protocol

from studio import events
from studio.chat.session import Pane, Session
from studio.errors import ConfigError, Stopped
from studio.export import speaking
from studio.feedback import engines

Turn = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Said:
    """An answer: its text, tokens, whether it ended by itself, and the seed it was drawn with."""

    text: str
    tokens: int
    stopped: bool
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Draw:
    """How answers are drawn: temperature 0 always takes the likeliest token, so that n answers are one."""

    n: int = 1
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    max_tokens: int = 256
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Ask:
    """A prompt: its turns, and the key that its seeds are made of ("" for the turns themselves)."""

    turns: Sequence[Turn]
    key: str = ""


class Speaker(abc.ABC):
    """One who answers. `identity` is what records and reports keep of it (chat/session.py `identity`)."""

    name: str
    identity: dict[str, Any]
    #: Whether `weigh` can be asked: an endpoint may not tell probabilities.
    weighs = True

    @abc.abstractmethod
    def ask(
        self, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[int, list[Said]]]:
        """Answer prompts, in their order: (number of the prompt, its answers). Raises Stopped between two answers."""

    @abc.abstractmethod
    def weigh(self, turns: Sequence[Turn], words: Sequence[str]) -> list[float]:
        """Give the probability of each word as the beginning of the answer, as they share it: they add up to 1.

        p_i = prod_t P(t | prompt, earlier tokens of word i), divided by the sum over the words. All 0 where the model
        gives none of them a probability.
        """

    def close(self) -> None:  # noqa: B027  # most have nothing of their own
        """Let go of what this speaker holds alone."""

    def say(self, turns: Sequence[Turn], draw: Draw | None = None, key: str = "") -> list[Said]:
        """Answer one prompt."""
        return next(iter(self.ask([Ask(turns, key)], draw or Draw())))[1]


class Local(Speaker):
    """One on this machine: it goes on with plain text, too, and tells how likely the tokens of an answer are."""

    @abc.abstractmethod
    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Give the tokens of the prompt that it reads."""

    @abc.abstractmethod
    def answer(self, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Answer once: {"text", "tokens", "stopped", "ids", ...}; `options` are a Draw's, and `raw` for plain text."""

    @abc.abstractmethod
    def scores(
        self, turns: Sequence[Turn], text: str = "", ids: Sequence[int] = (), like: Local | None = None
    ) -> dict[str, Any]:
        """Tell how likely an answer's tokens are (chat/answers.py `scores`), after the prompt as `like` reads it."""


class Llama(Local):
    """A pane of the chat engine."""

    def __init__(self, session: Session, pane: int) -> None:
        self._session, self._pane = session, pane
        self.name = session.panes[pane].name
        self.identity = session.identity(pane)

    @property
    def pane(self) -> Pane:
        """Give the pane."""
        return self._session.panes[self._pane]

    def ask(
        self, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[int, list[Said]]]:
        """Answer prompts one after the other; the prompt of n answers is evaluated once."""
        options = dataclasses.asdict(draw)
        del options["n"]
        for number, one in enumerate(asks):
            said: list[Said] = []
            for at in range(draw.n):
                if should_stop():
                    raise Stopped("Stopped; what was finished is kept.", "Resume to go on where it stopped.")
                options["seed"] = seed_of(draw.seed, one, at)
                made = self._session.answer(self._pane, list(one.turns), **options)
                said.append(Said(unthought(made["text"]), made["tokens"], made["stopped"], options["seed"]))
            yield number, said

    def weigh(self, turns: Sequence[Turn], words: Sequence[str]) -> list[float]:
        """Read the probabilities of the words' tokens."""
        return shares(self._session.weigh(self._pane, list(turns), words))

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Give the tokens of the prompt."""
        ids: list[int] = self._session.prompt(self._pane, turns)["ids"]
        return ids

    def answer(self, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Answer once with options of the chat (Session.stream): raw, seed, max_tokens and others."""
        return self._session.answer(self._pane, turns, **options)

    def scores(
        self,
        turns: Sequence[Turn],
        text: str = "",
        ids: Sequence[int] = (),
        like: Local | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Tell how likely an answer's tokens are (Session.scores)."""
        if like is not None and like is not self:
            options["prompt_ids"] = like.prompt(turns)
        return self._session.scores(self._pane, turns, text, ids, **options)

    def tokens(self, texts: Sequence[str], bos: bool = True) -> dict[str, Any]:
        """Tokenise plain texts (Session.tokens)."""
        return self._session.tokens(self._pane, texts, bos=bos)

    def shown(self, turns: Sequence[Turn], **options: Any) -> dict[str, Any]:
        """Show what the model reads (Session.prompt)."""
        return self._session.prompt(self._pane, turns, **options)


_THOUGHT = re.compile(r"\A\s*(?:<think>.*?(?:</think>|\Z)|(?:(?!<think>).)*?</think>[ \t]*(?=\n|\Z))", re.DOTALL)


def unthought(text: str) -> str:
    """Give an answer without the thoughts before it, whose beginning some templates have put into the prompt."""
    return _THOUGHT.sub("", text, count=1).strip()


def shares(found: Sequence[float]) -> list[float]:
    """Divide by the sum; all 0 where there is nothing to divide."""
    total = sum(found)
    return [value / total for value in found] if total > 0 else [0.0] * len(found)


def seed_of(seed: int, ask: Ask, number: int) -> int:
    """Give the seed of an answer: a number below 2^31 made of the asker's seed, the prompt and the answer's number."""
    about = ask.key or repr([(turn.get("role"), turn.get("content")) for turn in ask.turns])
    return int.from_bytes(hashlib.sha256(f"{seed}\0{number}\0{about}".encode()).digest()[:4], "big") >> 1


@dataclasses.dataclass
class Opener(abc.ABC):
    """Opens the speakers of one engine; `context` tokens of prompt and answer together."""

    context: int
    device: str = "auto"
    emit: events.Emit | None = None
    should_stop: Callable[[], bool] | None = None

    @abc.abstractmethod
    def base(self, tuned: Local) -> Local:
        """Open what a speaker of this engine began with, beside it. Raises RunError where that is not known."""

    @abc.abstractmethod
    def add(self, stage: speaking.Stage) -> Local:
        """Open a run at a point of its training. Raises RunError."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the engine."""


@dataclasses.dataclass
class Panes(Opener):
    """Opens speakers through llama.cpp, all in one engine process."""

    def __post_init__(self) -> None:
        self.session = Session([], n_ctx=self.context, device=self.device)

    def open(self, names: Sequence[str], together: bool) -> dict[str, Local]:
        """Open speakers by name; `together`: there is another one to share weights with."""
        found = [
            speaking.find(name, name, together=together, emit=self.emit, should_stop=self.should_stop) for name in names
        ]
        made = {name: self._speaker(one.pane) for name, one in zip(names, found, strict=True)}
        for one in found:
            if one.note and self.emit is not None:
                self.emit(events.event("note", level="info", code="speaker", text=one.note))
        return made

    def base(self, tuned: Local) -> Local:
        """Open the base on the weights of the speaker, where they are its own."""
        assert isinstance(tuned, Llama)
        return self._speaker(speaking.base_of(tuned.name, "", tuned.pane))

    def add(self, stage: speaking.Stage) -> Local:
        """Open it as one more pane."""
        return self._speaker(speaking.staged(stage))

    def _speaker(self, pane: Pane) -> Local:
        self.session.panes.append(pane)
        return Llama(self.session, len(self.session.panes) - 1)

    def close(self) -> None:
        """End the engine process."""
        self.session.close()


class Speakers:
    """Open speakers by name; a context that ends their engine.

    A name is a run, an adapter's folder, a model, a GGUF file, `base` (what the first of the others began with), or an
    endpoint (endpoint.py): `http://127.0.0.1:11434/v1#MODEL`. One that is not on this machine needs `allow_endpoint`.
    `engine` is what runs the local ones (engines.py).
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        context: int = 2048,
        device: str = "auto",
        emit: events.Emit | None = None,
        should_stop: Callable[[], bool] | None = None,
        allow_endpoint: bool = False,
        engine: str = "auto",
    ) -> None:
        if not names or not all(name.strip() for name in names):
            raise ConfigError("Nobody is named who answers.", "Name a run, a model, a GGUF file or an endpoint.")
        from studio.feedback import endpoint, loaded, wire

        endpoint.check(names, allow_endpoint)  # before anything is loaded
        local = [name for name in names if not endpoint.is_endpoint(name)]
        others = list(dict.fromkeys(name for name in local if name != "base"))
        if local and not others:
            raise ConfigError("`base` means the base of a run, and no run is named.", "Name the base itself.")
        self._panes = Panes(context, device, emit, should_stop)
        self._copies = loaded.Copies(context, device, emit, should_stop)
        self.all: list[Speaker] = []
        try:
            apart = engines.choose(engine, others, self._panes.session, emit, should_stop)
            found = self._panes.open([name for name in others if name not in apart], len(local) > 1)
            found |= self._copies.open([name for name in others if name in apart])
            self._first = found[others[0]] if others else None
            if "base" in local:
                found["base"] = self.base()
            for name in names:
                self.all.append(found[name] if name in found else endpoint.Endpoint(wire.read(name), emit))
        except BaseException:
            self.close()
            raise

    def _opener(self) -> Opener:
        return self._panes if isinstance(self._first, Llama) else self._copies

    def add(self, stage: speaking.Stage) -> Local:
        """Open a run at a point of its training in the engine of the first local speaker, beside it."""
        return self._opener().add(stage)

    def base(self) -> Local:
        """Open what the first local one began with, beside it. Raises RunError where that is not known."""
        assert self._first is not None
        return self._opener().base(self._first)

    def __enter__(self) -> list[Speaker]:
        """Give the speakers in the order of their names."""
        return self.all

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End them."""
        self.close()

    def close(self) -> None:
        """End the engine process, and connections."""
        for speaker in self.all:
            speaker.close()
        self._panes.close()
        self._copies.close()


class Opens(Protocol):
    """What a source's settings say of who is asked."""

    @property
    def context(self) -> int:
        """Tokens of prompt and answer together."""

    @property
    def allow_endpoint(self) -> bool:
        """Whether text may go to an endpoint that is not on this machine."""

    @property
    def engine(self) -> str:
        """What runs local models."""


def speakers_of(
    names: Sequence[str], config: Opens, emit: events.Emit | None, should_stop: Callable[[], bool] | None
) -> Speakers:
    """Open the speakers of a source as its settings allow."""
    allowed = config.allow_endpoint
    about: dict[str, Any] = {"context": config.context, "engine": config.engine, "allow_endpoint": allowed}
    return Speakers(names, emit=emit, should_stop=should_stop, **about)
