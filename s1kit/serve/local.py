"""An engine in this process as a backend: one thread decodes a running batch that requests join and leave.

The thread owns the engine; the event loop sends it commands and gets deltas back, one hand-over a step for all of them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from s1kit.adaptive.answering import check_engine
from s1kit.adaptive.rule import ExitRule
from s1kit.engines.interface import Event, RunningBatch
from s1kit.errors import InputError
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Sampling
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation, Segment
from s1kit.serve.adaptive import decode_adaptively
from s1kit.serve.answer_form import can_constrain
from s1kit.serve.decoding import Delta, End, Job, ThinkingStop
from s1kit.serve.logs import log
from s1kit.serve.refusals import Refusal

News = Segment | Generation
Inbox = asyncio.Queue[list[News]]


class Local:
    """Decodes jobs with an engine that has `tokens`, `context_tokens` and `running_batch()`."""

    features: frozenset[str] = frozenset({"top_k"})

    def __init__(self, engine: object, model: str, rule: ExitRule | None = None) -> None:
        tokens, context = getattr(engine, "tokens", None), getattr(engine, "context_tokens", None)
        make_batch: Callable[[], RunningBatch] | None = getattr(engine, "running_batch", None)
        if not isinstance(tokens, TokenFormat) or not isinstance(context, int) or make_batch is None:
            raise InputError(
                f"the engine of {model} cannot take requests while others run",
                where="--model",
                fix="Start its own server and put the dial in front of that with --upstream, or serve hf:<dir>.",
            )
        if rule is not None:
            check_engine(rule, engine, "--auto")
        if getattr(engine, "takes_grammar", False):
            self.features = self.features | ({"grammar"} if can_constrain() else {"grammar_uninstalled"})
        self.model, self.rule = model, rule
        self.tokens = tokens
        self.context_tokens = context
        self.sampling: Sampling = getattr(engine, "sampling", Sampling())
        self._commands: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._inboxes: dict[int, tuple[asyncio.AbstractEventLoop, Inbox]] = {}
        self._open: dict[int, tuple[asyncio.AbstractEventLoop, Inbox]] = {}
        """The inbox of every job that waits for news, by identity: they are told when the thread dies of a bug."""
        self._has_died = False
        self._batch = make_batch()
        self._thread = threading.Thread(target=self._work, name="s1kit-decode", daemon=True)
        self._thread.start()

    async def check(self) -> str:
        return "the decoding thread has died" if self._has_died else ""

    async def close(self) -> None:
        self._commands.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 10)

    async def decode(self, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        if job.is_auto and self.rule is not None:
            news = decode_adaptively(
                lambda plan: self._decode(plan, job.stop), job.plan, self.rule, job.stop, job.probes
            )
        else:
            news = self._decode(job.plan, job.stop)
        async with aclosing(news) as stream:
            async for one in stream:
                if not isinstance(one, Generation):
                    yield one
                    continue
                if one.ending == "failed":
                    log("engine failed", level=40, note=one.note)
                    raise Refusal(500, f"the engine failed: {one.note}", code="engine_failed")
                is_cut = one.answer_finish in ("length", "loop", "none")
                ending = one.ending if job.plan.thinks else None
                is_stop_string = one.answer_finish == "stop_string"
                yield End(ending, "length" if is_cut else "stop", is_stop_string=is_stop_string, note=one.note)

    async def _decode(self, plan: Plan, stop: ThinkingStop) -> AsyncGenerator[list[Delta] | Generation, None]:
        """The deltas of one plan, then its generation."""
        inbox: Inbox = asyncio.Queue()
        loop = asyncio.get_running_loop()
        ticket: list[int] = []
        self._open[id(inbox)] = (loop, inbox)
        self._commands.put(lambda: self._admit(plan, loop, inbox, ticket))
        # Commands are carried out in order, so the job was admitted before its thinking is ended.
        stop.listen(lambda: self._commands.put(lambda: self._batch.end_thinking(ticket[0])))
        generation: Generation | None = None
        try:
            while generation is None:
                if self._has_died:
                    raise Refusal(500, "the decoding thread has died; the log says why.", code="engine_failed")
                deltas: list[Delta] = []
                for news in await inbox.get():
                    if isinstance(news, Generation):
                        generation = news
                    else:
                        deltas.append(Delta(news.kind, news.origin, news.text, news.num_tokens))
                if deltas:
                    yield deltas
            yield generation
        finally:
            del self._open[id(inbox)]
            if generation is None:
                self._commands.put(lambda: self._cancel(ticket))

    def _admit(self, plan: Plan, loop: asyncio.AbstractEventLoop, inbox: Inbox, ticket: list[int]) -> None:
        number = self._batch.admit(plan, is_streamed=True)
        self._inboxes[number] = (loop, inbox)
        ticket.append(number)

    def _cancel(self, ticket: list[int]) -> None:
        # Commands are carried out in order, so the job was admitted before it is cancelled.
        if self._inboxes.pop(ticket[0], None) is not None:
            self._batch.cancel(ticket[0])

    def _work(self) -> None:
        try:
            self._decode_until_closed()
        finally:
            # Without this a bug in an engine would leave its clients waiting for ever.
            self._has_died = True
            for loop, inbox in list(self._open.values()):
                if not loop.is_closed():
                    loop.call_soon_threadsafe(inbox.put_nowait, [])

    def _decode_until_closed(self) -> None:
        """The thread: commands first, then one step for every running row."""
        while True:
            try:
                command = self._commands.get(block=self._batch.is_idle)
            except queue.Empty:
                pass
            else:
                if command is None:
                    return
                command()
                continue
            try:
                events = list(self._batch.step())
            except RuntimeError as error:
                events = list(self._batch.fail(f"{type(error).__name__}: {error}"[:500]))
            self._hand_over(events)

    def _hand_over(self, events: list[Event]) -> None:
        batches: dict[asyncio.AbstractEventLoop, list[tuple[Inbox, list[News]]]] = {}
        for event in events:
            found = self._inboxes.get(event.ticket)
            if found is None:
                continue
            news: list[News] = [*event.segments]
            if event.generation is not None:
                del self._inboxes[event.ticket]
                news.append(event.generation)
            batches.setdefault(found[0], []).append((found[1], news))
        for loop, batch in batches.items():
            if not loop.is_closed():
                loop.call_soon_threadsafe(_deliver, batch)


def _deliver(batch: list[tuple[Inbox, list[News]]]) -> None:
    for inbox, news in batch:
        inbox.put_nowait(news)
