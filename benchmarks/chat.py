"""Chat through the engine: speed, one copy of the weights, adapters, two panes, and beside a training.

    python benchmarks/chat.py [--gguf FILE] [--model FOLDER] [--only NAME ...] [--repeat 5] [--json]

Claims, on 2 cores; exit code 3 when one is missed:
  speed     tokens a second as a user gets them (engine process, session, text) are at least 0.95 of a bare
            llama-cpp-python loop (`Llama.generate`) on the same file, prompt and threads; the median of the ratios of
            neighbouring runs, the sides alternating.
  memory    two panes of one file, an adapter on one, take at most 1.02 times what one pane takes, the second context's
            cache and buffers (as llama.cpp itself counts them) and the adapter's file. Resident memory, mapped weights
            included.
  toggle    the adapter is set, taken off or given another strength in under 5 ms, asked from outside of the engine.
  together  both panes' first tokens come before either ends.
  first     from a new session to the first piece of an answer under 2 s (the starter, `--gguf` aside).
  page      from opening the Chat page in a browser (headless Chromium, by Playwright) to the first text of an answer in
            it under 2 s, a question sent as soon as there is a field for it; the starter with a run, as it was left.
  training  beside a training of the starter with the worker's settings at least half of the idle speed remains.

FILE is a GGUF file, FOLDER a model folder that is made one of (Q8_0); by default the starter.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "ui")]

from loras import write_lora  # noqa: E402

from studio import runs  # noqa: E402
from studio.chat.session import Pane, Session, threads_for  # noqa: E402
from studio.child import WAITING, Child  # noqa: E402

SPEED, MEMORY, TOGGLE_MS, FIRST_S, BESIDE = 0.95, 1.02, 5.0, 2.0, 0.5
PROMPT = "Once upon a time there was a small grey mouse who wanted to see the sea, and so"
TOKENS = 128
HERE = "benchmarks.chat"


def main() -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "starter")
    parser.add_argument("--only", nargs="*", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["STUDIO_HOME"] = scratch
        file = asked.gguf.resolve() if asked.gguf else made(asked.model, Path(scratch))
        found = {name: MEASURES[name](file, asked.repeat, Path(scratch)) for name in asked.only}
    if asked.json:
        print(json.dumps({"file": file.name, **found}, indent=1))
    for name, one in found.items() if not asked.json else ():
        print(f"{name:9} {'holds' if one['holds'] else 'MISSED'}  {one['said']}", flush=True)
    return 0 if all(one["holds"] for one in found.values()) else 3


def made(model: Path, folder: Path) -> Path:
    """Write a model folder as Q8_0."""
    from studio.export import gguf, quantize
    from studio.render import encode

    source, out = folder / "model-F16.gguf", folder / "model-Q8_0.gguf"
    gguf.write(model, None, source, encode.load(model), name=model.name)
    quantize.quantize(source, out, "Q8_0")
    source.unlink()
    return out


def timed(session: Session, **options: Any) -> float:
    """Give the tokens a second from the first piece to the end, as they arrive."""
    first = count = 0.0
    turns = [{"role": "user", "content": PROMPT}]
    for item in session.stream(0, turns, raw=True, max_tokens=TOKENS, **options):
        first = first or time.monotonic()
        count = item.get("tokens", 0)
    if count < 2:
        raise SystemExit("The model ends at once: choose another file.")
    return (count - 1) / (time.monotonic() - first)


def steady(session: Session, **options: Any) -> float:
    """Give the mean over answers of at least a second and a half: a step of a training is longer than a short one."""
    rates, end = [], time.monotonic() + 1.5
    while not rates or time.monotonic() < end:
        rates.append(timed(session, **options))
    return statistics.harmonic_mean(rates)


def bare(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """The bare loop, in a process of its own that waits as the engine does: load once, generate at each request."""
    import llama_cpp

    llama = _kept.get(request["gguf"]) or llama_cpp.Llama(
        request["gguf"], n_ctx=2048, n_threads=request["threads"], n_threads_batch=request["threads"], verbose=False
    )
    _kept[request["gguf"]] = llama
    ids = llama.tokenize(PROMPT.encode(), add_bos=False)
    first, count = 0.0, 0
    for token in llama.generate(ids, temp=0.0):
        llama.detokenize([token])
        first = first or time.monotonic()
        count += 1
        if count == request["tokens"]:
            break
    yield {"rate": (count - 1) / (time.monotonic() - first)}


_kept: dict[str, Any] = {}


def speed(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Alternate ours and the bare loop."""
    session, other = Session([Pane("x", str(file))]), Child(f"{HERE}:bare", env=WAITING)
    ours, theirs = [], []
    try:
        length = session.answer(0, [{"role": "user", "content": PROMPT}], raw=True, max_tokens=TOKENS)["tokens"]
        request = {"gguf": str(file), "threads": threads_for(1), "tokens": length}
        other.ask(request, timeout=300)
        for _ in range(repeat):
            ours.append(timed(session))
            theirs.append(other.ask(request, timeout=300)["rate"])
    finally:
        session.close()
        other.close()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    mine, bare_ = statistics.median(ours), statistics.median(theirs)
    said = f"{mine:.1f} tokens/s, bare {bare_:.1f}: {ratio:.2f} x (at least {SPEED})"
    return {"holds": ratio >= SPEED, "ours": mine, "bare": bare_, "ratio": ratio, "said": said}


