"""Lineage as a graph: what a run came from and what came of it, as a tree in words and as a picture."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest
from making import write_jsonl

from studio import paths, runs
from studio.data import preferences
from studio.data.preferences import Record
from studio.data.votes import Answer
from studio.lab import lineage
from studio.ui import lineview


def make(kind: str, name: str, **fields: object) -> runs.Run:
    return runs.create(runs.RunConfig(kind, name, **fields), paths.runs() / name)  # type: ignore[arg-type]


@pytest.fixture
def family(tmp_path: Path) -> dict[str, runs.Run]:
    """base, rows -> sft -> set (answers of sft, judged by judge) -> dpo -> export and an evaluation against sft."""
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a", "completion": "b"}])
    sft = make("train", "sft", model="starter", method="sft", data=str(rows))
    judge = make("train", "judge", model="starter", method="reward", data=str(rows), parent=str(sft.dir))
    options = {"source": "rejection", "answers_from": str(sft.dir), "reward": str(judge.dir)}
    set_ = make("feedback", "set", data=str(rows), parent=str(sft.dir), options=options)
    preferences.add(set_.dir, Record([{"role": "user", "content": "a"}], [Answer("b"), Answer("c")], ranks=[1, 2]))
    pairs = preferences.snapshot(set_, "preference")
    dpo = make("train", "dpo", model="starter", method="dpo", data=str(pairs), parent=str(sft.dir))
    paths.write_text(
        dpo.dir / "result.json", json.dumps({"heldout": {"name": "loss", "before": 0.7, "after": 0.5, "n": 9}})
    )
    export = make("export", "export", model="starter", parent=str(dpo.dir))
    look = make("eval", "look", model="starter", parent=str(dpo.dir), options={"of": "dpo", "against": "sft"})
    make("rehearse", "rehearsal", model="starter", parent=str(dpo.dir))
    return {"sft": sft, "judge": judge, "set": set_, "dpo": dpo, "export": export, "look": look}


def edges(graph: lineage.Graph) -> set[tuple[str, str, str]]:
    def short(key: str) -> str:
        return graph.node(key).title

    return {(short(edge.source), short(edge.target), edge.why) for edge in graph.edges}


def test_a_set_says_what_it_holds_now_as_people_go_on_with_it_when_its_run_has_ended(
    family: dict[str, runs.Run],
) -> None:
    def said() -> str:
        graph = lineage.read(family["set"])
        return graph.node(graph.focus).said

    assert said() == "1 record, 1 pair"
    paths.write_text(family["set"].dir / "result.json", json.dumps({"records": 1, "preference": 1}))
    three = Record([{"role": "user", "content": "x"}], [Answer("b"), Answer("c"), Answer("d")], ranks=[1, 2, 2])
    preferences.add(family["set"].dir, three)
    assert said() == "2 records, 3 pairs"


def test_all_that_a_run_came_from_and_what_came_of_it_are_found_from_any_of_them(family: dict[str, runs.Run]) -> None:
    wanted = {
        ("starter", "sft", "base"),
        ("rows.jsonl", "sft", "data"),
        ("sft", "judge", "parent"),
        ("rows.jsonl", "judge", "data"),
        ("sft", "set", "answers"),
        ("rows.jsonl", "set", "prompts"),
        ("judge", "set", "scores"),
        ("sft", "dpo", "parent"),
        ("set", "dpo", "data"),
        ("dpo", "export", "parent"),
        ("dpo", "look", "evaluated"),
        ("sft", "look", "compared with"),
    }
    for run in family.values():
        graph = lineage.read(run)
        if run.id in ("sft", "dpo"):
            assert edges(graph) == wanted
        assert edges(graph) <= wanted and graph.node(graph.focus).run == run.id
    assert "rehearsal" not in {node.run for node in lineage.read(family["dpo"]).nodes}


def test_ranks_are_the_longest_way_from_what_was_there_first(family: dict[str, runs.Run]) -> None:
    graph = lineage.read(family["dpo"])
    ranks = {graph.node(key).title: rank for key, rank in graph.ranks().items()}
    assert ranks == {"starter": 0, "rows.jsonl": 0, "sft": 1, "judge": 2, "set": 3, "dpo": 4, "export": 5, "look": 5}
    order = [node.title for node in graph.nodes]
    assert order.index("judge") < order.index("set") < order.index("dpo") < order.index("export")


def test_the_tree_has_each_run_once_and_names_what_stands_beside_it(family: dict[str, runs.Run]) -> None:
    lines = lineage.lines(lineage.read(family["dpo"]))
    assert lines[0] == "starter" and lines[1].startswith("└ sft: sft (new)")
    for name in family:
        assert sum(bool(re.search(rf"└ .*: {name} \(", line)) for line in lines) == 1
    at = next(number for number, line in enumerate(lines) if "dpo: dpo (new)" in line)
    assert lines[at] == "  └ dpo: dpo (new)  held-out loss 0.700 -> 0.500 (9 rows)  <- this run"
    assert lines[at + 1] == "      data: set"
    assert any(line.strip() == "scores: judge" for line in lines)


def test_what_is_gone_is_a_node_that_says_so(family: dict[str, runs.Run], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").unlink()
    graph = lineage.read(family["sft"])
    assert next(node for node in graph.nodes if node.kind == "gone").title == "rows.jsonl"
    assert "    data: rows.jsonl (no longer there)" in lineage.lines(graph)


def test_a_crowd_is_cut_and_counted(family: dict[str, runs.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "MOST", 3)
    graph = lineage.read(family["sft"])
    assert len([node for node in graph.nodes if node.run]) <= 3 and graph.cut > 0
    assert lineage.lines(graph)[-1].startswith(f"({graph.cut} of what it stands with")


def test_the_list_of_runs_is_read_once_however_many_came_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step to the next run that reads the whole list again makes a crowd of 200 a matter of minutes."""
    first = make("train", "first", model="starter", method="sft")
    for number in range(12):
        make("train", f"child-{number}", model="starter", method="dpo", parent=str(first.dir))
    listed, real = [], runs.all_runs

    def counted() -> list[runs.Run]:
        listed.append(1)
        return real()

    monkeypatch.setattr(runs, "all_runs", counted)
    graph = lineage.read(first)
    assert len(graph.nodes) == 14 and len(listed) == 1


