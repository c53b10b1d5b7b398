"""Collect: sources of every kind, broken rows, duplicates, overlaps; every dropped row has its reason and evidence."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from s1kit.errors import InputError
from s1kit.pool.collect import collect
from s1kit.questions import find_files, question_from, read_questions
from s1kit.recipe import Recipe
from s1kit.records import Dropped, Question, question_id
from s1kit.stage import Run, Stage, open_run

LONG = "A train leaves the station at noon and travels north at sixty miles an hour while a bird flies south over it."


def run_collect(tmp_path: Path, name: str = "run", **collect_config: Any) -> tuple[Stage, Run]:
    recipe = Recipe.model_validate({"name": "test", "collect": collect_config})
    run = open_run(tmp_path / name, recipe.name, recipe.model_dump())
    return collect(recipe, run), run


def write_jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def dropped(run: Run) -> dict[str, Dropped]:
    return {d.reason: d for d in run.rows("collect", "dropped", Dropped)}


def kept(run: Run) -> list[Question]:
    return list(run.rows("collect", "questions", Question))


def test_every_file_format_gives_the_same_questions(tmp_path: Path) -> None:
    rows = [{"problem": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(5)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    with gzip.open(tmp_path / "b.jsonl.gz", "wt", encoding="utf-8") as file:
        file.write((tmp_path / "a.jsonl").read_text())
    with (tmp_path / "c.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["problem", "answer"])
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    read = [list(read_questions(str(tmp_path / n), name="x")) for n in ("a.jsonl", "b.jsonl.gz", "c.csv", "d.parquet")]
    assert read[0] == read[1] == read[2] == read[3]
    assert [q.solution for q in read[0]] == ["0", "2", "4", "6", "8"]


def test_a_worked_solution_keeps_the_short_answer_beside_it() -> None:
    question = question_from({"question": "1+1?", "solution": "One and one makes 2.", "answer": "2", "id": 7})
    assert question.solution == "One and one makes 2."
    assert question.metadata == {"final_answer": "2", "source_id": 7}
    assert question.id == question_id("1+1?")


def test_a_named_column_that_is_missing_is_an_error_that_lists_the_columns() -> None:
    with pytest.raises(InputError, match="no column 'q'; the columns are question, answer"):
        question_from({"question": "1+1?", "answer": "2"}, {"text": "q"})


def test_a_row_without_a_question_column_lists_what_there_is() -> None:
    with pytest.raises(InputError, match="the columns are foo, bar"):
        question_from({"foo": 1, "bar": 2})


@pytest.mark.parametrize("value", [7, None, "", "  ", ["a"]])
def test_a_question_that_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(InputError):
        question_from({"question": value, "answer": "2"})


def test_a_broken_line_is_named_with_its_number(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "1+1?"}, '{"question": "2+', {"question": "3+3?"}])
    with pytest.raises(InputError, match=r"a\.jsonl:2.*--allow-rejects"):
        run_collect(tmp_path, sources=[{"path": path}])


def test_rejects_are_written_down_when_they_are_allowed(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "1+1?"}, "[1]", '{"qu', {"x": 1}, {"question": "3+3?"}])
    stage, run = run_collect(tmp_path, sources=[{"path": path}], allow_rejects=True)
    rejects = [json.loads(line) for line in (stage.folder / "rejects.jsonl").read_text().splitlines()]
    assert [r["where"].rpartition(":")[2] for r in rejects] == ["2", "3", "4"]
    assert stage.counts["rejected"] == 3
    assert len(kept(run)) == 2


def test_a_missing_file_is_an_error_and_an_optional_one_is_not(tmp_path: Path) -> None:
    there = write_jsonl(tmp_path / "a.jsonl", [{"question": "1+1?"}])
    with pytest.raises(InputError, match="there is no file"):
        run_collect(tmp_path, sources=[{"path": "nowhere.jsonl"}])
    stage, run = run_collect(tmp_path, "b", sources=[{"path": "nowhere.jsonl", "optional": True}, {"path": there}])
    assert stage.figures["missing_sources"] == {"nowhere.jsonl": "there is no file 'nowhere.jsonl'"}
    assert len(kept(run)) == 1


def test_a_source_names_exactly_one_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names builtin and path"):
        run_collect(tmp_path, sources=[{"builtin": "tiny", "path": "x.jsonl"}])


def test_an_unknown_ending_lists_the_known() -> None:
    with pytest.raises(InputError, match=r"Known: \.jsonl, .*\.parquet"):
        list(read_questions(str(Path(__file__))))


def test_a_glob_reads_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"question": f"{name}?"}])
    assert [p.stem for p in find_files(str(tmp_path / "*.jsonl"))] == ["a", "b"]


def test_an_exact_duplicate_goes_and_names_the_row_that_stays(tmp_path: Path) -> None:
    rows = [{"question": "What is $\\dfrac{1}{2}$ of  10?"}, {"question": "what is \\frac{1}{2} of 10?", "answer": "5"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    _, run = run_collect(tmp_path, sources=[{"path": path}], duplicates="exact")
    (left,) = kept(run)
    assert left.solution == "5", "the row with a solution is the better one, although it comes later"
    assert left.id in dropped(run)["duplicate:exact"].evidence


def test_a_near_duplicate_goes_with_its_similarity(tmp_path: Path) -> None:
    story = f"{LONG} " * 3
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": story + "Where?"}, {"question": story + "Where then?"}])
    _, run = run_collect(tmp_path, sources=[{"path": path}], duplicates="near", near_threshold=0.8)
    assert dropped(run)["duplicate:near"].evidence.startswith("similarity 0.9")
    assert len(kept(run)) == 1


def test_a_story_with_other_numbers_is_no_near_duplicate(tmp_path: Path) -> None:
    story = f"{LONG} " * 3
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": story + "Add 7."}, {"question": story + "Add 8."}])
    _, run = run_collect(tmp_path, sources=[{"path": path}], duplicates="near", near_threshold=0.8)
    assert len(kept(run)) == 2


def test_questions_about_one_long_passage_are_no_near_duplicates(tmp_path: Path) -> None:
    passage = " ".join(f"word{chr(97 + n % 26)}{chr(97 + n // 26)}" for n in range(600))
    ends = ["Who spoke first in the last scene of it?", "Why does the narrator leave the old house at dawn?"]
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": f"{passage} {end}"} for end in ends])
    _, run = run_collect(tmp_path, sources=[{"path": path}], duplicates="near", near_threshold=0.8)
    assert len(kept(run)) == 2


def test_overlap_with_an_evaluation_set_goes_with_the_shared_words(tmp_path: Path) -> None:
    held_out = write_jsonl(tmp_path / "bench.jsonl", [{"question": LONG}])
    rows = [{"question": f"Listen: {LONG.upper()}"}, {"question": "What is 1 + 1?"}]
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    _, run = run_collect(tmp_path, sources=[{"path": path}], decontaminate="s1", against=[held_out])
    drop = dropped(run)["contaminated:bench"]
    assert "a train leaves the station at noon and" in drop.evidence
    assert question_id(LONG) in drop.evidence
    assert json.loads(drop.row)["text"] == rows[0]["question"]


def test_a_pool_that_is_all_dropped_is_an_error_with_the_counts(tmp_path: Path) -> None:
    held_out = write_jsonl(tmp_path / "bench.jsonl", [{"question": LONG}])
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": LONG}])
    with pytest.raises(InputError, match="no question is left of 1: 1 contaminated:bench"):
        run_collect(tmp_path, sources=[{"path": path}], decontaminate="s1", against=[held_out])


def test_no_source_and_an_empty_source_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="names no source"):
        run_collect(tmp_path)
    with pytest.raises(InputError, match="the sources are empty"):
        run_collect(tmp_path, "b", sources=[{"path": write_jsonl(tmp_path / "a.jsonl", [])}])


def test_an_unknown_evaluation_set_suggests_the_nearest(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "1+1?"}])
    with pytest.raises(InputError, match="Did you mean tiny"):
        run_collect(tmp_path, sources=[{"path": path}], against=["tinny"])


def test_a_second_run_changes_nothing_and_a_half_done_one_is_completed(tmp_path: Path) -> None:
    config = {"sources": [{"builtin": "tiny", "num": 300}], "decontaminate": "strict", "against": ["tiny"]}
    stage, _ = run_collect(tmp_path, **config)
    before = {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")}
    assert run_collect(tmp_path, **config)[0].is_done
    stage.receipt_path.unlink()
    (stage.folder / "dropped-00000.parquet").unlink()
    run_collect(tmp_path, **config)
    assert {p.name: p.read_bytes() for p in stage.folder.glob("*.parquet")} == before


def test_every_row_is_kept_or_dropped_and_every_drop_has_evidence(tmp_path: Path) -> None:
    stage, run = run_collect(
        tmp_path, sources=[{"builtin": "tiny", "num": 1500}], decontaminate="strict", against=["tiny"]
    )
    drops = list(run.rows("collect", "dropped", Dropped))
    assert stage.counts["in"] == 1500 == len(kept(run)) + len(drops)
    assert all(d.reason and d.evidence and json.loads(d.row) for d in drops)


KILLED = """
import os, signal, sys
import s1kit.pool.collect as stage, s1kit.pool.decide as decide
import s1kit.pool.scan_checkpoint as checkpoint, s1kit.pool.reading as reading
from s1kit.recipe import Recipe
from s1kit.stage import open_run

