"""What only a card can show; the rest of the suite goes as far as a processor can: pytest -m gpu tests/test_on_card.py

A minute on one card, for whoever has one for a quarter of an hour: before its speed is measured, whether it is right.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from fixtures_models import write_random_checkpoint  # noqa: E402
from fixtures_train import encode, make_samples  # noqa: E402

from s1kit import Generation, Request, ThinkingBudget, load_engine  # noqa: E402
from s1kit.forcing.formats import find_format  # noqa: E402
from s1kit.recipe import Train  # noqa: E402
from s1kit.train import loop  # noqa: E402
from s1kit.train.loading import load_config, load_tokenizer  # noqa: E402
from s1kit.train.prepare import plain_name, prepare, why_not_compiled  # noqa: E402
from s1kit.train.processes import World, multiplies_bfloat16, open_world  # noqa: E402

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA card")]

DEVICE = torch.device("cuda", 0)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two query heads for each of keys and values, of a size that the kernels take."""
    return write_random_checkpoint(tmp_path_factory.mktemp("card_base"), context=1024, scale=0.1, head_width=32)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with open_world(Train().layout) as opened:
        yield opened


def requests(temperature: float) -> list[Request]:
    return [
        Request(
            question=f"{i}?",
            budget=ThinkingBudget(40 + i % 23, 20, i % 3),
            answer_tokens=16,
            temperature=temperature,
            seed=i,
            repeat=i,
            loop_guard=False,
        )
        for i in range(40)
    ]


def ids_of(found: list[Generation]) -> dict[int, list[int]]:
    assert all(g.ending != "failed" for g in found), found
    return {g.repeat: [token for s in g.segments for token in s.token_ids] for g in found}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_recorded_steps_decode_what_steps_sent_kernel_by_kernel_do(
    base: Path, capsys: pytest.CaptureFixture[str], temperature: float
) -> None:
    """In float32, where matrices of different sizes are multiplied with differences in the last bits only."""
    found = []
    for options in ("", ",cuda_graphs=false"):
        engine = load_engine(f"hf:{base},device=cuda,dtype=float32,max_batch=16{options}")
        found.append(ids_of(list(engine.generate(requests(temperature)))))
    same = sum(found[0][repeat] == found[1][repeat] for repeat in found[1])
    assert same >= 0.9 * len(found[1])
    assert "without CUDA graphs" not in capsys.readouterr().err


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_rows_attend_by_their_lengths_and_no_law_is_broken(
    base: Path, capsys: pytest.CaptureFixture[str], temperature: float
) -> None:
    if not multiplies_bfloat16(DEVICE):
        pytest.skip("this card has no bfloat16")
    engine: Any = load_engine(f"hf:{base},device=cuda,dtype=bfloat16")
    asked = requests(temperature)
    found = list(engine.generate(asked))
    ids_of(found)
    by_repeat = {g.repeat: g for g in found}
    for request in asked:
        generation = by_repeat[request.repeat]
        assert request.budget is not None
        assert generation.thinking_tokens <= request.budget.max_tokens
        assert generation.answer_tokens <= request.answer_tokens
    assert "without" not in capsys.readouterr().err


def gradients(base: Path, world: World, kernel: Any, **layout: Any) -> tuple[float, dict[str, Any]]:
    train = Train.model_validate(
        {
            "base": f"hf:{base}",
            "batch_size": 4,
            "max_length": 1024,
            "micro_batch_tokens": 250,
            "layout": {"master_dtype": "bfloat16"} | layout,
        }
    )
    config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
    objective = prepare(train, config, 0, world)
    loss = loop.backward(objective, encode(base, make_samples(8)), train, kernel, world)
    named = objective.model.named_parameters()
    return loss, {plain_name(name): full(p.grad).float() for name, p in named if p.grad is not None}


def full(gradient: Any) -> Any:
    return gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient


LAYOUTS: list[dict[str, Any]] = [
    {},
    {"activation_checkpointing": "full"},
    {"activation_checkpointing": "selective", "compile": True},
    {"compile": True},
    {"master_dtype": "float32"},
    {"master_dtype": "float32", "compile": True},
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_every_layout_of_one_card_learns_what_plain_attention_does(
    base: Path, world: World, layout: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    if not multiplies_bfloat16(DEVICE):
        pytest.skip("this card has no bfloat16")
    loss, expected = gradients(base, world, "sdpa", master_dtype=layout.get("master_dtype", "bfloat16"))
    again, found = gradients(base, world, "varlen", **layout)
    assert again == pytest.approx(loss, rel=1e-2)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        assert float(torch.cosine_similarity(gradient.flatten(), expected[name].flatten(), 0)) > 0.98, name
    assert "not compiled" not in capsys.readouterr().err


def test_float8_learns_nearly_the_same(base: Path, world: World) -> None:
    pytest.importorskip("torchao", reason="pip install 's1kit[fp8]'")
    if torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this card has no float8")
    loss, _ = gradients(base, world, "varlen")
    for layout in ({}, {"activation_checkpointing": "selective", "compile": True}):
        found, _ = gradients(base, world, "varlen", fp8=True, **layout)
        assert found == pytest.approx(loss, rel=2e-2)


def test_the_compiler_works_or_says_why_not() -> None:
    assert why_not_compiled(DEVICE) == ""
