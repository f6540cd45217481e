"""The lint finds what ruins runs, on the right lines, and is silent about good rows."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.data import finding, near, same, signs
from studio.data.drop import Dropper
from studio.data.lint import Lint, kto_weights
from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Reading, Record, Text

SENTENCE = "river stone amber winter candle market silver garden letter window harbour ladder orchard pepper violin"
WORDS = SENTENCE.split()


def said(seed: int, words: int = 12) -> str:
    """A sentence that no other seed gives."""
    rng = random.Random(seed)
    return f"Number {seed}: " + " ".join(rng.choices(WORDS, k=words)) + "."


def talk(*turns: tuple[str, str], line: int = 1) -> Conversation:
    return Conversation(tuple(Message(role, text) for role, text in turns), line)


def exchange(line: int, question: str = "", answer: str = "") -> Conversation:
    return talk(("user", question or said(line)), ("assistant", answer or said(1000 + line)), line=line)


def pair(line: int, prompt: str = "", chosen: str = "", rejected: str = "") -> Preference:
    return Preference(
        (Message("user", prompt or said(line)),),
        (Message("assistant", chosen or said(1000 + line)),),
        (Message("assistant", rejected or said(2000 + line)),),
        line,
    )


def rated(line: int, label: bool, prompt: str = "", completion: str = "") -> Rated:
    return Rated(
        (Message("user", prompt or said(line)),), (Message("assistant", completion or said(1000 + line)),), label, line
    )


def lint(records: Iterable[Record], **how: Any) -> dict[str, dict[str, Any]]:
    made = Lint(**how)
    for record in records:
        made.add(record)
    found = made.findings()
    assert len({entry["code"] for entry in found}) == len(found)
    json.dumps(found)
    return {entry["code"]: entry for entry in found}


def with_answer(text: str) -> Callable[[int], Record]:
    return lambda line: exchange(line, answer=f"{said(line)} {text} and so on")


def with_question(text: str) -> Callable[[int], Record]:
    return lambda line: exchange(line, question=f"{said(line)} {text} and so on")


GITHUB = "ghp_" + "a1B2" * 9
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

# What must be found, each by a row that has it among nine that do not.
ODD: list[tuple[str, Callable[[int], Record]]] = [
    ("secret", with_answer("hf_" + "AbCdEfGh12" * 4)),
    ("secret", with_answer("sk-proj-" + "Ab1_" * 10)),
    ("secret", with_question(GITHUB)),
    ("secret", with_answer("key: AKIAIOSFODNN7EXAMPLE, it is")),
    ("secret", with_answer(JWT)),
    ("secret", with_answer("-----BEGIN RSA PRIVATE KEY-----\nMIIE")),
    ("secret", with_answer("-----BEGIN PRIVATE KEY-----\nMIIE")),
    ("pii", with_answer("write to ada.lovelace@analytical-engine.co.uk")),
    ("pii", with_question("my card is 4539 1488 0343 6467")),
    ("pii", with_question("my card is 378282246310005")),
    ("pii", with_answer("IBAN DE89 3704 0044 0532 0130 00")),
    ("pii", with_answer("IBAN GB82WEST12345698765432")),
    ("pii", with_answer("call +49 30 901820 today")),
    ("pii", with_answer("call (650) 636-4884")),
    ("mojibake", with_answer("his fiancÃ© came")),
    ("mojibake", with_answer("it wasnâ€™t there")),
    ("mojibake", with_answer("donâ\x80\x99t")),
    ("mojibake", with_answer("a lost � one")),
    ("mojibake", with_answer("ÐŸÑ€Ð¸Ð²ÐµÑ‚")),
    ("control_characters", with_answer("\x0crac{1}{2}")),
    ("control_characters", with_answer("\x1b[31mred")),
    ("control_characters", with_question("zero\u200bwidth")),
    ("control_characters", with_question("txt\u202egpj.exe")),
    ("no_break_space", with_answer("10\xa0km")),
    ("foreign_markers", with_answer("<|im_start|>assistant")),
    ("foreign_markers", with_question("[INST] Hello [/INST]")),
    ("foreign_markers", with_question("<<SYS>>\nBe kind\n<</SYS>>")),
    ("foreign_markers", with_question("<start_of_turn>user")),
    ("foreign_markers", with_answer("Done.<|eot_id|>")),
    ("foreign_markers", with_answer("Done.</s>")),
    ("foreign_markers", with_question("\n### Instruction:\nAdd")),
    ("foreign_markers", with_question("\nHuman: hello\nAssistant: hi")),
    ("foreign_markers", with_question("<｜User｜>hello")),
    ("placeholder", with_answer("I am {{name}} by {{ author }}")),
    ("calculator_marks", with_answer("48/2 = <<48/2=24>>24")),
    ("refusal", lambda line: exchange(line, answer="As an AI language model, I have no opinion on this matter.")),
    ("refusal", lambda line: exchange(line, answer="I'm sorry, but I can't share that with you right now.")),
    ("edge_space", lambda line: exchange(line, answer=" " + said(line))),
    ("edge_space", lambda line: exchange(line, answer=said(line) + "\n")),
    ("empty", lambda line: talk(("user", "  "), ("assistant", said(line)), line=line)),
    (
        "assistant_first",
        lambda line: talk(("assistant", said(line)), ("user", "a b c"), ("assistant", "d e f"), line=line),
    ),
    (
        "role_order",
        lambda line: talk(("user", said(line)), ("user", "More?"), ("assistant", "One two three."), line=line),
    ),
    ("role_order", lambda line: talk(("user", said(line)), ("assistant", "a b c"), ("assistant", "d e f"), line=line)),
    ("role_order", lambda line: talk(("user", said(line)), ("assistant", "a b c"), ("user", "And?"), line=line)),
    ("role_order", lambda line: talk(("user", said(line)), ("system", "Be kind"), ("assistant", "a b c"), line=line)),
    ("role_order", lambda line: talk(("user", said(line)), ("tool", "42"), ("assistant", "a b c"), line=line)),
    ("scripts", lambda line: exchange(line, "Как тебя зовут, друг мой?", "Меня зовут Анна, а тебя как зовут?")),
    ("scripts", lambda line: exchange(line, "你叫什么名字？", "我叫小明，很高兴认识你，你好吗？")),
]


@pytest.mark.parametrize(("code", "make"), ODD, ids=[f"{code}-{i}" for i, (code, _) in enumerate(ODD)])
def test_one_odd_row_among_good_ones_is_found_on_its_line(code: str, make: Callable[[int], Record]) -> None:
    found = lint([make(7) if line == 7 else exchange(line) for line in range(1, 11)])
    assert set(found) == {code}
    assert (found[code]["rows"], found[code]["lines"], found[code]["level"]) == (1, [7], "warning")
    assert found[code]["title"] and found[code]["problem"] and found[code]["remedy"]


GOOD = [
    "Write to ada@example.com or to root@localhost, or see user@host.",
    "In 1999 there were 12,345,678 people; 2001-09-11 was a Tuesday; version 1.2.3.4 came at 10:30:00.",
    "355909190063-746 = 355909189317, and 4212883012996 is even.",
    "4539 1488 0343 6468 fails its check digit, as does DE88 3704 0044 0532 0130 00.",
    "Use `sk-learn-compatible-estimators-everywhere` and the_very_long_snake_case_identifier_of_mine here.",
    "call (650) 555-0199 as they do in films",
    "Café, naïve, «CAFÉ», Ångström, São Paulo, coração: AÇÃO; 10 €, it’s “fine” – really … ½ ° ×",
    "Ça va? Où est l’hôtel? Ñandú. Grüße aus Köln, ÜBER alles. Đồng bằng sông Cửu Long.",
    "An emoji 👩‍👩‍👧 and a check ✓, a tab\tand a list:\n- one\r\n- two",
    "if (a < b && b > c) return x[INSTANCE]; print(f'{x}'); cout << a << b; 1 << 3",
    "The human: a creature. An assistant helps. ### Summary\nNote: the user said so.",
    "f = {'a': {'b': 1}}; \\frac{{a}}{b}",
    "He said he was sorry, but he came. An AI can help with this.",
    "Π and Σ and Δx are Greek letters, Ω is another; привет means hello.",
]


@pytest.mark.parametrize("text", GOOD)
def test_ordinary_text_is_not_called_odd(text: str) -> None:
    found = {sign.code for sign in signs.signs(exchange(1, answer=text))}
    assert found - ({"placeholder"} if "{{a}}" in text else set()) == set()


def test_good_data_of_every_kind_gives_no_finding() -> None:
    lines = range(1, 61)
    balanced = [pair(i, chosen=said(1000 + i, 12 + i % 2), rejected=said(2000 + i, 13 - i % 2)) for i in lines]
    tools = ({"type": "function", "function": {"name": "clock", "arguments": {}}},)
    asks = Conversation(
        (
            Message("system", "You may look at the clock."),
            Message("user", "What is the time right now?"),
            Message("assistant", "", tool_calls=tools),
            Message("tool", "12:00", name="clock"),
            Message("assistant", "It is noon just now."),
        ),
        99,
    )
    for records in (
        [*map(exchange, lines), asks],
        balanced,
        [rated(i, i % 2 == 0) for i in lines],
        [Text(said(i, 60), i) for i in lines],
        [Prompt((Message("user", said(i)),), i) for i in lines],
    ):
        assert lint(records) == {}


def test_no_finding_ever_shows_the_secret() -> None:
    hidden = [
        "hf_" + "AbCdEfGh12" * 4,
        "ada.lovelace@engine.co.uk",
        "4539148803436467",
        "DE89370400440532013000",
        GITHUB,
    ]
    records = [exchange(i, answer=f"{said(i)} {text} more") for i, text in enumerate(hidden, 1)]
    found = lint(records)
    assert (found["secret"]["lines"], found["pii"]["lines"]) == ([1, 5], [2, 3, 4])
    told = json.dumps(found)
    for text in hidden:
        assert text not in told and text[5:15] not in told


SLOW = ["sk-", "eyJ-", "eyJabcdefghijk.eyJ-", "a", "a@", "1", "+1 ", "{{ ", "<<1", "Ã", "<|a", "4111 ", "\ud800"]


@pytest.mark.parametrize(
    "text",
    [part * (1_000_000 // len(part)) for part in SLOW],
    ids=map(repr, SLOW),
)
def test_a_megabyte_made_to_be_slow_is_not(text: str) -> None:
    start = time.process_time()
    lint([exchange(1, answer=text)])
    assert time.process_time() - start < 5


@given(st.lists(st.text(st.characters()), min_size=1, max_size=4), st.booleans())
def test_no_text_breaks_the_lint(parts: list[str], label: bool) -> None:
    messages = tuple(Message("user", part) for part in parts)
    for record in (
        Conversation(messages, 1),
        Preference(messages, messages[:1], messages[-1:], 1),
        Rated(messages, messages[:1], label, 1),
        Prompt(messages, 1),
        Text(parts[0], 1),
    ):
        found = lint([record])
        whys = {code: Dropper([code]).why(record) for code in set(found) & finding.DROPPABLE}
        assert all(code == why for code, why in whys.items())


def test_exact_copies_are_counted_and_near_ones_apart() -> None:
    long = SENTENCE + " and then it was quiet in the house for a very long time"
    records = [
        exchange(1, answer=long),
        exchange(2),
        exchange(1, answer=long + "\n"),  # the same but for white space at the end
        talk(("user", said(1)), ("assistant", long.upper() + "!"), line=4),  # the same but for case and punctuation
        exchange(5, question=said(1)),  # the same question, another answer
        exchange(2),
    ]
    records = [Conversation(record.messages, line) for line, record in enumerate(records, 1)]
    found = lint(records)
    assert (found["duplicate"]["rows"], found["duplicate"]["lines"]) == (2, [3, 6])
    assert found["duplicate"]["fix"] == {"title": "Leave them out", "reading": {"drop": ["duplicate"]}}
    assert (found["near_duplicate"]["rows"], found["near_duplicate"]["lines"]) == (1, [4])
    assert found["near_duplicate"]["sampled"] is None
    assert "near_duplicate" not in lint(records, compare=False)


def test_the_likeness_of_two_texts_is_their_jaccard_index() -> None:
    rng = random.Random(3)
    for wanted, alike in ((0.9, True), (0.6, False)):
        hits = 0
        for _ in range(40):
            shared = round(400 * wanted / (1 + wanted))  # |A| = |B| = 200, so J = k / (400 - k)
            first = [f"{rng.random()}" for _ in range(200)]
            other = first[:shared] + [f"{rng.random()}" for _ in range(200 - shared)]
            index = near.Index()
            assert not index.seen(near.signature(first))
            hits += index.seen(near.signature(other))
        assert hits >= 39 if alike else hits == 0


def test_rows_that_say_the_opposite_are_not_called_alike() -> None:
    text = said(1, 60)
    assert "near_duplicate" not in lint([rated(1, True, text), rated(2, False, text + "!")])
    a, b = said(5, 60), said(6, 60)
    assert "near_duplicate" not in lint([pair(1, text, a, b), pair(2, text + "!", b, a)])


def test_texts_without_spaces_are_compared_by_characters() -> None:
    text = "今天天气很好，我们一起去公园散步吧，然后去吃饭，晚上再看一场电影，最后坐地铁回家休息，明天还要上班。"
    assert len(same.triples(text)) > 30
    assert set(same.triples("one two")) == {"one two"}


def test_many_near_copies_are_not_offered_for_leaving_out() -> None:
    instruction = said(1, 200)
    found = lint([exchange(i, f"{instruction} Number {i}.", "Yes it is.") for i in range(1, 21)])["near_duplicate"]
    assert found["rows"] == 19
    assert found["fix"] is None and "instruction" in found["problem"]


def test_a_large_file_is_compared_on_a_seeded_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "SAMPLE", 64)
    records = [exchange(i) for i in range(1, 1001)]
    kept = []
    for seed in (1, 1, 2):
        made = near.Near(seed)
        for record in records:
            made.add(record)
        assert made.sampled is not None and 16 <= made.sampled <= 64
        kept.append([line for _, line, _ in made._held])
    assert kept[0] == kept[1] != kept[2]
    assert max(kept[0]) > 750 and min(kept[0]) < 250  # from the whole file
    copies = [exchange(i % 5, answer=said(i % 5, 30) + "!" * (i // 5)) for i in range(1000)]
    found = lint([Conversation(record.messages, line) for line, record in enumerate(copies, 1)])["near_duplicate"]
    assert found["fix"] is None and found["sampled"] and f"{found['sampled']} rows" in found["problem"]


def test_the_same_pair_judged_both_ways_is_a_contradiction() -> None:
    a, b, c = said(71), said(72), said(73)
    records = [
        pair(1),
        pair(2, "What?", a, b),
        pair(3),
        pair(4, "What?", b, a),
        pair(5, "What?", a, c),
        pair(6, said(90), b, a),
    ]
    found = lint(records)
    assert set(found) == {"contradiction"}
    assert (found["contradiction"]["rows"], found["contradiction"]["lines"]) == (2, [2, 4])
    assert found["contradiction"]["fix"] is None


def test_a_rated_answer_with_both_labels_contradicts_and_a_prompt_with_both_is_a_hidden_pair() -> None:
    records = [rated(i, i % 2 == 0) for i in range(1, 9)]
    records += [rated(9, True, "Why?", said(80)), rated(10, False, "Why?", said(80))]
    records += [
        rated(11, True, "How?", said(81)),
        rated(12, False, "How?", said(82)),
        rated(13, False, "How?", said(83)),
    ]
    found = lint(records)
    assert (found["contradiction"]["lines"], found["hidden_pair"]["lines"]) == ([9, 10], [11, 12, 13])
    assert "preference pair" in found["hidden_pair"]["problem"]


def test_pairs_that_differ_only_in_space_or_case() -> None:
    found = lint(
        [
            pair(1),
            pair(2, chosen="Yes, it is so.", rejected="yes,  it is SO.\n"),
            pair(3, chosen="Yes it is.", rejected="No it is not."),
        ]
    )
    assert found["white_equal"]["lines"] == [2]


@pytest.mark.parametrize(("longer", "side"), [(14, "longer"), (13, ""), (7, ""), (6, "shorter")])
def test_length_bias_is_told_above_65_percent(longer: int, side: str) -> None:
    """Of 20 pairs 13 are 65 %: not more than that."""
    short, long = "x" * 50, "x" * 90
    records = []
    for i in range(20):
        chosen, rejected = (long, short) if i < longer else (short, long)
        records.append(pair(i, chosen=f"{chosen} {i:02} one", rejected=f"{rejected} {i:02} two"))
    found = lint(records)
    assert ("length_bias" in found) == bool(side)
    if side:
        assert f"Chosen is {side} in 70%" in found["length_bias"]["problem"]
        assert "by 40 characters" in found["length_bias"]["problem"]
        assert f"answers get {side}" in found["length_bias"]["problem"]


@pytest.mark.parametrize(
    ("wanted", "unwanted"), [(100, 100), (120, 90), (133, 100), (134, 100), (100, 101), (10, 990), (99_999, 7), (3, 2)]
)
def test_kto_weights_bring_the_ratio_into_its_range(wanted: int, unwanted: int) -> None:
    weights = kto_weights(wanted, unwanted)
    ratio = weights["desirable_weight"] * wanted / (weights["undesirable_weight"] * unwanted)
    assert 1 <= ratio <= 4 / 3
    assert min(weights.values()) == 1
    assert (set(weights.values()) == {1.0}) == (1 <= wanted / unwanted <= 4 / 3)


def test_kto_imbalance_offers_the_weight_and_one_label_alone_is_an_error() -> None:
    found = lint([rated(i, i < 30) for i in range(40)])["kto_imbalance"]
    assert found["fix"] == {"title": "Set undesirable_weight to 2.57", "settings": {"undesirable_weight": 2.57}}
    assert "30 are wanted and 10 are not" in found["problem"]  # 30 / (10 * 7/6) = 2.571
    assert lint([rated(i, True) for i in range(5)])["one_label"]["level"] == "error"


def test_placeholders_are_named_and_those_filled_in_already_are_not_asked_for() -> None:
    records = [
        exchange(1),
        exchange(2, answer="I am {{name}}, made by {{author}}."),
        exchange(3, answer="I am {{ name }} too."),
    ]
    found = lint(records)["placeholder"]
    assert (found["rows"], found["lines"]) == (2, [2, 3])
    assert found["fix"] == {"title": "Fill them in", "fill": ["author", "name"]}
    assert found["fixes"][1] == {"title": "Leave them out", "reading": {"drop": ["placeholder"]}}
    assert lint(records, reading=Reading(fill={"name": "Ada"}))["placeholder"]["fix"]["fill"] == ["author"]


def test_habits_are_told_by_their_share() -> None:
    refusal = "As an AI language model, I cannot say anything about that."
    many = [exchange(i, answer=f"{refusal} {i}" if i <= 2 else "") for i in range(1, 201)]
    assert lint(many)["refusal"]["rows"] == 2
    assert "refusal" not in lint([*many, exchange(201)])  # 2 of 201 are less than 1 %
    short = [exchange(i, answer=f"Yes {i}" if i <= 30 else "") for i in range(1, 101)]
    assert lint(short)["short_answers"]["rows"] == 30
    assert "short_answers" not in lint([*short, exchange(101)])
    unspaced = [exchange(i, answer=f"我叫小明，很高兴认识你{i}") for i in range(1, 101)]
    assert "short_answers" not in lint(unspaced)


def test_one_answer_to_nearly_everything() -> None:
    records = [exchange(i, answer="I do not know that." if i <= 9 else "") for i in range(1, 11)]
    found = lint(records)
    assert (found["same_answer"]["rows"], found["same_answer"]["lines"]) == (9, list(range(1, 10)))
    assert "same_answer" not in lint([*records[1:], exchange(11)])  # 8 of 10


def test_errors_come_first_rows_are_counted_once_and_twenty_lines_listed() -> None:
    records: list[Record] = [rated(i, True, completion=f"{said(i)} write to a{i}@b.org") for i in range(1, 31)]
    records += [rated(30, True, completion=f"{said(31)} write to c@d.org")]  # a second record of the same row
    made = Lint()
    for record in records:
        made.add(record)
    found = made.findings()
    assert [entry["level"] for entry in found] == ["error", "warning"]
    assert (found[1]["rows"], found[1]["lines"]) == (30, list(range(1, 21)))
    assert found[1]["title"] == "30 rows seem to hold personal data"


def test_a_leak_between_two_files_is_found_also_when_a_prompt_is_nearly_the_same() -> None:
    train = [exchange(i) for i in range(1, 51)]
    held_out = [
        exchange(1, question=said(500)),
        exchange(2, question=said(7).upper()),
        exchange(3, question=said(9), answer="Another answer than before."),
        exchange(4, question=said(9)),
        exchange(5, question=said(501)),
        exchange(6, question=said(502)),
        exchange(7, question=said(503)),
    ]
    found = near.measure_leak(train, held_out)
    assert found is not None
    assert (found["code"], found["rows"], found["lines"], found["sampled"]) == ("leak", 3, [2, 3, 4], None)
    assert "2 prompts and 43% of the held-out rows" in found["problem"]
    assert near.measure_leak(train, [held_out[0], held_out[4]]) is None


def test_every_finding_has_its_words() -> None:
    for code, words in finding.WORDS.items():
        made = finding.finding(code, 1234, [1], side="longer")
        assert "{" not in made["title"] + made["problem"].replace("{{", "")
        assert "1,234" in made["title"] or "{rows}" not in words.many
        assert made["remedy"].endswith(".") and made["problem"].endswith(".")
