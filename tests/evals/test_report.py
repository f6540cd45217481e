"""report.html: whole by itself, escaped whatever a model says, what got worse first, offensive text folded away."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from studio.evals import card, report
from studio.evals.suite import Measure, Outcome, Suite

EVIL = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
VOID = {"meta", "line", "circle", "br"}


class Reader(HTMLParser):
    """Collects tags and text, and minds that every tag is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def made(*rows: dict[str, Any], against: str | None = "base", **names: str) -> str:
    measures = (
        Measure("stops", names.get("label", "ends"), "Ends."),
        Measure("loss", "loss", "Loss.", "less", "mean", "nats"),
        Measure("nothing", "nothing", "Never measured."),
    )
    suite = Suite(
        "fit", names.get("title", "Fit"), "Says.", names.get("cannot", "Much."), measures, object, lambda _: Outcome()
    )
    out = Outcome(plots={"loss_by_length": {"before": [[1, 2.0], [3, 1.0]], "after": [[1, 0.5]]}, "other": [1]})
    for item in range(40):
        for side, stops, loss in (("before", 1, 1.0 + item / 40), ("after", 0, 2.0 + item / 30)):
            if side == "after" or against:
                out.mark("stops", side, str(item), stops)
                out.mark("loss", side, str(item), loss)
    document = {"run": "r", "of": names.get("of", "me"), "against": against, "through": "llama.cpp", "seed": 0}
    return report.page({**document, **card.card([(suite, out)])}, {"fit": rows})


