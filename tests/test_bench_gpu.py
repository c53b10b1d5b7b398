"""The command for whoever has a card for a quarter of an hour, without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("packaging")

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(BENCH)
    import gpu

    return gpu


def test_every_cell_is_bounded_and_the_first_five_fit_into_the_time_of_all_even_at_their_limits(gpu: Any) -> None:
    cells = gpu.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    assert all(0 < cell.limit <= 110 for cell in cells)
    assert sum(cell.limit for cell in cells[:5]) <= 460 - 30
    assert all((gpu.BENCH / cell.script).is_file() for cell in cells)
    *lines, last = gpu.plan(cells)
    assert len(lines) == 1 + len(cells)
    assert lines[3].split(maxsplit=3) == ["130", "60", "84", cells[2].name]
    assert float(last.split()[0]) == sum(cell.expected for cell in cells)


def test_every_training_fits_the_card_that_it_is_meant_for(gpu: Any) -> None:
    from dataclasses import replace

    from s1kit.recipe import Train
    from s1kit.train.cost import memory_gib
    from s1kit.train.flops import CARD_GIB
    from s1kit.train.shapes import SHAPES

    for cell in gpu.cells():
        given = dict(zip(cell.arguments, cell.arguments[1:], strict=False))
        if cell.script != "train_throughput.py":
            continue
        shape = SHAPES[given["--model"]]
        shape = replace(shape, num_hidden_layers=int(given.get("--layers", shape.num_hidden_layers)))
        train = Train.model_validate({"layout": json.loads(given["--layout"])})
        longest = max(int(given["--length"]), int(given.get("--micro-batch-tokens", 0)))
        assert memory_gib(shape, train, 1, longest) < 0.94 * CARD_GIB["H200"], cell.name


@pytest.mark.parametrize(
    ("gib", "layouts", "left_out"),
    [
        (139.0, {"7B, up to 8K": "none", "12 layers of 32B, up to 16K": "selective"}, 0),
        (79.2, {"7B, up to 8K": "full", "12 layers of 32B, up to 16K": "full", "1.5B, up to 8K": "none"}, 1),
        (47.0, {"1.5B, up to 8K": "selective"}, 5),
        (15.0, {}, 6),
    ],
)
def test_a_smaller_card_gets_the_layouts_that_it_holds_and_is_told_of_the_others(
    gpu: Any, tmp_path: Path, gib: float, layouts: dict[str, str], left_out: int
) -> None:
    """An H100 would have spent its quarter of an hour on trainings that ran out of memory."""
    cells = {cell.name: gpu.fitted(cell, gib) for cell in gpu.cells()}
    lacking = [cell for cell in cells.values() if cell.lacks]
    assert len(lacking) == left_out
    assert all(cell.script == "train_throughput.py" for cell in lacking)
    for cell in lacking:
        assert gpu.run(cell, 1000.0, tmp_path)["left_out"].endswith(f"GiB, and the card has {gib:.0f} free")
        assert cell.lacks in "\n".join(gpu.plan([cell]))
    for name, how in layouts.items():
        given = cells[f"training {name}"].arguments
        layout = json.loads(given[given.index("--layout") + 1])
        assert (layout["activation_checkpointing"], layout["compile"]) == (how, True)


def test_what_cannot_begin_is_said_before_anything_is_measured(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu, "machine", lambda _: pytest.fail("it began"))
    (tmp_path / "file").write_text("")
    for given, said in (
        (["--only", "70b"], "No cell's name holds '70b'; --plan prints them."),
        (["--out", str(tmp_path / "file" / "out")], "Nothing can be written to"),
    ):
        monkeypatch.setattr("sys.argv", ["gpu.py", "--tiny", *given])
        assert gpu.main() == 2
        assert said in capsys.readouterr().err


def test_figures_that_a_full_disk_does_not_take_are_printed(
    gpu: Any, scripts: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(gpu, "save", full)
    assert gpu.measure([gpu.Cell("good", 60, "good.py", ())], {}, scripts, float("inf")) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("{"))
    assert json.loads(line)["cells"]["good"]["figures"]
    assert "cannot be written, so it stands above: [Errno 28]" in printed


SCRIPTS = {
    "hang": """
