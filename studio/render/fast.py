"""Load a tokenizer: by transformers, and where there is only a tokenizer.model from what is read of it.

transformers would need SentencePiece's own library and protobuf for the latter.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import ModelError
from studio.models import check, spm, tokenizer
from studio.models.folder import read_object
from studio.render.sandbox import SAID

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase


def load(folder: Path) -> PreTrainedTokenizerBase:
    """Load a folder's tokenizer; its files can be damaged in more ways than a look at them shows."""
    from transformers import AutoTokenizer

    try:
        found = tokenizer.pieces(folder)
        if found is not None:
            return _of_pieces(folder, found)
        config = _config(folder)
        return AutoTokenizer.from_pretrained(folder, config=config, trust_remote_code=False, local_files_only=True)
    except ModelError:
        raise
    except Exception as error:  # tokenizers raises plain Exceptions
        said = f"{type(error).__name__}: {error}"
        raise ModelError(
            f"The tokenizer cannot be loaded ({said[:SAID]}).", "Download the model again.", file=str(folder)
        ) from None


def _config(folder: Path) -> PretrainedConfig | None:
    """Give what transformers asks of a config to choose the tokenizer's class, None to let it read the file.

    Reading it, transformers imports the model's code and all that generates with it: a second at each start.
    """
    from transformers import PretrainedConfig

    if not check.read_tokenizer_config(folder).get("tokenizer_class") or not (folder / "config.json").exists():
        return None  # the class of the config decides then
    said = read_object(folder / "config.json")
    made = PretrainedConfig(tokenizer_class=said.get("tokenizer_class"))
    made.model_type, made.name_or_path = str(said.get("model_type") or ""), str(folder)
    return made


def _of_pieces(folder: Path, found: spm.Pieces) -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    vocabulary, named = check.read_vocabulary(folder), check.special_tokens(folder)
    special = {name: named.get(f"{name}_token") or getattr(found, name) for name in ("bos", "eos", "unk", "pad")}
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tokenizer.text(folder)),
        clean_up_tokenization_spaces=False,
        **{f"{name}_token": token for name, token in special.items() if token in vocabulary},
    )
    made.chat_template = check.read_template(folder) or None
    return made
