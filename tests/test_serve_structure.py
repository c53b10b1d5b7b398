"""Answers held to a form on a local engine: every reply of a model of random weights satisfies its schema."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("torch")
pytest.importorskip("llguidance")

import numpy as np
from fixtures_models import SPECIALS, write_random_checkpoint
from serving import Running, ScriptedServing, joined, post, read_events, serving

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.engines.grammar import Grammars
from s1kit.engines.scripted import Step
from s1kit.errors import InputError
from s1kit.forcing.formats import encode
from s1kit.forcing.request import grammar_of_schema
from s1kit.serve.answer_form import answer_grammar, constrained_calls
from s1kit.serve.chat import ChatBody
from s1kit.serve.local import Local
from s1kit.serve.tool_calls import ToolStyle
from s1kit.serve.tool_detection import find_style
from s1kit.serve.tool_styles import GLM, LLAMA, TAGS

SCHEMA = {
    "type": "object",
    "properties": {
        "ok": {"type": "boolean"},
        "number": {"type": "integer", "minimum": 0, "maximum": 99},
        "unit": {"enum": ["m", "s"]},
        "words": {"type": "array", "items": {"type": "string", "maxLength": 4}, "maxItems": 2},
    },
    "required": ["ok", "number", "unit", "words"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "reading", "schema": SCHEMA, "strict": True}}
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": SCHEMA}} for name in ("first_tool", "second_tool")
]
WRONG_FORMAT = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": 3}}}
TEMPLATE = (
    "{% for t in tools or [] %}{{ t.function.name }} {% endfor %}{% if tools %}<tool_call>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module", params=[(), ("<tool_call>", "</tool_call>")], ids=["marks as text", "marks as tokens"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Random weights, with and without tokens of their own for the marks of a call, as Qwen2.5 has them."""
    folder = write_random_checkpoint(
        tmp_path_factory.mktemp("model"), specials=(*SPECIALS, "<think>", "</think>", *request.param)
    )
    engine = load_engine(f"hf:{folder}")
    engine.tokenizer.chat_template = TEMPLATE
    return engine


@pytest.fixture(scope="module")
def running(model: Any) -> Iterator[Running]:
    async def backend(_: AsyncExitStack) -> Local:
        return Local(model, "random")

    with serving(backend) as found:
        yield found


def ask(running: Running, seed: int = 0, **fields: Any) -> Any:
    body = {
        "messages": [{"role": "user", "content": "How far?"}],
        "temperature": 1.0,
        "seed": seed,
        "thinking_token_budget": 12,
        "max_tokens": 300,
    }
    return post(running.url, body | fields)


def is_reading(value: Any) -> bool:
    return (
        set(value) == set(SCHEMA["required"])
        and type(value["ok"]) is bool
        and 0 <= value["number"] <= 99
        and value["unit"] in ("m", "s")
        and len(value["words"]) <= 2
    )


@pytest.mark.parametrize("seed", range(4))
def test_an_answer_follows_its_schema_and_thinking_stays_free_and_within_its_budget(
    running: Running, seed: int
) -> None:
    reply = ask(running, seed, response_format=FORMAT, min_thinking_tokens=12).json()
    choice = reply["choices"][0]
    assert choice["finish_reason"] == "stop"
    assert is_reading(json.loads(choice["message"]["content"]))
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == 12


def test_a_stream_joins_to_the_same_answer(running: Running) -> None:
    whole = ask(running, 1, response_format=FORMAT).json()["choices"][0]["message"]["content"]
    streamed = joined(read_events(ask(running, 1, response_format=FORMAT, stream=True).text))[0]
    assert streamed["answer"] == whole


def test_any_json_object_is_one(running: Running) -> None:
    reply = ask(running, 3, response_format={"type": "json_object"}, max_tokens=60).json()["choices"][0]
    text = reply["message"]["content"]
    assert text.startswith("{")
    if reply["finish_reason"] == "stop":
        assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize("seed", range(3))
