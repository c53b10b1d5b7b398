"""Parses a request of any surface into a checked chat or completion body, strictly or leniently."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from s1kit.serve.chat import AllowedChoice, ChatBody, CompletionBody
from s1kit.serve.jobs import ParsedRequest, parse_chat, parse_completion
from s1kit.serve.messages import CountBody, MessagesBody
from s1kit.serve.refusals import Refusal, from_validation, renamed, unknown_fields
from s1kit.serve.replies import Endpoint
from s1kit.serve.responses import ResponsesBody
from s1kit.serve.state import Server
from s1kit.serve.tool_calls import loaded

Body = TypeVar("Body", bound=BaseModel)
Surface = TypeVar("Surface", bound=CountBody | ResponsesBody)


def read_as(kind: type[Body], raw: bytes, is_lenient: bool = False) -> tuple[Body, tuple[str, ...]]:
    """The body, and the unknown fields that were left out of it, which are none unless `is_lenient`.

    Raises Refusal (400), naming the field as the client wrote it.
    """
    try:
        return kind.model_validate_json(raw), ()
    except ValidationError as error:
        given = loaded(raw)
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


def _remove(given: Any, path: list[str | int]) -> None:
    for part in path[:-1]:
        given = given[part]
    if isinstance(given, dict):
        given.pop(str(path[-1]), None)


@dataclass(frozen=True, slots=True)
class ReadBody:
    """A request's body in the form that jobs are made from."""

    body: ChatBody | CompletionBody
    given: MessagesBody | ResponsesBody | None = None
    """The body as it came, where the surface is not one of the two."""
    ignored: tuple[str, ...] = ()
    """Fields that were left out: unknown ones on a lenient server, and those that have no meaning here."""

    def jobs(self, server: Server) -> ParsedRequest:
        """What is to be decoded. Raises Refusal, in the names of the surface."""
        default = server.limits.default_budget
        if isinstance(self.body, CompletionBody):
            return parse_completion(self.body, server.backend, server.efforts, default)
        try:
            return parse_chat(self.body, server.backend, server.efforts, default)
        except Refusal as refusal:
            raise _in_names_of(self.given, refusal) from refusal


def read_body_as(endpoint: Endpoint, raw: bytes, is_lenient: bool) -> ReadBody:
    """The checked body. Raises Refusal (400), naming the field as the client wrote it."""
    if endpoint == "completions":
        completion, ignored = read_as(CompletionBody, raw, is_lenient)
        return ReadBody(completion, None, ignored)
    if endpoint == "chat":
        body, ignored = read_as(ChatBody, raw, is_lenient)
        return ReadBody(_narrowed(body), None, ignored + body.left_out)
    if endpoint == "messages":
        return ReadBody(*read_as_chat(MessagesBody, raw, is_lenient))
    return ReadBody(*read_as_chat(ResponsesBody, raw, is_lenient))


def read_as_chat(kind: type[Surface], raw: bytes, is_lenient: bool) -> tuple[ChatBody, Surface, tuple[str, ...]]:
    """A body of another surface as that of a chat, as it came, and what was left out. Raises Refusal (400)."""
    given, ignored = read_as(kind, raw, is_lenient)
    try:
        body = _narrowed(read_as(ChatBody, json.dumps(given.as_chat()).encode())[0])
    except Refusal as refusal:
        raise _in_names_of(given, refusal) from refusal
    return body, given, ignored + given.left_out


def _narrowed(body: ChatBody) -> ChatBody:
    """The body with only the tools that may be called, where it names them. Raises Refusal."""
    choice = body.tool_choice
    if not isinstance(choice, AllowedChoice):
        return body
    allowed = [one.function.name for one in choice.allowed_tools.tools]
    given = {tool.function.name for tool in body.functions}
    for name in allowed:
        if name not in given:
            what = f"tool_choice allows {name!r}, which is not among the tools."
            raise Refusal(400, what, param="tool_choice.allowed_tools.tools", code="invalid_value")
    tools = [tool for tool in body.functions if tool.function.name in allowed]
    return body.model_copy(update={"tools": tools, "tool_choice": choice.allowed_tools.mode})


def _in_names_of(given: CountBody | ResponsesBody | None, refusal: Refusal) -> Refusal:
    return refusal if given is None else renamed(refusal, given.chat_names)
