"""What an operator sets: keys, origins, hosts, prefixes, TLS, time limits, traces, aliases; and how it drains."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

pytest.importorskip("starlette")

from serving import CLIENT, Running, ScriptedServing, ask, post, serving

from s1kit.completions.roster import file_state
from s1kit.engines.scripted import Step
from s1kit.errors import InputError
from s1kit.serve import logs
from s1kit.serve.app import make_app
from s1kit.serve.authentication import KeyFile, check_caller, named, read_keys
from s1kit.serve.connections import listening_at, shown
from s1kit.serve.http import while_connected
from s1kit.serve.local import Local
from s1kit.serve.options import Options
from s1kit.serve.refusals import Refusal
from s1kit.serve.server import _limits, _PoliteServer, _serve, run
from s1kit.serve.state import Limits

SCRIPT = {"1+1?": [Step("one and one is two .", "2")], "long": [Step(" ".join(f"w{i}" for i in range(400)), "done")]}
REQUEST = {"messages": [{"role": "user", "content": "1+1?"}]}


@contextmanager
def scripted(limits: Limits | None = None, seconds_a_step: float = 0.0, **more: Any) -> Iterator[Running]:
    async def backend(_: AsyncExitStack) -> Local:
        return Local(ScriptedServing(SCRIPT, seconds_a_step=seconds_a_step), "scripted")

    with serving(backend, limits, **more) as running:
        yield running


def test_the_log_names_the_key_and_never_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("s1kit.serve").propagate = True
    with scripted(api_keys={"alice": "sk-one", "bob": "sk-two"}) as running, caplog.at_level(logging.INFO):
        good = CLIENT.post(
            running.url + "/v1/chat/completions", json=REQUEST, headers={"authorization": "Bearer sk-two"}
        )
        bad = CLIENT.post(running.url + "/v1/chat/completions", json=REQUEST, headers={"authorization": "Bearer sk-tw"})
    assert (good.status_code, bad.status_code) == (200, 401)
    fields = [record.fields for record in caplog.records if record.getMessage() == "request"]  # type: ignore[attr-defined]
    assert [f.get("key") for f in fields] == ["bob", None]
    assert "sk-" not in str(fields)


def test_a_file_of_keys_is_read_and_its_faults_are_told_without_the_key(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# team\nalice: sk-one\n\nbob:sk-two:with-colon\n")
    assert read_keys(file) == {"alice": "sk-one", "bob": "sk-two:with-colon"}
    for text in (
        "alice sk-secret",
        "alice:",
        ":sk-secret",
        "a:sk-secret\na:other",
        "a:sk-secret\nb:sk-secret",
        "# no\n",
    ):
        file.write_text(text)
        with pytest.raises(InputError) as caught:
            read_keys(file)
        assert "sk-secret" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_keys(tmp_path / "none")
    assert named(["a", "b"]) == {"key-1": "a", "key-2": "b"}


@pytest.mark.parametrize(("given", "kept"), [("trace-42", True), ("a b", False), ("x" * 200, False), ('a"b', False)])
def test_the_callers_request_id_is_kept_where_it_is_safe(given: str, kept: bool) -> None:
    with scripted() as running:
        headers = {"x-request-id": given.encode("latin-1")}
        reply = CLIENT.post(running.url + "/v1/chat/completions", json=REQUEST, headers=headers)
    assert (reply.headers["x-request-id"] == given) is kept
    assert reply.json()["id"].startswith("chatcmpl-")


def test_only_the_named_origins_may_call_from_a_web_page() -> None:
    with scripted(Limits(allowed_origins=("https://app.example",))) as running:
        asked = {
            "access-control-request-method": "POST",
            "access-control-request-headers": "content-type,authorization",
        }
        url = running.url + "/v1/chat/completions"
        allowed = CLIENT.options(url, headers={"origin": "https://app.example", **asked})
        other = CLIENT.options(url, headers={"origin": "https://evil.example", **asked})
        reply = CLIENT.post(url, json=REQUEST, headers={"origin": "https://app.example"})
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in other.headers
    assert reply.headers["access-control-allow-origin"] == "https://app.example"
    assert reply.headers["access-control-expose-headers"] == "x-request-id, retry-after"


def test_a_page_of_an_allowed_origin_may_call_a_server_on_the_users_own_machine() -> None:
    asked = {"access-control-request-method": "POST", "access-control-request-private-network": "true"}
    with scripted(Limits(allowed_origins=("https://app.example",))) as running:
        reply = CLIENT.options(running.url + "/v1/responses", headers={"origin": "https://app.example", **asked})
    assert reply.headers["access-control-allow-private-network"] == "true"


def test_a_key_is_taken_from_either_header_and_may_be_of_any_letters() -> None:
    with scripted(api_keys={"ann": "sk-ann", "b": "ключ"}) as running:

        def status(**headers: str) -> int:
            given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
            return CLIENT.get(running.url + "/v1/models", headers=given).status_code

        # A client with a token for one server and a key for another sends both.
        assert status(authorization="Bearer of-another-server", x_api_key="sk-ann") == 200
        assert status(authorization="Bearer sk-ann", x_api_key="of-another-server") == 200
        assert status(authorization="Bearer ключ") == 200
        assert status(authorization="Basic sk-ann") == 401
        assert status(authorization="Bearer a", x_api_key="b") == 401


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("s1kit.serve").propagate = True
    file = tmp_path / "keys"
    file.write_text("ann:sk-ann\n")
    keys = KeyFile(file, {"key-1": "sk-more"})
    assert dict(keys) == {"ann": "sk-ann", "key-1": "sk-more"}
    with scripted(api_keys=keys) as running:

        def status(key: str) -> int:
            return CLIENT.get(running.url + "/v1/models", headers={"x-api-key": key}).status_code

        file.write_text("bea:sk-bea of two\n")
        assert (status("sk-ann"), status("sk-bea of two"), status("sk-more")) == (401, 200, 200)
        for spoil in (lambda: file.write_text("sk-secret\n"), file.unlink):
            caplog.clear()
            spoil()
            assert status("sk-bea of two") == status("sk-more") == 200
            assert [record.getMessage() for record in caplog.records].count("the keys stay as they were") == 1
    assert "sk-secret" not in caplog.text


def test_headers_that_would_be_misread_are_refused_and_a_slash_at_the_end_is_none() -> None:
    with scripted() as running:
        packed = {"content-encoding": "gzip", "content-type": "application/json"}
        for path in ("/v1/chat/completions", "/v1/messages/count_tokens"):
            reply = CLIENT.post(running.url + path, content=gzip.compress(b"{}"), headers=packed)
            assert reply.status_code == 415
            assert "content-encoding is gzip" in reply.json()["error"]["message"]
        # Nothing is redirected: the scheme that it would name is not that of a proxy in front.
        assert post(running.url, REQUEST, "/v1/chat/completions/").status_code == 200
        assert CLIENT.get(running.url + "/health/").status_code == 404


def test_two_names_of_the_server_are_refused() -> None:
    scope = {"headers": [(b"host", b"127.0.0.1"), (b"host", b"evil.example")]}
    with pytest.raises(Refusal) as caught:
        check_caller(scope, {}, ("127.0.0.1", "evil.example"), needs_key=False)
    assert caught.value.status == 400


def test_work_that_is_cancelled_before_it_begins_is_never_made() -> None:
    made: list[int] = []

    async def main() -> None:
        async def work() -> None:
            made.append(1)

        task = asyncio.ensure_future(while_connected(work, asyncio.Event().wait))  # type: ignore[arg-type]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert not made


def test_what_uvicorn_and_asyncio_say_are_lines_of_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    loggers = [logging.getLogger(name) for name in ("s1kit", "s1kit.serve", "uvicorn", "asyncio")]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    try:
        logs.set_up("json")
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).warning("odd")
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert [line["event"] for line in lines] == ["odd", "odd"]
    finally:
        for logger, handlers, propagate, level in before:
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)


@pytest.mark.parametrize(
    "options",
    [
        {"allow_origin": ["app.example"]},
        {"allow_origin": ["https://app.example/"]},
        {"allow_host": ["https://dial.example"]},
        {"allow_host": ["dial.example:443"]},
        {"api_key": ["sk\nx"]},
        {"api_key": ["sk-x "]},
        {"alias": [""]},
        {"name": " "},
        {"root_path": "dial"},
        {"grace": float("inf")},
        {"request_timeout": float("nan")},
    ],
)
def test_what_no_request_could_match_is_refused_at_the_start(options: dict[str, Any]) -> None:
    with pytest.raises(InputError) as caught:
        run(Options(**options))
    assert "sk" not in str(caught.value)


def test_without_an_origin_no_web_page_may_call() -> None:
    with scripted() as running:
        reply = CLIENT.post(running.url + "/v1/chat/completions", json=REQUEST, headers={"origin": "https://a.example"})
    assert "access-control-allow-origin" not in reply.headers


def test_a_host_name_that_was_allowed_is_answered() -> None:
    with scripted(Limits(allowed_hosts=("dial.example",))) as running:
        good = CLIENT.get(running.url + "/health", headers={"host": "Dial.example:443"})
        bad = CLIENT.get(running.url + "/health", headers={"host": "evil.example"})
    assert good.status_code == 200
    assert bad.status_code == 403
    assert "--allow-host evil.example" in bad.json()["error"]["message"]


def test_an_alias_is_the_model_by_another_name() -> None:
    with scripted(aliases=("gpt-4o",)) as running:
        assert ask(running.url, model="gpt-4o").status_code == 200
        assert [m["id"] for m in CLIENT.get(running.url + "/v1/models").json()["data"]] == ["scripted", "gpt-4o"]
        assert CLIENT.get(running.url + "/v1/models/gpt-4o").json()["id"] == "gpt-4o"
        refused = ask(running.url, model="gpt-5")
        assert refused.status_code == 404
        assert "scripted, gpt-4o" in refused.json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_beyond_its_time_limit_ends_with_504(stream: bool) -> None:
    with scripted(Limits(request_seconds=0.3), seconds_a_step=0.01) as running:
        reply = ask(running.url, "long", stream=stream)
        running.wait_until(lambda: not running.state.streams)
        assert ask(running.url).status_code == 200
    if stream:
        assert '"code": "deadline_exceeded"' in reply.text
    else:
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")


def test_a_client_may_ask_for_less_time_and_never_for_more() -> None:
    def asked(limits: Limits, seconds: str) -> int:
        with scripted(limits, seconds_a_step=0.01) as running:
            body = {"messages": [{"role": "user", "content": "long"}]}
            headers = {"x-request-timeout": seconds}
            return CLIENT.post(running.url + "/v1/chat/completions", json=body, headers=headers).status_code

    assert asked(Limits(), "0.2") == 504
    assert asked(Limits(request_seconds=0.2), "60") == 504
    assert asked(Limits(), "soon") == 200


def test_one_span_a_request_continues_the_callers_trace_and_holds_no_text() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from s1kit.serve.tracing import OpenTelemetry

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    with scripted(tracer=OpenTelemetry(provider)) as running:
        CLIENT.post(running.url + "/v1/chat/completions", json=REQUEST, headers={"traceparent": parent})
        post(running.url, {"messages": []})
        running.wait_until(lambda: len(exporter.get_finished_spans()) == 2)
    good, refused = exporter.get_finished_spans()
    assert f"{good.context.trace_id:032x}" == parent.split("-")[1]
    assert good.attributes is not None
    assert good.attributes["s1kit.thinking_tokens"] == 6
    assert refused.attributes is not None
    assert refused.attributes["http.response.status_code"] == 400
    assert "1+1" not in good.to_json()


def test_tls_files_that_cannot_be_used_are_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate")
    with pytest.raises(InputError, match="Give both"):
        run(Options(tls_cert=str(tmp_path / "cert.pem")))
    with pytest.raises(InputError, match="cannot be used"):
        run(Options(tls_cert=str(tmp_path / "cert.pem"), tls_key=str(tmp_path / "cert.pem")))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    cert, key = folder / "cert.pem", folder / "key.pem"
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-keyout", str(key), "-out", str(cert)],
        capture_output=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip("openssl is not here")
    return cert, key


def test_a_real_server_speaks_tls_behind_a_prefix_and_drains_visibly(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"long": [{"thinking": " ".join(f"w{i}" for i in range(300)), "answer": "done"}]}))
    command = [sys.executable, "-m", "s1kit", "serve", "--model", f"scripted:{script}", "--port", "0", "--log", "json",
               "--tls-cert", str(cert), "--tls-key", str(key), "--root-path", "/dial", "--grace", "20"]  # fmt: skip
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ | {"S1KIT_API_KEY": "sk-1"})
    assert server.stderr is not None
    try:
        assert json.loads(server.stderr.readline())["event"] == "loading"
        started = json.loads(server.stderr.readline())
        url = started["url"].rstrip("/")
        assert url.startswith("https://")
        page = CLIENT.get(url + "/")
        assert page.status_code == 200
        assert 'src="page/page.js"' in page.text, "the page works behind a prefix that a proxy takes off"
        assert CLIENT.get(url + "/page/page.js").status_code == 200
        body = {"messages": [{"role": "user", "content": "long"}], "stream": True}
        headers = {"authorization": "Bearer sk-1"}
        with (
            httpx.Client(verify=False, trust_env=False, timeout=20) as client,
            client.stream("POST", url + "/v1/chat/completions", json=body, headers=headers) as stream,
        ):
            lines = stream.iter_lines()
            next(lines)
            server.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            text = "\n".join(lines)
        assert text.rstrip().endswith("data: [DONE]")
        assert server.wait(20) == 0
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


def test_a_server_at_a_unix_socket_reads_its_keys_and_certificate_again_when_it_is_told_to(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    place, names, script = tmp_path / "s.sock", tmp_path / "keys", tmp_path / "script.json"
    script.write_text(json.dumps({"q": [{"thinking": "a", "answer": "b"}]}))
    names.write_text("ann:sk-ann\n")
    options = Options(
        model=f"scripted:{script}", uds=str(place), api_keys_file=str(names), tls_cert=str(cert), tls_key=str(key)
    )
    keys = KeyFile(names)

    async def seen(client: httpx.AsyncClient) -> tuple[int, bytes]:
        """What a caller with Ann's key gets, and the certificate that it is shown."""
        url, headers = "https://any.example/v1/models", {"x-api-key": "sk-ann", "connection": "close"}
        async with client.stream("GET", url, headers=headers) as reply:
            return reply.status_code, reply.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(True)

    async def main(listener: socket.socket) -> None:
        served = asyncio.ensure_future(_serve(options, _limits(options), {}, keys, listener))
        found: list[tuple[int, bytes]] = []
        transport = httpx.AsyncHTTPTransport(uds=str(place), verify=False)
        async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
            found.append(await seen(client))
            make_certificate(tmp_path)
            names.write_text("ann:sk-bea\n")
            keys._stamp = file_state(names)  # As on a disk that does not tell of the change.
            found.append(await seen(client))
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)
            found.append(await seen(client))
            cert.write_text("no certificate")
            os.kill(os.getpid(), signal.SIGHUP)
            await asyncio.sleep(0.05)
            found.append(await seen(client))
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(served, 10)
        assert [status for status, _ in found] == [200, 200, 401, 401]
        assert [shown == found[0][1] for _, shown in found] == [True, True, False, False]
        assert found[2] == found[3]

    gc.unfreeze()
    try:
        with listening_at(place) as listener:
            assert shown(listener, is_tls=True) == f"unix:{place}"
            asyncio.run(main(listener))
    finally:
        gc.unfreeze()
    assert not place.exists()


