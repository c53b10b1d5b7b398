"""Many requests through a provider's batch API: split, submitted, polled, collected, and what failed asked again.

A job is in the journal before and after it is submitted, so a killed process finds it again and pays nothing twice; its
replies land in the journal like any other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from s1kit.errors import InputError
from s1kit.journal import BatchJob, Failure
from s1kit.journal.entries import now
from s1kit.providers.batch.wires import AnthropicBatch, BatchWire, GeminiBatch, Line, OpenAIBatch
from s1kit.providers.chat import ChatRequest, Problem, Stopped
from s1kit.providers.classify import error_message, parse_body, problem_in
from s1kit.providers.client import Client
from s1kit.providers.http import Answer, to_json
from s1kit.providers.wires.reading import output_limit

T = TypeVar("T")

MAX_FAILURES = 20
"""Failed submissions in a row, or failed looks at a job, before the command gives up."""
MAX_ROUNDS = 3
"""Times that a request may expire or fail in a batch before it is left missing."""
MAX_JOB_BYTES = 64 * 2**20
"""Largest job, below every provider's limit: a job is in memory while it is submitted."""
INTENT = "intent:"
GROUP = 256


@dataclass
class BatchOutcome:
    """What a batch run did."""

    collected: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    """Requests that were refused for what they are, by key, with the reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """Requests without a reply, by reason, of the last round they were in."""
    jobs: int = 0


async def ask_batch(
    client: Client,
    requests: Iterable[ChatRequest],
    *,
    poll_seconds: float = 60.0,
    on_progress: Callable[[int, str], None] | None = None,
) -> BatchOutcome:
    """Bring the replies to all requests into the journal that a batch can bring.

    Raises InputError when the provider has no batch API, Stopped for a wrong key, CapReached before the cap could be
    overshot. `on_progress` hears how many more replies are there, and of what goes on.
    """
    work = _BatchWork(client, batch_wire(client), {r.key: r for r in requests}, poll_seconds, on_progress)
    work.recall_refusals()
    await work.adopt_open_jobs()
    for _ in range(MAX_ROUNDS):
        missing = work.missing()
        while missing:
            missing = await work.submit_what_fits(missing)
            await work.collect_all()
            missing += work.take_crowded_out()
    work.report_final()
    return work.outcome


def batch_wire(client: Client) -> BatchWire:
    match client.model.provider:
        case "openai":
            return OpenAIBatch(client.model.wire, "/v1/chat/completions")
        case "openai-responses":
            return OpenAIBatch(client.model.wire, "/v1/responses")
        case "anthropic":
            return AnthropicBatch()
        case "gemini":
            return GeminiBatch()
        case other:
            raise InputError(
                f"{other} has no batch API that s1kit knows",
                where="distill.mode",
                fix="Use mode=online, or a teacher of openai, gemini or anthropic.",
            )


@dataclass
class _BatchWork:
    client: Client
    wire: BatchWire
    requests: dict[str, ChatRequest]
    poll_seconds: float
    on_progress: Callable[[int, str], None] | None
    outcome: BatchOutcome = field(default_factory=BatchOutcome)
    open_jobs: dict[str, tuple[BatchJob, float]] = field(default_factory=dict)
    """Job id to the job and the dollars reserved for it."""
    final: dict[str, str] = field(default_factory=dict)
    """Requests refused for what they are, with the reason: not asked again."""
    lost: dict[str, str] = field(default_factory=dict)
    crowded_out: list[str] = field(default_factory=list)
    """Requests of jobs that the provider refused because too many tokens wait in its queue already."""
    max_requests: int = 10**9
    """In one job; halved when a job alone is more than the provider's queue takes."""
    num_failed_submissions: int = 0

    def recall_refusals(self) -> None:
        """What an earlier process was told is not bought again."""
        for key, failure in self.client.journal.refused(list(self.requests)).items():
            self.final[key] = error_message(parse_body(failure.body)) or failure.kind

    def missing(self) -> list[str]:
        known = self.client.journal.known(list(self.requests))
        under_way = {key for job, _ in self.open_jobs.values() for key in job.keys}
        gone = known | under_way | self.final.keys()
        return [key for key in self.requests if key not in gone]

    async def adopt_open_jobs(self) -> None:
        """Jobs an earlier process submitted; one whose answer was lost is looked for at the provider."""
        journal, model = self.client.journal, self.client.model
        for job in journal.jobs(model.provider, model.name, state="open"):
            if self.requests.keys().isdisjoint(job.keys):
                continue  # another run's
            if job.id.startswith(INTENT):
                found = await self._look_for(job)
                if found is None:
                    continue
                job = found
            await self._hold(job)
        if self.open_jobs:
            self._say(0, f"{len(self.open_jobs)} batch jobs were under way")
            await self.collect_all()

    async def _look_for(self, intent: BatchJob) -> BatchJob | None:
        """The job that an intent became, if it became one; the intent is closed either way."""
        journal, model = self.client.journal, self.client.model
        tag = intent.id.removeprefix(INTENT)
        ask = partial(self.wire.find, self.client.http, tag, len(intent.keys), intent.created)
        found = await self._patiently(ask)
        known = {job.id for job in journal.jobs(model.provider, model.name, state="")}
        journal.put_job(intent.model_copy(update={"state": "lost"}))
        for job_id in found:
            if job_id not in known:
                job = intent.model_copy(update={"id": job_id})
                journal.put_job(job)
                return job
        return None

    async def submit_what_fits(self, missing: list[str]) -> list[str]:
        """Submit jobs within the provider's limits and the cap; returns the keys that must wait for money."""
        for keys, lines in self._chunks(missing):
            keys, lines = self._affordable(keys, lines)
            if keys:
                await self._submit(keys, lines)
        under_way = {key for job, _ in self.open_jobs.values() for key in job.keys}
        left = [key for key in missing if key not in under_way]
        crowded = set(self.crowded_out)
        left = [key for key in left if key not in crowded]
        if left and not self.open_jobs and self.client.spend_cap.cap_usd is not None:
            most = self._most(left[:1])
            if most > self.client.spend_cap.account.free + 1e-12:
                raise self.client.spend_cap.account.cap_reached(most)
        return left

    async def collect_all(self) -> None:
        """Poll until every open job has ended, collecting each as it does."""
        while self.open_jobs:
            for job_id in list(self.open_jobs):
                status = await self._patiently(partial(self.wire.status, self.client.http, job_id))
                if status.state == "failed" and status.is_crowded:
                    await self._make_room(job_id, status.reason)
                elif status.state == "failed":
                    self._close(job_id, "lost")
                    raise Stopped(
                        f"the batch job {job_id} was refused: {status.reason}",
                        where=self.client.model.reference,
                        fix="Correct what it names, then run the same command again.",
                    )
                elif status.state == "ended":
                    await self._collect(job_id)
                else:
                    self._say(0, f"{job_id}: {status.done}/{len(self.open_jobs[job_id][0].keys)}")
            if self.open_jobs:
                await asyncio.sleep(self.poll_seconds)

    async def _make_room(self, job_id: str, reason: str) -> None:
        """Wait for the provider's queue: for the other jobs, or, where there are none, with smaller jobs."""
        job, _ = self.open_jobs[job_id]
        self._close(job_id, "lost")
        if not self.open_jobs:
            if len(job.keys) == 1:
                raise Stopped(
                    f"one request alone is more than the batch queue takes: {reason}",
                    where=self.client.model.reference,
                    fix="Use mode=online, or ask the provider for a higher limit.",
                )
            self.max_requests = max(1, len(job.keys) // 2)
            await asyncio.sleep(self.poll_seconds)
        self.crowded_out += job.keys
        self._say(0, f"the provider's batch queue is full ({reason}): waiting")

    def take_crowded_out(self) -> list[str]:
        """The requests to submit again."""
        keys, self.crowded_out = self.crowded_out, []
        return keys

    def report_final(self) -> None:
        self.outcome.refused = dict(self.final)
        journal_has = self.client.journal.known(list(self.lost))
        for key, reason in {**self.lost, **self.final}.items():
            if key not in journal_has:
                self.outcome.lost[reason] += 1

    async def _submit(self, keys: list[str], lines: list[bytes]) -> None:
        journal, model = self.client.journal, self.client.model
        tag = "s1kit-" + hashlib.sha256("".join(keys).encode()).hexdigest()[:24]
        created = now()
        intent = BatchJob(id=INTENT + tag, provider=model.provider, model=model.name, created=created, keys=tuple(keys))
        journal.put_job(intent)
        try:
            job_id = await self.wire.submit(self.client.http, model.name, tag, lines)
        except Problem as problem:
            # A job whose answer was lost may have been taken all the same.
            was_lost = problem.kind in ("timeout", "connection", "server")
            if was_lost and (job := await self._look_for(intent)) is not None:
                await self._take(job)
                return
            journal.put_job(intent.model_copy(update={"state": "lost"}))
            self.num_failed_submissions += 1
            if problem.retriable and self.num_failed_submissions < MAX_FAILURES:
                self._say(0, f"a batch was not taken: {problem}")
                await asyncio.sleep(problem.retry_after or self.poll_seconds)
                return
            raise Stopped(
                f"{model.provider} refuses the batch: {problem}",
                where=model.reference,
                fix="Check the key and settings.",
            ) from problem
        journal.put_job(intent.model_copy(update={"state": "lost"}))
        await self._take(intent.model_copy(update={"id": job_id}))

    async def _take(self, job: BatchJob) -> None:
        self.num_failed_submissions = 0
        self.client.journal.put_job(job)
        self.outcome.jobs += 1
        await self._hold(job)
        self._say(0, f"submitted {job.id} with {len(job.keys)} requests")

    async def _hold(self, job: BatchJob) -> None:
        dollars = self._most([key for key in job.keys if key in self.requests])
        self.client.spend_cap.hold_job(job.id, dollars)
        self.open_jobs[job.id] = (job, dollars)

    async def _collect(self, job_id: str) -> None:
        """Write down every reply of an ended job, whatever their order and however often each comes.

        A download that breaks off is begun again; what came of it is in the journal already.
        """
        job, _ = self.open_jobs[job_id]
        seen: set[str] = set()
        await self._patiently(partial(self._download, job_id, set(job.keys), seen))
        for key in job.keys:
            if key not in seen and key not in self.final:
                self.lost.setdefault(key, "the results do not hold it")
        self._close(job_id, "collected")

    async def _download(self, job_id: str, keys: set[str], seen: set[str]) -> None:
        waiting: dict[str, Line] = {}
        async for line in self.wire.results(self.client.http, job_id):
            if line.key in seen or line.key not in keys:
                continue
            if line.body is not None and (problem := problem_in(line.body, b"")) is not None:
                line = Line(line.key, None, problem.text, is_final=problem.is_of_this_request)
            if line.body is None:
                (self.final if line.is_final else self.lost)[line.key] = line.reason
                if line.is_final:
                    await self._keep_refusal(line)
                continue
            waiting[line.key] = line
            if len(waiting) == GROUP:
                await self._keep(list(waiting.values()), seen)
                waiting = {}
        await self._keep(list(waiting.values()), seen)

    async def _keep_refusal(self, line: Line) -> None:
        body = to_json({"error": {"message": line.reason}})
        await self.client.journal.commit_failure(Failure(line.key, "request", 400, body))

    async def _keep(self, lines: Sequence[Line], seen: set[str]) -> None:
        known = self.client.journal.known([line.key for line in lines])
        new = [line for line in lines if line.key not in known and line.key in self.requests]
        await asyncio.gather(
            *(
                self.client.books.keep(self.requests[line.key], line.key, Answer(line.body, b"", {}), "batch")
                for line in new
            )
        )
        seen.update(line.key for line in lines)
        self.outcome.collected += len(new)
        self._say(len(new), "")

    def _close(self, job_id: str, state: str) -> None:
        job, dollars = self.open_jobs.pop(job_id)
        self.client.spend_cap.drop_job(job_id, dollars)
        self.client.journal.put_job(job.model_copy(update={"state": state}))

    def _chunks(self, keys: Sequence[str]) -> Iterator[tuple[list[str], list[bytes]]]:
        chunk: list[str] = []
        lines: list[bytes] = []
        size = 0
        limit = min(self.wire.max_bytes, MAX_JOB_BYTES)
        for key in keys:
            line = self.wire.line(key, self.requests[key])
            if chunk and (len(chunk) >= min(self.wire.max_requests, self.max_requests) or size + len(line) + 1 > limit):
                yield chunk, lines
                chunk, lines, size = [], [], 0
            chunk.append(key)
            lines.append(line)
            size += len(line) + 1
        if chunk:
            yield chunk, lines

    def _affordable(self, keys: list[str], lines: list[bytes]) -> tuple[list[str], list[bytes]]:
        spend_cap = self.client.spend_cap
        if spend_cap.cap_usd is None:
            return keys, lines
        free = spend_cap.account.free
        num = 0
        for key in keys:
            free -= self._most([key])
            if free < 0:
                break
            num += 1
        return keys[:num], lines[:num]

    def _most(self, keys: Iterable[str]) -> float:
        """The most that the requests can cost in a batch."""
        wire, cap = self.client.model.wire, self.client.spend_cap
        if cap.price is None:
            return 0.0
        requests = [self.requests[key] for key in keys]
        return sum(cap.most(r.max_input_tokens, output_limit(wire.call(r).body), is_batch=True) for r in requests)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """A question that costs nothing, again until it is answered: a job is worth waiting for."""
        failures = 0
        while True:
            try:
                return await ask()
            except Problem as problem:
                failures += 1
                if not problem.retriable or failures >= MAX_FAILURES:
                    raise Stopped(
                        f"{self.client.model.provider} does not tell of its batches: {problem}",
                        where=self.client.model.reference,
                        fix="Run the same command again later; the jobs are remembered.",
                    ) from problem
                await asyncio.sleep(problem.retry_after or min(self.poll_seconds, 2.0**failures))

    def _say(self, num: int, text: str) -> None:
        if self.on_progress is not None:
            self.on_progress(num, text)
