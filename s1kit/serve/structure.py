"""Makes one grammar of `response_format`, `tool_choice` and `strict` tools.

The grammar holds for the answer; thinking stays free.
"""

from __future__ import annotations

import json
from importlib.util import find_spec

from s1kit.engines.grammar import check_grammar
from s1kit.errors import InputError
from s1kit.forcing.formats import Tokenizer
from s1kit.forcing.request import JSON_SPACES, grammar_of_schema
from s1kit.forcing.thinking_format import encode
from s1kit.serve.fields import ChatBody, NamedChoice, Tool
from s1kit.serve.refusals import Refusal
from s1kit.serve.tools import ToolStyle

_MOST_CALLS = 16
"""Calls that a model may make where one is required: without a bound, small models go on calling."""


def can_constrain() -> bool:
    """Whether the grammar library is installed."""
    return find_spec("llguidance") is not None


def answer_grammar(body: ChatBody, style: ToolStyle | None, tokenizer: Tokenizer) -> str:
    """The grammar of the answer, empty where it is free. Raises Refusal, naming the field.

    `style` is how the model writes calls, None where the request has no tools. `tokenizer` says which marks are tokens.
    """
    if style is None and body.tool_choice not in (None, "none", "auto"):
        what = "tool_choice asks for a call, and there are no tools. Give some."
        raise Refusal(400, what, param="tool_choice", code="fields_disagree")
    calls = _calls_grammar(body, style, tokenizer) if style is not None else ""
    asked = body.response_format
    if asked is None or asked.type == "text":
        return calls
    if calls:
        raise Refusal(
            400,
            "response_format and tool calls that are constrained exclude each other. Leave one out.",
            param="response_format",
            code="fields_disagree",
        )
    schema = {"type": "object"} if asked.json_schema is None else asked.json_schema.schema_ or {}
    return _checked(grammar_of_schema(schema), "response_format.json_schema.schema")


def _calls_grammar(body: ChatBody, style: ToolStyle, tokenizer: Tokenizer) -> str:
    choice, tools = body.tool_choice, body.tools or []
    is_forced = choice == "required" or isinstance(choice, NamedChoice)
    if isinstance(choice, NamedChoice):
        name = choice.function.name
        tools = [tool for tool in tools if tool.function.name == name]
        if not tools:
            raise Refusal(
                400,
                f"tool_choice names {name!r}, which is not among the tools.",
                param="tool_choice.function.name",
                code="invalid_value",
            )
    constrained = tools if is_forced else [tool for tool in tools if tool.function.strict]
    if not constrained:
        return ""
    if not style.arguments_key:
        raise Refusal(
            400,
            "tool_choice: calls cannot be constrained in the form that this model's template teaches. "
            'Leave tool_choice and strict out, or set it to "auto".',
            param="tool_choice" if is_forced else "tools",
            code="unsupported",
        )
    opening, closing = (_mark(text, tokenizer) for text in (style.open, style.close))
    rules = [f"call_{i}: {_call_rule(tool, style, closing)}" for i, tool in enumerate(constrained)]
    body_of_call = " | ".join(f"call_{i}" for i in range(len(constrained)))
    call = body_of_call if style.only_at_start else f"{opening} ({body_of_call})"
    one_only = body.parallel_tool_calls is False or isinstance(choice, NamedChoice) or style.only_at_start
    if is_forced:
        # A line break after a call is also how models begin to end, so it must not oblige them to go on.
        start = "start: call" if one_only else f'start: call ("\\n" call){{0,{_MOST_CALLS - 1}}} "\\n"?'
    elif style.only_at_start:
        start = "start: call | FREE\nFREE: /[^{](.|\\n)*/"
    elif _is_token(style.open, tokenizer):
        # The model may write what it likes, but a call that it begins must be one.
        start = "start: (TEXT call)* TEXT\nTEXT: /(.|\\n)*/"
    else:
        start = f"start: (text_before ({body_of_call}))* TEXT\ntext_before[lazy]: TEXT {opening}\nTEXT: /(.|\\n)*/"
    return _checked("%llguidance {}\n" + "\n".join([start, f"call: {call}", *rules]), "tools")


def _mark(text: str, tokenizer: Tokenizer) -> str:
    """A mark in a grammar: one that is a token is written as that token, since llguidance does not match it as text."""
    return text if _is_token(text, tokenizer) else json.dumps(text) if text else ""


def _is_token(text: str, tokenizer: Tokenizer) -> bool:
    return bool(text) and len(encode(tokenizer, text)) == 1


def _call_rule(tool: Tool, style: ToolStyle, closing: str) -> str:
    """A call after its opening mark: the name in quotes, the arguments by their schema, the closing mark."""
    line = "" if style.only_at_start else "\n"
    begin = f'{line}{{"name": {json.dumps(tool.function.name)}, "{style.arguments_key}": '
    schema = (tool.function.parameters or {"type": "object"}) | JSON_SPACES
    return f"{json.dumps(begin)} %json {json.dumps(schema)} {json.dumps('}' + line)} {closing}".rstrip()


def _checked(grammar: str, param: str) -> str:
    try:
        check_grammar(grammar)
    except InputError as error:
        raise Refusal(400, f"{param}: {error.what}.", param=param, code="invalid_value") from error
    return grammar
