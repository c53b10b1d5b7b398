"""One completion over HTTP: what is asked in the server's fields, and what its reply says about ids and stops."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from s1kit.errors import InputError
from s1kit.flow import Complete, Completed
from s1kit.formats import encode
from s1kit.plan import Plan
from s1kit.tokens import TokenFormat

Mode = Literal["ids", "text"]

_RETRIES = 3
_RETRY_SECONDS = 0.5


class ServerFailed(Exception):
    """The server did not complete: its words, or what was strange about its reply."""


@dataclass
class Wire:
    """A connection to one model of a completions server."""

    client: httpx.Client
    model: str
    tokens: TokenFormat
    mode: Mode

    def complete(self, ask: Complete, plan: Plan) -> Completed:
        """One step of `flow`. Raises ServerFailed and httpx.HTTPError."""
        return self._complete_ids(ask, plan) if self.mode == "ids" else self._complete_text(ask, plan)

    def context_tokens(self) -> int | None:
        """What `/models` says about the context, where it says something."""
        reply = self.client.get("/models")
        if reply.status_code != 200:
            return None
        for entry in _json(reply).get("data", []):
            if entry.get("id") == self.model:
                found = entry.get("max_model_len") or (entry.get("meta") or {}).get("n_ctx")
                return int(found) if found else None
        return None

    def close(self) -> None:
        self.client.close()

    def _complete_ids(self, ask: Complete, plan: Plan) -> Completed:
        body = self._body(ask, plan, ask.max_tokens) | {
            "prompt": list(ask.context),
            "stop_token_ids": sorted(ask.stop_ids),
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }
        choice = self._post(body)
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

    def _complete_text(self, ask: Complete, plan: Plan) -> Completed:
        """Ask for text until the room is full, counted in our tokenizer's ids, or the server stops by itself."""
        ids: list[int] = []
        while True:
            stops = ask.stop_texts or ((self.tokens.format.end.rstrip(),) if ask.is_thinking else ())
            body = self._body(ask, plan, ask.max_tokens - len(ids), stops)
            choice = self._post(body | {"prompt": self.tokens.decode([*ask.context, *ids])})
            new = encode(self.tokens.tokenizer, str(choice.get("text") or ""))
            ids = [*ids, *new][: ask.max_tokens]
            if len(ids) == ask.max_tokens and choice.get("finish_reason") == "length":
                return Completed(tuple(ids))
            if choice.get("finish_reason") != "length" or not new:
                break
        if stops:
            # Which stop it was, or whether the sequence ended, is not said; while thinking all are an attempt to stop.
            return Completed(tuple(ids), stop_text=stops[0]) if ask.is_thinking else self._ended(ids, ask, choice)
        return self._ended(ids, ask, choice)

    def _ended(self, ids: list[int], ask: Complete, choice: dict[str, Any]) -> Completed:
        reason = choice.get("stop_reason")
        if isinstance(reason, str) and reason in ask.stop_texts:
            return Completed(tuple(ids), stop_text=reason)
        return Completed(tuple(ids), stop_id=min(self.tokens.eos_ids))

    def _body(self, ask: Complete, plan: Plan, max_tokens: int, stops: tuple[str, ...] | None = None) -> dict[str, Any]:
        request = plan.request
        body: dict[str, Any] = {"model": self.model, "max_tokens": max_tokens, "temperature": request.temperature}
        if request.temperature:
            body |= {"seed": ask.request_seed, "top_p": request.top_p}
            if request.top_k:
                body["top_k"] = request.top_k
        stop = ask.stop_texts if stops is None else stops
        return body | ({"stop": list(stop)} if stop else {})

    def _post(self, body: dict[str, Any]) -> dict[str, Any]:
        """The first choice of a completion; transient refusals and lost connections are tried again."""
        for attempt in range(_RETRIES):
            is_last = attempt == _RETRIES - 1
            try:
                reply = self.client.post("/completions", json=body)
                if reply.status_code not in (429, 500, 502, 503, 504) or is_last:
                    break
            except httpx.TransportError:
                if is_last:
                    raise
            time.sleep(_RETRY_SECONDS * 2**attempt)
        if reply.status_code != 200:
            raise ServerFailed(f"HTTP {reply.status_code}: {reply.text[:300]}")
        choices = _json(reply).get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise ServerFailed(f"a reply without choices: {reply.text[:300]}")
        return dict(choices[0])


def probe_mode(client: httpx.Client, model: str, tokens: TokenFormat) -> Mode:
    """Whether the server takes token ids and returns them. Raises InputError when it does not answer."""
    where = f"completions:{client.base_url}"
    body = {"model": model, "max_tokens": 1, "temperature": 0.0}
    ids = encode(tokens.tokenizer, "a b")
    try:
        with_ids = client.post("/completions", json=body | {"prompt": ids, "return_token_ids": True})
        if with_ids.status_code == 200 and isinstance(_choice(with_ids).get("token_ids"), list):
            return "ids"
        with_text = client.post("/completions", json=body | {"prompt": "a b"})
    except (httpx.HTTPError, ServerFailed) as error:
        fix = "Start the server, or check the URL (it usually ends in /v1)."
        raise InputError(f"the server does not answer: {error}", where=where, fix=fix) from error
    if with_text.status_code != 200:
        raise InputError(
            f"the server refuses a completion: HTTP {with_text.status_code}: {with_text.text[:200]}",
            where=where,
            fix="Check the model's name and that the server has /completions.",
        )
    return "text"


def _choice(reply: httpx.Response) -> dict[str, Any]:
    choices = _json(reply).get("choices") or [{}]
    return dict(choices[0])


def _json(reply: httpx.Response) -> dict[str, Any]:
    try:
        found = reply.json()
    except ValueError as error:
        raise ServerFailed(f"not JSON: {reply.text[:200]}") from error
    if not isinstance(found, dict):
        raise ServerFailed(f"not a JSON object: {reply.text[:200]}")
    return found