def grown(request: dict[str, Any], cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Open one pane, then the second with the adapter, in one process; tell its memory after each."""
    import psutil

    from studio.chat import engine, llama

    lib, counted = llama.library(), []

    @lib.llama_log_callback
    def hear(level: int, text: bytes, data: Any) -> None:
        line = text.decode("utf-8", "replace")
        if "buffer size =" in line and "LoRA" not in line:
            counted.append(float(line.split("=")[1].split()[0]) * 2**20)

    def measure() -> tuple[int, int]:
        about = psutil.Process().memory_full_info()
        return about.rss, about.uss

    turns = [{"role": "user", "content": PROMPT}]
    common = {"op": "ask", "gguf": request["gguf"], "messages": turns, "raw": True, "max_tokens": 32}
    list(engine.handle({**common, "pane": "0"}, cancelled))
    one = measure()
    lib.llama_log_set(hear, ctypes.c_void_p())
    list(engine.handle({**common, "pane": "1", "adapter": request["adapter"]}, cancelled))
    two = measure()
    yield {"one": one, "two": two, "buffers": sum(counted), "parts": counted}


def memory(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Compare two panes with one, and what llama.cpp says a context takes."""
    lora = scratch / "lora.gguf"
    write_lora(file, lora, rank=16)
    child = Child(f"{HERE}:grown", env=WAITING)
    try:
        found = child.ask({"gguf": str(file), "adapter": str(lora)}, timeout=600)
    finally:
        child.close()
    (one, one_own), (two, two_own) = found["one"], found["two"]
    wanted = one + found["buffers"] + lora.stat().st_size
    ratio = two / wanted
    said = (
        f"one pane {one / 1e6:.0f} MB, two {two / 1e6:.0f} MB; a context {found['buffers'] / 1e6:.0f} MB, the adapter "
        f"{lora.stat().st_size / 1e6:.0f} MB: {ratio:.3f} x (at most {MEMORY})"
    )
    return {"holds": ratio <= MEMORY, "ratio": ratio, "own_growth": two_own - one_own, "said": said, **found}


def toggle(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Set, take off and change the adapter of an open pane, over and over."""
    lora = scratch / "toggled.gguf"
    write_lora(file, lora, rank=16)
    session = Session([Pane("base", str(file)), Pane("tuned", str(file), adapter=str(lora))])
    took = []
    try:
        session.load()
        session.apply(1)
        for strength in [0.0, 1.0, 0.5, 1.5] * 10 * repeat:
            session.set_strength(1, strength)
            at = time.monotonic()
            session.apply(1)
            took.append(1e3 * (time.monotonic() - at))
    finally:
        session.close()
    middle, late = statistics.median(took), sorted(took)[int(0.95 * len(took))]
    said = f"{middle:.2f} ms, 95 of 100 within {late:.2f} ms (at most {TOGGLE_MS:g})"
    return {"holds": late < TOGGLE_MS, "median_ms": middle, "p95_ms": late, "said": said}


def together(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Ask both panes at once."""
    session = Session([Pane("a", str(file), raw=True), Pane("b", str(file), raw=True)])
    turns = [{"role": "user", "content": PROMPT}]
    overlaps, rates = 0, []
    try:
        session.load()
        for _ in range(repeat):
            began = time.monotonic()
            items = list(session.ask([turns, turns], max_tokens=TOKENS))
            rates.append(sum(item.get("tokens", 0) for item in items) / (time.monotonic() - began))
            order = ["done" if "done" in item else item["pane"] for item in items]
            overlaps += {0, 1} <= set(order[: order.index("done")])
    finally:
        session.close()
    said = f"both streamed at once in {overlaps} of {repeat} runs, {statistics.median(rates):.1f} tokens/s in all"
    return {"holds": overlaps == repeat, "overlaps": overlaps, "rate": statistics.median(rates), "said": said}


def first(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Time a new session up to the first piece."""
    took = []
    for _ in range(repeat):
        at = time.monotonic()
        session = Session([Pane("x", str(file), raw=True)])
        try:
            stream = session.ask([[{"role": "user", "content": PROMPT}]], max_tokens=8)
            next(stream)
            took.append(time.monotonic() - at)
            stream.close()  # type: ignore[attr-defined]
        finally:
            session.close()
    middle = statistics.median(took)
    return {"holds": middle < FIRST_S, "seconds": middle, "said": f"{middle:.2f} s (at most {FIRST_S:g})"}


#: Notes when the first text of an answer stands in the page, in milliseconds since it was asked for.
WATCH = """new MutationObserver(() => {
  const texts = [...document.querySelectorAll("#st-page-chat .st-answer:not(:has(.st-muted))")];
  if (!window.stFirst && texts.some((answer) => answer.innerText.trim())) window.stFirst = performance.now();
}).observe(document, { childList: true, subtree: true, characterData: true });"""


def page(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Open the page anew each time, in a window that stays open, and ask at once."""
    import browser

    if browser.chromium() is None:
        return {"holds": True, "said": "not measured: there is no Chromium on this machine"}
    home = scratch / "window"
    home.mkdir()
    os.environ["STUDIO_HOME"] = str(home)
    spoken()
    window, took = browser.Served(home, 7980), []
    try:
        with browser.browser() as chrome:
            context = chrome.new_context()
            browser.open_tab(context, window.link, "chat").close()
            for _ in range(repeat):
                (home / "chat.json").unlink(missing_ok=True)
                tab = context.new_page()
                tab.add_init_script(WATCH)
                tab.goto(f"{window.address}#chat", wait_until="commit")
                tab.fill("#st-chat-input textarea, #st-chat-input input", "What is the capital of France?")
                tab.keyboard.press("Control+Enter")
                took.append(tab.wait_for_function("window.stFirst", timeout=60_000).json_value() / 1000)
                tab.wait_for_selector("#st-chat-send", state="visible")
                tab.close()
    finally:
        window.close()
        os.environ["STUDIO_HOME"] = str(scratch)
    middle = statistics.median(took)
    said = f"{middle:.2f} s in the browser, {min(took):.2f} to {max(took):.2f} (at most {FIRST_S:g})"
    return {"holds": middle < FIRST_S, "seconds": middle, "all": took, "said": said}


def spoken() -> None:
    """Train the starter for some steps, pick it, and make the files that the chat speaks with."""
    import studio
    from studio.models import check
    from studio.ui import chatopen, chatprep, live, picking

    data = ROOT / "assets" / "data" / "starter_sft.jsonl"
    studio.train_model("sft", model="starter", data=data, settings={"max_steps": 20})
    info = check.inspect("starter")
    picking.use("starter", {"name": info.name, "bytes": info.bytes, "exportable": info.exportable})
    who = chatopen.Who.now(live.look())
    try:
        for wanted in filter(None, map(who.wanted, chatopen.PANES)):
            chatprep.make(wanted)
    finally:
        chatprep.close()


def training(file: Path, repeat: int, scratch: Path) -> dict[str, Any]:
    """Alternate idle, the training halted meanwhile, and beside it."""
    session = Session([Pane("x", str(file))])
    data = ROOT / "assets" / "data" / "starter_sft.jsonl"
    words = [sys.executable, "-m", "studio", "train", "sft", "--model", "starter", "--data", str(data)]
    idle, beside = [], []
    worker = subprocess.Popen(
        [*words, "--set", "epochs=50"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while not any(item["type"] == "step" for run in runs.computing() for item in run.events()):
            if worker.poll() is not None:
                raise SystemExit("The training ended before it began.")
            time.sleep(0.5)
        timed(session)
        for _ in range(repeat):
            worker.send_signal(signal.SIGSTOP)
            idle.append(steady(session, threads=os.cpu_count()))
            worker.send_signal(signal.SIGCONT)
            beside.append(steady(session))
        if worker.poll() is not None:
            raise SystemExit("The training ended before the chat was measured.")
    finally:
        worker.kill()
        worker.wait()
        session.close()
    ratio = statistics.median(a / b for a, b in zip(beside, idle, strict=True))
    free, shared = statistics.median(idle), statistics.median(beside)
    said = f"{free:.1f} tokens/s idle, {shared:.1f} beside a training: {ratio:.2f} x (at least {BESIDE})"
    return {"holds": ratio >= BESIDE, "idle": free, "beside": shared, "ratio": ratio, "said": said}


MEASURES: dict[str, Callable[[Path, int, Path], dict[str, Any]]] = {
    "speed": speed,
    "memory": memory,
    "toggle": toggle,
    "together": together,
    "first": first,
    "page": page,
    "training": training,
}

if __name__ == "__main__":
    sys.exit(main())
