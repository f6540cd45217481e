"""Every command of the README is run as it is written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from studio.cli.__main__ import run

ROOT = Path(__file__).parent.parent
#: Run elsewhere: the installation by test_bootstrap.py, the window by tests/ui, the demo by tests/lab and tests/ui.
ELSEWHERE = {"git", "./run", "./run demo"}


def commands() -> list[str]:
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def test_the_readme_starts_with_two_commands() -> None:
    assert commands()[:2] == ["git clone <this repository> studio && cd studio", "./run"]


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["few steps", "whole"])
def test_the_path_of_the_readme_runs_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whole: bool
) -> None:
    """As written; without --slow a training takes a few steps, and a certificate may find that not all is learned."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    path = [line for line in commands() if line not in ELSEWHERE and line.split()[0] not in ELSEWHERE - {"./run"}]
    assert len(path) >= 6
    for line in path:
        words = shlex.split(line)
        assert words[0] == "./run"
        few = [] if whole or words[1] != "train" else ["--set", f"max_steps={45 if words[2] == 'sft' else 8}"]
        code = run([*words[1:], *few])
        out = capsys.readouterr()
        assert code == 0 or (code == 3 and not whole), f"{line}\n{out.out}\n{out.err}"
        if words[1] == "chat" and whole:
            assert "Paris" in out.out


def test_every_picture_and_link_of_the_readme_is_there() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (ROOT / target).exists(), target


def test_the_tree_names_every_file_at_the_top_of_the_package() -> None:
    tree = re.search(r"## What lies where\n\n```\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert tree is not None
    for path in sorted((ROOT / "studio").iterdir()):
        name = path.name.removesuffix(".py")
        if not name.startswith("__"):
            assert re.search(rf"\b{name}\b", tree[1]), f"{name} is not in the README's tree"
