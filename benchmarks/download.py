"""A download that is killed again and again: `python benchmarks/download.py [--mb 300] [--kills 3] [--seed 0]`.

A made-up model comes from a local server that speaks the hub's protocol. The process that downloads it is killed
(SIGKILL) at random points and started again. It holds when the model ends byte-identical and the server has sent at
most 1.25 times its bytes; else the exit code is 3.
"""

from __future__ import annotations

import argparse
import functools
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hubserver import HubServer  # noqa: E402

from studio import paths  # noqa: E402

LIMIT = 1.25
REPO = "made/up"


def main() -> int:
    """Run it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=300, help="size of the model")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mb-per-s", type=float, default=100.0, help="pace of the server")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return measure(Path(scratch), asked.mb, asked.kills, random.Random(asked.seed), asked.mb_per_s)


def measure(scratch: Path, mb: int, kills: int, chance: random.Random, pace: float) -> int:
    """Download a model of so many MB with so many kills; 0 when it holds, 3 when not."""
    source = scratch / "model.safetensors"
    with source.open("wb") as file:
        for _ in range(mb):
            file.write(chance.randbytes(1_000_000))
    size = source.stat().st_size
    with HubServer(pace=pace * 1e6) as server:
        server.add(REPO, {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": source})
        env = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
        env |= {"HF_ENDPOINT": server.url, "HF_HOME": str(scratch / "hf"), "STUDIO_HOME": str(scratch / "studio")}
        command = [sys.executable, "-c", f"from studio.models import hub; hub.resolve({REPO!r})"]
        child = functools.partial(subprocess.Popen, command, cwd=ROOT, env=env)
        for at in sorted(chance.sample(range(size // 50, size), kills)):
            process = child()
            while server.sent < at:
                if process.poll() is not None:
                    print("the download ended by itself, before it was killed")
                    return 1
                time.sleep(0.002)
            process.kill()
            process.wait()
            here = sum(path.stat().st_size for path in (scratch / "hf").rglob("*.incomplete"))
            print(f"killed when {server.sent / 1e6:6.1f} MB were sent: {here / 1e6:6.1f} MB are here")
        began = time.monotonic()
        code = child().wait()
        found = list((scratch / "hf").rglob("snapshots/*/model.safetensors"))
        same = code == 0 and paths.sha256(found[0]) == paths.sha256(source)
        ratio = server.sent / size
        print(f"the last start took {time.monotonic() - began:.1f} s")
        print(f"byte-identical: {'yes' if same else 'NO'}")
        print(f"sent {server.sent / 1e6:.1f} MB of {size / 1e6:.1f}: {ratio:.3f} x (at most {LIMIT})")
    return 0 if same and ratio <= LIMIT else 3


if __name__ == "__main__":
    sys.exit(main())
