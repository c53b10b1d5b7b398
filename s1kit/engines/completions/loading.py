"""Connecting to `<base URL>#<model>`: the tokenizer, the servers, what they are and what they can do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.completions.capabilities import DIALECTS, Capabilities
from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity, discover, identify
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import Farm, Member
from s1kit.completions.roster import follow, read_urls, refuse_stranger
from s1kit.engines.completions.engine import CompletionsEngine, EngineLoop, close_farm
from s1kit.engines.gguf.unpacking import tokenizer_folder
from s1kit.errors import InputError, nearest
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import ThinkingFormat, load_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.progress import say

KEY_VARIABLE = "S1KIT_COMPLETIONS_KEY"
"""Environment variable with the server's key, where it wants one."""


def load(
    address: str,
    format: str | ThinkingFormat | None = None,
    tokenizer: str | None = None,
    context_tokens: int | None = None,
    kind: str | None = None,
    num_parallel: int | None = None,
    timeout: float = 600.0,
    max_batch: int | None = None,
    template: Mapping[str, Any] | None = None,
) -> CompletionsEngine:
    """Connect to `<base URL>#<model>`.

    `kind`: a name of `DIALECTS`; None asks the server. `timeout`: longest wait for a token, in seconds. `max_batch` is
    another name of `num_parallel`, requests under way at once. Raises InputError.
    """
    where = f"completions:{address}"
    url, model = _parse(address)
    if kind is not None and kind not in (*DIALECTS, "auto"):
        raise InputError(f"unknown kind {kind!r}", where=where, fix=nearest(kind, (*DIALECTS, "auto")))
    folder = tokenizer_folder(tokenizer or model)
    files = FileTokenizer(folder)
    tokens = TokenFormat(choose_format(format, load_format(folder), files, template), files, files.more_eos_ids)
    key = os.environ.get(KEY_VARIABLE) or None
    connector = _Connector(model, tokens, None if kind == "auto" else kind, key, timeout, where)
    members = [Member(connector.server(one), Identity(model), listed_as=one) for one in read_urls(url, where)]
    farm = Farm(members, timeout, say=say)
    loop = EngineLoop()
    try:
        identity, capabilities = loop.submit(connector.connect_all(farm)).result()
        if url.startswith("@"):
            loop.submit(connector.follow(farm, url, capabilities)).result()
        context = context_tokens or identity.context_tokens or files.model_max_length or 0
        if not 0 < context < 10**8:
            raise InputError(
                "neither the server nor the tokenizer says how long the context is",
                where=where,
                fix=f"Give it: {where},context_tokens=4096 (or what the server was started with).",
            )
        num_parallel = num_parallel or max_batch or 32
        return CompletionsEngine(farm, model, capabilities, tokens, int(context), num_parallel, loop)
    except ServerFailed as failure:
        close_farm(farm, loop)
        fix = "Start the server, or check the URL (it usually ends in /v1)."
        if failure.kind == "unauthorised":
            fix = f"Put the server's key into the environment variable {KEY_VARIABLE}."
        raise InputError(f"the server does not answer: {failure}", where=where, fix=fix) from failure
    except InputError:
        close_farm(farm, loop)
        raise


@dataclass(frozen=True)
class _Connector:
    """How the servers of one engine are reached, and what all of them must be."""

    model: str
    tokens: TokenFormat
    kind: str | None
    key: str | None
    timeout: float
    where: str

    def server(self, url: str) -> CompletionsServer:
        return CompletionsServer(url, self.key, self.timeout)

    async def connect_all(self, farm: Farm) -> tuple[Identity, Capabilities]:
        """What all servers are; InputError, naming the server, where one is not what the first one is."""
        found = [await self._connect(member.server) for member in farm.members]
        identity, capabilities = found[0]
        for member, (other, others) in zip(farm.members, found, strict=True):
            member.identity = other
            refuse_stranger(member.server, other, others, farm.members[0], capabilities, self.where)
        return identity, capabilities

    async def follow(self, farm: Farm, roster: str, capabilities: Capabilities) -> None:
        """Let servers that come onto the roster join the farm, from now on."""

        async def join(url: str) -> Member:
            server = self.server(url)
            try:
                found = await self._connect(server)
                refuse_stranger(server, *found, farm.members[0], capabilities, self.where)
            except BaseException:
                await server.close()
                raise
            return Member(server, found[0], listed_as=url)

        farm.watch(follow(farm, roster, join))

    async def _connect(self, server: CompletionsServer) -> tuple[Identity, Capabilities]:
        # A server may take a name that it does not list (an adapter, an alias); the probe decides.
        identity = await identify(server, self.model)
        return identity, await discover(server, identity, self.tokens, self.kind, self.where)


def _parse(address: str) -> tuple[str, str]:
    """URL and model."""
    url, _, model = address.partition("#")
    if not url.startswith(("http://", "https://", "@")) or not model:
        raise InputError(
            f"{address!r} is not <base URL>#<model>",
            where=f"completions:{address}",
            fix="Write for example completions:http://localhost:8000/v1#my-model,tokenizer=./checkpoint",
        )
    return url.rstrip("/"), model
