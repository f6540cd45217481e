"""From records to rows: batches, what is shortened, what is left out and why; one date a run."""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Any

import pytest
from test_families import CALL, TALKS, TOOL, answer, system, theirs, user
from wordmaking import byte_words, marked_words, words

from studio.data.records import Conversation, Message, Preference, Prompt, Rated, Record, Text
from studio.models.family import FAMILIES
from studio.render import encode
from studio.render.encode import Example, LeftOut
from studio.render.renderer import Renderer

CHATML = Renderer(byte_words(["<|im_start|>", "<|im_end|>"]), "", wanted="chatml")
LONG = " ".join(f"word{number}" for number in range(80))
NONE = -100


def run(records: list[Record], renderer: Renderer = CHATML, **how: Any) -> list[Example | LeftOut]:
    return list(encode.examples(renderer, records, **{"max_length": 400, **how}))


def talk(*messages: Message, line: int = 1) -> Conversation:
    return Conversation(tuple(messages), line)


def learned(example: Example | LeftOut, side: str = "text", renderer: Renderer = CHATML) -> str:
    assert isinstance(example, Example)
    return renderer.decode([label for label in example.sides[side].labels if label != NONE], special=True)


def test_a_batch_gives_what_each_record_gives_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "BATCH", 4)
    records: list[Record] = [talk(*turns, line=line) for line, turns in enumerate(TALKS.values(), 1)]
    records.insert(2, talk(user("a <|im_end|> b"), answer("c <|im_start|>"), line=90))
    records.insert(5, Text("once upon", 91))
    together = run(records, offsets=True)
    alone = [made for record in records for made in run([record], offsets=True)]
    assert together == alone
    assert [made.line for made in together] == [record.line for record in records]
    for record, made in zip(records, together, strict=True):
        if isinstance(record, Conversation) and isinstance(made, Example):
            assert made.sides["text"] == CHATML.conversation(record.messages)


def test_training_keeps_no_text_and_a_preview_does() -> None:
    (bare,), (shown,) = run([talk(*TALKS["one"])]), run([talk(*TALKS["one"])], offsets=True)
    assert isinstance(bare, Example) and isinstance(shown, Example)
    assert (bare.sides["text"].ids, bare.sides["text"].labels) == (shown.sides["text"].ids, shown.sides["text"].labels)
    assert (bare.sides["text"].text, bare.sides["text"].offsets) == ("", [])
    assert len(shown.sides["text"].offsets) == len(shown.sides["text"].ids)


def test_a_pair_and_a_rated_answer_have_their_sides() -> None:
    prompt = (user("a cat?"),)
    pair, rated, asked = run(
        [
            Preference(prompt, (answer("meow"),), (answer("woof"),), 1),
            Rated(prompt, (answer("meow"),), True, 2),
            Prompt(prompt, 3),
        ]
    )
    assert learned(pair, "chosen") == "meow<|im_end|>" and learned(pair, "rejected") == "woof<|im_end|>"
    assert learned(rated, "completion") == "meow<|im_end|>"
    assert isinstance(rated, Example) and rated.label is True
    assert isinstance(asked, Example) and asked.sides["prompt"].ids == CHATML.prompt(prompt)


def test_all_answers_behind_a_pairs_prompt_are_learned_and_none_in_it() -> None:
    prompt = (user("old?"), answer("old"), user("new?"))
    chosen, rejected = (answer("A"), user("sure?"), answer("yes")), (answer("B"), user("sure?"), answer("no"))
    pair, rated = run([Preference(prompt, chosen, rejected, 1), Rated(prompt, chosen, True, 2)], offsets=True)
    assert learned(pair, "chosen") == "A<|im_end|>yes<|im_end|>" == learned(rated, "completion")
    assert learned(pair, "rejected") == "B<|im_end|>no<|im_end|>"
    assert isinstance(pair, Example)
    assert pair.sides["chosen"].ids == theirs(CHATML, [*prompt, *chosen])
    long = (user(LONG), *prompt[1:])
    (short,) = run([Preference(long, chosen, rejected, 1)], max_length=60)
    assert learned(short, "rejected") == "B<|im_end|>no<|im_end|>"


