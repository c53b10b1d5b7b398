"""Models that cannot be used are one paragraph that names what was found, and exit 2."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from fixtures_models import write_random_checkpoint

from s1kit.cli import main

pytest.importorskip("torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_random_checkpoint(tmp_path / "model")


def refusal(arguments: list[str], capsys: Any) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return captured.out + captured.err


def both_ways(folder: Path) -> dict[str, list[str]]:
    return {
        "ask": ["ask", "1+1?", "--model", f"hf:{folder}"],
        "train": ["check", "tiny", f"train.base=hf:{folder}", f"out={folder.parent}"],
    }


@pytest.mark.parametrize("command", ["ask", "train"])
def test_a_folder_without_a_tokenizer(command: str, folder: Path, capsys: Any) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    said = refusal(both_ways(folder)[command], capsys)
    assert "tokenizer" in said
    assert str(folder) in said


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{{ raise_exception('only tools may speak') }}", "only tools may speak"),
        ("{{ messages[0]['content'] + 1 }}", "chat template"),
        ("{% for m in messages %}{{ m.content }}", "chat template"),
        ("{{ messages | nonsense }}", "chat template"),
        ("{{ messages[7].content.strip() }}", "chat template"),
    ],
)
def test_a_template_that_raises(template: str, complaint: str, folder: Path, capsys: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"chat_template": template}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    assert complaint in refusal(both_ways(folder)["ask"], capsys)


@pytest.mark.parametrize("command", ["ask", "train"])
def test_a_model_larger_than_the_memory(command: str, folder: Path, capsys: Any, monkeypatch: Any) -> None:
    sizes = {"SC_PHYS_PAGES": 20}
    real = os.sysconf
    monkeypatch.setattr(os, "sysconf", lambda name: sizes.get(name) or real(name))
    said = refusal(both_ways(folder)[command], capsys)
    assert "memory" in said
    assert "GB" in said


@pytest.mark.parametrize("command", ["ask", "train"])
def test_an_architecture_that_transformers_does_not_know(command: str, folder: Path, capsys: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "mamba9", "architectures": ["Mamba9"]}))
    assert "mamba9" in refusal(both_ways(folder)[command], capsys)


def test_a_config_that_is_not_json(folder: Path, capsys: Any) -> None:
    (folder / "config.json").write_text("{")
    assert "config.json" in refusal(both_ways(folder)["ask"], capsys)


def test_weights_that_are_cut_off(folder: Path, capsys: Any) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    assert "cannot load" in refusal(both_ways(folder)["ask"], capsys)
