"""OpenAI's batch API (platform.openai.com/docs/api-reference/batch), of chat completions and of responses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from s1kit.providers.batch.wire import (
    NO_REASON,
    Line,
    Status,
    failed_line,
    job_in,
    key_in,
    no_results,
    pages,
    rows,
    text_field,
)
from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import ChatRequest, WireFormat
from s1kit.providers.http import Http, to_json
from s1kit.providers.wires.reading import count, dict_of, list_of
from s1kit.providers.wires.shapes import shape_of


@dataclass(frozen=True)
class OpenAIBatch:
    """Limits are the published ones, with a margin."""

    wire: WireFormat
    """Chat completions or responses."""
    endpoint: str
    max_requests: int = 50_000
    max_bytes: int = 190 * 10**6

    def line(self, key: str, request: ChatRequest) -> bytes:
        body = self.wire.call(request).body
        return to_json({"custom_id": key, "method": "POST", "url": self.endpoint, "body": body})

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        uploaded = await http.upload("/files", {"purpose": "batch"}, f"{tag}.jsonl", b"\n".join(lines) + b"\n")
        body = {
            "input_file_id": text_field(uploaded, "id"),
            "endpoint": self.endpoint,
            "completion_window": "24h",
            "metadata": {"s1kit": tag},
        }
        return text_field(await http.post("/batches", to_json(body)), "id")

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        jobs = pages(http, "/batches?limit=100", "after")
        return [job["id"] async for job in jobs if dict_of(job.get("metadata")).get("s1kit") == tag]

    async def status(self, http: Http, job: str) -> Status:
        body = job_in(await http.get(f"/batches/{job}"), "id")
        counts = body.get("request_counts")
        answered = count(counts, "completed") or 0
        done = answered + (count(counts, "failed") or 0)
        match body.get("status"):
            case "completed" | "expired":
                return Status("ended", done, num_answered=answered)
            case "cancelled" | "canceled":
                return Status("ended", done, num_answered=answered, is_cancelled=True)
            case "failed":
                errors = body.get("errors")
                first = dict_of(next(iter(list_of(dict_of(errors).get("data")) or list_of(errors)), None))
                reason = error_message(first) or error_message({"error": errors}) or NO_REASON
                # "Enqueued token limit reached for ... in organization ..."
                is_crowded = first.get("code") == "token_limit_exceeded" or "enqueued token" in reason.lower()
                return Status("failed", done, reason, is_crowded)
            case _:
                return Status("running", done)

    async def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        body = job_in(await http.get(f"/batches/{job}"), "id")
        answered = count(body.get("request_counts"), "completed") or 0
        if answered and not body.get("output_file_id"):
            raise no_results(answered)
        for file in (body.get("output_file_id"), body.get("error_file_id")):
            if isinstance(file, str) and file:
                async for row, raw in rows(http, f"/files/{file}/content"):
                    yield _line(row, raw)


def _line(row: dict[str, Any], raw: bytes) -> Line:
    """A row of the output file or of the error file."""
    key, response = key_in(row, "custom_id"), dict_of(row.get("response"))
    status, reply = count(response, "status_code"), response.get("body")
    if reply is None and shape_of(response) is not None:  # Fireworks
        reply = dict(response)
    if isinstance(reply, str):
        reply = parse_body(reply.encode("utf-8", "surrogatepass")) or reply
    told = row.get("error")
    has_failed = any(told.values()) if isinstance(told, Mapping) else bool(told)  # DashScope's holds nulls
    if isinstance(reply, dict) and status in (200, None) and not has_failed:
        return Line(key, reply, raw=raw)
    error = told if has_failed else (reply.get("error") if isinstance(reply, dict) else reply)
    code = count(error, "code") or 0
    status = next((s for s in (status, code) if s and 400 <= s <= 599), 500)
    return failed_line(key, status, error, raw)
