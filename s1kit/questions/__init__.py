"""Questions from the files people have: any column names, the usual shapes, JSON, JSONL, CSV, Parquet and Arrow.

`files` reads rows, `shapes` recognises what a row is (chat messages, Alpaca, multiple choice, ...) with the help of
`exchanges`, `judged`, `choices`, `passages` and `references`, and `columns` makes it a `Question`. Nothing here knows
what a stage is.
"""

from s1kit.questions.columns import Reject, WholeFile, question_and_shape, question_from, read_questions
from s1kit.questions.exchanges import with_history
from s1kit.questions.files import find_files, read_rows_of, whole_rows
from s1kit.questions.judged import judged_reply
from s1kit.questions.names import COLUMNS
from s1kit.questions.raw_rows import RawRow

__all__ = [
    "COLUMNS",
    "RawRow",
    "Reject",
    "WholeFile",
    "find_files",
    "judged_reply",
    "question_and_shape",
    "question_from",
    "read_questions",
    "read_rows_of",
    "whole_rows",
    "with_history",
]
