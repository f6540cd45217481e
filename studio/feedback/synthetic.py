"""Rows that a model makes: instructions and answers from seeds, topics or documents.

    seeds (--data FILE)    new instructions like those of the file (Wang et al. 2022, arXiv:2212.10560), or answers to
                           the file's own prompts
    topics                 a text file, one a line
    documents              a .txt or .md file, or a folder of them: questions that their passages answer

What is nearly the same as an earlier row or a seed, and what the lint finds wrong, is left out and counted. Every
record names its producer and the producer's licence.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from studio import events
from studio.config import setting
from studio.data import near, preferences, same, signs
from studio.data.preferences import Record
from studio.data.records import Conversation, Message, Reading
from studio.data.votes import Answer
from studio.errors import ConfigError
from studio.feedback import (
    asking,
    endpoint,
    engines,
    filters,
    given,
    inventing,
    licences,
    making,
    refusals,
    starts,
    wording,
)
from studio.feedback.revising import chunks
from studio.feedback.speakers import Ask, Draw, Said, Speaker, speakers_of
from studio.feedback.starts import Start
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]

NAMES = ("answers_from",)
NEEDS_DATA = False
#: Why a row is not used.
NO_INSTRUCTION, INSTRUCTION_CUT = "the instruction is empty", "the instruction was cut off"
ALIKE, LONG = "nearly the same as another row or a seed", "too long for the model"
NO_REQUEST, ELSEWHERE = "the instruction asks nothing", "nothing of the answer is in the passage"
EMPTY, CUT, REFUSED = "the answer is empty", "the answer was cut off", "the answer is a refusal"
COPIED, LOOPED, NOT_THERE = "the answer copies the instruction", "the answer repeats itself", "not in the passage"
MENTIONS, MARKED = "it speaks of the passage", "it repeats the marks of the request"
#: Codes of the lint that leave a row out, in words.
LINT = {
    "foreign_markers": "markers of a chat format in the text",
    "control_characters": "control characters in the text",
    "mojibake": "broken characters in the text",
    "placeholder": "a placeholder in the text",
}
#: Instructions are short; this many tokens are room for one.
_INSTRUCTION = 128


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of synthetic data."""

    answers_from: str = setting(
        "",
        "Who makes the rows: a run, a model, a GGUF file or an endpoint (http://127.0.0.1:11434/v1#MODEL).",
        advanced=False,
    )
    topics: str = setting("", "A text file of topics, one a line.", advanced=False)
    documents: str = setting("", "A .txt or .md file, or a folder of them.", advanced=False)
    make: str = setting(
        "instructions",
        "Of seeds: new instructions like them, with answers; or answers to the seeds themselves.",
        choices=("instructions", "answers"),
        advanced=False,
    )
    n: int = setting(1, "Rows from each seed, topic or passage.", low=1, high=100, unit="rows", advanced=False)
    passage_words: int = setting(200, "Length of a document's passages.", low=20, high=2000, unit="words")
    with_passage: bool = setting(
        False, "Put the passage before its question in the row: to read, not to know by heart."
    )
    keep_refusals: bool = setting(False, "Keep answers that refuse.")
    temperature: float = setting(0.9, "How freely instructions are drawn.", low=0.0, high=5.0)
    answer_temperature: float = setting(0.3, "How freely answers are drawn.", low=0.0, high=5.0)
    top_p: float = setting(1.0, "Only the likeliest tokens that make up this share.", low=0.01, high=1.0)
    max_tokens: int = setting(256, "Longest answer; a longer one counts as cut off.", low=1, high=32768, unit="tokens")
    context: int = setting(4096, "Tokens of all that is asked and answered.", low=128, high=1048576, unit="tokens")
    limit: int = setting(0, "At most so many seeds, topics or passages. 0: all.", low=0, high=10**9)
    seed: int = setting(0, "The same seed gives the same rows again.", low=0, high=2**31 - 1)
    engine: str = setting(engines.AUTO, engines.HELP, choices=engines.CHOICES)
    allow_endpoint: bool = setting(False, endpoint.CONSENT)


