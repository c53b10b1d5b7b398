"""The cap in dollars of one run: what is spent, what is held back for requests under way, what was lost.

    reservation = await spend_cap.reserve(key, input_tokens, output_tokens)
    try:
        ...send...
        await journal.commit(entry, charge=reservation.charge(cost))
        reservation.settle(cost)
    finally:
        reservation.close()

The books are the journal's, so several processes, kills and copies of a run folder share one cap.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from dataclasses import dataclass, field

from s1kit.errors import InputError
from s1kit.journal import Charge, Ledger
from s1kit.providers.chat import Stopped
from s1kit.providers.money import FREE, Price
from s1kit.records import Usage

SECONDS_BETWEEN_LOOKS = 0.5
"""How often to look whether another process has freed money."""


class CapReached(Stopped):
    """The next request could overshoot the cap."""


@dataclass(eq=False)
class Reservation:
    """Dollars held back for one request, from before it is sent until its reply is written."""

    cap: SpendCap
    key: str
    dollars: float
    max_input_tokens: int = 0
    max_output_tokens: int = 0
    """What its request allows for, over all replies it asks for."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    is_open: bool = True
    may_be_charged: bool = False
    """Whether a sending is under way whose outcome nobody will see."""

    def charge(self, cost: float) -> Charge | None:
        """The reply's cost in place of the reservation, to be written with the reply; None where nothing is counted."""
        self.may_be_charged = False
        if not cost and self.cap.cap_usd is None:
            return None
        return Charge(self.id, self.cap.run, self.key, "paid", cost)

    def settle(self, cost: float) -> None:
        """The charge is written."""
        self.cap.account.settled(self.dollars if self.is_open else 0.0, cost)
        self.is_open = False

    def lose(self) -> None:
        """Count the dollars as spent: an attempt got no reply and may be charged. The next needs a new reservation."""
        if self.is_open:
            self.is_open = False
            self.cap.lost(self)
            self.id = uuid.uuid4().hex

    def close(self) -> None:
        """The request is over. What was not settled is freed, or lost where the provider may charge for it."""
        if self.is_open and self.may_be_charged:
            self.lose()
        elif self.is_open:
            self.is_open = False
            self.cap.account.drop(self)

    @property
    def is_too_small(self) -> bool:
        """Whether replies that came since it was made have shown that its request can cost more."""
        return self.dollars < self._most

    @property
    def _most(self) -> float:
        return self.cap.most(self.max_input_tokens, self.max_output_tokens)

    async def renew(self) -> None:
        """Hold back what another attempt can cost, where the last was lost or the reservation is too small.

        Raises CapReached when that cannot be.
        """
        if self.is_open and self.is_too_small:
            self.is_open = False
            self.cap.account.drop(self)
        if not self.is_open:
            self.dollars = self._most
            await self.cap.account.hold(self)
            self.is_open = True


class SpendAccount:
    """What one run spends and holds back, over all its models: several clients share one.

    When the run's total and a new request pass the cap, the request waits for others to come back cheaper; when none is
    under way, in any process, the cap is reached. Who waits first is served first, whatever model is asked.
    """

    def __init__(self, cap_usd: float | None, ledger: Ledger, run: str = "") -> None:
        self.cap_usd, self.ledger = cap_usd, ledger
        self.run = run or f"session:{uuid.uuid4().hex}"
        ledger.settle_orphans(self.run)
        self.spent = ledger.total(self.run) - ledger.held(self.run)
        """Dollars paid and lost by the run: until now by every process, from now on by this one."""
        self.reserved = 0.0
        self._waiting: deque[tuple[Reservation, asyncio.Future[None]]] = deque()
        self._granting: asyncio.Task[None] | None = None
        self._freed = asyncio.Event()

    @property
    def free(self) -> float:
        """Dollars that are neither spent nor held by anybody."""
        return float("inf") if self.cap_usd is None else self.cap_usd - self.ledger.total(self.run)

    def cap_reached(self, dollars: float) -> CapReached:
        return CapReached(
            f"the cap of ${self.cap_usd or 0:,.2f} is reached: ${self.ledger.total(self.run):,.4f} are spent and the"
            f" next request could cost ${dollars:,.4f}",
            where="distill.max_cost_usd",
            fix="Raise it and run the same command again; what was paid is kept.",
        )

    def settled(self, reserved: float, cost: float) -> None:
        """A reservation of so many dollars is over; `cost` of them were spent."""
        self.reserved -= reserved
        self.spent += cost
        self._freed.set()

    async def hold(self, reservation: Reservation) -> None:
        """Returns when the reservation's dollars are held back. Raises CapReached when they cannot be."""
        if self.cap_usd is None:
            self.reserved += reservation.dollars
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((reservation, granted))
        if self._granting is None or self._granting.done():
            self._granting = asyncio.create_task(self._grant())
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                self.drop(reservation)
            raise

    async def _grant(self) -> None:
        """Give those who wait what fits, all at once in one transaction, until nobody waits."""
        assert self.cap_usd is not None
        while self._waiting:
            self._freed.clear()
            group = [waiting for waiting in self._waiting if not waiting[1].done()]
            self._waiting.clear()
            charges = [Charge(r.id, self.run, r.key, "held", r.dollars) for r, _ in group]
            try:
                fits = await asyncio.to_thread(self.ledger.hold, charges, self.cap_usd)
            except Exception as error:  # noqa: BLE001 - handed to whoever waits
                for _, granted in group:
                    if not granted.done():
                        granted.set_exception(error)
                continue
            left = []
            for (reservation, granted), is_held in zip(group, fits, strict=True):
                if not is_held:
                    left.append((reservation, granted))
                    continue
                self.reserved += reservation.dollars
                if granted.done():  # cancelled meanwhile
                    self.drop(reservation)
                else:
                    granted.set_result(None)
            self._waiting.extendleft(reversed(left))
            if left:
                await self._wait_for_money(left)

    async def _wait_for_money(self, left: list[tuple[Reservation, asyncio.Future[None]]]) -> None:
        """Wait until a reply came back cheaper. With none under way, the cap is reached for those who wait."""
        if self._freed.is_set():
            return
        if self.reserved <= 1e-12 and not self.ledger.settle_orphans(self.run) and not self.ledger.held(self.run):
            for reservation, granted in left:
                if not granted.done():
                    granted.set_exception(self.cap_reached(reservation.dollars))
            return
        try:
            await asyncio.wait_for(self._freed.wait(), SECONDS_BETWEEN_LOOKS)
        except TimeoutError:
            return

    def drop(self, reservation: Reservation) -> None:
        self.reserved -= reservation.dollars
        if self.cap_usd is not None:
            self.ledger.drop(reservation.id)
        self._freed.set()


