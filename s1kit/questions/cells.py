"""Lists and objects that were written into a cell as text: JSON, or what Python prints for them.

A CSV that pandas wrote holds `['4', '6']` where the data set had a list. Such text is read as a literal; nothing in it
is run.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from s1kit.errors import InputError

_ARRAY = re.compile(r"""\barray\(|^\[\s*(?:'[^']*'|"[^"]*"|[\w.+-]+)(?:\s+(?:'[^']*'|"[^"]*"|[\w.+-]+))+\s*\]$""")
"""What numpy prints for an array: without commas, so that its items cannot be told apart for certain."""


def parse_cell(value: Any, column: str) -> Any:
    """The list or object that a text holds; any other value as it is.

    Raises InputError for text that begins like a list or object and is none.

        >>> parse_cell("['4', '6']", "choices"), parse_cell('{"a": 1}', "meta"), parse_cell("x", "choices")
        (['4', '6'], {'a': 1}, 'x')
    """
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        pass
    if _ARRAY.search(value.strip()):
        raise InputError(
            f"{column!r} is a printed numpy array: {value!r:.60}",
            where=column,
            fix="Save the table as Parquet or JSONL, which keep lists; in pandas: df.to_parquet(...).",
        )
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(
            f"{column!r} is text that is neither a JSON nor a Python list: {value!r:.60}",
            where=column,
            fix="Save the table as Parquet or JSONL, which keep lists.",
        ) from error
