"""What the window asks about models, answered in a child: foreign files are read there, and nobody waits for the hub.

inspect   {"model"} -> what a check of a model that is here says, as `describe` gives it
offer     {"model"} -> what the hub says about one that is not: `Offer`, as a dict
search    {"query"} -> {"models": [{"model", "downloads", "licence"}, ...]}, the most fetched first
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from studio.errors import ModelError, StudioError
from studio.models import architecture, check, experts, hub, listing, refusals
from studio.models.folder import refuse_code
from studio.models.shape import Shape

Document = dict[str, Any]

TIMEOUT = 10.0  # seconds without a byte
MAX_CONFIG = 1 << 20  # bytes
FOUND = 12  # models of a search
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")


@dataclasses.dataclass(frozen=True)
class Offer:
    """A model as the hub offers it; `bytes` are those that a download fetches.

    `access`: the hub gives us its files (None: it did not say). `refusal`: why Studio would not take it, as an error's
    JSON. `template`: the repository has a chat template of its own. `shape` is a Shape as a dict. `exportable` and
    `use` are what its config.json lets foresee of ModelInfo's. What is not known is empty or 0.
    """

    model: str
    commit: str
    page: str
    bytes: int
    gated: bool
    access: bool | None
    licence: str
    parameters: int
    template: bool
    architecture: str = ""
    layers: int = 0
    context: int = 0
    shape: Document = dataclasses.field(default_factory=dict)
    refusal: Document = dataclasses.field(default_factory=dict)
    exportable: bool = False
    use: str = ""


def handle(request: Document, cancelled: Callable[[], bool]) -> Iterator[Document]:
    """Answer one request."""
    if request["op"] == "offer":
        yield dataclasses.asdict(offer(request["model"]))
    elif request["op"] == "search":
        yield {"models": search(request["query"])}
    else:
        found = hub.here(request["model"])
        if found is None:
            raise ModelError(f"{request['model']} is not on this machine.", "Download it first.")
        yield describe(check.inspect("starter" if request["model"] == "starter" else str(found)))


def describe(info: check.ModelInfo) -> Document:
    """Give a model's facts as JSON: all of its card, and the shape that its memory follows from."""
    facts = dataclasses.asdict(info)
    del facts["config"]
    return {**facts, "shape": dataclasses.asdict(info.shape)}


def offer(model: str) -> Offer:
    """Ask the hub what it has under a name. Raises ModelError with a remedy: no such model, no network, no weights."""
    from huggingface_hub import constants

    wanted = hub.reference(model)
    with _told(wanted.repo, wanted.revision):
        answer = _object(_get(f"api/models/{wanted.repo}/revision/{quote(wanted.revision, safe='')}", blobs=True))
        commit, files, names = listing.read(answer)
        if not commit:
            raise ModelError(
                f"What answers at {constants.ENDPOINT} does not speak the hub's language.",
                "Check HF_ENDPOINT, and proxies.",
            )
        listing.refuse({file.name for file in files}, names, wanted.repo)
        config, access = _config(f"{wanted.repo}/resolve/{commit}/config.json", files)
    size = _bytes(files)
    return Offer(
        model=model,
        commit=commit,
        page=f"{constants.ENDPOINT}/{wanted.repo}",
        bytes=size,
        gated=bool(answer.get("gated")),
        access=access,
        licence=_licence(answer),
        parameters=_parameters(answer, size),
        template=any(name.startswith("chat_template.") for name in names) or _has_template(answer),
        **_known(config),
    )


def search(query: str) -> list[Document]:
    """Search the hub for language models with safetensors weights. Raises ModelError with a remedy."""
    with _told(query, "main"):
        wanted = {"search": query, "pipeline_tag": "text-generation", "filter": "safetensors"}
        found = _get("api/models", **wanted, sort="downloads", direction=-1, limit=FOUND)
    models = []
    for answer in found if isinstance(found, list) else []:
        name, count = _object(answer).get("id"), _object(answer).get("downloads")
        try:
            repo = hub.reference(str(name)).repo
        except ModelError:
            continue
        fetched = count if type(count) is int and count >= 0 else 0
        models.append({"model": repo, "downloads": fetched, "licence": _licence(answer)})
    return models[:FOUND]


