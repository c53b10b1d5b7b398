"""Run under torchrun by test_train_distributed: losses and gradients of a few first steps, for several layouts."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from s1kit.recipe import Train
from s1kit.train import packing
from s1kit.train.encoded import Encoded
from s1kit.train.loading import load_config, load_tokenizer
from s1kit.train.loop import backward, clip, make_optimizer, set_learning_rate
from s1kit.train.prepare import plain_name, prepare
from s1kit.train.processes import World, open_world

STEPS = 3


def first_steps(
    train: Train, samples: list[Encoded], world: World, num_steps: int = STEPS
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of the first steps and the gradients of the first and the last, at a constant rate."""
    from s1kit.forcing.formats import find_format

    config = load_config(train.base, load_tokenizer(train.base, "", find_format("s1")))
    objective = prepare(train, config, 0, world)
    optimizer = make_optimizer(objective, train)
    set_learning_rate(optimizer, train.learning_rate)
    losses, gradients = [], {}
    for step, members in enumerate(packing.batches(len(samples), train.batch_size, 1, num_steps, seed=0)):
        losses.append(backward(objective, [samples[i] for i in members], train, "sdpa", world))
        if step in (0, num_steps - 1):
            for name, parameter in objective.model.named_parameters():
                if parameter.requires_grad:
                    grad: Any = parameter.grad
                    whole = grad.full_tensor() if hasattr(grad, "full_tensor") else grad
                    gradients[f"{step}:{plain_name(name)}"] = whole.clone().contiguous()
        clip(objective, train.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
    return losses, gradients


def main() -> None:
    folder = Path(sys.argv[1])
    given = json.loads((folder / "cases.json").read_text())
    samples = [Encoded(s["id"], tuple(s["ids"]), s["num_prompt"]) for s in given["samples"]]
    torch.set_num_threads(1)
    # Once for all cases; also makes a single process use FSDP.
    dist.init_process_group("gloo")
    for name, settings in given["cases"].items():
        train = Train.model_validate(settings)
        os.environ["LOCAL_WORLD_SIZE"] = "2" if train.layout.shard == "node" else os.environ["WORLD_SIZE"]
        with open_world(train.layout) as world:
            losses, gradients = first_steps(train, samples, world)
            if world.is_main:
                save_file(gradients, folder / f"{name}.safetensors")
                (folder / f"{name}.json").write_text(json.dumps(losses))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
