"""Exit rules against fixed budgets at equal tokens, with real probes of a model.

    python bench/auto_live.py MODEL QUESTIONS [EVERY [MAX_TOKENS [ANSWER_TOKENS [SAMPLES]]]]

Every question is probed at every point once, with the probability of each answer and so many answers sampled beside
it. What each rule and each fixed budget would do is read off these probes: a test holds that a probe is what a single
call under that budget gives. A rule costs thinking, earlier probes and its samples; a fixed budget thinking only. The
fixed side spends exactly what the rule spends, as a mixture of the two budgets around it. Intervals are paired
bootstraps over questions at 95 %, not adjusted for the number of rows.
"""

from __future__ import annotations

import sys
from typing import get_args

import numpy as np

from s1kit.adaptive.calibration import Probed, rules_of
from s1kit.adaptive.rule import ExitRule, Kind
from s1kit.cli.calibrate import probe_questions
from s1kit.engines import load_engine
from s1kit.evaluate.benchmarks import load_benchmarks


def fixed_budgets(probed: list[Probed], points: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Right (0 or 1) and tokens, budgets x questions; a question that ended by itself repeats its last probe."""
    right = [[q.correct[min(i, len(q.correct) - 1)] for q in probed] for i in range(len(points))]
    tokens = [[q.tokens[min(i, len(q.tokens) - 1)] for q in probed] for i in range(len(points))]
    return np.array(right, float), np.array(tokens, float)


def mixture(right: np.ndarray, tokens: np.ndarray, spent: float) -> np.ndarray:
    """Chance of a right answer of each question under fixed budgets that spend so much on average."""
    means = tokens.mean(axis=1)
    above = int(np.searchsorted(means, spent))
    if above == 0 or above == len(means):
        return right[min(above, len(means) - 1)]
    low, high = means[above - 1], means[above]
    share = (spent - low) / (high - low) if high > low else 1.0
    return (1 - share) * right[above - 1] + share * right[above]


def interval(differences: np.ndarray) -> str:
    draw = np.random.default_rng(0).integers(0, len(differences), (4000, len(differences)))
    low, high = np.quantile(differences[draw].mean(axis=1), [0.025, 0.975])
    return f"{100 * differences.mean():+5.1f} [{100 * low:+5.1f}, {100 * high:+5.1f}]"


def main() -> None:
    model, questions = sys.argv[1:3]
    every, most, room, samples = (int(n) for n in (*sys.argv[3:], *("64", "1024", "64", "8")[len(sys.argv) - 3 :]))
    engine = load_engine(model)
    grid = ExitRule(every=every, stable=1, max_tokens=most)
    measures = getattr(engine, "measures_answers", False)
    asked = load_benchmarks([questions], None, 0)
    probed = probe_questions(engine, asked, grid, room, measures=measures, num_samples=samples)
    right, tokens = fixed_budgets(probed, grid.points())
    full, full_tokens = right[-1], tokens[-1].mean()
    print(f"{model}, {len(probed)} questions; full thinking: {100 * full.mean():.1f} % with {full_tokens:.1f} tokens")
    print("| rule | tokens, of them probes | accuracy, % | fixed at equal tokens | against fixed | against full |")
    print("|---|---|---|---|---|---|")
    for kind in get_args(Kind):
        if kind == "sure" and not measures:
            continue
        for rule in rules_of(kind, every, most):
            if (rule.agree or 0) > samples:
                continue
            places = [q.left_at(rule) for q in probed]
            auto = np.array([q.correct[at] for q, at in zip(probed, places, strict=True)], float)
            extra = np.array([q.probe_tokens(rule, at) for q, at in zip(probed, places, strict=True)], float)
            spent = np.array([q.tokens[at] for q, at in zip(probed, places, strict=True)], float) + extra
            fixed = mixture(right, tokens, spent.mean())
            saved = 100 * (1 - spent.mean() / full_tokens)
            cells = [
                rule.said.partition(", ")[2],
                f"{spent.mean():.1f}, {extra.mean():.1f}",
                f"{100 * auto.mean():.1f}",
                f"{100 * fixed.mean():.1f}",
                interval(auto - fixed),
                f"{interval(auto - full)}, {abs(saved):.0f} % {'fewer' if saved >= 0 else 'more'}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
