"""A chat model as a teacher: a question put into the prompt, a reply made into a trace with its cost and terms."""

from __future__ import annotations

from s1kit.providers.chat import Chat, Message, Problem, Reply
from s1kit.providers.terms import terms_of
from s1kit.records import Question, Trace

SUMMARISED = {"gemini", "anthropic"}
"""Providers whose models of today show a summary of their thinking in its place."""


class ChatTeacher:
    """Asks a chat model. A request that the provider refuses for its content is a trace that says so."""

    def __init__(self, chat: Chat, reference: str, *, prompt: str = "{question}", system: str = "") -> None:
        self._chat, self._reference = chat, reference
        self._prompt, self._system = prompt, system
        self._terms = terms_of(reference).terms
        self._is_summary = reference.removeprefix("chat:").partition("/")[0] in SUMMARISED

    async def ask(self, question: Question, draw: int) -> Trace:
        """The trace. Raises Problem when the provider could not be reached or failed, Stopped when nobody can ask."""
        try:
            reply = await self._chat.chat(self.messages(question), draw=draw)
        except Problem as problem:
            if problem.kind != "request":
                raise
            reply = Reply(finish_reason="failed", note=str(problem))
        return self.trace(question, draw, reply)

    def messages(self, question: Question) -> list[Message]:
        system: list[Message] = [{"role": "system", "content": self._system}] if self._system else []
        return [*system, {"role": "user", "content": self._prompt.replace("{question}", question.text)}]

    def trace(self, question: Question, draw: int, reply: Reply) -> Trace:
        notes = [reply.note] if reply.note else []
        if self._is_summary and reply.thinking:
            notes.append("the thinking is the provider's summary of it")
        tokens = reply.thinking_tokens
        return Trace.model_construct(
            question=question,
            teacher=self._reference,
            thinking=reply.thinking,
            answer=reply.answer,
            # Four bytes a token, where neither the provider nor a student's tokenizer says.
            thinking_tokens=len(reply.thinking.encode("utf-8", "replace")) // 4 if tokens is None else tokens,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            cost_usd=reply.cost_usd,
            terms=self._terms,
            draw=draw,
            note="; ".join(notes),
        )
