"""What synthetic rows are made from: seeds of a data file, topics of a list, or passages of documents."""

from __future__ import annotations

import codecs
import dataclasses
import hashlib
import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from studio.data import preferences, same
from studio.errors import DataError
from studio.feedback.making import Asked

KINDS = ("seeds", "topics", "documents")
SUFFIXES = (".txt", ".md", ".markdown")
MAX_BYTES, MAX_FILES, MAX_TOPIC = 16 << 20, 10_000, 300
#: Seeds that are shown together: the one whose turn it is, and others drawn.
SHOWN = 3
#: Where a sentence ends, in scripts without spaces too; the space stays with what follows.
_SENTENCE = re.compile(r"(?<=[.!?])(?=\s)|(?<=[。！？])")


@dataclasses.dataclass(frozen=True)
class Start(Asked):
    """One row to be made. `turns` are the seed's own where it is only to be answered, else [].

    `text` is the topic or the passage; `shown` are the seeds shown as examples; `name` is the document's.
    """

    kind: str = ""
    text: str = ""
    name: str = ""
    number: int = 0
    shown: tuple[str, ...] = ()

    def about(self) -> dict[str, Any]:
        """Give what a record keeps of where it comes from."""
        told: dict[str, Any] = {"from": self.kind, "number": self.number}
        if self.kind == "topics":
            return told | {"topic": self.text, "line": self.line}
        if self.kind == "documents":
            sha = hashlib.sha256(self.text.encode()).hexdigest()[:16]
            return told | {"document": self.name, "line": self.line, "passage": sha}
        return told | {"line": self.line}


def of_seeds(seeds: Sequence[Asked], n: int, seed: int, answer: bool) -> list[Start]:
    """Give the rows to be made from seeds: n new instructions each, shown with others; or each seed, to be answered.

    New instructions are made of the seeds that are one question without an earlier turn.
    """
    if answer:
        return [Start(one.turns, one.reference, one.line, one.key, kind="seeds") for one in seeds]
    asked = [(one, str(one.turns[-1]["content"]).strip()) for one in seeds if _alone(one)]
    if not asked:
        raise DataError("No seed is a question of one turn.", "Use instructions, or answer the seeds: make answers.")
    made = []
    for one, text in asked:
        for number in range(n):
            source = random.Random(f"{seed}\0{one.key}\0{number}")
            others = [other for _, other in asked if other != text]
            some = source.sample(others, min(SHOWN - 1, len(others)))
            key = preferences.key("seeds", one.key, number)
            made.append(Start([], "", one.line, key, kind="seeds", number=number, shown=(*some, text)))
    return made


def _alone(one: Asked) -> bool:
    said = [turn for turn in one.turns if turn.get("role") != "system"]
    return len(said) == 1 and bool(str(said[0].get("content") or "").strip())


def of_topics(file: Path, n: int, limit: int = 0) -> list[Start]:
    """Give the rows to be made from a list of topics, one a line; blank lines and lines that begin with # are none."""
    made, count = [], 0
    for line, text in enumerate(_read(file).split("\n"), 1):
        topic = " ".join(text.split())
        if not topic or topic.startswith("#"):
            continue
        if len(topic) > MAX_TOPIC:
            said = f"A topic is longer than {MAX_TOPIC} characters."
            raise DataError(said, "Write one topic a line.", file=str(file), line=line)
        count += 1
        for number in range(n):
            key = preferences.key("topics", topic, line, number)
            made.append(Start([], "", line, key, kind="topics", text=topic, number=number))
        if limit and count == limit:
            break
    if not made:
        raise DataError("It names no topic.", "Write one topic a line.", file=str(file))
    return made


def of_documents(place: Path, n: int, words: int, limit: int = 0) -> list[Start]:
    """Give the rows to be made from the passages of a document, or of all .txt and .md files in a folder."""
    made, count = [], 0
    for file in documents(place):
        name = file.name if file == place else file.relative_to(place).as_posix()
        for line, passage in passages(_read(file), words):
            count += 1
            for number in range(n):
                key = preferences.key("documents", name, passage, line, number)
                made.append(Start([], "", line, key, kind="documents", text=passage, name=name, number=number))
            if limit and count == limit:
                return made
    if not made:
        raise DataError(
            "There is no text in it.", f"Name a file or a folder of {', '.join(SUFFIXES)}.", file=str(place)
        )
    return made


def documents(place: Path) -> list[Path]:
    """List a folder's documents by name, those of its folders too; links that lead out of it are passed over."""
    if place.is_file():
        return [place]
    root = place.resolve()
    found = sorted(
        file
        for file in place.rglob("*")
        if file.suffix.lower() in SUFFIXES and file.is_file() and file.resolve().is_relative_to(root)
    )
    if len(found) > MAX_FILES:
        raise DataError(f"That is {len(found)} documents.", f"Name a folder of at most {MAX_FILES}.", file=str(place))
    return found


def passages(text: str, words: int) -> Iterator[tuple[int, str]]:
    """Cut a text into passages of about so many words, at blank lines where it can be: (line it begins in, passage).

    A heading stays with what follows it; a paragraph that is too long is cut between sentences.
    """
    kept: list[str] = []
    begin, size = 1, 0
    for line, part in _parts(text, words):
        count = len(same.pieces(part))
        heading = part.startswith("#") and "\n" not in part
        full = size + count > words or (heading and size >= words // 2)
        if kept and full and not (len(kept) == 1 and kept[0].startswith("#") and "\n" not in kept[0]):
            yield begin, "\n\n".join(kept)
            kept, size = [], 0
        if not kept:
            begin = line
        kept.append(part)
        size += count
    if kept:
        yield begin, "\n\n".join(kept)


def _parts(text: str, words: int) -> Iterator[tuple[int, str]]:
    """Give a text's paragraphs with their lines; of one that is too long its sentences, gathered."""
    for match in re.finditer(r"[^\n]*\S[^\n]*(?:\n[^\n]*\S[^\n]*)*", text):
        line, paragraph = text.count("\n", 0, match.start()) + 1, match[0].strip()
        if len(same.pieces(paragraph)) <= words:
            yield line, paragraph
            continue
        kept: list[str] = []
        for sentence in _SENTENCE.split(paragraph):
            pieces = same.pieces(sentence)
            for at in range(0, len(pieces), words):
                some = pieces[at : at + words]
                if kept and len(kept) + len(some) > words:
                    yield line, _joined(kept)
                    kept = []
                kept += some
        if kept:
            yield line, _joined(kept)


def _joined(pieces: Sequence[str]) -> str:
    return " ".join("".join(pieces).split())


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise DataError("It is larger than 16 MB.", "Split it.", file=str(file))
        data = file.read_bytes()
        if b"\0" in data and not data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise DataError("It is no text: it holds zero bytes.", "Leave it out.", file=str(file))
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError("It is not UTF-8.", "Save it as UTF-8.", file=str(file), line=line) from None
    except OSError as error:
        raise DataError(f"It cannot be read: {error.strerror or error}.", "Name another one.", file=str(file)) from None
