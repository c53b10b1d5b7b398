"""Forcing where the sampler belongs to somebody else: the logits are steered before it, one row of a batch each.

A logits processor sees a token only after it was sampled and cannot take it back. So whether the model tries to stop is
decided before: with the stop's own probability, drawn here from the request's seed. If it does, the first id of what
replaces the stop is forced; if not, the stop is masked. Greedy decoding is then exact, and so is sampling up to top-k
and top-p, which come after processors: the stop's probability is taken before truncation.

Rows knows how; this file only asks it one token ahead. It does not know which engine samples.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from random import Random

from s1kit.errors import InputError
from s1kit.plan import Plan
from s1kit.records import Generation
from s1kit.rows import Row
from s1kit.tokens import TokenFormat

_MAX_REMEMBERED = 100_000
_MASK = 2**64 - 1
_HIDDEN = -1
"""What vLLM shows for a token that it does not show."""


class Memory:
    """Which sampled ids stood for a stop: what a row that is rebuilt from its tokens cannot see in them."""

    def __init__(self) -> None:
        self._was_stop: OrderedDict[int, bool] = OrderedDict()

    def add(self, key: int, was_stop: bool) -> None:
        self._was_stop[key] = was_stop
        if len(self._was_stop) > _MAX_REMEMBERED:
            self._was_stop.popitem(last=False)

    def was_stop(self, key: int) -> bool:
        """True, too, of what another process decided: the number of waits then never exceeds what was asked for."""
        return self._was_stop.get(key, True)


class Steered:
    """One request, told of tokens after they were sampled."""

    __slots__ = (
        "_doubtful",
        "_eos",
        "_key",
        "_memory",
        "_queue",
        "_rare",
        "_seed",
        "_target",
        "forced",
        "is_stopping",
        "num_observed",
        "plan",
        "row",
        "stop_ids",
        "temperature",
    )

    def __init__(self, plan: Plan, memory: Memory | None = None, num_given: int | None = None) -> None:
        """`num_given`: how much of the plan's prompt the engine has; the rest is forced. None: all of it.

        Raises InputError for a format whose end must be matched over several tokens: it cannot be steered.
        """
        refuse_unsteerable(plan.tokens)
        tokens = plan.tokens
        self.plan = plan
        self.row = Row(plan)
        self.temperature = plan.request.temperature
        context = self.row.start()
        self._queue = deque(context[len(plan.prompt_ids) if num_given is None else num_given :])
        self._eos = tokens.tokenizer.eos_token_id
        if self._eos not in tokens.eos_ids:
            self._eos = min(tokens.eos_ids)
        self._memory = memory if memory is not None else Memory()
        self._key = hash(plan.prompt_ids)
        self._seed = Random(plan.request.seed).getrandbits(64)
        self._doubtful = frozenset(w.ids[0] for w in plan.waits).union(tokens.lead_ids[:1])
        """Ids that the model may sample, and that may stand for a stop."""
        self.num_observed = 0
        self.forced: int | None = None
        """The next token, where it is decided: what stands in a queue, and nothing but the end after the end."""
        self.stop_ids: frozenset[int] = frozenset()
        """Where nothing is forced: the ids that are a stop, to be drawn against all others."""
        self.is_stopping = False
        """Whether the draw for the next token said stop."""
        self._rare: frozenset[int] = frozenset()
        """Ids that are more than one token more."""
        self._target = -1
        self._look_ahead()

    @property
    def is_done(self) -> bool:
        return self.row.is_done and not self._queue

    def draw(self) -> float:
        """The number in [0, 1) against which the stop's probability is held, a function of seed and position."""
        x = (self._seed + (self.num_observed + 1) * 0x9E3779B97F4A7C15) & _MASK
        x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        x = (x ^ x >> 27) * 0x94D049BB133111EB & _MASK
        return ((x ^ x >> 31) >> 11) * 2.0**-53

    def settle(self, is_stopping: bool) -> int:
        """The draw for the next token: returns the id that must stand for the stop; without one, stops are masked.

        May be called again before the token is there: an engine computes logits, too, for prompts in several pieces.
        """
        self.is_stopping = is_stopping
        if is_stopping:
            # Only the engine's own end of sequence ends a request there: what else ends an answer is turned into it.
            self._target = self.row.if_stopped() if self.row.is_thinking else self._eos
        return self._target

    def observe(self, token: int) -> None:
        """The engine has `token` in its output."""
        self._key = hash((self._key, token))
        self.num_observed += 1
        if self.forced is None and not self.is_stopping and token not in self._rare:
            ids = self.row.push(token)
            if self.row.quiet and len(ids) == 1:
                return
            self._queue.extend(ids[1:])
        else:
            self._observe_rare(token)
        self._look_ahead()

    def _observe_rare(self, token: int) -> None:
        if token == _HIDDEN:
            raise ValueError("the engine hides what it sampled from its processors.")
        if self._queue:
            _check(token, self._queue.popleft())
        elif self.is_stopping:
            _check(token, self._target)
            self.is_stopping = False
            self._memory.add(self._key, True)
            self._stop()
        elif not self.row.is_done:
            if token in self.stop_ids:
                raise ValueError(f"the engine put {token}, which was masked; its sampler ignores logits.")
            if token in self._doubtful:
                self._memory.add(self._key, False)
            self._queue.extend(self.row.push(token)[1:])

    def _look_ahead(self) -> None:
        tokens, row = self.plan.tokens, self.row
        self.forced = self._queue[0] if self._queue else self._eos if row.is_done else None
        self.stop_ids = tokens.thinking_stop_ids if row.is_thinking else tokens.answer_stop_ids
        self._rare = self.stop_ids.union(self._doubtful, (_HIDDEN, tokens.reopen_id or _HIDDEN))

    def replay(self, tokens: Sequence[int]) -> None:
        """Rebuild the state of a row that was preempted, from its output so far.

        An id that may be a replaced stop or the model's own word is what it was remembered to be; where nothing is
        remembered (another process), a replaced stop.
        """
        for token in tokens:
            if self.forced is None:
                target = self.row.if_stopped() if self.row.is_thinking else self._eos
                self.settle(token == target and self._memory.was_stop(hash((self._key, token))))
            self.observe(token)

    def generation(self) -> Generation:
        return self.row.generation()

    def _stop(self) -> None:
        tokens = self.plan.tokens
        stop = tokens.trigger_id if self.row.is_thinking else self._eos
        assert stop is not None
        self._queue.extend(self.row.push(stop)[1:])


class Refused:
    """In the place of a `Steered` where a request cannot be honoured: it says why, and ends."""

    __slots__ = ("_ids", "num_observed")

    def __init__(self, ids: Sequence[int]) -> None:
        """`ids`: what it says; the last is the end of sequence."""
        self._ids = ids
        self.num_observed = 0

    @property
    def forced(self) -> int:
        return self._ids[min(self.num_observed, len(self._ids) - 1)]

    def observe(self, token: int) -> None:
        """Whatever it is, even one that the engine does not show."""
        self.num_observed += 1

    def replay(self, tokens: Sequence[int]) -> None:
        self.num_observed += len(tokens)


def refuse_unsteerable(tokens: TokenFormat) -> None:
    """Raises InputError for a format whose end must be matched over several tokens."""
    if tokens.format.thinks and tokens.trigger_id is None:
        raise InputError(
            f"the end of thinking of format {tokens.format.name!r} is no single token of this tokenizer",
            where="thinking format",
            fix="Use the engine hf:, or a completions: server, for this model.",
        )


def _check(token: int, forced: int) -> None:
    if token != forced:
        raise ValueError(f"the engine put {token} where {forced} was forced; its sampler ignores logits.")
