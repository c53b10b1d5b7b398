"""Requests about batch jobs, which cost nothing, repeated until they are answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from s1kit.progress import say
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.client import Client
from s1kit.providers.patience import SECONDS_WORTH_SAYING, human

T = TypeVar("T")

MAX_FAILURES = 20
"""Failed submissions in a row, or failed looks at a job, before the command gives up."""
MAX_NOT_FOUND = 3
"""Looks at something that a provider has just named and does not find: its machines may not agree yet."""


class Gone(Exception):
    """The provider does not know the job, or has deleted its results."""


async def patiently(client: Client, ask: Callable[[], Awaitable[T]], poll_seconds: float) -> T:
    """Repeat a request until it is answered. Raises Gone for HTTP 404 and 410 that persist, Stopped for a refusal and
    after too many failures."""
    failures = 0
    while True:
        try:
            return await ask()
        except Problem as problem:
            failures += 1
            is_gone = problem.status in (404, 410)
            if is_gone and failures >= MAX_NOT_FOUND:
                raise Gone(str(problem)) from problem
            if not (problem.retriable or is_gone) or failures >= MAX_FAILURES:
                raise Stopped(
                    f"{client.model.provider} does not tell of its batches: {problem}",
                    where=client.model.reference,
                    fix="Run the same command again later; the jobs are remembered.",
                ) from problem
            await wait(problem.retry_after or min(poll_seconds, 2.0**failures), problem)


async def wait(seconds: float, problem: Problem) -> None:
    """Sleep, and tell the user when the wait is long."""
    if seconds >= SECONDS_WORTH_SAYING:
        say(f"batch: waiting {human(seconds)}: {problem}. Ctrl-C ends the run now; the same command goes on later.")
    await asyncio.sleep(seconds)
