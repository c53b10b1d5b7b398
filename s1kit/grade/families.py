r"""Solutions with an integer as a parameter, such as those of trigonometric equations, compared as sets of numbers.

>>> families(r"x = \pi/4 + n\pi, n \in \mathbb{Z}", r"x = \frac{\pi}{4} + k\pi")
'correct'
>>> families(r"\pm\frac{\pi}{3} + 2k\pi", r"\frac{\pi}{3} + k\pi, k \in \mathbb{Z}"), families("2x", "3x")
('wrong', None)
"""

from __future__ import annotations

import re
from typing import NamedTuple

from s1kit.grade.lists import FILLER
from s1kit.records import Verdict

MAX_POINTS = 20000
"""Members of a family that are compared with another's."""

_WORDS = re.compile(r"\\(?:text|mathrm|mbox|textrm)\s*\{([^{}]*)\}")
_SORT = r"(?P<sort{0}>(?:(?:positive|negative|natural|non-?negative|odd|even|whole)\s+)?(?:integers?|numbers?))"
_DECLARED = re.compile(
    r"[\s,;:(|]*(?:\\mid|where|for|with|when)?\s*(?:(?:all|any|every|some|each|an?)\s+)?"
    rf"(?:{_SORT.format(1)}\s+(?P<name1>[kmn])"
    rf"|(?P<name2>[kmn])\s+(?:is|are|be|being)?\s*(?:(?:an?|any|some)\s+)?{_SORT.format(2)}"
    r"|(?P<name3>[kmn])\s*(?:\\in|∈)\s*(?:\\mathbb)?\s*\{?\s*(?P<set>[ZNℤℕ])\s*\}?(?P<part>\s*[\^_]\s*\{?[^{}\s]+\}?|\s*[+*])?"
    r")[\s)]*(?:\\?\})?[\s.]*$"
)
_IN_BRACES = re.compile(r"^\s*\\?\{\s*(?:[a-zA-Z]\s*(?:\\mid|[:|])\s*)?")
_LEFT = re.compile(r"^\s*(?:[a-zA-Z]|\\theta|\\alpha|\\phi)(?:_\{?\d\}?)?\s*(?:=|\\in(?![a-zA-Z]))\s*")
_EITHER = re.compile(r",\s*(?:and|or)\b|,|;|\bor\b|\band\b|\\cup(?![a-zA-Z])|\\vee(?![a-zA-Z])|\\lor(?![a-zA-Z])")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\degree(?![a-zA-Z])")


def without_declaration(text: str) -> str:
    """`text` without the words at its end that say that its parameter is an integer.

    >>> without_declaration("x = 2k, where k is an integer"), without_declaration("There are 3 apples")
    ('x = 2k', 'There are 3 apples')
    """
    plain = _WORDS.sub(r" \1 ", text)
    declared = _DECLARED.search(plain)
    return plain[: declared.start()] if declared else text


_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])")
_MULTIPLES = re.compile(
    r"(?:[a-zA-Z]\s+(?:is|are)\s+)?(?:(?:all|any|an|every)\s+)?(?:integer\s+|(odd\s+))?multiples?\s+of\s+(.+)"
)
_CONGRUENT = re.compile(
    r"\s*[a-zA-Z]\s*\\equiv\s*([^=]+?)\s*(?:\\pmod|\(?\s*(?:\\b?mod|mod)(?:ulo)?)\s*\{?\s*(\d+)\s*\}?\s*\)?"
)


class _Family(NamedTuple):
    steps: list[tuple[float, float]]
    """For each arithmetic progression its member at 0 and its step; a step of 0 is a single number."""
    is_declared: bool
    """Whether the text says that its parameter is an integer."""


def families(answer: str, solution: str) -> Verdict | None:
    """The verdict on two unions of arithmetic progressions, whatever they call their parameter and wherever they start.

    None where one of the two is none, or where neither says what its parameter is and no angle is meant.
    """
    if not re.search(r"(?<![a-zA-Z\\])[kmn](?![a-zA-Z])|\\equiv|multiple", answer + " " + solution):
        return None
    mine, right = _read(answer), _read(solution)
    if mine is None or right is None:
        return None
    if not (mine.is_declared or right.is_declared or (r"\pi" in answer and r"\pi" in solution)):
        return None
    return "correct" if _same(mine.steps, right.steps) else "wrong"


