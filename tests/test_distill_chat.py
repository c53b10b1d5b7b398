"""The stage distill with teachers that cost money: nothing lost, nothing paid twice, nothing overspent."""

from __future__ import annotations

import json
import math
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from collected_runs import collected_run

from s1kit.cli import main
from s1kit.distill.distill import distill
from s1kit.distill.estimate import estimate_distill, probe_costs, total_interval
from s1kit.errors import WorkFailed
from s1kit.journal import Journal
from s1kit.providers.spend_cap import CapReached
from s1kit.providers.throttle import ThrottleSettings
from s1kit.recipe import Recipe
from s1kit.records import Question, Trace
from s1kit.stage import Run, Stage
from tests.servers.provider_server import KEY, Fault, ProviderServer, answer_of, thinking_of


def run_of(tmp_path: Path, num: int, name: str = "r") -> Run:
    return collected_run(tmp_path / name, [Question(text=f"How much is {n} and {n}?") for n in range(num)])


def recipe_of(tmp_path: Path, server: ProviderServer, **settings: object) -> Recipe:
    teacher = {"teacher": f"chat:{server.compatible}#DeepSeek-R1", **settings}
    return Recipe.model_validate({"name": "r", "out": str(tmp_path), "distill": teacher, "train": {"base": "hf:none"}})


def traces_of(stage: Stage) -> list[Trace]:
    return list(stage.rows("traces", Trace))


def test_a_trace_carries_thinking_answer_usage_cost_and_terms(server: ProviderServer, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, server, price={"input": 1.0, "output": 2.0}, num_traces=2, prompt="Q: {question}")
    stage = distill(recipe, run_of(tmp_path, 3))
    traces = traces_of(stage)
    asked = "Q: How much is 0 and 0?"
    assert [(t.question.text[-3:], t.draw) for t in traces] == [(f" {n}?", d) for n in range(3) for d in (0, 1)]
    assert (traces[0].thinking, traces[0].answer) == (thinking_of(asked), answer_of(asked))
    assert traces[0].terms == "permits"
    assert traces[0].cost_usd == pytest.approx((traces[0].usage.input_tokens + 2 * traces[0].usage.output_tokens) / 1e6)
    assert stage.figures["cost_usd"] == pytest.approx(sum(t.cost_usd for t in traces))
    assert stage.figures["requests"]["sent"] == 6


def test_running_again_with_a_journal_sends_nothing(server: ProviderServer, tmp_path: Path) -> None:
    first = traces_of(distill(recipe_of(tmp_path, server), run_of(tmp_path, 50)))
    second = traces_of(distill(recipe_of(tmp_path, server), run_of(tmp_path, 50, "another")))
    assert second == first
    assert server.num_requests == 50


def test_what_is_missing_is_named_and_only_that_is_asked_again(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, run = recipe_of(tmp_path, server, concurrency=4), run_of(tmp_path, 20)
    server.faults = lambda number, question: Fault(status=500) if question.endswith("7?") else None
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.01)
    with pytest.raises(WorkFailed, match=r"2 of 20 replies are missing: 2 server.*failures\.jsonl"):
        distill(recipe, run)
    named = (run.folder / "distill" / "failures.jsonl").read_text().splitlines()
    assert len(named) == 2
    server.faults, server.num_requests = lambda number, question: None, 0
    assert len(traces_of(distill(recipe, run))) == 20
    assert server.num_requests == 2
    assert not (run.folder / "distill" / "failures.jsonl").exists()


def test_a_stage_of_unusable_replies_is_not_done_and_retry_asks_exactly_those_again(
    server: ProviderServer, tmp_path: Path
) -> None:
    def odd(reply: dict[str, Any]) -> dict[str, Any]:
        return reply | {"choices": [reply["choices"][0] | {"finish_reason": "strange"}]}

    server.faults = lambda number, question: Fault(change=odd) if "1 and" in question else None
    recipe, run = recipe_of(tmp_path, server), run_of(tmp_path, 20)  # 1 and 11 are odd
    few = recipe_of(tmp_path, server, max_unusable=0.05)
    with pytest.raises(WorkFailed, match=r"2 of 20 replies cannot be used \(2 malformed\).*--retry malformed"):
        distill(few, run)
    assert len((run.folder / "distill" / "unusable.jsonl").read_text().splitlines()) == 2
    stage = distill(recipe, run)  # a tenth may be, by default
    assert stage.is_done
    assert server.num_requests == 20
    server.faults = lambda number, question: None
    again = distill(recipe_of(tmp_path, server, retry=["malformed"]), run)
    assert server.num_requests == 22
    assert {trace.finish_reason for trace in traces_of(again)} == {"stop"}
    assert again.is_done
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert len(journal) == 22  # what was paid is kept


