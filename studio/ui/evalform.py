"""Drawing of the next evaluation: its suites as cards to tick, what follows from what is chosen, how long it takes."""

from __future__ import annotations

from studio.errors import StudioError
from studio.evals.suite import Suite
from studio.ui import controls, evalset, feedbackset, parts, terminal
from studio.ui.evalview import DO
from studio.ui.live import Scene
from studio.ui.parts import esc


def fold(scene: Scene) -> str:
    """Draw the line that opens and folds the next evaluation; before the first one there is nothing to fold."""
    if not evalset.evaluations(scene):
        return ""
    names = " · ".join(suite.title for suite in evalset.suites().values())
    return controls.fold("A new evaluation", names, unfolded(scene), DO)


def unfolded(scene: Scene) -> bool:
    """Tell whether the next evaluation is in sight: before the first one, after a failed one, or when opened."""
    if not evalset.of(scene) and not evalset.evaluations(scene):
        return False
    view, wanted = evalset.shown(scene), evalset.kept(scene).get("open")
    if view is None or wanted in ("yes", "no"):
        return view is None or wanted == "yes"
    return view.status == "failed"


def cards(scene: Scene) -> str:
    """Draw a card for each suite, to be ticked."""
    chosen = evalset.ticked(scene)
    drawn = "".join(_card(name, suite, name in chosen) for name, suite in evalset.suites().items())
    return f'<ul class="st-sources st-eval-suites" aria-label="Suites">{drawn}</ul>'


def _card(name: str, suite: Suite, on: bool) -> str:
    box = controls.tick(on, {"do": "tick", "name": name}, aria=suite.title, to=DO)
    more = "<small>Asks nothing but a file of yours: name it below.</small>" if suite.needs_file else ""
    return (
        f'<li class="st-source{" st-chosen" if on else ""}"><label>{box}<h3>{esc(suite.title)}</h3></label>'
        f"<p>{esc(suite.says)}</p>{more}<small><b>Cannot show:</b> {esc(suite.cannot)}</small></li>"
    )


def problem(scene: Scene) -> str:
    """Say what the next evaluation still needs, or what is wrong with it; "" where nothing is."""
    try:
        evalset.config(scene)
    except StudioError as error:
        return f"{error.message} {error.remedy}".strip()
    return ""


def why_not(scene: Scene) -> str:
    """Draw what is wrong, beside Start."""
    said = problem(scene) if unfolded(scene) else ""
    return f'<p class="st-note st-why" role="status">{esc(said, 400)}</p>' if said else ""


def before(scene: Scene) -> str:
    """Draw what the next evaluation will do: who, against whom, which suites, for how long."""
    if not unfolded(scene):
        return ""
    chosen = evalset.ticked(scene)
    of = evalset.of(scene)
    rows = [("Evaluated", esc(feedbackset.who_of(scene, of), 120) if of else "nobody yet")]
    took = ""
    if not problem(scene):
        made = evalset.config(scene)
        against = str(made.options["against"])
        said = _base(made.model) if against == "base" else feedbackset.who_of(scene, against) if against else "nobody"
        rows.append(("Against", esc(said, 120)))
        took = long(*evalset.estimate(scene, made))
    judge = evalset.word(scene, "judge", evalset.NOBODY)
    name = "rules alone" if judge == evalset.NOBODY else feedbackset.who_of(scene, judge)
    rows += [
        ("Judged by", esc(name, 120)),
        ("Suites", esc(", ".join(evalset.suites()[one].title for one in chosen)) or "none ticked"),
        ("Takes", esc(took)),
    ]
    return parts.card("What will be measured", parts.facts(rows))


def command(scene: Scene) -> str:
    """Draw the command that starts the next evaluation; nothing as long as it could not start."""
    if not unfolded(scene) or problem(scene):
        return ""
    words = evalset.command(evalset.config(scene).options, evalset.of(scene))
    return parts.terminal(terminal.line(words), terminal.THE_SAME)


def _base(model: str) -> str:
    return f"its base, {terminal.name_of(model)}" if model else "its base"


def long(seconds: float, unknown: list[str]) -> str:
    """Say how long an evaluation takes, and which suites that leaves out."""
    titles = ", ".join(evalset.suites()[name].title for name in unknown)
    if not seconds:
        return "Known after the first evaluation of this model."
    about = f"about {parts.duration(max(5.0, 5 * round(seconds / 5)))}, as the last ones did"
    return f"{about}; not yet measured: {titles}" if titles else about


def start(scene: Scene) -> tuple[str, bool, bool]:
    """Give the Start button's words, whether it may be pressed, and whether it is the page's filled one."""
    waits = scene.running is not None or bool(scene.queue)
    shown = evalset.shown(scene)
    filled = shown is None or shown.status in ("failed", "interrupted") or unfolded(scene)
    return "Add to the queue" if waits else "Evaluate", not problem(scene), filled
