"""Where rows can be meant in several ways: what to ask, and the readings to choose from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from studio.data.formats import names, rated, scored, transcripts
from studio.data.formats.base import Format, Question, Roles, Row, columns_of, listed
from studio.data.formats.messages import looks_like_messages
from studio.data.formats.names import is_answer, is_aside, plain
from studio.data.formats.prompts import bind_transcript
from studio.data.formats.rated import number_of
from studio.data.records import Reading

Bind = Callable[[Roles, Sequence[Row]], Format | None]
_Choice = tuple[str, Reading]
_BAD = ("incorrect", "wrong", "bad", "worse", "worst", "rejected", "false")
_CERTAIN = ("label", "labels", "rating", "ratings", "stars", "vote", "thumbs", "thumb")
_TELLING = ("label", "labels", "sentiment", "summary", "class", "answer", "target")
_FEW = 0.1
_MOST = 0.8


def resolve(roles: Roles, rows: Sequence[Row], bind: Bind) -> Format | Question:
    """Make the format for these roles, or the question that stands before it."""
    played = set(roles.values())
    if "chosen" in played:
        question = _answer_beside_pair(roles, rows) or _other_prompts(roles, rows)
    elif {"completion", "messages"} & played:
        label, question = _label(roles, rows)
        roles = roles | label
        if "completion" in played and _several(roles, rows):
            question = scored.no_verdict(f"{columns_of(roles, 'completion')[0]!r} holds several answers", roles)
        if "completion" in played and not question:
            question = _options(roles, rows) or _other_answers(roles, rows) or _other_prompts(roles, rows)
            question = question or _thoughts(roles, rows)
        question = question or (None if label else _scores(roles, rows))
    elif "text" in played:
        question = _text(roles, rows)
    else:
        question = _lone_prompt(roles, rows)
    return question or bind(roles, rows) or unknown(rows)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _told(rows: Sequence[Row], column: str) -> list[Any]:
    return [value for row in rows if (value := row.get(column)) is not None and value != ""]


def _spare_texts(roles: Roles, rows: Sequence[Row]) -> Iterator[str]:
    """Give the columns of text that play no role, though they are no mere asides."""
    for column in _columns(rows):
        if column not in roles and not is_aside(column):
            told = _told(rows, column)
            if told and len(told) * 2 >= len(rows) and all(isinstance(value, str) for value in told):
                yield column


def _same(rows: Sequence[Row], one: str, others: Sequence[str]) -> bool:
    """Say whether a column repeats one of the others in every row."""
    return all(any(_flat(row.get(one)) == _flat(row.get(other)) for other in others) for row in rows)


def _flat(value: Any) -> str:
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, dict):
        value = value.get("content", value.get("value"))
    return str(value).strip()


def _reading(*parts: Roles | str) -> Reading:
    mapping: Roles = {}
    kind = ""
    for part in parts:
        if isinstance(part, str):
            kind = part
        else:
            mapping |= part
    return Reading(mapping, kind)


def _answer_beside_pair(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """A pair and an answer in one row: which is meant, unless the answer is one of the pair's."""
    pair = [*columns_of(roles, "chosen"), *columns_of(roles, "rejected")]
    for column in _columns(rows):
        known = plain(column) in names.ANSWERS or (
            plain(column) in names.MESSAGES and any(looks_like_messages(row.get(column)) for row in rows)
        )
        told = [row for row in rows if row.get(column) not in (None, "")]
        if column in roles or not known or len(told) * 2 < len(rows) or _same(told, column, pair):
            continue
        asks = {name: role for name, role in roles.items() if role not in ("chosen", "rejected")}
        answer = {column: "messages"} if plain(column) in names.MESSAGES else {**asks, column: "completion"}
        return Question(
            f"The rows hold a pair ({listed(pair)}) and an answer of its own ({column!r}). Which is meant?",
            (
                (f"Preference pairs: {pair[0]!r} is better than {pair[1]!r}", _reading(roles, "preference")),
                (f"Answers to imitate: {column!r}", _reading(answer, "sft")),
            ),
        )
    return None


