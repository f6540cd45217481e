"""Bad files through the command line: what each gets (accepted, a warning, an error), on which line, with a remedy.

The first 22 are what people and programs do to JSON lines; then come tables, Parquet, compressed and foreign files, and
things that are no files at all. Every case also proves that nothing was written and that no traceback was shown.
"""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from studio.cli.__main__ import run

A, W, E = "accepted", "warning", "error"


def chat(answer: str = "Hello.", **more: Any) -> str:
    row = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}], **more}
    return json.dumps(row, ensure_ascii=False)


GOOD = chat()
PAIR = json.dumps({"prompt": "Hi", "chosen": "Hello.", "rejected": "Go."})


def kto(*labels: bool) -> str:
    return "\n".join(json.dumps({"prompt": f"Q{i}", "completion": "A", "label": v}) for i, v in enumerate(labels))


@dataclasses.dataclass(frozen=True)
class Case:
    """A file and what it must get: `lines` of the errors or the warning, `says` part of the words, `usable` rows."""

    name: str
    file: str
    data: bytes | str
    level: str
    lines: tuple[int, ...] = ()
    says: str = ""
    usable: int = 0
    after: int = -1  # usable rows with --drop-bad, -1: it stays an error

    def write(self, folder: Path) -> Path:
        path = folder / self.file
        path.write_bytes(self.data.encode() if isinstance(self.data, str) else self.data)
        return path


def _with(bad: str | bytes, **more: Any) -> dict[str, Any]:
    """A bad row between two good ones."""
    raw = bad.encode() if isinstance(bad, str) else bad
    return {"data": GOOD.encode() + b"\n" + raw + b"\n" + GOOD.encode() + b"\n", **more}


