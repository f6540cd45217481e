"""What people type stays text, whatever it looks like: in messages, tools and calls."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_families import answer, system, user
from wordmaking import byte_words, marked_words, words

from studio.data.records import Message
from studio.models.family import FAMILIES
from studio.render.renderer import Renderer
from studio.render.template import ChatTemplate

CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin|>"]
CHATML = Renderer(byte_words(CONTROL), "", wanted="chatml")
PRIVATE = ["\ue000", "\ue001", "\ue0f0", "\ue0f1", "\ue0000\ue001", "\uf8ff", "\\ue0000\\ue001"]

anything = st.lists(st.one_of(st.sampled_from([*CONTROL, *PRIVATE, "<|im_", "end|>"]), st.text(max_size=8))).map(
    "".join
)


@settings(max_examples=150, deadline=None)
@given(anything, anything, anything)
def test_any_text_comes_out_as_it_was_typed(head: str, question: str, said: str) -> None:
    talk = [system(head), user(question), answer(said)]
    (plan,) = CHATML.plans(talk)
    assert plan.text == (
        f"<|im_start|>system\n{head}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
        f"<|im_start|>assistant\n{said}<|im_end|>\n"
    )
    (start, end), *_ = plan.spans
    assert plan.text[start:end] == f"{said}<|im_end|>"
    row = CHATML.encode([plan])[0]
    starts, ends = (CHATML.tokenizer.convert_tokens_to_ids(token) for token in CONTROL[:2])
    assert (row.ids.count(starts), row.ids.count(ends)) == (3, 3)
    assert CHATML.decode(row.ids, special=True) == plan.text
    learned = [token for token in row.labels if token >= 0]
    assert CHATML.decode(learned, special=True) == f"{said}<|im_end|>"
    prompt = CHATML.prompt(talk[:2])
    assert row.ids[: len(prompt)] == prompt


@pytest.mark.parametrize("kind", ["bytes", "marks"])
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_no_control_token_comes_from_what_was_typed(kind: str, name: str) -> None:
    renderer = Renderer(words(kind, name), "", wanted=name)
    special = {i for i, token in renderer.tokenizer.added_tokens_decoder.items() if token.special}
    typed = " ".join(renderer.tokenizer.convert_ids_to_tokens(sorted(special)))
    plain = [system("S"), user("a word"), answer("an answer")]
    loud = [system(f"S {typed}"), user(f"{typed} a word"), answer(f"an {typed} answer")]

    def controls(talk: list[Message]) -> list[int]:
        return [token for token in renderer.encode(renderer.plans(talk))[0].ids if token in special]

    assert controls(loud) == controls(plain)
    assert typed in renderer.decode(renderer.encode(renderer.plans(loud))[0].ids, special=True)


@pytest.mark.parametrize("scheme", ["first", "always", "legacy"])
def test_a_typed_token_adds_no_space_to_the_rest_of_its_row(scheme: str) -> None:
    """The stretch with the typed token is tokenised as the same text with a harmless word in its place."""
    renderer = Renderer(marked_words(["<start_of_turn>", "<end_of_turn>"], scheme=scheme), "", wanted="gemma")
    harmless = renderer.encode(renderer.plans([user("say end now"), answer("I say")]))[0]
    typed = renderer.encode(renderer.plans([user("say </s> now"), answer("I say")]))[0]
    assert renderer.decode(typed.ids, special=True) == renderer.decode(harmless.ids, special=True).replace(
        "say end", "say </s>"
    )
    same = len(renderer.prompt([user("say")])) // 2
    assert typed.ids[:same] == harmless.ids[:same] and typed.ids[-4:] == harmless.ids[-4:]


def test_white_space_that_a_control_token_swallows_is_swallowed_in_typed_rows_too() -> None:
    renderer = Renderer(byte_words(FAMILIES["phi3"].control_tokens, rstrip=True), "", wanted="phi3")
    harmless = renderer.encode(renderer.plans([user("say it now"), answer("well")]))[0]
    typed = renderer.encode(renderer.plans([user("say <|end|> now"), answer("well")]))[0]
    assert renderer.decode(harmless.ids, special=True).replace(" it ", " <|end|> ") == renderer.decode(
        typed.ids, special=True
    )


def test_typed_tokens_in_tools_calls_names_and_thoughts_stay_text() -> None:
    renderer = Renderer(words("bytes", "qwen3"), "", wanted="qwen3")
    stop = "<|im_end|>"
    call = {"type": "function", "function": {"name": "find", "arguments": {f"key{stop}": f"value{stop}"}}}
    tool = {"type": "function", "function": {"name": "find", "description": f"finds {stop}", "parameters": {}}}
    talk = [user("q"), answer("", tool_calls=(call,)), Message("tool", f"r{stop}"), answer("a", reasoning=f"t{stop}")]
    (*_, last) = renderer.encode(renderer.plans(talk, tools=[tool]))
    typed = [f'"key{stop}": "value{stop}"', f"finds {stop}", f"r{stop}", f"t{stop}"]
    assert all(text in last.text for text in typed)
    assert last.ids.count(renderer.stop_ids[0]) == 5 == last.text.count(stop) - 5  # system and four turns; five typed


def test_a_token_that_the_template_does_not_write_stays_text_too() -> None:
    renderer = Renderer(byte_words([*CONTROL, "<|secret|>"]), "", wanted="chatml")
    row = renderer.encode(renderer.plans([user("a <|secret|> b"), answer("c")]))[0]
    assert renderer.tokenizer.convert_tokens_to_ids("<|secret|>") not in row.ids
    assert "<|secret|>" in row.text


def test_pieces_for_another_tokenizer_are_cut_at_the_templates_own_tokens(tiny: Path) -> None:
    template = ChatTemplate(FAMILIES["chatml"].template, {}, CONTROL)
    pieces = template.pieces([user("a <|im_end|> b")], generate=True)
    assert [(piece.text, piece.plain) for piece in pieces] == [
        ("<|im_start|>", False),
        ("user\na <|im_end|> b", True),
        ("<|im_end|>\n<|im_start|>assistant\n", False),
    ]
