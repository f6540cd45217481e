"""Answer on a context, token by token, and tell how likely the tokens of an answer are."""

from __future__ import annotations

import codecs
import time
from collections.abc import Iterator, Sequence
from typing import Any

from studio.chat import prompts
from studio.chat.llama import Cancelled, Context, Weights
from studio.chat.sampling import Sampler
from studio.errors import DataError, Stopped

#: Seconds between two pieces of a stream: what comes faster than that goes in one piece.
PACE = 0.01
#: Alternatives told per token.
TOP = 3


class _Text:
    """Text as it comes: whole characters only, up to a text that ends the answer; `made` counts all of them."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = [stop for stop in stops if stop]
        self._held, self.ended_by, self.made = "", "", 0

    def add(self, data: bytes, last: bool = False) -> str:
        """Give the text that can be shown; what may be the beginning of a stop text is held back until `last`."""
        new = self._decoder.decode(data, last)
        self._held, self.made = self._held + new, self.made + len(new)
        found = [(self._held.find(stop), stop) for stop in self._stops if stop in self._held]
        if found:
            at, self.ended_by = min(found)
            said, self._held = self._held[:at], ""
            return said
        keep = 0 if last else max((self._tail(stop) for stop in self._stops), default=0)
        said, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return said

    def _tail(self, stop: str) -> int:
        """Give how much of the held text's end is a beginning of `stop`."""
        return next((n for n in range(min(len(stop) - 1, len(self._held)), 0, -1) if self._held.endswith(stop[:n])), 0)


class _Odds:
    """How likely the tokens of an answer were: each is told with the piece of text that it begins in.

    `top`: so many of the likeliest tokens are told beside each; None: nothing is told.
    """

    def __init__(self, context: Context, top: int | None) -> None:
        self._context, self._top = context, top
        self._waiting: list[tuple[int, dict[str, Any]]] = []
        self._given = 0

    def add(self, token: int, at: int) -> None:
        """Note a token that was drawn just now, before it is evaluated itself; it begins in character `at`."""
        if self._top is None:
            return
        import numpy as np

        logp = log_softmax(self._context.last()[None].astype(np.float64))[0]
        best = np.argsort(-logp, kind="stable")[: self._top]
        told = {**self._told(token, logp), "top": [self._told(int(other), logp) for other in best]}
        self._waiting.append((at, told))

    def _told(self, token: int, logp: Any) -> dict[str, Any]:
        weights = self._context.weights
        data = weights.piece(token)  # none of a control token, which is no part of the text
        return {"text": weights.text(token), "bytes": list(data) or None, "logprob": float(logp[token])}

    def piece(self, text: str, last: bool = False) -> dict[str, Any]:
        """Give a piece of a stream; `last`: with all tokens that were not told yet."""
        if self._top is None:
            return {"text": text}
        self._given += len(text)
        ready = [one for at, one in self._waiting if last or at < self._given]
        self._waiting = self._waiting[len(ready) :]
        return {"text": text, "logprobs": ready}


def stream(context: Context, request: dict[str, Any], cancelled: Cancelled) -> Iterator[dict[str, Any]]:
    """Stream an answer: {"text"} pieces, then {"done", "tokens", "tokens_per_s", "first_s", "stopped", ...}.

    The request is what `prompts.make` and `Sampler` take, and `max_tokens` (None: as many as there is room for) and
    `stop` (texts that end the answer). `why` it ended: "end" (a stop token, named in `stop_token`), "stop" (one of the
    texts), "limit", "context" (it is full) or "cancelled". `ids` are the answer's tokens, `prompt_tokens` and `reused`
    how long the prompt was and how much of it was evaluated before, `left_out` how many turns had no room.

    With `logprobs` (how many alternatives) pieces carry {"logprobs": [{"text", "bytes", "logprob", "top": [{"text",
    "bytes", "logprob"}]}]}, the natural logarithms of the model's own distribution,

        log P(t | prompt, earlier tokens) = logit_t - log sum_v exp(logit_v),

    before penalties, temperature, top-k, top-p and min-p: what was drawn may be none of the likeliest. The token that
    ends an answer is told only where there is no other. `bytes` are None of a control token. Tokens of a text that
    ended the answer are not told.
    """
    start = time.monotonic()
    prompt = prompts.make(context.weights, request, context.n_ctx)
    room = context.n_ctx - len(prompt.ids) - 1
    asked = request.get("max_tokens", 256)
    limit = room if asked is None else min(int(asked), room)
    stops, text = prompts.facts(context.weights).stops, _Text(request.get("stop") or ())
    made: list[int] = []
    top = request.get("logprobs")
    odds = _Odds(context, None if top is None else int(top))
    why, stop, first, reused = "limit" if asked is not None and int(asked) <= room else "context", "", 0.0, 0
    try:
        reused = context.feed(prompt.ids, cancelled) if prompt.ids and limit > 0 else 0
        with Sampler(context, request, prompt.ids) as sample:
            waiting, sent = "", 0.0
            while prompt.ids and len(made) < limit:
                token = sample()
                first = first or time.monotonic() - start
                if token not in stops or not made:
                    odds.add(token, text.made)
                if token in stops:
                    why, stop = "end", stops[token]
                    break
                made.append(token)
                waiting += text.add(context.weights.piece(token))
                now = time.monotonic()
                if waiting and now - sent > PACE:
                    yield odds.piece(waiting)
                    waiting, sent = "", now
                if text.ended_by:
                    why, stop = "stop", text.ended_by
                    break
                if cancelled():
                    why = "cancelled"
                    break
                if len(made) < limit:
                    context.next(token)
    except Stopped:
        why, waiting = "cancelled", ""
    seconds = max(1e-9, time.monotonic() - start - first)
    rest = odds.piece(waiting + text.add(b"", last=True), last=not text.ended_by)
    if rest["text"] or rest.get("logprobs"):
        yield rest
    yield {
        "done": True,
        "tokens": len(made),
        "tokens_per_s": (len(made) - 1) / seconds if len(made) > 1 else 0.0,
        "first_s": first,
        "stopped": why == "end",
        "stop_token": stop,
        "cancelled": why == "cancelled",
        "why": why,
        "ids": made,
        "prompt_tokens": len(prompt.ids),
        "reused": reused,
        "left_out": prompt.left_out,
    }


