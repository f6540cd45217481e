"""Look at a PEFT adapter's folder before it is loaded: is it plain LoRA, whole, safe, and made for this base?

An adapter of others is data that a library acts on: a pattern in `target_modules` is matched against every layer's
name, `auto_mapping` names a module to import, a rank sizes memory. Only what the merge's formula needs is accepted.
"""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

from studio.errors import ModelError
from studio.models.check import ModelInfo
from studio.models.folder import inside, read_object
from studio.models.hub import reference
from studio.models.tensors import TensorInfo, read_header, read_tensors

MAX_RANK = 65536
_PREFIX = "base_model.model."
_NAME = re.compile(r"[A-Za-z_][\w.]{0,199}")
_HALF = re.compile(r"(.+)\.lora_([AB])\.weight")
_LENGTHS = ".lora_magnitude_vector"
_QUANTIZED = re.compile(r"(-unsloth)?-(bnb-)?(4|8)bit$|-int[48]$|-(gptq|awq)(-.*)?$")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst", ".7z", ".rar")

#: Keys of adapter_config.json that change nothing about what the weights mean, or are checked below.
_PLAIN = {
    "base_model_name_or_path", "bias", "ensure_weight_tying", "exclude_modules", "fan_in_fan_out", "inference_mode",
    "init_lora_weights", "lora_alpha", "lora_dropout", "megatron_core", "peft_type", "peft_version",
    "qalora_group_size", "r", "revision", "target_modules", "task_type", "trainable_token_indices", "use_dora",
    "use_rslora",
}  # fmt: skip
#: Ways to begin that leave the base as it is. With others (PiSSA, OLoRA, LoftQ) an adapter belongs to what they left of
#: the base, which is on nobody's disk, unless it was converted when it was saved.
_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva", "mica")
_OTHER = "It belongs to another base model: choose the one that it was made for."
_AGAIN = "It is damaged: take it from its source again."


@dataclasses.dataclass(frozen=True)
class AdapterInfo:
    """What an adapter is. `scale` is alpha / r (alpha / sqrt(r) with rsLoRA); `tokens` are rows that were trained too.

    `base` is what its config says it was made for, "" when it does not; `dora` tells that it holds the lengths of the
    weights' rows.
    """

    folder: str
    base: str
    r: int
    lora_alpha: float
    scale: float
    dora: bool
    modules: list[str]
    tokens: list[int]
    parameters: int
    bytes: int


def check(folder: Path, base: ModelInfo, merges: bool = False) -> AdapterInfo:
    """Check an adapter's folder against the base it is meant for and describe it; ModelError with a remedy if not.

    `merges`: only its tensors are used, by name, and a pattern in `target_modules` is matched by nobody.
    """
    config = _config(folder)
    r, alpha = _numbers(config, folder)
    if not merges:
        _modules(config, folder)
    named = _base(config, base, folder)
    tokens = _tokens(config, folder)
    found = read_header(_weights(folder))
    dora = config.get("use_dora") is True
    modules = _against(found, base, r, tokens, dora, folder)
    return AdapterInfo(
        folder=str(folder),
        base=named,
        r=r,
        lora_alpha=alpha,
        scale=alpha / (math.sqrt(r) if config.get("use_rslora") else r),
        dora=dora,
        modules=modules,
        tokens=tokens,
        parameters=sum(math.prod(tensor.shape) for tensor in found),
        bytes=sum(tensor.nbytes for tensor in found),
    )


