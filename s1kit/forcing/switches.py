"""Switches of a chat template: the names that it looks up and that nothing but its caller can set.

Jinja takes a name that nobody set for an empty one, so a misspelled switch changes nothing and says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

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
    sources = chat_template.values() if isinstance(chat_template, Mapping) else [chat_template]
    looked_up: set[str] = set()
    offered: set[str] = set()
    texts: set[object] = set()
    for source in sources:
        try:
            names = _names(str(source or ""))
        except TemplateSyntaxError:
            return
        looked_up, offered, texts = looked_up | names[0], offered | names[1], texts | names[2]
    for name, value in switches.items():
        if name in RENDERED:
            raise InputError(f"{name!r} is no switch: the chat sets it", where=where, fix="Leave it out.")
        if name not in looked_up:
            fix = nearest(name, offered) if offered else "It has none: leave it out."
            raise InputError(f"the chat template has no switch {name!r}", where=where, fix=fix)
        # Any text is true for a template, unless it compares texts.
        if isinstance(value, str) and value.lower() in ("true", "false") and value not in texts:
            fix = f"Write {value.lower()} without quotation marks."
            raise InputError(f"the switch {name} is the text {value!r}, which counts as true", where=where, fix=fix)


@lru_cache(maxsize=8)
def _names(source: str) -> tuple[frozenset[str], frozenset[str], frozenset[object]]:
    """The names that a template looks up in what it is given; those of them that it offers; its constants.

    A name that some branch of the template sets itself is looked up too. It is offered where it is never set, or where
    the template asks whether it is defined.
    """
    tree = template_environment().parse(source)
    looked_up = meta.find_undeclared_variables(tree) - RENDERED
    stored = {node.name for node in tree.find_all(nodes.Name) if node.ctx != "load"}
    asked = {
        node.node.name
        for node in tree.find_all((nodes.Test, nodes.Filter))
        if node.name in ("defined", "undefined", "default", "d") and isinstance(node.node, nodes.Name)
    }
    constants = frozenset(node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str))
    return frozenset(looked_up), frozenset(looked_up - (stored - asked)), constants
