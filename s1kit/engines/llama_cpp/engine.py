"""The engine `llama.cpp:`: a GGUF file decoded in this process, several requests at once, with exact budget forcing.

Like the transformers engine it looks at every sampled token before the token enters the context. A file that
`s1kit export` wrote brings its tokenizer and thinking format; for any other, llama.cpp's own vocabulary and the file's
chat template are used.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from s1kit.engines.gguf.exporting import FILE_KEY, FILES
from s1kit.engines.gguf.reading import read_gguf
from s1kit.engines.interface import BatchEngine
from s1kit.engines.machine import check_fits
from s1kit.errors import InputError, MissingExtra
from s1kit.forcing.detection import choose_format
from s1kit.forcing.formats import ThinkingFormat, load_format
from s1kit.forcing.plain_text import check_round_trip
from s1kit.forcing.plan import Plan
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer

try:
    import llama_cpp
except ImportError as error:
    raise MissingExtra("the engine llama.cpp:", "llama-cpp-python", extra="llama-cpp") from error

from s1kit.engines.llama_cpp.batch import BATCH_TOKENS, LlamaCppBatch
from s1kit.engines.llama_cpp.vocabulary import LlamaTokenizer, metadata

_MOST_CONTEXT = 8192
"""Tokens of context unless more are asked for: memory is set aside for each request that decodes."""
_SMALL_MODEL = 20_000_000
"""Parameters below which threads cost more than they bring."""
_ERROR = 4
"""ggml's log level of errors."""


@dataclass
class LlamaCppEngine(BatchEngine):
    """A loaded GGUF file."""

    model: Any
    tokens: TokenFormat
    context_tokens: int
    num_parallel: int
    is_float32: bool = False
    num_threads: int | None = None
    where: str = ""
    _context: Any = None
    _room: tuple[int, int] = field(default=(0, 0))
    """Requests and tokens of each that the context was made for."""

    @cached_property
    def vocabulary_size(self) -> int:
        """Ids that the tokenizer knows; the rest of the output layer is padding."""
        all_ids = int(llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model)))
        return int(min(all_ids, max(self.tokenizer.get_vocab().values()) + 1))

    @property
    def context(self) -> Any:
        """llama.cpp's context; made at the first use."""
        return self._context or self._reserve(self.num_parallel, self.context_tokens)

    def running_batch(self) -> LlamaCppBatch:
        """A running batch; one at a time, for it owns the cache."""
        context = self._reserve(self.num_parallel, self.context_tokens)
        return LlamaCppBatch(context, self.vocabulary_size, self.num_parallel)

    def batch_for(self, plans: Sequence[Plan]) -> LlamaCppBatch:
        """A running batch with a cache of the size that these requests need."""
        num = min(self.num_parallel, len(plans))
        # An answer that thinks again may be as long again.
        longest = min(self.context_tokens, 2 * max(plan.total_tokens for plan in plans) + 64)
        return LlamaCppBatch(self._reserve(num, longest), self.vocabulary_size, num)

    def _reserve(self, num: int, each: int) -> Any:
        """A context for `num` requests of `each` tokens; the one there is where that is large enough."""
        if self._context is not None and self._room[0] >= num and self._room[1] >= each:
            return self._context
        self._free_context()
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx, settings.n_seq_max = each * num, num
        settings.n_batch = settings.n_ubatch = BATCH_TOKENS
        if self.is_float32:
            # llama.cpp keeps keys and values in half precision unless told otherwise, and its flash attention always.
            settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
            settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        is_small = llama_cpp.llama_model_n_params(self.model) < _SMALL_MODEL
        settings.n_threads = settings.n_threads_batch = self.num_threads or (1 if is_small else os.cpu_count() or 1)
        context = llama_cpp.llama_init_from_model(self.model, settings)
        if not context:
            fix = "Give a smaller context_tokens or num_parallel."
            raise InputError(f"no memory for {num} contexts of {each} tokens", where=self.where, fix=fix)
        self._context, self._room = context, (num, each)
        return context

    def _free_context(self) -> None:
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None

    def close(self) -> None:
        """Free the model's memory."""
        self._free_context()
        llama_cpp.llama_model_free(self.model)


def load(
    path: str,
    format: str | ThinkingFormat | None = None,
    context_tokens: int | None = None,
    num_parallel: int = 8,
    num_threads: int | None = None,
    max_batch: int | None = None,
    template: Mapping[str, Any] | None = None,
) -> LlamaCppEngine:
    """Load a GGUF file. Raises InputError, with llama.cpp's own complaint where it has one."""
    num_parallel = min(num_parallel, max_batch or num_parallel)
    where = f"llama.cpp:{path}"
    file = Path(path).expanduser()
    if not file.is_file():
        fix = "Write one with: s1kit export CHECKPOINT --to FILE.gguf"
        raise InputError(f"no file {path!r}", where=where, fix=fix)
    check_fits(file.stat().st_size, where, "Take a file of fewer bits a weight, or a smaller model.")
    llama_cpp.llama_backend_init()
    llama_cpp.llama_log_set(_log, None)
    _complaints.clear()
    model = llama_cpp.llama_model_load_from_file(str(file).encode(), llama_cpp.llama_model_default_params())
    if not model:
        architecture = read_gguf(file).architecture  # refuses what is no GGUF file at all
        said = f": {_complaints[0]}" if _complaints else ""
        raise InputError(
            f"llama.cpp {llama_cpp.__version__} cannot load the file, of architecture {architecture!r}{said}",
            where=where,
            fix="Install a newer llama-cpp-python, or take a model of an architecture that it knows.",
        )
    tokenizer, own = _tokenizer(model)
    check_round_trip(tokenizer, where)
    each = context_tokens or min(int(llama_cpp.llama_model_n_ctx_train(model)), _MOST_CONTEXT)
    tokens = TokenFormat(choose_format(format, own, tokenizer, template), tokenizer, tokenizer.more_eos_ids)
    is_float32 = metadata(model, "general.file_type") == "0"
    return LlamaCppEngine(model, tokens, each, num_parallel, is_float32, num_threads, where)


def _tokenizer(model: Any) -> tuple[FileTokenizer | LlamaTokenizer, ThinkingFormat | None]:
    """The tokenizer and thinking format that `s1kit export` put into the file, or the file's own vocabulary."""
    if metadata(model, FILE_KEY + "tokenizer.json") is None:
        return LlamaTokenizer(model), None
    with TemporaryDirectory() as name:
        folder = Path(name)
        for file in FILES:
            if (text := metadata(model, FILE_KEY + file)) is not None:
                (folder / file).write_text(text, encoding="utf-8")
        return FileTokenizer(folder), load_format(folder)


_complaints: list[str] = []
"""What llama.cpp logged as errors while loading."""


def _keep_errors(level: int, text: bytes, data: Any) -> None:
    if level == _ERROR:
        _complaints.append(text.decode("utf-8", "replace").strip().rpartition(": ")[2])


_log = llama_cpp.llama_log_callback(_keep_errors)
