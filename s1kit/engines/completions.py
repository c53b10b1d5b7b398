"""The engine `completions:`: any OpenAI-style completions server, driven segment by segment.

    completions:http://localhost:8000/v1#qwen2.5-s1                       the tokenizer is found under the model's name
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint     or given
    completions:http://localhost:8080/v1#model,tokenizer=./checkpoint,context_tokens=4096,num_parallel=4

Where the server takes token ids and returns them (vLLM), ids cross every seam and the generation is exact: `seam` is
`ids`. Where it only knows text (llama.cpp's server, transformers serve), what comes back is tokenised again with the
same tokenizer: counts and bounds hold in its tokens, but token boundaries may move at a seam: `seam` is `text`. Such a
server may also leave unsaid whether the model wrote a stop or ended the sequence; thinking then counts as closed by the
delimiter, and an answer as ended by itself. A format whose delimiters the server would not show is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import httpx

from s1kit.engines.base import OnSegment, Planned
from s1kit.engines.completions_dialect import Mode, ServerFailed, understand
from s1kit.engines.completions_live import Live
from s1kit.engines.completions_wire import Wire
from s1kit.errors import InputError, nearest
from s1kit.forcing.formats import ThinkingFormat, choose_format, load_format
from s1kit.forcing.plan import Plan
from s1kit.forcing.request import Request
from s1kit.forcing.segment_driver import flow
from s1kit.forcing.token_format import TokenFormat
from s1kit.forcing.tokenizer import FileTokenizer, find_folder
from s1kit.forcing.transcript import Transcript
from s1kit.records import Generation, Segment

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
        if not self.wire.server.stops_at_ids:
            _refuse_invisible(self.tokens)

    @property
    def mode(self) -> Mode:
        """What crosses the seams: token ids, or text."""
        return self.wire.server.mode

    def plan(self, request: Request) -> Plan:
        """The request, resolved; InputError when it cannot be honoured."""
        if request.temperature and request.top_k and self.wire.server.dialect == "plain":
            raise InputError(
                f"top_k is {request.top_k}, and the server knows OpenAI's fields only",
                where="request.top_k",
                fix="Leave it out, or use top_p.",
            )
        return super().plan(request)

    def generate(self, requests: Iterable[Request], on_segment: OnSegment | None = None) -> Iterator[Generation]:
        """Yields generations as they finish; a request that the server fails is a generation that says why."""
        plans = [self.plan(r) for r in requests]
        news: SimpleQueue[tuple[int, Segment]] = SimpleQueue()
        with ThreadPoolExecutor(self._num_workers(is_streamed=on_segment is not None)) as pool:
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

    def _num_workers(self, is_streamed: bool) -> int:
        """One where requests would disturb each other.

        transformers serve has one random number generator for all. llama-cpp-python's server breaks off a stream when
        another request comes.
        """
        server = self.wire.server
        is_alone = server.dialect == "transformers" or (is_streamed and server.mode == "text")
        return 1 if is_alone else self.num_parallel

    def _one(self, index: int, plan: Plan, news: SimpleQueue[tuple[int, Segment]] | None) -> Generation:
        shown: list[Segment] = []

        def show(segment: Segment) -> None:
            shown.append(segment)
            # What is sampled was shown while it came.
            if news is not None and (segment.origin == "forced" or segment.kind in ("open", "close")):
                news.put((index, segment))

        def show_live(segment: Segment) -> None:
            assert news is not None
            news.put((index, segment))

        steps = flow(plan, show)
        try:
            ask = next(steps)
            while True:
                thought = [i for s in shown if s.kind in ("thinking", "wait") for i in s.token_ids]
                live = None if news is None else Live(plan, ask, thought, show_live)
                ask = steps.send(self.wire.complete(ask, plan, live))
        except StopIteration as done:
            generation: Generation = done.value
            return generation.model_copy(update={"seam": self.mode})
        except (ServerFailed, httpx.HTTPError, ValueError) as error:
            empty = Transcript(plan).generation()
            note = f"{type(error).__name__}: {error}"[:500]
            update = {"ending": "failed", "note": note, "segments": tuple(shown), "seam": self.mode}
            return empty.model_copy(update=update)


def load(
    reference: str,
    format: str | ThinkingFormat | None = None,
    tokenizer: str | None = None,
    context_tokens: int | None = None,
    mode: Mode | None = None,
    num_parallel: int | None = None,
    timeout: float = 600.0,
) -> CompletionsEngine:
    """Connect to `<base URL>#<model>[,tokenizer=<folder or Hub id>][,context_tokens=N][,num_parallel=N]`.

    `mode`: what crosses the seams; None asks the server. `timeout`: seconds for one completion. Raises InputError.
    """
    url, model, named = _parse(reference)
    folder = find_folder(tokenizer or named.get("tokenizer") or model)
    files = FileTokenizer(folder)
    tokens = TokenFormat(choose_format(format, load_format(folder), files), files, files.more_eos_ids)
    key = os.environ.get(KEY_VARIABLE)
    client = httpx.Client(
        base_url=url,
        timeout=httpx.Timeout(timeout, connect=10.0),
        headers={"Authorization": f"Bearer {key}"} if key else {},
    )
    try:
        wire = Wire(client, model, tokens, understand(client, model, tokens, mode))
        context = context_tokens or _number(named, "context_tokens", reference)
        context = context or wire.context_tokens() or files.model_max_length or 0
        if not 0 < context < 10**8:
            raise InputError(
                "neither the server nor the tokenizer says how long the context is",
                where=f"completions:{reference}",
                fix=f"Give it: completions:{reference},context_tokens=4096 (or what the server was started with).",
            )
        num_parallel = num_parallel or _number(named, "num_parallel", reference) or 32
        return CompletionsEngine(wire, tokens, int(context), num_parallel)
    except InputError:
        client.close()
        raise


_NAMED = ("tokenizer", "context_tokens", "num_parallel")


def _parse(reference: str) -> tuple[str, str, dict[str, str]]:
    """URL, model, and what is named after it."""
    url, _, rest = reference.partition("#")
    model, *more = rest.split(",")
    if not url.startswith(("http://", "https://")) or not model:
        raise InputError(
            f"{reference!r} is not <base URL>#<model>",
            where=f"completions:{reference}",
            fix="Write for example completions:http://localhost:8000/v1#my-model,tokenizer=./checkpoint",
        )
    named = dict(m.partition("=")[::2] for m in more)
    for name in named:
        if name not in _NAMED:
            raise InputError(f"unknown option {name!r}", where=f"completions:{reference}", fix=nearest(name, _NAMED))
    return url.rstrip("/"), model, named


def _number(named: dict[str, str], name: str, reference: str) -> int | None:
    if name not in named:
        return None
    if not named[name].isascii() or not named[name].isdigit() or not int(named[name]):
        raise InputError(f"{name} is {named[name]!r}", where=f"completions:{reference}", fix="Give 1 or more.")
    return int(named[name])


def _refuse_invisible(tokens: TokenFormat) -> None:
    """A server that only sends text leaves special tokens out of it, so a stop could not be seen."""
    added = getattr(tokens.tokenizer, "added_tokens_decoder", {})
    for what, ids in (
        ("the end of thinking", tokens.end_ids[:1]),
        ("an end of the answer", sorted(tokens.answer_stop_ids - tokens.eos_ids)),
    ):
        if any(getattr(added.get(i), "special", False) for i in ids):
            raise InputError(
                f"a server that sends only text does not show {what} of format {tokens.format.name!r}, "
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
