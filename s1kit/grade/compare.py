"""Comparison of two normalised answers by spelling, numbers and words; no formula is computed."""

from __future__ import annotations

import re
from fractions import Fraction
from math import e, pi, sqrt

from s1kit.grade.normalise import as_number, is_decimal, is_integer, normalise
from s1kit.grade.units import MAY_BE_MILLIONS, unit_at_end
from s1kit.grade.words import number_in_words
from s1kit.records import Verdict

MAX_SYMBOLIC = 600
"""Characters of an answer that is compared symbolically."""


def canonical(normalised: str) -> str:
    """A canonical spelling of an answer: equal answers get the same one, as far as spelling and numbers tell."""
    number = as_number(normalised)
    return str(number) if number is not None else normalised


def compare_plain(mine: str, right: str, raw_mine: str, raw_right: str) -> tuple[Verdict | None, str]:
    """The verdict on two normalised answers and the rule that gave it; None where neither is a number or a word."""
    if not mine:
        return "wrong", "empty answer"
    if mine == right:
        return "correct", "same text"
    raw_mine, raw_right = (_IN_TEXT.sub(r"\1", raw) for raw in (raw_mine, raw_right))
    my_number, right_number = as_number(mine), as_number(right)
    if my_number is not None and right_number is not None:
        same = my_number == right_number or _rounds_to(my_number, right_number, right, mine)
        same = same or ("%" in raw_mine and my_number == right_number * 100)
        same = same or ("%" in raw_right and my_number == right_number / 100)
        if same and _approximates_a_constant(mine, right):
            return "abstain", "both approximate the same irrational number"
        if not same and _is_rounded(my_number, right_number, mine, right):
            return "abstain", "rounded further than the solution"
        return ("correct" if same else "wrong"), "integers" if is_integer(mine) and is_integer(right) else "numbers"
    if my_number is not None and (spelled := number_in_words(raw_right)) is not None:
        return ("correct" if spelled == my_number else "wrong"), "a number in words"
    if _NOTHING.fullmatch(raw_mine.strip(" .$")) and _NOTHING.fullmatch(raw_right.strip(" .$")):
        return "correct", "nothing"
    if _NOT_THERE.fullmatch(raw_right.strip(" .$")) and _NOT_THERE.search(raw_mine):
        return "correct", "words"
    said = _CIRCUMSTANCE.split(raw_mine)[0]
    if _NOTHING.fullmatch(raw_right.strip(" .$")) and not re.search(r"\d", said) and _NOTHING_SAID.search(said):
        return "correct", "nothing"
    if _INFINITE.fullmatch(raw_right.strip(" .$")):
        is_said = bool(_INFINITE_SAID.search(raw_mine) or _INFINITE.fullmatch(raw_mine.strip(" .$*")))
        is_denied = bool(re.search(r"\b(?:not|no|never|finitely)\b|n't\b", raw_mine))
        return ("correct" if is_said and not is_denied else "wrong"), "infinitely many"
    based = _in_base(mine), _in_base(right)
    if based[0] is not None and based[1] is not None:
        return ("correct" if based[0] == based[1] else "wrong"), "digits and base"
    if _BASE.fullmatch(mine) or _BASE.fullmatch(right):
        bases = [_BASE.fullmatch(text) for text in (mine, right)]
        digits = [match[1] if match else text for match, text in zip(bases, (mine, right), strict=True)]
        return ("correct" if digits[0] == digits[1] else "wrong"), "digits and base"
    values, words = _stated_values(mine) if len(mine) <= MAX_SYMBOLIC else ([], mine)
    is_text = len(mine) <= MAX_SYMBOLIC and _is_no_formula(words) and not MAY_BE_MILLIONS.search(raw_mine)
    is_text = is_text and (words == mine or not _FACTOR.search(raw_mine))
    if right_number is not None and mine != "e" and is_text:
        stated = _stated_values(normalise(_CODE.sub(" ", raw_mine)))[0] if _CODE.search(raw_mine) else values
        if not stated and (spelled := number_in_words(raw_mine)) is not None:
            same = spelled == right_number or ("%" in raw_right and spelled * 100 == right_number)
            return ("correct" if same else "wrong"), "a number in words"
        if not stated and _NUMBER_IN_WORDS.search(raw_mine):
            return "abstain", "a number in words"
        if re.search(r"\d[a-zA-Z]\b", mine) and not unit_at_end(raw_mine):
            return "wrong", "a number and a name"
        if len(stated) > 1 and right_number in stated and re.search(r"[a-zA-Z]{3}", raw_mine):
            is_first = stated[0] == right_number and _AMOUNT_AND_MORE.fullmatch(raw_mine.strip())
            paid = [as_number(before or after) for before, after in _PRICE.findall(raw_mine)]
            return ("correct" if is_first or paid == [right_number] else "abstain"), "one of the numbers in the text"
        return ("correct" if stated == [right_number] else "wrong"), "numbers in the text"
    if right in ("Y", "N") and raw_mine.strip(" .").casefold() in TRUTH:
        return ("correct" if TRUTH[raw_mine.strip(" .").casefold()] == (right == "Y") else "wrong"), "yes or no"
    if (
        right.casefold() in TRUTH
        and len(truths := {TRUTH[word.casefold()] for word in _SAID_TRUTH.findall(raw_mine)}) == 1
    ):
        return ("correct" if truths == {TRUTH[right.casefold()]} else "wrong"), "yes or no"
    if right.casefold() in ("true", "false") and (claims := _SAID_CORRECT.findall(raw_mine)):
        said_true = bool(re.fullmatch("correct|valid", claims[-1], re.IGNORECASE))
        return ("correct" if said_true == (right.casefold() == "true") else "wrong"), "true or false"
    if is_phrase(raw_right) and (verdict := _compare_phrases(raw_mine, raw_right)):
        return verdict, "words"
    if is_word(right) and not re.search(r"[\\=]", _CIRCUMSTANCE.split(raw_mine)[0]):
        return _compare_words(raw_mine, right)
    if is_word(mine) and is_word(right):
        return ("correct" if mine.casefold() == right.casefold() else "wrong"), "words"
    return None, ""


