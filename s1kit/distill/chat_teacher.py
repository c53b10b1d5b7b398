"""A chat model as a teacher: a question put into the prompt, a reply made into a trace with its cost and terms."""

from __future__ import annotations

from typing import Any

from s1kit.distill.teachers import shows_work, stated
from s1kit.errors import InputError
from s1kit.grade.form import solution_answer
from s1kit.providers.chat import Chat, ChatRequest, Message, Problem, Reply
from s1kit.providers.client import Client
from s1kit.providers.terms import terms_of
from s1kit.providers.wires.reading import SUMMARY
from s1kit.records import Question, Trace

WORK = "a worked answer taken as thinking"


def shows_summaries(reference: str) -> bool:
    """Whether a model is one of those that today show a summary of their thinking in its place: Gemini and Claude.

    >>> shows_summaries("chat:vertex/gemini-2.5-pro"), shows_summaries("chat:vertex/deepseek-ai/deepseek-r1")
    (True, False)
    """
    provider, _, name = reference.removeprefix("chat:").partition("/")
    if provider in ("vertex", "bedrock"):
        return name.startswith(("gemini", "claude")) or "anthropic." in name
    return provider in ("gemini", "anthropic")


class ChatTeacher:
    """Asks a chat model. A request that the provider refuses for its content is a trace that says so."""

    def __init__(
        self,
        chat: Chat,
        reference: str,
        *,
        prompt: str = "{question}",
        system: str = "",
        work_as_thinking: bool = False,
    ) -> None:
        self._chat, self._reference, self._work_as_thinking = chat, reference, work_as_thinking
        self._prompt, self._system = prompt, system
        self._terms = terms_of(reference).terms
        self._is_summary = shows_summaries(reference)

    async def ask(self, question: Question, draw: int) -> Trace:
        """The trace of one draw. Raises Problem when this request failed, Stopped when every request would."""
        try:
            with_tools: dict[str, Any] = {"tools": question.tools} if question.tools else {}
            reply = await self._chat.chat(self.messages(question), draw=draw, **with_tools)
        except Problem as problem:
            if not problem.is_of_this_request:
                raise
            reply = Reply(finish_reason="refused" if problem.kind == "refused" else "failed", note=str(problem))
        return self.trace(question, draw, reply)

    def request(self, client: Client, question: Question, draw: int) -> ChatRequest:
        """What `ask` asks of a provider's client: its key finds the reply in the journal."""
        return client.request(self.messages(question), draw, question.tools)

    def messages(self, question: Question) -> list[Message]:
        """The question in the prompt; a conversation as it stands, after the system message of the settings.

        A prompt beside `{question}` is put around the text of the conversation's last message of the user.
        """
        system: list[Message] = [{"role": "system", "content": self._system}] if self._system else []
        if not question.messages:
            return [*system, {"role": "user", "content": self._prompt.replace("{question}", question.text)}]
        messages = [*system, *question.messages]
        if self._prompt != "{question}":
            at = max(n for n, message in enumerate(messages) if message.get("role") == "user")
            asked = messages[at].get("content")
            if not isinstance(asked, str):
                raise InputError(
                    "the last message of the user is no text, and distill.prompt cannot be put around it",
                    where=f"question {question.id}",
                    fix='Leave the prompt at "{question}".',
                )
            messages[at] = {**messages[at], "content": self._prompt.replace("{question}", asked)}
        return messages

    def trace(self, question: Question, draw: int, reply: Reply) -> Trace:
        """A reply as a row: cost in dollars, thinking in the provider's tokens, or four bytes a token."""
        notes = [reply.note] if reply.note else []
        if self._is_summary and reply.thinking:
            notes.append(SUMMARY)
        thinking, answer, tokens = reply.thinking, reply.answer, reply.thinking_tokens
        if self._work_as_thinking and not thinking:
            final = solution_answer(answer)
            if final and shows_work(answer, final):
                thinking, answer, tokens = answer, stated(final), None
                notes.append(WORK)
        return Trace(
            question=question,
            teacher=self._reference,
            thinking=thinking,
            answer=answer,
            # Four bytes a token, where neither the provider nor a student's tokenizer says.
            thinking_tokens=len(thinking.encode("utf-8", "replace")) // 4 if tokens is None else tokens,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            cost_usd=reply.cost_usd,
            terms=self._terms,
            draw=draw,
            note="; ".join(notes),
            tool_calls=reply.tool_calls,
        )
