"""Generations that somebody recorded become a report without an engine and without a run folder."""

from __future__ import annotations

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from s1kit.analysis.findings import Findings
from s1kit.cli import main
from s1kit.errors import InputError
from s1kit.evaluate.recorded import files_of, record
from s1kit.records import Generation, Question, Segment, Setting
from s1kit.report.compare import compare, describe, load_runs
from s1kit.report.published_numbers import is_summary, read_series, report_summaries
from s1kit.report.report import findings_of, report, summary
from s1kit.report.sentences import NOTHING_SHARED, headline
from s1kit.report.view import counted, if_graded
from s1kit.stage import open_run


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def found(paths: list[Path], out: Path, columns: dict[str, str] | None = None, pattern: str = "") -> Findings:
    ((recipe, run),) = record(paths, out, columns or {}, pattern)
    return findings_of(run, recipe.evaluate.votes)


def test_columns_say_budget_waits_tokens_and_verdict(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{i}", "budget": budget, "tokens": budget - 4, "correct": i < budget // 64, "num_waits": waits}
        for i in range(8)
        for budget, waits in ((128, 0), (256, 0), (256, 2))
    ]
    findings = found([write(tmp_path / "a.jsonl", rows)], tmp_path / "out")
    assert [(p.name, p.tokens, p.estimate.value) for p in findings.by_budget] == [
        ("128 tokens", 124, 0.25),
        ("256 tokens", 252, 0.5),
    ]
    assert [p.draws.setting.num_waits for p in findings.by_waits] == [0, 2]


def test_logs_with_one_number_of_waits_only_are_drawn(tmp_path: Path) -> None:
    rows = [
        {"model": model, "question": f"q{i}", "budget": 8000, "num_waits": 1, "tokens": 400 + i, "correct": i < right}
        for i in range(8)
        for model, right in (("small", 4), ("large", 6))
    ]
    recorded = record([write(tmp_path / "a.jsonl", rows)], tmp_path / "out", {}, "")
    assert len(recorded) == 2
    for recipe, run in recorded:
        findings = findings_of(run, recipe.evaluate.votes)
        assert [p.name for p in findings.main_line] == ["8,000 tokens, up to 1 Wait"]
        assert not findings.by_waits
        assert not findings.by_budget


@pytest.mark.parametrize(
    ("settings", "drawn", "undrawn", "said"),
    [  # settings: budget, Waits, temperature, questions
        (
            [(64, 0, 0.6, 6), (128, 0, 0.6, 6), (256, 0, 0.6, 6), (64, 0, 0, 1)],
            [64, 128, 256],
            ["64 tokens, temperature 0 or not stated"],
            "The curve is at temperature 0.6. Not drawn, and only in the table of settings: 64 tokens, temperature 0",
        ),
        (
            [(64, 0, 0, 6), (128, 0, 0, 6), *((b, 0, 1.0, 1) for b in (16, 32, 64, 128))],
            [64, 128],
            [f"{b} tokens, temperature 1" for b in (16, 32, 64, 128)],
            "The curve is at temperature 0 or none stated. Not drawn, and only in the table of settings: "
            "16 tokens, temperature 1; 32 tokens, temperature 1; 64 tokens, temperature 1; 1 more.",
        ),
        (
            [(64, 0, 0, 6), (64, 1, 0, 6), (128, 0, 0, 6), (128, 2, 0, 6)],
            [64, 128],
            ["64 tokens, 1 Wait"],
            "\nNot drawn, and only in the table of settings: 64 tokens, 1 Wait.",
        ),
        ([(64, 0, 0.3, 6), (128, 0, 0.3, 6)], [64, 128], [], ""),
    ],
)
def test_the_curve_takes_the_temperature_of_most_settings_and_the_others_are_named(
    settings: list[tuple[int, int, float, int]], drawn: list[int], undrawn: list[str], said: str, tmp_path: Path
) -> None:
    rows = [
        {"question": f"q{i}", "tokens": 9, "correct": i % 2, "budget": b, "num_waits": waits, "temperature": t}
        for b, waits, t, num in settings
        for i in range(num)
    ]
    ((recipe, run),) = record([write(tmp_path / "a.jsonl", rows)], tmp_path / "out", {})
    findings = findings_of(run, recipe.evaluate.votes)
    assert [p.draws.setting.max_tokens for p in findings.by_budget] == drawn
    assert [p.name for p in findings.undrawn] == undrawn
    folder = report(recipe, run).folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert (said.strip() in page, "Not on the curve" in page) == (True, bool(undrawn))
    assert said in summary(run)
    table = (folder / "settings.csv").read_text(encoding="utf-8")
    assert all(f'Not on the curve,"{name}"' in table for name in undrawn)
    assert sum("Not drawn" in line for line in describe(load_runs([run.folder, run.folder]))) == 2 * bool(undrawn)


