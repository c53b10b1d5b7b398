"""One suite for every real engine: its greedy transcripts are those of the transformers engine, its bounds hold."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from subprocess import DEVNULL, Popen, TimeoutExpired
from time import monotonic, sleep
from typing import Any

import httpx

from s1kit import Generation, Request, ThinkingBudget
from s1kit.records import Segment

NUM_REQUESTS = int(os.environ.get("S1KIT_PARITY_REQUESTS", "60"))
FIRST_REQUEST = int(os.environ.get("S1KIT_PARITY_FIRST", "0"))
"""Which random requests: a large number can be asked for in parts."""
_ARE_SHORT = NUM_REQUESTS > 1000

SMALL_CACHE: dict[str, Any] = {
    "context_tokens": 256,
    "block_size": 32,
    "num_gpu_blocks_override": 10,
    "enable_prefix_caching": False,
}
"""Settings of vLLM with which a few requests fill the cache."""


def random_requests(num: int, **fields: Any) -> list[Request]:
    """Budgets from none to 40 tokens (14 where there are thousands), minimums, waits of one and several tokens and
    from a list."""
    out = []
    for i in range(num):
        random = Random(FIRST_REQUEST + i)
        most = random.choice([0, 1, 2, 3, random.randint(4, 14 if _ARE_SHORT else 40)])
        wait = random.choice([None, "Wait", "Hm, no", ("Wait", "Alternatively", "x")])
        longest_wait = 14
        if _ARE_SHORT:
            wait, longest_wait = random.choice([None, "x", "no", ("Wait", "Hm", "x")]), 2
        least = random.randint(1, most - longest_wait) if most > longest_wait and random.random() < 0.3 else 0
        out.append(
            Request(
                question=f"Question {FIRST_REQUEST + i}?",
                budget=ThinkingBudget(most, least, random.randint(0, 5)),
                answer_tokens=random.randint(5, 8) if _ARE_SHORT else random.randint(16, 24),
                wait=wait,
                loop_guard=False,
                repeat=i,
                **fields,
            )
        )
    return out


def tokens_of(generation: Generation) -> list[tuple[str, int]]:
    """Every token with what it is for; where a close was sampled and where forced is left aside."""
    return [(s.kind, i) for s in generation.segments for i in s.token_ids]


def assert_same_transcripts(engine: Any, reference: Any, tie: float = 0.0) -> None:
    """Greedy transcripts are the reference's, token for token.

    `tie`: another engine adds floating-point numbers in another order. Where the reference's two likeliest tokens are
    closer than this, either is right, and the transcripts may part.
    """
    asked = random_requests(NUM_REQUESTS)
    expected = {g.repeat: g for g in reference.generate(asked)}
    start = monotonic()
    found = {g.repeat: g for g in engine.generate(asked)}
    _say(engine, "greedy", start, found.values())
    assert [n for n, g in found.items() if g.ending == "failed"] == []
    assert sum(g.num_waits for g in found.values()) > NUM_REQUESTS // 10
    different = [n for n in expected if tokens_of(found[n]) != tokens_of(expected[n])]
    ties = [n for n in different if tie and _gap(reference, asked[n], found[n], expected[n]) < tie]
    print(f"{len(different)} of {NUM_REQUESTS} transcripts part, {len(ties)} of them at a tie")
    wrong = sorted(set(different) - set(ties))
    assert not wrong, (len(wrong), found[wrong[0]], expected[wrong[0]])
    assert len(ties) <= NUM_REQUESTS // 100
    assert all(found[n].ending == expected[n].ending for n in expected if n not in ties)
    for generation in found.values():
        assert_bounds_hold(asked[generation.repeat], generation)


def assert_bounds_hold(request: Request, generation: Generation) -> None:
    budget = request.budget
    assert budget is not None
    assert generation.ending != "failed", generation.note
    assert budget.min_tokens <= generation.thinking_tokens <= budget.max_tokens
    assert generation.answer_tokens <= request.answer_tokens
    assert not generation.was_cut_off or generation.thinking_tokens == budget.max_tokens
    assert budget.min_tokens or generation.num_waits <= budget.num_waits
    kinds = [s.kind for s in generation.segments]
    assert kinds.count("close") >= 1
    assert all(s.origin == "forced" for s in generation.segments if s.kind in ("wait", "closing_phrase"))
    assert all(s.origin == "sampled" for s in generation.segments if s.kind in ("thinking", "answer"))


def assert_bounds_hold_when_sampling(engine: Any, top_p: float = 0.95) -> None:
    asked = random_requests(NUM_REQUESTS, temperature=1.0, top_p=top_p)
    start = monotonic()
    found = list(engine.generate(asked))
    _say(engine, "sampled", start, found)
    assert len(found) == len(asked)
    for generation in found:
        assert_bounds_hold(asked[generation.repeat], generation)


def assert_streams_add_up(engine: Any, **fields: Any) -> None:
    """What is streamed, put together, is the record: the ids, and for each kind and origin the text."""
    asked = random_requests(12, **fields)
    shown: dict[int, list[Segment]] = {}
    num_calls = 0

    def show(index: int, segment: Segment) -> None:
        nonlocal num_calls
        num_calls += 1
        shown.setdefault(index, []).append(segment)

    found = list(engine.generate(asked, show))
    assert num_calls > sum(len(g.segments) for g in found)
    for generation in found:
        pieces = shown[generation.repeat]
        assert [i for s in pieces for i in s.token_ids] == [i for s in generation.segments for i in s.token_ids]
        assert joined_text(pieces) == joined_text(generation.segments)


def joined_text(segments: Any) -> list[tuple[str, str, str]]:
    """Runs of one origin and kind with their text; empty ones left out."""
    out: list[tuple[str, str, str]] = []
    for s in segments:
        if out and out[-1][:2] == (s.origin, s.kind):
            out[-1] = (s.origin, s.kind, out[-1][2] + s.text)
        elif s.text:
            out.append((s.origin, s.kind, s.text))
    return out


def assert_draws_are_the_requests_own(engine: Any) -> None:
    """A seed says what is drawn, whoever decodes beside it; with one token to choose from it is the likeliest."""

    def ask(seeds: list[int], **fields: Any) -> dict[int, list[tuple[str, int]]]:
        budget = ThinkingBudget(24, 0, 1)
        found = engine.generate(
            [Request(question="Which?", budget=budget, answer_tokens=16, seed=s, repeat=s, **fields) for s in seeds]
        )
        return {g.repeat: tokens_of(g) for g in found}

    settings = {"temperature": 0.9, "top_p": 0.9, "top_k": 50}
    together, alone = ask([1, 2, 3, 4, 5], **settings), ask([3], **settings)
    assert together[3] == alone[3]
    assert len({tuple(t) for t in together.values()}) > 1
    greedy = ask([1])[1]
    assert ask([1], temperature=1.0, top_k=1)[1] == greedy
    assert ask([1], temperature=1.0, top_p=1e-6)[1] == greedy


def _gap(reference: Any, request: Request, one: Generation, other: Generation) -> float:
    """How far apart the reference's two likeliest tokens are where two transcripts part."""
    import torch

    ids, others = ([i for _, i in tokens_of(g)] for g in (one, other))
    same = next((n for n, (a, b) in enumerate(zip(ids, others, strict=False)) if a != b), min(len(ids), len(others)))
    # A stop that became a wait or an end parts them a forced run earlier than its own ids show.
    gaps = []
    with torch.inference_mode():
        context = [*reference.plan(request).prompt_ids, *others[:same]]
        logits = reference.model(torch.tensor([context])).logits[0, :, : reference.vocabulary_size].float()
        top = logits[len(context) - 1 - min(same, 6) :].topk(2).values
        gaps = (top[:, 0] - top[:, 1]).tolist()
    return float(min(gaps))


