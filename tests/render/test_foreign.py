"""Templates that came with a model: hostile ones end with a remedy, odd ones are learned as a chat would show them."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from test_families import TALKS, answer, learned_runs, system, theirs, user
from wordmaking import byte_words, words

from studio.child import Child
from studio.data.records import Conversation, Message
from studio.errors import DataError, ModelError
from studio.models import family
from studio.models.family import FAMILIES
from studio.render import encode, foreign
from studio.render.renderer import Renderer
from studio.render.template import ChatTemplate

TALK = [user("hi"), answer("yo")]


def refused(source: str) -> tuple[str, float]:
    """What a template is refused with, and after how long."""
    ChatTemplate("warm", {}).text(TALK)
    began = time.monotonic()
    with pytest.raises(ModelError) as caught:
        ChatTemplate(source, {}).text(TALK)
    assert "family" in caught.value.remedy
    return caught.value.message, time.monotonic() - began


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% set n = namespace() %}{% set n.__class__ = 1 %}{{ n.__init__.__globals__.os }}",
    ],
)
def test_a_template_that_reaches_into_python_is_refused(source: str) -> None:
    assert "must not" in refused(source)[0]


def test_a_template_that_runs_for_ever_is_stopped_after_two_seconds() -> None:
    message, seconds = refused("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert "2 s" in message and seconds < 5


def test_a_sum_that_hears_no_signal_is_stopped_too() -> None:
    message, seconds = refused("{% for m in messages %}{{ 9 ** (9 ** (8 + loop.index)) }}{% endfor %}")
    assert "2 s" in message and seconds < 5


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10**10 }}",
        "{{ messages[0].content * 10**10 }}",
        "{% for i in range(99999) %}{{ 'abc' * 1000 }}{% endfor %}",
    ],
)
def test_a_template_that_fills_the_memory_is_stopped(source: str) -> None:
    message, seconds = refused(source)
    assert "memory" in message or "32 MB" in message or "512 MB" in message
    assert seconds < 5


def test_a_template_with_a_mistake_or_too_long_says_so() -> None:
    assert "line 3" in refused("a\nb\n{% for %}")[0]
    assert "64 KB" in refused("x" * (65 << 10))[0]


def test_the_child_serves_the_next_template_after_any_of_these() -> None:
    refused("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}")
    assert ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}", {}).text(TALK) == "hiyo"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system's timer is POSIX")
def test_a_child_whose_parent_no_longer_waits_ends_by_itself() -> None:
    child = Child("studio.render.foreign:handle", memory_mb=foreign.MEMORY_MB)
    child.ask({"jobs": []}, 60)
    pid = child.pid
    setup = {"source": "{{ 9 ** (9 ** (messages | length + 7)) }}", "tokens": {}, "now": "2026-01-01", "options": {}}
    job = {"turns": [m.to_dict() for m in TALK], "tools": [], "generate": False, "options": {}}
    stream = child.stream({"setup": {**setup, "stops": [], "linear": False}, "jobs": [job]}, timeout=30)
    with pytest.raises(Exception, match="signal"):
        list(stream)
    assert pid and child.pid is None


def test_our_own_templates_need_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "work", lambda *_: pytest.fail("a child was asked"))
    for name, known in FAMILIES.items():
        renderer = Renderer(words("bytes", name), known.template)
        assert renderer.template.text(TALK)


def test_a_template_that_drops_a_turn_is_refused_with_the_turn() -> None:
    source = "{% for m in messages if m.role != 'user' %}{{ m.content }}</s>{% endfor %}"
    with pytest.raises(DataError, match=r"turn 3 \(user\)") as caught:
        Renderer(words("marks", "plain"), source).plan([answer("yo", train=False), answer("a"), user("LOST")])
    assert caught.value.field == "messages[2]" and "leave such rows out" in caught.value.remedy


def test_of_several_templates_the_default_is_used_and_no_name_becomes_a_file(tiny: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "deep" / "model"
    folder.mkdir(parents=True)
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = folder / "tokenizer_config.json"
    own = "{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}"
    named = [{"name": "../../x", "template": "evil"}, {"name": "default", "template": own}]
    config.write_text(json.dumps({**json.loads(config.read_text()), "chat_template": named}))
    assert isinstance(AutoTokenizer.from_pretrained(folder, trust_remote_code=False).chat_template, dict)
    renderer = encode.load(folder)
    assert renderer.source == own
    before = {path for path in tmp_path.rglob("*")}
    renderer.save(tmp_path / "deep" / "out")
    new = {path.name for path in tmp_path.rglob("*")} - {path.name for path in before}
    assert new <= {"out", "chat_template.jinja", "special_tokens_map.json", "added_tokens.json"}
    assert "evil" not in "".join(p.read_text() for p in (tmp_path / "deep" / "out").iterdir())


# Odd templates, each after one that exists.

TAIL = (  # Phi-3.5: a document's end behind the last turn
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% else %}{{ eos_token }}{% endif %}"
)
NEXT = (  # GLM: the next turn's marker ends an answer
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
OPEN = (  # nothing ends an answer
    "{% for m in messages %}{{ m.role }}:\n{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
MOVING = (  # Nemo: the system text stands in the question that is being asked, and nowhere once it is answered
    "{% if messages[0].role == 'system' %}{% set s = messages[0].content %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}{% if m.role == 'user' %}[INST]"
    "{% if loop.last and s is defined %}{{ s + '\n\n' }}{% endif %}{{ m.content }}[/INST]"
    "{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}"
)
FORGETFUL = (  # DeepSeek, Qwen 3: thoughts of earlier answers are left out
    "{% for m in messages %}<|{{ m.role }}|>{% if loop.last and m.reasoning_content %}<think>{{ m.reasoning_content }}"
    "</think>{% endif %}{{ m.content }}<|end|>{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
STRICT = (  # Gemma 2: no system role, and the turns alternate
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}<|{{ m.role }}|>{{ m.content | trim }}<|end|>"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SILENT = STRICT.replace("{{ raise_exception('System role not supported') }}", "{% set messages = messages[1:] %}")
OPENED = (  # DeepSeek R1: the prompt opens a thought that a plain answer does not have
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
CHANNELS = (  # gpt-oss: an earlier answer ends with one token, the last with another
    "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}"
    "{% if loop.last and m.role == 'assistant' %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|message|>{% endif %}"
)
MARKED = (  # SmolLM3: the block takes in the opening of the turn and leaves out its end
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}<|assistant|>{{ m.content }}"
    "{% endgeneration %}<|end|>\n{% else %}<|{{ m.role }}|>{{ m.content }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TOKENS = ["<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "[INST]", "[/INST]", "<|return|>", "<|message|>"]
TWICE = [user("a cat?"), answer("meow"), user("a dog?"), answer("woof")]
WITH = [system("Be brief."), *TWICE]


def made(source: str, **more: list[str]) -> Renderer:
    return Renderer(byte_words(TOKENS), source, declared=more.get("declared", []))


def learned(renderer: Renderer, talk: list[Message]) -> list[tuple[str, list[str]]]:
    """Every row's text with what is learned of it."""
    rows = renderer.encode(renderer.plans(talk))
    return [(row.text, [renderer.decode(run, special=True) for run in learned_runs(row.labels)]) for row in rows]


