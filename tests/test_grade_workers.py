"""The worker processes of the grader: what they import, and what is said when they cannot start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import s1kit
from s1kit.errors import InputError
from s1kit.grade.workers import WorkerPool, import_path

pytest.importorskip("math_verify")

ROOT = Path(s1kit.__file__).parents[1]


def test_a_module_beside_the_data_is_not_executed(tmp_path: Path) -> None:
    (tmp_path / "sympy.py").write_text("open('executed', 'w').close()\nraise ImportError('not the real one')\n")
    code = "from s1kit.grade.workers import WorkerPool; print(WorkerPool(1).run([('x+1', '1+x')]))"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'verified': True" in done.stdout
    assert not (tmp_path / "executed").exists()


def test_relative_entries_of_pythonpath_do_not_reach_a_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", ".", "data", str(tmp_path)]))
    assert import_path() == [str(tmp_path), str(ROOT.resolve())]


def test_a_worker_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "math_verify.py").write_text("raise ImportError('this build of math_verify is broken')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(InputError, match="this build of math_verify is broken"):
        WorkerPool(2).run([("x+1", "1+x")])
