"""A switch that the chat template does not look at changes nothing, so it is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from s1kit.cli.preflight import check_reference
from s1kit.cli.references import check_engine
from s1kit.engines import load_engine
from s1kit.errors import InputError
from s1kit.forcing.switches import check_switches, has_switch

QWEN3 = """
{%- for message in messages %}
{%- if message.reasoning_content is string %}{% set reasoning_content = message.reasoning_content %}{% endif %}
{{- message.role + reasoning_content + message.content }}
{%- endfor %}
{%- if add_generation_prompt and enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}
"""
SET_BY_ITSELF = "{% set thinking = thinking | default(false) %}{{ thinking }}{{ mode }}{{ messages }}"
BY_TEXT = "{% if enable_thinking == 'true' %}<think>{% endif %}"


@pytest.mark.parametrize(
    ("template", "switches"),
    [
        (QWEN3, {"enable_thinking": False}),
        (SET_BY_ITSELF, {"thinking": True, "mode": "x"}),
        ("{% macro ask(x) %}{{ x }}{{ effort }}{% endmacro %}{{ ask(1) }}", {"effort": "low"}),
        ({"default": QWEN3, "tools": SET_BY_ITSELF}, {"enable_thinking": True, "mode": "x"}),
        (BY_TEXT, {"enable_thinking": "true"}),
        ("{% if broken", {"any": 1}),
    ],
)
def test_what_a_template_looks_at_is_a_switch(template: Any, switches: dict[str, Any]) -> None:
    check_switches(switches, template, "template")


@pytest.mark.parametrize(
    ("template", "switches", "said"),
    [
        (
            QWEN3,
            {"enable_thnking": True},
            "Did you mean enable_thinking\\? Known: enable_thinking",
        ),
        (SET_BY_ITSELF, {"enable_thinking": True}, "Did you mean thinking.*Known: mode, thinking"),
        ("{{ messages }}", {"enable_thinking": True}, "It has none: leave it out"),
        (None, {"enable_thinking": True}, "It has none"),
        (QWEN3, {"add_generation_prompt": False}, "is no switch: the chat sets it"),
        (QWEN3, {"enable_thinking": "False"}, "the text 'False', which counts as true.*false without quotation"),
    ],
)
def test_what_it_does_not_look_at_is_refused(template: Any, switches: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        check_switches(switches, template, "template")


def test_a_comment_or_a_text_of_the_template_is_no_switch() -> None:
    template = "{# preserve_thinking: #}{{ 'preserve_thinking' }}{{ messages }}{{ clear_thinking }}"
    assert [has_switch(template, name) for name in ("preserve_thinking", "clear_thinking")] == [False, True]
    assert has_switch({"default": "{{ messages }}", "tools": template}, "clear_thinking")
    assert has_switch("{% if broken", "preserve_thinking")


def test_engines_and_check_refuse_it_in_a_reference_and_beside_one(tiny_random_checkpoint: Path) -> None:
    model = f"hf:{tiny_random_checkpoint}"
    for reference, template in ((f"{model},template.enable_thnking=true", {}), (model, {"enable_thnking": True})):
        with pytest.raises(InputError, match="no switch 'enable_thnking'"):
            check_engine(reference, "evaluate.model", template=template)
        with pytest.raises(InputError, match="no switch 'enable_thnking'"):
            load_engine(reference, template=template)


@pytest.mark.parametrize("section", ["distill", "train", "evaluate"])
def test_check_names_the_setting_before_anything_is_spent(section: str, tmp_path: Path) -> None:
    teacher = ["distill.teacher=tiny-base"] if section == "distill" else []
    given = [*teacher, f"{section}.template.enable_thnking=true", f"out={tmp_path}"]
    (fault,) = check_reference("tiny", given, None)[1]
    assert "'enable_thnking'" in str(fault)


def test_a_checkpoint_of_this_run_has_the_switch_of_its_trained_opening(tmp_path: Path) -> None:
    assert not check_reference("tiny", ["evaluate.template.enable_thinking=true", f"out={tmp_path}"], None)[1]
