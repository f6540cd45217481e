"""Where rows can be meant in several ways: what to ask, and the readings to choose from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from studio.data.formats import judged, messages, names, rated, scored, unclear
from studio.data.formats.base import Format, Question, Roles, Row, columns_of, listed
from studio.data.formats.cells import cells, choice, columns_in, repeats, spare_texts
from studio.data.formats.columns import is_answered
from studio.data.formats.messages import looks_like_messages
from studio.data.formats.names import is_answer, plain
from studio.data.formats.rated import number_of
from studio.data.records import Reading

Bind = Callable[[Roles, Sequence[Row]], Format | None]
_Choice = tuple[str, Reading]
_BAD = ("incorrect", "wrong", "bad", "worse", "worst", "rejected", "false")
_CERTAIN = ("label", "labels", "rating", "ratings", "stars", "vote", "thumbs", "thumb")


def resolve(roles: Roles, rows: Sequence[Row], bind: Bind) -> Format | Question:
    """Make the format for these roles, or the question that stands before it."""
    played = set(roles.values())
    if "rejected" in played:
        question = _answer_beside_pair(roles, rows) or _other_prompts(roles, rows)
    elif "messages" in played and messages.hold_texts(rows, columns_of(roles, "messages")[0]):
        question = unclear.of_turns(columns_of(roles, "messages")[0])
    elif {"completion", "messages"} & played:
        label, question = _label(roles, rows)
        roles = roles | label
        if "completion" in played and len(rows) > 1 and not cells(rows, columns_of(roles, "completion")[0]):
            return _all_empty(roles)
        told = cells(rows, columns_of(roles, "completion")[0]) if "completion" in played else []
        if told and all(isinstance(value, bool) for value in told):
            return _no_words(roles)
        if "completion" in played and _several(roles, rows):
            question = scored.no_verdict(f"{columns_of(roles, 'completion')[0]!r} holds several answers", roles)
        if "completion" in played and not question:
            question = _options(roles, rows) or _other_answers(roles, rows) or _other_prompts(roles, rows)
            question = question or _thoughts(roles, rows)
        question = question or (None if label else judged.ask(roles, rows))
    elif "text" in played:
        question = unclear.of_text(roles, rows)
    else:
        question = unclear.of_prompts(roles, rows)
    return question or bind(roles, rows) or unclear.unknown(rows)


def _answer_beside_pair(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """A pair and an answer in one row: which is meant, unless the answer is one of the pair's."""
    pair = [*columns_of(roles, "chosen"), *columns_of(roles, "rejected")]
    if len(pair) < 2:
        return None
    for column in columns_in(rows):
        known = plain(column) in names.ANSWERS or (
            plain(column) in names.MESSAGES and any(looks_like_messages(row.get(column)) for row in rows)
        )
        told = [row for row in rows if row.get(column) not in (None, "")]
        asks_in_full = roles.get(column) == "messages" and any(is_answered(row.get(column)) for row in rows)
        if (
            (column in roles and not asks_in_full)
            or not known
            or len(told) * 2 < len(rows)
            or repeats(told, column, pair)
        ):
            continue
        asks = {name: role for name, role in roles.items() if role not in ("chosen", "rejected")}
        answer = {column: "messages"} if plain(column) in names.MESSAGES else {**asks, column: "completion"}
        return Question(
            f"The rows hold a pair ({listed(pair)}) and an answer of its own ({column!r}). Which is meant?",
            (
                (f"Preference pairs: {pair[0]!r} is better than {pair[1]!r}", choice(roles, "preference")),
                (f"Answers to imitate: {column!r}", choice(answer, "sft")),
            ),
        )
    return None


def _label(roles: Roles, rows: Sequence[Row]) -> tuple[Roles, Question | None]:
    """Find a column of labels beside an answer: a rating, a scale, or names of something else."""
    for column in columns_in(rows):
        if column in roles or plain(column) not in names.LABELS:
            continue
        told = cells(rows, column)
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
        choices: list[_Choice] = [("Answers to imitate, all of them", choice(roles, "sft"))]
        if scale is not None and len(set(map(number_of, told))) > 1:
            title = f"Rated answers: on {scale[0]:g} to {scale[1]:g}, the upper half is wanted, the middle left out"
            choices.append((title, choice(roles, {column: "label"}, "kto")))
        choices.append(("Prompts alone", choice(roles, "prompt")))
        return {}, Question(f"Is {column!r} a rating of the answer? It holds {seen}.", tuple(choices))
    return {}, None


