"""Finish reasons of every server in our terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from s1kit.records import FinishReason

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "stop_token": "stop",
    "end_turn": "stop",
    "end": "stop",
    "complete": "stop",
    "completed": "stop",
    "finished": "stop",
    "done": "stop",
    "tool_calls": "stop",
    "tool_use": "stop",
    "tool_call": "stop",  # Cohere
    "requires_action": "stop",  # Gemini's newer API, of a call of a function
    "function_call": "stop",
    "normal": "stop",
    "stop_str": "stop",
    "eot": "stop",
    "endoftext": "stop",
    "end_of_text": "stop",
    "end_of_turn": "stop",
    "success": "stop",
    "succeeded": "stop",
    "finish": "stop",
    "end_of_sequence": "stop",
    "stop_word": "stop",
    "eod": "stop",
    "length": "length",
    "max_tokens": "length",
    "max_output_tokens": "length",
    "max_length": "length",
    "model_length": "length",
    "model_context_window_exceeded": "length",
    "incomplete": "length",
    "token_limit": "length",
    "max_new_tokens": "length",
    "context_length": "length",
    "context_length_exceeded": "length",
    "context_window_exceeded": "length",
    "max_completion_tokens": "length",
    "model_context_window": "length",
    "repetition": "length",  # cut off because it repeated itself
    "repetition_detected": "length",
    "max_tokens_reached": "length",
    "token_limit_reached": "length",
    "length_limit": "length",
    "context_limit": "length",
    "context": "length",  # SenseNova
    "pause_turn": "length",  # Anthropic's, of a turn that it would go on with
    "compaction": "length",
    "error_limit": "length",
    "time_limit": "length",
    "content_filter": "refused",
    "content_filtered": "refused",
    "sensitive": "refused",
    "refusal": "refused",
    "safety": "refused",
    "recitation": "refused",
    "blocklist": "refused",
    "prohibited_content": "refused",
    "spii": "refused",
    "language": "refused",
    "image_safety": "refused",
    "model_armor": "refused",
    "content-filter": "refused",
    "content_policy": "refused",
    "content_policy_violation": "refused",
    "blocked": "refused",
    "filtered": "refused",
    "flagged": "refused",
    "prohibited": "refused",
    "no_image": "refused",
    "image_recitation": "refused",
    "image_prohibited_content": "refused",
    "escalation": "refused",
    "error_toxic": "refused",
    "moderation": "refused",
    "guardrail_intervened": "refused",
}
"""Finish reasons, in lower case, of OpenAI, Anthropic, Gemini, TGI, Mistral, Zhipu, Cohere, Bedrock and others."""

_NUMBERS: tuple[FinishReason | None, ...] = (None, "stop", "length", "refused", "refused")
"""Google's enumeration: unspecified, STOP, MAX_TOKENS, SAFETY, RECITATION."""
_SAYS_NOTHING = ("", "null", "none", "unknown", "unspecified")
_PREFIXES = ("finish_reason_", "stop_reason_", "finishreason.", "stopreason.")
"""What gateways leave before a reason: the name of an enumeration in Google's protocol or in Python."""


def finish_name(reason: Any) -> str:
    """A finish reason in the lower case of the tables, "" for one that says nothing.

    >>> finish_name("FinishReason.STOP"), finish_name(["FINISH_REASON_MAX_TOKENS"]), finish_name(None)
    ('stop', 'max_tokens', '')
    """
    if isinstance(reason, list) and len(reason) == 1:
        reason = reason[0]
    if isinstance(reason, Mapping):
        reason = reason.get("type")
    if not isinstance(reason, str):
        return "" if reason is None else str(reason)
    name = reason.strip().lower()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return "" if name in _SAYS_NOTHING else name


def finish_of(reason: Any) -> tuple[FinishReason, str]:
    """A finish reason in our terms, and a note where the server gave none or an unknown one.

    >>> finish_of("STOP"), finish_of("eos_token"), finish_of(["x"])
    (('stop', ''), ('stop', ''), ('malformed', "the finish reason is ['x']"))
    """
    if type(reason) is int and 0 <= reason < len(_NUMBERS):
        known = _NUMBERS[reason]
    else:
        name = finish_name(reason)
        known = _FINISH.get(name)
        if known is None and name:
            told = repr(reason[:80]) if isinstance(reason, str) else str(reason)[:80]
            return "malformed", f"the finish reason is {told}"
    return ("stop", "the server gave no finish reason") if known is None else (known, "")


def finish_of_choice(choice: Mapping[str, Any]) -> tuple[FinishReason, str]:
    """The finish reason of a choice: the usual field, else one of the older or gateways' names.

    A gateway's `stop` beside the model's own reason, which says that the reply was cut or filtered, is the latter.
    """
    own, usual = choice.get("native_finish_reason"), choice.get("finish_reason")
    if own is None and isinstance(usual, str) and usual in _FINISH:
        return _FINISH[usual], ""
    told = next((choice[n] for n in _FIELDS if finish_name(choice.get(n))), None)
    if (
        told is None and finish_name(choice.get("stop_reason")) in _FINISH
    ):  # of models on Bedrock; vLLM's is a stop string
        told = choice["stop_reason"]
    finish, note = finish_of(told if told is not None else own)
    if finish == "stop" and finish_name(own) and finish_of(own)[0] in ("length", "refused"):
        return finish_of(own)
    return finish, note


_FIELDS = ("finish_reason", "finish_details", "finishReason")
