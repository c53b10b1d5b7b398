"""`s1kit estimate`: every stage, nothing asked, the machine at hand unless the recipe names cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from s1kit.adaptive.rule import ExitRule
from s1kit.cli import main


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["estimate", *arguments]) == 0
    return capsys.readouterr().out


def test_every_stage_of_the_papers_recipe_has_a_figure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = told(capsys, "s1k", f"out={tmp_path}")
    assert [line for line in text.splitlines() if not line.startswith(" ")] == [
        "collect",
        "distill",
        "curate",
        "train",
        "evaluate",
    ]
    assert "59,029 requests, $" in text
    assert "Qwen2.5-7B-Instruct: " in text
    assert "H100 hours, $" in text.partition("evaluate")[2]
    assert not any(tmp_path.iterdir())


def test_every_variant_of_a_study_is_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert told(capsys, "study", f"out={tmp_path}").count("train (study-") == 4


def test_without_cards_in_recipe_and_machine_the_cores_are_reckoned_with(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    text = told(capsys, "tiny", f"out={tmp_path}", "train.base=hf:Qwen/Qwen2.5-1.5B-Instruct")
    assert "cores (no GPU): about" in text
    assert "H100" not in text.replace("cluster.card=H100", "")


def test_a_recipe_with_a_file_counts_its_rows(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question\n" + "".join(f"What is {i}?\n" for i in range(7)))
    source = f'collect.sources=[{{path = "{tmp_path / "q.csv"}"}}]'
    assert "7 requests, $" in told(
        capsys, "tiny", source, f"out={tmp_path}", "distill.teacher=chat:deepseek/deepseek-reasoner"
    )


def test_samples_are_as_long_as_the_solutions_that_are_their_traces(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = "".join(f"{i:038d}?;{'x' * 100}\n" for i in range(10))  # 139 characters, some 51 tokens
    (tmp_path / "q.csv").write_text(f"question;solution\n{rows}")
    source = f'collect.sources=[{{path = "{tmp_path / "q.csv"}"}}]'
    options = (source, f"out={tmp_path}", "distill.teacher=solutions", "curate.students=[]", "train.epochs=1000")
    assert "10 samples, 0.51M tokens in 1000 epochs (as long as their solutions)" in told(capsys, "tiny", *options)


def test_num_of_a_built_in_pool_is_counted_for_each_of_its_data_sets(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = 'collect.sources=[{builtin = "math", only = ["GSM8K", "AIME"], num = 30}]'
    assert "60 requests, $" in told(
        capsys, "tiny", source, f"out={tmp_path}", "distill.teacher=chat:deepseek/deepseek-reasoner"
    )


def test_a_benchmark_that_is_a_file_is_counted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Twelve questions were estimated as five hundred."""
    asked = tmp_path / "held_out.csv"
    asked.write_text("question;answer\n" + "".join(f"What is {i} + 1?;{i + 1}\n" for i in range(12)), encoding="utf-8")
    text = told(capsys, "tiny", f"out={tmp_path / 'runs'}", f'evaluate.benchmarks=["{asked}"]')
    assert "12 questions x " in text.partition("evaluate")[2]


