"""Local teachers on several engines: their replies into the journal first; the stage then reads them there."""

from __future__ import annotations

from collections.abc import Iterable

from s1kit.distill.batched import still_open
from s1kit.distill.drawing import Assignment, Verifier
from s1kit.distill.open_teacher import OpenTeachers, engine_options
from s1kit.executors import executor_of
from s1kit.executors.chats import SHARD, Chatting, fill_journal
from s1kit.progress import meter
from s1kit.providers.sync import run_async
from s1kit.recipe import Recipe


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
