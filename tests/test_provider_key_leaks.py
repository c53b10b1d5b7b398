"""Ways out for a key that no request takes: echoes in other spellings, logs, errors, reprs, other processes."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from s1kit.cli import main
from s1kit.distill.distill import distill
from s1kit.journal import Journal
from s1kit.providers.chat import Problem, Stopped
from s1kit.providers.client import Client, open_client
from s1kit.providers.keys import Secret, SecretHeaders
from s1kit.recipe import Recipe
from s1kit.records import Question
from s1kit.stage import open_run
from tests.fixtures_providers import MODELS
from tests.servers.provider_server import Fault, ProviderServer

KEY = "sk-proj-Zk3/q9+Rt7vWx2LmN8pQ4sD6"

pytestmark = pytest.mark.usefixtures("keys")


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S1KIT_API_KEY", KEY)


def client_of(server: ProviderServer, journal: Journal) -> Client:
    return open_client(MODELS["compatible"], journal, base_url=server.compatible, price="free")


def ask(client: Client) -> Any:
    async def run() -> Any:
        async with client:
            return await client.chat([{"role": "user", "content": "q"}])

    return asyncio.run(run())


def is_in(text: str) -> bool:
    return any(KEY[at : at + 8] in text for at in range(len(KEY) - 7))


ECHOES: dict[str, Callable[[str], str]] = {
    "as it is": lambda key: key,
    "percent-encoded": lambda key: key.replace("/", "%2F").replace("+", "%2B"),
    "percent-encoded whole": lambda key: "".join(f"%{ord(c):02X}" for c in key),
    "percent-encoded in small letters": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 with a user": lambda key: base64.b64encode(f"me:{key}".encode()).decode(),
    "base64 with another user": lambda key: base64.b64encode(f"user:{key}\n".encode()).decode(),
    "base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
    "cut": lambda key: key[:14] + "...",
}


@pytest.mark.parametrize("spelling", ECHOES)
def test_a_key_is_hidden_however_it_is_spelled(spelling: str) -> None:
    text = ECHOES[spelling](KEY)
    shown = Secret(KEY).hide_in(f"you sent {text} to us")
    assert "***" in shown
    assert not [text[at : at + 9] for at in range(len(text) - 8) if text[at : at + 9] in shown]


def test_letters_that_json_escapes_are_hidden_and_other_escapes_stay() -> None:
    secret = Secret(KEY)
    escaped = "".join(f"\\u{ord(c):04x}" for c in KEY)
    body = f'{{"a": "{escaped}", "b": "\\u00e9 \\\\u0041 \\"", "c": "{KEY.replace("/", chr(92) + "/")}"}}'.encode()
    hidden = json.loads(secret.hide_in_bytes(body))
    assert hidden == {"a": "***", "b": 'é \\u0041 "', "c": "***"}
    harmless = b'{"a": "\\u0041\\/\\\\u0041"}'
    assert secret.hide_in_bytes(harmless) == harmless


def test_a_key_that_a_reply_spells_with_escapes_reaches_neither_the_trace_nor_the_journal(
    server: ProviderServer, journal: Journal
) -> None:
    escaped = "".join(f"\\u{ord(c):04X}" for c in KEY)
    body = f'{{"choices": [{{"message": {{"content": "your key is {escaped}"}}, "finish_reason": "stop"}}]}}'
    server.faults = lambda number, question: Fault(body=body)
    assert ask(client_of(server, journal)).answer == "your key is ***"
    (entry,) = journal.entries()
    assert not is_in(str(entry.reply))


def test_a_key_that_a_stream_brings_in_pieces_is_hidden_in_the_whole(server: ProviderServer, journal: Journal) -> None:
    """The server streams word by word; here each word is a few characters of the key."""

    def change(reply: dict[str, Any]) -> dict[str, Any]:
        reply["choices"][0]["message"]["content"] = f"it is {KEY} and no other"
        return reply

    server.faults = lambda number, question: Fault(change=change)
    reply = ask(client_of(server, journal))
    assert server.num_streamed == 1
    assert reply.answer == "it is *** and no other"


def test_no_repr_of_a_client_or_of_what_it_holds_shows_the_key(server: ProviderServer, journal: Journal) -> None:
    """Crash reports print the variables of each frame, and the attributes of objects."""
    client = client_of(server, journal)
    ask(client)
    seen: list[Any] = [client]
    known: set[int] = set()
    texts = []
    while seen and len(known) < 3000:
        each = seen.pop()
        if id(each) in known or isinstance(each, type | Secret):
            continue
        known.add(id(each))
        texts.append(repr(each))
        seen += list(getattr(each, "__dict__", {}).values())
        if isinstance(each, list | tuple):
            seen += each
    assert len(texts) > 20
    assert not [text for text in texts if is_in(text)]
    assert repr(SecretHeaders(a="x")) == "{'a': '***'}"


@pytest.mark.parametrize("what", ["client", "http", "secret", "headers"])
def test_nothing_that_holds_a_key_goes_to_another_process(server: ProviderServer, journal: Journal, what: str) -> None:
    client = client_of(server, journal)
    held = {"client": client, "http": client.http, "secret": Secret(KEY), "headers": SecretHeaders(a=KEY)}
    with pytest.raises(TypeError):
        pickle.dumps(held[what])


def chain(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


@pytest.mark.parametrize("fault", ["status", "cut", "refused", "proxy"])
def test_an_error_holds_no_key_anywhere_in_its_chain(
    server: ProviderServer, journal: Journal, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the network has the request at it, headers included, and the proxy's address with its password."""
    url = server.compatible
    if fault == "status":
        server.faults = lambda number, question: Fault(status=400, body=f"bad {KEY}")
    elif fault == "cut":
        server.faults = lambda number, question: Fault(cut=True)
    elif fault == "refused":
        url = "http://127.0.0.1:9/v1"
    else:
        url = "https://teacher.example/v1"
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:{KEY}@127.0.0.1:9")
    client = open_client(MODELS["compatible"], journal, base_url=url, price="free")
    if fault == "cut":  # the part of a stream that was cut too often is a reply, so without a stream
        client = open_client(MODELS["compatible"], journal, base_url=url, price="free", stream=False)
    with pytest.raises((Problem, Stopped)) as caught:
        ask(client)
    for error in chain(caught.value):
        assert type(error).__module__.startswith("s1kit"), error
        assert not is_in(repr(vars(error)) + str(error) + "".join(getattr(error, "__notes__", [])))
    assert not is_in("".join(traceback.format_exception(caught.value)))