def _say(engine: Any, how: str, start: float, found: Any) -> None:
    found = list(found)
    seconds, thinking = monotonic() - start, sum(g.thinking_tokens for g in found)
    tokens = sum(s.num_tokens for g in found for s in g.segments)
    waits = sum(g.num_waits for g in found)
    print(
        f"{type(engine).__name__}, {how}: {len(found)} requests, {tokens} tokens, {thinking} of them thinking, "
        f"{waits} waits, {seconds:.1f} s"
    )


def assert_same_transcripts_under_preemption(engine: Any, reference: Any, top_p: float = 0.95) -> None:
    """The engine's cache holds a few of the requests: the others lose theirs and are taken up again in the middle."""
    from unittest.mock import patch

    from s1kit.engines.steering import Steered

    resumed: list[int] = []
    replay = Steered.replay

    def noted(self: Steered, tokens: Any) -> None:
        resumed.append(len(tokens))
        replay(self, tokens)

    with patch.object(Steered, "replay", noted):
        assert_same_transcripts(engine, reference)
        assert sum(n > 0 for n in resumed) > 3, resumed
        assert_bounds_hold_when_sampling(engine, top_p)


@contextmanager
def server(command: list[str], url: str, log: Path, seconds: float = 600.0) -> Iterator[int]:
    """A server process, ready when `url` answers, ended by its own id whatever happens; yields the id."""
    with log.open("wb") as output:
        process = Popen(command, stdout=output, stderr=output, stdin=DEVNULL)
        try:
            start = monotonic()
            while not _answers(url):
                assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert monotonic() - start < seconds, "the server did not start in time"
                sleep(0.5)
            yield process.pid
        finally:
            process.terminate()
            try:
                process.wait(30)
            except TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5.0).status_code == 200
    except httpx.HTTPError:
        return False


def assert_thinking_ends_when_told(engine: Any) -> None:
    """Ended from outside while it runs, or before it began, thinking is that of a budget spent there, to the token."""
    requests = [replace(request, budget=ThinkingBudget(60, 50)) for request in random_requests(6)]
    plans = [engine.plan(request) for request in requests]
    batch = engine.batch_for(plans)
    tickets = [batch.admit(plan, is_streamed=True) for plan in plans]
    streamed: dict[int, list[Segment]] = {ticket: [] for ticket in tickets}
    found: dict[int, Generation] = {}
    batch.end_thinking(tickets[0])
    while not batch.is_idle:
        for event in batch.step():
            streamed[event.ticket] += event.segments
            if event.generation is not None:
                found[event.ticket] = event.generation
        for ticket in tickets[1:4]:
            if sum(s.num_tokens for s in streamed[ticket] if s.kind in ("thinking", "wait")) >= 7 * ticket % 23:
                batch.end_thinking(ticket)
    for request, ticket in zip(requests, tickets, strict=True):
        generation = found[ticket]
        if ticket in tickets[:4]:
            assert generation.was_cut_off
            assert generation.thinking_tokens < 40
            budget = ThinkingBudget(generation.thinking_tokens, generation.thinking_tokens)
        else:
            assert generation.thinking_tokens >= 50
            budget = request.budget
        (wanted,) = engine.generate([replace(request, budget=budget)])
        assert tokens_of(generation) == tokens_of(wanted)
        assert joined_text(streamed[ticket]) == joined_text(generation.segments)


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
