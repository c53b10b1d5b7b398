"""The user's own fields of a request's body (`extra`): put in beside what the settings say, or refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s1kit.errors import InputError
from s1kit.providers.chat import ChatRequest, Parameters, WireFormat

Path = tuple[str, ...]


def with_extra(body: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """The body with further fields: objects are merged, lists joined, anything else is replaced.

    An object whose `type` is another one is replaced as well.

    >>> with_extra({"config": {"maxTokens": 9}, "tools": [1]}, {"config": {"topK": 5}, "tools": [2]})
    {'config': {'maxTokens': 9, 'topK': 5}, 'tools': [1, 2]}
    >>> with_extra({"thinking": {"type": "adaptive", "display": "summarized"}}, {"thinking": {"type": "disabled"}})
    {'thinking': {'type': 'disabled'}}
    """
    return {**body, **{name: _merged(body.get(name), value) for name, value in extra.items()}}


def _merged(said: Any, own: Any) -> Any:
    if isinstance(said, list) and isinstance(own, list):
        return [*said, *own]
    if isinstance(said, Mapping) and isinstance(own, Mapping) and own.get("type", said.get("type")) == said.get("type"):
        return with_extra(said, own)
    return own


def check_settings(wire: WireFormat, model: str, parameters: Parameters) -> None:
    """Raises InputError for a parameter that the wire lacks, and for a field that `extra` and another one both set."""
    wire.call(_request(model, parameters))
    given = parameters.model_dump()
    said = dict(_leaves(wire.call(_request(model, Parameters(**given | {"extra": {}}))).body))
    default = dict(_leaves(wire.call(_request(model, Parameters())).body))
    for path, value in _leaves(parameters.extra):
        if path in said and said[path] not in (value, default.get(path)):
            raise InputError(
                f"extra sets {'.'.join(path)} to {value!r}, and another setting says {said[path]!r}",
                where="distill.extra",
                fix="Leave one of them out.",
            )


def _request(model: str, parameters: Parameters) -> ChatRequest:
    return ChatRequest("", model, ({"role": "user", "content": "?"},), parameters)


def _leaves(value: Mapping[str, Any], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    for name, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, (*path, name))
        else:
            yield (*path, name), inner
