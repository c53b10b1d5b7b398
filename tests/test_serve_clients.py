"""What clients send in 2026 that other servers were reported to refuse or to lose.

The bodies follow trackers and sources: Codex CLI 0.144 to 0.153 (tools in namespaces and as input items, searches for
tools, messages between agents), Claude Code 2.1 (tools that come and go in mid-conversation, tool references), the
makers' own clients, lm-evaluation-harness, guidellm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args

import anthropic
import openai
import pytest
from anthropic.types import RawMessageStreamEvent
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

pytest.importorskip("starlette")

from serving import ask, joined, post, read_events
from test_serve_agents import Calling, calling  # noqa: F401 - a fixture
from test_serve_tools import TOOLS

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
USER = {"role": "user", "content": "x"}
ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
ADD = {"type": "function", "name": "add", "description": "Adds.", "parameters": {"type": "object"}, "strict": False}
OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object"}}}
READ = {"type": "function", "name": "read", "description": "Reads.", "parameters": {"type": "object"}, "strict": False}
FILES = {"type": "namespace", "name": "mcp__files", "description": "Files.", "tools": [READ | {"defer_loading": True}]}
EXEC = {"type": "custom", "name": "exec", "description": "Runs."}
DECLARED = {
    "type": "additional_tools",
    "role": "developer",
    "id": "at_1",
    "tools": [{"type": "namespace", "name": "functions", "description": "", "tools": [EXEC]}, ADD],
}
SEARCH = {
    "type": "tool_search",
    "execution": "client",
    "description": "Finds tools.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}},
}
SEARCHED = [
    {"type": "tool_search_call", "call_id": "s", "execution": "client", "arguments": {"query": "q"}, "status": None},
    {"type": "tool_search_output", "call_id": "s", "execution": "client", "status": "completed", "tools": [FILES]},
]
CLAUDE_ADD = {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}


EVENTS = {
    get_args(kind.model_fields["type"].annotation)[0]: kind for kind in get_args(get_args(ResponseStreamEvent)[0])
}
"""The types of the events of a response, each of which is checked alone: all together they take seconds to build."""


def _call(name: str, arguments: str = "{}") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def _messages(*turns: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"max_tokens": 900, "messages": [USER, *turns]} | more


def _system(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "system", "content": list(blocks)}


def _result(*blocks: dict[str, Any]) -> Sequence[dict[str, Any]]:
    use = {"type": "tool_use", "id": "t", "name": "add", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": list(blocks)}
    return ({"role": "assistant", "content": [use]}, {"role": "user", "content": [result]})


def _change(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "tool": {"type": "tool_reference", "name": name} | more}


def _agent(**part: Any) -> dict[str, Any]:
    return {"type": "agent_message", "id": "am", "author": "/root", "recipient": "/root/child", "content": [part]}


ALLOWED = {"mode": "auto", "tools": [{"type": "function", "function": {"name": "add"}}]}
FOUND = {"type": "search_result", "source": "a.example", "title": "T", "content": [{"type": "text", "text": "Found."}]}
DEFINITION = {"name": "late", "description": "Late.", "input_schema": {"type": "object"}}
INLINE = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": DEFINITION}}
BLOCKS = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "Inside."}]}}


@pytest.mark.parametrize(
    ("path", "body", "shown", "hidden"),
    [
        (CHAT, {"messages": [USER | {"type": "text"}]}, ["x"], []),
        (CHAT, {"messages": [USER | {"type": "message"}]}, ["x"], []),
        (
            CHAT,
            {
                "messages": [USER],
                "tools": [*TOOLS, OTHER],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED},
            },
            ['"add"'],
            ['"other"'],
        ),
        (RESPONSES, {"input": [DECLARED, ASKED]}, ['"functions__exec"', "Runs.", '"add"'], []),
        (RESPONSES, {"input": "x", "tools": [FILES]}, ['"mcp__files__read"', "Reads."], []),
        (
            RESPONSES,
            {
                "input": [
                    ASKED,
                    {"type": "function_call", "call_id": "c", "name": "read", "namespace": "mcp__files", "id": "fc"},
                    {"type": "function_call_output", "call_id": "c", "output": "3", "caller": {"type": "direct"}},
                ],
                "tools": [FILES],
            },
            [_call("mcp__files__read")],
            [],
        ),
        (RESPONSES, {"input": [ASKED, *SEARCHED], "tools": [SEARCH]}, ["Finds tools.", "Reads.", '{"query": "q"}'], []),
        (
            RESPONSES,
            {"input": "x", "tools": [ADD | {"allowed_callers": ["direct"], "output_schema": {}, "async": False}]},
            ['"add"'],
            ["allowed_callers", "output_schema"],
        ),
        (
            RESPONSES,
            {
                "input": "x",
                "tools": [ADD, FILES],
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [
                        {"type": "function", "name": "read", "namespace": "mcp__files"},
                        {"type": "mcp", "server_label": "s"},
                    ],
                },
            },
            ["mcp__files__read"],
            ['"add"'],
        ),
        (
            RESPONSES,
            {"input": [ASKED, _agent(type="input_text", text="Count.")]},
            ["[/root to /root/child]\nCount."],
            [],
        ),
        (RESPONSES, {"input": [_agent(type="encrypted_content", encrypted_content="Count.")]}, ["Count."], []),
        (RESPONSES, {"input": "x", "reasoning": {"mode": "standard"}}, ["x"], []),
        (MESSAGES, _messages(*_result({"type": "tool_reference", "tool_name": "Stop"})), ["Tool available: Stop"], []),
        (MESSAGES, _messages(*_result(FOUND)), ["T\na.example\nFound."], []),
        (MESSAGES, _messages({"role": "user", "content": [FOUND, BLOCKS]}), ["T\na.example\nFound.", "Inside."], []),
        (MESSAGES, _messages(tools=[CLAUDE_ADD | {"defer_loading": True}]), ['"add"'], ["defer_loading"]),
        (MESSAGES, _messages(_system(_change("tool_addition", "add")), tools=[CLAUDE_ADD]), ['"add"'], []),
        (
            MESSAGES,
            _messages(_system(_change("tool_removal", "gone")), tools=[CLAUDE_ADD, CLAUDE_ADD | {"name": "gone"}]),
            ['"add"'],
            ['"gone"'],
        ),
        (
            MESSAGES,
            _messages(
                {
                    "role": "assistant",
                    "content": [{"type": "compaction", "content": "So far.", "tool_changes": [INLINE]}],
                },
                USER,
            ),
            ["So far.", '"late"'],
            [],
        ),
        (MESSAGES, _messages(thinking={"type": "adaptive", "block_binding": {}}), ["x"], []),
    ],
)
def test_what_is_sent_reaches_the_model(
    calling: Calling,  # noqa: F811
    path: str,
    body: dict[str, Any],
    shown: Sequence[str],
    hidden: Sequence[str],
) -> None:
    calling.says[""] = "Hi."
    reply = post(calling.url, body, path)
    assert reply.status_code == 200, reply.text
    assert [text for text in shown if text not in calling.shown] == [], calling.shown
    assert [text for text in hidden if text in calling.shown] == [], calling.shown


@pytest.fixture(scope="module")
def openai_client(calling: Calling) -> Iterator[openai.OpenAI]:  # noqa: F811
    with openai.OpenAI(base_url=calling.url + "/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "says", "item"),
    [
        (
            {"input": [DECLARED, ASKED]},
            _call("functions__exec", '{"input": "ls"}'),
            {"type": "custom_tool_call", "name": "exec", "namespace": "functions", "input": "ls"},
        ),
        (
            {"input": "x", "tools": [FILES]},
            _call("mcp__files__read"),
            {"type": "function_call", "name": "read", "namespace": "mcp__files", "arguments": "{}"},
        ),
        # A model that leaves the first name out means the only tool of the last one.
        (
            {"input": "x", "tools": [FILES]},
            _call("read"),
            {"type": "function_call", "name": "read", "namespace": "mcp__files"},
        ),
        (
            {"input": "x", "tools": [FILES, READ]},
            _call("read"),
            {"type": "function_call", "name": "read", "namespace": None},
        ),
        (
            {"input": [ASKED, *SEARCHED], "tools": [SEARCH]},
            _call("mcp__files__read"),
            {"type": "function_call", "name": "read", "namespace": "mcp__files"},
        ),
        (
            {"input": "x", "tools": [SEARCH]},
            _call("tool_search", '{"query": "q"}'),
            {"type": "tool_search_call", "execution": "client", "arguments": {"query": "q"}},
        ),
    ],
)
def test_a_call_comes_back_under_the_clients_own_names_and_can_be_sent_again(
    calling: Calling,  # noqa: F811
    openai_client: openai.OpenAI,
    body: dict[str, Any],
    says: str,
    item: dict[str, Any],
    stream: bool,
) -> None:
    calling.says[""] = says
    asked = {"model": "scripted", "reasoning": {"effort": "low"}} | body
    if not stream:
        found = openai_client.responses.create(**asked)
    else:
        events = list(openai_client.responses.create(**asked, stream=True))
        assert [event.sequence_number for event in events] == list(range(len(events)))
        added = {e.output_index: e.item.id for e in events if e.type == "response.output_item.added"}
        done = {e.output_index: e.item.id for e in events if e.type == "response.output_item.done"}
        assert added == done
        assert list(added) == list(range(len(added)))
        assert all(e.item_id == added[e.output_index] for e in events if hasattr(e, "item_id"))
        found = events[-1].response
    assert (found.status, found.usage.total_tokens) == (
        "completed",
        found.usage.input_tokens + found.usage.output_tokens,
    )
    call = json.loads(found.output[-1].to_json())
    assert {key: call.get(key) for key in item} == item, call
    items = [ASKED] if isinstance(body["input"], str) else body["input"]
    again = post(calling.url, asked | {"input": [*items, call, ASKED]}, RESPONSES)
    assert again.status_code == 200, again.text
    assert says.replace("read", "mcp__files__read") in calling.shown or says in calling.shown


@pytest.mark.parametrize(
    ("path", "body", "ignored"),
    [
        (
            RESPONSES,
            {"input": [DECLARED | {"tools": [{"type": "web_search"}, ADD]}, ASKED], "tools": [{"type": "tool_search"}]},
            ["tools.0 (tool_search)", "input.0.tools.0 (web_search)"],
        ),
        (
            RESPONSES,
            {"input": [{"type": "tool_search_call", "execution": "server", "arguments": {}}, ASKED]},
            ["input.0 (tool_search_call)"],
        ),
        (
            MESSAGES,
            _messages(
                {
                    "role": "assistant",
                    "content": [
                        {"type": "mcp_tool_use", "id": "a", "name": "n", "server_name": "s", "input": {}},
                        {"type": "mcp_tool_result", "tool_use_id": "a", "content": []},
                        {"type": "bash_code_execution_tool_result", "tool_use_id": "b", "content": {}},
                        {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
                        {"type": "text", "text": "y"},
                    ],
                },
                USER,
            ),
            [
                "messages.1.content.0 (mcp_tool_use)",
                "messages.1.content.1 (mcp_tool_result)",
                "messages.1.content.2 (bash_code_execution_tool_result)",
                "messages.1.content.3 (fallback)",
            ],
        ),
        (
            MESSAGES,
            _messages(
                compaction={"type": "auto"},
                fallbacks=[{"model": "b"}],
                container="c",
                output_config={"effort": "low", "task_budget": {"type": "tokens", "total": 9}},
            ),
            ["compaction", "fallbacks", "container", "output_config.task_budget"],
        ),
    ],
)
def test_what_only_the_makers_servers_do_is_left_out_and_said(
    calling: Calling,  # noqa: F811
    path: str,
    body: dict[str, Any],
    ignored: list[str],
) -> None:
    assert calling.ignored(path, body) == ignored


HOSTED = {"type": "web_search_20250305", "name": "web_search"}


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        (
            CHAT,
            {
                "messages": [USER],
                "tools": [OTHER],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": ALLOWED},
            },
            "tool_choice.allowed_tools.tools",
        ),
        (RESPONSES, {"input": "x", "tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        (RESPONSES, {"input": "x", "tools": [FILES, READ | {"name": "mcp__files__read"}]}, "tools.1.name"),
        (
            RESPONSES,
            {"input": [_agent(type="encrypted_content", encrypted_content="gAAAAABp")]},
            "input.0.content.0.encrypted_content",
        ),
        (RESPONSES, {"input": [{"type": "compaction", "encrypted_content": "gAAAAABp"}, ASKED]}, "input.0.type"),
        (
            RESPONSES,
            {"input": "x", "tools": [{"type": "tool_search", "execution": "client", "name": "x"}]},
            "tools.0.name",
        ),
        (RESPONSES, {"input": "x", "tools": [{"type": "function"}]}, "tools.0.name"),
        (RESPONSES, {"input": "x", "reasoning": {"mode": "pro"}}, "reasoning.mode"),
        (MESSAGES, _messages(tool_choice={"type": "any"}), "tool_choice"),
        (MESSAGES, _messages(tool_choice={"type": "any"}, tools=[HOSTED]), "tool_choice"),
        (MESSAGES, _messages(_system(_change("tool_addition", "nope"))), "messages.1.content.0.tool.name"),
        (MESSAGES, _messages({"role": "user", "content": "x", "output_config": {}}), "messages.1"),
        (MESSAGES, _messages({"role": "user"}), "messages.1"),
        (MESSAGES, _messages({"role": "user", "content": [{"type": "text"}]}), "messages.1.content.0"),
        (MESSAGES, _messages(*_result({"type": "tool_reference"})), "messages.2.content.0.content.0"),
        (MESSAGES, _messages({"role": "user", "content": [{"type": "tool_result"}]}), "messages.1.content.0"),
        (RESPONSES, {"input": [ASKED, {"type": "function_call", "call_id": "c"}, ASKED]}, "input.1"),
        (RESPONSES, {"input": [ASKED, {"type": "function_call_output", "output": "3"}]}, "input.1"),
        (RESPONSES, {"input": [{"role": "user"}]}, "input.0"),
    ],
)
def test_what_cannot_be_had_is_refused_where_the_client_wrote_it(
    calling: Calling,  # noqa: F811
    path: str,
    body: dict[str, Any],
    param: str,
) -> None:
    reply = post(calling.url, body, path)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param, reply.text


def test_a_system_turn_sets_the_effort_of_what_follows(calling: Calling) -> None:  # noqa: F811
    calling.says[""] = "Hi."
    turn = {"role": "system", "output_config": {"effort": "low"}}
    reply = post(calling.url, _messages(turn, output_config={"effort": "high"}), MESSAGES).json()
    assert reply["s1kit"]["budget"]["lowered_from"] == 1024, reply


def test_thinking_is_signed_so_that_clients_send_it_back(calling: Calling) -> None:  # noqa: F811
    """The AI SDK, pydantic-ai and Cline leave out a block of thinking that has no signature."""
    calling.says[""] = "Hi."
    asked = {"model": "scripted", "max_tokens": 900, "messages": [USER]}
    asked |= {"thinking": {"type": "adaptive"}, "extra_body": {"min_thinking_tokens": 2}}
    with anthropic.Anthropic(base_url=calling.url, api_key="none", max_retries=0) as client:
        whole = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            kinds = [event.delta.type for event in stream if event.type == "content_block_delta"]
            streamed = stream.get_final_message()
        said = {"role": "assistant", "content": whole.content}
        again = client.messages.create(**asked | {"messages": [USER, said, USER]})
    assert kinds.index("signature_delta") == len([kind for kind in kinds if kind == "thinking_delta"])
    assert whole.content[0].signature == streamed.content[0].signature != ""
    assert again.usage.input_tokens > whole.usage.input_tokens


def test_every_event_says_the_usage_so_far_where_that_is_asked_for(calling: Calling) -> None:  # noqa: F811
    calling.says[""] = f"Sure. {_call('add')}"
    options = {"include_usage": True, "continuous_usage_stats": True}
    events = read_events(ask(calling.url, tools=TOOLS, stream=True, stream_options=options).text)
    counts = [event["usage"]["completion_tokens"] for event in events]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    assert joined(events)[0]["finish"] == "tool_calls"


_adapter = cache(TypeAdapter)


@pytest.mark.parametrize("says", ["Hi.", f"Sure. {_call('add')}"])
def test_every_reply_and_event_has_the_fields_that_the_makers_types_require(
    calling: Calling,  # noqa: F811
    says: str,
) -> None:
    """The makers' own clients do not check; pydantic-ai, the AI SDK and clients made from the documents do."""
    calling.says[""] = says
    thinks = {"min_thinking_tokens": 2}
    bodies: list[tuple[str, dict[str, Any], Any, Any]] = [
        (CHAT, {"messages": [USER], "tools": TOOLS} | thinks, ChatCompletion, ChatCompletionChunk),
        (RESPONSES, {"input": "x", "tools": [ADD], "reasoning": {"summary": "auto"}} | thinks, Response, None),
        (RESPONSES, {"input": "x", "tools": [ADD]} | thinks, Response, None),
        (MESSAGES, _messages(tools=[CLAUDE_ADD], **thinks), anthropic.types.Message, RawMessageStreamEvent),
    ]
    for path, body, whole, event in bodies:
        _adapter(whole).validate_json(post(calling.url, body, path).content)
        for line in post(calling.url, body | {"stream": True}, path).text.splitlines():
            if line.startswith("data: {"):
                kind = event or EVENTS[json.loads(line[6:])["type"]]
                _adapter(kind).validate_json(line[6:])


@pytest.mark.parametrize(
    ("path", "body", "advice"),
    [
        (CHAT, {"messages": [USER], "tools": [ADD]}, "Put it into the tool's function."),
        (RESPONSES, {"input": "x", "tools": [OTHER]}, "Put the fields inside it into the tool itself, beside type."),
    ],
)
def test_a_tool_in_the_form_of_the_other_surface_is_told_where_its_fields_belong(
    calling: Calling,  # noqa: F811
    path: str,
    body: dict[str, Any],
    advice: str,
) -> None:
    assert post(calling.url, body, path).json()["error"]["message"].endswith(advice)
