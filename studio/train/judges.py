"""What scores a sampled answer: a finished reward run's adapter and head on the same base, or a rule."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from studio import runs
from studio.data import rules
from studio.data.records import Message
from studio.errors import ConfigError, StudioError
from studio.methods import reward
from studio.models import adapter
from studio.render.labels import IGNORE
from studio.runs import Run
from studio.train import adapters, prepare
from studio.train.rollout import Answer

if TYPE_CHECKING:
    from studio.render.encode import Renderer
    from studio.train.policy import Policy
    from studio.train.prepare import Setup


@dataclasses.dataclass(frozen=True)
class Asked:
    """A prompt: its tokens, its last question, the row's own answer ("" where it has none), and the row's line."""

    ids: list[int]
    text: str
    reference: str
    line: int


#: Give a score for each answer; `answer.prompt` is a number in what was asked. More is better.
Judge = Callable[[Sequence[Asked], Sequence[Answer]], list[float]]


def reward_run(name: str) -> Run:
    """Find a finished reward run. Raises RunError, and ConfigError for a run of another kind."""
    run = runs.find(name)
    if not (run.adapter / f"head-{reward.HEAD}.safetensors").is_file():
        method = prepare.adapter_about(run.adapter).get("method") or "unknown"
        raise ConfigError(
            f"Run {run.id} is no reward model (its method is {method}).",
            "Name a run of the method reward, or a rule.",
            field="reward",
        )
    return run


def find(made: Setup) -> rules.Rule | Run:
    """Find what `reward` names before the model is loaded. Raises ConfigError and RunError where it cannot score."""
    wanted = str(made.run.config.options.get("reward") or "").strip()
    if not wanted:
        raise ConfigError(
            f"Nothing says what scores the answers of {made.method.name}.",
            f"Name a finished reward run, or a rule: {rules.FORMS}.",
            field="reward",
        )
    if not runs.is_run(wanted):
        return rules.rule(wanted)
    run = reward_run(wanted)
    about = prepare.adapter_about(run.adapter)
    if Path(about["base"]) != made.folder:
        raise ConfigError(
            f"The reward model was trained on {about['base']}, this run learns on {made.folder}.",
            "Policy and reward model share one base in memory: train the reward model on the same.",
            field="reward",
        )
    if _template(run.adapter) != made.renderer.source:
        raise ConfigError(
            f"The reward model read its answers in another chat template than this run ({made.renderer.family}).",
            "Train both with the same template.",
            field="reward",
        )
    adapter.check(run.adapter, made.info)
    return run


def _template(folder: Path) -> str:
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text("utf-8")
    said = json.loads((folder / "tokenizer_config.json").read_text("utf-8")).get("chat_template")
    return said if isinstance(said, str) else ""


def by_rule(rule: rules.Rule, renderer: Renderer, file: str) -> Judge:
    """Score by a rule: it reads the text of the question and of the answer. An error names the row."""

    def judge(asked: Sequence[Asked], answers: Sequence[Answer]) -> list[float]:
        scores = []
        for answer in answers:
            about = asked[answer.prompt]
            text = renderer.decode(answer.ids[:-1] if answer.stopped else answer.ids).strip()
            try:
                scores.append(rule(about.text, text, about.reference, answer.stopped))
            except StudioError as error:
                where = f"{error.message} (The prompt stands in line {about.line} of {Path(file).name}.)"
                raise type(error)(where, error.remedy, file=error.file, line=error.line, field="reward") from None
        return scores

    return judge


def by_model(made: Setup, policy: Policy, run: Run) -> Judge:
    """Put a reward run's adapter and head on the policy's base and score by them.

    The score is read at the last token of prompt and answer, where the reward model learned it, as (s - mean) / std of
    the scores that the reward run gave its own pairs: 0 is as good as their chosen answers.
    """
    import torch
    from safetensors.torch import load_file

    from studio.train import layout, memory

    adapters.add_saved(policy, adapters.REWARD, run.adapter)
    policy.add_head(reward.HEAD)
    policy.heads[reward.HEAD].load_state_dict(load_file(run.adapter / f"head-{reward.HEAD}.safetensors"))
    policy.heads[reward.HEAD].requires_grad_(False)
    mean, std = scale(run)
    behind, room = ending(made.renderer), memory.room(made.config, policy)

    def judge(asked: Sequence[Asked], answers: Sequence[Answer]) -> list[float]:
        scores = [0.0] * len(answers)
        examples = []
        for answer in answers:
            ids = [*asked[answer.prompt].ids, *answer.ids, *(behind if answer.stopped else ())]
            examples.append({"0": {"ids": ids, "labels": ids}})
        policy.model.train()
        with torch.no_grad(), policy.using(adapters.REWARD):
            for numbers in layout.passes(made.method, examples, room, policy.packed):
                rows = [examples[at]["0"] for at in numbers]
                batch = layout.to(layout.lay(rows, made.renderer.pad_id, policy.packed), policy.device)
                for at, score in zip(numbers, policy.scores(batch, reward.HEAD).tolist(), strict=True):
                    scores[at] = (score - mean) / std
        return scores

    return judge


def scale(run: Run) -> tuple[float, float]:
    """Give the mean and the standard deviation of a reward run's scores; 0 and 1 where it does not tell them."""
    scores = prepare.adapter_about(run.adapter).get("scores") or {}
    std = float(scores.get("std", 1.0))
    return float(scores.get("mean", 0.0)), std if std > 1e-6 else 1.0


def ending(renderer: Renderer) -> list[int]:
    """Give the tokens that the template writes behind the stop token of a last answer: a line end, often."""
    row = renderer.conversation([Message("user", "question"), Message("assistant", "answer")])
    last = max(at for at, label in enumerate(row.labels) if label != IGNORE)
    return row.ids[last + 1 :]
