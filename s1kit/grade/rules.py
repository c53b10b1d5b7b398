"""Judging one answer by rules, the cheapest first; what they leave open is compared symbolically."""

from __future__ import annotations

import re

from s1kit.grade.cases import Case, Judgement
from s1kit.grade.choice import is_letter, letter, mentions_options, options
from s1kit.grade.compare import DECISIVE, MAX_SYMBOLIC, canonical, compare_plain
from s1kit.grade.extract import final_answer, unwrap
from s1kit.grade.form import (
    decimal_comma,
    in_form_of,
    is_guess,
    labelled,
    mentions,
    mentions_all,
    solution_answer,
    with_unit,
)
from s1kit.grade.lists import with_both_signs
from s1kit.grade.normalise import normalise
from s1kit.grade.plain import to_latex
from s1kit.grade.prose import last_sentence
from s1kit.grade.readings import by_value
from s1kit.grade.several import chosen_letters, mentions_every, solution_letters
from s1kit.grade.shapes import (
    compare_dots,
    num_values,
    other_names,
    other_units,
    top_level_parts,
    without_name,
)
from s1kit.grade.units import unit_at_end, without_unit

MAX_READ = 10000
"""Characters of a final answer that is read; longer ones are compared as text."""

MAX_SENTENCE = 500
"""Characters of a last sentence in which a solution that nothing marks may be meant; a longer one breaks off."""

MAX_DEPTH = 40
"""Brackets within brackets, at most, of an answer that is compared symbolically."""


_TOWER = re.compile(r"(?:\d\^\{?){3}\d")
"""Powers of powers of powers of numbers: no computer holds that, and finding out costs a worker its three seconds."""


_SPACED_GROUPS = re.compile(r"\d{1,3}(?:, \d{3})+")
"""`32, 349` is two numbers, or one whose digits are grouped."""


_NAMES_OF_A_TUPLE = re.compile(
    r"(?:^|(?<=,))\s*\$?\s*\(\s*(?:x\s*,\s*y|x\s*,\s*y\s*,\s*z|a\s*,\s*b|a\s*,\s*b\s*,\s*c)\s*\)\s*=\s*(?=\()"
)


_BETWEEN_GROUPS = re.compile(
    r"[\s,]*(?:;|(?:\\q?quad\s*)?(?:\\text\s*\{\s*(?:and|or)\s*\}|\b(?:and|or)\b))(?:\s*\\q?quad)?\s*"
)
_NAMED_VALUE = re.compile(r"[$\s]*([a-z])\s*=\s*([^=,;]+?)[$\s]*")


def _as_tuples(text: str) -> str:
    """The tuples of `p = 5, q = 2; p = 7, q = 2`, whose groups name the same two values or more; else `text`.

    >>> _as_tuples("p=5, q=2 or p=7, q=2"), _as_tuples("p=5, q=2")
    ('(5, 2), (7, 2)', 'p=5, q=2')
    """
    groups = [
        [_NAMED_VALUE.fullmatch(one) for one in group.split(",")] for group in _BETWEEN_GROUPS.split(text.strip(" $."))
    ]
    named = [{one[1]: one[2] for one in group if one} for group in groups]
    is_list = len(groups) > 1 and len(named[0]) > 1 and all(None not in group for group in groups)
    if not is_list or any(list(one) != list(named[0]) for one in named):
        return text
    return ", ".join(f"({', '.join(one[name] for name in sorted(one))})" for one in named)


def _positional(text: str) -> str:
    """The values of `(x, y) = (1, 2)`, or of `x = 1, y = 2` in the order of the names, as a tuple."""
    named = [re.fullmatch(r"[$\s]*([a-z])\s*=\s*([^=]+?)[$\s]*", part) for part in top_level_parts(text)]
    values = [(match[1], match[2]) for match in named if match]
    if len(values) == len(named) > 1 and len({name for name, _ in values}) == len(values):
        return f"({', '.join(value for _, value in sorted(values))})"
    return _NAMES_OF_A_TUPLE.sub("", text)


