"""Several servers behind one reference: work is spread, a dead one is left out, a stranger is refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from threading import Timer

import pytest
from fixtures_models import SPECIALS, write_tokenizer
from servers.completions_server import CompletionsServer

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.completions.client import CompletionsServer as Client
from s1kit.completions.discovery import Identity
from s1kit.completions.failure import ServerFailed
from s1kit.completions.farm import Farm, Member
from s1kit.engines.completions.engine import CompletionsEngine
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.recipe import Recipe
from s1kit.records import Generation
from s1kit.stage import open_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder, (*SPECIALS, "<think>", "</think>"))
    return folder


class Servers:
    """Servers that write the same for the same context."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.tokenizer = FileTokenizer(folder)
        self.folder, self._stack = folder, stack

    def start(self, seconds: float = 0.0, context: int = 4096, port: int = 0) -> CompletionsServer:
        letters = self.tokenizer.encode("xyzq")
        end = self.tokenizer.eos_token_id

        def sample(context: Sequence[int]) -> int:
            return end if len(context) % 9 == 0 else letters[sum(context) % len(letters)]

        server = CompletionsServer(self.tokenizer, sample, end, context=context, port=port)
        server.seconds = seconds
        return self._stack.enter_context(server)

    def engine(self, *servers: CompletionsServer, num_parallel: int = 4) -> CompletionsEngine:
        reference = "|".join(server.url for server in servers)
        engine = load_engine(
            f"completions:{reference}#fake,tokenizer={self.folder}", num_parallel=num_parallel, timeout=20
        )
        assert isinstance(engine, CompletionsEngine)
        self._stack.callback(engine.close)
        return engine


@pytest.fixture
def servers(folder: Path) -> Iterator[Servers]:
    with ExitStack() as stack:
        yield Servers(folder, stack)


def requests(num: int) -> list[Request]:
    return [Request(f"question {i}", ThinkingBudget(6), answer_tokens=6) for i in range(num)]


def by_question(generations: Iterator[Generation]) -> dict[str, Generation]:
    return {g.question_id: g for g in generations}


def test_work_is_spread_evenly_and_comes_out_as_from_one_server(servers: Servers) -> None:
    four = [servers.start(seconds=0.02) for _ in range(4)]
    alone = by_question(servers.engine(servers.start()).generate(requests(48)))
    engine = servers.engine(*four)
    assert by_question(engine.generate(requests(48))) == alone
    done = [figures["done"] for figures in engine.figures.values()]
    assert sum(done) == 48
    assert min(done) >= 8


def test_two_of_four_die_and_the_run_ends_without_an_error(servers: Servers) -> None:
    four = [servers.start(seconds=0.05) for _ in range(4)]
    expected = by_question(servers.engine(servers.start()).generate(requests(60)))
    engine = servers.engine(*four)
    for server in four[:2]:
        Timer(0.3, server.die).start()
    found = by_question(engine.generate(requests(60)))
    assert found == expected
    failed = [figures["failed"] for figures in engine.figures.values()]
    assert min(failed[:2]) >= 1
    assert failed[2:] == [0, 0]


def test_a_server_that_comes_back_gets_requests_again(servers: Servers) -> None:
    first, second = servers.start(), servers.start()
    engine = servers.engine(first, second)
    port = int(second.url.split(":")[2].split("/")[0])
    second.die()
    assert all(g.ending != "failed" for g in engine.generate(requests(12)))
    again = servers.start(port=port)
    deadline = time.monotonic() + 15
    while any(member.is_out for member in engine.farm.members):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    list(engine.generate(requests(24)))
    assert again.bodies


def test_where_all_are_gone_each_request_says_so(servers: Servers) -> None:
    first, second = servers.start(), servers.start()
    engine = servers.engine(first, second)
    engine.farm.wait_seconds = 0.5
    first.die()
    second.die()
    found = list(engine.generate(requests(3)))
    assert [g.ending for g in found] == ["failed"] * 3
    assert "none of 2 servers came back" in found[-1].note or "cannot be reached" in found[-1].note


def test_no_server_gets_more_at_once_than_it_takes_also_when_another_dies(servers: Servers) -> None:
    """transformers serve, for one, has a single random number generator for all requests."""
    three = [servers.start(seconds=0.05) for _ in range(3)]
    engine = servers.engine(*three, num_parallel=1)
    Timer(0.2, three[0].die).start()
    same = [Request("the same", ThinkingBudget(6), answer_tokens=6, repeat=i) for i in range(24)]
    assert all(g.ending != "failed" for g in engine.generate(same))
    assert [server.most_at_once for server in three[1:]] == [1, 1]


