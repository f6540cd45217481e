"""The export page's push: what is said before, the run that sends, its progress and stop, the link, and no token."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from hubserver import HubServer

from studio import events, paths, runs
from studio.errors import InputError, RunError
from studio.runs import Run, RunConfig
from studio.ui import choice, live, pushing, pushview

TOKEN = "hf_" + "CanaryThatMustNotSing" * 2
PORT = 7966


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of our own, which workers find by the environment, and a token that may write for `me`."""
    with HubServer() as running:
        for name, value in {
            "HF_ENDPOINT": running.url,
            "HF_HOME": str(tmp_path / "hf"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": TOKEN,
        }.items():
            monkeypatch.setenv(name, value)
        running.writers[TOKEN] = "me"
        yield running


@pytest.fixture
def taught(home: Path) -> Run:
    """A finished run with 3 MB of adapter, as far as a push looks at it, of the picked model."""
    choice.update(model="starter")
    run = runs.create(RunConfig("train", "sums", "starter", "sft"))
    run.adapter.mkdir()
    (run.adapter / "adapter_model.safetensors").write_bytes(random.Random(0).randbytes(3 << 20))
    starter = str(paths.models() / "starter")
    (run.adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": starter, "r": 4}))
    (run.adapter / "studio.json").write_text(json.dumps({"base": starter, "root": starter, "method": "sft"}))
    finish(run, {})
    return run


def finish(run: Run, result: dict[str, object]) -> None:
    (run.dir / "result.json").write_text(json.dumps(result))
    writer = events.Writer(run.dir / "events.jsonl")
    writer(events.event("started", kind=run.config.kind, title=run.config.title, attempt=1))
    writer(events.event("finished", result=result))
    writer.close()


def test_what_would_be_sent_is_listed_with_its_sizes_before_anything_is_made(taught: Run, tmp_path: Path) -> None:
    assert pushview.offers(live.look()) == ["adapter", "merged"]
    drawn = pushview.sent(live.look())
    assert "adapter_model.safetensors" in drawn and "3.1 MB" in drawn and "model card" in drawn and "&lt;" not in drawn
    choice.update(push={"what": "merged"})
    assert "the model in 16 bits" in pushview.sent(live.look())
    export = runs.create(RunConfig("export", "sums", "starter", parent=str(taught.dir)))
    for name, count in {"sums-Q8_0.gguf": 2_000_000, "sums-Q8_0.gguf.certificate.json": 500, "Modelfile": 100}.items():
        (tmp_path / name).write_bytes(b"x" * count)
    file = {"path": str(tmp_path / "sums-Q8_0.gguf"), "type": "Q8_0"}
    finish(export, {"files": [file], "modelfile": str(tmp_path / "Modelfile")})
    choice.update(push={"what": "gguf"})
    drawn = pushview.sent(live.look())
    for said in ("sums-Q8_0.gguf", "2.0 MB", "certificate.json", "500 bytes", "Modelfile"):
        assert said in drawn
    (tmp_path / "sums-Q8_0.gguf").unlink()
    assert "gguf" not in pushview.offers(live.look()) and pushview.chosen(live.look()) == "adapter"


def test_who_is_not_known_to_the_hub_is_told_how_and_nothing_starts(
    server: HubServer, taught: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pushview.ready(live.look()) and pushview.card(live.look()) == ""
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(taught.dir / "none"))
    drawn = pushview.card(live.look())
    assert "hf auth login" in drawn and "HF_TOKEN" in drawn and not pushview.ready(live.look())
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "switched off" in pushview.card(live.look())
    for repo, what, error in (("a/b/c", "adapter", InputError), ("me/x", "gguf", RunError), ("me/x", "", InputError)):
        with pytest.raises(error):
            pushing.begin(repo, what, True)
    assert [run.config.kind for run in runs.all_runs()] == ["train"]


def test_a_push_that_the_hub_refuses_is_a_card_with_what_to_do(server: HubServer, taught: Run) -> None:
    assert pushing.begin("others/sums", "adapter", True) == ""
    end = time.monotonic() + 60
    while (view := pushview.newest(live.look())) is None or view.status != "failed":
        assert time.monotonic() < end
        time.sleep(0.1)
    drawn = pushview.card(live.look())
    assert "may not write to others/sums" in drawn and "What to do" in drawn and "<a " not in drawn
    assert pushview.ready(live.look()), "it can be tried again at once"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
def test_in_the_browser_a_push_is_stopped_begun_again_and_leads_to_its_page(
    server: HubServer, taught: Run, home: Path
) -> None:
    server.pace = 3e5
    served = browser.Served(home, PORT, offline=False)
    try:
        with browser.browser() as chrome:
            tab = browser.open_tab(chrome.new_context(), served.link, "export")
            tab.click("#st-push button:has-text('Push to the hub')")
            tab.fill("#st-push-repo input, #st-push-repo textarea", "me/sums")
            tab.wait_for_selector("#st-push-sent >> text=adapter_model.safetensors")
            tab.click("#st-push-start")
            tab.wait_for_function("+document.querySelector('#st-push-card [role=progressbar]')?.ariaValueNow > 3")
            tab.click("#st-push-card >> text=Stop the push")
            tab.wait_for_selector("#st-push-card >> text=the repository is as it was", timeout=60_000)
            assert set(server.repos["me/sums"].files) == {".gitattributes"}
            server.pace = 0.0
            tab.click("#st-push-start:not([disabled])")
            link = tab.wait_for_selector("#st-push-card a", timeout=60_000)
            assert link.get_attribute("href") == f"{server.url}/me/sums"
            repo = server.repos["me/sums"]
            assert repo.private and "adapter_model.safetensors" in repo.files and "README.md" in repo.files
            assert TOKEN not in tab.content() and tab.strangers == []
            assert TOKEN not in tab.evaluate("fetch('/config').then((answer) => answer.text())")
    finally:
        served.close()
    for path in home.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), path