class SpendCap:
    """One model's prices, and the account that its requests are paid from.

    A request reserves the most it can cost. One whose reply was lost after its bytes were sent counts at that.
    """

    def __init__(self, price: Price | None, account: SpendAccount) -> None:
        if account.cap_usd is not None and price is None:
            raise InputError(
                "a cap needs a price, and the price is unknown",
                where="distill.max_cost_usd",
                fix="Give distill.price={input=..., output=...}, or leave the cap out.",
            )
        self.price, self.account = price, account
        self.cap_usd, self.run, self._ledger = account.cap_usd, account.run, account.ledger
        self.num_lost = 0
        """Requests of this process whose reply never came and that may have been charged."""
        self._excess = 1.0

    @property
    def spent(self) -> float:
        return self.account.spent

    @property
    def reserved(self) -> float:
        return self.account.reserved

    def most(self, max_input_tokens: int, max_output_tokens: int, *, is_batch: bool = False) -> float:
        """The most that a request can cost. A server seen to exceed its output limit is expected to do so again."""
        if self.price is None or self.price is FREE:
            return 0.0
        usage = Usage(input_tokens=max_input_tokens, output_tokens=max_output_tokens)
        return self.price.cost(usage, is_batch=is_batch) * self._excess

    def saw_output(self, output_tokens: int, limit: int) -> None:
        """Note how many output tokens a reply took, against the request's limit: a server may ignore `max_tokens`."""
        self._excess = max(self._excess, output_tokens / max(1, limit))

    def saw_cost(self, reported: float, listed: float) -> None:
        """A reply cost what the provider reports, not what the list says: OpenRouter takes whoever can serve."""
        if listed > 0:
            self._excess = max(self._excess, reported / listed)

    async def reserve(self, key: str, max_input_tokens: int, max_output_tokens: int) -> Reservation:
        """Hold back the most the request can cost, until it is closed. Raises CapReached when that cannot be."""
        dollars = self.most(max_input_tokens, max_output_tokens)
        reservation = Reservation(self, key, dollars, max_input_tokens, max_output_tokens)
        await self.account.hold(reservation)
        return reservation

    def lost(self, reservation: Reservation) -> None:
        self.num_lost += 1
        if reservation.dollars:
            self._ledger.put(Charge(reservation.id, self.run, reservation.key, "lost", reservation.dollars))
        self.account.settled(reservation.dollars, reservation.dollars)

    # ---- batch jobs: held until they are collected, by whichever process that is -------------------------------------

    def hold_job(self, job: str, dollars: float) -> None:
        """Hold the dollars of a submitted job, whatever the cap."""
        self.account.reserved += dollars
        self._ledger.put(Charge(f"{self.run}:{job}", self.run, f"job:{job}", "held", dollars))

    def drop_job(self, job: str, dollars: float) -> None:
        self.account.reserved -= dollars
        self._ledger.drop(f"{self.run}:{job}")

    def paid_in_job(self, key: str, cost: float) -> Charge:
        """The cost of a reply that came in a job."""
        self.account.spent += cost
        return Charge(f"{self.run}:{key}", self.run, key, "paid", cost)
