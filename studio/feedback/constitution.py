"""A constitution: answers are criticised by principles and written anew, or compared by them.

    revisions     answer -> criticism by a principle that is drawn -> revision, 1 to 4 times (Bai et al. 2022,
                  arXiv:2212.08073, section 3). The last revisions, mixed with helpful answers of yours, are to imitate
                  (SFT), as in the paper. Revision over original as a pair is the popular shortcut, and not the paper.
    comparisons   two samples, and a judge who says which one keeps to a principle that is drawn: the paper's feedback
                  of a model (section 4), asked in both orders.

Principles are drawn by each prompt's key, so a set that is made again draws the same ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from studio import events, paths
from studio.config import setting
from studio.data import preferences
from studio.data.preferences import Record
from studio.data.records import Reading
from studio.errors import ConfigError
from studio.feedback import endpoint, engines, given, making, mixing, principles, report
from studio.feedback.principles import Constitution
from studio.feedback.revising import Comparisons, Revisions
from studio.feedback.speakers import speakers_of
from studio.runs import Run

Emit = events.Emit
Halt = Callable[[], bool]

NAMES = ("answers_from", "critic", "reviser")
#: Answers after which a critic who always finds fault is told of.
MANY = 10
SHORTCUT = (
    "The pairs (revision over original) are the popular shortcut; the paper trains on the revisions, and compares "
    "samples for its pairs (mode comparisons)."
)


@dataclasses.dataclass(frozen=True)
class Config:
    """The constitution's settings."""

    answers_from: str = setting(
        "", "Who answers: a run, a model, a GGUF file or an endpoint (http://127.0.0.1:11434/v1#MODEL).", advanced=False
    )
    critic: str = setting("", "Who criticises, or compares. Empty: who answers.", advanced=False)
    reviser: str = setting("", "Who writes answers anew. Empty: who answers, as in the paper.")
    mode: str = setting(
        "revisions",
        "revisions: answers are criticised and written anew. comparisons: two samples are compared.",
        choices=("revisions", "comparisons"),
        advanced=False,
    )
    constitution: str = setting(
        "", "A file of principles (TOML). Empty: your own copy, else the starter set.", advanced=False
    )
    groups: str = setting(
        "", f"Only principles of these groups ({', '.join(principles.GROUPS)}), separated by commas. Empty: all."
    )
    revisions: int = setting(
        1, "Rounds of criticism and revision, each by another principle.", low=1, high=4, unit="rounds", advanced=False
    )
    refusals: str = setting(
        "ask",
        "Revisions that only refuse. ask: kept where the critic finds that a full answer would do serious harm. drop: "
        "none is kept, all prompts are harmless. keep: all are, the prompts are an attack.",
        choices=("ask", "drop", "keep"),
    )
    length_ratio: float = setting(
        3.0,
        "Revisions this many times longer or shorter than the original are left out (counted in words, 10 added to "
        "both). 0: none is.",
        low=0.0,
        high=1000.0,
    )
    helpful: str = setting(
        "", "A file of good answers to mix in, so that what is learned is not only to be careful.", advanced=False
    )
    helpful_share: float = setting(
        0.5, "Their share of the rows to imitate, where there are enough.", low=0.0, high=0.95
    )
    margin: float = setting(0.05, "Comparisons: a probability this close to one half is a tie.", low=0.0, high=0.5)
    temperature: float = setting(0.7, "How freely answers, criticisms and revisions are drawn.", low=0.0, high=5.0)
    top_p: float = setting(1.0, "Only the likeliest tokens that make up this share.", low=0.01, high=1.0)
    max_tokens: int = setting(256, "Longest answer and revision.", low=1, high=32768, unit="tokens")
    critique_tokens: int = setting(128, "Longest criticism.", low=1, high=32768, unit="tokens")
    context: int = setting(4096, "Tokens of all that is asked and answered.", low=128, high=1048576, unit="tokens")
    limit: int = setting(0, "At most so many prompts of the file. 0: all.", low=0, high=10**9, unit="prompts")
    seed: int = setting(0, "The same seed gives the same principles and answers again.", low=0, high=2**31 - 1)
    engine: str = setting(engines.AUTO, engines.HELP, choices=engines.CHOICES)
    allow_endpoint: bool = setting(False, endpoint.CONSENT)


def ready(config: Config) -> Config:
    """Check the settings before anything is written, and complete them. Raises ConfigError and DataError."""
    if not config.answers_from.strip():
        raise ConfigError(
            "Nobody is named who answers.", "Name a run, a model, a GGUF file or an endpoint.", field="answers_from"
        )
    endpoint.check([name for field in NAMES if (name := getattr(config, field))], config.allow_endpoint)
    if config.mode == "comparisons" and config.temperature == 0:
        raise ConfigError("At temperature 0 two samples are the same.", "Set it above 0.", field="temperature")
    file = principles.place(config.constitution).resolve()
    if not _chosen(principles.load(file), config).principles:
        raise ConfigError("The constitution has no principle of these groups.", "Name others.", field="groups")
    helpful = ""
    if config.helpful:
        helpful = str(preferences.named(config.helpful, "sft").expanduser().resolve())
        if not Path(helpful).is_file():
            raise ConfigError(f"There is no file {config.helpful!r}.", "Name a file of answers.", field="helpful")
    return dataclasses.replace(config, constitution=str(file), helpful=helpful)