def ready(config: Config) -> Config:
    """Check the settings before anything is written, and complete them. Raises ConfigError."""
    if not config.answers_from.strip():
        raise ConfigError("Nobody is named who makes the rows.", "Name a model or an endpoint.", field="answers_from")
    endpoint.check([config.answers_from], config.allow_endpoint)
    if config.topics and config.documents:
        raise ConfigError("Both topics and documents are named.", "Name one of them.", field="topics")
    places: dict[str, Any] = {}
    for name in ("topics", "documents"):
        if value := getattr(config, name):
            place = Path(value).expanduser()
            if place.is_dir() and name == "topics":
                raise ConfigError(f"{value!r} is a folder.", "Name a text file in it, one topic a line.", field=name)
            if not (place.is_file() or place.is_dir()):
                raise ConfigError(f"{value!r} is not there.", "Name a file that is.", field=name)
            if name == "documents" and place.is_file() and place.suffix.lower() not in ("", *starts.SUFFIXES):
                said = f"{place.name} is no text file by its name."
                raise ConfigError(said, f"Name one of {', '.join(starts.SUFFIXES)}; rows: --data FILE.", field=name)
            places[name] = str(place.resolve())
    return dataclasses.replace(config, **places)


def run(run: Run, emit: Emit, should_stop: Halt) -> dict[str, Any]:
    """Fill a set with what the producer makes. Raises Stopped, and what reading the seeds raises."""
    config = making.settings(run, Config)
    seeds, todo = _starts(run, config, emit, should_stop)
    licence = licences.of(config.answers_from)
    if making.missing(run, todo):
        names = [config.answers_from]
        with speakers_of(names, config, emit, should_stop) as (speaker,):
            maker = Maker(config, speaker, licence, _index(run, seeds, config), should_stop)
            making.fill(run, todo, maker.records, "Making rows", emit, should_stop)
    made = preferences.records(run.dir)
    identity = made[0].by.get("identity", {}) if made else {}
    rows = len(preferences.rows("sft", made))
    if not rows:
        text = "No usable rows: every one was left out. A larger model, or other starts, may do better."
        emit(events.event("note", level="warning", code="no_rows", text=text))
    return {
        "from": todo[0].kind,
        "producer": {**identity, "licence": licence},
        "licence_note": licences.NOTE,
        "usable": bool(rows),
    }


def _starts(run: Run, config: Config, emit: Emit, should_stop: Halt) -> tuple[list[str], list[Start]]:
    """Give the texts of the seeds, and the rows to be made."""
    given_data = bool(run.config.data)
    if given_data + bool(config.topics) + bool(config.documents) != 1:
        raise ConfigError(
            "Nothing is named to begin with, or more than one thing.",
            "Name seeds (--data FILE), --topics FILE or --documents PLACE.",
            field="data",
        )
    if config.topics:
        return [], starts.of_topics(Path(config.topics), config.n, config.limit)
    if config.documents:
        return [], starts.of_documents(Path(config.documents), config.n, config.passage_words, config.limit)
    reading = Reading.from_dict(run.config.options.get("reading") or {})
    seeds = given.prompts(run.config.data, reading, limit=config.limit, emit=emit, should_stop=should_stop)
    answers = config.make == "answers"
    texts = [] if answers else [str(one.turns[-1]["content"]) for one in seeds]
    return texts, starts.of_seeds(seeds, config.n, config.seed, answers)


def _index(run: Run, seeds: Sequence[str], config: Config) -> near.Index:
    """Remember the seeds, and the rows that are made already: a set that is resumed leaves out what it would have."""
    index = near.Index()
    for text in seeds:
        index.seen(near.signature(same.triples(text)))
    for record in preferences.records(run.dir):
        if record.about.get("compared"):
            index.seen(_signature(record))
    return index


def _signature(record: Record) -> Any:
    """Sign what two rows are compared by: the prompt, of rows with their passage all of it."""
    return near.signature(same.triples("\n".join(str(turn["content"]) for turn in record.prompt)))


