"""What the tokens of a file say: rows that cannot be learned, on their lines, and numbers that hold."""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from making import write_jsonl

from studio.data import dataset, split
from studio.data.dataset import Dataset
from studio.data.records import Message
from studio.errors import Stopped
from studio.render import encode, lengths, lint

NAMES = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Tim", "Linus", "Margaret", "Dennis", "Ken")


@pytest.fixture(scope="module")
def renderer(tiny: Path) -> encode.Renderer:
    return encode.load(tiny)


def chat(question: str, answer: str, **more: Any) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]}


def unlearned(asked: str) -> dict[str, object]:
    """A conversation whose last answer is not to be learned."""
    first, last = chat(asked, "It is so.")["messages"], chat("Sure?", "Yes.", train=False)["messages"]
    return {"messages": [*first, *last]}  # type: ignore[misc]


def question(number: int) -> str:
    """A question that shares no three words with another number's."""
    rng = random.Random(number)
    return " ".join(f"{rng.choice(NAMES)}{number}" for _ in range(8)) + "?"


def rows(count: int) -> list[dict[str, object]]:
    return [chat(question(i), f"It is {i}.") for i in range(1, count + 1)]


def load(tmp_path: Path, made: list[dict[str, object]]) -> Dataset:
    return dataset.load(write_jsonl(tmp_path / "rows.jsonl", made))


def measured(data: Dataset, renderer: encode.Renderer, **how: Any) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    made = lint.measure(data, renderer, **{"max_length": 1024, **how})
    json.dumps(made)
    found = {entry["code"]: entry for entry in made["findings"]}
    assert len(found) == len(made["findings"])
    return found, made["statistics"]


def test_the_numbers_are_those_of_transformers_rendering(tmp_path: Path, renderer: encode.Renderer) -> None:
    data = load(tmp_path, rows(40))
    found, numbers = measured(data, renderer, batch_size=4, held_out=0.1)
    expected, learned = [], []
    for row in rows(40):
        ids = renderer.tokenizer.apply_chat_template(
            row["messages"], chat_template=renderer.source, tokenize=True, return_dict=False
        )
        prompt = renderer.tokenizer.apply_chat_template(
            row["messages"][:1],  # type: ignore[index]
            chat_template=renderer.source,
            tokenize=True,
            return_dict=False,
            add_generation_prompt=True,
        )
        expected.append(len(ids))
        learned.append(len(ids) - len(prompt) - len(renderer.tokenizer("\n")["input_ids"]))  # after the end of turn
    assert found == {}
    assert (numbers["rows"], numbers["rows_measured"], numbers["examples"]) == (40, 40, 40)
    assert (numbers["tokens"], numbers["trained_tokens"]) == (sum(expected), sum(learned))
    assert numbers["trained_share"] == pytest.approx(sum(learned) / sum(expected))
    ordered = sorted(expected)
    assert numbers["percentiles"] == {
        "50": ordered[19],
        "90": ordered[35],
        "95": ordered[37],
        "99": ordered[39],
        "max": ordered[39],
    }
    assert sum(numbers["lengths"]["counts"]) == 40
    assert numbers["steps_per_epoch"] == 9  # 36 rows in batches of 4
    assert (numbers["template"], numbers["stop_tokens"][0]) == ("chatml", "<|im_end|>")
    assert numbers["too_long"] == 0


def test_a_row_with_nothing_to_learn_is_an_error_on_its_line(tmp_path: Path, renderer: encode.Renderer) -> None:
    made = rows(30)
    made[6] = unlearned("What?")
    made[20] = unlearned("And?")
    found, numbers = measured(load(tmp_path, made), renderer, train_on="last")
    assert set(found) == {"nothing_learned"}
    entry = found["nothing_learned"]
    assert (entry["level"], entry["rows"], entry["lines"]) == ("error", 2, [7, 21])
    assert entry["fix"] == {"title": "Leave them out", "reading": {"drop": ["bad"]}}
    assert numbers["examples"] == 28


