"""The examples run, and say what the documentation says they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from s1kit.curate.quality import rules_of
from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import load_benchmarks
from s1kit.records import Sample
from s1kit.stage import read_rows

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_one_question_goes_from_pool_to_report() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "one_question.py"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "quality: kept" in done.stdout
    assert "64 tokens, 0 waits: wrong" in done.stdout
    assert "64 tokens, 1 waits: correct" in done.stdout
    assert "[Wait]" in done.stdout


def test_functions_of_ones_own_are_named_in_a_recipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1kit", "run", "my_extensions.toml", f"out={tmp_path}"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (shard,) = (tmp_path / "my-extensions" / "curate").glob("samples-*.parquet")
    samples = list(read_rows([shard], Sample))
    assert len(samples) == 10
    assert samples[0].picked_by == "shortest:rank=0"
    assert {s.trace.teacher for s in samples} == {"parrot"}
    assert {s.trace.question.domain for s in samples} <= {"long", "short"}


def test_a_benchmark_of_ones_own_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert [q.solution for q in load_benchmarks(["my_extensions:sums"], None, 0)] == ["0", "2", "4"]


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [("no_such_module:rule", "cannot be imported"), ("my_extensions:shrt", "Did you mean short")],
)
def test_a_function_that_is_not_there_is_refused(
    reference: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    with pytest.raises(InputError, match=complaint):
        rules_of([reference])
