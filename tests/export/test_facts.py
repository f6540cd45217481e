"""What a GGUF file says about itself, checked without the model that it was made from."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import gguf
import pytest
import tampering
from making import make_model

from studio.errors import ModelError
from studio.export import facts, repair
from studio.export import gguf as writing
from studio.models import ggufhead
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    base = make_model(folder / "model")
    (base / "chat_template.jinja").write_text(encode.load(base).source)
    return writing.write(base, None, folder / "x.gguf", encode.load(base), name="x")


def lines(path: Path) -> dict[str, dict[str, Any]]:
    document = facts.check(path)
    found = {line["name"]: line for line in document["lines"]}
    assert document["ok"] == all(line["ok"] is not False for line in found.values())
    assert all(bool(line["remedy"]) == (line["ok"] is False) for line in found.values())
    return found


def marks(path: Path) -> dict[str, bool | None]:
    return {name: line["ok"] for name, line in lines(path).items()}


GOOD = {
    "loads": True,
    "token ids": True,
    "prompts": True,
    "beginning": None,  # this model has no BOS
    "stop tokens": True,
    "numbers": True,
    "ending": None,
    "tensors": None,
    "adapter": None,
}


def test_a_good_file_is_green_and_what_needs_a_model_is_left_open(good: Path) -> None:
    assert marks(good) == GOOD


def test_a_base_without_a_template_is_red_with_the_way_out(tmp_path: Path) -> None:
    base = make_model(tmp_path / "model")
    path = writing.write(base, None, tmp_path / "x.gguf", encode.load(base), name="x")
    found = lines(path)
    assert found["prompts"]["ok"] is False and "--model M --repair OUT" in found["prompts"]["remedy"]
    assert found["numbers"]["ok"] and found["stop tokens"]["ok"] is None


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{% for m in messages %}{{ m.content }", "broken"),
        ("{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}", "the question is missing in: one turn"),
        ("{{ raise_exception('never again') }}", "never again"),
    ],
)
def test_a_template_that_cannot_render_a_chat_is_red(good: Path, tmp_path: Path, template: str, said: str) -> None:
    found = lines(repair.repair(good, tmp_path / "bad.gguf", template=template))
    assert found["prompts"]["ok"] is False and said in found["prompts"]["value"]
    assert found["loads"]["ok"] and found["numbers"]["ok"]


def test_a_template_without_a_place_for_a_system_text_is_not_at_fault(good: Path, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
    )
    found = lines(repair.repair(good, tmp_path / "x.gguf", template=template))
    assert found["prompts"]["ok"] and found["prompts"]["value"] == "12 of 12 conversations are rendered"


def test_more_than_one_bos_is_red(good: Path, tmp_path: Path) -> None:
    source = ggufhead.read(good).metadata[repair.TEMPLATE]
    for count, ok in ((1, True), (2, False)):
        path = repair.repair(
            good, tmp_path / f"{count}.gguf", bos=0, add_bos=True, template="<|endoftext|>" * count + source
        )
        assert lines(path)["beginning"]["ok"] is ok, count
    flagged = repair.repair(good, tmp_path / "flag.gguf", bos=0, add_bos=True)
    assert (
        lines(flagged)["beginning"]["ok"] is None and "asks programs to add one" in lines(flagged)["beginning"]["value"]
    )
    turns = repair.repair(good, tmp_path / "turns.gguf", bos=ggufhead.read(good).tokens.index("<|im_start|>"))
    assert "begins each turn" in lines(turns)["beginning"]["value"]


def test_a_stop_token_that_is_a_word_and_one_that_the_template_never_writes_are_red(good: Path, tmp_path: Path) -> None:
    found = lines(tampering.tamper_stop(good, tmp_path / "word.gguf"))
    assert found["stop tokens"]["ok"] is False and "'a', an ordinary piece of text" in found["stop tokens"]["value"]
    template = "{% for m in messages %}<|im_start|>{{ m.content }} <|pad|>{% endfor %}"
    found = lines(repair.repair(good, tmp_path / "pad.gguf", template=template))
    assert found["stop tokens"]["ok"] is False
    assert found["stop tokens"]["value"].startswith("the template ends a turn with <|pad|>, and the file stops at ")
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    assert lines(repair.repair(good, tmp_path / "text.gguf", template=template))["stop tokens"]["ok"] is None


@pytest.mark.parametrize("pattern", [b"\xff\xff", struct.pack("<e", 30_000.0)], ids=["not numbers", "huge"])
def test_weights_that_are_noise_are_red(good: Path, tmp_path: Path, pattern: bytes) -> None:
    path = Path(shutil.copyfile(good, tmp_path / "bad.gguf"))
    tensor = next(tensor for tensor in gguf.GGUFReader(good).tensors if tensor.name == "token_embd.weight")
    with path.open("r+b") as file:
        file.seek(int(tensor.data_offset))
        file.write(pattern * (int(tensor.n_bytes) // 4) + struct.pack("<e", -30_000.0) * (int(tensor.n_bytes) // 4))
    found = lines(path)
    assert found["numbers"]["ok"] is False
    assert {name: line["ok"] for name, line in found.items() if name != "numbers"} == {
        name: ok for name, ok in GOOD.items() if name != "numbers"
    }


def test_a_file_that_ends_llama_cpp_is_a_red_line_not_a_crash(good: Path, tmp_path: Path) -> None:
    data, head = good.read_bytes(), ggufhead.read(good)
    key = b"llama.expert_count"
    entry = struct.pack("<Q", len(key)) + key + struct.pack("<II", 4, 100_000)
    made = data[:16] + struct.pack("<Q", len(head.metadata) + 1) + entry + data[24 : head.infos[1]]
    (tmp_path / "bad.gguf").write_bytes(made + bytes(-len(made) % head.alignment) + data[head.data_offset :])
    found = lines(tmp_path / "bad.gguf")
    assert found["loads"]["ok"] is False and found["numbers"]["ok"] is None


def test_a_malformed_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1 << 63, 0))
    with pytest.raises(ModelError, match="tensors, which do not fit"):
        facts.check(tmp_path / "bad.gguf")
