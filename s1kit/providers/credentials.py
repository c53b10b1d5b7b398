"""Authentication without a fixed key: tokens of Azure and Google, signatures of AWS.

The clouds' own libraries find the account (environment, files, command-line log-in, the machine's identity) and renew
what expires; here each request gets its headers, once it is known to go to the provider's own origin.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, Protocol
from urllib.parse import urlsplit

from s1kit.errors import InputError, MissingExtra
from s1kit.providers.catalog import Model
from s1kit.providers.chat import Problem

AZURE_SCOPE = "https://cognitiveservices.azure.com/.default"
GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
SECONDS_BEFORE_EXPIRY = 300.0
"""A token is renewed so long before it expires: a reply may take minutes, and is authorised at its start."""


class Credentials(Protocol):
    """Headers for one request. An object of this kind never shows what it holds."""

    async def headers(self, method: str, url: str, body: bytes) -> dict[str, str]:
        """Raises Problem: `key` where nothing proves who asks, `connection` where it cannot be renewed now."""
        ...

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: the tokens and keys used so far."""
        ...


def credentials_of(model: Model, *, has_key: bool) -> Credentials | None:
    """The credentials of a cloud's model; None where a key is used. Raises MissingExtra, InputError for no region."""
    if model.kind == "bedrock":
        _require("botocore", "asking Bedrock", "bedrock")  # it reads the streams, too
    if has_key:
        return None
    match model.kind:
        case "azure":
            _require("azure.identity", "asking Azure without a key", "azure")
            return TokenCredentials(_azure_token)
        case "vertex":
            _require("google.auth", "asking Vertex AI", "vertex")
            _require("requests", "asking Vertex AI", "vertex")
            return TokenCredentials(_google_token)
        case "bedrock":
            return AwsCredentials(aws_region(model.base_url))
        case _:
            return None


def _require(module: str, purpose: str, extra: str) -> None:
    try:
        is_there = find_spec(module) is not None
    except ModuleNotFoundError:
        is_there = False
    if not is_there:
        raise MissingExtra(purpose, module.replace(".", "-"), extra=extra)


class TokenCredentials:
    """A bearer token that a library finds and renews; asked for in a thread, since the libraries wait for networks."""

    def __init__(self, find: Callable[[], tuple[str, float]]) -> None:
        self._find = find
        self._token, self._expires = "", 0.0
        self._seen: tuple[str, ...] = ()
        self._renewing: asyncio.Task[None] | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._seen

    async def headers(self, method: str, url: str, body: bytes) -> dict[str, str]:
        if time.time() > self._expires - SECONDS_BEFORE_EXPIRY:
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.create_task(self._renew())
            await asyncio.shield(self._renewing)  # one renewal for all who wait
        return {"Authorization": f"Bearer {self._token}"}

    async def _renew(self) -> None:
        self._token, self._expires = await asyncio.to_thread(self._find)
        if self._token not in self._seen:
            self._seen = (*self._seen[-3:], self._token)


def _azure_token() -> tuple[str, float]:
    from azure.core.exceptions import AzureError, ServiceRequestError
    from azure.identity import DefaultAzureCredential

    try:
        with DefaultAzureCredential() as credential:
            found = credential.get_token(AZURE_SCOPE)
    except ServiceRequestError as error:
        raise _problem("connection", "Azure's log-in cannot be reached", error) from None
    except AzureError as error:
        raise _problem(
            "key", "no log-in of Azure is found (set AZURE_OPENAI_API_KEY, or run az login)", error
        ) from None
    return found.token, float(found.expires_on)


def _google_token() -> tuple[str, float]:
    import google.auth
    from google.auth.exceptions import GoogleAuthError, TransportError
    from google.auth.transport.requests import Request

    try:
        credentials, _ = google.auth.default(scopes=[GOOGLE_SCOPE])
        credentials.refresh(Request())
    except TransportError as error:
        raise _problem("connection", "Google's log-in cannot be reached", error) from None
    except GoogleAuthError as error:
        raise _problem(
            "key", "no log-in of Google Cloud is found (run gcloud auth application-default login)", error
        ) from None
    expiry = credentials.expiry  # UTC without a zone, or None for a token that does not say
    return str(credentials.token), time.time() + 600.0 if expiry is None else _timestamp(expiry)


def _timestamp(expiry: Any) -> float:
    from datetime import UTC

    return float(expiry.replace(tzinfo=UTC).timestamp())


class AwsCredentials:
    """Signature Version 4 over method, path, headers and body, made by botocore with the account that it finds."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._found: Any = None
        self._seen: tuple[str, ...] = ()

    @property
    def secrets(self) -> tuple[str, ...]:
        return self._seen

    async def headers(self, method: str, url: str, body: bytes) -> dict[str, str]:
        return await asyncio.to_thread(self._sign, method, url, body)

    def _sign(self, method: str, url: str, body: bytes) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            if self._found is None:
                self._found = Session().get_credentials()
            if self._found is None:
                raise Problem(
                    "key", "no account of AWS is found (set AWS_PROFILE, or AWS_ACCESS_KEY_ID and its secret)"
                )
            frozen = self._found.get_frozen_credentials()  # renews what expires
        except BotoCoreError as error:
            raise _problem("key", "no account of AWS is found", error) from None
        used = tuple(text for text in (frozen.secret_key, frozen.token) if text)
        if not set(used) <= set(self._seen):
            self._seen = (*self._seen[-6:], *used)
        request = AWSRequest(method=method, url=url, data=body, headers={"Content-Type": "application/json"})
        SigV4Auth(frozen, "bedrock", self._region).add_auth(request)
        return {name: value for name, value in request.headers.items() if name.lower() != "content-type"}


def aws_region(base_url: str) -> str:
    """The region that requests to an address are signed for: the one in its name, else the environment's."""
    host = urlsplit(base_url).hostname or ""
    if found := re.match(r"bedrock-runtime(?:-fips)?\.([a-z0-9-]+)\.", host):
        return found[1]
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
    if not region:
        raise InputError(
            "the region of Bedrock is not known",
            where="AWS_REGION",
            fix="Set AWS_REGION, or give the address with distill.base_url.",
        )
    return region


def _problem(kind: Any, what: str, error: Exception) -> Problem:
    """The library's own reason, in one line. It may quote an address, never a secret."""
    return Problem(kind, f"{what}: {' '.join(str(error).split())[:300]}")