def test_a_documents_end_behind_the_last_turn_is_not_learned() -> None:
    renderer = made(TAIL)
    ((text, runs),) = learned(renderer, TWICE)
    assert runs == ["meow<|end|>", "woof<|end|>"]
    assert text.endswith("woof<|end|><|endoftext|>")
    assert renderer.rewrites == ""


def test_an_end_that_comes_with_the_next_turn_is_learned_and_put_behind_the_last() -> None:
    renderer = made(NEXT, declared=["<|endoftext|>", "<|user|>"])
    rows = learned(renderer, TWICE)
    assert [runs for _, runs in rows] == [["meow<|user|>", f"woof{renderer.stop_tokens[0]}"]]
    assert renderer.stop_ids[0] == renderer.encode(renderer.plans(TWICE))[0].ids[-1]


def test_an_answer_that_nothing_ends_gets_the_stop_token_in_a_row_of_its_own() -> None:
    renderer = made(OPEN)
    end = renderer.stop_tokens[0]
    assert learned(renderer, TWICE) == [
        (f"user:\na cat?\nassistant:\nmeow{end}", [f"meow{end}"]),
        (f"user:\na cat?\nassistant:\nmeow\nuser:\na dog?\nassistant:\nwoof{end}", [f"woof{end}"]),
    ]


