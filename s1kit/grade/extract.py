r"""The final answer of a text: what is boxed, what follows "Final Answer:", the last number of a short reply.

>>> final_answer(r"So we add, \boxed{\frac{1}{2}}. Done.").text
'\\frac{1}{2}'
>>> final_answer("It is 7.").text
'7'
"""

from __future__ import annotations

import re
from typing import NamedTuple

from s1kit.grade.plain import join_words, with_percent_signs, with_repetends, with_single_backslashes, without_bold
from s1kit.grade.prose import (
    is_bare,
    is_money,
    is_only_number,
    last_number,
    last_sentence,
    main_clause,
    math_spans,
    stated_formula,
    without_constant,
    without_courtesies,
    without_rejected,
)
from s1kit.grade.words import number_in_words

MAX_LENGTH = 400
"""Characters of a final answer at most; a longer one is an argument, not an answer. Boxed ones may be longer."""

SHORT = 200
"""Characters of a reply that is read as a whole when nothing marks its answer."""


class Found(NamedTuple):
    """A final answer and how it was found."""

    text: str
    how: str


_FINAL = re.compile(
    r"final\s+answer\s*[:：]\s*the\s+final\s+answer\s+is\b(?=\s*\$?(?:[-\d(\[]|\\(?!\")))", re.IGNORECASE
)
"""How Minerva's prompt has a reply end. It counts even after a box, which may hold an intermediate result."""
_TAGGED = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.DOTALL | re.IGNORECASE)
_TAGGED_BOX = re.compile(r"<boxed>\s*([^<]*?)\s*</boxed>", re.IGNORECASE)
_BEGIN_OF_BOX = re.compile(r"<\|begin_of_box\|>(.*?)<\|end_of_box\|>", re.DOTALL)
_PLAIN_BOX = re.compile(r"(?<![\\a-zA-Z])boxed\s*(?:\(([^()]*)\)|\{([^{}]*)\})")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s$,;*.]|\\[()\[\],;:! ]|\\\\|\\q?quad(?![a-zA-Z])|\\text\{\s*(?:and|or)\s*\}|\b(?:and|or)\b|[和或与及]"
    r"|\b[a-z](?:_\d)?\s*=)*",
    re.IGNORECASE,
)
_COUNTED_BOXES = re.compile(r"[\s$]*[a-z]{3,20}\s+and[\s$]*")
"""`\\boxed{1} paper and \\boxed{2} bins`."""
_CORRECTED = re.compile(r"\b(?:wait|actually|correction|sorry|mistake|no,)", re.IGNORECASE)
_CORRECTION = re.compile(
    r"\b(?:(?:wait|actually|correction|sorry|mistake|no,|hmm|oops|edit:|hold\s+on|on\s+(?:reflection|second\s+thought))[^.\n\d]{0,60}?"
    r"\b(?:it'?s|it\s+is|is|be|should\s+be|mak(?:es|ing)\s+it)\s+"
    r"|but\b[^.\n\d]{0,60}?\b(?:it'?s|it\s+is)\s+(?=[$\\\d-]))(?:actually\s+)?(?P<rest>[^\n]+)",
    re.IGNORECASE,
)
_CONCLUSION = re.compile(
    r"\W*(?:therefore|thus|hence|so|in\s+total|finally|in\s+conclusion|altogether|因此|所以|故|综上|したがって|よって|따라서|그러므로"
    r"|donc|ainsi|en\s+conclusion|par\s+conséquent|por\s+lo\s+tanto|entonces|also|daher|somit|folglich|quindi|pertanto|portanto|logo"
    r"|значит|следовательно|итак|таким\s+образом|इसलिए|अतः|لذا|لذلك|إذن|وبالتالي)",
    re.IGNORECASE,
)
_BOLD_VALUE = re.compile(r"\*\*([^*\n]{0,40}\d[^*\n]{0,40})\*\*")
_BOX = re.compile(r"\\(?:begin)?(?:boxed|fbox)\s*(?=\{)|\\boxed\s+(?=[^\s{])")
_ANSWER_WORDS = (
    "answer",
    "correct",
    "答案",
    "antwort",
    "respuesta",
    "réponse",
    "risposta",
    "resposta",
    "ответ",
    "정답",
    "回答",
    "答え",
    "解答",
)
_STATED = re.compile(
    # Leads follow one another: "Final Answer: The final answer is 3" is how Minerva's prompt has models end.
    r"(?:(?:final\s+answer|the\s+(?:correct\s+|final\s+)?answer|the\s+correct\s+(?:count|number|value|total|result|sum)|answer|antwort|respuesta|réponse|risposta|resposta|ответ|정답|回答|答え|解答|(?:最终|正确)?答案】?)\s*(?:\*\*\s*)?"
    r"(?:(?:is|(?:must|should|would|has\s+to)\s+be|equals)\s*[:：]?|[:：=]|(?<=】)|应?[是为][:：]?)\s*(?:\*\*\s*)?)+"
    r"(?P<rest>(?:(?!(?:the|final|correct)\s+(?:final\s+)?answer\s*(?:is|[:：]))[^\n])*)",
    re.IGNORECASE,
)
_HASHES = re.compile(r"^####\s*(?P<rest>[^\n]+)", re.MULTILINE)
_LAST_LINE = re.compile(r"^A:[ \t]*(?P<rest>[^\n]+)\s*\Z", re.MULTILINE)
_MATHS = re.compile(r"\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
_DISPLAYED = re.compile(r"\$\$.+?\$\$|\\\[.+?\\\]", re.DOTALL)
_HEDGE = re.compile(r"\b(?:not sure|don'?t know|cannot|can't|unable|no answer)\b", re.IGNORECASE)


def final_answer(text: str, question: str = "") -> Found | None:
    """The final answer that a text states, or None when it states none.

    In this order: `<answer>`; the last box that says something, those of one list together, unless a correction
    follows it; GSM8K's "####"; the last "Final Answer:" or "answer is"; a last line "A: ...";
    all of a bare answer; what a short text, or the conclusion of a long one, arrives at.
    A box repeated from the question does not count.
    """
    if len(question) > 20:
        text = text.replace(question.strip(), " ")
    text = unwrap(text)
    if tagged := [inside for inside in _TAGGED.findall(text) if inside]:
        boxes = find_boxes(tagged[-1])
        return Found(boxes[-1] if boxes else tagged[-1], "stated")
    if "\\" in text and (groups := box_groups(text)):
        boxes, end = groups[-1]
        rest = text[end:]
        is_corrected = _CORRECTED.search(rest) or _FINAL.search(rest)
        if not (is_corrected and _last_stated(_STATED, rest)):
            return Found(", ".join(boxes), "boxed")
    lowered = text.lower()
    for pattern, how, marks in (
        (_HASHES, "####", ("####",)),
        (_STATED, "stated", _ANSWER_WORDS),
        (_LAST_LINE, "stated", ("a:",)),
    ):
        if any(mark in lowered for mark in marks) and (found := _last_stated(pattern, text)):
            return Found(found, how)
    if len(text.strip()) <= MAX_LENGTH and is_bare(text):
        return _bare(text.strip())
    text = without_courtesies(text)
    if _HEDGE.search(text[-SHORT:]):
        return None
    if len(text.strip()) <= SHORT:
        return _whole(text.strip())
    # Prose that goes on for long may break off: it is read only where its last sentence draws a conclusion, or ends and
    # says one thing.
    sentence = last_sentence(text[-4 * SHORT :])
    is_conclusion = bool(_CONCLUSION.match(sentence))
    if len(sentence) <= SHORT and (is_conclusion or re.search(r"[.!。！]\W*\Z", sentence)):
        concluded = _whole(sentence)
        is_guess = (
            concluded is None or concluded.how == "whole" or (concluded.how == "last number" and not is_conclusion)
        )
        if not is_guess or (concluded and concluded.how == "last number" and is_only_number(concluded.text, sentence)):
            return concluded
        if is_conclusion:
            return None
    bold = _BOLD_VALUE.findall(sentence)
    return Found(bold[0].strip(" ."), "last number") if len(bold) == 1 and is_bare(bold[0]) else None


_WIDE = re.compile("[０-９Ａ-Ｚａ-ｚ％＝＋－／．]")
"""Full-width characters of numbers and formulas; punctuation of sentences stays."""


def unwrap(text: str) -> str:
    """The text without thinking blocks, other box commands rewritten as `\\boxed{}`, full-width digits as ASCII."""
    text = _BEGIN_OF_BOX.sub(r"\\boxed{\1}", text)
    text = re.sub(r"(?<=\d)[：∶](?=\d)", ":", join_words(text))
    text = _WIDE.sub(
        lambda match: chr(ord(match[0]) - 0xFEE0),
        (text.rpartition("</think>")[2] or text).replace("−", "-"),
    )
    text = with_repetends(with_percent_signs(with_single_backslashes(_without_tokens(text))))
    if "boxed" not in text:
        return text
    text = re.sub(r"\\boxed\s{0,20}\{\s{0,20}\}", "", text)
    text = _TAGGED_BOX.sub(lambda match: f"\\boxed{{{match[1]}}}", text)
    return _PLAIN_BOX.sub(lambda match: f"\\boxed{{{match[1] or match[2] or ''}}}", text)


_HEADER = re.compile(r"\A(?:\s*<\|[a-z_]+\|>\s*(?:assistant\b)?)+")
_TOKEN = re.compile(
    r"<\|(?:im_start|im_end|eot_id|eom_id|end|endoftext|end_of_text|start_header_id)\|>|</s>|<end_of_turn>|<eoa>"
)


def _without_tokens(text: str) -> str:
    """What a reply says before the token that ends its turn, which some logs keep with all that follows."""
    if "<" not in text:
        return text
    text = _HEADER.sub("", text)
    return _TOKEN.split(text, maxsplit=1)[0] or text


def box_groups(text: str) -> list[tuple[list[str], int]]:
    r"""The boxes that say something, those of one multi-part answer together, and where each group ends.

    >>> box_groups(r"\boxed{1}. So $\boxed{3}$ and $\boxed{5}$")[-1][0]
    ['3', '5']
    """
    groups: list[tuple[list[str], int]] = []
    for start, end, box in _boxes(text):
        if not _says_something(box):
            continue
        if groups and len(text[groups[-1][1] : start]) < 60 and _joins(text[groups[-1][1] : start], box, groups[-1][0]):
            groups[-1] = ([*groups[-1][0], box.strip()], end)
        else:
            groups.append(([box.strip()], end))
    return groups


def _joins(between: str, box: str, boxes: list[str]) -> bool:
    is_list = (
        not between
        or bool(_COUNTED_BOXES.fullmatch(between))
        or (bool(_BETWEEN_BOXES.fullmatch(between)) and "\n\n" not in between and bool(re.search(r"[^\s$.*]", between)))
    )
    return is_list and box.strip() not in boxes


def _says_something(box: str) -> bool:
    said = box.strip()
    return bool(box.strip(" \t\n.,")) and said.strip("[]") not in ("...", r"\ldots", r"\dots", "your answer", "answer")


def find_boxes(text: str) -> list[str]:
    r"""The contents of each `\boxed{...}`, outermost, braces balanced; an unclosed box gives nothing.

    >>> find_boxes(r"\boxed{\sqrt{2}} and \boxed 3")
    ['\\sqrt{2}', '3']
    """
    return [box for _, _, box in _boxes(text)]


def _boxes(text: str) -> list[tuple[int, int, str]]:
    """Start, end and content of each box."""
    boxes, at = [], 0
    closings = _closings(text) if _BOX.search(text) else {}
    while match := _BOX.search(text, at):
        start = match.end()
        if text[start] != "{":
            end = start + 1
            boxes.append((match.start(), end, text[start:end]))
        else:
            end = closings.get(start, -1)
            if end < 0:
                at = start + 1
                continue
            boxes.append((match.start(), end + 1, text[start + 1 : end]))
        at = end
    return boxes


def _closings(text: str) -> dict[int, int]:
    """Index of the closing brace of each opening one that has one. Linear, however many stay open."""
    opened: list[int] = []
    closings: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match.group() == "{":
            opened.append(match.start())
        elif match.group() == "}" and opened:
            closings[opened.pop()] = match.start()
    return closings


_BRACE = re.compile(r"\\[{}\\]|[{}]")


def _last_stated(pattern: re.Pattern[str], text: str) -> str:
    matches = list(pattern.finditer(text))
    later = _CORRECTION.search(text, matches[-1].end()) if matches else None
    for match in reversed(matches):
        # "Final Answer:" may stand on a line of its own, and a displayed formula on several.
        stated = match["rest"].strip()
        below = text[match.start("rest") if stated else match.end() :].lstrip()
        if formula := _DISPLAYED.match(below):
            stated = formula[0]
        stated = stated or below.split("\n", 1)[0].strip()
        if correction := later or _CORRECTION.search(stated):
            stated = correction["rest"]
        stated = without_rejected(_first_sentence(stated)).strip(" .,")
        if stated and len(stated) <= MAX_LENGTH:
            return stated
    return ""


def _first_sentence(text: str) -> str:
    """The first sentence, without the words that introduce the answer."""
    text = re.sub(r"(?<=\d)\s*\([a-zA-Z -]{3,40}\)(?=\W*$)", "", text)
    text = without_constant(without_bold(text))
    if re.search(r"[a-z]{3} .* [a-z]{3}", text):
        text = re.sub(r"\\\$(?=\d)", "$", text)
    if (maths := _MATHS.match(text)) and not (maths[1] and is_money(maths[1])):
        rest = text[maths.end() :].strip(" .*")
        return text[: maths.end()] if not rest or rest[0].isupper() else text.rstrip(" .*")
    end = re.search(r"\.(?:\s+[(A-Z]|\s*$)|\s*<\||。", text)
    return (text[: end.start()] if end else text).strip(" *")


def _bare(text: str) -> Found:
    spans = math_spans(text)
    whole = spans[0] if len(spans) == 1 and len(spans[0]) + 4 >= len(text) else text
    return Found(whole if whole.endswith("..") else whole.rstrip("."), "whole")


_DOMAIN = re.compile(
    r",?\s(?:for|where|when|whenever|if|which\s+is\s+(?:about|roughly|approximately))\s(?:[a-z-]+\s){0,4}(?:\$[^$]+\$|\\\(.+?\\\))(?:[a-z\s-]|\.(?!\S))*\Z"
)


def _without_domain(sentence: str) -> str:
    r"""`sentence` without the formula at its end that only says where another one holds.

    >>> _without_domain(r"So $f(x) = x + 1$ for all $x \in \mathbb{R}$."), _without_domain("if $x = 3$.")
    ('So $f(x) = x + 1$', 'if $x = 3$.')
    """
    shorter = _DOMAIN.sub("", sentence)
    return shorter if math_spans(shorter) else sentence


_REASON = re.compile(r"\W*(?:Since|Because|As|If|When)\b[^,]*\d[^,]*,\s+")
_COUNTED = re.compile(r"\b(?:exactly|only|just|are|has|have|makes|leaves)\s+((?:[a-z]+[\s-]){1,6})", re.IGNORECASE)


def _counted(clause: str) -> str:
    """The number in words that a clause without digits counts: `two` of `there are exactly two roots`."""
    counted = _COUNTED.search(f"{clause.rstrip(' .')} ") if not re.search(r"\d", clause) else None
    return clause.strip() if counted and number_in_words(counted[1]) is not None and number_in_words(clause) else ""


def _whole(text: str) -> Found | None:
    """What a short text of words says: its last formula, else the number it arrives at, else all of a few words."""
    if not text:
        return None
    sentence = last_sentence(text)
    if spans := math_spans(_without_domain(main_clause(sentence))) or math_spans(text):
        # `All $n = 3k+1$ for integers $k$`: a name alone is not what is stated.
        return Found(([span for span in spans if len(span) > 1] or spans)[-1], "last formula")
    if formula := stated_formula(sentence):
        return Found(formula, "last formula")
    if (clause := _REASON.match(sentence)) and (said := _counted(sentence[clause.end() :])):
        return Found(said, "last number")
    number, is_result = last_number(text)
    if number:
        return Found(number, "concluding number" if is_result else "last number")
    if len(text.split()) <= 12:
        return Found(text.rstrip("."), "whole")
    said = re.split(r"\b(?:is|are|equals)\b|[是为]", sentence)[-1].strip(" .")
    return Found(said, "last number") if number_in_words(said) is not None else None
