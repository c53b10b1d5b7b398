"""One request and its reply: its content address, and the row it is kept as."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from s1kit.records import Record

Via = Literal["online", "batch", "local"]
Row = tuple[Any, ...]
"""The values of `COLUMNS`."""
Parts = tuple[tuple[Any, ...], bytes, bytes]
"""The plain values of a row, its request and its reply, the last two in JSON."""

COLUMNS = (
    "key, provider, model, via, created, finish_reason, input_tokens, output_tokens, cost_usd,"
    " request_size, request, reply_size, reply"
)
INSERT = f"INSERT OR IGNORE INTO replies ({COLUMNS}) VALUES {{rows}}"
"""A key that is there already keeps its first reply."""

_CODEC = pa.Codec("zstd", 1)
_WORTH_PACKING = 512


def request_key(request: Mapping[str, Any]) -> str:
    """The content address of a request: 32 hex digits of the SHA-256 of its canonical JSON.

    >>> request_key({"model": "m", "provider": "p"}) == request_key({"provider": "p", "model": "m"})
    True
    """
    return key_of(canonical(request))


def key_of(request: bytes) -> str:
    """The content address of a request in canonical JSON."""
    return hashlib.sha256(request).hexdigest()[:32]


def canonical(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no blanks, UTF-8. Equal values give equal bytes."""
    # Lone surrogates, which JSON can carry and UTF-8 cannot, stay escaped.
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


@dataclass(slots=True)
class Entry:
    """One request and the reply it got."""

    key: str
    provider: str
    model: str
    via: Via = "online"
    created: str = ""
    """UTC, ISO 8601; filled in when written."""
    finish_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    """All output, thinking included, as the provider counted."""
    cost_usd: float = 0.0
    request: dict[str, Any] = field(default_factory=dict)
    """What `key` is the hash of."""
    reply: dict[str, Any] = field(default_factory=dict)
    """The provider's body, whole: whatever a later version wants to read from it is still there."""


@dataclass(frozen=True)
class Charge:
    """Dollars that count against a run's cap."""

    id: str
    run: str
    key: str
    """The request, or `job:<id>` for a batch job."""
    state: Literal["held", "paid", "lost"]
    """Held back while the request is under way; paid for a reply; lost, where no reply came and it may be charged."""
    dollars: float


@dataclass(frozen=True)
class Failure:
    """What came for a request and was no answer: an error, a page of a gateway, a stream that was cut."""

    key: str
    kind: str
    status: int
    body: bytes
    """As it came, with the provider's key hidden."""
    created: str = ""
    times: int = 1
    """How often the same body came for this request."""


UNREAD = "unread"
"""The finish reason of a reply that is on disk and that nobody has read yet: its tokens and cost are not known."""


@dataclass(frozen=True)
class Reading:
    """Finish reason, tokens and cost that were read from a reply after it was committed."""

    key: str
    finish_reason: str
    input_tokens: int
    output_tokens: int
    cost_usd: float

    @property
    def row(self) -> Row:
        return (self.finish_reason, self.input_tokens, self.output_tokens, self.cost_usd, self.key)


PUT_READING = (
    "WITH read (finish, num_in, num_out, cost, key) AS (VALUES {rows})"
    " UPDATE replies SET (finish_reason, input_tokens, output_tokens, cost_usd)"
    " = (SELECT finish, num_in, num_out, cost FROM read WHERE read.key = replies.key)"
    f" WHERE key IN (SELECT key FROM read) AND finish_reason = '{UNREAD}'"
)


class BatchJob(Record):
    """A batch job that was submitted, so that a restarted process polls it instead of paying again."""

    id: str
    provider: str
    model: str
    created: str = ""
    state: Literal["open", "collected", "lost"] = "open"
    keys: tuple[str, ...] = ()
    """The requests it holds, in their order."""


def to_row(entry: Entry) -> Row:
    return pack(*to_parts(entry))


def to_parts(entry: Entry, request: bytes | None = None, reply: bytes | None = None) -> Parts:
    """The parts of a row before compression. `request` and `reply`: the entry's own as JSON, where at hand."""
    values = (
        entry.key,
        entry.provider,
        entry.model,
        entry.via,
        entry.created or now(),
        entry.finish_reason,
        entry.input_tokens,
        entry.output_tokens,
        entry.cost_usd,
    )
    return (
        values,
        canonical(entry.request) if request is None else request,
        canonical(entry.reply) if reply is None else reply,
    )


def pack(values: Sequence[Any], request: bytes, reply: bytes) -> Row:
    """A row of its parts, request and reply compressed: the expensive step."""
    return (*values, len(request), _pack(request), len(reply), _pack(reply))


PUT_FAILURE = (
    "INSERT INTO failures (key, digest, created, kind, status, times, size, body) VALUES {rows}"
    " ON CONFLICT (key, digest) DO UPDATE SET times = times + 1"
)


def failure_row(failure: Failure) -> Row:
    digest = hashlib.sha256(b"%d %s" % (failure.status, failure.body)).hexdigest()[:32]
    values = (failure.key, digest, failure.created or now(), failure.kind, failure.status, failure.times)
    return (*values, len(failure.body), _pack(failure.body))


def failure_from_row(row: Row) -> Failure:
    key, kind, status, created, times, size, body = row
    return Failure(key, kind, status, _unpack(body, size), created, times)


def from_row(row: Row) -> Entry:
    """The inverse of `to_row`."""
    key, provider, model, via, created, finish, num_in, num_out, cost, request_size, request, reply_size, reply = row
    return Entry(
        key=key,
        provider=provider,
        model=model,
        via=via,
        created=created,
        finish_reason=finish,
        input_tokens=num_in,
        output_tokens=num_out,
        cost_usd=cost,
        request=json.loads(_unpack(request, request_size)),
        reply=json.loads(_unpack(reply, reply_size)),
    )


def _pack(data: bytes) -> bytes:
    """Compressed, where that is shorter: so a blob of its data's own length is the data."""
    packed = _CODEC.compress(data, asbytes=True) if len(data) >= _WORTH_PACKING else data
    return packed if len(packed) < len(data) else data


def _unpack(blob: bytes, size: int) -> bytes:
    return blob if len(blob) == size else bytes(_CODEC.decompress(blob, size, asbytes=True))


def now() -> str:
    """The time as the journal writes it: UTC, ISO 8601, milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