def test_a_system_text_that_moves_stands_in_each_row_where_the_chat_has_it() -> None:
    renderer = made(MOVING)
    end = "<|endoftext|>"
    assert learned(renderer, WITH) == [
        (f"[INST]Be brief.\n\na cat?[/INST]meow{end}", [f"meow{end}"]),
        (f"[INST]a cat?[/INST]meow{end}[INST]Be brief.\n\na dog?[/INST]woof{end}", [f"woof{end}"]),
    ]
    assert len(learned(renderer, TWICE)) == 1
    assert (renderer.rewrites, renderer.template.system) == ("with a system text, which moves", "last")
    for plan, row in zip(renderer.plans(WITH), renderer.encode(renderer.plans(WITH)), strict=True):
        prompt = theirs(renderer, plan.turns[:-1], generate=True)
        assert row.ids[: len(prompt)] == prompt


def test_thoughts_are_learned_in_a_row_each_and_seen_as_a_chat_shows_them() -> None:
    renderer = made(FORGETFUL)
    talk = [user("a"), answer("b", reasoning="hm"), user("c"), answer("d", reasoning="so")]
    assert learned(renderer, talk) == [
        ("<|user|>a<|end|><|assistant|><think>hm</think>b<|end|>", ["<think>hm</think>b<|end|>"]),
        (
            "<|user|>a<|end|><|assistant|>b<|end|><|user|>c<|end|><|assistant|><think>so</think>d<|end|>",
            ["<think>so</think>d<|end|>"],
        ),
    ]
    assert renderer.rewrites == "thoughts of earlier answers are left out"
    assert len(learned(renderer, TWICE)) == 1
    assert renderer.plans(talk, "last") == renderer.plans(talk)[1:]


@pytest.mark.parametrize("source", [STRICT, SILENT], ids=["refused", "dropped"])
def test_a_system_text_without_a_place_goes_in_front_of_the_first_question(source: str) -> None:
    renderer = made(source)
    ((text, runs),) = learned(renderer, WITH)
    assert text.startswith("<|user|>Be brief.\n\na cat?<|end|><|assistant|>meow<|end|>")
    assert runs == ["meow<|end|>", "woof<|end|>"]
    assert renderer.template.moves_system(WITH) and not renderer.template.moves_system(TWICE)
    assert renderer.encode(renderer.plans(WITH))[0].ids[: len(renderer.prompt(WITH[:2]))] == renderer.prompt(WITH[:2])


def test_a_conversation_that_the_template_refuses_is_named_by_line_and_turn() -> None:
    talk = [system("Be brief."), user("a"), answer("b"), answer("c")]
    (left,) = encode.examples(made(STRICT), [Conversation(tuple(talk), line=7)], max_length=99)
    assert isinstance(left, encode.LeftOut) and (left.line, left.reason) == (7, "template")
    assert left.error is not None and left.error.line == 7 and left.error.field == "messages[3]"
    assert "turn 4" in left.error.message and "must alternate" in left.error.message


def test_an_answer_that_comes_first_is_learned_where_the_template_takes_it() -> None:
    assert learned(made(TAIL), [answer("Hello!"), *TWICE[:2]])[0][1] == ["Hello!<|end|>", "meow<|end|>"]


def test_a_turn_that_cannot_follow_its_prompt_is_an_error_naming_it() -> None:
    with pytest.raises(
        DataError, match=r"turn 2 .*goes on with '<think>\\n' and the conversation with 'meow"
    ) as caught:
        made(OPENED).plans(TWICE)
    assert "another template family" in caught.value.remedy and "thought" not in caught.value.message
    with pytest.raises(DataError, match="turn 4"):
        made(OPENED).plans(TWICE, "last")


