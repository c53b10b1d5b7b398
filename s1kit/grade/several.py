r"""Questions of several right options: which letters a solution names, and which an answer chooses.

>>> named_letters("A, C"), named_letters("['C', 'A']"), named_letters("(B)(D)"), named_letters("ABD", is_joined=True)
('AC', 'AC', 'BD', 'ABD')
>>> chosen_letters("Options C and A are correct.", {}), chosen_letters("The answer is (B).", {})
('AC', 'B')
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from s1kit.grade.choice import MAX_LETTER, MAX_READ, TAGS, last_letter, letter, stated_letters, up_to
from s1kit.grade.extract import box_groups, unwrap
from s1kit.grade.normalise import normalise

_MARKUP = re.compile(r"\\(?:text|textbf|mathrm|mathbf|boxed)\s*(?=\{)|\\[,;:! ]|\\[()\[\]]|[*$`'\"“”]")
_NAMED = re.compile(
    r"[\s(\[{（]*[A-J][\s)\]}）.]*(?:(?:[,;、，/&+]|\band\b|[和与及]|[\s)(}{])[\s,;(\[{（]*(?:and\b\s*)?[A-J][\s)\]}）.]*)+"
)
_JOINED = re.compile(r"[A-J]{2,10}")

_MARK = r"(?:(?i:option|choice|statement) )?\(?[A-J]\)?(?![A-Za-z'’])(?: \([^()A-J\n][^()\n]{0,60}\))?"
"""One letter, perhaps with its option in brackets after it."""
_BETWEEN = r" ?(?:, ?and\b|,|;(?! ?[a-z])|、|，|&|\+|/|\band\b|\bas well as\b|[和与及]) ?"
_LIST = rf"{_MARK}(?:{_BETWEEN}{_MARK}){{1,9}}"
_JOINED_LIST = r"\(?[A-J]\)(?: ?\([A-J]\)){1,9}|[A-J]{2,10}(?![A-Za-z'’])"
_LEAD = (
    r"(?<![A-Za-z])(?i:answers?|options?|choices?|statements?|correct|right|true|select(?:ed)?|choose|pick)"
    r"|答案|选项|故选|应选|正确的?是|选"
)
_LINK = (
    r"(?:\s|[:：】*(（$“\"\[]|(?i:is|are|to|be|must|would|should|have|as|well|both|only|ones?|options?|choices?|answers?|"
    r"statements?|letters?)\b|是|为|有|择|\\(?:boxed|text|textbf|mathrm)\{){0,12}"
)
_STATED = re.compile(
    rf"(?:{_LEAD}){_LINK}(?P<letters>{_LIST}|{_JOINED_LIST})(?P<after>[^.,;\n]{{0,60}})"
    rf"|(?<![A-Za-z(])(?P<claimed>{_LIST}) (?i:are|both|all|hold|apply) ?(?i:(?:all|both|the|only) )*"
    r"(?i:correct|right|true|answers?|hold|apply|valid|options|ones)?\b"
)
"""`The answers are A and C`; `A and C are correct`, where `_CLAIM` has to be in it."""
_CLAIM = re.compile(r"\b(?:correct|right|true|answers?|hold|apply|valid|options|ones)\b", re.IGNORECASE)
_NAME = re.compile(r"options?|choices?|statements?|选项", re.IGNORECASE)
_REASONED = re.compile(r"\W*([A-J])\W{0,3}\s(?:since|because|as|for)\b")
"""`D, since both A and C are true`: the letter at the beginning is what is chosen."""
_BELOW = re.compile(
    rf"(?:{_LEAD})[^\n]{{0,60}}[:：]\n"
    r"(?P<lines>(?:(?:[-•–] |\d+[.)] )?\(?[A-J][).:： ][^\n]*(?:\n|\Z)){2,10})"
)
_LINE_LETTER = re.compile(r"^(?:[-•–] |\d+[.)] )?\(?([A-J])[).:： ]", re.MULTILINE)
_TICKED = re.compile(r"^\W*\(?([A-J])[).:：\s][^\n]*[✅✔✓☑]", re.MULTILINE)
_DENIED = re.compile(
    r"\b(?:not|neither|wrong|incorrect|false|cannot|untrue|rejected?|eliminated?|rul(?:ed?|ing)\s+out)\b|n't\b|[不错]",
    re.IGNORECASE,
)
_EITHER = re.compile(rf"(?<![A-Za-z(]){_MARK} or {_MARK}(?=[\s.,!)*]|$)")
_CLAUSE_START = re.compile(r"[.!?;\n。；]|,\s(?:but|while|whereas|so|and\s+so)\b")


def named_letters(text: str, *, is_joined: bool = False, last: str = "J") -> str:
    """The letters of a text that names several options and says nothing else, in order; empty for any other text.

    `is_joined`: `AC` names two options, too. `last`: the last letter that names one.
    """
    if len(text) > 4 * MAX_LETTER:
        return ""
    plain = " ".join(_MARKUP.sub("", text).split()).strip(".")
    plain = re.sub(r"^(?:both|options?|choices?|statements?)\s+", "", plain, flags=re.IGNORECASE)
    if is_joined and up_to(_JOINED, last).fullmatch(plain):
        found = list(plain)
    elif up_to(_NAMED, last).fullmatch(plain):
        found = re.findall(rf"[A-{last}]", re.sub(r"\band\b", ",", plain))
    else:
        return ""
    return "".join(sorted(found)) if len(set(found)) == len(found) > 1 else ""


def solution_letters(solution: str, choices: Mapping[str, str], kind: str) -> str:
    """The several letters that a solution names, or whose options it lists; empty where it is of another sort.

    `AC` without a separator may be a product or a segment: it names options of a `choice`, and those the question has.
    """
    named = named_letters(solution, is_joined=kind == "choice" or bool(choices), last=last_letter(choices))
    if named and (not choices or set(named) <= set(choices)):
        return named
    return _listed(solution, choices) if kind == "choice" else ""


def chosen_letters(text: str, choices: Mapping[str, str]) -> str:
    """The letters of all options that an answer chooses, in order; `A|C` where it leaves open which; empty for none."""
    text, last = TAGS.sub(r"\\boxed{\1}", unwrap(text)[-MAX_READ:]), last_letter(choices)
    if groups := box_groups(text):
        boxes = groups[-1][0]
        named = {one for box in boxes for one in (named_letters(box, is_joined=True, last=last) or _alone(box, last))}
        together = "".join(sorted(named))
        if len(together) > 1:
            return together
    elif whole := named_letters(text, is_joined=True, last=last) or _listed(text, choices):
        return whole
    else:
        plain = _without_emphasis(text)
        at, several = _stated(plain, last)
        reasoned = up_to(_REASONED, last).match(plain)
        singles = [(0, reasoned[1])] if reasoned else []
        singles += stated_letters(plain, last)
        if several and not any(place > at or (place == 0 and one not in several) for place, one in singles):
            return several
        if not singles and (ticked := up_to(_TICKED, last).findall(plain)):
            return "".join(sorted(set(ticked)))
        if (several := _below(plain, last)) and not singles:
            return several
        if (either := _either(plain, last)) and (not singles or singles[-1][1] in either):
            return either
    return letter(text, dict(choices))


def _without_emphasis(text: str) -> str:
    """`text` without asterisks, dollars and runs of spaces, so that patterns take linear time; bullets as `- `."""
    text = re.sub(r"(?m)^[ \t]{0,8}\*\s", "- ", text)
    return re.sub(r"\s*\n\s*", "\n", re.sub(r"[^\S\n]+", " ", re.sub(r"[*$]", "", text)))


def mentions_every(text: str, letters: str) -> bool:
    """Whether an answer names each of some options, be it to choose or to reject them."""
    return all(re.search(rf"(?<![A-Za-z]){one}(?![A-Za-z'’])", text) for one in letters)


def _alone(box: str, last: str) -> str:
    match = re.fullmatch(rf"[\s(]*([A-{last}])[\s).]*", _MARKUP.sub("", box).strip("{} "))
    return match[1] if match else ""


def _listed(text: str, choices: Mapping[str, str]) -> str:
    """The letters of the options that a list consists of, each by its letter, its text or both."""
    if not choices or len(text) > MAX_READ // 10:
        return ""
    spelled = {normalise(option).casefold(): key for key, option in choices.items()}
    parts = [part.strip(" '\"*.") for part in re.split(r"[,;\n]|\band\b", text.strip(" []")) if part.strip()]
    found = [re.fullmatch(rf"\(?([A-{last_letter(choices)}])[).:]?\s*(.*)", part) for part in parts]
    letters = [
        spelled.get(normalise(part).casefold())
        or (match and normalise(match[2]).casefold() in ("", *spelled) and match[1])
        for part, match in zip(parts, found, strict=True)
    ]
    named = [one for one in letters if one]
    return "".join(sorted(named)) if len(named) == len(parts) == len(set(named)) > 1 else ""


def _stated(text: str, last: str) -> tuple[int, str]:
    """Where the last list of letters ends that a text states as its choice, and its letters."""
    found = []
    for match in up_to(_STATED, last).finditer(text):
        said = match[0][match.end("claimed" if match["claimed"] else "letters") - match.start() :]
        if (match["claimed"] or _NAME.match(match[0])) and said.strip() and not _CLAIM.search(said):
            continue
        before = text[max(0, match.start() - 200) : match.start()]
        start = max((clause.end() for clause in _CLAUSE_START.finditer(before)), default=0)
        letters = set(re.findall(rf"(?<![a-z])[A-{last}](?![a-z'’])", match["letters"] or match["claimed"]))
        if len(letters) > 1 and not _DENIED.search(before[start:] + (match["after"] or "")):
            found.append((match.end(), "".join(sorted(letters))))
    return max(found, default=(-1, ""))


def _below(text: str, last: str) -> str:
    """The letters that begin the lines below a sentence such as `The correct options are:`."""
    found = [
        m
        for m in up_to(_BELOW, last).finditer(text)
        if not _DENIED.search(text[text.rfind("\n", 0, m.start()) + 1 : m.start("lines")])
    ]
    return "".join(sorted(set(up_to(_LINE_LETTER, last).findall(found[-1]["lines"])))) if found else ""


def _either(text: str, last: str) -> str:
    """`A|C` where the last sentence leaves open which of several options it is."""
    sentence = re.split(r"(?<=[.!?])\s+|\n+", text.strip())[-1]
    found = up_to(_EITHER, last).findall(sentence) if not _DENIED.search(sentence) else []
    return "|".join(sorted(re.findall(rf"(?<![A-Za-z])[A-{last}](?![A-Za-z'’])", found[-1]))) if found else ""
