"""The card as one page that opens by itself: nothing is fetched, nothing is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

FILE = "report.html"


def page(document: Mapping[str, Any], shown: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Make the page."""
    return ""
