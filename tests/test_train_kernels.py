"""The paths that a card takes, as far as a processor can go: torch's variable-length attention with its two kernels
written out here, compiled layers, float8 products emulated, weights held in bfloat16."""

from __future__ import annotations

import importlib.util
import inspect
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from fixtures_models import write_random_checkpoint
from fixtures_train import encode, make_samples, reference_steps
from torch import Tensor

from s1kit.errors import InputError, MissingExtra, WorkFailed
from s1kit.recipe import Layout, Train
from s1kit.train import adapters, attention, loop, packing
from s1kit.train import prepare as preparing
from s1kit.train.loading import load_config, load_tokenizer
from s1kit.train.prepare import FP8_MULTIPLE, prepare
from s1kit.train.processes import World
from s1kit.train.row import make_row

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
CALLS = {"forward": 0, "backward": 0}


def parts_of(ends: Tensor, *tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each sample's share of (tokens, heads, size), heads first, as many of each as of the first."""
    for start, end in zip(ends.tolist(), ends.tolist()[1:], strict=False):
        parts = [x[start:end].transpose(0, 1) for x in tensors]
        yield tuple(x.repeat_interleave(len(parts[0]) // len(x), 0) for x in parts)


def scores_of(q: Tensor, k: Tensor, scale: float) -> Tensor:
    future = torch.ones(q.shape[1], q.shape[1]).triu(1).bool()
    return (q @ k.transpose(1, 2) * scale).masked_fill(future, -math.inf)


@pytest.fixture(scope="module", autouse=True)
def kernels_for_a_processor() -> None:
    """torch's own operation with all around it; only what CUDA would do is done in Python."""
    varlen = pytest.importorskip("torch.nn.attention.varlen")

    @varlen._varlen_attn.register_kernel("cpu")  # type: ignore[untyped-decorator]
    def forward(q: Tensor, k: Tensor, v: Tensor, ends: Tensor, *rest: Any, **more: Any) -> tuple[Tensor, ...]:
        CALLS["forward"] += 1
        scale = (rest[4] if len(rest) > 4 else more.get("scale")) or 1 / math.sqrt(q.shape[-1])
        outs, sums = [], []
        for one_q, one_k, one_v in parts_of(ends, q, k, v):
            scores = scores_of(one_q, one_k, scale)
            outs.append((scores.softmax(-1) @ one_v).transpose(0, 1))
            sums.append(scores.float().logsumexp(-1))
        return torch.cat(outs).contiguous(), torch.cat(sums, 1), torch.zeros(2, dtype=torch.uint64)

    @varlen._varlen_attn_backward.register_kernel("cpu")  # type: ignore[untyped-decorator]
    def backward(
        grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, sums: Tensor, ends: Tensor, *rest: Any
    ) -> tuple[Tensor, ...]:
        CALLS["backward"] += 1
        scale = rest[5] or 1 / math.sqrt(q.shape[-1])
        found: list[list[Tensor]] = [[], [], []]
        for one_q, one_k, one_v, one_grad in parts_of(ends, q, k, v, grad):
            p = scores_of(one_q, one_k, scale).softmax(-1)
            grad_p = one_grad @ one_v.transpose(1, 2)
            grad_scores = p * (grad_p - (grad_p * p).sum(-1, keepdim=True)) * scale
            for kind, of_heads, like in (
                (0, grad_scores @ one_k, q),
                (1, grad_scores.transpose(1, 2) @ one_q, k),
                (2, p.transpose(1, 2) @ one_grad, v),
            ):
                shared = of_heads.unflatten(0, (like.shape[1], -1)).sum(1)
                found[kind].append(shared.transpose(0, 1))
        grads = [torch.cat(parts).contiguous() for parts in found]
        return grads[0], grads[1], grads[2]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Sides of 16 or more, which float8 products want.
    return write_random_checkpoint(tmp_path_factory.mktemp("kernels_base"), context=1024, scale=0.1, head_width=16)


def read(base: Path) -> Any:
    """The tokenizer of a base."""
    from s1kit.forcing.formats import find_format

    return load_tokenizer(f"hf:{base}", "", find_format("s1"))


def settings_for(base: Path, **more: Any) -> Train:
    given = {"base": f"hf:{base}", "dtype": "float32", "batch_size": 4, "learning_rate": 1e-2, "max_length": 1024}
    return Train.model_validate(given | more)


def gradients(train: Train, kernel: attention.Kernel, world: World) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients of the first batch."""
    from s1kit.forcing.formats import find_format
    from s1kit.train.prepare import plain_name

    samples = encode(Path(train.base.removeprefix("hf:")), make_samples(14))
    objective = prepare(train, load_config(train.base, load_tokenizer(train.base, "", find_format("s1"))), 0, world)
    (members,) = packing.batches(len(samples), train.batch_size, 1, 1, seed=0)
    loss = loop.backward(objective, [samples[i] for i in members], train, kernel, world)
    found = {}
    for name, parameter in objective.model.named_parameters():
        grad: Any = parameter.grad
        if grad is not None:
            found[plain_name(name)] = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
    return loss, found


def assert_as_reference(train: Train, found: tuple[float, dict[str, Tensor]]) -> None:
    losses, expected = reference_steps(train, encode(Path(train.base.removeprefix("hf:")), make_samples(14)), 1)
    assert found[0] == pytest.approx(losses[0], abs=1e-5)
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, expected[f"0:{name}"], rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("how", "forward_passes"), [("none", 1), ("selective", 1), ("full", 2)])
def test_variable_length_attention_learns_the_same_and_is_done_again_only_where_everything_is(
    base: Path, how: str, forward_passes: int
) -> None:
    train = settings_for(base, layout={"activation_checkpointing": how})
    CALLS.update(forward=0, backward=0)
    assert_as_reference(train, gradients(train, "varlen", World(CPU)))
    assert {"forward": 2 * forward_passes, "backward": 2} == CALLS, "two layers, one row"


def test_every_release_of_varlen_attn_gets_the_arguments_it_knows(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2.10 says `is_causal`, the next the window, 2.12 asks whether heads are grouped: the kernel sees it in all."""
    real = attention.varlen_attn
    assert real is not None

    def first(q: Tensor, k: Tensor, v: Tensor, a: Tensor, b: Tensor, x: int, y: int, is_causal: bool = False) -> Any:
        assert is_causal
        assert q.shape[1] == 2 * k.shape[1] == 2 * v.shape[1], "nothing is copied"
        grouped = {"enable_gqa": True} if "enable_gqa" in inspect.signature(real).parameters else {}
        return real(q, k, v, a, b, x, y, window_size=(-1, 0), **grouped)

    monkeypatch.setattr(attention, "varlen_attn", first)
    monkeypatch.setattr(attention, "_VARLEN_TAKES", frozenset({"is_causal"}))
    monkeypatch.setattr(attention, "_VARLEN_CAUSAL", {"is_causal": True})
    train = settings_for(base)
    assert_as_reference(train, gradients(train, "varlen", World(CPU)))


@pytest.mark.parametrize(
    ("wanted", "device", "dtype", "has_varlen", "chosen"),
    [
        ("auto", "cuda", torch.bfloat16, True, "varlen"),
        ("auto", "cuda", torch.bfloat16, False, "sdpa"),
        ("auto", "cuda", torch.float32, True, "sdpa"),
        ("auto", "cpu", torch.bfloat16, True, "sdpa"),
        ("sdpa", "cuda", torch.bfloat16, True, "sdpa"),
    ],
)
def test_attention_is_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, wanted: str, device: str, dtype: torch.dtype, has_varlen: bool, chosen: str
) -> None:
    if not has_varlen:
        monkeypatch.setattr(attention, "varlen_attn", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(attention, "why_wrong", lambda *_: "")
    assert attention.choose_kernel(wanted, torch.device(device), dtype) == chosen


def test_a_kernel_that_fails_on_this_card_is_known_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (12, 0))
    monkeypatch.setattr(attention, "why_wrong", lambda *_: "RuntimeError: no kernel image")
    assert attention.choose_kernel("auto", CUDA, torch.bfloat16) == "sdpa"
    said = capsys.readouterr().err
    assert "sample by sample, since torch's variable-length attention fails on this card: RuntimeError: no ker" in said
    with pytest.raises(InputError, match=r"'varlen' fails on this card: RuntimeError: no kernel image.*Use sdpa"):
        attention.choose_kernel("varlen", CUDA, torch.bfloat16)


@pytest.mark.parametrize("size", [16, 64, 256])
@pytest.mark.parametrize(
    ("fault", "why"), [("", ""), ("twice", "away from plain attention"), ("raises", "RuntimeError: head dim > 192")]
)
def test_kernels_are_compared_with_plain_attention(
    monkeypatch: pytest.MonkeyPatch, size: int, fault: str, why: str
) -> None:
    kernel = attention._KERNELS["varlen"]

    def faulty(*given: Any) -> Tensor:
        if fault == "raises":
            raise RuntimeError("head dim > 192 needs an A100\nmore")
        return kernel(*given) * (2 if fault else 1)

    monkeypatch.setitem(attention._KERNELS, "varlen", faulty)
    found = attention.why_wrong("varlen", CPU, torch.bfloat16, size)
    assert found.endswith(why) if fault != "raises" else found == why + " needs an A100"
    assert bool(found) is bool(fault)


@pytest.mark.parametrize(
    ("major", "is_there", "wrong", "said"),
    [
        (9, True, "", "attends with FlashAttention 3"),
        (9, True, "RuntimeError: x", "without FlashAttention 3, which fails on this card: RuntimeError: x"),
        (9, False, "", ""),
        (8, True, "", ""),
    ],
)
def test_flash_attention_3_is_used_where_it_is_there_and_right(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    major: int,
    is_there: bool,
    wrong: str,
    said: str,
) -> None:
    of_torch = pytest.importorskip("torch.nn.attention")
    active: list[str] = []
    monkeypatch.setattr(of_torch, "activate_flash_attention_impl", active.append)
    monkeypatch.setattr(of_torch, "restore_flash_attention_impl", active.clear)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (major, 0))
    monkeypatch.setattr(attention, "find_spec", lambda name: name if is_there else None)
    monkeypatch.setattr(attention, "why_wrong", lambda *_: wrong if active else "")
    assert attention.choose_kernel("auto", CUDA, torch.bfloat16) == "varlen"
    assert active == (["FA3"] if "with Flash" in said else [])
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("size", "of_values", "dropout"), [(20, 20, 0), (264, 264, 0), (24, 16, 0), (16, 16, 1e-9)])
def test_what_the_kernel_has_no_code_for_is_attended_sample_by_sample(
    size: int, of_values: int, dropout: float
) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 5, size), torch.randn(2, 5, size), torch.randn(2, 5, of_values)
    packing = attention.Packing((3, 2), 3, torch.tensor([0, 3, 5], dtype=torch.int32), "varlen")
    before = CALLS["forward"]
    whole, how = torch.nn.Linear(1, 1), {"packing": packing, "dropout": dropout}
    out, _ = attention.attend_rows(whole, q[None], k[None], v[None], None, **how)
    assert out.shape == (1, 5, 2, of_values)
    alone = F.scaled_dot_product_attention(q[None, :, 3:], k[None, :, 3:], v[None, :, 3:], is_causal=True)
    torch.testing.assert_close(out[:, 3:], alone.transpose(1, 2))
    assert CALLS["forward"] == before


