"""The playground in a real browser: type, run, see what was forced, compare, come back by the link."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")

from servers.chromium import Tab, chromium, find_chromium
from serving import Running, ScriptedServing, serving

from s1kit.engines.scripted import Step
from s1kit.serve.local import Local

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; install the package `chromium`")

QUESTION = "How many r's are in raspberry?"
SCRIPT = {
    QUESTION: [
        Step("Let me spell it : r a s p b e r r y . There is one r at the front , and two near the end .", "2"),
        Step(" , let me count them again : r is the first letter , then a , s , p , b , e , then r and r .", "3"),
        Step(" , once more : one at the front , two near the end , so three in all .", "3"),
    ],
    "<script>": [Step("<b>bold</b> <img src=x onerror=alert(1)> <script>alert(2)</script>", "<i>it</i>")],
}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    engine = ScriptedServing(SCRIPT, seconds_a_step=0.004)

    async def backend(_: AsyncExitStack) -> Local:
        return Local(engine, "scripted")

    with serving(backend, examples=[QUESTION]) as running:
        yield running


Visit = Callable[[Callable[[Tab], Coroutine[Any, Any, None]]], None]


@pytest.fixture(scope="module")
def in_browser() -> Iterator[Visit]:
    """Runs a visit to the page in one browser that all tests share, and fails on what the page complains about."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        assert CHROMIUM is not None
        tab = runner.run(stack.enter_async_context(chromium(CHROMIUM)))

        def run(visit: Callable[[Tab], Coroutine[Any, Any, None]]) -> None:
            tab.complaints.clear()
            tab.requested.clear()
            runner.run(tab.resize(1280, 900))
            runner.run(visit(tab))
            assert not tab.complaints, tab.complaints

        try:
            yield run
        finally:
            runner.run(stack.aclose())


DONE = "!document.querySelector('.run.busy') && document.getElementById('news').textContent.startsWith('Done')"


async def text(tab: Tab, selector: str) -> list[str]:
    found = await tab.js(f"[...document.querySelectorAll({selector!r})].map((e) => e.textContent)")
    assert isinstance(found, list)
    return found


def test_a_question_is_typed_run_with_the_keyboard_and_its_forced_tokens_are_marked(
    server: Running, in_browser: Visit
) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(server.url)
        await tab.js("document.getElementById('question').focus()")
        await tab.type(QUESTION)
        await tab.js("document.querySelector('[name=waits]').focus(); document.activeElement.select()")
        await tab.type("1")
        await tab.press("Enter", 13, ctrl=True)
        await tab.until(DONE)
        assert await text(tab, ".answer") == ["3"]
        assert await text(tab, ".thinking mark") == ["Wait"]
        (thinking,) = await text(tab, ".thinking")
        assert "near the end .Wait , let me count" in thinking
        (count,) = await text(tab, ".count")
        assert "put in by 1 wait" in count
        assert await text(tab, ".ending") == ["the model stopped thinking"]

    in_browser(visit)


def test_runs_beside_each_other_differ_by_budget_and_the_link_brings_them_back(
    server: Running, in_browser: Visit
) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(server.url)
        await tab.js("document.querySelector('#examples button').click()")
        await tab.js("document.getElementById('waits').click()")
        await tab.until(DONE)
        assert await text(tab, ".answer") == ["2", "3", "3", "3"]
        assert [len(await text(tab, f".run:nth-child({i}) mark")) for i in (1, 2, 3)] == [0, 1, 2]
        link = await tab.js("location.href")
        await tab.open(link)
        assert await tab.js("document.getElementById('question').value") == QUESTION
        assert await tab.js("[...document.querySelectorAll('[name=waits]')].map((e) => e.value)") == list("0124")
        await tab.js("document.getElementById('budgets').click()")
        await tab.until(DONE)
        endings = await text(tab, ".ending")
        assert endings[0] == "the budget ended thinking"
        assert endings[-1] == "the model stopped thinking"
        assert await text(tab, ".run:first-child .answer mark") == ["Final Answer:"]

    in_browser(visit)


def test_a_link_with_everything_in_it_sets_every_field(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        runs = "run=max%3D7%26min%3D3%26waits%3D2%26wait%3DHmm%2520%257C%2520So&run=max%3D0"
        await tab.open(f"{server.url}/#q=hello&t=0.5&seed=4&answer=40&system=be%20brief&{runs}")
        values = "[...document.querySelectorAll('#question,#system,#temperature,#seed,#answer')].map((e) => e.value)"
        assert await tab.js(values) == ["hello", "be brief", "0.5", "4", "40"]
        fields = (
            "[...document.querySelectorAll('.dial')].map((f) => ['max','min','waits','wait'].map((n) => f[n].value))"
        )
        assert await tab.js(fields) == [["7", "3", "2", "Hmm | So"], ["0", "0", "0", ""]]
        before = await tab.js("location.hash")
        await tab.js("document.getElementById('link').click()")
        await tab.open(server.url + "/" + await tab.js("location.hash"))
        assert await tab.js(fields) == [["7", "3", "2", "Hmm | So"], ["0", "0", "0", ""]]
        assert before

    in_browser(visit)


def test_model_text_is_shown_as_text_and_nothing_comes_from_elsewhere(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=%3Cscript%3E")
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        assert "<script>alert(2)</script>" in (await text(tab, ".thinking"))[0]
        assert await text(tab, ".answer") == ["<i>it</i>"]
        assert await tab.js("document.querySelectorAll('.run b.x, .thinking *, .answer *').length") == 0
        hosts = {urlsplit(url).hostname for url in tab.requested if url.startswith("http")}
        assert hosts == {"127.0.0.1"}

    in_browser(visit)


def test_escape_stops_the_runs_and_an_error_is_shown_where_it_belongs(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q={QUESTION.replace(' ', '%20')}&run=waits%3D60")
        await tab.js("document.getElementById('run').click()")
        await tab.until("document.querySelector('.thinking').textContent.length > 20")
        await tab.press("Escape", 27)
        await tab.until("document.querySelector('.ending').textContent === 'stopped'")
        server.wait_until(lambda: server.state.admission.running == 0)
        await tab.open(f"{server.url}/#q=x&run=max%3D4090%26min%3D4090")
        await tab.js("document.getElementById('run').click()")
        await tab.until("document.querySelector('.answer.error') !== null")
        assert "there is room for" in (await text(tab, ".answer"))[0]
        tab.complaints.clear()  # The browser notes the 400 itself.

    in_browser(visit)


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_the_page_fits_a_desk_and_a_phone(server: Running, in_browser: Visit, width: int, phone: bool) -> None:
    async def visit(tab: Tab) -> None:
        await tab.resize(width, 844, phone=phone)
        await tab.open(f"{server.url}/#q={QUESTION.replace(' ', '%20')}&run=max%3D8&run=waits%3D1&run=")
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        assert await tab.js("document.documentElement.scrollWidth") <= width
        columns = await tab.js("new Set([...document.querySelectorAll('.run')].map((e) => e.offsetLeft)).size")
        assert columns == (1 if phone else 3)
        unnamed = (
            "[...document.querySelectorAll('input,textarea,button')].filter((e) => !e.labels?.length"
            " && !e.ariaLabel && !e.textContent.trim()).map((e) => e.outerHTML)"
        )
        assert await tab.js(unnamed) == []
        if kept := os.environ.get("S1KIT_SCREENSHOTS"):
            await tab.js("scrollTo(0, 0)")
            await tab.picture(Path(kept) / f"test-{width}.png")

    in_browser(visit)
