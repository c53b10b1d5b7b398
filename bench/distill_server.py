"""A chat-completions server that only waits: the far side of the distillation benchmarks.

Every reply is the same thinking of about 5,000 tokens (some 20 KB), after `--ms` milliseconds. Faster than any client,
so the client is what is measured. With `--per-minute` it answers 429 beyond that many requests in any 60 seconds.
GET /stats tells what it has seen.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections import Counter, deque
from typing import IO, Any

QUESTION = b'"content": "'
COMPACT = b'"content":"'


def make_stream(body: dict[str, Any], chunks: int) -> bytes:
    """The reply as so many server-sent events, in one piece: what the client does with them is what is measured."""
    text = body["choices"][0]["message"]["content"]
    head = {"id": body["id"], "object": "chat.completion.chunk", "created": body["created"], "model": "m"}
    size = -(-len(text) // chunks)
    deltas = [{"content": text[at : at + size]} for at in range(0, len(text), size)]
    events = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    events.append(head | {"choices": [], "usage": body["usage"]})
    data = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(data) + data


def make_reply(num_words: int, chunks: int = 0) -> bytes:
    dice = random.Random(0)
    words = ["so", "wait", "the", "sum", "of", "two", "x", "is", "then", "check", "again", "product", "equals", "hence"]
    thinking = " ".join(
        dice.choice(words) + (f" {dice.randint(0, 999)}" if n % 5 == 0 else "") for n in range(num_words)
    )
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1763800000,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"<think>\n{thinking}\n</think>\n\nThe answer is 4."},
            }
        ],
        "usage": {"prompt_tokens": 40, "completion_tokens": 5000, "total_tokens": 5040},
    }
    if chunks:
        return make_stream(body, chunks)
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(data) + data


class Server:
    def __init__(self, ms: float, per_minute: int, num_words: int, chunks: int = 0) -> None:
        self.seconds, self.per_minute = ms / 1000.0, per_minute
        self.reply = make_reply(num_words, chunks)
        self.answered: Counter[bytes] = Counter()
        self.num_requests = self.num_refused = self.in_flight = self.most_in_flight = 0
        self.accepted: deque[float] = deque()
        self.refused_at: list[float] = []
        self.accepted_at: list[float] = []
        self.first = 0.0
        self.ledger: IO[str] | None = None
        """Where each answered question is noted: when its connection was opened, and when it was answered."""

    def is_refused(self) -> bool:
        now = time.monotonic()
        self.first = self.first or now
        if not self.per_minute:
            self.accepted_at.append(now - self.first)
            return False
        while self.accepted and self.accepted[0] <= now - 60.0:
            self.accepted.popleft()
        if len(self.accepted) >= self.per_minute:
            self.num_refused += 1
            self.refused_at.append(now - self.first)
            return True
        self.accepted.append(now)
        self.accepted_at.append(now - self.first)
        return False

    def stats(self) -> dict[str, object]:
        return {
            "requests": self.num_requests,
            "refused": self.num_refused,
            "distinct": len(self.answered),
            "sent_again": sum(self.answered.values()) - len(self.answered),
            "most_in_flight": self.most_in_flight,
            "accepted_at": self.accepted_at,
            "refused_at": self.refused_at,
            "cpu_seconds": time.process_time(),
        }


class Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self.server, self.buffer = server, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.opened = transport, time.monotonic()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 : (head.find(b"\r\n", at) + 1 or len(head) + 1) - 1]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body, self.buffer = self.buffer[end + 4 : end + 4 + length], self.buffer[end + 4 + length :]
            self.take(head, body)

    def take(self, head: bytes, body: bytes) -> None:
        server = self.server
        if head.startswith(b"get /stats"):
            self.json(b"200 OK", json.dumps(server.stats()).encode())
        elif not head.startswith(b"post "):
            self.json(b"404 Not Found", b"{}")
        elif server.is_refused():
            self.json(b"429 Too Many Requests", b'{"error": {"message": "Rate limit reached", "type": "rate_limit"}}')
        else:
            server.num_requests += 1
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
            asyncio.get_running_loop().call_later(server.seconds, self.answer, body)

    def answer(self, body: bytes) -> None:
        self.server.in_flight -= 1
        if self.transport.is_closing():
            return
        if b'"capacity"' in body:
            self.transport.write(self.server.reply)
            return
        at = body.rfind(QUESTION)
        start = at + len(QUESTION) if at >= 0 else body.rfind(COMPACT) + len(COMPACT)
        question = body[start : body.find(b'"', start)]
        self.server.answered[question] += 1
        self.transport.write(self.server.reply)
        if self.server.ledger is not None:
            self.server.ledger.write(f"{self.opened:.4f} {time.monotonic():.4f} {question.decode()}\n")

    def json(self, status: bytes, body: bytes) -> None:
        head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head + body)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--ms", type=float, default=200.0)
    parser.add_argument("--per-minute", type=int, default=0)
    parser.add_argument("--words", type=int, default=4000)
    parser.add_argument("--chunks", type=int, default=0, help="answer as a stream of so many events")
    parser.add_argument("--ledger", default="", help="a file that gets a line for each answered question")
    given = parser.parse_args()
    state = Server(given.ms, given.per_minute, given.words, given.chunks)
    if given.ledger:
        state.ledger = open(given.ledger, "a", buffering=1)  # noqa: SIM115 - for as long as the server lives
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(state), "127.0.0.1", given.port, backlog=2048
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
