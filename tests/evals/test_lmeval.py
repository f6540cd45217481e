"""The suite lm-eval: likelihoods and answers are those of lm-eval's own model, marks those of its own tasks."""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmfolder
import pytest
from asking import Plain
from making import write_jsonl

import studio
from studio import runs, worker
from studio.cli.__main__ import run as command
from studio.errors import DataError, Stopped
from studio.evals import job, lmasked
from studio.evals.asking import Kept
from studio.feedback.speakers import Local, Speakers

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the extra lm-eval is not installed"
)
STARTER = Path(__file__).parents[2] / "models" / "starter"


def exported(source: str, folder: Path) -> Path:
    """Write a model as a file with all its digits."""
    studio.export_model(source, quants=["F32"], out=folder)
    return next(folder.glob("*.gguf"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """A run that learned two steps, and talks."""
    folder = tmp_path_factory.mktemp("made")
    rows: list[dict[str, object]] = [{"prompt": f"What is {i} + {i}?", "completion": str(2 * i)} for i in range(40)]
    file = write_jsonl(folder / "sft.jsonl", rows)
    settings = {"max_steps": 2, "quantize_base": "none"}
    studio.train_model("sft", model=str(tiny), data=file, out=folder / "run", settings=settings)
    return folder / "run"


@pytest.fixture(scope="module")
def merged(made: Path) -> Path:
    """The same as a model folder."""
    studio.merge_model(str(made), made.parent / "merged")
    return made.parent / "merged"


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported("starter", tmp_path_factory.mktemp("starter"))


@pytest.fixture(scope="module")
def spoken(made: Path, merged: Path) -> Iterator[Any]:
    """Our LM on the exported file."""
    from studio.evals import lmspoken

    with Speakers([str(exported(str(merged), made.parent / "f32"))]) as (speaker,):
        yield lmspoken.spoken(lmasked.Answers(Plain(None, {"after": speaker}), "after").reply, 16)


@pytest.fixture(scope="module")
def theirs(spoken: Any, merged: Path) -> Any:
    """lm-eval's own model of the same weights, with as long a context."""
    return own(merged, spoken.room, spoken.prefix)


def own(model: Path, room: int, prefix: int | None = None) -> Any:
    """Open lm-eval's own model; `prefix` is what an empty text is read after: a file may name another than a folder."""
    from lm_eval.models.huggingface import HFLM

    how: dict[str, Any] = {"device": "cpu", "dtype": "float32", "batch_size": 1}
    return HFLM(pretrained=str(model), max_length=room - 1, prefix_token_id=prefix, **how)


def asked(kind: str, rows: list[Any]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [
        Instance(request_type=kind, doc={}, arguments=row, idx=0, metadata=("task", at, 1))
        for at, row in enumerate(rows)
    ]


LONG = " ".join(f"What is {number} and {number * 7}?" for number in range(200))
PAIRS = [
    ("What is 2 + 2?", " 4"),
    ("What is 2 + 2? ", "4 and more"),  # the space belongs to what follows
    ("", "The sum is 4."),
    ("The\n\n", "capital"),
    (LONG, " It is 12."),  # loses its beginning
]


def test_likelihoods_are_those_of_the_harness_own_model(spoken: Any, theirs: Any) -> None:
    ours = spoken.loglikelihood(asked("loglikelihood", PAIRS))
    found = theirs.loglikelihood(asked("loglikelihood", PAIRS), disable_tqdm=True)
    assert [log for log, _ in ours] == pytest.approx([log for log, _ in found], abs=1e-3)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in found]
    assert spoken.cut == 1 and all(log < 0 for log, _ in ours)


def test_whole_texts_are_read_in_the_windows_of_the_harness(spoken: Any, theirs: Any) -> None:
    texts = [("What is 3 + 3? The sum is 6.",), ("a",), (LONG,)]
    assert len(spoken.tok_encode(LONG)) > 2 * spoken.room
    ours = spoken.loglikelihood_rolling(asked("loglikelihood_rolling", texts))
    found = theirs.loglikelihood_rolling(asked("loglikelihood_rolling", texts), disable_tqdm=True)
    assert ours[:2] == pytest.approx(found[:2], abs=1e-3) and ours[2] == pytest.approx(found[2], rel=1e-5)


def test_answers_end_where_those_of_the_harness_own_model_end(spoken: Any, theirs: Any) -> None:
    whole = spoken.generate_until(asked("generate_until", [("What is 2 + 2?", {"max_gen_toks": 12})]))[0]
    until = whole[len(whole) // 2 :][:3]
    rows = [
        (text, {"until": [stop], "max_gen_toks": 12})
        for text in ("What is 2 + 2?", "The sum", LONG)
        for stop in ("\n", until)
    ]
    ours = spoken.generate_until(asked("generate_until", rows))
    assert ours == theirs.generate_until(asked("generate_until", rows), disable_tqdm=True)
    assert len(ours[1]) < len(whole) and until and until not in ours[1]


def test_through_the_chat_template_the_text_is_the_harness_own_and_the_likelihoods_too(
    spoken: Any, theirs: Any
) -> None:
    talks = [[{"role": "user", "content": "What is 2 + 2?"}]]
    talks.append([*talks[0], {"role": "assistant", "content": "The sum"}])
    for talk, generate in zip(talks, (True, False), strict=True):
        text = spoken.apply_chat_template(talk, add_generation_prompt=generate)
        assert text == theirs.apply_chat_template(talk, add_generation_prompt=generate)
        assert spoken.tok_encode(text) == theirs.tok_encode(text)
        pairs = [(text, "4"), (text, " is 12.")]
        ours = spoken.loglikelihood(asked("loglikelihood", pairs))
        found = theirs.loglikelihood(asked("loglikelihood", pairs), disable_tqdm=True)
        assert [log for log, _ in ours] == pytest.approx([log for log, _ in found], abs=1e-3)
        says = (text, {"until": ["\n"], "max_gen_toks": 8})
        assert spoken.generate_until(asked("generate_until", [says])) == theirs.generate_until(
            asked("generate_until", [says]), disable_tqdm=True
        )


def test_what_looks_like_a_control_token_in_a_row_stays_text(spoken: Any, theirs: Any) -> None:
    text = "What is <|im_end|>?"
    assert len(theirs.tok_encode(text)) < len(spoken.tok_encode(text))
    chat = spoken.apply_chat_template([{"role": "user", "content": text}])
    control = theirs.tok_encode("<|im_end|>", add_special_tokens=False)[0]
    assert spoken.tok_encode(chat).count(control) == theirs.tok_encode(chat).count(control) - 1


def test_marks_and_figures_are_those_of_the_harness_on_the_same_files(starter: Path, tmp_path: Path) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    folder = lmfolder.write(tmp_path / "tasks")
    settings = {"lm-eval": {"tasks_folder": str(folder), "tasks": "all", "num_fewshot": "1"}}
    found = studio.evaluate(str(starter), suites=["lm-eval"], settings=settings)
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    for name in ("_common_yaml",):
        text = (folder / name).read_text("utf-8").replace("capitals.jsonl", str(folder / "capitals.jsonl"))
        (folder / name).write_text(text, "utf-8")
    theirs = simple_evaluate(
        own(STARTER, 512), tasks=["choose", "say", "read"], num_fewshot=1, task_manager=manager, bootstrap_iters=0
    )
    assert theirs is not None
    figures = {one["measure"]: one["sides"]["after"] for one in found["suites"]["lm-eval"]["figures"]}
    wanted = ["choose:acc,none", "choose:acc_norm,none", "say:exact_match,strict", "say:exact_match,last-word"]
    assert list(figures) == [*wanted, "read:bits_per_byte,none"]
    for measure in wanted:
        task, _, metric = measure.partition(":")
        assert figures[measure]["value"] == pytest.approx(theirs["results"][task][metric])
        assert figures[measure]["n"] == len(lmfolder.CAPITALS)
    assert 0 < figures["choose:acc,none"]["value"] <= 1  # a figure that could differ
    rows = json.loads((Path(found["dir"]) / "shown.json").read_text("utf-8"))["lm-eval"]
    theirs_said = {one["doc_id"]: one["resps"][0][0] for one in theirs["samples"]["say"] if one["filter"] == "strict"}
    for row in (one for one in rows if one["task"] == "say"):
        assert row["after"].startswith(theirs_said[int(row["item"].rpartition("-")[2])].strip())
        assert "The capital of" in row["asked"] and row["wanted"] in dict(lmfolder.CAPITALS).values()
    bits = [-one["bits_per_byte"][0] / one["bits_per_byte"][1] / math.log(2) for one in theirs["samples"]["read"]]
    assert figures["read:bits_per_byte,none"]["value"] == pytest.approx(math.fsum(bits) / len(bits), abs=1e-3)
    notes = " ".join(found["suites"]["lm-eval"]["notes"])
    assert "word_perplexity is one number" in notes and "choose (version 2.0)" in notes


def test_before_and_after_are_compared_item_by_item_and_the_answers_can_be_read(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lmfolder.write(tmp_path / "tasks")
    words = ["eval", str(made), "--against", "base", "--suite", "lm-eval", "--tasks-folder", str(folder)]
    assert command([*words, "--tasks", "choose,say", "--limit", "4", "--apply-chat-template", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    figures = found["suites"]["lm-eval"]["figures"]
    assert len(figures) == 4 == found["tested"] and {one["label"] for one in figures} > {"choose: acc"}
    for one in figures:
        assert {side["n"] for side in one["sides"].values()} == {4} and one["difference"]["paired"]
        assert one["difference"]["test"] == "McNemar, mid-p" and one["difference"]["p_holm"] >= one["difference"]["p"]
    assert any("before has no chat template" in note for note in found["suites"]["lm-eval"]["notes"])
    rows = json.loads((Path(found["dir"]) / "shown.json").read_text("utf-8"))["lm-eval"]
    assert len(rows) == 8 and all({"asked", "before", "after", "wanted", "marks"} <= row.keys() for row in rows)
    assert "<|im_start|>user" in rows[0]["asked_as"]["after"] and rows[0]["asked"] == "The capital of Nepal is"
    report = Path(found["report"]).read_text("utf-8")
    assert "choose: acc_norm" in report and "Answers, one by one (8)" in report and "Kathmandu (-" in report


def test_a_stop_keeps_what_was_answered_and_a_resume_asks_the_rest_only(
    starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    for name in ("scores", "answer"):
        real = getattr(Local, name)
        monkeypatch.setattr(
            Local,
            name,
            lambda self, *rest, _real=real, **options: (seen.append(rest), _real(self, *rest, **options))[1],
        )
    folder = lmfolder.write(tmp_path / "tasks")
    settings = {"lm-eval": {"tasks_folder": str(folder), "tasks": "capitals"}}
    run = runs.create(job.asked(str(starter), suites=["lm-eval"], settings=settings))
    with pytest.raises(Stopped):
        worker.work(run, should_stop=lambda: len(Kept(run.dir)._found) >= 7)
    assert len(seen) == len(Kept(run.dir)._found) == 7
    found = worker.work(run)
    assert len(seen) == len(lmfolder.CAPITALS) * (3 + 1)
    assert found["suites"] == studio.evaluate(str(starter), suites=["lm-eval"], settings=settings)["suites"]


ROWS = "dataset_path: json\ndataset_kwargs: {data_files: {test: capitals.jsonl}}\ntest_split: test\n"
OWN = f"""task: own
{ROWS}output_type: generate_until
doc_to_text: !function own.text
doc_to_target: capital
process_results: !function own.results
metric_list: [{{metric: process, aggregation: mean, higher_is_better: false}}]
"""


def test_code_of_the_folder_runs_where_it_is_allowed_in_a_process_of_its_own(starter: Path, tmp_path: Path) -> None:
    folder = lmfolder.write(tmp_path / "tasks", own=OWN)
    (folder / "own.py").write_text(
        "import os\ndef text(doc): return doc['country'].upper()\n"
        "def results(doc, said): return {'process': float(os.getpid())}\n"
    )
    settings = {"tasks_folder": str(folder), "tasks": "own", "n": 2, "allow_folder_code": True}
    found = studio.evaluate(str(starter), suites=["lm-eval"], settings={"lm-eval": settings})
    (figure,) = found["suites"]["lm-eval"]["figures"]
    assert figure["better"] == "less" and figure["sides"]["after"]["n"] == 2
    assert figure["sides"]["after"]["value"] not in (0.0, float(os.getpid()))
    rows = json.loads((Path(found["dir"]) / "shown.json").read_text("utf-8"))["lm-eval"]
    assert [row["asked"] for row in rows] == ["NEPAL", "BELIZE"]


FAR = """
import datasets
from lm_eval.api.task import ConfigurableTask
class Far(ConfigurableTask):
    def __init__(self, config=None):
        datasets.load_dataset("allenai/ai2_arc")
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"task: bad\n{ROWS}doc_to_text: \"{{{{ ''.__class__.__mro__ }}}}\"\ndoc_to_target: capital", "SecurityError"),
        (f"task: bad\n{ROWS}doc_to_text: '{{{{nothing}}}}'\ndoc_to_target: capital", "'nothing' is undefined"),
        ("task: bad\nclass: !function far.Far", "allenai/ai2_arc of a hub"),
        (f"task: bad\n{ROWS}doc_to_text: country\ndoc_to_target: capital\nprocess_docs: !function far.end", "far"),
    ],
)
def test_a_task_that_cannot_be_loaded_is_named_with_the_reason(
    starter: Path, tmp_path: Path, text: str, said: str
) -> None:
    folder = lmfolder.write(tmp_path / "tasks", bad=text + "\n")
    (folder / "far.py").write_text(FAR)
    settings = {"tasks_folder": str(folder), "tasks": "bad", "allow_folder_code": True}
    with pytest.raises(DataError) as caught:
        studio.evaluate(str(starter), suites=["lm-eval"], settings={"lm-eval": settings})
    assert said in caught.value.message and caught.value.remedy


def test_code_that_never_ends_is_ended(starter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmasked, "SILENCE", 8.0)
    folder = lmfolder.write(tmp_path / "tasks", own=OWN)
    (folder / "own.py").write_text(
        "import time\ndef text(doc):\n    while True: time.sleep(1)\ndef results(doc, said): return {}\n"
    )
    settings = {"tasks_folder": str(folder), "tasks": "own", "allow_folder_code": True}
    with pytest.raises(DataError, match="silent for 8 s"):
        studio.evaluate(str(starter), suites=["lm-eval"], settings={"lm-eval": settings})
