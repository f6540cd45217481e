"""The certificate's lines about conversations: the same prompt as in training, one BOS, an end where turns end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from studio.child import Child
from studio.data.records import Message
from studio.errors import StudioError
from studio.export import gguf, probes, vocab
from studio.export.known import Known
from studio.export.repair import TEMPLATE
from studio.export.talks import AS_TEXT, CONVERSATIONS
from studio.models.ggufhead import Head

_AGAIN = "write the model's own with `studio verify FILE --model M --repair OUT`, or export again."


def line(name: str, ok: bool | None, value: Any, limit: Any = "", remedy: str = "") -> dict[str, Any]:
    """Make a line; only one that fails has a remedy."""
    return {"name": name, "ok": ok, "value": value, "limit": limit, "remedy": remedy if ok is False else ""}


def prompts(engine: Child, other: Child, head: Head, known: Known) -> list[dict[str, Any]]:
    """Compare the prompts of 12 conversations: as training renders them, as the file's template does, in two programs.

    llama-cpp-python renders and reads the whole text; the conversation with control tokens as text is compared as text
    there, and in tokens where our own engine reads it. It moves no system text, and is given the moved one where the
    template has no place for it.
    """
    begins = gguf.begins(known.renderer, known.chats)
    flag = head.metadata.get("tokenizer.ggml.add_bos_token", False)
    if not known.chats:
        said = "a base without a template is asked in plain text"
        return [line("prompts", None, said), _flag(flag, begins, f"{said}, {'one' if begins else 'no'} BOS in front")]
    talks = {name: _composed(talk, known) for name, talk in CONVERSATIONS.items()}
    ours: dict[str, tuple[str, list[int]]] = {}
    for name, talk in talks.items():
        try:
            pieces = known.renderer.template.pieces(talk, generate=True)
            ours[name] = "".join(piece.text for piece in pieces), known.renderer.prompt(talk)
        except (StudioError, ValueError):
            continue  # a template that refuses a system turn refuses it in all places
    template, file = known.renderer.template, str(head.path)
    raw = [[turn.to_dict() for turn in talks[name]] for name in ours]
    placed = [[turn.to_dict() for turn in template.placed(talks[name])[0]] for name in ours]
    try:
        mine = engine.ask({"op": "prompt", "gguf": file, "conversations": raw}, timeout=300)
        theirs = other.ask({"gguf": file, "conversations": placed}, timeout=300)
    except StudioError as error:
        return [
            line("prompts", False, f"the template in the file is broken: {error.message}", "", f"It is: {_AGAIN}"),
            line("beginning", None, "the template in the file is broken"),
        ]
    wrong = [] if mine["has_template"] else list(ours)
    for at, (name, (text, ids)) in enumerate(ours.items()):
        same = theirs["texts"][at] == text and (name == AS_TEXT or theirs["ids"][at] == ids)
        if name not in wrong and not (same and mine["ids"][at] == ids):
            wrong.append(name)
    value = f"{len(ours) - len(wrong)} of {len(ours)} conversations give the tokens that training gives"
    if len(ours) < len(talks):
        value += f"; the template refuses {len(talks) - len(ours)}"
    if any(template.moves_system(talks[name]) for name in ours):
        value += "; the template has no place for a system text, so that it stands in the first question"
    if wrong:
        value += f"; not: {', '.join(wrong)}"
    own = _text(str(head.metadata.get(TEMPLATE, ""))) == _text(known.renderer.source)
    if not wrong and not own:
        value += "; its text is another than in training: what it writes of other conversations is not known"
    return [
        line(
            "prompts",
            not wrong and own,
            value,
            "all",
            f"The file's template or vocabulary is not the one of training: {_AGAIN}",
        ),
        _beginning(head, known, [ids for _, ids in ours.values()], mine["ids"], begins, flag),
    ]


def _text(template: str) -> str:
    """Give a template without marks, and without the space around it."""
    return vocab.unmarked(template).strip()


def _beginning(
    head: Head, known: Known, ours: Sequence[list[int]], theirs: Sequence[Any], begins: bool, flag: Any
) -> dict[str, Any]:
    bos = known.renderer.tokenizer.bos_token_id
    if bos is None:
        return _flag(flag, False, "the model has no BOS")
    if bos in known.renderer.control_ids and any(row.count(bos) > 1 for row in ours):
        return line("beginning", None, "the template's own markers begin each turn")
    counts = {row.count(bos) for row in theirs if isinstance(row, list)}
    wanted = {row.count(bos) for row in ours}
    value = f"{max(counts, default=0)} BOS, {max(wanted, default=0)} in training"
    if counts != wanted:
        return line("beginning", False, value, "as in training", f"BOS is not as in training: {_AGAIN}")
    return _flag(flag, begins, value)


def _flag(flag: Any, wanted: bool, value: str) -> dict[str, Any]:
    """Compare the flag by which other programs put BOS in front."""
    if bool(flag) == wanted:
        return line("beginning", True, value, "as in training")
    said = f"{value}; the file tells programs to put {'one' if flag else 'none'} in front"
    return line("beginning", False, said, "as in training", f"The file's BOS flag is wrong: {_AGAIN}")


def stop_tokens(engine: Child, head: Head, known: Known) -> dict[str, Any]:
    """Compare the tokens at which the file stops with the one that ends a turn (a base: a text)."""
    if known.end is None:
        return line("stop tokens", None, "the model has no end of text")
    stops = engine.ask({"op": "prompt", "gguf": str(head.path), "conversations": []}, timeout=300)["stops"]
    names = {"eos": head.token("eos"), "eot": head.token("eot")} if known.chats else {"eos": head.token("eos")}
    wrong = [
        f"{name} is {head.tokens[token]!r}"
        for name, token in names.items()
        if token is not None and head.tokens[token] != known.end
    ]
    if known.end not in stops:
        wrong.append(f"it does not stop at {known.end}")
    value = (
        f"{known.end} ends {'a turn' if known.chats else 'a text'}; the file stops at {', '.join(stops) or 'nothing'}"
    )
    if wrong:
        value += f"; {'; '.join(wrong)}"
    return line("stop tokens", not wrong, value, "", f"The file's stop tokens are not the model's: {_AGAIN}")


def _composed(talk: Sequence[Message], known: Known) -> list[Message]:
    """Give a conversation with its characters composed, where the tokenizer composes them and llama.cpp does not."""
    return [Message(turn.role, probes.composed(known.renderer.tokenizer, turn.content)) for turn in talk]
