"""Chooses an exit rule from labelled questions so that a promise holds with a stated confidence.

| promise | null hypothesis | test | order of the candidates |
|---|---|---|---|
| accuracy lost is at most `max_loss` | the loss is above the bound | binomial | most cautious to boldest |
| tokens are at most `most_tokens` on average | the mean is above the bound | betting | boldest to full thinking |

A loss is a question that full thinking answers right and the rule wrong. Tokens are those of thinking, probes and
samples. Candidates are tested in that fixed order until one fails, and the last that passed is taken; fixed-sequence
testing needs no correction for the number of tests (Angelopoulos et al., Learn then Test, arXiv 2110.01052, section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log

from s1kit.adaptive.rule import Calibrated, Evidence, ExitRule, Kind
from s1kit.analysis.intervals import binomial_at_most, mean_at_least
from s1kit.errors import InputError

STABLE = (8, 6, 5, 4, 3, 2)
"""Candidates by equal answers in a row; as all candidates, from the most cautious to the boldest."""
SURE = (0.9999, 0.999, 0.99, 0.98, 0.95, 0.9, 0.8, 0.7, 0.5)
"""Candidates by the probability of the answer."""
AGREE = (8, 6, 5, 4, 3, 2, 1)
"""Candidates by sampled answers that agree."""


@dataclass(frozen=True)
class Probed:
    """The probes of one labelled question in order, the last being full thinking's own answer."""

    question_id: str
    answers: tuple[str | None, ...]
    """Equal answers under one name; None: no answer."""
    correct: tuple[bool, ...]
    tokens: tuple[int, ...]
    """Thinking tokens at each."""
    prices: tuple[int, ...] = ()
    """Answer tokens of each; empty: none."""
    probabilities: tuple[float | None, ...] = ()
    """Geometric mean over the tokens of each answer; empty: not known."""
    agreeing: tuple[int, ...] = ()
    """Sampled answers at each probe that equal its answer before the first that does not; empty: none."""
    sample_prices: tuple[tuple[int, ...], ...] = ()
    """Answer tokens of the samples at each."""

    def evidence(self) -> Iterator[Evidence]:
        """What was known at each probe."""
        run = 0
        for i, answer in enumerate(self.answers):
            run = 0 if answer is None else run + 1 if i and self.answers[i - 1] == answer else 1
            probability = self.probabilities[i] if self.probabilities else None
            yield Evidence(run, probability, self.agreeing[i] if self.agreeing else 0)

    def left_at(self, rule: ExitRule) -> int:
        """The place of the probe at which the rule leaves; the last where it does not."""
        last = len(self.answers) - 1
        return next((i for i, known in enumerate(self.evidence()) if i == last or rule.is_settled(known)), last)

    def probe_tokens(self, rule: ExitRule, place: int) -> int:
        """Answer tokens of the probes before the one that is left at, and of the samples that the rule looks at."""
        if not rule.leaves_early:
            return 0
        sampled = self.sample_prices[: place + 1] if rule.agree else ()
        return sum(self.prices[:place]) + sum(sum(prices[: rule.agree]) for prices in sampled)


@dataclass(frozen=True)
class TriedRule:
    """What one rule would have done with the labelled questions."""

    rule: ExitRule
    losses: int
    gains: int
    """Questions that it answers right and full thinking wrong."""
    tokens: float
    """Thinking tokens on average."""
    probe_tokens: float
    p_value: float
    """Probability of labels that speak so much for the rule if it just broke the promise."""


def rules_of(kind: Kind, every: int, max_tokens: int) -> list[ExitRule]:
    """The rules of one kind that a calibration tries, from the most cautious to the boldest."""
    values: Sequence[float] = {"stable": STABLE, "sure": SURE, "agree": AGREE}[kind]
    return [ExitRule.model_validate({"every": every, "max_tokens": max_tokens, kind: value}) for value in values]


def points(share: float) -> str:
    """A share of the questions in words.

    >>> points(0.01), points(0.025)
    ('1 point', '2.5 points')
    """
    return f"{100 * share:g} point" + "s" * (share != 0.01)


def labels_needed(max_loss: float, confidence: float) -> int:
    """Fewest labelled questions with which a rule without any loss would pass.

    >>> labels_needed(0.01, 0.95)
    299
    """
    return ceil(log(1 - confidence) / log(1 - max_loss))


def labels_needed_for_tokens(most_tokens: float, largest: int, confidence: float) -> int:
    """Fewest labelled questions with which a rule that spends next to nothing would pass.

    >>> labels_needed_for_tokens(100, 400, 0.95)
    12
    """
    num = 1
    while mean_at_least([0.0] * num, most_tokens / largest, 1 - confidence) > 1 - confidence:
        num += 1
    return num


def largest_price(rules: Sequence[ExitRule], answer_tokens: int) -> int:
    """The most tokens that a question can take under any of the rules: thinking, earlier probes and samples."""
    samples = max((rule.agree or 0 for rule in rules), default=0)
    probes = max((len(rule.points()) - 1 for rule in rules), default=0)
    return max(rule.max_tokens for rule in rules) + probes * answer_tokens * (1 + samples)


