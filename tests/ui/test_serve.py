"""The real server, asked over the wire: locked, on one loopback address, deaf to a hostile environment."""

from __future__ import annotations

import http.client
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from studio import loopback
from studio.errors import InputError
from studio.ui import serve

HOSTILE = {
    "GRADIO_SHARE": "True",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_ALLOWED_PATHS": "/etc",
    "GRADIO_ROOT_PATH": "http://evil.example",
    "GRADIO_MCP_SERVER": "True",
    "GRADIO_ANALYTICS_ENABLED": "True",
}


@pytest.fixture
def window(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[serve.Window]:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    made = serve.prepare(7960)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    end = time.monotonic() + 60
    while not made.server.started and time.monotonic() < end:
        time.sleep(0.05)
    yield made
    made.server.should_exit = True
    thread.join(20)


def ask(
    window: serve.Window, path: str, headers: dict[str, str] | None = None, method: str = "GET", body: str = ""
) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", window.door.port, timeout=20)
    connection.request(method, path, body or None, headers or {})
    reply = connection.getresponse()
    return reply.status, reply.read().decode("utf-8", "replace")


def test_the_window_is_locked_and_opens_once(window: serve.Window) -> None:
    for path in ("/", "/config", "/gradio_api/info", "/gradio_api/heartbeat/x", "/docs", "/openapi.json", "/theme.css"):
        assert ask(window, path)[0] == 401, path
    connection = http.client.HTTPConnection("127.0.0.1", window.door.port, timeout=20)
    connection.request("GET", window.door.new_link().partition(str(window.door.port))[2])
    reply = connection.getresponse()
    cookie = {"Cookie": reply.getheader("set-cookie", "").split(";")[0]}
    status, page = ask(window, "/", cookie)
    assert status == 200 and "Studio" in page
    assert "googleapis" not in page and "evil.example" not in page
    _, config = ask(window, "/config", cookie)
    assert '"analytics_enabled":false' in config and "evil.example" not in config
    for path in ("/docs", "/openapi.json"):
        assert ask(window, path, cookie)[0] in (404, 405), path
    for path in ("/gradio_api/file=/etc/passwd", f"/gradio_api/file={serve.paths.home() / 'window.key'}"):
        status, text = ask(window, path, cookie)
        assert status in (403, 404) and "root:" not in text, path
    status, text = ask(
        window, "/gradio_api/call/nothing", {**cookie, "Content-Type": "application/json"}, "POST", '{"data": ['
    )
    assert status >= 400 and "Traceback" not in text


def test_it_listens_on_one_loopback_address_only(window: serve.Window) -> None:
    mine = [
        c
        for c in psutil.Process().net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == window.door.port
    ]
    assert [c.laddr.ip for c in mine] == ["127.0.0.1"]


def test_the_environment_cannot_widen_it(window: serve.Window) -> None:
    assert {name for name in os.environ if name.startswith("GRADIO_")} == {
        "GRADIO_ANALYTICS_ENABLED",
        "GRADIO_TEMP_DIR",
    }
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and os.environ["HF_HUB_DISABLE_TELEMETRY"] in ("1", "True")


def test_the_key_is_the_owners_and_lasts(home: Path) -> None:
    first = loopback.secret("window.key")
    assert loopback.secret("window.key") == first and len(first) >= 43
    if os.name == "posix":
        assert (home / "window.key").stat().st_mode & 0o077 == 0


def test_a_taken_port_leads_to_the_next() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        sock = serve._free_port(port)
        assert sock.getsockname()[1] != port
        sock.close()


def test_no_free_port_is_said_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Never(socket.socket):
        def bind(self, address: object) -> None:
            raise OSError

    monkeypatch.setattr(serve.socket, "socket", Never)
    with pytest.raises(InputError, match="No port") as caught:
        serve._free_port(7860)
    assert "--port" in caught.value.remedy


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signal to one process")
def test_ctrl_c_ends_app_py_in_silence_also_where_the_signal_was_ignored_before(home: Path) -> None:
    root = Path(__file__).parents[2]
    env = {**os.environ, "STUDIO_HOME": str(home), "BROWSER": "true", "PYTHONUNBUFFERED": "1"}
    command = f"trap '' INT; exec {shlex.quote(sys.executable)} app.py"  # ignored, as behind nohup or before &
    window = subprocess.Popen(
        ["sh", "-c", command],
        cwd=root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert window.stdout is not None
        line = next(line for line in window.stdout if "Studio is at" in line)
        httpx.get(line.split()[-1], timeout=30)  # answers once it listens to signals, too
        window.send_signal(signal.SIGINT)
        _, said = window.communicate(timeout=20)
    finally:
        window.kill()
    assert (window.returncode, said) == (130, "")
