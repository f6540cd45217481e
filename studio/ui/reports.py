"""The reports of evaluations, as pages of this window's server: `/report/RUN`.

A report is a page of its own that runs no script and fetches nothing, by its own policy; the guard stands before it as
before all else. What comes in the address is looked up in the list of runs and never used as a path.
"""

from __future__ import annotations

from typing import Any

from studio.evals import job, report
from studio.ui import live


def serve(app: Any) -> None:
    """Give the application the address."""
    from fastapi.responses import HTMLResponse

    @app.get("/report/{run_id}")
    def page(run_id: str) -> Any:
        found = text(run_id)
        if found is None:
            gone = "<!doctype html><title>Studio</title><p>There is no such report. Look at the list again.</p>"
            return HTMLResponse(gone, 404, {"cache-control": "no-store"})
        return HTMLResponse(found, 200, {"cache-control": "no-store"})


def text(run_id: str) -> str | None:
    """Read the report of an evaluation; None where there is none."""
    view = live.find(run_id)
    if view is None or view.config.kind != job.KIND:
        return None
    try:
        return (view.run.dir / report.FILE).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
