"""What the batch APIs have in common: the state of a job, the outcome of a request, readers for JSON of any shape."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import ChatRequest, Problem, ProblemKind
from s1kit.providers.http import Answer, Http
from s1kit.providers.signs import kind_of_status
from s1kit.providers.wires.reading import list_of

MAX_PAGES = 20
SECONDS_CLOCKS_DIFFER = 300.0
NO_REASON = "no explanation"

JobState = Literal["running", "ended", "failed"]


@dataclass(frozen=True)
class Line:
    """The outcome of one request of a batch: a reply or an error."""

    key: str
    """The request; empty where the line names none."""
    body: dict[str, Any] | None
    """The reply, as it would have come online; None when there is none."""
    reason: str = ""
    """Why there is none: expired, cancelled, an error."""
    kind: ProblemKind = "server"
    """What the reason says about asking again, as online."""
    raw: bytes = b""
    """The line as it came, with the key hidden."""


@dataclass(frozen=True)
class Status:
    """The state of a job and how many of its requests are done."""

    state: JobState
    done: int = 0
    """Requests that are through, answered or not."""
    reason: str = ""
    """Why it failed."""
    is_crowded: bool = False
    """Whether the job was refused because too many tokens wait in the provider's queue already."""
    num_answered: int = 0
    """Requests that the provider counts as answered: so many replies must be in the results."""
    is_cancelled: bool = False


class BatchWire(Protocol):
    """One provider's batch API."""

    @property
    def max_requests(self) -> int: ...

    @property
    def max_bytes(self) -> int: ...

    def line(self, key: str, request: ChatRequest) -> bytes: ...

    async def submit(self, http: Http, model: str, tag: str, lines: Sequence[bytes]) -> str:
        """Start a job; returns its id. `tag` finds it again should the answer be lost."""
        ...

    async def find(self, http: Http, tag: str, num_requests: int, since: str) -> list[str]:
        """Jobs that may be the one with this tag, submitted at `since` (UTC, ISO 8601)."""
        ...

    async def status(self, http: Http, job: str) -> Status:
        """Raises Problem for a reply that describes no job."""
        ...

    def results(self, http: Http, job: str) -> AsyncIterator[Line]:
        """The lines of an ended job, in any order. Raises Problem where results are counted and none are named."""
        ...


def job_in(answer: Answer, name: str) -> dict[str, Any]:
    """The job that a reply describes; `name` is the field of its id. Raises Problem for any other reply."""
    body = answer.body
    if body is None or not isinstance(body.get(name), str):
        raise Problem("server", "the reply describes no batch job", status=200)
    return body


def text_field(answer: Answer, name: str) -> str:
    """A text in a reply. Raises Problem where there is none."""
    value = (answer.body or {}).get(name)
    if not isinstance(value, str) or not value:
        raise Problem("server", f"the reply has no {name}")
    return value


def no_results(num: int) -> Problem:
    """The results of an ended job are not there, although replies are counted: some providers name them later."""
    return Problem("server", f"the provider counts {num} replies and names no results")


def failed_line(key: str, status: int, error: Any, raw: bytes, fallback: str = "") -> Line:
    """A request without a reply, judged as the same error would be online."""
    text = error_message({"error": error}) if error else ""
    code = error.get("code") if isinstance(error, Mapping) else None
    reason = text or (str(code) if code else "") or fallback or f"status {status}"
    return Line(key, None, reason[:500], kind_of_status(status, {"error": error}, reason), raw)


async def rows(http: Http, path: str) -> AsyncIterator[tuple[dict[str, Any], bytes]]:
    """The JSON objects of a results file, each with its line; a line that is no object comes as an empty one.

    Empty lines, CRLF and a byte order mark are let pass.
    """
    async for line in http.lines(path):
        if line.strip(b" \t\r\xef\xbb\xbf"):
            yield parse_body(line) or {}, line


def key_in(row: Mapping[str, Any], name: str) -> str:
    """The request that a row names; empty where it names none."""
    value = row.get(name)
    return value.strip() if isinstance(value, str) else ""


async def pages(http: Http, path: str, cursor: str) -> AsyncIterator[dict[str, Any]]:
    """The jobs of a list, newest first, over so many pages as may hold one that was just submitted."""
    after = ""
    for _ in range(MAX_PAGES):
        body = (await http.get(path + after)).body or {}
        jobs = [job for job in list_of(body.get("data")) if isinstance(job, dict) and isinstance(job.get("id"), str)]
        for job in jobs:
            yield job
        if not body.get("has_more") or not jobs:
            return
        after = f"&{cursor}={jobs[-1]['id']}"


def may_be_of(job: Mapping[str, Any], since: str) -> bool:
    """Whether a job was not there before it was submitted, give or take what clocks differ by."""
    try:
        made, asked = (datetime.fromisoformat(str(text)) for text in (job.get("created_at"), since))
        return (made - asked).total_seconds() > -SECONDS_CLOCKS_DIFFER
    except (ValueError, TypeError):
        return True
