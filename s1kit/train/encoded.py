"""Samples as token ids with a loss mask. What cannot be trained on is refused here, before anything expensive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from s1kit.errors import InputError
from s1kit.forcing.formats import ThinkingFormat, Tokenizer
from s1kit.forcing.token_format import TokenFormat
from s1kit.records import Sample, Trace

TOO_LONG = "too_long"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One sample, rendered and tokenised."""

    id: str
    """The question's id."""
    ids: tuple[int, ...]
    num_prompt: int
    """Leading ids without loss: the question and the opening delimiter. All others are learned."""

    @property
    def num_learned(self) -> int:
        """How many ids have a loss."""
        return len(self.ids) - self.num_prompt

    def __len__(self) -> int:
        return len(self.ids)


def check_format(tokenizer: Tokenizer, fmt: ThinkingFormat) -> None:
    """Raises InputError when the tokenizer lacks the format's delimiters, or splits the one that ends thinking."""
    fmt.token_id(tokenizer, fmt.answer_end)
    tokens = TokenFormat(fmt, tokenizer)
    if tokens.trigger_id is None:
        first = fmt.end.strip()
        raise InputError(
            f"the tokenizer splits {first!r}, which ends thinking, into {len(tokens.end_ids)} ordinary tokens",
            where=f"train.format={fmt.name}",
            fix="Choose the thinking format of this model's family, or add the delimiter to the tokenizer as a token.",
        )


def check_terms(traces: Sequence[Trace], acknowledge_terms: str) -> None:
    """Raises InputError for traces whose teacher does not plainly permit training, unless the reason is given.

    Terms that forbid it, that set conditions for the trained model, and that are not known each need the reason.
    """
    if acknowledge_terms:
        return
    verbs = {
        "forbids": "forbid training other models on them",
        "conditions": "bind a model trained on them to conditions",
        "unknown": "are not known",
    }
    for terms, verb in verbs.items():
        if bound := [trace for trace in traces if trace.terms == terms]:
            teachers = ", ".join(sorted({trace.teacher for trace in bound}))
            raise InputError(
                f"{len(bound)} traces come from {teachers}, whose terms {verb}",
                where=f"first: question {bound[0].question.id}",
                fix='Take another teacher, or say why you may with train.acknowledge_terms="...".',
            )


def encode_samples(
    samples: Iterable[Sample], fmt: ThinkingFormat, tokenizer: Tokenizer, max_length: int, drop_too_long: bool
) -> tuple[list[Encoded], list[tuple[Sample, str]]]:
    """The samples as ids, and those that are too long with the evidence.

    Raises InputError, naming the question's id, for an empty trace, a missing answer, or (unless `drop_too_long`) a
    sample of more than `max_length` tokens: nothing is ever truncated.
    """
    check_format(tokenizer, fmt)
    kept: list[Encoded] = []
    dropped: list[tuple[Sample, str]] = []
    for sample in samples:
        trace = sample.trace
        for name, text in (("thinking", trace.thinking), ("answer", trace.answer)):
            if not text.strip():
                raise InputError(
                    f"the {name} is empty",
                    where=f"question {trace.question.id}",
                    fix='Add "complete" to curate.quality and curate again.',
                )
        rendered = fmt.training_ids(tokenizer, trace.question.text, trace.thinking, trace.answer)
        if len(rendered.ids) <= max_length:
            kept.append(Encoded(trace.question.id, tuple(rendered.ids), rendered.loss_mask.index(True)))
        elif drop_too_long:
            dropped.append((sample, f"{len(rendered.ids)} tokens, above {max_length}"))
        else:
            raise InputError(
                f"the sample has {len(rendered.ids)} tokens, above train.max_length={max_length}",
                where=f"question {trace.question.id}",
                fix=f"Raise train.max_length to {len(rendered.ids)} or more, or set train.drop_too_long=true.",
            )
    if not kept:
        raise InputError(
            "there is no sample to train on", where="samples", fix="Look at what the stages before dropped."
        )
    return kept, dropped
