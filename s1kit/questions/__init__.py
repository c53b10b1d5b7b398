"""Questions from the files people have: any column names, the usual shapes, JSON, JSONL, CSV and Parquet.

`files` reads rows, `shapes` recognises what a row is (chat messages, Alpaca, multiple choice, ...), `columns` makes it
a `Question`. Nothing here knows what a stage is.
"""

from s1kit.questions.columns import COLUMNS, Reject, question_from, read_questions
from s1kit.questions.files import RawRow, find_files, read_rows_of

__all__ = ["COLUMNS", "RawRow", "Reject", "find_files", "question_from", "read_questions", "read_rows_of"]