def test_debug_logs_of_all_libraries_hold_no_key(
    server: ProviderServer, journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults = lambda number, question: Fault(status=503, body=KEY) if number == 0 else None

    async def run() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0.0  # every callback is logged, with its arguments
        async with client_of(server, journal) as client:
            await client.chat([{"role": "user", "content": "q"}])

    with caplog.at_level(logging.DEBUG):
        asyncio.run(run(), debug=True)
    assert caplog.records
    assert not is_in(caplog.text)


def test_a_key_of_a_file_is_in_no_process_s_environment(
    server: ProviderServer, journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("S1KIT_API_KEY")
    path = tmp_path / "key"
    path.write_text(KEY)
    client = open_client(MODELS["compatible"], journal, base_url=server.compatible, price="free", key_file=str(path))
    ask(client)
    code = "import os; print(dict(os.environ))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not is_in(child.stdout + str(dict(os.environ)))


def test_what_is_shown_and_exported_of_a_run_holds_no_key(
    server: ProviderServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Failures that quote the key are in the journal, in the receipt's counts and in what is printed of them."""
    texts = [KEY, base64.b64encode(f"me:{KEY}".encode()).decode(), f"Bearer {KEY[:20]}"]

    def faults(number: int, question: str) -> Fault | None:
        if number < 3:
            return Fault(status=(500, 429, 400)[number], retry_after="0", body=f"no: {texts[number]}")
        return Fault(change=lambda reply: reply | {"echo": {"authorization": f"Bearer {KEY}"}})

    server.faults = faults
    settings = {"teacher": f"chat:{server.compatible}#m", "max_unusable": 1.0, "concurrency": 1}
    recipe = Recipe.model_validate(
        {"name": "tiny", "out": str(tmp_path), "distill": settings, "train": {"base": "hf:nowhere"}}
    )
    opened_run = open_run(recipe.folder, "tiny", recipe.model_dump(mode="json"))
    stage = opened_run.open("collect", config={}, seed=0)
    stage.write("questions", Question, [Question(text=f"What is {n} + {n}?") for n in range(4)])
    stage.finish()
    distill(recipe, opened_run)
    run, journal = tmp_path / "tiny", tmp_path / "journal.sqlite"
    for path in (run, run / "distill", journal):
        main(["show", str(path)])
    main(["export", str(journal), "--to", str(tmp_path / "journal.jsonl")])
    printed = capsys.readouterr()
    assert "distill" in printed.out + printed.err
    texts = [printed.out, printed.err]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert len(texts) > 6
    assert not [text[:200] for text in texts if is_in(text) or base64.b64encode(KEY[:12].encode()).decode() in text]
    with Journal(journal, read_only=True) as opened:
        assert not is_in("".join(str(failure.body) for failure in opened.failures()))
        assert opened.failures()


def test_no_object_that_a_run_leaves_behind_holds_the_key(server: ProviderServer, journal: Journal) -> None:
    """A core dump shows what is in memory: after a run only the environment and what the user passed are."""
    ask(client_of(server, journal))
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, SecretHeaders)]
    assert not left
