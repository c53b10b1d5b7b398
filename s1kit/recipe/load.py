"""Reading a recipe: the file or the built-in name, overrides, variables, and what is wrong with it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from s1kit.errors import InputError, nearest
from s1kit.recipe.whole import Recipe


def builtin_recipes() -> list[str]:
    return sorted(
        p.name.removesuffix(".toml") for p in resources.files("s1kit.recipes").iterdir() if p.name.endswith(".toml")
    )


def load_recipe(reference: str, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe from a file or a built-in name, with `section.key=value` overrides.

    Raises InputError for a missing file, an unknown key (naming the nearest), a wrong type, a malformed override.
    """
    data, where = _settings(reference, overrides)
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        raise _explain(error, where) from error


def load_for_check(reference: str, overrides: Sequence[str] = ()) -> tuple[Recipe, list[InputError], set[str]]:
    """The recipe with defaults in place of settings that are wrong, so that the others can be checked, too.

    Also what is wrong, and the names of sections that could not be kept at all. Raises InputError where nothing is left
    to check, as of a file that is not TOML.
    """
    data, where = _settings(reference, overrides)
    found: list[InputError] = []
    lost: set[str] = set()
    first: ValidationError | None = None
    while True:
        try:
            return Recipe.model_validate(data), found, lost
        except ValidationError as error:
            first = first or error
            found += _complaints(error, where)
            places = [tuple(each["loc"]) for each in error.errors()]
            if not all(_without(data, place, lost) for place in places):
                raise _explain(first, where) from error


def _without(data: dict[str, Any], place: tuple[int | str, ...], lost: set[str]) -> bool:
    """Leave out the setting at a place; False where there is none, as of one that is missing.

    Of a list the whole is left out, and then its section is `lost`: the other elements say nothing by themselves.
    """
    keys = list(takewhile(lambda part: not isinstance(part, int), place))
    *sections, last = keys
    holder: Any = data
    for section in sections:
        holder = holder.get(section, {})
    if not isinstance(holder, dict) or last not in holder:
        return False
    del holder[last]
    if len(keys) == 1 or len(keys) < len(place):
        lost.add(str(keys[0]))
    return True


def _settings(reference: str, overrides: Sequence[str]) -> tuple[dict[str, Any], str]:
    """The settings as the file and the command line give them, variables filled in, and where they are from."""
    text, where = _read(reference)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"the recipe is not TOML: {error}", where=where, fix="Correct that line.") from error
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
    if not path.is_file():
        raise InputError(
            f"there is no recipe {reference!r}",
            where="RECIPE",
            fix="Give a TOML file, or a built-in name. " + nearest(reference, builtin_recipes()),
        )
    try:
        return path.read_text(encoding="utf-8"), str(path)
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
            return value
        if isinstance(value, list):
            return [fill(v) for v in value]
        if isinstance(value, dict):
            return {k: fill(v) for k, v in value.items()}
        return value

    return {key: value if key == "variables" else fill(value) for key, value in data.items()}


def _explain(error: ValidationError, where: str) -> InputError:
    """All complaints of a validation, as one paragraph, each with its repair."""
    found = _complaints(error, where)
    if len(found) == 1:
        return found[0]
    said = "; ".join(f"({number}) {one.what}. {one.fix.rstrip('.')}" for number, one in enumerate(found, 1))
    return InputError(f"{len(found)} settings are wrong: {said}", where=where, fix="Correct each of them.")


def _complaints(error: ValidationError, where: str) -> list[InputError]:
    complaints = error.errors()
    if any(c["type"] == "extra_forbidden" for c in complaints):
        # Of a misspelled key that was required, both are said; the key that does not exist explains the other.
        complaints = [c for c in complaints if c["type"] != "missing"]
    return [_complaint(c, where) for c in complaints]


def _complaint(first: Any, where: str) -> InputError:
    if isinstance(told := first.get("ctx", {}).get("error"), InputError):
        return told
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return InputError(
            f"unknown key {place!r}", where=where, fix=nearest(str(first["loc"][-1]), _known_keys(first["loc"][:-1]))
        )
    if first["type"] == "missing":
        return InputError(f"{place} is missing", where=where, fix="Add it.")
    given = json.dumps(first["input"], default=str)
    return InputError(f"{place} is {given:.200}: {first['msg'].lower()}", where=where, fix="Give a value of that kind.")


def _known_keys(location: Sequence[int | str]) -> list[str]:
    model: Any = Recipe
    for part in location:
        if isinstance(part, int):
            continue
        model = model.model_fields[part].annotation
        model = next((a for a in get_args(model) if hasattr(a, "model_fields")), model)
    return list(model.model_fields)
