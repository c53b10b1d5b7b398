"""Budget forcing inside vLLM: a logits processor that a user adds to their own server.

    pip install s1kit                     # the entry point `vllm.logits_processors` makes vLLM find it
    vllm serve MODEL --logits-processors s1kit.engines.vllm_plugin:BudgetForcing

A request asks with `vllm_xargs` (`extra_args` of SamplingParams offline); one that does not is left alone:

    {"max_thinking_tokens": 2048, "min_thinking_tokens": 0, "num_waits": 2, "wait": "Wait", "answer_tokens": 512}

One class serves both of vLLM's processor interfaces. Named with `--logits-processors` it refuses to start where it
could not be exact: under speculative decoding, or with a model whose end of thinking it does not know. Merely
installed, it refuses the requests that ask for a budget there, and no others. What can be judged before a request is
queued is HTTP 400; what is found out later (the prompt leaves no room) becomes a completion that says so and ends.
Sampling is exact before top-k and top-p.
"""

from __future__ import annotations

import logging
from typing import Any, ClassVar
from weakref import ref

import torch

from s1kit.engines.batch_processor import BatchLogitsProcessor, SlotState
from s1kit.engines.steering import Memory, Refused, Steered
from s1kit.engines.vllm.configuration import VllmConfiguration, configuration_of_caller
from s1kit.engines.vllm.fields import REQUEST_FIELD, asks, read_fields, refuse_unforced
from s1kit.errors import InputError
from s1kit.forcing.plan import Plan

# Where a vLLM has only one of the interfaces, a stand-in takes the other's place: what is merely installed must load.
try:
    from vllm.v1.sample.logits_processor import LogitsProcessor as ProcessorV1
except ImportError:

    class ProcessorV1:  # type: ignore[no-redef]
        """A placeholder for the interface that this vLLM does not have."""


try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as ProcessorV2
except ImportError:

    class ProcessorV2:  # type: ignore[no-redef]
        """A placeholder for the interface that this vLLM does not have."""


PLANS: dict[int, Plan] = {}
"""Requests of the engine `vllm:` in this process, by the number in their extra argument `s1kit_request`."""
STEERED: dict[int, SlotState[Steered]] = {}
"""Their rows, once vLLM has begun them."""

_log = logging.getLogger("vllm.s1kit")


