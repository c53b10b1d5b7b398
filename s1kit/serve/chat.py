"""The bodies of `/v1/chat/completions` and `/v1/completions`, with the turns, tools and output forms of a chat."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from s1kit.serve.fields import MOST_CHOICES, Echo, SamplingFields, ThinkingFields, TokenId, Total, Wire


def _text_of_pieces(given: Any) -> Any:
    """The text of a list of text parts; anything else as it is."""
    if isinstance(given, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in given):
        return "".join(piece["text"] for piece in given)
    return given


class MessagePart(Echo):
    """A part of a message: text, or thinking that a client sends back with the turn it belongs to."""

    type: Literal["text", "input_text", "output_text", "refusal", "thinking", "reasoning", "reasoning_text"]
    text: str | None = None
    refusal: str | None = None
    thinking: Annotated[str | None, BeforeValidator(_text_of_pieces)] = None
    """Text, or Mistral's list of text parts."""
    signature: str | None = None
    closed: bool | None = None
    """Mistral's; earlier thinking is closed."""
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None

    @model_validator(mode="after")
    def _has_text(self) -> Self:
        if self.said is None and (self.thinking is None or "text" in self.type):
            raise ValueError("the text is missing; give a string")
        return self

    @property
    def said(self) -> str | None:
        """The text of the part, None where it has only thinking."""
        return self.refusal if self.type == "refusal" else self.text


class FunctionCall(Wire):
    name: str
    arguments: Annotated[str, BeforeValidator(lambda given: json.dumps(given) if isinstance(given, dict) else given)]
    """JSON text; an object is written as such."""


class ToolCall(Echo):
    index: int | None = None
    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


_THINKING_PARTS = ("thinking", "reasoning", "reasoning_text")


class Message(Echo):
    """One turn. What a client echoes from an earlier reply and is not text, thinking or a call is left out."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    type: Literal["message", "text"] | None = None
    """What lm-evaluation-harness and LangGraph call every turn."""
    content: str | list[MessagePart] | None = None
    reasoning: str | None = None
    """An assistant's earlier thinking; whether it is shown to the model again is up to the chat template."""
    reasoning_content: str | None = None
    reasoning_text: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    annotations: list[Any] | None = None
    """Citations of an earlier reply, whose text stands in `content`."""
    reasoning_details: list[dict[str, Any]] | None = None
    """An echo of thinking, as `thinking_blocks`; `reasoning` is what reaches the chat template."""
    thinking_blocks: list[dict[str, Any]] | None = None
    reasoning_opaque: str | None = None
    images: Annotated[list[Any], Field(max_length=0)] | None = None
    prefix: bool | None = None
    """DeepSeek's and Mistral's way to say `continue_final_message`, on the last message."""
    partial: bool | None = None
    """Kimi's."""
    id: str | None = None
    refusal: str | None = None
    """An earlier reply's refusal, which is its text where it has no other."""

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if self.content is None and self.role not in ("assistant", "tool"):
            raise ValueError("content is missing; give a string")
        if self.tool_calls and self.role != "assistant":
            raise ValueError(f"tool_calls belong to an assistant, not to role {self.role}")
        if (self.tool_call_id is None) == (self.role == "tool"):
            raise ValueError("tool_call_id belongs to a message of role tool, and every such message has one")
        return self

    @property
    def thinking(self) -> str | None:
        """Earlier thinking, by whichever of its names, or from the parts of the content."""
        parts = self.content if isinstance(self.content, list) else []
        in_parts = "".join(part.thinking or part.text or "" for part in parts if part.type in _THINKING_PARTS)
        return self.reasoning_content or self.reasoning or self.reasoning_text or in_parts or None

    @property
    def is_begun(self) -> bool:
        """Whether it says of itself that it is the beginning of the answer."""
        return bool(self.prefix or self.partial)

    @property
    def text(self) -> str:
        if isinstance(self.content, list):
            return "".join(part.said or "" for part in self.content if part.type not in _THINKING_PARTS)
        return self.content or self.refusal or ""


class FunctionSpec(Wire):
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    cache_control: dict[str, Any] | None = Field(default=None, exclude=True)
    strict: bool | None = None
    """True: a call's arguments follow `parameters` exactly, where the engine can be held to a grammar."""


