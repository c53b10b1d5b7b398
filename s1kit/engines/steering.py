"""Forcing through the logits of one row, for engines that sample themselves (vLLM, transformers' `generate`).

A logits processor sees a token only after it was sampled, and cannot remove it. So whether the model stops is decided
before the token is sampled: a random number from the request's seed is compared with the probability of the stop token.
If the model stops, the first id of what replaces the stop is forced; otherwise the stop token is masked.

Greedy decoding is exact. Sampling is exact before top-k and top-p, which engines apply after logits processors: the
probability of the stop is taken before truncation. `TokenDriver` decides what is forced; this module asks it one token
ahead, and does not know which engine samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from random import Random

from s1kit.errors import InputError
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation

_MAX_REMEMBERED = 100_000
_BLOCK = 64
"""Draws that are made together."""
_HIDDEN = -1
"""What vLLM shows for a token that it does not show."""


class Memory:
    """Which sampled ids replaced a stop, which a row rebuilt from its tokens cannot tell from the ids."""

    def __init__(self) -> None:
        self._was_stop: OrderedDict[int, bool] = OrderedDict()

    def add(self, key: int, was_stop: bool) -> None:
        self._was_stop[key] = was_stop
        if len(self._was_stop) > _MAX_REMEMBERED:
            self._was_stop.popitem(last=False)

    def was_stop(self, key: int) -> bool:
        """Whether the id replaced a stop; True where unknown, so that waits never exceed their number."""
        return self._was_stop.get(key, True)


class Steered:
    """One request under forcing by logits: it learns of tokens after they were sampled."""

    __slots__ = (
        "_block",
        "_doubtful",
        "_draws",
        "_eos",
        "_key",
        "_memory",
        "_seed",
        "_target",
        "is_stopping",
        "num_observed",
        "plan",
        "rare",
        "row",
        "script",
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
        self.row = TokenDriver(plan)
        self.temperature = plan.request.temperature
        self._eos = tokens.tokenizer.eos_token_id
        if self._eos not in tokens.eos_ids:
            self._eos = min(tokens.eos_ids)
        self._memory = memory if memory is not None else Memory()
        self._key = hash(plan.prompt_ids)
        self._seed = Random(plan.request.seed).getrandbits(64)
        self._block, self._draws = -1, [0.0]
        self._doubtful = frozenset(tokens.lead_ids[:1] + plan.closing.ids[:1]).union(
            *((wait.ids[0], wait.line_ids[0]) for wait in plan.waits)
        )
        """Ids that the model may sample itself and that may also replace a stop."""
        self.num_observed = 0
        self.script: tuple[int, ...] = ()
        """Ids to force next; after the end, only the end of sequence."""
        self.stop_ids: frozenset[int] = frozenset()
        """While nothing is forced: ids that count as a stop; their total probability decides whether one is drawn."""
        self.is_stopping = False
        """Whether the next token was drawn to be a stop."""
        self.rare: frozenset[int] = frozenset()
        """While nothing is forced: ids after which `catch_up` must be called at once."""
        self._target = -1
        context = self.row.start()
        self._look_ahead(context[len(plan.prompt_ids) if num_given is None else num_given :])

    @property
    def is_done(self) -> bool:
        return self.row.is_done and self.script == (self._eos,)

    @property
    def forced(self) -> int | None:
        """The id that must be sampled next; None where the model decides."""
        return self.script[0] if self.script else None

    @property
    def due(self) -> int:
        """Output length at which `catch_up` must be called next, whatever the tokens are."""
        if self.script:
            return self.num_observed + len(self.script)
        return self.num_observed + 1 + (0 if self.is_stopping else self.row.quiet)

    def draw(self, length: int) -> float:
        """A uniform number in [0, 1) for the stop at this output length; the same for the same seed and length."""
        block, at = divmod(length, _BLOCK)
        if block != self._block:
            random = Random(self._seed + block)
            self._block, self._draws = block, [random.random() for _ in range(_BLOCK)]
        return self._draws[at]

    def settle(self, is_stopping: bool) -> int:
        """Record whether the next token is a stop; returns the id to force in its place. Otherwise stops are masked.

        May be called again before the token is sampled: an engine also computes logits for prompts in several pieces.
        """
        self.is_stopping = is_stopping
        if is_stopping:
            self._target = self._replacement()
        return self._target

    def _replacement(self) -> int:
        """What comes in place of a stop. Only the engine's own end of sequence ends a request there."""
        found = self.row.if_stopped()
        return self._eos if found is None else found

    def catch_up(self, output: Sequence[int]) -> None:
        """The engine's whole output so far, of which the row knows the beginning."""
        new = output[self.num_observed :]
        while new:
            new = new[self._observe(new) :]

    def end_thinking(self) -> None:
        """End thinking at the next token, as a budget spent there does; the row must know the engine's whole output."""
        if not self.row.is_thinking:
            return
        self.is_stopping = False
        spent = self.row.thinking_tokens
        budget = replace(self.plan.budget, max_tokens=spent, min_tokens=min(spent, self.plan.budget.min_tokens))
        # A row that is rebuilt after preemption must end its thinking at the same place.
        self.plan = replace(self.plan, budget=budget)
        self._look_ahead((*self.script, *self.row.end_thinking()))

    def observe(self, token: int) -> None:
        """The engine has one token more in its output."""
        self._observe((token,))

    def _observe(self, tokens: Sequence[int]) -> int:
        """The output goes on with these; returns how many of them are done with."""
        if self.is_done:
            self.num_observed += len(tokens)
            return len(tokens)
        if self.script:
            num = min(len(tokens), len(self.script))
            for token, forced in zip(tokens, self.script, strict=False):
                _check(token, forced)
            self._pass(tokens[:num], is_free=False)
            self.script = self.script[num:] or self._after_the_end()
            return num
        if not self.is_stopping and (num := self._num_quiet(tokens)):
            self._pass(tokens[:num], is_free=True)
            self.row.note(tokens[:num])
            return num
        self._observe_rare(tokens[0])
        return 1

    def _num_quiet(self, tokens: Sequence[int]) -> int:
        quiet = tokens[: self.row.quiet]
        if self.rare.isdisjoint(quiet):
            return len(quiet)
        return next(i for i, token in enumerate(quiet) if token in self.rare)

    def _observe_rare(self, token: int) -> None:
        tokens = self.plan.tokens
        self._pass((token,), is_free=not self.is_stopping)
        if self.is_stopping:
            _check(token, self._target)
            self.is_stopping = False
            self._memory.add(self._key, True)
            stop = tokens.trigger_id if self.row.is_thinking else self._eos
            assert stop is not None
            token = stop
        elif token in self.rare and token != tokens.reopen_id:
            _check(token, None)
        self._look_ahead(self.row.push(token)[1:])

    def _pass(self, tokens: Sequence[int], is_free: bool) -> None:
        """Count them, and remember which of those that the model was free to sample look like a replaced stop."""
        self.num_observed += len(tokens)
        for token in tokens:
            self._key = hash((self._key, token))
            if is_free and token in self._doubtful:
                self._memory.add(self._key, False)

    def _look_ahead(self, forced: tuple[int, ...]) -> None:
        tokens, row = self.plan.tokens, self.row
        self.script = forced + self._after_the_end()
        self.stop_ids = tokens.thinking_stop_ids if row.is_thinking else tokens.answer_stop_ids
        self.rare = self.stop_ids.union((_HIDDEN, tokens.reopen_id or _HIDDEN))

    def _after_the_end(self) -> tuple[int, ...]:
        return (self._eos,) if self.row.is_done else ()

    def replay(self, tokens: Sequence[int]) -> None:
        """Rebuild the state of a row that was preempted, from its output so far.

        An id that may be a replaced stop or the model's own word is what it was remembered to be; where nothing is
        remembered (another process), a replaced stop.
        """
        for token in tokens:
            if not self.script:
                self.settle(token == self._replacement() and self._memory.was_stop(hash((self._key, token))))
            self.observe(token)

    def generation(self) -> Generation:
        return self.row.generation()


