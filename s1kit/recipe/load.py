"""Reading a recipe: the file or the built-in name, overrides and variables; all that is wrong with its settings.

A recipe with wrong settings can be read without them, so that the others can be checked, too.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from s1kit.errors import InputError, nearest
from s1kit.recipe.recipe import Recipe

_CURLY = re.compile("=[^\"'#\n]*[\u201c\u201d\u2018\u2019\u201e\u00ab]")
"""A value in quotation marks of a text processor."""
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


def builtin_recipes() -> list[str]:
    return sorted(
        p.name.removesuffix(".toml") for p in resources.files("s1kit.recipes").iterdir() if p.name.endswith(".toml")
    )


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe from a file or a built-in name, with `section.key=value` overrides.

    Raises InputError for a missing file, an unknown key (naming the nearest), a wrong type, a malformed override.
    """
    data, where = read_settings(reference, overrides)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise explain(error, where) from error


def recipe_of_run(folder: Path) -> Recipe:
    """The recipe, as resolved, that a run folder was made with.

    Raises InputError for a folder that holds no run, or one of another version with other settings.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise InputError(f"{folder} is not a run folder", where="RUN", fix="Give run folders, such as runs/tiny.")
    try:
        return Recipe.model_validate(json.loads(path.read_text(encoding="utf-8"))["resolved"])
    except ValidationError as error:
        raise explain(error, str(path)) from error


def read_settings(reference: str, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The settings as the file and the command line give them, variables filled in, and where they are from.

    Raises InputError for a missing file, one that is not TOML, a malformed override, a variable without a value.
    """
    text, where = _read(reference)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        fix = "Correct that line."
        if Path(reference).suffix.lower() in (".yaml", ".yml", ".json"):
            fix = 'A recipe is TOML: [evaluate] on a line of its own, and model = "tiny" on one below it.'
        if _CURLY.search(text):
            fix = f'{fix} Typographic quotation marks quote nothing: write ".'
        raise InputError(f"the recipe is not TOML: {error}", where=where, fix=fix) from error
    data.setdefault("recipe", data.get("name", ""))
    for override in overrides:
        _apply(data, override)
    return _fill_variables(data, where), where


def _read(reference: str) -> tuple[str, str]:
    if reference in builtin_recipes():
        return (resources.files("s1kit.recipes") / f"{reference}.toml").read_text(
            encoding="utf-8"
        ), f"{reference} (built-in)"
    path = Path(reference)
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.toml"))
        fix = f"Name a file in it: {', '.join(inside[:5])}." if inside else "It holds no TOML file; give one."
        raise InputError(f"{reference!r} is a folder", where="RECIPE", fix=fix)
    if not path.is_file():
        raise InputError(
            f"there is no recipe {reference!r}",
            where="RECIPE",
            fix="Give a TOML file, or a built-in name. " + nearest(reference, builtin_recipes()),
        )
    try:
        return path.read_text(encoding="utf-8-sig"), str(path)
    except (PermissionError, UnicodeDecodeError) as error:
        raise InputError(
            f"the recipe cannot be read: {error}", where=str(path), fix="Give a UTF-8 text file."
        ) from error


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise InputError(
            f"{override!r} is not key=value", where="command line", fix="Write for example train.epochs=3."
        )
    *sections, last = key.strip().split(".")
    if not sections and last in data.get("variables", {}):
        sections = ["variables"]
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise InputError(
                f"{section} in {key!r} is not a section", where="command line", fix="Name a section and a key."
            )
    data[last] = text if "variables" in sections else _parse_value(text)


def _parse_value(text: str) -> Any:
    """TOML where it parses (numbers, booleans, lists, quoted strings), else the text as it stands.

    >>> _parse_value("1e-5"), _parse_value("[1, 2]"), _parse_value("hf:some/model")
    (1e-05, [1, 2], 'hf:some/model')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _fill_variables(data: dict[str, Any], where: str) -> dict[str, Any]:
    variables: dict[str, str] = data.get("variables", {})

    def fill(value: Any) -> Any:
        if isinstance(value, str):
            for name, text in variables.items():
                if f"{{{name}}}" in value:
                    if not text and value != f"{{{name}}}":
                        raise InputError(
                            f"{name} is not set", where=where, fix=f"Add {name}=<value> to the command line."
                        )
                    value = value.replace(f"{{{name}}}", text)
            for unknown in _PLACEHOLDER.findall(value):
                if close := get_close_matches(unknown, variables, 1, 0.7):
                    raise InputError(
                        f"{{{unknown}}} names no variable", where=where, fix=f"Did you mean {{{close[0]}}}?"
                    )
            return value
        if isinstance(value, list):
            return [fill(v) for v in value]
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        return value

    return {key: value if key == "variables" else fill(value) for key, value in data.items()}


def explain(error: ValidationError, where: str) -> InputError:
    """All complaints of a validation as one paragraph, each with its repair."""
    found = complaints_of(error, where)
    if len(found) == 1:
        return found[0]
    said = "; ".join(f"({number}) {one.what}. {one.fix.rstrip('.')}" for number, one in enumerate(found, 1))
    return InputError(f"{len(found)} settings are wrong: {said}", where=where, fix="Correct each of them.")


def complaints_of(error: ValidationError, where: str) -> list[InputError]:
    """One error for each setting that is wrong. `where`: the recipe's file."""
    complaints = error.errors()
    # Of a misspelled key that was required, both are said; the key that does not exist explains the other.
    unknown = {c["loc"][:-1] for c in complaints if c["type"] == "extra_forbidden"}
    return [_complaint(c, where) for c in complaints if c["type"] != "missing" or c["loc"][:-1] not in unknown]


def _complaint(first: Any, where: str) -> InputError:
    if isinstance(told := first.get("ctx", {}).get("error"), InputError):
        return told
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        others = [s for s in Recipe.model_fields if s != first["loc"][0] and key in _known_keys([s])]
        fix = f"It is a key of {' and of '.join(others)}. " if others else ""
        return InputError(f"unknown key {place!r}", where=where, fix=fix + nearest(key, _known_keys(first["loc"][:-1])))
    if first["type"] == "model_type":
        given = json.dumps(first["input"], default=str)
        if place.startswith("collect.sources.") and isinstance(first["input"], str):
            fix = f"Write {{ path = {given:.80} }}, or hub or builtin in place of path."
        else:
            fix = f"Write [{place}] and its keys below, a line each." if "." not in place else "Write { key = value }."
        return InputError(f"{place} is {given:.80}", where=where, fix=fix)
    if first["type"] == "list_type":
        fix = f"Write it in brackets, as a list of one: {first['loc'][-1]} = [...]."
        return InputError(f"{place} is {json.dumps(first['input'], default=str):.80}, no list", where=where, fix=fix)
    if first["type"] == "missing":
        return InputError(f"{place} is missing", where=where, fix="Add it.")
    given = json.dumps(first["input"], default=str)
    if first["type"] == "literal_error":
        known = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        return InputError(f"{place} is {given:.200}", where=where, fix=nearest(str(first["input"]), known))
    return InputError(f"{place} is {given:.200}: {first['msg'].lower()}", where=where, fix="Give a value of that kind.")


def _known_keys(location: Sequence[int | str]) -> list[str]:
    model: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        model = model.model_fields[part].annotation
        model = next((a for a in get_args(model) if hasattr(a, "model_fields")), model)
    return list(getattr(model, "model_fields", ()))


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
