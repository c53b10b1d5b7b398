"""The folder of a stage: its output rows, and a receipt of how they came about. A killed stage resumes.

runs/tiny/                       a run: one recipe, one version
  run.json                       the recipe as resolved
  distill/                       a stage
    traces-00000.parquet ...     rows, one shard a `write`
    dropped-00000.parquet ...    rows that did not survive, each with its reason
    receipt.json                 written last: a stage without one is not finished
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from s1kit.errors import InputError
from s1kit.files import hash_file, make_folder, read_rows, write_json, write_rows
from s1kit.records import Dropped, Record

R = TypeVar("R", bound=Record)

FORMAT_VERSION = 1
"""Version of the run folder's layout and records. A run made with another one is refused."""

RECEIPT = "receipt.json"

_DROPPED = "dropped:"
"""What the count of a reason to drop begins with."""


@dataclass
class Stage:
    """One stage of one run while it is being worked on: shards, drops, receipt."""

    folder: Path
    name: str
    config: Mapping[str, Any]
    seed: int
    inputs: dict[str, str] = field(default_factory=dict)
    """Path below the run folder, or a source's name, to a hash."""
    models: Mapping[str, str] = field(default_factory=dict)
    """Reference of a model on this machine to the fingerprint of its files."""
    counts: Counter[str] = field(default_factory=Counter)
    """`in`, `out`, `dropped:<reason>`, and whatever else the stage counts."""
    figures: dict[str, Any] = field(default_factory=dict)
    """Tokens, cost in dollars and so on, for the receipt."""
    _started: float = field(default_factory=time.monotonic)

    @property
    def receipt_path(self) -> Path:
        return self.folder / RECEIPT

    @property
    def is_done(self) -> bool:
        return self.receipt_path.exists()

    def shards(self, name: str) -> list[Path]:
        return sorted(self.folder.glob(f"{name}-?????.parquet"))

    def write(self, name: str, record: type[Record], rows: Iterable[Record], shard: int | None = None) -> Path:
        """Write one more shard of `name`. A given `shard` number is overwritten: repeated work replaces itself."""
        number = shard if shard is not None else 1 + max((int(p.stem[-5:]) for p in self.shards(name)), default=-1)
        path = self.shard_path(name, number)
        write_rows(path, record, rows)
        return path

    def shard_path(self, name: str, number: int) -> Path:
        return self.folder / f"{name}-{number:05d}.parquet"

    def rows(self, name: str, record: type[R]) -> Iterator[R]:
        return read_rows(self.shards(name), record)

    def drop(self, row: Record, id: str, reason: str, evidence: str = "") -> Dropped:
        """Record a dropped row with its reason, and count it in the receipt."""
        self.counts[_DROPPED + reason] += 1
        return Dropped(id=id, stage=self.name, reason=reason, evidence=evidence, row=row.model_dump_json())

    def finish(self) -> None:
        """Write the receipt, which marks the stage as done."""
        from s1kit import __version__
        from s1kit.environment import environment

        write_json(
            self.receipt_path,
            {
                "stage": self.name,
                "s1kit": __version__,
                "format_version": FORMAT_VERSION,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.monotonic() - self._started, 2),
                "seed": self.seed,
                "config": self.config,
                "inputs": self.inputs,
                "models": self.models,
                "counts": dict(sorted(self.counts.items())),
                "environment": environment(),
                **self.figures,
            },
        )


@dataclass(frozen=True)
class StagePart:
    """Every `of`-th shard of a stage, beginning with `index`: one task of an array of jobs that share the run folder.

    >>> StagePart(1, 4).has(5), StagePart(1, 4).has(6)
    (True, False)
    """

    index: int
    of: int

    def has(self, number: int) -> bool:
        """Whether the shard of this number belongs to it."""
        return number % self.of == self.index

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"


def read_part(text: str) -> StagePart:
    """A part written as `index/of`, e.g. `0/16` to `15/16`. Raises InputError for anything else."""
    first, _, second = text.partition("/")
    if not (first.isdecimal() and second.isdecimal() and int(first) < int(second)):
        fix = "Give index/of with an index from 0, e.g. 0/16 to 15/16."
        raise InputError(f"{text!r} is no part", where="--part", fix=fix)
    return StagePart(int(first), int(second))


