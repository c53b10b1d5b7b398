"""Progress as lines, where there is no terminal."""

from __future__ import annotations

import time

import pytest

from s1kit import progress


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SECONDS_TO_FIRST_LINE", 0.02)
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.05)


def test_work_of_which_nothing_finishes_shows_that_it_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.meter("distill", total=7, unit="traces"):
        for _ in range(500):
            time.sleep(0.01)
            if (said := capsys.readouterr().err).count("\n"):
                break
    assert said.startswith("distill: 0/7 traces in ")


def test_lines_become_rare_while_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.meter("distill", total=7, unit="traces"):
        time.sleep(1.0)
    assert capsys.readouterr().err.count("distill: 0/7") < 9, "twenty at an even pace"


def test_what_is_quieted_while_a_meter_runs_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.meter("distill", total=7, unit="traces"), progress.quieted(True):
        time.sleep(0.3)
        said = capsys.readouterr().err
    assert not said


def test_a_quiet_run_and_a_closed_meter_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.quieted(True), progress.meter("distill", total=7, unit="traces"):
        time.sleep(0.2)
    assert not capsys.readouterr().err
    with progress.meter("curate", total=7, unit="rows") as bar:
        bar.advance(7)
    assert capsys.readouterr().err.splitlines()[-1].startswith("curate: 7/7 rows in ")
    time.sleep(0.2)
    assert not capsys.readouterr().err
    assert not bar._beating.is_alive()
