"""Where a key goes, and where it never goes."""

from __future__ import annotations

import asyncio
import random
import string
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.batch.driver import ask_batch
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.client import open_client
from s1kit.providers.connections import proxy_for
from s1kit.providers.http import Http
from s1kit.providers.keys import Secret
from tests.fixtures_providers import MODELS, url_of
from tests.servers.provider_server import KEY, Fault, ProviderServer
from tests.servers.threaded import in_thread

pytestmark = pytest.mark.usefixtures("keys")


class Listener:
    """A TCP server that notes every byte it gets and answers each connection with one canned reply."""

    def __init__(self, reply: bytes) -> None:
        self.got = b""
        self.num_connections = 0
        self._reply, self._running = reply, ExitStack()
        self.port = 0

    def __enter__(self) -> Listener:
        return self._running.enter_context(in_thread(self._serving()))

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[Listener]:
        server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        await asyncio.sleep(0)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        self.got += await reader.readuntil(b"\r\n\r\n")
        writer.write(self._reply)
        await writer.drain()
        writer.close()


DENIED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Listener]:
    for name in ("HTTP_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Listener(DENIED) as listener:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa55%2Fword@127.0.0.1:{listener.port}")
        yield listener


@pytest.mark.parametrize("provider", list(MODELS))
def test_a_proxy_sees_neither_the_key_nor_a_header_of_it_and_its_password_is_not_shown(
    proxy: Listener, journal: Journal, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S1KIT_API_KEY", KEY)
    client = open_client(MODELS[provider], journal, base_url="https://provider.example/v1", price="free")

    async def ask() -> None:
        async with client:
            await client.chat([{"role": "user", "content": "q"}])

    with pytest.raises(Stopped, match="HTTPS_PROXY") as caught:
        asyncio.run(ask())
    assert proxy.got.startswith(b"CONNECT provider.example:443")
    assert KEY.encode() not in proxy.got
    assert b"api-key" not in proxy.got.lower()
    assert b"bearer" not in proxy.got.lower()
    shown = str(caught.value) + repr(caught.value.__cause__)
    assert "pa55" not in shown


def test_a_key_over_plain_http_is_not_sent_through_a_proxy(
    proxy: Listener, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("S1KIT_API_KEY", KEY)
    client = open_client(MODELS["compatible"], journal, base_url="http://provider.example/v1", price="free")

    async def ask() -> None:
        async with client:
            await client.chat([{"role": "user", "content": "q"}])

    with pytest.raises(InputError, match=r"proxy .* would see the key"):
        asyncio.run(ask())
    assert proxy.num_connections == 0


@pytest.mark.parametrize(
    ("environment", "url", "expected"),
    [
        ({"HTTPS_PROXY": "proxy.example:3128"}, "https://a.example/v1", "http://proxy.example:3128"),
        ({"ALL_PROXY": "http://p:1"}, "https://a.example/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example"}, "https://a.example/v1", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "a.example:8443"}, "https://a.example:8443/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://127.0.0.1:8000/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://localhost:8000/v1", None),
    ],
)
def test_the_proxy_is_the_one_that_the_environment_names(
    proxy: Listener, environment: dict[str, str], url: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HTTPS_PROXY")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(url) == expected


def test_a_proxy_of_an_unknown_kind_is_refused_without_showing_its_password(
    proxy: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:secret@p.example:1080")
    with pytest.raises(InputError, match=r"'p\.example:1080' cannot be used"):
        proxy_for("https://a.example/v1")


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(method: str, status: int) -> None:
    with Listener(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}") as other:
        head = f"HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{other.port}/x\r\nContent-Length: 0\r\n\r\n"
        with Listener(head.encode()) as first:

            async def go() -> None:
                headers = {"x-api-key": KEY, "Authorization": f"Bearer {KEY}"}
                async with Http(f"http://127.0.0.1:{first.port}/v1", headers, Secret(KEY), 10) as http:
                    await http.send(method, "/x", b"", {})

            with pytest.raises(Problem, match="redirects are not followed"):
                asyncio.run(go())
        assert (first.num_connections, other.num_connections) == (1, 0)


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/x", "https://127.0.0.1/x", "https://api.example.evil.example/x"])
def test_a_url_that_a_reply_names_is_opened_only_at_the_pinned_origin(path: str) -> None:
    async def go() -> None:
        async with Http("https://api.example/v1", {}, Secret(KEY), 10) as http:
            await http.get(path)

    with pytest.raises(Problem, match="points to another host"):
        asyncio.run(go())
    assert proxy_for("https://127.0.0.1/x") is None


def test_results_of_a_batch_on_another_host_get_no_key(server: ProviderServer, journal: Journal) -> None:
    with Listener(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as other:
        state = server._anthropic_state
        server._anthropic_state = lambda batch, request: {  # type: ignore[method-assign]
            **state(batch, request),
            "results_url": f"http://127.0.0.1:{other.port}/results",
        }
        client = open_client(MODELS["anthropic"], journal, base_url=url_of(server, "anthropic"), price="free")

        async def go() -> None:
            async with client:
                await ask_batch(client, [client.request([{"role": "user", "content": "q"}])], poll_seconds=0.01)

        with pytest.raises(Exception, match="points to another host"):
            asyncio.run(go())
        assert other.num_connections == 0


LONG = "sk-" + "0123456789abcdefgh/+" * 2


@pytest.mark.parametrize(
    "quoted",
    [LONG, LONG.replace("/", "%2F").replace("+", "%2B"), LONG[:16], LONG[5:30]],
    ids=["whole", "%", "head", "cut"],
)
def test_a_key_that_a_server_quotes_is_starred_out_before_the_text_is_cut(
    server: ProviderServer, journal: Journal, quoted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S1KIT_API_KEY", LONG)
    filler = "x" * (495 - len("request: "))
    server.faults = lambda number, question: Fault(status=400, body=f"{filler} {quoted} is wrong")
    client = open_client(MODELS["compatible"], journal, base_url=server.compatible, price="free")

    async def ask() -> None:
        async with client:
            await client.chat([{"role": "user", "content": "q"}])

    with pytest.raises(Problem) as caught:
        asyncio.run(ask())
    assert not any(LONG[at : at + 8] in str(caught.value) for at in range(len(LONG) - 8))


def test_a_reply_that_echoes_the_key_is_kept_without_it(
    server: ProviderServer, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S1KIT_API_KEY", LONG)
    server.faults = lambda number, question: Fault(change=lambda reply: reply | {"echo": LONG})
    client = open_client(MODELS["compatible"], journal, base_url=server.compatible, price="free")

    async def ask() -> None:
        async with client:
            await client.chat([{"role": "user", "content": "q"}])

    asyncio.run(ask())
    (entry,) = journal.entries()
    assert entry.reply["echo"] == "***"


def test_any_piece_of_a_secret_is_hidden_wherever_it_stands_in_a_long_text() -> None:
    dice = random.Random(0)
    letters = string.ascii_letters + string.digits
    for _ in range(500):
        key = "".join(dice.choices(letters, k=dice.choice([5, 8, 12, 40, 164])))
        secret = Secret(key)
        text = "".join(dice.choices(letters + "  é", k=dice.randrange(0, 3000)))
        assert secret.hide_in(text) == text
        assert secret.hide_in_bytes(text.encode()) == text.encode()
        length = dice.randint(min(8, len(key)), len(key))
        start, at = dice.randint(0, len(key) - length), dice.randint(0, len(text))
        piece = key[start : start + length]
        shown = f"{text[:at]}|{piece}|{text[at:]}"
        hidden = f"{text[:at]}|***|{text[at:]}"
        assert secret.hide_in(shown) == hidden
        assert secret.hide_in_bytes(shown.encode()) == hidden.encode()
