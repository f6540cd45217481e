"""Write the Modelfile beside an exported file, read one by Ollama's rules, and hand it to Ollama.

TEMPLATE is a second copy of the truth, in Go's template language, and Ollama may prefer it to the file's own. So it is
written only where it was proven, with Go's own text/template, to write what the Jinja template writes: `proven.json`
in `gotemplates/` says of which Jinja text that holds, by its hash. The tests prove the entries again; nothing here runs
Go. BOS is left out: it is added by the file's own flag.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import shlex
import shutil
import subprocess
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.errors import ConfigError, ExportError, ToolMissing

FOLDER = Path(__file__).parent / "gotemplates"

#: Why there is no TEMPLATE, as a comment in the Modelfile.
_OWN = (
    "No TEMPLATE: none is proven to write what this file's own chat template writes.",
    "Ollama 0.33 and later runs the template in the file. Older versions cannot: they take one of theirs that looks",
    "like it, or send the bare question, and the answers suffer.",
)
_NONE = ("No TEMPLATE: the file has no chat template either. It continues the text that it is given.",)

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(:[a-z0-9._-]{1,63})?")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")
_COMMANDS = (
    "from", "license", "template", "system", "adapter", "renderer", "parser", "parameter", "message", "requires",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Proof:
    """A Go template that writes what a Jinja template writes.

    `name` is its file, `words` what is put into it; it was compared on `compared` of the 12 conversations, which are
    all that the Jinja template does not refuse, and with several texts for the tokens.
    """

    name: str
    words: Mapping[str, str]
    compared: int

    def template(self, tokens: Mapping[str, str]) -> str:
        """Give the Go template for a model's special tokens (`eos_token` and `bos_token`, as Jinja is given them)."""
        text = _read(self.name).replace("{{- TRIM -}}\n", _read("trim"))
        values = {"EOS": tokens.get("eos_token", ""), "BOS": tokens.get("bos_token", ""), **self.words}
        for word, value in values.items():
            text = text.replace(f"{{{{- {word} -}}}}", f"{{{{- {_literal(value)} -}}}}")
        return text


def digest(jinja: str) -> str:
    """Hash a Jinja template; one newline at its end, which Jinja never writes, makes no difference."""
    return hashlib.sha256(jinja.removesuffix("\n").encode()).hexdigest()


def proven(jinja: str) -> Proof | None:
    """Find the Go template that was proven to write what this Jinja template writes."""
    found = _table().get(digest(jinja))
    return Proof(found["file"], found["words"], found["compared"]) if found else None


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    """Read the table: for the hash of a Jinja template, whose it is, the Go file with its words, and its own hash."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / "proven.json").read_text("utf-8"))
    return found


@functools.cache
def _read(name: str) -> str:
    return (FOLDER / f"{name}.gotmpl").read_text("utf-8")


def _literal(text: str) -> str:
    """Write a text as a Go string. What JSON escapes Go reads alike, as long as nothing beyond ASCII is escaped."""
    return json.dumps(text, ensure_ascii=False)


def modelfile(
    gguf: str,
    stops: Sequence[str],
    *,
    template: str = "",
    tokens: Mapping[str, str] | None = None,
    system: str = "",
    temperature: float | None = None,
    num_ctx: int | None = None,
    license: str = "",
    adapter: str = "",
) -> str:
    """Write a Modelfile for the file `gguf` beside it; with `adapter`, for that one on top of the base `gguf`.

    `template` is the Jinja text in the file ("" when it has none), `tokens` what it is given for `eos_token` and
    `bos_token`, `stops` the texts that end an answer. Raises ExportError for what Ollama's format cannot hold: a system
    text or licence with three quotes, a system text with control characters, a name that is not that of a file beside.
    """
    wanted = [("from", f"./{_beside(gguf)}")]
    if adapter:
        wanted.append(("adapter", f"./{_beside(adapter)}"))
    proof = proven(template) if template else None
    text = proof.template(tokens or {}) if proof else ""
    comment: tuple[str, ...] = ()
    if text and '"""' not in text and all(map(_kept, text)):
        wanted.append(("template", text))
    else:
        comment = _OWN if template else _NONE
    wanted += [("parameter stop", _held(stop, "A stop token")) for stop in stops]
    if temperature is not None:
        if not (math.isfinite(temperature) and temperature >= 0):
            raise ConfigError(f"A temperature of {temperature} does not exist.", "Give 0 or more.", field="temperature")
        wanted.append(("parameter temperature", f"{temperature:g}"))
    if num_ctx is not None:
        if num_ctx < 1:
            raise ConfigError(f"A context of {num_ctx} tokens holds nothing.", "Give 1 or more.", field="num_ctx")
        wanted.append(("parameter num_ctx", str(num_ctx)))
    if system.strip():
        wanted.append(("system", _held(system, "The system text")))
    if license.strip():
        printed = "".join(char for char in license if _kept(char))  # old licences have form feeds between their pages
        wanted.append(("license", _held(printed, "The licence")))
    lost = sorted({f"U+{ord(char):04X}" for _, value in wanted for char in value if not _kept(char)})
    if lost:
        comment += (f"Ollama reads a Modelfile without some invisible characters: {', '.join(lost)} are in it.",)
    made = _written(wanted, comment)
    if parse(made) != [(name, "".join(filter(_kept, value))) for name, value in wanted]:
        raise ExportError("Ollama would not read the Modelfile as it is meant.", "Use a plainer system text.")
    return made


