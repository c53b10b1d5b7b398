"""One completion over HTTP: what is asked in the server's fields, and what its reply says about ids and stops."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from s1kit.engines.completions_dialect import ServerFailed, Understanding, read_json, sampling_fields
from s1kit.engines.completions_live import Live
from s1kit.forcing.plan import Plan
from s1kit.forcing.segment_driver import Complete, Completed
from s1kit.forcing.token_driver import first_stop
from s1kit.forcing.token_format import TokenFormat

_RETRIES = 3
_RETRY_SECONDS = 0.5
_TRANSIENT = (429, 500, 502, 503, 504)


@dataclass
class Wire:
    """A connection to one model of a completions server."""

    client: httpx.Client
    model: str
    tokens: TokenFormat
    server: Understanding

    def complete(self, ask: Complete, plan: Plan, live: Live | None = None) -> Completed:
        """One step of `flow`, shown while it comes if there is a `live`. Raises ServerFailed and httpx.HTTPError."""
        by_ids = self.server.mode == "ids"
        completed = self._complete_ids(ask, plan, live) if by_ids else self._complete_text(ask, plan, live)
        if live is not None:
            live.finish(completed)
        return completed

    def context_tokens(self) -> int | None:
        """What `/models` says about the context, where it says something."""
        reply = self.client.get("/models")
        if reply.status_code != 200:
            return None
        for entry in read_json(reply).get("data", []):
            if entry.get("id") == self.model:
                found = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")
                return int(found) if found else None
        return None

    def close(self) -> None:
        self.client.close()

    def _complete_ids(self, ask: Complete, plan: Plan, live: Live | None) -> Completed:
        body = self._body(ask, plan, ask.max_tokens, ask.stop_texts) | {
            "prompt": list(ask.context),
            "stop_token_ids": sorted(ask.stop_ids),
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }
        choice = self._post(body, live)
        if choice.get("looped"):
            assert live is not None
            return live.looped
        ids = choice.get("token_ids")
        if not isinstance(ids, list):
            raise ServerFailed("the reply has no token_ids, though the server returned them before")
        reason = choice.get("stop_reason")
        if choice.get("finish_reason") == "length":
            return Completed(tuple(ids))
        if isinstance(reason, str):
            return self._stopped_at_text(ids, reason, ask)
        # vLLM counts the id that stopped it among the ids; an end of sequence has no stop_reason of its own.
        if ids and ids[-1] in ask.stop_ids:
            return Completed(tuple(ids[:-1]), stop_id=ids[-1])
        return Completed(tuple(ids), stop_id=reason if isinstance(reason, int) else min(self.tokens.eos_ids))

    def _stopped_at_text(self, ids: list[int], stop: str, ask: Complete) -> Completed:
        """Thinking that ended in a spelled delimiter: the ids of the delimiter are taken off."""
        if ask.is_thinking:
            match = list(self.tokens.match_ids)
            if ids[-len(match) :] != match:
                raise ServerFailed(f"thinking ended in {stop!r}, spelled with other tokens than the format's")
            ids = ids[: -len(match)]
        return Completed(tuple(ids), stop_text=stop)

    def _complete_text(self, ask: Complete, plan: Plan, live: Live | None) -> Completed:
        """Ask for text until the room is full, counted in our tokenizer's ids, or the server stops by itself."""
        ids: list[int] = []
        stops = ask.stop_texts or ((self.tokens.format.end.rstrip(),) if ask.is_thinking else ())
        while True:
            sent = ask.stop_texts if self.server.stops_at_ids else stops
            body = self._body(ask, plan, ask.max_tokens - len(ids), sent)
            choice = self._post(body | {"prompt": self._prompt([*ask.context, *ids])}, live)
            text = str(choice.get("text") or "")
            # Some servers leave the stop string in, or cut at the first of several in their order, not the text's.
            found = first_stop(text, stops)
            new = self.tokens.encode_after(text if found is None else text[:found])
            ids = [*ids, *new]
            reopened = self.tokens.reopen_id
            if reopened in ids and not ask.is_thinking and reopened in ask.stop_ids:
                return Completed(tuple(ids[: ids.index(reopened)]), stop_id=reopened)
            if len(ids) > ask.max_tokens:
                return Completed(tuple(ids[: ask.max_tokens]))
            if found is None and choice.get("finish_reason") == "length" and new:
                if len(ids) == ask.max_tokens:
                    return Completed(tuple(ids))
                continue
            break
        # A server that takes the stop out of the text may not say whether there was one or the sequence ended.
        reason = choice.get("stop_reason")
        is_said = found is not None or (isinstance(reason, str) and reason in stops)
        if not is_said and (not ask.is_thinking or self.server.dialect == "transformers"):
            return Completed(tuple(ids), stop_id=min(self.tokens.eos_ids))
        return Completed(tuple(ids), stop_text=stops[0])

    def _prompt(self, ids: list[int]) -> str:
        text = self.tokens.decode(ids)
        return text.removeprefix(self.tokens.bos) if self.server.adds_bos else text

    def _body(self, ask: Complete, plan: Plan, max_tokens: int, stops: tuple[str, ...]) -> dict[str, Any]:
        body = {"model": self.model, "max_tokens": max_tokens}
        return body | sampling_fields(self.server.dialect, plan.request, ask) | ({"stop": list(stops)} if stops else {})

    def _post(self, body: dict[str, Any], live: Live | None) -> dict[str, Any]:
        """The first choice of a completion; transient refusals and lost connections are tried again."""
        for attempt in range(_RETRIES):
            is_last = attempt == _RETRIES - 1
            try:
                return self._whole(body) if live is None else self._streamed(body, live)
            except httpx.HTTPStatusError as error:
                reply = error.response
                if reply.status_code not in _TRANSIENT or is_last:
                    raise ServerFailed(f"HTTP {reply.status_code}: {reply.text[:300]}") from error
            except httpx.TransportError:
                if is_last or (live is not None and live.has_begun):
                    raise
            time.sleep(_RETRY_SECONDS * 2**attempt)
        raise AssertionError("the last attempt returns or raises")

    def _whole(self, body: dict[str, Any]) -> dict[str, Any]:
        reply = self.client.post("/completions", json=body)
        reply.raise_for_status()
        return _first_choice(read_json(reply))

    def _streamed(self, body: dict[str, Any], live: Live) -> dict[str, Any]:
        """The pieces of a completion put together, each shown as it comes."""
        whole: dict[str, Any] = {"text": "", "finish_reason": None}
        with self.client.stream("POST", "/completions", json=body | {"stream": True}) as reply:
            if reply.status_code != 200:
                reply.read()
                reply.raise_for_status()
            is_stream = "event-stream" in reply.headers.get("content-type", "")
            for piece in _pieces(reply) if is_stream else [_first_choice(_read(reply))]:
                whole["text"] += piece.get("text") or ""
                for name in ("finish_reason", "stop_reason"):
                    if piece.get(name) is not None:
                        whole[name] = piece[name]
                ids = piece.get("token_ids")
                if isinstance(ids, list) and self.server.mode == "ids":
                    whole["token_ids"] = [*whole.get("token_ids", ()), *ids]
                    if not live.add_ids(ids):
                        return whole | {"looped": True}
                elif self.server.mode == "text":
                    live.add_text(str(piece.get("text") or ""))
        if whole["finish_reason"] is None:
            raise ServerFailed("the stream ended before the completion did; does the server decode one at a time?")
        return whole


def _pieces(reply: httpx.Response) -> Iterator[dict[str, Any]]:
    """The first choice of each event."""
    for line in reply.iter_lines():
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        try:
            event = json.loads(data)
        except ValueError as error:
            raise ServerFailed(f"not JSON: {data[:200]}") from error
        if not isinstance(event, dict) or "error" in event:
            raise ServerFailed(f"an error inside the stream: {data[:300]}")
        if event.get("choices"):  # the last event may only count tokens
            yield _first_choice(event)


def _read(reply: httpx.Response) -> dict[str, Any]:
    reply.read()
    return read_json(reply)


def _first_choice(found: dict[str, Any]) -> dict[str, Any]:
    choices = found.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise ServerFailed(f"a reply without choices: {str(found)[:300]}")
    return dict(choices[0])
