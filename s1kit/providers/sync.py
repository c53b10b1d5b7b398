"""Many conversations with one model, from code that is not async: labellers, judges, students.

with Journal(path) as journal:
    for index, reply in chat_many("chat:openai/o3", conversations, journal):
        ...
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, TypeVar

from s1kit.journal import Journal
from s1kit.providers.chat import Chat, Message, Problem, Reply, Stopped
from s1kit.providers.client import Client, open_client

T = TypeVar("T")

SWITCH_SECONDS = 0.0005
"""How long a thread waits for a busy one to let it have the interpreter."""


def chat_many(
    model: str | Chat,
    conversations: Iterable[Sequence[Message]],
    journal: Journal,
    *,
    concurrency: int = 64,
    on_reply: Callable[[int, Reply], None] | None = None,
    **options: Any,
) -> list[Reply]:
    """The replies, in the order of the conversations, each asked at most once ever.

    `options` are those of `open_client`. A request that failed for good is a reply with finish reason `failed` and a
    note. Raises Stopped when nothing more can be asked; what was answered until then is in the journal.
    """

    async def run() -> list[Reply]:
        if isinstance(model, str):
            async with open_client(model, journal, **options) as client:
                return await _ask_all(client, conversations, concurrency, on_reply)
        if isinstance(model, Client):
            async with model as client:
                return await _ask_all(client, conversations, concurrency, on_reply)
        return await _ask_all(model, conversations, concurrency, on_reply)

    return run_async(run())


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, on uvloop where that is installed: a third less time for many small requests."""
    factory = None
    if find_spec("uvloop") is not None:
        import uvloop

        factory = uvloop.new_event_loop
    with _many_small_requests(), asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(work)


@contextmanager
def _many_small_requests() -> Iterator[None]:
    """Settings of the interpreter for a busy event loop beside the thread that writes the journal.

    Garbage is collected less often: a request allocates hundreds of objects, few of them in cycles, and collections at
    Python's default thresholds took a fifth of the CPU time. The thread switch interval is shortened: the writing
    thread waits that long for the interpreter lock once a reply, and at the default of 5 ms replies reached the disk a
    third of a second late.
    """
    before, seconds = gc.get_threshold(), sys.getswitchinterval()
    gc.set_threshold(max(before[0], 50_000), *(max(each, 50) for each in before[1:]))
    sys.setswitchinterval(min(seconds, SWITCH_SECONDS))
    try:
        yield
    finally:
        gc.set_threshold(*before)
        sys.setswitchinterval(seconds)


async def _ask_all(
    chat: Chat,
    conversations: Iterable[Sequence[Message]],
    concurrency: int,
    on_reply: Callable[[int, Reply], None] | None,
) -> list[Reply]:
    replies: dict[int, Reply] = {}
    stopped: list[Stopped] = []
    pending = enumerate(conversations)

    async def work() -> None:
        for index, messages in pending:
            try:
                reply = await chat.chat(messages)
            except Problem as problem:
                reply = Reply(finish_reason="failed", note=str(problem))
            except Stopped as error:
                stopped.append(error)
                return
            replies[index] = reply
            if on_reply is not None:
                on_reply(index, reply)
            if stopped:
                return  # what was in flight is finished, for it is paid

    await in_parallel(work, concurrency)
    if stopped:
        raise stopped[0]
    return [replies[index] for index in range(len(replies))]


async def in_parallel(
    work: Callable[[], Coroutine[Any, Any, None]], num: int, tasks: list[asyncio.Task[None]] | None = None
) -> None:
    """Run `num` workers to their end. The first exception stops the others and is raised as it is.

    `tasks`, where given, is filled with the workers, for whoever wants to cancel them.
    """
    tasks = [] if tasks is None else tasks
    tasks += [asyncio.create_task(work()) for _ in range(num)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
