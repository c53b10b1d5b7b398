"""Other people's clients, each unchanged and pinned, against `s1kit serve`: `tests/clients/` holds what they do.

`make test-clients` installs them into environments of their own, since their pins of one another's versions disagree.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("starlette")

from engine_parity import server
from real_weights import fetched

REPO = Path(__file__).parents[1]
SCRIPTS = Path(__file__).parent / "clients"
HOME = Path(os.environ.get("S1KIT_CLIENTS", REPO / ".venv-clients"))

pytestmark = pytest.mark.clients
if not HOME.is_dir():
    pytest.skip("run make test-clients, which installs them", allow_module_level=True)

PYTHON = ["anthropic", "instructor", "litellm", "langchain", "inspect"]
NODE = ["ai_sdk", "openai_node"]


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", "import sys; from s1kit.cli import main; sys.exit(main())", "serve"]
    with server([*command, "--port", str(port), *options], f"http://127.0.0.1:{port}/health", folder / "log"):
        yield f"http://127.0.0.1:{port}/v1"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("tiny")) as url:
        yield url


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    file = fetched("qwen")
    if isinstance(file, str):
        pytest.skip(file)
    # A small model may go on until its context is full, which on a processor takes minutes for each thousand tokens.
    options = ["--model", f"hf:{file}", "--name", "qwen", "--context", "700"]
    with serving(tmp_path_factory.mktemp("real"), *options) as url:
        yield url


def run(name: str, *arguments: str) -> str:
    """What a client prints; its own assertions must hold."""
    if name in NODE:
        if shutil.which("node") is None:
            pytest.skip("no node here")
        # Modules are looked for beside the script.
        script = HOME / "node" / f"with_{name}.mjs"
        shutil.copyfile(SCRIPTS / script.name, script)
        command = ["node", str(script)]
    else:
        home = HOME / "inspect" if name == "inspect" else HOME
        command = [str(home / "bin" / "python"), str(SCRIPTS / f"with_{name}.py")]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "HF_HUB_OFFLINE": "1", "AI_SDK_LOG_WARNINGS": "false"}
    done = subprocess.run(
        [*command, *arguments], env=os.environ | offline, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.parametrize("name", [*PYTHON, *NODE])
def test_a_client_is_served_by_the_model_that_ships(tiny: str, name: str) -> None:
    run(name, tiny, "tiny")


@pytest.mark.parametrize("name", ["instructor", "langchain", "ai_sdk", "litellm", "openai_node"])
def test_a_client_gets_objects_and_calls_from_a_real_model(real: str, name: str) -> None:
    run(name, real, "qwen", "tools")