TRUTH = {"true": True, "yes": True, "false": False, "no": False}

_SAID_TRUTH = re.compile(
    r"(?:^\W*|[,:;]\s+|\b(?:is|are|be|so|thus|therefore|hence|answer)[\s*:]+)(?:so\s+)?(true|yes|false|no(?!\s+\w))\b",
    re.IGNORECASE,
)
_SAID_CORRECT = re.compile(
    r"\b(?:statement|claim|assertion|proposition|conjecture|it|this|that)\s+is\s+(?:therefore\s+|indeed\s+)?"
    r"((?:not\s+)?(?:correct|valid)|incorrect|invalid|wrong)\b",
    re.IGNORECASE,
)
_NUMBER_IN_WORDS = re.compile(
    r"\b(?:half|third|quarter|dozen|(?:thir|four|fif|six|seven|eigh|nine)teen|eleven|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|"
    r"hundred|thousand|million)",
    re.IGNORECASE,
)


_NO_SOLUTION = re.compile(r"\b(?:no|without)\s*(?:\w+\s+)?(?:solutions?|roots?)\b", re.IGNORECASE)


_NOTHING = re.compile(
    r"(?:there\s+(?:is|are)\s+)?(?:no\s+(?:real\s+|such\s+)?(?:solutions?|roots?|values?)|none)(?:\s+exists?)?|(?:the\s+)?empty\s+set"
    r"|\\?\{\s*\\?\}|\\emptyset|\\varnothing|∅",
    re.IGNORECASE,
)
_NOTHING_SAID = re.compile(
    r"\bno\s+(?:such\s+)?(?:\w+\s+){0,2}?(?:solutions?|roots?|values?|integers?|numbers?|pairs?|triples?|functions?)\b|"
    r"\b(?:set|solution|it)\b[^.]{0,30}\b(?:is|are)\s+empty\b",
    re.IGNORECASE,
)
_CIRCUMSTANCE = re.compile(
    r",?(?<=[\w,])\s+(?:at|when|if|since|because|where|(?:on|over|for)\s+(?=all\b|every\b|the\s+(?:whole|entire|given)\b))\s?"
)
_INFINITE = re.compile(
    r"(?:there\s+are\s+)?(?:infinitely\s+many|an\s+infinite\s+number|infinite)(?:\s+of)?(?:\s+\w+)?", re.IGNORECASE
)
_INFINITE_SAID = re.compile(
    r"\b(?:infinitely\s+many|an\s+infinite\s+number|infinite\s+(?:number|solutions))\b", re.IGNORECASE
)
_NOT_THERE = re.compile(r"(?:it\s+|the\s+limit\s+)?(?:does\s+not|doesn't)\s+exist|DNE", re.IGNORECASE)


