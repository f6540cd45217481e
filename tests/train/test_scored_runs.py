"""PPO and RLOO: what the policy writes is scored and learned from, with all adapters on one base."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from making import make_model

from studio import paths, runs, worker
from studio.data import rules
from studio.errors import ConfigError, DataError, Stopped
from studio.methods import METHODS, ppo, rloo
from studio.train import adapters, judges, memory, prepare, rollout

FAST = {
    "quantize_base": "none", "gradient_checkpointing": False, "batch_size": 8, "max_length": 96, "max_new_tokens": 8,
    "lora_r": 4, "held_out": 0.2, "learning_rate": 1e-3,
}  # fmt: skip
METHOD = pytest.mark.parametrize("method", ["rloo", "ppo"])


def asked(model: Path | str, data: Path, method: str, reward: str, parent: str = "", **settings: Any) -> runs.Run:
    given = {**FAST, **settings}
    config = runs.RunConfig("train", "t", str(model), method, str(data), parent, given, {"reward": reward})
    return runs.create(config)


def sft(model: Path, data: Path) -> runs.Run:
    given = {name: value for name, value in FAST.items() if name != "max_new_tokens"}
    run = runs.create(runs.RunConfig("train", "t", str(model), "sft", str(data), settings=given))
    worker.work(run)
    return run


def reward_run(model: Path, data: Path, parent: str = "") -> runs.Run:
    given = {name: value for name, value in FAST.items() if name != "max_new_tokens"}
    run = runs.create(runs.RunConfig("train", "t", str(model), "reward", str(data), parent, given))
    worker.work(run)
    return run


def loaded(run: runs.Run) -> tuple[prepare.Setup, Any]:
    made = prepare.setup(run, lambda item: None, lambda: False)
    return made, prepare.load(made)


def digest(tensors: dict[str, Any]) -> str:
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(tensors[name].detach().contiguous().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


@pytest.mark.slow
@METHOD
def test_the_score_rises_and_the_answers_change(method: str) -> None:
    """On the starter, from the bare base: an answer of a single line that is long enough scores."""
    data = paths.assets() / "data" / "starter_pairs.jsonl"
    given = {"max_steps": 12, "batch_size": 32, "max_new_tokens": 12, "learning_rate": 1e-3, "seed": 1}
    run = asked("starter", data, method, r"regex:^[^?]*$", **given)
    result = worker.work(run)
    held = result["heldout"]
    assert held["name"] == "score" and held["better"] == "higher" and held["n"] > 50
    assert held["after"] > held["before"] + 2 * held["standard_error"], held
    steps = [item for item in run.events() if item["type"] == "step"]
    names = {"score", "kl", "kl_k3", "length", "entropy", "clip_fraction", "stops", "rewards", "loss/policy"}
    assert names <= set(steps[0]) and [item["step"] for item in steps] == list(range(1, 13))
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-4) and steps[-1]["kl"] > 0.01
    assert (run.adapter / "adapter_model.safetensors").is_file() and not list(run.adapter.glob("head-*"))
    assert result["behaviour"]["changed"] > 0


@METHOD
def test_one_step_moves_the_policy_and_nothing_else(method: str, tiny: Path, sft_file: Path, pairs_file: Path) -> None:
    from studio.train.loop import Loop
    from studio.train.online import _asked, _expect

    parent = sft(tiny, sft_file)
    scorer = reward_run(tiny, pairs_file, str(parent.dir))
    run = asked(tiny, pairs_file, method, str(scorer.dir), str(parent.dir))
    made, policy = loaded(run)
    source = judges.find(made)
    assert isinstance(source, runs.Run) and source.id == scorer.id
    adapters.add_copy(policy, adapters.REFERENCE)
    copied, own = (adapters.parameters(policy, name) for name in (adapters.REFERENCE, "default"))
    assert own.keys() == copied.keys() and all(torch.equal(own[key], copied[key]) for key in own)
    judge = judges.by_model(made, policy, source)
    critic = METHODS[method].critic  # type: ignore[attr-defined]
    if critic:
        _expect(policy, source)
    train, held, _ = _asked(made, source)
    ladder = memory.Ladder(policy, made.config, made.emit, run.dir)
    loop = Loop(made, policy, judge, train, held, adapters.REFERENCE, made.emit, ladder)

    names = [adapters.REFERENCE, adapters.REWARD, "default"] + ([adapters.VALUE] if critic else [])
    before = {name: digest(adapters.parameters(policy, name)) for name in names}
    base = {n: p for n, p in policy.model.named_parameters() if "lora_" not in n and "heads" not in n}
    frozen = digest(base)
    answers = loop._write(train[:4], 1, loop._drawing("sample", 0))
    scores = judge(train[:4], answers)
    loop._step()
    after = {name: digest(adapters.parameters(policy, name)) for name in names}
    moved = {name for name in names if before[name] != after[name]}
    assert moved == ({"default", adapters.VALUE} if critic else {"default"})
    assert digest(base) == frozen and judge(train[:4], answers) == pytest.approx(scores, abs=1e-5)
    adapters.remove(policy)
    assert list(policy.model.peft_config) == ["default"] and not policy.heads


def test_the_expectation_begins_as_what_the_reward_model_would_say(
    tiny: Path, sft_file: Path, pairs_file: Path
) -> None:
    from studio.train import layout
    from studio.train.online import _expect

    parent = sft(tiny, sft_file)
    scorer = reward_run(tiny, pairs_file, str(parent.dir))
    made, policy = loaded(asked(tiny, pairs_file, "ppo", str(scorer.dir), str(parent.dir)))
    judge = judges.by_model(made, policy, scorer)
    _expect(policy, scorer)
    ids = list(range(10, 30))
    about = judges.Asked(ids[:12], "", "", 1)
    score = judge([about], [rollout.Answer(0, ids[12:], False)])[0]
    row = {"ids": [*ids, 0], "labels": [-100] * 20 + [0]}  # the last value is read at the last of `ids`
    batch = layout.lay([row], made.renderer.pad_id, True)
    with torch.no_grad(), policy.using(adapters.VALUE):
        value = policy.values(batch, adapters.VALUE)[0]
    assert float(value[0, 0]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    ("method", "optimizer"), [("rloo", "adamw"), ("rloo", "adamw_8bit"), ("ppo", "adamw"), ("ppo", "adamw_8bit")]
)
def test_a_stop_saves_and_a_resume_ends_bit_identical(
    method: str, optimizer: str, tiny: Path, pairs_file: Path
) -> None:
    """With the averages in 8 bits as well, which are kept in 8 bits and differ from those in 32."""
    from safetensors.torch import load_file

    given = {"optimizer": optimizer, "max_steps": 4, "lora_r": 32}  # weights of under 4,096 stay in 32 bits
    whole, halted = (asked(tiny, pairs_file, method, "length:2-6", **given) for _ in range(2))
    worker.work(whole)
    steps: list[int] = []

    def follow(item: dict[str, Any]) -> None:
        if item["type"] == "step":
            steps.append(item["step"])

    with pytest.raises(Stopped):
        worker.work(halted, follow, lambda: len(steps) >= 2)
    result = worker.work(halted)
    one, other = (load_file(run.adapter / "adapter_model.safetensors") for run in (whole, halted))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert result["heldout"] == whole.result()["heldout"]  # type: ignore[index]
    folder = max((halted.dir / "checkpoints").glob("step-*"))
    kept = repr(torch.load(folder / "optimizer.pt", weights_only=True)["optimizer"])
    assert ("torch.uint8" in kept) == (optimizer == "adamw_8bit")


def test_patience_ends_a_run_that_gets_no_better(tiny: Path, pairs_file: Path) -> None:
    """So small a rate changes no answer: the first measurement is the best, and two more are waited for."""
    run = asked(tiny, pairs_file, "rloo", "length:2-6", max_steps=9, learning_rate=1e-8, eval_every=1, patience=2)
    result = worker.work(run)
    steps = [item["step"] for item in run.events() if item["type"] == "step"]
    assert steps == [1, 2, 3] and result["best"]["step"] == 1
    assert result["best"]["figure"] == result["heldout"]["after"] == result["heldout"]["before"]


@METHOD
def test_an_update_that_runs_out_of_memory_is_done_again_with_less(
    method: str, tiny: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as over 90 tokens are in memory at once the update asks for too much; what is learned stays the same."""

    def figures(**more: Any) -> tuple[list[dict[str, Any]], list[str]]:
        run = asked(tiny, pairs_file, method, "length:2-6", max_steps=3, micro_batch_size=8, **more)
        worker.work(run)
        told = run.events()
        said = [item["text"] for item in told if item.get("code") == "memory" and "ran out" in item["text"]]
        return [item for item in told if item["type"] == "step"], said

    whole, nothing = figures()
    made = METHODS[method]
    seen: list[int] = []

    def update(policy: Any, batch: Any, config: Any, backward: Any) -> Any:
        seen.append(int(batch["input_ids"].numel()))
        if seen[-1] > 90:
            torch.empty(1 << 60, dtype=torch.uint8)
        return made.update(policy, batch, config, backward)  # type: ignore[attr-defined]

    monkeypatch.setitem(METHODS, method, dataclasses.replace(made, update=update))
    parts, said = figures()
    assert nothing == [] and max(seen) > 90 >= seen[-1]
    assert any("tokens are in memory at once" in text for text in said)
    for one, other in zip(whole, parts, strict=True):
        for name in ("score", "rewards", "kl", "length", "entropy"):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), (one["step"], name)