@dataclasses.dataclass(frozen=True)
class Maker:
    """Makes rows, a few at a time."""

    config: Config
    speaker: Speaker
    licence: str
    index: near.Index
    should_stop: Halt

    def records(self, todo: Sequence[Start]) -> Iterator[Record]:
        """Give a record a start, in their order."""
        for chunk in chunks(todo):
            yield from self._chunk(chunk)

    def _chunk(self, chunk: Sequence[Start]) -> Iterator[Record]:
        raw, config = bool(self.speaker.identity.get("raw")), self.config
        made = [self._empty(start) for start in chunk]
        new = [place for place, start in enumerate(chunk) if not start.turns]
        asks = [
            Ask(inventing.instruction(chunk[place], config.seed, raw), f"{chunk[place].key}-instruction")
            for place in new
        ]
        said_by = self._ask(asks, config.temperature, _INSTRUCTION, inventing.one_line)
        for place, said in zip(new, said_by, strict=True):
            made[place] = self._instructed(made[place], chunk[place], said)
        for place, record in enumerate(made):
            if not record.dropped:
                made[place] = self._compared(record)
        going = [place for place, record in enumerate(made) if not record.dropped]
        asks = [
            Ask(inventing.answer(chunk[place], _question(made[place], chunk[place]), raw), f"{chunk[place].key}-answer")
            for place in going
        ]
        said_by = self._ask(asks, config.answer_temperature, config.max_tokens, inventing.one_answer)
        for place, said in zip(going, said_by, strict=True):
            made[place] = self._answered(made[place], chunk[place], said)
        yield from made

    def _ask(
        self, asks: Sequence[Ask], temperature: float, max_tokens: int, ends: Callable[[str, bool], tuple[str, bool]]
    ) -> Iterator[Said | None]:
        draw = Draw(1, temperature, top_p=self.config.top_p, max_tokens=max_tokens, seed=self.config.seed)
        raw = bool(self.speaker.identity.get("raw"))
        for said in asking.answers(self.speaker, asks, draw, self.should_stop):
            if said is None:
                yield None
                continue
            text, stopped = wording.spoken(said[0], raw)
            text, whole = ends(text, raw)
            yield dataclasses.replace(said[0], text=text, stopped=stopped or whole)

    def _empty(self, start: Start) -> Record:
        identity = self.speaker.identity
        by = {"kind": "producer", "name": self.speaker.name, "identity": identity, "licence": self.licence}
        turns = start.turns or [{"role": "user", "content": "?"}]
        nothing = Answer("", dict(identity))
        return Record(turns, [nothing], by=by, about=start.about(), seed=self.config.seed, id=start.key)

    def _instructed(self, made: Record, start: Start, said: Said | None) -> Record:
        """Give a record its instruction, or the reason why it has none."""
        if said is None:
            return dataclasses.replace(made, dropped=LONG)
        text = inventing.invented(said.text)
        if not text:
            return dataclasses.replace(made, dropped=NO_INSTRUCTION)
        content = f"{start.text}\n\n{text}" if self.config.with_passage and start.kind == "documents" else text
        about = {**made.about, "instruction": text, "instruction_seed": said.seed}
        made = dataclasses.replace(made, prompt=[{"role": "user", "content": content}], about=about)
        dropped = "" if said.stopped else INSTRUCTION_CUT
        odd = NO_REQUEST if inventing.asks_nothing(text) else self._odd(start, text)
        return dataclasses.replace(made, dropped=dropped or odd)

    def _odd(self, start: Start, text: str) -> str:
        if inventing.marked(text):
            return MARKED
        unseen = start.kind == "documents" and not self.config.with_passage
        return MENTIONS if unseen and inventing.mentions(text) else ""

    def _compared(self, made: Record) -> Record:
        made = dataclasses.replace(made, about={**made.about, "compared": True})
        return dataclasses.replace(made, dropped=ALIKE) if self.index.seen(_signature(made)) else made

    def _answered(self, made: Record, start: Start, said: Said | None) -> Record:
        if said is None:
            return dataclasses.replace(made, dropped=LONG)
        text = inventing.unmarked(said.text)
        about = {"temperature": self.config.answer_temperature, "seed": said.seed}
        identity = {**self.speaker.identity, **about, "stopped": said.stopped, "tokens": said.tokens}
        made = dataclasses.replace(made, answers=[Answer(text, identity)], ranks=[1])
        return dataclasses.replace(made, dropped=self._wrong(made, start, text, said.stopped))

    def _wrong(self, made: Record, start: Start, text: str, stopped: bool) -> str:
        """Say why a row is left out, "" where it is not."""
        if not text:
            return EMPTY
        if not stopped:
            return CUT
        if start.kind == "documents" and inventing.not_there(text):
            return NOT_THERE
        raw, asked = bool(self.speaker.identity.get("raw")), str(made.about.get("instruction") or "")
        if start.kind == "documents" and inventing.elsewhere(text, asked, start.text, raw):
            return ELSEWHERE
        if odd := self._odd(start, text):
            return odd
        if refusals.refuses(text) and not self.config.keep_refusals:
            return REFUSED
        asked = str(made.about.get("instruction") or made.prompt[-1]["content"])
        if filters.same_words(text, asked) or filters.copies(text, [asked]):
            return COPIED
        if filters.loops(text):
            return LOOPED
        turns = (
            *(Message(str(turn["role"]), str(turn["content"])) for turn in made.prompt),
            Message("assistant", text),
        )
        found = {sign.code for sign in signs.signs(Conversation(turns))}
        return next((words for code, words in LINT.items() if code in found), "")


def _question(made: Record, start: Start) -> list[dict[str, Any]]:
    """Give the turns that are to be answered: of documents the question without its passage."""
    if start.kind == "documents":
        return [{"role": "user", "content": made.about["instruction"]}]
    return made.prompt