def test_a_required_call_is_made_with_arguments_of_the_schema(running: Running, seed: int) -> None:
    choice = ask(running, seed, tools=TOOLS, tool_choice="required", parallel_tool_calls=False).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"]["name"] in ("first_tool", "second_tool")
    assert is_reading(json.loads(call["function"]["arguments"]))
    assert not choice["message"]["content"]


def test_several_calls_may_be_made_where_one_is_required(running: Running) -> None:
    reply = ask(running, tools=TOOLS, tool_choice="required")
    assert reply.status_code == 200, reply.text
    for call in reply.json()["choices"][0]["message"]["tool_calls"]:
        assert is_reading(json.loads(call["function"]["arguments"]))


LOOSE = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "sizes": {"type": "array", "items": {"type": "integer"}},
        "size": {"type": "integer"},
        "deep": {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "string"}}}},
        "last": {"type": "boolean"},
    },
    "required": ["text", "sizes", "size", "deep", "last"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("begun", "repeated"),
    [
        ('{"text": "', "so "),
        ('{"text": "", "sizes": [1', ",1"),
        ('{"text": "", "sizes": [], "size": 1', "0"),
        ('{"text": "", "sizes": [], "size": 1, "deep": [{"a": "', "x"),
        ('{"text": "", "sizes": [], "size": 1, "deep": [{"a": "x"}', ', {"a": "x"}'),
    ],
)
def test_an_answer_that_goes_in_circles_is_closed_as_its_schema_wants(model: Any, begun: str, repeated: str) -> None:
    matcher = Grammars(model.tokens, model.model.config.vocab_size).matcher(grammar_of_schema(LOOSE))
    written: list[int] = encode(model.tokenizer, begun)
    for token in written:
        matcher.accept(token)
    while not matcher.is_closing:
        for token in encode(model.tokenizer, repeated):
            matcher.accept(token)
            written.append(token)
        assert len(written) < 1200, "it was never noticed"
    for _ in range(400):
        # Whatever the model likes best, the answer comes to its end.
        token = int(np.flatnonzero(matcher.allowed())[-1])
        if token in model.tokens.answer_stop_ids:
            break
        matcher.accept(token)
        written.append(token)
    assert set(json.loads(model.tokenizer.decode(written))) == set(LOOSE["properties"])


def test_a_required_call_may_be_followed_by_a_line_break_and_by_no_more_than_15_others(model: Any) -> None:
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": "x"}], "tools": TOOLS[:1]})
    body = body.model_copy(update={"tool_choice": "required"})
    grammar = answer_grammar(body, constrained_calls(body, find_style(model.tokens)), model.tokenizer)
    matcher = Grammars(model.tokens, model.model.config.vocab_size).matcher(grammar)
    stops = sorted(model.tokens.answer_stop_ids)
    for number in range(1, 17):
        # No two calls alike: those would be closed for going in circles.
        reading = json.dumps({"ok": number % 2 > 0, "number": number * 37 % 100, "unit": "m", "words": [str(number)]})
        call = f'<tool_call>\n{{"name": "first_tool", "arguments": {reading}}}\n</tool_call>'
        for token in encode(model.tokenizer, call):
            matcher.accept(token)
        assert matcher.allowed()[stops].any()
        (line_break,) = encode(model.tokenizer, "\n")
        assert matcher.allowed()[line_break]
        matcher.accept(line_break)
        # A model that has written the line break may end, and after the last call must.
        allowed = matcher.allowed()
        assert allowed[stops].any()
        assert bool(np.delete(allowed, stops).any()) == (number < 16)


