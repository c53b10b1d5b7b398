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
from dataclasses import dataclass
from random import Random

from s1kit.errors import InputError
from s1kit.plan import Plan
from s1kit.records import Generation
from s1kit.rows import Row

_MAX_REMEMBERED = 100_000


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


@dataclass(frozen=True, slots=True)
class Wish:
    """What must happen to the next token of a row."""

    forced: int | None = None
    """This id and no other."""
    stop_ids: frozenset[int] = frozenset()
    """Else: ids that are a stop, to be drawn against all others."""
    target: int = -1
    """What is forced when the draw says stop."""


class Steered:
    """One request, told of tokens after they were sampled."""

    def __init__(self, plan: Plan, memory: Memory | None = None, num_given: int | None = None) -> None:
        """`num_given`: how much of the plan's prompt the engine has; the rest is forced. None: all of it.

        Raises InputError for a format whose end must be matched over several tokens: it cannot be steered.
        """
        tokens = plan.tokens
        if tokens.trigger_id is None:
            raise InputError(
                f"the end of thinking of format {tokens.format.name!r} is no single token of this tokenizer",
                where="thinking format",
                fix="Use the engine hf:, or a completions: server, for this model.",
            )
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
        self.num_observed = 0
        self._target = -1
        self._is_stopping = False

    @property
    def is_done(self) -> bool:
        return self.row.is_done and not self._queue

    def wish(self) -> Wish:
        """What the next token must be, or what must be drawn for it."""
        if self._queue:
            return Wish(forced=self._queue[0])
        if self.row.is_done:
            return Wish(forced=self._eos)
        tokens = self.plan.tokens
        if self.row.is_thinking:
            self._target = self.row.if_stopped()
            return Wish(stop_ids=tokens.thinking_stop_ids, target=self._target)
        # Only the engine's own end of sequence ends a request there: what else ends an answer is turned into it.
        self._target = self._eos
        return Wish(stop_ids=tokens.answer_stop_ids, target=self._eos)

    def draw(self) -> float:
        """The number in [0, 1) against which the stop's probability is held, a function of seed and position."""
        return Random(f"{self.plan.request.seed}:{self.num_observed}").random()

    def settle(self, is_stopping: bool) -> None:
        """What was decided for the next token: the target stands for a stop, or stops are masked."""
        self._is_stopping = is_stopping

    def observe(self, token: int) -> None:
        """The engine has `token` in its output."""
        self._key = hash((self._key, token))
        self.num_observed += 1
        if self._queue:
            if token != self._queue.popleft():
                raise ValueError(f"the engine put {token} where another id was forced; its sampler ignores logits.")
            return
        if self.row.is_done:
            return
        if token == self._target:
            self._memory.add(self._key, self._is_stopping)
        if self._is_stopping and token == self._target:
            self._stop()
        else:
            self._queue.extend(self.row.push(token)[1:])
        self._is_stopping = False

    def replay(self, tokens: Sequence[int]) -> None:
        """Rebuild the state of a row that was preempted, from its output so far.

        An id that may be a replaced stop or the model's own word is what it was remembered to be; where nothing is
        remembered (another process), a replaced stop.
        """
        for token in tokens:
            wish = self.wish()
            is_ambiguous = wish.forced is None and token == wish.target
            self._is_stopping = is_ambiguous and self._memory.was_stop(hash((self._key, token)))
            self.observe(token)

    def generation(self) -> Generation:
        return self.row.generation()

    def _stop(self) -> None:
        tokens = self.plan.tokens
        stop = tokens.trigger_id if self.row.is_thinking else self._eos
        assert stop is not None
        self._queue.extend(self.row.push(stop)[1:])
