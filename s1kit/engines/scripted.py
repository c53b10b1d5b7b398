"""A fake engine that obeys forcing without a model: words are tokens, and a script says what would be thought.

    engine = ScriptedEngine({"1+1?": [Step("one and one is three .", "3"), Step(" no , it is two .", "2")]})

After each step the model tries to stop. If it may, it gives that step's answer; if it is told to wait, it takes the
next step. A cutoff gives the answer of the last step that was finished ("?" when none was).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from threading import Lock
from typing import Any

from s1kit.engines.interface import BatchEngine, Event, lost
from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS, ThinkingFormat, find_format
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat


@dataclass(frozen=True, slots=True)
class Step:
    """What the model would think before it next tries to stop, and what it would then answer."""

    thinking: str
    answer: str


Script = Callable[[str], Sequence[Step]] | Mapping[str, Sequence[Step]]

ECHO = (Step("The question is what it is .", "I do not know"),)
"""What a question without a script gets."""


class WordTokenizer:
    """Words with the whitespace before them, newlines and delimiters: one id each, in the order of appearance."""

    chat_template: str | None = "built in"
    _PIECES = re.compile(r"<[|｜][^|｜]*[|｜]>|</?\w+>|\n| ?[^\s<]+|\s|<")

    def __init__(self) -> None:
        self._ids: dict[str, int] = {}
        self._words: list[str] = []
        self._lock = Lock()

    @property
    def eos_token_id(self) -> None:
        return None

    @property
    def added_tokens_decoder(self) -> dict[int, str]:
        return {i: w for i, w in enumerate(self._words) if w.startswith("<") and w.endswith(">")}

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return [self._id(piece) for piece in self._PIECES.findall(text)]

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        return "".join(self._words[i] for i in ids)

    def get_vocab(self) -> dict[str, int]:
        return dict(self._ids)

    def apply_chat_template(
        self, conversation: Any, *, tokenize: bool, add_generation_prompt: bool, **kwargs: Any
    ) -> str:
        turns = "".join(f"<|im_start|>{m['role']}\n{m['content']}<|im_end|>\n" for m in conversation)
        return f"{turns}<|im_start|>assistant\n"

    def _id(self, word: str) -> int:
        if word not in self._ids:
            # A server encodes prompts in one thread and answers in another.
            with self._lock:
                if word not in self._ids:
                    self._words.append(word)
                    self._ids[word] = len(self._words) - 1
        return self._ids[word]


@dataclass
class ScriptedEngine(BatchEngine):
    """Decodes what a script says, under the same forcing as every engine."""

    script: Script = field(default_factory=dict)
    format: ThinkingFormat = FORMATS["s1"]
    context_tokens: int = 4096
    max_batch: int = 256
    tokens: TokenFormat = field(init=False)

    def __post_init__(self) -> None:
        if not self.format.thinks:
            # Its answer ends with a token of its own, for want of an end of sequence.
            self.format = replace(self.format, answer_end="<|im_end|>")
        self.tokens = TokenFormat(self.format, WordTokenizer())

    @property
    def tokenizer(self) -> WordTokenizer:
        assert isinstance(self.tokens.tokenizer, WordTokenizer)
        return self.tokens.tokenizer

    def running_batch(self) -> ScriptedBatch:
        """A running batch: every request gets one word a step."""
        return ScriptedBatch(self)

    def model(self, question: str) -> _Model:
        """A fresh scripted model for one request with this question."""
        steps = self.script(question) if callable(self.script) else self.script.get(question, ECHO)
        return _Model(steps, self.tokens)


@dataclass
class ScriptedBatch:
    """Requests that decode together and leave when they are done."""

    engine: ScriptedEngine
    rows: dict[int, tuple[TokenDriver, _Model, bool]] = field(default_factory=dict)
    """All that are not done, in the order of their coming; the first `max_batch` of them decode."""
    num_admitted: int = 0

    @property
    def is_idle(self) -> bool:
        return not self.rows

    def admit(self, plan: Plan, is_streamed: bool = False) -> int:
        """Let a request in; returns the ticket that its events carry."""
        row = TokenDriver(plan)
        row.start()
        self.num_admitted += 1
        self.rows[self.num_admitted] = (row, self.engine.model(plan.request.question), is_streamed)
        return self.num_admitted

    def cancel(self, ticket: int) -> None:
        """Forget a request; one that is already done is none."""
        self.rows.pop(ticket, None)

    def end_thinking(self, ticket: int) -> None:
        """End a request's thinking at the next word, as a budget spent there does; a no-op once it answers."""
        if ticket in self.rows:
            self.rows[ticket][0].end_thinking()

    def step(self) -> list[Event]:
        """One word for every request."""
        events = []
        for ticket, (row, model, is_streamed) in list(islice(self.rows.items(), self.engine.max_batch)):
            if not row.is_done:
                row.push(model.sample(row))
            segments = tuple(row.new_segments()) if is_streamed else ()
            generation = row.generation() if row.is_done else None
            if generation is not None:
                del self.rows[ticket]
            if segments or generation is not None:
                events.append(Event(ticket, segments, generation))
        return events

    def fail(self, why: str) -> list[Event]:
        """Give up every request; their events say why and keep what they had."""
        events = [lost(ticket, row.generation(), why) for ticket, (row, _, _) in self.rows.items()]
        self.rows.clear()
        return events