def test_kernels_get_queries_keys_and_values_of_one_type_where_autocast_casts_the_products(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a card without FSDP, with weights in float32."""
    monkeypatch.setattr(preparing, "multiplies_bfloat16", lambda _: True)
    train = settings_for(base, dtype="bfloat16")
    kernel, seen = attention._KERNELS["varlen"], set()

    def checked(q: Tensor, k: Tensor, v: Tensor, *rest: Any) -> Tensor:
        seen.add((q.dtype, k.dtype, v.dtype))
        return kernel(q, k, v, *rest)

    monkeypatch.setitem(attention._KERNELS, "varlen", checked)
    loss, _ = gradients(train, "varlen", World(CPU))
    assert seen == {(torch.bfloat16,) * 3}
    assert loss == pytest.approx(gradients(settings_for(base), "sdpa", World(CPU))[0], rel=1e-2)


@pytest.mark.parametrize("how", ["full", "selective"])
def test_what_is_computed_again_drops_the_same(base: Path, how: str) -> None:
    found = []
    for recomputed in ("none", how):
        lora = {"rank": 4, "alpha": 8, "dropout": 0.5}
        train = settings_for(base, lora=lora, layout={"activation_checkpointing": recomputed})
        with pytest.MonkeyPatch.context() as patch:
            # Adapters begin at nothing; to drop their inputs would change nothing.
            patch.setattr(preparing.adapters, "add", with_adapters_of_size(preparing.adapters.add))
            torch.manual_seed(1)
            found.append(gradients(train, "sdpa", World(CPU)))
    (loss, plain), (again, recomputed_gradients) = found
    assert again == loss
    for name, gradient in plain.items():
        torch.testing.assert_close(recomputed_gradients[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def with_adapters_of_size(add: Any) -> Any:
    def added(model: Any, lora: Any, seed: int) -> Any:
        model = add(model, lora, seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.1)
        return model

    return added


def test_a_process_without_a_card_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from s1kit.train.processes import open_world

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match="no card for process 3 of this machine: torch sees 2"), open_world(Layout()):
        pass


def test_a_card_of_a_torch_without_nccl_trains_without_sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    from s1kit.train import processes
    from s1kit.train.processes import open_world

    monkeypatch.setattr(processes, "can_compute", lambda _: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr(dist, "is_nccl_available", lambda: False)
    with open_world(Layout()) as world:
        assert (world.device, world.mesh, dist.is_initialized()) == (torch.device("cuda", 0), None, False)
        train = Train()
        assert not preparing._is_sharded(train, world)
        assert isinstance(preparing.autocast(train, world, torch.nn.Linear(1, 1)), torch.autocast)


def test_float8_without_torchao_is_refused_before_the_weights_are_read(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("torchao"):
        pytest.skip("torchao is there")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(preparing, "load", lambda *_: pytest.fail("they were read"))
    with pytest.raises(MissingExtra, match=r"s1kit\[fp8\]"):
        prepare(settings_for(base, layout={"fp8": True}), load_config(f"hf:{base}", read(base)), 0, World(CUDA))


def test_a_kernel_that_is_not_there_is_refused_with_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "varlen_attn", None)
    with pytest.raises(InputError, match=r"no varlen_attn.*Install torch 2\.10"):
        attention.choose_kernel("varlen", torch.device("cuda"), torch.bfloat16)
    with pytest.raises(MissingExtra, match=r"s1kit\[flash\]"):
        attention.choose_kernel("flash", torch.device("cuda"), torch.bfloat16)


@pytest.fixture
def one_process_of_fsdp() -> Iterator[World]:
    """As on one card: sharded over a single process."""
    from s1kit.train.processes import open_world

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        with open_world(Layout()) as world:
            yield world
    finally:
        dist.destroy_process_group()


def test_weights_held_in_bfloat16_leave_the_angles_of_positions_exact(base: Path, one_process_of_fsdp: World) -> None:
    train = settings_for(base, dtype="bfloat16", layout={"master_dtype": "bfloat16"})
    from s1kit.forcing.formats import find_format

    config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
    objective = prepare(train, config, 0, one_process_of_fsdp)
    assert {p.dtype for p in objective.parameters()} == {torch.bfloat16}
    angles = dict(objective.named_buffers())["model.model.rotary_emb.inv_freq"]
    size = config.hidden_size // config.num_attention_heads
    exact = config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2, dtype=torch.float64) / size)
    assert angles.dtype == torch.float32
    torch.testing.assert_close(angles.double(), exact, rtol=1e-6, atol=0)
    # And the losses are those of float32 up to bfloat16's three digits.
    loss, _ = gradients(train, "varlen", one_process_of_fsdp)
    assert loss == pytest.approx(gradients(settings_for(base), "sdpa", World(CPU))[0], rel=1e-2)


def test_on_one_card_weights_of_the_products_type_are_not_copied_for_sharding(
    base: Path, one_process_of_fsdp: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    from train_copies import Copied

    monkeypatch.setattr(preparing, "multiplies_bfloat16", lambda _: True)
    train = settings_for(base, dtype="bfloat16", layout={"master_dtype": "bfloat16"}, micro_batch_tokens=120)
    with Copied() as alone:
        plain = gradients(train, "varlen", one_process_of_fsdp)
    monkeypatch.setattr(preparing, "_is_sharded", lambda *_: True)
    with Copied() as with_fsdp:
        sharded = gradients(train, "varlen", one_process_of_fsdp)
    alone_in_type = preparing.autocast(train, one_process_of_fsdp, torch.nn.Linear(1, 1))
    assert isinstance(alone_in_type, nullcontext), "nothing is left to cast"
    assert plain[0] == sharded[0]
    assert plain[1].keys() == sharded[1].keys()
    for name, gradient in plain[1].items():
        torch.testing.assert_close(gradient, sharded[1][name], rtol=2e-2, atol=1e-4, msg=name)
        assert gradient.dtype == torch.bfloat16
    assert alone.total < 0.7 * with_fsdp.total


def test_on_one_card_weights_of_another_type_are_cast_by_fsdp(base: Path, one_process_of_fsdp: World) -> None:
    train = settings_for(base, layout={"master_dtype": "bfloat16"})
    assert preparing._is_sharded(train, one_process_of_fsdp)
    assert not preparing._is_sharded(settings_for(base), one_process_of_fsdp), "float32 for products in float32"
    assert not preparing._is_sharded(train, World(CPU))
    assert preparing._is_sharded(settings_for(base), replace(one_process_of_fsdp, size=2)), (
        "several processes share them"
    )
    assert preparing._is_sharded(settings_for(base, lora={"rank": 4}), one_process_of_fsdp), "adapters are float32"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["none", "selective", "full"])
def test_compiled_layers_are_compiled_once_for_rows_of_any_make(base: Path, how: str) -> None:
    import torch._dynamo

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    layout = {"compile": True, "activation_checkpointing": how}
    train = settings_for(base, layout=layout, micro_batch_tokens=250)
    assert_as_reference(train, gradients(train, "varlen", World(CPU)))
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] <= 3, "the first row's lengths, then any"
    assert not counters["graph_break"], counters["graph_break"]


def test_the_compiler_is_shown_no_more_of_a_row_than_a_kernel_reads() -> None:
    """Of a frozen class torch 2.11 guards every field for recomputed layers, the number of samples among them."""
    assert not attention.Packing.__dataclass_params__.frozen  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["none", pytest.param("selective", marks=pytest.mark.slow)])
def test_the_first_rows_code_serves_rows_of_every_make(base: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted with the compiler's front half alone, which decides what is compiled again."""
    import torch._dynamo
    from torch._dynamo.utils import counters

    from s1kit.forcing.formats import find_format

    compile_layer = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self, **given: compile_layer(self, backend="aot_eager", **given)
    )
    torch._dynamo.reset()
    train = settings_for(base, layout={"compile": True, "activation_checkpointing": how})
    objective = prepare(
        train, load_config(train.base, load_tokenizer(train.base, "", find_format("s1"))), 0, World(CPU)
    )
    samples = sorted(encode(base, make_samples(14)), key=len)
    counters.clear()
    graphs = []
    for batch in (samples[:2], samples[2:3], samples[3:8], samples[8:]):
        loop.backward(objective, batch, train, "varlen", World(CPU))
        graphs.append(counters["stats"]["unique_graphs"])
    torch._dynamo.reset()
    assert graphs[0] > 0
    assert graphs == [graphs[0]] * 4, "compiled again after the first step"
    assert not counters["graph_break"], counters["graph_break"]


