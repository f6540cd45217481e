"""Families of models: the chat template a base model gets, the token that ends a turn, the tokens that stop.

A model's own template always wins; a family's fills the gap for a base model that has none. One function decides the
stop tokens from template and vocabulary; training, chat, GGUF and Modelfile all use it. The templates are written from
each family's documented format.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection


@dataclasses.dataclass(frozen=True)
class Family:
    """A way to write conversations: its Jinja template, and the tokens it needs."""

    name: str
    title: str
    template: str
    end_of_turn: str
    control_tokens: tuple[str, ...]


_CHATML = """\
{%- for message in messages %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""

_LLAMA3 = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

_MISTRAL = """\
{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{%- set ns.system = message['content'] + '\\n\\n' %}
{%- elif message['role'] == 'user' %}
{{- '[INST] ' + ns.system + message['content'] + ' [/INST]' }}
{%- set ns.system = '' %}
{%- else %}
{{- ' ' + message['content'] | trim + eos_token }}
{%- endif %}
{%- endfor %}
"""

_GEMMA = """\
{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{%- set ns.system = message['content'] | trim + '\\n\\n' %}
{%- else %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + ns.system + message['content'] | trim + '<end_of_turn>\\n' }}
{%- set ns.system = '' %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<start_of_turn>model\\n' }}
{%- endif %}
"""

_PHI3 = """\
{%- for message in messages %}
{{- '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|assistant|>\\n' }}
{%- endif %}
"""

_PLAIN = """\
{%- if bos_token %}{{ bos_token }}{% endif %}
{%- for message in messages %}
{%- if message['role'] == 'system' %}
{{- message['content'] + '\\n\\n' }}
{%- elif message['role'] == 'user' %}
{{- 'Question: ' + message['content'] + '\\n' }}
{%- else %}
{{- 'Answer: ' + message['content'] + eos_token + '\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- 'Answer:' }}
{%- endif %}
"""

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("chatml", "ChatML", _CHATML, "<|im_end|>", ("<|im_start|>", "<|im_end|>")),
        Family("llama3", "Llama 3", _LLAMA3, "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
        Family("mistral", "Mistral", _MISTRAL, "", ("[INST]", "[/INST]")),
        Family("gemma", "Gemma", _GEMMA, "<end_of_turn>", ("<start_of_turn>", "<end_of_turn>")),
        Family("phi3", "Phi-3", _PHI3, "<|end|>", ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>")),
        Family("qwen", "Qwen", _CHATML, "<|im_end|>", ("<|im_start|>", "<|im_end|>")),
        Family("plain", "plain text", _PLAIN, "", ()),
    )
}

_BY_ARCHITECTURE = {
    "Qwen2ForCausalLM": "qwen",
    "Qwen3ForCausalLM": "qwen",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma",
    "Gemma3ForCausalLM": "gemma",
    "Phi3ForCausalLM": "phi3",
    "MistralForCausalLM": "mistral",
}

#: Tokens that end a turn or a document wherever they are in a vocabulary.
_ENDINGS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<eos>",
)


def choose(architecture: str, vocabulary: Collection[str], wanted: str = "") -> Family:
    """Choose the family for a base model without a template.

    The wanted one, else the one whose tokens it knows, else ChatML.
    """
    if wanted:
        return FAMILIES[wanted]
    for name in ("llama3", "gemma", "chatml", "phi3"):
        if all(token in vocabulary for token in FAMILIES[name].control_tokens):
            return FAMILIES[name]
    return FAMILIES[_BY_ARCHITECTURE.get(architecture, "chatml")]


def identify(template: str) -> str:
    """Name the family that a template belongs to, by the markers it writes; "" when none is recognised."""
    for name in ("llama3", "gemma", "chatml", "phi3", "mistral"):
        if all(token in template for token in FAMILIES[name].control_tokens[:1]) or (
            name == "phi3" and "<|end|>" in template and "<|assistant|>" in template
        ):
            return name
    return ""


def stop_tokens(template: str, vocabulary: Collection[str], eos: str | None) -> list[str]:
    """List the tokens at which an answer ends: the one that ends a turn in this template first, then end of document.

    `template` is the Jinja text in use, `vocabulary` the model's tokens, `eos` its end-of-sequence token. Only tokens
    that exist are listed; a token of another family that merely exists in the vocabulary counts only when the template
    writes it or when it is the end of a document.
    """
    found = [token for token in _ENDINGS if token in vocabulary and token in template]
    if eos and eos in vocabulary and eos not in found:
        found.append(eos)
    found += [
        token
        for token in ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>")
        if token in vocabulary and token not in found
    ]
    return found
