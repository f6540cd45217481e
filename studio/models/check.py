"""Look at a model folder before anything is loaded from it: is it whole, is it safe, can we train and export it?

Reads JSON, safetensors headers and a few rows of the embedding only: no code of the folder is run, nothing is
unpickled, no framework is imported, nothing that leads out of the folder is opened.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.events import Emit
from studio.models import agreement, architecture, family, hub, tensors, tokenizer
from studio.models.architecture import EMBEDDING, EXPORTABLE, embedding_of, support, whole
from studio.models.folder import inside, read_json, read_object, read_text, refuse_code
from studio.models.shape import Shape
from studio.models.tensors import TensorInfo, read_header, read_tensors, weight_files

__all__ = [
    "EXPORTABLE",
    "ModelInfo",
    "TensorInfo",
    "context_of",
    "control_tokens",
    "inspect",
    "read_config",
    "read_header",
    "read_json",
    "read_template",
    "read_tensors",
    "read_vocabulary",
    "refuse_damaged",
    "refuse_nan",
    "special_tokens",
    "support",
    "weight_files",
]

#: A control token's embedding shorter than this share of the median row was never trained (Llama 3 base: about 0.01).
UNTRAINED_NORM = 0.35
_SAMPLE = 4096  # rows of the embedding whose median length stands for all

#: Tokens of a tokenizer that text never needs, and the text model has no row for.
_NO_ROW = {"<image_soft_token>"}
_MOST = 1 << 31


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a model card in the window says; sizes are in bytes, `context` in tokens.

    `template` says whether the model has a chat template, `template_source` in which file (or of which family);
    `untrained` lists the control tokens of that template that the model never learned (or has not at all);
    `revision` is the hub's commit; `use` says what can be done with the architecture; `template_problem` is filled in
    where the template is tried (render/vet).
    """

    name: str
    folder: str
    revision: str
    architecture: str
    parameters: int
    layers: int
    hidden_size: int
    vocab_size: int
    context: int
    bytes: int
    dtype: str
    template: str
    template_source: str
    family: str
    end_of_turn: str
    stop_tokens: list[str]
    untrained: list[str]
    licence: str
    exportable: bool
    use: str
    config: dict[str, Any]
    template_problem: str = ""

    @property
    def shape(self) -> Shape:
        """The numbers that the memory estimate needs."""
        return Shape.of(self.config, self.vocab_size)


def inspect(model: str, emit: Emit | None = None, should_stop: Callable[[], bool] | None = None) -> ModelInfo:
    """Check a model (`starter`, a folder, a hub id or address) and describe it; a hub's model is fetched first.

    Raises ModelError with a remedy when it cannot be used.
    """
    folder = hub.resolve(model, emit, should_stop)
    _plain_files(folder)
    config = read_config(folder)
    kind = architecture.choose(config, folder)
    found = read_tensors(folder)
    vocabulary = read_vocabulary(folder)
    exportable, use = support(kind, config, tokenizer.read(folder))
    embedding = embedding_of(found, config, folder)
    _check_vocabulary(vocabulary, embedding, folder)
    own, file = read_template(folder), _template_file(folder)
    fam = family.choose(kind, vocabulary)
    source = own or fam.template
    stops = family.stop_tokens(source, vocabulary, special_tokens(folder)["eos_token"] or None)
    known = family.identify(own) if own else fam.name
    return ModelInfo(
        name="Studio starter" if model == "starter" else hub.repository(folder) or folder.name,
        folder=str(folder),
        revision=hub.revision(folder),
        architecture=kind,
        parameters=sum(math.prod(tensor.shape) for tensor in found),
        layers=whole(config, "num_hidden_layers", folder),
        hidden_size=whole(config, "hidden_size", folder),
        vocab_size=embedding.shape[0],
        context=context_of(config),
        bytes=sum(tensor.nbytes for tensor in found),
        dtype=max({t.dtype for t in found}, key=lambda d: sum(math.prod(t.shape) for t in found if t.dtype == d)),
        template="its own" if own else f"none of its own: {fam.title} is added",
        template_source=file if own else f"Studio's {fam.title}",
        family=known or "its own",
        end_of_turn=stops[0] if stops else fam.end_of_turn,
        stop_tokens=stops or [fam.end_of_turn],
        untrained=_untrained(_control(source, known, stops, vocabulary), vocabulary, embedding),
        licence=_licence(folder),
        exportable=exportable,
        use=use,
        config=config,
    )


