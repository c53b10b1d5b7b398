"""The generations of a run as arrays, questions x repeats for each setting, and the points they make on a curve.

Only counts, verdicts and final answers: texts stay on disk. It knows rows; never files or pages. Beside the points
stand accuracies that others printed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from s1kit.analysis.intervals import Estimate
from s1kit.analysis.settings import FORCING, limit_name, said
from s1kit.analysis.statistics import accuracy, average, question_means, ratio, repeats_worth
from s1kit.records import Generation, Question, Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from s1kit.analysis.statistics import Matrix


from s1kit.analysis.intervals import clopper_pearson
from s1kit.records import Record

HIDDEN = "the provider hides the thinking; its tokens are from the reported usage"
UNCOUNTED = "the provider does not count thinking apart; its tokens are those of the output less the answer's words"
WORDS_NOTE = "tokens counted as words"
NO_COUNT = "thinking tokens are not known"
"""Notes of generations whose thinking tokens were not counted by a tokenizer."""
RECORDED, NO_VERDICT = "as recorded", "no verdict"
"""Evidence of generations of which a log says a verdict, or nothing at all."""


@dataclass
class Draws:
    """All generations of one setting: matrices, questions x repeats.

    Questions may have unequal numbers of draws. Beyond a question's draws a row holds nan, or None.
    """

    setting: Setting
    question_ids: list[str]
    """One a row of the matrices."""
    correct: Matrix
    """1 where the verdict is `correct`, 0 otherwise."""
    abstained: Matrix
    thinking_tokens: Matrix
    answer_tokens: Matrix
    forced_tokens: Matrix
    waits: Matrix
    ending: NDArray[np.object_]
    answered: Matrix
    """1 where an answer has text beyond the closing phrase, or a log does not say whether it had."""
    truncated: Matrix
    """1 where the answer ran into its token room."""
    final_answer: NDArray[np.object_]
    paid_tokens: Matrix
    """Thinking tokens with those of rejected draws."""
    cost_usd: Matrix
    note: NDArray[np.object_]
    """What a reader must know of each row, or empty."""
    mean_logprob: Matrix
    """Mean log-probability of the sampled tokens; nan where it is not known."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many draws each question has."""
        import numpy as np

        return np.asarray((~np.isnan(self.correct)).sum(axis=1))

    @property
    def repeats(self) -> int:
        """The most draws of a question."""
        return int(self.correct.shape[1])

    @property
    def accuracy(self) -> float:
        """Mean over questions of their shares of right draws, 0 to 1."""
        return float(question_means(self.correct).mean())

    @property
    def mean_thinking(self) -> float:
        """Thinking tokens of a draw, averaged over questions."""
        return float(question_means(self.thinking_tokens).mean())

    def are(self, condition: NDArray[np.bool_]) -> Matrix:
        """A condition on draws as outcomes: 1 where it holds, 0 where not, nan where there is no draw."""
        import numpy as np

        return np.where(np.isnan(self.correct), np.nan, np.asarray(condition, dtype=float))

    def on(self, question_ids: Sequence[str]) -> Draws:
        """The draws on some of the questions, in the given order."""
        import numpy as np

        row = {question_id: i for i, question_id in enumerate(self.question_ids)}
        index = np.array([row[q] for q in question_ids], dtype=int)
        picked = {name: value[index] for name, value in vars(self).items() if name not in ("setting", "question_ids")}
        return Draws(self.setting, list(question_ids), **picked)


@dataclass
class Results:
    """The questions of a run and, by setting, the verdicts and thinking tokens of all draws."""

    questions: list[Question]
    draws: dict[Setting, Draws]
    states_budget: bool = True
    """Whether thinking without a maximum is known to have had none. Logs may leave their budget out."""

    def said(self, setting: Setting) -> str:
        """The name of a setting in tables and figures."""
        return said(setting, self.states_budget)

    def limit_name(self, setting: Setting) -> str:
        """The name of a setting's thinking budget."""
        return limit_name(setting, self.states_budget)

    @property
    def temperature(self) -> float:
        """The temperature of the curve: of most settings and questions of budget forcing; the lowest of equal ones.

        Draws do not count: those of a vote are many, and a setting of their own.
        """
        cells: Counter[float] = Counter()
        for setting, draws in self.draws.items():
            if setting.method == FORCING:
                cells[setting.temperature] += len(draws.question_ids)
        return max(sorted(cells), key=lambda t: cells[t], default=0.0)

    def texts(self, question_ids: Iterable[str], settings: Iterable[Setting]) -> Iterator[Generation]:
        """The whole generations of a few questions and settings, from wherever they lie; none in memory here."""
        yield from ()


