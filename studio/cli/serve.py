"""`studio serve RUN|GGUF [--against base|RUN|GGUF --split 0.5]`: an OpenAI-compatible server on this machine."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from studio import events, loopback, paths
from studio.chat import serve
from studio.chat.session import Pane, Session
from studio.cli import chat
from studio.cli.output import Out
from studio.data import preferences
from studio.data.trial import SOURCE, Trial, lines
from studio.errors import ConfigError, InputError


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser(
        "serve",
        parents=[common],
        help="serve a run or a GGUF file to OpenAI-compatible clients",
        description="Chat completions, whole or streamed, with logprobs and top_logprobs (up to 20) where they are "
        "asked for: the model's own probabilities. With --against also thumbs (POST /v1/feedback), kept as a set that "
        "trains, and how the two compare (GET /v1/comparison).",
    )
    verb.add_argument("who", metavar="RUN|ADAPTER|MODEL|GGUF")
    chat.add_panes(verb)
    verb.set_defaults(context=4096)
    verb.add_argument("--split", type=float, help="RUN's share of the conversations, beside --against (0.5)")
    verb.add_argument("--trial", default="", metavar="SET", help="go on with an earlier comparison of the same two")
    verb.add_argument("--host", default=loopback.ADDRESS, help="an address of this machine")
    verb.add_argument("--port", type=int, default=8080, help="0: any that is free")
    verb.add_argument("--allow-remote", action="store_true", help="let other machines in, with a key")
    verb.add_argument("--shift", action="store_true", help="leave out the oldest turns when the context is full")
    verb.set_defaults(do=_serve)


def _serve(args: argparse.Namespace, out: Out) -> None:
    """Serve until Ctrl+C."""
    if args.split is not None and not 0 <= args.split <= 1:
        raise ConfigError("--split must be from 0 to 1.", "0.5 sends half of the conversations to each.")
    if args.host not in (loopback.ADDRESS, "localhost") and not args.allow_remote:
        raise ConfigError(
            f"--host {args.host} would let other machines in.", "Add --allow-remote; clients then need a key."
        )
    sock = _listen(args.host, args.port)
    session = None
    try:
        panes = chat.panes(args)
        panes.reverse()  # the named model first: --split is its share
        session = Session(panes, n_ctx=args.context, device=args.device)
        told = session.load()
        if args.context > min(one["n_ctx_train"] for one in told):
            print("The model was trained on shorter conversations than --context allows.", file=sys.stderr)
        key = loopback.secret("serve.key") if args.allow_remote else ""
        port = sock.getsockname()[1]
        models = serve.served(session, _names(panes, args))
        trial = _trial(session, [model.name for model in models], args)
        app = serve.Server(
            session,
            models,
            hosts=None if args.allow_remote else loopback.hosts(port),
            key=key,
            trial=trial,
            overflow="shift" if args.shift else "",
        )
        address = f"http://{args.host}:{port}/v1"
        document = {"address": address, "models": [serve.ANY, *(model.name for model in models)], "key": key}
        said = f"Serving at {address} as {', '.join(document['models'])}. Ctrl+C: end."
        if trial is not None:
            document |= {"trial": trial.run.id, "dir": str(trial.run.dir)}
            said += (
                f"\nWho asks for {serve.ANY!r} gets one of the two by the hash of the conversation."
                f"\nQuestions and answers are kept in {trial.run.dir}."
                f"\nThumbs: POST {address}/feedback. How it stands: GET {address}/comparison."
            )
        out.result(document, said)
        if key and not args.json:
            print(f"Clients need this key: {key}")
        sys.stdout.flush()
        if trial is None:
            _run(app, sock)
        else:
            with _kept(trial):
                _run(app, sock)
    finally:
        sock.close()
        if session is not None:
            session.close()


def _trial(session: Session, names: list[str], args: argparse.Namespace) -> Trial | None:
    """Begin the comparison that --against asks for, or go on with it."""
    if len(names) < 2:
        for name in ("trial", "split"):
            if getattr(args, name) not in ("", None):
                raise ConfigError(f"--{name} is about two models.", "Name the second one with --against.")
        return None
    return Trial.begin(names, [session.identity(pane) for pane in range(len(names))], args.split, args.trial)


@contextlib.contextmanager
def _kept(trial: Trial) -> Iterator[None]:
    """Hold the comparison's run while it goes on, and write what came of it at the end."""
    run = trial.run
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # an end by the system is an end like Ctrl+C's
    with run.hold():
        writer = events.Writer(run.dir / "events.jsonl")
        writer(events.event("started", kind=run.config.kind, title=run.config.title, attempt=1))
        try:
            yield
        finally:
            counts = preferences.counts(preferences.records(run.dir))
            result = {"run": run.id, "dir": str(run.dir), "source": SOURCE, **counts, "comparison": trial.comparison()}
            paths.write_text(run.dir / "result.json", json.dumps(result, indent=1, ensure_ascii=False) + "\n")
            writer(events.event("finished", result=result))
            writer.close()
            told = "\n".join(lines(result["comparison"]))
            train = f"\nTrain on the thumbs: studio train kto --data {run.name}" if counts["kto"] else ""
            print(f"\n{told}{train}", file=sys.stderr)


def _names(panes: list[Pane], args: argparse.Namespace) -> list[str]:
    """Name the models after what was asked for."""
    wanted = [args.who, args.against][: len(panes)]
    names = [paths.slug(os.path.basename(name.rstrip("/\\")).removesuffix(".gguf"), "model") for name in wanted]
    taken = {serve.ANY}
    for index, name in enumerate(names):
        names[index] = name = name if name not in taken else f"{name}-{index + 1}"
        taken.add(name)
    return names


def _listen(host: str, port: int) -> socket.socket:
    """Take exactly this port: clients are told one address."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        if sys.platform != "win32":  # there the option would let two servers share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()  # a client that comes while the model loads waits
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}, port {port}, cannot be listened on: {error}", "Choose another --port.") from None
    return sock


def _run(app: serve.Server, sock: socket.socket) -> None:
    import uvicorn

    about: dict[str, Any] = {"log_config": None, "access_log": False, "server_header": False, "lifespan": "off"}
    # a client that no longer reads must not keep it from ending
    config = uvicorn.Config(app, ws="none", timeout_graceful_shutdown=3, **about)
    uvicorn.Server(config).run(sockets=[sock])
