"""How likely the tokens of an answer were: against transformers, in OpenAI's layout, asked by OpenAI's own client."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from making import make_model

from studio import loopback
from studio.chat import protocol, serve
from studio.chat.session import Pane, Session
from studio.export import gguf
from studio.render import encode

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

TALK = [{"role": "user", "content": "What do cows eat?"}]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_model(tmp_path_factory.mktemp("odds") / "model")
    (made / "chat_template.jinja").write_text(encode.load(made).source)
    return made


@pytest.fixture(scope="module")
def session(model: Path) -> Iterator[Session]:
    file = gguf.write(model, None, model.parent / "m.gguf", encode.load(model), name="x", dtype="F32")
    made = Session([Pane("x", str(file))], n_ctx=256)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(session: Session) -> Iterator[Any]:
    import uvicorn

    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    app = serve.Server(session, serve.served(session, ["x"]), hosts=loopback.hosts(port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    yield openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0, timeout=60)
    server.should_exit = True
    thread.join(30)


def ask(client: Any, **options: Any) -> Any:
    usual = {"model": "x", "messages": TALK, "temperature": 0, "max_tokens": 24, "logprobs": True, "top_logprobs": 4}
    return client.chat.completions.create(**{**usual, **options})


def spelled(content: Any) -> str:
    return b"".join(bytes(one.bytes or ()) for one in content).decode("utf-8", "replace")


def test_each_token_has_the_logarithm_that_transformers_computes(client: Any, session: Session, model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    said = ask(client, top_logprobs=20).choices[0]
    made = session.answer(0, TALK, max_tokens=24)
    prompt = session.prompt(0, TALK)["ids"]
    weights = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=False)
    with torch.no_grad():
        logp = weights(torch.tensor([[*prompt, *made["ids"]]])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    assert len(said.logprobs.content) == len(made["ids"]) == 24, "this model ends by itself and proves little"
    for one, row, token in zip(said.logprobs.content, logp, made["ids"], strict=True):
        assert one.logprob == pytest.approx(float(row[token]), abs=2e-3)
        best = row.sort(descending=True).values[:20].tolist()
        assert [other.logprob for other in one.top_logprobs] == pytest.approx(best, abs=2e-3)
        assert one.token == one.top_logprobs[0].token  # at temperature 0 the likeliest one is taken


def test_the_tokens_spell_the_answer_and_are_as_many_as_it_has(client: Any) -> None:
    for seed in range(4):  # random tokens: halves of characters, control tokens
        said = ask(client, temperature=1.5, seed=seed, top_logprobs=2)
        content = said.choices[0].logprobs.content
        assert spelled(content) == said.choices[0].message.content
        assert len(content) == said.usage.completion_tokens and said.choices[0].logprobs.refusal is None
        assert all(len(one.top_logprobs) == 2 and one.logprob <= 0 for one in content)
        assert all(one.top_logprobs[0].logprob >= one.top_logprobs[1].logprob for one in content)


def test_they_are_the_models_own_whatever_is_drawn_from_them(client: Any) -> None:
    def first(**options: Any) -> Any:
        return ask(client, max_tokens=1, **options).choices[0].logprobs.content[0]

    plain = first()
    odd = first(temperature=2, seed=7, top_p=0.5, frequency_penalty=2, extra_body={"top_k": 3, "min_p": 0.2})
    assert [one.logprob for one in odd.top_logprobs] == [one.logprob for one in plain.top_logprobs]
    drawn = {(one := first(temperature=2, seed=seed)).token: one.logprob for seed in range(6)}
    assert len(drawn) > 1 and min(drawn.values()) < plain.top_logprobs[-1].logprob  # one that is none of the likeliest


def test_a_stream_tells_the_same_with_the_pieces_of_text(client: Any) -> None:
    for options in ({}, {"temperature": 1.5, "seed": 3}, {"top_logprobs": 0}):
        whole = ask(client, **options).choices[0]
        pieces = [piece.choices[0] for piece in ask(client, stream=True, **options)]
        told = [one for piece in pieces if piece.logprobs for one in piece.logprobs.content]
        assert told == whole.logprobs.content
        assert pieces[0].logprobs is None and pieces[-1].logprobs is None  # the role, and why it ended
        assert all(piece.logprobs for piece in pieces if piece.delta.content)
        made = "".join(piece.delta.content or "" for piece in pieces)
        assert made == whole.message.content == spelled(told)


def test_nothing_is_told_where_nobody_asked_and_no_alternatives_where_none_are_wanted(client: Any) -> None:
    for options in ({"logprobs": None}, {"logprobs": False}):
        plain = {"top_logprobs": None, **options}
        assert ask(client, **plain).choices[0].logprobs is None
        assert all(piece.choices[0].logprobs is None for piece in ask(client, stream=True, **plain))
    for none in (None, 0):
        content = ask(client, top_logprobs=none).choices[0].logprobs.content
        assert content and all(one.top_logprobs == [] for one in content)


def test_tokens_of_a_text_that_ends_the_answer_are_not_told(client: Any) -> None:
    for seed in range(40):
        drawn: dict[str, Any] = {"temperature": 0.8, "seed": seed, "max_tokens": 40}
        free = ask(client, **drawn).choices[0]
        content = free.logprobs.content
        if at := next((at for at in range(6, len(content) - 3) if _stops_at(free, at)), 0):
            break
    for stream in (False, True):
        said = ask(client, stop=spelled(content[at : at + 3]), stream=stream, **drawn)
        parts = [piece.choices[0] for piece in said] if stream else said.choices
        assert [one for part in parts if part.logprobs for one in part.logprobs.content] == content[:at] != []


def _stops_at(said: Any, at: int) -> bool:
    """Tell whether the text of three tokens is readable, and found first where they are."""
    before, text = spelled(said.logprobs.content[:at]), spelled(said.logprobs.content[at : at + 3])
    found = said.message.content.find(text)
    return text.isascii() and bool(text) and said.message.content.startswith(before) and found == len(before)


def test_an_answer_that_ends_at_once_tells_the_token_that_ended_it(session: Session) -> None:
    """Drawn until that happens: of the 500 or so tokens two end an answer."""
    for seed in range(4000):
        options = {"temperature": 5.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed, "max_tokens": 1}
        *pieces, done = session.stream(0, TALK, logprobs=1, **options)
        if done["why"] == "end":
            break
    assert done["tokens"] == 0 and [piece["text"] for piece in pieces] == [""]
    (one,) = pieces[0]["logprobs"]
    assert one["text"] == done["stop_token"] and one["bytes"] is None and one["logprob"] < one["top"][0]["logprob"]


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"logprobs": None}, "top_logprobs", "needs 'logprobs'"),
        ({"logprobs": False}, "top_logprobs", "needs 'logprobs'"),
        ({"top_logprobs": 21}, "top_logprobs", "from 0 to 20"),
        ({"top_logprobs": -1}, "top_logprobs", "from 0 to 20"),
        ({"top_logprobs": 2.5}, "top_logprobs", "a whole number"),
        ({"top_logprobs": "3"}, "top_logprobs", "a whole number"),
        ({"top_logprobs": True}, "top_logprobs", "a whole number"),
        ({"logprobs": "yes"}, "logprobs", "true or false"),
        ({"logprobs": 1}, "logprobs", "true or false"),
        ({"logprobs": {}}, "logprobs", "true or false"),
    ],
    ids=str,
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_asked_for_is_refused_in_openais_shape(
    client: Any, change: dict[str, Any], param: str, words: str, stream: bool
) -> None:
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        ask(client, stream=stream, **change)
    assert (caught.value.type, caught.value.param) == ("invalid_request_error", param)


def test_what_is_never_said_has_a_number_that_json_can_hold() -> None:
    odds = [{"text": "a", "bytes": [97], "logprob": float("-inf"), "top": []}]
    whole = protocol.Answer("x", "fp").whole(
        "a", {"why": "end", "prompt_tokens": 1, "tokens": 1, "reused": 0, "left_out": 0}, odds
    )
    assert whole["choices"][0]["logprobs"]["content"][0]["logprob"] == -9999.0
