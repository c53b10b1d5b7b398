r"""Formulas of substances: the same elements in the same order, however their numbers are typeset.

>>> substances("H₂SO₄", r"\text{H}_2\text{SO}_4"), substances("H2SO3", "H_2SO_4"), substances("2x", "C_1")
('correct', 'wrong', None)
"""

from __future__ import annotations

import re

from s1kit.records import Verdict

MAX_LENGTH = 80
"""Characters of a text that may be a formula."""

_ELEMENTS = frozenset(
    re.findall(
        "[A-Z][a-z]?",
        "HHeLiBeBCNOFNeNaMgAlSiPSClArKCaScTiVCrMnFeCoNiCuZnGaGeAsSeBrKrRbSrYZrNbMoTcRuRhPdAgCdInSnSbTeIXeCsBaLaCePtAuHgTl"
        "PbBiPoRnRaThUPuWOsIrTaHfRe",
    )
)
_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textrm|ce|rm)\s*\{([^{}]*)\}")
_SMALL = str.maketrans("₀₁₂₃₄₅₆₇₈₉⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻", "01234567890123456789+-")
_IN_PROSE = re.compile(r"\d|[A-Z].*[A-Z]")
"""What tells a formula from a word that begins with an element, such as `He`."""
_CHARGE = re.compile(r"\^\s*\{?\s*(\d*[+-])\s*\}?$|(?<=[A-Za-z\d)])([⁰¹²³⁴⁵⁶⁷⁸⁹]*[⁺⁻])$")
_PART = re.compile(r"([A-Z][a-z]?)(\d*)|(\()|\)(\d*)")


def substances(answer: str, solution: str) -> Verdict | None:
    """The verdict on two formulas of substances or ions; None where one of the two is none."""
    right = _read(solution)
    if right is None:
        return None
    named = [found for word in answer.split() if _IN_PROSE.search(word) and (found := _read(word.strip(",;:()")))]
    mine = _read(answer) or (named[0] if len(named) == 1 else None)
    if mine is None:
        return None
    return "correct" if mine == right else "wrong"


def _read(text: str) -> tuple[str, str] | None:
    """The formula on one line and its charge; None where a part is no element, or nothing tells it from a product."""
    if len(text) > MAX_LENGTH:
        return None
    text = _WRAPPED.sub(r"\1", _WRAPPED.sub(r"\1", text)).strip(" $.*")
    charge = _CHARGE.search(text)
    body = (text[: charge.start()] if charge else text).translate(_SMALL)
    body = re.sub(r"_\s*\{?\s*(\d+)\s*\}?|\s+", lambda match: match[1] or "", body)
    at, elements, has_number = 0, [], False
    while at < len(body):
        part = _PART.match(body, at)
        if part is None or (part[1] and part[1] not in _ELEMENTS):
            return None
        elements += [part[1]] if part[1] else []
        has_number = has_number or bool(part[2] or part[4])
        at = part.end()
    is_formula = len(elements) > 1 or (len(elements) == 1 and len(elements[0]) == 2)
    if not is_formula or not (has_number or charge or any(len(element) == 2 for element in elements)):
        return None
    return body, (charge[1] or charge[2] or "").translate(_SMALL) if charge else ""
