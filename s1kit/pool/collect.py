"""questions <- sources, less duplicates and what overlaps with evaluation sets.

The sources are read twice. The first pass remembers hashes only and decides what is dropped; the second writes the
rows in shards. Memory grows by some 30 bytes a row, plus what near duplicates need.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from glob import glob
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.files import hash_file, write_atomically
from s1kit.pool.decide import Decision, decide
from s1kit.pool.evaluation_sets import builtin_sets
from s1kit.pool.hub import hub_files, local_copy
from s1kit.pool.hub_pools import against_paper
from s1kit.pool.page import write_collect_page
from s1kit.pool.reading import Pool
from s1kit.pool.scan_checkpoint import ScanCheckpoint
from s1kit.pool.semantic import Pair
from s1kit.pool.sentences import model_files
from s1kit.pool.sources import expand, kind_of, label
from s1kit.progress import meter, say
from s1kit.questions import find_files
from s1kit.recipe import Collect, Recipe, Source
from s1kit.records import Dropped, Question
from s1kit.stage import Run, Stage, said_drops

SHARD = 16384
"""Rows in a shard, kept and dropped together."""


def identity_of(config: Collect) -> dict[str, Any]:
    """The settings that the pool depends on: not whether broken rows stop the stage, nor where it is done."""
    no_part = {"allow_rejects": False, "executor": "local", "address": "", "processes": 1}
    return config.model_copy(update=no_part).model_dump()


def collect(recipe: Recipe, run: Run) -> Stage:
    """Read the recipe's sources into `questions`, and what is dropped into `dropped` with reason and evidence.

    Raises InputError for a source that cannot be read (unless it is optional), a broken row (unless rejects are
    allowed), and when nothing is left.
    """
    config = recipe.collect
    refuse_idle(config)
    stage = run.open("collect", identity_of(config), recipe.seed, inputs=inputs_of(config))
    if stage.is_done:
        return stage
    pool, checkpoint = Pool(config, recipe.seed), ScanCheckpoint(stage.folder / "scan")
    decisions = decide(pool, checkpoint, run.folder.parent)
    _write(stage, pool, decisions.drops)
    _write_pairs(stage, decisions.pairs)
    _check(stage, pool)
    write_collect_page(stage, decisions.pairs)
    checkpoint.clear()
    stage.finish()
    return stage


def refuse_idle(config: Collect) -> None:
    """Raises InputError for settings that the others leave without effect. What is off keeps its settings."""
    if config.duplicates == "exact":
        config.refuse_idle("collect", {"near_threshold"}, "on duplicates = exact", "set duplicates = near")
    if config.decontaminate == "s1":
        tiers = "a tier above s1: strict, template or semantic"
        config.refuse_idle("collect", {"coverage"}, "on decontaminate = s1", f"take {tiers}")
    if config.decontaminate not in ("none", "semantic"):
        why = f"on decontaminate = {config.decontaminate}"
        config.refuse_idle("collect", {"semantic"}, why, "set decontaminate = semantic")
    if config.semantic is not None and config.semantic.judge:
        config.semantic.refuse_idle("collect.semantic", {"unjudged_similarity"}, "where a judge is asked")


def _write(stage: Stage, pool: Pool, decisions: Mapping[int, Decision]) -> None:
    """The second pass: rows in shards by position, so that a shard is the same whenever it is written.

    A shard that an earlier try finished stays as it is.
    """
    position, shard = 0, 0
    kept: list[Question] = []
    dropped: list[Dropped] = []
    read_of_source: Counter[str] = Counter()
    kept_of_source: Counter[str] = Counter()
    with meter("collect: writing", total=sum(pool.num_of_source.values()), unit="questions") as m:
        for batch in pool.batches():
            for question in batch:
                read_of_source[question.source] += 1
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
    if compared := against_paper(read_of_source, kept_of_source):
        stage.figures["against_paper"] = compared


def _write_shard(stage: Stage, shard: int, kept: list[Question], dropped: list[Dropped]) -> None:
    stage.counts["out"] += len(kept)
    paths = [stage.folder / f"{name}-{shard:05d}.parquet" for name in ("questions", "dropped")]
    if not all(path.exists() for path in paths):
        stage.write("questions", Question, kept, shard=shard)
        stage.write("dropped", Dropped, dropped, shard=shard)
    nums = (len(kept), len(dropped))
    for path, num in zip(paths, nums, strict=True):
        stage.figures.setdefault("shards", {})[path.name] = {"rows": num, "sha256": hash_file(path)}


def _write_pairs(stage: Stage, pairs: list[Pair]) -> None:
    """`candidates.jsonl`: what tier `semantic` would have a reader look at, and what its judge said."""
    if stage.config["decontaminate"] != "semantic":
        return
    verdicts = Counter(pair.verdict or "not judged" for pair in pairs)
    stage.figures["semantic"] = {"pairs": len(pairs), "questions": len({pair.row for pair in pairs}), **verdicts}
    lines = "".join(
        json.dumps({"text": p.text, **p.near._asdict(), "verdict": p.verdict, "reason": p.reason}, ensure_ascii=False)
        + "\n"
        for p in sorted(pairs, key=lambda p: (-p.near.similarity, p.row))
    )
    path = stage.folder / "candidates.jsonl"
    write_atomically(path, lambda p: p.write_text(lines, encoding="utf-8"))
    num_open = sum(pair.is_open for pair in pairs)
    say(f"collect: {len(pairs)} pairs near an evaluation question, {num_open} left for a reader in {path}")


def _check(stage: Stage, pool: Pool) -> None:
    """The counts, the rejects, and a complaint when nothing is left."""
    stage.counts["rejected"] = len(pool.rejects)
    stage.figures["sources"] = pool.num_of_source
    if pool.shapes:
        stage.figures["shapes"] = dict(pool.shapes.most_common())
        for shape, num in pool.shapes.most_common():
            say(f"collect: {num:,} rows of {shape}")
    if pool.missing:
        stage.figures["missing_sources"] = pool.missing
    if revisions := _revisions(pool):
        stage.figures["hub_revisions"] = revisions
    if pool.rejects:
        lines = "".join(json.dumps(reject._asdict(), ensure_ascii=False) + "\n" for reject in pool.rejects)
        path = stage.folder / "rejects.jsonl"
        write_atomically(path, lambda p: p.write_text(lines, encoding="utf-8"))
        say(f"collect: {len(pool.rejects)} broken rows are named in {path}")
    counted = said_drops(stage.counts)
    if not stage.counts["out"]:
        raise InputError(
            f"no question is left of {stage.counts['in']:,}: {counted or 'the sources are empty'}",
            where="collect",
            fix="Add sources, or loosen duplicates and decontaminate.",
        )
    say(f"collect: {stage.counts['out']:,} of {stage.counts['in']:,} questions; dropped: {counted or 'none'}")


def inputs_of(config: Collect) -> Iterator[Path | tuple[str, str]]:
    """Every file that is read, so that a changed one is noticed; for the Hub, the revision."""
    if config.decontaminate == "semantic":
        if config.semantic is None:
            raise InputError(
                "decontaminate = 'semantic' has no sentence model",
                where="collect.semantic.model",
                fix="Give its folder, e.g. collect.semantic.model=models/all-MiniLM-L6-v2.",
            )
        yield from model_files(config.semantic.model)
    if not config.sources:
        raise InputError("the recipe names no source", where="collect.sources", fix="Add one, e.g. a path.")
    for source in config.sources:
        for each in expand(source, config.hub_folder):
            yield from _files(each, config.hub_folder)
    for name in config.against:
        if name not in builtin_sets() and glob(name):
            yield from find_files(name)


def _files(source: Source, hub_folder: str) -> Iterator[Path | tuple[str, str]]:
    if kind_of(source) == "hub":
        folder = local_copy(source, hub_folder)
        if folder is None:
            yield (f"{label(source)} {' '.join(source.files)}".strip(), source.revision or "newest")
        else:
            patterns = source.files or ["**/*"]
            yield from sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    elif source.path and (glob(source.path) or not source.optional):
        yield from find_files(source.path)


def _revisions(pool: Pool) -> dict[str, str]:
    """The commit of each data set that was downloaded."""
    found: dict[str, str] = {}
    for source in pool.sources:
        if (
            source.files
            and label(source) not in pool.missing
            and (commit := hub_files(source, pool.config.hub_folder).commit)
        ):
            found[source.hub] = commit
            if not source.revision:
                say(f"collect: {source.hub} is not pinned; this was revision {commit}")
    return found
