"""Connects to the upstreams at start-up: finds out their model, kind and context, and loads the tokenizer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence

from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity, choose, discover, identify, list_models
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import Farm, Member
from s1kit.completions.roster import follow, read_urls, refuse_stranger
from s1kit.engines.gguf.unpacking import tokenizer_folder
from s1kit.engines.references import read_switches
from s1kit.errors import InputError, WorkFailed
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import load_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.serve.logs import log
from s1kit.serve.options import Options
from s1kit.serve.upstream import Upstream, UpstreamFarm

FARM_WAIT_SECONDS = 5.0
"""A request waits so long for a server to come back where all are out."""


async def connect(options: Options) -> Upstream:
    """The upstream that the options name, asked what it is. Raises InputError, or WorkFailed when it is not there."""
    url = options.upstream or ""
    if not url.startswith(("http://", "https://", "@")):
        raise InputError(f"{url!r} is not a URL", where="--upstream", fix="Give one such as http://127.0.0.1:8001")
    urls, key = read_urls(url, "--upstream"), _key(options)
    is_farm = url.startswith("@") or len(urls) > 1
    if is_farm and options.reconnect:
        raise InputError(
            "several upstreams stay what they were: one that becomes another model is left out",
            where="--reconnect",
            fix="Leave it out, or name one upstream.",
        )
    server = CompletionsServer(urls[0], key, options.upstream_timeout)
    try:
        upstream = await _connected(server, options)
        if is_farm:
            return await _make_farm(upstream, url, urls, key, options.upstream_timeout, options.max_running)
    except ServerFailed as failure:
        await server.close()
        fix = "Start the upstream first, or correct --upstream."
        if failure.kind == "unauthorised":
            fix = "Name the environment variable that holds its key: --upstream-key-env NAME."
        raise WorkFailed(str(failure), fix=fix) from failure
    except InputError:
        await server.close()
        raise
    if options.reconnect:
        upstream.reconnect = lambda: _connected(server, options)
    return upstream


async def _connected(server: CompletionsServer, options: Options) -> Upstream:
    def refuse(what: str, fix: str) -> InputError:
        where = "--upstream" if what == "lists no models" else "--upstream-model"
        return InputError(f"{server.url} {what}", where=where, fix=fix)

    wanted = options.upstream_model
    identity = await identify(server, wanted) if wanted else Identity("")
    if not identity.is_listed:
        try:
            identity = choose(await list_models(server), wanted, refuse)
        except ServerFailed as failure:
            if failure.kind in ("down", "silent", "unauthorised", "full"):
                raise
            if wanted is None:
                raise refuse(f"does not list its models ({failure})", "Name the one to use.") from failure
    # Reading a large vocabulary takes a second, in which others are served where this is a reconnection.
    tokens = await asyncio.to_thread(_load_tokens, options, identity)
    context = options.context or identity.context_tokens
    if context is None:
        raise InputError(
            f"the upstream does not say how long the context of {identity.model} is",
            where="--context",
            fix="Give the number of tokens that it was started with.",
        )
    kind = None if options.upstream_kind == "auto" else options.upstream_kind
    capabilities = await discover(server, identity, tokens, kind, "--upstream-kind")
    log(
        "upstream",
        url=server.url,
        kind=capabilities.dialect.name,
        model=identity.model,
        context=context,
        thinking_format=tokens.format.name,
    )
    return Upstream(server, options.name or identity.model, tokens, context, capabilities, identity)


async def _make_farm(
    first: Upstream, given: str, urls: Sequence[str], key: str | None, timeout: float, capacity: int
) -> UpstreamFarm:
    """The other servers of a list beside the first; a list that is a file is followed.

    Raises InputError for one that is not like the first, ServerFailed for one that does not answer.
    """
    member = Member(first.server, first.identity, listed_as=urls[0])
    farm = Farm([member], FARM_WAIT_SECONDS, capacity, lambda what: log("upstreams", said=what))

    async def join(url: str) -> Member:
        server = CompletionsServer(url, key, timeout)
        try:
            identity = await identify(server, first.identity.model)
            # What it says it is comes before how it is asked.
            refuse_stranger(server, identity, first.capabilities, member, first.capabilities, "--upstream")
            takes = await discover(server, identity, first.tokens, first.capabilities.dialect.name, "--upstream")
            refuse_stranger(server, identity, takes, member, first.capabilities, "--upstream")
        except BaseException:
            await server.close()
            raise
        return Member(server, identity, listed_as=url)

    try:
        for url in urls[1:]:
            farm.add(await join(url))
    except BaseException:
        await farm.close()
        raise
    if given.startswith("@"):
        farm.watch(follow(farm, given, join))
    return UpstreamFarm(first, farm)


def _load_tokens(options: Options, identity: Identity) -> TokenFormat:
    folder = tokenizer_folder(options.tokenizer or identity.root or identity.model)
    tokenizer = FileTokenizer(folder)
    form = choose_format(options.format, load_format(folder), tokenizer, read_switches(options.template))
    return TokenFormat(form, tokenizer, tokenizer.more_eos_ids)


def _key(options: Options) -> str | None:
    if options.upstream_key_env is None:
        return None
    key = os.environ.get(options.upstream_key_env)
    if not key:
        raise InputError(
            f"the environment variable {options.upstream_key_env} is not set",
            where="--upstream-key-env",
            fix="Set it to the key of the upstream.",
        )
    return key
