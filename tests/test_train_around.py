"""What lies around training: the estimate, the export, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from fixtures_models import write_tokenizer
from fixtures_train import make_samples

from s1kit.errors import InputError
from s1kit.recipe import Cluster, Layout, Recipe, Train, load_recipe
from s1kit.records import Sample
from s1kit.stage import open_run
from s1kit.train.advice import check_card, fastest, fits
from s1kit.train.cost import estimate
from s1kit.train.estimate import PAPER, estimate_train, sample_lengths, shape_of
from s1kit.train.export import Exported, export_samples
from s1kit.train.flops import peak_tflops
from s1kit.train.shapes import SHAPES
from s1kit.train.train import train_samples

B32 = SHAPES["qwen2.5-32b"]


def lengths_of_s1k() -> list[int]:
    return sample_lengths(load_recipe("s1k"))[0]


def test_the_assumed_lengths_are_those_that_the_paper_tells() -> None:
    lengths = lengths_of_s1k()
    assert sum(n > 4096 for n in lengths) == pytest.approx(740, abs=2)
    assert 4_700_000 < sum(lengths) < 6_100_000


def test_the_estimate_reproduces_the_26_minutes_of_the_paper() -> None:
    found = estimate(B32, lengths_of_s1k(), PAPER, Cluster(card="H100", num_cards=16))
    assert found.seconds / 60 == pytest.approx(26, rel=0.1)
    assert found.balance < 0.6


def test_the_recipe_takes_less_than_half_of_the_papers_time_and_fits() -> None:
    train = load_recipe("s1k").train
    found = estimate(B32, lengths_of_s1k(), train, Cluster(card="H100", num_cards=16))
    assert found.seconds / 60 < 13
    assert fits(found, Cluster())
    assert found.balance > 0.95


def test_a_training_that_does_not_fit_says_what_would() -> None:
    recipe = load_recipe("s1k", ["train.layout.activation_checkpointing=none", "train.layout.context_parallel=1"])
    told = "\n".join(estimate_train(recipe))
    found = re.search(r"will NOT fit: set train\.layout\.activation_checkpointing=(\w+)", told)
    assert found, told
    layout = recipe.train.layout.model_copy(update={"activation_checkpointing": found[1]})
    mended = recipe.train.model_copy(update={"layout": layout})
    assert fits(estimate(B32, lengths_of_s1k(), mended, Cluster()), Cluster())


@pytest.mark.parametrize(
    ("base", "card", "num_cards", "advice"),
    [
        ("Qwen2.5-32B", "H100", 8, "set train.layout.activation_checkpointing=full"),
        ("Qwen2.5-32B", "H100", 1, "take 16 cards .*, or train adapters"),
        (
            "Qwen2.5-7B",
            "L4",
            1,
            "take .* cards .*, or train adapters on .* train.lora.quantize=true",
        ),
        ("Qwen2.5-72B", "L4", 1, "take larger cards or a smaller model"),
    ],
)
def test_the_advice_changes_as_little_as_fits(base: str, card: str, num_cards: int, advice: str) -> None:
    cluster = [f"train.layout.cluster.card={card}", f"train.layout.cluster.num_cards={num_cards}"]
    recipe = load_recipe("s1k", [f"train.base=hf:Qwen/{base}", "train.layout.context_parallel=1", *cluster])
    told = "\n".join(estimate_train(recipe))
    assert re.search(f"will NOT fit: {advice}", told), told


def test_on_a_card_the_log_has_mfu_and_dollars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds for 80,000 tokens of 32B on 16 H100 at $2 an hour."""
    import torch

    from s1kit.train import meter
    from s1kit.train.processes import World

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(meter, "_peak_memory", lambda _: 71.5)
    clock = iter([0.0, 10.0, 20.0])
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    found = meter.TrainingMeter(tmp_path / "log.jsonl", Train(), B32, World(torch.device("cuda"), 0, 16))
    found.resume(0)
    for step in (1, 2):
        row = found.step([5000] * 16, step=step, loss=1.0)
    matrices, attention = 6 * 31.985e9 * 80_000, 6 * 64 * 5120 * 16 * 5000**2
    assert row["mfu"] == pytest.approx((matrices + attention) / 10 / (16 * 989e12), rel=1e-3)
    assert row["dollars"] == pytest.approx(2 * 10 * 16 * 2 / 3600, abs=1e-4)
    assert row["memory_gib"] == 71.5
    assert [r["tokens_per_second"] for r in meter.read_log(tmp_path / "log.jsonl")] == [8000, 8000]
    assert found.summary()["dollars"] == row["dollars"]


