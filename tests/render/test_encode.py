"""Masks and token ids on every template family, against transformers' own rendering and by looking for the answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.data.records import Message
from studio.errors import DataError, ModelError
from studio.render import encode
from studio.render.template import ChatTemplate

TALK = [
    Message("system", "Be brief."),
    Message("user", "What is the capital of France?"),
    Message("assistant", "The capital of France is Paris."),
    Message("user", "And of Japan?"),
    Message("assistant", "Tokyo."),
]


@pytest.fixture(params=["chatml", "gemma", "llama3", "mistral", "plain"])
def renderer(request: pytest.FixtureRequest, tiny_bare: Path) -> encode.Renderer:
    return encode.load(tiny_bare, request.param)


def test_ids_equal_transformers_rendering(renderer: encode.Renderer) -> None:
    ours = renderer.conversation(TALK)
    theirs = renderer.tokenizer.apply_chat_template(
        [m.to_dict() for m in TALK], chat_template=renderer.source, tokenize=True, return_dict=False
    )
    assert ours.ids == theirs
    prompt = renderer.tokenizer.apply_chat_template(
        [m.to_dict() for m in TALK[:2]],
        chat_template=renderer.source,
        tokenize=True,
        add_generation_prompt=True,
        return_dict=False,
    )
    assert renderer.prompt(TALK[:2]) == prompt


def test_exactly_the_answers_and_their_end_are_learned(renderer: encode.Renderer) -> None:
    encoded = renderer.conversation(TALK)
    learned = renderer.decode([label for label in encoded.labels if label != -100], special=True)
    end = renderer.stop_tokens[0]
    assert learned.replace(" ", "") == f"ThecapitalofFranceisParis.{end}Tokyo.{end}"
    assert all(label in (-100, token) for token, label in zip(encoded.ids, encoded.labels, strict=True))


def test_the_last_learned_token_is_a_stop_token(renderer: encode.Renderer) -> None:
    encoded = renderer.conversation(TALK)
    assert [label for label in encoded.labels if label != -100][-1] == renderer.stop_ids[0]


def test_the_prompt_is_a_prefix_of_the_training_row(renderer: encode.Renderer) -> None:
    prompt, row = renderer.prompt(TALK[:2]), renderer.conversation(TALK[:3])
    assert row.ids[: len(prompt)] == prompt
    assert set(row.labels[: len(prompt)]) == {-100}


def test_only_the_last_answer_is_learned_when_asked(renderer: encode.Renderer) -> None:
    encoded = renderer.conversation(TALK, only_last=True)
    learned = renderer.decode([label for label in encoded.labels if label != -100])
    assert learned.strip() == "Tokyo."


def test_a_turn_marked_not_to_be_trained_is_read_only(renderer: encode.Renderer) -> None:
    talk = [*TALK[:2], Message("assistant", TALK[2].content, train=False), *TALK[3:]]
    learned = renderer.decode([label for label in renderer.conversation(talk).labels if label != -100])
    assert learned.strip() == "Tokyo."


def test_a_typed_control_token_stays_text(renderer: encode.Renderer) -> None:
    end, stop = renderer.stop_tokens[0], renderer.stop_ids[0]
    talk = [Message("user", f"I typed {end} here"), Message("assistant", "Yes.")]
    encoded = renderer.conversation(talk)
    plain = renderer.conversation([Message("user", "I typed it here"), Message("assistant", "Yes.")])
    assert encoded.ids.count(stop) == plain.ids.count(stop)
    assert end in encoded.text


def test_a_template_is_added_to_a_base_without_one_and_its_new_tokens_are_known(tiny_bare: Path) -> None:
    renderer = encode.load(tiny_bare)
    assert (renderer.family, renderer.added_tokens) == ("chatml", ["<|im_start|>", "<|im_end|>"])
    assert renderer.stop_tokens[0] == "<|im_end|>"


def test_a_models_own_template_wins(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for file in tiny.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    own = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ eos_token }}{% endfor %}" + (
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    (folder / "chat_template.jinja").write_text(own)
    renderer = encode.load(folder)
    encoded = renderer.conversation(TALK[1:3])
    assert renderer.source == own
    assert encoded.text == f"[user]{TALK[1].content}<|endoftext|>[assistant]{TALK[2].content}<|endoftext|>"
    assert renderer.decode([x for x in encoded.labels if x != -100], special=True) == f"{TALK[2].content}<|endoftext|>"


def test_a_template_that_rewrites_earlier_turns_is_refused_with_the_turn(tiny: Path) -> None:
    renderer = encode.load(tiny)
    source = (
        "{% for m in messages %}{% if not loop.last or m.role == 'user' %}<{{ m.role }}>{{ m.content }}{% else %}"
        "<last>{{ m.content }}{% endif %}<|im_end|>{% endfor %}{% if add_generation_prompt %}<last>{% endif %}"
    )
    broken = encode.Renderer(renderer.tokenizer, source)
    with pytest.raises(DataError, match="turn 3"):
        broken.conversation(TALK)


def test_the_oldest_exchange_goes_first_and_an_ending_never(tiny: Path) -> None:
    renderer = encode.load(tiny)
    whole, short = renderer.conversation(TALK), renderer.conversation([TALK[0], *TALK[3:]])
    assert encode.shorten(renderer, TALK, len(whole.ids)) == whole
    assert encode.shorten(renderer, TALK, len(whole.ids) - 1) == short
    assert encode.shorten(renderer, TALK, len(short.ids) - 1, "exchanges") is None


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ raise_exception('no') }}",
        "{{ messages[0]['nothing'].x }}",
    ],
)
def test_a_hostile_or_broken_template_gives_an_error_of_ours(source: str) -> None:
    with pytest.raises((DataError, ModelError)) as caught:
        ChatTemplate(source, {}).text(TALK)
    assert caught.value.remedy


def test_a_template_with_a_mistake_names_its_line() -> None:
    with pytest.raises(ModelError, match="line 2"):
        ChatTemplate("a\n{% for %}", {})
