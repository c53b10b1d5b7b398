r"""Numbers with units, read as exact quantities: SI units with their prefixes, everyday units, money.

>>> quantity(r"7 \times 10^{37}\ \text{erg s}^{-1}").value == quantity(r"7 \times 10^{30}\,\mathrm{W}").value
True
>>> quantity("2.5 m/s").value == quantity("9 km/h").value, quantity("F = 12 N").amount, quantity("12 ways")
(True, Fraction(12, 1), None)
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from s1kit.grade.normalise import as_number, normalise

MAX_LENGTH = 200
"""Characters of a text that is read as a number with a unit."""

Dimensions = tuple[tuple[str, int], ...]
"""Base quantities and their exponents, sorted; a speed is `(("length", 1), ("time", -1))`."""


class Unit(NamedTuple):
    """A unit as a multiple of the base units of its dimensions (metre, gram, second, dollar, ...)."""

    factor: Fraction
    dimensions: Dimensions
    is_metric: bool


class Quantity(NamedTuple):
    """A number and its unit. `amount` is the number as written, `value` the same in base units."""

    amount: Fraction
    value: Fraction
    unit: Unit


def _unit(factor: str | int | Fraction, is_metric: bool = True, **dimensions: int) -> Unit:
    return Unit(Fraction(factor), tuple(sorted(dimensions.items())), is_metric)


_SI = {
    "m": _unit(1, length=1),
    "g": _unit(1, mass=1),
    "s": _unit(1, time=1),
    "A": _unit(1, current=1),
    "K": _unit(1, temperature=1),
    "mol": _unit(1, substance=1),
    "L": _unit("1/1000", length=3),
    "M": _unit(1000, substance=1, length=-3),
    "N": _unit(1000, mass=1, length=1, time=-2),
    "J": _unit(1000, mass=1, length=2, time=-2),
    "W": _unit(1000, mass=1, length=2, time=-3),
    "Pa": _unit(1000, mass=1, length=-1, time=-2),
    "Hz": _unit(1, time=-1),
    "C": _unit(1, current=1, time=1),
    "V": _unit(1000, mass=1, length=2, time=-3, current=-1),
    "Ohm": _unit(1000, mass=1, length=2, time=-3, current=-2),
    "F": _unit("1/1000", mass=-1, length=-2, time=4, current=2),
    "T": _unit(1000, mass=1, time=-2, current=-1),
    "eV": _unit("1.602176634e-16", mass=1, length=2, time=-2),
    "cal": _unit(4184, mass=1, length=2, time=-2),
    "bar": _unit(100000000, mass=1, length=-1, time=-2),
    "pc": _unit("3.0856775814913673e16", length=1),
    "erg": _unit("1e-4", mass=1, length=2, time=-2),
    "dyn": _unit("1e-2", mass=1, length=1, time=-2),
}
_PREFIXES = {p: 3 * n for n, p in enumerate("fpnum kMGT", -5) if p != " "}
_PREFIXES |= {"μ": -6, "µ": -6, "c": -2, "d": -1, "h": 2}
_LONG_PREFIXES = {"nano": -9, "micro": -6, "milli": -3, "centi": -2, "deci": -1, "kilo": 3, "mega": 6, "giga": 9}
_OTHERS = {
    "in": _unit("0.0254", False, length=1),
    "ft": _unit("0.3048", False, length=1),
    "yd": _unit("0.9144", False, length=1),
    "mi": _unit("1609.344", False, length=1),
    "mph": _unit("0.44704", False, length=1, time=-1),
    "lb": _unit("453.59237", False, mass=1),
    "oz": _unit("28.349523125", False, mass=1),
    "atm": _unit(101325000, mass=1, length=-1, time=-2),
    "AU": _unit(149597870700, length=1),
    "min": _unit(60, False, time=1),
    "h": _unit(3600, False, time=1),
    "day": _unit(86400, False, time=1),
    "week": _unit(604800, False, time=1),
    "month": _unit(1, False, month=1),
    "year": _unit(1, False, year=1),
    "dollar": _unit(1, False, money=1),
    "cent": _unit("1/100", False, money=1),
    "celsius": _unit(1, celsius=1),
    "fahrenheit": _unit(1, False, fahrenheit=1),
    "rad": _unit(1, angle=1),
    "angstrom": _unit("1e-10", length=1),
    "ly": _unit(9460730472580800, length=1),
    "acre": _unit("4046.8564224", False, length=2),
    "gallon": _unit("0.003785411784", False, length=3),
    "quart": _unit("0.000946352946", False, length=3),
    "pint": _unit("0.000473176473", False, length=3),
    "tonne": _unit(1000000, False, mass=1),
    "torr": _unit(Fraction(101325000, 760), False, mass=1, length=-1, time=-2),
    "psi": _unit("6894757.293168", False, mass=1, length=-1, time=-2),
    "decade": _unit(10, False, year=1),
    "century": _unit(100, False, year=1),
}
_WORDS = {
    "m": "meter meters metre metres",
    "g": "gm gram grams",
    "s": "sec second seconds",
    "L": "l liter liters litre litres",
    "A": "ampere amperes amp amps",
    "K": "kelvin kelvins",
    "mol": "mole moles",
    "M": "molar",
    "N": "newton newtons",
    "J": "joule joules",
    "W": "watt watts",
    "Pa": "pascal pascals",
    "Hz": "hertz",
    "C": "coulomb coulombs",
    "V": "volt volts",
    "Ohm": "ohm ohms Ω",
    "F": "farad farads",
    "T": "tesla teslas",
    "eV": "electronvolt electronvolts ev",
    "cal": "calorie calories",
    "pc": "parsec parsecs",
    "erg": "ergs",
    "dyn": "dyne dynes",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "lb": "lbs pound pounds",
    "oz": "ounce ounces",
    "min": "minute minutes",
    "h": "hr hrs hour hours",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "dollar": "dollars",
    "cent": "cents ¢",
    "celsius": "degc",
    "fahrenheit": "degf",
    "rad": "radian radians",
    "angstrom": "Å Å ångström ångströms angstroms",
    "ly": "lightyear lightyears",
    "acre": "acres",
    "gallon": "gallons gal",
    "quart": "quarts qt",
    "pint": "pints",
    "tonne": "tonnes",
    "torr": "Torr mmHg",
    "decade": "decades",
    "century": "centuries",
}
_NAMED = {word: name for name, words in _WORDS.items() for word in words.split()}

_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textrm|operatorname|rm)\s*\{([^{}]*)\}|\{\\rm\s+([^{}]*)\}")
_MICRO = re.compile(r"\\mu(?![a-zA-Z])\s*(\\(?:text|mathrm|rm)\s*\{)?")
_SPACES = re.compile(r"\\[,;:! ]|~|\\q?quad(?![a-zA-Z])")
_TEMPERATURE = re.compile(
    r"(?:\^\s*\{?\s*\\circ\s*\}?|\\degree|°|\bdegrees?)\s*([CF])(?:elsius|ahrenheit)?(?![a-zA-Z])"
)
_POWER_OF_TEN = r"10\s*\^\s*(?:\{\s*[-+]?\d+\s*\}|-?\d)"
_NUMBER = (
    rf"[-+]?(?:(?:(?:\d{{1,3}}(?:,\d{{3}})+|\d+)(?:\.\d+)?|\.\d+)"
    rf"(?:\s*(?:\\times|\\cdot|\*)\s*{_POWER_OF_TEN}|[eE][-+]?\d+(?![a-zA-Z\d])|/\d+)?"
    rf"|{_POWER_OF_TEN}|\\frac\{{\d+\}}\{{\d+\}})"
)
_FACTOR = (
    r"(?:(?:square|cubic|sq\.?|cu\.?)\s+)?[a-zA-Zμµ¢ΩÅÅåö]+(?![a-zA-Zμµ¢ΩÅÅåö])(?:\s+(?:squared|cubed))?"
    r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
)
_PRODUCT = rf"{_FACTOR}(?:(?:\s*(?:\\cdot|[*/·])\s*|\s+){_FACTOR})*"
_MEASURED = re.compile(rf"^(?P<before>.*?)(?P<number>{_NUMBER})(?P<gap>\s*)(?P<unit>{_PRODUCT})$")
_AT_END = re.compile(rf"(?<=[\d}})\s])(?P<unit>{_PRODUCT})$")
_ONE_FACTOR = re.compile(
    r"(?P<sign>\\cdot|[*/·]|)\s*(?:(?P<before>square|cubic|sq\.?|cu\.?)\s+)?(?P<name>[a-zA-Zμµ¢ΩÅÅåö]+)"
    r"(?:\s+(?P<after>squared|cubed))?(?:\s*\^\s*\{?\s*(?P<power>-?\d)\s*\}?)?\s*"
)
_POWERS = {"square": 2, "sq": 2, "sq.": 2, "squared": 2, "cubic": 3, "cu": 3, "cu.": 3, "cubed": 3}
_MONEY = re.compile(r"^\s*(?:\\\$|\$(?=[\d.,]+\s*$))\s*(\d[\d,]*(?:\.\d+)?|\.\d+)")
_IS_A_SUM = re.compile(r"[\d+*/^()\\{}-]")


def quantity(text: str) -> Quantity | None:
    """The number and the unit that `text` ends in; None where it ends in none that is known.

    Words before the number are allowed (`about 5 cm`, `F = 5 N`), other numbers and operations are not. A symbol of one
    capital letter counts as a unit only apart from its number: `3 A` is a current, `3A` is not.
    """
    if len(text) > MAX_LENGTH:
        return None
    if money := _MONEY.match(text):
        amount = as_number(normalise(money[1]))
        return None if amount is None else Quantity(amount, amount, _OTHERS["dollar"])
    match = _MEASURED.fullmatch(_plain(text))
    if match is None:
        return None
    before = re.split(r"=|≈|\\approx(?![a-zA-Z])|\\simeq(?![a-zA-Z])", match["before"])[-1]
    if _IS_A_SUM.search(before) or (before and not before[-1].isspace()):
        return None
    is_apart = bool(match["gap"]) or "\\" in text
    found = read_unit(match["unit"])
    if found is None or (not is_apart and re.fullmatch(r"[A-Z]", match["unit"])):
        return None
    amount = as_number(normalise(match["number"].replace(r"\times", "*").replace(r"\cdot", "*")))
    return None if amount is None else Quantity(amount, amount * found.factor, found)


def _plain(text: str) -> str:
    text = _MICRO.sub(lambda match: (match[1] or "") + "μ", text).replace(r"\Omega", "Ω").replace(r"\AA", "Å")
    text = _WRAPPED.sub(lambda match: f" {(match[1] or match[2]).strip()} ", text)
    text = _SPACES.sub(" ", text).replace("$", " ")
    text = _TEMPERATURE.sub(lambda match: {"C": " celsius", "F": " fahrenheit"}[match[1]], text)
    return re.sub(r"\s+per\s+", "/", text).strip(" .*")


def read_unit(text: str) -> Unit | None:
    """The unit that `text` spells, such as `kg m^2/s`; None where any part is unknown. What follows `/` divides."""
    factor, dimensions, is_metric, at, sign = Fraction(1), dict[str, int](), True, 0, 1
    while at < len(text):
        match = _ONE_FACTOR.match(text, at)
        one = named_unit(match["name"]) if match else None
        if match is None or one is None:
            return None
        sign = -1 if match["sign"] == "/" else sign
        power = sign * int(match["power"] or _POWERS.get(match["before"] or match["after"] or "", 1))
        factor *= one.factor**power
        for name, exponent in one.dimensions:
            dimensions[name] = dimensions.get(name, 0) + power * exponent
        is_metric = is_metric and one.is_metric if at else one.is_metric
        at = match.end()
    return Unit(factor, tuple(sorted((n, e) for n, e in dimensions.items() if e)), is_metric)


def named_unit(word: str) -> Unit | None:
    """One unit by its symbol or its name, with or without a prefix.

    >>> named_unit("km") == named_unit("kilometers"), named_unit("ways")
    (True, None)
    """
    name = _canonical(word)
    if name is None:
        return None
    base, exponent = name
    known = _SI.get(base) or _OTHERS[base]
    return known._replace(factor=known.factor * Fraction(10) ** exponent)


@lru_cache(maxsize=4096)
def _canonical(word: str) -> tuple[str, int] | None:
    """The symbol of a unit and the power of ten of its prefix."""
    if word in _SI or word in _OTHERS:
        return word, 0
    small = word.casefold() if len(word) > 2 else word
    if known := _NAMED.get(word) or _NAMED.get(small) or (small if small in _OTHERS and len(small) > 2 else None):
        return known, 0
    for prefix, exponent in _LONG_PREFIXES.items():
        if small.startswith(prefix) and (base := _NAMED.get(small[len(prefix) :])) in _SI:
            return str(base), exponent
    base = "L" if word[1:] == "l" else word[1:]
    if base in _SI and word[0] in _PREFIXES:
        return base, _PREFIXES[word[0]]
    return None


_UNITS = re.compile(
    r"(?<=[\w})])\s+(?:\\text\s*\{\s*)?(?:(?:square|cubic|sq\.)\s+)?units?\s*(?:\^\s*\{?\d\}?)?\s*\}?[\s$.]*$"
)


def without_unit(text: str, *, is_sure: bool = False) -> str:
    r"""An expression without the unit at its end, be that known or only called `square units`.

    A symbol of one or two letters may be a variable; it is a unit only where that `is_sure`.

    >>> without_unit(r"12\sqrt{3} \text{ cm}"), without_unit(r"36\pi square units"), without_unit("x + y")
    ('12\\sqrt{3}', '36\\pi', 'x + y')
    """
    text = _UNITS.sub("", text)
    if unit_at_end(text) is None or not (is_sure or _SURE_UNIT.search(text)):
        return text
    plain = _plain(text)
    match = _MEASURED.fullmatch(plain) or _AT_END.search(plain)
    return plain[: match.start("unit")].strip() if match else text


_SURE_UNIT = re.compile(r"\\text|\\mathrm|[a-zA-Z]{3,}\W*$|(?<=[\w})])\s+(?:[cmk]m|kg|m[lL])(?:\s*\^\s*\{?\d\}?)?\W*$")
MAY_BE_MILLIONS = re.compile(r"(?:\dM|[$€£]\s*[\d.,]+\s*M)[\s.$]*$")
"""Rather millions than moles a litre: `$5 M`, `5M`."""


def unit_at_end(text: str) -> Unit | None:
    """The unit that a text states after its number, be that a number or an expression such as `12\\sqrt{3}`."""
    if found := quantity(text):
        return found.unit
    plain = _plain(text[-80:])
    match = _AT_END.search(plain)
    return read_unit(match["unit"]) if match and re.search(r"\d", plain[: match.start()]) else None
