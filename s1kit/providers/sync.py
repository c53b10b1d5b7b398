"""Many conversations with one model, from code that is not async: labellers, judges, students.

with Journal(path) as journal:
    for index, reply in chat_many("chat:openai/o3", conversations, journal):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from s1kit.concurrency import in_parallel, run_async
from s1kit.journal import Journal
from s1kit.providers.chat import Chat, Message, Problem, Reply, Stopped
from s1kit.providers.client import Client, open_client


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

    await in_parallel([work() for _ in range(concurrency)])
    if stopped:
        raise stopped[0]
    return [replies[index] for index in range(len(replies))]
