"""The built-in teacher: thinks as thinking models write, and is right in about six of ten traces.

It walks two to four items, ventures a "Maybe", and then either tells itself to wait and goes on, or stops too early:
the longer it has walked, the sooner it is content. It slips and corrects itself, slips without noticing, breaks off in
the middle of a line, and now and then breaks the format, so that the filters of a recipe have work. The early stopping
is put in on purpose, as the thing that "Wait" can mend; whoever reports a curve of this model says so.

It does not know the model that learns from it, nor what a trace costs.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from s1kit.records import FinishReason, Question
from s1kit.tiny.families import FAMILIES, Puzzle, read_puzzle, step_line

GO_ON = "Wait, not done yet."
ALL_DONE = "Wait, all done."
CORRECTION = "Wait, check."

# Shares of traces or lines; together they make 60 % of the traces right.
SHARE_MAYBE = 0.75
SHARE_BROKEN_OFF = 0.12
SHARE_SECOND_LOOK = 0.4
SHARE_BAD_FORMAT = 0.03
SHARE_SLIP_NOTICED = 0.01
SHARE_SLIP_UNNOTICED = 0.006


@dataclass(frozen=True)
class Written:
    """What the teacher wrote."""

    thinking: str
    answer: str
    finish_reason: FinishReason


def write_trace(question: Question, draw: int = 0) -> Written:
    """The teacher's reply to a question; the same question and draw give the same reply.

    A cut-off reply has the finish reason `length` and no answer; another kind of broken reply has an answer without a
    final answer in it. A text that is not of a built-in family is an `InputError`.
    """
    random = Random(f"{question.id}:{draw}")
    puzzle = read_puzzle(question.text)
    lines, value = _think(puzzle, random)
    thinking, answer = "\n".join(lines), f"Final Answer: {value}"
    if random.random() < SHARE_BAD_FORMAT:
        if random.random() < 0.5:
            return Written(thinking[: random.randint(len(thinking) // 2, len(thinking) - 1)].rstrip(), "", "length")
        return Written(thinking, "I am not sure.", "stop")
    return Written(thinking, answer, "stop")


def _think(puzzle: Puzzle, random: Random) -> tuple[list[str], int]:
    lines: list[str] = []
    value = puzzle.start
    pause = random.randint(2, 4)
    for number in range(1, len(puzzle.items) + 1):
        written, value = _walk(puzzle, number, value, random)
        lines += written
        pause -= 1
        if pause == 0:
            if random.random() < SHARE_MAYBE:
                lines.append(f"Maybe {value}.")
            if random.random() < _contentment(number):
                if random.random() < SHARE_BROKEN_OFF:
                    lines.append(_beginning(step_line(puzzle, number + 1, value)[0], random))
                return lines, value
            lines.append(GO_ON)
            pause = random.randint(2, 4)
    lines += [step_line(puzzle, len(puzzle.items) + 1, value)[0], f"So {value}."]
    while random.random() < SHARE_SECOND_LOOK:
        lines += [ALL_DONE, f"So {value}."]
    return lines, value


def _contentment(num_walked: int) -> float:
    """The chance to stop here, although the list goes on."""
    if num_walked < 5:
        return 0.04
    return 0.12 if num_walked < 8 else 0.8


def _walk(puzzle: Puzzle, number: int, value: int, random: Random) -> tuple[list[str], int]:
    """The lines that walk one item, with a slip now and then, and the value believed after them."""
    line, right = step_line(puzzle, number, value)
    dice = random.random()
    if dice >= SHARE_SLIP_NOTICED + SHARE_SLIP_UNNOTICED:
        return [line], right
    wrong = random.choice([other for other in (right - 1, right + 1) if other in FAMILIES[puzzle.family].values])
    slipped = line.rpartition(" ")[0] + f" {wrong}"
    if dice < SHARE_SLIP_NOTICED:
        return [slipped, CORRECTION, line], right
    return [slipped], wrong


def _beginning(line: str, random: Random) -> str:
    words = line.split(" ")
    return " ".join(words[: random.randint(1, max(1, len(words) - 2))])
