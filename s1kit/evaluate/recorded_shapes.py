"""Rows of other harnesses as flat rows, recognised by their columns.

lm-evaluation-harness (`--log_samples`), lighteval (details, old and new), OpenCompass (predictions), evalscope
(reviews), verl (validation generations), evalplus (results), and chats in `messages`. The columns are those that these
programs write; the rest of a row is kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from s1kit.evaluate.published import is_lm_eval
from s1kit.evaluate.recorded_logs import VERDICTS, of_lm_eval

Row = dict[str, Any]


def flat_row(row: Mapping[str, Any]) -> tuple[Row, list[str | None]]:
    """A row with the columns of `recorded_rows.FIELDS`, and the texts of its draws; [None] where a column has them.

    >>> flat_row({"origin_prompt": "1 + 1?", "prediction": "2", "gold": "2"})
    ({'origin_prompt': '1 + 1?', 'gold': '2', 'question': '1 + 1?', 'output': '2'}, [None])
    """
    if is_lm_eval(row):
        return of_lm_eval(row)
    if isinstance(row.get("doc"), Mapping) and isinstance(row.get("model_response"), Mapping):
        doc, response = row["doc"], row["model_response"]
        texts = response.get("text_post_processed") or response.get("text")
        metric = row.get("metric") if isinstance(row.get("metric"), Mapping) else row.get("metrics")
        return _of_lighteval(doc, doc.get("query"), texts, metric, doc.get("task_name"))
    if "full_prompt" in row and "predictions" in row:
        return _of_lighteval(row, row.get("example") or row["full_prompt"], row["predictions"], row.get("metrics"))
    flat = dict(row)
    if "origin_prompt" in row and "prediction" in row:
        flat |= {"question": _asked(row["origin_prompt"]), "output": flat.pop("prediction")}
    elif isinstance(row.get("sample_score"), Mapping):
        score = row["sample_score"].get("score") or {}
        flat |= {"output": score.get("prediction"), "extracted": score.get("extracted_prediction")}
        flat["correct"] = _verdict_of(score.get("value"))
    elif {"input", "output", "score"} <= row.keys() and "correct" not in row:
        flat["correct"] = _verdict_of({"score": row["score"]})
    elif isinstance(row.get("messages"), Sequence) and "question" not in row and not isinstance(row["messages"], str):
        said = [message for message in row["messages"] if isinstance(message, Mapping)]
        answers = [message.get("content") for message in said if message.get("role") == "assistant"]
        flat |= {"question": _asked(said), "output": answers[-1] if answers else None}
    return flat, [None]


def _of_lighteval(
    doc: Mapping[str, Any], question: Any, texts: Any, metric: Any, task: Any = None
) -> tuple[Row, list[str | None]]:
    """A row of details. A verdict counts for one draw only: of several, the metric is one number for all."""
    gold, choices = doc.get("gold_index"), doc.get("choices")
    if isinstance(gold, Sequence) and not isinstance(gold, str):
        gold = gold[0] if len(gold) else None
    solution = (
        choices[gold] if isinstance(gold, int) and choices is not None and gold < len(choices) else doc.get("gold")
    )
    if isinstance(solution, Sequence) and not isinstance(solution, str):
        solution = solution[0] if len(solution) else None
    draws: list[str | None] = [str(text) for text in (texts if isinstance(texts, Sequence) else [])]
    flat = {"question": question, "gold": solution, "benchmark": task, "temperature": 0.0}
    if len(draws) == 1:
        flat["correct"] = _verdict_of(metric)
    return flat, draws or [None]


def _verdict_of(metric: Any) -> Any:
    """The one right or wrong among named scores; None where there is none, or where they contradict each other."""
    scores = metric.values() if isinstance(metric, Mapping) else [metric]
    found = {VERDICTS[str(score).lower()] for score in scores if str(score).lower() in VERDICTS}
    return found.pop() if len(found) == 1 else None


def _asked(prompt: Any) -> Any:
    """The last thing that the user said in a prompt of several messages."""
    if not isinstance(prompt, Sequence) or isinstance(prompt, str):
        return prompt
    said = [m for m in prompt if isinstance(m, Mapping) and str(m.get("role")).lower() in ("user", "human")]
    return (said[-1].get("prompt") or said[-1].get("content")) if said else None


def is_evalplus(path: Path) -> bool:
    """Whether a JSON file is evalplus's results."""
    with path.open(encoding="utf-8-sig") as file:
        start = file.read(20000)
    return start.lstrip().startswith("{") and '"base_status"' in start and '"eval"' in start


def evalplus_rows(path: Path) -> Iterator[tuple[Row, str]]:
    """The tries of a results file of evalplus: right where they pass its tests, or the original ones without those."""
    for task, tries in json.loads(path.read_text(encoding="utf-8-sig"))["eval"].items():
        for number, one in enumerate(tries):
            status = one.get("plus_status") or one.get("base_status")
            yield (
                {"question": task, "output": one.get("solution"), "correct": status == "pass"},
                f"{path}, {task} {number}",
            )
