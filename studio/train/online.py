"""One online training run (PPO, RLOO): the policy writes, is scored by a reward model or a rule, and learns from it."""

from __future__ import annotations

import json
from typing import Any

from studio import paths
from studio.data import rules
from studio.data.records import Prompt
from studio.errors import DataError
from studio.methods import reward
from studio.methods.online import Online, OnlineConfig
from studio.runs import Run
from studio.train import adapters, advice, judges, outcome, prepare
from studio.train.alarms import Alarms
from studio.train.judges import Asked
from studio.train.policy import POLICY, Policy
from studio.train.prepare import Setup

#: Prompts that are answered to measure, where none are held out.
MEASURED = 64


def learn(made: Setup) -> dict[str, Any]:
    """Train from what the policy itself writes to prompts. Raises StudioErrors; Stopped after a saved stop."""
    from studio.train import checkpoint, generate, layout, loop_state, memory, moved, probe
    from studio.train.loop import Loop

    run, config = made.run, made.config
    assert isinstance(config, OnlineConfig) and isinstance(made.method, Online)
    source = judges.find(made)
    asked, held, left_out = _asked(made, source)
    policy = prepare.load(made)
    began = moved.start(policy.model)
    reference = adapters.REFERENCE if adapters.moved(policy) else ""
    if reference:
        adapters.add_copy(policy, reference)
    judge = (
        judges.by_model(made, policy, source)
        if isinstance(source, Run)
        else judges.by_rule(source, made.renderer, run.config.data)
    )
    if made.method.critic:
        _expect(policy, source)
    prompts = prepare.prompts(made)
    happened = run.events()
    alarms = Alarms(made.emit, config.kl_limit, happened)
    some = prompts[:: max(1, len(prompts) // 2)][:2]
    room = min(config.max_new_tokens, 256)
    loop = Loop(
        made,
        policy,
        judge,
        asked,
        held or asked[:MEASURED],
        reference,
        alarms,
        memory.Ladder(policy, config, made.emit, run.dir, given=run.config.settings),
        generate.sampler(policy, made.renderer, some, room) if some else None,
    )
    heavy = loop.longest()
    shared = policy.packed and policy.shared
    loop.ladder.lengths = [layout.cost(made.method.sequences([example]), shared) for example in heavy]
    probe.measure(made, policy, loop.ladder, lambda: loop.split(heavy), loop.try_out, loop.forget)
    path = run.dir / "before.json"
    if not path.is_file():
        said = generate.answers(policy, made.renderer, prompts, room, emit=made.emit)
        paths.write_text(path, json.dumps({"held": loop.evaluate(), "answers": said}, ensure_ascii=False))
    before = json.loads(path.read_text("utf-8"))
    whole, passed = checkpoint.newest_whole(run.dir / "checkpoints")
    for why in passed:
        made.note("checkpoint", f"Passed over {why}.", "warning")
    if whole is not None:
        loop_state.resume(loop, whole)
    loop.best.resume(loop.done)
    checkpoint.prune(run.dir / "checkpoints", made.config.keep_checkpoints, loop.best.spare())
    try:
        if not loop.best.over:
            loop.train(run.dir / "checkpoints")
        best = outcome.best(made, loop.best, loop.done)
        if best["step"] not in (None, loop.done):
            loop_state.resume(loop, checkpoint.place(run.dir / "checkpoints", best["step"]))
        after = loop.evaluate()
    finally:
        if not isinstance(source, Run):
            source.close()
    adapters.remove(policy)
    change = outcome.moved_by(made, policy, began)
    answers = generate.answers(policy, made.renderer, prompts, room, emit=made.emit)
    outcome.save(made, policy)

    figure = outcome.figure(made.method, before["held"]["score"], after["score"], len(loop.held))
    figure["standard_error"] = after["score/error"]
    changed = outcome.behaviour([prompt[-1].content for prompt in prompts], before["answers"], answers, bool(held))
    alarms.last(after["kl"])
    texts = [*alarms.raised.values(), advice.worse(figure), *advice.closing(changed, after, pairs=False)]
    counts = {"trained": len(asked), "held_out": len(held), "left_out": left_out}
    online = {
        "reward": source.id if isinstance(source, Run) else source.spec,
        "kl": after["kl"],
        "kl_limit": config.kl_limit,
        "before": before["held"],
        "after": after,
        "alarms": sorted(alarms.raised),
    }
    result = outcome.result(made, {**loop.last, **after}, figure, changed, counts, texts)
    return {**result, "moved": change, "online": online, **({"best": best} if config.patience else {})}


def _asked(made: Setup, source: rules.Rule | Run) -> tuple[list[Asked], list[Asked], dict[str, int]]:
    """Read the prompts: those to learn on, those held out, and what was left out, by reason."""
    config: Any = made.config
    train: list[Asked] = []
    held: list[Asked] = []
    left_out: dict[str, int] = {}
    needs = isinstance(source, rules.Rule) and source.needs_reference
    for number, record in enumerate(made.data.records()):
        made.halt()
        assert isinstance(record, Prompt)
        ids = made.renderer.prompt(record.prompt)
        if len(ids) + config.max_new_tokens > config.max_length:
            left_out["too_long"] = left_out.get("too_long", 0) + 1
            continue
        if needs and not record.reference:
            left_out["no_reference"] = left_out.get("no_reference", 0) + 1
            continue
        about = Asked(ids, record.prompt[-1].content, record.reference, record.line)
        (held if number in made.aside else train).append(about)
    why = {
        "too_long": f"leave no room for {config.max_new_tokens} tokens of answer in max_length = {config.max_length}",
        "no_reference": "have no answer of their own to compare with",
    }
    for reason, count in left_out.items():
        made.note(reason, f"{count} prompts {why[reason]}, and were left out.", "warning")
    if not train:
        raise DataError(
            "No prompt is left to learn on.",
            "Lower max_new_tokens or raise max_length; `exact` needs rows with an answer.",
            file=made.run.config.data,
        )
    return train, held, left_out


def _expect(policy: Policy, source: rules.Rule | Run) -> None:
    """Add the adapter and the head that expect a score: the reward model's own where there is one, else new ones.

    A reward model's head gives s; what is learned from is (s - mean) / std, and so begins the expectation.
    """
    import torch

    adapters.add_copy(policy, adapters.VALUE, adapters.REWARD if isinstance(source, Run) else POLICY)
    width = policy.base.config.get_text_config().hidden_size
    head = torch.nn.Linear(width, 1)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    if isinstance(source, Run):
        mean, std = judges.scale(source)
        with torch.no_grad():
            head.weight.copy_(policy.heads[reward.HEAD].weight / std)
            head.bias.fill_(-mean / std)
    policy.heads[adapters.VALUE] = head.to(policy.device)
