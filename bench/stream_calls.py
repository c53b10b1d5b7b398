"""Python calls per quiet thinking token in the token driver, streamed and not: python bench/stream_calls.py

A quiet token is one that neither stops nor fills anything. Counts calls within s1kit and their files with a profiler.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

from s1kit.engines.scripted import WordTokenizer
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.plan import make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.token_driver import TokenDriver
from s1kit.forcing.token_format import TokenFormat

NUM_TOKENS = 1000


def count(is_streamed: bool) -> tuple[float, int]:
    """Calls a token, and the files they are in."""
    tokenizer: Any = WordTokenizer()
    tokens = TokenFormat(FORMATS["s1"], tokenizer)
    request = Request(question="one and one", budget=ThinkingBudget(2 * NUM_TOKENS), loop_guard=False)
    driver = TokenDriver(make_plan(request, tokens, 8 * NUM_TOKENS))
    driver.start()
    token = tokenizer.encode("one", add_special_tokens=False)[0]
    calls, files = 0, set()

    def see(frame: FrameType, event: str, _: object) -> None:
        nonlocal calls
        if event == "call" and "s1kit" in frame.f_code.co_filename:
            calls += 1
            files.add(frame.f_code.co_filename)

    for i in range(NUM_TOKENS + 10):
        if i == 10:
            sys.setprofile(see)
        driver.push(token)
        if is_streamed:
            list(driver.new_segments())
    sys.setprofile(None)
    return calls / NUM_TOKENS, len(files)


if __name__ == "__main__":
    for is_streamed in (False, True):
        calls, files = count(is_streamed)
        print(f"{'streamed' if is_streamed else 'not streamed'}: {calls:.1f} calls a token in {files} files")