STRIPPED = (  # QwQ: the prompt opens a thought, and the thought of a turn is never written
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content.split('</think>')[-1] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
CLOSED = OPENED.replace("<think>\n", "</think>").replace("{{ m.content }}", "<think>{{ m.content }}")  # Laguna


@pytest.mark.parametrize(
    "thinking", [answer("4", reasoning="two and two"), answer("<think>two and two</think>4")], ids=["field", "text"]
)
def test_a_thought_that_the_template_strips_is_the_reason_that_is_told(thinking: Message) -> None:
    with pytest.raises(DataError, match=r"leaves the thought of the turn out; .*'<think>\\n'.* with '4<"):
        made(STRIPPED).plans([user("2 + 2?"), thinking])


def test_what_differs_is_shown_from_the_beginning_of_its_token() -> None:
    with pytest.raises(DataError, match="goes on with '</think>' and the conversation with '<think>woof"):
        made(CLOSED).plans(TWICE, "last")


def test_training_on_the_last_answer_is_offered_where_that_can_be_done() -> None:
    source = OPENED.replace("<think>\n", "{% if messages | length < 3 %}<think>{% endif %}")
    with pytest.raises(DataError, match="turn 2") as caught:
        made(source).plans(TWICE)
    assert "the last answer only" in caught.value.remedy
    assert made(source).plans(TWICE, "last")
    with pytest.raises(DataError, match="turn 2") as caught:
        made(OPENED).plans(TWICE)
    assert "the last answer only" not in caught.value.remedy


@pytest.mark.parametrize("change", ["| upper", "| replace('cat', 'dog')"])
def test_a_template_that_changes_what_is_said_is_told_apart_from_one_that_leaves_it_out(change: str) -> None:
    source = "{% for m in messages %}{{ m.content " + change + " }}</s>{% endfor %}"
    with pytest.raises(DataError, match=r"changes what turn 1 \(user\) says"):
        made(source).plans([user("is this a cat?"), answer("no")])


def test_what_a_template_says_is_cut_and_no_remedy_names_a_flag() -> None:
    with pytest.raises(DataError, match="xxx") as caught:
        made("{{ raise_exception('x' * 100000) }}").plans(TWICE)
    assert len(str(caught.value)) < 700 and "--" not in caught.value.remedy


def test_a_last_answer_that_ends_otherwise_than_earlier_ones() -> None:
    rows = learned(made(CHANNELS), TWICE)
    assert [runs for _, runs in rows] == [["meow<|return|>"], ["woof<|return|>"]]
    assert "meow<|end|>" in rows[1][0]


def test_marks_of_a_template_are_taken_without_the_opening_and_with_the_end() -> None:
    ((_, runs),) = learned(made(MARKED), TWICE)
    assert runs == ["meow<|end|>", "woof<|end|>"]


FIN = (  # an end of turn that nothing else knows, and a document's end behind the last turn or not
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|fin|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.mark.parametrize("source", [FIN, FIN.replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}")])
def test_a_control_token_right_behind_the_answers_ends_them(source: str) -> None:
    renderer = Renderer(byte_words(["<|fin|>", "<|user|>", "<|assistant|>"]), source)
    assert renderer.stop_tokens == ["<|fin|>", "<|endoftext|>"]
    assert renderer.rewrites == ""
    ((_, runs),) = learned(renderer, TWICE)
    assert runs == ["meow<|fin|>", "woof<|fin|>"]
    assert renderer.encode(renderer.plans(TWICE))[0].ids == theirs(renderer, TWICE)


def test_of_two_control_tokens_behind_an_answer_the_known_end_counts() -> None:
    source = FIN.replace("<|fin|>", "<|fin|><|end|>")
    renderer = Renderer(byte_words(["<|fin|>", "<|end|>", "<|user|>", "<|assistant|>"]), source)
    assert [runs for _, runs in learned(renderer, TWICE)] == [["meow<|fin|><|end|>", "woof<|fin|><|end|>"]]


UNOPENED = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}\n"


def test_a_template_that_does_not_open_the_answer_gets_its_header_as_the_prompt() -> None:
    renderer = Renderer(byte_words(["<|im_start|>", "<|im_end|>"]), UNOPENED)
    ((text, runs),) = learned(renderer, TWICE)
    assert runs == ["meow<|im_end|>", "woof<|im_end|>"]
    prompt = renderer.prompt(TWICE[:1])
    assert renderer.decode(prompt, special=True) == ("<|im_start|>user\na cat?<|im_end|>\n<|im_start|>assistant\n")
    # what chat and export carry writes the same, and whole conversations as before
    assert prompt == theirs(renderer, TWICE[:1], generate=True)
    row = renderer.encode(renderer.plans(TWICE))[0]
    assert row.ids == theirs(renderer, TWICE) and row.ids[: len(prompt)] == prompt
    assert text == ChatTemplate(UNOPENED, {}).text(TWICE)


def test_a_template_that_opens_answers_in_different_ways_and_no_prompt_is_refused() -> None:
    source = UNOPENED.replace("{{ m.role }}", "{{ m.role }} {{ loop.index }}")
    with pytest.raises(ModelError, match="does not open the assistant's turn") as caught:
        Renderer(byte_words(["<|im_start|>", "<|im_end|>"]), source)
    assert "family" in caught.value.remedy


@pytest.mark.parametrize("name", ["chatml", "llama3.2", "qwen3", "gemma", "mistral-nemo", "plain"])
def test_a_foreign_copy_of_our_template_gives_the_same_rows(name: str) -> None:
    ours = Renderer(words("bytes", name), FAMILIES[name].template)
    copy = Renderer(words("bytes", name), "{#- a copy -#}" + FAMILIES[name].template)
    assert (ours.template.family, copy.template.family) == (FAMILIES[name], None)
    assert ours.stop_tokens[0] == copy.stop_tokens[0] and ours.family == copy.family
    assert bool(ours.rewrites) == bool(copy.rewrites)
    for talk in TALKS.values():
        assert ours.encode(ours.plans(talk)) == copy.encode(copy.plans(talk))


#: What some models' own templates are, by the name of their file.
REAL = {
    "Qwen-Qwen2.5": "qwen2.5",
    "Qwen-Qwen3-": "qwen3",
    "meta-llama-Llama-3.1": "llama3.1",
    "meta-llama-Llama-3.2": "llama3.2",
    "google-gemma-2": "gemma",
    "mistralai-Mistral-Nemo": "mistral-nemo",
    "microsoft-Phi-3.5": "phi3",
    "HuggingFaceTB-SmolLM3": "smollm3",
    "ibm-granite": "granite",
    "deepseek": "",
    "openai": "",
    "GLM": "",
}


@pytest.mark.skipif("STUDIO_TEMPLATES" not in os.environ, reason="STUDIO_TEMPLATES names no folder of real templates")
def test_real_templates_are_learned_as_they_are_asked_or_refused_with_the_turn() -> None:
    count = 0
    for path in sorted(Path(os.environ["STUDIO_TEMPLATES"]).glob("*.jinja")):
        source = path.read_text("utf-8")
        for start, name in REAL.items():
            if path.name.startswith(start):
                assert family.identify(source) == name, path.name
        tokens = sorted(set(re.findall(r"<\|[^<>\s]+\|>|<｜[^<>\s]+｜>|\[/?[A-Z_]+\]|<(?:start|end)_of_turn>", source)))
        renderer = Renderer(byte_words(tokens), source)
        for talk in TALKS.values():
            try:
                plans = renderer.plans(talk)
            except (DataError, ModelError) as error:
                assert error.remedy
                continue
            for plan, row in zip(plans, renderer.encode(plans), strict=True):
                taught = [i for i, turn in enumerate(plan.turns) if turn.role == "assistant" and turn.train]
                runs = learned_runs(row.labels)
                assert len(runs) == len(taught), path.name
                assert all(run[-1] in renderer.stop_ids for run in runs), path.name
                for index in taught:
                    prompt = renderer.prompt(plan.turns[:index])
                    assert row.ids[: len(prompt)] == prompt, path.name
                    assert row.labels[len(prompt) - 1] == encode.IGNORE != row.labels[len(prompt)], path.name
                count += 1
    assert count > 300