def test_the_parts_of_one_question_go_to_the_server_that_has_its_prefix(servers: Servers) -> None:
    pair = [servers.start(seconds=0.01) for _ in range(2)]
    engine = servers.engine(*pair)
    one = [Request("the same", ThinkingBudget(n), answer_tokens=6, repeat=n) for n in range(1, 5)]
    for request in one:
        list(engine.generate([request]))
    prompts = [{str(body["prompt"][:8]) for body in server.bodies[1:]} for server in pair]
    assert sorted(len(p) for p in prompts) == [0, 1]


def test_a_server_of_another_context_is_refused_by_its_address(servers: Servers) -> None:
    good, other = servers.start(), servers.start(context=512)
    with pytest.raises(InputError, match="the context length was 4096 and is now 512") as caught:
        servers.engine(good, other)
    assert other.url.removesuffix("/v1") in str(caught.value)


class ShiftedTokenizer:
    """Writes for each id what another tokenizer writes for the next one."""

    def __init__(self, tokenizer: FileTokenizer) -> None:
        self._tokenizer = tokenizer
        self.encode = tokenizer.encode

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([i + 1 for i in ids])


def test_a_server_with_another_tokenizer_is_refused_by_its_address(servers: Servers) -> None:
    good, other = servers.start(), servers.start()
    other.tokenizer = ShiftedTokenizer(servers.tokenizer)  # type: ignore[assignment]
    with pytest.raises(InputError, match="for ids that the tokenizer given for it reads as") as caught:
        servers.engine(good, other)
    assert other.url.removesuffix("/v1") in str(caught.value)


