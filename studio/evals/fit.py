"""Fit: does it say what its data says, does it end, does it repeat itself, and how far has it moved from the base.

All of it by the engine that answers (feedback/engines.py), so that what is measured is what answers. Both sides read
the prompt as the tuned one does, so that they differ by what was trained only.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from studio.config import setting
from studio.errors import ConfigError, DataError, RunError
from studio.evals import heldout
from studio.evals.heldout import Row
from studio.evals.suite import Asking, Measure, Outcome, Suite
from studio.feedback.speakers import Ask, Draw, Local, Said, seed_of

#: Buckets of answers by their tokens: up to so many, and what such answers are called.
BUCKETS = {"short": 16, "middle": 64, "long": math.inf}
GRAM, PAIR = 4, 2
#: A text that two vocabularies hardly cut alike: words, signs, numbers, letters of other scripts.
_SAMPLE = "The answer isn't 12,345.67 (nearly): naïve Zürich, «Привет», 你好 and\n\tunbelievable hieroglyphs\u2026 😀"


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of the suite."""

    n: int = setting(100, "Held-out rows, at most.", low=1, high=5000, advanced=False)
    max_tokens: int = setting(128, "The longest answer.", low=1, high=4096, unit="tokens")
    sampled: int = setting(40, "Prompts that the distance from the base is sampled on, at most.", low=0, high=1000)


def run(asking: Asking) -> Outcome:
    """Measure on held-out rows."""
    found, out = heldout.rows(asking, asking.cfg.n), Outcome()
    answered = {side: _answers(asking, side, found) for side in asking.sides}
    for side, answers in answered.items():
        _behaviour(out, side, found, answers)
        if not alike(asking, side, "after"):
            out.marks["length"].pop(side)
            asking.note(
                "The sides cut text into other tokens: their losses per token and their lengths in tokens cannot be "
                f"compared, and those of {side} are left out."
            )
    for number, row in enumerate(found):
        said = {side: answers[number].text for side, answers in answered.items()}
        out.answers.append({"item": row.key, "measure": "stops", "asked": asked(row.turns), "data": row.answer, **said})
    _losses(asking, [row for row in found if row.answer], out)
    _distance(asking, found[: asking.cfg.sampled], out)
    for shown in out.answers:
        shown["marks"] = marks_of(out, "stops", shown["item"])
        shown["loss"] = {
            side: f"{loss:.3f} nats a token" for side, loss in marks_of(out, "loss", shown["item"]).items()
        }
    return out


def asked(turns: Sequence[Mapping[str, Any]]) -> str:
    """Write turns as they are shown: the question alone, or all of them by their roles."""
    if len(turns) == 1:
        return str(turns[0].get("content") or "")
    return "\n\n".join(f"{turn.get('role')}: {turn.get('content') or ''}" for turn in turns)


def marks_of(out: Outcome, measure: str, item: str) -> dict[str, float]:
    """Give the marks of an item: {side: mark}."""
    return {side: found[item] for side, found in out.marks.get(measure, {}).items() if item in found}


def _answers(asking: Asking, side: str, found: Sequence[Row]) -> list[Said]:
    draw = Draw(max_tokens=asking.cfg.max_tokens)
    return [said[0] for said in asking.ask(side, [Ask(row.turns, row.key) for row in found], draw)]


# --- how it answers --------------------------------------------------------------------------------------------------


def _behaviour(out: Outcome, side: str, found: Sequence[Row], answers: Sequence[Said]) -> None:
    pairs = Counter(pair for said in answers for pair in grams(said.text, PAIR))
    for row, said in zip(found, answers, strict=True):
        out.mark("stops", side, row.key, said.stopped)
        out.mark("length", side, row.key, said.tokens)
        out.mark("repeats", side, row.key, repeated(said.text))
        own = grams(said.text, PAIR)
        if own:
            out.mark("distinct", side, row.key, sum(1 / pairs[pair] for pair in own) / len(own))


