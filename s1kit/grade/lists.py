r"""Answers of several values in two spellings: lists, vectors, matrices, `\pm`.

>>> lists("1, 2, 3", "(1, 2, 3)"), plus_minus(r"\pm 3", "3, -3"), matrices("[[1,2],[3,4]]", "[[1,2],[3,5]]")
('correct', 'correct', None)
"""

from __future__ import annotations

import re

from s1kit.grade.normalise import as_number, normalise
from s1kit.records import Verdict

FILLER = re.compile(r"\\(?:left|right)(?![a-zA-Z])|(?<!\\)\\[,;:! ]|\$")


def same_value(one: str, other: str) -> bool:
    """Whether two entries are the same number, or, with the extra `grade`, expressions of the same value."""
    mine, right = normalise(one), normalise(other)
    numbers = as_number(mine), as_number(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if mine.lstrip("+") == right.lstrip("+"):
        return True
    try:
        from s1kit.grade.numeric import compare_numbers
    except ImportError:
        return False
    return compare_numbers(one, other) == "same"


def known_to_differ(one: str, other: str) -> bool:
    """Whether two entries certainly have different values: both are understood as a whole, and their values differ.

    >>> known_to_differ("2", "3"), known_to_differ("n^2", "(n+1)^2"), known_to_differ("2", "two?")
    (True, True, False)
    """
    numbers = as_number(normalise(one)), as_number(normalise(other))
    if None not in numbers:
        return numbers[0] != numbers[1]
    try:
        from s1kit.grade.numeric import compare_numbers
    except ImportError:
        return False
    return compare_numbers(one, other) == "different"


_PLUS_MINUS = re.compile(r"\\pm(?![a-zA-Z])")
_LIST = re.compile(r",|\\text\{\s*(?:and|or)\s*\}|\band\b|\bor\b")


def plus_minus(answer: str, solution: str) -> Verdict | None:
    r"""The verdict on one expression with `\pm` and a list of two; None where they are not these."""
    for one, other in ((answer, solution), (solution, answer)):
        plain, values = (
            FILLER.sub(" ", one),
            [v.strip() for v in re.split(r",|\band\b|\bor\b|\\text\{\s*(?:and|or)\s*\}", other)],
        )
        if braced := re.fullmatch(r"\s*\\?\{(.*?)\\?\}\s*", FILLER.sub(" ", other)):
            values = [v.strip() for v in braced[1].split(",")]
        if len(_PLUS_MINUS.findall(plain)) != 1 or "," in plain or _PLUS_MINUS.search(other) or len(values) != 2:
            continue
        plain = plain.rpartition("=")[2]
        both = [plain.replace(r"\pm", sign) for sign in "+-"]
        values = [re.sub(r"^\s*[a-zA-Z]\s*=", "", FILLER.sub(" ", v)) for v in values]
        orders = (values, values[::-1])
        return "correct" if any(all(map(same_value, both, order)) for order in orders) else "wrong"
    return None


_BRACED_LIST = re.compile(
    r"(\s*\$?\s*(?:[a-zA-Z]\s*(?:=|\\in(?![a-zA-Z]))\s*)?(?:\\left\s*)?\\\{)(.*)((?:\\right\s*)?\\\}\s*\$?\s*)"
)


def with_both_signs(text: str) -> str:
    r"""A list with both values in place of each entry that has one `\pm`; any other text as it is.

    >>> with_both_signs(r"2, 3 \pm \sqrt{5}"), with_both_signs(r"\pm 3")
    ('2, 3 + \\sqrt{5}, 3 - \\sqrt{5}', '\\pm 3')
    """
    if not _PLUS_MINUS.search(text) or "\\begin" in text:
        return text
    braced = _BRACED_LIST.fullmatch(text)
    opening, inside, closing = braced.groups() if braced else ("", text, "")
    inside = FILLER.sub(" ", inside)
    depth, start, parts = 0, 0, list[str]()
    for at, character in enumerate(inside):
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append(inside[start:at].strip())
            start = at + 1
    parts.append(inside[start:].strip())
    if len(parts) < 2 or re.search(r"\b(?:and|or)\b", inside):
        return text
    both = [
        _PLUS_MINUS.sub(sign, part).lstrip("+ ") if len(_PLUS_MINUS.findall(part)) == 1 else part
        for part in parts
        for sign in ("+-" if len(_PLUS_MINUS.findall(part)) == 1 else " ")
    ]
    return f"{opening}{', '.join(both)}{closing}"


_SAME_NAME = re.compile(r"\s*([a-zA-Z](?:\([a-z]\))?)(?:_\{?(\d)\}?)?\s*=\s*([^=<>]+?)\s*")
_IN_BRACES = re.compile(r"(?:[a-zA-Z]\s*(?:\\in(?![a-zA-Z])|=)\s*)?\\?\{(.*?)\\?\}")
_WRAPPED = re.compile(r"\\(?:text|mathrm|mbox|textrm)\s*\{\s*(,?\s*(?:and|or)\s*)\}")


def finite_sets(answer: str, solution: str) -> Verdict | None:
    r"""The verdict on two sets of numbers, at least one of them in braces or by one name for all: `x = 2 or x = 3`.

    >>> finite_sets("x = 3 or x = -2", r"\{-2, 3\}"), finite_sets("2, 3", r"\{-2, 3\}"), finite_sets("2, 3", "3, 2")
    ('correct', 'wrong', None)
    """
    mine, right = _set(answer), _set(solution)
    if mine is None or right is None or not (mine[1] or right[1]):
        return None
    if len(mine[0]) == 1 or len(right[0]) == 1:
        return None
    open_ones = list(right[0])
    for entry in mine[0]:
        same = next((other for other in open_ones if same_value(entry, other)), None)
        if same is None:
            return "wrong" if all(known_to_differ(entry, other) for other in open_ones) else None
        open_ones.remove(same)
    return "wrong" if open_ones else "correct"


def _set(text: str) -> tuple[list[str], bool] | None:
    """The entries of a set or list, and whether it is surely a set; None for other texts, brackets included."""
    text = _WRAPPED.sub(r" \1 ", FILLER.sub(" ", text)).strip(" .")
    if re.search(r"\\in\s*\\mathbb|\\equiv|\\pmod", text):
        return None
    if braced := _IN_BRACES.fullmatch(text):
        inside = braced[1].rstrip("\\ ")
        is_list = not re.search(r"[:{(<>|=]|\\mid", inside)
        return ([part.strip() for part in inside.split(",")], True) if is_list else None
    if re.match(r"[(\[]", text) and re.search(r"[)\]]$", text):
        return None
    parts = [part.strip() for part in _LIST.split(text) if part.strip()]
    named = [match for part in parts if (match := _SAME_NAME.fullmatch(part))]
    if len(parts) < 2 or {match[1] for match in named} != {match[1] for match in named[:1]}:
        return None
    if not named:
        is_plain = not re.search(r"[=<>{}(]", _ARGUMENTS.sub("", text))
        return (parts, False) if is_plain else None
    if len(named) == 1 and parts[0] == named[0][0]:  # x = 2, 3
        return [named[0][3], *parts[1:]], True
    if len(named) < len(parts):
        return None
    is_set = len({match[2] for match in named}) == 1 or named[0][1] in ("x", "t", "z")
    return [match[3] for match in named], is_set


_ARGUMENTS = re.compile(r"\\\w+\{[^{}]*\}(?:\{[^{}]*\})?")


_VECTOR = re.compile(r"\\begin\s*\{[pbv]?matrix\}(.*?)\\end\s*\{[pbv]?matrix\}", re.DOTALL)
_TRANSPOSED = re.compile(r"\^\s*(?:\{\s*)?(?:T|\\top|\\intercal)(?:\s*\})?$")


def lists(answer: str, solution: str) -> Verdict | None:
    """The verdict on two lists by their entries and order, whatever the brackets: a vector, a row of a matrix, a list.

    Two entries in brackets may be an interval; then only a matrix or a transposed row is surely a vector.
    """
    mine, right = _entries(answer), _entries(solution)
    if mine is None or right is None or mine[1] == right[1] or len(mine[0]) != len(right[0]):
        return None
    is_vector = bool({"matrix", "angled", "components", "transposed"} & {mine[1], right[1]})
    if len(mine[0]) < (2 if is_vector else 3):
        return None
    if all(map(same_value, mine[0], right[0])):
        return "correct"
    are_numbers = all(as_number(normalise(entry)) is not None for entry in (*mine[0], *right[0]))
    return "wrong" if is_vector and are_numbers else None


def _entries(text: str) -> tuple[list[str], str] | None:
    """The entries and the kind of brackets; None for a matrix of several rows and columns, and for a set."""
    if matrix := _VECTOR.fullmatch(text.strip(" $.")):
        rows = [row.split("&") for row in re.split(r"\\\\", matrix[1]) if row.strip()]
        if len(rows) > 1 and len(rows[0]) > 1:
            return None
        return [cell.strip() for row in rows for cell in row], "matrix"
    text = re.sub(r"^\s*[a-zA-Z]\s*=\s*(?=\\langle|⟨)", "", FILLER.sub(" ", text)).strip().rstrip(".")
    if angled := re.fullmatch(r"(?:\\langle|⟨|<)([^<>⟨⟩]*)(?:\\rangle|⟩|>)", text):
        return [part.strip() for part in angled[1].split(",")], "angled"
    if components := _components(text):
        return components, "components"
    flat = _TRANSPOSED.sub("", text).strip()
    kind = "transposed" if flat != text else ""
    if re.fullmatch(r"[(\[][^()\[\]]*[)\]]", flat):
        kind, flat = kind or flat[0] + flat[-1], flat[1:-1]
    if re.search(r"[{}<>=]|\\(?!frac|sqrt|pi|text)", re.sub(r"\\(?:frac|sqrt)(?:\{[^{}]*\}){1,2}", "1", flat)):
        return None
    parts = [part.strip() for part in _LIST.split(flat) if part.strip()]
    return (parts, kind) if len(parts) > 1 else None


_UNIT_VECTOR = r"(?:\\(?:mathbf|hat|vec|bf)\s*\{?\s*(?:\\mathbf\s*\{\s*)?)?([ijk])\s*\}*"
_COMPONENT = re.compile(rf"\s*([-+])?\s*(\d+(?:\.\d+)?|\\frac\{{\d+\}}\{{\d+\}})?\s*(?:\\cdot\s*)?{_UNIT_VECTOR}\s*")


def _components(text: str) -> list[str]:
    """The components of a sum of unit vectors such as `i - 2j + 3k`; empty for anything else, `3 + 4i` included."""
    found: dict[str, str] = {}
    at = 0
    while match := _COMPONENT.match(text, at):
        if match[3] in found or (found and not match[1]):
            return []
        found[match[3]] = (match[1] or "").replace("+", "") + (match[2] or "1")
        at = match.end()
    if at < len(text) or len(found) < 2 or not {"j", "k"} & set(found):
        return []
    return [found.get(name, "0") for name in ("ijk" if "k" in found else "ij")]


_NESTED = re.compile(r"[\[({]\s*([\[({][^\[\](){}]*[\])}]\s*(?:,\s*[\[({][^\[\](){}]*[\])}]\s*)+)[\])}]")


def matrices(answer: str, solution: str) -> Verdict | None:
    """The same rows, one of the two as a LaTeX matrix and the other as rows in brackets."""
    mine, right = _rows(answer), _rows(solution)
    if mine is None or right is None or mine[1] == right[1]:
        return None
    if [len(row) for row in mine[0]] != [len(row) for row in right[0]]:
        return "wrong"
    pairs = [pair for rows in zip(mine[0], right[0], strict=True) for pair in zip(*rows, strict=True)]
    return "correct" if all(same_value(*pair) for pair in pairs) else "wrong"


def _rows(text: str) -> tuple[list[list[str]], bool] | None:
    """The rows of a matrix of several rows and columns, and whether it is a LaTeX matrix."""
    text = re.sub(r"^[^=\[]{1,12}=\s*(?=[\[({]{2}|\\begin)", "", FILLER.sub(" ", text).strip(" ."))
    if matrix := _VECTOR.fullmatch(text):
        rows = [[cell.strip() for cell in row.split("&")] for row in matrix[1].split("\\\\") if row.strip()]
    elif nested := _NESTED.fullmatch(text):
        inner = re.findall(r"[\[({]([^\[\](){}]*)[\])}]", nested[1])
        rows = [[cell.strip() for cell in row.split(",")] for row in inner]
    else:
        return None
    return (rows, bool(matrix)) if len(rows) > 1 and len(rows[0]) > 1 else None
