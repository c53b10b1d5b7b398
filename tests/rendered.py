"""What a sample for training looks like as text."""

from __future__ import annotations

from s1kit.forcing.formats import ThinkingFormat, Tokenizer


def training_text(fmt: ThinkingFormat, tokenizer: Tokenizer, question: str, thinking: str, answer: str) -> str:
    prompt = fmt.prompt_text(tokenizer, question)
    return f"{prompt}{fmt.open}{thinking.strip()}{fmt.lead}{fmt.end}{answer.strip()}{fmt.answer_end}"