def check_promise(num: int, max_loss: float | None, most_tokens: float | None, confidence: float, largest: int) -> None:
    """Raises InputError for a promise that makes no sense, or that needs more than `num` labelled questions.

    `max_loss` and `confidence` are shares; `most_tokens` is a mean a question, `largest` the most one can take.
    """
    shares = [("--confidence", confidence)] + ([("--max-loss", max_loss)] if max_loss is not None else [])
    for name, value in shares:
        if not 0 < value < 1:
            raise InputError(f"{name} is {100 * value:g} %", where=name, fix="Give more than 0 and less than 100.")
    if most_tokens is not None and not 0 < most_tokens < largest:
        raise InputError(
            f"--tokens is {most_tokens:g}, and a question can take at most {largest:,}",
            where="--tokens",
            fix=f"Give more than 0 and less than {largest:,}.",
        )
    if max_loss is not None:
        needed, what = labels_needed(max_loss, confidence), f"a loss of at most {points(max_loss)}"
    else:
        assert most_tokens is not None
        needed = labels_needed_for_tokens(most_tokens, largest, confidence)
        what = f"at most {most_tokens:g} tokens on average"
    if num < needed:
        raise InputError(
            f"{num} labelled questions cannot promise {what} with {100 * confidence:g} % confidence",
            where="--questions",
            fix=f"Give {needed} or more, or ask for less.",
        )


def try_rules(
    rules: Sequence[ExitRule],
    questions: Sequence[Probed],
    *,
    max_loss: float | None = None,
    most_tokens: float | None = None,
    confidence: float = 0.95,
    answer_tokens: int = 0,
) -> list[TriedRule]:
    """What each rule would have done, with the p-value of the promise asked for."""
    found = []
    largest = largest_price(rules, answer_tokens)
    for rule in rules:
        losses = gains = 0
        tokens, extra = [], []
        for question in questions:
            place = question.left_at(rule)
            early, full = question.correct[place], question.correct[-1]
            losses += full and not early
            gains += early and not full
            tokens.append(question.tokens[place])
            extra.append(question.probe_tokens(rule, place))
        if max_loss is not None:
            p_value = binomial_at_most(losses, len(questions), max_loss)
        else:
            paid = [(a + b) / largest for a, b in zip(tokens, extra, strict=True)]
            p_value = mean_at_least(paid, (most_tokens or 0) / largest, 1 - confidence)
        n = len(questions)
        found.append(TriedRule(rule, losses, gains, sum(tokens) / n, sum(extra) / n, p_value))
    return found


def calibrate(
    questions: Sequence[Probed],
    rules: Sequence[ExitRule],
    *,
    max_loss: float | None = None,
    most_tokens: float | None = None,
    confidence: float = 0.95,
    answer_tokens: int = 0,
) -> tuple[ExitRule, list[TriedRule]]:
    """The rule that keeps the promise, and all rules that were tested, in order.

    Under `max_loss` it is the boldest that passes; full thinking where none passes, or where the rule and its probes
    take more tokens than full thinking. Under `most_tokens` it is the most cautious that passes, which may be full
    thinking. `answer_tokens` is the maximum length of a probe's answer; it bounds the cost of a question.

    Raises InputError where there are too few questions for the promise (it says how many are needed), and where no
    rule passes under `most_tokens`.
    """
    check_promise(len(questions), max_loss, most_tokens, confidence, largest_price(rules, answer_tokens))
    never = ExitRule(every=rules[0].every, max_tokens=rules[0].max_tokens)
    order = list(rules) if max_loss is not None else [*reversed(rules), never]
    tested = try_rules(
        order,
        questions,
        max_loss=max_loss,
        most_tokens=most_tokens,
        confidence=confidence,
        answer_tokens=answer_tokens,
    )
    chosen: TriedRule | None = None
    for candidate in tested:
        if candidate.p_value > 1 - confidence:
            break
        chosen = candidate
    if chosen is None and most_tokens is not None:
        least = tested[0].tokens + tested[0].probe_tokens
        raise InputError(
            f"no rule keeps to {most_tokens:g} tokens with {100 * confidence:g} % confidence: the boldest takes "
            f"{least:.1f} on average over {len(questions)} questions",
            where="--tokens",
            fix="Ask for more tokens, give more questions, or probe less often with --every.",
        )
    full = sum(question.tokens[-1] for question in questions) / len(questions)
    if chosen is not None and most_tokens is None and chosen.tokens + chosen.probe_tokens >= full:
        chosen = None
    promise = Calibrated(
        max_loss=max_loss,
        most_tokens=most_tokens,
        confidence=confidence,
        num_questions=len(questions),
        losses=chosen.losses if chosen else 0,
        tokens=chosen.tokens if chosen else full,
        probe_tokens=chosen.probe_tokens if chosen else 0.0,
        full_tokens=full,
        question_ids=tuple(question.question_id for question in questions),
    )
    return (chosen.rule if chosen else never).model_copy(update={"calibrated": promise}), tested
