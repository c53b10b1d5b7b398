"""Error replies: OpenAI's error object, whose `param` names the field at fault.

Knows nothing about engines. A refusal is raised anywhere below a handler and becomes one JSON reply, or one last event
of a stream whose headers have already gone out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from s1kit.errors import InputError, nearest
from s1kit.serve.fields import TemplateSwitches

# OpenAI's own names for the classes of error, by status.
_TYPES = {
    401: "authentication_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Refusal(Exception):
    """A request that gets an error instead of a reply.

    >>> Refusal(400, "num_waits is -1. Give 0 or more.", param="num_waits").body()["error"]["param"]
    'num_waits'
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        """The field at fault, dotted, e.g. `messages.0.content`; None when no field is."""
        self.code = code
        """A stable name for programs, e.g. `unknown_field`."""
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        # The outer `type` is Anthropic's; OpenAI's clients skip it.
        return {
            "type": "error",
            "error": {"message": self.message, "type": kind, "param": self.param, "code": self.code},
        }

    def encoded(self) -> bytes:
        return json.dumps(self.body(), ensure_ascii=False).encode("utf-8", "replace")


def renamed(refusal: Refusal, names: Mapping[str, str]) -> Refusal:
    """A refusal of a body that was made from another, with the names of that other one.

    >>> renamed(Refusal(400, "stop: too many.", param="stop.0"), {"stop": "stop_sequences"}).param
    'stop_sequences.0'
    """
    param, message = refusal.param, refusal.message
    known = sorted(names, key=len, reverse=True)
    if param is not None:
        found = next((name for name in known if f"{param}.".startswith(f"{name}.")), None)
        param = param if found is None else names[found] + param[len(found) :]
    # Names that are also words are replaced only where the message begins with them.
    marks = "|".join(rf"{re.escape(name)}\b" if "_" in name else rf"^{re.escape(name)}\b(?=[:.])" for name in known)
    message = re.sub(rf"(?<![.\w])(?:{marks})", lambda match: names[match[0]], message)
    return Refusal(refusal.status, message, param=param, code=refusal.code, headers=refusal.headers)


def from_input_error(error: InputError) -> Refusal:
    """A user's mistake found below the server; its `where`, such as `request.stop`, names the field."""
    return Refusal(400, str(error), param=_PARAMS.get(error.where, error.where or None), code="invalid_value")


# Where the layers below say what is wrong, in the names of the wire.
_PARAMS = {
    "budget.max_tokens": "thinking_token_budget",
    "budget.min_tokens": "min_thinking_tokens",
    "budget.num_waits": "num_waits",
    "request.budget": "thinking_token_budget",
    "request.budget.max_tokens": "thinking_token_budget",
    "request.budget.min_tokens": "min_thinking_tokens",
    "request.budget.num_waits": "num_waits",
    "request.answer_tokens": "answer_tokens",
    "request.wait": "wait",
    "request.closing_phrase": "closing_phrase",
    "request.stop": "stop",
    "request.system": "messages",
    "request.messages": "messages",
    "request.question": "messages",
    "request.prompt": "prompt",
    "request.temperature": "temperature",
    "request.top_p": "top_p",
    "request.top_k": "top_k",
}

_HINTS = {
    "extra_body": "It is an argument of the Python client, which moves what is inside to the top level before sending. "
    "Put the fields inside it at the top level of the JSON.",
    "nvext": "Use max_thinking_tokens at the top level.",
    "think": "Use reasoning_effort, or thinking_token_budget.",
    "functions": "Use tools.",
    "function_call": "Use tool_choice.",
}

_TOOL_HINTS = dict.fromkeys(("name", "description", "parameters", "strict"), "Put it into the tool's function.") | {
    "function": "Put the fields inside it into the tool itself, beside type."
}
"""The two forms of OpenAI's tools: of chats, and of responses."""


_SAME = (
    ("stop", "stop_sequences"),
    ("max_tokens", "max_output_tokens"),
    ("max_completion_tokens", "max_output_tokens"),
    ("messages", "input", "prompt"),
    ("system", "instructions"),
    ("response_format", "text", "output_config"),
)
"""Names that the surfaces have for one thing, the one to use first."""


def _other_name(name: str, known: Sequence[str]) -> str | None:
    """Advice where the field has another name on this surface."""
    others = [other for same in _SAME if name in same for other in same if other != name and other in known]
    return f"Use {others[0]}." if others else None


def unknown_fields(error: ValidationError, given: object) -> list[list[str | int]]:
    """The paths of the fields that are not known, in what the client sent."""
    return [_path(p, given) for p in error.errors(include_url=False) if p["type"] == "extra_forbidden"]


