"""`studio serve`, asked by OpenAI's own client over a real port."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from loras import write_lora
from making import make_model

from studio.chat.session import Pane, Session
from studio.cli.__main__ import run
from studio.export import gguf
from studio.render import encode

openai = pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")

ROOT = Path(__file__).parent.parent.parent
TALK = [{"role": "user", "content": "What do cows eat?"}]
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def start(*words: str) -> tuple[subprocess.Popen[str], dict[str, Any]]:
    """Start the verb and give it with what it printed."""
    process = subprocess.Popen(
        [sys.executable, "-m", "studio", "serve", *words, "--port", "0", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line == "}\n":
            break
    return process, json.loads(text)


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(30)
    assert process.stdout is not None
    process.stdout.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("served")
    made = []
    for seed in (0, 1):
        base = make_model(folder / f"model{seed}", seed=seed)
        (base / "chat_template.jinja").write_text(encode.load(base).source)
        made.append(
            str(gguf.write(base, None, folder / f"Model {seed}.gguf", encode.load(base), name="x", dtype="F32"))
        )
    return made


@pytest.fixture(scope="module")
def server(files: list[str]) -> Iterator[dict[str, Any]]:
    process, told = start(files[0], "--against", files[1], "--split", "0.5", "--context", "256")
    yield told
    end(process)


@pytest.fixture
def client(server: dict[str, Any]) -> Any:
    return openai.OpenAI(base_url=server["address"], api_key="none", max_retries=0, timeout=60)


def own(files: list[str], index: int = 0, **options: Any) -> dict[str, Any]:
    """Ask the same through a session."""
    session = Session([Pane("x", files[index])], n_ctx=256)
    try:
        return session.answer(0, TALK, **options)
    finally:
        session.close()


def test_an_answer_is_the_sessions_own_with_its_counts(client: Any, files: list[str]) -> None:
    said = client.chat.completions.create(model="model-0", messages=TALK, temperature=0, max_tokens=12, seed=1)
    wanted = own(files, max_tokens=12)
    assert said.choices[0].message.content == wanted["text"] and said.choices[0].message.role == "assistant"
    assert said.choices[0].finish_reason == ("stop" if wanted["stopped"] else "length")
    assert said.usage.prompt_tokens == wanted["prompt_tokens"]
    assert said.usage.completion_tokens == wanted["tokens"]
    assert said.usage.total_tokens == wanted["prompt_tokens"] + wanted["tokens"]
    assert said.model == "model-0" and said.system_fingerprint.startswith("fp_") and said.object == "chat.completion"


def test_a_stream_gives_the_same_text_in_pieces_and_ends_with_its_reason_and_usage(client: Any) -> None:
    common = {"model": "model-0", "messages": TALK, "temperature": 0, "max_completion_tokens": 40}
    whole = client.chat.completions.create(**common)
    pieces = list(client.chat.completions.create(**common, stream=True, stream_options={"include_usage": True}))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == whole.choices[0].message.content
    assert pieces[0].choices[0].delta.role == "assistant"
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert pieces[-1].choices == [] and pieces[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert {piece.id for piece in pieces} == {pieces[0].id}


def test_sampling_follows_the_seed_and_stop_texts_end_an_answer(client: Any) -> None:
    def ask(**options: Any) -> Any:
        return client.chat.completions.create(model="model-0", messages=TALK, max_tokens=20, **options)

    texts = {seed: ask(seed=seed, temperature=1.5).choices[0].message.content for seed in (1, 2)}
    assert texts[1] != texts[2] and ask(seed=1, temperature=1.5).choices[0].message.content == texts[1]
    free = ask(temperature=0).choices[0].message.content
    stop = free[len(free) // 2 :][:3]
    cut = ask(temperature=0, stop=stop).choices[0]
    assert cut.message.content == free[: free.index(stop)] and cut.finish_reason == "stop"
    assert ask(temperature=2, seed=4, extra_body={"top_k": 1}).choices[0].message.content == free


def test_the_models_are_listed_and_each_is_asked_by_its_name(client: Any, files: list[str]) -> None:
    assert [model.id for model in client.models.list()] == ["studio", "model-0", "model-1"]
    assert client.models.retrieve("model-1").id == "model-1"
    for index in (0, 1):
        said = client.chat.completions.create(model=f"model-{index}", messages=TALK, temperature=0, max_tokens=9)
        assert said.choices[0].message.content == own(files, index, max_tokens=9)["text"]
        assert said.model == f"model-{index}"


def test_half_of_the_requests_go_to_each_and_the_answer_names_which(client: Any) -> None:
    asked = [
        client.chat.completions.create(
            model="studio", messages=TALK, temperature=0, max_tokens=4, metadata={"conversation": str(number)}
        )
        for number in range(24)
    ]
    found = {(said.model, said.system_fingerprint, said.choices[0].message.content) for said in asked}
    assert sorted(model for model, _, _ in found) == ["model-0", "model-1"]  # each has one fingerprint, one answer
    assert len({fingerprint for _, fingerprint, _ in found}) == 2


def test_parts_of_text_and_a_developers_turn_are_read(client: Any) -> None:
    def count(messages: list[dict[str, Any]]) -> int:
        return client.chat.completions.create(model="model-0", messages=messages, max_tokens=1).usage.prompt_tokens

    parts = [{"role": "user", "content": [{"type": "text", "text": "What do "}, {"type": "text", "text": "cows eat?"}]}]
    assert count(parts) == count(TALK)
    assert count([{"role": "developer", "content": "Be brief."}, *TALK]) == count(
        [{"role": "system", "content": "Be brief."}, *TALK]
    )


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"temperature": 3}, "temperature", None),
        ({"max_tokens": 0}, "max_tokens", None),
        ({"max_tokens": 10**400}, "max_tokens", None),
        ({"top_p": "much"}, "top_p", None),
        ({"extra_body": {"chat_template_kwargs": {"messages": []}}}, "chat_template_kwargs", None),
        ({"messages": []}, "messages", None),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role", None),
        ({"messages": [*TALK, CALL, *TALK]}, "messages[1].tool_calls", "unsupported_parameter"),
        ({"n": 2}, "n", "unsupported_parameter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools", "unsupported_parameter"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content", None),
        ({"messages": [{"role": "user", "content": "word " * 400}]}, "messages", "context_length_exceeded"),
        (
            {"messages": [{"role": "user", "content": "word " * 400}], "stream": True},
            "messages",
            "context_length_exceeded",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_what_cannot_be_answered_is_said_in_openais_shape(client: Any, change: Any, param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**{"model": "model-0", "messages": TALK, **change})
    error = caught.value
    assert (error.type, error.param, error.code) == ("invalid_request_error", param, code) and error.body["message"]


def test_half_of_a_character_is_a_bad_request(server: dict[str, Any]) -> None:
    place = server["address"].removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(place, timeout=60)
    talk = [{"role": "user", "content": "a\ud83d"}]
    connection.request("POST", "/v1/chat/completions", json.dumps({"model": "model-0", "messages": talk}))
    reply = connection.getresponse()
    assert reply.status == 400 and "half of a character" in json.loads(reply.read())["error"]["message"]
    connection.close()


def test_an_unknown_model_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="there are studio, model-0, model-1"):
        client.chat.completions.create(model="gpt-9", messages=TALK)


def test_a_client_that_goes_away_stops_its_answer(files: list[str]) -> None:
    """An answer as long as the context is begun and left: the next question would wait for all of it."""
    process, told = start(files[1], "--context", "30000")
    try:
        client = openai.OpenAI(base_url=told["address"], api_key="none", max_retries=0, timeout=60)
        common: dict[str, Any] = {"model": "studio", "messages": TALK, "temperature": 0}
        said = client.chat.completions.create(**common, max_tokens=1000)
        assert said.usage.completion_tokens == 1000, "this model ends by itself and proves nothing"
        port = int(told["address"].split(":")[2].split("/")[0])
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: "
        for stream in (True, False):
            begun = client.chat.completions.create(**common, stream=True)
            next(iter(begun))
            begun.close()
            body = json.dumps({**common, "stream": stream})
            impatient = socket.create_connection(("127.0.0.1", port))
            impatient.sendall(f"{head}{len(body)}\r\n\r\n{body}".encode())
            time.sleep(0.5)
            impatient.close()
            at = time.monotonic()
            client.chat.completions.create(**common, max_tokens=3)
            assert time.monotonic() - at < 3
    finally:
        end(process)


def test_requests_for_one_model_wait_for_each_other_and_all_are_answered(client: Any) -> None:
    said: list[str] = []

    def ask() -> None:
        answer = client.chat.completions.create(model="model-0", messages=TALK, temperature=0, max_tokens=25)
        said.append(answer.choices[0].message.content)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(said) == 6 and len(set(said)) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:1234"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
    ids=str,
)
def test_other_web_pages_are_refused(server: dict[str, Any], headers: dict[str, str]) -> None:
    place = server["address"].removeprefix("http://").removesuffix("/v1")
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("GET", "/health")):
        connection = http.client.HTTPConnection(place, timeout=30)
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        body = json.loads(reply.read())
        assert reply.status == 403 and body["error"]["code"] == "forbidden"
        assert not any(name.lower().startswith("access-control") for name, _ in reply.getheaders())
        connection.close()


def test_health_and_paths_that_are_not_there(server: dict[str, Any]) -> None:
    place = server["address"].removeprefix("http://").removesuffix("/v1")
    connection = http.client.HTTPConnection(place, timeout=30)
    for method, path, status in (("GET", "/health", 200), ("GET", "/", 404), ("GET", "/v1/chat/completions", 404)):
        connection.request(method, path)
        reply = connection.getresponse()
        assert (reply.status, "error" in json.loads(reply.read())) == (status, status == 404)
    connection.request("POST", "/v1/chat/completions", body=b"{no json")
    reply = connection.getresponse()
    assert reply.status == 400 and json.loads(reply.read())["error"]["message"] == "The body is not JSON."
    connection.close()


def test_other_machines_need_a_key(files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path))
    process, told = start(files[0], "--allow-remote", "--context", "128")
    try:
        assert len(told["key"]) >= 43 and (tmp_path / "serve.key").stat().st_mode & 0o077 == 0
        common: dict[str, Any] = {"base_url": told["address"], "max_retries": 0, "timeout": 60}
        right = openai.OpenAI(api_key=told["key"], **common)
        assert right.chat.completions.create(model="studio", messages=TALK, max_tokens=2).model == "model-0"
        wrong = openai.OpenAI(api_key=told["key"][:-1], **common)
        with pytest.raises(openai.AuthenticationError) as caught:
            wrong.models.list()
        assert caught.value.code == "invalid_api_key" and told["key"] not in str(caught.value)
    finally:
        end(process)


def test_an_adapters_strength_is_in_the_fingerprint_and_a_killed_engine_is_an_error(
    files: list[str], tmp_path: Path
) -> None:
    """Run in this process, so that the engine can be reached."""
    import os
    import signal

    import uvicorn

    from studio import loopback
    from studio.chat import serve

    write_lora(Path(files[1]), tmp_path / "lora.gguf", size=0.01)
    session = Session([Pane("x", files[1], adapter=str(tmp_path / "lora.gguf"), strength=0.5)], n_ctx=30_000)
    models = serve.served(session, ["x"])
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    app = serve.Server(session, models, hosts=loopback.hosts(port))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    try:
        asker = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="x", max_retries=0, timeout=60)
        common: dict[str, Any] = {"model": "x", "messages": TALK, "temperature": 0}
        assert asker.chat.completions.create(**common, max_tokens=4).system_fingerprint.endswith("x0.5")
        stream = asker.chat.completions.create(**common, stream=True)
        next(iter(stream))
        os.kill(session._child.pid, signal.SIGKILL)  # type: ignore[arg-type]
        with pytest.raises(openai.APIError, match="helper process ended"):
            list(stream)
        assert asker.chat.completions.create(**common, max_tokens=4).usage.completion_tokens <= 4
    finally:
        server.should_exit = True
        thread.join(30)
        session.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--host", "0.0.0.0"], "would let other machines in"),
        (["--split", "1.5"], "--split must be from 0 to 1"),
        (["--split", "0.5"], "--split is about two models"),
        (["--strength", "0.5"], "no adapter"),
        (["--context", "2"], "--context must be"),
    ],
    ids=str,
)
def test_what_cannot_be_served_is_said_before(
    files: list[str], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["serve", files[0], *words, "--json"]) == 2
    assert said in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_port_that_is_taken_is_said(files: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert run(["serve", files[0], "--port", str(taken.getsockname()[1]), "--json"]) == 2
    assert "cannot be listened on" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_a_conversation_keeps_its_model_and_thumbs_train_a_run(
    files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUDIO_HOME", str(tmp_path / "home"))
    process, told = start(files[0], "--against", files[1], "--split", "0.5", "--context", "256")
    try:
        client = openai.OpenAI(base_url=told["address"], api_key="none", max_retries=0, timeout=60)
        who: dict[str, set[str]] = {}
        usable = 0  # of random tokens some answers are blank, or hold what no data file may
        for number in range(12):
            for _ in range(2):
                made = client.chat.completions.create(
                    model="studio", messages=TALK, max_tokens=4, metadata={"conversation": f"talk {number}"}
                )
                who.setdefault(f"talk {number}", set()).add(made.model)
            thumb = "up" if made.model == told["models"][1] else "down"
            said = client.post("/feedback", body={"id": made.id, "rating": thumb}, cast_to=object)
            text = made.choices[0].message.content
            usable += bool(text.strip()) and "\0" not in text
        assert all(len(models) == 1 for models in who.values())
        assert set.union(*who.values()) == set(told["models"][1:])
        first, second = said["comparison"]["arms"]
        assert first["up"] == first["rated"] > 0 == second["up"] < second["rated"]
        assert first["regenerated"] + second["regenerated"] == 12
        with pytest.raises(openai.NotFoundError, match="was given here"):
            client.post("/feedback", body={"id": "chatcmpl-no", "rating": "up"}, cast_to=object)
        with pytest.raises(openai.BadRequestError, match="is no rating"):
            client.post("/feedback", body={"id": made.id, "rating": "great"}, cast_to=object)
        alone = client.chat.completions.create(model=told["models"][2], messages=TALK, max_tokens=4)
        with pytest.raises(openai.NotFoundError):  # who names a model takes no part
            client.post("/feedback", body={"id": alone.id, "rating": "up"}, cast_to=object)
    finally:
        end(process)
    document = json.loads((Path(told["dir"]) / "result.json").read_text("utf-8"))
    assert document["kto"] == usable > 6 and document["comparison"]["arms"][0]["rated"] == first["rated"]
    from studio import runs

    assert runs.find(told["trial"]).status() == "finished"
    assert run(["train", "kto", "--data", told["trial"], "--model", "starter", "--set", "max_steps=1", "--json"]) == 0
