"""What forcing costs, and what doing it inside the engine saves: python bench/forced_decoding.py [options]

Three figures, as ratios, on one model (random weights unless --model is given; nothing here depends on what it knows):

    forced / plain     tokens/s with budgets, waits and delimiters against the same engine decoding the same number of
                       tokens without looking at any of them; the goal is 0.98 or more
    engine / generate  tokens/s of that against transformers' own generate, same lengths
    in-engine / rounds six waits, requests of skewed lengths: forcing inside the batch against the rounds of s1's
                       evaluation (generate all, wait for the slowest, append, generate all again) on the same engine
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from s1kit import Generation, Request, ThinkingBudget
from s1kit.engines.decoder import Decoder, _Active
from s1kit.engines.sampling import Chooser
from s1kit.engines.transformers import TransformersEngine, load, load_tokenizer, of_model
from s1kit.formats import FORMATS
from s1kit.request import Prefix

SHAPES = {
    "tiny": {"hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 4, "num_attention_heads": 4},
    "1.5b": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12},
    "7b": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
}
KEY_VALUE_HEADS = {"tiny": 2, "1.5b": 2, "7b": 4}


class FreeRow:
    """Looks at nothing: decodes a number of tokens and is done."""

    drop = 0

    def __init__(self, prompt: tuple[int, ...], num_tokens: int, plan: Any) -> None:
        self.plan, self._prompt, self._left = plan, prompt, num_tokens

    @property
    def is_done(self) -> bool:
        return self._left == 0

    def start(self) -> tuple[int, ...]:
        return self._prompt

    def push(self, token: int) -> tuple[int, ...]:
        self._left -= 1
        return (token,) if self._left else ()

    def generation(self) -> Generation:
        return Generation(question_id="", ending="closed")


def make_engine(shape: str, tokenizer_folder: str, model: str | None) -> TransformersEngine:
    if model is not None:
        return load(model)
    tokenizer = load_tokenizer(tokenizer_folder)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = Qwen2Config(
        vocab_size=len(tokenizer) if shape == "tiny" else 151936,
        max_position_embeddings=4096,
        num_key_value_heads=KEY_VALUE_HEADS[shape],
        tie_word_embeddings=shape != "7b",
        **SHAPES[shape],
    )
    torch.manual_seed(0)
    with torch.device(device):
        built = Qwen2ForCausalLM(config).to(torch.bfloat16 if device == "cuda" else torch.float32).eval()
    return of_model(built, tokenizer, FORMATS["s1"])


def seconds(work: Any) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    # Processor time on a CPU, where neighbours would otherwise be measured too.
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    start = clock()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return clock() - start


def forced_requests(num: int, thinking: int) -> list[Request]:
    """Random weights rarely stop: a cutoff, its delimiter and closing phrase; and waits where they do stop."""
    return [
        Request(
            question=f"Question {i:04d}?",
            budget=ThinkingBudget(thinking, thinking - 8, 3),
            answer_tokens=32,
            temperature=0.0,
            loop_guard=False,
        )
        for i in range(num)
    ]


def drain(decoder: Decoder) -> None:
    while not decoder.is_idle:
        decoder.step()


def plain(engine: TransformersEngine, requests: list[Request], lengths: list[int]) -> None:
    plans = [engine.plan(r) for r in requests]
    decoder = engine.decoder(max(p.total_tokens for p in plans), len(plans))
    for plan, length in zip(plans, lengths, strict=True):
        row: Any = FreeRow(plan.prompt_ids, length, plan)
        decoder._waiting.append((_Active(0, row, Chooser.of(plan.request), False), plan.prompt_ids))
    drain(decoder)


def by_generate(engine: TransformersEngine, requests: list[Request], length: int) -> None:
    ids = torch.tensor([engine.plan(r).prompt_ids for r in requests], device=engine.model.device)
    with torch.inference_mode():
        engine.model.generate(ids, do_sample=False, min_new_tokens=length, max_new_tokens=length, pad_token_id=0)


def by_rounds(engine: TransformersEngine, requests: list[Request], num_waits: int) -> int:
    """s1's way: one generation to the stop for all, then the wait is appended and all go again; returns tokens."""
    prefixes: dict[str, tuple[Any, ...]] = {}
    for number in range(num_waits + 1):
        is_last = number == num_waits
        asked = [_round(r, prefixes.get(r.question_id, ()), number, is_last) for r in requests]
        found = list(engine.generate(asked))
        for g in found:
            prefixes[g.question_id] = tuple(s for s in g.segments if s.kind in ("thinking", "wait"))
    return sum(g.thinking_tokens + g.answer_tokens for g in found)


