"""Whether servers can be reached: a connection is opened and closed again; no key and no question is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from s1kit.errors import InputError
from s1kit.providers.chat import Problem
from s1kit.providers.http import Http
from s1kit.providers.keys import Secret
from s1kit.providers.patience import REMEDY

SECONDS_FOR_CONTACT = 4.5
"""For all servers, which are tried side by side: what cannot be reached is named within five seconds."""


@dataclass(frozen=True)
class Servers:
    """The servers of one model that a recipe names: it can be asked while one of them is there."""

    urls: tuple[str, ...]
    where: str
    """The setting that names them."""
    by_proxy: bool = True
    """Whether requests to them go through the environment's proxy."""


def unreachable(named: Sequence[Servers]) -> list[InputError]:
    """Why no connection can be opened to any server of a model: address, name, TLS certificate, the proxy's answer."""

    async def run() -> list[InputError | None]:
        return await asyncio.gather(*map(_try_all, named))

    return [error for error in asyncio.run(run()) if error is not None] if named else []


async def _try_all(servers: Servers) -> InputError | None:
    found = await asyncio.gather(*(_try(url, servers) for url in servers.urls))
    return None if None in found else next(iter(found), None)


async def _try(url: str, servers: Servers) -> InputError | None:
    http = Http(url, {}, Secret(""), SECONDS_FOR_CONTACT, by_proxy=servers.by_proxy)
    try:
        async with asyncio.timeout(SECONDS_FOR_CONTACT), http:
            await http.connect()
    except InputError as error:
        return error
    except TimeoutError:
        problem = Problem("unreachable", f"no connection within {SECONDS_FOR_CONTACT:g} s")
    except Problem as met:
        problem = met
    else:
        return None
    fix = REMEDY.get(problem.kind, REMEDY["unreachable"])
    return InputError(f"{http.root} cannot be reached: {problem.text}", where=servers.where, fix=fix)
