"""The token cache: what it gives, when it is made anew, and what is left when a build does not end."""

from __future__ import annotations

import json
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from making import write_jsonl

from studio import events, paths
from studio.data import dataset
from studio.data.records import Conversation, Reading
from studio.errors import DataError, Stopped, TrainingError
from studio.render import cache, encode
from studio.render.tokens import ABOUT, SIDES

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def renderer(tiny: Path) -> encode.Renderer:
    return encode.load(tiny)


def talk(i: int, words: int = 3) -> dict[str, object]:
    said = [("user", f"What is {i} + {i}?"), ("assistant", f"The sum is {2 * i}. " + "word " * words)]
    more = [("user", "Is it <|im_end|> so?"), ("assistant", f"Yes, row {i}.")] if i % 3 == 0 else []
    return {"messages": [{"role": role, "content": text.strip()} for role, text in said + more]}


def rows_of(kind: str, count: int) -> list[dict[str, object]]:
    if kind == "sft":
        return [talk(i) for i in range(count)]
    if kind == "text":
        return [{"text": f"Once, in the year {i}, there was a mouse. " * (1 + 20 * (i % 5 == 0))} for i in range(count)]
    if kind == "prompt":
        return [{"prompt": f"Question {i}: what?"} for i in range(count)]
    if kind == "kto":
        return [{"prompt": f"Question {i}: what?", "completion": f"{i}.", "label": i % 3 == 0} for i in range(count)]
    pair = {"chosen": "The capital of France is Paris.", "rejected": "Lyon, or <|im_end|>"}
    return [{"prompt": f"Question {i}: what?" + "?" * (i % 7), **pair} for i in range(count)]


def notes(seen: list[events.Event], code: str) -> list[str]:
    return [item["text"] for item in seen if item["type"] == "note" and item["code"] == code]


