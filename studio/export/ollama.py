"""Write the Modelfile beside an exported file: FROM, TEMPLATE, PARAMETER stop, SYSTEM.

TEMPLATE is a second copy of the truth in Go's template language, so it is written only for families where it renders
what the model was trained on; for others the file's own Jinja template is used by Ollama versions that can. BOS is left
out: it is added by the file's own flag.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.errors import ExportError

_CHATML = """\
{{- range .Messages }}<|im_start|>{{ .Role }}
{{ .Content }}<|im_end|>
{{ end }}<|im_start|>assistant
"""

_LLAMA3 = """\
{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>

{{ .Content }}<|eot_id|>{{ end }}<|start_header_id|>assistant<|end_header_id|>

"""

_GEMMA = """\
{{- $system := "" }}
{{- range .Messages }}
{{- if eq .Role "system" }}{{ $system = .Content }}
{{- else if eq .Role "assistant" }}<start_of_turn>model
{{ .Content }}<end_of_turn>
{{ else }}<start_of_turn>user
{{ if $system }}{{ $system }}

{{ $system = "" }}{{ end }}{{ .Content }}<end_of_turn>
{{ end }}
{{- end }}<start_of_turn>model
"""

_PHI3 = """\
{{- range .Messages }}<|{{ .Role }}|>
{{ .Content }}<|end|>
{{ end }}<|assistant|>
"""

#: Go templates by family; a family that is not here gets no TEMPLATE line.
TEMPLATES = {
    "chatml": _CHATML,
    "qwen3-instruct": _CHATML,
    "llama3": _LLAMA3,
    "gemma": _GEMMA,
    "gemma3": _GEMMA,
    "phi3": _PHI3,
    "phi3.5": _PHI3,
}


def modelfile(gguf: str, family: str, stops: Sequence[str], *, system: str = "", added: bool = False) -> str:
    """Write a Modelfile for a GGUF file beside it.

    `family` names the template family; the TEMPLATE is written when the family's template was added by us (`added`), so
    that it is known to be the same, and left to the file's own template otherwise. Raises ExportError for a system text
    that contains three quotes, which Ollama's format cannot hold.
    """
    if '"""' in system:
        raise ExportError('The system text contains """, which a Modelfile cannot hold.', "Take the three quotes out.")
    lines = [f"FROM ./{gguf}"]
    if added and family in TEMPLATES:
        lines.append(f'TEMPLATE """{TEMPLATES[family]}"""')
    lines += [f"PARAMETER stop {_quote(stop)}" for stop in stops]
    if system.strip():
        lines.append(f'SYSTEM """{system}"""')
    return "\n".join(lines) + "\n"


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
