"""Gemini's calls of functions whose arguments are streamed in pieces, put together.

Where a request asks for it (`streamFunctionCallArguments`), a call begins with a part that has its name, goes on with
parts that have `partialArgs`, each a value under a JSON path, and ends with one that has no `willContinue`.
Source: docs.cloud.google.com/vertex-ai/generative-ai/docs/multimodal/function-calling.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from s1kit.providers.wires.reading import dict_of, list_of

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d{1,4})\]|\[['\"]([^'\"]*)['\"]\]")
"""A field or an index of a path such as `$.recipe.ingredients[0].amount`."""


def with_whole_calls(parts: Sequence[Any]) -> list[Any]:
    """The parts of a streamed candidate, each call in one part. Total: what is no such piece stays as it is.

    >>> begin = {"functionCall": {"name": "f", "willContinue": True}}
    >>> piece = {"functionCall": {"partialArgs": [{"jsonPath": "$.x[0].y", "stringValue": "4"}], "willContinue": True}}
    >>> with_whole_calls([begin, piece, {"functionCall": {}}])
    [{'functionCall': {'name': 'f', 'args': {'x': [{'y': '4'}]}}}]
    """
    whole: list[Any] = []
    open_call: dict[str, Any] | None = None
    for part in parts:
        given = dict_of(part).get("functionCall")
        if not isinstance(given, Mapping):
            whole.append(part)
            continue
        if open_call is None or given.get("name"):
            open_call = {name: value for name, value in given.items() if name not in ("partialArgs", "willContinue")}
            whole.append({**part, "functionCall": open_call})
        for piece in map(dict_of, list_of(given.get("partialArgs"))):
            path = [_key(step) for step in _STEP.finditer(str(piece.get("jsonPath")))]
            open_call["args"] = _with(open_call.get("args"), path, piece)
        if not given.get("willContinue"):
            open_call = None
    return whole


def _key(step: re.Match[str]) -> str | int:
    return int(step[2]) if step[2] is not None else str(step[1] if step[1] is not None else step[3])


def _with(known: Any, path: Sequence[str | int], piece: Mapping[str, Any]) -> Any:
    """A value with a piece put under a path in it; text continues text."""
    if not path:
        if isinstance(piece.get("stringValue"), str):
            return (known if isinstance(known, str) else "") + piece["stringValue"]
        return next((piece[name] for name in ("numberValue", "boolValue") if name in piece), None)
    first, rest = path[0], path[1:]
    if isinstance(first, int):
        items = list(list_of(known))
        items += [None] * (first + 1 - len(items))
        items[first] = _with(items[first], rest, piece)
        return items
    fields = dict_of(known)
    return {**fields, first: _with(fields.get(first), rest, piece)}
