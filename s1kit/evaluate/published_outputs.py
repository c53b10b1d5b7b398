"""Outputs that others published, as generations: sample files of lm-evaluation-harness, or plain rows.

They are graded again by our grader on our questions, so that numbers meet on the same terms. Tokens are those of the
file where it counts them, else words, and the generation says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from s1kit.analysis.results import WORDS_NOTE
from s1kit.analysis.settings import FILE
from s1kit.errors import InputError
from s1kit.questions import find_files, question_from, whole_rows
from s1kit.records import Generation, Question, Segment, Setting

ENDS = ("</think>", "<|im_start|>answer", "<|end_of_thought|>", "<|begin_of_solution|>")
"""What ends thinking in published outputs; the last one found in a text counts."""
STARTS = ("<think>", "<|im_start|>think", "<|begin_of_thought|>")

TEXT_COLUMNS = ("output", "response", "generation", "completion", "model_output")


def read_published(pattern: str, name: str) -> Iterator[tuple[Question, Generation]]:
    """Each row's question and generation; several rows of one question are its repeats.

    Raises InputError naming the line of a row that has no question or no output.
    """
    repeats: dict[str, int] = {}
    for path in find_files(pattern):
        for row, where in whole_rows(path):
            question, texts = _row(row, where)
            for text in texts:
                repeat = repeats.get(question.id, 0)
                repeats[question.id] = repeat + 1
                yield question, generation_of(text, question.id, Setting(method=FILE, model=name), repeat, row)


def is_lm_eval(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of `samples_*.jsonl` (lm-eval --log_samples)."""
    return "doc" in row and "resps" in row


def draws_of_lm_eval(row: Mapping[str, Any]) -> list[str]:
    """The texts of a sample's draws, of which each request has a list of its own."""
    return [str(text) for draws in row["resps"] for text in (draws if isinstance(draws, list) else [draws])]


def _row(row: Mapping[str, Any], where: str) -> tuple[Question, list[str]]:
    if is_lm_eval(row):
        doc = dict(row["doc"])
        if row.get("target") not in (None, "") and not any(k in doc for k in ("answer", "solution", "final_answer")):
            doc["answer"] = str(row["target"])
        return _question(doc, where), draws_of_lm_eval(row)
    if isinstance(row.get("answer"), str) and isinstance(row.get("thinking"), str):
        # Our own plain shape: the model's words in `thinking` and `answer`, the reference in `solution`.
        asked = {"question": row.get("question") or row.get("text"), "solution": row.get("solution")}
        return _question(asked, where), [f"{STARTS[0]}{row['thinking']}{ENDS[0]}{row['answer']}"]
    column = next((c for c in TEXT_COLUMNS if isinstance(row.get(c), str)), None)
    if column is None:
        fix = "Give lm-eval sample files, or rows with `question` and `output`, or `question`, `thinking`, `answer`."
        raise InputError("the row has no model output", where=where, fix=fix)
    return _question({k: v for k, v in row.items() if k != column}, where), [str(row[column])]


def _question(row: Mapping[str, Any], where: str) -> Question:
    try:
        return question_from(row)
    except InputError as error:
        raise InputError(error.what, where=where, fix=error.fix) from error


def generation_of(text: str, question_id: str, setting: Setting, repeat: int, row: Mapping[str, Any]) -> Generation:
    """A text with its delimiters as a generation. Without any delimiter all of it is the answer.

    >>> generation_of("<think>one two</think>4", "q", Setting(), 0, {}).thinking_tokens
    2
    """
    ends = [(text.rfind(end), end) for end in ENDS if end in text]
    segments: list[Segment] = []
    counted = row.get("thinking_tokens")
    note = "" if isinstance(counted, int) else WORDS_NOTE
    answer = text
    if ends:
        place, end = max(ends)
        thinking, answer = text[:place], text[place + len(end) :]
        for start in STARTS:
            thinking = thinking.replace(start, "", 1)
        num = counted if isinstance(counted, int) else len(thinking.split())
        segments.append(Segment(origin="sampled", kind="thinking", text=thinking.strip("\n"), num_tokens=num))
        segments.append(Segment(origin="sampled", kind="close", text=end, num_tokens=1))
    segments.append(Segment(origin="sampled", kind="answer", text=answer.strip(), num_tokens=len(answer.split())))
    return Generation(
        question_id=question_id, setting=setting, repeat=repeat, segments=tuple(segments), ending="closed", seam="text",
        note=note,
    )  # fmt: skip
