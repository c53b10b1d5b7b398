"""The grader on answers labelled by hand: what docs/evidence.md publishes is what comes out."""

from __future__ import annotations

import importlib.util
import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError

pytest.importorskip("math_verify")

ROOT = Path(__file__).parents[1]


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bench() -> Any:
    return load("grader_matrix")


@pytest.fixture(scope="module")
def judged(bench: Any) -> list[str]:
    """The verdict on each of the labelled answers."""
    return [verdict for verdict, _ in bench.by_s1kit(bench.rows())]


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return load("grader_replies")


def published(name: str) -> dict[str, list[int]]:
    """The cells of one table row of docs/evidence.md for each label: correct, wrong, abstained, then math-verify's."""
    text = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    rows = {}
    for label in ("correct", "wrong"):
        found = re.search(rf"^\| {name}, {label} \|((?: \d+ \|)+)$", text, re.MULTILINE)
        assert found, (name, label)
        rows[label] = [int(cell) for cell in found[1].split("|")[:-1]]
    return rows


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


def test_the_published_confusion_matrix_is_what_the_grader_says(bench: Any, judged: list[str]) -> None:
    rows = bench.rows()
    published = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")
    for kind in ("", "choice"):
        chosen = [n for n, row in enumerate(rows) if row.get("kind", "") == kind]
        counts = bench.matrix([rows[n]["label"] for n in chosen], [judged[n] for n in chosen])
        for label in ("correct", "wrong"):
            cells = " \\| ".join(str(counts[label, verdict]) for verdict in bench.VERDICTS)
            name = kind or "mathematical"
            assert re.search(rf"\| {name}, {label} \| {cells} \|", published), (name, label, cells)


def test_real_and_written_answers_are_published_apart(bench: Any, judged: list[str]) -> None:
    rows = bench.rows()
    for origin in ("real", "written"):
        chosen = [n for n, row in enumerate(rows) if row["origin"] == origin and not row.get("kind")]
        counts = bench.matrix([rows[n]["label"] for n in chosen], [judged[n] for n in chosen])
        for label, cells in published(f"{origin} answers").items():
            assert cells[:3] == [counts[label, verdict] for verdict in bench.VERDICTS], (origin, label)


def test_every_labelled_reply_says_where_it_lies(replies: Any) -> None:
    rows = replies.labels()
    assert len({row["sha256"] for row in rows}) == len(rows) >= 250
    assert {row["label"] for row in rows} == {"correct", "wrong"}
    assert all(row["source"] and row["file"] and row["line"] > 0 and row["licence"] == "MIT" for row in rows)


def test_the_published_rows_on_replies_add_up_to_the_labels(replies: Any) -> None:
    counts = Counter((row["reference"], row["label"]) for row in replies.labels())
    for reference, name in (("integer", "integer"), ("other", "other forms")):
        for when in ("unseen", "after the fix"):
            for label, cells in published(f"{name}, {when}").items():
                assert sum(cells[:3]) == counts[reference, label], (name, when, label)


def test_a_reply_that_is_not_the_labelled_one_is_refused(replies: Any) -> None:
    row = replies.labels()[0]
    other = json.dumps({"answer": "1", "code": [r"\boxed{1}"] * 8})
    with pytest.raises(InputError, match="not the labelled one"):
        replies.joined([row], {row["file"]: [other] * row["line"]})
    with pytest.raises(InputError, match="not there"):
        replies.joined([row], {})


def test_the_published_matrix_on_replies_is_what_the_grader_says(replies: Any, bench: Any) -> None:
    folder = os.environ.get("S1KIT_GRADER_REPLIES", "")
    if not folder:
        pytest.skip("S1KIT_GRADER_REPLIES names no folder with outputs.zip and math_cot_100.jsonl")
    files = replies.read([Path(folder) / "outputs.zip", Path(folder) / "math_cot_100.jsonl"])
    rows = replies.joined(replies.labels(), files)
    judged = [verdict for verdict, _ in bench.by_s1kit(rows)]
    for reference, name in (("integer", "integer"), ("other", "other forms")):
        chosen = [n for n, row in enumerate(rows) if row["reference"] == reference]
        counts = bench.matrix([rows[n]["label"] for n in chosen], [judged[n] for n in chosen])
        for label, cells in published(f"{name}, after the fix").items():
            assert cells[:3] == [counts[label, verdict] for verdict in bench.VERDICTS], (name, label)