def refuse_damaged(folder: Path, whole: bool = True) -> dict[str, Any]:
    """Refuse what reading config, tokenizer and template would trip over, follow out of the folder, or run.

    Of the weights, where there are some, only the embedding's size is looked at. Gives config.json, {} where there is
    none: a run's folder carries its tokenizer beside an adapter. `whole` False looks at tokenizer and template alone.
    Raises ModelError.
    """
    _plain_files(folder)
    path = folder / "config.json"
    refuse_code(read_tokenizer_config(folder), str(folder / "tokenizer_config.json"))
    config = read_config(folder) if whole and (path.exists() or path.is_symlink()) else {}
    vocabulary = read_vocabulary(folder)
    read_template(folder)
    if config and any(folder.glob("*.safetensors")):
        for tensor in read_tensors(folder):
            if tensor.name == EMBEDDING and tensor.shape:
                _check_vocabulary(vocabulary, tensor, folder)
    return config


def refuse_nan(folder: Path, emit: Emit | None = None, should_stop: Callable[[], bool] | None = None) -> None:
    """Read all weights and raise ModelError when one is not a number or infinite; names the first such tensors."""
    odd = list(tensors.not_finite(read_tensors(folder), emit, should_stop))
    if odd:
        named = "; ".join(f"{tensor.name}: {nans} NaN, {infinite} infinite" for tensor, nans, infinite in odd[:3])
        more = f" and {len(odd) - 3} more tensors" if len(odd) > 3 else ""
        raise ModelError(
            f"The weights are not all numbers: {named}{more}.",
            "The model is damaged: download it again, or choose another.",
            file=str(odd[0][0].file),
        )


def read_config(folder: Path) -> dict[str, Any]:
    """Read config.json and refuse what could run code."""
    path = folder / "config.json"
    config = read_object(path)
    refuse_code(config, str(path))
    refuse_code(read_tokenizer_config(folder), str(folder / "tokenizer_config.json"))
    if scripts := sorted(folder.glob("*.py")):
        raise ModelError(
            f"The folder holds Python code ({scripts[0].name}).",
            "Studio never runs code from a model folder. Remove the file, or choose another model.",
            file=str(scripts[0]),
        )
    if (folder / "adapter_config.json").exists():
        raise ModelError(
            "The folder holds an adapter (adapter_config.json), which would be loaded in the model's place.",
            "Choose the base model's own folder.",
            file=str(folder / "adapter_config.json"),
        )
    return config


def _plain_files(folder: Path) -> None:
    """Refuse links that leave the folder, and what is no file by the name of one."""
    for path in sorted([*folder.iterdir(), *folder.glob("additional_chat_templates/*")]):
        if path.suffix in (".json", ".jinja", ".model", ".txt", ".md", ".safetensors"):
            inside(path)


def read_vocabulary(folder: Path) -> dict[str, int]:
    """Read token -> id from the tokenizer's file, added tokens included."""
    path = tokenizer.file(folder)
    if not (path.exists() or path.is_symlink()):
        raise ModelError(
            "There is no tokenizer.json, and no tokenizer.model.",
            "Choose a model with a fast tokenizer.",
            file=str(folder),
        )
    data = tokenizer.read(folder)
    made: dict[str, int] = {}
    try:
        vocabulary = data["model"]["vocab"]
        if isinstance(vocabulary, list):
            vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary)}
        made.update(vocabulary)
        made.update({token["content"]: token["id"] for token in data.get("added_tokens") or []})
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        made = {}
    if not made or not all(type(i) is int and 0 <= i < _MOST and isinstance(word, str) for word, i in made.items()):
        raise ModelError(f"{path.name} holds no usable vocabulary.", "Download the model again.", file=str(path))
    return made


def control_tokens(folder: Path) -> list[str]:
    """List the special tokens of the tokenizer, once `read_vocabulary` found it sound."""
    return [token["content"] for token in tokenizer.read(folder).get("added_tokens") or [] if token.get("special")]