@pytest.mark.parametrize("inside", [True, False], ids=["in its directory", "in the data folder"])
def test_a_recipe_stands_before_its_steps_and_is_found_from_each(inside: bool, tmp_path: Path) -> None:
    recipe = runs.create(runs.RunConfig("recipe", "rounds", "starter"), tmp_path / "out" if inside else None)
    place = {name: recipe.dir / "steps" / name if inside else paths.runs() / name for name in ("one", "two")}
    made = {}
    for name, parent in (("one", ""), ("two", str(place["one"]))):
        config = runs.RunConfig("train", name, "starter", "sft", parent=parent)
        made[name] = runs.create(config, place[name])
    paths.write_text(recipe.dir / "steps.json", json.dumps({name: str(at) for name, at in place.items()}))
    wanted = {("starter", "one", "base"), ("starter", "rounds", "base"), ("one", "two", "parent")}
    wanted |= {("rounds", "one", "step of"), ("rounds", "two", "step of")}
    for run in (recipe, *made.values()):
        assert edges(lineage.read(run)) == wanted, run.id
    lines = lineage.lines(lineage.read(made["two"]))
    assert [line.strip() for line in lines].count(f"step of: {recipe.id}") == 2
    shutil.rmtree(made["one"].dir)
    assert ("rounds", "two", "step of") in edges(lineage.read(made["two"])), "its first step was deleted"
    lineage.read(recipe)


@pytest.mark.parametrize(("width", "columns"), [(600, 3), (340, 2)])
def test_the_picture_is_whole_and_its_boxes_do_not_cover_each_other(
    family: dict[str, runs.Run], width: int, columns: int
) -> None:
    graph = lineage.read(family["dpo"])
    svg = ElementTree.fromstring(lineview.draw(graph, width, columns))
    boxes = [{name: float(box.get(name) or 0) for name in ("x", "y", "width", "height")} for box in svg.iter("rect")]
    assert len(boxes) == len(graph.nodes)
    high = float((svg.get("viewBox") or "").split()[3])
    for number, box in enumerate(boxes):
        assert box["x"] >= 0 and box["x"] + box["width"] <= width and box["y"] + box["height"] <= high
        for other in boxes[number + 1 :]:
            apart = abs(box["x"] - other["x"]) >= box["width"] or abs(box["y"] - other["y"]) >= box["height"]
            assert apart
    assert len([path for path in svg.iter("path")]) == len(graph.edges)
    links = {link.get("aria-label"): link for link in svg.iter("a")}
    dpo = links["run dpo, dpo"]
    assert dpo.get("href") == "#align" and json.loads(dpo.get("data-st-send") or "") == {"do": "show", "id": "dpo"}
    assert links["run sft, sft"].get("data-st-to") == "st-train-do"
    for label, page, name in (
        ("evaluation look, look", "evaluate", "look"),
        ("judged answers set, set", "feedback", "set"),
    ):
        link = links[label]
        assert link.get("href") == f"#{page}" and link.get("data-st-to") == f"st-{page}-do"
        assert json.loads(link.get("data-st-send") or "") == {"do": "show", "id": name}
    assert svg.find("title") is not None and "dpo from sft (parent)" in (svg.findtext("desc") or "")


def test_a_title_of_somebody_else_stays_text(tmp_path: Path) -> None:
    run = make("train", "x", model="starter", method="sft")
    config = json.loads((run.dir / "config.json").read_text())
    paths.write_text(run.dir / "config.json", json.dumps({**config, "title": "<script>alert(1)</script>"}))
    drawn = lineview.draw(lineage.read(run), 600, 3)
    assert "<script>" not in drawn and "&lt;script&gt;" in drawn
