"""The names that people give to columns, and the one that a row uses for each thing."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from typing import Any

COLUMNS: dict[str, tuple[str, ...]] = {
    "text": (
        *("text", "question", "problem", "prompt", "question_content", "question_text", "problem_statement"),
        *("problem_text", "informal_statement", "informal_problem", "nl_statement"),
        *("instruction", "query", "input", "q", "front"),
        *("inputs", "inputs_pretokenized", "user_input", "original_text", "squestion", "term"),
        *("question_str", "qtext", "input_question", "message_1"),
        *("frage", "aufgabe", "pregunta", "domanda", "pergunta", "вопрос", "задача"),
        *("问题", "题目", "問題", "題目", "質問", "질문", "문제"),
    ),
    "worked": (
        *("solution", "worked_solution", "reference_solution", "ground_truth_solution", "gold_standard_solution"),
        *("informal_solution", "informal_proof", "nl_proof", "gold_solution", "official_solution"),
        *("generated_solution", "rationale", "explanation"),
        *("解析", "解説", "풀이"),
        *("response", "completion", "canonical_solution", "output", "solutions", "message_2"),
    ),
    "answer": (
        # Beside one of these, `answer` may be a model's, or worked.
        *("final_answer", "ground_truth", "ground_truth_answer", "reference_answer", "expected_answer"),
        *("gold_answer", "golden_answer", "true_answer", "gts"),
        *("answer_number", "numerical_answer", "numeric_answer", "answer_value"),
        *("answer", "correct_answer", "gold", "target", "label", "ideal", "expected_output"),
        *("final_decision", "back", "answers", "targets", "targets_pretokenized", "final_ans", "ans", "golden"),
        *("expected", "expected_response", "reference", "lsolutions", "right_answer", "definition"),
        *("antwort", "respuesta", "risposta", "resposta", "réponse", "ответ", "答案", "答え", "정답", "a"),
    ),
    "source": ("source", "source_type", "dataset"),
    "licence": ("licence", "license"),
    "domain": ("domain",),
}
"""Names under which each thing is looked for, the first found wins. Case, spaces and underscores do not matter."""


_NOTE = re.compile(r"\s*\((?:s|[^()]{2,})\)|\s[-\u2013\u2014]\s+\S+\s.*", re.DOTALL)
"""A remark behind a column's name, in brackets or after a dash; a single letter in brackets is a name."""


@lru_cache(4096)
def plain_name(name: object) -> str:
    """A column's name without case, spaces and signs, and without remarks behind it.

    >>> plain_name("Correct Answer"), plain_name("correct_answer"), plain_name("correctAnswer")
    ('correctanswer', 'correctanswer', 'correctanswer')
    >>> plain_name("Answer (km/h)"), plain_name("Answer 1 - max 75 characters"), plain_name("Question #")
    ('answer', 'answer1', 'questionnumber')
    """
    without = _NOTE.sub("", str(name)).replace("#", " number")
    return re.sub(r"[\W_]+", "", without or str(name)).casefold()


_PLAIN = {key: tuple(dict.fromkeys(map(plain_name, names))) for key, names in COLUMNS.items()}
_LETTER_OF_AN_ANSWER = "a"


def columns_for(key: str, row: Iterable[Any]) -> list[str]:
    """The columns that may hold a thing, the likeliest first. `key` is one of `COLUMNS`.

    >>> columns_for("text", ["ID", "Question Text", "prompt"]), columns_for("answer", ["Q", "A"])
    (['prompt', 'Question Text'], ['A'])
    """
    columns: dict[str, str] = {}
    for column in row:
        columns.setdefault(plain_name(column), str(column))
    found = [columns[name] for name in _PLAIN[key] if name in columns]
    if key == "answer" and "q" not in columns:  # otherwise `a` is any letter
        found = [column for column in found if plain_name(column) != _LETTER_OF_AN_ANSWER]
    return found


def has_question(columns: Collection[Any]) -> bool:
    """Whether a column has a name that questions have."""
    return bool(columns_for("text", columns))


def question_text(row: Mapping[str, Any]) -> str:
    """The column of a row that holds the question as text; empty where none does."""
    return next((c for c in columns_for("text", row) if isinstance(row[c], str) and row[c].strip()), "")
