"""Replies into the journal with their cost, and out of it again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from s1kit.journal import UNREAD, Entry, Failure, Journal, Reading, Via
from s1kit.providers.bodies import is_plain_object
from s1kit.providers.catalog import Model
from s1kit.providers.chat import ChatRequest, Message, Problem, Reply, rough_usage
from s1kit.providers.http import Answer, to_json
from s1kit.providers.money import Price
from s1kit.providers.spend_cap import Reservation, SpendCap
from s1kit.providers.wires.reading import dict_of
from s1kit.providers.wires.replies import read_reply
from s1kit.providers.wires.streams import CUT
from s1kit.records import Usage

ESTIMATED = "the server reported no usage; it is estimated"
WAS_CUT = "the stream was cut; this is the part that came"


@dataclass
class RequestTally:
    """What happened to the requests of one client."""

    from_journal: int = 0
    paid: int = 0
    sent: int = 0
    problems: Counter[str] = field(default_factory=Counter)
    """Failed sendings by kind, retried ones included."""
    finishes: Counter[str] = field(default_factory=Counter)
    models: Counter[str] = field(default_factory=Counter)
    """Replies by the model that they name: an alias stands for one snapshot after another."""
    over_budget: int = 0
    """Replies that thought for more than twice `thinking_budget`, as the provider counts."""
    most_thinking: int = 0
    """The most tokens of thinking among them."""

    def see(self, body: Mapping[str, Any], reply: Reply, thinking_budget: int | None) -> None:
        """Note who answered, and whether it kept to the budget: some do, by and large, others do not know the field."""
        named = body.get("model") or body.get("modelVersion")
        if isinstance(named, str):
            self.models[named] += 1
        tokens = reply.thinking_tokens or 0
        if thinking_budget is not None and tokens > 2 * thinking_budget + 256:
            self.over_budget += 1
            self.most_thinking = max(self.most_thinking, tokens)


class Books:
    """Writes replies down before they are used, and reads them again as they were."""

    def __init__(
        self, model: Model, journal: Journal, price: Price | None, spend_cap: SpendCap, tally: RequestTally
    ) -> None:
        self._model, self._journal, self._price = model, journal, price
        self._spend_cap, self._tally = spend_cap, tally

    async def keep(
        self, request: ChatRequest, key: str, answer: Answer, via: Via, reservation: Reservation | None = None
    ) -> Reply:
        """Write an answer down as it came, then read it, then note what was read and what it costs.

        Until the note is on disk the reservation is what counts. Where no cap waits for it, nobody does: a kill before
        that leaves a reply that is read when it is asked for again.
        """
        body, raw = answer.body, answer.raw if answer.body is not None and is_plain_object(answer.raw) else None
        if body is None:
            body = {"not_json": answer.raw.decode("utf-8", "backslashreplace")}
        entry = Entry(
            key=key,
            provider=self._model.provider,
            model=self._model.name,
            via=via,
            created="",
            finish_reason=UNREAD,
            input_tokens=0,
            output_tokens=0,
            cost_usd=0.0,
            request=request.content,
            reply=body,
        )
        await self._journal.commit(entry, request=request.canonical, reply=raw)
        reply, cost = self._judge(request.messages, body, via)
        self._tally.see(body, reply, request.parameters.thinking_budget)
        if reservation is not None:
            self._spend_cap.saw_output(reply.usage.output_tokens, reservation.max_output_tokens)
        # A part of a reply that was cut too often is counted already, at the most it may have cost.
        counted = 0.0 if reservation is not None and not reservation.is_open else cost
        charge = reservation.charge(counted) if reservation else self._spend_cap.paid_in_job(key, cost)
        reading = Reading(key, reply.finish_reason, reply.usage.input_tokens, reply.usage.output_tokens, cost)
        if self._spend_cap.cap_usd is None:
            self._journal.note_reading(reading, charge)
        else:
            await self._journal.commit_reading(reading, charge)
        if reservation is not None:
            reservation.settle(counted)
        self._tally.paid += 1
        self._tally.finishes[reply.finish_reason] += 1
        return reply

    async def keep_failure(self, key: str, problem: Problem) -> None:
        """Write down what came and was no answer."""
        body = problem.raw or (to_json(problem.partial) if problem.partial is not None else b"")
        if body:
            await self._journal.commit_failure(Failure(key, problem.kind, problem.status, body))

    def _judge(self, messages: Sequence[Message], body: Mapping[str, Any], via: Via) -> tuple[Reply, float]:
        """A body as a reply whose usage is known or estimated, and its cost."""
        reply = self._read(body)
        if not reply.usage.output_tokens:
            reply = self._estimated(reply, messages, str(body.get("not_json", "")))
        cost = self._cost_of(reply, is_batch=via == "batch")
        return (replace(reply, cost_usd=cost) if cost else reply), cost

    def _estimated(self, reply: Reply, messages: Sequence[Message], other_text: str) -> Reply:
        """A reply without a count of its output, with one by its text: nothing that was written is free."""
        text = reply.thinking + reply.answer + other_text
        if reply.usage.input_tokens and not text:
            return reply
        usage = rough_usage(messages, text)
        if reply.usage.input_tokens:
            usage = reply.usage.model_copy(update={"output_tokens": usage.output_tokens})
        return replace(reply, usage=usage, note=_join(reply.note, ESTIMATED))

    async def recall(self, entry: Entry) -> Reply:
        """A reply from the journal: read anew from the body as it came, charged as it was.

        One that a process wrote down and died over is read now. Its reservation, where there was one, counts as lost;
        where there was none, it is charged to the run that reads it.
        """
        self._tally.from_journal += 1
        if entry.finish_reason == UNREAD:  # by a dead process, or by this one a moment ago
            self._journal.flush()
            entry = self._journal.get(entry.key) or entry
        if entry.finish_reason == UNREAD:
            reply, cost = self._judge(entry.request.get("messages", ()), entry.reply, entry.via)
            reading = Reading(entry.key, reply.finish_reason, reply.usage.input_tokens, reply.usage.output_tokens, cost)
            charge = None if self._journal.ledger.has(entry.key) else self._spend_cap.paid_in_job(entry.key, cost)
            await self._journal.commit_reading(reading, charge)
            return replace(reply, was_paid_before=True)
        reply = self._read(entry.reply)
        self._tally.see(entry.reply, reply, dict_of(entry.request.get("parameters")).get("thinking_budget"))
        usage = reply.usage
        if not usage.output_tokens and (not usage.input_tokens or entry.output_tokens):
            usage = Usage(
                input_tokens=usage.input_tokens or entry.input_tokens,
                output_tokens=entry.output_tokens,
                cached_input_tokens=usage.cached_input_tokens,
            )
            reply = replace(reply, note=_join(reply.note, ESTIMATED))
        return replace(reply, usage=usage, cost_usd=entry.cost_usd, was_paid_before=True)

    def _read(self, body: Mapping[str, Any]) -> Reply:
        """A body as a reply, whatever is wrong with it."""
        reply = read_reply(self._model.wire, body)
        if not body.get(CUT):
            return reply
        return replace(reply, finish_reason="cut", note=_join(WAS_CUT, reply.note))

    def _cost_of(self, reply: Reply, *, is_batch: bool) -> float:
        """Dollars: as the provider reports them (OpenRouter), else by the price; 0 where that is unknown."""
        listed = 0.0 if self._price is None else self._price.cost(reply.usage, is_batch=is_batch)
        if reply.reported_cost_usd is None or self._model.kind != "openrouter":
            return listed
        self._spend_cap.saw_cost(reply.reported_cost_usd, listed)
        return reply.reported_cost_usd


def _join(first: str, second: str) -> str:
    return f"{first}; {second}" if first and second else first or second
