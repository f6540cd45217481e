"""`studio models [QUERY]`, `studio models get ID`, `studio models check MODEL [--nan]`: find, fetch, look at a base."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from studio import hardware
from studio.cli.export import BASE
from studio.cli.output import Out, table
from studio.cli.running import watching
from studio.errors import ConfigError
from studio.models import catalogue, check, elsewhere, hub
from studio.render import vet

_ABOUT = """\
studio models [QUERY]              list base models: what each needs beside what this machine has
studio models get ID               download one from the hub (org/name, org/name@revision, or its address)
studio models check MODEL [--nan]  look at a model: starter, a folder, or a hub id; --nan reads all weights
studio models check ADAPTER [--model BASE]  look at an adapter (a PEFT folder), against its base
"""


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb; `get` and `check` are told by the first word, so that any other words are a query."""
    verb = verbs.add_parser(
        "models",
        parents=[common],
        help="list base models; get one; check one",
        description=_ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("words", nargs="*", metavar="QUERY | get ID | check MODEL")
    verb.add_argument("--nan", action="store_true", help="check: read all weights and look for NaNs and infinities")
    verb.add_argument("--model", default="", metavar="BASE", help=f"check: {BASE}")
    verb.set_defaults(do=_do)


def _do(args: argparse.Namespace, out: Out) -> None:
    action, *rest = args.words or [""]
    if action not in ("get", "check"):
        _list(" ".join(args.words), out)
    elif len(rest) != 1:
        raise ConfigError(f"`studio models {action}` takes one model, not {len(rest)}.", "See: studio models --help")
    elif action == "get":
        _get(rest[0], out)
    else:
        _check(rest[0], args.nan, args.model, out)


def _list(query: str, out: Out) -> None:
    on = hardware.machine()
    found = []
    for entry in catalogue.search(query):
        need = hardware.estimate_here(entry, on)
        found.append(
            {
                **{key: value for key, value in dataclasses.asdict(entry).items() if key != "shape"},
                "exportable": check.support(entry.architecture)[0],
                "memory_gb": {name: round(value, 3) for name, value in need.parts().items()},
                "total_gb": round(need.total, 2),
                "verdict": hardware.verdict(need, on),
            }
        )
    rows = [
        (
            item["id"],
            catalogue.amount(item["parameters"]),
            item["kind"],
            f"{item['context']:,}",
            f"{item['total_gb']:.1f} GB",
            item["verdict"],
            item["licence"] + (", click first" if item["gated"] else ""),
            "refused: own code" if item["own_code"] else "trains" if item["exportable"] else "preview only",
        )
        for item in found
    ]
    have = f"{on.gpu}, {on.vram_gb} GB" if on.gpu else f"no GPU, {on.ram_gb} GB of memory"
    text = table(rows, ("MODEL", "SIZE", "KIND", "CONTEXT", "NEEDS", f"HERE ({have})", "LICENCE", "STUDIO"))
    none = f"No model of the catalogue fits {query!r}. Any hub id works too: studio models get org/name"
    out.result(found, text if found else none)


def _get(model: str, out: Out) -> None:
    with watching() as watch:
        folder = hub.resolve(model, **watch)
    document = {
        "model": model,
        "folder": str(folder),
        "revision": hub.revision(folder),
        "bytes": sum(file.stat().st_size for file in Path(folder).iterdir() if file.is_file()),
    }
    out.result(document, f"{model} is here: {folder}")


def _check(model: str, nan: bool, base: str, out: Out) -> None:
    folder = elsewhere.folder_of(model)
    if folder is not None:
        _check_adapter(folder, base, out)
        return
    elsewhere.refuse_base(model, base)
    with watching() as watch:
        info = vet.inspect(check.inspect(model, **watch))
        if nan:
            check.refuse_nan(Path(info.folder), **watch)
    facts = dataclasses.asdict(info)
    facts.pop("config")
    facts["nan"] = False if nan else None
    out.result(facts, "\n".join(f"{name}: {value}" for name, value in facts.items()))


def _check_adapter(folder: Path, base: str, out: Out) -> None:
    """Describe an adapter that fits its base, and say what its files will be like."""
    found, on = elsewhere.inspect(folder, base)
    own = elsewhere.speaker(Path(on.folder), folder) == folder
    text = elsewhere.template(Path(on.folder), folder)
    facts = {
        **dataclasses.asdict(found),
        "on": on.name,
        "base_folder": on.folder,
        "tokenizer": "its own" if own else "the base's",
        "template": "its own" if check.read_template(folder) else "the base's" if text else "none",
        "exportable": on.exportable,
    }
    out.result(facts, "\n".join(f"{name}: {value}" for name, value in facts.items()))
