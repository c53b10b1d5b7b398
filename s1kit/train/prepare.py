"""Makes a base ready to be trained: adapters, checkpointing, compilation and sharding, in the order they need."""

from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from s1kit.errors import InputError, MissingExtra, first_line
from s1kit.progress import say
from s1kit.recipe import Layout, Train
from s1kit.train import adapters, loading
from s1kit.train.architecture import kept_states, layers_of
from s1kit.train.objective import Objective
from s1kit.train.processes import World, multiplies_bfloat16
from s1kit.train.reference import check_machine

FP8_MULTIPLE = 16
"""Float8 products want every side to be a multiple of this; tokens too, over which the gradients are summed."""

_WRAPPERS = ("_checkpoint_wrapped_module.", "_orig_mod.")


def prepare(train: Train, model_config: Any, seed: int, world: World) -> Objective:
    """The model to train with its loss, on this process's device, sharded when there is a mesh."""
    check_layout(train, model_config, world)
    master = _master(train)
    if not _is_sharded(train, world):
        model = adapters.add(load(train, model_config, master, seed, world), train.lora, seed)
        objective = Objective(model, train.layout.loss_chunk_tokens).to(world.device)
        _wrap_layers(objective, train.layout, world.device)
        return objective
    return _prepare_sharded(train, model_config, seed, world, master)


def _is_sharded(train: Train, world: World) -> bool:
    """Whether FSDP holds the weights: over several processes, and on one card where it casts them for the products.

    Weights of the products' own type are left alone on one card: FSDP would copy each layer's four times a row.
    """
    if world.mesh is None or (train.lora is not None and train.lora.quantize):
        return False
    return world.size > 1 or train.lora is not None or _master(train) != product_dtype(train, world.device)


def product_dtype(train: Train, device: torch.device) -> torch.dtype:
    """The data type in which matrices are multiplied on a device."""
    return torch.bfloat16 if train.dtype == "bfloat16" and multiplies_bfloat16(device) else torch.float32


def _master(train: Train) -> torch.dtype:
    dtype: torch.dtype = getattr(torch, train.layout.master_dtype)
    return dtype


def check_layout(train: Train, model_config: Any, world: World) -> None:
    """Raises InputError for what this model or these processes cannot do, before any weight is read."""
    heads = model_config.num_attention_heads
    if heads % world.row_size:
        raise InputError(
            f"context_parallel is {world.row_size}, which does not divide the model's {heads} attention heads",
            where="train.layout.context_parallel",
            fix="Give a divisor of both the heads and the processes.",
        )
    if world.row_size > 1 and (kinds := kept_states(model_config)):
        raise InputError(
            f"layers of kind {', '.join(kinds)} need a sample's tokens on one process",
            where="train.layout.context_parallel",
            fix="Leave it out.",
        )
    check_machine(train, has_card=world.device.type == "cuda", num_processes=world.size)
    if train.layout.fp8:
        if torch.cuda.get_device_capability(world.device) < (8, 9):
            raise InputError(
                "fp8 needs a card that has it (H100, H200, B200)", where="train.layout.fp8", fix="Leave it out."
            )
        _fp8()


def load(train: Train, model_config: Any, dtype: torch.dtype, seed: int, world: World) -> Any:
    """The whole base on this process."""
    if train.lora is not None and train.lora.quantize:
        return adapters.load_quantized(train.base, model_config, world.device)
    return loading.load_weights(train.base, model_config, dtype, seed)


def plain_name(name: str) -> str:
    """A parameter's name without what wrapping added."""
    for part in _WRAPPERS:
        name = name.replace(part, "")
    return name


def autocast(train: Train, world: World, objective: nn.Module) -> Any:
    """bfloat16 for a model of other weights that FSDP does not cast, where the device has products for it."""
    wanted = product_dtype(train, world.device)
    is_cast = world.mesh is not None and hasattr(objective, "unshard")
    if wanted == torch.float32 or is_cast or (train.lora is None and _master(train) == wanted):
        return nullcontext()
    return torch.autocast(world.device.type, torch.bfloat16)


def why_not_compiled(device: torch.device) -> str:
    """What torch.compile lacks on this machine; empty where it has all."""
    if device.type == "cpu":
        return "" if _has_cpp_compiler() else "there is no C++ compiler"
    if not _has_triton():
        return "this torch has no Triton for the card"
    # Triton needs a C compiler, Python's headers, an assembler for the card and a folder to write to.
    try:
        _compile_little(device)
    except Exception as error:  # noqa: BLE001 - whatever a compiler, a linker or a driver raises
        return f"torch.compile fails: {first_line(error)[:300]}"
    return ""


def _has_triton() -> bool:
    from torch.utils._triton import has_triton

    return bool(has_triton())


def _compile_little(device: torch.device) -> None:
    torch.compile(lambda x: x.sin() + 1)(torch.ones(64, device=device))


def _has_cpp_compiler() -> bool:
    return any(shutil.which(name) for name in (os.environ.get("CXX") or "g++", "clang++"))


