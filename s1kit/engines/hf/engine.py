"""The engine `hf:`: any causal transformers model, decoded by our own batched loop with exact budget forcing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from s1kit.errors import InputError, MissingExtra, first_line
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import ThinkingFormat, load_format
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Sampling
from s1kit.forcing.token_format import TokenFormat
from s1kit.progress import say

try:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.utils import logging as transformers_logging
except ImportError as error:
    raise MissingExtra("the engine hf:", error.name or "transformers", extra="torch") from error

from s1kit.engines.gguf.unpacking import is_gguf, unpacked
from s1kit.engines.hf.attention import ALL_SEE_ALL, WITH_ANOTHER_ENGINE, Windows, find_windows
from s1kit.engines.hf.batch import HfBatch
from s1kit.engines.hf.passes import check_steps
from s1kit.engines.hf.tokenizer import read_tokenizer
from s1kit.engines.interface import BatchEngine
from s1kit.engines.machine import can_compute, check_fits, free_bytes, memory_size, try_out, why_unused
from s1kit.engines.references import check_dtype, looks_local

_SMALL_MODEL = 20_000_000
"""Parameters below which threads cost more than they bring."""

_MEMORY_PARTS = 4
"""On a CPU, keys and values may take one part in so many of what the weights leave: other processes may do the same."""


@dataclass(frozen=True)
class TransformersEngine(BatchEngine):
    """A loaded model. `generate` decodes a list of requests; `running_batch` lets others join as they come."""

    takes_grammar: ClassVar[bool] = True
    measures_answers: ClassVar[bool] = True

    model: Any
    tokens: TokenFormat
    context_tokens: int
    max_batch: int = 256
    """Rows that decode together, where memory allows it."""
    memory_bytes: int = 2**31
    """Most that keys and values of the running rows may take; how many that are depends on how long they are now."""
    token_bytes: int = 1
    """Bytes of keys and values for one token, all layers."""
    vocabulary_size: int = 0
    windows: Windows = ALL_SEE_ALL
    cuda_graphs: bool = True
    """Whether a card's decoding steps are recorded; without, each kernel is sent by itself."""
    num_threads: int | None = None
    """Threads of a step on a CPU; None: as many as torch takes."""

    @property
    def sampling(self) -> Sampling:
        config = self.model.generation_config
        return Sampling.of(config.to_diff_dict() if config is not None else {})

    def running_batch(self, longest: int | None = None, num_requests: int = 0) -> HfBatch:
        """An empty running batch.

        On a card memory is allocated at once where the number of requests and the tokens of the `longest` are known and
        it holds them all; elsewhere it grows with them.
        """
        memory_tokens = self.memory_bytes // self.token_bytes
        rows = min(num_requests, self.max_batch)
        is_all = longest is not None and self.model.device.type == "cuda" and rows * longest <= memory_tokens
        expected = (rows, longest or 0) if is_all else (0, 0)
        return HfBatch(
            self.model,
            self.vocabulary_size,
            self.max_batch,
            expected=expected,
            tokens=self.tokens,
            memory_tokens=memory_tokens,
            cuda_graphs=self.cuda_graphs,
            windows=self.windows,
            num_threads=self.num_threads,
        )

    def batch_for(self, plans: Sequence[Plan]) -> HfBatch:
        """A running batch for these requests."""
        return self.running_batch(max(plan.total_tokens for plan in plans), len(plans))

    def order(self, plans: Sequence[Plan]) -> Sequence[Plan]:
        """The longest first, so that the batch stays full to the end; equal prompts together, to be shared."""
        longest: dict[tuple[int, ...], int] = {}
        for plan in plans:
            longest[plan.prompt_ids] = max(longest.get(plan.prompt_ids, 0), plan.total_tokens)
        return sorted(plans, key=lambda p: (-longest[p.prompt_ids], p.prompt_ids, -sum(s.num_tokens for s in p.prefix)))


def load(
    model: str,
    format: str | ThinkingFormat | None = None,
    device: str | None = None,
    dtype: str | None = None,
    max_batch: int = 256,
    context_tokens: int | None = None,
    template: Mapping[str, Any] | None = None,
    cuda_graphs: bool = True,
) -> TransformersEngine:
    """Load a checkpoint folder, a GGUF file or a model of the Hugging Face Hub: float32 on a CPU, bfloat16 on a GPU.

    The thinking format is the given one, else that of the folder's `thinking_format.json`, else the one that the
    tokenizer's own tokens point to. Raises InputError.
    """
    transformers_logging.disable_progress_bar()
    place = device or ("cuda" if can_compute() else "cpu")
    if device is None and (why := why_unused()):
        say(f"hf: torch cannot use this machine's card, so it decodes on the CPU: {why}")
    _check_device(place, model)
    kind = _dtype(dtype or (card_dtype(place) if place.startswith("cuda") else "float32"), model)
    if is_gguf(model):
        model = str(unpacked(model))
    check_folder(model)
    if Path(model).is_dir():
        needed = weight_bytes(Path(model), kind)
        if place == "cpu":
            check_fits(needed, f"hf:{model}", "Give dtype=bfloat16, or a quantised GGUF file to llama.cpp:.")
        elif place.startswith("cuda"):
            check_card(needed, place, f"hf:{model}")
    tokenizer = read_tokenizer(model, f"hf:{model}")
    try:
        kind_of_model = _language_model(AutoConfig.from_pretrained(model))
        loaded = kind_of_model.from_pretrained(model, dtype=kind).to(place).eval() if kind_of_model else None
    except torch.OutOfMemoryError as error:
        # A model of the Hub is not measured beforehand, and another program may have come in between.
        raise _no_room(f"the weights do not fit: {first_line(error)}", f"hf:{model}") from error
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"cannot load a language model: {first_line(error)}", where=f"hf:{model}", fix=_FOLDER
        ) from error
    if loaded is None:
        raise InputError(
            "transformers has no language model of this type", where=f"hf:{model}", fix=WITH_ANOTHER_ENGINE
        )
    fmt = resolve_format(model, tokenizer, format, template)
    return replace(of_model(loaded, tokenizer, fmt, max_batch, context_tokens), cuda_graphs=cuda_graphs)


