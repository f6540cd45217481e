"""Speakers through transformers: they say what llama.cpp says of the same weights, and share one copy of a base."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from making import make_model, write_jsonl

import studio
from studio import paths, runs, worker
from studio.chat import answers
from studio.chat.llama import Context, Weights
from studio.chat.session import Session
from studio.cli.__main__ import run as command
from studio.data import preferences
from studio.data.records import Message
from studio.errors import ConfigError, DataError, ModelError, Stopped
from studio.export import gguf, speaking
from studio.feedback import engines, job, loaded
from studio.feedback.speakers import Ask, Draw, Llama, Speakers, shares
from studio.render import encode

needs_llama = pytest.mark.skipif(engines.importlib.util.find_spec("llama_cpp") is None, reason="no llama-cpp-python")
QUESTIONS = ("What is the capital of France?", "What do cows eat?", "2 + 3 = ?", "Who are you?", "Is ice cold?")
TEXTS = ("The capital of Japan is", "The opposite of hot is", "A spider has", "A dog says")
FAST = {"quantize_base": "none", "gradient_checkpointing": False, "max_length": 96, "lora_r": 4, "held_out": 0.0}
SMALL = {"fit": {"max_tokens": "8", "sampled": "4"}, "forgetting": {"shown": "1"}}


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@dataclasses.dataclass(frozen=True)
class Made:
    """A run on the starter, a child of it, and F32 files of the run and of its base, as an exact engine reads them."""

    run: Path
    child: Path
    tuned: str
    base: str


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder, starter = tmp_path_factory.mktemp("loaded"), paths.models() / "starter"
    lines = (paths.assets() / "data" / "starter_sft.jsonl").read_text("utf-8").splitlines(keepends=True)
    data = folder / "sft.jsonl"
    data.write_text("".join(lines[:80]), "utf-8")
    settings = {**FAST, "max_steps": 12, "batch_size": 8, "learning_rate": 3e-3, "held_out": 0.1}
    studio.train_model("sft", model="starter", data=data, out=folder / "run", settings=settings)
    less = {"max_steps": 1, "held_out": 0.0}
    studio.train_model("sft", parent=str(folder / "run"), data=data, out=folder / "child", settings=less)
    renderer = encode.load(starter, "")
    about = json.loads((folder / "run" / "adapter" / "studio.json").read_text("utf-8"))
    spoken = encode.load(starter, about["template"])
    tuned = gguf.write(starter, folder / "run" / "adapter", folder / "tuned.gguf", spoken, name="tuned", dtype="F32")
    base = gguf.write(starter, None, folder / "base.gguf", renderer, name="base", dtype="F32")
    return Made(folder / "run", folder / "child", str(tuned), str(base))


def transformers(*names: str, **options: Any) -> Speakers:
    return Speakers(list(names), context=options.pop("context", 256), engine="transformers", **options)


# --- the same as llama.cpp --------------------------------------------------------------------------------------------


@needs_llama
def test_a_run_and_its_base_answer_weigh_and_score_as_an_exact_file_of_the_same_weights_does(made: Made) -> None:
    with Speakers([made.tuned], context=256) as (file,), transformers(str(made.run), "base") as (run, base):
        assert isinstance(file, Llama) and isinstance(run, loaded.Loaded) and isinstance(base, loaded.Loaded)
        exact = Context(Weights(made.tuned), 256, threads=1, exact=True)
        for text in QUESTIONS:
            assert run.prompt(user(text)) == file.prompt(user(text))
            ours, theirs = run.say(user(text), Draw(max_tokens=24)), file.say(user(text), Draw(max_tokens=24))
            assert ours == theirs
            words = ["Yes", "No", "Paris", "The capital", "It"]
            mine = run._voice.weigh(run.prompt(user(text)), [run._voice.words(word) for word in words])
            assert mine == pytest.approx(file._session.weigh(0, user(text), words), abs=1e-3)
            # a chat's cache holds 16 bits; one of 32 tells the shares apart from rounding
            exactly = answers.weigh(exact, {"messages": user(text), "words": words}, bool)
            assert run.weigh(user(text), words) == pytest.approx(shares(exactly), abs=1e-4)
            mine, other = (one.scores(user(text), "The capital of France is Paris.") for one in (run, file))
            assert [t["id"] for t in mine["tokens"]] == [t["id"] for t in other["tokens"]]
            assert [t["p"] for t in mine["tokens"]] == pytest.approx([t["p"] for t in other["tokens"]], abs=1e-3)
            assert [t["rank"] for t in mine["tokens"]][:1] == [t["rank"] for t in other["tokens"]][:1]
            assert mine["end_p"] == pytest.approx(other["end_p"], abs=1e-3)
            assert [t["text"] for t in mine["tokens"]] == [t["text"] for t in other["tokens"]]
        assert any(
            run.say(user(text), Draw(max_tokens=24)) != base.say(user(text), Draw(max_tokens=24)) for text in QUESTIONS
        )
    with (
        Speakers([made.base], context=256) as (file,),
        transformers(str(made.run), "base", "starter") as (_, base, own),
    ):
        assert isinstance(file, Llama)
        for text in TEXTS:
            theirs = file.answer(user(text), raw=True, max_tokens=16)
            for one in (base, own):
                assert isinstance(one, loaded.Loaded) and one.identity["raw"]
                mine = one.answer(user(text), raw=True, max_tokens=16)
                assert {name: mine[name] for name in ("text", "ids", "stopped")} == {
                    name: theirs[name] for name in ("text", "ids", "stopped")
                }


def test_runs_and_the_base_are_one_copy_of_the_weights(made: Made) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    alone = AutoModelForCausalLM.from_pretrained(
        paths.models() / "starter", dtype=torch.float32, trust_remote_code=False
    )
    size = sum(p.numel() for p in alone.parameters())
    with transformers(str(made.run), str(made.child), "base", "starter") as speakers:
        policies = {id(one._voice.policy): one._voice.policy for one in speakers}  # type: ignore[attr-defined]
        assert len(policies) == 1
        (policy,) = policies.values()
        whole = {p.data_ptr(): p.numel() for p in policy.model.parameters()}
        small = {p.data_ptr(): p.numel() for name, p in policy.model.named_parameters() if "lora_" in name}
        rows = {p.data_ptr(): p.numel() for name, p in policy.model.named_parameters() if "trainable_tokens" in name}
        assert sum(whole.values()) - sum(small.values()) - sum(rows.values()) == size
        assert set(policy.model.peft_config) == {"default", "default-1"}
        first = [one.say(user(QUESTIONS[0]), Draw(max_tokens=16))[0].text for one in speakers]
        again = [one.say(user(QUESTIONS[0]), Draw(max_tokens=16))[0].text for one in reversed(speakers)]
        assert first == again[::-1]  # whoever spoke before, and whichever adapter was on
    with transformers("starter") as (bare,), transformers(str(made.child)) as (child,):
        assert bare.say(user(QUESTIONS[0]), Draw(max_tokens=16))[0].text == first[3]
        assert child.say(user(QUESTIONS[0]), Draw(max_tokens=16))[0].text == first[1]


def test_who_answered_is_told_with_engine_type_and_the_hashes_of_base_and_adapter(made: Made) -> None:
    with transformers(str(made.run), str(made.child), "base") as (run, child, base):
        told = run.identity
        assert (told["engine"], told["dtype"], told["adapter"]) == ("transformers", "float32", "run")
        assert told["sha256"] == paths.sha256(paths.models() / "starter" / "model.safetensors")[:12]
        assert told["adapter_sha256"] == paths.sha256(made.run / "adapter" / "adapter_model.safetensors")[:12]
        assert child.identity["adapter_sha256"] not in ("", told["adapter_sha256"])
        assert (base.identity["adapter_sha256"], base.identity["raw"]) == ("", True)
        assert engines.through(told) == "transformers on starter in float32, adapter run"


def test_half_the_memory_decides_the_type_and_what_is_free_whether_it_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    starter, cpu = paths.models() / "starter", torch.device("cpu")
    size = 2 * (starter / "model.safetensors").stat().st_size  # it lies there in 16 bits

    def memory(total: float, available: float) -> None:
        found = SimpleNamespace(total=total * size, available=available * size)
        monkeypatch.setattr(loaded.psutil, "virtual_memory", lambda: found)

    memory(2.1, 1.1)
    assert loaded._dtype(starter, cpu) == torch.float32
    memory(1.9, 0.6)
    assert loaded._dtype(starter, cpu) == torch.bfloat16
    memory(2.1, 0.9)
    with pytest.raises(ModelError, match="are free"):
        loaded._dtype(starter, cpu)


# --- seeds ------------------------------------------------------------------------------------------------------------


def test_an_answer_depends_on_its_seed_and_prompt_alone_and_many_come_from_one_reading(made: Made) -> None:
    asks = [Ask(user(text), f"q{at}") for at, text in enumerate(QUESTIONS)]
    draw = Draw(n=4, temperature=1.0, top_p=0.95, max_tokens=12, seed=7)
    with transformers(str(made.run)) as (run,):
        whole = [said for _, said in run.ask(asks, draw)]
        rest = [said for _, said in run.ask(asks[3:], draw)]
        assert rest == whole[3:]  # a set that is resumed there
        assert len({one.seed for said in whole for one in said}) == 4 * len(asks)
        assert len({one.text for one in whole[0]}) > 1
        fewer = next(iter(run.ask(asks[:1], dataclasses.replace(draw, n=2))))[1]
        assert [one.text for one in fewer] == [one.text for one in whole[0][:2]]
        assert [said for _, said in run.ask(asks[:1], dataclasses.replace(draw, seed=8))] != whole[:1]
        greedy = next(iter(run.ask(asks[:1], Draw(n=3, max_tokens=12))))[1]
        assert len({one.text for one in greedy}) == 1 and len({one.seed for one in greedy}) == 3
        stops = iter([False, False, True])
        with pytest.raises(Stopped):
            list(run.ask(asks, draw, lambda: next(stops)))


def test_a_prompt_without_room_is_refused_as_too_long_and_an_answer_ends_with_the_context(made: Made) -> None:
    from studio.feedback import making

    with transformers(str(made.run), context=64) as (run,):
        with pytest.raises(DataError) as caught:
            run.say(user("word " * 200))
        assert making.too_long(caught.value)
        prompt = run._voice.prompt([Message("user", "Tell me a story.")])  # type: ignore[attr-defined]
        said = run.say(user("Tell me a story."), Draw(n=4, temperature=5.0, max_tokens=500))
        assert max(one.tokens for one in said) == 64 - len(prompt) - 1


# --- which engine -----------------------------------------------------------------------------------------------------


def test_an_engine_that_is_none_is_refused_before_anything_is_written() -> None:
    with pytest.raises(ConfigError) as caught:
        job.asked("rejection", "x.jsonl", {"answers_from": "starter", "reward": "sentence", "engine": "vllm"})
    assert "engine" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        studio.evaluate("starter", suites=["forgetting"], engine="vllm")
    assert caught.value.field == "engine"


@needs_llama
def test_auto_is_llama_cpp_where_it_can_be_and_a_gguf_file_is_never_run_by_transformers(made: Made) -> None:
    notes: list[dict[str, Any]] = []
    with Speakers(["starter"], context=256, emit=notes.append) as (one,):
        assert isinstance(one, Llama) and one.identity["engine"] == "llama.cpp"
    assert not [note for note in notes if note.get("code") == "engine"]
    with transformers(str(made.run), made.tuned, emit=notes.append) as (run, file):
        assert isinstance(run, loaded.Loaded) and isinstance(file, Llama)
        # the answer's tokens behind the prompt as the other engine reads it
        own, like = (file.scores(user("Hi"), "Hello.", like=one) for one in (file, run))
        assert [t["p"] for t in own["tokens"]] == pytest.approx([t["p"] for t in like["tokens"]])
    (note,) = [note for note in notes if note.get("code") == "engine"]
    assert "tuned.gguf" in note["text"] and "llama.cpp" in note["text"]


@needs_llama
def test_a_model_without_a_gguf_form_is_run_by_transformers_and_the_reason_is_said(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

    folder = make_model(tmp_path / "model")
    size = len(AutoTokenizer.from_pretrained(folder, trust_remote_code=False))
    for file in folder.glob("*.safetensors"):
        file.unlink()
    config = GPT2Config(vocab_size=size, n_embd=32, n_layer=2, n_head=2, n_positions=64, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).save_pretrained(folder)
    notes: list[dict[str, Any]] = []
    with Speakers([str(folder), "starter"], context=256, emit=notes.append) as (odd, starter):
        assert isinstance(odd, loaded.Loaded) and isinstance(starter, loaded.Loaded)  # compared through one engine
        said = odd.say(user("The capital"), Draw(n=2, temperature=1.0, max_tokens=100))
        assert len(said) == 2 and all(one.tokens < 64 for one in said)
    (note,) = [note for note in notes if note.get("code") == "engine"]
    assert "GPT2LMHeadModel cannot be written as GGUF" in note["text"]
    with pytest.raises(ModelError), Speakers([str(folder)], engine="llama.cpp"):
        pass


WITHOUT = """
import sys
class Blocked:
    def find_spec(self, name, *rest):
        if name.split(".")[0] == "llama_cpp":
            raise ModuleNotFoundError("blocked by the test")
