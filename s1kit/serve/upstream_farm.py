"""Several completions servers of one model as a backend: the least busy is asked, a dead one is left out.

A request that its server fails before it brought anything is begun again at another. Connections, lists and identities
are those of the engine `completions:`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import discover, identify
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import GONE, Farm, Member
from s1kit.completions.roster import follow, refuse_stranger
from s1kit.serve.decoding import Delta, End, Job
from s1kit.serve.logs import log
from s1kit.serve.upstream import Upstream, refusal

WAIT_SECONDS = 5.0
"""A request waits so long for a server to come back where all are out."""


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


async def make_farm(
    first: Upstream, given: str, urls: Sequence[str], key: str | None, timeout: float, capacity: int
) -> UpstreamFarm:
    """The other servers of a list beside the first; a list that is a file is followed.

    Raises InputError for one that is not like the first, ServerFailed for one that does not answer.
    """
    member = Member(first.server, first.identity, listed_as=urls[0])
    farm = Farm([member], WAIT_SECONDS, capacity, lambda what: log("upstreams", said=what))

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
