"""Real pretrained models down the whole road, with every engine that is installed: `make test-real`.

SmolLM2-135M-Instruct (Llama) and Qwen2.5-Coder-0.5B-Instruct (Qwen2), untouched, as people download them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from engine_parity import free_port, server
from real_weights import fetched

from s1kit import Request, ThinkingBudget, load_engine
from s1kit.cli import main
from s1kit.engines.gguf.unpacking import unpacked
from s1kit.files import read_rows
from s1kit.records import Generation, Sample, Trace

pytestmark = pytest.mark.real_models
torch = pytest.importorskip("torch")
pytest.importorskip("gguf")

ROOT = Path(__file__).parents[1]
DATA = ROOT / ".." / "shared" / "data"
QUESTIONS = [
    "What is 12 + 30?",
    "Tom has 3 bags with 4 apples each and eats 2. How many are left?",
    "Name the capital of France.",
]


@pytest.fixture(scope="session", params=["smollm2", "qwen"])
def gguf_file(request: pytest.FixtureRequest) -> Path:
    return weights(request.param)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    return weights("smollm2")


def weights(name: str) -> Path:
    found = fetched(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def ids_of(generation: Generation) -> list[int]:
    return [i for segment in generation.segments for i in segment.token_ids]


def command(venv: str, *arguments: str) -> list[str]:
    """A command of s1kit in an engine's own environment; skipped where that is not installed."""
    python = ROOT / venv / "bin" / "python"
    if venv and not python.is_file():
        pytest.skip(f"{venv} is not there: run make engines")
    return [str(python) if venv else sys.executable, "-m", "s1kit", *arguments]


def run(venv: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(command(venv, *arguments), capture_output=True, text=True, env=env, cwd=ROOT)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran


def plain_generate(folder: Path, prompts: list[list[int]], num: int) -> list[list[int]]:
    """Greedy ids of plain transformers, each prompt by itself; every end id of the folder stops it."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    found = []
    for prompt in prompts:
        whole = model.generate(
            torch.tensor([prompt]), max_new_tokens=num, do_sample=False, temperature=None, top_p=None
        )
        found.append(whole[0, len(prompt) :].tolist())
    return found


def test_greedy_ids_are_those_of_plain_transformers(gguf_file: Path) -> None:
    engine: Any = load_engine(f"hf:{gguf_file}", format="direct")
    asked = [Request(question=q, answer_tokens=48, repeat=i) for i, q in enumerate(QUESTIONS)]
    found = {g.repeat: ids_of(g) for g in engine.generate(asked)}
    prompts = [list(engine.plan(a).prompt_ids) for a in asked]
    for number, expected in enumerate(plain_generate(unpacked(str(gguf_file)), prompts, 48)):
        ends = [i for i in expected if i in engine.tokens.eos_ids]
        assert found[number] == expected[: len(expected) - len(ends)], QUESTIONS[number]


def test_budgets_hold_to_the_token_on_a_model_that_was_never_trained_for_them(gguf_file: Path) -> None:
    engine: Any = load_engine(f"hf:{gguf_file}")
    budgets = [ThinkingBudget(0), ThinkingBudget(24), ThinkingBudget(24, 24), ThinkingBudget(48, 0, 2)]
    asked = [
        Request(question=q, budget=b, answer_tokens=32, repeat=i)
        for i, (q, b) in enumerate((q, b) for q in QUESTIONS for b in budgets)
    ]
    for found in engine.generate(asked):
        budget = budgets[found.repeat % len(budgets)]
        assert budget.min_tokens <= found.thinking_tokens <= budget.max_tokens
        assert found.answer.strip()


def test_an_untouched_gguf_file_answers_in_llama_cpp(gguf_file: Path) -> None:
    started = time.monotonic()
    ran = run(
        ".venv-engines-llama-cpp",
        "ask",
        QUESTIONS[0],
        "--model",
        f"llama.cpp:{gguf_file}",
        "--format",
        "direct",
        "--json",
    )
    print(f"{gguf_file.stem}: asked in llama.cpp in {time.monotonic() - started:.1f} s")
    assert "42" in json.loads(ran.stdout)["answer"] or "32" in json.loads(ran.stdout)["answer"]
    ran = run(
        ".venv-engines-llama-cpp",
        *(
            "ask",
            QUESTIONS[1],
            "--model",
            f"llama.cpp:{gguf_file}",
            "--max-thinking",
            "20",
            "--min-thinking",
            "20",
            "--json",
        ),
    )
    assert json.loads(ran.stdout)["thinking_tokens"] == 20


RECIPE = """
name = "real"
seed = 0
[collect]
sources = [{{ path = "{questions}" }}]
duplicates = "exact"
decontaminate = "{decontaminate}"
against = ["{tests}"]
[distill]
teacher = "{teacher}"
{limit}
[curate]
quality = ["s1", "complete"]
selection = "random"
num = {num}
[train]
base = "{base}"
batch_size = 4
epochs = 1
learning_rate = 2e-5
max_length = 768
drop_too_long = true
acknowledge_terms = "a test of the plumbing"
[evaluate]
benchmarks = ["{tests}"]
num_questions = 4
max_tokens = [0, 64]
num_waits = [0, 1]
answer_tokens = 64
baseline = "{base}"
"""


@pytest.fixture(scope="session")
def road(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder: 200 questions, their traces, a fine-tuned SmolLM2, its evaluation and report."""
    import gzip

    if not (DATA / "pool_gsm8k_train.jsonl.gz").is_file():
        pytest.skip("GSM8K is not at hand")
    folder = tmp_path_factory.mktemp("real_road")
    for name, file, num in (("pool", "pool_gsm8k_train", 200), ("tests", "bench_gsm8k_test", 40)):
        with gzip.open(DATA / f"{file}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(next(lines)) for _ in range(num)]
        kept = [{k: r[k] for k in ("question", "solution", "licence")} for r in rows]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in kept))
    files = {"questions": folder / "pool.jsonl", "tests": folder / "tests.jsonl"}
    text = RECIPE.format(teacher="solutions", limit="", num=8, base=f"hf:{smollm2}", decontaminate="strict", **files)
    (folder / "real.toml").write_text(text)
    assert main(["run", str(folder / "real.toml"), f"out={folder}"]) == 0
    return folder / "real"


