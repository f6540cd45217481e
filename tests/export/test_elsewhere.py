"""Adapters that peft made, not we: opened, checked against their base, merged, exported, certified, chatted with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from making import make_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from studio.cli.__main__ import run
from studio.errors import ConfigError, ModelError
from studio.export import known as knowing
from studio.export import meant, merge, probes
from studio.models import adapter, check, elsewhere, ggufhead

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OTHER = TEMPLATE.replace("{% for", "Hello.\n{% for", 1)
KINDS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "tokens": {"trainable_token_indices": [2, 3]},
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a chat template of its own."""
    folder = make_model(tmp_path_factory.mktemp("elsewhere") / "base", hidden_size=64)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def made(
    base: Path, folder: Path, named: str | None = None, size: float = 0.05, ends: bool = False, **config: Any
) -> Path:
    """Let an adapter change much: random halves, lengths and rows, as peft saves them. `ends`: taught to end a turn."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False, dtype=torch.float32)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    made = peft.get_peft_model(model, peft.LoraConfig(**{**settings, **config}))  # type: ignore[arg-type]
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=size)
        elif "magnitude" in name:
            parameter.data.mul_(1 + 6 * size)
        elif "trainable_tokens" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    if ends:
        teach_to_end(made, base)
    made.save_pretrained(folder, save_embedding_layers=False)
    if named is not None:
        write(folder, base_model_name_or_path=named)
    return folder


def teach_to_end(model: Any, base: Path) -> None:
    """Train it to say nothing but the end of the turn, by torch alone."""
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    end = torch.tensor([tokenizer.convert_tokens_to_ids("<|im_end|>")])
    prompts = [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in ("Why?", "What is it? Say.")]
    rows = [torch.tensor([tokenizer(text)["input_ids"]]) for text in prompts]
    steps = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(25):
        loss = sum(torch.nn.functional.cross_entropy(model(row).logits[:, -1], end) for row in rows)
        loss.backward()  # type: ignore[union-attr]
        steps.step()
        steps.zero_grad()


def write(folder: Path, **change: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, Any]:
    capsys.readouterr()
    code = run([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([[5, 2, 40, 3, 77, 300, 12]])).logits[0].float()


def by_peft(base: Path, folder: Path) -> torch.Tensor:
    """What peft itself makes of base and adapter."""
    model = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False, dtype=torch.float32)
    return logits(peft.PeftModel.from_pretrained(model, folder).merge_and_unload().eval())


@pytest.mark.parametrize("kind", KINDS)
def test_the_merged_model_computes_what_peft_computes(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    folder = made(base, tmp_path / "made", **KINDS[kind])
    code, done = call(capsys, "merge", folder, "--out", tmp_path / "merged")
    assert code == 0, done
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", trust_remote_code=False, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(base, trust_remote_code=False, dtype=torch.float32)
    wanted = by_peft(base, folder)
    apart = float((logits(ours) - wanted).abs().max())
    assert apart < 0.05 * float((logits(plain) - wanted).abs().max()), "bf16 rounds, but the adapter is far more"
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged", trust_remote_code=False)
    assert tokenizer.chat_template == TEMPLATE
    assert check.inspect(str(tmp_path / "merged")).template == "its own"


@pytest.mark.parametrize("kind", KINDS)
def test_its_export_is_green_and_verified_anew_against_the_folder(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = made(base, tmp_path / "my lora", ends=True, **KINDS[kind])
    code, done = call(capsys, "export", folder, "--quant", "F16", "--out", tmp_path / "out")
    lines = {line["name"]: line["ok"] for line in done["certificate"]["lines"]}
    assert code == 0 and done["certificate"]["ok"], done["certificate"]
    assert [lines[name] for name in ("token ids", "prompts", "ending", "numbers", "tensors", "adapter")] == [True] * 6
    (ending,) = [line["value"] for line in done["certificate"]["lines"] if line["name"] == "ending"]
    assert ending.startswith("20 of 20 answers stopped by themselves (20 at <|im_end|>)")
    assert "questions of Studio's own" in ending
    file = Path(done["files"][0]["path"])
    assert file.name == "my-lora-F16.gguf"
    assert ggufhead.read(file).metadata["tokenizer.chat_template"] == TEMPLATE
    for words in ([], ["--model", folder], ["--model", folder, "--base", base]):
        code, again = call(capsys, "verify", file, *words)
        assert (code, again["ok"]) == (0, True)
    write(folder, lora_alpha=80)
    code, other = call(capsys, "verify", file, "--model", folder)
    red = {line["name"] for line in other["lines"] if line["ok"] is False}
    assert code == 3 and "tensors" in red, "a file of another adapter is told apart"


def test_one_that_does_not_stop_by_itself_turns_its_certificate_red(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    code, done = call(capsys, "export", made(base, tmp_path / "made"), "--quant", "F16")
    (red,) = [line for line in done["certificate"]["lines"] if line["ok"] is False]
    assert code == 3 and red["name"] == "ending" and red["limit"] == "19 of 20"
    assert red["value"].startswith("0 of 20") and "questions of Studio's own" in red["value"] and red["remedy"]
    code, plain = call(capsys, "export", base, "--quant", "F16")
    (ending,) = [line for line in plain["certificate"]["lines"] if line["name"] == "ending"]
    assert code == 0 and ending["ok"] is None, "nobody taught a base to stop"


def test_the_questions_of_our_own_are_as_many_as_are_asked_and_no_two_the_same() -> None:
    asked = probes.QUESTIONS
    assert len(set(asked)) == len(asked) == knowing.ENOUGH == 20
    assert max(map(len, asked)) < 60, "what is long to answer does not stop in time"


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_talked_to_beside_its_base_on_one_copy_of_the_weights(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = made(base, tmp_path / "made", size=2.0, **KINDS[kind])
    words = ["--against", "base", "--prompt", "What do cows eat?", "--max-tokens", 6]
    code, said = call(capsys, "chat", folder, *words)
    plain, tuned = (answer["identity"] for answer in said["answers"])
    assert code == 0 and not plain["adapter"]
    if kind == "dora":
        assert not tuned["adapter"] and plain["sha256"] != tuned["sha256"], "no adapter file can hold DoRA"
    else:
        assert tuned["adapter_sha256"] and plain["sha256"] == tuned["sha256"]
    assert not plain["raw"] and not tuned["raw"]
    assert said["answers"][0]["text"] != said["answers"][1]["text"]
    code, alone = call(capsys, "chat", base, *words[2:])
    assert code == 0 and alone["answers"][0]["text"] == said["answers"][0]["text"], "a model is talked to alone, too"


def test_an_export_of_it_can_be_talked_to_beside_the_base(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = made(base, tmp_path / "made", ends=True)
    code, done = call(capsys, "export", folder, "--quant", "F16")
    assert code == 0
    code, said = call(capsys, "chat", done["run"], "--against", "base", "--prompt", "Hi", "--max-tokens", 4)
    assert code == 0 and [answer["who"] for answer in said["answers"]] == ["base", "tuned"]


def test_the_template_is_the_adapters_own_where_it_brings_one(base: Path, tmp_path: Path) -> None:
    folder = made(base, tmp_path / "made")
    assert knowing.of_adapter(folder, base).renderer.source == TEMPLATE
    (folder / "chat_template.jinja").write_text(OTHER)
    assert knowing.of_adapter(folder, base).renderer.source == OTHER
    (folder / "chat_template.jinja").unlink()
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    tokenizer.chat_template = OTHER
    tokenizer.save_pretrained(folder, save_jinja_files=False)  # inside tokenizer_config.json, as older libraries do
    assert not (folder / "chat_template.jinja").exists()
    found = knowing.of_adapter(folder, base)
    assert found.renderer.source == OTHER and found.chats
    assert elsewhere.speaker(base, folder) == folder


def test_merging_writes_the_template_that_was_trained_on_whatever_file_it_stood_in(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The base's chat_template.jinja would count before the adapter's tokenizer_config.json."""
    folder = made(base, tmp_path / "made")
    tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    tokenizer.chat_template = OTHER
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    assert call(capsys, "merge", folder, "--out", tmp_path / "merged")[0] == 0
    merged = AutoTokenizer.from_pretrained(tmp_path / "merged", trust_remote_code=False)
    assert merged.chat_template == OTHER


