"""The report: it stands alone, says what the numbers carry, and no more."""

from __future__ import annotations

import asyncio
import csv
import json
import re
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from servers.chromium import chromium, find_chromium

import s1kit
from s1kit.analysis.findings import Findings
from s1kit.analysis.intervals import Estimate
from s1kit.analysis.results import Draws, Results
from s1kit.analysis.settings import grid
from s1kit.evaluate.decode import Decoding, fill
from s1kit.evaluate.evaluate import evaluate
from s1kit.evaluate.recorded import record
from s1kit.files import write_rows
from s1kit.recipe import Evaluate
from s1kit.records import Generation, Setting
from s1kit.report.report import body_of, findings_of, report, summary
from s1kit.report.rows import read_results
from s1kit.report.sentences import headline
from s1kit.report.view import amount, templates
from tests.fake_walker import Walker, walks
from tests.test_evaluate import recipe_of, run_of

VOID = {"meta", "br", "path", "rect", "use", "hr", "img", "line", "circle", "input"}


class Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_report_is_one_file_that_fetches_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    evaluate(recipe, run)
    stage = report(recipe, run)
    html = (stage.folder / "report.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!#|\.\./|settings\.)[^"]+"', html)
    assert "url(http" not in html
    assert "@import" not in html
    checker = Balance()
    checker.feed(html)
    assert checker.open == []
    assert html.count("<figure>") == 2
    for name in ("curve", "panels"):
        assert (stage.folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (stage.folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        for width in ("", "-column"):
            assert "<svg" in (stage.folder / f"{name}{width}.svg").read_text()
    rows = list(csv.DictReader((stage.folder / "settings.csv").read_text().splitlines()))
    assert {"64 tokens", "1 Wait"} <= {row["setting"] for row in rows}
    assert all(float(r["accuracy_low"]) <= float(r["accuracy"]) <= float(r["accuracy_high"]) for r in rows)
    assert (stage.folder / "settings.tex").read_text().count(r"\\") >= len(rows)
    assert "<strong>evaluate</strong>: s1kit" in html
    assert re.search(r'<tr id="q-[0-9a-f]{16}" data-kind="(right|wrong|fixed|broken|)">', html)
    assert '<mark title="forced: wait">' in html
    assert "within noise" in html
    again = (report(recipe, run).folder / "report.html").read_text()
    strip = lambda text: re.sub(r"<h2>Receipts.*", "", text, flags=re.S)  # noqa: E731
    assert strip(again) == strip(html)


def test_a_report_of_two_budgets_and_nothing_else_works(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, max_tokens=[0, 64], num_waits=[0])
    run = run_of(recipe)
    evaluate(recipe, run)
    html = (report(recipe, run).folder / "report.html").read_text()
    assert "What each Wait fixed" not in html
    text = summary(run)
    assert "64 tokens" in text
    assert "report.html" in text


HOSTILE = 'waiting with "<hmm><script>alert(1)</script>"'


def test_a_wait_text_is_shown_as_it_is_and_runs_nothing(tmp_path: Path) -> None:
    """Two evaluations with different waits make the text of one a method's name."""
    recipe = recipe_of(tmp_path, max_tokens=[64], num_waits=[0, 1])
    run = run_of(recipe)
    evaluate(recipe, run)
    findings = findings_of(run, [])
    findings.__dict__["others"] = {HOSTILE: [findings.by_waits[-1]]}
    shown = body_of(run, recipe, findings, tmp_path)
    html = templates().get_template("report.jinja").render(shown | {"recipe": recipe, "notes": ["<hmm>"]})
    assert "<hmm>" not in html
    assert "<script>alert" not in html
    assert html.count("&lt;hmm&gt;&lt;script&gt;") >= 3  # the table of settings, that of methods, the legend


def test_a_question_and_its_source_are_shown_as_they_are_and_run_nothing(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, max_tokens=[64], num_waits=[0, 1])
    path = tmp_path / "questions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[3:]:
        row["source"] = "<svg onload=alert(1)>"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = run_of(recipe)
    evaluate(recipe, run)
    html = (report(recipe, run).folder / "report.html").read_text()
    assert "<svg onload" not in html
    assert "&lt;svg onload=alert(1)&gt;" in html


def test_every_template_is_in_the_wheel(tmp_path: Path) -> None:
    """What a page needs is package data: an installation without it draws no report."""
    root = Path(s1kit.__file__).parent
    templates = {str(p.relative_to(root.parent)) for p in root.rglob("templates/*")}
    assert {"s1kit/html/templates/page.css", "s1kit/report/templates/report.jinja"} <= templates
    pytest.importorskip("hatch_fancy_pypi_readme", reason="the wheel's README needs it")
    build = pytest.importorskip("hatchling.builders.wheel", reason="hatchling builds the wheel")
    (wheel,) = build.WheelBuilder(str(root.parent)).build(directory=str(tmp_path), versions=["standard"])
    assert templates <= set(zipfile.ZipFile(wheel).namelist())


def test_a_known_curve_is_recovered(tmp_path: Path) -> None:
    config = Evaluate(max_tokens=[0, 8, 16, 24, 64], num_waits=[0, 1, 2, 3], votes=[1, 3])
    questions = walks(200, longest=40)
    cells = [(q, s, r) for q in questions for s, n in grid(config) for r in range(n)]
    answers = {q.id: q.solution for q in questions}
    graded = [
        g.model_copy(
            update={
                "verdict": "correct" if (a := g.answer.split()[-1]) == answers[g.question_id] else "wrong",
                "final_answer": a,
            }
        )
        for g in fill(Walker(stride=10), cells, Decoding(0, 4), lambda _: None)
    ]
    write_rows(tmp_path / "generations-00000.parquet", Generation, graded)
    findings = Findings(read_results(questions, [tmp_path / "generations-00000.parquet"]), config.votes)
    # 40 equally frequent lengths; the model stops after 10 steps, and after 10 more with each Wait.
    assert [p.estimate.value for p in findings.by_budget] == [0.0, 8 / 40, 10 / 40, 10 / 40, 10 / 40]
    assert [p.estimate.value for p in findings.by_waits] == [0.25, 0.5, 0.75, 1.0]
    assert [p.tokens for p in findings.by_waits] == [10, 21, 32, 43]
    assert [p.estimate.value for p in findings.by_votes] == [0.25, 0.25]
    assert findings.by_votes[1].tokens == 30
    assert [s.flips.fixed for s in findings.steps] == [50, 50, 50]
    assert all(not s.is_noise for s in findings.steps)
    claims = " ".join(s.claim for s in headline(findings))
    assert "Waiting helps" in claims
    assert "Waits do better" in claims


def _draws(setting: Setting, correct: np.ndarray) -> Draws:
    n = len(correct)
    zeros = np.zeros((n, 1))
    return Draws(
        setting,
        [str(i) for i in range(n)],
        correct=correct.reshape(n, 1).astype(float),
        abstained=zeros,
        thinking_tokens=zeros + 10 * (1 + setting.num_waits),
        answer_tokens=zeros + 1,
        forced_tokens=zeros,
        waits=zeros + setting.num_waits,
        ending=np.full((n, 1), "closed", dtype=object),
        answered=zeros + 1,
        truncated=zeros,
        final_answer=np.full((n, 1), "1", dtype=object),
        paid_tokens=zeros + 10 * (1 + setting.num_waits),
        cost_usd=zeros,
        note=np.full((n, 1), "", dtype=object),
        mean_logprob=np.full((n, 1), np.nan),
    )


@pytest.mark.parametrize("seed", range(40))
def test_no_claim_is_made_where_nothing_differs(seed: int) -> None:
    # Both settings draw from the same coin: a claim may slip through in one run of twenty, and does in few here.
    rng = np.random.default_rng(seed)
    pair = [rng.random(60) < 0.5, rng.random(60) < 0.5]
    draws = {
        s: _draws(s, c) for s, c in zip([Setting(max_tokens=9), Setting(max_tokens=9, num_waits=1)], pair, strict=True)
    }
    findings = Findings(Results([], draws))
    said = " ".join(s.claim for s in headline(findings) if "Waiting" in s.claim)
    assert findings.best_waits is not None
    difference = findings.best_waits.difference
    assert ("within noise" in said) == (not difference.excludes_zero or findings.best_waits.p_value > 0.05)


def test_several_benchmarks_have_a_panel_each_with_the_numbers_printed_for_it(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    lines = (tmp_path / "questions.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "easy.jsonl").write_text("".join(lines[:6]))
    (tmp_path / "hard.jsonl").write_text("".join(lines[6:]))
    (tmp_path / "numbers.csv").write_text(
        "name,benchmark,accuracy_percent,num_questions,thinking_tokens,source\nbig,hard,50,6,9,A paper\n"
    )
    recipe = recipe_of(
        tmp_path,
        benchmarks=[str(tmp_path / "easy.jsonl"), str(tmp_path / "hard.jsonl")],
        comparators=[{"numbers": str(tmp_path / "numbers.csv")}],
    )
    run = run_of(recipe)
    evaluate(recipe, run)
    findings = findings_of(run, [])
    assert findings.sources == ["easy", "hard"]
    assert [n.name for n in findings.numbers_of("hard")] == ["big"]
    assert findings.numbers_of(None) == []
    html = (report(recipe, run).folder / "report.html").read_text()
    panels = html[html.index("By kind of question") :]
    assert panels.index(">easy</text>") < panels.index(">big</text>") < panels.index(">hard</text>")
    assert panels.count(">big</text>") == 2  # on the page and in one column


def test_answers_that_were_cut_at_their_room_stand_in_the_headline() -> None:
    few, many = Setting(max_tokens=9), Setting(max_tokens=9, num_waits=1)
    draws = {s: _draws(s, np.arange(60) % 3 > s.num_waits - 1) for s in (few, many)}
    said = lambda: str(headline(Findings(Results([], draws)))[-1])  # noqa: E731
    draws[few].truncated = np.arange(60)[:, None] < 3
    assert "cut off" not in said()
    draws[few].truncated = np.arange(60)[:, None] < 6
    assert "But 10 % of the answers (no Wait) were cut off at their room and count as wrong: raise" in said()


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium here; install the package `chromium`")
def test_on_a_phone_nothing_is_wider_than_the_screen_and_the_narrow_figure_is_shown(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    evaluate(recipe, run)
    page = report(recipe, run).folder / "report.html"
    wide = (
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1"
        " && !e.closest('.scroll, details, pre, svg')).map(e => e.tagName + '.' + e.className)"
    )

    async def visit() -> tuple[Any, Any, Any]:
        async with chromium(str(find_chromium())) as tab:
            await tab.resize(390, 844, phone=True)
            await tab.call("Page.navigate", url=page.as_uri())
            await tab.until("document.readyState === 'complete' && document.querySelector('.narrow svg')")
            shown = "document.querySelector('figure {0}').getBoundingClientRect().width"
            return (
                await tab.js("document.documentElement.scrollWidth - innerWidth"),
                await tab.js(wide),
                (await tab.js(shown.format(".narrow svg")), await tab.js(shown.format(".broad"))),
            )

    overflow, too_wide, (narrow, broad) = asyncio.run(visit())
    assert overflow <= 0
    assert too_wide == []
    assert 300 < narrow <= 390
    assert broad == 0


@pytest.mark.parametrize(
    ("estimate", "said"),
    [
        (None, ""),
        (Estimate(0, 0, 0), "0"),
        (Estimate(0, 0, float("inf")), "0"),
        (Estimate(512, 480, 544), "512 [480, 544]"),
    ],
)
def test_zero_tokens_are_a_number_and_none_are_an_empty_cell(estimate: Estimate | None, said: str) -> None:
    assert amount(estimate) == said


@pytest.mark.skipif(find_chromium() is None, reason="no Chromium here; install the package `chromium`")
def test_at_1280_pixels_no_column_of_the_settings_is_cut(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{i}", "budget": budget, "num_waits": n, "tokens": budget * (8 + i) // 24, "correct": i % 2}
        for i in range(16)
        for budget, n in ((16_000, 0), (32_000, 0), (32_000, 4))
    ]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ((recipe, run),) = record([path], tmp_path / "out", {})
    page = report(recipe, run).folder / "report.html"

    async def visit() -> Any:
        async with chromium(str(find_chromium())) as tab:
            await tab.resize(1280, 900)
            await tab.call("Page.navigate", url=page.as_uri())
            await tab.until("document.readyState === 'complete' && document.querySelector('td.group')")
            frame = "document.querySelector('td.group').closest('.scroll')"
            return await tab.js(f"[{frame}.scrollWidth - {frame}.clientWidth, {frame}.getBoundingClientRect().left]")

    hidden, left = asyncio.run(visit())
    assert hidden == 0
    assert left > 0
