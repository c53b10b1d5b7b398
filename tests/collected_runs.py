"""A run whose stage `collect` is done, for tests of the stages after it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from s1kit.records import Question
from s1kit.stage import Run, open_run


def collected_run(folder: Path, questions: Sequence[Question]) -> Run:
    """The run in `folder`, made with these questions unless it is there."""
    run = open_run(folder, folder.name, {})
    if not (folder / "collect").exists():
        stage = run.open("collect", config={}, seed=0)
        stage.write("questions", Question, list(questions))
        stage.finish()
    return run
