"""Asks one chat model: from the journal where the request was paid before, else through throttle, purse and retries.

    async with open_client("chat:deepseek/deepseek-v4-pro", journal) as client:
        reply = await client.chat([{"role": "user", "content": "What is 2 + 2?"}])

The life of a request: its key is looked up in the journal; claimed, so that no other process asks it too; its highest
cost reserved; the throttle entered; sent, again where that can help; the reply committed; its cost settled; then used.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from s1kit.errors import WorkFailed
from s1kit.journal import Entry, Journal, Via
from s1kit.providers.catalog import Model, find_model
from s1kit.providers.chat import ChatRequest, Message, Parameters, Problem, Reply, Stopped, rough_usage
from s1kit.providers.http import Answer, Http, to_json
from s1kit.providers.keys import Secret, find_key
from s1kit.providers.money import Price, Purse, price_of
from s1kit.providers.queue_depth import watch_queue
from s1kit.providers.throttle import Slot, Throttle, ThrottleSettings
from s1kit.records import Usage

MAX_ATTEMPTS = 6
"""Sendings of one request that may fail; refusals for speed are counted apart."""
MAX_REFUSALS = 60
"""429s one request may get: the throttle learns from them, so many mean that it cannot."""
MAX_SECONDS_BETWEEN = 60.0


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
        purse: Purse,
        throttle: Throttle,
        timeout_seconds: float = 1800.0,
    ) -> None:
        self.model, self.journal, self.parameters = model, journal, parameters
        self.purse, self.throttle, self.tally = purse, throttle, Tally()
        self.price = price
        self.http = Http(model.base_url, model.wire.headers(secret.reveal()), secret, timeout_seconds)
        self.only_journal = False
        """Whether to send nothing: a request that the journal does not know is a Problem."""
        self._asking: dict[str, asyncio.Future[Reply]] = {}
        self._bad_requests: Counter[str] = Counter()
        self._watcher: asyncio.Task[None] | None = None
        self._jitter = random.Random()

    async def __aenter__(self) -> Client:
        await self.http.__aenter__()
        if self.model.kind == "compatible":
            self._watcher = asyncio.create_task(watch_queue(self.http, self.model, self.throttle))
        return self

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
        while not self.journal.claim(key):  # another process is asking it, or reading its reply
            if (entry := self.journal.get(key)) is not None:
                return self._recall(entry)
            await asyncio.sleep(0.3)
        try:
            if (entry := self.journal.get(key)) is not None:
                return self._recall(entry)
            self.journal.refuse_when_full()
            most = self.purse.most(request.max_input_tokens, request.parameters.max_output_tokens)
            await self.purse.reserve(most)
            held = _Hold(self.purse, most)
            try:
                answer = await self._send_until_answered(request, held)
                return await self.keep(request, key, answer, "online", held)
            finally:
                held.let_go()
        except Stopped:
            raise
        except WorkFailed as error:
            # The journal cannot take more. Whoever is in flight may still find room, and is not to be cancelled.
            raise Stopped(error.what, where=error.where, fix=error.fix) from error
        finally:
            self.journal.release(key)

    async def keep(
        self, request: ChatRequest | None, key: str, answer: Answer, via: Via, held: _Hold | None = None
    ) -> Reply:
        """Write a reply down, then read it. `request` is None where only its key is known."""
        body, raw = answer.body, answer.raw if answer.body is not None and answer.raw else None
        if body is None:
            body = {"not_json": answer.raw[:1_000_000].decode("utf-8", "replace")}
        reply = self.read(body)
        usage = reply.usage
        if not usage.output_tokens and not usage.input_tokens:
            usage = rough_usage(
                request.messages if request else (), reply.thinking + reply.answer + str(body.get("not_json", ""))
            )
            reply = replace(reply, usage=usage, note=_join(reply.note, "the server reported no usage; it is estimated"))
        cost = self.price.cost(usage, is_batch=via == "batch") if self.price is not None else 0.0
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
        if held is not None:
            held.settle(cost)
        await self.journal.commit(entry, request=request.canonical if request else None, reply=raw)
        self.tally.paid += 1
        self.tally.finishes[reply.finish_reason] += 1
        return replace(reply, cost_usd=cost)

    def read(self, body: Mapping[str, Any]) -> Reply:
        """A body as a reply, whatever is wrong with it."""
        if "not_json" in body:
            return Reply(finish_reason="malformed", note="the reply is not JSON")
        return self.model.wire.read(body)

    def _recall(self, entry: Entry) -> Reply:
        """A reply from the journal: read anew from the body as it came, charged as it was."""
        self.tally.from_journal += 1
        reply = self.read(entry.reply)
        usage = reply.usage
        if not usage.input_tokens and not usage.output_tokens:
            usage = Usage(input_tokens=entry.input_tokens, output_tokens=entry.output_tokens)
            reply = replace(reply, note=_join(reply.note, "the server reported no usage; it is estimated"))
        return replace(reply, usage=usage, cost_usd=entry.cost_usd, was_paid_before=True)

    async def _send_until_answered(self, request: ChatRequest, held: _Hold) -> Answer:
        call = self.model.wire.call(request)
        body = to_json(call.body)
        failures = refusals = 0
        while True:
            slot = await self.throttle.enter()
            try:
                self.tally.sent += 1
                answer = await self.http.post(call.path, body, partial(self.throttle.arrived, slot))
            except Problem as problem:
                self.tally.problems[problem.kind] += 1
                self._hear(problem, slot, held)
                refusals += problem.kind == "rate"
                failures += problem.kind != "rate"
                if failures >= MAX_ATTEMPTS or refusals >= MAX_REFUSALS:
                    raise
                await asyncio.sleep(self._pause(problem, failures))
                continue
            except BaseException:
                self.throttle.forget(slot)
                held.was_sent = True  # cancelled while the provider was at work
                raise
            tokens = _tokens_of(answer.body)
            self.throttle.succeeded(slot, tokens, answer.headers)
            self._bad_requests.clear()
            return answer

    def _hear(self, problem: Problem, slot: Slot, held: _Hold) -> None:
        """Tell the throttle and the purse of a failed sending; raise what another attempt cannot mend."""
        if problem.kind == "rate":
            self.throttle.refused(slot, problem.retry_after)
            return
        if problem.kind in ("timeout", "connection") and not problem.status:
            held.count_lost()
        if problem.retriable:
            self.throttle.failed(slot, str(problem), problem.retry_after)
            return
        self.throttle.forget(slot)
        if problem.kind != "request":
            raise Stopped(
                f"{self.model.provider} refuses every request: {problem}",
                where=self.model.reference,
                fix=_REMEDY[problem.kind],
            ) from problem
        self._bad_requests[problem.text] += 1
        # One bad question is a row; the same complaint about every question is a wrong setting.
        if not self.tally.paid and not self.tally.from_journal and self._bad_requests[problem.text] >= 5:
            raise Stopped(
                f"{self.model.provider} refused the first five requests alike: {problem}",
                where=self.model.reference,
                fix="Mend the setting it names, then run the same command again.",
            ) from problem
        raise problem

    def _pause(self, problem: Problem, failures: int) -> float:
        if problem.kind == "rate":
            return self._jitter.uniform(0.0, 0.05)  # the throttle holds it back
        longest = min(MAX_SECONDS_BETWEEN, 0.5 * 2.0**failures)
        return max(problem.retry_after or 0.0, self._jitter.uniform(longest / 4, longest))


class _Hold:
    """One request's reservation, let go exactly once."""

    def __init__(self, purse: Purse, dollars: float) -> None:
        self._purse, self._dollars, self._is_open = purse, dollars, True
        self.was_sent = False

    def settle(self, cost: float) -> None:
        self._is_open = False
        self._purse.settle(self._dollars, cost)

    def count_lost(self) -> None:
        """A sending was lost and may be charged; the reservation stays for the next attempt."""
        self._purse.count_lost(self._dollars)

    def let_go(self) -> None:
        if self._is_open:
            self._is_open = False
            self._purse.release(self._dollars, was_sent=self.was_sent)


_REMEDY = {
    "key": "Check the key (s1kit doctor shows which is set), then run the same command again.",
    "model": "Check the model's name and the base URL, then run the same command again.",
    "credit": "Fill the account, then run the same command again; what was paid is kept.",
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
    already_spent: float = 0.0,
    throttle: ThrottleSettings | None = None,
    timeout_seconds: float = 1800.0,
) -> Client:
    """A client of the model that `chat:<provider>/<model>` names.

    Raises InputError for an unknown provider, a missing key, a model without a price. An `async with` opens it.
    """
    model = find_model(reference, base_url)
    known_price = price_of(model, setting=price, prices_path=prices_path)
    return Client(
        model,
        journal,
        parameters=parameters or Parameters(),
        secret=find_key(model, key_file),
        price=known_price,
        purse=Purse(known_price, cap_usd, already_spent=already_spent),
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
