"""The wire format of OpenAI's Responses, which shows summaries of the thinking; vLLM and others show all of it there.

Source: platform.openai.com/docs/api-reference/responses and its streaming events. Nothing is stored at the provider
(`store` is false). Thinking comes as `reasoning` items: `summary` parts, or `content` parts where a server has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from s1kit.errors import InputError
from s1kit.providers.chat import Call, ChatRequest, Reply, settle_finish
from s1kit.providers.wires.conversation import ChatTurn, Format, call_of, take_format, tools, turns
from s1kit.providers.wires.extra import with_extra
from s1kit.providers.wires.finish import finish_of
from s1kit.providers.wires.reading import (
    SUMMARY,
    count,
    dict_of,
    hidden_thinking,
    list_of,
    notes,
    reported_cost,
    text_of,
    whole_usage,
)
from s1kit.records import FinishReason, Usage

_NAME = "the Responses API"


@dataclass(frozen=True)
class ResponsesWire:
    name: str = "openai-responses"

    def headers(self, key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {key}"} if key else {}

    def call(self, request: ChatRequest) -> Call:
        p = request.parameters
        body: dict[str, Any] = {
            "model": request.model,
            "input": [item for turn in turns(request.messages, _NAME) for item in _items(turn)],
            "max_output_tokens": p.max_output_tokens,
            "store": False,
        }
        for field, value in [("temperature", p.temperature), ("top_p", p.top_p)]:
            if value is not None:
                body[field] = value
        if p.extra.get("background"):
            # The reply would be a promise, to be fetched by its id, and asked again it would be bought again.
            raise InputError(
                "a background response would have to be fetched later",
                where="distill.extra.background",
                fix="Leave it out: replies are streamed, so that long ones do not time out.",
            )
        for refused, given in [("seed", p.seed), ("thinking_budget", p.thinking_budget)]:
            if given is not None:
                raise InputError(f"{_NAME} takes no {refused}", where=refused, fix="Leave it out.")
        reasoning: dict[str, Any] = {"summary": "auto"} if p.thinking else {}
        if p.reasoning_effort is not None:
            reasoning["effort"] = p.reasoning_effort
        if reasoning:
            body["reasoning"] = reasoning
        if request.tools:
            body["tools"] = [
                {
                    "type": "function",
                    "name": tool.name,
                    "parameters": tool.parameters,
                    "strict": bool(tool.strict),
                    **({"description": tool.description} if tool.description else {}),
                }
                for tool in tools(request, _NAME)
            ]
        asked, extra = take_format(p.extra)
        if asked is not None:
            body["text"] = {"format": _format(asked)}
        return Call("/responses", with_extra(body, extra))

    def streamed(self, call: Call, *, with_usage: bool = True) -> Call:
        return Call(call.path, {**call.body, "stream": True})

    def assembler(self) -> ResponseAssembler:
        return ResponseAssembler()

    def read(self, body: Mapping[str, Any]) -> Reply:
        usage, reasoning_tokens = _usage(body.get("usage"))
        output = body.get("output")
        if not isinstance(output, list):
            return Reply(finish_reason="malformed", usage=usage, note="the reply has no output")
        thoughts: list[str] = []
        answers: list[str] = []
        refusals, calls, is_summary = [], [], False
        has_final = any(dict_of(item).get("phase") == "final_answer" for item in output)
        for item in map(dict_of, output):
            match item.get("type"):
                case "reasoning":
                    content, summary = _reasoning(item)
                    is_summary = is_summary or (not content and bool(summary))
                    thoughts.append(content or summary)
                case "message":
                    said, declined = _message(item)
                    refusals += declined
                    (thoughts if item.get("phase") == "commentary" and has_final else answers).extend(said)
                case "function_call":
                    calls.append(call_of(item.get("call_id"), item.get("name"), item.get("arguments")))
        thinking, answer = "\n\n".join(filter(None, thoughts)), "".join(answers)
        finish, note = _finish(body)
        if any(refusals):
            finish, answer = "refused", answer or "".join(refusals)
        if is_summary:
            note = notes(note, SUMMARY)
        elif not thinking and reasoning_tokens:
            who = "OpenAI" if self.name == "openai-responses" else "the server"
            note = notes(note, hidden_thinking(reasoning_tokens, who))
        finish = settle_finish(finish, answer, calls)
        cost = reported_cost(body.get("usage"))
        return Reply(
            thinking,
            answer,
            finish,
            usage,
            reasoning_tokens,
            note,
            reported_cost_usd=cost,
            tool_calls=tuple(calls),
        )


def _reasoning(item: Mapping[str, Any]) -> tuple[str, str]:
    """The thinking of an item, and the summary of it."""
    content = "".join(text_of(part) for part in list_of(item.get("content")))
    return content, "\n\n".join(filter(None, map(text_of, list_of(item.get("summary")))))


def _message(item: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The texts of a message, and what it declines with."""
    parts = [dict_of(part) for part in list_of(item.get("content"))]
    said = [text_of(part.get("text")) for part in parts if part.get("type") != "refusal"]
    return said, [text_of(part.get("refusal")) for part in parts if part.get("type") == "refusal"]


def _format(asked: Format) -> dict[str, Any]:
    form: dict[str, Any] = {"type": asked.kind}
    if asked.kind == "json_schema":
        form |= {"name": asked.name, "schema": asked.schema}
        form |= {} if asked.strict is None else {"strict": asked.strict}
        form |= {"description": asked.description} if asked.description else {}
    return form


