"""The engine `llama.cpp:`: a GGUF file decoded in this process, several requests at once, with exact budget forcing.

Like the transformers engine it looks at every sampled token before the token enters the context. A file that
`s1kit export` wrote brings its tokenizer and thinking format; for another file they are read from its own metadata.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from s1kit.engines.base import BatchEngine
from s1kit.engines.llama_cpp.gguf import FILE_KEY
from s1kit.errors import InputError, MissingExtra
from s1kit.forcing.formats import ThinkingFormat, choose_format, load_format
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer

try:
    import llama_cpp
except ImportError as error:
    raise MissingExtra("the engine llama.cpp:", "llama-cpp-python", extra="llama-cpp") from error

from s1kit.engines.llama_cpp.batch import BATCH_TOKENS, LlamaCppBatch

_MOST_CONTEXT = 8192
"""Tokens of context unless more are asked for: memory is set aside for each request that decodes."""
_SMALL_MODEL = 20_000_000
"""Parameters below which threads cost more than they bring."""


@dataclass
class LlamaCppEngine(BatchEngine):
    """A loaded GGUF file."""

    model: Any
    context: Any
    tokens: TokenFormat
    context_tokens: int
    num_parallel: int

    @cached_property
    def vocabulary_size(self) -> int:
        """Ids that the tokenizer knows; the rest of the output layer is padding."""
        all_ids = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model)))
        return int(min(all_ids, max(self.tokenizer.get_vocab().values()) + 1))

    def decoder(self) -> LlamaCppBatch:
        """A running batch; one at a time, for it owns the cache."""
        return LlamaCppBatch(self.context, self.vocabulary_size, self.num_parallel)

    def close(self) -> None:
        """Free the model's memory."""
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)


def load(
    path: str,
    format: str | ThinkingFormat | None = None,
    context_tokens: int | None = None,
    num_parallel: int = 8,
    num_threads: int | None = None,
) -> LlamaCppEngine:
    """Load a GGUF file. Raises InputError."""
    if not Path(path).is_file():
        fix = "Write one with: s1kit export CHECKPOINT --to FILE.gguf"
        raise InputError(f"no file {path!r}", where=f"llama.cpp:{path}", fix=fix)
    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_quiet, None)
    model = llama_cpp.llama_model_load_from_file(path.encode(), llama_cpp.llama_model_default_params())
    if not model:
        fix = "Check that it is a GGUF model."
        raise InputError("llama.cpp cannot load the file", where=f"llama.cpp:{path}", fix=fix)
    brought = read_file(path)
    room = int(llama_cpp.llama_model_n_ctx_train(model))
    each = context_tokens or min(room, _MOST_CONTEXT)
    settings = llama_cpp.llama_context_default_params()
    settings.n_ctx, settings.n_seq_max = each * num_parallel, num_parallel
    settings.n_batch = settings.n_ubatch = BATCH_TOKENS
    if brought.is_float32:
        # llama.cpp keeps keys and values in half precision unless told otherwise, and its flash attention always does.
        settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    is_small = llama_cpp.llama_model_n_params(model) < _SMALL_MODEL
    settings.n_threads = settings.n_threads_batch = num_threads or (1 if is_small else os.cpu_count() or 1)
    context = llama_cpp.llama_init_from_model(model, settings)
    if not context:
        fix = "Give a smaller context_tokens or num_parallel."
        raise InputError(f"no memory for {num_parallel} contexts of {each} tokens", where=f"llama.cpp:{path}", fix=fix)
    fmt = choose_format(format, brought.format, brought.tokenizer)
    tokens = TokenFormat(fmt, brought.tokenizer, brought.tokenizer.more_eos_ids)
    return LlamaCppEngine(model, context, tokens, each, num_parallel)


@dataclass(frozen=True)
class Brought:
    """What a GGUF file says beside its weights."""

    tokenizer: FileTokenizer
    format: ThinkingFormat | None
    """The thinking format that was exported with it."""
    is_float32: bool


def read_file(path: str) -> Brought:
    """The tokenizer and the thinking format inside a GGUF file. Raises InputError."""
    try:
        from gguf import GGMLQuantizationType, GGUFReader
    except ImportError as error:
        raise MissingExtra("the engine llama.cpp:", "gguf", extra="llama-cpp") from error
    reader = GGUFReader(path)
    if FILE_KEY + "tokenizer.json" not in reader.fields:
        raise InputError(
            "the file was not written by s1kit export, so it brings no tokenizer files",
            where=f"llama.cpp:{path}",
            fix="Export the checkpoint with s1kit export, or serve the file and use completions:.",
        )
    is_float32 = all(t.tensor_type == GGMLQuantizationType.F32 for t in reader.tensors)
    with TemporaryDirectory() as name:
        folder = Path(name)
        for key, value in reader.fields.items():
            if key.startswith(FILE_KEY):
                (folder / Path(key.removeprefix(FILE_KEY)).name).write_bytes(bytes(value.parts[-1]))
        return Brought(FileTokenizer(folder), load_format(folder), is_float32)


_quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
