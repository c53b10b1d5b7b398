"""Every reply that was paid for, written down before it is used: one SQLite file, one row a request.

A row's key is the hash of the request's content (provider, model, messages, parameters, draw), so the same request is
asked once whether it ran online, in a batch job or locally, today or next month, in this run or another. The journal
does not know what a reply means; `providers` reads it.

    journal = Journal(path)
    entry = journal.get(key) or await ask_and(journal.commit)

entries.py    a row, its key, and how it is packed
database.py   the file: its schema, its connections, its faults in three parts
writer.py     replies that arrive together share a transaction, in a thread
claims.py     who is asking what right now
ledger.py     what counts against a run's cap: reservations, payments, losses
journal.py    all of it together

SQLite runs in WAL mode with `synchronous = FULL`: what is committed survives `kill -9` and a power cut. Many processes
may use one journal on one machine; on a network drive SQLite's WAL mode is not safe, so keep it on a local disk.
"""

from __future__ import annotations

from s1kit.journal.database import is_journal
from s1kit.journal.entries import (
    UNREAD,
    BatchJob,
    Charge,
    Entry,
    Failure,
    Reading,
    Via,
    canonical,
    key_of,
    request_key,
)
from s1kit.journal.journal import Journal
from s1kit.journal.ledger import Ledger

__all__ = [
    "UNREAD",
    "BatchJob",
    "Charge",
    "Entry",
    "Failure",
    "Journal",
    "Ledger",
    "Reading",
    "Via",
    "canonical",
    "is_journal",
    "key_of",
    "request_key",
]  # fmt: skip