@dataclass(frozen=True)
class Point:
    """One setting on the curve."""

    name: str
    """As a reader would say it, e.g. `2 Waits`."""
    tokens: float
    """Average thinking tokens a question; of all draws together, where there are several."""
    estimate: Estimate
    draws: Draws
    votes: int = 1
    per_question: Matrix | None = None
    """Chance of a right answer, one row a question; None: the draws' own verdicts."""
    paid: Matrix | None = None
    """Thinking tokens of each question, where they are not `votes` times the mean of its draws."""

    @property
    def outcomes(self) -> Matrix:
        """Questions x repeats: verdicts as 0 or 1, or questions x 1: chances of a right answer."""
        return self.draws.correct if self.per_question is None else self.per_question

    @property
    def tokens_per_question(self) -> Matrix:
        """Thinking tokens paid, one value a question."""
        return self.votes * question_means(self.draws.thinking_tokens) if self.paid is None else self.paid

    @property
    def worth(self) -> float:
        """The most trials that one question may count as: its number of draws."""
        return repeats_worth(self.draws.correct)

    @property
    def thinking(self) -> Estimate:
        """Average thinking tokens a question with their interval."""
        return average(self.tokens_per_question[:, None])

    @property
    def cost_per_correct(self) -> Estimate:
        """Thinking tokens spent for each right answer; infinite where none is right."""
        return ratio(self.tokens_per_question, question_means(self.outcomes))


def spent_in_all(note: str, thinking_tokens: float) -> float:
    """Thinking tokens of all draws of a question, rejected ones included, read from a generation's note.

    >>> spent_in_all("draw 3, 120 thinking tokens in all", 40)
    120.0
    """
    return float(note.rpartition(", ")[2].split()[0]) if note.endswith("in all") else float(thinking_tokens)


@dataclass(frozen=True)
class Rates:
    """Shares of a setting's generations that were cut off, failed, looped or could not be graded."""

    cut_off: Estimate
    no_answer: Estimate
    truncated: Estimate
    loop: Estimate
    abstain: Estimate
    failed: Estimate


def rates(draws: Draws) -> Rates:
    """The rates of a setting; each question counts the same, and each rate has its interval."""
    ending = draws.ending
    return Rates(
        cut_off=accuracy(draws.are(ending == "cut_off")),
        no_answer=accuracy(draws.are(draws.answered == 0)),
        truncated=accuracy(draws.truncated),
        loop=accuracy(draws.are(ending == "loop")),
        abstain=accuracy(draws.abstained),
        failed=accuracy(draws.are(ending == "failed")),
    )


def thinking_by_correctness(point: Point) -> tuple[Estimate | None, Estimate | None]:
    """Average thinking tokens of right and of wrong draws, times the draws of a vote; None where there are none."""
    draws = point.draws
    return _mean_of(point, draws.correct == 1), _mean_of(point, draws.correct == 0)


def _mean_of(point: Point, chosen: NDArray[np.bool_]) -> Estimate | None:
    import numpy as np

    if not chosen.any():
        return None
    tokens = np.where(chosen, point.draws.thinking_tokens, 0.0).sum(axis=1)
    return ratio(point.votes * tokens, chosen.sum(axis=1))


ROUNDING = 0.05
"""Percentage points by which a printed accuracy may differ from a whole number of right answers."""


class PublishedNumber(Record):
    """One printed accuracy and where it was printed."""

    name: str
    benchmark: str
    accuracy: float
    """A share, 0 to 1."""
    num_questions: int | None = None
    thinking_tokens: float | None = None
    """Average a question; None where it was not printed."""
    source: str
    date: str = ""

    @property
    def num_right(self) -> int | None:
        """Right answers, where the accuracy is that of one answer a question; None where it cannot be."""
        if self.num_questions is None:
            return None
        right = round(self.accuracy * self.num_questions)
        return right if abs(right / self.num_questions - self.accuracy) * 100 <= ROUNDING + 1e-9 else None

    @property
    def estimate(self) -> Estimate | None:
        """The accuracy with its exact interval (Clopper and Pearson); None where the counts are not known."""
        if self.num_right is None or self.num_questions is None:
            return None
        return Estimate(self.accuracy, *clopper_pearson(self.num_right, self.num_questions))

    @property
    def why_no_interval(self) -> str:
        """Why `estimate` is None; empty where it is not."""
        if self.estimate is not None:
            return ""
        if self.num_questions is None:
            return "number of questions not given"
        return f"no whole number of {self.num_questions:,}: averaged draws"
