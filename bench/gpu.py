"""Decoding and fine-tuning on one large card, the most telling figures first: bench/gpu.sh

Every cell is a process of its own with a limit; one that fails, would pass its limit, or has no time left is named with
the reason, and what it had measured by then is kept. Models are random weights in real shapes, drawn on the card by the
process that measures them. FOLDER/gpu.json (the machine, the plan, and of each cell its figures or why there are none)
is written anew every few seconds; whatever ends this program, the last one stands there and no cell outlives it.
Nothing is fetched, and nothing is written outside FOLDER; what is not needed later goes from there at the end.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

BENCH = Path(__file__).resolve().parent
PRESENT = ("torch", "triton", "safetensors", "pyarrow", "pandas", "setuptools")
"""What a machine for training usually has, with what these require."""
PRESENT_ALONE = frozenset(
    {"transformers", "accelerate", "peft", "huggingface-hub", "hf-xet", "tokenizers", "regex", "requests", "tqdm"}
    | {"jinja2", "psutil", "packaging", "pyyaml", "click"}
)
"""What it has, too; their newest releases require more than those seen there."""
NEEDED = ("trl", "datasets", "liger-kernel", "torchao")
"""What comparisons use beside the package's own requirements."""
WORTH_BEGINNING = 0.6
"""Share of a cell's expected time from which on it is begun: its first figures come before its last ones."""
LONGEST = 1.4
"""A cell is ended after so many times what it is expected to take."""
OF_A_LAUNCHER = {"WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""What a cell must not see of a job that this runs in: it would wait for others."""
BETWEEN_WRITES = 2.0
"""Seconds."""
LOOKING = 150.0
"""Seconds within which the card must say its name; the first import of torch on a cold disk is among them."""


@dataclass(frozen=True)
class Cell:
    """One measurement."""

    name: str
    expected: float
    """Seconds that it takes on an H200, start and compilation included; reckoned, until a card has shown it."""
    script: str
    arguments: tuple[str, ...]
    needs: str = ""
    """A package without which it says nothing."""
    lacks: str = ""
    """Why it cannot run on this card."""

    @property
    def limit(self) -> float:
        """It is ended after these seconds."""
        return LONGEST * self.expected


def decoding(shape: str, requests: int, expected: float, only: str = "forced", repeats: int = 2) -> Cell:
    what = "against rounds" if only == "rounds" else f"{requests} at once"
    arguments = ("--engine", "hf", "--shape", shape, "--only", only, "--random", "--stop-every", "64")
    arguments += ("--requests", str(requests), "--repeats", str(repeats))
    return Cell(f"decoding {shape}, {what}", expected, "forced_decoding.py", arguments)


def training(
    name: str, model: str, expected: float, length: int, batch: int, layout: dict[str, Any], *more: str, needs: str = ""
) -> Cell:
    layout = {"master_dtype": "bfloat16"} | layout
    arguments = ("--model", model, "--length", str(length), "--batch-size", str(batch), "--warmup", "3", "--steps", "6")
    arguments += ("--layout", json.dumps(layout), *more)
    return Cell(f"training {name}", expected, "train_throughput.py", arguments, needs)


def cells() -> list[Cell]:
    """In the order in which they are run."""
    compiled = {"activation_checkpointing": "none", "compile": True}
    selective = {"activation_checkpointing": "selective", "compile": True}
    full = {"activation_checkpointing": "full", "compile": True}
    alone, profile = ("--only", "s1kit"), "--profile"
    trl = ("--only", "trl", "--trl", json.dumps({"per_device": 1, "accumulate": 8, "use_liger_kernel": True}))
    b7, long = "qwen2.5-7b", ("--micro-batch-tokens", "32768")
    short, middle = ("--micro-batch-tokens", "8192"), ("--micro-batch-tokens", "16384")
    return [
        decoding("7b", 64, 60),
        training("7B, up to 8K", b7, 70, 8192, 8, compiled, *short, *alone, profile),
        training("7B, up to 8K, TRL with liger", b7, 60, 8192, 8, compiled, *trl, needs="trl"),
        decoding("1.5b", 1, 45),
        training(
            "12 layers of 32B, up to 16K", "qwen2.5-32b", 65, 16384, 4, selective, *middle, "--layers", "12", *alone
        ),
        training("7B, up to 8K, float8", b7, 70, 8192, 8, selective | {"fp8": True}, *middle, *alone, needs="torchao"),
        decoding("7b", 64, 50, "rounds", 1),
        training("1.5B, up to 8K", "qwen2.5-1.5b", 50, 8192, 8, compiled, *middle, *alone),
        training("7B, up to 32K", b7, 75, 32768, 2, full, *long, *alone),
        decoding("7b", 1, 55),
        decoding("1.5b", 64, 45),
    ]


def fitted(cell: Cell, gib: float) -> Cell:
    """The training with as little computed again as a card with so much free memory allows; it says so if none does."""
    from s1kit.recipe import Train
    from s1kit.train.cost import RECOMPUTED, memory_gib
    from s1kit.train.shapes import SHAPES

    if cell.script != "train_throughput.py":
        return cell
    given = dict(zip(cell.arguments, cell.arguments[1:], strict=False))
    shape, asked = SHAPES[given["--model"]], json.loads(given["--layout"])
    if "--layers" in given:
        shape = replace(shape, num_hidden_layers=int(given["--layers"]))
    tokens = max(int(given["--length"]), int(given.get("--micro-batch-tokens", 0)))
    needed = 0.0
    for how in [*RECOMPUTED][[*RECOMPUTED].index(asked["activation_checkpointing"]) :]:
        layout = json.dumps(asked | {"activation_checkpointing": how})
        needed = memory_gib(shape, Train.model_validate({"layout": json.loads(layout)}), 1, tokens)
        if needed < 0.97 * gib:
            arguments = tuple(layout if word == given["--layout"] else word for word in cell.arguments)
            return replace(cell, arguments=arguments)
    return replace(cell, lacks=f"it needs {needed:.0f} GiB, and the card has {gib:.0f} free")


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
    return Cell(cell.name, 200, cell.script, (*given, *more), cell.needs)


class Cut(BaseException):
    """Somebody ended this program."""


@contextmanager
def cut_by_signals() -> Iterator[None]:
    """Within it a signal that asks this program to end raises Cut."""

    def cut(number: int, _: object) -> NoReturn:
        raise Cut(signal.Signals(number).name)

    kinds = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    # Under nohup one of them is ignored, and stays so.
    before = {kind: signal.signal(kind, cut) for kind in kinds if signal.getsignal(kind) != signal.SIG_IGN}
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def _dies_with_its_parent() -> None:
    """The kernel ends this process when its parent ends, by whatever: nobody's card stays busy."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def environment(work: Path) -> dict[str, str]:
    """For the cells: nothing is fetched, and caches and temporary files stay in a folder."""
    cache, temporary = work.resolve() / "cache", work.resolve() / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    places = {"TMPDIR": temporary, "TORCHINDUCTOR_CACHE_DIR": cache / "inductor", "TRITON_CACHE_DIR": cache / "triton"}
    places |= {"CUDA_CACHE_PATH": cache / "cuda", "XDG_CACHE_HOME": cache, "HF_HOME": cache / "huggingface"}
    switches = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    switches |= {"PYTHONUNBUFFERED": "1", "TOKENIZERS_PARALLELISM": "false"}
    # Threads of small models on a busy processor wait for each other.
    switches |= {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    # One card and one process, whatever machine or job this is.
    switches |= {"CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]}
    own = {name: value for name, value in os.environ.items() if name not in OF_A_LAUNCHER}
    path = os.pathsep.join(filter(None, (str(BENCH.parent), own.get("PYTHONPATH"))))
    defaults = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    return defaults | own | switches | {name: str(place) for name, place in places.items()} | {"PYTHONPATH": path}


def run(
    cell: Cell, limit: float, work: Path, note: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Its figures, or why there are none; `note` is told of them every few seconds. A cell that is cut is ended."""
    if cell.lacks:
        return {"left_out": cell.lacks}
    if cell.needs and not _has(cell.needs):
        return {"left_out": f"{cell.needs} is not installed"}
    if limit < WORTH_BEGINNING * cell.expected:
        return {"left_out": f"it takes some {cell.expected:.0f} seconds, and {max(0.0, limit):.0f} are left"}
    work.mkdir(parents=True, exist_ok=True)
    log, found = work.resolve() / "cell.log", work.resolve() / "cell.jsonl"
    found.unlink(missing_ok=True)
    command = [sys.executable, str(BENCH / cell.script), *cell.arguments, "--json", str(found)]
    started = time.monotonic()

    def told(**more: Any) -> dict[str, Any]:
        return {"seconds": round(time.monotonic() - started, 1), "figures": figures_in(found), **more}

    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment(work),
            start_new_session=True,
            preexec_fn=_dies_with_its_parent,
        )
        try:
            status = None
            while status is None and (left := started + limit - time.monotonic()) > 0:
                status = _ended(process, min(left, BETWEEN_WRITES))
                note(told(ended_early="this program ended"))
        finally:
            # What it started, such as compilers, goes too.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    said = [line for line in lines if line.startswith(("hf: ", "train: ")) and "steps" not in line]
    done = told(said=said)
    if status is None:
        done |= {"ended_early": f"it ran past {limit:.0f} seconds", "log": lines[-60:]}
    elif status or not done["figures"]:
        # Status 1 with figures: the two trainers' losses disagree, which their rows show.
        done |= {"failed": f"status {status}: {' / '.join(lines[-3:])}", "log": lines[-60:]}
    return done


