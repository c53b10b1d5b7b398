"""Resumable checkpoints: sharded, written beside training, trusted only when complete and undamaged.

resume/
  step-00000050/           by torch.distributed.checkpoint; readable with any number of processes
    __0_0.distcp ...
    complete.json          written last: the step, what was trained on what, each file's SHA-256
  .step-00000100.part/     being written, or left by a kill
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint import state_dict_loader as reader
from torch.distributed.checkpoint import state_dict_saver as writer
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from s1kit.errors import InputError
from s1kit.files import hash_file, write_json
from s1kit.progress import say
from s1kit.train.disk import KEEP, writing
from s1kit.train.processes import World

_COMPLETE = "complete.json"
_ONLY_TRAINED = StateDictOptions(ignore_frozen_params=True)


class Checkpoints:
    """The checkpoints of one training, in one folder."""

    def __init__(self, folder: Path, identity: str, world: World) -> None:
        self.folder, self.identity, self.world = folder, identity, world
        self._pending: tuple[int, Path, Future[Any]] | None = None
        if world.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            for left in folder.glob(".step-*.part"):
                shutil.rmtree(left)
        world.barrier()

    def save(self, step: int, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Begin to write the state after `step` steps. Training may go on once this returns."""
        self.wait()
        part = self.folder / f".step-{step:08d}.part"
        state = _state(model, optimizer)
        if dist.is_initialized():
            saving: Any = writer.async_save(state, checkpoint_id=part, process_group=self.world.checkpoint_group)
            self._pending = (step, part, saving)
        else:
            with _one_process_is_meant(), writing("a checkpoint", self.folder, part):
                writer.save(state, checkpoint_id=part, no_dist=True)
            self._complete(step, part)

    def poll(self) -> None:
        """Complete the pending checkpoint if it is written; the main process alone decides, nobody waits."""
        if self._pending and self.world.is_main and self._pending[2].done():
            self._finish_pending()

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._pending:
            self._finish_pending()

    def _finish_pending(self) -> None:
        assert self._pending is not None
        step, part, saving = self._pending
        self._pending = None
        with writing("a checkpoint", self.folder, part):
            saving.result()
        if self.world.is_main:
            self._complete(step, part)

    def _complete(self, step: int, part: Path) -> None:
        """Seal a written checkpoint, give it its name, and let the oldest go."""
        files = [p for p in part.iterdir() if p.is_file()]
        with ThreadPoolExecutor(8) as pool:
            hashes = dict(zip([p.name for p in files], pool.map(hash_file, files), strict=True))
        write_json(part / _COMPLETE, {"step": step, "identity": self.identity, "files": hashes})
        final = self.folder / f"step-{step:08d}"
        if final.exists():
            shutil.rmtree(final)
        part.rename(final)
        for old in sorted(self.folder.glob("step-*"))[:-KEEP]:
            shutil.rmtree(old)

    def load(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest checkpoint that is whole; the number of steps it has seen, 0 when there is none.

        Raises InputError when the checkpoints belong to other settings or other samples.
        """
        step = self.world.same(self._newest() if self.world.is_main else None)
        if step == 0:
            return 0
        state = _state(model, optimizer)
        with _one_process_is_meant():
            reader.load(state, checkpoint_id=self.folder / f"step-{step:08d}", no_dist=not dist.is_initialized())
        set_model_state_dict(model, state["model"], options=StateDictOptions(strict=False))
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=_ONLY_TRAINED)
        return int(step)

    def _newest(self) -> int:
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            damage = _damage(folder)
            if damage:
                say(f"train: checkpoint {folder.name} is not used: {damage}")
                continue
            told = json.loads((folder / _COMPLETE).read_text(encoding="utf-8"))
            if told["identity"] != self.identity:
                raise InputError(
                    "the checkpoint there belongs to other settings or other samples",
                    where=str(folder),
                    fix=f"Delete {self.folder} to start again, or choose another folder.",
                )
            return int(told["step"])
        return 0


@contextmanager
def _one_process_is_meant() -> Iterator[None]:
    """Without the warning that torch.distributed is not in use."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _state(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    return {
        "model": get_model_state_dict(model, options=_ONLY_TRAINED),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=_ONLY_TRAINED),
    }


def _damage(folder: Path) -> str:
    """What is wrong with a checkpoint's files; empty when nothing is."""
    try:
        files: dict[str, str] = json.loads((folder / _COMPLETE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError):
        return "it is incomplete"
    for name, digest in files.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if hash_file(path) != digest:
            return f"{name} is damaged"
    return ""
