"""The playground in a real browser: type, run, see what was forced, compare, come back by the link."""

from __future__ import annotations

import ast
import asyncio
import itertools
import json
import os
import shutil
import subprocess
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

LONG = "long"
QUESTION = "How many r's are in raspberry?"
SCRIPT = {
    QUESTION: [
        Step("Let me spell it : r a s p b e r r y . There is one r at the front , and two near the end .", "2"),
        Step(" , let me count them again : r is the first letter , then a , s , p , b , e , then r and r .", "3"),
        Step(" , once more : one at the front , two near the end , so three in all .", "3"),
    ],
    LONG: [Step(" ".join(f"w{i}" for i in range(3000)), "late")],
    "<script>": [Step("<b>bold</b> <img src=x onerror=alert(1)> <script>alert(2)</script>", "<i>it</i>")],
}
HOSTILE = """<img src=x onerror=alert(1)> <svg/onload=alert(2)> **<b>x</b>**

<script>alert(3)</script>

[go](javascript:alert(4)) [data](data:text/html,x) ![i](https://example.com/i.png) [ok](https://example.com/a?b=c)

$\\href{javascript:alert(5)}{x}$ $\\htmlStyle{color:red}{y}$ $\\includegraphics{https://example.com/i.png}$

<a href="javascript:alert(6)">z</a> <style>body{display:none}</style>

| <img src=x> | b |
|---|---|
| `<i>` | <u>c</u> |
"""
SOLUTION = """The sum is $\\frac{1}{2} + \\sqrt{x^2}$, it costs $5 and not $6.

\\[
\\int_0^1 x\\,dx = \\tfrac12
\\]

1. first
2. then **bold** and `code < 1`

```python
print("<b>not bold</b>")
```

| n | n² |
|---|---|
| 2 | 4 |

So \\(x = 3\\), and the answer is \\boxed{\\frac{3}{4}}."""
SCRIPT |= {
    "hostile": [Step(HOSTILE, HOSTILE)],
    "solve": [Step("First try $x=1$ .", "1"), Step(" , **better** : $x=3$ .", SOLUTION)],
}
DRAWN = [Step("It is three .", "The answer is 3."), Step("It is two .", "So **Answer:** $2$")]


class Drawing(ScriptedServing):
    """Every third draw of the question "draw" comes to another answer."""

    def __init__(self) -> None:
        super().__init__(SCRIPT, seconds_a_step=0.004)
        self.scripts = itertools.cycle([[DRAWN[0]], [DRAWN[0]], [DRAWN[1]]])

    def model(self, question: str) -> Any:
        if question.endswith("draw"):
            self.script = SCRIPT | {"draw": next(self.scripts)}
        return super().model(question)


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    engine = Drawing()

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


