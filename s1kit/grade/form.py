"""The final answer of a reply in the form in which its solution states one: all parts, a ratio, a number without its
calculation."""

from __future__ import annotations

import re

from s1kit.grade.compare import TRUTH, is_phrase, is_word
from s1kit.grade.extract import Found, box_groups, final_answer
from s1kit.grade.moments import moment
from s1kit.grade.normalise import as_number, is_decimal, normalise
from s1kit.grade.plain import to_latex, without_bold
from s1kit.grade.prose import last_sentence, main_clause, math_spans
from s1kit.grade.shapes import num_values, top_level_parts
from s1kit.grade.units import quantity, unit_at_end

MAX_SOLUTION = 300
"""Characters of a solution that is taken whole when nothing marks its final answer."""

NUMBERS = ("last number", "concluding number")
"""How a number was found that stands in a sentence."""

GUESSES = (*NUMBERS, "last formula")
"""How a final answer was found that nothing marked."""


def is_guess(found: Found, theirs: str, sentence: str) -> bool:
    """Whether another part of the sentence may be meant; not where it concludes with a number and one is asked for."""
    is_concluded = found.how == "concluding number" and as_number(normalise(theirs)) is not None
    is_sum = found.how == "last formula" and "=" in found.text and as_number(normalise(theirs)) is not None
    return found.how in GUESSES and not is_concluded and not (is_sum and ends_in(sentence, found.text))


def ends_in(sentence: str, formula: str) -> bool:
    """Whether a sentence ends in a formula."""
    return re.sub(r"[\s$.*]|\\[()\[\]]", "", sentence).endswith(re.sub(r"[\s$.*]", "", formula))


def with_unit(found: Found, answer: str) -> str:
    """A final answer with the unit that it has in its sentence: `180 km` for the 180 of `180 km in 3 hours`."""
    if found.how not in NUMBERS:
        return found.text
    places = list(re.finditer(rf"(?<![\w.]){re.escape(found.text)}(?!\d|\.\d)", answer))
    if not places:
        return found.text
    measured = _UNIT_ENDS.split(answer[places[-1].start() :].strip(), maxsplit=1)[0]
    words = measured.split()
    if 2 < len(words) < 8 and not quantity(measured):
        known = next((n for n in range(len(words) - 1, 1, -1) if quantity(" ".join(words[:n]))), 0)
        measured = " ".join(words[:known]) if known else measured
    larger = _LARGER_PART.search(answer[: places[-1].start()])
    return f"{larger[0]}{measured}" if larger and unit_at_end(larger[1]) else measured


_LARGER_PART = re.compile(r"(?<![\w.])(\d+\s+[a-zA-Z]{3,})(?:,|,?\s+and)?\s+$")
"""`2 hours and` before `40 minutes`."""


_UNIT_ENDS = re.compile(
    r"[,;.!?](?:\s|\**$)|\s(?:in|for|at|on|over|after|within|from|to|and|or|when|if|because|since|by|with|than|as|of)\s|\s[(=]"
)


def in_form_of(theirs: str, found: Found, answer: str) -> Found:
    """The final answer found in `answer`, as LaTeX, with all that the solution `theirs` asks for and nothing more."""
    found = _with_relation(found, answer, theirs)
    text = without_bold(_all_parts(found, answer, theirs))
    if (number := as_number(normalise(theirs))) is not None:
        if found.how in NUMBERS and _DOTTED_GROUPS.fullmatch(text) and not _ENGLISH.search(answer):
            joined = text.replace(".", "")
            text = joined if as_number(joined) == number else text
        text = decimal_comma(_regrouped(text), theirs)
        if found.how in ("stated", "whole") and (said := _SAID_VALUE.search(to_latex(text))):
            text = said[1]
        if re.search(r"\d!+$", text) and as_number(normalise(text.rstrip("!"))) == number:
            text = text.rstrip("!")  # "The answer is 42!"
    if "." not in theirs:
        text = _APPROXIMATELY.sub("", text)
    lines = [line for line in text.splitlines() if line.strip()]
    if "\\begin" not in text and 1 < len(lines) == len(top_level_parts(theirs)):
        text = ", ".join(lines)
    if found.how in ("boxed", "stated", "whole") and not _PROSE.search(_IN_COMMAND.sub("", theirs)):
        text = _formula_at_end(text)
    if (alone := _IN_BRACKETS.fullmatch(text)) and not theirs.lstrip("$ ").startswith("["):
        text = alone[1]
    return found._replace(text=_alone(to_latex(labelled(text)[1]), theirs))


