"""A completions server that plays vLLM: ids in, ids out, streamed; and that can misbehave on demand.

    upstream = ScriptedUpstream(tokenizer, next_id)       # next_id(context) is the model
    async with upstream.running() as url: ...

Faults, set on `upstream.fault`:

    stall           says nothing more after `fault_after` tokens
    die             closes the connection after `fault_after` tokens
    silent          accepts and never answers
    split           cuts every event in the middle of its bytes, UTF-8 characters included (legal: must not matter)
    bad_utf8        an event that is not UTF-8
    garbage         an event that is not JSON
    error_event     an error inside the stream
    too_many        more tokens than asked for
    429, 500, 400   that status
    wrong_type      a web page with status 200

Knows nothing about thinking.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

NextId = Callable[[Sequence[int]], int]


@dataclass
class ScriptedUpstream:
    """One server."""

    tokenizer: Any
    next_id: NextId
    model: str = "scripted"
    owned_by: str = "vllm"
    context_tokens: int = 2048
    returns_ids: bool = False
    """Whether a server other than vLLM has `return_token_ids`, as SGLang 0.5.23."""
    fault: str = ""
    fault_after: int = 3
    interval: float = 0.0
    """Seconds between tokens."""
    tokens_per_event: int = 1
    more_prompt_tokens: int = 0
    """That it counts in every prompt of text beyond the text's own: 1 as a server that adds a first token."""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    """Every completion asked for, in order."""
    headers: list[dict[str, str]] = field(default_factory=list)
    num_open: int = 0
    """Connections open now."""
    num_streaming: int = 0
    """Completions being sent now."""
    num_abandoned: int = 0
    """Completions whose client left early."""
    last_abandoned: float = 0.0

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def _tasks(self) -> set[asyncio.Task[None]]:
        return self.__dict__.setdefault("_all_tasks", set())

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.num_open += 1
        try:
            while await self._one_request(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.num_open -= 1
            self._tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _one_request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection can take another."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, _path, _ = head[0].split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:]) if name}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if method == "GET":
            card = {
                "id": self.model,
                "object": "model",
                "owned_by": self.owned_by,
                "max_model_len": self.context_tokens,
            }
            await send_whole(writer, 200, json.dumps({"object": "list", "data": [card]}).encode())
            return True
        asked = json.loads(body)
        self.bodies.append(asked)
        self.headers.append(headers)
        return await self._complete(asked, self.fault, reader, writer)

    async def _complete(
        self, asked: dict[str, Any], fault: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        if fault == "silent":
            await reader.read()
            self._abandon()
            return False
        if fault in ("400", "429", "500"):
            error = json.dumps({"error": {"message": f"asked to fail with {fault}"}}).encode()
            await send_whole(writer, int(fault), error, extra="Retry-After: 7\r\n" if fault == "429" else "")
            return True
        if fault == "wrong_type":
            await send_whole(writer, 200, b"<html>hello</html>", kind="text/html")
            return True
        if not asked.get("stream"):
            await send_whole(writer, 200, json.dumps(self.whole(asked)).encode())
            return True
        start_events(writer)
        # A client that leaves is noticed while tokens are being sent, as vLLM does.
        watcher = asyncio.ensure_future(reader.read(1))
        self.num_streaming += 1
        try:
            return await self._send_tokens(asked, fault, writer, watcher)
        except ConnectionError:
            self._abandon()
            return False
        finally:
            self.num_streaming -= 1
            watcher.cancel()
            with suppress(asyncio.CancelledError):
                await watcher

    async def _send_tokens(
        self, asked: dict[str, Any], fault: str, writer: asyncio.StreamWriter, watcher: asyncio.Future[bytes]
    ) -> bool:
        for num_sent, event in enumerate(self.events(asked), start=1):
            if num_sent > self.fault_after and fault in ("die", "stall", "bad_utf8", "garbage", "error_event"):
                await writer.drain()
                if fault == "die":
                    return False
                if fault == "stall":
                    await watcher
                    self._abandon()
                    return False
                writer.write(chunked(_FAULTY[fault]))
                await writer.drain()
                return False
            payload = b"data: " + json.dumps(event, ensure_ascii=False).encode() + b"\n\n"
            if fault == "too_many":
                for _ in range(asked["max_tokens"] + 2):
                    writer.write(chunked(payload))
            if fault == "split":
                middle = _inside_a_character(payload)
                writer.write(chunked(payload[:middle]))
                await writer.drain()
                await asyncio.sleep(0.001)
                payload = payload[middle:]
            writer.write(chunked(payload))
            if self.interval:
                await writer.drain()
                done, _ = await asyncio.wait((watcher,), timeout=self.interval)
                if done:
                    self._abandon()
                    return False
            elif num_sent % 16 == 0 or writer.transport.is_closing():
                await writer.drain()
                await asyncio.sleep(0)
                if watcher.done() or writer.transport.is_closing():
                    self._abandon()
                    return False
        writer.write(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        return True

    def whole(self, asked: dict[str, Any]) -> dict[str, Any]:
        """A completion in one piece."""
        prompt, choice = asked["prompt"], {"index": 0, "text": "", "finish_reason": "length"}
        if self.tokenizer is None:
            return {"choices": [choice | {"token_ids": [0]}] if self.owned_by == "vllm" else [choice]}
        num = len(prompt if isinstance(prompt, list) else self.tokenizer.encode(prompt, add_special_tokens=False))
        ids, finish, stop_reason, text = self.completion(asked)
        choice |= {"text": text, "finish_reason": finish}
        if self.owned_by == "vllm":
            choice |= {"token_ids": ids, "stop_reason": stop_reason}
        elif self.returns_ids:
            choice |= {"token_ids": ids, "matched_stop": stop_reason}
        return {"choices": [choice], "usage": {"prompt_tokens": num + self.more_prompt_tokens}}

    def events(self, asked: dict[str, Any]) -> list[dict[str, Any]]:
        """The events of one completion, as vLLM would send them."""
        ids, finish, stop_reason, text = self.completion(asked)
        sent, events = "", []
        step, start = self.tokens_per_event, 0
        for end in [*range(step, len(ids), step), len(ids)]:
            is_last = end == len(ids)
            whole = text if is_last else self.tokenizer.decode(ids[:end], skip_special_tokens=False)
            new = whole[len(sent) :] if not whole.endswith("\ufffd") or is_last else ""
            new = new if (sent + new) == text[: len(sent + new)] else ""
            sent += new
            choice: dict[str, Any] = {"index": 0, "text": new, "finish_reason": None, "stop_reason": None}
            if asked.get("return_token_ids"):
                choice["token_ids"] = ids[start:end]
            if asked.get("logprobs") is not None:
                choice["logprobs"] = self._logprobs(ids[start:end], asked["logprobs"])
            if is_last:
                choice |= {"finish_reason": finish, "stop_reason": stop_reason}
            if self.owned_by != "vllm":
                stopped = choice.pop("stop_reason")
                choice |= {"matched_stop": stopped} if self.returns_ids else {}
            start = end
            events.append({"id": "cmpl-1", "object": "text_completion", "model": self.model, "choices": [choice]})
        return events

    def completion(self, asked: dict[str, Any]) -> tuple[list[int], str, int | str | None, str]:
        """The sampled ids (the one that stops included), why they ended, and the text."""
        prompt = asked["prompt"]
        context = list(prompt) if isinstance(prompt, list) else self.tokenizer.encode(prompt, add_special_tokens=False)
        ids: list[int] = []
        keeps_stop = self.owned_by == "transformers"
        stop_ids = json.loads(asked.get("generation_config", "{}")).get("eos_token_id", [])
        while len(ids) < asked.get("max_tokens", 16):
            new = self.next_id([*context, *ids])
            ids.append(new)
            if keeps_stop and new in stop_ids:
                # Its text shows what stopped it, but for special tokens.
                return ids, "stop", None, str(self.tokenizer.decode(ids, skip_special_tokens=True))
            if new == self.tokenizer.eos_token_id:
                return ids, "stop", None, self._text(ids[:-1])
            if new in asked.get("stop_token_ids", ()):
                return ids, "stop", new, self._text(ids[:-1])
            text = self._text(ids)
            for stop in asked.get("stop", ()):
                if stop in text:
                    return ids, "stop", stop, text if keeps_stop else text[: text.index(stop)]
        return ids, "length", None, self._text(ids)

    def _text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=False))

    def _logprobs(self, ids: list[int], num: int) -> dict[str, Any]:
        words = [self._text([i]) for i in ids]
        return {
            "tokens": words,
            "token_logprobs": [-0.5] * len(ids),
            "top_logprobs": [{w: -0.5, f"{w}?": -1.5} if num else None for w in words],
        }

    def _abandon(self) -> None:
        self.num_abandoned += 1
        self.last_abandoned = time.monotonic()


_FAULTY = {
    "bad_utf8": b'data: {"choices":[{"text":"\xff\xfe"}]}\n\n',
    "garbage": b"data: {nonsense\n\n",
    "error_event": b'data: {"error":{"message":"the engine is on fire","code":500}}\n\n',
}


def _inside_a_character(payload: bytes) -> int:
    """A place to cut: inside the first character of several bytes, else the middle."""
    return next((i + 1 for i, byte in enumerate(payload) if byte >= 0xC0), len(payload) // 2)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def start_events(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")


async def send_whole(
    writer: asyncio.StreamWriter, status: int, body: bytes, kind: str = "application/json", extra: str = ""
) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    writer.write(head.encode() + body)
    await writer.drain()