def from_validation(error: ValidationError, known: Sequence[str], given: object = None) -> Refusal:
    """The first complaint of a failed validation.

    `known` are the fields of the body, for advice on unknown ones; `given` is the body as the client sent it. Unknown
    fields come first: a misspelt field explains the complaints that follow from it.
    """
    problems = error.errors(include_url=False, include_context=False, include_input=True)
    problem = next(
        (p for p in problems if p["type"] == "extra_forbidden"),
        # Of the branches of a union, the one that got furthest is the one that was meant.
        max(problems, key=lambda p: len(p["loc"])),
    )
    # A part of a kind that is not known has fields that are not known either.
    loc = problem["loc"]
    kinds = [(*loc[:i], "type") for i in range(len(loc))]
    kind = next((k for k in kinds if any(p["loc"] == k and p["type"] in _NO_SUCH_KIND for p in problems)), None)
    if kind is not None and (meant := _of_the_kind_that_was_meant(problems, kind)) is not None:
        problem, kind = meant, None
    problem = next((p for p in problems if p["loc"] == kind), problem)
    if problem["type"] == "json_invalid":
        return Refusal(400, f"the body is not JSON: {problem['msg']}.", code="invalid_json")
    path = _path(problem, given)
    param = ".".join(map(str, path)) or None
    if problem["type"] == "extra_forbidden":
        advice = _HINTS.get(str(path[-1])) if len(path) == 1 else None
        if advice is None and len(path) == 1:
            # All of some sixty names would hide the one that was meant.
            close = nearest(str(path[-1]), known).partition("Known: ")[0]
            advice = _other_name(str(path[-1]), known) or f"{close}All fields are listed at /openapi.json."
        if advice is None and len(path) == 2 and path[0] == "chat_template_kwargs":
            advice = nearest(str(path[1]), TemplateSwitches.model_fields)
        if advice is None and len(path) == 3 and path[0] == "tools":
            advice = _TOOL_HINTS.get(str(path[-1]))
        advice = advice or "Leave it out."
        return Refusal(400, f"{param} is not a field of this request. {advice}", param=param, code="unknown_field")
    said = {_of_all_branches(problem, path, problems, given): None}
    if problem["loc"] != kind:
        alike = [p for p in problems if len(p["loc"]) == len(problem["loc"])]
        said = dict.fromkeys(p["msg"].removeprefix("Value error, ") for p in alike)
    if param in _ON_ALL_TEXT:
        said = {"it would act on thinking and answer as on one text, which this server does not do. Leave it out": None}
    return Refusal(
        400, f"{param or 'the body'}{_value(problem)}: {', or: '.join(said)}.", param=param, code="invalid_value"
    )


def _of_all_branches(
    problem: ErrorDetails, path: list[str | int], problems: Sequence[ErrorDetails], given: object
) -> str:
    """A complaint about a value that is none of a few, with those of every branch of a union."""
    if problem["type"] != "literal_error":
        return problem["msg"]
    alike = [p for p in problems if p["type"] == "literal_error" and _path(p, given) == path]
    words = dict.fromkeys(word for p in alike for word in re.findall(r"'[^']*'|(?:True|False)", p["msg"]))
    *most, last = words
    return f"Input should be {', '.join(most)} or {last}" if most else problem["msg"]


_NO_SUCH_KIND = ("literal_error", "string_pattern_mismatch", "missing")
"""Complaints about a type that say that the branch of a union is not meant."""


def _of_the_kind_that_was_meant(problems: Sequence[ErrorDetails], kind: tuple[Any, ...]) -> ErrorDetails | None:
    """The deepest complaint of the branch of a union that the type at `kind` names; None where no branch has that type.

    pydantic names such a branch by its class, or as a function around it; fields have other names.
    """
    union, branch = kind[:-2], kind[-2] if len(kind) > 1 else None
    if not _is_branch(branch):
        return None
    depth = len(union)
    inside = [p for p in problems if p["loc"][:depth] == union and _is_branch(next(iter(p["loc"][depth:]), None))]
    of_another_type = {p["loc"][:-1] for p in inside if p["loc"][depth + 1 :] == ("type",)}
    meant = [p for p in inside if p["loc"][: depth + 1] not in of_another_type]
    return max(meant, key=lambda p: len(p["loc"]), default=None)


def _is_branch(part: object) -> bool:
    return isinstance(part, str) and (part[:1].isupper() or part.startswith("function-"))


_ON_ALL_TEXT = frozenset(
    ("frequency_penalty", "presence_penalty", "repetition_penalty", "length_penalty", "logit_bias", "min_tokens")
)
"""Fields that are known at the value that changes nothing."""


def _value(problem: ErrorDetails) -> str:
    """The value at fault, as the client wrote it, where it is short."""
    given = problem["input"]
    if problem["type"] == "missing" or not isinstance(given, str | int | float | list):
        return ""
    try:
        written = json.dumps(given, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""
    return f" is {written}" if len(written) <= _LONGEST_VALUE else ""


_LONGEST_VALUE = 60
"""Characters of a value that an error repeats."""


def _path(problem: ErrorDetails, given: object) -> list[str | int]:
    """The path of the field at fault, in the client's own names.

    pydantic puts the branches of unions ("str", "list[MessagePart]") between them: what leads nowhere in `given` is
    one.
    """
    path: list[str | int] = []
    here: Any = given
    for i, part in enumerate(problem["loc"]):
        is_last = i == len(problem["loc"]) - 1
        try:
            here = here[part]
        except (LookupError, TypeError):
            if not (is_last and problem["type"] == "missing"):
                continue
        path.append(part)
    return path