_SAID_VALUE = re.compile(
    r"[^\W\d_]{2}.*(?:\b(?:is|are|equals|be)\s|[是为])\s*(?:\\?\(|\$)?\s*"
    r"(-?(?:\d*\\frac\{\d+\}\{\d+\}|\d[\d,]*(?:\.\d+)?(?:/\d+)?))"
    r"\s*(?:\\?\)|\$)?\s*[\u3400-\u9fff]{0,3}[\s.。*]*$"
)
"""The value that a sentence ends in: `The largest f(n) is 19`."""
_APPROXIMATELY = re.compile(
    r"(?:\\q?quad(?![a-zA-Z])|\\[;,:! ]|\s)*(?:\\text\s*\{\s*)?\(\s*(?:\\text\s*\{\s*)?"
    r"(?:approximately|approx\.?|about|roughly|≈|\\approx(?![a-zA-Z]))[^()]*\)\s*\}?\s*$"
)
"""`\\frac{737}{39} (about 18.9 cards)`: what follows the exact value."""
_PROSE = re.compile(r"[^\W\d_]{3}")
_IN_COMMAND = re.compile(r"\\[a-zA-Z]+")
_ENDS_IN_FORMULA = re.compile(
    r"(?:.*[^a-zA-Z\\])?(?:is|equals)(?:\s*\}\s*|(?:\\ |\s)+)(?P<formula>[-\d\\(].*?)[.\s]*", re.DOTALL
)


def _formula_at_end(text: str) -> str:
    """The formula that a sentence ends in, where it has words before `is` and none after it; else `text`.

    >>> _formula_at_end(r"The\\ area\\ is\\ \\frac{\\sqrt{6}}{5}"), _formula_at_end("x is 3 if y is large")
    ('\\\\frac{\\\\sqrt{6}}{5}', 'x is 3 if y is large')
    """
    match = _ENDS_IN_FORMULA.fullmatch(text)
    if match is None or not _PROSE.search(_IN_COMMAND.sub("", text[: match.start("formula")])):
        return text
    formula = match["formula"]
    is_whole = formula.count("{") == formula.count("}") and formula.count("(") == formula.count(")")
    return formula if is_whole and not _PROSE.search(_IN_COMMAND.sub("", formula)) else text


_IN_BRACKETS = re.compile(r"\s*\[\s*([^\[\],;]*\d[^\[\],;]*)\]\s*")
_COMMA = re.compile(r"([-+]?\d+),(\d+)")


def decimal_comma(text: str, other: str) -> str:
    """A number with a decimal comma, written with a point where `other` is a decimal and no digit group is meant.

    >>> decimal_comma("1000,99", "1000.99"), decimal_comma("0,125", "0.125"), decimal_comma("1,234", "1.234")
    ('1000.99', '0.125', '1,234')
    """
    match = _COMMA.fullmatch(text.strip(" $"))
    is_grouped = match is not None and len(match[2]) == 3 and match[1].lstrip("+-0") != "" and len(match[1]) < 5
    return f"{match[1]}.{match[2]}" if match and not is_grouped and is_decimal(normalise(other)) else text


_OPTION_LETTER = re.compile(
    r"[\s$]*\\(?:text|textbf|mathrm|mathbf)\s*\{\s*\(?([A-J])\s*[).:]\s*\}[\s~]*(?=\S)|\s*\(([A-J])\)\s+(?=\S)"
)


def labelled(text: str) -> tuple[str, str]:
    r"""The letter of an option before its value, and the value; an empty letter where there is none.

    >>> labelled(r"\textbf{(C)}~27"), labelled("(B) Thursday"), labelled("(B)")
    (('C', '27'), ('B', 'Thursday'), ('', '(B)'))
    """
    match = _OPTION_LETTER.match(text)
    return (match[1] or match[2], text[match.end() :]) if match else ("", text)


_INDIAN = re.compile(r"\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?")
_MYRIADS = re.compile(r"\d{1,4}(?:(?:,\d{4}){2,}|,0000)")
_DOTTED_GROUPS = re.compile(r"\d{1,3}(?:\.\d{3})+")
_ENGLISH = re.compile(r"\b(?:the|of|and|are|they|she|their|his|her|with|for)\b", re.IGNORECASE)
"""`70.000` in a sentence without any of these words is one thousand times 70 where that is asked for."""
_CONTINENTAL = re.compile(r"\d{1,3}(?:(?:\.\d{3})+,\d+|(?:\.\d{3}){2,})")