def grams(text: str, n: int) -> list[tuple[str, ...]]:
    """Give every n words that stand next to each other."""
    words = text.casefold().split()
    return [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]


def repeated(text: str, n: int = GRAM) -> float:
    """Give the share of an answer's n words in a row that stood in it before; 0 where it has fewer than n words."""
    found = grams(text, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


# --- what it makes of the data's answers -----------------------------------------------------------------------------


def _losses(asking: Asking, found: Sequence[Row], out: Outcome) -> None:
    """Mark the loss -1/T sum log p(token) of each row's answer, and the share of its tokens that come first."""
    if not found:
        asking.note("The rows hold no answers: there is no loss to measure.")
        return
    scored: dict[str, dict[str, list[tuple[int, float, bool]]]] = {}
    for side in asking.sides:
        if not alike(asking, side, "after"):
            continue
        step = asking.progress(f"fit: held-out loss, {side}", len(found))
        scored[side] = {}
        for row in found:
            tokens = asking.keep(f"loss {side} {row.key}", partial(_tokens, asking, side, row))
            if tokens:
                scored[side][row.key] = [(int(one[0]), float(one[1]), bool(one[2])) for one in tokens]
            step()
    ours = scored["after"]
    if long := sum(row.key not in ours for row in found):
        asking.note(f"{long} rows are longer than the context and are not in the loss.")
    for side, rows in scored.items():
        for key, tokens in rows.items():
            loss = -math.fsum(log for _, log, _ in tokens) / len(tokens)
            bucket = next(name for name, most in BUCKETS.items() if len(tokens) <= most)
            for name in ("loss", f"loss_{bucket}"):
                out.mark(name, side, key, loss)
            out.mark("accuracy", side, key, sum(first for *_, first in tokens) / len(tokens))
    _one_bucket(out)
    out.plots["loss_by_length"] = {
        side: [[len(rows[key]), out.marks["loss"][side][key]] for key in rows if key in out.marks["loss"].get(side, {})]
        for side, rows in scored.items()
    }


def _one_bucket(out: Outcome) -> None:
    """Where all answers are of one length the bucket says what the whole says: it is left out."""
    filled = [name for name in BUCKETS if f"loss_{name}" in out.marks]
    if len(filled) == 1:
        del out.marks[f"loss_{filled[0]}"]


def _tokens(asking: Asking, side: str, row: Row) -> list[tuple[int, float, bool]]:
    """Give (id, log p, whether it is the likeliest) of an answer's tokens; none where there is no room."""
    speaker, after = local(asking, side), local(asking, "after")
    try:
        found = speaker.scores(row.turns, row.answer, like=after if side != "after" else None)["tokens"]
    except DataError:
        return []
    return [(token["id"], math.log(max(token["p"], 1e-300)), token["rank"] == 0) for token in found]


def alike(asking: Asking, side: str, other: str) -> bool:
    """Tell whether two sides cut text into the same tokens: what is told by token is of one vocabulary only."""
    one, two = local(asking, side), local(asking, other)
    if one is two or (one.identity.get("sha256") and one.identity["sha256"] == two.identity.get("sha256")):
        return True
    turns = [{"role": "user", "content": "?"}]
    cut = [[token["id"] for token in speaker.scores(turns, _SAMPLE)["tokens"]] for speaker in (one, two)]
    return cut[0] == cut[1]


def local(asking: Asking, side: str) -> Local:
    """Give a side that tells how likely tokens are. Raises ConfigError for an endpoint."""
    speaker = asking.speaker(side)
    if not isinstance(speaker, Local):
        raise ConfigError(f"{speaker.name} does not tell how likely tokens are.", "Name a local run or file.")
    return speaker


# --- how far it is from the base -------------------------------------------------------------------------------------


def _distance(asking: Asking, found: Sequence[Row], out: Outcome) -> None:
    """Mark KL(side || base) on the side's own samples y, drawn at temperature 1:

    k1 = sum_t log p(y_t) / b(y_t) of the whole answer, k3 = mean_t (r - 1 - log r), r = b / p (Schulman 2020).
    """
    try:
        base = asking.speaker("base")
    except (RunError, ConfigError) as error:
        asking.note(f"The distance from the base is not measured: {error.message}")
        return
    for side in asking.sides:
        speaker = local(asking, side)
        if all(speaker.identity.get(k) == base.identity.get(k) for k in ("sha256", "adapter_sha256")):
            continue  # the base itself
        if not alike(asking, side, "base"):
            asking.note(
                f"{side}: its text is cut into other tokens than the base's, so there is no distance between them."
            )
            continue
        step = asking.progress(f"fit: distance from the base, {side}", len(found))
        for row in found:
            made = asking.keep(f"kl {side} {row.key}", partial(_sampled, asking, side, row))
            if made:
                out.mark("kl_answer", side, row.key, made["k1"])
                out.mark("kl_token", side, row.key, made["k3"])
            step()


def _sampled(asking: Asking, side: str, row: Row) -> dict[str, float] | None:
    speaker, base = local(asking, side), local(asking, "base")
    seed = seed_of(asking.seed, Ask(row.turns, row.key), 0)
    draw = Draw(temperature=1.0, max_tokens=asking.cfg.max_tokens, seed=seed)
    options = {name: value for name, value in dataclasses.asdict(draw).items() if name != "n"}
    try:
        said = speaker.answer(row.turns, **options)
        if not said["ids"]:
            return None
        own = speaker.scores(row.turns, ids=said["ids"])
        other = base.scores(row.turns, ids=said["ids"], like=speaker)
    except DataError:
        return None
    ps = [(token["p"], ref["p"]) for token, ref in zip(own["tokens"], other["tokens"], strict=True)]
    if said["stopped"]:  # the end is a choice like the others
        ps.append((own["end_p"], other["end_p"]))
    logs = [math.log(max(b, 1e-300)) - math.log(max(p, 1e-300)) for p, b in ps]
    k3 = math.fsum(math.expm1(min(log, 700.0)) - log for log in logs) / len(logs)
    return {"k1": -math.fsum(logs), "k3": k3}


SUITE = Suite(
    name="fit",
    title="Fit",
    says="Whether it says what its held-out rows say, ends by itself, repeats itself, and how far it is from the base.",
    cannot="Whether an answer is right or wanted: a low loss says that the data's answer was expected, no more.",
    measures=(
        Measure(
            "loss", "held-out loss", "Mean over rows of -log p per token of the data's answer.", "less", "mean", "nats"
        ),
        Measure("loss_short", "held-out loss, up to 16 tokens", "The same for short answers.", "less", "mean", "nats"),
        Measure("loss_middle", "held-out loss, 17 to 64 tokens", "The same.", "less", "mean", "nats"),
        Measure("loss_long", "held-out loss, over 64 tokens", "The same for long answers.", "less", "mean", "nats"),
        Measure(
            "accuracy", "token accuracy", "Share of the data's tokens that are the likeliest.", "more", "mean", "share"
        ),
        Measure("stops", "ends by itself", "Share of answers that end before the limit."),
        Measure(
            "repeats",
            "repetition",
            "Share of four words in a row that stood in the answer before.",
            "less",
            "mean",
            "share",
        ),
        Measure(
            "distinct",
            "distinct pairs of words",
            "How rarely its pairs of words come again in all answers (distinct-2).",
            "",
            "mean",
            "share",
        ),
        Measure("length", "length", "Tokens of an answer.", "", "mean", "tokens"),
        Measure(
            "kl_answer",
            "distance from the base, an answer",
            "KL of whole answers on its own samples (k1).",
            "",
            "mean",
            "nats",
        ),
        Measure(
            "kl_token", "distance from the base, a token", "KL per token on its own samples (k3).", "", "mean", "nats"
        ),
    ),
    Config=Config,
    run=run,
)
