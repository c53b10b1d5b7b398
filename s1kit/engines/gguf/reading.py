"""Reads a GGUF file: its metadata at once, its tensors one at a time.

The layout is that of the format's specification, versions 2 and 3 (docs/gguf.md of ggml). The reader of the package
`gguf` makes several arrays a string and takes 10 CPU seconds for a vocabulary of 150,000; this one takes 0.4.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s1kit.errors import InputError, MissingExtra

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Value types of the specification as `struct` codes; 8 is a string, 9 an array."""
_STRING, _ARRAY = 8, 9
_PER_DEVICE = "Give the path of a GGUF model file (of the first part, where a model is split)."


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where a tensor lies and what its bytes are."""

    name: str
    shape: tuple[int, ...]
    """As in torch: the slowest dimension first."""
    kind: int
    """ggml's number of the data type."""
    start: int
    """Offset in the file, in bytes."""


@dataclass(frozen=True)
class GgufFile:
    """An open GGUF file."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]

    @property
    def architecture(self) -> str:
        return str(self.metadata.get("general.architecture", ""))

    def value(self, key: str, default: Any = None) -> Any:
        """A value of the architecture's own section, e.g. `block_count`."""
        return self.metadata.get(f"{self.architecture}.{key}", default)

    def array(self, name: str) -> Any:
        """One tensor as a float32 array, dequantised. Raises MissingExtra, InputError for an unknown data type."""
        try:
            import numpy as np
            from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize
        except ImportError as error:
            raise MissingExtra("reading the weights of a GGUF file", "gguf", extra="gguf") from error
        info = self.tensors[name]
        try:
            kind = GGMLQuantizationType(info.kind)
            block, size = GGML_QUANT_SIZES[kind]
        except (ValueError, KeyError) as error:
            fix = "Install a newer gguf package, or use the engine llama.cpp:."
            raise InputError(
                f"tensor {name!r} has data type {info.kind}, which the installed gguf does not know",
                where=str(self.path),
                fix=fix,
            ) from error
        *rows, width = info.shape or (1,)
        num_bytes = width // block * size
        for length in rows:
            num_bytes *= length
        raw = np.fromfile(self.path, dtype=np.uint8, count=num_bytes, offset=info.start)
        if len(raw) < num_bytes:
            raise InputError(f"tensor {name!r} is cut off", where=str(self.path), fix="Fetch the file again.")
        try:
            values = dequantize(raw.reshape(*rows, width // block * size), kind)
        except NotImplementedError as error:
            fix = "Use the engine llama.cpp:, or a file in Q8_0, Q4_K_M, F16 or BF16."
            raise InputError(
                f"tensor {name!r} is {kind.name}, which the installed gguf cannot dequantise",
                where=str(self.path),
                fix=fix,
            ) from error
        return np.asarray(values, dtype=np.float32).reshape(info.shape)


def read_gguf(path: Path) -> GgufFile:
    """The metadata and the places of the tensors. Raises InputError for what is no GGUF file, or a damaged one."""
    where = str(path)
    if not path.is_file():
        raise InputError(f"there is no file {where!r}", where=where, fix=_PER_DEVICE)
    if path.stat().st_size < 24:
        raise InputError("the file is no GGUF model", where=where, fix=_PER_DEVICE)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise InputError("the file is no GGUF model", where=where, fix=_PER_DEVICE)
        try:
            return _Cursor(data).whole_file(path)
        except (struct.error, UnicodeDecodeError, KeyError, IndexError, ValueError) as error:
            raise InputError("the GGUF file is damaged or cut off", where=where, fix="Fetch it again.") from error


class _Cursor:
    """Reads values one after the other."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 4

    def whole_file(self, path: Path) -> GgufFile:
        version = self._scalar(4)
        if version not in (2, 3):
            fix = "Convert it with a present llama.cpp; big-endian files are not read."
            raise InputError(f"the file is of GGUF version {version}, which is not read here", where=str(path), fix=fix)
        num_tensors, num_values = self._scalar(10), self._scalar(10)
        metadata = {}
        for _ in range(num_values):
            key = self._string()
            metadata[key] = self._value(self._scalar(4))
        tensors = [self._tensor() for _ in range(num_tensors)]
        alignment = int(metadata.get("general.alignment", 32))
        base = -(-self._at // alignment) * alignment
        placed = {t.name: TensorInfo(t.name, t.shape, t.kind, base + t.start) for t in tensors}
        return GgufFile(path, metadata, placed)

    def _tensor(self) -> TensorInfo:
        name, num_dimensions = self._string(), self._scalar(4)
        shape = tuple(self._scalar(10) for _ in range(num_dimensions))[::-1]
        return TensorInfo(name, shape, self._scalar(4), self._scalar(10))

    def _scalar(self, kind: int) -> Any:
        code = "<" + _SCALARS[kind]
        (value,) = struct.unpack_from(code, self._data, self._at)
        self._at += struct.calcsize(code)
        return value

    def _string(self) -> str:
        length = self._scalar(10)
        start, self._at = self._at, self._at + length
        if self._at > len(self._data):
            raise IndexError
        return self._data[start : self._at].decode("utf-8")

    def _value(self, kind: int) -> Any:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._scalar(kind)
        element, length = self._scalar(4), self._scalar(10)
        if element == _STRING:
            return self._strings(length)
        if element == _ARRAY:
            return [self._value(_ARRAY) for _ in range(length)]
        code = f"<{length}{_SCALARS[element]}"
        values = list(struct.unpack_from(code, self._data, self._at))
        self._at += struct.calcsize(code)
        return values

    def _strings(self, length: int) -> list[str]:
        data, at, unpack, found = self._data, self._at, struct.Struct("<Q").unpack_from, []
        for _ in range(length):
            start = at + 8
            at = start + unpack(data, at)[0]
            found.append(data[start:at])
        if at > len(data):
            raise IndexError
        self._at = at
        return [raw.decode("utf-8", "replace") for raw in found]
