"""The thinking formats that are known by name, and those that people and checkpoints bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, nearest
from s1kit.extensions import load_extension
from s1kit.forcing.plain_text import Tokenizer as Tokenizer
from s1kit.forcing.thinking_format import DIRECT as DIRECT
from s1kit.forcing.thinking_format import FORMAT_FILE as FORMAT_FILE
from s1kit.forcing.thinking_format import ThinkingFormat as ThinkingFormat
from s1kit.forcing.thinking_format import encode as encode

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""A chat template for tokenizers that bring none; it adds no system message."""

PLAIN_CHAT = (
    "{% for m in messages %}{{ m['role'].capitalize() + ':\n' + m['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:\n' }}{% endif %}"
)
"""The same for tokenizers without ChatML's tokens."""


_THINK: dict[str, Any] = {"open": "<think>\n", "end": "</think>\n\n"}

FORMATS: dict[str, ThinkingFormat] = {
    f.name: f
    for f in (
        ThinkingFormat(
            name="s1",
            open="<|im_start|>think\n",
            end="<|im_start|>answer\n",
            # A turn marker inside an answer begins something that is not the answer.
            answer_stops=("<|im_start|>",),
            chat_template=CHATML,
        ),
        ThinkingFormat(name="qwen3", **_THINK),
        ThinkingFormat(name="qwq", **_THINK),
        ThinkingFormat(name="deepseek-r1", answer_end="<｜end▁of▁sentence｜>", **_THINK),
        ThinkingFormat(
            name="gpt-oss",
            open="<|channel|>analysis<|message|>",
            lead="",
            end="<|end|><|start|>assistant<|channel|>final<|message|>",
            answer_end="<|return|>",
            answer_stops=("<|end|>",),
        ),
        ThinkingFormat(name="magistral", open="[THINK]", lead="", end="[/THINK]", answer_end="</s>"),
        ThinkingFormat(
            name="gemma4",
            open="<|channel>thought\n",
            lead="",
            end="<channel|>",
            answer_end="<turn|>",
            template={"enable_thinking": True},
        ),
        # For models that know no delimiters as tokens: they are tokenised as text, and matched as text.
        ThinkingFormat(name="think", answer_end="", chat_template=PLAIN_CHAT, **_THINK),
        # What ends its answer is the tokenizer's own end of sequence.
        ThinkingFormat(name=DIRECT, open="", lead="", end="", closing_phrase="", answer_end="", chat_template=CHATML),
    )
}
"""The families that are known; a `thinking_format.json` in a checkpoint's folder adds one."""


def find_format(name: str) -> ThinkingFormat:
    """The format of that name, or what a function `module:function` of the user's returns.

    Raises InputError, listing the known, where there is none.
    """
    if name not in FORMATS and (own := load_extension(name, "format", "thinking format")) is not None:
        found = own()
        if not isinstance(found, ThinkingFormat):
            fix = "Return s1kit.forcing.formats.ThinkingFormat(...)."
            raise InputError(
                f"{name} returned {found!r:.60}, which is no ThinkingFormat", where="thinking format", fix=fix
            )
        return found
    return _known_format(name)


def _known_format(name: str) -> ThinkingFormat:
    if name in FORMATS:
        return FORMATS[name]
    raise InputError(f"unknown thinking format {name!r}", where="thinking format", fix=nearest(name, FORMATS))


def load_format(folder: Path) -> ThinkingFormat | None:
    """The format that a checkpoint's folder carries, or None. Raises InputError where its file is broken."""
    path = folder / FORMAT_FILE
    if not path.is_file():
        return None
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(
            f"the file is not JSON: {error.msg}",
            where=f"{path}:{error.lineno}",
            fix="Correct it, or delete it: the format is then read from the chat template.",
        ) from error
    if not isinstance(values, dict):
        raise InputError(
            "the file is not a JSON object", where=str(path), fix="Write an object with the format's fields."
        )
    return from_mapping(values, where=str(path))


def from_mapping(values: Mapping[str, Any], where: str) -> ThinkingFormat:
    """A format from JSON values; `extends` names a known one to start from. Raises InputError."""
    known = {f.name for f in fields(ThinkingFormat)} | {"extends"}
    for key, value in values.items():
        if key not in known:
            raise InputError(f"unknown field {key!r}", where=where, fix=nearest(key, known))
        _check_field(key, value, where)
    own: dict[str, Any] = {k: tuple(v) if k == "answer_stops" else v for k, v in values.items() if k != "extends"}
    if "extends" in values:
        # A file that came with a model names no code of its own.
        return replace(_known_format(values["extends"]), **own)
    missing = sorted({"name", "open", "end"} - own.keys())
    if missing:
        fix = f"Give it, or extend a known format: {', '.join(FORMATS)}."
        raise InputError(f"field {missing[0]!r} is missing", where=where, fix=fix)
    return ThinkingFormat(**own)


def _check_field(key: str, value: Any, where: str) -> None:
    """Raises InputError for a value of the wrong type."""
    if key == "template":
        if not isinstance(value, Mapping):
            raise InputError(f"template is {value!r}, not an object", where=where, fix="Give names and values.")
    elif key != "answer_stops" and not isinstance(value, str) and not (key == "chat_template" and value is None):
        raise InputError(f"{key} is {value!r}, not a text", where=where, fix="Give a string.")
