"""Where servers put the thinking of a reply, and how it is told from the answer."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from s1kit.forcing.delimiters import DELIMITERS, Parsed, split_thinking, unwrapped, without_marks
from s1kit.providers.chat import Reply, settle_finish
from s1kit.providers.wires.reading import dict_of, list_of, notes, text_of
from s1kit.providers.wires.shapes import THINKING

_TAGS = (*(tag for pair in DELIMITERS for tag in pair), "<|channel|>", "<|start|>assistant<|channel|>")


def thinking_in(message: Mapping[str, Any]) -> tuple[str, str, bool]:
    """Thinking, answer, and whether the thinking was closed, of a message in any known shape.

    Fields of their own: those of `THINKING`, `thinking_blocks` (LiteLLM), `reasoning_details` (OpenRouter); a list of
    content with `thinking` parts (Mistral, docs.mistral.ai/capabilities/reasoning); else between delimiters. Content
    that a gateway has parsed (a number, an object) is written as JSON.
    """
    content = message.get("content")
    thinking = _named_thinking(message)
    if isinstance(content, int | float) and not isinstance(content, bool):
        content = str(content)
    elif isinstance(content, Mapping) and not isinstance(content.get("text"), str | list):
        content = json.dumps(content, ensure_ascii=False) if content else ""
    if isinstance(content, list):
        thoughts = [part for part in map(dict_of, content) if _is_thought(part)]
        thinking = thinking or "".join(map(_thought_in, thoughts))
        answer = text_of([part for part in content if not _is_thought(dict_of(part))])
    else:
        answer = text_of(content)
    if thinking:
        return _untangled(thinking, answer)
    parsed = split_text(answer)
    if not parsed.thinking and not _is_empty(parsed, answer):
        return "", without_marks(answer), parsed.is_closed
    return parsed.thinking, parsed.answer, parsed.is_closed


def _is_empty(parsed: Parsed, text: str) -> bool:
    """Whether a text begins with thinking that is open and closed and holds nothing."""
    return parsed.is_closed and not parsed.thinking and _bare_head(text).startswith(_TAGS)


def _untangled(thinking: str, answer: str) -> tuple[str, str, bool]:
    """Thinking of a field of its own, and an answer. Some servers leave the thinking, or its end, in the answer as
    well; some leave the tags in the field; some that miss the end of the thinking put the answer there, too."""
    parsed = split_text(answer)
    if parsed.is_closed and answer.lstrip().startswith(_TAGS):
        answer = parsed.answer
    elif (bare := unwrapped(answer)) != answer.strip():
        answer = bare
    if not answer.strip() or thinking.lstrip().startswith(_TAGS):
        inner = split_text(thinking)
        if inner.thinking and not (answer.strip() and inner.answer):
            return inner.thinking, answer if answer.strip() else inner.answer, True
    return thinking, answer, True


def _is_thought(part: Mapping[str, Any]) -> bool:
    """Whether a part of a message's content is thinking: of Mistral, of Databricks, of Gemini."""
    return part.get("type") in _THOUGHT_TYPES or part.get("thought") is True


_THOUGHT_TYPES = ("thinking", "reasoning", "thought", "reasoning_text", "summary_text")


def _thought_in(part: Mapping[str, Any]) -> str:
    return next(
        (text for name in ("thinking", "reasoning", "summary", "text") if (text := text_of(part.get(name)))), ""
    )


def _named_thinking(message: Mapping[str, Any]) -> str:
    """Thinking in a field of its own, by the first of the known names that holds text."""
    for source in (message, dict_of(message.get("provider_specific_fields"))):
        for name in THINKING:
            if name not in source:
                continue
            if text := text_of(source[name]) or text_of(dict_of(source[name]).get("content")):
                return text
        for name in ("thinking_blocks", "content_blocks"):  # LiteLLM, Portkey
            if blocks := "".join(text_of(dict_of(block).get("thinking")) for block in list_of(source.get(name))):
                return blocks
    details = map(dict_of, list_of(message.get("reasoning_details")))
    return "".join(text_of(detail.get("text")) or text_of(detail.get("summary")) for detail in details)


_DETAILS = re.compile(r"\s*<details\b[^>]*\btype=\"reasoning\"[^>]*>(.*?)</details>\s*(.*)", re.DOTALL)
_SUMMARY = re.compile(r"\s*<summary>.*?</summary>\s*", re.DOTALL)
_QUOTED = re.compile(r"\*Thinking\.\.\.\*\s*\n((?:>[^\n]*(?:\n|\Z)|[ \t]*\n(?=[ \t]*\n*>))+)(.*)", re.DOTALL)
"""Poe's form of the thinking: a quotation under a heading."""
_TYPED = re.compile(r"Thinking\.\.\.\s*\n(.*?)\n\s*\.\.\.done thinking\.\s*\n(.*)", re.DOTALL)
"""What `ollama run` shows in a terminal."""


_INVISIBLE = " \t\r\n\ufeff\u200b\u2060"
"""What some servers leave before a tag: spaces, byte order marks, joiners."""
_TAG = re.compile(r"<(think|thinking|thought|reasoning)(?:\s[^<>]*)?>", re.IGNORECASE)
"""The opening tag in capitals, or with attributes."""


def _bare_head(text: str) -> str:
    return text.lstrip(_INVISIBLE)[:40].lower()


def split_text(text: str) -> Parsed:
    """Thinking and answer of a text, also where a web front end has written the thinking as HTML (Open WebUI) or has
    escaped its tags.

    >>> split_text('<details type="reasoning" done="true"><summary>Thought</summary>\\n> hm\\n</details>\\n4')
    Parsed(thinking='hm', answer='4', is_closed=True)
    """
    text = text.lstrip(_INVISIBLE)
    head = text[:20]
    if head.startswith("<details") and (found := _DETAILS.match(text)) is not None:
        return Parsed(_unquoted(html.unescape(_SUMMARY.sub("", found[1]))), found[2].strip(), True)
    if head.startswith("Thinking...") and (found := _TYPED.match(text)) is not None:
        return Parsed(found[1].strip(), found[2].strip(), True)
    if head.startswith("*Thinking...*") and (found := _QUOTED.match(text)) is not None:
        return Parsed(_unquoted(found[1]), found[2].strip(), True)
    if (tag := _TAG.match(text)) is not None and tag[0] != f"<{tag[1].lower()}>":
        text = re.sub(f"</{tag[1]}>", "</think>", f"<think>{text[tag.end() :]}", count=1, flags=re.IGNORECASE)
    return split_thinking(html.unescape(text) if head.startswith("&lt;think") else text)


def _unquoted(text: str) -> str:
    """A quotation in Markdown without its signs."""
    return "\n".join(line.removeprefix(">").removeprefix(" ") for line in text.strip().split("\n"))


def split_answer(reply: Reply) -> Reply:
    """A reply whose thinking stands between delimiters in the answer, with the two told apart."""
    parsed = split_text(reply.answer)
    if not parsed.thinking and not _is_empty(parsed, reply.answer):
        return replace(reply, answer=without_marks(reply.answer))
    note = reply.note
    if not parsed.is_closed and reply.finish_reason == "stop":
        note = notes(note, "thinking was never closed")
    finish = settle_finish(reply.finish_reason, parsed.answer, reply.tool_calls)
    return replace(reply, thinking=parsed.thinking, answer=parsed.answer, finish_reason=finish, note=note)
