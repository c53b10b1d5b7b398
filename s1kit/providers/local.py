"""A local engine as a chat model: questions decode together, replies are in the journal like anybody's.

It costs electricity and time, so a reply is not computed twice either: each is kept when it is done. An interrupt waits
for a step of the running batch, and for the next reply where an engine has none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from s1kit.errors import InputError
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Engine, Request, Sampling, grammar_of_schema
from s1kit.journal import Entry, Journal
from s1kit.providers.chat import ChatRequest, Message, Parameters, Problem, Reply, settle_finish
from s1kit.providers.wires.conversation import take_format, turns
from s1kit.records import FinishReason, Generation, Usage

ANSWER_SHARE = 4
"""One part in so many of the output limit is kept for the answer of a model that thinks; all of another's is answer."""
DRAWS_A_SEED = 65_537
"""Draws of one question before those of the next seed begin."""
FINGERPRINT_DIGITS = 12
"""How many digits of a model's fingerprint the journal keeps: enough for the contents that one path will ever have."""
SECONDS_TO_GATHER = 0.05

SECONDS_AWAY = 0.05
"""That the engine decodes before it looks who has come. Steps of a small model are much shorter than a hand-over."""


@dataclass
class _Waiting:
    request: ChatRequest
    done: asyncio.Future[Reply]

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class LocalChat:
    """An engine behind the call that reaches the providers. `model` is its reference, e.g. `hf:models/r1-distill`.

    The journal knows its replies by it, so it states the options that they depend on; `fingerprint` tells one content
    of its folder from another. Without an engine it reads the journal only: somebody else fills it.
    """

    def __init__(
        self,
        engine: Engine | None,
        model: str,
        journal: Journal,
        parameters: Parameters | None = None,
        *,
        batch_size: int = 64,
        fingerprint: str = "",
    ) -> None:
        self._engine, self.journal = engine, journal
        self._model = f"{model}@{fingerprint[:FINGERPRINT_DIGITS]}" if fingerprint else model
        self._parameters = parameters or Parameters()
        self._batch_size = batch_size
        self._waiting: list[_Waiting] = []
        self._worker: asyncio.Task[None] | None = None

    def request(self, messages: Sequence[Message], draw: int = 0) -> ChatRequest:
        """The request whose key the reply has in the journal."""
        return ChatRequest("local", self._model, tuple(messages), self._parameters, draw)

    async def chat(
        self, messages: Sequence[Message], *, draw: int = 0, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Reply:
        if tools:
            raise InputError("a local engine takes no tools", where="tools", fix="Ask a server: s1kit serve has them.")
        request = self.request(messages, draw)
        if (entry := self.journal.get(request.key)) is not None:
            return read_local(entry.reply)
        if self._engine is None:
            raise Problem("server", "the engine gave no generation for this question")
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        return await waiting.done

    async def _work(self) -> None:
        try:
            await (self._decode() if hasattr(self._engine, "running_batch") else self._generate())
        except Exception as error:  # noqa: BLE001 - handed to whoever asked, with its traceback
            self._give_up(error)

    async def _decode(self) -> None:
        """Decode in a running batch, which questions join as they come."""
        engine: Any = self._engine
        batch = engine.running_batch()
        running: dict[int, _Waiting] = {}
        try:
            while self._waiting or running:
                while self._waiting:
                    waiting = self._waiting.pop(0)
                    try:
                        plan = _whole(engine.plan(engine_request(waiting.request, 0, engine)))
                    except InputError as error:
                        waiting.fail(error)
                        continue
                    running[batch.admit(plan)] = waiting
                for ticket, generation in await asyncio.to_thread(_some_steps, engine, batch):
                    await self._keep(running.pop(ticket), generation)
        except Exception as error:
            for waiting in running.values():
                waiting.fail(error)
            raise

    async def _generate(self) -> None:
        """A batch after the other, with an engine that has no running batch."""
        assert self._engine is not None
        while self._waiting:
            if len(self._waiting) < self._batch_size:
                await asyncio.sleep(SECONDS_TO_GATHER)
            batch, self._waiting = self._waiting[: self._batch_size], self._waiting[self._batch_size :]
            try:
                requests = [engine_request(w.request, number, self._engine) for number, w in enumerate(batch)]
                generations = iter(self._engine.generate(requests))
                while (generation := await asyncio.to_thread(next, generations, None)) is not None:
                    await self._keep(batch[generation.repeat], generation)
            except Exception as error:  # noqa: BLE001 - handed to whoever asked, with its traceback
                for waiting in batch:
                    waiting.fail(error)
            for waiting in batch:
                waiting.fail(Problem("server", "the engine gave no generation for this question"))

    def _give_up(self, error: Exception) -> None:
        for waiting in self._waiting:
            waiting.fail(error)
        self._waiting = []

    async def _keep(self, waiting: _Waiting, generation: Generation) -> None:
        body = body_of(generation)
        await self.journal.commit(entry_of(waiting.request, body))
        if not waiting.done.done():  # whoever asked may be gone
            waiting.done.set_result(read_local(body))


def _some_steps(engine: Any, batch: Any) -> list[tuple[int, Generation]]:
    """Decode until a request is done, or for a moment; tickets and generations of those that are."""
    end = time.monotonic() + SECONDS_AWAY
    done: list[tuple[int, Generation]] = []
    while not done and not batch.is_idle and time.monotonic() < end:
        done = [(event.ticket, event.generation) for event in engine.step(batch) if event.generation is not None]
    return done


def entry_of(request: ChatRequest, body: dict[str, Any]) -> Entry:
    """A reply as a row of the journal."""
    reply = read_local(body)
    return Entry(
        key=request.key,
        provider="local",
        model=request.model,
        via="local",
        created="",
        finish_reason=reply.finish_reason,
        input_tokens=0,
        output_tokens=reply.usage.output_tokens,
        cost_usd=0.0,
        request=request.content,
        reply=body,
    )


def check_parameters(parameters: Parameters) -> str:
    """The grammar that `extra.response_format` asks for, empty where the answer is free.

    Raises InputError for a reasoning effort, and for fields that only a server's API has.
    """
    if parameters.reasoning_effort:
        raise InputError(
            f"a local engine takes no reasoning effort, and it is {parameters.reasoning_effort!r}",
            where="distill.reasoning_effort",
            fix="Use thinking_budget.",
        )
    asked, others = take_format(parameters.extra)
    if others:
        raise InputError(
            f"a local engine takes no further field {min(others)!r}",
            where="distill.extra",
            fix="Leave it out: a local engine knows response_format, and the settings of their own.",
        )
    if asked is None or asked.kind == "text":
        return ""
    return grammar_of_schema(asked.schema or {"type": "object"})


def engine_request(request: ChatRequest, number: int, engine: Engine) -> Request:
    """What the parameters leave open is the model's own: its sampling, and as much output as its context holds."""
    p = request.parameters
    grammar = check_parameters(p)
    said = turns(request.messages, "a local engine")
    *before, last = (turn for turn in said if turn.role != "system")
    if last.role != "user" or any(turn.calls or turn.answers for turn in said):
        raise InputError(
            "a local engine answers a user's message, and takes no calls of tools",
            where="messages",
            fix="Ask a server: s1kit serve has them.",
        )
    system = "\n\n".join(turn.text for turn in said if turn.role == "system")
    most = min(p.max_output_tokens, getattr(engine, "context_tokens", p.max_output_tokens))
    answer = max(1, most // ANSWER_SHARE)
    if not _thinks(engine):
        answer, thinking = most, 0
    elif p.thinking_budget is None:
        thinking = most - answer
    else:
        thinking = min(p.thinking_budget, most - 1)
    own = getattr(engine, "sampling", Sampling()) if p.temperature is None else Sampling(p.temperature)
    return Request(
        question=last.text,
        budget=ThinkingBudget(max_tokens=thinking),
        answer_tokens=min(answer, max(1, most - thinking)),
        temperature=own.temperature,
        top_p=own.top_p if p.top_p is None else p.top_p,
        top_k=own.top_k,
        seed=((p.seed or 0) * DRAWS_A_SEED + request.draw) % 2**31,
        system=system or None,
        messages=tuple({"role": turn.role, "content": turn.text} for turn in before),
        answer_grammar=grammar,
        # An answer that is held to a form is nothing but that.
        closing_phrase="" if grammar else None,
        repeat=number,
    )


def _thinks(engine: Engine) -> bool:
    """Whether an engine's format has thinking; one that does not say has."""
    tokens = getattr(engine, "tokens", None)
    return tokens is None or bool(tokens.format.thinks)


def _whole(plan: Plan) -> Plan:
    """The plan whose answer may take what thinking leaves of the reply's tokens."""
    return replace(plan, completion_tokens=plan.total_tokens - len(plan.prompt_ids)) if plan.thinks else plan


def body_of(generation: Generation) -> dict[str, Any]:
    """A generation as the journal keeps it."""
    finish: FinishReason = "stop"
    if generation.ending == "failed":
        finish = "failed"
    elif generation.answer_finish in ("length", "loop") or generation.ending == "cut_off":
        finish = "length"
    return {
        "thinking": generation.thinking,
        "answer": generation.answer,
        "finish_reason": finish,
        "thinking_tokens": generation.thinking_tokens,
        "output_tokens": generation.thinking_tokens + generation.answer_tokens,
        "ending": generation.ending,
        "note": generation.note,
    }


def read_local(body: Mapping[str, Any]) -> Reply:
    """The inverse of what is journalled."""
    return Reply(
        thinking=body["thinking"],
        answer=body["answer"],
        finish_reason=settle_finish(body["finish_reason"], body["answer"]),
        usage=Usage(output_tokens=body["output_tokens"]),
        thinking_tokens=body["thinking_tokens"],
        note=body["note"],
    )
