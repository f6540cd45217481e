"""Find out by trying what a model's own template does not say: what opens an answer, which token ends one."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence

from studio.data.records import Message
from studio.errors import ModelError, StudioError
from studio.render.sandbox import CHOOSE
from studio.render.template import PROBE, ChatTemplate

_QUESTION, _ANSWER, _PROBE = Message("user", "question"), Message("assistant", "answer"), Message("assistant", PROBE)


def opening(template: ChatTemplate) -> str:
    """Find what a template without a generation prompt writes between a question and its answer.

    "" when it has a generation prompt, or writes nothing there but white space. Raises ModelError when what is written
    differs from turn to turn, so that a chat could not be opened as it was trained.
    """
    found = set()
    for talk in ([_QUESTION], [_QUESTION, _ANSWER, _QUESTION]):
        try:
            asked, answered = template.text(talk, generate=True), template.text([*talk, _PROBE])
            if asked != template.text(talk) or not answered.startswith(asked) or PROBE not in answered[len(asked) :]:
                return ""
        except StudioError:
            return ""
        found.add(answered[len(asked) :].partition(PROBE)[0])
    if not any(header.strip() for header in found):
        return ""
    if len(found) > 1:
        raise ModelError(
            "The chat template does not open the assistant's turn when it is asked to (add_generation_prompt), and "
            "opens its turns in different ways.",
            CHOOSE,
        )
    return found.pop()


def opened(source: str, header: str) -> str:
    """Give a template with a generation prompt; Jinja leaves out a line's end at the end, so it is taken off here."""
    source = source.removesuffix("\n").removesuffix("\r")
    return f"{source}{{{{ {json.dumps(header, ensure_ascii=False)} if add_generation_prompt else '' }}}}"


def ending(template: ChatTemplate, control: Collection[str], known: Sequence[str]) -> str:
    """Find the control token that ends an answer, whether another turn follows or not; "" where there is none.

    One of the `known` ends counts first; else the last of those that stand there: Cohere writes two.
    """
    token = "|".join(map(re.escape, sorted(control, key=len, reverse=True))) or "(?!)"
    behind = []
    for talk in ([_QUESTION, _PROBE], [_QUESTION, _PROBE, _QUESTION]):
        try:
            rest = template.text(talk).partition(PROBE)[2]
        except StudioError:
            return ""
        run = re.match(rf"\s*((?:{token})*)", rest)
        behind.append(re.findall(token, run[1]) if run else [])
    shared = [last for last, earlier in zip(*behind, strict=False) if last == earlier]
    return next((stop for stop in known if stop in shared), shared[-1] if shared else "")
