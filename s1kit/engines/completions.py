"""The engine `completions:`: any OpenAI-style completions server, driven segment by segment.

    completions:http://localhost:8000/v1#qwen2.5-s1                       the tokenizer is found under the model's name
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint     or given

Where the server takes token ids and returns them (vLLM), ids cross every seam and the generation is exact: `seam` is
`ids`. Where it only knows text (llama.cpp's server, transformers serve), what comes back is tokenised again with the
same tokenizer: counts and bounds hold in its tokens, but token boundaries may move at a seam: `seam` is `text`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import httpx

from s1kit.engines import OnSegment
from s1kit.engines.completions_wire import Mode, ServerFailed, Wire, probe_mode
from s1kit.engines.planned import Planned
from s1kit.errors import InputError
from s1kit.flow import flow
from s1kit.formats import ThinkingFormat, choose_format, load_format
from s1kit.plan import Plan
from s1kit.records import Generation, Segment
from s1kit.request import Request
from s1kit.tokenizer import FileTokenizer, find_folder
from s1kit.tokens import TokenFormat
from s1kit.transcript import Transcript

KEY_VARIABLE = "S1KIT_COMPLETIONS_KEY"
"""Environment variable with the server's key, where it wants one."""


@dataclass
class CompletionsEngine(Planned):
    """A server, and how to talk to it."""

    wire: Wire
    tokens: TokenFormat
    context_tokens: int
    num_parallel: int = 32
    """Requests under way at once; the server batches them."""

    def __post_init__(self) -> None:
        if self.wire.mode == "text":
            _refuse_invisible(self.tokens)

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish; a request that the server fails is a generation that says why."""
        plans = [self.plan(r) for r in requests]
        news: SimpleQueue[tuple[int, Segment]] = SimpleQueue()
        with ThreadPoolExecutor(self.num_parallel) as pool:
            pending = {pool.submit(self._one, i, p, news if on_segment else None) for i, p in enumerate(plans)}
            try:
                while pending:
                    done, pending = wait(pending, 0.02 if on_segment else None, FIRST_COMPLETED)
                    if on_segment is not None:
                        _drain(news, on_segment)
                    yield from _results(done)
            finally:
                for future in pending:
                    future.cancel()

    def close(self) -> None:
        """Let go of the connections."""
        self.wire.close()

    def _one(self, index: int, plan: Plan, news: SimpleQueue[tuple[int, Segment]] | None) -> Generation:
        shown: list[Segment] = []

        def show(segment: Segment) -> None:
            shown.append(segment)
            if news is not None:
                news.put((index, segment))

        steps = flow(plan, show)
        try:
            ask = next(steps)
            while True:
                ask = steps.send(self.wire.complete(ask, plan))
        except StopIteration as done:
            generation: Generation = done.value
            return generation.model_copy(update={"seam": self.wire.mode})
        except (ServerFailed, httpx.HTTPError, ValueError) as error:
            empty = Transcript(plan).generation()
            note = f"{type(error).__name__}: {error}"[:500]
            update = {"ending": "failed", "note": note, "segments": tuple(shown), "seam": self.wire.mode}
            return empty.model_copy(update=update)


def load(
    reference: str,
    format: str | ThinkingFormat | None = None,
    tokenizer: str | None = None,
    context_tokens: int | None = None,
    mode: Mode | None = None,
    num_parallel: int = 32,
    timeout: float = 600.0,
) -> CompletionsEngine:
    """Connect to `<base URL>#<model>[,tokenizer=<folder or Hub id>]`. Raises InputError.

    `mode`: what crosses the seams; None asks the server. `timeout`: seconds for one completion.
    """
    url, model, named = _parse(reference)
    folder = find_folder(tokenizer or named or model)
    files = FileTokenizer(folder)
    tokens = TokenFormat(choose_format(format, load_format(folder), files), files, files.more_eos_ids)
    key = os.environ.get(KEY_VARIABLE)
    client = httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(timeout, connect=10.0),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )
    wire = Wire(client, model, tokens, mode or probe_mode(client, model, tokens))
    context = context_tokens or wire.context_tokens() or files.model_max_length or 0
    if not 0 < context < 10**8:
        raise InputError(
            "neither the server nor the tokenizer says how long the context is",
            where=f"completions:{reference}",
            fix="Give context_tokens.",
        )
    return CompletionsEngine(wire, tokens, int(context), num_parallel)


def _parse(reference: str) -> tuple[str, str, str | None]:
    """URL, model, and the tokenizer if it is named."""
    url, _, rest = reference.partition("#")
    model, _, named = rest.partition(",tokenizer=")
    if not url.startswith(("http://", "https://")) or not model:
        raise InputError(
            f"{reference!r} is not <base URL>#<model>",
            where=f"completions:{reference}",
            fix="Write for example completions:http://localhost:8000/v1#my-model,tokenizer=./checkpoint",
        )
    return url.rstrip("/"), model, named or None


def _refuse_invisible(tokens: TokenFormat) -> None:
    """A server that only sends text leaves special tokens out of it, so a stop could not be seen."""
    first = getattr(tokens.tokenizer, "added_tokens_decoder", {}).get(tokens.end_ids[0])
    if getattr(first, "special", False):
        raise InputError(
            f"a text-only server does not show the end of thinking of format {tokens.format.name!r}, "
            "which begins with a special token",
            where="completions:",
            fix="Serve the model with vLLM, which takes and returns token ids, or load it with hf: or llama.cpp:.",
        )


def _drain(news: SimpleQueue[tuple[int, Segment]], on_segment: OnSegment) -> None:
    while True:
        try:
            index, segment = news.get_nowait()
        except Empty:
            return
        on_segment(index, segment)


def _results(done: set[Future[Generation]]) -> Iterator[Generation]:
    for future in done:
        yield future.result()