def test_a_slow_network_costs_minutes_that_sharding_within_a_node_saves() -> None:
    train = load_recipe("s1k").train
    slow = Cluster(network_gbps=12.5)
    everywhere = estimate(B32, lengths_of_s1k(), train, slow)
    within = train.model_copy(update={"layout": train.layout.model_copy(update={"shard": "node"})})
    in_nodes = estimate(B32, lengths_of_s1k(), within, slow)
    assert everywhere.exposed_seconds > in_nodes.exposed_seconds > 0
    assert everywhere.exposed_seconds > everywhere.seconds / 2


def test_the_fastest_layout_is_no_slower_than_the_recipes() -> None:
    lengths = lengths_of_s1k()[::8]
    train = load_recipe("s1k").train
    best = fastest(B32, lengths, train, Cluster())
    assert best is not None
    assert best[1].seconds <= estimate(B32, lengths, train, Cluster()).seconds


def test_a_tiny_model_is_reckoned_on_a_cpu(tmp_path: Path) -> None:
    recipe = load_recipe("tiny", [f"out={tmp_path}", "train.base=random:qwen2-small"])
    assert "on one CPU core" in estimate_train(recipe)[1]


def test_the_estimate_uses_the_runs_own_samples_once_they_are_there(tmp_path: Path) -> None:
    recipe = load_recipe("s1k", [f"out={tmp_path}"])
    curate = open_run(recipe.folder, recipe.name, {}).open("curate", {}, 0)
    curate.write("samples", Sample, make_samples(20))
    assert "spread like s1K's" in estimate_train(recipe)[0]
    curate.finish()
    assert estimate_train(recipe)[0].startswith("20 samples")


@pytest.mark.parametrize("name", ["Qwen2.5-1.5B-Instruct", "Qwen2.5-Coder-1.5B-Instruct", "Qwen2.5-Math-1.5B"])
def test_models_of_one_shape_are_estimated_alike(name: str) -> None:
    assert shape_of(f"hf:Qwen/{name}") == SHAPES["qwen2.5-1.5b"]


def test_unknown_cards_and_bases_are_refused_with_what_is_known() -> None:
    recipe = load_recipe("s1k", ["train.layout.cluster.card=H1000"])
    with pytest.raises(InputError, match="Did you mean H100"):
        estimate_train(recipe)
    with pytest.raises(InputError, match=r"shape of 'hf:some/model' is not known.*qwen2\.5-32b"):
        shape_of("hf:some/model")


def test_a_card_is_known_by_its_drivers_name() -> None:
    assert peak_tflops("NVIDIA H200") == 989
    assert peak_tflops("NVIDIA A100-SXM4-80GB") == 312
    assert peak_tflops("Some Card") == 0


@pytest.mark.parametrize(
    ("tool", "expected"),
    [
        ("trl", {"prompt", "completion"}),
        ("axolotl", {"messages"}),
        ("llama-factory", {"conversations"}),
    ],
)
def test_samples_are_exported_as_other_trainers_read_them(tmp_path: Path, tool: str, expected: set[str]) -> None:
    samples = make_samples(3)
    curate = open_run(tmp_path / "run", "test", {}).open("curate", {}, 0)
    curate.write("samples", Sample, samples)
    to = tmp_path / "out" / "data.jsonl"
    to.parent.mkdir()
    (to.parent / "dataset_info.json").write_text('{"other": {"file_name": "other.json"}}')
    for path in (tmp_path / "run", curate.folder, curate.shards("samples")[0]):
        assert export_samples(path, to, tool) == Exported(3, 0, "s1")
    rows = [json.loads(line) for line in to.read_text().splitlines()]
    assert all(row.keys() == expected for row in rows)
    text = json.dumps(rows[0], ensure_ascii=False)
    assert "<|im_start|>think\\n" in text
    assert "<|im_start|>answer\\nFinal Answer" in text
    info = json.loads((to.parent / "dataset_info.json").read_text())
    assert info.keys() == ({"other", "data"} if tool == "llama-factory" else {"other"})