class Tool(Wire):
    type: Literal["function"] = "function"
    """Mistral's clients leave it out."""
    function: FunctionSpec
    cache_control: dict[str, Any] | None = Field(default=None, exclude=True)
    eager_input_streaming: bool | None = Field(default=None, exclude=True)


class RoutedTool(BaseModel):
    """A tool that OpenRouter or another service runs; the model here is not told of it."""

    type: Annotated[str, Field(pattern="^(openrouter:|web_search|(browser_search|code_interpreter)$)")]


class ChosenFunction(Wire):
    name: str


class NamedChoice(Wire):
    """The one tool that must be called."""

    type: Literal["function"] = "function"
    function: ChosenFunction


class AllowedTools(Wire):
    mode: Literal["auto", "required"]
    tools: list[NamedChoice]


class AllowedChoice(Wire):
    """The tools that may be called; the model is shown no others."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedTools


def _as_word(given: Any) -> Any:
    is_word = isinstance(given, dict) and set(given) == {"type"} and given["type"] in ("none", "auto", "required")
    return given["type"] if is_word else "required" if given == "any" else given


AsWord = BeforeValidator(_as_word)
"""Reads `{"type": "auto"}`, another way to write `"auto"`, and `"any"`, Mistral's word for `"required"`."""


class JsonSchema(Wire):
    name: str = "output"
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    description: str | None = None
    strict: bool | None = None


class ResponseFormat(Wire):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class ChatBody(SamplingFields, ThinkingFields):
    """The body of `POST /v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    continue_final_message: bool | None = None
    """True: the last message is the beginning of the answer, and the reply goes on from there, without thinking."""
    add_generation_prompt: bool | None = None
    """False only together with `continue_final_message`."""
    max_completion_tokens: Total | None = None
    """The same as `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: list[Tool | RoutedTool] | None = None
    tool_choice: Annotated[Literal["none", "auto", "required"] | NamedChoice | AllowedChoice | None, AsWord] = None
    """`required` and a name need an engine that can be held to a grammar."""
    response_format: ResponseFormat | None = None
    parallel_tool_calls: bool | None = None
    """False: the reply ends with the first call."""
    modalities: Annotated[list[Literal["text"]], Field(min_length=1, max_length=1)] | None = None
    prediction: dict[str, Any] | None = None
    """A guess at the answer, to be faster where it is right; it is not used."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """A hint to OpenAI's models; the reply says that it was left out."""
    # What only the makers' own servers and routers do; the reply says that it was left out.
    moderation: dict[str, Any] | None = None
    web_search_options: dict[str, Any] | None = None
    search_parameters: dict[str, Any] | None = None
    search_settings: dict[str, Any] | None = None
    provider: dict[str, Any] | None = None
    models: list[Any] | None = None
    route: str | None = None
    transforms: list[Any] | None = None
    plugins: list[Any] | None = None
    usage: dict[str, Any] | None = None

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [f"tools.{i} ({t.type})" for i, t in enumerate(self.tools or []) if isinstance(t, RoutedTool)]
        found += [name for name in _OF_OTHERS if getattr(self, name)]
        return ("verbosity", *found) if self.verbosity in ("low", "high") else tuple(found)

    @property
    def functions(self) -> list[Tool]:
        """The tools that the client runs."""
        return [tool for tool in self.tools or [] if isinstance(tool, Tool)]

    @property
    def wants_tools(self) -> bool:
        """Whether the model may call a tool."""
        return bool(self.functions) and self.tool_choice != "none"


_OF_OTHERS = (
    *("moderation", "web_search_options", "search_parameters", "search_settings"),
    *("provider", "models", "route", "transforms", "plugins", "usage"),
)
"""Fields of a chat for what only the servers of OpenAI, xAI and Groq and OpenRouter do."""


class CompletionBody(SamplingFields, ThinkingFields):
    """The body of `POST /v1/completions`. The prompt is used as it is: no chat template.

    Thinking happens when the prompt ends inside an open thinking block or a thinking field is given.
    """

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=MOST_CHOICES)]
        | Annotated[list[TokenId], Field(min_length=1)]
        | Annotated[list[Annotated[list[TokenId], Field(min_length=1)]], Field(min_length=1, max_length=MOST_CHOICES)]
    )
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    best_of: Annotated[int, Field(ge=1, le=1)] | None = None
    suffix: Literal[""] | None = None
