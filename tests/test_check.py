"""`s1kit check`: all faults of a recipe at once, before a stage runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from s1kit.cli import main
from s1kit.cli.preflight import check_recipe
from s1kit.cli.references import check_engine
from s1kit.errors import InputError
from s1kit.recipe import load_recipe


def faults(tmp_path: Path, *overrides: str) -> list[str]:
    return [str(fault) for fault in check_recipe(load_recipe("tiny", [f"out={tmp_path}", *overrides]))]


def test_recorded_traces_are_looked_at_and_their_terms_too(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"

    def found(row: dict[str, str], *overrides: str) -> str:
        path.write_text(json.dumps(row) + "\n")
        recipe = load_recipe("tiny", [f"out={tmp_path / 'runs'}", f"distill.teacher=recorded:{path}", *overrides])
        return "\n".join(str(fault) for fault in check_recipe(recipe, ["distill"]))

    row = {"question": "What is 1 + 1?", "thinking": "One and one make two.", "answer": "2"}
    assert "the row holds no reply" in found({"question": "What is 1 + 1?"})
    assert "whose terms are not known" in found(row)
    assert not found(row, "train.acknowledge_terms=written by hand")
    assert not found(row, 'stages=["collect", "distill"]')


def test_a_source_of_which_every_row_is_rejected_is_told_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"question": "<image> Who?", "answer": "x"}\n' * 2)
    (fault,) = faults(tmp_path, f"collect.sources=[{{path = '{path}'}}]", "collect.allow_rejects=true")
    assert "none of its rows is a question (2 were looked at); the first: the question needs a picture" in fault


def test_the_default_recipe_passes(tmp_path: Path) -> None:
    assert faults(tmp_path) == []


def test_a_finished_stage_with_other_settings_is_told_as_the_stage_would_refuse_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = "collect.sources=[{builtin = 'tiny', num = 40}]"
    for stage in ("collect", "distill", "curate"):
        assert main([stage, "tiny", f"out={tmp_path}", size]) == 0
    assert faults(tmp_path, size) == []
    assert faults(tmp_path, size, "distill.max_unusable=0.9", "collect.allow_rejects=true") == []
    wrong = ["collect.near_threshold=0.5", "distill.temperature=0.3", "curate.num=7"]
    found = faults(tmp_path, size, *wrong)
    assert [fault.partition(":")[0] for fault in found] == ["collect", "distill", "curate"]
    assert "config.near_threshold was 0.9 and is now 0.5" in found[0]
    assert all("--redo" in fault for fault in found)
    for stage, setting in zip(("collect", "distill", "curate"), wrong, strict=True):
        assert main([stage, "tiny", f"out={tmp_path}", size, setting]) == 2
        assert "was started with other settings" in capsys.readouterr().err
    again = check_recipe(load_recipe("tiny", [f"out={tmp_path}", size, wrong[2]]), redone=["curate"])
    assert not again


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ('collect.sources=[{path = "nowhere.csv"}]', "collect: there is no file 'nowhere.csv'"),
        ('collect.sources=[{builtin = "tony"}]', "collect: no built-in source is called 'tony'"),
        ('collect.against=["math5000"]', "Did you mean math500"),
        ("distill.teacher=chat:deepseak/x", "distill: no provider is called 'deepseak'"),
        ("distill.teacher=chat:deepseek/deepseek-reasoner", "distill: there is no key for deepseek"),
        ("distill.teacher=recorded:nowhere.jsonl", "distill: there is no file of recorded traces"),
        ("distill.teacher=hf:/nowhere", "distill: '/nowhere' is no model folder"),
        ("distill.prompt=ask", "distill: the prompt does not contain"),
        ('curate.quality=["complet"]', "curate: there is no quality rule 'complet'"),
        ("curate.selection=rand", "curate: there is no selection 'rand'"),
        ('curate.also=["longst"]', "curate: there is no selection 'longst'"),
        ('curate.students=["tiny-bas"]', "curate: no engine knows the model 'tiny-bas'"),
        ("curate.domains=of", "curate: domains is 'of'"),
        ("curate.keep_band=[0.9, 0.1]", "curate: keep_band"),
        ("train.format=s2", "train: unknown thinking format 's2'"),
        ("train.format=gpt-oss", "train: "),
        ("train.base=hf:/nowhere", "train: 'hf:/nowhere' is not a model folder"),
        ("train.tokenizer=nowhere.json", "train: there is no nowhere.json"),
        ("train.layout.attention=flash", "pip install 's1kit[flash]'"),
        ('evaluate.benchmarks=["math5000"]', "evaluate: there is no benchmark 'math5000'"),
        ("evaluate.answer_tokens=5000", "evaluate: answer_tokens is 5,000, and after a prompt of"),
        ("evaluate.max_tokens=[2000]", "the model's context of 1,024 has room for 9"),
        ("evaluate.model=tiny,context_tokens=60", "needed of a context of 60 (evaluate.model)"),
        ("evaluate.baseline=tiny-base,context_tokens=20", "needed of a context of 20 (evaluate.baseline)"),
        ("evaluate.direct_tokens=2000", "evaluate: direct_tokens is 2,000, and after a prompt of"),
        ('curate.students=["tiny-base,context_tokens=30"]', "needed of a context of 30 (curate.students = tiny-base"),
        ("curate.attempt_tokens=2000", "curate: attempt_tokens is 2,000, and after a prompt of"),
        ("curate.domains=tiny-base,context_tokens=99", "of a context of 99 (curate.domains = tiny-base"),
        ("distill.teacher=tiny-base,context_tokens=30", "of a context of 30 (distill.teacher)"),
        ("evaluate.model=tiny,device=cuda:0", "evaluate: there is no GPU"),
        ('evaluate.comparators=[{numbers="s1-paper"}]', "evaluate: the file has no number for tiny"),
        ("evaluate.baseline=tiny-bsae", "evaluate: no engine knows the model 'tiny-bsae'"),
        ('stages=["train", "collect"]', "recipe: the stages are in the order train, collect"),
        ('stages=["collect", "evaluate"]', "evaluate: there is no model to evaluate"),
    ],
)
def test_a_fault_of_any_stage_is_found_before_the_first(
    tmp_path: Path, override: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    stage = override.partition(".")[0]
    recipe = load_recipe("tiny", [f"out={tmp_path}", override])
    # The stage alone, where the setting has one: loading the tokenizer for each would take long.
    found = [str(fault) for fault in check_recipe(recipe, [stage] if stage in recipe.stages else None)]
    assert any(complaint in fault for fault in found), found
    assert not any(tmp_path.iterdir())


def test_a_teacher_whose_terms_forbid_training_is_refused_before_it_is_paid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "k" * 20)
    teacher = "distill.teacher=chat:gemini/gemini-2.5-pro"
    (fault,) = faults(tmp_path, teacher)
    assert "forbids training" in fault
    assert "kkkk" not in fault
    assert faults(tmp_path, teacher, "train.acknowledge_terms=research, agreed in writing") == []


def test_all_faults_are_told_at_once_and_nothing_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = [f"out={tmp_path}", 'evaluate.benchmarks=["math5000"]', "curate.selection=rand", "train.format=s2"]
    assert main(["check", "tiny", *wrong]) == 2
    assert [word in capsys.readouterr().out for word in ("math5000",)] == [True]
    assert main(["run", "tiny", *wrong]) == 2
    printed = capsys.readouterr().err
    assert all(word in printed for word in ("math5000", "'rand'", "'s2'", "3 things"))
    assert not any(tmp_path.iterdir())


def test_a_finished_stage_is_not_checked_again(tmp_path: Path) -> None:
    (tmp_path / "tiny" / "distill").mkdir(parents=True)
    (tmp_path / "tiny" / "distill" / "receipt.json").write_text("{}")
    assert faults(tmp_path, "distill.teacher=chat:deepseek/deepseek-reasoner") == []


def test_a_check_of_the_default_recipe_imports_no_torch() -> None:
    """Importing it takes seconds, and a check should be asked for often."""
    code = (
        "import sys; from s1kit.cli import main; status = main(['check', 'tiny']); "
        "print(status, [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines()[-1] == "0 []"


def test_a_farms_servers_are_read_from_the_reference_or_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "servers.txt").write_text("# ours\nhttp://a:8000/v1\nhttp://b:8000/v1\n")
    check_engine(f"completions:@{tmp_path}/servers.txt#m", "evaluate.model")
    check_engine("completions:http://a:8000/v1|http://b:8000/v1#m", "evaluate.model")
    for wrong, said in (
        (f"completions:@{tmp_path}/none.txt#m", "the list of servers cannot be read"),
        ("completions:http://a:8000/v1|b:8000#m", "'b:8000' is no URL"),
        ("completions:http://a/v1|http://a/v1#m", "named twice"),
    ):
        with pytest.raises(InputError, match=said):
            check_engine(wrong, "evaluate.model")


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(tmp_path: Path) -> None:
    from s1kit.train.reference import base_folder

    folder = tmp_path / "base"
    shutil.copytree(base_folder("tiny-base")[1], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 3}))
    recipe = load_recipe("tiny", [f"out={tmp_path}", f"train.base={folder}"])
    (fault,) = check_recipe(recipe, ["train"])
    assert "tokens and the model 3" in str(fault)


def test_a_file_that_is_trained_on_is_no_benchmark(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"question": "1 + 1?", "answer": "2"}\n', encoding="utf-8")
    sources = f'collect.sources=[{{ path = "{tmp_path}/*.jsonl" }}]'
    recipe = load_recipe("tiny", [f"out={tmp_path}/runs", sources, f'evaluate.benchmarks=["{path}"]'])
    (fault,) = check_recipe(recipe, ["evaluate"])
    assert "both a source of the training questions and a benchmark" in str(fault)


@pytest.mark.parametrize(
    ("teacher", "solution", "complaint"),
    [
        ("tiny", "Two and two are four.", "the built-in teacher knows the built-in questions only, not 'What is 2"),
        ("solutions", "", "the first 3 questions have no worked solutions"),
        ("solutions", "Two and two more are four, so 4.", ""),
    ],
)
def test_a_teacher_without_a_model_is_tried_on_the_first_questions(
    tmp_path: Path, teacher: str, solution: str, complaint: str
) -> None:
    rows = [{"question": f"What is 2 + {n}?", "solution": solution or None, "answer": str(2 + n)} for n in range(3)]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    sources = f'collect.sources=[{{ path = "{path}" }}]'
    recipe = load_recipe("tiny", [f"out={tmp_path}/runs", sources, f"distill.teacher={teacher}"])
    found = check_recipe(recipe, ["distill"])
    assert [complaint in str(fault) for fault in found] == ([True] if complaint else [])


@pytest.mark.parametrize(
    ("overrides", "complaints"),
    [
        (
            ["collect.duplicates=extact", 'collect.against=["math5000"]', "train.foo=1", "curate.selection=rand"],
            ['collect.duplicates is "extact"', "no evaluation set 'math5000'", "'train.foo'", "no selection 'rand'"],
        ),
        (['collect.sources=[{pth = "x"}]', "train.base=hf:/nowhere"], ["Did you mean path", "is not a model folder"]),
        (
            ['stages=["colect", "curate"]', 'collect.against=["math5000"]', "curate.selection=rand"],
            ['stages.0 is "colect"', "no evaluation set 'math5000'", "no selection 'rand'"],
        ),
        (
            ['collect.sources=[{pth = "x"}, {path = "nowhere.csv"}, {hub = 3, foo = 1}]', "seed=x"],
            ["'collect.sources.0.pth'", "no file 'nowhere.csv'", "sources.2.hub is 3", "sources.2.foo'", 'seed is "x"'],
        ),
        (["collect.semantic={}"], ["collect.semantic.model is missing"]),
        (['collect.sources="x.csv"'], ['collect.sources is "x.csv"']),
        (['collect.sources=[{builtin = "tiny", num = -1}]'], ["sources.0.num is -1"]),
        (['collect.sources=[{builtin = "tiny", path = "x.csv"}]'], ["a source names builtin and path"]),
        (["collect=3"], ["Write [collect] and its keys below"]),
        (["curate.num=true"], ["curate.num is true: input should be a number"]),
        (['stages=["collect", "collect"]'], ["stages names collect twice"]),
        (["stages=[]"], ["stages is empty"]),
        (['evaluate.benchmarks=["tiny", "tiny"]'], ["tiny stands twice"]),
        (
            ['variants={a = ["train.foo=1"], b = ["curate.selection=rand"]}'],
            ["unknown key 'train.foo'", "no selection 'rand'"],
        ),
        (["name=3", "curate.selection=rand"], ["name is 3", "no selection 'rand'"]),
        (["name="], ["names no folder of its own"]),
        (["name=../mine"], ["names no folder of its own"]),
        (['collect.sources=[{hub = "two words"}]'], ["is no name of a data set"]),
    ],
)
def test_settings_of_a_wrong_kind_do_not_hide_what_else_is_wrong(
    overrides: list[str], complaints: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "tiny", f"out={tmp_path}", *overrides]) == 2
    printed = capsys.readouterr().out
    for complaint in complaints:
        assert complaint in printed
    assert len([line for line in printed.splitlines() if line.strip()[:1].isdigit()]) == len(complaints)


def test_a_run_tells_all_faults_at_once_settings_of_a_wrong_kind_included(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = ['stages=["colect", "curate"]', "collect.against=[5]", "train.foo=1", "curate.selection=rand"]
    assert main(["run", "tiny", f"out={tmp_path}", *wrong]) == 2
    told = capsys.readouterr().err
    assert all(part in told for part in ("Did you mean collect", "against.0 is 5", "'train.foo'", "'rand'", "4 things"))
    assert not any(tmp_path.iterdir())


def test_what_a_recipe_lacks_is_said_beside_what_else_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('stages = ["curate"]\n[curate]\nselection = "rand"\nnumber = 5\n', encoding="utf-8")
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().out
    assert all(part in told for part in ("name is missing", "'curate.number'", "no selection 'rand'", "3 things"))


def test_a_recipe_may_begin_with_a_byte_order_mark_and_its_sources_are_not_what_they_are_cleared_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.csv").write_text("question,answer,level\n1+1?,2,Level 3\n", encoding="utf-8")
    source = f'[{{ path = "{tmp_path}/mine.csv" }}]'
    given = f'name = "a"\nstages = ["collect"]\nout = "{tmp_path}/mine.csv"\n[collect]\nsources = {source}\n'
    path = tmp_path / "mine.toml"
    path.write_text(f'\ufeff{given}against = ["{tmp_path}/mine.csv"]\n', encoding="utf-8")
    assert main(["check", str(path)]) == 2
    told = capsys.readouterr().out
    assert "would be dropped (collect.against)" in told
    assert "mine.csv' is a file (out)" in told
    path.write_text(given.replace('.csv" }', '.csv", keep = { level = "<=3" } }'), encoding="utf-8")
    assert main(["check", str(path)]) == 2
    assert "'Level 3' in 'level' is no number" in capsys.readouterr().out
