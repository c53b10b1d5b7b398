"""The examples in docstrings are run, and no docstring starts in a way that cannot be read alone."""

from __future__ import annotations

import ast
import doctest
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest

import s1kit
from s1kit.errors import MissingExtra

PACKAGE = Path(s1kit.__file__).parent


def modules_with_examples() -> list[str]:
    found = []
    for module in pkgutil.walk_packages(s1kit.__path__, "s1kit."):
        path = PACKAGE.parent / module.name.replace(".", "/")
        file = path / "__init__.py" if module.ispkg else path.with_suffix(".py")
        if ">>> " in file.read_text(encoding="utf-8"):
            found.append(module.name)
    return found


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_are_true(name: str) -> None:
    try:
        module = import_module(name)
    except (ModuleNotFoundError, MissingExtra) as error:
        pytest.skip(f"{name} needs what is not installed here: {error}")
    failed, tried = doctest.testmod(module)
    assert tried
    assert not failed


def test_a_docstring_says_what_a_thing_is() -> None:
    """One that begins with "Of" needs the line above it to be understood."""
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
            if isinstance(text, str) and text.startswith(("Of ", "Those ")):
                wrong.append(f"{path.relative_to(PACKAGE)}:{node.lineno} {text.splitlines()[0]}")
    assert not wrong


SAME_THING = frozenset({"BudgetForcing"})
"""Classes of one meaning that two libraries need: the logits processor of transformers and of vLLM."""


def test_a_public_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert {name: found for name, found in places.items() if len(found) > 1 and name not in SAME_THING} == {}