def _compare_words(raw: str, right: str) -> tuple[Verdict, str]:
    """Compare a one-word solution with an answer of words: equal but for an article, or a word of the sentence."""
    if _NO_SOLUTION.search(right) and _NO_SOLUTION.search(raw):
        return "correct", "words"
    raw = _CIRCUMSTANCE.split(raw)[0]
    is_it = re.search(
        rf"\b(?:is|are|be|was|were|on|heading|going|moving|facing|pointing|towards?|called|named)\s+(?:an?\s+|the\s+)?{re.escape(right)}\W*$",
        raw,
        re.IGNORECASE,
    )
    is_not = re.search(rf"\b(?:not|neither|nor)\s+(?:an?\s+|the\s+)?{re.escape(right)}\b", raw, re.IGNORECASE)
    if is_it and not _DENIED.search(raw):
        return "correct", "the word that the sentence ends in"
    if _is_subject(raw, right):
        return "correct", "the subject of the sentence"
    if is_not:
        return "wrong", "the word is denied"
    if re.search(
        rf"\b(?:than|after|before)\s+(?:the\s+)?{re.escape(right)}\b", raw, re.IGNORECASE
    ) and not _DENIED.search(raw):
        return "wrong", "the word that something is compared with"
    if right[0].isupper() and (other := _ENDS_IN_A_NAME.search(raw)) and other[1] != right:
        return "wrong", "the sentence ends in another name"
    words = [word.casefold() for word in re.findall(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", raw)]
    if re.fullmatch(rf"[^()]+\(\s*{re.escape(right)}\s*\)\W*", raw):
        return "correct", "the word in brackets"
    if [word for word in words if word not in ("a", "an", "the")] == [right.casefold()]:
        return "correct", "words"
    return ("abstain", "the word within a sentence") if right.casefold() in words else ("wrong", "words")


DECISIVE = frozenset(
    ("the word is denied", "the sentence ends in another name", "the word that something is compared with")
)
"""Rules that tell that a word of a sentence is not what it states."""

_DENIED = re.compile(r"\b(?:not|neither|nor|never|no|none|nobody|nothing)\b|n't\b", re.IGNORECASE)
_ENDS_IN_A_NAME = re.compile(r"\b(?:is|was|be)\s+(?:a\s+)?([A-Z][a-z]+)[\s.*]*$")


def _is_subject(raw: str, word: str) -> bool:
    """Whether a sentence says something of the word and denies nothing: `Alice is the tallest`."""
    begins = re.match(
        rf"\W*(?:the\s+)?{re.escape(word)}\s+(?:is|are|was|were|has|have|had|will|can|must)\b", raw, re.IGNORECASE
    )
    return bool(begins) and not re.search(
        r"\b(?:not|neither|nor|never|no|but|while|whereas|although|however)\b|n't\b", raw, re.IGNORECASE
    )


def _is_rounded(mine: Fraction, right: Fraction, my_text: str, right_text: str) -> bool:
    """Whether an answer of three digits or more is a decimal solution with fewer places."""
    if not is_decimal(my_text) or not is_decimal(right_text):
        return False
    places = len(my_text.rpartition(".")[2])
    enough = len(my_text.lstrip("-+0.").replace(".", "")) >= 3 and places < len(right_text.rpartition(".")[2])
    return enough and abs(mine - right) <= Fraction(1, 2 * 10**places)


_VALUE = re.compile(r"((?<![\d})])-)?(?:(\d+)?\\frac\{(\d+)\}\{(\d+)\}|(\d+)/(\d+)(?![\d/])|(\d+(?:\.\d+)?))")
_FACTOR = re.compile(
    r"[\d})]\s*[a-zA-Z](?![a-zA-Z])|(?<![a-zA-Z])[a-zA-Z]\s*\\frac|[a-zA-Z]\([^)]*\)(?!\s+(?:is|equals)\s)"
)
"""A fraction with a name beside it, or a function, is part of a formula: `\\frac{1}{2}x`."""
_CODE = re.compile(
    r"(?<!\w)(?!(?:USD|EUR|GBP|JPY|CNY|RMB|INR|CAD|AUD|HKD|SGD|CHF|RM|RS|R)\d+(?!\w))(?:[a-zA-Z]+\d+[a-zA-Z]\w*|[A-Z]+\d+)(?!\w)"
)
"""`AZYUK2A` and `KX7` state no number, `USD20` does."""
_PRICE = re.compile(r"[$€£]\s?(\d+(?:\.\d+)?)|(\d+(?:\.\d+)?)\s?[$€£]")


def _stated_values(text: str) -> tuple[list[Fraction], str]:
    """The numbers and fractions of a normalised text, and the text with zeros in place of its fractions.

    A minus counts where a word stands before it: `the result is -1/2`.
    """
    values: list[Fraction] = []

    def without_fraction(match: re.Match[str]) -> str:
        sign, whole, top, bottom, plain_top, plain_bottom, number = match.groups()
        if number is not None:
            values.append(Fraction(number))
            return match[0]
        below = int(bottom or plain_bottom)
        if not below:
            return match[0]
        value = int(whole or 0) + Fraction(int(top or plain_top), below)
        values.append(-value if sign else value)
        return "0"

    return values, _VALUE.sub(without_fraction, text)


_AMOUNT_AND_MORE = re.compile(
    r"\$?\d[\d,.]*\s+(?:[a-zA-Z]+\s+){1,4}(?:in|for|over|after|within|from|at|on|per)\s[^.;]*\.?"
)
"""An amount of something and under which circumstances: `366 downloads in 3 months`."""


def _is_no_formula(text: str) -> bool:
    """Whether nothing in it has a value that could be computed: only what it states as a number counts."""
    return not re.search(r"[\\+*/^=!(){}\[\]]|(?<![a-zA-Z])-|-(?![a-zA-Z])", text)


_BASE = re.compile(r"(\d+)_\{?(?:\\text)?\{?(\d+)\}*")
_ANY_BASE = re.compile(r"\(?([\dA-Z]+)\)?_\{?(?:\\text)?\{?\(?(\d{1,2})\)?\}*")
_IN_TEXT = re.compile(r"\\(?:text|mathrm|mbox|textrm|textbf|mathbf|operatorname)\s*\{([^{}]*)\}")


def _in_base(text: str) -> int | None:
    """The number that `2F_{16}` or `0x2F` states; None where these are no digits of that base."""
    if re.fullmatch(r"0(?:b[01]+|o[0-7]+|x[\da-fA-F]+)", text):
        return int(text, 0)
    match = _ANY_BASE.fullmatch(text)
    try:
        return int(match[1], int(match[2])) if match and int(match[2]) > 1 else None
    except ValueError:
        return None


def _rounds_to(mine: Fraction, right: Fraction, right_text: str, my_text: str) -> bool:
    """A decimal solution is a rounded value: right is the exact answer it rounds or cuts off, or 6 equal digits."""
    has_decimal = any(is_decimal(re.split(r"[*eE]|\\cdot|\\times", text)[0]) for text in (my_text, right_text))
    if has_decimal and abs(mine - right) <= Fraction(1, 10**6) * max(abs(mine), abs(right)):
        return True
    if is_decimal(right_text) and not is_decimal(my_text) and not is_integer(my_text):
        places = len(right_text.rpartition(".")[2])
        cut_off = Fraction(int(abs(mine) * 10**places), 10**places)
        return places >= 2 and (
            abs(mine - right) <= Fraction(1, 2 * 10**places) or (cut_off == abs(right) and mine * right > 0)
        )
    return False


_CONSTANTS = (pi, e, sqrt(2), sqrt(3), sqrt(5), (1 + sqrt(5)) / 2)


def _approximates_a_constant(mine: str, right: str) -> bool:
    """Whether a fraction and a decimal are two approximations of a small multiple of one constant: 22/7 and 3.14.

    Each is rounded from that constant; neither is rounded from the other.
    """
    value, fraction = as_number(right), as_number(mine)
    if value is None or fraction is None or not is_decimal(right) or is_decimal(mine) or is_integer(mine):
        return False
    if value == fraction:
        return False
    unit = Fraction(1, 2 * 10 ** len(right.rpartition(".")[2]))
    multiples = (constant * top / bottom for constant in _CONSTANTS for top, bottom in _MULTIPLES)
    return any(abs(abs(value) - Fraction(multiple)) <= unit for multiple in multiples)


_MULTIPLES = ((1, 1), (2, 1), (3, 1), (4, 1), (1, 2), (1, 3), (1, 4))


_EMPTY_WORDS = frozenset(
    "a an the all every each any of such that it they is are be was were will would to for which these".split()  # noqa: SIM905
)


def is_phrase(text: str) -> bool:
    """Whether a text is of several words, with little else: `all odd primes`."""
    plain = _IN_TEXT.sub(r" \1 ", text)
    return len(re.findall(r"[^\W\d_]{3,}", plain)) > 1 and not re.search(r"[=<>^_\\{}(\[]", plain)


def _compare_phrases(raw: str, right: str) -> Verdict | None:
    """Whether two phrases have the same words, articles and plurals aside; with half of them they may say the same."""
    mine, theirs = ({_stem(w) for w in re.findall(r"[^\W_]+", text.casefold())} - _EMPTY_WORDS for text in (raw, right))
    if mine == theirs:
        return "correct"
    denial = {"not", "no", "never", "none", "neither"}
    if bool(mine & denial) != bool(theirs & denial):
        return "abstain" if mine & theirs else None
    return "abstain" if theirs and 2 * len(mine & theirs) >= len(theirs) else None


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def is_word(text: str) -> bool:
    """Whether a text is one word of three letters or more."""
    return len(text) > 2 and re.fullmatch(r"[^\W\d_]+(?:[-'][^\W\d_]+)*", text) is not None
