"""The whole way in a browser: a run's recipe is downloaded, dropped, started, and the same weights come out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import browser
import disk
import pytest

import studio
from studio.ui import starter

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine"),
]
PORT = 7978


def test_a_recipe_is_downloaded_dropped_done_again_and_the_same_weights_come_out(home: Path, tmp_path: Path) -> None:
    settings = {"max_steps": 3, "quantize_base": "none", "batch_size": 4}
    first = studio.train_model("sft", data=starter.sample("train"), model="starter", settings=settings)["run"]
    disk.choices(home, data={})
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            tab = browser.open_tab(chrome.new_context(), window.link, "train")
            with tab.expect_download(timeout=60_000) as told:
                tab.click("#st-page-train [data-st-save]")
            file = tmp_path / told.value.suggested_filename
            told.value.save_as(file)
            assert file.name == "recipe-sft-starter-sft.toml"
            assert file.read_text("utf-8") == studio.write_recipe(first).text(), "the same as studio recipe RUN"

            browser.go(tab, "lab")
            tab.set_input_files("#st-recipe-drop input[type=file]", str(file))
            tab.wait_for_selector(".st-recipe-plan", timeout=60_000)
            tab.wait_for_selector(".st-recipe-plan small:has-text('rows of which')", timeout=60_000)
            assert tab.locator(".st-recipe-files .st-good").count() == 2, "base and file are here, and the same"
            tab.click("text=Start the recipe")
            tab.wait_for_selector(".st-recipe-run >> text=the same weights", timeout=300_000)
            assert "bit for bit those of the first time" in tab.inner_text(".st-recipe-run .st-worded")
            assert not tab.is_visible(".st-recipe-plan"), "what was started is no longer asked about"

            tab.reload()
            tab.wait_for_selector(".st-recipe-run >> text=the same weights", timeout=60_000)
            again = tab.get_attribute(".st-recipe-steps [data-st-send]", "aria-label").split()[-1]
            assert again != first
            tab.click(".st-recipe-steps >> text=See it")
            tab.wait_for_selector("#st-page-train", state="visible")
            tab.wait_for_selector(f"#st-page-train .st-row.st-chosen [data-st-send*='{again}']", timeout=60_000)
            assert tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
    made = tomllib.loads(file.read_text("utf-8"))
    assert made["step"][0]["made"]["weights"] == studio.write_recipe(again).steps[0].made["weights"]


def test_what_keeps_a_run_from_being_written_down_is_said_beside_the_button(home: Path) -> None:
    disk.whole_path(home)  # whose data lies nowhere
    disk.choices(home)
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            tab = browser.open_tab(chrome.new_context(), window.link, "align")
            tab.click("#st-page-align [data-st-save]")
            said = "#st-page-align .st-save >> text=The data of the run is gone"
            tab.wait_for_selector(said, timeout=60_000)
            assert "Put the file back" in tab.inner_text("#st-page-align [data-st-said]")
            assert tab.url.endswith("#align") and tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
