"""`distill.mode = "batch"`: bring the replies into the journal through a batch API; the stage then reads them there."""

from __future__ import annotations

from collections.abc import Iterator

from s1kit.distill.chat_teacher import ChatTeacher
from s1kit.distill.open_teacher import Asked
from s1kit.errors import InputError
from s1kit.progress import meter, say
from s1kit.providers.batch.driver import Outcome, ask_batch
from s1kit.providers.sync import run_async
from s1kit.recipe import Recipe
from s1kit.records import Question


def ask_in_batches(recipe: Recipe, asked: Asked, places: Iterator[tuple[Question, int]], total: int) -> Outcome:
    """Ask all places through the provider's batch API. From then on the client only reads the journal."""
    client, teacher = asked.client, asked.teacher
    if client is None or not isinstance(teacher, ChatTeacher):
        raise InputError(
            f"the teacher {recipe.distill.teacher!r} has no batch API", where="distill.mode", fix="Use mode=online."
        )
    requests = [client.request(teacher.messages(question), draw) for question, draw in places]

    async def run() -> Outcome:
        async with client:
            return await ask_batch(
                client,
                requests,
                poll_seconds=recipe.distill.poll_seconds,
                on_progress=lambda n, text: bar.advance(n, text),
            )

    with meter("batch", total=total, unit="replies") as bar:
        bar.advance(len(client.journal.known([request.key for request in requests])))
        outcome = run_async(run())
    client.only_journal = True
    client.refused = outcome.refused
    for reason, num in outcome.lost.most_common(4):
        say(f"distill: {num} requests have no reply: {reason}")
    return outcome
