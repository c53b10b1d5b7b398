"""The command line: what it prints, what it refuses and with which status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from s1kit.cli import main
from s1kit.journal import Entry, Journal
from s1kit.records import Question
from s1kit.stage import open_run

HEAVY = {"torch", "transformers", "numpy", "pyarrow", "pydantic", "matplotlib", "httpx", "starlette", "math_verify"}


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from s1kit.cli.arguments import make_parser; make_parser().format_help(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(modules)


def test_all_verbs_of_the_contract_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    printed = capsys.readouterr().out
    verbs = "run collect distill curate train evaluate report estimate ask serve grade show export doctor check schema"
    assert [verb for verb in verbs.split() if f"\n    {verb} " not in printed] == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["run", "nowhere.toml"], "there is no recipe 'nowhere.toml'"),
        (["run", "tiny", "train.epoch=2"], "unknown key 'train.epoch'"),
        (["run", "tiny", "seed"], "is not key=value"),
        (["show", "nowhere"], "there is no nowhere"),
        (["grade", "nowhere.jsonl"], "there is no nowhere.jsonl"),
        (["export", "nowhere", "--to", "x.jsonl"], "there is no nowhere"),
    ],
)
def test_a_mistake_is_one_paragraph_and_status_2(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*arguments, *([f"out={tmp_path}"] if arguments[0] == "run" else [])]) == 2
    printed = capsys.readouterr().err
    assert complaint in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["srve"], "Did you mean serve?"),
        (["serve", "--prot", "8"], "there is no option --prot. Did you mean --port?"),
        (["calibrate", "tiny", "--questions", "x", "--rule", "stabel"], "--rule is 'stabel'. Did you mean stable?"),
        (["run", "tiny", "--train.epochs=3"], "a setting is written without dashes: train.epochs=3"),
    ],
)
def test_a_word_that_no_command_knows_gets_the_nearest(
    arguments: list[str], advice: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert advice in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_results_that_a_full_disk_does_not_take_are_a_sentence_and_status_1() -> None:
    command = [sys.executable, "-m", "s1kit", "schema"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert "could not be written: No space left on device" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_without_permission_or_place_is_the_users_mistake(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", "tiny", f"out={tmp_path / 'file'}"]) == 2
    assert "is a file (out)" in capsys.readouterr().err


def test_a_run_of_another_recipe_is_refused_whatever_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    open_run(tmp_path / "mine", "tiny", {})
    assert main(["run", "math-sample", "name=mine", f"out={tmp_path}", "data=somewhere"]) == 2
    assert "recipe 'tiny', not 'math-sample'" in capsys.readouterr().err
    assert main(["check", "math-sample", "name=mine", f"out={tmp_path}", "data=somewhere"]) == 2
    assert "recipe 'tiny', not 'math-sample'" in capsys.readouterr().out


def test_show_prints_rows_and_receipts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = open_run(tmp_path / "r", "r", {}).open("collect", {}, seed=0)
    stage.write("questions", Question, [Question(text="What is 1 + 1?\nThink.", solution="2")])
    stage.counts["out"] += 1
    stage.finish()
    assert main(["show", str(tmp_path / "r" / "collect")]) == 0
    assert "  | Think." in capsys.readouterr().out
    (tmp_path / "r" / "evaluate").mkdir()
    (tmp_path / "r" / "evaluate" / "started.json").write_text("{}")
    assert main(["show", str(tmp_path / "r")]) == 0
    assert capsys.readouterr().out.endswith("1  out\nevaluate: begun, not finished\n")


def test_a_broken_line_is_named_with_its_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n{"a": \n')
    assert main(["show", str(path)]) == 2
    assert f"{path}:2" in capsys.readouterr().err


def test_export_writes_rows_as_json_lines(tmp_path: Path) -> None:
    stage = open_run(tmp_path / "r", "r", {}).open("collect", {}, seed=0)
    stage.write("questions", Question, [Question(text="q", solution="é")])
    assert main(["export", str(stage.folder), "--to", str(tmp_path / "out.jsonl"), "--quiet"]) == 0
    (row,) = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    assert (row["text"], row["solution"]) == ("q", "é")


def test_an_interrupt_is_status_130_and_says_that_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("s1kit.cli.doctor.main", interrupted)
    assert main(["doctor"]) == 130
    assert "kept" in capsys.readouterr().err


def test_show_prints_a_journal_and_refuses_what_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Journal(tmp_path / "journal.sqlite") as journal:
        journal.put([Entry(key="k", provider="local", model="m", reply={"text": "four"})])
    assert main(["show", str(tmp_path / "journal.sqlite")]) == 0
    printed = capsys.readouterr().out
    assert "requests: 1" in printed
    assert "four" in printed
    (tmp_path / "notes.txt").write_text("hello")
    assert main(["show", str(tmp_path / "notes.txt")]) == 2


def test_the_page_of_settings_is_what_the_schema_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    page = Path(__file__).parents[1] / "docs" / "settings.md"
    assert capsys.readouterr().out == page.read_text(encoding="utf-8"), "run: s1kit schema > docs/settings.md"


def test_every_setting_and_column_has_a_meaning() -> None:
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) > 200
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_schema_as_json_names_every_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--json"]) == 0
    assert {"Collect", "Distill", "Train"} <= json.loads(capsys.readouterr().out)["recipe"]["$defs"].keys()


def test_waits_without_room_to_think_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ask", "1+1?", "--model", "scripted:nowhere", "--waits", "2", "--max-thinking", "0"]) == 2
    assert "no room to think" in capsys.readouterr().err
    assert main(["ask", "1+1?", "--model", "scripted:nowhere", "--min-thinking", "5", "--max-thinking", "3"]) == 2
    assert "--min-thinking is 5, above --max-thinking, which is 3" in capsys.readouterr().err


def test_a_stage_is_redone_with_those_after_it_when_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = tmp_path / "q.jsonl"
    row = {"question": "What is one and one?", "solution": "One and one more is two in all.", "answer": "two"}
    questions.write_text(json.dumps(row))
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        f"""name = "r"
stages = ["collect", "distill", "curate"]
[collect]
sources = [{{ path = "{questions}" }}]
duplicates = "exact"
[distill]
teacher = "solutions"
"""
    )
    command = ["run", str(recipe), f"out={tmp_path}"]
    assert main(command) == 0
    before = (tmp_path / "r" / "collect" / "receipt.json").read_bytes()
    capsys.readouterr()
    assert main([*command, "curate.num=7"]) == 2
    assert "config.num was 1000 and is now 7" in (told := capsys.readouterr().err)
    assert "--redo curate" in told
    assert main([*command, "curate.num=7", "--redo", "curate"]) == 0
    assert "curate will be done again" in capsys.readouterr().err
    assert (tmp_path / "r" / "collect" / "receipt.json").read_bytes() == before
    questions.write_text(json.dumps(row | {"answer": "2"}))
    assert main(command) == 2
    assert f"made from other inputs: {questions} changed since" in capsys.readouterr().err
    assert main([*command, "--redo", "evaluate"]) == 2
    assert "'evaluate' is not run" in capsys.readouterr().err


def test_doctor_says_which_keys_are_there_and_never_shows_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEEPSEEK_API_KEY", "sk-secret")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert "present (DEEPSEEK_API_KEY)" in said
    assert "absent (OPENAI_API_KEY)" in said
    assert "sk-secret" not in said


def test_the_report_of_a_run_that_another_version_made_names_the_setting_that_is_gone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = {"name": "old", "evaluate": {"max_token": [0]}}
    (tmp_path / "run.json").write_text(json.dumps({"recipe": "old", "resolved": resolved}), encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    told = capsys.readouterr().err
    assert [part for part in ("evaluate.max_token", "max_tokens", "run.json") if part not in told] == []
