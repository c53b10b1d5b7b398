"""What a user is told when something is wrong.

    S1kitError                one paragraph: what was wrong, where, what to do
    ├── InputError            the user's mistake; exit status 2, HTTP 400 (also a ValueError)
    │   └── MissingExtra      an optional dependency is not installed
    └── WorkFailed            the work itself failed; exit status 1; what arrived is kept

Anything else that is raised is a bug and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class S1kitError(Exception):
    """An error in three parts.

    >>> str(S1kitError("max_tokens is -1", where="request.budget", fix="Use 0 or more."))
    'max_tokens is -1 (request.budget). Use 0 or more.'
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what = what.rstrip(".")
        """The complaint, with the offending value."""
        self.where = where
        """The place: `file:line`, a field such as `budget.max_tokens`, or empty."""
        self.fix = fix
        """What to do about it."""
        place = f" ({where})" if where else ""
        super().__init__(f"{self.what}{place}. {fix}".strip())

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes the three parts travel, not the sentence."""
        return _rebuilt, (type(self), self.what, self.where, self.fix)


class InputError(S1kitError, ValueError):
    """Something the user gave is wrong; nothing was done and nothing is lost."""


class MissingExtra(InputError):
    """A part that needs an optional dependency was used without it.

    >>> str(MissingExtra("fine-tuning", "torch", extra="train"))
    "fine-tuning needs torch, which is not installed. Install it with: pip install 's1kit[train]'"
    """

    def __init__(self, purpose: str, package: str, *, extra: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            fix=f"Install it with: pip install 's1kit[{extra}]'",
        )


class WorkFailed(S1kitError):
    """The work failed for a reason outside the input: an engine died, every row failed, a disk is full."""


def _rebuilt(kind: type[S1kitError], what: str, where: str, fix: str) -> S1kitError:
    error = kind.__new__(kind)
    S1kitError.__init__(error, what, where=where, fix=fix)
    return error


def nearest(word: str, known: Iterable[str]) -> str:
    """The advice to give for an unknown word: the nearest known one, and all of them.

    >>> nearest("seeed", ["seed", "name"])
    'Did you mean seed? Known: name, seed.'
    """
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    guess = f"Did you mean {close[0]}? " if close else ""
    return f"{guess}Known: {', '.join(names)}."


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing.

    >>> first_line(ValueError("broken\\nand more")), first_line(TimeoutError())
    ('broken', 'TimeoutError')
    """
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
