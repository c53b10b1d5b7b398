"""What the tests of the server share: a server in a thread, batches that follow a script, chunks put together again."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import uvicorn

from s1kit.engines import scripted
from s1kit.engines.interface import Event
from s1kit.forcing.formats import FORMATS, ThinkingFormat
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_format import TokenFormat
from s1kit.serve.app import make_app
from s1kit.serve.decoding import Backend
from s1kit.serve.state import Limits, Server

CLIENT = httpx.Client(
    timeout=20, trust_env=False, verify=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=0)
)
"""One for all tests: making one takes longer than most of them."""


@dataclass
class Running:
    """A server that answers."""

    url: str
    state: Server
    loop: asyncio.AbstractEventLoop

    def run(self, work: Any, seconds: float = 10) -> Any:
        """Run a coroutine in the server's own loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    def wait_until(self, is_so: Callable[[], bool], seconds: float = 5) -> None:
        """Return when `is_so`, fail when it never is."""
        deadline = time.monotonic() + seconds
        while not is_so():
            assert time.monotonic() < deadline, "it never came to be"
            time.sleep(0.01)


@contextmanager
def serving(
    make_backend: Callable[[AsyncExitStack], Any], limits: Limits | None = None, **more: Any
) -> Iterator[Running]:
    """A server on a free port, in a thread with a loop of its own. `make_backend` is awaited in that loop."""
    started: list[Running] = []
    failed: list[BaseException] = []

    async def main() -> None:
        async with AsyncExitStack() as stack:
            backend: Backend = await make_backend(stack)
            app = make_app(backend, limits, **more)
            config = uvicorn.Config(app, port=0, log_config=None, access_log=False, lifespan="on")
            server = uvicorn.Server(config)
            stopper.append(server)
            task = asyncio.ensure_future(server.serve())
            while not server.started and not task.done():
                await asyncio.sleep(0.01)
            port = server.servers[0].sockets[0].getsockname()[1]
            started.append(Running(f"http://127.0.0.1:{port}", app.state.server, asyncio.get_running_loop()))
            await task

    def body() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failed.append(error)

    stopper: list[uvicorn.Server] = []
    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not started and not failed:
        assert time.monotonic() < deadline, "the server did not start"
        time.sleep(0.01)
    if failed:
        raise failed[0]
    try:
        yield started[0]
    finally:
        stopper[0].should_exit = True
        thread.join(20)
        assert not thread.is_alive(), "the server did not stop"
    if failed:
        raise failed[0]


@dataclass
class ScriptedBatch(scripted.ScriptedBatch):
    """The scripted engine's batch, slower or broken where a test wants it so, and counted."""

    seconds_a_step: float = 0.0
    num_cancelled: int = 0
    most_rows: int = 0
    breaks: bool = False

    def admit(self, plan: Plan, is_streamed: bool = False) -> int:
        ticket = super().admit(plan, is_streamed)
        self.most_rows = max(self.most_rows, len(self.rows))
        return ticket

    def cancel(self, ticket: int) -> None:
        self.num_cancelled += ticket in self.rows
        super().cancel(ticket)

    def step(self) -> list[Event]:
        if self.seconds_a_step:
            time.sleep(self.seconds_a_step)
        if self.breaks:
            raise RuntimeError("out of memory")
        return super().step()


class ScriptedServing(scripted.ScriptedEngine):
    """An engine for `serve.local.Local` that follows a script."""

    def __init__(
        self,
        script: dict[str, Sequence[scripted.Step]],
        format: ThinkingFormat = FORMATS["s1"],
        context_tokens: int = 4096,
        seconds_a_step: float = 0.0,
    ) -> None:
        super().__init__(script, format, context_tokens)
        self.batch = ScriptedBatch(self, seconds_a_step=seconds_a_step)

    def __post_init__(self) -> None:
        # Also for formats without thinking, which the engine itself has no use for.
        self.tokens = TokenFormat(self.format, scripted.WordTokenizer())

    def running_batch(self) -> ScriptedBatch:
        return self.batch


def read_events(text: str) -> list[dict[str, Any]]:
    """The JSON events of a stream; its last must be [DONE]."""
    lines = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def joined(events: Sequence[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """What a stream amounts to, by choice: texts joined, the last word on each, counts summed."""
    choices: dict[int, dict[str, Any]] = {}
    for event in events:
        for choice in event["choices"]:
            whole = choices.setdefault(choice["index"], {"thinking": "", "answer": "", "calls": [], "tokens": 0})
            delta = choice.get("delta", choice)
            assert delta.get("reasoning") == delta.get("reasoning_content")
            whole["thinking"] += delta.get("reasoning") or ""
            whole["answer"] += delta.get("content") or delta.get("text") or ""
            whole["calls"] += delta.get("tool_calls") or []
            if choice["finish_reason"] is not None:
                whole["finish"], whole["s1kit"] = choice["finish_reason"], choice["s1kit"]
            elif "s1kit" in choice:
                whole["tokens"] += choice["s1kit"]["num_tokens"]
    return choices


def post(url: str, body: Any, path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    """One request."""
    return CLIENT.post(url + path, json=body, **more)


def ask(url: str, text: str = "1+1?", path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
    """One chat request with these fields."""
    return post(url, {"messages": [{"role": "user", "content": text}]} | fields, path)
