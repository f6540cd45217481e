"""Quality against size: the figures against transformers and against numbers by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import make_model

from studio.errors import ExportError, Stopped
from studio.export import gguf, quality, quantize, rows
from studio.render import encode
from studio.render.labels import IGNORE, Encoded

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("wide") / "model", hidden_size=256, intermediate_size=512)


@pytest.fixture(scope="module")
def whole(wide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("files") / "x-F16.gguf"
    return gguf.write(wide, None, place, encode.load(wide), name="x", dtype="F16")


def row(seed: int, size: int, learned: int) -> Encoded:
    """Make a row whose last `learned` tokens are learned."""
    ids = np.random.default_rng(seed).integers(4, 300, size).tolist()
    return Encoded(ids, [IGNORE] * (size - learned) + ids[size - learned :])


ROWS = [row(0, 20, 5), row(1, 150, 60), row(2, 9, 9), row(3, 6, 0)]


def logits(path: Path, base: Path | None = None) -> list[Any]:
    """Give the logits before each learned token, by transformers reading the folder or the file, one list a row."""
    import torch
    from transformers import AutoModelForCausalLM

    given = {"gguf_file": path.name} if base is None else {}
    model = AutoModelForCausalLM.from_pretrained(base or path.parent, dtype=torch.float32, **given).eval()
    with torch.no_grad():
        found = [model(torch.tensor([one.ids])).logits[0, :-1].double() for one in ROWS]
    keep = [torch.tensor([label != IGNORE for label in one.labels[1:]]) for one in ROWS]
    return [values[mask].log_softmax(-1).numpy() for values, mask in zip(found, keep, strict=True)]


def test_the_table_holds_what_transformers_finds(wide: Path, whole: Path, tmp_path: Path) -> None:
    files = [("F16", whole)]
    for type_ in ("Q4_0", "Q8_0"):
        quantize.quantize(whole, tmp_path / f"x-{type_}.gguf", type_)
        files.append((type_, tmp_path / f"x-{type_}.gguf"))
    told: list[dict[str, Any]] = []
    found = quality.measure(("F16", whole), files, rows.Rows([], ROWS, True, "d"), tmp_path, told.append)
    assert [one["type"] for one in found["files"]] == ["F16", "Q8_0", "Q4_0"] and found["tokens"] == 5 + 60 + 8
    assert found["files"][0]["kl"] == 0 and found["files"][0]["top1"] == 1
    targets = np.concatenate([[label for label in one.labels[1:] if label != IGNORE] for one in ROWS]).astype(int)
    p = np.concatenate(logits(whole, wide))
    for one, (_, path) in zip(found["files"], [files[0], files[2], files[1]], strict=True):
        q = np.concatenate(logits(path))
        kl = (np.exp(p) * (p - q)).sum(-1).mean()
        assert one["kl"] == pytest.approx(kl, rel=0.05, abs=1e-4)
        assert one["top1"] == pytest.approx((p.argmax(-1) == q.argmax(-1)).mean(), abs=2 / 73)
        assert one["perplexity"] == pytest.approx(np.exp(-q[np.arange(73), targets].mean()), rel=2e-3)
        assert one["bytes"] == path.stat().st_size and one["tokens_per_s"] > 0
    assert found["files"][2]["kl"] > 10 * found["files"][1]["kl"] > 0
    assert told[-1]["done"] == told[-1]["total"] == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x-Q4_0.gguf", "x-Q8_0.gguf"]


def test_the_reference_on_the_disk_is_bounded(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = ROWS[:3]
    request = {
        "gguf": str(whole),
        "first": True,
        "reference": str(tmp_path / "r.npy"),
        "rows": [one.ids for one in measured],
        "wanted": [rows.predicting(one) for one in measured],
        "prompts": [],
    }
    *_, full = quality.handle(request, lambda: False)
    vocabulary = np.load(tmp_path / "r.npy").shape[1]
    monkeypatch.setattr(quality, "MOST_BYTES", 4 * vocabulary * 20)
    *_, part = quality.handle(request, lambda: False)
    assert (full["n"], part["n"]) == (73, 20) and np.load(tmp_path / "r.npy").shape == (20, vocabulary)
    *_, again = quality.handle({**request, "first": False}, lambda: False)
    assert again["n"] == 20 and again["kl"] < 1e-9 and again["top1"] == 1


def test_a_stop_leaves_nothing_and_rows_without_answers_are_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        quality.measure(("F16", whole), [], rows.Rows([], ROWS, True, "d"), tmp_path, should_stop=lambda: True)
    with pytest.raises(ExportError, match="hold no answer"):
        quality.measure(("F16", whole), [], rows.Rows([], ROWS[3:], True, "d"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_predictions_of_learned_tokens_count() -> None:
    assert rows.predicting(Encoded([5, 6, 7, 8], [IGNORE, IGNORE, 7, 8])) == [False, True, True, False]
    assert rows.predicting(Encoded([5, 6], [5, 6])) == [True, False]


def file(type_: str, size: int, kl: float, top1: float) -> dict[str, Any]:
    return {"type": type_, "bytes": size, "kl": kl, "top1": top1}


def test_the_smallest_file_that_stays_close_is_suggested() -> None:
    whole = file("F16", 1000, 0, 1)
    table = [
        whole,
        file("Q8_0", 531, 0.0005, 0.999),
        file("Q5_K_M", 340, 0.0041, 0.9949),
        file("Q4_K_M", 300, 0.03, 0.96),
    ]
    assert quality.suggest(table) == {
        "type": "Q5_K_M",
        "text": "Q5_K_M: a third of the size, KL 0.0041, 99 % of next tokens agree.",
    }
    far = quality.suggest([whole, file("Q8_0", 531, 0.02, 0.9499)])["text"]
    assert far.startswith("None of these is close to F16; the closest is Q8_0: 53 % of the size, KL 0.02, 94 %")
    assert quality.suggest([whole, file("F32", 2000, 0, 1)]) == {"type": "", "text": ""}
