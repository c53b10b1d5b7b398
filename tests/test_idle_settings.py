"""A setting without effect is refused by name, by `check` and by the stage; what is off keeps its settings."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import pytest

from s1kit.analysis.settings import grid
from s1kit.cli import main
from s1kit.cli.preflight import check_recipe
from s1kit.curate.curate import refuse_idle as refuse_idle_curate
from s1kit.distill.idle_settings import refuse_idle as refuse_idle_distill
from s1kit.engines.references import joined, read_reference, written
from s1kit.errors import InputError
from s1kit.evaluate.comparators import settings_of
from s1kit.grade import load_grader
from s1kit.pool.collect import refuse_idle as refuse_idle_collect
from s1kit.pool.sources import kind_of
from s1kit.recipe import Recipe, load_recipe
from s1kit.serve.options import Options, as_upstream
from s1kit.serve.server import make_backend
from s1kit.train.reference import check_machine


def refuse_idle(recipe: Recipe) -> None:
    """What the stages themselves call, of all sections."""
    refuse_idle_collect(recipe.collect)
    for source in recipe.collect.sources:
        kind_of(source)
    refuse_idle_distill(recipe.distill)
    refuse_idle_curate(recipe.curate)
    grid(recipe.evaluate)
    settings_of(recipe.evaluate.comparators)


def tiny(*overrides: str) -> Recipe:
    return load_recipe("tiny", overrides)


CHAT = "distill.teacher=chat:deepseek/deepseek-reasoner"
HF = "distill.teacher=hf:nowhere"
NO_STUDENTS = 'curate={quality=["s1"]}'


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["distill.temperature=0.5"], "temperature has no effect on the teacher 'tiny'"),
        (["distill.system=Be brief"], "system has"),
        (["distill.prompt=Q: {question}", "distill.extra={seed=1}"], "extra and prompt have"),
        (["distill.max_output_tokens=9"], "max_output_tokens has"),
        (["distill.base_url=http://127.0.0.1:1/v1"], "base_url has"),
        (["distill.teacher=recorded:a.jsonl", "distill.format=s1"], "format has no effect on the teacher 'recorded:"),
        (["distill.teacher=solutions", "distill.num_traces=2"], "num_traces has no effect on solutions"),
        (["distill.mode=batch"], "mode has no effect on a teacher that is no provider's"),
        (['distill.retry=["length"]'], "retry has no effect"),
        (["distill.grader=math:sqrt"], "grader has no effect without until_correct"),
        ([HF, "distill.headers={a='b'}"], "headers has"),
        ([HF, "distill.price={input=1,output=2}"], "price has"),
        (["distill.teacher=completions:http://a/v1#m", "distill.max_cost_usd=5"], "max_cost_usd has no effect on"),
        ([CHAT, "distill.template={thinking=true}"], "template has"),
        (['distill.teachers=["tiny", "hf:nowhere"]', "distill.key_file=k"], "key_file has no effect on any of the"),
        (['distill.teachers=[{teacher="tiny", top_p=0.9}, "hf:nowhere"]'], "top_p has no effect on the teacher 'tiny'"),
        ([NO_STUDENTS, "curate.keep_band=[0.2, 0.8]", "curate.num_attempts=4"], "keep_band and num_attempts have"),
        (["curate.num_attempts=4", "curate.attempt_temperature=0"], "every attempt is the same"),
        (['curate.also=["s1"]'], "s1 is drawn twice"),
        (["collect.duplicates=exact", "collect.near_threshold=0.8"], "near_threshold has no effect"),
        (["collect.decontaminate=s1", "collect.coverage=0.3"], "coverage has no effect on decontaminate = s1"),
        (['collect.semantic={model="a"}'], "semantic has no effect on decontaminate = "),
        (
            ["collect.decontaminate=semantic", 'collect.semantic={model="a",judge="chat:a/b",unjudged_similarity=0.8}'],
            "unjudged_similarity has no effect where a judge",
        ),
        (['collect.sources=[{path="a.csv",conversation=true,template="{q}"}]'], "template has no effect beside conv"),
        (['collect.sources=[{path="a.csv",template="{q}",shuffle_options=true}]'], "without options in the template"),
        (['collect.sources=[{path="a.csv",template="{q}",columns={text="t"}}]'], "is made by template and taken from"),
        (["evaluate={max_tokens=[8],wait='Hm'}"], "wait has no effect where no stop is replaced"),
        (["evaluate={max_tokens=[8],direct_tokens=9}"], "direct_tokens has no effect without a baseline"),
        (["evaluate.probe_every=9999"], "probe_every has no effect beyond the largest budget"),
        (['evaluate.comparators=[{file="a.jsonl",effort=["low"]}]'], "effort has no effect on a comparator with file"),
        (['evaluate.comparators=[{numbers="s1-paper",name="a"}]'], "name has no effect on a comparator with numbers"),
        (['evaluate.comparators=[{model="chat:a/b",effort=[]}]'], "effort is empty, so chat:a/b is not asked"),
    ],
)
def test_a_setting_without_effect_is_refused(overrides: list[str], complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        refuse_idle(tiny(*overrides))
    assert complaint in refused.value.what


@pytest.mark.parametrize(
    "overrides",
    [
        ["distill.concurrency=2", "distill.requests_per_minute=9", "distill.max_cost_usd=1", "distill.price=free"],
        [HF, "distill.format=s1", "distill.temperature=0.5", "distill.thinking_budget=9"],
        [CHAT, "distill.temperature=0.5", "distill.mode=batch", 'distill.retry=["length"]'],
        ['distill.teachers=["recorded:a.jsonl", "hf:nowhere"]', "distill.format=s1", "distill.prompt=Q: {question}"],
        ["distill.teacher=my_module:teach", "distill.temperature=0.5", "distill.format=s1"],
        ["curate.students=[]", "curate.keep_band=[0.2, 0.8]"],
        ["collect.duplicates=none", "collect.near_threshold=0.8", "collect.decontaminate=none", "collect.coverage=0.3"],
        ["evaluate.num_waits=[0]", "evaluate.wait=Hm"],
        ["distill.temperature=none", "distill.max_output_tokens=32768"],
    ],
)
def test_a_setting_that_is_used_or_changes_nothing_or_is_off_is_taken(overrides: list[str]) -> None:
    refuse_idle(tiny(*overrides))


def test_check_tells_all_of_them_with_the_defaults_to_write(tmp_path: Path) -> None:
    recipe = tiny(
        f"out={tmp_path}",
        "collect.decontaminate=s1",
        "collect.coverage=0.3",
        "distill.prompt=Q: {question}",
        "distill.temperature=0.5",
        "curate.num_attempts=4",
        "curate.attempt_temperature=0",
        'curate.students=["tiny-base,format=s1"]',
        "train.layout.attention=varlen",
        "train.layout.context_parallel=2",
        "evaluate.dtype=bfloat61",
        "evaluate.model=tiny,format=s1",
        "evaluate.format=qwen3",
        "evaluate.probe_every=9999",
    )
    told = "\n".join(str(fault) for fault in check_recipe(recipe))
    for complaint in (
        "collect: coverage has no effect",
        "on the command line: 'distill.prompt={question}' distill.temperature=none",
        "curate: num_attempts has no effect",
        "curate: the reference states format 's1', and format 'direct' is asked for",
        "train: context_parallel is 2, which does not divide the 1 processes",
        "evaluate: probe_every has no effect",
        "evaluate: dtype is 'bfloat61'",
    ):
        assert complaint in told


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (["train.layout.attention=flash"], "needs a CUDA device"),
        (["train.layout.fp8=true"], "fp8 needs a card"),
        (["train.lora={quantize=true}"], "exactly one CUDA card"),
    ],
)
def test_training_settings_that_need_a_card_are_refused_without_one(overrides: list[str], complaint: str) -> None:
    train = tiny("train.dtype=bfloat16", *overrides).train
    with pytest.raises(InputError, match=complaint):
        check_machine(train, has_card=False, num_processes=1)
    check_machine(train, has_card=True, num_processes=1)


def test_a_quantised_base_is_multiplied_in_bfloat16_only() -> None:
    with pytest.raises(InputError, match="quantize multiplies in bfloat16"):
        check_machine(tiny("train.lora={quantize=true}").train, has_card=True, num_processes=1)


@pytest.mark.parametrize("wrong", ["max_grad_norm=0", "betas=[0.9, 1.0]", "learning_rate=inf", "betas=[nan, 0.9]"])
def test_numbers_that_no_optimiser_takes_are_refused(wrong: str) -> None:
    with pytest.raises(InputError, match=wrong.partition("=")[0]):
        tiny(f"train.{wrong}")


def test_a_judge_beside_a_grader_is_refused() -> None:
    with pytest.raises(InputError, match="would never be asked"):
        load_grader(judge="chat:openai/gpt-5", own="math:sqrt")


def test_a_reference_and_its_caller_may_not_differ() -> None:
    with pytest.raises(InputError, match="states context_tokens 64, and context_tokens 32 is asked for"):
        joined(read_reference("hf:a,context_tokens=64").options, {"context_tokens": 32}, "hf:a")


@pytest.mark.parametrize(
    ("reference", "complaint"), [("hf:a,dtype=bf16", "dtype"), ("hf:a,dtype=float16,dtype=float32", "twice")]
)
def test_an_option_that_would_be_refused_on_loading_or_stands_twice_is_refused_at_once(
    reference: str, complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint):
        read_reference(reference)


def test_a_reference_with_its_options_reads_as_what_was_loaded() -> None:
    given = {"format": "s1", "template": {"thinking": True, "depth": 2}}
    found = read_reference(written("hf:a,dtype=float32", given))
    assert found.options == {"dtype": "float32", **given}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (Options(model="hf:a", upstream="http://127.0.0.1:9"), "stands beside the upstream"),
        (Options(upstream_kind="vllm"), "--upstream-kind has no effect on tiny"),
        (Options(tokenizer="somewhere"), "--tokenizer has no effect on tiny"),
        (Options(reconnect=True), "--reconnect has no effect"),
    ],
)
def test_options_of_an_upstream_need_one(options: Options, complaint: str) -> None:
    with pytest.raises(InputError) as refused:
        asyncio.run(make_backend(options))
    assert complaint in refused.value.what


@pytest.mark.parametrize(
    ("reference", "options", "complaint"),
    [
        ("completions:http://a/v1#m,kind=vllm", Options(upstream_kind="sglang"), "--upstream-kind is sglang"),
        ("completions:http://a/v1#m", Options(upstream_model="n"), "--upstream-model is 'n'"),
        ("completions:http://a/v1#m,max_batch=4", Options(), "max_batch has no effect"),
    ],
)
def test_a_reference_of_a_server_and_the_options_may_not_differ(
    reference: str, options: Options, complaint: str
) -> None:
    with pytest.raises(InputError) as refused:
        as_upstream(options, read_reference(reference))
    assert complaint in refused.value.what


@pytest.mark.parametrize(
    "arguments",
    [
        ["report", "tiny", "--out", "there"],
        ["report", "tiny", "--regrade"],
        ["report", "--from", "a.jsonl", "--redo", "evaluate"],
        ["export", "HERE", "--to", "rows.jsonl", "--thinking-field", "thinking"],
        ["ask", "1 + 1?", "--wait", "Hm"],
    ],
)
def test_a_flag_without_effect_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path) if a == "HERE" else a for a in arguments]) == 2
    assert "has no effect" in capsys.readouterr().err


def test_a_model_beside_an_upstream_is_refused_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, argparse.ArgumentError)):
        main(["serve", "--model", "tiny", "--upstream", "http://127.0.0.1:9"])
    assert "not allowed with" in capsys.readouterr().err
