"""From a conversation to token ids and labels: what training, preview, chat and export all use.

Labels are -100 except on the assistant's tokens and the token that ends its turn. The mask is made by position: each
assistant turn is found by rendering the conversation up to it (with the generation prompt) and through it, both of
which must be prefixes of the whole; it is never guessed from token ids, so a pad token equal to the end token cannot
hide it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.data.records import Conversation, Message, Prompt, Rated, Record, Text
from studio.errors import DataError, InputError
from studio.models import check, family
from studio.render.template import ChatTemplate, Piece

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100
BATCH = 256


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


@dataclasses.dataclass(frozen=True)
class Plan:
    """A row before it is tokenised: its pieces, and the stretches of its text that are learned (start, end)."""

    pieces: list[Piece]
    spans: list[tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Example:
    """What one record becomes: its sides by name, and the label of a rated answer.

    Sides: "text" (conversations and texts), "chosen" and "rejected" (pairs), "completion" (rated), "prompt" (prompts).
    """

    line: int
    sides: dict[str, Encoded]
    label: bool | None = None


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """A record that cannot be learned from: `reason` is too_long, nothing_learned or template (`error` says why)."""

    line: int
    reason: str
    error: InputError | None = None


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
        return self.encode([self.plan(messages, only_last)])[0]

    def plan(self, messages: Sequence[Message], only_last: bool = False, tools: Sequence[Any] = ()) -> Plan:
        """Render a conversation and find what is learned of it. Raises DataError as `conversation` does."""
        pieces = self.template.pieces(messages, tools=tools)
        text = "".join(piece.text for piece in pieces)
        last = max((i for i, m in enumerate(messages) if m.role == "assistant"), default=-1)
        spans = [
            self._span(messages, index, text)
            for index, message in enumerate(messages)
            if message.role == "assistant" and message.train and (index == last or not only_last)
        ]
        return Plan(pieces, spans)

    def plans(self, messages: Sequence[Message], train_on: str = "all", tools: Sequence[Any] = ()) -> list[Plan]:
        """Render a conversation as the rows that teach it: one, or one a trained turn where the template needs that."""
        return [self.plan(messages, train_on == "last", tools)]

    def encode(self, plans: Sequence[Plan]) -> list[Encoded]:
        """Tokenise rendered rows."""
        made = []
        for plan in plans:
            ids, offsets = self._ids(plan.pieces)
            labels = [
                token if any(start < to and frm < end for start, end in plan.spans) and to > frm else IGNORE
                for token, (frm, to) in zip(ids, offsets, strict=True)
            ]
            made.append(Encoded(ids, labels, "".join(piece.text for piece in plan.pieces), offsets))
        return made

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


def plans(renderer: Renderer, record: Record, train_on: str = "all") -> list[dict[str, Plan]]:
    """Render a record: the sides of every example that it makes. Raises DataError when the template refuses it."""
    if isinstance(record, Conversation):
        return [{"text": plan} for plan in renderer.plans(record.messages, train_on, record.tools)]
    if isinstance(record, Text):
        end = renderer.stop_tokens[-1]
        text = record.text + end
        return [{"text": Plan([Piece(record.text, True), Piece(end, False)], [(0, len(text))])}]
    if isinstance(record, Prompt):
        return [{"prompt": Plan(renderer.template.pieces(record.prompt, generate=True), [])}]
    names = ("completion",) if isinstance(record, Rated) else ("chosen", "rejected")
    return [
        {
            name: renderer.plan([*record.prompt, *getattr(record, name)], only_last=True, tools=record.tools)
            for name in names
        }
    ]


def examples(
    renderer: Renderer, records: Iterable[Record], *, max_length: int, train_on: str = "all"
) -> Iterator[Example | LeftOut]:
    """Encode records in batches, in their order; what does not fit is shortened from its beginning or left out.

    The oldest exchanges of a conversation go first; an answer is never cut. A long text becomes several rows.
    """
    stream = iter(records)
    while batch := list(itertools.islice(stream, BATCH)):
        for record in batch:
            try:
                yield from _examples(renderer, record, max_length, train_on)
            except InputError as error:
                yield LeftOut(record.line, "template", error)


def _examples(renderer: Renderer, record: Record, max_length: int, train_on: str) -> Iterator[Example | LeftOut]:
    if isinstance(record, Conversation):
        encoded = shorten(renderer, record.messages, max_length)
        yield LeftOut(record.line, "too_long") if encoded is None else Example(record.line, {"text": encoded})
        return
    label = record.label if isinstance(record, Rated) else None
    for sides in plans(renderer, record, train_on):
        made = dict(zip(sides, renderer.encode(list(sides.values())), strict=True))
        fits = all(len(side.ids) <= max_length for side in made.values())
        yield Example(record.line, made, label) if fits else LeftOut(record.line, "too_long")


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
