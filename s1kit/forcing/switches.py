"""Switches of a chat template: the names that it looks up and that nothing but its caller can set.

Jinja takes a name that nobody set for an empty one, so a misspelled switch changes nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError, meta, nodes

from s1kit.errors import InputError, nearest
from s1kit.forcing.tokenizer import template_environment

RENDERED = frozenset(
    {
        *("messages", "conversation", "tools", "documents", "add_generation_prompt", "continue_final_message"),
        *("tokenize", "chat_template", "bos_token", "eos_token", "pad_token", "unk_token"),
    }
)
"""What the chat itself gives to a template, which is no switch."""


def check_switches(switches: Mapping[str, Any], chat_template: object, where: str) -> None:
    """Raises InputError for a switch that the template does not look at, or that its text turns into the opposite.

    `chat_template`: the source, or sources by name where a tokenizer has several. What cannot be parsed is not judged:
    rendering refuses it.
    """
    known = _names_of(chat_template)
    if known is None:
        return
    for name, value in switches.items():
        if name in RENDERED:
            raise InputError(f"{name!r} is no switch: the chat sets it", where=where, fix="Leave it out.")
        if name not in known.looked_up:
            fix = nearest(name, known.offered) if known.offered else "It has none: leave it out."
            raise InputError(f"the chat template has no switch {name!r}", where=where, fix=fix)
        # Any text is true for a template, unless it compares texts.
        if isinstance(value, str) and value.lower() in ("true", "false") and value not in known.texts:
            fix = f"Write {value.lower()} without quotation marks."
            raise InputError(f"the switch {name} is the text {value!r}, which counts as true", where=where, fix=fix)


def has_switch(chat_template: object, name: str) -> bool:
    """Whether the template looks at the switch; True where it cannot be parsed. `chat_template` as above."""
    known = _names_of(chat_template)
    return known is None or name in known.looked_up


class _Names(NamedTuple):
    looked_up: frozenset[str]
    """What a template looks up in what it is given, also where some branch of it sets the name itself."""
    offered: frozenset[str]
    """Names among them that it never sets, or of which it asks whether they are defined."""
    texts: frozenset[str]
    """Its constants."""


def _names_of(chat_template: object) -> _Names | None:
    """The names of all sources together; None where one cannot be parsed."""
    sources = chat_template.values() if isinstance(chat_template, Mapping) else [chat_template]
    try:
        found = [_names(str(source or "")) for source in sources]
    except TemplateSyntaxError:
        return None
    return _Names(*(frozenset().union(*parts) for parts in zip(*found, strict=True)))


@lru_cache(maxsize=8)
def _names(source: str) -> _Names:
    tree = template_environment().parse(source)
    looked_up = meta.find_undeclared_variables(tree) - RENDERED
    stored = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
    asked = {
        node.node.name
        for node in tree.find_all((nodes.Test, nodes.Filter))
        if node.name in ("defined", "undefined", "default", "d") and isinstance(node.node, nodes.Name)
    }
    texts = frozenset(node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))
    return _Names(frozenset(looked_up), frozenset(looked_up - (stored - asked)), texts)
