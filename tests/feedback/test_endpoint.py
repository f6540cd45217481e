"""Endpoints as speakers: what is asked, what a server may do wrong, and what never leaves this machine by itself."""

from __future__ import annotations

import email.utils
import json
import logging
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from scripted import MODEL, Reply, Scripted

from studio import events, runs
from studio.errors import ConfigError, ModelError, Stopped
from studio.feedback import endpoint, judge, wire
from studio.feedback.speakers import Ask, Draw, Speakers
from studio.redact import redact, redact_logs

ROOT = Path(__file__).parent.parent.parent
CANARY = "canary-7f3a9c51d2"
TALK = [{"role": "user", "content": "What do cows eat?"}]


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key, no proxy, no waiting between tries."""
    for name in ("STUDIO_ENDPOINT_KEY", "OPENAI_API_KEY", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(wire, "WAIT", 0.01)


def say(server: Scripted, draw: Draw | None = None, **options: Any) -> Any:
    with Speakers([server.name], **options) as (speaker,):
        return speaker.say(TALK, draw)


def test_an_answer_comes_with_its_tokens_and_whether_it_ended_and_every_setting_is_sent() -> None:
    with Scripted(lambda turns: f"About {turns[-1]['content']}") as server:
        draw = Draw(n=3, temperature=0.7, top_p=0.9, top_k=40, min_p=0.05, max_tokens=64, seed=5)
        said = say(server, draw)
        assert [one.text for one in said] == ["About What do cows eat?"] * 3
        assert said[0].tokens == 5 and said[0].stopped and len({one.seed for one in said}) == 3
        first = server.bodies[0]
        sent = {"model": MODEL, "messages": TALK, "stream": False, "max_tokens": 64}
        assert sent.items() <= first.items() and first["temperature"] == 0.7 and first["top_p"] == 0.9
        assert (first["top_k"], first["min_p"]) == (40, 0.05)
        assert {body["seed"] for body in server.bodies} == {one.seed for one in said}
        assert say(server, draw) == said  # seeds are the prompt's, so a set that is resumed is the same


def test_strict_servers_are_not_sent_what_only_some_know() -> None:
    with Scripted() as server:
        say(server)
        assert not {"top_k", "min_p", "n", "logprobs"} & set(server.bodies[0])


def test_prompts_are_answered_in_their_order_and_several_at_a_time() -> None:
    def answer(turns: list[dict[str, Any]]) -> str:
        time.sleep(0.02 * (int(turns[-1]["content"]) % 3))
        return turns[-1]["content"] * 2

    with Scripted(answer) as server, Speakers([server.name]) as (speaker,):
        asks = [Ask([{"role": "user", "content": str(number)}]) for number in range(20)]
        made = list(speaker.ask(asks, Draw(n=2)))
        assert [number for number, _ in made] == list(range(20))
        assert all([one.text for one in said] == [str(number) * 2] * 2 for number, said in made)
        assert 1 < server.most_at_once <= endpoint.PARALLEL and len(server.bodies) == 40


def test_an_answer_at_the_limit_did_not_end_by_itself_and_one_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(lambda turns: Reply("cut", finish="length")) as server:
        assert not say(server)[0].stopped
        server.answer = lambda turns: Reply("over", finish=None)
        assert not say(server)[0].stopped
        monkeypatch.setattr(endpoint, "MAX_TEXT", 10)
        server.answer = lambda turns: "x" * 11
        (said,) = say(server)
        assert said.text == "x" * 10 and not said.stopped


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": None}, ""),
        ({"content": None, "refusal": "I will not."}, "I will not."),
        ({"content": [{"type": "text", "text": "two "}, {"type": "text", "text": "parts"}]}, "two parts"),
        ({"content": "<think>Grass? Hay?</think>\n\nGrass."}, "Grass."),
        ({"content": "<think>never ending"}, ""),
        ({"content": "half \ud83d of it"}, "half ? of it"),
        ({"content": "A cow... hay?\n</think>\n\nGrass."}, "Grass."),  # the template has begun the thought
        ({"content": "The tag </think> ends it."}, "The tag </think> ends it."),
        ({"content": "Write <think> in front.</think>"}, "Write <think> in front.</think>"),
    ],
)
def test_an_answer_is_read_in_all_the_shapes_it_comes_in(message: dict[str, Any], text: str) -> None:
    with Scripted(lambda turns: Reply(message=message)) as server:
        assert say(server)[0].text == text


def test_words_are_weighed_by_the_probabilities_of_the_first_token_whatever_blanks_it_has() -> None:
    probs = {"A": 0.5, " A": 0.1, "B": 0.2, "C": 0.1}
    with Scripted(lambda turns: Reply(probs=probs)) as server, Speakers([server.name]) as (speaker,):
        assert speaker.weighs
        assert speaker.weigh(TALK, ["A", "B"]) == pytest.approx([0.75, 0.25])  # .6 and .2 of .8
        assert speaker.weigh(TALK, ["x", "y"]) == [0.0, 0.0]
        last = server.bodies[-1]
        assert (last["max_tokens"], last["logprobs"], last["top_logprobs"], last["temperature"]) == (1, True, 20, 0.0)
        assert len(server.bodies) == 3  # whether it tells them is asked once


@pytest.mark.parametrize("how", [{"tells": False}, {"refuses": ["logprobs"]}])
def test_a_server_without_probabilities_does_not_weigh(how: dict[str, Any]) -> None:
    with Scripted(**how) as server, Speakers([server.name]) as (speaker,):
        assert not speaker.weighs and not speaker.weighs and len(server.bodies) == 1
        with pytest.raises(ConfigError, match="no probabilities"):
            speaker.weigh(TALK, ["A", "B"])


def test_what_a_server_does_not_know_is_left_out_and_said_once() -> None:
    told: list[events.Event] = []
    with Scripted(refuses=["seed", "top_k", "max_tokens"]) as server:
        with Speakers([server.name], emit=told.append) as (speaker,):
            assert speaker.say(TALK, Draw(top_k=5, max_tokens=9))[0].text == "Yes."
            before = len(server.bodies)
            assert speaker.say(TALK, Draw(top_k=5, max_tokens=9))[0].text == "Yes."
            assert len(server.bodies) == before + 1
        assert server.bodies[-1]["max_completion_tokens"] == 9
        warned = [one["text"] for one in told if one["level"] == "warning"]
        assert len(warned) == 2 and any("`seed`" in text and "will differ" in text for text in warned)


def test_a_temperature_that_is_refused_is_an_error_since_answers_would_be_other_ones() -> None:
    with Scripted(refuses=["temperature"]) as server, pytest.raises(ModelError, match="'temperature' is not supported"):
        say(server)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("failure", [429, 500, 502, 503, "reset", (503, {"retry-after": "0"})])
def test_what_may_pass_is_tried_again(failure: Any) -> None:
    with Scripted() as server:
        server.failures.extend([failure, failure])
        assert say(server)[0].text == "Yes." and len(server.bodies) == 3


def test_when_to_come_again_is_read_from_a_date_too(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", waits.append)
    with Scripted() as server:
        later = email.utils.formatdate(time.time() + 60, usegmt=True)
        server.failures.extend([(429, {"retry-after": later}), (429, {"retry-after": "soon"})])
        assert say(server)[0].text == "Yes."
    assert waits == [pytest.approx(59, abs=1.5), 0.02]


@pytest.mark.parametrize(("name", "value"), [("ALL_PROXY", "odd://10.0.0.1:1"), ("SSL_CERT_FILE", "no-such-file.pem")])
def test_an_environment_that_cannot_be_used_is_said(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="proxies and certificates") as caught:
        Speakers(["https://api.example.org/v1#m"], allow_endpoint=True)
    assert name in caught.value.remedy
    with Scripted() as server:
        assert say(server)[0].text == "Yes.", "what is on this machine needs neither"


@pytest.mark.parametrize("reason", ["stop", "STOP", "eos_token", "COMPLETE"])
def test_an_end_by_itself_is_known_in_the_words_of_several_servers(reason: str) -> None:
    with Scripted(lambda turns: Reply("whole", finish=reason)) as server:
        assert say(server)[0].stopped


def test_a_server_that_tells_fewer_of_the_likeliest_tokens_is_asked_for_those() -> None:
    with Scripted(lambda turns: Reply(probs={"A": 0.6, "B": 0.2}), tops=5) as server:
        with Speakers([server.name]) as (speaker,):
            assert speaker.weighs and speaker.weigh(TALK, ["A", "B"]) == pytest.approx([0.75, 0.25])
        assert [body["top_logprobs"] for body in server.bodies] == [20, 5, 5]
    with Scripted(tops=0) as server, Speakers([server.name]) as (speaker,):
        assert not speaker.weighs


def test_trying_again_ends_and_waits_twice_as_long_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(wire.time, "sleep", waits.append)
    with Scripted() as server:
        server.failures.extend([(429, {"retry-after": "7"}), *[500] * 9])
        with pytest.raises(ModelError, match=r"trouble of its own \(500\)\. It says: told to fail with 500"):
            say(server)
        assert len(server.bodies) == wire.TRIES and waits == [7.0, 0.02, 0.04, 0.08]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (401, "does not let us in \\(401\\)"),
        (403, "does not let us in \\(403\\)"),
        (404, "has no model 'scripted' there"),
        (400, "does not take this request \\(400\\). It says: told to fail"),
        ("html", "answers with text/html, not with JSON"),
        ("stream", "piece by piece only"),
        ("packed", "cannot be unpacked"),
        ("garbage", "something that is no JSON"),
        ("list", "JSON that is no object"),
        ("empty", "`choices` is empty"),
        ("huge", "more than 16 MB"),
        ({"error": {"message": "out of cheese"}}, "out of cheese"),
        ({"choices": [{"finish_reason": "stop"}]}, "without a message"),
        ((429, {"retry-after": "3600"}), "asked too often"),
        ((302, {"location": "/v1/elsewhere"}), "sends requests elsewhere"),
        ((307, {"location": "http://127.0.0.1:1/v1/chat/completions"}), "http://127.0.0.1:1; that is not followed"),
        ((307, {"location": "https://example.org/v1"}), "https://example.org; that is not followed"),
    ],
)
def test_what_will_not_pass_is_said_in_words_and_asked_once(failure: Any, words: str) -> None:
    with Scripted() as server:
        server.failures.append(failure)
        with pytest.raises(ModelError, match=words) as caught:
            say(server)
        assert caught.value.remedy and len(server.bodies) == 1


def test_a_move_to_another_path_of_the_same_server_is_followed() -> None:
    with Scripted() as server:
        server.failures.append((307, {"location": "/v1/chat/completions"}))
        assert say(server)[0].text == "Yes." and len(server.bodies) == 2
        server.failures.extend([(307, {"location": "/v1/chat/completions"})] * 9)
        with pytest.raises(ModelError, match="sends every request elsewhere"):
            say(server)


def test_a_model_that_is_not_there_is_named_with_those_that_are() -> None:
    with Scripted() as server, pytest.raises(ModelError) as caught, Speakers([f"{server.address}#other"]) as (speaker,):
        speaker.say(TALK)
    assert "'other'" in caught.value.message and caught.value.remedy == "It has: scripted."


def test_a_server_that_has_neither_the_model_nor_a_list_of_them_is_told_so() -> None:
    with (
        Scripted() as server,
        pytest.raises(ModelError, match="has no model 'other'") as caught,
        Speakers([f"http://127.0.0.1:{server.port}/api#other"]) as (speaker,),
    ):
        speaker.say(TALK)
    assert "often ends in /v1" in caught.value.remedy


def test_a_prompt_that_the_servers_filter_refuses_has_no_answer_and_the_others_have() -> None:
    with Scripted() as server, Speakers([server.name]) as (speaker,):
        server.failures.append((400, {}, {"error": {"message": "The prompt was filtered", "code": "content_filter"}}))
        said = [one for _, (one,) in speaker.ask([Ask(TALK), Ask(TALK)], Draw())]
        assert sorted((one.text, one.stopped) for one in said) == [("", False), ("Yes.", True)]


def test_calls_of_tools_are_sent_as_the_api_has_them() -> None:
    called = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": "ü"}}}
    turns: list[dict[str, Any]] = [
        *TALK,
        {"role": "assistant", "content": "", "tool_calls": [called]},
        {"role": "tool", "content": "3", "tool_call_id": "c1", "name": "add"},
    ]
    with Scripted() as server, Speakers([server.name]) as (speaker,):
        speaker.say(turns)
        _, call, result = server.bodies[0]["messages"]
    function = {"name": "add", "arguments": '{"a": 1, "b": "ü"}'}
    assert call["tool_calls"] == [{**called, "function": function}]
    assert result == turns[2] and turns[1]["tool_calls"] == [called], "what was given stays as it is"


def test_nobody_there_is_said_at_once_but_a_server_that_answered_before_is_waited_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        pytest.raises(ModelError, match="cannot be reached") as caught,
        Speakers([f"http://127.0.0.1:{port}/v1#x"]) as (speaker,),
    ):
        speaker.say(TALK)
    assert "Is the server running" in caught.value.remedy
    with Scripted() as server, Speakers([server.name]) as (speaker,):
        speaker.say(TALK)
        server.failures.extend(["reset"] * 2)
        assert speaker.say(TALK)[0].text == "Yes."


def test_a_server_that_is_silent_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENCE", 0.2)
    with Scripted() as server:
        server.failures.extend(["hang"] * 9)
        with pytest.raises(ModelError, match="does not answer in time"):
            say(server)


def test_a_stop_is_heeded_while_a_server_thinks() -> None:
    with Scripted(seconds=20) as server, Speakers([server.name]) as (speaker,):
        stop = threading.Event()
        threading.Timer(0.3, stop.set).start()
        began = time.monotonic()
        with pytest.raises(Stopped):
            list(speaker.ask([Ask(TALK)], Draw(), stop.is_set))
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("http://127.0.0.1:1/v1", "which model"),
        ("http://127.0.0.1:1/v1#", "which model"),
        ("ftp://127.0.0.1/v1#m", "is no address"),
        ("http://#m", "is no address"),
        ("http://127.0.0.1:99999/v1#m", "is no address"),
        ("http://a b/v1#m", "is no address"),
        ("http://user:secret@127.0.0.1/v1#m", "no key or password"),
        ("http://127.0.0.1/v1?key=1#m", "no key or password"),
    ],
)
def test_a_name_that_is_no_address_is_refused_in_words(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        wire.read(name)
    assert "secret" not in str(caught.value) and caught.value.remedy


@pytest.mark.parametrize(
    ("name", "url", "host", "model", "local"),
    [
        ("http://127.0.0.1:11434/v1#qwen3:0.6b", "http://127.0.0.1:11434/v1", "127.0.0.1:11434", "qwen3:0.6b", True),
        ("http://localhost:8080#a/b", "http://localhost:8080/v1", "localhost:8080", "a/b", True),
        ("http://[::1]:8080/v1/#a", "http://[::1]:8080/v1", "[::1]:8080", "a", True),
        ("https://api.x.org/v1/chat/completions#a%20b", "https://api.x.org/v1", "api.x.org", "a b", False),
        ("http://192.168.1.5:11434/v1#m", "http://192.168.1.5:11434/v1", "192.168.1.5:11434", "m", False),
        ("http://127.0.0.1.evil.org/v1#m", "http://127.0.0.1.evil.org/v1", "127.0.0.1.evil.org", "m", False),
        ("http://0.0.0.0/v1#m", "http://0.0.0.0/v1", "0.0.0.0", "m", False),
    ],
)
def test_a_name_tells_address_model_and_whether_it_is_this_machine(
    name: str, url: str, host: str, model: str, local: bool
) -> None:
    found = wire.read(name)
    assert (found.url, found.host, found.model, found.local) == (url, host, model, local)


def test_an_endpoint_elsewhere_is_off_until_it_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(wire.Wire, "_once", lambda self, *_: asked.append(self._address.host))
    with pytest.raises(ConfigError, match=r"api\.example\.org is not on this machine") as caught:
        Speakers(["https://api.example.org/v1#m"])
    assert caught.value.field == "allow_endpoint" and "--allow-endpoint" in caught.value.remedy and not asked


@pytest.mark.parametrize("model", ["gpt-oss:120b-cloud", "glm-4.6:cloud"])
def test_a_model_that_a_server_here_passes_the_text_on_to_is_not_on_this_machine(model: str) -> None:
    with pytest.raises(ConfigError, match=f"{model} is not on this machine"):
        Speakers([f"http://127.0.0.1:11434/v1#{model}"])
    told: list[events.Event] = []
    with Speakers([f"http://127.0.0.1:11434/v1#{model}"], allow_endpoint=True, emit=told.append):
        assert "leave this machine" in told[0]["text"] and model in told[0]["text"]
    assert not wire.read("http://127.0.0.1:11434/v1#cloudy:1b").passed_on


def test_the_run_says_where_the_text_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(name: str) -> str:
        notes: list[events.Event] = []
        with Speakers([name], allow_endpoint=True, emit=notes.append) as (speaker,):
            assert speaker.identity == {"name": name, "endpoint": wire.read(name).host, "model": "m"}
        (note,) = notes
        assert note["code"] == "endpoint"
        return str(note["text"])

    assert "a server on this machine" in told("http://127.0.0.1:1/v1#m")
    far = told("https://api.example.org/v1#m")
    assert "leave this machine" in far and "api.example.org" in far and ", encrypted." in far and "key" not in far
    assert "NOT encrypted" in told("http://example.org/v1#m")
    monkeypatch.setenv("STUDIO_ENDPOINT_KEY", CANARY)
    monkeypatch.setenv("HTTPS_PROXY", "http://10.0.0.1:3128")
    far = told("https://api.example.org/v1#m")
    assert "A key goes with them" in far and "through the proxy" in far and CANARY not in far


def test_a_server_on_this_machine_is_never_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted() as server, Scripted(lambda turns: "stolen") as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        assert say(server)[0].text == "Yes." and not proxy.bodies


def test_the_key_comes_from_the_environment_and_one_for_others_never_goes_unencrypted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Scripted(key=CANARY) as server:
        monkeypatch.setenv("OPENAI_API_KEY", CANARY)
        with pytest.raises(ModelError, match="does not let us in"):
            say(server)
        assert "authorization" not in server.headers[-1]
        assert wire.key_for(wire.read("https://api.example.org/v1#m")) == CANARY
        monkeypatch.setenv("STUDIO_ENDPOINT_KEY", CANARY)
        assert say(server)[0].text == "Yes."
    monkeypatch.setenv("STUDIO_ENDPOINT_KEY", 'two words"')
    with pytest.raises(ConfigError, match="STUDIO_ENDPOINT_KEY") as caught:
        say(server)
    assert "two words" not in str(caught.value)


def test_the_key_is_in_no_error_event_log_or_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A canary: the server repeats the key in its error, as some do, and every way out is looked through."""
    monkeypatch.setenv("STUDIO_ENDPOINT_KEY", CANARY)
    redact_logs()
    caplog.set_level(logging.DEBUG)
    run = runs.create(runs.RunConfig(kind="feedback", title=f"with {CANARY}", options={"source": CANARY}))
    writer = events.Writer(run.dir / "events.jsonl")
    with Scripted(key="another") as server:
        with pytest.raises(ModelError, match="Incorrect API key provided: Bearer key\\*\\*\\*") as caught:
            say(server, emit=writer)
        assert server.headers[-1]["authorization"] == f"Bearer {CANARY}"  # it was sent, and only there
    writer(events.event("failed", error=caught.value.to_dict()))
    writer(events.event("note", level="info", code="x", text=f"pasted {CANARY}"))
    logging.getLogger("other").warning("pasted %s", CANARY)
    writer.close()
    assert CANARY not in json.dumps(caught.value.to_dict()) and CANARY not in caplog.text
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files and not [path for path in files if CANARY.encode() in path.read_bytes() or CANARY in path.name]
    assert not [path for path in files if CANARY in str(path)]


