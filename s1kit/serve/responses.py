"""The body of OpenAI's `/v1/responses`, and the same request as a chat body. Nothing is stored."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from s1kit.serve.fields import (
    AsWord,
    Effort,
    JsonSchema,
    MessagePart,
    ReasoningSwitch,
    ThinkingFields,
    Total,
    Wire,
)
from s1kit.serve.refusals import Refusal
from s1kit.serve.responses_reply import ResponseShape


class Item(Wire):
    """One item of the input: a message, or an echo of an earlier reasoning item, call or call's output."""

    type: Literal[
        "message",
        "reasoning",
        "function_call",
        "function_call_output",
        "custom_tool_call",
        "custom_tool_call_output",
        "item_reference",
    ] = "message"
    id: str | None = None
    status: str | None = None
    phase: str | None = None
    role: Literal["system", "developer", "user", "assistant"] = "user"
    content: str | list[MessagePart] = ""
    summary: list[dict[str, Any]] | None = None
    encrypted_content: str | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = "{}"
    input: str = ""
    """What a custom tool was given."""
    output: str | list[MessagePart] = ""
    namespace: str | None = None
    metadata: dict[str, Any] | None = None
    provider_data: dict[str, Any] | None = None


class OpenaiItem(BaseModel):
    """An echo of what OpenAI's own servers did between two items; it holds nothing that a model could read."""

    type: Annotated[str, Field(pattern="^(web_search_call|file_search_call|mcp_list_tools)$")]


class ResponseTool(Wire):
    type: Literal["function"]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class CustomTool(Wire):
    """A tool that takes one text. The model is shown a function with the parameter `input`."""

    type: Literal["custom"]
    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: str | None = None
    format: dict[str, Any] | None = None
    """What the text should look like; told to the model, and not enforced."""

    def as_function(self) -> dict[str, Any]:
        """The same as a function, which models know how to call."""
        form = json.dumps(self.format) if self.format and self.format.get("type") != "text" else ""
        described = "\n".join(filter(None, (self.description, form and f"The input has this form: {form}")))
        parameters = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
        return {"name": self.name, "description": described, "parameters": parameters}


class OpenaiTool(BaseModel):
    """A tool that OpenAI's own servers run; the model here is not told of it."""

    type: Annotated[
        str,
        Field(pattern="^(web_search|file_search|code_interpreter|image_generation|mcp|tool_search|namespace)"),
    ]


class ResponseChoice(Wire):
    """The one tool that must be called."""

    type: Literal["function", "custom"]
    name: str


class ResponseReasoning(ReasoningSwitch):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """The older name of `summary`."""
    context: str | None = None
    """Which earlier thinking OpenAI's models see again; here the chat template decides."""

    @property
    def wants_summary(self) -> bool:
        return (self.summary or self.generate_summary or "none") != "none"


class TextFormat(JsonSchema):
    type: Literal["text", "json_object", "json_schema"] = "text"


