"""Budget forcing inside vLLM: a logits processor that a user adds to their own server.

    pip install s1kit                     # the entry point `vllm.logits_processors` makes vLLM find it
    vllm serve MODEL --logits-processors s1kit.engines.vllm_plugin:BudgetForcing

A request asks with `vllm_xargs` (`extra_args` of SamplingParams offline); one that does not is left alone:

    {"max_thinking_tokens": 2048, "min_thinking_tokens": 0, "num_waits": 2, "wait": "Wait", "answer_tokens": 512}

One class serves both of vLLM's processor interfaces. It refuses to start where it could not be exact: with speculative
decoding on the V1 runner, which drops processors silently, and with asynchronous scheduling when it was not named with
`--logits-processors`, because vLLM then hides the sampled tokens from it. Sampling is exact before top-k and top-p.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch

from s1kit.engines.steer_logits import steer
from s1kit.engines.steering import Memory, Steered
from s1kit.engines.vllm_fields import REQUEST_FIELD, read_fields
from s1kit.errors import InputError
from s1kit.formats import detect_format, load_format
from s1kit.plan import Plan, make_plan
from s1kit.tokenizer import FileTokenizer, find_folder
from s1kit.tokens import TokenFormat

from vllm.v1.sample.logits_processor import LogitsProcessor as ProcessorV1  # isort: skip

try:
    from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor as ProcessorV2
except ImportError:  # a vLLM that has only the V1 runner

    class ProcessorV2:  # type: ignore[no-redef]
        """Stands in for the interface that this vLLM does not have."""


PLANS: dict[int, Plan] = {}
"""Requests of the engine `vllm:` in this process, by the number in their extra argument `s1kit_request`."""
STEERED: dict[int, Steered] = {}
"""Their rows, once vLLM has begun them."""


class BudgetForcing(ProcessorV1, ProcessorV2):  # type: ignore[misc]
    """Forces the budgets of the requests that ask for it."""

    _owner: ClassVar[int] = 0
    """Identity of the configuration that an instance already serves: vLLM makes one for the flag and one for the entry
    point, and only the first may act."""

    def __init__(self, vllm_config: Any, *more: Any) -> None:
        """V1 gives `(vllm_config, device, is_pin_memory)`, V2 `(vllm_config, req_states)`."""
        self._states = more[0] if len(more) == 1 else None
        self._is_second = BudgetForcing._owner == id(vllm_config)
        BudgetForcing._owner = id(vllm_config)
        _refuse_where_inexact(vllm_config, is_v2=self._states is not None)
        self._tokens = _read_tokens(vllm_config.model_config)
        self._context = int(vllm_config.model_config.max_model_len)
        self._memory = Memory()
        self._rows: dict[int, _Running] = {}
        self._pending: dict[int, Any] = {}

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse arguments that make no sense before the request is queued: HTTP 400."""
        read_fields(sampling_params.extra_args or {}, sampling_params.max_tokens)

    def is_argmax_invariant(self) -> bool:
        """False: greedy requests are forced too."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """V1: follow the batch as rows leave, come and move. Tokens are read in `apply`, when they are known."""
        if batch_update is None or self._is_second:
            return
        for index in batch_update.removed:
            self._rows.pop(index, None)
        for index, params, prompt, output in batch_update.added:
            self._rows.pop(index, None)
            if _asks(params):
                self._rows[index] = self._run(params, prompt or [], output)
        for first, second, direction in batch_update.moved:
            a, b = self._rows.pop(first, None), self._rows.pop(second, None)
            if a is not None:
                self._rows[second] = a
            if b is not None and direction.name == "SWAP":
                self._rows[first] = b

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        """V2: a request takes a slot, or takes one again after preemption; True when it wants to be processed."""
        self._rows.pop(req_idx, None)
        self._pending.pop(req_idx, None)
        if self._is_second or not _asks(sampling_params):
            return False
        self._pending[req_idx] = sampling_params
        return True

    def apply_staged_writes(self) -> None:
        """V2: the tokens of new requests can be read now; those of a resumed one hold its output so far."""
        states: Any = self._states
        for slot, params in self._pending.items():
            prompt, known = int(states.prompt_len.np[slot]), int(states.prefill_len.np[slot])
            ids = states.all_token_ids.gpu[slot, :known].tolist()
            self._rows[slot] = self._run(params, ids[:prompt], ids[prompt:])
        self._pending.clear()

    def apply(self, logits: torch.Tensor, context: Any = None) -> torch.Tensor:
        """Tell the rows what was sampled since the last time, then steer."""
        if not self._rows:
            return logits
        if context is not None:
            return steer(logits, self._members(context))
        for running in self._rows.values():
            running.catch_up()
        return steer(logits, [(i, r.row) for i, r in self._rows.items() if i < logits.shape[0]])

    def _members(self, context: Any) -> list[tuple[int, Steered]]:
        """V2: the rows of this step, told of what was sampled in the last."""
        slots = context.expanded_idx_mapping.tolist()
        if len(set(slots)) != len(slots):
            raise RuntimeError("s1kit: several positions of one request in a step; speculative decoding is refused.")
        ours = [(at, slot) for at, slot in enumerate(slots) if slot in self._rows]
        states: Any = self._states
        lengths = states.total_len.gpu[[slot for _, slot in ours]].tolist() if ours else []
        for (_, slot), total in zip(ours, lengths, strict=True):
            running = self._rows[slot]
            start = running.num_prompt + len(running.output)
            if total > start:
                running.output += states.all_token_ids.gpu[slot, start:total].tolist()
            running.catch_up()
        return [(at, self._rows[slot].row) for at, slot in ours]

    def _run(self, params: Any, prompt: list[int], output: list[int]) -> _Running:
        number = (params.extra_args or {}).get(REQUEST_FIELD)
        if number is not None:
            plan, num_given = PLANS[number], len(prompt)
        else:
            asked = read_fields(params.extra_args, params.max_tokens)
            assert asked is not None
            opening = list(self._tokens.open_ids)
            whole = prompt if prompt[-len(opening) :] == opening else [*prompt, *opening]
            request = asked.request(params.temperature or 0.0, params.seed or 0)
            plan, num_given = make_plan(request, self._tokens, self._context, whole), len(prompt)
        row = Steered(plan, self._memory, num_given)
        row.replay(output)
        if number is not None:
            STEERED[number] = row
        return _Running(row, len(prompt), output, len(output))


def _asks(params: Any) -> bool:
    arguments = params.extra_args or {}
    return REQUEST_FIELD in arguments or read_fields(arguments, params.max_tokens) is not None


class _Running:
    """A row, and how much of its output it has been told."""

    def __init__(self, row: Steered, num_prompt: int, output: list[int], num_told: int) -> None:
        self.row, self.num_prompt, self.output, self._num_told = row, num_prompt, output, num_told

    def catch_up(self) -> None:
        for token in self.output[self._num_told :]:
            if token < 0:
                raise RuntimeError(
                    "s1kit: vLLM hides the sampled tokens from its processors. Start it with "
                    "--logits-processors s1kit.engines.vllm_plugin:BudgetForcing, or with --no-async-scheduling."
                )
            self.row.observe(token)
            self._num_told += 1


def _refuse_where_inexact(vllm_config: Any, is_v2: bool) -> None:
    if getattr(vllm_config, "speculative_config", None) is not None:
        raise InputError(
            "budget forcing is not exact under speculative decoding" + ("" if is_v2 else ", where V1 drops processors"),
            where="vllm --speculative-config",
            fix="Start vLLM without speculative decoding, or use s1kit's completions: engine in front of it.",
        )
    scheduler = getattr(vllm_config, "scheduler_config", None)
    is_named = bool(getattr(vllm_config.model_config, "logits_processors", None))
    if not is_v2 and getattr(scheduler, "async_scheduling", False) and not is_named:
        raise InputError(
            "with asynchronous scheduling vLLM hides sampled tokens from a processor that is only an entry point",
            where="vllm --logits-processors",
            fix="Add --logits-processors s1kit.engines.vllm_plugin:BudgetForcing, or --no-async-scheduling.",
        )


def _read_tokens(model_config: Any) -> TokenFormat:
    folder = find_folder(str(model_config.tokenizer or model_config.model))
    tokenizer = FileTokenizer(folder)
    model = Path(str(model_config.model))
    own = load_format(model) if model.is_dir() else None
    return TokenFormat(own or load_format(folder) or detect_format(tokenizer), tokenizer, tokenizer.more_eos_ids)
