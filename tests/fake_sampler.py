"""A model without weights: the next token is a pure function of a seed and the context."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from s1kit.forcing.formats import ThinkingFormat
from s1kit.forcing.plan import Plan
from s1kit.forcing.segment_driver import Complete, Completed, drive_segments
from s1kit.forcing.token_driver import TokenDriver
from s1kit.records import Generation, Segment

Sample = Callable[[Sequence[int]], int]


class LetterTokenizer:
    """One id a character, except the delimiters that are given, each one id."""

    chat_template = "built in"
    eos_token_id = 0

    def __init__(self, specials: Sequence[str]) -> None:
        self.specials = ["<eos>", *specials]
        self.letters = "abcdefghijklmnopqrstuvwxyz \n<>/|_:WTFA.?0123456789-"

    @property
    def added_tokens_decoder(self) -> dict[int, str]:
        return dict(enumerate(self.specials))

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        ids = []
        while text:
            special = next((s for s in self.specials if text.startswith(s)), None)
            if special is not None:
                ids.append(self.specials.index(special))
                text = text[len(special) :]
            else:
                ids.append(len(self.specials) + self.letters.index(text[0]))
                text = text[1:]
        return ids

    def decode(self, ids: Any, *, skip_special_tokens: bool = False) -> str:
        return "".join(
            self.specials[i] if i < len(self.specials) else self.letters[i - len(self.specials)] for i in ids
        )

    def get_vocab(self) -> dict[str, int]:
        return {t: i for i, t in enumerate([*self.specials, *self.letters])}

    def apply_chat_template(self, conversation: Any, **kwargs: Any) -> str:
        return "".join(m["content"] for m in conversation)


ONE_TOKEN = ThinkingFormat(name="one", open="<think>", end="</think>", lead="", closing_phrase="F:", answer_end="<eos>")
WITH_LEAD = ThinkingFormat(name="lead", open="<think>\n", end="</think>\n", closing_phrase="F:", answer_end="<eos>")
SEVERAL = ThinkingFormat(
    name="s1", open="<|s|>t\n", end="<|s|>a\n", closing_phrase="F:", answer_end="<eos>", answer_stops=("<|s|>",)
)
SPELLED = ThinkingFormat(name="spelled", open="<t>", end="</t>\n", closing_phrase="F:", answer_end="<eos>")
SPECIALS = {"one": ("<think>", "</think>"), "lead": ("<think>", "</think>"), "s1": ("<|s|>",), "spelled": ()}


def sampler(seed: int, plan: Plan, stop_rate: float, spell: Sequence[int] = ()) -> Sample:
    """Draws from a few letters, stops and delimiters; `spell` is written out id by id when it was begun."""
    tokens = plan.tokens
    letters = tokens.tokenizer.encode("ab\nW", add_special_tokens=False)
    specials = [*tokens.thinking_stop_ids, *tokens.answer_stop_ids]
    if tokens.reopen_id is not None:
        specials.append(tokens.reopen_id)

    def sample(context: Sequence[int]) -> int:
        random = Random(f"{seed}:{list(context)}")
        for length in range(len(spell) - 1, 0, -1):
            if list(context[-length:]) == list(spell[:length]) and random.random() < 0.8:
                return spell[length]
        if random.random() < stop_rate:
            return random.choice([*specials, *spell[:1]])
        return random.choice(letters)

    return sample


def by_rows(plan: Plan, sample: Sample, shown: list[Segment] | None = None) -> Generation:
    """The transcript of the token-level driver."""
    row = TokenDriver(plan)
    context = list(row.start())
    while not row.is_done:
        ids = row.push(sample(context))
        if row.drop:
            del context[-row.drop :]
        context += ids
        if shown is not None:
            shown += row.new_segments()
    return row.generation()


def by_flow(plan: Plan, sample: Sample, shown: list[Segment] | None = None) -> Generation:
    """The transcript of the segment-level driver, over a server that completes with the same model."""
    steps = drive_segments(plan, shown.append if shown is not None else None)
    ask = next(steps)
    while True:
        try:
            ask = steps.send(complete(ask, sample, plan))
        except StopIteration as done:
            generation: Generation = done.value
            return generation


def complete(ask: Complete, sample: Sample, plan: Plan) -> Completed:
    """What a completions server does: at most so many tokens, stopping at ids and strings, which it leaves out."""
    ids: list[int] = []
    while len(ids) < ask.max_tokens:
        token = sample([*ask.context, *ids])
        if token in ask.stop_ids:
            return Completed(tuple(ids), stop_id=token)
        ids.append(token)
        text = plan.tokens.decode(ids)
        for stop in ask.stop_texts:
            if text.endswith(stop):
                kept = ids
                if plan.tokens.trigger_id is None and stop == plan.tokens.format.end.rstrip():
                    kept = ids[: -len(plan.tokens.match_ids)]
                return Completed(tuple(kept), stop_text=stop)
    return Completed(tuple(ids))
