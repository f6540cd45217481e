"""`studio doctor`: what this machine can do, what is missing, and the one command that mends it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from studio import backends, errors, hardware, paths
from studio.chat.session import Pane, Session
from studio.cli.output import Out
from studio.errors import CheckFailed, StudioError
from studio.methods import BROKEN, METHODS
from studio.models import ask, check, hub
from studio.render import vet


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("doctor", parents=[common], help="check this machine, and whether a model can be used")
    verb.add_argument("--model", default="", help="also whether this model can be trained and exported")
    verb.set_defaults(do=_doctor)


def _doctor(args: argparse.Namespace, out: Out) -> int:
    checks = look(args.model)
    marks = {True: "ok   ", False: "FAILS"}
    lines = [
        f"{marks[c['ok']]} {c['name']}: {c['found']}" + (f"\n      {c['remedy']}" if c["remedy"] else "")
        for c in checks
    ]
    out.result({"checks": checks}, "\n".join(lines))
    return 0 if all(c["ok"] for c in checks) else CheckFailed.exit_code


def look(model: str = "") -> list[dict[str, Any]]:
    """Make every check: [{"name", "ok", "found", "remedy"}]; a remedy of what is well says how it would be better."""
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
        _build(m),
        *([_model(model)] if model else []),
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


def _build(m: hardware.Machine) -> dict[str, Any]:
    """Name the installed build of llama.cpp, and the one command that changes it where it leaves a GPU unused."""
    if not m.llama:
        return _check("llama.cpp build", False, "none", "Build it for this machine: ./run install")
    cards = backends.cards()
    names = ", ".join(dict.fromkeys(card.name for card in cards))
    there = f"; here: {names}" if names else "; no GPU here"
    made = _check("llama.cpp build", True, f"{backends.title(m.backends)}{there}", "")
    return {**made, "remedy": backends.advice(m.backends, cards, m.llama)}


def _model(model: str) -> dict[str, Any]:
    """Say whether a model can be trained and exported; one that is not here is looked at on the hub, not fetched."""
    try:
        if hub.here(model) is None:
            offer = ask.offer(model)
            if offer.refusal:
                raise errors.from_dict(offer.refusal)
            found: ask.Offer | check.ModelInfo = offer
        else:
            found = vet.inspect(check.inspect(model))
    except StudioError as error:
        return _check("model", False, f"{model}: {error.message}", error.remedy)
    architecture = found.architecture
    good, why = (found.exportable, found.use) if found.use else check.support(architecture)
    said = f"{model}: {why if architecture in why else f'{architecture} {why}'}"
    if good and isinstance(found, check.ModelInfo) and found.template_problem:
        remedy = "Train it with a template of Studio's: --set template=chatml"
        return _check("model", False, f"{said}, but not with its own template. {found.template_problem}", remedy)
    return _check(
        "model",
        good,
        said,
        "`studio models` lists bases that can be exported.",
    )
