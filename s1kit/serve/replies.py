"""OpenAI's response shapes, whole and in chunks. Pure: deltas in, JSON out.

A streamed chunk with the thinking token "so":

    data: {"id":"chatcmpl-…","object":"chat.completion.chunk",…,"choices":[{"index":0,
           "delta":{"reasoning":"so","reasoning_content":"so"},"finish_reason":null,
           "s1kit":{"kind":"thinking","origin":"sampled","num_tokens":1}}]}

The chunks' texts joined are the text of the reply that is not streamed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from s1kit import __version__
from s1kit.completions.stream import TokenLogprob
from s1kit.serve.decoding import Delta, End, Probes, Tally, ThinkingStop
from s1kit.serve.refusals import Refusal
from s1kit.serve.tool_calls import AnswerReader

Endpoint = Literal["chat", "completions", "messages", "responses"]

ID_PREFIXES: dict[Endpoint, str] = {
    "chat": "chatcmpl-",
    "completions": "cmpl-",
    "messages": "msg_",
    "responses": "resp_",
}
_WHOLE = {"chat": "chat.completion", "completions": "text_completion"}
_CHUNK = {"chat": "chat.completion.chunk", "completions": "text_completion"}

DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
"""A comment, which clients skip: it keeps idle connections open."""


@dataclass(slots=True)
class Choice:
    """One choice while it is being made."""

    index: int
    shows_thinking: bool = True
    tools: AnswerReader | None = None
    wants_one_call: bool = False
    """Whether the reply ends with the first call."""
    wants_logprobs: bool = False
    is_streamed: bool = False
    """What was sent is not kept: a long stream holds no more memory than a short one."""
    budget: dict[str, int] | None = None
    """The thinking budget that applies; None where the model does not think."""
    stop: ThinkingStop = field(default_factory=ThinkingStop)
    """Ends its thinking."""
    probes: Probes | None = None
    """What it cost to leave thinking when its answer was settled; None where that was not asked for."""
    ignored: tuple[str, ...] = ()
    """Unknown fields that a lenient server left out of the request."""
    thinking: list[str] = field(default_factory=list)
    content: list[str] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    num_chars: int = 0
    """Characters of the answer so far."""
    tally: Tally = field(default_factory=Tally)

    def take(self, delta: Delta) -> tuple[str, str, list[dict[str, Any]]]:
        """Account for a delta; what of it is new to the client: thinking text, answer text, tool calls."""
        self.tally.add(delta)
        if delta.kind in ("thinking", "wait"):
            text = delta.text if self.shows_thinking else ""
            if not self.is_streamed:
                self.thinking.append(text)
            return text, "", []
        if delta.kind in ("close", "open"):
            return "", "", []
        if not self.is_streamed:
            self.logprobs.extend(delta.logprobs)
        if self.tools is None:
            return "", *self._kept(delta.text, [])
        return "", *self._kept(*self.tools.feed(delta.text))

    def finish(self, end: End) -> tuple[str, list[dict[str, Any]]]:
        """Account for the end; the answer text and tool calls that were held back until now."""
        self.tally.end = end
        return self._kept(*self.tools.finish()) if self.tools is not None else ("", [])

    @property
    def is_over(self) -> bool:
        """Whether the only call that is wanted was made."""
        return self.wants_one_call and bool(self.tool_calls)

    def _kept(self, text: str, calls: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
        if self.wants_one_call:
            text, calls = ("", []) if self.tool_calls else (text, calls[:1])
        numbered = [{"index": len(self.tool_calls) + i} | call for i, call in enumerate(calls)]
        self.num_chars += len(text)
        if not self.is_streamed:
            self.content.append(text)
        self.tool_calls.extend(calls)
        return text, numbered

    @property
    def is_thinking(self) -> bool:
        """Whether it thinks, or will once it has begun."""
        if self.tally.end is not None or self.budget is None:
            return False
        return self.tally.kind in (None, "open", "thinking", "wait")

    @property
    def finish_reason(self) -> str:
        end = self.tally.end
        if self.tool_calls and end is not None and end.finish == "stop":
            return "tool_calls"
        return end.finish if end is not None else "length"

    @property
    def account(self) -> dict[str, Any]:
        """The `s1kit` object of this choice."""
        end = self.tally.end
        return (
            {
                "ending": end.ending if end is not None else None,
                "num_waits": self.tally.num_waits,
                "forced_tokens": self.tally.forced_tokens,
                "seam": end.seam if end is not None else "ids",
            }
            | ({"budget": self.budget} if self.budget is not None else {})
            | ({"stopped": True} if self._was_stopped else {})
            | ({"auto": asdict(self.probes)} if self.probes is not None else {})
            | ({"note": end.note} if end is not None and end.note else {})
            | self._ignored_fields
        )

    @property
    def _was_stopped(self) -> bool:
        """Whether thinking ended because a client asked for it."""
        end, budget = self.tally.end, self.budget
        if not self.stop.is_asked or end is None or end.ending != "cut_off" or budget is None:
            return False
        return self.tally.thinking_tokens < budget["max_thinking_tokens"]

    @property
    def _ignored_fields(self) -> dict[str, Any]:
        return {"ignored": list(self.ignored)} if self.ignored else {}


@dataclass(slots=True)
class HttpReply:
    """One reply: its id, its choices, and their two ways onto the wire."""

    endpoint: Endpoint
    model: str
    choices: list[Choice]
    prompt_tokens: int
    """Tokens of all prompts together; each prompt counts once, however many choices it has."""
    includes_usage: bool = False
    """Whether a stream ends with a chunk of usage."""
    shows_usage_so_far: bool = False
    """Whether every chunk says the usage so far."""
    id: str = ""
    created: int = field(default_factory=lambda: int(time.time()))
    _head: str = ""
    _begun: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.id.startswith(ID_PREFIXES[self.endpoint]):
            self.id = ID_PREFIXES[self.endpoint] + self.id
        head = self._outline(_CHUNK[self.endpoint])
        usage = {"usage": None} if self.includes_usage and not self.shows_usage_so_far else {}
        self._head = "data: " + json.dumps(head | usage, separators=(",", ":"))[:-1] + ',"choices":[{"index":'

    def _outline(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": f"s1kit-{__version__}",
        }

    @property
    def usage(self) -> dict[str, Any]:
        completion = sum(c.tally.completion_tokens for c in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "completion_tokens_details": {"reasoning_tokens": sum(c.tally.thinking_tokens for c in self.choices)},
        }

    @property
    def account(self) -> dict[str, Any]:
        """The `s1kit` object of the reply: that of its only choice, or sums; `ending` is null where they differ."""
        accounts = [c.account for c in self.choices]
        if len(accounts) == 1:
            return accounts[0]
        return {
            "ending": accounts[0]["ending"] if len({a["ending"] for a in accounts}) == 1 else None,
            "num_waits": sum(a["num_waits"] for a in accounts),
            "forced_tokens": sum(a["forced_tokens"] for a in accounts),
            "seam": "ids" if all(a["seam"] == "ids" for a in accounts) else "text",
        } | ({"budget": accounts[0]["budget"]} if "budget" in accounts[0] else {})

    def whole(self) -> dict[str, Any]:
        """The reply that is not streamed."""
        make = self._whole_chat if self.endpoint == "chat" else self._whole_completion
        return self._outline(_WHOLE[self.endpoint]) | {
            "choices": [make(choice) for choice in self.choices],
            "usage": self.usage,
            "s1kit": self.account,
        }

    def _whole_chat(self, choice: Choice) -> dict[str, Any]:
        thinking, content = "".join(choice.thinking) or None, "".join(choice.content)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": content if content or not choice.tool_calls else None,
            # OpenAI's document requires it, and so do clients that were made from that.
            "refusal": None,
            "reasoning": thinking,
            "reasoning_content": thinking,
        }
        if choice.tool_calls:
            message["tool_calls"] = choice.tool_calls
        return {
            "index": choice.index,
            "message": message,
            "logprobs": chat_logprobs(choice.logprobs) if choice.wants_logprobs else None,
            "finish_reason": choice.finish_reason,
            "s1kit": choice.account,
        }

    def _whole_completion(self, choice: Choice) -> dict[str, Any]:
        thinking = "".join(choice.thinking) or None
        return {
            "index": choice.index,
            "text": "".join(choice.content),
            "reasoning": thinking,
            "reasoning_content": thinking,
            "logprobs": completion_logprobs(choice.logprobs) if choice.wants_logprobs else None,
            "finish_reason": choice.finish_reason,
            "s1kit": choice.account,
        }

    def chunk(self, choice: Choice, delta: Delta) -> str:
        """One event for one delta."""
        thinking, text, calls = choice.take(delta)
        logprobs = self._logprobs(choice, delta.logprobs, text) if choice.wants_logprobs and delta.logprobs else "null"
        # Written by hand: this runs for every token of every stream.
        return (
            f'{self._head}{choice.index},{self._piece(choice, thinking, text, calls)},"logprobs":{logprobs},'
            f'"finish_reason":null,"s1kit":{{"kind":"{delta.kind}","origin":"{delta.origin}",'
            f'"num_tokens":{delta.num_tokens}}}}}]{self._usage_so_far}}}\n\n'
        )

    @property
    def _usage_so_far(self) -> str:
        return f',"usage":{json.dumps(self.usage)}' if self.shows_usage_so_far else ""

    def _piece(self, choice: Choice, thinking: str, text: str, calls: list[dict[str, Any]]) -> str:
        if self.endpoint == "completions":
            quoted = json.dumps(thinking)
            more = f',"reasoning":{quoted},"reasoning_content":{quoted}' if thinking else ""
            return f'"text":{json.dumps(text)}{more}'
        parts = []
        if choice.index not in self._begun:
            self._begun.add(choice.index)
            parts.append('"role":"assistant","content":""' if not text else '"role":"assistant"')
        if thinking:
            quoted = json.dumps(thinking)
            parts.append(f'"reasoning":{quoted},"reasoning_content":{quoted}')
        if text:
            parts.append(f'"content":{json.dumps(text)}')
        if calls:
            parts.append(f'"tool_calls":{json.dumps(calls)}')
        return '"delta":{' + ",".join(parts) + "}"

    def _logprobs(self, choice: Choice, new: Sequence[TokenLogprob], text: str) -> str:
        if self.endpoint == "chat":
            return json.dumps(chat_logprobs(new))
        return json.dumps(completion_logprobs(new, choice.num_chars - len(text)))

    def last_chunk(self, choice: Choice, end: End) -> str:
        """A choice's last event, with `finish_reason` and its account; what was held back comes in one before it."""
        text, calls = choice.finish(end)
        held = ""
        if text or calls:
            piece = self._piece(choice, "", text, calls)
            held = f'{self._head}{choice.index},{piece},"finish_reason":null}}]{self._usage_so_far}}}\n\n'
        account = json.dumps(choice.account)
        whole = f',"s1kit":{json.dumps(self.account)}' if all(c.tally.end is not None for c in self.choices) else ""
        return (
            f'{held}{self._head}{choice.index},{self._piece(choice, "", "", [])},"logprobs":null,'
            f'"finish_reason":"{choice.finish_reason}","s1kit":{account}}}]{whole}{self._usage_so_far}}}\n\n'
        )

    def failed(self, refusal: Refusal) -> bytes:
        """The last events of a stream that fails."""
        return b"data: " + refusal.encoded() + b"\n\n" + DONE

    def tail(self) -> bytes:
        """What follows the last choice: usage where it was asked for, and the end of the stream."""
        if not self.includes_usage:
            return DONE
        event = self._outline(_CHUNK[self.endpoint]) | {"choices": [], "usage": self.usage, "s1kit": self.account}
        return b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n" + DONE


def chat_logprobs(tokens: Sequence[TokenLogprob]) -> dict[str, Any]:
    """OpenAI's chat form. Only tokens of the answer are listed."""

    def entry(token: str, logprob: float) -> dict[str, Any]:
        return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}

    return {
        "content": [entry(t.token, t.logprob) | {"top_logprobs": [entry(*rival) for rival in t.top]} for t in tokens],
        "refusal": None,
    }


def completion_logprobs(tokens: Sequence[TokenLogprob], start: int = 0) -> dict[str, Any]:
    """OpenAI's older form; offsets count characters of the text from `start`."""
    offsets = []
    for token in tokens:
        offsets.append(start)
        start += len(token.token)
    return {
        "tokens": [t.token for t in tokens],
        "token_logprobs": [t.logprob for t in tokens],
        "top_logprobs": [dict(t.top) for t in tokens],
        "text_offset": offsets,
    }