def test_a_unix_socket_takes_the_place_of_one_that_nobody_listens_at_and_of_nothing_else(tmp_path: Path) -> None:
    place = tmp_path / "s.sock"
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(place))
    left.close()
    with listening_at(place), pytest.raises(InputError, match="cannot listen at"), listening_at(place):
        pass
    place.write_text("a file")
    for path in (place, tmp_path / "none" / "s.sock", tmp_path / ("s" * 200)):
        with pytest.raises(InputError, match="cannot listen at") as caught, listening_at(path):
            pass
        assert caught.value.where == "--uds"
    assert place.read_text() == "a file"
    with pytest.raises(InputError, match="at one"):
        run(Options(uds=str(place), port=9000))


def test_health_tells_how_much_is_left_while_it_drains() -> None:
    with scripted(seconds_a_step=0.005) as running, httpx.Client(trust_env=False, timeout=20) as client:
        body = {"messages": [{"role": "user", "content": "long"}], "stream": True}
        with client.stream("POST", running.url + "/v1/chat/completions", json=body) as stream:
            lines = stream.iter_lines()
            next(lines)
            running.loop.call_soon_threadsafe(running.state.drain)
            running.wait_until(lambda: running.state.is_draining)
            health = CLIENT.get(running.url + "/health")
            assert list(lines)[-2] == "data: [DONE]"
    assert health.status_code == 503
    assert health.json() == {"status": "shutting down", "running": 1, "waiting": 0}


