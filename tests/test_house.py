"""The house's law: imports point down, and the rooms marked as light never load a framework."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "studio"

LAYERS = [
    {"errors", "config", "events", "paths", "disk", "child", "redact", "awake", "loopback"},
    {"runs", "jobs", "trash", "stock", "backends", "hardware", "models", "data", "objectives"},
    {"render", "chat"},
    {"methods", "train"},
    {"export", "feedback"},
    {"evals"},
    {"lab"},
    {"worker"},
    {"cli", "ui", "__init__", "__main__"},
]
LIGHT = ["errors", "config", "events", "paths", "disk", "child", "redact", "awake", "loopback"]
LIGHT += ["runs", "jobs", "trash", "stock", "backends", "models", "data"]
LIGHT += ["chat/session", "chat/identity", "chat/protocol", "chat/serve"]
HEAVY = {"torch", "transformers", "llama_cpp", "gradio"}


def _layer(room: str) -> int:
    return next(level for level, rooms in enumerate(LAYERS) if room in rooms)


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> list[str]:
    """Every module named in an import statement, inside functions too; imports for types only do not run."""
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "bootstrap.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_import_points_up(path: Path) -> None:
    here = _layer(_room(path))
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "studio" and len(parts) > 1 and parts[1] != "__version__":
            assert _layer(parts[1]) <= here, f"{path.relative_to(ROOT)} imports {name}"


def test_objectives_import_nothing_else_of_ours() -> None:
    for path in (PACKAGE / "objectives").glob("*.py"):
        assert all(name.startswith("studio.objectives") for name in _imports(path) if name.startswith("studio"))


@pytest.mark.parametrize("room", LIGHT)
def test_light_rooms_never_name_a_framework(room: str) -> None:
    place = PACKAGE / room
    for path in place.rglob("*.py") if place.is_dir() else [place.with_suffix(".py")]:
        assert not {name.split(".")[0] for name in _imports(path)} & HEAVY, path


@pytest.mark.parametrize(
    ("module", "banned"),
    [
        ("studio", HEAVY),
        ("studio.ui", {"torch", "transformers", "llama_cpp"}),
        ("studio.cli.__main__", HEAVY),
        ("studio.methods", HEAVY),
        ("studio.chat.session", HEAVY),
        ("studio.hardware", HEAVY),
    ],
)
def test_importing_a_door_loads_no_framework(module: str, banned: set[str]) -> None:
    code = f"import {module}, sys; print(sorted({banned!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_python_door_is_sorted_and_whole() -> None:
    import studio

    public = [name for name, value in vars(studio).items() if not name.startswith("_") and callable(value)]
    import studio.export
    import studio.train  # opening a room must not take a function's name away

    ours = [name for name in public if getattr(getattr(studio, name), "__module__", "") == "studio"]
    assert studio.__all__ == sorted(studio.__all__) == sorted(ours)


def test_every_from_pretrained_refuses_foreign_code_in_words() -> None:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Attribute) and called.attr == "from_pretrained":
                assert isinstance(node, ast.Call)
                words = {keyword.arg: keyword.value for keyword in node.keywords}
                ours = {"state_dict", "is_trainable"} & set(words)  # reads nothing, or tensors only
                assert ours or ast.dump(words["trust_remote_code"]) == ast.dump(ast.Constant(False)), path
