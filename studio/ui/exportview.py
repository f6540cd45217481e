"""Drawing of the export page: files with sizes and hashes, certificate lines, Modelfile, Ollama."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.export import ollama as into
from studio.paths import slug
from studio.ui import choosing, kit, parts, qualityview, rail, terminal
from studio.ui.live import Scene, View
from studio.ui.parts import esc

_MAKES = (
    '<ul class="st-plain-list"><li>One GGUF file for each type, with the tuning inside.</li>'
    "<li>A certificate for each file: token ids, prompt, beginning, ending, numbers and adapter, found by opening the "
    "file itself.</li><li>A Modelfile, and the two lines that bring it into Ollama.</li>"
    "<li>The base as a file of its own, for the chat side by side.</li></ul>"
)
_SIGNS = {True: ("✓", "good", "holds"), False: ("✕", "bad", "does not hold"), None: ("–", "plain", "does not apply")}


def _result(scene: Scene) -> tuple[View | None, Mapping[str, Any]]:
    view = scene.line.get("export")
    return view, view.result() if view is not None and view.status == "finished" else {}


def going(scene: Scene) -> str:
    """Draw the export while it goes, how it ended if it failed, or what is missing before one can start."""
    view = scene.line.get("export")
    if view is None:
        ready = any((v := scene.line.get(s)) is not None and v.status == "finished" for s in ("train", "align"))
        if ready:
            return ""
        button = parts.link("train", "Go to Train") if scene.model else parts.link("model", "Pick a model")
        why = "A file is made from a trained run, or from an adapter that was made elsewhere"
        why += ": name it under Settings." if scene.model else "."
        return parts.card("", parts.empty("Nothing to export yet", why, button))
    if view.running:
        said = " · ".join(rail.now(view.newest()))
        return parts.card("Exporting", f'<div class="st-waiting">{parts.note(said)}</div>', esc(view.config.title))
    return kit.ended(view)


def files(scene: Scene) -> str:
    """Draw the table of files."""
    _, result = _result(scene)
    rows = [
        (
            f"<b>{esc(file.get('type', ''))}</b>{qualityview.fell(file)}",
            esc(parts.size(float(file.get("bytes") or 0))),
            f'<code title="{esc(file.get("sha256", ""))}">{esc(str(file.get("sha256") or "")[:12])}</code>',
            _verdict(_lines_of(result, file)),
        )
        for file in result.get("files") or []
    ]
    table = parts.table(("Type", "Size", "sha256", "Certificate"), rows, (1,))
    return parts.card("Files", table, esc(source(scene), 120)) if rows else ""


def source(scene: Scene) -> str:
    """Name the run that the shown files were made of."""
    view, _ = _result(scene)
    parent = next((v for v in scene.views if view is not None and str(v.run.dir) == view.config.parent), None)
    return choosing.named(scene, parent) if parent is not None else ""


def newest(scene: Scene) -> bool:
    """Tell whether nothing was trained since that could be exported, too."""
    view, _ = _result(scene)
    trained = [v for step in ("align", "train") for v in scene.of_step(step) if v.status == "finished"]
    return view is None or not trained or str(trained[0].run.dir) == view.config.parent or not view.config.parent


def quality(scene: Scene) -> str:
    """Draw quality against size, where it was measured."""
    return qualityview.table(_result(scene)[1])


def _lines_of(result: Mapping[str, Any], file: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Give the certificate's lines of one file (lines that name no file belong to all)."""
    name = Path(str(file.get("path"))).name
    return [line for line in (result.get("certificate") or {}).get("lines") or [] if line.get("file", name) == name]


def _verdict(lines: list[Mapping[str, Any]]) -> str:
    if not lines:
        return ""
    bad = sum(line.get("ok") is False for line in lines)
    if bad:
        return parts.pill(f"{bad} of {len(lines)} {'does' if bad == 1 else 'do'} not hold", "bad")
    return parts.pill(f"all {_applied(lines)} hold", "good")


def _applied(lines: list[Mapping[str, Any]]) -> int:
    return sum(line.get("ok") is True for line in lines)


def certificate(scene: Scene) -> str:
    """Draw what was checked on each file itself; what does not hold stands first, with its remedy."""
    _, result = _result(scene)
    out = ""
    files = result.get("files") or []
    for file in files:
        lines = sorted(_lines_of(result, file), key=lambda line: line.get("ok") is not False)
        if lines:
            name = f"Certificate of {file.get('type')}" if len(files) > 1 else "Certificate"
            out += parts.card(name, "<ul class='st-checks'>" + "".join(map(_line, lines)) + "</ul>", _verdict(lines))
    return out


