"""The disk of a training: whether there is room is checked beforehand, and a write that fails is a clear error."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s1kit.errors import InputError, WorkFailed
from s1kit.recipe import Train
from s1kit.train.cost import lora_parameters
from s1kit.train.shapes import Shape

KEEP = 2
"""Complete checkpoints that stay: the newest, and one in case it is damaged."""


@contextmanager
def writing(what: str, where: Path, part: Path | None = None) -> Iterator[None]:
    """Turn an error of writing into WorkFailed, which names `what` and the free space; the unfinished `part` goes."""
    try:
        yield
    except _write_errors() as error:
        free = shutil.disk_usage(where).free
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)
        raise WorkFailed(
            f"could not write {what}, with {free / 1e6:,.1f} MB free: {_reason(error)}",
            where=str(where),
            fix="Free space and run the same command again; the last good checkpoint is kept.",
        ) from error


def _write_errors() -> tuple[type[BaseException], ...]:
    """What writing may raise; the libraries are imported only where something was raised, since torch takes seconds."""
    from safetensors import SafetensorError
    from torch.distributed.checkpoint.api import CheckpointException

    return (OSError, CheckpointException, SafetensorError)


def _reason(error: BaseException) -> str:
    """The line of an error that tells its cause: the system's own, which torch follows with lines of its own."""
    lines = str(error).splitlines() or [type(error).__name__]
    of_system = [line for line in lines if "[Errno" in line]
    return (of_system or lines)[-1].strip()


def needed_bytes(shape: Shape, train: Train, num_steps: int) -> int:
    """Bytes on the disk at its fullest: resumable checkpoints, one more being written, the final folder."""
    final = shape.parameters * (2 if train.dtype == "bfloat16" else 4)
    trained = shape.parameters if train.lora is None else lora_parameters(shape, train.lora.rank)
    state = 3 * trained * (4 if train.layout.master_dtype == "float32" else 2)
    num_saved = (num_steps - 1) // train.save_every
    return final + min(num_saved, KEEP + 1) * state


def check_disk(folder: Path, shape: Shape, train: Train, num_steps: int) -> None:
    """Raises InputError when the folder's disk is too small. What an interrupted call left there counts as free."""
    needed = needed_bytes(shape, train, num_steps)
    there = sum(file.stat().st_size for file in (folder / "resume").rglob("*") if file.is_file())
    free = shutil.disk_usage(folder).free + there
    if free < needed:
        raise InputError(
            f"training needs about {_size(needed)} of disk, and {_size(free)} are free",
            where=str(folder),
            fix="Free space, choose another place with out=..., or raise train.save_every: fewer states are kept.",
        )


def _size(num_bytes: float) -> str:
    """A number of bytes for people, in GB or MB."""
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:,.1f} MB"
