"""Both users of the completions client, the engine and the server, in front of every kind of server and every fault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any, Literal
from urllib.parse import quote

import pytest

pytest.importorskip("starlette")

from fake_sampler import by_rows
from servers.misbehaving_server import LEGAL, WRONG, WRONG_IDS, MisbehavingServer

from s1kit import Request, ThinkingBudget
from s1kit.completions.capabilities import DIALECTS, Capabilities, neutral_settings
from s1kit.completions.client import CompletionsServer
from s1kit.completions.discovery import Identity
from s1kit.completions.farm import Farm, Member
from s1kit.engines.completions.engine import CompletionsEngine
from s1kit.forcing.formats import FORMATS
from s1kit.forcing.plan import Plan, make_plan
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.serve.decoding import End, Job
from s1kit.serve.refusals import Refusal
from s1kit.serve.upstream import Upstream

User = Literal["engine", "engine streamed", "server"]
USERS: tuple[User, ...] = ("engine", "engine streamed", "server")
SILENT_SECONDS = 0.4
STATUS = {
    "refused": 400,
    "full": 429,
    "unauthorised": 502,
    "unknown_model": 503,
    "failed": 502,
    "nonsense": 502,
    "died": 502,
    "silent": 504,
}


@dataclass(frozen=True)
class Outcome:
    """What a user of the client made of one request."""

    thinking: str = ""
    answer: str = ""
    thinking_tokens: int = 0
    num_waits: int = 0
    finish: str = ""
    status: int = 200
    message: str = ""


@pytest.fixture(scope="module")
def tokens(shown_think_folder: Path) -> TokenFormat:
    """A tokenizer in which `</think>` is a token that is shown, and a format in which nothing merges at a seam."""
    unmerged = replace(FORMATS["qwen3"], lead="", open="<think>", end="</think>")
    return TokenFormat(unmerged, FileTokenizer(shown_think_folder))


def model(tokens: TokenFormat) -> Callable[[Sequence[int]], int]:
    """Letters that never merge; now and then a stop."""
    letters = list(tokens.tokenizer.encode("xyzq", add_special_tokens=False))
    stops = [min(tokens.eos_ids), tokens.end_ids[0]]

    def sample(context: Sequence[int]) -> int:
        random = Random(f"{list(context)[-30:]}")
        return random.choice(stops) if random.random() < 0.15 else random.choice(letters)

    return sample


@asynccontextmanager
async def _user(
    user: User, url: str, kind: str, tokens: TokenFormat, silent_seconds: float = 20.0
) -> AsyncIterator[Any]:
    """A function from a plan to an outcome."""
    server, capabilities = CompletionsServer(url, "sesame", silent_seconds), Capabilities(DIALECTS[kind])
    if user == "server":
        upstream = Upstream(server, "scripted", tokens, 2048, capabilities)
        try:
            yield lambda plan: _by_server(upstream, plan, neutral_settings(capabilities.dialect, plan.request))
        finally:
            await upstream.close()
    else:
        farm = Farm([Member(server, Identity("scripted"))], silent_seconds)
        engine = CompletionsEngine(farm, "scripted", capabilities, tokens, 2048, 1)
        try:
            yield lambda plan: asyncio.to_thread(_by_engine, engine, plan, user == "engine streamed")
        finally:
            await asyncio.to_thread(engine.close)


async def _by_server(upstream: Upstream, plan: Plan, sampling: dict[str, float]) -> Outcome:
    text, found = {"thinking": "", "answer": ""}, Outcome()
    num_thinking = num_waits = 0
    try:
        async with aclosing(upstream.decode(Job(plan, sampling=sampling))) as news:
            async for new in news:
                if isinstance(new, End):
                    found = Outcome(finish=new.finish)
                    continue
                for delta in new:
                    kind = "thinking" if delta.kind in ("thinking", "wait") else "answer"
                    if delta.kind not in ("open", "close"):
                        text[kind] += delta.text
                    num_thinking += delta.num_tokens * (delta.kind in ("thinking", "wait"))
                    num_waits += delta.kind == "wait"
    except Refusal as refusal:
        return Outcome(status=refusal.status, message=refusal.message)
    return replace(found, **text, thinking_tokens=num_thinking, num_waits=num_waits)


def _by_engine(engine: CompletionsEngine, plan: Plan, is_streamed: bool) -> Outcome:
    (generation,) = engine.generate([plan.request], (lambda _, __: None) if is_streamed else None)
    if generation.ending == "failed":
        return Outcome(status=500, message=generation.note)
    return _outcome(generation)


def _outcome(generation: Any) -> Outcome:
    return Outcome(
        generation.thinking,
        generation.answer,
        generation.thinking_tokens,
        generation.num_waits,
        "length" if generation.answer_finish in ("length", "none") else "stop",
    )


def requests(num: int, **fields: Any) -> list[Request]:
    found = []
    for i in range(num):
        random = Random(i)
        budget = ThinkingBudget(random.choice([0, 1, 7, 30]), 0, random.randint(0, 3))
        found.append(Request(question=f"q{i}", budget=budget, answer_tokens=random.randint(4, 14), **fields))
    return found


@pytest.mark.parametrize("stop", [(), ("yz", "qq")])
@pytest.mark.parametrize("kind", ["vllm", "sglang", "llama.cpp", "open", "plain", "transformers"])
def test_every_user_tells_the_transcript_of_the_token_level_driver(
    tokens: TokenFormat, kind: str, stop: tuple[str, ...]
) -> None:
    sample = model(tokens)
    plans = [make_plan(r, tokens, 2048) for r in requests(12, stop=stop)]
    # An end of thinking that the server does not tell from an end of sequence counts as the delimiter; texts agree.
    expected = [_outcome(by_rows(plan, sample)) for plan in plans]

    async def main() -> None:
        async with MisbehavingServer(tokens.tokenizer, sample, kind).running() as url:
            for user in USERS:
                async with _user(user, f"{url}/as usual".replace(" ", "%20"), kind, tokens) as ask:
                    found = [await ask(plan) for plan in plans]
                    assert found == expected, user

    asyncio.run(main())
    assert sum(e.num_waits for e in expected) > 3


@pytest.mark.parametrize("kind", ["vllm", "llama.cpp"])
def test_how_a_server_writes_its_events_does_not_matter(tokens: TokenFormat, kind: str) -> None:
    sample = model(tokens)
    plans = [make_plan(r, tokens, 2048) for r in requests(4)]
    expected = [_outcome(by_rows(plan, sample)) for plan in plans]

    wrong: list[str] = []

    async def one(url: str, name: str, user: User) -> None:
        async with _user(user, f"{url}/{quote(name)}", kind, tokens) as ask:
            found = [await ask(plan) for plan in plans]
        if found != expected:
            wrong.append(f"{name} ({user}): {found}")

    async def main() -> None:
        async with MisbehavingServer(tokens.tokenizer, sample, kind).running() as url:
            await asyncio.gather(*(one(url, name, user) for name in LEGAL for user in ("engine streamed", "server")))

    asyncio.run(main())
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("kind", ["vllm", "plain"])
def test_every_fault_is_told_by_its_kind_within_the_deadline_and_never_a_success(
    tokens: TokenFormat, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.engines.completions.engine._RETRY_SECONDS", 0.001)
    monkeypatch.setattr("s1kit.completions.decoding._LONGEST_DELAY", 0.001)
    plan = make_plan(Request(question="q", budget=ThinkingBudget(20), answer_tokens=8), tokens, 2048)
    faults = WRONG | (WRONG_IDS if kind == "vllm" else {})
    assert len(faults) >= 85
    wrong: list[str] = []

    async def one(url: str, name: str, user: User) -> None:
        expected = faults[name][0].split(" or ")
        if kind == "plain" and name.startswith(("ids that", "an id ")):
            return
        # Only what ends by the deadline gets a short one: elsewhere a slow machine must not look like silence.
        deadline = SILENT_SECONDS if "silent" in expected else 20.0
        async with _user(user, f"{url}/{quote(name)}", kind, tokens, deadline) as ask, asyncio.timeout(15):
            found = await ask(plan)
        statuses = {STATUS[k] for k in expected} if user == "server" else {500}
        said = "sesame" in found.message or "127.0.0.1" not in found.message
        if found.status not in statuses or said:
            wrong.append(f"{name} ({user}): {found}, expected {statuses}")

    async def main() -> None:
        async with MisbehavingServer(tokens.tokenizer, model(tokens), kind).running() as url:
            names = list(faults)
            # A few at a time: their pauses overlap, their work does not pile up.
            for start in range(0, len(names), 24):
                some = names[start : start + 24]
                await asyncio.gather(*(one(url, name, user) for name in some for user in USERS))

    asyncio.run(main())
    assert not wrong, "\n".join(wrong)