def read_template(folder: Path) -> str:
    """Read the model's own chat template, "" when it has none; ModelError when it is not text."""
    name = _template_file(folder)
    if not name or name.endswith(".jinja"):
        return read_text(folder / name, strict=True) if name else ""
    template = read_tokenizer_config(folder).get("chat_template")
    if isinstance(template, list):
        named = {str(entry.get("name")): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def _template_file(folder: Path) -> str:
    """Name the file that would hold the template; what stands there may still be none."""
    path = folder / "chat_template.jinja"
    if path.exists() or path.is_symlink():
        return "chat_template.jinja"
    return "tokenizer_config.json" if (folder / "tokenizer_config.json").exists() else ""


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Read tokenizer_config.json, {} where there is none."""
    path = folder / "tokenizer_config.json"
    return read_object(path) if path.exists() or path.is_symlink() else {}


def special_tokens(folder: Path) -> dict[str, str]:
    """Give the tokens that a tokenizer names (bos_token, eos_token, ...), "" for the first two where it does not."""
    own = tokenizer.pieces(folder)
    named = {"bos_token": own.bos if own else "", "eos_token": own.eos if own else ""}
    for name, token in read_tokenizer_config(folder).items():
        token = token.get("content") if isinstance(token, dict) else token
        if name.endswith("_token") and isinstance(token, str):
            named[name] = token
    return named


def context_of(config: dict[str, Any]) -> int:
    """Give how many tokens a model reads at most, 0 where its config does not say.

    No more than a window that llama.cpp does not know (agreement.window): beyond it a file would compute otherwise.
    """
    said = config.get("max_position_embeddings")
    longest = said if type(said) is int and said > 0 else 0
    return min(longest, agreement.window(config) or longest)


def _check_vocabulary(vocabulary: dict[str, int], embedding: TensorInfo, folder: Path) -> None:
    """Every token must have its row in the embedding."""
    rows = embedding.shape[0]
    beyond = {token: index for token, index in vocabulary.items() if index >= rows and token not in _NO_ROW}
    if beyond:
        token, index = max(beyond.items(), key=lambda item: item[1])
        raise ModelError(
            f"The tokenizer's {token[:80]!r} is token {index}, the model's embedding has {rows} rows.",
            "Take tokenizer and weights from the same source.",
            file=str(tokenizer.file(folder)),
        )


def _control(template: str, known: str, stops: list[str], vocabulary: dict[str, int]) -> list[str]:
    """List the control tokens that a template writes: its family's, and the end of a turn."""
    tokens = family.FAMILIES[known].control_tokens if known in family.FAMILIES else ()
    ends = [stop for stop in stops if stop in template]
    return [token for token in dict.fromkeys((*tokens, *ends)) if token in template]


def _untrained(control: list[str], vocabulary: dict[str, int], embedding: TensorInfo) -> list[str]:
    """List the control tokens without a row, or with one of hardly any length; reads a sample of the rows."""
    import numpy as np

    rows = embedding.shape[0]
    step = max(rows // _SAMPLE, 1)
    norms = np.linalg.norm(tensors.read_rows(embedding, range(0, rows, step)), axis=1)
    norms = norms[norms > 0]
    least = UNTRAINED_NORM * float(np.median(norms)) if len(norms) else math.inf
    known = [token for token in control if vocabulary.get(token, rows) < rows]
    lengths = np.linalg.norm(tensors.read_rows(embedding, [vocabulary[token] for token in known]), axis=1)
    short = {token for token, length in zip(known, lengths, strict=True) if not length >= least}
    return [token for token in control if token not in known or token in short]


def _licence(folder: Path) -> str:
    """Read the licence from the front matter of the model card, "" when there is none."""
    head = read_text(folder / "README.md").split("---")
    facts = dict[str, str]()
    for line in head[1].splitlines() if len(head) > 2 and not head[0].strip() else []:
        name, _, value = line.partition(":")
        facts[name.strip()] = value.strip().strip("'\"")[:80]
    licence = facts.get("license", "")
    return facts.get("license_name", licence) if licence == "other" else licence
