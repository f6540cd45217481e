"""Asking many at once, where some may be too long for who answers: the others are asked all the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from studio.errors import InputError
from studio.feedback import making
from studio.feedback.speakers import Ask, Draw, Said, Speaker


def answers(
    speaker: Speaker, asks: Sequence[Ask], draw: Draw, should_stop: Callable[[], bool] = bool
) -> Iterator[list[Said] | None]:
    """Give the answers of each prompt, None for one that has no room in the speaker's context. Raises Stopped.

    After a refusal the next prompt is asked alone, for it is not told whose fault it was where several go at once.
    """
    at, alone = 0, False
    while at < len(asks):
        some = asks[at : at + 1] if alone else asks[at:]
        try:
            for _, said in speaker.ask(some, draw, should_stop):
                yield said
                at += 1
            alone = False
        except InputError as error:
            if not making.too_long(error):
                raise
            if alone:
                yield None
                at += 1
            alone = not alone
