"""Asks an engine under an exit rule, a round a probe: think on to the next point, answer there, leave or go on.

A rule may want the answer's probability, or some more answers that are sampled at the same place and shown to nobody.

Each round hands back the thinking so far as a prefix, so nothing is thought twice. Minimum, maximum and waits hold
exactly: every round is a request under an ordinary budget.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import exp

from s1kit.adaptive.rule import Evidence, ExitRule
from s1kit.engines import Engine
from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.request import Prefix, Request
from s1kit.grade.equality import group_equal
from s1kit.grade.extract import final_answer
from s1kit.records import Generation, Segment


@dataclass
class ProbedRequest:
    """One request under an exit rule, with what its rounds gave so far."""

    request: Request
    probes: list[Generation] = field(default_factory=list)
    """What each round gave; the last one is the answer."""

    samples: list[list[Generation]] = field(default_factory=list)
    """Answers sampled at the place of each probe; none where no rule looks at them."""

    @property
    def probe_tokens(self) -> int:
        """Answer tokens of all rounds but the last, and of the samples: the price of asking."""
        sampled = sum(sample.answer_tokens for samples in self.samples for sample in samples)
        return sum(probe.answer_tokens for probe in self.probes[:-1]) + sampled

    @property
    def prefix(self) -> tuple[Segment, ...]:
        """The thinking so far, to be handed back to the engine."""
        return tuple(s for s in self.probes[-1].segments if s.kind in ("thinking", "wait")) if self.probes else ()

    @property
    def evidence(self) -> Evidence:
        """What is known at the last probe."""
        return self._evidence(len(self.probes) - 1)

    def all_evidence(self) -> list[Evidence]:
        """What was known at each probe."""
        return [self._evidence(place) for place in range(len(self.probes))]

    def _evidence(self, place: int) -> Evidence:
        probe = self.probes[place]
        sampled = self.samples[place] if place < len(self.samples) else []
        return Evidence(
            _num_equal([answer_of(earlier) for earlier in reversed(self.probes[: place + 1])]),
            exp(probe.mean_logprob) if probe.mean_logprob is not None else None,
            max(0, _num_equal([answer_of(probe), *(answer_of(sample) for sample in sampled)]) - 1),
        )


def _num_equal(answers: Sequence[str]) -> int:
    """How many of the first answers equal the first; 0 where that is empty."""
    if not answers[0]:
        return 0
    names = iter(group_equal([answer for answer in answers if answer]))
    found = [next(names) if answer else None for answer in answers]
    return next((i for i, name in enumerate(found) if name != found[0]), len(found))


def answer_of(generation: Generation) -> str:
    """The final answer that a generation states; empty for none."""
    found = final_answer(generation.answer)
    return found.text if found is not None else ""


_PRICE = re.compile(r"auto: \d+ probes?, (\d+) answer tokens")


def probe_tokens(note: str) -> int:
    """Answer tokens of earlier probes, as `answer_adaptively` noted them; 0 where it noted none.

    >>> probe_tokens("auto: 3 probes, 24 answer tokens in earlier ones; left after 2 equal answers")
    24
    """
    found = _PRICE.search(note)
    return int(found[1]) if found else 0


def answer_adaptively(engine: Engine, requests: Sequence[Request], rule: ExitRule) -> Iterator[Generation]:
    """One generation a request, in the order of the requests; its note says where thinking was left and what it cost.

    Raises InputError on a minimum above the rule's largest budget, and for an engine that cannot take thinking back as
    token ids.
    """
    for asked in _rounds(engine, [ProbedRequest(request) for request in requests], rule):
        generation, num = asked.probes[-1], len(asked.probes)
        others = "earlier ones and samples" if asked.samples else "earlier ones"
        note = f"auto: {num} {'probe' if num == 1 else 'probes'}, {asked.probe_tokens} answer tokens in {others}"
        if generation.ending == "cut_off" and generation.thinking_tokens < rule.max_tokens:
            note = f"{note}; {rule.why}"
        update = {"note": f"{generation.note}; {note}".removeprefix("; "), "mean_logprob": None}
        yield generation.model_copy(update=update)


def probe_all(
    engine: Engine, requests: Sequence[Request], rule: ExitRule, measures: bool = False, num_samples: int = 0
) -> list[ProbedRequest]:
    """Every probe of every request, none left early: what a calibration learns from.

    With the probability of each answer where `measures`, and so many answers sampled beside it.
    """
    asked = [ProbedRequest(request) for request in requests]
    return _rounds(engine, asked, rule, leaves=False, measures=measures, num_samples=num_samples)


def check_engine(rule: ExitRule, engine: object, where: str) -> None:
    """Raises InputError for a rule that looks at probabilities before an engine that does not give them."""
    if rule.sure is not None and not getattr(engine, "measures_answers", False):
        raise InputError(
            "the rule leaves thinking by the probability of the answer, and this engine does not say it",
            where=where,
            fix="Use hf:, or a rule made with s1kit calibrate --rule stable or --rule agree.",
        )


def _rounds(
    engine: Engine,
    asked: list[ProbedRequest],
    rule: ExitRule,
    leaves: bool = True,
    measures: bool = False,
    num_samples: int = 0,
) -> list[ProbedRequest]:
    check_engine(rule, engine, "rule")
    num_samples = num_samples or rule.agree or 0
    minimum = max((a.request.budget.min_tokens for a in asked if a.request.budget is not None), default=0)
    if minimum > rule.max_tokens:
        raise InputError(
            f"the minimum is {minimum}, above the rule's largest budget, which is {rule.max_tokens}",
            where="request.budget.min_tokens",
            fix=f"Give {rule.max_tokens} or less.",
        )
    thinking = list(range(len(asked)))
    for number, point in enumerate(rule.points(minimum)):
        requests = {str(i): next_request(asked[i], rule, point, number, str(i), measures) for i in thinking}
        for generation in engine.generate(requests.values()) if requests else ():
            one = asked[int(generation.question_id)]
            one.probes.append(generation.model_copy(update={"question_id": one.request.question_id}))
            if generation.seam == "text":
                raise InputError(
                    "this engine exchanges text, and half a thinking cannot be handed back exactly",
                    where="model",
                    fix="Use hf:, vllm:, llama.cpp:, or a completions server that takes token ids.",
                )
        thinking = [i for i in thinking if may_go_on(asked[i])]
        if num_samples and point < rule.max_tokens:
            _sample(engine, [asked[i] for i in thinking], point, number, num_samples)
        thinking = [i for i in thinking if not (leaves and rule.is_settled(asked[i].evidence))]
    return asked


def _sample(engine: Engine, asked: Sequence[ProbedRequest], point: int, number: int, num: int) -> None:
    requests = []
    for i, one in enumerate(asked):
        one.samples.append([])
        requests += [replace(r, question_id=str(i)) for r in sample_requests(one, point, number, num)]
    found = list(engine.generate(requests)) if requests else []
    for generation in sorted(found, key=lambda g: g.repeat):
        asked[int(generation.question_id)].samples[-1].append(generation)


def next_request(
    asked: ProbedRequest, rule: ExitRule, point: int, number: int, name: str, measures: bool = False
) -> Request:
    """The request of a round, which thinks on to `point` and answers there."""
    request = asked.request
    prefix = Prefix(asked.prefix) if asked.prefix else None
    # A round must not repeat the random numbers of the one before.
    seed = request.seed + number if request.temperature else request.seed
    return replace(
        request,
        budget=_budget(request, point),
        prefix=prefix,
        seed=seed,
        question_id=name,
        measures_answer=measures or rule.sure is not None,
    )


def sample_requests(asked: ProbedRequest, point: int, number: int, num: int) -> list[Request]:
    """Requests for answers after the thinking so far, at temperature 1, each with a seed of its own."""
    request = asked.request
    prefix, budget = Prefix(asked.prefix, ending="cut_off"), _budget(request, point)
    seeds = [request.seed + _SEEDS_APART * (number + 1) + i for i in range(num)]
    return [
        replace(request, budget=budget, prefix=prefix, temperature=1.0, seed=seed, repeat=i)
        for i, seed in enumerate(seeds)
    ]


_SEEDS_APART = 10_007
"""Between the seeds of two rounds' samples."""


def _budget(request: Request, point: int) -> ThinkingBudget:
    own = request.budget or ThinkingBudget(point)
    return ThinkingBudget(min(own.max_tokens, point), own.min_tokens, own.num_waits)


def may_go_on(asked: ProbedRequest) -> bool:
    """Whether thinking was cut off at the last probe, and the request's own maximum allows more."""
    last, own = asked.probes[-1], asked.request.budget
    return last.ending == "cut_off" and (own is None or last.thinking_tokens < own.max_tokens)
