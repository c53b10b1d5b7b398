"""Budget forcing: how long thinking lasts, decided token by token or segment by segment, by one pure machine.

`budget` is the machine; `request` and `plan` are what is asked and what it comes to for one tokenizer; `token_driver`
and `segment_driver` drive the machine and write a `transcript`; `formats`, `token_format` and `tokenizer` know how a
family of models thinks. Knows nothing of tensors, servers or files of results.
"""

from __future__ import annotations

from s1kit.forcing.budget import (
    UNLIMITED,
    Insert,
    Move,
    Sampled,
    StopAttempt,
    Thinking,
    ThinkingBudget,
    advance,
    begin,
)

__all__ = [
    "UNLIMITED",
    "Insert",
    "Move",
    "Sampled",
    "StopAttempt",
    "Thinking",
    "ThinkingBudget",
    "advance",
    "begin",
]
