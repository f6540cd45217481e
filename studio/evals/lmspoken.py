"""The model as lm-eval sees it: an LM (`lm_eval.api.model.LM`) that asks whoever holds the engine (lmasked.py).

What it does with texts is what lm-eval does for all its models (TemplateLM); tokens, likelihoods and answers are the
engine's. Plain text never becomes a control token; a rendered conversation keeps the tokens that the chat gives it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from studio.errors import DataError

Ask = Callable[..., Any]


def spoken(ask: Ask, max_tokens: int) -> Any:
    """Make the harness's LM of a function that answers: `ask(kind, ...)`, see lmasked.py `Answers`."""
    from lm_eval.api.model import TemplateLM
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    class Spoken(TemplateLM):
        """A side of an evaluation. Tokens are the engine's; pairs are cut into them as TemplateLM does for all."""

        def __init__(self) -> None:
            super().__init__()
            about = ask("tokens", texts=[], bos=False)
            self.prefix, self.room, self.cut = int(about["prefix"]), int(about["room"]), 0
            self._known: dict[tuple[str, bool], list[int]] = {}
            self._chats: dict[str, list[int]] = {}  # by a rendered conversation
            self._ends: dict[str, int] = {}  # the tokens of the space that it ends with

        @property
        def eot_token_id(self) -> int:
            """The token that an empty text is read after."""
            return self.prefix

        @property
        def tokenizer_name(self) -> str:
            """What tells requests of two tokenizers apart where they are cached; nothing is cached."""
            return "studio"

        def _encode(self, texts: Sequence[str], bos: bool) -> None:
            new = list(dict.fromkeys(text for text in texts if (text, bos) not in self._known))
            if new:
                ids = ask("tokens", texts=new, bos=bos)["ids"]
                self._known |= {(text, bos): one for text, one in zip(new, ids, strict=True)}

        def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
            """Tokenise a text; what looks like a control token in it is text."""
            if add_special_tokens is None and string in self._chats:
                return self._chats[string]
            bos = add_special_tokens is not False
            self._encode([string], bos)
            return self._known[string, bos]

        def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
            if context in self._chats:  # the space at its end belongs to what follows, as everywhere in the harness
                ids, at = self._chats[context], len(self._chats[context]) - self._ends[context]
                return ids[:at], [*ids[at:], *self.tok_encode(continuation, add_special_tokens=False)]
            pair: tuple[list[int], list[int]] = super()._encode_pair(context, continuation)
            return pair

        def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
            """Give (log p, whether it is what greedy decoding says) of continuations."""
            pairs = [one.args for one in requests]
            raw = [(context, text) for context, text in pairs if context and context not in self._chats]
            self._encode([text for pair in raw for text in ("".join(pair), pair[0].rstrip())], True)
            self._encode([text for context, text in pairs if not context or context in self._chats], False)
            found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
            return found

        def _loglikelihood_tokens(self, requests: list[Any], **kwargs: Any) -> list[tuple[float, bool]]:
            asked = []
            for (context, text), before, ids in requests:
                if not ids or len(ids) >= self.room:
                    what = "no token" if not ids else f"{len(ids)} tokens, the context {self.room}"
                    raise DataError(f"The text {text[:80]!r} after {context[-80:]!r} has {what}.", "Change the row.")
                self.cut += len(before) + len(ids) > self.room
                asked.append([before[-(self.room - len(ids)) :], ids])
            return [(float(log), bool(greedy)) for log, greedy in ask("likely", pairs=asked)]

        def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
            """Give log p of whole texts, in windows as long as the context."""
            self._encode([one.args[0] for one in requests], True)
            windows = [
                [make_disjoint_window(pair) for pair in self._windows(self.tok_encode(one.args[0]))] for one in requests
            ]
            found = iter(ask("likely", pairs=[list(pair) for some in windows for pair in some]))
            return [math.fsum(next(found)[0] for _ in some) for some in windows]

        def _windows(self, ids: list[int]) -> Iterator[Any]:
            return get_rolling_token_windows(ids, self.prefix, self.room - 1, 1)

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            """Go on with texts up to one of the texts that end them."""
            self._encode([one.args[0] for one in requests if one.args[0] not in self._chats], True)
            items = []
            for one in requests:
                context, draw = one.args[0], _draw(one.args[1], max_tokens)
                ids, room = self.tok_encode(context) or [self.prefix], self.room - draw["max_tokens"] - 2
                if room < 1:
                    raise DataError(
                        f"A task asks for {draw['max_tokens']} tokens; the context holds {self.room}.",
                        "Write a smaller max_gen_toks in its generation_kwargs.",
                    )
                self.cut += len(ids) > room
                items.append([ids[-room:], draw])
            said: list[str] = ask("generate", items=items)
            return said

        def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
            """Render a conversation by the file's own template; its tokens are kept for when it is asked."""
            turns = [dict(turn) for turn in chat_history]
            made = ask("template", turns=turns, goes_on=not add_generation_prompt)
            text: str = made["text"]
            self._chats[text], self._ends[text] = made["ids"], _ending(text, made["texts"])
            return text

    return Spoken()


def _ending(text: str, tokens: Sequence[str]) -> int:
    """Count the last tokens that are the space at the end of a text; 0 where they do not fall together."""
    for count in range(len(tokens)):
        end = "".join(tokens[len(tokens) - count :])
        if (end and not end.isspace()) or len(end) > len(text) - len(text.rstrip()):
            break
        if text.rstrip() + end == text:
            return count
    return 0


_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def _draw(given: Mapping[str, Any], max_tokens: int) -> dict[str, Any]:
    """Read a task's generation_kwargs: always the likeliest token, unless it asks for samples."""
    until = given.get("until") or []
    warm = float(given.get("temperature") or 0.0)
    samples = bool(given.get("do_sample", warm > 0))
    draw: dict[str, Any] = {
        "stop": [str(one) for one in (until if isinstance(until, list) else [until])],
        "max_tokens": next((int(given[name]) for name in _LENGTHS if given.get(name)), max_tokens),
        "temperature": (warm or 1.0) if samples else 0.0,
    }
    return draw | {name: given[name] for name in ("top_p", "top_k", "min_p") if samples and given.get(name) is not None}
