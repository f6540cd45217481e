"""Rows to tokens: Studio's cache next to `datasets`, in one run on the same file.

    python benchmarks/data.py [--gb 1 | --mb 100] [--model FOLDER] [--rounds 3] [--json]

Claims, on 2 cores: checking a file and writing its tokens to the cache makes at least 1.5 times the rows a second of
`load_dataset("json")` and `.map(batched=True)` with as many processes as there are cores, the same fast tokenizer, the
same template and the same mask; it takes less than 1 GB of memory for a 1 GB file; ids and labels are equal, row for
row. Exit code 3 when a claim does not hold. Needs `pip install datasets`, which Studio itself does not.

Both begin with a JSONL file of conversations and nothing in a cache, and end with ids and labels on the disk. Not
counted for either: imports and loading the tokenizer. Every measurement is a process of its own; memory is the sum of
its process tree, sampled 20 times a second (pages that processes share count once for each). The other side is what a
good user would write: one compiled template, the learned stretches found by rendering the prefixes, one call of
the tokenizer a batch with offsets, the mask in one walk over them.

Expected from a profile: the tokenizer itself is three quarters of the work, for both; rendering once in place of once
and twice a turn, and no offsets, would make 1.25 times the rows. Found: so it was. What made it 1.7 times (in CPU
seconds) and more is that a word of ASCII text is tokenised once and remembered, in processes that read the file
themselves and load no framework. On a busy machine look at the CPU seconds: they vary less than the rows a second.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

RATIO, PEAK_MB, MAX_LENGTH, SAMPLE = 1.5, 1024, 4096, 1000
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
COMMON = """
the of and to a in is it you that he was for on are with as his they be at one have this from or had by hot but some
what there we can out other were all your when up use word how said an each she which do their time if will way about
many then them would write like so these her long make thing see him two has look more day could go come did my sound
no most number who over know water than call first people may down side been now find any new work part take get place
made live where after back little only round man year came show every good me give our under
"""
SYLLABLES = "ba con der en fi gra hol in jo ka lo men nor ou per qui re sta ti un ver wi xa yo zen tion ly ment al"


def write_file(path: Path, megabytes: int, seed: int = 0) -> None:
    """Write conversations of one to five exchanges; words are as unequally frequent as in real text."""
    rng = random.Random(seed)
    rare = ["".join(rng.choices(SYLLABLES.split(), k=rng.randint(2, 4))) for _ in range(30_000)]
    words = COMMON.split() + rare
    weights = [1 / (rank + 3) for rank in range(len(words))]
    sentences = [
        " ".join(rng.choices(words, weights, k=rng.randint(4, 24))).capitalize() + rng.choice("..?!:")
        for _ in range(40_000)
    ]
    with path.open("w", encoding="utf-8") as file:
        row = 0
        while file.tell() < megabytes * 1_000_000:
            for _ in range(1000):
                row += 1
                turns = [("system", rng.choice(sentences))] if rng.random() < 0.3 else []
                for _ in range(rng.randint(1, 5)):
                    asked = " ".join(rng.choices(sentences, k=rng.randint(1, 3)))
                    answer = " ".join(rng.choices(sentences, k=rng.randint(1, 9)))
                    if rng.random() < 0.1:
                        answer += "\n\n- één\n- 二"
                    turns += [("user", f"{asked} ({row})"), ("assistant", answer)]
                talk = [{"role": role, "content": text} for role, text in turns]
                file.write(json.dumps({"messages": talk}, ensure_ascii=False) + "\n")


# Each part runs in a process of its own and prints {"seconds", "rows", ...}.


def ours(data: Path, model: Path, work: Path) -> dict[str, Any]:
    from studio import worker
    from studio.data import dataset
    from studio.render import cache, encode

    worker.quiet()
    renderer = encode.load(model)
    began, cpu = time.perf_counter(), _cpu()
    checked = dataset.load(data)
    after_check = time.perf_counter()
    made = cache.build(checked, renderer, max_length=MAX_LENGTH, folder=work / "tokens")
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    assert len(made) == checked.rows and not made.left_out
    sample = [[made[at]["text"][name] for name in ("ids", "labels")] for at in _sample(len(made))]
    (work / "ours.json").write_text(json.dumps(sample))
    return {
        "seconds": seconds,
        "cpu_seconds": cpu,
        "check_seconds": after_check - began,
        "rows": len(made),
        "tokens": made.about["tokens"],
        "bytes": sum(made.about["files"].values()),
    }


def theirs(data: Path, model: Path, work: Path) -> dict[str, Any]:
    import datasets
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    from studio.render import encode

    datasets.disable_progress_bars()
    renderer = encode.load(model)
    tokenizer, source, end_of_turn = renderer.tokenizer, renderer.source, renderer.stop_tokens[0]
    tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items()}

    def tokenise(batch: dict[str, Any]) -> dict[str, Any]:
        env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        template = env.from_string(source)  # once a batch, for it cannot be pickled; 1 ms

        def render(messages: list[dict[str, str]], generate: bool = False) -> str:
            return template.render(messages=messages, add_generation_prompt=generate, **tokens)

        texts, spans = [], []
        for messages in batch["messages"]:
            text, learned = render(messages), []
            for at, message in enumerate(messages):
                if message["role"] == "assistant":
                    start, end = len(render(messages[:at], True)), len(render(messages[: at + 1]))
                    learned.append((start, text.rindex(end_of_turn, start, end) + len(end_of_turn)))
            texts.append(text)
            spans.append(learned)
        made = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False)
        labels = []
        for ids, offsets, learned in zip(made["input_ids"], made["offset_mapping"], spans, strict=True):
            row, at = [-100] * len(ids), 0
            for start, end in learned:
                while offsets[at][1] <= start:
                    at += 1
                while at < len(ids) and offsets[at][0] < end:
                    row[at] = ids[at]
                    at += 1
            labels.append(row)
        return {"input_ids": made["input_ids"], "labels": labels}

    began, cpu = time.perf_counter(), _cpu()
    rows = datasets.load_dataset("json", data_files=str(data), split="train", cache_dir=str(work / "datasets"))
    made = rows.map(tokenise, batched=True, num_proc=CORES, remove_columns=rows.column_names)
    seconds, cpu = time.perf_counter() - began, _cpu() - cpu
    sample = [[made[at]["input_ids"], made[at]["labels"]] for at in _sample(len(made))]
    (work / "theirs.json").write_text(json.dumps(sample))
    return {"seconds": seconds, "cpu_seconds": cpu, "rows": len(made)}


def check(data: Path, model: Path, work: Path) -> dict[str, Any]:
    from studio.data import dataset

    began = time.perf_counter()
    made = dataset.check(data)
    assert made.usable == made.rows
    return {"seconds": time.perf_counter() - began, "rows": made.rows}


def _cpu() -> float:
    """Give the CPU seconds of this process and of its children that have ended."""
    return sum(os.times()[:4])


PARTS = {"ours": ours, "theirs": theirs, "check": check}


def _sample(rows: int) -> range:
    return range(0, rows, max(1, rows // SAMPLE))


def measure(part: str, data: Path, model: Path) -> dict[str, Any]:
    """Run a part in a process of its own; adds its peak memory in MB and the sampled rows."""
    import psutil

    with tempfile.TemporaryDirectory(prefix="studio-bench-", dir=data.parent) as folder:
        command = [sys.executable, __file__, "--part", part, str(data), str(model), folder]
        env = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "STUDIO_HOME": folder}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
        peak, ended = 0, threading.Event()

        def watch() -> None:
            nonlocal peak
            root = psutil.Process(process.pid)
            while not ended.wait(0.05):
                now = 0
                try:
                    for one in [root, *root.children(recursive=True)]:
                        now += one.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                peak = max(peak, now)

        watcher = threading.Thread(target=watch)
        watcher.start()
        out, _ = process.communicate()
        ended.set()
        watcher.join()
        if process.returncode:
            raise SystemExit(f"The part {part!r} failed.")
        sample = Path(folder, f"{part}.json")
        rows = json.loads(sample.read_text()) if sample.is_file() else None
        return {**json.loads(out.splitlines()[-1]), "peak_mb": peak / 2**20, "sample": rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--gb", type=float, help="the same in GB")
    parser.add_argument("--model", help="a model folder; its tokenizer and template are used (default: the starter)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder with room for 12 times the file (default: the system's)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if importlib.util.find_spec("datasets") is None:
        print("This benchmark compares with `datasets`: pip install datasets", file=sys.stderr)
        return 2
    from studio.models import hub

    model = hub.resolve(args.model or "starter")
    megabytes = round(args.gb * 1000) if args.gb else args.mb
    with tempfile.TemporaryDirectory(prefix="studio-bench-", dir=args.work) as folder:
        data = Path(folder) / "talks.jsonl"
        write_file(data, megabytes)
        size = data.stat().st_size / 1e6
        checked = measure("check", data, model)
        rounds = []
        for number in range(args.rounds):
            order = ("ours", "theirs") if number % 2 == 0 else ("theirs", "ours")
            made = {part: measure(part, data, model) for part in order}
            equal = made["ours"].pop("sample") == made["theirs"].pop("sample")
            speed = {part: made[part]["rows"] / made[part]["seconds"] for part in order}
            rounds.append({**made, "equal": equal, "ratio": speed["ours"] / speed["theirs"]})
            print(
                f"round {number + 1}: ours {speed['ours']:,.0f} rows/s, datasets {speed['theirs']:,.0f} rows/s, "
                f"ratio {rounds[-1]['ratio']:.2f} (CPU seconds: {made['ours']['cpu_seconds']:.1f} to "
                f"{made['theirs']['cpu_seconds']:.1f})",
                file=sys.stderr,
            )
    ratio = statistics.median(one["ratio"] for one in rounds)
    peaks = {part: max(one[part]["peak_mb"] for one in rounds) for part in ("ours", "theirs")}
    equal = all(one["equal"] for one in rounds)
    first = rounds[0]["ours"]
    claims = {
        f"ratio {ratio:.2f} (at least {RATIO})": ratio >= RATIO,
        f"peak memory {peaks['ours']:.0f} MB (below {PEAK_MB})": peaks["ours"] < PEAK_MB,
        f"check's peak memory {checked['peak_mb']:.0f} MB (below {PEAK_MB})": checked["peak_mb"] < PEAK_MB,
        "ids and labels of the sampled rows are equal": equal,
    }
    if args.json:
        report = {"megabytes": size, "cores": CORES, "ratio": ratio, "peak_mb": peaks, "equal": equal, "check": checked}
        print(json.dumps({**report, "rounds": rounds, "ok": all(claims.values())}, indent=1))
    else:
        what = f"{size:.0f} MB, {first['rows']:,} rows, {first['tokens']:,} tokens"
        print(f"{what}, {CORES} cores, medians of {len(rounds)}")
        for part, name in (("ours", "Studio, check and tokens"), ("theirs", "datasets, load and map")):
            middle = statistics.median(one[part]["rows"] / one[part]["seconds"] for one in rounds)
            print(f"  {name:<26}{middle:>9,.0f} rows/s   peak {peaks[part]:>6,.0f} MB")
        seconds = checked["seconds"]
        print(f"  {'data check, one pass':<26}{size / seconds:>9,.0f} MB/s     peak {checked['peak_mb']:>6,.0f} MB")
        for claim, holds in claims.items():
            print(f"  {'holds ' if holds else 'MISSED'}  {claim}")
    return 0 if all(claims.values()) else 3


if __name__ == "__main__":
    if sys.argv[1:2] == ["--part"]:
        print(json.dumps(PARTS[sys.argv[2]](*map(Path, sys.argv[3:6]))))
        sys.exit(0)
    sys.exit(main())
