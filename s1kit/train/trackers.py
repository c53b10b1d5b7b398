"""TensorBoard and Weights & Biases, for those who want the log there too."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from s1kit.errors import MissingExtra
from s1kit.recipe import Train


class Tracker(Protocol):
    """Takes the lines of the log."""

    def add(self, row: dict[str, float]) -> None:
        """Log one step: what is in a line of log.jsonl."""

    def close(self) -> None:
        """Write what is held back."""


def check(name: str) -> None:
    """Raises MissingExtra for a tracker that is not installed."""
    if find_spec(name) is None:
        raise MissingExtra("train.layout.trackers", name, extra=name)


def start(name: str, folder: Path, train: Train, first_step: int) -> Tracker:
    """A tracker that goes on after `first_step` steps."""
    if name == "tensorboard":
        return _TensorBoard(folder, first_step)
    return _Wandb(folder, train, first_step)


class _TensorBoard:
    """Into `folder`/tensorboard; the steps that an interruption lost are hidden there."""

    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(folder / "tensorboard", purge_step=first_step + 1)

    def add(self, row: dict[str, float]) -> None:
        for key in row.keys() - {"step"}:
            self._writer.add_scalar(f"train/{key}", row[key], row["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A run of project s1kit. WANDB_MODE=offline keeps it in `folder`/wandb; the environment says the rest."""

    def __init__(self, folder: Path, train: Train, first_step: int) -> None:
        import wandb

        self._run: Any = wandb.init(
            project="s1kit", config=train.model_dump(mode="json") | {"first_step": first_step}, dir=str(folder)
        )

    def add(self, row: dict[str, float]) -> None:
        self._run.log(row, step=int(row["step"]))

    def close(self) -> None:
        self._run.finish()
