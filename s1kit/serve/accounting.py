"""Records an answered request: counters, one line in the log, and a span where tracing is on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1kit.serve import logs
from s1kit.serve.choices import AnyReply
from s1kit.serve.replies import Endpoint
from s1kit.serve.state import Server
from s1kit.serve.tracing import Span


def account(
    server: Server,
    endpoint: Endpoint,
    request_id: str,
    status: int,
    seconds: float,
    is_stream: bool,
    reply: AnyReply | None,
    span: Span | None,
    more: Mapping[str, Any],
) -> None:
    """Count and log one request. `reply`: None where it was refused before; `more`: further fields of the log line."""
    server.metrics.requests.add(endpoint=endpoint, status=str(status))
    server.metrics.request_seconds.observe(seconds)
    tallies = [choice.tally for choice in reply.choices] if reply is not None else []
    thinking_tokens = sum(t.thinking_tokens for t in tallies)
    num_waits = sum(t.num_waits for t in tallies)
    if span is not None:
        span.set_attributes(
            {
                "http.response.status_code": status,
                "gen_ai.request.model": server.backend.model,
                "gen_ai.usage.input_tokens": reply.prompt_tokens if reply is not None else 0,
                "gen_ai.usage.output_tokens": sum(t.completion_tokens for t in tallies),
                "s1kit.thinking_tokens": thinking_tokens,
                "s1kit.num_waits": num_waits,
                "s1kit.request_id": request_id,
            }
        )
        span.end()
    logs.log(
        "request",
        id=request_id,
        endpoint=endpoint,
        status=status,
        seconds=round(seconds, 4),
        stream=is_stream,
        prompt_tokens=reply.prompt_tokens if reply is not None else None,
        thinking_tokens=thinking_tokens,
        answer_tokens=sum(t.answer_tokens for t in tallies),
        num_waits=num_waits,
        forced_tokens=sum(t.forced_tokens for t in tallies),
        ending=",".join(str(t.end.ending) for t in tallies if t.end is not None) or None,
        **more,
    )