def _language_model(config: Any) -> Any:
    """The class that loads a model of this config, None where transformers has none that writes text.

    Models of images and text are decoded for text, which is all that this engine takes.
    """
    kinds = (AutoModelForCausalLM, AutoModelForImageTextToText)
    return next((kind for kind in kinds if type(config) in kind._model_mapping), None)


def check_card(needed: int, device: str, where: str) -> None:
    """Raises InputError where weights of so many bytes do not fit into a card's free memory."""
    if needed > (free := free_bytes(device)):
        name = torch.cuda.get_device_name(device)
        raise _no_room(f"the weights take {needed / 1e9:.1f} GB, and {name} has {free / 1e9:.1f} free", where)


def _no_room(what: str, where: str) -> InputError:
    fix = "End what else runs there, give device=cpu, or use vllm: with quantization or over several cards."
    return InputError(what, where=where, fix=fix)


def card_dtype(device: str) -> str:
    """bfloat16, or float16, with a notice, where the card has no bfloat16."""
    with torch.cuda.device(device):
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16"
        name = torch.cuda.get_device_name()
    say(f"hf: {name} has no bfloat16, so it decodes in float16; dtype=float32 rounds less and is slower")
    return "float16"


def of_model(
    model: Any, tokenizer: Any, format: ThinkingFormat, max_batch: int = 256, context_tokens: int | None = None
) -> TransformersEngine:
    """An engine around a model that is already in memory. Raises InputError where it cannot be decoded step by step."""
    windows = find_windows(model)
    weights = list(model.parameters())
    is_small = model.device.type == "cpu" and sum(p.numel() for p in weights) < _SMALL_MODEL
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    more = tuple(eos) if isinstance(eos, list) else (eos,) if isinstance(eos, int) else ()
    size = min(max(tokenizer.get_vocab().values()) + 1, model.get_output_embeddings().weight.shape[0])
    memory = max(0, memory_size() - sum(p.nbytes for p in weights)) // _MEMORY_PARTS
    if model.device.type == "cuda":
        memory = int(free_bytes(model.device) * 0.7)
    token_bytes = check_steps(model, size, windows)
    context = context_tokens or model.config.get_text_config().max_position_embeddings
    tokens = TokenFormat(format, tokenizer, more)
    return TransformersEngine(
        model, tokens, context, max_batch, memory, token_bytes, size, windows, num_threads=1 if is_small else None
    )


_FOLDER = "Give a checkpoint folder (config.json, *.safetensors, tokenizer.json), a GGUF file or a Hub id."


def check_folder(model: str) -> None:
    """InputError when `model` means a folder and is not a checkpoint."""
    path = Path(model)
    if model and not looks_local(model):
        return
    if not model or not path.is_dir():
        raise InputError(f"no folder {model!r}", where=f"hf:{model}", fix=_FOLDER)
    if not (path / "config.json").is_file():
        raise InputError("the folder holds no config.json", where=f"hf:{model}", fix=_FOLDER)
    if not any((path / n).is_file() for n in ("tokenizer.json", "tokenizer_config.json", "tokenizer.model")):
        raise InputError(
            "the checkpoint has no tokenizer", where=f"hf:{model}", fix="Copy its base model's tokenizer files there."
        )


def weight_bytes(folder: Path, dtype: torch.dtype) -> int:
    """Bytes of a checkpoint's weights in a data type, by the size of its files and the type they say they are in."""
    try:
        named = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"config.json is not JSON: {error}", where=str(folder), fix="Fetch it again.") from error
    stored = getattr(torch, str(named.get("dtype") or named.get("torch_dtype") or "bfloat16"), torch.bfloat16)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return size * dtype.itemsize // stored.itemsize


def _dtype(name: str, model: str) -> torch.dtype:
    check_dtype(name, f"hf:{model}")
    found: torch.dtype = getattr(torch, name)
    return found


def _check_device(name: str, model: str) -> None:
    """Raises InputError for a device that torch does not know, or that this machine has not."""
    try:
        try_out(name)
    except (RuntimeError, AssertionError) as error:  # a torch without CUDA asserts
        raise InputError(
            f"the device {name!r} cannot be used: {first_line(error)}",
            where=f"hf:{model}",
            fix="Give cpu, cuda or cuda:<number>, or leave device out.",
        ) from error


def resolve_format(
    model: str, tokenizer: Any, format: str | ThinkingFormat | None, template: Mapping[str, Any] | None = None
) -> ThinkingFormat:
    """The given format, else the checkpoint folder's own, else the one its tokenizer points to."""
    own = load_format(Path(model)) if Path(model).is_dir() and format is None else None
    return choose_format(format, own, tokenizer, template)
