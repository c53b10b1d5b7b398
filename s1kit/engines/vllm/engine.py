"""The engine `vllm:`: offline vLLM in this process with the plugin loaded, so that forcing needs no second prefill."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import count
from typing import Any

# The plugin must live in this process, where it finds the plans and leaves the rows.
os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")

from s1kit.engines.gguf.unpacking import is_gguf, unpacked
from s1kit.engines.interface import BatchEngine, Event, lost
from s1kit.engines.vllm.fields import REQUEST_FIELD
from s1kit.errors import InputError, MissingExtra, WorkFailed, nearest
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import ThinkingFormat, load_format
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer, find_folder
from s1kit.forcing.transcript import Transcript
from s1kit.records import Generation, Segment

try:
    import vllm
except ImportError as error:
    raise MissingExtra("the engine vllm:", "vllm", extra="vllm") from error

from vllm.exceptions import VLLMServerError
from vllm.platforms import current_platform
from vllm.sampling_params import RequestOutputKind

from s1kit.engines.steering import refuse_unsteerable
from s1kit.engines.vllm.plugin import PLANS, STEERED, BudgetForcing

_numbers = count()


@dataclass
class VllmEngine(BatchEngine):
    """A model loaded into vLLM in this process, its budgets enforced by the plugin."""

    failures = (RuntimeError, VLLMServerError)

    llm: Any
    tokens: TokenFormat
    context_tokens: int

    def close(self) -> None:
        """Free the model's memory, so that another model can be loaded onto the card."""
        self.llm.llm_engine.engine_core.shutdown()

    def running_batch(self) -> VllmBatch:
        """A running batch: vLLM's own, which requests join and leave."""
        return VllmBatch(self.llm.llm_engine)


class VllmBatch:
    """vLLM's batch, with the rows that the plugin steers beside it."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self._plans: dict[int, tuple[Plan, bool]] = {}
        self._ending: set[int] = set()
        """Requests whose thinking is to end, or was ended."""

    @property
    def is_idle(self) -> bool:
        return not self._plans

    def admit(self, plan: Plan, is_streamed: bool = False) -> int:
        """Queue a request; returns the ticket that its events carry."""
        number = next(_numbers)
        self._plans[number], PLANS[number] = (plan, is_streamed), plan
        prompt = vllm.TokensPrompt(prompt_token_ids=[*plan.prompt_ids, *plan.prefix_ids])
        self._engine.add_request(str(number), prompt, _parameters(number, plan, is_streamed))
        return number

    def cancel(self, ticket: int) -> None:
        """Forget a request, running or waiting; one that is already done is none."""
        if ticket in self._plans:
            self._engine.abort_request([str(ticket)])
            self._forget(ticket)

    def end_thinking(self, ticket: int) -> None:
        """End a request's thinking at the next token, as a budget spent there does; a no-op once it answers."""
        if ticket in self._plans:
            self._ending.add(ticket)
            if (member := STEERED.get(ticket)) is not None:
                member.ends_thinking = True

    def step(self) -> list[Event]:
        """One step of vLLM; returns what is new."""
        events = []
        for number in self._ending:
            self._follow_ending(number)
        for output in self._engine.step():
            number = int(output.request_id.split("-")[0])
            if number not in self._plans:
                continue  # it was cancelled meanwhile
            plan, is_streamed = self._plans[number]
            generation = _finish(number, plan, output.outputs[0].token_ids) if output.finished else None
            segments = _new_segments(number, output.outputs[0].token_ids) if is_streamed else ()
            if generation is not None:
                self._forget(number)
            if segments or generation is not None:
                events.append(Event(number, segments, generation))
        return events

    def fail(self, why: str) -> list[Event]:
        """Give up every request that is not done; their events say why and keep what they had."""
        events = []
        for number, (plan, _) in list(self._plans.items()):
            member = STEERED.get(number)
            if member is not None:
                member.catch_up([token for token in member.output if token >= 0])
            generation = Transcript(plan).generation() if member is None else member.row.generation()
            events.append(lost(number, generation, why))
            self.cancel(number)
        return events

    def _follow_ending(self, number: int) -> None:
        """End the thinking of a request that has only now begun; keep the plan of one whose thinking was ended."""
        member = STEERED.get(number)
        if member is None or member.ends_thinking:
            return
        plan = member.row.plan
        if plan is self._plans[number][0] and member.row.row.is_thinking:
            member.ends_thinking = True
        PLANS[number] = plan

    def _forget(self, number: int) -> None:
        self._ending.discard(number)
        del self._plans[number]
        PLANS.pop(number, None)
        STEERED.pop(number, None)


