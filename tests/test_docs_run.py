"""Every command and snippet of the documentation is run as it is written, in one folder: `make test-docs`.

What a machine may lack is named by a comment above its block, `<!-- needs: a GPU -->`; such a block is left
out, unless what it needs is made here. Installing is tried by .ci/smoke_wheel.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_docs import PYTHON, RECIPES, ROOT, SHELL, Block, blocks

MADE = {
    "a finished run",
    "mine.toml",
    "try.toml",
    "one-gpu.toml",
    "auto.json",
    "any.gguf",
    "a server",
    "recorded generations",
}
"""What the folder holds, a block above makes, or the test starts."""
if shutil.disk_usage(tempfile.gettempdir()).free > 60e9:
    MADE.add("60 GB of disk")
INSTALLING = re.compile(r"^(source|pip|uv|pipx|make) ")
BOUNDED = 3600
"""Seconds for one block, so that one that waits for ever ends. A busy machine is not a fault of the page."""

OPENING = f"""set -e
s1kit() {{ "{sys.executable}" -m s1kit "$@"; }}
serve_and_stop() {{
  "{sys.executable}" -m s1kit "$@" & server=$!
  for _ in $(seq 240); do curl -fs http://127.0.0.1:8000/health > /dev/null && break; sleep 0.5; done
  curl -fs http://127.0.0.1:8000/health > /dev/null; kill -INT $server; wait $server
}}
"""


def needs(block: Block) -> set[str]:
    found = re.match(r"needs: (.*)", block.marks)
    return set(re.split(r", | and ", found[1])) if found else set()


RUNNABLE = [b for b in SHELL if b.marks != "output" and not needs(b) - MADE]
CURL = [b for b in blocks() if b.language in ("", "bash") and b.text.startswith("curl") and not needs(b) - MADE]
SNIPPETS = [b for b in PYTHON if not needs(b) - MADE]


def script(block: Block) -> str:
    """The block's commands as a shell script; in a block that shows output, the lines before it."""
    text = re.sub(r"\\\n\s*", " ", block.text.partition("\n\n")[0] if block.page.name == "tour.md" else block.text)
    lines = []
    for line in text.splitlines():
        if INSTALLING.match(line):
            continue
        lines.append(re.sub(r"^s1kit serve\b", "serve_and_stop serve", line))
    return OPENING + "\n".join(lines)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the demo was run, with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs")
    for name in ("runs", "examples", "bench"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("tiny*", "__pycache__", "*.sqlite"))
    for block in RECIPES:
        name = re.search(r'^name = "(.+)"', block.text, re.MULTILINE)
        assert name
        # Without a key `check` refuses the teacher, as it should; another model takes the same settings, but a price.
        text = block.text.replace("chat:deepseek/deepseek-reasoner", "tiny-base")
        (folder / f"{name[1]}.toml").write_text(text, encoding="utf-8")
    for block in blocks():
        if block.marks.startswith("file: "):
            (folder / block.marks.removeprefix("file: ")).write_text(block.text, encoding="utf-8")
    recorded = [
        f'{{"question": "q{q}", "budget": {b}, "tokens": {b}, "correct": {str((q + b) % 3 > 0).lower()}}}\n'
        for q in range(40)
        for b in (100, 200, 400)
    ]
    (folder / "generations.jsonl").write_text("".join(recorded), encoding="utf-8")
    for budget, waits in ((100, 0), (200, 0), (200, 1)):
        rows = [f'{{"question": "q{q}", "output": "so {q}", "gold": "{q - q % 3}"}}\n' for q in range(40)]
        (folder / f"aime_{budget}_{waits}.jsonl").write_text("".join(rows), encoding="utf-8")
    bash("s1kit run tiny", folder)
    # Small: the pages only look at it.
    small = (ROOT / "s1kit" / "recipes" / "tiny.toml").read_text(encoding="utf-8").replace('"tiny"', '"mine"', 1)
    (folder / "small.toml").write_text(small, encoding="utf-8")
    bash("s1kit run small.toml train.max_steps=20 evaluate.num_questions=40", folder)
    bash("s1kit export runs/tiny/train/checkpoint --to any.gguf", folder)
    return folder


def bash(text: str, folder: Path) -> str:
    text = text if text.startswith(OPENING) else OPENING + text
    env = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    env |= {"PYTHONPATH": str(ROOT), "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, env=env, capture_output=True, text=True, timeout=BOUNDED, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def served(place: Path) -> Iterator[None]:
    with (place / "serve.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "s1kit", "serve"], cwd=place, stdout=log, stderr=log)
    bash("for _ in $(seq 240); do curl -fs http://127.0.0.1:8000/health && break; sleep 0.5; done", place)
    yield
    server.terminate()
    assert server.wait(30) == 0


@pytest.mark.docs
@pytest.mark.parametrize("block", RUNNABLE, ids=str)
def test_the_commands_of_a_block_run_as_they_are_written(block: Block, place: Path) -> None:
    printed = bash(script(block), place)
    if block.page.name == "tour.md":
        shown = [line.strip() for line in block.text.partition("\n\n")[2].splitlines()]
        missing = [line for line in shown if line and "..." not in line and line not in printed]
        assert not missing, printed


@pytest.mark.docs
@pytest.mark.parametrize("block", CURL, ids=str)
def test_a_request_of_the_documentation_is_answered(block: Block, place: Path, served: None) -> None:
    assert '"error"' not in bash(block.text, place)


@pytest.mark.docs
@pytest.mark.parametrize("block", SNIPPETS, ids=str)
def test_a_snippet_of_the_documentation_runs(block: Block, place: Path, served: None) -> None:
    file = place / "snippet.py"
    file.write_text(block.text, encoding="utf-8")
    bash(f'"{sys.executable}" {file}', place)


def test_what_cannot_run_anywhere_says_what_it_needs() -> None:
    """So that nothing escapes the tests above by being forgotten."""
    shells = [b for b in blocks() if b.language in ("", "bash", "console") and re.match(r"\w+ ?\w* .*", b.text)]
    programs = ("s1kit", "curl", "vllm", "pip", "make", "lm_eval", "hf", "source", "uv", "runs/")
    for block in shells:
        first = block.text.split()[0]
        if not first.startswith(programs) or block in RUNNABLE or block in CURL:
            continue
        assert needs(block) or INSTALLING.match(block.text), f"{block}: neither run nor marked"
