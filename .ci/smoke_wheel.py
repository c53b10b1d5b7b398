"""Build the wheel and use it as a user would: fresh environments, one for each extra, outside the clone.

    python .ci/smoke_wheel.py                              core and light extras, every Python found, newest versions
    python .ci/smoke_wheel.py --lowest                     the lowest versions that pyproject.toml admits
    python .ci/smoke_wheel.py --group others torch         the other extras, and those that bring torch
    python .ci/smoke_wheel.py --extras train hub           some by name
    python .ci/smoke_wheel.py --resolve --lowest           every extra: only whether its versions go together

A missing interpreter is skipped and said. Whatever an environment lacks must be refused in one paragraph with the
command that installs it, never with a traceback.
"""

from __future__ import annotations

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIGHT = ["", "grade", "curate", "report", "serve", "gguf"]
OTHERS = ["grammar", "otel", "azure", "vertex", "bedrock", "tensorboard", "wandb", "hub", "ray"]
TORCH = ["torch", "train", "semantic", "fp8", "qlora", "all"]
GROUPS = {"light": LIGHT, "others": OTHERS, "torch": TORCH}
"""What needs a compiler or a card of its own (llama-cpp, vllm, flash) is tried where that is."""
CARDS = ["vllm", "flash"]
"""They pin what the core only bounds, or are built from source: their versions are those of their own environments."""
PYTHONS = ["3.11", "3.12", "3.13"]

RECIPE = """
name = "mine"
stages = ["collect", "distill", "curate"]
[collect]
sources = [{ path = "questions.csv" }]
duplicates = "exact"
decontaminate = "strict"
against = ["math500"]
[distill]
teacher = "solutions"
[curate]
quality = ["s1"]
num = 50
"""

REFUSED_WITHOUT = {
    "grade": ["grade", "pairs.jsonl"],
    "curate": ["collect", "mine.toml", "name=near", "collect.duplicates=near"],
    "torch": ["ask", "1+1?"],
    "train": ["run", "tiny"],
    "serve": ["serve", "--port", "0"],
    "hub": ["run", "mine.toml", "name=hub", 'collect.sources=[{ hub = "openai/gsm8k", subset = "main" }]'],
    "semantic": [
        "run",
        "mine.toml",
        "name=near",
        "collect.duplicates=near",
        "collect.decontaminate=semantic",
        "collect.semantic.model=.",
    ],
    "ray": ["collect", "mine.toml", "name=ray", "collect.executor=ray"],
    "vllm": ["ask", "1+1?", "--model", "vllm:Qwen/Qwen3-0.6B"],
    "llama-cpp": ["ask", "1+1?", "--model", "llama.cpp:none.gguf"],
    "gguf": ["run", "tiny", "name=weights", "train.base=none.gguf"],
    "flash": ["run", "tiny", "name=flash", "train.layout.attention=flash"],
    "fp8": ["run", "tiny", "name=fp8", "train.layout.fp8=true"],
    "qlora": ["run", "tiny", "name=qlora", "train.lora.quantize=true"],
    "tensorboard": ["run", "tiny", "name=board", 'train.layout.trackers=["tensorboard"]'],
    "wandb": ["run", "tiny", "name=wandb", 'train.layout.trackers=["wandb"]'],
}
"""Commands that need an extra, and must name it where it is missing."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--extras", nargs="*", help="'' is the core alone")
    parser.add_argument("--group", nargs="*", choices=list(GROUPS), default=["light"])
    parser.add_argument("--lowest", action="store_true")
    parser.add_argument("--pythons", nargs="*", default=PYTHONS)
    parser.add_argument("--resolve", action="store_true", help="install nothing")
    given = parser.parse_args()
    if given.resolve:
        return resolve(given.pythons, lowest=given.lowest)
    extras = given.extras if given.extras is not None else [e for group in given.group for e in GROUPS[group]]
    failed = 0
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        call([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(work), str(ROOT)], work)
        (wheel,) = work.glob("*.whl")
        for version in given.pythons:
            for extra in extras if find_python(version) else []:
                folder = work / f"{version}-{extra or 'core'}"
                try:
                    try_one(version, wheel, extra, folder, lowest=given.lowest)
                    print(f"Python {version}, {extra or 'core'}: passed", flush=True)
                except Failed as failure:
                    failed += 1
                    print(f"Python {version}, {extra or 'core'}: {failure}", flush=True)
                shutil.rmtree(folder)  # an environment with torch is gigabytes
    return 1 if failed else 0


class Failed(Exception):
    """A command that did not do what it should, with its output."""


def find_python(version: str) -> str | None:
    """The interpreter of a version; None, and said, where it is not there or does not start."""
    interpreter = shutil.which(f"python{version}")
    if interpreter and subprocess.run([interpreter, "--version"], capture_output=True, check=False).returncode == 0:
        return interpreter
    print(f"Python {version}: skipped, there is no python{version} here")
    return None


def resolve(pythons: Sequence[str], *, lowest: bool) -> int:
    """Whether the versions of each extra go together, as pip sees it; 1 where some do not."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    failed = 0
    for version in pythons:
        interpreter = find_python(version)
        for extra in ["", *(e for e in extras if e not in CARDS)] if interpreter else []:
            wanted = (
                lowest_versions(extra, version)
                if lowest
                else [*requirements(""), *(requirements(extra) if extra else [])]
            )
            command = [str(interpreter), "-m", "pip", "install", "--dry-run", "-q", "--ignore-installed", *wanted]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            failed += done.returncode != 0
            reason = "\n".join(line for line in done.stderr.splitlines() if not line.startswith("["))[-600:]
            print(f"Python {version}, {extra or 'core'}: {reason if done.returncode else 'goes together'}", flush=True)
    return 1 if failed else 0


