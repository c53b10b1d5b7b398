"""What a trained folder says about itself to other programs: where generation ends, and how a chat is rendered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s1kit.errors import InputError
from s1kit.forcing.formats import ThinkingFormat
from s1kit.train.reference import base_folder

GENERATION_FILE = "generation_config.json"
_PROBE = [{"role": "user", "content": "1+1?"}]


def declare_ends(config: Any, tokenizer: Any, fmt: ThinkingFormat, base: str) -> dict[str, Any]:
    """Put the format's answer end first among the ends of config and tokenizer, and return the generation settings.

    The base's own ends stay valid after it, and its other generation settings (sampling, penalties) are kept as they
    are: a base that ends at `<|endoftext|>` and was trained to end at `<|im_end|>` would otherwise never stop in
    programs that read these files.
    """
    settings = _base_generation(base)
    ends = [fmt.token_id(tokenizer, fmt.answer_end)] if fmt.answer_end else []
    for known in (settings.get("eos_token_id"), config.eos_token_id, tokenizer.eos_token_id):
        ends += known if isinstance(known, list) else [known] if known is not None else []
    ends = list(dict.fromkeys(ends))
    if fmt.answer_end:
        tokenizer.eos_token = fmt.answer_end
    config.eos_token_id = settings["eos_token_id"] = ends if len(ends) > 1 else ends[0] if ends else None
    for name in ("bos_token_id", "pad_token_id"):
        if settings.get(name) is None and (number := getattr(config, name, None)) is not None:
            settings[name] = number
    if settings.get("pad_token_id") is None and ends:
        settings["pad_token_id"] = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    return {name: value for name, value in settings.items() if value is not None}


def declare_template(tokenizer: Any, fmt: ThinkingFormat) -> None:
    """Make the tokenizer's chat template end its prompt as in training: with the format's opening, its switches set.

    The opening is given in training and not learned, so a program that only calls the template must be given it, too.
    `enable_thinking=false` leaves it out. Raises InputError where the template cannot be completed.
    """
    template = tokenizer.chat_template
    if not isinstance(template, str):
        return
    defaults = "".join(
        f"{{%- if {name} is not defined %}}{{%- set {name} = {_literal(value)} %}}{{%- endif %}}"
        for name, value in fmt.template.items()
    )
    asked = {k: v for k, v in fmt.template.items() if k != "enable_thinking"}
    wanted = fmt.prompt_text(tokenizer, _PROBE[0]["content"]) + fmt.open
    opening = (
        "{%- if add_generation_prompt and (enable_thinking is not defined or enable_thinking) %}"
        f"{{{{- {_literal(fmt.open)} }}}}{{%- endif %}}"
    )
    candidates = (defaults + template, defaults + template + opening, defaults + template.rstrip("\n") + opening)
    kept = (*candidates, defaults + template + opening.replace("{%- if", "{% if", 1))
    for candidate in kept:
        if _render(tokenizer, candidate, asked) == wanted:
            tokenizer.chat_template = candidate
            return
    raise InputError(
        f"the chat template cannot be made to end its prompt with {fmt.open!r}",
        where=f"thinking format {fmt.name!r}",
        fix="Write the opening into the chat template of train.base by hand.",
    )


def _render(tokenizer: Any, template: str, switches: dict[str, Any]) -> str:
    options = {"tokenize": False, "add_generation_prompt": True, "chat_template": template}
    return str(tokenizer.apply_chat_template(_PROBE, **options, **switches))


def _literal(value: Any) -> str:
    """A JSON value as jinja writes it."""
    return json.dumps(value, ensure_ascii=False)


def _base_generation(base: str) -> dict[str, Any]:
    """The base's generation settings; empty where it has none."""
    from transformers.utils import cached_file

    kind, folder = base_folder(base)
    if kind == "random" and not Path(folder).is_dir():
        return {}
    found = cached_file(folder, GENERATION_FILE, _raise_exceptions_for_missing_entries=False)
    return dict(json.loads(Path(found).read_text(encoding="utf-8"))) if found else {}