def test_without_any_template_its_files_have_none_and_it_is_asked_in_plain_text(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    folder = made(tiny, tmp_path / "made")
    assert not knowing.of_adapter(folder, tiny).chats
    assert knowing.of_adapter(folder, tiny, "chatml").chats
    code, done = call(capsys, "export", folder, "--quant", "F16", "--out", tmp_path / "out")
    assert code == 0 and done["certificate"]["ok"]
    head = ggufhead.read(Path(done["files"][0]["path"]))
    assert "tokenizer.chat_template" not in head.metadata and "\nTEMPLATE" not in Path(done["modelfile"]).read_text()
    code, said = call(capsys, "chat", folder, "--prompt", "The capital", "--max-tokens", 4)
    assert code == 0 and said["answers"][0]["identity"]["raw"]


def test_check_describes_it_and_says_what_will_speak(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(base, tmp_path / "made", use_rslora=True, trainable_token_indices=[2, 3])
    code, about = call(capsys, "models", "check", folder)
    assert code == 0
    assert (about["r"], about["scale"], about["tokens"], about["dora"]) == (4, 4.0, [2, 3], False)  # 8 / sqrt(4)
    assert (about["base_folder"], about["tokenizer"], about["template"]) == (str(base), "the base's", "the base's")
    assert about["exportable"] is True
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(folder)
    _, about = call(capsys, "models", "check", folder, "--model", base)
    assert (about["tokenizer"], about["template"]) == ("its own", "its own")


Spoil = Callable[[Path], object]


def _another_vocabulary(folder: Path) -> None:
    """Swap two tokens' ids, as in a tokenizer of another model."""
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    words = data["model"]["vocab"]
    a, b = list(words)[100:102]
    words[a], words[b] = words[b], words[a]
    path.write_text(json.dumps(data))


def _longer(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    tokenizer.add_tokens(["<|mine|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize(
    ("spoil", "says", "helps"),
    [
        (lambda f: write(f, base_model_name_or_path=None), "does not say which base", "--model"),
        (lambda f: write(f, base_model_name_or_path=""), "does not say which base", "--model"),
        (lambda f: write(f, base_model_name_or_path="/home/ada/llama"), "'/home/ada/llama', which is not", "--model"),
        (lambda f: write(f, base_model_name_or_path="org/base"), "org/base, is not on this", "studio models get org/b"),
        (lambda f: write(f, base_model_name_or_path="org/b", revision="v2"), "org/b@v2, is not", "models get org/b@v2"),
        (_another_vocabulary, "is not its base's", "--model"),
        (_longer, "1 tokens more than the base has rows for", "Merge it"),
        (lambda f: write(f, modules_to_save=["lm_head"]), "modules_to_save", "Merge it"),
        (lambda f: write(f, r=8), "the rank is 8", "choose the one"),
    ],
)
@pytest.mark.parametrize("verb", ["export", "merge", "chat", "models"])
def test_what_cannot_be_used_is_refused_with_the_reason_and_leaves_nothing(
    base: Path,
    tmp_path: Path,
    home: Path,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    spoil: Spoil,
    says: str,
    helps: str,
) -> None:
    folder = shutil.copytree(_good(base, tmp_path), tmp_path / "folder")
    spoil(folder)
    more = {"merge": ["--out", tmp_path / "out"], "chat": ["--prompt", "x"]}.get(verb, [])
    words = ["models", "check"] if verb == "models" else [verb]
    code, said = call(capsys, *words, folder, *more)
    assert code == 2 and says in said["error"]["message"] and helps in said["error"]["remedy"], said
    assert not (tmp_path / "out").exists() and not list((home / "runs").glob("*"))


def _good(base: Path, tmp_path: Path) -> Path:
    folder = made(base, tmp_path / "good")
    AutoTokenizer.from_pretrained(base, trust_remote_code=False).save_pretrained(folder)
    return folder


def test_a_base_of_other_shapes_is_refused_and_the_right_one_can_be_named(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(base, tmp_path / "made", named="/home/ada/llama")
    wide = make_model(tmp_path / "wide", hidden_size=128)
    code, said = call(capsys, "merge", folder, "--model", wide, "--out", tmp_path / "out")
    assert code == 2 and "the base's is (128, 128)" in said["error"]["message"]
    assert call(capsys, "merge", folder, "--model", base, "--out", tmp_path / "out")[0] == 0


def test_a_base_is_named_for_an_adapter_only(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no adapter's folder"):
        meant.find(str(base), "starter")
    with pytest.raises(ModelError, match="no run, adapter or model 'nobody'"):
        meant.find("nobody")
    assert meant.find("starter").model == "starter" and elsewhere.folder_of("starter") is None
    found = meant.find(str(made(base, tmp_path / "lora" / "checkpoint-12")))
    assert found.title == "lora checkpoint-12" and found.model == str(base)


@pytest.mark.parametrize(
    ("named", "here", "same"),
    [
        ("unsloth/Llama-3.2-1B-bnb-4bit", "meta-llama/Llama-3.2-1B", True),
        ("unsloth/Llama-3.2-1B-unsloth-bnb-4bit", "meta-llama/Llama-3.2-1B", True),
        ("TheBloke/Mistral-7B-v0.1-GPTQ", "mistralai/Mistral-7B-v0.1", True),
        ("Qwen/Qwen2.5-0.5B-Instruct-GPTQ-Int8", "Qwen/Qwen2.5-0.5B-Instruct", True),
        ("Meta-Llama/LLAMA-3.2-1B", "meta-llama/Llama-3.2-1B", True),
        ("unsloth/Llama-3.2-1B-bnb-4bit", "meta-llama/Llama-3.2-1B-Instruct", False),
        ("unsloth/Llama-3.2-1B", "meta-llama/Llama-3.2-1B", False),
    ],
)
def test_an_adapter_of_a_quantized_copy_belongs_to_the_model_that_was_copied(
    base: Path, tmp_path: Path, named: str, here: str, same: bool
) -> None:
    import dataclasses

    folder = made(base, tmp_path / "made", named=named)
    info = dataclasses.replace(check.inspect(str(base)), name=here)
    if same:
        assert adapter.check(folder, info).base == named
    else:
        with pytest.raises(ModelError, match="made for"):
            adapter.check(folder, info)


def test_a_run_of_ours_is_a_run_and_its_adapters_folder_an_adapter(tiny: Path, tmp_path: Path, sft_file: Path) -> None:
    import studio

    given = {"quantize_base": "none", "gradient_checkpointing": False, "max_steps": 2, "max_length": 128}
    done = studio.train_model("sft", model=str(tiny), data=sft_file, settings=given)
    place = Path(done["dir"])
    assert meant.find(done["run"]).run is not None and meant.find(str(place)).adapter is None
    found = meant.find(str(place / "adapter"))
    assert found.run is None and found.model == str(tiny)
    ours, theirs = meant.find(str(place)).known(), found.known()
    assert (ours.base, ours.adapter, ours.chats) == (theirs.base, theirs.adapter, theirs.chats)
    assert ours.renderer.source == theirs.renderer.source, "the template that training added lies beside the adapter"


def test_a_pattern_in_its_config_which_nobody_matches_does_not_keep_it_from_being_merged(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = made(base, tmp_path / "made")
    write(folder, target_modules="(a|a)*" * 20 + "$")
    assert call(capsys, "merge", folder, "--out", tmp_path / "merged")[0] == 0
    with pytest.raises(ModelError, match="the pattern"):
        adapter.check(folder, check.inspect(str(base)))  # to train on from it, a library would match it


def test_an_adapter_with_values_that_are_no_numbers_is_not_merged(base: Path, tmp_path: Path) -> None:
    folder = made(base, tmp_path / "adapter")
    weights = load_file(folder / "adapter_model.safetensors")
    first = sorted(weights)[0]
    weights[first][0, 0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="no numbers"):
        merge.write_model(base, folder, tmp_path / "merged")


def test_an_adapter_on_an_output_layer_that_is_the_embedding_is_refused(base: Path, tmp_path: Path) -> None:
    """Also where the checkpoint holds the embedding twice: a file has it once, and would lose the adapter's share."""
    twice = Path(shutil.copytree(base, tmp_path / "twice"))
    weights = load_file(twice / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].clone()
    save_file(weights, twice / "model.safetensors", metadata={"format": "pt"})
    folder = made(base, tmp_path / "adapter")
    halves = load_file(folder / "adapter_model.safetensors")
    rows, width = weights["lm_head.weight"].shape
    halves["base_model.model.lm_head.lora_A.weight"] = torch.ones(4, width)
    halves["base_model.model.lm_head.lora_B.weight"] = torch.ones(rows, 4)
    save_file(halves, folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="lm_head, which the base lacks"):
        adapter.check(folder, check.inspect(str(twice)), merges=True)


def test_weights_with_the_wrong_half_are_refused(base: Path, tmp_path: Path) -> None:
    folder = made(base, tmp_path / "made")
    path = folder / "adapter_model.safetensors"
    weights = load_file(path)
    weights.pop(next(name for name in weights if "lora_B" in name))
    save_file(weights, path)
    with pytest.raises(ModelError, match="only one half"):
        elsewhere.inspect(folder)
