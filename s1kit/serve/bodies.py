"""Parses and checks a JSON body, strictly or leniently."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from s1kit.serve.refusals import from_validation, unknown_fields

Body = TypeVar("Body", bound=BaseModel)


def read_as(kind: type[Body], raw: bytes, is_lenient: bool = False) -> tuple[Body, tuple[str, ...]]:
    """The body, and the unknown fields that were left out of it, which are none unless `is_lenient`.

    Raises Refusal (400), naming the field as the client wrote it.
    """
    try:
        return kind.model_validate_json(raw), ()
    except ValidationError as error:
        given = _loaded(raw)
        unknown = unknown_fields(error, given) if is_lenient and given is not None else []
        if not unknown:
            raise from_validation(error, list(kind.model_fields), given) from error
    for path in unknown:
        _remove(given, path)
    try:
        body = kind.model_validate_json(json.dumps(given).encode())
    except ValidationError as error:
        raise from_validation(error, list(kind.model_fields), given) from error
    return body, tuple(dict.fromkeys(".".join(map(str, path)) for path in unknown))


def _loaded(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return None


def _remove(given: Any, path: list[str | int]) -> None:
    for part in path[:-1]:
        given = given[part]
    if isinstance(given, dict):
        given.pop(str(path[-1]), None)
