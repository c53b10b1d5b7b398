"""What several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

pytest_plugins = ["fixtures_models", "fixtures_providers"]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real questions and the real Qwen2.5 tokenizer, where a checkout has them beside it."""
    folder = Path(os.environ.get("S1KIT_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data folder, which is not at {folder}; set S1KIT_SHARED to its parent")
    return folder