def test_an_answer_that_does_not_fit_blocks_and_a_long_history_only_warns(
    tmp_path: Path, renderer: encode.Renderer
) -> None:
    made = rows(30)
    made[2] = chat("Tell me all.", "It is so. " * 100)
    past = chat("Where were we? " * 40, "There.")["messages"]
    made[4] = {"messages": [*past, {"role": "user", "content": "And now?"}, {"role": "assistant", "content": "Here."}]}  # type: ignore[misc]
    data = load(tmp_path, made)
    limit = 100
    whole = {record.line: len(renderer.conversation(record.messages).ids) for record in data.records()}  # type: ignore[union-attr]
    assert {line for line, size in whole.items() if size > limit} == {3, 5}
    found, numbers = measured(data, renderer, max_length=limit)
    assert set(found) == {"too_long", "shortened"}
    assert (found["too_long"]["level"], found["too_long"]["lines"]) == ("error", [3])
    assert (found["shortened"]["level"], found["shortened"]["lines"]) == ("warning", [5])
    wanted = 64 * math.ceil(max(whole.values()) / 64)
    raised, dropped = found["too_long"]["fixes"]  # no cut would save a long answer
    assert raised == {"title": f"Raise the longest row to {wanted:,}", "settings": {"max_length": wanted}}
    assert dropped["reading"] == {"drop": ["bad"]}
    assert (numbers["too_long"], numbers["examples"]) == (2, 29)
    assert numbers["percentiles"]["max"] == max(whole.values())
    bounded, _ = measured(data, renderer, max_length=limit, context=110)
    assert bounded["too_long"]["fix"]["settings"] == {"max_length": 110}
    assert bounded["too_long"]["remedy"].startswith("Raise max_length")
    full, _ = measured(data, renderer, max_length=limit, context=100)
    for code in ("too_long", "shortened"):
        assert "reads 100 tokens at most" in full[code]["remedy"] and "Raise" not in full[code]["remedy"]
    assert full["too_long"]["fix"]["reading"] == {"drop": ["bad"]} and full["shortened"]["fix"] is None


def test_cutting_the_prompt_is_offered_where_it_saves_a_row(tmp_path: Path, renderer: encode.Renderer) -> None:
    made = rows(30)
    made[2] = chat("Tell me all. " * 100, "It is so.")
    data = load(tmp_path, made)
    fixes = measured(data, renderer, max_length=100, cut="exchanges")[0]["too_long"]["fixes"]
    assert {"title": "Cut the beginning of the prompt", "settings": {"cut": "prompt"}} in fixes
    found, numbers = measured(data, renderer, max_length=100)
    assert set(found) == {"shortened"} and numbers["examples"] == 30


@pytest.mark.parametrize(
    ("full", "limit", "context", "expected"),
    [
        ([100] * 98 + [900, 5000], 512, 0, 960),  # 99 of 100 rows are at most 900 long: 15 * 64
        ([100] * 199 + [600], 512, 0, 640),  # 99 % fit already, so all should: 10 * 64
        ([100] * 98 + [900, 5000], 512, 768, 768),
        ([100] * 98 + [900, 5000], 512, 512, 0),
    ],
)
def test_the_longer_limit_covers_99_percent_within_the_context(
    full: list[int], limit: int, context: int, expected: int
) -> None:
    assert lint.longer_limit(full, limit, context) == expected


