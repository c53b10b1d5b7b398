"""What coding agents and gateways send: whole bodies as they write them, of which nothing may be lost unsaid.

The bodies follow the clients' sources and trackers: Codex CLI (`/v1/responses`), Claude Code (`/v1/messages`), LiteLLM,
Cline and Open WebUI (`/v1/chat/completions`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("starlette")

from fixtures_models import SPECIALS, write_tokenizer
from servers.scripted_upstream import ScriptedUpstream
from serving import CLIENT, ask, joined, post, read_events, serving
from test_serve_tools import CALL, TOOL_TEMPLATE, TOOLS

from s1kit.completions.capabilities import DIALECTS, Capabilities
from s1kit.completions.client import CompletionsServer
from s1kit.forcing.detection import detect_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.serve.answer_form import held_to
from s1kit.serve.chat import ChatBody, Message
from s1kit.serve.refusals import Refusal
from s1kit.serve.tool_styles import TAGS
from s1kit.serve.upstream import Upstream

PATCH = '<tool_call>\n{"name": "patch", "arguments": {"input": "*** Begin"}}\n</tool_call>'


class Calling:
    """A server in front of a model that thinks a word and then makes calls."""

    def __init__(self, url: str, upstream: ScriptedUpstream, tokenizer: FileTokenizer, says: dict[str, str]) -> None:
        self.url, self.upstream, self._tokenizer, self.says = url, upstream, tokenizer, says

    @property
    def shown(self) -> str:
        """The prompt that the model last saw."""
        return self._tokenizer.decode(self.upstream.bodies[-1]["prompt"])

    def ignored(self, path: str, body: dict[str, Any]) -> list[str]:
        """What the reply to a request says was left out."""
        self.says[""] = "Hi."
        reply = post(self.url, body, path).json()
        left_out: list[str] = reply["s1kit"]["ignored"]
        return left_out


@pytest.fixture(scope="module")
def calling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Calling]:
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(folder, (*SPECIALS, "<think>", "</think>"))
    (folder / "chat_template.jinja").write_text("{% if preserve_thinking %}All of it.{% endif %}" + TOOL_TEMPLATE)
    tokenizer = FileTokenizer(folder)
    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
    says = {"": f"Sure. {CALL}\n{CALL}"}

    def model(context: list[int]) -> int:
        end = tokens.end_ids
        if end[0] not in context:
            return int(end[0])
        start = max(i for i, token in enumerate(context) if token == end[0]) + len(end)
        answer = [*tokenizer.encode(says[""]), tokenizer.eos_token_id]
        return int(answer[min(len(context) - start, len(answer) - 1)])

    upstream = ScriptedUpstream(tokenizer, model)

    async def backend(stack: Any) -> Upstream:
        url = await stack.enter_async_context(upstream.running())
        return Upstream(CompletionsServer(url, None, 5), "scripted", tokens, 4096, Capabilities(DIALECTS["vllm"]))

    with serving(backend) as found:
        yield Calling(found.url, upstream, tokenizer, says)


def test_the_reply_ends_with_the_first_call_where_only_one_is_wanted(calling: Calling) -> None:
    both = ask(calling.url, tools=TOOLS).json()
    assert len(both["choices"][0]["message"]["tool_calls"]) == 2
    one = ask(calling.url, tools=TOOLS, parallel_tool_calls=False).json()
    choice = one["choices"][0]
    assert (len(choice["message"]["tool_calls"]), choice["finish_reason"]) == (1, "tool_calls")
    assert choice["message"]["content"] == "Sure. "
    assert one["s1kit"]["ending"] == both["s1kit"]["ending"] == "closed"
    assert one["usage"]["completion_tokens"] < both["usage"]["completion_tokens"]
    streamed = joined(read_events(ask(calling.url, tools=TOOLS, parallel_tool_calls=False, stream=True).text))[0]
    assert (len(streamed["calls"]), streamed["finish"], streamed["answer"]) == (1, "tool_calls", "Sure. ")


CODEX: dict[str, Any] = {
    "model": "scripted",
    "instructions": "You are a coding agent.",
    "input": [
        {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Be brief."}]},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Patch it."}]},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
        {"type": "custom_tool_call", "call_id": "c1", "name": "patch", "input": "*** Old", "status": "completed"},
        {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
    ],
    "tools": [
        {"type": "function", "name": "shell", "description": "run", "strict": False, "parameters": {"type": "object"}},
        {
            "type": "custom",
            "name": "patch",
            "description": "Edit files.",
            "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "*** Begin"'},
        },
        {"type": "web_search", "external_web_access": False},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low", "summary": "auto"},
    "store": False,
    "stream": False,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "k",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "1"},
}


@pytest.mark.parametrize("stream", [False, True])
def test_codex_gets_its_custom_tool_called_and_is_told_what_was_left_out(calling: Calling, stream: bool) -> None:
    calling.says[""] = PATCH
    reply = post(calling.url, CODEX | {"stream": stream}, "/v1/responses")
    assert reply.status_code == 200, reply.text
    if stream:
        events = [json.loads(line[6:]) for line in reply.text.splitlines() if line.startswith("data: ")]
        kinds = [event["type"] for event in events]
        assert "response.custom_tool_call_input.done" in kinds
        assert "response.reasoning_summary_text.done" not in kinds or kinds[-1] == "response.completed"
        found = events[-1]["response"]
    else:
        found = reply.json()
    call = found["output"][-1]
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "patch", "*** Begin")
    assert found["s1kit"]["ignored"] == ["tools.2 (web_search)", "text.verbosity"]
    assert (found["parallel_tool_calls"], found["instructions"]) == (False, "You are a coding agent.")
    assert [tool["type"] for tool in found["tools"]] == ["function", "custom", "web_search"]
    for text in ("coding agent", "Be brief", "lark", "Done"):
        assert text in calling.shown


CLAUDE_CODE: dict[str, Any] = {
    "model": "scripted",
    "max_tokens": 32000,
    "system": [{"type": "text", "text": "You are an agent.", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Add one and two."}]},
        {"role": "system", "content": "A reminder."},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}, "caller": {"type": "direct"}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "1", "is_error": False}]},
    ],
    "tools": [
        {"name": "add", "description": "d", "input_schema": {"type": "object"}, "eager_input_streaming": True},
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 8},
    ],
    "metadata": {"user_id": "u"},
    "thinking": {"type": "adaptive", "display": "summarized"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "low"},
    "temperature": 1,
}


def test_claude_code_gets_its_call_and_is_told_what_was_left_out(calling: Calling) -> None:
    calling.says[""] = CALL
    reply = post(calling.url, CLAUDE_CODE, "/v1/messages?beta=true").json()
    assert (reply["stop_reason"], reply["content"][-1]["input"]) == ("tool_use", {"a": 1, "b": 2}), reply
    assert reply["s1kit"]["ignored"] == ["context_management", "tools.1 (web_search_20250305)"]
    assert reply["s1kit"]["budget"]["max_thinking_tokens"] == 1024
    assert "You are an agent.\nA reminder." in calling.shown
    fields = {"model", "messages", "system", "tools", "thinking", "context_management", "output_config"}
    counted = post(
        calling.url, {k: v for k, v in CLAUDE_CODE.items() if k in fields}, "/v1/messages/count_tokens"
    ).json()
    assert counted["input_tokens"] == reply["usage"]["input_tokens"]


@pytest.mark.parametrize(
    ("fields", "most", "shows"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 7}, "output_config": {"effort": "high"}}, 7, True),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}}, 0, False),
        ({"output_config": {"effort": "minimal"}, "thinking": {"type": "adaptive", "display": "omitted"}}, 128, False),
    ],
)
def test_anthropics_effort_is_a_budget_unless_a_number_is_given(
    calling: Calling, fields: dict[str, Any], most: int, shows: bool
) -> None:
    calling.says[""] = "Hi."
    body = {"max_tokens": 900, "messages": [{"role": "user", "content": "Hi"}], "min_thinking_tokens": min(most, 3)}
    reply = post(calling.url, body | fields, "/v1/messages").json()
    assert reply["s1kit"]["budget"]["max_thinking_tokens"] == most, reply
    assert any(block["type"] == "thinking" for block in reply["content"]) == shows


MARKED = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}}
HISTORY = [
    {"role": "user", "content": "1+2?"},
    {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "provider_specific_fields": {"citations": None},
        "tool_calls": [
            {
                "id": "c",
                "type": "function",
                "function": {"name": "add", "arguments": "{}"},
                "extra_content": {"google": {"thought_signature": "s"}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "3"}]},
]


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": HISTORY, "tools": TOOLS}),
        ("/v1/chat/completions", {"tools": [TOOLS[0] | {"cache_control": {"type": "ephemeral"}}]}),
        ("/v1/chat/completions", {"max_tokens": -1}),
        ("/v1/chat/completions", {"max_tokens": 20.0, "seed": 4.0, "logprobs": False, "top_logprobs": 0}),
        ("/v1/chat/completions", {"echo": False, "add_special_tokens": False, "return_token_ids": False}),
        ("/v1/chat/completions", {"enable_thinking": True, "thinking_budget": 9}),
        ("/v1/chat/completions", {"max_completion_tokens": -1, "cache_prompt": True}),
        ("/v1/chat/completions", {"stream_options": {"include_usage": True, "include_obfuscation": True}}),
        ("/v1/chat/completions", {"prediction": {"type": "content", "content": "x"}, "priority": 0}),
        ("/v1/chat/completions", {"client_metadata": {}, "request_id": "r", "prompt_cache_options": {}}),
        (
            "/v1/chat/completions",
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
                    {"role": "assistant", "refusal": "No."},
                    {"role": "user", "content": "y"},
                ]
            },
        ),
        ("/v1/chat/completions", {"tools": TOOLS, "tool_choice": {"type": "auto"}}),
        ("/v1/chat/completions", {"reasoning_format": "parsed", "reasoning_split": True, "cache_salt": "s"}),
        (
            "/v1/chat/completions",
            {
                "messages": [
                    {"role": "user", "content": "x"},
                    {"role": "assistant", "content": "a", "reasoning_text": "t", "reasoning_opaque": "o", "images": []},
                    {"role": "user", "content": "y"},
                ]
            },
        ),
        ("/v1/chat/completions", {"typical_p": 1, "repeat_penalty": 1.0, "mirostat": 0, "reasoning_format": "auto"}),
        ("/v1/chat/completions", {"stop_token_ids": [], "bad_words": [], "detokenize": True, "vllm_xargs": {}}),
        ("/v1/chat/completions", {"separate_reasoning": True, "no_stop_trim": False, "structured_outputs": None}),
        ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}),
        ("/v1/responses", {"input": "x", "tool_choice": {"type": "auto"}}),
        ("/v1/messages", {"max_tokens": 90, "messages": [{"role": "user", "content": "x"}], "top_k": -1}),
        (
            "/v1/messages",
            {
                "max_tokens": 90,
                "messages": [{"role": "user", "content": "x"}],
                "output_format": {"type": "json_schema", "schema": {"type": "object"}},
            },
        ),
        ("/tokenize", {"prompt": "x", "add_special_tokens": True}),
        ("/tokenize", {"messages": HISTORY, "chat_template_kwargs": {"enable_thinking": False}}),
        ("/v1/responses", {"input": "x", "truncation": "auto", "context_management": [{"type": "compaction"}]}),
        ("/v1/responses", {"input": "x", "reasoning": {"effort": "low", "generate_summary": "auto"}}),
        ("/v1/responses", {"input": "x", "max_output_tokens": -1, "stream_options": {"include_obfuscation": False}}),
        ("/v1/responses", {"input": "x", "tools": [{"type": "mcp", "server_label": "s"}], "max_tool_calls": 3}),
        (
            "/v1/responses",
            {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]}, {"content": "x"}]},
        ),
        ("/v1/messages", {"max_tokens": 90, "messages": [{"role": "user", "content": "x"}], "speed": "fast"}),
        ("/v1/messages", {"max_tokens": 90, "messages": [{"role": "user", "content": "x"}], "mcp_servers": []}),
        ("/tokenize", {"messages": HISTORY, "tools": TOOLS, "return_token_strs": True}),
        ("/tokenize", {"prompt": "x", "add_special_tokens": False}),
        # As pydantic-ai (4fda389) and the AI SDK (ed857f5) have recorded them.
        ("/v1/chat/completions", {"tools": [{"function": TOOLS[0]["function"]}], "tool_choice": "any"}),
        ("/v1/chat/completions", {"tools": [TOOLS[0] | {"eager_input_streaming": True}]}),
        ("/v1/chat/completions", {"reasoning_effort": "default"}),
        ("/v1/chat/completions", {"messages": [{"role": "system", "content": "You are a potato."}]}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": [MARKED]}]}),
        ("/v1/chat/completions", {"thinking": {"budget_tokens": 9}}),
        ("/v1/responses", {"input": [{"role": "user", "content": [MARKED | {"type": "input_text"}]}]}),
        ("/v1/responses", {"input": [{"content": "x"}, {"role": "assistant", "content": "y"}]}),
    ],
)
def test_what_agents_and_gateways_add_is_accepted(calling: Calling, path: str, fields: dict[str, Any]) -> None:
    calling.says[""] = "Hi."
    base = {"messages": [{"role": "user", "content": "x"}]} if path == "/v1/chat/completions" else {}
    reply = post(calling.url, base | fields, path)
    assert reply.status_code == 200, reply.text


SEARCHED = [{"content": "x"}, {"type": "mcp_call", "id": "m", "name": "n", "output": "5"}, {"content": "y"}]
RAN = [{"type": "program", "id": "p", "code": "1"}, {"type": "program_output", "id": "o", "result": "1"}]


@pytest.mark.parametrize(
    ("path", "fields", "left_out"),
    [
        ("/v1/responses", {"input": "x", "moderation": {"model": "m"}, "image": {"detail": "low"}}, "moderation image"),
        ("/v1/responses", {"input": SEARCHED}, "input.1 (mcp_call)"),
        ("/v1/responses", {"input": [{"content": "x"}, *RAN]}, "input.1 (program) input.2 (program_output)"),
        (
            "/v1/responses",
            {"input": "x", "tools": [{"type": "programmatic_tool_calling"}]},
            "tools.0 (programmatic_tool_calling)",
        ),
        ("/v1/chat/completions", {"messages": HISTORY[:1], "web_search_options": {"a": 1}}, "web_search_options"),
        (
            "/v1/chat/completions",
            {"messages": HISTORY[:1], "usage": {"include": True}, "models": ["a"]},
            "models usage",
        ),
        ("/v1/messages", {"messages": HISTORY[:1], "max_tokens": 90, "fallbacks": "default"}, "fallbacks"),
        ("/v1/messages", {"messages": HISTORY[:1], "max_tokens": 90, "mcp_servers": [{"name": "m"}]}, "mcp_servers"),
        ("/v1/responses", {"input": "x", "provider": {"order": ["a"]}}, "provider"),
        ("/v1/chat/completions", {"messages": HISTORY[:1], "search_parameters": {"mode": "on"}}, "search_parameters"),
        (
            "/v1/chat/completions",
            {"messages": HISTORY[:1], "tools": [{"type": "openrouter:web_search", "parameters": {}}]},
            "tools.0 (openrouter:web_search)",
        ),
    ],
)
def test_what_only_the_makers_servers_do_is_left_out_and_said(
    calling: Calling, path: str, fields: dict[str, Any], left_out: str
) -> None:
    assert " ".join(calling.ignored(path, fields)) == left_out


@pytest.mark.parametrize(
    ("path", "field", "value"),
    [
        ("/v1/responses", "prompt", {"id": "pmpt_1"}),
        ("/v1/responses", "background", True),
        ("/v1/responses", "conversation", {"id": "c"}),
        ("/v1/messages", "thread", {"type": "create"}),
    ],
)
def test_what_would_need_a_store_is_refused_by_name(calling: Calling, path: str, field: str, value: Any) -> None:
    fields = {"input": "x"} if path == "/v1/responses" else {"messages": HISTORY[:1], "max_tokens": 90}
    error = post(calling.url, fields | {field: value}, path).json()["error"]
    assert (error["param"], error["code"]) == (field, "unsupported")
    assert "not stored here" in error["message"]


def test_an_update_of_the_configuration_holds_for_the_replies_after_it(calling: Calling) -> None:
    calling.says[""] = '{"a": 1}'
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    updates: list[dict[str, Any]] = [
        {"type": "configuration_update", "reasoning": {"effort": "high"}},
        {"type": "configuration_update", "id": "u", "reasoning": {"effort": "low"}, "text": {"format": schema}},
    ]
    calling.upstream.bodies.clear()
    body = {"input": [*updates, {"content": "x"}], "reasoning": {"effort": "minimal"}}
    reply = post(calling.url, body, "/v1/responses").json()
    assert reply["s1kit"]["budget"]["max_thinking_tokens"] == 1024, reply
    assert calling.upstream.bodies[-1]["response_format"]["json_schema"]["name"] == "n"
    refused = post(calling.url, {"input": [{"type": "configuration_update"}]}, "/v1/responses").json()
    assert "every one has one of them" in refused["error"]["message"]


RESULT = [
    {"role": "user", "content": "x"},
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "add", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}, {"type": "text", "text": "Go on."}]},
]


@pytest.mark.parametrize(
    ("messages", "thinking", "most"),
    [
        (RESULT[:1], {"type": "between_tools"}, 0),
        (RESULT, {"type": "between_tools"}, None),
        (RESULT[:1], {"type": "adaptive", "budget_tokens": 0}, None),
        (RESULT[:1], {"type": "adaptive", "effort": "minimal", "display": "updates"}, 128),
        (RESULT[:1], {"type": "enabled", "budget_tokens": 0}, 0),
    ],
)
def test_the_kinds_of_thinking_that_clients_ask_for(
    calling: Calling, messages: list[dict[str, Any]], thinking: dict[str, Any], most: int | None
) -> None:
    calling.says[""] = "Hi."
    body = {"max_tokens": 900, "messages": messages, "thinking": thinking}
    found = post(calling.url, body, "/v1/messages").json()["s1kit"]["budget"]["max_thinking_tokens"]
    assert found == most if most is not None else found > 128


@pytest.mark.parametrize("name", ["prefix", "partial"])
def test_a_last_message_may_say_of_itself_that_it_begins_the_answer(calling: Calling, name: str) -> None:
    calling.says[""] = "Hi."
    begun = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "It is", name: True}]
    reply = post(calling.url, {"messages": begun})
    assert reply.status_code == 200, reply.text
    assert calling.shown.endswith("It is")
    refused = post(calling.url, {"messages": [*begun, {"role": "user", "content": "y"}]}).json()["error"]
    assert refused["param"] == f"messages.1.{name}"


def test_which_earlier_thinking_is_shown_is_up_to_a_switch_of_the_template(calling: Calling) -> None:
    calling.says[""] = "Hi."
    assert ask(calling.url, chat_template_kwargs={"preserve_thinking": True}).status_code == 200
    assert "All of it." in calling.shown
    kept = {"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"preserve_thinking": True}}
    assert post(calling.url, kept, "/tokenize").json()["count"] > 10 + len("x")
    for path, fields, param in (
        ("/v1/chat/completions", {"messages": HISTORY[:1], "thinking": {"type": "enabled", "clear_thinking": False}},
         "thinking.clear_thinking"),
        ("/v1/completions", {"prompt": "x", "chat_template_kwargs": {"preserve_thinking": True}},
         "chat_template_kwargs.preserve_thinking"),
        ("/v1/chat/completions", {"messages": HISTORY[:1], "clear_thinking": False}, "clear_thinking"),
    ):  # fmt: skip
        refused = post(calling.url, fields, path)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_thinking_in_parts_of_the_content_is_earlier_thinking() -> None:
    """Mistral's clients send it back so."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True}
    message = Message.model_validate({"role": "assistant", "content": [thought, {"type": "text", "text": "4"}]})
    assert (message.thinking, message.text) == ("hm", "4")


