"""CUDA graphs without a card: operations are recorded with the tensors they read and write, and done again on them.

As on a card, a replay knows no Python: what was a number or an address when the step was recorded stays it. And as on a
card a memory pool dies with the last graph that uses it (`ensureExistsAndIncrefPool` of torch's CUDA allocator).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten


class SoftwareGraph:
    """In the place of `torch.cuda.CUDAGraph`."""

    num_recorded = 0
    num_replayed = 0
    pools: dict[int, WeakSet[SoftwareGraph]]
    """The living graphs of each memory pool."""

    def __init__(self) -> None:
        self.operations: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self._pool = 0

    def pool(self) -> int:
        return self._pool

    def join(self, pool: int | None) -> None:
        if pool is not None and not len(self.pools[pool]):
            raise RuntimeError("it->second->use_count > 0 INTERNAL ASSERT FAILED")
        self._pool = len(self.pools) if pool is None else pool
        self.pools.setdefault(self._pool, WeakSet()).add(self)
        SoftwareGraph.num_recorded += 1

    def replay(self) -> None:
        SoftwareGraph.num_replayed += 1
        for function, args, kwargs, kept in self.operations:
            found = function(*args, **kwargs)
            for old, new in zip(_tensors(kept), _tensors(found), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class _Recording(TorchDispatchMode):
    def __init__(self, graph: SoftwareGraph) -> None:
        super().__init__()
        self._graph = graph
        self._before: list[tuple[torch.Tensor, torch.Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            raise RuntimeError("operation not permitted when stream is capturing")
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._before.append((value, value.clone()))
        out = func(*args, **(kwargs or {}))
        self._graph.operations.append((func, args, kwargs or {}, out))
        return out

    def undo(self) -> None:
        """A card computes nothing while it records."""
        for tensor, before in reversed(self._before):
            tensor.copy_(before)


def _tensors(value: Any) -> list[torch.Tensor]:
    return [x for x in tree_flatten(value)[0] if isinstance(x, torch.Tensor)]


def install(monkeypatch: Any) -> type[SoftwareGraph]:
    """Give `torch.cuda` what recording needs; returns the class, which counts."""

    @contextmanager
    def graph(graph: SoftwareGraph, pool: int | None, stream: str, **_: Any) -> Iterator[None]:
        assert stream == "aside", "torch's own stream may be another card's"
        graph.join(pool)
        with _Recording(graph) as recording:
            yield
        recording.undo()

    SoftwareGraph.num_recorded, SoftwareGraph.num_replayed, SoftwareGraph.pools = 0, 0, {}
    given = {"CUDAGraph": SoftwareGraph, "graph": graph, "current_stream": lambda: "before", "Stream": lambda: "aside"}
    for name, value in given.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return SoftwareGraph
