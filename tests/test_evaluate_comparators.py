"""Other models beside the curve: four providers asked end to end, and numbers that others printed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from s1kit.analysis.intervals import clopper_pearson
from s1kit.analysis.results import HIDDEN, UNCOUNTED, PublishedNumber
from s1kit.analysis.settings import FILE
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.evaluate.published_numbers import read_numbers
from s1kit.providers.chat import Stopped
from s1kit.recipe import Comparator, Recipe
from s1kit.records import Generation
from s1kit.report.report import findings_of, report
from s1kit.report.view import counted
from tests.servers.provider_server import KEY, ProviderServer, thinking_of, words
from tests.test_evaluate import recipe_of, run_of

OPENAI, DEEPSEEK = "chat:openai/o1", "chat:deepseek/deepseek-reasoner"
GEMINI, ANTHROPIC = "chat:gemini/gemini-2.5-flash", "chat:anthropic/claude-opus-5-5"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ProviderServer]:
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.setenv(name, KEY)
    with ProviderServer() as running:
        yield running


def with_right_answers(folder: Path, **changes: object) -> Recipe:
    """The scripted recipe, with solutions on which the provider's reply, the question's length, is right on half."""
    recipe = recipe_of(folder, **changes)
    path = folder / "questions.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for i, row in enumerate(rows):
        row["kind"] = "math"
        if i % 2:
            row["answer"] = str(len(row["question"]))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return recipe


def comparators_on(server: ProviderServer) -> list[dict[str, object]]:
    return [
        {"model": OPENAI, "effort": ["low", "high"], "base_url": server.openai},
        {"model": DEEPSEEK, "base_url": f"{server.root}/deepseek/v1"},
        {"model": GEMINI, "base_url": server.gemini},
        {"model": ANTHROPIC, "base_url": server.anthropic},
    ]


def test_four_providers_answer_the_same_questions_and_are_paid_once(server: ProviderServer, tmp_path: Path) -> None:
    recipe = with_right_answers(tmp_path, comparators=comparators_on(server))
    run = run_of(recipe)
    stage = evaluate(recipe, run)
    assert server.num_requests == 12 * 5
    findings = findings_of(run, [])
    points = {p.draws.setting.model + p.draws.setting.target: p for p in findings.comparators}
    assert len(points) == 5
    for point in points.values():
        assert point.estimate.value == 0.5
        assert len(point.draws.question_ids) == 12
        assert point.draws.cost_usd.sum() > 0
    mean = sum(words(thinking_of(q.text)) for q in findings.results.questions) / 12
    for name in (OPENAI + "low", OPENAI + "high", DEEPSEEK, GEMINI):
        assert points[name].tokens == pytest.approx(mean), name
    # OpenAI hides its thinking, Anthropic does not count it apart; both are said, and neither is taken for measured.
    assert all(HIDDEN in note for note in points[OPENAI + "low"].draws.note.ravel())
    assert "hidden" in counted(points[OPENAI + "high"].draws)
    assert set(points[ANTHROPIC].draws.note.ravel()) == {UNCOUNTED}
    assert counted(points[DEEPSEEK].draws) == counted(points[GEMINI].draws) == "as reported"
    hidden = [g for g in stage.rows("generations", Generation) if g.setting and g.setting.model == OPENAI]
    assert {g.thinking for g in hidden} == {""}
    spent = sum(float(p.draws.cost_usd.sum()) for p in points.values())
    assert stage.figures["cost_usd"] == pytest.approx(spent, abs=1e-5)

    html = (report(recipe, run).folder / "report.html").read_text()
    others = html[html.index("<h2>Other models</h2>") : html.index("<h2>What each Wait")]
    assert others.count("asked now") == 5
    assert "hidden; from the reported usage" in others
    assert f"{points[DEEPSEEK].draws.cost_usd.sum():.4f}" in others
    assert "within noise" in others  # six of twelve against eight of twelve
    assert KEY not in html

    evaluate(recipe, run)
    assert server.num_requests == 12 * 5


def test_one_cap_holds_over_all_efforts_and_runs(server: ProviderServer, tmp_path: Path) -> None:
    asked = {"model": OPENAI, "effort": ["low", "high"], "base_url": server.openai, "max_output_tokens": 100}
    # A request reserves 100 tokens at 60 dollars a million, some 7 mills; a reply costs about 1.5.
    recipe = with_right_answers(tmp_path, comparators=[asked | {"max_cost_usd": 0.025}])
    with pytest.raises(Stopped, match=r"cap of \$0.03 .*evaluate.comparators, chat:openai/o1"):
        evaluate(recipe, run_of(recipe))
    sent = server.num_requests
    assert 0 < sent < 24
    with pytest.raises(Stopped):
        evaluate(recipe, run_of(recipe))
    assert server.num_requests == sent
    raised = with_right_answers(tmp_path, comparators=[asked | {"max_cost_usd": 1.0}])
    evaluate(raised, run_of(raised))
    assert server.num_requests == 24


def test_a_comparator_whose_file_or_request_changes_is_read_or_asked_again(
    server: ProviderServer, tmp_path: Path
) -> None:
    outputs = tmp_path / "outputs.jsonl"
    asked = {"model": OPENAI, "base_url": server.openai}

    def with_answers(answer: str, room: int) -> list[Generation]:
        recipe = with_right_answers(
            tmp_path, comparators=[asked | {"max_output_tokens": room}, {"file": str(outputs), "name": "theirs"}]
        )
        rows = [json.loads(line) for line in (tmp_path / "questions.jsonl").read_text().splitlines()]
        outputs.write_text(
            "".join(json.dumps({"question": r["question"], "thinking": "so", "answer": answer}) + "\n" for r in rows)
        )
        rows_there = list(evaluate(recipe, run_of(recipe)).rows("generations", Generation))
        return [g for g in rows_there if g.setting is not None and g.setting.method == FILE]

    assert {g.answer for g in with_answers("5", 4096)} == {"5"}
    assert server.num_requests == 12
    assert len(with_answers("5", 4096)) == 12
    assert server.num_requests == 12
    assert [g.answer for g in with_answers("6", 2048)] == ["6"] * 12
    assert server.num_requests == 24


def test_a_model_without_a_price_or_key_is_refused_before_anything_is_decoded(
    server: ProviderServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {"model": "chat:openai/o99", "base_url": server.openai}
    recipe = with_right_answers(tmp_path, comparators=[asked])
    with pytest.raises(InputError, match=r"price of chat:openai/o99 .*evaluate.comparators"):
        evaluate(recipe, run_of(recipe))
    assert not list(tmp_path.rglob("generations-*.parquet"))
    priced = with_right_answers(tmp_path, comparators=[asked | {"price": {"input": 2.0, "output": 8.0}}])
    assert evaluate(priced, run_of(priced)).figures["cost_usd"] > 0
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    with pytest.raises(InputError, match="ANTHROPIC_API_KEY"):
        evaluate(with_right_answers(tmp_path, comparators=[{"model": ANTHROPIC}]), run_of(priced))


NUMBERS = """name,benchmark,accuracy_percent,num_questions,thinking_tokens,source,date
big,questions,50.0,12,20,A paper,2025-02-03
bigger,questions,74.4,30,,A page,
unknown size,questions,60,,,A page,
elsewhere,aime24,80,30,,A page,
"""


def test_published_numbers_are_marked_and_never_given_an_interval_they_do_not_have(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text(NUMBERS)
    recipe = recipe_of(tmp_path)
    run = run_of(recipe)
    evaluate(recipe, run)
    recipe = recipe_of(tmp_path, comparators=[{"numbers": str(tmp_path / "numbers.csv")}])
    stage = evaluate(recipe, run)
    assert stage.figures["computed now"] == 0
    numbers = {n.name: n for n in stage.rows("numbers", PublishedNumber)}
    assert list(numbers) == ["big", "bigger", "unknown size"]
    estimate = numbers["big"].estimate
    assert estimate is not None
    assert (estimate.low, estimate.high) == clopper_pearson(6, 12)
    # 74.4 % of 30 is no whole number of questions: an average of draws, whose spread nobody printed.
    assert numbers["bigger"].estimate is None
    assert "averaged draws" in numbers["bigger"].why_no_interval
    assert numbers["unknown size"].estimate is None

    page = report(recipe, run).folder
    html = (page / "report.html").read_text()
    table = html[html.index("<h2>Other models</h2>") : html.index("<h2>What each Wait")]
    assert "Not measured here" in table
    assert "50.0 <span" in table
    assert '74.4<br><span class="ci below">no whole number of 30' in table
    assert "aime24" not in table
    svg = (page / "curve.svg").read_text()
    assert "published elsewhere, not measured here" in svg
    assert "bigger 74.4" in svg
    assert len(evaluate(recipe, run).shards("numbers")) == 1


def test_the_paper_s_numbers_ship_and_only_those_of_the_benchmark_are_taken() -> None:
    found = read_numbers([Comparator(numbers="s1-paper")], ["aime24"])
    by_name = {n.name: n for n in found}
    assert {n.benchmark for n in found} == {"aime24"}
    assert by_name["s1-32B, no Wait"].thinking_tokens == 6109
    assert by_name["s1-32B, no Wait"].num_right == 15
    assert by_name["o1"].num_right is None


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("big,questions,,12,20,A paper,", r"no accuracy_percent .*:2\)"),
        ("big,questions,150,12,20,A paper,", "accuracy_percent is 150"),
        ("big,questions,50,twelve,20,A paper,", "num_questions is 'twelve'"),
        ("big,questions,50,12,20,,", "no source"),
        ("big,aime24,50,30,20,A paper,", "no number for questions; it has some for aime24"),
    ],
)
def test_a_number_that_cannot_be_shown_is_refused_with_its_line(tmp_path: Path, row: str, complaint: str) -> None:
    (tmp_path / "numbers.csv").write_text(NUMBERS.splitlines()[0] + f"\n{row}\n")
    with pytest.raises(InputError, match=complaint):
        read_numbers([Comparator(numbers=str(tmp_path / "numbers.csv"))], ["questions"])
