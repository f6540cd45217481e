"""What a model is given to read: a conversation through its file's template, as token ids; never cut in silence.

Text that a person typed never becomes a control token: the template's own text is tokenised apart from it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from studio.chat.llama import Weights
from studio.data.records import Message
from studio.errors import DataError, ModelError
from studio.models.family import FAMILIES
from studio.render.template import ChatTemplate, Piece

#: The share of the context that is kept free for the answer when old turns are left out.
ANSWER_SHARE = 4


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a file says about conversations: its template, the tokens that end an answer, its control tokens."""

    template: ChatTemplate | None
    stops: dict[int, str]
    names: dict[str, str]
    control: list[str]


@dataclasses.dataclass(frozen=True)
class Prompt:
    """Token ids, the text that they stand for, and how many turns had no room."""

    ids: list[int]
    pieces: list[Piece]
    left_out: int = 0


def facts(weights: Weights) -> Facts:
    """Read template and stop tokens from the file itself, once."""
    if "facts" in weights.cache:
        return weights.cache["facts"]
    lib, vocab = weights.lib, weights.vocab
    texts: dict[int, str] = {}
    stops = {}
    for token in range(weights.n_vocab):
        ends = lib.llama_vocab_is_eog(vocab, token)
        if ends or lib.llama_vocab_is_control(vocab, token):
            texts[token] = (lib.llama_vocab_get_text(vocab, token) or b"").decode("utf-8", "replace")
            if ends:
                stops[token] = texts[token]
    names = {
        f"{name}_token": texts.get(int(weights.meta.get(f"tokenizer.ggml.{name}_token_id", -1)), "")
        for name in ("bos", "eos", "pad")
    }
    source, control = weights.meta.get("tokenizer.chat_template", ""), list(texts.values())
    template = ChatTemplate(source, names, control) if source else None
    made = weights.cache["facts"] = Facts(template, stops, names, control)
    return made


def template(weights: Weights, chosen: str = "") -> ChatTemplate | None:
    """Give the file's template, or the one chosen in its place: a family's name or a Jinja text. Raises ModelError."""
    known = facts(weights)
    if not chosen:
        return known.template
    if chosen in FAMILIES:
        source = FAMILIES[chosen].template
    elif "{{" in chosen or "{%" in chosen:
        source = chosen
    else:
        raise ModelError(f"There is no template family {chosen[:40]!r}.", f"Choose one of: {', '.join(FAMILIES)}.")
    key = ("template", source)
    if key not in weights.cache:
        weights.cache[key] = ChatTemplate(source, known.names, known.control)
    return weights.cache[key]


def messages(turns: Sequence[dict[str, Any]]) -> list[Message]:
    """Read turns; what they hold beside role and text is for others."""
    return [Message(turn["role"], turn["content"], reasoning=str(turn.get("reasoning") or "")) for turn in turns]


def ids_of(weights: Weights, pieces: Sequence[Piece]) -> list[int]:
    """Tokenise pieces: what the template wrote with control tokens, what people typed without. No BOS is added."""
    ids: list[int] = []
    for piece in pieces:
        taken = piece.plain and ids and weights.takes_spaces(ids[-1])
        ids += weights.tokenize(piece.text.lstrip() if taken else piece.text, special=not piece.plain)
    return ids


