"""Rules that score answers: what each gives, and what a bad one says."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from studio.data import rules
from studio.data.rules import absolute, rule
from studio.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("spec", "answer", "reference", "score"),
    [
        ("exact", "  Four\nlegs. ", "Four legs.", 1.0),
        ("exact", "four legs.", "Four legs.", 0.0),
        ("json", '{"a": [1, 2]}', "", 1.0),
        ("json", '{"a": 1} Is that right?', "", 0.0),
        ("json", "NaN", "", 0.0),
        ("json", "[" * 100_000, "", 0.0),
        ("json", "", "", 0.0),
        ("sentence", "The cat sleeps.", "", 1.0),
        ("sentence", "the cat sleeps.", "", 0.0),
        ("sentence", "The cat sleeps", "", 0.0),
        ("sentence", "Four.", "", 0.0),
        ("sentence", "", "", 0.0),
        ("length:4-8", "one two three four", "", 1.0),
        ("length:4-8", "one", "", 0.25),
        ("length:4-8", "a " * 16, "", 0.5),
        ("length:4-8", "", "", 0.0),
        (r"regex:^The .*\.$", " The cat sleeps. ", "", 1.0),
        (r"regex:^The .*\.$", "A cat sleeps.", "", 0.0),
        (r"regex:a:b", "xa:bx", "", 1.0),
    ],
)
def test_a_rule_scores_an_answer(spec: str, answer: str, reference: str, score: float) -> None:
    made = rule(spec)
    assert made("q", answer, reference, True) == score
    made.close()


def test_exact_needs_an_answer_to_compare_with() -> None:
    made = rule("exact")
    assert made.needs_reference
    with pytest.raises(DataError, match="this row has none"):
        made("q", "a", "", True)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("", "is no rule"),
        ("best", "is no rule"),
        ("exact:", "is no rule"),
        ("regex:", "empty"),
        ("regex:(", "not one"),
        ("length:", "band of words"),
        ("length:8-4", "band of words"),
        ("length:0-4", "band of words"),
        ("length:a-b", "band of words"),
        ("/nowhere/mine.py:score", "no file"),
    ],
)
def test_a_text_that_names_no_rule_is_refused_with_a_remedy(spec: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        rule(spec)
    assert caught.value.field == "reward" and caught.value.remedy


def test_a_pattern_that_would_take_for_ever_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "PATTERN_SECONDS", 1.0)
    made, began = rule("regex:^(a+)+$"), time.monotonic()
    with pytest.raises(DataError, match="took more than"):
        made("q", "a" * 50 + "b", "", True)
    assert time.monotonic() - began < 10
    assert made("q", "aaa", "", True) == 1.0
    made.close()


def _file(folder: Path, body: str) -> str:
    path = folder / "mine.py"
    path.write_text(body, encoding="utf-8")
    return f"{path}:score"


def test_a_function_of_ones_own_is_given_all_four(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    body = (
        "def score(prompt, answer, reference, stopped):\n"
        "    print('seen')\n"
        "    return (prompt, answer, reference, stopped) == ('q', 'a', 'r', False)\n"
    )
    made = rule(_file(tmp_path, body))
    assert made("q", "a", "r", False) == 1.0
    assert made("q", "a", "r", True) == 0.0
    made.close()
    assert capfd.readouterr().out == ""


def test_a_file_is_loaded_as_an_import_would(tmp_path: Path) -> None:
    """What lies beside it can be imported, and dataclasses with texts for types are found in their module."""
    (tmp_path / "studio_rule_words.py").write_text("GOOD = 3\n")
    file = tmp_path / "mine.py"
    file.write_text(
        "from __future__ import annotations\nimport dataclasses\nimport studio_rule_words\n\n"
        "@dataclasses.dataclass\nclass Score:\n    value: int\n\n"
        "def score(prompt, answer, reference, stopped):\n    return Score(studio_rule_words.GOOD).value\n"
    )
    made = rule(f"{file}:score")
    try:
        assert made("q", "a") == 3.0
    finally:
        made.close()


@pytest.mark.parametrize(
    ("body", "said", "line"),
    [
        ("def score(:\n", "SyntaxError", 1),
        ("x = 1\nraise ValueError('no luck')\n", "no luck", 2),
        ("def other(p, a, r, s): return 1\n", "no function 'score'", None),
        ("raise SystemExit(3)\n", "SystemExit", 1),
        ("import os\nos._exit(3)\n", "exit code 3", None),
    ],
)
def test_a_file_that_cannot_be_loaded_is_refused_before_the_run(
    tmp_path: Path, body: str, said: str, line: int | None
) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        rule(_file(tmp_path, body))
    assert caught.value.line == line and caught.value.file and caught.value.remedy


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1 / 0", "failed in its line 2: ZeroDivisionError"),
        ("float('nan')", "gave 'nan'"),
        ("float('inf')", "gave 'inf'"),
        ("None", "gave 'None'"),
        ("'well'", "gave 'well'"),
        ("10 ** 400", "gave '1000"),
        ("__import__('os')._exit(7)", "exit code 7"),
    ],
)
def test_a_function_that_fails_says_where_and_with_what(tmp_path: Path, value: str, said: str) -> None:
    made = rule(_file(tmp_path, f"def score(prompt, answer, reference, stopped):\n    return {value}\n"))
    with pytest.raises(DataError, match=said) as caught:
        made("q", "the answer", "", True)
    assert "the answer" in caught.value.message + caught.value.remedy
    made.close()


def test_what_is_no_function_of_four_is_said_without_a_line_of_ours(tmp_path: Path) -> None:
    made = rule(_file(tmp_path, "class score:\n    pass\n"))
    with pytest.raises(DataError, match="score failed: TypeError"):
        made("q", "the answer", "", True)
    made.close()


def test_a_file_is_kept_by_its_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    assert absolute("mine.py:score") == f"{tmp_path.resolve() / 'mine.py'}:score"
    assert absolute("regex:x.py:y") == "regex:x.py:y"
    assert absolute(" length:2-3 ") == "length:2-3"
