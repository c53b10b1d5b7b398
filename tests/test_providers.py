"""One chat call over every provider's wire, and what happens when it fails."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.chat import Parameters, Problem, Reply, Stopped
from s1kit.providers.client import Client, open_client
from s1kit.providers.spend_cap import CapReached
from s1kit.providers.sync import chat_many
from s1kit.providers.throttle import ThrottleSettings
from tests.fixtures_providers import MODELS, url_of
from tests.servers.provider_server import KEY, Fault, ProviderServer, answer_of, fail_first, thinking_of

QUESTION = "What is 2 + 2?"
FAST = ThrottleSettings(breaker_seconds=0.05, breaker_failures=4, breaker_trials=2)


pytestmark = pytest.mark.usefixtures("keys")


def client_of(server: ProviderServer, journal: Journal, provider: str = "compatible", **options: Any) -> Client:
    options.setdefault("price", "free")
    options.setdefault("throttle", FAST)
    return open_client(MODELS[provider], journal, base_url=url_of(server, provider), **options)


def ask(client: Client, *questions: str, draw: int = 0) -> list[Reply]:
    async def run() -> list[Reply]:
        async with client:
            return await asyncio.gather(
                *(client.chat([{"role": "user", "content": question}], draw=draw) for question in questions)
            )

    return asyncio.run(run())


@pytest.mark.parametrize("provider", list(MODELS))
def test_thinking_answer_and_usage_come_back_over_every_wire(
    server: ProviderServer, journal: Journal, provider: str
) -> None:
    (reply,) = ask(client_of(server, journal, provider), QUESTION)
    assert reply.answer == answer_of(QUESTION)
    assert reply.finish_reason == "stop"
    assert reply.usage.output_tokens == len((thinking_of(QUESTION) + " " + answer_of(QUESTION)).split())
    if provider == "openai":
        assert (reply.thinking, reply.note) == ("", "OpenAI does not show its thinking (13 tokens)")
    else:
        assert reply.thinking == thinking_of(QUESTION)
    # Asked again, by a new client, nothing is sent.
    (again,) = ask(client_of(server, journal, provider), QUESTION)
    assert again == replace(reply, was_paid_before=True)
    assert server.num_requests == 1


def test_another_draw_model_or_parameter_is_another_request(server: ProviderServer, journal: Journal) -> None:
    ask(client_of(server, journal), QUESTION)
    ask(client_of(server, journal), QUESTION, draw=1)
    ask(client_of(server, journal, parameters=Parameters(temperature=0.5)), QUESTION)
    ask(client_of(server, journal, parameters=Parameters(thinking_budget=100)), QUESTION)
    ask(client_of(server, journal), QUESTION)
    assert server.answered[QUESTION] == 4


def test_the_same_question_asked_twice_at_once_is_sent_once(server: ProviderServer, journal: Journal) -> None:
    replies = ask(client_of(server, journal), *[QUESTION] * 20)
    assert {reply.answer for reply in replies} == {answer_of(QUESTION)}
    assert server.num_requests == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429),
        Fault(status=429, retry_after="0.05"),
        Fault(status=429, retry_after="Sun, 06 Nov 1994 08:49:37 GMT"),
        Fault(status=500),
        Fault(status=503, retry_after="0"),
        Fault(status=529),
        Fault(status=408),
        Fault(status=409),
        Fault(cut=True),
        Fault(status=502, body="<html>Bad gateway</html>", content_type="text/html"),
    ],
    ids=lambda fault: f"{fault.status}-{fault.retry_after}-{fault.cut}",
)
def test_what_another_attempt_can_mend_is_asked_again(server: ProviderServer, journal: Journal, fault: Fault) -> None:
    server.faults = fail_first(2, fault)
    client = client_of(server, journal)
    (reply,) = ask(client, QUESTION)
    assert reply.answer == answer_of(QUESTION)
    assert (client.tally.sent, sum(client.tally.problems.values())) == (3, 2)
    assert len(journal) == 1


def test_a_slow_body_is_a_timeout_and_asked_again(server: ProviderServer, journal: Journal) -> None:
    server.faults = fail_first(1, Fault(seconds=5.0))
    client = client_of(server, journal, timeout_seconds=0.3)
    (reply,) = ask(client, QUESTION)
    assert reply.answer == answer_of(QUESTION)
    assert client.tally.problems["timeout"] == 1
    assert client.spend_cap.num_lost == 1  # it may have been charged, and the books say so


def test_attempts_are_bounded(server: ProviderServer, journal: Journal) -> None:
    server.faults = lambda number, question: Fault(status=500)
    with pytest.raises(Problem, match="HTTP 500"):
        ask(client_of(server, journal, throttle=ThrottleSettings()), QUESTION)
    assert server.num_requests == 6
    assert len(journal) == 0


@pytest.mark.parametrize(
    ("change", "finish", "thinks"),
    [
        (lambda r: r | {"choices": [r["choices"][0] | {"finish_reason": "length"}]}, "length", True),
        (lambda r: r | {"choices": [r["choices"][0] | {"finish_reason": "content_filter"}]}, "refused", True),
        (lambda r: r | {"choices": [r["choices"][0] | {"message": {"content": None}}]}, "empty", False),
        (lambda r: r | {"choices": [r["choices"][0] | {"finish_reason": ["x"]}]}, "malformed", True),
    ],
    ids=["truncated", "refused", "empty", "unknown finish"],
)
def test_a_reply_that_is_not_good_is_kept_with_its_cost_and_not_bought_again(
    server: ProviderServer, journal: Journal, change: Any, finish: str, thinks: bool
) -> None:
    server.faults = lambda number, question: Fault(change=change)
    price = {"input": 1.0, "output": 10.0}
    (reply,) = ask(client_of(server, journal, price=price), QUESTION)
    assert (reply.finish_reason, bool(reply.thinking)) == (finish, thinks)
    assert reply.cost_usd > 0
    (again,) = ask(client_of(server, journal, price=price), QUESTION)
    assert again == replace(reply, was_paid_before=True)
    assert server.num_requests == 1
    assert next(journal.entries()).finish_reason == finish


NO_ANSWERS = {
    "an error of OpenRouter": '{"error": {"code": 502, "message": "Provider returned error"}}',
    "an error beside null choices": '{"error": {"message": "overloaded"}, "choices": null}',
    "an error in a choice": '{"choices": [{"error": {"code": 502, "message": "x"}, "message": {"content": ""}}]}',
    "an error finish": '{"choices": [{"finish_reason": "error", "message": {"content": "half"}}]}',
    "out of resources": '{"choices": [{"finish_reason": "insufficient_system_resource", "message": {"content": "h"}}]}',
    "an error of Anthropic": '{"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}',
    "HTML": "<html><body>We are down for maintenance</body></html>",
    "nothing": "",
    "half a body": '{"choices": [',
    "no choices": '{"choices": []}',
    "another shape": '{"hello": "world"}',
    "a list": "[1, 2, 3]",
    "null": "null",
}


@pytest.mark.parametrize("body", NO_ANSWERS.values(), ids=NO_ANSWERS)
@pytest.mark.parametrize("provider", ["compatible", "openrouter", "openai-responses", "gemini", "anthropic"])
def test_a_body_that_no_model_wrote_is_no_data_and_is_asked_again_whatever_its_status(
    server: ProviderServer, journal: Journal, provider: str, body: str
) -> None:
    server.faults = fail_first(2, Fault(body=body))
    client = client_of(server, journal, provider)
    (reply,) = ask(client, QUESTION)
    assert (reply.finish_reason, reply.answer) == ("stop", answer_of(QUESTION))
    assert sum(client.tally.problems.values()) == 2
    assert len(journal) == 1


ACCOUNTS = {
    "anthropic-credit": (400, "Your credit balance is too low to access the Anthropic API.", "Fill the account"),
    "openai-limit": (400, '{"error": {"code": "billing_hard_limit_reached", "message": "x"}}', "Fill the account"),
    "gemini-location": (400, "User location is not supported for the API use.", "serves your country"),
    "deepseek-balance": (402, "Insufficient Balance", "Fill the account"),
    "openrouter-200": (200, '{"error": {"code": 402, "message": "Insufficient credits"}}', "Fill the account"),
    "wrong-key-200": (200, '{"error": {"code": 401, "message": "No auth"}}', "Check the key"),
}


@pytest.mark.parametrize("name", ACCOUNTS)
def test_what_stops_the_account_stops_the_run_even_after_hundreds_of_answers(
    server: ProviderServer, journal: Journal, name: str
) -> None:
    status, body, remedy = ACCOUNTS[name]
    server.faults = lambda number, question: Fault(status=status, body=body) if number >= 20 else None
    with pytest.raises(Stopped, match=remedy):
        chat_many(client_of(server, journal), [[{"role": "user", "content": str(n)}] for n in range(200)], journal)
    assert len(journal) == 20
    assert server.num_requests < 120


def test_a_firewall_that_blocks_one_question_costs_that_question_only(server: ProviderServer, journal: Journal) -> None:
    blocked = Fault(status=403, body="<html>Your request was blocked</html>", content_type="text/html")
    server.faults = lambda number, question: blocked if question == "x" else None
    replies = chat_many(
        client_of(server, journal), [[{"role": "user", "content": q}] for q in ("a", "x", "b")], journal, concurrency=1
    )
    assert [r.finish_reason for r in replies] == ["stop", "failed", "stop"]


def test_a_closed_port_and_a_name_that_does_not_resolve_are_named_at_once(journal: Journal) -> None:
    for url in ("http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"):
        client = open_client(f"chat:{url}#m", journal)
        with pytest.raises(Stopped, match="cannot be reached"):
            chat_many(client, [[{"role": "user", "content": str(n)}] for n in range(30)], journal)
        assert client.spend_cap.num_lost == 0


def test_a_wrong_content_type_is_no_fault_of_the_reply(server: ProviderServer, journal: Journal) -> None:
    server.faults = lambda number, question: Fault(content_type="text/plain")
    assert ask(client_of(server, journal), QUESTION)[0].answer == answer_of(QUESTION)


def test_thinking_that_the_server_dropped_is_noted(server: ProviderServer, journal: Journal) -> None:
    def drop(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["message"]["content"] = answer_of(QUESTION)
        return reply

    server.faults = lambda number, question: Fault(change=drop)
    (reply,) = ask(client_of(server, journal), QUESTION)
    assert reply.note == "the server does not show its thinking (13 tokens)"


@pytest.mark.parametrize("provider", ["openai", "openai-responses", "gemini", "anthropic"])
def test_a_wrong_key_stops_at_once_with_one_message_that_does_not_show_it(
    server: ProviderServer, journal: Journal, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-secret-0123456789"
    monkeypatch.setenv(f"{provider.partition('-')[0].upper()}_API_KEY", secret)
    client = client_of(server, journal, provider)
    with pytest.raises(Stopped, match="Check the key") as caught:
        ask(client, QUESTION)
    assert server.num_requests == 0
    assert client.tally.sent == 1
    assert secret not in str(caught.value) + repr(caught.value.__cause__) + repr(vars(client)) + repr(client.http)
    assert secret.encode() not in (journal.path).read_bytes()


def test_an_empty_account_is_not_waited_out(server: ProviderServer, journal: Journal) -> None:
    error = json.dumps({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    server.faults = lambda number, question: Fault(status=429, body=error)
    with pytest.raises(Stopped, match="Fill the account"):
        ask(client_of(server, journal), QUESTION)
    assert server.num_requests == 1


def test_a_bad_request_is_that_question_s_own_but_eight_alike_stop_the_run(
    server: ProviderServer, journal: Journal
) -> None:
    server.faults = lambda number, question: Fault(status=400, body="too long") if question == "x" else None
    replies = chat_many(
        client_of(server, journal), [[{"role": "user", "content": q}] for q in ("a", "x", "b")], journal, concurrency=1
    )
    assert [(r.finish_reason, r.note) for r in replies] == [
        ("stop", ""),
        ("failed", "request (HTTP 400): too long."),
        ("stop", ""),
    ]
    server.faults = lambda number, question: Fault(status=400, body="unknown parameter: temperature")
    client = client_of(server, Journal(journal.path.with_name("other.sqlite")))
    with pytest.raises(Stopped, match=r"refused 8 requests in a row alike.*unknown parameter"):
        chat_many(client, [[{"role": "user", "content": str(n)}] for n in range(50)], journal)
    client.journal.close()


def test_the_breaker_gives_up_on_a_provider_that_is_down(server: ProviderServer, journal: Journal) -> None:
    server.faults = lambda number, question: Fault(status=503)
    client = client_of(server, journal)
    with pytest.raises(Stopped, match=r"failed .* times in a row"):
        chat_many(client, [[{"role": "user", "content": str(n)}] for n in range(200)], journal)
    assert server.num_requests < 60


def test_the_breaker_closes_again_when_the_provider_is_back(server: ProviderServer, journal: Journal) -> None:
    server.faults = fail_first(5, Fault(status=503))
    replies = chat_many(client_of(server, journal), [[{"role": "user", "content": str(n)}] for n in range(30)], journal)
    assert {r.finish_reason for r in replies} == {"stop"}


def test_the_cap_is_never_overshot_whatever_is_in_flight(server: ProviderServer, journal: Journal) -> None:
    server.faults = lambda number, question: Fault(seconds=0.01)
    price = {"input": 1000.0, "output": 1000.0}
    client = client_of(
        server,
        journal,
        price=price,
        cap_usd=1.0,
        parameters=Parameters(max_output_tokens=60),
        throttle=ThrottleSettings(),
    )
    questions = [f"question number {n}" for n in range(300)]
    with pytest.raises(CapReached, match=r"cap of \$1\.00 is reached.*Raise it"):
        chat_many(client, [[{"role": "user", "content": q}] for q in questions], journal)
    spent = sum(entry.cost_usd for entry in journal.entries())
    assert 0.8 < spent <= 1.0
    assert client.spend_cap.spent == pytest.approx(spent)
    assert client.spend_cap.reserved == pytest.approx(0.0)


def test_a_cap_on_what_has_no_known_price_is_refused(server: ProviderServer, journal: Journal) -> None:
    with pytest.raises(InputError, match="a cap needs a price"):
        client_of(server, journal, price="unknown", cap_usd=1.0)


def test_a_model_without_a_price_is_refused_and_told_how_to_go_on(server: ProviderServer, journal: Journal) -> None:
    with pytest.raises(InputError, match=r"price of chat:openai/o99 is not in the table.*distill\.price"):
        open_client("chat:openai/o99", journal)
    assert open_client("chat:openai/o99", journal, price="unknown").price is None
    assert open_client("chat:openai/o99", journal, price={"input": 0.55, "output": 2.19}).price is not None


def test_a_setting_that_a_provider_lacks_is_refused_not_ignored(server: ProviderServer, journal: Journal) -> None:
    with pytest.raises(InputError, match="takes no thinking budget"):
        ask(client_of(server, journal, "openai", parameters=Parameters(thinking_budget=100)), QUESTION)
    with pytest.raises(InputError, match="takes no seed"):
        ask(client_of(server, journal, "anthropic", parameters=Parameters(seed=1)), QUESTION)


def test_a_missing_key_names_the_variable(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GEMINI_API_KEY")
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    with pytest.raises(InputError, match=r"no key for gemini.*GEMINI_API_KEY or GOOGLE_API_KEY"):
        open_client("chat:gemini/gemini-2.5-flash", journal)


@pytest.mark.parametrize("text", [KEY, f"# mine\nGEMINI_API_KEY={KEY}\nOTHER=1\n", f'export GEMINI_API_KEY="{KEY}"\n'])
def test_a_key_file_is_read(server: ProviderServer, journal: Journal, tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    client = client_of(server, journal, "gemini", key_file=str(tmp_path / "key"))
    assert ask(client, QUESTION)[0].answer == answer_of(QUESTION)


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("chat:geminy/x", "Did you mean gemini"),
        ("chat:openai", "names no model"),
        ("chat:http://u:p@localhost/v1#m", "the URL holds a password"),
        ("chat:http://localhost/v1", "names no model"),
        ("chat:compatible/m", "needs its address"),
    ],
)
def test_a_wrong_reference_is_explained(
    journal: Journal, reference: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S1KIT_BASE_URL", raising=False)
    with pytest.raises(InputError, match=complaint):
        open_client(reference, journal)


def test_two_processes_ask_the_same_questions_once_between_them(server: ProviderServer, tmp_path: Path) -> None:
    server.faults = lambda number, question: Fault(seconds=0.02)
    code = (
        "import sys; from pathlib import Path; from s1kit.journal import Journal;"
        "from s1kit.providers.sync import chat_many;"
        "j = Journal(Path(sys.argv[2]));"
        "r = chat_many('chat:' + sys.argv[1] + '#m', [[{'role': 'user', 'content': str(n)}] for n in range(60)], j);"
        "print(len(r)); j.close()"
    )
    import subprocess
    import sys

    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, server.compatible, str(tmp_path / "j.sqlite")], stdout=subprocess.PIPE
        )
        for _ in range(2)
    ]
    assert [process.communicate(timeout=60)[0].strip() for process in processes] == [b"60", b"60"]
    assert sum(server.answered.values()) == 60


def test_limits_in_the_headers_are_kept(server: ProviderServer, journal: Journal) -> None:
    server.headers = {"x-ratelimit-limit-requests": "600", "x-ratelimit-remaining-requests": "599"}
    client = client_of(server, journal)
    ask(client, "first")
    assert client.throttle.pace == pytest.approx(10 * 0.995)


def test_vllm_s_own_queue_is_heard(server: ProviderServer, journal: Journal) -> None:
    server.metrics = 'vllm:num_requests_waiting{m="x"} 40.0\nvllm:num_requests_running{m="x"} 8.0\n'
    server.faults = lambda number, question: Fault(seconds=0.2)
    client = client_of(server, journal, throttle=ThrottleSettings(max_in_flight=64))
    ask(client, *[str(n) for n in range(40)])
    assert client.throttle.limit < 32


@pytest.mark.skipif("GEMINI_API_KEY" not in os.environ, reason="needs a key")
@pytest.mark.network
def test_gemini_itself_answers(journal: Journal) -> None:
    (reply,) = ask(open_client("chat:gemini/gemini-2.5-flash", journal), QUESTION)
    assert "4" in reply.answer
