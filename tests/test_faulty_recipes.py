"""Recipes and command lines with a mistake in them: the complaint names it, and its repair works when followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1kit.cli import main

RECIPE = """name = "r"
stages = ["collect", "distill", "curate", "train"]
out = "OUT/runs"
[collect]
sources = [{ path = "OUT/q.csv" }]
decontaminate = "none"
[distill]
teacher = "solutions"
[curate]
num = 5
[train]
base = "tiny-base"
"""
ROWS = [
    f"What is {n} + {n + 3}?,The sum of {n} and {n + 3} is found by adding both and is {2 * n + 3},{2 * n + 3}"
    for n in range(6)
]


def check(folder: Path, capsys: pytest.CaptureFixture[str], recipe: str, *arguments: str) -> tuple[int, str]:
    (folder / "q.csv").write_text("\n".join(["question,solution,answer", *ROWS]), encoding="utf-8")
    (folder / "r.toml").write_text(recipe.replace("OUT", str(folder)), encoding="utf-8")
    status = main(["check", str(folder / "r.toml"), *arguments])
    told = capsys.readouterr()
    assert not (folder / "runs").exists()
    return status, told.out + told.err


MISTAKES: dict[str, tuple[tuple[str, str], str, tuple[str, str]]] = {
    "a key of another section": (
        ("[train]\n", '[train]\nteacher = "tiny"\n'), "It is a key of distill",
        ('[train]\nteacher = "tiny"', "[train]")),
    "a source as text": (
        ('sources = [{ path = "OUT/q.csv" }]', 'sources = ["OUT/q.csv"]'), "Write { path = ",
        ('["OUT/q.csv"]', '[{ path = "OUT/q.csv" }]')),
    "one source, no list": (
        ('[{ path = "OUT/q.csv" }]', '{ path = "OUT/q.csv" }'), "as a list of one: sources = [...]",
        ('{ path = "OUT/q.csv" }', '[{ path = "OUT/q.csv" }]')),
    "typographic quotation marks": (
        ('"solutions"', "\u201csolutions\u201d"), "Typographic quotation marks",
        ("\u201csolutions\u201d", '"solutions"')),
    "a template without a column": (
        ('q.csv" }', 'q.csv", template = "Solve it." }'), "names no column", ("Solve it.", "Solve it: {question}")),
    "a filter that nothing passes": (
        ('q.csv" }', 'q.csv", keep = { answer = "no" } }'), "no row passes keep (answer = 'no')",
        ('answer = "no"', 'answer = "3"')),
    "a variable with a typo": (
        ("[collect]", '[variables]\nfolder = "OUT"\n[collect]\nhub_folder = "{fodler}"'), "Did you mean {folder}",
        ("{fodler}", "{folder}")),
    "a base with a typo": (('"tiny-base"', '"tiny-bsae"'), "Did you mean tiny-base", ("tiny-bsae", "tiny-base")),
    "a finish reason with a typo": (
        ('"solutions"', '"solutions"\nretry = ["malfromed"]'), "Did you mean malformed", ('retry = ["malfromed"]', "")),
    "a journal that is a folder": (
        ('"solutions"', '"solutions"\njournal = "OUT"'), "is a folder (distill.journal)",
        ('journal = "OUT"', 'journal = "OUT/j.sqlite"')),
    "a budget that leaves no answer": (
        ('"solutions"', '"tiny-base"\nthinking_budget = 500\nmax_output_tokens = 500'), "which hold the answer, too",
        ("max_output_tokens = 500", "max_output_tokens = 900")),
    "a field of the request's own": (
        ('"solutions"', '"solutions"\nextra = { stream = true }'), "extra sets 'stream'",
        ("extra = { stream = true }", "")),
    "a wait that says nothing": (
        ('"tiny-base"\n', '"tiny-base"\n[evaluate]\nwait = ""\n'), "evaluate.wait", ('wait = ""', 'wait = "Hm"')),
    "a name too long for a folder": (('name = "r"', f'name = "{"x" * 300}"'), "too long for a folder",
                                      ("x" * 300, "x")),
}  # fmt: skip


@pytest.mark.parametrize("what", MISTAKES)
def test_a_mistake_is_refused_with_a_repair_that_works(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mistake, complaint, repair = MISTAKES[what]
    wrong = RECIPE.replace(*mistake)
    status, told = check(tmp_path, capsys, wrong)
    assert status == 2
    assert complaint in told
    status, told = check(tmp_path, capsys, wrong.replace(*repair))
    assert status == 0, told


def test_a_fault_of_a_variant_names_the_variant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    variants = '\n[variants]\nsmall = ["curate.num=3"]\nodd = ["curate.nun=3"]\n'
    status, told = check(tmp_path, capsys, RECIPE + variants)
    assert status == 2
    assert "recipe, variant odd: unknown key 'curate.nun'" in told


def test_worked_solutions_without_short_answers_are_told_from_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bare.csv"
    path.write_text("\n".join(["question,solution", *(row.rpartition(",")[0] for row in ROWS)]), encoding="utf-8")
    status, told = check(tmp_path, capsys, RECIPE.replace("q.csv", "bare.csv"))
    assert status == 2
    assert "worked solutions of which no short answer is known" in told


@pytest.mark.parametrize(
    ("teacher", "advice"),
    [
        ("'chat:compatible/m' distill.base_url=http://127.0.0.1:9/v1/chat/completions", "Write http://127.0.0.1:9/v1."),
        ("gpt-5", "A teacher is chat:<provider>/<model>"),
        ("https://api.example.com/v1", "write completions:https://api.example.com/v1#<model>"),
        ("model.gguf", "write llama.cpp:model.gguf"),
        ("Qwen/Qwen3-0.6B", "write hf:Qwen/Qwen3-0.6B"),
    ],
)
def test_a_teacher_without_a_scheme_is_told_which(
    teacher: str, advice: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, told = check(tmp_path, capsys, RECIPE, *f"distill.teacher={teacher}".split())
    assert status == 2
    assert advice in told


@pytest.mark.parametrize("key", ['"sk-or-secretsecret"', "Bearer sk-or-secretsecret", "<sk-or-secretsecret>"])
def test_a_key_with_more_than_the_key_is_refused_and_not_shown(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", key)
    teacher = 'distill={teacher="chat:openrouter/openai/gpt-oss-120b", max_cost_usd=1}'
    status, told = check(tmp_path, capsys, RECIPE, teacher, "--offline")
    assert status == 2
    assert "(OPENROUTER_API_KEY)" in told
    assert "secret" not in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "."], "'.' is a folder"),
        (["ask", "1+1?", "--model", "model.gguf"], "write llama.cpp:model.gguf"),
    ],
)
def test_a_reference_of_another_kind_is_told_from_none(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_a_flag_is_never_completed_because_it_may_buy_something(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["estimate", "tiny", "--prob"])
    assert ended.value.code == 2
    assert "--prob" in capsys.readouterr().err


def test_the_bare_command_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert "every stage of a recipe" in " ".join(capsys.readouterr().err.split())
