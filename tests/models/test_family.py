"""Families: which one a base gets, which one a template is, where an answer ends."""

from __future__ import annotations

import pytest

from studio.errors import ConfigError
from studio.methods.base import TrainConfig
from studio.models import family
from studio.models.family import FAMILIES

IM = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
QWEN25 = IM | {"<|fim_prefix|>", "<tool_call>"}
TEKKEN = {"<s>", "</s>", "[INST]", "[/INST]", "[TOOL_CALLS]"}

BASES = [
    ("Qwen2ForCausalLM", QWEN25, "qwen2.5"),
    ("Qwen2ForCausalLM", IM, "qwen2"),
    ("Qwen3ForCausalLM", QWEN25 | {"<think>"}, "qwen3"),
    ("SmolLM3ForCausalLM", {"<|begin_of_text|>", "<|end_of_text|>", *IM}, "smollm3"),
    ("LlamaForCausalLM", IM | {"<jupyter_start>"}, "smollm2"),
    ("LlamaForCausalLM", IM, "chatml"),
    ("LlamaForCausalLM", {"<s>", "</s>", "<0x0A>"}, "llama2"),
    ("LlamaForCausalLM", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eom_id|>"}, "llama3"),
    ("LlamaForCausalLM", {"<|endoftext|>"}, "chatml"),
    ("MistralForCausalLM", {"<s>", "</s>", "<0x0A>"}, "mistral"),
    ("MistralForCausalLM", TEKKEN | {"<0x0A>"}, "mistral-v3"),
    ("MistralForCausalLM", TEKKEN, "mistral-nemo"),
    ("MistralForCausalLM", TEKKEN | {"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}, "mistral-v7"),
    ("Gemma2ForCausalLM", {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"}, "gemma"),
    ("Gemma3ForCausalLM", {"<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"}, "gemma3"),
    ("Phi3ForCausalLM", {"<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"}, "phi3"),
    ("Phi3ForCausalLM", IM | {"<|im_sep|>", "<|fim_prefix|>"}, "phi4"),
    ("Olmo2ForCausalLM", {"<|endoftext|>", "<|pad|>"}, "olmo2"),
    ("GraniteForCausalLM", {"<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"}, "granite"),
    ("SomethingElse", {"a", "b"}, "chatml"),
]


@pytest.mark.parametrize(("architecture", "vocabulary", "name"), BASES, ids=lambda v: v if isinstance(v, str) else "")
def test_a_base_gets_the_format_of_its_kind(architecture: str, vocabulary: set[str], name: str) -> None:
    chosen = family.choose(architecture, vocabulary)
    assert chosen.name == name


def test_the_wanted_family_wins_and_an_unknown_one_lists_the_known() -> None:
    assert family.choose("Qwen2ForCausalLM", QWEN25, "vicuna").name == "vicuna"
    assert family.choose("", set(), "qwen").name == "qwen2.5"
    with pytest.raises(ConfigError) as caught:
        family.choose("", set(), "nothing")
    assert "vicuna" in caught.value.remedy and caught.value.field == "template"


def test_a_run_may_name_every_family() -> None:
    choices = TrainConfig.__dataclass_fields__["template"].metadata["choices"]
    assert choices == ("", *FAMILIES)


#: Families that write the very same text as another, which stands for them.
SAME = {"qwen3-instruct": "chatml", "gemma3": "gemma", "phi3.5": "phi3"}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_is_recognised_by_its_text_and_by_its_signs(name: str) -> None:
    template = FAMILIES[name].template
    assert family.identify(template) == SAME.get(name, name)
    if name not in ("olmo2", "zephyr", "mistral-v3", "mistral-nemo"):
        assert family.identify(template + "{# changed #}") == SAME.get(name, name)
    assert family.known(template + " ") is None


def _turns(opening: str, closing: str, extra: str = "") -> str:
    return f"{{% for m in messages %}}{{{{ {opening} + m['content'] + {closing} }}}}{{% endfor %}}{extra}"


SIGNS = [
    (_turns("'<|im_start|>' + m['role'] + '\\n'", "'<|im_end|>\\n'"), "chatml"),
    (_turns("'<|im_start|>'", "'<|im_end|>'", "You are Qwen, created by Alibaba Cloud."), "qwen2.5"),
    (
        _turns("'<|im_start|>'", "'<|im_end|>'", "{% if enable_thinking %}{{ '<think>\\n\\n</think>' }}{% endif %}"),
        "qwen3",
    ),
    (_turns("'<|start_header_id|>'", "'<|eot_id|>'"), "llama3"),
    (_turns("'<|start_header_id|>'", "'<|eot_id|>'", "Cutting Knowledge Date"), "llama3.1"),
    (_turns("'<start_of_turn>'", "'<end_of_turn>'"), "gemma"),
    (_turns("'<start_of_turn>' + first_user_prefix", "'<end_of_turn>'"), "gemma3"),
    (_turns("'[INST] '", "' [/INST]'"), "mistral"),
    (_turns("'[INST]'", "'[/INST]'", "[AVAILABLE_TOOLS]["), "mistral-nemo"),
    (_turns("'[INST] <<SYS>>'", "' [/INST]'"), "llama2"),
    (_turns("'<|user|>\\n'", "eos_token + '<|assistant|>'"), "zephyr"),
    (_turns("'<|user|>'", "'<|end|><|assistant|>'"), "phi3"),
    (_turns("'[gMASK]<|user|>'", "'<|assistant|>' + eos_token"), ""),
    (_turns("m['role']", "eos_token"), ""),
]


@pytest.mark.parametrize(("template", "name"), SIGNS, ids=lambda v: v if len(v) < 20 else "")
def test_a_models_own_template_is_recognised_by_what_it_writes(template: str, name: str) -> None:
    assert family.identify(template) == name


def test_stop_tokens_begin_with_the_turns_and_end_with_the_documents_end() -> None:
    llama = {"<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"}
    template = FAMILIES["llama3"].template
    assert family.stop_tokens(template, llama, "<|eot_id|>", ["<|eom_id|>"]) == [
        "<|eot_id|>",
        "<|eom_id|>",
        "<|end_of_text|>",
    ]
    assert family.stop_tokens("{{ eos_token }}", {"</s>", "<|im_end|>"}, "</s>") == ["</s>"]
    assert family.stop_tokens(FAMILIES["chatml"].template, IM, "<|im_end|>") == ["<|im_end|>", "<|endoftext|>"]
    assert family.stop_tokens("{{ eos_token }}", {"<x>"}, "<x>") == ["<x>"]
    assert family.stop_tokens("", {"a"}, None) == []


def test_a_document_ends_at_the_end_of_sequence_unless_that_ends_turns() -> None:
    assert family.document_end(IM, "<|im_end|>") == "<|endoftext|>"
    assert family.document_end({"</s>", "<|endoftext|>"}, "</s>") == "</s>"
    assert family.document_end({"a"}, None) is None
