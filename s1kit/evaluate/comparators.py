"""Other models on the same questions, grader and statistics: asked through a provider, or read from published outputs.

A provider's reply is paid once and kept in the journal of the run. Where the thinking is hidden only its tokens are
known, from the usage that the provider reports, and the generation says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from s1kit.analysis.results import HIDDEN, UNCOUNTED
from s1kit.analysis.settings import CHAT, FILE
from s1kit.errors import InputError
from s1kit.evaluate.published_outputs import read_published
from s1kit.files import hash_file, read_rows
from s1kit.recipe import Comparator
from s1kit.records import Generation, Question, Segment, Setting
from s1kit.stage import Stage

if TYPE_CHECKING:
    from s1kit.providers.chat import Reply

ORIGINS = "comparators.json"
"""File of what the generations of comparators were made from."""

_OF_MODELS = {"effort", "max_output_tokens", "base_url", "max_cost_usd", "price"}
_IDLE = {"model": {"name"}, "file": _OF_MODELS, "numbers": _OF_MODELS | {"name"}}
"""Fields that have no effect on a comparator of each kind."""


def settings_of(comparators: Sequence[Comparator]) -> list[Setting]:
    """The settings that comparators fill, without repetition."""
    out: list[Setting] = []
    for comparator in comparators:
        _check(comparator)
        if comparator.model:
            out += [Setting(method=CHAT, model=comparator.model, target=effort) for effort in comparator.effort]
        elif comparator.file:
            out.append(Setting(method=FILE, model=comparator.name or Path(comparator.file).name))
    return list(dict.fromkeys(out))


def origins(comparators: Sequence[Comparator]) -> dict[str, str]:
    """What the generations of each setting depend on besides it, by the setting as text: a file's hash, or the request.

    A file that is not there has the hash "".
    """
    found: dict[str, str] = {}
    for comparator in comparators:
        if comparator.file:
            files = map(Path, sorted(glob(comparator.file)))
            depends = " ".join(hash_file(path) for path in files if path.is_file())
        else:
            depends = f"{comparator.max_output_tokens} tokens {comparator.base_url}".strip()
        found |= {setting.model_dump_json(): depends for setting in settings_of([comparator])}
    return found


def changed(stage: Stage, comparators: Sequence[Comparator]) -> list[Setting]:
    """The settings of comparators whose file or request is another one than when their generations were written."""
    path = stage.folder / ORIGINS
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    now = origins(comparators)
    # A file that is gone was read while it was there.
    return [
        s
        for s in settings_of(comparators)
        if (text := s.model_dump_json()) in before and now[text] not in ("", before[text])
    ]


def shards_of(stage: Stage, settings: Sequence[Setting]) -> list[Path]:
    """The shards of comparators' settings: each has its own."""
    if not settings:
        return []
    first = ((path, next(iter(read_rows([path], Generation)), None)) for path in stage.shards("generations"))
    return [path for path, generation in first if generation is not None and generation.setting in settings]


def _check(comparator: Comparator) -> None:
    given = [n for n in ("model", "file", "numbers") if getattr(comparator, n)]
    if len(given) != 1:
        found = " and ".join(given) or "none of model, file and numbers"
        fix = "Give one of model, file and numbers."
        raise InputError(f"a comparator names {found}", where="evaluate.comparators", fix=fix)
    idle = _IDLE[given[0]]
    comparator.refuse_idle("evaluate.comparators", idle, f"on a comparator with {given[0]}")
    if comparator.model and not comparator.effort:
        fix = 'Leave it out for the provider\'s own, or name levels, e.g. ["low", "high"].'
        raise InputError(f"effort is empty, so {comparator.model} is not asked", where="evaluate.comparators", fix=fix)
    if comparator.model and not comparator.model.startswith("chat:"):
        fix = "Give chat:<provider>/<model>; evaluate an open model as a run of its own and compare the runs."
        raise InputError(f"{comparator.model!r} is not a remote model", where="evaluate.comparators", fix=fix)


