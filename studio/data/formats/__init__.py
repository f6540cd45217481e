"""The formats people have: how rows are recognised, and how each is read as records.

Detection (`studio.data.detect`) gives the columns of a file their roles (columns.py) or knows the rows by their shape
(trees.py, scored.py, tables.py); a format is then bound to those columns. Adding a format costs one file and one line
in `studio.data.detect`.
"""

from studio.data.formats.base import WHOLE, Format, Note, Question, Roles, Row, RowError

__all__ = ["WHOLE", "Format", "Note", "Question", "Roles", "Row", "RowError"]
