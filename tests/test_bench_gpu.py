"""The command for whoever has a card for a quarter of an hour, without one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("packaging")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "bench")
    import gpu

    return gpu


def test_every_cell_is_bounded_and_the_first_five_fit_into_the_time_of_all(gpu: Any) -> None:
    cells = gpu.cells()
    assert len({cell.name for cell in cells}) == len(cells)
    assert all(0 < cell.seconds <= 100 for cell in cells)
    assert sum(cell.seconds for cell in cells[:5]) <= 460
    assert all((gpu.BENCH / cell.script).is_file() for cell in cells)


def test_a_cell_that_hangs_or_fails_or_lacks_a_package_or_time_is_named_with_the_reason(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "BENCH", tmp_path)
    monkeypatch.setattr(gpu, "LEAST", 0.1)
    (tmp_path / "hang.py").write_text("import time; time.sleep(60)", encoding="utf-8")
    (tmp_path / "fail.py").write_text("print('too little memory'); raise SystemExit(3)", encoding="utf-8")
    found = "import sys; open(sys.argv[sys.argv.index('--json') + 1], 'a').write('{\"rate\": 2.0}\\n')"
    (tmp_path / "good.py").write_text(found, encoding="utf-8")

    def run(script: str, limit: float, needs: str = "") -> Any:
        return gpu.run(gpu.Cell(script, 9, script, ("--shape", "x"), needs), limit, tmp_path, tmp_path / "0.log")

    started = time.monotonic()
    assert run("hang.py", 1.0)["ended_early"] == "it ran past 1 seconds"
    assert time.monotonic() - started < 30
    assert run("fail.py", 60.0)["failed"] == "status 3: too little memory"
    assert run("good.py", 60.0)["figures"] == [{"rate": 2.0}]
    assert run("good.py", 60.0, "no-such-package")["left_out"] == "no-such-package is not installed"
    assert run("good.py", 0.05)["left_out"] == "0 seconds are left"


def test_without_a_card_it_says_what_would_help(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "--tiny" in gpu.refusal()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    assert gpu.refusal().startswith("Tesla T4 has no bfloat16")


def test_wheels_are_what_the_package_needs_beside_a_training_machine(gpu: Any) -> None:
    names = {line.split("==")[0].split(" ")[0] for line in gpu.wheels()}
    assert {"pydantic", "pydantic-core", "annotated-types", "httpx", "anyio", "trl", "liger-kernel", "torchao"} <= names
    assert not names & {"torch", "transformers", "numpy", "s1kit"}


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


@pytest.mark.slow
def test_all_cells_run_in_small_on_a_processor(gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["gpu.py", "--tiny", "--out", str(tmp_path)])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    assert gpu.main() == 0
    cells = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["cells"]
    assert len(cells) == len(gpu.cells())
    assert all(cell.get("figures") or "is not installed" in cell["left_out"] for cell in cells.values()), cells
