"""A tokenizer with the chat template in use: from turns to text with its learned stretches, from text to token ids.

The mask is made by position, never guessed from token ids, so a pad token equal to the end token cannot hide it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.data.records import Message
from studio.errors import DataError, ModelError, StudioError
from studio.models import check, elsewhere, family
from studio.render import fast, probes
from studio.render.labels import Encoded, Plan, labelled
from studio.render.template import PROBE, Asked, ChatTemplate
from studio.render.words import Words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: How a stretch of text is tokenised: with control tokens; without; without, and not at the beginning of a row.
_WRITTEN, _TYPED, _TYPED_INSIDE = "written", "typed", "typed inside"


@dataclasses.dataclass(frozen=True)
class _Cut:
    """A text to tokenise, how, and where it stands in its row."""

    kind: str
    text: str
    at: int


class Renderer:
    """A tokenizer with the chat template and the stop tokens in use.

    `template` is the model's own, `wanted` a family to use instead; `declared` are further tokens that the model stops
    at; `now` is the date that templates write and `options` what they are asked for (`{"enable_thinking": False}`):
    one run must keep both. `family` names the family, `source` is the template (one that does not open the assistant's
    turn gets what it writes there as a generation prompt, so that training and chat agree), `added` whether it is ours.
    Set `words` to make many rows quicker.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        template: str,
        architecture: str = "",
        wanted: str = "",
        *,
        declared: Sequence[str] = (),
        now: datetime | None = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError("This tokenizer has no fast form.", "Choose a model with a tokenizer.json.")
        vocabulary = tokenizer.get_vocab()
        own = bool(template) and not wanted
        fam = None if own else family.choose(architecture, vocabulary, wanted)
        self.tokenizer = tokenizer
        self.words: Words | None = None
        self.source = fam.template if fam else template
        self.family = fam.name if fam else family.identify(template) or "its own"
        self.added = fam is not None
        self.added_tokens = [token for token in fam.control_tokens if token not in vocabulary] if fam else []
        if self.added_tokens:
            tokenizer.add_special_tokens({"additional_special_tokens": self.added_tokens})
            vocabulary = tokenizer.get_vocab()
        tokens = {name: str(value) for name, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
        tokens.setdefault("bos_token", "")
        tokens.setdefault("eos_token", "")
        added = tokenizer.added_tokens_decoder.values()
        control = {str(token) for token in added if token.special}
        self._strips = {str(token): (token.lstrip, token.rstrip) for token in added if token.lstrip or token.rstrip}
        self.stop_tokens = family.stop_tokens(
            self.source, vocabulary, tokens["eos_token"] or None, [*(fam.stops if fam else ()), *declared]
        )
        if not self.stop_tokens:
            raise DataError(
                "This model has no token that could end an answer.", "Choose a template family that brings one."
            )
        self.document_end = family.document_end(vocabulary, tokens["eos_token"] or None) or self.stop_tokens[-1]
        begins = self._batch([""], add=True)[0].tokens
        self.document_start = begins[0] if begins and begins[0] == tokens["bos_token"] else ""

        def compiled(source: str) -> ChatTemplate:
            known = sorted(control | set(tokens.values()))
            return ChatTemplate(source, tokens, known, stops=self.stop_tokens, now=now, options=options)

        self.template = compiled(self.source)
        if own and self.template.family is None:
            if header := probes.opening(self.template):
                self.source = probes.opened(self.source, header)
                self.template = compiled(self.source)
            self._stop_first(probes.ending(self.template, control, self.stop_tokens) or self._ending())
        elif own:
            self._stop_first(self._ending())
        self.stop_ids = [vocabulary[token] for token in self.stop_tokens]
        self.control_ids = sorted({vocabulary[t] for t in control if t in self.source} | {self.stop_ids[0]})

    @property
    def pad_id(self) -> int:
        """Give the id that fills rows up; what it is does not matter, since masks go by position."""
        pad = self.tokenizer.pad_token_id
        return int(pad) if pad is not None else self.stop_ids[-1]

    @functools.cached_property
    def rewrites(self) -> str:
        """Tell when the template writes an earlier turn differently once the conversation goes on; "" when never.

        Conversations that it does this to become several rows, one for each learned turn.
        """
        if self.template.family is not None:
            return self.template.family.rewrites
        user, answer = Message("user", "question"), Message("assistant", "answer")
        thought = Message("assistant", "answer", reasoning="thought")
        cases = {
            "earlier answers are written differently": [user, answer, user, answer],
            "with a system text, which moves": [Message("system", "system"), user, answer, user, answer],
            "thoughts of earlier answers are left out": [user, thought, user, thought],
        }
        made = self.template.rows([Asked(talk, learned=_answers(talk), split=True) for talk in cases.values()])
        return next(
            (why for why, rows in zip(cases, made, strict=True) if not isinstance(rows, StudioError) and len(rows) > 1),
            "",
        )

    @functools.cached_property
    def thinks(self) -> bool:
        """Tell whether the thought of an answer is written; where not, rows are made without thoughts."""
        talk = [Message("user", "question"), Message("assistant", "answer", reasoning=PROBE)]
        (rows,) = self.template.rows([Asked(talk, learned=[1])])
        return not isinstance(rows, StudioError) and any(PROBE in piece.text for piece in rows[0].pieces)

    @functools.cached_property
    def key(self) -> str:
        """Give a hash of all that ids and labels depend on: the template, its date and options, the tokenizer."""
        about = [self.source, self.template.settings, self.stop_tokens, self.tokenizer.backend_tokenizer.to_str()]
        return hashlib.sha256(json.dumps(about).encode()).hexdigest()

    def prompt(self, messages: Sequence[Message], tools: Sequence[Any] = ()) -> list[int]:
        """Encode a conversation up to the opening of the assistant's next turn."""
        return self.encode([Plan(self.template.pieces(messages, generate=True, tools=tools), [], tuple(messages))])[
            0
        ].ids

    def conversation(self, messages: Sequence[Message], only_last: bool = False) -> Encoded:
        """Encode a whole conversation; every assistant turn with `train` is learned (or the last one only).

        Raises DataError when the template does not write a turn as it would in a chat.
        """
        return self.encode([self.plan(messages, only_last)])[0]

    def plan(self, messages: Sequence[Message], only_last: bool = False, tools: Sequence[Any] = ()) -> Plan:
        """Render a conversation as one row. Raises DataError as `conversation` does."""
        (made,) = self.plan_all([(messages, tools, only_last)], split=False)
        if isinstance(made, StudioError):
            raise made
        return made[0]

    def plans(self, messages: Sequence[Message], train_on: str = "all", tools: Sequence[Any] = ()) -> list[Plan]:
        """Render a conversation as the rows that teach it: one, or one a learned turn where the template rewrites."""
        (made,) = self.plan_all([(messages, tools, train_on == "last")])
        if isinstance(made, StudioError):
            raise made
        return made

    def plan_all(
        self, talks: Sequence[tuple[Sequence[Message], Sequence[Any], bool]], split: bool = True
    ) -> list[list[Plan] | StudioError]:
        """Render many conversations, each (messages, tools, only the last answer), in one go; errors come in place."""
        asked = [
            Asked(messages, tools, [i for i in _answers(messages, only_last) if messages[i].train], split)
            for messages, tools, only_last in talks
        ]
        made: list[list[Plan] | StudioError] = []
        for one, rows in zip(asked, self.template.rows(asked), strict=True):
            if isinstance(rows, StudioError):
                made.append(rows)
                continue
            whole = len(rows) == 1
            made.append(
                [
                    Plan(
                        row.pieces,
                        row.spans,
                        _teach(one.messages[: row.upto], one.learned if whole else [row.upto - 1]),
                        tuple(one.tools),
                    )
                    for row in rows
                ]
            )
        return made

    def encode(self, plans: Sequence[Plan], offsets: bool = True) -> list[Encoded]:
        """Tokenise rows, all in one go; `offsets` keeps text and places, which a preview shows and training does not.

        What the template wrote is tokenised with its control tokens, stretches that hold typed ones without.
        """
        cuts = [list(self._cuts(plan)) for plan in plans]
        encodings = {}
        for kind in dict.fromkeys(cut.kind for row in cuts for cut in row):
            with self._reading(kind):
                texts = [cut.text for row in cuts for cut in row if cut.kind == kind]
                read = self.words if self.words is not None and kind == _WRITTEN and not offsets else self._batch
                encodings[kind] = iter(read(texts))
        return [
            labelled(plan, [(cut.at, next(encodings[cut.kind])) for cut in row], offsets)
            for plan, row in zip(plans, cuts, strict=True)
        ]

    def _cuts(self, plan: Plan) -> Iterator[_Cut]:
        """Say how each piece of a row is tokenised, and which of its spaces belong to a control token beside it."""
        at = 0
        for number, piece in enumerate(plan.pieces):
            text, skipped, kind = piece.text, 0, _WRITTEN
            if piece.plain:
                before = plan.pieces[number - 1].text if number else ""
                after = plan.pieces[number + 1].text if number + 1 < len(plan.pieces) else ""
                if any(before.endswith(token) for token, (_, right) in self._strips.items() if right):
                    skipped = len(text) - len(text.lstrip())
                if any(after.startswith(token) for token, (left, _) in self._strips.items() if left):
                    text = text.rstrip()
                kind = _TYPED_INSIDE if number and plan.turns else _TYPED
            yield _Cut(kind, text[skipped:], at + skipped)
            at += len(piece.text)

    def _batch(self, texts: Sequence[str], add: bool = False) -> list[Any]:
        """Tokenise texts with the fast tokenizer itself; nothing is cut or filled up, nor added unless asked for."""
        backend = self.tokenizer.backend_tokenizer
        backend.no_truncation()
        backend.no_padding()
        return list(backend.encode_batch(list(texts), add_special_tokens=add))

    @contextmanager
    def _reading(self, kind: str) -> Iterator[None]:
        """Read control tokens as such or as text; inside a row, no space is put in front as at its beginning."""
        backend = self.tokenizer.backend_tokenizer
        splitter = backend.pre_tokenizer
        first = kind == _TYPED_INSIDE and getattr(splitter, "prepend_scheme", "") == "first"
        backend.encode_special_tokens = kind != _WRITTEN
        if first:
            splitter.prepend_scheme = "never"
        try:
            yield
        finally:
            backend.encode_special_tokens = False
            if first:
                splitter.prepend_scheme = "first"

    def decode(self, ids: Sequence[int], special: bool = False) -> str:
        """Turn ids into text, without control tokens unless asked for."""
        return str(
            self.tokenizer.decode(list(ids), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        )

    def save(self, folder: Path) -> None:
        """Write tokenizer and template into a folder, so that an adapter carries what it was trained with.

        One template, as text: a model that brings several by name has no say in what files are written.
        """
        self.tokenizer.chat_template = self.source
        self.tokenizer.save_pretrained(folder)

    def _ending(self) -> str:
        """Find the token with which the template itself ends an answer; "" when none was found."""
        (rows,) = self.template.rows(
            [Asked([Message("user", "question"), Message("assistant", "answer")], learned=[1])]
        )
        if isinstance(rows, StudioError) or not rows[0].spans:
            return ""
        text = "".join(piece.text for piece in rows[0].pieces)[: rows[0].spans[0][1]]
        return next((token for token in self.stop_tokens if text.endswith(token)), "")

    def _stop_first(self, token: str) -> None:
        if token and token != self.stop_tokens[0]:
            self.stop_tokens = [token, *(other for other in self.stop_tokens if other != token)]
            self.template.stops = self.stop_tokens


def load(
    folder: Path,
    template: str = "",
    *,
    adapter: Path | None = None,
    now: datetime | None = None,
    options: dict[str, Any] | None = None,
) -> Renderer:
    """Make the renderer of a model folder (or of an adapter folder that carries its tokenizer).

    `template` names a family to use instead of the model's own template; `now` and `options` are the Renderer's. Of
    several templates the one named `default` is taken. `adapter` is one made elsewhere, whose tokenizer and template
    count where it brings them. Code in the folder is never run. Raises ModelError for what `check.refuse_damaged`
    refuses.
    """
    info: Any = check.refuse_damaged(folder)
    speaker = elsewhere.speaker(folder, adapter)
    if speaker != folder:
        check.refuse_damaged(speaker, whole=False)
    tokenizer = fast.load(speaker)
    own: Any = elsewhere.template(folder, adapter) if adapter is not None else tokenizer.chat_template
    if isinstance(own, dict):
        own = own.get("default")
    architecture = (info.get("architectures") or [""])[0]
    return Renderer(
        tokenizer,
        own if isinstance(own, str) else "",
        architecture,
        template,
        declared=_declared(folder, tokenizer),
        now=now,
        options=options,
    )


def _declared(folder: Path, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Read the tokens at which the model's own generation config stops."""
    path = folder / "generation_config.json"
    found = check.read_json(path).get("eos_token_id") if path.is_file() else None
    ids = found if isinstance(found, list) else [found]
    tokens = [tokenizer.convert_ids_to_tokens(i) for i in ids if isinstance(i, int) and 0 <= i < len(tokenizer)]
    return [token for token in tokens if isinstance(token, str)]


def _answers(messages: Sequence[Message], only_last: bool = False) -> list[int]:
    found = [index for index, message in enumerate(messages) if message.role == "assistant"]
    return found[-1:] if only_last else found


def _teach(messages: Sequence[Message], learned: Sequence[int]) -> tuple[Message, ...]:
    return tuple(
        turn
        if turn.role != "assistant" or turn.train == (index in learned)
        else (dataclasses.replace(turn, train=index in learned))
        for index, turn in enumerate(messages)
    )