def test_the_likeliest_answers_are_those_of_generate(tiny: Path, pairs_file: Path) -> None:
    """Prompts of different length, several samples each: the same tokens as transformers' own greedy search."""
    made, policy = loaded(asked(tiny, pairs_file, "rloo", "json"))
    prompts = [list(range(5, 5 + n)) for n in (3, 9, 6)]
    drawing = torch.Generator().manual_seed(0)
    told = rollout.sample(
        policy, prompts, count=2, max_new_tokens=12, temperature=0.0, stop_ids=made.renderer.stop_ids,
        pad_id=made.renderer.pad_id, generator=drawing,
    )  # fmt: skip
    policy.model.eval()
    for number, prompt in enumerate(prompts):
        with torch.no_grad():
            out = policy.model.generate(
                input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=12, do_sample=False, eos_token_id=list(made.renderer.stop_ids),
                pad_token_id=made.renderer.pad_id,
            )  # fmt: skip
        wanted = out[0, len(prompt) :].tolist()
        assert [answer.ids for answer in told if answer.prompt == number] == [wanted, wanted]


def test_samples_follow_the_temperature(tiny: Path, pairs_file: Path) -> None:
    made, policy = loaded(asked(tiny, pairs_file, "rloo", "json"))

    def first(temperature: float, seed: int = 0) -> list[int]:
        told = rollout.sample(
            policy, [[7, 8, 9]], count=400, max_new_tokens=1, temperature=temperature,
            stop_ids=made.renderer.stop_ids, pad_id=made.renderer.pad_id, together=400,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        return [answer.ids[0] for answer in told]

    with torch.no_grad():
        logits = policy.model(torch.tensor([[7, 8, 9]])).logits[0, -1]
    for temperature in (1.0, 0.05):
        chances = (logits / temperature).softmax(-1)
        top = int(chances.argmax())
        share, wanted = first(temperature).count(top) / 400, float(chances[top])
        assert share == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 400) ** 0.5 + 0.01)
    assert first(1.0) == first(1.0) and first(1.0) != first(1.0, seed=1)


