"""Fingerprints of models on this machine: they show whether a reference still names the same weights.

The name of a folder says nothing about what lies in it: a training that is repeated writes its weights under the same
path. Times of files are no sign, since a copy changes them; names and sizes are none, since fine-tuning keeps both.
So contents count, but of large files only a thousandth is read: training changes whole matrices, and each matrix of a
large model is longer than the distance between two of the pieces.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from s1kit.engines.references import read_reference

WHOLE = 64 * 2**20
"""Bytes up to which a file is read as a whole."""

PIECE = 1024
"""Bytes of a piece of a larger file."""

_STEP = 2**20
_MOST_PIECES = 16_384
"""Pieces of all files together, about: a second or two on a disk, where loading so many gigabytes takes minutes."""

_ON_DISK = ("hf", "vllm", "llama.cpp", "scripted")

_SPLIT = re.compile(r"-\d{5}(-of-\d{5}\.gguf)$")

_FILES = (
    "*.safetensors",
    "*.gguf",
    "pytorch_model*.bin",
    "*.index.json",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "thinking_format.json",
    "tokenizer*.json",
    "*.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template*",
)
"""What a model's replies depend on. Reports, cards and exit rules lie in such folders too and change none."""


def fingerprint(reference: str) -> str:
    """64 hexadecimal digits of the files that a model reference names; empty where it names none on this machine.

    Files up to 64 MiB count as a whole; of larger ones their size, their beginning and a piece of 1 KiB every MiB
    (rarer in models above 16 GiB). An edit between the pieces, such as that of a single row of the embeddings, is not
    seen. What is behind a server or on the Hub is not looked at.
    """
    parsed = read_reference(reference)
    if parsed.scheme not in _ON_DISK or not parsed.target:
        return ""
    paths = _model_files(Path(parsed.target).expanduser())
    step = max(_STEP, sum(path.stat().st_size for path in paths) // _MOST_PIECES)
    digest = hashlib.sha256()
    for path in paths:
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        _add(digest, path, step)
    return digest.hexdigest() if paths else ""


def fingerprints(references: Iterable[str]) -> dict[str, str]:
    """The models among the references that lie on this machine, each with its fingerprint."""
    found = ((reference, fingerprint(reference)) for reference in dict.fromkeys(references))
    return {reference: hashed for reference, hashed in found if hashed}


def _model_files(place: Path) -> Sequence[Path]:
    """The files of a checkpoint folder by name; or the one file, with those that a split GGUF file goes on in."""
    if place.is_file():
        split = _SPLIT.search(place.name)
        return [place] if split is None else sorted(place.parent.glob(f"{place.name[: split.start()]}-?????{split[1]}"))
    return sorted({path for pattern in _FILES for path in place.glob(pattern) if path.is_file()})


def _add(digest: hashlib._Hash, path: Path, step: int) -> None:
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        if size <= WHOLE:
            digest.update(file.read())
            return
        for start in range(0, size, step):
            file.seek(start)
            digest.update(file.read(PIECE))
