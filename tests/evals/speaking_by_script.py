"""Speakers that say what a test tells them, asked through the card's own way of asking."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from studio.evals.asking import Asked, Kept
from studio.feedback.speakers import Ask, Draw, Said, Speaker, Speakers
from studio.runs import Run

Turn = dict[str, Any]


class Scripted(Speaker):
    """Answers with a function of the turns; weighs with one of (turns, words)."""

    def __init__(
        self,
        name: str,
        say: Callable[[Sequence[Turn]], str] = lambda turns: "",
        weigh: Callable[[str, Sequence[str]], Sequence[float]] | None = None,
        **identity: Any,
    ) -> None:
        self.name, self._say, self._weigh = name, say, weigh
        self.identity = {"name": name, **identity}
        self.weighs = weigh is not None
        self.asked: list[str] = []

    def ask(
        self, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
    ) -> Iterator[tuple[int, list[Said]]]:
        for number, one in enumerate(asks):
            self.asked.append(str(one.turns[-1]["content"]))
            text = self._say(one.turns)
            yield number, [Said(text, len(text.split()), True)]

    def weigh(self, turns: Sequence[Turn], words: Sequence[str]) -> list[float]:
        assert self._weigh is not None
        self.asked.append(str(turns[-1]["content"]))
        return list(self._weigh(str(turns[-1]["content"]), words))


def asking(
    folder: Path,
    cfg: Any,
    before: Speaker | None,
    after: Speaker,
    *,
    judge: Speaker | None = None,
    file: Path | None = None,
    run: Run | None = None,
    base: Speaker | None = None,
) -> Asked:
    """Give what the card would give a suite."""
    sides = {"before": before, "after": after} if before is not None else {"after": after}
    found: dict[str, Speaker] = {side: speaker for side, speaker in sides.items() if speaker is not None}
    names = tuple(found)
    if base is not None:
        found["base"] = base
    opened = cast(Speakers, None)  # nothing is opened beside these
    return Asked(
        "scripted", cfg, names, 0, run, judge, file, found, opened, Kept(folder), lambda item: None, lambda: False
    )
