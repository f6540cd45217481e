"""`studio VERB ...`: find the verb, run it, and turn errors into one message and an exit code.

0 done; 2 the user's input is at fault; 3 a check was made and does not hold; 1 our fault; 130 stopped.
"""

from __future__ import annotations

import argparse
import logging
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from studio import worker
from studio.cli import (
    chat,
    data,
    disk,
    doctor,
    evaluate,
    export,
    feedback,
    lab,
    models,
    push,
    recipe,
    running,
    serve,
    train,
    verify,
    votes,
    window,
)
from studio.cli.output import Out
from studio.errors import ConfigError, Stopped, StudioError

GROUPS = (
    window,
    models,
    data,
    train,
    running,
    export,
    verify,
    push,
    chat,
    serve,
    evaluate,
    votes,
    recipe,
    lab,
    disk,
    doctor,
    feedback,
)


class _Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing a usage line and leaving."""
        raise ConfigError(message, f"See: {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """Build the parser from all groups of verbs."""
    root = _Parser(prog="studio", description="Turn a base model into an assistant, and prove what came out.")
    verbs = root.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--json", action="store_true", help="print exactly one JSON document")
    for group in GROUPS:
        group.add(verbs, common)
    return root


def _read(root: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Read the words; the first that is not known is named, with the way a setting is given."""
    found, unknown = root.parse_known_args(list(words))
    if not unknown:
        return found
    verb = f"{root.prog} {found.verb}" if found.verb else root.prog
    word, equals, value = unknown[0].partition("=")
    remedy = f"See: {verb} --help"
    if word.startswith("--") and hasattr(found, "setting"):  # how this verb takes settings
        value = value if equals else next(iter(unknown[1:]), "VALUE")
        remedy = f"A setting is given as {found.setting}{word[2:].replace('-', '_')}={value}. {remedy}"
    raise ConfigError(f"{verb} knows no {word}.", remedy)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and leave with its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    sys.exit(run(words))


def run(words: Sequence[str]) -> int:
    """Run one command and give its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    out = Out("--json" in words)
    worker.quiet()
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    try:
        root = parser()
        chosen = _read(root, words)
        if chosen.verb is None:
            root.print_help()
            return 0
        return int(chosen.do(chosen, out) or 0)
    except StudioError as error:
        out.error(error)
        return error.exit_code
    except KeyboardInterrupt:
        out.error(Stopped("Stopped."))
        return Stopped.exit_code
    except BrokenPipeError:
        return 0
    except Exception as error:
        from studio import paths

        log = paths.home() / "errors.log"
        with log.open("a", encoding="utf-8") as file:
            traceback.print_exc(file=file)
        out.error(
            StudioError(
                f"Something went wrong in Studio itself: {type(error).__name__}: {str(error)[:200]}",
                f"The details are in {log}. Please report them.",
            )
        )
        return 1


if __name__ == "__main__":
    main()
