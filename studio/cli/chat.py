"""`studio chat RUN|ADAPTER|MODEL|GGUF [--against base|...]`: ask once with --prompt, or talk."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.chat.session import Pane, Session, why
from studio.cli.export import BASE
from studio.cli.output import Out
from studio.cli.running import watching
from studio.errors import ConfigError, RunError
from studio.export import speaking
from studio.models import elsewhere

Turn = dict[str, Any]


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("chat", parents=[common], help="chat with a run or a GGUF file, side by side if you like")
    verb.add_argument("who", metavar="RUN|ADAPTER|MODEL|GGUF")
    verb.add_argument("--prompt", default="", help="ask this once and leave")
    verb.add_argument("--system", default="", help="a system text")
    verb.add_argument("--temperature", type=float, default=0.0, help="0: always the likeliest token")
    verb.add_argument("--top-p", type=float, default=0.95, help="the likeliest tokens that hold this share")
    verb.add_argument("--top-k", type=int, default=40, help="so many of the likeliest tokens; 0: all")
    verb.add_argument("--min-p", type=float, default=0.05, help="tokens at least this likely beside the likeliest")
    verb.add_argument("--repeat-penalty", type=float, default=1.0, help="above 1: what was said gets less likely")
    verb.add_argument("--max-tokens", type=int, default=256)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--template", default="", metavar="FAMILY|FILE", help="a chat template in place of its own")
    verb.add_argument("--thinking", choices=("on", "off"), help="for templates that can do both")
    verb.add_argument("--shift", action="store_true", help="leave out the oldest turns when the context is full")
    add_panes(verb)
    verb.set_defaults(do=_chat)


def add_panes(verb: argparse.ArgumentParser) -> None:
    """Add what says which models answer, and where."""
    verb.add_argument("--model", default="", metavar="BASE", help=BASE)
    verb.add_argument("--against", default="", metavar="base|RUN|...|GGUF", help="a second model to answer beside")
    verb.add_argument("--strength", type=float, help="of the run's adapter: 0 is the base, 1 as trained, up to 1.5")
    verb.add_argument("--context", type=int, default=2048, help="tokens of a conversation, answers included")
    verb.add_argument("--device", choices=("auto", "cpu"), default="auto", help="cpu: nothing goes to the GPU")


def panes(args: argparse.Namespace) -> list[Pane]:
    """Give the panes asked for, the other one first; a run and its base share one copy of the weights.

    Raises RunError and ConfigError.
    """
    if args.context < 8:
        raise ConfigError("--context must be 8 or more.", "2048 is usual.")
    if args.strength is not None and not 0 <= args.strength <= 1.5:
        raise ConfigError("--strength must be from 0 to 1.5.", "0 is the base, 1 the adapter as trained.")
    tuned = _pane("tuned", args.who, args.model, together=bool(args.against) or args.strength is not None)
    if args.strength is not None:
        if not tuned.adapter:
            raise RunError(
                f"There is no adapter in {args.who} to make stronger or weaker.", "Name a LoRA run or adapter."
            )
        tuned = dataclasses.replace(tuned, strength=args.strength)
    if not args.against:
        return [tuned]
    if args.against != "base":
        base = args.model if elsewhere.folder_of(args.against) else ""
        return [_pane(Path(args.against).name, args.against, base, together=True), tuned]
    return [speaking.base_of(args.who, args.model, tuned), tuned]


def _pane(name: str, who: str, base: str, together: bool) -> Pane:
    with watching() as watch:
        found = speaking.find(name, who, base, together=together, **watch)
    if found.note:
        print(found.note, file=sys.stderr)
    return found.pane


def _chat(args: argparse.Namespace, out: Out) -> None:
    session = Session(panes(args), n_ctx=args.context, device=args.device)
    options = {name: getattr(args, name) for name in _OPTIONS}
    options["overflow"] = "shift" if args.shift else ""
    if args.template:
        file = Path(args.template)
        text = file.read_text("utf-8") if file.is_file() else args.template
        for index in range(len(session.panes)):
            session.change(index, template=text, raw=False)
    if args.thinking:
        options["template_args"] = {"enable_thinking": args.thinking == "on"}
    try:
        for told in session.load():
            if told["reason"]:
                print(f"{told['device']}: {told['reason']}.", file=sys.stderr)
        if args.prompt or args.json:
            histories = [[{"role": "user", "content": args.prompt}] for _ in session.panes]
            answers = _ask(session, histories, options, live=False)
            if args.json:
                answers = [{**answer, "identity": session.identity(i)} for i, answer in enumerate(answers)]
            out.result({"answers": answers}, "\n\n".join(f"{a['who']}: {a['text']}" for a in answers))
        else:
            _talk(session, options)
    finally:
        session.close()


_OPTIONS = ("system", "temperature", "top_p", "top_k", "min_p", "repeat_penalty", "max_tokens", "seed")


def _ask(
    session: Session, histories: Sequence[Sequence[Turn]], options: dict[str, Any], live: bool
) -> list[dict[str, Any]]:
    answers: list[dict[str, Any]] = [
        {"who": pane.name, "text": "", "tokens": 0, "stopped": False, "tokens_per_s": 0.0} for pane in session.panes
    ]
    alone = len(answers) == 1
    for item in session.ask(histories, **options):
        answer = answers[item["pane"]]
        if "error" in item:
            answer["text"] += f"[{item['error']['message']}]"
        elif item.get("done"):
            answer.update(tokens=item["tokens"], stopped=item["stopped"], tokens_per_s=round(item["tokens_per_s"], 1))
            answer.update(why=why(item), left_out=item["left_out"])
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
            if answer.get("left_out"):
                print(f"\n{answer['left_out']} of the oldest turns had no room and were left out.", file=sys.stderr)
