"""What is asked of a chat model and what comes back, the same for every provider.

Nothing here knows a wire format, a socket or a price.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

from pydantic import Field

from s1kit.errors import InputError, S1kitError, WorkFailed
from s1kit.journal import canonical, key_of
from s1kit.records import FinishReason, Record, Usage

Message = Mapping[str, Any]
"""`{"role": "system" | "user" | "assistant", "content": text}`; also OpenAI's `tool_calls`, results of tools (role
`tool`), and content in parts."""

PART_TOKENS = 16_384
"""More tokens than a picture or a page costs: the bound of a content part that is no text."""


class Parameters(Record):
    """How to answer. None: the provider's own default. A parameter a provider lacks is refused, never ignored."""

    max_output_tokens: int = Field(default=32768, ge=1)
    """Thinking and answer together."""
    temperature: float | None = Field(default=None, ge=0)
    top_p: float | None = Field(default=None, gt=0, le=1)
    thinking: bool = True
    """Ask for the thinking to be shown, where that is a choice (Gemini, Anthropic)."""
    thinking_budget: int | None = Field(default=None, ge=0)
    """Tokens of thinking at most."""
    reasoning_effort: str | None = None
    """`low`, `medium`, `high` and whatever else the provider takes."""
    seed: int | None = None
    """OpenAI-compatible servers and Gemini; best effort on their side."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Fields merged into the request's body as they stand."""

    @cached_property
    def content(self) -> dict[str, Any]:
        """The parameters as hashed into a request's key, without defaults: a new parameter changes no old key."""
        return self.model_dump(exclude_defaults=True) | {"max_output_tokens": self.max_output_tokens}


@dataclass(frozen=True)
class ChatRequest:
    """One request; `key` addresses its reply in the journal."""

    provider: str
    model: str
    messages: tuple[Message, ...]
    parameters: Parameters
    draw: int = 0
    """Which of several replies to the same messages, from 0."""
    tools: tuple[Mapping[str, Any], ...] = ()
    """Functions that the model may call, in OpenAI's form."""

    def __post_init__(self) -> None:
        if not any(_says_something(message.get("content")) for message in self.messages if message["role"] == "user"):
            raise InputError("the question is empty", where="messages", fix="Give a text to ask.")

    @cached_property
    def content(self) -> dict[str, Any]:
        """The values that the key is the SHA-256 of."""
        return {
            "provider": self.provider,
            "model": self.model,
            "messages": [dict(message) for message in self.messages],
            "parameters": self.parameters.content,
            "draw": self.draw,
        } | ({"tools": [dict(tool) for tool in self.tools]} if self.tools else {})

    @cached_property
    def canonical(self) -> bytes:
        """`content` as canonical JSON."""
        return canonical(self.content)

    @cached_property
    def key(self) -> str:
        return key_of(self.canonical)

    @property
    def max_input_tokens(self) -> int:
        """An upper bound on input tokens: one per byte, plus 16 a message for the chat template's markup."""
        return sum(_most_tokens(message) for message in self.messages) + sum(map(_num_bytes, self.tools)) + 16


def _says_something(content: Any) -> bool:
    return bool(content.strip()) if isinstance(content, str) else bool(content)


def _most_tokens(message: Message) -> int:
    content = message.get("content")
    if isinstance(content, str) and len(message) == 2:
        return len(content.encode("utf-8", "surrogatepass")) + 16
    parts = content if isinstance(content, list) else []
    others = len([part for part in parts if isinstance(part, Mapping) and part.get("type") != "text"])
    return _num_bytes(message) + 16 + others * PART_TOKENS


def _num_bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "surrogatepass"))


@dataclass(frozen=True)
class Reply:
    """One reply of a model, whatever it holds; also one that is empty or malformed."""

    thinking: str = ""
    answer: str = ""
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    thinking_tokens: int | None = None
    """As the provider counted; None where it does not say."""
    note: str = ""
    cost_usd: float = 0.0
    reported_cost_usd: float | None = None
    """As the provider reports it; None where it does not."""
    was_paid_before: bool = False
    """Whether it came from the journal."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Functions that the model wants called, in OpenAI's form."""