@pytest.fixture
def quick_breaker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.02)
    monkeypatch.setattr(
        "s1kit.distill.open_teacher.ThrottleSettings",
        lambda **limits: ThrottleSettings(breaker_seconds=0.02, breaker_failures=4, breaker_trials=2, **limits),
    )


@pytest.mark.usefixtures("quick_breaker")
def test_an_outage_told_as_http_200_is_finished_by_running_again(server: ProviderServer, tmp_path: Path) -> None:
    recipe, run = recipe_of(tmp_path, server), run_of(tmp_path, 100)
    outage = Fault(body='{"error": {"code": 502, "message": "Provider returned error"}}')
    server.faults = lambda number, question: outage if number >= 40 else None
    with pytest.raises(WorkFailed, match="distill stopped with"):
        distill(recipe, run)
    server.faults = lambda number, question: None
    assert {trace.finish_reason for trace in traces_of(distill(recipe, run))} == {"stop"}


def test_half_a_character_in_a_reply_does_not_stop_the_stage(server: ProviderServer, tmp_path: Path) -> None:
    message = '{"reasoning_content": "a \\ud800 b", "content": "\\udfff"}'
    body = f'{{"choices": [{{"finish_reason": "stop", "message": {message}}}]}}'
    server.faults = lambda number, question: Fault(body=body)
    trace, *_ = traces_of(distill(recipe_of(tmp_path, server), run_of(tmp_path, 2)))
    assert (trace.thinking, trace.answer) == ("a \ufffd b", "\ufffd")
    assert "half characters are replaced" in trace.note


def test_the_cap_stops_the_run_and_raising_it_goes_on(server: ProviderServer, tmp_path: Path) -> None:
    price = {"input": 1000.0, "output": 1000.0}
    settings = {"price": price, "max_output_tokens": 60}
    run = run_of(tmp_path, 100)
    with pytest.raises(CapReached, match=r"distill stopped with \d+ of 100 replies: the cap of \$1\.00 is reached"):
        distill(recipe_of(tmp_path, server, max_cost_usd=1.0, **settings), run)
    bought = server.num_requests
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert 0.8 < sum(e.cost_usd for e in journal.entries()) <= 1.0
    # What the stage paid before counts against the cap of today.
    with pytest.raises(CapReached):
        distill(recipe_of(tmp_path, server, max_cost_usd=1.0, **settings), run)
    assert server.num_requests == bought
    assert len(traces_of(distill(recipe_of(tmp_path, server, max_cost_usd=50.0, **settings), run))) == 100
    assert server.num_requests == 100