def test_a_document_of_another_kind_is_told_the_kinds_that_there_are(calling: Calling) -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AA"}}
    refused = post(calling.url, {"max_tokens": 9, "messages": [{"role": "user", "content": [pdf]}]}, "/v1/messages")
    assert refused.json()["error"]["message"].endswith("is \"base64\": Input should be 'text' or 'content'.")


def test_an_answer_in_a_form_has_no_closing_phrase_before_it(calling: Calling) -> None:
    calling.says[""] = '{"a": 1}'
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}):
        reply = ask(calling.url, response_format=form, thinking_token_budget=0).json()
        assert reply["choices"][0]["message"]["content"] == '{"a": 1}'
    assert ask(calling.url, thinking_token_budget=0).json()["choices"][0]["message"]["content"].startswith("Final")


IMAGE = {"type": "input_image", "image_url": "data:image/png;base64,AA"}


@pytest.mark.parametrize(
    ("path", "fields", "param"),
    [
        # An image that vanished would be answered as if it had not been sent.
        ("/v1/responses", {"input": [{"role": "user", "content": [IMAGE]}]}, "input.0.content.0.type"),
        ("/v1/responses", {"input": [{"type": "item_reference", "id": "rs_1"}]}, "input.0"),
        ("/v1/responses", {"input": "x", "tools": [{"type": "computer"}]}, "tools.0.type"),
        ("/v1/responses", {"input": "x", "tool_choice": "required"}, "tool_choice"),
        (
            "/v1/messages",
            {
                "max_tokens": 9,
                "messages": [{"role": "user", "content": "x"}],
                "tools": [{"type": "bash_20250124", "name": "bash"}],
            },
            "tools.0.type",
        ),
        (
            "/v1/messages",
            {
                "max_tokens": 9,
                "messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "base64"}}]}],
            },
            "messages.0.content.0.type",
        ),
        (
            "/v1/messages",
            {
                "max_tokens": 9,
                "messages": [
                    {"role": "user", "content": [{"type": "document", "source": {"type": "base64", "data": "AA"}}]}
                ],
            },
            "messages.0.content.0.source.type",
        ),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "typical_p": 0.9}, "typical_p"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "mirostat": False}, "mirostat"),
        ("/tokenize", {"prompt": "x", "tools": TOOLS}, None),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5.5}, "max_tokens"),
        (
            "/v1/chat/completions",
            {"messages": [{"role": "user", "content": "x"}], "enable_thinking": False, "thinking_budget": 5},
            "enable_thinking",
        ),
    ],
)
def test_what_would_change_the_answer_is_refused_in_the_clients_names(
    calling: Calling, path: str, fields: dict[str, Any], param: str | None
) -> None:
    reply = post(calling.url, fields, path)
    assert reply.status_code == 400, reply.text
    assert reply.json()["error"]["param"] == param, reply.text