def check_models(comparators: Sequence[Comparator]) -> None:
    """Raises InputError for a model that could not be asked: no key, no price. Call it before any request is paid."""
    from s1kit.providers.catalog import find_model
    from s1kit.providers.keys import find_key
    from s1kit.providers.money import price_of

    for comparator in comparators:
        if not comparator.model:
            continue
        model = find_model(comparator.model, comparator.base_url)
        find_key(model)
        try:
            price_of(model, setting=comparator.price)
        except InputError as error:
            fix = 'Give it price = { input = ..., output = ... } in dollars per million tokens, or price = "unknown".'
            raise InputError(error.what, where=f"evaluate.comparators, {comparator.model}", fix=fix) from error


def ask(comparator: Comparator, effort: str, questions: Sequence[Question], journal_path: Path) -> list[Generation]:
    """A remote model's answers to the questions, in order. Its cap holds over all efforts and all runs of the command.

    Raises Stopped when nothing more can be asked; what was paid until then is in the journal.
    """
    from s1kit.journal import Journal
    from s1kit.providers.catalog import find_model
    from s1kit.providers.chat import Parameters
    from s1kit.providers.spend_cap import CapReached
    from s1kit.providers.sync import chat_many

    setting = Setting(method=CHAT, model=comparator.model, target=effort)
    parameters = Parameters(max_output_tokens=comparator.max_output_tokens, reasoning_effort=effort or None)
    conversations = [[{"role": "user", "content": question.text}] for question in questions]
    model = find_model(comparator.model, comparator.base_url)
    with Journal(journal_path) as journal:
        try:
            replies = chat_many(
                comparator.model,
                conversations,
                journal,
                parameters=parameters,
                base_url=comparator.base_url,
                price=comparator.price,
                cap_usd=comparator.max_cost_usd,
                # One account for all efforts and all runs that share this journal.
                run=f"evaluate {model.provider}/{model.name}",
            )
        except CapReached as error:
            raise CapReached(error.what, where=f"evaluate.comparators, {comparator.model}", fix=error.fix) from error
    return [_generation(reply, question.id, setting) for reply, question in zip(replies, questions, strict=True)]


def _generation(reply: Reply, question_id: str, setting: Setting) -> Generation:
    answer_words = len(reply.answer.split())
    notes = [reply.note] if reply.note else []
    thinking = reply.thinking_tokens
    if thinking is None:
        thinking = max(0, reply.usage.output_tokens - answer_words) if reply.thinking else 0
        notes += [UNCOUNTED] if reply.thinking else []
    elif thinking and not reply.thinking:
        notes.append(HIDDEN)
    answer_tokens = max(0, reply.usage.output_tokens - thinking) or answer_words
    failed = reply.finish_reason in ("failed", "refused", "malformed")
    return Generation(
        question_id=question_id,
        setting=setting,
        segments=(
            Segment(origin="sampled", kind="thinking", text=reply.thinking, num_tokens=thinking),
            Segment(origin="sampled", kind="answer", text=reply.answer, num_tokens=answer_tokens),
        ),
        ending="failed" if failed else "closed",
        answer_finish="length" if reply.finish_reason == "length" else "stop" if reply.answer else "none",
        seam="text",
        note="; ".join(notes),
        cost_usd=reply.cost_usd,
    )


def from_file(comparator: Comparator, questions: Sequence[Question]) -> list[Generation]:
    """Published outputs to the questions of this run; what answers other questions is left aside.

    Raises InputError when the file answers none of them.
    """
    wanted = {question.id for question in questions}
    name = comparator.name or Path(comparator.file).name
    found = [generation for question, generation in read_published(comparator.file, name) if question.id in wanted]
    if not found:
        raise InputError(
            "the file answers none of the questions of this run",
            where=comparator.file,
            fix="Questions are joined by their very text: give outputs on the same benchmark.",
        )
    return found
