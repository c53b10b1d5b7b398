"""A completions server as a backend: `flow` decides, this streams.

    vllm        ids in, ids out, stops at ids: token-exact
    sglang      ids in, text out
    llama.cpp   text in, text out
    plain       text in, text out, and OpenAI's own fields alone: any other completions server

What comes back as text is tokenised again, so token boundaries may move there; replies then say `seam: text`.
"""

from __future__ import annotations

from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

from s1kit.errors import InputError
from s1kit.forcing.formats import encode
from s1kit.forcing.repetition import CHECK_EVERY, first_loop
from s1kit.forcing.segment_driver import Complete, Completed, flow
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Generation, Segment, SegmentKind
from s1kit.serve.decoding import Delta, End, Job
from s1kit.serve.refusals import Refusal
from s1kit.serve.wire import CompletionsServer, Piece


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a kind of server understands."""

    name: str
    takes_ids: bool
    """Prompts as token ids, and `stop_token_ids`."""
    returns_ids: bool
    """`return_token_ids`, and which id stopped it."""
    features: frozenset[str]


DIALECTS = {
    d.name: d
    for d in (
        Dialect("vllm", True, True, frozenset({"logprobs", "min_p", "response_format", "top_k"})),
        Dialect("sglang", True, False, frozenset({"logprobs", "min_p", "response_format", "top_k"})),
        Dialect("llama.cpp", False, False, frozenset({"logprobs", "min_p", "response_format", "top_k"})),
        Dialect("plain", False, False, frozenset({"logprobs"})),
    )
}


class Upstream:
    """Decodes jobs by asking a completions server, segment by segment."""

    def __init__(
        self,
        server: CompletionsServer,
        model: str,
        tokens: TokenFormat,
        context_tokens: int,
        dialect: Dialect,
        upstream_model: str | None = None,
    ) -> None:
        self.server = server
        self.upstream_model = upstream_model or model
        self.model = model
        self.tokens = tokens
        self.context_tokens = context_tokens
        self.dialect = dialect
        self.features = dialect.features
        self._own_bos = ""
        """What a server of text puts before every prompt, so that we must not."""
        self._knows_bos = dialect.takes_ids or not tokens.bos
        if not dialect.takes_ids:
            _check_visible(tokens, dialect)

    async def check(self) -> str:
        try:
            await self.server.get_json("/v1/models")
        except Refusal as refusal:
            return refusal.message
        return ""

    async def close(self) -> None:
        await self.server.close()

    async def decode(self, job: Job) -> AsyncGenerator[list[Delta] | End, None]:
        if not self._knows_bos:
            await self._learn_bos()
        shown: list[Segment] = []
        thought: list[int] = []
        steps = flow(job.plan, show=shown.append)
        reply: Completed | None = None
        while True:
            try:
                ask = next(steps) if reply is None else steps.send(reply)
            except StopIteration as done:
                generation: Generation = done.value
                if forced := _forced(shown):
                    yield forced
                is_cut = generation.answer_finish in ("length", "none")
                yield End(generation.ending if job.plan.thinks else None, "length" if is_cut else "stop", self.seam)
                return
            if forced := _forced(shown):
                yield forced
            thought += [i for s in shown if s.kind in ("thinking", "wait") for i in s.token_ids]
            shown.clear()
            run = _Run(self, job, ask, thought)
            async with aclosing(run.deltas()) as deltas:
                async for delta in deltas:
                    yield [delta]
            reply = run.completed()

    def text_of(self, context: Sequence[int]) -> str:
        """A prompt as text."""
        return self.tokens.decode(context).removeprefix(self._own_bos)

    async def _learn_bos(self) -> None:
        tokens = self.tokens
        found = await self.server.count_tokens({"model": self.upstream_model, "prompt": tokens.probe})
        if found == len(encode(tokens.tokenizer, tokens.probe)) + 1:
            self._own_bos = tokens.bos
        self._knows_bos = True

    @property
    def seam(self) -> Literal["ids", "text"]:
        return "ids" if self.dialect.takes_ids and self.dialect.returns_ids else "text"


class _Run:
    """One completion that `flow` asked for, shown while it comes."""

    def __init__(self, upstream: Upstream, job: Job, ask: Complete, thought: Sequence[int] = ()) -> None:
        self._upstream, self._job, self._ask = upstream, job, ask
        self._before = list(thought)
        self._ids = array("q")
        self._text = ""
        self._held = ""
        """The end of the text where a character is not complete."""
        self._stop_id: int | None = None
        self._stop_text: str | None = None
        self._guards = ask.is_thinking and job.plan.request.loop_guard
        self._next_look = _next_look(len(self._before))
        self._is_over = False
        self._stop_texts = ask.stop_texts
        self._reopening = ""
        """What an answer that thinks again begins with, where the server cannot be told to stop at its id."""
        if not upstream.dialect.takes_ids:
            tokens = upstream.tokens
            if ask.is_thinking:
                self._stop_texts = (tokens.format.end.rstrip(),)
            elif tokens.reopen_id in ask.stop_ids:
                self._reopening = tokens.decode([tokens.reopen_id])

    @property
    def is_full(self) -> bool:
        """Whether it ran to the tokens it was allowed."""
        return self._stop_id is None and self._stop_text is None

    def completed(self) -> Completed:
        return Completed(tuple(self._ids), self._stop_id, self._stop_text)

    async def deltas(self) -> AsyncGenerator[Delta, None]:
        """The text as it comes. Raises Refusal."""
        read = self._read_ids if self._upstream.dialect.returns_ids else self._read_text
        while not self._is_over:
            pieces = self._upstream.server.stream(self._body())
            async with aclosing(pieces):
                async for piece in pieces:
                    delta = read(piece)
                    if delta.num_tokens or delta.text:
                        yield delta
                    if self._is_over:
                        break

    def _body(self) -> dict[str, Any]:
        ask, job, upstream = self._ask, self._job, self._upstream
        body: dict[str, Any] = {
            "model": upstream.upstream_model,
            "max_tokens": ask.max_tokens - len(self._ids),
            "stream": True,
            **job.sampling,
        }
        if "seed" in body:
            body["seed"] = ask.request_seed
        if self._stop_texts:
            body["stop"] = list(self._stop_texts)
        context = [*ask.context, *self._ids]
        if upstream.dialect.takes_ids:
            body |= {"prompt": context, "stop_token_ids": sorted(ask.stop_ids)}
            body |= {"skip_special_tokens": False, "spaces_between_special_tokens": False}
        else:
            body["prompt"] = upstream.text_of(context)
        if upstream.dialect.returns_ids:
            body["return_token_ids"] = True
        if not ask.is_thinking:
            if job.logprobs is not None:
                body["logprobs"] = job.logprobs
            if job.response_format is not None:
                body["response_format"] = dict(job.response_format)
        return body

    def _read_ids(self, piece: Piece) -> Delta:
        """A piece of a server that says which ids it sampled."""
        ids, logprobs = piece.ids, piece.logprobs
        if piece.finish_reason is not None:
            self._is_over = True
            if ids and ids[-1] in self._ask.stop_ids:
                self._stop_id = ids.pop()
                logprobs = logprobs[: len(ids)]
            elif isinstance(piece.stop_reason, str):
                self._stop_text = piece.stop_reason
            elif piece.finish_reason != "length":
                self._stop_id = (
                    piece.stop_reason if piece.stop_reason is not None else min(self._upstream.tokens.eos_ids)
                )
        room = self._ask.max_tokens - len(self._ids)
        if len(ids) > room or (self._is_over and self.is_full and len(ids) < room):
            what = (
                f"{len(self._ids) + len(ids)} tokens where {self._ask.max_tokens} were asked for, and no reason to stop"
            )
            raise Refusal(502, f"the upstream {self._upstream.server.url} sent {what}.", code="upstream")
        text = self._held + piece.text
        if (cut := self._loop_within(ids)) is not None:
            del ids[cut:]
            text = self._held + self._upstream.tokens.decode(list(ids))
            # `flow` finds the loop in the ids; the text only says that the completion did not run full.
            self._is_over, self._stop_id, self._stop_text = True, None, "loop"
        self._ids.extend(ids)
        return Delta(
            "thinking" if self._ask.is_thinking else "answer", "sampled", self._whole(text), len(ids), tuple(logprobs)
        )

    def _read_text(self, piece: Piece) -> Delta:
        """A piece of a server that only sends text; its tokens are counted when the completion is over."""
        self._text += piece.text
        shown, num_tokens = self._held + piece.text, 0
        is_reopened = bool(self._reopening) and self._reopening in shown
        if is_reopened or piece.finish_reason is not None:
            before, room = len(self._ids), self._ask.max_tokens - len(self._ids)
            whole = self._text.partition(self._reopening)[0] if is_reopened else self._text
            new = self._upstream.tokens.encode_after(whole)
            self._ids.extend(new[:room])
            self._text, num_tokens = "", len(self._ids) - before
            is_cut = piece.finish_reason == "length" and not is_reopened
            self._is_over = not is_cut or len(self._ids) == self._ask.max_tokens or not num_tokens
            if is_reopened:
                self._stop_id = self._upstream.tokens.reopen_id
                shown = shown.partition(self._reopening)[0]
            elif not is_cut or not num_tokens:
                self._note_text_stop(piece)
        kind: SegmentKind = "thinking" if self._ask.is_thinking else "answer"
        return Delta(kind, "sampled", self._whole(shown), num_tokens, tuple(piece.logprobs))

    def _note_text_stop(self, piece: Piece) -> None:
        if isinstance(piece.stop_reason, int):
            self._stop_id = piece.stop_reason
        elif isinstance(piece.stop_reason, str):
            self._stop_text = piece.stop_reason
        elif self._stop_texts:
            # Whether it was this or the end of the sequence is not said; while thinking both are an attempt to stop.
            self._stop_text = self._stop_texts[0]
        else:
            self._stop_id = min(self._upstream.tokens.eos_ids)

    def _loop_within(self, ids: Sequence[int]) -> int | None:
        """How many of the new ids there are when thinking is seen to repeat itself."""
        if not self._guards or len(self._before) + len(self._ids) + len(ids) < self._next_look:
            return None
        all_ids = [*self._before, *self._ids, *ids]
        start, least = len(all_ids) - len(ids), self._job.plan.budget.min_tokens
        self._next_look = _next_look(len(all_ids))
        length = first_loop(all_ids, start, least)
        return None if length is None or length == self._ask.max_tokens + len(self._before) else length - start

    def _whole(self, text: str) -> str:
        """`text` up to its last complete character, and up to what may be the beginning of thinking again.

        The rest waits for what comes next; half a character is lost at the end.
        """
        whole = text.rstrip("\ufffd")
        if self._reopening and not self._is_over:
            longest = min(len(self._reopening) - 1, len(whole))
            held = next((n for n in range(longest, 0, -1) if whole.endswith(self._reopening[:n])), 0)
            whole = whole[: len(whole) - held]
        self._held = text[len(whole) :]
        return whole


def _next_look(num_tokens: int) -> int:
    return (num_tokens // CHECK_EVERY + 1) * CHECK_EVERY


def _forced(shown: Sequence[Segment]) -> list[Delta]:
    """The deltas of what was not sampled in a completion: what the server put in, and delimiters."""
    return [
        Delta(s.kind, s.origin, s.text, s.num_tokens)
        for s in shown
        if s.origin == "forced" or s.kind in ("open", "close")
    ]


def _check_visible(tokens: TokenFormat, dialect: Dialect) -> None:
    """A server that only sends text must show the delimiter in it."""
    if not tokens.format.thinks:
        return
    added = getattr(tokens.tokenizer, "added_tokens_decoder", {})
    first = added.get(tokens.end_ids[0])
    if first is not None and getattr(first, "special", False):
        raise InputError(
            f"a server of kind {dialect.name} does not show the end of thinking of format {tokens.format.name!r}, "
            "which begins with a special token",
            where="--upstream-kind",
            fix="Put the dial in front of vLLM or SGLang, or serve the model in this process with --model.",
        )
