"""Whether prompts, thinking and answers fit the context of a model whose files are on this machine.

The longest and the shortest of the questions that are known become prompts as the engine makes them: what holds the
longest holds all, and a budget that does not fit the shortest is never reached.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1kit.engines.references import joined, read_reference
from s1kit.errors import InputError
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import load_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.train.reference import base_folder


@dataclass(frozen=True)
class KnownContext:
    """The context of a model, and the tokenizer and format of its prompts where they can be read without loading it."""

    context_tokens: int
    tokens: TokenFormat | None = None

    def prompt_tokens(self, question: str, system: str = "") -> int:
        """Tokens of a question's prompt; 1, the least there can be, where the tokenizer is not known."""
        if self.tokens is None:
            return 1
        return len(self.tokens.format.prompt_ids(self.tokens.tokenizer, question, system or None))

    @property
    def delimiter_tokens(self) -> int:
        """Tokens between thinking and answer."""
        if self.tokens is None or not self.tokens.format.thinks:
            return 0
        return len(self.tokens.lead_ids) + len(self.tokens.end_ids)


def known_context(
    reference: str, *, format: str = "", template: Mapping[str, Any] | None = None
) -> KnownContext | None:
    """The context of a reference: as it states, else as its files on this machine say; None where neither does.

    Raises InputError for a tokenizer or a format that the engine would refuse.
    """
    read = read_reference(reference)
    options = joined(read.options, {"template": template or {}} | ({"format": format} if format else {}), reference)
    folder = Path(base_folder(read.scheme)[1] if read.scheme in ("tiny", "tiny-base") else read.target).expanduser()
    if read.scheme == "completions":
        folder = Path(options.get("tokenizer", "")).expanduser()
    # vLLM's own name for it is taken, too.
    context = options.get("context_tokens") or options.get("max_model_len") or _trained_context(folder)
    if context is None:
        return None
    if not (folder / "tokenizer.json").is_file():
        return KnownContext(int(context))
    tokenizer = FileTokenizer(folder)
    fmt = choose_format(options.get("format"), load_format(folder), tokenizer, options["template"])
    return KnownContext(int(context), TokenFormat(fmt, tokenizer, tokenizer.more_eos_ids))


def _trained_context(folder: Path) -> int | None:
    """The positions that a checkpoint's configuration has."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # Models that see have their language model's settings in a part of their own.
    nested = values.get("text_config")
    found = (nested if isinstance(nested, dict) else values).get("max_position_embeddings")
    return found if isinstance(found, int) else None


def check_prompts(
    model: KnownContext, questions: Sequence[str], where: str, *, system: str = "", room: int = 1
) -> None:
    """Raises InputError where the longest question leaves fewer than `room` tokens, answer included."""
    longest = max(questions, key=len, default="?")
    num = model.prompt_tokens(longest, system)
    if num + room > model.context_tokens:
        said = f"the prompt of {longest[:60]!r} has {num:,} tokens" if model.tokens else "a prompt has a token or more"
        raise InputError(
            f"{said}, which leaves less than the {room:,} needed of a context of {model.context_tokens:,}",
            where=where,
            fix="Take a model with a longer context or a larger context_tokens, or ask for less.",
        )


def check_reply(
    model: KnownContext, questions: Sequence[str], tokens: int, name: str, *, others: int = 0, system: str = ""
) -> None:
    """Raises InputError where a setting asks for more tokens than the shortest question leaves beside `others`."""
    num = model.prompt_tokens(min(questions, key=len, default="?"), system)
    room = model.context_tokens - num - others
    if tokens > room:
        beside = f" and {others:,} for the answer" if others else ""
        raise InputError(
            f"{name.rpartition('.')[2]} is {tokens:,}, and after a prompt of {num:,} tokens{beside} the model's "
            f"context of {model.context_tokens:,} has room for {max(0, room):,}",
            where=name,
            fix=f"Give {room:,} or fewer." if room > 0 else "Take a model with a longer context.",
        )
