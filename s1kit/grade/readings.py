r"""Answers of one kind in two spellings: intervals and inequalities, quantities with units, times, angles, signs.

Each kind is read as a whole or not at all. Where both answers are read, their values decide.

>>> by_value(r"-4 \le x < 0", "[-4, 0)"), by_value("50 mm", "5 cm"), by_value("17:30", "5:30 PM")
(('correct', 'intervals'), ('correct', 'quantities'), ('correct', 'times'))
>>> by_value("x < 3", r"(-\infty, 3]"), by_value("x + 1", "1 + x")
(('wrong', 'intervals'), None)
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

from s1kit.grade.families import families
from s1kit.grade.lists import FILLER, finite_sets, known_to_differ, lists, matrices, plus_minus, same_value
from s1kit.grade.moments import dates, times
from s1kit.grade.normalise import as_number, normalise
from s1kit.grade.shapes import top_level_parts
from s1kit.grade.substances import substances
from s1kit.grade.units import MAY_BE_MILLIONS, Quantity, quantity, unit_at_end, without_unit
from s1kit.records import Verdict

Read = tuple[Verdict, str]

MAX_LENGTH = 200
"""Characters of an answer that is read here."""


def by_value(answer: str, solution: str) -> Read | None:
    """The verdict and the kind of value, where both are of one kind that is known; None otherwise."""
    if max(len(answer), len(solution)) > MAX_LENGTH:
        return None
    kinds: dict[str, Callable[[str, str], Verdict | None]] = {
        "intervals": _intervals,
        "quantities": _quantities,
        "expressions with units": _with_units,
        "large numbers": _large_numbers,
        "times": times,
        "ratios": _ratios,
        "dates": dates,
        "angles": _angles,
        "values of one expression": plus_minus,
        "families": families,
        "substances": substances,
        "sets": finite_sets,
        "lists": lists,
        "parts": _parts,
        "numbered statements": _numbered,
        "matrices": matrices,
    }
    for name, compare in kinds.items():
        if verdict := compare(answer, solution):
            return verdict, name
    return None


Side = tuple[str, bool]
"""An end of an interval and whether it belongs to it."""

_BRACKETED = re.compile(r"([(\[])\s*([^,\[\]]+?)\s*,\s*([^,\[\]]+?)\s*([)\]])")
_LESS, _MORE = r"(<=|≤|\\leq?slant|\\leq?|<|\\lt)", r"(>=|≥|\\geq?slant|\\geq?|>|\\gt)"
_NAME = r"[a-zA-Z]"
_END = r"([^<>≤≥=,a-df-zA-Z]*?(?:\\(?:frac|sqrt|infty|pi)[^<>≤≥=,]*?)?)"
_BOTH_SIDES = re.compile(rf"{_END}\s*(?:{_LESS}|{_MORE})\s*{_NAME}\s*(?:{_LESS}|{_MORE})\s*{_END}")
_ONE_SIDE = re.compile(rf"{_NAME}\s*(?:{_LESS}|{_MORE})\s*{_END}")
_OTHER_SIDE = re.compile(rf"{_END}\s*(?:{_LESS}|{_MORE})\s*{_NAME}")
_SET = re.compile(rf"\\?\{{\s*{_NAME}\s*(?::|\||\\mid|\\in\s*\\mathbb\{{R\}}\s*[:|])\s*(.*?)\s*\\?\}}")
_UNION = re.compile(r"\\cup|∪|\\text\s*\{\s*or\s*\}|\bor\b")


def _intervals(answer: str, solution: str) -> Verdict | None:
    """Only where one of the two is written with inequalities: two spellings with brackets are formulas."""
    mine, right = _union(answer), _union(solution)
    if mine is None or right is None or not _INEQUALITY_OR_ALL.search(answer + " " + solution):
        return None
    if len(mine) != len(right):
        return "wrong"
    open_ones = list(right)
    for interval in mine:
        same = next((other for other in open_ones if all(map(_same_side, interval, other))), None)
        if same is None:
            return "wrong"
        open_ones.remove(same)
    return "correct"


_ALL = r"(?:the\s+set\s+of\s+)?(?:all\s+)?(?:the\s+)?real\s+numbers|all\s+reals|\\mathbb\s*\{?R\}?|ℝ|\\R(?![a-zA-Z])"
_INEQUALITY_OR_ALL = re.compile(
    rf"non-?zero|[<>≤≥≠]|\\(?:[lg]eq?(?:slant)?|neq?|lt|gt)(?![a-zA-Z])|{_ALL}", re.IGNORECASE
)
_EXCEPTED = re.compile(
    rf"(?:{_NAME}\s*(?:\\in|is)\s+)?(?:{_ALL})(?:\s+{_NAME})?\s*(?:except(?:\s+for)?|other\s+than|but|excluding|\\setminus|\\backslash|"
    rf"with\s+{_NAME}\s*(?:\\neq?|≠))\s*(?:{_NAME}\s*=)?\s*\\?\{{?\s*([^{{}}<>=]+?)\s*\\?\}}?",
    re.IGNORECASE,
)
_NOT_ZERO = re.compile(r"(?:all\s+)?(?:the\s+)?non-?zero\s+(?:real\s+numbers?|reals)", re.IGNORECASE)
_UNEQUAL = re.compile(rf"(?:{_NAME}\s*\\in\s*\\mathbb\s*\{{?R\}}?\s*[,:]\s*)?{_NAME}\s*(?:\\neq?|≠)\s*([^<>=]+?)")
_EXCEPTED_FROM = re.compile(rf"\s*(?:,\s*and\b|,|\band\b|\bor\b)\s*(?:{_NAME}\s*(?:\\neq?|≠|=)\s*)?")


def _union(text: str) -> list[tuple[Side, Side]] | None:
    text = FILLER.sub(" ", text).strip().rstrip(".")
    if whole := _SET.fullmatch(text):
        text = whole[1]
    text = re.sub(rf"^{_NAME}\s*\\in(?![a-zA-Z])\s*", "", text)
    if holes := _holes(text):
        ends = [r"-\infty", *holes, r"\infty"]
        return [((one, False), (other, False)) for one, other in pairwise(ends)]
    if distances := _distances(text):
        return distances
    found = [_interval(part.strip()) for part in _UNION.split(text)]
    return None if None in found else [one for one in found if one is not None]


_DISTANCE = re.compile(rf"\|\s*{_NAME}\s*(?:([-+])\s*{_END})?\s*\|\s*(?:{_LESS}|{_MORE})\s*{_END}")


def _distances(text: str) -> list[tuple[Side, Side]]:
    """The intervals of `|x - 3| < 2` and `|x| > 1`; empty for any other text."""
    match = _DISTANCE.fullmatch(re.sub(r"\\[lr]?vert(?![a-zA-Z])|\\mid(?![a-zA-Z])", "|", text).strip())
    if match is None:
        return []
    numbers = [as_number(normalise(number or "0")) for number in (match[2], match[5])]
    if numbers[0] is None or numbers[1] is None or numbers[1] <= 0:
        return []
    middle, holds = numbers[0] * (1 if match[1] == "-" else -1), _holds(match[3] or match[4])
    low, high = (str(middle + sign * numbers[1]) for sign in (-1, 1))
    if match[3]:
        return [((low, holds), (high, holds))]
    return [((r"-\infty", False), (low, holds)), ((high, holds), (r"\infty", False))]


def _holes(text: str) -> list[str]:
    """The numbers that a text excepts from all real numbers, in order; empty for any other text."""
    if _NOT_ZERO.fullmatch(_plain(text)):
        return ["0"]
    match = _EXCEPTED.fullmatch(_plain(text)) or _UNEQUAL.fullmatch(_plain(text))
    numbers = [as_number(normalise(number)) for number in _EXCEPTED_FROM.split(match[1])] if match else []
    known = [number for number in numbers if number is not None]
    return [str(number) for number in sorted(known)] if len(known) == len(numbers) else []


def _interval(text: str) -> tuple[Side, Side] | None:
    if re.fullmatch(_ALL, _plain(text), re.IGNORECASE):
        return (r"-\infty", False), (r"\infty", False)
    if match := _BRACKETED.fullmatch(text):
        return (match[2].strip(), match[1] == "["), (match[3].strip(), match[4] == "]")
    if (match := _BOTH_SIDES.fullmatch(text)) and bool(match[2]) == bool(match[4]) and match[1].strip():
        ends = (match[1].strip(), _holds(match[2] or match[3])), (match[6].strip(), _holds(match[4] or match[5]))
        return ends if match[2] else (ends[1], ends[0])
    for pattern, is_left in ((_ONE_SIDE, True), (_OTHER_SIDE, False)):
        match = pattern.fullmatch(text)
        if match is None:
            continue
        end, less, more = (match[3], match[1], match[2]) if is_left else (match[1], match[2], match[3])
        if not end.strip():
            return None
        side = end.strip(), _holds(less or more)
        is_upper = bool(less) == is_left
        return ((r"-\infty", False), side) if is_upper else (side, (r"\infty", False))
    return None


def _holds(sign: str) -> bool:
    return sign not in ("<", ">", r"\lt", r"\gt")


def _same_side(one: Side, other: Side) -> bool:
    return one[1] == other[1] and same_value(one[0], other[0])


_DOLLARS_AND_CENTS = re.compile(r"(\d+) dollars? and (\d{1,2}) cents?\W*$", re.IGNORECASE)
_SCALES = frozenset(Fraction(10) ** n for n in (2, 3, 6, 9)) | {Fraction(n) for n in (7, 12, 24, 60, 3600)}
"""What a number without a unit may be off by when it was asked for in another unit."""


def _quantities(answer: str, solution: str) -> Verdict | None:
    """Both with a unit, or one with and one without: then the numbers are compared, cents also as dollars."""
    mine, right = _quantity(answer), _quantity(solution)
    if mine is None and right is None:
        return None
    if mine is None or right is None:
        measured, plain = (right, answer) if mine is None else (mine, solution)
        number = as_number(normalise(plain))
        if measured is None or number is None:
            return None
        if _SAID_TWICE.search(solution if plain is answer else answer):
            return "abstain"  # which of its units is meant
        if MAY_BE_MILLIONS.search(answer if mine is not None else solution):
            return "correct" if number == measured.amount * 10**6 else "abstain"
        if number in (measured.amount, measured.value if measured.unit.dimensions == _DOLLARS else None):
            return "correct"
        if _in_small_unit(measured, answer if mine is not None else solution) == number:
            return "correct"
        ratio = abs(number / measured.amount) if measured.amount else Fraction(0)
        if measured.unit.dimensions != _DOLLARS and {ratio, 1 / ratio if ratio else ratio} & _SCALES:
            return "abstain"
        return None if abs(ratio - 1) < Fraction(1, 100) and number * measured.amount > 0 else "wrong"
    temperatures = _kelvin(mine), _kelvin(right)
    if temperatures[0] is not None and temperatures[1] is not None:
        if temperatures[0] == temperatures[1]:
            return "correct"
        is_near = mine.unit != right.unit and abs(temperatures[0] - temperatures[1]) < 1
        return "abstain" if is_near else "wrong"
    if mine.unit.dimensions != right.unit.dimensions:
        return "wrong"
    if mine.value == right.value:
        return "correct"
    is_near = bool(right.value) and abs(mine.value / right.value - 1) < Fraction(1, 100)
    if mine.unit == right.unit:
        are_numbers = all(as_number(normalise(text)) is not None for text in (answer, solution))
        return None if are_numbers or is_near else "wrong"
    return "abstain" if is_near and not _is_power_of_ten(mine.unit.factor / right.unit.factor) else "wrong"


def _with_units(answer: str, solution: str) -> Verdict | None:
    """Two expressions that are no plain numbers, both with a unit: `5\\sqrt{3}` centimetres."""
    units = unit_at_end(answer), unit_at_end(solution)
    if units[0] is None or units[1] is None or "=" in answer + solution:
        return None
    values = [without_unit(text, is_sure=True) for text in (answer, solution)]
    if not all(re.search(r"[\d)}]|\\pi", value) for value in values):
        return None
    if units[0].dimensions != units[1].dimensions:
        return "wrong" if known_to_differ(*values) else None
    factor = units[0].factor / units[1].factor
    mine = values[0] if factor == 1 else rf"({values[0]}) \cdot \frac{{{factor.numerator}}}{{{factor.denominator}}}"
    return "correct" if same_value(mine, values[1]) else None


_ZEROS: dict[str, tuple[Fraction, Fraction]] = {
    "temperature": (Fraction(1), Fraction(0)),
    "celsius": (Fraction(1), Fraction("273.15")),
    "fahrenheit": (Fraction(5, 9), Fraction("459.67")),
}
"""What a degree is in kelvins, and what is added to a temperature first, in its own degrees."""


def _kelvin(measured: Quantity) -> Fraction | None:
    """A temperature in kelvins; None for other quantities."""
    if len(measured.unit.dimensions) != 1 or measured.unit.dimensions[0][1] != 1:
        return None
    name = measured.unit.dimensions[0][0]
    return (measured.value + _ZEROS[name][1]) * _ZEROS[name][0] if name in _ZEROS else None


def _is_power_of_ten(ratio: Fraction) -> bool:
    """Whether a conversion is exact in decimals, so that nothing is rounded by it."""
    return set(str(ratio.numerator * ratio.denominator)) <= {"1", "0"}


_DOLLARS = (("money", 1),)
_SAID_TWICE = re.compile(r"(?<=[a-zA-Z]),?\s+(?:or|i\.e\.,?|that\s+is,?)\s+(?=\d)|(?<=[a-zA-Z])\s*\((?:=|or)?\s*(?=\d)")
"""`5 m/s, or 18 km/h`."""
_COMPOSITE = re.compile(r"(\d+(?:\.\d+)?\s*[a-zA-Z]+)\s*(?:,|,?\s*and)?\s*(\d+(?:\.\d+)?\s*[a-zA-Z]+)")


def _quantity(text: str) -> Quantity | None:
    """A number with its unit, also in two parts such as `5 feet 3 inches` and `2 dollars and 50 cents`."""
    if len(both := _SAID_TWICE.split(text, maxsplit=1)) == 2:
        measured = [quantity(part) for part in both]
        return measured[0] if None not in measured and len({one.value for one in measured if one}) == 1 else None
    parts = _COMPOSITE.fullmatch(_plain(re.sub(r"^[^\d.]*\s(?=\d)", "", text)))
    if parts is None and (money := _DOLLARS_AND_CENTS.search(text)):
        parts = _COMPOSITE.fullmatch(money[0].strip(" .*"))
    if parts is None:
        return quantity(text)
    large, small = quantity(parts[1]), quantity(parts[2])
    if large is None or small is None or large.unit.dimensions != small.unit.dimensions or large.value <= small.value:
        return None
    total = large.value + small.value
    return Quantity(total / large.unit.factor, total, large.unit)


_RATIO = re.compile(r"\d+(?:\.\d+)?(?:\s*(?::|\\colon)\s*\d+(?:\.\d+)?)+")


_CLOCK = re.compile(r"\d{1,2}:[0-5]\d")


def _ratios(answer: str, solution: str) -> Verdict | None:
    """Two ratios of the same number of terms: `6:8:10` is `3:4:5`."""
    terms = [re.findall(r"[\d.]+", text) if _RATIO.fullmatch(text) else [] for text in map(_plain, (answer, solution))]
    if len(terms[0]) != len(terms[1]) or not terms[0] or all(map(_CLOCK.fullmatch, map(_plain, (answer, solution)))):
        return None
    mine, right = ([Fraction(term) for term in some] for some in terms)
    pairs = list(pairwise(zip(mine, right, strict=True)))
    is_same = all(mine) and all(right) and all(a * d == b * c for (a, b), (c, d) in pairs)
    return "correct" if is_same else "wrong"


def _in_small_unit(total: Quantity, text: str) -> Fraction | None:
    """A quantity of two parts such as `2 hours and 40 minutes` in the smaller of its units; None for any other."""
    parts = _COMPOSITE.fullmatch(_plain(text))
    small = quantity(parts[2]) if parts else None
    return total.value / small.unit.factor if small else None


_LARGE = {"thousand": 1000, "k": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_IN_WORDS = re.compile(rf"(?<![\w.])(\d+(?:\.\d+)?)\s*(?:(?<=\s)(?!k)|(?=k))({'|'.join(_LARGE)})\b", re.IGNORECASE)
_SHORT = {"m": 10**6, "mm": 10**6, "mn": 10**6, "mil": 10**6, "b": 10**9, "bn": 10**9, "tn": 10**12}
_MONEY = re.compile(rf"\\?[$€£]\s*(\d+(?:\.\d+)?)\s?({'|'.join(_SHORT)})\b", re.IGNORECASE)
_MILLIONS = re.compile(r"(?<![\w.$€£])(?<![$€£] )(\d+(?:\.\d+)?)(M)\b")


def _large_numbers(answer: str, solution: str) -> Verdict | None:
    """`2 million` or `$2M` for 2000000; nothing is said where the solution counts in millions."""
    value = as_number(normalise(solution))
    found = [(number, _LARGE[word.casefold()]) for number, word in _IN_WORDS.findall(answer)]
    found += [
        (number, _SHORT[word.casefold()]) for number, word in (*_MONEY.findall(answer), *_MILLIONS.findall(answer))
    ]
    if value is None or len(found) != 1:
        return None
    return "correct" if Fraction(found[0][0]) * found[0][1] == value else None


def _plain(text: str) -> str:
    return re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text).replace("\\,", " ").strip(" $*.")


def _parts(answer: str, solution: str) -> Verdict | None:
    """The answers to the parts of one question, in order, where the solution has semicolons between them."""
    mine, right = (top_level_parts(FILLER.sub(" ", text)) for text in (answer, solution))
    if ";" not in solution or len(mine) != len(right) or len(right) < 2:
        return None
    pairs = [(_LEFT_SIDE.sub("", one), other) for one, other in zip(mine, right, strict=True)]
    if any(known_to_differ(*pair) for pair in pairs):
        return "wrong"
    return "correct" if all(same_value(*pair) or (by_value(*pair) or [""])[0] == "correct" for pair in pairs) else None


_LEFT_SIDE = re.compile(r"^[^=<>]*=(?=[^=<>]+$)")


def _numbered(answer: str, solution: str) -> Verdict | None:
    """The numbers in circles of statements that are right: `①③`."""
    mine, right = (
        [sorted(set(_CIRCLED.findall(run))) for run in _CIRCLES.findall(text)] for text in (answer, solution)
    )
    if not mine or len(right) != 1 or _CIRCLES.sub("", solution).strip(" $"):
        return None
    return "correct" if mine[-1] == right[0] else "wrong"


_CIRCLED = re.compile("[①-⑳]")
_CIRCLES = re.compile(r"[①-⑳](?:[\s,、和与及]*[①-⑳])*")


_DEGREE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|degrees?|\\degree)")


def _angles(answer: str, solution: str) -> Verdict | None:
    """Radians, in multiples of pi, against degrees."""
    for one, other in ((answer, solution), (solution, answer)):
        degrees = _DEGREE.fullmatch(_plain(one))
        radians = re.sub(r"\bradians?\b|\brad\b", "", _plain(other)).strip(" $")
        if degrees and re.search(r"\\pi(?![a-zA-Z])|π", radians) and not re.search(r"\\circ|°|degree|=", radians):
            return "correct" if same_value(radians.replace("π", r"\pi "), rf"{degrees[1]}\pi/180") else "wrong"
    return None
