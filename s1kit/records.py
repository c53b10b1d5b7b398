"""The rows that touch disk or the wire, one frozen record a kind.

Nothing here knows where a row comes from or goes to; `stage` writes them as Parquet, `s1kit show` prints them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, model_validator

Origin = Literal["sampled", "forced"]
"""Whether the model chose a token or the machine put it there."""

SegmentKind = Literal["thinking", "wait", "close", "closing_phrase", "answer", "open"]
"""What a segment is for. `close` is the end-of-thinking delimiter; `closing_phrase` follows it after a cutoff; `open`
is the opening delimiter of a model that begins to think again inside its answer."""

Ending = Literal["closed", "cut_off", "loop", "failed"]
"""How thinking ended: the model stopped, the budget was spent, it repeated itself, or the engine failed."""

Terms = Literal["permits", "conditions", "forbids", "unknown"]
"""May the teacher's output train another model? `conditions`: it may, and they bind the trained model."""

Verdict = Literal["correct", "wrong", "abstain"]

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A frozen row; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flat: ClassVar[Mapping[str, pa.DataType]] = {}
    """Properties that are written as columns of their own, for readers of the files; they are derived when read."""


def question_id(text: str) -> str:
    """The first 16 hex digits of the text's SHA-256, as in the s1 release (data/utils/io_utils.py).

    >>> question_id("What is 1 + 1?")
    '72f8917549de2d6d'
    """
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


class Question(Record):
    """A question with its reference."""

    text: str
    solution: str | None = None
    """The reference: a final answer, or a worked solution that contains it."""
    source: str = ""
    """Where it comes from, e.g. `MATH/train` or `tiny/add`."""
    licence: str = ""
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
    teacher: str
    """Model reference of the teacher, e.g. `chat:deepseek/deepseek-reasoner` or `tiny`."""
    thinking: str
    answer: str
    thinking_tokens: int
    """In the student's tokens where its tokenizer is known, else as the provider counted."""
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    cost_usd: float = 0.0
    terms: Terms = "unknown"
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
    picked_by: str
    """The rule that picked it, e.g. `s1:trusted` or `s1:domain=number theory,rank=3`."""


class Segment(Record):
    """A run of tokens of one origin and one kind."""

    origin: Origin
    kind: SegmentKind
    text: str
    token_ids: tuple[int, ...] = ()
    """Empty where a server exchanged text only; then `num_tokens` is as it reported."""
    num_tokens: int

    @classmethod
    def of_ids(cls, origin: Origin, kind: SegmentKind, text: str, token_ids: tuple[int, ...]) -> Self:
        return cls(origin=origin, kind=kind, text=text, token_ids=token_ids, num_tokens=len(token_ids))


class Setting(Record):
    """One point of a method: a way to spend test-time compute, with its numbers."""

    method: str = "budget_forcing"
    max_tokens: int | None = None
    """Thinking budget; None: the room there is."""
    min_tokens: int = 0
    num_waits: int = 0
    wait: str | None = None
    """None: the thinking format's own."""
    temperature: float = 0.0
    target: str = ""
    """What the question asked for beside the answer: `1024` tokens, `16` steps, `short`, or an effort level."""
    model: str = ""
    """A model other than the one under evaluation, e.g. the baseline; empty: that one."""

    @property
    def label(self) -> str:
        """A short name for tables.

        >>> Setting(max_tokens=64, num_waits=2).label
        'budget_forcing max=64 waits=2'
        """
        parts = [self.method]
        for name, value, default in [
            ("max", self.max_tokens, None),
            ("min", self.min_tokens, 0),
            ("waits", self.num_waits, 0),
            ("wait", self.wait, None),
            ("T", self.temperature, 0.0),
            ("target", self.target, ""),
            ("model", self.model, ""),
        ]:
            if value != default:
                parts.append(f"{name}={value}")
        return " ".join(parts)


