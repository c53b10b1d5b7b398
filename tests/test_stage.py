"""Stage folders: shards, receipts, resuming, and what is refused."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from s1kit.errors import InputError, WorkFailed
from s1kit.files import write_atomically
from s1kit.records import (
    Dropped,
    Generation,
    Question,
    Sample,
    Segment,
    Setting,
    Trace,
    arrow_schema,
    from_arrow,
    to_arrow,
)
from s1kit.stage import Run, open_run

QUESTION = Question(text="What is 1 + 1?", solution="2", metadata={"level": 1, "tags": ["sum"]})


def test_rows_survive_the_trip_through_parquet(tmp_path: Path) -> None:
    stage = open_run(tmp_path / "r", "r", {}).open("collect", {}, seed=0)
    rows = [QUESTION, Question(text="And 2 + 2?")]
    stage.write("questions", Question, rows)
    assert list(stage.rows("questions", Question)) == rows


def test_nested_records_survive_the_trip_through_arrow() -> None:
    segments = (Segment.of_ids("sampled", "thinking", "hm", (1, 2)), Segment.of_ids("forced", "wait", "Wait", (3,)))
    generation = Generation(question_id=QUESTION.id, setting=Setting(num_waits=1), segments=segments, ending="closed")
    trace = Trace(question=QUESTION, teacher="t", thinking="a", answer="b", thinking_tokens=1)
    for row in (generation, Generation(question_id="x", ending="failed"), Sample(trace=trace, picked_by="random")):
        assert arrow_schema(type(row)).names == list(to_arrow(row))
        assert from_arrow(type(row), to_arrow(row)) == row


def test_a_receipt_is_written_last_and_tells_the_counts(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    stage = run.open("collect", {"a": 1}, seed=7)
    dropped = stage.drop(QUESTION, QUESTION.id, "duplicate:exact", "same as x")
    stage.write("dropped", Dropped, [dropped])
    assert not stage.is_done
    stage.finish()
    receipt = run.receipt("collect")
    assert receipt["counts"] == {"dropped:duplicate:exact": 1}
    assert (receipt["seed"], receipt["config"]) == (7, {"a": 1})
    assert Question.model_validate_json(dropped.row) == QUESTION


def test_an_unfinished_stage_gives_no_rows_to_the_next(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    run.open("collect", {}, seed=0)
    with pytest.raises(InputError, match="collect has not finished"):
        run.shards("collect", "questions")


def begin(run: Run, name: str, config: dict[str, Any], inputs: Iterable[Path] = ()) -> None:
    """Open a stage, and leave something there: an empty one may be started anew."""
    (run.open(name, config, seed=0, inputs=inputs).folder / "log.jsonl").touch()


def test_a_stage_started_with_other_settings_is_refused(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    begin(run, "train", {"epochs": 5})
    run.open("train", {"epochs": 5}, seed=0)
    with pytest.raises(InputError, match=r"config\.epochs was 5 and is now 6.*--redo train"):
        run.open("train", {"epochs": 6}, seed=0)


def test_a_setting_that_is_newer_than_the_stage_is_no_difference_while_it_is_off(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    begin(run, "train", {"epochs": 5})
    run.open("train", {"epochs": 5, "lora": None, "judge": ""}, seed=0)
    with pytest.raises(InputError, match=r"config\.judge was None and is now 'chat:a/b'"):
        run.open("train", {"epochs": 5, "judge": "chat:a/b"}, seed=0)


def test_nothing_given_is_no_difference_however_a_version_wrote_it(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    begin(run, "collect", {"sources": [{"path": "a.csv", "files": None}]})
    run.open("collect", {"sources": [{"path": "a.csv", "files": [], "subset": ""}]}, seed=0)
    with pytest.raises(InputError, match=r"sources\[0\].files was None and is now \['x'\]"):
        run.open("collect", {"sources": [{"path": "a.csv", "files": ["x"]}]}, seed=0)


def test_a_difference_inside_a_list_is_named_by_its_place(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    begin(run, "collect", {"sources": [{"num": 1}, {"num": 2}]})
    with pytest.raises(InputError, match=r"config\.sources\[1\]\.num was 2 and is now 3"):
        run.open("collect", {"sources": [{"num": 1}, {"num": 3}]}, seed=0)


def test_a_stage_whose_input_changed_is_refused(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    pool = tmp_path / "pool.jsonl"
    pool.write_text("{}")
    begin(run, "collect", {}, [pool])
    pool.write_text("{ }")
    with pytest.raises(InputError, match="inputs"):
        run.open("collect", {}, seed=0, inputs=[pool])


def test_how_the_work_is_cut_may_change_when_it_is_done_and_not_before(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    begin(run, "curate", {"num": 5, "attempt_shard": 3})
    with pytest.raises(InputError, match=r"config\.attempt_shard was 3 and is now 4"):
        run.open("curate", {"num": 5, "attempt_shard": 4}, seed=0, until_done=["attempt_shard"])
    run.open("curate", {"num": 5, "attempt_shard": 3}, seed=0, until_done=["attempt_shard"]).finish()
    assert run.open("curate", {"num": 5, "attempt_shard": 4}, seed=0, until_done=["attempt_shard"]).is_done
    with pytest.raises(InputError, match=r"config\.num was 5 and is now 6"):
        run.open("curate", {"num": 6, "attempt_shard": 4}, seed=0, until_done=["attempt_shard"])


def test_a_stage_whose_model_changed_is_refused_and_what_nobody_knows_is_not_held_against_it(tmp_path: Path) -> None:
    run = open_run(tmp_path / "r", "r", {})
    begin(run, "train", {})
    run.open("train", {}, seed=0, models={"hf:a": "1"})  # begun before models were looked at
    (run.open("curate", {}, seed=0, models={"hf:a": "1", "hf:b": "2"}).folder / "log.jsonl").touch()
    run.open("curate", {}, seed=0, models={"hf:a": "1"})  # the other is gone
    with pytest.raises(InputError, match=r"the files of hf:b changed since.*--redo curate"):
        run.open("curate", {}, seed=0, models={"hf:a": "1", "hf:b": "3"})


def test_a_run_of_another_recipe_or_version_is_refused(tmp_path: Path) -> None:
    open_run(tmp_path / "r", "tiny", {})
    with pytest.raises(InputError, match="recipe 'tiny', not 's1k'"):
        open_run(tmp_path / "r", "s1k", {})
    record = json.loads((tmp_path / "r/run.json").read_text())
    (tmp_path / "r/run.json").write_text(json.dumps(record | {"format_version": 99}))
    with pytest.raises(InputError, match="another version"):
        open_run(tmp_path / "r", "tiny", {})


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="holds no run"):
        open_run(tmp_path, "tiny", {})
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_folder_where_a_file_is_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        open_run(tmp_path / "file" / "r", "tiny", {})


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, os.strerror(28))

    with pytest.raises(WorkFailed, match="No space left"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_a_folder_that_may_not_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    def refuse(temporary: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with pytest.raises(InputError, match="no permission to write x"):
        write_atomically(tmp_path / "x", refuse)


def test_a_question_id_is_that_of_the_s1_release() -> None:
    import hashlib

    assert QUESTION.id == hashlib.sha256(QUESTION.text.encode()).hexdigest()[:16]
    with pytest.raises(ValueError, match="is not that of the text"):
        Question(text="a", id="0123456789abcdef")
