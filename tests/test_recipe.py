"""Recipes: files, built-in names, overrides, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic.fields import FieldInfo

from s1kit.errors import InputError
from s1kit.recipe import Collect, Source, builtin_recipes, load_recipe


@pytest.mark.parametrize("name", builtin_recipes())
def test_every_built_in_recipe_loads(name: str) -> None:
    variables = ["data=somewhere"] if name in ("math-sample", "s1k-ablation") else []
    assert load_recipe(name, variables).name


def test_an_override_wins_over_the_file_and_keeps_its_type() -> None:
    recipe = load_recipe(
        "tiny", ["train.epochs=2", "evaluate.num_waits=[0, 3]", "name=mine", "train.base=hf:some/model"]
    )
    assert (recipe.train.epochs, recipe.evaluate.num_waits, recipe.name) == (2, [0, 3], "mine")
    assert recipe.train.base == "hf:some/model"


def test_an_unknown_key_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown key 'train.epoch'.*Did you mean epochs\?"):
        load_recipe("tiny", ["train.epoch=2"])


def test_an_unknown_key_of_a_source_is_found_inside_the_list() -> None:
    with pytest.raises(InputError, match="Did you mean builtin"):
        load_recipe("tiny", ['collect.sources=[{ buildin = "tiny" }]'])


def test_a_wrong_type_names_the_key_and_its_value() -> None:
    with pytest.raises(InputError, match=r'train.epochs is "many"'):
        load_recipe("tiny", ["train.epochs=many"])


def test_a_missing_recipe_lists_the_built_in_ones() -> None:
    with pytest.raises(InputError, match=r"Did you mean tiny\?.*Known:.*tiny"):
        load_recipe("tinny")


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("name = \n")
    with pytest.raises(InputError, match=r"not TOML.*line 1.*broken\.toml"):
        load_recipe(str(broken))


def test_an_override_without_an_equals_sign_is_refused() -> None:
    with pytest.raises(InputError, match="is not key=value"):
        load_recipe("tiny", ["epochs"])


def test_a_variable_fills_in_and_an_unset_one_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text('name = "r"\n[variables]\ndata = ""\n[collect]\nagainst = ["{data}/a.jsonl"]\n')
    assert load_recipe(str(path), ["data=/d"]).collect.against == ["/d/a.jsonl"]
    with pytest.raises(InputError, match=r"data is not set.*Add data=<value>"):
        load_recipe(str(path))


def test_all_settings_of_a_wrong_kind_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'name = "bad"\n[distill]\nmax_cost_usd = -1\n[train]\nepochs = "many"\n[report]\nttle = "x"\n', encoding="utf-8"
    )
    with pytest.raises(InputError) as caught:
        load_recipe(str(path))
    said = str(caught.value)
    assert "3 settings are wrong" in said
    for part in ("distill.max_cost_usd is -1", "train.epochs", "unknown key 'report.ttle'", "Did you mean title?"):
        assert part in said


def test_stated_settings_are_told_without_a_default_that_pydantic_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """`get_default` of its version 2.10.0, the lowest that is admitted, refuses factories such as `list`."""

    def refuses(self: FieldInfo, *, call_default_factory: bool = False) -> None:
        raise ValueError("'validated_data' must be provided")

    config = Collect(sources=[Source(path="a.csv")], against=[], duplicates="exact")
    monkeypatch.setattr(FieldInfo, "get_default", refuses)
    assert config.stated == {"sources", "duplicates"}
