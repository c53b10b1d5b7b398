"""The stage `curate`: traces in, samples out. Quality, difficulty, domains, selection, in this order.

Every trace that is dropped is written down with its reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

from s1kit.curate.difficulty import attempt_all
from s1kit.curate.domains import UNKNOWN, by_source, keyword_domains
from s1kit.curate.page import write_curate_page
from s1kit.curate.quality import first_reason, rules_of
from s1kit.curate.selection import Candidate, find_selector, limo_score, needs_verdict
from s1kit.engines.references import scheme_of
from s1kit.engines.weights import fingerprints
from s1kit.errors import InputError
from s1kit.executors import RowWork, executor_of, in_order, load_executor
from s1kit.executors.grading import Grading, SpreadGrader
from s1kit.extensions import load_extension
from s1kit.grade import BatchGrader, case_of, load_grader, reference
from s1kit.progress import say, track
from s1kit.recipe import WORKERS, Curate, Recipe
from s1kit.records import Agreement, Dropped, Question, Sample, Trace
from s1kit.stage import Run, Stage, StagePart, drops_in, said_drops

KEYWORD_SHARD = 8192

NOT_SELECTED = "not_selected"
"""The reason of a trace that passed every filter and was not drawn."""


UNTIL_DONE = ("attempt_shard",)
"""Settings that may change once the stage is done."""


def identity_of(config: Curate) -> dict[str, Any]:
    """The settings that the selection depends on."""
    settings = config.model_copy(update={"attempt_batch": Curate.model_fields["attempt_batch"].default})
    return settings.model_dump(exclude=set(WORKERS))


def curate(recipe: Recipe, run: Run) -> Stage:
    """Select `curate.num` samples from the traces of `distill`.

    A selection that asks for more than there is gives what there is, says so and counts it. Raises InputError when no
    trace passes, with the counts that explain it.
    """
    config = recipe.curate
    inputs = run.shards("distill", "traces")
    models = fingerprints([*config.students, config.domains])
    stage = run.open("curate", identity_of(config), recipe.seed, inputs, models, until_done=UNTIL_DONE)
    if stage.is_done:
        return stage
    # Nothing can be learned from a trace without thinking, and `train` refuses it.
    rules, selector = rules_of([*config.quality, "no_thinking"]), find_selector(config.selection)
    for name in config.also:
        find_selector(name)
    if load_extension(config.domains, "domains", "curate.domains") is None:
        check_domains(config.domains)
    refuse_idle(config)
    grader = load_grader(judge=config.judge, journal_path=str(run.folder.parent / "journal.sqlite"), own=config.grader)
    dropped: list[Dropped] = []
    traces: list[Trace] = []
    for trace in track(run.rows("distill", "traces", Trace), "curate: quality", unit="traces"):
        stage.counts["in"] += 1
        if drop := first_reason(rules, trace):
            dropped.append(stage.drop(trace, trace.question.id, drop.reason, drop.evidence))
        else:
            traces.append(trace)
    stage.counts["after_quality"] = len(traces)
    sorted_out = _by_difficulty(stage, recipe, traces, grader, run.part)
    if sorted_out is None or run.part is not None:
        return stage
    traces, too_easy = sorted_out
    dropped += too_easy
    stage.counts["after_difficulty"] = len(traces)
    if not traces:
        without = sum(drops_in(stage.counts).get(reason, 0) for reason in ("reply:empty", "no_thinking"))
        raise InputError(
            f"no trace is left of {stage.counts['in']:,}: {_reasons(stage)}",
            where="curate",
            fix="Most have no thinking, from which alone is learned: take replies of a model that shows it, or, where "
            "the questions have worked solutions, distill.teacher=solutions."
            if 2 * without > stage.counts["in"]
            else "Loosen curate.quality or curate.keep_band, or collect more questions.",
        )
    traces = _with_domains(stage, recipe, run, traces)
    is_spread = not config.judge and (config.executor == "ray" or (config.num_engines or 1) > 1)
    spread = SpreadGrader(executor_of(config), Grading(config.grader)) if is_spread else grader
    candidates = as_candidates(traces, spread, [config.selection, *config.also])
    picks = selector(candidates, config.num, Random(f"{recipe.seed}:selection"))
    taken = {pick.candidate for pick in picks}
    dropped += [
        stage.drop(trace, trace.question.id, NOT_SELECTED, f"{config.selection}, seed {recipe.seed}")
        for index, trace in enumerate(traces)
        if index not in taken
    ]
    samples = [Sample(trace=traces[pick.candidate], picked_by=pick.picked_by) for pick in picks]
    stage.write("samples", Sample, samples, shard=0)
    stage.write("dropped", Dropped, dropped, shard=0)
    if config.also:
        stage.figures["overlap"] = _write_others(stage, recipe, traces, candidates, samples)
    _count(stage, samples, config.num, config.selection)
    write_curate_page(stage, traces, samples, dropped)
    stage.finish()
    return stage


def check_domains(name: str) -> bool:
    """True where a way to label domains is known. Raises InputError otherwise."""
    if name in ("source", "offline") or ":" in name or scheme_of(name) in ("tiny", "tiny-base"):
        return True
    fix = "Known: source, offline, or a model reference such as chat:deepseek/deepseek-chat or hf:<folder>."
    raise InputError(f"domains is {name!r}", where="curate.domains", fix=fix)


def refuse_idle(config: Curate) -> None:
    """Raises InputError for settings that the others leave without effect."""
    if not config.students and not config.is_off("students"):
        of_students = {"num_attempts", "keep_band", "attempt_tokens", "attempt_temperature"}
        config.refuse_idle("curate", of_students, "without students", "name some")
    if config.attempt_temperature == 0:
        config.refuse_idle("curate", {"num_attempts"}, "at attempt_temperature 0: every attempt is the same")
    names = [config.selection, *config.also]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise InputError(f"{twice} is drawn twice", where="curate.also", fix="Name each selection once.")


def _write_others(
    stage: Stage, recipe: Recipe, traces: Sequence[Trace], candidates: Sequence[Candidate], samples: Sequence[Sample]
) -> dict[str, dict[str, int]]:
    """Write the selections of `curate.also` to `<selection>-00000.parquet`.

    Returns how many questions each pair of selections shares.
    """
    config = recipe.curate
    drawn = {config.selection: {s.trace.question.id for s in samples}}
    for name in config.also:
        picks = find_selector(name)(candidates, config.num, Random(f"{recipe.seed}:selection"))
        others = [Sample(trace=traces[pick.candidate], picked_by=pick.picked_by) for pick in picks]
        stage.write(name, Sample, others, shard=0)
        stage.counts[f"out:{name}"] = len(others)
        drawn[name] = {s.trace.question.id for s in others}
    return {one: {other: len(drawn[one] & drawn[other]) for other in drawn} for one in drawn}


def as_candidates(traces: Sequence[Trace], grader: BatchGrader, selections: Sequence[str]) -> list[Candidate]:
    """The traces as candidates for selection; those whose verdict a selection needs are graded first."""
    longest = max((t.thinking_tokens for t in traces), default=0)
    candidates = [
        Candidate(
            index=index,
            question_id=trace.question.id,
            source=trace.question.source,
            domain=trace.question.domain,
            thinking_tokens=trace.thinking_tokens,
            draw=trace.draw,
            agreement=_share(trace.agreement),
            score=limo_score(trace.thinking, trace.thinking_tokens, longest) if "limo" in selections else 0.0,
        )
        for index, trace in enumerate(traces)
    ]
    needed = [c for c in candidates if any(needs_verdict(selection)(c) for selection in selections)]
    cases = [case_of(traces[c.index].answer, traces[c.index].question) for c in needed]
    for candidate, judged in zip(needed, grader.grade(cases), strict=True):
        verdict = judged.verdict == "correct"
        candidates[candidate.index] = Candidate(**{**vars(candidate), "is_correct": verdict})
    return candidates


def _share(agreement: Agreement | None) -> float | None:
    return None if agreement is None else agreement.num_same / max(1, agreement.num_replies)


def _by_difficulty(
    stage: Stage, recipe: Recipe, traces: list[Trace], grader: BatchGrader, part: StagePart | None
) -> tuple[list[Trace], list[Dropped]] | None:
    """The traces whose questions stay within the band, and the others as dropped; None where attempts are missing."""
    if not recipe.curate.students:
        return traces, []
    questions = list({t.question.id: t.question for t in traces}.values())
    stage.counts["questions_without_solution"] = sum(reference(q) is None for q in questions)
    drops = attempt_all(questions, recipe.curate, grader, stage, recipe.seed, part)
    if drops is None:
        return None
    kept: list[Trace] = []
    dropped: list[Dropped] = []
    for trace in traces:
        if drop := drops.get(trace.question.id):
            dropped.append(stage.drop(trace, trace.question.id, drop.reason, drop.evidence))
        else:
            kept.append(trace)
    return kept, dropped


def _with_domains(stage: Stage, recipe: Recipe, run: Run, traces: Sequence[Trace]) -> list[Trace]:
    """The traces with a domain set on each question, by the method that `curate.domains` names."""
    how = recipe.curate.domains
    questions = list({t.question.id: t.question for t in traces}.values())
    match how:
        case "source":
            labels = [by_source(q) for q in questions]
        case "offline":
            labels = _by_keywords(questions, recipe.curate)
        case _ if (own := load_extension(how, "domains", "curate.domains")) is not None:
            labels = [str(own(q)) for q in questions]
        case _:
            from s1kit.curate.labelling import label_questions

            executor = None if how.startswith("chat:") else executor_of(recipe.curate)
            labels, confusion, num_unread = label_questions(questions, how, run.folder / "journal.sqlite", executor)
            stage.figures["domain_confusion"] = confusion
            stage.counts["labels_unread"] = num_unread
    of_question = {q.id: label or UNKNOWN for q, label in zip(questions, labels, strict=True)}
    return [
        t.model_copy(update={"question": t.question.model_copy(update={"domain": of_question[t.question.id]})})
        for t in traces
    ]


def _by_keywords(questions: Sequence[Question], config: Curate) -> list[str]:
    texts = [{"text": q.text} for q in questions]
    shards = [texts[start : start + KEYWORD_SHARD] for start in range(0, len(texts), KEYWORD_SHARD)]
    # Less than this is done before a second process has started.
    executor = executor_of(config) if len(shards) > 1 else load_executor()
    return [row["domain"] for rows in in_order(executor.run(RowWork(keyword_domains, {}), shards)) for row in rows]


def _count(stage: Stage, samples: Sequence[Sample], num: int, selection: str) -> None:
    stage.counts["out"] = len(samples)
    tokens = [s.trace.thinking_tokens for s in samples]
    stage.figures["domains"] = _counted(s.trace.question.domain for s in samples)
    stage.figures["sources"] = _counted(s.trace.question.source for s in samples)
    stage.figures["picked_by"] = _counted(s.picked_by.partition(":")[0] for s in samples)
    stage.figures["thinking_tokens"] = {"sum": sum(tokens), "mean": round(sum(tokens) / max(1, len(tokens)), 1)}
    if len(samples) < num and selection != "full":
        stage.figures["short"] = f"{num} samples were asked for and {len(samples)} are there: {_reasons(stage)}"
        say(f"curate: {stage.figures['short']}")
    say(
        f"curate: {stage.counts['in']:,} traces, {stage.counts['after_quality']:,} after quality, "
        f"{stage.counts['after_difficulty']:,} after difficulty, {len(samples):,} selected ({selection})"
    )


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(Counter(names).most_common())


def _reasons(stage: Stage) -> str:
    return said_drops(stage.counts) or "nothing was dropped"
