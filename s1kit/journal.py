"""Every reply that was paid for, written down before it is used: one SQLite file, one row a request.

A row's key is the hash of the request's content (provider, model, messages, parameters, draw), so the same request is
asked once whether it ran online, in a batch job or locally, today or next month, in this run or another. The journal
does not know what a reply means; `providers` reads it.

    journal = Journal(path)
    entry = journal.get(key) or await ask_and(journal.commit)

SQLite runs in WAL mode with `synchronous = FULL`: what is committed survives `kill -9` and a power cut. Many processes
may use one journal on one machine; on a network drive SQLite's WAL mode is not safe, so keep it on a local disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from s1kit.errors import InputError, S1kitError, WorkFailed
from s1kit.records import Record

try:
    import fcntl
except ImportError:  # Windows: two processes may then ask the same question twice, at once; nothing else changes
    fcntl = None  # type: ignore[assignment]

FORMAT = 1
"""Of the file's layout, in SQLite's `user_version`. A file made with another one is refused."""

LOW_SPACE_BYTES = 64 * 2**20
"""Below this much free disk nothing more is asked: what is in flight must still find room."""

SECONDS_TO_WAIT_FOR_LOCK = 60.0
SECONDS_TO_GATHER = 0.01
"""Replies that arrive within so long share a transaction."""
MERGE_PAGE = 512

_SCHEMA = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    via TEXT NOT NULL,
    created TEXT NOT NULL,
    finish_reason TEXT NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_usd REAL NOT NULL,
    request_size INTEGER NOT NULL,
    request BLOB NOT NULL,
    reply_size INTEGER NOT NULL,
    reply BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT NOT NULL UNIQUE,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    created TEXT NOT NULL,
    state TEXT NOT NULL,
    keys TEXT NOT NULL
);
"""
_COLUMNS = (
    "key, provider, model, via, created, finish_reason, input_tokens, output_tokens, cost_usd,"
    " request_size, request, reply_size, reply"
)
_CODEC = pa.Codec("zstd", 1)

Via = Literal["online", "batch", "local"]


def request_key(request: Mapping[str, Any]) -> str:
    """The content address of a request: 32 hex digits of the SHA-256 of its canonical JSON.

    >>> request_key({"model": "m", "provider": "p"}) == request_key({"provider": "p", "model": "m"})
    True
    """
    return hashlib.sha256(_canonical(request)).hexdigest()[:32]


class Entry(Record):
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
    request: dict[str, Any] = Field(default_factory=dict)
    """What `key` is the hash of."""
    reply: dict[str, Any] = Field(default_factory=dict)
    """The provider's body, whole: whatever a later version wants to read from it is still there."""


class Job(Record):
    """A batch job that was submitted, so that a restarted process polls it instead of paying again."""

    id: str
    provider: str
    model: str
    created: str = ""
    state: Literal["open", "collected", "lost"] = "open"
    keys: tuple[str, ...] = ()
    """The requests it holds, in their order."""


@dataclass(frozen=True)
class _Pending:
    """An entry on its way to the writer thread."""

    entry: Entry
    raw: bytes | None
    written: asyncio.Future[None]
    loop: asyncio.AbstractEventLoop


