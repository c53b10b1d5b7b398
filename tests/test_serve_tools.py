"""Tool calls: how each family's template teaches them, how they are read from a stream, and what the model sees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette")

from fixtures_models import SPECIALS, write_tokenizer
from servers.scripted_upstream import ScriptedUpstream
from serving import CLIENT, ask, joined, read_events, serving
from test_format_families import Characters

from s1kit.completions.capabilities import DIALECTS, Capabilities
from s1kit.completions.client import CompletionsServer
from s1kit.forcing.detection import detect_format
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.serve.tool_calls import ToolStyle, arguments_of
from s1kit.serve.tool_detection import find_style
from s1kit.serve.tool_styles import FUNCTIONS, GLM, HARMONY, LLAMA, MISTRAL, STYLES, TAGS
from s1kit.serve.upstream import Upstream

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools, answer with <tool_call>: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
    # As the templates that go through the arguments one by one, which a text has none of.
    "{% set _ = call.function.arguments.items() %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}]


@given(cuts=st.lists(st.integers(0, 120), max_size=8))
def test_tool_calls_are_read_wherever_the_stream_is_cut(cuts: list[int]) -> None:
    whole = f"Let me <b>see</b>. {CALL} and {CALL}"
    reader, text, calls = TAGS.reader(), "", []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(whole)], strict=True):
        piece, found = reader.feed(whole[start:end])
        text, calls = text + piece, calls + found
    piece, found = reader.finish()
    assert text + piece == "Let me <b>see</b>.  and "
    assert [json.loads(c["function"]["arguments"]) for c in calls + found] == [{"a": 1, "b": 2}] * 2
    assert len({c["id"] for c in calls}) == 2


@pytest.mark.parametrize(
    "text", ["<tool_call>{broken}</tool_call>", "<tool_call>[1]</tool_call>", "<tool_call>{", "a <tool"]
)
def test_what_is_no_tool_call_stays_text(text: str) -> None:
    reader = TAGS.reader()
    piece, calls = reader.feed(text)
    rest, more = reader.finish()
    assert piece + rest == text
    assert calls + more == []


def style_of(mark: str) -> ToolStyle:
    return next(style for style in STYLES if style.open == mark)


ONE: list[tuple[str, dict[str, Any]]] = [("add", {"a": 1})]
TWO: list[tuple[str, dict[str, Any]]] = [("add", {"a": 1}), ("sub", {})]
FAMILIES: list[tuple[str, ToolStyle, str, list[tuple[str, dict[str, Any]]], str]] = [
    ("hermes", TAGS, CALL, [("add", {"a": 1, "b": 2})], ""),
    (
        "a call that quotes its own end",
        TAGS,
        'so <tool_call>{"name": "write", "arguments": {"text": "a </tool_call> b \\" c"}}</tool_call>.',
        [("write", {"text": 'a </tool_call> b " c'})],
        "so .",
    ),
    (
        "qwen3-coder",
        TAGS,
        "<tool_call>\n<function=run>\n<parameter=code>\nprint(1)\nprint(2)\n</parameter>\n<parameter=times>\n3\n"
        "</parameter>\n</function>\n</tool_call>",
        [("run", {"code": "print(1)\nprint(2)", "times": 3})],
        "",
    ),
    (
        "glm-4.5",
        GLM,
        "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n"
        "<arg_value>2</arg_value>\n</tool_call>",
        [("weather", {"city": "Oslo", "days": 2})],
        "",
    ),
    ("calls on lines of their own", TAGS, f"{CALL}\n{CALL}\n\n", [("add", {"a": 1, "b": 2})] * 2, ""),
    ("text after a call", TAGS, f"{CALL}\n\nDone.", [("add", {"a": 1, "b": 2})], "\n\nDone."),
    ("glm-4.5, no arguments", GLM, "<tool_call>now\n</tool_call>", [("now", {})], ""),
    ("a word between the tags", TAGS, "<tool_call>hello</tool_call>", [], "<tool_call>hello</tool_call>"),
    (
        "mistral",
        MISTRAL,
        'Well. [TOOL_CALLS][{"name": "add", "arguments": {"a": 1}}, {"name": "add", "arguments": {"a": 2}}]',
        [("add", {"a": 1}), ("add", {"a": 2})],
        "Well. ",
    ),
    (
        "mistral, newer",
        MISTRAL,
        '[TOOL_CALLS]add[ARGS]{"a": 1}[TOOL_CALLS]sub[CALL_ID]abc[ARGS]{"b": 2}',
        [("add", {"a": 1}), ("sub", {"b": 2})],
        "",
    ),
    (
        "apertus",
        style_of("<|tools_prefix|>"),
        '<|tools_prefix|>[{"add": {"a": 1}}, {"sub": {}}]<|tools_suffix|>',
        TWO,
        "",
    ),
    ("nemotron", style_of("<TOOLCALL>"), '<TOOLCALL>[{"name": "add", "arguments": {"a": 1}}]</TOOLCALL>', ONE, ""),
    (
        "minimax-m1",
        style_of("<tool_calls>"),
        'Hm <tool_calls>\n{"name": "add", "arguments": {"a": 1}}\n{"name": "sub", "arguments": {}}\n</tool_calls>',
        TWO,
        "Hm ",
    ),
    (
        "minimax-m2",
        style_of("<minimax:tool_call>"),
        '<minimax:tool_call>\n<invoke name="add">\n<parameter name="a">1</parameter>\n</invoke>\n'
        '<invoke name="sub">\n</invoke>\n</minimax:tool_call>',
        TWO,
        "",
    ),
    (
        "deepseek-v4",
        style_of("<｜DSML｜tool_calls>"),
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="add">\n<｜DSML｜parameter name="a" string="true">1'
        "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
        [("add", {"a": "1"})],
        "",
    ),
    (
        "deepseek-r1",
        style_of("<｜tool▁calls▁begin｜>"),
        '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n{"a": 1}\n```'
        "<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>sub<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
        TWO,
        "",
    ),
    (
        "kimi-k2",
        style_of("<|tool_calls_section_begin|>"),
        "So<|tool_calls_section_begin|><|tool_call_begin|>functions.add:0<|tool_call_argument_begin|>"
        '{"a": 1}<|tool_call_end|><|tool_calls_section_end|>',
        ONE,
        "So",
    ),
    ("lfm", style_of("<|tool_call_start|>"), "<|tool_call_start|>[add(a=1), sub()]<|tool_call_end|>", TWO, ""),
    (
        "lfm, code",
        style_of("<|tool_call_start|>"),
        "<|tool_call_start|>[add(a=open('x'))]<|tool_call_end|>",
        [],
        "<|tool_call_start|>[add(a=open('x'))]<|tool_call_end|>",
    ),
    (
        "gemma4",
        style_of("<|tool_call>"),
        '<|tool_call>call:add{a:1,b:<|"|>x: "y", {z}<|"|>,c:{d:[true,<|"|>e<|"|>]}}<tool_call|>',
        [("add", {"a": 1, "b": 'x: "y", {z}', "c": {"d": [True, "e"]}})],
        "",
    ),
    (
        "hunyuan 3",
        style_of("<tool_calls:opensource>"),
        "<tool_calls:opensource>\n<tool_call:opensource>add<tool_sep:opensource>\n<arg_key:opensource>a</arg_key:opensource>"
        "\n<arg_value:opensource>1</arg_value:opensource>\n</tool_call:opensource>\n</tool_calls:opensource>",
        ONE,
        "",
    ),
    (
        "gpt-oss",
        HARMONY,
        '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>',
        ONE,
        "",
    ),
    (
        "gpt-oss, a preamble and two calls, the recipient in the role",
        HARMONY,
        "<|channel|>commentary<|message|>Let me see.<|end|><|start|>assistant to=functions.add<|channel|>commentary "
        'json<|message|>{"a": 1}<|call|><|start|>assistant<|channel|>commentary to=functions.sub<|message|>{}',
        TWO,
        "Let me see.",
    ),
    ("gpt-oss, an answer", HARMONY, "<|channel|>final<|message|>It is < 3.<|return|>", [], "It is < 3."),
    ("gpt-oss, no headers", HARMONY, "assist me", [], "assist me"),
    ("gpt-oss, cut in a header", HARMONY, "<|channel|>comm", [], "<|channel|>comm"),
    (
        "gpt-oss, no JSON",
        HARMONY,
        "<|channel|>commentary to=functions.add<|message|>{a}<|call|>",
        [],
        "<|channel|>commentary to=functions.add<|message|>{a}",
    ),
    ("llama", LLAMA, '{"name": "add", "parameters": {"a": 1}}', [("add", {"a": 1})], ""),
    ("llama, tagged", LLAMA, '<|python_tag|>{"name": "add", "parameters": {"a": 1}}', [("add", {"a": 1})], ""),
    (
        "llama, text",
        LLAMA,
        'It is 3. {"name": "add", "parameters": {}}',
        [],
        'It is 3. {"name": "add", "parameters": {}}',
    ),
    ("llama, other JSON", LLAMA, '{"sum": 3}', [], '{"sum": 3}'),
    (
        "unclosed string",
        TAGS,
        '<tool_call>{"name": "a</tool_call> and so on',
        [],
        '<tool_call>{"name": "a</tool_call> and so on',
    ),
    ("deep", TAGS, f"<tool_call>{'[' * 100_000}</tool_call>", [], f"<tool_call>{'[' * 100_000}</tool_call>"),
    ("deep arguments", TAGS, '<tool_call>{"a":' * 9_000, [], '<tool_call>{"a":' * 9_000),
]


@pytest.mark.parametrize(("style", "text", "calls", "content"), [f[1:] for f in FAMILIES], ids=[f[0] for f in FAMILIES])
@pytest.mark.parametrize("size", [1, 7, 10**6])
def test_calls_are_read_in_the_form_of_every_family(
    style: ToolStyle, text: str, calls: list[tuple[str, dict[str, Any]]], content: str, size: int
) -> None:
    if size < 10 and len(text) > 10_000:
        pytest.skip("long texts are read whole only")
    reader, found, shown = style.reader(), [], ""
    for at in range(0, len(text), size):
        piece, new = reader.feed(text[at : at + size])
        shown, found = shown + piece, found + new
    piece, new = reader.finish()
    assert [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in found + new] == calls
    assert shown + piece == content


SHOWN = "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<U>{{ m.content }}"
"""A template that shows tools, up to how it writes a call."""
FIRST = "{% set call = m.tool_calls[0].function %}"


def written(call: str, shown: str = SHOWN) -> str:
    """A template that writes calls in such a form."""
    return f"{shown}{{% if m.tool_calls %}}{FIRST}{call}<E>{{% endif %}}{{% endfor %}}"


JSON_CALL = '{"name": "{{ call.name }}", "KEY": {{ call.arguments | tojson }}}'
PAIRS = "{% for k, v in call.arguments.items() %}"
GEMMA_CALL = (
    PAIRS + "{{ k }}:{{ v if v is number else '<|\"|>' ~ v ~ '<|\"|>' }}{{ '' if loop.last else ',' }}{% endfor %}"
)
HERMES = "<tool_call>" + JSON_CALL.replace("KEY", "arguments") + "</tool_call>"
AS_TEXT = """{{ '{"name": "' + call.name + '", "arguments": ' + call.arguments + '}' }}"""


@pytest.mark.parametrize(
    ("template", "style"),
    [
        (written(HERMES), TAGS),
        # Words of another family in the text of a template mean nothing.
        (
            written(
                "<tool_call>" + JSON_CALL.replace("KEY", "arguments") + "</tool_call>", SHOWN + "{# [TOOL_CALLS] #}"
            ),
            TAGS,
        ),
        (
            written(
                f"<tool_call><function={{{{ call.name }}}}>{PAIRS}<parameter={{{{ k }}}}>\n{{{{ v }}}}\n</parameter>"
                "{% endfor %}</function></tool_call>"
            ),
            FUNCTIONS,
        ),
        (
            written(
                f"<tool_call>{{{{ call.name }}}}{PAIRS}<arg_key>{{{{ k }}}}</arg_key><arg_value>{{{{ v }}}}</arg_value>"
                "{% endfor %}</tool_call>"
            ),
            GLM,
        ),
        (written("[TOOL_CALLS]{{ call.name }}[ARGS]{{ call.arguments | tojson }}"), MISTRAL),
        (written(JSON_CALL.replace("KEY", "parameters")) + "{% if add_generation_prompt %}<U>{% endif %}", LLAMA),
        (
            written("{{ '<|tool_call>call:' ~ call.name ~ '{' }}" + GEMMA_CALL + "{{ '}<tool_call|>' }}"),
            style_of("<|tool_call>"),
        ),
        # Arguments as text only, and calls that are not written at all.
        (written(f"<tool_call>{AS_TEXT}</tool_call>"), TAGS),
        (SHOWN + "{% endfor %}Use <tool_call>.", TAGS),
        (written("CALL {{ call.name }}"), None),
        ("{% for m in messages %}{{ m.content }}{% endfor %}<tool_call>{{ tools | length }}", None),
        ("{{ raise_exception('no tools') if tools }}", None),
    ],
)
def test_the_style_of_calls_is_read_off_what_the_template_writes(template: str, style: ToolStyle | None) -> None:
    tokens = TokenFormat(FORMATS["qwen3"], Characters(template, ["<think>", "</think>"], "<E>"))
    assert find_style(tokens) is style


def test_arguments_reach_the_template_as_an_object_where_they_are_one() -> None:
    assert arguments_of('{"a": 1}') == {"a": 1}
    assert arguments_of("not json") == {"invalid_arguments": "not json"}
    assert arguments_of("[1]") == {"invalid_arguments": "[1]"}


def test_tools_are_shown_to_the_model_and_its_calls_come_back_as_such(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, (*SPECIALS, "<think>", "</think>"))
    (tmp_path / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    tokenizer = FileTokenizer(tmp_path)
    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
    assert find_style(tokens) is TAGS
    answer = [*tokenizer.encode("Sure. " + CALL), tokenizer.eos_token_id]
    end = tokens.end_ids

    def model(context: list[int]) -> int:
        if tokens.end_ids[0] not in context:
            return end[0]
        start = max(i for i, token in enumerate(context) if token == end[0]) + len(end)
        return int(answer[len(context) - start])

    upstream = ScriptedUpstream(tokenizer, model)

    async def backend(stack: Any) -> Upstream:
        url = await stack.enter_async_context(upstream.running())
        return Upstream(CompletionsServer(url, None, 5), "scripted", tokens, 2048, Capabilities(DIALECTS["vllm"]))

    with serving(backend) as found:
        message = ask(found.url, "1+2?", tools=TOOLS).json()["choices"][0]
        assert message["finish_reason"] == "tool_calls"
        assert message["message"]["content"] == "Sure. "
        (call,) = message["message"]["tool_calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("add", {"a": 1, "b": 2})
        shown = tokenizer.decode(upstream.bodies[0]["prompt"])
        assert '"name": "add"' in shown
        streamed = joined(read_events(ask(found.url, "1+2?", tools=TOOLS, stream=True).text))[0]
        assert (streamed["answer"], streamed["finish"]) == ("Sure. ", "tool_calls")
        assert streamed["calls"][0]["index"] == 0
        silent = ask(found.url, "1+2?", tools=TOOLS, tool_choice="none").json()["choices"][0]
        assert silent["message"]["content"] == "Sure. " + CALL
        result = {"role": "tool", "tool_call_id": call["id"], "content": "3"}
        turn = {"role": "assistant", "content": None, "tool_calls": [call]}
        body = {"messages": [{"role": "user", "content": "1+2?"}, turn, result], "tools": TOOLS}
        assert CLIENT.post(found.url + "/v1/chat/completions", json=body).status_code == 200


GPT_OSS = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}{% if m.tool_calls %}"
    "{% if m.thinking %}<|start|>assistant<|channel|>analysis<|message|>{{ m.thinking }}<|end|>{% endif %}"
    "<|start|>assistant to=functions.{{ m.tool_calls[0].function.name }}<|channel|>commentary json<|message|>"
    "{{ m.tool_calls[0].function.arguments | tojson }}<|call|>"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{# {{ message.thinking }} #}{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
MARKS = ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|return|>", "<|call|>")


@pytest.mark.parametrize("stated", [{}, {"thinking_token_budget": 3}, {"thinking_token_budget": 0}])
def test_gpt_oss_chooses_between_an_answer_and_a_call_after_its_thinking(
    tmp_path: Path, stated: dict[str, int]
) -> None:
    write_tokenizer(tmp_path, (*SPECIALS, *MARKS))
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings |= {"eos_token": "<|return|>", "chat_template": GPT_OSS}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    tokenizer = FileTokenizer(tmp_path)
    tokens = TokenFormat(FORMATS["gpt-oss"], tokenizer)
    assert find_style(tokens) is HARMONY
    calling = '<|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>'
    answering = "<|channel|>final<|message|>It is 3.<|return|>"

    def model(context: list[int]) -> int:
        text = tokenizer.decode(context)
        thinking, ended, rest = text.rpartition("<|channel|>analysis<|message|>")[2].partition("<|end|>")
        if not ended:
            return int(tokenizer.encode("I will add." + "<|end|>")[len(tokenizer.encode(thinking))])
        if not rest.startswith("<|start|>assistant"):
            return int(tokenizer.encode("<|start|>")[0])
        said = tokenizer.encode(rest.removeprefix("<|start|>assistant"))
        reply = tokenizer.encode(answering if "<|start|>tool" in text else calling)
        return int(reply[len(said)])

    upstream = ScriptedUpstream(tokenizer, model)

    async def backend(stack: Any) -> Upstream:
        url = await stack.enter_async_context(upstream.running())
        capabilities = Capabilities(DIALECTS["vllm"])
        return Upstream(CompletionsServer(url, None, 5), "scripted", tokens, 2048, capabilities)

    with serving(backend) as found:
        reply = ask(found.url, "1+2?", tools=TOOLS, **stated).json()
        message = reply["choices"][0]["message"]
        assert reply["choices"][0]["finish_reason"] == "tool_calls", reply
        assert message["content"] is None
        (call,) = message["tool_calls"]
        assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("add", {"a": 1})
        if stated:
            thinking_tokens = reply["usage"]["completion_tokens_details"]["reasoning_tokens"]
            assert thinking_tokens == stated["thinking_token_budget"]
        events = read_events(ask(found.url, "1+2?", tools=TOOLS, stream=True, **stated).text)
        streamed = joined(events)[0]
        assert (streamed["answer"], streamed["finish"], len(streamed["calls"])) == ("", "tool_calls", 1)
        turn = {"role": "assistant", "content": None, "tool_calls": [call], "reasoning": "I will add."}
        result = {"role": "tool", "tool_call_id": call["id"], "content": "3"}
        body = {"messages": [{"role": "user", "content": "1+2?"}, turn, result], "tools": TOOLS} | stated
        said = CLIENT.post(found.url + "/v1/chat/completions", json=body).json()["choices"][0]
        assert (said["message"]["content"], said["finish_reason"]) == ("It is 3.", "stop")
        shown = tokenizer.decode(upstream.bodies[-1]["prompt"])
        assert "<|channel|>analysis<|message|>I will add.<|end|><|start|>assistant to=functions.add" in shown
        assert ask(found.url, "1+2?", max_tokens=40, **stated).status_code == 200
        # Without tools the end of thinking says that an answer follows.
        assert "<|end|><|start|>assistant<|channel|>final<|message|>" in tokenizer.decode(upstream.bodies[-1]["prompt"])


def test_an_answer_that_began_as_text_stays_text_whatever_follows() -> None:
    reader = LLAMA.reader()
    assert reader.feed("Here is an example: ") == ("Here is an example: ", [])
    example = '{"name": "add", "parameters": {"a": 1}}'
    assert reader.feed(example) == (example, [])
    assert reader.finish() == ("", [])