def try_one(version: str, wheel: Path, extra: str, folder: Path, *, lowest: bool) -> None:
    """Install one extra by itself and use what it brings; raises Failed with the output of what failed."""
    folder.mkdir()
    call([f"python{version}", "-m", "venv", str(folder / "venv")], folder)
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    pins = lowest_versions(extra, version) if lowest else []
    call([str(folder / "venv/bin/python"), "-m", "pip", "install", "-q", "--no-compile", wanted, *pins], folder)
    write_questions(folder / "questions.csv")
    (folder / "mine.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "pairs.jsonl").write_text('{"solution": "x^2+2x+1", "answer": "(x+1)^2"}\n', encoding="utf-8")
    for arguments in (
        ["--version"],
        ["doctor"],
        ["check", "mine.toml"],
        ["estimate", "s1k"],
        ["run", "mine.toml"],
        ["show", "runs/mine"],
        ["export", "runs/mine/curate", "--to", "samples.jsonl"],
    ):
        s1kit(folder, arguments)
    for needed, arguments in REFUSED_WITHOUT.items():
        if needed not in brought_by(extra):
            output = s1kit(folder, arguments, status=2)
            if "pip install" not in output:
                raise Failed(f"s1kit {' '.join(arguments)} does not say what to install:\n{output}")
    if extra in ("grade", "curate"):
        s1kit(folder, REFUSED_WITHOUT[extra])


def write_questions(path: Path) -> None:
    """300 questions as a European Excel saves them: a byte order mark and semicolons."""
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        rows = csv.writer(file, delimiter=";")
        rows.writerow(["question", "solution", "answer"])
        for i in range(300):
            shown = f"First {i} and {i + 1} are added, then the sum of both is doubled, which gives {4 * i + 2} in all."
            rows.writerow([f"What is twice the sum of {i} and {i + 1}?", shown, 4 * i + 2])


def s1kit(folder: Path, arguments: Sequence[str], status: int = 0) -> str:
    return call([str(folder / "venv/bin/s1kit"), *arguments], folder, status)


def call(command: Sequence[str], folder: Path, status: int = 0) -> str:
    """Run a command outside the clone; raises Failed for another status, or a traceback."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    output = done.stdout + done.stderr
    if done.returncode != status or "Traceback" in output:
        told = "\n".join(line[:300] for line in output.splitlines()[-30:] if not line.startswith("WARNING: Location"))
        raise Failed(f"{' '.join(command)}: status {done.returncode}, not {status}\n{told}")
    return output


def requirements(extra: str) -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: list[str] = []
    for line in project["optional-dependencies"][extra] if extra else project["dependencies"]:
        inner = re.fullmatch(r"s1kit\[(.+)\]", line)
        found += [r for each in inner[1].split(",") for r in requirements(each)] if inner else [line]
    return found


def brought_by(extra: str) -> set[str]:
    """The extras that one brings, itself included."""
    if not extra:
        return set()
    mine = set(requirements(extra))
    return {name for name in REFUSED_WITHOUT if set(requirements(name)) <= mine} | {extra}


def lowest_versions(extra: str, python: str) -> list[str]:
    """The lowest versions that the core and an extra admit on a Python such as "3.13", as pins."""
    lines = {*requirements(""), *(requirements(extra) if extra else [])}
    parts = [line.partition(";") for line in sorted(lines) if ">=" in line]
    return [re.sub(",<.*", "", bare).replace(">=", "==").strip() for bare, _, marker in parts if holds(marker, python)]


def holds(marker: str, python: str) -> bool:
    """Whether what follows the semicolon of a requirement is true of a Python; only its version is looked at."""
    found = re.search(r"python_version\s*(<|>=)\s*'3\.(\d+)'", marker)
    return found is None or (int(python.partition(".")[2]) < int(found[2])) == (found[1] == "<")


if __name__ == "__main__":
    sys.exit(main())