class Journal:
    """An open journal. Safe to use from several tasks, threads and processes."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or makes the file. Raises InputError when it may not, or when the file is no journal of this format."""
        self.path = path
        self._lock = threading.Lock()
        self._queue: queue.Queue[list[_Pending] | None] = queue.Queue()
        self._gathered: list[_Pending] = []
        self._writer: threading.Thread | None = None
        self._claims: int | None = None
        self._claimed: set[str] = set()
        self._is_full = False
        self._read_only = read_only
        try:
            self._db = _open(path, read_only)
        except (sqlite3.Error, OSError) as error:
            raise _explain(error, path) from error

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for what is being written, then closes the file."""
        if self._gathered:
            self._hand_over()
        if self._writer is not None:
            self._queue.put(None)
            self._writer.join()
            self._writer = None
        if self._claims is not None:
            os.close(self._claims)
            self._claims = None
        self._db.close()

    def flush(self) -> None:
        """Returns when everything that has arrived is on disk; whoever asked for it may have been cancelled."""
        if self._gathered:
            self._hand_over()
        if self._writer is not None:
            self._queue.join()

    def __len__(self) -> int:
        self.flush()
        with self._lock:
            (count,) = self._db.execute("SELECT count(*) FROM replies").fetchone()
        return int(count)

    def __contains__(self, key: str) -> bool:
        return bool(self.known([key]))

    def get(self, key: str) -> Entry | None:
        with self._lock:
            row = self._db.execute(f"SELECT {_COLUMNS} FROM replies WHERE key = ?", (key,)).fetchone()
        return _entry(row) if row else None

    def known(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that have a reply."""
        found: set[str] = set()
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            with self._lock:
                found.update(k for (k,) in self._db.execute(f"SELECT key FROM replies WHERE key IN ({marks})", some))
        return found

    def entries(self, provider: str = "", model: str = "") -> Iterator[Entry]:
        """All entries in the order they were written, a page in memory at a time."""
        self.flush()
        last = 0
        while True:
            with self._lock:
                rows = self._db.execute(
                    f"SELECT rowid, {_COLUMNS} FROM replies WHERE rowid > ? AND (? IN ('', provider))"
                    " AND (? IN ('', model)) ORDER BY rowid LIMIT 256",
                    (last, provider, model),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield from (_entry(row[1:]) for row in rows)

    def put(self, entries: Iterable[Entry]) -> None:
        """Commit entries in one transaction; a key that is there already keeps its first reply."""
        self._write([_row(entry) for entry in entries])

    async def commit(self, entry: Entry, raw: bytes | None = None) -> None:
        """Commit one entry. Returns when it is on disk; entries that arrive together share one transaction.

        `raw` is the reply as JSON in UTF-8, as it came; it saves writing `entry.reply` out again.
        """
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        if not self._gathered:
            loop.call_later(SECONDS_TO_GATHER, self._hand_over)
        # Whoever asked may be cancelled; what has arrived is written all the same.
        self._gathered.append(_Pending(entry, raw, written, loop))
        await written

    def _hand_over(self) -> None:
        """Give what has arrived to the writer thread, many at once: waking it for each would cost more than writing."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write_groups, name="journal", daemon=True)
            self._writer.start()
        gathered, self._gathered = self._gathered, []
        if gathered:
            self._queue.put(gathered)

    def claim(self, key: str) -> bool:
        """Reserve a request for this process; False when another is asking it right now.

        The claim is a lock of the operating system on one byte of a side file: it goes when the process goes, however
        it dies. Raises WorkFailed when the disk is nearly full, before anything is paid.
        """
        self._refuse_when_full()
        if key in self._claimed:
            return False
        if fcntl is not None:
            if self._claims is None:
                self._claims = os.open(self.path.with_name(self.path.name + "-claims"), os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.lockf(self._claims, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
            except OSError:
                return False
        self._claimed.add(key)
        return True

    def release(self, key: str) -> None:
        self._claimed.discard(key)
        if fcntl is not None and self._claims is not None:
            fcntl.lockf(self._claims, fcntl.LOCK_UN, 1, _offset(key))

    def put_job(self, job: Job) -> None:
        """Write down a batch job, or its new state."""
        row = (job.id, job.provider, job.model, job.created or _now(), job.state, json.dumps(job.keys))
        self._execute(
            "INSERT OR REPLACE INTO jobs (id, provider, model, created, state, keys) VALUES (?,?,?,?,?,?)", [row]
        )

    def jobs(self, provider: str, model: str, state: str = "open") -> list[Job]:
        """Batch jobs in the order they were submitted; an empty state means any."""
        with self._lock:
            rows = self._db.execute(
                "SELECT id, provider, model, created, state, keys FROM jobs"
                " WHERE provider = ? AND model = ? AND ? IN ('', state) ORDER BY rowid",
                (provider, model, state),
            ).fetchall()
        return [
            Job(id=i, provider=p, model=m, created=c, state=s, keys=tuple(json.loads(k))) for i, p, m, c, s, k in rows
        ]

    def merge(self, other: Path) -> int:
        """Copy what another journal knows and this one does not; returns how many rows came."""
        if not other.is_file():
            raise InputError("there is no journal", where=str(other), fix="Give the path of a journal.sqlite.")
        before = len(self)
        with Journal(other, read_only=True) as source:
            page: list[Entry] = []
            for entry in source.entries():
                page.append(entry)
                if len(page) == MERGE_PAGE:
                    self.put(page)
                    page = []
            self.put(page)
        return len(self) - before

    def summary(self) -> list[dict[str, Any]]:
        """Requests, tokens and dollars for each provider, model, way and finish reason."""
        self.flush()
        with self._lock:
            cursor = self._db.execute(
                "SELECT provider, model, via, finish_reason, count(*) AS requests, sum(input_tokens) AS input_tokens,"
                " sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd, min(created) AS first,"
                " max(created) AS last FROM replies GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
            )
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor]

    def spent_since(self, provider: str, model: str, moment: datetime) -> float:
        """Dollars that replies of a model cost from a moment on."""
        with self._lock:
            (dollars,) = self._db.execute(
                "SELECT coalesce(sum(cost_usd), 0) FROM replies WHERE provider = ? AND model = ? AND created >= ?",
                (provider, model, moment.astimezone(UTC).isoformat(timespec="milliseconds")),
            ).fetchone()
        return float(dollars)

    def _refuse_when_full(self) -> None:
        if self._is_full:
            raise WorkFailed(
                f"less than {LOW_SPACE_BYTES >> 20} MiB are free, too little to keep replies that are paid for",
                where=str(self.path.parent),
                fix="Free space and run the same command again; nothing that arrived is lost.",
            )

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        marks = ",".join("?" * 13)
        self._execute(f"INSERT OR IGNORE INTO replies ({_COLUMNS}) VALUES ({marks})", rows)
        self._is_full = shutil.disk_usage(self.path.parent).free < LOW_SPACE_BYTES

    def _execute(self, statement: str, rows: list[tuple[Any, ...]]) -> None:
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(statement, rows)
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
                raise _explain(error, self.path) from error

    def _write_groups(self) -> None:
        """The writer thread: whatever has arrived since the last transaction goes into the next."""
        while (group := self._queue.get()) is not None:
            problem: S1kitError | None = None
            try:
                self._write([_row(pending.entry, pending.raw) for pending in group])
            except S1kitError as error:
                problem = error
            for loop in {pending.loop for pending in group}:
                futures = [pending.written for pending in group if pending.loop is loop]
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_resolve, futures, problem)
            self._queue.task_done()


def _resolve(futures: list[asyncio.Future[None]], problem: S1kitError | None) -> None:
    for future in futures:
        if future.done():
            continue
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)


def _open(path: Path, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    # A read-only folder cannot hold WAL's side files; `immutable` reads what is in the main file.
    mode = "ro" if read_only else "rwc"
    db = sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}",
        uri=True,
        timeout=SECONDS_TO_WAIT_FOR_LOCK,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            raise InputError(
                f"the journal was made by another version, of format {version}, not {FORMAT}",
                where=str(path),
                fix="Use that version, or another journal.",
            )
        if not read_only:
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")
            db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + f"PRAGMA user_version = {FORMAT}; COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _explain(error: Exception, path: Path) -> S1kitError:
    """A fault of the file or the disk, in three parts."""
    text = str(error)
    where = str(path)
    if "full" in text or "disk I/O" in text:
        return WorkFailed(
            f"the journal could not be written: {text}",
            where=where,
            fix="Free space and run the same command again; what was committed is kept.",
        )
    if "locked" in text:
        return WorkFailed(
            f"another process held the journal for {SECONDS_TO_WAIT_FOR_LOCK:.0f} s",
            where=where,
            fix="Let it finish, then run the same command again.",
        )
    if "not a database" in text or "malformed" in text:
        return InputError(
            f"this is not a journal: {text}", where=where, fix="Move the file away, or give another journal."
        )
    return InputError(
        f"the journal cannot be written: {text}",
        where=where,
        fix="Give a folder with write permission, with distill.journal=PATH.",
    )


def _row(entry: Entry, raw: bytes | None = None) -> tuple[Any, ...]:
    request, reply = _canonical(entry.request), _canonical(entry.reply) if raw is None else raw
    return (
        entry.key,
        entry.provider,
        entry.model,
        entry.via,
        entry.created or _now(),
        entry.finish_reason,
        entry.input_tokens,
        entry.output_tokens,
        entry.cost_usd,
        len(request),
        _CODEC.compress(request, asbytes=True),
        len(reply),
        _CODEC.compress(reply, asbytes=True),
    )


def _entry(row: tuple[Any, ...]) -> Entry:
    key, provider, model, via, created, finish, num_in, num_out, cost, request_size, request, reply_size, reply = row
    return Entry.model_construct(
        key=key,
        provider=provider,
        model=model,
        via=via,
        created=created,
        finish_reason=finish,
        input_tokens=num_in,
        output_tokens=num_out,
        cost_usd=cost,
        request=json.loads(_CODEC.decompress(request, request_size, asbytes=True)),
        reply=json.loads(_CODEC.decompress(reply, reply_size, asbytes=True)),
    )


def _canonical(value: Mapping[str, Any]) -> bytes:
    # Lone surrogates, which JSON can carry and UTF-8 cannot, stay escaped.
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _offset(key: str) -> int:
    return int(key[:15], 16)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def is_journal(path: Path) -> bool:
    """Whether the file is a journal, for `s1kit show`."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'replies'").fetchone() is not None
    except sqlite3.Error:
        return False