class Generation(Record):
    """One engine's thinking and answer to one question, and how they came about."""

    flat: ClassVar[Mapping[str, pa.DataType]] = {
        "thinking_tokens": pa.int64(),
        "answer_tokens": pa.int64(),
        "num_waits": pa.int64(),
        "was_cut_off": pa.bool_(),
        "is_correct": pa.bool_(),
    }

    question_id: str
    setting: Setting | None = None
    repeat: int = 0
    segments: tuple[Segment, ...] = ()
    ending: Ending
    answer_finish: Literal["stop", "length", "stop_string", "loop", "none"] = "stop"
    """Why the answer ended: end of sequence, its token room, a stop string, the loop guard; `none`: no answer."""
    seam: Literal["ids", "text"] = "ids"
    """What crossed the segment seams: token ids (exact) or text (token boundaries may move)."""
    note: str = ""
    """Why it failed, or what a reader must know."""
    verdict: Verdict | None = None
    evidence: str = ""
    final_answer: str = ""
    """What the grader extracted from the answer, in the form that votes are counted on; empty: nothing, or ungraded."""
    cost_usd: float = 0.0
    """What a provider charged for it."""
    mean_logprob: float | None = None
    """Mean natural log-probability of the sampled tokens under the model itself, at temperature 1; None: not known.

    Only the answer's tokens count, its end included, where the request has `measures_answer`."""

    @property
    def thinking(self) -> str:
        """The text between the delimiters, inserted waits included."""
        return "".join(s.text for s in self.segments if s.kind in ("thinking", "wait"))

    @property
    def answer(self) -> str:
        """The text after the end delimiter, a forced closing phrase included."""
        return "".join(s.text for s in self.segments if s.kind in ("closing_phrase", "answer"))

    @property
    def thinking_tokens(self) -> int:
        """Every token between the delimiters, inserted ones included, delimiters not."""
        return sum(s.num_tokens for s in self.segments if s.kind in ("thinking", "wait"))

    @property
    def answer_tokens(self) -> int:
        return sum(s.num_tokens for s in self.segments if s.kind in ("closing_phrase", "answer"))

    @property
    def forced_tokens(self) -> int:
        return sum(s.num_tokens for s in self.segments if s.origin == "forced")

    @property
    def num_waits(self) -> int:
        """Stop attempts that were turned into a wait."""
        return sum(s.kind == "wait" for s in self.segments)

    @property
    def is_correct(self) -> bool | None:
        """What the grader said; None where it abstained or was not asked."""
        return None if self.verdict in (None, "abstain") else self.verdict == "correct"

    @property
    def was_cut_off(self) -> bool:
        """Whether the budget, not the model, ended thinking."""
        return self.ending == "cut_off"


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


@cache
def arrow_schema(record: type[Record]) -> pa.Schema:
    """The Parquet schema of a record. Free-form dictionaries become JSON text, so that every reader can open it."""
    columns = [(name, _arrow_type(field.annotation)) for name, field in record.model_fields.items()]
    return pa.schema([*columns, *record.flat.items()])


def to_arrow(row: Record) -> dict[str, Any]:
    """A record as the plain values its schema expects."""
    values = row.__dict__
    out = {name: values[name] if is_plain else _arrow_value(values[name]) for name, is_plain in _fields(type(row))}
    for name in row.flat:
        out[name] = _arrow_value(getattr(row, name))
    return out


@cache
def _fields(record: type[Record]) -> tuple[tuple[str, bool], ...]:
    """The names of a record's fields, and whether Arrow takes their values as they are."""
    plain = (str, int, float, bool, type(None))

    def is_plain(annotation: Any) -> bool:
        parts = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
        return all(part in plain or get_origin(part) is Literal for part in parts)

    return tuple((name, is_plain(field.annotation)) for name, field in record.model_fields.items())


def from_arrow(record: type[R], row: dict[str, Any]) -> R:
    """The inverse of `to_arrow`."""
    if record.flat:
        row = {name: value for name, value in row.items() if name not in record.flat}
    parse = _json_parser(record)
    return record.model_validate(parse(row) if parse else row)


def _arrow_value(value: Any) -> Any:
    if value is None or type(value) in (str, int, float, bool):  # nearly all are, and `isinstance` of a model is slow
        return value
    if isinstance(value, Record):
        return to_arrow(value)
    if isinstance(value, tuple | list):
        # The order of keys is kept: it means something to tools' schemas.
        return [json.dumps(v, ensure_ascii=False) if isinstance(v, dict) else _arrow_value(v) for v in value]
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value


def _arrow_type(annotation: Any) -> pa.DataType:
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (a for a in get_args(annotation) if a is not type(None))
    origin = get_origin(annotation)
    if origin is Literal:
        return pa.string()
    if origin is dict:
        return pa.string()
    if origin in (tuple, list):
        return pa.list_(_arrow_type(get_args(annotation)[0]))
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return pa.struct([(n, _arrow_type(f.annotation)) for n, f in annotation.model_fields.items()])
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[annotation]


@cache
def _json_parser(annotation: Any) -> Callable[[Any], Any] | None:
    """What turns JSON text back into dictionaries within a value of this type; None where there are none."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation,) = (a for a in get_args(annotation) if a is not type(None))
    if get_origin(annotation) is dict:
        return lambda value: json.loads(value) if isinstance(value, str) else value
    if get_origin(annotation) in (tuple, list):
        parse_item = _json_parser(get_args(annotation)[0])
        return parse_item and (lambda values: values and [parse_item(v) for v in values])
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return _record_parser(annotation)
    return None


def _record_parser(record: type[Record]) -> Callable[[Any], Any] | None:
    types: list[tuple[str, Any]] = [(name, field.annotation) for name, field in record.model_fields.items()]
    parsers = [(name, parser) for name, type_ in types if (parser := _json_parser(type_)) is not None]
    if not parsers:
        return None

    def parse(row: Any) -> Any:
        return row and row | {name: parser(row[name]) for name, parser in parsers if name in row}

    return parse
