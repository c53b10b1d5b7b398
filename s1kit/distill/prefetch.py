"""Replies that are asked for as a whole, before the stage reads them from the journal.

Two kinds of teacher need it: those asked through a batch API (`distill.mode = "batch"`), and local ones that decode on
several engines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from s1kit.concurrency import run_async
from s1kit.distill.chat_teacher import ChatTeacher
from s1kit.distill.drawing import Assignment, Verifier, draw, is_settled
from s1kit.distill.open_teacher import OpenTeacher, OpenTeachers, engine_options
from s1kit.errors import InputError
from s1kit.executors import executor_of
from s1kit.executors.chats import SHARD, Chatting, fill_journal
from s1kit.progress import Meter, meter, say
from s1kit.providers.batch.driver import BatchOutcome, ask_batch
from s1kit.providers.chat import Problem
from s1kit.providers.client import Client
from s1kit.recipe import Recipe


def ask_in_batches(
    recipe: Recipe, asked: OpenTeachers, places: Iterable[Assignment], total: int, verifier: Verifier | None
) -> None:
    """Ask all places through the providers' batch APIs. From then on the clients only read the journal.

    One round of batches for each draw; with a verifier only what is not right yet goes into the next.
    """
    teachers = [_askable(each) for each in asked.teachers]
    left = list(places)
    for client, _ in teachers:
        client.only_journal = True
    while left:
        groups = [[place for place in left if place.teacher == number] for number in range(len(teachers))]

        async def run(groups: list[list[Assignment]] = groups) -> None:
            async with asked:
                await asyncio.gather(
                    *(_ask(recipe, *each, group, bar) for each, group in zip(teachers, groups, strict=True) if group)
                )

        with meter("batch", total=total, unit="replies") as bar:
            run_async(run())
        left = [] if verifier is None else run_async(still_open(asked, left, verifier))
        total = len(left)


def _askable(each: OpenTeacher) -> tuple[Client, ChatTeacher]:
    if each.client is None or not isinstance(each.teacher, ChatTeacher):
        raise InputError(
            f"the teacher {each.settings.teacher!r} has no batch API", where="distill.mode", fix="Use mode=online."
        )
    return each.client, each.teacher


async def _ask(recipe: Recipe, client: Client, teacher: ChatTeacher, places: Sequence[Assignment], bar: Meter) -> None:
    requests = [teacher.request(client, place.question, place.draws[0]) for place in places]
    bar.advance(len(client.journal.known([request.key for request in requests])))
    outcome: BatchOutcome = await ask_batch(
        client,
        requests,
        poll_seconds=recipe.distill.poll_seconds,
        on_progress=lambda n, text: bar.advance(n, text),
    )
    client.refused |= outcome.refused
    if outcome.strays:
        say(f"distill: {outcome.strays} lines of results name no request or cannot be read; the journal keeps them.")
    for reason, num in outcome.lost.most_common(4):
        say(f"distill: {num} requests have no reply: {reason}")


def ask_on_engines(
    recipe: Recipe, asked: OpenTeachers, places: Iterable[Assignment], verifier: Verifier | None
) -> None:
    """Ask the local teachers everything. With a verifier, what is not right yet is asked again in the next round."""
    left = [place for place in places if asked.teachers[place.teacher].local is not None]
    executor = executor_of(recipe.distill)
    while left:
        with meter("engines", total=len(left), unit="replies") as bar:
            for number, each in enumerate(asked.teachers):
                if each.local is None:
                    continue
                requests = [
                    each.local.request(each.chat.messages(place.question), place.draws[0])
                    for place in left
                    if place.teacher == number
                ]
                work = Chatting(each.settings.teacher, engine_options(each.settings))
                shard = recipe.distill.engine_shard or SHARD
                fill_journal(executor, work, requests, each.local.journal, bar.advance, shard)
        left = [] if verifier is None else run_async(still_open(asked, left, verifier))


async def still_open(asked: OpenTeachers, places: Sequence[Assignment], verifier: Verifier) -> list[Assignment]:
    """The places whose first draw is wrong, each with the draws that are left."""
    left = []
    for place in places:
        first = Assignment(place.question, place.teacher, place.draws[:1])
        try:
            (trace,) = await draw(first, asked.teachers[place.teacher], verifier)
        except Problem:
            continue  # it is named at the end
        if not is_settled(trace) and len(place.draws) > 1:
            left.append(Assignment(place.question, place.teacher, place.draws[1:]))
    return left
