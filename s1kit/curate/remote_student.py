"""A student behind a provider's API, in the shape of an engine; each attempt is paid once, through the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from s1kit.concurrency import in_parallel
from s1kit.forcing.request import Request
from s1kit.journal import Journal
from s1kit.progress import meter
from s1kit.providers.chat import Chat, Parameters, Problem, Reply
from s1kit.providers.client import Client, open_client
from s1kit.recipe import Curate
from s1kit.records import Generation, Segment

CONCURRENCY = 64


class RemoteStudent:
    """Answers requests in plain chat. `chat` stands in for a provider in tests."""

    def __init__(
        self, model: str, config: Curate, chat: Chat | None = None, journal_path: Path = Path("journal.sqlite")
    ) -> None:
        self._model, self._config, self._chat, self._journal_path = model, config, chat, journal_path

    def generate(self, requests: Iterable[Request]) -> Iterator[Generation]:
        """One generation a request, in order; a request that failed for good has no answer and says why."""
        asked = list(requests)
        for request, reply in zip(asked, asyncio.run(self._ask(asked)), strict=True):
            segments = (
                (Segment(origin="sampled", kind="answer", text=reply.answer, num_tokens=0),) if reply.answer else ()
            )
            yield Generation(
                question_id=request.question_id,
                repeat=request.repeat,
                segments=segments,
                ending="closed" if segments else "failed",
                seam="text",
                note=reply.note,
            )

    async def _ask(self, requests: list[Request]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        waiting = iter(enumerate(requests))
        async with AsyncExitStack() as stack:
            journal = stack.enter_context(Journal(self._journal_path))
            bar = stack.enter_context(meter(f"curate: {self._model}", len(requests), "attempts"))
            chat = self._chat
            if chat is None:
                chat = await stack.enter_async_context(self._client(journal, requests))

            student = chat

            async def work() -> None:
                for number, request in waiting:
                    try:
                        message = {"role": "user", "content": request.question}
                        replies[number] = await student.chat([message], draw=request.repeat)
                    except Problem as problem:
                        replies[number] = Reply(finish_reason="failed", note=str(problem))
                    bar.advance()

            await in_parallel([work() for _ in range(CONCURRENCY)])
        return [replies[number] for number in range(len(requests))]

    def _client(self, journal: Journal, requests: list[Request]) -> Client:
        temperature = requests[0].temperature if requests else 0.0
        parameters = Parameters(max_output_tokens=self._config.attempt_tokens, temperature=temperature, thinking=False)
        return open_client(self._model, journal, parameters=parameters)
