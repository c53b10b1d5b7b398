"""The default grader. Cheapest rule first: spelling, numbers, options, then math-verify and a numeric second opinion.

It abstains where it cannot know: a solution without a final answer, a comparison that does not end, two opinions that
disagree and no judge to ask.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from s1kit.errors import MissingExtra
from s1kit.grade.cases import Case, Judgement
from s1kit.grade.choice import is_letter, letter, mentions_options, options
from s1kit.grade.extract import Found, box_groups, final_answer
from s1kit.grade.normalise import as_number, is_decimal, is_integer, normalise
from s1kit.grade.plain import to_latex
from s1kit.grade.prose import last_sentence
from s1kit.grade.readings import by_value
from s1kit.grade.shapes import (
    compare_dots,
    num_values,
    other_names,
    other_units,
    top_level_parts,
    unalike,
    unit,
    without_name,
)
from s1kit.grade.words import number_in_words
from s1kit.grade.workers import SECONDS, WorkerPool
from s1kit.records import Verdict

Judge = Callable[[Sequence[Case]], Sequence[Judgement]]
"""Asked only where the rules disagree."""

MAX_SOLUTION = 300
"""Characters of a solution that is taken whole when nothing marks its final answer."""

MAX_SYMBOLIC = 600
"""Characters of an answer that is compared symbolically."""

MAX_DEPTH = 40
"""Brackets within brackets, at most, of an answer that is compared symbolically."""


_TOWER = re.compile(r"(?:\d\^\{?){3}\d")
"""Powers of powers of powers of numbers: no computer holds that, and finding out costs a worker its three seconds."""


class Cascade:
    """The default grader. Worker processes start when the first case needs them."""

    def __init__(self, processes: int = 2, seconds: float = SECONDS, judge: Judge | None = None) -> None:
        self._pool = WorkerPool(processes, seconds)
        self._judge = judge

    def __call__(self, answer: str, solution: str, kind: str = "", question: str = "") -> Judgement:
        return self.grade([Case(answer, solution, kind, question)])[0]

    def close(self) -> None:
        """Stop the worker processes. They also stop when the grader is garbage collected."""
        self._pool.close()

    def grade(self, cases: Sequence[Case]) -> list[Judgement]:
        """The verdicts, one a case, in order. Whatever a case holds, it neither raises nor hangs."""
        judgements: list[Judgement | None] = []
        pairs: dict[tuple[str, str], list[int]] = {}
        for number, case in enumerate(cases):
            ruled = judge_by_rules(case)
            if isinstance(ruled, Judgement):
                judgements.append(ruled)
            else:
                judgements.append(None)
                pairs.setdefault(ruled, []).append(number)
        if pairs:
            _require_math_verify()
        for (pair, numbers), found in zip(pairs.items(), self._pool.run(list(pairs)) if pairs else (), strict=True):
            for number in numbers:
                judgements[number] = _symbolic_judgement(pair, found)
        done = [judgement for judgement in judgements if judgement is not None]
        return self._ask_judge(cases, done) if self._judge else done

    def _ask_judge(self, cases: Sequence[Case], judgements: list[Judgement]) -> list[Judgement]:
        open_ones = [n for n, j in enumerate(judgements) if j.verdict == "abstain" and j.final_answer]
        if open_ones and self._judge is not None:
            for number, judged in zip(open_ones, self._judge([cases[n] for n in open_ones]), strict=True):
                before = judgements[number]
                evidence = f"{before.evidence}; {judged.evidence}"
                judgements[number] = Judgement(judged.verdict, evidence, before.final_answer)
        return judgements


def judge_by_rules(case: Case) -> Judgement | tuple[str, str]:
    """The verdict where spelling, numbers or options decide; else the pair to compare symbolically."""
    answer, solution, kind, question = case
    if kind == "exact":
        same = answer.strip() == solution.strip()
        return Judgement("correct" if same else "wrong", "exact text", answer.strip())
    if kind == "choice" or (not kind and is_letter(solution)):
        return _judge_choice(answer, solution, question)
    if solution and answer.strip() == solution.strip():
        return Judgement("correct", "same text", canonical(normalise(answer)))
    theirs = solution_answer(solution)
    if not theirs:
        return Judgement("abstain", "the solution states no final answer")
    found = final_answer(answer, question)
    if found is None:
        if _mentions(last_sentence(answer), theirs):
            return Judgement("abstain", "the solution stands in a sentence that states no final answer")
        return Judgement("wrong", "no final answer")
    theirs = to_latex(theirs)
    found = _with_relation(found, answer, theirs)
    found = found._replace(text=_alone(to_latex(_all_parts(found, answer, theirs)), theirs))
    mine, right = normalise(found.text), normalise(theirs)
    shown = f"{_short(found.text)} ({found.how}) and {_short(theirs)}"
    if mine != right and (dots := compare_dots(mine, right)):
        return Judgement(dots, f"formulas with dots: {shown}", canonical(mine))
    # The last number of a short reply has left its unit behind.
    whole = answer.strip() if found.how == "last number" else found.text
    if read := by_value(to_latex(whole), theirs):
        return Judgement(read[0], f"{read[1]}: {shown}", canonical(mine))
    verdict, rule = _compare(mine, right, found.text, theirs)
    is_open = verdict == "wrong" or (verdict is None and not re.search(r"[\d\\]", theirs))
    if is_open and found.how in GUESSES and _mentions(last_sentence(answer), theirs):
        return Judgement("abstain", f"the solution stands elsewhere in the sentence: {shown}", canonical(mine))
    if other_units(whole, theirs):
        return Judgement("abstain", f"other units: {shown}", canonical(mine))
    if verdict == "correct" and other_names(found.text, theirs):
        return Judgement("abstain", f"other names: {shown}", canonical(mine))
    if verdict is not None:
        return Judgement(verdict, f"{rule}: {shown}", canonical(mine))
    if max(len(mine), len(right)) > MAX_SYMBOLIC or max(_depth(mine), _depth(right)) > MAX_DEPTH:
        return Judgement("abstain", f"too long or deep to compare: {shown}", canonical(mine))
    if (nums := (num_values(mine), num_values(right))) and None not in nums and nums[0] != nums[1]:
        return Judgement("wrong", f"{nums[0]} and {nums[1]} values: {shown}", canonical(mine))
    if _TOWER.search(mine) or _TOWER.search(right):
        return Judgement("abstain", f"too large to compute: {shown}", canonical(mine))
    return _for_symbols(without_name(found.text, theirs)), _for_symbols(without_name(theirs, found.text))


_RATIO = re.compile(r"(?<![\d.])(\d+)\s+(?:to|in|out\s+of)\s+(\d+)(?!\d|\.\d)")


def _with_relation(found: Found, answer: str, theirs: str) -> Found:
    """`3 to 2` for a solution that is a ratio, `1 in 6` for a fraction; all named values where it has several."""
    sentence = last_sentence(answer) if found.how in GUESSES else found.text
    if found.how in GUESSES and theirs.casefold() in _TRUTH:
        return Found(answer.strip(), "whole")
    if (":" in theirs or "/" in theirs or "frac" in theirs) and len(ratios := _RATIO.findall(sentence)) == 1:
        return Found((":" if ":" in theirs else "/").join(ratios[0]), "last number")
    if len(top_level_parts(theirs)) > 1 or num_values(normalise(theirs)) not in (None, 1):
        named = re.findall(r"\$?\s*([a-zA-Z]\s*=\s*[^\s=,;$]+?)\s*\$?(?=[,;.]?(?:\s|$))", sentence)
        if len(named) > 1:
            values = [each.split("=")[1].strip() for each in named]
            return Found(", ".join(named if "=" in theirs else values), found.how)
    return found


GUESSES = ("last number", "last formula")
"""How a final answer was found that nothing marked."""


def _mentions(sentence: str, solution: str) -> bool:
    """Whether a sentence has the solution in it as a word or number of its own."""
    spelled = re.escape(solution.strip().strip("$").casefold())
    return len(solution) <= 60 and re.search(rf"(?<![\w.]){spelled}(?![\w]|[.,]\d)", sentence.casefold()) is not None


def _all_parts(found: Found, answer: str, theirs: str) -> str:
    """The boxes of an answer together, where the solution has as many values as there are boxes."""
    num = len(top_level_parts(theirs))
    if found.how != "boxed" or num < 2 or len(top_level_parts(found.text)) > 1:
        return found.text
    boxes = list(dict.fromkeys(box for group, _ in box_groups(answer) for box in group))
    return ", ".join(boxes[-num:]) if len(boxes) >= num else found.text


def _alone(text: str, theirs: str) -> str:
    """What follows the last `=` of a calculation such as `12 + 24 = 36 dollars`, where the solution is no equation."""
    left, equals, value = text.rpartition("=")
    is_sum = re.fullmatch(r"(?:[\d\s$.,+*/()%=-]|\\(?:times|cdot|div)\s?|[xX])+", left) and re.search(r"\d", left)
    return value.strip() if equals and value.strip() and is_sum and "=" not in theirs else text


def solution_answer(solution: str) -> str:
    """The final answer of a reference: what it marks as one, or all of a short one; empty when neither."""
    if len(solution) > MAX_SOLUTION or "\n" in solution.strip() or re.search(r"\\boxed|####", solution):
        found = final_answer(solution)
        return found.text if found and found.how in ("boxed", "####", "stated") else ""
    lead = re.match(r"\s*(?:the\s+)?(?:final\s+)?answer(?:\s+is|\s*[:=])\s*:?\s*(?=\S)", solution, re.IGNORECASE)
    return solution[lead.end() if lead else 0 :].strip()


def canonical(normalised: str) -> str:
    """A canonical spelling of an answer: equal answers get the same one, as far as spelling and numbers tell."""
    number = as_number(normalised)
    return str(number) if number is not None else normalised


def _compare(mine: str, right: str, raw_mine: str, raw_right: str) -> tuple[Verdict | None, str]:
    if not mine:
        return "wrong", "empty answer"
    if mine == right:
        return "correct", "same text"
    my_number, right_number = as_number(mine), as_number(right)
    if my_number is not None and right_number is not None:
        same = my_number == right_number or _rounds_to(my_number, right_number, right, mine)
        same = same or ("%" in raw_mine + raw_right and my_number in (right_number * 100, right_number / 100))
        if not same and _is_rounded(my_number, right_number, mine, right):
            return "abstain", "rounded further than the solution"
        return ("correct" if same else "wrong"), "integers" if is_integer(mine) and is_integer(right) else "numbers"
    if _BASE.fullmatch(mine) or _BASE.fullmatch(right):
        bases = [_BASE.fullmatch(text) for text in (mine, right)]
        digits = [match[1] if match else text for match, text in zip(bases, (mine, right), strict=True)]
        named = {match[2] for match in bases if match}
        return ("correct" if digits[0] == digits[1] and len(named) == 1 else "wrong"), "digits and base"
    if right_number is not None and len(mine) <= MAX_SYMBOLIC and _NO_FORMULA.fullmatch(mine):
        stated = [Fraction(number) for number in re.findall(r"\d+(?:\.\d+)?", mine)]
        if not stated and (said := number_in_words(raw_mine)) is not None:
            return ("correct" if said == right_number else "wrong"), "a number in words"
        if not stated and _NUMBER_IN_WORDS.search(raw_mine):
            return "abstain", "a number in words"
        if re.search(r"\d[a-zA-Z]\b", mine) and not unit(raw_mine):
            return "wrong", "a number and a name"
        return ("correct" if stated == [right_number] else "wrong"), "numbers in the text"
    if right.casefold() in _TRUTH and (first := re.match(r"\W*(\w+)", raw_mine)) and first[1].casefold() in _TRUTH:
        return ("correct" if _TRUTH[first[1].casefold()] == _TRUTH[right.casefold()] else "wrong"), "yes or no"
    if _is_word(right) and not re.search(r"[\d\\]", raw_mine):
        return _compare_words(raw_mine, right)
    if _is_word(mine) and _is_word(right):
        return ("correct" if mine.casefold() == right.casefold() else "wrong"), "words"
    return None, ""


_TRUTH = {"true": True, "yes": True, "false": False, "no": False}

_NUMBER_IN_WORDS = re.compile(
    r"\b(?:half|third|quarter|dozen|(?:thir|four|fif|six|seven|eigh|nine)teen|eleven|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|"
    r"hundred|thousand|million)",
    re.IGNORECASE,
)


_NOTHING = re.compile(r"\b(?:no|without)\s*(?:\w+\s+)?(?:solutions?|roots?)\b", re.IGNORECASE)


def _compare_words(raw: str, right: str) -> tuple[Verdict, str]:
    """Compare a one-word solution with an answer of words: equal but for an article, or a word of the sentence."""
    if _NOTHING.search(right) and _NOTHING.search(raw):
        return "correct", "words"
    is_it = re.search(rf"\b(?:is|are)\s+(?:an?\s+|the\s+)?{re.escape(right)}\W*$", raw, re.IGNORECASE)
    is_not = re.search(rf"\b(?:not|neither|nor)\s+(?:an?\s+|the\s+)?{re.escape(right)}\b", raw, re.IGNORECASE)
    if is_it and not re.search(r"\b(?:not|neither|nor|never|no)\b|n't\b", raw, re.IGNORECASE):
        return "correct", "the word that the sentence ends in"
    if is_not:
        return "wrong", "the word is denied"
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", raw)]
    if [word for word in words if word not in ("a", "an", "the")] == [right.casefold()]:
        return "correct", "words"
    return ("abstain", "the word within a sentence") if right.casefold() in words else ("wrong", "words")


def _is_rounded(mine: Fraction, right: Fraction, my_text: str, right_text: str) -> bool:
    """Whether an answer of three digits or more is a decimal solution with fewer places."""
    if not is_decimal(my_text) or not is_decimal(right_text):
        return False
    places = len(my_text.rpartition(".")[2])
    enough = len(my_text.lstrip("-+0.").replace(".", "")) >= 3 and places < len(right_text.rpartition(".")[2])
    return enough and abs(mine - right) <= Fraction(1, 2 * 10**places)


_NO_FORMULA = re.compile(r"[^\\+*/^=!(){}\[\]-]*")
"""Nothing of which a value could be computed: only what it states as a number counts."""

_BASE = re.compile(r"(\d+)_\{?(?:\\text)?\{?(\d+)\}*")


def _rounds_to(mine: Fraction, right: Fraction, right_text: str, my_text: str) -> bool:
    """A decimal solution is a rounded value: an exact answer that rounds to it is right, and 6 digits always do."""
    if abs(mine - right) <= Fraction(1, 10**6) * max(abs(mine), abs(right)) and is_decimal(my_text) | is_decimal(
        right_text
    ):
        return True
    if is_decimal(right_text) and not is_decimal(my_text) and not is_integer(my_text):
        places = len(right_text.rpartition(".")[2])
        return places >= 2 and abs(mine - right) <= Fraction(1, 2 * 10**places)
    return False


def _is_word(text: str) -> bool:
    return len(text) > 2 and re.fullmatch(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", text) is not None


def _judge_choice(answer: str, solution: str, question: str) -> Judgement:
    choices = options(question)
    right = letter(solution, choices)
    if not right:
        return Judgement("abstain", f"the solution {_short(solution)} is no option")
    mine = letter(answer.replace(question.strip(), " ") if len(question) > 20 else answer, choices)
    if not mine and mentions_options(answer, choices):
        return Judgement("abstain", "options are named, and none is chosen in words that are known")
    if not mine:
        return Judgement("wrong", "no option chosen")
    return Judgement("correct" if mine == right else "wrong", f"options: {mine} and {right}", mine)


def _symbolic_judgement(pair: tuple[str, str], found: dict[str, object]) -> Judgement:
    mine, right = pair
    shown, final = f"{_short(mine)} and {_short(right)}", canonical(normalise(mine))
    if failure := found.get("failure"):
        return Judgement("abstain", f"{failure}: {shown}", final)
    verified, numeric = found["verified"], found["numeric"]
    if numeric == "certain":
        return Judgement("wrong", f"other values: {shown}", final)
    if verified is None:
        if numeric in ("same", "different"):
            return Judgement("correct" if numeric == "same" else "wrong", f"numbers say {numeric}: {shown}", final)
        unread = "answer" if not found["read_answer"] else "solution"
        return Judgement("abstain", f"math-verify cannot read the {unread}: {shown}", final)
    if verified and numeric == "different":
        return Judgement("abstain", f"math-verify says equal, numbers say different: {shown}", final)
    if not verified and numeric == "same":
        # Our parser read all of both and found equal values at every (positive) point. With branches of a root or
        # logarithm in a variable that does not prove equality; elsewhere math-verify misread one of them.
        both = mine + " " + right
        has_names = re.search(r"(?<![\\a-zA-Z])[a-zA-Z]", both)
        sure = not re.search("[=.]", both) and not (has_names and _BRANCHES.search(both))
        says = "math-verify says different, numbers say same"
        return Judgement("correct" if sure else "abstain", f"{says}: {shown}", final)
    support = "" if numeric == "unknown" else ", and so do numbers"
    if verified and other_names(mine, right):
        return Judgement("abstain", f"other names: {shown}", final)
    if verified:
        return Judgement("correct", f"math-verify says equal{support}: {shown}", final)
    if why := unalike(mine, right):
        return Judgement("abstain", f"{why}: {shown}", final)
    return Judgement("wrong", f"math-verify says different{support}: {shown}", final)


def _for_symbols(text: str) -> str:
    """The expression without math delimiters, which would end the formula that a worker puts around it."""
    text = re.sub(r"(?<!\\)\$|\\[()\[\]]", " ", text).strip().rstrip(".")
    text = re.sub(r"π|(?<![a-zA-Z\\])pi(?![a-zA-Z])", r"\\pi ", text)
    if re.search(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-zA-Z])", text):
        text = _DEGREES.sub(r"\\frac{\1\\pi}{180}", text)
    return text[:MAX_SYMBOLIC]


_BRANCHES = re.compile(r"\\(?:sqrt|ln|log|arc)|\||\^\s*[{(]?[^{}()]*(?:/|\\frac)")

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


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 80 else text[:60] + " ... " + text[-15:])


def _require_math_verify() -> None:
    from importlib.util import find_spec

    if find_spec("math_verify") is None:
        raise MissingExtra("comparing formulas", "math-verify", extra="grade")
