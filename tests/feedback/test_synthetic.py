"""Synthetic rows from seeds, topics and documents with a scripted producer: what is made and what is left out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl
from scripted import Reply, Scripted

import studio
from studio import events, paths, runs
from studio.cli.__main__ import run as cli
from studio.data import preferences
from studio.errors import ConfigError, DataError
from studio.feedback import inventing, licences, starts, synthetic
from studio.feedback.synthetic import (
    ALIKE,
    COPIED,
    CUT,
    ELSEWHERE,
    EMPTY,
    INSTRUCTION_CUT,
    LOOPED,
    MARKED,
    MENTIONS,
    NO_INSTRUCTION,
    NO_REQUEST,
    NOT_THERE,
    REFUSED,
)

WORDS = ["bread", "moon", "river", "clock", "piano", "garden", "winter", "letter", "harbour", "violin"]
WORDS += ["ladder", "candle"]
DOCUMENT = """# Bees

Bees tell each other where flowers are by dancing. The longer the dance lasts, the farther away the flowers are.

## The hive

A hive holds up to fifty thousand bees in summer. In winter they sit close together and keep each other warm.
"""
Turns = list[dict[str, Any]]


def script(
    ask: Any = None, answer: Any = "It depends on the weather and on the season."
) -> Callable[[Turns], str | Reply]:
    """Answer requests for an instruction and for an answer: with a text, or what a function makes of it."""

    def reply(turns: Turns) -> str | Reply:
        text = turns[-1]["content"]
        inventing = "Reply with" in text and "alone" in text
        which = (invented if ask is None else ask) if inventing else answer
        made: str | Reply = which(text) if callable(which) else which
        return made

    return reply


def invented(text: str) -> str:
    """Give an instruction about what was quoted, one of its own for every quotation."""
    quoted = re.findall(r"\]\n(.*?)\n\[end", text, re.DOTALL)[-1]
    number = sum(map(ord, quoted))
    return f"Tell me {WORDS[number % 12]} {WORDS[number // 12 % 12]} things about this: {quoted.split()[-1]} {number}?"


@pytest.fixture
def topics(tmp_path: Path) -> Path:
    path = tmp_path / "topics.txt"
    path.write_text("# a comment\n" + "\n".join(WORDS) + "\n\n")
    return path


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "seeds.jsonl", [{"prompt": f"What is a {word} made of?"} for word in WORDS])


def make(server: Scripted, data: Any = "", emit: Any = None, **settings: Any) -> tuple[Any, list[Any]]:
    settings = {"answers_from": server.name, **settings}
    result = studio.make_feedback("synthetic", data=data, settings=settings, emit=emit)
    return result, preferences.records(Path(result["dir"]))


def test_topics_become_instructions_with_answers_of_a_producer_that_is_named(topics: Path) -> None:
    with Scripted(script()) as server:
        result, records = make(server, topics=str(topics), n=2)
    assert result["from"] == "topics" and result["records"] == 24 and result["preference"] == 0
    kept = [one for one in records if not one.dropped]
    assert result["sft"] == len(kept) >= 12 and set(result["dropped"]) <= {ALIKE}
    one = kept[0]
    assert one.prompt[0]["content"].startswith("Tell me") and one.ranks == [1]
    assert one.by == {
        "kind": "producer",
        "name": server.name,
        "identity": {"name": server.name, "endpoint": f"127.0.0.1:{server.port}", "model": "scripted"},
        "licence": "not known",
    }
    assert one.about["topic"] == "bread" and one.about["line"] == 2 and one.answers[0].identity["stopped"]
    assert result["producer"]["licence"] == "not known" and "may restrict" in result["licence_note"]
    kinds = {re.search(r"Write (.*?) that", body["messages"][0]["content"])[1] for body in server.bodies[:2]}  # type: ignore[index]
    assert kinds and all(kind in "".join(body["messages"][0]["content"] for body in server.bodies) for kind in kinds)


def test_seeds_become_more_of_their_sort_and_each_is_shown_with_others(seeds: Path) -> None:
    with Scripted(script()) as server:
        result, records = make(server, seeds, n=1, limit=6)
        asked = [
            body["messages"][0]["content"] for body in server.bodies if "one more" in body["messages"][0]["content"]
        ]
    assert result["from"] == "seeds" and result["records"] == 6 and len(asked) == 6
    assert all(text.count("made of?") == starts.SHOWN for text in asked)
    assert sorted(one.about["line"] for one in records) == list(range(1, 7))


def test_seeds_may_only_be_answered_whole_conversations_too(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"prompt": "What is bread made of?"}]
    talk = [("user", "Hi"), ("assistant", "Hello."), ("user", "And what is a clock made of?")]
    rows.append(
        {"messages": [{"role": role, "content": text} for role, text in talk] + [{"role": "assistant", "content": "x"}]}
    )
    file = write_jsonl(tmp_path / "rows.jsonl", [rows[1], rows[1] | {"messages": rows[1]["messages"][2:]}])
    with Scripted(script()) as server:
        result, records = make(server, file, make="answers")
        assert result["records"] == 2 and records[0].prompt == rows[1]["messages"][:3]
        asked = sorted((body["messages"] for body in server.bodies), key=len)  # they come in together, in any order
        assert asked == [rows[1]["messages"][2:3], rows[1]["messages"][:3]]
        one_turn = write_jsonl(tmp_path / "talk.jsonl", [rows[1]])
        with pytest.raises(DataError, match="question of one turn"):
            make(server, one_turn)


def test_documents_become_questions_that_their_passages_answer(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "more").mkdir(parents=True)
    (folder / "bees.md").write_text(DOCUMENT)
    (folder / "more" / "b.txt").write_text("The town hall was built in 1904 and burnt down in 1931.")
    (folder / "image.png").write_bytes(b"\x89PNG")
    outside = tmp_path / "outside.txt"
    outside.write_text("A secret.")
    (folder / "link.txt").symlink_to(outside)
    with Scripted(script(answer="They dance where it was built, so it is told.")) as server:
        result, records = make(server, documents=str(folder), passage_words=30)
        assert [(one.about["document"], one.about["line"]) for one in records] == [
            ("bees.md", 1),
            ("bees.md", 5),
            ("more/b.txt", 1),
        ]
        assert result["sft"] == 3 and not any("secret" in str(body) for body in server.bodies)
        answering = [text for body in server.bodies if "Not there." in (text := body["messages"][0]["content"])]
        assert len(answering) == 3 and any("The town hall was built" in text for text in answering)
        assert "town hall" not in records[2].prompt[0]["content"]  # to know by heart
        _, records = make(server, documents=str(folder), passage_words=30, with_passage=True)
        assert records[2].prompt[0]["content"].startswith("The town hall was built in 1904")
        server.answer = script(answer="Not there.")
        result, _ = make(server, documents=str(folder / "bees.md"))
        assert result["dropped"] == {NOT_THERE: 1}
        server.answer = script(answer="Kangaroos live mostly in Australia.")
        assert make(server, documents=str(folder / "bees.md"))[0]["dropped"] == {ELSEWHERE: 1}
        server.answer = script(ask="What does the passage say of bees?", answer="They dance.")
        assert make(server, documents=str(folder / "bees.md"))[0]["dropped"] == {MENTIONS: 1}
        assert make(server, documents=str(folder / "bees.md"), with_passage=True)[0]["sft"] == 1


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"ask": ""}, NO_INSTRUCTION),
        ({"ask": "Sorry, I do not know that."}, NO_REQUEST),
        ({"ask": "I'm sorry, but I can't help with that."}, NO_REQUEST),
        ({"ask": Reply("Tell me about", finish="length")}, INSTRUCTION_CUT),
        ({"answer": ""}, EMPTY),
        ({"answer": Reply("It depends on", finish="length")}, CUT),
        ({"answer": "I'm sorry, but I can't help with that."}, REFUSED),
        ({"answer": lambda text: text.upper()}, COPIED),
        ({"answer": "It is what it is. " * 9}, LOOPED),
        ({"ask": "the moon [begin quoted 0123 Why?"}, MARKED),
        ({"answer": "It depends.<|im_end|>\n<|im_start|>user\nAnd?"}, synthetic.LINT["foreign_markers"]),
        ({"answer": "It depends on the caf\u00c3\u00a9 and its guests."}, synthetic.LINT["mojibake"]),
        ({"answer": "Dear {{name}}, it depends."}, synthetic.LINT["placeholder"]),
    ],
)
def test_what_the_lint_finds_is_left_out_and_counted(topics: Path, how: dict[str, Any], reason: str) -> None:
    told: list[events.Event] = []
    with Scripted(script(**how)) as server:
        result, _ = make(server, emit=told.append, topics=str(topics), limit=3)
    assert result["dropped"] == {reason: 3} and not result["usable"]
    assert any(one.get("code") == "no_rows" for one in told)


def test_refusals_stay_where_they_are_wanted(topics: Path) -> None:
    with Scripted(script(answer="I'm sorry, but I can't help with that.")) as server:
        assert make(server, topics=str(topics), limit=3, keep_refusals=True)[0]["sft"] == 3


def test_near_duplicates_of_rows_and_of_seeds_are_left_out_and_not_even_answered(seeds: Path) -> None:
    with Scripted(script(ask="What is a Moon made of ?")) as server:
        result, _ = make(server, seeds)
        assert result["dropped"] == {ALIKE: 12} and len(server.bodies) == 12  # it is a seed
        server.answer = script(ask="What is a small grey mouse made of, and why?")
        result, _ = make(server, seeds)
        assert result["dropped"] == {ALIKE: 11} and result["sft"] == 1


def test_a_model_that_continues_text_goes_on_with_a_list_and_its_first_line_is_the_instruction() -> None:
    asked = inventing.instruction(starts.Start([], "", 1, "k", kind="seeds", shown=("Why?\nHow?", "Who?")), 0, True)
    assert asked == [{"role": "user", "content": "1. Why? How?\n2. Who?\n3."}]
    assert inventing.one_line("What is ice?\n4. What is", True) == ("What is ice?", True)
    assert inventing.one_line("Write a note.\nIt is for", False) == ("Write a note.\nIt is for", False)
    for text in ("I don't know what to cook. Which soup is easy?", "Write a note that says: I do not know."):
        assert not inventing.asks_nothing(text)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("The pig has four legs.\nThe city of Lyon is in France", "The pig has four legs."),
        ('She said "Go!"\n\nAnd then', 'She said "Go!"'),
        ("Two things help:\n- rest\n- water", ""),
        ("These do.\n1. Rest", ""),
        ("It is cold", ""),
    ],
)
def test_an_answer_in_raw_text_ends_with_a_sentence_that_ends_a_line(text: str, whole: str) -> None:
    assert inventing.one_answer(text, True) == ((whole, True) if whole else (text, False))
    assert inventing.one_answer(text, False) == (text, False)


def test_an_answer_that_adds_nothing_of_its_passage_was_not_taken_from_it() -> None:
    passage, asked = "The capital of Chile is Santiago.", "What is the capital of Georgia?"
    assert inventing.elsewhere("The capital of Georgia is Tbilisi.", asked, passage, raw=True)
    assert not inventing.elsewhere("The capital of Georgia is Tbilisi.", asked, passage, raw=False)  # only one word
    assert inventing.elsewhere("Penguins hunt small fishes there.", asked, passage, raw=False)
    assert not inventing.elsewhere("It is Santiago.", "What is Chile's capital?", passage, raw=True)
    assert not inventing.elsewhere("Yes.", asked, passage, raw=True)


def test_passages_keep_headings_with_their_text_and_cut_what_is_too_long() -> None:
    assert list(starts.passages(DOCUMENT, 30)) == [
        (1, DOCUMENT.split("\n\n##")[0]),
        (5, "##" + DOCUMENT.split("\n\n##")[1].rstrip()),
    ]
    assert [text for _, text in starts.passages(DOCUMENT, 2000)] == [DOCUMENT.strip()]
    long = " ".join(f"This is sentence number {i} of it." for i in range(40))  # 280 words in one paragraph
    cut = [text for _, text in starts.passages(long, 50)]
    assert all(len(text.split()) <= 50 and text.endswith("of it.") for text in cut) and " ".join(cut) == long
    endless = [text for _, text in starts.passages("word " * 130, 50)]
    assert [len(text.split()) for text in endless] == [50, 50, 30]
    assert list(starts.passages("\n \n", 50)) == []


def test_a_script_without_spaces_is_cut_by_its_characters() -> None:
    sentence = "奶牛吃草，也吃干草。"  # nine characters and the stop, which counts as part of a word
    cut = [text for _, text in starts.passages(sentence * 40, 50)]
    assert "".join(cut) == sentence * 40 and len(cut) > 5
    assert all(text.endswith("。") and len(text) <= 60 for text in cut)


def test_a_binary_file_is_no_document(tmp_path: Path) -> None:
    file = tmp_path / "archive.txt"
    file.write_bytes(b"PK\x03\x04\0\0 not text")
    with pytest.raises(DataError, match="no text") as caught:
        starts.of_documents(tmp_path, 1, 50)
    assert caught.value.file == str(file)


def test_what_it_begins_with_is_one_thing_that_is_there(topics: Path, seeds: Path, tmp_path: Path) -> None:
    with Scripted(script()) as server:
        for words, data, settings in (
            ("Nobody is named", seeds, {"answers_from": ""}),
            ("Nothing is named", "", {}),
            ("or more than one", seeds, {"topics": str(topics)}),
            ("Both topics and documents", "", {"topics": str(topics), "documents": str(topics)}),
            ("is not there", "", {"topics": str(tmp_path / "none.txt")}),
            ("is not on this machine", seeds, {"answers_from": "https://api.example.org/v1#m"}),
        ):
            with pytest.raises(ConfigError, match=words):
                make(server, data, **settings)
        for name, content, words in (
            ("empty.txt", b"# only a comment\n", "names no topic"),
            ("long.txt", b"bread\n" + b"x" * 301, "longer than 300"),
            ("bad.txt", b"bread\n\xff\xfe", "not UTF-8"),
        ):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(DataError, match=words) as caught:
                make(server, topics=str(tmp_path / name))
            assert caught.value.line == (None if name == "empty.txt" else 2)
        (tmp_path / "void").mkdir()
        with pytest.raises(DataError, match="no text in it"):
            make(server, documents=str(tmp_path / "void"))
        assert server.bodies == []


def test_the_licence_is_read_from_the_catalogue_a_card_a_file_or_is_not_known(tmp_path: Path, tiny: Path) -> None:
    assert licences.of("starter") == "apache-2.0"
    assert (
        licences.of(str(tiny))
        == licences.of("http://127.0.0.1:1/v1#m")
        == licences.of(str(tmp_path / "no"))
        == "not known"
    )
    import shutil

    mine = shutil.copytree(tiny, tmp_path / "mine")
    (mine / "LICENSE").write_text("\n  My Own Licence\nwith conditions\n")
    assert licences.of(str(mine)) == "My Own Licence"
    (mine / "README.md").write_text("---\nlicense: MIT\n---\n# Mine\n")
    assert licences.of(str(mine)) == "mit"


def test_the_command_line_makes_rows_that_train_as_they_are(
    topics: Path, tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Scripted(script()) as server:
        words = ["feedback", "synthetic", "--topics", str(topics), "--answers-from", server.name, "-n", "2"]
        assert cli([*words, "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
    assert result["sft"] >= 12 and paths.runs() == Path(result["dir"]).parent
    run = runs.find(result["run"])
    assert run.config.options["source"] == "synthetic" and run.config.options["topics"] == str(topics)
    words = ["train", "sft", "--model", str(tiny), "--data", result["run"], "--set", "max_steps=2", "--json"]
    assert cli(words) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]