def scores(context: Context, request: dict[str, Any], cancelled: Cancelled) -> dict[str, Any]:
    """Tell how likely an answer's tokens are after a prompt, as the model has it (no temperature, nothing cut off).

    The request is what `prompts.make` takes, and `ids` or `text`, and `top`, the number of alternatives. Gives
    {"prompt_tokens", "tokens": [{"id", "text", "p", "rank", "top": [{"id", "text", "p"}]}], "end_p"}: `rank` 0 is the
    likeliest token, `end_p` the probability that the answer ends after them.
    """
    import numpy as np

    weights = context.weights
    prompt = prompts.make(weights, request, context.n_ctx)
    ids = [
        int(token) for token in request.get("ids") or weights.tokenize(str(request.get("text") or ""), special=False)
    ]
    if not prompt.ids or not all(0 <= token < weights.n_vocab for token in ids):
        raise DataError("These are no token ids of this file.", "Compare files of the same base.")
    if len(prompt.ids) + len(ids) > context.n_ctx:
        raise DataError(
            f"Question and answer are {len(prompt.ids) + len(ids)} tokens long, the context {context.n_ctx}.",
            "Look at a shorter answer.",
        )
    logits = context.feed([*prompt.ids, *ids], cancelled, logits_from=len(prompt.ids) - 1)
    told, top = [], int(request.get("top", TOP))
    for token, row in zip(ids, logits, strict=False):
        p = np.exp(log_softmax(row[None].astype(np.float64))[0])
        best = np.argsort(p)[::-1][:top] if top else ()
        told.append(
            {
                "id": token,
                "text": weights.text(token),
                "p": float(p[token]),
                "rank": int((p > p[token]).sum()),
                "top": [{"id": int(other), "text": weights.text(int(other)), "p": float(p[other])} for other in best],
            }
        )
    last = np.exp(log_softmax(logits[-1:].astype(np.float64))[0])
    return {"prompt_tokens": len(prompt.ids), "tokens": told, "end_p": _ends(weights, last)}


def weigh(context: Context, request: dict[str, Any], cancelled: Cancelled) -> list[float]:
    """Give the probability of each of `words` as the beginning of the answer: the product over its tokens.

    The request is what `prompts.make` takes. The prompt is evaluated once, and words of one token cost nothing more.
    """
    import numpy as np

    weights = context.weights
    prompt = prompts.make(weights, request, context.n_ctx)
    words = [weights.tokenize(str(word), special=False) for word in request["words"]]
    if not prompt.ids or not all(words):
        raise DataError("There is no prompt, or a word without a token.", "Name words of at least one letter.")
    if len(prompt.ids) + max(map(len, words)) > context.n_ctx:
        raise DataError(
            f"The prompt is {len(prompt.ids)} tokens long, the context {context.n_ctx}.", "Ask about a shorter text."
        )
    seen: dict[tuple[int, ...], Any] = {}
    found = []
    for ids in words:
        before = tuple(ids[:-1])
        if before not in seen:
            logits = context.feed([*prompt.ids, *before], cancelled, logits_from=len(prompt.ids) - 1)
            seen[before] = log_softmax(logits.astype(np.float64))
        found.append(float(np.exp(sum(row[token] for row, token in zip(seen[before], ids, strict=True)))))
    return found


def _ends(weights: Weights, p: Any) -> float:
    return float(p[list(prompts.facts(weights).stops)].sum())


def log_softmax(logits: Any) -> Any:
    """Normalise logits (T, V) to log-probabilities, row by row."""
    import numpy as np

    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
