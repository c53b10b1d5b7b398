"""An instruct model as a teacher: what it writes before its final answer is the thinking."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from s1kit.distill.chat_teacher import WORK, ChatTeacher
from s1kit.providers.chat import Reply
from s1kit.records import Question, Trace

WORKED = "Each box holds 12 eggs.\nThree boxes hold 3 * 12 = 36 eggs.\nThe answer is \\boxed{36}."


class Model:
    """Answers every question with the same reply."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply

    async def chat(self, messages: Any, *, draw: int = 0, tools: Any = ()) -> Reply:
        return self.reply


def trace_of(reply: Reply, work_as_thinking: bool = True) -> Trace:
    chat: Any = Model(reply)
    teacher = ChatTeacher(chat, "hf:Qwen/Qwen2.5-1.5B-Instruct", work_as_thinking=work_as_thinking)
    return asyncio.run(teacher.ask(Question(text="How many eggs?"), 0))


def test_a_worked_answer_is_the_thinking_and_its_final_answer_the_answer() -> None:
    trace = trace_of(Reply(answer=WORKED, thinking_tokens=0))
    assert (trace.thinking, trace.answer) == (WORKED, "Final Answer: $\\boxed{36}$")
    assert trace.note == WORK
    assert trace.thinking_tokens == len(WORKED) // 4


@pytest.mark.parametrize(
    "reply",
    [
        Reply(thinking="Twelve a box.", answer=WORKED, thinking_tokens=4),
        Reply(answer="36", thinking_tokens=0),
        Reply(
            answer="First I count the boxes.\nThen I count the eggs in each", finish_reason="length", thinking_tokens=0
        ),
    ],
    ids=["it thought", "no work", "no final answer"],
)
def test_a_reply_that_thought_or_shows_no_work_or_no_answer_stays_as_it_is(reply: Reply) -> None:
    trace = trace_of(reply)
    assert (trace.thinking, trace.answer, trace.note) == (reply.thinking, reply.answer, "")


def test_without_the_setting_an_answer_stays_an_answer() -> None:
    assert trace_of(Reply(answer=WORKED), work_as_thinking=False).thinking == ""
