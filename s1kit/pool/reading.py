"""The sources of a recipe as one pool, read as often as needed, a batch in memory at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from s1kit.errors import InputError
from s1kit.pool.sources import expand, label, read_source
from s1kit.progress import say
from s1kit.questions import Reject
from s1kit.recipe import Collect
from s1kit.records import Question

BATCH = 512
"""Rows looked at together."""


class Pool:
    """The sources of a recipe, read as often as needed."""

    def __init__(self, config: Collect, seed: int) -> None:
        self.config, self.seed = config, seed
        self.sources = [each for source in config.sources for each in expand(source, config.hub_folder)]
        self.rejects: list[Reject] = []
        self.missing: dict[str, str] = {}
        """Optional sources that could not be read, and why."""
        self.num_of_source: dict[str, int] = {}
        self.shapes: Counter[str] = Counter()
        """How the rows of files were read, in words."""

    def batches(self) -> Iterator[list[Question]]:
        """All questions in order, `BATCH` at a time."""
        self.rejects, self.num_of_source, self.shapes = [], {}, Counter()
        questions = self._questions()
        while batch := list(islice(questions, BATCH)):
            yield batch

    def _questions(self) -> Iterator[Question]:
        for source in self.sources:
            name, num = label(source), 0
            try:
                rejects = self.rejects if self.config.allow_rejects else None
                for question in read_source(source, self.seed, rejects, self.shapes, self.config.hub_folder):
                    num += 1
                    yield question
            except InputError as error:
                # A source that fails half-way would make the two passes differ; that one is an error.
                if not source.optional or num:
                    raise
                if name not in self.missing:
                    say(f"collect: goes on without {name}: {error.what}")
                self.missing[name] = error.what
            self.num_of_source[name] = self.num_of_source.get(name, 0) + num
