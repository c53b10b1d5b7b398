"""The bodies of Anthropic's `/v1/messages` and `count_tokens`, and the same request as a chat body.

A request that says nothing about thinking gets a reply without thinking blocks, as programs that read `content[0].text`
expect; the model still thinks, and it counts within `max_tokens`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from s1kit.serve.fields import Effort, PositiveCount, StopString, ThinkingFields, ThinkingSwitch, Wire
from s1kit.serve.messages_blocks import (
    AnthropicBlock,
    AnthropicTool,
    MessageTool,
    SystemBlock,
    Turn,
    blocks_of,
    chat_turns,
    offered_tools,
)
from s1kit.serve.refusals import Refusal


class OutputFormat(Wire):
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Wire):
    effort: Effort | None = None
    """The same as `reasoning_effort`; `thinking.budget_tokens` counts for more."""
    format: OutputFormat | None = None
    task_budget: dict[str, Any] | None = None
    """What Anthropic's models are told of the tokens of a whole task; left out."""


class MessageToolChoice(Wire):
    type: Literal["auto", "none", "any", "tool"]
    name: str | None = None
    """Name of the tool that must be called, for type `tool`."""
    disable_parallel_tool_use: bool | None = None

    def as_chat(self) -> str | dict[str, Any]:
        """The choice in OpenAI's words."""
        if self.type == "tool":
            return {"type": "function", "function": {"name": self.name or ""}}
        return {"any": "required"}.get(self.type, self.type)


class MessageThinking(ThinkingSwitch):
    type: Literal["enabled", "disabled", "adaptive", "auto", "between_tools"]  # type: ignore[assignment]
    """`between_tools`: the model thinks after the results of tools, and not before a first answer."""


class CountBody(ThinkingFields):
    """The body of `POST /v1/messages/count_tokens`."""

    model: str | None = None
    messages: Annotated[list[Turn], Field(min_length=1)]
    thinking: MessageThinking | None = None
    system: str | list[SystemBlock] | None = None
    tools: list[MessageTool | AnthropicTool] | None = None
    tool_choice: MessageToolChoice | None = None
    output_config: OutputConfig | None = None
    context_management: dict[str, Any] | None = None
    """How Anthropic's servers shorten a long conversation; here none is shortened, and the reply says so."""
    compaction: dict[str, Any] | None = None
    """The same."""
    fallbacks: list[Any] | str | None = None
    """Other models, for what the first refuses; left out."""
    container: str | dict[str, Any] | None = None
    """Where Anthropic's servers run code; left out."""
    diagnostics: dict[str, Any] | None = None
    """What Anthropic's servers are to tell of their caches; left out."""
    mcp_servers: list[Any] | None = None
    """Whose tools Anthropic's servers call; left out."""
    # These cannot change what is generated.
    cache_control: dict[str, Any] | None = None
    betas: list[str] | None = None
    inference_geo: str | None = None
    billing_policy: dict[str, Any] | None = None
    fallback_credit_token: str | dict[str, Any] | None = None
    speed: Literal["standard", "fast"] | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    thread: dict[str, Any] | None = None
    """A conversation that Anthropic's servers hold; refused."""
    output_format: OutputFormat | None = None
    """The older place of `output_config.format`."""

    @property
    def chat_names(self) -> dict[str, str]:
        """Names of a chat body to the names here, where they differ."""
        return {
            "stop": "stop_sequences",
            "reasoning_effort": "output_config.effort",
            "response_format.json_schema": "output_config.format",
            "response_format": "output_config.format",
            "tools.function": "tools",
            "tool_choice.function": "tool_choice",
        }

    @property
    def left_out(self) -> tuple[str, ...]:
        """Fields that were accepted and have no meaning here."""
        found = [name for name in _LEFT_OUT if getattr(self, name)]
        found += [f"tools.{i} ({t.type})" for i, t in enumerate(self.tools or []) if isinstance(t, AnthropicTool)]
        for i, turn in enumerate(self.messages):
            for j, block in enumerate(turn.content):
                if isinstance(block, AnthropicBlock):
                    found.append(f"messages.{i}.content.{j} ({block.type})")
        if self.output_config is not None and self.output_config.task_budget:
            found.append("output_config.task_budget")
        return (*found, "output_config.effort") if self._has_own_budget and self._effort else tuple(found)

    @property
    def _effort(self) -> str | None:
        """The last that was set."""
        stated = [self.output_config, *(turn.output_config for turn in self.messages)]
        return next((one.effort for one in reversed(stated) if one is not None and one.effort), None)

    @property
    def _output_format(self) -> OutputFormat | None:
        inside = self.output_config.format if self.output_config is not None else None
        return inside or self.output_format

    @property
    def _has_own_budget(self) -> bool:
        thinking = self.thinking
        return thinking is not None and (thinking.number is not None or self._thinking_type == "disabled")

    @property
    def _thinking_type(self) -> str | None:
        """The kind of thinking in the words of a chat, which do not depend on the turns."""
        kind = self.thinking.type if self.thinking is not None else None
        if kind != "between_tools":
            return kind
        is_after_tools = any(block.type == "tool_result" for block in blocks_of(self.messages[-1].content))
        return "adaptive" if is_after_tools else "disabled"

    def _thinking(self) -> dict[str, Any]:
        """What is said about thinking, in the words of a chat. Raises Refusal for what would need a store."""
        if self.thread is not None:
            what = "thread: conversations are not stored here. Send all turns in messages."
            raise Refusal(400, what, param="thread", code="unsupported")
        stated = self.model_dump(include=set(ThinkingFields.model_fields), exclude_none=True)
        if "thinking" in stated:
            stated["thinking"]["type"] = self._thinking_type
        return stated

    def as_chat(self) -> dict[str, Any]:
        """The request as a chat body. Raises Refusal."""
        return self._thinking() | self._shared()

    def _shared(self) -> dict[str, Any]:
        shared: dict[str, Any] = {"model": self.model, "messages": chat_turns(self.messages, self.system)}
        if len(self.messages) > 1 and self.messages[-1].role == "assistant":
            # Anthropic's way of beginning the answer for the model.
            shared |= {"continue_final_message": True, "add_generation_prompt": False}
        if self._effort and not self._has_own_budget:
            shared["reasoning_effort"] = self._effort
        if (wanted := self._output_format) is not None:
            form = {"name": "output", "schema": wanted.schema_, "strict": True}
            shared["response_format"] = {"type": "json_schema", "json_schema": form}
        if tools := [tool.as_chat() for tool in offered_tools(self.tools or [], self.messages).values()]:
            shared["tools"] = tools
        if self.tool_choice is not None:
            shared["tool_choice"] = self.tool_choice.as_chat()
            if self.tool_choice.disable_parallel_tool_use:
                shared["parallel_tool_calls"] = False
        return shared


class MessagesBody(CountBody):
    """The body of `POST /v1/messages`."""

    max_tokens: PositiveCount
    stop_sequences: Annotated[list[StopString], Field(max_length=64)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: int | None = None
    metadata: dict[str, Any] | None = None
    service_tier: str | None = None

    def as_chat(self) -> dict[str, Any]:
        more = self.model_dump(include={"max_tokens", "stream", "temperature", "top_p", "top_k", "seed"})
        thinking = self._thinking() or {"include_reasoning": False}
        return thinking | self._shared() | more | {"stop": self.stop_sequences}


_LEFT_OUT = ("context_management", "compaction", "fallbacks", "container", "diagnostics", "mcp_servers")
"""Fields for what only Anthropic's servers do."""
