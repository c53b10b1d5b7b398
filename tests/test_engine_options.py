"""One set of engine options in references, recipes and on the command line, and every stage with every engine."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from s1kit.cli import main
from s1kit.curate.difficulty import open_student
from s1kit.distill.open_teacher import open_teachers
from s1kit.engines import load_engine
from s1kit.engines.interface import close_engine
from s1kit.engines.references import joined, read_reference
from s1kit.environment import environment
from s1kit.errors import InputError
from s1kit.evaluate.evaluate import evaluate
from s1kit.forcing import ThinkingBudget
from s1kit.forcing.plan import make_plan
from s1kit.forcing.request import Request
from s1kit.forcing.tokenizer import FileTokenizer
from s1kit.recipe import Curate, Recipe
from s1kit.records import Generation, Question
from s1kit.serve.decoding import Job
from s1kit.serve.options import Options
from s1kit.serve.server import make_backend
from s1kit.stage import open_run
from tests.fixtures_models import write_random_checkpoint
from tests.servers.completions_server import CompletionsServer

ENGINES = ("hf", "scripted", "completions", "vllm", "llama.cpp")
_PACKAGES = {"vllm": "vllm", "llama.cpp": "llama_cpp"}


def test_options_follow_the_model_and_a_comma_of_its_name_stays() -> None:
    read = read_reference("vllm:./a,b,dtype=bfloat16,tensor_parallel_size=4,gpu_memory_utilization=0.9,foo=true")
    assert (read.scheme, read.target) == ("vllm", "./a,b")
    assert read.options == {
        "dtype": "bfloat16",
        "tensor_parallel_size": 4,
        "gpu_memory_utilization": 0.9,
        "foo": True,
    }
    address = read_reference("completions:http://h:1/v1#m,tokenizer=./t,timeout=3,max_batch=2")
    assert address.target == "http://h:1/v1#m"
    assert address.options == {"tokenizer": "./t", "timeout": 3.0, "max_batch": 2}


def test_a_tilde_is_the_home_folder_in_a_reference(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_reference("hf:~/mine,dtype=float32").target == f"{tmp_path}/mine"


@pytest.mark.parametrize(
    ("reference", "complaint"),
    [
        ("hf:x,dtpye=bfloat16", r"no option 'dtpye'.*hf:x,dtpye=bfloat16.*Did you mean dtype\?"),
        ("tiny,max_batch=many", r"max_batch is 'many'.*Give a whole number above 0"),
        ("llama.cpp:x.gguf,num_threads=0", r"num_threads is '0'"),
        ("vllm:x,gpu_memory_utilization=most", r"Give a number above 0"),
        ("vllm:x,enforce_eager=1", r"Give true or false"),
        ("scripted:,device=cpu", r"no option 'device'"),
        ("tiny,dtype=float31", r"dtype is 'float31'.*Did you mean float32"),
    ],
)
def test_what_an_engine_does_not_have_is_refused_with_the_nearest(reference: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        load_engine(reference)


def test_a_reference_states_more_than_its_stage_and_a_format_must_agree() -> None:
    assert joined({"max_batch": 2}, {"max_batch": 256, "format": "direct"}, "m") == {"max_batch": 2, "format": "direct"}
    with pytest.raises(InputError, match="states format 'qwen3', and format 'direct' is asked for"):
        joined({"format": "qwen3"}, {"format": "direct"}, "m")
    assert joined({"template": {"a": 1}}, {"template": {"a": 2, "b": 3}}, "m") == {"template": {"a": 1, "b": 3}}


def test_options_of_a_reference_reach_the_engine() -> None:
    engine: Any = load_engine("tiny,max_batch=3,dtype=bfloat16,context_tokens=200")
    assert (engine.max_batch, str(engine.model.dtype), engine.context_tokens) == (3, "torch.bfloat16", 200)


def test_a_switch_of_the_template_decides_the_format(think_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in think_checkpoint.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] += "{% if not reason %}{{ '<think></think>' }}{% endif %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    with pytest.raises(InputError, match="with or without its thinking switches"):
        load_engine(f"hf:{folder}")
    engine: Any = load_engine(f"hf:{folder},template.reason=true")
    assert engine.tokens.decode(engine.plan(Request("1+1?")).prompt_ids).endswith("assistant\n<think>")
    assert load_engine(f"hf:{folder}", template={"reason": True}).format == engine.format  # type: ignore[attr-defined]
    assert main(["ask", "1+1?", "--model", f"hf:{folder}", "--template", "reason=true", "--max-thinking", "3"]) == 0


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "script.json"
    path.write_text(json.dumps({"1+1?": [["one and one .", "2"]]}), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def references(script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A model for each engine that is installed."""
    folder = write_random_checkpoint(tmp_path_factory.mktemp("model"), head_width=32)  # narrower ones vLLM refuses
    found = {"hf": f"hf:{folder}", "scripted": f"scripted:{script}"}
    if find_spec("vllm"):
        found["vllm"] = f"vllm:{folder},enforce_eager=true,dtype=float32"
    if find_spec("llama_cpp"):
        gguf = tmp_path_factory.mktemp("gguf") / "model.gguf"
        assert main(["export", str(folder), "--to", str(gguf)]) == 0
        found["llama.cpp"] = f"llama.cpp:{gguf}"
    tokenizer = FileTokenizer(folder)
    eos, letter = tokenizer.eos_token_id, tokenizer.encode("a")[0]
    assert eos is not None
    with CompletionsServer(tokenizer, lambda ids: eos if ids[-1] == letter else letter, eos) as server:
        found["completions"] = f"completions:{server.url}#fake,tokenizer={folder},context_tokens=512"
        yield found