def judge_by_rules(case: Case) -> Judgement | tuple[str, str]:
    """The verdict where spelling, numbers or options decide; else the pair to compare symbolically."""
    answer, solution, kind, question, _ = case
    answer = unwrap(answer) if kind != "exact" else answer
    if kind == "exact":
        same = answer.strip() == solution.strip()
        return Judgement("correct" if same else "wrong", "exact text", answer.strip())
    choices = options(question) if kind != "math" else {}
    several = solution_letters(solution, choices, kind) if kind != "math" else ""
    if kind == "choice" or several or (not kind and is_letter(solution, choices)):
        return _judge_choice(answer, solution, question, choices, several)
    if solution and answer.strip() == solution.strip():
        return Judgement("correct", "same text", canonical(normalise(answer)))
    theirs = solution_answer(solution)
    if not theirs:
        return Judgement("abstain", "the solution states no final answer")
    label, theirs = labelled(theirs)
    found = final_answer(answer, question)
    if found and label and is_letter(found.text):
        mine = letter(found.text, {})
        return Judgement("correct" if mine == label else "wrong", f"options: {mine} and {label}", mine)
    if found is None:
        if len(sentence := last_sentence(answer)) <= MAX_SENTENCE and mentions(sentence, theirs):
            return Judgement("abstain", "the solution stands in a sentence that states no final answer")
        return Judgement("wrong", "no final answer")
    if max(len(found.text), len(theirs)) > MAX_READ:
        same = normalise(found.text) == normalise(theirs)
        shown = f"{short(found.text)} and {short(theirs)}"
        return Judgement(
            "correct" if same else "abstain", f"too long to read: {shown}", canonical(normalise(found.text))
        )
    theirs = to_latex(theirs)
    sentence = last_sentence(answer)
    is_open_guess = is_guess(found, theirs, sentence)
    said = found.text
    theirs, found = _as_tuples(theirs), found._replace(text=_as_tuples(found.text))
    has_names = bool(_NAMES_OF_A_TUPLE.match(theirs))
    theirs = _positional(theirs) if has_names else theirs
    theirs = decimal_comma(theirs, found.text)
    found = in_form_of(theirs, found, answer)
    if has_names or _NAMES_OF_A_TUPLE.match(found.text):
        theirs, found = _positional(theirs), found._replace(text=_positional(found.text))
    theirs, found = with_both_signs(theirs), found._replace(text=with_both_signs(found.text))
    mine, right = normalise(found.text), normalise(theirs)
    if _SPACED_GROUPS.fullmatch(said.strip(" $.")) and "," not in theirs and mine == right:
        return Judgement("abstain", f"a list or digit groups: {short(said)} and {short(theirs)}", canonical(mine))
    shown = f"{short(found.text)} ({found.how}) and {short(theirs)}"
    if mine != right and (dots := compare_dots(mine, right)):
        return Judgement(dots, f"formulas with dots: {shown}", canonical(mine))
    whole = with_unit(found, answer)
    if read := by_value(to_latex(whole), theirs):
        return Judgement(read[0], f"{read[1]}: {shown}", canonical(mine))
    verdict, rule = compare_plain(mine, right, found.text, theirs)
    is_open = verdict == "wrong" or (verdict is None and not re.search(r"[\d\\]", theirs))
    if is_open and rule not in DECISIVE and is_open_guess and mentions(sentence, theirs):
        return Judgement("abstain", f"the solution stands elsewhere in the sentence: {shown}", canonical(mine))
    if other_units(whole, theirs):
        return Judgement("abstain", f"other units: {shown}", canonical(mine))
    if verdict == "correct" and other_names(found.text, theirs):
        return Judgement("abstain", f"other names: {shown}", canonical(mine))
    if verdict is not None:
        return Judgement(verdict, f"{rule}: {shown}", canonical(mine))
    if max(len(mine), len(right)) > MAX_SYMBOLIC or max(_depth(mine), _depth(right)) > MAX_DEPTH:
        return Judgement("abstain", f"too long or deep to compare: {shown}", canonical(mine))
    nums = _num_values(mine, found.text), _num_values(right, theirs)
    if None not in nums and nums[0] != nums[1]:
        if is_open_guess and mentions_all(sentence, theirs):
            return Judgement("abstain", f"the values stand elsewhere in the sentence: {shown}", canonical(mine))
        return Judgement("wrong", f"{nums[0]} and {nums[1]} values: {shown}", canonical(mine))
    if _TOWER.search(mine) or _TOWER.search(right):
        return Judgement("abstain", f"too large to compute: {shown}", canonical(mine))
    return _for_symbols(without_name(found.text, theirs), theirs), _for_symbols(
        without_name(theirs, found.text), found.text
    )