import json, os, subprocess, sys, time
path = sys.argv[sys.argv.index("--json") + 1]
open(path, "a").write(json.dumps({"requests": 1, "rate": 1}) + "\\n" + json.dumps({"requests": 1, "rate": 2}))
open(path, "a").write("\\n{" + '"requests": 8, "ra')
open(os.path.join(os.path.dirname(path), "..", "pids"), "w").write(str(os.getpid()))
time.sleep(60)
""",
    "fail": "print('train: not compiled'); print('too little memory'); raise SystemExit(3)",
    "good": """
import json, os, sys
told = {"offline": os.environ["HF_HUB_OFFLINE"], "tmp": os.environ["TMPDIR"], "cache": os.environ["TRITON_CACHE_DIR"]}
told |= {"card": os.environ["CUDA_VISIBLE_DEVICES"], "size": os.environ.get("WORLD_SIZE")}
open(sys.argv[sys.argv.index("--json") + 1], "a").write(json.dumps(told) + "\\n")
""",
}


@pytest.fixture
def scripts(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(gpu, "BENCH", tmp_path)
    for name, text in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    return tmp_path


def test_a_cell_that_hangs_or_fails_or_lacks_a_package_or_time_is_named_with_the_reason(
    gpu: Any, scripts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setenv("WORLD_SIZE", "16")

    def run(script: str, limit: float, needs: str = "", expected: float = 1.0) -> Any:
        return gpu.run(gpu.Cell(script, expected, f"{script}.py", ("--shape", "x"), needs), limit, scripts / "work")

    started = time.monotonic()
    hung = run("hang", 3.0)
    assert hung["ended_early"] == "it ran past 3 seconds"
    assert hung["figures"] == [{"requests": 1, "rate": 2}], "the last whole line of each"
    assert time.monotonic() - started < 30
    failed = run("fail", 60.0)
    assert failed["failed"] == "status 3: train: not compiled / too little memory"
    assert failed["said"] == ["train: not compiled"]
    (told,) = run("good", 60.0)["figures"]
    assert (told["offline"], told["card"], told["size"]) == ("1", "2", None)
    assert {Path(told[name]).is_relative_to(scripts / "work") for name in ("tmp", "cache")} == {True}
    assert run("good", 60.0, "no-such-package")["left_out"] == "no-such-package is not installed"
    assert run("good", 20.0, expected=70.0)["left_out"] == "it takes some 70 seconds, and 20 are left"


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end a child with its parent")
@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGKILL])
def test_whoever_ends_it_has_what_was_measured_and_a_free_card(scripts: Path, kind: signal.Signals) -> None:
    program = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(BENCH)!r})
import gpu
gpu.BENCH, gpu.BETWEEN_WRITES = Path({str(scripts)!r}), 0.1
cells = [gpu.Cell(name, 60, f"{{name}}.py", ()) for name in ("hang", "good")]
sys.exit(gpu.measure(cells, {{"card": "a card"}}, Path({str(scripts / "out")!r}), float("inf")))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL)
    path = scripts / "out" / "gpu.json"
    deadline = time.monotonic() + 60
    while not (path.is_file() and '"rate": 2' in path.read_text("utf-8")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(kind)
    assert process.wait(30) == (143 if kind == signal.SIGTERM else -9)
    document = json.loads(path.read_text("utf-8"))
    assert document["machine"] == {"card": "a card"}
    assert document["cells"]["hang"]["figures"] == [{"requests": 1, "rate": 2}]
    assert document["cells"]["good"] == {"left_out": "its turn did not come"}
    assert document["cut"] == ("ended by SIGTERM" if kind == signal.SIGTERM else "")
    cell = int((scripts / "out" / "pids").read_text())
    while Path(f"/proc/{cell}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{cell}").exists()
    assert (scripts / "out" / "work").exists() is (kind == signal.SIGKILL)


def test_without_a_card_it_says_what_would_help(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from s1kit.engines import machine

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "why_unused", lambda: "The NVIDIA driver on your system is too old")
    assert "--tiny" in gpu.refusal(gpu.look())
    assert gpu.refusal(gpu.look()).endswith("one that is here: The NVIDIA driver on your system is too old")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (15 * 2**30, 16 * 2**30))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    found = gpu.look()
    assert (found["card_gib"], found["free_gib"]) == (16.0, 15.0)
    assert gpu.refusal(found).startswith("Tesla T4 has no bfloat16")
    assert gpu.refusal(found | {"bfloat16": True}) == ""
    assert gpu.crowded(found | {"free_gib": 4.0}) == "Other programs hold 12 of the card's 16 GiB."
    assert gpu.crowded(found | {"free_gib": 15.5}) == gpu.crowded({"card": "CPU"}) == ""


def test_a_card_that_does_not_answer_is_not_waited_for(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "LOOKING", 0.2)
    monkeypatch.setattr(gpu, "__file__", str(tmp_path / "sleep.py"))
    (tmp_path / "sleep.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    assert "did not name the card within 0 seconds" in gpu.refusal(gpu.machine(tmp_path / "work"))
    (tmp_path / "sleep.py").write_text("import no_such_module", encoding="utf-8")
    monkeypatch.setattr(gpu, "LOOKING", 60.0)
    assert "No module named 'no_such_module'" in gpu.refusal(gpu.machine(tmp_path / "work"))


def test_two_trainers_and_two_data_types_are_compared_over_cells(gpu: Any) -> None:
    def row(trainer: str, rate: float, losses: list[float], **layout: bool) -> dict[str, Any]:
        same = {"model": "7b", "layers": None, "length": 8192, "batch_size": 8}
        return same | {"trainer": trainer, "rate": rate, "losses": losses, "layout": layout}

    results = {
        "a": {"figures": [row("s1kit", 8.0, [2.0, 1.0])]},
        "b": {"figures": [row("TRL", 5.0, [2.0, 1.01])]},
        "c": {"figures": [row("s1kit", 10.0, [2.02, 1.0, 0.9], fp8=True)]},
        "d": {"left_out": "no time"},
        "e": {"figures": [{"requests": 1}]},
    }
    found = gpu.comparisons(results)
    assert found["s1kit / TRL, 7b, 8192"] == {"ratio": 1.6, "losses_apart": pytest.approx(0.01)}
    assert found["float8 / bfloat16, 7b, 8192"] == {"ratio": 1.25, "losses_apart": pytest.approx(0.01)}


def test_wheels_are_what_the_package_needs_beside_a_training_machine(
    gpu: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {line.split("==")[0].split(" ")[0] for line in gpu.wheels()}
    assert {"pydantic", "pydantic-core", "annotated-types", "httpx", "anyio", "trl", "liger-kernel", "torchao"} <= names
    assert not names & {"torch", "transformers", "numpy", "s1kit"}
    assert gpu.lacking() == []
    has = gpu._has
    monkeypatch.setattr(gpu, "_has", lambda name: name != "pydantic" and has(name))
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert gpu.main() == 2
    assert "Not installed: pydantic; --list-wheels" in capsys.readouterr().err


def test_a_random_model_stops_as_often_as_asked_in_any_data_type(gpu: Any) -> None:
    import forced_models

    from s1kit.engines import _packaged
    from s1kit.engines.hf.tokenizer import read_tokenizer

    tokenizer = read_tokenizer(str(_packaged("tiny")), "tiny")
    for dtype in (torch.float32, torch.bfloat16):
        model = forced_models.build("tiny", tokenizer, 64.0, "cpu").to(dtype)
        forced_models.stop_exactly(model, tokenizer, 64.0)
        with torch.inference_mode():
            chances = model(torch.arange(40).view(2, 20)).logits.softmax(-1)
        specials = sorted(tokenizer.added_tokens_decoder)
        torch.testing.assert_close(chances[..., tokenizer.eos_token_id], torch.full((2, 20), 1 / 64), rtol=1e-3, atol=0)
        assert float(chances[..., specials].sum(-1).max()) == pytest.approx(1 / 64, rel=1e-3)


def test_what_a_decoding_cell_has_measured_so_far_is_written_after_each_turn(gpu: Any) -> None:
    import forced_decoding

    times: dict[str, list[float]] = {"forced": [2.0], "plain": [], "generate": []}
    assert forced_decoding.measured(times, 100, 200.0) == {
        "turns": 1,
        "forced_tokens_per_second": 50.0,
        "share_of_memory_floor": 0.25,
    }
    times["plain"].append(1.0)
    assert forced_decoding.measured(times, 100, 0.0)["forced / plain"] == 0.5


@pytest.mark.slow
def test_all_cells_run_in_small_on_a_processor(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py", "--tiny", "--out", str(tmp_path)])
    assert gpu.main() == 0
    assert os.listdir(tmp_path) == ["gpu.json"]
    document = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    cells = document["cells"]
    assert len(cells) == len(gpu.cells())
    assert all(cell.get("figures") or "is not installed" in cell["left_out"] for cell in cells.values()), cells
    assert document["machine"]["card"] == "CPU"
    assert {"s1kit / TRL, qwen2.5-7b, 64"} <= document["comparisons"].keys()
