"""From a pool of questions to a small open model that reasons, and an exact dial on how long any model thinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s1kit.engines import load_engine
    from s1kit.forcing import ThinkingBudget
    from s1kit.forcing.request import Request
    from s1kit.records import Generation, Question

__version__ = "0.1.0"
__all__ = ["Generation", "Question", "Request", "ThinkingBudget", "load_engine"]

_HOME = {
    "Generation": "s1kit.records",
    "Question": "s1kit.records",
    "Request": "s1kit.forcing.request",
    "ThinkingBudget": "s1kit.forcing",
    "load_engine": "s1kit.engines",
}


def __getattr__(name: str) -> object:
    # Lazily, so that `s1kit --help` does not pay for what it does not use.
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 's1kit' has no attribute {name!r}")