def _num_values(normalised: str, text: str) -> int | None:
    """How many values an answer has, with or without brackets; None where that cannot be told."""
    parts = top_level_parts(text)
    if len(parts) == 1:
        return num_values(normalised)
    if not all(map(_BEGINS_AS_A_VALUE.match, parts)):
        return None
    are_tuples = all(part.lstrip("$ ").startswith("(") for part in parts)
    return len({normalise(part) for part in parts}) if are_tuples else len(parts)


_BEGINS_AS_A_VALUE = re.compile(r"[$\s]*-?(?:[\d(]|\\(?:left|[dt]?frac|sqrt|pi)(?![a-zA-Z]))")


def _judge_choice(answer: str, solution: str, question: str, choices: dict[str, str], several: str) -> Judgement:
    right = several or letter(solution, choices) or ("" if choices else _labelled(solution))
    if not right:
        return Judgement("abstain", f"the solution {short(solution)} is no option")
    answer = answer.replace(question.strip(), " ") if len(question) > 20 else answer
    mine = chosen_letters(answer, choices)
    if not mine and mentions_options(answer, choices) and not _NONE.search(answer[-200:]):
        return Judgement("abstain", "options are named, and none is chosen in words that are known")
    if not mine:
        return Judgement("wrong", "no option chosen")
    shown = f"options: {mine} and {right}"
    if len(mine) == 1 and set(mine) < set(right) and mentions_every(answer, right):
        return Judgement("abstain", f"{shown}; all right ones are named", mine)
    return Judgement("correct" if mine == right else "wrong", shown, mine)


_NONE = re.compile(
    r"\bnone\s+of\s+(?:the|these|those)\b[^.\n]*\W*\Z|\bno\s+(?:correct|right)\s+(?:answer|option)\b[^.\n]*\W*\Z", re.I
)
"""A reply that ends in finding no option right."""
_SHAPES = re.compile(r"\\var(epsilon|phi|theta|rho)(?![a-zA-Z])")
"""The second shape of a Greek letter, which is the same name unless a formula has both."""


def _labelled(solution: str) -> str:
    """The letter of an option that is given with its text, `C Cecile`, where the question does not list the options."""
    match = re.match(r"\(?([A-J])\)?[.:)]?\s+[A-Z]", solution)
    return match[1] if match else ""


def _for_symbols(text: str, other: str) -> str:
    """The expression without a unit that the other has not, and without math delimiters, which would end the formula
    that a worker puts around it.
    """
    text = without_unit(text) if unit_at_end(other) is None else text
    text = re.sub(r"(?<!\\)\$|\\[()\[\]]", " ", text).strip().rstrip(".")
    text = _SHAPES.sub(lambda match: match[0] if f"\\{match[1]}" in text else f"\\{match[1]}", text)
    text = re.sub(r"π|(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi ", text)
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])", text):
        text = _DEGREES.sub(r"\\frac{\1\\pi}{180}", text)
    return text[:MAX_SYMBOLIC]


_DEGREES = re.compile(r"(\d+)\s*(?:\^\s*\{?\s*\\circ\s*\}?|°)")


def _depth(text: str) -> int:
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth -= 1
    return deepest


def short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 80 else text[:60] + " ... " + text[-15:])