def marked(engine: str) -> Any:
    return pytest.param(engine, marks=[pytest.mark.engines] if engine in _PACKAGES else [])


def attempts(reference: str, tmp_path: Path) -> str:
    engine = open_student(reference, Curate(attempt_batch=2), tmp_path / "j.sqlite")
    asked = [Request("1+1?", budget=ThinkingBudget(0), answer_tokens=6, repeat=i) for i in range(3)]
    try:
        return "".join(g.answer for g in engine.generate(asked))
    finally:
        close_engine(engine)


def teacher(reference: str, tmp_path: Path) -> str:
    settings = {"teacher": reference, "max_output_tokens": 64, "thinking_budget": 8}
    asked = open_teachers(Recipe.model_validate({"name": "t", "out": str(tmp_path), "distill": settings}))

    async def ask() -> str:
        async with asked:
            trace = await asked.teachers[0].teacher.ask(Question(text="1+1?"), 0)
            return trace.answer

    try:
        return asyncio.run(ask())
    finally:
        asked.close()


def evaluation(reference: str, tmp_path: Path) -> str:
    pytest.importorskip("math_verify", reason="grading needs math-verify")
    (tmp_path / "q.jsonl").write_text('{"question": "1+1?", "answer": "2"}\n')
    settings = {
        "model": reference,
        "baseline": reference,
        "benchmarks": [str(tmp_path / "q.jsonl")],
        "max_tokens": [8],
        "answer_tokens": 8,
        "batch_size": 2,
    }
    recipe = Recipe.model_validate({"name": "e", "out": str(tmp_path), "evaluate": settings})
    stage = evaluate(recipe, open_run(recipe.folder, recipe.name, recipe.model_dump(mode="json")))
    assert stage.counts["out"] == 2
    return "".join(g.answer for g in stage.rows("generations", Generation))


def asking(reference: str, tmp_path: Path) -> str:
    """In a process of its own: its standard output is what a program would read."""
    command = [sys.executable, "-m", "s1kit", "ask", "1+1?", "--json", "--quiet", "--model", reference]
    command += ["--max-thinking", "8", "--answer-tokens", "8"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return str(json.loads(done.stdout)["answer"])


def serving(reference: str, tmp_path: Path) -> str:
    async def ask() -> str:
        backend = await make_backend(Options(model=reference))
        try:
            plan = make_plan(Request("1+1?", budget=ThinkingBudget(4), answer_tokens=8), backend.tokens, 512)
            pieces = [piece async for piece in backend.decode(Job(plan, None, {}, None, True))]
            return "".join(delta.text for group in pieces if isinstance(group, list) for delta in group)
        finally:
            await backend.close()

    return asyncio.run(ask())


@pytest.mark.parametrize("stage", [attempts, teacher, evaluation, asking, serving], ids=lambda f: f.__name__)
@pytest.mark.parametrize("engine", [marked(engine) for engine in ENGINES])
def test_every_stage_runs_with_every_engine(
    engine: str, stage: Callable[[str, Path], str], references: dict[str, str], tmp_path: Path
) -> None:
    if engine not in references:
        pytest.skip(f"{_PACKAGES[engine]} is not installed here")
    assert stage(references[engine], tmp_path)


def test_what_a_library_prints_does_not_stand_among_the_results(tmp_path: Path) -> None:
    code = (
        "import os\nfrom s1kit.progress import results_only\n"
        "with results_only() as out:\n"
        "    print('noise'); os.write(1, b'noise of C\\n'); print('result', file=out)\n"
        "print('after')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "result\nafter\n"
    assert sorted(done.stderr.split("\n")) == ["", "noise", "noise of C"]


def test_a_receipt_is_written_whatever_a_librarys_distribution_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    nameless = ModuleType("vllm")
    nameless.__version__ = "0.32.0"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", nameless)
    monkeypatch.setattr(metadata, "version", lambda name: (_ for _ in ()).throw(metadata.PackageNotFoundError(name)))
    packages = environment()["packages"]
    assert isinstance(packages, dict)
    assert packages["vllm"] == "0.32.0"
