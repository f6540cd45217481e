"""The feedback page: what is blind stays so until it is saved, a doubtful set warns, what a set gives is used."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import browser
import disk
import pytest
from test_parts import PAYLOADS

from studio import runs
from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.feedback import job, rank, samples
from studio.feedback.samples import Sample
from studio.runs import RunConfig
from studio.ui import choice, feedbackset, feedbackview, judgedview, kit, live, rankview, reviewview, setsview
from studio.ui.pages import feedback as page

SECRET = "who-answered-this"
PORT = 7989


def made(source: str, title: str = "a set", result: dict[str, Any] | None = None, **options: Any) -> runs.Run:
    """Write a set that has finished."""
    run = runs.create(RunConfig("feedback", title, data="/data/prompts.jsonl", options={"source": source, **options}))
    (run.dir / "events.jsonl").write_text('{"type": "started", "time": 1.0}\n{"type": "finished", "time": 2.0}\n')
    (run.dir / "lock").touch()
    (run.dir / "result.json").write_text(
        json.dumps({"run": run.id, "dir": str(run.dir), "source": source, **(result or {})})
    )
    return run


def ranked(count: int = 3, text: str = "answer") -> runs.Run:
    run = made("rank")
    for n in range(count):
        answers = [Answer(f"{text} {k}", {"name": SECRET, "temperature": 0.1 + k}) for k in range(3)]
        samples.keep(run.dir, Sample(f"s{n}", [{"role": "user", "content": f"Question {n}, {text}?"}], answers))
    return run


def act(**message: Any) -> str:
    return kit.edge(page.act)(json.dumps(message))


def sends(drawn: str) -> list[dict[str, Any]]:
    return [json.loads(unescape(found)) for found in re.findall(r'data-st-send="([^"]*)"', drawn)]


def parts_of_page() -> str:
    scene = live.look()
    draws = (
        rankview.draw,
        feedbackview.figures,
        reviewview.draw,
        judgedview.table,
        feedbackview.made,
        feedbackview.use,
    )
    more = (feedbackview.onward, feedbackview.fold, feedbackview.sources, setsview.sets, setsview.openable)
    return "".join(draw(scene) for draw in (*draws, *more))


def test_every_source_that_is_there_has_a_card_and_a_form() -> None:
    assert set(feedbackset.sources()) == set(job.SOURCES)
    for name, config in feedbackset.sources().items():
        form = feedbackset.Form(config, name)
        assert [s.name for s in form.settings] and f'"name": "{name}"' in unescape(feedbackview.sources(live.look()))


def test_before_the_first_set_the_cards_are_in_sight_and_the_rail_says_so(home: Path) -> None:
    scene = live.look()
    assert feedbackview.unfolded(scene) and feedbackview.fold(scene) == "" and setsview.sets(scene) == ""
    assert setsview.line(scene) == ("empty", "no sets yet")


def test_who_answered_is_hidden_while_somebody_ranks_and_shown_afterwards(home: Path) -> None:
    run = ranked()
    act(do="rank", id=run.id)
    scene = live.look()
    drawn = rankview.draw(scene)
    assert drawn.count("st-rank-card") == 3 + 1 and SECRET not in parts_of_page() and "0.1" not in drawn
    (save,) = [m for m in sends(drawn) if m["do"] == "rank-save"]
    assert act(**save, values={"ranks": "2,1,0", "bad": "", "edited": ""}) == ""
    (record,) = preferences.records(run.dir)
    assert record.by == {"kind": "person", "name": "person"} and sorted(record.ranks) == [1, 2, 3]
    assert save["sample"] != next(m for m in sends(rankview.draw(live.look())) if m["do"] == "rank-save")["sample"]
    act(do="rank-close")
    assert SECRET in judgedview.table(live.look())


def test_names_progress_undo_skip_and_handing_over(home: Path) -> None:
    run = ranked(2)
    act(do="rank", id=run.id)
    act(do="rank-name", value="  Ann  ")
    for number in (1, 2):
        shown = rank.next_prompt(run, "Ann")
        assert shown is not None
        act(do="rank-save", sample=shown.id, values={"ranks": "1,1,2"})
        assert rank.progress(run, "Ann").done == number
    assert "All 2 ranked, Ann" in rankview.draw(live.look()) and "2 rankings by Ann" in rankview.draw(live.look())
    act(do="rank-undo")
    shown = rank.next_prompt(run, "Ann")
    assert shown is not None
    act(do="rank-skip", sample=shown.id)
    assert [record.dropped for record in preferences.records(run.dir)] == ["", "skipped"]
    act(do="rank-name", value="Bo")
    assert rankview.name(live.look()) == "Bo"


@pytest.mark.parametrize("ranks", ["", "0,0,0", "1,2", "1,2,x", "-1,2,3", "1,2,99999"])
def test_what_is_no_ranking_is_told_and_not_kept(home: Path, ranks: str) -> None:
    run = ranked()
    act(do="rank", id=run.id)
    shown = rank.next_prompt(run, "person")
    assert shown is not None
    assert 'role="alert"' in act(do="rank-save", sample=shown.id, values={"ranks": ranks})
    assert preferences.records(run.dir) == []


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"do": "nothing"}', '{"do": ["rank"]}'])
def test_what_is_no_message_does_nothing(home: Path, text: str) -> None:
    assert page.act(text) == ""


@pytest.mark.parametrize("name", ["../x", "/etc", "", None, 3])
def test_a_set_that_is_in_no_list_is_an_error(home: Path, name: object) -> None:
    ranked()
    for do in ("rank", "show", "train", "open"):
        assert 'role="alert"' in act(do=do, id=name, kind="preference"), do


def test_time_left_is_said_in_minutes() -> None:
    assert rankview.said(rank.Progress(12, 50, 541.0)) == "12 of 50, about 9 minutes left"
    assert rankview.said(rank.Progress(49, 50, 12.0)) == "49 of 50, less than a minute left"
    assert (
        rankview.said(rank.Progress(1, 50, None)) == "1 of 50" and rankview.said(rank.Progress(5, 5, 0.0)) == "5 of 5"
    )


def test_a_set_becomes_the_data_of_align_with_its_method(home: Path) -> None:
    run = ranked()
    for n in range(3):
        rank.save(run, f"s{n}", [1, 2, 3], "Ann")
    choice.update(model="starter")
    drawn = feedbackview.use(live.look())
    assert {m["kind"] for m in sends(drawn) if m["do"] == "train"} == {"preference", "kto", "sft"}
    assert act(do="train", id=run.id, kind="kto") == ""
    used = live.look().data("align")
    assert Path(used["file"]).parent == run.dir and used["rows"] == 6 and used["kind"] == "kto"
    from studio.ui import choosing

    assert choosing.method(live.look(), "align").name == "kto"
    assert act(do="train", id=run.id, kind="sft") == "" and live.look().data("train")["rows"] == 3


DOUBT = "Asked in both orders the judge names the same answer in 50% of pairs: it is no better than chance."


def doubtful() -> runs.Run:
    report = {"warnings": [DOUBT], "agreement": {}}
    counts = {"records": 1, "dropped": {}, "preference": 1, "kto": 2, "sft": 1}
    run = made("judge", result={"usable": False, "report": report, **counts}, judge="starter")
    turns = [{"role": "user", "content": "Why?"}]
    preferences.add(run.dir, Record(turns, [Answer("a"), Answer("b")], [1, 2], by={"kind": "judge", "name": "starter"}))
    return run


def test_a_doubtful_set_is_asked_about_before_it_is_trained_on(home: Path) -> None:
    run = doubtful()
    assert DOUBT in feedbackview.figures(live.look()) and "doubtful" in setsview.sets(live.look())
    assert "st-filled" not in feedbackview.onward(live.look())
    asked = act(do="train", id=run.id, kind="preference")
    assert "alertdialog" in asked and DOUBT in asked and live.look().data("align") == {}
    (sure,) = [m for m in sends(asked) if m["do"] == "train"]
    assert act(**sure) == "" and live.look().data("align")["rows"] == 1


def test_a_set_opens_on_the_data_page_with_how_it_was_made_and_its_doubt(home: Path) -> None:
    from studio.ui import dataview

    run = doubtful()
    assert {"do": "open", "id": run.id} in sends(dataview.judged_sets(live.look()))
    assert dataview.made(live.look()) == ""
    assert act(do="open", id=run.id) == ""
    drawn = dataview.made(live.look())
    assert "judged by starter" in drawn and DOUBT in drawn
    sound = ranked(1)
    rank.save(sound, "s0", [1, 2, 3], "Ann")
    act(do="open", id=sound.id)
    assert "People rank" in dataview.made(live.look()) and "look" not in re.findall(
        r"st-warn\">(\w+)", dataview.made(live.look())
    )


def revised(text: str = "new") -> runs.Run:
    run = made("constitution", result={"usable": True})
    for n in range(3):
        steps = [{"principle": "p", "title": f"Be {text}", "critique": f"It is not {text}.", "criticised": True}]
        prompt = [{"role": "user", "content": f"{text} {n}?"}]
        answers = [Answer(f"old {n}"), Answer(f"{text} {n}")]
        by = {"kind": "constitution", "name": "m"}
        preferences.add(run.dir, Record(prompt, answers, [2, 1], by=by, about={"steps": steps}, id=f"c{n}"))
    return run


def test_revisions_are_accepted_edited_and_rejected_one_by_one(home: Path) -> None:
    run = revised()
    drawn = reviewview.draw(live.look())
    assert "<del>old</del>" in drawn and "<ins>new</ins>" in drawn and "Be new" in drawn and "1 of 3" in drawn
    act(do="review-reject", id="c0")
    assert "2 of 3" in reviewview.draw(live.look())
    act(do="review-edit", id="c1", values={"text": "mine"})
    act(do="review-accept", id="c2")
    found = {record.id: record for record in preferences.records(run.dir)}
    assert found["c0"].dropped and found["c1"].answers[1].text == "mine" and not found["c2"].dropped
    assert "3 decided" in reviewview.draw(live.look())
    assert 'role="alert"' in act(do="review-accept", id="../c9")
    assert 'role="alert"' in act(do="review-edit", id="c1", values={"text": " "})


def test_a_python_function_is_never_run_to_see_whether_the_next_set_can_start(home: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (tmp_path / "mine.py").write_text(f"open({str(mark)!r}, 'w')\ndef score(prompt, answer):\n    return 1\n")
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "Why?"}\n')
    choice.update(feedback={"source": "rules", "data": str(tmp_path / "prompts.jsonl")})
    feedbackset.remember("rules", {**feedbackset.begins(live.look(), "rules"), "rule": f"{tmp_path}/mine.py:score"})
    assert page._why_not(live.look()) == "" and not mark.exists()


def test_what_is_missing_is_said_beside_start(home: Path) -> None:
    choice.update(feedback={"source": "judge", "data": "/none.jsonl"})
    said = page._why_not(live.look())
    assert "Nobody is named who judges" in said or "no file" in said
    assert page._start(live.look())["interactive"] is False


def test_what_a_red_team_asked_and_got_is_folded_away_behind_a_label(home: Path) -> None:
    run = made("redteam")
    asked = [{"role": "user", "content": "something unspeakable"}]
    about = {"attack": "attack_role_play", "request": "something unspeakable"}
    told = {"kind": "rule", "name": "redteam"}
    preferences.add(run.dir, Record(asked, [Answer("here is how", {})], labels=[False], by=told, about=about, id="r"))
    drawn = judgedview.table(live.look())
    summaries = re.findall(r"<summary>(.*?)</summary>", drawn)
    assert "A request that may offend, attack role play" in summaries[0] and "it may offend" in summaries[1]
    assert not any("unspeakable" in said or "here is how" in said for said in summaries)
    assert drawn.index(summaries[1]) < drawn.index("something unspeakable") < drawn.index("here is how")


@pytest.mark.parametrize("wicked", PAYLOADS)
def test_foreign_text_is_escaped(home: Path, wicked: str) -> None:
    revised(wicked)
    first = parts_of_page()
    run = ranked(2, wicked)
    act(do="rank", id=run.id)
    second = parts_of_page()
    rank.save(run, "s0", [1, 2, 3], wicked)
    act(do="rank-close")
    for drawn in (first, second, parts_of_page()):
        assert not any(
            f"<{tag}" in drawn.lower() for tag in ("script", "img", "iframe", "form", "svg on", "style", "object")
        )


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.skipif(browser.chromium() is None, reason="there is no Chromium on this machine")
def test_three_prompts_are_ranked_by_keys(home: Path) -> None:
    disk.choices(home)
    run = ranked(3)
    window = browser.Served(home, PORT)
    try:
        with browser.browser() as chrome:
            context = chrome.new_context(viewport={"width": 1280, "height": 900})
            tab = browser.open_tab(context, window.link, "feedback")
            faults: list[str] = []
            tab.on("pageerror", lambda error: faults.append(str(error)))
            tab.click("#st-page-feedback button:has-text('Rank the answers')")
            for keys in (("2", "1", "3"), ("3", "=", "1"), ("b",)):
                tab.wait_for_selector("[data-st-ranking]")
                sample = tab.get_attribute("[data-st-ranking]", "data-st-ranking")
                for key in keys:
                    tab.keyboard.press(key)
                tab.wait_for_selector("[data-st-rank-save]:enabled")
                tab.keyboard.press("Enter")
                tab.wait_for_selector(f"[data-st-ranking='{sample}']", state="detached", timeout=60_000)
            tab.wait_for_selector("text=All 3 ranked, person", timeout=60_000)
            tab.wait_for_timeout(3200)  # until then Save can be pressed again where it was not kept
            assert faults == []
            tab.click("button:has-text('Go to the set')")
            tab.wait_for_selector(".st-records")
            assert tab.locator(".st-records > li").count() == 3 and SECRET in tab.text_content(".st-records")
            assert "Traceback" not in tab.content() and tab.strangers == [] and tab.dialogs == []
    finally:
        window.close()
    found = preferences.records(run.dir)
    ranks = [[record.ranks[place] for place in record.about["order"]] if record.ranks else [] for record in found]
    assert ranks == [[2, 1, 3], [1, 2, 1], []] and [record.bad for record in found] == [False, False, True]
