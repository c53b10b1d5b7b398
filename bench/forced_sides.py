"""The sides that `forced_decoding.py` compares: an engine with forcing, without, and s1's rounds over the latter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Protocol

from s1kit import Generation, Request
from s1kit.forcing.plan import Plan

Ids = list[int]


class Side(Protocol):
    """One engine, loaded."""

    forcing: Any
    """Our engine."""
    num_passes: int
    """Through the model, so far."""

    def plain(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], request: Request) -> list[str]:
        """Decode so many tokens of each and look at none of them; returns the texts."""
        ...

    def until_stop(
        self, contexts: Sequence[Ids], most: Sequence[int], stops: frozenset[int], request: Request
    ) -> list[Ids]:
        """Continue each context until a stop, which is not part of what is returned, or so many tokens."""
        ...


@dataclass
class Turn:
    """One request in s1's rounds, with what it decoded inside the engine."""

    plan: Plan
    context: Ids
    runs: list[int]
    """Tokens sampled until each stop attempt, the stop included; until the room was spent, the last where it was."""
    waits: list[tuple[int, ...]]
    """What replaced all stops but the last."""
    ends_by_stop: bool
    num_answer: int
    """Sampled tokens of the answer, its end included."""

    @classmethod
    def of(cls, plan: Plan, generation: Generation) -> Turn:
        runs, waits = [0], []
        for segment in generation.segments:
            if segment.kind == "thinking":
                runs[-1] += segment.num_tokens
            elif segment.kind == "wait":
                waits.append(segment.token_ids)
                runs[-1] += 1
                runs.append(0)
        ends_by_stop = generation.ending == "closed"
        runs[-1] += ends_by_stop
        answer = sum(s.num_tokens for s in generation.segments if s.kind == "answer")
        return cls(
            plan, list(plan.prompt_ids), runs, waits, ends_by_stop, answer + (generation.answer_finish == "stop")
        )


def by_rounds(side: Side, plans: Sequence[Plan], generations: Sequence[Generation]) -> int:
    """s1's evaluation: all think until they stop; the wait is appended to each; all think again; at last all answer.

    Each run is as long as it was inside the engine, so both decode the same numbers of tokens. As in s1's, each round
    takes its prompt as ids and prefills it whole; an engine that caches prefixes may use them. Nothing is tokenised,
    detokenised or looked at in between, so this is the fastest that the rounds can be. Returns the tokens of thinking
    and answers, waits included.
    """
    turns = [Turn.of(plan, generation) for plan, generation in zip(plans, generations, strict=True)]
    request, end_ids = plans[0].request, plans[0].tokens.end_ids
    total = 0
    for number in range(max(len(turn.runs) for turn in turns)):
        # A run of nothing is a room that a wait has filled.
        open_turns = [t for t in turns if len(t.runs) > number and t.runs[number]]
        found = side.until_stop(
            [t.context for t in open_turns],
            [t.runs[number] for t in open_turns],
            frozenset(),
            replace(request, seed=number),
        )
        for turn, ids in zip(open_turns, found, strict=True):
            is_last = number == len(turn.runs) - 1
            kept = ids[:-1] if not is_last or turn.ends_by_stop else ids
            new = kept if is_last else [*kept, *turn.waits[number]]
            turn.context += new
            total += len(new)
    for turn in turns:
        turn.context += [*end_ids, *(() if turn.ends_by_stop else turn.plan.closing.ids)]
    asking = [turn for turn in turns if turn.num_answer]
    answers = side.until_stop(
        [t.context for t in asking], [t.num_answer for t in asking], frozenset(), replace(request, seed=99)
    )
    return total + sum(map(len, answers))


def num_tokens(generations: Sequence[Generation]) -> int:
    return sum(s.num_tokens for g in generations for s in g.segments)