def test_a_summary_of_lm_eval_beside_its_samples_is_left_out(tmp_path: Path) -> None:
    summary = {"results": {"aime": {"exact_match,none": 0.5}}, "configs": {}, "versions": {}}
    (tmp_path / "results_1.json").write_text(json.dumps(summary), encoding="utf-8")
    with pytest.raises(InputError, match="hold no generation"):
        record([tmp_path / "results_1.json"], tmp_path / "none", {})
    rows = [{"question": "q", "answer": "1", "output": "\\boxed{1}"}]
    findings = found([tmp_path / "results_1.json", write(tmp_path / "rows.jsonl", rows)], tmp_path / "out")
    assert findings.by_budget[0].estimate.value == 1


@pytest.mark.parametrize(("limits", "budgets"), [((64, 512), [64, 512]), ((512, 512), [None])])
def test_max_tokens_is_the_budget_where_a_question_has_several(
    tmp_path: Path, limits: tuple[int, int], budgets: list[int | None]
) -> None:
    rows = [
        {"question": f"q{i}", "answer": str(i), "output": f"\\boxed{{{i * (limit > 64)}}}", "max_tokens": limit}
        for limit in limits
        for i in range(1, 5)
    ]
    findings = found([write(tmp_path / "rows.jsonl", rows)], tmp_path / "out")
    assert [p.draws.setting.max_tokens for p in findings.by_budget] == budgets


def test_the_names_of_files_say_settings_and_the_rest_is_graded(tmp_path: Path) -> None:
    paths = [
        write(
            tmp_path / f"aime_{budget}_w{waits}.jsonl",
            [
                {"problem": f"p{i}", "answer": str(i), "output": f"<think>hm hm</think>It is {i * right}."}
                for i in range(4)
            ],
        )
        for budget, waits, right in ((512, 0, 0), (1024, 0, 1), (1024, 3, 1))
    ]
    findings = found(paths, tmp_path / "out", pattern="aime_{max_tokens}_w{num_waits}.jsonl")
    assert [(p.draws.setting.max_tokens, p.estimate.value) for p in findings.by_budget] == [(512, 0.25), (1024, 1.0)]
    assert findings.by_waits[-1].draws.setting.num_waits == 3
    with pytest.raises(InputError, match="does not fit"):
        record(paths, tmp_path / "other", {}, "math_{max_tokens}.jsonl")
    with pytest.raises(InputError, match="no field 'budgt'"):
        record(paths, tmp_path / "other", {}, "aime_{budgt}")


@pytest.mark.parametrize("reference", ["gold", "target", "ground_truth", "solution"])
def test_an_answer_beside_a_reference_is_the_models_own(reference: str, tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "answer": f"The answer is {i % 2}.", reference: "0"} for i in range(6)]
    findings = found([write(tmp_path / "a.jsonl", rows)], tmp_path / "out")
    assert [p.estimate.value for p in findings.by_budget] == [0.5]


def test_several_draws_are_voted_on_and_models_are_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"question": f"q{i}", "model": model, "pred": str(i if n < right else 99), "correct": n < right, "tokens": 50}
        for model, right in (("org/weak", 2), ("org/strong", 4))
        for i in range(6)
        for n in range(5)
    ]
    path = write(tmp_path / "draws.jsonl", rows)
    assert main(["report", "--from", str(path), "--out", str(tmp_path / "out")]) == 0
    assert "compare.html" in capsys.readouterr().out
    runs = record([path], tmp_path / "out", {})
    assert [recipe.name for recipe, _ in runs] == ["org-strong", "org-weak"]
    strong, weak = (findings_of(run, recipe.evaluate.votes) for recipe, run in runs)
    assert [p.votes for p in weak.by_votes] == [1, 3, 4]
    assert weak.by_votes[0].estimate.value == pytest.approx(0.4)
    assert strong.by_votes[1].estimate.value == 1.0  # of three draws at most one is wrong
    assert strong.by_votes[1].tokens == 150