@dataclass(frozen=True)
class Run:
    """The folder of a run and its stages. Made or reopened by `open_run`."""

    folder: Path
    part: StagePart | None = None
    """Stages do this part of their shards and stop before the receipt; None: all."""

    def open(
        self,
        name: str,
        config: Mapping[str, Any],
        seed: int,
        inputs: Iterable[Path | tuple[str, str]] = (),
        models: Mapping[str, str] = MappingProxyType({}),
        until_done: Collection[str] = (),
    ) -> Stage:
        """The stage's folder, fresh, half done or done (`Stage.is_done`).

        `models`: fingerprints of the models on this machine by their references. `until_done`: settings that say how
        the work is cut into files, so that they may not change half-way. Raises InputError when something was made
        there with another configuration, from other inputs or by other models.
        """
        folder = self.folder / name
        make_folder(folder)
        hashes = dict(self._hashed(given) for given in inputs)
        plain = json.loads(json.dumps(config, default=str))
        stage = Stage(folder, name, plain, seed, hashes, models)
        started_path = folder / "started.json"
        now = {"format_version": FORMAT_VERSION, "seed": seed, "config": plain, "inputs": hashes}
        now["models"] = dict(models)
        if started_path.exists() and any(p != started_path for p in folder.iterdir()):
            self.refuse_other_settings(name, plain, seed, until_done)
            before = json.loads(started_path.read_text(encoding="utf-8"))
            _refuse_other_inputs(before, hashes, folder)
            _refuse_other_models(before, models, folder)
        else:
            write_json(started_path, now)
        return stage

    def refuse_other_settings(
        self,
        name: str,
        config: Mapping[str, Any],
        seed: int,
        until_done: Collection[str] = (),
        inputs: Iterable[Path | tuple[str, str]] | None = None,
    ) -> None:
        """Raises InputError as `open` would for these settings, and inputs where they are given; nothing is made."""
        folder = self.folder / name
        started_path = folder / "started.json"
        if not started_path.exists() or all(p == started_path for p in folder.iterdir()):
            return
        plain = json.loads(json.dumps(config, default=str))
        before = json.loads(started_path.read_text(encoding="utf-8"))
        if is_finished(self.folder, name):
            before["config"] = before.get("config", {}) | {k: plain[k] for k in until_done}
        now = {"format_version": FORMAT_VERSION, "seed": seed, "config": plain}
        _refuse_other(before, now, folder)
        if inputs is not None:
            _refuse_other_inputs(before, dict(self._hashed(given) for given in inputs), folder)

    def _hashed(self, given: Path | tuple[str, str]) -> tuple[str, str]:
        if isinstance(given, tuple):
            return given
        name = given.relative_to(self.folder) if given.is_relative_to(self.folder) else given
        return str(name), hash_file(given)

    def shards(self, stage: str, name: str) -> list[Path]:
        """Paths of the shards of a finished stage. Raises InputError when it has not finished."""
        if not is_finished(self.folder, stage):
            raise InputError(
                f"stage {stage} has not finished", where=str(self.folder), fix=f"Run it first: s1kit {stage} RECIPE"
            )
        return sorted((self.folder / stage).glob(f"{name}-?????.parquet"))

    def rows(self, stage: str, name: str, record: type[R]) -> Iterator[R]:
        """The rows of a finished stage's shards as records. Raises InputError when it has not finished."""
        return read_rows(self.shards(stage, name), record)

    def receipt(self, stage: str) -> dict[str, Any]:
        """The receipt of a finished stage. Raises InputError when it has not finished."""
        self.shards(stage, "")
        receipt: dict[str, Any] = json.loads((self.folder / stage / RECEIPT).read_text(encoding="utf-8"))
        return receipt


def open_run(folder: Path, recipe_name: str, resolved: Mapping[str, Any]) -> Run:
    """Make a run folder, or reopen the one that the same recipe made."""
    make_folder(folder)
    refuse_other_run(folder, recipe_name)
    plain = json.loads(json.dumps(resolved, default=str))
    write_json(folder / "run.json", {"recipe": recipe_name, "format_version": FORMAT_VERSION, "resolved": plain})
    return Run(folder)


def refuse_other_run(folder: Path, recipe_name: str) -> None:
    """Raises InputError where a folder exists and holds anything but a run of this recipe."""
    path = folder / "run.json"
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"the run was made by another version, of format {before.get('format_version')}, not {FORMAT_VERSION}",
                where=str(folder),
                fix="Delete the folder, or give another with name=...",
            )
        if before.get("recipe") != recipe_name:
            raise InputError(
                f"the folder holds a run of recipe {before.get('recipe')!r}, not {recipe_name!r}",
                where=str(folder),
                fix="Give another folder with name=..., or delete this one.",
            )
    elif folder.is_dir() and any(folder.iterdir()):
        raise InputError(
            "the folder is not empty and holds no run", where=str(folder), fix="Give another with name=..."
        )