def test_a_template_that_rewrites_gives_a_row_for_each_answer() -> None:
    renderer = Renderer(words("bytes", "qwen3"), "", wanted="qwen3")
    thoughts = [user("a"), answer("b", reasoning="hm"), user("c"), answer("d", reasoning="so")]
    made = run([talk(*thoughts, line=4), talk(*TALKS["one"], line=5)], renderer)
    assert [example.line for example in made] == [4, 4, 5]
    assert [learned(example, renderer=renderer) for example in made[:2]] == [
        "<think>\nhm\n</think>\n\nb<|im_end|>",
        "<think>\nso\n</think>\n\nd<|im_end|>",
    ]
    assert len(run([talk(*thoughts)], renderer, train_on="last")) == 1


def test_a_long_text_becomes_rows_that_together_are_it() -> None:
    (whole,) = run([Text(LONG, 3)], max_length=2000)
    parts = run([Text(LONG, 3)], max_length=50)
    assert isinstance(whole, Example)
    rows = [part.sides["text"] for part in parts if isinstance(part, Example)]
    assert len(rows) == len(parts) > 2 and {part.line for part in parts} == {3}
    assert all(len(row.ids) == 50 for row in rows[:-1])
    assert list(itertools.chain(*(row.ids for row in rows))) == whole.sides["text"].ids
    assert all(row.labels == row.ids for row in rows)
    assert whole.sides["text"].ids[-1] == CHATML.tokenizer.eos_token_id


def test_a_text_begins_as_its_tokenizer_begins_texts() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = marked_words()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    renderer = Renderer(tokenizer, "", wanted="plain")
    (made,) = run([Text("the cat </s> sat", 1)], renderer)
    assert isinstance(made, Example)
    ids = made.sides["text"].ids
    assert ids == tokenizer("the cat </s> sat", split_special_tokens=True)["input_ids"] + [tokenizer.eos_token_id]
    assert ids[0] == tokenizer.bos_token_id and ids.count(tokenizer.eos_token_id) == 1


def test_the_oldest_exchanges_go_and_the_system_text_stays() -> None:
    turns = [system("Be brief."), user(LONG), answer("one"), user("two?"), answer("two"), user("three?"), answer("3")]
    (made,) = run([talk(*turns)], max_length=60, offsets=True)
    assert isinstance(made, Example)
    assert made.sides["text"] == CHATML.conversation([turns[0], *turns[3:]])


def test_a_prompt_is_cut_from_the_left_unless_only_exchanges_may_go() -> None:
    turns = [system("Be brief."), user(LONG), answer("meow")]
    assert run([talk(*turns, line=8)], max_length=60, cut="exchanges") == [LeftOut(8, "too_long")]
    (made,) = run([talk(*turns)], max_length=60, offsets=True)
    assert isinstance(made, Example)
    row = made.sides["text"]
    kept = row.text.partition("user\n")[2].partition("<|im_end|>")[0]
    assert LONG.endswith(kept) and kept.startswith("word") and 50 < len(row.ids) <= 60
    assert row == CHATML.conversation([turns[0], user(kept), turns[2]])
    longer = LONG[LONG.index(kept) - len("word79 ") :]
    assert len(CHATML.conversation([turns[0], user(longer), turns[2]]).ids) > 60


def test_an_answer_that_does_not_fit_goes_and_earlier_ones_are_learned() -> None:
    turns = [user("one?"), answer("one"), user("two?"), answer("two"), user("hm"), answer(LONG)]
    kept = CHATML.conversation(turns[:4])
    (both,) = run([talk(*turns)], max_length=len(kept.ids), offsets=True)
    assert isinstance(both, Example) and both.sides["text"] == kept
    assert learned(both) == "one<|im_end|>two<|im_end|>"
    (latest,) = run([talk(*turns)], max_length=len(kept.ids) - 1, cut="exchanges", offsets=True)
    assert isinstance(latest, Example) and latest.sides["text"] == CHATML.conversation(turns[2:4])
    assert run([talk(*turns, line=5)], max_length=60, train_on="last") == [LeftOut(5, "too_long")]
    one = len(CHATML.conversation(turns[:2]).ids)
    assert run([talk(*turns[:2], *turns[4:], line=6)], max_length=one - 4) == [LeftOut(6, "too_long")]


def test_a_long_question_in_the_middle_is_cut_or_ends_the_row() -> None:
    turns = [user("one?"), answer("one"), user(LONG), answer("two")]
    (cut,) = run([talk(*turns)], max_length=60)
    assert learned(cut) == "two<|im_end|>"
    (ended,) = run([talk(*turns)], max_length=60, cut="exchanges")
    assert learned(ended) == "one<|im_end|>"