def _ended(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def figures_in(path: Path) -> list[dict[str, Any]]:
    """What a cell has written: of each trainer or number of requests the last line; one cut in half is none."""
    found: dict[Any, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        with suppress(ValueError):
            row = json.loads(line)
            found[row.get("trainer"), row.get("requests")] = row
    return list(found.values())


def _has(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def look() -> dict[str, Any]:
    """What figures are measured with, and what could keep the cells from running."""
    import torch

    from s1kit.engines.machine import memory_size, why_unused

    names = ("torch", "triton", "transformers", "trl", "liger-kernel", "torchao")
    found: dict[str, Any] = {name: metadata.version(name) for name in names if _has(name)}
    found |= {"python": sys.version.split()[0], "cores": os.cpu_count(), "memory_gib": round(memory_size() / 2**30, 1)}
    if not torch.cuda.is_available():
        return found | {"card": "CPU", "unused": why_unused()}
    free, total = torch.cuda.mem_get_info(None)
    return found | {
        "card": torch.cuda.get_device_name(),
        "card_gib": round(total / 2**30, 1),
        "free_gib": round(free / 2**30, 1),
        "capability": list(torch.cuda.get_device_capability()),
        "cuda": torch.version.cuda,
        "bfloat16": bool(torch.cuda.is_bf16_supported(including_emulation=False)),
    }


def machine(work: Path) -> dict[str, Any]:
    """What `look` finds, in a process of its own: this one takes no memory of the card and does not hang on it."""
    command = [sys.executable, str(Path(__file__).resolve()), "--look"]
    date = {"date": time.strftime("%Y-%m-%d %H:%M")}
    try:
        told = subprocess.run(command, capture_output=True, timeout=LOOKING, env=environment(work), text=True)
        return date | json.loads(told.stdout.strip().splitlines()[-1]) | {"driver": _driver()}
    except subprocess.TimeoutExpired:
        return date | {"failed": f"torch did not name the card within {LOOKING:.0f} seconds"}
    except (ValueError, IndexError):
        return date | {"failed": f"torch cannot be asked for the card: {told.stderr.strip()[-500:]}"}


def _driver() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        asked = ["nvidia-smi", "--query-gpu=driver_version,power.limit,clocks.max.sm", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, timeout=15, text=True).stdout.strip()
    return ""


def refusal(found: dict[str, Any]) -> str:
    """Why this machine cannot run the cells; empty where it can."""
    if "failed" in found:
        return str(found["failed"])
    if found["card"] == "CPU":
        why = f" torch cannot use the one that is here: {found['unused']}" if found.get("unused") else ""
        return f"This needs a CUDA card; --tiny tries the script without one.{why}"
    if not found["bfloat16"]:
        return f"{found['card']} has no bfloat16, in which all cells run."
    return ""


def crowded(found: dict[str, Any]) -> str:
    """What other programs hold of the card, where it is much: cells may fail for want of it, and none has it alone."""
    free, total = found.get("free_gib", 0.0), found.get("card_gib", 0.0)
    return f"Other programs hold {total - free:.0f} of the card's {total:.0f} GiB." if free < 0.95 * total else ""


def lacking() -> list[str]:
    """The package's own requirements that are not installed: without them no cell would run."""
    return sorted(name for name in _stated() if not _has(name))


def _stated() -> list[str]:
    from packaging.requirements import Requirement

    project = tomllib.loads((BENCH.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["train"])]
    needed = [r for r in needed if r.name != project["name"] and (r.marker is None or r.marker.evaluate())]
    return [requirement.name for requirement in needed]


def wheels() -> list[str]:
    """Packages, with the versions installed here, that a machine with PRESENT alone must be given."""
    have = _closure(PRESENT) | PRESENT_ALONE
    missing = sorted(_closure((*_stated(), *NEEDED), PRESENT_ALONE) - have - {"s1kit"})
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


def comparisons(results: dict[str, Any]) -> dict[str, Any]:
    """This package against TRL and float8 against bfloat16, on the same samples and weights in different cells."""
    rows = [f for r in results.values() for f in r.get("figures", ()) if f.get("trainer")]
    of_one: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        of_one.setdefault(tuple(row.get(name) for name in ("model", "layers", "length", "batch_size")), []).append(row)
    found: dict[str, Any] = {}
    for (model, _, length, _), same in of_one.items():
        plain = [r for r in same if r["trainer"] == "s1kit" and not r.get("layout", {}).get("fp8")]
        others = [("TRL", r) for r in same if r["trainer"] == "TRL"]
        others += [("float8", r) for r in same if r["trainer"] == "s1kit" and r.get("layout", {}).get("fp8")]
        for name, other in others if plain else ():
            best = max(plain, key=lambda row: row["rate"])
            apart = [abs(a - b) / abs(b) for a, b in zip(other["losses"], best["losses"], strict=False)]
            ratio = best["rate"] / other["rate"] if name == "TRL" else other["rate"] / best["rate"]
            what = "s1kit / TRL" if name == "TRL" else "float8 / bfloat16"
            found[f"{what}, {model}, {length}"] = {"ratio": ratio, "losses_apart": max(apart, default=0.0)}
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


def plan(wanted: list[Cell]) -> Iterator[str]:
    """The cells in their order, with what they are expected to take and when they are ended."""
    total = 0.0
    yield f"{'begins':>7} {'takes':>6} {'limit':>6}   cell (seconds, as expected on an H200)"
    for cell in wanted:
        yield f"{total:7.0f} {cell.expected:6.0f} {cell.limit:6.0f}   {cell.name}" + f": {cell.lacks}" * bool(
            cell.lacks
        )
        total += cell.expected * (not cell.lacks)
    yield f"{total:7.0f}                 all are done"


def save(document: dict[str, Any], path: Path) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document, indent=1), encoding="utf-8")
    part.replace(path)


def main() -> int:
    started = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BENCH.parent / "build/gpu", help="FOLDER")
    parser.add_argument("--seconds", type=float, help="of everything together, from start to end: 460; --tiny: 3600")
    parser.add_argument("--only", default="", help="cells whose names hold this")
    parser.add_argument("--tiny", action="store_true", help="the same in small on a processor")
    parser.add_argument("--plan", action="store_true", help="print the cells with their expected seconds, and end")
    parser.add_argument("--list-wheels", action="store_true")
    parser.add_argument("--look", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.look:
        print(json.dumps(look()))
        return 0
    if given.list_wheels:
        print("\n".join(wheels()))
        return 0
    wanted = [in_small(cell) if given.tiny else cell for cell in cells() if given.only in cell.name]
    if not wanted:
        print(f"No cell's name holds {given.only!r}; --plan prints them.", file=sys.stderr)
        return 2
    if given.plan:
        print("\n".join(plan(wanted)))
        return 0
    if missing := lacking():
        print(f"Not installed: {', '.join(missing)}; --list-wheels names all that is needed.", file=sys.stderr)
        return 2
    try:
        (given.out / "work").mkdir(parents=True, exist_ok=True)
        (given.out / "gpu.part").write_bytes(b"")
        (given.out / "gpu.part").unlink()
    except OSError as error:
        print(f"Nothing can be written to {given.out}: {error}. Give another folder with --out.", file=sys.stderr)
        return 2
    found = machine(given.out / "work")
    if not given.tiny and (why := refusal(found)):
        shutil.rmtree(given.out / "work", ignore_errors=True)
        print(why, file=sys.stderr)
        return 2
    if not given.tiny:
        wanted = [fitted(cell, found["free_gib"]) for cell in wanted]
        if note := crowded(found):
            print(note, flush=True)
    print("\n".join(plan(wanted)), flush=True)
    seconds = (3600.0 if given.tiny else 460.0) if given.seconds is None else given.seconds
    return measure(wanted, found, given.out, started + seconds)


def measure(wanted: list[Cell], found: dict[str, Any], out: Path, end: float) -> int:
    """Run the cells until the clock says `end`; 143 where a signal came before that."""
    started = time.monotonic()
    results: dict[str, Any] = {cell.name: {"left_out": "its turn did not come"} for cell in wanted}
    document: dict[str, Any] = {"machine": found, "cells": results, "comparisons": {}, "cut": ""}
    document["plan"] = [{"cell": cell.name, "expected": cell.expected, "limit": cell.limit} for cell in wanted]
    path = out / "gpu.json"
    try:
        with cut_by_signals():
            for cell in wanted:

                def note(figures: dict[str, Any], name: str = cell.name) -> None:
                    results[name] = figures
                    document["comparisons"] = comparisons(results)
                    document["seconds"] = round(time.monotonic() - started, 1)
                    with suppress(OSError):  # the disk is full; the end says so
                        save(document, path)

                result = run(cell, min(cell.limit, end - time.monotonic()), out / "work", note)
                note(result)
                why = result.get("left_out") or result.get("ended_early") or result.get("failed") or ""
                print(f"== {cell.name} ({result.get('seconds', 0):.0f} s) {why}", flush=True)
                for figure in result.get("figures", ()):
                    shown = {k: v for k, v in figure.items() if not isinstance(v, (dict, list))}
                    print("   " + ", ".join(f"{k} {_short(v)}" for k, v in shown.items()), flush=True)
            try:
                document["estimate"] = estimate(results)
            except Exception as error:  # noqa: BLE001 - the figures matter more than what follows from them
                document["estimate"] = [f"{type(error).__name__}: {error}"]
    except Cut as cut:
        document["cut"] = f"ended by {cut}"
    finally:
        shutil.rmtree(out / "work", ignore_errors=True)
        try:
            save(document, path)
        except OSError as error:
            print(f"{json.dumps(document)}\n{path} cannot be written, so it stands above: {error}")
    for name, compared in document["comparisons"].items():
        print(f"{name}: {compared['ratio']:.2f}, losses apart by {compared['losses_apart']:.2%} at most")
    print("\n".join(document.get("estimate", ())))
    print(f"{path}: {len(wanted)} cells in {time.monotonic() - started:.0f} s {document['cut']}")
    return 143 if document["cut"] else 0


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
