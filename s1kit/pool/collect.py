"""questions <- sources, less duplicates and what overlaps with evaluation sets.

The sources are read twice. The first pass remembers hashes only and decides what is dropped; the second writes the
rows in shards. Memory grows by some 30 bytes a row, plus what near duplicates need.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from glob import glob
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from s1kit.errors import InputError
from s1kit.executors import load_executor
from s1kit.pool.batches import evaluation_index, look_at_batch, matches_of, overlaps_of
from s1kit.pool.decontaminate import Matches, Overlap
from s1kit.pool.duplicates import Duplicate, NearIndex, Rows, exact_duplicates, near_duplicates
from s1kit.pool.evaluation_names import builtin_sets
from s1kit.pool.ngrams import Tier
from s1kit.pool.page import write_collect_page
from s1kit.pool.s1_sources import against_paper
from s1kit.pool.sources import expand, kind_of, label, read_source
from s1kit.progress import meter, say
from s1kit.questions import Reject, find_files
from s1kit.recipe import Collect, Recipe, Source
from s1kit.records import Dropped, Question
from s1kit.stage import Run, Stage, write_atomically

BATCH = 512
"""Rows looked at together."""

SHARD = 16384
"""Rows a shard, kept and dropped together."""


class Decision(NamedTuple):
    """Why the row at one position of the pool is dropped."""

    reason: str
    evidence: str


def collect(recipe: Recipe, run: Run) -> Stage:
    """Read the recipe's sources into `questions`, and what is dropped into `dropped` with reason and evidence.

    Raises InputError for a source that cannot be read (unless it is optional), a broken row (unless rejects are
    allowed), and when nothing is left.
    """
    config = recipe.collect
    stage = run.open("collect", config=config.model_dump(), seed=recipe.seed, inputs=_inputs(config))
    if stage.is_done:
        return stage
    pool = Pool(config, recipe.seed)
    _write(stage, pool, pool.decide())
    _check(stage, pool)
    write_collect_page(stage)
    stage.finish()
    return stage


class _Texts:
    """The texts of the batches that are under way: an executor reads ahead, and its results come in order."""

    def __init__(self) -> None:
        self._waiting: deque[list[str]] = deque()

    def of(self, batches: Iterable[list[Question]], rows: Rows) -> Iterator[list[dict[str, str]]]:
        """Batches as an executor takes them; `rows` learns of each question on the way."""
        for batch in batches:
            rows.add(batch)
            self._waiting.append([q.text for q in batch])
            yield [{"text": q.text} for q in batch]

    def next(self) -> list[str]:
        return self._waiting.popleft()


class Pool:
    """The sources of a recipe, read as often as needed."""

    def __init__(self, config: Collect, seed: int) -> None:
        self.config, self.seed = config, seed
        self.sources = [each for source in config.sources for each in expand(source)]
        self.rejects: list[Reject] = []
        self.missing: dict[str, str] = {}
        """Optional sources that could not be read, and why."""
        self.num_of_source: dict[str, int] = {}

    def batches(self) -> Iterator[list[Question]]:
        """All questions in order, `BATCH` at a time."""
        self.rejects, self.num_of_source = [], {}
        questions = self._questions()
        while batch := list(islice(questions, BATCH)):
            yield batch

    def _questions(self) -> Iterator[Question]:
        for source in self.sources:
            name, num = label(source), 0
            try:
                for question in read_source(source, self.seed, self.rejects if self.config.allow_rejects else None):
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

    def decide(self) -> dict[int, Decision]:
        """What is dropped and why, by position in the pool."""
        import numpy as np

        config, tier = self.config, self._tier()
        rows, kept_texts = Rows(), _Texts()
        overlaps: dict[int, Overlap] = {}
        found: list[tuple[int, Matches, dict[int, str]]] = []
        num = 0
        executor = load_executor(config.executor, config.processes)
        settings = {"against": tuple(config.against), "tier": tier, "seed": self.seed}
        with meter("collect: reading", unit="questions") as m:
            for (seen,) in executor.map(look_at_batch, kept_texts.of(self.batches(), rows), settings):
                rows.keys.append(np.array(seen["keys"], np.uint64))
                texts = kept_texts.next()
                overlaps |= {num + at: overlap for at, overlap in overlaps_of(seen).items()}
                if "matches" in seen:
                    matches = matches_of(seen)
                    found.append((num, matches, {at: texts[at] for at in matches.matched}))
                num += len(texts)
                m.advance(len(texts))
        if found:
            index = evaluation_index(tuple(config.against), "strict", self.seed)
            boilerplate = index.boilerplate([matches for _, matches, _ in found], num)
            for first, matches, kept in found:
                hits = index.decide(kept, matches, boilerplate, config.coverage)
                overlaps |= {first + at: overlap for at, overlap in hits.items()}
        return self._decisions(rows, overlaps)

    def _tier(self) -> Tier | None:
        if self.config.decontaminate == "none":
            return None
        if not self.config.against:
            say("collect: decontaminate is set, but collect.against names no evaluation set; nothing is compared")
            return None
        return "s1" if self.config.decontaminate == "s1" else "strict"

    def _decisions(self, rows: Rows, overlaps: dict[int, Overlap]) -> dict[int, Decision]:
        decisions = {
            row: Decision(f"contaminated:{overlap.set_name}", overlap.evidence) for row, overlap in overlaps.items()
        }
        duplicates: dict[int, Duplicate] = {}
        if self.config.duplicates != "none":
            # What overlaps went before, as in the s1 release: a repeat of it may then be the only one left.
            duplicates = exact_duplicates(rows, without=overlaps)
        if self.config.duplicates == "near":
            duplicates |= self._near(rows, duplicates.keys() | overlaps.keys())
        names = rows.names({d.kept for d in duplicates.values()}) if duplicates else {}
        for row, duplicate in duplicates.items():
            kind = "exact" if duplicate.similarity == 1.0 else "near"
            how = "the same words" if kind == "exact" else f"similarity {duplicate.similarity:.2f}"
            decisions[row] = Decision(f"duplicate:{kind}", f"{how} as {names[duplicate.kept]}")
        return decisions

    def _near(self, rows: Rows, dropped: Collection[int]) -> dict[int, Duplicate]:
        near, num = NearIndex(self.config.near_threshold), 0
        with meter("collect: near duplicates", unit="questions") as m:
            for batch in self.batches():
                left = [at for at in range(len(batch)) if num + at not in dropped]
                near.add([num + at for at in left], [batch[at].text for at in left])
                num += len(batch)
                m.advance(len(batch))
        return near_duplicates(near.pairs, rows)


def _write(stage: Stage, pool: Pool, decisions: dict[int, Decision]) -> None:
    """The second pass: rows in shards by position, so that a shard is the same whenever it is written."""
    position, shard = 0, 0
    kept: list[Question] = []
    dropped: list[Dropped] = []
    kept_of_source: Counter[str] = Counter()
    with meter("collect: writing", total=sum(pool.num_of_source.values()), unit="questions") as m:
        for batch in pool.batches():
            for question in batch:
                if decision := decisions.get(position):
                    dropped.append(stage.drop(question, question.id, *decision))
                else:
                    kept.append(question)
                    kept_of_source[question.source] += 1
                position += 1
            stage.counts["in"] += len(batch)
            m.advance(len(batch))
            if len(kept) + len(dropped) >= SHARD:
                _write_shard(stage, shard, kept, dropped)
                kept, dropped, shard = [], [], shard + 1
    _write_shard(stage, shard, kept, dropped)
    stage.figures["kept_by_source"] = dict(kept_of_source.most_common())
    if compared := against_paper(kept_of_source):
        stage.figures["against_paper"] = compared


def _write_shard(stage: Stage, shard: int, kept: list[Question], dropped: list[Dropped]) -> None:
    stage.counts["out"] += len(kept)
    stage.write("questions", Question, kept, shard=shard)
    stage.write("dropped", Dropped, dropped, shard=shard)


def _check(stage: Stage, pool: Pool) -> None:
    """The counts, the rejects, and a complaint when nothing is left."""
    stage.counts["rejected"] = len(pool.rejects)
    stage.figures["sources"] = pool.num_of_source
    if pool.missing:
        stage.figures["missing_sources"] = pool.missing
    if pool.rejects:
        lines = "".join(json.dumps(reject._asdict(), ensure_ascii=False) + "\n" for reject in pool.rejects)
        path = stage.folder / "rejects.jsonl"
        write_atomically(path, lambda p: p.write_text(lines, encoding="utf-8"))
        say(f"collect: {len(pool.rejects)} broken rows are named in {path}")
    drops = {k.removeprefix("dropped:"): n for k, n in sorted(stage.counts.items()) if k.startswith("dropped:")}
    counted = ", ".join(f"{n:,} {reason}" for reason, n in drops.items())
    if not stage.counts["out"]:
        raise InputError(
            f"no question is left of {stage.counts['in']:,}: {counted or 'the sources are empty'}",
            where="collect",
            fix="Add sources, or loosen duplicates and decontaminate.",
        )
    say(f"collect: {stage.counts['out']:,} of {stage.counts['in']:,} questions; dropped: {counted or 'none'}")


def _inputs(config: Collect) -> Iterator[Path | tuple[str, str]]:
    """Every file that is read, so that a changed one is noticed; for the Hub, the revision."""
    if config.decontaminate == "semantic":
        raise InputError(
            "decontaminate = 'semantic' is not there yet",
            where="collect.decontaminate",
            fix="Use strict, which looks past spelling and boilerplate.",
        )
    if not config.sources:
        raise InputError("the recipe names no source", where="collect.sources", fix="Add one, e.g. a path.")
    for source in config.sources:
        for each in expand(source):
            yield from _files(each)
    for name in config.against:
        if name not in builtin_sets() and glob(name):
            yield from find_files(name)


def _files(source: Source) -> Iterator[Path | tuple[str, str]]:
    if kind_of(source) == "hub":
        yield (label(source), source.revision or "newest")
    elif source.path and (glob(source.path) or not source.optional):
        yield from find_files(source.path)
