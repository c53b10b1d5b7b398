"""Multiple-choice rows: options in a list, in columns of their own, or as right and wrong answers."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from random import Random
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.names import columns_for, plain_name, question_text
from s1kit.questions.options import LETTERS, ChoiceOptions, letter_of, read_options
from s1kit.questions.passages import CONTEXTS, take_context
from s1kit.questions.raw_rows import Shaped

_STEMS = ("question", "questionstem", "problem", "ctx", "goal", "sentence", "premise", "stem", "startphrase")
"""Plain names of what is asked where another column may be a text, too, such as a passage; the last of HellaSwag, PIQA,
WinoGrande, COPA and SWAG."""

_OPTION = re.compile(
    r"(?:option|choice|answer|ans|opt|op)?([a-j])|(?:option|choice|mcanswer|answer|ans|opt|op|sol|ending)(\d)"
)
"""The plain name of a column that holds one option."""
_LONGER_OPTION = re.compile(r"[a-z]*(?:option|choice|answer|ans|opt|op|quiz)(?:([a-j])|(\d))(?:text)?")
"""The same with more around it (Eedi, ECQA, StoryCloze), which is believed where the answer is one of these columns."""
_ANSWER = re.compile("ans|correct|right|gold|target|key|label")
"""In the plain name of a column that says which option is right, where its text is one of theirs."""


def _stem_column(row: dict[str, Any]) -> str:
    columns = {plain_name(column): column for column in row if isinstance(row[column], str)}
    return next((columns[name] for name in _STEMS if name in columns), question_text(row))


_LISTS = (
    *("choices", "options", "endings", "answerchoices", "mc1targets", "multiplechoicetargets"),
    *("answeroptions", "inputchoicelist"),
)
"""Plain names of columns that hold the options of a question, and nothing else."""
_LISTS_BESIDE_AN_INDEX = ("answers", "candidates", "possible_answers", "target_scores", "classes")
"""Columns that hold options where another says which is right by its index (QuAIL), or they do themselves."""
_MAX_CANDIDATES = 10


def options_list(row: dict[str, Any]) -> Shaped | None:
    """Rows with a list of options, and the right one as an index, a letter or a text. A passage alone is asked itself.

    Raises InputError for options that cannot be read: a question without its options is another question.
    """
    stem_column = _stem_column(row)
    column = _list_column(row)
    if column is None or not (stem_column or any(isinstance(row.get(name), str) for name in CONTEXTS)):
        return None
    options = read_options(row[column], column)
    if options is None:
        if isinstance(row[column], str | int | float) and _answer_column(row) is None:
            return None  # a setting of the row's, such as a number of choices
        raise InputError(
            f"the options in {column!r} are {row[column]!r:.60}",
            where=column,
            fix="Give 2 to 26 options as a list of texts, a list of objects with label and text, or one text with a "
            'letter before each: "A. ... B. ...".',
        )
    answer = None if options.right else _answer_column(row)
    is_index = answer is not None and is_number_of_an_option(row[answer], options)
    if answer and is_index and int(float(row[answer])) == len(options.texts):
        fix = "Give the right option's index from 0, its letter or its text."
        raise counts_from_either(answer, row[answer], len(options.texts), fix)
    letter = letter_of(row[answer], options, answer) if answer else ", ".join(LETTERS[n] for n in options.right)
    gone = {stem_column, column, answer, "answer", "answer_index", "answer_idx"} | {c for c in row if "_targets" in c}
    if answer and str(row.get("error_type", "ok")) != "ok":  # MMLU-Redux: the answer was found to be wrong
        corrected = row.get("correct_answer")
        letter = letter_of(corrected, options, "correct_answer") if corrected not in (None, "") else ""
        gone.add("correct_answer")
    name = f"multiple choice ({column}{f', {answer}' if answer else ''})"
    stem = row[stem_column] if stem_column else ""
    shaped = with_options(row, gone, _without_choices(stem) if stem_column == "query" else stem, options.texts, letter)
    return Shaped(name, shaped, (answer, len(options.texts)) if answer and is_index else None)


def _list_column(row: dict[str, Any]) -> str | None:
    """The column with the list of options; None where a row has none."""
    plain = {plain_name(column): column for column in row if row[column]}
    column = next((plain[name] for name in _LISTS if name in plain), None)
    if column is None and (found := _answer_column(row) or "target_scores") and row.get(found) is not None:
        is_index = found == "target_scores" or (type(row[found]) is int and plain_name(found) in _INDICES)
        column = next((c for c in _LISTS_BESIDE_AN_INDEX if is_index and row.get(c)), None)
        if column is None and _are_candidates(row.get("candidates"), row[found]):
            column = "candidates"
    lists = (c for c in row if re.search("option|choice", plain_name(c)) and isinstance(row[c], list))
    return column or next((c for c in lists if read_options(row[c], c) is not None), None)


def _are_candidates(value: Any, answer: Any) -> bool:
    """Whether a list is of options of which an integer names the right one (BertaQA), and not of replies to a question
    whose answer is that integer."""
    if not isinstance(value, list) or type(answer) is not int or not 2 <= len(value) <= _MAX_CANDIDATES:
        return False
    return answer < len(value) and not any(re.search(rf"(?<!\d){answer}(?!\d)", str(one)) for one in value)


def _without_choices(query: str) -> str:
    """The passage and question of a prompt as AGIEval writes it (hails/agieval-sat-en), whose options stand in a list.

    >>> _without_choices("A passage. Q: Which? Answer Choices: (A)1 (B)2\\nA: Among A through B, the answer is")
    'A passage.\\n\\nWhich?'
    """
    stem = re.split(r"\s*Answer Choices:", query)[0]
    passage, asked, question = stem.rpartition("Q: ")
    return "\n\n".join(part.strip() for part in (passage, question) if part.strip()) if asked else stem


_INDICES = {
    *("answerindex", "answeridx", "goldindex", "correctoption", "correctanswerindex", "correctanswerid"),
    *("correctindex", "correctoptionindex", "correctidx", "correctid", "label", "ra"),
}


def _is_hidden(row: dict[str, Any]) -> bool:
    """Whether the right option is kept back, as in test sets."""
    return any(
        plain_name(c) in ("label", "answer", "answerkey") and value in ("", -1, "-1") for c, value in row.items()
    )


def _answer_column(row: dict[str, Any]) -> str | None:
    names = (
        *(
            "answerindex",
            "answeridx",
            "answerkey",
            "answerletter",
            "answer",
            "correct",
            "correctanswer",
            "correctoption",
            "goldindex",
        ),
        *("gold", "target", "label", "cop", "correctchoice", "key", "rightanswer", "solution"),
        *("correctanswerindex", "correctanswerid", "correctindex", "correctoptionindex", "correctidx", "correctid"),
        *("correctanswernum", "ra", "inputcorrectresponses", "goldlabel"),
    )
    given = [column for column in row if row[column] not in _HIDDEN]
    plain = {plain_name(column): column for column in given}
    return next((plain[name] for name in names if name in plain), None) or next(
        iter(columns_for("answer", given)), None
    )


_HIDDEN = (None, "", -1, "-1")
"""What test sets have in place of the right option."""


class CountsFromEither(InputError):
    """The number of a right option may count from 0 or from 1: one row does not tell, all of its file may."""

    column = ""
    num_options = 0


def counts_from_either(column: str, value: Any, num_options: int, fix: str) -> CountsFromEither:
    """The complaint about a number in a column that may count from 0 or from 1."""
    error = CountsFromEither(f"{column!r} is {value}, which may count from 0 or from 1", where=column, fix=fix)
    error.column, error.num_options = column, num_options
    return error


def is_number_of_an_option(answer: Any, options: ChoiceOptions) -> bool:
    """Whether an answer says by its place which option is right, counted from 0 or from 1."""
    given = {*options.texts, *map(str, options.given), *options.labels}
    is_number = re.fullmatch(r"\d{1,2}(?:\.0)?", str(answer)) is not None
    return is_number and str(answer) not in given and int(float(answer)) <= len(options.texts)


def first_number(values: Iterable[Any], num_options: int) -> int | None:
    """Whether the numbers of right options count from 0 or from 1; None where they do not tell, or tell both.

    >>> first_number([2, 0, "3", None], 4), first_number([1, 4, 2], 4), first_number([1, 2], 4)
    (0, 1, None)
    """
    numbers = {
        int(value) for value in values if re.fullmatch(r"\d{1,2}(?:\.0)?", str(value)) and not isinstance(value, bool)
    }
    has_zero, has_last = 0 in numbers, max(numbers, default=0) >= num_options
    if has_zero == has_last:
        return None
    return 0 if has_zero else 1


def lettered_columns(row: dict[str, Any]) -> Shaped | None:
    """Options in columns of their own (`A` to `D`, `Option 1`, `opa`); the right one as its letter, number or text, or
    as the name of its column.

    An integer is the number of a column that has a number, and counts from 0 where it is a `label`, as the Hub's class
    labels are, an index by its name, or MedMCQA's `cop`. Raises CountsFromEither where it may count from 0 or from 1.
    """
    row = _as_asked(row)
    if columns := _options_by_label(row, _OPTION):
        return _of_columns(row, columns)
    columns = _options_by_label(row, _LONGER_OPTION)
    try:
        return _of_columns(row, columns) if columns else None
    except CountsFromEither:
        raise
    except InputError:
        return None


def _options_by_label(row: dict[str, Any], name: re.Pattern[str]) -> dict[str, str]:
    """The columns with an option each by their letters or numbers, in order; empty where these leave one out."""
    columns: dict[str, str] = {}
    for column in row:
        if (found := name.fullmatch(plain_name(column))) and row[column] is not None:
            columns.setdefault((found[1] or found[2]).upper(), column)
    labels = sorted(columns)
    first = labels[0] if labels else ""
    if len(labels) < 2 or first not in ("A", "0", "1") or labels != [chr(ord(first) + i) for i in range(len(labels))]:
        return {}
    return {label: columns[label] for label in labels}


def _of_columns(row: dict[str, Any], columns: dict[str, str]) -> Shaped | None:
    """As `lettered_columns`, with the options in `columns` by their labels."""
    labels = list(columns)
    first = labels[0]
    rest = {key: value for key, value in row.items() if key not in columns.values()}
    stem_column, answer = _stem_column(rest), _answer_column(rest)
    if answer is None:
        texts = {str(row[column]).strip() for column in columns.values()}
        equal = [c for c in rest if _ANSWER.search(plain_name(c)) and str(rest[c]).strip() in texts]
        answer = equal[0] if len(equal) == 1 else None
    if not stem_column or (first != "A" and answer is None and not _is_hidden(rest)):
        return None  # several answers to one question, and no options
    given = [str(row[columns[label]]).strip() for label in labels]
    letter = index = None
    if answer is not None:
        value = row[answer] if first == "A" or answer == "label" else str(row[answer])
        if isinstance(value, str):
            value = _in_labels(value, columns, given)
        if first == "1" and re.search("index|idx|id$", plain_name(answer)) and str(value) in labels[:-1]:
            fix = f"Call it label where it counts from 0, answer where it is the number in {columns['1']!r}."
            raise counts_from_either(answer, value, len(labels), fix)
        if first == "A" and plain_name(answer) not in _INDICES | {"cop"} and not isinstance(value, str):
            value = str(value).removesuffix(".0")
        if first == "A" and isinstance(value, str) and value in [str(n) for n in range(1, len(labels))]:
            fix = (
                f"Write the letter of the right one of {columns['A']!r} and the others, or its text; in pandas, with 1 "
                f'where it counts from 1: df["{answer}"].astype(int).map(dict(enumerate("ABCDEFGHIJ", 1))).'
            )
            raise counts_from_either(answer, value, len(labels), fix)
        if first == "A" and value == str(len(labels)):
            value = LETTERS[len(labels) - 1]
        called = labels
        if isinstance(value, int):  # counts from 0 whatever the columns are called, unless the file tells otherwise
            called, index = list(LETTERS[: len(labels)]), (answer, len(labels))
            if value == len(labels):
                raise counts_from_either(
                    answer, value, len(labels), "Give the letter of the right option, or its text."
                )
        letter = letter_of(value, ChoiceOptions(given, called, given, []), answer)
    said = f"{columns[labels[0]]} to {columns[labels[-1]]}{f', {answer}' if answer else ''}"
    return Shaped(
        f"multiple choice ({said})",
        with_options(row, {*columns.values(), answer, stem_column}, row[stem_column], given, letter),
        index,
    )


def _in_labels(answer: str, columns: dict[str, str], options: Sequence[str]) -> Any:
    """The label of the option whose column an answer names (`option3`), those of several (`1,3`), or the answer.

    >>> _in_labels("option2", {"1": "option1", "2": "option2"}, ["x", "y"])
    '2'
    """
    named = {plain_name(column): label for label, column in columns.items()}
    parts = [part.strip().upper() for part in re.split("[,;&]", answer)]
    if len(parts) > 1 and answer not in options and all(part in columns for part in parts):
        return parts
    return named.get(plain_name(answer), answer)


_COPA = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
"""What COPA asks about its premise, where its `question` says only which of both."""


def _as_asked(row: dict[str, Any]) -> dict[str, Any]:
    asked = _COPA.get(str(row.get("question")))
    if asked is None or not isinstance(row.get("premise"), str):
        return row
    rest = {key: value for key, value in row.items() if key != "premise"}
    return rest | {"question": f"{row['premise']}\n\n{asked}"}


def correct_and_incorrect(row: dict[str, Any]) -> Shaped | None:
    """A right answer and wrong ones, put in an order drawn from their texts: the same on every machine."""
    stem_column = _stem_column(row)
    plain = {plain_name(column): column for column in row}
    named = (plain[name] for name in ("correctanswer", "bestanswer") if name in plain)
    right = next((column for column in named if isinstance(row[column], str)), None)
    wrong = [column for name, column in plain.items() if re.fullmatch(r"(?:incorrectanswer|distractor)\d", name)]
    listed = plain.get("incorrectanswers", "")
    if not stem_column or right is None:
        return None
    if isinstance(row.get(listed), list):
        gone, others = {listed, "correct_answers"}, row[listed]
    else:
        gone, others = set(wrong), [row[c] for c in wrong if row[c]]
    options = [str(row[right]).strip(), *(str(o).strip() for o in others)]
    if not 2 <= len(options) <= len(LETTERS):
        return None
    key = "\n".join([row[stem_column], *options])
    drawn = Random(hashlib.sha256(key.encode("utf-8")).hexdigest()[:16])
    order = sorted(range(len(options)), key=lambda _: drawn.random())
    letter = LETTERS[order.index(0)]
    gone |= {stem_column, right}
    name = f"multiple choice ({right} among wrong ones, shuffled)"
    return Shaped(name, with_options(row, gone, row[stem_column], [options[i] for i in order], letter))


def with_options(
    row: dict[str, Any], gone: Collection[str | None], stem: str, options: Sequence[str], letter: str | None
) -> dict[str, Any]:
    """The columns of a row less those that are `gone`, with a text made of passage, stem and options, and the right
    letter; the options are not written twice where the stem has them."""
    rest = {key: value for key, value in row.items() if key not in gone and (letter or not _is_hidden({key: value}))}
    lines = [] if _has_options(stem, options) else [f"({LETTERS[i]}) {option}" for i, option in enumerate(options)]
    context = take_context(rest, stem)
    rest["text"] = "\n".join([f"{context}{stem.strip()}".strip(), *lines])
    return rest | ({"final_answer": letter} if letter else {}) | {"kind": "choice"}


def _has_options(stem: str, options: Sequence[str]) -> bool:
    """Whether a stem ends with all options, each behind its letter."""
    marked = (rf"\(?{LETTERS[i]}\s?[).:]\s*{re.escape(option)}" for i, option in enumerate(options))
    return re.search(r"\s+".join(marked) + r"\s*\Z", stem) is not None
