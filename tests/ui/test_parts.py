"""Text of models and datasets stays text, whatever is in it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from studio.ui import chatview, chatvote, choice, dataview, live, parts, talk, tuning

PAYLOADS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "![p](http://tracker.example/p.png)",
    '<div style="position:fixed;inset:0;background:red">',
    '<form action="http://evil.example"><input name=q></form>',
    "<iframe src=http://evil.example></iframe>",
    "<style>*{display:none}</style>",
    "</section></div><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onfocus='alert(1)' autofocus='",
    "<meta http-equiv=refresh content='0;url=http://evil.example'>",
    "<base href=http://evil.example>",
    "<link rel=stylesheet href=http://evil.example>",
    "<button data-st-press=st-demo>",
    "${alert(1)} {{constructor}} `",
    "&lt;script&gt;",
    "<<script>script>alert(1)<</script>/script>",
]


class Seen(HTMLParser):
    """Collects the tags and attributes that a browser would see."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def see(html: str) -> Seen:
    seen = Seen()
    seen.feed(html)
    return seen


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_becomes_no_element_and_no_attribute(home: Path, payload: str) -> None:
    file = home / "x.gguf"
    file.touch()
    choice.update(chat={"files": [str(file)], "right": f"file:{file}"})
    facts = {"name": payload, "sha256": payload, "adapter": payload, "adapter_sha256": payload, "strength": 1.0}
    turn = {
        "user": payload,
        "answers": [payload, payload],
        "stats": [{"error": {"message": payload, "remedy": payload}}, {"why": "end", "stop_token": payload}],
        "who": [facts, facts],
    }
    blind = {**turn, "stats": [None, None], "blind": {"order": [0, 1], "choice": "", "on": ""}}
    judged = {**blind, "blind": {"order": [1, 0], "choice": payload, "on": payload}}
    talk.keep([blind])
    scene = live.look()
    token = {"text": payload, "id": payload, "trained": True}
    drawings = {
        "chat": chatview.body(0, scene, [turn, judged]) + chatview.body(1, scene, [turn, judged]),
        "vote": chatvote.card(scene),
        "tokens": dataview.tokens([token]),
        "error": parts.problem_from(
            {"message": payload, "remedy": payload, "file": payload, "field": payload}, details=payload
        ),
        "copy": parts.copy_button(payload),
        "examples": tuning.examples({"examples": [{"prompt": payload, "before": payload, "after": payload}]}),
        "facts": parts.facts([(payload, parts.code(payload))]),
    }
    for name, html in drawings.items():
        seen, plain = see(html), see(html.replace(parts.esc(payload), "x"))
        assert seen.tags == plain.tags, name
        assert [key for key, _ in seen.attributes] == [key for key, _ in plain.attributes], name


@pytest.mark.parametrize("payload", PAYLOADS)
def test_foreign_text_is_shown_as_it_is(payload: str) -> None:
    assert see(f"<p>{parts.esc(payload)}</p>").text == payload


def test_characters_that_reorder_text_are_shown_by_number() -> None:
    assert parts.esc("a\u202eb\u200b") == "a⟨U+202E⟩b⟨U+200B⟩"
    assert "\x00" not in parts.esc("a\x00b")


def test_very_long_text_is_cut_and_says_so() -> None:
    shown = parts.esc("w" * 1_000_000)
    assert len(shown) < parts.MAX_TEXT + 100 and "980,000 more characters" in shown


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, ""), (-1, ""), (0, "0 s"), (59.4, "59 s"), (60, "1 min"), (190, "3 min 10 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert parts.duration(seconds) == said


def test_sizes_and_amounts() -> None:
    assert [parts.size(n) for n in (12, 812_000, 11_700_000, 1.1e9, 3.4e11)] == [
        "12 bytes",
        "812 kB",
        "11.7 MB",
        "1.1 GB",
        "340 GB",
    ]
    assert [parts.amount(n) for n in (5_870_000, 1.7e9, 900)] == ["5.9 M", "1.7 B", "900"]


def test_numbers_that_are_none_are_said_in_words() -> None:
    assert parts.number(float("nan")) == parts.number(float("inf")) == "not a number"
    assert parts.number(0.0004) == "4.0e-4" and parts.number(1.234) == "1.23" and parts.number(0) == "0.00"


def test_an_error_shows_cause_place_and_remedy() -> None:
    text = see(
        parts.problem_from(
            {"message": "It is empty", "file": "a.jsonl", "line": 3, "field": "prompt", "remedy": "Fill it."}
        )
    ).text
    assert "It is empty" in text and "a.jsonl, line 3, field prompt" in text and "Fill it." in text
