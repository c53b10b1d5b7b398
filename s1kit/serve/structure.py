"""Makes one constraint of `response_format`, `tool_choice` and `strict` tools: a grammar, or an upstream's own form.

It holds for the answer; thinking stays free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from s1kit.engines.grammar import check_grammar
from s1kit.errors import InputError
from s1kit.forcing.formats import Tokenizer
from s1kit.forcing.request import JSON_SPACES, grammar_of_schema
from s1kit.forcing.thinking_format import encode
from s1kit.serve.fields import ChatBody, NamedChoice
from s1kit.serve.refusals import Refusal
from s1kit.serve.tools import ToolStyle

_MOST_CALLS = 16
"""Calls that a model may make where one is required: without a bound, small models go on calling."""


@dataclass(frozen=True, slots=True)
class ConstrainedCalls:
    """The calls that an answer may or must make."""

    style: ToolStyle
    tools: tuple[tuple[str, Mapping[str, Any]], ...]
    """Name and schema of the arguments of each tool that may be called; of one that is not strict, any object."""
    is_forced: bool
    """Whether the answer must be calls, and nothing else."""
    one_only: bool

    def beginning(self, name: str) -> str:
        """What follows the opening mark, up to the arguments."""
        line = "" if self.style.only_at_start else "\n"
        return f'{line}{{"name": {json.dumps(name)}, "{self.style.arguments_key}": '

    @property
    def ending(self) -> str:
        """What follows the arguments, up to the closing mark."""
        return "}" if self.style.only_at_start else "}\n"


def can_constrain() -> bool:
    """Whether the grammar library is installed."""
    return find_spec("llguidance") is not None


def constrained_calls(body: ChatBody, style: ToolStyle | None) -> ConstrainedCalls | None:
    """The calls that must follow a form; None where none must. Raises Refusal, naming the field.

    `style` is how the model writes calls, None where the request has no tools.
    """
    choice = body.tool_choice
    is_named = isinstance(choice, NamedChoice)
    is_forced = choice == "required" or is_named
    if style is None:
        if is_forced:
            what = "tool_choice asks for a call, and there are no tools. Give some."
            raise Refusal(400, what, param="tool_choice", code="fields_disagree")
        return None
    tools = body.tools or []
    if isinstance(choice, NamedChoice):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
        if not tools:
            raise Refusal(
                400,
                f"tool_choice names {choice.function.name!r}, which is not among the tools.",
                param="tool_choice.function.name",
                code="invalid_value",
            )
    if not is_forced and not any(tool.function.strict for tool in tools):
        return None
    if not style.arguments_key:
        raise Refusal(
            400,
            "tool_choice: calls cannot be constrained in the form that this model's template teaches. "
            'Leave tool_choice and strict out, or set it to "auto".',
            param="tool_choice" if is_forced else "tools",
            code="unsupported",
        )
    if body.response_format is not None and body.response_format.type != "text":
        raise Refusal(
            400,
            "response_format and tool calls that are constrained exclude each other. Leave one out.",
            param="response_format",
            code="fields_disagree",
        )
    # The arguments of a call that must be made follow its schema, so that what is required can be used.
    schemas = tuple(
        (t.function.name, (t.function.parameters if is_forced or t.function.strict else None) or {"type": "object"})
        for t in tools
    )
    one_only = body.parallel_tool_calls is False or is_named or style.only_at_start
    return ConstrainedCalls(style, schemas, is_forced, one_only)


def answer_grammar(body: ChatBody, calls: ConstrainedCalls | None, tokenizer: Tokenizer) -> str:
    """The grammar of the answer, empty where it is free. Raises Refusal, naming the field.

    `tokenizer` says which marks are tokens.
    """
    if calls is not None:
        return _checked(_calls_grammar(calls, tokenizer), "tools")
    asked = body.response_format
    if asked is None or asked.type == "text":
        return ""
    schema = {"type": "object"} if asked.json_schema is None else asked.json_schema.schema_ or {}
    return _checked(grammar_of_schema(schema), "response_format.json_schema.schema")


def structural_tag(calls: ConstrainedCalls) -> dict[str, Any]:
    """The same calls as a `response_format` of vLLM: xgrammar's structural tag."""
    style = calls.style
    # Where a call is the whole answer it needs no mark, and the mark may be a token that no text stands for.
    opening, closing = ("", "") if style.only_at_start else (style.open, style.close)
    tags = [
        {
            "type": "tag",
            "begin": opening + calls.beginning(name),
            "content": {"type": "json_schema", "json_schema": dict(schema)},
            "end": calls.ending + closing,
        }
        for name, schema in calls.tools
    ]
    form: dict[str, Any] = {"tags": tags, "at_least_one": calls.is_forced, "stop_after_first": calls.one_only}
    if calls.is_forced:
        form |= {"type": "tags_with_separator", "separator": "\n"}
    else:
        form |= {"type": "triggered_tags", "triggers": [opening or "{"], "stop_after_first": False}
    return {"type": "structural_tag", "format": form}


def _calls_grammar(calls: ConstrainedCalls, tokenizer: Tokenizer) -> str:
    style = calls.style
    opening, closing = (_mark(text, tokenizer) for text in (style.open, style.close))
    rules = [
        f"call_{i}: {json.dumps(calls.beginning(name))} %json {json.dumps(dict(schema) | JSON_SPACES)} "
        f"{json.dumps(calls.ending)} {closing}".rstrip()
        for i, (name, schema) in enumerate(calls.tools)
    ]
    body_of_call = " | ".join(f"call_{i}" for i in range(len(rules)))
    call = body_of_call if style.only_at_start else f"{opening} ({body_of_call})"
    if calls.is_forced:
        # A line break after a call is also how models begin to end, so it must not oblige them to go on.
        start = "start: call" if calls.one_only else f'start: call ("\\n" call){{0,{_MOST_CALLS - 1}}} "\\n"?'
    elif style.only_at_start:
        start = "start: call | FREE\nFREE: /[^{](.|\\n)*/"
    elif _is_token(style.open, tokenizer):
        # The model may write what it likes, but a call that it begins must be one.
        start = "start: (TEXT call)* TEXT\nTEXT: /(.|\\n)*/"
    else:
        start = f"start: (text_before ({body_of_call}))* TEXT\ntext_before[lazy]: TEXT {opening}\nTEXT: /(.|\\n)*/"
    return "%llguidance {}\n" + "\n".join([start, f"call: {call}", *rules])


def _mark(text: str, tokenizer: Tokenizer) -> str:
    """A mark in a grammar: one that is a token is written as that token, since llguidance does not match it as text."""
    return text if _is_token(text, tokenizer) else json.dumps(text) if text else ""


def _is_token(text: str, tokenizer: Tokenizer) -> bool:
    return bool(text) and len(encode(tokenizer, text)) == 1


def _checked(grammar: str, param: str) -> str:
    try:
        check_grammar(grammar)
    except InputError as error:
        raise Refusal(400, f"{param}: {error.what}.", param=param, code="invalid_value") from error
    return grammar