def _label(roles: Roles, rows: Sequence[Row]) -> tuple[Roles, Question | None]:
    """Find a column of labels beside an answer: a rating, a scale, or names of something else."""
    for column in _columns(rows):
        if column in roles or plain(column) not in names.LABELS:
            continue
        told = _told(rows, column)
        scalar = told and all(isinstance(value, (str, bool, int, float)) for value in told)
        if not scalar or len(told) * 2 < len(rows):
            continue
        stars = plain(column) in ("rating", "ratings", "stars") and not any(number_of(v) == 0 for v in told)
        if rated.are_labels(told) and not (stars and all(number_of(v) is not None for v in told)):
            return {column: "label"}, None
        scale = rated.scale_of(told)
        if scale is None and plain(column) not in _CERTAIN:
            continue
        seen = ", ".join(sorted({str(value)[:20] for value in told})[:5])
        choices: list[_Choice] = [("Answers to imitate, all of them", _reading(roles, "sft"))]
        if scale is not None and len(set(map(number_of, told))) > 1:
            title = f"Rated answers: on {scale[0]:g} to {scale[1]:g}, the upper half is wanted, the middle left out"
            choices.append((title, _reading(roles, {column: "label"}, "kto")))
        choices.append(("Prompts alone", _reading(roles, "prompt")))
        return {}, Question(f"Is {column!r} a rating of the answer? It holds {seen}.", tuple(choices))
    return {}, None


