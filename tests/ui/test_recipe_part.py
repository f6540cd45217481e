"""Recipes in the window: what is refused in words, the plan, missing files, the run's card, the file to keep."""

from __future__ import annotations

import html
import json
import re
import time
from pathlib import Path
from typing import Any

import disk
import pytest
from making import write_jsonl

from studio import events, jobs, paths, runs
from studio.errors import ConfigError, DataError, RunError, StudioError
from studio.lab import recipe, sources, starting
from studio.ui import lineview, live, recipefile, recipelook, recipeplan, recipeview
from studio.ui.pages import lab

HEAD = 'recipe = 1\ntitle = "Twice <b>"\n\n[base]\nmodel = "starter"\n\n[[data]]\nname = "sums"\npath = "{path}"\n'
TWICE = (
    HEAD
    + """{hash}
[[step]]
name = "first"
kind = "train"
method = "sft"
data = "@sums"
[step.settings]
max_steps = 2
held_out = 0.1

[[step]]
name = "files"
kind = "export"
parent = "@best"
[step.options]
quants = ["Q8_0"]
"""
)


def act(**message: Any) -> str:
    return lab.act(json.dumps(message))


def text_of(drawn: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", drawn))


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    rows = [{"prompt": f"What is {i} + 1?", "completion": f"It is {i + 1}."} for i in range(40)]
    return write_jsonl(tmp_path / "sums.jsonl", rows)


def write(tmp_path: Path, text: str, name: str = "mine.toml") -> Path:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return file


def looked() -> recipelook.Seen:
    """Wait until everything was looked for."""
    end = time.monotonic() + 60
    while (seen := recipelook.want(live.look())) is None or not seen.done:
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)
    return seen


def opened(tmp_path: Path, text: str) -> recipelook.Seen:
    assert recipelook.open_file(str(write(tmp_path, text))) == ""
    return looked()


def page() -> str:
    scene = live.look()
    draws = (recipeplan.plan, recipeplan.files, recipeplan.onward, recipeplan.line, recipeview.card)
    return "".join(draw(scene) for draw in draws)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "says", "line"),
    [
        ("rows.jsonl", b'{"prompt": "a"}\n', "not TOML", 1),
        ("bad.toml", b"recipe = 1\nbase = [\n", "not TOML", 2),
        ("m.gguf", b"GGUF\x03\x00\x00\x00\xff\xfe", "not UTF-8", None),
        ("deep.toml", b"a = " + b"[" * 5000, "not TOML", None),
        ("nul.toml", b"recipe = 1\x00", "not TOML", 1),
    ],
)
def test_a_file_that_is_no_toml_is_refused_by_name_and_line_and_not_kept(
    tmp_path: Path, home: Path, name: str, content: bytes, says: str, line: int | None
) -> None:
    dropped = tmp_path / name
    dropped.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as told:
        recipelook.open_upload(str(dropped))
    assert told.value.file == name and told.value.remedy and (line is None or told.value.line == line)
    assert not dropped.exists() and not (home / "recipes").exists() and page() == ""


def test_a_file_too_large_to_be_a_recipe_is_refused_before_it_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(recipelook.MOST + 1)
    with pytest.raises(ConfigError, match="a recipe is a short text"):
        recipelook.open_upload(str(large))


@pytest.mark.parametrize("typed", ["", "  ", "/nowhere/a.toml", "/dev/null", "~nobody-there/a", "a\x00b", "x" * 5000])
def test_a_path_that_is_no_file_is_said(typed: str) -> None:
    with pytest.raises(DataError) as told:
        recipelook.open_file(typed)
    assert told.value.remedy