def test_beside_a_strict_tool_another_may_be_called_as_the_model_likes(model: Any) -> None:
    tools = [{"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}, TOOLS[1]]
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": "x"}], "tools": tools})
    grammar = answer_grammar(body, constrained_calls(body, find_style(model.tokens)), model.tokenizer)

    def takes(name: str, arguments: dict[str, Any]) -> bool:
        matcher = Grammars(model.tokens, model.model.config.vocab_size).matcher(grammar)
        call = f'Well. <tool_call>\n{{"name": "{name}", "arguments": {json.dumps(arguments)}}}\n</tool_call>'
        for token in encode(model.tokenizer, call):
            if not matcher.allowed()[token]:
                return False
            matcher.accept(token)
        return True

    reading = {"ok": True, "number": 5, "unit": "m", "words": []}
    assert takes("first_tool", reading)
    assert takes("second_tool", reading)
    assert takes("second_tool", {"anything": [1]})
    assert not takes("first_tool", {"anything": [1]})
    assert not takes("third_tool", {})


READING = {"ok": True, "number": 5, "unit": "m", "words": []}


def takes(model: Any, grammar: str, text: str) -> bool:
    """Whether a whole answer follows a grammar."""
    matcher = Grammars(model.tokens, model.model.config.vocab_size).matcher(grammar)
    for token in encode(model.tokenizer, text):
        if not matcher.allowed()[token]:
            return False
        matcher.accept(token)
    return bool(matcher.allowed()[sorted(model.tokens.answer_stop_ids)].any())


@pytest.mark.parametrize("style", [TAGS, GLM, LLAMA], ids=["JSON between marks", "another form", "JSON alone"])
@pytest.mark.parametrize("form", [FORMAT, {"type": "json_object"}], ids=["schema", "object"])
def test_beside_tools_an_answer_is_a_call_or_has_its_form(model: Any, style: ToolStyle, form: dict[str, Any]) -> None:
    """Held to the form alone, a model could call none of the tools that it was shown."""
    body = ChatBody.model_validate(
        {"messages": [{"role": "user", "content": "x"}], "tools": TOOLS, "response_format": form}
    )
    grammar = answer_grammar(body, constrained_calls(body, style), model.tokenizer)
    calls = {
        TAGS: '<tool_call>\n{"name": "first_tool", "arguments": {"a": 1}}\n</tool_call>',
        GLM: "<tool_call>first_tool<arg_key>a</arg_key><arg_value>1</arg_value></tool_call>",
        LLAMA: '{"name": "first_tool", "parameters": {"a": 1}}',
    }
    assert takes(model, grammar, calls[style])
    assert takes(model, grammar, json.dumps(READING))
    assert takes(model, grammar, '{"b": 2}') == (form is not FORMAT)
    assert not takes(model, grammar, "Well. " + json.dumps(READING))


def test_where_a_call_must_be_made_the_form_of_an_answer_has_no_say(running: Running) -> None:
    reply = ask(running, tools=TOOLS[:1], tool_choice="required", response_format=FORMAT, parallel_tool_calls=False)
    (call,) = reply.json()["choices"][0]["message"]["tool_calls"]
    assert is_reading(json.loads(call["function"]["arguments"]))


def test_a_reply_says_that_its_answer_was_closed(running: Running) -> None:
    form = {
        "type": "json_schema",
        "json_schema": {"name": "so", "schema": {"type": "string", "pattern": "^(so){150,}$"}},
    }
    reply = ask(running, response_format=form, max_tokens=900).json()
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert json.loads(reply["choices"][0]["message"]["content"]).startswith("so" * 150)
    assert "repeated itself" in reply["s1kit"]["note"]


def test_a_named_tool_is_the_one_that_is_called(running: Running) -> None:
    named = {"type": "function", "function": {"name": "second_tool"}}
    choice = ask(running, tools=TOOLS, tool_choice=named).json()["choices"][0]
    assert [c["function"]["name"] for c in choice["message"]["tool_calls"]] == ["second_tool"]


def test_a_strict_tool_leaves_the_answer_free_to_be_text(running: Running) -> None:
    strict = [{"type": "function", "function": TOOLS[0]["function"] | {"strict": True}}]
    reply = ask(running, tools=strict)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": WRONG_FORMAT}, "response_format.json_schema.schema"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice.function.name"),
        ({"tools": TOOLS, "response_format": WRONG_FORMAT}, "response_format.json_schema.schema"),
        ({"tool_choice": "required"}, "tool_choice"),
    ],
)  # fmt: skip
def test_a_form_that_cannot_be_is_refused_by_its_field(running: Running, fields: dict[str, Any], param: str) -> None:
    refused = ask(running, **fields)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param), refused.text


