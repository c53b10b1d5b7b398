"""Times of day and dates in any of their usual spellings.

>>> times("17:30", "5:30 PM"), times("5 o'clock in the afternoon", "5 p.m."), times("5:30", "5:30 PM")
('correct', 'correct', 'abstain')
>>> dates("15 March", "March 15th"), dates("2024-03-15", "15 March 2024"), dates("May 3", "May 4")
('correct', 'correct', 'wrong')
"""

from __future__ import annotations

import re
from typing import NamedTuple

from s1kit.grade.normalise import NUMBER_WORDS
from s1kit.records import Verdict

_HALF = (
    r"(?P<half>[ap])\.?\s*m\b\.?|(?:in\s+the\s+|this\s+)?(?P<part>morning|afternoon|evening)\b|at\s+(?P<night>night)\b"
)
CLOCK = re.compile(
    rf"(?P<hour>\d{{1,2}})(?::(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?)?\s*(?:o'?clock)?\s*(?:{_HALF})?"
    r"|(?:12(?::00)?\s+)?(?P<named>noon|midnight)\b",
    re.IGNORECASE,
)
_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}")
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
_MONTH = (
    r"(?P<month>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR = r"(?:\s*,?\s+(?P<year>\d{4}))?"
_WEEKDAY = r"(?:(?P<weekday>mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?\s*,?\s+)?(?:the\s+)?"
DATES = tuple(
    re.compile(rf"{_WEEKDAY}{order}{_YEAR}", re.IGNORECASE)
    for order in (rf"{_MONTH}\s*(?:the\s+)?{_DAY}(?!\d)", rf"{_DAY}\s+(?:of\s+)?{_MONTH}")
)
_ISO = re.compile(r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})")


class _Time(NamedTuple):
    seconds: int
    """Since midnight."""
    half: str
    """`a`, `p`, `24` where no other half is possible, or empty where either may be meant."""


def times(answer: str, solution: str) -> Verdict | None:
    """Times of day; without am or pm an hour up to 12 may be either, and nothing is known of it.

    None where one of the two is no time, or neither says more than hours and minutes with a colon.
    """
    mine, right = _time(answer), _time(solution)
    if mine is None or right is None:
        return None
    has_words = any(re.search(r"[a-zA-Z]", text) for text in (answer, solution))
    if not has_words and not (answer.count(":") == 2 or solution.count(":") == 2):
        return None
    if mine.seconds == right.seconds:
        return "correct"
    if not right.half and mine.half in ("a", "p") and (mine.seconds - right.seconds) % 43200 == 0:
        return "correct"
    is_open = (not mine.half or not right.half) and mine.half != right.half
    return "abstain" if is_open and (mine.seconds - right.seconds) % 43200 == 0 else "wrong"


_HOURS = r"(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|\d{1,2})"
_TO_OR_PAST = re.compile(
    rf"(half|(?:a\s+)?quarter|five|ten|twenty|twenty-five|\d{{1,2}})(?:\s+minutes)?\s+(past|after|to|before)\s+{_HOURS}\b",
    re.IGNORECASE,
)
_OCLOCK = re.compile(
    rf"(?<![:\w]){_HOURS}(?=\s+(?:o'?clock|[ap]\.?m\b|in\s+the\s+(?:morning|afternoon|evening)))", re.IGNORECASE
)
_MINUTES = {"half": 30, "quarter": 15, "five": 5, "ten": 10, "twenty": 20, "twenty-five": 25}


def _in_digits(text: str) -> str:
    """`quarter to eight` and `eight o'clock` in digits.

    >>> _in_digits("quarter to eight in the morning"), _in_digits("half past two"), _in_digits("five o'clock")
    ('7:45 in the morning', '2:30', "5 o'clock")
    """

    def spelled(match: re.Match[str]) -> str:
        word = match[1].casefold().removeprefix("a").strip()
        minutes, hour = _MINUTES.get(word) or int(word if word.isdecimal() else 0), _hour(match[3])
        if match[2].casefold() in ("to", "before"):
            minutes, hour = 60 - minutes, hour - 1 or 12
        return f"{hour}:{minutes:02d}" if 0 < minutes < 60 else match[0]

    return _OCLOCK.sub(lambda match: str(_hour(match[1])), _TO_OR_PAST.sub(spelled, text))


def _hour(word: str) -> int:
    return int(word) if word.isdecimal() else int(NUMBER_WORDS[word.casefold()])


def _time(text: str) -> _Time | None:
    match = CLOCK.fullmatch(_plain(_in_digits(text)))
    if match is None:
        return None
    if match["named"]:
        return _Time(43200, "p") if match["named"].casefold() == "noon" else _Time(0, "a")
    said = (match["half"] or match["part"] or match["night"] or "").casefold()
    if match["minute"] is None and not said and "clock" not in text:
        return None
    hour, half = int(match["hour"]), ""
    if said:
        half = "a" if said in ("a", "morning") else "p"
        hour = hour % 12 + (12 if half == "p" else 0)
    elif hour > 12 or hour == 0:
        half = "24"
    return _Time(hour * 3600 + int(match["minute"] or 0) * 60 + int(match["second"] or 0), half)


def dates(answer: str, solution: str) -> Verdict | None:
    """Days of the year; a year and a day of the week count where both have one. None where one of the two is none."""
    mine, right = _date(answer), _date(solution)
    if mine is None or right is None:
        return None
    pairs = [(a, b) for a, b in zip(mine, right, strict=True) if a and b]
    return "correct" if all(a == b for a, b in pairs) else "wrong"


def _date(text: str) -> tuple[str, str, str, str] | None:
    """Month, day, year and day of the week; the last two may be empty."""
    plain = _plain(text).rstrip(",")
    if iso := _ISO.fullmatch(plain):
        return str(int(iso["month"])), str(int(iso["day"])), iso["year"], ""
    match = next((match for pattern in DATES if (match := pattern.fullmatch(plain))), None)
    if match is None:
        return None
    month = _MONTHS.index(match["month"][:3].casefold()) + 1
    weekday = (match["weekday"] or "")[:3].casefold()
    return str(month), str(int(match["day"])), match["year"] or "", weekday


def moment(sentence: str, solution: str) -> str:
    """The one time or date that a sentence has in it, where the solution is one; empty where it has none or several.

    >>> moment("The train arrives at 4:35 in the afternoon.", "4:35 PM"), moment("From 3 pm to 4 pm.", "4 pm")
    ('4:35 in the afternoon', '')
    """
    if _date(solution) is not None:
        found = [m[0] for pattern in (*DATES, _ISO) for m in pattern.finditer(sentence)]
    elif (asked := _time(solution)) is not None and (asked.half or ":" in solution):
        unwrapped = _WRAPPED.sub(r" \1", sentence)
        found = [m[0] for m in CLOCK.finditer(_in_digits(unwrapped)) if _time(m[0]) is not None]
    else:
        return ""
    return found[0].strip() if len(found) == 1 else ""


def _plain(text: str) -> str:
    return _WRAPPED.sub(r" \1", text).replace("\\,", " ").replace("~", " ").strip(" $*.")
