"""How much of what training changed survives in the data type of the saved weights.

Half of a bfloat16 step is 0.2 to 0.4 % of a weight. A base that was saved in bfloat16 lies on that grid, so a change
below half a step is rounded away altogether: 6 steps of a 135M model at a learning rate of 1e-5 took the loss from
1.378 to 1.218 in float32, and to 1.369 after rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from s1kit.train.reference import base_folder

MOST_LOST = 0.1
"""Share of the change that may be lost to rounding before weights are saved in float32."""
_MOST_VALUES = 2**22
"""Values of one tensor that are looked at, spread evenly."""


def lost_to_rounding(weights: Mapping[str, torch.Tensor], base: str, dtype: torch.dtype) -> float | None:
    """The share of the change, in squared size, by which weights rounded to `dtype` miss the trained ones.

    1 where rounding leaves the base unchanged. None where the base's weights are not here, or nothing changed.
    """
    missed = changed = 0.0
    for name, before in _base_tensors(base):
        after = weights.get(name)
        if after is None or after.shape != before.shape:
            continue
        step = max(1, after.numel() // _MOST_VALUES)
        new = after.detach().reshape(-1)[::step].float()
        old = before.reshape(-1)[::step].float()
        missed += float((new.to(dtype).float() - new).double().square().sum())
        changed += float((new - old).double().square().sum())
    return missed / changed if changed else None


def _base_tensors(base: str) -> Iterator[tuple[str, torch.Tensor]]:
    """The base's tensors one at a time; none where they are not in a folder of this machine."""
    from safetensors import safe_open

    kind, name = base_folder(base)
    if kind != "hf":
        return
    folder = Path(name)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, allow_patterns=["*.safetensors"], local_files_only=True))
        except (LocalEntryNotFoundError, OSError, ValueError):
            return
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (safe_open is no mapping)
                yield key, tensors.get_tensor(key)
