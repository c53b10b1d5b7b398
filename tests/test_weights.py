"""A model folder whose contents changed is another model, whatever its path, sizes and times say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from s1kit.curate.labelling import label_questions
from s1kit.distill.open_teacher import open_teachers
from s1kit.engines import weights
from s1kit.engines.weights import fingerprint, fingerprints
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.journal import Journal
from s1kit.recipe import Recipe
from s1kit.records import Question
from s1kit.stage import open_run


def retrain(folder: Path) -> None:
    """Other weights of the same shape: names, sizes and times stay."""
    path = folder / "model.safetensors"
    times = path.stat()
    data = bytearray(path.read_bytes())
    data[-3000:] = bytes(byte ^ 1 for byte in data[-3000:])
    path.write_bytes(bytes(data))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.fixture
def model(tiny_random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_random_checkpoint, tmp_path / "model"))


def test_other_weights_are_another_model_and_a_copy_or_a_note_beside_them_is_none(model: Path, tmp_path: Path) -> None:
    before = fingerprint(f"hf:{model}")
    assert len(before) == 64
    copy = Path(shutil.copytree(model, tmp_path / "copy", copy_function=shutil.copyfile))
    (copy / "README.md").write_text("a card")
    (copy / "auto_budget.json").write_text("{}")
    assert fingerprint(f"vllm:{copy},dtype=float32") == before
    (copy / "chat_template.jinja").write_text("another")
    retrain(model)
    assert len({before, fingerprint(f"hf:{copy}"), fingerprint(f"hf:{model}")}) == 3
    assert not fingerprints(["tiny-base", "hf:owner/name", "chat:openai/o3", f"completions:http://x#{model}"])


def test_of_large_files_pieces_are_read_and_all_parts_of_a_split_one(tmp_path: Path) -> None:
    first, second = tmp_path / "m-00001-of-00002.gguf", tmp_path / "m-00002-of-00002.gguf"
    first.write_bytes(b"GGUF")
    with second.open("wb") as file:
        file.truncate(weights.WHOLE + 5 * 2**20)
    before = fingerprint(f"llama.cpp:{first}")
    with second.open("rb+") as file:
        file.seek(3 * 2**20)
        file.write(b"1")
    assert fingerprint(f"llama.cpp:{first}") != before


def test_the_journal_keeps_replies_of_other_weights_apart(model: Path, tmp_path: Path) -> None:
    settings = {"teacher": f"hf:{model}", "max_output_tokens": 8}
    recipe = Recipe.model_validate({"name": "r", "out": str(tmp_path), "distill": settings})

    def key() -> str:
        asked = open_teachers(recipe, load_engines=False)
        try:
            local = asked.teachers[0].local
            assert local is not None
            return local.request([{"role": "user", "content": "1+1?"}]).key
        finally:
            asked.close()

    before = key()
    assert key() == before
    retrain(model)
    assert key() != before


def test_labels_of_other_weights_are_asked_again(model: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal.sqlite"
    for num in (1, 1, 2):
        if num == 2:
            retrain(model)
        label_questions([Question(text="1+1?")], f"hf:{model},context_tokens=4096,format=direct", journal)
        with Journal(journal) as kept:
            assert len(kept) == num


@pytest.mark.parametrize("changed", ["model", "baseline"])
def test_a_finished_evaluation_says_that_its_model_was_another_one(
    changed: str, tiny_random_checkpoint: Path, model: Path, tmp_path: Path
) -> None:
    other = {"model": "baseline", "baseline": "model"}[changed]
    benchmark = tmp_path / "b.jsonl"
    benchmark.write_text('{"question": "1+1?", "answer": "2"}\n')
    given: dict[str, Any] = {changed: f"hf:{model}", other: f"hf:{tiny_random_checkpoint}", "answer_tokens": 4}
    evaluated = {**given, "benchmarks": [str(benchmark)], "max_tokens": [4], "direct_tokens": 4}
    recipe = Recipe.model_validate({"name": "r", "out": str(tmp_path), "evaluate": evaluated})
    run = open_run(recipe.folder, "r", {})
    evaluate(recipe, run)
    assert evaluate(recipe, run).is_done
    retrain(model)
    with pytest.raises(InputError, match=r"the files of hf:\S+/model changed since.*--redo evaluate"):
        evaluate(recipe, run)
