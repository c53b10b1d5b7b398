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

from s1kit.grade.normalise import as_number, normalise
from s1kit.grade.shapes import unit
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
        "times": _times,
        "angles": _angles,
        "values of one expression": _plus_minus,
        "lists": _lists,
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
_FILLER = re.compile(r"\\(?:left|right)(?![a-zA-Z])|\\[,;:! ]|\$")


def _intervals(answer: str, solution: str) -> Verdict | None:
    """Only where one of the two is written with inequalities: two spellings with brackets are formulas."""
    mine, right = _union(answer), _union(solution)
    if (
        mine is None
        or right is None
        or not re.search(r"[<>≤≥]|\\(?:[lg]eq?(?:slant)?|lt|gt)(?![a-zA-Z])", answer + solution)
    ):
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


def _union(text: str) -> list[tuple[Side, Side]] | None:
    text = _FILLER.sub(" ", text).strip().rstrip(".")
    if whole := _SET.fullmatch(text):
        text = whole[1]
    found = [_interval(part.strip()) for part in _UNION.split(text)]
    return None if None in found else [one for one in found if one is not None]


def _interval(text: str) -> tuple[Side, Side] | None:
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
    return one[1] == other[1] and _equal(one[0], other[0])


def _equal(one: str, other: str) -> bool:
    mine, right = normalise(one), normalise(other)
    numbers = as_number(mine), as_number(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if mine.lstrip("+") == right.lstrip("+"):
        return True
    try:
        from s1kit.grade.numeric import compare_numbers
    except ImportError:
        return False
    return compare_numbers(one, other) == "same"


_FACTORS: dict[str, tuple[str, Fraction]] = {
    "m": ("length", Fraction(1)),
    "cm": ("length", Fraction(1, 100)),
    "mm": ("length", Fraction(1, 1000)),
    "km": ("length", Fraction(1000)),
    "in": ("length", Fraction(254, 10000)),
    "ft": ("length", Fraction(3048, 10000)),
    "mi": ("length", Fraction(1609344, 1000)),
    "g": ("mass", Fraction(1)),
    "kg": ("mass", Fraction(1000)),
    "mg": ("mass", Fraction(1, 1000)),
    "lb": ("mass", Fraction(45359237, 100000)),
    "s": ("time", Fraction(1)),
    "min": ("time", Fraction(60)),
    "h": ("time", Fraction(3600)),
    "day": ("time", Fraction(86400)),
    "week": ("time", Fraction(604800)),
    "dollar": ("money", Fraction(1)),
    "cent": ("money", Fraction(1, 100)),
}
"""What a unit is of, and how many of the first unit of that kind it is."""

_METRIC = {"m", "cm", "mm", "km", "g", "kg", "mg"}
_AMOUNT = re.compile(r"(-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:/\d+)?|\\frac\{\d+\}\{\d+\})\D*$")
_DOLLARS_AND_CENTS = re.compile(r"(\d+) dollars? and (\d{1,2}) cents?\W*$", re.IGNORECASE)


def _quantities(answer: str, solution: str) -> Verdict | None:
    """Both with a unit; cents, which are often asked for as dollars, also against a decimal without one."""
    mine, right = _quantity(answer), _quantity(solution)
    if mine and not right and mine[1] == "money" and unit(answer) == "cent":
        plain = as_number(normalise(solution))
        return "correct" if plain is not None and plain == mine[0] else None
    if not mine or not right:
        return None
    if unit(answer) == unit(solution):
        return "correct" if mine[0] == right[0] else None
    if mine[1] != right[1]:
        return "wrong"
    if mine[0] == right[0]:
        return "correct"
    is_rounded = right[0] and abs(mine[0] / right[0] - 1) < Fraction(1, 100) and mine[2] != right[2]
    return "abstain" if is_rounded else "wrong"


def _quantity(text: str) -> tuple[Fraction, str, bool] | None:
    """Value in the first unit of its kind, the kind, and whether the unit is metric."""
    if match := _DOLLARS_AND_CENTS.search(text):
        return Fraction(match[1]) + Fraction(int(match[2]), 100), "money", False
    name = unit(text)
    power = int(name[-1]) if name[-1:].isdigit() else 1
    parts = ["mi", "h"] if name == "mph" else name.rstrip("23").split("/")
    if not name or any(part not in _FACTORS for part in parts):
        return None
    plain = re.sub(r"\\(?:text|mathrm|mbox)\s*\{[^{}]*\}|\^\s*\{?\d\}?|\\?\$|~|\\[,;:! ]", " ", text).rstrip(" .")
    amount = _AMOUNT.search(plain)
    value = as_number(normalise(amount[1])) if amount else None
    if value is None or (re.search(r"[=+*^\\]", plain) and not plain.startswith(r"\frac")):
        return None
    factor = _FACTORS[parts[0]][1] ** power
    kind = _FACTORS[parts[0]][0] + str(power)
    if len(parts) == 2:
        factor, kind = factor / _FACTORS[parts[1]][1], f"{kind}/{_FACTORS[parts[1]][0]}"
    return value * factor, "money" if kind == "money1" else kind, parts[0] in _METRIC


_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))?\s*(?:([ap])\.?\s*m\.?)?", re.IGNORECASE)