def test_servers_may_be_listed_in_a_file(servers: Servers, tmp_path: Path) -> None:
    pair = [servers.start(), servers.start()]
    listed = tmp_path / "servers.txt"
    listed.write_text("# two\n" + "\n".join(server.url for server in pair) + "\n")
    engine = load_engine(f"completions:@{listed}#fake,tokenizer={servers.folder}")
    assert isinstance(engine, CompletionsEngine)
    try:
        assert len(list(engine.generate(requests(4)))) == 4
        assert set(engine.figures) == {server.url.removesuffix("/v1") for server in pair}
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("urls", "complaint"),
    [
        ("http://a:1/v1|ftp://b", "'ftp://b' is no URL"),
        ("http://a:1/v1|http://a:1/v1", "is named twice"),
        ("@none.txt", "cannot be read"),
    ],
)
def test_a_reference_that_names_no_farm_is_refused(servers: Servers, urls: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_engine(f"completions:{urls}#fake,tokenizer={servers.folder}")


def test_a_prefix_stays_at_its_server_while_that_is_not_much_busier() -> None:
    async def body() -> None:
        farm = Farm([Member(Client(f"http://{name}"), Identity("m")) for name in "ab"])
        async with AsyncExitStack() as stack:
            home = await stack.enter_async_context(farm.place("p"))
            again = [await stack.enter_async_context(farm.place("p")) for _ in range(4)]
            assert all(member is home for member in again)
            other = await stack.enter_async_context(farm.place("q"))
            assert other is not home
            # Now so much busier that the cache is not worth the wait.
            moved = [await stack.enter_async_context(farm.place("p")) for _ in range(4)]
            assert any(member is not home for member in moved)
        await farm.close()

    asyncio.run(body())


def test_a_server_that_comes_back_as_something_else_stays_out(servers: Servers) -> None:
    first, second = servers.start(), servers.start()
    engine = servers.engine(first, second)
    port = int(second.url.split(":")[2].split("/")[0])
    second.die()
    list(engine.generate(requests(12)))
    told: list[str] = []
    engine.farm.say = told.append
    servers.start(context=512, port=port)
    deadline = time.monotonic() + 15
    while not told:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "stays out: the context length was 4096 and is now 512" in told[0]
    assert [member.is_out for member in engine.farm.members] == [False, True]


def test_a_server_that_is_added_to_the_list_while_requests_run_gets_some_and_one_taken_off_gets_no_more(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s1kit.completions.roster.SECONDS_BETWEEN_LOOKS", 0.05)
    said: list[str] = []
    monkeypatch.setattr("s1kit.engines.completions.loading.say", said.append)
    first, second, stranger = servers.start(0.05), servers.start(0.05), servers.start(0.05, context=99)
    expected = by_question(servers.engine(servers.start()).generate(requests(60)))
    roster = tmp_path / "servers.txt"
    roster.write_text(f"{first.url}\n")
    engine = load_engine(f"completions:@{roster}#fake,tokenizer={servers.folder}", num_parallel=2, timeout=20)
    assert isinstance(engine, CompletionsEngine)
    found: dict[str, Generation] = {}
    peak = 0
    try:
        for generation in engine.generate(requests(60)):
            found[generation.question_id] = generation
            peak = max(peak, sum(member.under_way for member in engine.farm.members))
            if len(found) == 4:
                roster.write_text(f"{first.url}\n{second.url}\n{stranger.url}\n")
            if len(found) == 40:
                roster.write_text(f"{second.url} \nnonsense\n")
        assert found == expected
        assert peak > 2  # two at each
        figures = list(engine.figures.values())
        assert len(figures) == 2
        assert figures[1]["done"] >= 10
        assert figures[0]["tokens"] + figures[1]["tokens"] == sum(
            g.thinking_tokens + g.answer_tokens for g in found.values()
        )
        assert any("the context length was 4096 and is now 99" in line for line in said)
        roster.write_text(f"{second.url}\n")
        deadline = time.monotonic() + 15
        while not engine.farm.members[0].is_gone:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        done = figures[0]["done"]
        list(engine.generate(requests(12)))
        assert next(iter(engine.figures.values()))["done"] == done
        assert any("'nonsense' is no URL" in line for line in said)
    finally:
        engine.close()


def test_what_each_server_did_is_in_the_receipt(servers: Servers, tmp_path: Path) -> None:
    two = [servers.start(), servers.start()]
    (tmp_path / "questions.jsonl").write_text(
        "".join(json.dumps({"question": f"What is {n}?", "answer": str(n)}) + "\n" for n in range(12))
    )
    model = f"completions:{two[0].url}|{two[1].url}#fake,tokenizer={servers.folder}"
    settings = {
        "model": model,
        "benchmarks": [str(tmp_path / "questions.jsonl")],
        "max_tokens": [6],
        "answer_tokens": 6,
    }
    recipe = Recipe.model_validate({"name": "x", "out": str(tmp_path), "evaluate": settings})
    stage = evaluate(recipe, open_run(recipe.folder, recipe.name, {}))
    figures = json.loads(stage.receipt_path.read_text())["servers"]
    assert sorted(figures) == sorted(server.url.removesuffix("/v1") for server in two)
    assert sum(each["done"] for each in figures.values()) == 12
    assert all(each["failed"] == 0 and each["tokens"] > 0 for each in figures.values())


def small_farm(wait_seconds: float = 600.0) -> Farm:
    return Farm([Member(Client("http://a"), Identity("m"))], wait_seconds=wait_seconds, capacity=1)


def test_free_places_go_to_waiting_requests_in_turn_and_one_release_wakes_one() -> None:
    async def body() -> None:
        farm, order, looks = small_farm(), list[int](), [0]
        find = farm._find_idlest

        def counted() -> Member | None:
            looks[0] += 1
            return find()

        farm._find_idlest = counted  # type: ignore[method-assign]

        async def work(number: int) -> None:
            async with farm.place(number):
                order.append(number)
                await asyncio.sleep(0)

        async with farm.place("held"):
            waiting = [asyncio.create_task(work(number)) for number in range(40)]
            await asyncio.sleep(0.01)
            late = asyncio.create_task(work(40))
        await asyncio.gather(*waiting, late)
        assert order == list(range(41))  # who comes last does not overtake
        assert looks[0] < 200  # forty that wake forty each would look 800 times
        await farm.close()

    asyncio.run(body())


def test_a_waiting_request_that_is_cancelled_as_it_is_woken_passes_its_place_on() -> None:
    async def body() -> None:
        farm = small_farm()

        async def work() -> None:
            async with farm.place("q"):
                pass

        async with farm.place("p"):
            first, second = asyncio.create_task(work()), asyncio.create_task(work())
            await asyncio.sleep(0.01)
        first.cancel()  # the place was just freed, and offered to it
        async with asyncio.timeout(5):
            await second
        assert first.cancelled() or (await asyncio.gather(first, return_exceptions=True))
        await farm.close()

    asyncio.run(body())


def test_requests_that_wait_when_the_last_server_dies_are_told_in_time() -> None:
    async def body() -> None:
        farm = small_farm(wait_seconds=0.4)

        async def work() -> None:
            async with farm.place("q"):
                raise AssertionError("there is no server")

        async with farm.place("p") as member:
            waiting = [asyncio.create_task(work()) for _ in range(50)]
            await asyncio.sleep(0.01)
            farm.leave_out(member, ServerFailed("died", "it is gone"))
            async with asyncio.timeout(10):  # one after the other they would wait 20 seconds
                found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(error) for error in found] == ["none of 1 servers came back within 0.4 s"] * 50
        await farm.close()

    asyncio.run(body())
