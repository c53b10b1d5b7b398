"""Batch APIs on a bad day: what they tell of a job, what their results look like. Nothing is bought twice for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from s1kit.journal import Journal
from s1kit.providers.batch.driver import BatchOutcome, ask_batch, batch_wire
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.client import Client, open_client
from tests.fixtures_providers import MODELS, url_of
from tests.servers.provider_server import KEY, ProviderServer

PROVIDERS = ["openai", "gemini", "anthropic"]
QUESTIONS = [f"How much is {n} + {n}?" for n in range(12)]

pytestmark = [pytest.mark.usefixtures("keys"), pytest.mark.parametrize("provider", PROVIDERS)]


def run(
    server: ProviderServer, journal: Journal, provider: str, questions: list[str] = QUESTIONS, **options: Any
) -> BatchOutcome:
    client: Client = open_client(
        MODELS[provider], journal, base_url=url_of(server, provider), price={"input": 1.0, "output": 1.0}, **options
    )

    async def work() -> BatchOutcome:
        async with client:
            requests = [client.request([{"role": "user", "content": q}]) for q in questions]
            return await asyncio.wait_for(ask_batch(client, requests, poll_seconds=0.01), 20)

    return asyncio.run(work())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def text_of(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def once(change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The change for the first time only."""
    left = [change]
    return lambda given: left.pop()(given) if left else given


HARMLESS: dict[str, Callable[[str], str]] = {
    "a byte order mark": lambda text: "\ufeff" + text,
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "empty lines and blanks": lambda text: "\n \n" + text.replace("\n", "\n\n") + "\t\n",
    "no newline at the end": lambda text: text.rstrip("\n"),
    "the other way round": lambda text: text_of(lines(text)[::-1]),
    "every line twice": lambda text: text + text,
    "an error of the same request after its reply": lambda text: (
        text
        + text_of(
            [{"custom_id": _id(lines(text)[0]), "key": _id(lines(text)[0]), "error": {"code": 500, "message": "late"}}]
        )
    ),
    "an error of the same request before its reply": lambda text: (
        text_of(
            [{"custom_id": _id(lines(text)[0]), "key": _id(lines(text)[0]), "error": {"code": 500, "message": "early"}}]
        )
        + text
    ),
    "blanks around the request's id": lambda text: text.replace('_id": "', '_id": " ').replace('"key": "', '"key": " '),
    "each line in a list of one": lambda text: text_of([[row] for row in lines(text)]),
    "status codes as texts": lambda text: text.replace('"status_code": 200', '"status_code": "200"'),
    "fields that nobody knows": lambda text: text_of([{**row, "x": [None], "meta": 1} for row in lines(text)]),
}


def _id(row: dict[str, Any]) -> str:
    return str(row.get("custom_id") or row.get("key"))


@pytest.mark.parametrize("fault", HARMLESS)
def test_results_that_are_oddly_written_are_read_whole(
    server: ProviderServer, journal: Journal, provider: str, fault: str
) -> None:
    server.change_results = HARMLESS[fault]
    outcome = run(server, journal, provider)
    assert (outcome.collected, outcome.lost, outcome.refused) == (12, {}, {})
    assert len(server.batches) == 1


BROKEN_ROWS: list[Any] = [
    {},
    {"custom_id": None, "key": None},
    {"custom_id": 7, "key": 7},
    {"response": "x", "result": "x"},
    {"response": [1], "result": [1], "error": "text"},
    {"response": {"status_code": "many", "body": []}, "result": {"message": 3, "error": "text"}},
    {"response": {"status_code": 200, "body": "<html>"}, "result": {"type": 9, "error": {"error": []}}},
    {"response": None, "result": None, "error": [1]},
    {"error": {"message": None, "code": {}}, "result": {"error": {"error": {"type": []}}}},
    [],
    None,
    "text",
]


def test_lines_of_any_shape_raise_nothing_and_are_kept(server: ProviderServer, journal: Journal, provider: str) -> None:
    """Fuzzing by hand: rows of wrong types, with an id that is right and with none; half a line; no JSON at all."""

    def spoil(text: str) -> str:
        rows = lines(text)
        name = "key" if provider == "gemini" else "custom_id"
        with_id = [{**row, name: _id(rows[0])} for row in BROKEN_ROWS if isinstance(row, dict)]
        return text_of(with_id) + text_of(BROKEN_ROWS) + text_of(rows[1:]) + "no JSON\n" + text[:40]

    server.change_results = once(spoil)
    outcome = run(server, journal, provider)
    assert outcome.collected == 12  # the first is asked for again
    assert [len(batch.requests) for batch in server.batches.values()] == [12, 1]
    assert outcome.strays >= 10
    kept = [failure.body for failure in journal.failures()]
    assert b"no JSON" in kept
    assert any(b"status_code" in body for body in kept)


