"""Methods beside thinking budgets that spend the same, and the page that is filled with them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from test_findings import draws_of, findings_of

from s1kit.records import Setting

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
import findings as page
from matched import at_equal_tokens, mixed

RNG = np.random.default_rng(3)
HARD = RNG.random((400, 1))
"""How much thinking each question needs, as a share of the largest budget."""


def solved(share: float) -> np.ndarray:
    return (share >= HARD).astype(float)


SMALL = draws_of(Setting(max_tokens=100), solved(0.25), tokens=100)
LARGE = draws_of(Setting(max_tokens=300), solved(0.75), tokens=300)


def auto(right: np.ndarray, tokens: float) -> object:
    return draws_of(Setting(method="auto", max_tokens=300, target="probes every 64, left after 3 equal"), right, tokens)


def test_budgets_are_mixed_to_spend_what_the_method_spends() -> None:
    found = findings_of([SMALL, LARGE, auto(solved(0.5), 150)])  # type: ignore[list-item]
    (row,) = at_equal_tokens(found)
    assert row.is_equal
    before = row.comparison.before
    assert before.tokens == 150
    expected = 0.75 * SMALL.correct.mean() + 0.25 * LARGE.correct.mean()
    assert before.estimate.value == pytest.approx(expected)
    assert row.comparison.difference.value == pytest.approx(solved(0.5).mean() - expected)
    assert row.comparison.difference.low > 0


def test_a_method_that_is_on_the_curve_is_not_called_better_and_one_below_it_is_called_worse() -> None:
    same = at_equal_tokens(findings_of([SMALL, LARGE, auto(LARGE.correct, 300)]))[0]  # type: ignore[list-item]
    assert same.comparison.is_noise
    worse = at_equal_tokens(findings_of([SMALL, LARGE, auto(SMALL.correct, 300)]))[0]  # type: ignore[list-item]
    assert not worse.comparison.is_noise
    assert worse.comparison.difference.value < 0


def test_what_spends_more_than_the_largest_budget_is_compared_with_that_and_marked() -> None:
    found = findings_of([SMALL, LARGE, auto(solved(1.0), 900)])  # type: ignore[list-item]
    (row,) = at_equal_tokens(found)
    assert not row.is_equal
    assert row.comparison.before.tokens == 300
    (below, is_equal) = mixed(found.by_budget, found.by_budget[0])
    assert is_equal
    assert below.tokens == 100


def test_a_page_is_filled_between_its_marks_only(tmp_path: Path) -> None:
    path = tmp_path / "findings.md"
    path.write_text("before\n<!-- run: a -->\nold\n<!-- end: a -->\nafter\n<!-- run: b -->\n<!-- end: b -->\n")
    page.fill(path, "a", "| 1 |")
    page.fill(path, "a", "| 2 |")
    text = path.read_text()
    assert text == "before\n<!-- run: a -->\n\n| 2 |\n\n<!-- end: a -->\nafter\n<!-- run: b -->\n<!-- end: b -->\n"
    with pytest.raises(SystemExit, match="has no marks <!-- run: c -->"):
        page.fill(path, "c", "")
