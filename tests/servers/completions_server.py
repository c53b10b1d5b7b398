"""A completions server over a pure function for a model: knows ids (as vLLM does) or only text (as llama.cpp's does).

    with CompletionsServer(tokenizer, sample, knows_ids=True) as server: server.url

A stream has an event for each token. Knows nothing about thinking.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Self


class CompletionsServer:
    """One server in a thread."""

    def __init__(
        self,
        tokenizer: Any,
        sample: Callable[[Sequence[int]], int],
        eos_id: int,
        knows_ids: bool = True,
        context: int = 4096,
        port: int = 0,
    ) -> None:
        self.tokenizer, self.sample, self.eos_id, self.knows_ids, self.context = (
            tokenizer,
            sample,
            eos_id,
            knows_ids,
            context,
        )
        self.bodies: list[dict[str, Any]] = []
        self.failures: list[int] = []
        """Statuses to answer with before anything is completed."""
        self.fields: frozenset[str] | None = None
        """The only fields that it accepts; None: any."""
        self.more_prompt_tokens: int | None = None
        """It says how many tokens it read a prompt as: ours and so many more; None: it does not say."""
        self.streams = True
        """False: what is asked to be streamed is answered whole."""
        self.seconds = 0.0
        """How long a completion takes."""
        self.lock, self.under_way, self.most_at_once = Lock(), 0, 0
        self.is_dead = False
        """Connections are closed without an answer."""
        self.breaks_off = False
        """Streams end before they say why."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            # Connections are kept, as real servers keep them; nothing waits for an acknowledgement.
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                if owner.is_dead:
                    self.close_connection = True
                    return
                self._send(200, {"data": [{"id": "fake", "max_model_len": owner.context}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with owner.lock:
                    owner.under_way += 1
                    owner.most_at_once = max(owner.most_at_once, owner.under_way)
                time.sleep(owner.seconds)
                with owner.lock:
                    owner.under_way -= 1
                if owner.is_dead:
                    self.close_connection = True
                    return
                status, reply = owner.complete(body)
                if body.get("stream") and status == 200 and owner.streams:
                    self._stream(owner.events(reply))
                else:
                    self._send(status, reply)

            def _stream(self, events: Sequence[dict[str, Any]]) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream; charset=utf-8")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                for said in (*map(json.dumps, events), "[DONE]"):
                    data = f"data: {said}\n\n".encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.write(b"0\r\n\r\n")

            def _send(self, status: int, reply: dict[str, Any]) -> None:
                raw = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args: Any) -> None:
                """Quiet."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that leaves is not a fault."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def __enter__(self) -> Self:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *args: object) -> None:
        if not self.is_dead:
            self.die()

    def die(self) -> None:
        """Accept nothing more, and break off what is under way."""
        self.is_dead = True
        self._server.shutdown()
        self._server.server_close()

    def complete(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.bodies.append(body)
        if self.failures:
            return self.failures.pop(0), {"error": {"message": "broken on purpose"}}
        prompt = body["prompt"]
        if self.fields is not None and (unknown := body.keys() - self.fields):
            return 422, {"error": {"message": f"unknown fields {sorted(unknown)}"}}
        if not self.knows_ids and not isinstance(prompt, str):
            return 422, {"error": {"message": "prompt must be a string"}}
        context = prompt if not isinstance(prompt, str) else self.tokenizer.encode(prompt, add_special_tokens=False)
        stop_ids = set(body.get("stop_token_ids", [])) if self.knows_ids else set()
        ids: list[int] = []
        text, reason, stopped = "", "length", None
        while len(ids) < body["max_tokens"]:
            token = self.sample([*context, *ids])
            ids.append(token)
            if token in stop_ids or token == self.eos_id:
                reason, stopped = "stop", token if token != self.eos_id else None
                break
            text = self.tokenizer.decode(ids)
            found = [(text.index(s), s) for s in body.get("stop", []) if s in text]
            if found:
                at, word = min(found)
                text, reason, stopped = text[:at], "stop", word
                break
        choice: dict[str, Any] = {"text": text, "finish_reason": reason}
        if self.knows_ids:
            choice |= {"stop_reason": stopped, "token_ids": ids if body.get("return_token_ids") else None}
        usage = {"completion_tokens": len(ids)}
        if self.more_prompt_tokens is not None:
            usage["prompt_tokens"] = len(context) + self.more_prompt_tokens
        return 200, {"choices": [choice], "usage": usage}

    def events(self, reply: dict[str, Any]) -> list[dict[str, Any]]:
        """A reply in pieces, a token each where it has ids, else a few characters."""
        choice = dict(reply["choices"][0])
        text, ids = choice.pop("text"), choice.pop("token_ids", None)
        if ids:
            pieces = [{"text": "", "token_ids": [i], "finish_reason": None} for i in ids]
        else:
            pieces = [{"text": text[i : i + 3], "finish_reason": None} for i in range(0, len(text), 3)]
        if not self.breaks_off:
            pieces.append(choice | {"text": "", "token_ids": [] if ids is not None else None})
        return [{"choices": [p]} for p in pieces] + [{"choices": [], "usage": reply["usage"]}]
