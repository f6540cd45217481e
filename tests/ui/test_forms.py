"""Every setting of every method becomes a component, and the form gives back what differs from the defaults."""

from __future__ import annotations

import pytest

from studio.config import settings
from studio.errors import ConfigError
from studio.methods import METHODS
from studio.ui import shell
from studio.ui.forms import Form, component, hint, label, show


@pytest.mark.parametrize("name", METHODS)
def test_an_untouched_form_changes_nothing(name: str) -> None:
    form = Form(METHODS[name].Config)
    assert form.changed(form.shown({})) == {}


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_has_a_component_that_shows_its_default(name: str) -> None:
    for s in settings(METHODS[name].Config):
        made = component(s)
        assert made.value == show(s, s.default), s.name
        assert s.help.rstrip(".") in made.info


def test_the_defaults_belong_to_the_method() -> None:
    shown = {
        name: dict(zip((s.name for s in form.settings), form.shown({}), strict=True))
        for name, form in ((name, Form(method.Config)) for name, method in METHODS.items())
    }
    assert shown["sft"]["learning_rate"] != shown["reward"]["learning_rate"]
    assert "beta" in shown["dpo"] and "beta" not in shown["sft"]


def test_what_was_typed_comes_back_as_the_fields_type() -> None:
    form = Form(METHODS["sft"].Config)
    values = dict(zip((s.name for s in form.settings), form.shown({}), strict=True))
    values |= {"learning_rate": "5e-4", "epochs": "2", "max_steps": "10", "quantize_base": "none"}
    assert form.changed(list(values.values())) == {"learning_rate": 5e-4, "max_steps": 10, "quantize_base": "none"}


def test_an_emptied_optional_setting_is_none_again() -> None:
    form = Form(METHODS["sft"].Config)
    values = form.shown({"max_steps": "20"})
    assert form.changed(values) == {"max_steps": 20}
    assert form.changed(form.shown({"max_steps": ""})) == {}


def test_all_that_is_wrong_is_said_together() -> None:
    form = Form(METHODS["sft"].Config)
    values = dict(zip((s.name for s in form.settings), form.shown({}), strict=True))
    values |= {"learning_rate": "nan", "batch_size": "many", "epochs": "-1"}
    with pytest.raises(ConfigError) as caught:
        form.changed(list(values.values()))
    assert "batch_size" in str(caught.value) and caught.value.remedy


def test_labels_carry_the_unit() -> None:
    (s,) = [s for s in settings(METHODS["sft"].Config) if s.name == "max_length"]
    assert label(s) == "Max length (tokens)" and "16 to 131,072" in hint(s)


def test_what_the_base_asks_for_is_shown_and_counts_as_untouched_until_it_is_changed() -> None:
    form = Form(METHODS["sft"].Config)
    wanted = {"learning_rate": 5e-4, "lora_r": 8}
    values = form.shown(wanted)
    assert form.changed(values, wanted) == {}
    back = form.shown({})
    assert form.changed(back, wanted) == {"learning_rate": 2e-4, "lora_r": 16}


def test_no_event_of_the_window_waits_on_many_fields() -> None:
    # For each component that it draws, Gradio's page goes through all triggers of all events.
    window = shell.build()
    many = [len(event.targets) for event in window.fns.values() if len(event.targets) > 2]
    assert many == [] and len(window.blocks) > 500
