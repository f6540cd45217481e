"""One copy of the weights for several panes: adapters and their strength, checked against merged weights."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from loras import write_lora
from making import make_model

from studio.chat.session import Pane, Session
from studio.errors import DataError, ModelError
from studio.export import gguf
from studio.render import encode

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

ALPHA, RANK = 8.0, 4
TALK = [{"role": "user", "content": "What do cows eat?"}]
NAMES = {"ffn_gate": "gate_proj", "ffn_up": "up_proj", "ffn_down": "down_proj"}


@dataclasses.dataclass
class Made:
    """A tiny model with its file, two adapters, and what they add to each weight at strength 1."""

    folder: Path
    file: str
    lora: str
    other: str
    added: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("one")
    base = make_model(folder / "model")
    (base / "chat_template.jinja").write_text(encode.load(base).source)
    file = gguf.write(base, None, folder / "base.gguf", encode.load(base), name="tiny", dtype="F32")
    added = write_lora(file, folder / "lora.gguf", seed=1, rank=RANK, alpha=ALPHA, size=0.2)
    write_lora(file, folder / "other.gguf", seed=2, rank=RANK, alpha=ALPHA, size=0.2)
    scaled = {name: ALPHA / RANK * product for name, product in added.items()}
    return Made(base, str(file), str(folder / "lora.gguf"), str(folder / "other.gguf"), scaled)


@pytest.fixture
def session(made: Made) -> Session:
    opened = Session([Pane("base", made.file), Pane("tuned", made.file, adapter=made.lora)], n_ctx=192)
    yield opened
    opened.close()


def likely(made: Made, strength: float, ids: list[int], answer: int) -> np.ndarray:
    """Give p of the last `answer` ids under the merged model, by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(made.folder, dtype=torch.float32)
    weights = model.state_dict()
    for name, product in made.added.items():
        _, layer, part, _ = name.split(".")
        weights[f"model.layers.{layer}.mlp.{NAMES[part]}.weight"] += strength * torch.tensor(product)
    with torch.no_grad():
        p = torch.softmax(model(torch.tensor([ids])).logits[0], -1).numpy()
    first = len(ids) - answer
    return np.array([p[place - 1, ids[place]] for place in range(first, len(ids))])


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.5])
def test_scores_are_transformers_probabilities_of_the_merged_weights(
    made: Made, session: Session, strength: float
) -> None:
    session.set_strength(1, strength)
    prompt = session.prompt(1, TALK)["ids"]
    found = session.scores(1, TALK, text="Cows eat grass, of course.")
    ids = [token["id"] for token in found["tokens"]]
    wanted = likely(made, strength, prompt + ids, len(ids))
    assert found["prompt_tokens"] == len(prompt)
    assert np.allclose([token["p"] for token in found["tokens"]], wanted, rtol=0.02, atol=1e-6)
    assert "".join(token["text"] for token in found["tokens"]) == "Cows eat grass, of course."


def test_both_panes_are_on_one_copy_and_the_adapter_is_on_its_own_pane_only(made: Made, session: Session) -> None:
    assert [told["shared"] for told in session.load()] == [1, 2]
    alone = session.answer(0, TALK, max_tokens=20)["ids"]
    tuned = session.answer(1, TALK, max_tokens=20)["ids"]
    assert tuned != alone
    assert session.answer(0, TALK, max_tokens=20)["ids"] == alone
    session.set_strength(1, 0.0)
    assert session.answer(1, TALK, max_tokens=20)["ids"] == alone
    session.set_strength(1, 1.0)
    assert session.answer(1, TALK, max_tokens=20)["ids"] == tuned


def test_an_adapter_switched_off_leaves_no_trace(session: Session) -> None:
    def p() -> list[float]:
        return [token["p"] for token in session.scores(1, TALK, text="Grass and hay.")["tokens"]]

    session.set_strength(1, 0.0)
    before = p()
    for strength in (1.0, 1.5, 0.3):
        session.set_strength(1, strength)
        assert p() != before
    session.set_strength(1, 0.0)
    assert p() == before


def test_a_change_of_adapter_forgets_what_was_evaluated_under_the_other(made: Made, session: Session) -> None:
    def ask() -> dict[str, Any]:
        return session.answer(1, [*TALK, {"role": "assistant", "content": "Grass."}, *TALK], max_tokens=8)

    first = ask()
    session.change(1, adapter=made.other)
    changed = ask()
    assert changed["reused"] == 0 and changed["ids"] != first["ids"]
    session.change(1, adapter=made.lora)
    assert ask()["ids"] == first["ids"]


def test_many_adapters_one_after_the_other_are_each_the_right_one(made: Made, tmp_path: Path) -> None:
    session = Session([Pane("scrub", made.file)], n_ctx=128)
    try:
        said = {}
        for step in range(11):
            write_lora(Path(made.file), tmp_path / f"step-{step}.gguf", seed=step, size=0.2)
        for step in [*range(11), 0, 5]:
            session.change(0, adapter=str(tmp_path / f"step-{step}.gguf"))
            ids = session.answer(0, TALK, max_tokens=12)["ids"]
            assert said.setdefault(step, ids) == ids
        assert len(set(map(tuple, said.values()))) > 5
    finally:
        session.close()