def test_an_answer_is_continued_from_its_beginning_without_thinking() -> None:
    with scripted() as running:
        begun = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "The sum is"}]
        shown = post(running.url, {"messages": begun, "continue_final_message": True, "add_generation_prompt": False})
        assert shown.status_code == 200, shown.text
        assert shown.json()["choices"][0]["message"]["reasoning"] is None
        assert shown.json()["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
        prefilled = post(running.url, {"messages": begun, "max_tokens": 20}, path="/v1/messages")
        assert prefilled.status_code == 200, prefilled.text


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({}, "messages.1.role"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"continue_final_message": True, "thinking_token_budget": 5}, "thinking_token_budget"),
        ({"continue_final_message": True, "messages": REQUEST["messages"]}, "continue_final_message"),
    ],
)
def test_a_beginning_that_is_none_is_refused_by_its_field(change: dict[str, Any], param: str) -> None:
    begun = [{"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "The sum is"}]
    with scripted() as running:
        refused = post(running.url, {"messages": begun, **change})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)


def test_a_server_that_was_told_to_stop_listens_until_its_streams_are_done() -> None:
    async def body() -> None:
        state = make_app(Local(ScriptedServing(SCRIPT), "scripted")).state.server
        server = _PoliteServer(uvicorn.Config(lambda: None), state, grace=5)
        stream = asyncio.ensure_future(asyncio.sleep(60))
        state.streams.add(stream)
        server.handle_exit(signal.SIGTERM, None)
        await asyncio.sleep(0.2)
        assert state.is_draining
        assert not server.should_exit, "its health can still be asked for"
        state.streams.discard(stream)
        stream.cancel()
        async with asyncio.timeout(5):
            while not server.should_exit:
                await asyncio.sleep(0.01)
        await state.backend.close()

    asyncio.run(body())


def test_what_is_loaded_before_serving_is_exempt_from_garbage_collection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A full collection of PyTorch's objects takes a third of a second and more, in which nobody is answered.
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"q": [{"thinking": "a", "answer": "b"}]}))
    numbers: list[int] = []

    async def serve(self: uvicorn.Server, **_: object) -> None:
        numbers.append(gc.get_freeze_count())

    monkeypatch.setattr(uvicorn.Server, "serve", serve)
    gc.unfreeze()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            asyncio.run(_serve(Options(model=f"scripted:{script}"), Limits(), {}, {}, listener))
    finally:
        gc.unfreeze()
    assert numbers[0] > 10_000