@contextlib.contextmanager
def _told(repo: str, revision: str) -> Iterator[None]:
    """Turn what goes wrong on the way to the hub into a ModelError with a remedy."""
    from huggingface_hub import constants, errors

    if constants.is_offline_mode():
        raise refusals.offline(repo)
    try:
        yield
    except (errors.HTTPError, errors.OfflineModeIsEnabled) as error:
        raise refusals.told(error, repo, revision, constants.ENDPOINT) from None


def _get(path: str, **query: Any) -> Any:
    """Ask the hub; None when its answer is not JSON."""
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.utils import hf_raise_for_status

    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    headers = {"authorization": f"Bearer {token}"} if token else {}
    answer = get_session().get(f"{constants.ENDPOINT}/{path}", params=query, headers=headers, timeout=TIMEOUT)
    hf_raise_for_status(answer)
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _object(answer: Any) -> Document:
    return answer if isinstance(answer, dict) else {}


def _config(path: str, files: list[listing.Remote]) -> tuple[Document, bool | None]:
    """Read the repository's config.json, and tell whether the hub lets us; an empty one when it does not."""
    from huggingface_hub import errors

    if next((file.size for file in files if file.name == "config.json"), MAX_CONFIG + 1) > MAX_CONFIG:
        return {}, None
    try:
        return _object(_get(path)), True
    except errors.HfHubHTTPError as error:
        return {}, False if error.response.status_code in (401, 403) else None
    except errors.HTTPError:
        return {}, None


def _known(config: Document) -> Document:
    """Give what config.json says about a model, and whether Studio would take it."""
    if not config:
        return {}
    where = Path("config.json")
    facts: Document = {}
    try:
        refuse_code(config, str(where))
        facts["architecture"] = architecture.choose(config, where.parent)
        context = config.get("max_position_embeddings")
        facts["context"] = context if type(context) is int and 0 < context < 1 << 31 else 0
        shape = Shape.of(config, architecture.whole(config, "vocab_size", where.parent))
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            architecture.whole(config, name, where.parent)
        for name in experts.numbers(config):
            architecture.whole(config, name, where.parent)
        exportable, use = architecture.support(facts["architecture"], config)
        facts |= {"exportable": exportable, "use": use}
        return {**facts, "layers": shape.layers, "shape": dataclasses.asdict(shape)}
    except StudioError as error:
        return {**facts, "refusal": error.to_dict()}


def _bytes(files: list[listing.Remote]) -> int:
    """Add up what a download fetches, as far as the names tell (the index of the shards says it exactly)."""
    names = {file.name for file in files}
    sharded = listing.INDEX in names
    weights = [f for f in files if (_SHARD.fullmatch(f.name) if sharded else f.name == listing.SINGLE)]
    index = [file for file in files if sharded and file.name == listing.INDEX]
    return sum(file.size for file in (*listing.small(files), *index, *weights))


def _parameters(answer: Document, size: int) -> int:
    """Read the number of weights; of a repository that does not say it, half of the bytes (16 bits a weight)."""
    said = answer.get("safetensors")
    total = said.get("total") if isinstance(said, dict) else None
    return total if type(total) is int and 0 < total < 1 << 50 else size // 2


def _licence(answer: Document) -> str:
    tags = answer.get("tags")
    found = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    return next((tag.removeprefix("license:")[:80] for tag in found if tag.startswith("license:")), "")


def _has_template(answer: Document) -> bool:
    said = answer.get("config")
    tokenizer = said.get("tokenizer_config") if isinstance(said, dict) else None
    return isinstance(tokenizer, dict) and bool(tokenizer.get("chat_template"))