def _scores(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """A score beside an answer is a rating where it is 0 or 1, or where one prompt has answers of several scores."""
    asks = columns_of(roles, "prompt")
    for column in _columns(rows):
        if column in roles or plain(column) not in names.SCORES:
            continue
        numbers = [number_of(row.get(column)) for row in rows]
        seen: dict[str, set[float | None]] = {}
        for row, number in zip(rows, numbers, strict=True):
            seen.setdefault("\n".join(str(row.get(name)) for name in asks), set()).add(number)
        if None in numbers or not (
            set(numbers) == {0.0, 1.0} or (asks and any(len(scores) > 1 for scores in seen.values()))
        ):
            continue
        return Question(
            f"{column!r} scores the answers. Are they all to be imitated, or are they rated answers?",
            (
                ("Answers to imitate, all of them", _reading(roles, "sft")),
                (f"Rated answers: {column!r} says which are wanted", _reading(roles, {column: "label"}, "kto")),
                ("Prompts alone", _reading(roles, "prompt")),
            ),
        )
    return None


def _other_answers(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Several columns that may be the answer."""
    chosen = columns_of(roles, "completion")[0]
    others = [c for c in _spare_texts(roles, rows) if is_answer(c) and not _same(rows, c, [chosen])]
    if not others:
        return None
    asks = {name: role for name, role in roles.items() if role not in ("completion", "label")}
    bad = [name for name in others if set(plain(name).split("_")) & set(_BAD)]
    choices = [
        (f"{name!r} is the answer to imitate", _reading(asks, {name: "completion"}, "sft"))
        for name in [chosen, *others]
        if name not in bad
    ]
    choices += [
        (
            f"Pairs: {chosen!r} is better than {name!r}",
            _reading(asks, {chosen: "chosen", name: "rejected"}, "preference"),
        )
        for name in bad
    ]
    choices.append((f"Prompts, with {chosen!r} as the reference", _reading(asks, {chosen: "reference"}, "prompt")))
    return Question(f"Which column is the answer: {listed([chosen, *others])}?", tuple(choices))


def _several(roles: Roles, rows: Sequence[Row]) -> bool:
    """Say whether the answers are lists of texts."""
    told = _told(rows, columns_of(roles, "completion")[0])
    lists = [v for v in told if isinstance(v, list) and v and all(isinstance(part, str) for part in v)]
    return len(lists) * 2 > len(told)


def _options(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Choices to choose from: the answer is the number or the letter of one of them."""
    for column in _columns(rows):
        told = _told(rows, column)
        if (
            plain(column) in ("choices", "options")
            and column not in roles
            and told
            and isinstance(told[0], (list, dict))
        ):
            answer = columns_of(roles, "completion")[0]
            return Question(
                f"{column!r} holds choices that are not part of the prompt. Is {answer!r} to be learned as it is?",
                (
                    (f"{answer!r} as it is, without the choices", _reading(roles, "sft")),
                    ("Prompts alone", _reading(roles, "prompt")),
                ),
            )
    return None


def _thoughts(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """A column of thinking beside the answer."""
    for column in _spare_texts(roles, rows):
        if plain(column) in names.THOUGHTS:
            return Question(
                f"Is {column!r} what the model is to think before it answers?",
                (
                    (f"{column!r} is thought, then comes the answer", _reading(roles, {column: "reasoning"}, "sft")),
                    ("The answer alone", _reading(roles, "sft")),
                ),
            )
    return None


def _other_prompts(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Another column that may be a part of the prompt."""
    asks = columns_of(roles, "prompt")
    if not asks:
        return None
    known = {*names.PROMPTS, *names.CONTEXTS, "passage", "document", "article"} - {"user", "human", "request"}
    others = [name for name in _spare_texts(roles, rows) if plain(name) in known and not _same(rows, name, asks)]
    if not others:
        return None
    rest = {name: role for name, role in roles.items() if role != "prompt"}
    kind = "preference" if "chosen" in rest.values() else "kto" if "label" in rest.values() else "sft"
    first = {name: "prompt" for name in others} | {name: "prompt" for name in asks}
    then = {name: "prompt" for name in asks} | {name: "prompt" for name in others}
    return Question(
        f"What is asked: {listed(asks)} alone, or with {listed(others)}?",
        (
            (f"{listed(asks)} alone", _reading({name: "prompt" for name in asks}, rest, kind)),
            (f"{listed(others)}, then {listed(asks)}", _reading(first, rest, kind)),
            (f"{listed(asks)}, then {listed(others)}", _reading(then, rest, kind)),
            *((f"{listed([name])} alone", _reading({name: "prompt"}, rest, kind)) for name in others),
        ),
    )


def _text(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Text that may be something else: a transcript, a prompt, or one half of a table."""
    column = columns_of(roles, "text")[0]
    told = [value for value in _told(rows, column) if isinstance(value, str)]
    others = [
        name for name in _columns(rows)
        if plain(name) in _TELLING and name not in roles and len(_told(rows, name)) * 2 >= len(rows)
    ]  # fmt: skip
    plainly = (f"Plain text to continue: {column!r}", _reading({column: "text"}, "text"))
    asks = (f"Prompts: {column!r}", _reading({column: "prompt"}, "prompt"))
    if others:
        pairs = [
            (f"{column!r} is the prompt, {name!r} the answer", _reading({column: "prompt", name: "completion"}, "sft"))
            for name in others
        ]
        return Question(f"Is {listed(others)} the answer to {column!r}, or is the text alone meant?", (*pairs, plainly))
    marked = sum(transcripts.dialect_of(text) is not None or transcripts.looks_unsure(text) for text in told)
    if marked > _FEW * len(told) and bind_transcript(roles, rows) is None:
        return Question(
            f"{marked} of {len(told)} texts carry the marks of a chat, but not in one way that can be read exactly."
            " Are they plain text, marks and all? Otherwise write their turns as messages.",
            (plainly,),
        )
    short = sum(text.rstrip().endswith("?") and len(text) < 300 for text in told)
    if told and short > _MOST * len(told):
        return Question(
            f"{column!r} holds questions. Are they prompts to answer, or text to continue?", (asks, plainly)
        )
    return None


def _lone_prompt(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Prompts beside which there may be an answer after all, or that hold it themselves."""
    asks = columns_of(roles, "prompt")
    whole = [bind_transcript({name: "text"}, rows) for name in asks[:1]]
    if whole[0] is not None and _answered(rows, asks[0]):
        return Question(
            f"{asks[0]!r} holds whole conversations, answers and all. How are they meant?",
            (
                ("Conversations to imitate", _reading({asks[0]: "text"}, "sft")),
                ("Plain text to continue", _reading({asks[0]: "text"}, "text")),
            ),
        )
    texts = list(_spare_texts(roles, rows))
    others = [name for name in texts if is_answer(name) or (plain(name) not in names.LABELS and _speaks(rows, name))]
    packed = [c for c in _columns(rows) if c not in (*roles, *texts) and plain(c) in ("answer", "answers", "output")]
    if not others and not packed:
        return None
    if not others:
        text = f"{listed(packed)} may be the answer to {listed(asks)}, but holds no text. Read the prompts alone?"
        return Question(text, (("Prompts alone", _reading(roles, "prompt")),))
    prompt = {name: role for name, role in roles.items() if role != "reference"}
    return Question(
        f"Is {listed(others)} the answer to {listed(asks)}?",
        (
            *((f"{name!r} is the answer to imitate", _reading(prompt, {name: "completion"}, "sft")) for name in others),
            ("Prompts alone", _reading(roles, "prompt")),
        ),
    )


def _answered(rows: Sequence[Row], column: str) -> bool:
    """Say whether the transcripts of a column end in the assistant's words."""
    dialects = [(text, transcripts.dialect_of(text)) for text in _told(rows, column) if isinstance(text, str)]
    told = [transcripts.parse(text, dialect, column)[-1] for text, dialect in dialects[:1] if dialect]
    return any(role == "assistant" and said for role, said in told)


def _speaks(rows: Sequence[Row], column: str) -> bool:
    """Say whether a column holds running text that differs from row to row."""
    told = [str(value) for value in _told(rows, column)]
    return sum(" " in text.strip() for text in told) * 2 > len(rows) and len(set(told)) * 2 > len(told)


def unknown(rows: Sequence[Row]) -> Question:
    """Ask about columns whose names say nothing."""
    columns = list(_spare_texts({}, rows)) or [
        c for c in _columns(rows) if any(isinstance(v, str) for v in _told(rows, c))
    ]
    inside = [c for c in _columns(rows) if len(rows) == 1 and isinstance(v := rows[0][c], list) and _objects(v)]
    if inside and len(columns) < 2:
        return Question(
            f"The file is one object. Are its rows the list in {inside[0]!r}? Then save that list alone.", ()
        )
    if not columns:
        return Question(
            f"No column holds text that can be read: the file has {listed(_columns(rows)[:20])}. Name them with --map.",
            (),
        )
    choices: list[_Choice] = []
    asks = [name for name in columns if plain(name) in names.PROMPTS]
    for one in (asks or columns)[:3]:
        for other in columns[:4]:
            if one != other and other not in asks and len(choices) < 6:
                title = f"{one!r} is the prompt, {other!r} the answer"
                choices.append((title, _reading({one: "prompt", other: "completion"}, "sft")))
    choices += [(f"Prompts: {name!r}", _reading({name: "prompt"}, "prompt")) for name in columns[:4]]
    choices += [(f"Plain text to continue: {name!r}", _reading({name: "text"}, "text")) for name in columns[:2]]
    held = "does the column" if len(columns) == 1 else "do the columns"
    return Question(f"What {held} {listed(columns[:12])} hold?", tuple(choices))


def _objects(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(value, dict) for value in values)


def no_group(name: str) -> Question:
    """Ask for the column that says which rows belong together."""
    return Question(
        f"Each row is one message, and no column says which of them belong together. Add {name!r} to the rows.", ()
    )
