"""What a base's architecture asks of the trainer, beside its attention."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from s1kit.errors import InputError
from s1kit.train.reference import STATES, WITH_ANOTHER_TOOL


def kept_states(model_config: Any) -> list[str]:
    """Kinds of layers whose state runs on from one sample of a row into the next."""
    return sorted(STATES & set(getattr(model_config, "layer_types", None) or ()))


def layers_of(model: Any) -> nn.ModuleList:
    """The decoder's layers: the unit of sharding, checkpointing and compilation. Raises InputError without any."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise InputError(
            f"{type(model).__name__} is not built as a decoder with layers", where="train.base", fix=WITH_ANOTHER_TOOL
        )
    return layers


def logits_scale(model: Any) -> float:
    """What the products of hidden states and output matrix are multiplied by: 1 for most models.

    Found by running the model's own forward pass around a stand-in for its body and its output matrix. Needs no
    weights. Raises InputError where the logits are anything but such a multiple (a bias, a cap).
    """
    name = type(model).__name__
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        raise InputError(f"the output matrix of {name} has a bias", where="train.base", fix=WITH_ANOTHER_TOOL)
    states = torch.tensor([[[1.0, -2.0, 3.0, 100.0]]])
    shell = copy.copy(model)
    shell._modules = dict(model._modules)
    setattr(shell, model.base_model_prefix, _Body(model.base_model, states))
    head = nn.Linear(states.shape[2], states.shape[2], bias=False)
    nn.init.eye_(head.weight)
    shell.set_output_embeddings(head)
    with torch.no_grad():
        logits = shell(input_ids=torch.zeros((1, 1), dtype=torch.long)).logits.float()
    scale = float(logits[0, 0, 0])
    if logits.shape != states.shape or not torch.allclose(logits, states * scale, rtol=1e-5):
        raise InputError(
            f"{name} does more to its logits than to scale them", where="train.base", fix=WITH_ANOTHER_TOOL
        )
    return scale


class _Body(nn.Module):
    """Gives the same hidden states to everybody; has the settings of the body that it stands for."""

    def __init__(self, body: nn.Module, states: Tensor) -> None:
        super().__init__()
        self._settings = {k: v for k, v in vars(body).items() if not k.startswith("_")}
        self._states = states

    def __getattr__(self, name: str) -> Any:
        settings = self.__dict__.get("_settings", {})
        return settings[name] if name in settings else super().__getattr__(name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return _Output(last_hidden_state=self._states)


class _Output(SimpleNamespace):
    """What bodies return, as the models' heads read it: by name, by number, and without what was not asked for."""

    def __getattr__(self, name: str) -> None:
        return None

    def __getitem__(self, index: Any) -> Any:
        return (self.last_hidden_state,)[index]
