"""The interface of engines: a request for one question, and the protocol `Engine` that takes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, Self

from s1kit.errors import InputError
from s1kit.forcing.budget import ThinkingBudget
from s1kit.records import Generation, Segment, Setting, question_id


@dataclass(frozen=True, slots=True)
class Prefix:
    """Thinking that was done before, to continue from or to answer from.

    One greedy pass under the largest budget holds every smaller one as a prefix: an evaluation asks only for the
    answers that are missing.
    """

    segments: tuple[Segment, ...]
    """Segments of kind `thinking` and `wait`, with token ids; they count against the budget."""
    ending: Literal["closed", "cut_off"] | None = None
    """None: go on thinking. Otherwise thinking is over in this way and only the answer is decoded."""
    num_tokens: int | None = None
    """Use only the first tokens of the segments; None: all. The engine decodes the text of a cut segment anew."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """A model's own sampling settings, which apply where a caller states none."""

    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""

    @classmethod
    def of(cls, generation: Mapping[str, Any]) -> Self:
        """What a model's `generation_config.json` says; greedy where it does not sample.

        >>> Sampling.of({"do_sample": True, "temperature": 0.6, "top_p": 0.95})
        Sampling(temperature=0.6, top_p=0.95, top_k=0)
        >>> Sampling.of({"eos_token_id": 2})
        Sampling(temperature=0.0, top_p=1.0, top_k=0)
        """
        does_sample = generation.get("do_sample", generation.get("temperature") is not None)
        if not does_sample:
            return cls()
        found = {name: generation[name] for name in ("top_p", "top_k") if generation.get(name) is not None}
        temperature = generation.get("temperature")
        return cls(1.0 if temperature is None else float(temperature), **found)


JSON_SPACES = {"x-guidance": {"whitespace_pattern": "\\n? {0,16}"}}
"""White space between the parts of a JSON value: enough to indent, and no endless run of it."""


def grammar_of_schema(schema: Mapping[str, Any]) -> str:
    """An `answer_grammar` of what satisfies a JSON schema."""
    return json.dumps({"grammars": [{"json_schema": {**schema, **JSON_SPACES}}]})


@dataclass(frozen=True, slots=True)
class Request:
    """One question to one engine under one thinking budget."""

    question: str
    """The text asked; the engine's thinking format puts it into the chat template."""
    budget: ThinkingBudget | None = None
    """None: as much thinking as there is room for."""
    answer_tokens: int = 256
    """Room reserved for the answer before thinking starts; the closing phrase counts."""
    temperature: float = 0.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    """0: no limit."""
    seed: int = 0
    """Seed of this request alone: neighbours in a batch do not change what is drawn."""
    wait: str | tuple[str, ...] | None = None
    """What replaces a stop, as it is: a string, or several used in turn (cyclically).

    None: the thinking format's own, on a line of its own where the format ends thinking with one."""
    closing_phrase: str | None = None
    """What follows the end delimiter after a cutoff; None: the thinking format's own."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; never looked for in the thinking. The answer's text ends before them."""
    answer_grammar: str = ""
    """Grammar that the answer must follow (`s1kit.engines.grammar`); empty: the answer is free."""
    measures_answer: bool = False
    """Whether the generation's `mean_logprob` is wanted, that of the answer's tokens alone. Not every engine has it."""
    loop_guard: bool = True
    """End thinking when it repeats itself, never before `budget.min_tokens`, and the answer when that does."""
    system: str | None = None
    """A system message; None: none."""
    messages: tuple[dict[str, str], ...] = ()
    """Earlier turns (`role`, `content`) before the question."""
    prefix: Prefix | None = None
    setting: Setting | None = None
    """Carried into the generation."""
    repeat: int = 0
    """Carried into the generation."""
    question_id: str = field(default="")
    """Carried into the generation; derived from the question when empty."""

    def __post_init__(self) -> None:
        waits = (self.wait,) if isinstance(self.wait, str) else self.wait or ()
        _refuse_half_characters("question", self.question)
        for name, texts in (("system", (self.system,)), ("wait", waits), ("closing_phrase", (self.closing_phrase,))):
            for text in texts:
                _refuse_half_characters(name, text or "")
        if not self.question_id:
            object.__setattr__(self, "question_id", question_id(self.question))
        if type(self.answer_tokens) is not int or self.answer_tokens < 1:
            raise InputError(
                f"answer_tokens is {self.answer_tokens!r}", where="request.answer_tokens", fix="Give 1 or more."
            )
        if not 0.0 <= self.temperature <= 100.0:
            raise InputError(f"temperature is {self.temperature}", where="request.temperature", fix="Give 0 or more.")
        if not 0.0 < self.top_p <= 1.0:
            raise InputError(f"top_p is {self.top_p}", where="request.top_p", fix="Give a number above 0, at most 1.")
        if self.stop and not all(self.stop):
            raise InputError("a stop string is empty", where="request.stop", fix="Leave it out.")
        if self.top_k < 0:
            raise InputError(f"top_k is {self.top_k}", where="request.top_k", fix="Give 0 (no limit) or more.")


def _refuse_half_characters(name: str, text: str) -> None:
    """Raises InputError for a text that UTF-8 cannot hold, as bytes of another encoding on the command line become."""
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"character {error.start + 1} of the {name} is {text[error.start]!r}, half of one",
            where=f"request.{name}",
            fix="Give it as UTF-8.",
        ) from error


OnSegment = Callable[[int, Segment], None]
"""Called with the request's position in the iterable and the next run of tokens, as soon as they are there."""


class Engine(Protocol):
    """Decodes requests, each under its own budget."""

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields one generation a request, as they finish. Raises InputError on a request it cannot honour exactly."""
        ...
