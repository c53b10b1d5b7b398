"""How an answer is constrained and read: the tools, the form in which the model writes calls, structured output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.forcing.token_format import TokenFormat
from s1kit.serve.decoding import Backend
from s1kit.serve.fields import ChatBody
from s1kit.serve.refusals import Refusal
from s1kit.serve.structure import answer_grammar, constrained_calls, structural_tag
from s1kit.serve.tool_detection import find_style, tokens_for_calls
from s1kit.serve.tools import ToolStyle


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How the answer of one request is begun, held to a form, and read."""

    tokens: TokenFormat
    """The thinking format; where calls are possible its end leaves open whether an answer or a call follows."""
    style: ToolStyle | None = None
    """How calls are written; None where the request has no tools."""
    opening: str = ""
    """What begins an answer after the end of thinking, where the model itself writes it."""
    response_format: Mapping[str, Any] | None = None
    """OpenAI's object, for an upstream that takes it."""
    grammar: str = ""
    """For an engine of this process; empty: the answer is free."""

    def closing_phrase(self, stated: str | None) -> str:
        """What is put in after thinking that the budget ended. `stated` is the request's own."""
        if stated is not None:
            return self.opening + stated if stated else ""
        # An answer that is held to a form is nothing but that, and a model with tools may rather call one.
        is_held = bool(self.grammar) or self.response_format is not None or self.style is not None
        return "" if is_held else self.tokens.format.closing_phrase


def read_answer_form(body: ChatBody, backend: Backend) -> AnswerForm:
    """The form of a chat request's answer. Raises Refusal for what this model or its engine does not offer."""
    style = find_style(backend.tokens) if body.tools else None
    if body.tools and style is None:
        raise Refusal(
            400,
            f"tools: the chat template of {backend.model} does not show tools to the model, or teaches a form of calls "
            "that is not known here. Leave tools out.",
            param="tools",
            code="unsupported",
        )
    if not body.wants_tools:
        style = None
    response_format, grammar = held_to(body, backend, style)
    if style is None:
        return AnswerForm(backend.tokens, None, "", response_format, grammar)
    tokens, opening = tokens_for_calls(backend.tokens, style)
    return AnswerForm(tokens, style, opening, response_format, grammar)


def held_to(body: ChatBody, backend: Backend, style: ToolStyle | None) -> tuple[Mapping[str, Any] | None, str]:
    """What holds the answer to a form: OpenAI's object for an upstream, or a grammar for an engine of this process."""
    response_format = _response_format(body, backend)
    calls = constrained_calls(body, style)
    if "grammar" in backend.features:
        return None, answer_grammar(body, calls, backend.tokens.tokenizer)
    if calls is None:
        return response_format, ""
    if "structural_tag" not in backend.features:
        raise unsupported("tool_choice" if calls.is_forced else "tools.function.strict", backend)
    return structural_tag(calls), ""


def _response_format(body: ChatBody, backend: Backend) -> Mapping[str, Any] | None:
    asked = body.response_format
    if asked is None or asked.type == "text":
        return None
    if (asked.type == "json_schema") != (asked.json_schema is not None):
        raise Refusal(
            400,
            "response_format: json_schema belongs to type json_schema, and that type needs it.",
            param="response_format.json_schema",
            code="fields_disagree",
        )
    if not {"response_format", "grammar"} & backend.features:
        raise unsupported("response_format", backend)
    return asked.model_dump(by_alias=True, exclude_none=True)


_BY_GRAMMAR = ("response_format", "tool_choice", "tools.function.strict")


def unsupported(field: str, backend: Backend) -> Refusal:
    """A refusal of a field that the engine cannot honour."""
    why = f"the engine behind {backend.model} does not offer it. Leave it out"
    if "grammar_uninstalled" in backend.features and field in _BY_GRAMMAR:
        why = "it needs llguidance, which the server has not installed: pip install 's1kit[grammar]'"
    return Refusal(
        400,
        f"{field}: {why}.",
        param=field,
        code="unsupported",
    )
