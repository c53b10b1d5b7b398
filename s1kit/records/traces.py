"""Questions, the traces that teachers wrote to them, and what became of both."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

from pydantic import Field, model_validator

from s1kit.records.record import Record, Terms, Verdict


def question_id(text: str) -> str:
    """The first 16 hex digits of the text's SHA-256, as in the s1 release (data/utils/io_utils.py).

    >>> question_id("What is 1 + 1?")
    '72f8917549de2d6d'
    """
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


class Question(Record):
    """A question with its reference."""

    text: str
    """What is asked."""
    solution: str | None = None
    """The reference: a final answer, or a worked solution that contains it."""
    source: str = ""
    """Where it comes from, e.g. `MATH/train` or `tiny/add`."""
    licence: str = ""
    """Licence of the question, as its source says; empty: not known."""
    domain: str = ""
    """Subject; empty until `curate` labels it."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Whatever else the source said; JSON values only."""
    messages: tuple[dict[str, Any], ...] = ()
    """The conversation to answer, in OpenAI's form, where it is more than `text`; then `text` is its transcript."""
    tools: tuple[dict[str, Any], ...] = ()
    """Functions that the conversation's assistant may call, in OpenAI's form."""
    id: str = ""
    """Derived from the text; a different value is refused."""

    @model_validator(mode="before")
    @classmethod
    def _derive_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("text"), str):
            derived = question_id(data["text"])
            if data.get("id") not in (None, "", derived):
                raise ValueError(f"id {data['id']!r} is not that of the text, which is {derived!r}; leave it out")
            return data | {"id": derived}
        return data


class Usage(Record):
    """Tokens a provider charged for."""

    input_tokens: int = 0
    output_tokens: int = 0
    """All output, thinking included."""
    cached_input_tokens: int = 0
    """The part of `input_tokens` read from the provider's prefix cache."""


FinishReason = Literal["stop", "length", "refused", "empty", "malformed", "failed", "cut"]
"""`cut`: the connection broke while the reply was streamed, and what came is kept."""


class Agreement(Record):
    """How a reply's final answer compares with those of the other replies to the same question."""

    num_replies: int
    """Replies to the question, of all teachers and draws."""
    num_same: int
    """How many state a final answer equal to this one's, itself included; 0 where this reply states none."""
    num_answers: int
    """Different final answers among them."""


class Trace(Record):
    """A teacher's thinking and answer to one question."""

    question: Question
    """The question that was asked."""
    teacher: str
    """Model reference of the teacher, e.g. `chat:deepseek/deepseek-reasoner` or `tiny`."""
    thinking: str
    """The text of the thinking, without delimiters."""
    answer: str
    """The text after the thinking."""
    thinking_tokens: int
    """In the student's tokens where its tokenizer is known, else as the provider counted."""
    finish_reason: FinishReason = "stop"
    """How the reply ended: `stop`, `length`, `refused`, `empty`, `malformed`, `failed` or `cut`."""
    usage: Usage = Usage()
    """Tokens that the provider charged for."""
    cost_usd: float = 0.0
    """Cost of the reply in dollars."""
    terms: Terms = "unknown"
    """Whether the teacher's terms permit training on it: `permits`, `conditions`, `forbids` or `unknown`."""
    draw: int = 0
    """Which of this teacher's replies to the same question this is, from 0."""
    note: str = ""
    """What a reader must know, e.g. that the server dropped the thinking."""
    tool_calls: tuple[dict[str, Any], ...] = ()
    """Functions that the teacher wants called, in OpenAI's form."""
    verdict: Verdict | None = None
    """What the verifier said, under `distill.until_correct`; None where it was not asked."""
    agreement: Agreement | None = None
    """None where the question has one reply only."""


class Sample(Record):
    """A selected question and trace: one row of the training set."""

    trace: Trace
    """The trace, with its question."""
    picked_by: str
    """The rule that picked it, e.g. `s1:trusted` or `s1:domain=number theory,rank=3`."""


class Dropped(Record):
    """A row that did not survive, and why."""

    id: str
    """The question's id."""
    stage: str
    """`collect`, `distill` or `curate`."""
    reason: str
    """A stable name for counting, e.g. `duplicate:exact` or `answered_by:qwen2.5-7b-instruct`."""
    evidence: str = ""
    """What a reader needs to agree: the shared n-gram, the other row's id, the student's answer."""
    row: str
    """The row itself, as JSON."""