def test_both_makers_clients_can_read_the_list_of_models(calling: Calling) -> None:
    listed = CLIENT.get(calling.url + "/v1/models").json()
    assert (listed["object"], listed["has_more"], listed["first_id"]) == ("list", False, "scripted")
    assert listed["data"][0]["display_name"] == "scripted"
    assert listed["data"][0]["created_at"].startswith("20")


def test_every_example_of_the_served_document_is_accepted(calling: Calling) -> None:
    calling.says[""] = "Hi."
    found = CLIENT.get(calling.url + "/openapi.json").json()
    assert found["components"]["schemas"]["ChatBody"]["properties"]["model"]["enum"] == ["scripted", None]
    bodies = {
        (path, name): example["value"]
        for path, methods in found["paths"].items()
        for name, example in (
            methods.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {}) or {}
        )
        .get("examples", {})
        .items()
    }
    assert len(bodies) > 12
    for (path, name), body in bodies.items():
        reply = post(calling.url, body, path)
        assert reply.status_code == 200, (path, name, reply.text)
        assert '"error": {' not in reply.text.replace('"error":{', '"error": {'), (path, name, reply.text)


@pytest.mark.parametrize(
    ("path", "field", "advice"),
    [
        ("/v1/responses", "messages", "Use input."),
        ("/v1/responses", "max_completion_tokens", "Use max_output_tokens."),
        ("/v1/messages", "stop", "Use stop_sequences."),
        ("/v1/messages", "response_format", "Use output_config."),
        ("/v1/chat/completions", "input", "Use messages."),
    ],
)
def test_a_field_of_another_surface_is_told_by_its_name_on_this_one(
    calling: Calling, path: str, field: str, advice: str
) -> None:
    error = post(calling.url, {field: "x"}, path).json()["error"]
    assert (error["param"], error["code"]) == (field, "unknown_field")
    assert error["message"].endswith(advice)