def test_an_adapter_of_another_model_is_refused_with_a_remedy(made: Made, tmp_path: Path) -> None:
    wide = make_model(tmp_path / "wide", hidden_size=128)
    file = gguf.write(wide, None, tmp_path / "wide.gguf", encode.load(wide), name="wide", dtype="F32")
    session = Session([Pane("x", str(file), adapter=made.lora)])
    try:
        with pytest.raises(ModelError) as caught:
            session.answer(0, TALK)
        assert "cannot put this adapter on wide.gguf" in caught.value.message and caught.value.remedy
        session.change(0, adapter="")
        assert session.answer(0, TALK, max_tokens=3)["tokens"] <= 3
    finally:
        session.close()


def test_a_conversation_goes_on_from_what_is_evaluated(made: Made, session: Session) -> None:
    first = session.answer(0, TALK, max_tokens=6)
    assert first["reused"] == 0
    talk = [*TALK, {"role": "assistant", "content": first["text"]}, {"role": "user", "content": "And dogs?"}]
    second = session.answer(0, talk, max_tokens=6)
    assert first["prompt_tokens"] <= second["reused"] < second["prompt_tokens"]
    fresh = Session([Pane("x", made.file)], n_ctx=192)
    try:
        assert fresh.answer(0, talk, max_tokens=6)["ids"] == second["ids"]
    finally:
        fresh.close()
    again = session.answer(0, talk, max_tokens=6)
    assert again["ids"] == second["ids"] and again["reused"] == second["reused"]


def test_a_question_asked_again_gets_the_same_probabilities_bit_for_bit(session: Session) -> None:
    talk = [*TALK, {"role": "assistant", "content": "Grass."}, *TALK]
    session.answer(0, TALK, max_tokens=4)

    def p() -> list[float]:
        return [token["p"] for token in session.scores(0, talk, text="Hay, too.")["tokens"]]

    assert p() == p()


def test_scores_after_the_other_panes_prompt_differ_by_the_adapter_only(made: Made) -> None:
    session = Session([Pane("base", made.file, raw=True), Pane("tuned", made.file, adapter=made.lora)], n_ctx=128)
    try:
        own = session.scores(0, TALK, text="Grass.")
        like = session.scores(0, TALK, text="Grass.", like=1)
        session.set_strength(1, 0.0)
        off = session.scores(1, TALK, text="Grass.")
        assert own["prompt_tokens"] < like["prompt_tokens"] == off["prompt_tokens"]
        assert np.allclose([t["p"] for t in like["tokens"]], [t["p"] for t in off["tokens"]], rtol=1e-4)
        for token in off["tokens"]:
            top = [other["p"] for other in token["top"]]
            assert top == sorted(top, reverse=True) and (token["rank"] == 0) == (token["id"] == token["top"][0]["id"])
        with pytest.raises(DataError, match="no token ids"):
            session.scores(0, TALK, ids=[10**6])
    finally:
        session.close()


def test_a_pane_says_who_it_is(made: Made, session: Session) -> None:
    session.set_strength(1, 0.5)
    base, tuned = session.identity(0), session.identity(1)
    whole = hashlib.sha256(Path(made.file).read_bytes()).hexdigest()
    adapter = hashlib.sha256(Path(made.lora).read_bytes()).hexdigest()
    assert base["sha256"] == tuned["sha256"] == whole[:12]
    assert (base["adapter"], base["adapter_sha256"]) == ("", "")
    assert (tuned["adapter"], tuned["adapter_sha256"], tuned["strength"]) == ("lora.gguf", adapter[:12], 0.5)
    assert (tuned["file"], tuned["type"], tuned["context"], tuned["device"]) == ("base.gguf", "F32", 192, "CPU")


def test_a_file_that_was_written_anew_is_hashed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio.chat import identity

    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    file = tmp_path / "x.gguf"
    file.write_bytes(b"one")
    assert identity.known(str(file)) == ""
    first = identity.sha256(str(file))
    assert first == hashlib.sha256(b"one").hexdigest() == identity.known(str(file))
    file.write_bytes(b"another")
    assert identity.known(str(file)) == ""
    assert identity.sha256(str(file)) == hashlib.sha256(b"another").hexdigest()
    assert identity.sha256(str(tmp_path / "none")) == ""


def test_closing_one_pane_leaves_the_other_its_weights(made: Made, session: Session) -> None:
    session.load()
    said = session.answer(0, TALK, max_tokens=5)["ids"]
    session._child.ask({"op": "unload", "gguf": made.file, "pane": "1"})
    assert session.answer(0, TALK, max_tokens=5)["ids"] == said
    session._child.ask({"op": "unload"})
    assert session.load()[0]["shared"] == 1
    assert session.answer(0, TALK, max_tokens=5)["ids"] == said
