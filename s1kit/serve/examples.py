"""Requests that are accepted, one of each kind, as the served document shows them."""

from __future__ import annotations

from typing import Any

_TURN = {"role": "user", "content": "What is 17 + 25?"}
_HISTORY = [_TURN, {"role": "assistant", "content": "42", "reasoning": "17 + 25 is 42"}, _TURN]

EXAMPLES: dict[str, dict[str, dict[str, Any]]] = {
    "ChatBody": {
        "a budget": {"messages": [_TURN], "thinking_token_budget": 16, "max_tokens": 64},
        "waits": {"messages": [_TURN], "num_waits": 2, "wait": ["Wait", "Hmm"], "max_tokens": 64, "temperature": 0.5},
        "exactly so many": {"messages": [_TURN], "min_thinking_tokens": 12, "max_thinking_tokens": 12, "seed": 1},
        "an effort, streamed": {
            "messages": [{"role": "developer", "content": "Be brief."}, *_HISTORY],
            "reasoning_effort": "low",
            "max_completion_tokens": 64,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
        "no thinking": {"messages": [_TURN], "thinking": {"type": "disabled"}, "max_tokens": 32, "n": 2},
        "a begun answer": {
            "messages": [_TURN, {"role": "assistant", "content": "It is"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
            "max_tokens": 16,
            "stop": ["."],
        },
    },
    "CompletionBody": {
        "a text": {"prompt": "17 + 25 =", "max_tokens": 8},
        "thinking, streamed": {"prompt": ["1", "2"], "thinking_token_budget": 8, "max_tokens": 32, "stream": True},
    },
    "MessagesBody": {
        "a budget": {
            "max_tokens": 64,
            "messages": [_TURN],
            "system": "Be brief.",
            "thinking": {"type": "enabled", "budget_tokens": 16},
        },
        "an effort, streamed": {
            "max_tokens": 64,
            "messages": [_TURN],
            "thinking": {"type": "adaptive"},
            "output_config": {"effort": "low"},
            "stop_sequences": ["\n\n"],
            "stream": True,
        },
    },
    "CountBody": {"a chat": {"messages": [_TURN], "system": [{"type": "text", "text": "Be brief."}]}},
    "ResponsesBody": {
        "a text": {"input": "What is 17 + 25?", "reasoning": {"effort": "low", "summary": "auto"}},
        "items, streamed": {
            "instructions": "Be brief.",
            "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1 + 1?"}]}],
            "max_output_tokens": 64,
            "store": False,
            "stream": True,
        },
    },
    "TokenizeBody": {"a text": {"prompt": "17 + 25"}, "a chat": {"messages": [_TURN]}},
    "DetokenizeBody": {"ids": {"tokens": [1, 2, 3]}},
}
"""By the name of the body, then by what the example shows."""
