"""The whole road, shrunken, through the command line: it runs, it resumes, and it says the same twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from s1kit.cli import main
from s1kit.cli.run import STAGES

SHRUNKEN = [
    'collect.sources=[{builtin="tiny", num=600}]',
    "curate.num=48",
    "train.epochs=2",
    "evaluate.num_questions=24",
    "evaluate.max_tokens=[0, 48, 96]",
    "evaluate.num_waits=[0, 1]",
    "evaluate.votes=[1, 2]",
    "evaluate.num_engines=1",
    "--quiet",
]


def rows_of(run: Path, stage: str, name: str) -> list[dict[str, object]]:
    shards = sorted((run / stage).glob(f"{name}-*.parquet"))
    return [row for shard in shards for row in pq.read_table(shard).to_pylist()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert main(["run", "tiny", f"out={out}", *SHRUNKEN]) == 0
    return out / "tiny"


def test_every_stage_leaves_rows_and_a_receipt(undisturbed: Path) -> None:
    for stage in STAGES:
        receipt = json.loads((undisturbed / stage / "receipt.json").read_text())
        assert (receipt["stage"], receipt["seed"]) == (stage, 0)
    assert len(rows_of(undisturbed, "curate", "samples")) == 48
    assert (undisturbed / "train" / "checkpoint" / "thinking_format.json").exists()
    assert {row["verdict"] for row in rows_of(undisturbed, "evaluate", "generations")} >= {"correct", "wrong"}


def test_dropped_rows_say_why(undisturbed: Path) -> None:
    dropped = rows_of(undisturbed, "collect", "dropped") + rows_of(undisturbed, "curate", "dropped")
    reasons = {str(row["reason"]) for row in dropped}
    assert any(r.startswith("duplicate") for r in reasons)
    assert any("tiny" in r for r in reasons)
    assert any(r.startswith("answered_by:tiny-base") for r in reasons)
    assert all(row["evidence"] for row in dropped)


def test_no_held_out_question_reaches_the_samples(undisturbed: Path) -> None:
    asked = {row["id"] for row in rows_of(undisturbed, "evaluate", "questions")}
    trained = {row["trace"]["question"]["id"] for row in rows_of(undisturbed, "curate", "samples")}  # type: ignore[index]
    assert len(asked) == 24
    assert not asked & trained


def test_the_report_stands_alone_and_shows_the_curve(undisturbed: Path) -> None:
    html = (undisturbed / "report" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in html
    assert 'src="http' not in html
    for figure in ("curve.png", "curve.svg"):
        assert (undisturbed / "report" / figure).stat().st_size > 1000


def test_a_finished_run_is_not_repeated(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {p: p.stat().st_mtime_ns for p in undisturbed.glob("*/*") if p.suffix in (".parquet", ".json")}
    assert main(["run", "tiny", f"out={undisturbed.parent}", *SHRUNKEN]) == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}
    assert "report.html" in capsys.readouterr().out


def test_other_settings_for_a_finished_stage_are_refused(undisturbed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "tiny", f"out={undisturbed.parent}", *SHRUNKEN, "train.epochs=3"]) == 2
    assert "epochs was 2 and is now 3" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_with_the_same_rows(undisturbed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1kit", "run", "tiny", f"out={tmp_path}", *SHRUNKEN]
    run = tmp_path / "tiny"
    for begun in ("distill", "train", "evaluate"):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
        while not (run / begun / "started.json").exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.5)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0
    for stage, name in [("collect", "questions"), ("curate", "samples"), ("evaluate", "generations")]:
        assert rows_of(run, stage, name) == rows_of(undisturbed, stage, name), f"{stage}/{name}"


def test_a_polite_kill_is_status_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1kit", "run", "tiny", f"out={tmp_path}", *SHRUNKEN[:-1]]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A parent in the background passes on that interrupts are ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (tmp_path / "tiny" / "curate" / "started.json").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "to go on: s1kit run tiny" in printed
    assert "Traceback" not in printed
