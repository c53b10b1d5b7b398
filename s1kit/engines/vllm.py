"""The engine `vllm:`: vLLM offline, in this process, with the plugin inside: forcing costs no second prefill."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

# The plugin must live in this process, where it finds the plans and leaves the rows.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from s1kit.engines import OnSegment
from s1kit.engines.planned import Planned
from s1kit.engines.vllm_fields import REQUEST_FIELD
from s1kit.errors import InputError, MissingExtra
from s1kit.formats import ThinkingFormat, choose_format, load_format
from s1kit.plan import Plan
from s1kit.records import Generation
from s1kit.request import Request
from s1kit.tokenizer import FileTokenizer, find_folder
from s1kit.tokens import TokenFormat
from s1kit.transcript import Transcript

try:
    import vllm
except ImportError as error:
    raise MissingExtra("the engine vllm:", "vllm", extra="vllm") from error

from s1kit.engines.vllm_plugin import PLANS, STEERED, BudgetForcing

_numbers = count()


@dataclass
class VllmEngine(Planned):
    """A loaded model."""

    llm: Any
    tokens: TokenFormat
    context_tokens: int

    def plan(self, request: Request) -> Plan:
        """The request, resolved; InputError when it cannot be honoured."""
        plan = super().plan(request)
        # The end of sequence is a token of its own to vLLM.
        if plan.total_tokens + 1 > self.context_tokens and request.budget is not None:
            most = plan.budget.max_tokens - 1
            raise InputError(
                f"max_tokens is {plan.budget.max_tokens}: vLLM needs room for one token more",
                where="budget.max_tokens",
                fix=f"Give {most} or less.",
            )
        return plan

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish. All requests are checked before any is decoded."""
        plans = {next(_numbers): self.plan(r) for r in requests}
        first = min(plans, default=0)
        PLANS.update(plans)
        engine = self.llm.llm_engine
        try:
            for number, plan in plans.items():
                prompt = vllm.TokensPrompt(prompt_token_ids=[*plan.prompt_ids, *_prefix_ids(plan)])
                engine.add_request(str(number), prompt, _parameters(number, plan))
            while engine.has_unfinished_requests():
                outputs = {int(o.request_id.split("-")[0]): o for o in engine.step()}
                for number in outputs if on_segment else ():
                    for segment in STEERED[number].row.new_segments():
                        on_segment(number - first, segment)  # type: ignore[misc]
                for number, output in outputs.items():
                    if output.finished:
                        yield self._finish(number, plans[number], list(output.outputs[0].token_ids))
        finally:
            for number in plans:
                PLANS.pop(number, None)
                STEERED.pop(number, None)

    def _finish(self, number: int, plan: Plan, ids: list[int]) -> Generation:
        """The row's record, once it has been told of the last tokens, which no step followed."""
        row = STEERED.get(number)
        if row is None:
            failed = Transcript(plan).generation()
            return failed.model_copy(update={"ending": "failed", "note": "vLLM did not run the plugin"})
        for token in ids[row.num_observed :]:
            row.observe(token)
        return row.generation()


def load(
    model: str, format: str | ThinkingFormat | None = None, context_tokens: int | None = None, **options: Any
) -> VllmEngine:
    """Load a checkpoint folder or Hub id; further options go to `vllm.LLM`. Raises InputError."""
    folder = find_folder(model)
    tokenizer = FileTokenizer(folder)
    fmt = choose_format(format, load_format(folder), tokenizer)
    tokens = TokenFormat(fmt, tokenizer, tokenizer.more_eos_ids)
    processors = [BudgetForcing]
    llm = vllm.LLM(model, max_model_len=context_tokens, logits_processors=processors, **options)
    return VllmEngine(llm, tokens, int(llm.llm_engine.model_config.max_model_len))


def _parameters(number: int, plan: Plan) -> Any:
    request = plan.request
    return vllm.SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed if request.temperature else None,
        max_tokens=plan.total_tokens - len(plan.prompt_ids) - len(_prefix_ids(plan)) + 1,
        detokenize=False,
        extra_args={REQUEST_FIELD: number},
    )


def _prefix_ids(plan: Plan) -> list[int]:
    return [i for s in plan.prefix for i in s.token_ids]
