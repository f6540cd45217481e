"""Base + adapter to Q4_K_M: our one pass beside the usual way, which merges, saves, converts and quantizes.

    python benchmarks/export.py [--model FOLDER] [--converter convert_hf_to_gguf.py] [--tokenizer FOLDER]
                                [--repeat 3] [--json]

Claims, the certificate aside on both sides, medians of alternating runs: at most 0.5 of the time, 0.5 of the peak
anonymous memory, 0.6 of the bytes written. Each way is a process of its own; memory is the largest sum of RssAnon over
it and its children, sampled 50 times a second; bytes are the sizes of all files that were written on the way.

Without FOLDER a random model of Llama 3.2 1B's shape is made. The usual way loads the base with transformers, merges
the adapter with peft (bfloat16) and saves it; then llama.cpp's own converter makes F16 (from llama-cpp-python's source
archive: name it with --converter, and --tokenizer if it is to know the random model's; else our converter does that
part as well), and llama.cpp quantizes.
Exit code 3 where a claim does not hold.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

LIMITS = {"seconds": 0.5, "anonymous_mb": 0.5, "written_mb": 0.6}
TYPE = "Q4_K_M"


def one_b(folder: Path, tokenizer: Path) -> Path:
    """Write a random model of Llama 3.2 1B's shape, with a smaller tokenizer and rows that no token has."""
    import torch
    from safetensors.torch import save_file

    starter = ROOT / "models" / "starter"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    config = json.loads((starter / "config.json").read_text("utf-8"))
    d, f, k, layers, rows = 2048, 8192, 512, 16, 128256
    config |= {
        "hidden_size": d, "intermediate_size": f, "num_hidden_layers": layers, "num_attention_heads": 32,
        "num_key_value_heads": 8, "head_dim": 64, "vocab_size": rows, "tie_word_embeddings": True,
        "max_position_embeddings": 8192, "dtype": "bfloat16",
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Any:
        return (torch.randn(*shape, generator=generator) * 0.02).bfloat16()

    tensors = {"model.embed_tokens.weight": random(rows, d), "model.norm.weight": torch.ones(d).bfloat16()}
    for layer in range(layers):
        at = f"model.layers.{layer}"
        shapes = {"q_proj": (d, d), "k_proj": (k, d), "v_proj": (k, d), "o_proj": (d, d)}
        tensors |= {f"{at}.self_attn.{name}.weight": random(*shape) for name, shape in shapes.items()}
        shapes = {"gate_proj": (f, d), "up_proj": (f, d), "down_proj": (d, f)}
        tensors |= {f"{at}.mlp.{name}.weight": random(*shape) for name, shape in shapes.items()}
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{name}.weight"] = torch.ones(d).bfloat16()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def an_adapter(base: Path, folder: Path) -> Path:
    """Write a random LoRA of rank 16 on all linear maps, as peft saves it."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    maps = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    made = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=maps, task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.01)
    made.save_pretrained(folder)
    return folder


def ours(base: Path, adapter: Path, out: Path, converter: str) -> None:
    """One pass: each block of rows is read, merged and quantized."""
    from studio.export import gguf
    from studio.render import encode

    gguf.write(base, adapter, out / f"x-{TYPE}.gguf", encode.load(base), name="x", dtype=TYPE)


def usual(base: Path, adapter: Path, out: Path, converter: str) -> None:
    """Merge with peft, save, convert, quantize."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
    merged = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    merged.save_pretrained(out / "merged")
    AutoTokenizer.from_pretrained(base).save_pretrained(out / "merged")
    del model, merged
    whole = out / "x-F16.gguf"
    if converter:
        command = [sys.executable, converter, str(out / "merged"), "--outtype", "f16", "--outfile", str(whole)]
        subprocess.run(command, check=True, capture_output=True)
    else:
        from studio.export import gguf
        from studio.render import encode

        gguf.write(out / "merged", None, whole, encode.load(out / "merged"), name="x")
    from studio.export import quantize

    quantize.quantize(whole, out / f"x-{TYPE}.gguf", TYPE)


WAYS = {"ours": ours, "usual": usual}


def measured(way: str, base: Path, adapter: Path, converter: str) -> dict[str, float]:
    """Run one way in a process of its own and watch it."""
    with tempfile.TemporaryDirectory(dir=base.parent) as place:
        start = time.monotonic()
        words = [sys.executable, __file__, "--way", way, str(base), str(adapter), place, converter]
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        peak, done = [0], threading.Event()

        def watch() -> None:
            while not done.wait(0.02):
                peak[0] = max(peak[0], _anonymous(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, said = process.communicate()
        done.set()
        watcher.join()
        if process.returncode:
            raise SystemExit(said[-3000:])
        seconds = time.monotonic() - start
        written = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
    return {"seconds": seconds, "anonymous_mb": peak[0] / 1e6, "written_mb": written / 1e6}


def _anonymous(pid: int) -> int:
    """Sum RssAnon over a process and its children, in bytes."""
    total = 0
    with contextlib.suppress(psutil.Error, OSError, IndexError):
        top = psutil.Process(pid)
        for process in (top, *top.children(recursive=True)):
            with contextlib.suppress(psutil.Error, OSError, IndexError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                total += 1024 * int(status.partition("RssAnon:")[2].split()[0])
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model folder; by default a random one of 1B")
    parser.add_argument("--converter", default="", help="llama.cpp's convert_hf_to_gguf.py")
    parser.add_argument("--tokenizer", type=Path, default=ROOT / "models" / "starter", help="of the random model")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--way", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.way:
        way, base, adapter, out, converter = args.way
        WAYS[way](Path(base), Path(adapter), Path(out), converter)
        return 0
    with tempfile.TemporaryDirectory() as place:
        base = args.model.resolve() if args.model else one_b(Path(place) / "one-b", args.tokenizer)
        if args.model:  # beside the files that are made of it
            base = Path(shutil.copytree(base, Path(place) / "model"))
        adapter = an_adapter(base, Path(place) / "adapter")
        found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
        for _ in range(args.repeat):
            for way in WAYS:
                found[way].append(measured(way, base, adapter, args.converter))
                if not args.json:
                    numbers = "  ".join(f"{name} {value:,.0f}" for name, value in found[way][-1].items())
                    print(f"{way:<6} {numbers}", flush=True)
    ratios = {
        name: statistics.median(
            mine[name] / theirs[name] for mine, theirs in zip(found["ours"], found["usual"], strict=True)
        )
        for name in LIMITS
    }
    held = all(ratios[name] <= limit for name, limit in LIMITS.items())
    if args.json:
        print(json.dumps({"runs": found, "ratios": ratios, "held": held}, indent=1))
    else:
        for name, limit in LIMITS.items():
            print(f"{name:<13} ours / usual {ratios[name]:.2f}  (at most {limit})")
        print("held" if held else "MISSED")
    return 0 if held else 3


if __name__ == "__main__":
    raise SystemExit(main())
