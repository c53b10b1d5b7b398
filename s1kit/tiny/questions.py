"""The pool of tiny questions, dirty on purpose, and the held-out questions that no training may see.

The last hexadecimal digit of a question's id decides where it belongs, before anything is drawn: `0` is the test
split, `1` the development split (for looking at while designing), every other digit the pool.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from random import Random
from typing import Literal

from s1kit.errors import InputError
from s1kit.records import Question
from s1kit.tiny.families import FAMILIES, MAX_ITEMS, as_question, draw_question, read_puzzle

Split = Literal["test", "development", "pool"]

MIN_ITEMS = 4
SHARE_EASY = 0.15
"""Pool questions with two or three items, which a base model answers directly: work for the difficulty filter."""
SHARE_LEAKED = 0.03
"""Pool questions that repeat a test question, half of them word by word, half in another wording."""
SHARE_REPEATED = 0.02
"""Pool questions that repeat another pool question."""
LEAK_FROM = 300
"""Leaked questions are among this many first test questions of the same seed."""
MIN_ITEMS_REWORDED = 12
"""A reworded repeat has at least so many items, enough for a long shared n-gram to show it."""


def split_of(question: Question) -> Split:
    """The split that a question belongs to, by its id.

    >>> split_of(Question(text="Add these digits, keep the last digit:\\n#1 3\\n#2 end"))
    'pool'
    """
    match question.id[-1]:
        case "0":
            return "test"
        case "1":
            return "development"
        case _:
            return "pool"


def held_out_questions(num: int, seed: int, split: Literal["test", "development"] = "test") -> list[Question]:
    """Distinct questions of 4 to 16 items, families in turn; fewer of a seed are the first of more."""
    _check_num(num)
    return list(_held_out(num, seed, split))


@lru_cache(maxsize=4)
def _held_out(num: int, seed: int, split: Literal["test", "development"]) -> tuple[Question, ...]:
    """Only a sixteenth of what is drawn belongs to the split, and a check asks for the same ones several times."""
    return tuple(islice(_distinct(Random(f"tiny:{split}:{seed}"), split, share_easy=0.0), num))


def tiny_questions(num: int, seed: int) -> list[Question]:
    """The first questions of `tiny_pool`."""
    _check_num(num)
    return list(islice(tiny_pool(seed), num))


def tiny_pool(seed: int) -> Iterator[Question]:
    """An endless pool of questions in four families, as dirty as a real one.

    Besides distinct questions it holds what `collect` must find: some 3 % repeat a test question of the same seed
    (exactly, or the same list in other words), and 2 % repeat one of the pool. All else belongs to the pool split.
    """
    random = Random(f"tiny:pool:{seed}")
    stream = _distinct(random, "pool", share_easy=SHARE_EASY)
    test = held_out_questions(LEAK_FROM, seed)
    pool: list[Question] = []
    while True:
        dice = random.random()
        if dice < SHARE_LEAKED:
            pool.append(_repeat(random, test))
        elif dice < SHARE_LEAKED + SHARE_REPEATED and pool:
            pool.append(_repeat(random, pool))
        else:
            pool.append(next(stream))
        yield pool[-1]


def _distinct(random: Random, split: Split, share_easy: float) -> Iterator[Question]:
    """Questions of one split without repeats, the families in turn."""
    seen: set[str] = set()
    while True:
        for family in FAMILIES:
            while True:
                is_easy = random.random() < share_easy
                num_items = random.randint(2, 3) if is_easy else random.randint(MIN_ITEMS, MAX_ITEMS)
                question = draw_question(random, family, num_items)
                if question.id not in seen and split_of(question) == split:
                    break
            seen.add(question.id)
            yield question


def _repeat(random: Random, questions: list[Question]) -> Question:
    question = random.choice(questions)
    if question.metadata["num_items"] < MIN_ITEMS_REWORDED or random.random() < 0.5:
        return question
    puzzle = read_puzzle(question.text)
    others = [
        other
        for wording in range(len(FAMILIES[puzzle.family].wordings))
        if split_of(other := as_question(puzzle, wording)) == "pool"
    ]
    return random.choice(others or [question])


def _check_num(num: int) -> None:
    if num < 0:
        raise InputError(f"the number of questions is {num}", fix="Use 0 or more.")