def test_leave_one_out_and_the_price_of_leaving_by_hand() -> None:
    """Two answers to one prompt, one token each: 1 - 0.05 * 0.2 = 0.99 against 0 + 0.05 * 0.4 = 0.02."""
    seen = {
        "scores": torch.tensor([1.0, 0.0]),
        "logps": torch.tensor([[-1.0], [-1.4]]),
        "ref_logps": torch.tensor([[-1.2], [-1.0]]),
        "mask": torch.ones(2, 1),
    }
    weighed = rloo.weigh(seen, rloo.Config(num_generations=2, kl_coef=0.05))
    assert weighed["rewards"].tolist() == pytest.approx([0.99, 0.02])
    assert weighed["advantages"].tolist() == pytest.approx([0.97, -0.97])
    seen["values"] = torch.tensor([[0.5], [0.5]])
    weighed = ppo.weigh(seen, ppo.Config(kl_coef=0.05))
    assert weighed["returns"].flatten().tolist() == pytest.approx([0.99, 0.02])
    assert weighed["advantages"].mean().item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("reward", "said"), [("", "Nothing says"), ("nonsense", "no rule"), ("regex:(", "regex"), ("length:9-2", "length")]
)
def test_what_cannot_score_is_refused(reward: str, said: str, tiny: Path, pairs_file: Path) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        worker.work(asked(tiny, pairs_file, "rloo", reward))
    assert caught.value.field == "reward" and caught.value.remedy


def test_a_judge_of_another_base_or_method_is_refused(tmp_path: Path, tiny: Path, pairs_file: Path) -> None:
    other = make_model(tmp_path / "other", seed=1)
    scorer = reward_run(other, pairs_file)
    with pytest.raises(ConfigError, match="share one base"):
        worker.work(asked(tiny, pairs_file, "rloo", str(scorer.dir)))
    taught = asked(tiny, pairs_file, "rloo", "json", max_steps=1)
    worker.work(taught)
    with pytest.raises(ConfigError, match="no reward model"):
        worker.work(asked(tiny, pairs_file, "rloo", str(taught.dir)))


def test_a_rule_that_fails_names_the_row(tmp_path: Path, tiny: Path, pairs_file: Path) -> None:
    (tmp_path / "mine.py").write_text("def score(prompt, answer, reference, stopped):\n    return 1 / 0\n")
    with pytest.raises(DataError, match="line"):
        worker.work(asked(tiny, pairs_file, "rloo", f"{tmp_path / 'mine.py'}:score"))
    assert rules.rule("length:1-2")("", "one two")


def test_a_round_goes_on_from_the_last(tiny: Path, pairs_file: Path) -> None:
    first = asked(tiny, pairs_file, "rloo", "length:2-6", max_steps=2)
    worker.work(first)
    second = asked(tiny, pairs_file, "ppo", "length:2-6", str(first.dir), max_steps=1)
    worker.work(second)
    step = next(item for item in second.events() if item["type"] == "step")
    assert step["kl"] == pytest.approx(0, abs=1e-4)  # its reference is its parent, not the base
    assert [run.id for run in second.lineage()] == [first.id, second.id]
