"""The model that `ask` and `serve` use by default ships, is small, and does what the README shows."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import pytest

from s1kit.cli import main

RASPBERRY = "Count the letter r:\n" + "\n".join(f"#{n} {c}" for n, c in enumerate([*"raspberry", "end"], start=1))


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["ask", RASPBERRY, "--json", *arguments]) == 0
    printed: dict[str, object] = json.loads(capsys.readouterr().out)
    return printed


def test_the_packaged_models_are_small_and_hold_no_code() -> None:
    for name in ("base", "model"):
        folder = Path(str(resources.files("s1kit.tiny"))) / name
        assert sum(p.stat().st_size for p in folder.iterdir()) < 8_000_000
        assert not [p.name for p in folder.iterdir() if p.suffix in (".py", ".bin", ".pt", ".pkl")]


def test_it_counts_the_letters_of_raspberry(capsys: pytest.CaptureFixture[str]) -> None:
    reply = ask(capsys)
    assert "Final Answer: 3" in str(reply["answer"])
    assert (reply["num_waits"], reply["was_cut_off"]) == (0, False)


def test_waits_are_counted_and_marked(capsys: pytest.CaptureFixture[str]) -> None:
    reply = ask(capsys, "--waits", "2")
    assert reply["num_waits"] == 2
    forced = [s["text"] for s in reply["segments"] if s["origin"] == "forced"]  # type: ignore[attr-defined]
    assert forced.count("Wait") == 2


def test_a_maximum_cuts_and_a_minimum_holds(capsys: pytest.CaptureFixture[str]) -> None:
    cut = ask(capsys, "--max-thinking", "40")
    assert (cut["thinking_tokens"], cut["was_cut_off"]) == (40, True)
    assert ask(capsys, "--max-thinking", "0")["thinking"] == ""
    assert int(str(ask(capsys, "--min-thinking", "160")["thinking_tokens"])) >= 160


def test_a_budget_that_cannot_be_is_the_users_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--max-thinking", "-1"], ["--max-thinking", "5", "--min-thinking", "9"], ["--wait", ""]):
        assert main(["ask", RASPBERRY, *arguments]) == 2
    assert main(["ask", RASPBERRY, "--model", "hf:/nowhere"]) == 2
    assert main(["ask", RASPBERRY, "--model", "huggingface:x"]) == 2
    assert "Traceback" not in capsys.readouterr().err
