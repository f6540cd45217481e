"""Answers what lm-eval asks (lmharness.py) by a side of an evaluation: the exported file or the adapter, in llama.cpp.

Every likelihood and every text is kept on the disk under its tokens, so that a run that was killed asks the rest only.
"""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from studio.child import Child
from studio.errors import ChildCrashed, ConfigError, DataError
from studio.evals import lmharness
from studio.evals.suite import Asking
from studio.feedback.speakers import Ask, Llama, seed_of

#: The longest silence of the harness in seconds: tasks are loaded, rows read, answers marked.
SILENCE = 300.0


class Harness:
    """lm-eval's process, a context that ends it. What it writes on the way lies in a folder that goes with it."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="studio-lm-eval-")
        places = {name: self._folder.name for name in ("HF_HOME", "HF_DATASETS_CACHE", "HF_MODULES_CACHE")}
        self._child = Child("studio.evals.lmharness:handle", env={**lmharness.OFFLINE, **places})

    def __enter__(self) -> Harness:
        """Give it; it starts at the first evaluation."""
        return self

    def __exit__(self, *error: object) -> None:
        """End it."""
        self._child.close()
        self._folder.cleanup()

    def evaluate(self, asking: Asking, side: str, **request: Any) -> dict[str, Any]:
        """Ask a side the tasks (lmharness.py `evaluated`). Raises DataError, Stopped."""
        answers = Answers(asking, side)
        try:
            for item in self._child.stream({"op": "evaluate", "talk": side, **request}, SILENCE):
                if "done" in item:
                    found: dict[str, Any] = item["done"]
                    return found
                value = answers.reply(item.pop("ask"), **item)
                self._child.ask({"op": "reply", "talk": side, "value": value}, SILENCE)
        except ChildCrashed as error:
            raise DataError(
                f"lm-eval's process ended, or was silent for {SILENCE:g} s and was ended: {error.message}",
                "Ask fewer tasks, or a smaller n; where the folder's code runs, look there first.",
            ) from None
        raise AssertionError("the stream ends with `done`, or raises")


def pane(asking: Asking, side: str) -> Llama:
    """Give a side that answers through llama.cpp. Raises ConfigError for another."""
    speaker = asking.speaker(side)
    if not isinstance(speaker, Llama):
        raise ConfigError(
            f"lm-eval's tasks are asked through llama.cpp, which {speaker.name} is not.",
            "Name a local run or file, without --engine transformers; or leave the suite out.",
        )
    return speaker


class Answers:
    """One side's answers; `reply` is what the harness's LM asks with."""

    def __init__(self, asking: Asking, side: str) -> None:
        self._asking, self._side, self._speaker = asking, side, pane(asking, side)
        self._drawn: Counter[str] = Counter()

    def reply(self, kind: str, **parts: Any) -> Any:
        """Answer a question: `tokens` and `template` at once, `likely` and `generate` item by item."""
        made: Any = getattr(self, kind)(**parts)
        return made

    def tokens(self, texts: Sequence[str], bos: bool) -> dict[str, Any]:
        """Tokenise texts: {"ids", "prefix", "room"}."""
        return self._speaker.tokens(texts, bos)

    def template(self, turns: Sequence[dict[str, Any]], goes_on: bool) -> dict[str, Any]:
        """Render a conversation: {"text", "ids", "texts"}: the tokens' own; `goes_on`: it ends with an answer begun."""
        made = self._speaker.shown(turns, **{"continue": goes_on})
        text = "".join(piece["text"] for piece in made["pieces"])
        return {"text": text, "ids": made["ids"], "texts": [token["text"] for token in made["tokens"]]}

    def likely(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
        """Give (log p, whether each token is the likeliest) of ids after other ids."""
        step = self._asking.progress(f"lm-eval: likelihoods, {self._side}", len(pairs))
        made = []
        for before, ids in pairs:
            about = f"{self._side} likely {_digest(before, ids)}"
            made.append(self._asking.keep(about, partial(self._likely, before, ids)))
            step()
        return made

    def _likely(self, before: list[int], ids: list[int]) -> tuple[float, bool]:
        found = self._speaker.scores([], ids=ids, prompt_ids=before, top=0)["tokens"]
        log = math.fsum(math.log(max(token["p"], 1e-300)) for token in found)
        return log, all(token["rank"] == 0 for token in found)

    def generate(self, items: Sequence[tuple[list[int], dict[str, Any]]]) -> list[str]:
        """Go on with ids; the same ones asked again are drawn with another seed."""
        step = self._asking.progress(f"lm-eval: answers, {self._side}", len(items))
        made = []
        for ids, draw in items:
            key = _digest(ids, draw)
            number = self._drawn[key]
            self._drawn[key] += 1
            seed = seed_of(self._asking.seed, Ask([], key), number)
            made.append(self._asking.keep(f"{self._side} says {key} {number}", partial(self._says, ids, draw, seed)))
            step()
        return made

    def _says(self, ids: list[int], draw: dict[str, Any], seed: int) -> str:
        text: str = self._speaker.answer([], prompt_ids=ids, seed=seed, **draw)["text"]
        return text


def _digest(*about: Any) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:20]
