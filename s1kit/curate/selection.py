"""Selection: which traces become samples. The same candidates, number and seed give the same ids on every machine.

Only `Random.random` is used, the one method whose sequence Python promises to keep, and every order is by name, length
or id. A preset answers with fewer than asked when there are not enough, never with an error.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple, Protocol, TypeVar

from s1kit.errors import InputError, nearest
from s1kit.extensions import load_extension

T = TypeVar("T")

TRUSTED_LONG_TOKENS = 5600
"""Thinking tokens from which s1 trusts a correct MATH trace (filter.ipynb, cell 14; the comparison is strict)."""

NOTEBOOK_UNIFORM = 700
"""The released notebook draws domains uniformly until so many are chosen (cell 21; its comment says 300)."""


@dataclass(frozen=True)
class Candidate:
    """One trace as a selection sees it: its metadata, without its text."""

    index: int
    """Position among the candidates' traces."""
    question_id: str
    source: str
    domain: str
    thinking_tokens: int
    draw: int = 0
    is_correct: bool | None = None
    """None where nobody looked; see `needs_verdict`."""
    agreement: float | None = None
    """The share of the question's replies with the same final answer; None where there is one reply."""
    score: float = 0.0
    """LIMO's rubric, where it is asked for."""


class Pick(NamedTuple):
    """A chosen candidate and the rule that chose it."""

    candidate: int
    """Its `index`."""
    picked_by: str


class Selector(Protocol):
    """A selection: picks at most `num` of the candidates, with the given random numbers."""

    def __call__(self, candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]: ...


def find_selector(name: str) -> Selector:
    """The selection of that name. Raises InputError, listing those that exist, when there is none."""
    if name not in SELECTORS:
        if (own := load_extension(name, "selection", "curate.selection")) is not None:
            return own
        raise InputError(
            f"there is no selection {name!r}", where="curate.selection", fix=nearest(name, list(SELECTORS))
        )
    return SELECTORS[name]


def needs_verdict(name: str) -> Callable[[Candidate], bool]:
    """The candidates that must be graded before this selection can run; grading the others would be wasted."""
    match name:
        case "s1" | "s1-notebook":
            return _may_be_trusted
        case "shortest-correct":
            return lambda _: True
        case _:
            # A selection of the user's own says by an attribute that it reads `Candidate.is_correct`.
            asks = bool(getattr(find_selector(name), "needs_verdict", False))
            return lambda _: asks


