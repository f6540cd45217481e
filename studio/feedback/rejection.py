"""Rejection sampling: the best of n answers to each prompt, by a reward run, a judge or a rule.

The whole scored list is kept, so that the best make SFT rows and best and worst make pairs. Of N scores to a prompt the
best of k can be told without bias for every k up to N, by the chance that the i-th lowest is the highest of k drawn
without putting back:

    E[max of k] = sum_i s_(i) C(i - 1, k - 1) / C(N, k)          s_(1) <= ... <= s_(N)

and whoever always answers with the best of k is at most so far from who answers (Stiennon et al. 2020,
arXiv:2009.01325; that it is a bound: Beirami et al. 2024, arXiv:2401.01879):

    KL <= log k - (k - 1) / k
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from studio import events, runs
from studio.config import setting
from studio.data import preferences, rules
from studio.data.preferences import Record
from studio.errors import ConfigError
from studio.feedback import making, report, rubric, sampling, scorers
from studio.feedback.sampling import Sampling
from studio.feedback.scorers import Scorer
from studio.feedback.speakers import speakers_of
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]

_Z = 1.959964


@dataclasses.dataclass(frozen=True)
class Config(Sampling):
    """The settings of rejection sampling."""

    n: int = setting(
        8,
        "Answers to each prompt, of which the best is taken.",
        low=4,
        high=30,
        unit="answers",
        source="Llama 3 (arXiv:2407.21783) took 10 to 30",
        advanced=False,
    )
    reward: str = setting(
        "", f"What scores the answers: a finished reward run, or a rule ({rules.FORMS}).", advanced=False
    )
    judge: str = setting(
        "", "Who grades the answers instead: a run, a model, a GGUF file, or an endpoint.", advanced=False
    )
    rubric: str = setting(
        "", "What the judge is asked: a text, or a file with one, that holds {question} and {answer}. Empty: our own."
    )
    pairing: str = setting(
        "ends",
        "Pairs for preference methods: the best over the worst (ends), or every two (all).",
        choices=("ends", "all"),
    )
    wanted_from: float | None = setting(
        None,
        "Score from which an answer counts as good: where none reaches it, the prompt gives no answer to imitate. "
        "Empty: 1 with a built-in rule, else none.",
    )
    judge_tokens: int = setting(
        32, "Longest reply of a judge that tells no probabilities.", low=1, high=32768, unit="tokens"
    )


def ready(config: Config) -> Config:
    """Check the settings before anything is written, and complete them. Raises ConfigError and RunError."""
    if not config.answers_from.strip():
        raise ConfigError(
            "Nobody is named who answers.", "Name a run, a model, a GGUF file or an endpoint.", field="answers_from"
        )
    sampling.check(config, config.judge)
    reward, judge = config.reward.strip(), config.judge.strip()
    if bool(reward) == bool(judge):
        raise ConfigError(
            "Both a reward and a judge are named." if reward else "Nothing says which answer is the best.",
            "Name one: a finished reward run or a rule (--reward), or a judge (--judge).",
            field="reward",
        )
    if judge:
        return dataclasses.replace(config, rubric=rubric.read(config.rubric, rubric.GRADE, ("question", "answer")))
    if runs.is_run(reward):
        from studio.train import judges

        return dataclasses.replace(config, reward=str(judges.reward_run(reward).dir))
    rules.rule(reward).close()
    return dataclasses.replace(config, reward=rules.absolute(reward))


def run(run: Run, emit: Emit, should_stop: Halt) -> dict[str, Any]:
    """Fill a set with scored answers; gives how the best score rises with n. Raises Stopped."""
    config = making.settings(run, Config)
    tasks = sampling.tasks(run, config, 1, emit, should_stop)

    def fill(scorer: Scorer) -> None:
        good = scorer.good if config.wanted_from is None else config.wanted_from

        def make(some: Sequence[Any]) -> Any:
            return scorers.records(scorer, some, good, config.seed)

        making.fill(run, tasks, make, "Scoring", emit, should_stop)

    if making.missing(run, tasks):
        if config.judge:
            with speakers_of([config.judge], config, emit, should_stop) as (judge,):
                fill(scorers.by_judge(judge, config.rubric, config.judge_tokens, config.seed))
        elif runs.is_run(config.reward):
            from studio.train import judges

            fill(scorers.by_reward(judges.reward_run(config.reward), emit, should_stop))
        else:
            rule = rules.rule(config.reward)
            try:
                fill(scorers.by_rule(rule))
            finally:
                rule.close()
    sampling.finish(run)
    return result(preferences.records(run.dir), emit)


def result(made: Sequence[Record], emit: Emit) -> dict[str, Any]:
    """Give what rejection sampling tells beside the counts: the curve, the scores, the report on who scored."""
    about = report.of(made)
    found = curve([record.scores for record in made if not record.dropped])
    flat = sum(len(set(record.scores)) < 2 for record in made if not record.dropped)
    bad = sum(record.bad for record in made)
    if flat:
        about["warnings"].append(
            f"{flat:,} of {len(made):,} prompts have answers of one score only: nothing to choose."
        )
    if flat and flat == sum(not record.dropped for record in made):
        about["usable"] = False  # the answers to imitate are then the first ones, and not the best
    if bad:
        about["warnings"].append(f"{bad:,} of {len(made):,} prompts have no good answer, and give none to imitate.")
    report.tell(about, emit)
    return {"by": made[0].by if made else {}, "curve": found, "bad": bad, "report": about, "usable": about["usable"]}


def best_of(scores: Sequence[float], k: int) -> float:
    """Give the mean of the best of k scores drawn from these without putting back: E[max of k], 1 <= k <= N."""
    total = math.comb(len(scores), k)
    return sum(score * math.comb(at, k - 1) for at, score in enumerate(sorted(scores))) / total


def kl_bound(n: int) -> float:
    """Give the most nats that the best of n answers is away from who answers: log n - (n - 1) / n."""
    return math.log(n) - (n - 1) / n


def curve(lists: Sequence[Sequence[float]]) -> list[dict[str, float]]:
    """Give how the best score rises with n: {"n", "score", "low", "high", "kl", "prompts"} for n = 1 to the longest.

    `score` is the mean over the prompts that have so many answers, with its 95 % interval (normal, over prompts).
    """
    found = []
    for n in range(1, max(map(len, lists), default=0) + 1):
        best = [best_of(scores, n) for scores in lists if len(scores) >= n]
        mean = statistics.fmean(best)
        half = _Z * statistics.stdev(best) / math.sqrt(len(best)) if len(best) > 1 else math.inf
        low, high = (mean - half, mean + half) if math.isfinite(half) else (mean, mean)
        found.append({"n": n, "score": mean, "low": low, "high": high, "kl": kl_bound(n), "prompts": len(best)})
    return found
