"""Tier `semantic`: what a sentence model proposes, what a judge decides, and what stays when nobody judges.

The model is MiniLM's architecture with random weights: a text is nearest to itself and to its neighbours in words,
which is all that these tests need.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers.provider_server import Fault, ProviderServer

from s1kit.errors import InputError
from s1kit.pool.collect import collect
from s1kit.pool.semantic import Near, Pair, judge_pairs, near_questions, same_as
from s1kit.pool.sentences import SentenceModel, embed_cached, fingerprint, load_sentence_model
from s1kit.providers.chat import Message, Reply
from s1kit.recipe import Recipe
from s1kit.records import Dropped
from s1kit.stage import Run, Stage, open_run

pytest.importorskip("transformers")

WORDS = [
    *("a", "the", "of", "how", "many", "what", "is", "find", "sum", "train", "leaves", "at", "noon", "bird", "apples"),
    *("costs", "more", "than", "two", "seven", "eight"),
]
HELD_OUT = "How many apples costs the bird at noon?"
COPY = "At noon the bird costs APPLES: how many?"
OTHER = "Find the sum of two and seven more than eight."


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder of all-MiniLM-L6-v2's shape."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("minilm")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS, "?", ".", *"abcdefghijklmnopqrstuvwxyz"]
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(vocabulary)) + "\n")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    BertModel(config).save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    write_pooling(folder, "mean_tokens")
    return folder


def write_pooling(folder: Path, mode: str) -> None:
    modes = {f"pooling_mode_{name}": name == mode for name in ("cls_token", "mean_tokens", "max_tokens")}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 384, **modes}))


def copy_of(folder: Path, to: Path) -> Path:
    for path in folder.rglob("*"):
        if path.is_file():
            (to / path.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
            (to / path.relative_to(folder)).write_bytes(path.read_bytes())
    return to


def test_a_vector_is_the_mean_of_its_tokens_and_does_not_depend_on_its_neighbours(model_folder: Path) -> None:
    import torch

    model = SentenceModel(model_folder)
    together = model.embed([HELD_OUT, "a", OTHER * 5])
    for text, vector in zip([HELD_OUT, "a", OTHER * 5], together, strict=True):
        assert np.abs(vector - model.embed([text])[0]).max() < 2e-3
        with torch.inference_mode():
            plain = model._model(**model._tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0)
        assert np.abs(vector - (plain / plain.norm()).numpy()).max() < 2e-3


def test_a_folder_that_pools_by_its_first_token_is_read_so(model_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(model_folder, tmp_path / "cls")
    write_pooling(folder, "cls_token")
    first, mean = SentenceModel(folder).embed([HELD_OUT]), SentenceModel(model_folder).embed([HELD_OUT])
    assert float(first[0].astype(float) @ mean[0].astype(float)) < 0.999
    assert fingerprint(str(folder)) != fingerprint(str(model_folder))


def test_what_a_folder_asks_for_and_we_do_not_do_is_refused(model_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(model_folder, tmp_path / "max")
    write_pooling(folder, "max_tokens")
    with pytest.raises(InputError, match="pools by pooling_mode_max_tokens"):
        SentenceModel(folder)
    (folder / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Dense"}]))
    with pytest.raises(InputError, match="has a layer Dense"):
        SentenceModel(folder)


def test_pickled_weights_are_not_opened(model_folder: Path, tmp_path: Path) -> None:
    folder = copy_of(model_folder, tmp_path / "pickled")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="no folder of a model"):
        load_sentence_model(str(folder))


def test_a_batch_is_embedded_once(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = embed_cached(str(model_folder), [HELD_OUT, OTHER], tmp_path)
    monkeypatch.setattr("s1kit.pool.sentences.load_sentence_model", lambda folder: pytest.fail("asked again"))
    assert (embed_cached(str(model_folder), [HELD_OUT, OTHER], tmp_path) == before).all()


def test_the_nearest_evaluation_questions_come_first_and_at_most_three(model_folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "bench.jsonl"
    held_out.write_text("".join(json.dumps({"question": f"{HELD_OUT} {w}"}) + "\n" for w in WORDS[:6]))
    found = near_questions([f"{HELD_OUT} of"], [str(held_out)], str(model_folder), 0.5, str(tmp_path / "cache"), 0)
    assert len(found) == 3
    assert found[0][:3] == [0, "bench", f"{HELD_OUT} of"]
    similarities = [row[3] for row in found]
    assert similarities[0] > 0.999
    assert similarities == sorted(similarities, reverse=True)


def run_semantic(tmp_path: Path, model: Path | str, name: str = "run", **semantic: Any) -> tuple[Stage, Run]:
    (tmp_path / "bench.jsonl").write_text(json.dumps({"question": HELD_OUT}) + "\n")
    rows = [{"question": COPY}, {"question": OTHER}]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "sources": [{"path": str(tmp_path / "pool.jsonl")}],
        "against": [str(tmp_path / "bench.jsonl")],
        "decontaminate": "semantic",
        "coverage": 1.0,
        "semantic": {"model": str(model), "similarity": 0.5, **semantic},
    }
    recipe = Recipe.model_validate({"name": name, "out": str(tmp_path), "collect": settings})
    run = open_run(recipe.folder, recipe.name, recipe.model_dump())
    return collect(recipe, run), run


def test_without_a_judge_the_nearest_are_dropped(tmp_path: Path, model_folder: Path) -> None:
    stage, _ = run_semantic(tmp_path, model_folder, unjudged_similarity=1.0)
    nearest, other = [json.loads(line) for line in (stage.folder / "candidates.jsonl").read_text().splitlines()]
    between = (nearest["similarity"] + other["similarity"]) / 2
    _, run = run_semantic(tmp_path, model_folder, "again", unjudged_similarity=between)
    (drop,) = run.rows("collect", "dropped", Dropped)
    assert json.loads(drop.row)["text"] == nearest["text"]
    assert drop.evidence.endswith("no judge")


def test_without_a_judge_candidates_below_the_threshold_are_listed_and_stay(tmp_path: Path, model_folder: Path) -> None:
    stage, _ = run_semantic(tmp_path, model_folder, unjudged_similarity=1.0)
    assert stage.counts["out"] == 2
    first, *_ = [json.loads(line) for line in (stage.folder / "candidates.jsonl").read_text().splitlines()]
    assert (first["set_name"], first["question"], first["verdict"]) == ("bench", HELD_OUT, "")
    assert stage.figures["semantic"]["not judged"] == stage.figures["semantic"]["pairs"]
    page = (stage.folder / "collect.html").read_text()
    assert "Near an evaluation question in meaning" in page
    assert HELD_OUT in page


def test_what_the_judge_calls_the_same_is_dropped_with_its_reason(tmp_path: Path, model_folder: Path) -> None:
    def say(body: dict[str, Any], question: str) -> dict[str, Any]:
        verdict = "SAME" if "APPLES" in question else "DIFFERENT"
        body["choices"][0]["message"]["content"] = f"It is about apples.\n{verdict}"
        return body

    with ProviderServer() as server:
        server.faults = lambda number, question: Fault(change=lambda body: say(body, question))
        stage, run = run_semantic(tmp_path, model_folder, judge=f"chat:{server.compatible}#judge")
    (drop,) = run.rows("collect", "dropped", Dropped)
    assert drop.reason == "contaminated:bench"
    assert "judged the same: It is about apples." in drop.evidence
    assert json.loads(drop.row)["text"].startswith(COPY)
    assert stage.figures["semantic"]["same"] == 1


class Judge:
    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.asked: list[str] = []

    async def chat(self, messages: Sequence[Message], *, draw: int = 0) -> Reply:
        self.asked.append(messages[-1]["content"])
        return Reply(answer=self.replies.pop(0))


def test_a_reply_that_is_no_verdict_drops_nothing(tmp_path: Path) -> None:
    pairs = [Pair(row, f"text {row}", Near("set", "question", 0.9)) for row in range(3)]
    judged = judge_pairs(pairs, Judge("Yes.\nSAME", "I think they are the same", ""), tmp_path / "journal.sqlite")
    assert [pair.verdict for pair in judged] == ["same", "unsure", "unsure"]
    assert list(same_as(judged)) == [0]
    assert [pair.is_open for pair in judged] == [False, True, True]


def test_the_nearest_of_several_same_questions_is_the_evidence() -> None:
    pairs = [Pair(0, "t", Near("set", q, s), "same") for q, s in (("far", 0.8), ("near", 0.95))]
    assert same_as(pairs)[0].near.question == "near"


def test_a_set_of_hashes_cannot_be_compared_in_meaning(tmp_path: Path, model_folder: Path) -> None:
    (tmp_path / "pool.jsonl").write_text(json.dumps({"question": OTHER}) + "\n")
    settings = {"sources": [{"path": str(tmp_path / "pool.jsonl")}], "against": ["math500"]}
    settings |= {"decontaminate": "semantic", "semantic": {"model": str(model_folder)}}
    recipe = Recipe.model_validate({"name": "t", "out": str(tmp_path), "collect": settings})
    with pytest.raises(InputError, match="only hashes are there"):
        collect(recipe, open_run(recipe.folder, recipe.name, recipe.model_dump()))


def test_the_tier_names_the_setting_that_it_misses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder of a model"):
        run_semantic(tmp_path, "nowhere")
    recipe = Recipe.model_validate(
        {"name": "t", "out": str(tmp_path), "collect": {"sources": [{"builtin": "tiny"}], "decontaminate": "semantic"}}
    )
    with pytest.raises(InputError, match="has no sentence model"):
        collect(recipe, open_run(recipe.folder, recipe.name, recipe.model_dump()))
