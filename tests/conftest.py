"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How fast a busy machine draws examples says nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

pytest_plugins = ["fixtures_models", "fixtures_providers"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real questions and the real Qwen2.5 tokenizer, where a checkout has them beside it."""
    folder = Path(os.environ.get("S1KIT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data folder, which is not at {folder}; set S1KIT_SHARED to its parent")
    return folder
