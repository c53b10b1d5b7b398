"""How a request without a temperature is sampled by an engine of this process: as the model's makers say."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("torch")

from s1kit import load_engine
from s1kit.serve.chat import ChatBody
from s1kit.serve.jobs import parse_chat
from s1kit.serve.local import Local


@pytest.mark.parametrize(
    ("own", "stated", "expected"),
    [
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, {}, (0.6, 0.9, 20)),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, {"top_p": 0.5}, (0.6, 0.5, 20)),
        # A temperature of the request's own is not mixed with the model's other settings.
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.9, "top_k": 20}, {"temperature": 0}, (0.0, 1.0, 0)),
        ({}, {}, (0.0, 1.0, 0)),
    ],
)
def test_a_request_without_a_temperature_is_sampled_as_the_models_makers_say(
    tiny_random_checkpoint: Path,
    tmp_path: Path,
    own: dict[str, Any],
    stated: dict[str, Any],
    expected: tuple[float, float, int],
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_random_checkpoint, folder)
    (folder / "generation_config.json").write_text(json.dumps(own))
    backend = Local(load_engine(f"hf:{folder}"), "tiny")
    body = ChatBody.model_validate({"messages": [{"role": "user", "content": "?"}], **stated})
    jobs = [parse_chat(body, backend, {}, None).jobs[0] for _ in range(2)]
    asyncio.run(backend.close())
    request = jobs[0].plan.request
    assert (request.temperature, request.top_p, request.top_k) == expected
    # Without a seed two draws differ, where there is anything to draw.
    assert (request.seed != jobs[1].plan.request.seed) == bool(expected[0])
