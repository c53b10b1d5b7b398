"""What distillation will cost, from a probe of real requests: before the rest is spent.

The probe's replies are journalled, so the run that follows does not buy them again.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from random import Random

from s1kit.concurrency import in_parallel, run_async
from s1kit.distill.chat_teacher import ChatTeacher
from s1kit.distill.drawing import Assignment, Verifier, draw, places
from s1kit.distill.open_teacher import OpenTeacher, open_teachers
from s1kit.grade import load_grader
from s1kit.providers.catalog import find_model, first_url
from s1kit.providers.chat import Problem
from s1kit.providers.money import price_of
from s1kit.providers.terms import terms_of
from s1kit.recipe import Distill, Recipe
from s1kit.records import Question, Record, Terms, Trace, Usage
from s1kit.stage import Run, is_finished

NUM_PROBES = 20

REPLY_TOKENS = 5400
"""Thinking and answer: 4.7K tokens of thinking in s1K (Table 5 of the paper), and its answers."""

# Two-sided 95 % points of Student's t for 1 to 30 degrees of freedom (any table); 1.96 beyond.
_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class DistillEstimate(Record):
    """What remains to be bought, with 95 % confidence intervals."""

    teacher: str
    terms: Terms
    num_requests: int
    num_known: int
    """Already in the journal, so free."""
    num_probed: int
    tokens: float
    """Output tokens still to be bought, thinking included."""
    tokens_low: float
    tokens_high: float
    cost_usd: float | None
    """Still to be paid; None: the price is unknown."""
    cost_low: float | None
    cost_high: float | None
    spent_usd: float
    """What this probe cost."""
    note: str = ""

    @property
    def lines(self) -> list[str]:
        """The estimate as lines of text for the terminal."""
        lines = [f"{self.num_requests:,} requests to {self.teacher}, {self.num_known:,} of them in the journal"]
        if not self.num_probed:
            return [*lines, self.note]
        lines.append(f"{self.tokens:,.0f} output tokens to come [{self.tokens_low:,.0f}, {self.tokens_high:,.0f}]")
        if self.cost_usd is None:
            lines.append("the price is unknown")
        else:
            lines.append(f"${self.cost_usd:,.2f} to come [${self.cost_low:,.2f}, ${self.cost_high:,.2f}]")
        lines.append(f"95 % intervals, from {self.num_probed} probes that cost ${self.spent_usd:,.4f}")
        lines.append(f"terms: {self.terms}")
        return [*lines, self.note] if self.note else lines


def estimate_distill(recipe: Recipe) -> list[str]:
    """Lines for `s1kit estimate`. A teacher that costs money is asked 20 questions, once the pool is collected."""
    if not is_finished(recipe.folder, "collect"):
        lines = [f"teacher {each.teacher}: {terms_of(each.teacher).sentence}" for each in recipe.distill.each]
        told = f"the pool is not collected yet: run s1kit collect first, then {NUM_PROBES} requests probe the cost"
        return [*lines, told]
    estimates = probe_costs(recipe, Run(recipe.folder))
    lines = [line for estimate in estimates for line in estimate.lines]
    if len(estimates) > 1 and any(estimate.num_probed for estimate in estimates):
        costs = [estimate.cost_usd for estimate in estimates]
        known = sum(cost for cost in costs if cost is not None)
        lines.append(f"${known:,.2f} to come for all teachers" + (", unknown prices left out" if None in costs else ""))
    return lines


def estimate_traces(recipe: Recipe, num_questions: int | None) -> list[str]:
    """Lines for `s1kit estimate` without a probe: nothing is asked, and a reply is taken to be as long as s1K's."""
    lines: list[str] = []
    is_chat = False
    for config in recipe.distill.each:
        is_chat |= config.teacher.startswith("chat:")
        lines += _estimate_one(config, num_questions)
    if not is_chat:
        return lines
    if recipe.distill.max_cost_usd is not None:
        lines.append(f"the cap is ${recipe.distill.max_cost_usd:,.2f}")
        if recipe.distill.teachers:
            lines[-1] += " for all teachers"
    return [*lines, f"s1kit collect and then s1kit estimate --probe ask {NUM_PROBES} questions for a closer figure"]


def is_decoded_here(config: Distill) -> bool:
    """Whether the teacher is a model that this machine runs, beyond the tiny one."""
    return config.teacher.partition(":")[0] not in ("tiny", "solutions", "recorded", "chat")


def num_requests(config: Distill, num_questions: int | None) -> int:
    """Requests to the teacher, at most; a 1,000 questions' where their number is not known."""
    return (1000 if num_questions is None else num_questions) * (config.until_correct or config.num_traces)


def _estimate_one(config: Distill, num_questions: int | None) -> list[str]:
    if not is_decoded_here(config) and not config.teacher.startswith("chat:"):
        return [f"teacher {config.teacher}: it costs nothing but seconds"]
    requests = num_requests(config, num_questions)
    most = "at most " if config.until_correct > 1 else ""
    told = f"{most}{requests:,} requests" + ("" if num_questions is not None else " a 1,000 questions")
    if is_decoded_here(config):
        room = f"of at most {config.max_output_tokens:,} tokens each"
        return [f"teacher {config.teacher}: {told} {room}, decoded here, at no price"]
    lines = [f"teacher {config.teacher}: {terms_of(config.teacher).sentence}"]
    model = find_model(config.teacher, first_url(config.base_url))
    price = price_of(model, setting=config.price, prices_path=config.prices)
    if price is None:
        return [*lines, f"{told}; the price is unknown"]
    tokens = min(REPLY_TOKENS, config.max_output_tokens)
    why = "as s1K's do on average" if tokens == REPLY_TOKENS else "which is max_output_tokens"
    usage = Usage(input_tokens=150, output_tokens=tokens)
    dollars = requests * price.cost(usage, is_batch=config.mode == "batch")
    lines.append(f"{told}, {most}${dollars:,.2f} if a reply has {tokens:,} tokens, {why}")
    return lines


