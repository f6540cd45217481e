"""The model card of a push: what it is made of, with which settings and rows, what was measured, and what was not.

Everything is read from the runs and the certificate; no path of this machine and no row of the data goes into it.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio import config, disk, paths
from studio.errors import ConfigError
from studio.methods import METHODS
from studio.runs import Run

#: How the hub's model tree names what was made of a base.
RELATIONS = {"adapter": "adapter", "merged": "finetune", "gguf": "finetune"}
_LIBRARY = {"adapter": "peft", "merged": "transformers"}
_SHOWN = ("learning_rate", "epochs", "batch_size", "max_length", "lora_r", "lora_alpha", "quantize_base", "seed")
_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]{0,40}")


@dataclasses.dataclass(frozen=True)
class Card:
    """What a card tells: `base` is a hub id or "", `licence` the base's, `files` (name, bytes, sha256 or "")."""

    title: str
    what: str
    line: Sequence[Run]
    base: str = ""
    base_name: str = ""
    revision: str = ""
    licence: str = ""
    lost: str = ""
    scores: bool = False
    files: Sequence[tuple[str, int, str]] = ()
    certificate: Sequence[Mapping[str, Any]] = ()
    repo: str = ""


def write(card: Card) -> str:
    """Write the README.md of a repository: YAML front matter, then Markdown."""
    parts = [
        _front(card),
        f"# {_plain(card.title)}",
        _sentence(card),
        _made(card),
        _changed(card),
        _files(card),
        _certificate(card),
        _use(card),
        _limits(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _front(card: Card) -> str:
    """Write the front matter; JSON's strings are YAML's too."""
    known = _LICENCE.fullmatch(card.licence) and not card.licence.startswith("other")
    licence = card.licence if known else "other" if card.licence else ""
    methods = [run.config.method for run in card.line if run.config.method]
    tags = dict.fromkeys([*methods, *(["gguf"] if card.what == "gguf" else []), "studio"])
    values: dict[str, Any] = {
        "base_model": card.base,
        "base_model_relation": RELATIONS[card.what] if card.base else "",
        "license": licence,
        "license_name": card.licence if licence == "other" else "",
        "library_name": _LIBRARY.get(card.what, ""),
        "pipeline_tag": "" if card.scores else "text-generation",
        "tags": list(tags),
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in values.items() if value]
    return "\n".join(["---", *lines, "---"])


def _sentence(card: Card) -> str:
    linked = _cell(card.base)
    base = f"[{linked}](https://huggingface.co/{linked})" if card.base else _plain(card.base_name or "its base")
    at = f" at revision `{card.revision[:12]}`" if card.revision else ""
    steps = ", then ".join(run.config.method.upper() for run in card.line if run.config.method)
    what = {
        "adapter": "A LoRA adapter (PEFT) for",
        "merged": "16-bit weights, with the tuning merged in, made from",
        "gguf": "GGUF files for llama.cpp and Ollama, with the tuning merged in, made from",
    }[card.what]
    return f"{what} {base}{at}{f', trained with {steps}' if steps else ''}. Made with Studio, which wrote this card."


def _made(card: Card) -> str:
    """Write the line from the base to this model, a row for each run."""
    if not card.line:
        return ""
    rows = [f"| base | {_cell(card.base or card.base_name)} | | | |"]
    if card.lost:
        rows.append("| | an earlier run that was deleted: its settings and data are not known | | | |")
    for number, run in enumerate(card.line, 1):
        rows.append(f"| {number} | {_method(run)} | {_settings(run)} | {_data(run)} | {_held(run)} |")
    head = "| step | method | settings | data | held-out figure, before → after |\n|---|---|---|---|---|"
    return "\n".join(["## How it was made\n", head, *rows])


def _method(run: Run) -> str:
    method = METHODS.get(run.config.method)
    return _cell(method.title if method is not None else run.config.method)


def _settings(run: Run) -> str:
    """Name the settings that matter for every method, and those that were chosen for this run."""
    values: dict[str, Any] = dict(run.config.settings)
    method = METHODS.get(run.config.method)
    if method is not None:
        try:
            made = config.to_dict(config.build(method.Config, run.config.settings))
            values = {name: made[name] for name in (*_SHOWN, *run.config.settings) if made.get(name) is not None}
        except ConfigError:  # of another version
            pass
    return ", ".join(f"{_cell(name)} {_cell(_short(value))}" for name, value in values.items())


def _short(value: Any) -> str:
    """Write a value; of a path only its name."""
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return Path(text).name if "/" in text or "\\" in text else text


def _data(run: Run) -> str:
    """Name the data file, its rows and its sha256, where the file is still what was read."""
    name = Path(run.config.data).name
    if not name:
        return ""
    rows = (run.result() or {}).get("rows")
    rows = rows if isinstance(rows, dict) else {}
    trained, held = rows.get("trained"), rows.get("held_out")
    said = [_cell(name)]
    if isinstance(trained, int):
        said.append(f"{trained:,} rows trained" + (f", {held:,} held out" if isinstance(held, int) and held else ""))
    return ", ".join([*said, data_hash(run)])


def data_hash(run: Run) -> str:
    """Give "sha256 ..." of a run's data, or why it is not known: the file is gone, or was changed since."""
    file = Path(run.config.data)
    try:
        if not file.is_file():
            return "its file is gone"
        if file.stat().st_mtime > (run.dir / "config.json").stat().st_mtime:
            return "its file was changed since"
        return f"sha256 `{paths.sha256(file)}`"
    except OSError:
        return "its file cannot be read"


def _held(run: Run) -> str:
    held = (run.result() or {}).get("heldout")
    if not isinstance(held, dict) or not held.get("n"):
        return "not measured"
    before, after = held.get("before"), held.get("after")
    if not isinstance(before, int | float) or not isinstance(after, int | float):
        return "not measured"
    better = held.get("better", "lower")
    return (
        f"{_cell(held.get('name', 'loss'))} {before:.3f} → {after:.3f} ({held['n']:,} rows, {_cell(better)} is better)"
    )


def _changed(card: Card) -> str:
    """Write what the last run changed in answers."""
    if not card.line:
        return ""
    found = (card.line[-1].result() or {}).get("behaviour")
    if not isinstance(found, dict) or not found.get("n"):
        return ""
    whose = "held-out prompts" if found.get("held_out") else "prompts, some of which were trained on"
    try:
        lines = [
            f"- {100 * found['changed']:.0f} % of {found['n']} answers to {whose} changed in the last step.",
            f"- Stops by itself: {100 * found['stops_before']:.0f} % → {100 * found['stops_after']:.0f} %.",
            f"- Mean length: {found['length_before']:.0f} → {found['length_after']:.0f} tokens.",
        ]
        if isinstance(style := found.get("style"), dict):
            shares = f"{100 * style['before']:.0f} % → {100 * style['after']:.0f} %"
            lines.append(f"- Answers in the style that its pairs prefer ({_cell(style['name'])}): {shares}.")
    except (KeyError, TypeError):
        return ""
    return "\n".join(["## What changed\n", *lines])


def _files(card: Card) -> str:
    rows = [f"| {_cell(n)} | {disk.size(count)} | {f'`{sha}`' if sha else ''} |" for n, count, sha in card.files]
    return "\n".join(["## Files\n", "| file | size | sha256 |\n|---|---|---|", *rows]) if rows else ""


def _certificate(card: Card) -> str:
    """Write what was checked on the files themselves."""
    if not card.certificate:
        return ""
    words = {True: "holds", False: "**does not hold**", None: "does not apply"}
    rows = [
        f"| {_cell(line.get('file', ''))} | {_cell(line.get('name', ''))} | {words.get(line.get('ok'), '')} | "
        f"{_cell(line.get('value', ''))} | {_cell(line.get('limit') or '')} |"
        for line in card.certificate
    ]
    head = "| file | check | | found | limit |\n|---|---|---|---|---|"
    return "\n".join(["## Certificate\n", "Found by opening the files after they were written.\n", head, *rows])


def _use(card: Card) -> str:
    """Write how to load it."""
    repo = card.repo or "THIS_REPOSITORY"
    if card.what == "gguf":
        first = next((name for name, _, _ in card.files if name.endswith(".gguf")), "FILE.gguf")
        lines = f"hf download {repo} --local-dir model && cd model\nollama create my-model -f Modelfile"
        return f"## How to use it\n\n```sh\n{lines}\n# or: llama-cli -m {first} --jinja\n```"
    if card.what == "merged":
        load = f'model = AutoModelForCausalLM.from_pretrained("{repo}")\n'
        return _python("from transformers import AutoModelForCausalLM, AutoTokenizer\n\n" + load, repo)
    if card.scores:
        return ""
    base = card.base or "FOLDER_OF_THE_BASE"
    text = (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'model = AutoModelForCausalLM.from_pretrained("{base}")\n'
        f'model = PeftModel.from_pretrained(model, "{repo}")\n'
    )
    return _python(text, repo)


def _python(text: str, repo: str) -> str:
    return f'## How to use it\n\n```python\n{text}tokenizer = AutoTokenizer.from_pretrained("{repo}")\n```'


def _limits(card: Card) -> str:
    """Say what the figures do not show."""
    lines = [
        "- The figures above are of rows held out from its own training data. They are no benchmark, and say nothing "
        "about other subjects or languages.",
        "- It was not tested for safety or for being right; what the base gets wrong, it gets wrong too.",
    ]
    if card.base or card.base_name:
        lines.append("- The licence and the terms of use of its base hold for it as well.")
    if any(line.get("ok") is False for line in card.certificate):
        lines.append("- A check of its certificate does not hold: see there before you use the file.")
    if card.what == "gguf" and not card.certificate:
        lines.append("- Its files have no certificate.")
    if card.what == "adapter" and not card.base:
        lines.append("- Its base is not on the hub: the adapter is of use to those who have that base.")
    return "\n".join(["## Limits\n", *lines])


def _cell(value: object) -> str:
    """Make a text safe inside a line of a table: no bars, no line breaks, no tags."""
    text = " ".join(str(value).split())[:300]
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _plain(text: str) -> str:
    return _cell(text).replace("[", "\\[").replace("]", "\\]")
