"""The journal: what was paid for is written down, once, and survives."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from s1kit.errors import InputError, WorkFailed
from s1kit.journal import BatchJob, Entry, Journal, is_journal, request_key


def entry(text: str, **fields: object) -> Entry:
    request = {"provider": "p", "model": "m", "messages": [{"role": "user", "content": text}], "parameters": {}}
    fields = {"key": request_key(request), "provider": "p", "model": "m", "request": request} | fields
    return Entry(**{"reply": {"text": text.upper()}, **fields})  # type: ignore[arg-type]


def test_what_is_put_is_found_by_a_new_process_with_all_its_fields(tmp_path: Path) -> None:
    written = entry("héllo \ud800", cost_usd=0.25, input_tokens=3, output_tokens=5, finish_reason="length", via="batch")
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([written])
    with Journal(tmp_path / "j.sqlite") as journal:
        read = journal.get(written.key)
        assert read is not None
        assert read.created
        assert read == replace(written, created=read.created)
        assert journal.known([written.key, "0" * 32]) == {written.key}
        assert len(journal) == 1


def test_the_first_reply_to_a_request_stays(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([entry("a", reply={"text": "first"})])
        journal.put([entry("a", reply={"text": "second"})])
        assert [e.reply for e in journal.entries()] == [{"text": "first"}]


def test_a_key_does_not_depend_on_the_order_of_fields_but_on_every_value() -> None:
    request = {"model": "m", "parameters": {"temperature": 0.0, "seed": 1}}
    assert request_key(request) == request_key({"parameters": {"seed": 1, "temperature": 0.0}, "model": "m"})
    assert request_key(request) != request_key({"model": "m", "parameters": {"temperature": 0.0, "seed": 2}})


def test_a_thousand_commits_at_once_share_transactions_and_are_all_there(tmp_path: Path) -> None:
    async def commit(journal: Journal) -> None:
        await asyncio.gather(*(journal.commit(entry(str(n))) for n in range(1000)))
        assert len(journal) == 1000

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(commit(journal))


def test_a_reply_is_written_even_when_whoever_asked_is_cancelled(tmp_path: Path) -> None:
    async def commit(journal: Journal) -> None:
        task = asyncio.create_task(journal.commit(entry("a")))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with Journal(tmp_path / "j.sqlite") as journal:
        asyncio.run(commit(journal))
    with Journal(tmp_path / "j.sqlite") as journal:
        assert entry("a").key in journal


def _put_many(path: Path, start: int) -> None:
    with Journal(path) as journal:
        for n in range(start, start + 200):
            journal.put([entry(str(n))])


def test_two_processes_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_many, args=(path, start)) for start in (0, 100)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with Journal(path) as journal:
        assert len(journal) == 300


def _claim_and_die(path: Path, ready: object, may_die: object) -> None:
    journal = Journal(path)
    assert journal.claim(entry("a").key)
    ready.set()  # type: ignore[attr-defined]
    may_die.wait(120)  # type: ignore[attr-defined]
    os._exit(9)


@pytest.mark.skipif(os.name == "nt", reason="claims are POSIX locks")
def test_a_claim_holds_against_another_process_and_dies_with_its_holder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready, may_die = context.Event(), context.Event()
    process = context.Process(target=_claim_and_die, args=(tmp_path / "j.sqlite", ready, may_die))
    process.start()
    assert ready.wait(120)
    with Journal(tmp_path / "j.sqlite") as journal:
        assert not journal.claim(entry("a").key)
        assert journal.claim(entry("b").key)
        may_die.set()
        process.join()
        assert journal.claim(entry("a").key)
        journal.release(entry("a").key)


def test_merging_brings_what_is_missing_and_keeps_what_is_there(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.sqlite") as a, Journal(tmp_path / "b.sqlite") as b:
        a.put([entry("1", reply={"text": "mine"}), entry("2")])
        b.put([entry("1", reply={"text": "theirs"}), entry("3")])
    with Journal(tmp_path / "a.sqlite") as a:
        assert a.merge(tmp_path / "b.sqlite") == 1
        assert [e.reply["text"] for e in a.entries()] == ["mine", "2", "3"]
        assert a.summary()[0]["requests"] == 3


def test_a_journal_is_shown_merged_and_exported_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from s1kit.cli import main

    with Journal(tmp_path / "a.sqlite") as a, Journal(tmp_path / "b.sqlite") as b:
        a.put([entry("1", cost_usd=0.5, output_tokens=1200)])
        b.put([entry("2", finish_reason="length")])
    assert main(["export", str(tmp_path / "b.sqlite"), "--to", str(tmp_path / "a.sqlite")]) == 0
    assert main(["show", str(tmp_path / "a.sqlite")]) == 0
    shown = capsys.readouterr().out
    assert "cost_usd: 0.5" in shown
    assert "finish_reason: length  requests: 1" in shown
    assert main(["export", str(tmp_path / "a.sqlite"), "--to", str(tmp_path / "rows.jsonl")]) == 0
    assert (tmp_path / "rows.jsonl").read_text().count('"reply"') == 2


def test_batch_jobs_are_remembered_until_they_are_collected(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put_job(BatchJob(id="batch_1", provider="p", model="m", keys=("a", "b")))
        assert [job.keys for job in journal.jobs("p", "m")] == [("a", "b")]
        journal.put_job(BatchJob(id="batch_1", provider="p", model="m", keys=("a", "b"), state="collected"))
        assert journal.jobs("p", "m", state="open") == []


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "j.sqlite")
    tmp_path.chmod(0o700)


def test_a_read_only_journal_says_so_and_keeps_what_it_has(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([entry("a")])
    with Journal(tmp_path / "j.sqlite", read_only=True) as journal:
        with pytest.raises(InputError, match="readonly"):
            journal.put([entry("b")])
        assert len(journal) == 1


def test_a_journal_in_a_folder_that_cannot_be_written_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([entry("a")])
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and allowed(path, mode))
    before = sorted(path.name for path in tmp_path.iterdir())
    assert is_journal(tmp_path / "j.sqlite")
    with Journal(tmp_path / "j.sqlite", read_only=True) as journal:
        assert len(journal) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_full_disk_is_a_clear_error_and_what_was_committed_is_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.put([entry("a")])
        # SQLite's own limit on the file's pages raises the very error of a full disk.
        journal._file.writing.execute(
            f"PRAGMA max_page_count = {journal._file.writing.execute('PRAGMA page_count').fetchone()[0]}"
        )
        with pytest.raises(WorkFailed, match="full"):
            journal.put([entry("b", reply={"noise": os.urandom(100_000).hex()})])
        assert [e.key for e in journal.entries()] == [entry("a").key]
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal._file.writing.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_nothing_is_asked_when_the_disk_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        monkeypatch.setattr("s1kit.journal.journal.LOW_SPACE_BYTES", 2**60)
        journal.put([entry("a")])  # what has arrived is still written
        with pytest.raises(WorkFailed, match="too little to keep replies"):
            journal.refuse_when_full()


def test_a_file_that_is_no_journal_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and there are many of them" * 100)
    with pytest.raises(InputError, match="not a journal"):
        Journal(path)
    assert not is_journal(path)
    assert path.read_text().startswith("these are my notes")


def test_a_journal_of_another_format_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "j.sqlite")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InputError, match="another version"):
        Journal(tmp_path / "j.sqlite")