ODD_JOBS: dict[str, Any] = {
    "a page in place of JSON": lambda job: "<html>busy</html>",
    "an empty object": lambda job: {},
    "a list": lambda job: [],
    "a number": lambda job: 7,
    "an id that is no text": lambda job: {**job, "id": 7, "name": None},
    "counts that are a text": lambda job: {**job, "request_counts": "all", "metadata": "x"},
    "counts of a wrong kind": lambda job: {**job, "request_counts": {"completed": [1], "succeeded": {}, "failed": "x"}},
    "nothing but nulls": lambda job: dict.fromkeys(job),
    "a state that nobody knows": lambda job: {
        **job,
        "status": "resting",
        "processing_status": "resting",
        "done": False,
        "metadata": {"state": "RESTING"},
        "error": None,
    },
}


@pytest.mark.parametrize("fault", ODD_JOBS)
def test_a_job_that_is_oddly_told_of_is_looked_at_again(
    server: ProviderServer, journal: Journal, provider: str, fault: str
) -> None:
    server.polls_until_done = 2
    server.change_job = once(ODD_JOBS[fault])
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 1


def test_a_job_that_is_never_told_of_stops_the_run_and_is_found_by_the_next(
    server: ProviderServer, journal: Journal, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.batch.patiently.MAX_FAILURES", 3)
    server.change_job = lambda job: {}
    with pytest.raises(Stopped, match=r"describes no batch job.*jobs are remembered"):
        run(server, journal, provider)
    server.change_job = lambda job: job
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 1


def _counted(job: dict[str, Any], num: int) -> dict[str, Any]:
    """The job with so many requests counted as answered."""
    if "metadata" in job and "batchStats" in job["metadata"]:
        stats = {"requestCount": "12", "successfulRequestCount": str(num)}
        return {**job, "metadata": {**job["metadata"], "batchStats": stats}}
    return {**job, "request_counts": {**job["request_counts"], "completed": num, "succeeded": num}}


def test_results_that_hold_fewer_replies_than_are_counted_are_downloaded_again(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    """A file that is not written whole yet looks like one that is."""
    server.change_job = lambda job: _counted(job, 12)
    server.change_results = once(lambda text: text_of(lines(text)[:5]))
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 1


def test_results_that_stay_partial_stop_the_run_and_what_came_is_kept(
    server: ProviderServer, journal: Journal, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.providers.batch.patiently.MAX_FAILURES", 3)
    server.change_job = lambda job: _counted(job, 12)
    server.change_results = lambda text: text_of(lines(text)[:5])
    with pytest.raises(Stopped, match="hold 5 of the 12 replies"):
        run(server, journal, provider)
    assert len(journal) == 5
    server.change_results = lambda text: text
    run(server, journal, provider)
    assert len(journal) == 12
    assert len(server.batches) == 1


def test_results_that_are_named_late_are_waited_for(server: ProviderServer, journal: Journal, provider: str) -> None:
    if provider == "anthropic":
        pytest.skip("its results have an address of their own")

    def without_results(job: dict[str, Any]) -> dict[str, Any]:
        job = _counted(job, 12) | {"output_file_id": None, "response": None}
        return job if provider == "openai" else {**job, "metadata": {**job["metadata"], "output": None}}

    looks = iter(range(100))
    server.change_job = lambda job: without_results(job) if next(looks) < 3 else job
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 1


def test_a_cancelled_job_is_collected_and_not_submitted_again_unasked(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    def cancelled(job: dict[str, Any]) -> dict[str, Any]:
        job = job | {"status": "cancelled", "cancel_initiated_at": "2026-11-22T10:10:00Z"}
        return job | {"metadata": {**job["metadata"], "state": "BATCH_STATE_CANCELLED"}} if "metadata" in job else job

    server.change_job = lambda job: _counted(cancelled(job), 4)
    server.change_results = lambda text: text_of(lines(text)[:4])
    with pytest.raises(Stopped, match=r"was cancelled.*are kept"):
        run(server, journal, provider)
    assert len(journal) == 4
    assert len(server.batches) == 1
    server.change_job, server.change_results = lambda job: job, lambda text: text
    run(server, journal, provider)
    assert [len(batch.requests) for batch in server.batches.values()] == [12, 8]


def test_results_that_are_deleted_are_asked_for_again_and_it_is_said(
    server: ProviderServer, journal: Journal, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.polls_until_done = 10**6
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(_submitted(server, journal, provider), 0.5))
    server.polls_until_done, server.gone = 0, "results"

    def come_back(job: dict[str, Any]) -> dict[str, Any]:
        if len(server.batches) == 2:  # the second job's results are there
            server.gone = ""
        return job

    server.change_job = come_back
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 2
    assert "are deleted" in capsys.readouterr().err


async def _submitted(server: ProviderServer, journal: Journal, provider: str) -> None:
    client = open_client(MODELS[provider], journal, base_url=url_of(server, provider), price="free")
    async with client:
        await ask_batch(client, [client.request([{"role": "user", "content": q}]) for q in QUESTIONS], poll_seconds=0.1)


def test_a_job_that_is_not_found_at_once_is_looked_for_again(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    """The provider's machines may not agree yet about a job that one of them has just taken."""
    server.gone, server.num_not_found = "job", 2
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 1


def test_a_young_job_that_is_not_known_stops_the_run_and_an_old_one_is_given_up(
    server: ProviderServer, journal: Journal, provider: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A key of another account sees no job either: buying everything again is not what is wanted then."""
    server.gone = "job"
    with pytest.raises(Stopped, match=r"does not know the batch job.*the account that submitted it"):
        run(server, journal, provider)
    assert len(server.batches) == 1
    (job,) = journal.jobs(state="open")
    journal.put_job(job.model_copy(update={"created": "2026-01-01T00:00:00.000+00:00"}))

    def found_again() -> BatchOutcome:
        old_upload = server._new_batch

        def new(*given: Any, **named: Any) -> Any:
            server.gone = ""
            return old_upload(*given, **named)

        server._new_batch = new  # type: ignore[method-assign]
        return run(server, journal, provider)

    assert found_again().collected == 12
    assert "not known to the provider any more" in capsys.readouterr().err


@pytest.mark.parametrize("status", [429, 500, 503])
def test_an_upload_that_is_refused_for_a_while_is_begun_again(
    server: ProviderServer, journal: Journal, provider: str, status: int
) -> None:
    server.uploads_to_refuse = [status, status]
    assert run(server, journal, provider).collected == 12
    assert len(server.batches) == 1


@pytest.mark.parametrize("times", [1, 3])
def test_an_upload_that_is_cut_in_the_middle_is_begun_again_and_nothing_is_bought_twice(
    server: ProviderServer, journal: Journal, provider: str, times: int
) -> None:
    server.uploads_to_cut = times
    assert run(server, journal, provider).collected == 12
    assert server.uploads_to_cut == 0
    assert len(server.batches) == 1
    assert not journal.jobs(state="open")


ACCOUNT: dict[str, dict[str, Any]] = {
    "openai": {"response": {"status_code": 429, "body": {"error": {"code": "insufficient_quota", "message": "pay"}}}},
    "gemini": {"error": {"code": 7, "message": "Permission denied: this key has no access"}},
    "anthropic": {
        "result": {
            "type": "errored",
            "error": {"type": "error", "error": {"type": "invalid_request_error", "message": "credit balance too low"}},
        }
    },
}


def test_a_line_that_tells_of_the_account_stops_the_run_before_another_job(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    def spoil(text: str) -> str:
        first, *others = lines(text)
        name = "key" if provider == "gemini" else "custom_id"
        return text_of([{name: _id(first), **ACCOUNT[provider]}, *others])

    server.change_job, server.change_results = lambda job: _counted(job, 0), once(spoil)
    with pytest.raises(Stopped, match="refuses every request"):
        run(server, journal, provider)
    assert len(journal) == 11
    assert len(server.batches) == 1
    run(server, journal, provider)
    assert len(journal) == 12


def test_replies_to_requests_of_another_run_stay_to_be_collected_by_it(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    server.polls_until_done = 10**6
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(_submitted(server, journal, provider), 0.5))
    server.polls_until_done = 0
    assert run(server, journal, provider, QUESTIONS[:3]).collected == 3
    assert run(server, journal, provider).collected == 9
    assert len(server.batches) == 1


def test_a_key_that_results_quote_is_not_written_down(server: ProviderServer, journal: Journal, provider: str) -> None:
    server.change_results = lambda text: text.replace("Let me see", f"Let me see {KEY}") + f'{{"debug": "{KEY}"}}\n'
    run(server, journal, provider)
    journal.flush()
    assert journal.failures()
    for path in journal.path.parent.iterdir():
        assert KEY.encode() not in path.read_bytes(), path
    assert not any(KEY in str(entry) for entry in journal.entries())


VALUES: list[Any] = [None, 0, -1, 1.5, True, "", "x", [], [None], {}, {"a": None}, [{"data": "x"}], "\ud800"]


def test_whatever_a_provider_tells_of_a_job_is_read_or_is_a_problem(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    """Every field of a job, and of what is in it, replaced by a value of every kind, one after the other."""
    run(server, journal, provider, ["first"])
    (batch,) = server.batches
    told: list[dict[str, Any]] = []

    def note(job: dict[str, Any]) -> dict[str, Any]:
        told.append(job)
        return job

    async def look() -> int:
        client = open_client(MODELS[provider], journal, base_url=url_of(server, provider), price="free")
        wire, num_read = batch_wire(client), 0
        async with client:
            server.change_job = note
            assert (await wire.status(client.http, batch)).state == "ended"
            job = told[0]
            inner = [(outer, field) for outer, value in job.items() if isinstance(value, dict) for field in value]
            for outer, field in [*((name, "") for name in job), *inner]:
                for value in VALUES:
                    changed = {**job, outer: {**job[outer], field: value} if field else value}
                    server.change_job = lambda job, changed=changed: changed  # type: ignore[misc]
                    try:
                        await wire.status(client.http, batch)
                        num_read += len([line async for line in wire.results(client.http, batch)])
                    except Problem:
                        continue
        return num_read

    assert asyncio.run(look()) > 0
