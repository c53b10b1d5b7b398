"""`report --from` on logs as other harnesses write them: their verdicts are found, and nothing is silently wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.evaluate.recorded import record
from s1kit.files import read_rows
from s1kit.records import Generation
from tests.test_recorded import write

pytest.importorskip("math_verify")

SUMS = [(f"What is {a} + {b}?", str(a + b)) for a, b in [(2, 3), (4, 5), (6, 7), (8, 9)]]
"""The first one is answered wrongly in every log."""


def said(i: int) -> str:
    return f"So \\boxed{{{SUMS[i][1] if i else 0}}}"


ROWS: dict[str, Callable[[int, str, str], dict[str, Any]]] = {
    "NeMo-Skills": lambda i, q, s: {
        "problem": q, "expected_answer": s, "generation": said(i), "predicted_answer": s, "symbolic_correct": bool(i),
        "num_generated_tokens": 20,
    },
    "verl": lambda i, q, s: {
        "input": f"user\n{q}\nassistant\n", "output": said(i), "gts": s, "score": float(bool(i)), "step": 100,
    },
    "verl with shaped rewards": lambda i, q, s: {"input": q, "output": said(i), "gts": s, "score": 0.7, "step": 1},
    "evalscope": lambda i, q, s: {
        "index": i, "input": f"**User**: \n{q}", "target": s,
        "sample_score": {"score": {"value": {"acc": float(bool(i))}, "prediction": said(i)}},
    },
    "lighteval": lambda i, q, s: {
        "doc": {"query": q, "choices": [s], "gold_index": [0], "task_name": "lighteval|gsm8k|0"},
        "model_response": {"text": [said(i)], "output_tokens": [[1, 2, 3]]},
        "metric": {"extractive_match": float(bool(i))},
    },
    "lighteval before 0.10": lambda i, q, s: {
        "example": q, "full_prompt": f"Q: {q}", "choices": [s], "gold": [s], "gold_index": [0],
        "predictions": [said(i)],
        "metrics": {"qem": float(bool(i))},
    },
    "a chat": lambda i, q, s: {
        "messages": [{"role": "user", "content": q}, {"role": "assistant", "content": said(i)}], "answer": s,
    },
    "OpenCompass": lambda i, q, s: {
        "origin_prompt": [{"role": "HUMAN", "prompt": q}], "prediction": said(i), "gold": s,
    },
    "bare predictions": lambda i, q, s: {"question": q, "solution": s, "pred": said(i)},
    "bare predictions beside an answer": lambda i, q, s: {"problem": q, "answer": s, "predicted": s if i else "0"},
}  # fmt: skip


def verdicts(path: Path, out: Path) -> list[Generation]:
    ((_, run),) = record([path], out, {})
    rows = read_rows(sorted((run.folder / "evaluate").glob("**/generations*.parquet")), Generation)
    return sorted(rows, key=lambda g: g.verdict or "")


@pytest.mark.parametrize("shape", ROWS)
def test_three_of_four_are_right_in_a_log_of(shape: str, tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [ROWS[shape](i, q, s) for i, (q, s) in enumerate(SUMS)])
    found = verdicts(path, tmp_path / "out")
    assert [g.verdict for g in found] == ["correct"] * 3 + ["wrong"]
    assert all(g.answer for g in found)


def test_an_object_of_predictions_is_read_like_rows(tmp_path: Path) -> None:
    path = tmp_path / "gsm8k.json"
    path.write_text(json.dumps({str(i): ROWS["OpenCompass"](i, q, s) for i, (q, s) in enumerate(SUMS)}))
    assert [g.verdict for g in verdicts(path, tmp_path / "out")] == ["correct"] * 3 + ["wrong"]


def test_several_draws_of_lighteval_are_graded_one_by_one(tmp_path: Path) -> None:
    row: dict[str, Any] = ROWS["lighteval"](1, *SUMS[1])
    row["model_response"]["text"] = ["\\boxed{9}", "\\boxed{8}"]
    found = verdicts(write(tmp_path / "log.jsonl", [row]), tmp_path / "out")
    assert [g.verdict for g in found] == ["correct", "wrong"]


def test_results_of_evalplus_count_what_passes_its_own_tests(tmp_path: Path) -> None:
    tries: Mapping[str, Any] = {"solution": "def f(): pass", "base_status": "pass"}
    log = {"date": "x", "eval": {"H/0": [{**tries, "plus_status": "fail"}], "H/1": [{**tries, "plus_status": None}]}}
    path = tmp_path / "eval_results.json"
    path.write_text(json.dumps(log))
    assert [g.verdict for g in verdicts(path, tmp_path / "out")] == ["correct", "wrong"]


def test_a_log_of_which_no_row_can_be_judged_is_refused_and_not_reported_as_all_wrong(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [{"question": q, "output": "5", "truth": s} for q, s in SUMS])
    with pytest.raises(InputError, match=r"no row can be judged \(4 in all\)"):
        record([path], tmp_path / "out", {})
    record([path], tmp_path / "out", {"solution": "truth"})
