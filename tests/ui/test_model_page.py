"""The model page: the list, the card before and after a download, downloads as runs; also in a real browser."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import disk
import numpy as np
import pytest
from filelock import FileLock
from hubserver import HubServer, folder
from huggingface_hub import constants
from test_parts import PAYLOADS, see

from studio import hardware, jobs, paths, runs, worker
from studio.cli import doctor
from studio.errors import ModelError, RunError
from studio.models import ask, catalogue, check, download
from studio.runs import RunConfig
from studio.ui import choice, kit, live, machines, modelcard, modellist, picking, rail
from studio.ui.pages import model as page
from studio.ui.picking import Pick

SMALL_CARD = hardware.Machine("", "", 4, 16.0, 100.0, "A card", 8.0, "cuda", "2", True, "0.3", "")
REPO = "HuggingFaceTB/SmolLM2-135M"
RUN = "20261124-200001-download-aaaa"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with a GPU of 8 GB, looked at already."""
    monkeypatch.setattr(machines, "_asked", True)
    monkeypatch.setattr(machines, "_found", SMALL_CARD)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of our own and an empty cache, for this process and for those that it starts."""
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
        monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(tmp_path / "hf" / "tokens"))
        monkeypatch.setattr(download, "FIRST_WAIT", 0.01)
        yield server


def card(scene: live.Scene) -> str:
    drawn = (modelcard.head, modelcard.progress, modelcard.facts, modelcard.licence, modelcard.memory)
    return see("".join(part(scene) for part in drawn)).text


def show(model: str, **more: Any) -> live.Scene:
    dataclasses.replace(Pick(), shown=model, **more).keep()
    return live.look()


# --- The list ---


@pytest.mark.parametrize(
    ("query", "there", "missing"),
    [
        ("qwen 3b", {"Qwen/Qwen2.5-3B"}, {"Qwen/Qwen3-0.6B-Base", "HuggingFaceTB/SmolLM3-3B-Base"}),
        ("3b", {"HuggingFaceTB/SmolLM3-3B-Base"}, {"allenai/OLMo-2-1124-13B"}),
        ("< 1b", {"starter", "Qwen/Qwen3-0.6B-Base"}, {"meta-llama/Llama-3.2-1B"}),
        ("llama > 3.5b instruct", {"meta-llama/Llama-3.1-8B-Instruct"}, {"meta-llama/Llama-3.2-3B-Instruct"}),
        ("gated gemma", {"google/gemma-2-2b"}, {"Qwen/Qwen2.5-3B"}),
        ("zebra", set(), {"starter"}),
    ],
)
def test_the_list_is_searched_by_name_family_and_size(query: str, there: set[str], missing: set[str]) -> None:
    found = {entry.id for entry in picking.search(query)}
    assert there <= found and not missing & found


def test_the_list_says_what_each_model_needs_here(home: Path) -> None:
    drawn = see(modellist.listing(live.look()))
    words = drawn.text
    assert words.index("Studio starter") < words.index("SmolLM2-135M")
    assert all(entry.id.rsplit("/", 1)[-1] in words for entry in catalogue.entries() if entry.id != "starter")
    assert all(said in words for said in ("fits", "too large", "licence first"))
    labels = [value or "" for key, value in drawn.attributes if key == "aria-label"]
    large = next(label for label in labels if label.startswith("Qwen2.5-14B"))
    need = hardware.estimate_here(next(e for e in catalogue.entries() if e.id == "Qwen/Qwen2.5-14B"), SMALL_CARD)
    assert need.total > 8 and f"needs {need.total:.1f} of 8.0 GB" in large and f"weights {need.weights:.1f}" in large


def test_one_row_is_chosen_and_one_can_be_reached_with_tab(home: Path) -> None:
    attributes = see(modellist.listing(show("google/gemma-2-2b"))).attributes
    assert attributes.count(("aria-pressed", "true")) == 1 and attributes.count(("tabindex", "0")) == 1


def test_an_empty_list_says_what_to_write(home: Path) -> None:
    assert "No model of this list fits" in modellist.listing(show("", query="zebra"))
    assert "Look it up" in modellist.listing(show("", query="org/name"))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_that_a_hub_or_a_folder_says_becomes_an_element(home: Path, payload: str) -> None:
    offer = {"model": "org/x", "licence": payload, "architecture": payload, "page": payload, "gated": True}
    facts = {"model": "starter", "template": payload, "stop_tokens": [payload], "untrained": [payload]}
    error = {"message": payload, "remedy": payload, "file": payload}
    for scene in (
        show("org/x", offer={**offer, "refusal": error}),
        show("org/x", offer=offer, error=error, query=payload),
        show("starter", facts={**facts, "folder": payload, "revision": payload, "dtype": payload}),
    ):
        for draw in (modellist.listing, modelcard.head, modelcard.progress, modelcard.facts, modelcard.licence):
            drawn = see(draw(scene))
            assert not {"script", "img", "iframe", "form", "style", "meta", "base", "link", "svg"} & set(drawn.tags)
            assert not any(key.startswith("on") or key == "autofocus" for key, _ in drawn.attributes)
            assert ("data-st-press", "st-demo") not in drawn.attributes


# --- The card ---


def test_before_a_download_the_card_says_what_the_catalogue_knows(home: Path, hub: HubServer) -> None:
    scene = show("Qwen/Qwen3-1.7B-Base")
    words = card(scene)
    for said in (
        "not downloaded",
        "Qwen3, 28 layers",
        "32,768 tokens",
        "Apache-2.0",
    ):
        assert said in words
    assert modelcard.label(scene) == ("Download about 3.4 GB", True)  # 1.72 billion weights of 2 bytes


def test_a_gated_model_says_how_to_get_it_and_never_asks_for_the_token(home: Path, hub: HubServer) -> None:
    html = modelcard.licence(show("meta-llama/Llama-3.2-1B"))
    assert f"{hub.url}/meta-llama/Llama-3.2-1B" in html and "hf auth login" in html and "<input" not in html
    opened = {"model": "meta-llama/Llama-3.2-1B", "gated": True, "access": True}
    assert modelcard.licence(show("meta-llama/Llama-3.2-1B", offer=opened)) == ""


def test_a_model_with_code_of_its_own_is_refused_before_the_download(home: Path, hub: HubServer) -> None:
    scene = show("microsoft/Phi-4-mini-instruct")
    assert "its own Python code" in card(scene) and modelcard.label(scene)[0] == ""
    assert "refused" in modellist.listing(scene)


def test_a_model_that_is_here_says_all_of_its_card(home: Path, tiny: Path) -> None:
    facts = ask.describe(check.inspect(str(tiny)))
    scene = show(str(tiny), facts=facts)
    words = card(scene)
    for said in ("Llama, 2 layers", "ChatML is added", "<|im_end|>", "GGUF, all types", "256 tokens", str(tiny)):
        assert said in words
    assert modelcard.label(scene) == ("Use this model", True)


def test_what_is_typed_becomes_a_models_name(home: Path, tiny: Path, hub: HubServer) -> None:
    assert picking.canonical(f" '{tiny}' ") == str(tiny.resolve())
    assert picking.canonical("qwen/qwen3-0.6b-base") == "Qwen/Qwen3-0.6B-Base"
    assert picking.canonical("https://huggingface.co/org/name/tree/v2") == "org/name@v2"
    assert picking.canonical(f"{hub.url}/org/name") == "org/name"
    for wrong in ("", "no such thing", "a/b/c", "https://evil.example/org/name"):
        with pytest.raises(ModelError) as error:
            picking.canonical(wrong)
        assert error.value.remedy


def test_a_message_that_no_row_sends_shows_nothing(home: Path) -> None:
    with pytest.raises(ModelError):
        page.tell(json.dumps({"show": "/etc"}))
    assert Pick.at(choice.read()).shown == ""


# --- What the hub offers ---


def test_an_offer_says_size_licence_and_whether_the_hub_lets_us(home: Path, hub: HubServer, tiny: Path) -> None:
    files = folder(tiny)
    hub.add("org/open", {**files, "pytorch_model.bin": b"x" * 5000, "README.md": b"hello"})
    hub.add("org/shut", files, gated=True)
    config = json.loads((tiny / "config.json").read_text("utf-8"))
    code = {**config, "auto_map": {"AutoModel": "x.Y"}}
    hub.add("org/code", {**files, "config.json": json.dumps(code).encode()})
    wanted = sum((tiny / name).stat().st_size for name in os.listdir(tiny)) + 5  # no pickle, but the card
    opened = ask.offer("org/open")
    assert (opened.bytes, opened.access, opened.gated, opened.layers) == (wanted, True, False, 2)
    assert opened.architecture == "LlamaForCausalLM" and opened.context == 256 and not opened.refusal
    shut = ask.offer("org/shut")
    assert (shut.gated, shut.access, shut.architecture) == (True, False, "")
    assert "auto_map" in ask.offer("org/code").refusal["message"]
    with pytest.raises(ModelError, match="has no model org/none"):
        ask.offer("org/none")


def test_an_offer_whose_numbers_llama_cpp_would_not_compute_says_so(home: Path, hub: HubServer, tiny: Path) -> None:
    experts = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True}
    config = {**json.loads((tiny / "config.json").read_text("utf-8")), **experts}
    config |= {"architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe"}
    files = folder(tiny)
    hub.add("org/good", {**files, "config.json": json.dumps(config).encode()})
    hub.add("org/odd", {**files, "config.json": json.dumps({**config, "norm_topk_prob": False}).encode()})
    hub.add("org/none", {**files, "config.json": json.dumps({**config, "num_experts": 0}).encode()})
    good, odd = ask.offer("org/good"), ask.offer("org/odd")
    assert good.exportable and "attention alone learns" in good.use and good.shape["experts"] == 8
    assert not odd.exportable and "norm_topk_prob" in odd.use
    for offer, said in ((good, "attention alone learns"), (odd, "norm_topk_prob")):
        assert said in card(show(offer.model, offer=dataclasses.asdict(offer)))
    assert "num_experts" in ask.offer("org/none").refusal["message"]
    assert not doctor._model("org/odd")["ok"] and "norm_topk_prob" in doctor._model("org/odd")["found"]


def test_words_are_searched_for_on_the_hub_and_its_answer_is_pressed(home: Path, hub: HubServer, tiny: Path) -> None:
    hub.add("org/zebra-1b", folder(tiny))
    hub.add("org/horse", folder(tiny))
    assert ask.search("zebra") == [{"model": "org/zebra-1b", "downloads": 7, "licence": "mit"}]
    list(page.look("zebra"))
    scene = live.look()
    assert "org/zebra-1b" in modellist.listing(scene) and "7 downloads" in modellist.listing(scene)
    page.tell(json.dumps({"show": "org/zebra-1b"}))
    assert page.find_out() == "" and "Llama, 2 layers" in card(live.look())
    page.seek("other")
    assert "org/zebra-1b" not in modellist.listing(live.look())
    hub.fail("/api/models$", 503)
    with pytest.raises(ModelError, match="in trouble"):
        ask.search("zebra")


@pytest.mark.parametrize("answer", [b"[]", b"{}", b'{"sha": 1, "siblings": 3}', b"<html>"])
def test_an_answer_that_is_none_is_an_error_with_a_remedy(hub: HubServer, tiny: Path, answer: bytes) -> None:
    hub.add("org/x", {**folder(tiny), "config.json": answer})
    found = ask.offer("org/x")  # its config is odd, the listing is not
    assert found.bytes > 0 and (found.refusal or found.architecture == "")


# --- Downloads as runs ---


def test_a_download_is_a_run_with_facts_and_is_resumed_where_it_ended(home: Path, hub: HubServer, tiny: Path) -> None:
    hub.add(REPO, folder(tiny))
    run = runs.create(RunConfig("download", REPO, model=REPO))
    hub.fail("cdn/.*safetensors", cut_after=1000, times=99)
    with pytest.raises(ModelError, match="kept breaking"):
        worker.work(run)
    scene = show(REPO)
    assert modelcard.label(scene) == ("Try again", True) and "Check the network" in card(scene)
    hub.faults.clear()
    before = hub.sent
    result = worker.work(run)
    size = sum(file.stat().st_size for file in tiny.iterdir())
    assert hub.sent - before <= size - 1000 and result["bytes"] == size
    assert result["facts"]["architecture"] == "LlamaForCausalLM" and result["problem"] is None
    assert (Path(result["folder"]) / "config.json").is_file() and result["revision"] == hub.repos[REPO].commit
    assert modelcard.label(live.look()) == ("Use this model", True)


def progress(done: int) -> list[dict[str, Any]]:
    told = {"phase": "Downloading", "unit": "bytes", "done": done, "total": 3_400_000_000, "rate": 2.4e7}
    return [{"type": "started"}, {"type": "progress", **told, "seconds_left": 90.0}]


def test_a_running_download_is_on_strip_rail_and_card(home: Path, hub: HubServer) -> None:
    run = disk.write_run(home, RUN, RunConfig("download", REPO, model=REPO), progress(1_200_000_000))
    with FileLock(run.dir / "lock"):
        scene = show(REPO)
        assert scene.running is None and scene.beside is not None
        said = "1.2 of 3.4 GB"
        assert all(word in rail.strip(scene) for word in (said, "24.0 MB/s", "1 min 30 s left", 'aria-valuenow="35"'))
        assert rail._STATES["model"](scene) == ("running", "fetching SmolLM2-135M, 35 %")
        assert said in modelcard.progress(scene) and "24.0 MB/s" in modelcard.progress(scene)
        assert modelcard.label(scene) == ("", False)
        train = disk.write_run(home, "20261124-200002-a-bbbb", RunConfig("train", "rows", "starter", "sft"), [])
        with FileLock(train.dir / "lock"):
            both = live.look()
            assert both.running is not None and both.running.id == train.id
            assert "Download" in rail.strip(both) and "35 %" in rail.strip(both)
    scene = live.look()
    assert modelcard.label(scene) == ("Go on with the download", True)
    assert "1.2 of 3.4 GB are here and are not fetched again" in card(scene)


def test_a_download_goes_beside_training_but_not_beside_another(home: Path, hub: HubServer, tiny: Path) -> None:
    hub.add(REPO, folder(tiny))
    train = disk.write_run(home, "20261124-200002-a-bbbb", RunConfig("train", "rows", "starter", "sft"), [])
    first = runs.create(RunConfig("download", REPO, model=REPO))
    with FileLock(train.dir / "lock"):
        assert [run.id for run in runs.computing()] == [train.id]
        jobs.start(first)
        end = time.monotonic() + 30
        while first.status() in ("new", "running") and time.monotonic() < end:
            time.sleep(0.1)
        assert first.status() == "finished", first.log.read_text("utf-8")
    second = runs.create(RunConfig("download", "org/other", model="org/other"))
    with FileLock(first.dir / "lock"), pytest.raises(RunError):
        jobs.start(second)


def test_workers_stay_off_the_network_unless_a_download_was_asked_for(home: Path, hub: HubServer, tiny: Path) -> None:
    asked = [
        (RunConfig("train", "a", "starter"), False),
        (RunConfig("train", "a", str(tiny)), False),
        (RunConfig("train", "a", "org/elsewhere"), True),
        (RunConfig("train", "a", "no such thing"), False),
        (RunConfig("download", "a", REPO), True),
        (RunConfig("demo", "a"), False),
    ]
    assert [jobs._fetches(config) for config, _ in asked] == [fetches for _, fetches in asked]


@pytest.mark.parametrize("other", ["", "google/gemma-2-2b"])
def test_a_finished_download_is_used_if_it_is_still_the_one_shown(home: Path, hub: HubServer, other: str) -> None:
    facts = {"name": REPO, "architecture": "LlamaForCausalLM", "parameters": 134_515_008, "layers": 30}
    config = RunConfig("download", REPO, model=REPO)
    disk.write_run(home, RUN, config, [*progress(3_400_000_000), {"type": "finished"}], {"facts": facts})
    scene = show(other or REPO, waiting=RUN)
    assert picking.settle(scene) and not picking.settle(live.look())
    assert live.look().model == ("" if other else REPO)
    if not other:
        assert rail._STATES["model"](live.look()) == ("done", "SmolLM2-135M, 134.5 M")


def test_downloads_are_no_step_no_parent_and_nothing_to_export(home: Path) -> None:
    from studio.ui.pages import export

    disk.write_run(home, RUN, RunConfig("download", "starter", model="starter"), [{"type": "finished"}], {"facts": {}})
    choice.update(model="starter")
    scene = live.look()
    assert scene.line == {} and export.trained(scene) == [] and scene.of_step("train") == []


def test_weights_that_are_not_numbers_are_found_as_a_run(home: Path, tiny: Path, tmp_path: Path) -> None:
    sound = runs.create(RunConfig("check", "model", model=str(tiny)))
    assert worker.work(sound)["bytes"] == (tiny / "model.safetensors").stat().st_size
    bad = tmp_path / "bad"
    shutil.copytree(tiny, bad)
    with (bad / "model.safetensors").open("r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(np.array([0x7FC0], "<u2").tobytes())  # a NaN of bfloat16
    broken = runs.create(RunConfig("check", "model", model=str(bad)))
    with pytest.raises(ModelError, match="not all numbers"):
        worker.work(broken)
    assert "not all numbers" in modelcard.progress(show(str(bad)))
    assert "are finite" in modelcard.facts(show(str(tiny)))


def test_nothing_begins_while_another_download_goes(home: Path, hub: HubServer) -> None:
    run = disk.write_run(home, RUN, RunConfig("download", "org/other", model="org/other"), progress(5))
    with FileLock(run.dir / "lock"):
        show(REPO)
        assert modelcard.label(live.look()) == ("Download about 269 MB", False)
        with pytest.raises(RunError):
            kit.begin(RunConfig("download", REPO, model=REPO))
    assert [path.name for path in paths.runs().iterdir()] == [RUN]


# --- In the browser ---


def in_browser(test: Any) -> Any:
    """Mark a test that needs a browser."""
    missing = pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
    return pytest.mark.browser(missing(test))


FIELD = "#st-model-name input, #st-model-name textarea"
PORT = 7960


def opened(home: Path, chrome: Any) -> tuple[browser.Served, Any]:
    window = browser.Served(home, PORT, offline=False)
    return window, browser.open_tab(chrome.new_context(viewport={"width": 1280, "height": 860}), window.link)


def seen(tab: Any, selector: str, text: str, seconds: float = 30) -> None:
    tab.wait_for_selector(f"{selector} >> text={text}", timeout=1000 * seconds)


@pytest.mark.slow
@in_browser
def test_search_choose_download_reload_stop_go_on_use(home: Path, hub: HubServer) -> None:
    hub.add(REPO, folder(paths.models() / "starter"))
    hub.pace = 400_000
    with browser.browser() as chrome:
        window, tab = opened(home, chrome)
        try:
            tab.fill(FIELD, "smollm2 135")
            seen(tab, "#st-page-model", "1 of")
            tab.focus(".st-row-name")
            tab.keyboard.press("Enter")
            seen(tab, "#st-model-card", "not downloaded")
            seen(tab, "#st-model-card", "Download 12.6 MB")  # from the hub's listing; by the catalogue it were 269 MB
            tab.click("#st-model-go")
            seen(tab, ".st-strip", "of 12.6 MB", 60)
            tab.reload()
            seen(tab, ".st-fetch", "of 12.6 MB", 60)
            assert tab.input_value(FIELD) == "smollm2 135" and tab.is_visible("#st-stop")
            tab.click("#st-model-stop")
            seen(tab, "#st-model-card", "are not fetched again")
            hub.pace, before = 0, hub.sent
            tab.click("text=Go on with the download")
            seen(tab, "#st-model-card", "in use")
            assert before < 12_600_000 and hub.sent <= 12_603_304 * 1.05
            seen(tab, ".st-nav-model", "SmolLM2-135M, 6.2 M")
            assert choice.read()["model"] == REPO and choice.read()["facts"]["revision"] == hub.repos[REPO].commit
            assert tab.is_visible("#st-model-card >> text=Choose the data") and tab.strangers == []
        finally:
            window.kill()  # a tidy end waits for the open tab


@in_browser
def test_what_the_hub_refuses_is_said_with_its_remedy(home: Path, hub: HubServer, tiny: Path) -> None:
    hub.add("org/shut", folder(tiny), gated=True)
    with browser.browser() as chrome:
        window, tab = opened(home, chrome)
        try:
            tab.fill(FIELD, "org/none")
            tab.keyboard.press("Enter")
            seen(tab, "[role=alert]", "The hub has no model org/none")
            tab.fill(FIELD, f"{hub.url}/org/shut")
            tab.keyboard.press("Enter")
            seen(tab, "#st-model-side", "Licence first")
            tab.click("#st-model-go")
            seen(tab, "#st-model-card [role=alert]", "accept its licence first", 60)
            assert "hf auth login" in tab.inner_text("#st-model-card") and tab.is_visible("text=Try again")
            assert tab.evaluate("document.querySelectorAll('input[type=password]').length") == 0
            assert "Traceback" not in tab.content() and tab.strangers == []
        finally:
            window.kill()  # a tidy end waits for the open tab
