"""Drawing of the table of rows: fifty a page, sorted and filtered by the child."""

from __future__ import annotations

from studio.ui import controls, datalint, examine, parts
from studio.ui.dataview import Document, ready, wanted
from studio.ui.live import Scene
from studio.ui.looking import Looking
from studio.ui.parts import esc

_SORTS = (
    ("file", "as in the file"),
    ("longest", "longest first"),
    ("shortest", "shortest first"),
    ("turns", "most turns first"),
)


def tools(scene: Scene) -> str:
    """Draw the filters. A part of its own: it stays as it is while the rows are read, so that nobody is interrupted."""
    if (both := ready(scene)) is None or not both[1].get("usable"):
        return ""
    look, found = both
    kinds = [
        (str(item.get("code")), f"{item.get('code', '')} ({int(item.get('rows') or 0):,})".replace("_", " "))
        for item in datalint.findings(scene, look, found)
        if item.get("lines")
    ]
    flagged = [("", "all rows"), *([("any", "only flagged")] if kinds else []), *kinds]
    if look.code and look.code not in dict(flagged):
        flagged.append((look.code, look.code.replace("_", " ")))
    search = controls.field(
        look.contains, {"do": "contains"}, aria="Show rows that contain this text", hint="contains…"
    )
    shown = controls.choices(flagged, look.code, {"do": "code"}, aria="Which rows are shown")
    sort = controls.choices(_SORTS, look.sort, {"do": "sort"}, aria="Order of the rows")
    return f'<section class="st-card st-line st-filters"><h2>All rows</h2>{search}{shown}{sort}</section>'


def table(scene: Scene) -> str:
    """Draw a page of rows."""
    if (both := ready(scene)) is None or not both[1].get("usable"):
        return ""
    look, found = both
    page = examine.known(look.rows(datalint.lines_of(look.code, scene, look, found)))
    if page is None:
        return parts.card("", parts.note("Listing the rows…"))
    if "error" in page:
        again = controls.button("Try again", {"do": "again"})
        error = page["error"]
        return parts.card("", parts.note(f"{error.get('message')} {error.get('remedy') or ''}") + parts.actions(again))
    if not page.get("rows"):
        clear = controls.button("Show all rows", {"do": "all"})
        return parts.card("", parts.empty("No row fits", "Nothing matches the filter.", clear))
    rows = [_row(item, look) for item in page["rows"]]
    answer = {"preference": "Chosen", "text": "", "prompt": ""}.get(str(found.get("kind")), "Answer")
    drawn = parts.table(("Line", "Begins", answer, "Turns", "Length"), rows, numeric=(3, 4))
    return parts.card("", f'<div class="st-rows">{drawn}</div>{_pager(page)}{_listed(look, scene, found)}')


def _row(item: Document, look: Looking) -> tuple[str, ...]:
    index, line = int(item.get("index") or 0), int(item.get("line") or 0)
    here = ' aria-current="true"' if index == look.index else ""
    number = controls.button(
        f"{line:,}",
        {"do": "row", "index": index},
        aria=f"Show line {line}",
        style="st-place",
        extra=f'data-st-go=".st-shown"{here}',
    )
    label = f"{wanted(item['label'])} " if "label" in item else ""
    return (
        number,
        f'<span dir="auto">{esc(item.get("prompt"), 160)}</span>',
        f'{label}<span dir="auto">{esc(item.get("answer"), 160)}</span>',
        f"{int(item.get('turns') or 0):,}",
        f"{int(item.get('characters') or 0):,}",
    )


def _pager(page: Document) -> str:
    at, pages, total = int(page.get("page") or 0), int(page.get("pages") or 1), int(page.get("total") or 0)
    before = controls.button("‹", {"do": "page", "page": at - 1}, aria="previous page", disabled=at <= 0)
    after = controls.button("›", {"do": "page", "page": at + 1}, aria="next page", disabled=at >= pages - 1)
    more = "at least " if page.get("more") else ""
    count = f"{more}{total:,} row{'s' if total != 1 else ''}, length in characters"
    return (
        f'<div class="st-foot"><span class="st-muted">{count}</span>'
        f'<span class="st-pager">{before}<span>page {at + 1:,} of {pages:,}</span>{after}</span></div>'
    )


def _listed(look: Looking, scene: Scene, found: Document) -> str:
    """Say so when a kind of problem has more rows than its finding lists."""
    if not look.code:
        return ""
    items = [i for i in datalint.findings(scene, look, found) if look.code in ("any", i.get("code"))]
    if all(int(i.get("rows") or 0) <= len(i.get("lines") or []) for i in items):
        return ""
    return parts.note("Of each kind of problem the first rows are listed here; repairs take all of them.")
