"""The server's parts by themselves: the tokenizer, finding out about an upstream, stopping, logs."""

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

pytest.importorskip("starlette")

from servers.scripted_upstream import ScriptedUpstream
from serving import CLIENT

from s1kit.errors import InputError, WorkFailed
from s1kit.forcing.tokenizer import FileTokenizer, find_folder
from s1kit.serve.connect_upstream import connect
from s1kit.serve.options import Options
from s1kit.serve.upstream import Upstream


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from fixtures_models import SPECIALS, write_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, (*SPECIALS, "<think>", "</think>"))
    return folder


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
        for tools in (None, [{"type": "function", "function": {"name": "add"}}]):
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
    tokenizer = FileTokenizer(tokenizer_folder)
    ids = {"so": tokenizer.encode(" so"), "end": tokenizer.encode("</think>"), "eos": [tokenizer.eos_token_id or 0]}
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
    assert server.poll() is None
    taken = subprocess.run([*again, "--port", str(port)], capture_output=True, text=True, check=False, timeout=120)
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