def _written(commands: Iterable[tuple[str, str]], comment: Sequence[str]) -> str:
    lines = []
    for name, value in commands:
        command, _, of = name.partition(" ")
        bare = command in ("from", "adapter") or name in ("parameter temperature", "parameter num_ctx")
        lines.append(f"{' '.join(filter(None, (command.upper(), of)))} {value if bare else _quoted(value)}")
        if command == "from":
            lines += [f"# {line}" for line in comment]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Quote a text. Ollama knows no escapes: a value ends at the first line that ends with the quotes it began with."""
    return f'"{text}"' if '"' not in text and "\n" not in text and "\r" not in text else f'"""{text}"""'


def _held(text: str, what: str) -> str:
    """Give a text back when the format can hold it."""
    if '"""' in text:
        raise ExportError(f'{what} contains """, which a Modelfile cannot hold.', "Take the three quotes out.")
    bad = sorted({f"U+{ord(char):04X}" for char in text if not _kept(char) and unicodedata.category(char) in _BAD})
    if bad:
        remedy = "Take them out; line breaks and tabs may stay."
        raise ExportError(f"{what} contains control characters ({', '.join(bad)}), which Ollama drops.", remedy)
    return text


_BAD = ("Cc", "Cs")  # control characters, and halves of characters, which no file can hold


def _kept(char: str) -> bool:
    """Tell whether Ollama's reader keeps a character: what Go calls printable, spaces, tabs and line breaks."""
    return char.isprintable() or char in "\t\n\r"


def _beside(name: str) -> str:
    """Check that a name is that of a file beside the Modelfile, and nothing else."""
    if not name or name.startswith((".", " ")) or name.endswith(" ") or re.search(r'[/\\"\'\r\n\t]', name):
        raise ExportError(f"{name!r} is not the name of a file beside the Modelfile.", "Choose a plainer name.")
    if not name.isprintable():
        raise ExportError(f"{name!r} has characters that Ollama drops.", "Choose a plainer name.")
    return name


def license_of(folder: Path) -> str:
    """Read the licence that lies in a model's folder; "" when there is none that can be read."""
    for path in sorted(folder.glob("LICEN[CS]E*")) + sorted(folder.glob("licen[cs]e*")):
        try:
            if path.is_file() and path.stat().st_size <= 200_000:
                text = path.read_text("utf-8")
                return "" if '"""' in text else text
        except (OSError, UnicodeDecodeError):
            continue
    return ""


