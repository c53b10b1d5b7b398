"""Answers in gpt-oss's response format (harmony), which addresses calls in the headers of messages.

    <|channel|>commentary to=functions.add <|constrain|>json<|message|>{"a": 1}<|call|>
    <|channel|>final<|message|>It is 3.<|return|>

Source: OpenAI's "harmony response format" guide; the recipient may stand in the role part of a header too.
"""

from __future__ import annotations

import re

from s1kit.serve.tools import AnswerReader, Call, loaded, new_call, possible_start

_BODY = "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", "<|start|>", "<|channel|>")
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_ROLE = re.compile(r"^\s*(?:<\|start\|>)?(?:assistant)?\s*")


class HarmonyReader(AnswerReader):
    """Splits an answer, which begins with the header of its first message, into content and calls.

    Messages of the channels final and commentary are content, as are those of analysis: thinking was over.

    >>> reader = HarmonyReader()
    >>> reader.feed("<|channel|>final<|message|>It is")
    ('It is', [])
    """

    def __init__(self) -> None:
        super().__init__()
        self._header = ""
        """That of the message being read, with its mark."""
        self._recipient: str | None = None
        self._is_body = False

    def _step(self, content: list[str], calls: list[Call]) -> bool:
        if not self._is_body:
            header, mark, rest = self._held.partition(_BODY)
            if not mark:
                if not _may_be_header(self._held):
                    # A model that left the format: its text is shown as it is.
                    self._is_body, self._header, self._recipient = True, "", None
                    return True
                return False
            found = _RECIPIENT.search(header)
            self._recipient = found[1].removeprefix("functions.") if found is not None else None
            self._header, self._held, self._is_body = header + mark, rest, True
            return True
        at, end = min(((i, e) for e in _ENDS if (i := self._held.find(e)) >= 0), default=(-1, ""))
        if at >= 0:
            self._close(self._held[:at], content, calls)
            # The next header may begin with either of these.
            keeps = end in ("<|start|>", "<|channel|>")
            self._held = self._held[at if keeps else at + len(end) :]
            return True
        if self._recipient is not None:
            return False
        sure = len(self._held) - max(possible_start(self._held, end) for end in _ENDS)
        content.append(self._held[:sure])
        self._held = self._held[sure:]
        return False

    def _close(self, body: str, content: list[str], calls: list[Call]) -> None:
        self._is_body = False
        if self._recipient is None:
            content.append(body)
        elif isinstance(loaded(body or "{}"), dict):
            calls.append(new_call(self._recipient, body.strip() or "{}"))
        else:
            content.append(self._header + body)

    def finish(self) -> tuple[str, list[Call]]:
        """What was held back. A call that was never closed counts if it is whole."""
        held, self._held = self._held, ""
        if not self._is_body:
            return ("" if _ROLE.fullmatch(held) else held), []
        content: list[str] = []
        calls: list[Call] = []
        self._close(held, content, calls)
        return "".join(content), calls


def _may_be_header(text: str) -> bool:
    """Whether a text without `<|message|>` may be the beginning of a header."""
    begun = _ROLE.sub("", text, count=1)
    marks = ("<|channel|>", "to=", "<|start|>", "assistant")
    return begun.startswith(marks[:2]) or any(mark.startswith(begun) for mark in marks)