def test_a_run_that_has_thought_enough_answers_when_it_is_told(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(server.url)
        await tab.js(f"document.getElementById('question').value = {LONG!r}")
        await tab.js("document.getElementById('run').click()")
        await tab.until("document.querySelector('.thinking').textContent.length > 20")
        assert await tab.js("!document.querySelector('.enough').hidden")
        await tab.js("document.querySelector('.enough').click()")
        await tab.until(DONE)
        assert await text(tab, ".ending") == ["you ended thinking"]
        assert await text(tab, ".answer mark") == ["Final Answer:"]
        assert await tab.js("document.querySelector('.enough').hidden")

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
        assert endings[0] == "no thinking was allowed"
        assert endings[-1] == "the model stopped thinking"
        assert await text(tab, ".run:first-child .answer mark") == ["Final Answer:"]

    in_browser(visit)


def test_a_link_with_everything_in_it_sets_every_field(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        runs = "run=max%3D7%26min%3D3%26waits%3D2%26wait%3DHmm%2520%257C%2520So&run=max%3D0"
        await tab.open(f"{server.url}/#q=hello&t=0.5&seed=4&answer=40&system=be%20brief&{runs}")
        values = "[...document.querySelectorAll('#question,#system,#temperature,#seed,#answer')].map((e) => e.value)"
        assert await tab.js(values) == ["hello", "be brief", "0.5", "4", "40"]
        assert await tab.js("document.querySelector('.more').open"), "what holds for the runs is seen"
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
        assert await tab.js("document.querySelectorAll(':is(.thinking, .answer) :is(b, i, img, script)').length") == 0
        hosts = {urlsplit(url).hostname for url in tab.requested if url.startswith("http")}
        assert hosts == {"127.0.0.1"}

    in_browser(visit)


def test_hostile_text_makes_no_element_that_acts_and_no_request(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=hostile&run=waits%3D0")
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        for part in (".thinking", ".answer"):
            names = f"[...new Set([...document.querySelectorAll('{part} *')].map((e) => e.localName))].join(' ')"
            made = set((await tab.js(names)).split())
            formula = {"math", "semantics", "annotation", "mrow", "mstyle", "mtext", "mi", "mo"}
            allowed = {"div", "p", "strong", "a", "table", "tr", "th", "td", "code", "span", "br"} | formula
            assert made <= allowed, made - allowed
            links = await tab.js(f"[...document.querySelectorAll('{part} a')].map((a) => [a.href, a.rel, a.target])")
            assert links == [["https://example.com/a?b=c", "noopener noreferrer", "_blank"]]
            (shown,) = await text(tab, part)
            assert "<img src=x onerror=alert(1)>" in shown
            assert "[go](javascript:alert(4))" in shown
            assert "\\href{javascript:alert(5)}{x}" in shown
        assert {urlsplit(url).hostname for url in tab.requested if url.startswith("http")} == {"127.0.0.1"}

    in_browser(visit)


def test_markdown_latex_and_code_are_rendered_and_plain_text_is_one_click_away(
    server: Running, in_browser: Visit
) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=solve&run=waits%3D1")
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        ends = "(a) => [a, a.lastElementChild].map((e) => Math.floor(e.getBoundingClientRect().bottom))"
        answer_end, text_end = await tab.js(f"({ends})(document.querySelector('.answer'))")
        assert text_end <= answer_end, "an answer is not cut"
        count = "[...document.querySelectorAll('.answer {0}')].length"
        numbers = {
            name: await tab.js(count.replace("{0}", name))
            for name in ("math", ".katex-display", "li", "strong", "pre", "table", ".katex-error")
        }
        assert numbers == {
            "math": 4,
            ".katex-display": 1,
            "li": 2,
            "strong": 1,
            "pre": 1,
            "table": 1,
            ".katex-error": 0,
        }
        assert "it costs $5 and not $6" in (await text(tab, ".answer"))[0]
        assert await text(tab, ".answer pre code") == ['print("<b>not bold</b>")']
        assert await tab.js("document.querySelectorAll('.thinking math').length") == 2
        assert await text(tab, ".thinking mark") == ["Wait"]
        assert await tab.js(
            "document.fonts.check('16px KaTeX_Main') && [...document.fonts].some((f) => f.status === 'loaded')"
        )
        await tab.js("document.getElementById('plain').click()")
        assert (await text(tab, ".answer")) == [SOLUTION]
        await tab.js("document.getElementById('plain').click()")

    in_browser(visit)


def test_after_run_the_question_folds_and_the_run_is_in_view(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.resize(390, 844, phone=True)
        await tab.open(f"{server.url}/#q={'long%20' * 300}&run=max%3D8")
        await tab.js("document.getElementById('question').scrollTop = 200")
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        place = "document.querySelector('.{0}').getBoundingClientRect()"
        await tab.until(f"{place.format('thinking')}.top > 0 && {place.format('answer')}.bottom < innerHeight")
        assert await tab.js("document.getElementById('question').offsetHeight") < 70
        assert await tab.js("document.getElementById('question').scrollTop") == 0, "it shows how the question begins"
        await tab.js("document.getElementById('question').focus()")
        assert await tab.js("document.getElementById('question').offsetHeight") > 200

    in_browser(visit)


def test_the_models_own_sampling_holds_unless_it_is_set(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q={QUESTION.replace(' ', '%20')}")
        await copying(tab)
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        asked = await copied(tab, "copy-curl")
        assert "temperature" not in asked
        assert "seed" not in asked
        await tab.open(f"{server.url}/#q=x&t=0&seed=0")
        await copying(tab)
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        asked = await copied(tab, "copy-curl")
        assert '"temperature": 0' in asked
        assert '"seed": 0' in asked

    in_browser(visit)


def test_answers_of_long_runs_come_into_view_unless_the_reader_looks_elsewhere(
    server: Running, in_browser: Visit
) -> None:
    async def visit(tab: Tab) -> None:
        await tab.resize(1280, 800)
        link = f"{server.url}/#q={QUESTION.replace(' ', '%20')}&run=min%3D120&run=min%3D120&run=min%3D120"
        await tab.open(link)
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        ends = "[...document.querySelectorAll('.run .answer')].map((a) => a.getBoundingClientRect().bottom)"
        await tab.until(f"{ends}.every((end) => end > 0 && end < innerHeight)")
        await tab.js("scrollTo(0, 0)")
        await tab.js("document.getElementById('run').click(), dispatchEvent(new WheelEvent('wheel'))")
        await tab.until(DONE)
        assert await tab.js("scrollY") == 0

    in_browser(visit)


async def copying(tab: Tab) -> None:
    await tab.js("navigator.clipboard.writeText = async (text) => { window.copied = text }")


async def copied(tab: Tab, button: str) -> str:
    await tab.js(f"document.querySelector('.{button}').click()")
    return str(await tab.js("window.copied"))


def test_what_is_copied_is_the_raw_text_and_a_request_that_runs(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        system = "it's%20%22quoted%22%20%24HOME%20%60x%60%20%F0%9F%8D%93%20%C2%85"
        await tab.open(f"{server.url}/#q=solve&system={system}&t=0.5&run=waits%3D1%26wait%3DHmm%2520%257C%2520So")
        await copying(tab)
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        assert await copied(tab, "copy-answer") == SOLUTION
        assert (await copied(tab, "copy-thinking")).startswith("First try $x=1$ .Hmm")
        curl, python = await copied(tab, "copy-curl"), await copied(tab, "copy-python")
        if shutil.which("curl"):
            done = subprocess.run(["bash", "-c", curl], capture_output=True, text=True, timeout=20, check=True)
            reply = json.loads(done.stdout)
            assert reply["choices"][0]["message"]["content"].strip() == SOLUTION, reply
        printed: list[str] = []
        exec(compile(python, "copied", "exec"), {"print": printed.append})
        assert printed[1].strip() == SOLUTION
        sent = await tab.js("document.getElementById('system').value")
        strings = [n.value for n in ast.walk(ast.parse(python)) if isinstance(n, ast.Constant)]
        assert sent in strings

    in_browser(visit)


def test_a_key_is_in_no_link_and_no_copied_request_and_survives_a_reload(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=x")
        await tab.js("document.getElementById('key').value = 'sk-secret'")
        await tab.js("document.getElementById('key').dispatchEvent(new Event('change'))")
        await copying(tab)
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        for button in ("copy-curl", "copy-python"):
            program = await copied(tab, button)
            assert "sk-secret" not in program
            assert "S1KIT_API_KEY" in program
        await tab.js("document.getElementById('link').click()")
        assert "sk-secret" not in await tab.js("location.href")
        await tab.js("document.getElementById('question').focus()")
        await tab.type(" and more")
        await tab.js("window.isOld = true, location.reload()")
        await tab.until("!window.isOld && document.querySelector('.run') !== null")
        assert await tab.js("document.getElementById('question').value") == "x and more"
        assert await tab.js("document.getElementById('key').value") == "sk-secret"
        await tab.js("sessionStorage.clear()")

    in_browser(visit)


def test_a_follow_up_sends_the_turns_before_and_they_are_in_the_link(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q={QUESTION.replace(' ', '%20')}&system=brief&run=waits%3D1")
        await copying(tab)
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        await tab.js("document.querySelector('.follow').click()")
        assert await tab.js("document.activeElement.id") == "question"
        await tab.type("solve")
        await tab.open(await tab.js("location.href"))
        await copying(tab)
        assert await text(tab, "#turns .question") == [QUESTION]
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        body = json.loads((await copied(tab, "copy-curl")).split("-d '")[1].rsplit("'", 1)[0].replace("'\\''", "'"))
        turns = [("system", "brief"), ("user", QUESTION), ("assistant", "3"), ("user", "solve")]
        assert [(m["role"], m["content"]) for m in body["messages"]] == turns
        await tab.js("document.getElementById('afresh').click()")
        assert "asked=" not in await tab.js("location.href")
        assert await tab.js("document.getElementById('conversation').offsetHeight") == 0

    in_browser(visit)


def test_several_draws_are_shown_one_by_one_and_vote(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=draw&draws=6&run=&run=max%3D200")
        await tab.js("document.getElementById('run').click()")
        await tab.until(DONE)
        said = (await text(tab, ".vote"))[0]
        assert said == "Vote of 6 draws: 3 (4) · 2 (2)."
        assert await text(tab, ".vote b") == ["3", "3"]
        answers = []
        for i in range(6):
            await tab.js(f"document.querySelectorAll('.run:first-child .draws button')[{i}].click()")
            answers += await text(tab, ".run:first-child .answer")
        # A formula is in the page twice over, for the eye and for readers of MathML.
        assert sorted(answer.rstrip(".")[-1] for answer in answers) == list("223333")
        assert await tab.js("document.querySelectorAll('#plot .point').length") == 12
        assert await text(tab, "#plot .label") == ["3", "2"]
        for temperature, is_told in (("", True), ("&t=0.5", False)):
            await tab.open(f"{server.url}/#q=x&draws=2{temperature}")
            await tab.js("document.getElementById('run').click()")
            await tab.until(DONE)
            assert ("set a temperature" in (await text(tab, ".vote"))[0]) is is_told

    in_browser(visit)


@pytest.mark.parametrize(
    ("answer", "final"),
    [
        (r"Thus \boxed{\dfrac{1}{2}} and \boxed{\frac{3}{4}}.", r"\frac{3}{4}"),
        ("The answer is 1,234,567.", "1234567"),
        ("Final Answer: $x + 1$", "x + 1"),
        ("**Answer:** 7", "7"),
        ("It takes 3 or 4 days", "4"),
        ("Either 1/2 or -0.5", "-0.5"),
        ("yes.", "yes"),
        (r"\boxed{\text{even}}", "even"),
        ("", ""),
    ],
)
def test_the_answer_that_votes_is_the_final_one(server: Running, in_browser: Visit, answer: str, final: str) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(server.url)
        call = f"import('/page/draw.js').then((m) => m.finalAnswer({json.dumps(answer)}))"
        assert await tab.js(call) == final

    in_browser(visit)


@pytest.mark.parametrize(
    ("source", "found", "shown"),
    [
        ("| a | b |\n|:-:|--:|\n| 1 | 2 |", ["td[style*=center]", "td[style*=right]"], "1\t2"),
        ("- [x] done\n- [ ] to do", ["li.task"], "☑ done\n☐ to do"),
        ("We have \\begin{align} x &= 1 \\\\ y &= 2 \\end{align} and so on.", [".katex-display"], "We have"),
        ("It is \\boxed{4}, of $20 for 3 and {$a$, $b$}.", [".katex", "span + span"], "of $20 for 3 and {"),
        ("שלום עולם", [":dir(rtl)"], "שלום"),
        ("a &lt; b &amp;&amp; `&lt;`", ["code"], "a < b && &lt;"),
    ],
)
def test_what_models_write_is_rendered_as_they_mean_it(
    server: Running, in_browser: Visit, source: str, found: list[str], shown: str
) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(server.url)
        call = "import('/page/markdown.js').then((m) => { const e = document.createElement('div');"
        call += f" document.body.append(e); new m.Document(e).show({json.dumps(source)});"
        call += f" return [e.innerText, ...{json.dumps(found)}.map((s) => e.querySelectorAll(s).length)] }})"
        text, *numbers = await tab.js(call)
        assert shown in text
        assert all(numbers), (text, numbers)

    in_browser(visit)


async def asked_again(tab: Tab) -> tuple[str, str]:
    """What the page says of its model and of its only run, after a run."""
    await tab.js("document.getElementById('run').click()")
    await tab.until(DONE)
    await tab.until("document.getElementById('model').textContent !== ''")
    return await tab.js("document.getElementById('model').textContent"), (await text(tab, ".failure"))[0]


def test_a_broken_connection_is_told_and_what_came_before_it_stays(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=x")
        event = {"id": "a", "choices": [{"index": 0, "delta": {"content": "Half an"}, "s1kit": {"kind": "answer"}}]}
        body = json.dumps(f"data: {json.dumps(event)}\n\n")
        break_off = "setTimeout(() => c.error(new TypeError('network error')), 50)"
        parts = f"start(c) {{ c.enqueue(new TextEncoder().encode({body})); {break_off} }}"
        await tab.js(f"window.fetch = async () => new Response(new ReadableStream({{ {parts} }}))")
        assert (await asked_again(tab))[1] == "The connection broke before the end."
        assert await text(tab, ".answer") == ["Half an"]
        offered = (
            "[...document.querySelectorAll('.tools button')].filter((b) => b.offsetHeight).map((b) => b.className)"
        )
        assert not [name for name in await tab.js(offered) if "copy-thinking" in name]
        await tab.js("window.fetch = async () => { throw new TypeError('Failed to fetch') }")
        assert (await asked_again(tab))[1] == "The server cannot be reached."
        await tab.until("document.getElementById('model').textContent === 'the server does not answer'")
        assert len(await tab.js(offered)) == 2, "there is no text to copy or to go on from"

    in_browser(visit)


def test_a_server_that_has_become_another_is_asked_what_it_is(
    server: Running, in_browser: Visit, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q=solve")
        monkeypatch.setattr(server.state.backend, "model", "another")
        assert "not served here" in (await asked_again(tab))[1]
        await tab.until("document.getElementById('model').textContent === 'another'")
        assert await asked_again(tab) == ("another", "")
        monkeypatch.setattr(server.state, "api_keys", {"me": "right"})
        assert (await asked_again(tab))[1] == "This server wants an API key. Give it under More."
        await tab.until("document.activeElement.id === 'key'")
        await tab.type("wrong")
        assert (await asked_again(tab))[1] == "The API key is wrong. Give it under More."
        await tab.until("document.getElementById('model').textContent === 'the API key is wrong'")
        await tab.js("document.getElementById('key').value = 'right'")
        assert (await asked_again(tab))[1] == ""
        await tab.js("sessionStorage.clear()")
        tab.complaints.clear()  # The browser notes the refusals itself.

    in_browser(visit)


@pytest.mark.parametrize("source", [">" * 30000, "$" * 40000, "*a " * 15000, "[" * 30000, "`" * 30000, "\\[" * 15000])
def test_text_that_is_hard_to_parse_is_shown(server: Running, in_browser: Visit, source: str) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(server.url)
        call = "import('/page/markdown.js').then((m) => { const e = document.createElement('div');"
        call += f" new m.Document(e).show({json.dumps(source)}); return e.textContent.length }})"
        assert await tab.js(call) > 0

    in_browser(visit)


def test_escape_stops_the_runs_and_an_error_is_shown_where_it_belongs(server: Running, in_browser: Visit) -> None:
    async def visit(tab: Tab) -> None:
        await tab.open(f"{server.url}/#q={QUESTION.replace(' ', '%20')}&run=waits%3D250")
        await tab.js("document.getElementById('run').click()")
        await tab.until("document.querySelector('.thinking').textContent.length > 20")
        await tab.press("Escape", 27)
        await tab.until("document.querySelector('.ending').textContent === 'stopped'")
        server.wait_until(lambda: server.state.admission.running == 0)
        await tab.open(f"{server.url}/#q=x&run=max%3D4090%26min%3D4090")
        await tab.js("document.getElementById('run').click()")
        await tab.until("document.querySelector('.failed') !== null")
        assert "there is room for" in (await text(tab, ".failure"))[0]
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