def test_the_whole_road_ends_with_a_report(road: Path) -> None:
    counts = {
        stage: json.loads((road / stage / "receipt.json").read_text())["counts"] for stage in ("collect", "curate")
    }
    assert counts["collect"]["in"] == 200
    assert json.loads((road / "train" / "receipt.json").read_text())["counts"]["steps"] == 2
    generations = list(read_rows(sorted((road / "evaluate").glob("generations-*.parquet")), Generation))
    assert len(generations) >= 4 * 4
    assert all(g.ending != "failed" for g in generations)
    assert all(g.thinking_tokens <= 64 for g in generations)
    assert (road / "report" / "report.html").is_file()


def test_the_checkpoint_is_an_ordinary_one_to_plain_transformers(road: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    checkpoint = road / "train" / "checkpoint"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(checkpoint), AutoTokenizer.from_pretrained(checkpoint)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTIONS[0]}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    found = model.generate(**prompt, max_new_tokens=200, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert int(found[-1]) == tokenizer.eos_token_id, tokenizer.decode(found)
    assert tokenizer.convert_ids_to_tokens(int(found[-1])) == "<|im_end|>"
    engine: Any = load_engine(f"hf:{checkpoint}", dtype=str(model.dtype).removeprefix("torch."))
    (ours,) = engine.generate([Request(question=QUESTIONS[0], budget=ThinkingBudget(150), answer_tokens=60)])
    assert list(engine.plan(Request(question=QUESTIONS[0])).prompt_ids) == prompt["input_ids"][0].tolist()
    assert ours.ending == "closed"


def test_the_exported_file_gives_llama_cpp_the_same_thinking(road: Path, tmp_path: Path) -> None:
    checkpoint, file = road / "train" / "checkpoint", tmp_path / "real.gguf"
    assert main(["export", str(checkpoint), "--to", str(file)]) == 0
    arguments = ("--max-thinking", "30", "--answer-tokens", "40", "--json")
    ran = run(".venv-engines-llama-cpp", "ask", QUESTIONS[1], "--model", f"llama.cpp:{file}", *arguments)
    ours = run("", "ask", QUESTIONS[1], "--model", f"hf:{checkpoint}", *arguments)
    assert json.loads(ran.stdout)["thinking"][:40] == json.loads(ours.stdout)["thinking"][:40]


def test_vllm_loads_the_checkpoint_and_keeps_the_budget(road: Path) -> None:
    model = f"vllm:{road / 'train' / 'checkpoint'},max_model_len=1024,enforce_eager=true"
    ran = run(".venv-engines-vllm", "ask", QUESTIONS[1], "--model", model, "--max-thinking", "20", "--json")
    assert json.loads(ran.stdout)["thinking_tokens"] <= 20


def test_the_server_gives_the_engines_own_thinking_under_a_budget(road: Path, tmp_path: Path) -> None:
    import httpx

    checkpoint, port = road / "train" / "checkpoint", free_port()
    url = f"http://127.0.0.1:{port}"
    start = command("", "serve", "--model", f"hf:{checkpoint}", "--name", "mine", "--port", str(port))
    with server(start, f"{url}/health", tmp_path / "log"):
        body = {
            "model": "mine",
            "messages": [{"role": "user", "content": QUESTIONS[1]}],
            "thinking_token_budget": 20,
            "answer_tokens": 40,
            "temperature": 0,
        }
        reply = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120, trust_env=False).json()
    arguments = ("--max-thinking", "20", "--answer-tokens", "40", "--temperature", "0", "--json")
    alone = json.loads(run("", "ask", QUESTIONS[1], "--model", f"hf:{checkpoint}", *arguments).stdout)
    assert reply["choices"][0]["message"]["reasoning"] == alone["thinking"]
    assert reply["usage"]["completion_tokens_details"]["reasoning_tokens"] == alone["thinking_tokens"] <= 20


def test_a_local_instruct_model_teaches_and_what_it_lacks_is_dropped_by_name(smollm2: Path, tmp_path: Path) -> None:
    rows = [{"question": q, "solution": s} for q, s in zip(QUESTIONS, ("42", "10", "Paris"), strict=True)]
    (tmp_path / "pool.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    files = {"questions": tmp_path / "pool.jsonl", "tests": tmp_path / "pool.jsonl"}
    text = RECIPE.format(
        teacher=f"hf:{smollm2}", limit="max_output_tokens = 160", num=3, base="tiny-base", decontaminate="none", **files
    )
    (tmp_path / "real.toml").write_text(text)
    for stage in ("collect", "distill"):
        assert main([stage, str(tmp_path / "real.toml"), f"out={tmp_path}"]) == 0
    assert len(list(read_rows((tmp_path / "real" / "distill").glob("traces-*.parquet"), Trace))) == 3
    main(["curate", str(tmp_path / "real.toml"), f"out={tmp_path}"])
    kept = list((tmp_path / "real" / "curate").glob("samples-*.parquet"))
    for sample in read_rows(kept, Sample):
        assert sample.trace.thinking.strip()
        assert sample.trace.finish_reason == "stop"
