"""Random cases through the forcing machine, counting broken laws: python bench/forcing_laws.py [num_cases]

Each case is a random budget, wait length and stream of events, run to its close. Prints the number of cases, the
endings, and how many broke a law (the exit status is 1 if any did).
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from random import Random

from s1kit.forcing import Insert, Sampled, StopAttempt, ThinkingBudget, advance, begin


def run_case(random: Random) -> tuple[str, str]:
    """The ending, and the law that was broken ('' when none was)."""
    most = int(random.random() * 60)
    least = int(random.random() * (most + 1)) if random.random() < 0.4 else 0
    budget = ThinkingBudget(most, least, int(random.random() * 7))
    wait, stop_rate = 1 + int(random.random() * 5), random.random()
    state, move = begin(budget)
    while not state.closed:
        before = state
        if random.random() < stop_rate:
            state, move = advance(budget, wait, state, StopAttempt())
        else:
            num = 1 + int(random.random() * move.room)
            first = int(random.random() * (num + 1))
            state, move = advance(budget, wait, state, Sampled(num))
            if first < num:
                middle, _ = advance(budget, wait, before, Sampled(first))
                if advance(budget, wait, middle, Sampled(num - first)) != (state, move):
                    return "", "sampled a then b is not sampled a + b"
        if not 0 <= state.spent <= budget.max_tokens:
            return "", "spent beyond the maximum"
        if move.room != (0 if state.closed else budget.max_tokens - state.spent):
            return "", "room is not what is left"
        if move.insert is Insert.WAIT:
            if move.room < 1:
                return "", "a wait without room to think"
            if before.waits >= budget.num_waits and before.spent >= budget.min_tokens:
                return "", "a wait that nothing asked for"
        if move.insert is Insert.WAIT and move.wait_tokens != wait:
            return "", "a wait that was cut although thinking goes on"
        if state.spent != before.spent + (move.wait_tokens or state.spent - before.spent):
            return "", "a wait that was not spent"
        if move.wait_tokens and state.waits != before.waits + 1:
            return "", "a wait that was not counted"
    if state.spent < budget.min_tokens:
        return "", "the minimum was broken"
    return str(move.insert), ""


def main() -> int:
    num_cases = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    random, endings, broken = Random(0), Counter[str](), Counter[str]()
    start = time.perf_counter()
    for _ in range(num_cases):
        ending, law = run_case(random)
        endings[ending] += 1
        broken[law] += bool(law)
    print(f"{num_cases} cases in {time.perf_counter() - start:.1f} s; endings {dict(endings)}")
    print(f"laws broken: {sum(broken.values())} {dict(+broken) or ''}")
    return 1 if +broken else 0


if __name__ == "__main__":
    sys.exit(main())