def _config(folder: Path) -> dict[str, Any]:
    if folder.suffix.lower() in _ARCHIVES or folder.is_file():
        raise ModelError(
            f"{folder.name} is not a folder. Studio opens no archives: a name in one may lead anywhere on the disk.",
            "Unpack it yourself, look at what came out, and choose that folder.",
            file=str(folder),
        )
    if not folder.is_dir():
        raise ModelError(
            f"There is no folder {folder}.", "Choose the folder with adapter_config.json.", file=str(folder)
        )
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py":
            raise ModelError(
                f"The folder holds Python code ({path.name}).",
                "Studio never runs code from an adapter. Remove the file, or choose another one.",
                file=str(path),
            )
        if path.suffix in (".json", ".jinja", ".model", ".safetensors", ".md"):
            inside(path)
    path = folder / "adapter_config.json"
    config = read_object(path)
    if config.get("peft_type") != "LORA":
        raise ModelError(
            f"The adapter is of the kind {str(config.get('peft_type'))[:80]!r}; Studio reads LoRA.",
            "Merge it with the library that made it, and use the merged model.",
            file=str(path),
            field="peft_type",
        )
    beyond = [key for key, value in config.items() if value and key not in _PLAIN]
    beyond += [key for key in ("bias", "fan_in_fan_out") if config.get(key) not in (None, "none", False)]
    if beyond:
        code = " It names code to import." if "auto_mapping" in beyond else ""
        raise ModelError(
            f"The adapter uses {beyond[0][:80]!r}, which is more than plain LoRA.{code}",
            "Merge it with the library that made it, and use the merged model.",
            file=str(path),
            field=beyond[0][:80],
        )
    for name in ("use_dora", "use_rslora"):
        if not isinstance(config.get(name, False), bool | None):
            raise ModelError(f"{name} is neither true nor false.", _AGAIN, file=str(path), field=name)
    start = config.get("init_lora_weights")
    if start not in _BEGINNINGS:
        raise ModelError(
            f"The adapter began as {str(start)[:40]!r}, which changes the base: it does not fit the base as it is.",
            "Save it as an ordinary LoRA (in peft: path_initial_model_for_weight_conversion).",
            file=str(path),
            field="init_lora_weights",
        )
    return config


def _numbers(config: dict[str, Any], folder: Path) -> tuple[int, float]:
    r, alpha = config.get("r"), config.get("lora_alpha")
    where = str(folder / "adapter_config.json")
    if type(r) is not int or not 0 < r <= MAX_RANK:
        raise ModelError(f"The adapter's rank is {r!r:.40}, not 1 to {MAX_RANK:,}.", _AGAIN, file=where, field="r")
    if not isinstance(alpha, (int, float)) or isinstance(alpha, bool) or not 0 < alpha <= 1e9:
        raise ModelError(f"The adapter's alpha is {alpha!r:.40}.", _AGAIN, file=where, field="lora_alpha")
    return r, float(alpha)


def _modules(config: dict[str, Any], folder: Path) -> None:
    """A text is a regular expression to PEFT, and some take for ever to match: only lists of plain names."""
    for key in ("target_modules", "exclude_modules"):
        names = config.get(key)
        if (names is None and key == "exclude_modules") or names == "all-linear":
            continue
        plain = isinstance(names, list) and all(isinstance(name, str) and _NAME.fullmatch(name) for name in names)
        if not plain or (key == "target_modules" and not names):
            what = f"the pattern {names[:60]!r}" if isinstance(names, str) else "no list of plain names"
            raise ModelError(
                f"{key} is {what}. Studio takes names only: a pattern can be made so that matching it never ends.",
                'Write the layers\' names as a list, such as ["q_proj", "v_proj"].',
                file=str(folder / "adapter_config.json"),
                field=key,
            )


def _base(config: dict[str, Any], base: ModelInfo, folder: Path) -> str:
    """Compare the hub ids where both have one; a path says nothing (folders move), the shapes decide then.

    An adapter that was trained on a quantized copy belongs to the model that was copied, whoever made the copy.
    """
    named = config.get("base_model_name_or_path")
    named = named if isinstance(named, str) else ""
    wanted, here = _hub_id(named), _hub_id(base.name)
    if wanted and here and not _same(wanted.lower(), here.lower()):
        raise ModelError(
            f"The adapter was made for {wanted}, this base is {here}.",
            f"Choose {wanted} as the base model.",
            file=str(folder / "adapter_config.json"),
            field="base_model_name_or_path",
        )
    return named[:200]


def _hub_id(name: str) -> str:
    try:
        return reference(name).repo
    except ModelError:
        return ""