def test_samples_of_the_harness_say_their_own_settings(tmp_path: Path) -> None:
    def sample(i: int, budget: int) -> dict[str, Any]:
        texts = [f"<|im_start|>think\nwell {n}\n<|im_start|>answer\nFinal Answer: {'AB'[n % 2]}" for n in range(2)]
        asked = {"until": [], "do_sample": True, "temperature": 0.7, "max_tokens_thinking": budget}
        return {
            "doc_id": i,
            "doc": {"question": f"Which is it, {i}?", "option_a": "this", "option_b": "that", "answer": "A"},
            "target": "A",
            "arguments": {"gen_args_0": {"arg_0": "...", "arg_1": asked}},
            "resps": [texts],
            "exact_match": 0.0,
        }

    paths = [write(tmp_path / f"samples_{b}.jsonl", [sample(i, b) for i in range(3)]) for b in (500, 1000)]
    findings = found(paths, tmp_path / "out")
    assert [p.draws.setting for p in findings.by_budget] == [
        Setting(max_tokens=500, temperature=0.7),
        Setting(max_tokens=1000, temperature=0.7),
    ]
    assert [p.estimate.value for p in findings.by_budget] == [0.5, 0.5]
    assert "A. this" in findings.results.questions[0].text


def inspect_log(path: Path, as_zip: bool) -> Path:
    header = {
        "version": 2,
        "eval": {"task": "aime", "model": "openai/o4", "model_generate_config": {"reasoning_tokens": 2048}},
    }
    samples = [
        {
            "id": i,
            "epoch": epoch,
            "input": f"What is {i}?",
            "target": str(i),
            "output": {
                "choices": [
                    {
                        "message": {
                            "role": "assistant",
                            "content": [
                                {"type": "reasoning", "reasoning": "hm"},
                                {"type": "text", "text": f"ANSWER: {i}"},
                            ],
                        },
                        "stop_reason": "stop",
                    }
                ],
                "usage": {"reasoning_tokens": 300 + i},
            },
            "scores": {"match": {"value": "C" if i else "I", "answer": str(i)}},
        }
        for i in range(3)
        for epoch in (1, 2)
    ]
    if as_zip:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as log:
            log.writestr("header.json", json.dumps(header))
            for s in samples:
                log.writestr(f"samples/{s['id']}_epoch_{s['epoch']}.json", json.dumps(s))
    else:
        path.write_text(json.dumps(header | {"samples": samples}))
    return path


@pytest.mark.parametrize("as_zip", [False, True])
def test_inspect_logs_are_read(tmp_path: Path, as_zip: bool) -> None:
    findings = found([inspect_log(tmp_path / ("a.eval" if as_zip else "a.json"), as_zip)], tmp_path / "out")
    (point,) = findings.by_budget
    assert point.draws.setting.max_tokens == 2048
    assert (point.draws.correct.shape, point.estimate.value, point.tokens) == ((3, 2), pytest.approx(2 / 3), 301)


def test_an_inspect_log_compressed_with_zstandard_is_read(tmp_path: Path) -> None:
    """As inspect 0.3.2xx writes it; Python's zipfile refuses the method before 3.14."""
    plain = inspect_log(tmp_path / "plain.eval", as_zip=True)
    with zipfile.ZipFile(plain) as log:
        members = {name: log.read(name) for name in log.namelist()}
    packed = tmp_path / "packed.eval"
    with zipfile.ZipFile(packed, "w") as log:
        for name, data in members.items():
            log.writestr(name, pa.compress(data, codec="zstd", asbytes=True))
    raw = bytearray(packed.read_bytes())
    for signature, method, size in ((b"PK\x03\x04", 8, 22), (b"PK\x01\x02", 10, 24)):
        at = raw.find(signature)
        while at >= 0:
            start = at + (30 if signature[2] == 3 else 46)
            name = bytes(raw[start : start + int.from_bytes(raw[at + (26 if size == 22 else 28) :][:2], "little")])
            raw[at + method : at + method + 2] = (93).to_bytes(2, "little")
            raw[at + size : at + size + 4] = len(members[name.decode()]).to_bytes(4, "little")
            at = raw.find(signature, at + 4)
    packed.write_bytes(raw)
    findings = found([packed], tmp_path / "out")
    assert findings.by_budget[0].estimate.value == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("budgets", "names"),
    [
        ((None,), ["budget not stated"]),
        ((-1,), ["no limit"]),
        ((64, -1), ["64 tokens", "no limit"]),
        ((64, None), ["64 tokens", "budget not stated"]),
    ],
)
def test_a_budget_that_a_log_does_not_state_is_not_called_none(
    budgets: tuple[int | None, ...], names: list[str], tmp_path: Path
) -> None:
    rows = [{"question": f"q{i}", "tokens": 9, "correct": i > 1, "budget": b} for i in range(4) for b in budgets]
    findings = found([write(tmp_path / "a.jsonl", rows)], tmp_path / "out")
    assert [p.name for p in findings.by_budget] == names
    assert [findings.results.said(s) for s in findings.results.draws] == names
    assert ("no limit" in str(headline(findings)[0])) == ("no limit" in names)