def _wrap_layers(objective: Objective, layout: Layout, device: torch.device) -> None:
    is_compiled = layout.compile
    if is_compiled and (why := why_not_compiled(device)):
        is_compiled = False
        say(f"train: layers are not compiled, since {why}")
    layers = layers_of(objective.model)
    if layout.fp8:
        _to_fp8(layers)
    is_random = _drops(objective.model)
    for i, layer in enumerate(layers):
        if layout.activation_checkpointing != "none":
            layers[i] = _recomputed(layer, layout.activation_checkpointing == "selective", is_random)
        if is_compiled:
            # Rows differ in length: with sizes that are known to, the first row's code serves all others.
            layers[i].compile(dynamic=True)


def _drops(model: Any) -> bool:
    """Whether something is dropped at random in training: what is computed again must drop the same."""
    attends = getattr(model.config, "attention_dropout", 0.0)
    return bool(attends) or any(isinstance(m, nn.Dropout) and m.p > 0 for m in model.modules())


def _recomputed(layer: nn.Module, selective: bool, is_random: bool) -> nn.Module:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    if not selective:
        return checkpoint_wrapper(layer, preserve_rng_state=is_random)
    return checkpoint_wrapper(
        layer,
        preserve_rng_state=is_random,
        context_fn=lambda: create_selective_checkpoint_contexts(_SavePolicy()),  # type: ignore[no-untyped-call]
    )


class _SavePolicy:
    """Keep attention and every other matrix product, recompute the rest: as torchtitan's selective checkpointing."""

    def __init__(self) -> None:
        self.products = {False: 0, True: 0}

    def __call__(self, ctx: Any, op: Any, *args: Any, **kwargs: Any) -> Any:
        from torch.utils.checkpoint import CheckpointPolicy

        name = str(op)
        keep = "scaled_dot_product" in name or "varlen_attn" in name or "flash_attn" in name
        if name in ("aten.mm.default", "aten.addmm.default", "aten._scaled_mm.default"):
            self.products[ctx.is_recompute] += 1
            keep = self.products[ctx.is_recompute] % 2 == 1
        return CheckpointPolicy.MUST_SAVE if keep else CheckpointPolicy.PREFER_RECOMPUTE


def _to_fp8(layers: nn.ModuleList) -> None:
    _fp8().convert_to_float8_training(layers, module_filter_fn=_takes_fp8)


def _fp8() -> Any:
    try:
        from torchao import float8
    except ImportError as error:
        raise MissingExtra("train.layout.fp8", "torchao", extra="fp8") from error
    return float8


def _takes_fp8(module: nn.Module, name: str) -> bool:
    """Large matrices whose sides the kernels accept; adapters are too narrow to gain."""
    return (
        isinstance(module, nn.Linear)
        and module.in_features % FP8_MULTIPLE == module.out_features % FP8_MULTIPLE == 0
        and "lora_" not in name
    )


def _prepare_sharded(train: Train, model_config: Any, seed: int, world: World, master: torch.dtype) -> Objective:
    """Only the main process reads the weights; the others get their shards from it, a parameter at a time."""
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        model = adapters.add(loading.build(model_config, master), train.lora, seed)
    model.tie_weights()
    objective = Objective(model, train.layout.loss_chunk_tokens)
    _wrap_layers(objective, train.layout, world.device)
    _shard(objective, train, world)
    buffers = {name: b.clone() for name, b in objective.named_buffers()}
    objective.to_empty(device=world.device)
    for name, buffer in objective.named_buffers():
        buffer.copy_(buffers[name])
    source: dict[str, torch.Tensor] = {}
    if world.is_main:
        whole = adapters.add(load(train, model_config, master, seed, world), train.lora, seed)
        source = dict(Objective(whole, 1).named_parameters())
    for name, parameter in objective.named_parameters():
        _scatter(parameter, source.get(plain_name(name)), world)
    return objective


def _shard(objective: Objective, train: Train, world: World) -> None:
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    # Inputs are not cast: a row's weights must stay float32.
    products = product_dtype(train, world.device)
    policy = MixedPrecisionPolicy(param_dtype=products, reduce_dtype=torch.float32, cast_forward_inputs=False)
    options: dict[str, Any] = {"mesh": world.mesh, "mp_policy": policy}
    layers = list(layers_of(objective.model))
    for layer in layers:
        fully_shard(layer, reshard_after_forward=train.layout.reshard_after_forward, **options)
    fully_shard(objective, reshard_after_forward=False, **options)
    ahead = train.layout.prefetch
    sharded = [m for m in layers if isinstance(m, FSDPModule)]
    for i, module in enumerate(sharded):
        module.set_modules_to_forward_prefetch(list[FSDPModule](sharded[i + 1 : i + 1 + ahead]))
        module.set_modules_to_backward_prefetch(list[FSDPModule](sharded[max(0, i - ahead) : i][::-1]))


def _scatter(parameter: nn.Parameter, whole: torch.Tensor | None, world: World) -> None:
    """Fill this process's shard from the main process's whole tensor."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(parameter, DTensor)
    shape, dtype = parameter.shape, parameter.dtype
    value = torch.empty(shape, dtype=dtype) if whole is None else whole.detach().to(dtype)
    value = value.to(world.device).contiguous()
    dist.broadcast(value, src=0)
    mine = distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)
    with torch.no_grad():
        parameter.to_local().copy_(mine.to_local())
