"""A folder of task files in lm-eval's form, with rows of our own: one to choose from, one to answer, texts to read."""

from __future__ import annotations

from pathlib import Path

from making import write_jsonl

CAPITALS = [("Nepal", "Kathmandu"), ("Belize", "Belmopan"), ("Norway", "Oslo"), ("Kenya", "Nairobi"), ("Peru", "Lima")]

_COMMON = """\
dataset_path: json
dataset_kwargs: {data_files: {test: capitals.jsonl}}
test_split: test
"""
FILES = {
    "_common_yaml": _COMMON,
    "choose.yaml": """\
include: _common_yaml
task: choose
tag: capitals
output_type: multiple_choice
doc_to_text: "The capital of {{country}} is"
doc_to_choice: "{{choices}}"
doc_to_target: right
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 2.0}
""",
    "say.yaml": """\
include: _common_yaml
task: say
tag: capitals
output_type: generate_until
doc_to_text: "The capital of {{country}} is"
doc_to_target: "{{capital}}"
generation_kwargs: {until: [".", "\\n"], max_gen_toks: 12}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_punctuation: true}
filter_list:
  - name: strict
    filter: [{function: remove_whitespace}, {function: take_first}]
  - name: last-word
    filter: [{function: regex, regex_pattern: "(\\\\w+)\\\\W*$"}, {function: take_first}]
""",
    "read.yaml": """\
include: _common_yaml
task: read
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "The capital of {{country}} is {{capital}}."
metric_list: [{metric: word_perplexity}, {metric: bits_per_byte}]
""",
    "all.yaml": """\
group: all
task: [capitals, {task: read, num_fewshot: 0}]
""",
}


def write(folder: Path, **more: str) -> Path:
    """Write the folder; `more` are further files by their name without ".yaml"."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**FILES, **{f"{name}.yaml": text for name, text in more.items()}}.items():
        (folder / name).write_text(text, "utf-8")
    rows: list[dict[str, object]] = []
    for at, (country, capital) in enumerate(CAPITALS):
        wrong = [CAPITALS[(at + step) % len(CAPITALS)][1] for step in (1, 2)]
        choices = [*wrong[: at % 3], capital, *wrong[at % 3 :]]
        rows.append({"country": country, "capital": capital, "choices": choices, "right": at % 3})
    write_jsonl(folder / "capitals.jsonl", rows)
    return folder