def _other_answers(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Several columns that may be the answer."""
    chosen = columns_of(roles, "completion")[0]
    others = [c for c in spare_texts(roles, rows) if is_answer(c) and not repeats(rows, c, [chosen])]
    if not others:
        return None
    asks = {name: role for name, role in roles.items() if role not in ("completion", "label")}
    bad = [name for name in others if set(plain(name).split("_")) & set(_BAD)]
    choices = [
        (f"{name!r} is the answer to imitate", choice(asks, {name: "completion"}, "sft"))
        for name in [chosen, *others]
        if name not in bad
    ]
    choices += [
        (
            f"Pairs: {chosen!r} is better than {name!r}",
            choice(asks, {chosen: "chosen", name: "rejected"}, "preference"),
        )
        for name in bad
    ]
    choices.append((f"Prompts, with {chosen!r} as the reference", choice(asks, {chosen: "reference"}, "prompt")))
    return Question(f"Which column is the answer: {listed([chosen, *others])}?", tuple(choices))


def _all_empty(roles: Roles) -> Question:
    """No answer at all under a column's name that promises one."""
    asks = {name: role for name, role in roles.items() if role not in ("completion", "label")}
    return Question(
        f"{columns_of(roles, 'completion')[0]!r} is empty in the first rows. Are these prompts without an answer?",
        (("Prompts alone", choice(asks, "prompt")),),
    )


def _no_words(roles: Roles) -> Question:
    """Ask about answers that are true or false: how a model is to say that is not in the file."""
    column = columns_of(roles, "completion")[0]
    asks = {name: role for name, role in roles.items() if role not in ("completion", "label")}
    return Question(
        f"{column!r} holds true or false, not text. Write the words to be learned (yes and no), or read the prompts"
        " alone?",
        (("Prompts alone", choice(asks, "prompt")),),
    )


def _several(roles: Roles, rows: Sequence[Row]) -> bool:
    """Say whether the answers are lists of texts."""
    told = cells(rows, columns_of(roles, "completion")[0])
    lists = [v for v in told if isinstance(v, list) and v and all(isinstance(part, str) for part in v)]
    return len(lists) * 2 > len(told)


def _options(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Choices to choose from: the answer is the number or the letter of one of them."""
    for column in columns_in(rows):
        told = cells(rows, column)
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
                    (f"{answer!r} as it is, without the choices", choice(roles, "sft")),
                    ("Prompts alone", choice(roles, "prompt")),
                ),
            )
    return None


def _thoughts(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """A column of thinking beside the answer."""
    for column in spare_texts(roles, rows):
        if plain(column) in names.THOUGHTS:
            return Question(
                f"Is {column!r} what the model is to think before it answers?",
                (
                    (f"{column!r} is thought, then comes the answer", choice(roles, {column: "reasoning"}, "sft")),
                    ("The answer alone", choice(roles, "sft")),
                ),
            )
    return None


def _other_prompts(roles: Roles, rows: Sequence[Row]) -> Question | None:
    """Another column that may be a part of the prompt."""
    asks = columns_of(roles, "prompt")
    if not asks:
        return None
    known = {*names.PROMPTS, *names.CONTEXTS, "passage", "document", "article"} - {"user", "human", "request"}
    others = [name for name in spare_texts(roles, rows) if plain(name) in known and not repeats(rows, name, asks)]
    if not others:
        return None
    rest = {name: role for name, role in roles.items() if role != "prompt"}
    kind = "preference" if "chosen" in rest.values() else "kto" if "label" in rest.values() else "sft"
    first = {name: "prompt" for name in others} | {name: "prompt" for name in asks}
    then = {name: "prompt" for name in asks} | {name: "prompt" for name in others}
    return Question(
        f"What is asked: {listed(asks)} alone, or with {listed(others)}?",
        (
            (f"{listed(asks)} alone", choice({name: "prompt" for name in asks}, rest, kind)),
            (f"{listed(others)}, then {listed(asks)}", choice(first, rest, kind)),
            (f"{listed(asks)}, then {listed(others)}", choice(then, rest, kind)),
            *((f"{listed([name])} alone", choice({name: "prompt"}, rest, kind)) for name in others),
        ),
    )
