"""How an answer is held to a form and read: tools, the form in which the model writes calls, structured output.

`response_format`, `tool_choice` and `strict` tools make one constraint: a grammar, or an upstream's own form. It holds
for the answer; thinking stays free.
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
from s1kit.forcing.token_format import TokenFormat
from s1kit.serve.chat import ChatBody, NamedChoice
from s1kit.serve.decoding import Backend
from s1kit.serve.refusals import Refusal
from s1kit.serve.tool_calls import ToolStyle
from s1kit.serve.tool_detection import find_style, tokens_for_calls

_MOST_CALLS = 16
"""Calls that a model may make where one is required: without a bound, small models go on calling."""


@dataclass(frozen=True, slots=True)
class ConstrainedCalls:
    """The calls that an answer may or must make."""

    style: ToolStyle
    tools: tuple[tuple[str, Mapping[str, Any]], ...]
    """Name and schema of the arguments of each tool that may be called; of one that is not strict, any object. Empty:
    what follows the opening mark is left to the model, whose form of calls no grammar here knows."""
    is_forced: bool
    """Whether the answer must be calls, and nothing else."""
    one_only: bool
    form: Mapping[str, Any] | None = None
    """Schema of the answer where it makes no calls; None: it is free text, with calls in it."""

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
    tools = body.functions
    if isinstance(choice, NamedChoice):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
        if not tools:
            raise Refusal(
                400,
                f"tool_choice names {choice.function.name!r}, which is not among the tools.",
                param="tool_choice.function.name",
                code="invalid_value",
            )
    # The form is that of an answer in words; where a call must be made there is none.
    form = None if is_forced else _form_of(body)
    if not is_forced and form is None and not any(tool.function.strict for tool in tools):
        return None
    one_only = body.parallel_tool_calls is False or is_named or style.only_at_start
    if not style.arguments_key:
        if form is not None and not style.shared_end and not any(tool.function.strict for tool in tools):
            return ConstrainedCalls(style, (), is_forced=False, one_only=True, form=form)
        if form is not None:
            what = (
                "response_format: beside tools, an answer is a call or has this form, and calls cannot be constrained "
                'in the form that this model\'s template teaches. Set tool_choice to "none", or leave one of them out.'
            )
            raise Refusal(400, what, param="response_format", code="unsupported")
        raise Refusal(
            400,
            "tool_choice: calls cannot be constrained in the form that this model's template teaches. "
            'Leave tool_choice and strict out, or set it to "auto".',
            param="tool_choice" if is_forced else "tools",
            code="unsupported",
        )
    # The arguments of a call that must be made follow its schema, so that what is required can be used.
    schemas = tuple(
        (t.function.name, (t.function.parameters if is_forced or t.function.strict else None) or {"type": "object"})
        for t in tools
    )
    return ConstrainedCalls(style, schemas, is_forced, one_only, form)


def _form_of(body: ChatBody) -> Mapping[str, Any] | None:
    """The schema that an answer in words must follow; None where it is free."""
    asked = body.response_format
    if asked is None or asked.type == "text":
        return None
    return {"type": "object"} if asked.json_schema is None else asked.json_schema.schema_ or {}


def answer_grammar(body: ChatBody, calls: ConstrainedCalls | None, tokenizer: Tokenizer) -> str:
    """The grammar of the answer, empty where it is free. Raises Refusal, naming the field.

    `tokenizer` says which marks are tokens.
    """
    form = _form_of(body)
    if form is not None and (calls is None or calls.form is not None):
        grammar = _checked(grammar_of_schema(form), "response_format.json_schema.schema")
        if calls is None:
            return grammar
    return "" if calls is None else _checked(_calls_grammar(calls, tokenizer), "tools")


def structural_tag(calls: ConstrainedCalls) -> dict[str, Any]:
    """The constrained calls as a `response_format` of vLLM: xgrammar's structural tag."""
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
    are_alone = calls.is_forced or calls.form is not None
    form: dict[str, Any] = {"tags": tags, "at_least_one": are_alone, "stop_after_first": calls.one_only}
    if are_alone:
        form |= {"type": "tags_with_separator", "separator": "\n"}
    else:
        form |= {"type": "triggered_tags", "triggers": [opening or "{"], "stop_after_first": False}
    if not calls.tools:
        form = {"type": "sequence", "elements": [{"type": "const_string", "value": opening}, {"type": "any_text"}]}
    if calls.form is not None:
        answer = {"type": "json_schema", "json_schema": dict(calls.form)}
        form = {"type": "or", "elements": [form, answer]}
    return {"type": "structural_tag", "format": form}


def _call_or_form(calls: ConstrainedCalls, form: Mapping[str, Any]) -> dict[str, Any]:
    """One schema of an answer that is a call or has a form, where both are JSON. Raises Refusal.

    As two rules of one grammar they could not be told apart: llguidance does not go back to where a call's beginning
    and the form's were still alike.
    """
    shared: dict[str, dict[str, Any]] = {}
    for schema in (form, *(schema for _, schema in calls.tools)):
        for place in ("$defs", "definitions"):
            for name, value in dict(schema.get(place) or {}).items():
                if shared.setdefault(place, {}).setdefault(name, value) != value:
                    what = f"tools and response_format define {name!r} in different ways. Rename one."
                    raise Refusal(400, what, param="tools", code="unsupported")
    key = calls.style.arguments_key
    named = [
        {
            "type": "object",
            "properties": {"name": {"const": name}, key: dict(schema)},
            "required": ["name", key],
            "additionalProperties": False,
        }
        for name, schema in calls.tools
    ]
    return {"anyOf": [*named, dict(form)], **shared}


def _calls_grammar(calls: ConstrainedCalls, tokenizer: Tokenizer) -> str:
    style = calls.style
    if style.only_at_start and calls.form is not None:
        return grammar_of_schema(_call_or_form(calls, calls.form))
    opening, closing = (_mark(text, tokenizer) for text in (style.open, style.close))
    rules = [
        f"call_{i}: {json.dumps(calls.beginning(name))} %json {json.dumps(dict(schema) | JSON_SPACES)} "
        f"{json.dumps(calls.ending)} {closing}".rstrip()
        for i, (name, schema) in enumerate(calls.tools)
    ]
    body_of_call = " | ".join(f"call_{i}" for i in range(len(rules)))
    call = body_of_call if style.only_at_start else f"{opening} ({body_of_call})"
    if not rules:
        call, rules = f"{opening} rest", ["rest: any_token*", "any_token: <[*]>"]
    if calls.is_forced or calls.form is not None:
        # A line break after a call is also how models begin to end, so it must not oblige them to go on.
        start = "start: call" if calls.one_only else f'start: call ("\\n" call){{0,{_MOST_CALLS - 1}}} "\\n"?'
        if calls.form is not None:
            start += f" | answer\nanswer: %json {json.dumps(dict(calls.form) | JSON_SPACES)}"
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
    style = find_style(backend.tokens) if body.functions else None
    if body.functions and style is None:
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
        if calls.form is not None:
            what = (
                "response_format: beside tools, an answer is a call or has this form, which the engine behind "
                f'{backend.model} cannot be told. Set tool_choice to "none", or leave one of them out.'
            )
            raise Refusal(400, what, param="response_format", code="unsupported")
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
