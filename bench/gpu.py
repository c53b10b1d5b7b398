"""Decoding and fine-tuning on one large card, the most telling figures first: bench/gpu.sh

Every cell is a process of its own with a limit; one that fails, would pass its limit, or has no time left is named with
the reason. Models are random weights in real shapes, drawn once a shape in main memory. Writes FOLDER/gpu.json (the
machine, and of each cell its figures or why there are none) after each cell, so that nothing is lost if time runs out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

BENCH = Path(__file__).parent
PRESENT = ("torch", "triton", "safetensors", "pyarrow", "pandas", "setuptools")
"""What a machine for training usually has, with what these require."""
PRESENT_ALONE = frozenset(
    {"transformers", "accelerate", "peft", "huggingface-hub", "hf-xet", "tokenizers", "regex", "requests", "tqdm"}
    | {"jinja2", "psutil", "packaging", "pyyaml", "click"}
)
"""What it has, too; their newest releases require more than those seen there."""
NEEDED = ("trl", "datasets", "liger-kernel", "torchao")
"""What comparisons use beside the package's own requirements."""
LEAST = 25.0
"""Seconds below which no cell is begun."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    name: str
    seconds: float
    """It is ended after these."""
    script: str
    arguments: tuple[str, ...]
    needs: str = ""
    """A package without which it says nothing."""


def decoding(shape: str, requests: int, seconds: float, only: str = "forced", repeats: int = 2) -> Cell:
    what = "against rounds" if only == "rounds" else f"{requests} at once"
    arguments = ("--engine", "hf", "--shape", shape, "--only", only, "--random", "--stop-every", "64")
    arguments += ("--requests", str(requests), "--repeats", str(repeats))
    return Cell(f"decoding {shape}, {what}", seconds, "forced_decoding.py", arguments)


def training(
    name: str, model: str, seconds: float, length: int, batch: int, layout: dict[str, Any], *more: str, needs: str = ""
) -> Cell:
    layout = {"master_dtype": "bfloat16"} | layout
    arguments = ("--model", model, "--length", str(length), "--batch-size", str(batch), "--warmup", "3", "--steps", "6")
    arguments += ("--layout", json.dumps(layout), *more)
    return Cell(f"training {name}", seconds, "train_throughput.py", arguments, needs)


def cells() -> list[Cell]:
    """In the order in which they are run."""
    compiled = {"activation_checkpointing": "none", "compile": True}
    selective = {"activation_checkpointing": "selective", "compile": True}
    full = {"activation_checkpointing": "full", "compile": True}
    alone, profile = "--alone", "--profile"
    trl = json.dumps({"per_device": 1, "accumulate": 8, "use_liger_kernel": True})
    b7, long = "qwen2.5-7b", ("--micro-batch-tokens", "32768")
    short, middle = ("--micro-batch-tokens", "8192"), ("--micro-batch-tokens", "16384")
    return [
        decoding("7b", 64, 70),
        training("7B, up to 8K", b7, 75, 8192, 8, compiled, *short, alone, profile),
        decoding("1.5b", 1, 40),
        training(
            "7B, up to 8K, against TRL with liger", b7, 90, 8192, 8, selective, *middle, "--trl", trl, needs="trl"
        ),
        training(
            "12 layers of 32B, up to 16K", "qwen2.5-32b", 70, 16384, 4, selective, *middle, "--layers", "12", alone
        ),
        training("7B, up to 8K, float8", b7, 75, 8192, 8, selective | {"fp8": True}, *middle, alone, needs="torchao"),
        decoding("7b", 64, 70, "rounds", 1),
        training("1.5B, up to 8K", "qwen2.5-1.5b", 50, 8192, 8, compiled, *middle, alone),
        training("7B, up to 32K", b7, 80, 32768, 2, full, *long, alone),
        decoding("7b", 1, 50),
        decoding("1.5b", 64, 50),
    ]


def in_small(cell: Cell) -> Cell:
    """The same on a processor: a tiny shape, few steps, nothing compiled or in float8."""
    given = list(cell.arguments)
    if cell.script == "forced_decoding.py":
        changes = {"--shape": "tiny", "--requests": "2", "--repeats": "1", "--stop-every": "8"}
        more = ["--thinking", "24"]
    else:
        layout = json.loads(given[given.index("--layout") + 1]) | {"compile": False}
        layout.pop("fp8", None)
        changes = {"--layout": json.dumps(layout), "--steps": "2", "--warmup": "1", "--batch-size": "2"}
        more = ["--shrink", "128"]
        given = [word for word in given if word != "--profile"]
        if "--trl" in given:
            changes["--trl"] = json.dumps({"per_device": 1, "accumulate": 2})
    for name, value in changes.items():
        given[given.index(name) + 1] = value
    return Cell(cell.name, 300, cell.script, (*given, *more), cell.needs)


def run(cell: Cell, limit: float, weights: Path, log: Path) -> dict[str, Any]:
    """Its figures, or why there are none."""
    if cell.needs and not _has(cell.needs):
        return {"left_out": f"{cell.needs} is not installed"}
    if limit < LEAST:
        return {"left_out": f"{max(0.0, limit):.0f} seconds are left"}
    found = log.with_suffix(".jsonl")
    found.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH / cell.script), *cell.arguments, "--json", str(found)]
    if cell.script == "train_throughput.py":
        command += ["--weights", str(weights / cell.arguments[1])]
    started = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    seconds = round(time.monotonic() - started, 1)
    figures = [json.loads(line) for line in found.read_text("utf-8").splitlines()] if found.is_file() else []
    out: dict[str, Any] = {"seconds": seconds, "figures": figures}
    if status is None:
        out["ended_early"] = f"it ran past {limit:.0f} seconds"
    elif status or not figures:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        # Status 1 with figures: the two trainers' losses disagree, which their rows show.
        out["failed"] = f"status {status}: {' / '.join(lines[-3:])}"
    return out


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def machine() -> dict[str, str]:
    """What the figures were measured with."""
    import torch

    found = {
        name: metadata.version(name)
        for name in ("torch", "transformers", "trl", "liger-kernel", "torchao")
        if _has(name)
    }
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {"card": name, "date": time.strftime("%Y-%m-%d"), "python": sys.version.split()[0], **found}


def refusal() -> str:
    """Why this machine cannot run the cells; empty where it can."""
    import torch

    if not torch.cuda.is_available():
        return "This needs a CUDA card; --tiny tries the script without one."
    if not torch.cuda.is_bf16_supported(including_emulation=False):
        return f"{torch.cuda.get_device_name()} has no bfloat16, in which all cells run."
    return ""


def wheels() -> list[str]:
    """Packages, with the versions installed here, that a machine with PRESENT alone must be given."""
    from packaging.requirements import Requirement

    project = tomllib.loads((BENCH.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stated = [*project["dependencies"], *project["optional-dependencies"]["train"]]
    names = tuple(Requirement(text).name for text in stated)
    have = _closure(PRESENT) | PRESENT_ALONE
    missing = sorted(_closure((*names, *NEEDED), PRESENT_ALONE) - have - {"s1kit"})
    return [f"{name}=={metadata.version(name)}" if _has(name) else f"{name} (not installed here)" for name in missing]


def _closure(names: tuple[str, ...], ends: frozenset[str] = frozenset()) -> set[str]:
    """The packages and all that they require, extras left out, and what `ends` require too."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: set[str] = set()
    pending = [canonicalize_name(name) for name in names]
    while pending:
        name = pending.pop()
        if name in found:
            continue
        found.add(name)
        for text in (metadata.requires(name) or ()) if _has(name) and name not in ends else ():
            required = Requirement(text)
            if required.marker is None or required.marker.evaluate({"extra": ""}):
                pending.append(canonicalize_name(required.name))
    return found