def _round(request: Request, prefix: tuple[Any, ...], number: int, is_last: bool) -> Request:
    from dataclasses import replace

    assert request.budget is not None
    # One wait is inserted when the prefix runs into the stop at once: greedy decoding repeats it.
    budget = ThinkingBudget(request.budget.max_tokens, 0, number)
    given = Prefix(prefix) if prefix else None
    return replace(request, budget=budget, prefix=given, answer_tokens=request.answer_tokens if is_last else 8)


def report(engine: TransformersEngine, num: int, thinking: int, repeats: int) -> Iterator[str]:
    requests = forced_requests(num, thinking)
    found: list[Generation] = []
    forced_s, plain_s = 1e9, 1e9
    for _ in range(repeats):
        found.clear()
        forced_s = min(forced_s, seconds(lambda: found.extend(engine.generate(requests))))
        lengths = [sum(s.num_tokens for s in g.segments) for g in found]
        plain_s = min(plain_s, seconds(partial(plain, engine, requests, lengths)))
    tokens = sum(lengths)
    yield f"{num} requests, {tokens} tokens: forced {tokens / forced_s:.0f} tokens/s, plain {tokens / plain_s:.0f}"
    yield f"forced / plain: {plain_s / forced_s:.3f}"
    length = tokens // num
    generate_s = min(seconds(lambda: by_generate(engine, requests, length)) for _ in range(repeats))
    yield f"transformers generate: {length * num / generate_s:.0f} tokens/s"
    yield f"engine / generate: {generate_s / forced_s:.2f}"


def skewed(engine: TransformersEngine, num: int) -> Iterator[str]:
    """Sampled lengths to a stop are close to geometric: skewed."""
    requests = [
        Request(
            question=f"Q{i:03d}?", budget=ThinkingBudget(600, 0, 6), answer_tokens=16, temperature=0.0, loop_guard=False
        )
        for i in range(num)
    ]
    found: list[Generation] = []
    inside = seconds(lambda: found.extend(engine.generate(requests)))
    tokens = sum(g.thinking_tokens + g.answer_tokens for g in found)
    counts: list[int] = []
    rounds = seconds(lambda: counts.append(by_rounds(engine, requests, 6)))
    lengths = sorted(g.thinking_tokens for g in found)
    middle = lengths[len(lengths) // 2]
    yield f"six waits, {num} requests, thinking {lengths[0]} to {lengths[-1]} (median {middle}) tokens"
    yield f"in-engine {tokens / inside:.0f} tokens/s, rounds {counts[0] / rounds:.0f}; ratio {rounds / inside:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--tokenizer", required=True, help="a checkpoint folder with s1's delimiters")
    parser.add_argument("--model", help="a checkpoint instead of random weights")
    parser.add_argument("--stopping-model", help="a checkpoint that stops by itself, for the rounds")
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--thinking", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    engine = make_engine(given.shape, given.tokenizer, given.model)
    for line in report(engine, given.requests, given.thinking, given.repeats):
        print(line, flush=True)
    if given.stopping_model:
        for line in skewed(load(given.stopping_model), given.requests):
            print(line, flush=True)


if __name__ == "__main__":
    main()
