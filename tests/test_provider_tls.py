"""TLS, proxies and addresses as they are: real certificates, a proxy that tunnels, on loopback."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from s1kit.journal import Journal
from s1kit.providers.chat import Reply, Stopped
from s1kit.providers.client import open_client
from tests.servers.provider_server import KEY, answer_of, chat_completion
from tests.servers.threaded import in_thread

QUESTION = "What is 2 + 2?"

pytestmark = pytest.mark.usefixtures("keys")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of teacher.example, with its key."""
    folder = tmp_path_factory.mktemp("certificate")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=teacher.example"]
    command += ["-addext", "subjectAltName=DNS:teacher.example,DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs openssl to make a certificate")
    return folder


class TlsTeacher:
    """A teacher behind TLS, and a proxy in front of it that opens tunnels and notes what it can read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.heads: list[bytes] = []
        self.proxy_heads: list[bytes] = []
        self.tunnelled = bytearray()
        self.port = self.proxy_port = 0
        self._running = ExitStack()

    def __enter__(self) -> TlsTeacher:
        return self._running.enter_context(in_thread(self._serving()))

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[TlsTeacher]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._folder / "cert.pem", self._folder / "key.pem")
        servers = [
            await asyncio.start_server(self._answer, "127.0.0.1", 0, ssl=context),
            await asyncio.start_server(self._tunnel, "127.0.0.1", 0),
        ]
        self.port, self.proxy_port = (server.sockets[0].getsockname()[1] for server in servers)
        yield self
        for server in servers:
            server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET"):  # whether there is a queue to watch
            writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            return
        self.heads.append(head)
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if b"content-length" in line)
        body = json.loads(await reader.readexactly(length))
        reply = json.dumps(chat_completion(body, "vllm")).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n")
        writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(reply), reply))
        await writer.drain()
        writer.close()

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy_heads.append(await reader.readuntil(b"\r\n\r\n"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                self.tunnelled += data
                target.write(data)
            target.close()

        await asyncio.gather(pass_on(reader, far_writer), pass_on(far_reader, writer), return_exceptions=True)


@pytest.fixture
def teacher(certificate: Path) -> Iterator[TlsTeacher]:
    with TlsTeacher(certificate) as running:
        yield running


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    async with asyncio.timeout(seconds):
        yield


def ask(journal: Journal, base_url: str) -> Reply:
    async def run() -> Reply:
        async with open_client("chat:compatible/m", journal, base_url=base_url, price="free") as client, within(5):
            return await client.chat([{"role": "user", "content": QUESTION}])

    return asyncio.run(run())


def test_a_certificate_nobody_vouches_for_is_named_and_the_key_is_not_sent(
    teacher: TlsTeacher, journal: Journal
) -> None:
    with pytest.raises(Stopped, match=r"certificate.*SSL_CERT_FILE"):
        ask(journal, f"https://localhost:{teacher.port}/v1")
    assert teacher.heads == []


def test_a_certificate_of_one_s_own_is_taken_from_ssl_cert_file(
    teacher: TlsTeacher, certificate: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    assert ask(journal, f"https://localhost:{teacher.port}/v1").answer == answer_of(QUESTION)


def test_a_proxy_that_tunnels_sees_no_key_and_the_teacher_does(
    teacher: TlsTeacher, certificate: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa55word@127.0.0.1:{teacher.proxy_port}")
    monkeypatch.setenv("S1KIT_API_KEY", KEY)
    assert ask(journal, "https://teacher.example/v1").answer == answer_of(QUESTION)
    assert teacher.proxy_heads
    for head in teacher.proxy_heads:
        assert head.startswith(b"CONNECT teacher.example:443")
    for seen in (*teacher.proxy_heads, bytes(teacher.tunnelled)):
        assert KEY.encode() not in seen
        assert b"x-api-key" not in seen.lower()
    assert b"Authorization: Bearer " + KEY.encode() in teacher.heads[0]
    assert b"pa55word" not in teacher.heads[0]


def test_a_name_on_the_certificate_that_is_not_the_address_s_is_named(
    teacher: TlsTeacher, certificate: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    with pytest.raises(Stopped, match="certificate"):
        ask(journal, f"https://127.0.0.1:{teacher.port}/v1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1", "https://127.0.0.1:9/v1"])
def test_what_cannot_be_reached_is_named_within_five_seconds_at_the_real_pace(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 60.0)  # the tests' own pace is quicker
    with pytest.raises(Stopped, match="cannot be reached"):
        ask(journal, url)
