"""Adapters made elsewhere on the chat page: a folder or a hub id is opened, checked against its base, and answers."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from making import make_model

from studio.errors import InputError, ModelError
from studio.models import elsewhere
from studio.ui import chatopen, chatpick, chatprep, chatset, chatview, choice, live, talk
from studio.ui.chatopen import Who

TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"


@pytest.fixture
def lora(foreign: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the adapter that a test may change."""
    yield Path(shutil.copytree(foreign, tmp_path / "my lora"))
    talk.unload()
    chatpick.opening.clear()


def names(folder: Path, base: object) -> None:
    path = folder / elsewhere.CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(base)}))


def said(text: str) -> talk.Turn:
    turns = [{"user": text, "seed": 0}]
    return list(talk.answer(turns, Who.now(live.look(), chatset.Asked(max_tokens=12))))[-1][0]


def likely(pane: int) -> float:
    """Give how likely a pane holds a token to come next."""

    def read(opened: chatopen.Opened) -> float:
        asked = [{"role": "user", "content": "The capital of"}]
        return float(opened.session.scores(opened.at(pane), asked, ids=[100])["tokens"][0]["p"])

    found: float = talk.look(Who.now(live.look()), read)
    return found


def test_an_opened_folder_answers_beside_the_picked_base_on_one_copy_of_its_weights(tiny: Path, lora: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    choice.update(model=str(tiny))
    chatpick.open_place("right", f' "{lora}" ', str(tiny))
    drawn = chatview.head(1, live.look())
    assert "Adapter: my lora</option>" in drawn and "Strength" in drawn
    turn = said("The capital of")
    base, tuned = turn["who"]
    assert base["sha256"] == tuned["sha256"] and base["adapter"] == "" and tuned["adapter"].endswith("-lora.gguf")
    assert base["raw"] and tuned["raw"], "neither brings a template: both go on with the text"
    assert abs(likely(1) / likely(0) - 1) > 0.001, "the adapter changes nothing"
    assert "one copy of the weights" in chatview.copies(live.look())


def test_its_own_template_is_spoken_and_a_change_of_its_files_is_seen(tiny: Path, lora: Path) -> None:
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    choice.update(model=str(tiny))
    chatpick.open_place("right", str(lora), str(tiny))
    wanted = Who.now(live.look()).wanted(1)
    assert wanted is not None and chatprep.make(wanted)["raw"] is True
    shutil.copy(tiny / "tokenizer.json", lora)
    shutil.copy(tiny / "tokenizer_config.json", lora)
    (lora / "chat_template.jinja").write_text(TEMPLATE)
    assert chatprep.known(wanted) is None, "files of before the change would speak"
    said("Hi")
    opened = chatopen.opened()
    assert opened is not None and opened.raw(0) and not opened.raw(1)
    prompt = opened.session.prompt(opened.at(1), [{"role": "user", "content": "Hi"}])
    assert "".join(piece["text"] for piece in prompt["pieces"]) == "<|im_start|>Hi<|im_end|><|im_start|>"


def test_a_hub_id_whose_snapshot_is_here_is_an_adapter_too(
    tiny: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef" * 2 + "01234567"
    repo = tmp_path / "hub" / "models--ada--little-lora"
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    for file in lora.iterdir():
        shutil.copy(file, repo / "blobs" / file.name)
        os.symlink(f"../../blobs/{file.name}", repo / "snapshots" / commit / file.name)
    choice.update(model=str(tiny))
    chatpick.open_place("right", "ada/little-lora", str(tiny))
    source = chatpick.chosen(live.look())[1]
    assert source is not None and source.label == "Adapter: little-lora"
    assert source.adapter == str((repo / "snapshots" / commit).resolve())
    with pytest.raises(InputError, match="neither a file nor a folder") as caught:
        chatpick.open_place("right", "ada/not-fetched", str(tiny))
    assert "must be fetched first" in caught.value.remedy


def test_one_of_another_base_stands_on_the_base_that_it_names(tiny: Path, lora: Path, tmp_path: Path) -> None:
    wide = make_model(tmp_path / "wide", hidden_size=128)
    choice.update(model=str(wide), facts={"model": str(wide), "exportable": True})
    chatpick.open_place("right", str(lora), str(wide))
    base, source = chatpick.chosen(live.look())
    assert base is not None and source is not None and source.on == str(tiny) and "on model" in source.label
    who = Who.now(live.look())
    assert who.wanted(0) == {"model": str(wide), "base": True}, "the picked base keeps its own weights"
    assert who.wanted(1) == {"adapter": str(lora), "model": str(tiny), "base": False}


def test_what_cannot_speak_is_refused_with_a_way_out_and_nothing_is_picked(
    tiny: Path, lora: Path, tmp_path: Path
) -> None:
    wide = make_model(tmp_path / "wide", hidden_size=128)
    names(lora, "/home/ada/gone")
    for model, message in ((str(wide), "the base's is"), ("", "not on this machine")):
        with pytest.raises(ModelError, match=message) as caught:
            chatpick.open_place("left", str(lora), model)
        assert caught.value.remedy and "--" not in caught.value.remedy
    with pytest.raises(InputError, match="no adapter in"):
        chatpick.open_place("left", str(tiny), str(tiny))
    with pytest.raises(InputError, match="no place"):
        chatpick.open_place("left", " ", str(tiny))
    (lora / "adapter_model.safetensors").rename(lora / "adapter_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        chatpick.open_place("left", str(lora), str(tiny))
    assert choice.read() == {}


def test_the_field_for_another_place_opens_by_the_list_and_closes_when_something_is_opened(
    tiny: Path, lora: Path
) -> None:
    from studio.ui import chatacts

    choice.update(model=str(tiny))
    who = Who.now(live.look())
    chatacts.act({"do": "pick", "pane": 1, "value": chatpick.OTHER}, who, "")
    assert 'data-st-name="path"' in chatview.opening(1, live.look()) and chatview.opening(0, live.look()) == ""
    with pytest.raises(InputError):
        chatacts.act({"do": "file", "pane": 1, "values": {"path": "/nowhere"}}, who, "")
    assert chatview.opening(1, live.look()), "what was typed is not lost when it was wrong"
    chatacts.act({"do": "file", "pane": 1, "values": {"path": str(lora)}}, who, "")
    assert chatview.opening(1, live.look()) == ""
    source = chatpick.chosen(live.look())[1]
    assert source is not None and source.adapter == str(lora)
    before = chatview.head(1, live.look())
    chatacts.act({"do": "pick", "pane": 1, "value": chatpick.OTHER}, who, "")
    assert chatview.head(1, live.look()) != before, "else a list that was opened would show it after Cancel, too"
    chatacts.act({"do": "keep", "pane": 1}, who, "")
    assert chatview.head(1, live.look()) == before