def pick_random(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """The control: uniform over questions."""
    return [Pick(c.index, "random") for c in _take(_one_a_question(candidates), num, random)]


def pick_longest(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """The longest thinking, as the paper's 1K-longest; ties by id."""
    ordered = sorted(_one_a_question(candidates), key=_longest_first)
    return [Pick(c.index, f"longest:rank={rank}") for rank, c in enumerate(ordered[:num])]


def pick_diverse(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """A domain uniformly, then a question of it uniformly, as the paper's 1K-diverse."""
    domains = _by_domain(_one_a_question(candidates), key=_by_id)
    picks: list[Pick] = []
    while domains and len(picks) < num:
        domain = _choose(sorted(domains), random)
        chosen = _remove(domains, domain, int(random.random() * len(domains[domain])))
        picks.append(Pick(chosen.index, f"diverse:domain={domain}"))
    return picks


def pick_full(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """Every trace, whatever `num` says: the paper's 59K-full."""
    return [Pick(c.index, "full") for c in candidates]


def pick_s1(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """Algorithm 1 of the paper: what is trusted, then domains uniformly, and within one by length rank.

    Of a domain's questions, longest thinking first, rank r is drawn with weight 2^-r.
    """
    questions = _one_a_question(candidates)
    picks = [Pick(c.index, "s1:trusted") for c in sorted(questions, key=_by_id) if is_trusted(c)][:num]
    taken = {pick.candidate for pick in picks}
    domains = _by_domain([c for c in questions if c.index not in taken], key=_longest_first)
    while domains and len(picks) < num:
        picks.append(_pick_by_length(domains, _choose(sorted(domains), random), random, "s1"))
    return picks


def pick_s1_notebook(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """The released notebook's draw: uniform domains until 700 are chosen, then domains as in GPQA and AIME.

    Its weights are the domain counts of all AIME and of all GPQA candidates, GPQA enlarged to half of AIME's number
    and rounded down (cell 17). As there, a trusted question stays in its domain and may be drawn again without effect.
    """
    questions = _one_a_question(candidates)
    picks = [Pick(c.index, "s1-notebook:trusted") for c in sorted(questions, key=_by_id) if is_trusted(c)][:num]
    taken = {pick.candidate for pick in picks}
    domains = _by_domain(questions, key=_longest_first)
    benchmark = _benchmark_weights(questions)
    while len(picks) < num:
        is_uniform = len(picks) < NOTEBOOK_UNIFORM
        weights = dict.fromkeys(domains, 1) if is_uniform else {d: w for d, w in benchmark.items() if d in domains}
        if not weights:
            break
        phase = "uniform" if is_uniform else "benchmark"
        domain = _choose_weighted(sorted(weights.items()), random)
        pick = _pick_by_length(domains, domain, random, f"s1-notebook:{phase}")
        if pick.candidate not in taken:
            taken.add(pick.candidate)
            picks.append(pick)
    return picks


def pick_limo(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """LIMO (2502.03387): of the questions in the difficulty band, the traces that score best by its rubric.

    The band is `curate.keep_band`, 1 to 3 of 32 there; the rubric is `limo_score`.
    """
    best: dict[str, Candidate] = {}
    for c in sorted(candidates, key=lambda c: (-c.score, c.question_id, c.draw)):
        best.setdefault(c.question_id, c)
    return [Pick(c.index, f"limo:score={c.score:.3f}") for c in list(best.values())[:num]]


def pick_shortest_correct(candidates: Sequence[Candidate], num: int, random: Random) -> list[Pick]:
    """The shortest correct trace of each question, and of the questions a uniform draw.

    Of one question's traces, short ones teach better (arXiv 2505.17813).
    """
    shortest: dict[str, Candidate] = {}
    for c in sorted(candidates, key=lambda c: (c.thinking_tokens, c.draw)):
        if c.is_correct:
            shortest.setdefault(c.question_id, c)
    return [Pick(c.index, "shortest-correct") for c in _take(list(shortest.values()), num, random)]


SELECTORS: dict[str, Selector] = {
    "s1": pick_s1,
    "s1-notebook": pick_s1_notebook,
    "random": pick_random,
    "longest": pick_longest,
    "diverse": pick_diverse,
    "full": pick_full,
    "limo": pick_limo,
    "shortest-correct": pick_shortest_correct,
}


def is_trusted(candidate: Candidate) -> bool:
    """s1 takes a correct trace without a draw when it is of AIME or GPQA, or a long one of MATH."""
    return bool(candidate.is_correct) and _may_be_trusted(candidate)


def _may_be_trusted(candidate: Candidate) -> bool:
    if _is_benchmark(candidate):
        return True
    return bool(_MATH.search(candidate.source)) and candidate.thinking_tokens > TRUSTED_LONG_TOKENS


_AIME = re.compile(r"\baime|aime[-_]", re.IGNORECASE)
_GPQA = re.compile(r"gpqa", re.IGNORECASE)
_MATH = re.compile(r"^math(?:[-_/]|$)|openaimath", re.IGNORECASE)


def _is_benchmark(candidate: Candidate) -> bool:
    return bool(_AIME.search(candidate.source) or _GPQA.search(candidate.source))


def _benchmark_weights(questions: Sequence[Candidate]) -> dict[str, int]:
    gpqa = Counter(c.domain for c in questions if _GPQA.search(c.source))
    aime = Counter(c.domain for c in questions if _AIME.search(c.source))
    ratio = 0.5 * aime.total() / gpqa.total() if gpqa else 0.0
    weights = aime + Counter({domain: int(count * ratio) for domain, count in gpqa.items()})
    return {domain: weight for domain, weight in weights.items() if weight > 0}


def _by_id(candidate: Candidate) -> tuple[str, int]:
    return candidate.question_id, candidate.draw


def _longest_first(candidate: Candidate) -> tuple[int, str, int]:
    return -candidate.thinking_tokens, candidate.question_id, candidate.draw


def _one_a_question(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates with one trace a question: the one with the lowest draw number."""
    first: dict[str, Candidate] = {}
    for candidate in sorted(candidates, key=_by_id):
        first.setdefault(candidate.question_id, candidate)
    return list(first.values())


def _by_domain(
    candidates: Sequence[Candidate], key: Callable[[Candidate], tuple[str, int] | tuple[int, str, int]]
) -> dict[str, list[Candidate]]:
    domains: defaultdict[str, list[Candidate]] = defaultdict(list)
    for candidate in sorted(candidates, key=key):
        domains[candidate.domain].append(candidate)
    return dict(domains)


def _pick_by_length(domains: dict[str, list[Candidate]], domain: str, random: Random, rule: str) -> Pick:
    rank = draw_rank(len(domains[domain]), random)
    return Pick(_remove(domains, domain, rank).index, f"{rule}:domain={domain},rank={rank}")


def draw_rank(num: int, random: Random) -> int:
    """A rank from 0 to `num` - 1 with probability proportional to 2^-rank, in exact arithmetic."""
    left = 1.0 - random.random() * (1.0 - math.ldexp(1.0, -num))  # in (2^-num, 1]
    fraction, exponent = math.frexp(left)
    return min(num - 1, -exponent + (fraction == 0.5))


def _remove(domains: dict[str, list[Candidate]], domain: str, position: int) -> Candidate:
    chosen = domains[domain].pop(position)
    if not domains[domain]:
        del domains[domain]
    return chosen


def _choose(items: Sequence[T], random: Random) -> T:
    return items[int(random.random() * len(items))]


def _choose_weighted(items: Sequence[tuple[T, int]], random: Random) -> T:
    left = random.random() * sum(weight for _, weight in items)
    for item, weight in items:
        left -= weight
        if left < 0:
            return item
    return items[-1][0]


def _take(candidates: Sequence[Candidate], num: int, random: Random) -> list[Candidate]:
    """Draw `num` candidates uniformly without replacement; returns them in the order drawn."""
    rest = sorted(candidates, key=_by_id)
    for position in range(min(num, len(rest))):
        other = position + int(random.random() * (len(rest) - position))
        rest[position], rest[other] = rest[other], rest[position]
    return rest[:num]


_VERIFYING = re.compile(r"\b(?:check|verify|verif|confirm|double-check)\w*", re.IGNORECASE)
_EXPLORING = re.compile(r"\b(?:perhaps|might|maybe|alternatively|wait|suppose|what if)\b", re.IGNORECASE)
_EXPLAINING = re.compile(r"\b(?:therefore|since|because|thus|hence|so that)\b", re.IGNORECASE)

LIMO_WEIGHTS = {"elaborated": 0.30, "verifying": 0.20, "exploring": 0.25, "explaining": 0.25}
"""The paper's weights: 30 % length, 20 % self-verification, 25 % exploration, 25 % granularity."""


def limo_score(thinking: str, thinking_tokens: int, longest_tokens: int) -> float:
    """LIMO's rubric for a trace (2502.03387, section on data): how much it elaborates, verifies, explores and explains.

    A number from 0 to 1; keyword counts are per 100 words, saturating at 2, as the paper normalises by length.

    `longest_tokens` is the longest thinking among the candidates.
    """
    words = max(1, len(thinking.split()))
    parts = {"elaborated": min(1.0, thinking_tokens / max(1, longest_tokens))}
    for name, pattern in (("verifying", _VERIFYING), ("exploring", _EXPLORING), ("explaining", _EXPLAINING)):
        parts[name] = min(1.0, 100 * len(pattern.findall(thinking)) / words / 2)
    return sum(LIMO_WEIGHTS[name] * value for name, value in parts.items())
