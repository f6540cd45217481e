"""An Asking for the tests of the suites: scripted speakers, or real ones, without the card."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.evals.suite import T
from studio.export.speaking import Stage
from studio.feedback.speakers import Ask, Draw, Said, Speaker, Turn
from studio.runs import Run


class Scripted(Speaker):
    """A speaker whose replies, and the weights of words, are functions of the turns."""

    def __init__(
        self,
        reply: Callable[[list[Turn]], str] = lambda turns: "",
        weights: Callable[[str, Sequence[str]], list[float]] | None = None,
        name: str = "scripted",
    ) -> None:
        self.name, self.identity = name, {"name": name}
        self._reply, self._weights = reply, weights

    def ask(
        self, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[int, list[Said]]]:
        for number, one in enumerate(asks):
            texts = [self._reply(list(one.turns)) for _ in range(draw.n)]
            yield number, [Said(text, len(text.split()), True, at) for at, text in enumerate(texts)]

    def weigh(self, turns: Sequence[Turn], words: Sequence[str]) -> list[float]:
        assert self._weights is not None
        return self._weights(str(turns[-1]["content"]), words)


class Plain:
    """Asks speakers by side; a key that is used twice for a side is an error, as it would be in a card."""

    def __init__(
        self,
        cfg: Any,
        speakers: Mapping[str, Speaker],
        *,
        judge: Speaker | None = None,
        file: Path | None = None,
        seed: int = 0,
        run: Run | None = None,
    ) -> None:
        self.run = run
        self.cfg, self.seed, self.judge, self.file = cfg, seed, judge, file
        self.sides = tuple(speakers)
        self._speakers, self.notes = speakers, list[str]()
        self.asked: dict[tuple[str, str], Sequence[Turn]] = {}

    def ask(self, side: str, asks: Sequence[Ask], draw: Draw | None = None, raw: bool = False) -> list[list[Said]]:
        for one in asks:
            assert (side, one.key) not in self.asked, one.key
            self.asked[side, one.key] = one.turns
        return [said for _, said in self._speakers[side].ask(asks, draw or Draw())]

    def speaker(self, side: str) -> Speaker:
        return self._speakers[side]

    def add(self, stage: Stage) -> Speaker:
        return self._speakers[stage.name]

    def keep(self, about: str, make: Callable[[], T]) -> T:
        return make()

    def progress(self, phase: str, total: int) -> Callable[[], None]:
        return lambda: None

    def note(self, text: str) -> None:
        self.notes.append(text)
