"""The journal itself: look up, write down, claim, merge, sum up."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, WorkFailed
from s1kit.journal.claims import Claims
from s1kit.journal.database import Database
from s1kit.journal.entries import (
    COLUMNS,
    INSERT,
    PUT_FAILURE,
    PUT_READING,
    BatchJob,
    Charge,
    Entry,
    Failure,
    Reading,
    Row,
    failure_from_row,
    failure_row,
    from_row,
    now,
    to_row,
)
from s1kit.journal.ledger import PUT_CHARGE, Ledger, charge_row
from s1kit.journal.writer import Writer

LOW_SPACE_BYTES = 64 * 2**20
"""Below this much free disk nothing more is asked: what is in flight must still find room."""

MERGE_PAGE = 512


class Journal:
    """An open journal. Safe to use from several tasks, threads and processes."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or makes the file. Raises InputError when it may not, or when the file is no journal of this format."""
        self.path = path
        self._file = Database(path, read_only=read_only)
        self._claims = Claims(path)
        self._writer = Writer(self._write)
        self.ledger = Ledger(self._file, self._claims)
        self._is_full = False

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for pending writes, then close the file."""
        self._writer.close()
        self._claims.close()
        self._file.close()

    def flush(self) -> None:
        """Returns when everything that has arrived is on disk; whoever asked for it may have been cancelled."""
        self._writer.flush()

    # ---- looking up -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        self.flush()
        ((count,),) = self._file.rows("SELECT count(*) FROM replies")
        return int(count)

    def __contains__(self, key: str) -> bool:
        return bool(self.known([key]))

    def get(self, key: str) -> Entry | None:
        """The entry of a request; None where it has no reply."""
        rows = self._file.rows(f"SELECT {COLUMNS} FROM replies WHERE key = ?", (key,))
        return from_row(rows[0]) if rows else None

    def known(self, keys: Sequence[str]) -> set[str]:
        """The keys that have a reply."""
        found: set[str] = set()
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            marks = ",".join("?" * len(some))
            found.update(key for (key,) in self._file.rows(f"SELECT key FROM replies WHERE key IN ({marks})", some))
        return found

    def entries(self) -> Iterator[Entry]:
        """All entries in the order they were written, a page in memory at a time."""
        self.flush()
        query = f"SELECT rowid, {COLUMNS} FROM replies WHERE rowid > ? ORDER BY rowid LIMIT 256"
        last = 0
        while rows := self._file.rows(query, (last,)):
            last = rows[-1][0]
            yield from (from_row(row[1:]) for row in rows)

    def summary(self) -> list[dict[str, Any]]:
        """Requests, tokens and dollars for each provider, model, way and finish reason."""
        self.flush()
        names = ("provider", "model", "via", "finish_reason", "requests", "input_tokens", "output_tokens", "cost_usd")
        rows = self._file.rows(
            "SELECT provider, model, via, finish_reason, count(*), sum(input_tokens), sum(output_tokens),"
            " sum(cost_usd), min(created), max(created) FROM replies GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        )
        return [dict(zip((*names, "first", "last"), row, strict=True)) for row in rows]

    def put(self, entries: Iterable[Entry]) -> None:
        """Commit entries in one transaction; a key that is there already keeps its first reply."""
        self._write([to_row(entry) for entry in entries])

    def set_aside(self, keys: Sequence[str]) -> None:
        """Keep these replies under keys that nobody asks for, so that their requests are sent again."""
        rows = [(key,) for key in keys]
        self._file.write(
            ("UPDATE replies SET key = key || '-aside-' || rowid WHERE key = ?", rows),
            ("UPDATE OR REPLACE failures SET key = key || '-aside' WHERE key = ?", rows),
        )

    async def commit(
        self, entry: Entry, *, request: bytes | None = None, reply: bytes | None = None, charge: Charge | None = None
    ) -> None:
        """Commit one entry. Returns when it is on disk; entries that arrive together share one transaction.

        `request` is the entry's in canonical JSON, `reply` its body as it came, in UTF-8; each saves writing it out
        again. `charge` is written in the same transaction.
        """
        await self._writer.commit(entry, request, reply, charge)

    async def commit_reading(self, reading: Reading, charge: Charge | None = None) -> None:
        """Write down what a reply that is there says, and in the same transaction what it is charged. Returns when both
        are on disk. A reply that was read before keeps its first reading."""
        await self._writer.commit(reading, None, None, charge)

    def note_reading(self, reading: Reading, charge: Charge | None = None) -> None:
        """`commit_reading` without waiting: it is written with the next transaction, at the latest on closing."""
        self._writer.note(reading, charge)

    async def commit_failure(self, failure: Failure) -> None:
        """Keep what came for a request and was no answer. Returns when it is on disk."""
        await self._writer.commit(failure, None, None, None)

    def failures(self) -> Iterator[Failure]:
        """Responses that were no answer, newest first."""
        self.flush()
        if not self._file.rows("SELECT 1 FROM sqlite_master WHERE name = 'failures'"):
            return  # a journal of an older version, opened to be read
        query = "SELECT key, kind, status, created, times, size, body FROM failures ORDER BY created DESC"
        yield from (failure_from_row(row) for row in self._file.rows(query))

    def refused(self, keys: Sequence[str]) -> dict[str, Failure]:
        """The last refusal of each request that the provider refused for its content."""
        found: dict[str, Failure] = {}
        for start in range(0, len(keys), 500):
            some = keys[start : start + 500]
            query = (
                "SELECT key, kind, status, created, times, size, body FROM failures"
                f" WHERE kind IN ('request', 'refused') AND key IN ({','.join('?' * len(some))}) ORDER BY created"
            )
            found.update((row[0], failure_from_row(row)) for row in self._file.rows(query, some))
        return found

    def merge(self, other: Path) -> int:
        """Copy the rows of another journal that this one lacks; returns how many.

        Raises InputError where there is no journal.
        """
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
            self._file.write((PUT_FAILURE, [failure_row(failure) for failure in source.failures()]))
            for job in source.jobs():  # an open batch of the other journal would be bought again
                if job.id not in {known.id for known in self.jobs()}:
                    self.put_job(job)
        return len(self) - before

    def _write(
        self,
        rows: Sequence[Row],
        charges: Sequence[Charge] = (),
        failures: Sequence[Row] = (),
        readings: Sequence[Row] = (),
    ) -> None:
        charge_rows = [charge_row(charge) for charge in charges]
        statements = ((INSERT, rows), (PUT_READING, readings), (PUT_CHARGE, charge_rows), (PUT_FAILURE, failures))
        self._file.write(*statements)
        self._look_for_space()

    def _look_for_space(self) -> None:
        self._is_full = self._file.free_bytes < LOW_SPACE_BYTES

    # ---- who asks ---------------------------------------------------------------------------------------------------

    def claim(self, key: str) -> bool:
        """Reserve a request for this process; False when it is being asked right now."""
        return self._claims.take(key)

    def release(self, key: str) -> None:
        self._claims.drop(key)

    def refuse_when_full(self) -> None:
        """Raises WorkFailed when the disk is nearly full: before anything is paid."""
        if self._is_full:
            raise WorkFailed(
                f"less than {LOW_SPACE_BYTES >> 20} MiB are free, too little to keep replies that are paid for",
                where=str(self.path.parent),
                fix="Free space and run the same command again; nothing that arrived is lost.",
            )

    # ---- batch jobs -------------------------------------------------------------------------------------------------

    def put_job(self, job: BatchJob) -> None:
        """Write down a batch job, or its new state."""
        row = (job.id, job.provider, job.model, job.created or now(), job.state, json.dumps(job.keys))
        self._file.write(
            ("INSERT OR REPLACE INTO jobs (id, provider, model, created, state, keys) VALUES (?,?,?,?,?,?)", [row])
        )

    def jobs(self, provider: str = "", model: str = "", state: str = "") -> list[BatchJob]:
        """Batch jobs in the order they were submitted; empty means any."""
        rows = self._file.rows(
            "SELECT id, provider, model, created, state, keys FROM jobs"
            " WHERE ? IN ('', provider) AND ? IN ('', model) AND ? IN ('', state) ORDER BY rowid",
            (provider, model, state),
        )
        return [
            BatchJob(id=i, provider=p, model=m, created=c, state=s, keys=tuple(json.loads(k)))
            for i, p, m, c, s, k in rows
        ]
