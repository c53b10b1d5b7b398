"""Functions of the user's own in a recipe: `module:function`, or the name of an entry point of an installed package.

A module is looked for beside the recipe's command (the current folder) and among what is installed. The groups of
entry points are `s1kit.quality`, `s1kit.selection`, `s1kit.domains`, `s1kit.teacher`, `s1kit.benchmark`,
`s1kit.grader` and `s1kit.format`. References stand in recipes and on the command line; none is taken from data.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from s1kit.errors import InputError, nearest

Kind = Literal["quality", "selection", "domains", "teacher", "benchmark", "grader", "format"]


def load_extension(reference: str, kind: Kind, where: str) -> Callable[..., Any] | None:
    """The function that a reference names; None where it is neither `module:function` nor an entry point.

    Raises InputError for a module that cannot be imported, and for one without that function.
    """
    for entry in entry_points(group=f"s1kit.{kind}", name=reference):
        return _callable(entry.load(), reference, where)
    module_name, colon, name = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module_name.split("."), name]):
        return None
    sys.path.insert(0, "")
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise InputError(
            f"{module_name!r} cannot be imported: {error}",
            where=where,
            fix=f"Put {module_name}.py into the current folder, or install its package.",
        ) from error
    finally:
        sys.path.remove("")
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise InputError(f"{module_name!r} has no {name!r}", where=where, fix=nearest(name, known))
    return _callable(getattr(module, name), reference, where)


def _callable(found: Any, reference: str, where: str) -> Callable[..., Any]:
    if not callable(found):
        raise InputError(f"{reference!r} is no function", where=where, fix="Name a function.")
    function: Callable[..., Any] = found
    return function