class TransformersSide:
    """Our own loop over a transformers model: the same loop without forcing is what plain decoding is.

    One running batch serves all turns of both, as it serves all requests of an evaluation or a server: its memory is
    taken once, and on a card its steps are recorded once.
    """

    def __init__(self, forcing: Any) -> None:
        self.forcing = forcing
        self.num_passes = 0
        self._kept: Any = None
        self._num_rows = 0
        forcing.model.register_forward_pre_hook(self._count)
        # The engine is frozen, and takes any batch for its requests.
        object.__setattr__(forcing, "batch_for", lambda plans: self._batch(len(plans)))

    def _count(self, *_: Any) -> None:
        self.num_passes += 1

    def _batch(self, num: int) -> Any:
        """The running batch, made anew where it has too few rows."""
        if num > self._num_rows:
            self._kept, self._num_rows = None, num
            self._kept = self.forcing.running_batch(self.forcing.context_tokens, num)
        return self._kept

    def how(self) -> dict[str, Any]:
        """In which way it decoded, as far as that depends on the machine."""
        recorded = self._kept._recorded
        graphs = "off" if recorded is None or recorded._is_off else len(recorded._graphs)
        return {"attends_by": "lengths" if self._kept._passes.reads_lengths else "mask", "graphs": graphs}

    def plain(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], request: Request) -> list[str]:
        contexts = [list(p) for p in prompts]
        found = self._run(self._batch(len(contexts)), contexts, lengths, frozenset(), request)
        return [self.forcing.tokens.decode(ids) for ids in found]

    def by_generate(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], request: Request) -> list[str]:
        """transformers' own `generate`, prompts padded on the left; each row is done at its own length."""
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        model = self.forcing.model
        wanted = torch.tensor(lengths, device=model.device)
        start = max(len(p) for p in prompts)

        class AtLength(StoppingCriteria):  # type: ignore[misc]
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                return wanted <= input_ids.shape[1] - start

        most = max(len(p) for p in prompts)
        ids = torch.tensor([[0] * (most - len(p)) + list(p) for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (most - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        how = {"do_sample": True, "temperature": request.temperature, "top_k": 0} if request.temperature else {}
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=mask,
                min_new_tokens=max(lengths),
                max_new_tokens=max(lengths),
                stopping_criteria=StoppingCriteriaList([AtLength()]),
                pad_token_id=0,
                **({"do_sample": False} | how),
            )
        rows = zip(out[:, most:].tolist(), lengths, strict=True)
        return [self.forcing.tokens.decode(row[:length]) for row, length in rows]

    def until_stop(
        self, contexts: Sequence[Ids], most: Sequence[int], stops: frozenset[int], request: Request
    ) -> list[Ids]:
        return self._run(self._batch(len(contexts)), contexts, most, stops, request)

    def _run(
        self,
        decoder: Any,
        contexts: Sequence[Ids],
        most: Sequence[int],
        stops: frozenset[int],
        request: Request,
    ) -> list[Ids]:
        plan = self.forcing.plan(replace(request, budget=None))
        # The longest first: the passes that prefill them are then padded least.
        order = sorted(range(len(contexts)), key=lambda i: -len(contexts[i]))
        rows: dict[int, _Free] = {}
        for number in order:
            context, num = contexts[number], most[number]
            seeded = replace(plan, request=replace(request, seed=request.seed * 100_003 + number))
            row = _Free(replace(seeded, prompt_ids=tuple(context)), num, stops)
            decoder.admit(row.plan, driver=row)
            rows[number] = row
        while not decoder.is_idle:
            decoder.step()
        return [rows[number].ids for number in range(len(contexts))]


class _Free:
    """In the place of a token driver: notes tokens until a stop, or until there are enough."""

    drop = 0
    is_answering = False

    def __init__(self, plan: Plan, num_tokens: int, stops: frozenset[int]) -> None:
        self.plan, self.watched, self._left = plan, stops, num_tokens
        self.ids: Ids = []
        self.is_done = False

    @property
    def quiet(self) -> int:
        return self._left - 1

    def start(self) -> tuple[int, ...]:
        return self.plan.prompt_ids

    def note(self, tokens: Sequence[int]) -> None:
        self.ids += tokens
        self._left -= len(tokens)

    def push(self, token: int) -> tuple[int, ...]:
        if token in self.watched:
            self.is_done = True
            return ()
        self.note((token,))
        self.is_done = not self._left
        return (token,)

    def generation(self) -> Generation:
        return Generation(question_id="", segments=(), ending="closed")


class VllmSide:
    """A vLLM with the plugin inside and, where it is needed, another of the same model and settings without.

    Plain decoding is that of the first when nothing is asked of the plugin: of two vLLMs in one process the first is up
    to 4 % slower than the second, whatever they do.
    """

    def __init__(self, model: str, max_num_seqs: int, has_prefix_cache: bool, has_other: bool) -> None:
        import vllm

        from s1kit import load_engine
        from s1kit.engines.vllm.plugin import BudgetForcing

        settings: dict[str, Any] = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": max_num_seqs}
        # As `vllm:` itself has it on a CPU, where vLLM fails over seeded rows whose prompt comes in pieces.
        settings |= {"enable_prefix_caching": has_prefix_cache, "enable_chunked_prefill": False}
        self.forcing: Any = load_engine(f"vllm:{model}", **settings)
        self._llm: Any = None
        self._parameters, self._prompt = vllm.SamplingParams, vllm.TokensPrompt
        self.num_passes = 0
        self.processor_seconds = 0.0
        self._count(self.forcing.llm)
        if has_other:
            self._llm = vllm.LLM(model, max_model_len=self.forcing.context_tokens, **settings)
            self._count(self._llm)
        BudgetForcing.apply = self._timed(BudgetForcing.apply)  # type: ignore[method-assign]

    def _timed(self, apply: Any) -> Any:
        def timed(*given: Any) -> Any:
            start = perf_counter()
            try:
                return apply(*given)
            finally:
                self.processor_seconds += perf_counter() - start

        return timed

    def _count(self, llm: Any) -> None:
        step = llm.llm_engine.step

        def counted() -> Any:
            self.num_passes += 1
            return step()

        llm.llm_engine.step = counted

    def plain(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], request: Request) -> list[str]:
        return self._decode(self.forcing.llm, prompts, lengths, request)

    def without_plugin(self, prompts: Sequence[Sequence[int]], lengths: Sequence[int], request: Request) -> list[str]:
        return self._decode(self._llm, prompts, lengths, request)

    def _decode(
        self, llm: Any, prompts: Sequence[Sequence[int]], lengths: Sequence[int], request: Request
    ) -> list[str]:
        asked = [
            self._parameters(
                temperature=request.temperature,
                seed=number if request.temperature else None,
                max_tokens=length,
                ignore_eos=True,
                detokenize=False,
            )
            for number, length in enumerate(lengths)
        ]
        return [self.forcing.tokens.decode(ids) for ids in self._generate(llm, prompts, asked)]

    def until_stop(
        self, contexts: Sequence[Ids], most: Sequence[int], stops: frozenset[int], request: Request
    ) -> list[Ids]:
        # Seeds of their own, as our requests have: vLLM samples a row with one and a row without at different costs.
        asked = [
            self._parameters(
                temperature=request.temperature,
                seed=request.seed * 100_003 + number,
                max_tokens=n,
                stop_token_ids=sorted(stops),
                ignore_eos=not stops,
                detokenize=False,
            )
            for number, n in enumerate(most)
        ]
        found = self._generate(self._llm, contexts, asked)
        return [ids[:-1] if ids and ids[-1] in stops else ids for ids in found]

    def _generate(self, llm: Any, prompts: Sequence[Sequence[int]], parameters: list[Any]) -> list[Ids]:
        given = [self._prompt(prompt_token_ids=list(p)) for p in prompts]
        return [list(o.outputs[0].token_ids) for o in llm.generate(given, parameters, use_tqdm=False)]
