"""What a reply costs: prices with tiers, from a file of the user's own, else from the genai-prices package."""

from __future__ import annotations

import datetime
import tomllib
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from s1kit.errors import InputError, first_line
from s1kit.providers.catalog import Model
from s1kit.records import Record, Usage

MILLION = 1_000_000
BATCH_FACTOR = {"openai": 0.5, "anthropic": 0.5, "gemini": 0.5}
"""Discount of the batch APIs. Sources: platform.openai.com/docs/guides/batch,
platform.claude.com/docs/en/build-with-claude/batch-processing, ai.google.dev/gemini-api/docs/batch-api (2026-11)."""
_PROVIDERS = {"gemini": "google", "vertex": "google", "bedrock": "aws"}
"""Names that genai-prices has for ours, where they differ."""


class Tier(Record):
    """Prices of a request whose input is longer than a threshold: they hold for all of its tokens."""

    above: int = Field(gt=0)
    """Tokens of input."""
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)


SMALLEST = 1e-4
"""Dollars for a million tokens below which no model sells: such a price was meant for one token."""


class Price(Record):
    """A model's price in dollars per million tokens."""

    provider: str = "*"
    model: str = "*"
    """A pattern, `*` for anything."""
    input: float = Field(ge=0)
    output: float = Field(ge=0)
    """Thinking counts as output with every provider."""
    cached: float | None = Field(default=None, ge=0)
    """Input read from the provider's prefix cache; None: as other input."""
    batch: float = Field(default=1.0, ge=0, le=1)
    """Factor of the batch API."""
    tiers: list[Tier] = Field(default_factory=list)
    """Dearer prices of long inputs."""
    source: str = ""
    date: datetime.date | None = None

    def cost(self, usage: Usage, *, is_batch: bool = False) -> float:
        """Dollars for one reply.

        >>> Price(input=0.55, output=2.19).cost(Usage(input_tokens=1000, output_tokens=5000))
        0.0115
        """
        if self is FREE:
            return 0.0
        applied: Price | Tier = self
        for tier in sorted(self.tiers, key=lambda t: t.above):
            if usage.input_tokens > tier.above:
                applied = tier
        cached = applied.input if applied.cached is None else applied.cached
        fresh = usage.input_tokens - usage.cached_input_tokens
        dollars = fresh * applied.input + usage.cached_input_tokens * cached + usage.output_tokens * applied.output
        return round(dollars * (self.batch if is_batch else 1.0) / MILLION, 9)


FREE = Price(input=0, output=0, source="free")


def price_of(model: Model, *, setting: str | dict[str, float] = "", prices_path: str = "") -> Price | None:
    """What a model costs; None when the setting says that it is unknown.

    `setting` is empty (look it up), "unknown", "free", or `{input, output, cached}` in dollars per million tokens. A
    server of one's own is free unless told otherwise. Raises InputError for a model without a price: a run whose cost
    nobody knows must be asked for.
    """
    if isinstance(setting, dict):
        if small := next((name for name, value in setting.items() if 0 < value < SMALLEST), ""):
            raise InputError(
                f"the price of {small} is ${setting[small]:g} for a million tokens",
                where="distill.price",
                fix=f"Prices are for a million tokens: {small}={setting[small] * MILLION:g}, if it was for one token.",
            )
        try:
            return Price.model_validate(setting | {"source": "distill.price"})
        except ValidationError as error:
            raise InputError(
                f"the price {setting} cannot be used: {error.errors()[0]['msg'].lower()}",
                where="distill.price",
                fix="Give input and output, in dollars per million tokens.",
            ) from error
    if setting == "unknown":
        return None
    if setting == "free":
        return FREE
    if setting:
        raise InputError(
            f"the price is {setting!r}", where="distill.price", fix='Give "unknown", "free" or {input=..., output=...}.'
        )
    for entry in _read_table(Path(prices_path)) if prices_path else ():
        if fnmatchcase(model.kind, entry.provider) and fnmatchcase(model.name, entry.model):
            return entry
    if (found := published_price(model)) is not None:
        return found
    raise InputError(
        f"the price of {model.reference} is not in the table",
        where="distill.price",
        fix="Give distill.price={input=..., output=...} in dollars per million tokens, or distill.price=unknown.",
    )


def published_price(model: Model, now: datetime.datetime | None = None) -> Price | None:
    """The price in the genai-prices package: aliases and dated snapshots resolve, and it is the one of this day.

    An address that no provider of that package has is a server of the user's own, and free. The dearest price of the
    day counts where it depends on the hour, so that a cap holds.
    """
    if model.kind == "compatible":
        provider = _find_provider(None, model.base_url)
        if provider is None:
            return FREE
    else:
        provider = _find_provider(_PROVIDERS.get(model.kind, model.kind), None)
    if provider is None:
        return None
    name, _, variant = model.name.partition(":") if model.kind == "openrouter" else (model.name, "", "")
    if variant == "free":
        return FREE
    try:
        _, found = _snapshot().find_provider_model(name, provider, None, None)
    except LookupError:
        return None
    now = now or datetime.datetime.now(datetime.UTC)
    hours = [now.replace(hour=hour, minute=30) for hour in range(24)]
    prices = [_price(found.get_prices(hour)) for hour in hours]
    priced = [price for price in prices if price is not None]
    if not priced:
        return None
    dearest = max(priced, key=lambda price: (price.output, price.input))
    urls = provider.pricing_urls or [""]
    source = f"{urls[0]}, by genai-prices {version('genai-prices')}"
    extra = {"batch": BATCH_FACTOR.get(model.kind, 1.0), "source": source}
    return dearest.model_copy(update={**extra, "provider": model.kind, "model": found.id})


@cache
def _snapshot() -> Any:
    # A megabyte of tables: read when a price is asked for, not when a command starts.
    from genai_prices.data_snapshot import get_snapshot

    return get_snapshot()


def _find_provider(name: str | None, url: str | None) -> Any:
    try:
        return _snapshot().find_provider(None, name, url)
    except LookupError:
        return None


def _price(published: Any) -> Price | None:
    """A price of genai-prices as ours; None where it lacks one for input or output."""
    names = {"input": "input_mtok", "output": "output_mtok", "cached": "cache_read_mtok"}
    values = {ours: getattr(published, theirs, None) for ours, theirs in names.items()}
    if values["input"] is None or values["output"] is None:
        return None
    starts = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})

    def at(value: Any, tokens: int) -> float | None:
        if value is None or isinstance(value, int | float | Decimal):
            return None if value is None else float(value)
        applied = [tier.price for tier in value.tiers if tokens > tier.start]
        return float(applied[-1] if applied else value.base)

    tiers = [{"above": s} | {name: at(value, s + 1) for name, value in values.items()} for s in starts if s > 0]
    return Price.model_validate({name: at(value, 0) for name, value in values.items()} | {"tiers": tiers})


def _read_table(path: Path) -> tuple[Price, ...]:
    try:
        text = path.read_text(encoding="utf-8")
        return tuple(Price.model_validate(entry) for entry in tomllib.loads(text).get("price", []))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(
            f"the price table cannot be read: {first_line(error)}",
            where=str(path),
            fix="Write [[price]] entries with provider, model, input and output.",
        ) from error
