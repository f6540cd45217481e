"""What a recipe keeps of a run beside its settings: odd names, texts that look like references, what spoke."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

import studio
from studio import paths, runs, worker
from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError, ModelError
from studio.lab import recipe, recording, rounds, sources
from studio.runs import Run, RunConfig
from studio.train import together

ODD = [
    "a b.jsonl",
    "a,b.jsonl",
    'o\'neil "x".jsonl',
    "été — 日本.jsonl",
    "line\nbreak.jsonl",
    "@home.jsonl",
    "x:y.jsonl",
]


def finished(config: RunConfig, **result: Any) -> Run:
    run = runs.create(config)
    paths.write_text(run.dir / "result.json", json.dumps(result))
    return run


def trained(file: Path, **options: Any) -> Run:
    """A training run as far as recording looks: its config and an adapter."""
    from safetensors.torch import save_file
    from torch import ones

    run = finished(RunConfig("train", "t", "starter", "sft", str(file), options=options))
    run.adapter.mkdir()
    save_file({"w": ones(3)}, run.adapter / "adapter_model.safetensors")
    return run


def again(made: recipe.Recipe, tmp_path: Path) -> recipe.Recipe:
    """Write a recipe and read it."""
    file = tmp_path / "again.toml"
    file.write_text(made.text(), "utf-8")
    return recipe.read(file)


@pytest.mark.parametrize("name", ODD)
def test_files_with_odd_names_are_written_found_and_hashed(tmp_path: Path, name: str) -> None:
    file, rule = write_jsonl(tmp_path / name, [{"prompt": "a", "completion": "b"}]), tmp_path / f"{name}.py"
    rule.write_text("def score(prompt, answer, reference, stopped):\n    return 1.0\n", "utf-8")
    set_ = RunConfig("feedback", "s", data=str(file), options={"source": "rules", "rule": f"{rule}:score"})
    read = again(recording.record(finished(set_)), tmp_path)
    step = read.steps[0]
    found = {one.name: one for one in read.data}
    assert found[step.data[1:]].path == str(file) and found[step.data[1:]].sha256 == paths.sha256(file)
    named = step.options["rule"].removeprefix("@").removesuffix(":score")
    assert found[named].path == str(rule) and found[named].sha256 == paths.sha256(rule)
    _, places = sources.check(dataclasses.replace(read, base=recipe.Base("starter")), {})
    assert recipe.fill(step.options["rule"], places) == f"{rule}:score"
    rule.write_text(rule.read_text("utf-8") + "# another\n", "utf-8")
    with pytest.raises(DataError, match="not the file") as caught:
        sources.check(dataclasses.replace(read, base=recipe.Base("starter")), {})
    assert caught.value.field == f"data.{named}" and caught.value.file == str(rule)


@pytest.mark.parametrize("text", ["@home", "@best", "base,@work", "@@twice", "mail me @ home", "@alice, hello", ""])
def test_a_text_that_looks_like_a_reference_stays_a_text(tmp_path: Path, text: str) -> None:
    run = finished(RunConfig("export", "e", "starter", options={"quants": ["Q8_0"], "system": text}))
    read = again(recording.record(run), tmp_path)
    assert recipe.fill(read.steps[0].options["system"], {"best": "/nowhere"}) == text


def test_a_folder_of_documents_and_an_adapters_folder_are_hashed_whole(tmp_path: Path) -> None:
    texts, adapter = tmp_path / "texts", tmp_path / "adapter"
    (texts / "deep").mkdir(parents=True)
    (texts / "deep" / "one.md").write_text("A text.", "utf-8")
    (texts / "notes.bin").write_bytes(b"no document")
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    options = {"source": "synthetic", "documents": str(texts), "answers_from": str(adapter)}
    read = recording.record(finished(RunConfig("feedback", "s", options=options)))
    read = dataclasses.replace(read, base=recipe.Base("starter"))
    assert read.steps[0].options["documents"] == "@texts" and read.steps[0].options["answers_from"] == "@adapter"
    (texts / "notes.bin").write_bytes(b"changed")
    sources.check(read, {})
    (adapter / "adapter_config.json").write_text('{"lora_alpha": 64}', "utf-8")
    with pytest.raises(DataError, match="not the file") as caught:
        sources.check(read, {})
    assert caught.value.field == "data.adapter"
    (adapter / "adapter_config.json").write_text("{}", "utf-8")
    (texts / "deep" / "one.md").write_text("Another text.", "utf-8")
    with pytest.raises(DataError, match="not the file"):
        sources.check(read, {})


def test_an_evaluation_has_a_recipe_that_can_be_done(tmp_path: Path) -> None:
    """All options of `studio eval`, those that it fills in itself too, are options of a step."""
    run = trained(write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}]))
    asked = studio.evals.job.asked(run.id, suites=["fit", "shift"], n=5, settings={"fit": {"sampled": 2}}, seed=3)
    read = again(recording.record(finished(asked)), tmp_path)
    step = read.steps[1]
    places = {"sft": str(run.dir)}
    filled = dataclasses.replace(step, parent=places["sft"], options=recipe.fill(step.options, places))
    made = rounds._CONFIGS["eval"](filled, asked.title, "starter")
    assert made.parent == asked.parent and made.options == {**asked.options, "of": run.id}


def test_who_answered_through_an_exported_file_is_asked_through_it_again(tmp_path: Path) -> None:
    run = trained(write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}]))
    file = {"path": str(tmp_path / "t.gguf"), "type": "Q4_K_M", "sha256": "abc123" + 58 * "0"}
    finished(RunConfig("export", "t", "starter", parent=str(run.dir), options={"quants": ["Q4_K_M"]}), files=[file])
    options = {"source": "rejection", "answers_from": str(run.dir), "reward": "sentence"}
    names = {}
    for sha256 in ("abc123000000", "fff000000000"):
        config = RunConfig("feedback", "s", data=run.config.data, parent=str(run.dir), options=options)
        made = finished(config)
        who = {"name": str(run.dir), "sha256": sha256, "adapter": ""}
        answers = [Answer("a", who), Answer("b", who)]
        preferences.add(made.dir, Record([{"role": "user", "content": "a"}], answers, ranks=[1, 2]))
        written = recording.record(made)
        names[sha256] = (written.steps[-1].options["answers_from"], [step.kind for step in written.steps])
    assert names["abc123000000"] == ("@export", ["train", "export", "feedback"])
    assert names["fff000000000"] == ("@sft", ["train", "feedback"]), "another file: the adapter on its base"


def test_processes_are_kept_and_a_run_is_always_done_in_as_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[int] = []

    def launch(count: int, run: Run, emit: Any, should_stop: Any) -> dict[str, Any]:
        started.append(count)
        return {}

    monkeypatch.setattr(together, "launch", launch)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    file = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    studio.train_model("sft", data=file, model="starter", processes=2)
    (run,) = runs.all_runs()
    worker.work(run)  # as `studio resume` and a recipe's step do it
    assert started == [2, 2] and run.config.options["processes"] == 2
    made = trained(file)
    paths.write_text(made.dir / "result.json", '{"chosen": {"processes": 3}}')
    assert recording.record(made).steps[0].options["processes"] == 3, "also where torchrun started them"
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert together.wanted(run.config) == 1, "it is one of them"


def test_a_base_with_another_tokenizer_or_template_is_not_the_recipes(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    shutil.copytree(paths.models() / "starter", folder)
    wanted = sources.base(str(folder))
    made = recipe.Recipe("r", wanted, (), (recipe.Step("a", "train", method="sft", data="x"),))
    assert sources.check(made, {})[0].base == wanted
    (folder / "README.md").write_text("changed", "utf-8")
    sources.check(made, {})
    (folder / "chat_template.jinja").write_text("{{ messages }}", "utf-8")
    with pytest.raises(ModelError, match="what stands beside them") as caught:
        sources.check(made, {})
    assert caught.value.field == "base.beside"


def test_a_recipe_that_is_gone_on_with_keeps_its_files(tmp_path: Path) -> None:
    file = tmp_path / "r.toml"
    file.write_text('recipe = 1\n[base]\nmodel = "starter"\n[[step]]\nname = "a"\nkind = "export"\nmodel = "starter"\n')
    with pytest.raises(ConfigError, match="keeps its files"):
        studio.run_recipe(file, resume=True, model="starter")


def test_a_day_and_places_from_the_recipes_folder(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    (tmp_path / "base").mkdir()
    file = tmp_path / "r.toml"
    text = 'recipe = 1\n[base]\nmodel = "base"\n[[step]]\nname = "a"\nkind = "train"\nmethod = "sft"\n'
    file.write_text(text + 'data = "rows.jsonl"\n[step.options]\nday = 2026-11-27\n')
    read = recipe.read(file)
    assert read.steps[0].options["day"] == "2026-11-27" and read.steps[0].data == str(tmp_path / "rows.jsonl")
    assert read.base.model == str(tmp_path / "base") and json.dumps(read.to_dict())
