"""Many requests through a provider's batch API: split, submitted, polled, collected, and what failed asked again.

A job is in the journal before and after it is submitted, so a killed process finds it again and pays nothing twice; its
replies land in the journal like any other.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from s1kit.errors import InputError
from s1kit.journal import BatchJob
from s1kit.journal.entries import now
from s1kit.progress import say
from s1kit.providers.batch.anthropic import AnthropicBatch
from s1kit.providers.batch.collection import Collector
from s1kit.providers.batch.gemini import GeminiBatch
from s1kit.providers.batch.openai import OpenAIBatch
from s1kit.providers.batch.patiently import MAX_FAILURES, Gone, patiently, wait
from s1kit.providers.batch.sizes import JobSizes
from s1kit.providers.batch.wire import BatchWire, Status
from s1kit.providers.chat import ChatRequest, Problem, Stopped
from s1kit.providers.client import Client

MAX_ROUNDS = 3
"""Times that a request may expire or fail in a batch before it is left missing."""
INTENT = "intent:"
"""What the id of a job begins with that is about to be submitted."""
HOURS_OF_A_JOB = 48.0
"""A job that a provider does not know is given up once it is so old: results take a day at most."""


@dataclass
class BatchOutcome:
    """What a batch run did."""

    collected: int = 0
    refused: dict[str, Problem] = field(default_factory=dict)
    """Requests that were refused for what they are, by key."""
    lost: Counter[str] = field(default_factory=Counter)
    """Requests without a reply, by reason, of the last round they were in."""
    jobs: int = 0
    strays: int = 0
    """Lines of results that name no request of their job, or cannot be read; they are kept as failures."""


async def ask_batch(
    client: Client,
    requests: Iterable[ChatRequest],
    *,
    poll_seconds: float = 60.0,
    on_progress: Callable[[int, str], None] | None = None,
) -> BatchOutcome:
    """Ask all requests through the batch API and write their replies to the journal.

    Raises InputError when the provider has no batch API, Stopped for a wrong key and for a job that was cancelled,
    CapReached before the cap could be overshot. `on_progress` hears how many more replies are there, and of what goes
    on.
    """
    progress = on_progress or (lambda num, text: None)
    asked, wire = {r.key: r for r in requests}, batch_wire(client)
    collector, sizes = Collector(client, wire, asked, progress), JobSizes(client, wire, asked)
    work = _BatchWork(client, wire, asked, poll_seconds, progress, sizes, collector)
    collector.recall_refusals()
    await work.adopt_open_jobs()
    for _ in range(MAX_ROUNDS):
        missing = work.missing()
        while missing:
            missing = await work.submit_what_fits(missing)
            await work.collect_all()
            missing += work.take_crowded_out()
    lost = collector.lines_without_reply()
    return BatchOutcome(collector.collected, dict(collector.final), lost, work.num_jobs, collector.strays)


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
    on_progress: Callable[[int, str], None]
    sizes: JobSizes
    collector: Collector
    open_jobs: dict[str, tuple[BatchJob, float]] = field(default_factory=dict)
    """Job id to the job and the dollars reserved for it."""
    crowded_out: list[str] = field(default_factory=list)
    """Requests of jobs that the provider refused because too many tokens wait in its queue already."""
    num_failed_submissions: int = 0
    num_jobs: int = 0

    def missing(self) -> list[str]:
        known = self.client.journal.known(list(self.requests))
        gone = known | self._under_way() | self.collector.final.keys()
        return [key for key in self.requests if key not in gone]

    def _under_way(self) -> set[str]:
        return {key for job, _ in self.open_jobs.values() for key in job.keys}

    async def adopt_open_jobs(self) -> None:
        """Jobs an earlier process submitted; one whose answer was lost is looked for at the provider."""
        journal, model = self.client.journal, self.client.model
        missing = set(self.missing())
        for job in journal.jobs(model.provider, model.name, state="open"):
            if missing.isdisjoint(job.keys):
                continue  # another run's
            if job.id.startswith(INTENT):
                found = await self._look_for(job)
                if found is None:
                    continue
                job = found
            self._hold(job)
        if self.open_jobs:
            self.on_progress(0, f"{len(self.open_jobs)} batch jobs were under way")
            await self.collect_all()

    async def _look_for(self, intent: BatchJob) -> BatchJob | None:
        """Find the job of a submission whose answer was lost; None where the provider has none.

        The submission's record is closed either way.
        """
        journal, model = self.client.journal, self.client.model
        tag = intent.id.removeprefix(INTENT)
        ask = partial(self.wire.find, self.client.http, tag, len(intent.keys), intent.created)
        try:
            found = await patiently(self.client, ask, self.poll_seconds)
        except Gone as gone:
            raise Stopped(
                f"{model.provider} does not list its batches: {gone}",
                where=model.reference,
                fix="Check the base URL; until the jobs are listed, nothing is submitted twice.",
            ) from gone
        known = {job.id for job in journal.jobs(model.provider, model.name, state="")}
        journal.put_job(intent.model_copy(update={"state": "lost"}))
        for job_id in found:
            if job_id not in known:
                job = intent.model_copy(update={"id": job_id})
                journal.put_job(job)
                return job
        return None

    # ---- submitting -------------------------------------------------------------------------------------------------

    async def submit_what_fits(self, missing: list[str]) -> list[str]:
        """Submit jobs within the provider's limits and the cap; returns the keys that must wait for money."""
        for keys, lines in self.sizes.chunks(missing):
            num = self.sizes.num_affordable(keys)
            if num:
                await self._submit(keys[:num], lines[:num])
        gone = self._under_way() | set(self.crowded_out)
        left = [key for key in missing if key not in gone]
        account = self.client.spend_cap.account
        if left and not self.open_jobs and account.cap_usd is not None:
            most = self.sizes.most(left[:1])
            if most > account.free + 1e-12:
                raise account.cap_reached(most)
        return left

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
                self._take(job)
                return
            journal.put_job(intent.model_copy(update={"state": "lost"}))
            self.num_failed_submissions += 1
            if problem.retriable and self.num_failed_submissions < MAX_FAILURES:
                self.on_progress(0, f"a batch was not taken: {problem}")
                await wait(problem.retry_after or self.poll_seconds, problem)
                return
            raise Stopped(
                f"{model.provider} refuses the batch: {problem}",
                where=model.reference,
                fix="Check the key and settings.",
            ) from problem
        journal.put_job(intent.model_copy(update={"state": "lost"}))
        self._take(intent.model_copy(update={"id": job_id}))

    def _take(self, job: BatchJob) -> None:
        self.num_failed_submissions = 0
        self.client.journal.put_job(job)
        self.num_jobs += 1
        self._hold(job)
        self.on_progress(0, f"submitted {job.id} with {len(job.keys)} requests")

    def _hold(self, job: BatchJob) -> None:
        dollars = self.sizes.most([key for key in job.keys if key in self.requests])
        self.client.spend_cap.hold_job(job.id, dollars)
        self.open_jobs[job.id] = (job, dollars)

    # ---- polling ----------------------------------------------------------------------------------------------------

    async def collect_all(self) -> None:
        """Poll until every open job has ended, collecting each as it does."""
        while self.open_jobs:
            for job_id in list(self.open_jobs):
                try:
                    await self._look_at(job_id)
                except Gone as gone:
                    self._give_up(job_id, str(gone))
            self.collector.refuse_account()
            if self.open_jobs:
                await asyncio.sleep(self.poll_seconds)

    async def _look_at(self, job_id: str) -> None:
        job, _ = self.open_jobs[job_id]
        status = await patiently(self.client, partial(self.wire.status, self.client.http, job_id), self.poll_seconds)
        if status.state == "running":
            self.on_progress(0, f"{job_id}: {status.done}/{len(job.keys)}")
        elif status.state == "ended":
            await self._collect(job, status)
        elif status.is_crowded:
            await self._make_room(job_id, status.reason)
        else:
            self._close(job_id, "lost")
            raise Stopped(
                f"the batch job {job_id} was refused: {status.reason}",
                where=self.client.model.reference,
                fix="Correct what it names, then run the same command again.",
            )

    async def _collect(self, job: BatchJob, status: Status) -> None:
        try:
            await self.collector.collect(job, status, self.poll_seconds)
        except Gone as gone:  # the job is known, so its results are deleted, for good
            say(f"batch: the results of {job.id} are deleted ({gone}); its requests are asked again.")
            self._close(job.id, "lost")
            return
        # Replies to requests of another run cannot be written down here; that run collects them.
        others = [key for key in job.keys if key not in self.requests]
        is_shared = len(self.client.journal.known(others)) < len(others)
        self._close(job.id, "open" if is_shared else "collected")
        if status.is_cancelled and self._lacks_replies(job):
            raise Stopped(
                f"the batch job {job.id} was cancelled; the replies that it had are kept",
                where=self.client.model.reference,
                fix="Run the same command again to ask for the rest, in a new job or with distill.mode=online.",
            )

    def _lacks_replies(self, job: BatchJob) -> bool:
        """Whether a request of this run has no reply: a job may be done by the time it is cancelled."""
        asked = [key for key in job.keys if key in self.requests and key not in self.collector.final]
        return len(self.client.journal.known(asked)) < len(asked)

    def _give_up(self, job_id: str, reason: str) -> None:
        """Forget a job that the provider does not know. Raises Stopped while it is too young to be deleted."""
        job, _ = self.open_jobs[job_id]
        age = (datetime.now(UTC) - datetime.fromisoformat(job.created)).total_seconds() / 3600
        if age < HOURS_OF_A_JOB:
            raise Stopped(
                f"{self.client.model.provider} does not know the batch job {job_id}: {reason}",
                where=self.client.model.reference,
                fix=f"Use the key of the account that submitted it. In {HOURS_OF_A_JOB - age:.0f} hours it is given up,"
                " and its requests are asked again.",
            )
        say(f"batch: {job_id} is not known to the provider any more; its requests are asked again.")
        self._close(job_id, "lost")

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
            self.sizes.max_requests = max(1, len(job.keys) // 2)
            await asyncio.sleep(self.poll_seconds)
        self.crowded_out += job.keys
        self.on_progress(0, f"the provider's batch queue is full ({reason}): waiting")

    def take_crowded_out(self) -> list[str]:
        """The requests to submit again."""
        keys, self.crowded_out = self.crowded_out, []
        return keys

    def _close(self, job_id: str, state: str) -> None:
        job, dollars = self.open_jobs.pop(job_id)
        self.client.spend_cap.drop_job(job_id, dollars)
        self.client.journal.put_job(job.model_copy(update={"state": state}))
