"""Start the window's server on this machine: environment, port, keys, browser. Nothing is fetched or shared."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from studio import loopback, paths
from studio.errors import InputError
from studio.loopback import ADDRESS
from studio.ui.guard import Door, Guard


def launch(port: int = 7860, browser: bool = True, data_dir: str = "", offline: bool = False) -> None:
    """Open the window at the first free port from `port` on, and serve until Ctrl+C.

    `data_dir` stands for STUDIO_HOME; `offline` keeps workers from the network. Raises InputError: no port is free; and
    in the end KeyboardInterrupt.
    """
    if data_dir:
        os.environ["STUDIO_HOME"] = str(Path(data_dir).expanduser().resolve())
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    window = prepare(port)
    link = window.door.new_link()
    print(f"Studio is at {link}\nThe address works once. Enter: a new address. Ctrl+C: end.", flush=True)
    if browser:
        threading.Thread(target=_open_browser, args=(link, window.server), daemon=True).start()
    threading.Thread(target=_warm, daemon=True).start()
    if sys.stdin is not None and sys.stdin.isatty():
        threading.Thread(target=_new_links, args=(window.door,), daemon=True).start()
    window.run()
    raise KeyboardInterrupt  # the server passes the signal on, which tells nobody where it was ignored before (nohup)


@dataclasses.dataclass
class Window:
    """A window that is ready to serve: its uvicorn server, its keys, its bound socket."""

    server: Any
    door: Door
    sock: socket.socket

    def run(self) -> None:
        """Serve until it is told to end."""
        self.server.run(sockets=[self.sock])


def prepare(port: int) -> Window:
    """Build everything without serving yet."""
    scrub_environment()
    import fastapi
    import uvicorn

    from studio.ui import recipefile, reports
    from studio.ui.shell import build, mount

    sock = _free_port(port)
    door = Door(sock.getsockname()[1], loopback.secret("window.key"))
    app = fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    reports.serve(app)  # before the window, which takes every other address
    recipefile.serve(app)
    mount(app, build(), door.port)
    _log_to_file()
    config = uvicorn.Config(
        Guard(app, door),
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=1,  # an open tab holds a connection for as long as it is open
    )
    return Window(uvicorn.Server(config), door, sock)


def scrub_environment() -> None:
    """Take away every switch that could widen the window, and turn off every telephone call home."""
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["DO_NOT_TRACK"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str(paths.home() / "uploads")


def _free_port(port: int) -> socket.socket:
    """Bind the first free port of a hundred; the socket itself is handed on, so nobody can slip in between."""
    for number in range(port, port + 100):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there the option would let two windows share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((ADDRESS, number))
        except OSError:
            sock.close()
            continue
        return sock
    raise InputError(f"No port from {port} to {port + 99} is free.", "Choose another with --port.")


def _log_to_file() -> None:
    """Send warnings and tracebacks of the window to a file of their own; none of them reaches a page."""
    from logging.handlers import RotatingFileHandler

    handler = RotatingFileHandler(paths.home() / "window.log", maxBytes=1 << 20, backupCount=1, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)


def _open_browser(link: str, server: Any) -> None:
    import time
    import webbrowser

    end = time.monotonic() + 60
    while not server.started and time.monotonic() < end:
        time.sleep(0.1)
    webbrowser.open(link)


def _warm() -> None:
    """Load what the chat speaks with, where that is very small; nobody waits for it, and a fault is told when asked."""
    from studio.ui import talk

    try:
        talk.ahead()
    except Exception as error:
        logging.getLogger("studio.window").error("the chat could not be opened ahead", exc_info=error)


def _new_links(door: Door) -> None:
    """Print a fresh address whenever Enter is pressed: another browser, or the first one closed too early."""
    for _ in sys.stdin:
        print(f"Studio is at {door.new_link()}", flush=True)