class BudgetForcing(ProcessorV1, ProcessorV2):  # type: ignore[misc]
    """Forces the budgets of the requests that ask for it."""

    _served: ClassVar[ref[Any] | None] = None
    """The configuration that an instance already serves: vLLM makes one for the flag and one for the entry point, and
    only the first may act."""

    def __init__(self, vllm_config: Any, *more: Any) -> None:
        """V1 gives `(vllm_config, device, is_pin_memory)`, V2 `(vllm_config, req_states)`."""
        served = BudgetForcing._served
        self._is_second = served is not None and served() is vllm_config
        BudgetForcing._served = ref(vllm_config)
        self._states = more[0] if len(more) == 1 else None
        self._configuration = VllmConfiguration(vllm_config)
        if self._configuration.is_named:
            _ = self._configuration.tokens  # refuses at the start
        self._memory = Memory()
        self._batch = BatchLogitsProcessor()
        self._pending: dict[int, Any] = {}
        self._num_prompt: dict[int, int] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse arguments that make no sense before the request is queued: HTTP 400."""
        arguments = sampling_params.extra_args or {}
        if REQUEST_FIELD in arguments:
            _plan_in_memory(arguments[REQUEST_FIELD])
            return
        asked = read_fields(arguments)
        if asked is not None:
            refuse_unforced(sampling_params)
        configuration = configuration_of_caller() if asked is not None else None
        if asked is not None and configuration is not None:
            # The prompt is not known here; one of nothing but the opening delimiter is the shortest there is.
            tokens = configuration.tokens
            asked.plan(tokens, configuration.context_tokens, tokens.open_ids, sampling_params.max_tokens)

    def is_argmax_invariant(self) -> bool:
        """False: greedy requests are forced too."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """V1: follow the batch as rows leave, come and move. Tokens are read in `apply`, when they are known."""
        if batch_update is None or self._is_second:
            return
        for index in batch_update.removed:
            self._batch.drop(index)
        for index, params, prompt, output in batch_update.added:
            self._batch.drop(index)
            if asks(params.extra_args):
                self._begin(index, params, prompt or [], output)
        for first, second, direction in batch_update.moved:
            self._batch.move(first, second, direction.name == "SWAP")

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """V2: a request takes a slot, or takes one again after preemption; True when it wants to be processed."""
        self._batch.drop(req_idx)
        self._pending.pop(req_idx, None)
        if self._is_second or not asks(sampling_params.extra_args):
            return False
        self._pending[req_idx] = sampling_params
        return True

    def apply_staged_writes(self) -> None:
        """V2: the tokens of new requests can be read now; those of a resumed one hold its output so far."""
        states: Any = self._states
        for slot, params in self._pending.items():
            prompt, known = int(states.prompt_len.np[slot]), int(states.prefill_len.np[slot])
            ids = states.all_token_ids.gpu[slot, :known].tolist()
            self._begin(slot, params, ids[:prompt], ids[prompt:])
            self._num_prompt[slot] = prompt
        self._pending.clear()

    def apply(self, logits: torch.Tensor, context: Any = None) -> torch.Tensor:
        """Tell the rows what was sampled since the last time, then steer."""
        if not self._batch:
            return logits
        if context is None:
            return self._batch.steer(logits)
        slots: list[int] = context.idx_mapping_np.tolist()
        if len(context.expanded_idx_mapping) != len(slots):
            raise RuntimeError("s1kit: several positions of one request in a step; speculative decoding is refused.")
        ours = [slot for slot in slots if slot in self._batch]
        if not ours:
            return logits
        self._read(ours)
        return self._batch.steer(logits, slots)

    def _read(self, slots: list[int]) -> None:
        """V2: what was sampled since the last time, into the outputs of these rows."""
        states: Any = self._states
        which = torch.tensor(slots, device=states.total_len.gpu.device)
        totals = states.total_len.gpu[which]
        # One read-back for all rows: nearly always exactly one token is new.
        last = states.all_token_ids.gpu[which, totals.long() - 1]
        for slot, total, token in zip(slots, *torch.stack((totals, last)).tolist(), strict=True):
            output = self._batch[slot].output
            start = self._num_prompt[slot] + len(output)
            if total == start + 1:
                output.append(token)
            elif total > start:
                output += states.all_token_ids.gpu[slot, start:total].tolist()

    def _begin(self, slot: int, params: Any, prompt: list[int], output: list[int]) -> None:
        """Begin a request, or take it up again where its output stands."""
        number = params.extra_args.get(REQUEST_FIELD)
        try:
            row = Steered(self._plan(number, params, prompt), self._memory, len(prompt))
        except InputError as error:
            _log.error("s1kit refused a request: %s", error)
            self._batch.put(slot, Refused(self._configuration.refusal_ids(error)), output)
            return
        row.replay(output[: next((i for i, token in enumerate(output) if token < 0), len(output))])
        member = self._batch.put(slot, row, output)
        if number is not None:
            STEERED[number] = member

    def _plan(self, number: Any, params: Any, prompt: list[int]) -> Plan:
        if number is not None:
            return _plan_in_memory(number)
        asked, configuration = read_fields(params.extra_args), self._configuration
        assert asked is not None, "only requests that ask come here"
        temperature, seed = params.temperature or 0.0, params.seed or 0
        return asked.plan(
            configuration.tokens, configuration.context_tokens, prompt, params.max_tokens, temperature, seed
        )


def _plan_in_memory(number: Any) -> Plan:
    plan = PLANS.get(number) if type(number) is int else None
    if plan is None:
        raise InputError(
            f"{REQUEST_FIELD} is {number!r}, which only the engine vllm: may give, in its own process",
            where=f"vllm_xargs.{REQUEST_FIELD}",
            fix="Ask with max_thinking_tokens, num_waits and the others.",
        )
    return plan
