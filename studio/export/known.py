"""What an exported file is compared with: a base, the adapter on it, the renderer of its training, its questions."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import events, paths
from studio.data.records import Conversation
from studio.errors import ExportError, RunError, StudioError
from studio.export import probes
from studio.models import check, elsewhere, hub
from studio.render import encode
from studio.runs import Run
from studio.train import prepare
from studio.train.prepare import Trained

if TYPE_CHECKING:
    from studio.render.encode import Renderer

#: Questions that the stop test of a certificate asks.
ENOUGH = 20
_LIBRARIES = ("torch", "transformers", "peft", "gguf", "llama-cpp-python")


@dataclasses.dataclass(frozen=True)
class Question:
    """A held-out question, with the answers of the run before and after it learned, where they are known."""

    prompt: str
    before: str = ""
    after: str = ""


@dataclasses.dataclass(frozen=True)
class Known:
    """The reference of a certificate. `adapter` None: the base as it is, or (`tuned`) a whole trained model.

    `neutral`: its training rows are not here, and the questions are Studio's own.
    """

    name: str
    base: Path
    adapter: Path | None
    renderer: Renderer
    tuned: bool
    questions: Sequence[Question] = ()
    data: str = ""
    neutral: bool = False

    @property
    def chats(self) -> bool:
        """Tell whether a file of it has a template: a base without one of its own has none."""
        return self.tuned or not self.renderer.added

    @property
    def end(self) -> str | None:
        """Give the token at which a file of it stops: the end of a turn, or a base's end of text."""
        found = self.renderer.stop_tokens[0] if self.chats else self.renderer.tokenizer.eos_token
        return str(found) if found else None


def of_model(name: str, base: Path, template: str = "") -> Known:
    """Make a model without an adapter the reference."""
    check.inspect(str(base))
    return Known(name, base, None, encode.load(base, template), tuned=False)


def of_run(run: Run) -> Known:
    """Make a trained run the reference.

    Raises ExportError for one that answers nothing, RunError where its base is gone.
    """
    made = Trained.of(run)
    if "scores" in made.about:
        raise ExportError(
            f"Run {run.id} is a reward model: it scores answers and writes none, so there is no file to chat with.",
            f"Train with its scores, as `--method ppo --reward {run.id}`, and export that run.",
        )
    if not made.base.is_dir():
        raise RunError(f"The base of {run.id} is gone: {made.base}", "Put the model back, or train again.")
    # A whole trained model carries its template; an adapter's base may be without the one that was trained on.
    renderer = encode.load(made.base, made.about.get("template", "") if made.adapter else "")
    examples = ((run.result() or {}).get("behaviour") or {}).get("examples") or []
    questions = [Question(e["prompt"], e.get("before", ""), e.get("after", "")) for e in examples]
    questions += _learned(run, ENOUGH - len(questions), {question.prompt for question in questions})
    neutral = not questions
    questions = questions or _neutral()
    return Known(run.id, made.base, made.adapter, renderer, True, questions, run.config.data, neutral)


def of_adapter(folder: Path, base: Path, template: str = "") -> Known:
    """Make an adapter that was made elsewhere the reference: a PEFT folder on the base that it was made for.

    Tokenizer and chat template are its own where it brings them, else the base's; `template` names a family instead.
    Where there is none at all, it is not known how its conversations looked, and its files have none. Nor are its rows
    known: it is asked Studio's own questions. Raises ModelError when the two do not fit.
    """
    elsewhere.inspect(folder, str(base))
    renderer = encode.load(base, template, adapter=folder)
    tuned = bool(template) or not renderer.added
    return Known(str(folder), base, folder, renderer, tuned, _neutral(), neutral=True)


def of_job(run: Run, emit: events.Emit | None = None, should_stop: Callable[[], bool] | None = None) -> Known:
    """Give what an export or a merge is, or was, made of: a run, an adapter made elsewhere, or a model."""
    parent, options, model = run.parent(), run.config.options, run.config.model
    if parent is not None:
        return of_run(parent)
    base, template = hub.resolve(model, emit, should_stop), str(options.get("template") or "")
    if options.get("adapter"):
        return of_adapter(Path(options["adapter"]), base, template)
    return of_model(model, base, template)


def _neutral() -> list[Question]:
    return [Question(text) for text in probes.QUESTIONS[:ENOUGH]]


def _learned(run: Run, count: int, known: set[str]) -> list[Question]:
    """Give questions of the training rows, where too few were held out: the first turn of each, without answers."""
    if count <= 0:
        return []
    try:
        data, _, _ = prepare.rows_of(run, lambda _: None, lambda: False)
        records = data.records()
    except StudioError:  # the file is gone: what was held out has to do
        return []
    found: list[Question] = []
    for record in records:
        turns = record.messages if isinstance(record, Conversation) else getattr(record, "prompt", ())
        asked = next((turn.content for turn in turns if turn.role == "user"), "")
        if asked and asked not in known and not any(turn.role == "system" for turn in turns):
            known.add(asked)
            found.append(Question(asked))
        if len(found) == count:
            break
    return found


def about(known: Known) -> dict[str, Any]:
    """Name what a file was made of by hashes, and the libraries that made it; "" where there is none.

    Certificates travel with their files: names, and no places on this machine.
    """
    shards = check.weight_files(known.base)
    base = hashlib.sha256("".join(paths.sha256(shard) for shard in shards).encode()).hexdigest()
    adapter = known.adapter / "adapter_model.safetensors" if known.adapter else None
    data = Path(known.data).expanduser() if known.data else None
    return {
        "base": {
            "name": hub.repository(known.base) or known.base.name,
            "sha256": paths.sha256(shards[0]) if len(shards) == 1 else base,
        },
        "adapter": {"name": known.name if known.adapter else "", "sha256": paths.sha256(adapter) if adapter else ""},
        "data": {"name": data.name if data else "", "sha256": paths.sha256(data) if data and data.is_file() else ""},
        "template": {
            "name": known.renderer.family,
            "sha256": hashlib.sha256(known.renderer.source.encode()).hexdigest() if known.chats else "",
        },
        "versions": {name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
