"""From a model reference to a provider: where it listens, how it speaks, where its key comes from.

chat:gemini/gemini-2.5-flash        chat:deepseek/deepseek-v4-pro      chat:openai/o3
chat:anthropic/claude-opus-5-5      chat:openrouter/deepseek/deepseek-r1
chat:openai-responses/o3            the Responses API, which shows summaries of the thinking
chat:azure/<deployment>             with base_url or AZURE_OPENAI_ENDPOINT
chat:vertex/gemini-2.5-pro          with GOOGLE_CLOUD_PROJECT; also Claude, and <maker>/<model> of the open models
chat:bedrock/us.anthropic.claude-opus-4-6-v1
chat:compatible/Qwen3-32B           with base_url, or S1KIT_BASE_URL
chat:http://localhost:8000/v1#Qwen3-32B
chat:http://localhost:8000/v1/responses#Qwen3-32B
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit

from s1kit.errors import InputError, nearest
from s1kit.providers.chat import WireFormat
from s1kit.providers.wires.anthropic import AnthropicWire
from s1kit.providers.wires.bedrock import BedrockWire
from s1kit.providers.wires.gemini import GeminiWire
from s1kit.providers.wires.openai import OpenAIWire
from s1kit.providers.wires.responses import ResponsesWire
from s1kit.providers.wires.vertex import VertexClaudeWire, VertexGeminiWire, VertexOpenAIWire

BASE_URLS = {
    "gemini": "https://generativelanguage.googleapis.com/v1beta",
    "deepseek": "https://api.deepseek.com/v1",
    "openai": "https://api.openai.com/v1",
    "openai-responses": "https://api.openai.com/v1",
    "anthropic": "https://api.anthropic.com/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "azure": "",
    "vertex": "",
    "bedrock": "",
    "compatible": "",
}

KEY_VARIABLES = {
    "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "anthropic": ("ANTHROPIC_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "azure": ("AZURE_OPENAI_API_KEY",),
    "vertex": (),
    "bedrock": ("AWS_BEARER_TOKEN_BEDROCK",),
    "compatible": ("S1KIT_API_KEY",),
}
"""Environment variables that hold a provider's key, the first that is set counts."""


@dataclass(frozen=True)
class Model:
    """A model of a provider."""

    provider: str
    """In the journal's keys and on traces; for a bare URL the URL itself, since nothing else says which model it is."""
    name: str
    wire: WireFormat
    base_url: str
    needs_key: bool

    @property
    def reference(self) -> str:
        return f"chat:{self.provider}#{self.name}" if "://" in self.provider else f"chat:{self.provider}/{self.name}"

    @property
    def kind(self) -> str:
        """The provider's name in the price, terms and key tables."""
        return "compatible" if "://" in self.provider else self.provider.removesuffix("-responses")


def find_model(reference: str, base_url: str = "") -> Model:
    """The model that `chat:<provider>/<model>` names; `base_url` replaces the provider's own.

    Raises InputError for an unknown provider, a missing model or URL, and a URL with a password in it.
    """
    rest = reference.removeprefix("chat:")
    if rest.startswith(("http://", "https://")):
        url, _, name = rest.partition("#")
        url = url.rstrip("/")
        # The one endpoint that means something here: it asks for the Responses API, which has the same base URL.
        base = url.removesuffix("/responses")
        _check_url(base, reference)
        if not name:
            raise InputError(f"{reference!r} names no model", where="model", fix="Write chat:<base URL>#<model>.")
        if base != url:
            return Model(url, name, ResponsesWire("compatible"), base, needs_key=False)
        return Model(url, name, OpenAIWire("compatible"), url, needs_key=False)
    provider, _, name = rest.partition("/")
    if provider not in BASE_URLS:
        raise InputError(f"no provider is called {provider!r}", where=reference, fix=nearest(provider, BASE_URLS))
    if not name:
        raise InputError(f"{reference!r} names no model", where="model", fix=f"Write chat:{provider}/<model>.")
    if provider in ("azure", "vertex", "bedrock"):
        return _cloud_model(provider, name, base_url)
    url = (base_url or os.environ.get("S1KIT_BASE_URL", "") if provider == "compatible" else base_url).rstrip("/")
    if not (url := url or BASE_URLS[provider]):
        raise InputError(
            "a compatible server needs its address",
            where=reference,
            fix="Set distill.base_url, or S1KIT_BASE_URL, to its URL up to and including /v1.",
        )
    _check_url(url, "base_url")
    is_own = url == BASE_URLS[provider]
    return Model(provider, name, _wire(provider), url, needs_key=is_own)


def _cloud_model(provider: str, name: str, base_url: str) -> Model:
    """A model of Azure, Vertex AI or Bedrock, at the address that the setting or the cloud's own variables name."""
    if base_url:
        _check_url(base_url, "base_url")
    match provider:
        case "azure":
            url, _, query = _given(base_url, "AZURE_OPENAI_ENDPOINT", "https://NAME.openai.azure.com").partition("?")
            url, version = url.rstrip("/"), dict(parse_qsl(query)).get("api-version", "")
            version = version or os.environ.get("OPENAI_API_VERSION", "")
            if "/openai" not in url:
                url += f"/openai/deployments/{quote(name)}" if version else "/openai/v1"
            wire: WireFormat = OpenAIWire("azure", f"?api-version={quote(version)}" if version else "")
        case "vertex":
            url, wire = base_url or _vertex_url(), VertexGeminiWire()
            if name.startswith("claude"):
                wire = VertexClaudeWire()
            elif "/" in name:
                wire = VertexOpenAIWire()
        case _:
            region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
            named = f"https://bedrock-runtime.{region}.amazonaws.com" if region else ""
            url = _given(base_url or named, "AWS_REGION", "us-east-1")
            wire = BedrockWire()
    return Model(provider, name, wire, url.rstrip("/"), needs_key=False)


def _vertex_url() -> str:
    project = _given("", "GOOGLE_CLOUD_PROJECT", "my-project")
    location = os.environ.get("GOOGLE_CLOUD_LOCATION", "") or "global"
    host = "aiplatform" if location == "global" else f"{location}-aiplatform"
    return f"https://{host}.googleapis.com/v1/projects/{project}/locations/{location}"


def _given(setting: str, variable: str, example: str) -> str:
    if not (found := setting or os.environ.get(variable, "")):
        raise InputError(
            f"{variable} is not set", where="distill.base_url", fix=f"Set it, e.g. to {example}, or give base_url."
        )
    return found


def first_url(base_url: str | list[str]) -> str:
    """The address that a price is looked up for: several servers of one model cost the same."""
    return base_url if isinstance(base_url, str) else next(iter(base_url), "")


def _wire(provider: str) -> WireFormat:
    match provider:
        case "gemini":
            return GeminiWire()
        case "anthropic":
            return AnthropicWire()
        case "openai-responses":
            return ResponsesWire()
        case "openai" | "deepseek" | "openrouter":
            return OpenAIWire(provider)
        case _:
            return OpenAIWire("compatible")


_ENDPOINTS = ("/chat/completions", "/completions", "/responses", "/messages")


def _check_url(url: str, where: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise InputError("the URL holds a password", where=where, fix="Put the key into the environment or a key file.")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url!r} is not a URL", where=where, fix="Write for example http://localhost:8000/v1.")
    for path in _ENDPOINTS:
        if parts.path.rstrip("/").endswith(path):
            base = url.rstrip("/").removesuffix(path)
            raise InputError(f"the URL ends in {path}, which is added to it", where=where, fix=f"Write {base}.")
