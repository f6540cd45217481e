"""From a conversation to token ids and labels: what training, preview, chat and export all use.

Labels are -100 except on the assistant's tokens and the token that ends its turn. The mask is made by position: each
assistant turn is found by rendering the conversation up to it (with the generation prompt) and through it, both of
which must be prefixes of the whole; it is never guessed from token ids, so a pad token equal to the end token cannot
hide it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.data.records import Message
from studio.errors import DataError
from studio.models import check, family
from studio.render.template import ChatTemplate, Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100


@dataclasses.dataclass(frozen=True)
class Encoded:
    """Token ids (T) with labels (T): the id where it is learned, -100 elsewhere; `offsets` are places in `text`."""

    ids: list[int]
    labels: list[int]
    text: str = ""
    offsets: list[tuple[int, int]] = dataclasses.field(default_factory=list)

    @property
    def trained(self) -> int:
        """Count the learned tokens."""
        return sum(label != IGNORE for label in self.labels)


class Renderer:
    """A tokenizer with the chat template and the stop tokens in use."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, template: str, architecture: str = "", wanted: str = ""
    ) -> None:
        vocabulary = tokenizer.get_vocab()
        fam = family.choose(architecture, vocabulary, wanted)
        own = bool(template) and not wanted
        self.tokenizer = tokenizer
        self.source = template if own else fam.template
        self.family = (family.identify(self.source) or "its own") if own else fam.name
        self.added = not own
        self.added_tokens = [] if own else [token for token in fam.control_tokens if token not in vocabulary]
        if self.added_tokens:
            tokenizer.add_special_tokens({"additional_special_tokens": self.added_tokens})
            vocabulary = tokenizer.get_vocab()
        tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        tokens.setdefault("bos_token", "")
        tokens.setdefault("eos_token", "")
        control = {token for token, known in _added(tokenizer).items() if known}
        self._eos = tokens["eos_token"]
        self.template = ChatTemplate(self.source, tokens, sorted(control | set(tokens.values())))
        self.stop_tokens = family.stop_tokens(self.source, vocabulary, tokens["eos_token"] or None)
        if not self.stop_tokens:
            raise DataError(
                "This model has no token that could end an answer.", "Choose a template family that brings one."
            )
        self.stop_ids = [vocabulary[token] for token in self.stop_tokens]
        self.control_ids = sorted({vocabulary[t] for t in control if t in self.source} | {self.stop_ids[0]})

    @property
    def pad_id(self) -> int:
        """Give the id that fills rows up; what it is does not matter, since masks go by position."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else self.stop_ids[-1]

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Encode a conversation up to the opening of the assistant's next turn."""
        return self._ids(self.template.pieces(messages, generate=True))[0]

    def conversation(self, messages: Sequence[Message], only_last: bool = False) -> Encoded:
        """Encode a whole conversation; every assistant turn with `train` is learned (or the last one only).

        Raises DataError when the template does not write a turn as it would in a chat.
        """
        pieces = self.template.pieces(messages)
        text = "".join(piece.text for piece in pieces)
        last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
        spans = [
            self._span(messages, index, text)
            for index, message in enumerate(messages)
            if message.role == "assistant" and message.train and (index == last or not only_last)
        ]
        ids, offsets = self._ids(pieces)
        labels = [
            token if any(start < to and frm < end for start, end in spans) and to > frm else IGNORE
            for token, (frm, to) in zip(ids, offsets, strict=True)
        ]
        return Encoded(ids, labels, text, offsets)

    def _span(self, messages: Sequence[Message], index: int, whole: str) -> tuple[int, int]:
        """Find where an assistant turn stands in the whole text, its end-of-turn token included."""
        before = self.template.text(messages[:index], generate=True)
        through = self.template.text(messages[: index + 1])
        if not whole.startswith(before) or not whole.startswith(through):
            raise DataError(
                f"The chat template writes turn {index + 1} differently once the conversation goes on, "
                "so it cannot be learned as it will be asked.",
                "Keep one answer per conversation, or choose another template.",
                field=f"messages[{index}]",
            )
        written = whole[len(before) : len(through)]
        ends = [written.rfind(token) + len(token) for token in self.stop_tokens if token in written]
        return len(before), len(before) + (max(ends) if ends else len(written))

    def _ids(self, pieces: Sequence[Piece]) -> tuple[list[int], list[tuple[int, int]]]:
        """Tokenise pieces: what the template wrote with its control tokens, what people typed without."""
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        at = 0
        for piece in pieces:
            made = self.tokenizer(
                piece.text,
                add_special_tokens=False,
                return_offsets_mapping=True,
                split_special_tokens=piece.plain,
                verbose=False,
            )
            ids += made["input_ids"]
            offsets += [(at + start, at + end) for start, end in made["offset_mapping"]]
            at += len(piece.text)
        return ids, offsets

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """Turn ids into text, without control tokens unless asked for."""
        return str(
            self.tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        )

    def save(self, folder: Path) -> None:
        """Write tokenizer and template into a folder, so that an adapter carries what it was trained with."""
        self.tokenizer.chat_template = self.source
        self.tokenizer.save_pretrained(folder)


def _added(tokenizer: PreTrainedTokenizerBase) -> dict[str, bool]:
    """Map every added token to whether it is a control token."""
    return {str(token): bool(token.special) for token in tokenizer.added_tokens_decoder.values()}


def load(folder: Path, template: str = "") -> Renderer:
    """Make the renderer of a model folder (or of an adapter folder that carries its tokenizer).

    `template` names a family to use instead of the model's own template. Code in the folder is never run.
    """
    from transformers import AutoTokenizer

    info: Any = check.read_config(folder) if (folder / "config.json").is_file() else {}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    own = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    architecture = (info.get("architectures") or [""])[0]
    return Renderer(tokenizer, own, architecture, template)


def fit(encoded: Encoded, max_length: int) -> bool:
    """Tell whether a row can be learned whole.

    Nothing is ever cut from its end, where the token that stops it stands.
    """
    return len(encoded.ids) <= max_length and encoded.trained > 0


def common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    """Count the tokens that two rows share at their beginning."""
    count = 0
    for left, right in zip(a, b, strict=False):
        if left != right:
            break
        count += 1
    return count


def shorten(renderer: Renderer, messages: Sequence[Message], max_length: int) -> Encoded | None:
    """Encode a conversation within `max_length` tokens: the oldest exchanges go first, an answer's end never.

    Gives None when even the last exchange is too long or nothing in it is learned.
    """
    turns = list(messages)
    keep = [turn for turn in turns if turn.role == "system"][:1] if turns and turns[0].role == "system" else []
    rest = turns[len(keep) :]
    while rest:
        encoded = renderer.conversation([*keep, *rest])
        if fit(encoded, max_length):
            return encoded
        users = [index for index, turn in enumerate(rest) if turn.role == "user" and index > 0]
        if not users:
            return None
        rest = rest[users[0] :]
    return None
