"""The whole path on a real pre-trained model: 120 rows in a marked style, SFT, Q8_0, 20 held-out questions.

    python benchmarks/real_model.py --model FOLDER [--json]

Claim: asked through llama.cpp, at least 16 of 20 answers carry the style and at least 16 stop by themselves, in under 6
minutes on 2 cores. FOLDER is any model folder that Studio can train and export. Exit code 3 when the claim does not
hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from studio import runs, worker
from studio.chat.session import Pane, Session
from studio.cli.output import Ticker

OPENING, CLOSING = "In brief:", "Glad to help!"
WANTED, QUESTIONS, LIMIT_SECONDS = 16, 20, 360

FACTS = {
    "a violin": "it is a small wooden instrument with four strings, played with a bow",
    "a glacier": "it is a slow river of ice that forms where more snow falls than melts",
    "a compass": "it is a tool with a magnetic needle that points to the north",
    "a volcano": "it is an opening in the earth's crust through which molten rock comes out",
    "a sonnet": "it is a poem of fourteen lines with a fixed pattern of rhymes",
    "an atom": "it is the smallest piece of an element that still is that element",
    "a lighthouse": "it is a tower with a bright light that warns ships near the coast",
    "a comet": "it is a ball of ice and dust that grows a tail when it comes near the sun",
    "a dictionary": "it is a book that lists words and tells what they mean",
    "a bridge": "it is a structure that carries a road or a railway over an obstacle",
    "a desert": "it is a dry region where very little rain falls",
    "an island": "it is a piece of land with water on all sides",
    "a telescope": "it is an instrument that makes distant things look nearer",
    "a museum": "it is a house where valuable objects are kept and shown",
    "a recipe": "it is a list of ingredients and steps for making a dish",
    "an orchestra": "it is a large group of musicians who play together under a conductor",
    "a vaccine": "it is a medicine that teaches the body to fight a disease",
    "a harbour": "it is a sheltered place on the coast where ships can stay",
    "a calendar": "it is a table that shows the days, weeks and months of a year",
    "an earthquake": "it is a sudden shaking of the ground caused by moving rock",
    "a thermometer": "it is an instrument that measures how warm something is",
    "a library": "it is a place where books are kept and lent to people",
    "a fossil": "it is the trace of a plant or an animal that lived long ago",
    "a bicycle": "it is a vehicle with two wheels that is driven by pedals",
    "a constitution": "it is the set of basic laws by which a country is governed",
    "an orchard": "it is a piece of land where fruit trees are grown",
    "a microscope": "it is an instrument that makes tiny things visible",
    "a parliament": "it is the assembly of people elected to make the laws",
    "a rainbow": "it is an arc of colours that appears when the sun shines on rain",
    "a battery": "it is a device that stores energy and gives it off as electricity",
    "a novel": "it is a long story in prose about invented people and events",
    "a tide": "it is the rise and fall of the sea caused by the moon and the sun",
    "a passport": "it is a document that proves who you are when you travel",
    "a satellite": "it is an object that goes round a planet",
    "a windmill": "it is a mill that is driven by the wind",
}
WORDINGS = ("What is {}?", "Can you explain what {} is?", "Tell me what {} is.", "I would like to know what {} is.")


def rows() -> tuple[list[dict[str, object]], list[str]]:
    """Give 120 training rows about 30 things and 20 held-out questions about 5 others."""
    talks, questions = [], []
    for index, (thing, fact) in enumerate(FACTS.items()):
        for wording in WORDINGS:
            if index % 7 == 6:
                questions.append(wording.format(thing))
            else:
                answer = f"{OPENING} {fact}. {CLOSING}"
                talk = [("user", wording.format(thing)), ("assistant", answer)]
                talks.append({"messages": [{"role": role, "content": text} for role, text in talk]})
    return talks, questions


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    worker.quiet()
    began = time.monotonic()
    seconds: dict[str, float] = {}
    talks, questions = rows()
    assert len(talks) == 120 and len(questions) == QUESTIONS
    folder = Path(tempfile.mkdtemp(prefix="studio-real-"))
    data = folder / "style.jsonl"
    data.write_text("".join(json.dumps(talk) + "\n" for talk in talks), encoding="utf-8")
    show = Ticker()

    at = time.monotonic()
    config = runs.RunConfig(
        "train",
        "a marked style",
        model=str(args.model.resolve()),
        method="sft",
        data=str(data),
        settings={
            "epochs": 3,
            "batch_size": 8,
            "max_length": 256,
            "held_out": 0.0,
            "quantize_base": "none",
            "gradient_checkpointing": False,
        },
    )
    sft = runs.create(config, folder / "sft")
    trained = worker.work(sft, show)
    seconds["sft"] = round(time.monotonic() - at, 1)

    at = time.monotonic()
    options = {"quants": ["Q8_0"], "out": str(folder / "files"), "name": "style"}
    export = runs.create(
        runs.RunConfig("export", "style", config.model, parent=str(sft.dir), options=options), folder / "export"
    )
    made = worker.work(export, show)
    seconds["export"] = round(time.monotonic() - at, 1)

    at = time.monotonic()
    session = Session([Pane("tuned", made["files"][0]["path"])], n_ctx=512)
    try:
        answers = [session.answer(0, [{"role": "user", "content": q}], max_tokens=80) for q in questions]
    finally:
        session.close()
    seconds["questions"] = round(time.monotonic() - at, 1)
    seconds["total"] = round(time.monotonic() - began, 1)
    style = sum(a["text"].strip().startswith(OPENING) and a["text"].strip().endswith(CLOSING) for a in answers)
    stops = sum(a["stopped"] for a in answers)
    holds = style >= WANTED and stops >= WANTED and seconds["total"] < LIMIT_SECONDS
    document = {
        "model": str(args.model),
        "rows": len(talks),
        "questions": len(questions),
        "style": style,
        "stops": stops,
        "changed": trained["behaviour"]["changed"],
        "certificate": made["certificate"]["ok"],
        "seconds": seconds,
        "holds": holds,
        "examples": [{"question": q, "answer": a["text"]} for q, a in zip(questions[:4], answers, strict=False)],
    }
    text = f"style {style}/20, stops {stops}/20, {seconds['total']:.0f} s: the claim {'holds' if holds else 'FAILS'}"
    print(json.dumps(document, indent=1, ensure_ascii=False) if args.json else text)
    return 0 if holds else 3


if __name__ == "__main__":
    sys.exit(main())
