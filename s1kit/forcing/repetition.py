"""The loop guard: finds thinking that repeats itself. Works on token ids only."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

CHECK_EVERY = 32
"""Thinking tokens between two looks; both drivers look at the same multiples, so they end at the same token."""
_MAX_PERIOD = 256
"""Longest repeated stretch that is looked for, about a paragraph."""
_MIN_REPEATS = 4
MIN_TOKENS = 192
"""A repetition shorter than this may be a table or a list of digits."""
_PROBE = 16
_WIDTH = array("i").itemsize


def is_looping(ids: Sequence[int]) -> bool:
    """Whether the last `max(4 periods, 192)` ids repeat with some period of at most 256.

    >>> is_looping([1, 2, 3] * 64), is_looping([1, 2, 3] * 63), is_looping(range(500))
    (True, False, False)
    """
    if len(ids) < MIN_TOKENS:
        return False
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


def first_loop(ids: Sequence[int], start: int, min_tokens: int) -> int | None:
    """The smallest length above `start`, at least `min_tokens`, at which a check finds a loop; None without one."""
    first = max(start + 1, min_tokens, MIN_TOKENS)
    for length in range(-(-first // CHECK_EVERY) * CHECK_EVERY, len(ids) + 1, CHECK_EVERY):
        if is_looping(ids[:length]):
            return length
    return None


def _repeats(window: array[int], period: int) -> bool:
    length = max(_MIN_REPEATS * period, MIN_TOKENS)
    return len(window) >= length and window[-length + period :] == window[-length:-period]