def _times(answer: str, solution: str) -> Verdict | None:
    """Times of day; without am or pm an hour up to 12 may be either, and nothing is known of it."""
    clocks = [_CLOCK.fullmatch(_plain(text)) for text in (answer, solution)]
    if clocks[0] is None or clocks[1] is None or not (clocks[0][4] or clocks[1][4] or clocks[0][3] or clocks[1][3]):
        return None
    seconds = [_seconds(match) for match in clocks if match]
    if seconds[0] == seconds[1]:
        return "correct"
    half_known = bool(clocks[0][4]) != bool(clocks[1][4]) and all(int(m[1]) <= 12 for m in clocks if m)
    return "abstain" if half_known and (seconds[0] - seconds[1]) % 43200 == 0 else "wrong"


def _plain(text: str) -> str:
    return re.sub(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}", r" \1", text).replace("\\,", " ").strip(" $*.")


def _seconds(match: re.Match[str]) -> int:
    hour = int(match[1])
    if match[4]:
        hour = hour % 12 + (12 if match[4].casefold() == "p" else 0)
    return hour * 3600 + int(match[2]) * 60 + int(match[3] or 0)


_DEGREE = re.compile(r"(-?\d+(?:\.\d+)?)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°|degrees?|\\degree)")


def _angles(answer: str, solution: str) -> Verdict | None:
    """Radians, in multiples of pi, against degrees."""
    for one, other in ((answer, solution), (solution, answer)):
        degrees = _DEGREE.fullmatch(_plain(one))
        radians = re.sub(r"\bradians?\b|\brad\b", "", _plain(other)).strip(" $")
        if degrees and re.search(r"\\pi(?![a-zA-Z])|π", radians) and not re.search(r"\\circ|°|degree|=", radians):
            return "correct" if _equal(radians.replace("π", r"\pi "), rf"{degrees[1]}\pi/180") else "wrong"
    return None


_LIST = re.compile(r",|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b")


def _plus_minus(answer: str, solution: str) -> Verdict | None:
    r"""One expression with `\pm` against a list of two."""
    for one, other in ((answer, solution), (solution, answer)):
        plain, values = (
            _FILLER.sub(" ", one),
            [v.strip() for v in re.split(r",|\band\b|\bor\b|\\text\{\s*(?:and|or)\s*\}", other)],
        )
        if plain.count(r"\pm") != 1 or "," in plain or r"\pm" in other or len(values) != 2:
            continue
        plain = re.sub(r"^\s*[a-zA-Z]\s*=", "", plain)
        both = [plain.replace(r"\pm", sign) for sign in "+-"]
        values = [re.sub(r"^\s*[a-zA-Z]\s*=", "", _FILLER.sub(" ", v)) for v in values]
        orders = (values, values[::-1])
        return "correct" if any(all(map(_equal, both, order)) for order in orders) else "wrong"
    return None


_VECTOR = re.compile(r"\\begin\s*\{[pbv]?matrix\}(.*?)\\end\s*\{[pbv]?matrix\}", re.DOTALL)
_TRANSPOSED = re.compile(r"\^\s*(?:\{\s*)?(?:T|\\top|\\intercal)(?:\s*\})?$")


def _lists(answer: str, solution: str) -> Verdict | None:
    """The same entries in the same order, in other brackets or none: a vector, a row of a matrix, a longer list.

    Two entries in brackets may be an interval; then only a matrix or a transposed row is surely a vector.
    """
    mine, right = _entries(answer), _entries(solution)
    if mine is None or right is None or mine[1] == right[1] or len(mine[0]) != len(right[0]):
        return None
    is_vector = bool({"matrix", "transposed"} & {mine[1], right[1]})
    if len(mine[0]) < (2 if is_vector else 3):
        return None
    return "correct" if all(map(_equal, mine[0], right[0])) else None


def _entries(text: str) -> tuple[list[str], str] | None:
    """The entries and the kind of brackets; None for a matrix of several rows and columns, and for a set."""
    if matrix := _VECTOR.fullmatch(text.strip(" $.")):
        rows = [row.split("&") for row in re.split(r"\\\\", matrix[1]) if row.strip()]
        if len(rows) > 1 and len(rows[0]) > 1:
            return None
        return [cell.strip() for row in rows for cell in row], "matrix"
    text = _FILLER.sub(" ", text).strip().rstrip(".")
    flat = _TRANSPOSED.sub("", text).strip()
    kind = "transposed" if flat != text else ""
    if re.fullmatch(r"[(\[][^()\[\]]*[)\]]", flat):
        kind, flat = kind or flat[0] + flat[-1], flat[1:-1]
    if re.search(r"[{}<>=]|\\(?!frac|sqrt|pi|text)", re.sub(r"\\(?:frac|sqrt)(?:\{[^{}]*\}){1,2}", "1", flat)):
        return None
    parts = [part.strip() for part in _LIST.split(flat) if part.strip()]
    return (parts, kind) if len(parts) > 1 else None
