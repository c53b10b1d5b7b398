"""The server's parts by themselves: tool calls, the tokenizer, finding out about an upstream, stopping, logs."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("starlette")

from servers.scripted_upstream import ScriptedUpstream
from serving import CLIENT, ask, joined, read_events, serving

from s1kit.completions import DIALECTS, Capabilities, CompletionsServer
from s1kit.errors import InputError, WorkFailed
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer, find_folder
from s1kit.serve.connect import connect
from s1kit.serve.options import Options
from s1kit.serve.tools import GLM, LLAMA, MISTRAL, TAGS, ToolStyle, arguments_of, find_style
from s1kit.serve.upstream import Upstream

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
TOOL_TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools, answer with <tool_call>: {{ tools | tojson }}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
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


@pytest.mark.parametrize(
    ("template", "style"),
    [
        ("{% if tools %}<tool_call>{% endif %}", TAGS),
        ("{% if tools %}<tool_call>{name}<arg_key>{% endif %}", GLM),
        ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", MISTRAL),
        ('{% if tools %}{"name": n, "parameters": p}{% endif %}', LLAMA),
        ("{{ messages }}", None),
        (None, None),
    ],
)
def test_the_style_of_calls_is_read_off_the_template(template: str | None, style: ToolStyle | None) -> None:
    assert find_style(template) is style


def test_arguments_reach_the_template_as_an_object_where_they_are_one() -> None:
    assert arguments_of('{"a": 1}') == {"a": 1}
    assert arguments_of("not json") == "not json"
    assert arguments_of("[1]") == "[1]"


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fixtures_models import SPECIALS, write_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, (*SPECIALS, "<think>", "</think>"))
    return folder


def test_tools_are_shown_to_the_model_and_its_calls_come_back_as_such(tokenizer_folder: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((tokenizer_folder / name).read_bytes())
    (tmp_path / "chat_template.jinja").write_text(TOOL_TEMPLATE)
    tokenizer = FileTokenizer(tmp_path)
    assert find_style(tokenizer.chat_template) is TAGS
    from s1kit.forcing.detection import detect_format

    tokens = TokenFormat(detect_format(tokenizer), tokenizer)
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


def test_the_tokenizer_without_transformers_agrees_with_transformers(shared_data: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_bytes(
        gzip.decompress((shared_data / "tokenizer/tokenizer.json.gz").read_bytes())
    )
    template = (
        "{%- for m in messages %}\n    "
        "{%- if loop.first and m.role != 'system' %}<|im_start|>system\nHi<|im_end|>\n{% endif -%}"
        "\n{{- '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>\\n' }}{%- endfor %}"
        "{%- if tools %}{{ tools | tojson(indent=2) }}{%- endif %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
    )
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "chat_template": template}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    ours, theirs = FileTokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    chats = [
        [{"role": "user", "content": "naïve 😀 ∑ <b> "}],
        [{"role": "system", "content": "s"}, {"role": "user", "content": "x\n"}],
    ]
    for chat in chats:
        for tools in (None, TOOLS):
            text = ours.apply_chat_template(chat, tools=tools)
            assert text == theirs.apply_chat_template(chat, tools=tools, tokenize=False, add_generation_prompt=True)
            assert ours.encode(text) == theirs.encode(text, add_special_tokens=False)
            assert ours.decode(ours.encode(text)) == text
    assert ours.eos_token_id == theirs.eos_token_id


def test_a_template_cannot_reach_into_python(tokenizer_folder: Path) -> None:
    from jinja2.exceptions import SecurityError

    tokenizer = FileTokenizer(tokenizer_folder)
    with pytest.raises(SecurityError):
        tokenizer.apply_chat_template([], chat_template="{{ ''.__class__.__mro__[1].__subclasses__() }}")


def connecting(upstream: ScriptedUpstream, **options: Any) -> Upstream:
    async def main() -> Upstream:
        async with upstream.running() as url:
            found = await connect(Options(upstream=url, **options))
            await found.close()
            return found

    return asyncio.run(main())


def test_an_upstream_is_asked_what_it_is(tokenizer_folder: Path) -> None:
    upstream = ScriptedUpstream(None, lambda _: 0, model="qwen")
    found = connecting(upstream, tokenizer=str(tokenizer_folder))
    assert (found.model, found.capabilities.dialect.name, found.context_tokens) == ("qwen", "vllm", 2048)
    assert found.tokens.format.name == "qwen3"
    other = connecting(upstream, tokenizer=str(tokenizer_folder), name="q", format="s1", upstream_kind="sglang")
    assert (other.model, other.capabilities.dialect.name, other.tokens.format.name) == ("q", "sglang", "s1")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"upstream_model": "other"}, "does not serve 'other'"),
        ({"upstream_kind": "vlm"}, "Did you mean vllm"),
        ({"format": "s2"}, "unknown thinking format"),
        ({"tokenizer": "./nowhere"}, "no tokenizer folder"),
        ({"upstream_key_env": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE is not set"),
    ],
)
def test_what_does_not_fit_an_upstream_is_one_paragraph(
    tokenizer_folder: Path, options: dict[str, Any], said: str
) -> None:
    upstream = ScriptedUpstream(None, lambda _: 0)
    with pytest.raises(InputError, match=said):
        connecting(upstream, **{"tokenizer": str(tokenizer_folder)} | options)


def test_an_unknown_kind_of_upstream_gets_openais_fields_and_one_that_is_not_there_is_said_so(
    tokenizer_folder: Path,
) -> None:
    stranger = ScriptedUpstream(None, lambda _: 0, owned_by="acme")
    assert connecting(stranger, tokenizer=str(tokenizer_folder), format="direct").capabilities.dialect.name == "open"
    with pytest.raises(WorkFailed, match=r"127\.0\.0\.1:9 cannot be reached"):
        asyncio.run(connect(Options(upstream="http://127.0.0.1:9")))
    with pytest.raises(InputError, match="is not a URL"):
        asyncio.run(connect(Options(upstream="localhost:8000")))
    with pytest.raises(InputError, match="no tokenizer folder"):
        find_folder("/nowhere")


@pytest.fixture
def program(tokenizer_folder: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`s1kit serve` as a process, in front of a canned upstream."""
    ids = {"so": [70], "end": FileTokenizer(tokenizer_folder).encode("</think>"), "eos": [258]}
    ids["eos"] = [FileTokenizer(tokenizer_folder).eos_token_id or 0]
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    canned = Path(__file__).parent / "servers" / "canned_upstream.py"
    upstream = subprocess.Popen(
        [sys.executable, canned, "--port", str(ports[0]), "--interval", "0.05", "--ids", json.dumps(ids)]
    )
    wait_for(ports[0])
    command = [
        sys.executable,
        "-c",
        "import sys; from s1kit.cli import main; sys.exit(main())",
        "serve",
        "--log",
        "json",
    ]
    command += ["--upstream", f"http://127.0.0.1:{ports[0]}", "--tokenizer", str(tokenizer_folder), "--grace", "1"]
    environment = os.environ | {"S1KIT_API_KEY": "sesame"}
    server = subprocess.Popen([*command, "--port", str(ports[1])], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        wait_for(ports[1])
        yield server, ports[1]
    finally:
        for process in (server, upstream):
            process.kill()
            process.wait(10)
        assert server.stderr is not None
        server.stderr.close()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"nothing listens on {port}")