def estimate(results: dict[str, Any]) -> list[str]:
    """What the efficiency of the 32B layers, or else the best one, means for s1-32B on 16 H100."""
    from s1kit.recipe import load_recipe
    from s1kit.train.estimate import estimate_train

    rows = [f for name, r in results.items() for f in r.get("figures", ()) if f.get("trainer") == "s1kit" and f["hfu"]]
    if not rows:
        return []
    best = max(rows, key=lambda row: (row["model"] == "qwen2.5-32b", row["hfu"]))
    return list(estimate_train(load_recipe("s1k", [f"train.layout.cluster.efficiency={min(best['hfu'], 1):.3f}"])))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"))
    parser.add_argument("--seconds", type=float, default=460.0, help="of all cells together")
    parser.add_argument("--only", default="", help="cells whose names hold this")
    parser.add_argument("--tiny", action="store_true", help="the same in small on a processor")
    parser.add_argument("--list-wheels", action="store_true")
    given = parser.parse_args()
    if given.list_wheels:
        print("\n".join(wheels()))
        return 0
    if not given.tiny and (why := refusal()):
        print(why, file=sys.stderr)
        return 2
    started = time.monotonic()
    given.out.mkdir(parents=True, exist_ok=True)
    wanted = [in_small(cell) if given.tiny else cell for cell in cells() if given.only in cell.name]
    results: dict[str, Any] = {}
    document: dict[str, Any] = {"machine": machine(), "cells": results}
    shared = Path("/dev/shm")
    # A shape of 7B takes 15 GB, of twelve layers of 32B 13.
    place = shared if shared.is_dir() and shutil.disk_usage(shared).free > 40e9 else None
    with tempfile.TemporaryDirectory(dir=place) as weights:
        for number, cell in enumerate(wanted):
            left = (3600.0 if given.tiny else given.seconds) - (time.monotonic() - started)
            log = given.out / f"{number:02}.log"
            results[cell.name] = found = run(cell, min(cell.seconds, left), Path(weights), log)
            (given.out / "gpu.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
            why = found.get("left_out") or found.get("ended_early") or found.get("failed") or ""
            print(f"== {cell.name} ({found.get('seconds', 0):.0f} s) {why}", flush=True)
            for figure in found.get("figures", ()):
                print("   " + ", ".join(f"{k} {_short(v)}" for k, v in figure.items() if not isinstance(v, dict)))
    print("\n".join(estimate(results)))
    print(f"{given.out / 'gpu.json'}: {len(results)} cells in {time.monotonic() - started:.0f} s")
    return 0


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