def test_an_export_takes_the_runs_format_and_leaves_out_what_quotes_its_delimiters(tmp_path: Path) -> None:
    (first, second) = make_samples(2)
    quoting = first.model_copy(
        update={"trace": first.trace.model_copy(update={"thinking": "One writes </think> at the end."})}
    )
    curate = open_run(tmp_path / "run", "test", {"train": {"format": "qwen3"}}).open("curate", {}, 0)
    curate.write("samples", Sample, [quoting, second])
    to = tmp_path / "data.jsonl"
    assert export_samples(curate.folder, to, "trl") == Exported(1, 1, "qwen3")
    assert "</think>" in to.read_text()
    assert export_samples(curate.folder, to, "trl", "s1") == Exported(2, 0, "s1")
    token = first.model_copy(update={"trace": first.trace.model_copy(update={"answer": "Say <|im_start|> twice."})})
    curate.write("samples", Sample, [token])
    assert export_samples(curate.folder, to, "trl", "s1") == Exported(2, 1, "s1")


def test_thinking_may_have_a_field_of_its_own_for_templates_that_write_the_delimiters(tmp_path: Path) -> None:
    curate = open_run(tmp_path / "run", "test", {}).open("curate", {}, 0)
    (sample,) = make_samples(1)
    curate.write("samples", Sample, [sample])
    to = tmp_path / "data.jsonl"
    export_samples(curate.folder, to, "trl", thinking_field="reasoning_content")
    (reply,) = json.loads(to.read_text())["completion"]
    assert reply["reasoning_content"] == sample.trace.thinking.strip()
    assert reply["content"] == sample.trace.answer.strip()
    with pytest.raises(InputError, match=r"LLaMA-Factory's form has no field 'thinking'.*--thinking-field"):
        export_samples(curate.folder, to, "llama-factory", thinking_field="thinking")


def test_an_unknown_trainer_or_a_folder_without_samples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no trainer 'axolot'.*Did you mean axolotl"):
        export_samples(tmp_path, tmp_path / "x.jsonl", "axolot")
    with pytest.raises(InputError, match="there are no samples"):
        export_samples(tmp_path, tmp_path / "x.jsonl", "trl")
    assert not (tmp_path / "x.jsonl").exists()


def test_the_layout_is_no_part_of_what_is_trained(tmp_path: Path) -> None:
    from s1kit.train.encoded import Encoded
    from s1kit.train.loop import fingerprint

    samples = [Encoded("a", (1, 2, 3), 1)]
    train = Recipe(name="x").train
    other = train.model_copy(update={"layout": Layout(context_parallel=4, compile=True)})
    assert fingerprint(samples, train, 0) == fingerprint(samples, other, 0)
    assert fingerprint(samples, train, 0) != fingerprint(samples, train, 1)
    assert fingerprint(samples, train, 0) != fingerprint([Encoded("a", (1, 2, 4), 1)], train, 0)


def test_a_card_that_is_too_small_is_refused_with_the_setting_that_helps(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    train = load_recipe("s1k").train
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (80 * 2**30, 141 * 2**30))
    check_card(B32, [8000] * 16, train, 16)
    with pytest.raises(InputError, match=r"needs some \d+ GiB on each of 8 cards, which have 80 free"):
        check_card(B32, [8000] * 16, train, 8)


@pytest.mark.parametrize(
    ("layout", "complaint"),
    [
        ({"trackers": ["wandb"]}, r"pip install 's1kit\[wandb\]'"),
        ({"attention": "flash"}, "needs a CUDA device"),
        ({"fp8": True}, "fp8 needs a card"),
        ({"context_parallel": 2}, "does not divide the 1 processes"),
    ],
)
def test_what_this_machine_lacks_is_said_before_the_weights_are_read(
    tmp_path: Path, layout: dict[str, object], complaint: str
) -> None:
    write_tokenizer(tmp_path)
    config = SHAPES["qwen2-small"].qwen2_config() | {"model_type": "qwen2"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    train = Train.model_validate({"base": f"random:{tmp_path}", "dtype": "float32", "layout": layout})
    with pytest.raises(InputError, match=complaint):
        train_samples(make_samples(2), tmp_path / "out", train)
