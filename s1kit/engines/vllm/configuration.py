"""Where the vLLM plugin runs: whether it can be exact there, and with which thinking format. Imports no vLLM.

s1kit may merely be installed beside a server that has nothing to do with it. So nothing is read and nothing is refused
before a request asks, unless the plugin was asked for with `--logits-processors`: then it is refused at the start.
"""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from s1kit.engines.steering import refuse_unsteerable
from s1kit.errors import InputError
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import load_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer, find_folder

_latest: list[VllmConfiguration] = []
NAME = "s1kit.engines.vllm_plugin:BudgetForcing"


class VllmConfiguration:
    """One vLLM configuration, as far as the plugin is concerned."""

    def __init__(self, vllm_config: Any) -> None:
        self.config = vllm_config
        self._model = vllm_config.model_config
        processors = getattr(self._model, "logits_processors", None) or ()
        self._sees_tokens = bool(processors)
        """vLLM shows sampled tokens to all processors when any was named."""
        self.is_named = NAME in processors
        """Asked for at the command line, and not merely installed."""
        self.is_v2 = bool(getattr(vllm_config, "use_v2_model_runner", False))
        self.context_tokens = int(self._model.max_model_len)

    def refuse_where_inexact(self) -> None:
        """Raises InputError where sampled tokens cannot be followed one by one."""
        if getattr(self.config, "speculative_config", None) is not None:
            raise InputError(
                "budget forcing is not exact under speculative decoding"
                + ("" if self.is_v2 else ", and vLLM's V1 runner leaves its processors out there"),
                where="vllm --speculative-config",
                fix="Start vLLM without speculative decoding, or use s1kit's completions: engine in front of it.",
            )
        scheduler = getattr(self.config, "scheduler_config", None)
        if not self.is_v2 and getattr(scheduler, "async_scheduling", False) and not self._sees_tokens:
            raise InputError(
                "with asynchronous scheduling vLLM's V1 runner hides sampled tokens from a processor that is only "
                "installed",
                where="vllm --logits-processors",
                fix=f"Start vLLM with --logits-processors {NAME}, or with --no-async-scheduling.",
            )

    @cached_property
    def tokens(self) -> TokenFormat:
        """The model's thinking format in its tokenizer's ids. Raises InputError where it cannot be followed."""
        self.refuse_where_inexact()
        tokens = tokens_of(str(self._model.model), str(self._model.tokenizer or self._model.model))
        refuse_unsteerable(tokens)
        return tokens

    def refusal_ids(self, why: Exception) -> list[int]:
        """The ids of a completion that says why a request was refused, and of the end."""
        try:
            tokenizer = FileTokenizer(find_folder(str(self._model.tokenizer or self._model.model)))
        except InputError:
            return [_eos_of(self._model)]
        eos = tokenizer.eos_token_id
        said = tokenizer.encode(f"s1kit refused this request: {why}")
        return [*said, _eos_of(self._model) if eos is None else eos]


def tokens_of(model: str, tokenizer: str) -> TokenFormat:
    """The thinking format of a model, by folders or Hub ids. Raises InputError where none is known."""
    folder = find_folder(tokenizer)
    own = load_format(Path(model)) if Path(model).is_dir() else None
    found = FileTokenizer(folder)
    return TokenFormat(choose_format(None, own or load_format(folder), found), found, found.more_eos_ids)


def configuration_of_caller() -> VllmConfiguration | None:
    """The configuration of the vLLM whose code is calling; None where it cannot be told.

    vLLM validates a request's parameters with nothing but the parameters. Whether they can be honoured depends on the
    model and on how vLLM was started, which the object that validates knows: it is looked up on the stack.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        config = getattr(owner, "vllm_config", None)
        if owner is not None and getattr(config, "model_config", None) is not None:
            return _configuration_of(config)
        frame = frame.f_back
    return None


def _configuration_of(config: Any) -> VllmConfiguration:
    # Configurations of vLLM cannot be hashed, and a process has one.
    if not _latest or _latest[0].config is not config:
        _latest[:] = [VllmConfiguration(config)]
    return _latest[0]


def _eos_of(model_config: Any) -> int:
    found = getattr(getattr(model_config, "hf_config", None), "eos_token_id", None)
    return int(found[0] if isinstance(found, list) else found or 0)
