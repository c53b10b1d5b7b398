"""`s1kit check` and the servers that a recipe names: what cannot be reached is refused, and no key is sent."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from s1kit.cli import main
from s1kit.cli.preflight import check_recipe
from s1kit.errors import InputError
from s1kit.journal import Journal
from s1kit.providers.sync import chat_many
from s1kit.recipe import load_recipe

KEY = "sk-0123456789abcdefghij"


class Door:
    """A TCP server that keeps what it gets, and answers each connection with the same bytes."""

    def __init__(self, reply: bytes = b"") -> None:
        self.got, self._reply = b"", reply
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.num_connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.num_connections += 1
            with closing(connection):
                connection.settimeout(2)
                try:
                    self.got += connection.recv(65536)
                    connection.sendall(self._reply)
                except OSError:
                    pass

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def door() -> Iterator[Door]:
    with closing(Door()) as opened:
        yield opened


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("S1KIT_API_KEY", KEY)


def closed_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        return int(listening.getsockname()[1])


def faults(tmp_path: Path, teacher: str, *overrides: str) -> list[str]:
    """What the check of the stage `distill` finds, connections included."""
    given = [f"out={tmp_path}", f"distill.teacher={teacher}", "train.acknowledge_terms=a test", *overrides]
    return [str(fault) for fault in check_recipe(load_recipe("tiny", given), ["distill"], contact=True)]


def test_a_teacher_that_listens_passes_and_gets_no_key(tmp_path: Path, door: Door) -> None:
    assert faults(tmp_path, f"chat:http://127.0.0.1:{door.port}/v1#m") == []
    assert door.num_connections == 1
    assert KEY.encode() not in door.got


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_closed_port_is_refused_by_the_check(tmp_path: Path, scheme: str) -> None:
    port = closed_port()
    (fault,) = faults(tmp_path, f"chat:{scheme}://127.0.0.1:{port}/v1#m")
    assert f"{scheme}://127.0.0.1:{port} cannot be reached" in fault
    assert "distill.teacher" in fault
    assert "Check the base URL" in fault


def test_a_host_without_an_address_is_refused_by_the_check(tmp_path: Path) -> None:
    (fault,) = faults(tmp_path, "chat:compatible/m", "distill.base_url=https://no-such-host.invalid/v1")
    assert "https://no-such-host.invalid cannot be reached" in fault


def test_a_server_that_takes_no_connection_is_named_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s1kit.providers.contact.SECONDS_FOR_CONTACT", 0.3)
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        where = deaf.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # they fill the queue, so the next gets no answer at all
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(where)
        (fault,) = faults(tmp_path, f"chat:http://127.0.0.1:{where[1]}/v1#m")
        for each in waiting:
            each.close()
    assert "cannot be reached" in fault


def test_one_of_several_servers_is_enough(tmp_path: Path, door: Door) -> None:
    live, dead = f"http://127.0.0.1:{door.port}/v1", f"http://127.0.0.1:{closed_port()}/v1"
    assert faults(tmp_path, "chat:compatible/m", f'distill.base_url=["{dead}", "{live}"]') == []
    (fault,) = faults(tmp_path, "chat:compatible/m", f'distill.base_url=["{dead}", "{dead}"]')
    assert "cannot be reached" in fault


def test_a_certificate_that_nobody_vouches_for_is_refused_by_the_check(tmp_path: Path) -> None:
    import ssl

    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    try:
        subprocess.run(
            [*command, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, check=True, capture_output=True
        )
    except (FileNotFoundError, subprocess.CalledProcessError):
        pytest.skip("needs openssl to make a certificate")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            try:
                connection, _ = listening.accept()
                with closing(connection):
                    context.wrap_socket(connection, server_side=True)
            except OSError:
                pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        (fault,) = faults(tmp_path / "runs", f"chat:https://localhost:{listening.getsockname()[1]}/v1#m")
        thread.join(5)
    assert "certificate" in fault
    assert "SSL_CERT_FILE" in fault


@pytest.mark.parametrize("proxy", ["ftp://user:pa55word@proxy.example:21", "socks5://proxy.example:1080", "http://"])
def test_a_proxy_that_cannot_be_used_is_refused_by_the_check_and_by_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    recipe = load_recipe("tiny", [f"out={tmp_path}", "distill.teacher=chat:https://teacher.example/v1#m"])
    for contact in (True, False):
        found = [str(fault) for fault in check_recipe(recipe, ["distill"], contact=contact)]
        assert len([fault for fault in found if "the proxy" in fault and "HTTPS_PROXY" in fault]) == 1, found
        assert "pa55word" not in "".join(found)


@pytest.mark.parametrize("text", [None, "", "no certificate"])
def test_a_file_of_certificates_that_cannot_be_used_is_refused_by_the_check_and_by_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """OpenSSL passes over it in silence, and then no certificate of any server is trusted."""
    path = tmp_path / "mine.pem"
    if text is not None:
        path.write_text(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    recipe = load_recipe("tiny", [f"out={tmp_path}", "distill.teacher=chat:https://teacher.example/v1#m"])
    found = [str(fault) for fault in check_recipe(recipe, ["distill"])]
    assert any("mine.pem cannot be read" in fault and "SSL_CERT_FILE" in fault for fault in found), found
    with Journal(tmp_path / "journal.sqlite") as journal, pytest.raises(InputError, match=r"mine\.pem cannot be read"):
        chat_many("chat:https://teacher.example/v1#m", [[{"role": "user", "content": "q"}]], journal, price="free")


@pytest.mark.parametrize("key", ["sk-0123 456789", "sk-0123\nsk-4567", "sk-01234567…", "sk-\u201cquoted\u201d"])
def test_a_key_that_can_be_none_is_refused_by_the_check_and_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("S1KIT_API_KEY", key)
    (fault,) = faults(tmp_path, f"chat:http://127.0.0.1:{closed_port()}/v1#m")
    assert "S1KIT_API_KEY" in fault
    assert "Copy the key again" in fault
    assert key[:6] not in fault


def test_a_proxy_that_refuses_is_named_and_sees_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    denied = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with closing(Door(denied)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pa55word@127.0.0.1:{proxy.port}")
        (fault,) = faults(tmp_path, "chat:https://teacher.example/v1#m")
    assert "407" in fault
    assert "pa55word" not in fault
    assert KEY.encode() not in proxy.got


def test_a_key_that_a_proxy_would_see_is_refused_by_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
    (fault,) = faults(tmp_path, "chat:http://teacher.example/v1#m")
    assert "would see the key" in fault


def test_judges_students_and_engines_behind_a_url_are_tried_too(tmp_path: Path, door: Door) -> None:
    dead = f"http://127.0.0.1:{closed_port()}/v1"
    given = [f"out={tmp_path}", f"curate.judge=chat:{dead}#m", f'curate.students=["chat:{dead}#m"]']
    recipe = load_recipe("tiny", [*given, f"evaluate.model=completions:{dead}#m"])
    found = [str(fault) for fault in check_recipe(recipe, ["curate", "evaluate"], contact=True)]
    for setting in ("curate.judge", "curate.students", "evaluate.model"):
        assert any("cannot be reached" in fault and setting in fault for fault in found), found
    assert check_recipe(recipe, ["curate", "evaluate"]) == []


def test_the_command_tries_servers_unless_it_is_told_to_stay_offline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = f"distill.teacher=chat:http://127.0.0.1:{closed_port()}/v1#Qwen/Qwen3-32B"
    given = ["check", "tiny", f"out={tmp_path}", teacher, 'stages=["collect", "distill"]']
    assert main(given) == 2
    assert "cannot be reached" in capsys.readouterr().out
    assert main([*given, "--offline"]) == 0