def test_the_program_stops_politely_and_its_log_holds_no_prompt_and_no_key(
    program: tuple[subprocess.Popen[str], int],
) -> None:
    server, port = program
    url = f"http://127.0.0.1:{port}"
    key = {"authorization": "Bearer sesame"}
    body = {"messages": [{"role": "user", "content": "my secret"}], "stream": True, "user": "bob", "max_tokens": 300}
    again = [sys.executable, "-c", "import sys; from s1kit.cli import main; sys.exit(main())", "serve"]
    taken = subprocess.run([*again, "--port", str(port)], capture_output=True, text=True, check=False)
    assert (taken.returncode, "cannot listen" in taken.stderr) == (2, True)
    with CLIENT.stream("POST", url + "/v1/chat/completions", json=body, headers=key) as reply:
        lines = reply.iter_lines()
        next(lines)
        server.send_signal(signal.SIGTERM)
        rest = list(lines)
    assert json.loads(rest[-4].removeprefix("data: "))["error"]["code"] == "shutting_down", rest[-5:]
    assert server.wait(10) == 0
    assert server.stderr is not None
    log = server.stderr.read()
    events = [json.loads(line) for line in log.splitlines()]
    (request,) = (e for e in events if e["event"] == "request")
    assert request["status"] == 503
    assert request["thinking_tokens"] > 0
    assert not any(word in log for word in ("secret", "sesame", "bob"))
