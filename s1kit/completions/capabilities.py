"""What a kind of completions server takes and returns, and what it calls the settings of a request.

A setting that a request leaves out is filled in by the server: llama.cpp's server keeps the 40 likeliest tokens and
penalises repetition, vLLM takes the model's generation settings, transformers serve does not sample at all.
`neutral_settings` therefore states every setting that a server knows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from s1kit.errors import InputError
from s1kit.forcing.request import Request
from s1kit.forcing.segment_driver import Complete
from s1kit.forcing.token_format import TokenFormat

Seam = Literal["ids", "text"]
"""What crosses from one completion of a request to the next."""
Vocabulary = Literal["openai", "open", "transformers"]
"""`openai`: OpenAI's fields alone, which have no top-k. `open`: also those of vLLM, SGLang and llama.cpp.
`transformers`: one field, `generation_config`, with transformers' own settings as JSON."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one kind of server takes and returns."""

    name: str
    takes_ids: bool
    """Prompts may be token ids."""
    returns_ids: bool
    """`return_token_ids` is honoured, and the reply says which id stopped it."""
    names_stop_ids: bool
    """The ids that stop a completion can be named, so that a delimiter need not show in the text."""
    vocabulary: Vocabulary
    features: frozenset[str]
    """What a request may ask for, among `logprobs`, `min_p`, `response_format`, `structural_tag` (a kind of that, by
    which calls are held to a form) and `top_k`."""


_ALL = frozenset({"logprobs", "min_p", "response_format", "top_k"})
DIALECTS: dict[str, Dialect] = {
    d.name: d
    for d in (
        Dialect("vllm", True, True, True, "open", _ALL | {"structural_tag"}),
        Dialect("sglang", True, True, True, "open", _ALL),
        Dialect("llama.cpp", False, False, False, "open", _ALL),
        Dialect("transformers", False, False, True, "transformers", frozenset({"min_p", "top_k"})),
        # It accepts the fields of `open`, but whether it heeds them is not known, so none of them is promised.
        Dialect("open", False, False, False, "open", frozenset({"logprobs"})),
        Dialect("plain", False, False, False, "openai", frozenset({"logprobs"})),
    )
}
OLDER = {"sglang": Dialect("sglang", True, False, True, "open", _ALL)}
"""What a kind was before: SGLang has `return_token_ids` for completions in 0.5.23; a version that does not return them
gives text."""
OWNERS = {"vllm": "vllm", "sglang": "sglang", "llamacpp": "llama.cpp", "me": "llama.cpp"}
"""What `/v1/models` of each kind says in `owned_by`; `me` is llama-cpp-python's server."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is known about one server."""

    dialect: Dialect
    adds_bos: bool = False
    """It puts the token that begins a sequence before every text prompt."""

    @property
    def seam(self) -> Seam:
        """`ids` where transcripts are exact; `text` where what comes back is tokenised again."""
        return "ids" if self.dialect.takes_ids and self.dialect.returns_ids else "text"


def neutral_settings(dialect: Dialect, request: Request) -> dict[str, float]:
    """A request's sampling settings, the others at neutral values, so that no default of a server's applies."""
    settings: dict[str, float] = {"temperature": request.temperature, "top_p": request.top_p}
    if request.temperature:
        settings["seed"] = request.seed
    if dialect.vocabulary == "openai":
        return settings
    settings["top_k"] = request.top_k
    if dialect.vocabulary == "transformers":
        return settings
    neutral = {"min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    # The same thing under vLLM's name and under llama.cpp's.
    return settings | neutral | {"repetition_penalty": 1.0, "repeat_penalty": 1.0}


def sampling_fields(dialect: Dialect, settings: Mapping[str, float], ask: Complete) -> dict[str, Any]:
    """The settings of one completion as fields of its body. A seed is replaced by the completion's own."""
    fields: dict[str, Any] = dict(settings)
    seed = {"seed": ask.request_seed} if fields.pop("seed", None) is not None else {}
    if dialect.name == "sglang" and fields.get("top_k") == 0:
        fields["top_k"] = -1  # its way to say that there is no limit; it refuses 0
    if dialect.vocabulary != "transformers":
        return fields | seed
    temperature = fields.pop("temperature", None)
    own: dict[str, Any] = {"eos_token_id": sorted(ask.stop_ids)}
    if temperature is not None:
        own["do_sample"] = temperature > 0
    if temperature == 0:
        # transformers warns about settings that greedy decoding does not use.
        fields = {k: v for k, v in fields.items() if k == "top_k"}
    elif temperature is not None:
        own["temperature"] = temperature
    return {"generation_config": json.dumps(own | fields)} | seed


def check_visible(tokens: TokenFormat, dialect: Dialect, where: str) -> None:
    """Raises InputError where a delimiter would not show: servers leave special tokens out of their text."""
    if dialect.names_stop_ids:
        return
    added = getattr(tokens.tokenizer, "added_tokens_decoder", {})
    for what, ids in (
        ("the end of thinking", tokens.end_ids[:1]),
        ("an end of the answer", sorted(tokens.answer_stop_ids - tokens.eos_ids)),
    ):
        if any(getattr(added.get(i), "special", False) for i in ids):
            raise InputError(
                f"a server that sends only text (kind {dialect.name}) does not show {what} of format "
                f"{tokens.format.name!r}, which begins with a special token",
                where=where,
                fix="Serve the model with vLLM or SGLang, which stop at token ids, or load it in this process.",
            )
