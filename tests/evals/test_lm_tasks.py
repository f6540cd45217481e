"""Task folders of lm-eval: what they say, and what is refused before anything is loaded. Nothing here needs lm-eval."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

import lmfolder
import pytest

from studio import runs
from studio.cli.__main__ import run as command
from studio.errors import ConfigError, DataError, ToolMissing
from studio.evals import job, lmeval, lmtasks

ROWS = "dataset_path: json\ndataset_kwargs: {data_files: capitals.jsonl}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return lmfolder.write(tmp_path / "tasks")


def test_a_folder_gives_its_tasks_with_what_they_include_and_files_by_whole_paths(folder: Path) -> None:
    found = {task.name: task for task in lmtasks.read(folder)}
    assert list(found) == ["choose", "read", "say"]
    choose = found["choose"]
    assert choose.file == folder / "choose.yaml" and choose.config["output_type"] == "multiple_choice"
    assert choose.config["dataset_kwargs"] == {"data_files": {"test": str(folder / "capitals.jsonl")}}
    assert choose.config["test_split"] == "test" and "include" not in choose.config and "tag" not in choose.config
    json.dumps([task.config for task in found.values()])


def test_names_are_tasks_tags_and_groups_and_a_groups_settings_reach_its_tasks(folder: Path) -> None:
    (folder / "shots.yaml").write_text(
        "group: shots\nnum_fewshot: 2\ntask:\n- say\n- {task: choose, num_fewshot: 1}\n"
        "- {group: inner, task: [read], repeats: 3}\n"
    )
    assert [task.name for task in lmtasks.read(folder, ["capitals"])] == ["choose", "say"]
    assert [task.name for task in lmtasks.read(folder, ["all"])] == ["choose", "say", "read"]
    shots = {task.name: task.config for task in lmtasks.read(folder, ["shots"])}
    assert {name: config.get("num_fewshot") for name, config in shots.items()} == {"say": 2, "choose": 1, "read": 2}
    assert [task.name for task in lmtasks.read(folder, ["say", "capitals"])] == ["say", "choose"]


def test_a_changed_file_is_read_again(folder: Path) -> None:
    assert lmtasks.read(folder, ["say"])[0].config["output_type"] == "generate_until"
    (folder / "_common_yaml").write_text(lmfolder.FILES["_common_yaml"] + "num_fewshot: 3\n")
    assert lmtasks.read(folder, ["say"])[0].config["num_fewshot"] == 3


@pytest.mark.parametrize(
    ("text", "field", "said"),
    [
        ("dataset_path: allenai/ai2_arc", "dataset_path", "wants the data set allenai/ai2_arc of a hub"),
        ("doc_to_text: x", "dataset_path", "does not say where its rows are"),
        ("dataset_path: json", "dataset_kwargs", "names no files"),
        ("dataset_path: json\ndataset_kwargs: {data_files: 'https://example.org/x.jsonl'}", "dataset_kwargs", "wants"),
        ("dataset_path: json\ndataset_kwargs: {data_files: {test: ['hf://datasets/a/b']}}", "dataset_kwargs", "wants"),
        ("dataset_path: json\ndataset_kwargs: {data_files: not-there.jsonl}", "dataset_kwargs", "there is none"),
        (ROWS.replace("}", ", trust_remote_code: true}"), "dataset_kwargs", "trust_remote_code"),
        (ROWS + "metric_list: [{metric: rouge, hf_evaluate: true}]", "metric_list", "hf_evaluate"),
        (ROWS + "use_prompt: 'promptsource:x'", "use_prompt", "another collection"),
        (ROWS + "unsafe_code: true", "unsafe_code", "runs code that a model wrote"),
        (ROWS + "doc_to_image: picture", "doc_to_image", "asks about pictures"),
    ],
)
def test_a_task_that_wants_something_of_a_hub_is_refused_by_name_before_anything_is_written(
    folder: Path, text: str, field: str, said: str
) -> None:
    (folder / "far.yaml").write_text(f"task: far\n{text}\n")
    settings = {"lm-eval": {"tasks_folder": str(folder), "tasks": "far"}}
    with pytest.raises(DataError, match="The task far ") as caught:
        job.asked("starter", suites=["lm-eval"], settings=settings)
    assert said in caught.value.message and caught.value.remedy
    assert (caught.value.file, caught.value.field) == (str(folder / "far.yaml"), field)
    assert runs.all_runs() == []


def test_a_task_that_the_folder_does_not_have_is_told_with_those_that_it_has(folder: Path) -> None:
    with pytest.raises(ConfigError, match="There is no task 'mmlu'") as caught:
        lmtasks.read(folder, ["mmlu"])
    assert "all, choose, read, say" in caught.value.remedy and "hub" in caught.value.remedy


def test_a_folder_that_names_python_code_is_refused_until_that_is_allowed_in_plain_words(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef text(doc): return 'x'\n")
    (folder / "own.yaml").write_text(f"task: own\n{ROWS}doc_to_text: !function own.text\n")
    words = ["eval", "starter", "--suite", "lm-eval", "--tasks-folder", str(folder), "--tasks", "choose", "--json"]
    assert command(words) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == "allow_folder_code" and "own.yaml, line 4: !function own.text" in error["message"]
    assert "--allow-folder-code" in error["remedy"] and runs.all_runs() == []
    (task,) = lmtasks.read(folder, ["own"], code=True)
    assert task.config["doc_to_text"] == {"!function": "own.text", "folder": str(folder)}
    assert not (tmp_path / "ran").exists()  # reading runs nothing
    with pytest.raises(SystemExit):
        command(["eval", "--help"])
    assert "Run the Python code" in " ".join(capsys.readouterr().out.split())


def test_code_of_an_included_file_elsewhere_is_found_too(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text(f"{ROWS}process_docs: !function os.system\n")
    (folder / "far.yaml").write_text("include: ../outside\ntask: far\n")
    with pytest.raises(ConfigError, match=r"!function os\.system"):
        lmtasks.read(folder, ["far"])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("task: x\na: [1,", 3, "This is no YAML"),
        ("task: x\na: !!python/object/apply:os.system [ls]", 2, "could not determine a constructor"),
        ("- task", None, "no table"),
        ("task: say", None, "defined twice"),
        ("task: x\ninclude: not-there", None, "cannot be read"),
        ("task: x\ninclude: bad.yaml", None, "includes itself"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line(folder: Path, text: str, line: Any, said: str) -> None:
    (folder / "bad.yaml").write_text(text + "\n")
    with pytest.raises(DataError) as caught:
        lmtasks.read(folder)
    assert said in caught.value.message and caught.value.line == line and caught.value.remedy


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no folder is named"),
        ({"tasks_folder": "not-there"}, "There is no folder"),
        ({"tasks_folder": "."}, "no file"),
    ],
)
def test_a_folder_must_be_named_and_have_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said) as caught:
        job.asked("starter", suites=["lm-eval"], settings={"lm-eval": settings})
    assert caught.value.field == "tasks_folder"


def test_the_missing_package_is_told_with_the_line_that_installs_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "lm_eval" else real(name, *rest)
    )
    with pytest.raises(ToolMissing, match="lm-eval is not installed") as caught:
        job.asked("starter", suites=["lm-eval"], settings={"lm-eval": {"tasks_folder": str(folder)}})
    assert caught.value.remedy.endswith(f'-m pip install "{lmeval.NEEDS}"')
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["optional-dependencies"]["lm-eval"] == [lmeval.NEEDS]


def test_it_is_asked_only_where_it_is_named(folder: Path) -> None:
    assert "lm-eval" not in job.asked("starter").options["suites"]
    with pytest.raises(ConfigError, match="'lm-eval' is not evaluated here"):
        job.asked("starter", suites=["fit"], settings={"lm-eval": {"tasks_folder": str(folder)}})
