"""Azure, Vertex AI and Bedrock on this machine: log-ins that hand out tokens, and models that check them.

Tokens and signatures are verified as the clouds do: a service account's assertion by its public key, AWS's Signature
Version 4 by computing it again with botocore.
"""

from __future__ import annotations

import base64
import itertools
import json
import struct
import time
from binascii import crc32
from collections import Counter
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from tests.servers.provider_server import (
    ProviderServer,
    answer_of,
    anthropic_error,
    chat_completion,
    gemini_error,
    generated_content,
    message,
    openai_error,
    question_in,
    thinking_of,
    words,
)
from tests.servers.provider_streams import chat_events, content_events, message_events, pieces

ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "session-token-1"
API_KEY = "azure-key-0123456789"
IDENTITY_HEADER = "identity-header-1"


class CloudServer(ProviderServer):
    """Use as `ProviderServer`; `logins` counts the log-ins, `token_seconds` is how long a token lasts."""

    def __init__(self) -> None:
        super().__init__()
        self.logins: Counter[str] = Counter()
        self.token_seconds = 3600
        self.tokens: dict[str, str] = {}
        """Tokens handed out, to the scope or audience they are for."""
        self.public_key: Any = None
        self.paths: list[str] = []
        self._numbers = itertools.count()

    def _app(self) -> web.Application:
        app = super()._app()
        app.router.add_get("/msi/token", self._azure_login)
        app.router.add_post("/google/token", self._google_login)
        app.router.add_post("/azure/openai/v1/chat/completions", self._azure)
        app.router.add_post("/azure/openai/deployments/{deployment}/chat/completions", self._azure)
        root = "/v1/projects/{project}/locations/{location}"
        app.router.add_post(root + "/publishers/google/models/{call}", self._vertex_gemini)
        app.router.add_post(root + "/publishers/anthropic/models/{call}", self._vertex_claude)
        app.router.add_post(root + "/endpoints/openapi/chat/completions", self._vertex_open)
        app.router.add_post("/model/{model}/converse", self._converse)
        app.router.add_post("/model/{model}/converse-stream", self._converse)
        return app

    # ---- log-ins ----------------------------------------------------------------------------------------------------

    async def _azure_login(self, request: web.Request) -> web.Response:
        """The endpoint of a managed identity, as App Service has it."""
        if request.headers.get("X-IDENTITY-HEADER") != IDENTITY_HEADER:
            return web.json_response({"message": "no identity"}, status=401)
        token = self._new_token("azure", request.query["resource"])
        expires = int(time.time()) + self.token_seconds
        return web.json_response(
            {
                "access_token": token,
                "expires_on": str(expires),
                "resource": request.query["resource"],
                "token_type": "Bearer",
            }
        )

    async def _google_login(self, request: web.Request) -> web.Response:
        """The token endpoint of service accounts: takes a signed assertion."""
        form = await request.post()
        head, claims, signature = (_unpadded(part) for part in str(form["assertion"]).split("."))
        signed = str(form["assertion"]).rpartition(".")[0].encode()
        from cryptography.hazmat.primitives import hashes
        from cryptography.hazmat.primitives.asymmetric import padding

        self.public_key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        assert json.loads(head)["alg"] == "RS256"
        token = self._new_token("google", json.loads(claims)["scope"])
        return web.json_response({"access_token": token, "expires_in": self.token_seconds, "token_type": "Bearer"})

    def _new_token(self, cloud: str, scope: str) -> str:
        self.logins[cloud] += 1
        token = f"{cloud}-token-{next(self._numbers)}-0123456789"
        self.tokens[token] = scope
        return token

    def _scope_of(self, request: web.Request) -> str:
        return self.tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "), "")

    # ---- models -----------------------------------------------------------------------------------------------------

    async def _azure(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        has_token = self._scope_of(request).startswith("https://cognitiveservices.azure.com")
        if request.headers.get("api-key") != API_KEY and not has_token:
            return openai_error(401, f"Access denied: {request.headers.get('Authorization')}", "401")
        body = await request.json()
        events = (lambda reply: chat_events(reply, True)) if body.get("stream") else None
        return await self._answer(
            request, question_in(body), lambda: chat_completion(body, "openai"), openai_error, events
        )

    async def _vertex_gemini(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        if "cloud-platform" not in self._scope_of(request):
            return gemini_error(401, "Request had invalid authentication credentials.", "ACCESS_TOKEN_EXPIRED")
        model, _, verb = request.match_info["call"].partition(":")
        body = await request.json()
        assert all("role" in content for content in body["contents"]), "Vertex AI wants roles"
        events = content_events if verb == "streamGenerateContent" else None
        return await self._answer(
            request, question_in(body), lambda: generated_content(body, model), gemini_error, events
        )

    async def _vertex_claude(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        if "cloud-platform" not in self._scope_of(request):
            return anthropic_error(401, "invalid credentials")
        model, _, verb = request.match_info["call"].partition(":")
        body = await request.json()
        assert body["anthropic_version"] == "vertex-2023-10-16"
        assert "model" not in body
        events = message_events if verb == "streamRawPredict" else None
        return await self._answer(
            request, question_in(body), lambda: message(body | {"model": model}), anthropic_error, events
        )

    async def _vertex_open(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path_qs)
        if "cloud-platform" not in self._scope_of(request):
            return openai_error(401, "invalid credentials")
        body = await request.json()
        events = (lambda reply: chat_events(reply, True)) if body.get("stream") else None
        return await self._answer(
            request, question_in(body), lambda: chat_completion(body, "deepseek"), openai_error, events
        )

    async def _converse(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.raw_path)
        raw = await request.read()
        if not is_signed(request, raw, self.root):
            return web.json_response({"message": "The request signature we calculated does not match."}, status=403)
        body = json.loads(raw)
        question = body["messages"][-1]["content"][-1]["text"]
        is_stream = request.path.endswith("-stream")
        response = await self._answer(request, question, lambda: conversed(question), bedrock_error)
        if not is_stream or response.status != 200 or not isinstance(response, web.Response):
            return response
        try:
            events = list(converse_events(json.loads(response.text or "")))
        except (ValueError, KeyError):
            return response
        streamed = web.StreamResponse(headers={"Content-Type": "application/vnd.amazon.eventstream"})
        await streamed.prepare(request)
        self.num_streamed += 1
        fault = self.cut_streams and self.cut_streams > self.num_streamed - 1
        for event in events[: len(events) // 2] if fault else events:
            await streamed.write(event)
        if fault:
            assert request.transport is not None
            request.transport.close()
        else:
            await streamed.write_eof()
        return streamed

    cut_streams = 0
    """Streams of Bedrock that are cut in the middle."""


def is_signed(request: web.Request, body: bytes, root: str) -> bool:
    """Whether AWS would accept the request: its signature is computed again from what arrived."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    given = request.headers.get("Authorization", "")
    if not given.startswith("AWS4-HMAC-SHA256 "):
        return False
    fields = dict(part.strip().split("=", 1) for part in given.removeprefix("AWS4-HMAC-SHA256 ").split(","))
    key, date, region, service, _ = fields["Credential"].split("/")
    stamp = request.headers["X-Amz-Date"]
    assert stamp.startswith(date)
    if abs(time.time() - time.mktime(time.strptime(stamp + "UTC", "%Y%m%dT%H%M%SZ%Z")) + time.timezone) > 300:
        return False
    signed = {name: request.headers[name] for name in fields["SignedHeaders"].split(";")}
    assert "host" in signed
    if request.headers.get("X-Amz-Security-Token") != SESSION_TOKEN or key != ACCESS_KEY:
        return False
    auth = SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN), service, region)
    again = AWSRequest(method=request.method, url=root + request.raw_path, data=body, headers=signed)
    again.context["timestamp"] = stamp
    expected = auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again)
    return bool(expected == fields["Signature"]) and service == "bedrock"


def conversed(question: str) -> dict[str, Any]:
    """A reply of Converse."""
    thinking, answer = thinking_of(question), answer_of(question)
    num_in, num_out = words(question), words(thinking) + words(answer)
    return {
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": thinking, "signature": "c2ln"}}},
                    {"text": answer},
                ],
            }
        },
        "stopReason": "end_turn",
        "usage": {"inputTokens": num_in, "outputTokens": num_out, "totalTokens": num_in + num_out},
        "metrics": {"latencyMs": 1},
    }


def converse_events(reply: dict[str, Any]) -> Iterator[bytes]:
    """The binary events of ConverseStream."""
    yield binary_event("messageStart", {"role": "assistant"})
    for at, block in enumerate(reply["output"]["message"]["content"]):
        place = {"contentBlockIndex": at}
        thought = block.get("reasoningContent", {}).get("reasoningText", {}).get("text")
        for piece in pieces(thought or block.get("text", "")):
            delta = {"reasoningContent": {"text": piece}} if thought else {"text": piece}
            yield binary_event("contentBlockDelta", {**place, "delta": delta})
        yield binary_event("contentBlockStop", place)
    yield binary_event("messageStop", {"stopReason": reply["stopReason"]})
    yield binary_event("metadata", {"usage": reply["usage"], "metrics": reply["metrics"]})


def binary_event(kind: str, payload: dict[str, Any], message_type: str = "event") -> bytes:
    """One message of Amazon's event stream: lengths, checksums, headers of strings, a JSON payload.

    Source: docs.aws.amazon.com/transcribe/latest/dg/event-stream.html.
    """
    name = ":event-type" if message_type == "event" else ":exception-type"
    headers = b""
    for key, value in ((name, kind), (":content-type", "application/json"), (":message-type", message_type)):
        headers += struct.pack("!B", len(key)) + key.encode() + struct.pack("!BH", 7, len(value)) + value.encode()
    data = json.dumps(payload).encode()
    prelude = struct.pack("!II", 16 + len(headers) + len(data), len(headers))
    whole = prelude + struct.pack("!I", crc32(prelude)) + headers + data
    return whole + struct.pack("!I", crc32(whole))


def bedrock_error(status: int, text: str) -> web.Response:
    return web.json_response({"message": text}, status=status)


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