def test_every_mistake_of_every_step_is_told_at_once_with_line_field_and_remedy(tmp_path: Path, sums: Path) -> None:
    text = TWICE.format(path=sums, hash="").replace("max_steps = 2", "max_steps = 2\nlearning_rate = -1")
    text = text.replace('"Q8_0"', '"Q9_9"') + '\n[[step]]\nname = "third"\nkind = "dance"\n'
    seen = opened(tmp_path, text)
    lines = text.split("\n")
    found = {error.line: (error.field, error.message) for error in seen.look.wrong}
    at = {key: next(n for n, one in enumerate(lines, 1) if one.startswith(key)) for key in ("learning_rate", "quants")}
    assert found[at["learning_rate"]][0] == "step.settings.learning_rate"
    assert found[at["quants"]][0] == "step.options.quants"
    assert "'dance'" in found[lines.index('kind = "dance"') + 1][1] and len(found) == 3
    drawn = text_of(page())
    assert "3 things stand in its way" in drawn and drawn.count("What to do") == 3
    assert f"mine.toml, line {at['quants']}, field step.options.quants" in drawn
    assert "disabled" in recipeplan.onward(live.look()) and recipeplan.line(live.look()) == ""
    with pytest.raises(ConfigError):  # the command line says the first of them
        recipe.read(tmp_path / "mine.toml")


def test_what_is_toml_but_no_recipe_says_what_is_missing(tmp_path: Path) -> None:
    seen = opened(tmp_path, "colour = 3\n")
    assert seen.look.recipe is None and "layout 1" in text_of(page())


# --- what it would do ------------------------------------------------------------------------------------------------


def test_the_plan_says_each_step_its_rows_its_files_and_what_is_kept(tmp_path: Path, sums: Path) -> None:
    sha256 = f'sha256 = "{paths.sha256(sums)}"\n'
    seen = opened(tmp_path, TWICE.format(path="sums.jsonl", hash=sha256))
    assert seen.ready and seen.look.places == {"sums": str(sums)}
    held = seen.rows["first"]["held_out"]
    assert seen.rows["first"]["rows"] == 40 and 1 <= held <= 12
    drawn = page()
    said = text_of(drawn)
    assert f"Learns from sums, 40 rows of which {held} are held out; starts from the base" in said
    assert "Of the best so far as Q8_0" in said and "2 steps, in this order" in said and "2 settings" in said
    assert "it is the same file" in said and "Twice <b>" in said and "<b>Twice" not in drawn
    assert said.count("Start the recipe") == 1 and "st-filled" in recipeplan.onward(live.look())
    assert f"recipe run {tmp_path / 'mine.toml'}" in " ".join(said.split())


def test_the_shipped_recipe_is_ready_and_tells_its_rounds() -> None:
    assert act(do="recipe-sample", name="two-rounds") == ""
    seen = looked()
    assert seen.ready and set(seen.rows) == {"sft", "judge", "sampled-1", "sampled-2"}
    said = text_of(page())
    assert "Prompts of conversations" in said and "answers of sft; scored by judge" in said
    assert "Of dpo-1, compared with sft; asks Fit; fit on the rows of questions" in said
    assert "Kept as the best: the run with the lowest fit.loss" in said
    with pytest.raises(DataError):
        recipelook.open_shipped("../two-rounds")


def test_a_file_that_is_gone_can_be_named_and_another_one_is_refused(tmp_path: Path, sums: Path) -> None:
    sha256 = f'sha256 = "{paths.sha256(sums)}"\n'
    text = TWICE.format(path="/nowhere/sums.jsonl", hash=sha256)
    seen = opened(tmp_path, text)
    assert list(seen.look.missing) == ["sums"] and not seen.ready
    said = text_of(page())
    assert "There is no file /nowhere/sums.jsonl" in said and "missing" in said and "--data" not in said
    assert "1 thing it needs is not here" in said
    with pytest.raises(StudioError):
        recipelook.asked(live.look())
    other = write_jsonl(tmp_path / "other.jsonl", [{"prompt": "a", "completion": "b"}])
    act(do="recipe-moved", name="sums", value=str(other))
    assert not looked().ready and "another one" in page() and "This is not the file of the recipe" in page()
    act(do="recipe-moved", name="sums", value=str(sums))
    assert looked().ready and f"--data sums={sums}" in " ".join(text_of(page()).split())
    config = recipelook.asked(live.look())
    assert config.kind == "recipe" and config.options["data"] == {"sums": str(sums)}
    assert config.options["recipe"] == recipe.read(tmp_path / "mine.toml").to_dict()
    act(do="recipe-moved", name="sums", value="")
    assert not looked().ready
    with pytest.raises(DataError, match="reads no such file"):
        act(do="recipe-moved", name="../../etc/passwd", value=str(sums))


