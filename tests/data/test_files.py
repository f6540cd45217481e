"""Rows come out of every kind of file whole, in order, with the line they stand on, and are found again from there."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.data import jsonrows, tables
from studio.data.files import Rows, look, read_rows
from studio.data.records import Problems, Warnings
from studio.errors import DataError

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False, width=32),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.text(), VALUES, max_size=4), min_size=1, max_size=6)
TINY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def readable(value: Any) -> bool:
    """NUL and halves of surrogates are refused, whatever they stand in."""
    return "\\u0000" not in (text := json.dumps(value)) and not any(f"\\ud{c}" in text for c in "89abcdef")


def read(path: Path) -> list[tuple[int, dict[str, Any]]]:
    problems, warnings = Problems(), Warnings()
    rows = list(read_rows(path, problems, warnings))
    assert problems.first == []
    return rows


@TINY
@given(rows=ROWS, chunk=st.integers(1, 40), indent=st.sampled_from([None, 0, 2]), ascii=st.booleans())
def test_an_array_is_read_as_json_reads_it_however_it_falls_into_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], chunk: int, indent: int | None, ascii: bool
) -> None:
    rows = [row for row in rows if readable(row)]
    monkeypatch.setattr(jsonrows, "_CHUNK", chunk)
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows, indent=indent, ensure_ascii=ascii), encoding="utf-8", newline="")
    assert read(path) == list(enumerate(rows, 1))


@TINY
@given(
    rows=ROWS,
    chunk=st.integers(1, 40),
    at=st.integers(0, 5),
    bad=st.sampled_from(["{'a': 1}", '{"a" 1}', "[}", "}", "x"]),
)
def test_a_bad_value_of_an_array_is_passed_over_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Any], chunk: int, at: int, bad: str
) -> None:
    rows = [row for row in rows if readable(row)]
    at = min(at, len(rows))
    monkeypatch.setattr(jsonrows, "_CHUNK", chunk)
    texts = [json.dumps(row) for row in rows]
    path = tmp_path / "x.json"
    path.write_text("[" + ",\n".join([*texts[:at], bad, *texts[at:]]) + "]", encoding="utf-8")
    problems = Problems()
    found = list(read_rows(path, problems, Warnings()))
    assert [row for _, row in found] == rows
    assert [problem.line for problem in problems.first] == [at + 1]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ('{\n "a": 1,\n "b": [\n{"c": 2}\n]\n}\n', [{"a": 1, "b": [{"c": 2}]}]),
        ('{\n"a": 1\n}\n{\n"a": 2\n}', [{"a": 1}, {"a": 2}]),
        ('{"a": 1}\n{"a": 2}', [{"a": 1}, {"a": 2}]),
        ('\n\n [ {"a": 1}\n,{"a": 2} ]\n\n', [{"a": 1}, {"a": 2}]),
        ('[\n{"a": 1},\n{"a": 2}\n]', [{"a": 1}, {"a": 2}]),
    ],
    ids=["one object", "objects over many lines", "lines", "array", "array of lines"],
)
@pytest.mark.parametrize("name", ["x.json", "x.jsonl", "x.data"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, name: str, text: str, rows: list[Any]) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert [row for _, row in read(path)] == rows


@pytest.mark.parametrize(
    ("text", "lines", "count"),
    [
        ('{"a": 1,\n{"a": 2}\n{"a": 3}\n', [1], 2),
        ('{"a": [\n{"a": 2}\n{"a": 3}\n', [1], 2),
        ('{"a": "x\n{"a": 2}\n', [1], 1),
        ('{\n"a": 1,\n}\n', [1], 0),
        ('{\n"a": {"b": 1},\n"c": \n', [1], 0),
        ('# rows\n{"a": 2}\n', [1], 1),
        ('{\n"a": 1\n},\n{\n"a": 2\n},\n{\n"a": 3\n}\n', [2], 3),
        ('{\n"a": 1\n}\n}\n]\n{\n"a": 2\n}\n', [2, 3], 2),
        ('[1]\n{"a": 2}\n', [1], 1),
    ],
)
def test_a_broken_beginning_does_not_hide_the_rows_after_it(
    tmp_path: Path, text: str, lines: list[int], count: int
) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(text, encoding="utf-8")
    problems = Problems()
    assert len(list(read_rows(path, problems, Warnings()))) == count
    assert [problem.line for problem in problems.first] == lines


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_gives_the_line_of_the_file(tmp_path: Path, delimiter: str, end: str, mark: str) -> None:
    path = tmp_path / "x.csv"
    lines = [
        f"prompt {delimiter} completion",
        f"a{delimiter}b",
        '"two',
        f'lines"{delimiter}"say ""x"""',
        f'" {delimiter} "{delimiter}=1+1',
        f"é{delimiter}",
    ]
    path.write_bytes((mark + end.join(lines)).encode())
    assert read(path) == [
        (2, {"prompt": "a", "completion": "b"}),
        (3, {"prompt": f"two{end}lines", "completion": 'say "x"'}),
        (5, {"prompt": f" {delimiter} ", "completion": "=1+1"}),
        (6, {"prompt": "é", "completion": ""}),
    ]


