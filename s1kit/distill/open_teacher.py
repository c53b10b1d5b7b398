"""From `distill.teacher` and `distill.teachers` to teachers that can be asked."""

from __future__ import annotations

import os
import time
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from s1kit.distill.chat_teacher import ChatTeacher
from s1kit.distill.idle_settings import is_local, refuse_idle
from s1kit.distill.teachers import RecordedTeacher, SolutionsTeacher, TinyTeacher
from s1kit.engines.interface import close_engine
from s1kit.engines.references import written
from s1kit.engines.weights import fingerprint
from s1kit.errors import InputError
from s1kit.extensions import load_extension
from s1kit.forcing.request import Engine
from s1kit.journal import Journal
from s1kit.progress import say
from s1kit.providers import Teacher
from s1kit.providers.chat import Parameters
from s1kit.providers.client import Client, open_client
from s1kit.providers.local import LocalChat, check_parameters
from s1kit.providers.patience import human
from s1kit.providers.spend_cap import SpendAccount
from s1kit.providers.terms import terms_of
from s1kit.providers.throttle import ThrottleSettings
from s1kit.providers.wires.extra import check_settings
from s1kit.recipe import Distill, Recipe


@dataclass
class OpenTeacher:
    """One teacher that can be asked."""

    settings: Distill
    """The section as it holds for this teacher."""
    teacher: Teacher
    engine: Engine | None = None
    """A local engine that is the teacher."""
    client: Client | None = None
    local: LocalChat | None = None
    """A local teacher's way into the journal."""

    @property
    def chat(self) -> ChatTeacher:
        """The teacher, where it is a chat model or an engine. Raises TypeError for any other kind."""
        if not isinstance(self.teacher, ChatTeacher):
            raise TypeError(self.settings.teacher)
        return self.teacher


