"""Which thinking format a model has, found out from its chat template and its tokenizer.

The template is asked first: a conversation with a reply that holds thinking is rendered, and what stands around the
thinking is the format. Templates that drop earlier thinking are known by their family's tokens, or by the delimiters
that they or the vocabulary name. Then the prompt for a reply is rendered with and without the switches that turn
thinking on, and the one in which thinking is open is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from s1kit.errors import InputError
from s1kit.forcing.delimiters import DELIMITERS
from s1kit.forcing.formats import DIRECT, FORMAT_FILE, FORMATS, ThinkingFormat, Tokenizer, find_format
from s1kit.forcing.switches import check_switches
from s1kit.forcing.thinking_format import TEMPLATE_FAULTS, closed_by, opened_by

_LOGGER = logging.getLogger("s1kit.forcing")
"""A command shows it on standard error; a server puts it among its own lines."""

_QUESTION, _THOUGHT, _ANSWER = "1+1?", "Qthinkingq", "Qansweringq"

_SWITCHES: tuple[dict[str, Any], ...] = (
    {"enable_thinking": True},
    {"thinking": True},
    {"thinking_mode": "enabled"},
)
"""Ways in which templates are asked to leave thinking open; templates ignore what they do not know."""

_LAST_SWITCHES: tuple[dict[str, Any], ...] = ({"reasoning_effort": "high"},)
"""Tried only where thinking is closed without: in most templates it says how much, not whether."""

_FAMILIES = (
    (("</think>", "<｜end▁of▁sentence｜>"), "deepseek-r1"),
    (("</think>", "<|im_end|>"), "qwen3"),
    (("<|channel|>", "<|return|>"), "gpt-oss"),
    (("<channel|>", "<turn|>"), "gemma4"),
    (("[THINK]", "[/THINK]"), "magistral"),
)
"""Families known by tokens of their vocabularies; the whitespace of their delimiters is in `FORMATS`."""


def choose_format(
    given: str | ThinkingFormat | None,
    own: ThinkingFormat | None,
    tokenizer: Tokenizer,
    template: Mapping[str, Any] | None = None,
) -> ThinkingFormat:
    """The format to load a model with: what the caller gave, else what came with the model, else the detected one.

    `template`: switches passed to the chat template. Raises InputError for a switch that it does not have, and where it
    contradicts the format.
    """
    if template:
        named = given if isinstance(given, ThinkingFormat) else find_format(given) if given else own
        source = getattr(tokenizer, "chat_template", None) or (named and named.chat_template)
        check_switches(template, source, "template")
    if isinstance(given, ThinkingFormat):
        return _switched(given, template)
    if given:
        return fit_template(_switched(find_format(given), template), tokenizer)
    if own is not None:
        return fit_template(_switched(own, template), tokenizer) if template else own
    return detect_format(tokenizer, template)


def detect_format(tokenizer: Tokenizer, template: Mapping[str, Any] | None = None) -> ThinkingFormat:
    """The format that a tokenizer and its chat template point to.

    What is assumed rather than found is said in one line, as a warning of the log. Raises InputError, listing the known
    formats, where nothing can be assumed, and where the template's prompt has thinking closed whatever its switches.
    """
    if (written := _as_written(tokenizer, template)) is not None:
        return written
    vocabulary = tokenizer.get_vocab()
    text = _template_text(tokenizer)
    name = next((n for tokens, n in _FAMILIES if all(token in vocabulary for token in tokens)), None)
    found = FORMATS[name] if name else _derived(tokenizer, text, vocabulary)
    if found is None:
        return _switched(_assumed(tokenizer, vocabulary), template)
    fitted = fit_template(_switched(found, template), tokenizer)
    if text and fitted.open.strip() not in text and fitted.end.strip() not in text:
        _say(
            f"thinking format {fitted.name} ({fitted.open.strip()}) is assumed from the vocabulary, the chat template "
            f"writes no thinking; --format {DIRECT} answers plainly"
        )
    return fitted


def fit_template(format: ThinkingFormat, tokenizer: Tokenizer) -> ThinkingFormat:
    """The format with its opening as the chat template's prompt writes it, and with the switch that thinking needs.

    Raises InputError where no known switch leaves thinking open.
    """
    if not format.thinks or not (format.chat_template or getattr(tokenizer, "chat_template", None)):
        return format
    if not format.answer_end:
        format = replace(format, answer_end=_ending(tokenizer, _plain_ending(tokenizer)))
    text, marker = _template_text(tokenizer), format.open.strip()
    refused, neutral = [], None
    for fitted, prompt in _prompts(format, tokenizer, first=marker in text):
        bare = prompt.rstrip()
        if bare.endswith(marker):
            return _spaced(replace(fitted, open=marker + prompt[len(bare) :]))
        if _is_closed(prompt, format) or opened_by(bare) is not None:
            refused.append(bare[-40:])
        elif neutral is None:
            neutral = fitted, prompt
    if neutral is None:
        raise InputError(
            f"the chat template's prompt ends with {refused[0]!r}, with or without its thinking switches",
            where=f"thinking format {format.name!r}",
            fix=f"Use the format {DIRECT!r}, or name the template's own switch in {FORMAT_FILE} under template.",
        )
    return _spaced_as_in(text, *neutral)


def _spaced_as_in(text: str, format: ThinkingFormat, prompt: str) -> ThinkingFormat:
    """The format with the line breaks that a template's text has around its opening; unchanged where it has none.

    `prompt`: what the opening follows.
    """
    written, marker = text.replace("\n", "\\n"), format.open.strip()
    if marker not in written:
        return format
    before = "\n" if f"\\n{marker}" in written and not prompt.endswith("\n") else ""
    after = "\n" if f"{marker}\\n" in written else ""
    return _spaced(replace(format, open=before + marker + after))


@dataclass(frozen=True, slots=True)
class _Reply:
    """A reply with thinking as a template writes it: the text before the thinking, between, and after the answer."""

    before: str
    between: str
    after: str


def _as_written(tokenizer: Tokenizer, template: Mapping[str, Any] | None) -> ThinkingFormat | None:
    """The format in which the chat template writes a reply's thinking; None where it writes none.

    Of the template's switches, those that leave thinking open in the prompt for a reply come first.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    bare = ThinkingFormat(name=DIRECT, open="", end="", template=dict(template or {}))
    neutral = None
    for switched, prompt in _prompts(bare, tokenizer, first=True):
        reply = _written_reply(tokenizer, switched.template)
        if reply is None:
            continue
        opening = _opening(prompt, reply)
        if opening is None:
            continue
        found = _known_as(
            ThinkingFormat(
                name=f"derived {opening.strip()}",
                open=opening,
                lead=reply.between[: len(reply.between) - len(reply.between.lstrip())],
                end=reply.between.lstrip(),
                answer_end=_ending(tokenizer, reply.after),
                template=switched.template,
            )
        )
        if prompt.rstrip().endswith(opening.strip()):
            return found
        if not _is_closed(prompt, found) and neutral is None:
            neutral = found
    return neutral


