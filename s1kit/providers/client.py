"""The client of one chat model. A request that was paid before is answered from the journal.

    async with open_client("chat:deepseek/deepseek-v4-pro", journal) as client:
        reply = await client.chat([{"role": "user", "content": "What is 2 + 2?"}])

What happens to a request:

1. Its key is looked up in the journal, and claimed, so that no other process sends the same request.
2. Its highest possible cost is reserved against the spend cap.
3. It is sent when the throttle allows it, and sent again after a transient failure.
4. The reply is classified and committed to the journal with its cost. Only then does the caller see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from s1kit.errors import WorkFailed
from s1kit.journal import Journal
from s1kit.providers.balance import Balance
from s1kit.providers.catalog import Model, find_model
from s1kit.providers.chat import Call, ChatRequest, Message, Parameters, Problem, Reply, Stopped, WireFormat
from s1kit.providers.classify import problem_in
from s1kit.providers.credentials import credentials_of
from s1kit.providers.http import Answer, Http, to_json
from s1kit.providers.kept import Books, RequestTally
from s1kit.providers.keys import Secret, SecretHeaders, find_key, read_headers
from s1kit.providers.money import Price, price_of
from s1kit.providers.patience import Attempts, Patience
from s1kit.providers.rate_limits import watch_queue
from s1kit.providers.spend_cap import Reservation, SpendAccount, SpendCap
from s1kit.providers.throttle import Slot, Throttle, ThrottleSettings
from s1kit.providers.wires.reading import count, output_limit

WITH_USAGE, PLAIN, NEVER = 2, 1, 0


SECONDS_BETWEEN_LOOKS = 0.3
"""How often to look whether another process has got the reply that both want."""


class Streaming:
    """Streams are asked for until a server refuses them: first without the option that reports usage, then none at all.

    Mistral refuses `stream_options`; OpenAI streams some thinking models to verified organisations only.
    """

    def __init__(self, wire: WireFormat, is_wanted: bool) -> None:
        self._wire = wire
        self.level = WITH_USAGE if is_wanted else NEVER

    def apply(self, call: Call) -> tuple[Call, int]:
        """The call with the streaming options that this server accepts, and the level it was made at."""
        level = self.level
        if call.body.get("stream") is False:  # the user's own `extra`
            level = NEVER
        return (call, level) if level == NEVER else (self._wire.streamed(call, with_usage=level == WITH_USAGE), level)

    def is_refused(self, problem: Problem, level: int) -> bool:
        """Whether the server refused the streaming options; then the next call uses fewer."""
        if level == NEVER or problem.kind not in ("request", "key") or "stream" not in problem.text.lower():
            return False
        self.level = min(self.level, level - 1)
        return True


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
        stream: bool = True,
        base_urls: Sequence[str] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.model, self.journal, self.parameters = model, journal, parameters
        self.spend_cap, self.throttle, self.price, self.tally = spend_cap, throttle, price, RequestTally()
        sent = SecretHeaders({**model.wire.headers(secret.reveal()), **(headers or {})})
        credentials = credentials_of(model, has_key=bool(secret))
        secret = secret.also(*(headers or {}).values())
        self.servers = [Http(url, sent, secret, timeout_seconds, credentials) for url in base_urls or (model.base_url,)]
        self.http = self.servers[0]
        """The one that batches are sent to."""
        self._balance = Balance(self.servers)
        self.books = Books(model, journal, price, spend_cap, self.tally)
        self.only_journal = False
        """Whether to send nothing: a request that the journal does not know is a Problem."""
        self.refused: dict[str, Problem] = {}
        """Requests that a batch refused for what they are."""
        self._patience = Patience(model.provider, model.reference, throttle)
        self._streaming = Streaming(model.wire, stream)
        self._asking: dict[str, asyncio.Future[Reply]] = {}
        self._watcher: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Client:
        for http in self.servers:
            await http.__aenter__()
        if self.model.kind == "compatible":
            self._watcher = asyncio.create_task(watch_queue(self._metrics, self.throttle.queue_seen))
        return self

    async def _metrics(self) -> bytes:
        """The metrics page of a server of the user's own, such as vLLM's, which tells the length of its queue."""
        return (await self.http.get(self.model.base_url.removesuffix("/v1") + "/metrics")).raw

    async def __aexit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        for http in self.servers:
            await http.__aexit__()
        await asyncio.to_thread(self.journal.flush)  # what was noted and nobody waited for

    def request(
        self, messages: Sequence[Message], draw: int = 0, tools: Sequence[Mapping[str, Any]] = ()
    ) -> ChatRequest:
        return ChatRequest(self.model.provider, self.model.name, tuple(messages), self.parameters, draw, tuple(tools))

    async def chat(
        self, messages: Sequence[Message], *, draw: int = 0, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Reply:
        """The reply to a conversation; asked at most once, ever.

        Raises Problem when this request failed for good, Stopped when every request would (a wrong key, an unknown
        model, an empty account), CapReached before the cap would be overshot.
        """
        request = self.request(messages, draw, tools)
        key = request.key
        if (asking := self._asking.get(key)) is not None:
            return await asyncio.shield(asking)
        if self.only_journal:
            if (entry := self.journal.get(key)) is not None:
                return await self.books.recall(entry)
            if (refusal := self.refused.get(key)) is not None:
                raise refusal
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
            while not self.journal.claim(key):  # another process is asking it, or reading its reply
                if (known := self.journal.get(key)) is not None:
                    return await self.books.recall(known)
                await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
            try:
                if (known := self.journal.get(key)) is not None:
                    return await self.books.recall(known)
                self.journal.refuse_when_full()
                return await self._buy(request, key)
            finally:
                self.journal.release(key)
        except Stopped:
            raise
        except WorkFailed as error:
            # The journal cannot take more. Whoever is in flight may still find room, and is not to be cancelled.
            raise Stopped(error.what, where=error.where, fix=error.fix) from error

    async def _buy(self, request: ChatRequest, key: str) -> Reply:
        """Send a request that the journal has no reply to. The most it may cost is reserved meanwhile."""
        call = self.model.wire.call(request)
        reservation = await self.spend_cap.reserve(key, request.max_input_tokens, output_limit(call.body))
        try:
            answer = await self._fetch(call, key, reservation)
            return await self.books.keep(request, key, answer, "online", reservation)
        finally:
            reservation.close()

    async def _fetch(self, call: Call, key: str, reservation: Reservation) -> Answer:
        """Send until there is an answer, or a part of one that was cut too often.

        Raises Problem after so many attempts, Stopped when every request would fail.
        """
        attempts = Attempts()
        while True:
            slot = await self.throttle.enter()
            try:
                if reservation.is_too_small:  # other replies came out dearer meanwhile
                    self.throttle.forget(slot)
                    await reservation.renew()
                    continue
                sent, level = self._streaming.apply(call)
                answer = await self._fetch_once(sent, reservation)
                tokens = _tokens_of(answer.body)
                # Before the next is let in: the reply is read only when it is on disk. What is no input is output.
                self.spend_cap.saw_output(tokens - reservation.max_input_tokens, reservation.max_output_tokens)
                self.throttle.succeeded(slot, tokens, answer.headers)
                self._patience.answered()
                return answer
            except Problem as problem:
                if problem.may_be_charged:
                    reservation.lose()
                try:
                    seconds = self._seconds_until_next(problem, attempts, slot, level)
                finally:
                    await self.books.keep_failure(key, problem)
                if seconds is None:
                    if attempts.partial is None:
                        raise
                    return Answer(attempts.partial, to_json(attempts.partial), {})
                await self.throttle.pause(seconds)
                await reservation.renew()
            finally:
                self.throttle.forget(slot)

    def _seconds_until_next(self, problem: Problem, attempts: Attempts, slot: Slot, level: int) -> float | None:
        """How long to wait before a request is sent again, None where it was sent often enough.

        Raises the problem where another attempt is of no use, Stopped where every request would fail.
        """
        self._patience.soften(problem)
        self.tally.problems[problem.kind] += 1
        if self._streaming.is_refused(problem, level):
            return 0.0
        attempts.add(problem)
        # Before the throttle hears: it lets the next request in, perhaps to an account that is empty.
        self._patience.hear(problem)
        self.throttle.met(slot, problem)
        return None if attempts.are_enough else self._patience.seconds_between(problem, attempts)

    async def _fetch_once(self, call: Call, reservation: Reservation) -> Answer:
        """Send the request once. Raises Problem for every response that is no answer."""
        self.tally.sent += 1
        reservation.may_be_charged = True  # until it is known how it went
        try:
            body = to_json(call.body)
            answer = await self._balance.send(lambda http: http.stream(call.path, body, self.model.wire.assembler()))
            if (problem := problem_in(answer.body, answer.raw)) is not None:
                problem.text, problem.raw = self.http.hide(problem.text), answer.raw
                raise problem
        except Problem:
            reservation.may_be_charged = False
            raise
        return answer


def open_client(
    reference: str,
    journal: Journal,
    *,
    parameters: Parameters | None = None,
    base_url: str | Sequence[str] = "",
    headers: Mapping[str, str] | None = None,
    key_file: str = "",
    price: str | dict[str, float] = "",
    prices_path: str = "",
    cap_usd: float | None = None,
    run: str = "",
    account: SpendAccount | None = None,
    throttle: ThrottleSettings | None = None,
    timeout_seconds: float = 1800.0,
    stream: bool = True,
) -> Client:
    """A client of the model that `chat:<provider>/<model>` names.

    Several base URLs are servers of the same model, balanced by what is in flight. A header's value `env:NAME` is read
    from the environment. `run` names the run whose cap it counts against; empty: one of its own. Clients that share an
    `account` share its cap instead. `async with` opens it. Raises InputError for an unknown provider, a missing key and
    a model without a price.
    """
    urls = [base_url] if isinstance(base_url, str) else list(base_url)
    models = [find_model(reference, url) for url in urls or [""]]
    model = models[0]
    known_price = price_of(model, setting=price, prices_path=prices_path)
    return Client(
        model,
        journal,
        parameters=parameters or Parameters(),
        secret=find_key(model, key_file, headers or {}),
        price=known_price,
        spend_cap=SpendCap(known_price, account or SpendAccount(cap_usd, journal.ledger, run)),
        throttle=Throttle(throttle or ThrottleSettings()),
        timeout_seconds=timeout_seconds,
        stream=stream,
        base_urls=[each.base_url for each in models],
        headers=read_headers(headers or {}),
    )


def _tokens_of(body: Mapping[str, Any] | None) -> int:
    """Tokens a reply took from the provider's limit by the minute, in any of the wire formats."""
    usage = (body or {}).get("usage") or (body or {}).get("usageMetadata")
    if not isinstance(usage, dict):
        return 0
    if total := count(usage, "total_tokens", "totalTokenCount", "totalTokens"):
        return total
    return sum(count(usage, name) or 0 for name in ("input_tokens", "output_tokens"))
