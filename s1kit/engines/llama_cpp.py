"""The engine `llama.cpp:`: a GGUF file decoded in this process, several requests at once, with exact budget forcing.

Like the transformers engine it looks at every sampled token before the token enters the context. A file that
`s1kit export` wrote brings its tokenizer and thinking format; for another file they are read from its own metadata.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from s1kit.engines import OnSegment
from s1kit.engines.gguf import FILE_KEY
from s1kit.engines.planned import Planned
from s1kit.errors import InputError, MissingExtra
from s1kit.formats import ThinkingFormat, choose_format, load_format
from s1kit.records import Generation
from s1kit.request import Request
from s1kit.rows import Row
from s1kit.tokenizer import FileTokenizer
from s1kit.tokens import TokenFormat

try:
    import llama_cpp
    import numpy as np
except ImportError as error:
    raise MissingExtra("the engine llama.cpp:", "llama-cpp-python", extra="llama-cpp") from error

_MOST_CONTEXT = 8192
"""Tokens of context unless more are asked for: memory is set aside for each request that decodes."""
_BATCH_TOKENS = 512
"""Most tokens of one step, over all requests."""
_SMALL_MODEL = 20_000_000
"""Parameters below which threads cost more than they bring."""


@dataclass
class _Slot:
    """One running request: a sequence of llama.cpp's cache."""

    index: int
    row: Row
    random: Random
    pending: deque[int]
    """Ids that are not in the cache yet; at least one."""
    sequence: int
    length: int = 0


@dataclass
class LlamaCppEngine(Planned):
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

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish. All requests are checked before any is decoded."""
        waiting = deque(enumerate([self.plan(r) for r in requests]))
        running: list[_Slot] = []
        free = deque(range(self.num_parallel))
        while waiting or running:
            while waiting and free:
                index, plan = waiting.popleft()
                row = Row(plan)
                running.append(_Slot(index, row, Random(plan.request.seed), deque(row.start()), free.popleft()))
            failure = self._step(running)
            for slot in running:
                for segment in slot.row.new_segments() if on_segment else ():
                    on_segment(slot.index, segment)  # type: ignore[misc]
            done = [s for s in running if s.row.is_done or failure]
            for slot in done:
                running.remove(slot)
                self._forget(slot.sequence, 0)
                free.append(slot.sequence)
                generation = slot.row.generation()
                is_lost = failure and not slot.row.is_done
                yield generation.model_copy(update={"ending": "failed", "note": failure}) if is_lost else generation

    def close(self) -> None:
        """Free the model's memory."""
        llama_cpp.llama_free(self.context)
        llama_cpp.llama_model_free(self.model)

    def _step(self, running: Sequence[_Slot]) -> str:
        """Feed what is pending, at most a batch of it, and sample where nothing is left; returns why it failed."""
        batch = llama_cpp.llama_batch_init(_BATCH_TOKENS, 0, 1)
        try:
            ends: list[tuple[int, _Slot]] = []
            share = max(1, _BATCH_TOKENS // max(1, len(running)))
            for slot in running:
                for _ in range(min(share, len(slot.pending))):
                    at = batch.n_tokens
                    batch.token[at], batch.pos[at] = slot.pending.popleft(), slot.length
                    batch.n_seq_id[at], batch.seq_id[at][0] = 1, slot.sequence
                    batch.logits[at] = not slot.pending
                    batch.n_tokens += 1
                    slot.length += 1
                if not slot.pending:
                    ends.append((batch.n_tokens - 1, slot))
            status = llama_cpp.llama_decode(self.context, batch)
            if status != 0:
                return f"llama_decode answered {status}"
            for at, slot in ends:
                self._sample(slot, at)
        finally:
            llama_cpp.llama_batch_free(batch)
        return ""

    def _sample(self, slot: _Slot, at: int) -> None:
        pointer = llama_cpp.llama_get_logits_ith(self.context, at)
        logits = np.ctypeslib.as_array(pointer, shape=(self.vocabulary_size,))
        ids = slot.row.push(choose(logits, slot.row.plan.request, slot.random))
        if slot.row.drop:
            slot.length -= slot.row.drop
            self._forget(slot.sequence, slot.length)
        slot.pending.extend(ids)

    def _forget(self, sequence: int, start: int) -> None:
        memory = llama_cpp.llama_get_memory(self.context)
        llama_cpp.llama_memory_seq_rm(memory, sequence, start, -1)


def choose(logits: Any, request: Request, random: Random) -> int:
    """One id: the largest at temperature 0, else a draw after temperature, top-k and top-p, in this order."""
    if request.temperature == 0:
        return int(logits.argmax())
    scaled = (logits.astype(np.float64) - logits.max()) / request.temperature
    if request.top_k and request.top_k < len(scaled):
        order = np.argsort(-scaled, kind="stable")
        scaled[order[request.top_k :]] = -np.inf
    probabilities = np.exp(scaled)
    probabilities /= probabilities.sum()
    if request.top_p < 1:
        order = np.argsort(-probabilities, kind="stable")
        before = probabilities[order].cumsum() - probabilities[order]
        beyond = order[(before >= request.top_p) & (np.arange(len(order)) > 0)]
        probabilities[beyond] = 0.0
    cumulative = probabilities.cumsum()
    return min(int(np.searchsorted(cumulative, random.random() * cumulative[-1], side="right")), len(cumulative) - 1)


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
    settings.n_batch = settings.n_ubatch = _BATCH_TOKENS
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
