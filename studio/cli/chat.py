"""`studio chat RUN|GGUF [--against base|RUN|GGUF]`: ask once with --prompt, or talk."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import studio
from studio import runs
from studio.chat.session import Pane, Session
from studio.cli.output import Out
from studio.cli.running import watching
from studio.errors import RunError

Turn = dict[str, str]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("chat", parents=[common], help="chat with a run or a GGUF file, side by side if you like")
    verb.add_argument("who", metavar="RUN|GGUF")
    verb.add_argument("--against", default="", metavar="base|RUN|GGUF")
    verb.add_argument("--prompt", default="", help="ask this once and leave")
    verb.add_argument("--system", default="", help="a system text")
    verb.add_argument("--temperature", type=float, default=0.0)
    verb.add_argument("--max-tokens", type=int, default=256)
    verb.add_argument("--seed", type=int, default=0)
    verb.set_defaults(do=_chat)


def _panes(args: argparse.Namespace) -> list[Pane]:
    panes = [Pane("tuned", _file(args.who))]
    if args.against == "base":
        if not runs.is_run(args.who):
            raise RunError("--against base needs a run: a GGUF file does not say what its base is.", "Name two files.")
        panes.insert(0, Pane("base", _base(runs.find(args.who)), raw=True))
    elif args.against:
        panes.insert(0, Pane(Path(args.against).name, _file(args.against)))
    return panes


def _file(name: str) -> str:
    """Give a GGUF file: named, or the newest export of a run, or one made now."""
    if Path(name).suffix == ".gguf":
        return str(Path(name).expanduser().resolve())
    run = runs.find(name)
    result = run.result() if run.config.kind == "export" else _exported(run)
    if result is None:
        print(f"Exporting {run.id} as Q8_0 first.", file=sys.stderr)
        with watching() as watch:
            result = studio.export_model(str(run.dir), **watch)
    return str(result["files"][0]["path"])


def _exported(run: runs.Run) -> dict[str, Any] | None:
    for child in runs.children(run):
        result = child.result() if child.config.kind == "export" else None
        if result is not None and all(Path(f["path"]).is_file() for f in result["files"]):
            return result
    return None


def _base(run: runs.Run) -> str:
    from studio.export import chatfiles
    from studio.train.prepare import Trained

    trained = run if run.config.kind == "train" else run.parent()
    if trained is None:
        raise RunError(f"{run.id} has no base to compare with.", "Name a run that was trained.")
    return str(chatfiles.of_base(Trained.of(trained).root))


def _chat(args: argparse.Namespace, out: Out) -> None:
    panes = _panes(args)
    session = Session(panes)
    options = {"system": args.system, "temperature": args.temperature, "max_tokens": args.max_tokens, "seed": args.seed}
    try:
        session.load()
        if args.prompt or args.json:
            histories = [[{"role": "user", "content": args.prompt}] for _ in panes]
            answers = _ask(session, histories, options, live=False)
            out.result({"answers": answers}, "\n\n".join(f"{a['who']}: {a['text']}" for a in answers))
        else:
            _talk(session, options)
    finally:
        session.close()


def _ask(session: Session, histories: list[list[Turn]], options: dict[str, Any], live: bool) -> list[dict[str, Any]]:
    answers = [
        {"who": pane.name, "text": "", "tokens": 0, "stopped": False, "tokens_per_s": 0.0} for pane in session.panes
    ]
    alone = len(answers) == 1
    for item in session.ask(histories, **options):
        answer = answers[item["pane"]]
        if "error" in item:
            answer["text"] += f"[{item['error']['message']}]"
        elif item.get("done"):
            answer.update(tokens=item["tokens"], stopped=item["stopped"], tokens_per_s=round(item["tokens_per_s"], 1))
        else:
            answer["text"] += item["text"]
            if live and alone:
                print(item["text"], end="", flush=True)
    return answers


def _talk(session: Session, options: dict[str, Any]) -> None:
    print("Ctrl+D ends the chat.", file=sys.stderr)
    histories: list[list[Turn]] = [[] for _ in session.panes]
    while True:
        try:
            said = input("\n> ").strip()
        except EOFError:
            return
        if not said:
            continue
        for history in histories:
            history.append({"role": "user", "content": said})
        answers = _ask(session, histories, options, live=True)
        for history, answer in zip(histories, answers, strict=True):
            history.append({"role": "assistant", "content": answer["text"]})
            if len(answers) > 1:
                print(f"{answer['who']}: {answer['text']}")
