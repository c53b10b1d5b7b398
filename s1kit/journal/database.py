"""The journal's file: its schema, its two connections, and its faults in three parts."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, S1kitError, WorkFailed

FORMAT = 1
"""Version of the file's layout, kept in SQLite's `user_version`. A file of another version is refused."""

SECONDS_TO_WAIT_FOR_LOCK = 60.0

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
CREATE TABLE IF NOT EXISTS failures (
    key TEXT NOT NULL,
    digest TEXT NOT NULL,
    created TEXT NOT NULL,
    kind TEXT NOT NULL,
    status INTEGER NOT NULL,
    times INTEGER NOT NULL,
    size INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (key, digest)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS charges (
    id TEXT NOT NULL PRIMARY KEY,
    run TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL,
    dollars REAL NOT NULL,
    created TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS charges_held ON charges (run) WHERE state = 'held';
CREATE TABLE IF NOT EXISTS totals (run TEXT NOT NULL PRIMARY KEY, dollars REAL NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS charge_added AFTER INSERT ON charges BEGIN
    INSERT OR IGNORE INTO totals VALUES (new.run, 0);
    UPDATE totals SET dollars = dollars + new.dollars WHERE run = new.run;
END;
CREATE TRIGGER IF NOT EXISTS charge_changed AFTER UPDATE ON charges BEGIN
    UPDATE totals SET dollars = dollars + new.dollars - old.dollars WHERE run = new.run;
END;
CREATE TRIGGER IF NOT EXISTS charge_dropped AFTER DELETE ON charges BEGIN
    UPDATE totals SET dollars = dollars - old.dollars WHERE run = old.run;
END;
"""

ROWS_AT_ONCE = 64
"""SQLite takes 999 values a statement in older versions. Each statement lets the interpreter's lock go once, and a busy
event loop gives it back only after a while: a statement a row would take a hundred times that."""


class Database:
    """One SQLite file with a connection for writing and one for reading, so that reads never wait for a commit."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Opens or makes the file. Raises InputError when it may not, or when the file is no journal of this format."""
        self.path = path
        self._lock = threading.Lock()
        try:
            self.writing = _open(path, read_only)
            self.reading = self.writing if read_only else _connect(path, "ro")
        except (sqlite3.Error, OSError) as error:
            raise explain(error, path) from error

    def close(self) -> None:
        # The last connection to close moves the write-ahead log into the file: it must be the one that may write.
        self.reading.close()
        self.writing.close()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """All rows of a query."""
        return self.reading.execute(query, values).fetchall()

    def write(self, *statements: tuple[str, Sequence[tuple[Any, ...]]]) -> None:
        """Each statement for all its rows, all in one transaction that is on the disk when this returns.

        A statement with `{rows}` takes many rows at once.
        """
        with self.transaction() as writing:
            for statement, rows in statements:
                if "{rows}" not in statement:
                    writing.executemany(statement, rows)
                    continue
                for start in range(0, len(rows), ROWS_AT_ONCE):
                    writing.execute(*in_bulk(statement, rows[start : start + ROWS_AT_ONCE]))

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """The writing connection within one transaction, on the disk at the end."""
        with self._lock:
            try:
                self.writing.execute("BEGIN IMMEDIATE")
                yield self.writing
                self.writing.execute("COMMIT")
            except sqlite3.Error as error:
                with suppress(sqlite3.Error):
                    self.writing.execute("ROLLBACK")
                raise explain(error, self.path) from error

    @property
    def free_bytes(self) -> int:
        return shutil.disk_usage(self.path.parent).free


def in_bulk(statement: str, rows: Sequence[Sequence[Any]]) -> tuple[str, list[Any]]:
    """A statement with the marks of so many rows in place of `{rows}`, and their values in a row.

    >>> in_bulk("INSERT INTO t VALUES {rows}", [(1, 2), (3, 4)])
    ('INSERT INTO t VALUES (?,?),(?,?)', [1, 2, 3, 4])
    """
    marks = f"({','.join('?' * len(rows[0]))})"
    return statement.replace("{rows}", ",".join([marks] * len(rows))), [value for row in rows for value in row]


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if mode == "ro" and not os.access(path.parent, os.W_OK):
        mode = "ro&immutable=1"  # even to read, the write-ahead log wants files beside it; here nobody writes
    return sqlite3.connect(
        f"{path.resolve().as_uri()}?mode={mode}",
        uri=True,
        timeout=SECONDS_TO_WAIT_FOR_LOCK,
        isolation_level=None,
        check_same_thread=False,
    )


def _open(path: Path, read_only: bool) -> sqlite3.Connection:
    if not read_only:
        path.parent.mkdir(parents=True, exist_ok=True)
    db = _connect(path, "ro" if read_only else "rwc")
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, FORMAT):
            raise InputError(
                f"the journal was made by another version, of format {version}, not {FORMAT}",
                where=str(path),
                fix="Use that version, or another journal.",
            )
        if not read_only:
            _use_write_ahead_log(db)
            db.execute("PRAGMA synchronous = FULL")
            db.executescript("BEGIN IMMEDIATE;" + _SCHEMA + f"PRAGMA user_version = {FORMAT}; COMMIT;")
    except BaseException:
        db.close()
        raise
    return db


def _use_write_ahead_log(db: sqlite3.Connection) -> None:
    """Switch a new file to WAL. SQLite does not wait for other processes that open the file in the same moment."""
    until = time.monotonic() + SECONDS_TO_WAIT_FOR_LOCK
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)


def explain(error: Exception, path: Path) -> S1kitError:
    """An error of SQLite or of the file system as a message in three parts: InputError or WorkFailed."""
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


def is_journal(path: Path) -> bool:
    """Whether the file is a journal, for `s1kit show`."""
    try:
        with closing(_connect(path, "ro")) as db:
            return db.execute("SELECT 1 FROM sqlite_master WHERE name = 'replies'").fetchone() is not None
    except sqlite3.Error:
        return False
