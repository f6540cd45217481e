"""`studio doctor`: what this machine can do, what is missing, and the one command that mends it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from studio import hardware, paths
from studio.chat.session import Pane, Session
from studio.cli.output import Out
from studio.errors import CheckFailed, StudioError
from studio.methods import BROKEN, METHODS


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("doctor", parents=[common], help="check this machine")
    verb.set_defaults(do=_doctor)


def _doctor(args: argparse.Namespace, out: Out) -> int:
    checks = look()
    marks = {True: "ok   ", False: "FAILS"}
    lines = [
        f"{marks[c['ok']]} {c['name']}: {c['found']}" + (f"\n      {c['remedy']}" if not c["ok"] else "")
        for c in checks
    ]
    out.result({"checks": checks}, "\n".join(lines))
    return 0 if all(c["ok"] for c in checks) else CheckFailed.exit_code


def look() -> list[dict[str, Any]]:
    """Make every check: [{"name", "ok", "found", "remedy"}]."""
    m = hardware.machine()
    where = (
        f"{m.gpu}, {m.vram_gb} GiB"
        if m.gpu
        else {"mps": "Apple GPU (MPS)"}.get(m.device, "no GPU: training on the CPU")
    )
    return [
        _check("python", sys.version_info >= (3, 11), sys.version.split()[0], "Install Python 3.11 or newer."),
        _check("torch", bool(m.torch), f"{m.torch or m.problem}; {where}", "Run: ./run"),
        _check(
            "4-bit training",
            m.four_bit or m.device == "mps",
            "works" if m.four_bit else f"not here ({m.problem or m.device}): 16-bit training works",
            "Train with --set quantize_base=none, or mend bitsandbytes: pip install --force-reinstall bitsandbytes",
        ),
        _check("memory", m.ram_gb >= 4, f"{m.ram_gb} GiB", "Close other programs; 4 GiB are needed at least."),
        _check("disk", m.disk_free_gb >= 2, f"{m.disk_free_gb} GiB free at {paths.home()}", "Free some disk."),
        _methods(),
        _decode(m),
    ]


def _check(name: str, ok: bool, found: str, remedy: str) -> dict[str, Any]:
    return {"name": name, "ok": bool(ok), "found": found, "remedy": "" if ok else remedy}


def _methods() -> dict[str, Any]:
    """Name the methods that are there, and the packages whose method could not be read."""
    broken = "; ".join(f"{name} could not be read ({reason})" for name, reason in BROKEN.items())
    found = ", ".join(METHODS) + (f"; {broken}" if broken else "")
    return _check("methods", not broken, found, "Mend or remove the package that brings it.")


def _decode(m: hardware.Machine) -> dict[str, Any]:
    """Let llama.cpp decode a few tokens of the starter in a child: some builds crash on some CPUs at the first one."""
    remedy = "Build it for this machine: ./run install"
    if not m.llama:
        return _check("llama.cpp", False, m.problem or "not installed", remedy)
    from studio.export import chatfiles
    from studio.models import hub

    try:
        session = Session([Pane("starter", str(chatfiles.of_base(hub.resolve("starter"))), raw=True)], n_ctx=128)
        try:
            said = session.answer(0, [{"role": "user", "content": "The capital of France is"}], max_tokens=8)
        finally:
            session.close()
    except StudioError as error:
        return _check("llama.cpp", False, f"{m.llama}: {error.message}", remedy)
    found = f"llama-cpp-python {m.llama}: decoded {said['tokens']} tokens at {said['tokens_per_s']} tokens/s"
    return _check("llama.cpp", said["tokens"] > 0, found, remedy)