def parse(text: str) -> list[tuple[str, str]]:
    """Read a Modelfile as Ollama does: (command, value) in order, the command as `from`, `system`, `parameter stop`.

    A value runs to the end of its line, or to the first line that ends with the quotes (`"` or three of them) that it
    began with; nothing is escaped, and what cannot be printed is dropped. `#` begins a comment where a command could.
    Raises ExportError with the line for an unknown command, a role that does not exist, a value without an end, and a
    file without FROM.
    """
    found: list[tuple[str, str]] = []
    rest, at = text.removeprefix("\ufeff"), 1

    def broken(why: str) -> ExportError:
        return ExportError(why, "Write it as Ollama's Modelfile reference says.", file="Modelfile", line=at)

    while rest:
        head = re.match(r"[ \t\r\n]*(?:#[^\r\n]*)?", rest)
        assert head is not None
        at, rest = at + len(re.findall(r"[\r\n]", head[0])), rest[head.end() :]
        if not rest or rest[0] in "\r\n":
            continue
        word = re.match(r"([A-Za-z]+)[ \t]", rest)
        if word is None or word[1].lower() not in _COMMANDS:
            raise broken(f"There is no command {rest.split(None, 1)[0][:40]!r}.")
        name, rest = word[1].lower(), rest[word.end() :]
        if name in ("parameter", "message"):
            of = re.match(r"([A-Za-z0-9_]*)[ \t]" if name == "parameter" else r"(system|user|assistant)[ \t]", rest)
            if of is None:
                raise broken(f"{name.upper()} names no {'setting' if name == 'parameter' else 'role'}.")
            name, rest = f"{name} {of[1]}", rest[of.end() :]
        value, used = _value(rest)
        if value is None:
            raise broken(f"The value of {name.upper()} has no end.")
        found.append((name, value))
        at, rest = at + len(re.findall(r"[\r\n]", rest[:used])), rest[used:]
    if not any(name == "from" for name, _ in found):
        raise broken("There is no FROM.")
    return found


def _value(rest: str) -> tuple[str | None, int]:
    """Give the value that a text begins with (None when it has no end) and how much of the text it takes."""
    for end in re.finditer(r"[\r\n]|\Z", rest):
        value = "".join(filter(_kept, rest[: end.start()])).strip()
        marks = next((marks for marks in ('"""', '"') if value.startswith(marks)), "")
        if len(value) >= 2 * len(marks) and value.endswith(marks):
            return value[len(marks) : len(value) - len(marks)], end.end()
    return None, len(rest)


def binary() -> str | None:
    """Find the `ollama` program."""
    return shutil.which("ollama")


def check_name(name: str) -> str:
    """Give back a name for a model in Ollama. Raises ConfigError for one that it, or a command line, might not take."""
    if not _NAME.fullmatch(name):
        remedy = "Use small letters, digits, dots, dashes and underscores; a tag may follow a colon."
        raise ConfigError(f"{name[:80]!r} is no name for a model in Ollama.", remedy, field="ollama")
    return name


def commands(name: str, modelfile: str = "Modelfile") -> list[str]:
    """Give the two lines to type: one that makes the model in Ollama, one that talks to it."""
    return [f"ollama create {check_name(name)} -f {shlex.quote(modelfile)}", f"ollama run {name}"]


def create(name: str, folder: Path) -> Iterator[str]:
    """Make a model in Ollama of the Modelfile in a folder, and give Ollama's lines as they come.

    Raises ToolMissing when there is no `ollama`, and ExportError with its last lines when it fails.
    """
    check_name(name)
    program = binary()
    if program is None:
        raise ToolMissing("There is no ollama on this machine's PATH.", f"Where there is one: {commands(name)[0]}")
    last: list[str] = []
    process = subprocess.Popen(
        [program, "create", name, "-f", "Modelfile"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    try:
        for line in process.stdout or ():  # a progress bar's carriage returns end lines too
            said = _ESCAPES.sub("", line).strip()
            if said and said not in last[-1:]:
                last = [*last[-4:], said]
                yield said
        code = process.wait()
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
    if code:
        remedy = "Is Ollama running? `ollama serve` starts it; then try again."
        raise ExportError(f"ollama create ended with {code}: {' / '.join(last) or 'it said nothing'}", remedy)
