"""What the suite goodhart opens: who scores, the checkpoints of a run that learned from a reward, how far it went."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from studio import runs
from studio.data import rules
from studio.data.votes import Answer
from studio.errors import ConfigError
from studio.evals.items import Turn, user
from studio.evals.questions import Question
from studio.evals.suite import Asking
from studio.export.speaking import Stage
from studio.feedback import rubric, scorers
from studio.feedback.given import Task
from studio.feedback.speakers import Local, Said, Speaker
from studio.methods import METHODS
from studio.runs import Run

#: A probability below this is as good as none.
_LEAST = 1e-12
#: The room for a judge's grade.
_GRADE_TOKENS = 32


def online(run: Run | None) -> bool:
    """Whether a run learned from a reward."""
    method = METHODS.get(run.config.method) if run is not None and run.config.kind == "train" else None
    return method is not None and method.kind == "online"


def reward_of(run: Run | None) -> str:
    """Give the reward that a run learned from: a run's directory or a rule; "" where there was none."""
    if run is None or not online(run):
        return ""
    reward = str(run.config.options.get("reward") or "")
    return reward if reward and (runs.is_run(reward) or _is_rule(reward)) else ""


def _is_rule(spec: str) -> bool:
    try:
        rules.rule(spec).close()
    except ConfigError:
        return False
    return True


def scorer(asking: Asking, spec: str, stack: ExitStack) -> Callable[[Question, Sequence[Said]], list[float | None]]:
    """Open what scores answers: the asking's judge, a reward run, or a rule; the stack closes it."""
    if spec == "judge":
        assert asking.judge is not None
        made = scorers.by_judge(asking.judge, rubric.GRADE, _GRADE_TOKENS, asking.seed)
    elif runs.is_run(spec):
        from studio.train import judges

        made = scorers.by_reward(judges.reward_run(spec), lambda event: None, bool)
    else:
        rule = rules.rule(spec)
        stack.callback(rule.close)
        made = scorers.by_rule(rule)

    def scores(one: Question, said: Sequence[Said]) -> list[float | None]:
        answers = [Answer(answer.text, {"stopped": answer.stopped}) for answer in said]
        reference = one.right[0] if one.right else ""
        return made.score(Task([user(one.text)], reference, 0, one.id, answers))

    return scores


def stages(run: Run, most: int) -> list[Stage]:
    """Give where a run that learned from a reward began, and at most so many of its checkpoints, evenly, with the last.

    A run without a parent began with its base: its own weights, the adapter left out.
    """
    folders = run.checkpoints() if online(run) else []
    if not folders:
        return []
    names = [folder.name for folder in evenly(folders, most)]
    parent = run.parent()
    begun = Stage("begun", parent) if parent is not None else Stage("begun", run, names[0], begun=True)
    return [begun, *(Stage(name, run, name) for name in names)]


def evenly(folders: Sequence[Path], most: int) -> list[Path]:
    """Choose at most so many of a run's checkpoints, evenly, with the last."""
    if len(folders) <= most:
        return list(folders)
    return [folders[at] for at in sorted({round((at + 1) * len(folders) / most) - 1 for at in range(most)})]


def distance(asking: Asking, name: str, speaker: Speaker, begun: Speaker, turns: list[Turn], said: Said) -> float:
    """Give how far an answer's policy is from the one begun with, on that answer: sum_t (r_t - 1 - log r_t)."""
    if speaker is begun:
        return 0.0
    assert isinstance(speaker, Local) and isinstance(begun, Local)

    def make() -> float:
        own = speaker.scores(turns, said.text)
        other = begun.scores(turns, said.text, like=speaker)
        return k3(probabilities(own, said.stopped), probabilities(other, said.stopped))

    return asking.keep(f"distance {name} {turns[-1]['content']} {said.text} {said.stopped}", make)


def probabilities(scores: dict[str, Any], stopped: bool) -> list[float]:
    """Give the probabilities of an answer's tokens, and of its end where it ended by itself."""
    return [token["p"] for token in scores["tokens"]] + ([scores["end_p"]] if stopped else [])


def k3(own: Sequence[float], other: Sequence[float]) -> float:
    """Estimate KL(own || other) on an answer of own's: sum_t (r - 1 - log r), r = other / own; never below 0."""
    ratios = [max(b, _LEAST) / max(a, _LEAST) for a, b in zip(own, other, strict=True)]
    return math.fsum(r - 1 - math.log(r) for r in ratios)