def _regrouped(text: str) -> str:
    """One number in Indian (12,34,567), East Asian (5,0000) or continental (1.234,5) digit groups, where one is asked
    for.
    """
    if _INDIAN.fullmatch(text.strip(" $.")) or _MYRIADS.fullmatch(text.strip(" $.")):
        return text.replace(",", "")
    return text.replace(".", "").replace(",", ".") if _CONTINENTAL.fullmatch(text.strip(" $.")) else text


_RATIO = re.compile(r"(?<![\d.:√}])(?<!: )(\d+)(?:\s+(?:to|in|out\s+of)\s+|\s*[:：]\s*)(\d+)(?![\d:]|\.\d)")


_PLAIN = r"-?\d+(?:\.\d+)?(?:/\d+)?"
_CHAIN = re.compile(r"(?<![\d.:])\d+(?:\s*:\s*\d+){2,}(?![\d:])")
_AND_ABOUT = re.compile(
    r"(?<![\w.])(-?\d+/\d+|-?\d+(?:\.\d+)?)%?[\s*]*(?:≈|\\approx|[,(]?\s*(?:or|which\s+is|that\s+is|i\.e\.,?)?\s*"
    r"(?:about|approximately|roughly|around|≈))\s*(-?\d+\.\d+(?!\d)|-?\d+(?=\\?%))(\\?%|)"
)


def _with_decimal(sentence: str, number: str) -> str:
    """`3/56 ≈ 0.054` of a sentence that has a number exactly and rounded; empty where it has none of this kind.

    >>> _with_decimal("The probability is 3/56, or about 0.054.", "0.054"), _with_decimal("5 of about 7.5", "7.5")
    ('3/56 ≈ 0.054', '')
    """
    for exact, decimal, percent in _AND_ABOUT.findall(sentence):
        values = as_number(exact), as_number(decimal)
        scale = 100 if percent else 1
        is_near = values[0] and values[1] and abs(scale * values[0] / values[1] - 1) < 0.05
        if number in (exact, decimal + percent) and is_near:
            return exact if percent else f"{exact} ≈ {decimal}"
    return ""


_FORMULA = r"(?:\$[^$]+\$|\\\([^()]*(?:\([^()]*\)[^()]*)*\\\))"
_FORMULAS = re.compile(rf"{_FORMULA}(?:(?:,|,?\s+(?:and|or))\s*{_FORMULA})+")


def _listed_formulas(sentence: str, theirs: str) -> str:
    """The formulas that a sentence lists last, or all it has, as one list or union with as many parts as the solution
    `theirs`; empty where there is another number of them.

    >>> _listed_formulas("The values are $3, 5$ and $7$.", "3, 5, 7"), _listed_formulas("$x<1$ or $x>2$", r"A \\cup B")
    ('3, 5, 7', 'x<1 or x>2')
    """
    num = len(top_level_parts(theirs))
    union = len(_UNION.split(theirs)) if num == 1 else 1
    for run in (*_FORMULAS.findall(sentence)[-1:], sentence):
        text = (" or " if union > 1 else ", ").join(math_spans(run))
        if len(top_level_parts(text)) == max(num, union) > 1:
            return text
    return ""


_UNION = re.compile(r"\\cup(?![a-zA-Z])|∪")


_FROM_TO = re.compile(
    r"\b(?:from|between)\s+\$?(-?[\w\\./{}]+?)\$?\s+(?:to|and)\s+\$?(-?[\w\\./{}]+?)\$?,?\s*\(?(inclusive|exclusive)\b"
)


_BETWEEN = re.compile(rf"\bstrictly\s+between\s+\$?({_PLAIN})\$?\s+and\s+\$?({_PLAIN})(?![\w/])")