@pytest.mark.parametrize(
    ("device", "has_triton", "has_gcc", "why"),
    [
        ("cuda", False, True, "this torch has no Triton for the card"),
        ("cpu", True, False, "there is no C++ compiler"),
        ("cuda", True, False, "torch.compile fails: Failed to find C compiler."),
        ("cuda", True, True, ""),
        ("cpu", False, True, ""),
    ],
)
def test_without_a_compiler_layers_are_trained_as_they_are_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, device: str, has_triton: bool, has_gcc: bool, why: str
) -> None:
    monkeypatch.setattr(preparing, "_has_triton", lambda: has_triton)
    monkeypatch.setattr(preparing, "_has_cpp_compiler", lambda: has_gcc)

    def little(_: torch.device) -> None:
        """As Triton does, which on a card builds its launcher with a C compiler."""
        if not has_gcc:
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable")

    monkeypatch.setattr(preparing, "_compile_little", little)
    assert preparing.why_not_compiled(torch.device(device)) == why


def test_a_card_without_bfloat16_trains_in_float32_and_decodes_in_float16(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from s1kit.engines.hf.engine import card_dtype
    from s1kit.train.processes import multiplies_bfloat16

    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Tesla T4")
    for has_it in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has_it=has_it, **_: has_it)
        assert multiplies_bfloat16(torch.device("cuda")) is has_it
        assert card_dtype("cuda") == ("bfloat16" if has_it else "float16")
    assert capsys.readouterr().err.count("Tesla T4 has no bfloat16") == 1


