"""Asks one chat model: from the journal where the request was paid before, else through cap, throttle and retries.

    async with open_client("chat:deepseek/deepseek-v4-pro", journal) as client:
        reply = await client.chat([{"role": "user", "content": "What is 2 + 2?"}])

The life of a request: its key is looked up in the journal; claimed, so that no other process asks it too; its highest
cost reserved; sent when the throttle lets it, again where that can help; the reply judged, committed with its cost, and
only then read.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from s1kit.errors import WorkFailed
from s1kit.journal import Entry, Journal, Via
from s1kit.providers.catalog import Model, find_model
from s1kit.providers.chat import (
    Call,
    ChatRequest,
    Message,
    Parameters,
    Problem,
    ProblemKind,
    Reply,
    Stopped,
    rough_usage,
)
from s1kit.providers.classify import is_plain_object, problem_in
from s1kit.providers.http import Answer, Http, to_json
from s1kit.providers.keys import Secret, find_key
from s1kit.providers.money import Price, price_of
from s1kit.providers.rate_limits import watch_queue
from s1kit.providers.spend_cap import Reservation, SpendCap
from s1kit.providers.throttle import Slot, Throttle, ThrottleSettings
from s1kit.providers.wires.reading import output_limit, read_reply
from s1kit.records import Usage

MAX_ATTEMPTS = 6
"""Sendings of one request that may fail; refusals for speed are counted apart."""
MAX_REFUSALS = 60
"""429s one request may get: the throttle learns from them, so many mean that it cannot."""
MAX_SECONDS_BETWEEN = 60.0
MAX_COMPLAINTS = 8
"""The same refusal so many times in a row, without an answer in between, stops the run."""
MAX_UNREACHED = 2
"""Failed connections after which a server that never answered is called unreachable."""


@dataclass
class Tally:
    """What happened to the requests of one client."""

    from_journal: int = 0
    paid: int = 0
    sent: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    """Failed sendings by kind, retried ones included."""
    finishes: Counter[str] = field(default_factory=Counter)


class Client:
    """An open client of one model. Use `open_client`."""

    def __init__(
        self,
        model: Model,
        journal: Journal,
        *,
        parameters: Parameters,
        secret: Secret,
        price: Price | None,
        spend_cap: SpendCap,
        throttle: Throttle,
        timeout_seconds: float = 1800.0,
    ) -> None:
        self.model, self.journal, self.parameters = model, journal, parameters
        self.spend_cap, self.throttle, self.tally = spend_cap, throttle, Tally()
        self.price = price
        self.http = Http(model.base_url, model.wire.headers(secret.reveal()), secret, timeout_seconds)
        self.only_journal = False
        """Whether to send nothing: a request that the journal does not know is a Problem."""
        self._asking: dict[str, asyncio.Future[Reply]] = {}
        self._complaints: Counter[str] = Counter()
        """Refusals since the last answer, by their text."""
        self._has_answered = False
        self._unreached = 0
        self._watcher: asyncio.Task[None] | None = None
        self._jitter = random.Random()

    async def __aenter__(self) -> Client:
        await self.http.__aenter__()
        if self.model.kind == "compatible":
            self._watcher = asyncio.create_task(watch_queue(self._metrics, self.throttle.queue_seen))
        return self

    async def _metrics(self) -> bytes:
        """What a server of the user's own publishes beside its API, such as vLLM's queue."""
        return (await self.http.get(self.model.base_url.removesuffix("/v1") + "/metrics")).raw

    async def __aexit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        await self.http.__aexit__()

    def request(self, messages: Sequence[Message], draw: int = 0) -> ChatRequest:
        return ChatRequest(self.model.provider, self.model.name, tuple(messages), self.parameters, draw)

    async def chat(self, messages: Sequence[Message], *, draw: int = 0) -> Reply:
        """The reply to a conversation; asked at most once, ever.

        Raises Problem when this request failed for good, Stopped when every request would (a wrong key, an unknown
        model, an empty account), CapReached before the cap would be overshot.
        """
        request = self.request(messages, draw)
        key = request.key
        if (asking := self._asking.get(key)) is not None:
            return await asyncio.shield(asking)
        if self.only_journal:
            if (entry := self.journal.get(key)) is not None:
                return self._recall(entry)
            raise Problem("server", "the batch brought no reply to this request")
        asking = self._asking[key] = asyncio.get_running_loop().create_future()
        try:
            reply = await self._ask(request, key)
        except Exception as error:
            asking.set_exception(error)
            asking.exception()  # whoever shares it need not look
            raise
        except BaseException:
            asking.cancel()
            raise
        finally:
            del self._asking[key]
        asking.set_result(reply)
        return reply

    async def _ask(self, request: ChatRequest, key: str) -> Reply:
        try:
            async with self._claim(key) as known:
                if known is not None:
                    return self._recall(known)
                self.journal.refuse_when_full()
                call = self.model.wire.call(request)
                most = self.spend_cap.most(request.max_input_tokens, output_limit(call.body))
                async with self.spend_cap.reservation(key, most) as reservation:
                    answer = await self._fetch(call, reservation)
                    return await self.keep(request, key, answer, "online", reservation)
        except Stopped:
            raise
        except WorkFailed as error:
            # The journal cannot take more. Whoever is in flight may still find room, and is not to be cancelled.
            raise Stopped(error.what, where=error.where, fix=error.fix) from error

    @asynccontextmanager
    async def _claim(self, key: str) -> AsyncIterator[Entry | None]:
        """The request is this process's alone meanwhile; yields the entry where the journal knows it already."""
        while not self.journal.claim(key):  # another process is asking it, or reading its reply
            if (entry := self.journal.get(key)) is not None:
                yield entry
                return
            await asyncio.sleep(0.3)
        try:
            yield self.journal.get(key)
        finally:
            self.journal.release(key)

    async def keep(
        self,
        request: ChatRequest | None,
        key: str,
        answer: Answer,
        via: Via,
        reservation: Reservation | None = None,
    ) -> Reply:
        """Write an answer down with its cost, then hand it out. `request` is None where only its key is known."""
        body, raw = answer.body, answer.raw if answer.body is not None and is_plain_object(answer.raw) else None
        if body is None:
            body = {"not_json": answer.raw.decode("utf-8", "backslashreplace")}
        reply = self.read(body)
        usage = reply.usage
        if not usage.output_tokens and not usage.input_tokens:
            usage = rough_usage(
                request.messages if request else (), reply.thinking + reply.answer + str(body.get("not_json", ""))
            )
            reply = replace(reply, usage=usage, note=_join(reply.note, "the server reported no usage; it is estimated"))
        cost = self.cost_of(reply, is_batch=via == "batch")
        if request is not None:
            self.spend_cap.saw_output(usage.output_tokens, request.parameters.max_output_tokens)
        entry = Entry.model_construct(
            key=key,
            provider=self.model.provider,
            model=self.model.name,
            via=via,
            created="",
            finish_reason=reply.finish_reason,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_usd=cost,
            request=request.content if request else {},
            reply=body,
        )
        charge = reservation.charge(cost) if reservation else self.spend_cap.paid_in_job(key, cost)
        await self.journal.commit(entry, request=request.canonical if request else None, reply=raw, charge=charge)
        if reservation is not None:
            reservation.settle(cost)
        self.tally.paid += 1
        self.tally.finishes[reply.finish_reason] += 1
        return replace(reply, cost_usd=cost)

    def cost_of(self, reply: Reply, *, is_batch: bool = False) -> float:
        """Dollars: as the provider reports them (OpenRouter), else by the price; 0 where that is unknown."""
        if self.price is None:
            return 0.0
        if reply.reported_cost_usd is not None and self.model.kind == "openrouter":
            return reply.reported_cost_usd
        return self.price.cost(reply.usage, is_batch=is_batch)

    def read(self, body: Mapping[str, Any]) -> Reply:
        """A body as a reply, whatever is wrong with it."""
        return read_reply(self.model.wire, body)

    def _recall(self, entry: Entry) -> Reply:
        """A reply from the journal: read anew from the body as it came, charged as it was."""
        self.tally.from_journal += 1
        reply = self.read(entry.reply)
        usage = reply.usage
        if not usage.input_tokens and not usage.output_tokens:
            usage = Usage(input_tokens=entry.input_tokens, output_tokens=entry.output_tokens)
            reply = replace(reply, note=_join(reply.note, "the server reported no usage; it is estimated"))
        return replace(reply, usage=usage, cost_usd=entry.cost_usd, was_paid_before=True)

    async def _fetch(self, call: Call, reservation: Reservation) -> Answer:
        """Send until there is an answer. Raises Problem after `MAX_ATTEMPTS`, Stopped when every request would fail."""
        body = to_json(call.body)
        failures = refusals = 0
        while True:
            try:
                return await self._fetch_once(call.path, body, reservation)
            except Problem as problem:
                self.tally.problems[problem.kind] += 1
                self._hear(problem, reservation)
                refusals += problem.kind == "rate"
                failures += problem.kind != "rate"
                if failures >= MAX_ATTEMPTS or refusals >= MAX_REFUSALS:
                    raise
                await self.throttle.pause(self._pause(problem, failures))

    async def _fetch_once(self, path: str, body: bytes, reservation: Reservation) -> Answer:
        """One sending in one slot of the throttle. Raises Problem for all that is no answer."""
        async with self._slot() as slot:
            self.tally.sent += 1
            reservation.may_be_charged = True  # until it is known how it went
            try:
                answer = await self.http.post(path, body)
                if (problem := problem_in(answer.body, answer.raw)) is not None:
                    problem.text = self.http.hide(problem.text)
                    raise problem
            except Problem:
                reservation.may_be_charged = False
                raise
            self.throttle.succeeded(slot, _tokens_of(answer.body), answer.headers)
            self._complaints.clear()
            self._has_answered = True
            return answer

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[Slot]:
        """A place in flight; the throttle hears of a sending that failed."""
        slot = await self.throttle.enter()
        try:
            yield slot
        except Problem as problem:
            if problem.kind == "rate":
                self.throttle.refused(slot, problem.retry_after)
            elif problem.retriable:
                self.throttle.failed(slot, str(problem), problem.retry_after)
            else:
                self.throttle.forget(slot)
            raise
        except BaseException:
            self.throttle.forget(slot)
            raise

    def _hear(self, problem: Problem, reservation: Reservation) -> None:
        """Count what may have been charged; raise what another attempt cannot mend, or what stops the run."""
        if problem.may_be_charged:
            reservation.count_lost()
        if problem.kind == "unreachable" and not self._has_answered:
            self._unreached += 1
            if self._unreached > MAX_UNREACHED or "in time" in problem.text:
                raise self._stopped(f"{self.model.provider} cannot be reached: {problem.text}", problem)
        if problem.retriable:
            return
        if not problem.is_of_this_request:
            raise self._stopped(f"{self.model.provider} refuses every request: {problem}", problem)
        # One bad question is a row; the same complaint about question after question is a wrong setting or account.
        self._complaints[problem.text] += 1
        if self._complaints[problem.text] >= MAX_COMPLAINTS:
            raise self._stopped(
                f"{self.model.provider} refused {MAX_COMPLAINTS} requests in a row alike: {problem}", problem
            )
        raise problem

    def _stopped(self, what: str, problem: Problem) -> Stopped:
        stop = Stopped(what, where=self.model.reference, fix=_REMEDY[problem.kind])
        stop.__cause__ = problem
        self.throttle.give_up(stop)
        return stop

    def _pause(self, problem: Problem, failures: int) -> float:
        if problem.kind == "rate":
            return self._jitter.uniform(0.0, 0.05)  # the throttle holds it back
        longest = min(MAX_SECONDS_BETWEEN, 0.5 * 2.0**failures)
        return self._jitter.uniform(longest / 4, longest)  # a Retry-After closes the throttle, for everybody


