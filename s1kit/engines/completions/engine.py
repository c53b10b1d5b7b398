"""The engine: a blocking adapter of the async client, which decodes all requests in an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Iterator
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from s1kit.completions.capabilities import Capabilities, Seam, neutral_settings
from s1kit.completions.decoding import decode
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import GONE, Farm, Member
from s1kit.completions.protocol import CompletionSettings
from s1kit.engines.interface import PlanningEngine
from s1kit.errors import InputError
from s1kit.forcing.plain_text import CUT, guarded
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import OnSegment, Request
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.transcript import Transcript
from s1kit.records import Generation, Segment

_NUM_TRIES = 3
"""Attempts at one completion whose failure may pass and that has returned nothing."""
_RETRY_SECONDS = 0.5
"""Before the second try; twice as long before the third."""


_News = tuple[int, Segment] | Generation | None
"""A segment to show, a generation, or the end of all of them."""


class _Elsewhere(Exception):
    """A request is to be begun again at another server."""


class EngineLoop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s1kit-completions", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def close(self) -> None:
        """Stop the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class CompletionsEngine(PlanningEngine):
    """One or several servers of a model, and how to talk to them."""

    farm: Farm
    model: str
    """Its name there."""
    capabilities: Capabilities
    tokens: TokenFormat
    context_tokens: int
    num_parallel: int = 32
    """Requests under way at once, at each server; it batches them."""
    loop: EngineLoop = field(default_factory=EngineLoop)

    @property
    def mode(self) -> Seam:
        """What crosses the seams: token ids, or text."""
        return self.capabilities.seam

    def plan(self, request: Request) -> Plan:
        """The request, resolved; InputError when it cannot be honoured."""
        dialect = self.capabilities.dialect
        if request.temperature and request.top_k and "top_k" not in dialect.features:
            raise InputError(
                f"top_k is {request.top_k}, and whether a server of kind {dialect.name} heeds it is not known",
                where="request.top_k",
                fix="Leave it out, use top_p, or say what the server is: ,kind=vllm, sglang or llama.cpp.",
            )
        turns = [turn["content"] for turn in request.messages if turn["role"] != "assistant"]
        texts = [request.question, request.system or "", *turns]
        if self.mode == "text" and any(CUT in guarded(self.tokenizer, self.format.delimiters, text) for text in texts):
            raise InputError(
                "the question spells a special token of the model, and this server, which takes text, would read it so",
                where="request.question",
                fix="Write it another way, or use a server that takes token ids (vLLM), or an engine in this process.",
            )
        return super().plan(request)

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish; a request that the server fails is a generation that says why."""
        plans = [self.plan(r) for r in requests]
        news: SimpleQueue[_News] = SimpleQueue()
        running = self.loop.submit(self._decode_all(plans, news, on_segment is not None))
        try:
            while (new := news.get()) is not None:
                if isinstance(new, Generation):
                    yield new
                elif on_segment is not None:
                    on_segment(*new)
            running.result()
        finally:
            running.cancel()

    def close(self) -> None:
        """Close the connections and the thread."""
        close_farm(self.farm, self.loop)

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """What each server did (see `Farm.figures`)."""
        return self.farm.figures()

    def _capacity(self, is_streamed: bool) -> int:
        """Requests under way at one server: one where they would disturb each other.

        transformers serve has one random number generator for all. llama-cpp-python's server breaks off a stream when
        another request comes.
        """
        is_alone = self.capabilities.dialect.name == "transformers" or (is_streamed and self.mode == "text")
        return 1 if is_alone else self.num_parallel

    async def _decode_all(self, plans: list[Plan], news: SimpleQueue[_News], is_streamed: bool) -> None:
        waiting = iter(enumerate(plans))
        self.farm.capacity = self._capacity(is_streamed)
        workers: set[asyncio.Task[None]] = set()

        async def work() -> None:
            for index, plan in waiting:
                news.put(await self._decode_one(index, plan, news if is_streamed else None))

        def hire(num_servers: int = 1) -> None:
            num = min(self.farm.capacity * num_servers, len(plans))
            workers.update(asyncio.create_task(work()) for _ in range(num))

        hire(len(self.farm.members))
        self.farm.on_join.append(hire)
        try:
            while workers:  # those that are hired meanwhile are waited for in the next turn
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                workers -= done
                for task in done:
                    task.result()
        finally:
            self.farm.on_join.remove(hire)
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            news.put(None)

    async def _decode_one(self, index: int, plan: Plan, news: SimpleQueue[_News] | None) -> Generation:
        """One request; one that its server fails is begun again at another, where there is one."""
        tries = 2 * len(self.farm.members)
        while True:
            tries -= 1
            try:
                async with self.farm.place(plan.prompt_ids) as member:
                    return await self._decode_at(member, index, plan, news, is_last=tries <= 0)
            except ServerFailed as failure:
                return self._failed(plan, failure, [])
            except _Elsewhere:
                continue

    async def _decode_at(
        self, member: Member, index: int, plan: Plan, news: SimpleQueue[_News] | None, is_last: bool
    ) -> Generation:
        """One request at one server. Raises _Elsewhere where the server is gone and another one should be asked."""
        settings = CompletionSettings(neutral_settings(self.capabilities.dialect, plan.request))
        # Ids are always streamed, so that thinking that repeats itself is broken off.
        in_events = news is not None or self.mode == "ids"
        is_alone = len(self.farm.members) == 1
        delays = tuple(_RETRY_SECONDS * 2**n for n in range(_NUM_TRIES - 1)) if is_alone else ()
        work = decode(
            member.server, self.capabilities, self.model, plan, settings, in_events=in_events, retry_after=delays
        )
        came: list[Segment] = []
        try:
            async with aclosing(work) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Generation):
                        member.done += 1
                        member.tokens += piece.thinking_tokens + piece.answer_tokens
                        return piece
                    came.append(Segment.of_ids(piece.origin, piece.kind, piece.text, piece.ids))
                    if news is not None:
                        news.put((index, came[-1]))
        except ServerFailed as failure:
            if not is_alone and failure.kind in GONE:
                self.farm.leave_out(member, failure)
                # What was shown cannot be taken back.
                if not is_last and not (came and news is not None):
                    raise _Elsewhere from failure
            else:
                member.failed += 1
            return self._failed(plan, failure, came)
        raise AssertionError("decode ends with a generation")

    def _failed(self, plan: Plan, failure: ServerFailed, came: list[Segment]) -> Generation:
        """A generation that keeps what came and says why there is no more."""
        said = f": {failure.said}" if failure.said and failure.said not in str(failure) else ""
        update = {"ending": "failed", "note": f"{failure}{said}"[:500], "seam": self.mode}
        return Transcript(plan).generation().model_copy(update=update | {"segments": _merged(came)})


def close_farm(farm: Farm, loop: EngineLoop) -> None:
    """Close the connections, then the thread of the loop. Does nothing when that was done."""
    if not loop.is_closed:
        loop.submit(farm.close()).result(10)
        loop.close()


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one kind and origin as one."""
    merged: list[Segment] = []
    for s in segments:
        last = merged[-1] if merged else None
        if last is not None and (last.kind, last.origin) == (s.kind, s.origin):
            merged[-1] = Segment.of_ids(s.origin, s.kind, last.text + s.text, (*last.token_ids, *s.token_ids))
        else:
            merged.append(s)
    return tuple(merged)
