"""Completions servers as a backend, one or several of one model: an async adapter of `s1kit.completions`.

Failures become refusals: 502 for a server that is down, dies, fails or talks nonsense, 504 for one that is silent, 429
for one that is full, 400 where it refuses the request itself, 503 where it serves another model than at the start.

Of several the least busy is asked and a dead one is left out. A request that its server fails before it brought
anything is begun again at another. Connections, lists and identities are those of the engine `completions:`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

from s1kit.adaptive.rule import ExitRule
from s1kit.completions.capabilities import Capabilities, Seam
from s1kit.completions.client import CompletionsServer
from s1kit.completions.decoding import decode
from s1kit.completions.discovery import Identity, list_models
from s1kit.completions.failure import FailureKind, ServerFailed
from s1kit.completions.farm import GONE, Farm
from s1kit.completions.protocol import CompletionSettings
from s1kit.errors import InputError
from s1kit.forcing.request import Sampling
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation
from s1kit.serve.decoding import Delta, End, Job
from s1kit.serve.logs import log
from s1kit.serve.refusals import Refusal

_REFUSALS: dict[FailureKind, tuple[int, str]] = {
    "down": (502, "upstream_down"),
    "died": (502, "upstream_died"),
    "silent": (504, "upstream_silent"),
    "full": (429, "upstream_full"),
    "refused": (400, "upstream_refused"),
    "unauthorised": (502, "upstream_unauthorised"),
    "unknown_model": (503, "upstream_changed"),
    "failed": (502, "upstream"),
    "nonsense": (502, "upstream"),
}

CHECK_SECONDS = 5.0
"""What the server says of itself is asked again before a request that comes so long after the last time, or later."""
_CHECK_TIMEOUT = 2.0
"""Seconds that such a request waits for it at most."""
_IN_DOUBT: frozenset[FailureKind] = frozenset({"down", "died", "silent", "unknown_model"})
"""Failures after which the server may come back as another."""


class Upstream:
    """Decodes jobs by asking a completions server, segment by segment."""

    rule: ExitRule | None = None

    def __init__(
        self,
        server: CompletionsServer,
        model: str,
        tokens: TokenFormat,
        context_tokens: int,
        capabilities: Capabilities,
        identity: Identity | None = None,
    ) -> None:
        """`model`: the name on our wire. `identity`: what the server said of itself; None: its model is `model`."""
        self.server = server
        self.identity = identity or Identity(model)
        self.model = model
        self.tokens = tokens
        self.context_tokens = context_tokens
        self.capabilities = capabilities
        self.features = capabilities.dialect.features
        self.sampling = Sampling()
        self._trouble = ""
        """Set while the server is known to be another than the one that was connected to."""
        self.reconnect: Callable[[], Awaitable[Upstream]] | None = None
        """Connects to what the server is now; None: it must stay what it was."""
        self._checked_at = -math.inf
        self._checking: asyncio.Task[str] | None = None

    @property
    def seam(self) -> Seam:
        return self.capabilities.seam

    async def check(self) -> str:
        """Empty when the server answers and is still what it was at the start, else what is wrong.

        With `reconnect`, a server that has become another is connected to as that.
        """
        self._checked_at = asyncio.get_running_loop().time()
        try:
            if not self.identity.is_listed:
                await self._check_health()
                return ""
            listed = await list_models(self.server)
            if self.capabilities.dialect.name == "vllm":
                # Its model list is answered by the front end even when the engine behind it is dead.
                await self._check_health()
        except ServerFailed as failure:
            return str(failure)
        found = next((i for i in listed if i.model == self.identity.model), None)
        if found is None:
            self._trouble = f"the server {self.server.url} does not serve {self.identity.model} any more"
        elif difference := self.identity.difference(found):
            self._trouble = f"the server {self.server.url} has changed: {difference}"
        else:
            self._trouble = ""
        if not self._trouble:
            return ""
        if self.reconnect is None:
            return f"{self._trouble}. Restart s1kit serve to connect to what it is now, or start it with --reconnect."
        return await self._become_what_it_is(self.reconnect)

    async def _become_what_it_is(self, reconnect: Callable[[], Awaitable[Upstream]]) -> str:
        try:
            found = await reconnect()
        except (ServerFailed, InputError) as error:
            return f"{self._trouble}, and connecting to it as that failed: {error}"
        log("upstream reconnected", level=30, was=self.identity.model, why=self._trouble)
        self.identity, self.model, self.tokens = found.identity, found.model, found.tokens
        self.context_tokens, self.capabilities, self.features = found.context_tokens, found.capabilities, found.features
        self._trouble = ""
        return ""

    async def _check_when_due(self) -> None:
        """Check before a request, now and then and after a failure; requests that come meanwhile wait for the same."""
        if asyncio.get_running_loop().time() - self._checked_at < CHECK_SECONDS:
            return
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self.check())
        # A server that is slow to list its models may still decode.
        await asyncio.wait((self._checking,), timeout=_CHECK_TIMEOUT)

    async def _check_health(self) -> None:
        try:
            await self.server.get("/health")
        except ServerFailed as failure:
            if failure.kind != "unknown_model":
                raise

    async def close(self) -> None:
        if self._checking is not None:
            self._checking.cancel()
        await self.server.close()

    async def decode(self, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        """Deltas as they come, then the end. Raises Refusal."""
        await self._check_when_due()
        if self._trouble:
            raise Refusal(503, f"{self._trouble}.", code="upstream_changed")
        if job.plan.tokens.tokenizer is not self.tokens.tokenizer:
            what = "the upstream has become another model while this request was read. Send it again."
            raise Refusal(503, what, code="upstream_changed", headers={"Retry-After": "1"})
        try:
            async with aclosing(self.decode_at(self.server, job)) as news:
                async for one in news:
                    yield one
        except ServerFailed as failure:
            if failure.kind in _IN_DOUBT:
                self._checked_at = -math.inf
            raise refusal(failure) from failure

    async def decode_at(self, server: CompletionsServer, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        """Decode a job at one server. Raises ServerFailed."""
        settings = CompletionSettings(job.sampling, job.logprobs, job.response_format)
        work = decode(
            server,
            self.capabilities,
            self.identity.model,
            job.plan,
            settings,
            ends_thinking=lambda: job.stop.is_asked,
        )
        async with aclosing(work) as pieces:
            async for piece in pieces:
                if isinstance(piece, Generation):
                    is_cut = piece.answer_finish in ("length", "loop", "none")
                    ending = piece.ending if job.plan.thinks else None
                    yield End(ending, "length" if is_cut else "stop", self.seam, piece.answer_finish == "stop_string")
                else:
                    yield [Delta(piece.kind, piece.origin, piece.text, len(piece.ids), piece.logprobs)]


class UpstreamFarm(Upstream):
    """Decodes jobs by asking one of several servers, all of them like the first."""

    def __init__(self, first: Upstream, farm: Farm) -> None:
        super().__init__(
            first.server, first.model, first.tokens, first.context_tokens, first.capabilities, first.identity
        )
        self.farm = farm

    async def check(self) -> str:
        """Empty while any server is in: the farm itself asks those that are out whether they are back."""
        members = [member for member in self.farm.members if not member.is_gone]
        return "" if any(member.takes_work for member in members) else f"none of {len(members)} servers answers"

    async def close(self) -> None:
        await self.farm.close()

    async def decode(self, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        """Deltas as they come, then the end. Raises Refusal."""
        try:
            for tries in range(2 * len(self.farm.members), 0, -1):
                has_begun = False
                async with self.farm.place(job.plan.prompt_ids) as member:
                    try:
                        async with aclosing(self.decode_at(member.server, job)) as news:
                            async for one in news:
                                has_begun = True
                                yield one
                        member.done += 1
                        return
                    except ServerFailed as failure:
                        if failure.kind in GONE:
                            self.farm.leave_out(member, failure)
                        if failure.kind not in GONE or has_begun or tries == 1:
                            raise
        except ServerFailed as failure:
            raise refusal(failure) from failure


def refusal(failure: ServerFailed) -> Refusal:
    """What a client is told; what the server wrote goes to the log."""
    status, code = _REFUSALS[failure.kind]
    if failure.said:
        log("upstream failed", level=30, code=code, said=failure.said)
    headers = {"Retry-After": str(failure.retry_seconds or 1)} if status == 429 else {}
    return Refusal(status, f"{failure}.", code=code, headers=headers)