def _line(line: Mapping[str, Any]) -> str:
    sign, tone, word = _SIGNS[line.get("ok") if isinstance(line.get("ok"), bool) else None]
    value = line.get("value")
    said = parts.number(value, 3) if isinstance(value, float) else esc("" if value is None else value, 300)
    limit = f", limit {esc(line['limit'], 80)}" if line.get("limit") not in (None, "") else ""
    remedy = f"<small>{esc(line['remedy'], 400)}</small>" if line.get("ok") is False and line.get("remedy") else ""
    name = str(line.get("name") or "")
    return (
        f'<li><i class="st-sign st-{tone}" role="img" aria-label="{word}">{sign}</i>'
        f"<span><b>{esc(name[:1].upper() + name[1:])}</b> {said}{limit}{remedy}</span></li>"
    )


def ollama(scene: Scene) -> str:
    """Draw the lines that bring the file into Ollama, and the Modelfile; before an export, what one makes."""
    view, result = _result(scene)
    place = str(result.get("modelfile") or "")
    if view is None or not place:
        return parts.card("What it makes", _MAKES)
    name = model_name(view)
    create, run = into.commands(name, place)
    shown_create = f"ollama create {name} -f …/{Path(place).name}"
    text = _modelfile(place)
    shown = f"<details><summary>Show the Modelfile</summary><pre>{esc(text, 4000)}</pre></details>" if text else ""
    lines = "".join(
        f'<div class="st-command"><code title="{esc(whole)}">{esc(short)}</code>{parts.copy_button(whole)}</div>'
        for short, whole in ((shown_create, create), (run, run))
    )
    hint = "" if into.binary() else parts.note("Ollama is not on this machine. Where it is, copy these two lines.")
    return parts.card("Ollama", hint + lines + shown)


def model_name(view: View) -> str:
    """Name the model in Ollama."""
    return slug(view.config.title, "assistant")


def modelfile(scene: Scene) -> tuple[View, Path] | None:
    """Give the export that is shown and its Modelfile, once there is one whose certificate holds."""
    view, result = _result(scene)
    place = str(result.get("modelfile") or "")
    holds = (result.get("certificate") or {}).get("ok") is not False
    return (view, Path(place)) if view is not None and place and holds else None


def creating(name: str, said: Sequence[str], done: bool = False) -> str:
    """Draw what Ollama says while it makes the model: its last lines, and how to go on."""
    lines = f"<pre>{esc(chr(10).join(said[-12:]))}</pre>"
    end = parts.note(f"{name} is in Ollama. Talk to it there with: ollama run {name}") if done else ""
    return parts.card("Ollama" if done else f"Ollama makes {name}", lines + end)


def _modelfile(place: str) -> str:
    try:
        return Path(place).read_text("utf-8")[:8000]
    except (OSError, UnicodeDecodeError):
        return ""


def paths_card(scene: Scene) -> str:
    """Draw where the files are."""
    _, result = _result(scene)
    found = result.get("files") or []
    lines = "".join(_place(str(file["path"])) for file in found)
    return parts.card("Where they are", lines) if found else ""


def _place(path: str) -> str:
    button = parts.copy_button(path, "Copy path")
    return f'<div class="st-command"><code title="{esc(path)}">{esc(Path(path).name)}</code>{button}</div>'


def onward(scene: Scene) -> str:
    """Draw the way on, once there is a file."""
    _, result = _result(scene)
    return parts.link("chat", "Talk to it", filled=newest(scene)) if result.get("files") else ""


def command(scene: Scene) -> str:
    """Draw the command line that makes the same export."""
    view = scene.line.get("export")
    if view is None:
        return ""
    adapter = str(view.config.options.get("adapter") or "")
    words = ["export", adapter or Path(view.config.parent).name or view.config.model]
    words += ["--model", view.config.model] if adapter else []
    for name in view.config.options.get("quants") or []:
        words += ["--quant", str(name)]
    if view.config.options.get("imatrix"):
        words += ["--imatrix", str(view.config.options["imatrix"])]
    words += ["--quality"] if view.config.options.get("quality") else []
    if view.config.options.get("out"):
        words += ["--out", str(view.config.options["out"])]
    return parts.terminal(terminal.line(words))
