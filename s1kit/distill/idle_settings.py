"""Settings of `distill` that the teachers it names have no use for. They are refused: no reply would be as they say."""

from __future__ import annotations

from typing import Literal

from s1kit.engines.references import scheme_of
from s1kit.recipe import Distill

ENGINES = ("tiny-base", "hf", "vllm", "llama.cpp", "completions", "scripted")

Kind = Literal["kept", "engine", "provider", "own"]
"""`kept`: its replies are there before anything is asked."""

_ASKING = {
    "prompt",
    "system",
    "max_output_tokens",
    "temperature",
    "top_p",
    "thinking_budget",
    "reasoning_effort",
    "extra",
    "work_as_thinking",
}
_DECODING = {"format", "template"}
_REACHING = {"base_url", "headers", "key_file", "price"}
_IDLE: dict[Kind, set[str]] = {
    "kept": _ASKING | _DECODING | _REACHING | {"retry"},
    "engine": _REACHING | {"retry"},
    "provider": _DECODING,
    "own": {"retry"},
}
"""What a teacher of each kind does not use. How fast it is asked changes no reply, and is accepted of all."""


def is_local(reference: str) -> bool:
    """Whether a teacher is an engine of this package, whose reference may have options.

    >>> is_local("tiny-base,max_batch=4"), is_local("hf:./a"), is_local("tiny"), is_local("chat:openai/o3")
    (True, True, False, False)
    """
    return scheme_of(reference) in ENGINES


def kind_of(teacher: str) -> Kind:
    """The kind of a teacher by its reference."""
    if teacher in ("tiny", "solutions") or teacher.startswith("recorded:"):
        return "kept"
    if teacher.startswith("chat:"):
        return "provider"
    return "engine" if is_local(teacher) else "own"


def refuse_idle(settings: Distill) -> None:
    """Raises InputError where settings are stated that no teacher uses, or one that a teacher states uses not itself.

    What the section states for all may be of use to some of them only.
    """
    for number, entry in enumerate(settings.teachers):
        idle = _IDLE[kind_of(entry.teacher)] - _harmless(entry.price)
        entry.refuse_idle(f"distill.teachers[{number}]", idle, f"on the teacher {entry.teacher!r}")
    names = [each.teacher for each in settings.each]
    kinds = {kind_of(name) for name in names}
    idle = set.intersection(*(_IDLE[kind] for kind in kinds)) - _harmless(settings.price)
    whose = f"the teacher {names[0]!r}" if len(names) == 1 else "any of the teachers"
    settings.refuse_idle("distill", idle, f"on {whose}")
    if all(name.startswith("completions:") for name in names):
        settings.refuse_idle(
            "distill",
            {"max_cost_usd"},
            "on completions:, whose price is not known",
            "ask the server as chat:openai/<model> with base_url and price",
        )
    if settings.mode == "batch" and kinds != {"provider"}:
        settings.refuse_idle("distill", {"mode"}, "on a teacher that is no provider's: it has no batch API")
    if set(names) == {"solutions"}:
        settings.refuse_idle("distill", {"num_traces"}, "on solutions: a question has one")
    if not settings.until_correct and not settings.is_off("until_correct"):
        settings.refuse_idle("distill", {"grader"}, "without until_correct")


def _harmless(price: str | dict[str, float]) -> set[str]:
    """`price`, where it says no more than is true of every teacher here: that it is free, or not known."""
    return {"price"} if price in ("free", "unknown") else set()