_REMEDY: dict[ProblemKind, str] = {
    "key": "Check the key (s1kit doctor shows which is set), then run the same command again.",
    "model": "Check the model's name and the base URL, then run the same command again.",
    "credit": "Fill the account, then run the same command again; what was paid is kept.",
    "location": "Use a provider that serves your country, or another base URL.",
    "certificate": "Check the base URL; for a certificate of your own, name its file in SSL_CERT_FILE.",
    "proxy": "Check HTTPS_PROXY and its password, or put the host into NO_PROXY.",
    "unreachable": "Check the base URL, the network and the proxy, then run the same command again.",
    "request": "Mend the setting it names, then run the same command again.",
    "refused": "Change the prompt or the teacher, then run the same command again.",
}


def open_client(
    reference: str,
    journal: Journal,
    *,
    parameters: Parameters | None = None,
    base_url: str = "",
    key_file: str = "",
    price: str | dict[str, float] = "",
    prices_path: str = "",
    cap_usd: float | None = None,
    run: str = "",
    throttle: ThrottleSettings | None = None,
    timeout_seconds: float = 1800.0,
) -> Client:
    """A client of the model that `chat:<provider>/<model>` names.

    `run` names the run whose cap it counts against; empty: one of its own. Raises InputError for an unknown provider,
    a missing key, a model without a price. An `async with` opens it.
    """
    model = find_model(reference, base_url)
    known_price = price_of(model, setting=price, prices_path=prices_path)
    return Client(
        model,
        journal,
        parameters=parameters or Parameters(),
        secret=find_key(model, key_file),
        price=known_price,
        spend_cap=SpendCap(known_price, cap_usd, journal.ledger, run),
        throttle=Throttle(throttle or ThrottleSettings()),
        timeout_seconds=timeout_seconds,
    )


def _tokens_of(body: Mapping[str, Any] | None) -> int:
    """Tokens a reply took from the provider's limit by the minute, in any of the wire formats."""
    usage = (body or {}).get("usage") or (body or {}).get("usageMetadata")
    if not isinstance(usage, dict):
        return 0
    total = usage.get("total_tokens") or usage.get("totalTokenCount")
    if isinstance(total, int):
        return total
    return sum(v for n in ("input_tokens", "output_tokens") if isinstance(v := usage.get(n), int))


def _join(first: str, second: str) -> str:
    return f"{first}; {second}" if first else second