reading.BATCH, checkpoint.BATCHES, stage.SHARD = 50, 2, 200
where, last = sys.argv[1], int(sys.argv[2])
module = decide if where == "scan_batch" else stage
plain, calls = getattr(module, where), []

def counted(*args, **settings):
    calls.append(1)
    if len(calls) == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(*args, **settings)

setattr(module, where, counted)
recipe = Recipe.model_validate_json(sys.argv[3])
done = stage.collect(recipe, open_run(recipe.folder, recipe.name, recipe.model_dump()))
print(len(calls), not (done.folder / "scan").exists())
"""


def run_killed(folder: Path, where: str, last: int) -> subprocess.CompletedProcess[str]:
    pool = {"sources": [{"builtin": "tiny", "num": 1000}], "decontaminate": "strict", "against": ["tiny"]}
    recipe = Recipe.model_validate({"name": "run", "out": str(folder), "collect": pool})
    command = [sys.executable, "-c", KILLED, where, str(last), recipe.model_dump_json()]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_a_killed_stage_goes_on_from_its_finished_shards(tmp_path: Path) -> None:
    whole = run_killed(tmp_path / "whole", "scan_batch", 0)
    assert whole.stdout.split() == ["20", "True"], whole.stderr
    assert run_killed(tmp_path / "killed", "scan_batch", 13).returncode == -signal.SIGKILL
    assert run_killed(tmp_path / "killed", "_write_shard", 3).returncode == -signal.SIGKILL
    folder = tmp_path / "killed" / "run" / "collect"
    written = {p.name: p.stat().st_mtime_ns for p in folder.glob("*.parquet")}
    assert len(written) == 4, "two shards were finished, of questions and of dropped rows"
    last = run_killed(tmp_path / "killed", "scan_batch", 0)
    assert last.stdout.split() == ["0", "True"], "what was looked at before is not looked at again"
    assert {name: (folder / name).stat().st_mtime_ns for name in written} == written
    shards = {p.name: p.read_bytes() for p in (tmp_path / "whole" / "run" / "collect").glob("*.parquet")}
    assert {p.name: p.read_bytes() for p in folder.glob("*.parquet")} == shards
    receipts = [json.loads((f / "receipt.json").read_text()) for f in (folder, tmp_path / "whole" / "run" / "collect")]
    assert receipts[0]["counts"] == receipts[1]["counts"]
    assert receipts[0]["shards"] == receipts[1]["shards"]


def test_a_stage_killed_while_looking_loses_no_more_than_one_file(tmp_path: Path) -> None:
    assert run_killed(tmp_path, "scan_batch", 13).returncode == -signal.SIGKILL
    assert run_killed(tmp_path, "scan_batch", 0).stdout.split() == ["8", "True"], "12 of 20 were written down"


def test_whoever_allows_rejects_goes_on_in_the_folder_that_was_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from s1kit.cli import main

    path = write_jsonl(tmp_path / "a.jsonl", [{"question": "1+1?"}, "[1]", {"question": "3+3?"}])
    (tmp_path / "my.toml").write_text(
        f'name = "my"\n[collect]\nsources = [{{path = "{path}"}}]\ndecontaminate = "none"\n'
    )
    command = ["collect", str(tmp_path / "my.toml"), f"out={tmp_path}"]
    assert main(command) == 2
    assert "--allow-rejects" in capsys.readouterr().err
    assert main([*command, "--allow-rejects"]) == 0
    assert (tmp_path / "my" / "collect" / "rejects.jsonl").read_text().count("\n") == 1
