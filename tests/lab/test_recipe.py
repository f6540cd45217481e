"""Recipes: what is written down, what is refused and where, and that the same weights come out again."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import write_jsonl

import studio
from studio import paths, runs, worker
from studio.cli.__main__ import run as command
from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.errors import ConfigError, DataError, ModelError, RunError, Stopped
from studio.lab import recipe, recording, rounds, sources, toml

FAST: dict[str, Any] = {
    "quantize_base": "none",
    "gradient_checkpointing": False,
    "max_length": 128,
    "batch_size": 8,
    "max_steps": 2,
}


@pytest.fixture(scope="module")
def trained(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an SFT run, a DPO run on it, and their rows."""
    folder = tmp_path_factory.mktemp("line")
    sums = [(f"What is {i} + {i}?", f"The sum is {2 * i}.", str(2 * i)) for i in range(40)]
    rows: list[dict[str, object]] = [{"prompt": asked, "completion": said} for asked, said, _ in sums]
    pairs: list[dict[str, object]] = [{"prompt": asked, "chosen": a, "rejected": b} for asked, a, b in sums]
    write_jsonl(folder / "sft.jsonl", rows)
    write_jsonl(folder / "pairs.jsonl", pairs)
    make = studio.train_model
    make("sft", data=folder / "sft.jsonl", model=str(tiny), settings=FAST, out=folder / "sft")
    make("dpo", data=folder / "pairs.jsonl", parent=str(folder / "sft"), settings=FAST, out=folder / "dpo")
    return folder


@pytest.fixture
def line(trained: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to be spoilt; gives the DPO run's directory."""
    folder = tmp_path / "line"
    shutil.copytree(trained, folder)
    for name in ("sft", "dpo"):
        config = folder / name / "config.json"
        config.write_text(config.read_text("utf-8").replace(str(trained), str(folder)), "utf-8")
    return folder / "dpo"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.toml"
    path.write_text(text, "utf-8")
    return path


# --- TOML ------------------------------------------------------------------------------------------------------------

_LEAF = st.one_of(st.text(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.booleans())
_VALUE = st.recursive(
    _LEAF, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3))
)


@given(st.dictionaries(st.text(), _VALUE, max_size=4))
def test_what_is_written_is_what_tomllib_reads(document: dict[str, Any]) -> None:
    def whole(value: Any) -> Any:  # a text cannot hold half a character
        if isinstance(value, str):
            return value.encode("utf-8", "replace").decode()
        if isinstance(value, dict):
            return {whole(key): whole(one) for key, one in value.items()}
        return [whole(one) for one in value] if isinstance(value, list) else value

    assert tomllib.loads(toml.write(document)) == whole(document)


def test_a_line_is_found_by_its_table_and_key() -> None:
    text = 'recipe = 1\n\n[[step]]\nname = "a"\n\n[step.settings]\nbeta = 1\n\n[[step]]\nname = "b"\nbeta = 2\n'
    assert toml.line_of(text, "", key="recipe") == 1
    assert toml.line_of(text, "step", 0, "settings.beta") == 7
    assert toml.line_of(text, "step", 1, "beta") == 11
    assert toml.line_of(text, "step", 1, "gone") == 9, "the header, where the key is not there"
    assert toml.line_of(text, "data", 0, "name") is None


# --- what is refused -------------------------------------------------------------------------------------------------

HEAD = 'recipe = 1\n[base]\nmodel = "starter"\n'
TRAIN = HEAD + '[[step]]\nname = "a"\nkind = "train"\nmethod = "sft"\ndata = "x"\n'
EVAL = HEAD + '[[step]]\nname = "a"\nkind = "eval"\n[step.options]\n'.replace("[step.", 'parent = "x"\n[step.', 1)
JUDGED = HEAD + '[[step]]\nname = "a"\nkind = "feedback"\n[step.options]\n'


