"""A server that streams the same words to everybody, as fast or as slowly as it is told: the far side of load tests.

It answers `/v1/completions` as vLLM does (ids out, stops at ids) and `/v1/chat/completions` as any proxy's target does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from scripted_upstream import chunked, send_whole, start_events


class CannedUpstream:
    """Streams the same words to everybody, on `/v1/completions` and `/v1/chat/completions`; made for load."""

    def __init__(self, num_thinking: int, num_answer: int, interval: float, ids: dict[str, list[int]]) -> None:
        self._thinking, self._answer, self._interval, self._ids = num_thinking, num_answer, interval, ids
        self.num_streams = 0

    async def serve(self, port: int, ready: Callable[[], None] | None = None) -> None:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=2048)
        if ready is not None:
            ready()
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                low = head.lower()
                at = low.find(b"content-length:")
                size = int(low[at + 15 : low.index(b"\r\n", at)]) if at >= 0 else 0
                body = await reader.readexactly(size)
                if head.startswith(b"GET"):
                    if b"/stats" in head:
                        stats = {"streams": self.num_streams, "cpu": time.process_time()}
                        await send_whole(writer, 200, json.dumps(stats).encode())
                        continue
                    card = {"id": "canned", "object": "model", "owned_by": "vllm", "max_model_len": 32768}
                    await send_whole(writer, 200, json.dumps({"object": "list", "data": [card]}).encode())
                    continue
                await self._stream(writer, head, json.loads(body))
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter, head: bytes, asked: dict[str, Any]) -> None:
        self.num_streams += 1
        is_chat = b"/chat/" in head.split(b"\r\n", 1)[0]
        if not asked.get("stream") and not is_chat:
            # A client that asks what the server understands.
            one = {"index": 0, "text": " so", "token_ids": self._ids["so"], "finish_reason": "length"}
            await send_whole(writer, 200, json.dumps({"id": "x", "choices": [one]}).encode())
            return
        if not asked.get("stream"):
            # A reply in one piece is there when its last token is.
            await asyncio.sleep(self._interval * (self._thinking + self._answer))
            message = {"role": "assistant", "content": "so " * (self._thinking + self._answer)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            reply = {"id": "x", "object": "chat.completion", "created": 1, "model": "canned", "choices": [choice]}
            await send_whole(writer, 200, json.dumps(reply | {"usage": usage}).encode())
            return
        events = self._chat_events() if is_chat else self._completion_events(asked)
        start_events(writer)
        for event in events:
            # " so" gives way to the time, where there is time to: a client far away sees how long an event took.
            writer.write(event.replace(b'" so"', b'"%11.4f"' % time.monotonic()) if self._interval else event)
            if self._interval:
                await writer.drain()
                await asyncio.sleep(self._interval)
        writer.write(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        await writer.drain()
        if not self._interval:
            await asyncio.sleep(0)

    def _chunk(self, event: dict[str, Any]) -> bytes:
        data = b"data: " + json.dumps(event).encode() + b"\n\n"
        if b'" so"' in data and self._interval:
            # The time is longer than the word it replaces, and the chunk's length is already written.
            return b"%x\r\n%s\r\n" % (len(data) + 8, data)
        return chunked(data)

    def _chat_events(self) -> list[bytes]:
        base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "canned"}

        def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            return self._chunk(base | {"choices": [choice]})

        first = event({"role": "assistant", "content": ""})
        word = event({"content": " so"})
        return [first, *[word] * (self._thinking + self._answer), event({}, "stop")]

    def _completion_events(self, asked: dict[str, Any]) -> list[bytes]:
        """Thinking until the stop at its end delimiter, or the answer when it is asked to go on after that."""
        is_answer = _holds(asked["prompt"], self._ids["end"])
        num = min(self._answer if is_answer else self._thinking, asked["max_tokens"])
        stop_id = self._ids["eos"][0] if is_answer else self._ids["end"][0]
        base = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "canned"}

        def event(text: str, ids: list[int], finish: str | None = None, reason: int | None = None) -> bytes:
            choice = {"index": 0, "text": text, "token_ids": ids, "finish_reason": finish, "stop_reason": reason}
            return self._chunk(base | {"choices": [choice]})

        return [*[event(" so", self._ids["so"])] * num, event("", [stop_id], "stop", stop_id)]


def _holds(ids: Sequence[int], wanted: Sequence[int]) -> bool:
    size = len(wanted)
    return any(list(ids[i : i + size]) == list(wanted) for i in range(len(ids) - size, -1, -1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--thinking", type=int, default=60, help="thinking tokens of a stream")
    parser.add_argument("--answer", type=int, default=20, help="answer tokens of a stream")
    parser.add_argument("--interval", type=float, default=0.0, help="seconds between tokens")
    parser.add_argument("--ids", required=True, help='JSON with the ids of "so", "end" and "eos"')
    given = parser.parse_args()
    canned = CannedUpstream(given.thinking, given.answer, given.interval, json.loads(given.ids))
    with suppress(KeyboardInterrupt, ImportError):
        import uvloop

        uvloop.run(canned.serve(given.port))


if __name__ == "__main__":
    main()
