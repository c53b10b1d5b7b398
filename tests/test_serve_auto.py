"""`budget: "auto"` over HTTP: the same reply as asking the engine under the same rule, streamed or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("transformers")

from serving import CLIENT, Running, joined, read_events, serving

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.adaptive.answering import answer_adaptively, probe_tokens
from s1kit.adaptive.rule import ExitRule
from s1kit.errors import InputError
from s1kit.serve.local import Local
from s1kit.serve.options import Options
from s1kit.serve.server import make_backend
from s1kit.tiny.questions import held_out_questions

RULE = ExitRule(every=12, stable=2, max_tokens=96)
ENGINE = load_engine("tiny")
QUESTIONS = [q.text for q in held_out_questions(2, seed=11)]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    async def make(stack: AsyncExitStack) -> Local:
        return Local(ENGINE, "tiny", RULE)

    with serving(make) as running:
        yield running


def asked(server: Running, question: str, **fields: Any) -> Any:
    body = {"model": "tiny", "messages": [{"role": "user", "content": question}], "temperature": 0, **fields}
    return CLIENT.post(f"{server.url}/v1/chat/completions", json=body)


@pytest.mark.parametrize(
    ("fields", "budget"),
    [
        ({}, ThinkingBudget(96)),
        ({"budget": "auto", "num_waits": 2}, ThinkingBudget(96, num_waits=2)),
        ({"budget": "auto", "thinking_token_budget": 40}, ThinkingBudget(40)),
        ({"budget": "auto", "min_thinking_tokens": 50}, ThinkingBudget(96, 50)),
    ],
)
def test_a_reply_is_that_of_the_engine_under_the_same_rule(
    server: Running, fields: dict[str, Any], budget: ThinkingBudget
) -> None:
    expect_the_engine_s_reply(server, RULE, fields, budget)


@pytest.mark.parametrize(
    "rule", [ExitRule(every=12, sure=0.8, max_tokens=96), ExitRule(every=12, agree=2, max_tokens=96)]
)
def test_rules_by_probability_and_by_samples_hold_over_http(rule: ExitRule) -> None:
    async def make(stack: AsyncExitStack) -> Local:
        return Local(ENGINE, "tiny", rule)

    with serving(make) as running:
        expect_the_engine_s_reply(running, rule, {}, ThinkingBudget(96))


def expect_the_engine_s_reply(server: Running, given: ExitRule, fields: dict[str, Any], budget: ThinkingBudget) -> None:
    for question in QUESTIONS:
        rule = replace_max(given, budget.max_tokens)
        (expected,) = answer_adaptively(ENGINE, [Request(question, budget=budget, answer_tokens=32)], rule)
        whole = asked(server, question, answer_tokens=32, **fields).json()
        events = read_events(asked(server, question, answer_tokens=32, stream=True, **fields).text)
        message, stream = whole["choices"][0]["message"], joined(events)[0]
        assert message["reasoning"].strip() == expected.thinking.strip()
        assert message["content"].strip() == expected.answer.strip()
        assert stream["thinking"] == message["reasoning"]
        assert stream["answer"] == message["content"]
        assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == expected.thinking_tokens
        assert whole["s1kit"]["auto"]["answer_tokens"] == probe_tokens(expected.note)
        assert expected.thinking_tokens >= budget.min_tokens


def replace_max(rule: ExitRule, most: int) -> ExitRule:
    return rule.model_copy(update={"max_tokens": min(rule.max_tokens, most)})


def test_a_number_without_auto_is_a_plain_budget(server: Running) -> None:
    reply = asked(server, QUESTIONS[0], thinking_token_budget=24).json()
    assert "auto" not in reply["s1kit"]


@pytest.mark.parametrize(
    ("fields", "field"),
    [({"budget": "auto", "min_thinking_tokens": 97}, "min_thinking_tokens"), ({"budget": "soon"}, "budget")],
)
def test_what_the_rule_cannot_honour_is_refused_by_name(server: Running, fields: dict[str, Any], field: str) -> None:
    reply = asked(server, QUESTIONS[0], **fields)
    assert reply.status_code == 400
    assert reply.json()["error"]["param"] == field


def test_auto_without_a_rule_says_how_to_get_one() -> None:
    async def make(stack: AsyncExitStack) -> Local:
        return Local(ENGINE, "tiny")

    with serving(make) as running:
        reply = asked(running, QUESTIONS[0], budget="auto")
    assert reply.status_code == 400
    assert "Start the server with --auto FILE" in reply.json()["error"]["message"]


def test_a_rule_by_probability_before_an_engine_without_is_refused() -> None:
    from s1kit.engines.scripted import ScriptedEngine

    with pytest.raises(InputError, match=r"by the probability of the answer.*\(--auto\)"):
        Local(ScriptedEngine({}), "scripted", ExitRule(every=12, sure=0.8, max_tokens=96))


def test_a_rule_in_front_of_another_server_is_refused(tmp_path: Path) -> None:
    import asyncio

    RULE.save(tmp_path / "auto.json")
    options = replace(Options(), upstream="http://127.0.0.1:9", auto=str(tmp_path / "auto.json"))
    with pytest.raises(InputError, match="an exit rule needs an engine in this process"):
        asyncio.run(make_backend(options))
    with pytest.raises(InputError, match="there is no calibrated rule"):
        asyncio.run(make_backend(replace(Options(), auto=str(tmp_path / "none.json"))))
