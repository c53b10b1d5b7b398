"""From `distill.teacher` to a teacher that can be asked."""

from __future__ import annotations

import os
import time
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from s1kit.distill.chat_teacher import ChatTeacher
from s1kit.distill.recorded import RecordedTeacher
from s1kit.distill.teachers import SolutionsTeacher, TinyTeacher
from s1kit.engines.base import Engine, close_engine
from s1kit.errors import InputError
from s1kit.extensions import load_extension
from s1kit.journal import Journal
from s1kit.progress import say
from s1kit.providers import Teacher
from s1kit.providers.chat import Parameters
from s1kit.providers.client import Client, open_client
from s1kit.providers.local import LocalChat
from s1kit.providers.patience import human
from s1kit.providers.terms import terms_of
from s1kit.providers.throttle import ThrottleSettings
from s1kit.recipe import Distill, Recipe

ENGINES = ("hf", "vllm", "llama.cpp", "completions", "scripted")


@dataclass
class Asked:
    """A teacher, and what the stage must know about asking it. An async context manager."""

    teacher: Teacher
    inputs: list[Path] = field(default_factory=list)
    """Files that the traces come from."""
    engine: Engine | None = None
    """A local engine that is the teacher."""
    client: Client | None = None
    journal: Journal | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    _opened: float = field(default_factory=time.monotonic)

    async def __aenter__(self) -> Asked:
        if self.client is not None:
            await self._stack.enter_async_context(self.client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def close(self) -> None:
        close_engine(self.engine)
        if self.journal is not None:
            self.journal.close()

    def note(self, num_to_come: int) -> str:
        """What to show beside the count: cost, rate, time to come, failures by kind."""
        if self.client is None:
            return ""
        tally, spend_cap = self.client.tally, self.client.spend_cap
        rate = (tally.paid + tally.from_journal) / max(1e-3, time.monotonic() - self._opened)
        parts = [f"${spend_cap.spent:.4f}" if self.client.price is not None else "cost unknown", f"{rate:.1f}/s"]
        if rate > 0:
            parts.append(f"{human(num_to_come / rate)} to go")
        odd = tally.problems + tally.finishes
        del odd["stop"]
        return ", ".join(parts + [f"{num} {kind}" for kind, num in odd.most_common(4)])


def open_teacher(recipe: Recipe) -> Asked:
    """The teacher that `distill.teacher` names. Raises InputError for a reference that names none."""
    settings = recipe.distill
    reference = settings.teacher
    match reference.partition(":"):
        case ("tiny", "", ""):
            return Asked(TinyTeacher())
        case ("solutions", "", ""):
            return Asked(SolutionsTeacher())
        case ("recorded", ":", path) if path:
            return Asked(RecordedTeacher(Path(path)), inputs=[Path(path)])
        case ("chat", ":", model) if model:
            return _open_chat(recipe)
        case (scheme, ":", model) if scheme in ENGINES and model:
            from s1kit.engines import load_engine

            journal = Journal(journal_path(recipe))
            stated = {"format": settings.format} if settings.format else {}
            engine = load_engine(reference, template=settings.template, **stated)
            chat = LocalChat(engine, reference, journal, parameters(settings))
            return Asked(_teacher(chat, settings), journal=journal, engine=engine)
        case _ if (own := load_extension(reference, "teacher", "distill.teacher")) is not None:
            return Asked(own(recipe))
        case _:
            raise InputError(
                f"no teacher is called {reference!r}",
                where="distill.teacher",
                fix="Give tiny, solutions, recorded:<file>, chat:<provider>/<model>, or an engine's model reference.",
            )


def _open_chat(recipe: Recipe) -> Asked:
    settings = recipe.distill
    journal = Journal(journal_path(recipe))
    try:
        client = open_client(
            settings.teacher,
            journal,
            parameters=parameters(settings),
            base_url=settings.base_url,
            headers=settings.headers,
            key_file=settings.key_file,
            price=settings.price,
            prices_path=settings.prices,
            cap_usd=settings.max_cost_usd,
            run=spend_id(recipe.folder),
            throttle=ThrottleSettings(
                max_in_flight=settings.concurrency,
                requests_per_minute=settings.requests_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
            ),
            timeout_seconds=settings.timeout_seconds,
            stream=settings.stream,
        )
    except InputError:
        journal.close()
        raise
    return Asked(_teacher(client, settings), client=client, journal=journal)


def say_what_it_means(recipe: Recipe, asked: Asked) -> None:
    """Before anything is spent: the price, the cap, and what the output may be used for."""
    if asked.client is None:
        return
    price, settings = asked.client.price, recipe.distill
    if price is None:
        say("distill: the price is unknown; cost is not counted.")
    else:
        cap = f"at most ${settings.max_cost_usd:,.2f}" if settings.max_cost_usd is not None else "no cap"
        dated = f" ({price.source}{f', {price.date}' if price.date else ''})" if price.source else ""
        say(f"distill: ${price.input:g} / ${price.output:g} per million tokens in / out{dated}; {cap}.")
    entry = terms_of(settings.teacher)
    say(f"distill: {entry.sentence}")
    if entry.needs_reason and "train" in recipe.stages and not recipe.train.acknowledge_terms:
        say("distill: `train` will refuse these traces unless train.acknowledge_terms names the reason.")


def parameters(settings: Distill) -> Parameters:
    return Parameters(
        max_output_tokens=settings.max_output_tokens,
        temperature=settings.temperature,
        top_p=settings.top_p,
        thinking_budget=settings.thinking_budget,
        reasoning_effort=settings.reasoning_effort,
        extra=settings.extra,
    )


def journal_path(recipe: Recipe) -> Path:
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
    return ChatTeacher(chat, settings.teacher, prompt=settings.prompt, system=settings.system)