def test_the_size_of_a_gguf_file_is_read_from_its_header(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf")
    from s1kit.engines.gguf.exporting import export_gguf
    from s1kit.train.reference import base_folder

    monkeypatch.setenv("S1KIT_CACHE", str(tmp_path / "cache"))
    export_gguf(Path(base_folder("tiny-base")[1]), tmp_path / "m.gguf")
    for scheme in ("llama.cpp", "hf"):
        text = told(capsys, "tiny", f"out={tmp_path}", f"evaluate.model={scheme}:{tmp_path}/m.gguf")
        assert "minutes on this machine" in text.partition("evaluate\n")[2]
    assert not (tmp_path / "cache").exists()
    text = told(capsys, "tiny", f"out={tmp_path}", f"evaluate.model=llama.cpp:{tmp_path}/none.gguf")
    assert "its size is not known: " in text
    assert "none.gguf" in text


def test_exit_rules_are_counted_with_all_their_probes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    given = [f"out={tmp_path}", "evaluate.num_questions=10", "evaluate.max_tokens=[32]", "evaluate.num_waits=[0]"]
    given += ["evaluate.answer_tokens=10", "evaluate.votes=[]", "evaluate.baseline=", "evaluate.probe_every=none"]
    plain = told(capsys, "tiny", *given)
    assert "10 questions x 1 draws under 1 settings, at most 0.0M tokens" in plain
    rule = tmp_path / "rule.json"
    ExitRule(every=1000, agree=3, max_tokens=10_000).save(rule)
    # Of each question 150 + 10,000 of thinking, 10 of the answer, and 9 earlier probes of 10 with 3 samples each.
    assert "x 2 draws under 2 settings, at most 0.1M tokens" in told(
        capsys, "tiny", *given, f'evaluate.auto=["{rule}"]'
    )
    later = told(capsys, "tiny", *given, 'evaluate.auto=["model"]')
    assert "the exit rule of the checkpoint is not counted" in later
    checkpoint = tmp_path / "tiny" / "train" / "checkpoint"
    checkpoint.mkdir(parents=True)
    ExitRule(every=1000, stable=2, max_tokens=90_000).save(checkpoint / "auto_budget.json")
    assert "at most 0.9M tokens" in told(capsys, "tiny", *given, 'evaluate.auto=["model"]')


def test_an_estimate_counts_as_the_stages_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question,answer\n" + "".join(f"What is {i}?,{i}\n" for i in range(7)))
    given = [f'collect.sources=[{{path = "{tmp_path / "q.csv"}"}}]', f"out={tmp_path}", "train.batch_size=4"]
    local = told(capsys, "tiny", *given, "distill.teacher=hf:nowhere", "distill.max_output_tokens=100")
    assert "7 requests of at most 100 tokens each" in local
    assert "  7 samples, 0.0" in local
    # At most a quarter of an epoch of seven samples: one step of four.
    short = told(capsys, "tiny", *given, "train.max_steps=1", "curate.selection=full", "distill.num_traces=2")
    assert "14 samples, 0.00M tokens in 1 step (" in short
    chat = "chat:deepseek/deepseek-reasoner"
    asked = f'evaluate.comparators=[{{model = "{chat}", effort = ["low", "high"], max_cost_usd = 2}}]'
    paid = told(capsys, "tiny", *given, f"distill.teacher={chat}", "distill.max_output_tokens=100", asked)
    assert "if a reply has 100 tokens, which is max_output_tokens" in paid
    assert f"{chat}: 720 requests, at most $2.00" in paid
    assert "6,000 questions" in told(capsys, "tiny", 'collect.sources=[{builtin = "tiny"}]', f"out={tmp_path}")


def test_a_processor_s_bfloat16_instructions_are_reckoned_with_where_that_is_the_type(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from s1kit.train import flops

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = (
        f"out={tmp_path}",
        "distill.teacher=hf:Qwen/Qwen2.5-1.5B-Instruct,dtype=bfloat16",
        "train.base=hf:Qwen/Qwen2.5-1.5B-Instruct",
    )
    hours = []
    for flags in ("flags: avx2", "flags: avx2 amx_bf16"):
        monkeypatch.setattr(flops, "cpu_flags", lambda flags=flags: flags)
        text = told(capsys, "tiny", *settings)
        line = next(line for line in text.splitlines() if "dtype=bfloat16: " in line and "roughly" in line)
        hours.append(float(line.partition("bfloat16: ")[2].partition(" hours")[0].replace(",", "")))
    assert hours[0] / hours[1] == pytest.approx(flops.AMX_GFLOPS / flops.CPU_GFLOPS, rel=0.05)
