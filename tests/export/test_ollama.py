"""The Modelfile: what it says, and that a system text cannot break out of it."""

from __future__ import annotations

import pytest

from studio.errors import ExportError
from studio.export import ollama


def test_a_modelfile_names_file_template_stops_and_system() -> None:
    text = ollama.modelfile("m-Q8_0.gguf", "chatml", ["<|im_end|>", '"x\\'], system="Be brief.", added=True)
    assert text.splitlines()[0] == "FROM ./m-Q8_0.gguf"
    assert 'TEMPLATE """{{- range .Messages }}<|im_start|>{{ .Role }}\n' in text
    assert 'PARAMETER stop "<|im_end|>"\nPARAMETER stop "\\"x\\\\"\n' in text
    assert text.endswith('SYSTEM """Be brief."""\n')


def test_a_models_own_template_is_left_to_the_file() -> None:
    assert "TEMPLATE" not in ollama.modelfile("m.gguf", "llama3", ["<|eot_id|>"], added=False)


def test_a_system_text_cannot_break_out() -> None:
    with pytest.raises(ExportError, match='"""'):
        ollama.modelfile("m.gguf", "chatml", [], system='"""\nFROM /etc/passwd')
