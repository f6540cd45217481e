"""A run's recipe as a file to keep: `/recipe/RUN` of this window's server, and the button that asks for it.

The page's script fetches it and hands it to the browser, or says in words beside the button why there is none: some
runs cannot be written down, which is known only once it was tried. The guard stands before the address; what comes in
it is looked up in the list of runs and never used as a path.
"""

from __future__ import annotations

import logging
from typing import Any

from studio import paths
from studio.child import Child
from studio.errors import RunError, StudioError
from studio.lab import recipe, starting
from studio.ui import live
from studio.ui.live import View
from studio.ui.parts import esc

#: Seconds in which the weights of a large base are hashed, which says nothing as it goes.
_PATIENCE = 1800.0


def serve(app: Any) -> None:
    """Give the application the address."""
    from fastapi.responses import Response

    @app.get("/recipe/{run_id}")
    def file(run_id: str) -> Any:
        status, name, said = written(run_id)
        about = {"cache-control": "no-store"}
        if name:
            about["content-disposition"] = f'attachment; filename="{name}"'
        kind = "application/toml" if name else "text/plain"
        return Response(said, status, about, media_type=f"{kind}; charset=utf-8")


def written(run_id: str) -> tuple[int, str, str]:
    """Give (200, the file's name, the recipe), or (the status, "", why there is none)."""
    view = live.find(run_id)
    try:
        if view is None:
            raise RunError("There is no such run.", "Look at the list again.")
        return 200, name_of(view), _record(view)
    except StudioError as error:
        return 409 if view else 404, "", f"{error.message} {error.remedy}".strip()
    except Exception as error:  # the window's edge
        logging.getLogger("studio.window").error("a recipe could not be written", exc_info=error)
        return 500, "", f"Studio made a mistake of its own ({type(error).__name__}). window.log says more."


def _record(view: View) -> str:
    """Have the run written down in a child: its weights are read with torch, which is never loaded here."""
    child = Child("studio.lab.recording:handle")
    try:
        return str(child.ask({"dir": str(view.run.dir)}, timeout=_PATIENCE)["text"])
    finally:
        child.close()


def name_of(view: View) -> str:
    """Name the file: recipe-starter-sft.toml."""
    return f"recipe-{paths.slug(view.config.title)}.toml"


def button(view: View) -> str:
    """Draw the button; nothing for a run that has no recipe before it has finished, or never."""
    made = view.config.kind == starting.KIND or (view.config.kind in recipe.KINDS and view.status == "finished")
    if not made:
        return ""
    return (
        '<div class="st-save"><span class="st-note" role="status" data-st-said></span>'
        f'<a class="st-button" href="/recipe/{esc(view.id)}" data-st-save="{name_of(view)}" '
        f'title="All that made this run, as a file: data and base by hash, every setting, every earlier round">'
        "Download its recipe</a></div>"
    )
