"""Writes the results of ended batch jobs to the journal: every line is kept, whatever it says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from s1kit.journal import BatchJob, Failure
from s1kit.providers.batch.patiently import patiently
from s1kit.providers.batch.wire import BatchWire, Line, Status
from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import ChatRequest, Problem, ProblemKind, Stopped
from s1kit.providers.classify import problem_in
from s1kit.providers.client import Client
from s1kit.providers.http import Answer, to_json
from s1kit.providers.patience import REMEDY

GROUP = 256
"""Replies that are written together."""
_OF_THE_REQUEST = ("request", "refused")
_OF_THE_ACCOUNT: tuple[ProblemKind, ...] = ("key", "model", "credit", "location")


@dataclass
class Collector:
    """Collects the replies of one run's jobs and counts the requests that got none."""

    client: Client
    wire: BatchWire
    requests: Mapping[str, ChatRequest]
    on_progress: Callable[[int, str], None]
    final: dict[str, Problem] = field(default_factory=dict)
    """Requests refused for what they are: not asked again."""
    lost: dict[str, str] = field(default_factory=dict)
    """Requests without a reply, with the reason of the last round they were in."""
    collected: int = 0
    strays: int = 0
    """Lines that name no request of their job, or cannot be read."""
    _account: Line | None = None
    """A line that says that every request would fail."""

    def recall_refusals(self) -> None:
        """Read from the journal which requests the provider refused earlier, so that they are not submitted again."""
        for key, failure in self.client.journal.refused(list(self.requests)).items():
            self._refuse(key, failure.kind, error_message(parse_body(failure.body)) or failure.kind)

    async def collect(self, job: BatchJob, status: Status, poll_seconds: float) -> None:
        """Write down every reply of an ended job, whatever their order and however often each comes.

        A download that breaks off, or that holds fewer replies than the provider counts, is begun again; what came of
        it is in the journal already. Raises Gone where the results are deleted.
        """
        seen: set[str] = set()
        await patiently(self.client, partial(self._download, job, status, seen), poll_seconds)
        for key in job.keys:
            if key not in seen and key not in self.final:
                self.lost.setdefault(key, "the results do not hold it")

    def refuse_account(self) -> None:
        """Raises Stopped where a line told of the key, the model or the account: the next job would meet it, too."""
        if self._account is not None:
            raise Stopped(
                f"{self.client.model.provider} refuses every request: {self._account.reason}",
                where=self.client.model.reference,
                fix=REMEDY[self._account.kind],
            )

    def lines_without_reply(self) -> Counter[str]:
        """Requests that have no reply in the end, by reason."""
        known = self.client.journal.known(list(self.lost))
        reasons = self.lost | {key: problem.text for key, problem in self.final.items()}
        return Counter(reason for key, reason in reasons.items() if key not in known)

    def _refuse(self, key: str, kind: str, reason: str) -> None:
        self.final[key] = Problem("refused" if kind == "refused" else "request", reason, status=400)

    async def _download(self, job: BatchJob, status: Status, seen: set[str]) -> None:
        keys, waiting, num_strays = set(job.keys), dict[str, Line](), 0
        async for line in self.wire.results(self.client.http, job.id):
            if line.key not in keys:
                num_strays += 1
                await self._keep_failure(line.key or f"job:{job.id}", "server", line)
            elif line.key in seen or line.key in waiting:
                continue
            elif (body := await self._reply_in(line)) is not None:
                waiting[line.key] = Line(line.key, body)
                if len(waiting) == GROUP:
                    await self._keep(list(waiting.values()), seen)
                    waiting = {}
        await self._keep(list(waiting.values()), seen)
        self.strays = max(self.strays, num_strays)
        if len(seen) + num_strays < status.num_answered:
            num = status.num_answered
            raise Problem("server", f"the results hold {len(seen)} of the {num} replies that the provider counts")

    async def _reply_in(self, line: Line) -> dict[str, object] | None:
        """The reply of a line that has one. Of any other line the reason is noted, and what came is kept."""
        kind, reason = line.kind, line.reason
        if line.body is not None:
            problem = problem_in(line.body, b"")
            if problem is None:
                self.final.pop(line.key, None)
                return line.body
            kind, reason = problem.kind, problem.text
        if kind in _OF_THE_REQUEST:
            self._refuse(line.key, kind, reason)
        else:
            self.lost[line.key] = reason
        if kind in _OF_THE_ACCOUNT and self._account is None:
            self._account = Line(line.key, None, reason, kind)
        await self._keep_failure(line.key, kind, Line(line.key, None, reason, kind, line.raw))
        return None

    async def _keep_failure(self, key: str, kind: ProblemKind, line: Line) -> None:
        is_final = kind in _OF_THE_REQUEST
        # A later process reads the reason of a refusal from here.
        body = to_json({"error": {"message": line.reason}}) if is_final else line.raw
        if body:
            await self.client.journal.commit_failure(Failure(key, kind, 400 if is_final else 200, body))

    async def _keep(self, lines: Sequence[Line], seen: set[str]) -> None:
        known = self.client.journal.known([line.key for line in lines])
        new = [line for line in lines if line.key not in known and line.key in self.requests]
        books = self.client.books
        await asyncio.gather(
            *(books.keep(self.requests[line.key], line.key, Answer(line.body, b"", {}), "batch") for line in new)
        )
        seen.update(line.key for line in lines)
        self.collected += len(new)
        self.on_progress(len(new), "")
