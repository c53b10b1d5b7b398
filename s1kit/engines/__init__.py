"""Something that decodes. `load_engine` turns a model reference into one; each adapter imports its library lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from s1kit.errors import InputError
from s1kit.records import Generation, Segment
from s1kit.request import Request

OnSegment = Callable[[int, Segment], None]
"""Called with the request's position in the iterable and the next run of tokens, as soon as they are there."""

SCHEMES = (
    "hf:<dir or Hub id>",
    "vllm:<dir or Hub id>",
    "llama.cpp:<file.gguf>",
    "completions:<base URL>#<model>",
    "tiny",
)


class Engine(Protocol):
    """Decodes requests, each under its own budget."""

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields one generation a request, as they finish. Raises InputError on a request it cannot honour exactly."""
        ...


def load_engine(model: str, **options: object) -> Engine:
    """The engine for a model reference such as `hf:path`, `llama.cpp:file.gguf` or `tiny`.

    Raises InputError for an unknown scheme and MissingExtra when the engine's library is not installed.
    """
    scheme, _, rest = model.partition(":")
    raise InputError(
        f"no engine knows the model {model!r}", where=f"{scheme}:{rest}", fix=f"Known: {', '.join(SCHEMES)}."
    )
