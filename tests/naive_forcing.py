"""Budget forcing as one would first write it: generate one token, look, decide. The engines are compared with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Naive:
    """What the loop left: ids after the prompt with who put them there, and how thinking ended."""

    thinking: list[int]
    after: list[int]
    num_waits: int
    was_cut_off: bool


def naive_loop(
    sample: Callable[[Sequence[int]], int],
    prompt: Sequence[int],
    *,
    max_tokens: int,
    min_tokens: int,
    num_waits: int,
    answer_tokens: int,
    stops: set[int],
    answer_stops: set[int],
    waits: Sequence[Sequence[int]],
    lead: Sequence[int],
    wait_ends_line: bool,
    end: Sequence[int],
    closing: Sequence[int],
    ends_with_lead: Callable[[int], bool],
    is_blank: Callable[[Sequence[int]], bool],
) -> Naive:
    """Straight-line code with no shared parts: whatever the package gets wrong, this does not get wrong with it."""
    thinking: list[int] = []
    waits_done = 0
    was_cut_off = False
    while True:
        if len(thinking) == max_tokens:
            was_cut_off = True
            break
        token = sample([*prompt, *thinking])
        if token not in stops:
            thinking.append(token)
            continue
        wait = waits[waits_done % len(waits)]
        if wait_ends_line and thinking and not ends_with_lead(thinking[-1]):
            wait = [*lead, *wait]
        if len(thinking) < min_tokens:
            thinking.extend(wait[: max_tokens - len(thinking)])
            waits_done += 1
            continue
        if waits_done < num_waits and len(thinking) + len(wait) < max_tokens:
            thinking.extend(wait)
            waits_done += 1
            continue
        break
    after: list[int] = []
    if not thinking or not ends_with_lead(thinking[-1]):
        after.extend(lead)
    after.extend(end)
    num_answer = 0
    has_phrase = was_cut_off
    if was_cut_off:
        after.extend(closing)
        num_answer = len(closing)
    while num_answer < answer_tokens:
        token = sample([*prompt, *thinking, *after])
        is_empty = not has_phrase and is_blank(after[len(after) - num_answer :])
        if token in answer_stops and is_empty and num_answer + len(closing) < answer_tokens:
            after.extend(closing)
            num_answer += len(closing)
            has_phrase = True
            continue
        if token in answer_stops:
            break
        after.append(token)
        num_answer += 1
    return Naive(thinking, after, waits_done, was_cut_off)