class _Model:
    """Samples the next word of a script; what it has thought is read off the row, so a given prefix counts too."""

    def __init__(self, steps: Sequence[Step], tokens: TokenFormat) -> None:
        self._tokens = tokens
        parts = [tokens.tokenizer.encode(s.thinking, add_special_tokens=False) for s in steps]
        self._words = [word for part in parts for word in part]
        self._ends = list(accumulate(map(len, parts)))
        """How many words have been thought after each step."""
        self._answers = [s.answer for s in steps]
        self._answer: list[int] | None = None

    def sample(self, row: TokenDriver) -> int:
        num_words = row.thinking_tokens - row.wait_tokens
        if row.is_thinking:
            if num_words < self._ends[min(row.num_waits, len(self._ends) - 1)]:
                return self._words[num_words]
            stop = self._tokens.trigger_id
            return stop if stop is not None else min(self._tokens.eos_ids)
        if self._answer is None:
            # Without thinking it answers what it would after its first step.
            self._answer = self._answer_after(num_words if row.plan.thinks else self._ends[0])
        return self._answer.pop(0)

    def _answer_after(self, num_words: int) -> list[int]:
        """The answer of the last finished step, then the end of the answer."""
        text = "?"
        for end, answer in zip(self._ends, self._answers, strict=True):
            if num_words >= end:
                text = answer
        encode = self._tokens.tokenizer.encode
        ending = self._tokens.format.answer_end
        return [*encode(text, add_special_tokens=False), *encode(ending, add_special_tokens=False)]


def _step(entry: object) -> Step:
    """A step as JSON: a pair of texts, or an object of the two. Raises ValueError and TypeError."""
    if isinstance(entry, dict):
        return Step(**{key: str(value) for key, value in entry.items()})
    if not isinstance(entry, list):
        raise ValueError(f"{entry!r} is not a pair of texts")
    thinking, answer = entry
    return Step(str(thinking), str(answer))


def load(
    path: str,
    format: str | ThinkingFormat | None = None,
    context_tokens: int = 4096,
    max_batch: int = 256,
    template: Mapping[str, Any] | None = None,
) -> ScriptedEngine:
    """The scripted engine; `path` is a JSON file of `{question: [[thinking, answer], ...]}`, or empty for an echo.

    Raises InputError where the file is not of that form.
    """
    script: dict[str, list[Step]] = {}
    if path:
        try:
            raw = json.loads(Path(path).read_text(encoding="utf-8"))
            script = {q: [_step(step) for step in steps] for q, steps in raw.items()}
        except (OSError, ValueError, AttributeError, TypeError) as error:
            fix = 'Write {"question": [["thinking", "answer"], ...]}.'
            raise InputError(f"not a script: {error}", where=path, fix=fix) from error
    own = format if isinstance(format, ThinkingFormat) else find_format(format or "s1")
    return ScriptedEngine(
        script, replace(own, template={**own.template, **(template or {})}), context_tokens, max_batch
    )
