"""The objective, the packing and the loss, held against the textbook."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fixtures_models import SPECIALS, write_random_checkpoint, write_tokenizer
from fixtures_train import encode, make_samples, reference_steps
from hypothesis import given, settings
from hypothesis import strategies as st
from train_worker import STEPS, first_steps

from s1kit.errors import InputError
from s1kit.forcing.formats import FORMATS
from s1kit.recipe import Layout, Lora, Train
from s1kit.train import packing
from s1kit.train.encoded import Encoded, check_format, encode_samples
from s1kit.train.flops import training_flops
from s1kit.train.loading import load_tokenizer
from s1kit.train.loop import learning_rate
from s1kit.train.objective import _ChunkedLoss
from s1kit.train.processes import World
from s1kit.train.reference import base_folder
from s1kit.train.row import make_row, token_weights
from s1kit.train.shapes import SHAPES, Shape

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(tmp_path_factory.mktemp("train_base"), context=1024, scale=0.1)


def settings_for(base: Path, **more: object) -> Train:
    return Train.model_validate(
        {"base": f"hf:{base}", "dtype": "float32", "batch_size": 4, "learning_rate": 1e-2, "max_length": 1024} | more
    )


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
@pytest.mark.parametrize("micro_batch_tokens", [8, 300, 100_000])
def test_losses_and_gradients_are_those_of_one_sequence_at_a_time(
    base: Path, normalization: str, micro_batch_tokens: int
) -> None:
    train = settings_for(base, loss_normalization=normalization, micro_batch_tokens=micro_batch_tokens)
    check_against_reference(train, encode(base, make_samples(14)))


@pytest.mark.parametrize("normalization", ["per_sequence", "per_token"])
def test_adapters_learn_what_they_learn_one_sequence_at_a_time(base: Path, normalization: str) -> None:
    train = settings_for(base, loss_normalization=normalization, lora=Lora(rank=4, alpha=8))
    check_against_reference(train, encode(base, make_samples(14)))


@pytest.mark.parametrize("how", ["selective", "full"])
def test_recomputing_activations_changes_nothing(base: Path, how: str) -> None:
    train = settings_for(base, layout=Layout(activation_checkpointing=how))  # type: ignore[arg-type]
    check_against_reference(train, encode(base, make_samples(14)))


def check_against_reference(train: Train, samples: list[Encoded], num_steps: int = STEPS) -> None:
    losses, gradients = first_steps(train, samples, World(CPU), num_steps)
    expected_losses, expected = reference_steps(train, samples, num_steps)
    assert losses == pytest.approx(expected_losses, abs=1e-5)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-4, atol=1e-5), name


def test_a_longer_chunk_of_logits_gives_the_same_loss_and_gradients() -> None:
    torch.manual_seed(0)
    hidden, head = torch.randn(50, 16, dtype=torch.float64), torch.randn(40, 16, dtype=torch.float64)
    targets, weights = torch.randint(0, 40, (50,)), torch.rand(50, dtype=torch.float64)
    results = []
    for chunk in (7, 50):
        h, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        loss = _ChunkedLoss.apply(h, w, targets, weights, chunk)  # type: ignore[no-untyped-call]
        (3 * loss).backward()
        results.append((loss.detach(), h.grad, w.grad))
    h, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
    plain = (torch.nn.functional.cross_entropy(h @ w.T, targets, reduction="none") * weights).sum()
    (3 * plain).backward()
    for loss, grad_h, grad_w in results:
        assert float(loss) == pytest.approx(float(plain.detach()), rel=1e-5)
        torch.testing.assert_close(grad_h, h.grad, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(grad_w, w.grad, rtol=1e-4, atol=1e-5)


def test_an_epoch_of_1000_samples_in_batches_of_16_is_63_steps_as_in_the_paper() -> None:
    steps = packing.batches(1000, 16, 5, None, seed=0)
    assert len(steps) == 315
    for epoch in range(5):
        seen = [i for step in steps[epoch * 63 : (epoch + 1) * 63] for i in step]
        assert sorted(seen) == list(range(1000))
    assert steps[0] != steps[63]


def test_the_order_drawn_with_seed_0_stays_what_it_is() -> None:
    assert packing.batches(20, 6, 1, 2, seed=0) == ORDER_OF_SEED_0
    assert packing.batches(20, 6, 1, 2, seed=1) != ORDER_OF_SEED_0


ORDER_OF_SEED_0: list[list[int]] = [[14, 4, 3, 6, 13, 10], [16, 15, 2, 12, 8, 5]]


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=24),
    num_ranks=st.integers(1, 5),
    budget=st.integers(1, 1500),
)
@settings(max_examples=200, deadline=None)
def test_packing_places_every_sample_once_within_the_budget(lengths: list[int], num_ranks: int, budget: int) -> None:
    micro = packing.pack(lengths, num_ranks, budget)
    assert all(len(rows) == num_ranks for rows in micro)
    assert sorted(i for rows in micro for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= max(budget, *lengths) for rows in micro for row in rows)


def test_sharing_rows_removes_the_wait_for_the_longest_sequence() -> None:
    lengths = [32_000, 12_000, *[4_000] * 14]
    one_each = packing.balance(lengths, num_ranks=16, budget=32_768)
    shared_by_eight = packing.balance(lengths, num_ranks=2, budget=8 * 32_768)
    assert one_each < 0.25
    assert shared_by_eight > 0.95


def test_the_weights_of_a_batch_sum_to_one() -> None:
    batch = [Encoded("a", tuple(range(10)), 4), Encoded("b", tuple(range(30)), 5)]
    for normalization in ("per_sequence", "per_token"):
        weights = token_weights(batch, normalization)  # type: ignore[arg-type]
        row = make_row(batch, weights, 8)
        assert float(row.weights.sum()) == pytest.approx(1)
        assert len(row.ids) % 8 == 0
        assert sum(row.lengths) == len(row.ids)
    assert token_weights(batch, "per_sequence") == [1 / 12, 1 / 50]


def test_a_row_without_samples_still_has_tokens_to_step_with() -> None:
    row = make_row([], [], 4)
    assert len(row.ids) == 4
    assert float(row.weights.sum()) == 0


def test_the_learning_rate_is_that_of_the_reference_run() -> None:
    import transformers

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1e-5)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 16, 315)
    for step in range(315):
        assert learning_rate(step, 315, 1e-5, 0.05) == pytest.approx(schedule.get_last_lr()[0], rel=1e-9, abs=1e-20)
        optimizer.step()
        schedule.step()


def test_the_real_tokenizer_renders_this_sample_to_these_ids(shared_data: Path) -> None:
    fmt = FORMATS["s1"]
    tokenizer = load_tokenizer("random:qwen2-small", str(shared_data / "tokenizer" / "tokenizer.json.gz"), fmt)
    sample = make_samples(1)[0]
    (encoded,), _ = encode_samples([sample], fmt, tokenizer, 1000, False)
    text = tokenizer.decode(list(encoded.ids))
    assert text == (
        "<|im_start|>user\n(0) What is 50 + 98?<|im_end|>\n<|im_start|>assistant\n<|im_start|>think\n"
        + sample.trace.thinking
        + "\n<|im_start|>answer\nFinal Answer: 148<|im_end|>"
    )
    assert tokenizer.decode(list(encoded.ids[: encoded.num_prompt])).endswith("<|im_start|>think\n")
    assert encoded.ids == GOLDEN_IDS
    assert encoded.num_prompt == GOLDEN_PROMPT


# fmt: off
GOLDEN_IDS = (
    151644, 872, 198, 7, 15, 8, 3555, 374, 220, 20, 15, 488, 220, 24, 23, 30, 151645, 198, 151644, 77091, 198,
    151644, 26865, 198, 20, 15, 488, 220, 24, 23, 374, 220, 16, 19, 22, 5267, 20, 15, 488, 220, 24, 23, 374, 220,
    16, 19, 23, 5267, 20, 15, 488, 220, 24, 23, 374, 220, 16, 19, 24, 5267, 20, 15, 488, 220, 24, 23, 374, 220,
    16, 19, 23, 5267, 20, 15, 488, 220, 24, 23, 374, 220, 16, 19, 23, 5267, 20, 15, 488, 220, 24, 23, 374, 220,
    16, 19, 23, 5267, 20, 15, 488, 220, 24, 23, 374, 220, 16, 19, 23, 5267, 14190, 11, 220, 16, 19, 23, 13, 198,
    151644, 9217, 198, 19357, 21806, 25, 220, 16, 19, 23, 151645,
)
# fmt: on
GOLDEN_PROMPT = 24


def test_a_sample_that_is_too_long_is_an_error_with_its_id_or_dropped_and_told(base: Path) -> None:
    samples = make_samples(6)
    fmt, tokenizer = FORMATS["s1"], load_tokenizer(f"hf:{base}", "", FORMATS["s1"])
    encoded, _ = encode_samples(samples, fmt, tokenizer, 4096, False)
    limit = max(map(len, encoded)) - 1
    longest = max(encoded, key=len)
    with pytest.raises(InputError, match=longest.id):
        encode_samples(samples, fmt, tokenizer, limit, False)
    kept, dropped = encode_samples(samples, fmt, tokenizer, limit, True)
    assert len(kept) + len(dropped) == 6
    assert all(len(e) <= limit for e in kept)
    assert [s.trace.question.id for s, _ in dropped] == [e.id for e in encoded if len(e) > limit]


@pytest.mark.parametrize("field", ["thinking", "answer"])
def test_an_empty_trace_or_answer_names_its_question(base: Path, field: str) -> None:
    sample = make_samples(1)[0]
    broken = sample.model_copy(update={"trace": sample.trace.model_copy(update={field: "  "})})
    with pytest.raises(InputError, match=rf"the {field} is empty.*{sample.trace.question.id}"):
        encode_samples([broken], FORMATS["s1"], load_tokenizer(f"hf:{base}", "", FORMATS["s1"]), 999, False)


def test_a_tokenizer_without_the_delimiters_is_refused(tmp_path: Path) -> None:
    write_tokenizer(tmp_path, specials=("<|endoftext|>", "<|im_end|>"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"splits '<\|im_start\|>answer'"):
        check_format(load_tokenizer(f"random:{tmp_path}", "", FORMATS["s1"]), FORMATS["s1"])
    with pytest.raises(InputError, match="not one"):
        check_format(load_tokenizer(f"random:{tmp_path}", "", FORMATS["s1"]), FORMATS["deepseek-r1"])
    assert "<|im_start|>" in SPECIALS


@pytest.mark.parametrize("wrong", ["hf:", "gguf:model", "hf:/no/such/folder", "random:qwen9", "hf:."])
def test_a_base_that_is_none_is_refused_in_one_paragraph(wrong: str) -> None:
    with pytest.raises(InputError, match=r"train\.base|not a model folder"):
        base_folder(wrong)


def test_a_base_with_an_engine_s_options_names_the_settings_that_are_meant() -> None:
    with pytest.raises(InputError, match=r"has the options dtype, which engines take.*train\.dtype"):
        base_folder("hf:Qwen/Qwen2.5-0.5B,dtype=bfloat16")


def test_shapes_count_the_parameters_that_transformers_counts() -> None:
    from transformers import AutoModelForCausalLM, Qwen2Config

    for name in ("qwen2-small", "qwen2.5-7b"):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(Qwen2Config(**SHAPES[name].qwen2_config()))
        assert SHAPES[name].parameters == pytest.approx(model.num_parameters(), rel=1e-3)
        assert Shape.of_config(model.config) == SHAPES[name]


def test_an_epoch_of_s1_costs_what_the_formula_says() -> None:
    # 4.7M tokens of thinking at an even 4,700 each; the literature's floor for five epochs is 4.73e18.
    assert 5 * training_flops(SHAPES["qwen2.5-32b"], [4_700] * 1000) == pytest.approx(4.73e18, rel=0.02)
    assert math.isclose(training_flops(SHAPES["qwen2.5-32b"], [10]), 10 * 6 * 31_984_189_440 + 600 * 64 * 5120)