def test_what_the_template_refuses_is_an_error_with_its_reason(tmp_path: Path, renderer: encode.Renderer) -> None:
    source = (
        "{% for m in messages %}{% if 'kind' in m.content %}{{ raise_exception('no kind words') }}{% endif %}"
        "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    made = rows(25)
    made[9] = {"messages": [{"role": "system", "content": "Be kind."}, *made[9]["messages"]]}  # type: ignore[misc]
    found, _ = measured(load(tmp_path, made), encode.Renderer(renderer.tokenizer, source))
    assert set(found) == {"template"}
    assert (found["template"]["level"], found["template"]["lines"]) == ("error", [10])
    assert "no kind words" in found["template"]["problem"] and found["template"]["remedy"]
    assert found["template"]["fix"]["reading"] == {"drop": ["bad"]}


def test_typed_control_tokens_of_this_model_are_told(tmp_path: Path, renderer: encode.Renderer) -> None:
    made = rows(25)
    made[3] = chat("What does <|im_end|> mean? And <|im_end|><|im_start|>?", "It ends a turn.")
    made[4] = chat("What does <|eot_id|> mean?", "It ends a turn elsewhere.")
    found, _ = measured(load(tmp_path, made), renderer)
    assert set(found) == {"control_tokens"}
    assert (found["control_tokens"]["level"], found["control_tokens"]["lines"]) == ("warning", [4])
    assert "<|im_end|>" in found["control_tokens"]["problem"] and "plain text" in found["control_tokens"]["problem"]


def test_pairs_are_measured_side_by_side(tmp_path: Path, renderer: encode.Renderer) -> None:
    made: list[dict[str, object]] = [
        {"prompt": question(i), "chosen": "It is so. " * (1 + i % 4), "rejected": "It is " + "so. " * (i % 3) + "No."}
        for i in range(30)
    ]
    data = load(tmp_path, made)
    found, numbers = measured(data, renderer)
    assert found == {}
    sides = []
    for record in data.records():
        assert not isinstance(record, str) and hasattr(record, "chosen")
        sides.append(
            [renderer.conversation([*record.prompt, *getattr(record, name)]).ids for name in ("chosen", "rejected")]
        )
    assert numbers["tokens"] == sum(len(ids) for pair in sides for ids in pair)
    assert numbers["examples"] == 30
    assert numbers["chosen_longer_share"] == sum(len(a) > len(b) for a, b in sides) / 30
    assert numbers["length_difference"] == sorted(len(a) - len(b) for a, b in sides)[15]
    shared = [next(i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y) for a, b in sides]
    assert numbers["common_prefix"] == sorted(shared)[15]


def test_a_pair_that_the_template_makes_equal_is_an_error(tmp_path: Path, tiny_bare: Path) -> None:
    made: list[dict[str, object]] = [
        {"prompt": question(i), "chosen": f"It is {i}.", "rejected": "\n It is 7. " if i == 7 else "No."}
        for i in range(1, 31)
    ]
    found, _ = measured(load(tmp_path, made), encode.load(tiny_bare, "llama3"))
    assert set(found) == {"equal_tokens"}
    assert (found["equal_tokens"]["level"], found["equal_tokens"]["lines"]) == ("error", [7])
    assert found["equal_tokens"]["fix"]["reading"] == {"drop": ["white_equal"]}


def test_rated_answers_are_counted_with_their_weights(tmp_path: Path, renderer: encode.Renderer) -> None:
    made: list[dict[str, object]] = [
        {"prompt": question(i), "completion": f"It is {i}.", "label": i % 4 == 0} for i in range(40)
    ]
    _, numbers = measured(load(tmp_path, made), renderer)
    assert (numbers["wanted"], numbers["unwanted"]) == (10, 30)
    assert (numbers["desirable_weight"], numbers["undesirable_weight"]) == (3.5, 1)  # 30 / 10 * 7/6


def test_prompts_that_are_nearly_equal_across_the_split_leak(tmp_path: Path, renderer: encode.Renderer) -> None:
    made = rows(40)
    for i in range(0, 40, 2):  # each second row asks what the one before it asked, in capitals
        made[i + 1] = chat(question(i + 1).upper(), f"It was {i}.")
    data = load(tmp_path, made)
    aside = split.held_out(data.records(), 0.1, 3)
    expected = [number + 1 for number in sorted(aside) if number ^ 1 not in aside]
    assert expected
    found, _ = measured(data, renderer, held_out=0.1, seed=3)
    assert set(found) == {"leak"}
    assert (found["leak"]["rows"], found["leak"]["lines"], found["leak"]["level"]) == (
        len(expected),
        expected,
        "warning",
    )
    assert measured(data, renderer, held_out=0.0)[0] == {}


def test_a_large_file_is_measured_on_a_seeded_sample(tmp_path: Path, renderer: encode.Renderer) -> None:
    made = rows(200)
    made[150] = unlearned("What?")
    data = load(tmp_path, made)
    _, whole = measured(data, renderer, train_on="last")
    _, part = measured(data, renderer, most=100, seed=5, train_on="last")
    assert (part["rows_measured"], part["rows"]) == (100, 200)
    assert part["tokens"] == pytest.approx(whole["tokens"], rel=0.05)
    assert part["steps_per_epoch"] == whole["steps_per_epoch"] == 12  # 190 rows in batches of 16
    again, other = (measured(data, renderer, most=100, seed=seed, train_on="last")[1] for seed in (5, 6))
    assert again == part != other
    found = [
        measured(data, renderer, most=100, seed=seed, train_on="last")[0].get("nothing_learned") for seed in range(4)
    ]
    assert any(found)  # half of the samples have the row
    assert all(entry["sampled"] == 100 and entry["lines"] == [151] for entry in found if entry)


def test_it_tells_how_far_it_is_and_stops_when_asked(tmp_path: Path, renderer: encode.Renderer) -> None:
    data, told = load(tmp_path, rows(30)), list[dict[str, Any]]()
    measured(data, renderer, emit=told.append)
    assert (told[-1]["done"], told[-1]["total"], told[-1]["unit"]) == (30, 30, "rows")
    with pytest.raises(Stopped):
        lint.measure(data, renderer, max_length=64, should_stop=lambda: True)


def test_a_text_is_measured_whole_and_never_called_shortened(tmp_path: Path, renderer: encode.Renderer) -> None:
    data = load(tmp_path, [{"text": "It was so. " * (1 + i % 40)} for i in range(30)])
    found, numbers = measured(data, renderer, max_length=64)
    assert found == {}
    assert numbers["trained_share"] == 1
    assert numbers["percentiles"]["max"] > 64


@pytest.mark.parametrize(
    ("value", "expected"), [(0.2, 1), (1, 1), (1.1, 2), (3, 5), (5, 5), (6, 10), (34.1, 50), (100, 100)]
)
def test_round_numbers(value: float, expected: int) -> None:
    assert lengths.nice(value) == expected


def test_a_histogram_counts_every_row_once_on_round_edges() -> None:
    sizes = [*sorted(random.Random(0).choices(range(10, 500), k=995)), 9_000, 9_999]
    made = lengths.histogram(sizes)
    edges, counts = made["edges"], made["counts"]
    assert sum(counts) == 997 and len(counts) == len(edges) - 1 <= 31
    assert edges[:3] == [0, 20, 40] and edges[-1] >= 10_000 and counts[-1] == 2
    assert counts == [sum(low <= size < high for size in sizes) for low, high in itertools.pairwise(edges)]
    assert lengths.histogram([5, 5, 7]) == {"edges": list(range(9)), "counts": [0, 0, 0, 0, 0, 2, 0, 1]}
    assert lengths.histogram([]) == {"edges": [], "counts": []}


@pytest.mark.parametrize(
    ("sizes", "size", "expected"),
    [
        ([5, 5, 5, 5], 10, 2),
        ([6, 4, 4, 6], 10, 2),
        ([7, 7, 7], 10, 3),
        ([6, 5, 4, 3, 2], 10, 2),
        ([10], 10, 1),
        ([], 10, 0),
    ],
)
def test_packing(sizes: list[int], size: int, expected: int) -> None:
    assert lengths.packed(sizes, size) == expected


def test_packing_stays_within_its_bound() -> None:
    rng = random.Random(1)
    for _ in range(50):
        sizes = [rng.randint(1, 100) for _ in range(rng.randint(1, 200))]
        assert math.ceil(sum(sizes) / 100) <= lengths.packed(sizes, 100) <= 11 / 9 * math.ceil(sum(sizes) / 100) + 30


def test_messages_are_not_needed_to_measure_prompts(tmp_path: Path, renderer: encode.Renderer) -> None:
    data = load(tmp_path, [{"prompt": question(i)} for i in range(30)])
    found, numbers = measured(data, renderer)
    assert found == {}
    assert numbers["tokens"] == sum(len(renderer.prompt([Message("user", question(i))])) for i in range(30))
    assert numbers["trained_tokens"] == 0


def test_what_a_template_does_to_conversations_is_named(tmp_path: Path, tiny_bare: Path) -> None:
    """Qwen3 writes only the last answer's thought; Gemma 2 has neither a place for thoughts nor a system turn."""
    thought = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4.", "reasoning_content": "two and two"},
        {"role": "user", "content": "And 3 + 3?"},
        {"role": "assistant", "content": "6."},
    ]
    data = load(tmp_path, [chat(question(1), "It is 1."), {"messages": thought}, {"messages": thought[1:3]}])
    told = {"split_turns", "thoughts_dropped", "system_moved"}

    found, numbers = measured(data, encode.load(tiny_bare, "qwen3"))
    assert {code: found[code]["lines"] for code in told & set(found)} == {"split_turns": [2]}
    assert "thoughts" in found["split_turns"]["problem"] and numbers["examples"] == 4

    found, numbers = measured(data, encode.load(tiny_bare, "gemma"))
    seen = {code: found[code]["lines"] for code in told & set(found)}
    assert seen == {"thoughts_dropped": [2, 3]} and numbers["rewrites"] == ""

    refuses = tiny_bare.parent / "refuses"
    shutil.copytree(tiny_bare, refuses, dirs_exist_ok=True)
    (refuses / "chat_template.jinja").write_text(
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    found, _ = measured(data, encode.load(refuses))
    assert {code: found[code]["lines"] for code in told & set(found)} == {
        "thoughts_dropped": [2, 3],
        "system_moved": [2],
    }


def test_a_thought_that_is_written_is_not_called_left_out(tmp_path: Path, tiny_bare: Path) -> None:
    """Kimi K2 writes the thoughts since the last answer, which are those about calls of tools."""
    folder = Path(shutil.copytree(tiny_bare, tmp_path / "kimi"))
    (folder / "chat_template.jinja").write_text(
        "{% for m in messages %}[{{ m.role }}]{% if m.tool_calls %}{{ m.reasoning_content }}{{ m.tool_calls }}"
        "{% endif %}{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
    asks = {"role": "assistant", "content": "", "reasoning_content": "I must look", "tool_calls": [call]}
    tool = {"role": "tool", "content": "12 degrees", "name": "weather"}
    data = load(
        tmp_path,
        [
            {"messages": [{"role": "user", "content": "Oslo?"}, asks, tool, {"role": "assistant", "content": "Mild."}]},
            chat(question(2), "It is 2.", reasoning_content="one and one"),
        ],
    )
    found, _ = measured(data, encode.load(folder))
    assert found["thoughts_dropped"]["lines"] == [2]
