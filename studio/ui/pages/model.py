"""Model: pick what to teach, and fetch it; or let Studio run the whole path once on the starter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Generator
from typing import Any

import gradio as gr

from studio import jobs, runs
from studio.errors import ModelError, RunError
from studio.ui import choice, demo, kit, live, machines, modelcard, modellist, parts, picking, starter
from studio.ui.live import Scene
from studio.ui.pages.tune import header
from studio.ui.picking import Pick


def page(tools: kit.Kit) -> None:
    """Lay out the page."""
    header(
        "Pick a base model",
        "A base model has the knowledge and continues text. You will teach it to answer. What fits is worked out for "
        "this machine before anything is downloaded.",
    )
    tools.live(kit.slot(), machines.line)
    trouble = kit.slot()
    with gr.Column(elem_classes="st-card st-hero") as hero:
        tools.live(kit.slot(), demo.hero)
        with gr.Row(elem_classes="st-buttons"):
            tools.live(kit.slot(), demo.onward)
            go = gr.Button("Make your first assistant", elem_id="st-demo", variant="primary", elem_classes="st-small")
    tools.live(hero, lambda scene: gr.update(visible=_early(scene)))
    tools.live(go, _button)
    tools.live(kit.slot(), lambda scene: demo.result(scene) if _early(scene) else "")
    with gr.Row(elem_classes="st-columns"):
        with gr.Column(scale=5, min_width=320, elem_classes="st-left"), gr.Column(elem_classes="st-card"):
            name, check = _field()
            tools.live(kit.slot(), modellist.listing)
        with gr.Column(scale=3, min_width=280, elem_classes="st-right st-beside", elem_id="st-model-side"):
            found = kit.slot()
            buttons = _card(tools)
            tools.live(kit.slot(), modelcard.licence)
            tools.live(kit.slot(), modelcard.memory)
            tools.live(kit.slot(), modelcard.world)
    do = gr.Textbox(elem_id=modellist.DO, elem_classes="st-hidden")
    now = tools.live(gr.Textbox(elem_classes="st-hidden"), lambda scene: scene.model)
    quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
    tools.renew(now.change(lambda: None, None, None, queue=False, **quiet))
    tools.after(go.click(kit.edge(first_assistant), None, trouble, **quiet))
    # Gradio 6.31 tells of `input` at key presses only: nothing of what is pasted or deleted, hence `change`.
    tools.after(name.change(kit.edge(seek), name, found, queue=False, trigger_mode="always_last", **quiet))
    for event in (check.click, name.submit):
        looked = event(kit.edges(look), name, found, **quiet)
        tools.after(looked.then(_query, None, name, queue=False, **quiet))
    told = do.change(kit.edge(tell), do, found, queue=False, **quiet)
    tools.after(told)
    tools.after(told.then(_query, None, name, queue=False, **quiet).then(kit.edge(find_out), None, found, **quiet))
    for action, button in buttons.items():
        tools.after(button.click(kit.edge(action), None, found, **quiet))
    tools.acts.append(picking.settle)
    tools.opening.append((kit.edges(_reopen), found))
    tools.restore([name], lambda scene: [Pick.at(scene.chosen).query])


def _field() -> tuple[Any, Any]:
    """Lay out the one field: it searches the list as one types, and takes an id, a link or a folder."""
    with gr.Row(elem_classes="st-pick"):
        name = gr.Textbox(
            label="Search, or paste a hub id, a link or a folder",
            placeholder="qwen 3b, < 4b, org/name; Enter asks the hub",
            max_lines=1,
            scale=1,
            min_width=200,
            elem_id="st-model-name",
        )
        check = gr.Button("Look it up", elem_id="st-model-check", elem_classes="st-small")
    return name, check


def _card(tools: kit.Kit) -> dict[Any, Any]:
    """Lay out the card of the shown model with its buttons; gives what each button does."""
    with gr.Column(elem_classes="st-card", elem_id="st-model-card"):
        tools.live(kit.slot(), modelcard.head)
        tools.live(kit.slot(), modelcard.progress)
        tools.live(kit.slot(), modelcard.facts)
        with gr.Row(elem_classes="st-buttons"):
            numbers = gr.Button("Check the weights", elem_id="st-model-numbers", elem_classes="st-small", visible=False)
            stop = gr.Button("Stop", elem_id="st-model-stop", elem_classes="st-small", visible=False)
            main = gr.Button("Download", elem_id="st-model-go", variant="primary", elem_classes="st-small")
            tools.live(kit.slot(), modelcard.onward)
    tools.live(main, _main)
    tools.live(stop, lambda scene: gr.update(visible=_going(scene) is not None))
    tools.live(numbers, _numbers)
    return {go_on: main, stop_it: stop, check_numbers: numbers}


# --- What the buttons show ---


def _early(scene: Scene) -> bool:
    """Tell whether the first assistant is still offered on top: until another model is in use."""
    return starter.leads(scene.model) or (scene.demo is not None and scene.demo.running)


def _button(scene: Scene) -> Any:
    again = scene.demo is not None and scene.demo.status == "finished"
    going = scene.running is not None or bool(scene.queue)
    return gr.update(
        value="Make it again" if again else "Make your first assistant",
        visible=not (scene.demo is not None and scene.demo.running),
        variant="secondary" if again or not modelcard.leads(scene) else "primary",
        interactive=not going,
    )


def _main(scene: Scene) -> Any:
    text, ready = modelcard.label(scene)
    return gr.update(
        value=text or "Download",
        visible=bool(text),
        interactive=ready,
        variant="secondary" if modelcard.leads(scene) else "primary",
    )


def _going(scene: Scene) -> live.View | None:
    """Give the download of the shown model, or the look at its numbers, while it goes."""
    model = modelcard.it(scene)
    return next((view for view in (model.download, model.numbers) if view is not None and view.running), None)


def _numbers(scene: Scene) -> Any:
    model = modelcard.it(scene)
    looked = model.numbers is not None and model.numbers.status in ("running", "finished", "failed")
    return gr.update(visible=bool(model.facts) and not looked, interactive=scene.beside is None)


# --- What they do ---


def first_assistant() -> str:
    """Start the whole path on the starter."""
    if not starter.here():
        raise ModelError("The starter model is not there.", "Get it with the sources: models/starter/*.safetensors.")
    kit.begin(runs.RunConfig("demo", "First assistant", model=starter.NAME))
    _use(starter.NAME)
    choice.update(data=starter.samples())
    return ""


def seek(text: str) -> str:
    """Show the part of the list that fits what is being typed."""
    pick, query = _pick(), text.strip()[:200]
    if query != pick.query:
        dataclasses.replace(pick, query=query).keep()
    return ""


def tell(message: str) -> str:
    """Do what a row or a link of the list says: show a model, or another part of the list."""
    said = json.loads(message)
    if "query" in said:
        dataclasses.replace(_pick(), query=str(said["query"])[:200]).keep()
    elif "show" in said:
        model, scene = str(said["show"]), live.look()
        listed = {entry.id for entry in picking.search("")} | {hit["model"] for hit in _pick().hits}
        if model not in listed and model not in picking.others(scene):
            raise ModelError("There is no such model in the list.", "Press one of its rows.")
        _show(model)
    return ""


def look(text: str) -> Generator[str]:
    """Look up what was typed: words are searched for on the hub, a folder is used from now on, an id is shown."""
    words = text.strip()
    if words and not any(sign in words for sign in "/\\~"):
        yield from _search(words)
        return
    model = picking.canonical(text)
    yield parts.card("", parts.note(f"Looking at {model}."))
    if picking.is_folder(model):
        _use(model)
        dataclasses.replace(_pick(), query="").keep()
    else:
        here = picking.folder_of(model)
        _show(model, **({"facts": picking.inspect(model)} if here else {"offer": picking.offer(model)}))
    yield ""


def _search(words: str) -> Generator[str]:
    """Show the one model of the list that fits, and what the hub has beside it."""
    fitting = picking.search(words)
    if len(fitting) == 1:
        _show(fitting[0].id)
    yield parts.card("", parts.note(f"Asking the hub for “{words}”."))
    found = picking.search_hub(words)
    dataclasses.replace(_pick(), query=words, found=found).keep()
    if len(fitting) == 1:
        picking.find_out(live.look(), ask_hub=True)
    yield "" if found["models"] else parts.card("", parts.note(f"The hub has no language model for “{words}”."))


def find_out() -> str:
    """Ask what is not known yet about the shown model: of its files, or of the hub."""
    picking.find_out(live.look(), ask_hub=True)
    return ""


def go_on() -> str:
    """Do what the one button says: download, go on with it, or use what is here."""
    scene = live.look()
    model = modelcard.it(scene)
    if model.here:
        _use(model.model, model.facts)
        return ""
    view = model.download
    if view is not None and (kit.resumable(view) or view.status == "failed"):
        if scene.beside is not None:
            raise RunError(f"“{scene.beside.config.title}” is running.", "Wait until it ends; one download at a time.")
        jobs.start(view.run)
        run = view.run
    else:
        run = kit.begin(runs.RunConfig("download", model.model, model=model.model))
    dataclasses.replace(_pick(), shown=model.model, waiting=run.id).keep()
    return ""


def stop_it() -> str:
    """Stop the download of the shown model, or the look at its numbers; what has arrived is kept."""
    if view := _going(live.look()):
        jobs.stop(view.run)
    return ""


def check_numbers() -> str:
    """Read all weights of the shown model and look for what is not a number."""
    model = modelcard.it(live.look())
    kit.begin(runs.RunConfig("check", model.name, model=model.model))
    return ""


def _use(model: str, facts: dict[str, Any] | None = None) -> None:
    picking.use(model, facts or picking.inspect(model))


def _show(model: str, **found: Any) -> None:
    """Show a model's card; what was found out about another one is forgotten."""
    pick = _pick()
    new: dict[str, Any] = {"facts": {}, "offer": {}, "error": {}} if pick.shown != model else {}
    query = "" if found else pick.query
    dataclasses.replace(pick, **{**new, **found, "shown": model, "query": query}).keep()


def _reopen() -> Generator[str]:
    """Look at the shown model's files when the window is opened; the hub is asked only when somebody asks."""
    picking.find_out(live.look(), ask_hub=False)
    yield ""


def _pick() -> Pick:
    return Pick.at(choice.read())


def _query() -> str:
    return _pick().query
