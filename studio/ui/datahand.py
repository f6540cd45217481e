"""Rows written by hand in a table: kept as JSON lines in the data folder, then opened like any file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from studio import paths
from studio.errors import DataError
from studio.ui import dataacts, examine, kit

#: The tables: title -> (what a column is called, the field it becomes).
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "Prompt, answer": (("Prompt", "prompt"), ("Answer", "completion")),
    "Prompt, better, worse": (("Prompt", "prompt"), ("Better", "chosen"), ("Worse", "rejected")),
}
_EMPTY_ROWS = 6


def draw(opener: Any, tools: kit.Kit, trouble: Any, after: Callable[[Any], Any]) -> None:
    """Lay the table out; `opener` shows and hides it, `after` follows a file that was saved and opened."""
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    first = next(iter(TABLES))
    with gr.Column(elem_classes="st-card st-hand", visible=False) as box:
        with gr.Row():
            what = gr.Radio(list(TABLES), value=first, label="One row is", elem_id="st-hand-what")
            name = gr.Textbox(label="Name of the file", value="my rows", max_lines=1, elem_id="st-hand-name")
        tables = [
            gr.Dataframe(
                value=[[""] * len(columns)] * _EMPTY_ROWS,
                headers=[title for title, _ in columns],
                datatype="str",
                type="array",
                column_count=len(columns),
                column_widths=[f"{100 // len(columns)}%"] * len(columns),  # else they move while one types
                interactive=True,
                wrap=True,
                show_label=False,
                visible=title == first,
                elem_id=f"st-hand-{len(columns)}",
            )
            for title, columns in TABLES.items()
        ]
        with gr.Row(elem_classes="st-buttons"):
            more = gr.Button("More rows", elem_id="st-hand-more", elem_classes="st-small")
            save = gr.Button("Save and look at it", elem_id="st-hand-save", elem_classes="st-small")
    opened = gr.State(False)
    opener.click(lambda shown: (not shown, gr.update(visible=not shown)), opened, [opened, box], queue=False, **quiet)
    more.click(_longer, tables, tables, queue=False, **quiet)
    what.change(lambda title: [gr.update(visible=title == t) for t in TABLES], what, tables, queue=False, **quiet)

    def saved(*values: Any) -> list[Any]:
        """Put the table away once its rows are kept."""
        said = kit.edge(keep)(*values)
        return [said, bool(said), gr.update(visible=bool(said))]

    after(save.click(saved, [what, name, *tables], [trouble, opened, box], **quiet))


def _longer(*tables: Sequence[Sequence[Any]]) -> list[Any]:
    """Give every table some more empty rows."""
    widths = [len(columns) for columns in TABLES.values()]
    return [
        gr.update(value=[*table, *[[""] * width] * _EMPTY_ROWS]) for table, width in zip(tables, widths, strict=True)
    ]


def keep(what: str, name: str, *tables: Sequence[Sequence[Any]]) -> str:
    """Write the rows of the chosen table to a file and open it."""
    if what not in TABLES:
        raise DataError("There is no such table.", "Choose one of the list.")
    rows = read(tables[list(TABLES).index(what)], [field for _, field in TABLES[what]])
    target = next(path for path in examine.free_names(name, ".jsonl") if not path.exists())
    paths.write_text(target, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return dataacts.open_file(str(target))


def read(table: Sequence[Sequence[Any]], fields: Sequence[str]) -> list[dict[str, str]]:
    """Give the rows that were written; empty ones are passed over. Raises DataError when a row is half empty."""
    rows = []
    for number, cells in enumerate(table, 1):
        texts = ["" if cell is None else str(cell) for cell in cells]
        if not any(text.strip() for text in texts):
            continue
        row = dict(zip(fields, texts, strict=False))
        if empty := [field for field in fields if not row.get(field, "").strip()]:
            raise DataError(
                "A cell is empty.", "Write something in it, or empty the whole row.", line=number, field=empty[0]
            )
        rows.append(row)
    if not rows:
        raise DataError("Nothing is written yet.", "Fill in at least one row.")
    return rows
