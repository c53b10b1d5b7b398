"""Functions of the user's own in a recipe: `module:function`, or the name of an entry point of an installed package.

A module is looked for beside the recipe's command (the current folder) and among what is installed. The groups of
entry points are `s1kit.quality`, `s1kit.selection`, `s1kit.domains`, `s1kit.teacher`, `s1kit.benchmark`,
`s1kit.grader` and `s1kit.format`. References stand in recipes and on the command line; none is taken from data.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

from s1kit.errors import InputError, nearest

Kind = Literal["quality", "selection", "domains", "teacher", "benchmark", "grader", "format"]


def load_extension(reference: str, kind: Kind, where: str) -> Callable[..., Any] | None:
    """The function that a reference names; None where it is neither `module:function` nor an entry point.

    Raises InputError for a module that cannot be imported, for one without that function, and for a name that two
    packages offer.
    """
    offered = {entry.value: entry for entry in entry_points(group=f"s1kit.{kind}", name=reference)}
    if len(offered) > 1:
        given = " and ".join(f"{value} ({entry.dist.name if entry.dist else '?'})" for value, entry in offered.items())
        fix = f"Write one of them instead: {', '.join(offered)}."
        raise InputError(f"{reference!r} is offered by two packages: {given}", where=where, fix=fix)
    if offered:
        reference = next(iter(offered))
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
    except Exception as error:  # whatever the user's module raises
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = (
            f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else f"{last.filename}:{last.lineno}"
        )
        raise InputError(
            f"{module_name!r} cannot be imported: {type(error).__name__}: {error} ({place})",
            where=where,
            fix="Correct the module, or install what it imports.",
        ) from error
    finally:
        sys.path.remove("")
    if not hasattr(module, name):
        known = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise InputError(f"{module_name!r} has no {name!r}", where=where, fix=nearest(name, known))
    return _callable(getattr(module, name), reference, where)


def _callable(found: Any, reference: str, where: str) -> Callable[..., Any]:
    if not callable(found):
        raise InputError(f"{reference!r} is no function", where=where, fix="Name a function as module:function.")
    function: Callable[..., Any] = found
    return function
