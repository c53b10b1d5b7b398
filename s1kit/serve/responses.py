"""The body of OpenAI's `/v1/responses`, and the same request as a chat body. Nothing is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from s1kit.serve.chat import AsWord
from s1kit.serve.fields import Effort, OpenaiFields, ReasoningSwitch, ThinkingFields, Total, Wire
from s1kit.serve.refusals import Refusal
from s1kit.serve.responses_items import Item, OpenaiItem, TextFormat, chat_turns, was_hosted
from s1kit.serve.responses_reply import ResponseShape
from s1kit.serve.responses_tools import AnyTool, ToolTable, functions, hosted, shown_name, table


class ResponseChoice(Wire):
    """The one tool that must be called."""

    type: Literal["function", "custom"]
    name: str
    namespace: str | None = None


class AllowedResponseTool(BaseModel):
    """One of the tools that may be called; those that OpenAI's servers run are none here."""

    type: str
    name: str | None = None
    namespace: str | None = None


class AllowedResponseTools(Wire):
    """The tools that may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedResponseTool], Field(min_length=1)]


class ResponseReasoning(ReasoningSwitch):
    effort: Effort | None = None
    summary: Literal["auto", "concise", "detailed", "none"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """The older name of `summary`."""
    context: str | None = None
    """Which earlier thinking OpenAI's models see again; here the chat template decides."""
    mode: Literal["standard"] | None = None

    @property
    def wants_summary(self) -> bool:
        return (self.summary or self.generate_summary or "none") != "none"


class TextOptions(Wire):
    format: TextFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ResponsesBody(OpenaiFields, ThinkingFields):
    """The body of `POST /v1/responses`."""

    input: str | Annotated[list[Item | OpenaiItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Total | None = None
    seed: int | None = None
    reasoning: ResponseReasoning | None = None
    text: TextOptions | None = None
    tools: list[AnyTool] | None = None
    tool_choice: Annotated[
        Literal["none", "auto", "required"] | ResponseChoice | AllowedResponseTools | None, AsWord
    ] = None
    parallel_tool_calls: bool | None = None
    # These cannot change what is generated.
    stream_options: dict[str, Any] | None = None
    max_tool_calls: int | None = None
    """Bounds calls of tools that OpenAI's servers run."""
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    include: list[str] | None = None
    truncation: Literal["disabled", "auto"] | None = None
    """`auto` lets OpenAI's servers drop turns of a prompt that is too long; here such a prompt is refused."""
    context_management: list[dict[str, Any]] | None = None
    # What only OpenAI's servers do; the reply says that it was left out.
    moderation: dict[str, Any] | None = None
    access_programs: dict[str, Any] | None = None
    background_options: dict[str, Any] | None = None
    image: dict[str, Any] | None = None
    # OpenRouter's.
    provider: dict[str, Any] | None = None
    models: list[Any] | None = None
    plugins: list[Any] | None = None
    # What would need a store: refused by name.
    background: bool | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, Any] | None = None
    prompt: dict[str, Any] | None = None

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
            "tool_choice.allowed_tools": "tool_choice",
        }

    @property
    def _items(self) -> list[Item | OpenaiItem]:
        return [Item(content=self.input)] if isinstance(self.input, str) else self.input

    @property
    def _tool_places(self) -> list[tuple[str, list[AnyTool]]]:
        """The places where tools are declared, and the tools."""
        places = [("tools", self.tools or [])]
        for i, item in enumerate(self._items):
            if isinstance(item, Item) and item.tools:
                places.append((f"input.{i}.tools", item.tools))
        return places

    def tool_table(self) -> ToolTable:
        """The tools that the model may call. Raises Refusal."""
        return table(one for where, tools in self._tool_places for one in functions(where, tools))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [name for where, tools in self._tool_places for name in hosted(where, tools)]
        found += [f"input.{i} ({item.type})" for i, item in enumerate(self._items) if was_hosted(item)]
        found += ["text.verbosity"] if self.text and self.text.verbosity in ("low", "high") else []
        found += [name for name in _OF_OTHERS if getattr(self, name)]
        found += ["truncation"] if self.truncation == "auto" else []
        return (*found, *(f"include ({name})" for name in self.include or [] if not name.startswith("reasoning.")))

    @property
    def shape(self) -> ResponseShape:
        """What the reply repeats of the request, and how it shows thinking and calls."""
        kept = {"instructions", "max_output_tokens", "metadata", "parallel_tool_calls", "reasoning", "temperature"}
        kept |= {"text", "tool_choice", "tools", "top_p", "truncation", "user"}
        echo = self.model_dump(include=kept, exclude_none=True, by_alias=True)
        is_summary = self.reasoning is not None and self.reasoning.wants_summary
        return ResponseShape(echo, is_summary, self.tool_table())

    def as_chat(self) -> dict[str, Any]:
        """The request as a chat body. Raises Refusal for what would need a store of replies."""
        for name, why in _NEEDS_STORE.items():
            if getattr(self, name) not in (None, False):
                raise Refusal(400, f"{name}: {why}", param=name, code="unsupported")
        kept = {*ThinkingFields.model_fields, "model", "stream", "temperature", "top_p", "seed", "user"}
        kept |= {"parallel_tool_calls"}
        chat = self.model_dump(include=kept, exclude_none=True)
        for name in ("summary", "generate_summary", "context", "mode"):
            chat.get("reasoning", {}).pop(name, None)
        if shown := self.tool_table().shown:
            chat["tools"] = [{"type": "function", "function": function} for function in shown.values()]
        chat["tool_choice"] = self._tool_choice()
        updates = [item for item in self._items if isinstance(item, Item) and item.type == "configuration_update"]
        if efforts := [one.reasoning.effort for one in updates if one.reasoning and one.reasoning.effort]:
            chat["reasoning"] = {**chat.get("reasoning", {}), "effort": efforts[-1]}
        formats = [self.text.format if self.text else None, *(one.text.format for one in updates if one.text)]
        if (last := formats[-1]) is not None and last.type != "text":
            form = last.model_dump(by_alias=True, exclude_none=True)
            kind = form.pop("type")
            chat["response_format"] = {"type": kind} | ({"json_schema": form} if kind == "json_schema" else {})
        chat["messages"] = chat_turns(self._items, self.instructions)
        # A message of the assistant at the end is history here, and the reply is another one.
        return chat | {"max_completion_tokens": self.max_output_tokens, "add_generation_prompt": True}

    def _tool_choice(self) -> str | dict[str, Any] | None:
        """The choice in a chat's words."""
        choice = self.tool_choice
        if isinstance(choice, ResponseChoice):
            return _named(choice)
        if isinstance(choice, AllowedResponseTools):
            allowed = [_named(tool) for tool in choice.tools if tool.type in ("function", "custom")]
            return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": allowed}}
        return choice


_OF_OTHERS = (
    *("context_management", "moderation", "access_programs", "background_options", "image"),
    *("provider", "models", "plugins"),
)
"""Fields for what only OpenAI's servers and OpenRouter do."""
_NEEDS_STORE = {
    "previous_response_id": "replies are not stored here. Send the earlier turns in input.",
    "conversation": "replies are not stored here. Send the earlier turns in input.",
    "background": "replies are not stored here. Leave it out, and read the reply as a stream.",
    "prompt": "prompt templates are not stored here. Send instructions and input.",
}


def _named(tool: ResponseChoice | AllowedResponseTool) -> dict[str, Any]:
    return {"type": "function", "function": {"name": shown_name(tool.name or "", tool.namespace)}}
