"""The tokenizer inside a loaded model, through llama.cpp's own functions: right for every file that it can load."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import llama_cpp

from s1kit.forcing.tokenizer import Templated

_SPECIAL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_ADDED = _SPECIAL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token that is cut out of a text before anything else."""

    content: str
    special: bool


class LlamaTokenizer(Templated):
    """What `formats` needs of a tokenizer. It does not outlive its model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._vocab = llama_cpp.llama_model_get_vocab(model)
        self._num = int(llama_cpp.llama_vocab_n_tokens(self._vocab))
        self._strips_first_space = (
            int(llama_cpp.llama_vocab_type(self._vocab)) == llama_cpp.LLAMA_VOCAB_TYPE_SPM
            and metadata(model, "tokenizer.ggml.add_space_prefix") != "false"
        )
        template = llama_cpp.llama_model_chat_template(model, None)
        super().__init__(
            template.decode("utf-8", "replace") if template else None,
            {"bos_token": self._text(self._id("bos")), "eos_token": self._text(self._id("eos"))},
        )

    @cached_property
    def eos_token_id(self) -> int | None:
        number = self._id("eos")
        return number if number >= 0 else None

    @cached_property
    def more_eos_ids(self) -> tuple[int, ...]:
        """Every token at which llama.cpp ends a generation."""
        return tuple(i for i in range(self._num) if llama_cpp.llama_vocab_is_eog(self._vocab, i))

    @cached_property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        found = {}
        for i in range(self._num):
            attributes = int(llama_cpp.llama_vocab_get_attr(self._vocab, i))
            if attributes & _ADDED:
                found[i] = AddedToken(self._text(i) or "", bool(attributes & _SPECIAL))
        return found

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        raw = text.encode("utf-8", "replace")
        size = len(raw) + 8
        ids = (llama_cpp.llama_token * size)()
        num = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), ids, size, add_special_tokens, True)
        if num < 0:
            ids = (llama_cpp.llama_token * -num)()
            num = llama_cpp.llama_tokenize(self._vocab, raw, len(raw), ids, -num, add_special_tokens, True)
        return list(ids[:num])

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        added = self.added_tokens_decoder if skip_special_tokens else {}
        kept = [i for i in ids if not (i in added and added[i].special)]
        text = b"".join(self._piece(i) for i in kept).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._strips_first_space else text

    def get_vocab(self) -> dict[str, int]:
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> dict[str, int]:
        return {self._text(i) or "": i for i in range(self._num)}

    def _id(self, name: str) -> int:
        return int(getattr(llama_cpp, f"llama_vocab_{name}")(self._vocab))

    def _text(self, number: int) -> str | None:
        if not 0 <= number < self._num:
            return None
        raw: bytes = llama_cpp.llama_vocab_get_text(self._vocab, number)
        return raw.decode("utf-8", "replace")

    def _piece(self, number: int) -> bytes:
        if not 0 <= number < self._num:
            return b""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            num = int(llama_cpp.llama_token_to_piece(self._vocab, number, buffer, size, 0, True))
            if num >= 0:
                return buffer.raw[:num]
            size = -num


def metadata(model: Any, key: str) -> str | None:
    """A value of the file's metadata as text; None where there is none, or where it is an array."""
    name = key.encode()
    probe = ctypes.create_string_buffer(1)
    length = int(llama_cpp.llama_model_meta_val_str(model, name, probe, 1))
    if length < 0:
        return None
    buffer = ctypes.create_string_buffer(length + 1)
    llama_cpp.llama_model_meta_val_str(model, name, buffer, length + 1)
    return buffer.value.decode("utf-8", "replace")