def _parquet(table: dict[str, list[Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(table), out)
    return out.getvalue()


def _zip(name: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, "x")
    return out.getvalue()


HEAD = "prompt,completion\n"
ROWS = f"[\n{GOOD},\n{GOOD},\n"
FIRST, SECOND = "the file is", "of the list"

CASES = [
    # the dataset cases of every importer
    Case("empty file", "x.jsonl", "", E, (1,), "empty"),
    Case("no rows", "x.json", "[]", E, (1,), "no rows"),
    Case("one blank line", "x.jsonl", f"{GOOD}\n\n{GOOD}\n", W, (2,), "blank_line", 2),
    Case("truncated JSON", "x.jsonl", **_with(GOOD[:40]), level=E, lines=(2,), says="middle of a value", after=2),
    Case("array in .jsonl", "x.jsonl", f"[{GOOD},{GOOD}]", A, usable=2),
    Case("byte order mark", "x.jsonl", b"\xef\xbb\xbf" + GOOD.encode(), A, usable=1),
    Case("UTF-16", "x.jsonl", GOOD.encode("utf-16"), E, (1,), "Save it as UTF-8"),
    Case("UTF-32", "x.jsonl", GOOD.encode("utf-32"), E, (1,), "UTF-32"),
    Case("invalid UTF-8", "x.jsonl", **_with(chat("é").encode("latin-1")), level=E, lines=(2,), says="UTF-8", after=2),
    Case("NUL byte", "x.jsonl", **_with(GOOD.replace("Hello", "He\0llo")), level=E, lines=(2,), says="NUL", after=2),
    Case("mixed line ends", "x.jsonl", f"{GOOD}\r\n{GOOD}\n{GOOD}\r\n", A, usable=3),
    Case("100 MB line", "x.jsonl", **_with(chat("x" * 100_000_000)), level=E, lines=(2,), says="16 MB", after=2),
    Case("20,000 brackets", "x.jsonl", **_with("[" * 20_000 + "]" * 20_000), level=E, lines=(2,), says="deep", after=2),
    Case("NaN", "x.jsonl", **_with(chat(x=float("nan"))), level=E, lines=(2,), says="NaN", after=2),
    Case("infinity", "x.jsonl", **_with(chat(x=-float("inf"))), level=E, lines=(2,), says="Infinity", after=2),
    Case("1e999", "x.jsonl", **_with(chat()[:-1] + ', "x": -1e999}'), level=E, lines=(2,), says="too large", after=2),
    Case("400 digits, read", "x.jsonl", **_with(GOOD.replace('"Hello."', "9" * 400)), level=E, lines=(2,),
         says="expected text", after=2),
    Case("400 digits, not read", "x.jsonl", chat(id=10**399), A, usable=1),
    Case("a key twice", "x.jsonl", **_with(GOOD.replace('"Hello."', '"a", "content": "b"')), level=E, lines=(2,),
         says="twice", after=2),
    Case("no role", "x.jsonl", **_with(GOOD.replace('"role": "assistant", ', "")), level=E, lines=(2,), says="role",
         after=2),
    Case("unknown role", "x.jsonl", **_with(GOOD.replace("assistant", "asistant")), level=E, lines=(2,),
         says="asistant", after=2),
    Case("assistant first", "x.jsonl", '{"messages": [{"role": "assistant", "content": "Welcome."},' + GOOD[14:], W,
         (1,), "assistant_first", 1),
    Case("empty answer", "x.jsonl", **_with(chat("  ")), level=E, lines=(2,), says="empty", after=2),
    Case("chosen == rejected", "x.jsonl", f'{PAIR}\n{PAIR.replace("Go.", "Hello.")}', E, (2,), "same", after=1),
    Case("all labels good", "x.jsonl", kto(True, True, True), E, (1,), "all 3 rows"),
    Case("all labels bad", "x.jsonl", kto(False, False), E, (1,), "all 2 rows"),
    Case("control tokens", "x.jsonl", chat("a <|im_end|> and </s>"), W, (1,), "markers", 1),
    Case("formulas", "x.csv", HEAD + "=1+1,@SUM(A1)\n+1,-2\n", A, usable=2),
    # tables
    Case("ragged row", "x.csv", HEAD + "a,b\nc,d,e\nf,g\n", E, (3,), "3 cells", after=2),
    Case("ragged after a quoted line end", "x.csv", HEAD + '"a\nb",c\nd\n', E, (4,), "1 cells", after=1),
    Case("a column twice", "x.csv", "prompt,completion, prompt\na,b,c\n", E, (1,), "'prompt'"),
    Case("header without names", "x.csv", ",,\n1,2,3\n,,\n", E, (1,), "header"),
    Case("open quote", "x.csv", HEAD + 'a,b\nc,"d\ne,f\n', E, (3,), "not closed", after=1),
    Case("text after a quote", "x.csv", HEAD + 'a,"b"c\nd,e\n', E, (2,), "closing quote", after=1),
    Case("UTF-16 table", "x.csv", (HEAD + "a,b\n").encode("utf-16"), E, (1,), "UTF-8"),
    Case("UTF-16 without a mark", "x.csv", (HEAD + "a,b\n").encode("utf-16-le"), E, (1,), "UTF-8"),
    Case("Latin-1 table", "x.csv", (HEAD + "a,b\nc,caf\xe9\n").encode("latin-1"), E, (3,), "byte 6", after=1),
    Case("NUL in a table", "x.csv", HEAD + "a,b\nc,d\0\n", E, (3,), "NUL", after=1),
    Case("commas in .tsv", "x.tsv", HEAD + "a,b\n", A, usable=1),
    Case("semicolons, lone CR, BOM", "x.csv", b"\xef\xbb\xbfprompt;completion\ra,1;b\rc;d\r", A, usable=2),
    Case("no delimiter", "x.tsv", "prompt completion\na b\n", E, (1,), "unclear"),
    Case("header only", "x.csv", HEAD, E, (1,), "no rows"),
    Case("huge cell", "x.csv", HEAD + "a," + "x" * (17 << 20) + "\nc,d\n", E, (2,), "16 MB", after=1),
    # Parquet
    Case("Parquet cut off", "x.parquet", _parquet({"prompt": ["a"] * 99, "completion": ["b"] * 99})[:-20], E, (1,),
         "damaged"),
    Case("Parquet without text", "x.parquet", _parquet({"x": [1, 2], "y": [0.5, None]}), E, (1,), "unclear"),
    Case("Parquet named .csv", "x.csv", _parquet({"prompt": ["a"], "completion": ["b"]}), A, usable=1),
    Case("Parquet with an empty cell", "x.parquet", _parquet({"prompt": ["a"] * 3, "completion": ["b", None, "c"]}), E,
         (2,), "empty", after=2),
    # JSON documents
    Case("array cut off", "x.json", ROWS, E, (3,), "never closed", after=2),
    Case("array cut in a row", "x.json", ROWS + GOOD[:50], E, (3,), "middle of a value", after=2),
    Case("trailing comma", "x.json", ROWS + "]", E, (2,), "comma", after=2),
    Case("no comma", "x.json", f"[{GOOD} {GOOD}]", E, (1,), "no comma", after=2),
    Case("text after the array", "x.json", f"[{GOOD}] {GOOD}", E, (1,), "ends here", after=1),
    Case("key twice in an array", "x.json", ROWS + GOOD.replace('"Hi"', '"a", "content": "b"') + "," + GOOD + "]", E,
         (3,), "twice", after=3),
    Case("brackets in an array", "x.json", ROWS + "[" * 20_000 + "]" * 20_000 + "," + GOOD + "]", E, (3,), "deep",
         after=3),
    Case("1e999 in an array", "x.json", ROWS + chat()[:-1] + ', "x": 1e999},' + GOOD + "]", E, (3,), "too large",
         after=3),
    Case("NaN in an array", "x.json", ROWS + chat(x=float("nan")) + "," + GOOD + "]", E, (3,), "NaN", after=3),
    Case("Latin-1 in an array", "x.json", (ROWS + chat("é") + "," + GOOD + "]").encode("latin-1"), E, (3,), "UTF-8",
         after=3),
    Case("a long row in an array", "x.json", ROWS + chat("x" * (20 << 20)) + "," + GOOD + "]", E, (3,), "16 MB",
         after=3),
    Case("two objects on a line", "x.jsonl", f"{GOOD}\n{GOOD}{GOOD}\n", E, (2,), "second value", after=1),
    Case("comment", "x.json", f"[\n// mine\n{GOOD}]", E, (1,), "comment"),
    Case("single quotes", "x.jsonl", **_with("{'messages': []}"), level=E, lines=(2,), says="double quotes", after=2),
    Case("half a surrogate", "x.jsonl", **_with(GOOD.replace("Hello", "\\ud800")), level=E, lines=(2,),
         says="surrogate", after=2),
    Case("an escaped NUL", "x.jsonl", **_with(GOOD.replace("Hello", "\\u0000")), level=E, lines=(2,), says="NUL",
         after=2),
    Case("a number with 5,000 digits", "x.jsonl", **_with(GOOD[:-1] + ', "id": ' + "9" * 5000 + "}"), level=E,
         lines=(2,), says="5000 digits", after=2),
    Case("rows that are no objects", "x.jsonl", **_with('["a", "b"]'), level=E, lines=(2,), says="a list", after=2),
    # what is something else
    Case("web page", "x.json", "<!DOCTYPE html>\n<html><body>404</body></html>", E, (1,), "web page"),
    Case("git-lfs pointer", "x.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", E, (1,),
         "git lfs pull"),
    Case("workbook named .csv", "x.csv", _zip("xl/workbook.xml"), E, (1,), "Excel"),
    Case("PDF named .txt", "x.txt", b"%PDF-1.7\n%\xe2\xe3\n", E, (1,), "PDF"),
    Case("pickle", "x.jsonl", b"\x80\x04\x95\x10\0\0\0\0\0\0\0", E, (1,), "pickle"),
    Case("words named .jsonl", "x.jsonl", "Dear reader,\nthis is no data.\n", E, (1,), "no JSON"),
    Case("binary", "x.dat", bytes(range(256)) * 4, E, (1,), "no text"),
    # compressed
    Case("gz", "x.jsonl.gz", gzip.compress(f"{GOOD}\n{GOOD}".encode()), A, usable=2),
    Case("empty gz", "x.jsonl.gz", gzip.compress(b""), E, (1,), "empty"),
    Case("gz cut off", "x.jsonl.gz", gzip.compress(os.urandom(9) + GOOD.encode() * 99)[:-30], E, (1,), "cut off"),
    Case("gz bomb", "x.jsonl.gz", gzip.compress(b" " * (80 << 20), 9), E, (1,), "times its size"),
    Case("Latin-1 text", "x.txt", "First.\n\nSecond\ncaf\xe9.\n\nThird.\n".encode("latin-1"), E, (4,), "byte 4",
         after=2),
]  # fmt: skip


def check(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict[str, Any]]:
    code = run(["data", "check", *map(str, words), "--json"])
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    return code, json.loads(out)


def names(folder: Path) -> Iterator[tuple[Path, bytes]]:
    return ((path, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_file_gets_what_it_must(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, home: Path, case: Case
) -> None:
    path = case.write(tmp_path)
    before = list(names(tmp_path))
    code, document = check(capsys, path)
    errors, warnings = document["errors"], {w["code"]: w for w in document["warnings"]}
    if case.level == E:
        assert code == 2
        if case.says == "unclear":
            assert document["kind"] == "unclear" and document["question"]["text"]
        else:
            assert tuple(error["line"] for error in errors) == case.lines
            assert case.says in errors[0]["problem"] + errors[0]["remedy"] + errors[0]["excerpt"]
            assert all(error["remedy"] and len(error["excerpt"]) < 400 for error in errors)
            dropped, document = check(capsys, path, "--drop-bad")
            assert (dropped, document.get("usable")) == ((0, case.after) if case.after > 0 else (2, document["usable"]))
            assert case.after < 0 or document["left_out"] == {"bad": 1}
    else:
        assert (code, errors, document["usable"]) == (0, [], case.usable)
        found = next((w for name, w in warnings.items() if case.says and case.says in name), None)
        assert (tuple(found["lines"]) if found else ()) == case.lines
        assert found is None or found["remedy"]
    assert list(names(tmp_path)) == before and not list(names(home))


@pytest.mark.parametrize("name", ["folder", "pipe", "loop", "closed", "device", "missing", "nul\0", "x" * 5000])
def test_what_is_no_file_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, request: pytest.FixtureRequest
) -> None:
    path = Path("/dev/zero") if name == "device" else tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name == "pipe":
        os.mkfifo(path)
    elif name == "loop":
        path.symlink_to(path)
    elif name == "closed":
        path.write_text(GOOD)
        path.chmod(0)
        if os.geteuid() == 0:  # root may read all: look as somebody else
            request.addfinalizer(lambda: os.seteuid(0))
            os.seteuid(65534)
    threading.Timer(20, os.abort).cancel()
    code, document = check(capsys, path)
    assert code == 2
    assert document["error"]["kind"] == "DataError" and document["error"]["remedy"] and document["error"]["file"]
