"""Conversations with several turns and tools, and answers held to a schema, over every wire and through the stages."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from collected_runs import collected_run

from s1kit.cli import main
from s1kit.curate.curate import curate
from s1kit.distill.distill import distill
from s1kit.errors import InputError
from s1kit.files import read_rows
from s1kit.pool.sources import read_source
from s1kit.providers.catalog import find_model
from s1kit.providers.chat import ChatRequest, Parameters
from s1kit.providers.wires.replies import read_reply
from s1kit.questions import question_from
from s1kit.questions.conversations import whole_conversation
from s1kit.recipe import Recipe, Source
from s1kit.records import Question, Sample, Trace, arrow_schema, from_arrow, to_arrow
from s1kit.train.export import export_samples
from tests.servers.provider_server import Fault, ProviderServer, question_in

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a town.",
        "parameters": {"type": "object", "properties": {"town": {"type": "string"}, "day": {"type": "string"}}},
        "strict": True,
    },
}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Graz"}'}}
MESSAGES: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Do I need a coat in Graz?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": '{"rain": true}'},
    {"role": "assistant", "content": "Yes, it rains."},
    {"role": "user", "content": "And tomorrow?"},
]
SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
FORMAT = {"type": "json_schema", "json_schema": {"name": "sum", "schema": SCHEMA, "strict": True}}


def body_of(reference: str, messages: Any = MESSAGES, tools: Any = (WEATHER,), **parameters: Any) -> dict[str, Any]:
    model = find_model(reference)
    request = ChatRequest(model.provider, model.name, tuple(messages), Parameters(**parameters), 0, tuple(tools))
    return model.wire.call(request).body


@pytest.mark.parametrize("provider", ["openai/o3", "deepseek/x", "openrouter/a/b", "http://h/v1#m"])
def test_a_conversation_goes_out_unchanged_on_openai_s_wire(provider: str) -> None:
    named = [{**message, "name": "anna"} if message["role"] == "user" else message for message in MESSAGES]
    thought = [{**named[4], "reasoning_content": "It rains."}]
    body = body_of(f"chat:{provider}", [*named[:4], *thought, named[5]])
    assert body["messages"] == [*named[:4], *thought, named[5]]
    assert body["tools"] == [WEATHER]


def test_anthropic_gets_blocks_of_tool_use_and_tool_result() -> None:
    body = body_of("chat:anthropic/claude-opus-5-5")
    assert body["system"] == "Be brief."
    assert body["messages"] == [
        {"role": "user", "content": "Do I need a coat in Graz?"},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"town": "Graz"}}],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": '{"rain": true}'}]},
        {"role": "assistant", "content": "Yes, it rains."},
        {"role": "user", "content": "And tomorrow?"},
    ]
    function = WEATHER["function"]
    assert body["tools"] == [
        {
            "name": "weather",
            "input_schema": function["parameters"],
            "description": "The weather of a town.",
            "strict": True,
        }
    ]


def test_gemini_gets_function_calls_and_responses_by_the_function_s_name() -> None:
    body = body_of("chat:gemini/gemini-2.5-pro")
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [content["role"] for content in body["contents"]] == ["user", "model", "user", "model", "user"]
    assert body["contents"][1]["parts"] == [{"functionCall": {"name": "weather", "args": {"town": "Graz"}}}]
    assert body["contents"][2]["parts"] == [{"functionResponse": {"name": "weather", "response": {"rain": True}}}]
    (declared,) = body["tools"][0]["functionDeclarations"]
    assert declared["parametersJsonSchema"] == WEATHER["function"]["parameters"]  # type: ignore[index]


def test_the_responses_api_gets_items_of_calls_and_their_output() -> None:
    body = body_of("chat:openai-responses/o3")
    assert [item.get("type", item.get("role")) for item in body["input"]] == [
        "system", "user", "function_call", "function_call_output", "assistant", "user",
    ]  # fmt: skip
    call = {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"town": "Graz"}'}
    assert body["input"][2] == call
    assert body["input"][3] == {"type": "function_call_output", "call_id": "c1", "output": '{"rain": true}'}
    assert body["tools"][0]["name"] == "weather"


def test_two_results_in_a_row_are_one_message_where_a_wire_wants_that() -> None:
    calls = [CALL, CALL | {"id": "c2"}]
    results = [{"role": "tool", "tool_call_id": id, "content": "sun"} for id in ("c1", "c2")]
    messages = [MESSAGES[1], {"role": "assistant", "content": "", "tool_calls": calls}, *results]
    body = body_of("chat:anthropic/claude-opus-5-5", messages)
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == ["c1", "c2"]
    contents = body_of("chat:gemini/gemini-2.5-pro", messages)["contents"]
    assert [part["functionResponse"]["response"] for part in contents[2]["parts"]] == [{"result": "sun"}] * 2


@pytest.mark.parametrize("reference", ["chat:anthropic/x", "chat:gemini/x", "chat:openai-responses/x"])
@pytest.mark.parametrize(
    ("message", "named"),
    [
        ({"role": "user", "content": "q", "name": "anna"}, "the field 'name' of a user message"),
        ({"role": "assistant", "content": "a", "reasoning_content": "t"}, "the field 'reasoning_content'"),
        ({"role": "narrator", "content": "a"}, "the role 'narrator'"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, "part of type 'image_url'"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}, "a tool call of type 'custom'"),
    ],
)
def test_what_a_wire_has_no_place_for_is_refused_by_name(reference: str, message: Any, named: str) -> None:
    with pytest.raises(InputError, match=f"has no place for .*{named}"):
        body_of(reference, [{"role": "user", "content": "q"}, message])


def test_tools_are_a_part_of_the_request_s_key_and_their_absence_moves_no_old_key() -> None:
    def key(*tools: dict[str, Any]) -> str:
        return ChatRequest("openai", "o3", (MESSAGES[1],), Parameters(), 0, tools).key

    assert key() != key(WEATHER)
    assert "tools" not in ChatRequest("openai", "o3", (MESSAGES[1],), Parameters()).content


def test_text_in_parts_is_text_everywhere() -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "2 + "}, {"type": "text", "text": "2?"}]}]
    assert body_of("chat:anthropic/x", parts)["messages"][0]["content"] == "2 + 2?"
    assert body_of("chat:gemini/x", parts)["contents"][0]["parts"] == [{"text": "2 + 2?"}]


def test_pictures_count_towards_the_bound_of_a_request() -> None:
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]}]
    assert ChatRequest("openai", "o3", tuple(picture), Parameters()).max_input_tokens > 10_000


CALLS: dict[str, dict[str, Any]] = {
    "openai/o3": {"choices": [{"message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}]},
    "anthropic/x": {
        "content": [{"type": "tool_use", "id": "c1", "name": "weather", "input": {"town": "Graz"}}],
        "stop_reason": "tool_use",
    },
    "gemini/x": {
        "candidates": [
            {
                "content": {"parts": [{"functionCall": {"id": "c1", "name": "weather", "args": {"town": "Graz"}}}]},
                "finishReason": "STOP",
            }
        ]
    },
}


@pytest.mark.parametrize("provider", CALLS)
def test_a_reply_that_calls_a_tool_is_whole_and_carries_the_call(provider: str) -> None:
    reply = read_reply(find_model(f"chat:{provider}").wire, CALLS[provider])
    assert (reply.finish_reason, reply.answer) == ("stop", "")
    assert reply.tool_calls == (CALL,)


# ---- structured output ----------------------------------------------------------------------------------------------


def test_a_schema_goes_into_each_wire_s_own_field() -> None:
    extra = {"response_format": FORMAT, "user": "u"}
    ask = [MESSAGES[1]]
    assert body_of("chat:openai/o3", ask, (), extra=extra)["response_format"] == FORMAT
    responses = body_of("chat:openai-responses/o3", ask, (), extra=extra)
    assert responses["text"] == {"format": {"type": "json_schema", "name": "sum", "schema": SCHEMA, "strict": True}}
    anthropic = body_of("chat:anthropic/x", ask, (), extra=extra, reasoning_effort="low")
    assert anthropic["output_config"] == {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}}
    gemini = body_of("chat:gemini/x", ask, (), extra=extra)
    assert gemini["generationConfig"]["responseJsonSchema"] == SCHEMA
    assert gemini["generationConfig"]["responseMimeType"] == "application/json"
    for body in (responses, anthropic, gemini):
        assert "response_format" not in body
        assert body["user"] == "u"


def test_a_format_that_a_wire_lacks_or_that_is_none_is_refused() -> None:
    ask = [MESSAGES[1]]
    with pytest.raises(InputError, match="Anthropic has no response_format of type 'json_object'"):
        body_of("chat:anthropic/x", ask, (), extra={"response_format": {"type": "json_object"}})
    for wrong in ({"type": "json_schema"}, {"type": "xml"}, "json"):
        with pytest.raises(InputError, match="response_format is"):
            body_of("chat:gemini/x", ask, (), extra={"response_format": wrong})
    form = body_of("chat:gemini/x", ask, (), extra={"response_format": {"type": "json_object"}})["generationConfig"]
    assert form["responseMimeType"] == "application/json"
    assert "responseJsonSchema" not in form


# ---- from a file to the export --------------------------------------------------------------------------------------


def recipe_of(tmp_path: Path, server: ProviderServer) -> Recipe:
    distilled = {"teacher": f"chat:{server.compatible}#DeepSeek-R1"}
    return Recipe.model_validate(
        {
            "name": "r",
            "out": str(tmp_path),
            "distill": distilled,
            "curate": {"selection": "full", "quality": ["reply"]},
            "train": {"base": "hf:none"},
        }
    )


def test_a_conversation_with_tools_reaches_the_teacher_and_the_export_as_it_was(
    server: ProviderServer, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []
    server.refuses = lambda body: seen.append(body)
    row = {"messages": [*MESSAGES, {"role": "assistant", "content": "<think>hm</think>No."}], "tools": [WEATHER], "topic": "rain"}  # fmt: skip # noqa: E501
    (tmp_path / "asked.jsonl").write_text(json.dumps(row) + "\n")
    source = Source(path=str(tmp_path / "asked.jsonl"), conversation=True)
    shapes: Counter[str] = Counter()
    (question,) = read_source(source, 0, shapes=shapes)
    assert list(shapes) == ["asked.jsonl: a conversation taken whole (messages)"]
    assert list(question.messages) == MESSAGES
    assert question.tools == (WEATHER,)
    assert (question.solution, question.metadata["topic"]) == ("No.", "rain")
    assert "User: And tomorrow?" in question.text
    run = collected_run(tmp_path / "r", [question])
    recipe = recipe_of(tmp_path, server)
    (trace,) = distill(recipe, run).rows("traces", Trace)
    assert seen[0]["messages"] == MESSAGES
    assert seen[0]["tools"] == [WEATHER]
    assert list(seen[0]["tools"][0]["function"]["parameters"]["properties"]) == ["town", "day"], "in the order given"
    (sample,) = curate(recipe, run).rows("samples", Sample)
    assert sample.trace.question == question.model_copy(update={"domain": sample.trace.question.domain})
    folder = run.folder / "curate"
    assert main(["export", str(folder), "--to", str(tmp_path / "out.jsonl"), "--format", "axolotl"]) == 0
    exported = json.loads((tmp_path / "out.jsonl").read_text())
    assert exported["messages"][:-1] == MESSAGES
    assert exported["messages"][-1]["content"].endswith(trace.answer)
    assert exported["tools"] == [WEATHER]
    with pytest.raises(InputError, match="LLaMA-Factory"):
        export_samples(folder, tmp_path / "l.json", "llama-factory")


def test_a_teacher_s_call_of_a_tool_is_kept_in_the_row(server: ProviderServer, tmp_path: Path) -> None:
    def calls(reply: dict[str, Any]) -> dict[str, Any]:
        message = {"role": "assistant", "content": None, "reasoning_content": "I must look.", "tool_calls": [CALL]}
        return reply | {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}

    server.faults = lambda number, question: Fault(change=calls, whole=True)
    question = Question(text="q", messages=tuple(MESSAGES), tools=(WEATHER,))
    run = collected_run(tmp_path / "r", [question])
    (trace,) = distill(recipe_of(tmp_path, server), run).rows("traces", Trace)
    assert (trace.finish_reason, trace.thinking, trace.tool_calls) == ("stop", "I must look.", (CALL,))


def test_rows_of_our_own_files_keep_their_conversation_when_they_are_read_as_questions(tmp_path: Path) -> None:
    question = Question(text="t", messages=tuple(MESSAGES), tools=(WEATHER,), licence="x")
    assert from_arrow(Question, to_arrow(question)) == question
    assert question_from(to_arrow(question)).messages == question.messages
    assert question_from({"question": question.model_dump(), "teacher": "x"}).tools == (WEATHER,)
    plain = question_from(to_arrow(Question(text="p")))
    assert (plain.messages, plain.tools, "messages" in plain.metadata) == ((), (), False)


def test_a_file_of_an_older_version_has_no_conversations(tmp_path: Path) -> None:
    import pyarrow as pa

    schema = pa.schema([field for field in arrow_schema(Question) if field.name not in ("messages", "tools")])
    table = pa.Table.from_pylist([to_arrow(Question(text="q"))], schema=schema)
    pq.write_table(table, tmp_path / "questions-00000.parquet")
    assert list(read_rows([tmp_path / "questions-00000.parquet"], Question)) == [Question(text="q")]


@pytest.mark.parametrize(
    ("row", "messages", "solution"),
    [
        ({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}, [], "a"),
        (
            {
                "conversations": [
                    {"from": "human", "value": "q"},
                    {"from": "gpt", "value": "a"},
                    {"from": "human", "value": "r"},
                ]
            },
            [("user", "q"), ("assistant", "a"), ("user", "r")],
            None,
        ),
        (
            {"messages": '[{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]'},
            [("system", "s"), ("user", "q")],
            None,
        ),
    ],
)
def test_shapes_of_conversations(row: dict[str, Any], messages: list[tuple[str, str]], solution: str | None) -> None:
    question = question_from(whole_conversation(row))
    assert [(m["role"], m["content"]) for m in question.messages] == messages
    assert question.solution == solution
    if not messages:
        assert question.text == "q", "one message of a user is a plain question"


def test_columns_of_tables_that_are_empty_and_arguments_that_are_objects_are_in_openai_s_form() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Graz"}}}
    rows = [
        {"role": "user", "content": "q", "tool_calls": None, "tool_call_id": None},
        {"role": "assistant", "content": None, "tool_calls": [call], "tool_call_id": None},
        {"role": "tool", "content": "sun", "tool_calls": None, "tool_call_id": "c1"},
    ]
    tool = WEATHER["function"]
    question = question_from(whole_conversation({"messages": rows, "tools": json.dumps([tool])}))
    assert question.messages[0] == {"role": "user", "content": "q"}
    assert question.messages[1]["tool_calls"] == [CALL]
    assert question.tools == (WEATHER,)


@pytest.mark.parametrize(
    "row",
    [
        {
            "conversations": [
                {"from": "human", "value": "q"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"town": "Graz"}}'},
                {"from": "observation", "value": "sun"},
                {"from": "gpt", "value": "a"},
            ],
            "system": "s",
        },
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "value": "s"}]},
                {"role": "user", "content": [{"type": "text", "value": "q"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "hm"},
                        {"type": "tool_call", "value": '{"name": "weather", "arguments": {"town": "Graz"}}'},
                    ],
                },
                {"role": "tool", "content": [{"type": "text", "value": "sun"}]},
                {"role": "assistant", "content": [{"type": "text", "value": "a"}]},
            ]
        },
    ],
    ids=["roles", "parts"],
)
def test_calls_of_tools_in_llama_factory_s_forms_are_in_openai_s(row: dict[str, Any]) -> None:
    question = question_from(whole_conversation(row | {"tools": json.dumps([WEATHER["function"]])}))
    assert [m["role"] for m in question.messages] == ["system", "user", "assistant", "tool"]
    assert question.messages[2]["tool_calls"] == [CALL | {"id": "call_1"}]
    assert question.messages[3]["tool_call_id"] == "call_1", "calls and results are joined by ids"
    assert (question.messages[1]["content"], question.solution, question.tools) == ("q", "a", (WEATHER,))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "value": "a.jpg"}]}]},
            "needs the picture",
        ),
        ({"question": "q"}, "no column holds a conversation"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "asks nothing"),
        ({"messages": [{"role": "user", "content": "q"}, {"role": "narrator", "content": "n"}]}, "role 'narrator'"),
        ({"messages": [{"role": "user", "content": None}]}, "has no content"),
        ({"messages": [{"role": "user", "content": "q"}], "tools": "nope"}, "which is no list"),
    ],
)
def test_a_row_without_a_conversation_is_refused(row: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        whole_conversation(row)


def test_the_server_that_stands_in_reads_a_conversation() -> None:
    assert question_in({"messages": MESSAGES}) == "And tomorrow?"
