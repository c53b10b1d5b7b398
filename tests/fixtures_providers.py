"""A server that speaks every provider's wire, a journal, and keys: what the tests of providers share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from s1kit.journal import Journal
from tests.servers.provider_server import KEY, ProviderServer

MODELS = {
    "openai": "chat:openai/o3",
    "openai-responses": "chat:openai-responses/o3",
    "gemini": "chat:gemini/gemini-2.5-flash",
    "anthropic": "chat:anthropic/claude-opus-5-5",
    "deepseek": "chat:deepseek/deepseek-reasoner",
    "openrouter": "chat:openrouter/qwen/qwq-32b",
    "compatible": "chat:compatible/Qwen3-32B",
}
"""A model of each provider."""


def url_of(server: ProviderServer, provider: str) -> str:
    return str(getattr(server, provider, f"{server.root}/{provider}/v1"))


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as running:
        yield running


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key that the server takes, for every provider; and no long pauses between attempts."""
    for name in ("OPENAI_API_KEY", "GEMINI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "OPENROUTER_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setattr("s1kit.providers.patience.MAX_SECONDS_BETWEEN", 0.02)
