"""Loads what `train.base` names: tokenizer, thinking format, config and weights."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s1kit.engines.hf.tokenizer import read_tokenizer
from s1kit.errors import InputError, MissingExtra, first_line
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import ThinkingFormat, find_format, load_format
from s1kit.forcing.plain_text import check_round_trip
from s1kit.recipe import Train
from s1kit.train.reference import WITH_ANOTHER_TOOL, base_folder, check_config
from s1kit.train.shapes import SHAPES

if TYPE_CHECKING:
    import torch


def load_format_and_tokenizer(train: Train) -> tuple[ThinkingFormat, Any]:
    """The thinking format to train and the tokenizer, with a chat template. Raises InputError where they do not fit."""
    named = find_format(train.format) if train.format else None
    tokenizer = load_tokenizer(train.base, train.tokenizer, named)
    folder = Path(base_folder(train.base)[1]).expanduser()
    own = load_format(folder) if named is None and folder.is_dir() else None
    fmt = choose_format(train.format or None, own, tokenizer, train.template)
    if not getattr(tokenizer, "chat_template", None) and fmt.chat_template:
        tokenizer.chat_template = fmt.chat_template
    return fmt, tokenizer


def load_tokenizer(base: str, own: str, fmt: ThinkingFormat | None) -> Any:
    """The base's tokenizer, or the one of folder or file `own`; without a chat template it gets the format's."""
    from transformers import PreTrainedTokenizerFast

    kind, folder = base_folder(base)
    on_hub = own.startswith("hf:")
    source = own.removeprefix("hf:") or folder
    path = Path(source).expanduser()
    if kind == "random" and not own and not path.is_dir():
        raise InputError(
            f"shape {folder!r} has no tokenizer", where="train.tokenizer", fix="Give a folder or a tokenizer.json."
        )
    if own and not on_hub and not path.exists():
        fix = "Give a folder, a tokenizer.json(.gz) or hf:<Hub id>."
        raise InputError(f"there is no {own}", where="train.tokenizer", fix=fix)
    if path.is_file():
        from tokenizers import Tokenizer

        raw = path.read_bytes()
        parsed = Tokenizer.from_str((gzip.decompress(raw) if path.suffix == ".gz" else raw).decode("utf-8"))
        tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=parsed, eos_token=fmt.answer_end if fmt else None)
        check_round_trip(tokenizer, own)
    else:
        tokenizer = read_tokenizer(source, source)
    if not getattr(tokenizer, "chat_template", None) and fmt is not None and fmt.chat_template:
        tokenizer.chat_template = fmt.chat_template
    return tokenizer


def load_config(base: str, tokenizer: Any) -> Any:
    """The transformers config of the base. Raises InputError for what the trainer cannot do."""
    from transformers import AutoConfig, AutoModelForCausalLM, Qwen2Config

    kind, folder = base_folder(base)
    if kind == "random" and folder in SHAPES:
        config: Any = Qwen2Config(**SHAPES[folder].qwen2_config())
        config.eos_token_id = tokenizer.eos_token_id
    else:
        try:
            config = AutoConfig.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot load a model: {first_line(error)}", where=folder, fix="Check the folder or Hub id."
            ) from error
    check_config(config.to_dict(), len(tokenizer))
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise InputError(
            f"transformers has no language model of type {config.model_type!r}", where=folder, fix=WITH_ANOTHER_TOOL
        )
    return config


def build(config: Any, dtype: torch.dtype) -> Any:
    """A model of that config with this package's attention, without weights where the default device is `meta`.

    `dtype` is the parameters'; the angles of rotary positions stay float32, or far positions would be rounded away.
    """
    from transformers import AutoModelForCausalLM

    from s1kit.train import attention

    attention.register()
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.NAME, dtype=dtype)
    return model.train()


def load_weights(base: str, config: Any, dtype: torch.dtype, seed: int) -> Any:
    """The whole base in main memory: read, or drawn with the seed."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    from s1kit.train import attention

    kind, folder = base_folder(base)
    torch.manual_seed(seed)
    if kind == "random":
        return build(config, dtype)
    attention.register()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, attn_implementation=attention.NAME, use_safetensors=True
        )
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot load the model: {first_line(error)}", where=folder, fix="Check the folder or Hub id."
        ) from error
    return model.train()


def require_torch() -> None:
    """Raises MissingExtra before anything else is done; silences the library's own progress bars."""
    try:
        import torch  # noqa: F401
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("fine-tuning", "transformers", extra="train") from error
    logging.disable_progress_bar()