def _written_reply(tokenizer: Tokenizer, switches: Mapping[str, Any]) -> _Reply | None:
    """A reply with thinking through the template, or None where it does not show the thinking."""
    for names in (("reasoning_content", "reasoning", "thinking"), ("reasoning_content", "reasoning"), ("thinking",)):
        reply = {"role": "assistant", "content": _ANSWER} | dict.fromkeys(names, _THOUGHT)
        chat = [{"role": "user", "content": _QUESTION}, reply]
        try:
            text = str(
                tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False, **dict(switches))
            )
        except TEMPLATE_FAULTS:
            continue
        before, thought, rest = text.partition(_THOUGHT)
        between, answer, after = rest.partition(_ANSWER)
        if thought and answer and between.strip():
            return _Reply(before, between, after)
    return None


def _opening(prompt: str, reply: _Reply) -> str | None:
    """What opens thinking, by how the prompt for a reply ends; None where the prompt has it closed."""
    common = next(
        (n for n, (a, b) in enumerate(zip(prompt, reply.before, strict=False)) if a != b),
        min(len(prompt), len(reply.before)),
    )
    more, written = prompt[common:], reply.before[common:]
    if more.strip():
        between, closing = reply.between.strip(), more.strip()
        is_closed = between.startswith(closing) or closing.startswith(between) or closed_by(closing, _NO_FORMAT)
        return None if is_closed or written.strip() else more
    if written.strip():
        return written
    bare = prompt.rstrip()
    marker = opened_by(bare)
    return None if marker is None else marker + prompt[len(bare) :] + written


_NO_FORMAT = ThinkingFormat(name=DIRECT, open="", end="")


def _known_as(format: ThinkingFormat) -> ThinkingFormat:
    """The format with the name and the further stops of the known format that has the same delimiters, if any."""
    for known in FORMATS.values():
        if all(getattr(known, name) == getattr(format, name) for name in ("open", "lead", "end", "answer_end")):
            return replace(known, template=format.template)
    return format


