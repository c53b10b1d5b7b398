"""The loop guard: finds thinking, or an answer, that repeats itself, exactly or but for numbers that count on.

Works on token ids. What makes a text with a counter a loop was chosen on 7,008 published traces (16.7 million tokens,
R1's distillates, s1.1, Qwen3, Kimi K2): it ends two, of a model that goes through "Idea 17: ...", "Idea 18: ..." with
one sentence, and none that counts, multiplies out or tries cases.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

CHECK_EVERY = 32
"""Thinking tokens between two looks; both drivers look at the same multiples, so they end at the same token."""
_MAX_PERIOD = 256
"""Longest repeated stretch that is looked for, about a paragraph."""
_MIN_REPEATS = 4
MIN_TOKENS = 192
"""A repetition shorter than this may be a table or a list of digits."""
_PROBE = 16
_WIDTH = array("i").itemsize

_COUNTED_PERIOD = 64
"""Longest stretch that is looked for with a counter in it, a number counting as one token."""
_COUNTED_REPEATS = 12
"""Four sentences that count are an argument by cases, or the factors of a product."""
_COUNTED_WORDS = 4
"""Fewest tokens with letters in it. With fewer it is a list of numbers."""
_COUNTED_WINDOW = 2 * _COUNTED_PERIOD * _COUNTED_REPEATS
_NUMBER = -1


def is_looping(ids: Sequence[int], kinds: Mapping[int, str] | None = None) -> bool:
    """Whether the last `max(4 periods, 192)` ids repeat with some period of at most 256.

    With `kinds` (the digits of an id that is a number, a letter for one with letters, else an empty text), also where
    12 periods of at most 64 differ by numbers alone, each of which stays or goes on by one.

    >>> is_looping([1, 2, 3] * 64), is_looping([1, 2, 3] * 63), is_looping(range(500))
    (True, False, False)
    """
    if len(ids) < MIN_TOKENS:
        return False
    return _is_repeating(ids) or (kinds is not None and _counts_on(ids, kinds))


def _is_repeating(ids: Sequence[int]) -> bool:
    window = array("i", ids[-(_MAX_PERIOD * _MIN_REPEATS) :])
    raw = window.tobytes()
    probe, end = raw[-_PROBE * _WIDTH :], len(raw)
    while (at := raw.rfind(probe, 0, end)) >= 0:
        period = (len(raw) - _PROBE * _WIDTH - at) // _WIDTH
        if period > _MAX_PERIOD:
            return False
        if period and at % _WIDTH == 0 and _repeats(window, period):
            return True
        end = at + len(probe) - 1
    return False


def first_loop(ids: Sequence[int], start: int, min_tokens: int, kinds: Mapping[int, str] | None = None) -> int | None:
    """The smallest length above `start`, at least `min_tokens`, at which a check finds a loop; None without one."""
    first = max(start + 1, min_tokens, MIN_TOKENS)
    for length in range(-(-first // CHECK_EVERY) * CHECK_EVERY, len(ids) + 1, CHECK_EVERY):
        if is_looping(ids[max(0, length - _COUNTED_WINDOW) : length], kinds):
            return length
    return None


def _counts_on(ids: Sequence[int], kinds: Mapping[int, str]) -> bool:
    """Whether the ids end in repeats that differ by numbers alone, which all go the same way by one, or stay."""
    if len(set(ids[-MIN_TOKENS:])) > MIN_TOKENS // 2:
        return False  # more words than 12 repeats leave room for
    masked, values = _masked(ids[-_COUNTED_WINDOW:], kinds)
    longest = min(_COUNTED_PERIOD, len(masked) // _COUNTED_REPEATS)
    return any(_counts_with(period, masked, values, kinds) for period in range(2, longest + 1))


def _masked(ids: Sequence[int], kinds: Mapping[int, str]) -> tuple[list[int], list[int]]:
    """The ids with `_NUMBER` in place of each run of digits, and the value of each place, 0 where it is no number.

    A number at the end may be broken off and is left out.
    """
    masked: list[int] = []
    values: list[int] = []
    digits = ""
    for token in ids:
        kind = kinds[token]
        if kind.isdigit():
            digits += kind
            continue
        if digits:
            masked.append(_NUMBER)
            values.append(int(digits[-18:]))
            digits = ""
        masked.append(token)
        values.append(0)
    return masked, values


def _counts_with(period: int, masked: Sequence[int], values: Sequence[int], kinds: Mapping[int, str]) -> bool:
    start = len(masked) - _COUNTED_REPEATS * period
    last = masked[-period:]
    if last != masked[-2 * period : -period] or masked[start + period :] != masked[start:-period]:
        return False
    if sum(kinds[token].isalpha() for token in last if token != _NUMBER) < _COUNTED_WORDS:
        return False
    steps = {b - a for a, b in zip(values[start:], values[start + period :], strict=False)}
    return steps in ({0, 1}, {0, -1})


def _repeats(window: array[int], period: int) -> bool:
    length = max(_MIN_REPEATS * period, MIN_TOKENS)
    return len(window) >= length and window[-length + period :] == window[-length:-period]
