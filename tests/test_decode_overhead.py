"""What a quiet decoding step costs beside the pass, counted where there is no card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    import decode_overhead

    return decode_overhead


@pytest.mark.parametrize("runs_ahead", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_quiet_step_waits_for_the_device_once_and_sends_it_nothing(
    bench: Any, temperature: float, runs_ahead: bool
) -> None:
    found = bench.measure(3, temperature, steps=20, is_timed=False, runs_ahead=runs_ahead)
    assert (found.reads, found.uploads) == (1.0, 0.0)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_python_work_of_a_quiet_step_is_the_same_for_few_rows_and_for_many_and_less_for_one(
    bench: Any, temperature: float
) -> None:
    one, few, many = (bench.measure(n, temperature, steps=20, is_timed=False) for n in (1, 2, 64))
    assert many.calls == few.calls
    assert many.operations <= few.operations
    # A row alone needs no mask.
    assert (one.calls, one.operations) < (few.calls, few.operations)


def test_the_counters_see_what_they_count(bench: Any) -> None:
    with bench.CountReads() as reads, bench.CountOperations() as operations:
        values = torch.tensor([1.0, 2.0])
        bool((values > 0).all())
        values.tolist()
        values.sum().item()
    assert (reads.reads, reads.uploads) == (3, 1)
    assert operations.total >= 4
