"""Multiple choice: the letter of an answer, whether it is given as a letter or as the option's text.

>>> options("Which is even?\\n(A) 3\\n(B) 4")
{'A': '3', 'B': '4'}
>>> letter("The answer is (B).", {})
'B'
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache

from s1kit.grade.extract import final_answer, find_boxes
from s1kit.grade.normalise import normalise

MAX_LETTER = 40
"""Characters around a letter that is given as the whole solution."""

MAX_OPTION = 1000
"""Characters of an option's text."""

MAX_READ = 20000
"""Characters at an answer's end in which a letter is looked for."""

_OPTION = re.compile(
    r"(?:^|\n|\s{2,}|(?<=\s)|\\q?quad)\s*(?:\\(?:textbf|mathrm|text)\s*\{\s*)?\(?([A-Z])\s*(?:\)\s*\}|\)|[.:](?=\s)|\}\s*\))"
)
_ALONE = (
    r"([A-J])(?![A-Za-z'’])(?!\s*[、和与及]\s*[A-J])"
    r"(?!\s+(?!is|are|because|since|as|and|or|not|non|nicht|but|it|for)[a-z])"
)
_STATED_CHOICE = re.compile(
    r"(?:(?:answer|choice|selection)s?|alternativa|(?:option\s+)?selected|(?:correct|right|best|final|chosen|following|most\s+\w+)\s+(?:option|one)|antwort|respuesta|réponse|risposta|resposta|ответ|정답|正解|答え|答案|选项|故选|应选|正确的?是|选择?)"
    r"(?:\s|[:：】*(（$“\"–—]|to\s+(?:the|this)\s+(?:multiple-choice\s+)?question|correc?t[ao]|la|l['’]|opci[óo]n|letra|lettre|lautet|вариант|は|is|are|must|would|should|will|has\s+to|be|est|ist|es|è|é|은|는|이|가|是|为|应该?|\\(?:boxed|text|textbf|mathrm|mathbf)\{|option|choice|"
    r"I\s+(?:think|believe|guess)|it'?s|it|for\s+sure|clearly|definitely|probably|therefore|likely|most|letter|,){0,12}"
    + _ALONE
    + r"|\b(?:rather|wait|actually|sorry|therefore|so|thus|hence|would\s+be|it'?s|it\s+is|choose|"
    r"I\s+(?:think|believe|guess)|go\s+with|pick|select|instead|corresponds\s+to|match(?:es|ing)|points?\s+to|i\.e\.|namely|(?:it|answer)\s+(?:must|has\s+to|can\s+only)\s+be|which\s+is|"
    r"leav(?:es|ing)(?:\s+(?:us|only|just|with))*)[,:]?\s+"
    r"(?:it'?s\s+|it\s+is\s+|option\s+|choice\s+)?[(*$]{0,3}([A-J])(?=[)*$.,;!]|\s*$|\s*\n|\s+[–—-])"
    r"|(?<![A-Za-z])\(?([A-J])\)?[*\s]{1,3}(?:is|seems|must\s+be|would\s+be)\s+(?:the\s+)?(?:most\s+)?(?:correct|right|best|true|valid|answer)"
    r"|(?<![A-Za-z])([A-J])\s*(?:项|选项)?是?最?(?:正确|合适的|对的)"
    r"|\bonly\s+(?:option\s+)?[(*]{0,3}([A-J])[)*]{0,3}\s+(?:holds|is|works|remains|fits)\b"
    r"|\bbut\s+[(*]{0,3}([A-J])[)*]{0,3}\s+(?:fits|matches|seems|looks|works|is\s+(?:more|better|best|the|right|correct))\b"
    r"|\bmak(?:es|ing)\s+(?:option\s+|choice\s+)?[(*$]{0,3}([A-J])(?=[)*.:]|\s)[^\n]{0,60}?\b(?:the|a)\s+(?:only\s+)?"
    r"(?:correct|right|best|most)",
    re.IGNORECASE,
)
_LAST_LINE = re.compile(r"\n[ \t]{0,20}[(*$\[]{0,4}([A-J])[)*$.\]]{0,4}\Z")
_SPACE = re.compile(r"\s{3,}")
_LETTER_ALONE = re.compile(r"^\W*(?:\\(?:text|textbf|mathrm|mathbf)\s*\{)?\W*([A-Ja-j])\W*$")
_LETTER_FIRST = re.compile(
    r"^\W*(?:option|choice)?\W*([A-J])(?!\W{1,3}(?:(?:and|or)\W+)?[B-J]\b)\s*(?:[).:,。，]|\}|$|\s[-–—]|不是\s*[A-J]\b)",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*\s*(\(?[A-J]\)?)\s*\*\*")
_LETTER_ANYWHERE = re.compile(
    r"(?<![A-Za-z])\(?([A-J])\)(?![A-Za-z])|\bis\s+\**([A-J])\b\**(?=\W*$)"
    r"|(?:(?:[Oo]ption|[Cc]hoice|[Aa]nswer)s?\s*(?:is\s*)?:?|=)\s*\**\(?([A-J])\b(?![\[(_^])"
)


def last_letter(choices: Collection[str]) -> str:
    """The last letter that may name an option: J, or that of the question's last one where it has more than ten."""
    return max([*choices, "J"])


@lru_cache
def up_to(pattern: re.Pattern[str], last: str) -> re.Pattern[str]:
    """The pattern with options up to a letter in place of J: in prose, letters that name no option are other things."""
    if last <= "J":
        return pattern
    wider = pattern.pattern.replace("A-J", f"A-{last}").replace("B-J", f"B-{last}").replace("a-j", f"a-{last.lower()}")
    return re.compile(wider, pattern.flags)


def options(question: str) -> dict[str, str]:
    """The options of a question by letter; empty when there are not at least two in order."""
    # Long white space would make the pattern try each of its places against every other.
    question = _SPACE.sub(lambda match: "\n" if "\n" in match[0] else "  ", question)
    found: dict[str, str] = {}
    marks = list(_OPTION.finditer(question))
    expected = 0
    chosen = []
    for mark in marks:
        if ord(mark[1]) - ord("A") == expected:
            chosen.append(mark)
            expected += 1
    ends = [mark.start() for mark in chosen[1:]] + [len(question)]
    for mark, end in zip(chosen, ends, strict=False):
        found[mark[1]] = question[mark.end() : end].strip(" \n$\\&")
    return found if len(found) >= 2 else {}


def is_letter(text: str, choices: Collection[str] = ()) -> bool:
    """Whether a solution is the letter of an option and nothing else."""
    match = up_to(_LETTER_ALONE, last_letter(choices)).match(text) if len(text) <= MAX_LETTER else None
    return match is not None and (match[1].isupper() or f"({match[1]})" in text)


def letter(text: str, choices: dict[str, str]) -> str:
    """The letter of the option that an answer chooses; empty when it chooses none."""
    text, last = TAGS.sub(r"\\boxed{\1}", text), last_letter(choices)
    alone, first = up_to(_LETTER_ALONE, last), up_to(_LETTER_FIRST, last)
    boxes = [match[1].upper() for box in find_boxes(text) if (match := alone.match(box[:MAX_LETTER]))]
    if not boxes and (stated := _stated_letter(text[-MAX_READ:], last)):
        return stated
    for candidate in _candidates(text, last):
        if len(candidate) > MAX_OPTION:
            continue
        if match := alone.match(candidate):
            return match[1].upper()
        if match := first.match(candidate):
            return match[1].upper()
        spelled = normalise(re.sub(r"[!\s]+\W*\Z", "", _LEAD.sub("", candidate))).casefold()
        same = [key for key, option in choices.items() if normalise(option).casefold() == spelled]
        if len(same) == 1:
            return same[0]
    return _concluded(text[-MAX_READ:], choices) or _mentioned(text[-MAX_READ:], last)


def mentions_options(text: str, choices: dict[str, str]) -> bool:
    """Whether an answer speaks of options at all, be it by letter or by text."""
    end, spelled = text[-MAX_READ:], text[-MAX_READ:].casefold()
    named = up_to(_LETTER_ANYWHERE, last_letter(choices)).search(end)
    return bool(named) or any(len(o) > 2 and o.casefold() in spelled for o in choices.values())


def _concluded(text: str, choices: dict[str, str]) -> str:
    """The one option whose text a concluding sentence, or a reply of one sentence, has in it; empty when there is none
    or several.
    """
    spelled = {key: option.strip(" .*").casefold() for key, option in choices.items()}
    spelled = {key: option for key, option in spelled.items() if len(option) > (1 if _CJK.search(option) else 2)}
    sentences = [part for part in _SENTENCE.split(text.strip()) if part]
    for sentence in reversed(sentences[-6:]):
        plain = _ASIDE.split(sentence.replace("*", "").casefold())[0]
        is_last = sentence == sentences[-1] and not _REJECTED.search(plain)
        ends = [key for key, option in spelled.items() if is_last and _ends_in(plain, option)]
        if len(ends) == 1:
            return ends[0]
        subject = next((key for key, option in spelled.items() if is_last and _is_subject(plain, option)), "")
        if subject:
            return subject
        if not _CONCLUSION.search(plain) and not (is_last and len(sentences) == 1):
            continue
        named = {key for key, option in spelled.items() if _names(plain, option)}
        # An option whose text is part of another's says nothing by itself.
        named = {k for k in named if not any(k != o and spelled[k] in spelled[o] for o in named)}
        if len(named) == 1:
            return named.pop()
    return ""


_CJK = re.compile("[\u3400-\u9fff]")
_SENTENCE = re.compile(r"(?<=[.!?])(?<!\bRs\.)(?<!\bNo\.)(?<!\bvs\.)\s+|。|\n+")


def _names(sentence: str, option: str) -> bool:
    """Whether an option's text stands in a sentence as words of its own; Chinese has no spaces between words."""
    spelled = re.escape(option)
    return re.search(spelled if _CJK.search(option) else rf"(?<!\w){spelled}(?!\w)", sentence) is not None


def _ends_in(sentence: str, option: str) -> bool:
    return bool(re.search(rf"(?:\b(?:is|was|are|were|be)|[=:])\s+(?:the\s+|an?\s+)?{re.escape(option)}\W*\Z", sentence))


def _is_subject(sentence: str, option: str) -> bool:
    return bool(
        re.match(rf"\W*(?:the\s+|an?\s+)?{re.escape(option)}\s+(?:is|are|was|were|does|do|has|have|can)\b", sentence)
    )


_CONCLUSION = re.compile(
    r"\b(?:therefore|thus|hence|in summary|in conclusion|conclusion|so,|overall|answer is|making)\b"
)


_ASIDE = re.compile(r"\b(?:while|whereas|unlike|although|but)\b")
"""What begins a clause about other options."""


def _mentioned(text: str, last: str) -> str:
    """The one option that is named at all, or that the last clause names, in no clause that rejects it."""
    clauses = _CLAUSE_END.split(text.strip())
    for some in (clauses, clauses[-1:]):
        where = [("".join(names), s) for s in some for names in up_to(_LETTER_ANYWHERE, last).findall(s)]
        where += [(name, s) for s in some for run in up_to(_LETTERS, last).findall(s) for name in run if name.isupper()]
        if len({name for name, _ in where}) == 1 and not any(map(_REJECTED.search, {s for _, s in where})):
            return where[0][0]
    return ""


_LETTERS = re.compile(r"(?<![A-Za-z])[A-J](?:, [A-J])*,? (?:and|or) [A-J](?![A-Za-z])")
_CLAUSE_END = re.compile(r"(?<=[.!?])\s+|\n+|,\s+(?=(?:but|so|hence|thus|therefore|however)\b)")


_REJECTED = re.compile(
    r"\b(?:not|incorrect|wrong|false|(?:less|least)\s+(?:likely|plausible|correct|accurate)|distractor|"
    r"while|although|unlike|other options|irrelevant|n't)\b",
    re.IGNORECASE,
)


TAGS = re.compile(r"<(?:answer|boxed)>\s*(.*?)\s*</(?:answer|boxed)>", re.DOTALL)


_SMALL_LETTER = re.compile(
    r"\b(?:answer|choice|option)s?\s{0,3}(?:is|[:：]|is:)?\s{0,3}\(?([a-j])\)?[.\s]*\Z", re.IGNORECASE
)


def stated_letters(text: str, last: str = "J") -> list[tuple[int, str]]:
    """The letters up to `last` that the text states as its choice, and where each statement begins, in order."""
    stated = up_to(_STATED_CHOICE, last).finditer(text)
    found = [(m.start(), m[m.lastindex or 0], text[m.start(m.lastindex or 0) - 1 : m.end() + 1]) for m in stated]
    found += [(len(text), m[1], "") for m in up_to(_LAST_LINE, last).finditer(text.rstrip()[-60:])]
    return [(at, one.upper()) for at, one, around in sorted(found) if one.isupper() or around.startswith(f"({one})")]


def _stated_letter(text: str, last: str) -> str:
    """The last letter that the text states as its choice, so that a correction counts; empty when there is none."""
    stated = stated_letters(text, last)
    if not stated and (small := up_to(_SMALL_LETTER, last).search(text[-60:])):
        return small[1].upper()
    return stated[-1][1] if stated else ""


_LEAD = re.compile(
    r"\A\s*(?:(?:it|that|this|the\s+(?:correct\s+)?(?:answer|option|choice))(?:'s|\s+(?:is|must\s+be|would\s+be)))\s+(?:(?:the|an?)\s+)?",
    re.IGNORECASE,
)


def _candidates(text: str, last: str) -> list[str]:
    """The parts of an answer in which to look for a letter, most explicit first."""
    boxes = [box for box in find_boxes(text) if box.strip()]
    stated = final_answer(text)
    bold = up_to(_BOLD, last).findall(text[-MAX_READ:])[-1:]
    found = [stated.text, stated.text.rpartition("=")[2]] if stated else []
    return [*reversed(boxes), *found, text.strip(), *bold]
