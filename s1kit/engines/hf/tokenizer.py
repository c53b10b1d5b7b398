"""A checkpoint's tokenizer through transformers, held against tokenizer.json and a round trip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, first_line
from s1kit.forcing.plain_text import PROBE, check_round_trip
from s1kit.progress import say


def read_tokenizer(source: str, where: str) -> Any:
    """The tokenizer of a folder or Hub id. Raises InputError where there is none, or where it does not keep text.

    transformers picks a class by the model's type, and some classes rebuild the splitting of text in code: where that
    gives other ids than the folder's tokenizer.json, the file is used, as every other program does.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source)
        if (own := _by_file(source, tokenizer)) is not None:
            tokenizer = own
    except (OSError, ValueError, KeyError) as error:
        fix = "Copy tokenizer.json and tokenizer_config.json of its base model there."
        if os.environ.get("HF_HUB_OFFLINE"):
            fix += " HF_HUB_OFFLINE is set, so the Hub was not asked."
        raise InputError(f"cannot load a tokenizer: {first_line(error)}", where=where, fix=fix) from error
    # Decoding is to give the text of the ids: no space before a full stop is taken out.
    tokenizer.clean_up_tokenization_spaces = False
    check_round_trip(tokenizer, where)
    return tokenizer


def _by_file(source: str, tokenizer: Any) -> Any:
    """The tokenizer of tokenizer.json alone, where transformers' reads a probe differently; None where it does not."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast
    from transformers.utils import cached_file

    path = cached_file(source, "tokenizer.json", _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    expected = Tokenizer.from_file(str(path)).encode(PROBE, add_special_tokens=False).ids
    if list(tokenizer.encode(PROBE, add_special_tokens=False)) == list(expected):
        return None
    say(
        f"{Path(source).name}: {type(tokenizer).__name__} of transformers reads text otherwise than tokenizer.json, "
        "which is used"
    )
    own = PreTrainedTokenizerFast.from_pretrained(source)
    if list(own.encode(PROBE, add_special_tokens=False)) != list(expected):
        raise ValueError(f"transformers reads {path} otherwise than the library tokenizers")
    return own
