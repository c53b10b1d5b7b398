"""Four families of questions, each a list that is walked item by item.

Every step copies its item by number and computes from what stands right beside it, because that is what a model of a
million parameters can do without fail; see `docs/tiny_model.md`. A family knows its wording, its items and one step.
It does not know how a teacher thinks, how text is tokenised, or which questions are held out.

    >>> puzzle = read_puzzle("Add these digits, keep the last digit:\\n#1 7\\n#2 6\\n#3 end")
    >>> step_line(puzzle, 2, value=7)
    ('#2 6: 7 + 6 -> 3', 3)
    >>> step_line(puzzle, 3, value=3)
    ('#3 end: 3', 3)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from s1kit.errors import InputError
from s1kit.records import Question

LICENCE = "Apache-2.0"
MAX_ITEMS = 16
NUM_CUPS = 8
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Puzzle:
    """A question of a family, taken apart."""

    family: str
    given: str
    """What the wording states: the start of a walk, or the letter to count; empty for `add`."""
    items: tuple[str, ...]
    """Without the end item, which every list has."""

    @property
    def start(self) -> int:
        """The value before the first step."""
        return int(self.given) if self.given.isdigit() else 0


@dataclass(frozen=True)
class Family:
    """How one family words, draws and walks its lists."""

    name: str
    wordings: tuple[str, ...]
    """Different ways to ask the same; `{given}` stands for what is given."""
    draw: Callable[[Random, int], Puzzle]
    """Draws a puzzle of so many items."""
    work: Callable[[Puzzle, str, int], tuple[str, int]]
    """One step: the puzzle, an item and the value so far give the written work and the new value."""
    values: range
    """Every value that a step may write."""


def _draw_add(random: Random, num_items: int) -> Puzzle:
    return Puzzle("add", "", tuple(str(random.randrange(10)) for _ in range(num_items)))


def _work_add(_: Puzzle, item: str, value: int) -> tuple[str, int]:
    return f"{value} + {item}", (value + int(item)) % 10


def _draw_letters(random: Random, num_items: int) -> Puzzle:
    # The count is uniform, so that no count is a good guess.
    target = random.choice(LETTERS)
    others = LETTERS.replace(target, "")
    hits = random.randint(0, num_items)
    items = [target] * hits + [random.choice(others) for _ in range(num_items - hits)]
    random.shuffle(items)
    return Puzzle("letters", target, tuple(items))


def _work_letters(puzzle: Puzzle, item: str, value: int) -> tuple[str, int]:
    # The comparison is a token of its own: compared and counted in one token, it was not learned.
    is_hit = item == puzzle.given
    return f"{puzzle.given}? {'yes' if is_hit else 'no'}", value + is_hit


def _draw_clock(random: Random, num_items: int) -> Puzzle:
    turns = (random.choice("+-") + str(random.randint(1, 5)) for _ in range(num_items))
    return Puzzle("clock", str(random.randint(1, 12)), tuple(turns))


def _work_clock(_: Puzzle, item: str, value: int) -> tuple[str, int]:
    return f"{value} {item}", (value + int(item) - 1) % 12 + 1


def _draw_cups(random: Random, num_items: int) -> Puzzle:
    # Half of the swaps move the coin; otherwise "it never moved" would be a fair guess.
    start = coin = random.randint(1, NUM_CUPS)
    swaps = []
    for _ in range(num_items):
        others = [cup for cup in range(1, NUM_CUPS + 1) if cup != coin]
        if random.random() < 0.5:
            other = random.choice(others)
            pair, coin = [coin, other], other
        else:
            pair = random.sample(others, 2)
        swaps.append("&".join(str(cup) for cup in sorted(pair)))
    return Puzzle("cups", str(start), tuple(swaps))


def _work_cups(_: Puzzle, item: str, value: int) -> tuple[str, int]:
    left, right = map(int, item.split("&"))
    if value not in (left, right):
        return f"{value} out", value
    return f"{value} in", right if value == left else left


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            "add",
            (
                "Add these digits, keep the last digit:",
                "What is the last digit of this sum?",
                "Sum the digits modulo 10:",
            ),
            _draw_add,
            _work_add,
            range(10),
        ),
        Family(
            "letters",
            (
                "Count the letter {given}:",
                "How many times is there a letter {given}?",
                "In this word, how many are {given}?",
            ),
            _draw_letters,
            _work_letters,
            range(MAX_ITEMS + 1),
        ),
        Family(
            "clock",
            (
                "A clock shows {given}. Turn its hand:",
                "It is {given} on a clock. Where does its hand stop?",
                "Turn the hand of a clock from {given}:",
            ),
            _draw_clock,
            _work_clock,
            range(1, 13),
        ),
        Family(
            "cups",
            (
                "A coin is under cup {given}. Swap the cups:",
                "Where is the coin? It starts under {given}:",
                "Swap the cups. The coin is under {given}:",
            ),
            _draw_cups,
            _work_cups,
            range(1, NUM_CUPS + 1),
        ),
    )
}


def write_puzzle(puzzle: Puzzle, wording: int = 0) -> str:
    """The text of a question: the wording, one numbered item a line, and the end item."""
    lines = [FAMILIES[puzzle.family].wordings[wording].format(given=puzzle.given)]
    lines += [f"#{number} {item}" for number, item in enumerate((*puzzle.items, "end"), start=1)]
    return "\n".join(lines)


def read_puzzle(text: str) -> Puzzle:
    """The inverse of `write_puzzle`, for any wording; another text is an `InputError`."""
    first, *lines = text.strip().split("\n")
    items = [line.partition(" ")[2] for line in lines]
    numbered = [f"#{number} {item}" for number, item in enumerate(items, start=1)]
    for family in FAMILIES.values():
        for wording in family.wordings:
            match = re.fullmatch(re.escape(wording).replace(r"\{given\}", "(?P<given>[a-z]|[0-9]+)"), first)
            if match and lines == numbered and items and items[-1] == "end":
                return Puzzle(family.name, match.groupdict().get("given") or "", tuple(items[:-1]))
    raise InputError(
        f"the built-in teacher cannot read the question {first[:60]!r}",
        fix="It knows the questions of `tiny_questions` only. Ask another teacher for others.",
    )


def step_line(puzzle: Puzzle, number: int, value: int) -> tuple[str, int]:
    """The line that walks item `number` (from 1) from `value`, and the value after it.

    The end item repeats the value: carried to where the walk is left, it is not forgotten in what follows.
    """
    if number > len(puzzle.items):
        return f"#{number} end: {value}", value
    item = puzzle.items[number - 1]
    work, new = FAMILIES[puzzle.family].work(puzzle, item, value)
    return f"#{number} {item}: {work} -> {new}", new


def solve(puzzle: Puzzle) -> int:
    """The value after the last item."""
    value = puzzle.start
    for number in range(1, len(puzzle.items) + 1):
        _, value = step_line(puzzle, number, value)
    return value


def draw_question(random: Random, family: str, num_items: int) -> Question:
    """A question of a family with so many items, in one of its wordings."""
    puzzle = FAMILIES[family].draw(random, num_items)
    return as_question(puzzle, wording=random.randrange(len(FAMILIES[family].wordings)))


def as_question(puzzle: Puzzle, wording: int) -> Question:
    """The record of a puzzle."""
    return Question(
        text=write_puzzle(puzzle, wording),
        solution=str(solve(puzzle)),
        source=f"tiny/{puzzle.family}",
        licence=LICENCE,
        metadata={"num_items": len(puzzle.items)},
    )
