"""`s1kit schema`: recipe settings, columns of rows and fields of a thinking format, from the code that reads them."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from s1kit.forcing.formats import ThinkingFormat
from s1kit.recipe import Recipe, default_of
from s1kit.records import Dropped, Generation, Question, Record, Sample, Segment, Trace, arrow_schema

ROWS: tuple[type[Record], ...] = (Question, Trace, Sample, Generation, Segment, Dropped)


def main(given: argparse.Namespace) -> int:
    if given.json:
        models: dict[str, type[BaseModel]] = {"recipe": Recipe, **{row.__name__.lower(): row for row in ROWS}}
        print(json.dumps({name: model.model_json_schema() for name, model in models.items()}, indent=2))
    else:
        print(page(), end="")
    return 0


def page() -> str:
    """Text of `docs/settings.md`, generated from the recipe's fields."""
    lines = [
        "# Settings and columns",
        "",
        "Written by `s1kit schema > docs/settings.md`; a test compares the two.",
        "",
        "## Recipe",
        "",
        "A recipe is a TOML file with one section a stage. On the command line: `section.key=value`.",
    ]
    for title, model in _sections("", Recipe):
        lines += ["", f"### {title or 'top level'}", "", *_settings(title, model)]
    lines += ["", "## Rows", "", "Columns of the Parquet files. Objects of free form are JSON text."]
    for row in ROWS:
        lines += ["", f"### {row.__name__.lower()}", "", _cell(inspect.getdoc(row) or ""), "", *_columns(row)]
    lines += [
        "",
        "## thinking_format.json",
        "",
        "`extends` names a built-in format whose fields are taken where they are left out.",
        "",
        *_format_fields(),
    ]
    return "\n".join(lines) + "\n"


def _settings(title: str, model: type[BaseModel]) -> Iterator[str]:
    """The table of a section's settings; at the top level the sections are left out, which have tables of their own."""
    yield from ("| key | type | default | meaning |", "|---|---|---|---|")
    told = _docs_of(model)
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_plain(default_of(field))}`"
        if _models_in(field.annotation) and not _is_list(field.annotation):
            if not title:
                continue
            default = "a section"
        yield f"| `{name}` | {_type(field.annotation)} | {default} | {_cell(told.get(name, ''))} |"


def _columns(row: type[Record]) -> Iterator[str]:
    """The table of a record's columns."""
    yield from ("| column | type | meaning |", "|---|---|---|")
    told = _docs_of(row) | {name: inspect.getdoc(getattr(row, name)) or "" for name in row.flat}
    for column in arrow_schema(row):
        kind = re.sub("struct<.*", "struct", str(column.type))
        yield f"| `{column.name}` | {_cell(kind)} | {_cell(told.get(column.name, ''))} |"


def _format_fields() -> Iterator[str]:
    """The table of a thinking format's fields."""
    yield from ("| field | default | meaning |", "|---|---|---|")
    told = _docs_of(ThinkingFormat)
    for entry in dataclasses.fields(ThinkingFormat):
        given = entry.default if entry.default_factory is dataclasses.MISSING else entry.default_factory()
        default = "required" if given is dataclasses.MISSING else f"`{_plain(given)}`"
        yield f"| `{entry.name}` | {default} | {_cell(told.get(entry.name, ''))} |"


def _sections(title: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    yield title, model
    for name, field in model.model_fields.items():
        for inner in _models_in(field.annotation):
            mark = "[]" if _is_list(field.annotation) else ""
            yield from _sections(f"{title}.{name}{mark}".lstrip("."), inner)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def _is_list(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", None) is list


def _docs_of(cls: type) -> dict[str, str]:
    """The docstring under each attribute of a class, inherited ones included."""
    found: dict[str, str] = {}
    for base in (base for base in reversed(cls.__mro__) if base.__module__.startswith("s1kit.")):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for statement, following in zip(tree.body, tree.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
            ):
                found[statement.target.id] = str(following.value.value)
    return found


def _type(annotation: Any) -> str:
    text = annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)
    text = re.sub(r"typing\.|s1kit\.(?:[a-z_]+\.)+", "", text)
    return _cell(re.sub(r"Literal\[(.*?)\]", lambda m: m[1].replace(", ", " or "), text))


def _plain(value: Any) -> str:
    value = value.model_dump() if isinstance(value, BaseModel) else value
    return "none" if value is None else json.dumps(value, ensure_ascii=False, default=str).replace("|", "\\|")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