class TextOptions(Wire):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesBody(ThinkingFields):
    """The body of `POST /v1/responses`."""

    model: str | None = None
    input: str | Annotated[list[Item | OpenaiItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Total | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int | None = None
    reasoning: ResponseReasoning | None = None
    text: TextOptions | None = None
    tools: list[ResponseTool | CustomTool | OpenaiTool] | None = None
    tool_choice: Annotated[Literal["none", "auto", "required"] | ResponseChoice | None, AsWord] = None
    parallel_tool_calls: bool | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None
    # These cannot change what is generated.
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: str | None = None
    prompt_cache_options: dict[str, Any] | None = None
    safety_identifier: str | None = None
    client_metadata: dict[str, Any] | None = None
    stream_options: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    """Bounds calls of tools that OpenAI's servers run."""
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    include: list[str] | None = None
    truncation: Literal["disabled", "auto"] | None = None
    """`auto` lets OpenAI's servers drop turns of a prompt that is too long; here such a prompt is refused."""
    context_management: list[dict[str, Any]] | None = None
    background: Literal[False] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None

    @property
    def chat_names(self) -> dict[str, str]:
        """Names of a chat body to the names here, where they differ."""
        return {
            "max_completion_tokens": "max_output_tokens",
            "max_tokens": "max_output_tokens",
            "messages": "input",
            "response_format.json_schema": "text.format",
            "response_format": "text.format",
            "tools.function": "tools",
            "tool_choice.function": "tool_choice",
        }

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [f"tools.{i} ({t.type})" for i, t in enumerate(self.tools or []) if isinstance(t, OpenaiTool)]
        if not isinstance(self.input, str):
            found += [f"input.{i} ({item.type})" for i, item in enumerate(self.input) if isinstance(item, OpenaiItem)]
        found += ["text.verbosity"] if self.text and self.text.verbosity in ("low", "high") else []
        found += ["context_management"] if self.context_management else []
        found += ["truncation"] if self.truncation == "auto" else []
        return (*found, *(f"include ({name})" for name in self.include or [] if not name.startswith("reasoning.")))

    @property
    def shape(self) -> ResponseShape:
        """What the reply repeats of the request, and how it shows thinking and calls."""
        kept = {"instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning", "temperature"}
        kept |= {"text", "tool_choice", "tools", "top_p", "truncation", "user"}
        echo = self.model_dump(include=kept, exclude_none=True, by_alias=True)
        custom = frozenset(tool.name for tool in self.tools or [] if isinstance(tool, CustomTool))
        return ResponseShape(echo, self.reasoning is not None and self.reasoning.wants_summary, custom)

    def as_chat(self) -> dict[str, Any]:
        """The same request as a chat body. Raises Refusal for what would need a store of replies."""
        for name in ("previous_response_id", "conversation"):
            if getattr(self, name) is not None:
                what = f"{name}: replies are not stored here. Send the earlier turns in input."
                raise Refusal(400, what, param=name, code="unsupported")
        kept = {*ThinkingFields.model_fields, "model", "stream", "temperature", "top_p", "seed", "user"}
        kept |= {"tool_choice", "parallel_tool_calls"}
        chat = self.model_dump(include=kept, exclude_none=True)
        if isinstance(self.tool_choice, ResponseChoice):
            chat["tool_choice"] = {"type": "function", "function": {"name": self.tool_choice.name}}
        for name in ("summary", "generate_summary", "context"):
            chat.get("reasoning", {}).pop(name, None)
        functions = [
            tool.as_function() if isinstance(tool, CustomTool) else tool.model_dump(exclude={"type"}, exclude_none=True)
            for tool in self.tools or []
            if not isinstance(tool, OpenaiTool)
        ]
        if functions:
            chat["tools"] = [{"type": "function", "function": function} for function in functions]
        if self.text and self.text.format and self.text.format.type != "text":
            form = self.text.format.model_dump(by_alias=True, exclude_none=True)
            kind = form.pop("type")
            chat["response_format"] = {"type": kind} | ({"json_schema": form} if kind == "json_schema" else {})
        chat["messages"] = self._turns()
        return chat | {"max_completion_tokens": self.max_output_tokens}

    def _turns(self) -> list[dict[str, Any]]:
        turns: list[dict[str, Any]] = []
        if self.instructions:
            turns.append({"role": "system", "content": self.instructions})
        thinking = ""
        items = [Item(content=self.input)] if isinstance(self.input, str) else self.input
        for number, item in enumerate(items):
            if isinstance(item, OpenaiItem):
                continue
            if item.type == "item_reference":
                what = (
                    f"input.{number} refers to a stored item, and nothing is stored here. Send the item itself; "
                    "clients do so where store is false."
                )
                raise Refusal(400, what, param=f"input.{number}", code="unsupported")
            if item.type == "reasoning":
                thinking = _text(item.content) or "".join(str(part.get("text", "")) for part in item.summary or [])
            elif item.type in ("function_call_output", "custom_tool_call_output"):
                turns.append({"role": "tool", "tool_call_id": item.call_id, "content": _text(item.output)})
            elif item.type in ("function_call", "custom_tool_call"):
                is_custom = item.type == "custom_tool_call"
                arguments = json.dumps({"input": item.input}) if is_custom else item.arguments
                call = {"id": item.call_id, "function": {"name": item.name, "arguments": arguments}}
                if thinking or not turns or turns[-1]["role"] != "assistant":
                    turns.append(_said("", thinking))
                    thinking = ""
                # Text and the calls after it are one turn, as they were one reply.
                turns[-1].setdefault("tool_calls", []).append(call)
            elif item.role == "assistant":
                turns.append(_said(_text(item.content), thinking))
                thinking = ""
            else:
                turns.append({"role": item.role, "content": _text(item.content)})
        if not turns:
            turns.append({"role": "user", "content": ""})
        return turns


def _said(text: str, thinking: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | ({"reasoning_content": thinking} if thinking else {})


def _text(content: str | list[MessagePart]) -> str:
    return content if isinstance(content, str) else "".join(part.said or "" for part in content)
