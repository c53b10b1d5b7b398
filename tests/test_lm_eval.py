"""lm-evaluation-harness against `s1kit serve`, both unchanged: its stop list ends answers and never thinking."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from engine_parity import server

REPO = Path(__file__).parents[1]
TASK = Path(__file__).parent / "lm_eval_task"
HARNESS = Path(os.environ.get("S1KIT_LM_EVAL", REPO / ".venv-lm-eval" / "bin" / "lm_eval"))
DOCS = (REPO / "docs" / "serve.md").read_text(encoding="utf-8")
# The dial of the documented command, above what the harness leaves by its default of 256 tokens.
DIAL = re.search(r"--gen_kwargs (\S+)", DOCS)[1]  # type: ignore[index]

pytestmark = pytest.mark.engines
if not HARNESS.is_file():
    pytest.skip("run make engines, then make test-engines", allow_module_level=True)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys; from s1kit.cli import main; sys.exit(main())", "serve"]
    command += ["--model", f"scripted:{TASK / 'script.json'}", "--name", "scripted", "--port", str(port)]
    with server(command, f"http://127.0.0.1:{port}/health", tmp_path_factory.mktemp("server") / "log"):
        yield f"http://127.0.0.1:{port}/v1"


def replies(folder: Path, model: str, *arguments: str) -> tuple[list[str], float]:
    """What the harness got for the task's four questions, and its score."""
    command = [str(HARNESS), "run", "--model", model, "--tasks", "s1kit_sums", "--include_path", str(TASK)]
    command += ["--gen_kwargs", DIAL, "--output_path", str(folder), "--log_samples", *arguments]
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OPENAI_API_KEY": "none"}
    done = subprocess.run(command, cwd=TASK, env=os.environ | offline, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = folder.rglob("samples_*.jsonl")
    (results,) = folder.rglob("results_*.json")
    rows = [json.loads(line) for line in samples.read_text(encoding="utf-8").splitlines()]
    score = json.loads(results.read_text(encoding="utf-8"))["results"]["s1kit_sums"]["exact_match,none"]
    return [row["resps"][0][0] for row in sorted(rows, key=lambda r: r["doc_id"])], score


def test_chat_completions_are_scored_on_the_answer_alone(url: str, tmp_path: Path) -> None:
    model = f"model=scripted,base_url={url}/chat/completions,num_concurrent=4"
    found = replies(tmp_path, "local-chat-completions", "--model_args", model, "--apply_chat_template")
    # Without the wait the script answers 9; a stop found in the thinking would leave nothing.
    assert found == (["5", "8", "7", "5"], 1.0)


def test_completions_think_where_a_field_asks_for_it(url: str, tmp_path: Path) -> None:
    model = f"model=scripted,base_url={url}/completions,tokenizer_backend=None,tokenized_requests=False"
    found = replies(tmp_path, "local-completions", "--model_args", model)
    assert found == (["5", "5", "5", "5"], 0.5)
