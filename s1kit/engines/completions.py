"""The engine `completions:`: any OpenAI-style completions server, driven segment by segment.

    completions:http://localhost:8000/v1#qwen2.5-s1                       the tokenizer is found under the model's name
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint     or given
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint,context_tokens=4096,max_batch=4,kind=llama.cpp
    completions:http://a:8000/v1|http://b:8000/v1#model                   several servers of one model
    completions:@servers.txt#model                                        their URLs, one a line

A blocking adapter of `s1kit.completions`: one event loop in a thread of its own decodes all requests. Where the server
takes token ids and returns them (vLLM), ids cross every seam and the generation is exact: `seam` is `ids`. Elsewhere
(llama.cpp's server, transformers serve) text is tokenised again, and token boundaries may move at a seam: `text`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from s1kit.completions.capabilities import DIALECTS, Capabilities, Seam, neutral_settings
from s1kit.completions.client import CompletionsServer
from s1kit.completions.decoding import decode
from s1kit.completions.discovery import Identity, discover, identify
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import GONE, Farm, Member
from s1kit.completions.protocol import CompletionSettings
from s1kit.completions.roster import follow, read_urls, refuse_stranger
from s1kit.engines.base import OnSegment, PlanningEngine
from s1kit.errors import InputError, nearest
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import ThinkingFormat, load_format
from s1kit.forcing.plain_text import CUT, guarded
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer, find_folder
from s1kit.forcing.transcript import Transcript
from s1kit.progress import say
from s1kit.records import Generation, Segment

KEY_VARIABLE = "S1KIT_COMPLETIONS_KEY"
"""Environment variable with the server's key, where it wants one."""
_NUM_TRIES = 3
"""Attempts at one completion whose failure may pass and that has returned nothing."""
_RETRY_SECONDS = 0.5
"""Before the second try; twice as long before the third."""


_News = tuple[int, Segment] | Generation | None
"""A segment to show, a generation, or the end of all of them."""


class _Elsewhere(Exception):
    """A request is to be begun again at another server."""