@pytest.mark.parametrize(
    ("fields", "most"),
    [({"thinking_budget": 5}, 5), ({"reasoning_effort": "low"}, 1024), ({"thinking_budget": 7, "thinking": True}, 7)],
)
def test_a_budget_in_a_chat_templates_words_is_a_budget(calling: Calling, fields: dict[str, Any], most: int) -> None:
    calling.says[""] = "Hi."
    reply = ask(calling.url, chat_template_kwargs=fields).json()
    assert reply["s1kit"]["budget"]["max_thinking_tokens"] == most, reply


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temperature": "0.7"}, 'temperature is "0.7": Input should be a valid number.'),
        ({"n": 0}, "n is 0: Input should be greater than or equal to 1."),
        ({"echo": True}, "echo is true: "),
        ({"frequency_penalty": 0.5}, "frequency_penalty is 0.5: it would act on thinking and answer as on one text"),
        (
            {"chat_template_kwargs": {"enable_thnking": False}},
            "chat_template_kwargs.enable_thnking is not a field of this request. Did you mean enable_thinking?",
        ),
        ({"guided_json": {}}, "guided_json is not a field of this request. All fields are listed at /openapi.json."),
        ({"user": "u" * 2000}, "user: String should have at most"),
    ],
)
def test_an_error_repeats_a_short_value_as_the_client_wrote_it(
    calling: Calling, fields: dict[str, Any], said: str
) -> None:
    assert ask(calling.url, **fields).json()["error"]["message"].startswith(said)


