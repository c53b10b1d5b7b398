"""What training costs while it runs: tokens a second, MFU, memory, dollars. log.jsonl always, trackers on demand."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch

from s1kit.errors import MissingExtra
from s1kit.files import write_atomically
from s1kit.recipe import Train
from s1kit.train.disk import writing
from s1kit.train.flops import peak_tflops, training_flops
from s1kit.train.processes import World
from s1kit.train.shapes import Shape


@dataclass
class TrainingMeter:
    """Counts what each step takes. The main process also writes log.jsonl, a line a step, and feeds the trackers."""

    log_path: Path
    train: Train
    shape: Shape
    world: World
    seconds: float = 0.0
    """Seconds of all steps, including those before an interruption."""
    tokens: int = 0
    flops: float = 0.0
    _step_started: float = field(default_factory=time.monotonic)
    _trackers: list[Tracker] = field(default_factory=list)

    def __post_init__(self) -> None:
        cuda = self.world.device.type == "cuda"
        name = torch.cuda.get_device_name() if cuda else ""
        self._peak = 1e12 * (self.train.layout.peak_tflops or peak_tflops(name))
        self._dollars_per_second = self.train.layout.dollars_per_gpu_hour / 3600 * self.world.size if cuda else 0.0
        if self.world.is_main:
            for name in self.train.layout.trackers:
                check_tracker(name)

    def resume(self, step: int) -> None:
        """Keep the lines of the first `step` steps; later ones were lost with the weights they describe."""
        rows = [row for row in read_log(self.log_path) if row["step"] <= step]
        if self.world.is_main:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            write_atomically(self.log_path, lambda p: p.write_text(text, encoding="utf-8"))
            folder, wanted = self.log_path.parent, self.train.layout.trackers
            self._trackers = [start_tracker(name, folder, self.train, step) for name in wanted]
        for row in rows:
            self.seconds += row["seconds"]
            self.tokens += row["tokens"]
        self._step_started = time.monotonic()

    def close(self) -> None:
        """Let the trackers write what they hold back."""
        for tracker in self._trackers:
            tracker.close()

    def step(self, lengths: Sequence[int], **values: float) -> dict[str, float]:
        """Account for one optimiser step over samples of these lengths, and write its line."""
        now = time.monotonic()
        seconds, self._step_started = now - self._step_started, now
        flops = training_flops(self.shape, lengths, self.train.lora is not None)
        self.seconds += seconds
        self.tokens += sum(lengths)
        self.flops += flops
        row = {
            **values,
            "tokens": sum(lengths),
            "seconds": round(seconds, 4),
            "tokens_per_second": round(sum(lengths) / seconds, 1),
            "memory_gib": round(_peak_memory(self.world.device), 3),
        }
        if self._peak:
            row["mfu"] = round(flops / seconds / (self._peak * self.world.size), 4)
        if self._dollars_per_second:
            row["dollars"] = round(self.seconds * self._dollars_per_second, 4)
        if self.world.is_main:
            with writing(self.log_path.name, self.log_path.parent), self.log_path.open("a", encoding="utf-8") as log:
                log.write(json.dumps(row) + "\n")
            for tracker in self._trackers:
                tracker.add(row)
        return row

    def summary(self) -> dict[str, float]:
        """Totals for the receipt and the model card: tokens, seconds, GiB, dollars."""
        out = {"tokens": self.tokens, "training_seconds": round(self.seconds, 2)}
        if self.seconds:
            out["tokens_per_second"] = round(self.tokens / self.seconds, 1)
        out["memory_gib"] = round(_peak_memory(self.world.device), 3)
        out["processes"] = self.world.size
        out["dollars"] = round(self.seconds * self._dollars_per_second, 4)
        return out


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log.jsonl; a half-written last line, left by a kill, is not one."""
    rows = []
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.endswith("\n"):
                rows.append(json.loads(line))
    return rows


def _peak_memory(device: torch.device) -> float:
    """GiB: allocated on the card, or resident in main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Tracker(Protocol):
    """Takes the lines of the log."""

    def add(self, row: dict[str, float]) -> None:
        """Log one step: what is in a line of log.jsonl."""

    def close(self) -> None:
        """Write what is held back."""


def check_tracker(name: str) -> None:
    """Raises MissingExtra for a tracker that is not installed."""
    if find_spec(name) is None:
        raise MissingExtra("train.layout.trackers", name, extra=name)


def start_tracker(name: str, folder: Path, train: Train, first_step: int) -> Tracker:
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
