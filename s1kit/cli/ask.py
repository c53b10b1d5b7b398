"""`s1kit ask`: one question, its thinking streamed, forced text marked."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from s1kit.adaptive.answering import answer_adaptively
from s1kit.adaptive.rule import ExitRule, load_rule
from s1kit.engines import Engine, load_engine
from s1kit.engines.interface import close_engine
from s1kit.engines.references import read_switches
from s1kit.errors import InputError, WorkFailed
from s1kit.forcing import UNLIMITED, ThinkingBudget
from s1kit.forcing.request import Request, Sampling
from s1kit.progress import results_only
from s1kit.records import Generation, Segment

_DIM, _FORCED, _PLAIN = "\033[2m", "\033[7m", "\033[0m"


def main(given: argparse.Namespace) -> int:
    request = _request(given)  # what can be refused is refused before a model is loaded
    rule = load_rule(Path(given.auto)) if given.auto is not None else None
    switches = read_switches(given.template)
    options = {"format": given.format} if given.format else {}
    with results_only() as out:
        engine = load_engine(given.model, template=switches, **options)
        return _answer(given, request, engine, rule, out)


def _answer(given: argparse.Namespace, request: Request, engine: Engine, rule: ExitRule | None, out: TextIO) -> int:
    if given.temperature is None:
        own = getattr(engine, "sampling", Sampling())
        request = replace(request, temperature=own.temperature, top_p=own.top_p, top_k=own.top_k)
    show = None if given.json else _Printer(out)
    try:
        if rule is None:
            (generation,) = engine.generate([request], on_segment=show)
        else:
            (generation,) = answer_adaptively(engine, [request], rule)
            if show is not None:
                for segment in generation.segments:
                    show(0, segment)
    finally:
        close_engine(engine)
    if generation.ending == "failed":
        raise WorkFailed("the engine failed", where=given.model, fix=generation.note)
    if show is None:
        print(json.dumps(_as_json(generation), ensure_ascii=False), file=out)
    else:
        show.finish(generation)
    return 0


def _request(given: argparse.Namespace) -> Request:
    question = sys.stdin.read().strip() if given.question == "-" else given.question
    if not question.strip():
        raise InputError("the question is empty", where="QUESTION", fix="Ask something.")
    return Request(
        question=question,
        budget=_budget(given),
        answer_tokens=given.answer_tokens,
        temperature=given.temperature or 0.0,
        seed=given.seed,
        wait=tuple(given.wait) if given.wait else None,
        stop=tuple(given.stop),
    )


_FLAGS = {"max_tokens": "--max-thinking", "min_tokens": "--min-thinking", "num_waits": "--waits"}


def _budget(given: argparse.Namespace) -> ThinkingBudget:
    if given.max_thinking == 0 and (given.waits or given.wait):
        raise InputError(
            f"waits ({given.waits or 'a text'}) with no room to think",
            where="--waits, --max-thinking",
            fix="Raise --max-thinking, or leave the waits out.",
        )
    if all(given.wait or [""]) and not given.waits and not given.min_thinking:
        raise InputError(
            "no stop becomes a wait, so --wait has no effect",
            where="--wait",
            fix="Add --waits N or --min-thinking N, or leave it out.",
        )
    try:
        most = UNLIMITED if given.max_thinking is None else given.max_thinking
        return ThinkingBudget(most, given.min_thinking, given.waits)
    except ValueError as error:
        said = str(error)
        for name, flag in _FLAGS.items():
            said = said.replace(f"budget.{name}", flag)
        raise InputError(said, where=", ".join(_FLAGS.values())) from error


def _as_json(generation: Generation) -> dict[str, object]:
    derived = ("thinking", "answer", "thinking_tokens", "answer_tokens", "forced_tokens", "num_waits", "was_cut_off")
    return {name: getattr(generation, name) for name in derived} | generation.model_dump(mode="json")


class _Printer:
    """Prints segments as they come: thinking dim, forced text reversed (in brackets where there is no colour)."""

    def __init__(self, out: TextIO) -> None:
        self._out, self._colour = out, out.isatty()

    def __call__(self, request: int, segment: Segment) -> None:
        text = segment.text
        if segment.origin == "forced":
            text = f"{_FORCED}{text}{_PLAIN}" if self._colour else f"[{text}]"
        elif segment.kind == "thinking" and self._colour:
            text = f"{_DIM}{text}{_PLAIN}"
        print(text, end="", flush=True, file=self._out)

    def finish(self, generation: Generation) -> None:
        print(file=self._out)
        how = {"closed": "stopped by itself", "cut_off": "cut off at the budget", "loop": "ended in a loop"}
        print(
            f"\n{generation.thinking_tokens} thinking tokens ({how.get(generation.ending, generation.ending)}), "
            f"{generation.num_waits} waits, {generation.forced_tokens} forced tokens, "
            f"{generation.answer_tokens} answer tokens"
            + {"length": " (cut off at the room)", "loop": " (ended in a loop)"}.get(generation.answer_finish, "")
            + (", exchanged as text" if generation.seam == "text" else "")
            + (f"; {generation.note}" if generation.note else ""),
            file=sys.stderr,
        )
