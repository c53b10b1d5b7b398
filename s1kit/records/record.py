"""What all rows have in common: they are frozen, know their columns, and go into Arrow values and back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from types import UnionType
from typing import Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

Origin = Literal["sampled", "forced"]
"""Whether the model chose a token or the machine put it there."""

SegmentKind = Literal["thinking", "wait", "close", "closing_phrase", "answer", "open"]
"""What a segment is for. `close` is the end-of-thinking delimiter; `closing_phrase` follows it after a cutoff; `open`
is the opening delimiter of a model that begins to think again inside its answer."""

Ending = Literal["closed", "cut_off", "loop", "failed"]
"""How thinking ended: the model stopped, the budget was spent, it repeated itself, or the engine failed."""

AnswerFinish = Literal["stop", "length", "stop_string", "loop", "none"]
"""Why an answer ended: end of sequence, its token room, a stop string, the loop guard; `none`: no answer."""

Terms = Literal["permits", "conditions", "forbids", "unknown"]
"""May the teacher's output train another model? `conditions`: it may, and they bind the trained model."""

Verdict = Literal["correct", "wrong", "abstain"]

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A frozen row; an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    flat: ClassVar[Mapping[str, pa.DataType]] = {}
    """Properties that are written as columns of their own, for readers of the files; they are derived when read."""


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
