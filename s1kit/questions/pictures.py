"""Questions that need a picture, which no model here is shown."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.names import plain_name

_COLUMNS = re.compile(
    r"(?:decoded|question|input)?(?:image|picture|figure|photo)s?(?:path|file|bytes)?\d{0,2}|pixelvalues"
)
_FILE = re.compile(r"(?!https?:)\S+\.(?:png|jpe?g|gif|webp|bmp|tiff?)", re.IGNORECASE)
_MARK = re.compile(r"\A\s*<image>|<image>\s*\Z|<image[ _]?\d+>")
"""The place of a picture; `<image>` amid a text may be XML."""


def refuse_pictures(row: Mapping[str, Any], text: str) -> None:
    """Raises InputError for a row with a picture, or whose question marks the place of one (LLaVA, MMMU)."""
    column = next((str(c) for c, value in row.items() if _COLUMNS.fullmatch(plain_name(c)) and _is_picture(value)), "")
    if column or _MARK.search(text):
        raise InputError(
            f"the question needs the picture in {column!r}" if column else "the question needs a picture",
            where=column or "text",
            fix="Only text can be asked: leave such rows out with keep, or, where the text is enough, name its column: "
            'columns = { text = "..." }.',
        )


def _is_picture(value: Any) -> bool:
    if isinstance(value, Mapping):  # as `datasets` stores one
        return any(value.get(name) for name in ("bytes", "path", "src"))
    if isinstance(value, list):
        return any(map(_is_picture, value))
    if isinstance(value, bytes):
        return bool(value)
    return isinstance(value, str) and (value.startswith("data:image") or _FILE.fullmatch(value.strip()) is not None)
