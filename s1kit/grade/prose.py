"""Reading an answer that nothing marks: is it the answer itself, or prose that contains it?

>>> is_bare("[0, 1)"), is_bare("f(x) = 2x + 3"), is_bare("She has 3 eggs.")
(True, True, False)
>>> math_spans("9 eggs for $2 each, so she makes $18"), math_spans("so $x=3$ and $5 is paid")
([], ['x=3'])
>>> last_number("He needs to pay $64 for 16 glasses.")
('$64', True)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction

from s1kit.grade.families import without_declaration
from s1kit.grade.units import named_unit

_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[^{}]*\}(?:\{[^{}]*\})?")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_LETTERS = re.compile(r"[^\W\d_]+")
_CJK = re.compile("[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]")
_SYMBOLS = re.compile("[Α-Ωα-ω⁰¹²³⁴-⁹ⁿ₀-₉ₙ]")
"""Letters that are no part of a word beside them: `πr³`, `cm²`."""
_MATHS_WORDS = (
    "and or sin cos tan cot sec csc sinh cosh tanh arcsin arccos arctan ln log exp sqrt cbrt pi infinity infty theta "
    "alpha beta lambda mod max min gcd lcm det inf boxed oo frac left right cdot times "
    "degrees degree deg percent units unit base square cubic squared cubed"
)
_KNOWN_WORDS = frozenset(_MATHS_WORDS.split())
_SHORT_WORDS = frozenset("is it so he we of to in at my no be by if do as an on us me go up".split())  # noqa: SIM905
_OTHER_MATHS = re.compile(r"\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_NUMBER = re.compile(
    r"(?<![a-zA-Z\d_.√∛^{])[-+]?\$?(?:\d{1,3}\s(?=[1-9]\d?/[1-9]\d?(?!\d)))?"
    r"(?:\d{1,3}(?:[,\u00a0\u202f ]\d{3})+|\d+)(?:\.\d+)?(?:/\d+|\^\{?\d+\}?)?"
    r"(?:\s*(?:×|\\times|\*|x)\s*10(?:\s*\^\s*\{?[-+]?\d+\}?|[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+))?(?:(?=(?:mm|cm|km|m|kg|mg|g|ml|mL|L)[²³]?(?![a-zA-Z\d]))|(?![a-zA-Z\d_√∛π²³½¼¾⅓⅔⅛]|[.,]\d))\\?%?"
)
_PAID = re.compile(
    r"\b(?:pay|pays|paid|paying|make|makes|made|making|earn|earns|earned|earning|cost|costs|costing|spend|spends|spent|spending|"
    r"receive|receives|receiving|save|saves|saved|saving|charge|charges|owe|owes|profit|total|raised|raises)\s+(?:a\s+total\s+of\s+|of\s+|is\s+|him\s+|her\s+)?"
    r"(\$\s?\d[\d,]*(?:\.\d+)?)(?![\d,.]*\s*[-+*/×=])"
)
_THOUSANDS = re.compile(r"[$€£]\s?(\d+(?:\.\d+)?)([kKmM])\b")
_DECIMAL_COMMA = re.compile(r"[€£]\s?(\d+,\d\d)(?!\d|[.,]\d)|(?<![\d.,])(\d{1,3}(?:\.\d{3})+,\d\d|\d+,\d\d)(?=\s?[€$])")
_SENTENCE_END = re.compile(
    r"(?<=[.!?])(?:\*\*)?\s+(?=[\"'$*(\[A-Z\\])|।\s*|(?<=[a-z]{3}[.!?])\s+(?=\d)|[。！？]\s*|\n+"
)


_REJECTED = re.compile(
    r",?\s*(?:and|but)?\s*\b(?:not|rather\s+than|instead\s+of)\s+\$?\d[\d,]*(?:\.\d+)?\b|[,，]?\s*而?不是\s*\d+(?:\.\d+)?",
    re.IGNORECASE,
)
"""`7, not 8`: a number that is named to reject it."""
_VALUED = re.compile(
    r"\b(?:giv(?:es|ing)|with|yield(?:s|ing)|has|reaches|reaching)\s+(?:a|an|the)\s+(?:\w+\s+)?(?:value|total|sum|result|maximum|minimum)"
    r"\s+of\s+(-?\$?\d[\d,]*(?:\.\d+)?(?:/\d+)?)(?![\w]|[\d,.]*\s*[-+*/×=])",
    re.IGNORECASE,
)
"""`... when x = 5, giving a value of 3`."""


def is_bare(text: str) -> bool:
    """Whether a text is an answer by itself: one line (or one environment) without words but those of mathematics."""
    text = text.strip()
    if not text or _CJK.search(text) or ("\n" in text and "\\begin" not in text):
        return False
    if re.fullmatch(r"\$[^$]+\$", text) or not re.search(r"\s", text):
        return True
    rest = _COMMAND.sub(" ", _ENVIRONMENT.sub(" ", _TEXT.sub(r" \1 ", without_declaration(text))))
    rest = _SYMBOLS.sub(" ", rest)
    words = [word.casefold() for word in _LETTERS.findall(rest)]
    strange = [
        w for w in words if (len(w) > 2 and w not in _KNOWN_WORDS and named_unit(w) is None) or w in _SHORT_WORDS
    ]
    has_maths = bool(re.search(r"[\d\\=<>^]|\b(?:sin|cos|tan|ln|log|exp|sqrt)\b", text))
    return has_maths and (not strange or set(strange) == {"in"})


def math_spans(text: str) -> list[str]:
    """The formulas between dollars or LaTeX delimiters; a dollar before an amount of money opens none."""
    spans: list[tuple[int, str]] = [
        (match.start(), (match[1] or match[2]).strip()) for match in _OTHER_MATHS.finditer(text)
    ]
    marks = [match.start() for match in re.finditer(r"(?<!\\)\$", text)]
    at = 0
    while at + 1 < len(marks):
        if marks[at + 1] == marks[at] + 1:  # $$
            marks.pop(at)
            continue
        inside = text[marks[at] + 1 : marks[at + 1]]
        if is_money(inside):
            at += 1
            continue
        if inside.strip():
            spans.append((marks[at], inside.strip()))
        at += 2
    return [span for _, span in sorted(spans)]


def is_money(inside: str) -> bool:
    """Whether the text from one dollar to the next begins with an amount and goes on in words or a sum of amounts."""
    if not re.match(r"\s?\d", inside):
        return False
    rest = _COMMAND.sub(" ", _TEXT.sub(" ", inside))
    words = [w for w in _LETTERS.findall(rest) if len(w) > 1]
    return bool(words) or "\n" in inside or bool(re.search(r"[\s=+*/(,-]$", inside)) or ". " in inside


def last_sentence(text: str) -> str:
    """The last sentence of a text that has a letter or a digit."""
    parts = [part for part in _SENTENCE_END.split(text.strip()) if part and re.search(r"\w", part)]
    sentence = parts[-1].strip() if parts else ""
    concluding = list(_CONCLUDED.finditer(sentence)) if len(sentence) > MAX_SENTENCE else []
    return sentence[concluding[-1].start() :] if concluding else sentence


MAX_FORMULA = 80
"""Characters of a formula in a sentence."""

MAX_SENTENCE = 200
"""Characters of a sentence; a longer one is several that no full stop divides."""
_CONCLUDED = re.compile(r"(?<=\s)(?:Therefore|Thus|Hence|So|In\s+conclusion|Finally),\s")
"""A conclusion in the middle of what no full stop divides: `P = 2/3 Therefore, the probability is 2/3`."""


def without_courtesies(text: str) -> str:
    """`text` without the sentences at its end that only address the reader: `Let me know if you have questions.`"""
    sentences = [part for part in _SENTENCE_END.split(text.rstrip()) if part]
    while len(sentences) > 1 and _COURTESY.search(sentences[-1]):
        text = text[: text.rindex(sentences.pop())].rstrip()
    return text


_COURTESY = re.compile(
    r"\b(?:let\s+me\s+know|feel\s+free|(?:hope|trust)\s+(?:this|that|it)\s+(?:helps?|is\s+correct)|happy\s+to\s+(?:help|explain)|would\s+you\s+like|anything\s+else|"
    r"(?:any|more|other|further)\s+questions?)\b|希望.{0,8}帮助|^\W*(?:great|good\s+luck|cheers|well\s+done)\W*$",
    re.IGNORECASE,
)


def stated_formula(sentence: str) -> str:
    """The formula in Unicode or plain text that a sentence ends in; empty where it ends in words or a plain number.

    >>> stated_formula("The area is 4√3."), stated_formula("所以a的取值范围是a>3。"), stated_formula("It is 12.")
    ('4√3', 'a>3', '')
    """
    clause = without_constant(_ROUNDED.split(main_clause(sentence))[0]).strip(" \n.。*")
    for lead in _STATING.finditer(clause):
        value = clause[lead.end() :].strip(" *")
        if len(value) <= MAX_FORMULA and _PLAIN_MATHS.search(value) and is_bare(value):
            return value
    return ""


_STATING = re.compile(
    r"\b(?:is|are|be|equals|becomes|gives|get|to|with|such\s+that):?\s|[是为得]|(?<=[a-z]):\s|(?<=[a-zA-Z]{2})\s*=\s"
)
_CONSTANT = re.compile(
    r",?\s+where\s+\$?[A-Za-z]\$?\s+(?:is|denotes)\s+(?:an?|any|the)\s+(?:\w+\s+)?constant\b.*\Z", re.DOTALL
)


def without_constant(text: str) -> str:
    """`text` without the words at its end that say what a constant is: `sin(x) + C, where C is a constant`."""
    return _CONSTANT.sub("", text)


_ROUNDED = re.compile(r"\s*[,(]?\s*(?:≈|\\approx(?![a-zA-Z]))\s*-?\d")
_PLAIN_MATHS = re.compile(
    r"[√∛∜π∞²³⁴^<>≤≥±∪ₙ₀-₉]|\b(?:sqrt|pi|infinity|ln|log|sin|cos|tan)\b|\d/[a-z]\b|[a-z]\([^()]*[a-z]|\w\s*\*\s*\w|\d[a-z]\b|[a-z)]/|^\s*[a-z]\s*="
)


_IN_ALL_HAN = re.compile(
    r"(?:一共|总共|共计|合计)[^\d，。；、]{0,6}(?:[\d\s.+*/×÷-]+=\s*)?(\d[\d,]*(?:\.\d+)?)(?![\d,.]*\s*[-+*/×÷=])"
)


def last_number(text: str) -> tuple[str, bool]:
    """The number that prose arrives at, or an empty text; and whether it is said to be the result, not only the last.

    A result is what a total comes to or is paid, what follows the last `=`, the one number after `so`, and the one
    number of a main clause.
    """
    whole = last_sentence(text)
    if in_all := _IN_ALL.findall(without_rejected(whole)) or _IN_ALL_HAN.findall(whole):
        return str(in_all[-1]), True
    sentence = main_clause(whole)
    parts = _SO.split(sentence)
    concluded = parts[-1] if len(parts) > 1 and _NUMBER.search(parts[-1]) else sentence
    main = _CIRCUMSTANCE.split(concluded)[0]
    is_single = len(_NUMBER.findall(main)) == 1
    is_said = is_single and main != whole
    if number := _result(main if is_single else concluded):
        return number, True
    shorter = main if is_single else _without((_HOW_LONG,), concluded)
    numbers = _NUMBER.findall(shorter) or _NUMBER.findall(text)
    is_said = is_said or (shorter != concluded and len(numbers) == 1)
    return (_SPACED_GROUP.sub("", str(numbers[-1])).lstrip("+") if numbers else ""), is_said


_SPACED_GROUP = re.compile(r"(?<=\d)\s(?=\d{3}(?!\d))")


def is_only_number(number: str, sentence: str) -> bool:
    """Whether a sentence has no other number than one that was found in it."""
    return _NUMBER.findall(sentence) == [number]


def main_clause(sentence: str) -> str:
    """`sentence` without rejected numbers, text in brackets and conditions, if a number is left."""
    spans = math_spans(sentence)
    outside = _ASIDE.sub(lambda m: m[0] if any(m[0].strip() in span for span in spans) else "", sentence)
    sentence = outside if _NUMBER.search(outside) else sentence
    return _without(_ASIDES, _without_denied(without_rejected(sentence)))


def _without_denied(sentence: str) -> str:
    """`sentence` without its clauses that deny something, if a number is left: `n = 104; n = 103 does not work`."""
    kept = [clause for clause in _CLAUSES.split(sentence) if not _DENIAL.search(clause)]
    shorter = "; ".join(kept)
    return shorter if len(kept) > 0 and _NUMBER.search(shorter) else sentence


_CLAUSES = re.compile(r";\s+|,\s+(?:but|while|whereas|although|though)\s+")
_DENIAL = re.compile(
    r"\b(?:earlier|originally|previously|thought|assumed|guessed|initially|at\s+first|not|never|fails?|failed|cannot|invalid|extraneous|impossible|too\s+(?:small|large|few|many))\b|n't\b"
)


def _without(patterns: Sequence[re.Pattern[str]], sentence: str) -> str:
    """`sentence` without what the patterns match, as long as a number is left."""
    for pattern in patterns:
        shorter = pattern.sub("", sentence)
        sentence = shorter if _NUMBER.search(shorter) else sentence
    return sentence


def without_rejected(text: str) -> str:
    """`text` without the numbers that it names to reject them: `7, not 8`."""
    return _REJECTED.sub("", text)


_SO = re.compile(
    r"(?:^|[\s,;])(?:so(?!\s+(?:that|far|many|much|on)\b)|"
    r"therefore|thus|hence|in\s+(?:short|summary|conclusion|the\s+end)|which\s+is(?=\s+\$?\d[^,;]*\Z)(?![^,;]*\b(?:more|less|fewer|than)\b)|(?:which|that)\s+(?:means|gives|makes|leaves|equals|totals|(?:comes|adds\s+up|amounts)\s+to)|leaving)\b[\s,]",
    re.IGNORECASE,
)


_ASIDE = re.compile(r"(?<=\w)\s+\((?![^()a-z]*,)[^()]*\)")
_ASIDES = (
    re.compile(r",\s+\$?\d[^,;]*?\b(?:per|each|every|apiece)\b[^,;]*?(?=[,;.]?$)"),
    re.compile(
        r",\s+which\s+(?!(?:is|are|means|gives|makes|leaves|equals|totals|comes|adds|amounts|brings|yields)\b)[^,;]*?(?=[,;.]?$)"
    ),
    re.compile(r",?\s+(?:attained\s+|reached\s+)?(?:at|where|with|for|using|given)\s+\$?[a-zA-Z]\s*=\s*[^,;]*"),
    re.compile(r"^(?:After|When|If|Since|Because|Before|While|With|For|Given|Of|Out\s+of|Among)\b[^,]*,(?!\d)"),
    re.compile(r":\s+\$?\d[^:;]*\b(?:more|less|fewer|longer|older|larger|smaller|higher|lower)\s+than\b[^:;]*$"),
    re.compile(r",?\s+(?:including|excluding|(?:not\s+)?counting)\s[^,]*"),
    re.compile(r"[，,]?\s*(?:当且?仅?当|当|此时|其中)[^，。]*"),
)
"""What a sentence says beside its main clause: in brackets, and for which value of a variable it holds."""
_HOW_LONG = re.compile(
    r"\s+(?:in|over|after|within|at|every|from|on|for(?!\s*\$))\s+"
    r"(?:(?:the|all|his|her|its|their|our|my|your|each|these|those|of)\s+)*(?=[$\d])[^,;]*$"
)
"""What the last number only qualifies: `180 km in 3 hours`."""
_CLAUSE = re.compile(r",\s+(?:and|but|so|then|of\s+which)\b|;")


_CIRCUMSTANCE = re.compile(
    r"(?<=\w)\s+(?:after|when|if|since|because|before|while|once|by\s+[a-z]+ing|"
    r"(?<!has\s)(?<!have\s)(?<!had\s)(?<!need\s)(?<!needs\s)(?<!needed\s)(?<!able\s)(?<!going\s)(?<!wants\s)(?<!want\s)to\s+"
    r"(?!(?:the|a|an|about|exactly|nearly|almost|only|just|be|at|each|his|her|their|its|my|our|your|those|these)\b)[a-z]+)\s"
)
"""What follows says under which circumstances: `He has 6 left after giving 4 away`."""

_IN_ALL = re.compile(
    r"(?<![a-zA-Z\d_.])(\$?\d[\d,]*(?:\.\d+)?)(?:\s+[a-z]+){0,2}\s+(?:altogether|in\s+total|in\s+all|overall)\b",
    re.IGNORECASE,
)


def _result(sentence: str) -> str:
    """The number that a sentence says to be its result; empty where it says that of none."""
    if shortened := _THOUSANDS.findall(sentence):
        return str(Fraction(shortened[-1][0]) * {"k": 1000, "m": 10**6}[shortened[-1][1].casefold()])
    if valued := _VALUED.findall(sentence):
        return str(valued[-1])
    if paid := _PAID.findall(sentence):
        return str(paid[-1])
    if "=" in sentence:
        value, *later = _CLAUSE.split(sentence.rpartition("=")[2])
        if (after := _NUMBER.findall(value)) and not any(map(_NUMBER.search, later)):
            return str(after[0])
    if comma := _DECIMAL_COMMA.findall(sentence):
        return str(next(part for part in comma[-1] if part)).replace(".", "").replace(",", ".")
    return ""