def test_an_engine_without_grammars_refuses_by_name() -> None:
    engine = ScriptedServing({"q": [Step("so", "2")]})
    with pytest.raises(InputError, match="cannot hold an answer to a grammar"):
        list(engine.generate([Request("q", answer_grammar='start: "a"')]))


def test_the_engine_holds_an_answer_to_a_grammar_beside_free_neighbours(model: Any) -> None:
    grammar = 'start: "yes" | "no"'
    requests = [
        Request(
            "one", ThinkingBudget(8), temperature=1.0, answer_tokens=20, answer_grammar=grammar, question_id="held"
        ),
        Request("one", ThinkingBudget(8), temperature=1.0, answer_tokens=20, closing_phrase="", question_id="free"),
    ]
    found = {g.question_id: g for g in model.generate(requests)}
    assert found["held"].answer in ("yes", "no")
    (alone,) = model.generate(requests[1:])
    assert found["free"].answer == alone.answer


def test_openais_client_parses_what_it_asked_for(running: Running) -> None:
    openai = pytest.importorskip("openai")
    from pydantic import BaseModel

    class Reading(BaseModel):
        ok: bool
        size: int

    with openai.OpenAI(base_url=running.url + "/v1", api_key="none", max_retries=0) as client:
        reply = client.chat.completions.parse(
            model="random",
            messages=[{"role": "user", "content": "How far?"}],
            response_format=Reading,
            max_tokens=200,
            extra_body={"thinking_token_budget": 8},
        )
    assert isinstance(reply.choices[0].message.parsed, Reading)


def test_anthropics_choice_of_a_tool_is_kept(running: Running) -> None:
    body = {
        "messages": [{"role": "user", "content": "How far?"}],
        "max_tokens": 300,
        "thinking": {"type": "enabled", "budget_tokens": 8},
        "temperature": 1.0,
        "tools": [{"name": "measure", "input_schema": SCHEMA}],
        "tool_choice": {"type": "tool", "name": "measure", "disable_parallel_tool_use": True},
    }
    reply = post(running.url, body, path="/v1/messages").json()
    assert reply["stop_reason"] == "tool_use", reply
    (call,) = [block for block in reply["content"] if block["type"] == "tool_use"]
    assert call["name"] == "measure"
    assert is_reading(call["input"])


def test_a_response_has_the_form_that_its_text_asks_for(running: Running) -> None:
    form = {"type": "json_schema", "name": "reading", "schema": SCHEMA, "strict": True}
    body = {"input": "How far?", "text": {"format": form}, "max_output_tokens": 300, "thinking_token_budget": 8}
    reply = post(running.url, body, path="/v1/responses").json()
    (message,) = [item for item in reply["output"] if item["type"] == "message"]
    assert is_reading(json.loads(message["content"][0]["text"]))


def test_a_response_calls_the_tool_that_it_must(running: Running) -> None:
    tool = {"type": "function", "name": "measure", "parameters": SCHEMA, "strict": True}
    body = {
        "input": "How far?",
        "tools": [tool],
        "tool_choice": {"type": "function", "name": "measure"},
        "parallel_tool_calls": False,
        "max_output_tokens": 300,
        "thinking_token_budget": 8,
    }
    reply = post(running.url, body, path="/v1/responses").json()
    (call,) = [item for item in reply["output"] if item["type"] == "function_call"]
    assert is_reading(json.loads(call["arguments"]))