def probe_costs(recipe: Recipe, run: Run) -> list[DistillEstimate]:
    """Ask each teacher a seeded sample of the questions and extrapolate. Needs `collect` to have finished.

    A teacher that costs nothing is not asked. The probes count against `max_cost_usd`. Raises InputError as `distill`
    does, Stopped when the provider refuses every request.
    """
    asked = open_teachers(recipe)
    everywhere = list(places(run.rows("collect", "questions", Question), recipe.distill))
    settings = recipe.distill
    verifier = Verifier(load_grader(own=settings.grader)) if settings.until_correct else None
    try:
        return [
            _probe(recipe, each, [place for place in everywhere if place.teacher == number], verifier)
            for number, each in enumerate(asked.teachers)
        ]
    finally:
        asked.close()


def _probe(recipe: Recipe, each: OpenTeacher, there: list[Assignment], verifier: Verifier | None) -> DistillEstimate:
    """A place, all its draws together, is what is sampled and extrapolated."""
    if each.client is None or not isinstance(each.teacher, ChatTeacher):
        return _nothing(each, len(there), 0, "it costs nothing but time")
    client, teacher = each.client, each.teacher
    keys = [teacher.request(client, place.question, place.draws[0]).key for place in there]
    known = client.journal.known(keys)
    unknown = [place for place, key in zip(there, keys, strict=True) if key not in known]
    if not unknown:
        return _nothing(each, len(there), len(known), "nothing is left to ask")
    # The first teacher's sample is the one that a recipe with one teacher draws.
    seed = f"{recipe.seed}:estimate" + (f":{unknown[0].teacher}" if unknown[0].teacher else "")
    probe = Random(seed).sample(unknown, min(NUM_PROBES, len(unknown)))
    replies: list[list[Trace]] = []

    async def ask() -> None:
        for place in pending:
            try:
                replies.append(await draw(place, each, verifier))
            except Problem:
                continue

    async def ask_all() -> None:
        async with client:
            await in_parallel([ask() for _ in range(min(8, len(probe)))])

    pending = iter(probe)
    run_async(ask_all())
    num_left = len(unknown) - len(replies)
    tokens = total_interval([float(sum(t.usage.output_tokens for t in drawn)) for drawn in replies], num_left)
    spent = [sum(trace.cost_usd for trace in drawn) for drawn in replies]
    costs = total_interval(spent, num_left) if client.price is not None else None
    factor = client.price.batch if client.price is not None and recipe.distill.mode == "batch" else 1.0
    failed = len(probe) - len(replies)
    notes = [f"{failed} probes failed."] if failed else []
    if verifier is not None and replies:
        mean = sum(map(len, replies)) / len(replies)
        right = sum(drawn[-1].verdict == "correct" for drawn in replies)
        notes.append(f"{mean:.2f} draws on average; {right} of {len(replies)} ended correct.")
    return DistillEstimate(
        teacher=each.settings.teacher,
        terms=terms_of(each.settings.teacher).terms,
        num_requests=len(there),
        num_known=len(known) + len(replies),
        num_probed=len(replies),
        tokens=tokens[0],
        tokens_low=tokens[1],
        tokens_high=tokens[2],
        cost_usd=costs and costs[0] * factor,
        cost_low=costs and costs[1] * factor,
        cost_high=costs and costs[2] * factor,
        spent_usd=sum(spent),
        note=" ".join(notes),
    )


def total_interval(probed: Sequence[float], num_left: int) -> tuple[float, float, float]:
    """The sum over `num_left` further draws from where `probed` came from: estimate, low, high of a 95 % interval.

    Student's interval is too low for costs, which are skewed to the right: with 20 log-normal probes it holds the sum
    89 times of 100. So it is joined with Cox's interval for a log-normal mean (Zhou and Gao, Statistics in Medicine 16,
    1997, 783), and both with the scatter of the sum itself.

    >>> total_interval([1.0, 1.0, 1.0], 10)
    (10.0, 10.0, 10.0)
    """
    num = len(probed)
    if num == 0:
        return 0.0, 0.0, math.inf if num_left else 0.0
    mean = statistics.fmean(probed)
    if num == 1:
        return mean * num_left, 0.0, math.inf if num_left else mean
    if num_left == 0:
        return 0.0, 0.0, 0.0
    t = _T[num - 2] if num - 2 < len(_T) else 1.96
    variance = statistics.variance(probed)
    half = t * math.sqrt(variance / num + variance / num_left)
    low, high = mean - half, mean + half
    if min(probed) > 0.0 and variance > 0.0:
        logs = [math.log(x) for x in probed]
        centre, spread = statistics.fmean(logs), statistics.variance(logs)
        width = t * math.sqrt(spread / num + spread**2 / (2 * (num - 1)) + math.expm1(spread) / num_left)
        low = min(low, math.exp(centre + spread / 2 - width))
        high = max(high, math.exp(centre + spread / 2 + width))
    return mean * num_left, max(0.0, low) * num_left, high * num_left


def _nothing(each: OpenTeacher, total: int, known: int, note: str) -> DistillEstimate:
    return DistillEstimate(
        teacher=each.settings.teacher,
        terms=terms_of(each.settings.teacher).terms,
        num_requests=total,
        num_known=known,
        num_probed=0,
        tokens=0.0,
        tokens_low=0.0,
        tokens_high=0.0,
        cost_usd=0.0,
        cost_low=0.0,
        cost_high=0.0,
        spent_usd=0.0,
        note=note,
    )