def test_the_delimiter_is_the_one_that_splits_the_rows_and_not_just_the_header(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("question;answer, short\nWhy, how and when?;So\nWhy?;Yes, no, maybe\n")
    assert [set(row) for _, row in read(path)] == [{"question", "answer, short"}] * 2
    path.write_text("only\nyes, this\n")
    problems = Problems()
    assert list(read_rows(path, problems, Warnings())) == [] and problems.first[0].line == 2
    path.write_text('only\n"yes, this"\nthat\n')
    assert read(path) == [(2, {"only": "yes, this"}), (3, {"only": "that"})]


def test_a_column_without_a_name_is_left_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(",prompt\n0,a\n1,b\n")
    warnings = Warnings()
    assert [row for _, row in read_rows(path, Problems(), warnings)] == [{"prompt": "a"}, {"prompt": "b"}]
    assert list(warnings.found) == ["unnamed_column"]


def test_parquet_is_read_with_everything_nested_in_it(tmp_path: Path) -> None:
    message = pa.struct([("role", pa.string()), ("content", pa.large_string()), ("train", pa.bool_())])
    schema = pa.schema(
        [
            ("messages", pa.list_(message)),
            ("tags", pa.map_(pa.string(), pa.int64())),
            ("label", pa.dictionary(pa.int8(), pa.string())),
            ("raw", pa.binary()),
        ]
    )
    rows = [
        {
            "messages": [{"role": "user", "content": f"Q{i} é"}, {"role": "assistant", "content": "A", "train": True}],
            "tags": {"a": i},
            "label": "yes" if i % 2 else None,
            "raw": "tèxt" if i % 3 else None,
        }
        for i in range(1000)
    ]
    stored = [{**row, "raw": row["raw"].encode() if row["raw"] else None} for row in rows]  # type: ignore[attr-defined]
    table = pa.Table.from_pylist([{**row, "tags": list(row["tags"].items())} for row in stored], schema)  # type: ignore[attr-defined]
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=300)
    assert read(tmp_path / "x.parquet") == list(enumerate(rows, 1))


def test_plain_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"\n\nFirst\r\nline.\r\n\r\n \t\n[Second], {x}\n\n\nThird")
    assert read(path) == [(3, {"text": "First\nline."}), (7, {"text": "[Second], {x}"}), (10, {"text": "Third"})]


