"""The terms ledger: may a teacher's output train another model, who says so, and since when.

The licence of open weights counts, through whatever server they are reached; else the terms of the model's maker. A
model of unknown origin, such as somebody's fine-tune, is unknown, whatever its name resembles.
"""

from __future__ import annotations

import datetime
import re
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from urllib.parse import urlsplit

from s1kit.records import Record, Terms

_MAKERS = {
    "gemini": "google",
    "vertex": "google",
    "deepseek-ai": "deepseek",
    "meta-llama": "meta",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "zai-org": "zhipu",
    "z-ai": "zhipu",
    "thudm": "zhipu",
    "zhipuai": "zhipu",
    "x-ai": "xai",
    "xai-org": "xai",
    "alibaba": "qwen",
    "azure": "openai",
    "openai-responses": "openai",
    "minimaxai": "minimax",
}
for _maker in ("google", "openai", "anthropic", "deepseek", "qwen", "meta", "mistral", "moonshot", "zhipu", "xai"):
    _MAKERS[_maker] = _maker
for _maker in ("microsoft", "tencent", "minimax"):
    _MAKERS[_maker] = _maker
"""Who made the models under a name before the slash, or of a provider."""
_PACKAGERS = {
    *("unsloth", "lmstudio-community", "bartowski", "redhatai", "neuralmagic", "mlx-community", "casperhansen"),
    *("thebloke", "ggml-org", "accounts", "fireworks", "models", "nvidia", "pro", "together", "bedrock"),
}
"""Names before a slash that hand on or serve others' weights as they are."""
_HOSTS = {
    "api.openai.com": "openai",
    "generativelanguage.googleapis.com": "google",
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.mistral.ai": "mistral",
}
_OWN_NAMES = (
    ("google", re.compile(r"gemini-[\d.]")),
    ("openai", re.compile(r"(gpt-[345]|chatgpt-|o[134](-|$)|codex-)")),
    ("anthropic", re.compile(r"claude-")),
    ("xai", re.compile(r"grok-")),
    ("deepseek", re.compile(r"deepseek-(reasoner|chat)$")),
)
"""Names that one maker's served models have, through whatever address they are reached."""
_ADDED = re.compile(
    r"[-_.:](instruct|thinking|chat|base|it|hf|original|fp8|fp16|bf16|nvfp4|mxfp4|awq|gptq|int[48]|w\d+a\d+|[2-8]bit|bnb|gguf|mlx|dynamic|q\d\w*|iq\d\w*|free|nitro|"
    r"exp|preview|latest|maas|versatile|turbo|tee|fast|\d{4}|\d{6}|\d{8}|\d{4}-\d\d-\d\d|v\d+:\d+)$"
)
"""What those who serve or compress a model add to its name."""


class TermsEntry(Record):
    """A maker's or model's terms: whether its output may train a model, and where that is said."""

    maker: str = "*"
    model: list[str]
    """Patterns of its name, lower case, `*` for anything."""
    terms: Terms
    text: str
    """The sentence it rests on, quoted or summed up."""
    source: str
    date: datetime.date | None
    """Date of the version that was read; None where it bears none."""
    reference: str = ""
    """The model that was asked for."""

    @property
    def sentence(self) -> str:
        """One line to say before spending.

        >>> terms_of("chat:deepseek/deepseek-reasoner").sentence[:52]
        'deepseek/deepseek-reasoner permits training on its o'
        """
        verb = {
            "permits": "permits training on its output",
            "forbids": "forbids training on its output",
            "conditions": "permits training on its output under conditions",
            "unknown": "says nothing known about training on its output",
        }[self.terms]
        dated = f" ({self.source}, {self.date})" if self.source else ""
        return f"{self.reference} {verb}: {self.text}{dated}"

    @property
    def needs_reason(self) -> bool:
        """Whether training on the output needs `train.acknowledge_terms`: unless it is plainly permitted."""
        return self.terms != "permits"


@cache
def ledger() -> tuple[TermsEntry, ...]:
    text = (resources.files("s1kit.providers") / "terms.toml").read_text(encoding="utf-8")
    return tuple(TermsEntry.model_validate(entry) for entry in tomllib.loads(text)["terms"])


def terms_of(reference: str) -> TermsEntry:
    """The ledger's entry for a model reference, or for a model's name as it stands on a trace.

    >>> terms_of("chat:gemini/gemini-2.0-flash-thinking-exp").terms
    'forbids'
    >>> terms_of("chat:http://localhost:8000/v1#deepseek-ai/DeepSeek-R1").terms
    'permits'
    >>> terms_of("vllm:somebody/DeepSeek-R1-tuned").terms
    'unknown'
    """
    maker, name, is_known_origin = _origin(reference)
    shown = reference.removeprefix("chat:")
    names = _spellings(name)
    for entry in ledger():
        is_model = entry.maker == "*" and is_known_origin
        if (is_model or entry.maker == maker) and any(fnmatchcase(n, p) for n in names for p in entry.model):
            return entry.model_copy(update={"reference": shown})
    text = "no entry in the ledger; read the provider's terms and the model's licence"
    return TermsEntry(model=[name], terms="unknown", text=text, source="", date=None, reference=shown)


_OPTIONS = re.compile(r",[a-z_][\w.]*=.*")
"""What follows a model in a reference to an engine: `hf:./model,dtype=bfloat16`."""


def _origin(reference: str) -> tuple[str, str, bool]:
    """Maker (empty if unknown), name, and whether nobody unknown stands between the maker and us."""
    reference = _OPTIONS.sub("", reference.lower())
    if reference in ("tiny", "tiny-base"):
        return "s1kit", reference, True
    if reference == "solutions":
        return reference, reference, True
    maker = ""
    scheme, colon, rest = reference.partition(":")
    if scheme == "chat" and "://" in rest:
        url, _, rest = rest.partition("#")
        maker = _HOSTS.get(urlsplit(url).hostname or "", "")
    elif scheme == "chat":
        provider, _, rest = rest.partition("/")
        maker = _MAKERS.get(provider, "")
    elif colon and scheme in ("hf", "vllm", "llama.cpp", "completions", "recorded"):
        rest = rest.rpartition("#")[2] if scheme == "completions" else rest
    else:
        rest = reference
    rest = re.sub(r"^(us|eu|apac|global)\.", "", rest)  # Bedrock's names: us.deepseek.r1-v1:0
    org, dot, after = rest.partition(".")
    if dot and org in _MAKERS and "/" not in org:
        rest = f"{org}/{after}"
    *before, name = rest.removesuffix(".gguf").strip("/").split("/")
    org = before[-1] if before and not rest.endswith(".gguf") else ""
    if org in _MAKERS:
        return _MAKERS[org], name, True
    if org and org not in _PACKAGERS:
        return "", name, False
    return maker or next((m for m, own in _OWN_NAMES if own.match(name)), ""), name, True


def _spellings(name: str) -> list[str]:
    """The name as given, and without what servers and quantisers add, piece by piece."""
    found = [name]
    while (shorter := _ADDED.sub("", found[-1])) != found[-1]:
        found.append(shorter)
    return found
