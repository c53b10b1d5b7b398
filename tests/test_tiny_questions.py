"""The tiny world: questions, their splits, and the built-in teacher."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from s1kit.errors import InputError
from s1kit.records import Question
from s1kit.tiny.families import FAMILIES, draw_question, read_puzzle, solve, step_line, write_puzzle
from s1kit.tiny.questions import LEAK_FROM, held_out_questions, split_of, tiny_questions
from s1kit.tiny.teacher import write_trace


def recomputed(text: str) -> int:
    """The answer, computed from the text without the package's own steps."""
    first, *lines = text.split("\n")
    items = [line.split(" ")[1].split("&") for line in lines[:-1]]
    if "digit" in first:
        return sum(int(item) for (item,) in items) % 10
    given = first.replace("?", " ").replace(":", " ").replace(".", " ").split()
    if "many" in first or "Count" in first:
        target = next(word for word in reversed(given) if len(word) == 1)
        return sum(item == [target] for item in items)
    start = next(int(word) for word in given if word.isdigit())
    if "clock" in first:
        hour = start
        for (item,) in items:
            hour += int(item)
        return hour % 12 or 12
    coin = start
    for left, right in items:
        coin = {int(left): int(right), int(right): int(left)}.get(coin, coin)
    return coin


def test_every_solution_agrees_with_an_independent_computation() -> None:
    for question in tiny_questions(400, seed=3):
        assert question.solution == str(recomputed(question.text)), question.text


def test_the_same_seed_draws_the_same_questions_and_another_seed_others() -> None:
    assert tiny_questions(50, seed=1) == tiny_questions(50, seed=1)
    assert tiny_questions(50, seed=1) != tiny_questions(50, seed=2)
    assert held_out_questions(10, seed=1) == held_out_questions(30, seed=1)[:10]


def test_a_puzzle_survives_writing_and_reading_in_every_wording() -> None:
    random = Random(0)
    for family in FAMILIES.values():
        for wording in range(len(family.wordings)):
            puzzle = family.draw(random, 7)
            assert read_puzzle(write_puzzle(puzzle, wording)) == puzzle


def test_a_foreign_question_is_an_input_error_that_names_it() -> None:
    with pytest.raises(InputError, match="What is love"):
        read_puzzle("What is love?")


def test_guessing_the_commonest_answer_is_right_less_than_a_quarter_of_the_time() -> None:
    by_family: dict[str, Counter[str]] = {}
    for question in held_out_questions(800, seed=5):
        by_family.setdefault(question.source, Counter())[question.solution or ""] += 1
    assert len(by_family) == 4
    for family, solutions in by_family.items():
        assert solutions.most_common(1)[0][1] / solutions.total() < 0.25, family


def test_splits_are_disjoint_and_held_out_questions_have_four_to_sixteen_items() -> None:
    test = held_out_questions(100, seed=0)
    development = held_out_questions(100, seed=0, split="development")
    assert {split_of(q) for q in test} == {"test"}
    assert {split_of(q) for q in development} == {"development"}
    assert {q.metadata["num_items"] for q in test} <= set(range(4, 17))
    assert len({q.id for q in test}) == len(test)


def test_the_pool_holds_no_held_out_question_but_the_few_it_leaks_on_purpose() -> None:
    pool = tiny_questions(1500, seed=0)
    test = {q.id for q in held_out_questions(LEAK_FROM, seed=0)}
    leaked = [q for q in pool if split_of(q) != "pool"]
    assert 0.01 < len(leaked) / len(pool) < 0.05
    assert {q.id for q in leaked} <= test
    assert 0.93 < len({q.id for q in pool}) / len(pool) < 1


def test_some_pool_questions_repeat_a_test_list_in_other_words() -> None:
    test = {read_puzzle(q.text) for q in held_out_questions(LEAK_FROM, seed=0)}
    reworded = [q for q in tiny_questions(1500, seed=0) if split_of(q) == "pool" and read_puzzle(q.text) in test]
    assert any(q.metadata["num_items"] >= 12 for q in reworded)


def test_the_teacher_writes_the_same_for_the_same_draw_and_differs_between_draws() -> None:
    questions = tiny_questions(40, seed=0)
    assert [write_trace(q) for q in questions] == [write_trace(q) for q in questions]
    assert [write_trace(q, 1) for q in questions] != [write_trace(q, 0) for q in questions]


def test_the_teacher_is_right_in_about_six_of_ten_traces_and_breaks_the_format_in_a_few() -> None:
    questions = tiny_questions(2000, seed=0)
    traces = [write_trace(q) for q in questions]
    right = sum(t.answer == f"Final Answer: {q.solution}" for q, t in zip(questions, traces, strict=True))
    assert 0.55 < right / len(traces) < 0.70
    broken = sum("Final Answer:" not in t.answer for t in traces)
    assert 0.02 < broken / len(traces) < 0.045
    assert any(t.finish_reason == "length" and t.answer == "" for t in traces)


def test_a_trace_that_stops_early_answers_with_the_value_it_had_reached() -> None:
    question = draw_question(Random(4), "add", 16)
    for draw in range(50):
        trace = write_trace(question, draw)
        if "end" not in trace.thinking and trace.answer.startswith("Final Answer:"):
            reached = [line for line in trace.thinking.split("\n") if "->" in line][-1].split(" ")[-1]
            assert trace.answer == f"Final Answer: {reached}"
            return
    raise AssertionError("no early stop in fifty draws")


def test_the_teacher_waits_and_corrects_itself() -> None:
    thinking = "\n".join(write_trace(q).thinking for q in tiny_questions(300, seed=0))
    for phrase in ("Wait, not done yet.", "Wait, all done.", "Wait, check.", "Maybe ", "So "):
        assert phrase in thinking, phrase


def test_steps_lead_to_the_solution_and_the_end_item_is_the_last_line() -> None:
    puzzle = read_puzzle(Question(text="Count the letter r:\n#1 r\n#2 a\n#3 s\n#4 r\n#5 end").text)
    value = puzzle.start
    for number in range(1, 6):
        line, value = step_line(puzzle, number, value)
    assert (line, value, solve(puzzle)) == ("#5 end: 2", 2, 2)