def _items(turn: ChatTurn) -> list[dict[str, Any]]:
    if turn.role == "tool":
        return [{"type": "function_call_output", "call_id": turn.answers, "output": turn.text}]
    said = [{"role": turn.role, "content": turn.text}] if turn.text or not turn.calls else []
    calls = [
        {"type": "function_call", "call_id": call.id, "name": call.name, "arguments": call.arguments}
        for call in turn.calls
    ]
    return [*said, *calls]


def _finish(body: Mapping[str, Any]) -> tuple[FinishReason, str]:
    reason = dict_of(body.get("incomplete_details")).get("reason")
    if body.get("status") == "incomplete" and reason is not None:
        return finish_of(reason)
    return finish_of(body.get("status"))


def _usage(usage: Any) -> tuple[Usage, int | None]:
    given, output = count(usage, "input_tokens") or 0, count(usage, "output_tokens") or 0
    cached = count(dict_of(usage).get("input_tokens_details"), "cached_tokens") or 0
    reasoning = count(dict_of(usage).get("output_tokens_details"), "reasoning_tokens")
    total = count(usage, "total_tokens") or 0
    # What OpenAI's own agents read beside the request's input.
    beside = count(dict_of(usage).get("input_tokens_details"), "orchestration_input_tokens") or 0
    return whole_usage(given, beside, cached, output, reasoning or 0, total), reasoning


_LAST = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_DELTAS = {
    "response.output_text.delta": ("content", "content_index", "output_text", "text"),
    "response.refusal.delta": ("content", "content_index", "refusal", "refusal"),
    "response.reasoning_text.delta": ("content", "content_index", "reasoning_text", "text"),
    "response.reasoning_summary_text.delta": ("summary", "summary_index", "summary_text", "text"),
}
"""Event to the item's list of parts, the index in it, the part's type and its text."""


class ResponseAssembler:
    """Events of a response: its items, their parts, and the whole at the end."""

    def __init__(self) -> None:
        self.is_whole = self.has_text = False
        self._response: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}
        self._pieces: dict[tuple[int, str, int], tuple[str, str, list[str]]] = {}
        """Texts that are still growing, by item, list and index: the part's type, its field, the pieces."""

    def end(self) -> None:
        if not self.is_whole and self.has_text and not self._response.get("error"):
            self._response["status"] = "completed"  # the mark of the end stands for the event that it should follow
        self.is_whole = self.is_whole or self.has_text or bool(self._response.get("error"))

    def add(self, event: Mapping[str, Any]) -> None:
        kind = event.get("type")
        at = event.get("output_index")
        at = at if type(at) is int else 0
        if isinstance(kind, str) and (named := _DELTAS.get(kind)) is not None:
            self._grow(event, at, *named)
        elif isinstance(kind, str) and (named := _DELTAS.get(kind.removesuffix("done") + "delta")) is not None:
            if self._items.get(at, {}).get("status") != "completed":
                self._settle(event, at, *named)
        elif kind == "response.output_item.added":
            self._items.setdefault(at, dict(dict_of(event.get("item"))))
        elif kind == "response.output_item.done" and isinstance(event.get("item"), Mapping):
            self._items[at] = dict(event["item"])
            self._pieces = {key: value for key, value in self._pieces.items() if key[0] != at}
            self.has_text = True
        elif isinstance(event.get("response"), Mapping):
            self._response.update(event["response"])
            if kind in _LAST:
                self._response.setdefault("status", str(kind).removeprefix("response."))
                self.is_whole = True
        elif kind == "error" or event.get("error"):
            self.is_whole = True
            self._response["error"] = event.get("error") or {n: event.get(n) for n in ("code", "message", "param")}
        elif event.get("object") == "response":  # some gateways send the whole as one event
            self._response.update(event)
            self.is_whole = True

    def _grow(self, event: Mapping[str, Any], at: int, parts: str, index: str, type_: str, field: str) -> None:
        place = event.get(index)
        key = (at, parts, place if type(place) is int else 0)
        if isinstance(event.get("delta"), str):
            self._pieces.setdefault(key, (type_, field, []))[2].append(event["delta"])
            self.has_text = True

    def _settle(self, event: Mapping[str, Any], at: int, parts: str, index: str, type_: str, field: str) -> None:
        """The whole of a text that is done, where no more than that was sent."""
        place = event.get(index)
        key = (at, parts, place if type(place) is int else 0)
        whole = event.get(field)
        known = self._pieces.get(key)
        if isinstance(whole, str) and len(whole) > (sum(map(len, known[2])) if known else 0):
            self._pieces[key] = (type_, field, [whole])
            self.has_text = True

    def body(self) -> dict[str, Any]:
        last, sent = list_of(self._response.get("output")), self._sent()
        # vLLM has sent the last token alone as the whole.
        output = last if last and _num_said(last) >= _num_said(sent) else sent
        return {"object": "response", **self._response, "output": output}

    def _sent(self) -> list[dict[str, Any]]:
        """The items as their own events brought them."""
        items = {at: dict(item) for at, item in self._items.items()}
        for (at, parts, _), (type_, field, pieces) in sorted(self._pieces.items(), key=lambda entry: entry[0]):
            kind = "reasoning" if type_ in ("reasoning_text", "summary_text") else "message"
            item = items.setdefault(at, {"type": kind})
            known = [part for part in list_of(item.get(parts)) if dict_of(part).get(field)]
            item[parts] = [*known, {"type": type_, field: "".join(pieces)}]
        return [item for _, item in sorted(items.items())]


def _num_said(output: list[Any]) -> int:
    """The characters of thinking and answer in the items of a response."""
    lists = (list_of(dict_of(item).get(name)) for item in output for name in ("content", "summary"))
    return sum(len(text_of(part)) for parts in lists for part in parts)
