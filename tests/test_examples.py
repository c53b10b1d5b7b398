"""The examples run, and say what the documentation says they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from s1kit.curate.quality import rules_of
from s1kit.errors import InputError
from s1kit.evaluate.benchmarks import load_benchmarks
from s1kit.extensions import load_extension
from s1kit.files import read_rows
from s1kit.forcing.formats import find_format, load_format
from s1kit.grade import load_grader
from s1kit.records import Generation, Sample

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_one_question_goes_from_pool_to_report() -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "one_question.py"], capture_output=True, text=True, check=True, timeout=120
    )
    assert "quality: kept" in done.stdout
    assert "64 tokens, 0 waits: wrong" in done.stdout
    assert "64 tokens, 1 waits: correct" in done.stdout
    assert "Wait]" in done.stdout


def test_functions_of_ones_own_are_named_in_a_recipe(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1kit", "run", "my_extensions.toml", f"out={tmp_path}"]
    done = subprocess.run(command, cwd=EXAMPLES, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (shard,) = (tmp_path / "my-extensions" / "curate").glob("samples-*.parquet")
    samples = list(read_rows([shard], Sample))
    assert len(samples) == 10
    assert samples[0].picked_by == "shortest:rank=0"
    assert {s.trace.teacher for s in samples} == {"parrot"}
    assert {s.trace.question.domain for s in samples} <= {"long", "short"}
    shards = sorted((tmp_path / "my-extensions" / "evaluate").glob("generations-*.parquet"))
    generations = list(read_rows(shards, Generation))
    assert len(generations) == 3
    assert all(" and " in g.evidence or g.evidence == "no number" for g in generations), "the grader's own words"


def test_a_benchmark_of_ones_own_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert [q.solution for q in load_benchmarks(["my_extensions:sums"], None, 0)] == ["0", "2", "4"]


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [("no_such_module:rule", "cannot be imported"), ("my_extensions:shrt", "Did you mean short")],
)
def test_a_function_that_is_not_there_is_refused(
    reference: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    with pytest.raises(InputError, match=complaint):
        rules_of([reference])


def test_a_grader_of_ones_own_judges_the_generations(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s1kit", "grade", "rows.jsonl", "--grader", "my_extensions:whole_number"]
    rows = [{"answer": "It is 12, so 7.", "solution": "7"}, {"answer": "none", "solution": "7"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "my_extensions.py").write_text((EXAMPLES / "my_extensions.py").read_text())
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    assert [json.loads(line)["verdict"] for line in done.stdout.splitlines()] == ["correct", "abstain"]
    assert json.loads(done.stdout.splitlines()[0])["evidence"] == "7 and 7"


def test_a_thinking_format_of_ones_own_is_found_by_name_and_never_from_a_models_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXAMPLES)
    assert find_format("my_extensions:reflect").open == "<reflect>\n"
    (tmp_path / "thinking_format.json").write_text('{"extends": "my_extensions:reflect"}')
    with pytest.raises(InputError, match="unknown thinking format"):
        load_format(tmp_path)


def test_what_a_grader_or_format_of_ones_own_returns_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_functions.py").write_text(
        "def says_yes(answer, solution, kind, question): return 'yes'\n"
        "def same(answer, solution, kind, question): return answer == solution\n"
        "def nothing(): return None\n"
    )
    monkeypatch.chdir(tmp_path)
    assert load_grader(own="own_functions:same")("1", "1").verdict == "correct"
    with pytest.raises(InputError, match=r"own_functions:says_yes returned 'yes'.*Return a Judgement"):
        load_grader(own="own_functions:says_yes")("1", "1")
    with pytest.raises(InputError, match="own_functions:nothing returned None"):
        find_format("own_functions:nothing")
    with pytest.raises(InputError, match="no grader 'strict'"):
        load_grader(own="strict")


ENTRY_POINTS = {
    "quality": "short",
    "selection": "shortest",
    "domains": "by_length",
    "teacher": "parrot",
    "benchmark": "sums",
    "grader": "whole_number",
    "format": "reflect",
}


def write_wheel(folder: Path) -> Path:
    """A package that offers the example's functions as entry points."""
    points = "".join(f"[s1kit.{kind}]\nmine-{kind} = s1kit_plugin:{name}\n\n" for kind, name in ENTRY_POINTS.items())
    files = {
        "s1kit_plugin.py": (EXAMPLES / "my_extensions.py").read_text(encoding="utf-8"),
        "s1kit_plugin-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: s1kit-plugin\nVersion: 1.0\n",
        "s1kit_plugin-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "s1kit_plugin-1.0.dist-info/entry_points.txt": points,
    }
    files["s1kit_plugin-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    path = folder / "s1kit_plugin-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    return path


def test_an_installed_package_offers_every_kind_by_a_short_name(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    install = ["-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)]
    subprocess.run([sys.executable, *install], check=True, capture_output=True, timeout=120)
    code = (
        "from s1kit.extensions import load_extension\n"
        f"for kind in {list(ENTRY_POINTS)!r}:\n"
        "    print(load_extension(f'mine-{kind}', kind, 'recipe').__name__)\n"
    )
    paths = os.pathsep.join([str(tmp_path / "site"), str(EXAMPLES.parent)])
    env = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == list(ENTRY_POINTS.values())
    overrides = [f"{place}=mine-{kind}" for place, kind in (
        ("distill.teacher", "teacher"), ("curate.domains", "domains"), ("curate.selection", "selection"),
        ("curate.grader", "grader"), ("evaluate.grader", "grader"), ("train.format", "format"),
    )]  # fmt: skip
    lists = ['curate.quality=["mine-quality"]', 'evaluate.benchmarks=["mine-benchmark"]']
    command = ["-m", "s1kit", "check", str(EXAMPLES / "my_extensions.toml"), *overrides, *lists, f"out={tmp_path}"]
    check = subprocess.run(
        [sys.executable, *command], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert check.returncode == 0, check.stdout + check.stderr


def test_an_extension_that_cannot_be_used_is_refused_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "ext_broken.py").write_text("x = 1\ndef grade(:\n")
    (tmp_path / "ext_raises.py").write_text("x = 1\ny = 1 / 0\n")
    (tmp_path / "ext_empty.py").write_text("grade = 3\n")
    for n in (1, 2):
        folder = tmp_path / f"twice_{n}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: twice-{n}\nVersion: 1.0\n")
        own = "[s1kit.grader]\nmine = ext_empty:none\n" if n == 1 else ""
        (folder / "entry_points.txt").write_text(f"{own}[s1kit.quality]\nshort = ext_{n}:short\n")
    for reference, kind, told in (
        ("ext_broken:grade", "grader", "SyntaxError.*ext_broken.py:2"),
        ("ext_raises:grade", "grader", "ZeroDivisionError.*ext_raises.py:2"),
        ("ext_empty:grade", "grader", "is no function"),
        ("mine", "grader", "'ext_empty' has no 'none'"),
        ("short", "quality", r"offered by two packages: ext_.:short \(twice-.\) and"),
    ):
        with pytest.raises(InputError, match=told):
            load_extension(reference, kind, "recipe")


def test_the_notebook_runs_and_its_waits_mend_what_was_cut_short(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("torch")
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text(encoding="utf-8"))
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "no output is kept"
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    said = capsys.readouterr().out
    assert "Final Answer: 7 - right: 4" in said
    assert "[Wait]" in said
    assert "64 to   64:   64 tokens" in said


def test_logs_become_a_report(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    command = [sys.executable, EXAMPLES / "logs_to_report.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    (report,) = tmp_path.rglob("report.html")
    assert "2,048 tokens" in report.read_text(encoding="utf-8")


def test_a_dial_is_turned_from_openais_client() -> None:
    pytest.importorskip("openai")
    pytest.importorskip("starlette")
    from contextlib import AsyncExitStack

    from serving import serving

    from s1kit import load_engine
    from s1kit.serve.local import Local

    async def backend(_: AsyncExitStack) -> Local:
        return Local(load_engine("tiny"), "tiny")

    with serving(backend) as running:
        command = [sys.executable, EXAMPLES / "dial_client.py", running.url + "/v1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "exactly 64      64 thinking tokens" in done.stdout
    assert "[Wait]" in done.stdout


@pytest.mark.slow
def test_a_spreadsheet_becomes_a_report(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "own_questions.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("report.html"))


def test_what_several_teachers_agree_on_is_kept(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "several_teachers.py", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    (shard,) = (tmp_path / "runs" / "several-teachers" / "curate").glob("samples-*.parquet")
    samples = list(read_rows([shard], Sample))
    assert {sample.trace.teacher for sample in samples} == {"tiny", "careless"}
    assert all(s.trace.agreement is not None and s.trace.agreement.num_same == 2 for s in samples)
    receipt = json.loads((shard.parent / "receipt.json").read_text())
    assert receipt["counts"]["dropped:minority_answer"] >= 4
