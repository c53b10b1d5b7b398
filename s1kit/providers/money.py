"""What a reply costs, and a cap that requests in flight cannot overshoot."""

from __future__ import annotations

import datetime
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import Field, ValidationError

from s1kit.errors import InputError
from s1kit.providers.catalog import Model
from s1kit.records import Record, Usage

MILLION = 1_000_000


class Price(Record):
    """Dollars per million tokens; any decimal."""

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
    above_200k: float = Field(default=1.0, ge=1)
    """Factor for requests with more than 200,000 tokens of input."""
    source: str = ""
    date: datetime.date | None = None

    def cost(self, usage: Usage, *, is_batch: bool = False) -> float:
        """Dollars for one reply.

        >>> Price(input=0.55, output=2.19).cost(Usage(input_tokens=1000, output_tokens=5000))
        0.0115
        """
        cached = self.input if self.cached is None else self.cached
        fresh = usage.input_tokens - usage.cached_input_tokens
        dollars = fresh * self.input + usage.cached_input_tokens * cached + usage.output_tokens * self.output
        factor = (self.batch if is_batch else 1.0) * (self.above_200k if usage.input_tokens > 200_000 else 1.0)
        return round(dollars * factor / MILLION, 9)


FREE = Price(input=0, output=0, source="free")


def price_of(model: Model, *, setting: str | dict[str, float] = "", prices_path: str = "") -> Price | None:
    """What a model costs; None when the setting says that it is unknown.

    `setting` is empty (look it up), "unknown", "free", or `{input, output, cached}` in dollars per million tokens. A
    server of one's own is free unless told otherwise. Raises InputError for a model without a price: a run whose cost
    nobody knows must be asked for.
    """
    if isinstance(setting, dict):
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
    own = _read_table(Path(prices_path).read_text(encoding="utf-8"), prices_path) if prices_path else ()
    for entry in (*own, *price_table()):
        if fnmatchcase(model.kind, entry.provider) and fnmatchcase(model.name, entry.model):
            return entry
    if model.kind == "compatible":
        return FREE
    raise InputError(
        f"the price of {model.reference} is not in the table",
        where="distill.price",
        fix="Give distill.price={input=..., output=...} in dollars per million tokens, or distill.price=unknown.",
    )


@cache
def price_table() -> tuple[Price, ...]:
    text = (resources.files("s1kit.providers") / "prices.toml").read_text(encoding="utf-8")
    return _read_table(text, "s1kit/providers/prices.toml")


def _read_table(text: str, where: str) -> tuple[Price, ...]:
    try:
        return tuple(Price.model_validate(entry) for entry in tomllib.loads(text).get("price", []))
    except (tomllib.TOMLDecodeError, ValidationError) as error:
        raise InputError(
            f"the price table cannot be read: {str(error).splitlines()[0]}",
            where=where,
            fix="Write [[price]] entries with provider, model, input and output.",
        ) from error
