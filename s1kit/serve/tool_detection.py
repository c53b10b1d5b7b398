"""Which form of tool calls a model's chat template teaches, read off the template's own rendering of a call."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

from s1kit.forcing.thinking_format import TEMPLATE_FAULTS
from s1kit.forcing.token_format import TokenFormat
from s1kit.serve.tool_calls import ToolStyle
from s1kit.serve.tool_styles import STYLES, TAGS

_NAME, _ARGUMENTS = "probe_tool", {"city": "Oslo", "days": 3}
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "A tool.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "A city."},
                "days": {"type": "integer", "description": "A number."},
            },
            "required": ["city", "days"],
        },
    },
}
_QUESTION = {"role": "user", "content": "q"}

Render = Callable[[list[dict[str, Any]], bool], str]
"""A chat with the probe's tool, and whether it is ready for a reply."""


class CallTokens(TokenFormat):
    """A thinking format whose end leaves open whether an answer or a call follows."""

    @property
    def reopen_id(self) -> None:
        """None: what begins thinking begins other messages too."""
        return


@lru_cache(maxsize=8)
def find_style(tokens: TokenFormat) -> ToolStyle | None:
    """How the model writes calls; None where its template shows it no tools, or teaches a form that is not known."""
    options = dict(tokens.format.template)
    template = getattr(tokens.tokenizer, "chat_template", None)
    if not template:
        options["chat_template"] = template = tokens.format.chat_template
    if not isinstance(template, str):
        # Several templates by name: that for tools is chosen by the tokenizer.
        template = ""

    def render(chat: list[dict[str, Any]], is_ready: bool) -> str:
        text = tokens.tokenizer.apply_chat_template(
            chat, tokenize=False, add_generation_prompt=is_ready, tools=[_TOOL], **options
        )
        return str(text)

    try:
        if _NAME not in render([_QUESTION], True):
            return None
    except TEMPLATE_FAULTS:
        return None
    ends = (tokens.format.answer_end, str(getattr(tokens.tokenizer, "eos_token", None) or ""))
    written = _written_calls(render)
    if not written:
        # It shows tools, but not what became of them.
        return next((style for style in (TAGS, *STYLES) if style.open in template), None)
    return next((style for style in STYLES if any(_reads(style, text, ends) for text in written)), None)


def tokens_for_calls(tokens: TokenFormat, style: ToolStyle) -> tuple[TokenFormat, str]:
    """The format for a reply that may be a call, and what was cut off its end: what begins an answer."""
    end = tokens.format.end
    if not style.shared_end or not end.startswith(style.shared_end):
        return tokens, ""
    # An answer's message ends where a call's may follow.
    form = replace(tokens.format, end=style.shared_end, answer_stops=style.stops)
    return CallTokens(form, tokens.tokenizer, tokens.more_eos_ids), end[len(style.shared_end) :]


def _written_calls(render: Render) -> list[str]:
    """What the template writes for a call after the question, in the ways in which it may be cut off the rest."""
    for arguments in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
        call = {"id": "a1b2c3d4e", "type": "function", "function": {"name": _NAME, "arguments": arguments}}
        turn = {"role": "assistant", "content": "", "tool_calls": [call]}
        try:
            whole = render([_QUESTION, turn], False)
            starts = [render([_QUESTION], is_ready) for is_ready in (True, False)]
        except TEMPLATE_FAULTS:
            continue
        tails = [whole[_num_shared(whole, start) :] for start in starts]
        if tails := [tail for tail in tails if _NAME in tail]:
            return tails
    return []


def _num_shared(one: str, other: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def _reads(style: ToolStyle, text: str, ends: tuple[str, ...]) -> bool:
    """Whether the style finds the probe's call, and it alone."""
    body = text.rstrip()
    for end in (*ends, *style.stops, "<|eot_id|>", "<|eom_id|>"):
        body = body.removesuffix(end).rstrip() if end else body
    reader = style.reader()
    _, calls = reader.feed(body)
    calls += reader.finish()[1]
    if [call["function"]["name"] for call in calls] != [_NAME]:
        return False
    return bool(json.loads(calls[0]["function"]["arguments"]) == _ARGUMENTS)