def _ending(tokenizer: Tokenizer, after: str) -> str:
    """The special token that ends an answer: the first after it, else the tokenizer's end of sequence."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    texts = {str(getattr(token, "content", token)) for token in added}
    eos = getattr(tokenizer, "eos_token", None)
    if isinstance(eos, str):
        texts.add(eos)
    at = {after.index(text): text for text in sorted(texts, key=len) if text and text in after}
    if at:
        return at[min(at)]
    return eos if isinstance(eos, str) else ""


def _prompts(format: ThinkingFormat, tokenizer: Tokenizer, *, first: bool) -> Iterator[tuple[ThinkingFormat, str]]:
    """The format and the prompt for a reply with each of the switches that change it; `first`: thinking on first.

    Raises InputError where the template refuses the prompt without switches.
    """
    chat = [{"role": "user", "content": _QUESTION}]
    plain = format.render(tokenizer, chat)

    def changed(ways: tuple[dict[str, Any], ...]) -> Iterator[tuple[ThinkingFormat, str]]:
        for switches in ways:
            switched = replace(format, template={**switches, **format.template})
            try:
                prompt = switched.render(tokenizer, chat)
            except InputError:
                continue
            if prompt != plain:
                yield switched, prompt

    if first:
        yield from changed(_SWITCHES)
    yield format, plain
    if not first:
        yield from changed(_SWITCHES)
    yield from changed(_LAST_SWITCHES)


def _is_closed(prompt: str, format: ThinkingFormat) -> bool:
    """Whether the prompt for a reply has thinking closed already, at its end or before it."""
    turn = prompt.rpartition(_QUESTION)[2]
    marker, end = format.open.strip(), format.end.strip()
    if closed_by(turn.rstrip(), format) is not None or (end and end in turn):
        return True
    return bool(marker) and marker in turn and not turn.rstrip().endswith(marker)


def _spaced(format: ThinkingFormat) -> ThinkingFormat:
    """Families with `<think>` that open it with a newline close it with newlines too; the others with none."""
    if format.end.strip() != "</think>":
        return format
    if format.open.endswith("\n"):
        return replace(format, lead="\n", end="</think>\n\n")
    return replace(format, lead="", end="</think>")


def _derived(tokenizer: Tokenizer, text: str, vocabulary: Mapping[str, int]) -> ThinkingFormat | None:
    """A format from the delimiters in the chat template or, failing that, in the vocabulary; None without any."""
    for place in (text, vocabulary):
        for opening, end in DELIMITERS:
            if place is vocabulary and opening.startswith("[unused"):
                continue  # in any vocabulary made like BERT's: only a template gives it a meaning
            if end in place and opening in place:
                answer_end = _ending(tokenizer, _plain_ending(tokenizer))
                return ThinkingFormat(name=f"derived {opening}", open=opening, lead="", end=end, answer_end=answer_end)
    return None


def _plain_ending(tokenizer: Tokenizer) -> str:
    """What the chat template writes after a reply without thinking; empty where it cannot be seen."""
    chat = [{"role": "user", "content": _QUESTION}, {"role": "assistant", "content": _ANSWER}]
    try:
        text = str(tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=False))
    except TEMPLATE_FAULTS:
        return ""
    return text.rpartition(_ANSWER)[2]


def _assumed(tokenizer: Tokenizer, vocabulary: Mapping[str, int]) -> ThinkingFormat:
    """The format for a model that is not known to think. Raises InputError for a tokenizer without any end."""
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if "<|im_start|>" in vocabulary and "<|im_end|>" in vocabulary:
        if has_template:
            _say(_ASSUMED.format(which="s1's delimiters"))
        return FORMATS["s1"]
    if not isinstance(getattr(tokenizer, "eos_token_id", None), int):
        raise InputError(
            "the tokenizer has the delimiters of no known thinking format",
            where="thinking format",
            fix=f"Put a {FORMAT_FILE} into the checkpoint's folder. Known: {', '.join(FORMATS)}.",
        )
    _say(_ASSUMED.format(which="<think> and </think> as plain text"))
    if not has_template:
        _say("no chat template found: turns are written as 'User:' and 'Assistant:'")
    return fit_template(FORMATS["think"], tokenizer)


_ASSUMED = (
    f"no thinking format found: using {{which}}, on which this model was not trained; --format {DIRECT} answers plainly"
)


@cache
def _say(sentence: str) -> None:
    """Print a notice once a process: a stage loads its model many times."""
    _LOGGER.warning(sentence)


def _switched(format: ThinkingFormat, template: Mapping[str, Any] | None) -> ThinkingFormat:
    return replace(format, template={**format.template, **template}) if template else format


def _template_text(tokenizer: Tokenizer) -> str:
    return str(getattr(tokenizer, "chat_template", None) or "")