@dataclass
class OpenTeachers:
    """The teachers of a stage, and what it must know about asking them. An async context manager."""

    teachers: list[OpenTeacher] = field(default_factory=list)
    journal: Journal | None = None
    account: SpendAccount | None = None
    """What all teachers are paid from."""
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _opened: float = field(default_factory=time.monotonic)

    async def __aenter__(self) -> OpenTeachers:
        for client in self.clients:
            await self._stack.enter_async_context(client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def close(self) -> None:
        """Close the engines and the journal."""
        for each in self.teachers:
            close_engine(each.engine)
        if self.journal is not None:
            self.journal.close()

    @property
    def clients(self) -> list[Client]:
        """The clients of the teachers that are asked over the network."""
        return [each.client for each in self.teachers if each.client is not None]

    def note(self, num_to_come: int) -> str:
        """Text beside the progress count: dollars spent, replies a second, time remaining, failures by kind."""
        if not self.clients:
            return ""
        tallies = [client.tally for client in self.clients]
        rate = sum(t.paid + t.from_journal for t in tallies) / max(1e-3, time.monotonic() - self._opened)
        is_priced = all(client.price is not None for client in self.clients)
        spent = 0.0 if self.account is None else self.account.spent
        parts = [f"${spent:.4f}" if is_priced else "cost unknown", f"{rate:.1f}/s"]
        if rate > 0:
            parts.append(f"{human(num_to_come / rate)} to go")
        odd: Counter[str] = Counter()
        for tally in tallies:
            odd += tally.problems + tally.finishes
        del odd["stop"]
        return ", ".join(parts + [f"{num} {kind}" for kind, num in odd.most_common(4)])


def open_teachers(recipe: Recipe, load_engines: bool = True) -> OpenTeachers:
    """The teachers that `distill.teacher` or `distill.teachers` name, on one journal and under one cap.

    Without `load_engines` local teachers only read the journal. Raises InputError for a reference that names none.
    """
    refuse_idle(recipe.distill)
    asked = OpenTeachers()
    try:
        for settings in recipe.distill.each:
            asked.teachers.append(_open(recipe, settings, asked, load_engines))
    except BaseException:
        asked.close()
        raise
    return asked


def _open(recipe: Recipe, settings: Distill, asked: OpenTeachers, load_engines: bool) -> OpenTeacher:
    reference = settings.teacher
    match reference.partition(":"):
        case ("tiny", "", ""):
            return OpenTeacher(settings, TinyTeacher())
        case ("solutions", "", ""):
            return OpenTeacher(settings, SolutionsTeacher())
        case ("recorded", ":", path) if path:
            return OpenTeacher(settings, RecordedTeacher(Path(path)))
        case ("chat", ":", model) if model:
            client = _open_client(recipe, settings, asked)
            return OpenTeacher(settings, _teacher(client, settings), client=client)
        case _ if is_local(reference):
            from s1kit.engines import load_engine

            check_parameters(parameters(settings))
            journal = _journal(recipe, asked)
            engine = load_engine(reference, **engine_options(settings)) if load_engines else None
            # A reply in another thinking format is another reply; how many decode together changes none.
            named = written(reference, {k: v for k, v in engine_options(settings).items() if k != "max_batch"})
            chat = LocalChat(
                engine, named, journal, parameters(settings, recipe.seed), fingerprint=fingerprint(reference)
            )
            return OpenTeacher(settings, _teacher(chat, settings), engine=engine, local=chat)
        case _ if (own := load_extension(reference, "teacher", "distill.teacher")) is not None:
            return OpenTeacher(settings, own(recipe.model_copy(update={"distill": settings})))
        case _:
            raise InputError(
                f"no teacher is called {reference!r}",
                where="distill.teacher",
                fix="Give tiny, solutions, recorded:<file>, chat:<provider>/<model>, or an engine's model reference.",
            )


def _journal(recipe: Recipe, asked: OpenTeachers) -> Journal:
    if asked.journal is None:
        asked.journal = Journal(journal_path(recipe))
    return asked.journal


def _open_client(recipe: Recipe, settings: Distill, asked: OpenTeachers) -> Client:
    journal = _journal(recipe, asked)
    if asked.account is None:
        asked.account = SpendAccount(settings.max_cost_usd, journal.ledger, spend_id(recipe.folder))
    client = open_client(
        settings.teacher,
        journal,
        parameters=parameters(settings),
        base_url=settings.base_url,
        headers=settings.headers,
        key_file=settings.key_file,
        price=settings.price,
        prices_path=settings.prices,
        account=asked.account,
        throttle=ThrottleSettings(
            max_in_flight=settings.concurrency,
            requests_per_minute=settings.requests_per_minute,
            tokens_per_minute=settings.tokens_per_minute,
        ),
        timeout_seconds=settings.timeout_seconds,
        stream=settings.stream,
    )
    check_settings(client.model.wire, client.model.name, client.parameters)
    return client


def say_what_it_means(recipe: Recipe, asked: OpenTeachers) -> None:
    """Print prices, the cap and the terms of each teacher's output, before anything is spent."""
    cap = recipe.distill.max_cost_usd
    for each in asked.teachers:
        if each.client is None:
            continue
        price = each.client.price
        who = f"{each.settings.teacher}: " if len(asked.teachers) > 1 else ""
        if price is None:
            say(f"distill: {who}the price is unknown; cost is not counted.")
        else:
            shared = " for all teachers" if who else ""
            capped = f"at most ${cap:,.2f}{shared}" if cap is not None else "no cap"
            dated = f" ({price.source}{f', {price.date}' if price.date else ''})" if price.source else ""
            say(f"distill: {who}${price.input:g} / ${price.output:g} per million tokens in / out{dated}; {capped}.")
        entry = terms_of(each.settings.teacher)
        say(f"distill: {entry.sentence}")
        if entry.needs_reason and "train" in recipe.stages and not recipe.train.acknowledge_terms:
            say("distill: `train` will refuse these traces unless train.acknowledge_terms names the reason.")


def parameters(settings: Distill, seed: int = 0) -> Parameters:
    """The request parameters of a `distill` section, with the recipe's seed where the draws are made here."""
    return Parameters(
        seed=seed or None,
        max_output_tokens=settings.max_output_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        thinking_budget=settings.thinking_budget,
        reasoning_effort=settings.reasoning_effort,
        extra=settings.extra,
    )


def engine_options(settings: Distill) -> dict[str, Any]:
    """How a local teacher's engine is loaded. What it decodes together is what the recipe lets be in flight."""
    given: dict[str, Any] = {"template": settings.template, "max_batch": settings.concurrency}
    return given | ({"format": settings.format} if settings.format else {})


def journal_path(recipe: Recipe) -> Path:
    """The journal of a recipe's teachers: `distill.journal`, else one file shared by all runs in `out`."""
    return Path(recipe.distill.journal) if recipe.distill.journal else Path(recipe.out) / "journal.sqlite"


SPEND_ID = "spend_id"


def spend_id(folder: Path) -> str:
    """The name under which a run folder's spending is in the journal: made once, and copied with the folder."""
    path = folder / SPEND_ID
    try:
        if text := path.read_text(encoding="utf-8").strip():
            return text
    except (OSError, UnicodeDecodeError):
        pass
    folder.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f"{SPEND_ID}-{uuid.uuid4().hex}")
    mine.write_text(f"run:{uuid.uuid4().hex}\n", encoding="utf-8")
    try:
        os.link(mine, path)  # of several processes that start at once, one names the run
    except FileExistsError:
        pass
    except OSError:  # no hard links here
        if not path.exists():
            path.write_bytes(mine.read_bytes())
    mine.unlink()
    return path.read_text(encoding="utf-8").strip()


def _teacher(chat: Client | LocalChat, settings: Distill) -> ChatTeacher:
    return ChatTeacher(
        chat,
        settings.teacher,
        prompt=settings.prompt,
        system=settings.system,
        work_as_thinking=settings.work_as_thinking,
    )