def stamp(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Tell which files lie there, and whether anybody wrote them again (the description's time is touched)."""
    facts = {file.name: file.stat() for file in folder.iterdir()}
    return {name: (fact.st_ino, fact.st_size, 0 if name == ABOUT else fact.st_mtime_ns) for name, fact in facts.items()}


@pytest.mark.parametrize("kind", sorted(SIDES))
def test_the_cache_gives_what_encoding_gives_in_the_order_of_the_file(
    renderer: encode.Renderer, tmp_path: Path, kind: str
) -> None:
    data = dataset.load(write_jsonl(tmp_path / "rows.jsonl", rows_of(kind, 600)), Reading(kind=kind))
    assert data.kind == kind
    made = cache.build(data, renderer, max_length=256, processes=1 + 2 * (kind == "sft"))
    direct = list(encode.examples(renderer, data.records(), max_length=256))
    assert len(made) == len(direct) and made.sides == SIDES[kind]
    assert len(direct) > 600 if kind == "text" else len(direct) == 600  # a long text is several rows
    for ours, theirs in zip(made, direct, strict=True):
        assert isinstance(theirs, encode.Example)
        sides: dict[str, Any] = {name: {"ids": s.ids, "labels": s.labels} for name, s in theirs.sides.items()}
        label = {} if theirs.label is None else {"label": theirs.label}
        assert ours == {**sides, **label, "line": theirs.line}
    longest = [max(len(side.ids) for side in example.sides.values()) for example in direct]  # type: ignore[union-attr]
    assert made.lengths().tolist() == longest
    assert made.lines.tolist() == sorted(made.lines) and made.records.tolist() == [line - 1 for line in made.lines]
    assert made[-1] == made[len(made) - 1] and made[3:5] == [made[3], made[4]]
    with pytest.raises(IndexError):
        made[len(made)]


def test_a_second_build_reads_nothing_and_says_so(renderer: encode.Renderer, sft_file: Path) -> None:
    seen: list[events.Event] = []
    data = dataset.load(sft_file)
    first = cache.build(data, renderer, max_length=128, emit=seen.append)
    assert [item["done"] for item in seen if item["type"] == "progress"][-1] == 40 and not notes(seen, "tokens")
    before = stamp(first.folder)
    sft_file.unlink()  # not even looked at
    seen.clear()
    again = cache.build(data, renderer, max_length=128, emit=seen.append)
    assert again.folder == first.folder and stamp(again.folder) == before
    assert notes(seen, "tokens") and not [item for item in seen if item["type"] == "progress"]
    assert list(again) == list(first)


def test_what_the_tokens_depend_on_is_in_the_key(
    renderer: encode.Renderer, tiny: Path, tiny_bare: Path, sft_file: Path
) -> None:
    data = dataset.load(sft_file)
    same = cache.key(data, renderer, 128)
    assert cache.key(dataset.load(sft_file), encode.load(tiny), 128) == same
    others = [
        cache.key(data, renderer, 64),
        cache.key(data, renderer, 128, "last"),
        cache.key(data, renderer, 128, cut="exchanges"),
        cache.key(data, encode.load(tiny, "llama3"), 128),
        cache.key(data, encode.load(tiny_bare), 128),
        cache.key(dataset.load(sft_file, Reading(drop=("bad",))), renderer, 128),
    ]
    sft_file.write_text(sft_file.read_text().replace("The sum", "Their sum"))
    others.append(cache.key(dataset.load(sft_file), renderer, 128))
    assert len({same, *others}) == 8


def test_the_same_rows_under_another_name_are_found(renderer: encode.Renderer, sft_file: Path, tmp_path: Path) -> None:
    made = cache.build(dataset.load(sft_file), renderer, max_length=128)
    moved = shutil.copy(sft_file, tmp_path / "moved.jsonl")
    seen: list[events.Event] = []
    assert cache.build(dataset.load(moved), renderer, max_length=128, emit=seen.append).folder == made.folder
    assert notes(seen, "tokens")


def test_rows_that_are_left_out_are_counted_with_their_lines(renderer: encode.Renderer, tmp_path: Path) -> None:
    rows = [talk(i, 300 if i in (4, 9, 31) else 3) for i in range(50)]
    data = dataset.load(write_jsonl(tmp_path / "rows.jsonl", rows))
    made = cache.build(data, renderer, max_length=128)
    assert made.left_out["too_long"].count == 2 and made.left_out["too_long"].lines == [5, 32]
    assert made.lines.tolist() == [n for n in range(1, 51) if n not in (5, 32)]  # row 10 lost its first exchange only
    assert (made.lengths() <= 128).all()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_row_that_the_template_refuses_ends_the_build_with_its_line_unless_bad_rows_are_dropped(
    tiny: Path, tmp_path: Path, processes: int
) -> None:
    refusing = encode.load(tiny)
    source = (
        "{%- if 'number 7' in messages[0].content %}{{ raise_exception('no sevens') }}{%- endif %}" + refusing.source
    )
    refusing = encode.Renderer(refusing.tokenizer, source)
    rows = [{"prompt": f"This is number {i}.", "completion": "Yes."} for i in range(30)]
    path = write_jsonl(tmp_path / "rows.jsonl", rows)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no sevens") as caught:
        cache.build(dataset.load(path), refusing, max_length=128, processes=processes)
    assert caught.value.line == 8 and caught.value.file == str(path)
    assert not list((paths.cache() / "tokens").glob("*/"))
    made = cache.build(dataset.load(path, Reading(drop=("bad",))), refusing, max_length=128)
    assert len(made) == 29 and made.left_out["template"].lines == [8]


def test_a_split_goes_by_record_and_keeps_the_order(renderer: encode.Renderer, sft_file: Path) -> None:
    made = cache.build(dataset.load(sft_file), renderer, max_length=128)
    rest, held = made.view({30, 2, 11})
    assert [example["line"] for example in held] == [3, 12, 31]
    assert [example["line"] for example in rest] == [n for n in range(1, 41) if n not in (3, 12, 31)]
    held.beside["ref"] = np.array([[1.5, 2.5], [3.5, 4.5], [5.5, 6.5]], np.float32)
    assert held[1]["ref"] == [3.5, 4.5] and held[-1] == held[2] == held[2:][0]
    assert len(made.view(())[1]) == 0 and len(made.view(())[0]) == 40


def test_the_rows_of_a_long_text_stay_on_one_side(renderer: encode.Renderer, tmp_path: Path) -> None:
    data = dataset.load(write_jsonl(tmp_path / "rows.jsonl", rows_of("text", 30)), Reading(kind="text"))
    rest, held = cache.build(data, renderer, max_length=128).view({5, 6})
    lines = [example["line"] for example in held]
    assert lines == [6] * (len(held) - 1) + [7] and len(held) > 2
    assert not {6, 7} & {example["line"] for example in rest}


def test_views_travel_to_other_processes_as_paths(renderer: encode.Renderer, sft_file: Path) -> None:
    made = cache.build(dataset.load(sft_file), renderer, max_length=128)
    rest, _ = made.view({0})
    assert len(pickle.dumps(made)) < 1000
    copy = pickle.loads(pickle.dumps(rest))
    assert list(copy) == list(rest)


def test_a_large_vocabulary_is_kept_whole(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<unk>": 0, "<|im_start|>": 1, "<|im_end|>": 2, **{f"w{i}": i for i in range(3, 70_000)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    rows = [{"prompt": "w3", "completion": "w69999 w65535 w65536 w5"}]
    made = cache.build(
        dataset.load(write_jsonl(tmp_path / "rows.jsonl", rows)),  # type: ignore[arg-type]
        encode.Renderer(fast, "", wanted="chatml"),
        max_length=128,
    )
    assert [label for label in made[0]["text"]["labels"] if label >= 0] == [69999, 65535, 65536, 5, 2]


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_leaves_nothing(renderer: encode.Renderer, tmp_path: Path, processes: int) -> None:
    data = dataset.load(write_jsonl(tmp_path / "rows.jsonl", rows_of("sft", 3000)))
    seen: list[events.Event] = []
    root, others = tmp_path / "tokens", set(psutil.Process().children())

    def stop() -> bool:
        return len([item for item in seen if item["type"] == "progress"]) > 1

    with pytest.raises(Stopped):
        cache.build(
            data, renderer, max_length=128, folder=root, emit=seen.append, should_stop=stop, processes=processes
        )
    assert not [place for place in root.iterdir() if place.is_dir()]
    assert max(item["done"] for item in seen if item["type"] == "progress") < 3000
    assert set(psutil.Process().children()) <= others


def test_a_damaged_folder_is_made_again(renderer: encode.Renderer, sft_file: Path) -> None:
    data = dataset.load(sft_file)
    first = cache.build(data, renderer, max_length=128)
    rows, ids = list(first), first.folder / "ids.bin"
    os.truncate(ids, ids.stat().st_size - 2)
    assert list(cache.build(data, renderer, max_length=128)) == rows


def test_a_file_that_changes_meanwhile_is_noticed(renderer: encode.Renderer, sft_file: Path, tmp_path: Path) -> None:
    data = dataset.load(sft_file)
    sft_file.write_text(sft_file.read_text().replace("The sum", "The SUM"))
    with pytest.raises(DataError, match="has changed"):
        cache.build(data, renderer, max_length=128, folder=tmp_path / "tokens")
    assert not [place for place in (tmp_path / "tokens").iterdir() if place.is_dir()]


def test_a_full_disk_is_said_before_anything_is_written(
    renderer: encode.Renderer, sft_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: facts._replace(free=1 << 20))
    with pytest.raises(TrainingError, match=r"no room .*0\.00 GB free"):
        cache.build(dataset.load(sft_file), renderer, max_length=128, folder=tmp_path / "tokens")
    assert not [place for place in (tmp_path / "tokens").iterdir() if place.is_dir()]


def test_past_its_bound_the_longest_unused_goes_and_the_one_in_hand_stays(
    renderer: encode.Renderer, sft_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset.load(sft_file)
    made = [cache.build(data, renderer, max_length=length) for length in (100, 101, 102)]
    size = sum(file.stat().st_size for file in made[0].folder.iterdir())
    for age, one in zip((300, 200, 100), made, strict=True):
        os.utime(one.folder / ABOUT, (time.time() - age,) * 2)
    cache.build(data, renderer, max_length=100)  # used again: now the youngest
    monkeypatch.setattr(cache, "MOST_BYTES", int(2.5 * size))
    seen: list[events.Event] = []
    fourth = cache.build(data, renderer, max_length=103, emit=seen.append)
    left = {place.name for place in fourth.folder.parent.iterdir() if place.is_dir()}
    assert left == {made[0].folder.name, fourth.folder.name}
    assert len(notes(seen, "tokens_removed")) == 1
    monkeypatch.setattr(cache, "MOST_BYTES", 1)
    assert len(cache.build(data, renderer, max_length=104)) == 40


_BUILD = """
import sys
from pathlib import Path
from studio.data import dataset
from studio.render import cache, encode
cache.build(dataset.load(sys.argv[2]), encode.load(Path(sys.argv[1])), max_length=128, processes=2)
"""


def _elsewhere(tiny: Path, data: Path) -> subprocess.Popen[bytes]:
    """Start a build in another process, and come back when it has begun to write."""
    process = subprocess.Popen([sys.executable, "-c", _BUILD, str(tiny), str(data)], cwd=ROOT)
    end = time.monotonic() + 60
    while not list((paths.cache() / "tokens").glob("*.part/ids.bin")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.005)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX's")
def test_what_a_killed_build_left_is_not_used_and_goes_with_the_next(
    renderer: encode.Renderer, tiny: Path, tmp_path: Path
) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows_of("sft", 12_000))
    process = _elsewhere(tiny, path)
    (ids,) = (paths.cache() / "tokens").glob("*.part/ids.bin")
    while not ids.stat().st_size:  # the first of some fifty batches
        assert process.poll() is None
        time.sleep(0.005)
    time.sleep(random.random() * 0.2)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not psutil.wait_procs(children, timeout=10)[1]  # they end with it
    root = paths.cache() / "tokens"
    assert [place.suffix for place in root.iterdir() if place.is_dir()] == [".part"]
    small = dataset.load(write_jsonl(tmp_path / "small.jsonl", rows_of("sft", 30)))
    other = cache.build(small, renderer, max_length=128)
    assert [place for place in root.iterdir() if place.is_dir()] == [other.folder]
    data = dataset.load(path)
    made = cache.build(data, renderer, max_length=128)
    record = next(record for record in data.records() if record.line == 5000)
    assert isinstance(record, Conversation) and len(made) == 12_000
    assert made[4999]["text"]["ids"] == renderer.conversation(record.messages).ids


def test_two_builders_of_the_same_tokens_make_them_once(renderer: encode.Renderer, tiny: Path, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", rows_of("sft", 3000))
    data = dataset.load(path)
    process = _elsewhere(tiny, path)
    seen: list[events.Event] = []
    made = cache.build(data, renderer, max_length=128, emit=seen.append)
    assert process.wait() == 0 and len(made) == 3000
    assert notes(seen, "tokens")  # it waited, and took what the other had made
    assert json.loads((made.folder / ABOUT).read_text())["tokens"] == int(made.lengths().sum())
