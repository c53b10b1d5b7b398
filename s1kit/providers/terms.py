"""The terms ledger: may a teacher's output train another model, who says so, and since when."""

from __future__ import annotations

import datetime
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources

from s1kit.records import Record, Terms

_MAKERS = {"google": "gemini", "openai": "openai", "anthropic": "anthropic", "deepseek": "deepseek"}


class TermsEntry(Record):
    """One line of the ledger."""

    provider: str
    model: str
    """A pattern, lower case, `*` for anything."""
    terms: Terms
    text: str
    """The sentence it rests on, quoted or summed up."""
    source: str
    date: datetime.date | None
    """Date of the version that was read; None where it bears none."""

    @property
    def sentence(self) -> str:
        """One line to say before spending.

        >>> terms_of("chat:deepseek/deepseek-reasoner").sentence[:52]
        'deepseek/deepseek-reasoner permits training on its o'
        """
        verb = {"permits": "permits", "forbids": "forbids", "unknown": "says nothing known about"}[self.terms]
        dated = f" ({self.source}, {self.date})" if self.source else ""
        return f"{self.provider}/{self.model} {verb} training on its output: {self.text}{dated}"


@cache
def ledger() -> tuple[TermsEntry, ...]:
    text = (resources.files("s1kit.providers") / "terms.toml").read_text(encoding="utf-8")
    return tuple(TermsEntry.model_validate(entry) for entry in tomllib.loads(text)["terms"])


def terms_of(reference: str) -> TermsEntry:
    """The ledger's entry for a model reference, with the model's own name filled in.

    >>> terms_of("chat:gemini/gemini-2.0-flash-thinking-exp").terms
    'forbids'
    >>> terms_of("chat:http://localhost:8000/v1#deepseek-ai/DeepSeek-R1").terms
    'permits'
    >>> terms_of("hf:/models/mine").terms
    'unknown'
    """
    provider, model = _parts(reference)
    for entry in ledger():
        if fnmatchcase(provider.lower(), entry.provider) and fnmatchcase(model.lower(), entry.model):
            return entry.model_copy(update={"provider": provider, "model": model})
    return TermsEntry(
        provider=provider,
        model=model,
        terms="unknown",
        text="no entry in the ledger; read the provider's terms and the model's licence",
        source="",
        date=None,
    )


def _parts(reference: str) -> tuple[str, str]:
    if reference == "tiny":
        return "s1kit", "tiny"
    scheme, _, rest = reference.partition(":")
    if scheme != "chat":
        return scheme, rest.rpartition("#")[2]
    if "://" in rest:
        return "compatible", rest.partition("#")[2]
    provider, _, model = rest.partition("/")
    # An aggregator serves models under their makers' names, and the maker's terms are what counts.
    maker, _, name = model.partition("/")
    if provider == "openrouter" and maker in _MAKERS:
        return _MAKERS[maker], name
    return provider, model