def test_a_sample_that_failed_is_marked(tmp_path: Path) -> None:
    path = inspect_log(tmp_path / "a.json", as_zip=False)
    log = json.loads(path.read_text())
    log["samples"][0] |= {"error": {"message": "429 too many"}, "scores": {}, "output": {"choices": []}}
    path.write_text(json.dumps(log))
    (draws,) = found([path], tmp_path / "out").results.draws.values()
    assert (draws.ending == "failed").sum() == 1


def test_our_own_rows_are_read_with_and_without_their_questions(tmp_path: Path) -> None:
    rows = [
        Generation(
            question_id=f"{i:016x}",
            setting=Setting(max_tokens=64, num_waits=waits),
            segments=(Segment(origin="sampled", kind="thinking", text="hm", num_tokens=9),),
            ending="closed",
            verdict="correct" if waits else "wrong",
        ).model_dump(mode="json")
        for i in range(3)
        for waits in (0, 1)
    ]
    findings = found([write(tmp_path / "g.jsonl", rows)], tmp_path / "out")
    assert [p.estimate.value for p in findings.by_waits] == [0.0, 1.0]
    assert findings.results.states_budget


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": 3, "correct": True}, "no question"),
        ({"question": "q", "correct": "maybe"}, "verdict is 'maybe'"),
        ({"question": "q", "correct": True, "budget": "much"}, "max_tokens is 'much'"),
        ({"question": "q", "correct": True, "budget": -2}, "max_tokens is -2"),
        ({"question": "q", "correct": True, "num_waits": 1.5}, "num_waits is 1.5"),
        ({"question": "q", "correct": True, "temperature": -1}, "temperature is -1"),
        ({"question": "q", "correct": True, "tokens": "many"}, "thinking_tokens is 'many'"),
        ({"question": "q", "correct": True, "tokens": -3}, "thinking_tokens is -3"),
    ],
)
def test_a_row_that_cannot_be_read_names_its_line(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "fine", "correct": True}, row])
    with pytest.raises(InputError, match=message) as error:
        record([path], tmp_path / "out", {})
    assert "a.jsonl:2" in str(error.value)


