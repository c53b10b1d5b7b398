"""Plans: a request resolved against a tokenizer and a context. Whatever cannot be honoured exactly is refused here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from s1kit.errors import InputError
from s1kit.forcing.budget import UNLIMITED, ThinkingBudget
from s1kit.forcing.request import Request
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Segment


@dataclass(frozen=True, slots=True)
class Phrase:
    """Text that may be forced, and its ids."""

    text: str
    ids: tuple[int, ...]
    line_ids: tuple[int, ...] = ()
    """The ids of a wait where a line must be ended first. A wait that the request gives is put in as it is."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One request, ready to be decoded."""

    request: Request
    tokens: TokenFormat
    prompt_ids: tuple[int, ...]
    """Everything before the first thinking token, the opening delimiter included."""
    budget: ThinkingBudget
    """What applies: the request's, its maximum lowered to the room that prompt and answer leave."""
    waits: tuple[Phrase, ...]
    """Used in turn."""
    closing: Phrase
    prefix: tuple[Segment, ...]
    """Thinking that is given, already cut to its length."""
    thinks: bool = True
    """False: the prompt is continued as it is, with no thinking and no delimiters; all of it is answer."""
    completion_tokens: int | None = None
    """Bounds thinking, delimiters and answer together: what thinking leaves, the answer may take. None: `answer_tokens`
    alone bounds the answer."""
    lowered_from: int | None = None
    """The maximum of thinking tokens that was asked for, where the room allowed only fewer (`budget.max_tokens`)."""
    answer_lowered_from: int | None = None
    """The same of the tokens of an answer without thinking (`request.answer_tokens`)."""

    @property
    def note(self) -> str:
        """How what applies differs from what was asked, for the generation; empty where it does not."""
        if self.lowered_from is not None:
            return f"max_tokens {self.lowered_from} was lowered to {self.budget.max_tokens}, the room there is"
        if self.answer_lowered_from is not None:
            now = self.request.answer_tokens
            return f"answer_tokens {self.answer_lowered_from} was lowered to {now}, the room there is"
        return ""

    @property
    def prefix_ids(self) -> list[int]:
        """Token ids of the thinking that is given."""
        return [i for segment in self.prefix for i in segment.token_ids]

    @property
    def least_tokens(self) -> int:
        """Tokens that the context comes to for certain, where thinking is not ended before."""
        return len(self.prompt_ids) + self.budget.min_tokens

    @property
    def total_tokens(self) -> int:
        """The most tokens the context can grow to, a re-opened thinking aside."""
        tokens, given = self.tokens, self.request.prefix
        if not self.thinks:
            return len(self.prompt_ids) + self.request.answer_tokens
        if self.completion_tokens is not None:
            return len(self.prompt_ids) + self.completion_tokens
        is_over = given is not None and given.ending is not None
        thinking = sum(s.num_tokens for s in self.prefix) if is_over else self.budget.max_tokens
        delimiter = len(tokens.lead_ids) + len(tokens.end_ids)
        return len(self.prompt_ids) + thinking + delimiter + self.request.answer_tokens


def make_plan(
    request: Request, tokens: TokenFormat, context_tokens: int, prompt_ids: Sequence[int] | None = None
) -> Plan:
    """Resolve and check a request for an engine whose context holds `context_tokens`.

    `prompt_ids` is a prompt that was rendered before, the opening delimiter included; None: that of the question.
    Raises InputError, naming the field, its value and the repair, on whatever could not be honoured exactly.
    """
    prompt = prompt_ids
    if prompt is None:
        prompt = tokens.format.prompt_ids(tokens.tokenizer, request.question, request.system, request.messages)
    if not tokens.format.thinks:
        return _plan_direct(request, tokens, tuple(prompt), context_tokens)
    waits = _waits(request, tokens)
    phrase = tokens.format.closing_phrase if request.closing_phrase is None else request.closing_phrase
    closing = Phrase(phrase, tokens.phrase_ids(phrase, "request.closing_phrase"))
    if len(closing.ids) >= request.answer_tokens:
        raise InputError(
            f"answer_tokens is {request.answer_tokens}, and the closing phrase {phrase!r} takes {len(closing.ids)}",
            where="request.answer_tokens",
            fix=f"Give {len(closing.ids) + 1} or more.",
        )
    budget = _budget(request, tokens, len(prompt), context_tokens)
    asked = request.budget.max_tokens if request.budget is not None else UNLIMITED
    lowered_from = asked if budget.max_tokens < asked != UNLIMITED else None
    prefix = _prefix(request, tokens, budget)
    return Plan(request, tokens, tuple(prompt), budget, waits, closing, prefix, lowered_from=lowered_from)


