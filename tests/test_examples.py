"""The examples run, and say what the documentation says they do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_one_question_goes_from_pool_to_report() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "one_question.py"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "quality: kept" in done.stdout
    assert "64 tokens, 0 waits: wrong" in done.stdout
    assert "64 tokens, 1 waits: correct" in done.stdout
    assert "[Wait]" in done.stdout
