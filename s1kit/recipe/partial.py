"""A recipe without the settings that are wrong, so that the others can be checked, too."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from pydantic import ValidationError

from s1kit.errors import InputError
from s1kit.recipe.load import complaints_of, explain, read_settings
from s1kit.recipe.whole import Recipe

STAGES: list[str] = Recipe.model_fields["stages"].get_default()
_NO_NAME = "(a recipe without a name)"
"""Stands for a name that is missing or wrong: no folder is called this, so no stage counts as done."""


class PartialRecipe(NamedTuple):
    """What of a recipe can be checked."""

    recipe: Recipe
    """With defaults in place of settings that are wrong."""
    wrong: list[InputError]
    """What is wrong with those."""
    stages: list[str]
    """Stages that the recipe runs, a misspelled one as the nearest name. Where none is known, those that the file has
    a section for."""
    lost: frozenset[str]
    """Sections of which nothing could be kept."""
    left_out: frozenset[str]
    """What was left out, each with dots between its names: its default stands in place of what was meant."""


def load_for_check(reference: str, overrides: Sequence[str] = ()) -> PartialRecipe:
    """Everything of a recipe that can be checked. Raises InputError where that is nothing, as for a file of no TOML."""
    data, where = read_settings(reference, overrides)
    given = set(data)
    found: list[InputError] = []
    lost: set[str] = set()
    left_out: set[str] = set()
    while True:
        try:
            recipe = Recipe.model_validate(data)
            break
        except ValidationError as error:
            found += complaints_of(error, where)
            places = {_removable(data, each["loc"]) for each in error.errors()}
            if () in places:
                raise explain(error, where) from error
            # Later elements of a list first: leaving one out moves those after it.
            for place in sorted(places, key=lambda place: [str(part).zfill(9) for part in place], reverse=True):
                if not any(place[:n] in places for n in range(1, len(place))):
                    _leave_out(data, place, lost)
            left_out |= {".".join(map(str, each["loc"])) for each in error.errors()}
    stages: list[str] = [*recipe.stages]
    if "stages" in lost:
        stages = [name for name in STAGES if name in given]
    return PartialRecipe(recipe, found, stages, frozenset(lost), frozenset(left_out))


def _removable(data: dict[str, Any], place: Sequence[int | str]) -> tuple[int | str, ...]:
    """What to leave out for a wrong setting: the setting, or what lacks it; of a list the element, others are checked.

    Empty where nothing can be left out.
    """
    if tuple(place) == ("name",):
        return ("name",)
    holder: Any = data
    there: list[int | str] = []
    for part in place:
        try:
            holder = holder[part]
        except (KeyError, IndexError, TypeError):
            break
        there.append(part)
        if isinstance(part, int):
            break
    return tuple(there)


def _leave_out(data: dict[str, Any], place: tuple[int | str, ...], lost: set[str]) -> None:
    """Leave out what stands at a place.

    Its section is `lost` where it is left out whole, and where a list has nothing left: the default would be checked
    in place of what was meant.
    """
    if place == ("name",):
        data["name"] = _NO_NAME
        return
    *sections, last = place
    holder: Any = data
    for section in sections:
        holder = holder[section]
    meant = get_close_matches(str(holder[last]), STAGES, 1) if sections == ["stages"] else []
    if meant:
        holder[last] = meant[0]
        return
    del holder[last]
    is_empty = isinstance(holder, list) and not holder
    if is_empty:
        _leave_out(data, tuple(sections), set())
    if not sections or is_empty:
        lost.add(str(place[0]))
