"""The list of a farm's servers: as a reference states it, or a file that may change while requests run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from s1kit.completions.capabilities import Capabilities
from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import Farm, Member
from s1kit.errors import InputError

SECONDS_BETWEEN_LOOKS = 2.0
"""Between two looks at a list that is a file."""


def read_urls(given: str, where: str) -> list[str]:
    """The base URLs of a reference: separated by `|`, or the lines of a file after `@`. Raises InputError."""
    if given.startswith("@"):
        try:
            lines = Path(given[1:]).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the list of servers cannot be read: {error}", where=where, fix="Name a file.") from error
        urls = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    else:
        urls = given.split("|")
    urls = [url.rstrip("/") for url in urls]
    wrong = [url for url in urls if not url.startswith(("http://", "https://"))]
    repeated = sorted({url for url in urls if urls.count(url) > 1})
    if not urls or wrong or repeated:
        what = (
            f"{wrong[0]!r} is no URL"
            if wrong
            else f"{repeated[0]} is named twice"
            if repeated
            else "no server is named"
        )
        raise InputError(what, where=where, fix="Name each server once, as http://host:port/v1.")
    return urls


async def follow(farm: Farm, given: str, connect: Callable[[str], Awaitable[Member]]) -> None:
    """Look at a list that is a file again and again, and let servers join and leave the farm as it says. Never ends.

    `connect` gives a new server, or raises InputError or ServerFailed where it is not like the others: then it is told,
    and tried again at the next change. A list that cannot be read changes nothing.
    """
    path = Path(given[1:])
    seen = file_state(path)
    listed = {member.listed_as: member for member in farm.members}
    while True:
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        if (now := file_state(path)) == seen:
            continue
        seen = now
        try:
            urls = read_urls(given, str(path))
        except InputError as error:
            farm.say(f"{error} The servers stay as they were.")
            continue
        for url in [url for url in listed if url not in urls]:
            farm.remove(listed.pop(url))
        for url in [url for url in urls if url not in listed]:
            try:
                listed[url] = await connect(url)
            except (InputError, ServerFailed) as error:
                farm.say(f"{url} does not join: {error}")
                continue
            farm.add(listed[url])


def refuse_stranger(
    server: CompletionsServer,
    identity: Identity,
    takes: Capabilities,
    first: Member,
    capabilities: Capabilities,
    where: str,
) -> None:
    """Raises InputError where a server is not what the first one is."""
    difference = first.identity.difference(identity)
    if not difference and takes != capabilities:
        difference = f"what it takes was {capabilities.dialect.name} and is {takes.dialect.name}"
    if difference:
        raise InputError(
            f"{server.url} is not the same as {first.url}: {difference}",
            where=where,
            fix="Name servers of one model, started alike.",
        )


def file_state(path: Path) -> tuple[int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
