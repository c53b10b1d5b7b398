"""Python calls per quiet thinking token, streamed and not: python bench/stream_calls.py

A quiet token is one that neither stops nor fills anything. Counts calls within s1kit and their files with a profiler.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import s1kit
from s1kit.engines import load_engine
from s1kit.engines.scripted import ScriptedEngine, Step, WordTokenizer
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat

NUM_TOKENS = 100
PACKAGE = str(Path(s1kit.__file__).parent)


def plan_and_token() -> tuple[Plan, int]:
    """A request whose thinking stays quiet for twice `NUM_TOKENS`, and a word of it."""
    tokenizer: Any = WordTokenizer()
    tokens = TokenFormat(FORMATS["s1"], tokenizer)
    request = Request(question="one and one", budget=ThinkingBudget(2 * NUM_TOKENS), loop_guard=False)
    plan = make_plan(request, tokens, 8 * NUM_TOKENS)
    return plan, tokenizer.encode("one", add_special_tokens=False)[0]


def driver_step(is_streamed: bool) -> Callable[[], object]:
    """What the token driver does for a token."""
    plan, token = plan_and_token()
    driver = TokenDriver(plan)
    driver.start()

    def step() -> None:
        driver.push(token)
        if is_streamed:
            driver.new_segments()

    return step


def engine_step(is_streamed: bool) -> Callable[[], object]:
    """What the scripted engine's batch does for a token, sampling included."""
    engine = ScriptedEngine({"one": [Step("one " * 4 * NUM_TOKENS, "1")]}, context_tokens=8 * NUM_TOKENS)
    batch = engine.running_batch()
    request = Request(question="one", budget=ThinkingBudget(2 * NUM_TOKENS), loop_guard=False)
    batch.admit(engine.plan(request), is_streamed=is_streamed)
    return batch.step


def model_step(is_streamed: bool) -> Callable[[], object]:
    """What `hf:` does for a token of the packaged model: its own pass aside, sampling, cache and driver."""
    engine: Any = load_engine("tiny")
    batch = engine.running_batch()
    question = "How many times is there a letter u?\n#1 j\n#2 u\n#3 end"
    budget = ThinkingBudget(2 * NUM_TOKENS, 2 * NUM_TOKENS)
    request = Request(question=question, budget=budget, loop_guard=False, answer_tokens=16)
    batch.admit(engine.plan(request), is_streamed=is_streamed)
    step: Callable[[], object] = batch.step
    return step


def count(step: Callable[[], object]) -> tuple[float, int]:
    """Calls of Python functions within s1kit a step, and the files they are in."""
    calls, files = 0, set()

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event == "call" and PACKAGE in frame.f_code.co_filename:
            calls += 1
            files.add(frame.f_code.co_filename)

    for _ in range(10):
        step()
    sys.setprofile(see)
    for _ in range(NUM_TOKENS):
        step()
    sys.setprofile(None)
    return calls / NUM_TOKENS, len(files)


if __name__ == "__main__":
    for name, make in (("token driver", driver_step), ("scripted engine", engine_step), ("hf: tiny", model_step)):
        for is_streamed in (False, True):
            calls, files = count(make(is_streamed))
            how = "streamed" if is_streamed else "not streamed"
            print(f"{name}, {how}: {calls:.1f} calls a token in {files} files")