class _Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="s1kit-completions", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    @property
    def is_closed(self) -> bool:
        return self._loop.is_closed()

    def close(self) -> None:
        """Stop the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class CompletionsEngine(PlanningEngine):
    """One or several servers of a model, and how to talk to them."""

    farm: Farm
    model: str
    """Its name there."""
    capabilities: Capabilities
    tokens: TokenFormat
    context_tokens: int
    num_parallel: int = 32
    """Requests under way at once, at each server; it batches them."""
    loop: _Loop = field(default_factory=_Loop)

    @property
    def mode(self) -> Seam:
        """What crosses the seams: token ids, or text."""
        return self.capabilities.seam

    def plan(self, request: Request) -> Plan:
        """The request, resolved; InputError when it cannot be honoured."""
        dialect = self.capabilities.dialect
        if request.temperature and request.top_k and "top_k" not in dialect.features:
            raise InputError(
                f"top_k is {request.top_k}, and whether a server of kind {dialect.name} heeds it is not known",
                where="request.top_k",
                fix="Leave it out, use top_p, or say what the server is: ,kind=vllm, sglang or llama.cpp.",
            )
        turns = [turn["content"] for turn in request.messages if turn["role"] != "assistant"]
        texts = [request.question, request.system or "", *turns]
        if self.mode == "text" and any(CUT in guarded(self.tokenizer, self.format.delimiters, text) for text in texts):
            raise InputError(
                "the question spells a special token of the model, and this server, which takes text, would read it so",
                where="request.question",
                fix="Write it another way, or use a server that takes token ids (vLLM), or an engine in this process.",
            )
        return super().plan(request)

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish; a request that the server fails is a generation that says why."""
        plans = [self.plan(r) for r in requests]
        news: SimpleQueue[_News] = SimpleQueue()
        running = self.loop.submit(self._decode_all(plans, news, on_segment is not None))
        try:
            while (new := news.get()) is not None:
                if isinstance(new, Generation):
                    yield new
                elif on_segment is not None:
                    on_segment(*new)
            running.result()
        finally:
            running.cancel()

    def close(self) -> None:
        """Close the connections and the thread."""
        _close(self.farm, self.loop)

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """What each server did (see `Farm.figures`)."""
        return self.farm.figures()

    def _capacity(self, is_streamed: bool) -> int:
        """Requests under way at one server: one where they would disturb each other.

        transformers serve has one random number generator for all. llama-cpp-python's server breaks off a stream when
        another request comes.
        """
        is_alone = self.capabilities.dialect.name == "transformers" or (is_streamed and self.mode == "text")
        return 1 if is_alone else self.num_parallel

    async def _decode_all(self, plans: list[Plan], news: SimpleQueue[_News], is_streamed: bool) -> None:
        waiting = iter(enumerate(plans))
        self.farm.capacity = self._capacity(is_streamed)
        workers: set[asyncio.Task[None]] = set()

        async def work() -> None:
            for index, plan in waiting:
                news.put(await self._decode_one(index, plan, news if is_streamed else None))

        def hire(num_servers: int = 1) -> None:
            num = min(self.farm.capacity * num_servers, len(plans))
            workers.update(asyncio.create_task(work()) for _ in range(num))

        hire(len(self.farm.members))
        self.farm.on_join.append(hire)
        try:
            while workers:  # those that are hired meanwhile are waited for in the next turn
                done, _ = await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                workers -= done
                for task in done:
                    task.result()
        finally:
            self.farm.on_join.remove(hire)
            for task in workers:
                task.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
            news.put(None)

    async def _decode_one(self, index: int, plan: Plan, news: SimpleQueue[_News] | None) -> Generation:
        """One request; one that its server fails is begun again at another, where there is one."""
        tries = 2 * len(self.farm.members)
        while True:
            tries -= 1
            try:
                async with self.farm.place(plan.prompt_ids) as member:
                    return await self._decode_at(member, index, plan, news, is_last=tries <= 0)
            except ServerFailed as failure:
                return self._failed(plan, failure, [])
            except _Elsewhere:
                continue

    async def _decode_at(
        self, member: Member, index: int, plan: Plan, news: SimpleQueue[_News] | None, is_last: bool
    ) -> Generation:
        """One request at one server. Raises _Elsewhere where the server is gone and another one should be asked."""
        settings = CompletionSettings(neutral_settings(self.capabilities.dialect, plan.request))
        # Ids are always streamed, so that thinking that repeats itself is broken off.
        in_events = news is not None or self.mode == "ids"
        is_alone = len(self.farm.members) == 1
        delays = tuple(_RETRY_SECONDS * 2**n for n in range(_NUM_TRIES - 1)) if is_alone else ()
        work = decode(
            member.server, self.capabilities, self.model, plan, settings, in_events=in_events, retry_after=delays
        )
        came: list[Segment] = []
        try:
            async with aclosing(work) as pieces:
                async for piece in pieces:
                    if isinstance(piece, Generation):
                        member.done += 1
                        member.tokens += piece.thinking_tokens + piece.answer_tokens
                        return piece
                    came.append(Segment.of_ids(piece.origin, piece.kind, piece.text, piece.ids))
                    if news is not None:
                        news.put((index, came[-1]))
        except ServerFailed as failure:
            if not is_alone and failure.kind in GONE:
                self.farm.leave_out(member, failure)
                # What was shown cannot be taken back.
                if not is_last and not (came and news is not None):
                    raise _Elsewhere from failure
            else:
                member.failed += 1
            return self._failed(plan, failure, came)
        raise AssertionError("decode ends with a generation")

    def _failed(self, plan: Plan, failure: ServerFailed, came: list[Segment]) -> Generation:
        """A generation that keeps what came and says why there is no more."""
        said = f": {failure.said}" if failure.said and failure.said not in str(failure) else ""
        update = {"ending": "failed", "note": f"{failure}{said}"[:500], "seam": self.mode}
        return Transcript(plan).generation().model_copy(update=update | {"segments": _merged(came)})


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
    folder = find_folder(tokenizer or model)
    files = FileTokenizer(folder)
    tokens = TokenFormat(choose_format(format, load_format(folder), files, template), files, files.more_eos_ids)
    num_parallel = num_parallel or max_batch or 32
    key = os.environ.get(KEY_VARIABLE) or None
    urls = read_urls(url, where)
    members = [Member(CompletionsServer(one, key, timeout), Identity(model), listed_as=one) for one in urls]
    farm = Farm(members, timeout, say=say)
    loop = _Loop()
    try:
        work = _connect_all(farm, model, tokens, kind, where)
        identity, capabilities = loop.submit(work).result()
        if url.startswith("@"):

            async def join(one: str) -> Member:
                server = CompletionsServer(one, key, timeout)
                try:
                    found = await _connect(server, model, tokens, kind, where)
                    refuse_stranger(server, *found, farm.members[0], capabilities, where)
                except BaseException:
                    await server.close()
                    raise
                return Member(server, found[0], listed_as=one)

            async def watch() -> None:
                farm.watch(follow(farm, url, join))

            loop.submit(watch()).result()
        context = context_tokens or identity.context_tokens or files.model_max_length or 0
        if not 0 < context < 10**8:
            raise InputError(
                "neither the server nor the tokenizer says how long the context is",
                where=where,
                fix=f"Give it: {where},context_tokens=4096 (or what the server was started with).",
            )
        return CompletionsEngine(farm, model, capabilities, tokens, int(context), num_parallel, loop)
    except ServerFailed as failure:
        _close(farm, loop)
        fix = "Start the server, or check the URL (it usually ends in /v1)."
        if failure.kind == "unauthorised":
            fix = f"Put the server's key into the environment variable {KEY_VARIABLE}."
        raise InputError(f"the server does not answer: {failure}", where=where, fix=fix) from failure
    except InputError:
        _close(farm, loop)
        raise


async def _connect_all(
    farm: Farm, model: str, tokens: TokenFormat, kind: str | None, where: str
) -> tuple[Identity, Capabilities]:
    """What all servers are; InputError, naming the server, where one is not what the first one is."""
    found = [await _connect(member.server, model, tokens, kind, where) for member in farm.members]
    identity, capabilities = found[0]
    for member, (other, others) in zip(farm.members, found, strict=True):
        member.identity = other
        refuse_stranger(member.server, other, others, farm.members[0], capabilities, where)
    return identity, capabilities


async def _connect(
    server: CompletionsServer, model: str, tokens: TokenFormat, kind: str | None, where: str
) -> tuple[Identity, Capabilities]:
    # A server may take a name that it does not list (an adapter, an alias); the probe decides.
    identity = await identify(server, model)
    return identity, await discover(server, identity, tokens, None if kind == "auto" else kind, where)


def _close(farm: Farm, loop: _Loop) -> None:
    if not loop.is_closed:
        loop.submit(farm.close()).result(10)
        loop.close()


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


def _merged(segments: list[Segment]) -> tuple[Segment, ...]:
    """Neighbours of one kind and origin as one."""
    merged: list[Segment] = []
    for s in segments:
        last = merged[-1] if merged else None
        if last is not None and (last.kind, last.origin) == (s.kind, s.origin):
            merged[-1] = Segment.of_ids(s.origin, s.kind, last.text + s.text, (*last.token_ids, *s.token_ids))
        else:
            merged.append(s)
    return tuple(merged)