FILES: dict[str, Any] = {
    "lines.jsonl": lambda rows: "\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode(),
    "bom.jsonl": lambda rows: b"\xef\xbb\xbf" + "\r\n".join(map(json.dumps, rows)).encode(),
    "array.json": lambda rows: json.dumps(rows, indent=1, ensure_ascii=False).encode(),
    "objects.json": lambda rows: "\n".join(json.dumps(row, indent=1) for row in rows).encode(),
    "table.csv": lambda rows: _csv(rows),
    "text.txt": lambda rows: "\n\n\n".join(row["text"] for row in rows).encode(),
    "packed.jsonl.gz": lambda rows: gzip.compress("\n".join(map(json.dumps, rows)).encode()),
    "columns.parquet": lambda rows: _parquet(rows),
}


def _csv(rows: list[dict[str, Any]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return b"\xef\xbb\xbf" + out.getvalue().encode()


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), out, row_group_size=37)
    return out.getvalue()


@pytest.mark.parametrize("name", FILES)
def test_a_row_is_found_again_from_its_place(tmp_path: Path, name: str) -> None:
    chosen = random.Random(5)
    rows = [{"text": f"Nº {i}\nin {'two' * chosen.randint(0, 300)} lines"} for i in range(600)]
    path = tmp_path / name
    path.write_bytes(FILES[name](rows))
    sources = look([path, path])  # two files that are read as one
    stream = Rows(sources, Problems(), Warnings())
    places = [(line, row, stream.place) for line, row in stream]
    assert [row for _, row, _ in places] == rows * 2
    lines = [line for line, _, _ in places]
    assert lines == sorted(set(lines)) and stream.done == stream.size == 2 * path.stat().st_size
    for number in [0, 1, 36, 37, 38, 599, 600, 601, 1199]:
        line, row, place = places[number]
        again = Rows(sources, Problems(), Warnings(), place)
        following = iter(again)
        assert next(following) == (line, row)
        if number + 1 < len(places):
            assert next(following) == places[number + 1][:2]


SCRAPS = [
    b'"',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"\r",
    b"\0",
    b"\\",
    b"\xff",
    b"\xed\xa0\x80",
    b"NaN",
    b":",
    b"9" * 5000,
]


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_told_of_and_never_ends_in_a_loop(tmp_path: Path, name: str) -> None:
    chosen, whole = random.Random(name), FILES[name]([{"text": f'a "{i}", é\nb'} for i in range(30)])
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(chosen.randint(1, 3)):
            at, end = sorted(chosen.randrange(len(data) + 1) for _ in range(2))
            kind = chosen.random()
            data[at : min(end, at + 60) if kind < 0.3 else at if kind < 0.8 else end] = (
                chosen.choice(SCRAPS) if kind > 0.4 else b""
            )
        (tmp_path / name).write_bytes(data)
        problems = Problems()
        try:
            for number, _ in enumerate(read_rows(tmp_path / name, problems, Warnings())):
                assert number + problems.count < 300
        except DataError as error:
            assert error.remedy and error.line
        assert all(problem.line >= 1 and problem.remedy for problem in problems.first)


@pytest.mark.parametrize("name", FILES)
def test_the_hash_is_that_of_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FILES[name]([{"text": "x" * 5000}] * 700))
    stream = Rows(look([path]), Problems(), Warnings())
    assert len(list(stream)) == 700
    assert stream.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_changes_while_it_is_in_use_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "a"}\n')
    sources = look([path])
    path.write_text('{"text": "another"}\n')
    with pytest.raises(DataError, match="changed"):
        list(Rows(sources, Problems(), Warnings()))


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r"])
def test_a_written_table_runs_nothing_in_a_spreadsheet(sign: str) -> None:
    out = io.StringIO(newline="")
    tables.write(
        out, ["a", sign + "b"], [{"a": sign + 'cmd|"/c calc"!A1', sign + "b": None}, {"a": "3-4", sign + "b": 5}]
    )
    header, first, second = csv.reader(io.StringIO(out.getvalue(), newline=""))
    assert header == ["a", f"'{sign}b"]
    assert first == [f'\'{sign}cmd|"/c calc"!A1', ""] and second == ["3-4", "5"]