def test_thinking_that_was_paid_for_and_is_not_there_is_unusable_shown_and_asked_again(
    server: ProviderServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_thinking(reply: dict[str, Any]) -> dict[str, Any]:
        message = reply["choices"][0]["message"]
        message["content"] = message["content"].rpartition("</think>")[2].strip()
        return reply

    server.faults = lambda number, question: Fault(change=without_thinking) if number < 4 else None
    recipe, run = recipe_of(tmp_path, server, concurrency=1), run_of(tmp_path, 10)
    with pytest.raises(WorkFailed, match=r"4 of 10 replies cannot be used \(4 no-thinking\).*--retry no-thinking"):
        distill(recipe, run)
    assert main(["show", str(tmp_path / "r")]) == 0
    shown = capsys.readouterr().out
    assert "4 replies cannot be used (4 no-thinking)" in shown
    assert shown.count("does not show its thinking (") == 4
    again = recipe_of(tmp_path, server, concurrency=1, retry=["no-thinking"])
    assert all(trace.thinking for trace in traces_of(distill(again, run)))
    assert server.num_requests == 14


@pytest.mark.parametrize("provider", ["openai", "gemini", "anthropic"])
def test_batch_mode_gives_the_traces_that_online_mode_gives(
    server: ProviderServer, tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"{provider.upper()}_API_KEY", KEY)
    teacher = {"openai": "o1", "gemini": "gemini-2.5-pro", "anthropic": "claude-opus-5-5"}[provider]
    settings = {"teacher": f"chat:{provider}/{teacher}", "base_url": getattr(server, provider), "poll_seconds": 0.02}
    settings["max_unusable"] = 1.0  # OpenAI shows no thinking
    batch = traces_of(distill(recipe_of(tmp_path / "b", server, mode="batch", **settings), run_of(tmp_path / "b", 30)))
    assert server.num_requests == 0
    online = traces_of(distill(recipe_of(tmp_path / "o", server, **settings), run_of(tmp_path / "o", 30)))
    assert [t.model_copy(update={"cost_usd": t.cost_usd * 2}).model_dump_json() for t in batch] == [
        t.model_dump_json() for t in online
    ]
    assert {t.terms for t in batch} == {"forbids"}


def test_a_line_that_a_batch_refuses_is_a_row_that_says_so(server: ProviderServer, tmp_path: Path) -> None:
    server.bad = lambda question: question == "How much is 3 and 3?"
    settings = {"teacher": "chat:openai/o1", "base_url": server.openai, "poll_seconds": 0.02, "max_unusable": 1.0}
    traces = traces_of(distill(recipe_of(tmp_path, server, mode="batch", **settings), run_of(tmp_path, 10)))
    refused = {t.question.text: (t.finish_reason, t.note) for t in traces if t.finish_reason != "stop"}
    assert refused == {"How much is 3 and 3?": ("failed", "request (HTTP 400): Invalid request.")}
    assert len(traces) == 10


def test_a_line_that_a_filter_refuses_is_a_refused_row_as_it_is_online(server: ProviderServer, tmp_path: Path) -> None:
    server.bad = lambda question: question == "How much is 3 and 3?"
    server.change_results = lambda text: text.replace("Invalid request", "flagged by our usage policy")
    settings = {"teacher": "chat:openai/o1", "base_url": server.openai, "poll_seconds": 0.02, "max_unusable": 1.0}
    traces = traces_of(distill(recipe_of(tmp_path, server, mode="batch", **settings), run_of(tmp_path, 10)))
    assert {t.question.text: t.finish_reason for t in traces if t.finish_reason != "stop"} == {
        "How much is 3 and 3?": "refused"
    }


def test_a_job_that_was_done_by_the_time_it_was_cancelled_ends_the_stage(
    server: ProviderServer, tmp_path: Path
) -> None:
    server.change_job = lambda job: job | ({"status": "cancelled"} if job.get("status") == "completed" else {})
    settings = {"teacher": "chat:openai/o1", "base_url": server.openai, "poll_seconds": 0.02, "max_unusable": 1.0}
    assert len(traces_of(distill(recipe_of(tmp_path, server, mode="batch", **settings), run_of(tmp_path, 10)))) == 10


FILTERED = '{"error": {"code": "content_filter", "message": "The prompt triggered the content management policy."}}'


def test_a_question_that_a_filter_refuses_by_its_status_is_a_row_and_the_stage_is_done(
    server: ProviderServer, tmp_path: Path
) -> None:
    server.faults = lambda number, question: Fault(400, body=FILTERED) if question == "How much is 3 and 3?" else None
    stage = distill(recipe_of(tmp_path, server), run_of(tmp_path, 10))
    refused = {t.question.text: t.finish_reason for t in traces_of(stage) if t.finish_reason != "stop"}
    assert refused == {"How much is 3 and 3?": "refused"}
    assert server.num_requests == 10


def test_an_account_that_is_empty_is_not_asked_again_by_those_who_wait(server: ProviderServer, tmp_path: Path) -> None:
    server.faults = lambda number, question: Fault(402, body="Insufficient Balance") if number > 2 else None
    with pytest.raises(WorkFailed, match="Fill the account"):
        distill(recipe_of(tmp_path, server, concurrency=1), run_of(tmp_path, 30))
    assert server.num_requests == 4


def test_a_complaint_is_known_again_whatever_id_it_carries(server: ProviderServer, tmp_path: Path) -> None:
    def complain(number: int, question: str) -> Fault:
        return Fault(400, body=json.dumps({"error": {"message": f"bad temperature. Request id: 0217{number:012x}a5e"}}))

    server.faults = complain
    with pytest.raises(WorkFailed, match=r"refused 8 requests in a row alike.*bad temperature"):
        distill(recipe_of(tmp_path, server, concurrency=1), run_of(tmp_path, 30))
    assert server.num_requests == 8


def test_what_most_unusable_replies_note_is_said(server: ProviderServer, tmp_path: Path) -> None:
    server.faults = lambda number, question: Fault(413, body=f"too large by {len(question)}{number}")
    with pytest.raises(WorkFailed, match=r"3 failed\).*noted most often: request \(HTTP 413\): too large"):
        distill(recipe_of(tmp_path, server), run_of(tmp_path, 3))


def test_the_receipt_names_the_models_that_answered_and_a_change_is_said(
    server: ProviderServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def dated(day: int) -> Fault:
        return Fault(change=lambda reply: reply | {"model": f"m-2026-11-0{day}"})

    server.faults = lambda number, question: dated(1 if number < 2 else 2)
    stage = distill(recipe_of(tmp_path, server, concurrency=1, stream=False), run_of(tmp_path, 5))
    assert stage.figures["requests"]["answered_by"] == {"m-2026-11-01": 2, "m-2026-11-02": 3}
    assert "was answered by 2 models: m-2026-11-02 (3), m-2026-11-01 (2)" in capfd.readouterr().err


def test_a_thinking_budget_that_the_server_does_not_honour_is_said(
    server: ProviderServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    details = {"completion_tokens": 900, "completion_tokens_details": {"reasoning_tokens": 880}}
    server.faults = lambda number, question: Fault(change=lambda reply: reply | {"usage": reply["usage"] | details})
    distill(recipe_of(tmp_path, server, thinking_budget=50, stream=False), run_of(tmp_path, 2))
    assert "thought for up to 880 tokens, with thinking_budget=50" in capfd.readouterr().err


def test_terms_and_price_are_said_before_anything_is_spent(
    server: ProviderServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    server.faults = lambda number, question: Fault(status=401)
    recipe = recipe_of(tmp_path, server, teacher="chat:gemini/gemini-2.5-flash", base_url=server.gemini)
    with pytest.raises(WorkFailed):
        distill(recipe, run_of(tmp_path, 3))
    said = capfd.readouterr().err
    assert (
        "$0.3 / $2.5 per million tokens in / out (https://ai.google.dev/gemini-api/docs/pricing, by genai-prices"
        in said
    )
    assert "gemini/gemini-2.5-flash forbids training on its output: You may not use the Services to develop" in said
    assert KEY not in said


def test_no_file_of_the_run_holds_the_key(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    recipe = recipe_of(tmp_path, server, teacher="chat:openai/o1", base_url=server.openai, max_unusable=1.0)
    distill(recipe, run_of(tmp_path, 5))
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path


# ---- interruption ---------------------------------------------------------------------------------------------------

CHILD = """
import sys
from s1kit.distill.distill import distill
from s1kit.recipe import Recipe
from s1kit.stage import open_run
import s1kit.distill.distill as module
from pathlib import Path
module.BLOCK = 200
recipe = Recipe.model_validate_json(sys.argv[1])
try:
    distill(recipe, open_run(recipe.folder, "r", {}))
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(recipe: Recipe, stderr: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", CHILD, recipe.model_dump_json()], stderr=stderr)


def served(log: Path) -> list[str]:
    return [line.partition(" ")[2] for line in log.read_text().splitlines()] if log.exists() else []


def oldest_asked_again(log: Path, kills: list[float]) -> float:
    """How long before a kill a question had been asked that was asked again after it, in seconds, at most."""
    last: dict[str, float] = {}
    oldest = 0.0
    for line in log.read_text().splitlines():
        moment, _, question = line.partition(" ")
        asked = last.get(question)
        between = [] if asked is None else [kill - asked for kill in kills if asked < kill < float(moment)]
        oldest = max([oldest, *between[:1]])
        last[question] = float(moment)
    return oldest


def serve(log: Path, *arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.servers.provider_server", "--log", str(log), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def stop(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_ctrl_c_finishes_what_is_in_flight_and_loses_nothing(tmp_path: Path) -> None:
    process, root = serve(tmp_path / "log", "--seconds", "0.05")
    try:
        recipe = Recipe.model_validate(
            {
                "name": "r",
                "out": str(tmp_path),
                "distill": {"teacher": f"chat:{root}/vllm/v1#m", "concurrency": 16},
                "train": {"base": "hf:none"},
            }
        )
        run_of(tmp_path, 2000)
        child = start(recipe)
        while len(served(tmp_path / "log")) < 100:
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
        with Journal(tmp_path / "journal.sqlite") as journal:
            assert len(journal) == len(served(tmp_path / "log"))
    finally:
        stop(process)


@pytest.mark.parametrize(("status", "seconds"), [(429, 86400), (503, 7200)])
def test_a_wait_of_hours_is_said_at_once_and_ctrl_c_ends_it(
    server: ProviderServer, tmp_path: Path, status: int, seconds: int
) -> None:
    server.faults = lambda number, question: Fault(status=status, retry_after=str(seconds)) if number >= 3 else None
    recipe = Recipe.model_validate(
        {"name": "r", "out": str(tmp_path), "distill": {"teacher": f"chat:{server.compatible}#m", "concurrency": 2}}
    )
    run_of(tmp_path, 50)
    child = start(recipe, stderr=subprocess.PIPE)
    assert child.stderr is not None
    said = ""
    while "asks to wait" not in said:
        line = child.stderr.readline().decode()
        assert line, said
        said += line
    assert f"asks to wait {seconds / 3600:.1f} h" in said
    assert "Ctrl-C ends the run now" in said
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == 130
    assert child.stderr.read().decode().count("asks to wait") == 0


def kill_and_compare(
    tmp_path: Path, num_questions: int, num_kills: int, in_flight: tuple[int, ...] = (8,), limit: float | None = None
) -> None:
    """Kill a run at random moments, then let it finish; compare with an undisturbed one.

    Nothing that the journal held at a kill is sent again. `limit`: nor anything asked so many seconds before it, which
    only a machine that has nothing else to do can be held to.
    """
    seed = 0
    log, moments = tmp_path / "log", random.Random(seed)
    process, root = serve(log, "--seconds", "0.01", "--fault-every", "17")
    try:
        settings = {"teacher": f"chat:{root}/vllm/v1#m", "concurrency": 8}
        base = {"name": "r", "distill": settings, "train": {"base": "hf:none"}}
        recipe = Recipe.model_validate({**base, "out": str(tmp_path / "killed")})
        run_of(tmp_path / "killed", num_questions)
        kills: list[float] = []
        kept: list[tuple[int, set[str]]] = []
        per_kill = num_questions / (num_kills + 1)
        while len(kills) < num_kills:
            settings["concurrency"] = moments.choice(in_flight)
            recipe = Recipe.model_validate({**base, "out": str(tmp_path / "killed")})
            child, before = start(recipe), len(served(log))
            # At a random moment after the child has come to the work that is this kill's share of it.
            while child.poll() is None and len(served(log)) - before < moments.uniform(0, per_kill):
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.03))
            child.kill()
            kills.append(time.monotonic())
            child.wait()
            with Journal(tmp_path / "killed" / "journal.sqlite") as journal:
                assert journal._file.writing.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                held = {entry.request["messages"][-1]["content"] for entry in journal.entries()}
            kept.append((len(served(log)), held))
        assert start(recipe).wait(300) == 0
        asked = Counter(served(log))
        # The server notes a question before it answers; only those in flight at a kill may be sent again.
        num_again = sum(asked.values()) - num_questions
        oldest = oldest_asked_again(log, kills)
        print(f"{num_kills} kills, {num_again} questions sent again, the oldest {oldest:.3f} s before its kill")
        assert num_again <= num_kills * max(in_flight) * 3 // 2
        for logged, held in kept:
            assert held.isdisjoint(served(log)[logged:])
        assert limit is None or oldest < limit, "it was answered long before, and is not in the journal"
        assert len(asked) == num_questions
        undisturbed = Recipe.model_validate({**base, "out": str(tmp_path / "undisturbed")})
        run_of(tmp_path / "undisturbed", num_questions)
        assert start(undisturbed).wait(300) == 0
    finally:
        stop(process)
    killed, whole = (Run(tmp_path / name / "r") for name in ("killed", "undisturbed"))
    assert list(killed.rows("distill", "traces", Trace)) == list(whole.rows("distill", "traces", Trace))


def test_a_run_killed_a_few_times_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, num_questions=200, num_kills=3)


@pytest.mark.slow
def test_a_run_killed_a_hundred_times_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, num_questions=2000, num_kills=100, limit=0.25)


@pytest.mark.slow
def test_sixty_kills_with_up_to_64_in_flight_lose_nothing(tmp_path: Path) -> None:
    kill_and_compare(tmp_path, num_questions=1500, num_kills=60, in_flight=(8, 16, 32, 64))


def test_every_reply_that_reached_the_client_is_in_the_journal_when_it_dies(tmp_path: Path) -> None:
    process, root = serve(tmp_path / "log")
    try:
        # The child dies the moment its third reply is handed over, with others in flight.
        code = (
            "import os, sys; from pathlib import Path; from s1kit.journal import Journal;"
            "from s1kit.providers.sync import chat_many; num = [0]\n"
            "def on_reply(index, reply):\n"
            "    print(index, flush=True); num[0] += 1\n"
            "    if num[0] == 3: os._exit(9)\n"
            "j = Journal(Path(sys.argv[1]))\n"
            f"chat_many('chat:{root}/vllm/v1#m', [[{{'role': 'user', 'content': f'q{{n}}'}}] for n in range(40)], j,"
            " on_reply=on_reply)"
        )
        out = subprocess.run([sys.executable, "-c", code, str(tmp_path / "j.sqlite")], capture_output=True, text=True)
        assert out.returncode == 9, out.stderr
        used = {f"q{index}" for index in out.stdout.split()}
        assert len(used) == 3
        with Journal(tmp_path / "j.sqlite") as journal:
            assert used <= {entry.request["messages"][0]["content"] for entry in journal.entries()}
    finally:
        stop(process)


def test_a_journal_on_a_full_disk_stops_the_run_with_a_clear_error(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Journal.__init__

    def small(self: Journal, path: Path, **options: bool) -> None:
        opened(self, path, **options)
        self._file.writing.execute("PRAGMA max_page_count = 40")

    run = run_of(tmp_path, 600)
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "__init__", small)
        with pytest.raises(WorkFailed, match=r"disk is full.*Free space and run the same command again"):
            distill(recipe_of(tmp_path, server), run)
    with Journal(tmp_path / "journal.sqlite") as journal:
        kept = len(journal)
        assert journal._file.writing.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert 0 < kept < 600
    server.num_requests = 0
    assert len(traces_of(distill(recipe_of(tmp_path, server), run))) == 600
    assert server.num_requests == 600 - kept


@pytest.mark.usefixtures("quick_breaker")
def test_a_provider_that_stays_down_stops_the_run(server: ProviderServer, tmp_path: Path) -> None:
    server.faults = lambda number, question: Fault(status=503)
    with pytest.raises(WorkFailed, match=r"distill stopped with .* times in a row"):
        distill(recipe_of(tmp_path, server), run_of(tmp_path, 200))


def test_what_is_in_flight_when_the_disk_fills_up_is_kept(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.journal.journal.LOW_SPACE_BYTES", 2**60)
    server.faults = lambda number, question: Fault(seconds=0.02 + number % 7 * 0.01)
    with pytest.raises(WorkFailed, match=r"distill stopped with \d+ of 200 replies: less than"):
        distill(recipe_of(tmp_path, server, concurrency=16), run_of(tmp_path, 200))
    with Journal(tmp_path / "journal.sqlite") as journal:
        assert len(journal) == server.num_requests > 0


# ---- estimate -------------------------------------------------------------------------------------------------------


def test_the_estimate_probes_twenty_questions_that_the_run_does_not_buy_again(
    server: ProviderServer, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, server, price={"input": 1000.0, "output": 1000.0})
    run = run_of(tmp_path, 200)
    (estimate,) = probe_costs(recipe, run)
    assert (estimate.num_probed, estimate.num_requests, server.num_requests) == (20, 200, 20)
    cost = distill(recipe, run).figures["cost_usd"]
    assert server.num_requests == 200
    assert estimate.cost_low is not None
    assert estimate.cost_high is not None
    assert estimate.cost_low <= cost - estimate.spent_usd <= estimate.cost_high
    (estimate,) = probe_costs(recipe, run)
    assert estimate.lines == [
        f"200 requests to {recipe.distill.teacher}, 200 of them in the journal",
        "nothing is left to ask",
    ]


def test_the_estimate_of_a_teacher_that_costs_nothing_asks_nobody(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({"name": "r", "out": str(tmp_path)})
    assert "run s1kit collect first" in estimate_distill(recipe)[1]
    run_of(tmp_path, 5)
    assert estimate_distill(recipe) == ["5 requests to tiny, 0 of them in the journal", "it costs nothing but time"]


def test_the_interval_holds_what_it_promises_for_the_skewed_costs_of_thinking() -> None:
    """Lengths of thinking are about log-normal."""
    dice, hits = random.Random(0), 0
    for _ in range(400):
        pool = [math.exp(dice.gauss(8.0, 0.7)) for _ in range(520)]
        _, low, high = total_interval(pool[:20], 500)
        hits += low <= sum(pool[20:]) <= high
    assert 0.93 < hits / 400 < 0.98