class Refused:
    """Stands in for `Steered` where a request cannot be honoured: it writes why, then ends."""

    __slots__ = ("_ids", "num_observed")
    rare: frozenset[int] = frozenset()

    def __init__(self, ids: Sequence[int]) -> None:
        """`ids`: what it says; the last is the end of sequence."""
        self._ids = ids
        self.num_observed = 0

    @property
    def script(self) -> tuple[int, ...]:
        return tuple(self._ids[min(self.num_observed, len(self._ids) - 1) :])

    @property
    def due(self) -> int:
        return self.num_observed + len(self.script)

    def catch_up(self, output: Sequence[int]) -> None:
        """Whatever is in it, even what the engine does not show."""
        self.num_observed = len(output)


def refuse_unsteerable(tokens: TokenFormat) -> None:
    """Raises InputError for a format whose end must be matched over several tokens."""
    if tokens.format.thinks and tokens.trigger_id is None:
        raise InputError(
            f"the end of thinking of format {tokens.format.name!r} is no single token of this tokenizer",
            where="thinking format",
            fix="Use the engine hf:, or a completions: server, for this model.",
        )


def _check(token: int, forced: int | None) -> None:
    """Raises ValueError where an engine sampled another token than the forced one, or (`forced` None) a masked one."""
    if token == _HIDDEN:
        raise ValueError("the engine hides what it sampled from its processors.")
    if token != forced:
        wish = "which was masked" if forced is None else f"where {forced} was forced"
        raise ValueError(f"the engine put {token}, {wish}; its sampler ignores logits.")
