"""Families of models: the chat template a base model gets, the token that ends a turn, the tokens that stop.

A model's own template always wins; a family's fills the gap for a base model that has none. One function decides the
stop tokens from template and vocabulary; training, chat, GGUF and Modelfile all use it. The templates are written from
each family's documented format and stand in `templates/`, one file a format.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from studio.errors import ConfigError

_FOLDER = Path(__file__).parent / "templates"
_GENERATION = re.compile(r"\{%-? (?:end)?generation -?%\}\n?")


@dataclasses.dataclass(frozen=True)
class Family:
    """A way to write conversations, and what is worth knowing about it.

    `marked` is the Jinja template with `{% generation %}` around what the assistant writes, `template` the same
    without: what a model folder and a GGUF file carry. `end_of_turn` is "" where the tokenizer's end-of-sequence token
    ends an answer; `stops` end one too. `control_tokens` are needed: a vocabulary that lacks them gets them. `system`
    says where a system text goes (`turn`: a turn of its own, `head`: before the first turn, `first`: into the first
    question, `last`: into the last question), `injects` what is written without being asked for, `bos` whether the text
    begins with the tokenizer's beginning-of-sequence token, `thinks` what happens to thoughts ("" : there is no place
    for them), `tools` whether tools and their calls are written, `rewrites` when an earlier turn is written
    differently once the conversation goes on ("" : never), `documented` where the format is described.
    """

    name: str
    title: str
    marked: str
    documented: str
    end_of_turn: str = ""
    stops: tuple[str, ...] = ()
    control_tokens: tuple[str, ...] = ()
    system: str = "turn"
    injects: str = ""
    bos: bool = False
    thinks: str = ""
    tools: bool = False
    rewrites: str = ""

    @property
    def template(self) -> str:
        """Give the template without its `{% generation %}` marks."""
        return _GENERATION.sub("", self.marked)


def _read(name: str, **words: str) -> str:
    """Read a template; `words` are put in the place of the names in it."""
    text = (_FOLDER / f"{name}.jinja").read_text("utf-8")
    for word, value in words.items():
        text = text.replace(word, value)
    return text


def _chatml(default: str = "") -> str:
    """Give the ChatML template, with a system text for conversations that bring none."""
    text = _read("chatml")
    if default:
        text = text.replace("{#- default #}", f"{{%- else %}}\n{{{{- '{default}\\n\\n' }}}}")
        turn = f"{{%- else %}}\n{{{{- '<|im_start|>system\\n{default}<|im_end|>\\n' }}}}"
        return text.replace("{#- default turn #}", turn)
    return text.replace("{#- default #}\n", "").replace("{#- default turn #}\n", "")


_IM: dict[str, Any] = {
    "end_of_turn": "<|im_end|>",
    "stops": ("<|endoftext|>",),
    "control_tokens": ("<|im_start|>", "<|im_end|>"),
}
_HEADERS: dict[str, Any] = {
    "end_of_turn": "<|eot_id|>",
    "control_tokens": ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "bos": True,
}
_TURNS: dict[str, Any] = {
    "end_of_turn": "<end_of_turn>",
    "stops": ("<eos>",),
    "control_tokens": ("<start_of_turn>", "<end_of_turn>"),
    "system": "first",
    "bos": True,
}
_PHI: dict[str, Any] = {
    "end_of_turn": "<|end|>",
    "stops": ("<|endoftext|>",),
    "control_tokens": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
}
_LAST = "with a system text, which moves to the last question"
_HELPFUL = "You are a helpful assistant."
_QWEN25 = "You are Qwen, created by Alibaba Cloud. " + _HELPFUL
_SMOL = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_DATED = "a head with the knowledge cutoff (December 2023) and {} as today's date"

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("chatml", "ChatML", _chatml(), "OpenAI's chat markup language", tools=True, **_IM),
        Family("qwen2", "Qwen 2", _chatml(_HELPFUL), "Qwen2 model card", injects=_HELPFUL, tools=True, **_IM),
        Family("qwen2.5", "Qwen 2.5", _chatml(_QWEN25), "Qwen2.5 model card", injects=_QWEN25, tools=True, **_IM),
        Family(
            "qwen3",
            "Qwen 3 (with thinking)",
            _read("qwen3"),
            "Qwen3 model card, enable_thinking",
            thinks="kept after the last question, left out before it; an answer without one gets an empty one",
            tools=True,
            rewrites="thoughts stand in the last answer only",
            **_IM,
        ),
        Family("qwen3-instruct", "Qwen 3 (without thinking)", _chatml(), "Qwen3-2507 model card", tools=True, **_IM),
        Family("llama2", "Llama 2", _read("llama2"), "Llama 2 paper, appendix A.3.3", system="first", bos=True),
        Family("llama3", "Llama 3", _read("llama3"), "Llama 3 model card", stops=("<|end_of_text|>",), **_HEADERS),
        Family(
            "llama3.1",
            "Llama 3.1 and 3.3",
            _read("llama3.1", TODAY="'26 Jul 2024'"),
            "Llama 3.1 prompt format",
            stops=("<|eom_id|>", "<|end_of_text|>"),
            injects=_DATED.format("26 Jul 2024"),
            tools=True,
            **_HEADERS,
        ),
        Family(
            "llama3.2",
            "Llama 3.2",
            _read("llama3.1", TODAY="strftime_now('%d %b %Y')"),
            "Llama 3.2 prompt format",
            stops=("<|eom_id|>", "<|end_of_text|>"),
            injects=_DATED.format("the day"),
            tools=True,
            **_HEADERS,
        ),
        Family("mistral", "Mistral v1", _read("mistral"), "Mistral 7B Instruct v0.1", system="first", bos=True),
        Family(
            "mistral-v3",
            "Mistral v3",
            _read("mistral-v3", SPACE=" "),
            "Mistral 7B Instruct v0.3",
            control_tokens=("[INST]", "[/INST]"),
            system="last",
            bos=True,
            rewrites=_LAST,
        ),
        Family(
            "mistral-nemo",
            "Mistral Nemo (v3, tekken)",
            _read("mistral-v3", SPACE=""),
            "Mistral Nemo Instruct 2407",
            control_tokens=("[INST]", "[/INST]"),
            system="last",
            bos=True,
            rewrites=_LAST,
        ),
        Family(
            "mistral-v7",
            "Mistral v7 (tekken)",
            _read("mistral-v7"),
            "Mistral Small 2501",
            control_tokens=("[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[INST]", "[/INST]"),
            bos=True,
        ),
        Family("gemma", "Gemma 1 and 2", _read("gemma"), "Gemma formatting guide", **_TURNS),
        Family("gemma3", "Gemma 3", _read("gemma"), "Gemma 3 model card", **_TURNS),
        Family("phi3", "Phi-3", _read("phi3"), "Phi-3 mini model card", **_PHI),
        Family("phi3.5", "Phi-3.5", _read("phi3"), "Phi-3.5 mini model card", **_PHI),
        Family(
            "phi4",
            "Phi-4",
            _read("phi4"),
            "Phi-4 model card",
            end_of_turn="<|im_end|>",
            stops=("<|endoftext|>",),
            control_tokens=("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        ),
        Family("smollm2", "SmolLM2", _chatml(_SMOL), "SmolLM2 model card", injects=_SMOL, tools=True, **_IM),
        Family(
            "smollm3",
            "SmolLM3",
            _read("smollm3"),
            "SmolLM3 model card, /think and /no_think",
            injects="a head with the knowledge cutoff, today's date, the reasoning mode and " + _SMOL + ".",
            thinks="kept in every answer; with /no_think in the system text an empty one stands in the prompt",
            tools=True,
            **_IM,
        ),
        Family("zephyr", "Zephyr", _read("zephyr"), "Zephyr 7B beta model card"),
        Family("olmo2", "OLMo 2", _read("olmo2"), "OLMo 2 Instruct model card", bos=True),
        Family(
            "granite",
            "Granite 3",
            _read("granite"),
            "Granite 3.3 Instruct model card",
            end_of_turn="<|end_of_text|>",
            control_tokens=("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
            injects="the knowledge cutoff (April 2024), today's date and that it is Granite, developed by IBM",
        ),
        Family(
            "vicuna",
            "Vicuna",
            _read("vicuna"),
            "FastChat, Vicuna v1.1",
            system="head",
            injects="A chat between a curious user and an artificial intelligence assistant. [...]",
            bos=True,
        ),
        Family(
            "alpaca",
            "Alpaca",
            _read("alpaca"),
            "Stanford Alpaca",
            system="head",
            injects="Below is an instruction that describes a task. [...]",
            bos=True,
        ),
        Family("plain", "plain text", _read("plain"), "Question: and Answer: in words", system="head", bos=True),
    )
}

#: Names that earlier versions gave to families.
_RENAMED = {"qwen": "qwen2.5", "gemma2": "gemma", "llama3.3": "llama3.1", "mistral-v1": "mistral", "smollm": "smollm2"}

_BY_ARCHITECTURE = {
    "Qwen2ForCausalLM": "qwen2.5",
    "Qwen3ForCausalLM": "qwen3",
    "Qwen3MoeForCausalLM": "qwen3",
    "GemmaForCausalLM": "gemma",
    "Gemma2ForCausalLM": "gemma",
    "Gemma3ForCausalLM": "gemma3",
    "Gemma3ForConditionalGeneration": "gemma3",
    "GraniteForCausalLM": "granite",
    "MistralForCausalLM": "mistral",
    "MixtralForCausalLM": "mistral",
    "Olmo2ForCausalLM": "olmo2",
    "Phi3ForCausalLM": "phi3",
    "SmolLM3ForCausalLM": "smollm3",
}

#: Tokens that end a turn wherever a template writes them, and tokens that end a document.
_TURN_ENDS = (
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<end_of_turn>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<turn|>",
)
_DOCUMENT_ENDS = ("<|endoftext|>", "<|end_of_text|>", "<｜end▁of▁sentence｜>", "</s>", "<eos>")


def choose(architecture: str, vocabulary: Collection[str], wanted: str = "") -> Family:
    """Choose the family for a base model without a template.

    The wanted one, else the one whose tokens it knows, else the one of its architecture, else ChatML. Raises
    ConfigError when there is none of that name.
    """
    if wanted:
        known = FAMILIES.get(_RENAMED.get(wanted, wanted))
        if known is None:
            raise ConfigError(
                f"There is no template family {wanted!r}.", f"Choose one of: {', '.join(FAMILIES)}.", field="template"
            )
        return known
    if all(token in vocabulary for token in FAMILIES["llama3"].control_tokens):
        return FAMILIES["llama3"]  # for 3.1 and later too: a base knows no date, and without one every day is the same
    usual = _BY_ARCHITECTURE.get(architecture, "")
    for name in ("granite", "gemma", "phi4", "chatml", "phi3", "mistral-v7", "mistral-nemo"):
        if all(token in vocabulary for token in FAMILIES[name].control_tokens):
            return FAMILIES[_version(name, usual, vocabulary)]
    if architecture == "LlamaForCausalLM" and {"</s>", "<0x0A>"} <= set(vocabulary):
        return FAMILIES["llama2"]  # Llama 1 and 2 know no markers: their format is made of words
    return FAMILIES[usual or "chatml"]


def _version(name: str, usual: str, vocabulary: Collection[str]) -> str:
    """Tell formats with the same markers apart: by architecture, else by tokens that came with a version."""
    if name == "gemma" and usual == "gemma3":
        return usual
    if name == "mistral-nemo" and "<0x0A>" in vocabulary:
        return "mistral-v3"
    if name != "chatml":
        return name
    if usual in ("qwen3", "smollm3"):
        return usual
    if usual == "qwen2.5":
        return "qwen2.5" if "<|fim_prefix|>" in vocabulary else "qwen2"
    return "smollm2" if "<jupyter_start>" in vocabulary else "chatml"


def known(template: str) -> Family | None:
    """Find the family whose own text a template is, so that nothing foreign is in it."""
    return _OURS.get(template)


_OURS = {family.template: family for family in reversed(FAMILIES.values())}

#: What a template of a family writes, and what it does not: the first that fits names it.
_SIGNS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    ("llama3.2", ("<|start_header_id|>", "Cutting Knowledge Date", "strftime_now"), ()),
    ("llama3.1", ("<|start_header_id|>", "Cutting Knowledge Date"), ()),
    ("llama3", ("<|start_header_id|>", "<|eot_id|>"), ()),
    ("granite", ("<|start_of_role|>", "<|end_of_role|>"), ()),
    ("gemma3", ("<start_of_turn>", "first_user_prefix"), ()),
    ("gemma", ("<start_of_turn>",), ()),
    ("phi4", ("<|im_start|>", "<|im_sep|>"), ()),
    ("smollm3", ("<|im_start|>", "## Custom Instructions"), ()),
    ("smollm2", ("<|im_start|>", "named SmolLM"), ()),
    ("qwen2.5", ("<|im_start|>", "You are Qwen, created by Alibaba Cloud"), ()),
    ("qwen3", ("<|im_start|>", "</think>", "enable_thinking"), ()),
    ("qwen2", ("<|im_start|>", _HELPFUL), ()),
    ("chatml", ("<|im_start|>", "<|im_end|>"), ("<|im_user|>", "<|im_middle|>")),
    ("phi3", ("<|end|>", "<|assistant|>"), ("<|begin", "<|start|>", "<|content|>")),
    ("llama2", ("<<SYS>>", "[INST]"), ()),
    ("mistral-v7", ("[INST]", "[SYSTEM_PROMPT]"), ()),
    ("mistral-v3", ("[INST] ", "[AVAILABLE_TOOLS]"), ()),
    ("mistral-nemo", ("[INST]", "[AVAILABLE_TOOLS]"), ()),
    ("mistral-nemo", ("[INST]'", "[/INST]'"), ()),
    ("mistral", ("[INST] ", "[/INST]"), ()),
    ("olmo2", ("<|user|>", "<|assistant|>", "bos_token", "eos_token"), ("[gMASK]", "<|end")),
    ("zephyr", ("<|user|>", "<|assistant|>", "eos_token"), ("[gMASK]", "<|end")),
    ("vicuna", ("USER: ", "ASSISTANT:"), ()),
    ("alpaca", ("### Instruction:", "### Response:"), ()),
    ("plain", ("'Question: '", "'Answer:'"), ()),
)


def identify(template: str) -> str:
    """Name the family that a template belongs to, by its text or the markers it writes; "" when none is recognised."""
    if ours := known(template):
        return ours.name
    for name, written, never in _SIGNS:
        if all(sign in template for sign in written) and not any(sign in template for sign in never):
            return name
    return ""


def stop_tokens(template: str, vocabulary: Collection[str], eos: str | None, declared: Sequence[str] = ()) -> list[str]:
    """List the tokens at which an answer ends: the one that ends a turn in this template first, end of document last.

    `template` is the Jinja text in use, `vocabulary` the model's tokens, `eos` its end-of-sequence token, `declared`
    what its generation config stops at. Only tokens that exist are listed; a token of another family that merely exists
    in the vocabulary counts only when the template writes it or when it is the end of a document.
    """
    written = [token for token in (*_TURN_ENDS, *_DOCUMENT_ENDS) if token in template and token in vocabulary]
    document = document_end(vocabulary, eos)
    first: list[str | None] = list(written) or [eos]
    ordered = [*first, *([eos] if eos != document else []), *declared]
    found = [token for token in dict.fromkeys(ordered) if token and token in vocabulary]
    if document and document in vocabulary and found[:1] != [document]:
        found = [token for token in found if token != document] + [document]
    return found


def document_end(vocabulary: Collection[str], eos: str | None) -> str | None:
    """Tell the token that ends a document: the end-of-sequence token, unless that one ends turns."""
    if eos in _DOCUMENT_ENDS:
        return eos
    return next((token for token in _DOCUMENT_ENDS if token in vocabulary), eos)
