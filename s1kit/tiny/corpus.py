"""What the base model reads: copying first, then the single steps and short answers of the four families.

It never reads a trace: no "Maybe", no "Wait", no conclusion, no thinking delimiter. And it never reads a question of
the test or the development split. Lookup by number does not form from questions in this budget; a few minutes of plain
copying, in the very shape of the lists, form it, and everything else is built on it (`docs/tiny_model.md`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from s1kit.tiny.families import FAMILIES, LETTERS, MAX_ITEMS, Puzzle, as_question, solve, step_line
from s1kit.tiny.questions import MIN_ITEMS, split_of

Skill = Literal["lookup", "step", "walk", "begin", "resume", "now", "direct"]
SKILLS: tuple[Skill, ...] = ("lookup", "step", "walk", "begin", "resume", "now", "direct")
"""Copy an item by its number; one step; several steps in a row, to the end item too; the first steps, from what the
question states; more steps from where the last exchange ended; the value there; the answer without a word."""
LESSON: tuple[Skill, ...] = ("lookup", "step", "walk", "walk", "walk")
PRACTICE: tuple[Skill, ...] = ("step", "walk", "begin", "begin")
SHARE_SHORT = 0.15
_CONVERSATION_CHARS = 720
"""About the length of a conversation."""


@dataclass(frozen=True)
class Document:
    """A text in parts, each with whether the model is to learn it."""

    parts: tuple[tuple[str, bool], ...]

    @property
    def text(self) -> str:
        return "".join(part for part, _ in self.parts)


@dataclass(frozen=True)
class Exchange:
    """One exchange about a question."""

    skill: Skill
    ask: str
    reply: str
    number: int = 0
    """The last item walked; 0 where none was."""
    value: int = 0
    """The value after it."""


def repeated_list(random: Random) -> Document:
    """A short list three times over: the easiest copying, which makes the first lookups form."""
    num_items = random.randint(3, 10)
    family = random.choice([*FAMILIES, "words", "words"])
    items = _random_words(random, num_items) if family == "words" else FAMILIES[family].draw(random, num_items).items
    text = "".join(f"#{number} {item}\n" for number, item in enumerate((*items, "end"), start=1))
    return Document(((text, False), (text, True), (text, True)))


def copying_document(random: Random) -> Document:
    """A list in the shape of some family, or of random words, then its lines again, in order or in any order."""
    num_items = random.randint(3, MAX_ITEMS)
    family = random.choice([*FAMILIES, "words"])
    items = _random_words(random, num_items) if family == "words" else FAMILIES[family].draw(random, num_items).items
    first = 1 if random.random() < 0.7 else random.randint(1, MAX_ITEMS - num_items + 1)
    lines = [f"#{number} {item}" for number, item in enumerate((*items, "end"), start=first)]
    tail = random.choice(["\n", ":\n"])
    parts = [("\n".join(lines) + "\n", False)]
    if random.random() < 0.3:
        parts += [(line + tail, True) for line in lines]
    else:
        for _ in range(random.randint(10, 24)):
            number, _, item = random.choice(lines).partition(" ")
            parts += [(number, False), (f" {item}{tail}", True)]  # which number comes next cannot be known
    return Document(tuple(parts))


def conversation(
    random: Random,
    families: Sequence[str] = tuple(FAMILIES),
    skills: Sequence[Skill] = LESSON,
) -> Document:
    """A question of one of the families and several exchanges about it in the chat layout."""
    puzzle, text = draw_base_question(random, random.randint(MIN_ITEMS, MAX_ITEMS), families)
    turns: list[Exchange] = []
    while sum(len(turn.reply) + 60 for turn in turns) < _CONVERSATION_CHARS - len(text):
        if not turns and random.random() < 0.2:
            skill: Skill = "direct"
        elif turns and 0 < turns[-1].number <= len(puzzle.items) and random.random() < 0.5:
            skill = random.choice(["resume", "resume", "now"])
        else:
            skill = random.choice(skills)
        turns.append(draw_turn(random, puzzle, skill, turns[-1] if turns else None))
    asks = [turn.ask for turn in turns]
    asks[0] = "\n".join(filter(None, [text, asks[0]]))
    return _chat(asks, [turn.reply for turn in turns])


def short_questions(random: Random) -> Document:
    """Questions of one to three items, one after the other, each answered directly."""
    asks, replies = [], []
    for _ in range(8):
        puzzle, text = draw_base_question(random, random.randint(1, 3))
        asks.append(text)
        replies.append(draw_turn(random, puzzle, "direct").reply)
    return _chat(asks, replies)


def lesson(random: Random) -> Document:
    """A document of the third stage: mostly conversations about one question."""
    return short_questions(random) if random.random() < SHARE_SHORT else conversation(random)


def short_question(random: Random) -> Document:
    """A question of one to three items, answered directly: what the base can do without thinking."""
    puzzle, text = draw_base_question(random, random.choice([1, 1, 2, 2, 3]))
    return _chat([text], [draw_turn(random, puzzle, "direct").reply])


def practice(random: Random) -> Document:
    """A conversation of the fourth stage, twice as often about cups, the family learnt last."""
    return conversation(random, families=(*FAMILIES, "cups"))


def first_steps(random: Random) -> Document:
    """A conversation of the last stage, where walks begin from what the question states, as thinking does."""
    return conversation(random, families=(*FAMILIES, "cups"), skills=PRACTICE)


def draw_base_question(random: Random, num_items: int, families: Sequence[str] = tuple(FAMILIES)) -> tuple[Puzzle, str]:
    """A puzzle and its text, never of a held-out split."""
    while True:
        family = FAMILIES[random.choice(families)]
        puzzle = family.draw(random, num_items)
        question = as_question(puzzle, wording=random.randrange(len(family.wordings)))
        if split_of(question) == "pool":
            return puzzle, question.text


def draw_turn(random: Random, puzzle: Puzzle, skill: Skill, before: Exchange | None = None) -> Exchange:
    """An exchange that trains or examines one skill; a step or walk starts anywhere, from any value.

    `resume` and `now` need the exchange `before`, which walked and did not reach the end item.
    """
    number = random.randint(1, len(puzzle.items) + 1)
    value = random.choice(FAMILIES[puzzle.family].values)
    if puzzle.family == "letters":
        value = min(value, MAX_ITEMS - len(puzzle.items) + number - 1)
    upto = number + (random.randint(1, 6) if random.random() < 0.75 else MAX_ITEMS)
    match skill:
        case "lookup":
            item = (*puzzle.items, "end")[number - 1]
            return Exchange(skill, f"#{number}", f"#{number} {item}")
        case "direct":
            return Exchange(skill, "", f"Final Answer: {solve(puzzle)}")
        case "step":
            return _recite(skill, f"#{number} at {value}", puzzle, number, value, number)
        case "walk":
            if random.random() < 0.3:
                number, value = 1, puzzle.start
            return _recite(skill, f"#{number} at {value} until #{upto}", puzzle, number, value, upto)
        case "begin":
            return _recite(skill, f"#1 until #{upto}", puzzle, 1, puzzle.start, upto)
        case "resume":
            assert before is not None
            upto = before.number + random.randint(1, 4)
            return _recite(skill, f"until #{upto}", puzzle, before.number + 1, before.value, upto)
        case "now":
            assert before is not None
            return Exchange(skill, "now", f"at {before.value}", before.number, before.value)


def chat_prompt(asks: Sequence[str], replies: Sequence[str]) -> str:
    """The chat up to the reply that is wanted: one more ask than replies."""
    return "".join(part for part, _ in _chat(asks, [*replies, ""]).parts[:-3])


def _chat(asks: Sequence[str], replies: Sequence[str]) -> Document:
    parts = []
    for ask, reply in zip(asks, replies, strict=True):
        parts += [(f"<|im_start|>user\n{ask}<|im_end|>\n<|im_start|>assistant\n", False)]
        parts += [(reply, True), ("<|im_end|>", True), ("\n", False)]
    return Document(tuple(parts))


def _recite(skill: Skill, ask: str, puzzle: Puzzle, number: int, value: int, upto: int) -> Exchange:
    """The lines of the steps from `number` to `upto`, both inclusive, or to the end item."""
    lines = []
    upto = min(upto, len(puzzle.items) + 1)
    for current in range(number, upto + 1):
        line, value = step_line(puzzle, current, value)
        lines.append(line)
    return Exchange(skill, ask, "\n".join(lines), upto, value)


def _random_words(random: Random, num_items: int) -> tuple[str, ...]:
    turns = (f"{sign}{hours}" for sign in "+-" for hours in range(1, 6))
    words = [*LETTERS, *map(str, range(MAX_ITEMS + 1)), "yes", "no", "in", "out", *turns]
    return tuple(random.choices(words, k=num_items))
