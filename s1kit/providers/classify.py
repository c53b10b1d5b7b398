"""Whether a reply with status 2xx is an answer, before it is kept: pure, total functions over a body of any shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1kit.providers.bodies import error_message
from s1kit.providers.chat import Problem
from s1kit.providers.signs import problem_of_error
from s1kit.providers.wires.finish import finish_name, finish_of
from s1kit.providers.wires.reading import count, dict_of, list_of, text_of
from s1kit.providers.wires.shapes import shape_of, usual
from s1kit.providers.wires.streams import CUT

_ERROR_FINISHES = {
    *("error", "abort", "aborted", "cancelled", "canceled", "failed", "insufficient_system_resource"),
    *("network_error", "server_error", "engine_overloaded", "user_cancel"),
    *("internal_error", "model_error", "timeout", "overloaded", "unavailable", "interrupted"),
    *("load", "unload"),  # Ollama's, of a model that was only loaded
}
"""Finish reasons that say that the server gave up: the reply is no answer."""


def problem_in(body: dict[str, Any] | None, raw: bytes) -> Problem | None:
    """The problem that a reply with status 2xx tells of, or None where it is an answer or a refusal.

    An answer has choices or output (OpenAI), candidates or a blocked prompt (Gemini), or a list of content (Anthropic).
    Whatever else a 2xx holds (an error object, HTML, nothing, half a body, an unknown shape) was produced by no model:
    it is worth asking again, and is no data.
    """
    if body is None:
        start = " ".join(raw[:120].decode("utf-8", "replace").split())
        text = f"the reply is not JSON: {start!r}" if start else "the reply is empty"
        return Problem("server", text, status=200, may_be_charged=start[:1] in ("{", "["))
    if (body.get("error") or body.get("type") == "error") and not _is_all_right(body.get("error")):
        return None if _was_whole_before(body) else _with_what_came(problem_of_error(body), body)
    return _problem_in_usual(usual(body))


def _with_what_came(problem: Problem, body: Mapping[str, Any]) -> Problem:
    """The problem of an error that ended a reply: what the model had written by then may be charged."""
    if _said_in(body):
        problem.may_be_charged, problem.partial = True, {**body, CUT: True}
    return problem


def _problem_in_usual(body: Mapping[str, Any]) -> Problem | None:
    shape = shape_of(body)
    if shape == "chat":
        return _problem_of_choice(body, body["choices"][0])
    if shape == "gemini":
        return _problem_of_candidate(body) if isinstance(body.get("candidates"), list) and body["candidates"] else None
    if shape == "message":
        return _nothing_in(body)
    if shape == "converse":
        return None
    if shape == "response":
        status, output = body["status"], body["output"]
        if finish_of(status)[0] == "length" or (finish_name(status) and finish_of(status)[0] == "stop" and output):
            return None
        text = f"the response is {status!r:.40} with {len(output)} items of output"
        return Problem("server", text, status=200, may_be_charged=isinstance(body.get("usage"), Mapping))
    if body.get("choices"):
        return Problem("server", "the reply's choice is no object", status=200)
    has_usage = isinstance(body.get("usage"), dict) or isinstance(body.get("usageMetadata"), dict)
    if error_message(body):  # an error without a field of that name
        problem = problem_of_error(body)
        problem.may_be_charged = has_usage
        return problem
    names = ", ".join(sorted(map(str, body))[:6]) or "nothing"
    text = f"the reply has no choices, output, candidates or content; it has {names}"
    return Problem("server", text, status=200, may_be_charged=has_usage)


def _was_whole_before(body: Mapping[str, Any]) -> bool:
    """Whether an error follows a reply that had ended well or reached its limit by then: OpenRouter tells of the limit
    once more, and gateways of their own bookkeeping."""
    if not _said_in(body):
        return False
    match shape_of(body):
        case "chat":
            reason = body["choices"][0].get("finish_reason")
        case "message":
            reason = body.get("stop_reason")
        case "gemini":
            reason = dict_of(list_of(body.get("candidates"))[0]).get("finishReason")
        case _:
            return False
    return bool(finish_name(reason)) and finish_of(reason)[0] in ("stop", "length")


def _said_in(body: Mapping[str, Any]) -> bool:
    """Whether a body holds anything that a model wrote, beside an error."""
    match shape_of(body):
        case "chat":
            said: Any = dict_of(body["choices"][0].get("message"))
        case "message":
            said = {"content": any(text_of(value) for block in body["content"] for value in dict_of(block).values())}
        case "gemini":
            candidates = list_of(body.get("candidates"))
            said = dict_of(dict_of(candidates[0]).get("content")) if candidates else {}
        case "converse":
            said = dict_of(body["output"]["message"])
        case _:
            return bool(body.get("output"))
    return any(value for name, value in said.items() if name != "role")


def _is_all_right(error: Any) -> bool:
    """Whether an error object says that there is none: gateways send it with every reply."""
    return isinstance(error, Mapping) and not error_message(error) and error.get("code") in (0, 200, "0", "200", "ok")


def _problem_of_choice(body: Mapping[str, Any], choice: Mapping[str, Any]) -> Problem | None:
    if error := choice.get("error") or dict_of(body.get("x_groq")).get("error"):
        return _with_what_came(problem_of_error({"error": error}), body)
    if nothing := _nothing_in(body):
        return nothing
    if finish_name(choice.get("finish_reason")) in _ERROR_FINISHES:
        reason = choice["finish_reason"]
        return Problem("server", f"the server broke off: finish_reason is {reason!r}", status=200, may_be_charged=True)
    if not isinstance(choice.get("message"), Mapping) and not isinstance(choice.get("text"), str):
        return Problem("server", "the reply has no message", status=200, may_be_charged=True)
    return None


def _problem_of_candidate(body: Mapping[str, Any]) -> Problem | None:
    candidate = body["candidates"][0]
    if not isinstance(candidate, Mapping):
        return Problem("server", "the reply's candidate is no object", status=200)
    if (reason := finish_name(candidate.get("finishReason"))) in _BROKEN_CALLS:
        text = f"the server broke off: finishReason is {reason!r}"
        return Problem("server", text, status=200, may_be_charged=True, partial=dict(body))
    return _nothing_in(body)


_BROKEN_CALLS = {
    *("malformed_function_call", "unexpected_tool_call", "malformed_response"),
    *("missing_thought_signature", "too_many_tool_calls"),
}
"""Finish reasons with which Gemini ends a reply that it could not make sense of itself."""


def _nothing_in(body: Mapping[str, Any]) -> Problem | None:
    """The problem of a reply that ended well and holds nothing, although the server says that it produced nothing.

    Servers send such under load, and Gemini where it cannot parse itself; asked again, most bring an answer. One that
    stays so is kept as it is.
    """
    reason = said = None
    usage = body.get("usage")
    if isinstance(choices := body.get("choices"), list):
        message = choices[0].get("message")
        reason, said = choices[0].get("finish_reason"), message if isinstance(message, Mapping) else True
        made = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    elif isinstance(candidates := body.get("candidates"), list):
        content = candidates[0].get("content")
        reason, said = candidates[0].get("finishReason"), content.get("parts") if isinstance(content, Mapping) else None
        counted = body.get("usageMetadata")
        made = 0 if finish_name(reason) == "other" else None
        if isinstance(counted, Mapping):  # what Gemini did not produce it does not count at all
            made = (count(counted, "candidatesTokenCount") or 0) + (count(counted, "thoughtsTokenCount") or 0)
    else:
        reason, said = body.get("stop_reason"), body.get("content")
        made = usage.get("output_tokens") if isinstance(usage, Mapping) else None
    if isinstance(said, Mapping):
        said = any(value for name, value in said.items() if name != "role")
    if said or type(made) is not int or made != 0 or finish_of(reason)[0] in ("refused", "length"):
        return None
    text = f"the reply is empty: no text and no tokens, finish reason {str(reason)[:40]!r}"
    return Problem("server", text, status=200, may_be_charged=True, partial=dict(body))