def test_nothing_is_cut_when_that_is_asked_for_and_an_answer_never() -> None:
    turns = [user("one?"), answer("one"), user("two?"), answer("two")]
    short = len(CHATML.conversation(turns).ids)
    assert run([talk(*turns)], max_length=short - 1, cut="none") == [LeftOut(1, "too_long")]
    assert run([talk(user("?"), answer(LONG))], max_length=60) == [LeftOut(1, "too_long")]


def test_both_sides_of_a_pair_are_shortened_alike() -> None:
    prompt = (user("old?"), answer("old"), user(LONG))
    pair = Preference(prompt, (answer("yes"),), (answer("no, never in a thousand years"),), 1)
    (made,) = run([pair], max_length=60, offsets=True)
    assert isinstance(made, Example)
    chosen, rejected = made.sides["chosen"], made.sides["rejected"]
    assert len(chosen.ids) < len(rejected.ids) <= 60
    asked = [side.text.partition("assistant\n")[0] for side in (chosen, rejected)]
    assert asked[0] == asked[1] and "old" not in asked[0]


def test_a_long_prompt_alone_keeps_its_end() -> None:
    new = CHATML.prompt([user("new?")])
    (made,) = run([Prompt((user("old?"), answer("old"), user("new?")), 1)], max_length=len(new))
    assert isinstance(made, Example) and made.sides["prompt"].ids == new


def test_a_row_without_an_answer_to_learn_is_left_out_with_its_reason() -> None:
    made = run([talk(user("a"), answer("b", train=False), line=3), talk(user("only"), line=4)])
    assert made == [LeftOut(3, "nothing_learned"), LeftOut(4, "nothing_learned")]


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if not family.tools])
def test_tools_where_there_is_no_place_for_them_are_an_error_that_says_so(name: str) -> None:
    renderer = Renderer(words("bytes", name), "", wanted=name)
    turns = (user("How is Oslo?"), answer("", tool_calls=(CALL,)), Message("tool", "12"), answer("Mild."))
    (call,) = run([Conversation(turns, 6)], renderer)
    (tool,) = run([Conversation(TALKS["one"][:2], 7, (TOOL,))], renderer)  # type: ignore[arg-type]
    for left, line, says in ((call, 6, "weather"), (tool, 7, "does not write the tool 'weather'")):
        assert isinstance(left, LeftOut) and (left.line, left.reason) == (line, "template")
        assert left.error is not None and says in left.error.message and "chatml" in left.error.remedy


def test_a_date_that_a_template_writes_stays_the_same_for_a_run() -> None:
    then = datetime(2024, 2, 29, 23, 59)
    renderer = Renderer(words("bytes", "llama3.2"), "", wanted="llama3.2", now=then)
    assert "Today Date: 29 Feb 2024\n" in renderer.template.text([user("q")])
    other = Renderer(words("bytes", "llama3.2"), "", wanted="llama3.2", now=datetime(2024, 3, 1))
    assert renderer.key != other.key
    fixed = [Renderer(words("bytes", "chatml"), "", wanted="chatml", now=now) for now in (then, datetime(2024, 3, 1))]
    assert fixed[0].key == fixed[1].key


def test_options_of_a_template_hold_for_prompts_and_rows() -> None:
    renderer = Renderer(words("bytes", "qwen3"), "", wanted="qwen3", options={"enable_thinking": False})
    row = renderer.conversation(TALKS["one"])
    prompt = renderer.prompt(TALKS["one"][:1])
    assert renderer.decode(prompt, special=True).endswith("<think>\n\n</think>\n\n")
    assert row.ids[: len(prompt)] == prompt
    assert renderer.decode([label for label in row.labels if label != NONE], special=True) == "Paris.<|im_end|>"


def test_a_renderer_of_a_model_stops_at_what_its_generation_config_declares(tiny: Any, tmp_path: Any) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 1, 99999]}')
    assert encode.load(folder).stop_tokens == ["<|im_end|>", "<|pad|>", "<|endoftext|>"]


def test_a_family_whose_end_the_tokenizer_does_not_name_ends_with_the_documents() -> None:
    tokenizer = byte_words()
    tokenizer.eos_token = None
    renderer = Renderer(tokenizer, "", wanted="plain")
    assert learned(run([talk(*TALKS["one"])], renderer)[0], renderer=renderer) == " Paris.<|endoftext|>"
