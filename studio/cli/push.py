"""`studio push RUN --repo ID`: a trained run on the hub, with a model card."""

from __future__ import annotations

import argparse
from typing import Any

from studio import runs, worker
from studio.cli.output import Out
from studio.cli.running import watching
from studio.disk import size
from studio.export import push


def add(verbs: Any, common: argparse.ArgumentParser) -> None:
    """Add the verb."""
    verb = verbs.add_parser("push", parents=[common], help="push a run to the hub, with a model card")
    verb.add_argument("run")
    verb.add_argument("--repo", required=True, metavar="[ORG/]NAME", help="the repository; made where it is not there")
    verb.add_argument("--what", choices=push.WHAT, default="adapter", help="gguf: the files of its newest export")
    verb.add_argument("--private", action="store_true", help="only you (or your organisation) can see it")
    verb.set_defaults(do=_push)


def _push(args: argparse.Namespace, out: Out) -> None:
    source = runs.find(args.run)
    repo = push.check_repo(args.repo)
    push.check_source(source, args.what)
    options = {"source": str(source.dir), "repo": repo, "what": args.what, "private": args.private}
    title = f"push {source.config.title} to {repo}"
    config = runs.RunConfig("push", title, source.config.model, parent=str(source.dir), options=options)
    with watching() as watch:
        result = worker.work(runs.create(config), **watch)
    text = f"{result['url']}: {len(result['files'])} files, {size(result['bytes'])}, commit {result['commit'][:12]}"
    out.result(result, text)
