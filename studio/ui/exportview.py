"""Drawing of the export page: files with sizes and hashes, certificate lines, Modelfile, Ollama."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.paths import slug
from studio.ui import kit, parts, rail
from studio.ui.live import Scene, View
from studio.ui.parts import esc

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
        button = parts.link("train", "Go to Train")
        return parts.card("", parts.empty("Nothing to export yet", "A file is made from a trained run.", button))
    if view.running:
        said = " · ".join(rail.now(view))
        return parts.card("Exporting", f'<div class="st-waiting">{parts.note(said)}</div>', esc(view.config.title))
    return kit.ended(view)


def files(scene: Scene) -> str:
    """Draw the table of files."""
    _, result = _result(scene)
    rows = [
        (
            f"<b>{esc(file.get('type', ''))}</b>",
            esc(parts.size(float(file.get("bytes") or 0))),
            f'<code title="{esc(file.get("sha256", ""))}">{esc(str(file.get("sha256") or "")[:12])}</code>',
            _verdict(file.get("certificate") or result.get("certificate")),
        )
        for file in result.get("files") or []
    ]
    return parts.card("Files", parts.table(("Type", "Size", "sha256", "Certificate"), rows, (1,))) if rows else ""


def _verdict(found: object) -> str:
    if not isinstance(found, Mapping):
        return ""
    lines = found.get("lines") or []
    bad = sum(line.get("ok") is False for line in lines)
    if found.get("ok"):
        return parts.pill(f"all {sum(line.get('ok') is True for line in lines)} hold", "good")
    return parts.pill(f"{bad} of {len(lines)} do not hold" if bad else "does not hold", "bad")


def certificate(scene: Scene) -> str:
    """Draw what was checked on the file itself; what does not hold stands first, with its remedy."""
    _, result = _result(scene)
    found = result.get("certificate") or {}
    lines = sorted(found.get("lines") or [], key=lambda line: line.get("ok") is not False)
    if not lines:
        return ""
    body = "".join(_line(line) for line in lines)
    return parts.card("Certificate", f'<ul class="st-checks">{body}</ul>', _verdict(found))


def _line(line: Mapping[str, Any]) -> str:
    sign, tone, word = _SIGNS[line.get("ok") if isinstance(line.get("ok"), bool) else None]
    value = line.get("value")
    said = parts.number(value, 3) if isinstance(value, float) else esc("" if value is None else value, 300)
    limit = f' <small>limit {esc(line["limit"], 80)}</small>' if line.get("limit") not in (None, "") else ""
    remedy = f"<small>{esc(line['remedy'], 400)}</small>" if line.get("ok") is False and line.get("remedy") else ""
    name = str(line.get("name") or "")
    return (
        f'<li><i class="st-sign st-{tone}" role="img" aria-label="{word}">{sign}</i>'
        f"<span><b>{esc(name[:1].upper() + name[1:])}</b> {said}{limit}{remedy}</span></li>"
    )


def ollama(scene: Scene) -> str:
    """Draw the lines that bring the file into Ollama, and the Modelfile."""
    view, result = _result(scene)
    place = str(result.get("modelfile") or "")
    if view is None or not place:
        return ""
    name = slug(view.config.title, "assistant")
    create, run = f"ollama create {name} -f {shlex.quote(place)}", f"ollama run {name}"
    text = _modelfile(place)
    shown = f"<details><summary>Show the Modelfile</summary><pre>{esc(text, 4000)}</pre></details>" if text else ""
    lines = "".join(f'<div class="st-command">{parts.code(c)}{parts.copy_button(c)}</div>' for c in (create, run))
    return parts.card("Ollama", lines + shown)


def _modelfile(place: str) -> str:
    try:
        return Path(place).read_text("utf-8")[:8000]
    except (OSError, UnicodeDecodeError):
        return ""


def paths_card(scene: Scene) -> str:
    """Draw where the files are."""
    _, result = _result(scene)
    found = result.get("files") or []
    lines = "".join(
        f'<div class="st-command">{parts.code(Path(str(file["path"])).name)}{parts.copy_button(str(file["path"]), "Copy path")}</div>'
        for file in found
    )
    return parts.card("Where they are", lines + parts.actions(parts.link("chat", "Talk to it", filled=True))) if found else ""


def command(scene: Scene) -> str:
    """Draw the command line that makes the same export."""
    view = scene.line.get("export")
    if view is None:
        return ""
    words = ["studio", "export", Path(view.config.parent).name or view.config.model]
    for name in view.config.options.get("quants") or []:
        words += ["--quant", str(name)]
    if view.config.options.get("out"):
        words += ["--out", str(view.config.options["out"])]
    return parts.terminal(shlex.join(words))