def _plan_direct(request: Request, tokens: TokenFormat, prompt: tuple[int, ...], context_tokens: int) -> Plan:
    """A plan for a model that does not think, which can be asked for no thinking, but not for some."""
    asked = request.budget
    if request.prefix is not None or (asked is not None and (asked.min_tokens or asked.num_waits)):
        raise InputError(
            "a minimum, waits or a prefix for a model that does not think",
            where="request.budget",
            fix="Leave them out, or load the model with a thinking format.",
        )
    room = context_tokens - len(prompt)
    if room < 1:
        raise InputError(
            f"the prompt is {len(prompt)} tokens long and the context {context_tokens}",
            where="request.question",
            fix=f"Shorten it by at least {1 - room} tokens.",
        )
    lowered_from = request.answer_tokens if request.answer_tokens > room else None
    if lowered_from is not None:
        request = replace(request, answer_tokens=room)
    return Plan(
        request,
        tokens,
        prompt,
        ThinkingBudget(0),
        (),
        Phrase("", ()),
        (),
        thinks=False,
        answer_lowered_from=lowered_from,
    )


def _waits(request: Request, tokens: TokenFormat) -> tuple[Phrase, ...]:
    texts = tokens.format.wait if request.wait is None else request.wait
    phrases = []
    for text in (texts,) if isinstance(texts, str) else texts:
        ids = tokens.phrase_ids(text, "request.wait")
        if not ids:
            what = "the wait is empty" if not text else f"the tokenizer turns the wait {text!r} into nothing"
            raise InputError(what, where="request.wait", fix="Give a text such as 'Wait'.")
        phrases.append(Phrase(text, ids, ids if request.wait is not None else _line_ids(text, ids, tokens)))
    if not phrases:
        raise InputError(
            "the list of waits is empty", where="request.wait", fix="Give at least one text such as 'Wait'."
        )
    return tuple(phrases)


def _line_ids(text: str, ids: tuple[int, ...], tokens: TokenFormat) -> tuple[int, ...]:
    """A format's own wait begins on a line of its own where its `lead` ends the line before a stop.

    A model that stops by the end delimiter has learned to write `lead` first. One that stops by end of sequence stops
    anywhere, and "it is 4.Wait" may go on with "er".
    """
    if not tokens.lead_ids or text[:1].isspace():
        return ids
    return (*tokens.encode_after(tokens.format.lead), *tokens.encode_after(text))


def _budget(request: Request, tokens: TokenFormat, prompt_tokens: int, context_tokens: int) -> ThinkingBudget:
    """The request's budget, its maximum no larger than the room there is."""
    delimiter = len(tokens.lead_ids) + len(tokens.end_ids)
    room = context_tokens - prompt_tokens - delimiter - request.answer_tokens
    if prompt_tokens >= context_tokens:
        raise InputError(
            f"the prompt is {prompt_tokens} tokens long and the context {context_tokens}",
            where="request.question",
            fix=f"Shorten it by at least {prompt_tokens - context_tokens + delimiter + request.answer_tokens} tokens.",
        )
    if room < 0:
        raise InputError(
            f"answer_tokens is {request.answer_tokens}, but after a prompt of {prompt_tokens} of {context_tokens} "
            f"tokens and the delimiter there is room for {room + request.answer_tokens}",
            where="request.answer_tokens",
            fix=f"Give {room + request.answer_tokens} or fewer."
            if room + request.answer_tokens > 0
            else "Shorten the prompt.",
        )
    if request.budget is None:
        return ThinkingBudget(room)
    if request.budget.min_tokens > room:
        raise InputError(
            f"min_tokens is {request.budget.min_tokens}, and there is room for {room} thinking tokens",
            where="budget.min_tokens",
            fix=f"Give {room} or less, or fewer answer_tokens.",
        )
    return replace(request.budget, max_tokens=min(request.budget.max_tokens, room))


def _prefix(request: Request, tokens: TokenFormat, budget: ThinkingBudget) -> tuple[Segment, ...]:
    """The request's prefix, cut to its `num_tokens`. Raises InputError where it does not fit the budget."""
    if request.prefix is None:
        return ()
    left = request.prefix.num_tokens
    out: list[Segment] = []
    for segment in request.prefix.segments:
        if segment.kind not in ("thinking", "wait") or len(segment.token_ids) != segment.num_tokens:
            raise InputError(
                f"a segment of kind {segment.kind!r} has {len(segment.token_ids)} of {segment.num_tokens} token ids",
                where="request.prefix",
                fix="Give segments of kind thinking or wait, with their token ids.",
            )
        if left is not None and left < segment.num_tokens:
            ids = segment.token_ids[:left]
            before = out[-1].token_ids[-1:] if out else tokens.open_ids[-1:]
            segment = Segment.of_ids(segment.origin, segment.kind, tokens.decode(ids, before), ids)
        left = None if left is None else left - segment.num_tokens
        if segment.num_tokens:
            out.append(segment)
    total = sum(s.num_tokens for s in out)
    if total > budget.max_tokens:
        raise InputError(
            f"the prefix holds {total} thinking tokens, above max_tokens, which is {budget.max_tokens}",
            where="request.prefix",
            fix=f"Cut it with num_tokens={budget.max_tokens}, or raise max_tokens.",
        )
    return tuple(out)
