"""The grader on answers labelled by hand: what docs/curation.md publishes is what comes out."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("math_verify")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("grader_matrix", ROOT / "bench" / "grader_matrix.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_labelled_answer_says_what_it_is_and_where_it_is_from(bench: Any) -> None:
    rows = bench.rows()
    assert len(rows) > 500
    assert len({(row["gold"], row["answer"]) for row in rows}) == len(rows)
    for row in rows:
        assert row["label"] in ("correct", "wrong")
        assert row["origin"] in ("real", "written")
        assert row["licence"]
        assert row["question_id"]
        assert (row.get("kind") == "choice") == bool(row.get("question"))


def test_the_published_confusion_matrix_is_what_the_grader_says(bench: Any) -> None:
    rows = bench.rows()
    judged = [verdict for verdict, _ in bench.by_s1kit(rows)]
    published = (ROOT / "docs" / "curation.md").read_text(encoding="utf-8")
    for kind in ("", "choice"):
        chosen = [n for n, row in enumerate(rows) if row.get("kind", "") == kind]
        counts = bench.matrix([rows[n]["label"] for n in chosen], [judged[n] for n in chosen])
        for label in ("correct", "wrong"):
            cells = " \\| ".join(str(counts[label, verdict]) for verdict in bench.VERDICTS)
            name = kind or "mathematical"
            assert re.search(rf"\| {name}, {label} \| {cells} \|", published), (name, label, cells)