def _chosen(found: Constitution, config: Config) -> Constitution:
    names = [name.strip() for name in config.groups.split(",") if name.strip()]
    if wrong := [name for name in names if name not in principles.GROUPS]:
        raise ConfigError(
            f"There is no group {wrong[0]!r}.", f"Choose of {', '.join(principles.GROUPS)}.", field="groups"
        )
    return found.among(names)


def run(run: Run, emit: Emit, should_stop: Halt) -> dict[str, Any]:
    """Fill a set; gives what became of each principle, and the blind spots. Raises Stopped."""
    config = making.settings(run, Config)
    known = _chosen(_kept(run, config), config)
    reading = Reading.from_dict(run.config.options.get("reading") or {})
    asked = given.prompts(run.config.data, reading, limit=config.limit, emit=emit, should_stop=should_stop)
    if making.missing(run, asked):
        names = [config.answers_from, config.critic or config.answers_from, config.reviser or config.answers_from]
        apart = list(dict.fromkeys(names))
        with speakers_of(apart, config, emit, should_stop) as speakers:
            answerer, critic, reviser = (speakers[apart.index(name)] for name in names)
            if config.mode == "comparisons":
                make = Comparisons(config, known, answerer, critic, should_stop).records
            else:
                make = Revisions(config, known, answerer, critic, reviser, should_stop).records
            phase = "Comparing" if config.mode == "comparisons" else "Revising"
            making.fill(run, asked, make, phase, emit, should_stop)
    mixed = (
        mixing.mix(run, config.helpful, config.helpful_share, config.seed, emit, should_stop)
        if config.helpful
        else {"rows": 0}
    )
    own = [record for record in preferences.records(run.dir) if not mixing.is_mixed(record)]
    told = {
        **_told(own, known, config.mode),
        "helpful": mixed,
        "constitution": hashlib.sha256(known.text.encode()).hexdigest(),
    }
    if config.mode == "comparisons":
        about = report.of(own, report.people())
        report.tell(about, emit)
        return {**told, "report": about, "usable": about["usable"]}
    usable = any(not record.dropped for record in own)
    warnings = _warnings(told, usable)
    for text in warnings:
        emit(events.event("note", level="warning", code="constitution", text=text))
    return {**told, "pairs_are": SHORTCUT, "usable": usable, "warnings": warnings}


def _kept(run: Run, config: Config) -> Constitution:
    """Read the constitution that the set began with: it goes on with that, whatever was edited since."""
    copy = run.dir / principles.FILE
    if not copy.is_file():
        paths.write_text(copy, principles.load(principles.place(config.constitution)).text)
    return principles.load(copy)


def _told(own: Sequence[Record], known: Constitution, mode: str) -> dict[str, Any]:
    """Count what became of each principle; one that was drawn, and criticised nothing, is a blind spot."""
    seen, criticised, changed = Counter[str](), Counter[str](), Counter[str]()
    for record in own:
        for step in record.about.get("steps") or ():
            seen[step["principle"]] += 1
            criticised[step["principle"]] += bool(step.get("criticised"))
            changed[step["principle"]] += bool(step.get("revision") and not step.get("refused"))
    rows = [
        {"id": one.id, "group": one.group, "title": one.title}
        | {"drawn": seen[one.id], "criticised": criticised[one.id], "changed": changed[one.id]}
        for one in known.principles
    ]
    if mode == "comparisons":
        return {"principles": [{name: row[name] for name in ("id", "group", "title", "drawn")} for row in rows]}
    blind = [one.id for one in known.principles if seen[one.id] and not criticised[one.id]]
    return {
        "principles": rows,
        "blind_spots": blind,
        "not_drawn": [one.id for one in known.principles if not seen[one.id]],
    }


def _warnings(told: dict[str, Any], usable: bool) -> list[str]:
    """Say what the owner of a set should know of its critic."""
    said, rows = [], told["principles"]
    if not usable:
        said.append("No usable rows: no revision passed the filters. A larger critic or reviser may do better.")
    asked, found = sum(row["drawn"] for row in rows), sum(row["criticised"] for row in rows)
    if asked >= MANY and found == asked:
        said.append(f"The critic found fault with all of {asked} answers: it may do so whatever it reads.")
    if blind := told["blind_spots"]:
        more = f" and {len(blind) - 8} more" if len(blind) > 8 else ""
        said.append(f"Nothing was ever criticised by {', '.join(blind[:8])}{more}: possible blind spots of the critic.")
    return said
