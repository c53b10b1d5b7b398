"""Replies of providers, gateways and servers as reports of 2026 have them, each read and judged as what it is.

The cases lie in `provider_reports.jsonl`: whole bodies, streams, statuses, errors with status 200 and within streams,
lines of batches. What each must be taken for was written down before it was tried. Their shapes come from the documents
and error pages of the providers, from the issue trackers of litellm, vllm, openai-python, lmstudio, Dify, LibreChat,
langchain, pi, OmniRoute, 9router, hermes-agent, genai and RAGFlow, and from the recorded traffic in the tests of
pydantic-ai (4fda389) and vercel/ai (ed857f5), reduced to the fields that were misread.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from s1kit.providers.batch import anthropic, gemini, openai
from s1kit.providers.bodies import error_message, parse_body
from s1kit.providers.chat import ProblemKind
from s1kit.providers.classify import problem_in
from s1kit.providers.signs import kind_of_status
from s1kit.providers.wires.events import EventParser, is_event_stream
from s1kit.providers.wires.replies import read_reply
from tests.test_provider_replies import WIRES

CASES = [
    json.loads(line) for line in Path(__file__).with_name("provider_reports.jsonl").read_text("utf-8").splitlines()
]
LINES = {"openai": openai._line, "anthropic": anthropic._line, "gemini": gemini._line}


def cases(*kinds: str) -> pytest.MarkDecorator:
    found = [case for case in CASES if case["case"] in kinds]
    assert found
    return pytest.mark.parametrize("case", found, ids=[f"{case['case']}: {case['name']}" for case in found])


def verdict(kind: ProblemKind) -> str:
    if kind in ("request", "refused"):
        return kind
    return "transient" if kind in ("rate", "server", "timeout", "connection", "unreachable") else "account"


def bytes_of(body: Any) -> bytes:
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def received(case: dict[str, Any]) -> tuple[bool, dict[str, Any] | None, bytes]:
    """Whether the reply came whole, its body, and its bytes."""
    if "body" in case:
        raw = bytes_of(case["body"])
        return True, parse_body(raw), raw
    stream = EventParser(WIRES[case["wire"]].assembler())
    sent = case["sent"].encode()
    assert is_event_stream("", sent) or sent.startswith((b":", b"retry:"))
    for at in range(0, len(sent), 70):
        stream.feed(sent[at : at + 70])
    stream.end()
    raw = json.dumps(stream.assembler.body()).encode()
    return stream.assembler.is_whole, parse_body(raw), raw


@cases("answer", "stream")
def test_a_reply_is_read_as_what_it_is(case: dict[str, Any]) -> None:
    is_whole, body, raw = received(case)
    assert is_whole
    assert body is not None
    assert problem_in(body, raw) is None
    reply = read_reply(WIRES[case["wire"]], body)
    assert [reply.thinking, reply.answer, reply.finish_reason] == case["reads"]
    if case["usage"]:
        assert [reply.usage.input_tokens, reply.usage.output_tokens] == case["usage"]
    if "calls" in case:
        calls = [call["function"] for call in reply.tool_calls]
        assert [[call["name"], call["arguments"]] for call in calls] == case["calls"]


def test_calls_of_tools_without_an_index_are_told_apart_by_their_ids() -> None:
    stream = EventParser(WIRES["openai"].assembler())
    for name in "fg":
        call = {"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}}
        stream.feed(b"data: " + json.dumps({"choices": [{"delta": {"tool_calls": [call]}}]}).encode() + b"\n\n")
    calls = read_reply(WIRES["openai"], stream.assembler.body()).tool_calls
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in calls] == [("f", "{}"), ("g", "{}")]


@cases("cut stream")
def test_a_stream_without_its_end_is_cut(case: dict[str, Any]) -> None:
    assert not received(case)[0]


@cases("status")
def test_an_error_is_judged_by_its_status_and_its_words(case: dict[str, Any]) -> None:
    raw = bytes_of(case["body"])
    body = parse_body(raw)
    assert verdict(kind_of_status(case["status"], body, error_message(body) or raw.decode())) == case["verdict"]


@cases("status 200", "error in a stream")
def test_what_is_no_answer_is_judged_although_the_status_says_that_all_is_well(case: dict[str, Any]) -> None:
    is_whole, body, raw = received(case)
    problem = problem_in(body, raw)
    if is_whole:
        assert problem is not None
    assert (verdict(problem.kind) if problem is not None and is_whole else "transient") == case["verdict"]


@cases("line of a batch")
def test_a_line_of_a_batch_is_read_as_the_same_reply_online(case: dict[str, Any]) -> None:
    line = LINES[case["wire"]](case["body"], b"")
    assert line.key == "q"
    if "verdict" in case:
        assert line.body is None
        assert verdict(line.kind) == case["verdict"]
        return
    assert line.body is not None
    assert problem_in(line.body, b"") is None
    reply = read_reply(WIRES[case["wire"]], line.body)
    assert [reply.thinking, reply.answer, reply.finish_reason] == case["reads"]


def test_what_the_model_had_written_does_not_judge_the_error_that_ended_it() -> None:
    """A text about money or keys would otherwise stop the run."""
    said = {"choices": [{"message": {"content": "Please recharge: insufficient balance, invalid_api_key."}}]}
    problem = problem_in(said | {"error": {"message": "Provider disconnected"}}, b"")
    assert problem is not None
    assert problem.retriable


def test_a_refusal_whose_thinking_is_hidden_keeps_its_reason() -> None:
    """Model Armor's, as recorded in pydantic-ai (4fda389)."""
    candidate = {"finishReason": "MODEL_ARMOR", "content": {"parts": [{"text": "4"}]}}
    note = read_reply(WIRES["gemini"], {"candidates": [candidate], "usageMetadata": {"thoughtsTokenCount": 7}}).note
    assert "MODEL_ARMOR" in note
    assert "does not show its thinking (7 tokens)" in note
