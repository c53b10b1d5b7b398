"""How a completions server wants to be told the settings of a request, and what a given server understands.

What a request leaves out a server fills in with defaults of its own: llama.cpp's server keeps the 40 likeliest tokens
and penalises repetition, vLLM takes the model's generation settings, transformers serve does not sample at all. So
every setting is said, in words that the server accepts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from s1kit.errors import InputError
from s1kit.forcing.formats import encode
from s1kit.forcing.request import Request
from s1kit.forcing.segment_driver import Complete
from s1kit.forcing.token_format import TokenFormat

Mode = Literal["ids", "text"]
"""What crosses the seams between completions."""
Dialect = Literal["open", "transformers", "plain"]
"""`open`: the fields of vLLM and of llama.cpp's servers. `transformers`: one field with transformers' own settings.
`plain`: OpenAI's fields alone, which have no top-k."""

_DIALECTS: tuple[Dialect, ...] = ("open", "transformers", "plain")


class ServerFailed(Exception):
    """The server did not complete: its words, or what was strange about its reply."""


@dataclass(frozen=True, slots=True)
class Understanding:
    """What was found out about a server."""

    mode: Mode
    dialect: Dialect
    adds_bos: bool = False
    """It puts the token that begins a sequence before every text prompt."""

    @property
    def stops_at_ids(self) -> bool:
        """Whether the ids that stop a completion can be named, even where only text comes back."""
        return self.mode == "ids" or self.dialect == "transformers"


def sampling_fields(dialect: Dialect, request: Request, ask: Complete) -> dict[str, Any]:
    """The settings of one completion, all of them."""
    seed = {"seed": ask.request_seed} if request.temperature else {}
    basic = {"temperature": request.temperature, "top_p": request.top_p}
    if dialect == "plain":
        return basic | seed
    if dialect == "transformers":
        settings = {"do_sample": request.temperature > 0, "top_k": request.top_k, "eos_token_id": sorted(ask.stop_ids)}
        if request.temperature:
            settings |= basic
        return {"generation_config": json.dumps(settings)} | seed
    neutral = {"min_p": 0.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
    # The same thing under vLLM's name and under llama.cpp's.
    penalty = {"repetition_penalty": 1.0, "repeat_penalty": 1.0}
    return basic | {"top_k": request.top_k} | neutral | penalty | seed


def understand(client: httpx.Client, model: str, tokens: TokenFormat, mode: Mode | None = None) -> Understanding:
    """Ask for single tokens until a way to ask is accepted; token ids first, unless `mode` says what to use.

    Raises InputError when the server does not answer, accepts none, or reads text as other tokens than ours.
    """
    where = f"completions:{client.base_url}"
    text = tokens.probe
    ids = encode(tokens.tokenizer, text)
    ask = Complete(tuple(ids), 1, tokens.eos_ids, (), 0)
    reply = None
    for kind in ("ids", "text") if mode is None else (mode,):
        for dialect in _DIALECTS:
            body = {"model": model, "max_tokens": 1} | sampling_fields(dialect, Request(question=""), ask)
            prompt = {"prompt": ids, "return_token_ids": True} if kind == "ids" else {"prompt": text}
            try:
                reply = client.post("/completions", json=body | prompt)
                if reply.status_code != 200:
                    continue
                choices, usage = read_json(reply).get("choices") or [{}], read_json(reply).get("usage") or {}
            except (httpx.HTTPError, ServerFailed) as error:
                fix = "Start the server, or check the URL (it usually ends in /v1)."
                raise InputError(f"the server does not answer: {error}", where=where, fix=fix) from error
            if kind == "text":
                return Understanding("text", dialect, _check_count(usage.get("prompt_tokens"), len(ids), tokens, where))
            if isinstance(choices[0].get("token_ids"), list):
                return Understanding("ids", dialect)
    assert reply is not None
    raise InputError(
        f"the server refuses a completion: HTTP {reply.status_code}: {reply.text[:200]}",
        where=where,
        fix="Check the model's name and that the server has /completions.",
    )


def read_json(reply: httpx.Response) -> dict[str, Any]:
    """The reply's object. Raises ServerFailed."""
    try:
        found = reply.json()
    except ValueError as error:
        raise ServerFailed(f"not JSON: {reply.text[:200]}") from error
    if not isinstance(found, dict):
        raise ServerFailed(f"not a JSON object: {reply.text[:200]}")
    return found


def _check_count(found: Any, expected: int, tokens: TokenFormat, where: str) -> bool:
    """Whether the server adds a first token. InputError when its tokenizer is plainly another than ours."""
    if not isinstance(found, int) or found == expected:
        return False
    if found == expected + 1 and tokens.bos:
        return True
    raise InputError(
        f"the server reads a text as {found} tokens that the tokenizer given for it reads as {expected}",
        where=where,
        fix="Give the tokenizer of the model that it serves: ,tokenizer=<folder or Hub id>.",
    )
