"""What pydantic says against a recipe's settings, as errors with the user's own names and a repair each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError

from s1kit.errors import InputError, nearest
from s1kit.recipe.whole import Recipe


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
