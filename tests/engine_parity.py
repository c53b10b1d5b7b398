"""One suite for every real engine: its greedy transcripts are those of the transformers engine, its bounds hold."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from subprocess import DEVNULL, Popen, TimeoutExpired
from time import monotonic, sleep
from typing import Any

import httpx

from s1kit import Generation, Request, ThinkingBudget

NUM_REQUESTS = int(os.environ.get("S1KIT_PARITY_REQUESTS", "60"))


def random_requests(num: int, **fields: Any) -> list[Request]:
    """Budgets from none to 40 tokens, minimums, waits of one and several tokens and from a list."""
    out = []
    for i in range(num):
        random = Random(i)
        most = random.choice([0, 1, 2, 3, random.randint(4, 40)])
        least = random.randint(1, most - 14) if most > 14 and random.random() < 0.3 else 0
        wait = random.choice([None, "Wait", "Hm, no", ("Wait", "Alternatively", "x")])
        out.append(
            Request(
                question=f"Question {i}?",
                budget=ThinkingBudget(most, least, random.randint(0, 5)),
                answer_tokens=random.randint(16, 24),
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


def assert_same_transcripts(engine: Any, reference: Any) -> None:
    asked = random_requests(NUM_REQUESTS)
    expected = {g.repeat: g for g in reference.generate(asked)}
    found = {g.repeat: g for g in engine.generate(asked)}
    assert [n for n, g in found.items() if g.ending == "failed"] == []
    assert sum(g.num_waits for g in found.values()) > NUM_REQUESTS // 4
    different = [n for n in expected if tokens_of(found[n]) != tokens_of(expected[n])]
    assert not different, (len(different), found[different[0]], expected[different[0]])
    assert all(found[n].ending == expected[n].ending for n in expected)


def assert_bounds_hold_when_sampling(engine: Any) -> None:
    asked = random_requests(NUM_REQUESTS, temperature=1.0, top_p=0.95)
    found = list(engine.generate(asked))
    assert len(found) == len(asked)
    for generation in found:
        budget = asked[generation.repeat].budget
        assert budget is not None
        assert budget.min_tokens <= generation.thinking_tokens <= budget.max_tokens
        assert generation.answer_tokens <= asked[generation.repeat].answer_tokens


@contextmanager
def server(command: list[str], url: str, log: Path, seconds: float = 600.0) -> Iterator[None]:
    """A server process, ready when `url` answers, ended by its own id whatever happens."""
    with log.open("wb") as output:
        process = Popen(command, stdout=output, stderr=output, stdin=DEVNULL)
        try:
            start = monotonic()
            while not _answers(url):
                assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert monotonic() - start < seconds, "the server did not start in time"
                sleep(0.5)
            yield
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
