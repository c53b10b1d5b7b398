"""The wire format of Gemini's `generateContent`. Source: ai.google.dev/api/generate-content.

Thinking comes as parts marked `thought`; the models of today give summaries of it there, which the note says. Thinking
tokens are counted apart (`thoughtsTokenCount`) and charged as output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.providers.chat import Call, ChatRequest, Reply, settle_finish
from s1kit.records import FinishReason, Usage

_REFUSED = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "IMAGE_SAFETY"}


@dataclass(frozen=True)
class GeminiWire:
    name: str = "gemini"

    def headers(self, key: str) -> dict[str, str]:
        return {"x-goog-api-key": key}

    def call(self, request: ChatRequest) -> Call:
        return Call(f"/models/{request.model}:generateContent", generate_content(request))

    def read(self, body: Mapping[str, Any]) -> Reply:
        usage, thoughts = _usage(body.get("usageMetadata"))
        candidates = body.get("candidates")
        if not isinstance(candidates, list) or not candidates or not isinstance(candidates[0], dict):
            feedback = body.get("promptFeedback")
            if isinstance(feedback, dict) and feedback.get("blockReason"):
                return Reply(
                    finish_reason="refused", usage=usage, note=f"the prompt was blocked: {feedback['blockReason']}"
                )
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no candidates")
        candidate = candidates[0]
        content = candidate.get("content")
        parts = content.get("parts") if isinstance(content, dict) else None
        texts = [part for part in parts or [] if isinstance(part, dict) and isinstance(part.get("text"), str)]
        thinking = "".join(part["text"] for part in texts if part.get("thought"))
        answer = "".join(part["text"] for part in texts if not part.get("thought"))
        reason = candidate.get("finishReason")
        finish: FinishReason = "malformed"
        if reason in ("STOP", "MAX_TOKENS"):
            finish = "stop" if reason == "STOP" else "length"
        elif reason in _REFUSED:
            finish = "refused"
        note = "" if finish in ("stop", "length") else f"finishReason is {reason}"
        if not thinking and thoughts:
            note = f"the server dropped the thinking ({thoughts} tokens)"
        return Reply(thinking, answer, settle_finish(finish, answer), usage, thoughts, note)


def generate_content(request: ChatRequest) -> dict[str, Any]:
    """A GenerateContentRequest; the same object stands in a line of a batch file."""
    p = request.parameters
    config: dict[str, Any] = {"maxOutputTokens": p.max_output_tokens}
    for field, value in [("temperature", p.temperature), ("topP", p.top_p), ("seed", p.seed)]:
        if value is not None:
            config[field] = value
    thinking: dict[str, Any] = {"includeThoughts": True} if p.thinking else {}
    if p.thinking_budget is not None:
        thinking["thinkingBudget"] = p.thinking_budget
    if p.reasoning_effort is not None:
        thinking["thinkingLevel"] = p.reasoning_effort.upper()
    if thinking:
        config["thinkingConfig"] = thinking
    system = "\n\n".join(m["content"] for m in request.messages if m["role"] == "system")
    body: dict[str, Any] = {
        "contents": [
            {"role": "model" if m["role"] == "assistant" else "user", "parts": [{"text": m["content"]}]}
            for m in request.messages
            if m["role"] != "system"
        ],
        "generationConfig": config,
    }
    if system:
        body["systemInstruction"] = {"parts": [{"text": system}]}
    return body | p.extra


def _usage(usage: Any) -> tuple[Usage, int | None]:
    if not isinstance(usage, dict):
        return Usage(), None
    thoughts = usage.get("thoughtsTokenCount")
    return (
        Usage(
            input_tokens=usage.get("promptTokenCount") or 0,
            output_tokens=(usage.get("candidatesTokenCount") or 0) + (thoughts or 0),
            cached_input_tokens=usage.get("cachedContentTokenCount") or 0,
        ),
        thoughts,
    )