@dataclass(frozen=True)
class Call:
    """An HTTP request without its host and key."""

    path: str
    body: dict[str, Any]


class Assembler(Protocol):
    """Puts the events of a streamed reply together into the body that would have come unstreamed."""

    @property
    def is_whole(self) -> bool:
        """Whether the last event of a reply, or an error, has arrived."""
        ...

    @property
    def has_text(self) -> bool:
        """Whether the model has written anything."""
        ...

    def add(self, event: Mapping[str, Any]) -> None:
        """Take the next event, whatever its shape."""
        ...

    def end(self) -> None:
        """The stream's end marker (`[DONE]`) came."""
        ...

    def body(self) -> dict[str, Any]:
        """The events so far as one body."""
        ...


class WireFormat(Protocol):
    """One provider's wire format: pure functions between our terms and its JSON."""

    def headers(self, key: str) -> dict[str, str]:
        """The headers that carry the key; none for an empty key."""
        ...

    def call(self, request: ChatRequest) -> Call:
        """The HTTP request, not streamed. Raises InputError for a parameter that the provider lacks."""
        ...

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        """The call, asking for a stream; `with_usage`: and for the usage at its end, where that must be asked."""
        ...

    def assembler(self) -> Assembler:
        """What puts the events of a stream together into the body that `read` takes."""
        ...

    def read(self, body: Mapping[str, Any]) -> Reply:
        """A response body as a reply. Total: any JSON gives a reply, malformed ones say so."""
        ...


ProblemKind = Literal[
    # every request: the run stops
    "key", "model", "credit", "location", "certificate", "proxy",
    # this request only
    "request", "refused",
    # for a while: asked again within bounds
    "rate", "server", "timeout", "connection", "unreachable",
]  # fmt: skip


class Chat(Protocol):
    """A chat model that can be asked: a provider's, or a local engine."""

    async def chat(
        self, messages: Sequence[Message], *, draw: int = 0, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Reply:
        """The reply to a conversation. Raises Problem for this request alone, Stopped when none can be asked."""
        ...


class Stopped(WorkFailed):
    """No further request can succeed: because of the key, the model, the account, the cap or an outage."""


class Problem(S1kitError):
    """A request that got no reply. `retriable` ones are worth another attempt."""

    def __init__(
        self,
        kind: ProblemKind,
        text: str,
        *,
        status: int = 0,
        retry_after: float | None = None,
        may_be_charged: bool = False,
        raw: bytes = b"",
        partial: dict[str, Any] | None = None,
    ) -> None:
        self.kind: ProblemKind = kind
        self.text = text
        self.status = status
        self.retry_after = retry_after
        """Seconds the server asked to wait."""
        self.may_be_charged = may_be_charged
        """Whether the provider may have charged for it: bytes were sent and it may have worked on them."""
        self.raw = raw
        """The body that came, with the key hidden; empty where none did."""
        self.partial = partial
        """What a stream brought before it was cut, where that is part of a reply."""
        super().__init__(f"{kind}: {text}" if not status else f"{kind} (HTTP {status}): {text}")

    @property
    def retriable(self) -> bool:
        return self.kind in ("rate", "server", "timeout", "connection", "unreachable")

    @property
    def is_of_this_request(self) -> bool:
        """Whether it says something about this request's content, not about the provider or the account."""
        return self.kind in ("request", "refused")


def settle_finish(finish: FinishReason, answer: str, calls: Sequence[object] = ()) -> FinishReason:
    """The finish reason, `empty` in place of `stop` for a reply without text and without a tool call."""
    return "empty" if finish == "stop" and not answer.strip() and not calls else finish


def rough_usage(request_text: Sequence[Message], reply_text: str) -> Usage:
    """Estimated usage for a server that reports none: four bytes a token."""
    return Usage(input_tokens=sum(map(_most_tokens, request_text)) // 4 + 1, output_tokens=len(reply_text) // 4 + 1)