sys.meta_path.insert(0, Blocked())
from studio.feedback.speakers import Draw, Speakers
with Speakers(["starter"], context=128, emit=lambda item: print("NOTE", item.get("code"), item.get("text"))) as (one,):
    said = one.say([{"role": "user", "content": "The capital of France is"}], Draw(max_tokens=2))
    print("SAID", one.identity["engine"], said[0].text)
"""


def test_without_llama_cpp_transformers_answers_and_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    (note,) = [line for line in lines if line.startswith("NOTE engine")]
    assert "blocked by the test" in note and "through transformers" in note
    assert "SAID transformers Paris" in lines


def test_a_llama_cpp_that_is_there_and_does_not_load_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp" / "__init__.py").write_text('raise ImportError("libggml.so: no such file")\n')
    ours = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")]), str(Path(studio.__file__).parents[1])]
    # the engine's process loads it, this one only sees that it is there
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(ours))
    notes: list[dict[str, Any]] = []
    session = Session([])
    try:
        assert engines.choose("auto", ["starter", "base"], session, notes.append) == {"starter", "base"}
        assert engines.choose("llama.cpp", ["starter"], session, notes.append) == set()
        assert engines.choose("auto", ["x.gguf"], session, notes.append) == set()
    finally:
        session.close()
    assert len(notes) == 1 and "libggml.so" in notes[0]["text"]


# --- from end to end --------------------------------------------------------------------------------------------------


def test_an_evaluation_through_transformers_says_so_for_each_side_and_has_every_figure(
    made: Made, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", str(made.run), "--suite", "fit", "--suite", "forgetting", "--engine", "transformers", "--json"]
    words += ["--n", "6", *(w for s, one in SMALL.items() for k, v in one.items() for w in ("--set", f"{s}.{k}={v}"))]
    assert command(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert {who["engine"] for who in found["sides"].values()} == {"transformers"}
    assert found["through"].count("transformers on starter in float32") == 2 and "before: " in found["through"]
    assert "transformers on starter in float32, adapter run" in Path(found["report"]).read_text("utf-8")
    figures = {one["measure"]: one for suite in found["suites"].values() for one in suite["figures"]}
    assert figures["loss"]["sides"].keys() == {"before", "after"} and figures["kl_answer"]["sides"].keys() == {"after"}
    assert figures["loss"]["sides"]["after"]["value"] < figures["loss"]["sides"]["before"]["value"]
    assert figures["kl_token"]["sides"]["after"]["value"] > 0
    assert figures["goes_on"]["sides"]["before"]["value"] > 0.5
    shown = json.loads((Path(found["dir"]) / "shown.json").read_text("utf-8"))["forgetting"]
    assert any(row.get("during") for row in shown) == bool(runs.find(str(made.run)).checkpoints())


@needs_llama
def test_the_loss_of_an_evaluation_is_the_same_in_both_engines_within_what_8_bits_lose(made: Made) -> None:
    def loss(engine: str) -> dict[str, float]:
        found = studio.evaluate(str(made.run), suites=["fit"], n=6, settings={"fit": SMALL["fit"]}, engine=engine)
        assert {who["engine"] for who in found["sides"].values()} == {engine} and engine in found["through"]
        figure = next(one for one in found["suites"]["fit"]["figures"] if one["measure"] == "loss")
        return {side: one["value"] for side, one in figure["sides"].items()}

    assert loss("transformers") == pytest.approx(loss("llama.cpp"), rel=0.02)


def test_rejection_sampling_through_transformers_is_resumed_with_the_answers_it_would_have_had(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": text} for text in QUESTIONS])
    words = ["feedback", "rejection", "--data", str(data), "--answers-from", str(made.run), "--reward", "sentence"]
    words += ["-n", "4", "--max-tokens", "12", "--context", "256", "--engine", "transformers", "--json"]
    assert command([*words, "--out", str(tmp_path / "whole")]) == 0
    assert json.loads(capsys.readouterr().out)["records"] == len(QUESTIONS)
    whole = preferences.records(tmp_path / "whole")
    assert {answer.identity["engine"] for record in whole for answer in record.answers} == {"transformers"}

    settings = {"answers_from": str(made.run), "reward": "sentence", "n": 4, "max_tokens": 12, "context": 256}
    run = runs.create(job.asked("rejection", data, {**settings, "engine": "transformers"}))
    drafts = run.dir / "drafts.jsonl"
    with pytest.raises(Stopped):
        worker.work(run, should_stop=lambda: drafts.is_file() and drafts.read_bytes().count(b"\n") >= 2)
    assert 2 <= drafts.read_bytes().count(b"\n") < len(QUESTIONS)
    worker.work(run)
    told = [[(answer.text, answer.identity["seed"]) for answer in one.answers] for one in whole]
    assert [[(a.text, a.identity["seed"]) for a in one.answers] for one in preferences.records(run.dir)] == told


def test_where_a_run_began_and_its_checkpoints_are_opened_on_the_same_copy(made: Made) -> None:
    run = runs.find(str(made.run))
    folder = run.checkpoints()[-1]
    opened = transformers(str(made.run))
    with opened as (end,):
        begun = opened.add(speaking.Stage("begun", run, folder.name, begun=True))
        there = opened.add(speaking.Stage(folder.name, run, folder.name))
        assert begun.prompt(user("Hi")) == end.prompt(user("Hi")) == there.prompt(user("Hi"))  # type: ignore[attr-defined]
        assert begun.identity["adapter_sha256"] == "" and there.identity["adapter"] == folder.name
        assert len(opened._copies._copies) == 1
        last = there.say(user(QUESTIONS[0]), Draw(max_tokens=12))
        assert last == end.say(user(QUESTIONS[0]), Draw(max_tokens=12))  # the last checkpoint is the end
