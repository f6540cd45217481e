"""The task files of a folder (lm-eval's YAML), read without running anything that stands in them.

A file is plain data but for its tag !function, which names Python code: it is kept as a marker {"!function": name,
"folder": where the file lies}, and nothing is loaded of a folder that has one until its owner allows it. What is read
here is what lm-eval gets, so that what was checked is what runs. Rows come from files of this machine only.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.errors import ConfigError, DataError

FUNCTION = "!function"
#: Readers of `datasets` that take files and fetch nothing.
READERS = ("json", "csv", "parquet", "text")
#: Folders that hold no tasks, and the most task files of a folder.
_IGNORED, _MOST = ("__pycache__", ".ipynb_checkpoints"), 2000
Config = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Task:
    """A task: its name, the file it stands in, and its whole config with files by their whole paths."""

    name: str
    file: Path
    config: Config


@dataclasses.dataclass(frozen=True)
class _Folder:
    """What the files of a folder say: configs by task, groups, and where code is named: (file, line, function)."""

    tasks: dict[str, Task]
    groups: dict[str, Task]
    code: list[tuple[Path, int, str]]


def read(folder: Path, names: Sequence[str] = (), code: bool = False) -> list[Task]:
    """Give the tasks of a folder that the names (tasks, groups, tags) stand for, all where there is none.

    `code`: what !function names may run. Raises ConfigError: no such folder or task, code that is not allowed;
    DataError, with file and line: a file that cannot be read, a task that wants something of a hub.
    """
    if not folder.is_dir():
        raise ConfigError(
            f"There is no folder {folder}.", "Name a folder with task files (*.yaml).", field="tasks_folder"
        )
    near = [path for path in sorted(folder.rglob("*yaml*")) if not set(path.parts) & set(_IGNORED) and path.is_file()]
    files = [path for path in near if path.suffix == ".yaml"]
    if not files or len(files) > _MOST:
        what = f"more than {_MOST} files *.yaml" if files else "no file *.yaml"
        raise ConfigError(f"The folder {folder} has {what}.", "Name the folder of your tasks.", field="tasks_folder")
    found = _found(tuple(files), tuple(path.stat().st_mtime_ns for path in near))
    if found.code and not code:
        file, line, name = found.code[0]
        raise ConfigError(
            f"{file}, line {line}: {FUNCTION} {name} is Python code, and this folder's code is not to be run.",
            "Read the folder's code first. To run it, with all that you may do on this machine: --allow-folder-code "
            "(the setting allow_folder_code). Or name a folder of tasks without code.",
            field="allow_folder_code",
        )
    made: dict[str, Task] = {}
    for name in names or found.tasks:
        for task in _expanded(found, name, {}, ()):
            made.setdefault(task.name, task)
    if not made:
        raise ConfigError(f"The files of {folder} define no task.", "A task's file has `task: NAME`.", field="tasks")
    return [dataclasses.replace(task, config=_local(folder, task)) for task in made.values()]


# --- files -----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=4)
def _found(files: tuple[Path, ...], versions: tuple[int, ...]) -> _Folder:
    """Read the files of a folder, again only when one of them, or one that they include, has changed."""
    made = _Folder({}, {}, [])
    for path in files:
        config = _loaded(path, made.code, ())
        if isinstance(config.get("task"), list) and isinstance(config.get("group"), str):
            made.groups.setdefault(config["group"], Task(config["group"], path, config))
        elif isinstance(name := config.get("task"), str):
            if name in made.tasks:
                raise DataError(
                    f"The task {name} is defined twice, in {made.tasks[name].file} too.",
                    "Give one of them another name.",
                    file=str(path),
                    field="task",
                )
            made.tasks[name] = Task(name, path, config)
    return made


def _loaded(path: Path, code: list[tuple[Path, int, str]], seen: tuple[Path, ...]) -> Config:
    """Read a file with what it includes; its own keys win. Raises DataError."""
    if path in seen:
        raise DataError("The file includes itself.", "Take the `include` out.", file=str(path), field="include")
    config = _parsed(path, code)
    config.pop("task_list", None)
    includes = config.pop("include", None) or []
    made: Config = {}
    for one in includes if isinstance(includes, list) else [includes]:
        made |= _loaded((path.parent / str(one)).resolve(), code, (*seen, path))
    return made | config


def _parsed(path: Path, code: list[tuple[Path, int, str]]) -> Config:
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        """Plain data; a tag that nobody knows is an error."""

    def function(loader: Any, node: Any) -> Config:
        name = str(loader.construct_scalar(node))
        code.append((path, node.start_mark.line + 1, name))
        return {FUNCTION: name, "folder": str(path.parent)}

    yaml.add_constructor(FUNCTION, function, Loader=Loader)
    try:
        config = yaml.load(path.read_text("utf-8"), Loader=Loader)
    except OSError as error:
        raise DataError(f"The file cannot be read ({error.strerror}).", "Check `include`.", file=str(path)) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        remedy = f"Write plain YAML; of tags only {FUNCTION} is known."
        line = mark.line + 1 if mark is not None else None
        raise DataError(f"This is no YAML: {what}.", remedy, file=str(path), line=line) from None
    if not isinstance(config, dict):
        raise DataError("The file is no table of keys and values.", "Write `task: NAME` and so on.", file=str(path))
    return config


# --- names -----------------------------------------------------------------------------------------------------------


def _expanded(found: _Folder, name: str, over: Config, seen: tuple[str, ...]) -> Iterator[Task]:
    """Give the tasks that a name stands for, with the settings of the groups around it."""
    if name in seen:
        raise ConfigError(f"The group {name} is a part of itself.", "Take it out of its list.", field="tasks")
    tagged = [task for task in found.tasks.values() if name in _tags(task.config)]
    if name in found.tasks:
        yield _with(found.tasks[name], over)
    elif name in found.groups:
        yield from _members(found, found.groups[name], over, (*seen, name))
    elif tagged:
        yield from (_with(task, over) for task in tagged)
    else:
        there = ", ".join(sorted([*found.tasks, *found.groups])[:20])
        raise ConfigError(
            f"There is no task {name!r} in the folder.",
            f"It has: {there}. Tasks that come with lm-eval fetch their rows from a hub and are not asked: save those "
            "rows as JSON lines, and write a task file of your own beside them.",
            field="tasks",
        )


_OF_GROUPS = ("group", "group_alias", "task", "aggregate_metric_list", "metadata", "tag")


def _members(found: _Folder, group: Task, over: Config, seen: tuple[str, ...]) -> Iterator[Task]:
    shared = {key: value for key, value in group.config.items() if key not in _OF_GROUPS} | over
    for one in group.config["task"]:
        if isinstance(one, str):
            yield from _expanded(found, one, shared, seen)
        elif isinstance(one, dict) and isinstance(one.get("task"), list) and isinstance(one.get("group"), str):
            yield from _members(found, Task(one["group"], group.file, one), shared, (*seen, one["group"]))
        elif isinstance(one, dict) and isinstance(name := one.get("task", one.get("group")), str):
            own = {key: value for key, value in one.items() if key not in ("task", "group")}
            if name in found.tasks or name in found.groups:
                yield from _expanded(found, name, shared | own, seen)
            else:
                yield Task(name, group.file, shared | own | {"task": name})
        else:
            raise DataError(
                f"A member of the group {group.name} is no task.", "Name tasks.", file=str(group.file), field="task"
            )


def _with(task: Task, over: Config) -> Task:
    return dataclasses.replace(task, config={**task.config, **over, "task": task.name})


def _tags(config: Mapping[str, Any]) -> list[Any]:
    tags = config.get("tag") or []
    return tags if isinstance(tags, list) else [tags]


# --- what must not be ------------------------------------------------------------------------------------------------

_SAVE = "Save its rows as JSON lines, and write `dataset_path: json` and `dataset_kwargs: {data_files: {test: FILE}}`."


def _local(folder: Path, task: Task) -> Config:
    """Check that a task takes nothing from elsewhere; its config with files by their whole paths. Raises DataError."""
    config = {key: value for key, value in task.config.items() if key not in ("tag", "group")}
    given = config.get("dataset_kwargs") or {}
    if not isinstance(given, dict):
        raise _refused(task, "dataset_kwargs", "is no table", "Write `dataset_kwargs: {data_files: FILE}`.")
    if given.get("trust_remote_code"):
        raise _refused(task, "dataset_kwargs", "wants a hub's code to be run (trust_remote_code)", _SAVE)
    metrics = config.get("metric_list") or []
    if any(isinstance(one, dict) and one.get("hf_evaluate") for one in metrics if isinstance(metrics, list)):
        raise _refused(
            task, "metric_list", "wants a metric of a hub (hf_evaluate)", "Name a metric of lm-eval's own: exact_match."
        )
    for key, what, remedy in _NOT_HERE:
        if config.get(key):
            raise _refused(task, key, what, remedy)
    if "class" in config or config.get("custom_dataset"):
        return config  # code that was allowed makes the rows
    if (path := config.get("dataset_path")) not in READERS:
        wants = f"wants the data set {path} of a hub" if path else "does not say where its rows are (dataset_path)"
        raise _refused(task, "dataset_path", wants, _SAVE)
    if not given.get("data_files"):
        raise _refused(task, "dataset_kwargs", "names no files (data_files)", _SAVE)
    files = _whole(folder, task, given["data_files"])
    return {**config, "dataset_kwargs": {**given, "data_files": files}}


_NOT_HERE = (
    ("use_prompt", "takes its prompts from another collection (use_prompt)", "Write them as doc_to_text."),
    ("doc_to_image", "asks about pictures", "Only text is asked here."),
    ("doc_to_audio", "asks about sounds", "Only text is asked here."),
    ("unsafe_code", "runs code that a model wrote (unsafe_code)", "That is not done here; choose another task."),
)


def _refused(task: Task, field: str, what: str, remedy: str) -> DataError:
    message = f"The task {task.name} {what}; only local tasks are asked."
    return DataError(message, remedy, file=str(task.file), field=field)


def _whole(folder: Path, task: Task, files: Any) -> Any:
    """Give data_files by whole paths: a relative one lies beside the task's file, in its folder, or where we stand."""
    if isinstance(files, dict):
        return {split: _whole(folder, task, one) for split, one in files.items()}
    if isinstance(files, list):
        return [path for one in files for path in _paths(folder, task, str(one))]
    found = _paths(folder, task, str(files))
    return found[0] if len(found) == 1 else found


def _paths(folder: Path, task: Task, file: str) -> list[str]:
    if "://" in file:
        raise _refused(task, "dataset_kwargs", f"wants the file {file}", "Fetch it first, and name it by its path.")
    for start in (task.file.parent, folder, Path.cwd()):
        path = start / Path(file).expanduser()
        found = sorted(path.parent.glob(path.name)) if path.parent.is_dir() and set("*?[") & set(path.name) else [path]
        if found and all(one.is_file() for one in found):
            return [str(one.resolve()) for one in found]
    raise DataError(
        f"The task {task.name} names the file {file}, and there is none.",
        "Put it beside the task's file, or name it by its whole path.",
        file=str(task.file),
        field="dataset_kwargs",
    )