def _finish(number: int, plan: Plan, ids: Sequence[int]) -> Generation:
    """The row's record, once it has been told of the last tokens, which no step followed."""
    member = STEERED.get(number)
    if member is None:
        failed = Transcript(plan).generation()
        return failed.model_copy(update={"ending": "failed", "note": "vLLM did not run the plugin"})
    member.catch_up(ids)
    return member.row.generation()


def _new_segments(number: int, ids: Sequence[int]) -> tuple[Segment, ...]:
    member = STEERED.get(number)
    if member is None:
        return ()
    member.catch_up(ids)
    return tuple(member.row.row.new_segments())


def load(
    model: str,
    format: str | ThinkingFormat | None = None,
    context_tokens: int | None = None,
    max_batch: int | None = None,
    template: Mapping[str, Any] | None = None,
    **options: Any,
) -> VllmEngine:
    """Load a checkpoint folder, GGUF file or Hub id; further options go to `vllm.LLM`.

    Raises InputError for an option that vLLM does not have, and WorkFailed where vLLM does not start.
    """
    where = f"vllm:{model}"
    known = {field.name for field in fields(vllm.EngineArgs)}
    for name in options:
        if name not in known:
            raise InputError(f"the engine vllm: has no option {name!r}", where=where, fix=nearest(name, known))
    if max_batch is not None:
        options.setdefault("max_num_seqs", max_batch)
    if is_gguf(model):
        model = str(unpacked(model))
    folder = find_folder(model)
    tokenizer = FileTokenizer(folder)
    fmt = choose_format(format, load_format(folder), tokenizer, template)
    tokens = TokenFormat(fmt, tokenizer, tokenizer.more_eos_ids)
    refuse_unsteerable(tokens)
    if current_platform.is_cpu():
        # A prompt in several pieces makes vLLM take a seeded row's draw back, which generators of a CPU cannot.
        options.setdefault("enable_chunked_prefill", False)
    # vLLM's own name for the same option is taken, too.
    named = options.pop("max_model_len", None)
    context_tokens = context_tokens or named
    try:
        llm = vllm.LLM(model, max_model_len=context_tokens, logits_processors=[BudgetForcing], **options)
    except (ValueError, RuntimeError, OSError, AssertionError, NotImplementedError) as error:
        raise WorkFailed(f"vLLM does not start: {_said(error)}", where=where, fix=_repair(str(error))) from error
    return VllmEngine(llm, tokens, int(llm.llm_engine.model_config.max_model_len))


def _said(error: BaseException) -> str:
    """The first line of the innermost error; vLLM wraps what happened in what it was doing."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]


def _repair(said: str) -> str:
    """What to do about the commonest reasons for which vLLM does not start."""
    text = said.lower()
    if current_platform.is_cpu() and "memory" in text:
        return "Set the environment variable VLLM_CPU_KVCACHE_SPACE to the GiB that keys and values may take, e.g. 2."
    if "max_model_len" in text or "max seq len" in text or "max_position_embeddings" in text:
        return "Give a smaller context: ,context_tokens=4096."
    if "memory" in text or "kv cache" in text:
        return "Give ,gpu_memory_utilization=0.8 or less, ,context_tokens=4096, or ,tensor_parallel_size=N."
    return "Try `vllm serve` on the same model: its log says more."


def _parameters(number: int, plan: Plan, is_streamed: bool) -> Any:
    request = plan.request
    # vLLM makes an object for each request in each step unless it is told that nobody looks before the end.
    kind = RequestOutputKind.CUMULATIVE if is_streamed else RequestOutputKind.FINAL_ONLY
    return vllm.SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        seed=request.seed if request.temperature else None,
        max_tokens=plan.total_tokens - len(plan.prompt_ids) - len(plan.prefix_ids),
        detokenize=False,
        output_kind=kind,
        extra_args={REQUEST_FIELD: number},
    )
