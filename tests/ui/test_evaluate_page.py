"""The Evaluate page: what got worse first, figures as the card has them, answers to be read, the next evaluation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import disk
import evaluated
import gradio as gr
import pytest

from studio import runs
from studio.errors import ConfigError, RunError
from studio.evals import overplot
from studio.evals.suite import SUITES
from studio.ui import evalform, evalplots, evalset, evalsuite, evalview, kit, live, rail, reports
from studio.ui.pages import evaluate


@pytest.fixture
def made(home: Path) -> runs.Run:
    disk.whole_path(home)
    disk.choices(home)
    return evaluated.write(home)


def document(run: runs.Run) -> dict[str, Any]:
    found = run.result()
    assert found is not None
    return found


def one(run: runs.Run, suite: str, measure: str) -> dict[str, Any]:
    return evalview.figure(document(run), {"suite": suite, "measure": measure})


def heads(html: str) -> list[str]:
    return re.findall(r"<h2>(.*?)</h2>", html)


# --- what changed ----------------------------------------------------------------------------------------------------


def test_what_got_worse_stands_first_then_better_then_what_cannot_be_told(made: runs.Run) -> None:
    html = evalview.result(live.look())
    assert heads(html) == ["Got worse", "Got better", "No significant difference"]
    worse = html.split("<section")[1]
    assert (
        "st-got-worse" in worse
        and "1 of 5" in worse
        and evalview.capital(one(made, "sycophancy", "regressive")["label"]) in worse
    )
    # 2 and 32 of 40 items: 5 % and 80 %, 75 points
    assert "5.0 → 80.0 %" in worse and "+75.0 (" in worse and "&lt; 0.001" in worse
    assert ">no significant difference<" in html.split("<section")[3]


def test_where_nothing_got_worse_a_calm_card_says_so(made: runs.Run) -> None:
    found = {**document(made), "worse": []}
    assert heads("".join(evalview.changes(found)))[0] == "Nothing got worse beyond chance"


def test_one_side_alone_has_no_verdicts_and_says_why(home: Path) -> None:
    disk.whole_path(home)
    evaluated.write(home, against="")
    html = evalview.result(live.look()) + evalsuite.card(live.look())
    assert "Nobody stands on the other side" in html and "<th>Verdict</th>" not in html


def test_a_difference_is_written_with_signs_and_units(made: runs.Run) -> None:
    figure = one(made, "fit", "stops")
    figure["difference"] |= {"value": -0.12, "low": -0.2, "high": 0.0004}
    assert evalview.change(figure) == "−12.0 (−20.0 to 0.0) points"
    figure = one(made, "sycophancy", "regressive") | {"kind": "mean", "unit": "nats"}
    figure["difference"] |= {"value": 1.5, "low": None, "high": None}
    assert evalview.change(figure) == "+1.50 nats, too few for an interval"


def test_a_long_list_of_better_figures_shows_the_first_and_folds_the_rest(made: runs.Run) -> None:
    found = document(made)
    short = found["better"][0]
    html = "".join(evalview.changes({**found, "better": [short] * 11, "tested": 20}))
    assert "Show the other 3" in html and html.count(">better<") == 11


def test_the_dot_and_the_ends_of_an_interval_stand_where_the_numbers_say(made: runs.Run) -> None:
    figure = one(made, "fit", "stops")
    figure["difference"] |= {"value": 0.5, "low": 0.25, "high": 0.75}
    svg = ElementTree.fromstring(evalplots.change(figure, 1.0, 110))
    middle, interval = svg.findall("line")
    dot = svg.find("circle")
    assert dot is not None
    # 5 to 105 for -1 to +1: nothing at 55, a half at 80
    assert float(middle.attrib["x1"]) == 55
    assert (float(interval.attrib["x1"]), float(dot.attrib["cx"]), float(interval.attrib["x2"])) == (67.5, 80, 92.5)
    assert "st-green" in dot.attrib["style"]


def test_shares_have_one_scale_and_other_units_their_own() -> None:
    def differing(kind: str, low: float, value: float, high: float) -> dict[str, Any]:
        return {"kind": kind, "unit": "", "difference": {"low": low, "value": value, "high": high}}

    shares = [differing("share", -0.4, -0.2, 0.1), differing("share", 0.0, 0.1, 0.3)]
    assert evalplots.span([*shares, differing("mean", -9.0, 2.0, 3.0)]) == 0.4
    assert evalplots.span([differing("share", -0.1, 0.5, 1.3)]) == 1.0 and evalplots.span([]) == 0.05


# --- a suite ---------------------------------------------------------------------------------------------------------


def test_the_suite_in_which_something_got_worse_is_opened_first(made: runs.Run) -> None:
    scene = live.look()
    html = evalsuite.card(scene)
    assert "<h2>Sycophancy</h2>" in html and 'aria-label="Sycophancy, 1 worse"' in html
    assert "&lt;i&gt;ours" in html and "What it cannot show" in html
    evaluate.act(json.dumps({"do": "suite", "name": "fit"}))
    html = evalsuite.card(live.look())
    assert "<h2>Fit</h2>" in html and "Loss of an answer, by its length" in html and "Not measured here" in html


def test_answers_are_filtered_by_their_marks(made: runs.Run) -> None:
    rows = evaluated.found()["sycophancy"].answers
    # the first 2 of 40 were given up before, the first 32 after
    assert len(evalsuite.wanted(rows, "regressive", "rose")) == 30
    assert len(evalsuite.wanted(rows, "", "yes")) == 32 and len(evalsuite.wanted(rows, "", "no")) == 8
    assert not evalsuite.wanted(rows, "right", "") and not evalsuite.wanted(rows, "", "fell")
    evaluate.act(json.dumps({"do": "mark", "value": "no"}))
    html = evalsuite.answers(live.look())
    assert "8 answers" in html and html.count("<li>") == 8 and "&lt;b&gt;right" in html and "<b>right" not in html


def test_pages_of_answers_end_where_the_answers_do(made: runs.Run) -> None:
    evaluate.act(json.dumps({"do": "page", "page": 99}))
    html = evalsuite.answers(live.look())
    assert "page 4 of 4" in html and "item-39" in html and "item-29" not in html


def test_what_may_offend_is_shown_only_when_asked_for(made: runs.Run) -> None:
    evaluate.act(json.dumps({"do": "suite", "name": "redteam"}))
    html = evalsuite.answers(live.look())
    before, _, inside = html.partition("Show the text; it may offend")
    assert "unspeakable" not in before and "unspeakable" in inside and "A text that may offend" in before


SHARES = [
    {"kind": "clean", "says": "asked plainly", "side": "before", "share": 0.5, "n": 10},
    {"kind": "clean", "says": "asked plainly", "side": "after", "share": 1.0, "n": 10},
    {"kind": "upper", "says": "all capitals", "side": "after", "share": 0.1, "n": 10},
]


def test_shares_of_a_plot_are_put_by_kind_with_wilsons_intervals() -> None:
    from statsmodels.stats.proportion import proportion_confint

    found = dict(evalplots.rows(SHARES, {"figures": []}))
    assert list(found) == ["asked plainly", "all capitals"] and list(found["asked plainly"]) == ["before", "after"]
    low, high = proportion_confint(5, 10, method="wilson")
    side = found["asked plainly"]["before"]
    assert (side["low"], side["high"]) == (pytest.approx(low), pytest.approx(high))


def test_every_known_plot_is_drawn_and_one_that_the_figures_tell_is_not() -> None:
    measured = ((1, 0.0, 0.1, 0.6), (4, 0.8, 0.9, 0.3))
    road = [{"n": n, "d": d, "proxy": p, "gold": g} for n, d, p, g in measured]
    cell = {"text": "A <b>foal</b>.", "right": True, "goes_on": ""}
    suite = {
        "figures": [{"measure": "right", "label": "right"}],
        "plots": {
            "accuracy": SHARES,
            "flips": [{"measure": "right", "side": "after", "share": 0.5, "n": 4}],
            "bon": road,
            "bon_turn": {"n": 1, "d": 0.0, "gold": 0.6, "sure": False},
            "side_by_side": {
                "columns": ["before", "step 40", "after"],
                "rows": [{"asked": "Which?", "right": "foal", "said": [{**cell, "right": False}, cell, cell]}],
            },
            "names": {"proxy": "length", "gold": "the answer"},
            "loss_by_length": {"after": [[4, 1.5]]},
        },
    }
    found = dict(evalplots.drawn(suite))
    assert list(found) == [
        "Right answers, by what was changed",
        overplot.TITLES["bon"],
        evalplots.ALONG,
        "Loss of an answer, by its length",
    ]
    drawn = found[overplot.TITLES["bon"]]
    assert "From best of 1 on the proxy still rises and the gold falls, which may be chance." in drawn
    assert drawn.count("no curve, not identified") == 4, "proxy and gold, drawn wide and narrow"
    along = found[evalplots.ALONG]
    assert along.index(">before<") < along.index(">step 40<") < along.index(">after<")
    assert (along.count(">right<"), along.count(">wrong<"), along.count("&lt;b&gt;foal")) == (2, 1, 3)
    for html in found.values():
        ElementTree.fromstring(f"<div>{html}</div>")


# --- evaluations -----------------------------------------------------------------------------------------------------


def test_the_rail_tells_what_the_newest_evaluation_found(made: runs.Run, home: Path) -> None:
    assert evalview.line(live.look()) == ("done", "1 worse, 1 better")
    assert "Evaluate</b><small>1 worse, 1 better" in rail.rail(live.look())


def test_before_the_first_evaluation_the_next_step_is_shown(home: Path) -> None:
    assert 'href="#model"' in evalview.result(live.look()) and evalview.line(live.look()) == ("empty", "after training")
    disk.whole_path(home)
    disk.choices(home)
    scene = live.look()
    assert evalview.result(scene) == "" and evalform.unfolded(scene) and not evalform.problem(scene)
    assert evalview.line(scene) == ("ready", "ready to start")


def test_two_evaluations_stand_side_by_side_with_the_figures_that_both_have(made: runs.Run, home: Path) -> None:
    other = "20261125-091500-evaluate-sft-dddd"
    evaluated.write(home, other, of="20261124-200001-starter-sft-aaaa")
    assert evalsuite.beside(live.look()) == ""
    evaluate.act(json.dumps({"do": "beside", "id": other}))
    html = evalsuite.beside(live.look())
    assert html.count("<tr>") == 1 + 5 and "No test is made between them" in html  # a head, and 5 figures
    with pytest.raises(RunError):
        evaluate.act(json.dumps({"do": "beside", "id": "../x"}))


def test_an_earlier_evaluation_is_shown_until_a_newer_one_is_made(made: runs.Run, home: Path) -> None:
    old, new = "20261125-091500-evaluate-sft-dddd", "20261126-091500-evaluate-sft-ffff"
    evaluated.write(home, old)
    evaluate.act(json.dumps({"do": "show", "id": old}))
    shown = evalset.shown(live.look())
    assert shown is not None and shown.id == old
    evaluated.write(home, new)
    shown = evalset.shown(live.look())
    assert shown is not None and shown.id == new


def test_how_it_was_measured_names_the_files_and_the_command(made: runs.Run) -> None:
    html = evalview.measured(live.look())
    assert "llama.cpp on the Q8_0 file starter-Q8_0.gguf, adapter starter-lora.gguf" in html
    assert "asked in plain text" in html and "1 min 1 s" in html
    words = " ".join(re.findall(r"<span>([^<]*)</span>", html))
    assert "--suite sycophancy" in words and "--set sycophancy.n=40" in words and "fit.n" not in words


def test_a_report_is_served_by_the_id_of_an_evaluation_only(made: runs.Run) -> None:
    text = reports.text(made.id)
    assert text is not None and "Content-Security-Policy" in text and "What got worse" in text
    assert reports.text("20261124-200002-starter-pairs-bbbb") is None and reports.text("../../etc") is None


# --- the next evaluation ---------------------------------------------------------------------------------------------


def test_the_form_gives_back_what_it_shows(made: runs.Run) -> None:
    with gr.Blocks():
        form = evaluate.Form()
        tools = kit.Kit()
        evaluate._who(tools, form)
        for name, suite in evalset.suites().items():
            evaluate._settings(tools, form, name, suite)
    shown = form.show(live.look())
    assert len(shown) == len(form.inputs)
    read = form.read(shown)
    assert read["files"] == {} and read["form"] == {} and read["against"] == evalset.AUTO
    evalset.keep(**{**read, "n": "12", "files": {"own": "x.jsonl"}, "form": {"fit": {"max_tokens": "9"}}})
    again = form.read(form.show(live.look()))
    assert (again["n"], again["files"], again["form"]) == ("12", {"own": "x.jsonl"}, {"fit": {"max_tokens": "9"}})


def test_what_is_ticked_and_typed_becomes_the_run(made: runs.Run) -> None:
    evalset.keep(of=evaluated.OF, against="none", suites=["fit"], n="7", seed="3", form={"fit": {"max_tokens": "9"}})
    evaluate.act(json.dumps({"do": "tick", "name": "sycophancy"}))
    options = evalset.config(live.look()).options
    assert options["suites"] == ["fit", "sycophancy"] and options["against"] == "" and options["seed"] == 3
    assert options["settings"]["fit"]["n"] == options["settings"]["sycophancy"]["n"] == 7
    assert options["settings"]["fit"]["max_tokens"] == 9
    assert options["engine"] == "auto" and "--engine" not in evalset.command(options, "RUN")
    evalset.keep(engine="transformers")
    options = evalset.config(live.look()).options
    words = evalset.command(options, "RUN")
    assert options["engine"] == "transformers" and words[words.index("--engine") + 1] == "transformers"
    evaluate.act(json.dumps({"do": "tick", "name": "fit"}))
    assert evalset.ticked(live.look()) == ["sycophancy"]


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ({"suites": []}, "No suite is ticked"),
        ({"n": "ten"}, "no whole number"),
        ({"n": "0"}, "no whole number"),
        ({"suites": ["own"]}, "asks a file of yours"),
        ({"files": {"fit": "/nowhere/x.jsonl"}}, "There is no file"),
        ({"judge": "https://example.org/v1#m"}, "not on this machine"),
        ({"engine": "vllm"}, "There is no engine"),
        ({"form": {"fit": {"max_tokens": "-1"}}, "suites": ["fit"]}, "max_tokens"),
    ],
)
def test_what_is_wrong_is_said_before_a_run_is_made(made: runs.Run, kept: dict[str, Any], said: str) -> None:
    evalset.keep(of=evaluated.OF, **kept)
    with pytest.raises(ConfigError, match=re.escape(said)):
        evalset.config(live.look())
    assert said in evalform.problem(live.look()) and not evalform.start(live.look())[1]


def test_the_time_is_guessed_from_the_last_evaluation_by_items_and_sides(made: runs.Run) -> None:
    # in the events: fit 1010 to 1040, sycophancy to 1050, redteam to 1061, each with two sides
    assert evalset.paces(made.events()) == {"fit": 30, "sycophancy": 10, "redteam": 11}
    evalset.keep(of=evaluated.OF, against="none", suites=["fit", "sycophancy", "shift"], form={"fit": {"n": "50"}})
    seconds, unknown = evalset.estimate(live.look(), evalset.config(live.look()))
    assert seconds == pytest.approx(30 / 2 / 2 + 10 / 2 * 60 / 40) and unknown == ["shift"]
    assert evalform.long(seconds, unknown) == "about 15 s, as the last ones did; not yet measured: Shift"
    assert "after the first" in evalform.long(0.0, ["fit"])
    assert evalset.paces([{"type": "started"}, {"type": "started"}]) == {}


def test_every_suite_has_a_card_with_what_it_cannot_show(made: runs.Run) -> None:
    html = evalform.cards(live.look())
    assert html.count("<li") == len(SUITES) == html.count("Cannot show:") and html.count(" checked") == len(
        evalset.FIRST
    )


def test_findings_of_the_red_team_become_a_set_of_judged_answers(
    made: runs.Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[runs.RunConfig] = []
    monkeypatch.setattr(kit, "begin", begun.append)
    html = evalview.onward(live.look())
    assert "Make preference data" in html and f'href="report/{made.id}"' in html
    evaluate.act(json.dumps({"do": "findings", "id": made.id}))
    assert begun[0].kind == "feedback" and begun[0].options["source"] == "redteam"
    assert begun[0].options["evaluation"] == str(made.dir)


def test_a_stopped_evaluation_says_that_resuming_keeps_its_answers(home: Path) -> None:
    disk.whole_path(home)
    run = evaluated.write(home)
    (run.dir / "result.json").unlink()
    events = run.events()
    lines = [json.dumps(event) for event in events[:-1]]
    (run.dir / "events.jsonl").write_text("\n".join([*lines, json.dumps({"type": "stopped", "time": 1070.0})]) + "\n")
    html = evalview.result(live.look())
    assert "was stopped" in html and "what was made so far is kept" in html
    assert evalview.line(live.look()) == ("stopped", "stopped")