ADD_TAG = {
    "type": "tag",
    "begin": '<tool_call>\n{"name": "add", "arguments": ',
    "content": {"type": "json_schema", "json_schema": {"type": "object"}},
    "end": "}\n</tool_call>",
}


@pytest.mark.parametrize(
    ("fields", "form"),
    [
        ({"tool_choice": "required"}, {"type": "tags_with_separator", "separator": "\n", "stop_after_first": False}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "add"}}},
            {"type": "tags_with_separator", "separator": "\n", "stop_after_first": True},
        ),
        (
            {"tools": [{"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}]},
            {"type": "triggered_tags", "triggers": ["<tool_call>"], "at_least_one": False, "stop_after_first": False},
        ),
    ],
)
def test_vllm_is_asked_to_hold_calls_to_their_form_in_the_answer_only(
    calling: Calling, fields: dict[str, Any], form: dict[str, Any]
) -> None:
    calling.says[""] = CALL
    calling.upstream.bodies.clear()
    reply = ask(calling.url, **({"tools": TOOLS} | fields))
    assert reply.json()["choices"][0]["finish_reason"] == "tool_calls", reply.text
    thinking, answer = calling.upstream.bodies
    assert "response_format" not in thinking
    assert answer["response_format"] == {
        "type": "structural_tag",
        "format": {"at_least_one": True} | form | {"tags": [ADD_TAG]},
    }


def test_vllm_is_told_that_an_answer_beside_tools_is_calls_or_has_its_form(calling: Calling) -> None:
    calling.says[""] = CALL
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    reply = ask(calling.url, tools=TOOLS, response_format=form).json()
    assert reply["choices"][0]["finish_reason"] == "tool_calls"
    tags, answer = calling.upstream.bodies[-1]["response_format"]["format"]["elements"]
    assert (tags["type"], tags["at_least_one"], tags["tags"]) == ("tags_with_separator", True, [ADD_TAG])
    assert answer == {"type": "json_schema", "json_schema": {"type": "object"}}


def test_another_server_is_not_asked_for_what_it_may_not_know() -> None:
    backend = SimpleNamespace(
        model="m", features=DIALECTS["sglang"].features, tokens=SimpleNamespace(tokenizer=None), context_tokens=9
    )
    for fields, param in (
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]}, "tools.function.strict"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ):
        body = ChatBody.model_validate({"messages": [{"role": "user", "content": "x"}], "tools": TOOLS} | fields)
        with pytest.raises(Refusal) as refused:
            held_to(body, backend, TAGS)  # type: ignore[arg-type]
        assert refused.value.param == param
