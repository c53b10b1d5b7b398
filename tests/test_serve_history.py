"""What clients send back: calls, citations, searches and broken turns of a conversation, on every surface.

Each case is from a client's tracker: calls whose arguments are empty, cut off or no object (vLLM 19419, SGLang 28035),
turns without id and status (Codex 12669, vLLM 54224), items of tools that another maker's servers ran.
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("starlette")

from serving import post
from test_serve_agents import Calling, calling  # noqa: F401 - a fixture
from test_serve_tools import TOOLS

USER = {"role": "user", "content": "Add."}
CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
FLAT_TOOLS = [{"type": "function", "name": "add", "parameters": {"type": "object"}}]
CLAUDE_TOOLS = [{"name": "add", "input_schema": {"type": "object"}}]
WEB_CALL = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}


def _chat(arguments: Any) -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": arguments}}
    said = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"messages": [USER, said, {"role": "tool", "tool_call_id": "c1", "content": "3"}], "tools": TOOLS}


def _responses(*items: dict[str, Any]) -> dict[str, Any]:
    return {"input": [USER, *items, USER], "tools": FLAT_TOOLS}


def _messages(said: list[dict[str, Any]], then: Any = "Go on.") -> dict[str, Any]:
    turns = [USER, {"role": "assistant", "content": said}, {"role": "user", "content": then}]
    return {"max_tokens": 300, "messages": turns, "tools": CLAUDE_TOOLS}


def _output_text(**more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "output_text", "text": "hello", **more}]}


CITED = [{"type": "url_citation", "url": "http://cited.example", "title": "", "start_index": 0, "end_index": 2}]
ADD = '<tool_call>\n{"name": "add", "arguments": '


@pytest.mark.parametrize(
    ("path", "body", "shown"),
    [
        (CHAT, _chat('{"a": 1}'), ADD + '{"a": 1}}'),
        (CHAT, _chat({"a": 1}), ADD + '{"a": 1}}'),
        (CHAT, _chat(""), ADD + "{}}"),
        (CHAT, _chat("null"), ADD + "{}}"),
        (CHAT, _chat('{"a": '), ADD + '{"invalid_arguments": "{\\"a\\": "}}'),
        (CHAT, _chat('"Beijing"'), ADD + '{"invalid_arguments": "\\"Beijing\\""}}'),
        (CHAT, {"messages": [USER, {"role": "assistant", "content": None}, USER]}, "assistant\n<|im_end|>"),
        (CHAT, {"messages": [USER, {"role": "assistant", "reasoning_content": "hm"}, USER]}, "assistant\n<|im_end|>"),
        (
            CHAT,
            {"messages": [USER, {"role": "assistant", "content": "hi", "annotations": CITED}, USER]},
            "hi<|im_end|>",
        ),
        (RESPONSES, _responses(_output_text(annotations=CITED, logprobs=[{"token": "h", "logprob": -1}])), "hello"),
        (RESPONSES, _responses(_output_text() | {"id": None, "status": None}), "hello"),
        (
            RESPONSES,
            _responses(_output_text(), {"type": "function_call", "call_id": "c", "name": "add", "arguments": ""}),
            "hello" + ADD + "{}}",
        ),
        (
            MESSAGES,
            _messages(
                [{"type": "text", "text": "hello"}, {"type": "tool_use", "id": "c", "name": "add", "input": {"a": 2}}],
                [{"type": "tool_result", "tool_use_id": "c", "content": []}, {"type": "text", "text": "Go on."}],
            ),
            "hello" + ADD + '{"a": 2}}',
        ),
        (MESSAGES, _messages([]), "assistant\n<|im_end|>"),
        (
            MESSAGES,
            _messages(
                [{"type": "text", "text": "hello"}],
                [
                    {
                        "type": "document",
                        "title": "Notes",
                        "source": {"type": "text", "media_type": "text/plain", "data": "a note"},
                    },
                    {"type": "text", "text": "Sum it up."},
                ],
            ),
            "Notes\na note\nSum it up.",
        ),
    ],
)
def test_a_turn_that_is_sent_back_reaches_the_model_as_one(
    calling: Calling,  # noqa: F811
    path: str,
    body: dict[str, Any],
    shown: str,
) -> None:
    calling.says[""] = "Hi."
    reply = post(calling.url, body, path)
    assert reply.status_code == 200, reply.text
    assert shown in calling.shown
    assert "cited.example" not in calling.shown


@pytest.mark.parametrize(
    ("path", "body", "ignored"),
    [
        (RESPONSES, _responses(WEB_CALL, _output_text()), ["input.1 (web_search_call)"]),
        (
            MESSAGES,
            _messages(
                [
                    {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
                    {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                    {"type": "text", "text": "hello", "citations": [{"type": "web_search_result_location"}]},
                ]
            ),
            ["messages.1.content.0 (server_tool_use)", "messages.1.content.1 (web_search_tool_result)"],
        ),
    ],
)
def test_what_another_makers_servers_did_is_left_out_and_said(
    calling: Calling,  # noqa: F811
    path: str,
    body: dict[str, Any],
    ignored: list[str],
) -> None:
    assert calling.ignored(path, body) == ignored
    assert "hello" in calling.shown


@pytest.mark.parametrize("path", [CHAT, RESPONSES, MESSAGES])
@pytest.mark.parametrize("says", ["Hi.", "Sure. " + ADD + '{"a": 1}}\n</tool_call>'])
@pytest.mark.parametrize("total", [1, 300])
def test_every_reply_can_be_sent_back_as_it_came(
    calling: Calling,  # noqa: F811
    path: str,
    says: str,
    total: int,
) -> None:
    calling.says[""] = says
    if path == RESPONSES:
        body = {"input": [USER], "tools": FLAT_TOOLS, "max_output_tokens": total}
        said = post(calling.url, body, path).json()["output"]
        body["input"] += [*said, {"type": "function_call_output", "call_id": "c", "output": "3"}]
    else:
        body = {"messages": [USER], "max_tokens": total, "tools": TOOLS if path == CHAT else CLAUDE_TOOLS}
        first = post(calling.url, body, path).json()
        said = first["choices"][0]["message"] if path == CHAT else {"role": "assistant", "content": first["content"]}
        body["messages"] += [said, USER]
    reply = post(calling.url, body, path)
    assert reply.status_code == 200, reply.text
    assert (says in calling.shown) == (total > 1)
