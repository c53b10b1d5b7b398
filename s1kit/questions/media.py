"""Questions that need a picture, a recording or a film, which no model here is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from s1kit.errors import InputError
from s1kit.questions.names import plain_name

_COLUMNS = re.compile(
    r"(?:decoded|question|input)?(image|picture|figure|photo|audio|sound|video)s?(?:path|file|bytes)?\d{0,2}|pixelvalues"
)
_FILE = re.compile(
    r"(?!https?:)\S+\.(?:png|jpe?g|gif|webp|bmp|tiff?|mp3|wav|flac|ogg|m4a|opus|mp4|avi|mov|mkv|webm)", re.IGNORECASE
)
_MARK = re.compile(r"\A\s*<(image|audio|video)>|<(image|audio|video)>\s*\Z|<(image)[ _]?\d+>")
"""The place of a picture, recording or film; `<image>` amid a text may be XML."""
_KINDS = {"audio": "recording", "sound": "recording", "video": "film"}


def kind_of_medium(name: str) -> str:
    """What a name such as `input_audio` or `image_url` stands for, in words; empty where it is no medium.

    >>> kind_of_medium("video_url"), kind_of_medium("image"), kind_of_medium("text")
    ('film', 'picture', '')
    """
    found = next((medium for medium in ("image", "audio", "video") if medium in name), "")
    return _KINDS.get(found, "picture") if found else ""


def refuse_media(row: Mapping[str, Any], text: str, column: str) -> None:
    """Raises InputError for a row with a picture or the like, or whose question marks the place of one (LLaVA, MMMU).

    `column` holds the question's text, unless it was put together.
    """
    column = column if column in row else ""
    for name, value in row.items():
        if (found := _COLUMNS.fullmatch(plain_name(name))) and _is_medium(value):
            raise needs_medium(_KINDS.get(found[1], "picture"), str(name), column)
    if mark := _MARK.search(text):
        raise needs_medium(kind_of_medium(mark[1] or mark[2] or mark[3]), "", column)


def needs_medium(kind: str, where: str, text: str = "") -> InputError:
    """The complaint about a question that needs more than text; `text` is the column of its text, where it has one."""
    named = f'; where the text is enough, name its column: columns = {{ text = "{text}" }}' if text else ""
    return InputError(
        f"the question needs the {kind} in {where!r}" if where else f"the question needs a {kind}",
        where=where or text,
        fix=f"Only text can be asked: --allow-rejects goes on without such rows{named}.",
    )


def _is_medium(value: Any) -> bool:
    if isinstance(value, Mapping):  # as `datasets` stores one
        return any(value.get(name) for name in ("bytes", "path", "src"))
    if isinstance(value, list):
        return any(map(_is_medium, value))
    if isinstance(value, bytes):
        return bool(value)
    return isinstance(value, str) and (
        re.match("data:(?:image|audio|video)", value) is not None or _FILE.fullmatch(value.strip()) is not None
    )