def _read(text: str) -> _Family | None:
    text = _WORDS.sub(r" \1 ", FILLER.sub(" ", text)).strip(" .")
    if congruent := _CONGRUENT.fullmatch(text):
        named = [rest for rest in _EITHER.split(congruent[1]) if rest.strip()]
        rests = [_progression(_PLUS_MINUS.sub(sign, rest), "") for sign in ("", "-") for rest in named]
        firsts = [rest[0] for rest in rests if rest is not None and not rest[1]]
        return _Family([(one, float(congruent[2])) for one in firsts], True) if len(firsts) == len(rests) else None
    declared = _DECLARED.search(text)
    if declared and (declared["part"] or (declared["set"] or "Z") in "Nℕ"):
        return None
    if declared and (sort := declared["sort1"] or declared["sort2"]) and not sort.startswith("integer"):
        return None
    body = _IN_BRACES.sub("", text[: declared.start()] if declared else text).rstrip(r" \}")
    if (multiple := _MULTIPLES.fullmatch(body)) and (step := _progression(multiple[2], "")):
        first = step[0] if multiple[1] else 0.0
        return _Family([(first, step[0] * (2 if multiple[1] else 1))], True)
    parameter = (declared["name1"] or declared["name2"] or declared["name3"]) if declared else ""
    steps: list[tuple[float, float]] = []
    for part in filter(str.strip, _EITHER.split(body)):
        one = _LEFT.sub("", part)
        for signed in [_PLUS_MINUS.sub(sign, one) for sign in "+-"] if _PLUS_MINUS.search(one) else [one]:
            found = [_progression(signed, parameter)]
            if found == [None]:  # (-1)^n \pi/6 + n\pi is two of them
                name = parameter or "n"
                found = [_progression(_put(signed, name, f"(2 {name} + {rest})"), name) for rest in (0, 1)]
            steps += [step for step in found if step is not None]
            if None in found:
                return None
    return _Family(steps, bool(declared)) if any(step for _, step in steps) else None


def _put(text: str, name: str, value: str) -> str:
    """`text` with a value in place of each single letter `name`."""
    return re.sub(rf"(?<![a-zA-Z\\]){name}(?![a-zA-Z])", lambda _: f"{{{value}}}", text)


def _progression(text: str, parameter: str) -> tuple[float, float] | None:
    """The member at 0 and the step of an expression that is linear in its parameter; None for any other text."""
    try:
        import mpmath

        from s1kit.grade.expressions import LAYOUT, Unreadable, names, read
        from s1kit.grade.values import value
    except ImportError:
        return None
    is_in_degrees = bool(_DEGREES.search(text))
    try:
        tree = read(LAYOUT.sub("", _DEGREES.sub(" ", text).strip()))
        found = names(tree)
        if len(found) > 1 or (found and not found <= ({parameter} if parameter else {"k", "m", "n"})):
            return None
        name = next(iter(found), "k")
        values = [value(tree, {name: mpmath.mpf(n)}) for n in (0, 1, 2, 5)]
    except (Unreadable, ArithmeticError, ValueError, TypeError, RecursionError):
        return None
    if any(mpmath.im(one) or not mpmath.isfinite(one) for one in values):
        return None
    first, step = float(values[0]), float(values[1] - values[0])
    if any(abs(float(one) - first - n * step) > 1e-9 for n, one in ((2, values[2]), (5, values[3]))):
        return None
    scale = float(mpmath.pi) / 180 if is_in_degrees else 1.0
    return first * scale, step * scale


def _same(one: list[tuple[float, float]], other: list[tuple[float, float]]) -> bool:
    """Whether two unions of progressions have the same members, as far as several periods of each reach."""
    steps = [abs(step) for _, step in (*one, *other) if step]
    reach = 12 * max(steps) + max(abs(first) for first, _ in (*one, *other))
    if reach / min(steps) * (len(one) + len(other)) > MAX_POINTS:
        return False
    mine, right = _members(one, reach), _members(other, reach)
    return len(mine) == len(right) and all(abs(a - b) < 1e-7 for a, b in zip(mine, right, strict=True))


def _members(steps: list[tuple[float, float]], reach: float) -> list[float]:
    """The members from `-reach` to `reach`, each once, in order."""
    found: list[float] = []
    for first, step in steps:
        if not step:
            found.append(first)
            continue
        low, high = sorted(((-reach - first) / step, (reach - first) / step))
        found += [first + n * step for n in range(int(low) - 1, int(high) + 2) if abs(first + n * step) <= reach + 1e-7]
    found.sort()
    return [one for at, one in enumerate(found) if not at or one - found[at - 1] > 1e-7]
