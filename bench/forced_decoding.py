"""What forcing costs, and what doing it inside the engine saves.

    python bench/forced_decoding.py --engine hf
    .venv-engines-vllm/bin/python bench/forced_decoding.py --engine vllm

Figures are wall time on a quiet machine, sides taking turns, medians and what single turns said; of tokens that entered
a context, forced ones included, up to a text:

    forced / plain      requests with budgets, waits and delimiters against the same engine decoding as many tokens of
                        each without looking at any of them; the goal is 0.98 or more
    forced / generate   transformers only: the same against its own `generate`
    forced / no plugin  vLLM, when asked for: the same against another vLLM in this process, without the plugin
    in-engine / rounds  six waits, lengths skewed: forcing inside the batch against the rounds of s1's evaluation
                        (all think until they stop, the wait is appended, all go again) on the engine without forcing;
                        the goal is 2 or more

The first runs the packaged tiny model on a CPU and random weights of a real shape elsewhere; the last always runs
random weights that try to stop with one probability everywhere. On a GPU a step is also held against the time it takes
to read the weights and the keys and values once.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")

import torch
from forced_models import SHAPES, build, bytes_of_a_pass, stop_exactly, write
from forced_sides import Side, TransformersSide, VllmSide, by_rounds, num_tokens

from s1kit import Generation, Request, ThinkingBudget
from s1kit.engines import _packaged
from s1kit.tiny.questions import held_out_questions

NUM_WAITS = 6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("hf", "vllm"), default="hf")
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--requests", default="1,64", help="how many at once, with commas between")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=("forced", "rounds"))
    parser.add_argument("--thinking", type=int, help="most in the first comparison, at least half: 192, or 512")
    parser.add_argument("--stop-every", type=float, default=32.0, help="tokens between two stops, on average")
    parser.add_argument("--random", action="store_true", help="random weights in the first comparison, too")
    parser.add_argument(
        "--no-plugin", action="store_true", help="a vLLM without the plugin in the first comparison, too"
    )
    parser.add_argument("--no-prefix-cache", action="store_true", help="vLLM without, as it was when s1 was evaluated")
    parser.add_argument("--bandwidth", type=float, help="of the memory, in GB/s; else a copy is measured")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/forced_decoding"), help="for checkpoints of vLLM")
    parser.add_argument("--json", type=Path, help="append the figures to this file, a line each")
    given = parser.parse_args()
    for line in report(given):
        print(line, flush=True)


def report(given: argparse.Namespace) -> Iterator[str]:
    counts = [int(n) for n in given.requests.split(",")]
    if given.only != "rounds":
        side, model = forced_side(given, max(counts))
        for num in counts:
            yield from forced_against_plain(side, model, num, given)
        del side, model
    if given.only != "forced":
        side = rounds_side(given, max(counts))
        yield from inside_against_rounds(side, max(counts), given)


def forced_side(given: argparse.Namespace, most: int) -> tuple[Side, Any]:
    """The tiny model itself, or random weights."""
    if given.engine == "vllm":
        model = str(_packaged("tiny")) if is_packaged(given) else str(written(given))
        return VllmSide(model, most, not given.no_prefix_cache, has_other=given.no_plugin), None
    if not is_packaged(given):
        side = random_side(given)
        return side, side.forcing.model
    from s1kit.engines.hf.engine import load

    engine = load(str(_packaged("tiny")))
    return TransformersSide(engine), engine.model


def is_packaged(given: argparse.Namespace) -> bool:
    return given.shape == "tiny" and not given.random


def rounds_side(given: argparse.Namespace, most: int) -> Side:
    if given.engine == "vllm":
        return VllmSide(str(written(given)), most, not given.no_prefix_cache, has_other=True)
    return random_side(given)


def random_side(given: argparse.Namespace) -> TransformersSide:
    from s1kit.engines.hf.engine import of_model
    from s1kit.engines.hf.tokenizer import read_tokenizer
    from s1kit.forcing.formats import FORMATS

    tokenizer = read_tokenizer(str(_packaged("tiny")), "tiny")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(given.shape, tokenizer, given.stop_every, device)
    stop_exactly(model, tokenizer, given.stop_every)
    return TransformersSide(of_model(model, tokenizer, FORMATS["s1"]))


def written(given: argparse.Namespace) -> Path:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(_packaged("tiny"))
    return write(given.folder / f"{given.shape}-{given.stop_every:g}", given.shape, tokenizer, given.stop_every)


def forced_against_plain(side: Side, model: Any, num: int, given: argparse.Namespace) -> Iterator[str]:
    is_tiny = is_packaged(given)
    most = given.thinking or (192 if is_tiny else 512)
    requests = [
        Request(
            question=q.text,
            budget=ThinkingBudget(most, most // 2, 3),
            answer_tokens=32,
            temperature=0.0 if is_tiny else 1.0,
            seed=i,
        )
        for i, q in enumerate(held_out_questions(num, seed=0))
    ]
    found: list[Generation] = []
    first = seconds(lambda: found.extend(forced(side, requests)))
    # The end of sequence is sampled, too, though no segment holds it.
    lengths = {g.question_id: num_tokens([g]) + (g.answer_finish == "stop") for g in found}
    sizes = [lengths[r.question_id] for r in requests]
    total = sum(sizes)

    def plainly(decode: Callable[..., Any]) -> None:
        decode([side.forcing.plan(r).prompt_ids for r in requests])

    others = {"plain": partial(side.plain, lengths=sizes, request=requests[0])}
    if isinstance(side, TransformersSide):
        others["generate"] = partial(side.by_generate, lengths=sizes, request=requests[0])
    elif isinstance(side, VllmSide) and given.no_plugin:
        others["no plugin"] = partial(side.without_plugin, lengths=sizes, request=requests[0])
    times: dict[str, list[float]] = {name: [] for name in ("forced", *others)}
    turns = {"forced": lambda: forced(side, requests)} | {n: partial(plainly, d) for n, d in others.items()}
    waits = sum(g.num_waits for g in found)
    stops = waits + sum(g.ending == "closed" for g in found)
    thought = sum(s.num_tokens for g in found for s in g.segments if s.kind == "thinking")
    figures: dict[str, Any] = {"engine": given.engine, "shape": given.shape, "requests": num, "tokens": total}
    figures |= {"waits": waits, "stop_every": (thought + stops) / max(1, stops), "first_seconds": first}
    floor = 0.0
    if model is not None and not is_tiny:
        figures["bandwidth_gb_per_second"] = given.bandwidth or copy_bandwidth()
        floor = memory_floor(model, side, requests, sizes, figures["bandwidth_gb_per_second"])
    for turn in range(given.repeats):
        for name in [*turns][:: -1 if turn % 2 else 1]:
            times[name].append(seconds(turns[name]))
            # Whoever cuts this off has what was measured until then.
            write_figures(given, figures | measured(times, total, floor) | how(side))
    figures |= measured(times, total, floor)
    yield f"{given.engine}, {given.shape}, {num} at once: {total} tokens, {waits} waits forced"
    yield f"  a stop every {(thought + stops) / max(1, stops):.1f} sampled thinking tokens"
    yield "  tokens/s: " + ", ".join(f"{name} {total / median(t):,.0f}" for name, t in times.items())
    for name in others:
        yield f"  forced / {name}: {in_turns([o / f for f, o in zip(times['forced'], times[name], strict=True)])}"
    if isinstance(side, VllmSide):
        side.num_passes, side.processor_seconds = 0, 0.0
        took = seconds(lambda: forced(side, requests))
        ours, step = (1e3 * t / side.num_passes for t in (side.processor_seconds, took))
        yield f"  the processor: {ours:.2f} ms of a step's {step:.1f} ({ours / step:.1%})"
    if floor:
        bandwidth, share = figures["bandwidth_gb_per_second"], figures["share_of_memory_floor"]
        yield f"  memory at {bandwidth:.0f} GB/s allows {floor:,.0f} tokens/s: {share:.1%} of it"


def measured(times: dict[str, list[float]], total: int, floor: float) -> dict[str, Any]:
    """What the turns so far say."""
    ours, *others = times
    figures: dict[str, Any] = {"turns": len(times[ours])}
    figures |= {f"{name}_tokens_per_second": total / median(t) for name, t in times.items() if t}
    for name in others:
        if ratios := [o / f for f, o in zip(times[ours], times[name], strict=False)]:
            figures |= {f"forced / {name}": median(ratios), f"forced / {name}, turns": ratios}
    if floor and times[ours]:
        figures["share_of_memory_floor"] = total / median(times[ours]) / floor
    return figures


def how(side: Side) -> dict[str, Any]:
    return side.how() if isinstance(side, TransformersSide) else {}


def write_figures(given: argparse.Namespace, figures: dict[str, Any]) -> None:
    if given.json:
        with given.json.open("a", encoding="utf-8") as out:
            out.write(json.dumps(figures) + "\n")


def forced(side: Side, requests: list[Request]) -> list[Generation]:
    found = list(side.forcing.generate(requests))
    assert all(g.ending != "failed" for g in found), found
    assert all(r.budget is None or g.thinking_tokens <= r.budget.max_tokens for g in found for r in requests[:1])
    return found


def memory_floor(model: Any, side: Side, requests: list[Request], sizes: list[int], bandwidth: float) -> float:
    """The tokens/s at which every step would read the weights and all keys and values once, and do nothing else."""
    weights, per_token = bytes_of_a_pass(model)
    prompts = [len(side.forcing.plan(r).prompt_ids) for r in requests]
    context = sum(n * p + n * (n - 1) // 2 for n, p in zip(sizes, prompts, strict=True))
    least = (max(sizes) * weights + context * per_token) / (bandwidth * 1e9)
    return sum(sizes) / least


def copy_bandwidth() -> float:
    """What a copy reads and writes of the memory that models lie in, in GB/s: the best of a few."""
    cuda = torch.cuda.is_available()
    num = min(2**30, torch.cuda.mem_get_info()[0] // 16) if cuda else 2**25
    source = torch.ones(num, dtype=torch.float32, device="cuda" if cuda else "cpu")
    target = torch.empty_like(source)
    best = min(seconds(lambda: target.copy_(source)) for _ in range(6))
    return 2 * source.numel() * source.element_size() / best / 1e9


def inside_against_rounds(side: Side, num: int, given: argparse.Namespace) -> Iterator[str]:
    rates: dict[str, list[float]] = {"in-engine": [], "rounds": []}
    passes = {"in-engine": 0, "rounds": 0}
    tokens = {"in-engine": 0, "rounds": 0}
    lengths: list[int] = []

    def requests_of(repeat: int) -> list[Request]:
        return [
            Request(
                question=f"Question {repeat}.{i}?",
                budget=ThinkingBudget(3000, 0, NUM_WAITS),
                answer_tokens=16,
                temperature=1.0,
                seed=1000 * repeat + i,
                loop_guard=False,
                closing_phrase="",
            )
            for i in range(num)
        ]

    if torch.cuda.is_available():  # its steps are recorded before the clock runs
        forced(side, requests_of(given.repeats))
    for repeat in range(given.repeats):
        requests = requests_of(repeat)
        found: list[Generation] = []
        counted: list[int] = []
        start = side.num_passes
        inside = seconds(lambda: found.extend(forced(side, requests)))  # noqa: B023
        middle = side.num_passes
        plans = [side.forcing.plan(request) for request in requests]
        by_question = {g.question_id: g for g in found}
        same = [by_question[request.question_id] for request in requests]
        rounds = seconds(lambda: counted.append(by_rounds(side, plans, same)))  # noqa: B023
        passes["in-engine"] += middle - start
        passes["rounds"] += side.num_passes - middle
        total = sum(g.thinking_tokens + g.answer_tokens for g in found)
        tokens["in-engine"] += total
        tokens["rounds"] += counted[0]
        rates["in-engine"].append(total / inside)
        rates["rounds"].append(counted[0] / rounds)
        lengths += [g.thinking_tokens for g in found]
        ratios = [a / b for a, b in zip(*rates.values(), strict=True)]
        figures = {"engine": given.engine, "shape": given.shape, "requests": num, "turns": len(ratios)}
        figures |= {"in-engine / rounds": median(ratios), "in-engine / rounds, turns": ratios}
        figures |= {f"{name}_tokens_per_second": median(r) for name, r in rates.items()}
        write_figures(given, figures | {"thinking": [min(lengths), max(lengths)]} | how(side))
    lengths.sort()
    yield (
        f"{given.engine}, {given.shape}, {NUM_WAITS} waits, {num} requests: thinking {lengths[0]} to {lengths[-1]} "
        f"tokens, half of them {lengths[len(lengths) // 2]} or more"
    )
    yield "  tokens/s: " + ", ".join(f"{name} {median(r):,.0f}" for name, r in rates.items())
    counted_both = [("tokens", tokens)]
    if not torch.cuda.is_available():  # a recorded step is no call of the model
        counted_both.append(("passes through the model", passes))
    for what, totals in counted_both:
        yield f"  {what} a turn: " + ", ".join(f"{n} {t / given.repeats:,.0f}" for n, t in totals.items())
    yield f"  in-engine / rounds: {in_turns(ratios)}"


def in_turns(ratios: list[float]) -> str:
    """The median, and what the turns said."""
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} turns)"


def seconds(work: Callable[[], Any]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