def test_another_base_than_the_recipes_is_said_and_can_be_named(tmp_path: Path, sums: Path, tiny: Path) -> None:
    text = TWICE.format(path=sums, hash="")
    hashed = sources.base("starter").sha256
    gone = text.replace('model = "starter"', f'model = "/nowhere/base"\nsha256 = "{hashed}"')
    seen = opened(tmp_path, gone)
    assert list(seen.look.missing) == [starting.THE_BASE] and "--model" not in page()
    act(do="recipe-moved", name=starting.THE_BASE, value=str(tiny))
    assert "not the weights of the recipe" in looked().look.missing[starting.THE_BASE].message
    assert "another one" in page()
    act(do="recipe-moved", name=starting.THE_BASE, value="starter")
    assert looked().ready and recipelook.asked(live.look()).model == "starter"


def test_a_base_of_the_hub_that_is_not_here_is_not_fetched(tmp_path: Path, sums: Path) -> None:
    text = TWICE.format(path=sums, hash="").replace('"starter"', '"someone/not-here"')
    seen = opened(tmp_path, text)
    assert "is not on this machine" in seen.look.missing[starting.THE_BASE].message


def test_rows_that_cannot_be_learned_from_are_said_before_it_starts(tmp_path: Path) -> None:
    broken = tmp_path / "sums.jsonl"
    broken.write_text('{"colour": 3}\n', "utf-8")
    seen = opened(tmp_path, TWICE.format(path=broken, hash=""))
    assert not seen.ready and "sums.jsonl" in text_of(page())


def test_what_was_dropped_is_kept_under_a_safe_name(tmp_path: Path, sums: Path, home: Path) -> None:
    for _ in range(2):
        dropped = write(tmp_path, TWICE.format(path=sums, hash=""), "Étude — 2 <x>.toml")
        recipelook.open_upload(str(dropped))
    (kept,) = (home / "recipes").iterdir()
    assert re.fullmatch(r"[a-z0-9-]+\.toml", kept.name) and recipelook.file(live.look()) == str(kept)
    act(do="recipe-close")
    assert page() == ""


# --- its run ---------------------------------------------------------------------------------------------------------