def make(weights: Weights, request: dict[str, Any], n_ctx: int = 0) -> Prompt:
    """Make the prompt of a request: `messages`, and with them

    `raw` (text that is gone on with), `template`, `template_args` (variables such as enable_thinking), `continue` (the
    last turn is an answer that goes on), `ids` in that turn (its tokens as they were written), `prompt_ids` (taken as
    they are), `overflow`: with "shift" the oldest questions are left out with their answers where `n_ctx` has
    no room for all, never a system text and never the last question. Raises DataError when it does not fit.
    """
    room = n_ctx - 2 if n_ctx else 0  # a token to answer with, and one to see that it ends
    if given := request.get("prompt_ids"):
        if min(given) < 0 or max(given) >= weights.n_vocab:
            raise DataError("The token ids are of another vocabulary.", "Compare files of the same base.")
        made = Prompt(list(given), [Piece("".join(map(weights.text, given)), False)])
    else:
        turns = list(request["messages"])
        last = None
        if request.get("continue"):
            if not turns or turns[-1]["role"] != "assistant":
                raise DataError("There is no unfinished answer to go on with.", "End with the assistant's turn.")
            last = turns.pop()
        made = _fitted(weights, request, messages(turns), last, room)
    if room and len(made.ids) > room:
        what = f"{len(made.ids)} tokens long, the context {n_ctx}."
        if request.get("overflow") == "shift":
            remedy = "Shorten the question or the system text."
            raise DataError(f"What cannot be left out is {what}", remedy, field="context")
        remedy = "Start a new conversation, or let the oldest turns be left out."
        raise DataError(f"The conversation is {what}", remedy, field="context")
    return made


def _fitted(
    weights: Weights, request: dict[str, Any], talk: list[Message], last: dict[str, Any] | None, room: int
) -> Prompt:
    """Render a conversation, without its oldest turns where that is allowed and needed."""
    raw, chosen = bool(request.get("raw")), template(weights, str(request.get("template") or ""))
    opened = _answer(weights, last) if last else ([], [])

    def build(kept: Sequence[Message]) -> Prompt:
        if raw or chosen is None:
            text = "\n".join(message.content for message in kept)
            ids = weights.tokenize(text, special=False, bos=adds_bos(weights))
            return Prompt(ids + opened[0], [Piece(text, True), *opened[1]])
        pieces = chosen.pieces(kept, generate=True, **dict(request.get("template_args") or {}))
        return Prompt(ids_of(weights, pieces) + opened[0], [*pieces, *opened[1]])

    if request.get("overflow") != "shift" or not room:
        return build(talk)
    return _shifted(build, talk, room, min(int(request.get("max_tokens") or room), room // ANSWER_SHARE))


def _shifted(build: Callable[[Sequence[Message]], Prompt], talk: list[Message], room: int, answer: int) -> Prompt:
    """Leave out the oldest questions with all that followed them, until the answer has room too."""
    made, left_out = build(talk), 0
    while len(made.ids) > room - answer:
        asked = [index for index, message in enumerate(talk) if message.role == "user"]
        if len(asked) < 2:
            break
        gone = {i for i in range(asked[0], asked[1]) if talk[i].role != "system"}
        talk = [message for index, message in enumerate(talk) if index not in gone]
        left_out += len(gone)
        made = build(talk)
    return dataclasses.replace(made, left_out=left_out)


def _answer(weights: Weights, turn: dict[str, Any]) -> tuple[list[int], list[Piece]]:
    """Give the tokens of an answer so far: its own if they are known and still spell its text."""
    text, known = str(turn["content"]), [int(token) for token in turn.get("ids") or ()]
    fits = all(0 <= token < weights.n_vocab for token in known)
    if known and fits and b"".join(map(weights.piece, known)).decode("utf-8", "replace") == text:
        return known, [Piece(text, True)]
    return weights.tokenize(text, special=False), [Piece(text, True)]


def adds_bos(weights: Weights) -> bool:
    """Tell whether the file puts a beginning token before plain text."""
    return bool(weights.lib.llama_vocab_get_add_bos(weights.vocab))


def plain_ids(weights: Weights, texts: Sequence[str], special: bool, bos: bool) -> list[list[int]]:
    """Tokenise texts as they stand, after the file's beginning where `bos` asks for it and the file puts one."""
    first = bos and adds_bos(weights)
    return [weights.tokenize(text, special=special, bos=first) for text in texts]


def prefix(weights: Weights) -> int:
    """Give the token that a text without a beginning is read after: the file's BOS, else its end; -1 for neither."""
    named = (weights.meta.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos"))
    return next((int(token) for token in named if token is not None), -1)


def spelled(weights: Weights, ids: Sequence[int]) -> list[dict[str, Any]]:
    """Give each token with its text."""
    return [{"id": token, "text": weights.text(token)} for token in ids]
