"""Vertex AI: Gemini, Claude and open models, each in its maker's own wire format, at Google Cloud's addresses.

Sources: cloud.google.com/vertex-ai/generative-ai/docs (generateContent; partner-models/claude; maas), and
platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from s1kit.providers.chat import Call, ChatRequest
from s1kit.providers.wires.anthropic import AnthropicWire
from s1kit.providers.wires.gemini import GeminiWire
from s1kit.providers.wires.openai import OpenAIWire

CLAUDE_VERSION = "vertex-2023-10-16"


class VertexGeminiWire(GeminiWire):
    def call(self, request: ChatRequest) -> Call:
        call = super().call(request)
        return Call(f"/publishers/google{call.path}", call.body)


class VertexClaudeWire(AnthropicWire):
    """The model is in the address, the version in the body."""

    def headers(self, key: str) -> dict[str, str]:
        return {}

    def call(self, request: ChatRequest) -> Call:
        body: dict[str, Any] = {"anthropic_version": CLAUDE_VERSION, **super().call(request).body}
        del body["model"]
        return Call(f"/publishers/anthropic/models/{request.model}:rawPredict", body)

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        return Call(call.path.replace(":rawPredict", ":streamRawPredict"), {**call.body, "stream": True})


@dataclass(frozen=True)
class VertexOpenAIWire(OpenAIWire):
    """Open models, which Vertex AI serves in OpenAI's form under `<maker>/<model>`."""

    name: Any = "compatible"

    def call(self, request: ChatRequest) -> Call:
        call = super().call(request)
        return Call(f"/endpoints/openapi{call.path}", call.body)