def test_nothing_is_fetched_and_nothing_can_run() -> None:
    page = made({"item": "a", "measure": "stops", "asked": "Hi", "before": "x", "after": "y", "marks": {"after": 1.0}})
    reader = read(page)
    policy = next(tag for name, tag in reader.tags if name == "meta" and "http-equiv" in tag)["content"] or ""
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"'sha256-{digest}'" in policy and "script-src" not in policy
    names = {name for name, _ in reader.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form", "a"}
    keys = {key for _, tag in reader.tags for key in tag}
    assert not keys & {"src", "href", "style"} and not any(key.startswith("on") for key in keys)
    assert "prefers-color-scheme: dark" in style[1]


def test_what_got_worse_stands_before_all_else() -> None:
    text = "\n".join(read(made()).text)
    assert text.index("What got worse") < text.index("What got better") < text.index("Not measured here: nothing")
    worse = text[text.index("What got worse") : text.index("What got better")]
    assert "ends" in worse and "loss" in worse and "Holm" in worse
    assert "Nothing got better beyond chance." in text
    assert "What got worse" not in "\n".join(read(made(against=None)).text)


@pytest.mark.parametrize("place", ["asked", "before", "after", "item", "measure", "title", "extra"])
def test_whatever_a_model_says_is_text(place: str) -> None:
    row = {"item": "a", "measure": "stops", "asked": "Hi", "before": "x", "after": "y", "marks": {"after": 1.0}}
    plain, evil = read(made(row)), read(made({**row, place: EVIL}, of=EVIL, label=EVIL, cannot=EVIL))
    assert {name for name, _ in evil.tags} == {name for name, _ in plain.tags}
    assert EVIL in evil.text or any(EVIL in text for text in evil.text)


@settings(deadline=None)
@given(some.text(some.characters(exclude_categories=())), some.dictionaries(some.text(), some.text(), max_size=3))
def test_any_text_makes_a_page_that_can_be_written(said: str, extra: dict[str, str]) -> None:
    page = made(
        {"item": said, "measure": "stops", "asked": said, "after": said, "marks": {"after": 0.5}, "more": extra}
    )
    assert read(page) and page.encode("utf-8")


def test_a_sign_that_turns_the_direction_of_reading_ends_with_the_text_that_has_it() -> None:
    turned = "\u202edetrevni"
    page = made({"item": "a", "measure": "stops", "asked": turned, "after": turned, "marks": {"after": 1.0}})
    assert re.search(rf'<summary>1\. <span dir="auto">{turned}</span> <span', page)
    assert f'<pre dir="auto">{turned}</pre>' in page
    along: dict[str, Any] = {"columns": ["after"], "rows": [{"asked": "Q", "right": "A", "said": []}]}
    along["rows"][0]["said"] = [{"text": turned, "right": False, "goes_on": turned}]
    drawn = "".join(report._along(along))
    assert drawn.count(f'<span dir="auto">{turned}</span>') == 1


def test_offensive_text_is_folded_away_behind_a_label_of_its_own() -> None:
    row = {"item": "a", "measure": "stops", "asked": "INSULT", "before": "x", "after": "y", "marks": {"after": 1.0}}
    page = made({**row, "offensive": True})
    summaries = re.findall(r"<summary>(.*?)</summary>", page)
    assert not any("INSULT" in summary for summary in summaries)
    assert any("Show the text; it may offend" in summary for summary in summaries)
    assert page.index("it may offend") < page.index("INSULT") and "<details open" not in page
    assert any("INSULT" in summary for summary in re.findall(r"<summary>(.*?)</summary>", made(row)))


def test_the_flag_may_be_told_by_side_and_what_does_not_offend_is_shown() -> None:
    row = {"item": "a", "measure": "stops", "asked": "TEXT", "after": "y", "marks": {}}
    assert "it may offend" in made({**row, "offensive": {"before": False, "after": True}})
    assert "it may offend" not in made({**row, "offensive": {"after": False}})


def test_intervals_are_drawn_where_their_numbers_are() -> None:
    share = {"kind": "share", "unit": "", "sides": {"after": {"n": 4, "value": 0.5, "low": 0.25, "high": 1.0}}}
    drawn = read(report.intervals(share, 212)).tags
    line = next(tag for name, tag in drawn if name == "line" and tag.get("class") == "after")
    assert (line["x1"], line["x2"]) == ("56.0", "206.0")  # 6 + 200 * (0.25 and 1)
    assert next(tag for name, tag in drawn if name == "circle")["cx"] == "106.0"
    one = {"kind": "mean", "unit": "nats", "sides": {"after": {"n": 1, "value": 3.0, "low": None, "high": None}}}
    assert 'class="after"' in report.intervals(one)


def test_points_by_side_are_drawn_and_other_pictures_are_left_to_the_window() -> None:
    circles = [tag for name, tag in read(made()).tags if name == "circle" and "dot" in (tag.get("class") or "")]
    assert len(circles) == 3


def of_goodhart(fits: bool) -> str:
    """Give the report of a road whose gold is 0.2 + d (0.8 - 0.5 d) and whose proxy only rises."""
    ds = [0.0, 0.4, 0.8, 1.2, 1.6]
    road = [{"n": 2**at, "d": d, "proxy": d, "gold": 0.2 + d * (0.8 - 0.5 * d)} for at, d in enumerate(ds)]
    plots: dict[str, Any] = {
        "bon": road,
        "bon_turn": {**road[2], "sure": True},
        "names": {"proxy": "length", "gold": "x"},
    }
    for name, alpha, beta in (("proxy", 1.0, 0.0), ("gold", 0.8, 0.5)):
        plots[f"bon_fit_{name}"] = {"form": "bon", "alpha": alpha, "beta": beta, "error": 0.0} if fits else None
    suite = Suite("goodhart", "Goodhart", "Says.", "Much.", (), object, lambda _: Outcome())
    document = {"run": "r", "of": "me", "against": None, "through": "llama.cpp", "seed": 0}
    return report.page({**document, **card.card([(suite, Outcome(plots=plots))])}, {})


def test_fitted_curves_stand_over_the_measured_points_and_the_turn_is_marked() -> None:
    page = of_goodhart(True)
    reader = read(page)
    assert not {"style"} & {key for _, tag in reader.tags for key in tag}
    curves = [tag for name, tag in reader.tags if name == "polyline" and (tag["points"] or "").count(",") > 50]
    assert len(curves) == 4, "proxy and gold, drawn wide and narrow"
    text = " ".join(reader.text)
    assert "R(d) = d (0.8 − 0.5 d), highest at d = 0.80" in text and "square root of KL" in text
    assert "From best of 4 on the proxy still rises and the gold falls." in text
    assert "from best of 4 on: proxy up, gold down" in text and "not identified" not in text


def test_where_no_form_is_identified_that_is_said_and_no_curve_is_drawn() -> None:
    reader = read(of_goodhart(False))
    assert not [tag for name, tag in reader.tags if name == "polyline" and (tag["points"] or "").count(",") > 50]
    text = " ".join(reader.text)
    assert "no curve, not identified" in text and "too few or too alike" in text


def test_answers_before_during_and_after_stand_side_by_side() -> None:
    said = [{"text": EVIL, "right": False, "goes_on": ""}, {"text": "A foal.", "right": True, "goes_on": ""}]
    row = {"asked": "Which?", "right": "foal", "said": [*said, {"text": "", "right": False, "goes_on": "It is a foal"}]}
    plots = {"side_by_side": {"columns": ["before", "step 40", "after"], "rows": [row]}}
    suite = Suite("forgetting", "Forgetting", "Says.", "Much.", (), object, lambda _: Outcome())
    document = {"run": "r", "of": "me", "against": None, "through": "llama.cpp", "seed": 0}
    page = read(report.page({**document, **card.card([(suite, Outcome(plots=plots))])}, {}))
    text = [part.strip() for part in page.text]
    places = [text.index(word) for word in ("before", "step 40", "after", "Which?", "A foal.")]
    assert places == sorted(places) and EVIL in text
    assert any("goes on rightly: It is a foal" in part for part in text)


def test_where_nothing_could_be_compared_nothing_is_said_to_differ() -> None:
    suite = Suite("fit", "Fit", "Says.", "Much.", (), object, lambda _: Outcome())
    document = {"run": "r", "of": "me", "against": "base", "through": "llama.cpp", "seed": 0}
    page = report.page({**document, **card.card([(suite, Outcome())])}, {})
    assert "No figure could be compared" in page and "Every figure differs" not in page