def _same(wanted: str, here: str) -> bool:
    """Tell whether two hub ids are one model, or one of them a quantized copy of the other."""
    copied = _QUANTIZED.sub("", wanted)
    return wanted == here or (copied != wanted and copied.rpartition("/")[2] == here.rpartition("/")[2])


def _tokens(config: dict[str, Any], folder: Path) -> list[int]:
    """List the token rows that were trained; layers that name them must agree."""
    said = config.get("trainable_token_indices")
    groups = list(said.values()) if isinstance(said, dict) else [said or []]
    for rows in groups:
        right = isinstance(rows, list) and all(type(row) is int and 0 <= row < 1 << 31 for row in rows)
        if not right or rows != groups[0] or len(set(rows)) != len(rows):
            raise ModelError(
                "The adapter's list of trained tokens is not one.",
                _AGAIN,
                file=str(folder / "adapter_config.json"),
                field="trainable_token_indices",
            )
    return list(groups[0]) if groups else []


def _weights(folder: Path) -> Path:
    path = folder / "adapter_model.safetensors"
    if path.exists():
        return path
    pickles = [found for rule in ("*.bin", "*.pt", "*.pth") for found in sorted(folder.glob(rule))]
    if pickles:
        raise ModelError(
            f"The adapter's weights are a pickle file ({pickles[0].name}), which can run any code when it is opened.",
            "Ask its author for adapter_model.safetensors.",
            file=str(pickles[0]),
        )
    raise ModelError("There are no weights (adapter_model.safetensors).", "Take the whole folder.", file=str(folder))


def _against(
    found: list[TensorInfo], base: ModelInfo, r: int, tokens: list[int], dora: bool, folder: Path
) -> list[str]:
    """Check every tensor of the adapter against the base's; gives the modules that it changes."""
    shapes = {tensor.name: tensor.shape for tensor in read_tensors(Path(base.folder))}
    if base.shape.tied:  # an adapter on the output layer alone would part it from the embedding
        shapes.pop("lm_head.weight", None)
    halves: dict[str, dict[str, TensorInfo]] = {}
    where = str(folder / "adapter_model.safetensors")
    for tensor in found:
        key = tensor.name.removeprefix(_PREFIX)
        if tensor.dtype not in ("F32", "F16", "BF16"):
            raise ModelError(f"{tensor.name[:120]} is stored as {tensor.dtype}.", _AGAIN, file=where)
        if match := _HALF.fullmatch(key):
            halves.setdefault(match[1], {})[match[2]] = tensor
        elif dora and key.endswith(_LENGTHS):
            halves.setdefault(key.removesuffix(_LENGTHS), {})["m"] = tensor
        elif key.endswith(".token_adapter.trainable_tokens_delta") and tokens:
            if tensor.shape != (len(tokens), base.hidden_size):
                rows = f"{len(tokens)} rows of {base.hidden_size}"
                raise ModelError(f"{tensor.name} is {tensor.shape}, not {rows}.", _OTHER, file=where)
        else:
            raise ModelError(
                f"The adapter holds {tensor.name[:120]!r}, which is not LoRA.",
                "Merge it with the library that made it, and use the merged model.",
                file=where,
            )
    if not halves:
        raise ModelError("The adapter holds no LoRA weights.", _AGAIN, file=where)
    for module, pair in halves.items():
        shape = shapes.get(f"{module}.weight")
        if shape is None:
            raise ModelError(f"The adapter changes {module[:120]}, which the base lacks.", _OTHER, file=where)
        if not {"A", "B"} <= set(pair):
            raise ModelError(f"The adapter has only one half of {module}.", _AGAIN, file=where)
        if dora and ("m" not in pair or pair["m"].shape != (shape[0],)):
            raise ModelError(f"The adapter uses DoRA and lacks {module}'s {shape[0]} row lengths.", _AGAIN, file=where)
        if (pair["A"].shape, pair["B"].shape) != ((r, shape[-1]), (shape[0], r)):
            raise ModelError(
                f"The adapter's {module} is {pair['B'].shape} x {pair['A'].shape}; the base's is {shape}, "
                f"the rank is {r}.",
                _OTHER,
                file=where,
            )
    return sorted(halves)
