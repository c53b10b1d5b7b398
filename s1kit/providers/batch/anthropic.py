"""Anthropic's message batches (platform.claude.com/docs/en/api/messages/batches)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from s1kit.providers.batch.wire import (
    Line,
    Status,
    failed_line,
    job_in,
    key_in,
    may_be_of,
    pages,
    rows,
    text_field,
)
from s1kit.providers.chat import ChatRequest
from s1kit.providers.http import Http, to_json
from s1kit.providers.wires.anthropic import message_parameters
from s1kit.providers.wires.reading import count, dict_of

_COUNTS = ("processing", "succeeded", "errored", "canceled", "expired")
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
}
"""The HTTP status that an error type has online."""


@dataclass(frozen=True)
class AnthropicBatch:
    """Limits are the published ones, with a margin."""

    max_requests: int = 100_000
    max_bytes: int = 240 * 2**20

    def line(self, key: str, request: ChatRequest) -> bytes:
        return to_json({"custom_id": key, "params": message_parameters(request)})

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        body = b'{"requests":[' + b",".join(lines) + b"]}"
        answer = await http.send("POST", "/messages/batches", body, {"Content-Type": "application/json"})
        return text_field(answer, "id")

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        # A message batch carries no tag of ours; its size and its time narrow the search, its results settle it.
        jobs = pages(http, "/messages/batches?limit=100", "after_id")
        return [job["id"] async for job in jobs if sum(_counts(job)) == num_requests and may_be_of(job, since)]

    async def status(self, http: Http, job: str) -> Status:
        body = job_in(await http.get(f"/messages/batches/{job}"), "id")
        _, succeeded, *others = _counts(body)
        is_ended = body.get("processing_status") == "ended"
        return Status(
            "ended" if is_ended else "running",
            succeeded + sum(others),
            num_answered=succeeded,
            is_cancelled=is_ended and bool(body.get("cancel_initiated_at")),
        )

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        body = job_in(await http.get(f"/messages/batches/{job}"), "id")
        url = body.get("results_url")
        async for row, raw in rows(http, url if isinstance(url, str) and url else f"/messages/batches/{job}/results"):
            yield _line(row, raw)


def _counts(job: dict[str, Any]) -> list[int]:
    return [count(job.get("request_counts"), name) or 0 for name in _COUNTS]


def _line(row: dict[str, Any], raw: bytes) -> Line:
    key, result = key_in(row, "custom_id"), dict_of(row.get("result"))
    message = result.get("message")
    if isinstance(message, dict):
        return Line(key, message, raw=raw)
    outer = result.get("error")
    error = dict_of(outer).get("error") or outer
    kind = str(dict_of(error).get("type"))
    return failed_line(key, _STATUS.get(kind, 500), error, raw, fallback=str(result.get("type") or "no explanation"))
