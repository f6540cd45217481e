"""A model's own template is tried when the model is looked at: what is wrong with it is told, with a remedy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import studio
from studio.models import check
from studio.models.family import FAMILIES
from studio.render import encode, vet


@pytest.fixture
def folder(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "model"))


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("a\n{% for %}", "mistake in line 2"),
        ("{{ messages.__class__.__mro__[1].__subclasses__() }}", "must not"),
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "2 s"),
        ("{{ 'a' * 10**10 }}", "memory"),
        ("x" * (70 << 10), "64 KB"),
        ("always the same", "turn 1 (user)"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "turn 2 (assistant)"),
        ("{{ raise_exception('no' * 50000) }}", "refuses this conversation"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_told_and_the_model_is_not_refused(
    folder: Path, template: str, says: str
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    info = studio.check_model(str(folder))
    assert says in info.template_problem and "family" in info.template_problem
    assert len(info.template_problem) < 600
    request = {"folder": info.folder, "stop_tokens": info.stop_tokens}
    assert list(vet.handle(request, lambda: False)) == [{"template_problem": info.template_problem}]


def test_a_good_template_and_none_have_no_problem(folder: Path) -> None:
    assert studio.check_model(str(folder)).template_problem == ""
    (folder / "chat_template.jinja").write_text(FAMILIES["chatml"].template)
    assert vet.inspect(check.inspect(str(folder))).template == "its own"
    assert studio.check_model(str(folder)).template_problem == ""


def test_the_token_with_which_the_template_ends_an_answer_is_the_end_of_turn(folder: Path) -> None:
    """<|pad|> stands for a control token that nothing else knows as an end."""
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|pad|>{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    info = studio.check_model(str(folder))
    assert (info.end_of_turn, info.template_problem) == ("<|pad|>", "")
    assert info.stop_tokens == ["<|pad|>", "<|endoftext|>"] == encode.load(folder).stop_tokens


def test_a_template_without_any_way_to_open_an_answer_is_told(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }} {{ loop.index }}]{{ m.content }}<|im_end|>{% endfor %}"
    )
    assert "does not open the assistant's turn" in studio.check_model(str(folder)).template_problem