def _with_relation(found: Found, answer: str, theirs: str) -> Found:
    """`3 to 2` for a solution that is a ratio, `1 in 6` for a fraction; all named values where it has several."""
    sentence = last_sentence(answer) if found.how in GUESSES else found.text
    if len(between := _BETWEEN.findall(sentence)) == 1 and re.search(r"[<(\[]", theirs):
        return Found(f"({between[0][0]}, {between[0][1]})", "last formula")
    if theirs.strip("$ ")[:1] in ("(", "[") and len(ends := _FROM_TO.findall(sentence)) == 1:
        opening, closing = ("[", "]") if ends[0][2] == "inclusive" else ("(", ")")
        return Found(f"{opening}{ends[0][0]}, {ends[0][1]}{closing}", "last formula")
    if found.how in GUESSES and theirs.casefold() in TRUTH:
        return Found(answer.strip(), "whole")
    if found.how in NUMBERS and (is_word(theirs) or is_phrase(theirs)):
        return Found(sentence, "whole")
    if said := moment(sentence, theirs):
        return Found(said, "words")
    if found.how in NUMBERS and (both := _with_decimal(sentence, found.text)):
        return Found(both, "last formula")
    if ":" in theirs and len(chains := _CHAIN.findall(sentence)) == 1:
        return Found(chains[0], "last number")
    ratios = _RATIO.findall(main_clause(sentence)) if re.search(":|/|frac", theirs) else []
    if len(ratios) == 1:
        return Found((":" if ":" in theirs else "/").join(ratios[0]), "last number")
    if (
        found.how in GUESSES
        and (said := interval_in_words(sentence))
        and re.search(r"[<>]|\\in?fty|\\[lg]e|\\ne|\\mathbb|\\setminus|\breal\b", theirs)
    ):
        return Found(said, "words")
    if len(top_level_parts(theirs)) > 1 or num_values(normalise(theirs)) not in (None, 1) or _IS_A_SET.match(theirs):
        named = re.findall(r"\$?\s*((?:\\[a-z]+|[a-zA-Z])\s*=\s*[^\s=,;$]+?)\s*\$?(?=[,;.]?(?:\s|$))", sentence)
        if len(named) > 1 and (found.how in GUESSES or all(one.count("{") == one.count("}") for one in named)):
            values = [each.split("=")[1].strip() for each in named]
            is_tuple = theirs.lstrip("$ ")[:1] == "(" and named == sorted(named, key=lambda one: one.lstrip("\\"))
            text = ", ".join(named if "=" in theirs else values)
            return Found(f"({text})" if is_tuple else text, found.how)
        if found.how in NUMBERS and (listed := _LISTED.findall(sentence)):
            last = re.sub(r",?\s+and\s+", ", ", listed[-1])
            brackets = re.fullmatch(r"\s*\$?\s*([\[(]|\\\{).*([\])]|\\\})\s*\$?\s*", theirs)
            is_bare = brackets and last[0] not in "[("
            return Found(f"{brackets[1]}{last}{brackets[2]}" if brackets and is_bare else last, found.how)
    if found.how == "last formula" and (formulas := _listed_formulas(sentence, theirs)):
        return Found(formulas, found.how)
    return found


_IS_A_SET = re.compile(r"\s*\$?\s*(?:\\left)?\\?\{")

_TUPLE = r"\([^()]{1,60}\)"
_LISTED = re.compile(
    rf"{_TUPLE}(?:,\s*{_TUPLE})*,?\s+and\s+{_TUPLE}|"
    rf"[\[(]\s*{_PLAIN}(?:\s*,\s*{_PLAIN})+\s*[\])]|{_PLAIN}(?:,\s+{_PLAIN})*,?\s+and\s+{_PLAIN}(?![\w%])"
)
"""Several numbers in one pair of brackets, or one after the other: `7, 8, 10 and 14`."""


_BOUNDS = (
    (
        r"(?:greater|more|larger|bigger|higher)\s+than\s+or\s+equal\s+to|at\s+least|not?\s+(?:less|smaller)\s+than",
        ("[", "oo"),
    ),
    (
        r"(?:less|smaller|lower|fewer)\s+than\s+or\s+equal\s+to|at\s+most|not?\s+(?:more|greater|larger)\s+than",
        ("oo", "]"),
    ),
    (r"(?:greater|more|larger|bigger|higher)\s+than(?!\s+or\b)|(?:strictly\s+)?above", ("(", "oo")),
    (r"(?:less|smaller|lower|fewer)\s+than(?!\s+or\b)|(?:strictly\s+)?below", ("oo", ")")),
)


_EXCEPTED = re.compile(
    r"\ball\s+(?:the\s+)?real\s+numbers(?:\s+[a-z])?\s+(?:except(?:\s+for)?|other\s+than|but|excluding)\s+(?:[a-z]\s*=\s*)?"
    rf"\$?{_PLAIN}(?:(?:,\s*and|,|\s+and)\s+{_PLAIN})*(?![\w/])",
    re.IGNORECASE,
)