def test_start_queues_it_like_every_run_and_puts_the_plan_away(
    tmp_path: Path, sums: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[runs.Run] = []
    monkeypatch.setattr(jobs, "submit", begun.append)
    opened(tmp_path, TWICE.format(path=sums, hash=""))
    act(do="recipe-start")
    (run,) = begun
    assert run.config.kind == "recipe" and run.config.title == "Twice <b>"
    assert recipeplan.plan(live.look()) == "" and recipeview.shown(live.look()).id == run.id  # type: ignore[union-attr]
    with pytest.raises(DataError, match="No recipe is chosen"):
        act(do="recipe-start")


def going(
    home: Path, sums: Path, tmp_path: Path, *ends: dict[str, Any], name: str = "20261124-200010-twice-aaaa"
) -> runs.Run:
    """A recipe's run with its first step finished, and what `ends` say."""
    made = recipe.read(write(tmp_path, TWICE.format(path=sums, hash="")))
    first = disk.write_run(
        home,
        "20261124-200011-twice-first-bbbb",
        runs.RunConfig("train", "Twice: first", "starter", "sft", str(sums)),
        [*disk.sft_events(), {"type": "finished", "result": {}}],
        disk.SFT_RESULT,
    )
    options = {"recipe": made.to_dict(), "data": {}, "model": "starter"}
    config = runs.RunConfig("recipe", made.title, "starter", options=options)
    run = disk.write_run(home, name, config, [{"type": "started", "kind": "recipe", "title": "t", "attempt": 1}, *ends])
    paths.write_text(run.dir / "steps.json", json.dumps({"first": str(first.dir)}))
    return run


def result(home: Path, same: bool) -> dict[str, Any]:
    folder = home / "runs" / "20261124-200011-twice-first-bbbb"
    held = {"name": "loss", "before": 3.42, "after": 1.21, "n": 30}
    step = {"step": "first", "kind": "train", "run": folder.name, "dir": str(folder), "method": "sft", "heldout": held}
    files = {"step": "files", "kind": "export", "run": "gone", "dir": "/nowhere/gone", "seconds": 3.0}
    first = {**step, "same": same, "seconds": 42.0}
    return {"steps": [first, files], "best": first, "keep": "last", "figures": {}, "said": "2 steps done. <i>x</i>"}


@pytest.mark.parametrize(("same", "says"), [(True, "the same weights"), (False, "other weights")])
def test_a_finished_run_is_a_table_that_leads_to_the_runs(
    home: Path, sums: Path, tmp_path: Path, same: bool, says: str
) -> None:
    run = going(home, sums, tmp_path, {"type": "finished", "result": {}})
    (run.dir / "result.json").write_text(json.dumps(result(home, same)), "utf-8")
    disk.choices(home)
    drawn = recipeview.card(live.look())
    said = text_of(drawn)
    assert says in said and "3.42 → 1.21" in said and "kept" in said and "42 s" in said and "<i>x</i>" in said
    assert (
        'href="#train"' in drawn and "20261124-200011-twice-first-bbbb" in drawn and 'data-st-to="st-train-do"' in drawn
    )
    assert f'href="/recipe/{run.id}"' in drawn and ">Resume<" not in drawn
    disk.choices(home, model="someone/other")
    assert "Choose its model" in recipeview.card(live.look()), "Train shows the runs of the chosen model only"


def test_while_it_goes_it_says_which_step_how_far_how_fast_and_how_long(home: Path, sums: Path, tmp_path: Path) -> None:
    step = {"phase": "writing", "done": 30, "total": 120, "unit": "tensors", "rate": 2.5, "seconds_left": 36}
    run = going(home, sums, tmp_path, {"type": "progress", "part": "files", **step})
    (run.dir / "steps.json").write_text(
        json.dumps({**json.loads((run.dir / "steps.json").read_text()), "files": "/nowhere/gone"}), "utf-8"
    )
    with run.hold():
        scene = live.look()
        drawn, said = recipeview.card(scene), text_of(recipeview.card(scene))
        assert scene.running is not None and scene.running.id == run.id
        assert "Step 2 of 2: files" in said and "30 of 120 tensors" in said and "36 s left" in said
        assert "2.5 tensors/s" in said and 'aria-valuenow="25"' in drawn and 'data-st-press="st-stop"' in drawn
        assert "3.42 → 1.21" in said, "what is finished is there already"
        assert recipeview.line(scene) == ("running", "recipe, step 2 of 2")


@pytest.mark.parametrize(
    ("end", "says"),
    [
        ({"type": "stopped", "step": 0}, "It was stopped"),
        ({"type": "failed", "error": {"message": "No <room>.", "remedy": "Make some."}}, "Make some."),
        ({"type": "step", "step": 1, "total": 2}, "It was interrupted"),
    ],
)
def test_one_that_was_stopped_killed_or_failed_can_be_gone_on_with(
    home: Path, sums: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: dict[str, Any], says: str
) -> None:
    run = going(home, sums, tmp_path, end)
    drawn = recipeview.card(live.look())
    assert says in text_of(drawn) and ">Resume<" in drawn and "<room>" not in drawn
    state = {"stopped": "stopped", "failed": "failed"}.get(end["type"], "interrupted")
    assert recipeview.line(live.look()) == ("failed" if state == "failed" else "stopped", f"recipe {state}")
    begun: list[runs.Run] = []
    monkeypatch.setattr(jobs, "submit", begun.append)
    act(do="recipe-resume", id=run.id)
    assert [one.id for one in begun] == [run.id]
    with pytest.raises(RunError, match="nothing to go on with"):
        act(do="recipe-resume", id="20261124-200011-twice-first-bbbb")


def test_the_newest_is_shown_and_an_earlier_one_can_be_chosen(home: Path, sums: Path, tmp_path: Path) -> None:
    early = going(home, sums, tmp_path, {"type": "stopped", "step": 0})
    config = early.config
    late = disk.write_run(home, "20261125-200010-twice-cccc", config, [{"type": "stopped", "step": 0}])
    scene = live.look()
    assert recipeview.shown(scene).id == late.id and "<select" in recipeview.card(scene)  # type: ignore[union-attr]
    act(do="recipe-show", value=early.id)
    assert recipeview.shown(live.look()).id == early.id  # type: ignore[union-attr]
    act(do="recipe-show", value="../../etc")
    act(do="show", id="../../etc")
    assert recipeview.shown(live.look()).id == early.id  # type: ignore[union-attr]
    act(do="show", id=late.id)  # as the card “Where it stands” of a step does
    assert recipeview.shown(live.look()).id == late.id  # type: ignore[union-attr]


# --- the file to keep ------------------------------------------------------------------------------------------------


def trained(sums: Path, title: str = "My sums") -> runs.Run:
    """A finished run without weights: a recipe says what made it all the same."""
    run = runs.create(runs.RunConfig("train", title, "starter", "sft", str(sums), settings={"max_steps": 2}))
    writer = events.Writer(run.dir / "events.jsonl")
    writer(events.event("started", kind="train", title=title, attempt=1))
    writer(events.event("finished", result={}))
    writer.close()
    (run.dir / "lock").touch()
    (run.dir / "result.json").write_text(json.dumps(disk.SFT_RESULT), "utf-8")
    return run


def test_the_card_of_a_run_has_its_recipe_and_it_is_that_of_the_command_line(sums: Path, tmp_path: Path) -> None:
    import studio

    run = trained(sums)
    scene = live.look()
    view = next(view for view in scene.views if view.id == run.id)
    drawn = lineview.card(scene, view)
    assert f'href="/recipe/{run.id}"' in drawn and 'data-st-save="recipe-my-sums.toml"' in drawn
    assert recipefile.written(run.id) == (200, "recipe-my-sums.toml", studio.write_recipe(run.id).text())
    assert recipe.read(write(tmp_path, recipefile.written(run.id)[2])).steps[0].data == "@sums"


def test_a_run_that_cannot_be_written_down_is_said_in_words(sums: Path) -> None:
    run = trained(sums)
    sums.unlink()
    status, name, said = recipefile.written(run.id)
    assert (status, name) == (409, "") and "The data of the run is gone" in said and "Put the file back" in said
    for unknown in ("", "../../etc/passwd", run.id[:-1]):
        assert recipefile.written(unknown)[0] == 404, "only the whole id of a listed run"


def test_a_run_that_has_not_finished_or_was_only_fetched_offers_no_recipe(sums: Path) -> None:
    trained(sums)
    runs.create(runs.RunConfig("train", "new", "starter", "sft", str(sums)))
    runs.create(runs.RunConfig("download", "fetched", "someone/model"))
    drawn = {view.config.title: recipefile.button(view) for view in live.look().views}
    assert drawn["new"] == drawn["fetched"] == "" and drawn["My sums"]


def test_the_address_gives_a_file_that_no_page_can_run(sums: Path) -> None:
    import fastapi
    from fastapi.testclient import TestClient

    run = trained(sums, "</script>\r\nX: y")
    app = fastapi.FastAPI()
    recipefile.serve(app)
    client = TestClient(app)
    reply = client.get(f"/recipe/{run.id}")
    assert reply.status_code == 200 and reply.headers["content-disposition"].startswith('attachment; filename="recipe-')
    assert reply.headers["content-type"].startswith("application/toml") and "x" not in reply.headers
    gone = client.get("/recipe/nothing")
    assert gone.status_code == 404 and gone.headers["content-type"].startswith("text/plain")