def test_what_stands_on_the_command_line_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "q", "correct": True}])
    for extra in (["--column", "budget"], ["--column", "budgte=x"]):
        assert main(["report", "--from", str(path), "--out", str(tmp_path / "out"), *extra]) == 2
    assert main(["report"]) == 2
    assert main(["report", "--from", str(tmp_path / "none.jsonl")]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_folder_for_the_report_of_one_run_is_refused_and_not_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ((_, run),) = record([write(tmp_path / "a.jsonl", [{"question": "q", "correct": True}])], tmp_path / "out", {})
    assert main(["report", str(run.folder), "--out", str(tmp_path / "other")]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_row_of_which_nothing_is_known_is_an_abstention_not_a_wrong(tmp_path: Path) -> None:
    rows = [{"question": f"q{i}", "tokens": 5, **({"correct": True} if i else {})} for i in range(4)]
    findings = found([write(tmp_path / "a.jsonl", rows)], tmp_path / "out")
    (draws,) = findings.results.draws.values()
    assert draws.abstained.sum() == 1
    assert if_graded(findings.by_budget[0]) == "100.0 if all ungraded are right"
    assert findings.by_budget[0].estimate.value == 0.75


def test_settings_without_a_common_question_are_reported_and_not_compared(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{i}", "tokens": 5, "correct": i < 3, "budget": budget, "model": model}
        for i in range(6)
        for model, budget in (("a", 64 if i < 2 else 256), ("b", 256 if i < 2 else 64))
    ]
    made = record([write(tmp_path / "a.jsonl", rows)], tmp_path / "out", {})
    for recipe, run in made:
        findings = findings_of(run, recipe.evaluate.votes)
        assert NOTHING_SHARED in str(headline(findings)[0])
        report(recipe, run)
    compare([run.folder for _, run in made], tmp_path / "both")


def test_a_comparison_says_on_how_many_questions_it_rests(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{i}", "tokens": 5, "correct": i % 3 > 0, "budget": budget}
        for budget, num in ((64, 9), (256, 7))
        for i in range(num)
    ]
    said = headline(found([write(tmp_path / "a.jsonl", rows)], tmp_path / "out"))
    assert "on the 7 questions that both were asked" in str(said[0])


def test_what_a_log_does_not_say_is_not_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A verdict without an output says nothing of a missing answer; an empty output does."""
    rows: list[dict[str, Any]] = [{"question": f"q{i}", "correct": True, "tokens": 7} for i in range(3)]
    rows += [{"question": "q3", "correct": False, "output": "", "tokens": 7}, {"question": "q4", "correct": True}]
    ((recipe, run),) = record([write(tmp_path / "a.jsonl", rows)], tmp_path / "out", {})
    (draws,) = findings_of(run, recipe.evaluate.votes).results.draws.values()
    assert draws.answered[:, 0].tolist() == [1, 1, 1, 0, 1]
    assert draws.thinking_tokens[:, 0].tolist() == [7, 7, 7, 7, 0]
    assert "1 of 5 rows have neither thinking nor a count" in capsys.readouterr().err
    assert counted(draws) == (ways := "4: as reported; 1: not known, so 0")
    folder = report(recipe, run).folder
    page, table, latex = (
        (folder / name).read_text(encoding="utf-8") for name in ("report.html", "settings.csv", "settings.tex")
    )
    assert f'below">{ways}<' in page
    assert f',"{ways}",' in table
    assert "$^{1}$ \\\\\n\\midrule\n\\multicolumn{3}{l}{$^{1}$ thinking tokens: " + ways + "}" in latex


def test_printed_accuracies_are_drawn_with_the_intervals_that_can_be_known(tmp_path: Path) -> None:
    rows = [
        {"benchmark": "b", "model": "m", "method": "wait", "budget": 256, "accuracy": 0.5, "n": 30, "source": "s"},
        {"benchmark": "b", "model": "m", "method": "wait", "budget": 512, "accuracy": 0.6, "source": "<script>"},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    assert is_summary(path)
    html = report_summaries([path], tmp_path / "out").read_text()
    assert '50.0 <span class="ci">[31.3, 68.7]</span>' in html
    assert "<script>" not in html
    assert (tmp_path / "out" / "benchmark-1.pdf").exists()
    with pytest.raises(InputError, match="accuracy is 60"):
        read_series([write(tmp_path / "u.jsonl", [{"benchmark": "b", "accuracy": 60}])])


def test_real_tables_are_read_whole(shared_data: Path) -> None:
    series = read_series([shared_data / "real" / "tables_budget_accuracy.jsonl.gz"])
    assert sum(len(one.points) for one in series) == 374
    assert sum(number.estimate is not None for one in series for _, number in one.points) > 40


def test_real_rollouts_are_voted_on(shared_data: Path, tmp_path: Path) -> None:
    """Part of the 29,680 continuations of R1-Distill-Qwen-14B; all of them are drawn in the slow test below."""
    with gzip.open(shared_data / "real" / "rollouts_r1distill14b_math4_slim.jsonl.gz", "rt") as file:
        rows = [json.loads(line) for line in file]
    some = [{**r, "response": None} for r in rows if r["position"] % 20 == 10]
    findings = found([write(tmp_path / "r.jsonl", some)], tmp_path / "out", {"question": "experiment,position"})
    one, *_, most = findings.by_votes
    assert 0.9 < one.estimate.value < most.estimate.value
    assert "adaptive vote" in findings.others


@pytest.mark.slow
def test_all_real_rollouts_and_tables_are_drawn(shared_data: Path, tmp_path: Path) -> None:
    real = shared_data / "real"
    rollouts = str(real / "rollouts_r1distill14b_math4_slim.jsonl.gz")
    out = str(tmp_path / "out")
    assert main(["report", "--from", rollouts, "--column", "question=experiment,position", "--out", out]) == 0
    ((recipe, run),) = record([Path(rollouts)], Path(out), {"question": "experiment,position"})
    (draws,) = findings_of(run, recipe.evaluate.votes).results.draws.values()
    assert draws.counts.sum() == 29_680
    assert main(["report", "--from", str(real / "tables_budget_accuracy.jsonl.gz"), "--out", out]) == 0
    assert (tmp_path / "out" / "summaries.html").exists()


def test_real_samples_of_the_harness_become_a_curve(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "real" / "unlicensed" / "lm_eval_raw"
    findings = found(files_of([str(folder / "s1.1-32B*samples*medical*")]), tmp_path / "out")
    assert [p.draws.setting.max_tokens for p in findings.by_budget] == [500, 1000, 8000]
    assert all(len(p.draws.question_ids) == 36 for p in findings.by_budget)
    assert all(0.7 < p.estimate.value < 0.95 for p in findings.by_budget)


def test_questions_with_unequal_numbers_of_draws_use_all_they_have(tmp_path: Path) -> None:
    rows = [
        {"question": f"q{i}", "pred": "1" if n % 2 else "2", "correct": bool(n % 2), "tokens": 10 * (i + 1)}
        for i in range(4)
        for n in range(2 * (i + 1))
    ]
    findings = found([write(tmp_path / "draws.jsonl", rows)], tmp_path / "out")
    (draws,) = findings.results.draws.values()
    assert draws.counts.tolist() == [2, 4, 6, 8]
    assert draws.accuracy == 0.5
    assert draws.mean_thinking == 25.0  # every question counts the same
    assert main(["report", "--from", str(tmp_path / "draws.jsonl"), "--out", str(tmp_path / "page")]) == 0


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"mean_logprob": -0.25}, -0.25),
        ({"cumulative_logprob": -3.0, "token_ids": [5, 6, 7]}, -1.0),
        ({"cumulative_logprob": -3.0, "completion_tokens": 4}, -0.75),
        ({"cumulative_logprob": -3.0}, None),
        ({"logprobs": [-1.0, -2.0]}, -1.5),
        ({"logprobs": {"content": [{"token": "a", "logprob": -1.0}, {"token": "b", "logprob": 0.0}]}}, -0.5),
        ({"logprobs": {"tokens": ["a", "b"], "token_logprobs": [None, -2.0]}}, -2.0),
        ({}, None),
    ],
)
def test_log_probabilities_are_read_as_servers_write_them(
    tmp_path: Path, said: dict[str, Any], expected: float | None
) -> None:
    rows = [{"question": f"q{i}", "output": "4", "gold": "4", "correct": True, **said} for i in range(2)]
    ((_, run),) = record([write(tmp_path / "a.jsonl", rows)], tmp_path / "out", {})
    assert [g.mean_logprob for g in run.rows("evaluate", "generations", Generation)] == [expected] * 2


def test_log_probabilities_that_are_no_numbers_are_refused_with_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "q", "output": "4", "gold": "4", "logprobs": ["x"]}])
    with pytest.raises(InputError, match=r"log-probabilities cannot be read.*a\.jsonl"):
        record([path], tmp_path / "out", {})


def test_a_log_that_has_grown_or_is_graded_again_is_reported_anew(tmp_path: Path) -> None:
    rows = [{"question": f"q{q}", "output": f"so {q}", "gold": str(q), "correct": False, "budget": 8} for q in range(6)]
    path, out = tmp_path / "a.jsonl", tmp_path / "out"
    assert found([write(path, rows[:4])], out).by_budget[0].estimate.value == 0.0
    assert len(found([write(path, rows)], out).results.questions) == 6
    ((_, run),) = record([path], out, {}, regrade=True)
    assert {g.verdict for g in run.rows("evaluate", "generations", Generation)} == {"correct"}


def test_a_folder_with_decoded_generations_is_left_alone(tmp_path: Path) -> None:
    run = open_run(tmp_path / "out" / "recorded", "recorded", {})
    run.open("evaluate", config={"model": "tiny"}, seed=0).write("questions", Question, [Question(text="q")], shard=0)
    path = write(tmp_path / "a.jsonl", [{"question": "q", "correct": True, "budget": 8}])
    with pytest.raises(InputError, match="started with other settings"):
        record([path], tmp_path / "out", {})
    assert run.open("evaluate", config={"model": "tiny"}, seed=0).shards("questions")