def test_keys_are_known_by_their_look_too_and_short_ones_do_not_eat_words(monkeypatch: pytest.MonkeyPatch) -> None:
    assert redact("a sk-abcdefghijklmnopqrstuv b") == "a key*** b" and redact("ask-me-anything") == "ask-me-anything"
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    assert redact("there are none") == "there are none"


def test_studio_serve_is_such_an_endpoint() -> None:
    """End to end with our own server and the starter: the same words, counted and seeded."""
    process = subprocess.Popen(
        [sys.executable, "-m", "studio", "serve", "starter", "--port", "0", "--context", "512", "--json"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, "it ended"
            text += line
        served = json.loads(text)
        with Speakers([f"{served['address']}#{served['models'][-1]}", "starter"], context=512) as (there, here):
            for draw in (Draw(max_tokens=24), Draw(2, 0.8, 0.95, 40, 0.05, 24, 3)):
                assert there.say(TALK, draw) == here.say(TALK, draw)
            assert there.say(TALK)[0].text and there.weighs and here.weighs
            assert there.say(TALK, Draw(max_tokens=1))[0].tokens == 1
            asked = [{"role": "user", "content": "A: A foal. B: A calf. Say A or B."}]
            for words in ([" A", " B"], [" The", " A", " In"]):  # it goes on with the text: a blank comes first
                weighed = there.weigh(asked, words)
                assert weighed == pytest.approx(here.weigh(asked, words), abs=1e-4) and min(weighed) > 0.01
            # " B" is told; "B" is not among the 20 likeliest, and is what the two differ by
            assert judge.weighed(there, asked) == pytest.approx(judge.weighed(here, asked), abs=2e-3)
            assert there.weigh(asked, [" A", "zebra"]) == [1.0, 0.0] and min(here.weigh(asked, [" A", "zebra"])) > 0
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def test_probabilities_are_told_as_logarithms_and_odd_ones_are_none() -> None:
    odd = [{"content": None}, {"content": []}, None, {"content": [{"token": "A", "logprob": "much"}]}]
    for told in odd:
        choice = {"message": {"content": "A"}, "finish_reason": "stop", "logprobs": told}
        with Scripted() as server, Speakers([server.name]) as (speaker,):
            server.failures.append({"choices": [choice]})
            assert not speaker.weighs