def test_weights_held_in_bfloat16_are_multiplied_in_float32_where_that_is_asked(
    base: Path, one_process_of_fsdp: World
) -> None:
    train = settings_for(base, layout={"master_dtype": "bfloat16"})
    from s1kit.forcing.formats import find_format

    config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
    cuda = replace(one_process_of_fsdp, size=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preparing, "check_layout", lambda *_: None)
        objective = prepare(train, config, 0, cuda)
    seen = set()
    for module in objective.modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_hook(lambda m, given, out: seen.add((m.weight.dtype, out.dtype)))
    loop.backward(objective, encode(base, make_samples(2)), train, "sdpa", cuda)
    assert seen == {(torch.float32, torch.float32)}
    assert {p.dtype for p in objective.parameters()} == {torch.bfloat16}
    with pytest.raises(InputError, match="held in bfloat16 are cast to float32 by FSDP"):
        prepare(train, config, 0, World(CPU))


def test_a_card_that_runs_out_of_memory_is_told_with_the_setting_that_helps_and_keeps_the_weights(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from s1kit.forcing.formats import find_format

    train = settings_for(base, epochs=1, max_steps=3)
    samples = encode(base, make_samples(12))
    config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
    backward = loop.backward
    calls = []

    def full(*given: Any) -> float:
        calls.append(backward(*given))
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore")
        return calls[-1]

    monkeypatch.setattr(loop, "backward", full)
    with pytest.raises(WorkFailed, match=r"step 2: .* tokens: CUDA out of memory.*activation_checkpointing=full"):
        loop.fit(samples, config, train, 0, tmp_path, World(CPU))
    layout = Layout(activation_checkpointing="full")
    fitted = loop.fit(samples, config, train.model_copy(update={"layout": layout}), 0, tmp_path, World(CPU))
    assert (fitted.first_step, fitted.steps) == (1, 3)


def test_selective_recomputation_keeps_every_other_product_of_float8_too() -> None:
    from torch.utils.checkpoint import CheckpointPolicy

    policy, ctx = preparing._SavePolicy(), SimpleNamespace(is_recompute=False)
    product = torch.ops.aten._scaled_mm.default
    kept = [policy(ctx, product) == CheckpointPolicy.MUST_SAVE for _ in range(4)]
    assert kept == [True, False, True, False]


def test_float8_rows_have_sides_that_the_kernels_accept(base: Path) -> None:
    samples = encode(base, make_samples(3))
    row = make_row(samples, [1.0] * 3, 2 * FP8_MULTIPLE)
    assert len(row.part(1, 2).ids) % FP8_MULTIPLE == 0


def test_float8_products_learn_nearly_the_same(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the arithmetic emulated, since no processor has it."""
    pytest.importorskip("torchao", reason="pip install 's1kit[fp8]'")
    import torchao.float8 as float8

    real, emulated = float8.convert_to_float8_training, float8.Float8LinearConfig(emulate=True)
    monkeypatch.setattr(
        float8, "convert_to_float8_training", lambda layers, **how: real(layers, config=emulated, **how)
    )
    monkeypatch.setattr(preparing, "check_layout", lambda *_: None)
    converted = gradients(settings_for(base, layout={"fp8": True}), "sdpa", World(CPU))
    exact = gradients(settings_for(base), "sdpa", World(CPU))
    assert converted[0] == pytest.approx(exact[0], rel=2e-2)
    name = "model.layers.0.mlp.up_proj.weight"
    similarity = torch.cosine_similarity(converted[1][name].flatten(), exact[1][name].flatten(), 0)
    assert 0.95 < float(similarity) < 0.99999, "float8 rounds, and only rounds"


@pytest.mark.slow
def test_the_memory_that_is_reckoned_is_what_tensors_add_up_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """On eight cards, of which one exists; bench/train_memory.py has the large models."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    from dataclasses import replace

    from train_memory import Case, settings, tracked_gib

    from s1kit.train.cost import CONTEXT_GIB, memory_gib
    from s1kit.train.shapes import SHAPES

    case = Case("qwen2.5-7b", 8, 8192, {"activation_checkpointing": "full"}, layers=6)
    shape = replace(SHAPES[case.model], num_hidden_layers=6)
    found, _ = tracked_gib(case)
    assert memory_gib(shape, settings(case), 8, 8192) - CONTEXT_GIB == pytest.approx(found, rel=0.15)


def test_four_bit_bases_without_bitsandbytes_name_the_extra(base: Path) -> None:
    pytest.importorskip("peft")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match=r"s1kit\[qlora\]"):
            adapters.load_quantized(f"hf:{base}", None, torch.device("cuda"))
    else:
        pytest.skip("bitsandbytes is there")


def test_four_bit_bases_are_refused_where_there_is_no_card(base: Path) -> None:
    train = settings_for(base, lora={"rank": 4, "alpha": 8, "quantize": True})
    with pytest.raises(InputError, match="quantize trains on exactly one CUDA card"):
        gradients(train, "sdpa", World(CPU))
