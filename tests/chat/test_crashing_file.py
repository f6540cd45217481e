"""A file that passes every check and still ends llama.cpp is an error; the session and its next file live."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from making import make_model

from studio.chat.session import ENGINE
from studio.child import Child
from studio.errors import ChildCrashed, ModelError
from studio.export import gguf
from studio.models import ggufhead
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


def with_key(source: Path, out: Path, key: str, value: int) -> Path:
    """Copy a file with one more UINT32 key at the beginning of its metadata."""
    data, head = source.read_bytes(), ggufhead.read(source)
    entry = struct.pack("<Q", len(key)) + key.encode() + struct.pack("<II", 4, value)
    start, end = 24, head.infos[1]
    made = data[:16] + struct.pack("<Q", len(head.metadata) + 1) + entry + data[start:end]
    out.write_bytes(made + bytes(-len(made) % head.alignment) + data[head.data_offset :])
    return out


def test_a_file_that_ends_the_engine_is_an_error_and_the_next_file_loads(tmp_path: Path) -> None:
    base = make_model(tmp_path / "model")
    good = gguf.write(base, None, tmp_path / "good.gguf", encode.load(base), name="x")
    bad = with_key(good, tmp_path / "bad.gguf", "llama.expert_count", 100_000)  # asserted against, not checked
    assert ggufhead.read(bad).metadata["llama.expert_count"] == 100_000
    child = Child(ENGINE)
    try:
        for _ in range(2):
            with pytest.raises(ChildCrashed) as caught:
                child.ask({"op": "load", "gguf": str(bad)})
            assert caught.value.remedy and caught.value.exit_code == 1
        assert child.ask({"op": "load", "gguf": str(good)})["n_ctx"] > 0
    finally:
        child.close()


def test_the_engine_refuses_a_malformed_file_before_llama_cpp_sees_it(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 63) + bytes(32))
    child = Child(ENGINE)
    try:
        pid = None
        for op in ("load", "load"):
            with pytest.raises(ModelError, match="The name of key 1 takes 9,223,372"):
                child.ask({"op": op, "gguf": str(tmp_path / "bad.gguf")})
            assert pid in (None, child.pid), "the engine was started anew"
            pid = child.pid
    finally:
        child.close()


def test_mutated_files_that_pass_the_check_are_loaded_or_refused_and_the_engine_lives_on(tmp_path: Path) -> None:
    base = make_model(tmp_path / "model")
    good = gguf.write(base, None, tmp_path / "good.gguf", encode.load(base), name="x")
    data, end = good.read_bytes(), ggufhead.read(good).infos[1]
    child, path, outcomes = Child(ENGINE), tmp_path / "mutated.gguf", {"loaded": 0, "refused": 0, "ended": 0}
    try:
        for seed in range(150):
            dice = random.Random(seed)
            mutated = bytearray(data)
            for _ in range(2):
                mutated[dice.randrange(24, end)] = dice.choice([0, 1, 2, 127, 128, 255, dice.randrange(256)])
            path.write_bytes(mutated)
            try:
                ggufhead.read(path)
            except ModelError:
                continue
            try:
                child.ask({"op": "load", "gguf": str(path), "n_ctx": 64}, timeout=20)
                child.ask({"op": "unload"}, timeout=20)
                outcomes["loaded"] += 1
            except ModelError:
                outcomes["refused"] += 1
            except ChildCrashed as error:
                assert "no answer within" not in error.message, f"seed {seed} hangs llama.cpp"
                outcomes["ended"] += 1
        assert child.ask({"op": "load", "gguf": str(good)})["n_ctx"] > 0
        assert outcomes["loaded"] > 5, outcomes
    finally:
        child.close()