@pytest.mark.parametrize(
    ("text", "line", "field", "says"),
    [
        ("recipe = 1\nbase = [", 2, None, "not TOML"),
        ("recipe = 2\n", 1, "recipe", "layout 1"),
        ("recipe = 1\ncolour = 3\n", 2, "colour", "no 'colour'"),
        ("recipe = 1\n[[step]]\nname='a'\nkind='train'\n", None, "base", "names no base"),
        (HEAD, None, "step", "has no step"),
        (HEAD + "[[step]]\nname = 'a'\nkind = 'dance'\n", 6, "step.kind", "no kind of step 'dance'"),
        (HEAD + "[[step]]\nname = 'a'\nkind = 'train'\nmethod = 'sfx'\ndata = 'x'\n", 7, "step.method", "'sfx'"),
        (
            HEAD + "[[step]]\nname = 'a'\nkind = 'train'\nmethod = 'dpo'\ndata = 'x'\n[step.settings]\nbeta = -1\n",
            10,
            "step.settings.beta",
            "below 0",
        ),
        (
            HEAD + "[[step]]\nname = 'a'\nkind = 'export'\nparent = '@b'\n",
            7,
            "step.parent",
            "Nothing before this step is called 'b'",
        ),
        (HEAD + "[[step]]\nname = 'a'\nkind = 'export'\nparent = 7\n", 7, "step.parent", "is a text"),
        (TRAIN + "[step.options]\nsuites = ['fit']\n", 10, "step.options.suites", "no option 'suites'"),
        (TRAIN + "[step.options]\nreward = 'sentence'\n", 10, "step.options.reward", "no use for a reward"),
        (TRAIN + "[step.options]\nprocesses = 0\n", 10, "step.options.processes", "at least one process"),
        (TRAIN + "[step.options.reading]\ncolumns = 3\n", 10, "step.options.reading.columns", "no option 'columns'"),
        (TRAIN + "settings = { seed = [1] }\n", 9, "step.settings.seed", "is not a number"),
        (TRAIN + "settings.epochs = true\n", 9, "step.settings.epochs", "is not a number"),
        (TRAIN + f"settings.seed = 1{400 * '0'}\n", 9, "step.settings.seed", "is not a number"),
        (EVAL + "suites = ['fitness']\n", 9, "step.options.suites", "no suite 'fitness'"),
        (EVAL + "suites = 'fit'\n", 9, "step.options.suites", "is a list"),
        (EVAL + "suite = ['fit']\n", 9, "step.options.suite", "no option 'suite'"),
        (EVAL + "suites = ['fit']\n[step.options.settings.fit]\nn = -3\n", 11, "step.options.settings.fit.n", "below"),
        (EVAL + "files = { own = 7 }\n", 9, "step.options.files.own", "is a text"),
        (EVAL + "suites = ['own']\n", 8, "step.options.files", "asks a file of yours"),
        (JUDGED + "source = 'guess'\n", 8, "step.options.source", "no source 'guess'"),
        (JUDGED + "source = 'rejection'\nn = 2\n", 9, "step.options.n", "below 4"),
        (JUDGED + "source = 'rejection'\nbest = 2\n", 9, "step.options.best", "no setting 'best'"),
        (
            HEAD + "[[step]]\nname = 'a'\nkind = 'export'\nmodel = 'starter'\noptions.quants = ['Q9']\n",
            8,
            "step.options.quants",
            "no type 'Q9'",
        ),
        (HEAD + "[[step]]\nname = 'a'\nkind = 'eval'\nparent = '@a'\n", 7, "step.parent", "Nothing before this step"),
        ("recipe = true\n", 1, "recipe", "layout 1"),
        ("recipe = 1\ntitle = 3\n[base]\nmodel = 'starter'\n", 2, "title", "is a text"),
        ("recipe = 1\nwritten = 3\n[base]\nmodel = 'starter'\n", 2, "written", "is a table"),
        (f"recipe = 1{5000 * '0'}\n", None, None, "not TOML"),
        (HEAD + "[[data]]\nname = 'a'\n", 4, "data.path", "no path"),
        (HEAD + "[[data]]\nname = 'best'\npath = 'x'\n", 5, "data.name", "is taken"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field(
    tmp_path: Path, text: str, line: int | None, field: str | None, says: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError, match=says) as caught:
        recipe.read(path)
    assert (caught.value.file, caught.value.line, caught.value.field) == (str(path), line, field)
    assert caught.value.remedy


@pytest.mark.parametrize("key", ["data", "parent"])
def test_what_a_step_names_itself_is_looked_for_before_anything_starts(tmp_path: Path, key: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    named = {"data": "rows.jsonl", "parent": "", key: "gone"}
    fields = "".join(f"{name} = {value!r}\n" for name, value in named.items())
    path = write(tmp_path, HEAD + "[[step]]\nname = 'a'\nkind = 'train'\nmethod = 'sft'\n" + fields)
    with pytest.raises(ConfigError, match=r"There is no .* gone") as caught:
        studio.run_recipe(path)
    assert caught.value.field == f"step.{key}" and caught.value.line == {"data": 8, "parent": 9}[key]
    assert not runs.all_runs()


def test_a_file_that_is_missing_or_another_is_said_before_anything_starts(
    line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, sft_file = write(tmp_path, studio.write_recipe(str(line)).text()), line.parent / "sft.jsonl"
    before = len(runs.all_runs())
    moved = tmp_path / "moved.jsonl"
    shutil.move(sft_file, moved)
    assert command(["recipe", "run", str(path), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["file"] == str(sft_file) and error["field"] == "data.sft-2" and "--data sft-2=PATH" in error["remedy"]
    sft_file.write_text(moved.read_text() + moved.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="not the file of the recipe"):
        studio.run_recipe(path)
    with pytest.raises(ConfigError, match="reads no file 'nothing'"):
        studio.run_recipe(path, data={"nothing": "x"})
    with pytest.raises(ModelError, match="not the weights") as caught:
        studio.run_recipe(path, data={"sft.jsonl": str(moved)}, model="starter")
    assert "--model" in caught.value.remedy
    assert len(runs.all_runs()) == before
    found = studio.run_recipe(path, data={"sft.jsonl": str(moved)})
    assert found["identical"]


# --- there and back --------------------------------------------------------------------------------------------------


def test_a_recipe_has_all_that_made_a_run_and_makes_it_again(
    line: Path, tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["recipe", str(line)]) == 0
    text = capsys.readouterr().out
    found = tomllib.loads(text)
    assert found["base"]["sha256"] == paths.sha256(tiny / "model.safetensors")
    assert {one["sha256"] for one in found["data"]} >= {paths.sha256(line.parent / "sft.jsonl")}
    first, second = found["step"]
    assert (first["method"], second["method"], second["parent"]) == ("sft", "dpo", "@sft")
    assert second["settings"]["beta"] == 0.1 and second["settings"]["seed"] == 0, "also what nobody set"
    assert second["settings"]["max_steps"] == 2 and "optimizer" not in second["settings"], "that is the machine's"
    trained = line / "adapter" / "adapter_model.safetensors"
    assert second["made"]["weights"] == paths.sha256(trained)
    again = studio.run_recipe(write(tmp_path, text), out=tmp_path / "again")
    child = tmp_path / "again" / "steps" / "dpo"
    assert (child / "adapter" / "adapter_model.safetensors").read_bytes() == trained.read_bytes()
    assert again["identical"] is True and "bit for bit" in again["said"]
    assert again["best"]["step"] == "dpo" and again["best"]["dir"] == str(child)
    rewritten = studio.write_recipe(str(child)).to_dict()
    for ours, theirs in zip(rewritten["step"], found["step"], strict=True):
        assert ours["settings"] == theirs["settings"] and ours["made"]["weights"] == theirs["made"]["weights"]
    assert studio.write_recipe(str(tmp_path / "again")).to_dict() == found
    kinds = [item["part"] for item in runs.Run(tmp_path / "again").events() if item["type"] == "step"]
    assert kinds == ["sft", "sft", "dpo", "dpo"], "the steps' events stand in the one stream"


def test_other_weights_are_measured_and_said(line: Path, tmp_path: Path) -> None:
    made = studio.write_recipe(str(line))
    text = made.text().replace("max_steps = 2", "max_steps = 1", 1)
    found = studio.run_recipe(write(tmp_path, text))
    sft, dpo = found["steps"]
    assert found["identical"] is False and not sft["same"] and not dpo["same"] and sft["same_rows"]
    assert 0 < sft["difference"]["largest"] < 1 and sft["difference"]["where"]
    assert f"by {sft['difference']['largest']:.3g} at most" in found["said"]


def test_a_line_that_is_not_whole_has_no_recipe(line: Path) -> None:
    sft_file = line.parent / "sft.jsonl"
    sft_file.unlink()
    with pytest.raises(RunError, match="is gone"):
        studio.write_recipe(str(line))
    shutil.rmtree(line.parent / "sft")
    with pytest.raises(RunError, match="started from sft, which is gone"):
        studio.write_recipe(str(line))
    new = runs.create(runs.RunConfig("train", "t", "starter", "sft", str(sft_file)))
    with pytest.raises(RunError, match="has not finished"):
        studio.write_recipe(new.id)


# --- judged answers --------------------------------------------------------------------------------------------------


def judged(by: str, source: str = "rules") -> runs.Run:
    run = runs.create(runs.RunConfig("feedback", "set", options={"source": source}))
    for number in range(24):
        prompt = [{"role": "user", "content": f"What is {number}?"}]
        answers = [Answer(f"It is {number}."), Answer(f"{number}"), Answer(f"so {number}")]
        preferences.add(run.dir, Record(prompt, answers, ranks=[1, 2, 3], by={"kind": by}, id=str(number)))
    paths.write_text(run.dir / "result.json", "{}")
    return run


def test_a_set_of_judged_answers_is_a_step_and_peoples_judgements_are_data(tiny: Path) -> None:
    rule, people = judged("rule"), judged("person")
    for data, wanted in ((f"{rule.id}:preference/ends", "@rules:preference/ends"), (rule.id, "@rules:preference")):
        run = studio.train_model("dpo", data=data, model=str(tiny), settings=FAST)
        made = studio.write_recipe(run["run"])
        assert [step.kind for step in made.steps] == ["feedback", "train"] and made.steps[1].data == wanted
        assert made.steps[0].options["source"] == "rules" and made.steps[0].made["records"] == 24
        assert recipe.from_dict(made.to_dict()) == made
    run = studio.train_model("dpo", data=people.id, model=str(tiny), settings=FAST)
    made = studio.write_recipe(run["run"])
    assert [step.kind for step in made.steps] == ["train"] and "judged by people" in made.data[0].note
    run = studio.train_model("dpo", data=rule.id, model=str(tiny), settings=FAST)
    preferences.add(rule.dir, Record([{"role": "user", "content": "More?"}], [Answer("a"), Answer("b")], ranks=[1, 2]))
    made = studio.write_recipe(run["run"])
    assert [step.kind for step in made.steps] == ["train"] and "has grown since" in made.data[0].note


def test_runs_and_files_in_options_become_references(tmp_path: Path, line: Path) -> None:
    rule = tmp_path / "mine.py"
    rule.write_text("def score(prompt, answer, reference, stopped):\n    return 1.0\n")
    options = {"source": "judge", "judge": str(line), "who": f"{line},base", "rule": f"{rule}:score"}
    run = runs.create(runs.RunConfig("feedback", "judged", options=options))
    paths.write_text(run.dir / "result.json", "{}")
    made = recording.record(run)
    assert [step.name for step in made.steps] == ["sft", "dpo", "judge"]
    told = made.steps[2].options
    assert told == {"source": "judge", "judge": "@dpo", "who": "@dpo,base", "rule": "@mine:score"}
    places = {"dpo": "/runs/dpo", "mine": str(rule)}
    assert recipe.fill(told, places) == {
        "source": "judge",
        "judge": "/runs/dpo",
        "who": "/runs/dpo,base",
        "rule": f"{rule}:score",
    }


# --- stop, resume, keep ----------------------------------------------------------------------------------------------


def test_a_recipe_stops_and_goes_on_without_doing_a_step_twice(
    line: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, studio.write_recipe(str(line)).text())
    seen: list[str] = []

    def emit(item: dict[str, Any]) -> None:
        if item["type"] == "step":
            seen.append(item["part"])

    with pytest.raises(Stopped):
        studio.run_recipe(path, emit=emit, should_stop=lambda: seen == ["sft", "sft", "dpo"])
    stopped = next(run for run in runs.all_runs() if run.config.kind == "recipe")
    assert stopped.status() == "stopped"
    sft = json.loads((stopped.dir / rounds.PLACES).read_text())["sft"]
    stamp = (Path(sft) / "result.json").stat().st_mtime_ns
    assert command(["recipe", "run", str(path), "--resume", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["run"] == stopped.id and found["identical"] is True
    assert (Path(sft) / "result.json").stat().st_mtime_ns == stamp and found["steps"][0]["dir"] == sft
    with pytest.raises(RunError, match="has finished"):
        studio.run_recipe(path, resume=True)


def test_the_best_round_is_kept_and_gone_on_from(tiny: Path, sft_file: Path, tmp_path: Path) -> None:
    """The second run learns at a rate so high that its held-out loss is worse."""
    settings = "\n".join(f"{name} = {toml.write({'x': value})[4:].strip()}" for name, value in FAST.items())

    def step(name: str, rate: str, parent: str) -> str:
        head = f'[[step]]\nname = "{name}"\nkind = "train"\nmethod = "sft"\ndata = "@rows"\n{parent}'
        return f"{head}[step.settings]\n{settings}\nlearning_rate = {rate}\nheld_out = 0.2\n"

    text = f'recipe = 1\nkeep = "best"\n[base]\nmodel = "{tiny}"\n[[data]]\nname = "rows"\npath = "{sft_file.name}"\n'
    text += step("good", "0.01", "") + step("bad", "0.9", "") + step("on", "1e-8", 'parent = "@best"\n')
    assert sft_file.parent == tmp_path, "the path of the data begins at the recipe's folder"
    found = studio.run_recipe(write(tmp_path, text))
    assert found["figures"]["good"] < found["figures"]["bad"]
    good = next(step for step in found["steps"] if step["step"] == "good")
    on = next(step for step in found["steps"] if step["step"] == "on")
    assert runs.Run(Path(on["dir"])).config.parent == good["dir"]
    assert found["best"]["step"] == min(found["figures"], key=found["figures"].__getitem__)
    assert found["identical"] is None and f"Kept as the best: {found['best']['step']}" in found["said"]


def test_a_recipe_run_is_a_kind_of_run() -> None:
    assert worker.KINDS["recipe"] == "studio.lab.rounds:run"


# --- two rounds ------------------------------------------------------------------------------------------------------

TWO = paths.assets() / "recipes" / "two-rounds.toml"


def test_the_example_is_a_recipe_whose_files_are_there() -> None:
    made = recipe.read(TWO)
    found, places = sources.check(made, {})
    assert found.base.sha256 == made.base.sha256 and all(Path(place).is_file() for place in places.values())
    assert [step.kind for step in made.steps] == ["train", "train", *(2 * ["feedback", "train", "eval"])]


@pytest.mark.slow
def test_two_rounds_on_the_starter_give_the_same_weights_twice(tmp_path: Path) -> None:
    """Written down from what the first time made, and done again: bit for bit on a CPU."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    first = studio.run_recipe(TWO, out=tmp_path / "first")
    names = [step["step"] for step in first["steps"]]
    assert names == ["sft", "judge", "sampled-1", "dpo-1", "look-1", "sampled-2", "dpo-2", "look-2"]
    assert set(first["figures"]) == {"dpo-1", "dpo-2"} and first["best"]["step"] in first["figures"]
    last = tmp_path / "first" / "steps" / "dpo-2"
    made = studio.write_recipe(str(last))
    assert [step.kind for step in made.steps] == ["train", "train", "feedback", "train", "feedback", "train"]
    again = studio.run_recipe(write(tmp_path, made.text()), out=tmp_path / "again")
    assert again["identical"] is True and all(step.get("same_rows", True) for step in again["steps"])
    one = (last / "adapter" / "adapter_model.safetensors").read_bytes()
    assert Path(again["best"]["dir"], "adapter", "adapter_model.safetensors").read_bytes() == one