def drops_in(counts: Mapping[str, int]) -> dict[str, int]:
    """The rows that a stage dropped, by reason, among all that it counted.

    >>> drops_in({"in": 5, "out": 3, "dropped:no_answer": 2})
    {'no_answer': 2}
    """
    return {name.removeprefix(_DROPPED): num for name, num in counts.items() if name.startswith(_DROPPED)}


def said_drops(counts: Mapping[str, int]) -> str:
    """The drops of a stage in words: `2 no_answer, 1 truncated`; empty where nothing was dropped."""
    return ", ".join(f"{num:,} {reason}" for reason, num in sorted(drops_in(counts).items()))


def is_finished(run_folder: Path, stage: str) -> bool:
    """Whether a stage of a run has written its receipt."""
    return (run_folder / stage / RECEIPT).exists()


def is_begun(run_folder: Path, stage: str) -> bool:
    """Whether a stage of a run has begun and has not finished."""
    return (run_folder / stage / "started.json").exists() and not is_finished(run_folder, stage)


def _refuse_other(before: Mapping[str, Any], now: Mapping[str, Any], folder: Path) -> None:
    for what in ("format_version", "seed", "config"):
        if not _same(before.get(what), now[what]):
            changed = _first_difference(before.get(what), now[what])
            raise InputError(
                f"this stage was started with other settings: {what}{changed}", where=str(folder), fix=_redo(folder)
            )


def _refuse_other_inputs(before: Mapping[str, Any], hashes: Mapping[str, str], folder: Path) -> None:
    if not _same(before.get("inputs"), hashes):
        changed = _changed_inputs(before.get("inputs") or {}, hashes)
        raise InputError(f"this stage was made from other inputs: {changed}", where=str(folder), fix=_redo(folder))


def _refuse_other_models(before: Mapping[str, Any], models: Mapping[str, str], folder: Path) -> None:
    # A model that is gone, or that an earlier version did not look at, is not held against what it made.
    known: Mapping[str, str] = before.get("models") or {}
    if changed := [name for name, hashed in models.items() if known.get(name, hashed) != hashed]:
        raise InputError(
            f"this stage was made with another model: the files of {' and '.join(changed)} changed since",
            where=str(folder),
            fix=_redo(folder),
        )


def _redo(folder: Path) -> str:
    return f"Add --redo {folder.name} to do it and what follows again, or give another run with name=..."


def _same(before: Any, now: Any) -> bool:
    """Whether two settings say the same: one that an earlier version did not have, or wrote otherwise, may be off.

    >>> _same({"path": "a"}, {"path": "a", "files": []}), _same({"files": None}, {"files": []}), _same({}, {"num": 3})
    (True, True, False)
    """
    if isinstance(before, dict) and isinstance(now, dict):
        return all(
            _same(before.get(key), now.get(key)) or (key not in before and not now[key])
            for key in before.keys() | now.keys()
        )
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return all(_same(one, other) for one, other in zip(before, now, strict=True))
    is_off = [value is None or value is False or value in ("", [], {}) for value in (before, now)]
    return all(is_off) or bool(before == now)


def _changed_inputs(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which input files changed, by name rather than by hash.

    >>> _changed_inputs({"distill/traces-00000.parquet": "a", "x.csv": "b"}, {"distill/traces-00000.parquet": "c"})
    'distill/traces-00000.parquet changed since; x.csv is no longer read'
    """
    said = [f"{name} changed since" for name in now if name in before and before[name] != now[name]]
    said += [f"{name} is new" for name in now if name not in before]
    said += [f"{name} is no longer read" for name in before if name not in now]
    return "; ".join(said[:3]) + (f"; and {len(said) - 3} more" if len(said) > 3 else "")


def _first_difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            if not _same(before.get(key), now.get(key)):
                return f".{key}{_first_difference(before.get(key), now.get(key))}"
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        position = next(i for i, (one, other) in enumerate(zip(before, now, strict=True)) if not _same(one, other))
        return f"[{position}]{_first_difference(before[position], now[position])}"
    return f" was {before!r:.80} and is now {now!r:.80}"