def interval_in_words(sentence: str) -> str:
    """The interval that a sentence describes by one bound, in brackets, or its words for all numbers but some; empty
    where it names none or several.

    >>> interval_in_words("All real numbers greater than or equal to 2"), interval_in_words("more than 2, less than 5")
    ('[2, \\\\infty)', '')
    """
    if excepted := _EXCEPTED.search(sentence):
        return excepted[0]
    found = []
    for words, (opening, closing) in _BOUNDS:
        for bound in re.findall(rf"\b(?:{words})\s+\$?({_PLAIN}|\\frac\{{\d+\}}\{{\d+\}})", sentence, re.IGNORECASE):
            found.append(f"(-\\infty, {bound}{closing}" if opening == "oo" else f"{opening}{bound}, \\infty)")
    return found[0] if len(found) == 1 else ""


def mentions_all(sentence: str, solution: str) -> bool:
    """Whether a sentence has the numbers of a solution of several values, in the same order."""
    numbers = re.findall(r"\d+(?:\.\d+)?", solution)
    at, said = 0, re.findall(r"\d+(?:\.\d+)?", sentence)
    for number in numbers:
        if number not in said[at:]:
            return False
        at = said.index(number, at) + 1
    return len(numbers) > 1


def mentions(sentence: str, solution: str) -> bool:
    """Whether a sentence has the solution in it as a word or number of its own."""
    spelled = re.escape(solution.strip().strip("$").casefold())
    return len(solution) <= 60 and re.search(rf"(?<![\w.-]){spelled}(?![\w]|[.,]\d)", sentence.casefold()) is not None


def _all_parts(found: Found, answer: str, theirs: str) -> str:
    """The boxes of an answer together, where the solution has as many values as there are boxes."""
    num = len(top_level_parts(theirs))
    if found.how != "boxed" or num < 2 or len(top_level_parts(found.text)) > 1:
        return found.text
    boxes = list(dict.fromkeys(box for group, _ in box_groups(answer) for box in group))
    return ", ".join(boxes[-num:]) if len(boxes) >= num else found.text


_INDEX = re.compile(r"_(?:\{[^{}]*\}|\\[a-zA-Z]+|\w)")
_ABOUT = re.compile(r"(\\approx(?![a-zA-Z])|≈|\\simeq(?![a-zA-Z]))")


def _alone(text: str, theirs: str) -> str:
    """One value of several that are said to be equal.

    The decimal of `5/12 ≈ 0.417` where the solution is a decimal, else the exact side; what follows the last `=` of a
    calculation such as `12 + 24 = 36 dollars`, where the solution is no equation.
    """
    exact, about, decimal = _ABOUT.split(text, maxsplit=1) if len(_ABOUT.findall(text)) == 1 else (text, "", "")
    if about and exact.strip() and decimal.strip():
        is_name = not re.search(r"[\d+*/^=-]|\\(?:frac|sqrt|pi|binom)", _INDEX.sub("", exact))
        text = decimal.strip() if is_name or is_decimal(normalise(theirs)) else exact.strip()
    left, equals, value = text.rpartition("=")
    is_sum = re.fullmatch(r"(?:[\d\s$.,+*/()%=_{}-]|\\(?:times|cdot|div)\s?|[xX])+", left) and re.search(r"\d", left)
    return value.strip() if equals and value.strip() and is_sum and "=" not in theirs else text


def solution_answer(solution: str) -> str:
    """The final answer of a reference: what it marks as one, or all of a short one; empty when neither."""
    if len(solution) > MAX_SOLUTION or "\n" in solution.strip() or re.search(r"\\boxed|####", solution):
        found = final_answer(solution)
        return found.text if found and found.how in ("boxed", "####", "stated") else ""
    lead = re.match(r"\s*(?:the\s+)?(?:final\s+)?answer(?:\s+is|\s*[:=])\s*:?\s*(?=\S)", solution, re.IGNORECASE)
    stated = solution[lead.end() if lead else 0 :].strip()
    if _FORMULAS.fullmatch(stated.rstrip(". ")):
        return ", ".join(one.strip("$").removeprefix("\\(").removesuffix("\\)") for one in re.findall(_FORMULA, stated))
    return stated
